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

#define KNOWN_MAX 4096 /* streams and processes that are remembered */
#define NAME_CUT  200  /* bytes of a stream's name in that of a file */
#define DAY	  (24 * 3600)

struct deleted {
	struct journal *journal;
	char *directory; /* NULL: there is no home */
	pthread_mutex_t lock;
	struct map known; /* lock; "UID PID START", its own memory */
};

struct deleted *deleted_new(const char *server, struct journal *journal)
{
	struct deleted *d = xcalloc(1, sizeof(*d));

	d->journal = journal;
	d->directory = state_directory("deleted", server);
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
	free(d);
}

/* Whether the process's stream is kept for the first time; from now on it isn't. */
static bool is_first(struct deleted *d, const struct process_id *who, const struct object *version)
{
	char *key;
	bool first;

	if (!who->tgid)
		return true;
	key = xasprintf("%s %d %llu", version->uid, who->tgid, (unsigned long long)who->start);
	pthread_mutex_lock(&d->lock);
	first = !map_get(&d->known, key);
	if (first && d->known.count >= KNOWN_MAX)
		forget_known(d);
	if (first)
		map_set(&d->known, key, key);
	pthread_mutex_unlock(&d->lock);
	if (!first)
		free(key);
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
static void drop_old(const struct deleted *d)
{
	_cleanup_free_ char *top =
		xstrndup(d->directory, strrchr(d->directory, '/') - d->directory);
	int64_t now = time(NULL);

	nftw(top, note, 16, FTW_PHYS);
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

/* The caller frees. */
static char *file_path(const struct deleted *d, const struct object *version)
{
	time_t now = time(NULL);
	struct tm tm;
	char text[sizeof("2026-11-29T12:00:00Z")];
	int ns = strcspn(version->key, "/");

	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	return xasprintf("%s/%.*s/%.*s@%s.json", d->directory, ns, version->key, NAME_CUT,
		version->name, text);
}

static int write_version(char *path, struct object *version)
{
	_cleanup_json_ json_t *json = object_parse(version);
	_cleanup_buf_ struct buf text = BUF_INIT(ATTR_MAX);
	_cleanup_free_ char *actual = NULL;
	int r = attr_json(json, &text);

	if (r == 0)
		r = state_make_directories(path);
	if (r == 0)
		r = state_make_free(path, &actual);
	if (r == 0)
		r = state_write(actual, text.data, text.len);
	if (r < 0 && actual)
		unlink(actual);
	return r;
}

void deleted_keep(struct deleted *d, const struct process_id *who, struct object *version)
{
	_cleanup_free_ char *path = NULL;
	int r = -ENOENT;

	if (!is_first(d, who, version))
		return;
	if (d->directory) {
		path = file_path(d, version);
		r = write_version(path, version);
		drop_old(d);
	}
	if (r < 0) {
		_cleanup_free_ char *message = xasprintf("what goes isn't kept: %s: %s",
			path ? path : "no state directory", strerror(-r));

		journal_add(d->journal, version->key, NULL, 0, -r, message);
	}
}
