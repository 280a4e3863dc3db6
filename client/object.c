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

static const char *name_problem(const json_t *name)
{
	const char *s = json_string_value(name);
	size_t len = json_string_length(name);

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

static const char *token_problem(const json_t *token, size_t max)
{
	const char *s = json_string_value(token);
	size_t len = json_string_length(token);

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

static const char *uid_problem(const json_t *uid)
{
	return token_problem(uid, OBJECT_UID_MAX);
}

static const char *version_problem(const json_t *version)
{
	return token_problem(version, OBJECT_VERSION_MAX);
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
	const char *(*problem)(const json_t *value); /* NULL: it is fine */
};

static const struct rule rules[] = {
	{"namespace", name_problem},
	{"name", name_problem},
	{"uid", uid_problem},
	{"resourceVersion", version_problem},
};

/* The rules from `first` to before `end`. */
static int check(const json_t *metadata, size_t first, size_t end, char **ret_why)
{
	for (size_t i = first; i < end; i++) {
		const char *problem = rules[i].problem(json_object_get(metadata, rules[i].member));
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
	return check(metadata, 0, ARRAY_SIZE(rules), ret_why);
}

int object_check_namespace(const json_t *metadata, char **ret_why)
{
	return check(metadata, 1, 3, ret_why); /* name and uid */
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

static void newer(int64_t *newest, const json_t *object, const char *key)
{
	const char *s = json_str(object, key);
	int64_t t;

	if (s && rfc3339_parse(s, &t) == 0 && t > *newest)
		*newest = t;
}

static int64_t newest_time(const json_t *json, int64_t newest)
{
	const json_t *fields = json_object_get(json_object_get(json, "metadata"), "managedFields");
	const json_t *tags = json_object_get(json_object_get(json, "status"), "tags");
	const json_t *entry;
	size_t i;

	json_array_foreach(fields, i, entry)
		newer(&newest, entry, "time");
	json_array_foreach(tags, i, entry) {
		const json_t *item;
		size_t k;

		json_array_foreach(json_object_get(entry, "items"), k, item)
			newer(&newest, item, "created");
	}
	return newest;
}

/* apiVersion as the object has it, else what the list says. */
static json_t *version_of(const json_t *json, const char *api_version)
{
	json_t *own = json_object_get(json, "apiVersion");

	return json_is_string(own) ? json_incref(own) : json_string(api_version);
}

static json_t *object_tree(const json_t *json, const char *api_version)
{
	json_t *metadata = json_copy(json_object_get(json, "metadata"));
	json_t *copy = json_pack(
		"{s:s, s:o}", "kind", "ImageStream", "apiVersion", version_of(json, api_version));
	const char *key;
	json_t *value;

	json_object_del(metadata, "managedFields");
	json_object_foreach((json_t *)json, key, value) {
		if (streq(key, "metadata"))
			json_object_set(copy, key, metadata);
		else if (!streq(key, "kind") && !streq(key, "apiVersion"))
			json_object_set(copy, key, value);
	}
	json_decref(metadata);
	return copy;
}

static const char *append(char **p, const char *s, size_t n)
{
	char *start = *p;

	memcpy(start, s, n);
	start[n] = '\0';
	*p += n + 1;
	return start;
}

static struct object *object_build(const json_t *metadata, const char *ns, const struct buf *text)
{
	const char *name = json_str(metadata, "name"), *uid = json_str(metadata, "uid");
	const char *rv = json_str(metadata, "resourceVersion");
	_cleanup_free_ char *key = xasprintf("%s/%s", ns, name);
	struct object *o =
		xmalloc(sizeof(*o) + strlen(key) + strlen(uid) + strlen(rv) + text->len + 4);
	char *p = o->bytes;

	atomic_init(&o->refs, 1);
	o->order = 0;
	o->key = append(&p, key, strlen(key));
	o->name = o->key + strlen(ns) + 1;
	o->uid = append(&p, uid, strlen(uid));
	o->resource_version = append(&p, rv, strlen(rv));
	o->text = append(&p, text->data, text->len);
	o->len = text->len;
	return o;
}

/* What is kept of a text, and the hashes of its parts. */
struct kept {
	struct buf text;
	uint64_t spec, status, rest;
	size_t members, metadata; /* how many keys the text has at the top, and in metadata */
	bool escaped; /* one of them is spelled with a backslash: perhaps it is one that counts */
};

static void keep_member(struct kept *k, const char *p, size_t len)
{
	buf_add(&k->text, ",", 1);
	buf_add(&k->text, p, len);
}

static int keep_key(struct kept *k, struct cut *c, size_t *count, struct piece *ret)
{
	int r = cut_key(c, ret);

	if (r == 0) {
		++*count;
		k->escaped |= memchr(ret->p, '\\', ret->len) != NULL;
	}
	return r;
}

/* metadata's members but managedFields. */
static int keep_metadata(struct kept *k, struct cut *c, const struct piece *name)
{
	struct piece key = {0}, value = {0};
	const char *comma = "";
	int r = cut_enter(c, '{');

	keep_member(k, name->p, name->len);
	buf_addstr(&k->text, ":{");
	while (r == 0 && (r = cut_next(c, '}')) > 0) {
		r = keep_key(k, c, &k->metadata, &key);
		if (r == 0)
			r = cut_value(c, &value);
		if (r == 0 && !cut_is(&key, "managedFields")) {
			buf_addstr(&k->text, comma);
			buf_add(&k->text, key.p, value.p + value.len - key.p);
			comma = ",";
		}
	}
	buf_addstr(&k->text, "}");
	return r;
}

static int keep_members(struct kept *k, struct cut *c)
{
	struct piece key = {0}, value = {0};
	int r = cut_enter(c, '{');

	while (r == 0 && (r = cut_next(c, '}')) > 0) {
		r = keep_key(k, c, &k->members, &key);
		if (r == 0 && cut_is(&key, "metadata")) {
			r = keep_metadata(k, c, &key);
			continue;
		}
		if (r == 0)
			r = cut_value(c, &value);
		if (r < 0 || cut_is(&key, "kind") || cut_is(&key, "apiVersion"))
			continue;
		if (cut_is(&key, "spec"))
			k->spec = hash_text(HASH_INIT, value.p, value.len);
		else if (cut_is(&key, "status"))
			k->status = hash_text(HASH_INIT, value.p, value.len);
		else
			k->rest = hash_text(k->rest, key.p, value.p + value.len - key.p);
		keep_member(k, key.p, value.p + value.len - key.p);
	}
	return r;
}

/*
 * The text with kind and apiVersion in front and without managedFields. False where the text isn't
 * compact, or its members aren't those of `json` one by one (a name comes twice, or is spelled in
 * another way than everybody does): then it has to be written anew. `own`: we wrote it.
 */
static bool keep(struct kept *k, const json_t *json, const char *text, size_t len,
	const char *api_version, bool own)
{
	_cleanup_json_ json_t *version = version_of(json, api_version);
	struct cut c = CUT_INIT(text, len);

	*k = (struct kept){.text = BUF_INIT(KEPT_MAX), .spec = HASH_INIT, .status = HASH_INIT};
	buf_reserve(&k->text, len + 128);
	buf_addstr(&k->text, "{\"kind\":\"ImageStream\",\"apiVersion\":");
	buf_addjson(&k->text, version, JSON_COMPACT | JSON_ENCODE_ANY);
	k->rest = hash_text(HASH_INIT, k->text.data, k->text.len);
	if (keep_members(k, &c) < 0 || c.spaces)
		return false;
	buf_addstr(&k->text, "}");
	return (own || !k->escaped) && k->members == json_object_size(json) &&
	       k->metadata == json_object_size(json_object_get(json, "metadata"));
}

/*
 * The text of what is kept of `json`, which was parsed from `text` (NULL: from nothing that is at
 * hand).
 */
static int keep_text(
	struct kept *ret, const json_t *json, const char *text, size_t len, const char *api_version)
{
	_cleanup_buf_ struct buf dump = BUF_INIT(JSON_TEXT_MAX);
	int r;

	if (text && keep(ret, json, text, len, api_version, false))
		return 0;
	buf_release(&ret->text);
	r = buf_addjson(&dump, json, JSON_COMPACT);
	if (r == 0 && !keep(ret, json, dump.data, dump.len, api_version, true))
		r = -EINVAL;
	return r;
}

/* `text` is what `json` was parsed from, or NULL. */
static int make(const json_t *json, const char *text, size_t len, const char *api_version,
	struct object **ret, char **ret_why)
{
	const json_t *metadata = json_object_get(json, "metadata");
	struct kept kept = {0};
	struct object *o;
	int r = object_check_names(metadata, ret_why);

	if (r == 0)
		r = check_kind(json, ret_why);
	if (r < 0)
		return r;
	r = keep_text(&kept, json, text, len, api_version);
	if (r == 0) {
		o = object_build(metadata, json_str(metadata, "namespace"), &kept.text);
		o->created = 0;
		newer(&o->created, metadata, "creationTimestamp");
		o->newest = newest_time(json, o->created);
		o->spec = kept.spec;
		o->status = kept.status;
		o->rest = kept.rest;
		*ret = o;
	} else {
		say(ret_why, metadata, true, "the object",
			"is larger than 8 MiB when it is written out");
	}
	buf_release(&kept.text);
	return r;
}

int object_from_json(const json_t *json, const char *api_version, struct object **ret)
{
	return make(json, NULL, 0, api_version, ret, NULL);
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

int object_from_text(const char *text, size_t len, const char *api_version, struct object **ret,
	json_t **ret_json, char **ret_why)
{
	_cleanup_json_ json_t *json = NULL;
	_cleanup_free_ char *problem = NULL;
	int r = json_read(text, len, JSON_ALLOW_NUL | JSON_DECODE_ANY, &json, &problem);

	if (r < 0) {
		_cleanup_json_ json_t *metadata =
			ret_why && len ? object_find_names(text, len) : NULL;

		say(ret_why, metadata, true, "not read:", problem);
		return r;
	}
	r = make(json, text, len, api_version, ret, ret_why);
	if (r == 0 && ret_json)
		*ret_json = object_tree(json, api_version);
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
static json_t *parse_kept(const char *p, size_t len)
{
	json_t *json = json_loadb(p, len, JSON_ALLOW_NUL, NULL);

	if (!json)
		abort();
	return json;
}

json_t *object_parse(const struct object *o)
{
	return parse_kept(o->text, o->len);
}

/* The kept text names it once and plainly (keep). */
json_t *object_parse_metadata(const struct object *o)
{
	struct cut c = CUT_INIT(o->text, o->len);
	struct piece key, value = {0};

	cut_enter(&c, '{');
	while (cut_next(&c, '}') > 0 && cut_key(&c, &key) == 0 && cut_value(&c, &value) == 0)
		if (cut_is(&key, "metadata"))
			break;
	return json_pack("{s:o}", "metadata", parse_kept(value.p, value.len));
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

void object_cache_put(struct object_cache *c, struct object *o, json_t *json)
{
	pthread_mutex_lock(&c->lock);
	if (!cache_find(c, o))
		cache_add(c, o, json);
	pthread_mutex_unlock(&c->lock);
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
	object_cache_put(c, o, json);
	return json;
}
