/* Objects, views and the published tree. */
#include "fs/published.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct object_cache *cache;
static struct journal *journal;

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

static struct view *next_view(struct view *old, const char *version, const char *spec_tags,
	const char *status_tags, int64_t now)
{
	_cleanup_object_ struct object *o = object(version, spec_tags, status_tags);

	return view_new(o, old, now, cache, journal);
}

static struct tree_attr attr(struct view *v, enum node_kind kind, const char *tag)
{
	struct tree_attr a;

	assert_int_equal(view_attr(v, kind, tag, &a), 0);
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
	_cleanup_view_ struct view *v =
		next_view(NULL, "1", TAG("a", "x:1"), HISTORY("b", "y@1"), 0);
	_cleanup_buf_ struct buf text = BUF_INIT(ATTR_MAX);
	struct tree_attr a;

	assert_int_equal(view_show(v, NODE_TAG_SPEC, "a", &text), 0);
	assert_string_equal(text.data, "{\n  \"name\": \"a\",\n  \"from\": {\n    \"kind\": "
				       "\"DockerImage\",\n    \"name\": \"x:1\"\n  }\n}\n");
	buf_release(&text);
	assert_int_equal(view_show(v, NODE_TAG_IMAGE, "b", &text), 0);
	assert_string_equal(text.data, "y@1\n");
	assert_int_equal(attr(v, NODE_TAG_IMAGE, "b").size, 4);
	assert_int_equal(view_attr(v, NODE_TAG_STATUS, "a", &a), -ENOENT);
	assert_int_equal(view_attr(v, NODE_TAG_SPEC, "b", &a), -ENOENT);
	buf_release(&text);
	assert_int_equal(view_show(v, NODE_METADATA_JSON, "", &text), 0);
	assert_null(strstr(text.data, "generation"));
	assert_null(strstr(text.data, "resourceVersion"));
	assert_null(strstr(text.data, "managedFields"));
	assert_int_equal(attr(v, NODE_TAGS, "").nlink, 4);
}

static void test_times(void **state)
{
	_cleanup_view_ struct view *one =
		next_view(NULL, "1", TAG("a", "x:1") "," TAG("b", "x:1"), HISTORY("a", "y@1"), 0);
	int64_t newest = one->object->newest;
	_cleanup_view_ struct view *two = next_view(
		one, "2", TAG("a", "x:2") "," TAG("b", "x:1"), HISTORY("a", "y@1"), newest + 100);
	_cleanup_view_ struct view *three = next_view(
		two, "3", TAG("a", "x:3") "," TAG("b", "x:1"), HISTORY("a", "y@1"), newest - 100);

	assert_int_equal(attr(one, NODE_TAG_SPEC, "a").mtime, newest);
	assert_int_equal(attr(two, NODE_TAG_SPEC, "a").mtime, newest + 100);
	assert_int_equal(attr(two, NODE_SPEC_JSON, "").mtime, newest + 100);
	assert_int_equal(attr(two, NODE_IMAGESTREAM_JSON, "").mtime, newest + 100);
	assert_int_equal(attr(two, NODE_TAG_SPEC, "b").mtime, newest);
	assert_int_equal(attr(two, NODE_STATUS_JSON, "").mtime, newest);
	assert_int_equal(attr(two, NODE_METADATA_JSON, "").mtime, newest);
	assert_int_equal(attr(two, NODE_TAGS, "").mtime, newest);
	/* A clock that goes back still moves on. */
	assert_int_equal(attr(three, NODE_TAG_SPEC, "a").mtime, newest + 101);
	assert_int_equal(attr(three, NODE_TAG_SPEC, "a").ino, attr(one, NODE_TAG_SPEC, "a").ino);
}

static void test_what_comes_back_is_new(void **state)
{
	_cleanup_view_ struct view *one =
		next_view(NULL, "1", TAG("a", "x:1"), HISTORY("a", "y@1"), 0);
	int64_t now = one->object->newest + 100;
	_cleanup_view_ struct view *no_spec = next_view(one, "2", "", HISTORY("a", "y@1"), now);
	_cleanup_view_ struct view *spec =
		next_view(no_spec, "3", TAG("a", "x:1"), HISTORY("a", "y@1"), now + 1);
	_cleanup_view_ struct view *gone = next_view(spec, "4", "", "", now + 2);
	_cleanup_view_ struct view *back = next_view(gone, "5", TAG("a", "x:1"), "", now + 3);

	assert_int_equal(attr(no_spec, NODE_TAG, "a").ino, attr(one, NODE_TAG, "a").ino);
	assert_int_equal(attr(no_spec, NODE_TAG, "a").mtime, now);
	assert_int_equal(attr(spec, NODE_TAG_STATUS, "a").ino, attr(one, NODE_TAG_STATUS, "a").ino);
	assert_int_not_equal(attr(spec, NODE_TAG_SPEC, "a").ino, attr(one, NODE_TAG_SPEC, "a").ino);
	assert_int_not_equal(attr(back, NODE_TAG, "a").ino, attr(one, NODE_TAG, "a").ino);
	assert_int_equal(attr(gone, NODE_TAGS, "").mtime, now + 2);
	assert_int_equal(attr(gone, NODE_TAGS, "").nlink, 2);
}

static void escape(const char *raw, size_t len, const char *expected)
{
	char name[NAME_SIZE];

	assert_int_equal(tree_escape(raw, len, name), 0);
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
	assert_int_equal(tree_escape("\0", 1, name), -EINVAL);
	memset(longest, 'x', sizeof(longest));
	assert_int_equal(tree_escape(longest, 255, name), 0);
	assert_int_equal(tree_escape(longest, 256, name), -ENAMETOOLONG);
	longest[0] = '/';
	assert_int_equal(tree_escape(longest, 254, name), -ENAMETOOLONG);
}

static bool count_names(void *arg, const char *name, uint64_t cookie, const struct tree_path *path,
	const struct tree_attr *a)
{
	uint64_t *last = arg;

	assert_true(cookie > *last);
	*last = cookie;
	return true; /* one at a time */
}

static void publish(struct published *p, int i, bool there)
{
	_cleanup_free_ char *text =
		xasprintf("{\"metadata\":{\"name\":\"s%d\",\"namespace\":\"n\",\"uid\":\"u%d\","
			  "\"resourceVersion\":\"1\"}}",
			i, i);
	_cleanup_free_ char *key = xasprintf("n/s%d", i);
	_cleanup_json_ json_t *json = json_loads(text, 0, NULL);
	_cleanup_object_ struct object *o = NULL;
	_cleanup_view_ struct view *old = NULL, *new = NULL;

	assert_int_equal(object_from_json(json, "v1", &o), 0);
	assert_true(published_set_stream(p, key, there ? o : NULL, &old, &new));
	assert_true((new != NULL) == there && (old != NULL) == !there);
}

static void test_listing_goes_on(void **state)
{
	struct published *p = published_new(cache, journal);
	struct tree_path path = {.kind = NODE_NAMESPACE, .namespace = "n"};
	struct tree_attr a;
	uint64_t last = 0, before;
	int seen = 0;

	for (int i = 0; i < 300; i++)
		publish(p, i, true);
	do {
		before = last;
		published_list(p, &path, last, count_names, &last);
		seen += last != before;
		if (seen % 2 == 0 && seen < 200)
			publish(p, seen / 2 - 1, false); /* one that was listed already */
	} while (last != before && seen < 1000);
	assert_int_equal(seen, 300);
	assert_int_equal(published_attr(p, &path, &a), 0);
	assert_int_equal(a.nlink, 1); /* nobody has counted yet */
	published_set_ready(p, NULL);
	assert_int_equal(published_attr(p, &path, &a), 0);
	assert_int_equal(a.nlink, 2 + 300 - 99);
	published_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_object),
		cmocka_unit_test(test_contents),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_what_comes_back_is_new),
		cmocka_unit_test(test_escape),
		cmocka_unit_test(test_listing_goes_on),
	};
	int r;

	cache = object_cache_new();
	journal = journal_new();
	r = cmocka_run_group_tests(tests, NULL, NULL);
	object_cache_free(cache);
	journal_free(journal);
	return r;
}
