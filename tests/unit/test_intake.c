/* Pages, objects and watch events on their way into the store: what is taken, and what isn't. */
#include "client/intake.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct fixture {
	struct api api;
	struct store *store;
	struct intake in;
	unsigned checks;
	int verdict; /* of the check */
};

static void ignore(void *arg, const char *key, enum store_event event, struct object *object)
{
}

static int check(void *arg)
{
	struct fixture *f = arg;

	f->checks++;
	return f->verdict;
}

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	f->api.resources = &resources_in_groups;
	f->store = store_new(ignore, NULL);
	f->in = (struct intake){.api = &f->api,
		.store = f->store,
		.kind = INTAKE_STREAMS,
		.check = check,
		.arg = f};
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	store_free(f->store);
	free(f);
	return 0;
}

/* A page of a new list. */
static int page(struct fixture *f, const char *text, struct taken *ret)
{
	size_t len = strlen(text);
	_cleanup_free_ char *exact = xmalloc(len); /* so that ASan sees one byte too many */
	int r;

	memcpy(exact, text, len);
	f->in.list = store_list_begin(f->store);
	r = intake_page_head(exact, len, ret);
	return r < 0 ? r : intake_page(&f->in, ret);
}

static size_t streams(struct fixture *f)
{
	size_t namespaces, count, bytes;

	store_counts(f->store, &namespaces, &count, &bytes);
	return count;
}

static bool holds(struct fixture *f, const char *key, const char *version)
{
	_cleanup_object_ struct object *o = store_get(f->store, key);

	return o && streq(o->resource_version, version);
}

#define META(name, uid, version)                                                                   \
	"\"metadata\":{\"name\":\"" name "\",\"namespace\":\"team\",\"uid\":\"" uid                \
	"\",\"resourceVersion\":\"" version "\"}"
#define ITEM(name, uid, version) "{" META(name, uid, version) "}"
#define HEAD			 "\"metadata\":{\"resourceVersion\":\"9\",\"continue\":\"next\"}"

/* ---- pages ---- */

static void test_page(void **state)
{
	static const char *const texts[] = {
		"{\"kind\":\"ImageStreamList\"," HEAD
		",\"items\":[" ITEM("a", "1", "5") "," ITEM("b", "2", "6") "]}",
		"{\"items\":[" ITEM("a", "1", "5") "," ITEM("b", "2", "6") "]," HEAD "}",
		" { \"items\" : [ " ITEM("a", "1", "5") " ,\n" ITEM("b", "2", "6") " ] , " HEAD
										   " }\r\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct fixture *f = *state;
		_cleanup_taken_ struct taken taken = {0};

		assert_int_equal(page(f, texts[i], &taken), 0);
		assert_string_equal(taken.version, "9");
		assert_string_equal(taken.more, "next");
		assert_int_equal(taken.items, 2);
		assert_int_equal(taken.news, 2);
		assert_int_equal(taken.left_out, 0);
		assert_null(taken.why);
		assert_true(holds(f, "team/a", "5") && holds(f, "team/b", "6"));
	}
}

static void test_empty_pages(void **state)
{
	static const char *const texts[] = {"{" HEAD ",\"items\":null}", "{\"items\":[]}",
		"{\"items\":[ ],\"metadata\":{}}", "{\"items\":null,\"metadata\":null}",
		"{\"items\":[],\"metadata\":{\"continue\":\"\",\"resourceVersion\":\"\"}}",
		"{\"items\":[],\"metadata\":{\"continue\":7,\"resourceVersion\":7}}"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		_cleanup_taken_ struct taken taken = {0};

		assert_int_equal(page(*state, texts[i], &taken), 0);
		assert_int_equal(taken.items, 0);
		assert_true(!taken.more == (i > 0));
		assert_true(!taken.version == (i > 0));
	}
	assert_int_equal(streams(*state), 0);
}

static void test_no_pages(void **state)
{
	static const char *const texts[] = {"", " ", "null", "7", "[]", "{}", "\"items\"", "<html>",
		"{\"items\":{}}", "{\"items\":7}", "{\"items\":nul}", "{\"items\":1",
		"{\"items\":\"[]\"}", "{\"items\":nothing}", "{\"items\":[]", "{\"items\":[]}x",
		"{\"items\":[]}{}", "{\"items\":[],}", "{\"metadata\":{\"a\":01},\"items\":[]}",
		"{\"kind\":\"Status\",\"status\":\"Failure\",\"code\":500}",
		"{\"items\":[" ITEM("a", "1", "5")};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		_cleanup_taken_ struct taken taken = {0};

		if (page(*state, texts[i], &taken) != -EBADMSG)
			fail_msg("%s", texts[i]);
		assert_string_equal(taken.why, "the answer is no list");
	}
	assert_int_equal(streams(*state), 0);
}

/* The head is a list's, and then it is none: what came before stands, and the caller is told. */
static void test_pages_that_end_badly(void **state)
{
	static const char *const texts[] = {"{\"items\":[{}{}]}", "{\"items\":[{},,{}]}",
		"{\"items\":[" ITEM("a", "1", "5") ITEM("b", "2", "6") "]}",
		"{\"items\":[" ITEM("a", "1", "5") ",]}"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		_cleanup_taken_ struct taken taken = {0};
		int r = page(*state, texts[i], &taken);

		if (r != -EBADMSG && !taken.mangled)
			fail_msg("%s: %d", texts[i], r);
	}
	assert_false(holds(*state, "team/b", "6"));
}

static void test_items_left_out(void **state)
{
	_cleanup_taken_ struct taken taken = {0};

	assert_int_equal(page(*state,
				 "{\"items\":[" ITEM("a", "1", "5") ",1,\"x\",{},[],null," ITEM(
					 "a/b", "3", "5") "," ITEM("", "4", "5") "," ITEM("c", "1",
					 "5") "," ITEM("b", "2", "6") "]}",
				 &taken),
		0);
	assert_int_equal(taken.items, 10);
	assert_int_equal(taken.left_out, 8);
	assert_int_equal(taken.news, 2);
	assert_false(taken.mangled);
	assert_non_null(taken.why);
	assert_true(holds(*state, "team/a", "5") && holds(*state, "team/b", "6"));
	assert_int_equal(streams(*state), 2);
}

/* An item that isn't JSON: so the page isn't, either. */
static void test_mangled_items(void **state)
{
	_cleanup_taken_ struct taken taken = {0};

	assert_int_equal(page(*state,
				 "{\"items\":[" ITEM("a", "1", "5") ",{" META(
					 "b", "2", "6") ",\"spec\":{\"x\":01}}]}",
				 &taken),
		0);
	assert_true(taken.mangled);
	assert_int_equal(taken.left_out, 1);
	assert_true(holds(*state, "team/a", "5"));
}

/* What the list has is not gone, though it can't be taken in. */
static void test_left_out_is_not_swept(void **state)
{
	struct fixture *f = *state;
	_cleanup_taken_ struct taken first = {0}, second = {0};

	assert_int_equal(page(f, "{\"items\":[" ITEM("a", "1", "5") "]}", &first), 0);
	assert_int_equal(
		page(f, "{\"items\":[{" META("a", "1", "6") ",\"spec\":01}]}", &second), 0);
	store_sweep(f->store, NULL, f->in.list, "9");
	assert_true(holds(f, "team/a", "5"));
}

/* News is what the list had nothing of: a page that repeats another one brings none. */
static void test_news(void **state)
{
	struct fixture *f = *state;
	static const char text[] = "{\"items\":[" ITEM("a", "1", "5") "," ITEM("b", "2", "6") "]}";
	_cleanup_taken_ struct taken first = {0}, again = {0}, next = {0};

	assert_int_equal(page(f, text, &first), 0);
	assert_int_equal(first.news, 2);
	assert_int_equal(intake_page_head(text, strlen(text), &again), 0);
	assert_int_equal(intake_page(&f->in, &again), 0);
	assert_int_equal(again.items, 2);
	assert_int_equal(again.news, 0);
	assert_int_equal(page(f, text, &next), 0); /* another list */
	assert_int_equal(next.news, 2);
}

/* Between thousands of items the end is asked for. */
static void test_many_items(void **state)
{
	struct fixture *f = *state;
	_cleanup_buf_ struct buf text = BUF_INIT((size_t)16 << 20);
	_cleanup_taken_ struct taken all = {0}, some = {0};

	buf_addstr(&text, "{\"items\":[");
	for (unsigned i = 0; i < 10000; i++)
		buf_addf(&text,
			"%s{\"metadata\":{\"name\":\"s%u\",\"namespace\":\"team\","
			"\"uid\":\"u%u\",\"resourceVersion\":\"%u\"}}",
			i ? "," : "", i, i, i + 1);
	buf_addstr(&text, "]}");
	assert_int_equal(page(f, text.data, &all), 0);
	assert_int_equal(all.items, 10000);
	assert_int_equal(all.news, 10000);
	assert_int_equal(streams(f), 10000);
	assert_int_equal(f->checks, 2);
	f->verdict = -ESHUTDOWN;
	assert_int_equal(page(f, text.data, &some), -ESHUTDOWN);
	assert_in_range(some.items, 1, 4096);
}

static void test_namespaces(void **state)
{
	struct fixture *f = *state;
	_cleanup_taken_ struct taken taken = {0};
	struct store_namespace ns;

	f->in.kind = INTAKE_NAMESPACES;
	assert_int_equal(
		page(f,
			"{\"items\":[{\"metadata\":{\"name\":\"team\",\"uid\":\"1\","
			"\"creationTimestamp\":\"2026-11-28T10:00:00Z\"}},"
			"{\"metadata\":{\"name\":\"base\",\"uid\":\"1\"}},{\"metadata\":{\"uid\":"
			"\"2\"}}]}",
			&taken),
		0);
	assert_int_equal(taken.items, 3);
	assert_int_equal(taken.left_out, 2);
	assert_true(store_get_namespace(f->store, "team", &ns) && ns.created > 0);
	assert_false(store_get_namespace(f->store, "base", &ns));
}

/* ---- single objects ---- */

static void test_object(void **state)
{
	static const struct {
		const char *text;
		int error;
	} rows[] = {{ITEM("a", "1", "5"), 0}, {"{}", -EINVAL}, {"[]", -EINVAL}, {"", -EBADMSG},
		{"<html>", -EBADMSG}, {"{", -EBADMSG}, {ITEM("b", "1", "6"), -EEXIST}};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_taken_ struct taken taken = {0};

		assert_int_equal(intake_object(&f->in, rows[i].text, strlen(rows[i].text), &taken),
			rows[i].error);
		assert_true(!taken.why == !rows[i].error);
	}
	assert_true(holds(f, "team/a", "5"));
	assert_int_equal(streams(f), 1);
}

/* ---- events ---- */

static int event(struct fixture *f, const char *text, struct event *ret)
{
	f->in.list = 0;
	return intake_event(&f->in, text, strlen(text), ret);
}

#define EVENT(type, object) "{\"type\":\"" type "\",\"object\":" object "}"

static void test_events(void **state)
{
	struct fixture *f = *state;
	static const struct {
		const char *text;
		enum intake_event type;
		const char *held, *version;
	} rows[] = {
		{EVENT("ADDED", ITEM("a", "1", "5")), INTAKE_OBJECT, "5", "5"},
		{EVENT("MODIFIED", ITEM("a", "1", "7")), INTAKE_OBJECT, "7", "7"},
		{"{\"object\":" ITEM("a", "1", "8") ",\"type\":\"MODIFIED\"}", INTAKE_OBJECT, "8",
			"8"},
		{EVENT("MODIFIED", ITEM("a", "1", "6")), INTAKE_OBJECT, "8", "6"}, /* late */
		/* of two members of one name the last one counts, as for jansson */
		{"{\"type\":\"ADDED\",\"object\":" ITEM("b", "2", "8") ",\"object\":" ITEM(
			 "a", "1", "8") "}",
			INTAKE_OBJECT, "8", "8"},
		{"{\"type\":\"ADDED\",\"object\":" ITEM("b", "2", "8") ",\"type\":\"BOOKMARK\"}",
			INTAKE_BOOKMARK, "8", "8"},
		{"{\"type\":\"ADDED\", \"object\" : " ITEM("a", "1", "8") " }", INTAKE_OBJECT, "8",
			"8"},
		{EVENT("BOOKMARK", "{\"metadata\":{\"resourceVersion\":\"20\"}}"), INTAKE_BOOKMARK,
			"8", "20"},
		{EVENT("BOOKMARK", "{}"), INTAKE_BOOKMARK, "8", NULL},
		{EVENT("DELETED", ITEM("a", "1", "7")), INTAKE_DELETED, "8", "7"}, /* late */
		{EVENT("DELETED", ITEM("a", "1", "9")), INTAKE_DELETED, NULL, "9"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_event_ struct event e = {0};

		assert_int_equal(event(f, rows[i].text, &e), 0);
		assert_int_equal(e.type, rows[i].type);
		assert_int_equal(streams(f), rows[i].held ? 1 : 0);
		assert_true(!rows[i].held || holds(f, "team/a", rows[i].held));
		if (rows[i].version)
			assert_string_equal(e.taken.version, rows[i].version);
		else
			assert_null(e.taken.version);
	}
}

static void test_errors(void **state)
{
	static const struct {
		const char *text;
		long code;
		int error;
	} rows[] = {
		{EVENT("ERROR", "{\"kind\":\"Status\",\"code\":410,\"message\":\"old\"}"), 410,
			ESTALE},
		{EVENT("ERROR", "{\"kind\":\"Status\",\"code\":500}"), 500, EIO},
		{EVENT("ERROR", "{}"), 500, EIO},
		{EVENT("ERROR", "null"), 500, EIO},
		{EVENT("ERROR", "7"), 500, EIO},
		{EVENT("ERROR", "01"), 500, EIO},
		{"{\"type\":\"ERROR\"}", 500, EIO},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_event_ struct event e = {0};

		assert_int_equal(event(*state, rows[i].text, &e), 0);
		assert_int_equal(e.type, INTAKE_ERROR);
		assert_int_equal(e.status.code, rows[i].code);
		assert_int_equal(e.status.error, rows[i].error);
		assert_non_null(e.status.message);
	}
}

static void test_no_events(void **state)
{
	static const char *const texts[] = {"", "{}", "[]", "null", "x", "<html>",
		"{\"type\":\"ADDED\"}", "{\"object\":{}}", EVENT("added", "{}"),
		EVENT("OTHER", "{}"), EVENT("ADDED", ITEM("a", "1", "5") "7"),
		"{\"type\":\"ADDED\",\"object\":" ITEM("a", "1", "5"), EVENT("ADDED", "01"),
		EVENT("ADDED", "{\"a\":}"), EVENT("DELETED", "7"), EVENT("BOOKMARK", "[]"),
		"{\"type\":7,\"object\":{}}", "{\"kind\":\"Status\",\"code\":410}"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		_cleanup_event_ struct event e = {0};

		if (event(*state, texts[i], &e) != -EBADMSG)
			fail_msg("%s", texts[i]);
	}
	assert_int_equal(streams(*state), 0);
}

/* An object that can't be kept is left out, alone. */
static void test_event_left_out(void **state)
{
	static const char *const texts[] = {EVENT("ADDED", "{}"), EVENT("ADDED", "[]"),
		EVENT("ADDED", ITEM("a/b", "1", "5")), EVENT("MODIFIED", ITEM("a", "", "5"))};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		_cleanup_event_ struct event e = {0};

		assert_int_equal(event(*state, texts[i], &e), 0);
		assert_non_null(e.taken.why);
	}
	assert_int_equal(streams(*state), 0);
}

/* That a namespace is gone is for the caller to find out. */
static void test_namespace_events(void **state)
{
	struct fixture *f = *state;
	_cleanup_event_ struct event added = {0}, deleted = {0};
	struct store_namespace ns;

	f->in.kind = INTAKE_NAMESPACES;
	assert_int_equal(
		event(f, EVENT("ADDED", "{\"metadata\":{\"name\":\"team\",\"uid\":\"1\"}}"),
			&added),
		0);
	assert_string_equal(added.taken.name, "team");
	assert_int_equal(
		event(f, EVENT("DELETED", "{\"metadata\":{\"name\":\"team\"}}"), &deleted), 0);
	assert_string_equal(deleted.taken.name, "team");
	assert_true(store_get_namespace(f->store, "team", &ns));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_page),
		TEST(test_empty_pages),
		TEST(test_no_pages),
		TEST(test_pages_that_end_badly),
		TEST(test_items_left_out),
		TEST(test_mangled_items),
		TEST(test_left_out_is_not_swept),
		TEST(test_news),
		TEST(test_many_items),
		TEST(test_namespaces),
		TEST(test_object),
		TEST(test_events),
		TEST(test_errors),
		TEST(test_no_events),
		TEST(test_event_left_out),
		TEST(test_namespace_events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
