#include "fs/tree/scratch.h"

#include "client/clock.h"
#include "fs/tree/itable.h"

#include <errno.h>

#define BATCH 64 /* entries of a listing that are copied at once */

/* ---- names; the lock is held in all that isn't public ---- */

static bool is_directory(const struct inode *n)
{
	const struct own *own = own_of(n);

	return own && own->made && S_ISDIR(own->made->mode);
}

static struct dir *dir_get(struct inode_table *t, uint64_t ino)
{
	struct dir *d = idmap_get(&t->dirs, ino);

	if (!d) {
		d = xcalloc(1, sizeof(*d));
		d->ino = ino;
		idmap_set(&t->dirs, ino, d);
	}
	return d;
}

static void dir_release(struct dir *d)
{
	map_foreach(&d->names, e)
		free(e->value);
	map_release(&d->names);
	order_release(&d->order);
	free(d);
}

static bool is_empty(struct inode_table *t, const struct inode *n)
{
	struct dir *d = idmap_get(&t->dirs, n->ino);

	return !d || d->names.count == 0;
}

struct entry *entry_find(struct inode_table *t, uint64_t dir, const char *name)
{
	struct dir *d = idmap_get(&t->dirs, dir);

	return d ? map_get(&d->names, name) : NULL;
}

/* Something came or went. */
static void dir_changed(struct inode_table *t, struct dir *d)
{
	struct inode *n = inode_find(t, d->ino);

	d->mtime = now_realtime();
	if (n)
		scratch_touch(t, n);
}

/* The inode's name came or went. */
static void name_changed(struct inode_table *t, struct inode *n)
{
	struct made *made = own_of(n)->made;

	if (made)
		made->ctime = now_realtime();
	scratch_touch(t, n);
}

void entry_add(struct inode_table *t, uint64_t dir, const char *name, struct inode *n)
{
	struct dir *d = dir_get(t, dir);
	struct entry *e = xcalloc(1, sizeof(*e) + strlen(name) + 1);

	strcpy(e->name, name);
	e->inode = n;
	e->dir = d;
	e->cookie = order_add(&d->order, e);
	map_set(&d->names, e->name, e);
	inode_own(t, n)->entry = e;
	t->names_made++;
	d->subdirs += is_directory(n);
	dir_changed(t, d);
	name_changed(t, n);
}

void entry_del(struct inode_table *t, struct inode *n)
{
	struct own *own = own_of(n);
	struct entry *e = own->entry;
	struct dir *d = e->dir;

	map_del(&d->names, e->name);
	order_del(&d->order, e->cookie, e);
	free(e);
	own->entry = NULL;
	t->names_made--;
	d->subdirs -= is_directory(n);
	dir_changed(t, d);
	name_changed(t, n);
}

/* The name goes, and the inode, if nobody has it; and so do the names of what is in it. */
static void remove_name(struct inode_table *t, struct inode *n)
{
	entry_del(t, n);
	if (is_directory(n))
		entries_drop(t, n->ino);
	inode_settle(t, n);
}

/* The entries of the one directory become the other's; it itself is over. */
static void move_entries(struct inode_table *t, uint64_t from, struct dir *to)
{
	struct dir *d = idmap_del(&t->dirs, from);

	for (size_t i = 0; d && i < d->order.count; i++) {
		struct entry *e = d->order.places[i].child;

		if (!e)
			continue;
		e->dir = to;
		e->cookie = order_add(&to->order, e);
	}
	if (!d)
		return;
	map_release(&d->names);
	order_release(&d->order);
	free(d);
}

void entries_drop(struct inode_table *t, uint64_t dir)
{
	struct dir *d = idmap_del(&t->dirs, dir);

	if (!d)
		return;
	map_release(&d->names);
	for (size_t i = 0; i < d->order.count; i++) { /* more come while it runs */
		struct entry *e = d->order.places[i].child;
		struct inode *n = e ? e->inode : NULL;

		free(e);
		if (!n)
			continue;
		own_of(n)->entry = NULL;
		t->names_made--;
		if (is_directory(n))
			move_entries(t, n->ino, d); /* they lose theirs next */
		if (n->state == INODE_PENDING) {
			inode_detach(t, n);
			inode_set_state(t, n, INODE_GONE);
		}
		name_changed(t, n);
		inode_settle(t, n);
	}
	order_release(&d->order);
	free(d);
}

void scratch_release(struct inode_table *t)
{
	idmap_foreach(&t->dirs, e)
		dir_release(e->value);
	idmap_release(&t->dirs);
}

void scratch_touch(struct inode_table *t, struct inode *n)
{
	struct own *own = own_of(n);

	if (n->state != INODE_SCRATCH)
		return;
	line_leave(own);
	if (own->entry && !own->open && (!is_directory(n) || is_empty(t, n)))
		line_up(&t->old, own);
}

/* ---- scratch ---- */

void made_free(struct inode_table *t, struct own *own)
{
	struct made *made = steal_ptr(own->made);

	if (!made)
		return;
	object_unref(made->version);
	free(made->target);
	bytes_release(&made->bytes, &t->budget);
	free(made);
}

static void make(struct inode_table *t, struct inode *n, const struct scratch_init *init)
{
	struct own *own = inode_own(t, n);
	struct made *made = xcalloc(1, sizeof(*made));

	made_free(t, own);
	own->made = made;
	made->mode = init->mode;
	made->uid = init->uid;
	made->gid = init->gid;
	made->version = init->version ? object_ref(init->version) : NULL;
	made->moved_from = init->moved_from;
	made->target = init->target ? xstrdup(init->target) : NULL;
	made->atime = made->mtime = made->ctime = now_realtime();
	if (init->mtime)
		made->mtime = init->mtime;
	bytes_set(&made->bytes, &t->budget, init->data, init->len);
}

static struct inode *scratch_new(
	struct inode_table *t, const struct place *path, const struct scratch_init *init)
{
	struct place at = *path;
	struct inode *n;

	at.kind = KIND_SCRATCH;
	n = inode_make(t, &at, layout_new_ino(), INODE_SCRATCH);
	make(t, n, init);
	return n;
}

static struct inode *pin(struct inode_table *t, struct inode *n)
{
	inode_own(t, n)->pins++;
	return n;
}

/* Whether there is room for it. */
static int has_room(const struct inode_table *t, const struct scratch_init *init, bool named)
{
	if (init->past_limit)
		return 0;
	if (init->len && t->budget.used + init->len > t->budget.max)
		return -ENOSPC;
	return named && t->names_made >= SCRATCH_NAMES_MAX ? -ENOSPC : 0;
}

int scratch_create(struct inode_table *t, uint64_t dir, const struct place *path, const char *name,
	const struct scratch_init *init, struct inode **ret)
{
	int r;

	pthread_mutex_lock(&t->lock);
	r = dir && entry_find(t, dir, name) ? -EEXIST : has_room(t, init, dir);
	if (r == 0) {
		*ret = pin(t, scratch_new(t, path, init));
		if (dir)
			entry_add(t, dir, name, *ret);
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

void scratch_put(struct inode_table *t, uint64_t dir, const struct place *path, const char *name,
	const struct scratch_init *init)
{
	struct entry *e;

	pthread_mutex_lock(&t->lock);
	e = entry_find(t, dir, name);
	if (e)
		remove_name(t, e->inode);
	entry_add(t, dir, name, scratch_new(t, path, init));
	pthread_mutex_unlock(&t->lock);
}

static bool is_scratch(const struct entry *e)
{
	return e && e->inode->state == INODE_SCRATCH;
}

struct inode *scratch_lookup(struct inode_table *t, uint64_t dir, const char *name)
{
	struct entry *e;
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	e = entry_find(t, dir, name);
	n = is_scratch(e) ? pin(t, e->inode) : NULL;
	pthread_mutex_unlock(&t->lock);
	return n;
}

struct inode *scratch_get(struct inode_table *t, uint64_t ino)
{
	struct inode *n;

	pthread_mutex_lock(&t->lock);
	n = inode_find(t, ino);
	n = n && n->state == INODE_SCRATCH ? pin(t, n) : NULL;
	pthread_mutex_unlock(&t->lock);
	return n;
}

int scratch_unlink(struct inode_table *t, uint64_t dir, const char *name, bool directory)
{
	struct entry *e;
	int r = 0;

	pthread_mutex_lock(&t->lock);
	e = entry_find(t, dir, name);
	if (!is_scratch(e))
		r = -ENOENT;
	else if (directory && !is_directory(e->inode))
		r = -ENOTDIR;
	else if (!directory && is_directory(e->inode))
		r = -EISDIR;
	else if (directory && !is_empty(t, e->inode))
		r = -ENOTEMPTY;
	if (r == 0)
		remove_name(t, e->inode);
	pthread_mutex_unlock(&t->lock);
	return r;
}

/* Whether the one may take the other's name (rename(2)). */
static int may_replace(struct inode_table *t, const struct inode *moved, const struct inode *there)
{
	if (is_directory(there) && !is_directory(moved))
		return -EISDIR;
	if (!is_directory(there) && is_directory(moved))
		return -ENOTDIR;
	return is_directory(there) && !is_empty(t, there) ? -ENOTEMPTY : 0;
}

int scratch_rename(struct inode_table *t, uint64_t dir, const char *name, uint64_t new_dir,
	const struct place *new_path, const char *new_name, bool noreplace)
{
	struct place path = *new_path;
	struct entry *e, *there;
	struct inode *n;
	int r = 0;

	path.kind = KIND_SCRATCH;
	pthread_mutex_lock(&t->lock);
	e = entry_find(t, dir, name);
	there = entry_find(t, new_dir, new_name);
	if (!is_scratch(e))
		r = -ENOENT;
	else if (there && noreplace)
		r = -EEXIST;
	else if (there && there != e)
		r = may_replace(t, e->inode, there->inode);
	if (r == 0 && there != e) {
		n = e->inode;
		if (there)
			remove_name(t, there->inode);
		entry_del(t, n);
		entry_add(t, new_dir, new_name, n);
		inode_move(t, n, &path);
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

/* ---- between the server's tree and scratch ---- */

/* The inode still stands for what is shown, or is the file that was begun. */
static bool is_current(struct inode_table *t, struct inode *n, uint64_t first)
{
	return first ? inode_standing(t, first) == n : n->state == INODE_PENDING;
}

int scratch_leave(struct inode_table *t, uint64_t ino, uint64_t first, const struct place *path,
	const struct scratch_to *to, struct inode **ret)
{
	struct place scratch = *path;
	struct entry *there;
	struct inode *n;
	int r;

	scratch.kind = KIND_SCRATCH;
	pthread_mutex_lock(&t->lock);
	n = inode_find(t, ino);
	if (!n && ino == first && !idmap_get(&t->standing, first))
		n = inode_make(t, path, ino, INODE_SHOWN);
	there = to->dir ? entry_find(t, to->dir, to->name) : NULL;
	r = !n || !is_current(t, n, first)	  ? -ENOENT
	    : there && is_directory(there->inode) ? -EISDIR
						  : has_room(t, &to->init, to->dir && !there);
	if (r == 0) {
		inode_detach(t, n);
		inode_set_state(t, n, INODE_SCRATCH);
		inode_move(t, n, &scratch);
		make(t, n, &to->init);
		handles_leave(n);
		if (first)
			inode_hide_name(t, first, path);
		if (there)
			remove_name(t, there->inode);
		if (to->dir)
			entry_add(t, to->dir, to->name, n);
		*ret = pin(t, n);
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

int scratch_take(struct inode_table *t, struct inode *n, uint64_t dir, const struct place *path,
	uint64_t first, struct snapshot *snapshot)
{
	struct layout_attr attr = {.mtime = now_realtime()};
	struct entry *begun;
	int r = 0;

	snapshot_attr(snapshot, path->kind, path->tag, &attr); /* outside the lock */
	pthread_mutex_lock(&t->lock);
	begun = dir ? entry_find(t, dir, layout[path->kind].name) : NULL;
	if (n->state != INODE_SCRATCH) {
		r = -ENOENT;
	} else {
		if (begun && begun->inode != n)
			inode_end(t, begun->inode);
		handles_take(t, n, snapshot, &attr);
		inode_take(t, n, first, path);
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

int64_t scratch_dir_mtime(struct inode_table *t, uint64_t dir, unsigned *ret_subdirs)
{
	int64_t mtime = 0;
	struct dir *d;

	*ret_subdirs = 0;
	pthread_mutex_lock(&t->lock);
	d = idmap_get(&t->dirs, dir);
	if (d) {
		mtime = d->mtime;
		*ret_subdirs = d->subdirs;
	}
	pthread_mutex_unlock(&t->lock);
	return mtime;
}

/* t->lock held. */
static void fill_stat(struct inode_table *t, const struct inode *n, struct stat *ret)
{
	const struct own *own = own_of(n);
	const struct made *made = own->made;
	const struct dir *d = S_ISDIR(made->mode) ? idmap_get(&t->dirs, n->ino) : NULL;
	int64_t mtime = d && d->mtime > made->mtime ? d->mtime : made->mtime;
	size_t len = made->bytes.len;

	*ret = (struct stat){.st_ino = n->ino,
		.st_mode = made->mode,
		.st_nlink = own->entry ? 1 : 0,
		.st_uid = made->uid,
		.st_gid = made->gid,
		.st_size = made->target ? strlen(made->target) : len,
		.st_blocks = (len + 511) / 512,
		.st_blksize = 4096,
		.st_atim = timespec_from_ns(made->atime),
		.st_mtim = timespec_from_ns(mtime),
		.st_ctim = timespec_from_ns(made->ctime > mtime ? made->ctime : mtime)};
	if (S_ISDIR(made->mode) && own->entry)
		ret->st_nlink = 2 + (d ? d->subdirs : 0);
}

struct listed {
	char name[NAME_SIZE];
	uint64_t cookie;
	enum kind kind;
	struct stat st;
};

/* The next entries after the cookie. */
static size_t batch_get(
	struct inode_table *t, uint64_t dir, uint64_t cookie, struct listed batch[BATCH])
{
	struct dir *d;
	size_t count = 0;

	pthread_mutex_lock(&t->lock);
	d = idmap_get(&t->dirs, dir);
	for (size_t i = d ? order_after(&d->order, cookie) : 0;
		d && i < d->order.count && count < BATCH; i++) {
		const struct entry *e = d->order.places[i].child;
		struct listed *l = &batch[count];

		if (!e)
			continue;
		snprintf(l->name, NAME_SIZE, "%s", e->name);
		l->cookie = e->cookie;
		l->kind = e->inode->kind;
		if (is_scratch(e))
			fill_stat(t, e->inode, &l->st);
		count++;
	}
	pthread_mutex_unlock(&t->lock);
	return count;
}

void scratch_list(struct inode_table *t, uint64_t dir, uint64_t cookie, scratch_fn *fn, void *arg)
{
	_cleanup_free_ struct listed *batch = xcalloc(BATCH, sizeof(*batch));
	bool stop = false;
	size_t n = BATCH;

	while (n == BATCH && !stop) {
		n = batch_get(t, dir, cookie, batch);
		for (size_t i = 0; i < n && !stop; i++) {
			stop = fn(arg, batch[i].name, batch[i].cookie, batch[i].kind, &batch[i].st);
			cookie = batch[i].cookie;
		}
	}
}

uint64_t scratch_ino(const struct inode *n)
{
	return n->ino;
}

void scratch_stat(struct inode_table *t, struct inode *n, struct stat *ret)
{
	pthread_mutex_lock(&t->lock);
	fill_stat(t, n, ret);
	pthread_mutex_unlock(&t->lock);
}

const char *scratch_target(const struct inode *n)
{
	return n->own->made->target;
}

struct object *scratch_version(const struct inode *n)
{
	return n->own->made->version;
}

uint64_t scratch_moved_from(struct inode_table *t, struct inode *n)
{
	uint64_t from;

	pthread_mutex_lock(&t->lock);
	from = own_of(n)->made->moved_from;
	pthread_mutex_unlock(&t->lock);
	return from;
}

char *scratch_read(
	struct inode_table *t, struct inode *n, uint64_t offset, size_t size, size_t *ret_len)
{
	char *data;

	pthread_mutex_lock(&t->lock);
	data = bytes_read(&own_of(n)->made->bytes, offset, size, ret_len);
	scratch_touch(t, n);
	pthread_mutex_unlock(&t->lock);
	return data;
}

/* t->lock held. */
static void written(struct inode_table *t, struct inode *n)
{
	struct made *made = own_of(n)->made;
	int64_t now = now_realtime();

	made->mtime = now > made->mtime ? now : made->mtime + 1;
	made->ctime = made->mtime;
	made->moved_from = 0;
	scratch_touch(t, n);
}

int scratch_write(struct inode_table *t, struct inode *n, const char *data, size_t len,
	uint64_t offset, bool append)
{
	struct bytes *bytes;
	int r;

	pthread_mutex_lock(&t->lock);
	bytes = &own_of(n)->made->bytes;
	r = bytes_write(
		bytes, &t->budget, SCRATCH_FILE_MAX, data, len, append ? bytes->len : offset);
	if (r == 0)
		written(t, n);
	pthread_mutex_unlock(&t->lock);
	return r;
}

int scratch_truncate(struct inode_table *t, struct inode *n, uint64_t size)
{
	int r;

	pthread_mutex_lock(&t->lock);
	r = bytes_resize(&own_of(n)->made->bytes, &t->budget, SCRATCH_FILE_MAX, size);
	if (r == 0)
		written(t, n);
	pthread_mutex_unlock(&t->lock);
	return r;
}

void scratch_set(struct inode_table *t, struct inode *n, int mode, uid_t uid, gid_t gid,
	int64_t atime, int64_t mtime)
{
	struct made *made;

	pthread_mutex_lock(&t->lock);
	made = own_of(n)->made;
	if (mode >= 0)
		made->mode = (made->mode & S_IFMT) | (mode & 07777);
	if (uid != (uid_t)-1)
		made->uid = uid;
	if (gid != (gid_t)-1)
		made->gid = gid;
	if (atime >= 0)
		made->atime = atime;
	if (mtime >= 0)
		made->mtime = mtime;
	made->ctime = now_realtime();
	scratch_touch(t, n);
	pthread_mutex_unlock(&t->lock);
}

void scratch_usage(struct inode_table *t, size_t *ret_bytes, size_t *ret_nodes)
{
	pthread_mutex_lock(&t->lock);
	*ret_bytes = t->budget.used;
	*ret_nodes = t->scratch;
	pthread_mutex_unlock(&t->lock);
}
