#include "fs/tree/itable.h"

/* ---- what the kernel knows ---- */

uint64_t inode_lookup(struct inode_table *t, const struct place *path, uint64_t ino)
{
	struct inode *n;
	uint64_t id;

	pthread_mutex_lock(&t->lock);
	n = inode_find(t, ino);
	if (!n)
		n = inode_make(t, path, ino, path->kind == KIND_SCRATCH ? INODE_GONE : INODE_SHOWN);
	if (n->lookups++ == 0) {
		t->known++;
		t->met++;
	}
	id = n->id;
	pthread_mutex_unlock(&t->lock);
	return id;
}

void inode_forget(struct inode_table *t, uint64_t id, uint64_t count)
{
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	n = inode_by_id(t, id);
	if (n && id != INODE_ROOT && n->lookups && count) {
		n->lookups -= count < n->lookups ? count : n->lookups;
		t->known -= n->lookups == 0;
		inode_settle(t, n);
	}
	pthread_mutex_unlock(&t->lock);
}

bool inode_get(struct inode_table *t, uint64_t id, struct place *ret_path, uint64_t *ret_ino)
{
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	n = inode_by_id(t, id);
	if (n) {
		inode_path(n, ret_path);
		*ret_ino = n->ino;
	}
	pthread_mutex_unlock(&t->lock);
	return n;
}

static uint64_t id_of(const struct inode *n)
{
	return n && n->lookups ? n->id : 0;
}

uint64_t inode_id(struct inode_table *t, uint64_t ino)
{
	uint64_t id;

	pthread_mutex_lock(&t->lock);
	id = id_of(inode_find(t, ino));
	pthread_mutex_unlock(&t->lock);
	return id;
}

size_t inode_count(struct inode_table *t)
{
	size_t count;

	pthread_mutex_lock(&t->lock);
	count = t->known;
	pthread_mutex_unlock(&t->lock);
	return count;
}

const atomic_uint_fast64_t *inode_known(struct inode_table *t)
{
	return &t->met;
}

void inode_foreach(struct inode_table *t, const char *ns, inode_fn *fn, void *arg)
{
	struct place path;
	const struct group *g;

	pthread_mutex_lock(&t->lock);
	g = map_get(&t->groups, ns);
	for (const struct names *names = g ? g->first : NULL; names; names = names->next) {
		const struct inode *n = inode_numbered(t, names->first);

		for (; n; n = inode_next_kin(t, n)) {
			if (n->state == INODE_GONE)
				continue;
			inode_path(n, &path);
			fn(arg, &path, n->ino);
		}
	}
	pthread_mutex_unlock(&t->lock);
}

/* ---- names of the server's tree ---- */

struct inode *inode_standing(struct inode_table *t, uint64_t first)
{
	struct inode *n = idmap_get(&t->standing, first);

	if (!n)
		n = inode_find(t, first);
	return n && (n->state == INODE_SHOWN || n->state == INODE_HIDDEN) ? n : NULL;
}

uint64_t inode_at(struct inode_table *t, uint64_t first, bool *ret_hidden)
{
	struct inode *n;
	uint64_t ino;

	pthread_mutex_lock(&t->lock);
	n = idmap_get(&t->standing, first);
	ino = n ? n->ino : first;
	if (ret_hidden)
		*ret_hidden = n && n->state == INODE_HIDDEN;
	pthread_mutex_unlock(&t->lock);
	return ino;
}

uint64_t inode_id_at(struct inode_table *t, uint64_t first)
{
	uint64_t id;

	pthread_mutex_lock(&t->lock);
	id = id_of(inode_standing(t, first));
	pthread_mutex_unlock(&t->lock);
	return id;
}

void inode_detach(struct inode_table *t, struct inode *n)
{
	struct own *own = own_of(n);

	if (!own)
		return;
	if (own->first)
		idmap_del(&t->standing, own->first);
	if (own->entry)
		entry_del(t, n);
	line_leave(own);
	own->first = 0;
	own->returning = false;
}

void inode_end(struct inode_table *t, struct inode *n)
{
	inode_detach(t, n);
	inode_set_state(t, n, INODE_GONE);
	inode_settle(t, n);
}

void inode_vacate(struct inode_table *t, uint64_t first)
{
	struct inode *n = inode_standing(t, first);

	if (n)
		inode_end(t, n);
}

void inode_stand(struct inode_table *t, struct inode *n, uint64_t first)
{
	if (n->ino == first)
		return;
	inode_own(t, n)->first = first;
	idmap_set(&t->standing, first, n);
}

void inode_hide_name(struct inode_table *t, uint64_t first, const struct place *path)
{
	struct inode *n = inode_make(t, path, layout_new_ino(), INODE_HIDDEN);

	inode_stand(t, n, first);
	line_up(&t->soon, own_of(n));
}

void inode_hide(struct inode_table *t, uint64_t first, const struct place *path)
{
	pthread_mutex_lock(&t->lock);
	inode_vacate(t, first);
	inode_hide_name(t, first, path);
	pthread_mutex_unlock(&t->lock);
}

void inode_take(struct inode_table *t, struct inode *n, uint64_t first, const struct place *path)
{
	struct inode *standing = inode_standing(t, first);

	if (standing && standing != n)
		inode_vacate(t, first);
	inode_detach(t, n);
	inode_set_state(t, n, INODE_SHOWN);
	inode_move(t, n, path);
	inode_stand(t, n, first);
	inode_settle(t, n);
}

void inode_show(struct inode_table *t, uint64_t first, uint64_t ino, const struct place *path)
{
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	n = inode_find(t, ino);
	inode_take(t, n ? n : inode_make(t, path, ino, INODE_SHOWN), first, path);
	pthread_mutex_unlock(&t->lock);
}

uint64_t inode_first(const struct inode *n)
{
	const struct own *own = own_of(n);

	if (n->state == INODE_SHOWN)
		return own && own->first ? own->first : n->ino;
	return n->state == INODE_GONE && own ? own->lost : 0;
}

void inode_drop(struct inode_table *t, uint64_t first)
{
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	n = inode_standing(t, first);
	if (n && own_of(n))
		own_of(n)->lost = first;
	inode_vacate(t, first);
	entries_drop(t, first);
	pthread_mutex_unlock(&t->lock);
}

bool inode_is_returning(struct inode_table *t, uint64_t first)
{
	struct inode *n;
	bool returning;

	pthread_mutex_lock(&t->lock);
	n = idmap_get(&t->standing, first);
	returning = n && own_of(n)->returning;
	pthread_mutex_unlock(&t->lock);
	return returning;
}

void inode_return(struct inode_table *t, uint64_t first)
{
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	n = idmap_get(&t->standing, first);
	if (n && n->state == INODE_HIDDEN) {
		struct own *own = own_of(n);

		line_leave(own);
		own->returning = false;
		inode_set_state(t, n, INODE_SHOWN);
	}
	pthread_mutex_unlock(&t->lock);
}

void inode_keep(struct inode_table *t, uint64_t first, struct snapshot *last)
{
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	n = inode_standing(t, first);
	if (n && !inode_own(t, n)->last)
		own_of(n)->last = snapshot_ref(last);
	pthread_mutex_unlock(&t->lock);
}

struct snapshot *inode_last(struct inode_table *t, uint64_t ino)
{
	struct snapshot *last;
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	n = inode_find_any(t, ino);
	last = n && own_of(n) ? snapshot_ref_or_null(own_of(n)->last) : NULL;
	pthread_mutex_unlock(&t->lock);
	return last;
}

/* ---- files that were created and that the server doesn't have yet ---- */

/* Its time is over, though nobody has looked since (inode_next_due). */
static bool is_over(const struct inode *n)
{
	const struct own *own = own_of(n);

	return own->line && own->due <= now_monotonic();
}

uint64_t inode_begin(struct inode_table *t, uint64_t dir, const struct place *path)
{
	const char *name = layout[path->kind].name;
	uint64_t ino = layout_new_ino();
	struct entry *e;
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	e = entry_find(t, dir, name);
	if (e)
		inode_end(t, e->inode);
	n = inode_make(t, path, ino, INODE_PENDING);
	entry_add(t, dir, name, n);
	line_up(&t->soon, own_of(n));
	pthread_mutex_unlock(&t->lock);
	return ino;
}

uint64_t inode_pending(struct inode_table *t, uint64_t dir, enum kind kind)
{
	struct entry *e;
	uint64_t ino;

	pthread_mutex_lock(&t->lock);
	e = t->pending ? entry_find(t, dir, layout[kind].name) : NULL;
	ino = e && inode_is_begun(e->inode) ? e->inode->ino : 0;
	pthread_mutex_unlock(&t->lock);
	return ino;
}

bool inode_is_begun(const struct inode *n)
{
	return n->state == INODE_PENDING && !is_over(n);
}

static struct inode *find_pending(struct inode_table *t, uint64_t ino)
{
	struct inode *n = inode_find(t, ino);

	return n && inode_is_begun(n) ? n : NULL;
}

bool inode_is_pending(struct inode_table *t, uint64_t ino, uint64_t dir)
{
	struct inode *n;
	bool pending;

	pthread_mutex_lock(&t->lock);
	n = find_pending(t, ino);
	pending = n && own_of(n)->entry->dir->ino == dir;
	pthread_mutex_unlock(&t->lock);
	return pending;
}

bool inode_is_unsaved(struct inode_table *t, uint64_t ino)
{
	bool unsaved;

	pthread_mutex_lock(&t->lock);
	unsaved = t->pending && find_pending(t, ino);
	pthread_mutex_unlock(&t->lock);
	return unsaved;
}

void inode_give_up(struct inode_table *t, uint64_t ino)
{
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	n = inode_find(t, ino);
	if (n && n->state == INODE_PENDING)
		inode_end(t, n);
	pthread_mutex_unlock(&t->lock);
}

bool inode_is_leaving(struct inode_table *t, uint64_t ino)
{
	struct inode *n;
	bool leaving;

	pthread_mutex_lock(&t->lock);
	n = inode_find(t, ino);
	leaving = n && n->state == INODE_PENDING && own_of(n)->returning;
	pthread_mutex_unlock(&t->lock);
	return leaving;
}

void inode_leave(struct inode_table *t, uint64_t ino)
{
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	n = inode_find(t, ino);
	if (n && n->state == INODE_PENDING && own_of(n)->returning)
		inode_end(t, n);
	pthread_mutex_unlock(&t->lock);
}

/* ---- what is due ---- */

static void take_due(struct inode_table *t, struct own *own, struct inode_due *ret)
{
	struct inode *n = own->inode;

	*ret = (struct inode_due){.first = own->first};
	inode_path(n, &ret->path);
	if (own->entry)
		ret->dir = own->entry->dir->ino;
	line_leave(own);
	own->returning = n->state == INODE_HIDDEN || n->state == INODE_PENDING;
	if (n->state == INODE_PENDING) {
		ret->begun = n->ino;
	} else if (n->state == INODE_SCRATCH) {
		entry_del(t, n);
		inode_settle(t, n);
	}
}

bool inode_next_due(struct inode_table *t, struct inode_due *ret, int64_t *ret_next)
{
	struct own *own;
	bool due;

	pthread_mutex_lock(&t->lock);
	own = t->soon.first;
	if (!own || (t->old.first && t->old.first->due < own->due))
		own = t->old.first;
	*ret_next = own ? own->due : INT64_MAX;
	due = own && own->due <= now_monotonic();
	if (due)
		take_due(t, own, ret);
	pthread_mutex_unlock(&t->lock);
	return due;
}
