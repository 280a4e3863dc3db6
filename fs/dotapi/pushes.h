/*
 * pushes: what came to the histories of a stream's tags from one version to the next, as lines:
 * time, NAMESPACE/STREAM:TAG, the image's reference, the one before or "-"; tabs between. Pure.
 */
#ifndef FS_DOTAPI_PUSHES_H
#define FS_DOTAPI_PUSHES_H

#include "client/buf.h"
#include "client/object.h"

/*
 * Appends a line for each item that `now` has and `before` hasn't, in the order in which they came:
 * a tag's oldest first, and tags by their items' times. `before`: what was told last of a stream of
 * that name, NULL: nothing. Where that was another one, or nothing, what is older than `since` (ns
 * since 1970) isn't new, unless the stream itself is younger. 0 or -EFBIG.
 */
int pushes_add(
	const struct object *before, const struct object *now, int64_t since, struct buf *out);

/*
 * How many those are; without a look at the histories where these are the same, or where the stream
 * wasn't known and names no time since then.
 */
size_t pushes_count(const struct object *before, const struct object *now, int64_t since);

#endif
