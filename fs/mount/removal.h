/*
 * removal: whether a directory of the server's may be removed: rmdir answers ENOTEMPTY while its
 * caller sees anything in it, as everywhere (DESIGN.md 3 "Deleting").
 */
#ifndef FS_MOUNT_REMOVAL_H
#define FS_MOUNT_REMOVAL_H

#include "fs/mount/namei.h"

/*
 * Whether the thread may remove the directory (a stream's, its tags' or a tag's): 0, or -ENOTEMPTY.
 * What is hidden or its process removed doesn't count, nor what the server added since, but for an
 * image that was pushed; nor what is absent for its maker. A tag without `from` and history and a
 * stream without tags, labels and annotations may go at once.
 */
int removal_check(struct mount *m, const struct namei_dir *dir, pid_t tid);

/* Whether there is nothing in the stream or tag that its removal would lose. */
bool removal_is_bare(const json_t *object, const struct place *dir);

#endif
