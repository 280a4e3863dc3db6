#include "fs/names.h"

#include "fs/modes.h"
#include "fs/select.h"

#include <errno.h>
#include <inttypes.h>

/* Cookies of what is published stay below; those of scratch come after. */
#define SCRATCH_COOKIES (UINT64_C(1) << 40)

static void fill_stat(const struct mount *m, const struct tree_path *path,
	const struct tree_attr *attr, uint64_t ino, struct stat *st)
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
		.st_mtim = {attr->mtime / NSEC_PER_SEC, attr->mtime % NSEC_PER_SEC},
	};
	st->st_atim = st->st_ctim = st->st_mtim;
}

/* What lies in the directory beside what is published. */
static void add_scratch(struct mount *m, struct stat *st)
{
	unsigned subdirs;
	int64_t mtime = scratch_dir_mtime(m->scratch, st->st_ino, &subdirs);

	st->st_nlink += subdirs;
	if (mtime > st->st_mtim.tv_sec * NSEC_PER_SEC + st->st_mtim.tv_nsec) {
		st->st_mtim = (struct timespec){mtime / NSEC_PER_SEC, mtime % NSEC_PER_SEC};
		st->st_atim = st->st_ctim = st->st_mtim;
	}
}

static bool holds_scratch(enum node_kind kind)
{
	return kind == NODE_STREAM || kind == NODE_TAG;
}

static unsigned subdirectories(enum node_kind dir)
{
	unsigned n = 0;

	for (enum node_kind kind = NODE_ROOT + 1; kind < NODE_KINDS; kind++)
		n += tree_nodes[kind].parent == dir && tree_nodes[kind].directory &&
		     tree_nodes[kind].name;
	return n;
}

/* A directory .api stands and falls with the one that it is in. -ENOENT. */
static int api_stat(struct mount *m, const struct tree_path *path, struct stat *st)
{
	struct tree_attr attr = {.mtime = m->started, .nlink = 1}, owner = {0};
	struct tree_path dir = *path;
	_cleanup_free_ char *base = NULL, *target = NULL;
	bool link = path->kind == NODE_SELECTED;

	if (tree_nodes[path->kind].directory)
		attr.nlink = 2 + subdirectories(path->kind);
	while (tree_is_api(dir.kind))
		dir.kind = tree_nodes[dir.kind].parent;
	if (dir.kind == NODE_ROOT && path->namespace[0])
		dir.kind = NODE_NAMESPACE; /* the table knows one place of selections */
	if (published_attr(m->published, &dir, &owner) < 0)
		return -ENOENT;
	base = xasprintf("%" PRIx64 "/.api/%s", owner.ino, link ? path->stream : "");
	if (link) {
		target = select_target(path);
		attr.size = strlen(target);
	}
	fill_stat(m, path, &attr,
		tree_ino(base, path->kind, select_is_part(path->kind) ? path->tag : "", 0), st);
	return 0;
}

int names_place(struct mount *m, const struct tree_path *path, struct stat *ret)
{
	return api_stat(m, path, ret);
}

uint64_t names_slot(struct mount *m, const struct tree_path *path)
{
	_cleanup_view_ struct view *view = NULL;
	struct tree_path tag = *path;

	if (path->kind < NODE_TAG_SPEC || path->kind > NODE_TAG_IMAGE)
		return 0;
	tag.kind = NODE_TAG;
	view = published_view_at(m->published, &tag);
	return view ? view_slot(view, path->kind, path->tag) : 0;
}

int names_stat(struct mount *m, const struct tree_path *path, uint64_t ino, struct stat *ret)
{
	_cleanup_scratch_ struct scratch_node *n = NULL;
	_cleanup_view_ struct view *last = NULL;
	struct tree_attr attr;

	if (tree_is_api(path->kind)) {
		if (api_stat(m, path, ret) == 0 && ret->st_ino == ino)
			return 0;
		attr = (struct tree_attr){.mtime = m->started}; /* gone: somebody has it open */
		fill_stat(m, path, &attr, ino, ret);
		return 0;
	}
	if (path->kind == NODE_SCRATCH) {
		n = scratch_get(m->scratch, ino);
		if (!n)
			return -ENOENT;
		scratch_stat(m->scratch, n, ret);
		return 0;
	}
	if (published_attr(m->published, path, &attr) == 0 &&
		overlay_ino(m->overlay, attr.ino) == ino) {
		fill_stat(m, path, &attr, ino, ret);
		if (holds_scratch(path->kind))
			add_scratch(m, ret);
		return 0;
	}
	if (overlay_pending(m->overlay, names_slot(m, path)) == ino)
		attr = (struct tree_attr){.mtime = m->started, .nlink = 1};
	else if (tree_nodes[path->kind].directory)
		attr = (struct tree_attr){.mtime = m->started}; /* gone: somebody stands in it */
	else if ((last = node_last(m->nodes, ino)) &&
		 view_attr(last, path->kind, path->tag, &attr) == 0)
		attr.nlink = 0;
	else if (!file_last_attr(m->files, ino, &attr))
		return -ENOENT;
	fill_stat(m, path, &attr, ino, ret);
	return 0;
}

/* Where a real child of that name is. False where the directory has none of that name. */
static bool child_path(const struct tree_path *dir, const char *name, struct tree_path *ret)
{
	char *target;

	*ret = *dir;
	ret->kind = tree_child(dir->kind, name);
	if (ret->kind != NODE_KINDS)
		return true;
	switch (dir->kind) {
	case NODE_ROOT:
		ret->kind = NODE_NAMESPACE;
		target = ret->namespace;
		break;
	case NODE_NAMESPACE:
		ret->kind = NODE_STREAM;
		target = ret->stream;
		break;
	case NODE_TAGS:
		ret->kind = NODE_TAG;
		target = ret->tag;
		break;
	default:
		return false;
	}
	strcpy(target, name);
	return true;
}

static void find_real(struct mount *m, struct name *n)
{
	struct tree_attr attr;

	if (tree_is_api(n->path.kind)) {
		/* Without opens there are no files that are made at each open. */
		if (!m->noopen && api_stat(m, &n->path, &n->st) == 0)
			n->place = n->ino = n->st.st_ino;
		return;
	}
	if (published_attr(m->published, &n->path, &attr) == 0) {
		n->place = attr.ino;
		n->hidden = overlay_is_hidden(m->overlay, attr.ino);
		if (n->hidden) {
			n->seconds = 0;
			return;
		}
		n->ino = overlay_ino(m->overlay, attr.ino);
		fill_stat(m, &n->path, &attr, n->ino, &n->st);
		if (holds_scratch(n->path.kind))
			add_scratch(m, &n->st);
	} else if ((n->slot = names_slot(m, &n->path))) {
		n->ino = overlay_pending(m->overlay, n->slot);
		attr = (struct tree_attr){.mtime = m->started, .nlink = 1};
		if (n->ino) {
			fill_stat(m, &n->path, &attr, n->ino, &n->st);
			n->seconds = 0;
		}
	}
}

/* A directory of an object that went: what stands at its path now is another one. */
static bool is_gone(struct mount *m, const struct names_dir *dir)
{
	struct tree_attr attr;

	if (dir->path.kind < NODE_STREAM || dir->path.kind > NODE_TAG)
		return false;
	return published_attr(m->published, &dir->path, &attr) < 0 ||
	       overlay_ino(m->overlay, attr.ino) != dir->ino;
}

int names_find(struct mount *m, const struct names_dir *dir, const char *name, struct name *ret)
{
	struct name n = {.seconds = m->seconds};

	if (strlen(name) >= NAME_SIZE)
		return -ENAMETOOLONG;
	if (child_path(&dir->path, name, &n.path) && !is_gone(m, dir))
		find_real(m, &n);
	if (!n.ino && (holds_scratch(dir->path.kind) || dir->path.kind == NODE_SCRATCH)) {
		n.scratch = scratch_lookup(m->scratch, dir->ino, name);
		/* What the program itself puts there and takes away. */
		if (n.scratch || n.hidden || refused_is_kept(&dir->path, name))
			n.seconds = 0;
		if (n.scratch) {
			n.ino = scratch_ino(n.scratch);
			scratch_stat(m->scratch, n.scratch, &n.st);
		}
	}
	*ret = n;
	return 0;
}

void name_release(struct name *n)
{
	scratch_unref(n->scratch);
}

bool names_takes_scratch(struct mount *m, const struct names_dir *dir)
{
	struct stat st;

	if (!holds_scratch(dir->path.kind) && dir->path.kind != NODE_SCRATCH)
		return false;
	return names_stat(m, &dir->path, dir->ino, &st) == 0 && S_ISDIR(st.st_mode) && st.st_nlink;
}

uint64_t names_parent(struct mount *m, const struct tree_path *path)
{
	struct tree_path parent = *path;
	struct tree_attr attr;

	parent.kind = tree_nodes[path->kind].parent;
	if (published_attr(m->published, &parent, &attr) < 0)
		return 0;
	return overlay_ino(m->overlay, attr.ino);
}

/* ---- listings ---- */

struct listing {
	struct mount *mount;
	names_fn *fn;
	void *arg;
	struct tree_path path; /* of scratch children */
	bool stop;
};

static bool add_real(void *arg, const char *name, uint64_t cookie, const struct tree_path *path,
	const struct tree_attr *attr)
{
	struct listing *l = arg;
	struct stat st;

	if (overlay_is_hidden(l->mount->overlay, attr->ino))
		return false;
	fill_stat(l->mount, path, attr, overlay_ino(l->mount->overlay, attr->ino), &st);
	if (holds_scratch(path->kind))
		add_scratch(l->mount, &st);
	l->stop = l->fn(l->arg, name, cookie, path, &st, l->mount->seconds);
	return l->stop;
}

static bool add_scratch_child(void *arg, const char *name, uint64_t cookie, const struct stat *st)
{
	struct listing *l = arg;

	l->stop = l->fn(l->arg, name, SCRATCH_COOKIES + cookie, &l->path, st, 0);
	return l->stop;
}

static void list_api(struct listing *l, const struct tree_path *dir, uint64_t cookie)
{
	struct tree_path path = *dir;
	struct stat st;

	for (enum node_kind kind = NODE_ROOT + 1; kind < NODE_KINDS && !l->stop; kind++) {
		path.kind = kind;
		if (tree_nodes[kind].parent != dir->kind || !tree_nodes[kind].name ||
			kind <= cookie || api_stat(l->mount, &path, &st) < 0)
			continue;
		l->stop = l->fn(l->arg, tree_nodes[kind].name, kind, &path, &st, l->mount->seconds);
	}
}

/* Files that were created and not saved yet: where the object has none. */
static void list_pending(struct listing *l, const struct names_dir *dir, uint64_t cookie)
{
	for (enum node_kind kind = NODE_TAG_SPEC; kind <= NODE_TAG_STATUS && !l->stop; kind++) {
		_cleanup_name_ struct name n = {0};

		if (kind + SCRATCH_COOKIES / 2 <= cookie ||
			names_find(l->mount, dir, tree_nodes[kind].name, &n) < 0)
			continue;
		if (!n.place && n.ino && !n.scratch)
			l->stop = l->fn(l->arg, tree_nodes[kind].name, kind + SCRATCH_COOKIES / 2,
				&n.path, &n.st, 0);
	}
}

int names_list(
	struct mount *m, const struct names_dir *dir, uint64_t cookie, names_fn *fn, void *arg)
{
	struct listing l = {.mount = m, .fn = fn, .arg = arg, .path = dir->path};
	int r = 0;

	l.path.kind = NODE_SCRATCH;
	if (tree_is_api(dir->path.kind)) {
		list_api(&l, &dir->path, cookie);
		return 0;
	}
	if (is_gone(m, dir))
		return 0;
	if (dir->path.kind != NODE_SCRATCH && cookie < SCRATCH_COOKIES / 2)
		r = published_list(m->published, &dir->path, cookie, add_real, &l);
	if (dir->path.kind == NODE_TAG && !l.stop && cookie < SCRATCH_COOKIES &&
		overlay_has_pending(m->overlay))
		list_pending(&l, dir, cookie);
	if ((holds_scratch(dir->path.kind) || dir->path.kind == NODE_SCRATCH) && !l.stop)
		scratch_list(m->scratch, dir->ino,
			cookie > SCRATCH_COOKIES ? cookie - SCRATCH_COOKIES : 0, add_scratch_child,
			&l);
	return r;
}

char *names_text(const struct tree_path *path)
{
	const char *name = tree_nodes[path->kind].name;
	bool tag = (path->kind >= NODE_TAG && path->kind <= NODE_TAG_IMAGE) ||
		   path->kind == NODE_TAG_IMPORT;

	const char *api = !tree_is_api(path->kind) || tree_nodes[path->kind].directory ? ""
			  : path->namespace[0]					       ? "/.api"
										       : ".api";

	return xasprintf("%s%s%s%s%s%s%s%s", path->namespace, path->stream[0] ? "/" : "",
		path->stream, tag ? "/tags/" : "", tag ? path->tag : "", api,
		name && path->kind != NODE_TAG ? "/" : "",
		name && path->kind != NODE_TAG ? name : "");
}
