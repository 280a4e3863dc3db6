/* The FUSE requests that set attributes, write and save. */
#include "client/clock.h"
#include "fs/ops/job.h"
#include "fs/save/verdict.h"
#include "fs/tree/process.h"

#include <errno.h>
#include <fcntl.h>

/* ---- attributes ---- */

static int64_t set_time(bool now, bool given, const struct timespec *t)
{
	if (now)
		return now_realtime();
	return given ? timespec_to_ns(t) : -1;
}

static void set_scratch(struct mount *m, struct inode *n, const struct stat *st, int to_set)
{
	scratch_set(m->inodes, n, to_set & FUSE_SET_ATTR_MODE ? (int)(st->st_mode & 07777) : -1,
		to_set & FUSE_SET_ATTR_UID ? st->st_uid : (uid_t)-1,
		to_set & FUSE_SET_ATTR_GID ? st->st_gid : (gid_t)-1,
		set_time(to_set & FUSE_SET_ATTR_ATIME_NOW, to_set & FUSE_SET_ATTR_ATIME,
			&st->st_atim),
		set_time(to_set & FUSE_SET_ATTR_MTIME_NOW, to_set & FUSE_SET_ATTR_MTIME,
			&st->st_mtim));
}

#define SET_SIZE FUSE_SET_ATTR_SIZE
#define SET_NOW	 (FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW)
#define SET_OWNED                                                                                  \
	(FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID | FUSE_SET_ATTR_ATIME |        \
		FUSE_SET_ATTR_MTIME)

/* Whether the caller may change that of the file (chown(2), utimensat(2)): 0 or why not. */
static int may_set(
	fuse_req_t req, enum kind kind, const struct stat *now, const struct stat *st, int to_set)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	bool owner = ctx->uid == 0 || ctx->uid == now->st_uid;
	int set = to_set;

	if (set & FUSE_SET_ATTR_ATIME_NOW)
		set &= ~FUSE_SET_ATTR_ATIME;
	if (set & FUSE_SET_ATTR_MTIME_NOW)
		set &= ~FUSE_SET_ATTR_MTIME;
	if ((set & SET_OWNED) && !owner)
		return -EPERM;
	if ((set & FUSE_SET_ATTR_UID) && ctx->uid != 0 && st->st_uid != now->st_uid)
		return -EPERM;
	if ((set & FUSE_SET_ATTR_GID) && ctx->uid != 0 && st->st_gid != now->st_gid &&
		st->st_gid != ctx->gid)
		return -EPERM;
	return (set & SET_NOW) && !owner ? op_may(req, kind, now, W_OK) : 0;
}

/*
 * Truncating a real file. open(O_TRUNC) comes as a call without a handle, right after the open: it
 * is the newest one's of that thread. truncate(2) by path changes nothing.
 */
static int truncate_real(
	fuse_req_t req, uint64_t ino, uint64_t size, uint64_t shown, struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);

	if (fi)
		return handle_truncate(m->inodes, op_file(fi), size);
	if (size == 0 && handle_truncate_opened(m->inodes, ino, fuse_req_ctx(req)->pid))
		return 0;
	return size == 0 || size == shown ? 0 : -EINVAL;
}

void op_setattr(
	fuse_req_t req, fuse_ino_t id, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);
	struct place path;
	struct stat now;
	uint64_t ino;
	int r = -ENOENT;

	if (inode_get(m->inodes, id, &path, &ino))
		r = namei_stat(m, &path, ino, &now);
	if (r == 0 && (op_is_announcer(req) || (fi && !op_file(fi)))) {
		fuse_reply_attr(req, &now, handle_has_draft(m->inodes, ino) ? 0 : m->seconds);
		return;
	}
	if (r == 0 && m->read_only)
		r = -EROFS;
	if (r == 0)
		r = may_set(req, path.kind, &now, st, to_set);
	if (r == 0 && (to_set & SET_SIZE) && !fi) {
		struct stat open = now;

		op_mode_to_open(m, &path, &open);
		r = op_may(req, path.kind, &open, W_OK);
	}
	if (r == 0 && path.kind == KIND_SCRATCH) {
		_cleanup_inode_ struct inode *n = scratch_get(m->inodes, ino);

		if (!n)
			r = -ENOENT;
		else if (to_set & SET_SIZE)
			r = scratch_truncate(m->inodes, n, st->st_size);
		if (r == 0)
			set_scratch(m, n, st, to_set);
	} else if (r == 0 && layout_is_api(path.kind)) {
		if ((to_set & SET_SIZE) && st->st_size) /* `>` empties what is empty */
			r = -EINVAL;
	} else if (r == 0 && (to_set & SET_SIZE)) {
		r = truncate_real(req, ino, st->st_size, now.st_size, fi);
	}
	if (r == 0)
		r = namei_stat(m, &path, ino, &now);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_attr(req, &now, 0);
}

/* ---- writing and saving ---- */

/* Whether what the handle is on is no more: the inode doesn't stand for its place. */
static bool is_gone(struct mount *m, const struct handle_state *s, struct layout_attr *ret_attr)
{
	if (!s->first)
		return !inode_is_pending(m->inodes, s->ino, namei_parent(m, &s->path));
	return shown_attr(m->shown, &s->path, ret_attr) < 0 || ret_attr->ino != s->first ||
	       inode_at(m->inodes, s->first, NULL) != s->ino;
}

struct written {
	uint64_t ino;
	size_t size;
};

/* Beyond the shown size: pages that the kernel would fill up with zeros have to go. */
static void drop_pages(struct pool_call *call, void *arg)
{
	_cleanup_free_ struct written *w = arg;
	struct mount *m = op_mount(call->req);

	kernel_inval_ino(m->kernel, w->ino);
	pool_settle(call);
	fuse_reply_write(call->req, w->size);
}

void op_write(fuse_req_t req, fuse_ino_t id, const char *data, size_t size, off_t offset,
	struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);
	struct handle *f = op_file(fi);
	_cleanup_handle_state_ struct handle_state state = {0};
	struct layout_attr attr = {0};
	struct written *w;
	int r = 0, verdict;

	if (!f) { /* the announcer's, which writes nothing, or nobody's (noopen) */
		fuse_reply_err(req, m->noopen ? EROFS : EBADF);
		return;
	}
	handle_get_state(m->inodes, f, &state);
	if (layout_is_api(state.path.kind))
		r = !state.draft ? -EBADF
		    : draft_is_loaded(state.draft) &&
				    draft_state(state.draft, &verdict) == DRAFT_DECIDED
			    ? -EINVAL /* one request an open */
			    : 0;
	else if (!state.scratch && is_gone(m, &state, &attr))
		r = -ESTALE;
	if (r == 0)
		r = handle_write(m->inodes, f, data, size, offset, fi->flags & O_APPEND);
	if (r < 0) {
		fuse_reply_err(req, -r);
	} else if (state.scratch || layout_is_api(state.path.kind) || offset + size <= attr.size) {
		fuse_reply_write(req, size);
	} else {
		w = xmalloc(sizeof(*w));
		*w = (struct written){state.ino, size};
		pool_submit(m->notifier, req, NULL, drop_pages, w);
	}
}

/* The announcer's, for its event (fs/publish/announcer.c). Nobody else allocates anything. */
void op_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t offset, off_t length,
	struct fuse_file_info *fi)
{
	fuse_reply_err(req, op_is_announcer(req) ? 0 : EOPNOTSUPP);
}

static void save_and_reply(struct pool_call *call, void *arg)
{
	struct job *j = arg;
	struct mount *m = op_mount(call->req);
	struct save_call save = job_save_call(call);
	int r;

	job_begin(m, j);
	r = save_handle(m, &save, j->file);
	job_look_at(m, j, r);
	if (j->sync)
		r = verdict_errno(VERDICT_FSYNC, r);
	pool_settle(call);
	fuse_reply_err(call->req, -r);
	job_end(m, j);
	job_free(j);
}

static void release_and_reply(struct pool_call *call, void *arg)
{
	struct job *j = arg;
	struct mount *m = op_mount(call->req);
	struct save_call save = job_save_call(call);
	int r = 0;

	save.closed = true;
	job_begin(m, j);
	if (j->killed)
		save_refuse_handle(m, j->file, EINTR,
			"a signal ended the process that wrote this; it was not sent");
	else
		r = save_handle(m, &save, j->file);
	job_look_at(m, j, r);
	job_end(m, j);
	if (r == -ESHUTDOWN)
		save_keep_handle(m, j->file);
	op_close(m, j->file);
	pool_settle(call);
	fuse_reply_err(call->req, 0);
	job_free(j);
}

/* The handle's bytes are to be saved, or sent. */
static void submit_written(
	fuse_req_t req, struct handle *f, const struct handle_state *state, enum op_written what)
{
	struct job *j;

	if (layout_is_api(state->path.kind)) {
		op_send_api(req, f, &state->path, what);
		return;
	}
	j = xcalloc(1, sizeof(*j));
	j->path = state->path;
	j->file = f;
	j->sync = what == OP_FSYNC;
	j->killed = handle_is_killed(f);
	job_submit(req, what == OP_RELEASE ? release_and_reply : save_and_reply, j);
}

static bool is_by_opener(fuse_req_t req, struct handle *f)
{
	struct process_id who = mergebase_caller(op_mount(req)->bases, fuse_req_ctx(req)->pid);

	return who.tgid && process_id_equal(&who, handle_opener(f));
}

/*
 * What another process than the opener's has written may be whole by now: a JSON document that is
 * can't be a part of one. A patch of .api is sent once, and counts only where the opener can't be
 * told: it would wait for release then, whose verdict nobody hears. .api/create takes several
 * documents.
 */
static bool may_be_whole(const struct handle *f, enum kind kind)
{
	if (!layout_is_api(kind))
		return true;
	return !handle_opener(f)->tgid && kind != KIND_API_CREATE && kind != KIND_NAMESPACE_CREATE;
}

/*
 * Whether this flush is to save: not one by a process that a signal is killing; by another process
 * than the opener's, or one that can't be told, only a whole document, since the rest may be still
 * to come.
 */
static bool flush_saves(fuse_req_t req, struct handle *f, const struct handle_state *state)
{
	pid_t tid = fuse_req_ctx(req)->pid;
	_cleanup_free_ char *text = NULL;
	uint64_t change;
	size_t len;
	int verdict;

	if (process_is_killed(tid)) {
		handle_set_killed(f);
		return false;
	}
	if (is_by_opener(req, f))
		return true;
	if (!may_be_whole(f, state->path.kind))
		return false;
	return draft_take(state->draft, &verdict, &text, &len, &change) == DRAFT_WRITTEN &&
	       save_is_whole(&state->path, text, len);
}

void op_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);
	struct handle *f = op_file(fi);
	_cleanup_handle_state_ struct handle_state state = {0};
	int verdict = 0;

	if (!f) {
		/*
		 * The announcer's, where no flush can't be asked for (session_skip_flush). After
		 * ENOSYS the kernel sends none for anybody: right where nothing is ever written.
		 */
		fuse_reply_err(req, m->noopen ? ENOSYS : 0);
		return;
	}
	handle_get_state(m->inodes, f, &state);
	if (!state.scratch && state.draft && draft_state(state.draft, &verdict) == DRAFT_WRITTEN &&
		flush_saves(req, f, &state))
		submit_written(req, f, &state, OP_FLUSH);
	else
		fuse_reply_err(req, verdict);
}

void op_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);
	_cleanup_handle_state_ struct handle_state state = {0};
	int verdict = 0;

	if (op_file(fi))
		handle_get_state(m->inodes, op_file(fi), &state);
	if (!op_file(fi) || state.scratch) { /* also what was refused before it was renamed away */
		fuse_reply_err(req, 0);
		return;
	}
	/* Who calls again after EINTR wants to be served. */
	if (state.draft && draft_state(state.draft, &verdict) == DRAFT_DECIDED && verdict == EINTR)
		draft_undecide(state.draft);
	if (!state.draft || draft_state(state.draft, &verdict) != DRAFT_WRITTEN)
		fuse_reply_err(req, -verdict_errno(VERDICT_FSYNC, -verdict));
	else if ((state.path.kind == KIND_IMAGESTREAM_YAML || layout_is_api(state.path.kind)) &&
		 !is_by_opener(req, op_file(fi)))
		fuse_reply_err(req, 0); /* nobody can say whether it is whole: it waits */
	else
		submit_written(req, op_file(fi), &state, OP_FSYNC);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

void op_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);
	struct handle *f = op_file(fi);
	_cleanup_handle_state_ struct handle_state state = {0};
	int verdict;

	if (!f) { /* the announcer's */
		fuse_reply_err(req, 0);
		return;
	}
	handle_get_state(m->inodes, f, &state);
	if (!state.scratch && state.draft && draft_state(state.draft, &verdict) == DRAFT_WRITTEN) {
		submit_written(req, f, &state, OP_RELEASE);
		return;
	}
	op_close(m, f);
	fuse_reply_err(req, 0);
}
