/* The FUSE requests that make, remove and move names. What waits for the server goes to the pool. */
#include "fs/dotapi/select.h"
#include "fs/mount/modes.h"
#include "fs/mount/removal.h"
#include "fs/ops/job.h"
#include "fs/ops/session.h"
#include "fs/save/objects.h"
#include "fs/save/verdict.h"

#include <errno.h>
#include <fcntl.h>

/* A name in a directory that the caller wants to change. */
struct target {
	fuse_ino_t parent;
	struct namei_dir dir;
	struct stat dir_st;
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
	int r;

	ret->parent = parent;
	if (!op_directory(req, parent, &ret->dir))
		return -ENOENT;
	r = namei_stat(m, &ret->dir.path, ret->dir.ino, &ret->dir_st);
	if (r == 0 && (ret->dir.path.kind == KIND_ROOT || layout_is_api(ret->dir.path.kind)))
		r = m->read_only ? -EROFS : -EPERM; /* nothing is made or removed there */
	if (r == 0)
		r = op_may(req, ret->dir.path.kind, &ret->dir_st, W_OK | X_OK);
	return r < 0 ? r : namei_find(m, &ret->dir, name, fuse_req_ctx(req)->pid, &ret->name);
}

/* In a sticky directory only the owners take names away (unlink(2)). */
static int may_remove(fuse_req_t req, const struct target *t)
{
	uid_t uid = fuse_req_ctx(req)->uid;

	if (!t->name.ino)
		return -ENOENT;
	if ((t->dir_st.st_mode & S_ISVTX) && uid != 0 && uid != t->dir_st.st_uid &&
		uid != t->name.st.st_uid)
		return -EPERM;
	return 0;
}

static bool is_real(const struct name *n)
{
	return n->path.kind != KIND_COUNT;
}

static bool is_real_directory(const struct name *n)
{
	return is_real(n) && layout_is_directory(n->path.kind);
}

/* Whether the caller may write the real file, also where it is hidden or not there yet. */
static int may_write_real(fuse_req_t req, const struct name *n)
{
	struct mount *m = op_mount(req);
	struct stat st = {
		.st_mode = modes_to_open(m, &n->path), .st_uid = m->uid, .st_gid = m->gid};

	return op_may(req, n->path.kind, &st, W_OK);
}

/* Whether a file can be made, or put, at the name of a real one: 0 or why not. */
static int may_take_real(fuse_req_t req, const struct name *n)
{
	int r;

	if (layout_is_api(n->path.kind))
		return -EACCES;
	if (is_real_directory(n))
		return -EPERM;
	r = may_write_real(req, n);
	if (r < 0)
		return r;
	return n->first || n->vacant ? 0 : -EPERM;
}

/* ---- making ---- */

/* A scratch node of the caller's in the directory. With a reference in *ret. */
static int make_scratch(fuse_req_t req, const struct namei_dir *dir, const char *name, mode_t mode,
	const char *target, struct inode **ret)
{
	struct mount *m = op_mount(req);
	_cleanup_view_ struct snapshot *snapshot =
		shown_snapshot(m->shown, dir->path.ns, dir->path.stream);
	struct scratch_init init = {.mode = mode,
		.uid = fuse_req_ctx(req)->uid,
		.gid = fuse_req_ctx(req)->gid,
		.target = target,
		.version = snapshot ? snapshot->object : NULL};

	if (!namei_takes_scratch(m, dir))
		return -EPERM;
	if (snapshot && dir->path.kind == KIND_STREAM)
		history_serve(m->history, snapshot->object); /* it may become imagestream.* */
	return scratch_create(m->inodes, dir->ino, &dir->path, name, &init, ret);
}

/*
 * What was hidden is there again, or what the object doesn't have is begun: as a new inode. What is
 * absent for its maker alone isn't from now on.
 */
static void make_real(fuse_req_t req, const struct target *t)
{
	struct mount *m = op_mount(req);
	const struct name *n = &t->name;

	namei_note_act(m, &n->path, fuse_req_ctx(req)->pid, ACT_MADE);
	if (n->absent)
		return;
	if (n->first)
		inode_show(m->inodes, n->first, layout_new_ino(), &n->path);
	else
		inode_begin(m->inodes, t->dir.ino, &n->path);
}

/*
 * The directory's listing is another one. Asked for inside the call that changes it, since a
 * listing that another one completed before may be taken otherwise (a quirk of the kernel's); it
 * can't wait: only listings hold a directory's pages, and the call keeps them out.
 */
static void touch_dir(struct mount *m, fuse_ino_t id)
{
	kernel_inval(m->kernel, id);
}

/* `tid`: the caller. */
static void reply_made(fuse_req_t req, const struct namei_dir *dir, const char *name, pid_t tid)
{
	struct mount *m = op_mount(req);
	_cleanup_name_ struct name n = {0};
	struct fuse_entry_param entry;
	int r = namei_find(m, dir, name, tid, &n);

	if (r == 0 && !n.ino)
		r = -ENOENT; /* a process was faster */
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	op_fill_entry(m, &n, &entry);
	op_reply_entry(req, &entry);
}

static void hide(struct mount *m, const struct name *n)
{
	inode_hide(m->inodes, n->first, &n->path);
	publish_wake(m->publisher); /* it comes back after a while */
}

/* ---- what the announcer does: it makes known what is shown ---- */

/*
 * The step at the name, or a hidden name that comes back. 0; -EPERM where nothing is to be known;
 * -ENOENT where what was to go went by a user's own call, and what stands there is another.
 */
static int flip_announced(struct mount *m, const struct name *n, enum step_op op)
{
	struct step step;
	char key[2 * NAME_SIZE];

	if (op == STEP_CREATE && n->hidden && inode_is_returning(m->inodes, n->first)) {
		inode_return(m->inodes, n->first);
		return 0;
	}
	if (op == STEP_DELETE && !n->first && inode_is_leaving(m->inodes, n->ino)) {
		inode_leave(m->inodes, n->ino);
		return 0;
	}
	if (n->path.kind == KIND_COUNT || !shown_is_expected(m->shown, &n->path, op))
		return -EPERM;
	if (m->noopen && op == STEP_DELETE && !layout_is_directory(n->path.kind)) {
		_cleanup_view_ struct snapshot *last = shown_snapshot_at(m->shown, &n->path);

		if (last)
			inode_keep(m->inodes, n->first, last);
	}
	step_init(&step, op, n->path.kind, n->path.tag, 0);
	op_key(&n->path, key);
	return shown_flip(m->shown, key, &step) || op != STEP_DELETE ? 0 : -ENOENT;
}

/* `fi` NULL: a directory. */
static void make_announced(
	fuse_req_t req, fuse_ino_t parent, const char *name, struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);
	_cleanup_name_ struct name n = {0}, made = {0};
	struct fuse_entry_param entry;
	struct namei_dir dir;

	if (!op_directory(req, parent, &dir) || namei_find(m, &dir, name, 0, &n) < 0 ||
		flip_announced(m, &n, STEP_CREATE) < 0 || namei_find(m, &dir, name, 0, &made) < 0 ||
		!made.ino) {
		fuse_reply_err(req, EPERM);
		return;
	}
	touch_dir(m, parent);
	op_fill_entry(m, &made, &entry);
	if (!fi) {
		op_reply_entry(req, &entry);
		return;
	}
	fi->fh = 0;
	session_skip_flush(fi, true);
	if (fuse_reply_create(req, &entry, fi) == -ENOENT)
		inode_forget(m->inodes, entry.ino, 1);
}

static void remove_announced(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct mount *m = op_mount(req);
	_cleanup_name_ struct name n = {0};
	struct namei_dir dir;
	int r = -EPERM;

	if (op_directory(req, parent, &dir) && namei_find(m, &dir, name, 0, &n) == 0)
		r = flip_announced(m, &n, STEP_DELETE);
	if (r == 0)
		touch_dir(m, parent);
	fuse_reply_err(req, -r);
}

/* ---- making ---- */

/* Makes the name, which nothing has. */
static int make_file(fuse_req_t req, const struct target *t, const char *name, mode_t mode)
{
	_cleanup_inode_ struct inode *n = NULL;
	int r;

	if (!is_real(&t->name))
		return make_scratch(req, &t->dir, name, S_IFREG | (mode & 07777), NULL, &n);
	r = may_take_real(req, &t->name);
	if (r == 0)
		make_real(req, t);
	return r;
}

static void reply_new(
	fuse_req_t req, fuse_ino_t parent, const struct target *t, const char *name, int r)
{
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	touch_dir(op_mount(req), parent);
	reply_made(req, &t->dir, name, fuse_req_ctx(req)->pid);
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	_cleanup_target_ struct target t = {0};
	int r = get_target(req, parent, name, &t);

	if (r == 0 && t.name.ino)
		r = -EEXIST;
	if (r == 0)
		r = S_ISREG(mode) ? make_file(req, &t, name, mode) : -EPERM;
	reply_new(req, parent, &t, name, r);
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	_cleanup_target_ struct target t = {0};
	_cleanup_inode_ struct inode *n = NULL;
	int r = get_target(req, parent, name, &t);

	if (r == 0 && t.name.ino)
		r = -EEXIST;
	if (r == 0)
		r = is_real(&t.name) ? -EPERM
				     : make_scratch(req, &t.dir, name, S_IFLNK | 0777, target, &n);
	reply_new(req, parent, &t, name, r);
}

void op_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t new_parent, const char *new_name)
{
	fuse_reply_err(req, op_mount(req)->read_only ? EROFS : EPERM);
}

/* Opens what stands at the name now. NULL and -errno. */
static struct handle *open_made(fuse_req_t req, const struct name *n, int flags, int *ret_error)
{
	if (!n->scratch)
		return op_open_real(req, &n->path, n->ino, flags, ret_error);
	*ret_error = 0;
	return op_open_scratch(req, n->scratch, flags);
}

/* O_CREAT of what is there: the kernel didn't know of it. */
static int may_open_there(fuse_req_t req, const struct name *n, int flags)
{
	int mask = (flags & O_ACCMODE) == O_RDONLY   ? R_OK
		   : (flags & O_ACCMODE) == O_WRONLY ? W_OK
						     : R_OK | W_OK;
	struct stat st = n->st;

	if (flags & O_EXCL || !S_ISREG(n->st.st_mode) || layout_is_api(n->path.kind))
		return -EEXIST;
	if (!n->scratch)
		op_mode_to_open(op_mount(req), &n->path, &st);
	return op_may(req, n->scratch ? KIND_SCRATCH : n->path.kind, &st,
		mask | (flags & O_TRUNC ? W_OK : 0));
}

void op_create(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);
	_cleanup_target_ struct target t = {0};
	_cleanup_name_ struct name made = {0};
	struct fuse_entry_param entry;
	struct handle *f = NULL;
	bool there;
	int r;

	if (op_is_announcer(req)) {
		make_announced(req, parent, name, fi);
		return;
	}
	r = get_target(req, parent, name, &t);

	there = r == 0 && t.name.ino;
	if (there)
		r = may_open_there(req, &t.name, fi->flags);
	else if (r == 0)
		r = make_file(req, &t, name, mode);
	if (r == 0)
		r = namei_find(m, &t.dir, name, fuse_req_ctx(req)->pid, &made);
	if (r == 0 && !made.ino)
		r = -ENOENT;
	if (r == 0)
		f = open_made(req, &made, fi->flags, &r);
	if (!f) {
		fuse_reply_err(req, -r);
		return;
	}
	touch_dir(m, parent);
	if (!there)
		handle_start_empty(m->inodes, f);
	else if (fi->flags & O_TRUNC)
		handle_truncate(m->inodes, f, 0);
	op_fill_entry(m, &made, &entry);
	op_fill_open(m, f, made.ino, fi);
	if (fuse_reply_create(req, &entry, fi) == -ENOENT) {
		op_close(m, f);
		inode_forget(m->inodes, entry.ino, 1);
	}
}

/* In a dry run mkdir is answered, and nothing is there: a directory without a name. */
static void reply_imagined(fuse_req_t req)
{
	struct mount *m = op_mount(req);
	_cleanup_inode_ struct inode *n = NULL;
	struct scratch_init init = {.mode = S_IFDIR | 0755, .uid = m->uid, .gid = m->gid};
	struct fuse_entry_param entry = {0};
	struct place path = {.kind = KIND_SCRATCH};
	int r = scratch_create(m->inodes, 0, &path, "", &init, &n);

	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	scratch_stat(m->inodes, n, &entry.attr);
	entry.ino = inode_lookup(m->inodes, &path, scratch_ino(n));
	op_reply_entry(req, &entry);
}

/* Whether the thread's process made the directory. */
static bool is_made_by(struct mount *m, const struct place *dir, pid_t tid)
{
	_cleanup_view_ struct snapshot *snapshot = shown_snapshot(m->shown, dir->ns, dir->stream);
	struct process_id who = mergebase_who(m->bases, tid);

	return snapshot && (acts_of(m->acts, &who, snapshot->object->uid, dir) & ACT_MAKER);
}

static void make_directory(struct pool_call *call, void *arg)
{
	struct job *j = arg;
	struct mount *m = op_mount(call->req);
	struct api_call api = op_api_call(call);
	int r;

	job_begin(m, j);
	/* What the server made meanwhile, by a save, isn't there for the maker of `tags`. */
	r = j->path.kind == KIND_STREAM
		    ? objects_make_stream(m, &api, &j->path)
		    : objects_make_tag(m, &api, &j->path, is_made_by(m, &j->dir.path, call->tid));

	job_look_at(m, j, r);
	pool_settle(call);
	if (r < 0) {
		fuse_reply_err(call->req, -r);
	} else {
		if (!m->dry_run)
			namei_note_act(m, &j->path, call->tid, ACT_MADE | ACT_MAKER);
		touch_dir(m, j->parent);
		if (m->dry_run)
			reply_imagined(call->req);
		else
			reply_made(call->req, &j->dir, j->name, call->tid);
	}
	job_end(m, j);
	job_free(j);
}

static void remove_directory(struct pool_call *call, void *arg)
{
	struct job *j = arg;
	struct mount *m = op_mount(call->req);
	struct api_call api = op_api_call(call);
	struct process_id who = mergebase_who(m->bases, call->tid);
	int r;

	job_begin(m, j);
	r = j->path.kind == KIND_STREAM ? objects_remove_stream(m, &api, &j->path, &who)
					: objects_remove_tag(m, &api, &j->path, &who);

	job_look_at(m, j, r);
	if (r == 0)
		namei_note_act(m, &j->path, call->tid, ACT_REMOVED);
	pool_settle(call);
	touch_dir(m, j->parent);
	fuse_reply_err(call->req, -r);
	job_end(m, j);
	job_free(j);
}

static void submit_directory(
	fuse_req_t req, fuse_ino_t parent, const struct target *t, const char *name, pool_fn *fn)
{
	struct job *j = xcalloc(1, sizeof(*j));

	j->parent = parent;
	j->dir = t->dir;
	j->path = t->name.path;
	strcpy(j->name, name);
	job_submit(req, fn, j);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	_cleanup_target_ struct target t = {0};
	_cleanup_inode_ struct inode *n = NULL;
	int r;

	if (op_is_announcer(req)) {
		make_announced(req, parent, name, NULL);
		return;
	}
	r = get_target(req, parent, name, &t);

	if (r == 0 && t.name.ino)
		r = -EEXIST;
	if (r == 0 && t.name.path.kind == KIND_STREAM && op_mount(req)->selector)
		r = -EPERM; /* nothing would tell whether it is selected */
	if (r == 0 && !t.name.absent &&
		(t.name.path.kind == KIND_STREAM || t.name.path.kind == KIND_TAG)) {
		submit_directory(req, parent, &t, name, make_directory);
		return;
	}
	if (r == 0 && t.name.absent && layout_is_directory(t.name.path.kind))
		namei_note_act(
			op_mount(req), &t.name.path, fuse_req_ctx(req)->pid, ACT_MADE | ACT_MAKER);
	else if (r == 0 && t.name.path.kind == KIND_TAGS && t.name.hidden)
		make_real(req, &t);
	else if (r == 0 && is_real(&t.name))
		r = -EPERM;
	else if (r == 0)
		r = make_scratch(req, &t.dir, name, S_IFDIR | (mode & 07777), NULL, &n);
	reply_new(req, parent, &t, name, r);
}

/* What is to be removed, if the caller may. */
static int get_removed(fuse_req_t req, fuse_ino_t parent, const char *name, struct target *t)
{
	int r = get_target(req, parent, name, t);

	return r < 0 ? r : may_remove(req, t);
}

static bool is_of_stream(const struct name *n)
{
	return is_real(n) && (n->path.kind == KIND_STREAM || n->path.kind == KIND_TAGS ||
				     n->path.kind == KIND_TAG);
}

/* Its name is hidden: the stream is removed by its own rmdir. */
static void remove_tags(fuse_req_t req, const struct name *n)
{
	namei_note_act(op_mount(req), &n->path, fuse_req_ctx(req)->pid, ACT_REMOVED);
	hide(op_mount(req), n);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct mount *m = op_mount(req);
	_cleanup_target_ struct target t = {0};
	int r;

	if (op_is_announcer(req)) {
		remove_announced(req, parent, name);
		return;
	}
	r = get_removed(req, parent, name, &t);
	if (r == 0 && is_of_stream(&t.name) && !m->nodelete) {
		struct namei_dir dir = {t.name.path, t.name.ino};

		r = removal_check(m, &dir, fuse_req_ctx(req)->pid);
		if (r == 0 && t.name.path.kind != KIND_TAGS) {
			submit_directory(req, parent, &t, name, remove_directory);
			return;
		}
	}
	if (r == 0 && t.name.scratch)
		r = scratch_unlink(m->inodes, t.dir.ino, name, true);
	else if (r == 0 && t.name.path.kind == KIND_TAGS && !m->nodelete)
		remove_tags(req, &t.name);
	else if (r == 0)
		r = is_real_directory(&t.name) ? -EPERM : -ENOTDIR;
	touch_dir(m, parent);
	fuse_reply_err(req, -r);
}

/* ---- unlinking and renaming ---- */

/*
 * The inode leaves its real place and is scratch from now on: with the newest text that a handle of
 * it hasn't saved, else with what is shown. `dir`: st_ino of where it gets a name, and then it is
 * kept in the limits of scratch; 0: it has none. `may_wait`: for the disk, which the texts of further
 * handles are written to. -EFBIG, -ENOSPC, -EISDIR, -ENOENT; -EAGAIN: it would have to wait. Pinned
 * in *ret.
 */
static int leave_place(struct mount *m, const struct name *n, uint64_t dir, const char *new_name,
	bool may_wait, struct inode **ret)
{
	_cleanup_view_ struct snapshot *snapshot = shown_snapshot_at(m->shown, &n->path);
	_cleanup_buf_ struct buf bytes = BUF_INIT(dir ? SCRATCH_FILE_MAX : ATTR_MAX);
	_cleanup_free_ char *unsaved = NULL;
	struct scratch_to made = {.dir = dir, .name = new_name};
	struct scratch_init *init = &made.init;
	int r;

	*init = (struct scratch_init){.mode = n->st.st_mode,
		.uid = m->uid,
		.gid = m->gid,
		.mtime = n->st.st_mtim.tv_sec * NSEC_PER_SEC + n->st.st_mtim.tv_nsec,
		.version = snapshot ? snapshot->object : NULL,
		.past_limit = !dir};
	r = save_keep_older(m, n->ino, may_wait, &unsaved, &init->len);
	init->data = unsaved;
	if (r == 0 && !unsaved && n->first && snapshot) {
		r = snapshot_show(snapshot, n->path.kind, n->path.tag, &bytes);
		init->data = bytes.data;
		init->len = bytes.len;
		init->moved_from = n->first;
	}
	if (r == 0)
		r = scratch_leave(m->inodes, n->ino, n->first, &n->path, &made, ret);
	if (r < 0)
		return r;
	publish_wake(m->publisher); /* the name comes back after a while */
	return 0;
}

static void leave_and_reply(struct pool_call *call, void *arg)
{
	struct job *j = arg;
	struct mount *m = op_mount(call->req);
	_cleanup_inode_ struct inode *node = NULL;
	int r = leave_place(m, &j->moved, j->dir.ino, j->name, true, &node);

	pool_settle(call);
	touch_dir(m, j->parent);
	if (j->new_parent)
		touch_dir(m, j->new_parent);
	fuse_reply_err(call->req, -r);
	job_free(j);
}

/* leave_place where it has to wait. `to` NULL: without a name. */
static void leave_by_pool(
	fuse_req_t req, const struct target *from, const struct target *to, const char *new_name)
{
	struct job *j = xcalloc(1, sizeof(*j));

	j->parent = from->parent;
	j->moved = from->name;
	if (to) {
		j->new_parent = to->parent;
		j->dir = to->dir;
	}
	strcpy(j->name, new_name);
	pool_submit(op_mount(req)->pool, req, NULL, leave_and_reply, j);
}

static int unlink_real(struct mount *m, const struct name *n)
{
	_cleanup_inode_ struct inode *node = NULL;

	if (handle_is_open(m->inodes, n->ino))
		return leave_place(m, n, 0, "", false, &node);
	if (n->first)
		hide(m, n);
	else
		inode_give_up(m->inodes, n->ino);
	return 0;
}

/* What the program kept there stands on the disk as well, and a disk may be slow. */
static void unlink_kept(struct pool_call *call, void *arg)
{
	struct job *j = arg;

	rejects_removed(op_mount(call->req)->rejects, &j->dir.path, j->name);
	pool_settle(call);
	fuse_reply_err(call->req, 0);
	job_free(j);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct mount *m = op_mount(req);
	_cleanup_target_ struct target t = {0};
	int r;

	if (op_is_announcer(req)) {
		remove_announced(req, parent, name);
		return;
	}
	r = get_removed(req, parent, name, &t);
	if (r == 0 && t.name.scratch) {
		r = scratch_unlink(m->inodes, t.dir.ino, name, false);
		if (r == 0 && rejects_is_kept(&t.dir.path, name)) {
			submit_directory(req, parent, &t, name, unlink_kept);
			return;
		}
	} else if (r == 0 && is_real_directory(&t.name)) {
		r = -EISDIR;
	} else if (r == 0 && layout_is_api(t.name.path.kind)) {
		r = -EPERM;
	} else if (r == 0) {
		namei_note_act(m, &t.name.path, fuse_req_ctx(req)->pid, ACT_REMOVED);
		r = unlink_real(m, &t.name);
		if (r == -EAGAIN) {
			leave_by_pool(req, &t, NULL, "");
			return;
		}
	}
	touch_dir(m, parent);
	fuse_reply_err(req, -r);
}

/* The scratch file, whose bytes the place has, stands for it from now on, and has no other name. */
static int take_place(struct mount *m, struct inode *n, const struct place *path, uint64_t first)
{
	_cleanup_view_ struct snapshot *snapshot = shown_snapshot(m->shown, path->ns, path->stream);

	if (!snapshot)
		return -ENOENT;
	return scratch_take(m->inodes, n, namei_parent(m, path), path, first, snapshot);
}

/* The very bytes that were renamed away: nothing to save. */
static void restore(struct pool_call *call, void *arg)
{
	struct job *j = arg;
	struct mount *m = op_mount(call->req);
	int r = take_place(m, j->scratch, &j->path, scratch_moved_from(m->inodes, j->scratch));

	if (r == 0)
		namei_note_act(m, &j->path, call->tid, ACT_MADE);
	/* Pages that it kept when this was the file before, or another. */
	kernel_inval_ino(m->kernel, scratch_ino(j->scratch));
	pool_settle(call);
	touch_dir(m, j->parent);
	touch_dir(m, j->new_parent);
	fuse_reply_err(call->req, -verdict_errno(VERDICT_PATH, r));
	job_free(j);
}

static void save_over(struct pool_call *call, void *arg)
{
	struct job *j = arg;
	struct mount *m = op_mount(call->req);
	_cleanup_inode_ struct inode *moved = NULL;
	struct save_call save = job_save_call(call);
	uint64_t first = 0;
	int r;

	job_begin(m, j);
	r = save_scratch(m, &save, j->scratch, &j->path, &first);
	job_look_at(m, j, r);
	if (r == 0)
		namei_note_act(m, &j->path, call->tid, ACT_MADE);
	if (r == 0 && j->moved.ino) {
		namei_note_act(m, &j->moved.path, call->tid, ACT_REMOVED);
		r = leave_place(m, &j->moved, 0, "", true, &moved);
		if (r == 0 && first) /* what is saved is no failure, also where nothing shows it */
			r = take_place(m, moved, &j->path, first);
	} else if (r == 0 && (!first || take_place(m, j->scratch, &j->path, first) < 0)) {
		/* What is saved is no failure, also where the file has gone by it. */
		scratch_unlink(m->inodes, j->dir.ino, j->name, false);
	}
	if (r == 0)
		kernel_inval_ino(m->kernel, j->moved.ino ? j->moved.ino : scratch_ino(j->scratch));
	pool_settle(call);
	touch_dir(m, j->parent);
	touch_dir(m, j->new_parent);
	fuse_reply_err(call->req, -verdict_errno(VERDICT_PATH, r));
	job_end(m, j);
	job_free(j);
}

static struct job *rename_job(
	const struct target *from, const char *name, const struct target *to, struct inode *node)
{
	struct job *j = xcalloc(1, sizeof(*j));

	j->parent = from->parent;
	j->new_parent = to->parent;
	j->dir = from->dir;
	strcpy(j->name, name);
	j->scratch = inode_pin(node);
	j->path = to->name.path;
	return j;
}

/* A file over a real name: 0 and the pool replies, or why not; `node` has its bytes. */
static int submit_save_over(fuse_req_t req, const struct target *from, const char *name,
	const struct target *to, struct inode *node)
{
	struct job *j;
	int r = may_take_real(req, &to->name);

	if (r < 0)
		return r;
	j = rename_job(from, name, to, node);
	if (!from->name.scratch)
		j->moved = from->name;
	job_submit(req, save_over, j);
	return 0;
}

/* A scratch file over a real name. 0 when a pool replies. */
static int rename_over(
	fuse_req_t req, const struct target *from, const char *name, const struct target *to)
{
	struct mount *m = op_mount(req);
	struct inode *node = from->name.scratch;

	if (is_real_directory(&to->name))
		return -EPERM;
	if (!S_ISREG(from->name.st.st_mode))
		return S_ISDIR(from->name.st.st_mode) ? -ENOTDIR : -EPERM;
	if (!to->name.first || scratch_moved_from(m->inodes, node) != to->name.first)
		return submit_save_over(req, from, name, to, node);
	pool_submit(m->notifier, req, NULL, restore, rename_job(from, name, to, node));
	return 0;
}

/* A real file over another: its bytes are saved there, and here it is hidden. */
static int rename_real(
	fuse_req_t req, const struct target *from, const char *name, const struct target *to)
{
	struct mount *m = op_mount(req);
	_cleanup_view_ struct snapshot *snapshot = shown_snapshot_at(m->shown, &from->name.path);
	_cleanup_buf_ struct buf bytes = BUF_INIT(SCRATCH_FILE_MAX);
	_cleanup_inode_ struct inode *copy = NULL;
	struct scratch_init init = {.mode = S_IFREG | 0600};
	int r = snapshot
			? snapshot_show(snapshot, from->name.path.kind, from->name.path.tag, &bytes)
			: -ENOENT;

	if (r < 0)
		return r;
	init.data = bytes.data;
	init.len = bytes.len;
	r = scratch_create(m->inodes, 0, &from->dir.path, "", &init, &copy);
	return r < 0 ? r : submit_save_over(req, from, name, to, copy);
}

static int rename_scratch(struct mount *m, const struct target *from, const char *name,
	const struct target *to, const char *new_name, bool noreplace)
{
	if (!namei_takes_scratch(m, &to->dir))
		return -EPERM;
	return scratch_rename(
		m->inodes, from->dir.ino, name, to->dir.ino, &to->dir.path, new_name, noreplace);
}

/* 0 when the pool replies, 1 when all is done. */
static int rename_away(
	fuse_req_t req, const struct target *from, const struct target *to, const char *new_name)
{
	struct mount *m = op_mount(req);
	_cleanup_inode_ struct inode *node = NULL;
	int r;

	if (!namei_takes_scratch(m, &to->dir))
		return -EPERM;
	namei_note_act(m, &from->name.path, fuse_req_ctx(req)->pid, ACT_REMOVED);
	r = leave_place(m, &from->name, to->dir.ino, new_name, false, &node);
	if (r == -EAGAIN) {
		leave_by_pool(req, from, to, new_name);
		return 0;
	}
	return r < 0 ? r : 1;
}

/* 0 when the pool replies, 1 when all is done. */
static int rename_name(fuse_req_t req, const struct target *from, const char *name,
	const struct target *to, const char *new_name, unsigned int flags)
{
	struct mount *m = op_mount(req);
	int r;

	if (flags & ~RENAME_NOREPLACE)
		return -EINVAL;
	r = may_remove(req, from);
	if (r == 0 && to->name.ino)
		r = flags & RENAME_NOREPLACE ? -EEXIST : may_remove(req, to);
	if (r < 0)
		return r;
	if (from->name.scratch && is_real(&to->name))
		return rename_over(req, from, name, to);
	if (from->name.scratch) {
		r = rename_scratch(m, from, name, to, new_name, flags & RENAME_NOREPLACE);
		return r < 0 ? r : 1;
	}
	if (is_real_directory(&from->name) || layout_is_api(from->name.path.kind))
		return -EPERM;
	r = may_write_real(req, &from->name);
	if (r < 0)
		return r;
	if (is_real(&to->name))
		return rename_real(req, from, name, to);
	return rename_away(req, from, to, new_name);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	const char *new_name, unsigned int flags)
{
	_cleanup_target_ struct target from = {0}, to = {0};
	int r = get_target(req, parent, name, &from);

	if (r == 0)
		r = get_target(req, new_parent, new_name, &to);
	if (r == 0)
		r = rename_name(req, &from, name, &to, new_name, flags);
	if (r == 0)
		return;
	if (r > 0) {
		touch_dir(op_mount(req), parent);
		touch_dir(op_mount(req), new_parent);
	}
	fuse_reply_err(req, r < 0 ? -r : 0);
}
