/* Manifests as people have them: what kubectl reads, and what of it counts. */
#include "client/manifest.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define VERSION "image.openshift.io/v1"

/* The text's documents, as one compact JSON array. */
static void assert_reads(const char *text, const char *documents)
{
	_cleanup_json_ json_t *found = json_array();
	_cleanup_free_ char *error = NULL, *shown = NULL;

	if (manifest_read(text, strlen(text), JSON_REJECT_DUPLICATES, found, &error) < 0)
		fail_msg("%s: %s", text, error);
	shown = json_dumps(found, JSON_COMPACT);
	assert_string_equal(shown, documents);
}

static void assert_refused(const char *text)
{
	_cleanup_json_ json_t *found = json_array();
	_cleanup_free_ char *error = NULL;

	assert_int_equal(
		manifest_read(text, strlen(text), JSON_REJECT_DUPLICATES, found, &error), -EINVAL);
	assert_non_null(error);
}

static void test_json(void **state)
{
	assert_reads("{\"a\":1}", "[{\"a\":1}]");
	assert_reads("{\"a\":1}{\"b\":2}\n{\"c\":3}\n", "[{\"a\":1},{\"b\":2},{\"c\":3}]");
	assert_reads("\xef\xbb\xbf\t \r\n{\"a\":1}\n\n", "[{\"a\":1}]");
	assert_reads("{\"a\":\t\"\\ud83d\\ude80\"}", "[{\"a\":\"🚀\"}]");
	assert_reads("{\"a\":1}\n---\n{\"b\":2}\n--- \n", "[{\"a\":1},{\"b\":2}]");
	assert_reads("---\n{\"a\":1}", "[{\"a\":1}]");
	assert_reads(
		"{\"kind\":\"List\",\"items\":[{\"a\":1},{\"b\":2}]}", "[{\"a\":1},{\"b\":2}]");
	assert_reads("{\"kind\":\"ImageStreamList\",\"items\":[]}", "[]");
	assert_reads("", "[]");
	assert_reads(" \n\t\n", "[]");
	assert_refused("{\"a\":1,\"a\":2}");
	assert_refused("{\"a\":1");
	assert_refused("{\"a\":1} x");
}

static void test_yaml(void **state)
{
	assert_reads("a: 1\n---\nb: yes\n", "[{\"a\":1},{\"b\":true}]");
	assert_reads("# nothing\n---\na: 1\n...\n---\n---\nb: 2\n", "[{\"a\":1},{\"b\":2}]");
	assert_reads("%YAML 1.1\n---\na: 1\n", "[{\"a\":1}]");
	assert_reads("{a: 1}\n", "[{\"a\":1}]");
	assert_reads("kind: List\nitems:\n- a: 1\n- b: 2\n", "[{\"a\":1},{\"b\":2}]");
	assert_reads("a: |\n  text\n   --- no end\nb: 2\n",
		"[{\"a\":\"text\\n --- no end\\n\",\"b\":2}]");
	assert_refused("a: [\n");
	assert_refused("a: 1\n---\n\tb: 2\n");
}

static void test_both(void **state)
{
	assert_reads("a: 1\n---\n{\"b\":\"\\ud83d\\ude80\"}\n---\nc: 3\n",
		"[{\"a\":1},{\"b\":\"🚀\"},{\"c\":3}]");
	assert_reads("{\"a\":1}{\"b\":2}\n---\nc: 3\n---\nd: 4\n",
		"[{\"a\":1},{\"b\":2},{\"c\":3},{\"d\":4}]");
}

static void assert_strips(const char *text, const char *stripped)
{
	_cleanup_json_ json_t *object = json_loads(text, 0, NULL);
	_cleanup_free_ char *shown = NULL;

	manifest_strip(object, VERSION);
	shown = json_dumps(object, JSON_COMPACT);
	assert_string_equal(shown, stripped);
}

static void test_strip(void **state)
{
	assert_strips("{\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"a\",\"generation\":2,"
		      "\"creationTimestamp\":null,\"finalizers\":[\"x/y\"]},"
		      "\"status\":{\"dockerImageRepository\":\"\"}}",
		"{\"apiVersion\":\"" VERSION
		"\",\"metadata\":{\"name\":\"a\",\"finalizers\":[\"x/y\"]}}");
	assert_strips("{\"apiVersion\":\"apps/v1\",\"metadata\":{\"uid\":\"u\",\"selfLink\":\"s\","
		      "\"resourceVersion\":\"5\",\"deletionTimestamp\":\"t\",\"managedFields\":[],"
		      "\"deletionGracePeriodSeconds\":0,\"ownerReferences\":[{}],"
		      "\"finalizers\":[\"x/y\"],\"labels\":{\"a\":\"b\"}}}",
		"{\"apiVersion\":\"apps/v1\",\"metadata\":{\"labels\":{\"a\":\"b\"}}}");
	assert_strips("{\"metadata\":[]}", "{\"metadata\":[]}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_yaml),
		cmocka_unit_test(test_both),
		cmocka_unit_test(test_strip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
