#include "fs/overlay.h"

#include "client/idmap.h"
#include "fs/tree.h"

#include <pthread.h>

struct place {
	uint64_t ino;	   /* that stands for it; 0: its own */
	int64_t hidden_to; /* monotonic ns; 0: not hidden */
};

struct pending {
	uint64_t ino;
	int open;
	int64_t until; /* monotonic ns, while nobody has it open */
};

struct overlay {
	pthread_mutex_t lock;
	struct idmap places;  /* lock; place -> struct place */
	struct idmap pending; /* lock; slot -> struct pending */
};

struct overlay *overlay_new(void)
{
	struct overlay *o = xcalloc(1, sizeof(*o));

	pthread_mutex_init(&o->lock, NULL);
	return o;
}

void overlay_free(struct overlay *o)
{
	if (!o)
		return;
	idmap_foreach(&o->places, e) free(e->value);
	idmap_foreach(&o->pending, e) free(e->value);
	idmap_release(&o->places);
	idmap_release(&o->pending);
	pthread_mutex_destroy(&o->lock);
	free(o);
}

/* o->lock held. What was hidden for long enough is there again. */
static struct place *place_get(struct overlay *o, uint64_t id)
{
	struct place *p = idmap_get(&o->places, id);

	if (p && p->hidden_to && p->hidden_to <= now_monotonic())
		p->hidden_to = 0;
	return p;
}

static struct place *place_make(struct overlay *o, uint64_t id)
{
	struct place *p = place_get(o, id);

	if (!p) {
		p = xcalloc(1, sizeof(*p));
		idmap_set(&o->places, id, p);
	}
	return p;
}

uint64_t overlay_ino(struct overlay *o, uint64_t place)
{
	struct place *p;
	uint64_t ino;

	pthread_mutex_lock(&o->lock);
	p = place_get(o, place);
	ino = p && p->ino ? p->ino : place;
	pthread_mutex_unlock(&o->lock);
	return ino;
}

bool overlay_is_hidden(struct overlay *o, uint64_t place)
{
	struct place *p;
	bool hidden;

	pthread_mutex_lock(&o->lock);
	p = place_get(o, place);
	hidden = p && p->hidden_to;
	pthread_mutex_unlock(&o->lock);
	return hidden;
}

void overlay_hide(struct overlay *o, uint64_t place)
{
	struct place *p;

	pthread_mutex_lock(&o->lock);
	p = place_make(o, place);
	p->hidden_to = now_monotonic() + OVERLAY_HIDDEN_NS;
	p->ino = tree_new_ino();
	pthread_mutex_unlock(&o->lock);
}

void overlay_show(struct overlay *o, uint64_t place, uint64_t ino)
{
	struct place *p;

	pthread_mutex_lock(&o->lock);
	p = place_make(o, place);
	p->ino = ino;
	p->hidden_to = 0;
	pthread_mutex_unlock(&o->lock);
}

/* o->lock held. */
static struct pending *pending_get(struct overlay *o, uint64_t slot)
{
	struct pending *p = idmap_get(&o->pending, slot);

	if (p && p->open <= 0 && p->until <= now_monotonic()) {
		idmap_del(&o->pending, slot);
		free(p);
		p = NULL;
	}
	return p;
}

void overlay_add_pending(struct overlay *o, uint64_t slot, uint64_t ino)
{
	struct pending *p = xcalloc(1, sizeof(*p));

	p->ino = ino;
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
