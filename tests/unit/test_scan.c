/* One pass over a text: what is plain, where its values stand, how large they are when shown. */
#include "client/buf.h"
#include "client/json.h"
#include "client/scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static bool is_plain(const char *text, size_t len)
{
	_cleanup_free_ char *copy = xmalloc(len + 1); /* so that a byte too far is found */
	_cleanup_scan_ struct scan scan = SCAN_INIT;

	memcpy(copy, text, len);
	copy = xrealloc(copy, len + !len);
	return scan_read(&scan, copy, len);
}

static void test_plain(void **state)
{
	static const char *const texts[] = {"{}", "{\"a\":1}", "{\"a\":[{},[],\"\",{\"b\":null}]}",
		"{\"\":true,\"a\":false,\"k:{\\\"a\\\":\\\"\\n\\\"}\":{}}",
		"{\"a\":0,\"b\":-1,\"c\":123456789012345678}",
		"{\"a\":\"\\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u000B\\u001F/\x7f\"}",
		"{\"\u00e9\":\"\u20ac \U0001f600 \xed\x9f\xbf \uffff\"}"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (!is_plain(texts[i], strlen(texts[i])))
			fail_msg("%s", texts[i]);
}

/* Some of it is JSON, and means the same as something plain. */
static void test_not_plain(void **state)
{
	static const char *const texts[] = {"", "[]", "1", "\"a\"", "{", "{\"a\"",
		"{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{,}", "{}}", "{}x", "{\"a\" 1}",
		"{a:1}", "{\"a\":[}", "{\"a\":[1}", "{\"a\":[1,]}", " {}", "{} ", "{ }",
		"{\"a\": 1}", "{\"a\":1 }", "{\"a\":[1, 2]}", "{\"a\":1.0}", "{\"a\":1e1}",
		"{\"a\":-0}", "{\"a\":-}", "{\"a\":01}", "{\"a\":+1}",
		"{\"a\":1234567890123456789}", "{\"a\":tru}", "{\"a\":nul}", "{\"a\":nulls}",
		"{\"a\":TRUE}", "{\"a\":1,\"a\":2}", "{\"a\":{\"b\":1,\"c\":2,\"b\":3}}",
		"{\"\\u0061\":1}", "{\"\\n\":1,\"\\n\":2}", "{\"\\u0000\":1}", "{\"a\":\"\\/\"}",
		"{\"a\":\"\\u0041\"}", "{\"a\":\"\\u000a\"}", "{\"a\":\"\\u000A\"}",
		"{\"a\":\"\\u001f\"}", "{\"a\":\"\\u00e9\"}", "{\"a\":\"\\ud83d\\ude00\"}",
		"{\"a\":\"\\x\"}", "{\"a\":\"\\\"}", "{\"a\":\"\\u00\"}", "{\"a\":\"b}",
		"{\"a\":\"\n\"}", "{\"a\":\"\x1f\"}", "{\"a\":\"\xff\"}", "{\"a\":\"\x80\"}",
		"{\"a\":\"\xc1\x81\"}", "{\"a\":\"\xe0\x80\x80\"}", "{\"a\":\"\xed\xa0\x80\"}",
		"{\"a\":\"\xf0\x80\x80\x80\"}", "{\"a\":\"\xf4\x90\x80\x80\"}",
		"{\"a\":\"\xf5\x80\x80\x80\"}", "{\"a\":\"\xe2\x82\"}", "{\"a\":\"\xe2\x82\x00\"}"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (is_plain(texts[i], strlen(texts[i])))
			fail_msg("%s", texts[i]);
	assert_false(is_plain("{\"a\":\"\0\"}", 9));
	assert_false(is_plain("{}\0", 3));
}

/* Eight bytes are looked at together: what isn't ordinary is found at each of their places. */
static void test_every_place(void **state)
{
	static const char odd[] = "\"\\\x1f\x80\x01\n";

	for (size_t len = 1; len < 40; len++)
		for (size_t at = 0; at < len; at++)
			for (size_t i = 0; i < strlen(odd); i++) {
				_cleanup_free_ char *text =
					xasprintf("{\"a\":\"%*s\"}", (int)len, "");

				assert_true(is_plain(text, strlen(text)));
				text[6 + at] = odd[i];
				assert_false(is_plain(text, strlen(text)));
			}
}

static void fill(struct buf *out, const char *what, size_t times)
{
	for (size_t i = 0; i < times; i++)
		buf_addstr(out, what);
}

static void assert_limit(const char *begin, const char *what, size_t most, const char *end)
{
	for (size_t more = 0; more < 2; more++) {
		_cleanup_buf_ struct buf text = BUF_INIT(SIZE_MAX);
		_cleanup_json_ json_t *json = NULL;

		buf_addstr(&text, begin);
		fill(&text, what, most + more);
		buf_addstr(&text, end);
		if (streq(what, "["))
			fill(&text, "]", most + more);
		buf_addstr(&text, "}");
		json = json_read_or_null(text.data, text.len, 0);
		assert_int_equal(is_plain(text.data, text.len), json != NULL);
		assert_int_equal(is_plain(text.data, text.len), !more);
	}
}

/* The limits are those of json_read. */
static void test_limits(void **state)
{
	assert_limit("{\"a\":", "[", JSON_DEPTH_MAX - 1, "");
	assert_limit("{\"a\":[", "0,", JSON_VALUES_MAX - 3, "0]");
	assert_limit("{\"a\":\"", "x", JSON_TEXT_MAX - strlen("{\"a\":\"\"}"), "\"");
}

/* More members than are compared with each other are jansson's to look at. */
static void test_many_members(void **state)
{
	for (int members = 64; members <= 65; members++) {
		_cleanup_buf_ struct buf text = BUF_INIT(SIZE_MAX);

		for (int i = 0; i < members; i++)
			buf_addf(&text, "%s\"%d\":1", i ? "," : "{", i);
		buf_addstr(&text, "}");
		assert_int_equal(is_plain(text.data, text.len), members == 64);
	}
}

static void test_values(void **state)
{
	static const char text[] =
		"{\"a\":[10,\"x\\ny\\u0000z\",{\"b\":{}}],\"ab\":null,\"c\":\"plain\"}";
	_cleanup_scan_ struct scan scan = SCAN_INIT;
	const struct scan_value *a, *c;
	_cleanup_free_ char *x = NULL, *plain = NULL;
	size_t len;

	assert_true(scan_read(&scan, text, strlen(text)));
	assert_int_equal(scan.count, 8);
	assert_int_equal(scan.values->span, 8);
	a = scan_find(scan.values, "a");
	c = scan_find(scan.values, "c");
	assert_true(scan_is_array(a) && a->span == 5);
	assert_int_equal(scan_element(a, 0)->len, 2);
	x = scan_string(scan_element(a, 1), &len);
	assert_int_equal(len, 5);
	assert_memory_equal(x, "x\ny\0z", 6);
	assert_ptr_equal(scan_element(a, 2), a + 3);
	assert_null(scan_element(a, 3));
	plain = scan_string(c, &len);
	assert_string_equal(plain, "plain");
	assert_memory_equal(scan_key(c).p, "\"c\":\"plain\"", 11);
	assert_ptr_equal(scan_at(&scan, c->p), c);
	assert_ptr_equal(scan_at(&scan, text), scan.values);
	assert_null(scan_at(&scan, c->p + 1));
	assert_null(scan_find(scan.values, "b"));
	assert_null(scan_find(a, "b"));
	assert_null(scan_find(NULL, "b"));
	assert_null(scan_element(scan.values, 0));
	assert_null(scan_element(NULL, 0));
	assert_null(scan_string(a, &len));
	assert_null(scan_string(NULL, &len));
}

/* What jansson wrote is read though it isn't plain, and what stands after the value isn't. */
static void test_own(void **state)
{
	static const char text[] = "{\"\\\\u0000n\":-0.5e-7,\"a\":12345678901234567890}]";
	_cleanup_scan_ struct scan scan = SCAN_INIT;

	scan_read_own(&scan, text, strlen(text));
	assert_int_equal(scan.count, 3);
	assert_int_equal(scan.values->len, strlen(text) - 1);
	scan_read_own(&scan, text + strlen(text) - 22, 22);
	assert_int_equal(scan.values->len, 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_not_plain),
		cmocka_unit_test(test_every_place),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_many_members),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_own),
	};

	return cmocka_run_group_tests_name("scan", tests, NULL, NULL);
}
