/*
 * process: what /proc says of the thread that sent a request. `tid` is fuse_ctx.pid: a thread's id,
 * 0 for one outside our pid namespace.
 */
#ifndef FS_PROCESS_H
#define FS_PROCESS_H

#include "client/util.h"

#include <sys/types.h>

/* One process among all that ever had its number. */
struct process_id {
	pid_t tgid;	/* 0: nobody knows */
	uint64_t start; /* clock ticks since boot */
};

/* The thread's process. False, and all 0, where nobody knows. */
bool process_identify(pid_t tid, struct process_id *ret);

static inline bool process_id_equal(const struct process_id *a, const struct process_id *b)
{
	return a->tgid == b->tgid && a->start == b->start;
}

bool process_is_alive(const struct process_id *id);

/* Whether a signal has ended the process: it is on its way out, and not by exit(). */
bool process_is_killed(pid_t tid);

/*
 * Whether the thread has a signal pending that means stop (SIGINT, SIGQUIT, SIGHUP, SIGTERM,
 * SIGKILL), neither blocked nor ignored. True where nobody can tell.
 */
bool process_told_to_stop(pid_t tid);

#endif
