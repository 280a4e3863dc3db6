#include "fs/tree/handle.h"

#include "client/clock.h"
#include "client/map.h"

#include <errno.h>

struct text {
	atomic_uint refs;
	char *data;
	size_t len;
	struct buf buf; /* what `data` is of */
};

struct list;

struct handle {
	uint64_t ino;
	uint64_t serial;	       /* the newest has the highest */
	bool fixed, writable, pending; /* fixed: goes on showing the version of its open */
	pid_t tid;
	struct process_id opener;
	struct object *opened;
	atomic_bool killed;
	struct events_reader *events;
	/* the table's lock guards all below */
	struct layout_path path;
	uint64_t place;		   /* 0: gone, or nothing there yet */
	struct layout_attr attr;   /* of `snapshot` */
	struct snapshot *snapshot; /* NULL for what was made at its open, and for scratch */
	struct text *text;	   /* its bytes, once somebody read */
	struct scratch_node *scratch;
	struct draft *draft; /* set once */
	struct base saved;
	struct list *list;
	struct handle *next, **link; /* of the same place; what points at it */
};

struct handle_table {
	struct scratch *scratch;
	pthread_mutex_t lock;
	uint64_t serial;   /* lock */
	size_t writers;	   /* lock; handles with a draft */
	struct map by_key; /* lock; place -> struct list; "": of none */
};

struct list {
	struct handle *first;
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

struct handle_table *handle_table_new(struct scratch *scratch)
{
	struct handle_table *t = xcalloc(1, sizeof(*t));

	t->scratch = scratch;
	pthread_mutex_init(&t->lock, NULL);
	return t;
}

static void handle_free(struct handle *f)
{
	snapshot_unref(f->snapshot);
	text_unref(f->text);
	object_unref(f->opened);
	scratch_unref(f->scratch);
	draft_free(f->draft);
	base_release(&f->saved);
	free(f);
}

void handle_table_free(struct handle_table *t)
{
	if (!t)
		return;
	map_foreach(&t->by_key, e)
	{
		struct list *list = e->value;

		for (struct handle *f = list->first, *next; f; f = next) {
			next = f->next;
			handle_free(f);
		}
		free(list);
	}
	map_release(&t->by_key);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* t->lock held, as for all that follow up to handle_open. */
static void enlist(struct handle_table *t, struct handle *f, const char *key)
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

static void unlist(struct handle_table *t, struct handle *f)
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

static void give_draft(struct handle_table *t, struct handle *f)
{
	if (f->draft || !f->writable)
		return;
	f->draft = draft_new();
	t->writers++;
}

static void add(struct handle_table *t, struct handle *f, const char *key)
{
	f->serial = ++t->serial;
	enlist(t, f, key);
}

#define PATH_KEY (3 * NAME_SIZE + 16)

static void path_key(const struct layout_path *path, char ret[PATH_KEY])
{
	snprintf(ret, PATH_KEY, "%s/%s/%d/%s", path->namespace, path->stream, (int)path->kind,
		path->kind < KIND_TAG ? "" : path->tag);
}

static void set_real(struct handle *f, const struct handle_open *open)
{
	f->path = *open->path;
	f->place = open->place;
	f->snapshot = snapshot_ref(open->snapshot);
	if (!open->place ||
		snapshot_attr(open->snapshot, open->path->kind, open->path->tag, &f->attr) < 0)
		f->attr = (struct layout_attr){.mtime = now_realtime()};
}

struct handle *handle_open(struct handle_table *t, const struct handle_open *open)
{
	struct handle *f = xcalloc(1, sizeof(*f));
	char key[PATH_KEY];

	f->ino = open->ino;
	f->writable = open->writable;
	f->pending = open->pending;
	f->tid = open->tid;
	f->opener = open->opener;
	f->opened = object_ref(open->snapshot->object);
	snapshot_index(open->snapshot); /* made outside the lock */
	set_real(f, open);
	f->fixed = open->writable || f->attr.size > HANDLE_SNAPSHOT_SIZE;
	path_key(open->path, key);
	pthread_mutex_lock(&t->lock);
	give_draft(t, f);
	add(t, f, key);
	pthread_mutex_unlock(&t->lock);
	return f;
}

struct handle *handle_open_scratch(struct handle_table *t, struct scratch_node *n, bool writable,
	pid_t tid, const struct process_id *opener)
{
	struct handle *f = xcalloc(1, sizeof(*f));

	f->ino = scratch_ino(n);
	f->writable = writable;
	f->tid = tid;
	f->opener = *opener;
	f->scratch = scratch_ref(n);
	f->path.kind = KIND_SCRATCH;
	f->fixed = true;
	scratch_hold(t->scratch, n, 1);
	pthread_mutex_lock(&t->lock);
	add(t, f, "");
	pthread_mutex_unlock(&t->lock);
	return f;
}

struct handle *handle_open_api(
	struct handle_table *t, const struct handle_open *open, struct buf *bytes)
{
	struct handle *f = xcalloc(1, sizeof(*f));

	f->path = *open->path;
	f->ino = open->ino;
	f->writable = open->writable;
	f->tid = open->tid;
	f->opener = open->opener;
	f->text = text_of(bytes);
	f->fixed = true;
	pthread_mutex_lock(&t->lock);
	give_draft(t, f);
	add(t, f, "");
	pthread_mutex_unlock(&t->lock);
	return f;
}

struct handle *handle_open_events(struct handle_table *t, struct events_reader *reader)
{
	struct handle *f = xcalloc(1, sizeof(*f));

	f->events = reader;
	f->fixed = true;
	pthread_mutex_lock(&t->lock);
	add(t, f, "");
	pthread_mutex_unlock(&t->lock);
	return f;
}

struct events_reader *handle_events(const struct handle *f)
{
	return f->events;
}

void handle_close(struct handle_table *t, struct handle *f)
{
	pthread_mutex_lock(&t->lock);
	unlist(t, f);
	t->writers -= f->draft != NULL;
	pthread_mutex_unlock(&t->lock);
	if (f->scratch)
		scratch_hold(t->scratch, f->scratch, -1);
	handle_free(f);
}

bool handle_is_fixed(const struct handle *f)
{
	return f->fixed;
}

bool handle_is_writable(const struct handle *f)
{
	return f->writable;
}

bool handle_is_pending(const struct handle *f)
{
	return f->pending;
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
	*ret = (struct handle_state){.path = f->path, .ino = f->ino, .place = f->place};
	ret->scratch = f->scratch ? scratch_ref(f->scratch) : NULL;
	ret->draft = f->draft;
	ret->opened = f->opened ? object_ref(f->opened) : NULL;
	if (f->saved.version)
		ret->saved = (struct base){
			object_ref(f->saved.version), json_incref(f->saved.text), f->saved.stamp};
	if (f->snapshot) {
		ret->slot = layout_ino(f->snapshot->object->uid, f->path.kind, f->path.tag, 0);
		ret->pending = snapshot_slot(f->snapshot, f->path.kind, f->path.tag);
	}
}

void handle_get_state(struct handle_table *t, struct handle *f, struct handle_state *ret)
{
	pthread_mutex_lock(&t->lock);
	get_state(f, ret);
	pthread_mutex_unlock(&t->lock);
}

void handle_state_release(struct handle_state *s)
{
	scratch_unref(s->scratch);
	object_unref(s->opened);
	base_release(&s->saved);
}

/* The bytes of the handle's version, rendered at the first read of it. */
static int get_text(struct handle_table *t, struct handle *f, struct text **ret)
{
	_cleanup_view_ struct snapshot *snapshot = NULL;
	struct buf bytes = BUF_INIT(ATTR_MAX);
	struct text *text = NULL;
	struct layout_path path;
	char *data;
	size_t len;
	int r;

	pthread_mutex_lock(&t->lock);
	path = f->path;
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

int handle_read(struct handle_table *t, struct handle *f, size_t size, uint64_t offset,
	struct text **ret_text, const char **ret, size_t *ret_len)
{
	_cleanup_handle_state_ struct handle_state state;
	struct text *text = NULL;
	char *data;
	size_t len;
	int r;

	handle_get_state(t, f, &state);
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

/* Gives the draft the bytes that are shown, if it has none of its own. */
static int load(struct handle_table *t, struct handle *f, struct draft *draft)
{
	struct text *text;
	int r;

	if (draft_is_loaded(draft))
		return 0;
	if (layout_is_api(f->path.kind))
		return draft_load(draft, "", 0, false);
	r = get_text(t, f, &text);
	if (r == 0) {
		r = draft_load(draft, text->data, text->len, false);
		text_unref(text);
	}
	return r;
}

int handle_write(struct handle_table *t, struct handle *f, const char *data, size_t len,
	uint64_t offset, bool append)
{
	_cleanup_handle_state_ struct handle_state state;
	int r;

	handle_get_state(t, f, &state);
	if (state.scratch)
		return scratch_write(t->scratch, state.scratch, data, len, offset, append);
	if (!state.draft)
		return -EBADF;
	r = load(t, f, state.draft);
	return r < 0 ? r : draft_write(state.draft, data, len, offset, append);
}

int handle_truncate(struct handle_table *t, struct handle *f, uint64_t size)
{
	_cleanup_handle_state_ struct handle_state state;
	int r = 0;

	handle_get_state(t, f, &state);
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

void handle_start_empty(struct handle_table *t, struct handle *f)
{
	_cleanup_handle_state_ struct handle_state state;

	handle_get_state(t, f, &state);
	if (state.draft)
		draft_load(state.draft, "", 0, false);
}

int handle_end(struct handle_table *t, struct handle *f, uint64_t *ret)
{
	_cleanup_handle_state_ struct handle_state state;
	struct text *text;
	struct stat st;
	int r;

	handle_get_state(t, f, &state);
	if (state.scratch) {
		scratch_stat(t->scratch, state.scratch, &st);
		*ret = st.st_size;
		return 0;
	}
	if (state.draft && draft_is_loaded(state.draft)) {
		*ret = draft_size(state.draft);
		return 0;
	}
	r = get_text(t, f, &text);
	if (r == 0) {
		*ret = text->len;
		text_unref(text);
	}
	return r;
}

/* ---- all handles of an inode; few files are open at a time ---- */

#define foreach_file(t, f)                                                                         \
	map_foreach(&(t)->by_key, _e) for (struct handle *f = ((struct list *)_e->value)->first;   \
					   f; f = f->next)

bool handle_truncate_opened(struct handle_table *t, uint64_t ino, pid_t tid)
{
	struct handle *found = NULL;

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

void handle_set_saved(struct handle_table *t, struct handle *f, const struct base *saved)
{
	struct base base = {object_ref(saved->version), json_incref(saved->text), saved->stamp};
	struct base old;

	pthread_mutex_lock(&t->lock);
	old = f->saved;
	f->saved = base;
	pthread_mutex_unlock(&t->lock);
	base_release(&old);
}

size_t handle_drafts(struct handle_table *t)
{
	size_t n;

	pthread_mutex_lock(&t->lock);
	n = t->writers;
	pthread_mutex_unlock(&t->lock);
	return n;
}

bool handle_is_open(struct handle_table *t, uint64_t ino)
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

bool handle_has_draft(struct handle_table *t, uint64_t ino)
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

bool handle_last_attr(struct handle_table *t, uint64_t ino, struct layout_attr *ret)
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

static void follow(struct handle *f, struct snapshot *snapshot)
{
	struct layout_attr attr;

	if (!f->place || snapshot_attr(snapshot, f->path.kind, f->path.tag, &attr) < 0 ||
		attr.ino != f->place)
		return; /* gone: the last version stays */
	snapshot_unref(f->snapshot);
	f->snapshot = snapshot_ref(snapshot);
	f->attr = attr;
	text_unref(f->text);
	f->text = NULL;
}

void handle_follow(
	struct handle_table *t, const struct layout_path *path, struct snapshot *snapshot)
{
	char key[PATH_KEY];
	struct layout_attr attr;
	struct list *list;
	bool open;

	path_key(path, key);
	pthread_mutex_lock(&t->lock);
	open = map_get(&t->by_key, key);
	pthread_mutex_unlock(&t->lock);
	if (!open)
		return;
	snapshot_attr(snapshot, path->kind, path->tag, &attr); /* made outside the lock */
	pthread_mutex_lock(&t->lock);
	list = map_get(&t->by_key, key);
	for (struct handle *f = list ? list->first : NULL; f; f = f->next)
		if (!f->fixed)
			follow(f, snapshot);
	pthread_mutex_unlock(&t->lock);
}

/* ---- renames ---- */

/* t->lock held. The next handle of the inode to change; a change of lists starts anew. */
static struct handle *next_of(
	struct handle_table *t, uint64_t ino, bool (*wanted)(const struct handle *))
{
	foreach_file(t, f)
	{
		if (f->ino == ino && wanted(f))
			return f;
	}
	return NULL;
}

static bool is_on_scratch(const struct handle *f)
{
	return f->scratch;
}

static bool is_on_real(const struct handle *f)
{
	return !f->scratch && f->snapshot;
}

void handle_make_scratch(struct handle_table *t, uint64_t ino, struct scratch_node *n)
{
	struct handle *f;

	pthread_mutex_lock(&t->lock);
	while ((f = next_of(t, ino, is_on_real))) {
		unlist(t, f);
		f->scratch = scratch_ref(n);
		f->path.kind = KIND_SCRATCH;
		f->place = 0;
		snapshot_unref(steal_ptr(f->snapshot));
		enlist(t, f, "");
		scratch_hold(t->scratch, n, 1);
	}
	pthread_mutex_unlock(&t->lock);
}

void handle_make_real(
	struct handle_table *t, const struct handle_open *open, struct scratch_node *n)
{
	_cleanup_free_ char *data = NULL;
	char key[PATH_KEY];
	struct layout_attr attr;
	struct handle *f;
	size_t len;

	snapshot_attr(
		open->snapshot, open->path->kind, open->path->tag, &attr); /* outside the lock */
	path_key(open->path, key);
	data = scratch_read(t->scratch, n, 0, SCRATCH_FILE_MAX, &len);
	pthread_mutex_lock(&t->lock);
	while ((f = next_of(t, scratch_ino(n), is_on_scratch))) {
		unlist(t, f);
		set_real(f, open);
		text_unref(steal_ptr(f->text));
		object_unref(f->opened);
		f->opened = object_ref(open->snapshot->object);
		give_draft(t, f);
		if (f->draft)
			draft_load(f->draft, data, len, true);
		enlist(t, f, key);
		scratch_hold(t->scratch, n, -1);
		scratch_unref(steal_ptr(f->scratch));
	}
	pthread_mutex_unlock(&t->lock);
}

void handle_set_place(struct handle_table *t, uint64_t ino, uint64_t place)
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

void handle_foreach_unsaved(struct handle_table *t, uint64_t ino, handle_fn *fn, void *arg)
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
		handle_state_release(&all[i].state);
		free(all[i].text);
	}
	free(all);
}
