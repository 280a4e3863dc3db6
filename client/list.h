/*
 * list: the answer to a list, item by item. A tree of the whole is never made, since a page may be
 * 256 MiB; each item is held to the limits of client/json.h by whoever reads it.
 */
#ifndef CLIENT_LIST_H
#define CLIENT_LIST_H

#include "client/cut.h"

/* Where in a text its metadata and its items stand; borrowed from it. */
struct list {
	struct piece metadata; /* p NULL: it has none */
	struct cut items;
	bool empty; /* `items` are null */
	bool begun;
	bool open; /* metadata came first: what stands after the items wasn't looked at yet */
};

/*
 * 0; -EBADMSG where the text is no object whose `items` are a list or null. Where its metadata comes
 * first, as servers have it, that is all that is read.
 */
int list_open(const char *text, size_t len, struct list *ret);

/* Its own metadata; NULL where it has none or they are no JSON. The caller owns the reference. */
json_t *list_metadata(const struct list *l);

/*
 * 1 where another item follows, which then has to be taken; 0 after the last one; -EBADMSG where the
 * items are separated by something else than commas, or what stands after them doesn't end the list
 * (a second list of items among it).
 */
int list_next(struct list *l);

/* The item's text, whole. 0 or -EBADMSG. */
int list_take(struct list *l, struct piece *ret);

/* From the item on to the end of the text; whoever finds its end himself says how long it was. */
struct piece list_rest(const struct list *l);
void list_skip(struct list *l, size_t len);

/* One item's text, borrowed. */
typedef void list_item_fn(void *arg, const char *text, size_t len);

/*
 * Calls `item` for each item. 0 and *ret_metadata as list_metadata; -EBADMSG as list_open, or as
 * list_next: then some were told already.
 */
int list_read(const char *text, size_t len, list_item_fn *item, void *arg, json_t **ret_metadata);

#endif
