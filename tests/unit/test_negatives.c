/* Names that the kernel keeps as missing, and how it is made to forget them. */
#include "fs/tree/negatives.h"

#include "fs/publish/kernel.h"
#include "tests/unit/at_once.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* What was given or told, as "DIRECTORY/NAME ", in any order: so it is sorted by whoever looks. */
struct told {
	pthread_mutex_t lock;
	pthread_cond_t more;
	char *lines[16];
	size_t count;
};

static struct told told = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER};

static void wait_for_told(size_t count)
{
	pthread_mutex_lock(&told.lock);
	while (told.count < count)
		pthread_cond_wait(&told.more, &told.lock);
	pthread_mutex_unlock(&told.lock);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void assert_told(const char *wanted)
{
	char all[1024] = "";

	pthread_mutex_lock(&told.lock);
	if (told.count)
		qsort(told.lines, told.count, sizeof(*told.lines), by_text);
	for (size_t i = 0; i < told.count; i++) {
		strcat(strcat(all, i ? " " : ""), told.lines[i]);
		free(told.lines[i]);
	}
	told.count = 0;
	pthread_mutex_unlock(&told.lock);
	assert_string_equal(all, wanted);
}

static void tell(void *arg, const char *dir, const char *name)
{
	pthread_mutex_lock(&told.lock);
	assert_true(told.count < ARRAY_SIZE(told.lines));
	told.lines[told.count++] = xasprintf("%s/%s", dir, name);
	pthread_cond_signal(&told.more);
	pthread_mutex_unlock(&told.lock);
}

static void test_set(void **state)
{
	struct negatives *n = negatives_new();

	negatives_take(n, NULL, tell, NULL);
	assert_told("");
	for (int i = 0; i < 2; i++) { /* once is enough */
		assert_true(negatives_add(n, negatives_epoch(n), "", "shop"));
		assert_true(negatives_add(n, negatives_epoch(n), "shop", "web"));
		assert_true(negatives_add(n, negatives_epoch(n), "shop", "api"));
		assert_true(negatives_add(n, negatives_epoch(n), "dev", "web"));
	}
	negatives_del(n, "shop", "web");
	negatives_del(n, "shop", "never");
	negatives_del(n, "never", "web");
	negatives_take(n, "shop", tell, NULL);
	assert_told("shop/api");
	negatives_take(n, "shop", tell, NULL);
	assert_told("");
	assert_true(negatives_add(n, negatives_epoch(n), "shop", "api"));
	negatives_del_dir(n, "dev");
	negatives_del_dir(n, "never");
	negatives_take(n, NULL, tell, NULL);
	assert_told("/shop shop/api");
	negatives_take(n, NULL, tell, NULL);
	assert_told("");
	negatives_free(n);
	negatives_free(NULL);
}

/* A watch that ended meanwhile doesn't cover the name. */
static void test_epoch(void **state)
{
	struct negatives *n = negatives_new();
	uint64_t before = negatives_epoch(n);

	negatives_take(n, "dev", tell, NULL);
	assert_false(negatives_add(n, before, "shop", "web"));
	assert_true(negatives_add(n, negatives_epoch(n), "shop", "web"));
	assert_false(negatives_add(n, before, "shop", "web"));
	negatives_free(n);
}

static void test_bound(void **state)
{
	struct negatives *n = negatives_new();
	uint64_t epoch = negatives_epoch(n);
	char name[16];

	for (int i = 0; i < NEGATIVES_MAX; i++) {
		sprintf(name, "%d", i);
		assert_true(negatives_add(n, epoch, i % 2 ? "shop" : "", name));
	}
	assert_false(negatives_add(n, epoch, "", "more"));
	assert_true(negatives_add(n, epoch, "", "0")); /* known */
	negatives_del(n, "shop", "1");
	assert_true(negatives_add(n, epoch, "", "more"));
	assert_false(negatives_add(n, epoch, "shop", "1"));
	negatives_del_dir(n, "shop");
	assert_true(negatives_add(n, epoch, "shop", "1"));
	negatives_free(n);
}

/* ---- the kernel is told ---- */

static int inval_inode(void *arg, uint64_t id)
{
	return 0;
}

static void inval_attr(void *arg, uint64_t id)
{
}

static void inval_entry(void *arg, uint64_t parent, const char *name)
{
	char dir[32];

	sprintf(dir, "%d", (int)parent);
	tell(NULL, dir, name);
}

static bool keeps(struct kernel *k, const char *ns, const char *name)
{
	return kernel_keeps_missing(k, kernel_coverage(k), ns, name);
}

static void test_uncover(void **state)
{
	struct journal *journal = journal_new();
	struct indexes *indexes = indexes_new(journal);
	struct shown *shown = shown_new(indexes);
	struct inode_table *inodes = inode_table_new();
	struct kernel *k = kernel_new(shown, inodes);
	struct kernel_notify notify = {
		.inval_inode = inval_inode, .inval_attr = inval_attr, .inval_entry = inval_entry};
	struct store_namespace ns = {.uid = "u1"};
	struct place shop = {.kind = KIND_NAMESPACE, .ns = "shop"};
	struct layout_attr attr;
	char wanted[32];
	uint64_t before;

	kernel_set_notify(k, &notify);
	set_namespace(shown, "shop", &ns);
	set_namespace(shown, "dev", &ns);
	assert_int_equal(shown_attr(shown, &shop, &attr), 0);
	sprintf(wanted, "1/no %d/web", (int)inode_lookup(inodes, &shop, attr.ino));
	before = kernel_coverage(k);
	assert_true(keeps(k, "", "no"));
	assert_true(keeps(k, "shop", "web"));
	assert_true(keeps(k, "dev", "web")); /* the kernel has forgotten this directory */
	assert_true(keeps(k, "gone", "web"));
	kernel_uncover(k, "dev");
	kernel_uncover(k, NULL);
	assert_false(kernel_keeps_missing(k, before, "shop", "web"));
	wait_for_told(2);
	kernel_stop(k);
	assert_told(wanted);
	assert_true(keeps(k, "shop", "web"));
	kernel_uncover(k, NULL); /* too late for the kernel */
	assert_told("");
	kernel_free(k);
	inode_table_free(inodes);
	shown_free(shown);
	indexes_free(indexes);
	journal_free(journal);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_epoch),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_uncover),
	};

	return cmocka_run_group_tests_name("negatives", tests, NULL, NULL);
}
