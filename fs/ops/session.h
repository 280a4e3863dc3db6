/*
 * session: what libfuse and the kernel can, in one place: a FUSE session whose lookups and listings
 * in one directory run beside each other, and the loop that serves it.
 *
 * libfuse (3.10, 3.14) takes FUSE_CAP_PARALLEL_DIROPS but forgets it in its answer to INIT, and the
 * kernel then lets one lookup that waits for the server hold up every other one in its directory.
 *
 * For tests: with IMAGESTREAMFS_OLD_KERNEL in the environment the kernel seems to offer less than
 * it does, as far as a kernel 5.10 could (no FOPEN_NOFLUSH), and less than that.
 */
#ifndef FS_OPS_SESSION_H
#define FS_OPS_SESSION_H

#include <fuse_lowlevel.h>
#include <stdbool.h>

/* After fuse_session_mount, before the loop: has the kernel's INIT answered. 0 or -errno. */
int session_begin(struct fuse_session *session);

/* Until the session ends; with so many threads at most where libfuse knows of a maximum. */
int session_loop(struct fuse_session *session, unsigned threads);

/*
 * The kernel needn't say when what was opened is closed. Where libfuse (before 3.11) or the kernel
 * (before 5.16) can't be told, it says so, and there is nothing to do.
 */
void session_skip_flush(struct fuse_file_info *fi, bool skip);

#endif
