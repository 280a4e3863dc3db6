/*
 * answers: what the server answered to the last write to a file of .api; the last 64 and 16 MiB of them.
 * Thread-safe; its lock is a leaf.
 */
#ifndef FS_ANSWERS_H
#define FS_ANSWERS_H

#include "client/buf.h"

struct answers;

struct answers *answers_new(void);
void answers_free(struct answers *a); /* NULL is fine */

/* `path` in the mount. Takes the buf's bytes over; none are an empty answer. */
void answers_set(struct answers *a, const char *path, struct buf *text);
/* Adds the answer, or nothing where there is none. 0 or -EFBIG. */
int answers_show(struct answers *a, const char *path, struct buf *out);

#endif
