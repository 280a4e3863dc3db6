/*
 * process: what /proc says of the thread that sent a request. `tid` is fuse_ctx.pid: a thread's id,
 * 0 for one outside our pid namespace.
 */
#ifndef FS_PROCESS_H
#define FS_PROCESS_H

#include "client/util.h"

#include <sys/types.h>

/* Whether the two threads are of one process; with an unknown one: yes. */
bool process_same(pid_t tid, pid_t other);

/* Calls fn with each thread of the thread's process, until it answers true. */
void process_threads(pid_t tid, bool (*fn)(void *arg, pid_t tid), void *arg);

/* Whether a signal has ended the process: it is on its way out, and not by exit(). */
bool process_is_killed(pid_t tid);

/*
 * Whether the thread has a signal pending that means stop (SIGINT, SIGQUIT, SIGHUP, SIGTERM,
 * SIGKILL), neither blocked nor ignored. True where nobody can tell.
 */
bool process_told_to_stop(pid_t tid);

bool process_is_alive(pid_t tid);

#endif
