/*
 * pool: threads for the calls that have to wait for the server, so that no FUSE worker ever does.
 *
 * Threads are started as they are needed, up to POOL_THREADS or what there are descriptors for;
 * what comes beyond waits in line. Each has its own connections (client/http.h).
 */
#ifndef FS_MOUNT_POOL_H
#define FS_MOUNT_POOL_H

#include "client/descriptors.h"
#include "client/http.h"

#include <fuse_lowlevel.h>

#define POOL_THREADS DESCRIPTORS_THREADS

struct pool;

struct pool_call {
	fuse_req_t req;
	/* the thread's own; NULL once the pool is stopped, and then check fails */
	struct http *http;
	struct http_check check; /* negative when the caller was told to stop, or the pool is */
	int64_t deadline;	 /* monotonic ns; counts from the request's arrival */
	pid_t tid;		 /* of the caller; 0: nobody waits */
};

/* Answers the request; `arg` is the function's to free. */
typedef void pool_fn(struct pool_call *call, void *arg);

/*
 * With its first thread, so that every call is answered whatever is short later. At most `threads`
 * (POOL_THREADS) of them; a call has timeout_ms from its arrival. 0, or -EAGAIN or -ENOMEM: there
 * can be no thread here.
 */
int pool_new(struct login *login, struct counts *counts, size_t threads, int64_t timeout_ms,
	struct pool **ret);

/*
 * Runs fn(call, arg) on a thread. Calls of one key (copied; NULL: none) run one at a time, in their
 * order; the others wait in line without holding a thread. The call is cancelled with -EINTR when
 * its caller has a signal pending that means stop (not a resized terminal), with -ETIMEDOUT past
 * its deadline, with -ESHUTDOWN by pool_stop; so is one that waits in line, and then it runs beside
 * another of its key, to no effect.
 */
void pool_submit(struct pool *p, fuse_req_t req, const char *key, pool_fn *fn, void *arg);

/* To be called by fn before it replies: from here on the request is its own again. */
void pool_settle(struct pool_call *call);

/* Cancels every call and waits for the threads. */
void pool_stop(struct pool *p);
void pool_free(struct pool *p); /* NULL is fine */

#endif
