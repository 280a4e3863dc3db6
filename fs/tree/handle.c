#include "fs/tree/handle.h"

#include "client/clock.h"
#include "fs/tree/itable.h"

#include <errno.h>

struct text {
	atomic_uint refs;
	char *data;
	size_t len;
	struct buf buf; /* what `data` is of */
};

struct handle {
	struct inode *inode; /* NULL: it has a source */
	uint64_t ino;
	uint64_t serial;   /* the newest has the highest */
	bool api;	   /* a file of .api */
	atomic_bool fixed; /* goes on showing the version of its open */
	bool writable;
	pid_t tid;
	struct process_id opener;
	atomic_bool killed;
	/* the table's lock guards all below */
	struct handle_source source;
	struct object *opened;
	struct layout_attr attr;   /* of `snapshot` */
	struct snapshot *snapshot; /* NULL for what was made at its open, and for scratch */
	struct text *text;	   /* its bytes, once a process read */
	struct draft *draft;	   /* set once */
	struct base saved;
	struct handle *next, **link; /* of the same inode; what points at it */
};

void text_unref(struct text *text)
{
	if (!text || atomic_fetch_sub_explicit(&text->refs, 1, memory_order_acq_rel) != 1)
		return;
	buf_release(&text->buf);
	free(text);
}

static struct text *text_ref(struct text *text)
{
	atomic_fetch_add_explicit(&text->refs, 1, memory_order_relaxed);
	return text;
}

/* Takes the buf's bytes over. */
static struct text *text_of(struct buf *buf)
{
	struct text *text = xcalloc(1, sizeof(*text));

	atomic_init(&text->refs, 1);
	text->buf = *buf;
	text->data = buf->data;
	text->len = buf->len;
	*buf = (struct buf)BUF_INIT(0);
	return text;
}

static struct text *text_new(char *data, size_t len)
{
	struct buf buf = {.data = data, .len = len};

	return text_of(&buf);
}

static void handle_free(struct handle *f)
{
	snapshot_unref(f->snapshot);
	text_unref(f->text);
	object_unref(f->opened);
	draft_free(f->draft);
	base_release(&f->saved);
	free(f);
}

/* ---- with the lock held, up to handle_open ---- */

void handles_free(struct own *own)
{
	for (struct handle *f = own->handles, *next; f; f = next) {
		next = f->next;
		handle_free(f);
	}
}

static void give_draft(struct inode_table *t, struct handle *f)
{
	if (f->draft || !f->writable)
		return;
	f->draft = draft_new();
	t->writers++;
}

/* A file that was begun isn't due as long as it is open, and scratch isn't old. */
static void count_handle(struct inode_table *t, struct inode *n, int by)
{
	struct own *own = own_of(n);

	own->open += by;
	if (n->state != INODE_PENDING)
		scratch_touch(t, n);
	else if (own->open)
		line_leave(own);
	else
		line_up(&t->soon, own);
}

static void link_handle(struct handle **first, struct handle *f)
{
	f->next = *first;
	f->link = first;
	if (f->next)
		f->next->link = &f->next;
	*first = f;
}

static void unlink_handle(struct handle *f)
{
	*f->link = f->next;
	if (f->next)
		f->next->link = f->link;
}

static void add(struct inode_table *t, struct handle *f, struct inode *n)
{
	struct own *own = inode_own(t, n);

	f->serial = ++t->handles;
	f->inode = n;
	f->ino = n->ino;
	link_handle(&own->handles, f);
	count_handle(t, n, 1);
}

static bool take_off(struct inode_table *t, struct handle *f)
{
	struct inode *n = f->inode;
	bool last;

	unlink_handle(f);
	count_handle(t, n, -1);
	last = n->state == INODE_PENDING && !own_of(n)->open;
	inode_settle(t, n);
	return last;
}

static void set_real(struct handle *f, struct snapshot *snapshot, const struct layout_attr *attr)
{
	f->snapshot = snapshot_ref(snapshot);
	f->attr = *attr;
}

/* The inode, if it is what stands there. */
static struct inode *find_to_open(struct inode_table *t, const struct handle_open *open)
{
	struct inode *n = inode_find(t, open->ino);

	if (!open->first)
		return n && inode_is_begun(n) ? n : NULL;
	if (!n && open->ino == open->first && !inode_standing(t, open->first))
		n = inode_make(t, open->path, open->ino, INODE_SHOWN);
	return n && inode_standing(t, open->first) == n ? n : NULL;
}

struct handle *handle_open(struct inode_table *t, const struct handle_open *open)
{
	struct handle *f = xcalloc(1, sizeof(*f));
	struct layout_attr attr = {.mtime = now_realtime()};
	struct inode *n;

	f->writable = open->writable;
	f->tid = open->tid;
	f->opener = open->opener;
	f->opened = object_ref(open->snapshot->object);
	if (open->first)
		snapshot_attr(open->snapshot, open->path->kind, open->path->tag, &attr);
	set_real(f, open->snapshot, &attr);
	f->fixed = open->writable || f->attr.size > HANDLE_SNAPSHOT_SIZE;
	pthread_mutex_lock(&t->lock);
	n = find_to_open(t, open);
	if (n) {
		give_draft(t, f);
		add(t, f, n);
		if (n->state == INODE_PENDING)
			own_of(n)->returning = false; /* it stays */
	}
	pthread_mutex_unlock(&t->lock);
	if (!n)
		handle_free(steal_ptr(f));
	return f;
}

struct handle *handle_open_scratch(struct inode_table *t, struct inode *n, bool writable, pid_t tid,
	const struct process_id *opener)
{
	struct handle *f = xcalloc(1, sizeof(*f));

	f->writable = writable;
	f->tid = tid;
	f->opener = *opener;
	f->fixed = true;
	pthread_mutex_lock(&t->lock);
	add(t, f, n);
	pthread_mutex_unlock(&t->lock);
	return f;
}

static bool is_for_manifests(enum kind kind)
{
	return kind == KIND_API_CREATE || kind == KIND_NAMESPACE_CREATE || kind == KIND_API_APPLY ||
	       kind == KIND_NAMESPACE_APPLY || kind == KIND_API_APPLY_FORCE ||
	       kind == KIND_NAMESPACE_APPLY_FORCE;
}

struct handle *handle_open_api(
	struct inode_table *t, const struct handle_open *open, struct buf *bytes)
{
	struct handle *f = xcalloc(1, sizeof(*f));
	struct inode *n;

	f->writable = open->writable;
	f->tid = open->tid;
	f->opener = open->opener;
	f->text = text_of(bytes);
	f->api = true;
	f->fixed = true;
	pthread_mutex_lock(&t->lock);
	n = inode_find(t, open->ino);
	give_draft(t, f);
	if (f->draft && is_for_manifests(open->path->kind))
		draft_allow(f->draft, DRAFT_MANIFESTS);
	add(t, f, n ? n : inode_make(t, open->path, open->ino, INODE_SHOWN));
	pthread_mutex_unlock(&t->lock);
	return f;
}

struct handle *handle_open_source(struct inode_table *t, struct handle_source source)
{
	struct handle *f = xcalloc(1, sizeof(*f));

	f->source = source;
	f->fixed = true;
	pthread_mutex_lock(&t->lock);
	link_handle(&t->readers, f);
	pthread_mutex_unlock(&t->lock);
	return f;
}

struct handle *handle_first_reader(struct inode_table *t)
{
	struct handle *f;

	pthread_mutex_lock(&t->lock);
	f = t->readers;
	pthread_mutex_unlock(&t->lock);
	return f;
}

struct handle_source handle_get_source(struct inode_table *t, const struct handle *f)
{
	struct handle_source source;

	pthread_mutex_lock(&t->lock);
	source = f->source;
	pthread_mutex_unlock(&t->lock);
	return source;
}

bool handle_close(struct inode_table *t, struct handle *f)
{
	bool last = false;

	pthread_mutex_lock(&t->lock);
	if (f->inode)
		last = take_off(t, f);
	else
		unlink_handle(f);
	t->writers -= f->draft != NULL;
	pthread_mutex_unlock(&t->lock);
	handle_free(f);
	return last;
}

bool handle_is_fixed(const struct handle *f)
{
	return f->fixed;
}

bool handle_is_writable(const struct handle *f)
{
	return f->writable;
}

const struct process_id *handle_opener(const struct handle *f)
{
	return &f->opener;
}

void handle_set_killed(struct handle *f)
{
	atomic_store(&f->killed, true);
}

bool handle_is_killed(const struct handle *f)
{
	return atomic_load(&f->killed);
}

/* t->lock held. */
static void get_state(const struct handle *f, struct handle_state *ret)
{
	struct inode *n = f->inode;

	*ret = (struct handle_state){.draft = f->draft};
	if (!n)
		return;
	inode_path(n, &ret->path);
	ret->ino = n->ino;
	ret->first = inode_first(n);
	if (n->state == INODE_SCRATCH) {
		own_of(n)->pins++;
		ret->scratch = n;
	}
	ret->opened = f->opened ? object_ref(f->opened) : NULL;
	if (f->saved.version)
		ret->saved = (struct base){
			object_ref(f->saved.version), json_incref(f->saved.text), f->saved.stamp};
	if (f->snapshot)
		ret->slot = layout_ino(f->snapshot->object->uid, ret->path.kind, ret->path.tag, 0);
}

void handle_get_state(struct inode_table *t, struct handle *f, struct handle_state *ret)
{
	pthread_mutex_lock(&t->lock);
	get_state(f, ret);
	pthread_mutex_unlock(&t->lock);
}

void handle_state_release(struct handle_state *s)
{
	inode_unpin(s->scratch);
	object_unref(s->opened);
	base_release(&s->saved);
}

/* The bytes of the handle's version, rendered at the first read of it. */
static int get_text(struct inode_table *t, struct handle *f, struct text **ret)
{
	_cleanup_view_ struct snapshot *snapshot = NULL;
	struct buf bytes = BUF_INIT(ATTR_MAX);
	struct text *text = NULL;
	struct place path;
	char *data;
	size_t len;
	int r;

	pthread_mutex_lock(&t->lock);
	inode_path(f->inode, &path);
	if (f->text)
		text = text_ref(f->text);
	else if (f->snapshot)
		snapshot = snapshot_ref(f->snapshot);
	pthread_mutex_unlock(&t->lock);
	if (!text) {
		r = snapshot ? snapshot_show(snapshot, path.kind, path.tag, &bytes) : -ENOENT;
		if (r < 0 && r != -ENOENT) { /* what isn't there yet is empty */
			buf_release(&bytes);
			return r;
		}
		data = buf_steal(&bytes, &len);
		text = text_new(data, len);
		pthread_mutex_lock(&t->lock);
		if (f->snapshot == snapshot && !f->text)
			f->text = text_ref(text);
		pthread_mutex_unlock(&t->lock);
	}
	*ret = text;
	return 0;
}

static void slice(struct text *text, size_t size, uint64_t offset, struct text **ret_text,
	const char **ret, size_t *ret_len)
{
	if (offset > text->len)
		offset = text->len;
	if (size > text->len - offset)
		size = text->len - offset;
	*ret_text = text;
	*ret = text->data + offset;
	*ret_len = size;
}

int handle_read(struct inode_table *t, struct handle *f, size_t size, uint64_t offset,
	struct text **ret_text, const char **ret, size_t *ret_len)
{
	_cleanup_handle_state_ struct handle_state state;
	struct text *text = NULL;
	char *data;
	size_t len;
	int r;

	handle_get_state(t, f, &state);
	if (state.scratch || (state.draft && draft_is_loaded(state.draft))) {
		data = state.scratch ? scratch_read(t, state.scratch, offset, size, &len)
				     : draft_read(state.draft, offset, size, &len);
		slice(text_new(data, len), len, 0, ret_text, ret, ret_len);
		return 0;
	}
	r = get_text(t, f, &text);
	if (r == 0)
		slice(text, size, offset, ret_text, ret, ret_len);
	return r;
}

/* Gives the draft the bytes that are shown, if it has none of its own. */
static int load(struct inode_table *t, struct handle *f, struct draft *draft)
{
	struct text *text;
	int r;

	if (draft_is_loaded(draft))
		return 0;
	if (f->api)
		return draft_load(draft, "", 0, false);
	r = get_text(t, f, &text);
	if (r == 0) {
		r = draft_load(draft, text->data, text->len, false);
		text_unref(text);
	}
	return r;
}

int handle_write(struct inode_table *t, struct handle *f, const char *data, size_t len,
	uint64_t offset, bool append)
{
	_cleanup_handle_state_ struct handle_state state;
	int r;

	handle_get_state(t, f, &state);
	if (state.scratch)
		return scratch_write(t, state.scratch, data, len, offset, append);
	if (!state.draft)
		return -EBADF;
	r = load(t, f, state.draft);
	return r < 0 ? r : draft_write(state.draft, data, len, offset, append);
}

int handle_truncate(struct inode_table *t, struct handle *f, uint64_t size)
{
	_cleanup_handle_state_ struct handle_state state;
	int r = 0;

	handle_get_state(t, f, &state);
	if (state.scratch)
		return scratch_truncate(t, state.scratch, size);
	if (!state.draft)
		return -EBADF;
	if (size == 0)
		draft_load(state.draft, "", 0, false);
	else
		r = load(t, f, state.draft);
	return r < 0 ? r : draft_truncate(state.draft, size);
}

void handle_start_empty(struct inode_table *t, struct handle *f)
{
	_cleanup_handle_state_ struct handle_state state;

	handle_get_state(t, f, &state);
	if (state.draft)
		draft_load(state.draft, "", 0, false);
}

bool handle_draft_end(struct inode_table *t, struct handle *f, uint64_t *ret)
{
	_cleanup_handle_state_ struct handle_state state;

	handle_get_state(t, f, &state);
	if (state.scratch || !state.draft || !draft_is_loaded(state.draft))
		return false;
	*ret = draft_size(state.draft);
	return true;
}

/* ---- all handles of an inode ---- */

/* t->lock held. GONE or not: the one that is open. NULL. */
static struct handle *handles_of(const struct inode *n)
{
	const struct own *own = own_of(n);

	return own ? own->handles : NULL;
}

static struct inode *find_open(struct inode_table *t, uint64_t ino)
{
	struct inode *n = inode_first_of(t, ino);

	while (n && !(n->ino == ino && handles_of(n)))
		n = inode_next_of(t, n);
	return n;
}

#define foreach_handle(n, f) for (struct handle *f = (n) ? handles_of(n) : NULL; f; f = f->next)

bool handle_truncate_opened(struct inode_table *t, uint64_t ino, pid_t tid)
{
	struct handle *found = NULL;
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	n = find_open(t, ino);
	foreach_handle(n, f)
	{
		if (f->draft && n->state != INODE_SCRATCH && f->tid == tid &&
			(!found || f->serial > found->serial))
			found = f;
	}
	if (found && draft_is_loaded(found->draft))
		found = NULL; /* it isn't the one that is being opened */
	if (found)
		draft_load(found->draft, "", 0, false);
	pthread_mutex_unlock(&t->lock);
	return found;
}

void handle_set_saved(struct inode_table *t, struct handle *f, const struct base *saved)
{
	struct base base = {object_ref(saved->version), json_incref(saved->text), saved->stamp};
	struct base old;

	pthread_mutex_lock(&t->lock);
	old = f->saved;
	f->saved = base;
	pthread_mutex_unlock(&t->lock);
	base_release(&old);
}

size_t handle_drafts(struct inode_table *t)
{
	size_t n;

	pthread_mutex_lock(&t->lock);
	n = t->writers;
	pthread_mutex_unlock(&t->lock);
	return n;
}

bool handle_is_open(struct inode_table *t, uint64_t ino)
{
	bool found;

	pthread_mutex_lock(&t->lock);
	found = find_open(t, ino);
	pthread_mutex_unlock(&t->lock);
	return found;
}

bool handle_has_draft(struct inode_table *t, uint64_t ino)
{
	struct inode *n;
	bool found = false;

	pthread_mutex_lock(&t->lock);
	n = t->writers ? find_open(t, ino) : NULL;
	foreach_handle(n, f)
	{
		found = found || (f->draft && draft_is_loaded(f->draft));
	}
	pthread_mutex_unlock(&t->lock);
	return found;
}

static bool is_unsaved(const struct handle *f)
{
	int verdict;

	return f->draft && f->inode->state != INODE_SCRATCH &&
	       draft_state(f->draft, &verdict) == DRAFT_WRITTEN;
}

bool handle_last_attr(struct inode_table *t, uint64_t ino, struct layout_attr *ret)
{
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	n = find_open(t, ino);
	if (n) {
		*ret = handles_of(n)->attr;
		ret->ino = ino;
		ret->nlink = 0;
	}
	pthread_mutex_unlock(&t->lock);
	return n;
}

static void follow(struct handle *f, struct snapshot *snapshot, const struct layout_attr *attr)
{
	snapshot_unref(f->snapshot);
	f->snapshot = snapshot_ref(snapshot);
	f->attr = *attr;
	text_unref(f->text);
	f->text = NULL;
}

/* t->lock held. The next inode at the path that a process has open. */
static struct inode *next_open(struct inode_table *t, const struct place *path, struct inode *n)
{
	n = n ? inode_next_kin(t, n) : inode_first_kin(t, path);
	while (n && !(n->kind == path->kind && handles_of(n)))
		n = inode_next_kin(t, n);
	return n;
}

void handle_follow(struct inode_table *t, const struct place *path, struct snapshot *snapshot)
{
	struct layout_attr attr;
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	n = next_open(t, path, NULL);
	pthread_mutex_unlock(&t->lock);
	if (!n || snapshot_attr(snapshot, path->kind, path->tag, &attr) <
			  0) /* made outside the lock */
		return;
	pthread_mutex_lock(&t->lock);
	n = next_open(t, path, NULL);
	for (; n; n = next_open(t, path, n)) {
		if (n->state != INODE_SHOWN || inode_first(n) != attr.ino)
			continue; /* gone: the last version stays */
		foreach_handle(n, f)
		{
			if (!f->fixed)
				follow(f, snapshot, &attr);
		}
	}
	pthread_mutex_unlock(&t->lock);
}

/* ---- renames; t->lock held ---- */

void handles_leave(struct inode *n)
{
	foreach_handle(n, f)
	{
		snapshot_unref(steal_ptr(f->snapshot));
	}
}

void handles_take(struct inode_table *t, struct inode *n, struct snapshot *snapshot,
	const struct layout_attr *attr)
{
	const struct bytes *bytes = &own_of(n)->made->bytes;

	foreach_handle(n, f)
	{
		snapshot_unref(f->snapshot);
		set_real(f, snapshot, attr);
		text_unref(steal_ptr(f->text));
		object_unref(f->opened);
		f->opened = object_ref(snapshot->object);
		f->fixed = f->writable || attr->size > HANDLE_SNAPSHOT_SIZE;
		give_draft(t, f);
		if (f->draft)
			draft_load(f->draft, bytes->len ? bytes->data : "", bytes->len, true);
	}
}

struct unsaved {
	struct handle_state state;
	uint64_t serial;
	char *text;
	size_t len;
};

static int by_serial(const void *a, const void *b)
{
	uint64_t x = ((const struct unsaved *)a)->serial, y = ((const struct unsaved *)b)->serial;

	return x < y ? -1 : x > y;
}

/* What was written to the handles of the inode and no save decided on. */
struct unsaved_list {
	struct unsaved *all;
	size_t n, size;
};

static void add_unsaved(struct unsaved_list *l, struct inode *n)
{
	int verdict;

	foreach_handle(n, f)
	{
		struct unsaved *u;
		uint64_t change;

		if (!is_unsaved(f))
			continue;
		if (l->n == l->size) {
			l->size = l->size ? l->size * 2 : 8;
			l->all = xrealloc(l->all, l->size * sizeof(*l->all));
		}
		u = &l->all[l->n++];
		get_state(f, &u->state);
		u->serial = f->serial;
		draft_take(f->draft, &verdict, &u->text, &u->len, &change);
	}
}

void handle_foreach_unsaved(struct inode_table *t, uint64_t ino, handle_fn *fn, void *arg)
{
	struct unsaved_list l = {0};

	pthread_mutex_lock(&t->lock);
	if (ino)
		add_unsaved(&l, find_open(t, ino));
	for (struct inode *n = NULL; !ino && (n = inode_next(t, n));)
		add_unsaved(&l, n);
	pthread_mutex_unlock(&t->lock);
	if (l.n)
		qsort(l.all, l.n, sizeof(*l.all), by_serial);
	for (size_t i = 0; i < l.n; i++) {
		fn(arg, &l.all[i].state, l.all[i].text, l.all[i].len);
		handle_state_release(&l.all[i].state);
		free(l.all[i].text);
	}
	free(l.all);
}
