/* What came to the histories of tags from one version of a stream to the next, as lines. */
#include "fs/dotapi/pushes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SECOND	INT64_C(1000000000)
#define YEAR_26 (INT64_C(1767225600) * SECOND) /* 2026-01-01 */
#define EARLY	"2026-01-01T00:00:00Z"
#define LATE	"2026-01-01T00:00:09Z"

/* A version of shop/web with these histories. */
static struct object *make(const char *uid, const char *created, const char *tags)
{
	_cleanup_json_ json_t *status = json_loads(tags, 0, NULL);
	_cleanup_json_ json_t *json = json_pack("{s:{s:s, s:s, s:s, s:s, s:s}, s:{}, s:{s:O}}",
		"metadata", "namespace", "shop", "name", "web", "uid", uid, "resourceVersion", "1",
		"creationTimestamp", created, "spec", "status", "tags", status);
	struct object *o;

	assert_int_equal(object_from_json(json, "image.openshift.io/v1", &o), 0);
	return o;
}

#define ITEM(created, name) "{\"created\":\"" created "\",\"dockerImageReference\":\"" name "\"}"
#define TAG(name, items)    "{\"tag\":\"" name "\",\"items\":[" items "]}"

static void assert_lines(
	const struct object *before, struct object *now, int64_t since, const char *expected)
{
	_cleanup_buf_ struct buf out = BUF_INIT(SIZE_MAX);

	assert_int_equal(pushes_add(before, now, since, &out), 0);
	assert_string_equal(out.data ? out.data : "", expected);
	object_unref(now);
}

static void test_new_items(void **state)
{
	_cleanup_object_ struct object *before =
		make("u", EARLY, "[" TAG("a", ITEM(EARLY, "x")) "," TAG("b", ITEM(EARLY, "x")) "]");

	assert_lines(before, object_ref(before), YEAR_26, "");
	assert_lines(before,
		make("u", EARLY,
			"[" TAG("a", ITEM(LATE, "z") "," ITEM(EARLY, "y") "," ITEM(
					     EARLY, "x")) "," TAG("b",
				ITEM(EARLY, "x")) "," TAG("c", ITEM(EARLY, "x")) "]"),
		YEAR_26,
		EARLY "\tshop/web:a\ty\tx\n" EARLY "\tshop/web:c\tx\t-\n" LATE
		      "\tshop/web:a\tz\ty\n");
}

/* An older image on top comes after what it lies on. */
static void test_order_of_one_tag(void **state)
{
	_cleanup_object_ struct object *before = make("u", EARLY, "[]");

	assert_lines(before,
		make("u", EARLY,
			"[" TAG("a", ITEM(EARLY, "old") "," ITEM(LATE, "new")) "," TAG(
				"b", ITEM(EARLY, "b")) "]"),
		YEAR_26,
		EARLY "\tshop/web:b\tb\t-\n" LATE "\tshop/web:a\tnew\t-\n" EARLY
		      "\tshop/web:a\told\tnew\n");
}

static void test_what_nothing_is_known_of(void **state)
{
	const char *tags = "[" TAG("a", ITEM(LATE, "y") "," ITEM(EARLY, "x")) "]";

	assert_lines(
		NULL, make("u", EARLY, tags), YEAR_26 + 5 * SECOND, LATE "\tshop/web:a\ty\tx\n");
	assert_lines(NULL, make("u", EARLY, tags), YEAR_26 + 10 * SECOND, "");
	/* A younger stream has nothing that was there before. */
	assert_lines(NULL, make("u", LATE, tags), YEAR_26 + 9 * SECOND,
		EARLY "\tshop/web:a\tx\t-\n" LATE "\tshop/web:a\ty\tx\n");
}

/* A stream that was restored under another uid has the items that were told. */
static void test_another_uid(void **state)
{
	const char *tags = "[" TAG("a", ITEM(LATE, "y") "," ITEM(EARLY, "x")) "]";
	_cleanup_object_ struct object *before = make("u", EARLY, tags);

	assert_lines(before, make("v", EARLY, tags), YEAR_26, "");
	assert_lines(before, make("v", LATE, tags), YEAR_26, "");
	assert_lines(before, make("v", EARLY, "[" TAG("b", ITEM(EARLY, "z")) "]"),
		YEAR_26 + 5 * SECOND, "");
	assert_lines(before, make("v", LATE, "[" TAG("b", ITEM(EARLY, "z")) "]"),
		YEAR_26 + 5 * SECOND, EARLY "\tshop/web:b\tz\t-\n");
}

static void test_odd_items(void **state)
{
	_cleanup_object_ struct object *before = make("u", EARLY, "[]");

	assert_lines(before,
		make("u", EARLY,
			"[{\"tag\":\"a\\tb/\",\"items\":[{\"dockerImageReference\":\"x\\ny\"}]},"
			"{\"tag\":7,\"items\":[{}]},{\"items\":[{}]},{\"tag\":\"\",\"items\":[7]},"
			"{\"tag\":\"n\",\"items\":null},{\"tag\":\"m\",\"items\":{}},3]"),
		YEAR_26, "-\tshop/web:a%09b%2F\tx y\t-\n-\tshop/web:%00\t-\t-\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_items),
		cmocka_unit_test(test_order_of_one_tag),
		cmocka_unit_test(test_what_nothing_is_known_of),
		cmocka_unit_test(test_another_uid),
		cmocka_unit_test(test_odd_items),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
