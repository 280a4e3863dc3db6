#include "fs/save/deleted.h"

#include "client/clock.h"
#include "client/map.h"
#include "fs/tree/attr.h"
#include "fs/tree/state.h"

#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>

#define KNOWN_MAX  4096		       /* streams and processes that are remembered */
#define KNOWN_NS   (60 * NSEC_PER_SEC) /* then it isn't the same removal any more */
#define NAME_CUT   200		       /* bytes of a stream's name in that of a file */
#define DAY	   (24 * 3600)
#define LOOK_NS	   (600 * NSEC_PER_SEC) /* what is old is looked for so often */
#define LOOK_BYTES ((size_t)16 << 20)	/* or after so much */

/* A process that took from a stream, and when it last did. */
struct known {
	int64_t last; /* monotonic ns */
	char key[];   /* UID PID START */
};

struct deleted {
	struct journal *journal;
	char *directory, *dropped; /* NULL: there is no home */
	pthread_mutex_t lock;
	struct map known; /* lock; struct known by its key */
	int64_t looked;	  /* lock; for what is old, monotonic ns; 0: never */
	size_t written;	  /* lock; since then */
};

struct deleted *deleted_new(const char *server, struct journal *journal)
{
	struct deleted *d = xcalloc(1, sizeof(*d));

	d->journal = journal;
	d->directory = state_directory("deleted", server);
	d->dropped = state_directory("dropped", server);
	pthread_mutex_init(&d->lock, NULL);
	return d;
}

static void forget_known(struct deleted *d)
{
	map_foreach(&d->known, e)
		free(e->value);
	map_release(&d->known);
}

void deleted_free(struct deleted *d)
{
	if (!d)
		return;
	forget_known(d);
	pthread_mutex_destroy(&d->lock);
	free(d->directory);
	free(d->dropped);
	free(d);
}

/* Whether this is the first that the process takes from the stream, or the first after a while. */
static bool is_first(struct deleted *d, const struct process_id *who, const struct object *version)
{
	_cleanup_free_ char *key = NULL;
	int64_t now = now_monotonic();
	struct known *known;
	bool first;

	if (!who->tgid)
		return true;
	key = xasprintf("%s %d %llu", version->uid, who->tgid, (unsigned long long)who->start);
	pthread_mutex_lock(&d->lock);
	known = map_get(&d->known, key);
	first = !known || now >= known->last + KNOWN_NS;
	if (!known) {
		if (d->known.count >= KNOWN_MAX)
			forget_known(d);
		known = xcalloc(1, sizeof(*known) + strlen(key) + 1);
		strcpy(known->key, key);
		map_set(&d->known, known->key, known);
	}
	known->last = now;
	pthread_mutex_unlock(&d->lock);
	return first;
}

/* ---- what goes ---- */

struct old_file {
	int64_t mtime, size;
	char *path;
};

/* nftw() has no argument. */
static __thread struct {
	struct old_file *files;
	size_t count, size;
	int64_t bytes;
} found;

static int note(const char *path, const struct stat *st, int type, struct FTW *at)
{
	if (type != FTW_F || !S_ISREG(st->st_mode))
		return 0;
	if (found.count == found.size) {
		found.size = found.size ? 2 * found.size : 64;
		found.files = xrealloc(found.files, found.size * sizeof(*found.files));
	}
	found.files[found.count++] =
		(struct old_file){st->st_mtim.tv_sec, st->st_size, xstrdup(path)};
	found.bytes += st->st_size;
	return 0;
}

static int by_age(const void *a, const void *b)
{
	int64_t x = ((const struct old_file *)a)->mtime, y = ((const struct old_file *)b)->mtime;

	return x < y ? -1 : x > y;
}

/* Of every server's: the limits are for all together. */
static void drop_old(const char *directory)
{
	_cleanup_free_ char *top = xstrndup(directory, strrchr(directory, '/') - directory);
	int64_t now = time(NULL);

	nftw(top, note, 16, FTW_PHYS);
	if (found.count)
		qsort(found.files, found.count, sizeof(*found.files), by_age);
	for (size_t i = 0; i < found.count; i++) {
		const struct old_file *f = &found.files[i];
		bool old = f->mtime < now - DELETED_AGE_MAX * DAY;

		if ((old || (found.bytes > DELETED_BYTES_MAX && f->mtime < now - DAY)) &&
			unlink(f->path) == 0)
			found.bytes -= f->size;
		free(f->path);
	}
	free(found.files);
	memset(&found, 0, sizeof(found));
}

/* ---- what comes ---- */

/* DIRECTORY/NAMESPACE/NAME@TIME.json. The caller frees. */
static char *file_path(const char *directory, const char *ns, const char *name)
{
	time_t now = time(NULL);
	struct tm tm;
	char text[sizeof("2026-11-29T12:00:00Z")];

	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	return xasprintf("%s/%s/%.*s@%s.json", directory, ns, NAME_CUT, name, text);
}

static int write_new(char *path, const char *text, size_t len)
{
	_cleanup_free_ char *actual = NULL;
	int r = state_make_directories(path);

	if (r == 0)
		r = state_make_free(path, &actual);
	if (r == 0)
		r = state_write(actual, text, len);
	if (r < 0 && actual)
		unlink(actual);
	return r;
}

/* Looking through the directories costs more than a file: so not for each. */
static bool is_time_to_drop(struct deleted *d, size_t len)
{
	int64_t now = now_monotonic();
	bool yes;

	pthread_mutex_lock(&d->lock);
	d->written += len;
	yes = !d->looked || now > d->looked + LOOK_NS || d->written > LOOK_BYTES;
	if (yes) {
		d->looked = now;
		d->written = 0;
	}
	pthread_mutex_unlock(&d->lock);
	return yes;
}

/* Into the directory, or -ENOENT where there is no home; what is too old goes. */
static int keep(struct deleted *d, const char *directory, const char *ns, const char *name,
	const char *text, size_t len)
{
	_cleanup_free_ char *path = directory ? file_path(directory, ns, name) : NULL;
	int r = path ? write_new(path, text, len) : -ENOENT;

	if (path && is_time_to_drop(d, len)) {
		drop_old(d->directory);
		drop_old(d->dropped);
	}
	return r;
}

void deleted_keep(struct deleted *d, const struct process_id *who, struct object *version)
{
	_cleanup_free_ char *ns = NULL, *message = NULL;
	_cleanup_buf_ struct buf text = BUF_INIT(ATTR_MAX);
	_cleanup_scan_ struct scan scan = SCAN_INIT;
	struct attr_sink to = {.bytes = &text};
	int r;

	if (!is_first(d, who, version))
		return;
	ns = object_key_namespace(version->key);
	scan_read_own(&scan, version->text, version->len);
	r = attr_json(scan.values, NULL, &to);
	if (r == 0)
		r = keep(d, d->directory, ns, version->name, text.data, text.len);
	if (r == 0)
		return;
	message = xasprintf("what goes isn't kept in the state directory: %s", strerror(-r));
	journal_add(d->journal, version->key, NULL, 0, -r, message);
}

void deleted_drop(struct deleted *d, const struct place *file, const char *text, size_t len)
{
	bool tag = file->kind >= KIND_TAG;
	_cleanup_free_ char *name = xasprintf(
		"%.100s%s%.90s.status", file->stream, tag ? ":" : "", tag ? file->tag : "");
	_cleanup_free_ char *path = xasprintf("%s/%s%s%s/status.json", file->ns, file->stream,
		tag ? "/tags/" : "", tag ? file->tag : "");
	_cleanup_free_ char *message = NULL;
	int r = keep(d, d->dropped, file->ns, name, text, len);

	message = xasprintf(
		"the history that was copied here isn't sent: only the server makes it%s%s",
		r < 0 ? "; it isn't kept either: " : " (it is kept in the state directory)",
		r < 0 ? strerror(-r) : "");
	journal_add(d->journal, path, NULL, 0, r < 0 ? -r : ENOTSUP, message);
}
