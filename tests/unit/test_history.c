/* The versions of streams: what is kept, for how long, and whose the changes between them are. */
#include "client/clock.h"
#include "fs/tree/history.h"
#include "tests/unit/clock.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct history *h;

static int setup(void **state)
{
	clock_moved = 0;
	h = history_new();
	return 0;
}

static int teardown(void **state)
{
	history_free(h);
	return 0;
}

/* A version whose spec shows `spec` (a person's) and whose status shows `status` (not). */
static struct object *make(const char *name, const char *uid, int version, int spec, int status)
{
	_cleanup_free_ char *number = xasprintf("%d", version), *image = xasprintf("i%d", spec);
	_cleanup_json_ json_t *json = json_pack("{s:{s:s, s:s, s:s, s:s}, s:{s:s}, s:{s:i}}",
		"metadata", "namespace", "shop", "name", name, "uid", uid, "resourceVersion",
		number, "spec", "dockerImageRepository", image, "status", "x", status);
	struct object *o;

	assert_int_equal(object_from_json(json, "image.openshift.io/v1", &o), 0);
	return o;
}

static void serve(int version, int spec, int status)
{
	_cleanup_object_ struct object *o = make("web", "u", version, spec, status);

	history_serve(h, o);
}

static void note(int version, int spec, int status)
{
	_cleanup_object_ struct object *o = make("web", "u", version, spec, status);

	history_note(h, o);
}

/* A save of ours that made that version. */
static void own(int version, int spec, const char *from)
{
	_cleanup_object_ struct object *o = make("web", "u", version, spec, 0);

	history_own(h, o, from);
}

static bool knows_of(const char *key, const char *version)
{
	_cleanup_object_ struct object *o = history_get(h, key, version);

	if (o)
		assert_string_equal(o->resource_version, version);
	return o;
}

static bool knows(int version)
{
	char number[16];

	sprintf(number, "%d", version);
	return knows_of("shop/web", number);
}

static bool is_ours(const char *from, int to)
{
	_cleanup_object_ struct object *o = make("web", "u", to, 0, 0);

	return history_is_ours(h, "shop/web", from, o);
}

static void test_get(void **state)
{
	_cleanup_object_ struct object *first = make("web", "u", 1, 0, 0), *got = NULL;

	assert_false(knows(1));
	history_serve(h, first);
	got = history_get(h, "shop/web", "1");
	assert_ptr_equal(got, first);
	assert_int_equal(atomic_load(&first->refs), 3);
	assert_false(knows(2));
	assert_false(knows_of("shop/api", "1"));
	assert_false(knows_of("shop/web", "01"));
	assert_false(knows_of("shop/web", ""));
	note(2, 0, 1);
	assert_true(knows(1) && knows(2));
}

/* Only of what somebody looked at. */
static void test_note_unserved(void **state)
{
	_cleanup_object_ struct object *other = make("api", "u2", 7, 0, 0);

	note(1, 0, 0);
	own(2, 0, "1");
	assert_false(knows(1));
	assert_false(knows(2));
	serve(3, 0, 0);
	history_note(h, other);
	assert_false(knows_of("shop/api", "7"));
	assert_true(knows(3));
}

/* The 16 newest, in whichever order they come. */
static void test_sixteen(void **state)
{
	serve(5, 0, 0);
	for (int version = 6; version <= 20; version++)
		note(version, 0, 0);
	assert_true(knows(5));
	note(21, 0, 0);
	assert_false(knows(5));
	for (int version = 6; version <= 21; version++)
		assert_true(knows(version));
	note(4, 0, 0); /* older than all of them */
	assert_false(knows(4));
	assert_true(knows(6));
	note(21, 0, 0); /* nothing new */
	assert_true(knows(6));
	serve(30, 0, 0);
	note(25, 0, 0); /* in between, late */
	assert_false(knows(6) || knows(7));
	assert_true(knows(8) && knows(21) && knows(25) && knows(30));
	note(3, 0, 0);
	assert_true(knows(8) && knows(30));
}

/* 9 is before 10: they are numbers. */
static void test_order(void **state)
{
	static const int order[] = {100, 9, 99, 10, 8};

	serve(order[0], 7, 0);
	for (size_t i = 1; i < ARRAY_SIZE(order); i++)
		note(order[i], order[i] < 99 ? 1 : 7, 0);
	assert_true(is_ours("8", 10));
	assert_true(is_ours("9", 10));
	assert_true(is_ours("99", 100));
	assert_false(is_ours("10", 99));
	assert_false(is_ours("9", 100));
}

/* Deleted and made again: versions of another object. */
static void test_made_anew(void **state)
{
	_cleanup_object_ struct object *o = make("web", "other", 9, 0, 0);

	serve(5, 0, 0);
	note(6, 0, 0);
	history_note(h, o);
	assert_false(knows(5) || knows(6));
	assert_true(knows(9));
	assert_false(is_ours("5", 9));
}

static void serve_other(const char *name)
{
	_cleanup_object_ struct object *o = make(name, name, 1, 0, 0);

	history_serve(h, o);
}

static void pass(int seconds)
{
	clock_moved += seconds * NSEC_PER_SEC;
}

/* 10 minutes after they were last served, or at most one later. */
static void test_age(void **state)
{
	serve(1, 0, 0);
	serve_other("api");
	pass(590);
	serve_other("one");
	assert_true(knows(1));
	assert_true(knows_of("shop/api", "1"));
	serve(2, 0, 0); /* looked at anew, so the older one stays too */
	note(3, 0, 0);
	pass(70);
	serve_other("two");
	assert_true(knows(1) && knows(2) && knows(3));
	assert_false(knows_of("shop/api", "1"));
	assert_true(knows_of("shop/one", "1"));
	pass(500);
	note(4, 0, 0); /* received, which isn't served */
	assert_true(knows(4));
	pass(70);
	serve_other("three");
	assert_false(knows(1) || knows(4));
	assert_false(knows_of("shop/one", "1"));
	assert_true(knows_of("shop/two", "1"));
	pass(70);
	note(5, 0, 0); /* of a stream that is forgotten; the others are looked through */
	assert_false(knows(5));
	assert_false(knows_of("shop/two", "1"));
	assert_true(knows_of("shop/three", "1"));
}

static void test_age_exactly(void **state)
{
	serve(1, 0, 0);
	pass(598);
	serve_other("sweep");
	assert_true(knows(1));
	teardown(state);
	setup(state);
	serve(1, 0, 0);
	pass(602);
	serve_other("sweep");
	assert_false(knows(1));
}

static void test_same_version(void **state)
{
	assert_true(is_ours("7", 7)); /* known or not: nothing came since */
	serve(7, 0, 0);
	assert_true(is_ours("7", 7));
}

static void test_unknown(void **state)
{
	serve(5, 0, 0);
	note(6, 0, 0);
	assert_true(is_ours("5", 6));
	assert_false(is_ours("4", 6)); /* where it began isn't known */
	assert_false(is_ours("5", 7)); /* nor where it ends */
	assert_false(is_ours("6", 5)); /* backwards */
	assert_false(is_ours("", 6));
	assert_false(is_ours("5x", 6));
}

static void test_unknown_stream(void **state)
{
	_cleanup_object_ struct object *o = make("api", "u", 6, 0, 0);

	serve(5, 0, 0);
	note(6, 0, 0);
	assert_false(history_is_ours(h, "shop/api", "5", o));
}

/* Status and the import controller's doing. */
static void test_background(void **state)
{
	serve(5, 0, 0);
	note(6, 0, 1);
	note(7, 0, 2);
	assert_true(is_ours("5", 7));
	note(8, 1, 2); /* a person's */
	assert_false(is_ours("5", 8));
	assert_false(is_ours("7", 8));
	assert_true(is_ours("8", 8));
	assert_true(is_ours("5", 7)); /* up to there it still is */
	note(9, 1, 3);
	assert_true(is_ours("8", 9));
	assert_false(is_ours("6", 9));
}

/* Somebody's edit that somebody took back was one nonetheless. */
static void test_foreign_and_back(void **state)
{
	serve(5, 0, 0);
	note(6, 1, 0);
	note(7, 0, 0);
	assert_false(is_ours("5", 7));
}

static void test_own(void **state)
{
	serve(5, 0, 0);
	own(6, 1, "5");
	own(7, 2, "6");
	assert_true(is_ours("5", 7));
	assert_true(is_ours("6", 7));
	note(8, 2, 9); /* the controller after it */
	own(9, 3, "8");
	assert_true(is_ours("5", 9));
	note(10, 4, 0);
	own(11, 5, "10");
	assert_false(is_ours("5", 11));
	assert_false(is_ours("9", 11));
	assert_true(is_ours("10", 11));
}

/* The watch's echo comes first or last: it is the same version, and ours. */
static void test_own_and_echo(void **state)
{
	serve(5, 0, 0);
	note(6, 1, 0);
	assert_false(is_ours("5", 6));
	own(6, 1, "5");
	assert_true(is_ours("5", 6));
	own(7, 2, "6");
	note(7, 2, 0);
	serve(7, 2, 0);
	assert_true(is_ours("5", 7));
	own(7, 2, "1"); /* what is known stays */
	assert_true(is_ours("5", 7));
}

/* A save that was made on a version that isn't the one before: somebody was in between. */
static void test_own_on_other(void **state)
{
	serve(5, 0, 0);
	own(8, 3, "7"); /* 6 and 7 were never seen */
	assert_false(is_ours("5", 8));
	note(7, 2, 0); /* one of them comes late */
	assert_true(is_ours("7", 8));
	assert_false(is_ours("5", 8));
}

/*
 * Several changes as one version, as a list after a break shows them: what it all amounts to
 * counts.
 */
static void test_coalesced(void **state)
{
	serve(5, 0, 0);
	note(9, 0, 4);
	assert_true(is_ours("5", 9));
	own(10, 1, "9");
	note(15, 2, 4);
	assert_true(is_ours("5", 10));
	assert_false(is_ours("5", 15));
	assert_false(is_ours("10", 15));
}

/* Our save came back in one version with somebody's: it isn't ours alone. */
static void test_own_within_foreign(void **state)
{
	serve(5, 0, 0);
	note(7, 2, 0);
	own(6, 1, "5");
	assert_true(is_ours("5", 6));
	assert_false(is_ours("5", 7));
	assert_false(is_ours("6", 7));
}

/* Where it began was forgotten: nobody can say any more. */
static void test_forgotten_start(void **state)
{
	char from[16];

	serve(5, 0, 0);
	for (int version = 6; version <= 20; version++) {
		sprintf(from, "%d", version - 1);
		own(version, version, from);
	}
	assert_true(is_ours("5", 20));
	own(21, 21, "20");
	assert_false(is_ours("5", 21));
	assert_true(is_ours("6", 21));
	/* What drops out takes its own story along, and leaves the others theirs. */
	own(22, 22, "nobody's");
	assert_true(is_ours("7", 21));
	assert_false(is_ours("7", 22));
}

/* A version that comes late finds its place, with the others' stories where they were. */
static void test_late(void **state)
{
	serve(5, 0, 0);
	own(8, 1, "7");
	own(9, 2, "8");
	note(7, 0, 3);
	note(6, 0, 2);
	assert_true(is_ours("5", 9));
	own(7, 0, "1"); /* now it is said to be a save on something else */
	assert_false(is_ours("5", 9));
	assert_true(is_ours("7", 9));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_get, setup, teardown),
		cmocka_unit_test_setup_teardown(test_note_unserved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sixteen, setup, teardown),
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_made_anew, setup, teardown),
		cmocka_unit_test_setup_teardown(test_age, setup, teardown),
		cmocka_unit_test_setup_teardown(test_age_exactly, setup, teardown),
		cmocka_unit_test_setup_teardown(test_same_version, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unknown, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unknown_stream, setup, teardown),
		cmocka_unit_test_setup_teardown(test_background, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign_and_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own_and_echo, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own_on_other, setup, teardown),
		cmocka_unit_test_setup_teardown(test_coalesced, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own_within_foreign, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forgotten_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_late, setup, teardown),
	};

	return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}
