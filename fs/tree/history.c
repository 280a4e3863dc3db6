#include "fs/tree/history.h"

#include "client/clock.h"
#include "client/map.h"
#include "client/patch.h"

#include <pthread.h>

#define VERSIONS 16
#define AGE	 (600 * NSEC_PER_SEC)
#define SWEEP	 (60 * NSEC_PER_SEC)

struct version {
	struct object *object;
	char *from; /* the version that our save was made on, or NULL: another's */
};

struct stream {
	int64_t served;			   /* monotonic ns */
	struct version versions[VERSIONS]; /* by resourceVersion */
	size_t count;
	char key[];
};

struct history {
	pthread_mutex_t lock;
	int64_t swept;	    /* lock; monotonic ns */
	struct map streams; /* lock; NAMESPACE/NAME -> struct stream */
};

struct history *history_new(void)
{
	struct history *h = xcalloc(1, sizeof(*h));

	pthread_mutex_init(&h->lock, NULL);
	return h;
}

static void version_clear(struct version *v)
{
	object_unref(v->object);
	free(v->from);
	*v = (struct version){0};
}

static void stream_free(struct stream *s)
{
	for (size_t i = 0; i < s->count; i++)
		version_clear(&s->versions[i]);
	free(s);
}

void history_free(struct history *h)
{
	if (!h)
		return;
	map_foreach(&h->streams, e)
		stream_free(e->value);
	map_release(&h->streams);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

/* h->lock held. Once a minute at most. */
static void forget_old(struct history *h)
{
	_cleanup_free_ struct stream **old = NULL;
	size_t n = 0;

	if (now_monotonic() - h->swept < SWEEP)
		return;
	h->swept = now_monotonic();
	old = xcalloc(h->streams.count, sizeof(*old));
	map_foreach(&h->streams, e) {
		struct stream *s = e->value;

		if (s->served + AGE < now_monotonic())
			old[n++] = s;
	}
	for (size_t i = 0; i < n; i++) {
		map_del(&h->streams, old[i]->key);
		stream_free(old[i]);
	}
}

/* h->lock held. The version's place, made where it is new. */
static struct version *add(struct stream *s, struct object *object)
{
	size_t i = s->count;

	if (s->count && !streq(s->versions[0].object->uid, object->uid)) {
		while (s->count) /* made anew: what was before is another object's */
			version_clear(&s->versions[--s->count]);
		i = 0;
	}
	while (i > 0 && rv_compare(s->versions[i - 1].object->resource_version,
				object->resource_version) > 0)
		i--;
	if (i > 0 && streq(s->versions[i - 1].object->resource_version, object->resource_version))
		return &s->versions[i - 1];
	if (s->count == VERSIONS) {
		if (i == 0)
			return NULL; /* older than all that is kept */
		version_clear(&s->versions[0]);
		memmove(s->versions, s->versions + 1, --s->count * sizeof(s->versions[0]));
		i--;
	}
	memmove(s->versions + i + 1, s->versions + i, (s->count - i) * sizeof(s->versions[0]));
	s->count++;
	s->versions[i] = (struct version){object_ref(object), NULL};
	return &s->versions[i];
}

void history_serve(struct history *h, struct object *version)
{
	struct stream *s;

	pthread_mutex_lock(&h->lock);
	s = map_get(&h->streams, version->key);
	if (!s) {
		forget_old(h);
		s = xcalloc(1, sizeof(*s) + strlen(version->key) + 1);
		strcpy(s->key, version->key);
		map_set(&h->streams, s->key, s);
	}
	s->served = now_monotonic();
	add(s, version);
	pthread_mutex_unlock(&h->lock);
}

void history_note(struct history *h, struct object *version)
{
	struct stream *s;

	pthread_mutex_lock(&h->lock);
	forget_old(h);
	s = map_get(&h->streams, version->key);
	if (s)
		add(s, version);
	pthread_mutex_unlock(&h->lock);
}

void history_own(struct history *h, struct object *version, const char *from)
{
	struct stream *s;
	struct version *v;

	pthread_mutex_lock(&h->lock);
	s = map_get(&h->streams, version->key);
	v = s ? add(s, version) : NULL;
	if (v && !v->from)
		v->from = xstrdup(from);
	pthread_mutex_unlock(&h->lock);
}

struct object *history_get(struct history *h, const char *key, const char *resource_version)
{
	struct object *found = NULL;
	struct stream *s;

	pthread_mutex_lock(&h->lock);
	s = map_get(&h->streams, key);
	for (size_t i = 0; s && i < s->count; i++)
		if (streq(s->versions[i].object->resource_version, resource_version))
			found = object_ref(s->versions[i].object);
	pthread_mutex_unlock(&h->lock);
	return found;
}

/* What is kept after `from` and up to `to`, copied. 0 where `from` isn't among it. */
static size_t copy_since(struct history *h, const char *key, const char *from,
	const struct object *to, struct version ret[VERSIONS])
{
	struct stream *s;
	size_t n = 0;

	pthread_mutex_lock(&h->lock);
	s = map_get(&h->streams, key);
	for (size_t i = 0; s && i < s->count; i++) {
		const struct version *v = &s->versions[i];

		if (n == 0 && !streq(v->object->resource_version, from))
			continue;
		if (rv_compare(v->object->resource_version, to->resource_version) > 0)
			break;
		ret[n++] =
			(struct version){object_ref(v->object), v->from ? xstrdup(v->from) : NULL};
	}
	pthread_mutex_unlock(&h->lock);
	return n;
}

static bool step_is_ours(const struct version *before, const struct version *v)
{
	_cleanup_json_ json_t *older = NULL, *newer = NULL;

	/* Ours, and made on the very version before it: nobody's came between. */
	if (v->from)
		return streq(v->from, before->object->resource_version);
	older = object_parse(before->object);
	newer = object_parse(v->object);
	return patch_is_background(older, newer);
}

bool history_is_ours(struct history *h, const char *key, const char *from, struct object *to)
{
	struct version versions[VERSIONS] = {0};
	size_t n;
	bool ours;

	if (streq(from, to->resource_version))
		return true;
	n = copy_since(h, key, from, to, versions);
	ours = n > 0 && streq(versions[n - 1].object->resource_version, to->resource_version);
	for (size_t i = 1; ours && i < n; i++)
		ours = step_is_ours(&versions[i - 1], &versions[i]);
	for (size_t i = 0; i < n; i++)
		version_clear(&versions[i]);
	return ours;
}
