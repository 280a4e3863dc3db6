#include "fs/tree/snapshot.h"

#include "client/map.h"
#include "client/yaml.h"
#include "fs/tree/order.h"

#include <errno.h>

#define YAML_FILE (KIND_IMAGESTREAM_YAML - STREAM_FILE)

struct snapshot *snapshot_ref(struct snapshot *v)
{
	atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
	return v;
}

static void index_free(struct snapshot_index *x)
{
	if (!x)
		return;
	for (size_t i = 0; i < x->ntags; i++) {
		free(x->tags[i].name);
		free(x->tags[i].raw);
	}
	free(x->tags);
	if (x->by_name)
		map_release(x->by_name);
	free(x->by_name);
	free(x);
}

void snapshot_unref(struct snapshot *v)
{
	if (!v || atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1)
		return;
	index_free(atomic_load(&v->index));
	object_unref(v->object);
	free(v);
}

/* Measures one file: whether it is there, its size, and a hash to tell changes by. */
static void measure(struct snapshot_file *f, enum kind kind, const json_t *object,
	const struct attr_tag *tag, int64_t mtime)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(ATTR_MAX);

	if (layout_show(kind, object, tag, &bytes) < 0)
		return;
	f->there = true;
	f->size = bytes.len;
	f->hash = hash_text(HASH_INIT, bytes.data, bytes.len);
	f->mtime = mtime;
}

/* The tag of that name, added where it is new. NULL where it can't be shown. */
static struct snapshot_tag *get_tag(
	struct snapshot_index *x, const struct snapshot *v, const json_t *name, struct map *seen)
{
	char file_name[NAME_SIZE];
	const char *raw = json_string_value(name);
	size_t len = json_string_length(name);
	struct snapshot_tag *t;
	int r;

	if (!raw)
		return NULL;
	r = layout_escape(raw, len, file_name);
	if (r < 0) {
		_cleanup_free_ char *path = xasprintf("%s/tags", v->object->key);
		_cleanup_free_ char *shown = str_excerpt(raw, len);
		_cleanup_free_ char *why =
			xasprintf("%s: a tag's name can't be a file name", shown);

		journal_add(v->journal, path, NULL, 0, -r, why);
		return NULL;
	}
	t = map_get(seen, file_name);
	if (t)
		return t;
	t = &x->tags[x->ntags++];
	*t = (struct snapshot_tag){.name = xstrdup(file_name),
		.raw = xmalloc(len + 1),
		.raw_len = len,
		.spec_at = SNAPSHOT_NOWHERE,
		.status_at = SNAPSHOT_NOWHERE};
	memcpy(t->raw, raw, len + 1);
	map_set(seen, t->name, t);
	return t;
}

static struct attr_tag elements_of(const struct snapshot_tag *t, const json_t *object)
{
	const json_t *spec = json_object_get(json_object_get(object, "spec"), "tags");
	const json_t *status = json_object_get(json_object_get(object, "status"), "tags");

	return (struct attr_tag){
		json_array_get(spec, t->spec_at), json_array_get(status, t->status_at)};
}

static int by_name(const void *a, const void *b)
{
	return strcmp(
		((const struct snapshot_tag *)a)->name, ((const struct snapshot_tag *)b)->name);
}

static int by_cookie(const void *a, const void *b)
{
	unsigned x = ((const struct snapshot_tag *)a)->cookie;
	unsigned y = ((const struct snapshot_tag *)b)->cookie;

	return x < y ? -1 : x > y;
}

/* The union of spec.tags and status.tags, sorted by name. */
static void collect_tags(struct snapshot_index *x, const struct snapshot *v, const json_t *object)
{
	const json_t *spec = json_object_get(json_object_get(object, "spec"), "tags");
	const json_t *status = json_object_get(json_object_get(object, "status"), "tags");
	const json_t *element;
	struct snapshot_tag *t;
	struct map seen = {0};
	size_t i;

	x->tags = xcalloc(json_array_size(spec) + json_array_size(status), sizeof(*x->tags));
	json_array_foreach(spec, i, element) {
		t = get_tag(x, v, json_object_get(element, "name"), &seen);
		if (t && t->spec_at == SNAPSHOT_NOWHERE)
			t->spec_at = i;
	}
	json_array_foreach(status, i, element) {
		t = get_tag(x, v, json_object_get(element, "tag"), &seen);
		if (t && t->status_at == SNAPSHOT_NOWHERE)
			t->status_at = i;
	}
	map_release(&seen);
	qsort(x->tags, x->ntags, sizeof(*x->tags), by_name);
}

/* Whether the file is the same in both versions, since the part that it shows is. */
static bool is_same_part(enum kind kind, const struct object *a, const struct object *b)
{
	switch (layout[kind].view) {
	case PATCH_SPEC:
	case PATCH_TAG_SPEC:
		return a->spec == b->spec;
	case PATCH_STATUS:
	case PATCH_TAG_STATUS:
		return a->status == b->status;
	default:
		return false;
	}
}

static const char *const part_names[SNAPSHOT_PARTS] = {
	[SNAPSHOT_METADATA] = "metadata",
	[SNAPSHOT_SPEC] = "spec",
	[SNAPSHOT_STATUS] = "status",
};

static bool has_part(const struct object *a, const struct object *b, enum snapshot_part part)
{
	return (part == SNAPSHOT_SPEC && a->spec == b->spec) ||
	       (part == SNAPSHOT_STATUS && a->status == b->status);
}

/*
 * imagestream.json: rendering it costs the most of all, so that its size is put together from those
 * of its parts. No two versions are the same in it, since it names its version.
 */
static void measure_imagestream(struct snapshot_index *x, const struct snapshot *v,
	const json_t *object, const struct snapshot_index *before, const struct object *old,
	int64_t mtime)
{
	struct snapshot_file *f = &x->files[0];
	const char *key;
	json_t *value;

	f->size = before ? before->files[0].size : ATTR_NO_MEMBERS;
	for (enum snapshot_part part = 0; part < SNAPSHOT_PARTS; part++) {
		value = json_object_get(object, part_names[part]);
		if (before && has_part(old, v->object, part))
			x->parts[part] = before->parts[part];
		else if (value)
			x->parts[part] = attr_member_size(part_names[part], value);
		f->size += x->parts[part] - (before ? before->parts[part] : 0);
	}
	json_object_foreach((json_t *)object, key, value) {
		if (!before && !streq(key, "metadata") && !streq(key, "spec") &&
			!streq(key, "status"))
			f->size += attr_member_size(key, value);
	}
	f->there = f->size <= ATTR_MAX;
	f->hash = hash_str(HASH_INIT, v->object->resource_version);
	f->mtime = mtime;
}

static void copy_tags(struct snapshot_index *x, const struct snapshot_index *before)
{
	x->tags = xcalloc(before->ntags, sizeof(*x->tags));
	x->ntags = before->ntags;
	for (size_t k = 0; k < x->ntags; k++) {
		const struct snapshot_tag *t = &before->tags[k];

		x->tags[k] = (struct snapshot_tag){.name = xstrdup(t->name),
			.raw = xmalloc(t->raw_len + 1),
			.raw_len = t->raw_len,
			.spec_at = t->spec_at,
			.status_at = t->status_at};
		memcpy(x->tags[k].raw, t->raw, t->raw_len + 1);
	}
}

static void measure_tag(struct snapshot_index *x, struct snapshot_tag *t, const struct snapshot *v,
	const json_t *object, const struct object *old, int64_t mtime)
{
	struct attr_tag tag = elements_of(t, object);

	t->cookie = ++x->counter;
	t->mtime = mtime;
	for (unsigned i = 0; i < TAG_FILES; i++)
		if (!old || !is_same_part(TAG_FILE + i, old, v->object))
			measure(&t->files[i], TAG_FILE + i, object, &tag, mtime);
}

/*
 * What a version looks like. What is the same as in `old`, whose index is `before` (both NULL:
 * there is none), isn't measured; where only metadata changed, nothing else is parsed.
 */
static struct snapshot_index *index_new(const struct snapshot *v,
	const struct snapshot_index *before, const struct object *old, int64_t mtime)
{
	struct snapshot_index *x = xcalloc(1, sizeof(*x));
	bool alone = old && has_part(old, v->object, SNAPSHOT_SPEC) &&
		     has_part(old, v->object, SNAPSHOT_STATUS) && old->rest == v->object->rest;
	_cleanup_json_ json_t *object =
		alone ? object_parse_metadata(v->object) : object_cache_get(v->cache, v->object);

	measure_imagestream(
		x, v, object, old && old->rest == v->object->rest ? before : NULL, old, mtime);
	for (unsigned i = 1; i < STREAM_FILES; i++)
		if (i != YAML_FILE && (!old || !is_same_part(STREAM_FILE + i, old, v->object)))
			measure(&x->files[i], STREAM_FILE + i, object, NULL, mtime);
	x->files[YAML_FILE] = x->files[0];
	if (alone)
		copy_tags(x, before);
	else
		collect_tags(x, v, object);
	for (size_t k = 0; k < x->ntags; k++)
		measure_tag(x, &x->tags[k], v, object, old, mtime);
	x->mtime = x->tags_mtime = mtime;
	return x;
}

static void index_names(struct snapshot_index *x)
{
	x->by_name = xcalloc(1, sizeof(*x->by_name));
	for (size_t i = 0; i < x->ntags; i++)
		map_set(x->by_name, x->tags[i].name, &x->tags[i]);
}

/* Later than before, whatever the clock says. */
static int64_t bump(int64_t old, int64_t now)
{
	return now > old ? now : old + 1;
}

static bool same_bytes(const struct snapshot_file *a, const struct snapshot_file *b)
{
	return a->there == b->there && a->size == b->size && a->hash == b->hash;
}

/* Carries what stays over from the old file; true when it came or went. */
static bool follow_file(
	struct snapshot_file *f, const struct snapshot_file *old, int64_t now, unsigned *counter)
{
	if (same_bytes(f, old)) {
		*f = *old;
		return false;
	}
	if (f->there)
		f->mtime = bump(old->mtime, now);
	f->born = f->there && !old->there ? ++*counter : old->born;
	return f->there != old->there;
}

static bool follow_part(struct snapshot_file *f, const struct snapshot_file *old, int64_t now,
	unsigned *counter, bool same)
{
	if (!same)
		return follow_file(f, old, now, counter);
	*f = *old;
	return false;
}

static void follow_tag(struct snapshot_index *x, struct snapshot_tag *t,
	const struct snapshot_tag *old, int64_t now, const struct object *old_object,
	const struct object *object)
{
	bool moved = false;

	t->cookie = old->cookie;
	t->born = old->born;
	for (unsigned i = 0; i < TAG_FILES; i++)
		moved |= follow_part(&t->files[i], &old->files[i], now, &x->counter,
			is_same_part(TAG_FILE + i, old_object, object));
	t->mtime = moved ? bump(old->mtime, now) : old->mtime;
}

static void new_tag(struct snapshot_index *x, struct snapshot_tag *t, int64_t now)
{
	t->cookie = t->born = ++x->counter;
	t->mtime = now;
	for (unsigned i = 0; i < TAG_FILES; i++)
		t->files[i].born = t->born;
}

static struct snapshot_index *index_follow(const struct snapshot *v,
	const struct snapshot_index *old, const struct object *old_object, const char *went,
	int64_t now)
{
	struct snapshot_index *x = index_new(v, old, old_object, now);
	size_t kept = 0;

	x->counter = old->counter;
	x->mtime = old->mtime; /* the names in STREAM/ are always the same */
	for (unsigned i = 0; i < STREAM_FILES; i++)
		follow_part(&x->files[i], &old->files[i], now, &x->counter,
			is_same_part(STREAM_FILE + i, old_object, v->object));
	for (size_t k = 0; k < x->ntags; k++) {
		const struct snapshot_tag *before = map_get(old->by_name, x->tags[k].name);

		if (before && went && streq(before->name, went))
			before = NULL;
		if (before)
			follow_tag(x, &x->tags[k], before, now, old_object, v->object);
		else
			new_tag(x, &x->tags[k], now);
		kept += before != NULL;
	}
	if (kept == x->ntags && kept == old->ntags)
		x->tags_mtime = old->tags_mtime;
	else
		x->tags_mtime = bump(old->tags_mtime, now);
	qsort(x->tags, x->ntags, sizeof(*x->tags), by_cookie);
	return x;
}

const struct snapshot_index *snapshot_index(struct snapshot *v)
{
	struct snapshot_index *x = atomic_load(&v->index), *expected = NULL;

	if (x)
		return x;
	x = index_new(v, NULL, NULL, v->object->newest);
	index_names(x);
	if (atomic_compare_exchange_strong(&v->index, &expected, x))
		return x;
	index_free(x); /* another was faster */
	return expected;
}

/* What has been measured of the old version and is the same in this one. */
static void keep_yaml(struct snapshot *v, const struct snapshot *old)
{
	for (enum snapshot_part part = 0; part < SNAPSHOT_PARTS; part++)
		if (has_part(old->object, v->object, part))
			atomic_init(&v->yaml_parts[part], atomic_load(&old->yaml_parts[part]));
	if (old->object->rest == v->object->rest)
		atomic_init(&v->yaml_rest, atomic_load(&old->yaml_rest));
}

struct snapshot *snapshot_new(struct object *object, struct snapshot *old, const char *went,
	unsigned generation, int64_t now, struct object_cache *cache, struct journal *journal)
{
	struct snapshot *v = xcalloc(1, sizeof(*v));

	atomic_init(&v->refs, 1);
	v->object = object_ref(object);
	v->generation = old ? old->generation : generation;
	v->cache = cache;
	v->journal = journal;
	if (old) {
		struct snapshot_index *x =
			index_follow(v, snapshot_index(old), old->object, went, now);

		index_names(x);
		atomic_init(&v->index, x);
		keep_yaml(v, old);
	}
	return v;
}

const struct snapshot_tag *snapshot_find_tag(struct snapshot *v, const char *name)
{
	return map_get(snapshot_index(v)->by_name, name);
}

static uint64_t tag_cookie(const void *tags, size_t i)
{
	return ((const struct snapshot_tag *)tags)[i].cookie;
}

size_t snapshot_tag_after(struct snapshot *v, uint64_t cookie)
{
	const struct snapshot_index *x = snapshot_index(v);

	return order_search(x->tags, x->ntags, tag_cookie, cookie);
}

int64_t snapshot_mtime(const struct snapshot *v)
{
	const struct snapshot_index *x = atomic_load(&v->index);

	return x ? x->mtime : v->object->newest;
}

static uint64_t ino_of(const struct snapshot *v, enum kind kind, const char *tag, unsigned born)
{
	return layout_ino(v->object->uid, kind, tag, (uint64_t)v->generation << 32 | born);
}

static int file_attr(const struct snapshot *v, enum kind kind, const char *tag,
	const struct snapshot_file *f, struct layout_attr *ret)
{
	if (!f->there)
		return -ENOENT;
	*ret = (struct layout_attr){ino_of(v, kind, tag, f->born), f->size, f->mtime, 1};
	return 0;
}

static int tag_attr(struct snapshot *v, enum kind kind, const char *tag, struct layout_attr *ret)
{
	const struct snapshot_tag *t = snapshot_find_tag(v, tag);

	if (!t)
		return -ENOENT;
	if (kind != KIND_TAG)
		return file_attr(v, kind, tag, &t->files[kind - TAG_FILE], ret);
	*ret = (struct layout_attr){ino_of(v, kind, tag, t->born), 0, t->mtime, 2};
	return 0;
}

int snapshot_stamp(struct snapshot *v, enum kind kind, const char *tag, struct layout_attr *ret)
{
	const struct snapshot_index *x;

	if (kind == KIND_STREAM) {
		*ret = (struct layout_attr){ino_of(v, kind, "", 0), 0, snapshot_mtime(v), 3};
		return 0;
	}
	if (kind >= KIND_TAG)
		return tag_attr(v, kind, tag, ret);
	x = snapshot_index(v);
	if (kind != KIND_TAGS)
		return file_attr(v, kind, "", &x->files[kind - STREAM_FILE], ret);
	*ret = (struct layout_attr){ino_of(v, kind, "", 0), 0, x->tags_mtime, 2 + x->ntags};
	return 0;
}

static int yaml_size_of(const json_t *members, uint64_t *ret)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT(ATTR_MAX);
	int r = yaml_show(members, &bytes);

	if (r == 0)
		*ret = bytes.len;
	return r;
}

/* A member's bytes are the same whatever stands beside it. Takes it out of `object`. */
static int yaml_part_size(
	struct snapshot *v, json_t *object, enum snapshot_part part, uint64_t *ret)
{
	const char *key = part_names[part];
	_cleanup_json_ json_t *alone = json_pack("{s:O*}", key, json_object_get(object, key));
	uint64_t size = atomic_load(&v->yaml_parts[part]);
	int r = 0;

	if (!size && json_object_size(alone))
		r = yaml_size_of(alone, &size);
	json_object_del(object, key);
	atomic_store(&v->yaml_parts[part], size);
	*ret = size;
	return r;
}

static int measure_yaml(struct snapshot *v, uint64_t *ret)
{
	uint64_t rest = atomic_load(&v->yaml_rest), sum = 0, size;
	bool alone = rest && atomic_load(&v->yaml_parts[SNAPSHOT_SPEC]) &&
		     atomic_load(&v->yaml_parts[SNAPSHOT_STATUS]);
	_cleanup_json_ json_t *object =
		alone ? object_parse_metadata(v->object) : object_cache_get(v->cache, v->object);
	_cleanup_json_ json_t *members = json_copy(object);
	int r = 0;

	for (enum snapshot_part part = 0; r == 0 && part < SNAPSHOT_PARTS; part++) {
		r = yaml_part_size(v, members, part, &size);
		sum += size;
	}
	if (r == 0 && !rest)
		r = yaml_size_of(members, &rest);
	if (r < 0)
		return r;
	atomic_store(&v->yaml_rest, rest);
	*ret = sum + rest;
	return 0;
}

static int yaml_size(struct snapshot *v, uint64_t *ret)
{
	uint64_t size = atomic_load(&v->yaml_size);
	int r = size ? 0 : measure_yaml(v, &size);

	if (r < 0)
		return r;
	atomic_store(&v->yaml_size, size);
	*ret = size;
	return 0;
}

int snapshot_attr(struct snapshot *v, enum kind kind, const char *tag, struct layout_attr *ret)
{
	int r = snapshot_stamp(v, kind, tag, ret);

	return r == 0 && kind == KIND_IMAGESTREAM_YAML ? yaml_size(v, &ret->size) : r;
}

int snapshot_show(struct snapshot *v, enum kind kind, const char *tag, struct buf *out)
{
	_cleanup_json_ json_t *object = object_cache_get(v->cache, v->object);
	struct attr_tag elements = {0};

	if (kind >= KIND_TAG) {
		const struct snapshot_tag *t = snapshot_find_tag(v, tag);

		if (!t)
			return -ENOENT;
		elements = elements_of(t, object);
	}
	return layout_show(kind, object, &elements, out);
}
