/*
 * pushed: how many images came to the tags of each namespace since the start, for the metrics.
 * Thread-safe; its lock is a leaf.
 */
#ifndef FS_DOTAPI_PUSHED_H
#define FS_DOTAPI_PUSHED_H

#include "client/object.h"

struct pushed;

struct pushed *pushed_new(void);
void pushed_free(struct pushed *p); /* NULL is fine */

/* A stream is shown in another version. `before`: the one until now, NULL: none. */
void pushed_note(void *pushed, const struct object *before, const struct object *now);

/* {"NAMESPACE": n}, which the caller owns; namespaces without any are left out. */
json_t *pushed_counts(struct pushed *p);

#endif
