#include "fs/tree/itable.h"

#define CHUNK	   1024
#define BUCKETS	   1024 /* at first */
#define INDEX_BITS 32	/* of an id; the rest counts those ever made */

/* ---- what inodes of a place have in common ---- */

#define TEXT_SIZE (3 * NAME_SIZE)

static struct names *names_get(struct inode_table *t, const struct layout_path *path)
{
	struct names *names;
	struct group *g;
	char text[TEXT_SIZE];

	snprintf(text, sizeof(text), "%s/%s/%s", path->namespace, path->stream, path->tag);
	names = map_get(&t->names, text);
	if (names)
		return names;
	names = xcalloc(1, sizeof(*names) + strlen(text) + 1);
	strcpy(names->text, text);
	map_set(&t->names, names->text, names);
	g = map_get(&t->groups, path->namespace);
	if (!g) {
		g = xcalloc(1, sizeof(*g) + strlen(path->namespace) + 1);
		strcpy(g->namespace, path->namespace);
		map_set(&t->groups, g->namespace, g);
	}
	names->group = g;
	names->next = g->first;
	names->link = &g->first;
	if (names->next)
		names->next->link = &names->next;
	g->first = names;
	return names;
}

static void names_free(struct inode_table *t, struct names *names)
{
	struct group *g = names->group;

	*names->link = names->next;
	if (names->next)
		names->next->link = names->link;
	if (!g->first) {
		map_del(&t->groups, g->namespace);
		free(g);
	}
	map_del(&t->names, names->text);
	free(names);
}

static const char *copy_name(const char *text, char end, char ret[NAME_SIZE])
{
	size_t len = end ? strcspn(text, "/") : strlen(text);

	memcpy(ret, text, len);
	ret[len] = '\0';
	return text + len + (end != 0);
}

static void get_path(const struct inode *n, struct layout_path *ret)
{
	const char *text = n->names->text;

	ret->kind = n->kind;
	text = copy_name(text, '/', ret->namespace);
	text = copy_name(text, '/', ret->stream);
	copy_name(text, '\0', ret->tag);
}

/* ---- inodes ---- */

static struct inode *number(struct inode_table *t, uint32_t i)
{
	return i ? &t->chunks[i / CHUNK][i % CHUNK] : NULL;
}

static uint32_t number_of(const struct inode *n)
{
	return (uint32_t)n->id;
}

static uint32_t *bucket(struct inode_table *t, uint64_t ino)
{
	return &t->buckets[ino & (t->size - 1)];
}

static void grow(struct inode_table *t)
{
	free(t->buckets);
	t->size *= 2;
	t->buckets = xcalloc(t->size, sizeof(*t->buckets));
	for (uint32_t i = 1; i <= t->made; i++) {
		struct inode *n = number(t, i);
		uint32_t *b = bucket(t, n->ino);

		if (n->state == INODE_FREE)
			continue;
		n->next_ino = *b;
		*b = i;
	}
}

/* Number 0 is none. */
static uint32_t take_number(struct inode_table *t)
{
	uint32_t i = t->free;

	if (i) {
		t->free = number(t, i)->next_ino;
		return i;
	}
	i = ++t->made;
	if (i / CHUNK == t->nchunks) {
		t->chunks = xrealloc(t->chunks, (t->nchunks + 1) * sizeof(*t->chunks));
		t->chunks[t->nchunks++] = xcalloc(CHUNK, sizeof(struct inode));
	}
	return i;
}

/* Scratch is nothing that inode_foreach gives, and may be many in a directory. */
static bool is_kin(const struct inode *n)
{
	return n->kind != KIND_SCRATCH;
}

static void leave_names(struct inode_table *t, struct inode *n)
{
	struct names *names = n->names;
	uint32_t *i = &names->first;

	if (is_kin(n)) {
		while (*i != number_of(n))
			i = &number(t, *i)->next_kin;
		*i = n->next_kin;
	}
	if (--names->refs == 0)
		names_free(t, names);
}

void inode_move(struct inode_table *t, struct inode *n, const struct layout_path *path)
{
	struct names *names = names_get(t, path);

	names->refs++;
	if (n->names)
		leave_names(t, n);
	n->names = names;
	n->kind = path->kind;
	if (!is_kin(n))
		return;
	n->next_kin = names->first;
	names->first = number_of(n);
}

static void count_state(struct inode_table *t, const struct inode *n, size_t by)
{
	t->pending += n->state == INODE_PENDING ? by : 0;
	t->scratch += n->state == INODE_SCRATCH ? by : 0;
}

struct inode *inode_make(
	struct inode_table *t, const struct layout_path *path, uint64_t ino, enum inode_state state)
{
	uint32_t i = take_number(t), *b;
	struct inode *n = number(t, i);

	*n = (struct inode){
		.id = (uint64_t)t->serial++ << INDEX_BITS | i, .ino = ino, .state = state};
	count_state(t, n, 1);
	inode_move(t, n, path);
	if (++t->count > t->size) {
		grow(t);
	} else {
		b = bucket(t, ino);
		n->next_ino = *b;
		*b = i;
	}
	return n;
}

/* The newest with that st_ino, GONE or not. */
static struct inode *find_any(struct inode_table *t, uint64_t ino)
{
	struct inode *n = number(t, *bucket(t, ino));

	while (n && n->ino != ino)
		n = number(t, n->next_ino);
	return n;
}

struct inode *inode_find(struct inode_table *t, uint64_t ino)
{
	struct inode *n = number(t, *bucket(t, ino));

	while (n && (n->ino != ino || n->state == INODE_GONE))
		n = number(t, n->next_ino);
	return n;
}

static struct inode *find_id(struct inode_table *t, uint64_t id)
{
	uint32_t i = (uint32_t)id;
	struct inode *n = i <= t->made ? number(t, i) : NULL;

	return n && n->state != INODE_FREE && n->id == id ? n : NULL;
}

struct own *inode_own(struct inode_table *t, struct inode *n)
{
	if (!n->own) {
		n->own = xcalloc(1, sizeof(*n->own));
		n->own->table = t;
		n->own->inode = n;
	}
	return n->own;
}

void inode_set_state(struct inode_table *t, struct inode *n, enum inode_state state)
{
	count_state(t, n, -1);
	n->state = state;
	count_state(t, n, 1);
}

static bool is_needed(const struct inode *n)
{
	const struct own *own = n->own;

	return n->lookups || (own && (own->first || own->entry || own->pins || own->open));
}

static void own_free(struct inode_table *t, struct own *own)
{
	if (!own)
		return;
	line_leave(own);
	made_free(t, own);
	snapshot_unref(own->last);
	free(own);
}

static void inode_free(struct inode_table *t, struct inode *n)
{
	uint32_t *i = bucket(t, n->ino);

	while (*i != number_of(n))
		i = &number(t, *i)->next_ino;
	*i = n->next_ino;
	leave_names(t, n);
	own_free(t, n->own);
	n->own = NULL;
	n->names = NULL;
	inode_set_state(t, n, INODE_FREE);
	n->next_ino = t->free;
	t->free = number_of(n);
	t->count--;
}

void inode_settle(struct inode_table *t, struct inode *n)
{
	struct own *own = n->own;

	/* What has no name lives as long as it is open; the kernel may know of it for longer. */
	if (own && own->made && !own->entry && !own->pins && !own->open) {
		made_free(t, own);
		if (n->state == INODE_SCRATCH)
			inode_set_state(t, n, INODE_GONE);
	}
	if (!is_needed(n))
		inode_free(t, n);
}

void inode_unpin(struct inode *n)
{
	struct inode_table *t = n ? n->own->table : NULL;

	if (!n)
		return;
	pthread_mutex_lock(&t->lock);
	n->own->pins--;
	inode_settle(t, n);
	pthread_mutex_unlock(&t->lock);
}

struct inode *inode_pin(struct inode *n)
{
	struct inode_table *t = n->own->table;

	pthread_mutex_lock(&t->lock);
	n->own->pins++;
	pthread_mutex_unlock(&t->lock);
	return n;
}

void line_leave(struct own *own)
{
	if (!own->line)
		return;
	*own->link = own->next;
	if (own->next)
		own->next->link = own->link;
	else
		own->line->last = own->link;
	own->line = NULL;
	own->due = 0;
}

void line_up(struct line *line, struct own *own)
{
	line_leave(own);
	own->line = line;
	own->due = now_monotonic() + line->ns;
	own->next = NULL;
	own->link = line->last;
	*line->last = own;
	line->last = &own->next;
}

/* ---- the table ---- */

struct inode_table *inode_table_new(void)
{
	struct inode_table *t = xcalloc(1, sizeof(*t));
	struct layout_path root = {.kind = KIND_ROOT};

	pthread_mutex_init(&t->lock, NULL);
	t->soon = (struct line){.last = &t->soon.first, .ns = INODE_HIDDEN_NS};
	t->old = (struct line){.last = &t->old.first, .ns = SCRATCH_AGE};
	t->budget.max = SCRATCH_TOTAL_MAX;
	t->size = BUCKETS;
	t->buckets = xcalloc(t->size, sizeof(*t->buckets));
	t->chunks = xcalloc(1, sizeof(*t->chunks));
	t->chunks[t->nchunks++] = xcalloc(CHUNK, sizeof(struct inode));
	inode_make(t, &root, INODE_ROOT, INODE_SHOWN)->lookups = 1;
	t->known = 1;
	return t;
}

void inode_table_free(struct inode_table *t)
{
	if (!t)
		return;
	for (uint32_t i = 1; i <= t->made; i++)
		own_free(t, number(t, i)->own);
	scratch_release(t);
	for (size_t i = 0; i < t->nchunks; i++)
		free(t->chunks[i]);
	map_foreach(&t->names, e) free(e->value);
	map_foreach(&t->groups, e) free(e->value);
	map_release(&t->names);
	map_release(&t->groups);
	idmap_release(&t->standing);
	free(t->chunks);
	free(t->buckets);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

uint64_t inode_lookup(struct inode_table *t, const struct layout_path *path, uint64_t ino)
{
	struct inode *n;
	uint64_t id;

	pthread_mutex_lock(&t->lock);
	n = inode_find(t, ino);
	if (!n)
		n = inode_make(t, path, ino, path->kind == KIND_SCRATCH ? INODE_GONE : INODE_SHOWN);
	t->known += n->lookups++ == 0;
	id = n->id;
	pthread_mutex_unlock(&t->lock);
	return id;
}

void inode_forget(struct inode_table *t, uint64_t id, uint64_t count)
{
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	n = find_id(t, id);
	if (n && id != INODE_ROOT && n->lookups && count) {
		n->lookups -= count < n->lookups ? count : n->lookups;
		t->known -= n->lookups == 0;
		inode_settle(t, n);
	}
	pthread_mutex_unlock(&t->lock);
}

bool inode_get(struct inode_table *t, uint64_t id, struct layout_path *ret_path, uint64_t *ret_ino)
{
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	n = find_id(t, id);
	if (n) {
		get_path(n, ret_path);
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

void inode_foreach(struct inode_table *t, const char *namespace, inode_fn *fn, void *arg)
{
	struct layout_path path;
	const struct group *g;

	pthread_mutex_lock(&t->lock);
	g = map_get(&t->groups, namespace);
	for (const struct names *names = g ? g->first : NULL; names; names = names->next) {
		for (uint32_t i = names->first; i; i = number(t, i)->next_kin) {
			const struct inode *n = number(t, i);

			if (n->state == INODE_GONE)
				continue;
			get_path(n, &path);
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
	struct own *own = n->own;

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

void inode_hide_name(struct inode_table *t, uint64_t first, const struct layout_path *path)
{
	struct inode *n = inode_make(t, path, layout_new_ino(), INODE_HIDDEN);

	inode_stand(t, n, first);
	line_up(&t->soon, n->own);
}

void inode_hide(struct inode_table *t, uint64_t first, const struct layout_path *path)
{
	pthread_mutex_lock(&t->lock);
	inode_vacate(t, first);
	inode_hide_name(t, first, path);
	pthread_mutex_unlock(&t->lock);
}

void inode_take(
	struct inode_table *t, struct inode *n, uint64_t first, const struct layout_path *path)
{
	if (n != inode_standing(t, first))
		inode_vacate(t, first);
	inode_detach(t, n);
	inode_set_state(t, n, INODE_SHOWN);
	inode_move(t, n, path);
	inode_stand(t, n, first);
	inode_settle(t, n);
}

void inode_show(struct inode_table *t, uint64_t first, uint64_t ino, const struct layout_path *path)
{
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	n = inode_find(t, ino);
	inode_take(t, n ? n : inode_make(t, path, ino, INODE_SHOWN), first, path);
	pthread_mutex_unlock(&t->lock);
}

void inode_drop(struct inode_table *t, uint64_t first)
{
	pthread_mutex_lock(&t->lock);
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
	returning = n && n->own->returning;
	pthread_mutex_unlock(&t->lock);
	return returning;
}

void inode_return(struct inode_table *t, uint64_t first)
{
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	n = idmap_get(&t->standing, first);
	if (n && n->state == INODE_HIDDEN) {
		line_leave(n->own);
		n->own->returning = false;
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
		n->own->last = snapshot_ref(last);
	pthread_mutex_unlock(&t->lock);
}

struct snapshot *inode_last(struct inode_table *t, uint64_t ino)
{
	struct snapshot *last;
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	n = find_any(t, ino);
	last = n && n->own ? snapshot_ref_or_null(n->own->last) : NULL;
	pthread_mutex_unlock(&t->lock);
	return last;
}

/* ---- files that were created and that the server doesn't have yet ---- */

/* Its time is over, though nobody has looked since (inode_next_due). */
static bool is_over(const struct inode *n)
{
	return n->own->line && n->own->due <= now_monotonic();
}

uint64_t inode_begin(struct inode_table *t, uint64_t dir, const struct layout_path *path)
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
	line_up(&t->soon, n->own);
	pthread_mutex_unlock(&t->lock);
	return ino;
}

uint64_t inode_pending(struct inode_table *t, uint64_t dir, enum kind kind)
{
	struct entry *e;
	uint64_t ino;

	pthread_mutex_lock(&t->lock);
	e = t->pending ? entry_find(t, dir, layout[kind].name) : NULL;
	ino = e && e->inode->state == INODE_PENDING && !is_over(e->inode) ? e->inode->ino : 0;
	pthread_mutex_unlock(&t->lock);
	return ino;
}

static struct inode *find_pending(struct inode_table *t, uint64_t ino)
{
	struct inode *n = inode_find(t, ino);

	return n && n->state == INODE_PENDING && !is_over(n) ? n : NULL;
}

bool inode_is_pending(struct inode_table *t, uint64_t ino, uint64_t dir)
{
	struct inode *n;
	bool pending;

	pthread_mutex_lock(&t->lock);
	n = find_pending(t, ino);
	pending = n && n->own->entry->dir->ino == dir;
	pthread_mutex_unlock(&t->lock);
	return pending;
}

void inode_hold(struct inode_table *t, uint64_t ino, int by)
{
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	n = find_any(t, ino);
	if (n && n->own && !(n->state == INODE_PENDING && is_over(n)) && (by > 0 || n->own->open)) {
		n->own->open += by;
		if (n->state == INODE_PENDING && !n->own->open)
			line_up(&t->soon, n->own);
		else if (n->state == INODE_PENDING)
			line_leave(n->own);
		inode_settle(t, n);
	}
	pthread_mutex_unlock(&t->lock);
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

/* ---- what is due ---- */

static void take_due(struct inode_table *t, struct own *own, struct inode_due *ret)
{
	struct inode *n = own->inode;

	*ret = (struct inode_due){.first = own->first};
	get_path(n, &ret->path);
	if (own->entry)
		ret->dir = own->entry->dir->ino;
	line_leave(own);
	own->returning = n->state == INODE_HIDDEN;
	if (n->state == INODE_PENDING) {
		inode_end(t, n);
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
