#include "fs/ops/ops.h"

#include "fs/dotapi/events.h"
#include "fs/dotapi/export.h"
#include "fs/dotapi/select.h"
#include "fs/mount/discover.h"
#include "fs/mount/modes.h"
#include "fs/ops/session.h"

#include <errno.h>
#include <poll.h>
#include <sys/statvfs.h>

#define NEGATIVE_SECONDS 5.0 /* of what no watch covers */
#define GROUPS_MAX	 1024
#define FREE_INODES	 (1 << 30) /* nothing limits them: df -i says plenty */

bool op_directory(fuse_req_t req, fuse_ino_t id, struct namei_dir *ret)
{
	return inode_get(op_mount(req)->inodes, id, &ret->path, &ret->ino);
}

/* Also by a group that isn't the caller's first: /proc tells. */
static bool is_in_group(fuse_req_t req, gid_t gid)
{
	gid_t groups[GROUPS_MAX];
	int n;

	if (fuse_req_ctx(req)->gid == gid)
		return true;
	n = fuse_req_getgroups(req, GROUPS_MAX, groups);
	for (int i = 0; i < n && i < GROUPS_MAX; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

/*
 * What the mode bits give the caller. Nobody executes a file that has no such bit, root included.
 */
static bool bits_allow(fuse_req_t req, const struct stat *st, int mask)
{
	uid_t uid = fuse_req_ctx(req)->uid;
	mode_t group = st->st_mode >> 3 & 7, others = st->st_mode & 7, bits = others;

	if (uid == 0)
		return !(mask & X_OK) || S_ISDIR(st->st_mode) || (st->st_mode & 0111);
	if (uid == st->st_uid)
		bits = st->st_mode >> 6 & 7;
	else if (group != others && is_in_group(req, st->st_gid))
		bits = group;
	return (bits & mask) == (unsigned)mask;
}

int op_may(fuse_req_t req, enum kind kind, const struct stat *st, int mask)
{
	struct mount *m = op_mount(req);

	if ((mask & W_OK) && m->read_only)
		return -EROFS;
	if ((mask & W_OK) && kind != KIND_SCRATCH && !(st->st_mode & 0222))
		return -EACCES; /* nobody's to write, root's neither */
	return bits_allow(req, st, mask) ? 0 : -EACCES;
}

void op_mode_to_open(struct mount *m, const struct place *path, struct stat *st)
{
	if (path->kind != KIND_SCRATCH)
		st->st_mode |= modes_to_open(m, path) & 0222;
}

/* For most real directories the answer is the same for everybody. */
static int may_enter(fuse_req_t req, const struct namei_dir *dir, int mask)
{
	struct mount *m = op_mount(req);
	enum kind kind = dir->path.kind;
	struct stat st;
	int r;

	if (kind != KIND_SCRATCH && kind != KIND_NAMESPACE && !m->strict)
		return 0;
	r = namei_stat(m, &dir->path, dir->ino, &st);
	if (r == 0)
		r = op_may(req, kind, &st, mask);
	/* With uid= the files may be another's. */
	return r == -EACCES && op_is_announcer(req) ? 0 : r;
}

static double attr_seconds(struct mount *m, const struct place *path, uint64_t ino)
{
	if (path->kind == KIND_SCRATCH || layout_is_selected(path->kind) ||
		handle_has_draft(m->inodes, ino))
		return 0;
	/* It goes with its tag, and nobody is told of it. */
	if (layout_is_tag_file(path->kind) && inode_is_unsaved(m->inodes, ino))
		return 0;
	/* Nobody has counted its streams yet. */
	if (path->kind == KIND_NAMESPACE && !shown_is_ready(m->shown, path->ns))
		return 0;
	return m->seconds;
}

void op_fill_entry(struct mount *m, const struct name *n, struct fuse_entry_param *ret)
{
	struct place path = n->path;
	struct stat again;

	if (n->scratch)
		path.kind = KIND_SCRATCH;
	*ret = (struct fuse_entry_param){
		.ino = inode_lookup(m->inodes, &path, n->ino), .entry_timeout = n->seconds};
	ret->attr = n->st;
	/* Read again now that a change would be told to the node. */
	if (namei_stat(m, &path, n->ino, &again) == 0)
		ret->attr = again;
	ret->attr_timeout = attr_seconds(m, &path, n->ino);
}

void op_reply_entry(fuse_req_t req, const struct fuse_entry_param *entry)
{
	struct mount *m = op_mount(req);
	uint64_t id = entry->ino;

	if (fuse_reply_entry(req, entry) == -ENOENT && id)
		inode_forget(m->inodes, id, 1); /* interrupted: the kernel doesn't have it */
}

static void reply_negative(fuse_req_t req, double seconds)
{
	struct fuse_entry_param none = {.entry_timeout = seconds};

	fuse_reply_entry(req, &none);
}

/*
 * The kernel keeps what a watch covers as missing without an end; when the watch ends it has to be
 * told.
 */
static double missing_seconds(struct mount *m, const struct namei_dir *dir, const char *name,
	double seconds, uint64_t coverage)
{
	if (dir->path.kind > KIND_NAMESPACE || seconds <= NEGATIVE_SECONDS ||
		kernel_keeps_missing(m->kernel, coverage, dir->path.ns, name))
		return seconds;
	return NEGATIVE_SECONDS;
}

/* `coverage`: kernel_coverage before anybody looked whether a watch covers the name. */
static void reply_lookup(
	fuse_req_t req, const struct namei_dir *dir, const char *name, uint64_t coverage)
{
	_cleanup_name_ struct name n = {0};
	struct fuse_entry_param entry;
	int r = namei_find(op_mount(req), dir, name, fuse_req_ctx(req)->pid, &n);

	if (r < 0) {
		fuse_reply_err(req, -r);
	} else if (!n.ino) {
		reply_negative(req, missing_seconds(op_mount(req), dir, name, n.seconds, coverage));
	} else {
		if (n.path.kind == KIND_NAMESPACE)
			rights_use(op_mount(req)->rights, n.path.ns);
		op_fill_entry(op_mount(req), &n, &entry);
		op_reply_entry(req, &entry);
	}
}

/* ---- waiting for the server ---- */

/* A lookup, readdir or getattr that needs a namespace whose streams aren't here yet. */
struct waiting {
	struct namei_dir dir;
	char name[NAME_SIZE];
	uint64_t coverage; /* of a lookup */
	size_t size;
	off_t offset;
	void (*reply)(fuse_req_t req, const struct waiting *w);
};

/*
 * What the namespace can't list is found by name: the one that is looked up, or those we know of.
 */
static int find_by_name(struct pool_call *call, const struct waiting *w)
{
	const char *ns = w->dir.path.ns;

	if (layout_child(KIND_NAMESPACE, w->name) != KIND_COUNT)
		return 0;
	return w->name[0] ? discover_stream(op_mount(call->req), call, ns, w->name)
			  : discover_named_streams(op_mount(call->req), call, ns);
}

static void wait_and_reply(struct pool_call *call, void *arg)
{
	_cleanup_free_ struct waiting *w = arg;
	int r = discover_streams(op_mount(call->req), call, w->dir.path.ns);

	if (r == -EACCES)
		r = find_by_name(call, w);
	pool_settle(call);
	if (r == -ENOENT && w->name[0])
		reply_negative(call->req, NEGATIVE_SECONDS);
	else if (r < 0)
		fuse_reply_err(call->req, -r);
	else
		w->reply(call->req, w);
}

/* True when the reply is left to the pool, since the namespace's streams have to be asked for. */
static bool wait_if_needed(fuse_req_t req, const struct waiting *w)
{
	struct mount *m = op_mount(req);
	struct waiting *copy;
	int r;

	if (w->dir.path.kind != KIND_NAMESPACE)
		return false;
	rights_use(m->rights, w->dir.path.ns);
	r = reflector_need(m->reflector, w->dir.path.ns);
	if (shown_is_ready(m->shown, w->dir.path.ns) && r != -EAGAIN && r != -EACCES)
		return false;
	copy = xmalloc(sizeof(*copy));
	*copy = *w;
	pool_submit(m->pool, req, NULL, wait_and_reply, copy);
	return true;
}

/* ---- requests ---- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct mount *m = userdata;

	m->no_opendir = conn->capable & FUSE_CAP_NO_OPENDIR_SUPPORT;
	if (m->max_read)
		conn->max_read = m->max_read;
	conn->want &=
		~(FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE);
}

static void reply_waited_lookup(fuse_req_t req, const struct waiting *w)
{
	reply_lookup(req, &w->dir, w->name, w->coverage);
}

/* A namespace that isn't listed: the server knows whether its streams may be read. */
static void find_and_reply(struct pool_call *call, void *arg)
{
	_cleanup_free_ struct waiting *w = arg;
	struct mount *m = op_mount(call->req);
	int r = discover_namespace(m, call, w->name);

	pool_settle(call);
	if (r == 0) {
		shown_add_named(m->shown, w->name);
		reply_lookup(call->req, &w->dir, w->name, w->coverage);
	} else if (r == -ENOENT) {
		reply_negative(call->req, NEGATIVE_SECONDS);
	} else {
		fuse_reply_err(call->req, -r);
	}
}

/* True when the reply is left to the pool. */
static bool find_if_unlisted(fuse_req_t req, const struct waiting *asked)
{
	const struct namei_dir *dir = &asked->dir;
	const char *name = asked->name;
	struct mount *m = op_mount(req);
	struct place path = {.kind = KIND_NAMESPACE};
	struct layout_attr attr;
	struct waiting *w;

	if (dir->path.kind != KIND_ROOT || !str_is_dns_label(name) || m->narrowed ||
		reflector_covers_cluster(m->reflector))
		return false;
	strcpy(path.ns, name);
	if (shown_attr(m->shown, &path, &attr) == 0)
		return false;
	w = xmalloc(sizeof(*w));
	*w = *asked;
	pool_submit(m->pool, req, NULL, find_and_reply, w);
	return true;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct waiting w = {.reply = reply_waited_lookup};
	int r;

	if (announce_greeted(op_mount(req)->announce, fuse_req_ctx(req)->pid, name)) {
		reply_negative(req, 0);
		return;
	}
	if (strlen(name) >= NAME_SIZE) {
		fuse_reply_err(req, ENAMETOOLONG);
		return;
	}
	if (!op_directory(req, parent, &w.dir)) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	r = may_enter(req, &w.dir, X_OK);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	strcpy(w.name, name);
	w.coverage = kernel_coverage(op_mount(req)->kernel);
	if (op_select_lookup(req, &w.dir, name))
		return;
	if (!find_if_unlisted(req, &w) && !wait_if_needed(req, &w))
		reply_lookup(req, &w.dir, name, w.coverage);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	inode_forget(op_mount(req)->inodes, ino, count);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		inode_forget(op_mount(req)->inodes, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);
	struct place path;
	struct stat st;
	uint64_t ino, end;
	double seconds;

	if (!inode_get(m->inodes, id, &path, &ino) || namei_stat(m, &path, ino, &st) < 0) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	seconds = attr_seconds(m, &path, ino);
	/* With a handle only for SEEK_END: the end of what the handle itself has written. */
	if (fi && fi->fh && handle_draft_end(m->inodes, op_file(fi), &end)) {
		st.st_size = end;
		seconds = 0;
	}
	fuse_reply_attr(req, &st, seconds);
}

static void op_access(fuse_req_t req, fuse_ino_t id, int mask)
{
	struct mount *m = op_mount(req);
	struct place path;
	struct stat st;
	uint64_t ino;
	int r = -ENOENT;

	if (inode_get(m->inodes, id, &path, &ino))
		r = namei_stat(m, &path, ino, &st);
	if (r == 0)
		r = op_may(req, path.kind, &st, mask);
	fuse_reply_err(req, -r);
}

struct handle *op_open_real(
	fuse_req_t req, const struct place *path, uint64_t ino, int flags, int *ret_error)
{
	struct mount *m = op_mount(req);
	_cleanup_view_ struct snapshot *snapshot = NULL, *now = NULL;
	struct handle_open open = {.path = path,
		.ino = ino,
		.writable = (flags & O_ACCMODE) != O_RDONLY,
		.tid = fuse_req_ctx(req)->pid};
	struct layout_attr attr;
	struct handle *f;
	uint64_t slot;

	*ret_error = open.writable && atomic_load(&m->ending) ? -ESHUTDOWN : -ENOENT;
	snapshot = shown_snapshot_at(m->shown, path);
	if (!snapshot || *ret_error == -ESHUTDOWN)
		return NULL;
	slot = layout_ino(snapshot->object->uid, path->kind, path->tag, 0);
	if (snapshot_attr(snapshot, path->kind, path->tag, &attr) == 0)
		open.first = attr.ino;
	else if (!inode_is_pending(m->inodes, ino, namei_parent(m, path)))
		return NULL;
	open.snapshot = snapshot;
	open.opener = mergebase_caller(m->bases, open.tid);
	f = handle_open(m->inodes, &open);
	if (!f)
		return NULL;
	if ((flags & O_ACCMODE) != O_WRONLY)
		mergebase_note(m->bases, &open.opener, slot, snapshot->object);
	if (path->kind == KIND_IMAGESTREAM_JSON || path->kind == KIND_IMAGESTREAM_YAML)
		history_serve(m->history, snapshot->object);
	/* What was shown before the handle stood in the table didn't reach it. */
	now = shown_snapshot_at(m->shown, path);
	if (now && now != snapshot)
		handle_follow(m->inodes, path, now);
	*ret_error = 0;
	return f;
}

struct handle *op_open_scratch(fuse_req_t req, struct inode *n, int flags)
{
	struct mount *m = op_mount(req);
	pid_t tid = fuse_req_ctx(req)->pid;
	bool writable = (flags & O_ACCMODE) != O_RDONLY;
	struct process_id opener = {0};

	if (writable)
		opener = mergebase_caller(m->bases, tid);
	return handle_open_scratch(m->inodes, n, writable, tid, &opener);
}

static struct handle *open_scratch(fuse_req_t req, uint64_t ino, int flags, int *ret_error)
{
	_cleanup_inode_ struct inode *n = scratch_get(op_mount(req)->inodes, ino);

	*ret_error = n ? 0 : -ENOENT;
	return n ? op_open_scratch(req, n, flags) : NULL;
}

void op_fill_open(struct mount *m, struct handle *f, uint64_t ino, struct fuse_file_info *fi)
{
	bool fixed = handle_is_fixed(f);

	fi->fh = (uintptr_t)f;
	session_skip_flush(fi, !handle_is_writable(f));
	/* Last: it takes the lock, as does who closes it. ThreadSanitizer can't see the kernel between. */
	fi->direct_io = handle_has_draft(m->inodes, ino) || fixed;
	fi->keep_cache = m->announce && !fi->direct_io;
}

void op_key(const struct place *path, char ret[2 * NAME_SIZE])
{
	char *end = stpcpy(ret, path->ns);

	if (path->kind == KIND_NAMESPACE)
		return;
	*end++ = '/';
	strcpy(end, path->stream);
}

/* The step of the file is shown, if it is still to be. */
static bool show_announced(struct mount *m, const struct place *path, enum step_op op)
{
	struct step step;
	char key[2 * NAME_SIZE];

	step_init(&step, op, path->kind, path->tag, 0);
	op_key(path, key);
	return shown_show(m->shown, key, &step);
}

/*
 * The announcer makes a file's new bytes known: it opens the file for writing, allocates what it
 * has and closes it. From here on they are shown, in their size, and the kernel drops the pages of
 * the old ones. A file that comes where a process has begun one is announced so, too.
 */
static void open_announced(fuse_req_t req, fuse_ino_t id, uint64_t ino, const struct place *path,
	struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);
	_cleanup_view_ struct snapshot *snapshot = NULL;

	if (namei_check(m, path, ino) < 0) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	if (show_announced(m, path, STEP_CREATE) || show_announced(m, path, STEP_WRITE)) {
		snapshot = shown_snapshot_at(m->shown, path);
		if (snapshot)
			handle_follow(m->inodes, path, snapshot);
		kernel_inval_attr(m->kernel, id);
	} else if (!shown_is_expected(m->shown, path, STEP_CREATE) &&
		   !shown_is_expected(m->shown, path, STEP_WRITE)) {
		fuse_reply_err(req, EPERM);
		return;
	}
	fi->fh = 0;
	session_skip_flush(fi, true);
	fuse_reply_open(req, fi);
}

static void op_opendir(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);
	struct namei_dir dir;
	int r;

	if (m->announce && !m->strict && m->no_opendir) {
		fuse_reply_err(req, ENOSYS); /* listings are the kernel's to keep */
		return;
	}
	fi->cache_readdir = fi->keep_cache = m->announce && !m->strict;
	r = op_directory(req, id, &dir) ? may_enter(req, &dir, R_OK) : -ENOENT;
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_open(req, fi);
}

static void op_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
	static const int masks[] = {
		[O_RDONLY] = R_OK, [O_WRONLY] = W_OK, [O_RDWR] = R_OK | W_OK, [O_ACCMODE] = R_OK};
	struct mount *m = op_mount(req);
	int mask = masks[fi->flags & O_ACCMODE] | (fi->flags & O_TRUNC ? W_OK : 0);
	struct place path;
	struct handle *f = NULL;
	struct stat st;
	uint64_t ino;
	int r;

	if (m->noopen) {
		fuse_reply_err(req, ENOSYS); /* from the first one on the kernel asks no more */
		return;
	}
	if (!inode_get(m->inodes, id, &path, &ino)) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	if (op_is_announcer(req)) {
		open_announced(req, id, ino, &path, fi);
		return;
	}
	r = namei_stat(m, &path, ino, &st);
	if (r == 0) {
		op_mode_to_open(m, &path, &st);
		r = op_may(req, path.kind, &st, mask);
	}
	if (r == 0 && layout_is_api(path.kind)) {
		op_open_api(req, &path, ino, fi);
		return;
	}
	if (r == 0 && path.kind == KIND_SCRATCH)
		f = open_scratch(req, ino, fi->flags, &r);
	else if (r == 0)
		f = op_open_real(req, &path, ino, fi->flags, &r);
	if (!f) {
		fuse_reply_err(req, -r);
		return;
	}
	op_fill_open(m, f, ino, fi);
	if (fuse_reply_open(req, fi) == -ENOENT)
		op_close(m, f);
}

void op_close(struct mount *m, struct handle *f)
{
	struct handle_source source = handle_get_source(m->inodes, f);

	if (source.events)
		events_close(m->events, source.events);
	if (source.export)
		export_close(source.export);
	if (handle_close(m->inodes, f))
		publish_wake(m->publisher);
}

static void op_readlink(fuse_req_t req, fuse_ino_t id)
{
	struct mount *m = op_mount(req);
	_cleanup_inode_ struct inode *n = NULL;
	struct place path = {0};
	uint64_t ino;

	if (inode_get(m->inodes, id, &path, &ino) && path.kind == KIND_SELECTED) {
		_cleanup_free_ char *target = layout_target(&path);

		fuse_reply_readlink(req, target);
		return;
	}
	if (path.kind == KIND_SCRATCH)
		n = scratch_get(m->inodes, ino);
	if (n && scratch_target(n))
		fuse_reply_readlink(req, scratch_target(n));
	else
		fuse_reply_err(req, n ? EINVAL : ENOENT);
}

/* The inode as it is now, or as it was last: with -o noopen nobody has a handle. */
static void read_unopened(fuse_req_t req, fuse_ino_t id, size_t size, off_t offset)
{
	struct mount *m = op_mount(req);
	_cleanup_view_ struct snapshot *snapshot = NULL;
	_cleanup_buf_ struct buf text = BUF_INIT(ATTR_MAX);
	struct place path;
	struct layout_attr attr;
	uint64_t ino;
	int r = -ENOENT;

	if (inode_get(m->inodes, id, &path, &ino)) {
		snapshot = shown_snapshot_at(m->shown, &path);
		if (!snapshot || snapshot_attr(snapshot, path.kind, path.tag, &attr) < 0 ||
			attr.ino != ino) {
			snapshot_unref(snapshot);
			snapshot = inode_last(m->inodes, ino);
		}
	}
	if (snapshot)
		r = snapshot_show(snapshot, path.kind, path.tag, &text);
	if (r < 0)
		fuse_reply_err(req, -r);
	else if ((size_t)offset >= text.len)
		fuse_reply_buf(req, NULL, 0);
	else
		fuse_reply_buf(req, text.data + offset,
			size < text.len - offset ? size : text.len - offset);
}

static void read_export(fuse_req_t req, struct export *export, size_t size, off_t offset)
{
	_cleanup_buf_ struct buf text = BUF_INIT(SIZE_MAX);

	if (export_read(export, size, offset, &text) < 0)
		fuse_reply_err(req, EIO);
	else
		fuse_reply_buf(req, text.data, text.len);
}

static void op_read(
	fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);
	struct handle_source source;
	struct text *text;
	const char *data;
	size_t len;
	int r;

	if (!op_file(fi)) {
		read_unopened(req, id, size, offset);
		return;
	}
	source = handle_get_source(m->inodes, op_file(fi));
	if (source.events) {
		events_read(m->events, source.events, req, size, fi->flags);
		return;
	}
	if (source.export) {
		read_export(req, source.export, size, offset);
		return;
	}
	r = handle_read(m->inodes, op_file(fi), size, offset, &text, &data, &len);
	if (r < 0) {
		fuse_reply_err(req, EIO);
		return;
	}
	fuse_reply_buf(req, data, len);
	text_unref(text);
}

static void op_poll(
	fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct fuse_pollhandle *ph)
{
	struct mount *m = op_mount(req);
	struct handle_source source = {0};

	if (op_file(fi))
		source = handle_get_source(m->inodes, op_file(fi));
	if (source.events) {
		events_poll(m->events, source.events, req, ph, fi->poll_events);
		return;
	}
	if (ph)
		fuse_pollhandle_destroy(ph);
	fuse_reply_poll(req,
		fi->poll_events & (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM)); /* as files are */
}

/* ---- directories ---- */

bool op_add_child(void *arg, const char *name, uint64_t cookie, const struct place *path,
	const struct stat *st, double seconds)
{
	struct op_listing *l = arg;
	struct fuse_entry_param entry = {
		.attr = *st, .attr_timeout = seconds, .entry_timeout = seconds};
	off_t next = cookie + OP_COOKIE_BASE;
	size_t left = l->size - l->len, n;

	if (!l->plus) {
		n = fuse_add_direntry(l->req, l->data + l->len, left, name, &entry.attr, next);
	} else {
		n = fuse_add_direntry_plus(l->req, NULL, 0, name, NULL, 0);
		if (n <= left) {
			entry.ino = inode_lookup(l->mount->inodes, path, st->st_ino);
			entry.attr_timeout = attr_seconds(l->mount, path, st->st_ino);
			/* Again now that a change would be told to the node. */
			if (path->kind != KIND_SCRATCH)
				entry.attr.st_mode = modes_of(l->mount, path);
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
static bool add_dot(struct op_listing *l, const char *name, uint64_t ino, off_t next)
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

/* The parent's st_ino, as far as the mount knows it. */
static uint64_t parent_ino(struct mount *m, const struct place *path)
{
	uint64_t ino =
		path->kind > KIND_ROOT && path->kind < KIND_SCRATCH ? namei_parent(m, path) : 0;

	return ino ? ino : INODE_ROOT;
}

bool op_listing_begin(struct op_listing *l, fuse_req_t req, const struct namei_dir *dir,
	size_t size, bool plus, off_t offset)
{
	*l = (struct op_listing){.req = req, .mount = op_mount(req), .plus = plus, .size = size};
	l->data = xmalloc(size);
	return (offset >= 1 || add_dot(l, ".", dir->ino, 1)) &&
	       (offset >= 2 || add_dot(l, "..", parent_ino(l->mount, &dir->path), 2));
}

void op_listing_reply(struct op_listing *l, int r)
{
	if (r < 0)
		fuse_reply_err(l->req, -r);
	else
		fuse_reply_buf(l->req, l->data, l->len);
	free(l->data);
}

static void reply_listing(fuse_req_t req, const struct waiting *w, bool plus)
{
	uint64_t cookie = w->offset > OP_COOKIE_BASE ? w->offset - OP_COOKIE_BASE : 0;
	struct op_listing l;
	int r = 0;

	if (op_listing_begin(&l, req, &w->dir, w->size, plus, w->offset))
		r = namei_list(op_mount(req), &w->dir, cookie, op_add_child, &l);
	op_listing_reply(
		&l, r == -ENOENT ? 0 : r); /* gone while it was open: empty, as everywhere */
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

	int r = op_directory(req, id, &w.dir) ? may_enter(req, &w.dir, R_OK) : -ENOENT;

	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	if (w.dir.path.kind == KIND_SELECTOR)
		op_select_list(req, &w.dir, id, size, offset, reply == reply_waited_readdirplus);
	else if (!wait_if_needed(req, &w))
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
	struct statvfs st = {.f_bsize = 4096,
		.f_frsize = 4096,
		.f_blocks = SCRATCH_TOTAL_MAX / 4096,
		.f_namemax = NAME_SIZE - 1};
	struct mount *m = op_mount(req);
	size_t bytes, nodes;

	scratch_usage(m->inodes, &bytes, &nodes);
	st.f_bfree = bytes < SCRATCH_TOTAL_MAX ? (SCRATCH_TOTAL_MAX - bytes) / 4096 : 0;
	st.f_bavail = st.f_bfree;
	st.f_files = inode_count(m->inodes) + FREE_INODES;
	st.f_ffree = st.f_favail = FREE_INODES;
	fuse_reply_statfs(req, &st);
}

const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.create = op_create,
	.access = op_access,
	.open = op_open,
	.opendir = op_opendir,
	.read = op_read,
	.poll = op_poll,
	.write = op_write,
	.fallocate = op_fallocate,
	.flush = op_flush,
	.fsync = op_fsync,
	.release = op_release,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.fsyncdir = op_fsyncdir,
	.statfs = op_statfs,
};
