#include "fs/dotapi/events.h"

#include "client/buf.h"
#include "client/clock.h"
#include "client/map.h"
#include "fs/dotapi/pushes.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>

/* What may be in line for one reader. */
#define LINE_ITEMS 16384 /* as inotify's queue */
#define LINE_BYTES ((size_t)16 << 20)
/*
 * So many deletions are remembered: two threads may bring two versions of one stream in the wrong
 * order.
 */
#define DELETED_MAX 256

struct item {
	struct item *next;
	enum store_event event;
	struct object *object; /* NULL: of a reader of pushes */
	char *lines;	       /* of that */
	size_t len;
};

/* A version whose new images are still to be told to one reader. */
struct arrival {
	struct arrival *next;
	struct object *before, *now; /* `before` NULL: nothing is known of the stream */
	uint64_t reader;
	int64_t since; /* its open */
};

/* The newest version of a stream that pushes were told of. */
struct told {
	struct object *object;
	bool gone;
	struct told *older, *newer; /* of those that are gone */
};

/* A read that waits. */
struct parked {
	struct parked *next;
	struct events *events;
	fuse_req_t req;
	size_t size;
	bool interrupted; /* events->lock */
};

struct events_reader {
	struct events_reader *next;
	char *ns, *stream;
	bool pushes;
	uint64_t id;	/* of its own, for good */
	int64_t opened; /* ns since 1970 */
	/* events->lock */
	struct item *first, **last;
	size_t items, bytes;
	struct buf text; /* what was begun: the rest of a line */
	bool cut;	 /* it was too slow: nothing comes after `text` */
	struct parked *parked;
	struct fuse_pollhandle *poll;
};

/* The newest version of a stream that was told. */
struct version {
	uint64_t order;		  /* client/object.h */
	struct version **deleted; /* where it stands in events->deleted, or NULL: it is there */
	char key[];
};

struct events {
	pthread_mutex_t lock;
	pthread_cond_t work;
	pthread_t thread;
	struct events_reader *readers;	      /* lock */
	struct map versions;		      /* lock; key -> struct version */
	struct version *deleted[DELETED_MAX]; /* lock; of these, in a circle */
	size_t next_deleted;		      /* lock */
	size_t pushes;			      /* lock; readers of pushes */
	struct map told;		      /* lock; key -> struct told, while there are such */
	struct told *oldest, *newest;	      /* lock; of these, which are gone */
	size_t gone, most;		      /* lock; so many are gone; were there at once */
	uint64_t ids;			      /* lock; of readers */
	struct arrival *first, **last;	      /* lock */
	bool started, stop;		      /* lock */
};

static const char *const types[] = {
	[STORE_ADDED] = "ADDED", [STORE_MODIFIED] = "MODIFIED", [STORE_DELETED] = "DELETED"};

static const char too_slow[] = "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"apiVersion\":"
			       "\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"events "
			       "came faster than they were read: open the file again\","
			       "\"reason\":\"Expired\",\"code\":410}}\n";

static const char too_slow_for_pushes[] =
	"ERROR\timages came faster than they were read: open the file again\t-\t-\n";

struct events *events_new(void)
{
	struct events *e = xcalloc(1, sizeof(*e));

	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->work, NULL);
	e->last = &e->first;
	return e;
}

static void item_free(struct item *item)
{
	object_unref(item->object);
	free(item->lines);
	free(item);
}

static void drop_line(struct events_reader *r)
{
	while (r->first) {
		struct item *item = r->first;

		r->first = item->next;
		item_free(item);
	}
	r->last = &r->first;
	r->items = r->bytes = 0;
}

static void arrival_free(struct arrival *a)
{
	object_unref(a->before);
	object_unref(a->now);
	free(a);
}

static void told_free(struct told *t)
{
	object_unref(t->object);
	free(t);
}

/* e->lock held. Nobody reads pushes any more. */
static void forget_told(struct events *e)
{
	while (e->first) {
		struct arrival *a = e->first;

		e->first = a->next;
		arrival_free(a);
	}
	e->last = &e->first;
	map_foreach(&e->told, one)
		told_free(one->value);
	map_release(&e->told);
	e->oldest = e->newest = NULL;
	e->gone = e->most = 0;
}

static void forget_versions(struct events *e)
{
	map_foreach(&e->versions, one)
		free(one->value);
	map_release(&e->versions);
	memset(e->deleted, 0, sizeof(e->deleted));
}

void events_free(struct events *e)
{
	if (!e)
		return;
	while (e->readers)
		events_close(e, e->readers);
	pthread_cond_destroy(&e->work);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

/* e->lock held. */
static bool is_readable(const struct events *e, const struct events_reader *r)
{
	return r->text.len || r->first || r->cut || e->stop;
}

/* e->lock held. Up to `size` bytes, of as many lines as there are. */
static void take(struct events_reader *r, size_t size, struct buf *ret)
{
	while (ret->len < size) {
		struct item *item = r->first;
		size_t n = size - ret->len;

		if (r->text.len) {
			n = n < r->text.len ? n : r->text.len;
			buf_add(ret, r->text.data, n);
			buf_consume(&r->text, n);
			continue;
		}
		if (!item)
			return;
		r->first = item->next;
		if (!r->first)
			r->last = &r->first;
		r->items--;
		r->bytes -= item->len;
		if (item->object) /* the text is jansson's: one line */
			buf_addf(&r->text, "{\"type\":\"%s\",\"object\":%s}\n", types[item->event],
				item->object->text);
		else
			buf_add(&r->text, item->lines, item->len);
		item_free(item);
	}
}

/* ---- the thread ---- */

/* e->lock held. The first read that can be answered, taken out of the reader's line. */
static struct parked *take_parked(
	struct events *e, struct events_reader *r, struct buf *ret, int *ret_error)
{
	for (struct parked **at = &r->parked; *at; at = &(*at)->next) {
		struct parked *p = *at;

		if (p->interrupted)
			*ret_error = EINTR;
		else if (at == &r->parked && is_readable(e, r))
			take(r, p->size, ret);
		else
			continue;
		*at = p->next;
		return p;
	}
	return NULL;
}

/* e->lock held; it is let go meanwhile. True when there was something to do. */
static bool serve(struct events *e, struct events_reader *r)
{
	_cleanup_buf_ struct buf text = BUF_INIT(SIZE_MAX);
	struct fuse_pollhandle *poll = is_readable(e, r) ? steal_ptr(r->poll) : NULL;
	int error = 0;
	struct parked *p = take_parked(e, r, &text, &error);

	if (!p && !poll)
		return false;
	pthread_mutex_unlock(&e->lock);
	if (p) {
		fuse_req_interrupt_func(p->req, NULL, NULL);
		if (error)
			fuse_reply_err(p->req, error);
		else
			fuse_reply_buf(p->req, text.data, text.len);
		free(p);
	}
	if (poll) {
		fuse_lowlevel_notify_poll(poll);
		fuse_pollhandle_destroy(poll);
	}
	pthread_mutex_lock(&e->lock);
	return true;
}

/* e->lock held. A reader may be gone once the lock was let go: so from the start again. */
static bool serve_one(struct events *e)
{
	for (struct events_reader *r = e->readers; r; r = r->next)
		if (serve(e, r))
			return true;
	return false;
}

/* ---- changes ---- */

static bool is_for(const struct events_reader *r, const char *key)
{
	size_t n = strlen(r->ns);

	if (n == 0)
		return true;
	return strncmp(key, r->ns, n) == 0 && key[n] == '/' &&
	       (!r->stream[0] || streq(key + n + 1, r->stream));
}

/* e->lock held. A stream that is gone is forgotten when enough others went after it. */
static void note_deletion(struct events *e, struct version *v, bool deleted)
{
	struct version **at = &e->deleted[e->next_deleted];

	if (v->deleted)
		*v->deleted = NULL;
	v->deleted = NULL;
	if (!deleted)
		return;
	e->next_deleted = (e->next_deleted + 1) % DELETED_MAX;
	if (*at)
		map_del(&e->versions, (*at)->key);
	free(*at);
	*at = v;
	v->deleted = at;
}

/* e->lock held. */
static bool is_late(struct events *e, enum store_event event, const struct object *object)
{
	struct version *v = map_get(&e->versions, object->key);

	if (v &&
		(object->order < v->order || (object->order == v->order && event != STORE_DELETED)))
		return true;
	if (!v) {
		v = xcalloc(1, sizeof(*v) + strlen(object->key) + 1);
		strcpy(v->key, object->key);
		map_set(&e->versions, v->key, v);
	}
	v->order = object->order;
	note_deletion(e, v, event == STORE_DELETED);
	return false;
}

/* e->lock held. Takes the item over. */
static void push(struct events_reader *r, struct item *item)
{
	if (r->cut) {
		item_free(item);
		return;
	}
	if (r->items >= LINE_ITEMS || r->bytes + item->len > LINE_BYTES) {
		item_free(item);
		drop_line(r);
		buf_addstr(&r->text, r->pushes ? too_slow_for_pushes : too_slow);
		r->cut = true;
		return;
	}
	*r->last = item;
	r->last = &item->next;
	r->items++;
	r->bytes += item->len;
}

static struct item *item_new(enum store_event event, struct object *object)
{
	struct item *item = xcalloc(1, sizeof(*item));

	item->event = event;
	item->object = object_ref(object);
	item->len = object->len;
	return item;
}

/* ---- new images ---- */

/* e->lock held. Out of the line of those that are gone. */
static void unlink_gone(struct events *e, struct told *t)
{
	if (!t->gone)
		return;
	*(t->older ? &t->older->newer : &e->oldest) = t->newer;
	*(t->newer ? &t->newer->older : &e->newest) = t->older;
	t->older = t->newer = NULL;
	t->gone = false;
	e->gone--;
}

/*
 * e->lock held. All that a lost right takes away may come back, so it stays known; but never more
 * than was there at once.
 */
static void note_gone(struct events *e, struct told *t)
{
	struct told *first;

	if (t->gone)
		return;
	t->gone = true;
	t->older = e->newest;
	*(e->newest ? &e->newest->newer : &e->oldest) = t;
	e->newest = t;
	e->gone++;
	while (e->gone > DELETED_MAX && e->gone > e->most) {
		first = e->oldest;
		unlink_gone(e, first);
		map_del(&e->told, first->object->key);
		told_free(first);
	}
}

/* e->lock held. */
static void set_told(struct events *e, struct object *object)
{
	struct told *t = map_get(&e->told, object->key);
	size_t there;

	if (!t)
		t = xcalloc(1, sizeof(*t));
	else
		map_del(&e->told, object->key); /* the key stands in the old object */
	object_unref(t->object);
	t->object = object_ref(object);
	map_set(&e->told, t->object->key, t);
	unlink_gone(e, t);
	there = e->told.count - e->gone;
	e->most = there > e->most ? there : e->most;
}

/* e->lock held. */
static void add_arrival(
	struct events *e, const struct events_reader *r, struct object *before, struct object *now)
{
	struct arrival *a = xcalloc(1, sizeof(*a));

	*a = (struct arrival){.before = before ? object_ref(before) : NULL,
		.now = object_ref(now),
		.reader = r->id,
		.since = r->opened};
	*e->last = a;
	e->last = &a->next;
}

/* e->lock held. */
static void note_arrival(struct events *e, enum store_event event, struct object *object)
{
	struct told *t = map_get(&e->told, object->key);
	struct object *before = t ? t->object : NULL;

	if (event == STORE_DELETED) {
		if (t)
			note_gone(e, t);
		return;
	}
	if (!before || before->status != object->status || !streq(before->uid, object->uid))
		for (struct events_reader *r = e->readers; r; r = r->next)
			if (r->pushes && is_for(r, object->key))
				add_arrival(e, r, before, object);
	set_told(e, object);
}

/* e->lock held. */
static struct events_reader *find_reader(struct events *e, uint64_t id)
{
	struct events_reader *r = e->readers;

	while (r && r->id != id)
		r = r->next;
	return r;
}

/* e->lock held; it is let go meanwhile. True when there was something to do. */
static bool tell_arrival(struct events *e)
{
	struct buf lines = BUF_INIT(LINE_BYTES);
	struct arrival *a = e->first;
	struct events_reader *r;

	if (!a)
		return false;
	e->first = a->next;
	if (!e->first)
		e->last = &e->first;
	pthread_mutex_unlock(&e->lock);
	pushes_add(a->before, a->now, a->since, &lines);
	pthread_mutex_lock(&e->lock);
	r = find_reader(e, a->reader); /* it may be gone by now */
	if (r && lines.len) {
		struct item *item = xcalloc(1, sizeof(*item));

		item->lines = buf_steal(&lines, &item->len);
		push(r, item);
	}
	buf_release(&lines);
	arrival_free(a);
	return true;
}

static void *run(void *arg)
{
	struct events *e = arg;

	pthread_mutex_lock(&e->lock);
	for (;;) {
		while (serve_one(e) || (!e->stop && tell_arrival(e)))
			;
		if (e->stop)
			break;
		pthread_cond_wait(&e->work, &e->lock);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

/* e->lock held. Where no thread can be made the next event tries again. */
static void start_thread(struct events *e)
{
	if (!e->started && !e->stop)
		e->started = pthread_create(&e->thread, NULL, run, e) == 0;
}

void events_add(struct events *e, enum store_event event, struct object *object)
{
	pthread_mutex_lock(&e->lock);
	if (e->readers && !is_late(e, event, object)) {
		for (struct events_reader *r = e->readers; r; r = r->next)
			if (!r->pushes && is_for(r, object->key))
				push(r, item_new(event, object));
		if (e->pushes)
			note_arrival(e, event, object);
		start_thread(e);
		pthread_cond_signal(&e->work);
	}
	pthread_mutex_unlock(&e->lock);
}

/* ---- handles ---- */

static struct events_reader *open_reader(
	struct events *e, const char *ns, const char *stream, bool pushes)
{
	struct events_reader *r = xcalloc(1, sizeof(*r));

	r->ns = xstrdup(ns);
	r->stream = xstrdup(stream);
	r->text.max = SIZE_MAX;
	r->last = &r->first;
	r->pushes = pushes;
	r->opened = now_realtime() / NSEC_PER_SEC * NSEC_PER_SEC; /* the API's times are seconds */
	pthread_mutex_lock(&e->lock);
	start_thread(e);
	r->id = ++e->ids;
	r->next = e->readers;
	e->readers = r;
	e->pushes += pushes;
	pthread_mutex_unlock(&e->lock);
	return r;
}

struct events_reader *events_open(struct events *e, const char *ns, const char *stream)
{
	return open_reader(e, ns, stream, false);
}

struct events_reader *events_open_pushes(
	struct events *e, struct store *store, const char *ns, const char *stream)
{
	struct events_reader *r = open_reader(e, ns, stream, true);
	struct object **objects;
	size_t n = store_objects(store, NULL, NULL, &objects);

	/* What is told from here on is told of what there is now. */
	pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < n; i++)
		if (!map_get(&e->told, objects[i]->key))
			set_told(e, objects[i]);
	pthread_mutex_unlock(&e->lock);
	store_objects_free(objects, n);
	return r;
}

void events_close(struct events *e, struct events_reader *r)
{
	struct events_reader **at;

	pthread_mutex_lock(&e->lock);
	for (at = &e->readers; *at != r; at = &(*at)->next)
		;
	*at = r->next;
	e->pushes -= r->pushes;
	if (!e->pushes)
		forget_told(e);
	if (!e->readers)
		forget_versions(e);
	pthread_mutex_unlock(&e->lock);
	if (r->poll)
		fuse_pollhandle_destroy(r->poll);
	drop_line(r);
	buf_release(&r->text);
	free(r->ns);
	free(r->stream);
	free(r);
}

/* Not answered here: the request's own lock is held. */
static void on_interrupt(fuse_req_t req, void *arg)
{
	struct parked *p = arg;

	pthread_mutex_lock(&p->events->lock);
	p->interrupted = true;
	pthread_cond_signal(&p->events->work);
	pthread_mutex_unlock(&p->events->lock);
}

static void park(struct events *e, struct events_reader *r, fuse_req_t req, size_t size)
{
	struct parked *p = xcalloc(1, sizeof(*p)), **at;

	*p = (struct parked){.events = e, .req = req, .size = size};
	fuse_req_interrupt_func(req, on_interrupt, p);
	pthread_mutex_lock(&e->lock);
	for (at = &r->parked; *at; at = &(*at)->next)
		;
	*at = p;
	if (e->stop) { /* the thread may be gone already */
		*at = NULL;
	} else {
		pthread_cond_signal(&e->work);
		p = NULL;
	}
	pthread_mutex_unlock(&e->lock);
	if (p) {
		fuse_req_interrupt_func(req, NULL, NULL);
		fuse_reply_buf(req, NULL, 0);
		free(p);
	}
}

void events_read(struct events *e, struct events_reader *r, fuse_req_t req, size_t size, int flags)
{
	_cleanup_buf_ struct buf text = BUF_INIT(SIZE_MAX);
	bool ready;

	pthread_mutex_lock(&e->lock);
	ready = !r->parked && is_readable(e, r);
	if (ready)
		take(r, size, &text);
	pthread_mutex_unlock(&e->lock);
	if (ready)
		fuse_reply_buf(req, text.data, text.len);
	else if (flags & O_NONBLOCK)
		fuse_reply_err(req, EAGAIN);
	else
		park(e, r, req, size);
}

void events_poll(struct events *e, struct events_reader *r, fuse_req_t req,
	struct fuse_pollhandle *ph, unsigned wanted)
{
	struct fuse_pollhandle *old = ph;
	bool ready;

	pthread_mutex_lock(&e->lock);
	ready = is_readable(e, r);
	if (!ready && ph) {
		old = r->poll;
		r->poll = ph;
	}
	pthread_mutex_unlock(&e->lock);
	if (old)
		fuse_pollhandle_destroy(old);
	fuse_reply_poll(req, ready ? wanted & (POLLIN | POLLRDNORM) : 0);
}

void events_stop(struct events *e)
{
	bool started;

	pthread_mutex_lock(&e->lock);
	e->stop = true;
	started = e->started;
	e->started = false;
	pthread_cond_signal(&e->work);
	pthread_mutex_unlock(&e->lock);
	if (started)
		pthread_join(e->thread, NULL);
}
