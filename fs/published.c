#include "fs/published.h"

#include "client/idmap.h"
#include "client/map.h"
#include "fs/order.h"

#include <errno.h>

/* A place that waits, or whose event is still to come. */
struct item {
	struct item *next; /* of the same place, newer */
	uint64_t serial;   /* the oldest has the lowest */
	enum published_op op;
	enum node_kind kind;
	bool waits;
	uint64_t change;
	unsigned cookie;    /* of a tag that goes: its place in listings */
	struct view *shows; /* while it waits; NULL: nothing */
	const char *tag;    /* in the key */
	char key[];
};

/* Names in tags/ that wait: those that are to come aren't shown yet, those that are to go still are. */
struct tags_waiting {
	size_t coming;
	struct order going; /* by cookie -> struct item */
	bool moved;	    /* one of them, or of the caller's own, came or went */
	int64_t mtime;	    /* of tags/ until then */
};

struct stream {
	unsigned cookie;
	bool shown;	   /* in the namespace's listing and count */
	struct view *view; /* the newest; NULL: gone, but not yet shown so */
	struct map items;  /* place -> the oldest struct item: of several that one counts */
	uint64_t serial;   /* of the newest item */
	struct tags_waiting tags;
	char name[];
};

struct namespace
{
	unsigned cookie;
	struct store_namespace server;
	int64_t mtime;
	bool listed;	/* the server lists it */
	bool named;	/* found by name */
	bool visible;	/* in the root's listing */
	bool replaced;	/* by another one of its name, which comes once this one is shown as gone */
	uint64_t ino;	/* 0: nobody asked yet; its streams may come before its uid */
	uint64_t plain; /* what that is where it never went */
	bool ready;
	size_t count;
	struct map streams; /* name -> struct stream */
	struct order order;
	char name[];
};

/*
 * What was shown and went, by the st_ino that it had first: should it come back, it is another inode, since
 * the kernel keeps the one that was removed dead as long as somebody holds it. Beyond GONE_MAX all that
 * comes counts as one that comes back.
 */
#define GONE_MAX 16384

struct gone {
	struct idmap inos;
	bool full;
	unsigned generation; /* the last one given */
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
	struct gone gone;
};

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
	map_foreach(&s->items, e)
	{
		for (struct item *i = e->value, *next; i; i = next) {
			next = i->next;
			item_free(i);
		}
	}
	map_release(&s->items);
	order_release(&s->tags.going);
	view_unref(s->view);
	free(s);
}

static void namespace_free(struct namespace *n)
{
	map_foreach(&n->streams, e) stream_free(e->value);
	map_release(&n->streams);
	order_release(&n->order);
	free(n);
}

void published_free(struct published *p)
{
	if (!p)
		return;
	map_foreach(&p->namespaces, e) namespace_free(e->value);
	map_release(&p->namespaces);
	order_release(&p->order);
	idmap_release(&p->gone.inos);
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
	return !n->replaced && (n->listed || (!n->named && n->count > 0));
}

static int64_t bump(int64_t old)
{
	int64_t now = now_realtime();

	return now > old ? now : old + 1;
}

static void gone_note(struct gone *g, uint64_t ino)
{
	if (g->full)
		return;
	if (g->inos.count == GONE_MAX) {
		idmap_release(&g->inos);
		g->full = true;
		return;
	}
	idmap_set(&g->inos, ino, g);
}

/* What to tell the thing from earlier ones of that st_ino by; 0 where none ever went. */
static unsigned gone_generation(struct gone *g, uint64_t ino)
{
	return g->full || idmap_get(&g->inos, ino) ? ++g->generation : 0;
}

static uint64_t namespace_ino_of(const struct namespace *n, unsigned generation)
{
	const char *uid = n->server.uid[0] ? n->server.uid : n->name;

	return tree_ino(uid, NODE_NAMESPACE, n->name, (uint64_t)generation << 32);
}

/* p->lock held. The same as long as it is shown, or was found by name. */
static uint64_t namespace_ino(struct published *p, struct namespace *n)
{
	if (!n->ino) {
		n->plain = namespace_ino_of(n, 0);
		n->ino = namespace_ino_of(n, gone_generation(&p->gone, n->plain));
	}
	return n->ino;
}

/* p->lock held. */
static void namespace_show(struct published *p, struct namespace *n)
{
	if (n->visible == is_wanted(n))
		return;
	n->visible = !n->visible;
	if (!n->visible && n->ino) {
		gone_note(&p->gone, n->plain);
		n->ino = 0;
	}
	n->replaced = false;
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
	order_del(&p->order, n->cookie, n);
	namespace_free(n);
}

/* p->lock held. Another one under the name that is shown: that one goes first, and this one comes after. */
static void namespace_set(
	struct published *p, struct namespace *n, const struct store_namespace *ns)
{
	bool anew = n->server.uid[0] && !streq(n->server.uid, ns->uid);

	n->replaced = anew && n->visible;
	if (n->replaced)
		return;
	n->server = *ns;
	if (anew && n->ino)
		gone_note(&p->gone, n->plain);
	if (anew || (!n->visible && !n->named))
		n->ino = 0; /* nobody was told of it yet */
	if (n->mtime < ns->created)
		n->mtime = ns->created;
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
			namespace_set(p, n, ns);
		} else {
			n->named = false;
			n->ready = false;
		}
		namespace_drop_unused(p, n);
	}
	pthread_mutex_unlock(&p->lock);
}

void published_restart_inodes(struct published *p)
{
	pthread_mutex_lock(&p->lock);
	map_foreach(&p->namespaces, e)((struct namespace *)e->value)->ino = 0;
	pthread_mutex_unlock(&p->lock);
}

static void namespace_attr(struct published *p, struct namespace *n, struct tree_attr *ret);

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

/* False where it is shown, or isn't, already: the same step may be flipped twice. */
static bool flip_namespace(struct published *p, const char *name, bool show)
{
	struct namespace *n;
	bool flips;

	pthread_mutex_lock(&p->lock);
	n = namespace_that_differs(p, name);
	flips = n && n->visible != show;
	if (flips) {
		namespace_show(p, n);
		namespace_drop_unused(p, n);
	}
	pthread_mutex_unlock(&p->lock);
	return flips;
}

static void settle_namespace(struct published *p, const char *name)
{
	if (!flip_namespace(p, name, true))
		flip_namespace(p, name, false);
}

void published_set_namespace(
	struct published *p, const char *name, const struct store_namespace *ns)
{
	published_begin_namespace(p, name, ns);
	settle_namespace(p, name);
	if (!ns)
		return;
	published_begin_namespace(p, name, ns); /* another one of that name is gone now */
	settle_namespace(p, name);
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

/* A place as the key of its items. */
#define ITEM_KEY (1 + NAME_SIZE)

static void item_key(enum node_kind kind, const char *tag, char ret[ITEM_KEY])
{
	ret[0] = (char)(1 + kind);
	strcpy(ret + 1, kind < NODE_TAG ? "" : tag);
}

/* The oldest item of the place itself, or NULL. */
static struct item *items_at(const struct stream *s, enum node_kind kind, const char *tag)
{
	char key[ITEM_KEY];

	if (s->items.count == 0)
		return NULL;
	item_key(kind, tag, key);
	return map_get(&s->items, key);
}

/* The older of `found` and the oldest item of the place that waits; `creates`: to be made. */
static const struct item *older(const struct stream *s, const struct item *found,
	enum node_kind kind, const char *tag, bool creates)
{
	const struct item *i = items_at(s, kind, tag);

	while (i && (!i->waits || (creates && i->op != PUBLISHED_CREATE)))
		i = i->next;
	return i && (!found || i->serial < found->serial) ? i : found;
}

/* p->lock held. What the place shows; borrowed, or NULL. A directory above that comes whole speaks for it. */
static struct view *shown_view(const struct stream *s, enum node_kind kind, const char *tag)
{
	const struct item *i = older(s, NULL, kind, tag, false);

	i = older(s, i, NODE_STREAM, "", true);
	if (kind > NODE_TAG)
		i = older(s, i, NODE_TAG, tag, true);
	return i ? i->shows : s->view;
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
		order_del(&n->order, s->cookie, s);
	n->count += show ? 1 : -1;
	namespace_touch(p, n, s->view);
}

/* p->lock held. A stream that is gone and shown so is forgotten. */
static void stream_drop_unused(struct published *p, struct namespace *n, struct stream *s)
{
	if (s->view || s->items.count || s->shown)
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
	if (own->file) /* that the file goes by what was saved the kernel doesn't know */
		return step->kind == own->file->kind && step->op != PUBLISHED_DELETE &&
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

/* ---- items; p->lock held in all of them ---- */

/* A name in tags/ that waits is counted, or not any more. */
static void item_count(struct stream *s, struct item *i, bool waits)
{
	if (i->kind != NODE_TAG || i->waits == waits)
		return;
	if (i->op == PUBLISHED_CREATE)
		s->tags.coming += waits ? 1 : -1;
	else if (waits)
		order_put(&s->tags.going, i->cookie, i);
	else
		order_del(&s->tags.going, i->cookie, i);
	s->tags.moved = s->tags.moved || !waits;
}

static void item_wait(struct stream *s, struct item *i, struct view *shows)
{
	const struct view_tag *t = NULL;

	if (i->kind == NODE_TAG && i->op == PUBLISHED_DELETE && shows)
		t = view_find_tag(shows, i->tag);
	i->cookie = t ? t->cookie : 0;
	item_count(s, i, true);
	i->waits = true;
	i->shows = view_ref_or_null(shows);
}

static void item_stop(struct stream *s, struct item *i)
{
	item_count(s, i, false);
	i->waits = false;
	view_unref(steal_ptr(i->shows));
}

static void add_item(struct stream *s, const struct published_step *step, struct view *shows)
{
	char key[ITEM_KEY];
	struct item *i, *last;

	item_key(step->kind, step->tag, key);
	i = xcalloc(1, sizeof(*i) + strlen(key) + 1);
	strcpy(i->key, key);
	i->tag = i->key + 1;
	i->serial = ++s->serial;
	i->op = step->op;
	i->kind = step->kind;
	i->change = step->change;
	if (step->waits)
		item_wait(s, i, shows);
	last = map_get(&s->items, key);
	if (!last) {
		map_set(&s->items, i->key, i);
		return;
	}
	while (last->next)
		last = last->next;
	last->next = i;
}

/* Takes it out; the caller frees it. */
static void item_take(struct stream *s, struct item *i)
{
	struct item *before = map_get(&s->items, i->key);

	item_count(s, i, false);
	if (before == i && i->next) {
		map_set(&s->items, i->next->key, i->next);
	} else if (before == i) {
		map_del(&s->items, i->key);
	} else {
		while (before->next != i)
			before = before->next;
		before->next = i->next;
	}
}

/* The file that was saved shows the newest, whatever was still on its way there. */
static void stop_own(struct stream *s, const struct published_own *own)
{
	for (struct item *i = items_at(s, own->file->kind, own->file->tag); i; i = i->next)
		item_stop(s, i);
}

/*
 * An earlier change of the place that is still on its way: what is the newest is shown now. A file that
 * is only written to now doesn't show the name of one that is still to come.
 */
static void stop_waiting(struct stream *s, const struct published_step *step)
{
	for (struct item *i = items_at(s, step->kind, step->tag); i; i = i->next)
		if (step->op != PUBLISHED_WRITE || i->op == PUBLISHED_WRITE)
			item_stop(s, i);
}

static bool tags_wait(const struct stream *s)
{
	return s->tags.coming || s->tags.going.count > s->tags.going.gone;
}

/* One step of a change that begins: its place waits, or shows the newest at once. */
static void begin_step(struct stream *s, const struct published_step *step, struct view *old)
{
	if (step->waits) {
		add_item(s, step, old);
		return;
	}
	stop_waiting(s, step);
	if (step->kind == NODE_TAG)
		s->tags.moved = true;
}

/* The st_ino of its directory where it never went. */
static uint64_t stream_plain(const struct object *object)
{
	return tree_ino(object->uid, NODE_STREAM, "", 0);
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
	if (c->old && !c->new)
		gone_note(&p->gone, stream_plain(c->old->object));
	s->view = view_ref_or_null(c->new);
	if (!tags_wait(s)) {
		s->tags.moved = !c->old;
		s->tags.mtime = c->old ? view_index(c->old)->tags_mtime : 0;
	}
	for (size_t i = 0; i < c->nsteps; i++) {
		begin_step(s, &c->steps[i], c->old);
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

/* The first version of a stream: of one that went before, as another inode. */
static struct view *first_view(struct published *p, struct object *object)
{
	unsigned generation;

	pthread_mutex_lock(&p->lock);
	generation = gone_generation(&p->gone, stream_plain(object));
	pthread_mutex_unlock(&p->lock);
	return view_new(object, NULL, generation, now_realtime(), p->cache, p->journal);
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
		if (object && !c.old)
			c.new = first_view(p, object);
		else if (object && !c.again)
			c.new = view_new(object, c.old, 0, now_realtime(), p->cache, p->journal);
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

/* p->lock held. The item of the step, one that waits or one that doesn't; or NULL. */
static struct item *find_item(const struct stream *s, enum published_op op, enum node_kind kind,
	const char *tag, bool waits)
{
	struct item *i = items_at(s, kind, tag);

	while (i && (i->op != op || i->waits != waits))
		i = i->next;
	return i;
}

bool published_flip(struct published *p, const char *key, const struct published_step *step)
{
	const char *name = strchr(key, '/') ? strchr(key, '/') + 1 : "";
	_cleanup_free_ char *namespace = xstrndup(key, strcspn(key, "/"));
	struct namespace *n;
	struct stream *s;
	struct item *i;

	if (step->kind == NODE_NAMESPACE)
		return flip_namespace(p, key, step->op == PUBLISHED_CREATE);

	pthread_mutex_lock(&p->lock);
	n = namespace_get(p, namespace, false);
	s = n ? map_get(&n->streams, name) : NULL;
	i = s ? find_item(s, step->op, step->kind, step->tag, true) : NULL;
	if (i) {
		item_take(s, i);
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
	struct item *i = NULL;
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, namespace, name);
	if (s && on) {
		add_item(s, step, NULL);
	} else if (s) {
		i = items_at(s, step->kind, step->tag);
		while (i && (i->change != step->change || i->op != step->op))
			i = i->next;
		if (i)
			item_take(s, i);
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
	expected = s && (find_item(s, op, path->kind, path->tag, true) ||
				find_item(s, op, path->kind, path->tag, false));
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
	settle_namespace(p, namespace);
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

static void namespace_attr(struct published *p, struct namespace *n, struct tree_attr *ret)
{
	*ret = (struct tree_attr){.ino = namespace_ino(p, n),
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

/* tags/ counts the names that it shows; its time moves with the first of them. */
static int tags_attr(struct published *p, const struct tree_path *path, struct tree_attr *ret)
{
	_cleanup_view_ struct view *v = NULL;
	size_t coming = 0, going = 0;
	int64_t mtime = 0;
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, path->namespace, path->stream);
	v = view_ref_or_null(s ? shown_view(s, NODE_TAGS, "") : NULL);
	if (v && v == s->view) {
		coming = s->tags.coming;
		going = s->tags.going.count - s->tags.going.gone;
		mtime = tags_wait(s) && !s->tags.moved ? s->tags.mtime : 0;
	}
	pthread_mutex_unlock(&p->lock);
	if (!v)
		return -ENOENT;
	view_attr(v, NODE_TAGS, "", ret);
	ret->nlink += going - coming;
	if (mtime)
		ret->mtime = mtime;
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

/* A tag that is going and still shown: its place in the listing. */
struct going {
	unsigned cookie;
	char name[NAME_SIZE];
};

/* The next ones after the cookie; and the newest view with a reference, or NULL. */
static size_t batch_going(struct published *p, const struct tree_path *directory, uint64_t cookie,
	struct going *batch, struct view **ret_newest)
{
	struct stream *s;
	size_t n = 0;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, directory->namespace, directory->stream);
	if (!*ret_newest && s)
		*ret_newest = view_ref_or_null(s->view);
	for (size_t i = s ? order_after(&s->tags.going, cookie) : 0;
		s && i < s->tags.going.count && n < BATCH; i++) {
		const struct item *item = s->tags.going.places[i].child;

		if (!item)
			continue;
		batch[n].cookie = item->cookie;
		strcpy(batch[n++].name, item->tag);
	}
	pthread_mutex_unlock(&p->lock);
	return n;
}

/* Merges tags that stay, or have come, and those that are going, each in the order of its cookies. */
static int list_tags(struct published *p, const struct tree_path *directory, uint64_t cookie,
	published_fn *fn, void *arg)
{
	_cleanup_free_ struct going *going = xcalloc(BATCH, sizeof(*going));
	_cleanup_view_ struct view *newest = NULL;
	size_t n = batch_going(p, directory, cookie, going, &newest), k = 0;
	size_t i = newest ? view_tag_after(newest, cookie) : 0;
	const struct view_index *x = newest ? view_index(newest) : NULL;
	struct tree_path path = *directory;
	struct tree_attr attr;
	bool stop = false;

	path.kind = NODE_TAG;
	while (!stop && ((x && i < x->ntags) || k < n)) {
		bool goes = k < n && (!x || i == x->ntags || going[k].cookie < x->tags[i].cookie);

		cookie = goes ? going[k].cookie : x->tags[i].cookie;
		strcpy(path.tag, goes ? going[k].name : x->tags[i].name);
		i += !goes;
		k += goes;
		/* One that is there again already stands in its new place. */
		if (!(goes && newest && view_find_tag(newest, path.tag)) &&
			published_attr(p, &path, &attr) == 0)
			stop = fn(arg, path.tag, cookie, &path, &attr);
		if (k == BATCH && n == BATCH) {
			n = batch_going(p, directory, going[k - 1].cookie, going, &newest);
			k = 0;
		}
	}
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
