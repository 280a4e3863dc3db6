#include "fs/tree/mergebase.h"

#include "client/clock.h"
#include "client/log.h"
#include "client/map.h"

#include <pthread.h>
#include <stdatomic.h>

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

#define SERVED_NS	(600 * NSEC_PER_SEC) /* an editor is open so long (DESIGN.md 3) */
#define SERVED_VERSIONS 8
#define SERVED_MAX	65536 /* files */

/* What callers that can't be told were served of a file, in the order in which it was first. */
struct served {
	struct served_version {
		struct object *version;
		uint64_t stamp;
		int64_t last; /* monotonic ns */
	} versions[SERVED_VERSIONS];
	size_t count;
};

struct mergebases {
	atomic_bool met_unknown;
	pthread_mutex_t lock;
	struct idmap served;  /* lock; slot -> struct served */
	struct idmap readers; /* lock; tgid -> struct reader */
	struct idmap who;     /* lock; tid -> struct who */
	uint64_t clock;	      /* lock */
	int64_t pruned;	      /* lock; monotonic ns */
	int64_t expired;      /* lock; monotonic ns */
};

struct mergebases *mergebase_new(void)
{
	struct mergebases *b = xcalloc(1, sizeof(*b));

	pthread_mutex_init(&b->lock, NULL);
	return b;
}

void base_release(struct base *b)
{
	object_unref(b->version);
	json_decref(b->text);
	*b = (struct base){0};
}

static void served_drop(struct served *s, size_t i)
{
	object_unref(s->versions[i].version);
	memmove(s->versions + i, s->versions + i + 1, (--s->count - i) * sizeof(s->versions[0]));
}

static void served_free(struct served *s)
{
	while (s->count)
		served_drop(s, s->count - 1);
	free(s);
}

static void reader_free(struct reader *r)
{
	for (size_t i = 0; i < READER_FILES; i++)
		base_release(&r->files[i].base);
	free(r);
}

void mergebase_free(struct mergebases *b)
{
	if (!b)
		return;
	idmap_foreach(&b->readers, e)
		reader_free(e->value);
	idmap_foreach(&b->who, e)
		free(e->value);
	idmap_foreach(&b->served, e)
		served_free(e->value);
	idmap_release(&b->readers);
	idmap_release(&b->who);
	idmap_release(&b->served);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

struct process_id mergebase_who(struct mergebases *b, pid_t tid)
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
		idmap_foreach(&b->who, e)
			free(e->value);
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

/* Hidden from us; not one that we lacked a descriptor to look at. */
static bool is_untold(pid_t tid)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/status", tid);

	return tid == 0 || process_sight() == PROCESS_NO_PROC || access(path, R_OK) < 0;
}

struct process_id mergebase_caller(struct mergebases *b, pid_t tid)
{
	struct process_id id = mergebase_who(b, tid);
	bool said = process_sight() == PROCESS_NO_PROC || process_sight() == PROCESS_OUTSIDE;

	if (id.tgid || !is_untold(tid))
		return id;
	if (!atomic_exchange(&b->met_unknown, true) && !said)
		log_error("a caller can't be told from others (a pid namespace or /proc hides it): "
			  "saves "
			  "of such callers are compared with the oldest version that they were "
			  "shown");
	return id;
}

bool mergebase_met_unknown(const struct mergebases *b)
{
	return atomic_load(&b->met_unknown);
}

/* b->lock held. */
static void forget(struct mergebases *b, struct reader *r)
{
	idmap_del(&b->readers, r->who.tgid);
	reader_free(r);
}

/* Those that ended; where there are too many, also the one that read least lately. b->lock held. */
static void prune(struct mergebases *b)
{
	struct reader *oldest = NULL;
	_cleanup_free_ struct reader **dead = xcalloc(b->readers.count, sizeof(*dead));
	size_t n = 0;

	b->pruned = now_monotonic();
	idmap_foreach(&b->readers, e) {
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
static struct reader *reader_get(struct mergebases *b, const struct process_id *who, bool make)
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
static void base_set(struct mergebases *b, struct base *base, struct object *version, json_t *text,
	struct base *ret_old)
{
	*ret_old = *base;
	*base = (struct base){object_ref(version), json_incref(text), ++b->clock};
}

/* ---- callers that can't be told ---- */

/* What was served last before that time goes; true when nothing is left. */
static bool served_expire(struct served *s, int64_t before)
{
	for (size_t i = s->count; i > 0; i--)
		if (s->versions[i - 1].last < before)
			served_drop(s, i - 1);
	return s->count == 0;
}

/* b->lock held. */
static void expire_all(struct mergebases *b, int64_t before)
{
	_cleanup_free_ uint64_t *gone = xcalloc(b->served.count + 1, sizeof(*gone));
	size_t n = 0;

	idmap_foreach(&b->served, e)
		if (served_expire(e->value, before))
			gone[n++] = e->id;
	for (size_t i = 0; i < n; i++)
		served_free(idmap_del(&b->served, gone[i]));
}

/* b->lock held. Where there are too many files, those go that were served least lately. */
static void make_room(struct mergebases *b)
{
	int64_t now = now_monotonic(), age = SERVED_NS;

	if (b->served.count < SERVED_MAX && now - b->expired < PRUNE_NS)
		return;
	b->expired = now;
	expire_all(b, now - age);
	while (b->served.count > SERVED_MAX * 3 / 4) {
		age /= 2;
		expire_all(b, now - age);
	}
}

/*
 * b->lock held. The oldest stays: where there are too many, its time covers that of the next one.
 */
static void serve(struct mergebases *b, uint64_t slot, struct object *version)
{
	struct served *s;
	size_t i = 0;

	make_room(b);
	s = idmap_get(&b->served, slot);
	if (!s) {
		s = xcalloc(1, sizeof(*s));
		idmap_set(&b->served, slot, s);
	}
	served_expire(s, now_monotonic() - SERVED_NS);
	while (i < s->count && s->versions[i].version != version)
		i++;
	if (i == SERVED_VERSIONS) {
		if (s->versions[0].last < s->versions[1].last)
			s->versions[0].last = s->versions[1].last;
		served_drop(s, 1);
		i--;
	}
	if (i == s->count)
		s->versions[s->count++] =
			(struct served_version){object_ref(version), ++b->clock, 0};
	s->versions[i].last = now_monotonic();
}

bool mergebase_find_oldest(struct mergebases *b, uint64_t slot, struct base *ret)
{
	bool found = false;
	struct served *s;

	pthread_mutex_lock(&b->lock);
	s = idmap_get(&b->served, slot);
	if (s)
		found = !served_expire(s, now_monotonic() - SERVED_NS);
	if (found)
		*ret = (struct base){
			object_ref(s->versions[0].version), NULL, s->versions[0].stamp};
	pthread_mutex_unlock(&b->lock);
	return found;
}

/* ---- what is remembered ---- */

void mergebase_note(
	struct mergebases *b, const struct process_id *who, uint64_t slot, struct object *version)
{
	_cleanup_base_ struct base old = {0};

	pthread_mutex_lock(&b->lock);
	if (who->tgid)
		base_set(b, base_get(reader_get(b, who, true), slot, true), version, NULL, &old);
	else
		serve(b, slot, version);
	pthread_mutex_unlock(&b->lock);
}

bool mergebase_find(
	struct mergebases *b, const struct process_id *who, uint64_t slot, struct base *ret)
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

uint64_t mergebase_saved(struct mergebases *b, const struct process_id *who, uint64_t slot,
	json_t *text, struct object *version)
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
