#include "fs/publish/announcer.h"

#include "fs/publish/remount.h"

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
	dev_t device;	/* of the mount, as the first greeting found it; 0: not greeted yet */
	bool read_only; /* the mount is, for everybody else */
	int root;	/* then: one that isn't, while another step follows at once; -1: none */
	int dir;	/* of the last step, while another one follows at once; -1: none */
	char parent[ANNOUNCER_PATH];
};

/* openat2(2): beneath the directory, on its mount, through no symlink. */
static int open_beneath(int dir, const char *path)
{
	struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS};
	int fd = syscall(__NR_openat2, dir, path, &how, sizeof(how));

	return fd < 0 ? -errno : fd;
}

static bool is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM;
}

/* The root of the mount, and of nothing else that is at its path meanwhile: -ENODEV. */
static int open_root(struct worker *w)
{
	int fd = open(w->mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return is_shortage(errno) ? -errno : -ENODEV;
	if (w->device && (fstat(fd, &st) < 0 || st.st_dev != w->device)) {
		close(fd);
		return -ENODEV;
	}
	return fd;
}

/*
 * MODIFY is raised by an allocation of what is there. A truncation would raise it, too, but until
 * it is over the kernel takes no size from anybody: who reads meanwhile would get the new bytes in
 * the old size.
 */
static int write_file(int dir, const char *name, int flags)
{
	struct open_how how = {.flags = O_WRONLY | O_NOFOLLOW | O_CLOEXEC | flags,
		.mode = flags & O_CREAT ? 0644 : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS};
	_cleanup_close_ int fd = syscall(__NR_openat2, dir, name, &how, sizeof(how));

	if (fd < 0)
		return -errno;
	return fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1) < 0 ? -errno : 0;
}

/*
 * The daemon sees who asks, and that it is its mount that is asked; it answers that there is no
 * such thing.
 */
static int greet(struct worker *w, int root, const char *name)
{
	struct stat st;

	if (fstatat(root, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT)
		return -ENODEV;
	if (fstat(root, &st) < 0)
		return -ENODEV;
	w->device = st.st_dev;
	return 0;
}

/* Making one and giving it up has the kernel wait for all processors: it does for several steps. */
static int open_beneath_writable(struct worker *w, int root, const char *path)
{
	if (w->root < 0)
		w->root = remount_writable(root);
	return w->root < 0 ? w->root : open_beneath(w->root, path);
}

static int open_parent(struct worker *w, const char *parent)
{
	_cleanup_close_ int root = open_root(w);

	if (root < 0)
		return root;
	return w->read_only ? open_beneath_writable(w, root, parent) : open_beneath(root, parent);
}

static void close_parent(struct worker *w)
{
	if (w->dir >= 0)
		close(w->dir);
	w->dir = -1;
}

static void close_all(struct worker *w)
{
	close_parent(w);
	if (w->root >= 0)
		close(w->root);
	w->root = -1;
}

/* The step in its directory. */
static int perform_in(int dir, const char *name, const struct announcer_message *m)
{
	static const struct timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
	int r = 0;

	switch (m->op) {
	case ANNOUNCER_MKDIR:
		r = mkdirat(dir, name, 0755);
		break;
	case ANNOUNCER_CREATE:
		r = write_file(dir, name, O_CREAT | O_EXCL);
		/* Somebody began a file there: who saw it come, empty, hears of its bytes. */
		return r == -EEXIST && write_file(dir, name, 0) == 0 ? 0 : r;
	case ANNOUNCER_RMDIR:
		r = unlinkat(dir, name, AT_REMOVEDIR);
		break;
	case ANNOUNCER_UNLINK:
		r = unlinkat(dir, name, 0);
		break;
	case ANNOUNCER_WRITE:
		return write_file(dir, name, 0);
	case ANNOUNCER_ATTRIB:
		r = utimensat(dir, name, now, AT_SYMLINK_NOFOLLOW);
		break;
	default:
		return -EINVAL;
	}
	return r < 0 ? -errno : 0;
}

/* The directory of the steps; what went wrong. */
static int enter(struct worker *w, const char *parent)
{
	if (w->dir >= 0 && streq(w->parent, parent))
		return w->dir;
	close_parent(w);
	strcpy(w->parent, parent);
	w->dir = open_parent(w, parent);
	return w->dir;
}

/*
 * Whether another directory is at the path by now, which then is the worker's: since it was opened
 * another worker has removed it, and made the next one.
 */
static bool is_replaced(struct worker *w, const char *parent)
{
	struct stat before, after;

	if (fstat(w->dir, &before) < 0)
		return false;
	close_parent(w);
	return enter(w, parent) >= 0 && fstat(w->dir, &after) == 0 && before.st_ino != after.st_ino;
}

static int perform(struct worker *w, const struct announcer_message *m)
{
	const char *slash = strrchr(m->path, '/');
	const char *name = slash ? slash + 1 : m->path;
	char parent[ANNOUNCER_PATH] = ".";
	int dir, r;

	if (slash)
		snprintf(parent, sizeof(parent), "%.*s", (int)(slash - m->path), m->path);
	do {
		dir = enter(w, parent);
		r = dir < 0 ? dir : perform_in(dir, name, m);
	} while (r == -ENOENT && dir >= 0 && is_replaced(w, parent));
	return r;
}

static int greet_root(struct worker *w, const char *name)
{
	_cleanup_close_ int root = open_root(w);

	return root < 0 ? root : greet(w, root, name);
}

/* What is done is told when nothing more waits, and no descriptor is kept then. */
static void *work(void *arg)
{
	struct announcer_ack acks[ANNOUNCER_ACKS];
	struct worker *w = arg;
	struct announcer_message m;
	size_t done = 0;

	for (;;) {
		ssize_t n = recv(w->fd, &m, sizeof(m) - 1, done ? MSG_DONTWAIT : 0);

		if (n > (ssize_t)offsetof(struct announcer_message, path)) {
			((char *)&m)[n] = '\0';
			acks[done].id = m.id;
			acks[done++].error =
				m.op == ANNOUNCER_HELLO ? -greet_root(w, m.path) : -perform(w, &m);
			if (done < ANNOUNCER_ACKS)
				continue;
		} else if (!done) {
			break;
		}
		close_all(w);
		if (send(w->fd, acks, done * sizeof(*acks), MSG_NOSIGNAL) < 0)
			break;
		done = 0;
	}
	return NULL;
}

/* A thread for each; a positive errno where one can't be made. */
static int start_workers(struct worker *workers, pthread_t *threads, int count)
{
	int r = 0;

	for (int i = 0; i < count && r == 0; i++)
		r = pthread_create(&threads[i], NULL, work, &workers[i]);
	return r;
}

int announcer_main(int argc, char *argv[])
{
	struct worker workers[ANNOUNCER_WORKERS];
	pthread_t threads[ANNOUNCER_WORKERS];
	int count = argc >= 3 ? atoi(argv[2]) : 0, r;
	bool read_only = argc == 4 && streq(argv[3], ANNOUNCER_READ_ONLY);

	if (count < 1 || count > ANNOUNCER_WORKERS)
		return EINVAL;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "isfs-announcer");
	umask(0);
	for (int i = 0; i < count; i++)
		workers[i] = (struct worker){.mountpoint = argv[1],
			.fd = ANNOUNCER_FD + i,
			.read_only = read_only,
			.root = -1,
			.dir = -1};
	r = start_workers(workers, threads, count);
	if (r != 0)
		return r;
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
