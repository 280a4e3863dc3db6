/*
 * announce: the daemon's side of the announcer process (fs/publish/announcer.h): starting it,
 * sending it steps, hearing what became of them, and knowing its requests again.
 *
 * All but the functions marked so belong to one thread, the publish thread. Nothing here waits
 * for the process: no handler of a request may ever depend on it.
 */
#ifndef FS_PUBLISH_ANNOUNCE_H
#define FS_PUBLISH_ANNOUNCE_H

#include "fs/publish/announcer.h"

#include <sys/types.h>

struct announce;

struct announce *announce_new(const char *mountpoint);
void announce_free(struct announce *a); /* NULL is fine */
/* What is mounted there is read-only (fs/publish/remount.h). Before the mount answers, from any thread. */
void announce_set_read_only(struct announce *a);

/*
 * Starts the process where that is due, and ends one that doesn't answer its greeting within 15 s.
 * Returns when to call again (monotonic ns; INT64_MAX: when announce_receive has failed).
 */
int64_t announce_keep(struct announce *a);
/*
 * The process is gone or of no use (announce_receive's -errno): ends it. announce_keep starts
 * another one: after a second; where that comes to nothing later and later, up to 30 s, for ever.
 */
void announce_fail(struct announce *a, int error);
/* Ends the process; nothing starts another one. */
void announce_stop(struct announce *a);

/*
 * Whether the last start came to nothing, for want of something (EMFILE, EAGAIN, ENOMEM) or since
 * our mount isn't at its path: steps don't wait for it, they are shown without their events.
 */
bool announce_is_lost(const struct announce *a);

enum announce_state { ANNOUNCE_STARTING, ANNOUNCE_READY, ANNOUNCE_LOST };

struct announce_status {
	enum announce_state state;
	int error; /* ANNOUNCE_LOST: a positive errno, for announce_reason */
};

/* From any thread. */
void announce_get_status(struct announce *a, struct announce_status *ret);
const char *announce_reason(int error);

/* Whether it has been greeted: what is sent is known again when it arrives. */
bool announce_is_ready(const struct announce *a);
bool announce_is_running(const struct announce *a);

/*
 * Sends one step. Steps of one directory go to one worker, which does them in order; another
 * directory gets another one, as far as there are any, so that one that a user's call holds keeps
 * no other waiting. -EAGAIN: it has enough to do; -EPIPE: it is gone.
 */
int announce_send(struct announce *a, enum announcer_op op, uint64_t id, const char *directory,
	const char *path);

/* Whether no step of another directory could be sent now. */
bool announce_is_full(const struct announce *a);

/* To poll for POLLIN: announce_receive has something to say. -1: there is no process. */
int announce_fd(const struct announce *a);

/*
 * The next answer that has come: 1; 0 when there is none; -EPIPE: the process is gone; -ENODEV: it
 * doesn't find our mount at its path; another -errno: its greeting came to nothing. Then
 * announce_fail.
 */
int announce_receive(struct announce *a, struct announcer_ack *ret);

/* From any thread: whether a request's thread is one of the process. */
bool announce_is_ours(struct announce *a, pid_t tid);
/* From any thread: whether the name is the greeting; then the thread is the process's. */
bool announce_greeted(struct announce *a, pid_t tid, const char *name);
/* From any thread. The process's number, 0 where there is none. */
pid_t announce_pid(struct announce *a);

#endif
