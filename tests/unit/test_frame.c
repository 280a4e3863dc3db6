#include "client/frame.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Three documents: braces and quotes in strings, newlines inside, two on one line. */
static const char stream[] =
	"{\"a\":\"}{\\\"]\\\\\"}\n{\n \"b\": [1, {\"c\": \"x\\\\\"}]\n} {\"d\":{}}\r\n";
static const char *const documents[] = {
	"{\"a\":\"}{\\\"]\\\\\"}", "{\n \"b\": [1, {\"c\": \"x\\\\\"}]\n}", "{\"d\":{}}"};

static void expect_documents(struct frame *f, size_t *seen)
{
	const char *text;
	size_t len;
	int r;

	while ((r = frame_next(f, &text, &len)) == 1) {
		assert_true(*seen < ARRAY_SIZE(documents));
		assert_int_equal(len, strlen(documents[*seen]));
		assert_memory_equal(text, documents[*seen], len);
		++*seen;
	}
	assert_int_equal(r, 0);
}

static void test_every_border(void **state)
{
	for (size_t cut = 0; cut <= strlen(stream); cut++) {
		struct frame f = FRAME_INIT(1 << 20);
		size_t seen = 0;

		assert_int_equal(frame_feed(&f, stream, cut), 0);
		expect_documents(&f, &seen);
		assert_int_equal(frame_feed(&f, stream + cut, strlen(stream) - cut), 0);
		expect_documents(&f, &seen);
		assert_int_equal(seen, ARRAY_SIZE(documents));
		frame_release(&f);
	}
}

static void test_byte_by_byte(void **state)
{
	struct frame f = FRAME_INIT(1 << 20);
	size_t seen = 0;

	for (size_t i = 0; i < strlen(stream); i++) {
		assert_int_equal(frame_feed(&f, stream + i, 1), 0);
		expect_documents(&f, &seen);
	}
	assert_int_equal(seen, ARRAY_SIZE(documents));
	frame_release(&f);
}

static void test_cut_is_no_document(void **state)
{
	static const char cut[] = "{\"type\":\"ADDED\",\"object\":{\"kind\"";
	struct frame f = FRAME_INIT(1 << 20);
	const char *text;
	size_t len;

	frame_feed(&f, cut, strlen(cut));
	assert_int_equal(frame_next(&f, &text, &len), 0);
	frame_release(&f);
}

static void test_garbage(void **state)
{
	static const char *const garbage[] = {"x", "\"{}\"", "]", "1{}", "}"};

	for (size_t i = 0; i < ARRAY_SIZE(garbage); i++) {
		struct frame f = FRAME_INIT(1 << 20);
		const char *text;
		size_t len;

		frame_feed(&f, garbage[i], strlen(garbage[i]));
		assert_int_equal(frame_next(&f, &text, &len), -EBADMSG);
		frame_release(&f);
	}
}

static void test_limit(void **state)
{
	struct frame f = FRAME_INIT(16);
	const char *text;
	size_t len;

	for (int i = 0; i < 100; i++) { /* many small ones pass */
		assert_int_equal(frame_feed(&f, "{\"a\":12345}", 11), 0);
		assert_int_equal(frame_next(&f, &text, &len), 1);
	}
	assert_int_equal(frame_feed(&f, "{\"a\":123456", 11), 0);
	assert_int_equal(frame_feed(&f, "789012", 6), -EFBIG);
	frame_release(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_border),
		cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_cut_is_no_document),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
