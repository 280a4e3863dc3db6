#include "client/spawn.h"

#include "have.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>

#define STANDARD_FDS 3

/* 0 or an errno. */
static int close_from(int first, posix_spawn_file_actions_t *actions)
{
#if HAVE_POSIX_SPAWN_CLOSEFROM
	return posix_spawn_file_actions_addclosefrom_np(actions, first);
#else
	/* What another thread opens meanwhile is close-on-exec, as all that is ours. */
	DIR *dir = opendir("/proc/self/fd");
	int r = dir ? 0 : errno;

	for (const struct dirent *e; r == 0 && (e = readdir(dir));) {
		int fd = atoi(e->d_name); /* 0: "." and ".." */

		if (fd >= first)
			r = posix_spawn_file_actions_addclose(actions, fd);
	}
	if (dir)
		closedir(dir);
	return r;
#endif
}

static int add_fds(const struct spawn *s, posix_spawn_file_actions_t *actions)
{
	int end = s->first_fd + s->nfds;

	for (int i = 0; i < s->nfds; i++)
		posix_spawn_file_actions_adddup2(actions, s->fds[i], s->first_fd + i);
	for (int fd = 0; fd < STANDARD_FDS; fd++)
		if (fd < s->first_fd || fd >= end)
			posix_spawn_file_actions_addopen(
				actions, fd, "/dev/null", fd == 0 ? O_RDONLY : O_WRONLY, 0);
	return close_from(end > STANDARD_FDS ? end : STANDARD_FDS, actions);
}

static void set_signals(const struct spawn *s, posix_spawnattr_t *attr)
{
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(attr, &none);
	posix_spawnattr_setsigdefault(attr, &all);
	posix_spawnattr_setflags(attr, (short)(s->flags | POSIX_SPAWN_SETSIGMASK));
}

int spawn(const struct spawn *s, pid_t *ret)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int r;

	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	set_signals(s, &attr);
	r = add_fds(s, &actions);
	if (r == 0)
		r = posix_spawnp(ret, s->file, &actions, &attr, s->argv, s->env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}
