/* Drafts: bytes, limits, and when they are to be saved (DESIGN.md 3 "When"). */
#include "fs/tree/draft.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct draft *d;

static int setup(void **state)
{
	d = draft_new();
	return 0;
}

static int teardown(void **state)
{
	draft_free(d);
	return 0;
}

static void load(const char *text)
{
	assert_int_equal(draft_load(d, text, strlen(text), false), 0);
}

static void put(uint64_t offset, const char *text)
{
	assert_int_equal(draft_write(d, text, strlen(text), offset, false), 0);
}

static void assert_bytes(const char *expected, size_t len)
{
	size_t n;
	_cleanup_free_ char *data = draft_read(d, 0, SIZE_MAX, &n);

	assert_int_equal(draft_size(d), len);
	assert_int_equal(n, len);
	assert_memory_equal(data, expected, len);
}

static void assert_text(const char *expected)
{
	assert_bytes(expected, strlen(expected));
}

#define UNTOUCHED 4711

static void assert_clean(void)
{
	int verdict = UNTOUCHED;
	uint64_t change = UNTOUCHED;
	size_t len = UNTOUCHED;
	char *text = NULL;

	assert_int_equal(draft_state(d, &verdict), DRAFT_CLEAN);
	assert_int_equal(draft_take(d, &verdict, &text, &len, &change), DRAFT_CLEAN);
	assert_int_equal(verdict, UNTOUCHED);
	assert_null(text);
}

static void assert_decided(int expected)
{
	int verdict = UNTOUCHED;
	uint64_t change = UNTOUCHED;
	size_t len = UNTOUCHED;
	char *text = NULL;

	assert_int_equal(draft_state(d, &verdict), DRAFT_DECIDED);
	assert_int_equal(verdict, expected);
	verdict = UNTOUCHED;
	assert_int_equal(draft_take(d, &verdict, &text, &len, &change), DRAFT_DECIDED);
	assert_int_equal(verdict, expected);
	assert_null(text);
}

/* To be saved, with those bytes. Returns the change. */
static uint64_t take(const char *expected)
{
	_cleanup_free_ char *text = NULL;
	int verdict = UNTOUCHED;
	uint64_t change = 0;
	size_t len;

	assert_int_equal(draft_state(d, &verdict), DRAFT_WRITTEN);
	assert_int_equal(draft_take(d, &verdict, &text, &len, &change), DRAFT_WRITTEN);
	assert_int_equal(verdict, UNTOUCHED);
	assert_int_equal(len, strlen(expected));
	assert_memory_equal(text, expected, len + 1); /* with its NUL */
	return change;
}

static void test_load(void **state)
{
	assert_false(draft_is_loaded(d));
	assert_int_equal(draft_size(d), 0);
	assert_clean();
	load("abc");
	assert_true(draft_is_loaded(d));
	assert_text("abc");
	load("other"); /* it has bytes already */
	assert_text("abc");
	assert_clean();
}

static void test_load_nothing(void **state)
{
	assert_int_equal(draft_load(d, NULL, 0, false), 0);
	assert_true(draft_is_loaded(d));
	load("abc");
	assert_text("");
	assert_clean();
}

static void test_load_limit(void **state)
{
	_cleanup_free_ char *data = xcalloc(DRAFT_MAX + 1, 1);

	assert_int_equal(draft_load(d, data, DRAFT_MAX + 1, false), -EFBIG);
	assert_false(draft_is_loaded(d));
	assert_int_equal(draft_load(d, data, DRAFT_MAX, false), 0);
	assert_true(draft_is_loaded(d));
	assert_int_equal(draft_size(d), DRAFT_MAX);
}

static void test_bytes(void **state)
{
	_cleanup_free_ char *part = NULL, *none = NULL;
	size_t len;

	load("abcdef");
	put(2, "XY");
	assert_text("abXYef");
	put(5, "gh");
	assert_text("abXYegh");
	assert_int_equal(draft_write(d, "i", 1, 0, true), 0); /* to the end, whatever the offset */
	assert_text("abXYeghi");
	assert_int_equal(draft_truncate(d, 2), 0);
	assert_text("ab");
	assert_int_equal(draft_truncate(d, 4), 0);
	put(6, "z");
	assert_bytes("ab\0\0\0\0z", 7); /* nothing of what was there before */
	part = draft_read(d, 1, 2, &len);
	assert_int_equal(len, 2);
	assert_memory_equal(part, "b\0", 2);
	none = draft_read(d, 8, 5, &len);
	assert_int_equal(len, 0);
	free(none);
	none = draft_read(d, UINT64_MAX, SIZE_MAX, &len);
	assert_int_equal(len, 0);
}

static void test_limit(void **state)
{
	static const struct {
		uint64_t offset;
		size_t len;
	} rows[] = {{DRAFT_MAX, 1}, {DRAFT_MAX - 1, 2}, {DRAFT_MAX + 1, 1}, {UINT64_MAX, 1},
		{UINT64_MAX - 1, 3}, {INT64_MAX, 1}, {0, DRAFT_MAX + 1}};
	_cleanup_free_ char *data = xcalloc(DRAFT_MAX + 1, 1);

	assert_int_equal(DRAFT_MAX, 4 << 20);
	load("abc");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(draft_write(d, data, rows[i].len, rows[i].offset, false), -EFBIG);
	assert_int_equal(draft_truncate(d, DRAFT_MAX + 1), -EFBIG);
	assert_int_equal(draft_truncate(d, UINT64_MAX), -EFBIG);
	assert_text("abc");
	assert_clean();
	put(DRAFT_MAX - 1, "z");
	assert_int_equal(draft_size(d), DRAFT_MAX);
	assert_int_equal(draft_write(d, "z", 1, 0, true), -EFBIG);
	assert_int_equal(draft_size(d), DRAFT_MAX);
	assert_int_equal(draft_truncate(d, 0), 0);
	assert_int_equal(draft_write(d, data, DRAFT_MAX, 0, true), 0);
	assert_int_equal(draft_truncate(d, DRAFT_MAX), 0);
}

/* What was refused for its size changes nothing, also not that there is a verdict. */
static void test_limit_keeps_verdict(void **state)
{
	load("");
	put(0, "abc");
	draft_decide(d, take("abc"), EINVAL);
	assert_int_equal(draft_write(d, "x", 1, DRAFT_MAX, false), -EFBIG);
	assert_int_equal(draft_truncate(d, DRAFT_MAX + 1), -EFBIG);
	assert_decided(EINVAL);
}

/* touch, micro, emacs: open and close without writing. */
static void test_opened_only(void **state)
{
	assert_clean();
	load("abc");
	assert_clean();
}

/* `> file`: the shell flushes an empty file before anything is written to it. */
static void test_emptied(void **state)
{
	load("abc");
	assert_int_equal(draft_truncate(d, 0), 0);
	assert_text("");
	assert_clean();
	put(0, "new");
	draft_decide(d, take("new"), 0);
	assert_decided(0);
}

/* Truncation to 0 takes back what was written, also what has a verdict. */
static void test_emptied_after_writing(void **state)
{
	load("abc");
	put(0, "xyz");
	assert_int_equal(draft_truncate(d, 0), 0);
	assert_clean();
	put(0, "1");
	draft_decide(d, take("1"), EINVAL);
	assert_int_equal(draft_truncate(d, 0), 0);
	assert_clean();
	assert_int_equal(draft_truncate(d, 5), 0); /* nothing was written since */
	assert_clean();
	put(0, "12345");
	take("12345");
}

/* Truncation to another size than 0 doesn't write by itself … */
static void test_cut_only(void **state)
{
	load("abcdef");
	assert_int_equal(draft_truncate(d, 3), 0);
	assert_clean();
	assert_int_equal(draft_truncate(d, 5), 0);
	assert_clean();
	put(0, "x");
	assert_bytes("xbc\0\0", 5);
}

/* … and leaves what was written before to be saved (ftruncate before or after). */
static void test_cut_after_writing(void **state)
{
	load("abcdef");
	put(0, "xyz");
	assert_int_equal(draft_truncate(d, 3), 0);
	draft_decide(d, take("xyz"), 0);
	assert_decided(0);
	assert_int_equal(draft_truncate(d, 2), 0); /* other bytes than those with a verdict */
	draft_decide(d, take("xy"), EINVAL);
	assert_decided(EINVAL);
	assert_int_equal(draft_truncate(d, 2), 0); /* the same ones */
	assert_decided(EINVAL);
}

static void test_cut_before_writing(void **state)
{
	load("abcdef");
	assert_int_equal(draft_truncate(d, 3), 0);
	assert_int_equal(draft_write(d, "d", 1, 0, true), 0);
	take("abcd");
}

/* A save of nothing is none. */
static void test_empty(void **state)
{
	load("");
	assert_int_equal(draft_write(d, NULL, 0, 0, false), 0);
	assert_clean();
	load("abc");
	assert_int_equal(draft_write(d, "", 0, 0, true), 0);
	assert_clean();
}

/* Later flushes of the same bytes repeat the verdict, until something is written. */
static void test_verdict_stays(void **state)
{
	static const int verdicts[] = {0, EINVAL, ESTALE, EINTR};

	load("");
	for (size_t i = 0; i < ARRAY_SIZE(verdicts); i++) {
		char text[] = {'a' + i, '\0'};

		put(0, text);
		draft_decide(d, take(text), verdicts[i]);
		for (int k = 0; k < 3; k++)
			assert_decided(verdicts[i]);
		assert_int_equal(draft_write(d, NULL, 0, 0, false), 0); /* no byte */
		assert_decided(verdicts[i]);
	}
	put(0, "d"); /* written anew, be it the same */
	take("d");
}

/* What was written while a save was under way has no verdict. */
static void test_write_during_save(void **state)
{
	uint64_t first, second;

	load("");
	put(0, "abc");
	first = take("abc");
	assert_true(take("abc") == first);
	assert_int_equal(draft_write(d, "d", 1, 0, true), 0);
	draft_decide(d, first, 0);
	second = take("abcd");
	assert_true(second != first);
	draft_decide(d, second, EINVAL);
	assert_decided(EINVAL);
}

/* The verdict on an older change doesn't replace that on a newer one. */
static void test_late_verdict(void **state)
{
	uint64_t first, second;

	load("");
	put(0, "a");
	first = take("a");
	put(0, "b");
	second = take("b");
	draft_decide(d, second, EINVAL);
	draft_decide(d, first, 0);
	assert_decided(EINVAL);
	draft_decide(d, second, 0); /* the same one, decided again */
	assert_decided(0);
}

/* A verdict that is taken back: these bytes are to be saved. */
static void test_undecide(void **state)
{
	load("");
	put(0, "abc");
	draft_decide(d, take("abc"), EINTR);
	draft_undecide(d);
	draft_decide(d, take("abc"), 0);
	assert_decided(0);
	assert_int_equal(draft_truncate(d, 0), 0);
	draft_undecide(d);
	assert_clean();
}

static void test_cut_during_save(void **state)
{
	uint64_t change;

	load("");
	put(0, "abc");
	change = take("abc");
	assert_int_equal(draft_truncate(d, 2), 0);
	draft_decide(d, change, 0);
	take("ab");
	change = take("ab");
	assert_int_equal(draft_truncate(d, 0), 0);
	draft_decide(d, change, EINVAL);
	assert_clean();
	put(0, "new");
	take("new");
}

/* The taken bytes are a copy, with whatever is in them. */
static void test_take(void **state)
{
	_cleanup_free_ char *text = NULL;
	uint64_t change;
	size_t len;
	int verdict;

	load("");
	assert_int_equal(draft_write(d, "a\0b", 3, 0, false), 0);
	assert_int_equal(draft_take(d, &verdict, &text, &len, &change), DRAFT_WRITTEN);
	put(0, "xyz");
	assert_int_equal(len, 3);
	assert_memory_equal(text, "a\0b", 4);
}

/* Renamed over the real name: what the handle wrote before is saved already. */
static void test_load_saved(void **state)
{
	load("draft");
	put(0, "DRAFT!");
	draft_decide(d, take("DRAFT!"), EINVAL);
	assert_int_equal(draft_load(d, "saved", 5, true), 0);
	assert_text("saved");
	assert_decided(0);
	put(5, "!");
	draft_decide(d, take("saved!"), ESTALE);
	assert_decided(ESTALE);
}

static void test_load_saved_first(void **state)
{
	assert_int_equal(draft_load(d, "saved", 5, true), 0);
	assert_true(draft_is_loaded(d));
	assert_decided(0);
	load("other");
	assert_text("saved");
	assert_int_equal(draft_truncate(d, 3), 0);
	take("sav"); /* written once, cut then */
}

static void test_load_saved_empty(void **state)
{
	assert_int_equal(draft_load(d, "", 0, true), 0);
	assert_clean();
	put(0, "x");
	take("x");
}

/* The verdict on what stood there before isn't one on this. */
static void test_load_saved_during_save(void **state)
{
	uint64_t change;

	load("");
	put(0, "abc");
	change = take("abc");
	assert_int_equal(draft_load(d, "saved", 5, true), 0);
	assert_decided(0);
	draft_decide(d, change, EINVAL);
	assert_decided(0);
	put(0, "S");
	draft_decide(d, change, EINVAL);
	take("Saved");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_load, setup, teardown),
		cmocka_unit_test_setup_teardown(test_load_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_load_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limit_keeps_verdict, setup, teardown),
		cmocka_unit_test_setup_teardown(test_opened_only, setup, teardown),
		cmocka_unit_test_setup_teardown(test_emptied, setup, teardown),
		cmocka_unit_test_setup_teardown(test_emptied_after_writing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cut_only, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cut_after_writing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cut_before_writing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(test_verdict_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_during_save, setup, teardown),
		cmocka_unit_test_setup_teardown(test_late_verdict, setup, teardown),
		cmocka_unit_test_setup_teardown(test_undecide, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cut_during_save, setup, teardown),
		cmocka_unit_test_setup_teardown(test_take, setup, teardown),
		cmocka_unit_test_setup_teardown(test_load_saved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_load_saved_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_load_saved_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(test_load_saved_during_save, setup, teardown),
	};

	return cmocka_run_group_tests_name("draft", tests, NULL, NULL);
}
