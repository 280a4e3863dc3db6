/* What a tag follows, as one line and back. */
#include "client/reference.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static int show(const json_t *from, struct buf *out)
{
	_cleanup_free_ char *text = json_dumps(from, JSON_COMPACT | JSON_ENCODE_ANY);
	_cleanup_scan_ struct scan scan = SCAN_INIT;

	scan_read_own(&scan, text, strlen(text));
	return reference_show(scan.values, out);
}

static void assert_shows(const char *from, const char *line)
{
	_cleanup_json_ json_t *value = json_loads(from, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
	_cleanup_buf_ struct buf out = BUF_INIT(1 << 16);

	assert_non_null(value);
	assert_int_equal(show(value, &out), line ? 0 : -ENOENT);
	if (line)
		assert_string_equal(out.data, line);
}

static void assert_means(const char *line, size_t len, const char *from)
{
	_cleanup_json_ json_t *value = NULL, *wanted = json_loads(from, JSON_ALLOW_NUL, NULL);
	_cleanup_free_ char *error = NULL;

	if (reference_parse(line, len, &value, &error) < 0)
		fail_msg("%s: %s", line, error);
	if (!json_equal(value, wanted))
		fail_msg("%s", line);
}

static void assert_refused(const char *line, size_t len)
{
	_cleanup_free_ char *error = NULL;
	json_t *value = NULL;

	assert_int_equal(reference_parse(line, len, &value, &error), -EINVAL);
	assert_true(strlen(error) > 10 && !strchr(error, '\n'));
}

#define MEANS(line, from) assert_means(line, strlen(line), from)
#define REFUSED(line)	  assert_refused(line, strlen(line))

static void test_show(void **state)
{
	assert_shows("{\"kind\":\"DockerImage\",\"name\":\"quay.io/a/b:v1\"}", "quay.io/a/b:v1\n");
	assert_shows("{\"name\":\"quay.io/a/b:v1\"}", "quay.io/a/b:v1\n");
	assert_shows("{\"kind\":\"DockerImage\",\"namespace\":\"x\",\"name\":\"b\"}", "b\n");
	assert_shows(
		"{\"kind\":\"ImageStreamTag\",\"name\":\"web:v2\"}", "ImageStreamTag web:v2\n");
	assert_shows("{\"kind\":\"ImageStreamTag\",\"namespace\":\"\",\"name\":\"v2\"}",
		"ImageStreamTag v2\n");
	assert_shows("{\"kind\":\"ImageStreamTag\",\"namespace\":\"prod\",\"name\":\"web:v2\"}",
		"ImageStreamTag prod/web:v2\n");
	assert_shows("{\"kind\":\"ImageStreamTag\",\"name\":\"a/b\"}", "ImageStreamTag a%2Fb\n");
	assert_shows(
		"{\"kind\":\"ImageStreamTag\",\"name\":\"web:a/b\"}", "ImageStreamTag web:a/b\n");
	assert_shows("{\"kind\":\"ImageStreamTag\",\"namespace\":\"x\",\"name\":\"a/b\"}",
		"ImageStreamTag x/a/b\n");
	assert_shows("{\"kind\":\"ImageStreamTag\",\"name\":\"web:a\\n b%\\u0000 \"}",
		"ImageStreamTag web:a%0A b%25%00%20\n");
	assert_shows("{\"kind\":\"DockerImage\",\"name\":\"a b\"}", "DockerImage a b\n");
	assert_shows("{}", NULL);
	assert_shows("null", NULL);
}

static void test_parse(void **state)
{
	MEANS("quay.io/a/b:v1\n", "{\"kind\":\"DockerImage\",\"name\":\"quay.io/a/b:v1\"}");
	MEANS("quay.io/a/b:v1", "{\"kind\":\"DockerImage\",\"name\":\"quay.io/a/b:v1\"}");
	MEANS("\xef\xbb\xbf  quay.io/a \t\r\n",
		"{\"kind\":\"DockerImage\",\"name\":\"quay.io/a\"}");
	MEANS("DockerImage \t a/b\n", "{\"kind\":\"DockerImage\",\"name\":\"a/b\"}");
	MEANS("ImageStreamTag v2\n", "{\"kind\":\"ImageStreamTag\",\"name\":\"v2\"}");
	MEANS("ImageStreamTag prod/web:v2\n",
		"{\"kind\":\"ImageStreamTag\",\"namespace\":\"prod\",\"name\":\"web:v2\"}");
	MEANS("ImageStreamTag web:a/b\n", "{\"kind\":\"ImageStreamTag\",\"name\":\"web:a/b\"}");
	MEANS("ImageStreamTag a%2Fb\n", "{\"kind\":\"ImageStreamTag\",\"name\":\"a/b\"}");
	MEANS("ImageStreamImage web@sha256:0123\n",
		"{\"kind\":\"ImageStreamImage\",\"name\":\"web@sha256:0123\"}");
	MEANS("ImageStreamTag web:a%0Ab%zz%2\n",
		"{\"kind\":\"ImageStreamTag\",\"name\":\"web:a\\nb%zz%2\"}");
	MEANS("ImageStreamTag web:%41%25%00\n",
		"{\"kind\":\"ImageStreamTag\",\"name\":\"web:%41%\\u0000\"}");
	REFUSED("");
	REFUSED("\n");
	REFUSED(" \r\n");
	REFUSED("\xef\xbb\xbf");
	REFUSED("a\nb\n");
	REFUSED("a\n\n");
	REFUSED("a\rb");
	REFUSED("a\x01");
	REFUSED("a\xff");
	REFUSED("ImageStreamTag\n");
	REFUSED("DockerImage \n");
	REFUSED("ImageStreamTag prod/\n");
	assert_refused("a\0b", 3);
}

/* Whatever a tag is called: the line leads back to it. */
static void test_there_and_back(void **state)
{
	static const char *const kinds[] = {"DockerImage", "ImageStreamTag", "ImageStreamImage"};

	for (unsigned c = 0; c < 128; c++) {
		for (unsigned form = 0; form < 9; form++) {
			char name[] = "web:xyz";
			_cleanup_json_ json_t *from = NULL, *value = NULL;
			_cleanup_buf_ struct buf out = BUF_INIT(1 << 16);
			_cleanup_free_ char *error = NULL;

			name[4 + form / 3] = c;
			from = json_pack("{s:s, s:s#}", "kind", kinds[form % 3], "name", name, 7);
			assert_int_equal(show(from, &out), 0);
			assert_true(memchr(out.data, '\n', out.len) == out.data + out.len - 1);
			assert_int_equal(reference_parse(out.data, out.len, &value, &error), 0);
			assert_true(json_equal(from, value));
		}
	}
}

static void test_same(void **state)
{
	_cleanup_json_ json_t *bare =
		json_pack("{s:s, s:s}", "kind", "ImageStreamTag", "name", "a");
	_cleanup_json_ json_t *own = json_pack("{s:s, s:s, s:s, s:s}", "kind", "ImageStreamTag",
		"name", "a", "namespace", "shop", "fieldPath", "x");
	_cleanup_json_ json_t *image = json_pack("{s:s}", "name", "a");

	assert_true(reference_is_same(bare, own, "shop"));
	assert_false(reference_is_same(bare, own, "prod"));
	assert_false(reference_is_same(bare, image, "shop"));
	assert_false(reference_is_same(NULL, image, "shop"));
	assert_true(reference_is_same(image, image, "shop"));
}

static void test_split(void **state)
{
	struct reference r;

	assert_true(reference_split("reg.svc:5000/shop/web@sha256:01", &r));
	assert_string_equal(r.registry, "reg.svc:5000");
	assert_string_equal(r.ns, "shop");
	assert_string_equal(r.stream, "web");
	assert_string_equal(r.digest, "sha256:01");
	assert_true(reference_is_internal(r.registry));
	assert_true(reference_is_in("reg.svc:5000/shop/web", r.registry));
	assert_false(reference_is_in("reg.svc:50000/shop/web", r.registry));
	assert_false(reference_is_in(NULL, r.registry));
	reference_release(&r);
	assert_false(reference_split("reg/shop/web:v1", &r));
	assert_false(reference_split("reg/shop/web:v1@sha256:01", &r));
	assert_false(reference_split("reg/shop/deep/web@sha256:01", &r));
	assert_false(reference_split("reg/shop/web@", &r));
	assert_false(reference_split("reg//web@sha256:01", &r));
	assert_false(reference_split("web@sha256:01", &r));
	assert_false(reference_is_internal("quay.io"));
	assert_false(reference_is_internal(".svc:5000"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_show),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_same),
		cmocka_unit_test(test_split),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
