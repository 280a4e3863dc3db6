/* What is kept of a received ImageStream, and the cache of parsed trees. */
#include "client/clock.h"
#include "client/object.h"

#include "client/buf.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define API "image.openshift.io/v1"

static json_t *load(const char *text)
{
	json_error_t error;
	json_t *json = json_loads(text, JSON_ALLOW_NUL, &error);

	if (!json)
		fail_msg("%s: %s", text, error.text);
	return json;
}

static struct object *from(const char *text)
{
	_cleanup_json_ json_t *json = load(text);
	struct object *o = NULL;

	assert_int_equal(object_from_json(json, API, &o), 0);
	assert_non_null(o);
	return o;
}

#define METADATA                                                                                   \
	"\"name\":\"web\",\"namespace\":\"shop\",\"uid\":\"u-1\",\"resourceVersion\":\"42\""

static void test_fields(void **state)
{
	_cleanup_object_ struct object *o = from(
		"{\"metadata\":{" METADATA ",\"creationTimestamp\":\"2026-11-23T19:48:08Z\"}}");

	assert_string_equal(o->key, "shop/web");
	assert_string_equal(o->name, "web");
	assert_string_equal(o->uid, "u-1");
	assert_string_equal(o->resource_version, "42");
	assert_int_equal(o->created, INT64_C(1795463288) * NSEC_PER_SEC);
	assert_int_equal(o->newest, o->created);
	assert_int_equal(o->len, strlen(o->text));
}

static void test_no_times(void **state)
{
	_cleanup_object_ struct object *none = from("{\"metadata\":{" METADATA "}}");
	_cleanup_object_ struct object *bad =
		from("{\"metadata\":{" METADATA ",\"creationTimestamp\":\"yesterday\"}}");

	assert_int_equal(none->created, 0);
	assert_int_equal(none->newest, 0);
	assert_int_equal(bad->created, 0);
	assert_int_equal(bad->newest, 0);
}

/* Items of a list carry neither kind nor apiVersion. */
static void test_list_item(void **state)
{
	_cleanup_object_ struct object *o =
		from("{\"status\":{},\"metadata\":{" METADATA "},\"spec\":{}}");

	assert_string_equal(o->text,
		"{\"kind\":\"ImageStream\",\"apiVersion\":\"" API "\",\"status\":{},"
		"\"metadata\":{" METADATA "},\"spec\":{}}");
}

/* What names them itself keeps its apiVersion, and has both in front. */
static void test_kind_first(void **state)
{
	_cleanup_object_ struct object *o = from(
		"{\"metadata\":{" METADATA "},\"apiVersion\":\"v1\",\"kind\":\"ImageStream\"}");

	assert_string_equal(o->text,
		"{\"kind\":\"ImageStream\",\"apiVersion\":\"v1\",\"metadata\":{" METADATA "}}");
}

static void test_managed_fields(void **state)
{
	_cleanup_json_ json_t *json =
		load("{\"metadata\":{\"managedFields\":[{\"manager\":\"oc\"}]," METADATA "},"
		     "\"spec\":{\"managedFields\":\"mine\"}}");
	_cleanup_json_ json_t *before = json_deep_copy(json);
	_cleanup_object_ struct object *o = NULL;

	assert_int_equal(object_from_json(json, API, &o), 0);
	assert_string_equal(o->text,
		"{\"kind\":\"ImageStream\",\"apiVersion\":\"" API "\",\"metadata\":{" METADATA "},"
		"\"spec\":{\"managedFields\":\"mine\"}}");
	assert_true(json_equal(json, before)); /* the caller's document stays as it was */
}

static void test_key_order(void **state)
{
	_cleanup_object_ struct object *o = from(
		"{\"z\":{\"y\":1,\"b\":{\"k\":1,\"j\":2},\"a\":2},\"metadata\":{\"zz\":1," METADATA
		",\"aa\":2},\"a\":[{\"2\":0,\"1\":0}]}");

	assert_string_equal(o->text,
		"{\"kind\":\"ImageStream\",\"apiVersion\":\"" API "\","
		"\"z\":{\"y\":1,\"b\":{\"k\":1,\"j\":2},\"a\":2},"
		"\"metadata\":{\"zz\":1," METADATA ",\"aa\":2},\"a\":[{\"2\":0,\"1\":0}]}");
}

static void test_integers(void **state)
{
	_cleanup_object_ struct object *o =
		from("{\"metadata\":{" METADATA "},\"n\":[9007199254740993,-9223372036854775808,"
		     "9223372036854775807,0,-1]}");
	_cleanup_json_ json_t *json = object_parse(o);
	const json_t *n = json_object_get(json, "n");

	assert_non_null(strstr(
		o->text, "[9007199254740993,-9223372036854775808,9223372036854775807,0,-1]"));
	assert_true(json_integer_value(json_array_get(n, 0)) == INT64_C(9007199254740993));
	assert_true(json_integer_value(json_array_get(n, 1)) == INT64_MIN);
	assert_true(json_integer_value(json_array_get(n, 2)) == INT64_MAX);
}

/* The server lets a tag's name be anything. */
static void test_nul(void **state)
{
	_cleanup_object_ struct object *o = from(
		"{\"metadata\":{" METADATA "},\"spec\":{\"tags\":[{\"name\":\"a\\u0000b\"}]}}");
	_cleanup_json_ json_t *json = object_parse(o);
	const json_t *tags = json_object_get(json_object_get(json, "spec"), "tags");
	const json_t *name = json_object_get(json_array_get(tags, 0), "name");

	assert_int_equal(json_string_length(name), 3);
	assert_memory_equal(json_string_value(name), "a\0b", 3);
	assert_non_null(strstr(o->text, "\"a\\u0000b\""));
	assert_int_equal(o->len, strlen(o->text));
}

/* Of the tags that one alone; what else there is stays. */
static void test_one_tag(void **state)
{
#define TAGS(spec, status)                                                                         \
	"{\"metadata\":{" METADATA ",\"labels\":{\"tags\":\"x\"}},\"spec\":{\"lookupPolicy\":{},"  \
	"\"tags\":" spec "},\"status\":{\"tags\":" status ",\"url\":\"u\"},\"tags\":[1]}"
	static const struct {
		const char *tag;
		size_t len;
		const char *text, *left;
	} rows[] = {
		{"b", 1, TAGS("[{\"name\":\"a\"},{\"k\":0,\"name\":\"b\"}]", "[{\"tag\":\"b\"}]"),
			TAGS("[{\"k\":0,\"name\":\"b\"}]", "[{\"tag\":\"b\"}]")},
		{"c", 1, TAGS("[{\"name\":\"a\"}]", "[{\"tag\":\"b\"}]"), TAGS("[]", "[]")},
		{"a\"\\", 3, TAGS("[{\"name\":\"a\\\"\\\\\"}]", "[{\"tag\":\"a\"}]"),
			TAGS("[{\"name\":\"a\\\"\\\\\"}]", "[]")},
		{"a\0b", 3, TAGS("[{\"name\":\"a\"},{\"name\":\"a\\u0000b\"}]", "null"),
			TAGS("[{\"name\":\"a\\u0000b\"}]", "null")},
		/* twice, and such that have no name: then the list is none by name */
		{"a", 1, TAGS("[{\"name\":\"a\"},{\"name\":\"b\"},{\"name\":\"a\",\"z\":1}]", "{}"),
			TAGS("[{\"name\":\"a\"},{\"name\":\"a\",\"z\":1}]", "{}")},
		{"a", 1, TAGS("[{},7,{\"name\":\"b\"},{\"name\":5}]", "[{\"name\":\"a\"}]"),
			TAGS("[{},7,{\"name\":5}]", "[{\"name\":\"a\"}]")},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_object_ struct object *o = from(rows[i].text), *left = from(rows[i].left);
		_cleanup_json_ json_t *json = object_parse_tag(o, rows[i].tag, rows[i].len);
		_cleanup_json_ json_t *expected = object_parse(left);

		assert_true(json_equal(json, expected));
	}
#undef TAGS
}

static void test_no_tags(void **state)
{
	static const char *const texts[] = {"{\"metadata\":{" METADATA "}}",
		"{\"metadata\":{" METADATA "},\"spec\":null,\"status\":[{\"tags\":[1]}]}",
		"{\"metadata\":{" METADATA "},\"spec\":{},\"status\":\"tags\"}"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		_cleanup_object_ struct object *o = from(texts[i]);
		_cleanup_json_ json_t *json = object_parse_tag(o, "a", 1);
		_cleanup_json_ json_t *expected = object_parse(o);

		assert_true(json_equal(json, expected));
	}
}

static void test_text_survives(void **state)
{
	static const char text[] =
		"{\"kind\":\"ImageStream\",\"apiVersion\":\"" API "\",\"metadata\":{" METADATA "},"
		"\"spec\":{\"s\":\"\\\"\\\\\\n\\u0001\xc3\xa4\xf0\x9f\x90\x8b\",\"e\":\"\","
		"\"l\":[],\"o\":{},\"n\":null,\"t\":true,\"f\":false,\"r\":1.5}}";
	_cleanup_object_ struct object *o = from(text), *again = NULL;
	_cleanup_json_ json_t *json = object_parse(o);

	assert_string_equal(o->text, text);
	assert_int_equal(object_from_json(json, "other/v1", &again), 0);
	assert_string_equal(again->text, text);
}

/* From its text it is as if it came from the tree. */
static void test_from_text(void **state)
{
	static const struct {
		const char *text;
	} rows[] = {
		{"{\"metadata\":{" METADATA "},\"spec\":{\"e\":1.0e1,\"s\":\"\\u003c\"}}"},
		{
			"{\"kind\":\"ImageStream\",\"metadata\":{" METADATA
			"},\"apiVersion\":\"v1\"}",
		},
		{"{\"metadata\":{\"managedFields\":[{\"a\":[]}]," METADATA "}}"},
		{"{\"metadata\":{" METADATA ",\"managedFields\":null}}"},
		{"{\"metadata\":{" METADATA ",\"managed\\u0046ields\":[{}]},\"z\":0}"},
		{"{\"meta\\u0064ata\":{" METADATA ",\"managedFields\":[{}]},\"z\":0}"},
		{"{\"metadata\":{" METADATA "},\"status\":{}}\n"},
		{"{\n  \"metadata\": {" METADATA "},\n  \"status\": {}\n}\n"},
		{"{\"metadata\":{" METADATA "},\"spec\":{\"tags\": []}}"},
		{"{\"metadata\":{" METADATA ",\"a\": 1}}"},
		{"{\"metadata\":{\"name\":\"x\"},\"metadata\":{" METADATA "}}"},
		{"{\"metadata\":{\"managedFields\":[]},\"metadata\":{" METADATA "}}"},
		{"{\"metadata\":{\"name\":\"x\"," METADATA "}}"},
		{"{\"spec\":{\"a\":1},\"metadata\":{" METADATA "},\"spec\":{\"b\":2}}"},
		{"{\"k\\u0069nd\":\"ImageStream\",\"metadata\":{" METADATA "}}"},
		{"{\"a\\\"b\":1,\"metadata\":{" METADATA ",\"\\n\":2}}"},
		{"{\"metadata\":{\"name\":\"x\"},\"meta\\u0064ata\":{" METADATA "}}"},
		{"{\"metadata\":{" METADATA "},\"spec\":{\"a\":1e16,\"b\":1e-400,\"b\":0.1}}"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_json_ json_t *json = load(rows[i].text);
		_cleanup_object_ struct object *a = NULL, *b = NULL;

		assert_int_equal(object_from_json(json, API, &a), 0);
		assert_int_equal(
			object_from_text(rows[i].text, strlen(rows[i].text), API, &b, NULL), 0);
		assert_string_equal(b->text, a->text);
		assert_int_equal(b->len, strlen(b->text));
		assert_string_equal(b->key, "shop/web");
		assert_true(a->status == b->status && a->created == b->created &&
			    a->newest == b->newest);
	}
}

static void test_from_bad_text(void **state)
{
	static const struct {
		const char *text;
		int error;
	} rows[] = {{"", -EBADMSG}, {"{", -EBADMSG}, {"{\"metadata\":{" METADATA "}", -EBADMSG},
		{"{\"metadata\":{" METADATA "}}x", -EBADMSG},
		{"{\"metadata\":{" METADATA "},\"a\":01}", -EBADMSG},
		{"{\"metadata\":{" METADATA "},\"a\":\"\xff\"}", -EBADMSG}, {"{}", -EINVAL},
		{"[]", -EINVAL}, {"1", -EINVAL}, {"{\"metadata\":[]}", -EINVAL}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct object *o = NULL;

		if (object_from_text(rows[i].text, strlen(rows[i].text), API, &o, NULL) !=
			rows[i].error)
			fail_msg("row %zu", i);
		assert_null(o);
	}
}

#define AT(second) "\"2026-11-23T19:48:" second "Z\""
#define NS(second) ((INT64_C(1795463280) + (second)) * NSEC_PER_SEC)

static void test_newest(void **state)
{
	static const struct {
		const char *created, *fields, *tags;
		int64_t newest;
	} rows[] = {
		{AT("08"), "[]", "[]", NS(8)},
		{AT("08"), "null", "null", NS(8)},
		{AT("08"), "[{\"time\":" AT("10") "},{\"time\":" AT("09") "}]", "[]", NS(10)},
		{AT("08"), "[{\"time\":" AT("07") "}]", "[]", NS(8)},
		{AT("08"), "[{},{\"time\":7},{\"time\":\"x\"},[]]", "[]", NS(8)},
		{AT("08"), "[]", "[{\"items\":[{\"created\":" AT("20") "}]}]", NS(20)},
		{AT("08"), "[]",
			"[{\"items\":null},{\"items\":[{\"created\":" AT("11") "},{\"created\":" AT(
				"30") "}]},{\"items\":[{\"created\":" AT("29") "}]},{}]",
			NS(30)},
		{AT("08"), "[{\"time\":" AT("40") "}]",
			"[{\"items\":[{\"created\":" AT("39") "}]}]", NS(40)},
		{AT("08"), "[{\"time\":" AT("40") "}]",
			"[{\"items\":[{\"created\":" AT("41") "}]}]", NS(41)},
		{"null", "[{\"time\":" AT("10") "}]", "[]", NS(10)},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *text = xasprintf(
			"{\"metadata\":{" METADATA
			",\"creationTimestamp\":%s,\"managedFields\":%s},\"status\":{\"tags\":%s}}",
			rows[i].created, rows[i].fields, rows[i].tags);
		_cleanup_object_ struct object *o = from(text);

		if (o->newest != rows[i].newest)
			fail_msg("row %zu: %jd", i, (intmax_t)o->newest);
		assert_int_equal(o->created, streq(rows[i].created, "null") ? 0 : NS(8));
	}
}

static void test_refused(void **state)
{
	static const char *const texts[] = {"{}", "[]", "{\"metadata\":null}",
		"{\"metadata\":{\"namespace\":\"n\",\"uid\":\"u\",\"resourceVersion\":\"1\"}}",
		"{\"metadata\":{\"name\":\"n\",\"uid\":\"u\",\"resourceVersion\":\"1\"}}",
		"{\"metadata\":{\"name\":\"n\",\"namespace\":\"n\",\"resourceVersion\":\"1\"}}",
		"{\"metadata\":{\"name\":\"n\",\"namespace\":\"n\",\"uid\":\"u\"}}",
		"{\"metadata\":{\"name\":\"n\",\"namespace\":\"n\",\"uid\":\"u\","
		"\"resourceVersion\":1}}",
		"{\"metadata\":{\"name\":[],\"namespace\":\"n\",\"uid\":\"u\","
		"\"resourceVersion\":\"1\"}}"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		_cleanup_json_ json_t *json = load(texts[i]);
		struct object *o = NULL;

		assert_int_equal(object_from_json(json, API, &o), -EINVAL);
		assert_null(o);
	}
	assert_int_equal(object_from_json(NULL, API, &(struct object *){NULL}), -EINVAL);
}

#define LONG_NAME                                                                                  \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"         \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"         \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"         \
	"aaaaaaaaaaaaaaa" /* 255 */
#define NAMES(ns, name, uid, version)                                                              \
	"{\"namespace\":" ns ",\"name\":" name ",\"uid\":" uid ",\"resourceVersion\":" version "}"

/* What names an object, and the sentence that says why it is left out; NULL: it is taken. */
static void test_gate(void **state)
{
	static const struct {
		const char *metadata, *why;
	} rows[] = {
		{NAMES("\"shop\"", "\"web\"", "\"u\"", "\"1\""), NULL},
		{NAMES("\"shop\"", "\"" LONG_NAME "\"", "\"u\"", "\"1\""), NULL},
		{NAMES("\"a b\"", "\"\\u0001\u00e4%\"", "\"u\"", "\"1\""), NULL},
		{NAMES("\"shop\"", "\"a" LONG_NAME "\"", "\"u\"", "\"1\""),
			"shop/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…: "
			"metadata.name is longer than 255 bytes"},
		{NAMES("\"shop\"", "\"a/b\"", "\"u\"", "\"1\""),
			"shop/a/b: metadata.name holds a slash"},
		{NAMES("\"shop\"", "\"a\\u0000b\"", "\"u\"", "\"1\""),
			"shop/a\\x00b: metadata.name holds a NUL"},
		{NAMES("\"shop\"", "\"\"", "\"u\"", "\"1\""), "shop/: metadata.name is empty"},
		{NAMES("\"shop\"", "\"..\"", "\"u\"", "\"1\""),
			"shop/..: metadata.name begins with a dot"},
		{NAMES("\"shop\"", "1", "\"u\"", "\"1\""), "shop/?: metadata.name is missing"},
		{NAMES("\"../x\"", "\"web\"", "\"u\"", "\"1\""),
			"../x/web: metadata.namespace holds a slash"},
		{NAMES("\"s\\n\\u007f\"", "\"web\"", "\"\"", "\"1\""),
			"s\\x0a\\x7f/web: metadata.uid is empty"},
		{NAMES("\"shop\"", "\"web\"", "\"u v\"", "\"1\""),
			"shop/web: metadata.uid isn't printable"},
		{NAMES("\"shop\"", "\"web\"", "\"" LONG_NAME "\"", "\"1\""),
			"shop/web: metadata.uid is longer than 128 bytes"},
		{NAMES("\"shop\"", "\"web\"", "\"u\"", "1.5"),
			"shop/web: metadata.resourceVersion is missing"},
		{NAMES("\"shop\"", "\"web\"", "\"u\"", "\"1\\u0000\""),
			"shop/web: metadata.resourceVersion isn't printable"},
		{"null", "?/?: metadata.namespace is missing"},
		{"[]", "?/?: metadata.namespace is missing"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *text = xasprintf("{\"metadata\":%s}", rows[i].metadata);
		_cleanup_object_ struct object *o = NULL;
		_cleanup_free_ char *why = NULL;
		int r = object_from_text(text, strlen(text), API, &o, &why);

		assert_int_equal(r, rows[i].why ? -EINVAL : 0);
		if (rows[i].why)
			assert_string_equal(why, rows[i].why);
		else
			assert_null(why);
	}
}

static void test_gate_of_namespaces(void **state)
{
	_cleanup_json_ json_t *fine = load("{\"name\":\"shop\",\"uid\":\"u\"}");
	_cleanup_json_ json_t *nameless = load("{\"name\":\"a/b\",\"uid\":\"u\"}");
	_cleanup_json_ json_t *uidless = load("{\"name\":\"shop\"}");
	_cleanup_free_ char *first = NULL, *second = NULL;

	assert_int_equal(object_check_namespace(fine, NULL), 0);
	assert_int_equal(object_check_namespace(nameless, &first), -EINVAL);
	assert_string_equal(first, "a/b: metadata.name holds a slash");
	assert_int_equal(object_check_namespace(uidless, &second), -EINVAL);
	assert_string_equal(second, "shop: metadata.uid is missing");
	assert_int_equal(object_check_namespace(NULL, NULL), -EINVAL);
}

/* What isn't parsed is named all the same. */
static void test_too_large(void **state)
{
	struct buf text = BUF_INIT(1 << 24);
	_cleanup_free_ char *why = NULL;
	struct object *o = NULL;

	buf_addstr(&text, "{\"metadata\":{" METADATA "},\"a\":[0");
	for (size_t i = 0; i < 200000; i++)
		buf_addstr(&text, ",0");
	buf_addstr(&text, "]}");
	assert_int_equal(object_from_text(text.data, text.len, API, &o, &why), -EFBIG);
	assert_string_equal(why, "shop/web: not read: more than 200000 values");
	buf_release(&text);
}

static void test_another(void **state)
{
	_cleanup_object_ struct object *o = from("{\"metadata\":{" METADATA "}}");

	assert_true(object_is(o, "shop", "web"));
	assert_false(object_is(o, "shop", "we"));
	assert_false(object_is(o, "sho", "web"));
	assert_false(object_is(o, "shop2", "web"));
	assert_false(object_is(o, "", "shop/web"));
}

static void test_references(void **state)
{
	struct object *o = from("{\"metadata\":{" METADATA "}}");

	assert_ptr_equal(object_ref(o), o);
	object_unref(o);
	assert_string_equal(o->name, "web");
	object_unref(o);
	object_unref(NULL);
}

static struct object *numbered(int i, size_t padding)
{
	_cleanup_free_ char *pad = xcalloc(padding + 1, 1);
	_cleanup_free_ char *text = NULL;

	memset(pad, 'x', padding);
	text = xasprintf("{\"metadata\":{\"name\":\"web-%d\",\"namespace\":\"shop\",\"uid\":\"u\","
			 "\"resourceVersion\":\"%d\"},\"pad\":\"%s\"}",
		i, i, pad);
	return from(text);
}

static void assert_cached(struct object_cache *c, struct object *o)
{
	_cleanup_json_ json_t *json = object_cache_get(c, o);
	_cleanup_json_ json_t *expected = object_parse(o);

	assert_true(json_equal(json, expected));
}

static void test_cache_hit(void **state)
{
	struct object_cache *c = object_cache_new();
	_cleanup_object_ struct object *o = numbered(1, 0);
	_cleanup_json_ json_t *first = object_cache_get(c, o), *second = object_cache_get(c, o);

	assert_ptr_equal(first, second); /* parsed once */
	object_cache_free(c);
	assert_string_equal(json_str(json_object_get(first, "metadata"), "name"), "web-1");
	object_cache_free(NULL);
}

/* Every second question is about an object that was dropped meanwhile. */
static void test_cache_many(void **state)
{
	struct object_cache *c = object_cache_new();
	struct object *objects[100];

	for (int i = 0; i < 100; i++)
		objects[i] = numbered(i, i * 10);
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < 100; i++) {
			assert_cached(c, objects[i]);
			assert_cached(c, objects[i * 37 % 100]);
			assert_cached(c, objects[i]);
		}
	/* It holds a few references, not a hundred. */
	for (int i = 0, held = 0; i < 100; i++) {
		held += atomic_load(&objects[i]->refs) > 1;
		assert_true(held < 50);
	}
	for (int i = 0; i < 100; i++)
		object_unref(objects[i]);
	object_cache_free(c);
}

/* Large texts push each other out, also one that is larger than everything the cache likes. */
static void test_cache_large(void **state)
{
	static const size_t sizes[] = {3 << 20, 100, 2 << 20, 6 << 20, 100, 1 << 20, 4 << 20};
	struct object_cache *c = object_cache_new();
	struct object *objects[ARRAY_SIZE(sizes)];
	size_t held = 0;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		objects[i] = numbered(i, sizes[i]);
	for (int round = 0; round < 2; round++)
		for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
			assert_cached(c, objects[i]);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		held += atomic_load(&objects[i]->refs) > 1 ? sizes[i] : 0;
	assert_true(held <= (size_t)6 << 20);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		object_unref(objects[i]);
	object_cache_free(c);
}

/* What the cache gave stays whole after it was dropped, and after the object went. */
static void test_cache_outlived(void **state)
{
	struct object_cache *c = object_cache_new();
	struct object *o = numbered(0, 0);
	_cleanup_json_ json_t *json = object_cache_get(c, o);

	object_unref(o);
	for (int i = 1; i < 100; i++) {
		_cleanup_object_ struct object *other = numbered(i, 0);

		assert_cached(c, other);
	}
	assert_string_equal(json_str(json_object_get(json, "metadata"), "name"), "web-0");
	object_cache_free(c);
}

struct race {
	struct object_cache *cache;
	struct object *objects[40];
	atomic_int wrong;
};

static void *ask(void *arg)
{
	struct race *race = arg;

	for (int i = 0; i < 4000; i++) {
		struct object *o = race->objects[i * 7 % 40];
		_cleanup_json_ json_t *json = object_cache_get(race->cache, o);
		const char *name = json_str(json_object_get(json, "metadata"), "name");

		if (!name || !streq(name, o->name))
			race->wrong++;
	}
	return NULL;
}

static void test_cache_threads(void **state)
{
	struct race race = {.cache = object_cache_new()};
	pthread_t threads[4];

	for (int i = 0; i < 40; i++)
		race.objects[i] = numbered(i, 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ask, &race), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(race.wrong, 0);
	object_cache_free(race.cache);
	for (int i = 0; i < 40; i++) {
		assert_int_equal(atomic_load(&race.objects[i]->refs), 1);
		object_unref(race.objects[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_no_times),
		cmocka_unit_test(test_list_item),
		cmocka_unit_test(test_kind_first),
		cmocka_unit_test(test_managed_fields),
		cmocka_unit_test(test_key_order),
		cmocka_unit_test(test_integers),
		cmocka_unit_test(test_nul),
		cmocka_unit_test(test_one_tag),
		cmocka_unit_test(test_no_tags),
		cmocka_unit_test(test_text_survives),
		cmocka_unit_test(test_from_text),
		cmocka_unit_test(test_from_bad_text),
		cmocka_unit_test(test_newest),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_gate),
		cmocka_unit_test(test_gate_of_namespaces),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_another),
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_cache_hit),
		cmocka_unit_test(test_cache_many),
		cmocka_unit_test(test_cache_large),
		cmocka_unit_test(test_cache_outlived),
		cmocka_unit_test(test_cache_threads),
	};

	return cmocka_run_group_tests_name("object", tests, NULL, NULL);
}
