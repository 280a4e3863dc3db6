/* Namespaces that a list lacks, up to the point where the server would be asked. */
#include "client/absent.h"
#include "client/clock.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define INTERVAL (30 * NSEC_PER_SEC)
#define LATER	 (10 * NSEC_PER_SEC)

static void unexpected(void *arg, const char *ns)
{
	fail_msg("%s", ns);
}

static int setup(void **state)
{
	struct absents_listener listener = {unexpected, unexpected, NULL};

	*state = absents_new(NULL, NULL, INTERVAL, &listener);
	return 0;
}

static int teardown(void **state)
{
	absents_free(*state);
	return 0;
}

static void listed(struct absents *a, const char *missing, int64_t asked)
{
	_cleanup_json_ json_t *names = json_loads(missing, 0, NULL);

	absents_listed(a, names, asked);
}

static void test_nothing(void **state)
{
	bool list = false;

	assert_int_equal(absents_step(*state, now_monotonic(), &list), INT64_MAX);
	assert_false(list);
	absents_remove(*state, "team");
	absents_free(NULL);
}

/* 10 s later a list is wanted, once. */
static void test_a_list_is_wanted(void **state)
{
	int64_t begin = now_monotonic(), now, next;
	bool list = false;

	absents_add(*state, "team", false);
	next = absents_step(*state, begin, &list);
	assert_false(list);
	assert_in_range(next, begin + LATER, now_monotonic() + LATER);
	now = next;
	absents_step(*state, now, &list);
	assert_true(list);
	list = false;
	absents_step(*state, now + 1, &list);
	assert_false(list);
}

/* A list that was asked for before says nothing. */
static void test_list_of_before(void **state)
{
	int64_t begin = now_monotonic();
	bool list = false;

	listed(*state, "[\"team\",\"base\"]", begin);
	listed(*state, "[\"team\",\"base\"]", begin + LATER - 1);
	absents_step(*state, begin + 2 * LATER, &list);
	assert_true(list);
}

static void test_it_is_there_again(void **state)
{
	int64_t begin = now_monotonic();
	bool list = false;

	listed(*state, "[\"team\",\"base\"]", begin);
	listed(*state, "[]", begin + LATER);
	assert_int_equal(absents_step(*state, begin + 2 * LATER, &list), INT64_MAX);
	absents_add(*state, "team", true);
	absents_remove(*state, "team");
	assert_int_equal(absents_step(*state, begin + 2 * LATER, &list), INT64_MAX);
	assert_false(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_list_is_wanted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_list_of_before, setup, teardown),
		cmocka_unit_test_setup_teardown(test_it_is_there_again, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
