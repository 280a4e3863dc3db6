#include "fs/tree/rejects.h"

#include "client/clock.h"
#include "client/map.h"
#include "fs/tree/state.h"

#include <errno.h>
#include <pthread.h>

static const char *const suffixes[] = {".rejected", ".error"};

#define FRESH_NS  (2 * NSEC_PER_SEC)
#define FRESH_MAX 64 /* refusals that are remembered: at most that many of 2 s */

struct refusal {
	uint64_t dir; /* with the kind: which file */
	enum kind kind;
	struct process_id who;
	int64_t when; /* monotonic; 0: none */
};

struct rejects {
	struct inode_table *inodes;
	struct journal *journal;
	char *state; /* $XDG_STATE_HOME/imagestreamfs/SERVER, or NULL where there is no home */
	uid_t uid;
	gid_t gid;
	pthread_mutex_t lock;
	struct map kept; /* lock; where it would stand -> struct kept: what this mount left there */
	struct refusal fresh[FRESH_MAX]; /* lock; the newest */
	size_t next;			 /* lock; the oldest of them */
};

struct kept {
	char *actual; /* where it stands */
	char wanted[];
};

struct rejects *rejects_new(struct inode_table *inodes, struct journal *journal, const char *server,
	uid_t uid, gid_t gid)
{
	struct rejects *r = xcalloc(1, sizeof(*r));

	r->inodes = inodes;
	r->journal = journal;
	r->uid = uid;
	r->gid = gid;
	pthread_mutex_init(&r->lock, NULL);
	r->state = state_directory(NULL, server);
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

/*
 * The copy of DIRECTORY/NAME in the state directory; the caller frees. `dir` may be a file's path.
 */
static char *state_path(const struct rejects *r, const struct place *dir, const char *name)
{
	bool tag = dir->kind == KIND_TAG || layout_is_tag_file(dir->kind);

	return xasprintf("%s/%s/%s/%s%s%s%s", r->state, dir->ns, dir->stream, tag ? "tags/" : "",
		tag ? dir->tag : "", tag ? "/" : "", name);
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
	int error = state_make_directories(wanted);
	bool made = false;

	if (error == 0 && !actual) {
		error = state_make_free(wanted, &actual);
		made = error == 0;
	}
	if (error == 0 && actual)
		error = state_write(actual, data, len);
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

void rejects_note(
	struct rejects *r, uint64_t dir, const struct place *file, const struct process_id *who)
{
	pthread_mutex_lock(&r->lock);
	r->fresh[r->next++ % FRESH_MAX] = (struct refusal){dir, file->kind, *who, now_monotonic()};
	pthread_mutex_unlock(&r->lock);
}

static bool is_of(const struct refusal *f, uint64_t dir, const struct place *file,
	const struct process_id *who)
{
	return f->when && f->dir == dir && f->kind == file->kind && process_id_equal(&f->who, who);
}

bool rejects_is_fresh(
	struct rejects *r, uint64_t dir, const struct place *file, const struct process_id *who)
{
	int64_t since = now_monotonic() - FRESH_NS;
	bool fresh = false;

	pthread_mutex_lock(&r->lock);
	for (size_t i = 0; i < FRESH_MAX; i++)
		fresh = fresh || (is_of(&r->fresh[i], dir, file, who) && r->fresh[i].when > since);
	pthread_mutex_unlock(&r->lock);
	return fresh;
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
