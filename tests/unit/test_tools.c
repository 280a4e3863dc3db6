/*
 * The small tools that everything stands on: buf, map, idmap, times, resourceVersions, the journal.
 */
#include "client/buf.h"
#include "client/clock.h"
#include "client/descriptors.h"
#include "client/journal.h"
#include "client/map.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/resource.h>

#include <cmocka.h>

/* xorshift64: the same steps at every run. */
static uint64_t draw(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void assert_buf(const struct buf *b, const char *expected)
{
	assert_int_equal(b->len, strlen(expected));
	assert_non_null(b->data);
	assert_string_equal(b->data, expected);
}

static void test_buf_grows(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT(100000);

	assert_null(b.data);
	for (int i = 0; i < 10000; i++) {
		assert_int_equal(buf_add(&b, "abcdefghij", 10), 0);
		assert_int_equal(b.len, (i + 1) * 10);
		assert_int_equal(b.data[b.len], '\0');
	}
	for (size_t i = 0; i < b.len; i++)
		assert_int_equal(b.data[i], 'a' + i % 10);
	buf_release(&b);
	assert_null(b.data);
	assert_int_equal(buf_addf(&b, "%d-%s", 7, "x"), 0);
	assert_buf(&b, "7-x");
}

static void test_buf_bytes(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT(8);

	assert_int_equal(buf_add(&b, "a\0b", 3), 0);
	assert_int_equal(buf_add(&b, NULL, 0), 0);
	assert_int_equal(b.len, 3);
	assert_memory_equal(b.data, "a\0b", 4);
}

static void test_buf_max(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT(5);
	_cleanup_json_ json_t *json = json_pack("{s:s}", "key", "value");

	assert_int_equal(buf_addstr(&b, "123456"), -EFBIG);
	assert_int_equal(b.len, 0);
	assert_int_equal(buf_addstr(&b, "123"), 0);
	assert_int_equal(buf_addstr(&b, "456"), -EFBIG);
	assert_buf(&b, "123");
	assert_int_equal(buf_addf(&b, "%d", 456), -EFBIG);
	assert_buf(&b, "123");
	assert_int_equal(buf_addjson(&b, json, 0), -EFBIG);
	assert_buf(&b, "123");
	assert_int_equal(buf_add(&b, "", SIZE_MAX), -EFBIG);
	assert_buf(&b, "123");
	assert_int_equal(buf_addstr(&b, "45"), 0);
	assert_buf(&b, "12345");
	assert_int_equal(buf_addstr(&b, "6"), -EFBIG);
	assert_int_equal(buf_addstr(&b, ""), 0);
	assert_buf(&b, "12345");
}

/* Half an escaped name in a URL would name something else. */
static void test_buf_max_url(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT(6);

	assert_int_equal(buf_addstr(&b, "12"), 0);
	assert_int_equal(buf_addurl(&b, "ab/"), -EFBIG);
	assert_buf(&b, "12");
	assert_int_equal(buf_addurl(&b, "a/"), 0);
	assert_buf(&b, "12a%2F");
}

static void test_buf_json(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT(1000);
	_cleanup_json_ json_t *json = json_loads("{\"z\": 1, \"a\": [true]}", 0, NULL);
	_cleanup_json_ json_t *text = json_string("x");

	assert_int_equal(buf_addstr(&b, "> "), 0);
	assert_int_equal(buf_addjson(&b, json, JSON_COMPACT), 0);
	assert_buf(&b, "> {\"z\":1,\"a\":[true]}");
	assert_int_equal(buf_addjson(&b, text, 0), -EINVAL); /* jansson wants JSON_ENCODE_ANY */
	assert_buf(&b, "> {\"z\":1,\"a\":[true]}");
	buf_release(&b);
	assert_int_equal(buf_addjson(&b, json, JSON_INDENT(2)), 0);
	assert_buf(&b, "{\n  \"z\": 1,\n  \"a\": [\n    true\n  ]\n}");
}

static void test_buf_url(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT(1000);

	assert_int_equal(buf_addurl(&b, "aZ09-._~"), 0);
	assert_int_equal(buf_addurl(&b, "/?&=%+ #:@\n\x7f"), 0);
	assert_int_equal(buf_addurl(&b, "\xc3\xa4\xff"), 0);
	assert_int_equal(buf_addurl(&b, ""), 0);
	assert_buf(&b, "aZ09-._~"
		       "%2F%3F%26%3D%25%2B%20%23%3A%40%0A%7F"
		       "%C3%A4%FF");
}

static void test_buf_consume(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT(6);

	buf_consume(&b, 0);
	assert_int_equal(buf_addstr(&b, "abcdef"), 0);
	buf_consume(&b, 0);
	assert_buf(&b, "abcdef");
	buf_consume(&b, 2);
	assert_buf(&b, "cdef");
	assert_int_equal(buf_addstr(&b, "gh"), 0);
	assert_buf(&b, "cdefgh");
	assert_int_equal(buf_addstr(&b, "i"), -EFBIG);
	buf_consume(&b, 6);
	assert_buf(&b, "");
}

static void test_buf_steal(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT(6);
	size_t len = 7;
	char *data = buf_steal(&b, &len);

	assert_string_equal(data, "");
	assert_int_equal(len, 0);
	free(data);
	assert_int_equal(buf_addstr(&b, "abcdef"), 0);
	data = buf_steal(&b, &len);
	assert_string_equal(data, "abcdef");
	assert_int_equal(len, 6);
	free(data);
	assert_int_equal(b.len, 0);
	assert_int_equal(buf_addstr(&b, "xyz"), 0);
	data = buf_steal(&b, NULL);
	assert_string_equal(data, "xyz");
	free(data);
}

#define KEYS 700

/* What the map should hold; `key` is the copy that the map borrows. */
struct model {
	char *key;
	void *value;
};

static void assert_map(const struct map *m, const struct model *model)
{
	size_t n = 0, seen = 0;

	for (int i = 0; i < KEYS; i++) {
		_cleanup_free_ char *key = xasprintf("key-%d", i);

		assert_ptr_equal(map_get(m, key), model[i].value);
		n += model[i].value != NULL;
	}
	assert_int_equal(m->count, n);
	map_foreach(m, e) {
		int i = atoi(e->key + 4);

		assert_ptr_equal(e->key, model[i].key);
		assert_ptr_equal(e->value, model[i].value);
		seen++;
	}
	assert_int_equal(seen, n);
}

/* Each key is freed as soon as the map may not look at it any more. */
static void test_map_model(void **state)
{
	static char values[97];
	struct model model[KEYS] = {0};
	struct map m = {0};
	uint64_t seed = 4711;

	assert_null(map_get(&m, "key-0"));
	assert_null(map_del(&m, "key-0"));
	for (int step = 0; step < 20000; step++) {
		int i = draw(&seed) % KEYS;
		/* Phases that fill and phases that drain. */
		bool set = draw(&seed) % 10 < (step / 2500 % 2 ? 2 : 8);
		char *key = xasprintf("key-%d", i);
		void *old = model[i].value;

		if (set) {
			void *value = &values[draw(&seed) % sizeof(values)];

			assert_ptr_equal(map_set(&m, key, value), old);
			free(model[i].key);
			model[i] = (struct model){key, value};
		} else {
			assert_ptr_equal(map_del(&m, key), old);
			free(key);
			free(model[i].key);
			model[i] = (struct model){0};
		}
		if (step % 100 == 0)
			assert_map(&m, model);
	}
	assert_map(&m, model);
	assert_true(m.size < KEYS * 4);
	for (int i = 0; i < KEYS; i++)
		free(model[i].key);
	map_release(&m);
	assert_null(map_get(&m, "key-0"));
}

static void test_map_empty_key(void **state)
{
	struct map m = {0};
	char value;

	assert_null(map_set(&m, "", &value));
	assert_ptr_equal(map_get(&m, ""), &value);
	assert_null(map_get(&m, "a"));
	assert_ptr_equal(map_del(&m, ""), &value);
	assert_int_equal(m.count, 0);
	map_release(&m);
}

#define IDS 700

/* Small ones in a row, and ones that differ in their upper half only. */
static uint64_t id_of(int i)
{
	return i % 2 ? (uint64_t)i : (uint64_t)(i + 1) << 32;
}

static void assert_idmap(const struct idmap *m, void *const values[IDS])
{
	size_t n = 0, seen = 0;

	for (int i = 0; i < IDS; i++) {
		assert_ptr_equal(idmap_get(m, id_of(i)), values[i]);
		n += values[i] != NULL;
	}
	assert_int_equal(m->count, n);
	idmap_foreach(m, e) {
		int i = e->id >> 32 ? (int)(e->id >> 32) - 1 : (int)e->id;

		assert_true(id_of(i) == e->id);
		assert_ptr_equal(e->value, values[i]);
		seen++;
	}
	assert_int_equal(seen, n);
}

static void test_idmap_model(void **state)
{
	static char chars[97];
	void *values[IDS] = {0};
	struct idmap m = {0};
	uint64_t seed = 4711;

	assert_null(idmap_get(&m, 1));
	assert_null(idmap_del(&m, 1));
	idmap_foreach(&m, e)
		fail();
	for (int step = 0; step < 20000; step++) {
		int i = draw(&seed) % IDS;
		/* Phases that fill and phases that drain. */
		bool set = draw(&seed) % 10 < (step / 2500 % 2 ? 2 : 8);
		void *value = set ? &chars[draw(&seed) % sizeof(chars)] : NULL;

		assert_ptr_equal(
			set ? idmap_set(&m, id_of(i), value) : idmap_del(&m, id_of(i)), values[i]);
		values[i] = value;
		if (step % 100 == 0)
			assert_idmap(&m, values);
	}
	assert_idmap(&m, values);
	assert_true(m.size < IDS * 4);
	idmap_release(&m);
	assert_null(idmap_get(&m, id_of(1)));
	assert_int_equal(m.count, 0);
}

/* However many there are, what isn't there is found not to be. */
static void test_idmap_grows(void **state)
{
	struct idmap m = {0};
	char value;

	for (uint64_t id = 1; id <= 1100; id++) {
		assert_null(idmap_set(&m, id, &value));
		assert_null(idmap_get(&m, id + 1));
		assert_null(idmap_del(&m, id + 1));
		assert_int_equal(m.count, id);
		assert_true(m.size < 4 * id + 16);
	}
	idmap_release(&m);
}

/* The same few entries over and over: the table doesn't grow with what came and went. */
static void test_idmap_reuse(void **state)
{
	struct idmap m = {0};
	char value;

	for (uint64_t id = 1; id < 10000; id++) {
		assert_null(idmap_set(&m, id, &value));
		if (id > 5)
			assert_ptr_equal(idmap_del(&m, id - 5), &value);
	}
	assert_int_equal(m.count, 5);
	assert_true(m.size <= 32);
	assert_ptr_equal(idmap_get(&m, 9999), &value);
	assert_null(idmap_get(&m, 9994));
	assert_null(idmap_set(&m, UINT64_MAX, &value));
	assert_ptr_equal(idmap_del(&m, UINT64_MAX), &value);
	idmap_release(&m);
}

/* 2026-11-23T19:48:08Z */
#define SECONDS INT64_C(1795463288)

static void test_time_parse(void **state)
{
	static const struct {
		const char *text;
		int64_t ns;
	} good[] = {
		{"1970-01-01T00:00:00Z", 0},
		{"1970-01-01T00:00:00.000000001Z", 1},
		{"1969-12-31T23:59:59Z", -NSEC_PER_SEC},
		{"2026-11-23T19:48:08Z", SECONDS * NSEC_PER_SEC},
		{"2026-11-23T19:48:08.5Z", SECONDS * NSEC_PER_SEC + 500000000},
		{"2026-11-23T19:48:08.050Z", SECONDS * NSEC_PER_SEC + 50000000},
		{"2026-11-23T19:48:08.123456789Z", SECONDS * NSEC_PER_SEC + 123456789},
		{"2026-11-23T19:48:08.1234567899Z", SECONDS * NSEC_PER_SEC + 123456789},
		{"2026-11-23T19:48:08+00:00", SECONDS * NSEC_PER_SEC},
		{"2026-11-23T21:48:08+02:00", SECONDS * NSEC_PER_SEC},
		{"2026-11-23T14:18:08-05:30", SECONDS * NSEC_PER_SEC},
		{"2026-11-24T05:33:08.25+09:45", SECONDS * NSEC_PER_SEC + 250000000},
		{"2024-02-29T00:00:00Z", INT64_C(1709164800) * NSEC_PER_SEC},
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		int64_t ns = 42;
		int r = rfc3339_parse(good[i].text, &ns);

		if (r != 0 || ns != good[i].ns)
			fail_msg("%s: %d, %jd", good[i].text, r, (intmax_t)ns);
	}
}

static void refuse_time(const char *text)
{
	int64_t ns = 42;
	int r = rfc3339_parse(text, &ns);

	if (r != -EINVAL || ns != 42)
		fail_msg("\"%s\": %d, %jd", text, r, (intmax_t)ns);
}

static void test_time_bad(void **state)
{
	static const char *const bad[] = {"", "now", "2026-11-23", "2026-11-23T19:48:08",
		"2026-11-23T19:48Z", "2026-11-23 19:48:08Z", "2026-11-23T19:48:08Zx",
		"2026-11-23T19:48:08ZZ", "2026-11-23T19:48:08.5", "2026-11-23T19:48:08.5x",
		"2026-11-23T19:48:08+0200", "2026-11-23T19:48:08+02", "2026-11-23T19:48:08+02:00Z",
		"2026-11-23T19:48:08+", "2026-11-23T19:48:08+xx:yy", "2026-13-23T19:48:08Z",
		"2026-11-32T19:48:08Z", "2026-00-23T19:48:08Z", "2026-11-23T24:48:08Z",
		"2026-11-23T19:60:08Z", "1795463288"};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		refuse_time(bad[i]);
}

/* Digits are neither left out nor replaced by blanks or signs. */
static void test_time_shape(void **state)
{
	static const char *const bad[] = {" 2026-11-23T19:48:08Z", "2026- 1-23T19:48:08Z",
		"26-11-23T19:48:08Z", "2026-1-3T1:4:8Z", "2026-11-23T19:48:08.Z",
		"2026-11-23T19:48:08+2:0", "2026-11-23T19:48:08+ 2: 0", "2026-11-23T19:48:08+-2:00",
		"2026-11-23T19:48:08+02:-1", "2026-11-23T19:48:08+99:99"};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		refuse_time(bad[i]);
}

static void test_time_no_such_day(void **state)
{
	refuse_time("2026-02-30T00:00:00Z");
	refuse_time("2026-02-29T00:00:00Z");
	refuse_time("2026-11-31T00:00:00Z");
}

/* Nanoseconds since 1970 reach from 1677 to 2262. */
static void test_time_out_of_range(void **state)
{
	refuse_time("9999-12-31T23:59:59Z");
	refuse_time("0001-01-01T00:00:00Z");
	refuse_time("2262-04-12T00:00:00Z");
}

static void test_time_format(void **state)
{
	char buf[RFC3339_SIZE];
	int64_t ns;

	rfc3339_format(0, buf);
	assert_string_equal(buf, "1970-01-01T00:00:00.000Z");
	rfc3339_format(SECONDS * NSEC_PER_SEC + 123456789, buf);
	assert_string_equal(buf, "2026-11-23T19:48:08.123Z");
	rfc3339_format(SECONDS * NSEC_PER_SEC + 7000000, buf);
	assert_string_equal(buf, "2026-11-23T19:48:08.007Z");
	assert_int_equal(rfc3339_parse(buf, &ns), 0);
	assert_int_equal(ns, SECONDS * NSEC_PER_SEC + 7000000);
	rfc3339_format(INT64_MAX, buf);
	assert_string_equal(buf, "2262-04-11T23:47:16.854Z");
}

/* The time zone of the process doesn't matter. */
static void test_time_zone(void **state)
{
	char buf[RFC3339_SIZE];
	int64_t ns;

	setenv("TZ", "Australia/Lord_Howe", 1);
	tzset();
	assert_int_equal(rfc3339_parse("2026-11-23T19:48:08Z", &ns), 0);
	assert_int_equal(ns, SECONDS * NSEC_PER_SEC);
	rfc3339_format(ns, buf);
	assert_string_equal(buf, "2026-11-23T19:48:08.000Z");
	unsetenv("TZ");
	tzset();
}

static int sign(int n)
{
	return n < 0 ? -1 : n > 0;
}

static void test_rv_compare(void **state)
{
	static const char *const ascending[] = {"", "0", "5", "9", "10", "99", "100", "12345",
		"18446744073709551615", "18446744073709551616", "99999999999999999999999999999999"};

	for (size_t i = 0; i < ARRAY_SIZE(ascending); i++)
		for (size_t j = 0; j < ARRAY_SIZE(ascending); j++)
			assert_int_equal(
				sign(rv_compare(ascending[i], ascending[j])), i < j ? -1 : i > j);
}

/* The lines of the journal as a JSON array. */
static json_t *show(struct journal *j)
{
	_cleanup_buf_ struct buf b = BUF_INIT(1 << 20);
	json_t *lines = json_array();

	journal_show(j, &b);
	for (char *p = b.data, *end; p && *p; p = end + 1) {
		json_t *line;

		end = strchr(p, '\n');
		assert_non_null(end);
		line = json_loadb(p, end - p, 0, NULL);
		assert_true(json_is_object(line));
		json_array_append_new(lines, line);
	}
	return lines;
}

/* Every byte counts, and so do the length and the order. */
static void assert_shortened(const char *s, size_t max, const char *expected)
{
	_cleanup_free_ char *short_one = str_shorten(s, max);

	assert_string_equal(short_one, expected);
}

static void test_shorten(void **state)
{
	assert_shortened("", 4, "");
	assert_shortened("abcd", 4, "abcd");
	assert_shortened("abcdefgh", 4, "ab…gh");
	assert_shortened("aäbbbbbbäa", 4, "a…a");
	assert_shortened("\x80\x80\x80\x80\x80\x80", 4, "…");
}

static void test_hash_text(void **state)
{
	char text[40] = "the same text, but for one of its bytes";
	uint64_t seen[2 * ARRAY_SIZE(text) + 1] = {hash_text(HASH_INIT, text, sizeof(text))};
	size_t n = 1;

	assert_true(hash_text(HASH_INIT, text, sizeof(text)) == seen[0]);
	for (size_t i = 0; i < ARRAY_SIZE(text); i++) {
		seen[n++] = hash_text(HASH_INIT, text, i);
		text[i] ^= 1;
		seen[n++] = hash_text(HASH_INIT, text, sizeof(text));
		text[i] ^= 1;
	}
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < i; k++)
			assert_true(seen[i] != seen[k]);
	assert_true(hash_text(HASH_INIT, "0123456789abcdef", 16) !=
		    hash_text(HASH_INIT, "89abcdef01234567", 16));
}

static void test_journal_empty(void **state)
{
	struct journal *j = journal_new();
	_cleanup_json_ json_t *last = journal_last(j), *lines = show(j);

	assert_true(json_is_null(last));
	assert_int_equal(json_array_size(lines), 0);
	journal_free(j);
	journal_free(NULL);
}

static void test_journal_entry(void **state)
{
	struct journal *j = journal_new();
	_cleanup_json_ json_t *full = NULL, *bare = NULL;
	int64_t before = now_realtime() - NSEC_PER_MSEC, at;

	journal_add(j, "shop/web/spec.json", "PATCH /apis/x", 422, EINVAL, "no\n\"such\" tag");
	full = journal_last(j);
	assert_string_equal(json_str(full, "path"), "shop/web/spec.json");
	assert_string_equal(json_str(full, "request"), "PATCH /apis/x");
	assert_int_equal(json_integer_value(json_object_get(full, "code")), 422);
	assert_string_equal(json_str(full, "errno"), "EINVAL");
	assert_string_equal(json_str(full, "message"), "no\n\"such\" tag");
	assert_int_equal(rfc3339_parse(json_str(full, "time"), &at), 0);
	assert_true(at >= before && at <= now_realtime());
	journal_add(j, NULL, NULL, 0, ECONNREFUSED, "can't connect");
	bare = journal_last(j);
	assert_true(json_is_null(json_object_get(bare, "path")));
	assert_true(json_is_null(json_object_get(bare, "request")));
	assert_true(json_is_null(json_object_get(bare, "code")));
	assert_string_equal(json_str(bare, "errno"), "ECONNREFUSED");
	journal_free(j);
}

/* As glibc names them, whoever does it here. */
static void test_journal_names_errors(void **state)
{
	struct journal *j = journal_new();

#if __GLIBC_PREREQ(2, 32)
	for (int error = -1; error < 200; error++) {
		const char *expected = strerrorname_np(error);
		_cleanup_json_ json_t *entry = NULL;

		journal_add(j, NULL, NULL, 0, error, "why");
		entry = journal_last(j);
		if (expected && error > 0)
			assert_string_equal(json_str(entry, "errno"), expected);
		else if (error)
			assert_true(json_is_null(json_object_get(entry, "errno")));
	}
#else
	static const struct {
		int error;
		const char *name;
	} rows[] = {{EPERM, "EPERM"}, {ESTALE, "ESTALE"}, {EKEYEXPIRED, "EKEYEXPIRED"},
		{EHWPOISON, "EHWPOISON"}, {EAGAIN, "EAGAIN"}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_json_ json_t *entry = NULL;

		journal_add(j, NULL, NULL, 0, rows[i].error, "why");
		entry = journal_last(j);
		assert_string_equal(json_str(entry, "errno"), rows[i].name);
	}
#endif
	journal_free(j);
}

static void test_journal_keeps_the_newest(void **state)
{
	struct journal *j = journal_new();

	for (int i = 0; i < 2 * JOURNAL_SIZE + 50; i++) {
		_cleanup_free_ char *message = xasprintf("failure %d", i);
		_cleanup_json_ json_t *lines = NULL;
		int n = i + 1 < JOURNAL_SIZE ? i + 1 : JOURNAL_SIZE;

		journal_add(j, "p", "GET /", 500, EIO, message);
		if (i % 17 && i < 2 * JOURNAL_SIZE + 49)
			continue;
		lines = show(j);
		assert_int_equal(json_array_size(lines), n);
		for (int k = 0; k < n; k++) {
			_cleanup_free_ char *expected = xasprintf("failure %d", i + 1 - n + k);

			assert_string_equal(
				json_str(json_array_get(lines, k), "message"), expected);
		}
	}
	journal_free(j);
}

static void test_journal_counts(void **state)
{
	struct journal *j = journal_new();
	_cleanup_json_ json_t *lines = NULL;

	journal_add(j, "p", "GET /", 503, EAGAIN, "busy");
	journal_add(j, "p", "GET /", 503, EAGAIN, "busy");
	journal_add(j, "p", "GET /", 503, EAGAIN, "busy");
	journal_add(j, "q", "GET /", 503, EAGAIN, "busy");
	journal_add(j, "p", "GET /", 503, EAGAIN, "busy"); /* moves to the end */
	journal_add(j, "p", "GET /x", 503, EAGAIN, "busy");
	journal_add(j, "p", "GET /x", 429, EAGAIN, "busy");
	journal_add(j, "p", "GET /x", 429, EIO, "busy");
	journal_add(j, "p", "GET /x", 429, EIO, "lazy");
	journal_add(j, NULL, "GET /x", 429, EIO, "lazy");
	journal_add(j, NULL, "GET /x", 429, EIO, "lazy");
	lines = show(j);
	assert_int_equal(json_array_size(lines), 7);
	assert_int_equal(json_integer_value(json_object_get(json_array_get(lines, 1), "count")), 4);
	assert_string_equal(json_str(json_array_get(lines, 1), "path"), "p");
	assert_non_null(json_str(json_array_get(lines, 1), "first"));
	assert_true(strcmp(json_str(json_array_get(lines, 1), "first"),
			    json_str(json_array_get(lines, 1), "time")) <= 0);
	for (int i = 0; i < 6; i++)
		if (i != 1)
			assert_null(json_object_get(json_array_get(lines, i), "count"));
	assert_int_equal(json_integer_value(json_object_get(json_array_get(lines, 6), "count")), 2);
	journal_free(j);
}

/* Two failures that take turns leave room for all others. */
static void test_journal_of_repeats(void **state)
{
	struct journal *j = journal_new();
	_cleanup_json_ json_t *lines = NULL, *last = NULL;

	journal_add(j, "other", "GET /", 500, EIO, "once");
	for (int i = 0; i < 3 * JOURNAL_SIZE; i++)
		journal_add(j, NULL, i % 2 ? "LIST /a" : "WATCH /a", 403, EACCES, "no");
	lines = show(j);
	assert_int_equal(json_array_size(lines), 3);
	assert_string_equal(json_str(json_array_get(lines, 0), "message"), "once");
	last = journal_last(j);
	assert_string_equal(json_str(last, "request"), "LIST /a");
	assert_int_equal(json_integer_value(json_object_get(last, "count")), 3 * JOURNAL_SIZE / 2);
	assert_int_equal(journal_count(j), 3 * JOURNAL_SIZE + 1);
	journal_free(j);
}

/* ---- descriptors ---- */

static size_t others(void)
{
	return DESCRIPTORS_RESERVE + descriptors_threads() + descriptors_workers();
}

static void test_descriptors(void **state)
{
	static const rlim_t limits[] = {1, 40, 64, 100, 256, 1024, 4096};
	struct rlimit old, limit;
	size_t before = 0;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	for (size_t i = 0; i < ARRAY_SIZE(limits) && limits[i] <= old.rlim_max; i++) {
		limit = (struct rlimit){limits[i], old.rlim_max};
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
		assert_int_equal(descriptors_limit(), limits[i]);
		assert_in_range(descriptors_budget(), before ? before : 1, limits[i]);
		assert_in_range(descriptors_threads(), 1, DESCRIPTORS_THREADS);
		assert_in_range(descriptors_workers(), 1, DESCRIPTORS_WORKERS);
		if (limits[i] >= 64)
			assert_true(descriptors_budget() + others() < limits[i]);
		before = descriptors_budget();
	}
	assert_int_equal(descriptors_raise(), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_true(limit.rlim_cur == old.rlim_max);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buf_grows),
		cmocka_unit_test(test_buf_bytes),
		cmocka_unit_test(test_buf_max),
		cmocka_unit_test(test_buf_max_url),
		cmocka_unit_test(test_buf_json),
		cmocka_unit_test(test_buf_url),
		cmocka_unit_test(test_buf_consume),
		cmocka_unit_test(test_buf_steal),
		cmocka_unit_test(test_shorten),
		cmocka_unit_test(test_hash_text),
		cmocka_unit_test(test_map_model),
		cmocka_unit_test(test_map_empty_key),
		cmocka_unit_test(test_idmap_model),
		cmocka_unit_test(test_idmap_grows),
		cmocka_unit_test(test_idmap_reuse),
		cmocka_unit_test(test_time_parse),
		cmocka_unit_test(test_time_bad),
		cmocka_unit_test(test_time_shape),
		cmocka_unit_test(test_time_no_such_day),
		cmocka_unit_test(test_time_out_of_range),
		cmocka_unit_test(test_time_format),
		cmocka_unit_test(test_time_zone),
		cmocka_unit_test(test_rv_compare),
		cmocka_unit_test(test_journal_empty),
		cmocka_unit_test(test_journal_entry),
		cmocka_unit_test(test_journal_names_errors),
		cmocka_unit_test(test_journal_keeps_the_newest),
		cmocka_unit_test(test_journal_counts),
		cmocka_unit_test(test_journal_of_repeats),
		cmocka_unit_test(test_descriptors),
	};

	return cmocka_run_group_tests_name("tools", tests, NULL, NULL);
}
