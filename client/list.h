/*
 * list: the answer to a list, item by item. A tree of the whole is never made, since a page may be
 * 256 MiB; each item is held to the limits of client/json.h by whoever reads it.
 */
#ifndef CLIENT_LIST_H
#define CLIENT_LIST_H

#include "client/util.h"

/* One item's text, borrowed. */
typedef void list_item_fn(void *arg, const char *text, size_t len);

/*
 * Calls `item` for each item. 0 and *ret_metadata, the list's own (NULL where it has none; the caller
 * owns the reference); -EBADMSG where the text is no object whose `items` are a list, null or absent:
 * then some items may have been told already.
 */
int list_read(const char *text, size_t len, list_item_fn *item, void *arg, json_t **ret_metadata);

#endif
