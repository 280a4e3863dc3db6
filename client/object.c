#include "client/object.h"

#include "client/buf.h"
#include "client/clock.h"
#include "client/cut.h"
#include "client/json.h"

#include <errno.h>
#include <pthread.h>

#define CACHE_SIZE 16
#define CACHE_TEXT ((size_t)4 << 20) /* all texts whose trees are held; a tree is ten times that */
#define KEPT_MAX   (2 * JSON_TEXT_MAX + 1024) /* a text, and its apiVersion again in front of it */

/* ---- the gate ---- */

static const char *name_problem(const char *s, size_t len)
{
	if (!s)
		return "is missing";
	if (len == 0)
		return "is empty";
	if (len > OBJECT_NAME_MAX)
		return "is longer than 255 bytes";
	if (memchr(s, '\0', len))
		return "holds a NUL";
	if (memchr(s, '/', len))
		return "holds a slash";
	return *s == '.' ? "begins with a dot" : NULL;
}

static const char *token_problem(const char *s, size_t len, size_t max)
{
	if (!s)
		return "is missing";
	if (len == 0)
		return "is empty";
	if (len > max)
		return "is longer than 128 bytes";
	for (size_t i = 0; i < len; i++)
		if (s[i] <= ' ' || s[i] > '~')
			return "isn't printable";
	return NULL;
}

static const char *uid_problem(const char *s, size_t len)
{
	return token_problem(s, len, OBJECT_UID_MAX);
}

static const char *version_problem(const char *s, size_t len)
{
	return token_problem(s, len, OBJECT_VERSION_MAX);
}

static void add_name(struct buf *out, const json_t *name)
{
	_cleanup_free_ char *shown = json_is_string(name) ? str_excerpt(json_string_value(name),
								    json_string_length(name))
							  : xstrdup("?");

	buf_addstr(out, shown);
}

/* NAMESPACE/NAME: WHAT PROBLEM. Nothing where nobody wants it. */
static void say(char **ret_why, const json_t *metadata, bool namespaced, const char *what,
	const char *problem)
{
	struct buf out = BUF_INIT(4096);

	if (!ret_why)
		return;
	if (namespaced) {
		add_name(&out, json_object_get(metadata, "namespace"));
		buf_addstr(&out, "/");
	}
	add_name(&out, json_object_get(metadata, "name"));
	buf_addf(&out, ": %s %s", what, problem);
	*ret_why = buf_steal(&out, NULL);
}

struct rule {
	const char *member;
	/* Of its text, NULL where it is none. NULL: it is fine. */
	const char *(*problem)(const char *s, size_t len);
};

enum { NAMESPACE, NAME, UID, VERSION, NAMES };

static const struct rule rules[NAMES] = {
	[NAMESPACE] = {"namespace", name_problem},
	[NAME] = {"name", name_problem},
	[UID] = {"uid", uid_problem},
	[VERSION] = {"resourceVersion", version_problem},
};

/* The rules from `first` to before `end`. */
static int check(const json_t *metadata, size_t first, size_t end, char **ret_why)
{
	for (size_t i = first; i < end; i++) {
		const json_t *value = json_object_get(metadata, rules[i].member);
		const char *problem =
			rules[i].problem(json_string_value(value), json_string_length(value));
		_cleanup_free_ char *what = xasprintf("metadata.%s", rules[i].member);

		if (problem) {
			say(ret_why, metadata, first == 0, what, problem);
			return -EINVAL;
		}
	}
	return 0;
}

int object_check_names(const json_t *metadata, char **ret_why)
{
	return check(metadata, NAMESPACE, NAMES, ret_why);
}

int object_check_namespace(const json_t *metadata, char **ret_why)
{
	return check(metadata, NAME, VERSION, ret_why);
}

/* Items of a list have no kind. */
static int check_kind(const json_t *json, char **ret_why)
{
	const char *kind = json_str(json, "kind");

	if (!kind || !*kind || streq(kind, "ImageStream"))
		return 0;
	say(ret_why, json_object_get(json, "metadata"), true, "its kind", "isn't ImageStream");
	return -EINVAL;
}

/* ---- what is kept ---- */

/* An object on its way in: what of it is looked at once. */
struct intake_names {
	char *text[NAMES];
	size_t len[NAMES];
};

static void names_release(struct intake_names *n)
{
	for (size_t i = 0; i < NAMES; i++)
		free(n->text[i]);
}

static bool read_names_of(const struct scan_value *metadata, struct intake_names *ret)
{
	bool fine = true;

	for (size_t i = 0; i < NAMES; i++) {
		ret->text[i] = scan_string(scan_find(metadata, rules[i].member), &ret->len[i]);
		fine = fine && !rules[i].problem(ret->text[i], ret->len[i]);
	}
	return fine;
}

/* The newest time so far; most of them are as long, so that a later one is a greater text. */
struct newest {
	const struct scan_value *value;
	int64_t time;
};

static void newer(struct newest *newest, const struct scan_value *value)
{
	const struct scan_value *last = newest->value;
	_cleanup_free_ char *text = NULL;
	size_t len;
	int64_t t;

	if (last && value && value->len == strlen("\"2026-01-01T00:00:00Z\"") &&
		last->len == value->len && memcmp(value->p, last->p, last->len) <= 0)
		return;
	text = scan_string(value, &len);
	if (!text || rfc3339_parse(text, &t) < 0 || t <= newest->time)
		return;
	*newest = (struct newest){value, t};
}

static void newer_of_each(struct newest *newest, const struct scan_value *list, const char *name)
{
	if (scan_is_array(list))
		scan_foreach(list, v)
			newer(newest, scan_find(v, name));
}

static void find_times(const struct scan_value *object, int64_t *ret_created, int64_t *ret_newest)
{
	const struct scan_value *metadata = scan_find(object, "metadata");
	const struct scan_value *tags = scan_find(scan_find(object, "status"), "tags");
	struct newest newest = {0};

	newer(&newest, scan_find(metadata, "creationTimestamp"));
	*ret_created = newest.time;
	newer_of_each(&newest, scan_find(metadata, "managedFields"), "time");
	if (scan_is_array(tags))
		scan_foreach(tags, tag)
			newer_of_each(&newest, scan_find(tag, "items"), "created");
	*ret_newest = newest.time;
}

static struct piece member_text(const struct scan_value *v)
{
	struct piece key = scan_key(v);

	return (struct piece){key.p, v->p + v->len - key.p};
}

/* metadata's members but managedFields. */
static void keep_metadata(struct buf *kept, const struct scan_value *metadata)
{
	const char *comma = "";

	buf_addstr(kept, ",\"metadata\":{");
	scan_foreach(metadata, v) {
		struct piece key = scan_key(v), member = member_text(v);

		if (cut_is(&key, "managedFields"))
			continue;
		buf_addstr(kept, comma);
		buf_add(kept, member.p, member.len);
		comma = ",";
	}
	buf_addstr(kept, "}");
}

static void keep_member(struct buf *kept, const struct scan_value *v)
{
	struct piece key = scan_key(v), member = member_text(v);

	if (cut_is(&key, "kind") || cut_is(&key, "apiVersion"))
		return;
	if (cut_is(&key, "metadata")) {
		keep_metadata(kept, v);
		return;
	}
	buf_add(kept, ",", 1);
	buf_add(kept, member.p, member.len);
}

/* kind and apiVersion in front, as the object has it, else what the list says. */
static void keep(struct buf *kept, const struct scan_value *object, const char *api_version)
{
	const struct scan_value *own = scan_find(object, "apiVersion");

	buf_reserve(kept, object->len + 128);
	buf_addstr(kept, "{\"kind\":\"ImageStream\",\"apiVersion\":");
	if (scan_is_string(own)) {
		buf_add(kept, own->p, own->len);
	} else { /* one of client/resource's, with nothing to escape */
		buf_addstr(kept, "\"");
		buf_addstr(kept, api_version);
		buf_addstr(kept, "\"");
	}
	scan_foreach(object, v)
		keep_member(kept, v);
	buf_addstr(kept, "}");
}

static const char *append(char **p, const char *s, size_t n)
{
	char *start = *p;

	memcpy(start, s, n);
	start[n] = '\0';
	*p += n + 1;
	return start;
}

static struct object *build(const struct intake_names *n, const struct buf *kept)
{
	struct object *o = xmalloc(sizeof(*o) + n->len[NAMESPACE] + n->len[NAME] + n->len[UID] +
				   n->len[VERSION] + kept->len + 5);
	char *p = o->bytes;

	atomic_init(&o->refs, 1);
	o->order = 0;
	o->status = 0;
	o->key = append(&p, n->text[NAMESPACE], n->len[NAMESPACE]);
	p[-1] = '/';
	o->name = append(&p, n->text[NAME], n->len[NAME]);
	o->uid = append(&p, n->text[UID], n->len[UID]);
	o->resource_version = append(&p, n->text[VERSION], n->len[VERSION]);
	o->text = append(&p, kept->data, kept->len);
	o->len = kept->len;
	return o;
}

/* NULL where what names it doesn't pass the gate. */
static struct object *object_from_scan(const struct scan_value *object, const char *api_version)
{
	_cleanup_(names_release) struct intake_names names = {0};
	const struct scan_value *status = scan_find(object, "status");
	_cleanup_buf_ struct buf kept = BUF_INIT(KEPT_MAX);
	struct object *o;

	if (!read_names_of(scan_find(object, "metadata"), &names))
		return NULL;
	keep(&kept, object, api_version);
	o = build(&names, &kept);
	if (status)
		o->status = hash_text(HASH_INIT, status->p, status->len);
	find_times(object, &o->created, &o->newest);
	return o;
}

static int from_json(
	const json_t *json, const char *api_version, struct object **ret, char **ret_why)
{
	const json_t *metadata = json_object_get(json, "metadata");
	_cleanup_buf_ struct buf text = BUF_INIT(JSON_TEXT_MAX);
	_cleanup_scan_ struct scan scan = SCAN_INIT;
	int r = object_check_names(metadata, ret_why);

	if (r == 0)
		r = check_kind(json, ret_why);
	if (r < 0)
		return r;
	r = buf_addjson(&text, json, JSON_COMPACT);
	if (r < 0) {
		say(ret_why, metadata, true, "the object",
			"is larger than 8 MiB when it is written out");
		return r;
	}
	scan_read_own(&scan, text.data, text.len);
	*ret = object_from_scan(scan.values, api_version);
	return 0;
}

int object_from_json(const json_t *json, const char *api_version, struct object **ret)
{
	return from_json(json, api_version, ret, NULL);
}

/* Whether a member of metadata is one of those that name an object, or keep it. */
static bool is_name(const struct piece *key)
{
	static const char *const names[] = {
		"namespace", "name", "uid", "resourceVersion", "finalizers"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (cut_is(key, names[i]))
			return true;
	return false;
}

static json_t *read_names(const struct piece *metadata)
{
	struct cut c = CUT_INIT(metadata->p, metadata->len);
	json_t *names = json_object();
	struct piece key, value;

	if (cut_enter(&c, '{') < 0)
		return names;
	while (cut_next(&c, '}') > 0 && cut_key(&c, &key) == 0 && cut_value(&c, &value) == 0) {
		json_t *json = is_name(&key) ? json_read_or_null(value.p, value.len,
						       JSON_ALLOW_NUL | JSON_DECODE_ANY)
					     : NULL;

		if (json)
			json_object_setn_new(names, key.p + 1, key.len - 2, json);
	}
	return names;
}

json_t *object_find_names(const char *text, size_t len)
{
	struct piece metadata;

	return cut_find(text, len, "metadata", &metadata) ? read_names(&metadata) : NULL;
}

struct object *object_from_plain(
	struct scan *scan, const char *text, size_t len, const char *api_version, size_t *ret_len)
{
	const struct scan_value *kind;

	if (!scan_read_first(scan, text, len))
		return NULL;
	kind = scan_find(scan->values, "kind");
	if (kind && !(kind->len == strlen("\"ImageStream\"") &&
			    memcmp(kind->p, "\"ImageStream\"", kind->len) == 0))
		return NULL;
	*ret_len = scan->values->len;
	return object_from_scan(scan->values, api_version);
}

int object_from_text(
	const char *text, size_t len, const char *api_version, struct object **ret, char **ret_why)
{
	_cleanup_json_ json_t *json = NULL, *metadata = NULL;
	_cleanup_free_ char *problem = NULL;
	_cleanup_scan_ struct scan scan = SCAN_INIT;
	size_t plain;
	int r;

	while (len && cut_is_space(text[len - 1])) /* an answer ends with a newline */
		len--;
	*ret = object_from_plain(&scan, text, len, api_version, &plain);
	if (*ret && plain == len)
		return 0;
	object_unref(*ret);
	*ret = NULL;
	r = json_read(text, len, JSON_ALLOW_NUL | JSON_DECODE_ANY, &json, &problem);
	if (r == 0)
		return from_json(json, api_version, ret, ret_why);
	metadata = ret_why && len ? object_find_names(text, len) : NULL;
	say(ret_why, metadata, true, "not read:", problem);
	return r;
}

bool object_is(const struct object *o, const char *ns, const char *name)
{
	return streq(o->name, name) && strlen(ns) == (size_t)(o->name - o->key - 1) &&
	       str_has_prefix(o->key, ns);
}

struct object *object_ref(struct object *o)
{
	atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
	return o;
}

char *object_key_namespace(const char *key)
{
	return xstrndup(key, strcspn(key, "/"));
}

void object_unref(struct object *o)
{
	if (o && atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) == 1)
		free(o);
}

/*
 * What is kept is what json_loadb took, or what jansson wrote of a tree that the same limits let
 * through (nothing in it is deeper, and no number that it read is too large for it): only memory
 * can be missing.
 */
static json_t *parse_kept(const char *text, size_t len)
{
	json_t *json = json_loadb(text, len, JSON_ALLOW_NUL, NULL);

	if (!json)
		abort();
	return json;
}

json_t *object_parse(const struct object *o)
{
	return parse_kept(o->text, o->len);
}

/* ---- one tag alone ---- */

struct wanted_tag {
	const char *name;
	size_t len;
};

static bool is_wanted(const struct wanted_tag *wanted, const struct scan_value *name)
{
	size_t len;
	_cleanup_free_ char *text = scan_string(name, &len);

	return !text || (len == wanted->len && memcmp(text, wanted->name, len) == 0);
}

/* Between elements or members, not before the first one. */
static void add_comma(struct buf *out)
{
	if (!strchr("{[", out->data[out->len - 1]))
		buf_addstr(out, ",");
}

static void add_wanted(struct buf *out, const struct scan_value *list, const char *key,
	const struct wanted_tag *wanted)
{
	buf_addstr(out, "[");
	scan_foreach(list, v) {
		if (!is_wanted(wanted, scan_find(v, key)))
			continue;
		add_comma(out);
		buf_add(out, v->p, v->len);
	}
	buf_addstr(out, "]");
}

static void add_key(struct buf *out, const struct scan_value *v)
{
	struct piece key = scan_key(v);

	add_comma(out);
	buf_add(out, key.p, key.len);
	buf_addstr(out, ":");
}

/* Spec or status. */
static void add_with_tag(struct buf *out, const struct scan_value *object, const char *key,
	const struct wanted_tag *wanted)
{
	buf_addstr(out, "{");
	scan_foreach(object, v) {
		struct piece name = scan_key(v);

		add_key(out, v);
		if (cut_is(&name, "tags") && scan_is_array(v))
			add_wanted(out, v, key, wanted);
		else
			buf_add(out, v->p, v->len);
	}
	buf_addstr(out, "}");
}

json_t *object_parse_tag(const struct object *o, const char *tag, size_t len)
{
	struct wanted_tag wanted = {tag, len};
	_cleanup_buf_ struct buf out = BUF_INIT(KEPT_MAX);
	_cleanup_scan_ struct scan scan = SCAN_INIT;

	scan_read_own(&scan, o->text, o->len);
	buf_addstr(&out, "{");
	scan_foreach(scan.values, v) {
		struct piece name = scan_key(v);

		add_key(&out, v);
		if (cut_is(&name, "spec") && scan_is_object(v))
			add_with_tag(&out, v, "name", &wanted);
		else if (cut_is(&name, "status") && scan_is_object(v))
			add_with_tag(&out, v, "tag", &wanted);
		else
			buf_add(&out, v->p, v->len);
	}
	buf_addstr(&out, "}");
	return parse_kept(out.data, out.len);
}

struct slot {
	struct object *object;
	json_t *json;
	uint64_t used;
};

struct object_cache {
	pthread_mutex_t lock;
	struct slot slots[CACHE_SIZE]; /* lock */
	size_t text;		       /* lock; of all slots */
	uint64_t clock;		       /* lock */
};

struct object_cache *object_cache_new(void)
{
	struct object_cache *c = xcalloc(1, sizeof(*c));

	pthread_mutex_init(&c->lock, NULL);
	return c;
}

static void slot_clear(struct object_cache *c, struct slot *s)
{
	if (!s->object)
		return;
	c->text -= s->object->len;
	json_decref(s->json);
	object_unref(s->object);
	*s = (struct slot){0};
}

void object_cache_free(struct object_cache *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < CACHE_SIZE; i++)
		slot_clear(c, &c->slots[i]);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static struct slot *cache_find(struct object_cache *c, const struct object *o)
{
	for (size_t i = 0; i < CACHE_SIZE; i++)
		if (c->slots[i].object == o)
			return &c->slots[i];
	return NULL;
}

static struct slot *cache_oldest(struct object_cache *c)
{
	struct slot *oldest = NULL;

	for (size_t i = 0; i < CACHE_SIZE; i++)
		if (c->slots[i].object && (!oldest || c->slots[i].used < oldest->used))
			oldest = &c->slots[i];
	return oldest;
}

static void cache_add(struct object_cache *c, struct object *o, json_t *json)
{
	struct slot *s;

	while (c->text && c->text + o->len > CACHE_TEXT)
		slot_clear(c, cache_oldest(c));
	s = cache_find(c, NULL);
	if (!s) {
		s = cache_oldest(c);
		slot_clear(c, s);
	}
	*s = (struct slot){object_ref(o), json_incref(json), ++c->clock};
	c->text += o->len;
}

json_t *object_cache_get(struct object_cache *c, struct object *o)
{
	struct slot *s;
	json_t *json = NULL;

	pthread_mutex_lock(&c->lock);
	s = cache_find(c, o);
	if (s) {
		s->used = ++c->clock;
		json = json_incref(s->json);
	}
	pthread_mutex_unlock(&c->lock);
	if (json)
		return json;
	json = object_parse(o);
	pthread_mutex_lock(&c->lock);
	if (!cache_find(c, o))
		cache_add(c, o, json);
	pthread_mutex_unlock(&c->lock);
	return json;
}
