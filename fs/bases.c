#include "fs/bases.h"

#include "client/idmap.h"

#include <pthread.h>

#define READERS_MAX  1024
#define READER_FILES 32
#define WHO_MAX	     1024
#define WHO_NS	     (10 * NSEC_PER_MSEC) /* a thread's number isn't another's so soon */
#define PRUNE_NS     (60 * NSEC_PER_SEC)  /* those that ended are forgotten so often */

struct file_base {
	uint64_t slot; /* 0: free */
	struct base base;
};

struct reader {
	struct process_id who;
	uint64_t used;
	struct file_base files[READER_FILES];
};

struct who {
	struct process_id id;
	int64_t asked; /* monotonic ns */
};

struct bases {
	pthread_mutex_t lock;
	struct idmap readers; /* lock; tgid -> struct reader */
	struct idmap who;     /* lock; tid -> struct who */
	uint64_t clock;	      /* lock */
	int64_t pruned;	      /* lock; monotonic ns */
};

struct bases *bases_new(void)
{
	struct bases *b = xcalloc(1, sizeof(*b));

	pthread_mutex_init(&b->lock, NULL);
	return b;
}

void base_release(struct base *b)
{
	object_unref(b->version);
	json_decref(b->text);
	*b = (struct base){0};
}

static void reader_free(struct reader *r)
{
	for (size_t i = 0; i < READER_FILES; i++)
		base_release(&r->files[i].base);
	free(r);
}

void bases_free(struct bases *b)
{
	if (!b)
		return;
	idmap_foreach(&b->readers, e) reader_free(e->value);
	idmap_foreach(&b->who, e) free(e->value);
	idmap_release(&b->readers);
	idmap_release(&b->who);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

struct process_id bases_who(struct bases *b, pid_t tid)
{
	struct process_id id = {0};
	struct who *w;

	if (tid == 0)
		return id;
	pthread_mutex_lock(&b->lock);
	w = idmap_get(&b->who, tid);
	if (w && now_monotonic() - w->asked < WHO_NS) {
		id = w->id;
		w->asked = now_monotonic();
	}
	pthread_mutex_unlock(&b->lock);
	if (id.tgid || !process_identify(tid, &id))
		return id;
	pthread_mutex_lock(&b->lock);
	if (b->who.count >= WHO_MAX) {
		idmap_foreach(&b->who, e) free(e->value);
		idmap_release(&b->who);
	}
	w = idmap_get(&b->who, tid);
	if (!w) {
		w = xcalloc(1, sizeof(*w));
		idmap_set(&b->who, tid, w);
	}
	*w = (struct who){id, now_monotonic()};
	pthread_mutex_unlock(&b->lock);
	return id;
}

/* b->lock held. */
static void forget(struct bases *b, struct reader *r)
{
	idmap_del(&b->readers, r->who.tgid);
	reader_free(r);
}

/* Those that ended; where there are too many, also the one that read least lately. b->lock held. */
static void prune(struct bases *b)
{
	struct reader *oldest = NULL;
	_cleanup_free_ struct reader **dead = xcalloc(b->readers.count, sizeof(*dead));
	size_t n = 0;

	b->pruned = now_monotonic();
	idmap_foreach(&b->readers, e)
	{
		struct reader *r = e->value;

		if (!process_is_alive(&r->who))
			dead[n++] = r;
		else if (!oldest || r->used < oldest->used)
			oldest = r;
	}
	if (n == 0 && oldest && b->readers.count >= READERS_MAX)
		dead[n++] = oldest;
	for (size_t i = 0; i < n; i++)
		forget(b, dead[i]);
}

/* b->lock held. NULL where the process isn't known and not to be made known. */
static struct reader *reader_get(struct bases *b, const struct process_id *who, bool make)
{
	struct reader *r = idmap_get(&b->readers, who->tgid ? who->tgid : (pid_t)-1);

	if (r && !process_id_equal(&r->who, who)) {
		forget(b, r); /* another one that had the number */
		r = NULL;
	}
	if (!r && make) {
		if (b->readers.count >= READERS_MAX || now_monotonic() - b->pruned > PRUNE_NS)
			prune(b);
		r = xcalloc(1, sizeof(*r));
		r->who = *who;
		idmap_set(&b->readers, who->tgid, r);
	}
	if (r)
		r->used = ++b->clock;
	return r;
}

/* The slot's base; else, if `make`, a free one or the one used least lately. */
static struct base *base_get(struct reader *r, uint64_t slot, bool make)
{
	struct file_base *oldest = &r->files[0];

	for (size_t i = 0; i < READER_FILES; i++) {
		if (r->files[i].slot == slot)
			return &r->files[i].base;
		if (r->files[i].base.stamp < oldest->base.stamp)
			oldest = &r->files[i];
	}
	if (!make)
		return NULL;
	base_release(&oldest->base);
	oldest->slot = slot;
	return &oldest->base;
}

/* b->lock held. The caller releases *ret_old outside it. */
static void base_set(struct bases *b, struct base *base, struct object *version, json_t *text,
	struct base *ret_old)
{
	*ret_old = *base;
	*base = (struct base){object_ref(version), json_incref(text), ++b->clock};
}

void bases_note(
	struct bases *b, const struct process_id *who, uint64_t slot, struct object *version)
{
	_cleanup_base_ struct base old = {0};

	if (!who->tgid)
		return;
	pthread_mutex_lock(&b->lock);
	base_set(b, base_get(reader_get(b, who, true), slot, true), version, NULL, &old);
	pthread_mutex_unlock(&b->lock);
}

bool bases_find(struct bases *b, const struct process_id *who, uint64_t slot, struct base *ret)
{
	struct base *base = NULL;
	struct reader *r;

	pthread_mutex_lock(&b->lock);
	r = reader_get(b, who, false);
	if (r)
		base = base_get(r, slot, false);
	if (base)
		*ret = (struct base){
			object_ref(base->version), json_incref(base->text), base->stamp};
	pthread_mutex_unlock(&b->lock);
	return base;
}

uint64_t bases_saved(struct bases *b, const struct process_id *who, uint64_t slot, json_t *text,
	struct object *version)
{
	_cleanup_base_ struct base old = {0};
	struct base *base = NULL;
	struct reader *r;
	uint64_t stamp;

	pthread_mutex_lock(&b->lock);
	r = reader_get(b, who, false);
	if (r)
		base = base_get(r, slot, false);
	if (base)
		base_set(b, base, version, text, &old);
	stamp = ++b->clock;
	pthread_mutex_unlock(&b->lock);
	return stamp;
}
