/*
 * The FUSE requests on .api: files that are made at each open, requests that are written,
 * selections.
 */
#include "client/clock.h"
#include "fs/dotapi/events.h"
#include "fs/dotapi/export.h"
#include "fs/dotapi/files.h"
#include "fs/dotapi/select.h"
#include "fs/mount/discover.h"
#include "fs/ops/ops.h"
#include "fs/save/verdict.h"

#include <errno.h>
#include <fcntl.h>

/* What is left to the pool. */
struct api_job {
	struct place path;
	uint64_t ino;
	struct fuse_file_info fi;
	struct process_id opener;
	pid_t tid;
	struct handle *file;
	enum op_written what;
	/* of a selection */
	struct namei_dir dir;
	fuse_ino_t id;
	char name[NAME_SIZE];
	size_t size;
	off_t offset;
	bool plus;
};

/*
 * Changes of one stream go out one at a time, those of saves too; but a registry that is slow holds
 * up nobody who saves.
 */
static void submit(fuse_req_t req, pool_fn *fn, struct api_job *j, bool changes)
{
	_cleanup_free_ char *key = xasprintf("%s/%s%s%s", j->path.ns, j->path.stream,
		j->path.kind == KIND_TAG_IMPORT ? "/" : "",
		j->path.kind == KIND_TAG_IMPORT ? j->path.tag : "");

	pool_submit(op_mount(req)->pool, req, changes ? key : NULL, fn, j);
}

/* ---- opening ---- */

/* Seekable, events too, where it means nothing: head(1) complains of a regular file that isn't. */
static void reply_open(fuse_req_t req, struct handle *f, uint64_t ino, struct fuse_file_info *fi)
{
	op_fill_open(op_mount(req), f, ino, fi);
	if (fuse_reply_open(req, fi) == -ENOENT)
		op_close(op_mount(req), f);
}

/* With the bytes that were made for it. */
static void open_with(fuse_req_t req, struct api_job *j, struct buf *bytes)
{
	struct handle_open open = {.path = &j->path,
		.ino = j->ino,
		.writable = (j->fi.flags & O_ACCMODE) != O_RDONLY,
		.tid = j->tid,
		.opener = j->opener};

	reply_open(req, handle_open_api(op_mount(req)->inodes, &open, bytes), j->ino, &j->fi);
}

static struct handle *open_reader(struct mount *m, const struct place *path)
{
	struct handle_source source = {0};

	switch (dotapi_reader(path->kind)) {
	case DOTAPI_EXPORT:
		source.export = export_open(m->store, path->ns);
		break;
	case DOTAPI_PUSHES:
		source.events = events_open_pushes(m->events, m->store, path->ns, path->stream);
		break;
	default:
		source.events = events_open(m->events, path->ns, path->stream);
	}
	return handle_open_source(m->inodes, source);
}

static void fetch_and_reply(struct pool_call *call, void *arg)
{
	_cleanup_free_ struct api_job *j = arg;
	struct mount *m = op_mount(call->req);
	struct api_call api = op_api_call(call);
	bool reader = dotapi_reader(j->path.kind) != DOTAPI_MADE;
	struct buf bytes = {0};
	int r = dotapi_is_whole(j->path.kind) ? discover_whole(m, call, j->path.ns) : 0;

	if (r == 0 && !reader)
		r = dotapi_fetch(m, &api, &j->path, &bytes);
	pool_settle(call);
	if (r < 0)
		fuse_reply_err(call->req, -verdict_errno(VERDICT_PATH, r));
	else if (reader)
		reply_open(call->req, open_reader(m, &j->path), j->ino, &j->fi);
	else
		open_with(call->req, j, &bytes);
}

void op_open_api(fuse_req_t req, const struct place *path, uint64_t ino, struct fuse_file_info *fi)
{
	struct mount *m = op_mount(req);
	struct buf bytes = BUF_INIT(HTTP_BODY_MAX);
	struct api_job *j;
	int r;

	if (dotapi_reader(path->kind) != DOTAPI_MADE && !dotapi_is_whole(path->kind)) {
		reply_open(req, open_reader(m, path), ino, fi);
		return;
	}
	j = xcalloc(1, sizeof(*j));
	*j = (struct api_job){.path = *path, .ino = ino, .fi = *fi, .tid = fuse_req_ctx(req)->pid};
	if (dotapi_is_fetched(path->kind) || dotapi_is_whole(path->kind)) {
		submit(req, fetch_and_reply, j, false);
		return;
	}
	r = dotapi_show(m, path, &bytes);
	if (r < 0) {
		buf_release(&bytes);
		fuse_reply_err(req, -r);
	} else {
		if ((fi->flags & O_ACCMODE) != O_RDONLY)
			j->opener = mergebase_caller(m->bases, j->tid);
		open_with(req, j, &bytes);
	}
	free(j);
}

/* ---- what is written ---- */

/* The verdict is the draft's: it is given again to whoever asks again. */
static int send_written(struct pool_call *call, const struct api_job *j)
{
	struct mount *m = op_mount(call->req);
	_cleanup_handle_state_ struct handle_state state;
	_cleanup_free_ char *text = NULL;
	struct process_id who = mergebase_who(m->bases, call->tid);
	struct api_call api;
	uint64_t change;
	size_t len;
	int verdict, r;

	if (dotapi_timeout(j->path.kind))
		call->deadline = deadline_in_ms(dotapi_timeout(j->path.kind));
	api = op_api_call(call);
	handle_get_state(m->inodes, j->file, &state);
	if (draft_take(state.draft, &verdict, &text, &len, &change) != DRAFT_WRITTEN)
		return -verdict;
	r = dotapi_store(m, &api, &who, &j->path, text, len);
	if (j->path.stream[0])
		r = verdict_errno(VERDICT_CLOSE, r);
	draft_decide(state.draft, change, -r);
	return r;
}

static void send_and_reply(struct pool_call *call, void *arg)
{
	_cleanup_free_ struct api_job *j = arg;
	int r = 0;

	if (j->what != OP_RELEASE || !handle_is_killed(j->file))
		r = send_written(call, j);
	if (j->what == OP_RELEASE) {
		op_close(op_mount(call->req), j->file);
		r = 0; /* nobody hears it; .api/errors does */
	} else if (j->what == OP_FSYNC) {
		r = verdict_errno(VERDICT_FSYNC, r);
	}
	pool_settle(call);
	fuse_reply_err(call->req, -r);
}

void op_send_api(fuse_req_t req, struct handle *f, const struct place *path, enum op_written what)
{
	struct api_job *j = xcalloc(1, sizeof(*j));

	*j = (struct api_job){.path = *path, .file = f, .what = what};
	submit(req, send_and_reply, j, true);
}

/* ---- selections ---- */

static void reply_name(fuse_req_t req, struct api_job *j, bool there)
{
	struct mount *m = op_mount(req);
	struct name n = {.path = j->path};
	struct fuse_entry_param entry = {0};

	if (there && namei_place(m, &n.path, &n.st) == 0) {
		n.ino = n.st.st_ino;
		op_fill_entry(m, &n, &entry);
		op_reply_entry(req, &entry);
	} else {
		fuse_reply_err(req, ENOENT);
	}
}

static void find_and_reply(struct pool_call *call, void *arg)
{
	_cleanup_free_ struct api_job *j = arg;
	_cleanup_selection_ struct selection *s = NULL;
	struct api_call api = op_api_call(call);
	bool link = j->path.kind == KIND_SELECTED;
	struct place selector = j->path;
	int r;

	selector.kind = KIND_SELECTOR;
	/* A path through the directory asks for it again each time. */
	r = select_get(op_mount(call->req), &api, &selector, SELECT_UNCHANGED, &s);
	pool_settle(call);
	if (r < 0)
		fuse_reply_err(call->req, -verdict_errno(VERDICT_PATH, r));
	else
		reply_name(call->req, j, !link || selection_has(s, j->path.stream));
}

bool op_select_lookup(fuse_req_t req, const struct namei_dir *dir, const char *name)
{
	struct api_job *j;

	if (!layout_is_select(dir->path.kind))
		return false;
	j = xcalloc(1, sizeof(*j));
	j->path = dir->path;
	j->path.kind = dir->path.kind == KIND_SELECTOR ? KIND_SELECTED : KIND_SELECTOR;
	strcpy(dir->path.kind == KIND_SELECTOR ? j->path.stream : j->path.tag, name);
	submit(req, find_and_reply, j, false);
	return true;
}

static void add_links(
	struct mount *m, struct op_listing *l, const struct api_job *j, const struct selection *s)
{
	struct place path = j->dir.path;
	struct stat st;

	path.kind = KIND_SELECTED;
	for (size_t i = j->offset > OP_COOKIE_BASE ? j->offset - OP_COOKIE_BASE : 0; i < s->n;
		i++) {
		if (strlen(s->names[i]) >= NAME_SIZE)
			continue;
		strcpy(path.stream, s->names[i]);
		if (namei_place(m, &path, &st) == 0 &&
			op_add_child(l, s->names[i], i + 1, &path, &st, 0))
			break;
	}
}

static void list_and_reply(struct pool_call *call, void *arg)
{
	_cleanup_free_ struct api_job *j = arg;
	_cleanup_selection_ struct selection *s = NULL;
	struct mount *m = op_mount(call->req);
	struct api_call api = op_api_call(call);
	struct op_listing l;
	int r = select_get(m, &api, &j->dir.path, j->offset > 0 ? SELECT_GOING_ON : SELECT_NOW, &s);

	pool_settle(call);
	if (op_listing_begin(&l, call->req, &j->dir, j->size, j->plus, j->offset) && r == 0)
		add_links(m, &l, j, s);
	op_listing_reply(&l, r < 0 ? verdict_errno(VERDICT_PATH, r) : 0);
	/* The kernel keeps listings by itself; this one is another one next time. */
	kernel_inval(m->kernel, j->id);
}

void op_select_list(fuse_req_t req, const struct namei_dir *dir, fuse_ino_t id, size_t size,
	off_t offset, bool plus)
{
	struct api_job *j = xcalloc(1, sizeof(*j));

	*j = (struct api_job){.path = dir->path,
		.dir = *dir,
		.id = id,
		.size = size,
		.offset = offset,
		.plus = plus};
	submit(req, list_and_reply, j, false);
}
