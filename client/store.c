#include "client/store.h"

#include "client/map.h"

#include <errno.h>
#include <pthread.h>

struct entry {
	struct object *object;
	uint64_t list;	     /* the last one that held it */
	uint64_t heard : 63; /* when an event or an answer told of it last; 0: never */
	bool answered : 1;   /* that was an answer: no watch may ever tell of its end */
};

struct namespace_entry {
	struct store_namespace ns;
	uint64_t list;
	char name[];
};

#define GRAVES 256

/* An object that was deleted, as long as something of it may still come late. */
struct grave {
	char *uid;
	char *resource_version; /* of the deletion; NULL: not known, so later than anything */
	uint64_t heard;
};

#define SWEEPS 32

/* A whole list that was taken in: a late answer may be older than it. */
struct swept {
	char *ns; /* of one namespace; NULL: of all */
	char *version;
	uint64_t list; /* 0: none */
};

struct store {
	store_listener *listener;
	void *arg;
	pthread_mutex_t lock;
	struct map streams;	     /* lock; key -> struct entry */
	struct map uids;	     /* lock; uid -> struct entry */
	struct map namespaces;	     /* lock; name -> struct namespace_entry */
	struct map namespace_uids;   /* lock; uid -> struct namespace_entry */
	size_t bytes;		     /* lock; of all texts */
	uint64_t clock;		     /* lock; counts lists and what is told between them */
	struct grave graves[GRAVES]; /* lock; a ring */
	size_t next_grave;	     /* lock */
	uint64_t last_grave;	     /* lock; the clock of the newest */
	struct swept swept[SWEEPS];  /* lock; a ring */
	size_t next_swept;	     /* lock */
};

struct store *store_new(store_listener *listener, void *arg)
{
	struct store *s = xcalloc(1, sizeof(*s));

	s->listener = listener;
	s->arg = arg;
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

static void entry_free(struct entry *e)
{
	if (!e)
		return;
	object_unref(e->object);
	free(e);
}

void store_free(struct store *s)
{
	if (!s)
		return;
	map_foreach(&s->streams, e)
		entry_free(e->value);
	map_foreach(&s->namespaces, e)
		free(e->value);
	map_release(&s->streams);
	map_release(&s->uids);
	map_release(&s->namespaces);
	map_release(&s->namespace_uids);
	for (size_t i = 0; i < GRAVES; i++) {
		free(s->graves[i].uid);
		free(s->graves[i].resource_version);
	}
	for (size_t i = 0; i < SWEEPS; i++) {
		free(s->swept[i].ns);
		free(s->swept[i].version);
	}
	pthread_mutex_destroy(&s->lock);
	free(s);
}

struct object *store_get(struct store *s, const char *key)
{
	struct object *o = NULL;
	struct entry *e;

	pthread_mutex_lock(&s->lock);
	e = map_get(&s->streams, key);
	if (e)
		o = object_ref(e->object);
	pthread_mutex_unlock(&s->lock);
	return o;
}

static int by_key(const void *a, const void *b)
{
	return strcmp((*(struct object *const *)a)->key, (*(struct object *const *)b)->key);
}

static bool is_in(const char *key, const char *ns, const char *name)
{
	size_t n = ns ? strlen(ns) : 0;

	if (!ns)
		return true;
	return strncmp(key, ns, n) == 0 && key[n] == '/' && (!name || streq(key + n + 1, name));
}

size_t store_objects(struct store *s, const char *ns, const char *name, struct object ***ret)
{
	struct object **objects;
	size_t n = 0;

	pthread_mutex_lock(&s->lock);
	objects = xcalloc(s->streams.count + 1, sizeof(*objects));
	map_foreach(&s->streams, e) {
		struct object *o = ((const struct entry *)e->value)->object;

		if (is_in(o->key, ns, name))
			objects[n++] = object_ref(o);
	}
	pthread_mutex_unlock(&s->lock);
	qsort(objects, n, sizeof(struct object *), by_key);
	*ret = objects;
	return n;
}

void store_objects_free(struct object **objects, size_t count)
{
	for (size_t i = 0; i < count; i++)
		object_unref(objects[i]);
	free(objects);
}

uint64_t store_list_begin(struct store *s)
{
	uint64_t list;

	pthread_mutex_lock(&s->lock);
	list = ++s->clock;
	pthread_mutex_unlock(&s->lock);
	return list;
}

static bool is_newer(const struct object *o, const struct object *held)
{
	return rv_compare(o->resource_version, held->resource_version) > 0;
}

/* s->lock held. */
static void bury(struct store *s, const struct object *o, const char *resource_version)
{
	struct grave *g = &s->graves[s->next_grave++ % GRAVES];

	free(g->uid);
	free(g->resource_version);
	g->uid = xstrdup(o->uid);
	g->resource_version = resource_version ? xstrdup(resource_version) : NULL;
	g->heard = s->last_grave = ++s->clock;
}

/*
 * s->lock held. Whether the object was deleted after this version of it, as far as `list` may
 * judge.
 */
static bool is_buried(const struct store *s, const struct object *o, uint64_t list)
{
	for (size_t i = 0; i < GRAVES && s->last_grave > list; i++) {
		const struct grave *g = &s->graves[i];

		if (g->uid && g->heard > list && streq(g->uid, o->uid) &&
			(!g->resource_version ||
				rv_compare(o->resource_version, g->resource_version) <= 0))
			return true;
	}
	return false;
}

static bool in_namespace(const char *key, const char *ns)
{
	size_t n;

	if (!ns)
		return true;
	n = strlen(ns);
	return strncmp(key, ns, n) == 0 && key[n] == '/';
}

/* Where the list named no version (NULL) nothing is. */
static bool is_up_to(const struct object *o, const char *version)
{
	return version && rv_compare(o->resource_version, version) <= 0;
}

/*
 * s->lock held. Whether a list that was asked for later, and is no older, didn't have the object.
 */
static bool is_missed(const struct store *s, const struct object *o, uint64_t asked)
{
	for (size_t i = 0; i < SWEEPS; i++) {
		const struct swept *swept = &s->swept[i];

		if (swept->list > asked && in_namespace(o->key, swept->ns) &&
			is_up_to(o, swept->version))
			return true;
	}
	return false;
}

/* s->lock held. */
static void note_sweep(struct store *s, const char *ns, uint64_t list, const char *version)
{
	struct swept *swept = &s->swept[s->next_swept++ % SWEEPS];

	free(swept->ns);
	free(swept->version);
	*swept = (struct swept){ns ? xstrdup(ns) : NULL, version ? xstrdup(version) : NULL, list};
}

void store_forget_deleted(struct store *s)
{
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < SWEEPS; i++)
		s->swept[i].list = 0;
	for (size_t i = 0; i < GRAVES; i++) {
		free(steal_ptr(s->graves[i].uid));
		free(steal_ptr(s->graves[i].resource_version));
	}
	s->last_grave = 0;
	pthread_mutex_unlock(&s->lock);
}

/* s->lock held. The list has the entry. True where it is news to the list. */
static bool note_list(struct entry *e, uint64_t list)
{
	bool first = list && e->list != list;

	if (first)
		e->list = list;
	return first;
}

/* s->lock held. Whether the object takes the place of the entry's. */
static bool replaces(const struct entry *e, const struct object *o, uint64_t list)
{
	if (!list || e->heard > list)
		return is_newer(o, e->object);
	return !streq(o->resource_version, e->object->resource_version) ||
	       !streq(o->uid, e->object->uid);
}

/* s->lock held. */
static bool uid_is_taken(const struct store *s, const struct object *o)
{
	const struct entry *other = map_get(&s->uids, o->uid);

	return other && !streq(other->object->key, o->key);
}

/* s->lock held. Makes it the entry's object; what was there before, for the caller. */
static struct object *set_object(struct store *s, struct entry *e, struct object *o)
{
	struct object *old = e->object;

	if (old) {
		map_del(&s->uids, old->uid);
		s->bytes -= old->len;
	}
	o->order = ++s->clock;
	e->object = o;
	map_set(&s->streams, o->key, e); /* the old key goes with the old object */
	map_set(&s->uids, o->uid, e);
	s->bytes += o->len;
	return old;
}

/* What store_put did. */
struct put {
	struct object *left_over; /* the old object, or the new one where it changed nothing */
	enum store_event event;
	bool changed, first;
};

/* s->lock held. */
static struct put put_locked(struct store *s, struct object *o, uint64_t list, uint64_t asked)
{
	struct entry *e = map_get(&s->streams, o->key);
	struct put put = {.left_over = o, .event = e ? STORE_MODIFIED : STORE_ADDED};

	put.changed = e ? replaces(e, o, list) : !is_buried(s, o, list) && !is_missed(s, o, asked);
	if (!e && put.changed)
		e = xcalloc(1, sizeof(*e));
	if (put.changed)
		put.left_over = set_object(s, e, o);
	put.first = e && note_list(e, list);
	if (e && !list && streq(e->object->resource_version, o->resource_version)) {
		e->heard = ++s->clock;
		e->answered = asked != UINT64_MAX;
	}
	return put;
}

static int put(struct store *s, struct object *o, uint64_t list, uint64_t asked)
{
	_cleanup_object_ struct object *told = object_ref(o);
	struct put done = {.left_over = o};
	bool taken;

	pthread_mutex_lock(&s->lock);
	taken = uid_is_taken(s, o);
	if (!taken)
		done = put_locked(s, o, list, asked);
	pthread_mutex_unlock(&s->lock);
	object_unref(done.left_over);
	if (done.changed)
		s->listener(s->arg, told->key, done.event, told);
	return taken ? -EEXIST : done.first;
}

int store_put(struct store *s, struct object *o, uint64_t list)
{
	return put(s, o, list, UINT64_MAX);
}

int store_put_answer(struct store *s, struct object *o, uint64_t asked)
{
	return put(s, o, 0, asked);
}

bool store_holds(struct store *s, const char *key, const char *resource_version, bool told)
{
	struct entry *e;
	int order = -1;

	pthread_mutex_lock(&s->lock);
	e = map_get(&s->streams, key);
	if (e)
		order = rv_compare(e->object->resource_version, resource_version);
	if (order == 0 && told) {
		e->heard = ++s->clock;
		e->answered = false;
	}
	pthread_mutex_unlock(&s->lock);
	return order >= 0;
}

void store_saw(struct store *s, const char *key, uint64_t list)
{
	struct entry *e;

	pthread_mutex_lock(&s->lock);
	e = map_get(&s->streams, key);
	if (e)
		note_list(e, list);
	pthread_mutex_unlock(&s->lock);
}

/* s->lock held. Takes the entry out; it is the caller's. */
static struct entry *take_entry(struct store *s, const char *key)
{
	struct entry *e = map_del(&s->streams, key);

	if (e) {
		map_del(&s->uids, e->object->uid);
		s->bytes -= e->object->len;
	}
	return e;
}

/* The entry was taken out: tells of it and frees it. NULL is fine. */
static void tell_gone(struct store *s, struct entry *e)
{
	if (e)
		s->listener(s->arg, e->object->key, STORE_DELETED, e->object);
	entry_free(e);
}

void store_delete(struct store *s, const char *key, const char *resource_version)
{
	struct entry *e;

	pthread_mutex_lock(&s->lock);
	e = map_get(&s->streams, key);
	if (e && resource_version && rv_compare(e->object->resource_version, resource_version) > 0)
		e = NULL;
	if (e) {
		take_entry(s, key);
		bury(s, e->object, resource_version);
	}
	pthread_mutex_unlock(&s->lock);
	tell_gone(s, e);
}

void store_drop_one(struct store *s, const char *key)
{
	struct entry *e;

	pthread_mutex_lock(&s->lock);
	e = take_entry(s, key);
	pthread_mutex_unlock(&s->lock);
	tell_gone(s, e);
}

/* The keys of a map that `pick` wants, copied: the caller frees each and the array. */
static char **pick_keys(struct store *s, const struct map *m,
	bool (*pick)(const struct map_entry *e, void *arg), void *arg, size_t *ret_count)
{
	char **keys;
	size_t n = 0;

	pthread_mutex_lock(&s->lock);
	keys = xcalloc(m->count, sizeof(*keys));
	map_foreach(m, e) {
		if (pick(e, arg))
			keys[n++] = xstrdup(e->key);
	}
	pthread_mutex_unlock(&s->lock);
	*ret_count = n;
	return keys;
}

struct sweep {
	const char *ns;
	uint64_t list;
	const char *version;
};

/*
 * What was told of since isn't judged, but an answer by its version: a watch tells of its deletion.
 */
static bool is_swept(const struct entry *e, const struct sweep *sweep)
{
	return e->list != sweep->list &&
	       (e->heard <= sweep->list || (e->answered && is_up_to(e->object, sweep->version)));
}

static bool pick_swept(const struct map_entry *e, void *arg)
{
	const struct sweep *sweep = arg;

	return in_namespace(e->key, sweep->ns) && is_swept(e->value, sweep);
}

/* Deletes the key unless something was told of it since it was picked. */
static void sweep_one(struct store *s, const char *key, const struct sweep *sweep)
{
	struct entry *e;

	pthread_mutex_lock(&s->lock);
	e = map_get(&s->streams, key);
	if (e && !is_swept(e, sweep))
		e = NULL;
	if (e) {
		take_entry(s, key);
		bury(s, e->object, sweep->version);
	}
	pthread_mutex_unlock(&s->lock);
	tell_gone(s, e);
}

void store_sweep(struct store *s, const char *ns, uint64_t list, const char *list_version)
{
	struct sweep sweep = {ns, list, list_version};
	_cleanup_free_ char **keys = NULL;
	size_t n;

	pthread_mutex_lock(&s->lock);
	note_sweep(s, ns, list, list_version);
	pthread_mutex_unlock(&s->lock);
	keys = pick_keys(s, &s->streams, pick_swept, &sweep, &n);
	for (size_t i = 0; i < n; i++) {
		sweep_one(s, keys[i], &sweep);
		free(keys[i]);
	}
}

static bool pick_in_namespace(const struct map_entry *e, void *arg)
{
	return in_namespace(e->key, arg);
}

void store_drop(struct store *s, const char *ns)
{
	size_t n;
	_cleanup_free_ char **keys = pick_keys(s, &s->streams, pick_in_namespace, (void *)ns, &n);

	for (size_t i = 0; i < n; i++) {
		store_drop_one(s, keys[i]);
		free(keys[i]);
	}
}

bool store_get_namespace(struct store *s, const char *name, struct store_namespace *ret)
{
	struct namespace_entry *e;

	pthread_mutex_lock(&s->lock);
	e = map_get(&s->namespaces, name);
	if (e)
		*ret = e->ns;
	pthread_mutex_unlock(&s->lock);
	return e;
}

/* s->lock held. True when it is another one than before. */
static bool set_uid(struct store *s, struct namespace_entry *e, const char *uid)
{
	if (streq(e->ns.uid, uid))
		return false;
	if (e->ns.uid[0])
		map_del(&s->namespace_uids, e->ns.uid);
	snprintf(e->ns.uid, sizeof(e->ns.uid), "%s", uid);
	map_set(&s->namespace_uids, e->ns.uid, e);
	return true;
}

static struct namespace_entry *namespace_new(const char *name)
{
	struct namespace_entry *e = xcalloc(1, sizeof(*e) + strlen(name) + 1);

	strcpy(e->name, name);
	return e;
}

int store_put_namespace(
	struct store *s, const char *name, const char *uid, int64_t created, uint64_t list)
{
	struct namespace_entry *e, *other;
	bool changed = false, taken;

	pthread_mutex_lock(&s->lock);
	other = uid && *uid ? map_get(&s->namespace_uids, uid) : NULL;
	taken = other && !streq(other->name, name);
	e = taken ? other : map_get(&s->namespaces, name);
	if (!e) {
		e = namespace_new(name);
		map_set(&s->namespaces, e->name, e);
		changed = true;
	}
	if (!taken) {
		changed = (uid && *uid && set_uid(s, e, uid)) || changed;
		e->ns.created = created;
		if (list)
			e->list = list;
	}
	pthread_mutex_unlock(&s->lock);
	if (changed)
		s->listener(s->arg, name, STORE_ADDED, NULL);
	return taken ? -EEXIST : 0;
}

void store_delete_namespace(struct store *s, const char *name)
{
	struct namespace_entry *e;

	pthread_mutex_lock(&s->lock);
	e = map_del(&s->namespaces, name);
	if (e && e->ns.uid[0])
		map_del(&s->namespace_uids, e->ns.uid);
	pthread_mutex_unlock(&s->lock);
	if (e)
		s->listener(s->arg, name, STORE_DELETED, NULL);
	free(e);
}

json_t *store_unlisted_namespaces(struct store *s, uint64_t list)
{
	json_t *names = json_array();

	pthread_mutex_lock(&s->lock);
	map_foreach(&s->namespaces, e) {
		const struct namespace_entry *n = e->value;

		if (n->list != list)
			json_array_append_new(names, json_string(n->name));
	}
	pthread_mutex_unlock(&s->lock);
	return names;
}

json_t *store_used_namespaces(struct store *s)
{
	json_t *names = json_object(), *array = json_array();
	const char *name;
	json_t *value;

	pthread_mutex_lock(&s->lock);
	map_foreach(&s->streams, e) {
		_cleanup_free_ char *ns = object_key_namespace(e->key);

		json_object_set_new(names, ns, json_null());
	}
	pthread_mutex_unlock(&s->lock);
	json_object_foreach(names, name, value)
		json_array_append_new(array, json_string(name));
	json_decref(names);
	return array;
}

void store_counts(struct store *s, size_t *ret_namespaces, size_t *ret_streams, size_t *ret_bytes)
{
	pthread_mutex_lock(&s->lock);
	*ret_namespaces = s->namespaces.count;
	*ret_streams = s->streams.count;
	*ret_bytes = s->bytes;
	pthread_mutex_unlock(&s->lock);
}
