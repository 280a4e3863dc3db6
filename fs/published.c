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

/* A place that waits, or whose event is still to come. */
struct item {
	struct item *next;
	enum published_op op;
	enum node_kind kind;
	bool waits;
	uint64_t change;
	struct view *shows; /* while it waits; NULL: nothing */
	char tag[];
};

struct stream {
	unsigned cookie;
	bool shown;	    /* in the namespace's listing and count */
	struct view *view;  /* the newest; NULL: gone, but not yet shown so */
	struct item *items; /* the oldest first: of several for a place that one counts */
	struct item *last;  /* of items, or NULL: to be looked for */
	char name[];
};

struct namespace
{
	unsigned cookie;
	struct store_namespace server;
	int64_t mtime;
	bool listed;  /* the server lists it */
	bool named;   /* found by name */
	bool visible; /* in the root's listing */
	uint64_t ino; /* while it is visible: its streams may come before its uid */
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

static void item_free(struct item *i)
{
	view_unref(i->shows);
	free(i);
}

static void stream_free(struct stream *s)
{
	while (s->items) {
		struct item *i = s->items;

		s->items = i->next;
		item_free(i);
	}
	view_unref(s->view);
	free(s);
}

static void namespace_free(struct namespace *n)
{
	map_foreach(&n->streams, e) stream_free(e->value);
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
static bool is_wanted(const struct namespace *n)
{
	return n->listed || (!n->named && n->count > 0);
}

static int64_t bump(int64_t old)
{
	int64_t now = now_realtime();

	return now > old ? now : old + 1;
}

static uint64_t namespace_ino(const struct namespace *n)
{
	return tree_ino(n->server.uid[0] ? n->server.uid : n->name, NODE_NAMESPACE, n->name, 0);
}

/* p->lock held. */
static void namespace_show(struct published *p, struct namespace *n)
{
	if (n->visible == is_wanted(n))
		return;
	n->visible = !n->visible;
	n->ino = namespace_ino(n);
	p->shown += n->visible ? 1 : -1;
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
	if (n->listed || n->named || n->visible || n->streams.count)
		return;
	map_del(&p->namespaces, n->name);
	order_del(&p->order, n->cookie);
	namespace_free(n);
}

void published_begin_namespace(
	struct published *p, const char *name, const struct store_namespace *ns)
{
	struct namespace *n;

	pthread_mutex_lock(&p->lock);
	n = namespace_get(p, name, ns != NULL);
	if (n) {
		n->listed = ns != NULL;
		if (ns) {
			bool anew = n->server.uid[0] && !streq(n->server.uid, ns->uid);

			n->server = *ns;
			if (anew)
				n->ino = namespace_ino(n);
			if (n->mtime < ns->created)
				n->mtime = ns->created;
		} else {
			n->named = false;
			n->ready = false;
		}
		namespace_drop_unused(p, n);
	}
	pthread_mutex_unlock(&p->lock);
}

static void namespace_attr(
	const struct published *p, const struct namespace *n, struct tree_attr *ret);

/* p->lock held. The namespace, where it is to be shown and isn't, or the other way; else NULL. */
static struct namespace *namespace_that_differs(struct published *p, const char *name)
{
	struct namespace *n = namespace_get(p, name, false);

	return n && n->visible != is_wanted(n) ? n : NULL;
}

bool published_namespace_step(struct published *p, const char *name, struct published_step *ret)
{
	struct tree_attr attr;
	struct namespace *n;

	pthread_mutex_lock(&p->lock);
	n = namespace_that_differs(p, name);
	if (n) {
		namespace_attr(p, n, &attr);
		*ret = (struct published_step){
			.op = n->visible ? PUBLISHED_DELETE : PUBLISHED_CREATE,
			.kind = NODE_NAMESPACE,
			.place = attr.ino,
			.waits = true};
	}
	pthread_mutex_unlock(&p->lock);
	return n;
}

static bool flip_namespace(struct published *p, const char *name)
{
	struct namespace *n;
	bool differs;

	pthread_mutex_lock(&p->lock);
	n = namespace_that_differs(p, name);
	differs = n;
	if (n) {
		namespace_show(p, n);
		namespace_drop_unused(p, n);
	}
	pthread_mutex_unlock(&p->lock);
	return differs;
}

void published_set_namespace(
	struct published *p, const char *name, const struct store_namespace *ns)
{
	published_begin_namespace(p, name, ns);
	flip_namespace(p, name);
}

void published_add_named(struct published *p, const char *name)
{
	struct namespace *n;

	pthread_mutex_lock(&p->lock);
	n = namespace_get(p, name, true);
	if (!is_wanted(n) && !n->visible)
		n->named = true;
	pthread_mutex_unlock(&p->lock);
}

void published_set_ready(struct published *p, const char *namespace, bool ready)
{
	struct namespace *n;

	pthread_mutex_lock(&p->lock);
	n = namespace ? namespace_get(p, namespace, false) : NULL;
	if (n)
		n->ready = ready;
	else if (!namespace)
		p->ready = ready;
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

/* Whether the item speaks for the place: it is the place, or a directory above that comes whole. */
static bool covers(const struct item *i, enum node_kind kind, const char *tag)
{
	if (i->kind == kind && (kind < NODE_TAG || streq(i->tag, tag)))
		return true;
	if (i->op != PUBLISHED_CREATE)
		return false;
	return i->kind == NODE_STREAM ||
	       (i->kind == NODE_TAG && kind > NODE_TAG && streq(i->tag, tag));
}

/* p->lock held. What the place shows; borrowed, or NULL. */
static struct view *shown_view(const struct stream *s, enum node_kind kind, const char *tag)
{
	for (const struct item *i = s->items; i; i = i->next)
		if (i->waits && covers(i, kind, tag))
			return i->shows;
	return s->view;
}

struct view *published_view_at(struct published *p, const struct tree_path *path)
{
	struct view *view = NULL;
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, path->namespace, path->stream);
	if (s)
		view = shown_view(s, path->kind, path->tag);
	if (view)
		view_ref(view);
	pthread_mutex_unlock(&p->lock);
	return view;
}

struct view *published_view(struct published *p, const char *namespace, const char *stream)
{
	struct view *view = NULL;
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, namespace, stream);
	if (s)
		view = shown_view(s, NODE_STREAM, "");
	if (view)
		view_ref(view);
	pthread_mutex_unlock(&p->lock);
	return view;
}

/* The newest, whatever is shown. */
static struct view *newest_view(struct published *p, const char *namespace, const char *stream)
{
	struct view *view = NULL;
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, namespace, stream);
	if (s && s->view)
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

/* p->lock held. Puts the stream into its namespace's listing, or takes it out. */
static void stream_show(struct published *p, struct namespace *n, struct stream *s, bool show)
{
	if (s->shown == show)
		return;
	s->shown = show;
	if (show)
		s->cookie = order_add(&n->order, s);
	else
		order_del(&n->order, s->cookie);
	n->count += show ? 1 : -1;
	namespace_touch(p, n, s->view);
}

/* p->lock held. A stream that is gone and shown so is forgotten. */
static void stream_drop_unused(struct published *p, struct namespace *n, struct stream *s)
{
	if (s->view || s->items || s->shown)
		return;
	map_del(&n->streams, s->name);
	stream_free(s);
	namespace_drop_unused(p, n);
}

/* ---- what a new version changes ---- */

static void add_step(struct published_change *c, enum published_op op, enum node_kind kind,
	const char *tag, uint64_t place)
{
	struct published_step *step;

	if ((c->nsteps & (c->nsteps + 1)) == 0) /* grows by powers of two */
		c->steps = xrealloc(c->steps, (2 * c->nsteps + 1) * sizeof(*c->steps));
	step = &c->steps[c->nsteps++];
	*step = (struct published_step){.op = op, .kind = kind, .place = place, .waits = true};
	strcpy(step->tag, tag);
}

/* One file: it came, went, changed or didn't. `deletions` picks what is looked for. */
static void diff_file(
	struct published_change *c, enum node_kind kind, const char *tag, bool deletions)
{
	struct tree_attr before, after;
	bool was = c->old && view_stamp(c->old, kind, tag, &before) == 0;
	bool is = c->new &&view_stamp(c->new, kind, tag, &after) == 0;
	bool same = was && is && before.ino == after.ino;

	if (deletions && was && !same)
		add_step(c, PUBLISHED_DELETE, kind, tag, before.ino);
	else if (!deletions && is && !same)
		add_step(c, PUBLISHED_CREATE, kind, tag, after.ino);
	else if (!deletions && same && before.mtime != after.mtime)
		add_step(c, PUBLISHED_WRITE, kind, tag, after.ino);
}

static bool same_tag(struct view *a, struct view *b, const char *tag)
{
	struct tree_attr x, y;

	return a && b && view_attr(a, NODE_TAG, tag, &x) == 0 &&
	       view_attr(b, NODE_TAG, tag, &y) == 0 && x.ino == y.ino;
}

static void diff_deleted_tags(struct published_change *c)
{
	const struct view_index *x = view_index(c->old);

	for (size_t i = 0; i < x->ntags; i++) {
		const char *tag = x->tags[i].name;
		struct tree_attr attr;

		for (enum node_kind kind = NODE_TAG_SPEC; kind <= NODE_TAG_IMAGE; kind++)
			diff_file(c, kind, tag, true);
		if (!same_tag(c->old, c->new, tag) && view_attr(c->old, NODE_TAG, tag, &attr) == 0)
			add_step(c, PUBLISHED_DELETE, NODE_TAG, tag, attr.ino);
	}
}

static void diff_tags(struct published_change *c)
{
	const struct view_index *x = view_index(c->new);

	for (size_t i = 0; i < x->ntags; i++) {
		const char *tag = x->tags[i].name;
		struct tree_attr attr;

		if (!same_tag(c->old, c->new, tag)) {
			view_attr(c->new, NODE_TAG, tag, &attr);
			add_step(c, PUBLISHED_CREATE, NODE_TAG, tag, attr.ino);
			continue;
		}
		for (enum node_kind kind = NODE_TAG_SPEC; kind <= NODE_TAG_IMAGE; kind++)
			diff_file(c, kind, tag, false);
	}
}

static void diff(struct published_change *c)
{
	struct tree_attr attr;

	if (!c->old) {
		view_attr(c->new, NODE_STREAM, "", &attr);
		add_step(c, PUBLISHED_CREATE, NODE_STREAM, "", attr.ino);
		return;
	}
	diff_deleted_tags(c);
	if (c->new) {
		diff_tags(c);
		for (enum node_kind kind = NODE_METADATA_JSON; kind <= NODE_STATUS_JSON; kind++)
			diff_file(c, kind, "", false);
		/* Whoever waits for the files that every version moves finds the others moved. */
		diff_file(c, NODE_IMAGESTREAM_YAML, "", false);
		diff_file(c, NODE_IMAGESTREAM_JSON, "", false);
		return;
	}
	for (enum node_kind kind = NODE_IMAGESTREAM_JSON; kind <= NODE_STATUS_JSON; kind++)
		diff_file(c, kind, "", true);
	view_attr(c->old, NODE_TAGS, "", &attr);
	add_step(c, PUBLISHED_DELETE, NODE_TAGS, "", attr.ino);
	view_attr(c->old, NODE_STREAM, "", &attr);
	add_step(c, PUBLISHED_DELETE, NODE_STREAM, "", attr.ino);
}

static void number_steps(struct published_change *c)
{
	static atomic_uint_fast64_t last;
	uint64_t number = ++last;

	for (size_t i = 0; i < c->nsteps; i++)
		c->steps[i].change = number;
}

static bool is_own(const struct published_step *step, const struct published_own *own)
{
	if (own->file)
		return step->kind == own->file->kind &&
		       (step->kind < NODE_TAG || streq(step->tag, own->file->tag));
	return own->tree && (own->tree->kind == NODE_STREAM ||
				    (step->kind >= NODE_TAG && streq(step->tag, own->tree->tag)));
}

static void leave_own(struct published_change *c, const struct published_own *own)
{
	if (!own)
		return;
	for (size_t i = 0; i < c->nsteps; i++) {
		struct published_step *step = &c->steps[i];

		if (step->op == PUBLISHED_WRITE || is_own(step, own))
			step->waits = false;
	}
}

static void add_item(struct stream *s, const struct published_step *step, struct view *shows)
{
	struct item *i = xcalloc(1, sizeof(*i) + strlen(step->tag) + 1);

	i->op = step->op;
	i->kind = step->kind;
	i->waits = step->waits;
	i->change = step->change;
	i->shows = step->waits && shows ? view_ref(shows) : NULL;
	strcpy(i->tag, step->tag);
	if (!s->last)
		for (struct item *e = s->items; e; e = e->next)
			s->last = e;
	if (s->last)
		s->last->next = i;
	else
		s->items = i;
	s->last = i;
}

static void item_take(struct stream *s, struct item **at)
{
	*at = (*at)->next;
	s->last = NULL;
}

static void item_stop(struct item *i)
{
	i->waits = false;
	view_unref(steal_ptr(i->shows));
}

/* p->lock held. The file that was saved shows the newest, whatever was still on its way there. */
static void stop_own(struct stream *s, const struct published_own *own)
{
	for (struct item *i = s->items; i; i = i->next) {
		struct published_step step = {.kind = i->kind};

		strcpy(step.tag, i->tag);
		if (i->waits && is_own(&step, own))
			item_stop(i);
	}
}

/*
 * An earlier change of the place that is still on its way: what is the newest is shown now. A file that
 * is only written to now doesn't show the name of one that is still to come.
 */
static void stop_waiting(struct stream *s, const struct published_step *step)
{
	for (struct item *i = s->items; i; i = i->next)
		if (i->waits && i->kind == step->kind &&
			(i->kind < NODE_TAG || streq(i->tag, step->tag)) &&
			(step->op != PUBLISHED_WRITE || i->op == PUBLISHED_WRITE))
			item_stop(i);
}

/* p->lock held. Takes over the change's new view for the tree, and hands the old one back. */
static void begin_locked(struct published *p, const char *namespace, const char *name,
	const struct published_change *c)
{
	struct namespace *n = namespace_get(p, namespace, c->new != NULL);
	struct stream *s = n ? map_get(&n->streams, name) : NULL;
	bool shown_at_once = false;

	if (!n)
		return;
	if (!s) {
		s = xcalloc(1, sizeof(*s) + strlen(name) + 1);
		strcpy(s->name, name);
		map_set(&n->streams, s->name, s);
	}
	s->view = c->new ? view_ref(c->new) : NULL;
	for (size_t i = 0; i < c->nsteps; i++) {
		if (c->steps[i].waits)
			add_item(s, &c->steps[i], c->old);
		else
			stop_waiting(s, &c->steps[i]);
		if (!c->steps[i].waits && c->steps[i].kind == NODE_STREAM)
			shown_at_once = true;
	}
	if (shown_at_once)
		stream_show(p, n, s, c->new != NULL);
	stream_drop_unused(p, n, s);
}

/* The store took it before what is shown: versions alone don't tell, since a server may go back. */
static bool is_older(const struct object *o, const struct view *shown)
{
	const struct object *held = shown ? shown->object : NULL;

	if (!o || !held)
		return false;
	if (o->order && held->order)
		return o->order <= held->order;
	return streq(o->uid, held->uid) &&
	       rv_compare(o->resource_version, held->resource_version) <= 0;
}

static void begin_own(struct published *p, const char *namespace, const char *name,
	const struct published_own *own)
{
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, namespace, name);
	if (s)
		stop_own(s, own);
	pthread_mutex_unlock(&p->lock);
}

bool published_begin(struct published *p, const char *key, struct object *object,
	const struct published_own *own, struct published_change *ret)
{
	const char *name = strchr(key, '/') + 1;
	_cleanup_free_ char *namespace = xstrndup(key, name - 1 - key);
	bool done = false;

	if (own && own->file)
		begin_own(p, namespace, name, own);
	while (!done) {
		struct published_change c = {.old = newest_view(p, namespace, name)};
		struct stream *s;

		if ((!c.old && !object) || is_older(object, c.old)) {
			published_change_release(&c);
			return false;
		}
		c.again = object && c.old && !streq(c.old->object->uid, object->uid);
		if (object && !c.again)
			c.new = view_new(object, c.old, now_realtime(), p->cache, p->journal);
		diff(&c);
		number_steps(&c);
		leave_own(&c, own);
		pthread_mutex_lock(&p->lock);
		s = stream_get(p, namespace, name);
		done = (s ? s->view : NULL) == c.old;
		if (done)
			begin_locked(p, namespace, name, &c);
		pthread_mutex_unlock(&p->lock);
		if (done) {
			view_unref(c.old); /* the tree's own reference; the caller has another */
			*ret = c;
		} else { /* somebody else published meanwhile: look again */
			published_change_release(&c);
		}
	}
	return true;
}

void published_change_release(struct published_change *c)
{
	view_unref(c->old);
	view_unref(c->new);
	free(c->steps);
	*c = (struct published_change){0};
}

/* p->lock held. Where an item for the step stands, one that waits or one that doesn't; or the end. */
static struct item **find_item(
	struct stream *s, enum published_op op, enum node_kind kind, const char *tag, bool waits)
{
	struct item **i = &s->items;

	while (*i && ((*i)->op != op || (*i)->kind != kind || (*i)->waits != waits ||
			     (kind >= NODE_TAG && !streq((*i)->tag, tag))))
		i = &(*i)->next;
	return i;
}

bool published_flip(struct published *p, const char *key, const struct published_step *step)
{
	const char *name = strchr(key, '/') ? strchr(key, '/') + 1 : "";
	_cleanup_free_ char *namespace = xstrndup(key, strcspn(key, "/"));
	struct namespace *n;
	struct stream *s;
	struct item **at, *i = NULL;

	if (step->kind == NODE_NAMESPACE)
		return flip_namespace(p, key);

	pthread_mutex_lock(&p->lock);
	n = namespace_get(p, namespace, false);
	s = n ? map_get(&n->streams, name) : NULL;
	at = s ? find_item(s, step->op, step->kind, step->tag, true) : NULL;
	if (at && *at) {
		i = *at;
		item_take(s, at);
		if (step->kind == NODE_STREAM)
			stream_show(p, n, s, step->op == PUBLISHED_CREATE && s->view);
		stream_drop_unused(p, n, s);
	}
	pthread_mutex_unlock(&p->lock);
	if (i)
		item_free(i);
	return i;
}

void published_expect(
	struct published *p, const char *key, const struct published_step *step, bool on)
{
	const char *name = strchr(key, '/') + 1;
	_cleanup_free_ char *namespace = xstrndup(key, name - 1 - key);
	struct item **at, *i = NULL;
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, namespace, name);
	if (s && on) {
		add_item(s, step, NULL);
	} else if (s) {
		at = &s->items;
		while (*at && ((*at)->change != step->change || (*at)->op != step->op ||
				      (*at)->kind != step->kind ||
				      (step->kind >= NODE_TAG && !streq((*at)->tag, step->tag))))
			at = &(*at)->next;
		i = *at;
		if (i)
			item_take(s, at);
		stream_drop_unused(p, namespace_get(p, namespace, false), s);
	}
	pthread_mutex_unlock(&p->lock);
	if (i)
		item_free(i);
}

bool published_is_expected(struct published *p, const struct tree_path *path, enum published_op op)
{
	struct published_step step;
	struct stream *s;
	bool expected;

	if (path->kind == NODE_NAMESPACE)
		return published_namespace_step(p, path->namespace, &step) && step.op == op;
	pthread_mutex_lock(&p->lock);
	s = stream_get(p, path->namespace, path->stream);
	expected = s && (*find_item(s, op, path->kind, path->tag, true) ||
				*find_item(s, op, path->kind, path->tag, false));
	pthread_mutex_unlock(&p->lock);
	return expected;
}

/* One change, shown at once. */
static bool set_stream(
	struct published *p, const char *key, struct object *object, struct published_change *ret)
{
	_cleanup_free_ char *namespace = xstrndup(key, strcspn(key, "/"));

	if (!published_begin(p, key, object, NULL, ret))
		return false;
	for (size_t i = 0; i < ret->nsteps; i++)
		published_flip(p, key, &ret->steps[i]);
	flip_namespace(p, namespace);
	return true;
}

bool published_set_stream(struct published *p, const char *key, struct object *object,
	struct view **ret_old, struct view **ret_new)
{
	_cleanup_change_ struct published_change first = {0}, second = {0};

	if (!set_stream(p, key, object, &first))
		return false;
	if (first.again)
		set_stream(p, key, object, &second);
	*ret_old = view_ref_or_null(first.old);
	*ret_new = view_ref_or_null(first.again ? second.new : first.new);
	return true;
}

static void namespace_attr(
	const struct published *p, const struct namespace *n, struct tree_attr *ret)
{
	*ret = (struct tree_attr){.ino = n->visible ? n->ino : namespace_ino(n),
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
		if (n && (n->visible || n->named))
			namespace_attr(p, n, ret);
		else
			r = -ENOENT;
	}
	pthread_mutex_unlock(&p->lock);
	return r;
}

/* How many names have to come or go from one version to the next. */
static size_t tag_changes(struct view *from, struct view *to)
{
	const struct view_index *x = view_index(from), *y = view_index(to);
	size_t same = 0;

	for (size_t i = 0; i < x->ntags; i++)
		same += same_tag(from, to, x->tags[i].name);
	return x->ntags + y->ntags - 2 * same;
}

/* tags/ counts the names that it shows; its time moves with the first of them. */
static int tags_attr(struct published *p, const struct tree_path *path, struct tree_attr *ret)
{
	_cleanup_view_ struct view *v = NULL, *before = NULL;
	size_t coming = 0, going = 0;
	struct tree_attr old;
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, path->namespace, path->stream);
	v = view_ref_or_null(s ? shown_view(s, NODE_TAGS, "") : NULL);
	for (struct item *i = v && v == s->view ? s->items : NULL; i; i = i->next) {
		if (i->kind != NODE_TAG || !i->waits)
			continue;
		coming += i->op == PUBLISHED_CREATE;
		going += i->op == PUBLISHED_DELETE;
		if (!before)
			before = view_ref_or_null(i->shows);
	}
	pthread_mutex_unlock(&p->lock);
	if (!v)
		return -ENOENT;
	view_attr(v, NODE_TAGS, "", ret);
	ret->nlink += going - coming;
	if (before && tag_changes(before, v) == coming + going) {
		view_attr(before, NODE_TAGS, "", &old);
		ret->mtime = old.mtime;
	}
	return 0;
}

int published_attr(struct published *p, const struct tree_path *path, struct tree_attr *ret)
{
	_cleanup_view_ struct view *v = NULL;

	if (path->kind <= NODE_NAMESPACE)
		return root_attr(p, path, ret);
	if (path->kind == NODE_TAGS)
		return tags_attr(p, path, ret);
	v = published_view_at(p, path);
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

		if (!child || !child->visible)
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
		struct view *view = child ? shown_view(child, NODE_STREAM, "") : NULL;

		if (!view || strlen(child->name) >= NAME_SIZE)
			continue;
		batch[n].cookie = child->cookie;
		batch[n].view = view_ref(view);
		strcpy(batch[n].name, child->name);
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

/* A tag that is shown, and by which view. */
struct shown_tag {
	unsigned cookie;
	struct view *view;
	char *name;
};

static int by_tag_cookie(const void *a, const void *b)
{
	unsigned x = ((const struct shown_tag *)a)->cookie;
	unsigned y = ((const struct shown_tag *)b)->cookie;

	return x < y ? -1 : x > y;
}

/* Views with references that may show tags: the newest, and those of tags that are going. */
static size_t tag_views(struct published *p, const struct tree_path *directory,
	struct view **ret_newest, struct shown_tag **ret_going)
{
	struct shown_tag *going = NULL;
	struct stream *s;
	size_t n = 0;

	*ret_newest = NULL;
	pthread_mutex_lock(&p->lock);
	s = stream_get(p, directory->namespace, directory->stream);
	if (s && s->view)
		*ret_newest = view_ref(s->view);
	for (struct item *i = s ? s->items : NULL; i; i = i->next) {
		if (i->op != PUBLISHED_DELETE || i->kind != NODE_TAG || !i->waits)
			continue;
		going = xrealloc(going, (n + 1) * sizeof(*going));
		going[n++] =
			(struct shown_tag){.view = view_ref(i->shows), .name = xstrdup(i->tag)};
	}
	pthread_mutex_unlock(&p->lock);
	*ret_going = going;
	return n;
}

static int list_tags(struct published *p, const struct tree_path *directory, uint64_t cookie,
	published_fn *fn, void *arg)
{
	_cleanup_view_ struct view *newest = NULL;
	struct shown_tag *going, *all;
	size_t ngoing = tag_views(p, directory, &newest, &going), n = 0;
	const struct view_index *x = newest ? view_index(newest) : NULL;
	struct tree_path path = *directory;
	struct tree_attr attr;
	bool stop = false;

	path.kind = NODE_TAG;
	all = xcalloc(ngoing + (x ? x->ntags : 0), sizeof(*all));
	for (size_t i = 0; x && i < x->ntags; i++)
		all[n++] = (struct shown_tag){x->tags[i].cookie, NULL, x->tags[i].name};
	for (size_t i = 0; i < ngoing; i++) {
		const struct view_tag *t = view_find_tag(going[i].view, going[i].name);

		/* One that is there again already stands in its new place. */
		if (t && !(newest && view_find_tag(newest, going[i].name)))
			all[n++] = (struct shown_tag){t->cookie, NULL, going[i].name};
	}
	qsort(all, n, sizeof(*all), by_tag_cookie);
	for (size_t i = 0; i < n && !stop; i++) {
		if (all[i].cookie <= cookie)
			continue;
		strcpy(path.tag, all[i].name);
		if (published_attr(p, &path, &attr) == 0)
			stop = fn(arg, path.tag, all[i].cookie, &path, &attr);
	}
	for (size_t i = 0; i < ngoing; i++) {
		view_unref(going[i].view);
		free(going[i].name);
	}
	free(going);
	free(all);
	return 0;
}

static int list_fixed(struct published *p, const struct tree_path *directory, uint64_t cookie,
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
		if (published_attr(p, &path, &attr) < 0)
			continue;
		if (fn(arg, node->name, kind, &path, &attr))
			break;
	}
	return 0;
}

int published_list(struct published *p, const struct tree_path *directory, uint64_t cookie,
	published_fn *fn, void *arg)
{
	struct tree_attr attr;

	if (directory->kind == NODE_ROOT || directory->kind == NODE_NAMESPACE)
		return list_objects(p, directory, cookie, fn, arg);
	if (published_attr(p, directory, &attr) < 0)
		return -ENOENT;
	if (directory->kind == NODE_TAGS)
		return list_tags(p, directory, cookie, fn, arg);
	return list_fixed(p, directory, cookie, fn, arg);
}
