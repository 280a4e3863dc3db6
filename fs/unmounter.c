#include "fs/unmounter.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/wait.h>

/* The kernel asks for this each time, and has no answer of its own. */
bool mount_is_dead(const char *path)
{
	struct statfs st;

	return statfs(path, &st) < 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

void mount_remove_dead(const char *path)
{
	char *argv[] = {"fusermount3", "-u", "-z", "-q", "--", (char *)path, NULL};
	extern char **environ;
	pid_t pid;

	if (umount2(path, MNT_DETACH) == 0)
		return;
	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) == 0)
		waitpid(pid, NULL, 0);
}

static int spawn(const char *mountpoint, int input)
{
	char *argv[] = {UNMOUNTER_ARGV0, (char *)mountpoint, NULL};
	extern char **environ;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	pid_t pid;
	int r;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, input, 0);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addclosefrom_np(&actions, 3);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	posix_spawnattr_setsigmask(&attr, &none);
	/* What ends the program's process group doesn't end this, too. */
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
	r = posix_spawn(&pid, "/proc/self/exe", &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

int unmounter_start(const char *mountpoint)
{
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	r = spawn(mountpoint, fds[0]);
	close(fds[0]);
	if (r < 0) {
		close(fds[1]);
		return r;
	}
	return fds[1];
}

int unmounter_main(int argc, char *argv[])
{
	char byte;

	if (argc != 2)
		return EXIT_FAILURE;
	if (chdir("/") < 0) /* it must not be what keeps a filesystem in use */
		return EXIT_FAILURE;
	while (read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR)
		;
	if (mount_is_dead(argv[1])) /* one that was unmounted, or mounted again, isn't */
		mount_remove_dead(argv[1]);
	return EXIT_SUCCESS;
}
