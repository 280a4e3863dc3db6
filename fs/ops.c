#include "fs/ops.h"

#include "fs/apifile.h"

#include <errno.h>
#include <sys/statvfs.h>

#define CACHE_SECONDS	 1.0
#define NEGATIVE_SECONDS 5.0 /* of a namespace that was asked for by name */

static struct mount *mount_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static void fill_stat(const struct mount *m, const struct tree_path *path,
	const struct tree_attr *attr, struct stat *st)
{
	*st = (struct stat){
		.st_ino = attr->ino,
		.st_mode = tree_nodes[path->kind].directory ? S_IFDIR | 0555 : S_IFREG | 0444,
		.st_nlink = attr->nlink,
		.st_uid = m->uid,
		.st_gid = m->gid,
		.st_size = attr->size,
		.st_blocks = (attr->size + 511) / 512,
		.st_blksize = 4096,
		.st_mtim = {attr->mtime / NSEC_PER_SEC, attr->mtime % NSEC_PER_SEC},
	};
	st->st_atim = st->st_ctim = st->st_mtim;
}

static bool is_api(enum node_kind kind)
{
	return kind == NODE_API || tree_nodes[kind].parent == NODE_API;
}

static void api_attr(const struct mount *m, enum node_kind kind, struct tree_attr *ret)
{
	*ret = (struct tree_attr){.ino = tree_ino("", kind, "", 0),
		.mtime = m->started,
		.nlink = kind == NODE_API ? 2 : 1};
}

/* Attributes of anything that is there. */
static int get_attr(struct mount *m, const struct tree_path *path, struct tree_attr *ret)
{
	if (!is_api(path->kind))
		return published_attr(m->published, path, ret);
	api_attr(m, path->kind, ret);
	return 0;
}

/* The child's place and attributes, pinned: a lookup of its node is counted. */
static int look_up(struct mount *m, const struct tree_path *directory, const char *name,
	struct fuse_entry_param *ret)
{
	struct tree_path path;
	struct tree_attr attr, again;
	int r;

	path.kind = tree_child(directory->kind, name);
	if (path.kind != NODE_KINDS && is_api(path.kind)) {
		enum node_kind kind = path.kind;

		path = *directory;
		path.kind = kind;
		api_attr(m, kind, &attr);
	} else {
		r = published_lookup(m->published, directory, name, &path, &attr);
		if (r < 0)
			return r;
	}
	*ret = (struct fuse_entry_param){.ino = node_lookup(m->nodes, &path, attr.ino),
		.attr_timeout = CACHE_SECONDS,
		.entry_timeout = CACHE_SECONDS};
	/* Read again now that a change would be told to the node. */
	if (get_attr(m, &path, &again) == 0 && again.ino == attr.ino)
		attr = again;
	fill_stat(m, &path, &attr, &ret->attr);
	return 0;
}

static void reply_entry(fuse_req_t req, const struct fuse_entry_param *entry)
{
	struct mount *m = mount_of(req);
	uint64_t id = entry->ino;

	if (fuse_reply_entry(req, entry) == -ENOENT && id)
		node_forget(m->nodes, id, 1); /* interrupted: the kernel doesn't have it */
}

static void reply_negative(fuse_req_t req, double seconds)
{
	struct fuse_entry_param none = {.entry_timeout = seconds};

	fuse_reply_entry(req, &none);
}

static void reply_lookup(fuse_req_t req, const struct tree_path *directory, const char *name)
{
	struct fuse_entry_param entry;
	int r = look_up(mount_of(req), directory, name, &entry);

	if (r == 0)
		reply_entry(req, &entry);
	else if (r == -ENOENT)
		reply_negative(req, CACHE_SECONDS);
	else
		fuse_reply_err(req, -r);
}

/* ---- waiting for the server ---- */

/* A lookup, readdir or getattr that needs a namespace whose streams aren't here yet. */
struct waiting {
	struct tree_path path;
	char name[NAME_SIZE];
	size_t size;
	off_t offset;
	uint64_t ino;
	void (*reply)(fuse_req_t req, const struct waiting *w);
};

static int wait_for_namespace(struct pool_call *call, const char *namespace)
{
	struct mount *m = mount_of(call->req);
	int r = reflector_wait(m->reflector, namespace, &call->check, m->api->timeout_ms);

	if (r == 0) {
		publish_flush(m->publish);
		published_set_ready(m->published, namespace);
	}
	return r;
}

static void wait_and_reply(struct pool_call *call, void *arg)
{
	_cleanup_free_ struct waiting *w = arg;
	int r = wait_for_namespace(call, w->path.namespace);

	pool_settle(call);
	if (r < 0)
		fuse_reply_err(call->req, -r);
	else
		w->reply(call->req, w);
}

/* True when the reply is left to the pool, since the namespace's streams have to be listed. */
static bool wait_if_needed(fuse_req_t req, const struct waiting *w)
{
	struct mount *m = mount_of(req);
	struct waiting *copy;

	if (w->path.kind != NODE_NAMESPACE)
		return false;
	if (published_is_ready(m->published, w->path.namespace) &&
		reflector_need(m->reflector, w->path.namespace) != -EAGAIN)
		return false;
	copy = xmalloc(sizeof(*copy));
	*copy = *w;
	pool_submit(m->pool, req, wait_and_reply, copy);
	return true;
}

/* ---- requests ---- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{

	conn->want &=
		~(FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE);
}

static void reply_waited_lookup(fuse_req_t req, const struct waiting *w)
{
	reply_lookup(req, &w->path, w->name);
}

static bool is_dns_label(const char *s)
{
	static const char inner[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
	size_t len = strlen(s);

	return len > 0 && len < 64 && s[0] != '-' && s[len - 1] != '-' && strspn(s, inner) == len;
}

/* A namespace that isn't listed: the server knows whether its streams may be. */
static void find_namespace(struct pool_call *call, void *arg)
{
	_cleanup_free_ struct waiting *w = arg;
	struct mount *m = mount_of(call->req);
	int r = api_find_namespace(m->api, call->http, w->name, &call->check);

	pool_settle(call);
	if (r == 0) {
		published_add_named(m->published, w->name);
		reply_lookup(call->req, &w->path, w->name);
	} else if (r == -ENOENT) {
		reply_negative(call->req, NEGATIVE_SECONDS);
	} else {
		fuse_reply_err(call->req, -r);
	}
}

/* True when the reply is left to the pool. */
static bool find_if_unlisted(fuse_req_t req, const struct tree_path *directory, const char *name)
{
	struct mount *m = mount_of(req);
	struct tree_path path = {.kind = NODE_NAMESPACE};
	struct tree_attr attr;
	struct waiting *w;

	if (directory->kind != NODE_ROOT || !is_dns_label(name) ||
		reflector_covers_cluster(m->reflector))
		return false;
	strcpy(path.namespace, name);
	if (published_attr(m->published, &path, &attr) == 0)
		return false;
	w = xcalloc(1, sizeof(*w));
	w->path = *directory;
	strcpy(w->name, name);
	pool_submit(m->pool, req, find_namespace, w);
	return true;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct mount *m = mount_of(req);
	struct waiting w = {.reply = reply_waited_lookup};
	uint64_t ino;

	if (strlen(name) >= NAME_SIZE) {
		fuse_reply_err(req, ENAMETOOLONG);
		return;
	}
	if (!node_get(m->nodes, parent, &w.path, &ino)) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	strcpy(w.name, name);
	if (!find_if_unlisted(req, &w.path, name) && !wait_if_needed(req, &w))
		reply_lookup(req, &w.path, name);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	node_forget(mount_of(req)->nodes, ino, count);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		node_forget(mount_of(req)->nodes, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct mount *m = mount_of(req);
	struct tree_path path;
	struct tree_attr attr;
	struct stat st;
	uint64_t ino;

	if (!node_get(m->nodes, id, &path, &ino)) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	if ((get_attr(m, &path, &attr) < 0 || attr.ino != ino) &&
		!file_last_attr(m->files, ino, &attr)) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	fill_stat(m, &path, &attr, &st);
	fuse_reply_attr(req, &st, CACHE_SECONDS);
}

static void op_read_only(fuse_req_t req)
{
	fuse_reply_err(req, EROFS);
}

static void op_setattr(
	fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	op_read_only(req);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	op_read_only(req);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	op_read_only(req);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	op_read_only(req);
}

static void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	op_read_only(req);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
	const char *newname, unsigned int flags)
{
	op_read_only(req);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	op_read_only(req);
}

static void op_create(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	op_read_only(req);
}

static void op_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	fuse_reply_err(req, mask & W_OK ? EROFS : 0);
}

static struct file *open_api(struct mount *m, enum node_kind kind, int *ret_error)
{
	struct buf text = BUF_INIT(ATTR_MAX);
	char *data;
	size_t len;

	*ret_error = apifile_show(m, kind, &text);
	if (*ret_error < 0) {
		buf_release(&text);
		return NULL;
	}
	data = buf_steal(&text, &len);
	return file_open_text(m->files, data, len);
}

static struct file *open_published(
	struct mount *m, const struct tree_path *path, uint64_t ino, int *ret_error)
{
	_cleanup_view_ struct view *view = NULL, *now = NULL;
	struct tree_attr attr;
	struct file *f;

	view = published_view(m->published, path->namespace, path->stream);
	*ret_error = view ? view_attr(view, path->kind, path->tag, &attr) : -ENOENT;
	if (*ret_error == 0 && attr.ino != ino)
		*ret_error = -ENOENT;
	if (*ret_error < 0)
		return NULL;
	f = file_open(m->files, view, path, &attr);
	/* What was published before the handle stood in the table didn't reach it. */
	now = published_view(m->published, path->namespace, path->stream);
	if (now && now != view)
		file_publish(m->files, now->object->key, now);
	return f;
}

static void op_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct mount *m = mount_of(req);
	struct tree_path path;
	struct file *f;
	uint64_t ino;
	int r;

	if (!node_get(m->nodes, id, &path, &ino)) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	if ((fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC) {
		op_read_only(req);
		return;
	}
	f = is_api(path.kind) ? open_api(m, path.kind, &r) : open_published(m, &path, ino, &r);
	if (!f) {
		fuse_reply_err(req, -r);
		return;
	}
	fi->fh = (uintptr_t)f;
	fi->direct_io = file_is_snapshot(f);
	fi->nonseekable = is_api(path.kind);
	fi->noflush = 1;
	if (fuse_reply_open(req, fi) == -ENOENT)
		file_close(m->files, f);
}

static void op_read(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct mount *m = mount_of(req);
	struct text *text;
	const char *data;
	size_t len;
	int r = file_read(
		m->files, (struct file *)(uintptr_t)fi->fh, size, offset, &text, &data, &len);

	if (r < 0) {
		fuse_reply_err(req, EIO);
		return;
	}
	fuse_reply_buf(req, data, len);
	text_unref(text);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	file_close(mount_of(req)->files, (struct file *)(uintptr_t)fi->fh);
	fuse_reply_err(req, 0);
}

/* ---- directories ---- */

struct listing {
	fuse_req_t req;
	struct mount *mount;
	bool plus;
	char *data;
	size_t len, size;
};

/* Cookies of the tree start at 1; "." and ".." stand before them. */
#define COOKIE_BASE 2

static bool add_child(void *arg, const char *name, uint64_t cookie, const struct tree_path *path,
	const struct tree_attr *attr)
{
	struct listing *l = arg;
	struct fuse_entry_param entry = {
		.attr_timeout = CACHE_SECONDS, .entry_timeout = CACHE_SECONDS};
	off_t next = cookie + COOKIE_BASE;
	size_t left = l->size - l->len, n;

	fill_stat(l->mount, path, attr, &entry.attr);
	if (!l->plus) {
		n = fuse_add_direntry(l->req, l->data + l->len, left, name, &entry.attr, next);
	} else {
		n = fuse_add_direntry_plus(l->req, NULL, 0, name, NULL, 0);
		if (n <= left) {
			entry.ino = node_lookup(l->mount->nodes, path, attr->ino);
			n = fuse_add_direntry_plus(
				l->req, l->data + l->len, left, name, &entry, next);
		}
	}
	if (n > left)
		return true;
	l->len += n;
	return false;
}

/* "." and "..": their inodes aren't looked up. */
static bool add_dot(struct listing *l, const char *name, uint64_t ino, off_t next)
{
	struct fuse_entry_param entry = {.attr = {.st_ino = ino, .st_mode = S_IFDIR}};
	size_t left = l->size - l->len, n;

	if (l->plus)
		n = fuse_add_direntry_plus(l->req, l->data + l->len, left, name, &entry, next);
	else
		n = fuse_add_direntry(l->req, l->data + l->len, left, name, &entry.attr, next);
	if (n > left)
		return false;
	l->len += n;
	return true;
}

static int list_api(struct listing *l, uint64_t cookie)
{
	struct tree_path path = {0};
	struct tree_attr attr;

	for (enum node_kind kind = NODE_ROOT + 1; kind < NODE_KINDS; kind++) {
		if (tree_nodes[kind].parent != NODE_API || kind <= cookie)
			continue;
		path.kind = kind;
		api_attr(l->mount, kind, &attr);
		if (add_child(l, tree_nodes[kind].name, kind, &path, &attr))
			break;
	}
	return 0;
}

/* The parent's st_ino, as far as the mount knows it. */
static uint64_t parent_ino(struct mount *m, const struct tree_path *path)
{
	struct tree_path parent = *path;
	struct tree_attr attr;

	parent.kind = tree_nodes[path->kind].parent;
	return get_attr(m, &parent, &attr) == 0 ? attr.ino : 1;
}

static void reply_listing(fuse_req_t req, const struct waiting *w, bool plus)
{
	struct mount *m = mount_of(req);
	struct listing l = {.req = req, .mount = m, .plus = plus, .size = w->size};
	uint64_t cookie = w->offset > COOKIE_BASE ? w->offset - COOKIE_BASE : 0;
	bool room = true;
	int r = 0;

	l.data = xmalloc(l.size);
	if (w->offset < 1)
		room = add_dot(&l, ".", w->ino, 1);
	if (room && w->offset < 2)
		room = add_dot(&l, "..", parent_ino(m, &w->path), 2);
	if (room && is_api(w->path.kind))
		r = list_api(&l, cookie);
	else if (room)
		r = published_list(m->published, &w->path, cookie, add_child, &l);
	if (r == -ENOENT)
		r = 0; /* gone while it was open: empty, as on every filesystem */
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_buf(req, l.data, l.len);
	free(l.data);
}

static void reply_waited_readdir(fuse_req_t req, const struct waiting *w)
{
	reply_listing(req, w, false);
}

static void reply_waited_readdirplus(fuse_req_t req, const struct waiting *w)
{
	reply_listing(req, w, true);
}

static void read_directory(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset,
	void (*reply)(fuse_req_t req, const struct waiting *w))
{
	struct waiting w = {.size = size, .offset = offset, .reply = reply};

	if (!node_get(mount_of(req)->nodes, id, &w.path, &w.ino)) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	if (!wait_if_needed(req, &w))
		reply(req, &w);
}

static void op_readdir(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	read_directory(req, ino, size, offset, reply_waited_readdir);
}

static void op_readdirplus(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	read_directory(req, ino, size, offset, reply_waited_readdirplus);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st = {.f_bsize = 4096, .f_frsize = 4096, .f_namemax = NAME_SIZE - 1};

	st.f_files = node_count(mount_of(req)->nodes);
	fuse_reply_statfs(req, &st);
}

const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_unlink,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.create = op_create,
	.access = op_access,
	.open = op_open,
	.read = op_read,
	.release = op_release,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.statfs = op_statfs,
};
