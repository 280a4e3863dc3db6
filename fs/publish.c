#include "fs/publish.h"

#include "client/map.h"

#include <pthread.h>

struct entry {
	struct entry *next;
	char key[];
};

struct publish {
	struct published *published;
	struct node_table *nodes;
	struct file_table *files;
	struct overlay *overlay;
	struct scratch *scratch;
	struct store *store;
	pthread_t thread;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct entry *first, **last;  /* lock; the line */
	struct map queued;	      /* lock; what stands in it */
	struct entry *current;	      /* lock; what is being published */
	uint64_t added, done;	      /* lock */
	struct publish_notify notify; /* lock */
	bool started, stop;	      /* lock */
};

struct publish *publish_new(struct published *published, struct node_table *nodes,
	struct file_table *files, struct overlay *overlay, struct scratch *scratch)
{
	struct publish *p = xcalloc(1, sizeof(*p));

	p->published = published;
	p->nodes = nodes;
	p->files = files;
	p->overlay = overlay;
	p->scratch = scratch;
	p->last = &p->first;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->changed, NULL);
	return p;
}

void publish_free(struct publish *p)
{
	if (!p)
		return;
	while (p->first) {
		struct entry *e = p->first;

		p->first = e->next;
		free(e);
	}
	map_release(&p->queued);
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void publish_set_store(struct publish *p, struct store *store)
{
	p->store = store;
}

void publish_key(void *arg, const char *key)
{
	struct publish *p = arg;
	struct entry *e;

	pthread_mutex_lock(&p->lock);
	if (!map_get(&p->queued, key)) {
		e = xcalloc(1, sizeof(*e) + strlen(key) + 1);
		strcpy(e->key, key);
		map_set(&p->queued, e->key, e);
		*p->last = e;
		p->last = &e->next;
		p->added++;
		pthread_cond_broadcast(&p->changed);
	}
	pthread_mutex_unlock(&p->lock);
}

/* `ino` is the place's own. */
static void tell(struct publish *p, uint64_t ino)
{
	struct publish_notify notify;
	uint64_t id;

	pthread_mutex_lock(&p->lock);
	notify = p->notify;
	pthread_mutex_unlock(&p->lock);
	id = notify.inval_inode ? node_find(p->nodes, overlay_ino(p->overlay, ino)) : 0;
	if (id)
		notify.inval_inode(notify.arg, id);
}

/* Tells the kernel of one file if its bytes changed or it is gone; names have their timeout. */
static void tell_file(
	struct publish *p, struct view *old, struct view *new, enum node_kind kind, const char *tag)
{
	struct tree_attr before, after;

	if (view_attr(old, kind, tag, &before) < 0)
		return;
	if (view_attr(new, kind, tag, &after) < 0 || before.ino != after.ino ||
		before.mtime != after.mtime)
		tell(p, before.ino);
}

static void tell_changes(struct publish *p, struct view *old, struct view *new)
{
	const struct view_index *x = view_index(old);

	for (enum node_kind kind = NODE_IMAGESTREAM_JSON; kind <= NODE_TAGS; kind++)
		tell_file(p, old, new, kind, "");
	for (size_t i = 0; i < x->ntags; i++)
		for (enum node_kind kind = NODE_TAG; kind <= NODE_TAG_IMAGE; kind++)
			tell_file(p, old, new, kind, x->tags[i].name);
}

static void drop_scratch(
	struct publish *p, struct view *old, struct view *new, enum node_kind kind, const char *tag)
{
	struct tree_attr before, after;

	if (view_attr(old, kind, tag, &before) == 0 &&
		(!new || view_attr(new, kind, tag, &after) < 0 || after.ino != before.ino))
		scratch_drop(p->scratch, before.ino);
}

/* Scratch goes with the directory that it lies in. */
static void drop_directories(struct publish *p, struct view *old, struct view *new)
{
	const struct view_index *x;

	if (new &&streq(old->object->uid, new->object->uid) &&
		view_index(old)->tags_mtime == view_index(new)->tags_mtime)
		return; /* the same tags */
	x = view_index(old);
	drop_scratch(p, old, new, NODE_STREAM, "");
	for (size_t i = 0; i < x->ntags; i++)
		drop_scratch(p, old, new, NODE_TAG, x->tags[i].name);
}

static void publish_stream(struct publish *p, const char *key)
{
	_cleanup_object_ struct object *object = store_get(p->store, key);
	_cleanup_view_ struct view *old = NULL, *new = NULL;

	if (!published_set_stream(p->published, key, object, &old, &new))
		return;
	if (new)
		file_publish(p->files, key, new);
	if (old && new &&streq(old->object->uid, new->object->uid))
		tell_changes(p, old, new);
	if (old)
		drop_directories(p, old, new);
}

static void publish_one(struct publish *p, const char *key)
{
	struct store_namespace ns;

	if (strchr(key, '/'))
		publish_stream(p, key);
	else
		published_set_namespace(
			p->published, key, store_get_namespace(p->store, key, &ns) ? &ns : NULL);
}

/* p->lock held. */
static bool is_under_way(const struct publish *p, const char *key)
{
	return map_get(&p->queued, key) || (p->current && streq(p->current->key, key));
}

/* p->lock held. To the front of the line. */
static void put_first(struct publish *p, const char *key)
{
	struct entry *e = map_get(&p->queued, key), **at = &p->first;

	if (!e)
		return;
	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	if (p->last == &e->next)
		p->last = at;
	e->next = p->first;
	p->first = e;
	if (p->last == &p->first)
		p->last = &e->next;
}

void publish_now(struct publish *p, const char *key)
{
	publish_key(p, key);
	pthread_mutex_lock(&p->lock);
	put_first(p, key);
	while (is_under_way(p, key) && !p->stop)
		pthread_cond_wait(&p->changed, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

static struct entry *take(struct publish *p)
{
	struct entry *e = NULL;

	pthread_mutex_lock(&p->lock);
	while (!p->first && !p->stop)
		pthread_cond_wait(&p->changed, &p->lock);
	if (!p->stop) {
		e = p->first;
		p->first = e->next;
		if (!p->first)
			p->last = &p->first;
		map_del(&p->queued, e->key);
		p->current = e;
	}
	pthread_mutex_unlock(&p->lock);
	return e;
}

static void *run(void *arg)
{
	struct publish *p = arg;
	struct entry *e;

	while ((e = take(p))) {
		publish_one(p, e->key);
		pthread_mutex_lock(&p->lock);
		p->current = NULL;
		free(e);
		p->done++;
		pthread_cond_broadcast(&p->changed);
		pthread_mutex_unlock(&p->lock);
	}
	return NULL;
}

void publish_start(struct publish *p)
{
	pthread_mutex_lock(&p->lock);
	if (pthread_create(&p->thread, NULL, run, p) != 0)
		abort();
	p->started = true;
	pthread_mutex_unlock(&p->lock);
}

void publish_set_notify(struct publish *p, const struct publish_notify *notify)
{
	pthread_mutex_lock(&p->lock);
	p->notify = *notify;
	pthread_mutex_unlock(&p->lock);
}

void publish_stop(struct publish *p)
{
	bool started;

	pthread_mutex_lock(&p->lock);
	p->stop = true;
	started = p->started;
	p->started = false;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	if (started)
		pthread_join(p->thread, NULL);
}

void publish_flush(struct publish *p)
{
	uint64_t target;

	pthread_mutex_lock(&p->lock);
	target = p->added;
	while (p->done < target && !p->stop)
		pthread_cond_wait(&p->changed, &p->lock);
	pthread_mutex_unlock(&p->lock);
}
