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

static void test_every_two_borders(void **state)
{
	const size_t len = strlen(stream);

	for (size_t a = 0; a <= len; a++)
		for (size_t b = a; b <= len; b++) {
			struct frame f = FRAME_INIT(1 << 20);
			size_t seen = 0;

			assert_int_equal(frame_feed(&f, stream, a), 0);
			expect_documents(&f, &seen);
			assert_int_equal(frame_feed(&f, stream + a, b - a), 0);
			expect_documents(&f, &seen);
			assert_int_equal(frame_feed(&f, stream + b, len - b), 0);
			expect_documents(&f, &seen);
			assert_int_equal(seen, ARRAY_SIZE(documents));
			frame_release(&f);
		}
}

/* A document is there with its closing brace, not before. */
static void test_every_cut(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(documents); i++)
		for (size_t len = 0; len < strlen(documents[i]); len++) {
			struct frame f = FRAME_INIT(1 << 20);
			const char *text = NULL;
			size_t n;

			assert_int_equal(frame_feed(&f, documents[i], len), 0);
			assert_int_equal(frame_next(&f, &text, &n), 0);
			assert_int_equal(frame_next(&f, &text, &n), 0);
			assert_null(text);
			frame_release(&f);
		}
}

/* What was given stays readable until the next feed, also when more is taken. */
static void test_borrowed(void **state)
{
	struct frame f = FRAME_INIT(1 << 20);
	const char *given[ARRAY_SIZE(documents)];
	size_t lens[ARRAY_SIZE(documents)];

	assert_int_equal(frame_feed(&f, stream, strlen(stream)), 0);
	for (size_t i = 0; i < ARRAY_SIZE(documents); i++)
		assert_int_equal(frame_next(&f, &given[i], &lens[i]), 1);
	for (size_t i = 0; i < ARRAY_SIZE(documents); i++)
		assert_memory_equal(given[i], documents[i], lens[i]);
	frame_release(&f);
}

/* What came whole before the garbage counts. */
static void test_garbage_after(void **state)
{
	struct frame f = FRAME_INIT(1 << 20);
	const char *text;
	size_t len;

	assert_int_equal(frame_feed(&f, "{\"a\":1}\n\0{}", 11), 0);
	assert_int_equal(frame_next(&f, &text, &len), 1);
	assert_int_equal(len, 7);
	assert_memory_equal(text, "{\"a\":1}", 7);
	assert_int_equal(frame_next(&f, &text, &len), -EBADMSG);
	assert_int_equal(frame_next(&f, &text, &len), -EBADMSG);
	frame_release(&f);
}

static void test_limit_exactly(void **state)
{
	static const char document[] = "{\"0123456789\":1}";
	struct frame fits = FRAME_INIT(16), f = FRAME_INIT(15);
	const char *text;
	size_t len;

	assert_int_equal(frame_feed(&fits, document, 16), 0);
	assert_int_equal(frame_next(&fits, &text, &len), 1);
	assert_int_equal(len, 16);
	assert_int_equal(frame_feed(&f, document, 16), -EFBIG);
	frame_release(&fits);
	frame_release(&f);
}

/* xorshift64: the same steps at every run. */
static uint64_t draw(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void add_string(struct buf *b, uint64_t *seed)
{
	static const char *const bits[] = {
		"{", "}", "[", "]", "\\\"", "\\\\", "\\n", "a", " ", ",", ":", "\\u005c"};

	buf_addstr(b, "\"");
	for (int n = draw(seed) % 6; n > 0; n--)
		buf_addstr(b, bits[draw(seed) % ARRAY_SIZE(bits)]);
	buf_addstr(b, "\"");
}

static void add_space(struct buf *b, uint64_t *seed)
{
	static const char *const spaces[] = {"", "", "", " ", "\n", "\r\n", "\t"};

	buf_addstr(b, spaces[draw(seed) % ARRAY_SIZE(spaces)]);
}

static void add_object(struct buf *b, uint64_t *seed, int depth)
{
	buf_addstr(b, "{");
	for (int n = draw(seed) % 4; n > 0; n--) {
		bool list = draw(seed) % 3 == 0;

		add_space(b, seed);
		add_string(b, seed);
		buf_addstr(b, list ? ":[" : ":");
		add_space(b, seed);
		if (depth < 5 && draw(seed) % 2)
			add_object(b, seed, depth + 1);
		else
			add_string(b, seed);
		buf_addstr(b, list ? "]" : "");
		buf_addstr(b, n > 1 ? "," : "");
	}
	add_space(b, seed);
	buf_addstr(b, "}");
}

/* Any documents in any pieces come out as they went in. */
static void test_random(void **state)
{
	uint64_t seed = 42;

	for (int round = 0; round < 300; round++) {
		struct frame f = FRAME_INIT(FRAME_MAX);
		_cleanup_buf_ struct buf sent = BUF_INIT(FRAME_MAX);
		size_t starts[20], ends[20], n = 0, most = draw(&seed) % 40 + 1;

		for (int i = 0; i < 20; i++) {
			add_space(&sent, &seed);
			starts[i] = sent.len;
			add_object(&sent, &seed, 0);
			ends[i] = sent.len;
		}
		for (size_t at = 0, piece; at < sent.len; at += piece) {
			const char *text;
			size_t len;

			piece = draw(&seed) % (most + 1);
			if (piece > sent.len - at)
				piece = sent.len - at;
			assert_int_equal(frame_feed(&f, sent.data + at, piece), 0);
			/* Now and then some are left for later. */
			while (at + piece == sent.len || draw(&seed) % 4) {
				if (frame_next(&f, &text, &len) != 1)
					break;
				assert_true(n < 20);
				assert_int_equal(len, ends[n] - starts[n]);
				assert_memory_equal(text, sent.data + starts[n], len);
				n++;
			}
		}
		assert_int_equal(n, 20);
		frame_release(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_border),
		cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_cut_is_no_document),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_every_two_borders),
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_borrowed),
		cmocka_unit_test(test_garbage_after),
		cmocka_unit_test(test_limit_exactly),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
