/* The overlay: what is hidden and when it is due, which inode stands for a place, pending files. */
#include "client/clock.h"
#include "fs/tree/overlay.h"
#include "tests/unit/clock.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define PLACE 1000
#define OTHER 2000
#define SLOT  3000

/* A hidden name is due no earlier than after 2 s, and the test is never that slow. */
#define NEARLY (2 * NSEC_PER_SEC - 500 * NSEC_PER_MSEC)
#define AFTER  (2 * NSEC_PER_SEC)

static struct overlay *o;
static const struct layout_path web = {KIND_SPEC_JSON, "shop", "web", ""};
static const struct layout_path api = {KIND_TAG_SPEC, "shop", "api", "v1"};

static int setup(void **state)
{
	clock_moved = 0;
	o = overlay_new();
	return 0;
}

static int teardown(void **state)
{
	overlay_free(o);
	return 0;
}

static void assert_path(const struct layout_path *path, const struct layout_path *expected)
{
	assert_int_equal(path->kind, expected->kind);
	assert_string_equal(path->namespace, expected->namespace);
	assert_string_equal(path->stream, expected->stream);
	assert_string_equal(path->tag, expected->tag);
}

static void assert_due(uint64_t place, const struct layout_path *path)
{
	struct overlay_due due;
	int64_t next;

	assert_true(overlay_next_due(o, &due, &next));
	assert_true(due.place == place);
	assert_path(&due.path, path);
}

/* None, and the next one is due `in` from now; 0: nothing will be. */
static void assert_none_due(int64_t in)
{
	struct overlay_due due;
	int64_t next, now = now_monotonic();

	assert_false(overlay_next_due(o, &due, &next));
	if (!in)
		assert_true(next == INT64_MAX);
	else
		assert_true(next > now + in - 500 * NSEC_PER_MSEC && next <= now + in);
}

static void test_untouched(void **state)
{
	assert_true(overlay_ino(o, PLACE) == PLACE);
	assert_false(overlay_is_hidden(o, PLACE));
	assert_int_equal(overlay_pending(o, SLOT), 0);
	assert_false(overlay_has_pending(o));
	overlay_hold_pending(o, SLOT, 1);
	overlay_drop_pending(o, SLOT);
	assert_false(overlay_has_pending(o));
	assert_false(overlay_is_returning(o, PLACE));
	overlay_return(o, PLACE);
	assert_false(overlay_is_hidden(o, PLACE));
	assert_none_due(0);
}

/* Given as due once, hidden until it is returned: as another inode, which it then keeps. */
static void test_hide(void **state)
{
	uint64_t ino;

	overlay_hide(o, PLACE, &web);
	assert_true(overlay_is_hidden(o, PLACE));
	assert_false(overlay_is_hidden(o, OTHER));
	ino = overlay_ino(o, PLACE);
	assert_true(ino != PLACE && ino > 1);
	assert_none_due(AFTER);
	clock_moved += NEARLY;
	assert_none_due(AFTER - NEARLY);
	assert_false(overlay_is_returning(o, PLACE));
	clock_moved += AFTER - NEARLY;
	assert_true(overlay_is_hidden(o, PLACE)); /* nothing comes back by itself */
	assert_false(overlay_is_returning(o, PLACE));
	assert_due(PLACE, &web);
	assert_none_due(0);
	assert_true(overlay_is_hidden(o, PLACE));
	assert_true(overlay_is_returning(o, PLACE));
	assert_false(overlay_is_returning(o, OTHER));
	clock_moved += AFTER;
	assert_none_due(0);
	assert_true(overlay_is_hidden(o, PLACE));
	overlay_return(o, PLACE);
	assert_false(overlay_is_hidden(o, PLACE));
	assert_false(overlay_is_returning(o, PLACE));
	assert_true(overlay_ino(o, PLACE) == ino);
	assert_true(overlay_ino(o, OTHER) == OTHER);
	overlay_return(o, PLACE);
	assert_false(overlay_is_hidden(o, PLACE));
	assert_none_due(0);
}

/* Each time for as long, and another inode. */
static void test_hide_again(void **state)
{
	uint64_t ino;

	overlay_hide(o, PLACE, &web);
	ino = overlay_ino(o, PLACE);
	clock_moved += NEARLY;
	overlay_hide(o, PLACE, &api);
	assert_true(overlay_ino(o, PLACE) != ino && overlay_ino(o, PLACE) != PLACE);
	clock_moved += NEARLY;
	assert_none_due(AFTER - NEARLY);
	clock_moved += AFTER - NEARLY;
	assert_due(PLACE, &api);
	assert_none_due(0);

	/* While it was returning: it isn't any more. */
	ino = overlay_ino(o, PLACE);
	overlay_hide(o, PLACE, &web);
	assert_true(overlay_ino(o, PLACE) != ino);
	assert_true(overlay_is_hidden(o, PLACE));
	assert_false(overlay_is_returning(o, PLACE));
	assert_none_due(AFTER);
	clock_moved += AFTER;
	assert_due(PLACE, &web);
	overlay_return(o, PLACE);
	overlay_hide(o, PLACE, &web);
	assert_true(overlay_is_hidden(o, PLACE));
	assert_false(overlay_is_returning(o, PLACE));
	assert_none_due(AFTER);
}

/* Back before its time: it isn't due any more. */
static void test_return_early(void **state)
{
	overlay_hide(o, PLACE, &web);
	overlay_hide(o, OTHER, &api);
	overlay_return(o, PLACE);
	assert_false(overlay_is_hidden(o, PLACE));
	clock_moved += AFTER;
	assert_due(OTHER, &api);
	assert_none_due(0);
	overlay_show(o, OTHER, 77); /* while it is returning */
	assert_false(overlay_is_hidden(o, OTHER));
	assert_false(overlay_is_returning(o, OTHER));
	assert_true(overlay_ino(o, OTHER) == 77);
	assert_none_due(0);
}

/* The earliest of those that aren't given yet. */
static void test_next(void **state)
{
	overlay_hide(o, PLACE, &web);
	clock_moved += AFTER / 4;
	overlay_add_pending(o, SLOT, 55, &api);
	clock_moved += AFTER / 4;
	overlay_hide(o, OTHER, &api);
	assert_none_due(AFTER / 2);
	clock_moved += AFTER / 2;
	assert_due(PLACE, &web);
	assert_none_due(AFTER / 4);
	clock_moved += AFTER / 4;
	assert_due(0, &api);
	assert_none_due(AFTER / 4);
	clock_moved += AFTER / 4;
	assert_due(OTHER, &api);
	assert_none_due(0);

	overlay_hide(o, PLACE, &web);
	overlay_show(o, PLACE, PLACE);
	assert_none_due(0);
	overlay_add_pending(o, SLOT, 55, &api);
	clock_moved += AFTER / 4;
	overlay_hide(o, OTHER, &web);
	assert_none_due(AFTER * 3 / 4);
	overlay_drop_pending(o, SLOT);
	assert_none_due(AFTER);
}

/* Nothing is left of a place that is gone, and it isn't due any more. */
static void test_forget(void **state)
{
	overlay_forget(o, PLACE);
	overlay_hide(o, PLACE, &web);
	overlay_hide(o, OTHER, &api);
	overlay_forget(o, PLACE);
	assert_false(overlay_is_hidden(o, PLACE));
	assert_true(overlay_ino(o, PLACE) == PLACE);
	clock_moved += AFTER;
	assert_due(OTHER, &api);
	overlay_forget(o, OTHER); /* while it is returning */
	overlay_return(o, OTHER);
	assert_true(overlay_ino(o, OTHER) == OTHER);
	overlay_show(o, PLACE, 77);
	overlay_forget(o, PLACE);
	assert_true(overlay_ino(o, PLACE) == PLACE);
	assert_none_due(0);
}

static void test_show(void **state)
{
	overlay_hide(o, PLACE, &web);
	overlay_show(o, PLACE, 77);
	assert_false(overlay_is_hidden(o, PLACE));
	assert_true(overlay_ino(o, PLACE) == 77);
	overlay_show(o, OTHER, 78);
	assert_true(overlay_ino(o, OTHER) == 78);
	assert_false(overlay_is_hidden(o, OTHER));
	assert_true(overlay_ino(o, PLACE) == 77);
	clock_moved += 2 * AFTER;
	assert_none_due(0);
	assert_true(overlay_ino(o, PLACE) == 77);
	overlay_hide(o, PLACE, &web);
	assert_true(overlay_is_hidden(o, PLACE));
	assert_true(overlay_ino(o, PLACE) != 77);
	overlay_show(o, PLACE, PLACE); /* the original is back */
	assert_true(overlay_ino(o, PLACE) == PLACE);
	assert_false(overlay_is_hidden(o, PLACE));
}

static void test_many(void **state)
{
	for (uint64_t place = 1; place <= 1000; place++)
		overlay_show(o, place * 8, place * 8 + 1);
	for (uint64_t place = 1; place <= 1000; place += 2)
		overlay_hide(o, place * 8, &web);
	for (uint64_t place = 1; place <= 1000; place++) {
		assert_int_equal(overlay_is_hidden(o, place * 8), place % 2);
		assert_int_equal(overlay_ino(o, place * 8) == place * 8 + 1, place % 2 == 0);
	}
	clock_moved += AFTER;
	for (int i = 0; i < 500; i++) {
		struct overlay_due due;
		int64_t next;

		assert_true(overlay_next_due(o, &due, &next));
		assert_int_equal(due.place % 16, 8);
		assert_true(overlay_is_hidden(o, due.place));
		assert_true(overlay_is_returning(o, due.place));
		overlay_return(o, due.place);
	}
	assert_none_due(0);
	for (uint64_t place = 1; place <= 1000; place++)
		assert_false(overlay_is_hidden(o, place * 8));
}

/* Never opened: it vanishes 2 s after it was made. */
static void test_pending(void **state)
{
	overlay_add_pending(o, SLOT, 55, &api);
	assert_true(overlay_has_pending(o));
	assert_int_equal(overlay_pending(o, SLOT), 55);
	assert_int_equal(overlay_pending(o, SLOT + 1), 0);
	clock_moved += NEARLY;
	assert_int_equal(overlay_pending(o, SLOT), 55);
	clock_moved += AFTER - NEARLY;
	assert_int_equal(overlay_pending(o, SLOT), 0);
	overlay_hold_pending(o, SLOT, 1); /* too late */
	assert_int_equal(overlay_pending(o, SLOT), 0);
	assert_due(0, &api);
	assert_none_due(0);
	assert_false(overlay_has_pending(o));
	overlay_add_pending(o, SLOT, 56, &api);
	assert_int_equal(overlay_pending(o, SLOT), 56);
}

/* There while somebody has it open, and for 2 s after the last of them. */
static void test_pending_held(void **state)
{
	overlay_add_pending(o, SLOT, 55, &api);
	overlay_hold_pending(o, SLOT, 1);
	overlay_hold_pending(o, SLOT, 1);
	clock_moved += 100 * AFTER;
	assert_none_due(0); /* nobody knows when */
	assert_int_equal(overlay_pending(o, SLOT), 55);
	overlay_hold_pending(o, SLOT, -1);
	clock_moved += AFTER;
	assert_int_equal(overlay_pending(o, SLOT), 55);
	overlay_hold_pending(o, SLOT, -1);
	assert_none_due(AFTER);
	clock_moved += NEARLY;
	assert_int_equal(overlay_pending(o, SLOT), 55);
	overlay_hold_pending(o, SLOT, 1); /* opened anew meanwhile */
	clock_moved += 2 * AFTER;
	assert_int_equal(overlay_pending(o, SLOT), 55);
	overlay_hold_pending(o, SLOT, -1);
	clock_moved += AFTER;
	assert_int_equal(overlay_pending(o, SLOT), 0);
	assert_due(0, &api);
	assert_none_due(0);
}

static void test_pending_again(void **state)
{
	overlay_add_pending(o, SLOT, 55, &api);
	overlay_hold_pending(o, SLOT, 1);
	overlay_add_pending(o, SLOT, 56, &api); /* in its place, and nobody has that one open */
	assert_int_equal(overlay_pending(o, SLOT), 56);
	clock_moved += AFTER;
	assert_int_equal(overlay_pending(o, SLOT), 0);
	overlay_add_pending(o, SLOT, 57, &web); /* before the one that is over was given */
	assert_none_due(AFTER);
	overlay_add_pending(o, SLOT + 1, 58, &api);
	overlay_drop_pending(o, SLOT);
	assert_int_equal(overlay_pending(o, SLOT), 0);
	assert_int_equal(overlay_pending(o, SLOT + 1), 58);
	assert_true(overlay_has_pending(o));
	overlay_drop_pending(o, SLOT + 1);
	assert_false(overlay_has_pending(o));
	overlay_add_pending(o, SLOT, 59, &api); /* freed with the overlay */
}

/* A place and a slot of one number have nothing to do with each other. */
static void test_apart(void **state)
{
	overlay_add_pending(o, PLACE, 55, &api);
	assert_true(overlay_ino(o, PLACE) == PLACE);
	assert_false(overlay_is_hidden(o, PLACE));
	overlay_hide(o, PLACE, &web);
	assert_int_equal(overlay_pending(o, PLACE), 55);
	overlay_drop_pending(o, PLACE);
	assert_true(overlay_is_hidden(o, PLACE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_untouched, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hide, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hide_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_return_early, setup, teardown),
		cmocka_unit_test_setup_teardown(test_next, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forget, setup, teardown),
		cmocka_unit_test_setup_teardown(test_show, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pending, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pending_held, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pending_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_apart, setup, teardown),
	};

	return cmocka_run_group_tests_name("overlay", tests, NULL, NULL);
}
