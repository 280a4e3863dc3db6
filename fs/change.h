/*
 * change: streams and tags that are made and deleted by mkdir and rmdir (DESIGN.md 3 "Creating",
 * "Deleting"). Blocking; runs on a pool thread, one at a time for each stream.
 *
 * 0 or -errno as the errno table has it for path calls; the failure is in the journal. What changed
 * is published when they return.
 */
#ifndef FS_CHANGE_H
#define FS_CHANGE_H

#include "fs/mount.h"

/* POST of an empty stream. -EEXIST. */
int change_make_stream(struct mount *m, const struct api_call *call, const struct tree_path *path);

/* DELETE with the uid that is published as its precondition. */
int change_remove_stream(
	struct mount *m, const struct api_call *call, const struct tree_path *path);

/* A tag without `from`. -EEXIST; -EINVAL where no tag can have the name. */
int change_make_tag(struct mount *m, const struct api_call *call, const struct tree_path *path);

/*
 * The tag and its history, as `oc tag -d`. -ENOTEMPTY where the history could only be removed by a
 * status patch and that isn't allowed; then nothing was changed.
 */
int change_remove_tag(struct mount *m, const struct api_call *call, const struct tree_path *path);

/* What a path call answers for an errno of a save: ESTALE would make the kernel ask twice. */
int change_path_errno(int r);

#endif
