/*
 * process: what /proc says of the thread that sent a request. `tid` is fuse_ctx.pid: a thread's id,
 * 0 for one outside our pid namespace. Such a one can't be told from others, nor can one that /proc
 * doesn't show us (hidepid=, ProtectProc=).
 */
#ifndef FS_TREE_PROCESS_H
#define FS_TREE_PROCESS_H

#include "client/util.h"

#include <sys/types.h>

/* Which callers can be told, as far as that is known from the start. */
enum process_sight {
	PROCESS_TOLD,
	PROCESS_OUTSIDE, /* we are the first process of a pid namespace: none of those outside */
	PROCESS_HIDDEN,	 /* /proc hides the processes of other users */
	PROCESS_NO_PROC, /* none: /proc isn't there, or another pid namespace's */
};

/* Looked at once, at the first call: before we fork. */
enum process_sight process_sight(void);
/* For a person; NULL for PROCESS_TOLD. */
const char *process_sight_text(enum process_sight sight);

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

/* Whether it is stopped (SIGSTOP, ^Z, a debugger). False where nobody can tell. */
bool process_is_stopped(const struct process_id *id);

/* Whether the thread is the process's, or of one that it started, or those did. */
bool process_descends(pid_t tid, const struct process_id *ancestor);

/* Whether a signal has ended the process: it is on its way out, and not by exit(). */
bool process_is_killed(pid_t tid);

/*
 * Whether the thread has a signal pending that means stop (SIGINT, SIGQUIT, SIGHUP, SIGTERM,
 * SIGKILL), neither blocked nor ignored. False where nobody can tell.
 */
bool process_told_to_stop(pid_t tid);

#endif
