/*
 * apifile: the files of .api that are made at each open.
 */
#ifndef FS_APIFILE_H
#define FS_APIFILE_H

#include "fs/mount.h"

/* The bytes of a file of .api now. -ENOENT for a kind that is none. */
int apifile_show(struct mount *m, enum node_kind kind, struct buf *out);

#endif
