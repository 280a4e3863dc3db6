#include "fs/publish/kernel.h"

#include "fs/tree/negatives.h"

#include <errno.h>
#include <pthread.h>

struct forgotten {
	struct forgotten *next;
	uint64_t parent;
	char name[];
};

struct kernel {
	struct shown *shown;
	struct inode_table *inodes;
	struct negatives *negatives;
	struct kernel_notify notify; /* once `told`, and never changed then */
	atomic_bool told;

	pthread_mutex_t lock;
	pthread_cond_t more;
	struct forgotten *first, **last; /* lock */
	bool forgets;			 /* lock; the thread runs */
	bool stop;			 /* lock */
	pthread_t thread;
};

struct kernel *kernel_new(struct shown *shown, struct inode_table *inodes)
{
	struct kernel *k = xcalloc(1, sizeof(*k));

	k->shown = shown;
	k->inodes = inodes;
	k->negatives = negatives_new();
	k->last = &k->first;
	pthread_mutex_init(&k->lock, NULL);
	pthread_cond_init(&k->more, NULL);
	return k;
}

void kernel_free(struct kernel *k)
{
	if (!k)
		return;
	while (k->first) {
		struct forgotten *f = k->first;

		k->first = f->next;
		free(f);
	}
	negatives_free(k->negatives);
	pthread_cond_destroy(&k->more);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

void kernel_set_notify(struct kernel *k, const struct kernel_notify *notify)
{
	k->notify = *notify;
	atomic_store(&k->told, true);
}

bool kernel_is_told(const struct kernel *k)
{
	return atomic_load(&k->told);
}

int kernel_inval(struct kernel *k, uint64_t id)
{
	return id && kernel_is_told(k) ? k->notify.inval_inode(k->notify.arg, id) : 0;
}

void kernel_inval_ino(struct kernel *k, uint64_t ino)
{
	kernel_inval(k, inode_id(k->inodes, ino));
}

void kernel_inval_attr(struct kernel *k, uint64_t id)
{
	if (kernel_is_told(k))
		k->notify.inval_attr(k->notify.arg, id);
}

uint64_t kernel_directory(struct kernel *k, const struct place *place)
{
	struct place parent = *place;
	struct layout_attr attr;

	parent.kind = layout[place->kind].parent;
	if (parent.kind == KIND_ROOT)
		return INODE_ROOT;
	return shown_attr(k->shown, &parent, &attr) == 0 ? inode_id_at(k->inodes, attr.ino) : 0;
}

/* ---- names to be forgotten ---- */

static void *run(void *arg)
{
	struct kernel *k = arg;
	struct forgotten *f;

	pthread_mutex_lock(&k->lock);
	for (;;) {
		while (!k->first && !k->stop)
			pthread_cond_wait(&k->more, &k->lock);
		f = k->first;
		if (k->stop)
			break;
		k->first = f->next;
		if (!k->first)
			k->last = &k->first;
		pthread_mutex_unlock(&k->lock);
		k->notify.inval_entry(k->notify.arg, f->parent, f->name);
		/* It waited for listings that were answered before: the kernel keeps none. */
		kernel_inval(k, f->parent);
		free(f);
		pthread_mutex_lock(&k->lock);
	}
	pthread_mutex_unlock(&k->lock);
	return NULL;
}

bool kernel_keep_forgetting(struct kernel *k)
{
	bool waiting;

	pthread_mutex_lock(&k->lock);
	if (k->first && !k->forgets && !k->stop)
		k->forgets = pthread_create(&k->thread, NULL, run, k) == 0;
	waiting = k->first && !k->forgets;
	pthread_cond_signal(&k->more);
	pthread_mutex_unlock(&k->lock);
	return !waiting;
}

/* Puts the name in line. */
static void forget(struct kernel *k, uint64_t parent, const char *name)
{
	struct forgotten *f;

	if (!parent || !kernel_is_told(k))
		return;
	f = xcalloc(1, sizeof(*f) + strlen(name) + 1);
	f->parent = parent;
	strcpy(f->name, name);
	pthread_mutex_lock(&k->lock);
	*k->last = f;
	k->last = &f->next;
	pthread_mutex_unlock(&k->lock);
}

void kernel_forget_name(struct kernel *k, const struct place *place)
{
	forget(k, kernel_directory(k, place), layout_name(place));
	kernel_keep_forgetting(k);
}

void kernel_forget_listing(struct kernel *k, const struct place *place)
{
	forget(k, kernel_directory(k, place), "/"); /* no name */
	kernel_keep_forgetting(k);
}

void kernel_stop(struct kernel *k)
{
	bool forgets;

	pthread_mutex_lock(&k->lock);
	k->stop = true;
	forgets = k->forgets;
	k->forgets = false;
	pthread_cond_signal(&k->more);
	pthread_mutex_unlock(&k->lock);
	if (forgets)
		pthread_join(k->thread, NULL);
}

/* ---- names that are missing ---- */

uint64_t kernel_coverage(struct kernel *k)
{
	return negatives_epoch(k->negatives);
}

bool kernel_keeps_missing(struct kernel *k, uint64_t coverage, const char *ns, const char *name)
{
	return negatives_add(k->negatives, coverage, ns, name);
}

void kernel_name_came(struct kernel *k, const struct place *place)
{
	if (place->kind == KIND_NAMESPACE)
		negatives_del(k->negatives, "", place->ns);
	else
		negatives_del(k->negatives, place->ns, place->stream);
}

void kernel_namespace_went(struct kernel *k, const char *ns)
{
	negatives_del_dir(k->negatives, ns);
}

/* What the set of negatives gives: namespace and name, two strings each. */
struct uncovered {
	char **names;
	size_t count, size;
};

static void uncover(void *arg, const char *ns, const char *name)
{
	struct uncovered *u = arg;

	if (u->count + 2 > u->size) {
		u->size = u->size ? 2 * u->size : 16;
		u->names = xrealloc(u->names, u->size * sizeof(*u->names));
	}
	u->names[u->count++] = xstrdup(ns);
	u->names[u->count++] = xstrdup(name);
}

void kernel_uncover(struct kernel *k, const char *ns)
{
	struct uncovered u = {0};

	negatives_take(k->negatives, ns, uncover, &u);
	for (size_t i = 0; i < u.count; i += 2) {
		struct place place = {.kind = u.names[i][0] ? KIND_STREAM : KIND_NAMESPACE};

		snprintf(place.ns, NAME_SIZE, "%s", u.names[i]);
		forget(k, kernel_directory(k, &place), u.names[i + 1]);
		free(u.names[i]);
		free(u.names[i + 1]);
	}
	free(u.names);
	kernel_keep_forgetting(k);
}
