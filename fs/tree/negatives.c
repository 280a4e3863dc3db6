#include "fs/tree/negatives.h"

#include "client/map.h"

#include <pthread.h>

struct dir {
	struct map names; /* -> the name's own memory */
	char name[];
};

struct negatives {
	pthread_mutex_t lock;
	struct map dirs; /* lock; -> struct dir */
	size_t count;	 /* lock; names in all of them */
	uint64_t epoch;	 /* lock */
};

struct negatives *negatives_new(void)
{
	struct negatives *n = xcalloc(1, sizeof(*n));

	pthread_mutex_init(&n->lock, NULL);
	return n;
}

/* The caller takes it out of the table. */
static void dir_free(struct dir *d)
{
	map_foreach(&d->names, e)
		free(e->value);
	map_release(&d->names);
	free(d);
}

void negatives_free(struct negatives *n)
{
	if (!n)
		return;
	map_foreach(&n->dirs, e)
		dir_free(e->value);
	map_release(&n->dirs);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

uint64_t negatives_epoch(struct negatives *n)
{
	uint64_t epoch;

	pthread_mutex_lock(&n->lock);
	epoch = n->epoch;
	pthread_mutex_unlock(&n->lock);
	return epoch;
}

/* n->lock held. */
static void add(struct negatives *n, const char *dir, const char *name)
{
	struct dir *d = map_get(&n->dirs, dir);
	char *copy = xstrdup(name);

	if (!d) {
		d = xcalloc(1, sizeof(*d) + strlen(dir) + 1);
		strcpy(d->name, dir);
		map_set(&n->dirs, d->name, d);
	}
	map_set(&d->names, copy, copy);
	n->count++;
}

bool negatives_add(struct negatives *n, uint64_t epoch, const char *dir, const char *name)
{
	const struct dir *d;
	bool known, may;

	pthread_mutex_lock(&n->lock);
	d = map_get(&n->dirs, dir);
	known = d && map_get(&d->names, name);
	may = epoch == n->epoch && (known || n->count < NEGATIVES_MAX);
	if (may && !known)
		add(n, dir, name);
	pthread_mutex_unlock(&n->lock);
	return may;
}

/* n->lock held. */
static void del_dir(struct negatives *n, struct dir *d)
{
	n->count -= d->names.count;
	map_del(&n->dirs, d->name);
	dir_free(d);
}

void negatives_del(struct negatives *n, const char *dir, const char *name)
{
	struct dir *d;
	char *copy;

	pthread_mutex_lock(&n->lock);
	d = map_get(&n->dirs, dir);
	copy = d ? map_del(&d->names, name) : NULL;
	n->count -= copy != NULL;
	if (d && d->names.count == 0)
		del_dir(n, d);
	pthread_mutex_unlock(&n->lock);
	free(copy);
}

void negatives_del_dir(struct negatives *n, const char *dir)
{
	struct dir *d;

	pthread_mutex_lock(&n->lock);
	d = map_get(&n->dirs, dir);
	if (d)
		del_dir(n, d);
	pthread_mutex_unlock(&n->lock);
}

static void give(const struct dir *d, negatives_fn *fn, void *arg)
{
	map_foreach(&d->names, e)
		fn(arg, d->name, e->key);
}

void negatives_take(struct negatives *n, const char *dir, negatives_fn *fn, void *arg)
{
	struct dir *d;

	pthread_mutex_lock(&n->lock);
	n->epoch++;
	if (dir) {
		d = map_get(&n->dirs, dir);
		if (d) {
			give(d, fn, arg);
			del_dir(n, d);
		}
	} else {
		map_foreach(&n->dirs, e) {
			give(e->value, fn, arg);
			dir_free(e->value);
		}
		map_release(&n->dirs);
		n->count = 0;
	}
	pthread_mutex_unlock(&n->lock);
}
