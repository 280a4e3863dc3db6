/*
 * modes: permission bits: what everybody has, less what the server doesn't let us do
 * (client/rights.h), place by place.
 */
#ifndef FS_MOUNT_MODES_H
#define FS_MOUNT_MODES_H

#include "fs/mount/mount.h"

/* Type and permissions of a real place, .api's included. */
mode_t modes_of(const struct mount *m, const struct place *path);

/*
 * The same, with the write bits that count when the file is opened, replaced or removed: its
 * directory's, where an equal text is taken (layout_takes_equal).
 */
mode_t modes_to_open(const struct mount *m, const struct place *path);

/*
 * The listener of client/rights.h, `arg` is the struct mount: announces what is another mode now.
 */
void modes_changed(void *arg, const char *ns, const struct grants *old, const struct grants *next);

#endif
