/* What is taken away is written once a removal, whoever lives how long. */
#include "fs/save/deleted.h"
#include "tests/unit/clock.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

static char home[] = "/tmp/test_deleted_XXXXXX";
static struct journal *journal;
static struct deleted *d;
static int files;

static int count(const char *path, const struct stat *st, int type, struct FTW *at)
{
	files += type == FTW_F && strstr(path, "/deleted/");
	return 0;
}

static int count_files(void)
{
	files = 0;
	nftw(home, count, 16, FTW_PHYS);
	return files;
}

static int clear(const char *path, const struct stat *st, int type, struct FTW *at)
{
	return remove(path);
}

static int setup(void **state)
{
	assert_non_null(mkdtemp(home));
	setenv("XDG_STATE_HOME", home, 1);
	journal = journal_new();
	d = deleted_new("https://server:6443", journal);
	return 0;
}

static int teardown(void **state)
{
	deleted_free(d);
	journal_free(journal);
	nftw(home, clear, 16, FTW_PHYS | FTW_DEPTH);
	return 0;
}

static struct object *make(const char *uid)
{
	_cleanup_json_ json_t *json = json_pack("{s:{s:s, s:s, s:s, s:s}}", "metadata", "namespace",
		"shop", "name", "web", "uid", uid, "resourceVersion", "1");
	struct object *o;

	assert_int_equal(object_from_json(json, "v1", &o), 0);
	return o;
}

static void once_a_removal(void **state)
{
	_cleanup_object_ struct object *one = make("one"), *two = make("two");
	struct process_id rm = {17, 1}, other = {17, 2}, nobody = {0};

	deleted_keep(d, &rm, one);
	deleted_keep(d, &rm, one);
	assert_int_equal(count_files(), 1);
	deleted_keep(d, &other, one);
	assert_int_equal(count_files(), 2);
	deleted_keep(d, &rm, two);
	assert_int_equal(count_files(), 3);
	deleted_keep(d, &nobody, one);
	deleted_keep(d, &nobody, one);
	assert_int_equal(count_files(), 5);
	for (int i = 0; i < 10; i++) { /* a long one is one */
		clock_moved += 50 * NSEC_PER_SEC;
		deleted_keep(d, &rm, one);
	}
	assert_int_equal(count_files(), 5);
	clock_moved += 60 * NSEC_PER_SEC; /* a file manager, the next day */
	deleted_keep(d, &rm, one);
	assert_int_equal(count_files(), 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(once_a_removal),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
