#include "fs/bases.h"

#include "client/idmap.h"
#include "fs/process.h"

#include <pthread.h>

#define READERS_MAX  1024
#define READER_FILES 32

struct base {
	uint64_t slot; /* 0: free */
	uint64_t used;
	struct object *version;
	json_t *text; /* or NULL: what the version shows */
};

struct reader {
	pid_t tid;
	uint64_t used;
	struct base files[READER_FILES];
};

struct bases {
	pthread_mutex_t lock;
	struct idmap readers; /* lock; tid -> struct reader */
	uint64_t clock;	      /* lock */
};

struct bases *bases_new(void)
{
	struct bases *b = xcalloc(1, sizeof(*b));

	pthread_mutex_init(&b->lock, NULL);
	return b;
}

static void base_clear(struct base *base)
{
	object_unref(base->version);
	json_decref(base->text);
	*base = (struct base){0};
}

static void reader_free(struct reader *r)
{
	for (size_t i = 0; i < READER_FILES; i++)
		base_clear(&r->files[i]);
	free(r);
}

void bases_free(struct bases *b)
{
	if (!b)
		return;
	idmap_foreach(&b->readers, e) reader_free(e->value);
	idmap_release(&b->readers);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

/* Those that ended; where there are none, the one that read least lately. b->lock held. */
static void make_room(struct bases *b)
{
	struct reader *oldest = NULL;
	_cleanup_free_ struct reader **dead = xcalloc(b->readers.count, sizeof(*dead));
	size_t n = 0;

	idmap_foreach(&b->readers, e)
	{
		struct reader *r = e->value;

		if (!process_is_alive(r->tid))
			dead[n++] = r;
		else if (!oldest || r->used < oldest->used)
			oldest = r;
	}
	if (n == 0 && oldest)
		dead[n++] = oldest;
	for (size_t i = 0; i < n; i++) {
		idmap_del(&b->readers, dead[i]->tid);
		reader_free(dead[i]);
	}
}

static struct reader *reader_get(struct bases *b, pid_t tid)
{
	struct reader *r = idmap_get(&b->readers, tid);

	if (!r) {
		if (b->readers.count >= READERS_MAX)
			make_room(b);
		r = xcalloc(1, sizeof(*r));
		r->tid = tid;
		idmap_set(&b->readers, tid, r);
	}
	r->used = ++b->clock;
	return r;
}

/* The slot's base; else, if `make`, a free one or the one used least lately. */
static struct base *base_get(struct bases *b, struct reader *r, uint64_t slot, bool make)
{
	struct base *oldest = &r->files[0];

	for (size_t i = 0; i < READER_FILES; i++) {
		if (r->files[i].slot == slot)
			return &r->files[i];
		if (r->files[i].used < oldest->used)
			oldest = &r->files[i];
	}
	if (!make)
		return NULL;
	base_clear(oldest);
	oldest->slot = slot;
	return oldest;
}

void bases_note(struct bases *b, pid_t tid, uint64_t slot, struct object *version)
{
	struct object *old;
	struct base *base;
	json_t *old_text;

	if (tid == 0)
		return;
	pthread_mutex_lock(&b->lock);
	base = base_get(b, reader_get(b, tid), slot, true);
	old = base->version;
	old_text = base->text;
	base->version = object_ref(version);
	base->text = NULL;
	base->used = ++b->clock;
	pthread_mutex_unlock(&b->lock);
	object_unref(old);
	json_decref(old_text);
}

struct search {
	struct bases *bases;
	uint64_t slot;
	uint64_t newest; /* of several threads', the last one to look */
	struct base *found;
};

/* bases->lock held. */
static bool look(void *arg, pid_t tid)
{
	struct search *s = arg;
	struct reader *r = idmap_get(&s->bases->readers, tid);
	struct base *base = r ? base_get(s->bases, r, s->slot, false) : NULL;

	if (base && base->used > s->newest) {
		s->newest = base->used;
		s->found = base;
	}
	return false;
}

static struct base *find(struct bases *b, pid_t tid, uint64_t slot)
{
	struct search s = {.bases = b, .slot = slot};

	look(&s, tid);
	process_threads(tid, look, &s);
	return s.found;
}

bool bases_find(
	struct bases *b, pid_t tid, uint64_t slot, struct object **ret_version, json_t **ret_text)
{
	struct base *base;

	if (tid == 0)
		return false;
	pthread_mutex_lock(&b->lock);
	base = find(b, tid, slot);
	if (base) {
		*ret_version = object_ref(base->version);
		*ret_text = json_incref(base->text);
	}
	pthread_mutex_unlock(&b->lock);
	return base;
}

void bases_saved(struct bases *b, pid_t tid, uint64_t slot, json_t *text, struct object *version)
{
	struct object *old = NULL;
	json_t *old_text = NULL;
	struct base *base;

	if (tid == 0)
		return;
	pthread_mutex_lock(&b->lock);
	base = find(b, tid, slot);
	if (base) {
		old = base->version;
		old_text = base->text;
		base->version = object_ref(version);
		base->text = json_incref(text);
		base->used = ++b->clock;
	}
	pthread_mutex_unlock(&b->lock);
	object_unref(old);
	json_decref(old_text);
}
