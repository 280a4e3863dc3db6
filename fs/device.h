/*
 * device: /dev/fuse, opened and mounted by who started us (mount.fuse3's drop_privileges), which
 * then says /dev/fd/N instead of the mountpoint.
 */
#ifndef FS_DEVICE_H
#define FS_DEVICE_H

#include "client/util.h"

/* The N, which no program that is started inherits; -1: the mountpoint is a path. */
int device_open(const char *mountpoint);

/* Whether that is /dev/fuse. */
bool device_is_fuse(int fd);

/*
 * Where it is mounted, as far as can be known: from Linux 6.16 on the descriptor says which mount is
 * its; before, the newest FUSE mount is taken for it. NULL: there is none. The caller's.
 */
char *device_mountpoint(int fd);

/* The same from a text like /proc/self/mountinfo. connection: its number, or -1: it isn't told. */
char *device_find(FILE *mountinfo, int connection);

#endif
