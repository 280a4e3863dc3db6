/*
 * spawn: starts another program with nothing of ours but what it is given.
 */
#ifndef CLIENT_SPAWN_H
#define CLIENT_SPAWN_H

#include "client/util.h"

#include <spawn.h>
#include <sys/types.h>

/*
 * The program has no signal blocked and these descriptors: ours, one after the other from
 * `first_fd` on, and /dev/null as those of 0, 1 and 2 that aren't among them.
 */
struct spawn {
	const char *file; /* without a slash it is looked for in $PATH */
	char **argv, **env;
	const int *fds;
	int nfds, first_fd;
	short flags; /* POSIX_SPAWN_SETSID; POSIX_SPAWN_SETSIGDEF: of all signals */
};

/* 0 and the process, which the caller waits for; or -errno. */
int spawn(const struct spawn *s, pid_t *ret);

#endif
