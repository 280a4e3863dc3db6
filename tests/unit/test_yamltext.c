/* The YAML of JSON's text is libyaml's, byte for byte; its size without it is that of the bytes. */
#include "client/yamltext.h"
#include "tests/yaml_reference.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/recordings.h"

#define TEXT_MAX ((size_t)64 << 20)

static const char *directory;
static size_t bodies;

static void assert_same(const json_t *json)
{
	_cleanup_free_ char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
	_cleanup_buf_ struct buf is = BUF_INIT(TEXT_MAX), should = BUF_INIT(TEXT_MAX);

	assert_non_null(text);
	assert_int_equal(yaml_reference_show(json, &should), 0);
	assert_int_equal(yamltext_show(text, strlen(text), &is), 0);
	if (is.len != should.len || memcmp(is.data, should.data, is.len) != 0)
		fail_msg("%s\nis:\n%s\nshould be:\n%s", text, is.data, should.data);
	assert_int_equal(yamltext_size(text, strlen(text)), is.len);
}

static void assert_same_json(const char *text)
{
	_cleanup_json_ json_t *json = json_loads(text, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);

	assert_non_null(json);
	assert_same(json);
}

/* A text on its own and wherever else one can stand. */
static void assert_same_text(const char *p, size_t len)
{
	_cleanup_json_ json_t *text = json_stringn(p, len);
	_cleanup_json_ json_t *list =
		json_pack("[O, [O, {s:O, s:[O, {s:[]}]}]]", text, text, "a", text, "b", text, "c");
	_cleanup_json_ json_t *map = json_object();

	assert_non_null(list);
	assert_same(text);
	assert_same(list);
	if (memchr(p, '\0', len)) /* jansson refuses such a key */
		return;
	json_object_set(map, p, text);
	json_array_append(list, map);
	json_array_append_new(list, json_pack("{s:{s:O}}", p, p, text));
	json_array_append_new(list, json_pack("{s:[[O], {s:{}}], s:[]}", p, text, p, "a"));
	assert_same(map);
	assert_same(list);
}

static void check_body(const json_t *json)
{
	_cleanup_free_ char *compact = json_dumps(json, JSON_COMPACT);
	_cleanup_free_ char *indented = json_dumps(json, JSON_INDENT(2));

	assert_same(json);
	assert_same_text(compact, strlen(compact));
	assert_same_text(indented, strlen(indented));
	bodies++;
}

static void test_recordings(void **state)
{
	read_recordings(directory, check_body);
	print_message("%zu bodies\n", bodies);
	assert_true(bodies > 500);
}

/* Whatever makes a difference to a style, alone, and up to three in a row. */
static void test_texts(void **state)
{
	static const char *const parts[] = {"", "a", "_", "1", "no", "-", "...", " ", "\n", "\r",
		":", "#", "'", "\"", "\\", "?", "\x1b", "\x7f", "\xc2\x85", "\xc3\xbc",
		"\xe2\x80\xa8", "\xf0\x9f\x98\x80"};
	const size_t n = ARRAY_SIZE(parts);

	for (size_t i = 0; i < n * n * n; i++) {
		char text[16];

		snprintf(text, sizeof(text), "%s%s%s", parts[i / n / n], parts[i / n % n],
			parts[i % n]);
		assert_same_text(text, strlen(text));
	}
}

/* Each character alone, between others and at the end of a line, around what is special. */
static void test_characters(void **state)
{
	static const unsigned int ranges[][2] = {{0x0, 0x110}, {0x2020, 0x2030}, {0xd7f0, 0xd800},
		{0xe000, 0xe010}, {0xfef0, 0xff10}, {0xfff0, 0x10000}};

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++)
		for (unsigned int c = ranges[i][0]; c < ranges[i][1]; c++) {
			_cleanup_free_ char *json =
				xasprintf("[\"\\u%04x\", \"a\\u%04xb\", \"a\\u%04x\\n\"]", c, c, c);

			assert_same_json(json);
		}
	assert_same_json("[\"\\ud800\\udc00\", \"\\udbff\\udfff\", \"a\\ud83d\\ude00\\n\"]");
}

/* A key of more than 128 bytes stands after a question mark, however it is escaped. */
static void test_long_keys(void **state)
{
	static const char *const ends[] = {
		"", "\"", "\\", "'", ": ", "\x01", "\t", "\xc3\xbc", "\n"};

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		for (int len = 120; len < 132; len++) {
			char key[160];

			snprintf(key, sizeof(key), "%0*d%s", len, 1, ends[i]);
			assert_same_text(key, strlen(key));
			*key = 'a';
			assert_same_text(key, strlen(key));
		}
}

static void test_others(void **state)
{
	static const char *const texts[] = {"{}", "[]", "\"\"", "null", "true", "false", "0", "-1",
		"1.5", "-0.0", "1e25", "1.5e300", "1e-7", "-1e-300", "9223372036854775807",
		"-9223372036854775808", "\"a\\u0000b\"", "\"\\u0000\\n\"", "\"a\\nb\"",
		"[0, -0.0, 1e25, {\"a\": 1e-7}]",
		"[[[]], [{}], {\"a\": [], \"b\": {}, \"\": [[1]]}]",
		"{\"a\": [{\"b\": [{\"c\": [1]}, 2]}, 3], \"d\": {\"e\": {\"f\": 4}, \"g\": 5}}"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		assert_same_json(texts[i]);
}

/* 512 levels of each kind, and a text of two lines at the bottom. */
static void test_depth(void **state)
{
	static const char *const kinds[][2] = {{"[", "]"}, {"{\"a\":", "}"}, {"{\"\\n\":", "}"},
		{"[1,{\"a\":", ",\"b\":2}]"}, {"{\"a\":[", "]}"}, {"{\"\\n\":[", "]}"}};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t levels = 512 / (strpbrk(kinds[i][0] + 1, "[{") ? 2 : 1);
		_cleanup_buf_ struct buf text = BUF_INIT(TEXT_MAX);

		for (size_t n = 0; n < levels; n++)
			buf_addstr(&text, kinds[i][0]);
		buf_addstr(&text, "\"a\\nb\"");
		for (size_t n = 0; n < levels; n++)
			buf_addstr(&text, kinds[i][1]);
		assert_same_json(text.data);
	}
}

/* What doesn't fit leaves the buf as it was. */
static void test_too_large(void **state)
{
	static const char json[] =
		"{\"a\":[\"b\\nc\",1e25,{\"d\":\"it's: x\"}],\"\\n\":\"\\u0001\"}";
	uint64_t size = yamltext_size(json, strlen(json));

	for (size_t max = 2; max <= size + 2; max++) {
		_cleanup_buf_ struct buf out = BUF_INIT(max);
		int r;

		buf_addstr(&out, "> ");
		r = yamltext_show(json, strlen(json), &out);
		assert_int_equal(r, max < size + 2 ? -EFBIG : 0);
		assert_int_equal(out.len, r < 0 ? 2 : size + 2);
		assert_int_equal(strlen(out.data), out.len);
	}
}

/* Only as much as `len` says is read. */
static void test_piece(void **state)
{
	_cleanup_buf_ struct buf out = BUF_INIT(TEXT_MAX);

	assert_int_equal(yamltext_show("1234", 2, &out), 0);
	assert_int_equal(yamltext_show("{\"a\":true},\"b\"", 10, &out), 0);
	assert_string_equal(out.data, "12\na: true\n");
}

#define TEST(name) cmocka_unit_test(name)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(test_recordings),
		TEST(test_texts),
		TEST(test_characters),
		TEST(test_long_keys),
		TEST(test_others),
		TEST(test_depth),
		TEST(test_too_large),
		TEST(test_piece),
	};

	directory = argc > 1 ? argv[1] : "tests/apiserver_test/transcripts";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
