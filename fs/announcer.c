#include "fs/announcer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

struct worker {
	const char *mountpoint;
	int fd;
	dev_t device; /* of the mount, as the first greeting found it; 0: not greeted yet */
};

/* openat2(2): beneath the directory, on its mount, through no symlink. */
static int open_beneath(int dir, const char *path)
{
	struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS};
	int fd = syscall(SYS_openat2, dir, path, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

/* The root of the mount, and of no other one that covers it meanwhile. */
static int open_root(struct worker *w)
{
	int fd = open(w->mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (w->device && (fstat(fd, &st) < 0 || st.st_dev != w->device)) {
		close(fd);
		return -EXDEV;
	}
	return fd;
}

static int write_file(int dir, const char *name, int flags, uint64_t size)
{
	struct open_how how = {.flags = O_WRONLY | O_NOFOLLOW | O_CLOEXEC | flags,
		.mode = flags & O_CREAT ? 0644 : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS};
	_cleanup_close_ int fd = syscall(SYS_openat2, dir, name, &how, sizeof(how));

	if (fd < 0)
		return -errno;
	return ftruncate(fd, size) < 0 ? -errno : 0;
}

static int greet(struct worker *w, int root, const char *name)
{
	struct stat st;

	/* The daemon sees who asks, and answers that there is no such thing. */
	if (fstatat(root, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT)
		return -EIO;
	if (fstat(root, &st) < 0)
		return -errno;
	w->device = st.st_dev;
	return 0;
}

static int perform(struct worker *w, const struct announcer_message *m)
{
	static const struct timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
	_cleanup_close_ int root = open_root(w), dir = -1;
	const char *slash = strrchr(m->path, '/');
	const char *name = slash ? slash + 1 : m->path;
	_cleanup_free_ char *parent = slash ? xstrndup(m->path, slash - m->path) : xstrdup(".");
	int r = 0;

	if (root < 0)
		return root;
	if (m->op == ANNOUNCER_HELLO)
		return greet(w, root, m->path);
	dir = open_beneath(root, parent);
	if (dir < 0)
		return dir;
	switch (m->op) {
	case ANNOUNCER_MKDIR:
		r = mkdirat(dir, name, 0755);
		break;
	case ANNOUNCER_CREATE:
		return write_file(dir, name, O_CREAT | O_EXCL, m->size);
	case ANNOUNCER_RMDIR:
		r = unlinkat(dir, name, AT_REMOVEDIR);
		break;
	case ANNOUNCER_UNLINK:
		r = unlinkat(dir, name, 0);
		break;
	case ANNOUNCER_WRITE:
		return write_file(dir, name, 0, m->size);
	case ANNOUNCER_ATTRIB:
		r = utimensat(dir, name, now, AT_SYMLINK_NOFOLLOW);
		break;
	default:
		return -EINVAL;
	}
	return r < 0 ? -errno : 0;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct announcer_message m;
	ssize_t n;

	while ((n = recv(w->fd, &m, sizeof(m) - 1, 0)) >
		(ssize_t)offsetof(struct announcer_message, path)) {
		struct announcer_ack ack = {.id = m.id};

		((char *)&m)[n] = '\0';
		ack.error = -perform(w, &m);
		if (send(w->fd, &ack, sizeof(ack), MSG_NOSIGNAL) < 0)
			break;
	}
	return NULL;
}

int announcer_main(int argc, char *argv[])
{
	struct worker workers[ANNOUNCER_WORKERS];
	pthread_t threads[ANNOUNCER_WORKERS];

	if (argc != 2)
		return EXIT_FAILURE;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "isfs-announcer");
	umask(0);
	for (int i = 0; i < ANNOUNCER_WORKERS; i++) {
		workers[i] = (struct worker){.mountpoint = argv[1], .fd = ANNOUNCER_FD + i};
		if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0)
			return EXIT_FAILURE;
	}
	for (int i = 0; i < ANNOUNCER_WORKERS; i++)
		pthread_join(threads[i], NULL);
	return EXIT_SUCCESS;
}
