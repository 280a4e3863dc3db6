#include "fs/tree/shown.h"

#include "client/clock.h"
#include "client/map.h"
#include "fs/tree/order.h"

#include <errno.h>

/*
 * Names in tags/ that wait: those that are to come aren't shown yet, those that are to go still
 * are.
 */
struct tags_waiting {
	size_t coming;
	struct order going; /* by cookie -> struct step */
	bool moved;	    /* one of them, or of the caller's own, came or went */
	int64_t mtime;	    /* of tags/ until then */
};

/* What is on its way in a stream. */
struct waiting {
	/* place -> the oldest struct step that is linked: of several that one counts */
	struct map steps;
	uint64_t serial; /* of the newest step */
	struct tags_waiting tags;
};

struct stream {
	unsigned cookie;
	bool shown;		   /* in the namespace's listing and count */
	struct snapshot *snapshot; /* the newest; NULL: gone, but not yet shown so */
	struct waiting *waiting;   /* NULL: nothing; a stream has it for moments only */
	char name[];
};

struct shown_namespace {
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
 * What was shown and went, by the st_ino that it had first: should it come back, it is another
 * inode, since the kernel keeps the one that was removed dead as long as a process holds it. Beyond
 * GONE_MAX all that comes counts as one that comes back.
 */
#define GONE_MAX 16384

struct gone {
	struct idmap inos;
	bool full;
	unsigned generation; /* the last one given */
};

struct shown {
	struct indexes *indexes;
	pthread_mutex_t lock;  /* guards all below */
	struct map namespaces; /* name -> struct namespace */
	struct order order;
	size_t shown; /* namespaces in the root's listing */
	int64_t mtime;
	bool ready; /* every namespace is, now and later */
	struct gone gone;
};

struct shown *shown_new(struct indexes *indexes)
{
	struct shown *p = xcalloc(1, sizeof(*p));

	p->indexes = indexes;
	p->mtime = now_realtime();
	pthread_mutex_init(&p->lock, NULL);
	return p;
}

static void waiting_free(struct waiting *w)
{
	if (!w)
		return;
	map_foreach(&w->steps, e) {
		for (struct step *i = e->value, *next; i; i = next) {
			next = i->next;
			change_unref(i->change);
		}
	}
	map_release(&w->steps);
	order_release(&w->tags.going);
	free(w);
}

static void stream_free(struct stream *s)
{
	waiting_free(s->waiting);
	snapshot_unref(s->snapshot);
	free(s);
}

static void namespace_free(struct shown_namespace *n)
{
	map_foreach(&n->streams, e)
		stream_free(e->value);
	map_release(&n->streams);
	order_release(&n->order);
	free(n);
}

void shown_free(struct shown *p)
{
	if (!p)
		return;
	map_foreach(&p->namespaces, e)
		namespace_free(e->value);
	map_release(&p->namespaces);
	order_release(&p->order);
	idmap_release(&p->gone.inos);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static bool is_ready(const struct shown *p, const struct shown_namespace *n)
{
	return p->ready || (n && n->ready);
}

/* Listed by the server; or its streams came with a watch of the whole cluster. */
static bool is_wanted(const struct shown_namespace *n)
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

static uint64_t namespace_ino_of(const struct shown_namespace *n, unsigned generation)
{
	const char *uid = n->server.uid[0] ? n->server.uid : n->name;

	return layout_ino(uid, KIND_NAMESPACE, n->name, (uint64_t)generation << 32);
}

/* p->lock held. The same as long as it is shown, or was found by name. */
static uint64_t namespace_ino(struct shown *p, struct shown_namespace *n)
{
	if (!n->ino) {
		n->plain = namespace_ino_of(n, 0);
		n->ino = namespace_ino_of(n, gone_generation(&p->gone, n->plain));
	}
	return n->ino;
}

/* p->lock held. */
static void namespace_show(struct shown *p, struct shown_namespace *n)
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

static struct shown_namespace *namespace_get(struct shown *p, const char *name, bool create)
{
	struct shown_namespace *n = map_get(&p->namespaces, name);

	if (n || !create)
		return n;
	n = xcalloc(1, sizeof(*n) + strlen(name) + 1);
	strcpy(n->name, name);
	n->cookie = order_add(&p->order, n);
	map_set(&p->namespaces, n->name, n);
	return n;
}

static void namespace_drop_unused(struct shown *p, struct shown_namespace *n)
{
	if (n->listed || n->named || n->visible || n->streams.count)
		return;
	map_del(&p->namespaces, n->name);
	order_del(&p->order, n->cookie, n);
	namespace_free(n);
}

/*
 * p->lock held. Another one under the name that is shown: that one goes first, and this one comes
 * after.
 */
static void namespace_set(
	struct shown *p, struct shown_namespace *n, const struct store_namespace *ns)
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
	struct shown_namespace *n;

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

bool shown_was_listed(struct shown *p, const char *ns)
{
	const struct shown_namespace *n;
	bool listed;

	pthread_mutex_lock(&p->lock);
	n = namespace_get(p, ns, false);
	listed = n && (n->listed || n->server.uid[0]);
	pthread_mutex_unlock(&p->lock);
	return listed;
}

void shown_restart_inodes(struct shown *p)
{
	pthread_mutex_lock(&p->lock);
	map_foreach(&p->namespaces, e)
		((struct shown_namespace *)e->value)->ino = 0;
	pthread_mutex_unlock(&p->lock);
}

static void namespace_attr(struct shown *p, struct shown_namespace *n, struct layout_attr *ret);

/* p->lock held. The namespace, where it is to be shown and isn't, or the other way; else NULL. */
static struct shown_namespace *namespace_that_differs(struct shown *p, const char *name)
{
	struct shown_namespace *n = namespace_get(p, name, false);

	return n && n->visible != is_wanted(n) ? n : NULL;
}

bool shown_namespace_step(struct shown *p, const char *name, struct step *ret)
{
	struct layout_attr attr;
	struct shown_namespace *n;

	pthread_mutex_lock(&p->lock);
	n = namespace_that_differs(p, name);
	if (n) {
		namespace_attr(p, n, &attr);
		step_init(
			ret, n->visible ? STEP_DELETE : STEP_CREATE, KIND_NAMESPACE, "", attr.ino);
	}
	pthread_mutex_unlock(&p->lock);
	return n;
}

/* False where it is shown, or isn't, already: the same step may be flipped twice. */
static bool flip_namespace(struct shown *p, const char *name, bool show)
{
	struct shown_namespace *n;
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

void shown_add_named(struct shown *p, const char *name)
{
	struct shown_namespace *n;

	pthread_mutex_lock(&p->lock);
	n = namespace_get(p, name, true);
	if (!is_wanted(n) && !n->visible)
		n->named = true;
	pthread_mutex_unlock(&p->lock);
}

void shown_set_ready(struct shown *p, const char *ns, bool ready)
{
	struct shown_namespace *n;

	pthread_mutex_lock(&p->lock);
	n = ns ? namespace_get(p, ns, false) : NULL;
	if (n)
		n->ready = ready;
	else if (!ns)
		p->ready = ready;
	pthread_mutex_unlock(&p->lock);
}

bool shown_is_ready(struct shown *p, const char *ns)
{
	bool ready;

	pthread_mutex_lock(&p->lock);
	ready = is_ready(p, namespace_get(p, ns, false));
	pthread_mutex_unlock(&p->lock);
	return ready;
}

/* p->lock held. */
static struct stream *stream_get(struct shown *p, const char *ns, const char *name)
{
	struct shown_namespace *n = namespace_get(p, ns, false);

	return n ? map_get(&n->streams, name) : NULL;
}

/* The oldest step of the place itself that is linked, or NULL. */
static struct step *steps_at(const struct stream *s, enum kind kind, const char *tag)
{
	struct step place;

	if (!s->waiting)
		return NULL;
	step_init(&place, STEP_WRITE, kind, tag, 0);
	return map_get(&s->waiting->steps, place.at);
}

/*
 * The older of `found` and the oldest step of the place that is pending; `creates`: that makes it.
 */
static const struct step *older(const struct stream *s, const struct step *found, enum kind kind,
	const char *tag, bool creates)
{
	const struct step *i = steps_at(s, kind, tag);

	while (i && (i->state != STEP_PENDING || (creates && i->op != STEP_CREATE)))
		i = i->next;
	return i && (!found || i->serial < found->serial) ? i : found;
}

/*
 * p->lock held. What the place shows; borrowed, or NULL. A directory above that comes whole speaks
 * for it.
 */
static struct snapshot *view_at(const struct stream *s, enum kind kind, const char *tag)
{
	const struct step *i = older(s, NULL, kind, tag, false);

	i = older(s, i, KIND_STREAM, "", true);
	if (kind > KIND_TAG)
		i = older(s, i, KIND_TAG, tag, true);
	return !i ? s->snapshot : i->bare ? NULL : i->change->old;
}

struct snapshot *shown_snapshot_at(struct shown *p, const struct place *path)
{
	struct snapshot *snapshot = NULL;
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, path->ns, path->stream);
	if (s)
		snapshot = view_at(s, path->kind, path->tag);
	if (snapshot)
		snapshot_ref(snapshot);
	pthread_mutex_unlock(&p->lock);
	return snapshot;
}

struct snapshot *shown_snapshot(struct shown *p, const char *ns, const char *stream)
{
	struct snapshot *snapshot = NULL;
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, ns, stream);
	if (s)
		snapshot = view_at(s, KIND_STREAM, "");
	if (snapshot)
		snapshot_ref(snapshot);
	pthread_mutex_unlock(&p->lock);
	return snapshot;
}

/* The newest, whatever is shown. */
static struct snapshot *newest_view(struct shown *p, const char *ns, const char *stream)
{
	struct snapshot *snapshot = NULL;
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, ns, stream);
	if (s && s->snapshot)
		snapshot = snapshot_ref(s->snapshot);
	pthread_mutex_unlock(&p->lock);
	return snapshot;
}

static void namespace_touch(struct shown *p, struct shown_namespace *n, const struct snapshot *v)
{
	if (is_ready(p, n))
		n->mtime = bump(n->mtime);
	else if (v && n->mtime < v->object->created)
		n->mtime = v->object->created;
}

/* p->lock held. Puts the stream into its namespace's listing, or takes it out. */
static void stream_show(struct shown *p, struct shown_namespace *n, struct stream *s, bool show)
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

/* p->lock held. After steps: a stream that is gone and shown so is forgotten. */
static void stream_drop_unused(struct shown *p, struct shown_namespace *n, struct stream *s)
{
	if (s->waiting && s->waiting->steps.count == 0)
		waiting_free(steal_ptr(s->waiting));
	if (s->snapshot || s->waiting || s->shown)
		return;
	map_del(&n->streams, s->name);
	stream_free(s);
	namespace_drop_unused(p, n);
}

/* ---- steps; p->lock held in all of these ---- */

static bool step_is_linked(const struct step *step)
{
	return step->serial;
}

/* A name in tags/ that is pending is counted, or not any more. */
static void step_count(struct stream *s, struct step *i, bool pending)
{
	struct tags_waiting *tags = &s->waiting->tags;

	if (i->kind != KIND_TAG)
		return;
	if (i->op == STEP_CREATE)
		tags->coming += pending ? 1 : -1;
	else if (pending)
		order_put(&tags->going, i->cookie, i);
	else
		order_del(&tags->going, i->cookie, i);
	tags->moved = tags->moved || !pending;
}

/* Its place shows the newest from now on; its event may be still to come. */
static void step_show(struct stream *s, struct step *i)
{
	if (i->state == STEP_PENDING)
		step_count(s, i, false);
	i->state = STEP_SHOWN;
}

static void step_link(struct stream *s, struct step *i)
{
	struct waiting *w = s->waiting;
	struct step *last = map_get(&w->steps, i->at);

	change_ref(i->change);
	i->serial = ++w->serial;
	i->cookie = i->state == STEP_PENDING && i->kind == KIND_TAG && i->op == STEP_DELETE
			    ? snapshot_tag_cookie(i->change->old, step_tag(i))
			    : 0;
	if (i->state == STEP_PENDING)
		step_count(s, i, true);
	if (!last) {
		map_set(&w->steps, i->at, i);
		return;
	}
	while (last->next)
		last = last->next;
	last->next = i;
}

/* The place is done with it. The caller gives its reference back, without the lock. */
static struct change *step_unlink(struct stream *s, struct step *i)
{
	struct map *steps = &s->waiting->steps;
	struct step *before = map_get(steps, i->at);

	step_show(s, i);
	if (before == i && i->next) {
		map_set(steps, i->next->at, i->next);
	} else if (before == i) {
		map_del(steps, i->at);
	} else {
		while (before->next != i)
			before = before->next;
		before->next = i->next;
	}
	i->next = NULL;
	i->serial = 0;
	return i->change;
}

/*
 * What the call saved or made shows the newest, whatever was still on its way there: a tag that
 * another had made and lost again may be still to come.
 */
static void show_own(struct stream *s, const struct change_own *own)
{
	const struct place *path = own->file ? own->file : own->tree;

	if (!path || own->removed || path->kind == KIND_STREAM)
		return;
	for (struct step *i = steps_at(s, path->kind, path->tag); i; i = i->next)
		if (i->op != STEP_DELETE)
			step_show(s, i);
}

/*
 * An earlier change of the place that is still on its way: what is the newest is shown now. A file
 * that is only written to now doesn't show the name of one that is still to come.
 */
static void show_earlier(struct stream *s, const struct step *step)
{
	for (struct step *i = steps_at(s, step->kind, step_tag(step)); i; i = i->next)
		if (step->op != STEP_WRITE || i->op == STEP_WRITE)
			step_show(s, i);
}

static void show_all(struct stream *s, struct step *first)
{
	for (struct step *i = first; i; i = i->next)
		step_show(s, i);
}

/*
 * The caller made the directory: what is in it is its own, and no earlier one's that is still to
 * go.
 */
static void show_below(struct stream *s, const struct step *step)
{
	if (step->op != STEP_CREATE)
		return;
	if (step->kind == KIND_STREAM)
		map_foreach(&s->waiting->steps, e)
			show_all(s, e->value);
	for (unsigned k = 0; step->kind == KIND_TAG && k < TAG_FILES; k++)
		show_all(s, steps_at(s, TAG_FILE + k, step_tag(step)));
}

static bool tags_wait(const struct tags_waiting *tags)
{
	return tags->coming || tags->going.count > tags->going.gone;
}

/* A tag comes where the caller removed another of its name, which isn't shown any more. */
static bool is_remade(const struct step *step)
{
	return step->op == STEP_CREATE && step->kind == KIND_TAG &&
	       snapshot_tag_cookie(step->change->old, step_tag(step));
}

/*
 * One step of a change that begins: its place waits, or shows the newest at once. The bytes of a
 * file that isn't the caller's own are to be announced, too.
 */
static void begin_step(struct stream *s, struct step *step)
{
	if (!step->waits) {
		show_earlier(s, step);
		show_below(s, step);
		if (step->kind == KIND_TAG)
			s->waiting->tags.moved = true;
	}
	step->bare = step->waits && is_remade(step);
	if (step->waits || (step->op == STEP_WRITE && !step->own))
		step_link(s, step);
}

/* The st_ino of its directory where it never went. */
static uint64_t stream_plain(const struct object *object)
{
	return layout_ino(object->uid, KIND_STREAM, "", 0);
}

static int64_t tags_mtime(struct snapshot *v)
{
	struct layout_attr attr = {0};

	snapshot_stamp(v, KIND_TAGS, "", &attr);
	return attr.mtime;
}

/* p->lock held. Takes over the change's new snapshot for the tree, and hands the old one back. */
static void begin_locked(struct shown *p, const char *ns, const char *name, struct change *c)
{
	struct shown_namespace *n = namespace_get(p, ns, c->next != NULL);
	struct stream *s = n ? map_get(&n->streams, name) : NULL;
	struct tags_waiting *tags;
	bool shown_at_once = false;

	if (!n)
		return;
	if (!s) {
		s = xcalloc(1, sizeof(*s) + strlen(name) + 1);
		strcpy(s->name, name);
		map_set(&n->streams, s->name, s);
	}
	if (c->old && !c->next)
		gone_note(&p->gone, stream_plain(c->old->object));
	s->snapshot = snapshot_ref_or_null(c->next);
	if (!s->waiting)
		s->waiting = xcalloc(1, sizeof(*s->waiting));
	tags = &s->waiting->tags;
	if (!tags_wait(tags)) {
		tags->moved = !c->old;
		tags->mtime = c->old ? tags_mtime(c->old) : 0;
	}
	for (size_t i = 0; i < c->nsteps; i++) {
		begin_step(s, &c->steps[i]);
		if (!c->steps[i].waits && c->steps[i].kind == KIND_STREAM)
			shown_at_once = true;
	}
	if (shown_at_once)
		stream_show(p, n, s, c->next != NULL);
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
	return snapshot_new(object, NULL, NULL, generation, now_realtime(), p->indexes);
}

static void begin_own(
	struct shown *p, const char *ns, const char *name, const struct change_own *own)
{
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, ns, name);
	if (s)
		show_own(s, own);
	pthread_mutex_unlock(&p->lock);
}

/* The tag that the caller removed, or NULL. */
static const char *tag_that_went(const struct change_own *own)
{
	return own && own->removed && own->tree->kind == KIND_TAG ? own->tree->tag : NULL;
}

/* The change to the object from what is the newest now; NULL where that is newer. */
static struct change *change_to(struct shown *p, const char *key, struct snapshot *old,
	struct object *object, const struct change_own *own)
{
	bool again = object && old && !streq(old->object->uid, object->uid);
	struct snapshot *next = NULL;
	struct change *c;

	if ((!old && !object) || is_older(object, old)) {
		snapshot_unref(old);
		return NULL;
	}
	if (object && !old)
		next = first_view(p, object);
	else if (object && !again)
		next = snapshot_new(object, old, tag_that_went(own), 0, now_realtime(), p->indexes);
	c = change_between(key, old, next, own);
	c->again = again;
	return c;
}

struct change *shown_begin(
	struct shown *p, const char *key, struct object *object, const struct change_own *own)
{
	const char *name = strchr(key, '/') + 1;
	_cleanup_free_ char *ns = xstrndup(key, name - 1 - key);
	bool done = false;
	struct change *c;

	if (own)
		begin_own(p, ns, name, own);
	for (;;) {
		struct stream *s;

		c = change_to(p, key, newest_view(p, ns, name), object, own);
		if (!c)
			return NULL;
		pthread_mutex_lock(&p->lock);
		s = stream_get(p, ns, name);
		done = (s ? s->snapshot : NULL) == c->old;
		if (done)
			begin_locked(p, ns, name, c);
		pthread_mutex_unlock(&p->lock);
		if (done)
			break;
		change_unref(c); /* another thread showed something meanwhile: look again */
	}
	snapshot_unref(c->old); /* the tree's own reference; the change has another */
	return c;
}

/* p->lock held. The step of the place with that op, PENDING or not; or NULL. */
static struct step *find_step(
	const struct stream *s, enum step_op op, enum kind kind, const char *tag, bool pending)
{
	struct step *i = steps_at(s, kind, tag);

	while (i && (i->op != op || (i->state == STEP_PENDING) != pending))
		i = i->next;
	return i;
}

/* p->lock held. The change whose step was PENDING, for the caller to give back; or NULL. */
static struct change *flip_locked(
	struct shown *p, const char *ns, const char *name, const struct step *step)
{
	struct shown_namespace *n = namespace_get(p, ns, false);
	struct stream *s = n ? map_get(&n->streams, name) : NULL;
	struct step *i = s ? find_step(s, step->op, step->kind, step_tag(step), true) : NULL;
	struct change *change;

	if (!i)
		return NULL;
	change = step_unlink(s, i);
	if (step->kind == KIND_STREAM)
		stream_show(p, n, s, step->op == STEP_CREATE && s->snapshot);
	stream_drop_unused(p, n, s);
	return change;
}

int shown_flip_unknown(struct shown *p, const char *key, const struct step *step,
	const atomic_uint_fast64_t *counter, uint64_t value)
{
	const char *name = strchr(key, '/') ? strchr(key, '/') + 1 : "";
	_cleanup_free_ char *ns = object_key_namespace(key);
	_cleanup_change_ struct change *change = NULL;
	bool unknown;

	if (step->kind == KIND_NAMESPACE)
		return flip_namespace(p, key, step->op == STEP_CREATE);
	pthread_mutex_lock(&p->lock);
	unknown = !counter || atomic_load(counter) == value;
	if (unknown)
		change = flip_locked(p, ns, name, step);
	pthread_mutex_unlock(&p->lock);
	return unknown ? change != NULL : -EAGAIN;
}

bool shown_flip(struct shown *p, const char *key, const struct step *step)
{
	return shown_flip_unknown(p, key, step, NULL, 0);
}

bool shown_show(struct shown *p, const char *key, const struct step *step)
{
	const char *name = strchr(key, '/') + 1;
	_cleanup_free_ char *ns = xstrndup(key, name - 1 - key);
	struct step *i = NULL;
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, ns, name);
	if (s)
		i = find_step(s, step->op, step->kind, step_tag(step), true);
	if (i)
		step_show(s, i);
	pthread_mutex_unlock(&p->lock);
	return i;
}

void shown_end(struct shown *p, struct change *c)
{
	const char *name = strchr(c->key, '/') + 1;
	_cleanup_free_ char *ns = xstrndup(c->key, name - 1 - c->key);
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, ns, name);
	for (size_t i = 0; i < c->nsteps; i++) {
		if (step_is_linked(&c->steps[i]))
			change_unref(step_unlink(s, &c->steps[i]));
		c->steps[i].state = STEP_ANNOUNCED;
	}
	if (s)
		stream_drop_unused(p, namespace_get(p, ns, false), s);
	pthread_mutex_unlock(&p->lock);
}

bool shown_is_expected(struct shown *p, const struct place *path, enum step_op op)
{
	struct step step;
	struct stream *s;
	bool expected;

	if (path->kind == KIND_NAMESPACE)
		return shown_namespace_step(p, path->ns, &step) && step.op == op;
	pthread_mutex_lock(&p->lock);
	s = stream_get(p, path->ns, path->stream);
	expected = s && (find_step(s, op, path->kind, path->tag, true) ||
				find_step(s, op, path->kind, path->tag, false));
	pthread_mutex_unlock(&p->lock);
	return expected;
}

static void namespace_attr(struct shown *p, struct shown_namespace *n, struct layout_attr *ret)
{
	*ret = (struct layout_attr){.ino = namespace_ino(p, n),
		.mtime = n->mtime,
		.nlink = is_ready(p, n) ? 2 + n->count : 1}; /* 1: nobody has counted yet */
}

static int root_attr(struct shown *p, const struct place *path, struct layout_attr *ret)
{
	struct shown_namespace *n;
	int r = 0;

	pthread_mutex_lock(&p->lock);
	if (path->kind == KIND_ROOT) {
		*ret = (struct layout_attr){1, 0, p->mtime, 2 + p->shown};
	} else {
		n = namespace_get(p, path->ns, false);
		if (n && (n->visible || n->named))
			namespace_attr(p, n, ret);
		else
			r = -ENOENT;
	}
	pthread_mutex_unlock(&p->lock);
	return r;
}

/* tags/ counts the names that it shows; its time moves with the first of them. */
static int tags_attr(struct shown *p, const struct place *path, struct layout_attr *ret)
{
	_cleanup_view_ struct snapshot *v = NULL;
	size_t coming = 0, going = 0;
	int64_t mtime = 0;
	struct stream *s;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, path->ns, path->stream);
	v = snapshot_ref_or_null(s ? view_at(s, KIND_TAGS, "") : NULL);
	if (v && v == s->snapshot && s->waiting) {
		const struct tags_waiting *tags = &s->waiting->tags;

		coming = tags->coming;
		going = tags->going.count - tags->going.gone;
		mtime = tags_wait(tags) && !tags->moved ? tags->mtime : 0;
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

int shown_attr(struct shown *p, const struct place *path, struct layout_attr *ret)
{
	_cleanup_view_ struct snapshot *v = NULL;

	if (path->kind <= KIND_NAMESPACE)
		return root_attr(p, path, ret);
	if (path->kind == KIND_TAGS)
		return tags_attr(p, path, ret);
	v = shown_snapshot_at(p, path);
	return v ? snapshot_attr(v, path->kind, path->tag, ret) : -ENOENT;
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
		struct shown_namespace *child = p->order.places[i].child;

		if (!child || !child->visible)
			continue;
		batch[n].cookie = child->cookie;
		namespace_attr(p, child, &batch[n].attr);
		strcpy(batch[n].name, child->name);
		n++;
	}
	return n;
}

static size_t batch_streams(struct shown *p, const char *ns, uint64_t cookie, struct child *batch)
{
	struct shown_namespace *parent = namespace_get(p, ns, false);
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
	struct shown *p, const struct place *directory, uint64_t cookie, struct child *batch)
{
	size_t n;

	pthread_mutex_lock(&p->lock);
	if (directory->kind == KIND_ROOT)
		n = batch_namespaces(p, cookie, batch);
	else
		n = batch_streams(p, directory->ns, cookie, batch);
	pthread_mutex_unlock(&p->lock);
	return n;
}

static int list_objects(
	struct shown *p, const struct place *directory, uint64_t cookie, shown_fn *fn, void *arg)
{
	_cleanup_free_ struct child *batch = xcalloc(BATCH, sizeof(*batch));
	struct place path = *directory;
	bool stop = false;
	size_t n;

	path.kind = directory->kind == KIND_ROOT ? KIND_NAMESPACE : KIND_STREAM;
	do {
		n = batch_get(p, directory, cookie, batch);
		for (size_t i = 0; i < n; i++) {
			struct child *c = &batch[i];

			strcpy(path.kind == KIND_STREAM ? path.stream : path.ns, c->name);
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
static size_t batch_going(struct shown *p, const struct place *directory, uint64_t cookie,
	struct going *batch, struct snapshot **ret_newest)
{
	const struct order *waiting = NULL;
	struct stream *s;
	size_t n = 0;

	pthread_mutex_lock(&p->lock);
	s = stream_get(p, directory->ns, directory->stream);
	if (!*ret_newest && s)
		*ret_newest = snapshot_ref_or_null(s->snapshot);
	if (s && s->waiting)
		waiting = &s->waiting->tags.going;
	for (size_t i = waiting ? order_after(waiting, cookie) : 0;
		waiting && i < waiting->count && n < BATCH; i++) {
		const struct step *step = waiting->places[i].child;

		if (!step)
			continue;
		batch[n].cookie = step->cookie;
		strcpy(batch[n++].name, step_tag(step));
	}
	pthread_mutex_unlock(&p->lock);
	return n;
}

/*
 * Merges tags that stay, or have come, and those that are going, each in the order of its cookies.
 */
static int list_tags(
	struct shown *p, const struct place *directory, uint64_t cookie, shown_fn *fn, void *arg)
{
	_cleanup_free_ struct going *going = xcalloc(BATCH, sizeof(*going));
	_cleanup_view_ struct snapshot *newest = NULL;
	size_t n = batch_going(p, directory, cookie, going, &newest), k = 0;
	_cleanup_index_ struct snapshot_index *x = newest ? snapshot_index(newest) : NULL;
	size_t i = x ? snapshot_tag_after(x, cookie) : 0;
	struct place path = *directory;
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
		if (!(goes && newest && snapshot_tag_cookie(newest, path.tag)) &&
			shown_attr(p, &path, &attr) == 0)
			stop = fn(arg, path.tag, cookie, &path, &attr);
		if (k == BATCH && n == BATCH) {
			n = batch_going(p, directory, going[k - 1].cookie, going, &newest);
			k = 0;
		}
	}
	return 0;
}

static int list_fixed(
	struct shown *p, const struct place *directory, uint64_t cookie, shown_fn *fn, void *arg)
{
	struct place path = *directory;
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

int shown_list(
	struct shown *p, const struct place *directory, uint64_t cookie, shown_fn *fn, void *arg)
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
