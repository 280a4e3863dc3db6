#include "client/object.h"

#include "client/buf.h"
#include "client/cut.h"

#include <errno.h>
#include <pthread.h>

#define TEXT_MAX   ((size_t)64 << 20)
#define CACHE_SIZE 16
#define CACHE_TEXT ((size_t)4 << 20) /* all texts whose trees are held; a tree is ten times that */

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

	json_array_foreach(fields, i, entry) newer(&newest, entry, "time");
	json_array_foreach(tags, i, entry)
	{
		const json_t *item;
		size_t k;

		json_array_foreach(json_object_get(entry, "items"), k, item)
			newer(&newest, item, "created");
	}
	return newest;
}

static json_t *object_tree(const json_t *json, const char *api_version)
{
	const char *own = json_str(json, "apiVersion");
	json_t *metadata = json_copy(json_object_get(json, "metadata"));
	json_t *copy = json_pack(
		"{s:s, s:s}", "kind", "ImageStream", "apiVersion", own ? own : api_version);
	const char *key;
	json_t *value;

	json_object_del(metadata, "managedFields");
	json_object_foreach((json_t *)json, key, value)
	{
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

static struct object *object_build(
	const json_t *metadata, const char *namespace, const struct buf *text)
{
	const char *name = json_str(metadata, "name"), *uid = json_str(metadata, "uid");
	const char *rv = json_str(metadata, "resourceVersion");
	_cleanup_free_ char *key = xasprintf("%s/%s", namespace, name);
	struct object *o =
		xmalloc(sizeof(*o) + strlen(key) + strlen(uid) + strlen(rv) + text->len + 4);
	char *p = o->bytes;

	atomic_init(&o->refs, 1);
	o->order = 0;
	o->key = append(&p, key, strlen(key));
	o->name = o->key + strlen(namespace) + 1;
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
	bool managed; /* managedFields were cut out */
};

static void keep_member(struct kept *k, const char *p, size_t len)
{
	buf_add(&k->text, ",", 1);
	buf_add(&k->text, p, len);
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
		r = cut_key(c, &key);
		if (r == 0)
			r = cut_value(c, &value);
		if (r == 0 && cut_is(&key, "managedFields")) {
			k->managed = true;
		} else if (r == 0) {
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
		r = cut_key(c, &key);
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
 * The text with kind and apiVersion in front and without managedFields. False where it isn't compact,
 * or spells a name in another way than everybody: then it has to be written anew.
 */
static bool keep(
	struct kept *k, const json_t *json, const char *text, size_t len, const char *api_version)
{
	const json_t *own = json_object_get(json, "apiVersion");
	_cleanup_json_ json_t *version =
		json_is_string(own) ? json_incref((json_t *)own) : json_string(api_version);
	struct cut c = CUT_INIT(text, len);

	k->spec = k->status = HASH_INIT;
	buf_reserve(&k->text, len + 128);
	buf_addstr(&k->text, "{\"kind\":\"ImageStream\",\"apiVersion\":");
	buf_addjson(&k->text, version, JSON_COMPACT | JSON_ENCODE_ANY);
	k->rest = hash_text(HASH_INIT, k->text.data, k->text.len);
	if (keep_members(k, &c) < 0 || c.spaces)
		return false;
	buf_addstr(&k->text, "}");
	return k->managed ==
	       (json_object_get(json_object_get(json, "metadata"), "managedFields") != NULL);
}

/* `text` is what `json` was parsed from, or NULL. */
static int make(const json_t *json, const char *text, size_t len, const char *api_version,
	struct object **ret)
{
	const json_t *metadata = json_object_get(json, "metadata");
	const char *namespace = json_str(metadata, "namespace");
	_cleanup_buf_ struct buf dump = BUF_INIT(TEXT_MAX);
	struct kept kept = {.text = BUF_INIT(TEXT_MAX + 128)};
	struct object *o;
	int r = 0;

	if (!namespace || !json_str(metadata, "name") || !json_str(metadata, "uid") ||
		!json_str(metadata, "resourceVersion"))
		return -EINVAL;
	if (!text || len > TEXT_MAX || !keep(&kept, json, text, len, api_version)) {
		buf_release(&kept.text);
		r = buf_addjson(&dump, json, JSON_COMPACT);
		if (r == 0 && !keep(&kept, json, dump.data, dump.len, api_version))
			abort(); /* our own output */
	}
	if (r == 0) {
		o = object_build(metadata, namespace, &kept.text);
		o->created = 0;
		newer(&o->created, metadata, "creationTimestamp");
		o->newest = newest_time(json, o->created);
		o->spec = kept.spec;
		o->status = kept.status;
		o->rest = kept.rest;
		*ret = o;
	}
	buf_release(&kept.text);
	return r;
}

int object_from_json(const json_t *json, const char *api_version, struct object **ret)
{
	return make(json, NULL, 0, api_version, ret);
}

int object_from_text(const char *text, size_t len, const char *api_version, struct object **ret,
	json_t **ret_json)
{
	_cleanup_json_ json_t *json = json_loadb(text, len, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
	int r = json ? make(json, text, len, api_version, ret) : -EBADMSG;

	if (r == 0 && ret_json)
		*ret_json = object_tree(json, api_version);
	return r;
}

struct object *object_ref(struct object *o)
{
	atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
	return o;
}

void object_unref(struct object *o)
{
	if (o && atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) == 1)
		free(o);
}

json_t *object_parse(const struct object *o)
{
	json_t *json = json_loadb(o->text, o->len, JSON_ALLOW_NUL, NULL);

	if (!json)
		abort(); /* it was parsed before */
	return json;
}

json_t *object_parse_metadata(const struct object *o)
{
	struct cut c = CUT_INIT(o->text, o->len);
	struct piece key, value = {0};
	json_t *metadata;

	cut_enter(&c, '{');
	while (cut_next(&c, '}') > 0 && cut_key(&c, &key) == 0 && cut_value(&c, &value) == 0)
		if (cut_is(&key, "metadata"))
			break;
	metadata = json_loadb(value.p, value.len, JSON_ALLOW_NUL, NULL);
	if (!metadata)
		abort(); /* it was parsed before */
	return json_pack("{s:o}", "metadata", metadata);
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
