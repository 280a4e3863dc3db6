/*
 * The publisher without a mount: what it shows, what it tells the kernel, and how it is waited for.
 */
#include "tests/unit/clock.h"

#include "fs/publish/publisher.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define WEB "shop/web"

static struct journal *journal;
static struct indexes *indexes;
static struct publish_parts parts;
static struct store *store;
static struct publisher *p;

/* What the kernel was told, in words. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char told[4096];

static void tell(const char *what, uint64_t id, const char *name)
{
	size_t len;

	pthread_mutex_lock(&lock);
	len = strlen(told);
	snprintf(told + len, sizeof(told) - len, "%s%s %d%s%s", len ? ", " : "", what, (int)id,
		*name ? "/" : "", name);
	pthread_mutex_unlock(&lock);
}

static int inval_inode(void *arg, uint64_t id)
{
	tell("inode", id, "");
	return 0;
}

static void inval_attr(void *arg, uint64_t id)
{
	tell("attr", id, "");
}

static void inval_entry(void *arg, uint64_t parent, const char *name)
{
	tell("entry", parent, name);
}

static void assert_told(const char *expected)
{
	char text[sizeof(told)];

	pthread_mutex_lock(&lock);
	strcpy(text, told);
	told[0] = '\0';
	pthread_mutex_unlock(&lock);
	assert_string_equal(text, expected);
}

static bool is_told(void)
{
	bool any;

	pthread_mutex_lock(&lock);
	any = told[0];
	pthread_mutex_unlock(&lock);
	return any;
}

static void changed(void *arg, const char *key, enum store_event event, struct object *object)
{
	publish_key(p, key);
}

static int setup(void **state)
{
	struct kernel_notify notify = {
		.inval_inode = inval_inode, .inval_attr = inval_attr, .inval_entry = inval_entry};

	journal = journal_new();
	indexes = indexes_new(journal);
	parts = (struct publish_parts){.shown = shown_new(indexes), .inodes = inode_table_new()};
	parts.kernel = kernel_new(parts.shown, parts.inodes);
	p = publish_new(&parts);
	store = store_new(changed, NULL);
	publish_set_store(p, store);
	kernel_set_notify(parts.kernel, &notify);
	told[0] = '\0';
	clock_moved = 0;
	return publish_start(p);
}

static int teardown(void **state)
{
	publish_stop(p);
	publish_free(p);
	kernel_free(parts.kernel);
	store_free(store);
	inode_table_free(parts.inodes);
	shown_free(parts.shown);
	indexes_free(indexes);
	journal_free(journal);
	return 0;
}

/* A version of shop/web with that content in its spec. */
static struct object *make(const char *uid, int version, const char *content)
{
	_cleanup_json_ json_t *json = NULL;
	char number[16];
	struct object *o;

	sprintf(number, "%d", version);
	json = json_pack("{s:{s:s, s:s, s:s, s:s, s:s}, s:{s:s, s:[{s:s}]}}", "metadata",
		"namespace", "shop", "name", "web", "uid", uid, "resourceVersion", number,
		"creationTimestamp", "2026-11-23T19:48:08Z", "spec", "content", content, "tags",
		"name", "v1");
	assert_int_equal(object_from_json(json, "image.openshift.io/v1", &o), 0);
	return o;
}

static void receive(int version, const char *content)
{
	store_put(store, make("u", version, content), 0);
}

static void wait_shown(void)
{
	assert_int_equal(publish_wait(p, NULL, PUBLISH_SHOWN, NULL, INT64_MAX), 0);
}

static void assert_version(const char *version)
{
	_cleanup_view_ struct snapshot *s = shown_snapshot(parts.shown, "shop", "web");

	if (version)
		assert_string_equal(s->object->resource_version, version);
	else
		assert_null(s);
}

/* The kernel looks the place up. */
static uint64_t look_up(enum kind kind, const char *tag)
{
	struct place path = {.kind = kind, .ns = "shop", .stream = "web"};
	struct layout_attr attr;

	strcpy(path.tag, tag);
	assert_int_equal(shown_attr(parts.shown, &path, &attr), 0);
	return inode_lookup(parts.inodes, &path, attr.ino);
}

static void test_received_is_shown(void **state)
{
	struct publish_counts counts;

	receive(1, "one");
	wait_shown();
	assert_version("1");
	receive(2, "two");
	wait_shown();
	assert_version("2");
	publish_get_counts(p, &counts);
	assert_int_equal(counts.received, 2);
	assert_int_equal(counts.lost, 0);
	store_delete(store, WEB, "2");
	wait_shown();
	assert_version(NULL);
}

/* What the kernel doesn't know costs nothing; of the rest it is told what is others' now. */
static void test_kernel_is_told(void **state)
{
	char expected[64];
	uint64_t spec;

	receive(1, "one");
	wait_shown();
	assert_told("inode 1"); /* the root, which has a name more */
	receive(2, "two");
	wait_shown();
	assert_told("");
	spec = look_up(KIND_SPEC_JSON, "");
	receive(3, "three");
	wait_shown();
	sprintf(expected, "inode %d", (int)spec);
	assert_told(expected);
	receive(4, "three"); /* the same bytes */
	wait_shown();
	assert_told("");
	inode_forget(parts.inodes, spec, 1);
	receive(5, "five");
	wait_shown();
	assert_told("");
}

/* A name that goes: the directory's attributes are others, too. */
static void test_names(void **state)
{
	uint64_t tags, ns;
	char expected[64];

	receive(1, "one");
	wait_shown();
	ns = look_up(KIND_NAMESPACE, "");
	tags = look_up(KIND_TAGS, "");
	store_delete(store, WEB, "1");
	wait_shown();
	sprintf(expected, "inode %d", (int)tags);
	assert_non_null(strstr(told, expected));
	sprintf(expected, "inode %d", (int)ns);
	assert_non_null(strstr(told, expected));
}

/* While a call of somebody's is under way nothing of its stream moves. */
static void test_held(void **state)
{
	receive(1, "one");
	wait_shown();
	publish_hold(p, WEB);
	receive(2, "two");
	wait_shown();
	assert_version("1");
	publish_hold(p, WEB);
	publish_release(p, WEB);
	wait_shown();
	assert_version("1");
	publish_release(p, WEB);
	wait_shown();
	assert_version("2");
}

/* What the caller saved is there when publish_now returns, and the kernel knows. */
static void test_own(void **state)
{
	struct place file = {.kind = KIND_SPEC_JSON, .ns = "shop", .stream = "web"};
	struct change_own own = {.file = &file};
	struct publish_counts counts;
	char expected[64];
	uint64_t spec;

	receive(1, "one");
	wait_shown();
	assert_told("inode 1");
	spec = look_up(KIND_SPEC_JSON, "");
	publish_hold(p, WEB);
	receive(2, "two");
	publish_now(p, WEB, &own);
	assert_version("2");
	sprintf(expected, "inode %d", (int)spec);
	assert_told(expected);
	publish_release(p, WEB);
	assert_int_equal(publish_wait(p, WEB, PUBLISH_ANNOUNCED, NULL, INT64_MAX), 0);
	assert_told(""); /* the echo says nothing new */
	publish_get_counts(p, &counts);
	assert_int_equal(counts.lost, 0);
}

/* Deleted and made anew: the one goes, the other comes. */
static void test_made_anew(void **state)
{
	struct place path = {.kind = KIND_STREAM, .ns = "shop", .stream = "web"};
	struct layout_attr first, second;

	receive(1, "one");
	wait_shown();
	assert_int_equal(shown_attr(parts.shown, &path, &first), 0);
	store_delete(store, WEB, "1");
	store_put(store, make("other", 2, "two"), 0);
	assert_int_equal(publish_wait(p, NULL, PUBLISH_ANNOUNCED, NULL, INT64_MAX), 0);
	assert_version("2");
	assert_int_equal(shown_attr(parts.shown, &path, &second), 0);
	assert_true(first.ino != second.ino);
}

static void make_scratch(uint64_t dir, const char *name, mode_t mode)
{
	const struct place path = {.kind = KIND_STREAM, .ns = "shop", .stream = "web"};
	struct scratch_init init = {.mode = mode, .target = "x"};
	struct inode *n;

	assert_int_equal(scratch_create(parts.inodes, dir, &path, name, &init, &n), 0);
	inode_unpin(n);
}

/* A day later it is gone, whatever it is, and the kernel drops the directory's listing. */
static void test_old_scratch(void **state)
{
	const struct place path = {.kind = KIND_STREAM, .ns = "shop", .stream = "web"};
	static const char *const names[] = {"file", "link", "directory"};
	static const mode_t modes[] = {S_IFREG | 0600, S_IFLNK | 0777, S_IFDIR | 0700};
	struct layout_attr attr;
	char expected[64];
	uint64_t id;

	receive(1, "one");
	wait_shown();
	id = look_up(KIND_STREAM, "");
	assert_int_equal(shown_attr(parts.shown, &path, &attr), 0);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (i == 0)
			assert_told("inode 1");
		make_scratch(attr.ino, names[i], modes[i]);
		publish_wake(p);
		wait_shown();
		assert_told("");
		clock_moved += SCRATCH_AGE + NSEC_PER_SEC;
		publish_wake(p);
		sprintf(expected, "inode %d", (int)id);
		for (int n = 0; n < 6000 && !is_told(); n++)
			usleep(10000);
		assert_told(expected);
		assert_null(scratch_lookup(parts.inodes, attr.ino, names[i]));
	}
}

static int told_to_stop(void *arg)
{
	return -EINTR;
}

/* The end of the publisher ends every wait. */
static void test_wait(void **state)
{
	struct http_check check = {.fn = told_to_stop};
	struct change *c;

	receive(1, "one");
	wait_shown();
	assert_int_equal(publish_wait(p, WEB, PUBLISH_SHOWN, NULL, now_monotonic()), 0);
	publish_hold(p, WEB);
	c = change_new(WEB);
	publish_attributes(p, c); /* no steps: over at once */
	assert_int_equal(publish_wait(p, WEB, PUBLISH_ANNOUNCED, NULL, INT64_MAX), 0);
	publish_release(p, WEB);
	publish_stop(p);
	receive(2, "two"); /* nobody takes it from the line, and nobody waits for it */
	assert_int_equal(publish_wait(p, NULL, PUBLISH_SHOWN, &check, INT64_MAX), 0);
	assert_version("1");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_received_is_shown),
		TEST(test_kernel_is_told),
		TEST(test_names),
		TEST(test_held),
		TEST(test_own),
		TEST(test_made_anew),
		TEST(test_old_scratch),
		TEST(test_wait),
	};

	return cmocka_run_group_tests_name("publisher", tests, NULL, NULL);
}
