#include "fs/unmounter.h"

#include "client/spawn.h"

#include <errno.h>
#include <fcntl.h>
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

static int start(const char *mountpoint, int input)
{
	extern char **environ;
	struct spawn s = {.file = "/proc/self/exe",
		.argv = (char *[]){UNMOUNTER_ARGV0, (char *)mountpoint, NULL},
		.env = environ,
		.fds = &input,
		.nfds = 1,
		.first_fd = STDIN_FILENO,
		/* What ends the program's process group doesn't end this, too. */
		.flags = POSIX_SPAWN_SETSID};
	pid_t pid;

	return spawn(&s, &pid);
}

int unmounter_start(const char *mountpoint)
{
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	r = start(mountpoint, fds[0]);
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
