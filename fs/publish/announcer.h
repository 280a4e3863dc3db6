/*
 * announcer: the helper process that performs remote changes as ordinary system calls on the mount,
 * so that the kernel itself drops its caches and raises inotify events (fs/publish/announce.h is
 * the daemon's side).
 *
 * It is this program, executed again, without /dev/fuse, and it holds no descriptor on the mount
 * while it has nothing to do. Each of its threads has a socket of its own and does what comes in
 * there, in order. All that it resolves stays beneath the mount and on it.
 */
#ifndef FS_PUBLISH_ANNOUNCER_H
#define FS_PUBLISH_ANNOUNCER_H

#include "client/descriptors.h"

#define ANNOUNCER_WORKERS   DESCRIPTORS_WORKERS /* at most */
#define ANNOUNCER_FD	    3			/* the first worker's socket; the others' follow */
#define ANNOUNCER_PATH	    2048
#define ANNOUNCER_ARGV0	    "imagestreamfs-announcer"
#define ANNOUNCER_READ_ONLY "ro" /* a third argument: the mount is read-only, see remount.h */

enum announcer_op {
	ANNOUNCER_HELLO, /* look the name up: the daemon learns the thread's id */
	ANNOUNCER_MKDIR,
	ANNOUNCER_CREATE, /* create, fallocate, close: as one who writes a new file */
	ANNOUNCER_RMDIR,
	ANNOUNCER_UNLINK,
	ANNOUNCER_WRITE,  /* open for writing, fallocate, close */
	ANNOUNCER_ATTRIB, /* utimensat */
};

/* One datagram of the daemon's. */
struct announcer_message {
	uint64_t id;
	enum announcer_op op;
	char path[ANNOUNCER_PATH]; /* below the mountpoint; only as much as there is is sent */
};

/* The answer; up to ANNOUNCER_ACKS in one datagram. */
#define ANNOUNCER_ACKS 16
struct announcer_ack {
	uint64_t id;
	int error; /* 0 or an errno */
};

/*
 * The process's main: argv[1] is the mountpoint, argv[2] the number of workers. 0 when the daemon
 * is gone, else a positive errno: it can't work.
 */
int announcer_main(int argc, char *argv[]);

#endif
