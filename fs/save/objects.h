/*
 * objects: streams and tags that are made and deleted by mkdir and rmdir (DESIGN.md 3 "Creating",
 * "Deleting"). Blocking; runs on a pool thread, one at a time for each stream.
 *
 * 0 or -errno as the errno table has it for path calls; the failure is in the journal. What changed
 * is shown when they return.
 */
#ifndef FS_SAVE_OBJECTS_H
#define FS_SAVE_OBJECTS_H

#include "fs/mount/mount.h"

/* POST of an empty stream. -EEXIST. */
int objects_make_stream(struct mount *m, const struct api_call *call, const struct place *path);

/*
 * DELETE with the uid that is shown as its precondition. What goes is kept for the process, here and
 * below (fs/save/deleted.h).
 */
int objects_remove_stream(struct mount *m, const struct api_call *call, const struct place *path,
	const struct process_id *who);

/*
 * A tag without `from`. -EEXIST, unless it `may_be_there`: then it is shown; -EINVAL where no tag can
 * have the name.
 */
int objects_make_tag(
	struct mount *m, const struct api_call *call, const struct place *path, bool may_be_there);

/*
 * The tag and its history, as `oc tag -d`. -ENOTEMPTY where the history could only be removed by a
 * status patch and that isn't allowed; then nothing was changed.
 */
int objects_remove_tag(struct mount *m, const struct api_call *call, const struct place *path,
	const struct process_id *who);

#endif
