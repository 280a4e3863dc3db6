/* The FUSE requests that make and change things. What waits for the server goes to the pool. */
#include "fs/ops.h"

#include "fs/change.h"
#include "fs/process.h"
#include "fs/save.h"

#include <errno.h>
#include <fcntl.h>

/* A name in a directory that the caller wants to change. */
struct target {
	struct names_dir dir;
	struct name name;
};

static void target_release(struct target *t)
{
	name_release(&t->name);
}
#define _cleanup_target_ _cleanup_(target_release)

/* 0, or what the request is to be answered with. */
static int get_target(fuse_req_t req, fuse_ino_t parent, const char *name, struct target *ret)
{
	struct mount *m = op_mount(req);
	struct stat st;
	int r;

	if (!op_directory(req, parent, &ret->dir))
		return -ENOENT;
	r = names_stat(m, &ret->dir.path, ret->dir.ino, &st);
	if (r == 0)
		r = op_may(req, &st, W_OK);
	return r < 0 ? r : names_find(m, &ret->dir, name, &ret->name);
}

static bool is_real(const struct name *n)
{
	return n->path.kind != NODE_KINDS;
}

static bool is_real_directory(const struct name *n)
{
	return is_real(n) && tree_nodes[n->path.kind].directory;
}

/* Whether a file can be made, or put, at the name of a real one: 0 or why not. */
static int may_take_real(const struct name *n)
{
	if (names_is_api(n->path.kind) || n->path.kind == NODE_TAG_IMAGE)
		return -EACCES;
	if (is_real_directory(n))
		return -EPERM;
	if (n->place)
		return 0;
	return n->slot && (n->path.kind == NODE_TAG_SPEC || n->path.kind == NODE_TAG_STATUS)
		       ? 0
		       : -EPERM;
}

/* The path of scratch in the directory: where it is, for messages, and what it is. */
static struct tree_path scratch_path(const struct names_dir *dir)
{
	struct tree_path path = dir->path;

	path.kind = NODE_SCRATCH;
	return path;
}

/* ---- making ---- */

/* A scratch node of the caller's in the directory. With a reference in *ret. */
static int make_scratch(fuse_req_t req, const struct names_dir *dir, const char *name, mode_t mode,
	const char *target, struct scratch_node **ret)
{
	struct mount *m = op_mount(req);
	_cleanup_view_ struct view *view =
		published_view(m->published, dir->path.namespace, dir->path.stream);
	struct scratch_init init = {.mode = mode,
		.uid = fuse_req_ctx(req)->uid,
		.gid = fuse_req_ctx(req)->gid,
		.target = target,
		.version = view ? view->object : NULL};

	if (!names_takes_scratch(m, dir))
		return -EPERM;
	if (view && dir->path.kind == NODE_STREAM)
		history_serve(m->history, view->object); /* it may become imagestream.json */
	return scratch_create(m->scratch, dir->ino, name, &init, ret);
}

/* What was hidden is there again, or what the object doesn't have is begun: as a new inode. */
static uint64_t make_real(struct mount *m, const struct name *n)
{
	uint64_t ino = tree_new_ino();

	if (n->place)
		overlay_show(m->overlay, n->place, ino);
	else
		overlay_add_pending(m->overlay, n->slot, ino);
	return ino;
}

/* Makes the name, which nothing has. */
static int make_file(fuse_req_t req, const struct target *t, const char *name, mode_t mode)
{
	_cleanup_scratch_ struct scratch_node *n = NULL;
	int r;

	if (!is_real(&t->name))
		return make_scratch(req, &t->dir, name, S_IFREG | (mode & 07777), NULL, &n);
	r = may_take_real(&t->name);
	if (r == 0)
		make_real(op_mount(req), &t->name);
	return r;
}

static void reply_made(fuse_req_t req, const struct names_dir *dir, const char *name)
{
	struct mount *m = op_mount(req);
	_cleanup_name_ struct name n = {0};
	struct fuse_entry_param entry;
	int r = names_find(m, dir, name, &n);

	if (r == 0 && !n.ino)
		r = -ENOENT; /* somebody was faster */
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	op_fill_entry(m, &n, &entry);
	op_reply_entry(req, &entry);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	_cleanup_target_ struct target t = {0};
	int r = get_target(req, parent, name, &t);

	if (r == 0 && t.name.ino)
		r = -EEXIST;
	if (r == 0)
		r = S_ISREG(mode) ? make_file(req, &t, name, mode) : -EPERM;
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		reply_made(req, &t.dir, name);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	_cleanup_target_ struct target t = {0};
	_cleanup_scratch_ struct scratch_node *n = NULL;
	int r = get_target(req, parent, name, &t);

	if (r == 0 && t.name.ino)
		r = -EEXIST;
	if (r == 0)
		r = is_real(&t.name) ? -EPERM
				     : make_scratch(req, &t.dir, name, S_IFLNK | 0777, target, &n);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		reply_made(req, &t.dir, name);
}

void op_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t new_parent, const char *new_name)
{
	fuse_reply_err(req, op_mount(req)->read_only ? EROFS : EPERM);
}

/* Opens what stands at the name now. NULL and -errno. */
static struct file *open_made(fuse_req_t req, const struct name *n, int flags, int *ret_error)
{
	if (n->scratch) {
		*ret_error = 0;
		return file_open_scratch(op_mount(req)->files, n->scratch,
			(flags & O_ACCMODE) != O_RDONLY, fuse_req_ctx(req)->pid);
	}
	return op_open_real(req, &n->path, n->ino, flags, ret_error);
}

void op_create(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);
	_cleanup_target_ struct target t = {0};
	_cleanup_name_ struct name made = {0};
	struct fuse_entry_param entry;
	struct file *f = NULL;
	bool there;
	int r = get_target(req, parent, name, &t);

	there = r == 0 && t.name.ino; /* the kernel didn't know of it */
	if (there && (fi->flags & O_EXCL))
		r = -EEXIST;
	else if (there && (is_real_directory(&t.name) || !(t.name.st.st_mode & 0222)))
		r = -EACCES;
	else if (r == 0 && !there)
		r = make_file(req, &t, name, mode);
	if (r == 0)
		r = names_find(m, &t.dir, name, &made);
	if (r == 0 && !made.ino)
		r = -ENOENT;
	if (r == 0)
		f = open_made(req, &made, fi->flags, &r);
	if (!f) {
		fuse_reply_err(req, -r);
		return;
	}
	if (!there)
		file_start_empty(m->files, f);
	else if (fi->flags & O_TRUNC)
		file_truncate(m->files, f, 0);
	op_fill_entry(m, &made, &entry);
	op_fill_open(m, f, made.ino, fi);
	if (fuse_reply_create(req, &entry, fi) == -ENOENT) {
		op_close(m, f);
		node_forget(m->nodes, entry.ino, 1);
	}
}

/* What is left to the pool. */
struct job {
	struct names_dir dir;
	struct tree_path path;
	char name[NAME_SIZE];
	uint64_t ino;
	struct scratch_node *scratch;
	struct file *file;
	bool sync, killed;
};

static void job_free(struct job *j)
{
	scratch_unref(j->scratch);
	free(j);
}

/* Changes of one stream go out one at a time. */
static void submit(fuse_req_t req, pool_fn *fn, struct job *j)
{
	_cleanup_free_ char *key = xasprintf("%s/%s", j->path.namespace, j->path.stream);

	pool_submit(op_mount(req)->pool, req, key, fn, j);
}

static struct api_call api_call(const struct pool_call *call)
{
	return (struct api_call){
		.http = call->http, .check = &call->check, .deadline = call->deadline};
}

static void make_directory(struct pool_call *call, void *arg)
{
	struct job *j = arg;
	struct mount *m = op_mount(call->req);
	struct api_call api = api_call(call);
	int r = j->path.kind == NODE_STREAM ? change_make_stream(m, &api, &j->path)
					    : change_make_tag(m, &api, &j->path);

	pool_settle(call);
	if (r < 0)
		fuse_reply_err(call->req, -r);
	else
		reply_made(call->req, &j->dir, j->name);
	job_free(j);
}

static void remove_directory(struct pool_call *call, void *arg)
{
	struct job *j = arg;
	struct mount *m = op_mount(call->req);
	struct api_call api = api_call(call);
	int r = j->path.kind == NODE_STREAM ? change_remove_stream(m, &api, &j->path)
					    : change_remove_tag(m, &api, &j->path);

	pool_settle(call);
	if (r == 0)
		scratch_drop(m->scratch, j->ino);
	fuse_reply_err(call->req, -r);
	job_free(j);
}

static void submit_directory(fuse_req_t req, const struct target *t, const char *name, pool_fn *fn)
{
	struct job *j = xcalloc(1, sizeof(*j));

	j->dir = t->dir;
	j->path = t->name.path;
	j->ino = t->name.ino;
	strcpy(j->name, name);
	submit(req, fn, j);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	_cleanup_target_ struct target t = {0};
	_cleanup_scratch_ struct scratch_node *n = NULL;
	int r = get_target(req, parent, name, &t);

	if (r == 0 && t.name.ino)
		r = -EEXIST;
	if (r == 0 && (t.name.path.kind == NODE_STREAM || t.name.path.kind == NODE_TAG)) {
		submit_directory(req, &t, name, make_directory);
		return;
	}
	if (r == 0 && t.name.path.kind == NODE_TAGS && t.name.hidden)
		make_real(op_mount(req), &t.name);
	else if (r == 0 && is_real(&t.name))
		r = -EPERM;
	else if (r == 0)
		r = make_scratch(req, &t.dir, name, S_IFDIR | (mode & 07777), NULL, &n);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		reply_made(req, &t.dir, name);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct mount *m = op_mount(req);
	_cleanup_target_ struct target t = {0};
	int r = get_target(req, parent, name, &t);

	if (r == 0 && !t.name.ino)
		r = -ENOENT;
	if (r == 0 && (t.name.path.kind == NODE_STREAM || t.name.path.kind == NODE_TAG) &&
		!m->nodelete) {
		submit_directory(req, &t, name, remove_directory);
		return;
	}
	if (r == 0 && t.name.scratch)
		r = scratch_unlink(m->scratch, t.dir.ino, name, true);
	else if (r == 0 && t.name.path.kind == NODE_TAGS)
		overlay_hide(m->overlay, t.name.place);
	else if (r == 0)
		r = is_real_directory(&t.name) ? -EPERM : -ENOTDIR;
	fuse_reply_err(req, -r);
}

/* ---- unlinking and renaming ---- */

/*
 * The inode leaves its real place and is scratch from now on, under a name or under none (dir 0).
 * With the newest text that a handle of it hasn't saved, else with what is published.
 */
static int leave_place(
	struct mount *m, const struct name *n, const struct names_dir *dir, const char *name)
{
	_cleanup_view_ struct view *view =
		published_view(m->published, n->path.namespace, n->path.stream);
	_cleanup_buf_ struct buf bytes = BUF_INIT(SCRATCH_FILE_MAX);
	_cleanup_free_ char *unsaved = NULL;
	_cleanup_scratch_ struct scratch_node *node = NULL;
	struct scratch_init init = {.mode = n->st.st_mode,
		.uid = m->uid,
		.gid = m->gid,
		.ino = n->ino,
		.version = view ? view->object : NULL};
	struct tree_path path = n->path;
	int r = 0;

	unsaved = file_unsaved(m->files, n->ino, &init.len);
	init.data = unsaved;
	if (!unsaved && n->place && view) {
		r = view_show(view, n->path.kind, n->path.tag, &bytes);
		init.data = bytes.data;
		init.len = bytes.len;
		init.moved_from = n->place;
	}
	if (r == 0)
		r = scratch_create(m->scratch, dir ? dir->ino : 0, name, &init, &node);
	if (r < 0)
		return r;
	scratch_set(m->scratch, node, -1, -1, -1, -1,
		n->st.st_mtim.tv_sec * NSEC_PER_SEC + n->st.st_mtim.tv_nsec);
	path.kind = NODE_SCRATCH;
	node_set_path(m->nodes, n->ino, &path);
	file_make_scratch(m->files, n->ino, node);
	if (n->place)
		overlay_hide(m->overlay, n->place);
	else
		overlay_drop_pending(m->overlay, n->slot);
	return 0;
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct mount *m = op_mount(req);
	_cleanup_target_ struct target t = {0};
	int r = get_target(req, parent, name, &t);

	if (r == 0 && !t.name.ino)
		r = -ENOENT;
	if (r == 0 && t.name.scratch) {
		r = scratch_unlink(m->scratch, t.dir.ino, name, false);
		if (r == 0)
			refused_removed(m->refused, &t.dir.path, name);
	} else if (r == 0 && is_real_directory(&t.name)) {
		r = -EISDIR;
	} else if (r == 0 && names_is_api(t.name.path.kind)) {
		r = -EPERM;
	} else if (r == 0) {
		r = leave_place(m, &t.name, NULL, "");
	}
	fuse_reply_err(req, -r);
}

/* The scratch file, whose bytes the place has, stands for it from now on. */
static int take_place(struct mount *m, struct scratch_node *n, const struct names_dir *dir,
	const char *name, const struct tree_path *path, uint64_t place)
{
	_cleanup_view_ struct view *view =
		published_view(m->published, path->namespace, path->stream);
	struct file_open open = {.path = path, .ino = scratch_ino(n), .place = place, .view = view};

	if (!view)
		return -ENOENT;
	file_set_place(m->files, overlay_ino(m->overlay, place), 0);
	overlay_show(m->overlay, place, open.ino);
	overlay_drop_pending(m->overlay, tree_ino(view->object->uid, path->kind, path->tag, 0));
	scratch_unlink(m->scratch, dir->ino, name, false);
	node_set_path(m->nodes, open.ino, path);
	file_make_real(m->files, &open, n);
	return 0;
}

static void save_over(struct pool_call *call, void *arg)
{
	struct job *j = arg;
	struct mount *m = op_mount(call->req);
	struct save_call save = {.api = api_call(call), .tid = call->tid};
	uint64_t place = 0;
	int r = save_scratch(m, &save, j->scratch, &j->path, &place);

	if (r == 0)
		r = take_place(m, j->scratch, &j->dir, j->name, &j->path, place);
	pool_settle(call);
	fuse_reply_err(call->req, -change_path_errno(r));
	job_free(j);
}

/* A scratch file over a real name. True when the pool replies. */
static bool rename_over(fuse_req_t req, const struct target *from, const char *name,
	const struct target *to, int *ret)
{
	struct mount *m = op_mount(req);
	struct job *j;

	if (!S_ISREG(from->name.st.st_mode)) {
		*ret = S_ISDIR(from->name.st.st_mode) ? -ENOTDIR : -EPERM;
		return false;
	}
	*ret = may_take_real(&to->name);
	if (*ret < 0)
		return false;
	/* The very bytes that were renamed away: nothing to save. */
	if (to->name.place &&
		scratch_moved_from(m->scratch, from->name.scratch) == to->name.place) {
		*ret = take_place(
			m, from->name.scratch, &from->dir, name, &to->name.path, to->name.place);
		return false;
	}
	j = xcalloc(1, sizeof(*j));
	j->dir = from->dir;
	strcpy(j->name, name);
	j->scratch = scratch_ref(from->name.scratch);
	j->path = to->name.path;
	submit(req, save_over, j);
	return true;
}

static int rename_scratch(struct mount *m, const struct target *from, const char *name,
	const struct target *to, const char *new_name, bool noreplace)
{
	struct tree_path path = scratch_path(&to->dir);
	int r;

	if (!names_takes_scratch(m, &to->dir))
		return -EPERM;
	r = scratch_rename(m->scratch, from->dir.ino, name, to->dir.ino, new_name, noreplace);
	if (r == 0)
		node_set_path(m->nodes, from->name.ino, &path);
	return r;
}

static int rename_away(
	struct mount *m, const struct target *from, const struct target *to, const char *new_name)
{
	if (is_real_directory(&from->name) || names_is_api(from->name.path.kind) ||
		!names_takes_scratch(m, &to->dir) || is_real(&to->name))
		return -EPERM;
	if (to->name.scratch) {
		int r = scratch_unlink(m->scratch, to->dir.ino, new_name, false);

		if (r < 0)
			return r;
	}
	return leave_place(m, &from->name, &to->dir, new_name);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	const char *new_name, unsigned int flags)
{
	struct mount *m = op_mount(req);
	_cleanup_target_ struct target from = {0}, to = {0};
	int r = get_target(req, parent, name, &from);

	if (r == 0)
		r = get_target(req, new_parent, new_name, &to);
	if (r == 0 && (flags & ~RENAME_NOREPLACE))
		r = -EINVAL;
	if (r == 0 && !from.name.ino)
		r = -ENOENT;
	if (r == 0 && (flags & RENAME_NOREPLACE) && to.name.ino)
		r = -EEXIST;
	if (r == 0 && !from.name.scratch)
		r = rename_away(m, &from, &to, new_name);
	else if (r == 0 && is_real(&to.name) && rename_over(req, &from, name, &to, &r))
		return;
	else if (r == 0 && !is_real(&to.name))
		r = rename_scratch(m, &from, name, &to, new_name, flags & RENAME_NOREPLACE);
	fuse_reply_err(req, -r);
}

/* ---- attributes ---- */

static int64_t set_time(bool now, bool given, const struct timespec *t)
{
	if (now)
		return now_realtime();
	return given ? t->tv_sec * NSEC_PER_SEC + t->tv_nsec : -1;
}

static void set_scratch(struct mount *m, struct scratch_node *n, const struct stat *st, int to_set)
{
	scratch_set(m->scratch, n, to_set & FUSE_SET_ATTR_MODE ? (int)(st->st_mode & 07777) : -1,
		to_set & FUSE_SET_ATTR_UID ? st->st_uid : (uid_t)-1,
		to_set & FUSE_SET_ATTR_GID ? st->st_gid : (gid_t)-1,
		set_time(to_set & FUSE_SET_ATTR_ATIME_NOW, to_set & FUSE_SET_ATTR_ATIME,
			&st->st_atim),
		set_time(to_set & FUSE_SET_ATTR_MTIME_NOW, to_set & FUSE_SET_ATTR_MTIME,
			&st->st_mtim));
}

#define SET_SIZE FUSE_SET_ATTR_SIZE
#define SET_OTHER                                                                                  \
	(FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID | FUSE_SET_ATTR_ATIME |        \
		FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW)

/*
 * Truncating a real file. open(O_TRUNC) comes as a call without a handle, right after the open: it
 * is the newest one's of that thread. truncate(2) by path changes nothing.
 */
static int truncate_real(
	fuse_req_t req, uint64_t ino, uint64_t size, uint64_t published, struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);
	struct file *f = fi ? op_file(fi) : NULL;

	if (!f && size == 0)
		f = file_find_writer(m->files, ino, fuse_req_ctx(req)->pid);
	if (f)
		return file_truncate(m->files, f, size);
	return size == 0 || size == published ? 0 : -EINVAL;
}

void op_setattr(
	fuse_req_t req, fuse_ino_t id, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);
	uid_t uid = fuse_req_ctx(req)->uid;
	struct tree_path path;
	struct stat now;
	uint64_t ino;
	int r = -ENOENT;

	if (node_get(m->nodes, id, &path, &ino))
		r = names_stat(m, &path, ino, &now);
	if (r == 0 && m->read_only)
		r = -EROFS;
	if (r == 0 && names_is_api(path.kind))
		r = -EPERM;
	if (r == 0 && (to_set & SET_OTHER) && uid != 0 && uid != now.st_uid)
		r = -EPERM;
	if (r == 0 && (to_set & SET_SIZE) && !fi)
		r = op_may(req, &now, W_OK);
	if (r == 0 && path.kind == NODE_SCRATCH) {
		_cleanup_scratch_ struct scratch_node *n = scratch_get(m->scratch, ino);

		if (!n)
			r = -ENOENT;
		else if (to_set & SET_SIZE)
			r = scratch_truncate(m->scratch, n, st->st_size);
		if (r == 0)
			set_scratch(m, n, st, to_set);
	} else if (r == 0 && (to_set & SET_SIZE)) {
		r = truncate_real(req, ino, st->st_size, now.st_size, fi);
	}
	if (r == 0)
		r = names_stat(m, &path, ino, &now);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_attr(req, &now, 0);
}

/* ---- writing and saving ---- */

/* Whether what the handle is on is no more: the inode doesn't stand for its place. */
static bool is_gone(struct mount *m, const struct file_state *s, struct tree_attr *ret_attr)
{
	if (!s->place)
		return overlay_pending(m->overlay, s->slot) != s->ino;
	return published_attr(m->published, &s->path, ret_attr) < 0 || ret_attr->ino != s->place ||
	       overlay_ino(m->overlay, s->place) != s->ino;
}

struct written {
	uint64_t ino;
	size_t size;
};

/* Beyond the published size: pages that the kernel would fill up with zeros have to go. */
static void drop_pages(struct pool_call *call, void *arg)
{
	_cleanup_free_ struct written *w = arg;
	struct mount *m = op_mount(call->req);
	uint64_t id = node_find(m->nodes, w->ino);

	if (id && m->notify.inval_inode)
		m->notify.inval_inode(m->notify.arg, id);
	pool_settle(call);
	fuse_reply_write(call->req, w->size);
}

void op_write(fuse_req_t req, fuse_ino_t id, const char *data, size_t size, off_t offset,
	struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);
	struct file *f = op_file(fi);
	_cleanup_file_state_ struct file_state state;
	struct tree_attr attr = {0};
	struct written *w;
	int r = 0;

	file_get_state(m->files, f, &state);
	if (!state.scratch && is_gone(m, &state, &attr))
		r = -ESTALE;
	if (r == 0)
		r = file_write(m->files, f, data, size, offset, fi->flags & O_APPEND);
	if (r < 0) {
		fuse_reply_err(req, -r);
	} else if (state.scratch || offset + size <= attr.size) {
		fuse_reply_write(req, size);
	} else {
		w = xmalloc(sizeof(*w));
		*w = (struct written){state.ino, size};
		pool_submit(m->notifier, req, NULL, drop_pages, w);
	}
}

static void save_and_reply(struct pool_call *call, void *arg)
{
	struct job *j = arg;
	struct mount *m = op_mount(call->req);
	struct save_call save = {.api = api_call(call), .tid = call->tid};
	int r = save_handle(m, &save, j->file);

	if (j->sync && r == -EINVAL)
		r = -EIO; /* Emacs takes EINVAL for a file that can't be synced */
	pool_settle(call);
	fuse_reply_err(call->req, -r);
	job_free(j);
}

static void release_and_reply(struct pool_call *call, void *arg)
{
	struct job *j = arg;
	struct mount *m = op_mount(call->req);
	struct save_call save = {.api = api_call(call), .tid = 0};

	if (j->killed)
		save_refuse_handle(m, j->file, EINTR,
			"a signal ended the process that wrote this; it was not sent");
	else
		save_handle(m, &save, j->file);
	op_close(m, j->file);
	pool_settle(call);
	fuse_reply_err(call->req, 0);
	job_free(j);
}

static void submit_save(
	fuse_req_t req, struct file *f, const struct file_state *state, pool_fn *fn, bool sync)
{
	struct job *j = xcalloc(1, sizeof(*j));

	j->path = state->path;
	j->file = f;
	j->sync = sync;
	j->killed = file_is_killed(f);
	submit(req, fn, j);
}

/*
 * Whether this flush is to save: not one by a process that a signal is killing; by another process
 * than the opener's only a whole document, since the rest may be still to come.
 */
static bool flush_saves(fuse_req_t req, struct file *f, const struct file_state *state)
{
	pid_t tid = fuse_req_ctx(req)->pid;
	_cleanup_free_ char *text = NULL;
	uint64_t change;
	size_t len;
	int verdict;

	if (process_is_killed(tid)) {
		file_set_killed(f);
		return false;
	}
	if (process_same(file_opener(f), tid))
		return true;
	return draft_take(state->draft, &verdict, &text, &len, &change) == DRAFT_WRITTEN &&
	       save_is_whole(text, len);
}

void op_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);
	struct file *f = op_file(fi);
	_cleanup_file_state_ struct file_state state;
	int verdict = 0;

	file_get_state(m->files, f, &state);
	if (!state.scratch && state.draft && draft_state(state.draft, &verdict) == DRAFT_WRITTEN &&
		flush_saves(req, f, &state))
		submit_save(req, f, &state, save_and_reply, false);
	else
		fuse_reply_err(req, verdict);
}

void op_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);
	_cleanup_file_state_ struct file_state state;
	int verdict = 0;

	file_get_state(m->files, op_file(fi), &state);
	/* Who calls again after EINTR wants to be served. */
	if (state.draft && draft_state(state.draft, &verdict) == DRAFT_DECIDED && verdict == EINTR)
		draft_undecide(state.draft);
	if (!state.scratch && state.draft && draft_state(state.draft, &verdict) == DRAFT_WRITTEN)
		submit_save(req, op_file(fi), &state, save_and_reply, true);
	else
		fuse_reply_err(req, verdict == EINVAL ? EIO : verdict);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

void op_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);
	struct file *f = op_file(fi);
	_cleanup_file_state_ struct file_state state;
	int verdict;

	file_get_state(m->files, f, &state);
	if (!state.scratch && state.draft && draft_state(state.draft, &verdict) == DRAFT_WRITTEN) {
		submit_save(req, f, &state, release_and_reply, false);
		return;
	}
	op_close(m, f);
	fuse_reply_err(req, 0);
}
