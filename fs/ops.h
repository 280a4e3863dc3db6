/*
 * ops: the FUSE requests: decode, call, reply.
 */
#ifndef FS_OPS_H
#define FS_OPS_H

#include "fs/mount.h"

/* The session's userdata is a struct mount. */
extern const struct fuse_lowlevel_ops ops;

#endif
