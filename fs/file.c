#include "fs/file.h"

#include "client/map.h"

#include <errno.h>

struct text {
	atomic_uint refs;
	char *data;
	size_t len;
};

struct list;

struct file {
	struct tree_path path;
	bool snapshot;
	struct tree_attr attr; /* lock; of `view` */
	struct view *view;     /* lock; NULL for a file that was made at its open */
	struct text *text;     /* lock; its bytes, once somebody read */
	struct list *list;
	struct file *next; /* lock; of the same stream */
};

struct file_table {
	pthread_mutex_t lock;
	struct map by_key; /* lock; NAMESPACE/NAME -> struct list; "": made at their open */
};

struct list {
	struct file *first;
	char key[];
};

void text_unref(struct text *text)
{
	if (!text || atomic_fetch_sub_explicit(&text->refs, 1, memory_order_acq_rel) != 1)
		return;
	free(text->data);
	free(text);
}

static struct text *text_ref(struct text *text)
{
	atomic_fetch_add_explicit(&text->refs, 1, memory_order_relaxed);
	return text;
}

static struct text *text_new(char *data, size_t len)
{
	struct text *text = xcalloc(1, sizeof(*text));

	atomic_init(&text->refs, 1);
	text->data = data;
	text->len = len;
	return text;
}

struct file_table *file_table_new(void)
{
	struct file_table *t = xcalloc(1, sizeof(*t));

	pthread_mutex_init(&t->lock, NULL);
	return t;
}

static void file_free(struct file *f)
{
	view_unref(f->view);
	text_unref(f->text);
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

static void enlist(struct file_table *t, struct file *f, const char *key)
{
	struct list *list;

	pthread_mutex_lock(&t->lock);
	list = map_get(&t->by_key, key);
	if (!list) {
		list = xcalloc(1, sizeof(*list) + strlen(key) + 1);
		strcpy(list->key, key);
		map_set(&t->by_key, list->key, list);
	}
	f->list = list;
	f->next = list->first;
	list->first = f;
	pthread_mutex_unlock(&t->lock);
}

struct file *file_open(struct file_table *t, struct view *view, const struct tree_path *path,
	const struct tree_attr *attr)
{
	struct file *f = xcalloc(1, sizeof(*f));

	f->path = *path;
	f->attr = *attr;
	f->view = view_ref(view);
	f->snapshot = attr->size > FILE_SNAPSHOT_SIZE;
	enlist(t, f, view->object->key);
	return f;
}

struct file *file_open_text(struct file_table *t, char *data, size_t len)
{
	struct file *f = xcalloc(1, sizeof(*f));

	f->text = text_new(data, len);
	f->snapshot = true;
	enlist(t, f, "");
	return f;
}

static void unlist(struct file_table *t, struct file *f)
{
	struct list *list = f->list;
	struct file **p = &list->first;

	while (*p != f)
		p = &(*p)->next;
	*p = f->next;
	if (!list->first) {
		map_del(&t->by_key, list->key);
		free(list);
	}
}

void file_close(struct file_table *t, struct file *f)
{
	pthread_mutex_lock(&t->lock);
	unlist(t, f);
	pthread_mutex_unlock(&t->lock);
	file_free(f);
}

bool file_is_snapshot(const struct file *f)
{
	return f->snapshot;
}

/* The bytes of the handle's version, rendered at the first read of it. */
static int get_text(struct file_table *t, struct file *f, struct text **ret)
{
	_cleanup_view_ struct view *view = NULL;
	struct buf bytes = BUF_INIT(ATTR_MAX);
	struct text *text = NULL;
	char *data;
	size_t len;
	int r;

	pthread_mutex_lock(&t->lock);
	if (f->text)
		text = text_ref(f->text);
	else
		view = view_ref(f->view);
	pthread_mutex_unlock(&t->lock);
	if (!text) {
		r = view_show(view, f->path.kind, f->path.tag, &bytes);
		if (r < 0) {
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

int file_read(struct file_table *t, struct file *f, size_t size, uint64_t offset,
	struct text **ret_text, const char **ret, size_t *ret_len)
{
	struct text *text;
	int r = get_text(t, f, &text);

	if (r < 0)
		return r;
	if (offset > text->len)
		offset = text->len;
	if (size > text->len - offset)
		size = text->len - offset;
	*ret_text = text;
	*ret = text->data + offset;
	*ret_len = size;
	return 0;
}

bool file_last_attr(struct file_table *t, uint64_t ino, struct tree_attr *ret)
{
	bool found = false;

	pthread_mutex_lock(&t->lock);
	map_foreach(&t->by_key, e)
	{
		for (struct file *f = ((struct list *)e->value)->first; f && !found; f = f->next) {
			if (f->attr.ino != ino)
				continue;
			*ret = f->attr;
			ret->nlink = 0;
			found = true;
		}
	}
	pthread_mutex_unlock(&t->lock);
	return found;
}

static void follow(struct file *f, struct view *view)
{
	struct tree_attr attr;

	if (view_attr(view, f->path.kind, f->path.tag, &attr) < 0 || attr.ino != f->attr.ino)
		return; /* gone: the last version stays */
	view_unref(f->view);
	f->view = view_ref(view);
	f->attr = attr;
	text_unref(f->text);
	f->text = NULL;
}

void file_publish(struct file_table *t, const char *key, struct view *view)
{
	struct list *list;
	bool open;

	pthread_mutex_lock(&t->lock);
	open = map_get(&t->by_key, key);
	pthread_mutex_unlock(&t->lock);
	if (!open)
		return;
	view_index(view); /* made outside the lock */
	pthread_mutex_lock(&t->lock);
	list = map_get(&t->by_key, key);
	for (struct file *f = list ? list->first : NULL; f; f = f->next)
		if (!f->snapshot)
			follow(f, view);
	pthread_mutex_unlock(&t->lock);
}
