#include "fs/tree/itable.h"

#define CHUNK	   1024
#define BUCKETS	   1024 /* at first */
#define PER_BUCKET 2	/* at most: buckets of 2 to 4 bytes an inode */
#define INDEX_BITS 32	/* of an id; the rest counts those ever made */

/* ---- what inodes of a place have in common ---- */

#define TEXT_SIZE (3 * NAME_SIZE)

static void names_text(const struct place *path, char ret[TEXT_SIZE])
{
	char *end = stpcpy(ret, path->ns);

	*end++ = '/';
	end = stpcpy(end, path->stream);
	*end++ = '/';
	strcpy(end, path->tag);
}

static struct names *names_find(struct inode_table *t, const struct place *path)
{
	char text[TEXT_SIZE];

	names_text(path, text);
	return map_get(&t->names, text);
}

static struct names *names_get(struct inode_table *t, const struct place *path)
{
	struct names *names = names_find(t, path);
	struct group *g;
	char text[TEXT_SIZE];

	if (names)
		return names;
	names_text(path, text);
	names = xcalloc(1, sizeof(*names) + strlen(text) + 1);
	strcpy(names->text, text);
	map_set(&t->names, names->text, names);
	g = map_get(&t->groups, path->ns);
	if (!g) {
		g = xcalloc(1, sizeof(*g) + strlen(path->ns) + 1);
		strcpy(g->ns, path->ns);
		map_set(&t->groups, g->ns, g);
	}
	names->next = g->first;
	names->link = &g->first;
	if (names->next)
		names->next->link = &names->next;
	g->first = names;
	return names;
}

static const char *copy_name(const char *text, char end, char ret[NAME_SIZE])
{
	size_t len = end ? strcspn(text, "/") : strlen(text);

	memcpy(ret, text, len);
	ret[len] = '\0';
	return text + len + (end != 0);
}

static void names_free(struct inode_table *t, struct names *names)
{
	char ns[NAME_SIZE];
	struct group *g;

	copy_name(names->text, '/', ns);
	g = map_get(&t->groups, ns);
	*names->link = names->next;
	if (names->next)
		names->next->link = names->link;
	if (!g->first) {
		map_del(&t->groups, g->ns);
		free(g);
	}
	map_del(&t->names, names->text);
	free(names);
}

void inode_path(const struct inode *n, struct place *ret)
{
	const char *text = names_of(n)->text;

	ret->kind = n->kind;
	text = copy_name(text, '/', ret->ns);
	text = copy_name(text, '/', ret->stream);
	copy_name(text, '\0', ret->tag);
}

/* ---- inodes ---- */

struct inode *inode_numbered(struct inode_table *t, uint32_t i)
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
		struct inode *n = inode_numbered(t, i);
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
		t->free = inode_numbered(t, i)->next_ino;
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
	struct names *names = names_of(n);
	uint32_t *i = &names->first;

	if (is_kin(n)) {
		while (*i != number_of(n))
			i = &inode_numbered(t, *i)->next_kin;
		*i = n->next_kin;
	}
	if (--names->refs == 0)
		names_free(t, names);
}

void inode_move(struct inode_table *t, struct inode *n, const struct place *path)
{
	struct names *names = names_get(t, path);

	names->refs++;
	if (names_of(n))
		leave_names(t, n);
	if (n->has_own)
		n->own->names = names;
	else
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
	struct inode_table *t, const struct place *path, uint64_t ino, enum inode_state state)
{
	uint32_t i = take_number(t), *b;
	struct inode *n = inode_numbered(t, i);

	*n = (struct inode){
		.id = (uint64_t)t->serial++ << INDEX_BITS | i, .ino = ino, .state = state};
	count_state(t, n, 1);
	inode_move(t, n, path);
	if (++t->count > PER_BUCKET * t->size) {
		grow(t);
	} else {
		b = bucket(t, ino);
		n->next_ino = *b;
		*b = i;
	}
	return n;
}

struct inode *inode_first_of(struct inode_table *t, uint64_t ino)
{
	return inode_numbered(t, *bucket(t, ino));
}

struct inode *inode_next_of(struct inode_table *t, const struct inode *n)
{
	return inode_numbered(t, n->next_ino);
}

struct inode *inode_next(struct inode_table *t, struct inode *n)
{
	uint32_t i = n ? number_of(n) + 1 : 1;

	while (i <= t->made && inode_numbered(t, i)->state == INODE_FREE)
		i++;
	return i <= t->made ? inode_numbered(t, i) : NULL;
}

struct inode *inode_find_any(struct inode_table *t, uint64_t ino)
{
	struct inode *n = inode_first_of(t, ino);

	while (n && n->ino != ino)
		n = inode_next_of(t, n);
	return n;
}

struct inode *inode_find(struct inode_table *t, uint64_t ino)
{
	struct inode *n = inode_first_of(t, ino);

	while (n && (n->ino != ino || n->state == INODE_GONE))
		n = inode_next_of(t, n);
	return n;
}

struct inode *inode_by_id(struct inode_table *t, uint64_t id)
{
	uint32_t i = (uint32_t)id;
	struct inode *n = i <= t->made ? inode_numbered(t, i) : NULL;

	return n && n->state != INODE_FREE && n->id == id ? n : NULL;
}

struct own *inode_own(struct inode_table *t, struct inode *n)
{
	struct own *own = own_of(n);

	if (!own) {
		own = xcalloc(1, sizeof(*own));
		*own = (struct own){.table = t, .inode = n, .names = n->names};
		n->own = own;
		n->has_own = true;
	}
	return own;
}

void inode_set_state(struct inode_table *t, struct inode *n, enum inode_state state)
{
	count_state(t, n, -1);
	n->state = state;
	count_state(t, n, 1);
}

static bool is_needed(const struct inode *n)
{
	const struct own *own = own_of(n);

	return n->lookups || (own && (own->first || own->entry || own->pins || own->open));
}

static void own_free(struct inode_table *t, struct own *own)
{
	if (!own)
		return;
	line_leave(own);
	handles_free(own);
	made_free(t, own);
	snapshot_unref(own->last);
	free(own);
}

static void inode_free(struct inode_table *t, struct inode *n)
{
	uint32_t *i = bucket(t, n->ino);

	while (*i != number_of(n))
		i = &inode_numbered(t, *i)->next_ino;
	*i = n->next_ino;
	leave_names(t, n);
	own_free(t, own_of(n));
	n->has_own = false;
	n->names = NULL;
	inode_set_state(t, n, INODE_FREE);
	n->next_ino = t->free;
	t->free = number_of(n);
	t->count--;
}

void inode_settle(struct inode_table *t, struct inode *n)
{
	struct own *own = own_of(n);

	/* What has no name lives as long as it is open; the kernel may know of it for longer. */
	if (own && own->made && !own->entry && !own->pins &&
		!(own->open && n->state == INODE_SCRATCH)) {
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
	own_of(n)->pins--;
	inode_settle(t, n);
	pthread_mutex_unlock(&t->lock);
}

struct inode *inode_pin(struct inode *n)
{
	struct inode_table *t = n->own->table;

	pthread_mutex_lock(&t->lock);
	own_of(n)->pins++;
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

struct inode *inode_first_kin(struct inode_table *t, const struct place *path)
{
	const struct names *names = names_find(t, path);

	return names ? inode_numbered(t, names->first) : NULL;
}

struct inode *inode_next_kin(struct inode_table *t, const struct inode *n)
{
	return inode_numbered(t, n->next_kin);
}

/* ---- the table ---- */

struct inode_table *inode_table_new(void)
{
	struct inode_table *t = xcalloc(1, sizeof(*t));
	struct place root = {.kind = KIND_ROOT};

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
		own_free(t, own_of(inode_numbered(t, i)));
	scratch_release(t);
	for (size_t i = 0; i < t->nchunks; i++)
		free(t->chunks[i]);
	map_foreach(&t->names, e)
		free(e->value);
	map_foreach(&t->groups, e)
		free(e->value);
	map_release(&t->names);
	map_release(&t->groups);
	idmap_release(&t->standing);
	free(t->chunks);
	free(t->buckets);
	pthread_mutex_destroy(&t->lock);
	free(t);
}
