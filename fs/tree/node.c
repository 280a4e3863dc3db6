#include "fs/tree/node.h"

#include "client/map.h"

#include <pthread.h>

/* The nodes of one namespace. */
struct group {
	struct node *first;
	char namespace[];
};

struct node {
	uint64_t id, ino, lookups;
	struct node *next_id, *next_ino; /* in their buckets */
	enum kind kind;
	char *names;	       /* namespace, stream, tag: three strings */
	struct snapshot *last; /* it showed before it vanished (node_keep); NULL */
	struct group *group;
	struct node *next, **link; /* in the group */
};

struct node_table {
	pthread_mutex_t lock;	       /* guards all below */
	struct node **by_id, **by_ino; /* `size` buckets each */
	struct map groups;	       /* namespace -> struct group */
	size_t size, count;
	atomic_uint_fast64_t last_id;
};

static struct node **id_bucket(struct node_table *t, uint64_t id)
{
	return &t->by_id[id & (t->size - 1)];
}

static struct node **ino_bucket(struct node_table *t, uint64_t ino)
{
	return &t->by_ino[ino & (t->size - 1)];
}

static void node_add(struct node_table *t, struct node *n)
{
	struct node **id = id_bucket(t, n->id), **ino = ino_bucket(t, n->ino);

	n->next_id = *id;
	*id = n;
	n->next_ino = *ino;
	*ino = n;
}

static void node_free(struct node *n)
{
	snapshot_unref(n->last);
	free(n->names);
	free(n);
}

static void grow(struct node_table *t)
{
	struct node **old = t->by_id;
	size_t size = t->size;

	t->size *= 2;
	free(t->by_ino);
	t->by_id = xcalloc(t->size, sizeof(*t->by_id));
	t->by_ino = xcalloc(t->size, sizeof(*t->by_ino));
	for (size_t i = 0; i < size; i++) {
		for (struct node *n = old[i], *next; n; n = next) {
			next = n->next_id;
			node_add(t, n);
		}
	}
	free(old);
}

static void leave_group(struct node_table *t, struct node *n)
{
	struct group *g = n->group;

	*n->link = n->next;
	if (n->next)
		n->next->link = n->link;
	n->group = NULL;
	if (g->first)
		return;
	map_del(&t->groups, g->namespace);
	free(g);
}

static void join_group(struct node_table *t, struct node *n, const char *namespace)
{
	struct group *g = map_get(&t->groups, namespace);

	if (!g) {
		g = xcalloc(1, sizeof(*g) + strlen(namespace) + 1);
		strcpy(g->namespace, namespace);
		map_set(&t->groups, g->namespace, g);
	}
	n->group = g;
	n->next = g->first;
	n->link = &g->first;
	if (n->next)
		n->next->link = &n->next;
	g->first = n;
}

static void set_path(struct node_table *t, struct node *n, const struct layout_path *path)
{
	size_t ns = strlen(path->namespace) + 1, stream = strlen(path->stream) + 1;
	size_t tag = strlen(path->tag) + 1;

	n->kind = path->kind;
	n->names = xrealloc(n->names, ns + stream + tag);
	memcpy(n->names, path->namespace, ns);
	memcpy(n->names + ns, path->stream, stream);
	memcpy(n->names + ns + stream, path->tag, tag);
	if (n->group && streq(n->group->namespace, path->namespace))
		return;
	if (n->group)
		leave_group(t, n);
	join_group(t, n, path->namespace);
}

static struct node *node_new(struct node_table *t, const struct layout_path *path, uint64_t ino)
{
	struct node *n = xcalloc(1, sizeof(*n));

	n->id = ++t->last_id; /* which is how many there were */
	n->ino = ino;
	set_path(t, n, path);
	if (++t->count > t->size)
		grow(t);
	node_add(t, n);
	return n;
}

struct node_table *node_table_new(void)
{
	struct node_table *t = xcalloc(1, sizeof(*t));
	struct layout_path root = {.kind = KIND_ROOT};

	pthread_mutex_init(&t->lock, NULL);
	t->size = 1024;
	t->by_id = xcalloc(t->size, sizeof(*t->by_id));
	t->by_ino = xcalloc(t->size, sizeof(*t->by_ino));
	node_new(t, &root, NODE_ID_ROOT)->lookups = 1;
	return t;
}

void node_table_free(struct node_table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->size; i++) {
		for (struct node *n = t->by_id[i], *next; n; n = next) {
			next = n->next_id;
			node_free(n);
		}
	}
	map_foreach(&t->groups, e) free(e->value);
	map_release(&t->groups);
	free(t->by_id);
	free(t->by_ino);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static struct node *by_id(struct node_table *t, uint64_t id)
{
	struct node *n = *id_bucket(t, id);

	while (n && n->id != id)
		n = n->next_id;
	return n;
}

static struct node *by_ino(struct node_table *t, uint64_t ino)
{
	struct node *n = *ino_bucket(t, ino);

	while (n && n->ino != ino)
		n = n->next_ino;
	return n;
}

static void node_remove(struct node_table *t, struct node *n)
{
	struct node **p;

	for (p = id_bucket(t, n->id); *p != n; p = &(*p)->next_id)
		;
	*p = n->next_id;
	for (p = ino_bucket(t, n->ino); *p != n; p = &(*p)->next_ino)
		;
	*p = n->next_ino;
	leave_group(t, n);
	t->count--;
	node_free(n);
}

uint64_t node_lookup(struct node_table *t, const struct layout_path *path, uint64_t ino)
{
	struct node *n;
	uint64_t id;

	pthread_mutex_lock(&t->lock);
	n = by_ino(t, ino);
	if (!n)
		n = node_new(t, path, ino);
	n->lookups++;
	id = n->id;
	pthread_mutex_unlock(&t->lock);
	return id;
}

void node_forget(struct node_table *t, uint64_t id, uint64_t count)
{
	struct node *n;

	pthread_mutex_lock(&t->lock);
	n = by_id(t, id);
	if (n && id != NODE_ID_ROOT) {
		n->lookups -= count < n->lookups ? count : n->lookups;
		if (n->lookups == 0)
			node_remove(t, n);
	}
	pthread_mutex_unlock(&t->lock);
}

static void get_path(const struct node *n, struct layout_path *ret)
{
	const char *stream = n->names + strlen(n->names) + 1;

	ret->kind = n->kind;
	strcpy(ret->namespace, n->names);
	strcpy(ret->stream, stream);
	strcpy(ret->tag, stream + strlen(stream) + 1);
}

bool node_get(struct node_table *t, uint64_t id, struct layout_path *ret_path, uint64_t *ret_ino)
{
	struct node *n;

	pthread_mutex_lock(&t->lock);
	n = by_id(t, id);
	if (n) {
		get_path(n, ret_path);
		*ret_ino = n->ino;
	}
	pthread_mutex_unlock(&t->lock);
	return n;
}

void node_set_path(struct node_table *t, uint64_t ino, const struct layout_path *path)
{
	struct node *n;

	pthread_mutex_lock(&t->lock);
	n = by_ino(t, ino);
	if (n)
		set_path(t, n, path);
	pthread_mutex_unlock(&t->lock);
}

uint64_t node_find(struct node_table *t, uint64_t ino)
{
	struct node *n;
	uint64_t id;

	pthread_mutex_lock(&t->lock);
	n = by_ino(t, ino);
	id = n ? n->id : 0;
	pthread_mutex_unlock(&t->lock);
	return id;
}

void node_foreach(struct node_table *t, const char *namespace, node_fn *fn, void *arg)
{
	struct layout_path path;
	const struct group *g;

	pthread_mutex_lock(&t->lock);
	g = map_get(&t->groups, namespace);
	for (const struct node *n = g ? g->first : NULL; n; n = n->next) {
		get_path(n, &path);
		fn(arg, &path, n->ino);
	}
	pthread_mutex_unlock(&t->lock);
}

void node_keep(struct node_table *t, uint64_t ino, struct snapshot *last)
{
	struct node *n;

	pthread_mutex_lock(&t->lock);
	n = by_ino(t, ino);
	if (n && !n->last)
		n->last = snapshot_ref(last);
	pthread_mutex_unlock(&t->lock);
}

struct snapshot *node_last(struct node_table *t, uint64_t ino)
{
	struct snapshot *last;
	struct node *n;

	pthread_mutex_lock(&t->lock);
	n = by_ino(t, ino);
	last = n ? snapshot_ref_or_null(n->last) : NULL;
	pthread_mutex_unlock(&t->lock);
	return last;
}

size_t node_count(struct node_table *t)
{
	size_t count;

	pthread_mutex_lock(&t->lock);
	count = t->count;
	pthread_mutex_unlock(&t->lock);
	return count;
}

const atomic_uint_fast64_t *node_made(struct node_table *t)
{
	return &t->last_id;
}
