#include "fs/tree/rejects.h"

#include "client/map.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pwd.h>

static const char *const suffixes[] = {".rejected", ".error"};

struct rejects {
	struct inode_table *inodes;
	struct journal *journal;
	char *state; /* $XDG_STATE_HOME/imagestreamfs/SERVER, or NULL where there is no home */
	uid_t uid;
	gid_t gid;
	pthread_mutex_t lock;
	struct map kept; /* lock; where it would stand -> struct kept: what this mount left there */
};

struct kept {
	char *actual; /* where it stands */
	char wanted[];
};

/* basedir-spec: an absolute $XDG_STATE_HOME, else ~/.local/state. */
static char *state_home(void)
{
	const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	struct passwd *user;

	if (xdg && xdg[0] == '/')
		return xstrdup(xdg);
	if (!home || home[0] != '/') {
		user = getpwuid(getuid());
		home = user ? user->pw_dir : NULL;
	}
	return home ? xasprintf("%s/.local/state", home) : NULL;
}

struct rejects *rejects_new(struct inode_table *inodes, struct journal *journal, const char *server,
	uid_t uid, gid_t gid)
{
	_cleanup_free_ char *home = state_home();
	const char *host = strstr(server, "://");
	struct rejects *r = xcalloc(1, sizeof(*r));

	r->inodes = inodes;
	r->journal = journal;
	r->uid = uid;
	r->gid = gid;
	pthread_mutex_init(&r->lock, NULL);
	if (home) {
		_cleanup_free_ char *name = xstrdup(host ? host + 3 : server);

		for (char *p = name; *p; p++)
			if (*p == '/')
				*p = '_';
		r->state = xasprintf("%s/imagestreamfs/%s", home, name);
	}
	return r;
}

void rejects_free(struct rejects *r)
{
	if (!r)
		return;
	map_foreach(&r->kept, e) {
		struct kept *k = e->value;

		free(k->actual);
		free(k);
	}
	map_release(&r->kept);
	pthread_mutex_destroy(&r->lock);
	free(r->state);
	free(r);
}

/* The copy of DIRECTORY/NAME in the state directory; the caller frees. `dir` may be a file's path. */
static char *state_path(const struct rejects *r, const struct place *dir, const char *name)
{
	bool tag = dir->kind == KIND_TAG || layout_is_tag_file(dir->kind);

	return xasprintf("%s/%s/%s/%s%s%s%s", r->state, dir->namespace, dir->stream,
		tag ? "tags/" : "", tag ? dir->tag : "", tag ? "/" : "", name);
}

static int make_directories(char *path)
{
	for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		int r;

		*p = '\0';
		r = mkdir(path, 0700);
		*p = '/';
		if (r < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

static int write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			data += n;
			len -= n;
		}
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* A name that nothing has, NUMBER from 2 on; the file is made. The caller frees *ret. */
static int make_free(const char *path, char **ret)
{
	for (unsigned i = 1;; i++) {
		_cleanup_free_ char *name = i == 1 ? xstrdup(path) : xasprintf("%s.%u", path, i);
		_cleanup_close_ int fd =
			open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

		if (fd >= 0) {
			*ret = steal_ptr(name);
			return 0;
		}
		if (errno != EEXIST)
			return -errno;
	}
}

/* Whole or not at all. */
static int write_file(const char *path, const char *data, size_t len)
{
	static atomic_uint serial;
	_cleanup_free_ char *temporary = xasprintf("%s.%d.%u", path, getpid(), ++serial);
	_cleanup_close_ int fd =
		open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0)
		return -errno;
	r = write_all(fd, data, len);
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(temporary);
	return r;
}

/* Where this mount keeps it already, or NULL; taken out of the table. The caller frees. */
static char *take_kept(struct rejects *r, const char *wanted)
{
	struct kept *k;
	char *actual = NULL;

	pthread_mutex_lock(&r->lock);
	k = map_del(&r->kept, wanted);
	if (k)
		actual = k->actual;
	free(k);
	pthread_mutex_unlock(&r->lock);
	return actual;
}

/* Takes over `actual`. */
static void set_kept(struct rejects *r, const char *wanted, char *actual)
{
	struct kept *k = xcalloc(1, sizeof(*k) + strlen(wanted) + 1), *old;

	strcpy(k->wanted, wanted);
	k->actual = actual;
	pthread_mutex_lock(&r->lock);
	old = map_set(&r->kept, k->wanted, k);
	pthread_mutex_unlock(&r->lock);
	if (old)
		free(old->actual);
	free(old);
}

static int keep_state(struct rejects *r, char *wanted, bool again, const char *data, size_t len)
{
	char *actual = again ? take_kept(r, wanted) : NULL;
	int error = make_directories(wanted);
	bool made = false;

	if (error == 0 && !actual) {
		error = make_free(wanted, &actual);
		made = error == 0;
	}
	if (error == 0 && actual)
		error = write_file(actual, data, len);
	if (error < 0 && made) {
		unlink(actual);
		free(steal_ptr(actual));
	}
	if (actual && again)
		set_kept(r, wanted, actual);
	else
		free(actual);
	return error;
}

static void keep(struct rejects *r, uint64_t dir, const struct place *file, const char *suffix,
	const char *data, size_t len)
{
	_cleanup_free_ char *name = xasprintf("%s%s", layout[file->kind].name, suffix);
	_cleanup_free_ char *path = r->state ? state_path(r, file, name) : NULL;
	struct scratch_init init = {
		.mode = S_IFREG | 0600, .uid = r->uid, .gid = r->gid, .data = data, .len = len};
	int error = path ? keep_state(r, path, dir != 0, data, len) : -ENOENT;

	if (dir)
		scratch_put(r->inodes, dir, file, name, &init);
	if (error < 0) {
		_cleanup_free_ char *message =
			xasprintf("%s: %s", path ? path : "no state directory", strerror(-error));

		journal_add(r->journal, name, NULL, 0, -error, message);
	}
}

void rejects_keep(struct rejects *r, uint64_t dir, const struct place *file, const char *text,
	size_t len, const struct buf *reason)
{
	keep(r, dir, file, suffixes[0], text, len);
	keep(r, dir, file, suffixes[1], reason->data ? reason->data : "", reason->len);
}

bool rejects_holds(
	struct rejects *r, uint64_t dir, const struct place *file, const char *text, size_t len)
{
	_cleanup_free_ char *name = xasprintf("%s%s", layout[file->kind].name, suffixes[0]);
	_cleanup_inode_ struct inode *n = scratch_lookup(r->inodes, dir, name);
	_cleanup_free_ char *kept = NULL;
	size_t kept_len = 0;

	if (n)
		kept = scratch_read(r->inodes, n, 0, SCRATCH_FILE_MAX, &kept_len);
	return kept && kept_len == len && memcmp(kept, text, len) == 0;
}

static void drop_state(struct rejects *r, const struct place *dir, const char *name)
{
	_cleanup_free_ char *wanted = r->state ? state_path(r, dir, name) : NULL;
	_cleanup_free_ char *actual = wanted ? take_kept(r, wanted) : NULL;

	if (actual)
		unlink(actual);
}

bool rejects_clear(struct rejects *r, uint64_t dir, const struct place *file)
{
	bool cleared = false;

	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		_cleanup_free_ char *name = xasprintf("%s%s", layout[file->kind].name, suffixes[i]);

		if (dir && scratch_unlink(r->inodes, dir, name, false) == 0)
			cleared = true;
		drop_state(r, file, name);
	}
	return cleared;
}

bool rejects_is_kept(const struct place *dir, const char *name)
{
	size_t len = strlen(name);

	if (dir->kind != KIND_STREAM && dir->kind != KIND_TAG)
		return false; /* a directory of scratch's own: nothing is kept there */
	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		size_t n = strlen(suffixes[i]);

		if (len > n && streq(name + len - n, suffixes[i]))
			return true;
	}
	return false;
}

void rejects_removed(struct rejects *r, const struct place *dir, const char *name)
{
	if (rejects_is_kept(dir, name))
		drop_state(r, dir, name);
}
