#include "fs/tree/overlay.h"

#include "client/clock.h"
#include "client/idmap.h"
#include "fs/tree/layout.h"

#include <pthread.h>

struct place {
	uint64_t id;
	uint64_t ino;	   /* that stands for it; 0: its own */
	int64_t hidden_to; /* monotonic ns; 0: not hidden */
	bool returning;	   /* it was given as due */
	struct layout_path *path;
	struct place *next,
		**link; /* in the line of the hidden ones, but for those that are returning */
};

struct pending {
	uint64_t ino;
	int open;
	int64_t until; /* monotonic ns, while nobody has it open */
	struct layout_path path;
};

struct overlay {
	pthread_mutex_t lock;
	struct idmap places;	      /* lock; place -> struct place */
	struct idmap pending;	      /* lock; slot -> struct pending */
	struct place *hidden, **last; /* lock; in the order in which they are due */
};

struct overlay *overlay_new(void)
{
	struct overlay *o = xcalloc(1, sizeof(*o));

	o->last = &o->hidden;
	pthread_mutex_init(&o->lock, NULL);
	return o;
}

void overlay_free(struct overlay *o)
{
	if (!o)
		return;
	idmap_foreach(&o->places, e)
	{
		free(((struct place *)e->value)->path);
		free(e->value);
	}
	idmap_foreach(&o->pending, e) free(e->value);
	idmap_release(&o->places);
	idmap_release(&o->pending);
	pthread_mutex_destroy(&o->lock);
	free(o);
}

/* o->lock held. */
static void line_up(struct overlay *o, struct place *p)
{
	p->next = NULL;
	p->link = o->last;
	*o->last = p;
	o->last = &p->next;
}

/* o->lock held. */
static void leave_line(struct overlay *o, struct place *p)
{
	if (!p->link)
		return;
	*p->link = p->next;
	if (p->next)
		p->next->link = p->link;
	else
		o->last = p->link;
	p->link = NULL;
}

/* o->lock held. */
static void unhide(struct overlay *o, struct place *p)
{
	if (!p->hidden_to)
		return;
	p->hidden_to = 0;
	p->returning = false;
	free(steal_ptr(p->path));
	leave_line(o, p);
}

static struct place *place_make(struct overlay *o, uint64_t id)
{
	struct place *p = idmap_get(&o->places, id);

	if (!p) {
		p = xcalloc(1, sizeof(*p));
		p->id = id;
		idmap_set(&o->places, id, p);
	}
	return p;
}

uint64_t overlay_ino(struct overlay *o, uint64_t place)
{
	struct place *p;
	uint64_t ino;

	pthread_mutex_lock(&o->lock);
	p = idmap_get(&o->places, place);
	ino = p && p->ino ? p->ino : place;
	pthread_mutex_unlock(&o->lock);
	return ino;
}

bool overlay_is_hidden(struct overlay *o, uint64_t place)
{
	struct place *p;
	bool hidden;

	pthread_mutex_lock(&o->lock);
	p = idmap_get(&o->places, place);
	hidden = p && p->hidden_to;
	pthread_mutex_unlock(&o->lock);
	return hidden;
}

void overlay_hide(struct overlay *o, uint64_t place, const struct layout_path *path)
{
	struct place *p;

	pthread_mutex_lock(&o->lock);
	p = place_make(o, place);
	unhide(o, p);
	p->hidden_to = now_monotonic() + OVERLAY_HIDDEN_NS;
	p->ino = layout_new_ino();
	p->path = xmalloc(sizeof(*path));
	*p->path = *path;
	line_up(o, p); /* all stay hidden for the same time */
	pthread_mutex_unlock(&o->lock);
}

void overlay_forget(struct overlay *o, uint64_t place)
{
	struct place *p;

	pthread_mutex_lock(&o->lock);
	p = idmap_del(&o->places, place);
	if (p)
		unhide(o, p);
	free(p);
	pthread_mutex_unlock(&o->lock);
}

bool overlay_is_returning(struct overlay *o, uint64_t place)
{
	struct place *p;
	bool returning;

	pthread_mutex_lock(&o->lock);
	p = idmap_get(&o->places, place);
	returning = p && p->returning;
	pthread_mutex_unlock(&o->lock);
	return returning;
}

void overlay_return(struct overlay *o, uint64_t place)
{
	struct place *p;

	pthread_mutex_lock(&o->lock);
	p = idmap_get(&o->places, place);
	if (p)
		unhide(o, p);
	pthread_mutex_unlock(&o->lock);
}

void overlay_show(struct overlay *o, uint64_t place, uint64_t ino)
{
	struct place *p;

	pthread_mutex_lock(&o->lock);
	p = place_make(o, place);
	p->ino = ino;
	unhide(o, p);
	pthread_mutex_unlock(&o->lock);
}

static bool is_over(const struct pending *p)
{
	return p->open <= 0 && p->until <= now_monotonic();
}

/* o->lock held. */
static struct pending *pending_get(struct overlay *o, uint64_t slot)
{
	struct pending *p = idmap_get(&o->pending, slot);

	return p && !is_over(p) ? p : NULL;
}

/* o->lock held. */
static bool hidden_due(struct overlay *o, struct overlay_due *ret, int64_t *next)
{
	struct place *p = o->hidden;

	if (!p)
		return false;
	if (p->hidden_to > now_monotonic()) {
		*next = p->hidden_to;
		return false;
	}
	leave_line(o, p);
	p->returning = true;
	*ret = (struct overlay_due){*p->path, p->id};
	return true;
}

/* o->lock held. */
static bool pending_due(struct overlay *o, struct overlay_due *ret, int64_t *next)
{
	idmap_foreach(&o->pending, e)
	{
		struct pending *p = e->value;

		if (is_over(p)) {
			*ret = (struct overlay_due){.path = p->path};
			idmap_del(&o->pending, e->id);
			free(p);
			return true;
		}
		if (p->open <= 0 && p->until < *next)
			*next = p->until;
	}
	return false;
}

bool overlay_next_due(struct overlay *o, struct overlay_due *ret, int64_t *ret_next)
{
	int64_t next = INT64_MAX;
	bool due;

	pthread_mutex_lock(&o->lock);
	due = hidden_due(o, ret, &next) || pending_due(o, ret, &next);
	pthread_mutex_unlock(&o->lock);
	*ret_next = next;
	return due;
}

void overlay_add_pending(
	struct overlay *o, uint64_t slot, uint64_t ino, const struct layout_path *path)
{
	struct pending *p = xcalloc(1, sizeof(*p));

	p->ino = ino;
	p->path = *path;
	p->until = now_monotonic() + OVERLAY_HIDDEN_NS;
	pthread_mutex_lock(&o->lock);
	free(idmap_set(&o->pending, slot, p));
	pthread_mutex_unlock(&o->lock);
}

bool overlay_has_pending(struct overlay *o)
{
	bool some;

	pthread_mutex_lock(&o->lock);
	some = o->pending.count;
	pthread_mutex_unlock(&o->lock);
	return some;
}

uint64_t overlay_pending(struct overlay *o, uint64_t slot)
{
	struct pending *p;
	uint64_t ino;

	pthread_mutex_lock(&o->lock);
	p = pending_get(o, slot);
	ino = p ? p->ino : 0;
	pthread_mutex_unlock(&o->lock);
	return ino;
}

void overlay_hold_pending(struct overlay *o, uint64_t slot, int by)
{
	struct pending *p;

	pthread_mutex_lock(&o->lock);
	p = pending_get(o, slot);
	if (p) {
		p->open += by;
		p->until = now_monotonic() + OVERLAY_HIDDEN_NS;
	}
	pthread_mutex_unlock(&o->lock);
}

void overlay_drop_pending(struct overlay *o, uint64_t slot)
{
	pthread_mutex_lock(&o->lock);
	free(idmap_del(&o->pending, slot));
	pthread_mutex_unlock(&o->lock);
}
