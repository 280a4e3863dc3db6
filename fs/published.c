#include "fs/published.h"

#include "client/map.h"

#include <errno.h>

/* Children in the order they came, for listings that go on where they stopped. */
struct order {
	struct place {
		unsigned cookie;
		void *child; /* NULL: gone */
	} * places;
	size_t count, size, gone;
	unsigned counter;
};

struct stream {
	unsigned cookie;
	struct view *view;
};

struct namespace
{
	unsigned cookie;
	struct store_namespace server;
	int64_t mtime;
	bool listed; /* the server lists it */
	bool named;  /* found by name */
	bool ready;
	size_t count;
	struct map streams; /* name -> struct stream */
	struct order order;
	char name[];
};

struct published {
	struct object_cache *cache;
	struct journal *journal;
	pthread_mutex_t lock;  /* guards all below */
	struct map namespaces; /* name -> struct namespace */
	struct order order;
	size_t shown; /* namespaces in the root's listing */
	int64_t mtime;
	bool ready; /* every namespace is, now and later */
};

static unsigned order_add(struct order *o, void *child)
{
	if (o->count == o->size) {
		o->size = o->size ? o->size * 2 : 16;
		o->places = xrealloc(o->places, o->size * sizeof(*o->places));
	}
	o->places[o->count++] = (struct place){++o->counter, child};
	return o->counter;
}

/* The index of the first place after the cookie. */
static size_t order_after(const struct order *o, uint64_t cookie)
{
	size_t low = 0, high = o->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (o->places[middle].cookie <= cookie)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void order_del(struct order *o, unsigned cookie)
{
	size_t n = 0;

	o->places[order_after(o, cookie - 1)].child = NULL;
	if (++o->gone * 2 < o->count)
		return;
	for (size_t i = 0; i < o->count; i++)
		if (o->places[i].child)
			o->places[n++] = o->places[i];
	o->count = n;
	o->gone = 0;
}

struct published *published_new(struct object_cache *cache, struct journal *journal)
{
	struct published *p = xcalloc(1, sizeof(*p));

	p->cache = cache;
	p->journal = journal;
	p->mtime = now_realtime();
	pthread_mutex_init(&p->lock, NULL);
	return p;
}

static void namespace_free(struct namespace *n)
{
	map_foreach(&n->streams, e)
	{
		view_unref(((struct stream *)e->value)->view);
		free(e->value);
	}
	map_release(&n->streams);
	free(n->order.places);
	free(n);
}

void published_free(struct published *p)
{
	if (!p)
		return;
	map_foreach(&p->namespaces, e) namespace_free(e->value);
	map_release(&p->namespaces);
	free(p->order.places);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static bool is_ready(const struct published *p, const struct namespace *n)
{
	return p->ready || (n && n->ready);
}

/* Listed by the server; or its streams came with a watch of the whole cluster. */
static bool is_shown(const struct namespace *n)
{
	return n->listed || (!n->named && n->count > 0);
}

static int64_t bump(int64_t old)
{
	int64_t now = now_realtime();

	return now > old ? now : old + 1;
}

/* To be called around a change that may show or hide a namespace. */
static void show_changed(struct published *p, bool before, bool after)
{
	if (before == after)
		return;
	p->shown += after ? 1 : -1;
	p->mtime = bump(p->mtime);
}

static struct namespace *namespace_get(struct published *p, const char *name, bool create)
{
	struct namespace *n = map_get(&p->namespaces, name);

	if (n || !create)
		return n;
	n = xcalloc(1, sizeof(*n) + strlen(name) + 1);
	strcpy(n->name, name);
	n->cookie = order_add(&p->order, n);
	map_set(&p->namespaces, n->name, n);
	return n;
}

static void namespace_drop_unused(struct published *p, struct namespace *n)
{
	if (n->listed || n->named || n->count)
		return;
	map_del(&p->namespaces, n->name);
	order_del(&p->order, n->cookie);
	namespace_free(n);
}

void published_set_namespace(
	struct published *p, const char *name, const struct store_namespace *ns)
{
	struct namespace *n;
	bool before;

	pthread_mutex_lock(&p->lock);
	n = namespace_get(p, name, ns != NULL);
	if (n) {
		before = is_shown(n);
		n->listed = ns != NULL;
		if (ns) {
			n->server = *ns;
			if (n->mtime < ns->created)
				n->mtime = ns->created;
		} else {
			n->named = false;
			n->ready = false;
		}
		show_changed(p, before, is_shown(n));
		namespace_drop_unused(p, n);
	}
	pthread_mutex_unlock(&p->lock);
}

void published_add_named(struct published *p, const char *name)
{
	struct namespace *n;

	pthread_mutex_lock(&p->lock);
	n = namespace_get(p, name, true);
	if (!is_shown(n))
		n->named = true;
	pthread_mutex_unlock(&p->lock);
}

void published_set_ready(struct published *p, const char *namespace)
{
	struct namespace *n;

	pthread_mutex_lock(&p->lock);
	n = namespace ? namespace_get(p, namespace, false) : NULL;
	if (n)
		n->ready = true;
	else if (!namespace)
		p->ready = true;
	pthread_mutex_unlock(&p->lock);
}

bool published_is_ready(struct published *p, const char *namespace)
{
	bool ready;

	pthread_mutex_lock(&p->lock);
	ready = is_ready(p, namespace_get(p, namespace, false));
	pthread_mutex_unlock(&p->lock);
	return ready;
}

/* p->lock held. */
static struct stream *stream_get(struct published *p, const char *namespace, const char *name)
{
	struct namespace *n = namespace_get(p, namespace, false);

	return n ? map_get(&n->streams, name) : NULL;
}

struct view *published_view(struct published *p, const char *namespace, const char *stream)
{
	struct view *view = NULL;
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, namespace, stream);
	if (s)
		view = view_ref(s->view);
	pthread_mutex_unlock(&p->lock);
	return view;
}

static void namespace_touch(struct published *p, struct namespace *n, const struct view *v)
{
	if (is_ready(p, n))
		n->mtime = bump(n->mtime);
	else if (v && n->mtime < v->object->created)
		n->mtime = v->object->created;
}

/* p->lock held. Gives the place one view, or none, and hands the old one to the caller. */
static void stream_set(struct published *p, const char *namespace, const char *name, struct view *v)
{
	struct namespace *n = namespace_get(p, namespace, v != NULL);
	struct stream *s = n ? map_get(&n->streams, name) : NULL;
	bool before;

	if (!n)
		return;
	before = is_shown(n);
	if (v && s) {
		if (!streq(s->view->object->uid, v->object->uid))
			namespace_touch(p, n, v); /* deleted and made again */
		map_set(&n->streams, v->object->name, s);
		s->view = view_ref(v);
		return;
	}
	if (v) {
		s = xcalloc(1, sizeof(*s));
		s->view = view_ref(v);
		s->cookie = order_add(&n->order, s);
		map_set(&n->streams, v->object->name, s);
		n->count++;
	} else if (s) {
		map_del(&n->streams, name);
		order_del(&n->order, s->cookie);
		free(s);
		n->count--;
	}
	namespace_touch(p, n, v);
	show_changed(p, before, is_shown(n));
	namespace_drop_unused(p, n);
}

static bool is_older(const struct object *o, const struct view *shown)
{
	return o && shown && streq(o->uid, shown->object->uid) &&
	       rv_compare(o->resource_version, shown->object->resource_version) <= 0;
}

bool published_set_stream(struct published *p, const char *key, struct object *object,
	struct view **ret_old, struct view **ret_new)
{
	const char *name = strchr(key, '/') + 1;
	_cleanup_free_ char *namespace = xstrndup(key, name - 1 - key);
	bool done = false;

	while (!done) {
		struct view *old = published_view(p, namespace, name), *new = NULL;
		struct stream *s;
		bool same;

		if ((!old && !object) || is_older(object, old)) {
			view_unref(old);
			return false;
		}
		if (object) {
			same = old && streq(old->object->uid, object->uid);
			new = view_new(
				object, same ? old : NULL, now_realtime(), p->cache, p->journal);
		}
		pthread_mutex_lock(&p->lock);
		s = stream_get(p, namespace, name);
		done = (s ? s->view : NULL) == old;
		if (done)
			stream_set(p, namespace, name, new);
		pthread_mutex_unlock(&p->lock);
		if (done) {
			view_unref(old); /* the tree's own reference; the caller has another */
			*ret_old = old;
			*ret_new = new;
		} else { /* somebody else published meanwhile: look again */
			view_unref(old);
			view_unref(new);
		}
	}
	return true;
}

static void namespace_attr(
	const struct published *p, const struct namespace *n, struct tree_attr *ret)
{
	const char *uid = n->server.uid[0] ? n->server.uid : n->name;

	*ret = (struct tree_attr){.ino = tree_ino(uid, NODE_NAMESPACE, n->name, 0),
		.mtime = n->mtime,
		.nlink = is_ready(p, n) ? 2 + n->count : 1}; /* 1: nobody has counted yet */
}

static int root_attr(struct published *p, const struct tree_path *path, struct tree_attr *ret)
{
	struct namespace *n;
	int r = 0;

	pthread_mutex_lock(&p->lock);
	if (path->kind == NODE_ROOT) {
		*ret = (struct tree_attr){1, 0, p->mtime, 2 + p->shown};
	} else {
		n = namespace_get(p, path->namespace, false);
		if (n && (is_shown(n) || n->named))
			namespace_attr(p, n, ret);
		else
			r = -ENOENT;
	}
	pthread_mutex_unlock(&p->lock);
	return r;
}

int published_attr(struct published *p, const struct tree_path *path, struct tree_attr *ret)
{
	_cleanup_view_ struct view *v = NULL;

	if (path->kind <= NODE_NAMESPACE)
		return root_attr(p, path, ret);
	v = published_view(p, path->namespace, path->stream);
	return v ? view_attr(v, path->kind, path->tag, ret) : -ENOENT;
}

int published_lookup(struct published *p, const struct tree_path *directory, const char *name,
	struct tree_path *ret_path, struct tree_attr *ret_attr)
{
	struct tree_path path = *directory;
	char *target = NULL;
	int r;

	path.kind = tree_child(directory->kind, name);
	if (path.kind == NODE_KINDS) {
		switch (directory->kind) {
		case NODE_ROOT:
			path.kind = NODE_NAMESPACE;
			target = path.namespace;
			break;
		case NODE_NAMESPACE:
			path.kind = NODE_STREAM;
			target = path.stream;
			break;
		case NODE_TAGS:
			path.kind = NODE_TAG;
			target = path.tag;
			break;
		default:
			return -ENOENT;
		}
		if (strlen(name) >= NAME_SIZE)
			return -ENAMETOOLONG;
		strcpy(target, name);
	}
	r = published_attr(p, &path, ret_attr);
	if (r == 0)
		*ret_path = path;
	return r;
}

/* ---- listings: what is asked for is copied under the lock and given outside it ---- */

#define BATCH 128

struct child {
	unsigned cookie;
	struct tree_attr attr;
	struct view *view; /* of a stream */
	char name[NAME_SIZE];
};

static size_t batch_namespaces(struct published *p, uint64_t cookie, struct child *batch)
{
	size_t n = 0;

	for (size_t i = order_after(&p->order, cookie); i < p->order.count && n < BATCH; i++) {
		struct namespace *child = p->order.places[i].child;

		if (!child || !is_shown(child))
			continue;
		batch[n].cookie = child->cookie;
		namespace_attr(p, child, &batch[n].attr);
		strcpy(batch[n].name, child->name);
		n++;
	}
	return n;
}

static size_t batch_streams(
	struct published *p, const char *namespace, uint64_t cookie, struct child *batch)
{
	struct namespace *parent = namespace_get(p, namespace, false);
	size_t n = 0;

	if (!parent)
		return 0;
	for (size_t i = order_after(&parent->order, cookie); i < parent->order.count && n < BATCH;
		i++) {
		struct stream *child = parent->order.places[i].child;

		if (!child || strlen(child->view->object->name) >= NAME_SIZE)
			continue;
		batch[n].cookie = child->cookie;
		batch[n].view = view_ref(child->view);
		strcpy(batch[n].name, child->view->object->name);
		n++;
	}
	return n;
}

static size_t batch_get(struct published *p, const struct tree_path *directory, uint64_t cookie,
	struct child *batch)
{
	size_t n;

	pthread_mutex_lock(&p->lock);
	if (directory->kind == NODE_ROOT)
		n = batch_namespaces(p, cookie, batch);
	else
		n = batch_streams(p, directory->namespace, cookie, batch);
	pthread_mutex_unlock(&p->lock);
	return n;
}

static int list_objects(struct published *p, const struct tree_path *directory, uint64_t cookie,
	published_fn *fn, void *arg)
{
	_cleanup_free_ struct child *batch = xcalloc(BATCH, sizeof(*batch));
	struct tree_path path = *directory;
	bool stop = false;
	size_t n;

	path.kind = directory->kind == NODE_ROOT ? NODE_NAMESPACE : NODE_STREAM;
	do {
		n = batch_get(p, directory, cookie, batch);
		for (size_t i = 0; i < n; i++) {
			struct child *c = &batch[i];

			strcpy(path.kind == NODE_STREAM ? path.stream : path.namespace, c->name);
			if (c->view && !stop)
				view_attr(c->view, NODE_STREAM, "", &c->attr);
			stop = stop || fn(arg, c->name, c->cookie, &path, &c->attr);
			view_unref(steal_ptr(c->view));
			cookie = c->cookie;
		}
	} while (n == BATCH && !stop);
	return 0;
}

static int list_tags(struct view *v, const struct tree_path *directory, uint64_t cookie,
	published_fn *fn, void *arg)
{
	const struct view_index *x = view_index(v);
	struct tree_path path = *directory;
	struct tree_attr attr;

	path.kind = NODE_TAG;
	for (size_t i = 0; i < x->ntags; i++) {
		if (x->tags[i].cookie <= cookie)
			continue;
		strcpy(path.tag, x->tags[i].name);
		view_attr(v, NODE_TAG, path.tag, &attr);
		if (fn(arg, path.tag, x->tags[i].cookie, &path, &attr))
			break;
	}
	return 0;
}

static int list_fixed(struct view *v, const struct tree_path *directory, uint64_t cookie,
	published_fn *fn, void *arg)
{
	struct tree_path path = *directory;
	struct tree_attr attr;

	for (enum node_kind kind = NODE_ROOT + 1; kind < NODE_KINDS; kind++) {
		const struct tree_node *node = &tree_nodes[kind];

		if (node->parent != directory->kind || !node->name || node->hidden ||
			kind <= cookie)
			continue;
		path.kind = kind;
		if (view_attr(v, kind, path.tag, &attr) < 0)
			continue;
		if (fn(arg, node->name, kind, &path, &attr))
			break;
	}
	return 0;
}

int published_list(struct published *p, const struct tree_path *directory, uint64_t cookie,
	published_fn *fn, void *arg)
{
	_cleanup_view_ struct view *v = NULL;

	if (directory->kind == NODE_ROOT || directory->kind == NODE_NAMESPACE)
		return list_objects(p, directory, cookie, fn, arg);
	v = published_view(p, directory->namespace, directory->stream);
	if (!v)
		return -ENOENT;
	if (directory->kind == NODE_TAGS)
		return list_tags(v, directory, cookie, fn, arg);
	return list_fixed(v, directory, cookie, fn, arg);
}
