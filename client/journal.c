#include "client/journal.h"

#include "client/log.h"

#include <pthread.h>

#define MESSAGE_MAX 4096 /* Strict errors quote the object, of any size */

struct journal {
	pthread_mutex_t lock;
	json_t *entries[JOURNAL_SIZE]; /* lock; a ring, `next` is the oldest once it is full */
	size_t next;		       /* lock */
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
	for (size_t i = 0; i < JOURNAL_SIZE; i++)
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

void journal_add(struct journal *j, const char *path, const char *request, long http_code,
	int error, const char *message)
{
	const char *name = strerrorname_np(error);
	char time[RFC3339_SIZE];
	_cleanup_free_ char *text = str_shorten(message ? message : "", MESSAGE_MAX);
	json_t *entry, *newest, *old = NULL;

	log_info("%s%s%s%s%s", request ? request : "", request ? ": " : "", text,
		path ? " at " : "", path ? path : "");
	rfc3339_format(now_realtime(), time);
	entry = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "time", time, "path",
		string_or_null(path), "request", string_or_null(request), "code",
		http_code ? json_integer(http_code) : json_null(), "errno", string_or_null(name),
		"message", string_or_null(message ? text : NULL));
	pthread_mutex_lock(&j->lock);
	j->count++;
	newest = j->entries[(j->next + JOURNAL_SIZE - 1) % JOURNAL_SIZE];
	if (newest && same_failure(newest, entry)) {
		json_int_t count = json_integer_value(json_object_get(newest, "count"));

		json_object_set_new(newest, "time", json_string(time));
		json_object_set_new(newest, "count", json_integer(count ? count + 1 : 2));
		old = entry;
	} else {
		old = j->entries[j->next];
		j->entries[j->next] = entry;
		j->next = (j->next + 1) % JOURNAL_SIZE;
	}
	pthread_mutex_unlock(&j->lock);
	json_decref(old);
}

void journal_show(struct journal *j, struct buf *b)
{
	pthread_mutex_lock(&j->lock);
	for (size_t i = 0; i < JOURNAL_SIZE; i++) {
		json_t *entry = j->entries[(j->next + i) % JOURNAL_SIZE];

		if (entry && buf_addjson(b, entry, 0) == 0)
			buf_addstr(b, "\n");
	}
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
	copy = json_copy(j->entries[(j->next + JOURNAL_SIZE - 1) % JOURNAL_SIZE]);
	pthread_mutex_unlock(&j->lock);
	return copy ? copy : json_null();
}
