/*
 * pushes: what came to the histories of a stream's tags from one version to the next, as lines:
 * time, NAMESPACE/STREAM:TAG, the image's reference, the one before or "-"; tabs between. Pure.
 */
#ifndef FS_DOTAPI_PUSHES_H
#define FS_DOTAPI_PUSHES_H

#include "client/buf.h"
#include "client/object.h"

/*
 * Appends a line for each item that `now` has and `before` hasn't, the oldest first. `before` NULL:
 * nothing is known of the stream; then those alone that were noted at `since` (ns since 1970) or
 * later. 0 or -EFBIG.
 */
int pushes_add(
	const struct object *before, const struct object *now, int64_t since, struct buf *out);

#endif
