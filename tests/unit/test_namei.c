/* What stands at a name: shown, less what is hidden, and scratch. */
#include "fs/mount/namei.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/server.h"

#include "tests/unit/parts.h"

static struct namei_dir web;

static uint64_t first_of(enum kind kind, const char *tag)
{
	struct place path = {.kind = kind, .ns = "shop", .stream = "web"};
	struct layout_attr attr;

	strcpy(path.tag, tag);
	return shown_attr(parts.shown, &path, &attr) < 0 ? 0 : attr.ino;
}

static int setup(void **state)
{
	server_begin();
	parts_begin();
	receive(1, "{\"tags\": [{\"name\": \"v1\"}]}");
	web = (struct namei_dir){{KIND_STREAM, "shop", "web", ""}, first_of(KIND_STREAM, "")};
	return 0;
}

static int teardown(void **state)
{
	parts_end();
	return server_end() ? 0 : -1;
}

static void make_scratch(const char *name, mode_t mode)
{
	struct scratch_init init = {.mode = mode, .uid = 1, .gid = 2};
	_cleanup_inode_ struct inode *n = NULL;

	assert_int_equal(scratch_create(parts.inodes, web.ino, &web.path, name, &init, &n), 0);
}

static void test_shown(void **state)
{
	_cleanup_name_ struct name n = {0}, none = {0};

	assert_int_equal(namei_find(&parts, &web, "spec.json", 0, &n), 0);
	assert_int_equal(n.path.kind, KIND_SPEC_JSON);
	assert_int_equal(n.ino, first_of(KIND_SPEC_JSON, ""));
	assert_int_equal(n.first, n.ino);
	assert_int_equal(n.st.st_ino, n.ino);
	assert_int_equal(n.st.st_mode, S_IFREG | 0644);
	assert_int_equal(n.st.st_uid, 7);
	assert_int_equal(n.st.st_gid, 8);
	assert_true(n.seconds == 1000 && !n.hidden && !n.vacant && !n.scratch);
	assert_int_equal(namei_find(&parts, &web, "nothing", 0, &none), 0);
	assert_int_equal(none.ino, 0);
	assert_int_equal(none.path.kind, KIND_COUNT);
}

static void test_length(void **state)
{
	char name[NAME_SIZE + 1];
	_cleanup_name_ struct name n = {0};

	memset(name, 'x', sizeof(name));
	name[NAME_SIZE] = '\0';
	assert_int_equal(namei_find(&parts, &web, name, 0, &n), -ENAMETOOLONG);
	name[NAME_SIZE - 1] = '\0';
	assert_int_equal(namei_find(&parts, &web, name, 0, &n), 0);
	assert_int_equal(n.ino, 0);
}

/* Hidden: nothing is seen, but it is known what is shown there; scratch may stand in its place. */
static void test_hidden(void **state)
{
	const struct place spec = {KIND_SPEC_JSON, "shop", "web", ""};
	_cleanup_name_ struct name n = {0}, made = {0};

	inode_hide(parts.inodes, first_of(KIND_SPEC_JSON, ""), &spec);
	assert_int_equal(namei_find(&parts, &web, "spec.json", 0, &n), 0);
	assert_true(n.hidden && !n.ino && n.first && n.seconds == 0);
	make_scratch("spec.json", S_IFREG | 0600);
	assert_int_equal(namei_find(&parts, &web, "spec.json", 0, &made), 0);
	assert_non_null(made.scratch);
	assert_int_equal(made.ino, scratch_ino(made.scratch));
	assert_int_equal(made.st.st_mode, S_IFREG | 0600);
}

static void test_scratch(void **state)
{
	struct stat before, after;
	_cleanup_name_ struct name n = {0}, kept = {0};

	assert_int_equal(namei_stat(&parts, &web.path, web.ino, &before), 0);
	make_scratch("work", S_IFDIR | 0700);
	assert_int_equal(namei_stat(&parts, &web.path, web.ino, &after), 0);
	assert_int_equal(after.st_nlink, before.st_nlink + 1);
	assert_true(timespec_to_ns(&after.st_mtim) > timespec_to_ns(&before.st_mtim));
	assert_int_equal(namei_find(&parts, &web, "work", 0, &n), 0);
	assert_true(n.scratch && n.seconds == 0);
	assert_int_equal(namei_find(&parts, &web, "spec.json.error", 0, &kept), 0);
	assert_true(!kept.ino && kept.seconds == 0); /* the program itself may put it there */
}

/* A file of a tag that the object has not: it may be begun, and is seen from then on. */
static void test_vacant(void **state)
{
	const struct place path = {KIND_TAG_STATUS, "shop", "web", "v1"};
	struct namei_dir tag = {{KIND_TAG, "shop", "web", "v1"}, first_of(KIND_TAG, "v1")};
	_cleanup_name_ struct name n = {0}, begun = {0};
	struct stat st;
	uint64_t ino;

	assert_int_equal(namei_find(&parts, &tag, "status.json", 0, &n), 0);
	assert_true(n.vacant && !n.ino && !n.first);
	ino = inode_begin(parts.inodes, tag.ino, &path);
	assert_int_equal(namei_find(&parts, &tag, "status.json", 0, &begun), 0);
	assert_int_equal(begun.ino, ino);
	assert_true(begun.seconds == 0);
	assert_int_equal(namei_stat(&parts, &path, ino, &st), 0);
	assert_int_equal(st.st_nlink, 1);
	assert_int_equal(namei_parent(&parts, &path), tag.ino);
}

/* What is made anew under the name is another directory: in the one that went nothing is. */
static void test_gone(void **state)
{
	_cleanup_name_ struct name n = {0};
	struct stat st;

	assert_true(namei_takes_scratch(&parts, &web));
	store_delete(parts.store, WEB, "1");
	receive_as("web", "another", 5, "{}");
	assert_int_equal(
		publish_wait(parts.publisher, NULL, PUBLISH_ANNOUNCED, NULL, INT64_MAX), 0);
	assert_true(first_of(KIND_STREAM, "") && first_of(KIND_STREAM, "") != web.ino);
	assert_int_equal(namei_find(&parts, &web, "spec.json", 0, &n), 0);
	assert_int_equal(n.ino, 0);
	assert_false(namei_takes_scratch(&parts, &web));
	assert_int_equal(namei_stat(&parts, &web.path, web.ino, &st), 0); /* a cwd */
	assert_int_equal(st.st_nlink, 0);
}

struct listed {
	char names[256];
	uint64_t cookie;
	unsigned stop_after;
};

static bool list_one(void *arg, const char *name, uint64_t cookie, const struct place *path,
	const struct stat *st, double seconds)
{
	struct listed *l = arg;

	assert_true(cookie > l->cookie && st->st_ino);
	l->cookie = cookie;
	strcat(l->names, name);
	strcat(l->names, " ");
	return --l->stop_after == 0;
}

/* Real names first, then scratch; one call goes on where the other stopped. */
static void test_list(void **state)
{
	static const char expected[] = "imagestream.json imagestream.yaml metadata.json "
				       "status.json tags b a ";
	const struct place spec = {KIND_SPEC_JSON, "shop", "web", ""};
	struct listed all = {.stop_after = 100}, one = {0};

	make_scratch("b", S_IFREG | 0600);
	make_scratch("a", S_IFLNK | 0777);
	inode_hide(parts.inodes, first_of(KIND_SPEC_JSON, ""), &spec);
	assert_int_equal(namei_list(&parts, &web, 0, list_one, &all), 0);
	assert_string_equal(all.names, expected);
	for (size_t i = 0; i < 8; i++) {
		one.stop_after = 1;
		assert_int_equal(namei_list(&parts, &web, one.cookie, list_one, &one), 0);
	}
	assert_string_equal(one.names, expected);
}

static void assert_text(const struct place *path, const char *expected)
{
	_cleanup_free_ char *text = namei_text(path);

	assert_string_equal(text, expected);
}

static void test_text(void **state)
{
	assert_text(&(struct place){KIND_NAMESPACE, "shop", "", ""}, "shop");
	assert_text(&(struct place){KIND_SPEC_JSON, "shop", "web", ""}, "shop/web/spec.json");
	assert_text(
		&(struct place){KIND_TAG_SPEC, "shop", "web", "v1"}, "shop/web/tags/v1/spec.json");
	assert_text(&(struct place){KIND_TAG, "shop", "web", "v1"}, "shop/web/tags/v1");
	assert_text(&(struct place){KIND_API_STATUS, "", "", ""}, ".api/status.json");
	assert_text(&(struct place){KIND_TAG_IMPORT, "shop", "web", "v1"},
		"shop/web/tags/v1/.api/import");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_shown),
		TEST(test_length),
		TEST(test_hidden),
		TEST(test_scratch),
		TEST(test_vacant),
		TEST(test_gone),
		TEST(test_list),
		TEST(test_text),
	};

	return cmocka_run_group_tests_name("namei", tests, http_group_setup, http_group_teardown);
}
