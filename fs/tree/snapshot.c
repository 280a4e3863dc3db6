#include "fs/tree/snapshot.h"

#include "client/yamltext.h"
#include "fs/tree/order.h"

#include <errno.h>

struct snapshot *snapshot_ref(struct snapshot *v)
{
	atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
	return v;
}

static void index_free(struct snapshot_index *x)
{
	for (size_t i = 0; i < x->ntags; i++) {
		free(x->tags[i].name);
		free(x->tags[i].raw);
	}
	free(x->tags);
	map_release(&x->by_name);
	free(x);
}

void snapshot_index_unref(struct snapshot_index *x)
{
	if (x && atomic_fetch_sub_explicit(&x->refs, 1, memory_order_acq_rel) == 1)
		index_free(x);
}

static struct snapshot_index *index_ref(struct snapshot_index *x)
{
	atomic_fetch_add_explicit(&x->refs, 1, memory_order_relaxed);
	return x;
}

/* ---- the indexes that were made lately ---- */

#define RECENT 512

struct indexes {
	struct journal *journal;
	pthread_mutex_t lock;
	struct {
		struct snapshot *of; /* lock; its `recent` points here */
		struct snapshot_index *index;
	} recent[RECENT];
	size_t next; /* lock; the place that is used next */
};

struct indexes *indexes_new(struct journal *journal)
{
	struct indexes *s = xcalloc(1, sizeof(*s));

	s->journal = journal;
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

void indexes_free(struct indexes *s)
{
	if (!s)
		return;
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* s->lock held. Empties a place; its index, for the caller. */
static struct snapshot_index *take_recent(struct indexes *s, size_t at)
{
	struct snapshot_index *x = s->recent[at].index;

	if (s->recent[at].of)
		s->recent[at].of->recent = 0;
	s->recent[at].of = NULL;
	s->recent[at].index = NULL;
	return x;
}

/* A new reference, or NULL. */
static struct snapshot_index *find_recent(struct indexes *s, const struct snapshot *v)
{
	struct snapshot_index *x = NULL;

	pthread_mutex_lock(&s->lock);
	if (v->recent)
		x = index_ref(s->recent[v->recent - 1].index);
	pthread_mutex_unlock(&s->lock);
	return x;
}

/* Takes a reference of its own. */
static void keep_recent(struct indexes *s, struct snapshot *v, struct snapshot_index *x)
{
	struct snapshot_index *old = NULL;

	pthread_mutex_lock(&s->lock);
	if (!v->recent) { /* no other thread was faster */
		size_t at = s->next++ % RECENT;

		old = take_recent(s, at);
		s->recent[at].of = v;
		s->recent[at].index = index_ref(x);
		v->recent = at + 1;
	}
	pthread_mutex_unlock(&s->lock);
	snapshot_index_unref(old);
}

static void forget_recent(struct indexes *s, struct snapshot *v)
{
	struct snapshot_index *old = NULL;

	pthread_mutex_lock(&s->lock);
	if (v->recent)
		old = take_recent(s, v->recent - 1);
	pthread_mutex_unlock(&s->lock);
	snapshot_index_unref(old);
}

void snapshot_unref(struct snapshot *v)
{
	if (!v || atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1)
		return;
	forget_recent(v->indexes, v);
	snapshot_index_unref(v->index);
	object_unref(v->object);
	free(v);
}

/* ---- what a version looks like ---- */

static const struct snapshot_tag *find_tag(const struct snapshot_index *x, const char *name)
{
	return map_get(&x->by_name, name);
}

/* Measures one file: whether it is there, its size, and a hash to tell changes by. */
static void measure(struct snapshot_file *f, enum kind kind, const struct scan_value *object,
	const struct attr_elements *tag, int64_t mtime)
{
	struct attr_sink to = {.hash = HASH_INIT};

	if (layout_put(kind, object, tag, &to) < 0 || to.size > ATTR_MAX)
		return;
	*f = (struct snapshot_file){
		.there = true, .size = to.size, .hash = to.hash, .mtime = mtime};
}

static void tell_of_name(struct snapshot *v, const char *raw, size_t len, int error)
{
	_cleanup_free_ char *path = xasprintf("%s/tags", v->object->key);
	_cleanup_free_ char *shown = str_excerpt(raw, len);
	_cleanup_free_ char *why = xasprintf("%s: a tag's name can't be a file name", shown);

	if (!v->told)
		journal_add(v->indexes->journal, path, NULL, 0, error, why);
}

/* The tag of that name, added where it is new. NULL where it can't be shown. */
static struct snapshot_tag *get_tag(struct snapshot_index *x, struct snapshot *v,
	const struct scan_value *name, struct map *seen)
{
	char file_name[NAME_SIZE];
	size_t len;
	_cleanup_free_ char *raw = scan_string(name, &len);
	struct snapshot_tag *t;
	int r;

	if (!raw)
		return NULL;
	r = layout_escape(raw, len, file_name);
	if (r < 0) {
		tell_of_name(v, raw, len, -r);
		return NULL;
	}
	t = map_get(seen, file_name);
	if (t)
		return t;
	t = &x->tags[x->ntags++];
	*t = (struct snapshot_tag){.name = xstrdup(file_name),
		.raw = steal_ptr(raw),
		.raw_len = len,
		.spec_at = SNAPSHOT_NOWHERE,
		.status_at = SNAPSHOT_NOWHERE};
	map_set(seen, t->name, t);
	return t;
}

/* An element in a scan of the whole text; NULL where it is nowhere. */
static const struct scan_value *find_at(const struct scan *scan, const struct object *o, size_t at)
{
	return at == SNAPSHOT_NOWHERE ? NULL : scan_at(scan, o->text + at);
}

/* The same by itself, read into the scan. */
static const struct scan_value *read_at(struct scan *scan, const struct object *o, size_t at)
{
	if (at == SNAPSHOT_NOWHERE)
		return NULL;
	scan_read_own(scan, o->text + at, o->len - at);
	return scan->values;
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

enum element { ELEMENT_SPEC, ELEMENT_STATUS };

/* Each tag of the list that its elements call `key`. */
static void collect(struct snapshot_index *x, struct snapshot *v, const struct scan_value *list,
	const char *key, enum element element, struct map *seen)
{
	if (!scan_is_array(list))
		return;
	scan_foreach(list, e) {
		struct snapshot_tag *t = get_tag(x, v, scan_find(e, key), seen);
		size_t *at = !t ? NULL : element == ELEMENT_SPEC ? &t->spec_at : &t->status_at;

		if (at && *at == SNAPSHOT_NOWHERE)
			*at = e->p - v->object->text;
	}
}

static size_t count(const struct scan_value *list)
{
	size_t n = 0;

	if (scan_is_array(list))
		scan_foreach(list, e)
			n++;
	return n;
}

/* The union of spec.tags and status.tags, sorted by name. */
static void collect_tags(
	struct snapshot_index *x, struct snapshot *v, const struct scan_value *object)
{
	const struct scan_value *spec = scan_find(scan_find(object, "spec"), "tags");
	const struct scan_value *status = scan_find(scan_find(object, "status"), "tags");
	struct map seen = {0};

	x->tags = xcalloc(count(spec) + count(status), sizeof(*x->tags));
	collect(x, v, spec, "name", ELEMENT_SPEC, &seen);
	collect(x, v, status, "tag", ELEMENT_STATUS, &seen);
	map_release(&seen);
	qsort(x->tags, x->ntags, sizeof(*x->tags), by_name);
}

/* No two versions are the same in the whole, since it names its version. */
static void measure_whole(struct snapshot_file *f, const struct object *o,
	const struct scan_value *object, int64_t mtime)
{
	*f = (struct snapshot_file){.there = object->size < ATTR_MAX,
		.size = object->size + strlen("\n"),
		.hash = hash_str(HASH_INIT, o->resource_version),
		.mtime = mtime};
}

/* The element, in the text of another version; NULL: nowhere. */
static bool same_element(const struct scan_value *element, const struct object *o, size_t at)
{
	if (!element || at == SNAPSHOT_NOWHERE)
		return !element && at == SNAPSHOT_NOWHERE;
	return element->len <= o->len - at && memcmp(element->p, o->text + at, element->len) == 0;
}

/* A version, to say again of another one what is the same in both. */
struct earlier {
	const struct snapshot *v;
	const struct snapshot_index *index;
};

/* A file of the same part: what measure would find. */
static void measure_again(struct snapshot_file *f, const struct snapshot_file *same, int64_t mtime)
{
	if (same->there)
		*f = (struct snapshot_file){
			.there = true, .size = same->size, .hash = same->hash, .mtime = mtime};
}

/*
 * A file tells of its part of the object alone (layout_put): where that has the same bytes, so has
 * the file. (Parts are objects, whose bytes tell where they end.)
 */
static void measure_stream(struct snapshot_index *x, const struct object *o,
	const struct scan_value *object, const struct earlier *earlier, int64_t mtime)
{
	for (unsigned i = 0; i < STREAM_FILES; i++) {
		enum patch_view view = layout[STREAM_FILE + i].view;
		const struct scan_value *part = attr_part(view, object, NULL);
		bool is_text = part->p >= o->text && part->p < o->text + o->len;

		x->parts[i] = is_text ? (size_t)(part->p - o->text) : SNAPSHOT_NOWHERE;
		if (view == PATCH_IMAGESTREAM)
			measure_whole(&x->files[i], o, object, mtime);
		else if (earlier && same_element(is_text ? part : NULL, earlier->v->object,
					    earlier->index->parts[i]))
			measure_again(&x->files[i], &earlier->index->files[i], mtime);
		else
			measure(&x->files[i], STREAM_FILE + i, object, NULL, mtime);
	}
}

/* An element that names its tag is an object, too. */
static void measure_tag(struct snapshot_tag *t, const struct scan_value *object,
	const struct attr_elements *elements, const struct earlier *earlier, int64_t mtime)
{
	const struct snapshot_tag *old = earlier ? find_tag(earlier->index, t->name) : NULL;
	bool same = old && same_element(elements->spec, earlier->v->object, old->spec_at) &&
		    same_element(elements->status, earlier->v->object, old->status_at);

	for (unsigned i = 0; i < TAG_FILES; i++)
		if (same)
			measure_again(&t->files[i], &old->files[i], mtime);
		else
			measure(&t->files[i], TAG_FILE + i, object, elements, mtime);
}

/* What a version looks like by itself. `earlier`: another one, or NULL. */
static struct snapshot_index *index_new(
	struct snapshot *v, const struct earlier *earlier, int64_t mtime)
{
	struct snapshot_index *x = xcalloc(1, sizeof(*x));
	_cleanup_scan_ struct scan scan = SCAN_INIT;

	scan_read_own(&scan, v->object->text, v->object->len);
	measure_stream(x, v->object, scan.values, earlier, mtime);
	collect_tags(x, v, scan.values);
	for (size_t k = 0; k < x->ntags; k++) {
		struct snapshot_tag *t = &x->tags[k];
		struct attr_elements elements = {find_at(&scan, v->object, t->spec_at),
			find_at(&scan, v->object, t->status_at)};

		t->cookie = ++x->counter;
		t->mtime = mtime;
		measure_tag(t, scan.values, &elements, earlier, mtime);
	}
	x->mtime = x->tags_mtime = mtime;
	atomic_init(&x->refs, 1);
	v->told = true;
	return x;
}

static void index_names(struct snapshot_index *x)
{
	for (size_t i = 0; i < x->ntags; i++)
		map_set(&x->by_name, x->tags[i].name, &x->tags[i]);
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

static void follow_tag(struct snapshot_index *x, struct snapshot_tag *t,
	const struct snapshot_tag *old, int64_t now)
{
	bool moved = false;

	t->cookie = old->cookie;
	t->born = old->born;
	for (unsigned i = 0; i < TAG_FILES; i++)
		moved |= follow_file(&t->files[i], &old->files[i], now, &x->counter);
	t->mtime = moved ? bump(old->mtime, now) : old->mtime;
}

static void new_tag(struct snapshot_index *x, struct snapshot_tag *t, int64_t now)
{
	t->cookie = t->born = ++x->counter;
	t->mtime = now;
	for (unsigned i = 0; i < TAG_FILES; i++)
		t->files[i].born = t->born;
}

static struct snapshot_index *index_follow(
	struct snapshot *v, const struct earlier *earlier, const char *went, int64_t now)
{
	const struct snapshot_index *old = earlier->index;
	struct snapshot_index *x = index_new(v, earlier, now);
	size_t kept = 0;

	x->counter = old->counter;
	x->mtime = old->mtime; /* the names in STREAM/ are always the same */
	for (unsigned i = 0; i < STREAM_FILES; i++)
		follow_file(&x->files[i], &old->files[i], now, &x->counter);
	for (size_t k = 0; k < x->ntags; k++) {
		const struct snapshot_tag *before = find_tag(old, x->tags[k].name);

		if (before && went && streq(before->name, went))
			before = NULL;
		if (before)
			follow_tag(x, &x->tags[k], before, now);
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

struct snapshot_index *snapshot_index(struct snapshot *v)
{
	struct snapshot_index *x;

	if (v->index)
		return index_ref(v->index);
	x = find_recent(v->indexes, v);
	if (x)
		return x;
	x = index_new(v, NULL, v->object->newest);
	index_names(x);
	keep_recent(v->indexes, v, x);
	return x;
}

struct snapshot *snapshot_new(struct object *object, struct snapshot *old, const char *went,
	unsigned generation, int64_t now, struct indexes *indexes)
{
	struct snapshot *v = xcalloc(1, sizeof(*v));

	atomic_init(&v->refs, 1);
	v->object = object_ref(object);
	v->generation = old ? old->generation : generation;
	v->indexes = indexes;
	if (old) {
		_cleanup_index_ struct snapshot_index *before = snapshot_index(old);

		v->index = index_follow(v, &(struct earlier){old, before}, went, now);
		index_names(v->index);
	}
	return v;
}

bool snapshot_has_tag(const struct snapshot_index *x, const struct snapshot_tag *t)
{
	const struct snapshot_tag *same = find_tag(x, t->name);
	bool has = same && same->born == t->born;

	for (unsigned i = 0; has && i < TAG_FILES; i++) {
		const struct snapshot_file *a = &same->files[i], *b = &t->files[i];

		has = a->there == b->there &&
		      (!a->there || (a->born == b->born && a->mtime == b->mtime));
	}
	return has;
}

unsigned snapshot_tag_cookie(struct snapshot *v, const char *tag)
{
	_cleanup_index_ struct snapshot_index *x = snapshot_index(v);
	const struct snapshot_tag *t = find_tag(x, tag);

	return t ? t->cookie : 0;
}

static uint64_t tag_cookie(const void *tags, size_t i)
{
	return ((const struct snapshot_tag *)tags)[i].cookie;
}

size_t snapshot_tag_after(const struct snapshot_index *x, uint64_t cookie)
{
	return order_search(x->tags, x->ntags, tag_cookie, cookie);
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

static int tag_attr(const struct snapshot *v, enum kind kind, const char *tag,
	const struct snapshot_index *x, struct layout_attr *ret)
{
	const struct snapshot_tag *t = find_tag(x, tag);

	if (!t)
		return -ENOENT;
	if (kind != KIND_TAG)
		return file_attr(v, kind, tag, &t->files[kind - TAG_FILE], ret);
	*ret = (struct layout_attr){ino_of(v, kind, tag, t->born), 0, t->mtime, 2};
	return 0;
}

int snapshot_stamp(struct snapshot *v, enum kind kind, const char *tag, struct layout_attr *ret)
{
	_cleanup_index_ struct snapshot_index *x = NULL;

	if (kind == KIND_STREAM) { /* without an index where none is kept */
		int64_t mtime = v->index ? v->index->mtime : v->object->newest;

		*ret = (struct layout_attr){ino_of(v, kind, "", 0), 0, mtime, 3};
		return 0;
	}
	x = snapshot_index(v);
	if (kind >= KIND_TAG)
		return tag_attr(v, kind, tag, x, ret);
	if (kind != KIND_TAGS)
		return file_attr(v, kind, "", &x->files[kind - STREAM_FILE], ret);
	*ret = (struct layout_attr){ino_of(v, kind, "", 0), 0, x->tags_mtime, 2 + x->ntags};
	return 0;
}

/* The text itself tells it, without a scan. */
static uint64_t yaml_size(struct snapshot *v)
{
	uint64_t size = atomic_load(&v->yaml_size);

	if (!size) {
		size = yamltext_size(v->object->text, v->object->len);
		atomic_store(&v->yaml_size, size);
	}
	return size;
}

int snapshot_attr(struct snapshot *v, enum kind kind, const char *tag, struct layout_attr *ret)
{
	int r = snapshot_stamp(v, kind, tag, ret);

	if (r == 0 && kind == KIND_IMAGESTREAM_YAML)
		ret->size = yaml_size(v);
	return r;
}

static int show_tag(
	const struct object *o, const struct snapshot_tag *t, enum kind kind, struct attr_sink *to)
{
	_cleanup_scan_ struct scan spec = SCAN_INIT, status = SCAN_INIT;
	struct attr_elements elements = {
		read_at(&spec, o, t->spec_at), read_at(&status, o, t->status_at)};

	return layout_put(kind, NULL, &elements, to);
}

int snapshot_show(struct snapshot *v, enum kind kind, const char *tag, struct buf *out)
{
	_cleanup_index_ struct snapshot_index *x = kind >= KIND_TAG ? snapshot_index(v) : NULL;
	const struct snapshot_tag *t = x ? find_tag(x, tag) : NULL;
	_cleanup_scan_ struct scan scan = SCAN_INIT;
	struct attr_sink to = {.bytes = out};

	if (t)
		return show_tag(v->object, t, kind, &to);
	if (kind >= KIND_TAG)
		return -ENOENT;
	scan_read_own(&scan, v->object->text, v->object->len);
	return layout_put(kind, scan.values, NULL, &to);
}
