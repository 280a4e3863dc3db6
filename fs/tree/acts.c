#include "fs/tree/acts.h"

#include "client/map.h"

#include <pthread.h>
#include <stdatomic.h>

#define LOOK_NS	    (2 * NSEC_PER_SEC)
#define PLACE_SIZE  (16 + NAME_SIZE)
#define MAKERS_MAX  16	  /* of one directory */
#define RECORDS_MAX 65536 /* streams and processes: nothing is noted beyond that */

struct actor {
	struct process_id who;
	int64_t last;	/* of anything it did, monotonic ns */
	size_t records; /* of it */
};

struct mark {
	unsigned acts;
	char place[];
};

/* What one process did in one stream. */
struct record {
	struct record *next;
	struct actor *actor;
	struct object *seen;
	struct map marks; /* by place */
};

struct stream {
	struct record *records;
	char uid[];
};

struct acts {
	pthread_mutex_t lock;
	struct map streams;  /* lock; by uid */
	struct idmap actors; /* lock; by tgid */
	atomic_size_t count; /* of records */
};

struct acts *acts_new(void)
{
	struct acts *a = xcalloc(1, sizeof(*a));

	pthread_mutex_init(&a->lock, NULL);
	return a;
}

/* a->lock held. The caller takes it out of its stream. */
static void record_free(struct acts *a, struct record *r)
{
	struct actor *actor = r->actor;

	map_foreach(&r->marks, e)
		free(e->value);
	map_release(&r->marks);
	object_unref(r->seen);
	free(r);
	atomic_fetch_sub(&a->count, 1);
	if (--actor->records == 0)
		free(idmap_del(&a->actors, actor->who.tgid));
}

/* a->lock held. Forgets the actor's records (NULL: all of them) in the stream, if it is then empty. */
static void drop_records(struct acts *a, struct stream *s, const struct actor *actor)
{
	for (struct record **link = &s->records; *link;) {
		struct record *r = *link;

		if (actor && r->actor != actor) {
			link = &r->next;
			continue;
		}
		*link = r->next;
		record_free(a, r);
	}
}

/* a->lock held. `actor` NULL: of all. */
static void drop_actor(struct acts *a, const struct actor *actor)
{
	_cleanup_free_ struct stream **empty = xcalloc(a->streams.count + 1, sizeof(*empty));
	size_t n = 0;

	map_foreach(&a->streams, e) {
		struct stream *s = e->value;

		drop_records(a, s, actor);
		if (!s->records)
			empty[n++] = s;
	}
	while (n) {
		map_del(&a->streams, empty[--n]->uid);
		free(empty[n]);
	}
}

void acts_free(struct acts *a)
{
	if (!a)
		return;
	drop_actor(a, NULL);
	map_release(&a->streams);
	idmap_release(&a->actors);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

bool acts_any(const struct acts *a)
{
	return atomic_load(&a->count) > 0;
}

static void place_key(const struct place *place, char ret[PLACE_SIZE])
{
	snprintf(ret, PLACE_SIZE, "%d/%s", place->kind, place->kind >= KIND_TAG ? place->tag : "");
}

/* a->lock held. */
static struct record *find(struct acts *a, const struct process_id *who, const char *uid)
{
	const struct stream *s = map_get(&a->streams, uid);

	for (struct record *r = s ? s->records : NULL; r; r = r->next)
		if (process_id_equal(&r->actor->who, who))
			return r;
	return NULL;
}

static unsigned marked(const struct record *r, const struct place *place)
{
	char key[PLACE_SIZE];
	const struct mark *m;

	place_key(place, key);
	m = map_get(&r->marks, key);
	return m ? m->acts : 0;
}

static void mark(struct record *r, const struct place *place, unsigned act)
{
	char key[PLACE_SIZE];
	struct mark *m;

	place_key(place, key);
	m = map_get(&r->marks, key);
	if (!m) {
		m = xcalloc(1, sizeof(*m) + strlen(key) + 1);
		strcpy(m->place, key);
		map_set(&r->marks, m->place, m);
	}
	m->acts = act;
}

/* a->lock held. Another process that had the number is over, and what it did itself long ago. */
static void drop_over(struct acts *a, const struct process_id *who)
{
	struct actor *actor = idmap_get(&a->actors, who->tgid);

	if (actor &&
		(!process_id_equal(&actor->who, who) || now_monotonic() >= actor->last + ACTS_NS))
		drop_actor(a, actor);
}

/* a->lock held. */
static struct actor *get_actor(struct acts *a, const struct process_id *who)
{
	struct actor *actor = idmap_get(&a->actors, who->tgid);

	if (!actor) {
		actor = xcalloc(1, sizeof(*actor));
		actor->who = *who;
		idmap_set(&a->actors, who->tgid, actor);
	}
	return actor;
}

/* a->lock held. NULL: there are too many. */
static struct record *get_record(struct acts *a, const struct process_id *who, const char *uid)
{
	struct record *r = find(a, who, uid);
	struct actor *actor;
	struct stream *s;

	if (r || atomic_load(&a->count) >= RECORDS_MAX)
		return r;
	actor = get_actor(a, who);
	s = map_get(&a->streams, uid);
	if (!s) {
		s = xcalloc(1, sizeof(*s) + strlen(uid) + 1);
		strcpy(s->uid, uid);
		map_set(&a->streams, s->uid, s);
	}
	r = xcalloc(1, sizeof(*r));
	r->actor = actor;
	actor->records++;
	r->next = s->records;
	s->records = r;
	atomic_fetch_add(&a->count, 1);
	return r;
}

bool acts_note(struct acts *a, const struct process_id *who, const char *uid,
	const struct place *place, unsigned act, struct object *version)
{
	struct record *r;
	bool first;

	if (!who->tgid)
		return false;
	pthread_mutex_lock(&a->lock);
	drop_over(a, who);
	first = !acts_any(a);
	r = act == ACT_MADE ? find(a, who, uid) : get_record(a, who, uid);
	if (r) {
		if (version && !r->seen)
			r->seen = object_ref(version);
		mark(r, place, act);
		r->actor->last = now_monotonic();
	}
	pthread_mutex_unlock(&a->lock);
	return first && r;
}

static bool is_current(const struct record *r)
{
	return r && now_monotonic() < r->actor->last + ACTS_NS;
}

unsigned acts_of(
	struct acts *a, const struct process_id *who, const char *uid, const struct place *place)
{
	const struct record *r;
	unsigned acts = 0;

	if (!who->tgid || !acts_any(a))
		return 0;
	pthread_mutex_lock(&a->lock);
	r = find(a, who, uid);
	if (is_current(r))
		acts = marked(r, place);
	pthread_mutex_unlock(&a->lock);
	return acts;
}

/* Of the directory, or of the stream that it is in. */
static bool is_maker(const struct record *r, const struct place *directory)
{
	struct place stream = {.kind = KIND_STREAM};

	return is_current(r) && ((marked(r, directory) | marked(r, &stream)) & ACT_MAKER);
}

bool acts_have_maker(struct acts *a, const char *uid, const struct place *directory)
{
	const struct stream *s;
	bool have = false;

	if (!acts_any(a))
		return false;
	pthread_mutex_lock(&a->lock);
	s = map_get(&a->streams, uid);
	for (struct record *r = s ? s->records : NULL; r && !have; r = r->next)
		have = is_maker(r, directory);
	pthread_mutex_unlock(&a->lock);
	return have;
}

/* The nearest directory that copies are told by: a TAG, else the STREAM. */
static struct place copied_directory(const struct place *place)
{
	struct place dir = *place;

	if (layout_is_tag_file(place->kind))
		dir.kind = KIND_TAG;
	else if (place->kind != KIND_TAG)
		dir.kind = KIND_STREAM;
	return dir;
}

/*
 * Those of the stream, or of the directory that the place is in, that the thread descends from.
 * Returns how many.
 */
static size_t find_makers(struct acts *a, pid_t tid, const char *uid, const struct place *place,
	struct process_id ret[MAKERS_MAX])
{
	struct process_id makers[MAKERS_MAX];
	struct place dir = copied_directory(place);
	const struct stream *s;
	size_t n = 0, found = 0;

	if (!acts_any(a))
		return 0;
	pthread_mutex_lock(&a->lock);
	s = map_get(&a->streams, uid);
	for (struct record *r = s ? s->records : NULL; r && n < MAKERS_MAX; r = r->next)
		if (is_maker(r, &dir))
			makers[n++] = r->actor->who;
	pthread_mutex_unlock(&a->lock);
	for (size_t i = 0; i < n; i++)
		if (process_descends(tid, &makers[i]))
			ret[found++] = makers[i];
	return found;
}

bool acts_are_copy(struct acts *a, pid_t tid, const char *uid, const struct place *place)
{
	struct process_id makers[MAKERS_MAX];

	return find_makers(a, tid, uid, place, makers) > 0;
}

void acts_note_made(struct acts *a, pid_t tid, const char *uid, const struct place *place)
{
	struct process_id makers[MAKERS_MAX];
	size_t n = find_makers(a, tid, uid, place, makers);

	for (size_t i = 0; i < n; i++)
		acts_note(a, &makers[i], uid, place, ACT_MADE, NULL);
}

struct object *acts_seen(struct acts *a, const struct process_id *who, const char *uid)
{
	const struct record *r;
	struct object *seen = NULL;

	if (!who->tgid || !acts_any(a))
		return NULL;
	pthread_mutex_lock(&a->lock);
	r = find(a, who, uid);
	if (is_current(r) && r->seen)
		seen = object_ref(r->seen);
	pthread_mutex_unlock(&a->lock);
	return seen;
}

/* ---- what is over ---- */

/* a->lock held. Every process; the caller frees. */
static struct process_id *list_processes(struct acts *a, size_t *ret_count)
{
	struct process_id *all = xcalloc(a->actors.count + 1, sizeof(*all));
	size_t n = 0;

	idmap_foreach(&a->actors, e)
		all[n++] = ((const struct actor *)e->value)->who;
	*ret_count = n;
	return all;
}

/* Outside the lock it is asked what became of the process. */
static void look_at(struct acts *a, const struct process_id *who, int64_t now)
{
	bool alive = process_is_alive(who), stopped = process_is_stopped(who);
	struct actor *actor;

	pthread_mutex_lock(&a->lock);
	actor = idmap_get(&a->actors, who->tgid);
	if (actor && process_id_equal(&actor->who, who)) {
		if (alive && stopped)
			actor->last = now;
		else if (!alive || now >= actor->last + ACTS_NS)
			drop_actor(a, actor);
	}
	pthread_mutex_unlock(&a->lock);
}

int64_t acts_look(struct acts *a)
{
	_cleanup_free_ struct process_id *all = NULL;
	int64_t now = now_monotonic();
	size_t n;

	if (!acts_any(a))
		return INT64_MAX;
	pthread_mutex_lock(&a->lock);
	all = list_processes(a, &n);
	pthread_mutex_unlock(&a->lock);
	for (size_t i = 0; i < n; i++)
		look_at(a, &all[i], now);
	return acts_any(a) ? now + LOOK_NS : INT64_MAX;
}
