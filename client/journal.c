#include "client/journal.h"

#include "client/clock.h"
#include "client/log.h"

#include <pthread.h>

#define MESSAGE_MAX 4096 /* Strict errors quote the object, of any size */

struct journal {
	pthread_mutex_t lock;
	json_t *entries[JOURNAL_SIZE]; /* lock; oldest first */
	size_t n;		       /* lock */
	uint64_t count;		       /* lock */
};

struct journal *journal_new(void)
{
	struct journal *j = xcalloc(1, sizeof(*j));

	pthread_mutex_init(&j->lock, NULL);
	return j;
}

void journal_free(struct journal *j)
{
	if (!j)
		return;
	for (size_t i = 0; i < j->n; i++)
		json_decref(j->entries[i]);
	pthread_mutex_destroy(&j->lock);
	free(j);
}

static json_t *string_or_null(const char *s)
{
	json_t *string = s ? json_string(s) : NULL;

	return string ? string : json_null();
}

static bool same_failure(const json_t *a, const json_t *b)
{
	static const char *const keys[] = {"path", "request", "code", "errno", "message"};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (!json_equal(json_object_get(a, keys[i]), json_object_get(b, keys[i])))
			return false;
	return true;
}

/*
 * Takes an entry out: the one that is the same failure, else the oldest where there is no room.
 * NULL: none.
 */
static json_t *take_out(struct journal *j, const json_t *entry)
{
	size_t i = j->n;
	json_t *old;

	while (i > 0 && !same_failure(j->entries[i - 1], entry))
		i--;
	if (i == 0 && j->n < JOURNAL_SIZE)
		return NULL;
	i = i ? i - 1 : 0;
	old = j->entries[i];
	memmove(&j->entries[i], &j->entries[i + 1], (--j->n - i) * sizeof(*j->entries));
	return old;
}

/* The failure happened before: how often by now, and when first. */
static void count_again(json_t *entry, const json_t *before)
{
	const json_t *count = json_object_get(before, "count"),
		     *first = json_object_get(before, "first");

	if (!first)
		first = json_object_get(before, "time");
	json_object_set_new(
		entry, "count", json_integer(count ? json_integer_value(count) + 1 : 2));
	json_object_set(entry, "first", (json_t *)first);
}

void journal_add(struct journal *j, const char *path, const char *request, long http_code,
	int error, const char *message)
{
	const char *name = strerrorname_np(error);
	char time[RFC3339_SIZE];
	_cleanup_free_ char *text = str_shorten(message ? message : "", MESSAGE_MAX);
	json_t *entry, *old;

	log_info("%s%s%s%s%s", request ? request : "", request ? ": " : "", text,
		path ? " at " : "", path ? path : "");
	rfc3339_format(now_realtime(), time);
	entry = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "time", time, "path",
		string_or_null(path), "request", string_or_null(request), "code",
		http_code ? json_integer(http_code) : json_null(), "errno", string_or_null(name),
		"message", string_or_null(message ? text : NULL));
	pthread_mutex_lock(&j->lock);
	j->count++;
	old = take_out(j, entry);
	if (old && same_failure(old, entry))
		count_again(entry, old);
	j->entries[j->n++] = entry;
	pthread_mutex_unlock(&j->lock);
	json_decref(old);
}

void journal_show(struct journal *j, struct buf *b)
{
	pthread_mutex_lock(&j->lock);
	for (size_t i = 0; i < j->n; i++)
		if (buf_addjson(b, j->entries[i], 0) == 0)
			buf_addstr(b, "\n");
	pthread_mutex_unlock(&j->lock);
}

uint64_t journal_count(struct journal *j)
{
	uint64_t count;

	pthread_mutex_lock(&j->lock);
	count = j->count;
	pthread_mutex_unlock(&j->lock);
	return count;
}

json_t *journal_last(struct journal *j)
{
	json_t *copy;

	pthread_mutex_lock(&j->lock);
	copy = j->n ? json_copy(j->entries[j->n - 1]) : NULL;
	pthread_mutex_unlock(&j->lock);
	return copy ? copy : json_null();
}
