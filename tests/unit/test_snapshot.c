/* Objects, snapshots and the shown tree. */
#include "client/clock.h"
#include "tests/unit/at_once.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct journal *journal;
static struct indexes *indexes;

#define TAG(name, image)                                                                           \
	"{\"name\":\"" name                                                                        \
	"\",\"generation\":2,\"from\":{\"kind\":\"DockerImage\",\"name\":\"" image "\"}}"
#define HISTORY(name, image)                                                                       \
	"{\"tag\":\"" name "\",\"items\":[{\"created\":\"2026-11-01T10:00:00Z\","                  \
	"\"dockerImageReference\":\"" image "\"}]}"

static struct object *object(const char *version, const char *spec_tags, const char *status_tags)
{
	_cleanup_free_ char *text = xasprintf(
		"{\"metadata\":{\"name\":\"web\",\"namespace\":\"shop\",\"uid\":\"u1\","
		"\"resourceVersion\":\"%s\",\"generation\":7,"
		"\"creationTimestamp\":\"2026-10-01T00:00:00Z\",\"managedFields\":[{\"time\":"
		"\"2026-10-02T00:00:00Z\"}]},\"spec\":{\"tags\":[%s]},\"status\":{\"tags\":[%s]}}",
		version, spec_tags, status_tags);
	_cleanup_json_ json_t *json = json_loads(text, JSON_ALLOW_NUL, NULL);
	struct object *o;

	assert_non_null(json);
	assert_int_equal(object_from_json(json, "image.openshift.io/v1", &o), 0);
	return o;
}

static struct snapshot *next_view(struct snapshot *old, const char *version, const char *spec_tags,
	const char *status_tags, int64_t now)
{
	_cleanup_object_ struct object *o = object(version, spec_tags, status_tags);

	return snapshot_new(o, old, NULL, 0, now, indexes);
}

static struct layout_attr attr(struct snapshot *v, enum kind kind, const char *tag)
{
	struct layout_attr a;

	assert_int_equal(snapshot_attr(v, kind, tag, &a), 0);
	return a;
}

static void test_object(void **state)
{
	_cleanup_json_ json_t *json =
		json_loads("{\"metadata\":{\"name\":\"n\",\"namespace\":\"s\",\"uid\":\"u\","
			   "\"resourceVersion\":"
			   "\"9\",\"managedFields\":[{\"time\":\"2026-01-02T00:00:00Z\"}]},"
			   "\"z\":9007199254740993,\"a\":\"\\u0000\"}",
			JSON_ALLOW_NUL, NULL);
	_cleanup_object_ struct object *o = NULL;
	_cleanup_json_ json_t *parsed = NULL;

	assert_int_equal(object_from_json(json, "v1", &o), 0);
	assert_string_equal(o->text, "{\"kind\":\"ImageStream\",\"apiVersion\":\"v1\",\"metadata\":"
				     "{\"name\":\"n\",\"namespace\":"
				     "\"s\",\"uid\":\"u\",\"resourceVersion\":\"9\"},\"z\":"
				     "9007199254740993,\"a\":\"\\u0000\"}");
	assert_string_equal(o->key, "s/n");
	assert_int_equal(o->newest / NSEC_PER_SEC, 1767312000);
	parsed = object_parse(o);
	assert_int_equal(json_string_length(json_object_get(parsed, "a")), 1);
	json_object_del(json_object_get(json, "metadata"), "uid");
	assert_int_equal(object_from_json(json, "v1", &o), -EINVAL);
}

static void test_contents(void **state)
{
	_cleanup_view_ struct snapshot *v =
		next_view(NULL, "1", TAG("a", "x:1"), HISTORY("b", "y@1"), 0);
	_cleanup_buf_ struct buf text = BUF_INIT(ATTR_MAX);
	struct layout_attr a;

	assert_int_equal(snapshot_show(v, KIND_TAG_SPEC, "a", &text), 0);
	assert_string_equal(text.data, "{\n  \"name\": \"a\",\n  \"from\": {\n    \"kind\": "
				       "\"DockerImage\",\n    \"name\": \"x:1\"\n  }\n}\n");
	buf_release(&text);
	assert_int_equal(snapshot_show(v, KIND_TAG_IMAGE, "b", &text), 0);
	assert_string_equal(text.data, "y@1\n");
	assert_int_equal(attr(v, KIND_TAG_IMAGE, "b").size, 4);
	assert_int_equal(snapshot_attr(v, KIND_TAG_STATUS, "a", &a), -ENOENT);
	assert_int_equal(snapshot_attr(v, KIND_TAG_SPEC, "b", &a), -ENOENT);
	buf_release(&text);
	assert_int_equal(snapshot_show(v, KIND_METADATA_JSON, "", &text), 0);
	assert_null(strstr(text.data, "generation"));
	assert_null(strstr(text.data, "resourceVersion"));
	assert_null(strstr(text.data, "managedFields"));
	assert_int_equal(attr(v, KIND_TAGS, "").nlink, 4);
}

/* The size is put together from parts: it is that of what is shown, whatever came and went. */
static void assert_size(struct snapshot *v)
{
	_cleanup_buf_ struct buf text = BUF_INIT(ATTR_MAX);

	assert_int_equal(snapshot_show(v, KIND_IMAGESTREAM_JSON, "", &text), 0);
	assert_int_equal(attr(v, KIND_IMAGESTREAM_JSON, "").size, text.len);
}

static void test_size_of_parts(void **state)
{
	static const char *const rows[] = {
		"\"a\":\"b\"},\"spec\":{},\"status\":{}",
		"\"a\":\"bbbb\"},\"spec\":{},\"status\":{}",
		"\"l\":{}},\"spec\":{},\"status\":{}",
		"\"l\":{}},\"spec\":{\"tags\":[{\"name\":\"x\"}]},\"status\":{}",
		"\"l\":{}},\"status\":{},\"spec\":{\"tags\":[{\"name\":\"x\"}]}",
		"\"l\":{\"\u00e4\":\"\\\"\"}},\"spec\":{\"tags\":[{\"name\":\"x\"}]}",
		"\"l\":[1,[]]},\"spec\":{\"tags\":[{\"name\":\"x\"}]},\"more\":[1.5]",
		"\"l\":[1,[1]]},\"spec\":{\"tags\":[{\"name\":\"x\"}]},\"more\":[1.5]",
		"\"l\":[1]},\"more\":[1.5,2]",
		"\"l\":[1]}",
		"\"l\":[]},\"status\":{\"tags\":[{\"tag\":\"x\"}]}",
	};
	struct snapshot *v = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *text =
			xasprintf("{\"metadata\":{\"name\":\"n\",\"namespace\":\"s\",\"uid\":\"u\","
				  "\"resourceVersion\":\"%zu\",%s}",
				i + 9, rows[i]);
		_cleanup_object_ struct object *o = NULL;
		struct snapshot *next, *first;

		assert_int_equal(object_from_text(text, strlen(text), "v1", &o, NULL), 0);
		first = snapshot_new(o, NULL, NULL, 0, 0, indexes);
		assert_size(first);
		next = snapshot_new(o, v, NULL, 0, i, indexes);
		assert_size(next);
		snapshot_unref(first);
		snapshot_unref(v);
		v = next;
	}
	snapshot_unref(v);
}

static void test_times(void **state)
{
	_cleanup_view_ struct snapshot *one =
		next_view(NULL, "1", TAG("a", "x:1") "," TAG("b", "x:1"), HISTORY("a", "y@1"), 0);
	int64_t newest = one->object->newest;
	_cleanup_view_ struct snapshot *two = next_view(
		one, "2", TAG("a", "x:2") "," TAG("b", "x:1"), HISTORY("a", "y@1"), newest + 100);
	_cleanup_view_ struct snapshot *three = next_view(
		two, "3", TAG("a", "x:3") "," TAG("b", "x:1"), HISTORY("a", "y@1"), newest - 100);

	assert_int_equal(attr(one, KIND_TAG_SPEC, "a").mtime, newest);
	assert_int_equal(attr(two, KIND_TAG_SPEC, "a").mtime, newest + 100);
	assert_int_equal(attr(two, KIND_SPEC_JSON, "").mtime, newest + 100);
	assert_int_equal(attr(two, KIND_IMAGESTREAM_JSON, "").mtime, newest + 100);
	assert_int_equal(attr(two, KIND_TAG_SPEC, "b").mtime, newest);
	assert_int_equal(attr(two, KIND_STATUS_JSON, "").mtime, newest);
	assert_int_equal(attr(two, KIND_METADATA_JSON, "").mtime, newest);
	assert_int_equal(attr(two, KIND_TAGS, "").mtime, newest);
	/* A clock that goes back still moves on. */
	assert_int_equal(attr(three, KIND_TAG_SPEC, "a").mtime, newest + 101);
	assert_int_equal(attr(three, KIND_TAG_SPEC, "a").ino, attr(one, KIND_TAG_SPEC, "a").ino);
}

static void test_what_comes_back_is_new(void **state)
{
	_cleanup_view_ struct snapshot *one =
		next_view(NULL, "1", TAG("a", "x:1"), HISTORY("a", "y@1"), 0);
	int64_t now = one->object->newest + 100;
	_cleanup_view_ struct snapshot *no_spec = next_view(one, "2", "", HISTORY("a", "y@1"), now);
	_cleanup_view_ struct snapshot *spec =
		next_view(no_spec, "3", TAG("a", "x:1"), HISTORY("a", "y@1"), now + 1);
	_cleanup_view_ struct snapshot *gone = next_view(spec, "4", "", "", now + 2);
	_cleanup_view_ struct snapshot *back = next_view(gone, "5", TAG("a", "x:1"), "", now + 3);

	assert_int_equal(attr(no_spec, KIND_TAG, "a").ino, attr(one, KIND_TAG, "a").ino);
	assert_int_equal(attr(no_spec, KIND_TAG, "a").mtime, now);
	assert_int_equal(attr(spec, KIND_TAG_STATUS, "a").ino, attr(one, KIND_TAG_STATUS, "a").ino);
	assert_int_not_equal(attr(spec, KIND_TAG_SPEC, "a").ino, attr(one, KIND_TAG_SPEC, "a").ino);
	assert_int_not_equal(attr(back, KIND_TAG, "a").ino, attr(one, KIND_TAG, "a").ino);
	assert_int_equal(attr(gone, KIND_TAGS, "").mtime, now + 2);
	assert_int_equal(attr(gone, KIND_TAGS, "").nlink, 2);
}

static void assert_shows(struct snapshot *v, enum kind kind, const char *tag, const char *expected)
{
	_cleanup_buf_ struct buf text = BUF_INIT(ATTR_MAX);

	assert_int_equal(snapshot_show(v, kind, tag, &text), 0);
	assert_string_equal(text.data, expected);
	assert_int_equal(attr(v, kind, tag).size, text.len);
	assert_int_equal(attr(v, kind, tag).nlink, 1);
}

static void assert_none(struct snapshot *v, enum kind kind, const char *tag)
{
	_cleanup_buf_ struct buf text = BUF_INIT(ATTR_MAX);
	struct layout_attr a;

	assert_int_equal(snapshot_attr(v, kind, tag, &a), -ENOENT);
	assert_int_equal(snapshot_show(v, kind, tag, &text), -ENOENT);
	assert_int_equal(text.len, 0);
}

static void test_every_file(void **state)
{
	_cleanup_view_ struct snapshot *v = next_view(
		NULL, "1", "{\"generation\":3,\"name\":\"a\"}", "{\"tag\":\"a\",\"items\":[]}", 0);

	assert_shows(v, KIND_IMAGESTREAM_JSON, "",
		"{\n  \"kind\": \"ImageStream\",\n  \"apiVersion\": \"image.openshift.io/v1\",\n"
		"  \"metadata\": {\n    \"name\": \"web\",\n    \"namespace\": \"shop\",\n"
		"    \"uid\": \"u1\",\n    \"resourceVersion\": \"1\",\n    \"generation\": 7,\n"
		"    \"creationTimestamp\": \"2026-10-01T00:00:00Z\"\n  },\n"
		"  \"spec\": {\n    \"tags\": [\n      {\n        \"generation\": 3,\n"
		"        \"name\": \"a\"\n      }\n    ]\n  },\n"
		"  \"status\": {\n    \"tags\": [\n      {\n        \"tag\": \"a\",\n"
		"        \"items\": []\n      }\n    ]\n  }\n}\n");
	assert_shows(v, KIND_METADATA_JSON, "",
		"{\n  \"name\": \"web\",\n  \"namespace\": \"shop\",\n  \"uid\": \"u1\",\n"
		"  \"creationTimestamp\": \"2026-10-01T00:00:00Z\"\n}\n");
	assert_shows(v, KIND_SPEC_JSON, "",
		"{\n  \"tags\": [\n    {\n      \"name\": \"a\"\n    }\n  ]\n}\n");
	assert_shows(v, KIND_STATUS_JSON, "",
		"{\n  \"tags\": [\n    {\n      \"tag\": \"a\",\n      \"items\": []\n    }\n  "
		"]\n}\n");
	assert_shows(v, KIND_TAG_SPEC, "a", "{\n  \"name\": \"a\"\n}\n");
	assert_shows(v, KIND_TAG_STATUS, "a", "{\n  \"tag\": \"a\",\n  \"items\": []\n}\n");
	assert_none(v, KIND_TAG_IMAGE, "a");
	assert_none(v, KIND_TAG_FROM, "a");
	assert_none(v, KIND_TAG_SPEC, "b");
	assert_int_equal(attr(v, KIND_STREAM, "").nlink, 3);
	assert_int_equal(attr(v, KIND_TAGS, "").nlink, 3);
	assert_int_equal(attr(v, KIND_TAG, "a").nlink, 2);
	for (enum kind kind = KIND_STREAM; kind < KIND_TAG_FROM; kind++)
		assert_int_equal(
			attr(v, kind, kind >= KIND_TAG ? "a" : "").mtime, v->object->newest);
}

static void test_image(void **state)
{
	_cleanup_view_ struct snapshot *v = next_view(NULL, "1", TAG("none", "x:1"),
		"{\"tag\":\"null\",\"items\":null},{\"tag\":\"empty\",\"items\":[]},{\"tag\":"
		"\"no\"},"
		"{\"tag\":\"two\",\"items\":[{\"dockerImageReference\":\"new@2\"},"
		"{\"dockerImageReference\":\"old@1\"}]}",
		0);

	assert_none(v, KIND_TAG_IMAGE, "null");
	assert_none(v, KIND_TAG_IMAGE, "empty");
	assert_none(v, KIND_TAG_IMAGE, "no");
	assert_none(v, KIND_TAG_IMAGE, "none");
	assert_shows(v, KIND_TAG_IMAGE, "two", "new@2\n");
	assert_shows(v, KIND_TAG_FROM, "none", "x:1\n");
	assert_none(v, KIND_TAG_FROM, "two");
	assert_shows(v, KIND_TAG_STATUS, "null", "{\n  \"tag\": \"null\",\n  \"items\": null\n}\n");
}

/* What only the server counts moves the whole object's files alone. */
static void test_counters(void **state)
{
	_cleanup_view_ struct snapshot *one =
		next_view(NULL, "1", TAG("a", "x:1"), HISTORY("a", "y@1"), 0);
	int64_t now = one->object->newest + 100;
	_cleanup_view_ struct snapshot *two = next_view(one, "2",
		"{\"name\":\"a\",\"generation\":3,\"from\":{\"kind\":\"DockerImage\",\"name\":\"x:"
		"1\"}}",
		HISTORY("a", "y@1"), now);

	for (enum kind kind = KIND_STREAM; kind <= KIND_TAG_IMAGE; kind++) {
		const char *tag = kind >= KIND_TAG ? "a" : "";

		assert_int_equal(attr(two, kind, tag).mtime,
			kind == KIND_IMAGESTREAM_JSON || kind == KIND_IMAGESTREAM_YAML
				? now
				: one->object->newest);
		assert_true(attr(two, kind, tag).ino == attr(one, kind, tag).ino);
	}
}

/* Nobody pays for YAML that nobody looks at. */
static void test_yaml_is_lazy(void **state)
{
	_cleanup_view_ struct snapshot *one = next_view(NULL, "1", "", "", 0);
	_cleanup_view_ struct snapshot *two = next_view(one, "2", "", "", 1);
	struct layout_attr stamp = {0}, whole;

	assert_int_equal(snapshot_stamp(one, KIND_IMAGESTREAM_YAML, "", &stamp), 0);
	assert_int_equal(snapshot_stamp(two, KIND_IMAGESTREAM_YAML, "", &stamp), 0);
	assert_int_equal(attr(two, KIND_IMAGESTREAM_JSON, "").mtime, stamp.mtime);
	assert_int_equal(one->yaml_size, 0);
	assert_int_equal(two->yaml_size, 0);
	whole = attr(two, KIND_IMAGESTREAM_YAML, "");
	assert_true(whole.size > 0 && whole.size == two->yaml_size);
	assert_int_equal(whole.mtime, stamp.mtime);
	assert_int_equal(whole.ino, stamp.ino);
	assert_int_equal(one->yaml_size, 0);
}

static void test_odd_tag_names(void **state)
{
	char long_name[300] = "";
	_cleanup_free_ char *tags = NULL;
	_cleanup_view_ struct snapshot *v = NULL;
	_cleanup_json_ json_t *last = NULL;
	_cleanup_index_ struct snapshot_index *x = NULL;

	memset(long_name, 'x', sizeof(long_name) - 1);
	tags = xasprintf("{\"name\":\"a/b\"},{\"name\":\"\"},{\"name\":\"\\u0000\"},"
			 "{\"name\":\"a\\u0000b\"},{\"name\":\"%s\"},{\"name\":7},{},"
			 "{\"name\":\"a/b\",\"second\":true}",
		long_name);
	v = next_view(NULL, "1", tags, HISTORY("a/b", "y@1"), 0);
	x = snapshot_index(v);
	assert_int_equal(x->ntags, 3);
	assert_int_equal(attr(v, KIND_TAGS, "").nlink, 5);
	assert_shows(v, KIND_TAG_SPEC, "a%2Fb", "{\n  \"name\": \"a/b\"\n}\n");
	assert_shows(v, KIND_TAG_IMAGE, "a%2Fb", "y@1\n");
	assert_shows(v, KIND_TAG_SPEC, "%00", "{\n  \"name\": \"\"\n}\n");
	assert_shows(v, KIND_TAG_SPEC, "a%00b", "{\n  \"name\": \"a\\u0000b\"\n}\n");
	assert_string_equal(x->tags[2].name, "a%2Fb");
	assert_string_equal(x->tags[1].name, "a%00b");
	assert_int_equal(x->tags[1].raw_len, 3);
	assert_memory_equal(x->tags[1].raw, "a\0b", 3);
	assert_int_equal(snapshot_tag_cookie(v, "a%00b"), 2);
	assert_int_equal(snapshot_tag_cookie(v, "a/b"), 0);
	last = journal_last(journal);
	assert_string_equal(json_str(last, "errno"), "ENAMETOOLONG");
}

/* Places in listings stay, also when later tags come before them by name. */
static void test_cookies(void **state)
{
	_cleanup_view_ struct snapshot *one =
		next_view(NULL, "1", TAG("b", "x") "," TAG("a", "x") "," TAG("d", "x"), "", 0);
	_cleanup_view_ struct snapshot *two =
		next_view(one, "2", TAG("c", "x") "," TAG("b", "x"), "", 0);
	_cleanup_view_ struct snapshot *three = next_view(two, "3", TAG("d", "x") "," TAG("b", "x"),
		HISTORY("a", "y") "," HISTORY("c", "y"), 0);
	_cleanup_index_ struct snapshot_index *first = snapshot_index(one);
	_cleanup_index_ struct snapshot_index *x = snapshot_index(three);

	assert_true(snapshot_tag_cookie(one, "a") < snapshot_tag_cookie(one, "b"));
	assert_int_equal(snapshot_tag_cookie(two, "b"), snapshot_tag_cookie(one, "b"));
	assert_int_equal(snapshot_tag_cookie(three, "b"), snapshot_tag_cookie(one, "b"));
	assert_int_equal(snapshot_tag_cookie(three, "c"), snapshot_tag_cookie(two, "c"));
	assert_true(snapshot_tag_cookie(two, "c") > first->counter);
	assert_true(snapshot_tag_cookie(three, "d") > snapshot_tag_cookie(two, "c"));
	assert_true(snapshot_tag_cookie(three, "a") > snapshot_tag_cookie(two, "c"));
	assert_int_equal(x->ntags, 4);
	for (size_t i = 1; i < x->ntags; i++)
		assert_true(x->tags[i - 1].cookie < x->tags[i].cookie);
}

/* An index that was dropped is made anew as it was, and the journal hears of an odd name once. */
static void test_index_is_made_anew(void **state)
{
	char long_name[300] = "";
	_cleanup_free_ char *tags = NULL;
	_cleanup_view_ struct snapshot *v = NULL;
	_cleanup_index_ struct snapshot_index *x = NULL, *again = NULL, *third = NULL;
	size_t told;

	memset(long_name, 'x', sizeof(long_name) - 1);
	tags = xasprintf("{\"name\":\"%s\"}," TAG("a", "x"), long_name);
	v = next_view(NULL, "1", tags, HISTORY("b", "y@1"), 0);
	x = snapshot_index(v);
	told = journal_count(journal);
	for (int i = 0; i < 1000; i++) {
		_cleanup_view_ struct snapshot *other = next_view(NULL, "1", "", "", 0);

		snapshot_index_unref(snapshot_index(other));
	}
	again = snapshot_index(v);
	third = snapshot_index(v);
	assert_ptr_not_equal(again, x);
	assert_ptr_equal(third, again);
	assert_int_equal(again->ntags, x->ntags);
	for (size_t i = 0; i < x->ntags; i++) {
		assert_string_equal(again->tags[i].name, x->tags[i].name);
		assert_int_equal(again->tags[i].cookie, x->tags[i].cookie);
		assert_int_equal(again->tags[i].mtime, x->tags[i].mtime);
		assert_int_equal(again->tags[i].born, x->tags[i].born);
	}
	assert_memory_equal(again->files, x->files, sizeof(x->files));
	assert_int_equal(journal_count(journal), told);
}

#define NAMES  4
#define PLACES (STREAM_FILES + NAMES * TAG_FILES)
#define STEPS  400

/* A file as the last version showed it. */
struct past {
	char *bytes; /* NULL: not there */
	struct layout_attr attr;
	uint64_t inos[STEPS]; /* of earlier lives */
	size_t lives;
};

static void check_file(struct snapshot *v, enum kind kind, const char *tag, struct past *past)
{
	struct buf text = BUF_INIT(ATTR_MAX);
	struct layout_attr a = {0};
	int r = snapshot_attr(v, kind, tag, &a);
	char *bytes;

	assert_int_equal(snapshot_show(v, kind, tag, &text), r);
	bytes = r == 0 ? buf_steal(&text, NULL) : NULL;
	assert_int_equal(a.size, bytes ? strlen(bytes) : 0);
	if (bytes && !past->bytes) {
		for (size_t i = 0; i < past->lives; i++)
			assert_true(a.ino != past->inos[i]);
		past->inos[past->lives++] = a.ino;
	} else if (bytes) {
		assert_true(a.ino == past->attr.ino);
		if (streq(bytes, past->bytes))
			assert_true(a.mtime == past->attr.mtime);
		else
			assert_true(a.mtime > past->attr.mtime);
	}
	free(past->bytes);
	past->bytes = bytes;
	past->attr = a;
}

/* Any history, with a clock that jumps: each file moves with its bytes, and what comes is new. */
static void test_random_history(void **state)
{
	static struct past pasts[PLACES];
	uint64_t seed = HASH_INIT;
	struct snapshot *v = NULL;
	int spec[NAMES] = {0}, status[NAMES] = {0}; /* which content; 0: none */

	for (int step = 1; step < STEPS; step++) {
		_cleanup_buf_ struct buf specs = BUF_INIT(ATTR_MAX), statuses = BUF_INIT(ATTR_MAX);
		char version[16], tag[] = "t0";
		struct snapshot *next;
		int i;

		seed = hash_bytes(seed, &step, sizeof(step));
		i = (seed >> 20) % NAMES;
		if (seed >> 63)
			spec[i] = (seed >> 30) % 3;
		else
			status[i] = (seed >> 30) % 4;
		buf_addstr(&specs, "");
		buf_addstr(&statuses, "");
		for (int k = 0; k < NAMES; k++) {
			if (spec[k])
				buf_addf(&specs, "%s{\"name\":\"t%d\",\"x\":%d}",
					specs.len ? "," : "", k, spec[k]);
			if (status[k])
				buf_addf(&statuses, "%s{\"tag\":\"t%d\",\"items\":[%s]}",
					statuses.len ? "," : "", k,
					status[k] == 1	 ? ""
					: status[k] == 2 ? "{\"dockerImageReference\":\"r\"}"
							 : "{\"dockerImageReference\":\"s\"}");
		}
		sprintf(version, "%d", step);
		next = next_view(v, version, specs.data, statuses.data, (int64_t)(seed >> 2));
		snapshot_unref(v);
		v = next;
		for (i = 0; i < PLACES; i++) {
			int k = (i - STREAM_FILES) / TAG_FILES;

			tag[1] = '0' + k;
			if (i < STREAM_FILES)
				check_file(v, KIND_IMAGESTREAM_JSON + i, "", &pasts[i]);
			else
				check_file(v, KIND_TAG_SPEC + (i - STREAM_FILES) % TAG_FILES, tag,
					&pasts[i]);
		}
	}
	snapshot_unref(v);
	for (int i = 0; i < PLACES; i++)
		free(pasts[i].bytes);
}

static void escape(const char *raw, size_t len, const char *expected)
{
	char name[NAME_SIZE];

	assert_int_equal(layout_escape(raw, len, name), 0);
	assert_string_equal(name, expected);
}

static void test_escape(void **state)
{
	char name[NAME_SIZE], longest[NAME_SIZE];

	escape("", 0, "%00");
	escape(".", 1, "%2E");
	escape("..", 2, "%2E.");
	escape("a/b%c", 5, "a%2Fb%25c");
	escape("a\0b", 3, "a%00b");
	escape("a\nb\x7f", 4, "a%0Ab%7F");
	escape("v1.2", 4, "v1.2");
	assert_int_equal(layout_escape("\0", 1, name), -EINVAL);
	memset(longest, 'x', sizeof(longest));
	assert_int_equal(layout_escape(longest, 255, name), 0);
	assert_int_equal(layout_escape(longest, 256, name), -ENAMETOOLONG);
	longest[0] = '/';
	assert_int_equal(layout_escape(longest, 254, name), -ENAMETOOLONG);
}

static bool count_names(void *arg, const char *name, uint64_t cookie, const struct place *path,
	const struct layout_attr *a)
{
	uint64_t *last = arg;

	assert_true(cookie > *last);
	*last = cookie;
	return true; /* one at a time */
}

static void publish(struct shown *p, int i, bool there)
{
	_cleanup_free_ char *text =
		xasprintf("{\"metadata\":{\"name\":\"s%d\",\"namespace\":\"n\",\"uid\":\"u%d\","
			  "\"resourceVersion\":\"1\"}}",
			i, i);
	_cleanup_free_ char *key = xasprintf("n/s%d", i);
	_cleanup_json_ json_t *json = json_loads(text, 0, NULL);
	_cleanup_object_ struct object *o = NULL;
	_cleanup_view_ struct snapshot *old = NULL, *next = NULL;

	assert_int_equal(object_from_json(json, "v1", &o), 0);
	assert_true(set_stream(p, key, there ? o : NULL, &old, &next));
	assert_true((next != NULL) == there && (old != NULL) == !there);
}

static void test_listing_goes_on(void **state)
{
	struct shown *p = shown_new(indexes);
	struct place path = {.kind = KIND_NAMESPACE, .ns = "n"};
	struct layout_attr a;
	uint64_t last = 0, before;
	int seen = 0;

	for (int i = 0; i < 300; i++)
		publish(p, i, true);
	do {
		before = last;
		shown_list(p, &path, last, count_names, &last);
		seen += last != before;
		if (seen % 2 == 0 && seen < 200)
			publish(p, seen / 2 - 1, false); /* one that was listed already */
	} while (last != before && seen < 1000);
	assert_int_equal(seen, 300);
	assert_int_equal(shown_attr(p, &path, &a), 0);
	assert_int_equal(a.nlink, 1); /* nobody has counted yet */
	shown_set_ready(p, NULL, true);
	assert_int_equal(shown_attr(p, &path, &a), 0);
	assert_int_equal(a.nlink, 2 + 300 - 99);
	shown_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_object),
		cmocka_unit_test(test_contents),
		cmocka_unit_test(test_size_of_parts),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_what_comes_back_is_new),
		cmocka_unit_test(test_every_file),
		cmocka_unit_test(test_image),
		cmocka_unit_test(test_counters),
		cmocka_unit_test(test_yaml_is_lazy),
		cmocka_unit_test(test_odd_tag_names),
		cmocka_unit_test(test_cookies),
		cmocka_unit_test(test_index_is_made_anew),
		cmocka_unit_test(test_random_history),
		cmocka_unit_test(test_escape),
		cmocka_unit_test(test_listing_goes_on),
	};
	int r;

	journal = journal_new();
	indexes = indexes_new(journal);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	indexes_free(indexes);
	journal_free(journal);
	return r;
}
