#include "fs/file.h"

#include "client/map.h"

#include <errno.h>

struct text {
	atomic_uint refs;
	char *data;
	size_t len;
	struct buf buf; /* what `data` is of */
};

struct list;

struct file {
	uint64_t ino;
	uint64_t serial; /* the newest has the highest */
	bool snapshot, writable, pending;
	pid_t tid;
	struct process_id opener;
	struct object *opened;
	atomic_bool killed;
	struct events_reader *events;
	/* the table's lock guards all below */
	struct tree_path path;
	uint64_t place;	       /* 0: gone, or nothing there yet */
	struct tree_attr attr; /* of `view` */
	struct view *view;     /* NULL for what was made at its open, and for scratch */
	struct text *text;     /* its bytes, once somebody read */
	struct scratch_node *scratch;
	struct draft *draft; /* set once */
	struct base saved;
	struct list *list;
	struct file *next, **link; /* of the same place; what points at it */
};

struct file_table {
	struct scratch *scratch;
	pthread_mutex_t lock;
	uint64_t serial;   /* lock */
	size_t writers;	   /* lock; handles with a draft */
	struct map by_key; /* lock; place -> struct list; "": of none */
};

struct list {
	struct file *first;
	char key[];
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

struct file_table *file_table_new(struct scratch *scratch)
{
	struct file_table *t = xcalloc(1, sizeof(*t));

	t->scratch = scratch;
	pthread_mutex_init(&t->lock, NULL);
	return t;
}

static void file_free(struct file *f)
{
	view_unref(f->view);
	text_unref(f->text);
	object_unref(f->opened);
	scratch_unref(f->scratch);
	draft_free(f->draft);
	base_release(&f->saved);
	free(f);
}

void file_table_free(struct file_table *t)
{
	if (!t)
		return;
	map_foreach(&t->by_key, e)
	{
		struct list *list = e->value;

		for (struct file *f = list->first, *next; f; f = next) {
			next = f->next;
			file_free(f);
		}
		free(list);
	}
	map_release(&t->by_key);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* t->lock held, as for all that follow up to file_open. */
static void enlist(struct file_table *t, struct file *f, const char *key)
{
	struct list *list = map_get(&t->by_key, key);

	if (!list) {
		list = xcalloc(1, sizeof(*list) + strlen(key) + 1);
		strcpy(list->key, key);
		map_set(&t->by_key, list->key, list);
	}
	f->list = list;
	f->next = list->first;
	f->link = &list->first;
	if (f->next)
		f->next->link = &f->next;
	list->first = f;
}

static void unlist(struct file_table *t, struct file *f)
{
	struct list *list = f->list;

	*f->link = f->next;
	if (f->next)
		f->next->link = f->link;
	if (!list->first) {
		map_del(&t->by_key, list->key);
		free(list);
	}
}

static void give_draft(struct file_table *t, struct file *f)
{
	if (f->draft || !f->writable)
		return;
	f->draft = draft_new();
	t->writers++;
}

static void add(struct file_table *t, struct file *f, const char *key)
{
	f->serial = ++t->serial;
	enlist(t, f, key);
}

#define PATH_KEY (3 * NAME_SIZE + 16)

static void path_key(const struct tree_path *path, char ret[PATH_KEY])
{
	snprintf(ret, PATH_KEY, "%s/%s/%d/%s", path->namespace, path->stream, (int)path->kind,
		path->kind < NODE_TAG ? "" : path->tag);
}

static void set_real(struct file *f, const struct file_open *open)
{
	f->path = *open->path;
	f->place = open->place;
	f->view = view_ref(open->view);
	if (!open->place || view_attr(open->view, open->path->kind, open->path->tag, &f->attr) < 0)
		f->attr = (struct tree_attr){.mtime = now_realtime()};
}

struct file *file_open(struct file_table *t, const struct file_open *open)
{
	struct file *f = xcalloc(1, sizeof(*f));
	char key[PATH_KEY];

	f->ino = open->ino;
	f->writable = open->writable;
	f->pending = open->pending;
	f->tid = open->tid;
	f->opener = open->opener;
	f->opened = object_ref(open->view->object);
	view_index(open->view); /* made outside the lock */
	set_real(f, open);
	f->snapshot = open->writable || f->attr.size > FILE_SNAPSHOT_SIZE;
	path_key(open->path, key);
	pthread_mutex_lock(&t->lock);
	give_draft(t, f);
	add(t, f, key);
	pthread_mutex_unlock(&t->lock);
	return f;
}

struct file *file_open_scratch(struct file_table *t, struct scratch_node *n, bool writable,
	pid_t tid, const struct process_id *opener)
{
	struct file *f = xcalloc(1, sizeof(*f));

	f->ino = scratch_ino(n);
	f->writable = writable;
	f->tid = tid;
	f->opener = *opener;
	f->scratch = scratch_ref(n);
	f->path.kind = NODE_SCRATCH;
	f->snapshot = true;
	scratch_hold(t->scratch, n, 1);
	pthread_mutex_lock(&t->lock);
	add(t, f, "");
	pthread_mutex_unlock(&t->lock);
	return f;
}

struct file *file_open_api(struct file_table *t, const struct file_open *open, struct buf *bytes)
{
	struct file *f = xcalloc(1, sizeof(*f));

	f->path = *open->path;
	f->ino = open->ino;
	f->writable = open->writable;
	f->tid = open->tid;
	f->opener = open->opener;
	f->text = text_of(bytes);
	f->snapshot = true;
	pthread_mutex_lock(&t->lock);
	give_draft(t, f);
	add(t, f, "");
	pthread_mutex_unlock(&t->lock);
	return f;
}

struct file *file_open_events(struct file_table *t, struct events_reader *reader)
{
	struct file *f = xcalloc(1, sizeof(*f));

	f->events = reader;
	f->snapshot = true;
	pthread_mutex_lock(&t->lock);
	add(t, f, "");
	pthread_mutex_unlock(&t->lock);
	return f;
}

struct events_reader *file_events(const struct file *f)
{
	return f->events;
}

void file_close(struct file_table *t, struct file *f)
{
	pthread_mutex_lock(&t->lock);
	unlist(t, f);
	t->writers -= f->draft != NULL;
	pthread_mutex_unlock(&t->lock);
	if (f->scratch)
		scratch_hold(t->scratch, f->scratch, -1);
	file_free(f);
}

bool file_is_snapshot(const struct file *f)
{
	return f->snapshot;
}

bool file_is_writable(const struct file *f)
{
	return f->writable;
}

bool file_is_pending(const struct file *f)
{
	return f->pending;
}

const struct process_id *file_opener(const struct file *f)
{
	return &f->opener;
}

void file_set_killed(struct file *f)
{
	atomic_store(&f->killed, true);
}

bool file_is_killed(const struct file *f)
{
	return atomic_load(&f->killed);
}

/* t->lock held. */
static void get_state(const struct file *f, struct file_state *ret)
{
	*ret = (struct file_state){.path = f->path, .ino = f->ino, .place = f->place};
	ret->scratch = f->scratch ? scratch_ref(f->scratch) : NULL;
	ret->draft = f->draft;
	ret->opened = f->opened ? object_ref(f->opened) : NULL;
	if (f->saved.version)
		ret->saved = (struct base){
			object_ref(f->saved.version), json_incref(f->saved.text), f->saved.stamp};
	if (f->view) {
		ret->slot = tree_ino(f->view->object->uid, f->path.kind, f->path.tag, 0);
		ret->pending = view_slot(f->view, f->path.kind, f->path.tag);
	}
}

void file_get_state(struct file_table *t, struct file *f, struct file_state *ret)
{
	pthread_mutex_lock(&t->lock);
	get_state(f, ret);
	pthread_mutex_unlock(&t->lock);
}

void file_state_release(struct file_state *s)
{
	scratch_unref(s->scratch);
	object_unref(s->opened);
	base_release(&s->saved);
}

/* The bytes of the handle's version, rendered at the first read of it. */
static int get_text(struct file_table *t, struct file *f, struct text **ret)
{
	_cleanup_view_ struct view *view = NULL;
	struct buf bytes = BUF_INIT(ATTR_MAX);
	struct text *text = NULL;
	struct tree_path path;
	char *data;
	size_t len;
	int r;

	pthread_mutex_lock(&t->lock);
	path = f->path;
	if (f->text)
		text = text_ref(f->text);
	else if (f->view)
		view = view_ref(f->view);
	pthread_mutex_unlock(&t->lock);
	if (!text) {
		r = view ? view_show(view, path.kind, path.tag, &bytes) : -ENOENT;
		if (r < 0 && r != -ENOENT) { /* what isn't there yet is empty */
			buf_release(&bytes);
			return r;
		}
		data = buf_steal(&bytes, &len);
		text = text_new(data, len);
		pthread_mutex_lock(&t->lock);
		if (f->view == view && !f->text)
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

int file_read(struct file_table *t, struct file *f, size_t size, uint64_t offset,
	struct text **ret_text, const char **ret, size_t *ret_len)
{
	_cleanup_file_state_ struct file_state state;
	struct text *text = NULL;
	char *data;
	size_t len;
	int r;

	file_get_state(t, f, &state);
	if (state.scratch || (state.draft && draft_is_loaded(state.draft))) {
		data = state.scratch ? scratch_read(t->scratch, state.scratch, offset, size, &len)
				     : draft_read(state.draft, offset, size, &len);
		slice(text_new(data, len), len, 0, ret_text, ret, ret_len);
		return 0;
	}
	r = get_text(t, f, &text);
	if (r == 0)
		slice(text, size, offset, ret_text, ret, ret_len);
	return r;
}

/* Gives the draft the bytes that are published, if it has none of its own. */
static int load(struct file_table *t, struct file *f, struct draft *draft)
{
	struct text *text;
	int r;

	if (draft_is_loaded(draft))
		return 0;
	if (tree_is_api(f->path.kind))
		return draft_load(draft, "", 0, false);
	r = get_text(t, f, &text);
	if (r == 0) {
		r = draft_load(draft, text->data, text->len, false);
		text_unref(text);
	}
	return r;
}

int file_write(struct file_table *t, struct file *f, const char *data, size_t len, uint64_t offset,
	bool append)
{
	_cleanup_file_state_ struct file_state state;
	int r;

	file_get_state(t, f, &state);
	if (state.scratch)
		return scratch_write(t->scratch, state.scratch, data, len, offset, append);
	if (!state.draft)
		return -EBADF;
	r = load(t, f, state.draft);
	return r < 0 ? r : draft_write(state.draft, data, len, offset, append);
}

int file_truncate(struct file_table *t, struct file *f, uint64_t size)
{
	_cleanup_file_state_ struct file_state state;
	int r = 0;

	file_get_state(t, f, &state);
	if (state.scratch)
		return scratch_truncate(t->scratch, state.scratch, size);
	if (!state.draft)
		return -EBADF;
	if (size == 0)
		draft_load(state.draft, "", 0, false);
	else
		r = load(t, f, state.draft);
	return r < 0 ? r : draft_truncate(state.draft, size);
}

void file_start_empty(struct file_table *t, struct file *f)
{
	_cleanup_file_state_ struct file_state state;

	file_get_state(t, f, &state);
	if (state.draft)
		draft_load(state.draft, "", 0, false);
}

bool file_draft_end(struct file_table *t, struct file *f, uint64_t *ret)
{
	_cleanup_file_state_ struct file_state state;

	file_get_state(t, f, &state);
	if (state.scratch || !state.draft || !draft_is_loaded(state.draft))
		return false;
	*ret = draft_size(state.draft);
	return true;
}

/* ---- all handles of an inode; few files are open at a time ---- */

#define foreach_file(t, f)                                                                         \
	map_foreach(&(t)->by_key, _e) for (struct file *f = ((struct list *)_e->value)->first; f;  \
					   f = f->next)

bool file_truncate_opened(struct file_table *t, uint64_t ino, pid_t tid)
{
	struct file *found = NULL;

	pthread_mutex_lock(&t->lock);
	foreach_file(t, f)
	{
		if (f->ino == ino && f->draft && !f->scratch && f->tid == tid &&
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

void file_set_saved(struct file_table *t, struct file *f, const struct base *saved)
{
	struct base base = {object_ref(saved->version), json_incref(saved->text), saved->stamp};
	struct base old;

	pthread_mutex_lock(&t->lock);
	old = f->saved;
	f->saved = base;
	pthread_mutex_unlock(&t->lock);
	base_release(&old);
}

size_t file_drafts(struct file_table *t)
{
	size_t n;

	pthread_mutex_lock(&t->lock);
	n = t->writers;
	pthread_mutex_unlock(&t->lock);
	return n;
}

bool file_is_open(struct file_table *t, uint64_t ino)
{
	bool found = false;

	pthread_mutex_lock(&t->lock);
	foreach_file(t, f)
	{
		found = found || f->ino == ino;
	}
	pthread_mutex_unlock(&t->lock);
	return found;
}

bool file_has_draft(struct file_table *t, uint64_t ino)
{
	bool found = false;

	pthread_mutex_lock(&t->lock);
	if (t->writers) {
		foreach_file(t, f)
		{
			if (f->ino == ino && f->draft && draft_is_loaded(f->draft))
				found = true;
		}
	}
	pthread_mutex_unlock(&t->lock);
	return found;
}

bool file_last_attr(struct file_table *t, uint64_t ino, struct tree_attr *ret)
{
	bool found = false;

	pthread_mutex_lock(&t->lock);
	foreach_file(t, f)
	{
		if (f->ino != ino || found)
			continue;
		*ret = f->attr;
		ret->ino = ino;
		ret->nlink = 0;
		found = true;
	}
	pthread_mutex_unlock(&t->lock);
	return found;
}

static void follow(struct file *f, struct view *view)
{
	struct tree_attr attr;

	if (!f->place || view_attr(view, f->path.kind, f->path.tag, &attr) < 0 ||
		attr.ino != f->place)
		return; /* gone: the last version stays */
	view_unref(f->view);
	f->view = view_ref(view);
	f->attr = attr;
	text_unref(f->text);
	f->text = NULL;
}

void file_follow(struct file_table *t, const struct tree_path *path, struct view *view)
{
	char key[PATH_KEY];
	struct tree_attr attr;
	struct list *list;
	bool open;

	path_key(path, key);
	pthread_mutex_lock(&t->lock);
	open = map_get(&t->by_key, key);
	pthread_mutex_unlock(&t->lock);
	if (!open)
		return;
	view_attr(view, path->kind, path->tag, &attr); /* made outside the lock */
	pthread_mutex_lock(&t->lock);
	list = map_get(&t->by_key, key);
	for (struct file *f = list ? list->first : NULL; f; f = f->next)
		if (!f->snapshot)
			follow(f, view);
	pthread_mutex_unlock(&t->lock);
}

/* ---- renames ---- */

/* t->lock held. The next handle of the inode to change; a change of lists starts anew. */
static struct file *next_of(struct file_table *t, uint64_t ino, bool (*wanted)(const struct file *))
{
	foreach_file(t, f)
	{
		if (f->ino == ino && wanted(f))
			return f;
	}
	return NULL;
}

static bool is_on_scratch(const struct file *f)
{
	return f->scratch;
}

static bool is_on_real(const struct file *f)
{
	return !f->scratch && f->view;
}

void file_make_scratch(struct file_table *t, uint64_t ino, struct scratch_node *n)
{
	struct file *f;

	pthread_mutex_lock(&t->lock);
	while ((f = next_of(t, ino, is_on_real))) {
		unlist(t, f);
		f->scratch = scratch_ref(n);
		f->path.kind = NODE_SCRATCH;
		f->place = 0;
		view_unref(steal_ptr(f->view));
		enlist(t, f, "");
		scratch_hold(t->scratch, n, 1);
	}
	pthread_mutex_unlock(&t->lock);
}

void file_make_real(struct file_table *t, const struct file_open *open, struct scratch_node *n)
{
	_cleanup_free_ char *data = NULL;
	char key[PATH_KEY];
	struct tree_attr attr;
	struct file *f;
	size_t len;

	view_attr(open->view, open->path->kind, open->path->tag, &attr); /* outside the lock */
	path_key(open->path, key);
	data = scratch_read(t->scratch, n, 0, SCRATCH_FILE_MAX, &len);
	pthread_mutex_lock(&t->lock);
	while ((f = next_of(t, scratch_ino(n), is_on_scratch))) {
		unlist(t, f);
		set_real(f, open);
		text_unref(steal_ptr(f->text));
		object_unref(f->opened);
		f->opened = object_ref(open->view->object);
		give_draft(t, f);
		if (f->draft)
			draft_load(f->draft, data, len, true);
		enlist(t, f, key);
		scratch_hold(t->scratch, n, -1);
		scratch_unref(steal_ptr(f->scratch));
	}
	pthread_mutex_unlock(&t->lock);
}

void file_set_place(struct file_table *t, uint64_t ino, uint64_t place)
{
	pthread_mutex_lock(&t->lock);
	foreach_file(t, f)
	{
		if (f->ino == ino && !f->scratch)
			f->place = place;
	}
	pthread_mutex_unlock(&t->lock);
}

struct unsaved {
	struct file_state state;
	uint64_t serial;
	char *text;
	size_t len;
};

static int by_serial(const void *a, const void *b)
{
	uint64_t x = ((const struct unsaved *)a)->serial, y = ((const struct unsaved *)b)->serial;

	return x < y ? -1 : x > y;
}

void file_foreach_unsaved(struct file_table *t, uint64_t ino, file_fn *fn, void *arg)
{
	struct unsaved *all = NULL;
	size_t n = 0, size = 0;
	uint64_t change;
	int verdict;

	pthread_mutex_lock(&t->lock);
	foreach_file(t, f)
	{
		if (!f->draft || f->scratch || (ino && f->ino != ino) ||
			draft_state(f->draft, &verdict) != DRAFT_WRITTEN)
			continue;
		if (n == size) {
			size = size ? size * 2 : 8;
			all = xrealloc(all, size * sizeof(*all));
		}
		get_state(f, &all[n].state);
		all[n].serial = f->serial;
		draft_take(f->draft, &verdict, &all[n].text, &all[n].len, &change);
		n++;
	}
	pthread_mutex_unlock(&t->lock);
	if (n)
		qsort(all, n, sizeof(*all), by_serial);
	for (size_t i = 0; i < n; i++) {
		fn(arg, &all[i].state, all[i].text, all[i].len);
		file_state_release(&all[i].state);
		free(all[i].text);
	}
	free(all);
}
