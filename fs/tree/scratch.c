#include "fs/tree/scratch.h"

#include "client/clock.h"
#include "client/idmap.h"
#include "client/map.h"
#include "fs/tree/layout.h"
#include "fs/tree/order.h"

#include <errno.h>
#include <pthread.h>

struct scratch_node {
	struct scratch *scratch;
	uint64_t ino;
	struct object *version; /* or NULL */
	char *target;		/* of a symlink, or NULL */
	/* the scratch's lock guards all below */
	unsigned refs;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	uint64_t moved_from;
	int64_t atime, mtime, ctime, touched;
	int open;
	bool named;
	char *data;
	size_t len, size;
};

struct entry {
	struct scratch_node *node;
	uint64_t cookie;
	char name[];
};

struct dir {
	uint64_t ino;
	struct map names;   /* -> struct entry */
	struct order order; /* of these */
	unsigned subdirs;
	int64_t mtime;
};

struct scratch {
	pthread_mutex_t lock;
	struct idmap nodes; /* lock; by st_ino */
	struct idmap dirs;  /* lock; by st_ino */
	size_t bytes;	    /* lock */
	int64_t swept;	    /* lock; ns since 1970 */
};

#define SWEEP_NS (60 * NSEC_PER_SEC) /* what is old is looked for so often */
#define BATCH	 64		     /* entries of a listing that are copied at once */

struct scratch *scratch_new(void)
{
	struct scratch *s = xcalloc(1, sizeof(*s));

	pthread_mutex_init(&s->lock, NULL);
	return s;
}

static void node_free(struct scratch_node *n)
{
	object_unref(n->version);
	free(n->target);
	free(n->data);
	free(n);
}

void scratch_free(struct scratch *s)
{
	if (!s)
		return;
	idmap_foreach(&s->nodes, e) node_free(e->value);
	idmap_foreach(&s->dirs, e)
	{
		struct dir *d = e->value;

		map_foreach(&d->names, n) free(n->value);
		map_release(&d->names);
		order_release(&d->order);
		free(d);
	}
	idmap_release(&s->nodes);
	idmap_release(&s->dirs);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* s->lock held. True when that was the last reference: the node is out of the table. */
static bool unref_locked(struct scratch_node *n)
{
	if (--n->refs)
		return false;
	n->scratch->bytes -= n->len;
	idmap_del(&n->scratch->nodes, n->ino);
	return true;
}

struct scratch_node *scratch_ref(struct scratch_node *n)
{
	pthread_mutex_lock(&n->scratch->lock);
	n->refs++;
	pthread_mutex_unlock(&n->scratch->lock);
	return n;
}

void scratch_unref(struct scratch_node *n)
{
	struct scratch *s = n ? n->scratch : NULL;
	bool last;

	if (!n)
		return;
	pthread_mutex_lock(&s->lock);
	last = unref_locked(n);
	pthread_mutex_unlock(&s->lock);
	if (last)
		node_free(n);
}

/* ---- directories; s->lock held in all of them ---- */

static struct dir *dir_get(struct scratch *s, uint64_t ino)
{
	struct dir *d = idmap_get(&s->dirs, ino);

	if (!d) {
		d = xcalloc(1, sizeof(*d));
		d->ino = ino;
		idmap_set(&s->dirs, ino, d);
	}
	return d;
}

static struct entry *find(struct scratch *s, uint64_t dir, const char *name)
{
	struct dir *d = idmap_get(&s->dirs, dir);

	return d ? map_get(&d->names, name) : NULL;
}

/* Takes a reference of the caller's. */
static void add_entry(struct scratch *s, uint64_t dir, const char *name, struct scratch_node *n)
{
	struct dir *d = dir_get(s, dir);
	struct entry *e = xcalloc(1, sizeof(*e) + strlen(name) + 1);

	strcpy(e->name, name);
	e->node = n;
	e->cookie = order_add(&d->order, e);
	map_set(&d->names, e->name, e);
	d->subdirs += S_ISDIR(n->mode);
	d->mtime = now_realtime();
	n->ctime = d->mtime;
	n->named = true;
}

/* Frees the entry and hands its reference over. */
static struct scratch_node *take_entry(struct scratch *s, uint64_t dir, struct entry *e)
{
	struct dir *d = idmap_get(&s->dirs, dir);
	struct scratch_node *n = e->node;

	map_del(&d->names, e->name);
	order_del(&d->order, e->cookie, e);
	free(e);
	d->subdirs -= S_ISDIR(n->mode);
	d->mtime = now_realtime();
	n->ctime = d->mtime;
	n->named = false;
	return n;
}

static bool is_empty(struct scratch *s, const struct scratch_node *n)
{
	struct dir *d = idmap_get(&s->dirs, n->ino);

	return !d || d->names.count == 0;
}

/* It is empty. */
static void dir_free(struct scratch *s, uint64_t ino)
{
	struct dir *d = idmap_del(&s->dirs, ino);

	if (!d)
		return;
	map_release(&d->names);
	order_release(&d->order);
	free(d);
}

/* ---- nodes ---- */

static struct scratch_node *node_new(struct scratch *s, const struct scratch_init *init)
{
	struct scratch_node *n = xcalloc(1, sizeof(*n));

	n->scratch = s;
	n->refs = 1;
	n->ino = init->ino ? init->ino : layout_new_ino();
	n->mode = init->mode;
	n->uid = init->uid;
	n->gid = init->gid;
	n->version = init->version ? object_ref(init->version) : NULL;
	n->moved_from = init->moved_from;
	n->target = init->target ? xstrdup(init->target) : NULL;
	n->atime = n->mtime = n->ctime = n->touched = now_realtime();
	n->len = n->size = init->len;
	if (init->len) {
		n->data = xmalloc(init->len);
		memcpy(n->data, init->data, init->len);
	}
	idmap_set(&s->nodes, n->ino, n);
	s->bytes += n->len;
	return n;
}

/* Takes away what nobody opened or touched for a day. Once a minute at most. */
static void forget_old(struct scratch *s)
{
	int64_t now = now_realtime(), limit = now - SCRATCH_AGE;

	if (now >= s->swept && now < s->swept + SWEEP_NS)
		return;
	s->swept = now;
	idmap_foreach(&s->dirs, de)
	{
		struct dir *d = de->value;

		for (size_t i = d->order.count; i-- > 0;) {
			struct entry *e = i < d->order.count ? d->order.places[i].child : NULL;
			struct scratch_node *n = e ? e->node : NULL;

			if (!n || !S_ISREG(n->mode) || n->open || n->touched > limit)
				continue;
			take_entry(s, d->ino, e);
			if (unref_locked(n))
				node_free(n);
		}
	}
}

int scratch_create(struct scratch *s, uint64_t dir, const char *name,
	const struct scratch_init *init, struct scratch_node **ret)
{
	int r = 0;

	pthread_mutex_lock(&s->lock);
	forget_old(s);
	if (dir && find(s, dir, name))
		r = -EEXIST;
	else if (!init->past_limit && init->len && s->bytes + init->len > SCRATCH_TOTAL_MAX)
		r = -ENOSPC;
	if (r == 0) {
		*ret = node_new(s, init);
		if (dir) {
			(*ret)->refs++;
			add_entry(s, dir, name, *ret);
		}
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

void scratch_put(struct scratch *s, uint64_t dir, const char *name, const struct scratch_init *init)
{
	struct scratch_node *old = NULL;
	struct entry *e;

	pthread_mutex_lock(&s->lock);
	e = find(s, dir, name);
	if (e)
		old = take_entry(s, dir, e);
	if (old && !unref_locked(old))
		old = NULL; /* somebody holds it */
	add_entry(s, dir, name, node_new(s, init));
	pthread_mutex_unlock(&s->lock);
	if (old)
		node_free(old);
}

int scratch_link(struct scratch *s, uint64_t dir, const char *name, struct scratch_node *n)
{
	struct scratch_node *old = NULL;
	struct entry *e;
	int r = 0;

	pthread_mutex_lock(&s->lock);
	e = find(s, dir, name);
	if (e && S_ISDIR(e->node->mode))
		r = -EISDIR;
	if (r == 0 && e)
		old = take_entry(s, dir, e);
	if (old && !unref_locked(old))
		old = NULL; /* somebody holds it */
	if (r == 0) {
		n->refs++;
		add_entry(s, dir, name, n);
	}
	pthread_mutex_unlock(&s->lock);
	if (old)
		node_free(old);
	return r;
}

struct scratch_node *scratch_lookup(struct scratch *s, uint64_t dir, const char *name)
{
	struct scratch_node *n = NULL;
	struct entry *e;

	pthread_mutex_lock(&s->lock);
	e = find(s, dir, name);
	if (e) {
		n = e->node;
		n->refs++;
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}

struct scratch_node *scratch_get(struct scratch *s, uint64_t ino)
{
	struct scratch_node *n;

	pthread_mutex_lock(&s->lock);
	n = idmap_get(&s->nodes, ino);
	if (n)
		n->refs++;
	pthread_mutex_unlock(&s->lock);
	return n;
}

int scratch_unlink(struct scratch *s, uint64_t dir, const char *name, bool directory)
{
	struct scratch_node *n = NULL;
	struct entry *e;
	int r = 0;

	pthread_mutex_lock(&s->lock);
	e = find(s, dir, name);
	if (!e)
		r = -ENOENT;
	else if (directory && !S_ISDIR(e->node->mode))
		r = -ENOTDIR;
	else if (!directory && S_ISDIR(e->node->mode))
		r = -EISDIR;
	else if (directory && !is_empty(s, e->node))
		r = -ENOTEMPTY;
	if (r == 0) {
		n = take_entry(s, dir, e);
		if (directory)
			dir_free(s, n->ino);
		if (!unref_locked(n))
			n = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	if (n)
		node_free(n);
	return r;
}

/* Whether the one may take the other's name (rename(2)). */
static int may_replace(
	struct scratch *s, const struct scratch_node *moved, const struct scratch_node *there)
{
	if (S_ISDIR(there->mode) && !S_ISDIR(moved->mode))
		return -EISDIR;
	if (!S_ISDIR(there->mode) && S_ISDIR(moved->mode))
		return -ENOTDIR;
	return S_ISDIR(there->mode) && !is_empty(s, there) ? -ENOTEMPTY : 0;
}

int scratch_rename(struct scratch *s, uint64_t dir, const char *name, uint64_t new_dir,
	const char *new_name, bool noreplace)
{
	struct scratch_node *replaced = NULL, *moved;
	struct entry *e, *there;
	int r = 0;

	pthread_mutex_lock(&s->lock);
	e = find(s, dir, name);
	there = find(s, new_dir, new_name);
	if (!e)
		r = -ENOENT;
	else if (there && noreplace)
		r = -EEXIST;
	else if (there && there->node != e->node)
		r = may_replace(s, e->node, there->node);
	if (r == 0 && !(there && there->node == e->node)) {
		moved = take_entry(s, dir, e);
		if (there) {
			replaced = take_entry(s, new_dir, there);
			if (S_ISDIR(replaced->mode))
				dir_free(s, replaced->ino);
			if (!unref_locked(replaced))
				replaced = NULL;
		}
		add_entry(s, new_dir, new_name, moved);
	}
	pthread_mutex_unlock(&s->lock);
	if (replaced)
		node_free(replaced);
	return r;
}

/* s->lock held. The entries of the one directory become the other's; it itself is over. */
static void move_entries(struct scratch *s, uint64_t from, struct dir *to)
{
	struct dir *d = idmap_get(&s->dirs, from);

	for (size_t i = 0; d && i < d->order.count; i++) {
		struct entry *e = d->order.places[i].child;

		if (e)
			e->cookie = order_add(&to->order, e);
	}
	if (d)
		dir_free(s, from);
}

void scratch_drop(struct scratch *s, uint64_t dir)
{
	struct dir *d;

	pthread_mutex_lock(&s->lock);
	d = idmap_get(&s->dirs, dir);
	for (size_t i = 0; d && i < d->order.count; i++) { /* more come while it runs */
		struct entry *e = d->order.places[i].child;
		struct scratch_node *n = e ? e->node : NULL;

		free(e);
		if (!n)
			continue;
		n->ctime = now_realtime();
		n->named = false;
		if (S_ISDIR(n->mode))
			move_entries(s, n->ino, d); /* they lose theirs next */
		if (unref_locked(n))
			node_free(n);
	}
	dir_free(s, dir);
	pthread_mutex_unlock(&s->lock);
}

int64_t scratch_dir_mtime(struct scratch *s, uint64_t dir, unsigned *ret_subdirs)
{
	int64_t mtime = 0;
	struct dir *d;

	*ret_subdirs = 0;
	pthread_mutex_lock(&s->lock);
	d = idmap_get(&s->dirs, dir);
	if (d) {
		mtime = d->mtime;
		*ret_subdirs = d->subdirs;
	}
	pthread_mutex_unlock(&s->lock);
	return mtime;
}

/* s->lock held. */
static void stat_locked(struct scratch *s, const struct scratch_node *n, struct stat *ret)
{
	struct dir *d = S_ISDIR(n->mode) ? idmap_get(&s->dirs, n->ino) : NULL;
	int64_t mtime = d && d->mtime > n->mtime ? d->mtime : n->mtime;

	*ret = (struct stat){.st_ino = n->ino,
		.st_mode = n->mode,
		.st_nlink = n->named ? 1 : 0,
		.st_uid = n->uid,
		.st_gid = n->gid,
		.st_size = n->target ? strlen(n->target) : n->len,
		.st_blocks = (n->len + 511) / 512,
		.st_blksize = 4096,
		.st_atim = timespec_from_ns(n->atime),
		.st_mtim = timespec_from_ns(mtime),
		.st_ctim = timespec_from_ns(n->ctime > mtime ? n->ctime : mtime)};
	if (S_ISDIR(n->mode) && n->named)
		ret->st_nlink = 2 + (d ? d->subdirs : 0);
}

struct listed {
	char name[NAME_SIZE];
	uint64_t cookie;
	struct stat st;
};

/* The next entries after the cookie. */
static size_t batch_get(
	struct scratch *s, uint64_t dir, uint64_t cookie, struct listed batch[BATCH])
{
	struct dir *d;
	size_t n = 0;

	pthread_mutex_lock(&s->lock);
	d = idmap_get(&s->dirs, dir);
	for (size_t i = d ? order_after(&d->order, cookie) : 0;
		d && i < d->order.count && n < BATCH; i++) {
		const struct entry *e = d->order.places[i].child;

		if (!e)
			continue;
		snprintf(batch[n].name, NAME_SIZE, "%s", e->name);
		batch[n].cookie = e->cookie;
		stat_locked(s, e->node, &batch[n++].st);
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}

void scratch_list(struct scratch *s, uint64_t dir, uint64_t cookie, scratch_fn *fn, void *arg)
{
	_cleanup_free_ struct listed *batch = xcalloc(BATCH, sizeof(*batch));
	bool stop = false;
	size_t n = BATCH;

	while (n == BATCH && !stop) {
		n = batch_get(s, dir, cookie, batch);
		for (size_t i = 0; i < n && !stop; i++) {
			stop = fn(arg, batch[i].name, batch[i].cookie, &batch[i].st);
			cookie = batch[i].cookie;
		}
	}
}

uint64_t scratch_ino(const struct scratch_node *n)
{
	return n->ino;
}

void scratch_stat(struct scratch *s, struct scratch_node *n, struct stat *ret)
{
	pthread_mutex_lock(&s->lock);
	stat_locked(s, n, ret);
	pthread_mutex_unlock(&s->lock);
}

const char *scratch_target(const struct scratch_node *n)
{
	return n->target;
}

struct object *scratch_version(const struct scratch_node *n)
{
	return n->version;
}

uint64_t scratch_moved_from(struct scratch *s, struct scratch_node *n)
{
	uint64_t from;

	pthread_mutex_lock(&s->lock);
	from = n->moved_from;
	pthread_mutex_unlock(&s->lock);
	return from;
}

void scratch_hold(struct scratch *s, struct scratch_node *n, int by)
{
	pthread_mutex_lock(&s->lock);
	n->open += by;
	n->touched = now_realtime();
	pthread_mutex_unlock(&s->lock);
}

char *scratch_read(
	struct scratch *s, struct scratch_node *n, uint64_t offset, size_t size, size_t *ret_len)
{
	char *data;

	pthread_mutex_lock(&s->lock);
	if (offset > n->len)
		offset = n->len;
	if (size > n->len - offset)
		size = n->len - offset;
	data = xmalloc(size);
	if (size)
		memcpy(data, n->data + offset, size);
	n->touched = now_realtime();
	pthread_mutex_unlock(&s->lock);
	*ret_len = size;
	return data;
}

/* s->lock held. */
static int resize(struct scratch *s, struct scratch_node *n, uint64_t len)
{
	if (len > SCRATCH_FILE_MAX)
		return -EFBIG;
	if (len > n->len && s->bytes + (len - n->len) > SCRATCH_TOTAL_MAX)
		return -ENOSPC;
	if (len > n->size) {
		n->size = len > n->size * 2 ? len : n->size * 2;
		n->data = xrealloc(n->data, n->size);
	}
	if (len > n->len)
		memset(n->data + n->len, 0, len - n->len);
	s->bytes += len - n->len;
	n->len = len;
	return 0;
}

/* s->lock held. */
static void written(struct scratch_node *n)
{
	int64_t now = now_realtime();

	n->mtime = now > n->mtime ? now : n->mtime + 1;
	n->ctime = n->touched = n->mtime;
	n->moved_from = 0;
}

int scratch_write(struct scratch *s, struct scratch_node *n, const char *data, size_t len,
	uint64_t offset, bool append)
{
	int r = 0;

	pthread_mutex_lock(&s->lock);
	if (append)
		offset = n->len;
	if (offset > SCRATCH_FILE_MAX || offset + len > SCRATCH_FILE_MAX)
		r = -EFBIG;
	else if (offset + len > n->len)
		r = resize(s, n, offset + len);
	if (r == 0) {
		if (len)
			memcpy(n->data + offset, data, len);
		written(n);
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

int scratch_truncate(struct scratch *s, struct scratch_node *n, uint64_t size)
{
	int r;

	pthread_mutex_lock(&s->lock);
	r = resize(s, n, size);
	if (r == 0)
		written(n);
	pthread_mutex_unlock(&s->lock);
	return r;
}

void scratch_set(struct scratch *s, struct scratch_node *n, int mode, uid_t uid, gid_t gid,
	int64_t atime, int64_t mtime)
{
	pthread_mutex_lock(&s->lock);
	if (mode >= 0)
		n->mode = (n->mode & S_IFMT) | (mode & 07777);
	if (uid != (uid_t)-1)
		n->uid = uid;
	if (gid != (gid_t)-1)
		n->gid = gid;
	if (atime >= 0)
		n->atime = atime;
	if (mtime >= 0)
		n->mtime = mtime;
	n->ctime = n->touched = now_realtime();
	pthread_mutex_unlock(&s->lock);
}

void scratch_usage(struct scratch *s, size_t *ret_bytes, size_t *ret_nodes)
{
	pthread_mutex_lock(&s->lock);
	*ret_bytes = s->bytes;
	*ret_nodes = s->nodes.count;
	pthread_mutex_unlock(&s->lock);
}
