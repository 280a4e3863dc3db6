/* JSON texts in pieces. */
#include "client/cut.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void assert_piece(const struct piece *p, const char *expected)
{
	assert_int_equal(p->len, strlen(expected));
	assert_memory_equal(p->p, expected, p->len);
}

/* The members of an object, one call each, as "key=value key=value"; -errno. */
static int members(const char *text, char *ret, bool *ret_spaces)
{
	struct cut c = CUT_INIT(text, strlen(text));
	struct piece key, value;
	int r = cut_enter(&c, '{');

	*ret = '\0';
	while (r == 0 && (r = cut_next(&c, '}')) > 0) {
		r = cut_key(&c, &key);
		if (r == 0)
			r = cut_value(&c, &value);
		if (r == 0)
			ret += sprintf(
				ret, "%.*s=%.*s ", (int)key.len, key.p, (int)value.len, value.p);
	}
	*ret_spaces = c.spaces;
	return r < 0 ? r : cut_end(&c);
}

static void test_members(void **state)
{
	static const struct {
		const char *text, *members;
		bool spaces;
	} rows[] = {
		{"{}", "", false},
		{" { } \n", "", true},
		{"{\"a\":1}", "\"a\"=1 ", false},
		{"{\"a\":{\"b\":[1,{}]},\"c\":\"}\"}", "\"a\"={\"b\":[1,{}]} \"c\"=\"}\" ", false},
		{"{\"a\":\"\\\\\",\"b\":\"\\\"\"}", "\"a\"=\"\\\\\" \"b\"=\"\\\"\" ", false},
		{"{\"a\\\"\":[],\"\":null}", "\"a\\\"\"=[] \"\"=null ", false},
		{"{\"a\" :\t-1.5e3\r\n, \"b\": true}", "\"a\"=-1.5e3 \"b\"=true ", true},
		{"{\"a\":[1, 2]}", "\"a\"=[1, 2] ", true},
		{"{\"a\":\" \"}", "\"a\"=\" \" ", false},
	};
	char found[256];
	bool spaces;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(members(rows[i].text, found, &spaces), 0);
		assert_string_equal(found, rows[i].members);
		assert_int_equal(spaces, rows[i].spaces);
	}
}

static void test_refused(void **state)
{
	static const char *const texts[] = {"", "[", "{", "{\"a\"", "{\"a\":", "{\"a\":1",
		"{\"a\":}", "{\"a\":1,", "{\"a\":1,}", "{,}", "{\"a\" 1}", "{a:1}",
		"{\"a\":1 \"b\":2}", "{\"a\":\"x}", "{\"a\":\"x\\\"}", "{\"a\":[{]}", "{\"a\":1}x",
		"{\"a\":1}{}", "{\"a\":{}"};
	char found[256];
	bool spaces;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (members(texts[i], found, &spaces) != -EBADMSG)
			fail_msg("%s: %s", texts[i], found);
}

/* Whatever is missing at the end: nothing is read past it. */
static void test_every_length(void **state)
{
	static const char text[] = "{\"a\\\\\":\"b\\\"\",\"c\":[{\"d\":\"\\\\\"},1,true],\"e\":-1}";
	char found[256];
	bool spaces;

	for (size_t len = 0; len < strlen(text); len++) {
		_cleanup_free_ char *part = xstrndup(text, len);

		assert_int_equal(members(part, found, &spaces), -EBADMSG);
	}
	assert_int_equal(members(text, found, &spaces), 0);
}

/* An array within an object, entered instead of taken whole. */
static void test_nested(void **state)
{
	static const char text[] = "{\"items\":[{\"a\":1},[],\"x\"],\"kind\":\"List\"}";
	struct cut c = CUT_INIT(text, strlen(text));
	struct piece key, item;

	assert_int_equal(cut_enter(&c, '['), -EBADMSG);
	assert_int_equal(cut_enter(&c, '{'), 0);
	assert_int_equal(cut_next(&c, '}'), 1);
	assert_int_equal(cut_key(&c, &key), 0);
	assert_true(cut_is(&key, "items"));
	assert_false(cut_is(&key, "item"));
	assert_int_equal(cut_enter(&c, '['), 0);
	assert_int_equal(cut_next(&c, ']'), 1);
	assert_int_equal(cut_value(&c, &item), 0);
	assert_piece(&item, "{\"a\":1}");
	assert_int_equal(cut_next(&c, ']'), 1);
	assert_int_equal(cut_value(&c, &item), 0);
	assert_piece(&item, "[]");
	assert_int_equal(cut_next(&c, ']'), 1);
	assert_int_equal(cut_value(&c, &item), 0);
	assert_piece(&item, "\"x\"");
	assert_int_equal(cut_next(&c, ']'), 0);
	assert_int_equal(cut_next(&c, '}'), 1);
	assert_int_equal(cut_key(&c, &key), 0);
	assert_piece(&key, "\"kind\"");
	assert_int_equal(cut_value(&c, &item), 0);
	assert_int_equal(cut_next(&c, '}'), 0);
	assert_int_equal(cut_end(&c), 0);
}

static void test_plain(void **state)
{
	char text[5];

	assert_true(cut_plain(&(struct piece){"\"abcd\"", 6}, text, sizeof(text)));
	assert_string_equal(text, "abcd");
	assert_true(cut_plain(&(struct piece){"\"\"", 2}, text, sizeof(text)));
	assert_string_equal(text, "");
	assert_false(cut_plain(&(struct piece){"\"abcde\"", 7}, text, sizeof(text)));
	assert_false(cut_plain(&(struct piece){"\"a\\\"\"", 5}, text, sizeof(text)));
	assert_false(cut_plain(&(struct piece){"1234", 4}, text, sizeof(text)));
	assert_false(cut_plain(&(struct piece){"1", 1}, text, sizeof(text)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_every_length),
		cmocka_unit_test(test_nested),
		cmocka_unit_test(test_plain),
	};

	return cmocka_run_group_tests_name("cut", tests, NULL, NULL);
}
