/*
 * unmounter: takes the mount away when the program ended without doing it (-o auto_unmount), and
 * mounts that an earlier program left behind.
 *
 * It is this program, executed again, and waits for the end of a pipe that only the program holds.
 * fusermount3's own auto_unmount doesn't help here: it takes a mount whose root it can open for one
 * that is alive, and the kernel opens directories of ours without asking (opendir is answered
 * ENOSYS).
 */
#ifndef FS_UNMOUNTER_H
#define FS_UNMOUNTER_H

#include "client/util.h"

#define UNMOUNTER_ARGV0 "imagestreamfs-unmounter"

/* Whether nobody answers for what is mounted there. */
bool mount_is_dead(const char *path);
void mount_remove_dead(const char *path);

/*
 * Starts the process for an absolute path. The descriptor that it waits at, or -errno: it looks at
 * the mount when that is closed.
 */
int unmounter_start(const char *mountpoint);

/* The process: argv is {UNMOUNTER_ARGV0, mountpoint}. Its exit code. */
int unmounter_main(int argc, char *argv[]);

#endif
