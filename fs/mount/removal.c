#include "fs/mount/removal.h"

#include <errno.h>

#define FOLLOWED_MAX 16 /* tags that follow each other */

struct removal {
	struct mount *mount;
	struct process_id who;
	const char *uid;
	const struct place *dir;
	const json_t *now, *before; /* the stream; as the process began with it, or NULL */
	bool left;
};

static struct attr_tag find_tag(const json_t *object, const char *name)
{
	char raw[NAME_SIZE];
	size_t len;

	return layout_unescape(name, raw, &len) == 0 ? attr_find_tag(object, raw, len)
						     : (struct attr_tag){0};
}

static bool is_in(const json_t *object, const struct place *place)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(ATTR_MAX);
	struct attr_tag tag;

	if (place->kind < KIND_TAG)
		return true; /* every stream has these */
	tag = find_tag(object, place->tag);
	if (place->kind == KIND_TAG)
		return tag.spec || tag.status;
	return layout_show(place->kind, object, &tag, &bytes) == 0;
}

/* A name that everybody sees. */
static bool note_left(void *arg, const char *name, uint64_t cookie, const struct place *path,
	const struct stat *st, double seconds)
{
	struct removal *r = arg;
	struct acts *acts = r->mount->acts;
	unsigned done = acts_of(acts, &r->who, r->uid, path);
	bool maker = acts_of(acts, &r->who, r->uid, r->dir) & ACT_MAKER;

	if (path->kind == KIND_SCRATCH)
		r->left = true;
	else if (!(done & ACT_REMOVED) && !(maker && !(done & ACT_MADE)))
		r->left = !r->before || is_in(r->before, path);
	return r->left;
}

static const json_t *newest_of(const json_t *history)
{
	return json_array_get(json_object_get(history, "items"), 0);
}

/* The name of the stream's own tag that the other one follows, or NULL. */
static const char *find_followed(const struct removal *r, const json_t *from)
{
	const char *kind = json_str(from, "kind"), *name = json_str(from, "name"),
		   *ns = json_str(from, "namespace");
	size_t len = strlen(r->dir->stream);

	if (!kind || !name || !streq(kind, "ImageStreamTag") ||
		(ns && *ns && !streq(ns, r->dir->ns)))
		return NULL;
	if (!strchr(name, ':'))
		return name;
	return strncmp(name, r->dir->stream, len) == 0 && name[len] == ':' ? name + len + 1 : NULL;
}

/* Whether the tag's images come from a registry: its own, or by those that it follows. */
static bool is_imported(const struct removal *r, const json_t *spec)
{
	const json_t *from = json_object_get(spec, "from");
	const char *name, *kind;

	for (int i = 0; i < FOLLOWED_MAX && (name = find_followed(r, from)); i++) {
		spec = attr_find_tag(r->now, name, strlen(name)).spec;
		if (!spec)
			spec = attr_find_tag(r->before, name, strlen(name)).spec;
		from = json_object_get(spec, "from");
	}
	kind = json_str(from, "kind");
	return kind && streq(kind, "DockerImage");
}

/* Whether the tag has an image that it hadn't, and that no import would bring again. */
static bool is_pushed(const struct removal *r, const json_t *history)
{
	const json_t *name = json_object_get(history, "tag"), *image = newest_of(history);
	struct attr_tag was, is;

	if (!json_is_string(name) || !image)
		return false;
	was = attr_find_tag(r->before, json_string_value(name), json_string_length(name));
	is = attr_find_tag(r->now, json_string_value(name), json_string_length(name));
	return !json_equal(image, newest_of(was.status)) && !is_imported(r, is.spec);
}

/* In the tag, or in any. */
static bool has_push(const struct removal *r)
{
	const json_t *tags = json_object_get(json_object_get(r->now, "status"), "tags"), *history;
	size_t i;

	if (r->dir->kind == KIND_TAG)
		return is_pushed(r, find_tag(r->now, r->dir->tag).status);
	json_array_foreach(tags, i, history)
		if (is_pushed(r, history))
			return true;
	return false;
}

bool removal_is_bare(const json_t *object, const struct place *dir)
{
	const json_t *metadata = json_object_get(object, "metadata");
	struct attr_tag tag = {0};

	if (dir->kind == KIND_TAG) {
		tag = find_tag(object, dir->tag);
		return json_object_size(json_object_get(tag.spec, "from")) == 0 &&
		       !newest_of(tag.status);
	}
	return dir->kind == KIND_STREAM &&
	       json_array_size(json_object_get(json_object_get(object, "spec"), "tags")) == 0 &&
	       json_array_size(json_object_get(json_object_get(object, "status"), "tags")) == 0 &&
	       json_object_size(json_object_get(metadata, "labels")) == 0 &&
	       json_object_size(json_object_get(metadata, "annotations")) == 0;
}

/* scratch_fn: also a file that was begun. */
static bool note_scratch(
	void *arg, const char *name, uint64_t cookie, enum kind kind, const struct stat *st)
{
	return *(bool *)arg = true;
}

int removal_check(struct mount *m, const struct namei_dir *dir, pid_t tid)
{
	_cleanup_view_ struct snapshot *snapshot =
		shown_snapshot(m->shown, dir->path.ns, dir->path.stream);
	_cleanup_object_ struct object *seen = NULL, *current = NULL;
	_cleanup_json_ json_t *now = NULL, *before = NULL;
	struct removal r = {.mount = m, .dir = &dir->path};

	if (!snapshot)
		return 0;
	current = store_get(m->store, snapshot->object->key); /* it may not be shown yet */
	now = object_cache_get(m->cache, current ? current : snapshot->object);
	if (removal_is_bare(now, &dir->path)) {
		scratch_list(m->inodes, dir->ino, 0, note_scratch, &r.left);
		return r.left ? -ENOTEMPTY : 0;
	}
	r.who = mergebase_who(m->bases, tid);
	r.uid = snapshot->object->uid;
	seen = acts_seen(m->acts, &r.who, r.uid);
	before = seen ? object_parse(seen) : NULL;
	r.now = now;
	r.before = before;
	namei_list(m, dir, 0, note_left, &r);
	return r.left || (before && has_push(&r)) ? -ENOTEMPTY : 0;
}
