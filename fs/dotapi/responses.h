/*
 * responses: what the server answered to the last write to a file of .api; the last 64 and 16 MiB
 * of them. Thread-safe; its lock is a leaf.
 */
#ifndef FS_DOTAPI_RESPONSES_H
#define FS_DOTAPI_RESPONSES_H

#include "client/buf.h"

struct responses;

struct responses *responses_new(void);
void responses_free(struct responses *a); /* NULL is fine */

/* `path` in the mount. Takes the buf's bytes over; none are an empty answer. */
void responses_set(struct responses *a, const char *path, struct buf *text);
/* Adds the answer, or nothing where there is none. 0 or -EFBIG. */
int responses_show(struct responses *a, const char *path, struct buf *out);

#endif
