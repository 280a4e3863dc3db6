#include "fs/tree/shown.h"

#include "client/idmap.h"
#include "client/map.h"
#include "fs/tree/order.h"

#include <errno.h>

/* A place that waits, or whose event is still to come. */
struct item {
	struct item *next; /* of the same place, newer */
	uint64_t serial;   /* the oldest has the lowest */
	enum shown_op op;
	enum kind kind;
	bool waits;
	uint64_t change;
	unsigned cookie;	/* of a tag that goes: its place in listings */
	struct snapshot *shows; /* while it waits; NULL: nothing */
	const char *tag;	/* in the key */
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
	bool shown;		   /* in the namespace's listing and count */
	struct snapshot *snapshot; /* the newest; NULL: gone, but not yet shown so */
	struct map items;	   /* place -> the oldest struct item: of several that one counts */
	uint64_t serial;	   /* of the newest item */
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

struct shown {
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

struct shown *shown_new(struct object_cache *cache, struct journal *journal)
{
	struct shown *p = xcalloc(1, sizeof(*p));

	p->cache = cache;
	p->journal = journal;
	p->mtime = now_realtime();
	pthread_mutex_init(&p->lock, NULL);
	return p;
}

static void item_free(struct item *i)
{
	snapshot_unref(i->shows);
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
	snapshot_unref(s->snapshot);
	free(s);
}

static void namespace_free(struct namespace *n)
{
	map_foreach(&n->streams, e) stream_free(e->value);
	map_release(&n->streams);
	order_release(&n->order);
	free(n);
}

void shown_free(struct shown *p)
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

static bool is_ready(const struct shown *p, const struct namespace *n)
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

	return layout_ino(uid, KIND_NAMESPACE, n->name, (uint64_t)generation << 32);
}

/* p->lock held. The same as long as it is shown, or was found by name. */
static uint64_t namespace_ino(struct shown *p, struct namespace *n)
{
	if (!n->ino) {
		n->plain = namespace_ino_of(n, 0);
		n->ino = namespace_ino_of(n, gone_generation(&p->gone, n->plain));
	}
	return n->ino;
}

/* p->lock held. */
static void namespace_show(struct shown *p, struct namespace *n)
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

static struct namespace *namespace_get(struct shown *p, const char *name, bool create)
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

static void namespace_drop_unused(struct shown *p, struct namespace *n)
{
	if (n->listed || n->named || n->visible || n->streams.count)
		return;
	map_del(&p->namespaces, n->name);
	order_del(&p->order, n->cookie, n);
	namespace_free(n);
}

/* p->lock held. Another one under the name that is shown: that one goes first, and this one comes after. */
static void namespace_set(struct shown *p, struct namespace *n, const struct store_namespace *ns)
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

void shown_begin_namespace(struct shown *p, const char *name, const struct store_namespace *ns)
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

void shown_restart_inodes(struct shown *p)
{
	pthread_mutex_lock(&p->lock);
	map_foreach(&p->namespaces, e)((struct namespace *)e->value)->ino = 0;
	pthread_mutex_unlock(&p->lock);
}

static void namespace_attr(struct shown *p, struct namespace *n, struct layout_attr *ret);

/* p->lock held. The namespace, where it is to be shown and isn't, or the other way; else NULL. */
static struct namespace *namespace_that_differs(struct shown *p, const char *name)
{
	struct namespace *n = namespace_get(p, name, false);

	return n && n->visible != is_wanted(n) ? n : NULL;
}

bool shown_namespace_step(struct shown *p, const char *name, struct shown_step *ret)
{
	struct layout_attr attr;
	struct namespace *n;

	pthread_mutex_lock(&p->lock);
	n = namespace_that_differs(p, name);
	if (n) {
		namespace_attr(p, n, &attr);
		*ret = (struct shown_step){.op = n->visible ? SHOWN_DELETE : SHOWN_CREATE,
			.kind = KIND_NAMESPACE,
			.place = attr.ino,
			.waits = true};
	}
	pthread_mutex_unlock(&p->lock);
	return n;
}

/* False where it is shown, or isn't, already: the same step may be flipped twice. */
static bool flip_namespace(struct shown *p, const char *name, bool show)
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

static void settle_namespace(struct shown *p, const char *name)
{
	if (!flip_namespace(p, name, true))
		flip_namespace(p, name, false);
}

void shown_set_namespace(struct shown *p, const char *name, const struct store_namespace *ns)
{
	shown_begin_namespace(p, name, ns);
	settle_namespace(p, name);
	if (!ns)
		return;
	shown_begin_namespace(p, name, ns); /* another one of that name is gone now */
	settle_namespace(p, name);
}

void shown_add_named(struct shown *p, const char *name)
{
	struct namespace *n;

	pthread_mutex_lock(&p->lock);
	n = namespace_get(p, name, true);
	if (!is_wanted(n) && !n->visible)
		n->named = true;
	pthread_mutex_unlock(&p->lock);
}

void shown_set_ready(struct shown *p, const char *namespace, bool ready)
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

bool shown_is_ready(struct shown *p, const char *namespace)
{
	bool ready;

	pthread_mutex_lock(&p->lock);
	ready = is_ready(p, namespace_get(p, namespace, false));
	pthread_mutex_unlock(&p->lock);
	return ready;
}

/* p->lock held. */
static struct stream *stream_get(struct shown *p, const char *namespace, const char *name)
{
	struct namespace *n = namespace_get(p, namespace, false);

	return n ? map_get(&n->streams, name) : NULL;
}

/* A place as the key of its items. */
#define ITEM_KEY (1 + NAME_SIZE)

static void item_key(enum kind kind, const char *tag, char ret[ITEM_KEY])
{
	ret[0] = (char)(1 + kind);
	strcpy(ret + 1, kind < KIND_TAG ? "" : tag);
}

/* The oldest item of the place itself, or NULL. */
static struct item *items_at(const struct stream *s, enum kind kind, const char *tag)
{
	char key[ITEM_KEY];

	if (s->items.count == 0)
		return NULL;
	item_key(kind, tag, key);
	return map_get(&s->items, key);
}

/* The older of `found` and the oldest item of the place that waits; `creates`: to be made. */
static const struct item *older(const struct stream *s, const struct item *found, enum kind kind,
	const char *tag, bool creates)
{
	const struct item *i = items_at(s, kind, tag);

	while (i && (!i->waits || (creates && i->op != SHOWN_CREATE)))
		i = i->next;
	return i && (!found || i->serial < found->serial) ? i : found;
}

/* p->lock held. What the place shows; borrowed, or NULL. A directory above that comes whole speaks for it. */
static struct snapshot *view_at(const struct stream *s, enum kind kind, const char *tag)
{
	const struct item *i = older(s, NULL, kind, tag, false);

	i = older(s, i, KIND_STREAM, "", true);
	if (kind > KIND_TAG)
		i = older(s, i, KIND_TAG, tag, true);
	return i ? i->shows : s->snapshot;
}

struct snapshot *shown_snapshot_at(struct shown *p, const struct layout_path *path)
{
	struct snapshot *snapshot = NULL;
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, path->namespace, path->stream);
	if (s)
		snapshot = view_at(s, path->kind, path->tag);
	if (snapshot)
		snapshot_ref(snapshot);
	pthread_mutex_unlock(&p->lock);
	return snapshot;
}

struct snapshot *shown_snapshot(struct shown *p, const char *namespace, const char *stream)
{
	struct snapshot *snapshot = NULL;
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, namespace, stream);
	if (s)
		snapshot = view_at(s, KIND_STREAM, "");
	if (snapshot)
		snapshot_ref(snapshot);
	pthread_mutex_unlock(&p->lock);
	return snapshot;
}

/* The newest, whatever is shown. */
static struct snapshot *newest_view(struct shown *p, const char *namespace, const char *stream)
{
	struct snapshot *snapshot = NULL;
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, namespace, stream);
	if (s && s->snapshot)
		snapshot = snapshot_ref(s->snapshot);
	pthread_mutex_unlock(&p->lock);
	return snapshot;
}

static void namespace_touch(struct shown *p, struct namespace *n, const struct snapshot *v)
{
	if (is_ready(p, n))
		n->mtime = bump(n->mtime);
	else if (v && n->mtime < v->object->created)
		n->mtime = v->object->created;
}

/* p->lock held. Puts the stream into its namespace's listing, or takes it out. */
static void stream_show(struct shown *p, struct namespace *n, struct stream *s, bool show)
{
	if (s->shown == show)
		return;
	s->shown = show;
	if (show)
		s->cookie = order_add(&n->order, s);
	else
		order_del(&n->order, s->cookie, s);
	n->count += show ? 1 : -1;
	namespace_touch(p, n, s->snapshot);
}

/* p->lock held. A stream that is gone and shown so is forgotten. */
static void stream_drop_unused(struct shown *p, struct namespace *n, struct stream *s)
{
	if (s->snapshot || s->items.count || s->shown)
		return;
	map_del(&n->streams, s->name);
	stream_free(s);
	namespace_drop_unused(p, n);
}

/* ---- what a new version changes ---- */

static void add_step(
	struct shown_change *c, enum shown_op op, enum kind kind, const char *tag, uint64_t place)
{
	struct shown_step *step;

	if ((c->nsteps & (c->nsteps + 1)) == 0) /* grows by powers of two */
		c->steps = xrealloc(c->steps, (2 * c->nsteps + 1) * sizeof(*c->steps));
	step = &c->steps[c->nsteps++];
	*step = (struct shown_step){.op = op, .kind = kind, .place = place, .waits = true};
	strcpy(step->tag, tag);
}

/* One file: it came, went, changed or didn't. `deletions` picks what is looked for. */
static void diff_file(struct shown_change *c, enum kind kind, const char *tag, bool deletions)
{
	struct layout_attr before, after;
	bool was = c->old && snapshot_stamp(c->old, kind, tag, &before) == 0;
	bool is = c->new &&snapshot_stamp(c->new, kind, tag, &after) == 0;
	bool same = was && is && before.ino == after.ino;

	if (deletions && was && !same)
		add_step(c, SHOWN_DELETE, kind, tag, before.ino);
	else if (!deletions && is && !same)
		add_step(c, SHOWN_CREATE, kind, tag, after.ino);
	else if (!deletions && same && before.mtime != after.mtime)
		add_step(c, SHOWN_WRITE, kind, tag, after.ino);
}

static bool same_tag(struct snapshot *a, struct snapshot *b, const char *tag)
{
	struct layout_attr x, y;

	return a && b && snapshot_attr(a, KIND_TAG, tag, &x) == 0 &&
	       snapshot_attr(b, KIND_TAG, tag, &y) == 0 && x.ino == y.ino;
}

static void diff_deleted_tags(struct shown_change *c)
{
	const struct snapshot_index *x = snapshot_index(c->old);

	for (size_t i = 0; i < x->ntags; i++) {
		const char *tag = x->tags[i].name;
		struct layout_attr attr;

		for (unsigned k = 0; k < TAG_FILES; k++)
			diff_file(c, TAG_FILE + k, tag, true);
		if (!same_tag(c->old, c->new, tag) &&
			snapshot_attr(c->old, KIND_TAG, tag, &attr) == 0)
			add_step(c, SHOWN_DELETE, KIND_TAG, tag, attr.ino);
	}
}

static void diff_tags(struct shown_change *c)
{
	const struct snapshot_index *x = snapshot_index(c->new);

	for (size_t i = 0; i < x->ntags; i++) {
		const char *tag = x->tags[i].name;
		struct layout_attr attr;

		if (!same_tag(c->old, c->new, tag)) {
			snapshot_attr(c->new, KIND_TAG, tag, &attr);
			add_step(c, SHOWN_CREATE, KIND_TAG, tag, attr.ino);
			continue;
		}
		for (unsigned k = 0; k < TAG_FILES; k++)
			diff_file(c, TAG_FILE + k, tag, false);
	}
}

/* Whoever waits for the files that every version moves, the whole object's, finds the others moved. */
static void diff_files(struct shown_change *c)
{
	for (unsigned k = 0; k < STREAM_FILES; k++)
		if (layout[STREAM_FILE + k].view != PATCH_IMAGESTREAM)
			diff_file(c, STREAM_FILE + k, "", false);
	for (unsigned k = STREAM_FILES; k-- > 0;)
		if (layout[STREAM_FILE + k].view == PATCH_IMAGESTREAM)
			diff_file(c, STREAM_FILE + k, "", false);
}

static void diff(struct shown_change *c)
{
	struct layout_attr attr;

	if (!c->old) {
		snapshot_attr(c->new, KIND_STREAM, "", &attr);
		add_step(c, SHOWN_CREATE, KIND_STREAM, "", attr.ino);
		return;
	}
	diff_deleted_tags(c);
	if (c->new) {
		diff_tags(c);
		diff_files(c);
		return;
	}
	for (unsigned k = 0; k < STREAM_FILES; k++)
		diff_file(c, STREAM_FILE + k, "", true);
	snapshot_attr(c->old, KIND_TAGS, "", &attr);
	add_step(c, SHOWN_DELETE, KIND_TAGS, "", attr.ino);
	snapshot_attr(c->old, KIND_STREAM, "", &attr);
	add_step(c, SHOWN_DELETE, KIND_STREAM, "", attr.ino);
}

static void number_steps(struct shown_change *c)
{
	static atomic_uint_fast64_t last;
	uint64_t number = ++last;

	for (size_t i = 0; i < c->nsteps; i++)
		c->steps[i].change = number;
}

static bool is_own(const struct shown_step *step, const struct shown_own *own)
{
	if (own->file)
		return step->kind == own->file->kind &&
		       (step->kind < KIND_TAG || streq(step->tag, own->file->tag));
	return own->tree && (own->tree->kind == KIND_STREAM ||
				    (step->kind >= KIND_TAG && streq(step->tag, own->tree->tag)));
}

static void leave_own(struct shown_change *c, const struct shown_own *own)
{
	if (!own)
		return;
	for (size_t i = 0; i < c->nsteps; i++) {
		struct shown_step *step = &c->steps[i];

		if (step->op == SHOWN_WRITE || is_own(step, own))
			step->waits = false;
	}
}

/* ---- items; p->lock held in all of them ---- */

/* A name in tags/ that waits is counted, or not any more. */
static void item_count(struct stream *s, struct item *i, bool waits)
{
	if (i->kind != KIND_TAG || i->waits == waits)
		return;
	if (i->op == SHOWN_CREATE)
		s->tags.coming += waits ? 1 : -1;
	else if (waits)
		order_put(&s->tags.going, i->cookie, i);
	else
		order_del(&s->tags.going, i->cookie, i);
	s->tags.moved = s->tags.moved || !waits;
}

static void item_wait(struct stream *s, struct item *i, struct snapshot *shows)
{
	const struct snapshot_tag *t = NULL;

	if (i->kind == KIND_TAG && i->op == SHOWN_DELETE && shows)
		t = snapshot_find_tag(shows, i->tag);
	i->cookie = t ? t->cookie : 0;
	item_count(s, i, true);
	i->waits = true;
	i->shows = snapshot_ref_or_null(shows);
}

static void item_stop(struct stream *s, struct item *i)
{
	item_count(s, i, false);
	i->waits = false;
	snapshot_unref(steal_ptr(i->shows));
}

static void add_item(struct stream *s, const struct shown_step *step, struct snapshot *shows)
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
static void stop_own(struct stream *s, const struct shown_own *own)
{
	for (struct item *i = items_at(s, own->file->kind, own->file->tag); i; i = i->next)
		item_stop(s, i);
}

/*
 * An earlier change of the place that is still on its way: what is the newest is shown now. A file that
 * is only written to now doesn't show the name of one that is still to come.
 */
static void stop_waiting(struct stream *s, const struct shown_step *step)
{
	for (struct item *i = items_at(s, step->kind, step->tag); i; i = i->next)
		if (step->op != SHOWN_WRITE || i->op == SHOWN_WRITE)
			item_stop(s, i);
}

static bool tags_wait(const struct stream *s)
{
	return s->tags.coming || s->tags.going.count > s->tags.going.gone;
}

/* One step of a change that begins: its place waits, or shows the newest at once. */
static void begin_step(struct stream *s, const struct shown_step *step, struct snapshot *old)
{
	if (step->waits) {
		add_item(s, step, old);
		return;
	}
	stop_waiting(s, step);
	if (step->kind == KIND_TAG)
		s->tags.moved = true;
}

/* The st_ino of its directory where it never went. */
static uint64_t stream_plain(const struct object *object)
{
	return layout_ino(object->uid, KIND_STREAM, "", 0);
}

/* p->lock held. Takes over the change's new snapshot for the tree, and hands the old one back. */
static void begin_locked(
	struct shown *p, const char *namespace, const char *name, const struct shown_change *c)
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
	s->snapshot = snapshot_ref_or_null(c->new);
	if (!tags_wait(s)) {
		s->tags.moved = !c->old;
		s->tags.mtime = c->old ? snapshot_index(c->old)->tags_mtime : 0;
	}
	for (size_t i = 0; i < c->nsteps; i++) {
		begin_step(s, &c->steps[i], c->old);
		if (!c->steps[i].waits && c->steps[i].kind == KIND_STREAM)
			shown_at_once = true;
	}
	if (shown_at_once)
		stream_show(p, n, s, c->new != NULL);
	stream_drop_unused(p, n, s);
}

/* The store took it before what is shown: versions alone don't tell, since a server may go back. */
static bool is_older(const struct object *o, const struct snapshot *shown)
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
static struct snapshot *first_view(struct shown *p, struct object *object)
{
	unsigned generation;

	pthread_mutex_lock(&p->lock);
	generation = gone_generation(&p->gone, stream_plain(object));
	pthread_mutex_unlock(&p->lock);
	return snapshot_new(object, NULL, generation, now_realtime(), p->cache, p->journal);
}

static void begin_own(
	struct shown *p, const char *namespace, const char *name, const struct shown_own *own)
{
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, namespace, name);
	if (s)
		stop_own(s, own);
	pthread_mutex_unlock(&p->lock);
}

bool shown_begin(struct shown *p, const char *key, struct object *object,
	const struct shown_own *own, struct shown_change *ret)
{
	const char *name = strchr(key, '/') + 1;
	_cleanup_free_ char *namespace = xstrndup(key, name - 1 - key);
	bool done = false;

	if (own && own->file)
		begin_own(p, namespace, name, own);
	while (!done) {
		struct shown_change c = {.old = newest_view(p, namespace, name)};
		struct stream *s;

		if ((!c.old && !object) || is_older(object, c.old)) {
			shown_change_release(&c);
			return false;
		}
		c.again = object && c.old && !streq(c.old->object->uid, object->uid);
		if (object && !c.old)
			c.new = first_view(p, object);
		else if (object && !c.again)
			c.new = snapshot_new(
				object, c.old, 0, now_realtime(), p->cache, p->journal);
		diff(&c);
		number_steps(&c);
		leave_own(&c, own);
		pthread_mutex_lock(&p->lock);
		s = stream_get(p, namespace, name);
		done = (s ? s->snapshot : NULL) == c.old;
		if (done)
			begin_locked(p, namespace, name, &c);
		pthread_mutex_unlock(&p->lock);
		if (done) {
			snapshot_unref(
				c.old); /* the tree's own reference; the caller has another */
			*ret = c;
		} else { /* somebody else shown meanwhile: look again */
			shown_change_release(&c);
		}
	}
	return true;
}

void shown_change_release(struct shown_change *c)
{
	snapshot_unref(c->old);
	snapshot_unref(c->new);
	free(c->steps);
	*c = (struct shown_change){0};
}

/* p->lock held. The item of the step, one that waits or one that doesn't; or NULL. */
static struct item *find_item(
	const struct stream *s, enum shown_op op, enum kind kind, const char *tag, bool waits)
{
	struct item *i = items_at(s, kind, tag);

	while (i && (i->op != op || i->waits != waits))
		i = i->next;
	return i;
}

bool shown_flip(struct shown *p, const char *key, const struct shown_step *step)
{
	const char *name = strchr(key, '/') ? strchr(key, '/') + 1 : "";
	_cleanup_free_ char *namespace = xstrndup(key, strcspn(key, "/"));
	struct namespace *n;
	struct stream *s;
	struct item *i;

	if (step->kind == KIND_NAMESPACE)
		return flip_namespace(p, key, step->op == SHOWN_CREATE);

	pthread_mutex_lock(&p->lock);
	n = namespace_get(p, namespace, false);
	s = n ? map_get(&n->streams, name) : NULL;
	i = s ? find_item(s, step->op, step->kind, step->tag, true) : NULL;
	if (i) {
		item_take(s, i);
		if (step->kind == KIND_STREAM)
			stream_show(p, n, s, step->op == SHOWN_CREATE && s->snapshot);
		stream_drop_unused(p, n, s);
	}
	pthread_mutex_unlock(&p->lock);
	if (i)
		item_free(i);
	return i;
}

void shown_expect(struct shown *p, const char *key, const struct shown_step *step, bool on)
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

bool shown_is_expected(struct shown *p, const struct layout_path *path, enum shown_op op)
{
	struct shown_step step;
	struct stream *s;
	bool expected;

	if (path->kind == KIND_NAMESPACE)
		return shown_namespace_step(p, path->namespace, &step) && step.op == op;
	pthread_mutex_lock(&p->lock);
	s = stream_get(p, path->namespace, path->stream);
	expected = s && (find_item(s, op, path->kind, path->tag, true) ||
				find_item(s, op, path->kind, path->tag, false));
	pthread_mutex_unlock(&p->lock);
	return expected;
}

/* One change, shown at once. */
static bool set_stream(
	struct shown *p, const char *key, struct object *object, struct shown_change *ret)
{
	_cleanup_free_ char *namespace = xstrndup(key, strcspn(key, "/"));

	if (!shown_begin(p, key, object, NULL, ret))
		return false;
	for (size_t i = 0; i < ret->nsteps; i++)
		shown_flip(p, key, &ret->steps[i]);
	settle_namespace(p, namespace);
	return true;
}

bool shown_set_stream(struct shown *p, const char *key, struct object *object,
	struct snapshot **ret_old, struct snapshot **ret_new)
{
	_cleanup_change_ struct shown_change first = {0}, second = {0};

	if (!set_stream(p, key, object, &first))
		return false;
	if (first.again)
		set_stream(p, key, object, &second);
	*ret_old = snapshot_ref_or_null(first.old);
	*ret_new = snapshot_ref_or_null(first.again ? second.new : first.new);
	return true;
}

static void namespace_attr(struct shown *p, struct namespace *n, struct layout_attr *ret)
{
	*ret = (struct layout_attr){.ino = namespace_ino(p, n),
		.mtime = n->mtime,
		.nlink = is_ready(p, n) ? 2 + n->count : 1}; /* 1: nobody has counted yet */
}

static int root_attr(struct shown *p, const struct layout_path *path, struct layout_attr *ret)
{
	struct namespace *n;
	int r = 0;

	pthread_mutex_lock(&p->lock);
	if (path->kind == KIND_ROOT) {
		*ret = (struct layout_attr){1, 0, p->mtime, 2 + p->shown};
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
static int tags_attr(struct shown *p, const struct layout_path *path, struct layout_attr *ret)
{
	_cleanup_view_ struct snapshot *v = NULL;
	size_t coming = 0, going = 0;
	int64_t mtime = 0;
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, path->namespace, path->stream);
	v = snapshot_ref_or_null(s ? view_at(s, KIND_TAGS, "") : NULL);
	if (v && v == s->snapshot) {
		coming = s->tags.coming;
		going = s->tags.going.count - s->tags.going.gone;
		mtime = tags_wait(s) && !s->tags.moved ? s->tags.mtime : 0;
	}
	pthread_mutex_unlock(&p->lock);
	if (!v)
		return -ENOENT;
	snapshot_attr(v, KIND_TAGS, "", ret);
	ret->nlink += going - coming;
	if (mtime)
		ret->mtime = mtime;
	return 0;
}

int shown_attr(struct shown *p, const struct layout_path *path, struct layout_attr *ret)
{
	_cleanup_view_ struct snapshot *v = NULL;

	if (path->kind <= KIND_NAMESPACE)
		return root_attr(p, path, ret);
	if (path->kind == KIND_TAGS)
		return tags_attr(p, path, ret);
	v = shown_snapshot_at(p, path);
	return v ? snapshot_attr(v, path->kind, path->tag, ret) : -ENOENT;
}

int shown_lookup(struct shown *p, const struct layout_path *directory, const char *name,
	struct layout_path *ret_path, struct layout_attr *ret_attr)
{
	struct layout_path path = *directory;
	char *target = NULL;
	int r;

	path.kind = layout_child(directory->kind, name);
	if (path.kind == KIND_COUNT) {
		switch (directory->kind) {
		case KIND_ROOT:
			path.kind = KIND_NAMESPACE;
			target = path.namespace;
			break;
		case KIND_NAMESPACE:
			path.kind = KIND_STREAM;
			target = path.stream;
			break;
		case KIND_TAGS:
			path.kind = KIND_TAG;
			target = path.tag;
			break;
		default:
			return -ENOENT;
		}
		if (strlen(name) >= NAME_SIZE)
			return -ENAMETOOLONG;
		strcpy(target, name);
	}
	r = shown_attr(p, &path, ret_attr);
	if (r == 0)
		*ret_path = path;
	return r;
}

/* ---- listings: what is asked for is copied under the lock and given outside it ---- */

#define BATCH 128

struct child {
	unsigned cookie;
	struct layout_attr attr;
	struct snapshot *snapshot; /* of a stream */
	char name[NAME_SIZE];
};

static size_t batch_namespaces(struct shown *p, uint64_t cookie, struct child *batch)
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
	struct shown *p, const char *namespace, uint64_t cookie, struct child *batch)
{
	struct namespace *parent = namespace_get(p, namespace, false);
	size_t n = 0;

	if (!parent)
		return 0;
	for (size_t i = order_after(&parent->order, cookie); i < parent->order.count && n < BATCH;
		i++) {
		struct stream *child = parent->order.places[i].child;
		struct snapshot *snapshot = child ? view_at(child, KIND_STREAM, "") : NULL;

		if (!snapshot || strlen(child->name) >= NAME_SIZE)
			continue;
		batch[n].cookie = child->cookie;
		batch[n].snapshot = snapshot_ref(snapshot);
		strcpy(batch[n].name, child->name);
		n++;
	}
	return n;
}

static size_t batch_get(
	struct shown *p, const struct layout_path *directory, uint64_t cookie, struct child *batch)
{
	size_t n;

	pthread_mutex_lock(&p->lock);
	if (directory->kind == KIND_ROOT)
		n = batch_namespaces(p, cookie, batch);
	else
		n = batch_streams(p, directory->namespace, cookie, batch);
	pthread_mutex_unlock(&p->lock);
	return n;
}

static int list_objects(struct shown *p, const struct layout_path *directory, uint64_t cookie,
	shown_fn *fn, void *arg)
{
	_cleanup_free_ struct child *batch = xcalloc(BATCH, sizeof(*batch));
	struct layout_path path = *directory;
	bool stop = false;
	size_t n;

	path.kind = directory->kind == KIND_ROOT ? KIND_NAMESPACE : KIND_STREAM;
	do {
		n = batch_get(p, directory, cookie, batch);
		for (size_t i = 0; i < n; i++) {
			struct child *c = &batch[i];

			strcpy(path.kind == KIND_STREAM ? path.stream : path.namespace, c->name);
			if (c->snapshot && !stop)
				snapshot_attr(c->snapshot, KIND_STREAM, "", &c->attr);
			stop = stop || fn(arg, c->name, c->cookie, &path, &c->attr);
			snapshot_unref(steal_ptr(c->snapshot));
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

/* The next ones after the cookie; and the newest snapshot with a reference, or NULL. */
static size_t batch_going(struct shown *p, const struct layout_path *directory, uint64_t cookie,
	struct going *batch, struct snapshot **ret_newest)
{
	struct stream *s;
	size_t n = 0;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, directory->namespace, directory->stream);
	if (!*ret_newest && s)
		*ret_newest = snapshot_ref_or_null(s->snapshot);
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
static int list_tags(struct shown *p, const struct layout_path *directory, uint64_t cookie,
	shown_fn *fn, void *arg)
{
	_cleanup_free_ struct going *going = xcalloc(BATCH, sizeof(*going));
	_cleanup_view_ struct snapshot *newest = NULL;
	size_t n = batch_going(p, directory, cookie, going, &newest), k = 0;
	size_t i = newest ? snapshot_tag_after(newest, cookie) : 0;
	const struct snapshot_index *x = newest ? snapshot_index(newest) : NULL;
	struct layout_path path = *directory;
	struct layout_attr attr;
	bool stop = false;

	path.kind = KIND_TAG;
	while (!stop && ((x && i < x->ntags) || k < n)) {
		bool goes = k < n && (!x || i == x->ntags || going[k].cookie < x->tags[i].cookie);

		cookie = goes ? going[k].cookie : x->tags[i].cookie;
		strcpy(path.tag, goes ? going[k].name : x->tags[i].name);
		i += !goes;
		k += goes;
		/* One that is there again already stands in its new place. */
		if (!(goes && newest && snapshot_find_tag(newest, path.tag)) &&
			shown_attr(p, &path, &attr) == 0)
			stop = fn(arg, path.tag, cookie, &path, &attr);
		if (k == BATCH && n == BATCH) {
			n = batch_going(p, directory, going[k - 1].cookie, going, &newest);
			k = 0;
		}
	}
	return 0;
}

static int list_fixed(struct shown *p, const struct layout_path *directory, uint64_t cookie,
	shown_fn *fn, void *arg)
{
	struct layout_path path = *directory;
	struct layout_attr attr;

	for (enum kind kind = KIND_ROOT + 1; kind < KIND_COUNT; kind++) {
		const struct layout_row *node = &layout[kind];

		if (node->parent != directory->kind || !node->name || layout_is_hidden(kind) ||
			kind <= cookie)
			continue;
		path.kind = kind;
		if (shown_attr(p, &path, &attr) < 0)
			continue;
		if (fn(arg, node->name, kind, &path, &attr))
			break;
	}
	return 0;
}

int shown_list(struct shown *p, const struct layout_path *directory, uint64_t cookie, shown_fn *fn,
	void *arg)
{
	struct layout_attr attr;

	if (directory->kind == KIND_ROOT || directory->kind == KIND_NAMESPACE)
		return list_objects(p, directory, cookie, fn, arg);
	if (shown_attr(p, directory, &attr) < 0)
		return -ENOENT;
	if (directory->kind == KIND_TAGS)
		return list_tags(p, directory, cookie, fn, arg);
	return list_fixed(p, directory, cookie, fn, arg);
}
