/*
 * session: a FUSE session whose lookups and listings in one directory run beside each other.
 *
 * libfuse 3.14 takes FUSE_CAP_PARALLEL_DIROPS but forgets it in its answer to INIT, and the kernel
 * then lets one lookup that waits for the server hold up every other one in its directory.
 */
#ifndef FS_OPS_SESSION_H
#define FS_OPS_SESSION_H

#define FUSE_USE_VERSION 314

#include <fuse_lowlevel.h>

/* After fuse_session_mount, before the loop. 0 or -errno. */
int session_allow_parallel_dirops(struct fuse_session *session);

/*
 * Before that: what a thread of the loop calls once the kernel has taken the answer to INIT. Not
 * called where session_allow_parallel_dirops fails.
 */
typedef void session_init_fn(void *arg);
void session_on_init(session_init_fn *fn, void *arg);

#endif
