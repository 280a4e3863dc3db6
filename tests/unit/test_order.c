/* Children by their cookies. */
#include "fs/tree/order.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static int things[1000];

/* Those after the cookie, as offsets into things[]. */
static void assert_after(const struct order *o, uint64_t cookie, const int *wanted, size_t n)
{
	size_t found = 0;

	for (size_t i = order_after(o, cookie); i < o->count; i++) {
		const int *child = o->places[i].child;

		if (!child)
			continue;
		assert_true(found < n);
		assert_int_equal(child - things, wanted[found++]);
	}
	assert_int_equal(found, n);
}

static void test_add_and_del(void **state)
{
	struct order o = {0};

	assert_int_equal(order_after(&o, 0), 0);
	for (uint64_t i = 0; i < 4; i++)
		assert_int_equal(order_add(&o, &things[i]), i + 1);
	assert_after(&o, 0, (const int[]){0, 1, 2, 3}, 4);
	assert_after(&o, 2, (const int[]){2, 3}, 2);
	order_del(&o, 1, &things[0]);
	order_del(&o, 3, &things[2]);
	assert_after(&o, 0, (const int[]){1, 3}, 2);
	assert_int_equal(order_add(&o, &things[0]), 5); /* no cookie twice */
	assert_after(&o, 2, (const int[]){3, 0}, 2);
	order_del(&o, 9, &things[0]); /* not there: nothing happens */
	order_del(&o, 0, &things[0]);
	assert_after(&o, 0, (const int[]){1, 3, 0}, 3);
	order_release(&o);
	assert_int_equal(o.count, 0);
}

/* Cookies of the caller's, in any order, also one twice. */
static void test_put(void **state)
{
	struct order o = {0};

	order_put(&o, 7, &things[7]);
	order_put(&o, 3, &things[3]);
	order_put(&o, 7, &things[8]);
	order_put(&o, 5, &things[5]);
	assert_after(&o, 0, (const int[]){3, 5, 7, 8}, 4);
	order_del(&o, 7, &things[8]);
	order_del(&o, 3, &things[3]);
	assert_after(&o, 0, (const int[]){5, 7}, 2);
	assert_int_equal(order_add(&o, &things[1]), 8);
	order_release(&o);
}

/* What is taken out leaves no room taken. */
static void test_shrinks(void **state)
{
	struct order o = {0};

	for (int i = 0; i < 1000; i++)
		order_add(&o, &things[i]);
	for (int i = 0; i < 999; i++)
		order_del(&o, i + 1, &things[i]);
	assert_true(o.count <= 2);
	assert_after(&o, 0, (const int[]){999}, 1);
	order_release(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add_and_del),
		cmocka_unit_test(test_put),
		cmocka_unit_test(test_shrinks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
