#include "client/store.h"

#include "client/map.h"

#include <pthread.h>

struct entry {
	struct object *object;
	unsigned list;
};

struct namespace_entry {
	struct store_namespace ns;
	unsigned list;
	char name[];
};

#define GRAVES 256

/* An object that was deleted, as long as something of it may still come late. */
struct grave {
	char *uid;
	char *resource_version; /* of the deletion; NULL: not known, so later than anything */
};

struct store {
	store_listener *listener;
	void *arg;
	pthread_mutex_t lock;
	struct map streams;	     /* lock; key -> struct entry */
	struct map namespaces;	     /* lock; name -> struct namespace_entry */
	size_t bytes;		     /* lock; of all texts */
	unsigned lists;		     /* lock */
	struct grave graves[GRAVES]; /* lock; a ring */
	size_t next_grave;	     /* lock */
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
	map_foreach(&s->streams, e) entry_free(e->value);
	map_foreach(&s->namespaces, e) free(e->value);
	map_release(&s->streams);
	map_release(&s->namespaces);
	for (size_t i = 0; i < GRAVES; i++) {
		free(s->graves[i].uid);
		free(s->graves[i].resource_version);
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

unsigned store_list_begin(struct store *s)
{
	unsigned list;

	pthread_mutex_lock(&s->lock);
	list = ++s->lists;
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
}

/* s->lock held. Whether the object is one that was deleted after this version of it. */
static bool is_buried(const struct store *s, const struct object *o)
{
	for (size_t i = 0; i < GRAVES; i++) {
		const struct grave *g = &s->graves[i];

		if (g->uid && streq(g->uid, o->uid) &&
			(!g->resource_version ||
				rv_compare(o->resource_version, g->resource_version) <= 0))
			return true;
	}
	return false;
}

void store_put(struct store *s, struct object *o, unsigned list)
{
	_cleanup_object_ struct object *told = object_ref(o);
	enum store_event event = STORE_MODIFIED;
	struct object *old = NULL;
	struct entry *e;
	bool changed = true;

	pthread_mutex_lock(&s->lock);
	e = map_get(&s->streams, o->key);
	if (!e && list == 0 && is_buried(s, o)) {
		old = o;
		changed = false;
	} else if (!e) {
		event = STORE_ADDED;
		e = xcalloc(1, sizeof(*e));
		map_set(&s->streams, o->key, e);
		e->object = o;
		s->bytes += o->len;
	} else if (is_newer(o, e->object)) {
		old = e->object;
		map_set(&s->streams, o->key, e); /* the old key goes with the old object */
		e->object = o;
		s->bytes += o->len - old->len;
	} else {
		old = o;
		changed = false;
	}
	if (e && list)
		e->list = list;
	pthread_mutex_unlock(&s->lock);
	object_unref(old);
	if (changed)
		s->listener(s->arg, told->key, event, told);
}

void store_delete(struct store *s, const char *key, const char *resource_version)
{
	struct entry *e;

	pthread_mutex_lock(&s->lock);
	e = map_get(&s->streams, key);
	if (e && resource_version && rv_compare(e->object->resource_version, resource_version) > 0)
		e = NULL;
	if (e) {
		map_del(&s->streams, key);
		s->bytes -= e->object->len;
		bury(s, e->object, resource_version);
	}
	pthread_mutex_unlock(&s->lock);
	if (e)
		s->listener(s->arg, e->object->key, STORE_DELETED, e->object);
	entry_free(e);
}

static bool in_namespace(const char *key, const char *namespace)
{
	size_t n;

	if (!namespace)
		return true;
	n = strlen(namespace);
	return strncmp(key, namespace, n) == 0 && key[n] == '/';
}

/* The keys of a map that `pick` wants, copied: the caller frees each and the array. */
static char **pick_keys(struct store *s, const struct map *m,
	bool (*pick)(const struct map_entry *e, void *arg), void *arg, size_t *ret_count)
{
	char **keys;
	size_t n = 0;

	pthread_mutex_lock(&s->lock);
	keys = xcalloc(m->count, sizeof(*keys));
	map_foreach(m, e)
	{
		if (pick(e, arg))
			keys[n++] = xstrdup(e->key);
	}
	pthread_mutex_unlock(&s->lock);
	*ret_count = n;
	return keys;
}

struct sweep {
	const char *namespace;
	unsigned list;
	const char *version;
};

static bool pick_swept(const struct map_entry *e, void *arg)
{
	const struct entry *entry = e->value;
	const struct sweep *sweep = arg;

	return in_namespace(e->key, sweep->namespace) && entry->list != sweep->list &&
	       (!sweep->version ||
		       rv_compare(entry->object->resource_version, sweep->version) <= 0);
}

static void delete_picked(struct store *s, struct sweep *sweep)
{
	size_t n;
	_cleanup_free_ char **keys = pick_keys(s, &s->streams, pick_swept, sweep, &n);

	for (size_t i = 0; i < n; i++) {
		store_delete(s, keys[i], sweep->version);
		free(keys[i]);
	}
}

void store_sweep(struct store *s, const char *namespace, unsigned list, const char *list_version)
{
	struct sweep sweep = {namespace, list, list_version};

	delete_picked(s, &sweep);
}

void store_drop(struct store *s, const char *namespace)
{
	struct sweep sweep = {namespace, store_list_begin(s), NULL};

	delete_picked(s, &sweep);
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

void store_put_namespace(
	struct store *s, const char *name, const char *uid, int64_t created, unsigned list)
{
	struct namespace_entry *e;
	bool changed = false;

	pthread_mutex_lock(&s->lock);
	e = map_get(&s->namespaces, name);
	if (!e) {
		e = xcalloc(1, sizeof(*e) + strlen(name) + 1);
		strcpy(e->name, name);
		map_set(&s->namespaces, e->name, e);
		changed = true;
	}
	if (uid && !streq(e->ns.uid, uid)) {
		snprintf(e->ns.uid, sizeof(e->ns.uid), "%s", uid);
		changed = true;
	}
	e->ns.created = created;
	if (list)
		e->list = list;
	pthread_mutex_unlock(&s->lock);
	if (changed)
		s->listener(s->arg, name, STORE_ADDED, NULL);
}

void store_delete_namespace(struct store *s, const char *name)
{
	struct namespace_entry *e;

	pthread_mutex_lock(&s->lock);
	e = map_del(&s->namespaces, name);
	pthread_mutex_unlock(&s->lock);
	if (e)
		s->listener(s->arg, name, STORE_DELETED, NULL);
	free(e);
}

static bool pick_namespace(const struct map_entry *e, void *arg)
{
	return ((const struct namespace_entry *)e->value)->list != *(const unsigned *)arg;
}

void store_sweep_namespaces(struct store *s, unsigned list)
{
	size_t n;
	_cleanup_free_ char **names = pick_keys(s, &s->namespaces, pick_namespace, &list, &n);

	for (size_t i = 0; i < n; i++) {
		store_delete_namespace(s, names[i]);
		free(names[i]);
	}
}

void store_counts(struct store *s, size_t *ret_namespaces, size_t *ret_streams, size_t *ret_bytes)
{
	pthread_mutex_lock(&s->lock);
	*ret_namespaces = s->namespaces.count;
	*ret_streams = s->streams.count;
	*ret_bytes = s->bytes;
	pthread_mutex_unlock(&s->lock);
}
