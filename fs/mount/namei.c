#include "fs/mount/namei.h"

#include "client/clock.h"
#include "fs/mount/modes.h"

#include <errno.h>
#include <inttypes.h>

/* Cookies of what is shown stay below; those of scratch come after. */
#define SCRATCH_COOKIES (UINT64_C(1) << 40)

static void fill_stat(const struct mount *m, const struct place *path,
	const struct layout_attr *attr, uint64_t ino, struct stat *st)
{
	*st = (struct stat){
		.st_ino = ino,
		.st_mode = modes_of(m, path),
		.st_nlink = attr->nlink,
		.st_uid = m->uid,
		.st_gid = m->gid,
		.st_size = attr->size,
		.st_blocks = (attr->size + 511) / 512,
		.st_blksize = 4096,
		.st_mtim = timespec_from_ns(attr->mtime),
	};
	st->st_atim = st->st_ctim = st->st_mtim;
}

/* What lies in the directory beside what is shown. */
static void add_scratch(struct mount *m, struct stat *st)
{
	unsigned subdirs;
	int64_t mtime = scratch_dir_mtime(m->inodes, st->st_ino, &subdirs);

	st->st_nlink += subdirs;
	if (mtime > timespec_to_ns(&st->st_mtim)) {
		st->st_mtim = timespec_from_ns(mtime);
		st->st_atim = st->st_ctim = st->st_mtim;
	}
}

static bool holds_scratch(enum kind kind)
{
	return kind == KIND_STREAM || kind == KIND_TAG;
}

static unsigned subdirectories(enum kind dir)
{
	unsigned n = 0;

	for (enum kind kind = KIND_ROOT + 1; kind < KIND_COUNT; kind++)
		n += layout[kind].parent == dir && layout_is_directory(kind) && layout[kind].name;
	return n;
}

/* A directory .api stands and falls with the one that it is in. -ENOENT. */
static int api_stat(struct mount *m, const struct place *path, struct stat *st)
{
	struct layout_attr attr = {.mtime = m->started, .nlink = 1}, owner = {0};
	struct place dir = *path;
	_cleanup_free_ char *base = NULL, *target = NULL;
	bool link = path->kind == KIND_SELECTED;

	if (layout_is_directory(path->kind))
		attr.nlink = 2 + subdirectories(path->kind);
	while (layout_is_api(dir.kind))
		dir.kind = layout[dir.kind].parent;
	if (dir.kind == KIND_ROOT && path->ns[0])
		dir.kind = KIND_NAMESPACE; /* the table knows one place of selections */
	if (shown_attr(m->shown, &dir, &owner) < 0)
		return -ENOENT;
	base = xasprintf("%" PRIx64 "/.api/%s", owner.ino, link ? path->stream : "");
	if (link) {
		target = layout_target(path);
		attr.size = strlen(target);
	}
	fill_stat(m, path, &attr,
		layout_ino(base, path->kind, layout_is_selected(path->kind) ? path->tag : "", 0),
		st);
	return 0;
}

int namei_place(struct mount *m, const struct place *path, struct stat *ret)
{
	return api_stat(m, path, ret);
}

int namei_stat(struct mount *m, const struct place *path, uint64_t ino, struct stat *ret)
{
	_cleanup_inode_ struct inode *n = NULL;
	_cleanup_view_ struct snapshot *last = NULL;
	struct layout_attr attr;

	if (layout_is_api(path->kind)) {
		if (api_stat(m, path, ret) == 0 && ret->st_ino == ino)
			return 0;
		attr = (struct layout_attr){.mtime = m->started}; /* gone: a process has it open */
		fill_stat(m, path, &attr, ino, ret);
		return 0;
	}
	if (path->kind == KIND_SCRATCH) {
		n = scratch_get(m->inodes, ino);
		if (!n)
			return -ENOENT;
		scratch_stat(m->inodes, n, ret);
		return 0;
	}
	if (shown_attr(m->shown, path, &attr) == 0 && inode_at(m->inodes, attr.ino, NULL) == ino) {
		fill_stat(m, path, &attr, ino, ret);
		if (holds_scratch(path->kind))
			add_scratch(m, ret);
		return 0;
	}
	if (inode_is_pending(m->inodes, ino, namei_parent(m, path)))
		attr = (struct layout_attr){.mtime = m->started, .nlink = 1};
	else if (layout_is_directory(path->kind))
		attr = (struct layout_attr){.mtime = m->started}; /* gone: a process stands in it */
	else if ((last = inode_last(m->inodes, ino)) &&
		 snapshot_attr(last, path->kind, path->tag, &attr) == 0)
		attr.nlink = 0;
	else if (!handle_last_attr(m->inodes, ino, &attr))
		return -ENOENT;
	fill_stat(m, path, &attr, ino, ret);
	return 0;
}

int namei_check(struct mount *m, const struct place *path, uint64_t ino)
{
	bool is_file = layout_is_stream_file(path->kind) || layout_is_tag_file(path->kind);
	_cleanup_view_ struct snapshot *v = is_file ? shown_snapshot_at(m->shown, path) : NULL;
	struct layout_attr attr;
	struct stat st;

	if (v && snapshot_stamp(v, path->kind, path->tag, &attr) == 0 &&
		inode_at(m->inodes, attr.ino, NULL) == ino)
		return 0;
	return namei_stat(m, path, ino, &st);
}

/* Where a real child of that name is. False where the directory has none of that name. */
static bool child_path(const struct place *dir, const char *name, struct place *ret)
{
	char *target;

	*ret = *dir;
	ret->kind = layout_child(dir->kind, name);
	if (ret->kind != KIND_COUNT)
		return true;
	switch (dir->kind) {
	case KIND_ROOT:
		ret->kind = KIND_NAMESPACE;
		target = ret->ns;
		break;
	case KIND_NAMESPACE:
		ret->kind = KIND_STREAM;
		target = ret->stream;
		break;
	case KIND_TAGS:
		ret->kind = KIND_TAG;
		target = ret->tag;
		break;
	default:
		return false;
	}
	strcpy(target, name);
	return true;
}

static void find_real(struct mount *m, const struct namei_dir *dir, struct name *n)
{
	struct layout_attr attr;
	uint64_t ino;

	if (layout_is_api(n->path.kind)) {
		/* Without opens there are no files that are made at each open. */
		if (!m->noopen && api_stat(m, &n->path, &n->st) == 0)
			n->first = n->ino = n->st.st_ino;
		return;
	}
	if (shown_attr(m->shown, &n->path, &attr) == 0) {
		n->first = attr.ino;
		ino = inode_at(m->inodes, attr.ino, &n->hidden);
		if (n->hidden) {
			n->seconds = 0;
			return;
		}
		n->ino = ino;
		fill_stat(m, &n->path, &attr, n->ino, &n->st);
		if (holds_scratch(n->path.kind))
			add_scratch(m, &n->st);
	} else if (dir->path.kind == KIND_TAG) {
		n->vacant = true;
		n->ino = inode_pending(m->inodes, dir->ino, n->path.kind);
		attr = (struct layout_attr){.mtime = m->started, .nlink = 1};
		if (n->ino) {
			fill_stat(m, &n->path, &attr, n->ino, &n->st);
			n->seconds = 0;
		}
	}
}

/* A directory of an object that went: what stands at its path now is another one. */
static bool is_gone(struct mount *m, const struct namei_dir *dir)
{
	struct layout_attr attr;

	if (dir->path.kind < KIND_STREAM || dir->path.kind > KIND_TAG)
		return false;
	return shown_attr(m->shown, &dir->path, &attr) < 0 ||
	       inode_at(m->inodes, attr.ino, NULL) != dir->ino;
}

static bool is_in_stream(enum kind kind)
{
	return kind == KIND_STREAM || kind == KIND_TAGS || kind == KIND_TAG;
}

/* In a directory that a process made, that doesn't see what it hasn't made there. */
static void look_as(struct mount *m, const struct namei_dir *dir, pid_t tid, struct name *n)
{
	_cleanup_view_ struct snapshot *snapshot = NULL;
	struct process_id who;
	const char *uid;

	if (!acts_any(m->acts) || !is_in_stream(dir->path.kind))
		return;
	snapshot = shown_snapshot(m->shown, dir->path.ns, dir->path.stream);
	uid = snapshot ? snapshot->object->uid : "";
	if (!acts_have_maker(m->acts, uid, &dir->path))
		return;
	n->seconds = 0;
	if (!tid || layout_is_api(n->path.kind))
		return;
	if (n->path.kind == KIND_TAG_IMAGE && n->vacant) /* nobody else asks */
		n->copied = acts_are_copy(m->acts, tid, uid, &n->path);
	who = mergebase_who(m->bases, tid);
	if (!n->ino || !(acts_of(m->acts, &who, uid, &dir->path) & ACT_MAKER) ||
		(acts_of(m->acts, &who, uid, &n->path) & ACT_MADE))
		return;
	n->absent = true;
	n->ino = 0;
}

int namei_find(
	struct mount *m, const struct namei_dir *dir, const char *name, pid_t tid, struct name *ret)
{
	struct name n = {.seconds = m->seconds};

	if (strlen(name) >= NAME_SIZE)
		return -ENAMETOOLONG;
	if (child_path(&dir->path, name, &n.path) && !is_gone(m, dir)) {
		find_real(m, dir, &n);
		look_as(m, dir, tid, &n);
	}
	if (!n.ino && (holds_scratch(dir->path.kind) || dir->path.kind == KIND_SCRATCH)) {
		n.scratch = scratch_lookup(m->inodes, dir->ino, name);
		/* What the program itself puts there and takes away. */
		if (n.scratch || n.hidden || rejects_is_kept(&dir->path, name))
			n.seconds = 0;
		if (n.scratch) {
			n.ino = scratch_ino(n.scratch);
			scratch_stat(m->inodes, n.scratch, &n.st);
		}
	}
	*ret = n;
	return 0;
}

void name_release(struct name *n)
{
	inode_unpin(n->scratch);
}

bool namei_takes_scratch(struct mount *m, const struct namei_dir *dir)
{
	struct stat st;

	if (!holds_scratch(dir->path.kind) && dir->path.kind != KIND_SCRATCH)
		return false;
	return namei_stat(m, &dir->path, dir->ino, &st) == 0 && S_ISDIR(st.st_mode) && st.st_nlink;
}

uint64_t namei_parent(struct mount *m, const struct place *path)
{
	struct place parent = *path;
	struct layout_attr attr;

	parent.kind = layout[path->kind].parent;
	if (shown_attr(m->shown, &parent, &attr) < 0)
		return 0;
	return inode_at(m->inodes, attr.ino, NULL);
}

/* Whether a process made the directory, and is at it. */
static bool has_maker(struct mount *m, const struct place *dir)
{
	_cleanup_view_ struct snapshot *snapshot = NULL;

	if (!acts_any(m->acts) || !is_in_stream(dir->kind))
		return false;
	snapshot = shown_snapshot(m->shown, dir->ns, dir->stream);
	return snapshot && acts_have_maker(m->acts, snapshot->object->uid, dir);
}

void namei_note_act(struct mount *m, const struct place *place, pid_t tid, unsigned act)
{
	_cleanup_view_ struct snapshot *snapshot = NULL;
	struct process_id who;

	if (act == ACT_MADE && !acts_any(m->acts))
		return;
	snapshot = shown_snapshot(m->shown, place->ns, place->stream);
	if (!snapshot)
		return;
	if (act & ACT_MADE)
		acts_note_made(m->acts, tid, snapshot->object->uid, place);
	who = mergebase_who(m->bases, tid);
	if (acts_note(m->acts, &who, snapshot->object->uid, place, act,
		    act == ACT_REMOVED ? snapshot->object : NULL))
		publish_wake(m->publisher); /* it is to be forgotten after a while */
}

/* ---- listings ---- */

struct listing {
	struct mount *mount;
	namei_fn *fn;
	void *arg;
	const struct namei_dir *dir;
	struct place path; /* of scratch children */
	double seconds;	   /* how long names of it stay true */
	bool stop;
};

static bool add_real(void *arg, const char *name, uint64_t cookie, const struct place *path,
	const struct layout_attr *attr)
{
	struct listing *l = arg;
	struct stat st;
	uint64_t ino;
	bool hidden;

	ino = inode_at(l->mount->inodes, attr->ino, &hidden);
	if (hidden)
		return false;
	fill_stat(l->mount, path, attr, ino, &st);
	if (holds_scratch(path->kind))
		add_scratch(l->mount, &st);
	l->stop = l->fn(l->arg, name, cookie, path, &st, l->seconds);
	return l->stop;
}

/* A file that was created and not saved yet: if the object still has none. */
static void add_pending(struct listing *l, const char *name, uint64_t cookie)
{
	_cleanup_name_ struct name n = {0};

	if (namei_find(l->mount, l->dir, name, 0, &n) == 0 && !n.first && n.ino && !n.scratch)
		l->stop = l->fn(l->arg, name, cookie, &n.path, &n.st, 0);
}

static bool add_made(
	void *arg, const char *name, uint64_t cookie, enum kind kind, const struct stat *st)
{
	struct listing *l = arg;

	if (kind == KIND_SCRATCH)
		l->stop = l->fn(l->arg, name, SCRATCH_COOKIES + cookie, &l->path, st, 0);
	else
		add_pending(l, name, SCRATCH_COOKIES + cookie);
	return l->stop;
}

static void list_api(struct listing *l, const struct place *dir, uint64_t cookie)
{
	struct place path = *dir;
	struct stat st;

	for (enum kind kind = KIND_ROOT + 1; kind < KIND_COUNT && !l->stop; kind++) {
		path.kind = kind;
		if (layout[kind].parent != dir->kind || !layout[kind].name || kind <= cookie ||
			api_stat(l->mount, &path, &st) < 0)
			continue;
		l->stop = l->fn(l->arg, layout[kind].name, kind, &path, &st, l->mount->seconds);
	}
}

int namei_list(
	struct mount *m, const struct namei_dir *dir, uint64_t cookie, namei_fn *fn, void *arg)
{
	struct listing l = {.mount = m,
		.fn = fn,
		.arg = arg,
		.dir = dir,
		.path = dir->path,
		.seconds = has_maker(m, &dir->path) ? 0 : m->seconds};
	int r = 0;

	l.path.kind = KIND_SCRATCH;
	if (layout_is_api(dir->path.kind)) {
		list_api(&l, &dir->path, cookie);
		return 0;
	}
	if (is_gone(m, dir))
		return 0;
	if (dir->path.kind != KIND_SCRATCH && cookie < SCRATCH_COOKIES)
		r = shown_list(m->shown, &dir->path, cookie, add_real, &l);
	if ((holds_scratch(dir->path.kind) || dir->path.kind == KIND_SCRATCH) && !l.stop)
		scratch_list(m->inodes, dir->ino,
			cookie > SCRATCH_COOKIES ? cookie - SCRATCH_COOKIES : 0, add_made, &l);
	return r;
}

char *namei_text(const struct place *path)
{
	const char *name = layout[path->kind].name;
	bool tag = path->kind == KIND_TAG || layout_is_tag_file(path->kind) ||
		   layout[path->kind].parent == KIND_TAG_API;

	const char *api = !layout_is_api(path->kind) || layout_is_directory(path->kind) ? ""
			  : path->ns[0]							? "/.api"
											: ".api";

	return xasprintf("%s%s%s%s%s%s%s%s", path->ns, path->stream[0] ? "/" : "", path->stream,
		tag ? "/tags/" : "", tag ? path->tag : "", api,
		name && path->kind != KIND_TAG ? "/" : "",
		name && path->kind != KIND_TAG ? name : "");
}
