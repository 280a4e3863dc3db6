/* YAML as kubectl reads it, and JSON → YAML → JSON. */
#include "client/yaml.h"
#include "tests/yaml_reference.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define TEXT_MAX ((size_t)16 << 20)
#define MANY	 2000

static json_t *load(const char *text)
{
	json_error_t error;
	json_t *json = json_loads(text, JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);

	if (!json)
		fail_msg("%s: %s", text, error.text);
	return json;
}

static char *dump(const json_t *json)
{
	return json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
}

static void assert_reads(const char *yaml, const char *json)
{
	_cleanup_json_ json_t *expected = load(json), *read = NULL;
	_cleanup_free_ char *error = NULL, *is = NULL, *should = dump(expected);

	if (yaml_parse(yaml, strlen(yaml), &read, &error) < 0)
		fail_msg("%s: %s", yaml, error);
	is = dump(read);
	assert_string_equal(is, should);
}

static void assert_refused(const char *yaml, const char *sentence)
{
	_cleanup_json_ json_t *read = NULL;
	_cleanup_free_ char *error = NULL;

	assert_int_equal(yaml_parse(yaml, strlen(yaml), &read, &error), -EINVAL);
	assert_string_equal(error, sentence);
	assert_null(read);
}

/* What `kubectl label --local -f` makes of the same words, but for the integers beyond 64 bits. */
static void test_scalars(void **state)
{
	static const char *const pairs[][2] = {
		{"", "null"},
		{"~", "null"},
		{"null", "null"},
		{"Null", "null"},
		{"nULL", "\"nULL\""},
		{"y", "true"},
		{"N", "false"},
		{"Yes", "true"},
		{"yEs", "\"yEs\""},
		{"ON", "true"},
		{"off", "false"},
		{"TRUE", "true"},
		{"False", "false"},
		{"0", "0"},
		{"-0", "0"},
		{"+1", "1"},
		{"0o7", "7"},
		{"017", "15"},
		{"08", "8"},
		{"0x1F", "31"},
		{"-0x1f", "-31"},
		{"0b101", "5"},
		{"1_000", "1000"},
		{"_1", "\"_1\""},
		{"0x", "\"0x\""},
		{"0b2", "\"0b2\""},
		{"9223372036854775807", "9223372036854775807"},
		{"-9223372036854775808", "-9223372036854775808"},
		{"1e3", "1000.0"},
		{"1.5e+3", "1500.0"},
		{"1.0", "1.0"},
		{".5", "0.5"},
		{"5.", "5.0"},
		{"._5", "\"._5\""},
		{"1e", "\"1e\""},
		{"1e400", "\"1e400\""},
		{"1.2.3", "\"1.2.3\""},
		{"1:30", "\"1:30\""},
		{"+", "\"+\""},
		{".", "\".\""},
		{"=", "\"=\""},
		{"2026-11-23", "\"2026-11-23\""},
		{"2026-11-23T19:48:08Z", "\"2026-11-23T19:48:08Z\""},
		{"'yes'", "\"yes\""},
		{"\"1\"", "\"1\""},
		{"!!str 1", "\"1\""},
		{"!!str", "\"\""},
		{"\"\\0\\U0001F600\"", "\"\\u0000\\ud83d\\ude00\""},
		{"|\n a\n b\n", "\"a\\nb\\n\""},
		{">-\n a\n b\n", "\"a b\""},
		{"# nothing", "null"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
		assert_reads(pairs[i][0], pairs[i][1]);
}

static void test_collections(void **state)
{
	assert_reads("b: 1\na: [x, {c: d}]\n", "{\"b\":1,\"a\":[\"x\",{\"c\":\"d\"}]}");
	assert_reads("{1: a, 0x10: b, on: c, no: d, 2026-11-23: e}",
		"{\"1\":\"a\",\"16\":\"b\",\"true\":\"c\",\"false\":\"d\",\"2026-11-23\":\"e\"}");
	assert_reads("!!map {a: !!seq [b]}", "{\"a\":[\"b\"]}");
	assert_reads("{\"a\": \"b\\/c\"}", "{\"a\":\"b/c\"}");
	assert_reads("--- # one\na: b\n...\n", "{\"a\":\"b\"}");
}

static void test_aliases(void **state)
{
	assert_reads("a: &a [1]\nb: *a\n", "{\"a\":[1],\"b\":[1]}");
	assert_reads("a: &a 1\nb: &a 2\nc: *a\n", "{\"a\":1,\"b\":2,\"c\":2}");
	assert_reads("a: &a {x: 1, y_: 2}\nb: {x: 0, <<: *a}\nc: {<<: *a, x: 0}\n",
		"{\"a\":{\"x\":1,\"y_\":2},\"b\":{\"x\":0,\"y_\":2},\"c\":{\"x\":0,\"y_\":2}}");
	assert_reads("<<: [{a: 1}, {a: 2, b: 3}]\nc: 4\n", "{\"c\":4,\"a\":1,\"b\":3}");
	assert_reads("'<<': {a: 1}\n", "{\"<<\":{\"a\":1}}");
}

static void test_refused(void **state)
{
	assert_refused("a: b\nc: .inf\n", "line 2, column 4: infinity and NaN are no JSON");
	assert_refused("- -.INF", "line 1, column 3: infinity and NaN are no JSON");
	assert_refused("- .nan", "line 1, column 3: infinity and NaN are no JSON");
	assert_refused("9223372036854775808", "line 1, column 1: an integer beyond 64 bits");
	assert_refused("-9223372036854775809", "line 1, column 1: an integer beyond 64 bits");
	assert_refused("0x10000000000000000", "line 1, column 1: an integer beyond 64 bits");
	assert_refused("a: 1\nb: 2\na: 3\n", "line 3, column 1: a key that stands twice");
	assert_refused("{1: a, '1': b}", "line 1, column 8: a key that stands twice");
	assert_refused("~: a", "line 1, column 1: a key that isn't text: it needs quotes");
	assert_refused("1.10: a", "line 1, column 1: a key that isn't text: it needs quotes");
	assert_refused("? [a]\n: b", "line 1, column 3: a key that isn't text");
	assert_refused("\"a\\0\": b", "line 1, column 1: text with a NUL");
	assert_refused("a: !!binary aGk=", "line 1, column 4: tags aren't supported");
	assert_refused("a: !!int 1", "line 1, column 4: tags aren't supported");
	assert_refused("a: !x {}", "line 1, column 4: tags aren't supported");
	assert_refused("!!bool a: b", "line 1, column 1: tags aren't supported");
	assert_refused("a: *b", "line 1, column 4: unknown alias");
	assert_refused("a: &a [*a]", "line 1, column 8: unknown alias");
	assert_refused("a: &a b\n--- \nc: *a\n", "line 3, column 4: unknown alias");
	assert_refused("<<: 1", "line 1, column 5: merging (<<) what isn't a map");
	assert_refused("<<: [{}, 1]", "line 1, column 5: merging (<<) what isn't a map");
	assert_refused("a: b\n---\nc: d\n", "several documents");
	assert_refused("a: b\n]\n", "line 2, column 1: did not find expected key");
	assert_refused("a: [b\n", "line 2, column 1: did not find expected ',' or ']'");
	assert_refused("a: \"\xff\"", "byte 5: invalid leading UTF-8 octet");
	assert_refused("a: \001", "byte 4: control characters are not allowed");
}

/* `before`, then n times `each`, then n times `after`. */
static char *nested(const char *before, const char *each, const char *after, size_t n)
{
	_cleanup_buf_ struct buf text = BUF_INIT(TEXT_MAX);
	size_t len;

	buf_addstr(&text, before);
	for (size_t i = 0; i < n; i++)
		buf_addstr(&text, each);
	for (size_t i = 0; i < n; i++)
		buf_addstr(&text, after);
	return buf_steal(&text, &len);
}

static void test_depth(void **state)
{
	_cleanup_free_ char *fits = nested("", "[", "]", 512), *deep = nested("", "[", "]", 513);
	_cleanup_free_ char *open = nested("", "{a: ", "", 1 << 18);
	_cleanup_free_ char *list = nested("", "- ", "", 1 << 19);
	_cleanup_free_ char *half = nested("&a ", "[", "]", 300);
	_cleanup_free_ char *twice = nested("[", "[", "", 300), *rest = nested("", "]", "", 300);
	_cleanup_free_ char *chain = xasprintf("[%s, %s*a%s]]", half, twice, rest);

	assert_reads(fits, fits);
	assert_refused(deep, "line 1, column 513: nested too deeply");
	assert_refused(open, "line 1, column 2049: nested too deeply");
	assert_refused(list, "line 1, column 1025: nested too deeply");
	assert_refused(chain, "line 1, column 908: nested too deeply");
}

/* What aliases repeat is bounded, however little text it takes. */
static void test_bomb(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT(TEXT_MAX);
	_cleanup_json_ json_t *read = NULL;
	_cleanup_free_ char *error = NULL;

	buf_addstr(&text, "a0: &a0 [lol]\n");
	for (int i = 1; i < 30; i++)
		buf_addf(&text, "a%d: &a%d [*a%d, *a%d]\n", i, i, i - 1, i - 1);
	assert_int_equal(yaml_parse(text.data, text.len, &read, &error), -EINVAL);
	assert_non_null(strstr(error, ": aliases that repeat more than 1 MiB"));
}

static void test_documents(void **state)
{
	static const char text[] = "a: b\n---\n- 1\n---\n--- x\n...\n# end\n";
	static const char *const expected[] = {"{\"a\":\"b\"}", "[1]", "null", "\"x\""};
	_cleanup_yaml_reader_ struct yaml_reader *r =
		yaml_reader_new(text, strlen(text), YAML_SCALARS_TYPED);
	char *error = NULL;
	json_t *json;

	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		_cleanup_free_ char *is = NULL;

		assert_int_equal(yaml_reader_next(r, &json, &error), 1);
		is = dump(json);
		assert_string_equal(is, expected[i]);
		json_decref(json);
	}
	assert_int_equal(yaml_reader_next(r, &json, &error), 0);
	assert_int_equal(yaml_reader_next(r, &json, &error), 0);
}

/* The documents before the wrong one are given, none after. */
static void test_wrong_document(void **state)
{
	static const char text[] = "1\n---\na: .inf\n---\n2\n";
	_cleanup_yaml_reader_ struct yaml_reader *r =
		yaml_reader_new(text, strlen(text), YAML_SCALARS_TYPED);
	json_t *json = NULL;

	for (int i = 0; i < 3; i++) {
		_cleanup_free_ char *error = NULL;

		assert_int_equal(yaml_reader_next(r, &json, &error), i == 0 ? 1 : -EINVAL);
		if (i > 0)
			assert_string_equal(
				error, "line 3, column 4: infinity and NaN are no JSON");
	}
	json_decref(json);
}

static void test_text(void **state)
{
	static const char text[] = "{a: 1e3, yes: no, b: ~, c: .inf, 1.10: x}";
	_cleanup_yaml_reader_ struct yaml_reader *r =
		yaml_reader_new(text, strlen(text), YAML_SCALARS_TEXT);
	_cleanup_json_ json_t *json = NULL;
	_cleanup_free_ char *error = NULL, *is = NULL;

	assert_int_equal(yaml_reader_next(r, &json, &error), 1);
	is = dump(json);
	assert_string_equal(
		is, "{\"a\":\"1e3\",\"yes\":\"no\",\"b\":null,\"c\":\".inf\",\"1.10\":\"x\"}");
}

static void assert_shows(const char *json, const char *yaml)
{
	_cleanup_json_ json_t *value = load(json);
	_cleanup_buf_ struct buf out = BUF_INIT(TEXT_MAX);

	assert_int_equal(yaml_show(value, &out), 0);
	assert_string_equal(out.data, yaml);
}

static void test_show(void **state)
{
	assert_shows("{\"b\":{\"x\":1,\"a\":null},\"a\":[{\"n\":\"v\",\"t\":true},[],{}]}",
		"b:\n  x: 1\n  a: null\na:\n- \"n\": v\n  t: true\n- []\n- {}\n");
	assert_shows("[\"yes\",\"No\",\"null\",\"~\",\"1e3\",\"0o7\",\"2026-11-23\",\"1:30\",\"\"]",
		"- \"yes\"\n- \"No\"\n- \"null\"\n- \"~\"\n- \"1e3\"\n- \"0o7\"\n"
		"- \"2026-11-23\"\n- \"1:30\"\n- \"\"\n");
	assert_shows(
		"[\"sha256:0\",\"quay.io/a:b\",\"a: b\",\"a #b\",\" a\",\"-\",\"<<\",\"a\\tb\"]",
		"- sha256:0\n- quay.io/a:b\n- 'a: b'\n- 'a #b'\n- \" a\"\n- \"-\"\n- \"<<\"\n"
		"- \"a\\tb\"\n");
	assert_shows("[\"a\\nb\",\"a\\n\\n b\\n\",\"a\\n\\n\",\"a \\nb\",\" "
		     "a\\nb\",\"a\\r\\n\",\"a\\nb \"]",
		"- |-\n  a\n  b\n- |\n  a\n\n   b\n- \"a\\n\\n\"\n- \"a \\nb\"\n- \" a\\nb\"\n"
		"- \"a\\r\\n\"\n- \"a\\nb \"\n");
	assert_shows("[\"a\\u2028b\\n\",\"a\\u0085\",\"\\u0000\",\"\\ud83d\\ude00\",\"a\\u00fc\"]",
		"- \"a\\Lb\\n\"\n- \"a\\N\"\n- \"\\0\"\n- \"\\U0001F600\"\n- aü\n");
	assert_shows("[9007199254740993,-9223372036854775808,1.5,1e25,-0.0,1e-7]",
		"- 9007199254740993\n- -9223372036854775808\n- 1.5\n- 1.0000000000000001e+25\n"
		"- -0.0\n- 9.9999999999999995e-8\n");
	assert_shows("{\"y\":1,\"1\":2,\"\":3,\"a\\nb\":4}",
		"\"y\": 1\n\"1\": 2\n\"\": 3\n? \"a\\nb\"\n: 4\n");
}

/* A line is never folded. */
static void test_long_line(void **state)
{
	_cleanup_free_ char *words = nested("", "word ", "", 1000);
	_cleanup_free_ char *json = xasprintf("{\"a\":\"%sx\"}", words);
	_cleanup_free_ char *yaml = xasprintf("a: %sx\n", words);

	assert_shows(json, yaml);
}

static void test_too_large(void **state)
{
	_cleanup_json_ json_t *json = load("[\"0123456789\",\"0123456789\"]");
	_cleanup_buf_ struct buf out = BUF_INIT(20);

	assert_int_equal(yaml_show(json, &out), -EFBIG);
}

/* ---- the identity ---- */

static uint64_t seed;

static unsigned int random_below(unsigned int n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (seed >> 33) % n;
}

static json_t *random_string(void)
{
	static const char *const parts[] = {"", "a", "yes", "null", "~", "1", "e3", ".5", "0x", "-",
		" ", "  ", "\n", "\n\n", "\t", "\r", ": ", " #", "#", "'", "\"", "\\", "%", "&",
		"*", "!", "|", ">", "?", ",", "[", "]", "{", "}", "---", "...", "<<", "=", "@", "`",
		"ü", "\xc2\x85", "\xe2\x80\xa8", "\xef\xbb\xbf", "\xef\xbf\xbf", "\xf0\x9f\x98\x80",
		"\x7f", "\x1b", "2026-11-23", "word ", "_", "/"};
	_cleanup_buf_ struct buf text = BUF_INIT(TEXT_MAX);

	buf_addstr(&text, "");
	for (unsigned int i = random_below(6); i > 0; i--)
		buf_addstr(&text, parts[random_below(ARRAY_SIZE(parts))]);
	if (random_below(50) == 0)
		buf_add(&text, "\0x", 2);
	return json_stringn(text.data, text.len);
}

static json_t *random_value(unsigned int depth)
{
	unsigned int n = random_below(5);
	json_t *value;

	switch (random_below(depth ? 7 : 4)) {
	case 0:
		return json_boolean(n & 1);
	case 1:
		return n ? json_integer((json_int_t)(seed << random_below(64))) : json_null();
	case 2:
		return json_real((double)(int64_t)seed / (1 << random_below(20)) *
				 (random_below(3) ? 1 : 1e200));
	case 3:
		return random_string();
	case 4:
		value = json_array();
		while (n--)
			json_array_append_new(value, random_value(depth - 1));
		return value;
	default:
		value = json_object();
		while (n--) {
			_cleanup_json_ json_t *key = random_string();

			json_object_set_new(value, json_string_value(key), random_value(depth - 1));
		}
		return value;
	}
}

static void test_identity(void **state)
{
	for (int i = 0; i < MANY; i++) {
		_cleanup_json_ json_t *json = NULL, *back = NULL;
		_cleanup_buf_ struct buf yaml = BUF_INIT(TEXT_MAX), same = BUF_INIT(TEXT_MAX);
		_cleanup_free_ char *before = NULL, *after = NULL, *error = NULL;

		seed = i;
		json = random_value(5);
		assert_int_equal(yaml_show(json, &yaml), 0);
		assert_int_equal(yaml_reference_show(json, &same), 0);
		assert_string_equal(yaml.data, same.data);
		if (yaml_parse(yaml.data, yaml.len, &back, &error) < 0)
			fail_msg("%d: %s: %s", i, yaml.data, error);
		before = dump(json);
		after = dump(back);
		assert_string_equal(before, after);
	}
}

#define TEST(name) cmocka_unit_test(name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_scalars),
		TEST(test_collections),
		TEST(test_aliases),
		TEST(test_refused),
		TEST(test_depth),
		TEST(test_bomb),
		TEST(test_documents),
		TEST(test_wrong_document),
		TEST(test_text),
		TEST(test_show),
		TEST(test_long_line),
		TEST(test_too_large),
		TEST(test_identity),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
