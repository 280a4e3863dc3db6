/* The overlay: what is hidden and for how long, which inode stands for a place, pending files. */
#include "fs/overlay.h"
#include "tests/unit/clock.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define PLACE 1000
#define OTHER 2000
#define SLOT  3000

/* A hidden name is back no earlier than after 2 s, and the test is never that slow. */
#define NEARLY (2 * NSEC_PER_SEC - 500 * NSEC_PER_MSEC)
#define AFTER  (2 * NSEC_PER_SEC)

static struct overlay *o;

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

static void test_untouched(void **state)
{
	assert_true(overlay_ino(o, PLACE) == PLACE);
	assert_false(overlay_is_hidden(o, PLACE));
	assert_int_equal(overlay_pending(o, SLOT), 0);
	assert_false(overlay_has_pending(o));
	overlay_hold_pending(o, SLOT, 1);
	overlay_drop_pending(o, SLOT);
	assert_false(overlay_has_pending(o));
}

/* It comes back as another inode, which it then keeps. */
static void test_hide(void **state)
{
	uint64_t ino;

	overlay_hide(o, PLACE);
	assert_true(overlay_is_hidden(o, PLACE));
	assert_false(overlay_is_hidden(o, OTHER));
	clock_moved += NEARLY;
	assert_true(overlay_is_hidden(o, PLACE));
	clock_moved += AFTER - NEARLY;
	assert_false(overlay_is_hidden(o, PLACE));
	ino = overlay_ino(o, PLACE);
	assert_true(ino != PLACE && ino > 1);
	assert_true(overlay_ino(o, PLACE) == ino);
	assert_true(overlay_ino(o, OTHER) == OTHER);

	/* Again: for as long again, and another inode again. */
	overlay_hide(o, PLACE);
	assert_true(overlay_is_hidden(o, PLACE));
	clock_moved += NEARLY;
	assert_true(overlay_is_hidden(o, PLACE));
	overlay_hide(o, PLACE);
	clock_moved += NEARLY;
	assert_true(overlay_is_hidden(o, PLACE));
	clock_moved += AFTER;
	assert_false(overlay_is_hidden(o, PLACE));
	assert_true(overlay_ino(o, PLACE) != ino && overlay_ino(o, PLACE) != PLACE);
}

/* Asked for its inode alone, first. */
static void test_ino_after(void **state)
{
	overlay_hide(o, PLACE);
	clock_moved += AFTER;
	assert_true(overlay_ino(o, PLACE) != PLACE);
	assert_false(overlay_is_hidden(o, PLACE));
}

static void test_show(void **state)
{
	overlay_hide(o, PLACE);
	overlay_show(o, PLACE, 77);
	assert_false(overlay_is_hidden(o, PLACE));
	assert_true(overlay_ino(o, PLACE) == 77);
	overlay_show(o, OTHER, 78);
	assert_true(overlay_ino(o, OTHER) == 78);
	assert_false(overlay_is_hidden(o, OTHER));
	assert_true(overlay_ino(o, PLACE) == 77);
	clock_moved += 2 * AFTER;
	assert_true(overlay_ino(o, PLACE) == 77);
	overlay_hide(o, PLACE);
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
		overlay_hide(o, place * 8);
	for (uint64_t place = 1; place <= 1000; place++) {
		assert_int_equal(overlay_is_hidden(o, place * 8), place % 2);
		assert_int_equal(overlay_ino(o, place * 8) == place * 8 + 1, place % 2 == 0);
	}
}

/* Never opened: it vanishes 2 s after it was made. */
static void test_pending(void **state)
{
	overlay_add_pending(o, SLOT, 55);
	assert_true(overlay_has_pending(o));
	assert_int_equal(overlay_pending(o, SLOT), 55);
	assert_int_equal(overlay_pending(o, SLOT + 1), 0);
	clock_moved += NEARLY;
	assert_int_equal(overlay_pending(o, SLOT), 55);
	clock_moved += AFTER - NEARLY;
	assert_int_equal(overlay_pending(o, SLOT), 0);
	assert_false(overlay_has_pending(o));
	overlay_hold_pending(o, SLOT, 1); /* too late */
	assert_int_equal(overlay_pending(o, SLOT), 0);
	overlay_add_pending(o, SLOT, 56);
	assert_int_equal(overlay_pending(o, SLOT), 56);
}

/* There while somebody has it open, and for 2 s after the last of them. */
static void test_pending_held(void **state)
{
	overlay_add_pending(o, SLOT, 55);
	overlay_hold_pending(o, SLOT, 1);
	overlay_hold_pending(o, SLOT, 1);
	clock_moved += 100 * AFTER;
	assert_int_equal(overlay_pending(o, SLOT), 55);
	overlay_hold_pending(o, SLOT, -1);
	clock_moved += AFTER;
	assert_int_equal(overlay_pending(o, SLOT), 55);
	overlay_hold_pending(o, SLOT, -1);
	clock_moved += NEARLY;
	assert_int_equal(overlay_pending(o, SLOT), 55);
	overlay_hold_pending(o, SLOT, 1); /* opened anew meanwhile */
	clock_moved += 2 * AFTER;
	assert_int_equal(overlay_pending(o, SLOT), 55);
	overlay_hold_pending(o, SLOT, -1);
	clock_moved += AFTER;
	assert_int_equal(overlay_pending(o, SLOT), 0);
}

static void test_pending_again(void **state)
{
	overlay_add_pending(o, SLOT, 55);
	overlay_hold_pending(o, SLOT, 1);
	overlay_add_pending(o, SLOT, 56); /* in its place, and nobody has that one open */
	assert_int_equal(overlay_pending(o, SLOT), 56);
	clock_moved += AFTER;
	assert_int_equal(overlay_pending(o, SLOT), 0);
	overlay_add_pending(o, SLOT, 57);
	overlay_add_pending(o, SLOT + 1, 58);
	overlay_drop_pending(o, SLOT);
	assert_int_equal(overlay_pending(o, SLOT), 0);
	assert_int_equal(overlay_pending(o, SLOT + 1), 58);
	assert_true(overlay_has_pending(o));
	overlay_drop_pending(o, SLOT + 1);
	assert_false(overlay_has_pending(o));
	overlay_add_pending(o, SLOT, 59); /* freed with the overlay */
}

/* A place and a slot of one number have nothing to do with each other. */
static void test_apart(void **state)
{
	overlay_add_pending(o, PLACE, 55);
	assert_true(overlay_ino(o, PLACE) == PLACE);
	assert_false(overlay_is_hidden(o, PLACE));
	overlay_hide(o, PLACE);
	assert_int_equal(overlay_pending(o, PLACE), 55);
	overlay_drop_pending(o, PLACE);
	assert_true(overlay_is_hidden(o, PLACE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_untouched, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hide, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ino_after, setup, teardown),
		cmocka_unit_test_setup_teardown(test_show, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pending, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pending_held, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pending_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_apart, setup, teardown),
	};

	return cmocka_run_group_tests_name("overlay", tests, NULL, NULL);
}
