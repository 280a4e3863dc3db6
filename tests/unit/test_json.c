/* What is measured of a JSON text before it is parsed, and lists read item by item. */
#include "client/json.h"
#include "client/list.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* `before`, `n` times `each`, `after`. The caller frees. */
static char *repeated(const char *before, const char *each, size_t n, const char *after)
{
	size_t size = strlen(before) + n * strlen(each) + strlen(after) + 1;
	char *text = xmalloc(size), *p = stpcpy(text, before);

	while (n--)
		p = stpcpy(p, each);
	strcpy(p, after);
	return text;
}

static int read_text(const char *text, char **ret_why)
{
	_cleanup_json_ json_t *json = NULL;

	return json_read(text, strlen(text), JSON_ALLOW_NUL | JSON_DECODE_ANY, &json, ret_why);
}

static void assert_read(const char *text, int expected, const char *reason)
{
	_cleanup_free_ char *why = NULL;
	int r = read_text(text, &why);

	if (r != expected)
		fail_msg("%.40s: %d, not %d (%s)", text, r, expected, why ? why : "-");
	if (reason)
		assert_string_equal(why, reason);
	else
		assert_null(why);
	assert_int_equal(read_text(text, NULL), expected);
}

static void test_small(void **state)
{
	static const struct {
		const char *text;
		int error;
	} rows[] = {
		{"{}", 0},
		{" [1, \"a,b\\\"[[[\", {\"k\": null}] ", 0},
		{"1", 0},
		{"", -EBADMSG},
		{"{", -EBADMSG},
		{"]]]]", -EBADMSG},
		{"\"\\", -EBADMSG},
		{"{\"a\":\"\\ud800\"}", -EBADMSG},
		{"{\"a\":\"\xff\"}", -EBADMSG},
		{"{\"a\\u0000\":1}", -EBADMSG},
		{"[1e999]", -EFBIG},
		{"[99999999999999999999]", -EFBIG},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *why = NULL;

		assert_int_equal(read_text(rows[i].text, &why), rows[i].error);
		assert_int_equal(why != NULL, rows[i].error != 0);
	}
	assert_null(json_read_or_null(NULL, 0, 0));
}

static void test_values(void **state)
{
	_cleanup_free_ char *fits = repeated("[{}", ",{}", JSON_VALUES_MAX - 2, "]");
	_cleanup_free_ char *above = repeated("[{}", ",{}", JSON_VALUES_MAX - 1, "]");
	_cleanup_free_ char *members = repeated("{\"a\":[1,2", ",\"x\"", JSON_VALUES_MAX - 4, "]}");
	_cleanup_free_ char *more = repeated("{\"a\":[1,2", ",\"x\"", JSON_VALUES_MAX - 3, "]}");
	_cleanup_free_ char *string = repeated("[\"", "{,[", JSON_VALUES_MAX, "\"]");

	assert_read(fits, 0, NULL);
	assert_read(above, -EFBIG, "more than 200000 values");
	assert_read(members, 0, NULL);
	assert_read(more, -EFBIG, "more than 200000 values");
	assert_read(string, 0, NULL);
}

static void test_depth(void **state)
{
	_cleanup_free_ char *left = repeated("", "[", JSON_DEPTH_MAX, "");
	_cleanup_free_ char *fits = repeated(left, "]", JSON_DEPTH_MAX, "");
	_cleanup_free_ char *above = repeated("", "[", JSON_DEPTH_MAX + 1, "");
	_cleanup_free_ char *far = repeated("", "{\"a\":", 100000, "");

	assert_read(fits, 0, NULL);
	assert_read(above, -EFBIG, "nested more than 512 deep");
	assert_read(far, -EFBIG, "nested more than 512 deep");
}

static void test_size(void **state)
{
	_cleanup_free_ char *fits = repeated("[\"", "x", JSON_TEXT_MAX - 4, "\"]");
	_cleanup_free_ char *above = repeated("[\"", "x", JSON_TEXT_MAX - 3, "\"]");

	assert_read(fits, 0, NULL);
	assert_read(above, -EFBIG, "larger than 8 MiB");
}

static void count_item(void *arg, const char *text, size_t len)
{
	size_t *n = arg;

	*n += len;
}

static void test_list(void **state)
{
	static const struct {
		const char *text;
		int error;
		size_t bytes; /* of items */
	} rows[] = {
		{"{\"items\":[{},1,\"]\"]}", 0, 6},
		{"{\"items\":[]}", 0, 0},
		{"{\"items\":null}", 0, 0},
		{"{\"kind\":\"List\"}", 0, 0},
		{"{\"items\":{}}", -EBADMSG, 0},
		{"{\"items\":\"x\"}", -EBADMSG, 0},
		{"{\"items\":[{},", -EBADMSG, 0},
		{"{\"items\":[]}x", -EBADMSG, 0},
		{"[]", -EBADMSG, 0},
		{"", -EBADMSG, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_json_ json_t *metadata = NULL;
		size_t bytes = 0;

		assert_int_equal(list_read(rows[i].text, strlen(rows[i].text), count_item, &bytes,
					 &metadata),
			rows[i].error);
		assert_int_equal(bytes, rows[i].bytes);
		assert_null(metadata);
	}
}

static void test_list_metadata(void **state)
{
	static const char text[] = "{\"items\":[],\"metadata\":{\"continue\":\"x\"}}";
	_cleanup_json_ json_t *metadata = NULL;
	size_t bytes = 0;

	assert_int_equal(list_read(text, strlen(text), count_item, &bytes, &metadata), 0);
	assert_string_equal(json_str(metadata, "continue"), "x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_list_metadata),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
