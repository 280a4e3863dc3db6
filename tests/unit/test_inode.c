/* The table of inodes: what the kernel knows, what stands for what is shown, what is due. */
#include "client/clock.h"
#include "fs/tree/inode.h"
#include "tests/unit/clock.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define PLACE	  1000
#define OTHER	  2000
#define DIR	  3000
#define OTHER_DIR 4000

/* A hidden name is due no earlier than after 2 s, and the test is never that slow. */
#define NEARLY (2 * NSEC_PER_SEC - 500 * NSEC_PER_MSEC)
#define AFTER  (2 * NSEC_PER_SEC)

static struct inode_table *t;
static const struct place web = {KIND_SPEC_JSON, "shop", "web", ""};
static const struct place api = {KIND_TAG_SPEC, "shop", "api", "v1"};

static int setup(void **state)
{
	clock_moved = 0;
	t = inode_table_new();
	return 0;
}

static int teardown(void **state)
{
	inode_table_free(t);
	return 0;
}

static bool is_hidden(uint64_t first)
{
	bool hidden;

	inode_at(t, first, &hidden);
	return hidden;
}

static void assert_path(const struct place *path, const struct place *expected)
{
	assert_int_equal(path->kind, expected->kind);
	assert_string_equal(path->namespace, expected->namespace);
	assert_string_equal(path->stream, expected->stream);
	assert_string_equal(path->tag, expected->tag);
}

static void assert_due(uint64_t place, const struct place *path)
{
	struct inode_due due;
	int64_t next;

	assert_true(inode_next_due(t, &due, &next));
	assert_true(due.first == place);
	assert_path(&due.path, path);
}

/* None, and the next one is due `in` from now; 0: nothing will be. */
static void assert_none_due(int64_t in)
{
	struct inode_due due;
	int64_t next, now = now_monotonic();

	assert_false(inode_next_due(t, &due, &next));
	if (!in)
		assert_true(next == INT64_MAX);
	else
		assert_true(next > now + in - 500 * NSEC_PER_MSEC && next <= now + in);
}

static void test_untouched(void **state)
{
	assert_true(inode_at(t, PLACE, NULL) == PLACE);
	assert_false(is_hidden(PLACE));
	assert_int_equal(inode_pending(t, DIR, KIND_TAG_SPEC), 0);
	inode_give_up(t, PLACE);
	assert_false(inode_is_returning(t, PLACE));
	inode_return(t, PLACE);
	assert_false(is_hidden(PLACE));
	assert_none_due(0);
}

/* Given as due once, hidden until it is returned: as another inode, which it then keeps. */
static void test_hide(void **state)
{
	uint64_t ino;

	inode_hide(t, PLACE, &web);
	assert_true(is_hidden(PLACE));
	assert_false(is_hidden(OTHER));
	ino = inode_at(t, PLACE, NULL);
	assert_true(ino != PLACE && ino > 1);
	assert_none_due(AFTER);
	clock_moved += NEARLY;
	assert_none_due(AFTER - NEARLY);
	assert_false(inode_is_returning(t, PLACE));
	clock_moved += AFTER - NEARLY;
	assert_true(is_hidden(PLACE)); /* nothing comes back by itself */
	assert_false(inode_is_returning(t, PLACE));
	assert_due(PLACE, &web);
	assert_none_due(0);
	assert_true(is_hidden(PLACE));
	assert_true(inode_is_returning(t, PLACE));
	assert_false(inode_is_returning(t, OTHER));
	clock_moved += AFTER;
	assert_none_due(0);
	assert_true(is_hidden(PLACE));
	inode_return(t, PLACE);
	assert_false(is_hidden(PLACE));
	assert_false(inode_is_returning(t, PLACE));
	assert_true(inode_at(t, PLACE, NULL) == ino);
	assert_true(inode_at(t, OTHER, NULL) == OTHER);
	inode_return(t, PLACE);
	assert_false(is_hidden(PLACE));
	assert_none_due(0);
}

/* Each time for as long, and another inode. */
static void test_hide_again(void **state)
{
	uint64_t ino;

	inode_hide(t, PLACE, &web);
	ino = inode_at(t, PLACE, NULL);
	clock_moved += NEARLY;
	inode_hide(t, PLACE, &api);
	assert_true(inode_at(t, PLACE, NULL) != ino && inode_at(t, PLACE, NULL) != PLACE);
	clock_moved += NEARLY;
	assert_none_due(AFTER - NEARLY);
	clock_moved += AFTER - NEARLY;
	assert_due(PLACE, &api);
	assert_none_due(0);

	/* While it was returning: it isn't any more. */
	ino = inode_at(t, PLACE, NULL);
	inode_hide(t, PLACE, &web);
	assert_true(inode_at(t, PLACE, NULL) != ino);
	assert_true(is_hidden(PLACE));
	assert_false(inode_is_returning(t, PLACE));
	assert_none_due(AFTER);
	clock_moved += AFTER;
	assert_due(PLACE, &web);
	inode_return(t, PLACE);
	inode_hide(t, PLACE, &web);
	assert_true(is_hidden(PLACE));
	assert_false(inode_is_returning(t, PLACE));
	assert_none_due(AFTER);
}

/* Back before its time: it isn't due any more. */
static void test_return_early(void **state)
{
	inode_hide(t, PLACE, &web);
	inode_hide(t, OTHER, &api);
	inode_return(t, PLACE);
	assert_false(is_hidden(PLACE));
	clock_moved += AFTER;
	assert_due(OTHER, &api);
	assert_none_due(0);
	inode_show(t, OTHER, 77, &web); /* while it is returning */
	assert_false(is_hidden(OTHER));
	assert_false(inode_is_returning(t, OTHER));
	assert_true(inode_at(t, OTHER, NULL) == 77);
	assert_none_due(0);
}

/* The earliest of those that aren't given yet. */
static void test_next(void **state)
{
	uint64_t pending;

	inode_hide(t, PLACE, &web);
	clock_moved += AFTER / 4;
	inode_begin(t, DIR, &api);
	clock_moved += AFTER / 4;
	inode_hide(t, OTHER, &api);
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

	inode_hide(t, PLACE, &web);
	inode_show(t, PLACE, PLACE, &web);
	assert_none_due(0);
	pending = inode_begin(t, DIR, &api);
	clock_moved += AFTER / 4;
	inode_hide(t, OTHER, &web);
	assert_none_due(AFTER * 3 / 4);
	inode_give_up(t, pending);
	assert_none_due(AFTER);
}

/* Nothing is left of a place that is gone, and it isn't due any more. */
static void test_forget(void **state)
{
	inode_drop(t, PLACE);
	inode_hide(t, PLACE, &web);
	inode_hide(t, OTHER, &api);
	inode_drop(t, PLACE);
	assert_false(is_hidden(PLACE));
	assert_true(inode_at(t, PLACE, NULL) == PLACE);
	clock_moved += AFTER;
	assert_due(OTHER, &api);
	inode_drop(t, OTHER); /* while it is returning */
	inode_return(t, OTHER);
	assert_true(inode_at(t, OTHER, NULL) == OTHER);
	inode_show(t, PLACE, 77, &web);
	inode_drop(t, PLACE);
	assert_true(inode_at(t, PLACE, NULL) == PLACE);
	assert_none_due(0);
}

static void test_show(void **state)
{
	inode_hide(t, PLACE, &web);
	inode_show(t, PLACE, 77, &web);
	assert_false(is_hidden(PLACE));
	assert_true(inode_at(t, PLACE, NULL) == 77);
	inode_show(t, OTHER, 78, &web);
	assert_true(inode_at(t, OTHER, NULL) == 78);
	assert_false(is_hidden(OTHER));
	assert_true(inode_at(t, PLACE, NULL) == 77);
	clock_moved += 2 * AFTER;
	assert_none_due(0);
	assert_true(inode_at(t, PLACE, NULL) == 77);
	inode_hide(t, PLACE, &web);
	assert_true(is_hidden(PLACE));
	assert_true(inode_at(t, PLACE, NULL) != 77);
	inode_show(t, PLACE, PLACE, &web); /* the original is back */
	assert_true(inode_at(t, PLACE, NULL) == PLACE);
	assert_false(is_hidden(PLACE));
}

static void test_many(void **state)
{
	for (uint64_t place = 1; place <= 1000; place++)
		inode_show(t, place * 8, place * 8 + 1, &web);
	for (uint64_t place = 1; place <= 1000; place += 2)
		inode_hide(t, place * 8, &web);
	for (uint64_t place = 1; place <= 1000; place++) {
		assert_int_equal(is_hidden(place * 8), place % 2);
		assert_int_equal(inode_at(t, place * 8, NULL) == place * 8 + 1, place % 2 == 0);
	}
	clock_moved += AFTER;
	for (int i = 0; i < 500; i++) {
		struct inode_due due;
		int64_t next;

		assert_true(inode_next_due(t, &due, &next));
		assert_int_equal(due.first % 16, 8);
		assert_true(is_hidden(due.first));
		assert_true(inode_is_returning(t, due.first));
		inode_return(t, due.first);
	}
	assert_none_due(0);
	for (uint64_t place = 1; place <= 1000; place++)
		assert_false(is_hidden(place * 8));
}

static uint64_t pending(uint64_t dir)
{
	return inode_pending(t, dir, api.kind);
}

/* Never opened: it vanishes 2 s after it was made. */
static void test_pending(void **state)
{
	uint64_t ino = inode_begin(t, DIR, &api), second;

	assert_true(ino > 1);
	assert_true(pending(DIR) == ino);
	assert_true(inode_is_pending(t, ino, DIR));
	assert_false(inode_is_pending(t, ino, OTHER_DIR));
	assert_int_equal(pending(OTHER_DIR), 0);
	assert_int_equal(inode_pending(t, DIR, KIND_TAG_STATUS), 0);
	clock_moved += NEARLY;
	assert_true(pending(DIR) == ino);
	clock_moved += AFTER - NEARLY;
	assert_int_equal(pending(DIR), 0);
	assert_false(inode_is_pending(t, ino, DIR));
	assert_due(0, &api);
	assert_none_due(0);
	second = inode_begin(t, DIR, &api);
	assert_true(second != ino && pending(DIR) == second);
}

static void test_pending_again(void **state)
{
	uint64_t first = inode_begin(t, DIR, &api), second, other;

	second = inode_begin(t, DIR, &api); /* in its place */
	assert_true(pending(DIR) == second);
	clock_moved += AFTER;
	assert_int_equal(pending(DIR), 0);
	first = inode_begin(t, DIR, &api); /* before the one that is over was given */
	assert_none_due(AFTER);
	other = inode_begin(t, OTHER_DIR, &api);
	inode_give_up(t, first);
	assert_int_equal(pending(DIR), 0);
	assert_true(pending(OTHER_DIR) == other);
	inode_give_up(t, other);
	inode_give_up(t, other);
	inode_begin(t, DIR, &api); /* freed with the table */
}

/* It is saved: the inode stands for what the server's tree shows there now, and isn't due any more. */
static void test_pending_saved(void **state)
{
	uint64_t ino = inode_begin(t, DIR, &api), id = inode_lookup(t, &api, ino);

	inode_show(t, PLACE, ino, &api);
	assert_true(inode_at(t, PLACE, NULL) == ino);
	assert_true(inode_id_at(t, PLACE) == id);
	assert_none_due(0);
	inode_give_up(t, ino); /* nothing is pending there */
	assert_true(inode_at(t, PLACE, NULL) == ino);
}

/* ---- what the kernel knows, and the states ---- */

/* The kernel keeps what was unlinked, but no lookup finds it again, also not by its old st_ino. */
static void test_gone(void **state)
{
	struct place path;
	uint64_t id = inode_lookup(t, &web, PLACE), again, ino;

	inode_hide(t, PLACE, &web);
	assert_int_equal(inode_id(t, PLACE), 0);
	assert_int_equal(inode_id_at(t, PLACE), 0);
	assert_true(inode_get(t, id, &path, &ino) && ino == PLACE);
	again = inode_lookup(t, &web, PLACE);
	assert_true(again != id);
	inode_forget(t, id, 1);
	assert_false(inode_get(t, id, &path, &ino));
	assert_true(inode_id(t, PLACE) == again);
	inode_drop(t, PLACE); /* the hidden one */
	inode_drop(t, PLACE);
	assert_int_equal(inode_id(t, PLACE), 0);
	assert_true(inode_get(t, again, &path, &ino));
	assert_int_equal(inode_count(t), 2);
}

/* Another inode takes a name over: who stood there is GONE. What stands there isn't forgotten with the kernel's lookups. */
static void test_take(void **state)
{
	struct place path;
	uint64_t old = inode_lookup(t, &web, PLACE), id = inode_lookup(t, &api, 77), ino;

	inode_show(t, PLACE, 77, &web);
	assert_int_equal(inode_id(t, PLACE), 0);
	assert_true(inode_id_at(t, PLACE) == id);
	assert_true(inode_get(t, old, &path, &ino));
	assert_true(inode_get(t, id, &path, &ino));
	assert_path(&path, &web);
	inode_forget(t, id, 1);
	inode_forget(t, old, 1);
	assert_int_equal(inode_count(t), 1);
	assert_int_equal(inode_id_at(t, PLACE), 0);
	assert_true(inode_at(t, PLACE, NULL) == 77);
	inode_drop(t, PLACE);
	assert_true(inode_at(t, PLACE, NULL) == PLACE);
	assert_int_equal(inode_id(t, 77), 0);
}

static struct place tag_path(const char *namespace, const char *stream, const char *tag)
{
	struct place path = {.kind = KIND_TAG};

	strcpy(path.namespace, namespace);
	strcpy(path.stream, stream);
	strcpy(path.tag, tag);
	return path;
}

static void assert_known(uint64_t id, const struct place *path, uint64_t ino)
{
	struct place found = {0};
	uint64_t found_ino = 0;

	assert_true(inode_get(t, id, &found, &found_ino));
	assert_int_equal(found.kind, path->kind);
	assert_string_equal(found.namespace, path->namespace);
	assert_string_equal(found.stream, path->stream);
	assert_string_equal(found.tag, path->tag);
	assert_int_equal(found_ino, ino);
	assert_int_equal(inode_id(t, ino), id);
}

static void assert_unknown(uint64_t id)
{
	struct place path;
	uint64_t ino;

	assert_false(inode_get(t, id, &path, &ino));
}

static void test_root(void **state)
{
	struct place root = {.kind = KIND_ROOT};

	assert_known(INODE_ROOT, &root, 1);
	assert_int_equal(inode_count(t), 1);
	inode_forget(t, INODE_ROOT, 1);
	inode_forget(t, INODE_ROOT, UINT64_MAX);
	assert_known(INODE_ROOT, &root, 1); /* the kernel never looks it up */
	assert_int_equal(inode_lookup(t, &root, 1), INODE_ROOT);
	inode_table_free(NULL);
}

static void test_counts(void **state)
{
	struct place path = tag_path("shop", "web", "latest");
	uint64_t id = inode_lookup(t, &path, 77);

	assert_true(id != 0 && id != INODE_ROOT);
	assert_int_equal(inode_count(t), 2);
	assert_int_equal(inode_lookup(t, &path, 77), id);
	assert_int_equal(inode_lookup(t, &path, 77), id);
	assert_int_equal(inode_count(t), 2);
	inode_forget(t, id, 1);
	assert_known(id, &path, 77);
	inode_forget(t, id, 0);
	assert_known(id, &path, 77);
	inode_forget(t, id, 2);
	assert_unknown(id);
	assert_int_equal(inode_id(t, 77), 0);
	assert_int_equal(inode_count(t), 1);
}

static void test_unknown(void **state)
{

	assert_unknown(0);
	assert_unknown(2);
	assert_unknown(UINT64_MAX);
	assert_int_equal(inode_id(t, 0), 0);
	inode_forget(t, 2, 1);
	inode_forget(t, 0, 1);
	assert_int_equal(inode_count(t), 1);
}

/* More lookups taken back than there were: gone, and nothing worse. */
static void test_forget_too_many(void **state)
{
	struct place path = tag_path("shop", "web", "latest");
	uint64_t id = inode_lookup(t, &path, 77);

	inode_forget(t, id, 5);
	assert_unknown(id);
	inode_forget(t, id, 1);
	assert_int_equal(inode_count(t), 1);
}

/* What comes back after it was forgotten is another node, also if it is the same thing. */
static void test_ids_are_never_reused(void **state)
{
	struct place path = tag_path("shop", "web", "latest");
	uint64_t last = INODE_ROOT;

	for (int i = 0; i < 5000; i++) {
		uint64_t id = inode_lookup(t, &path, 77 + i % 3);

		assert_true(id > last);
		last = id;
		inode_forget(t, id, 1);
	}
}

/* Inodes that share a bucket, and paths that only differ in where one name ends. */
static void test_similar(void **state)
{
	struct place paths[] = {tag_path("ab", "c", "d"), tag_path("a", "bc", "d"),
		tag_path("a", "b", "cd"), tag_path("", "", ""), tag_path("abcd", "", "")};
	uint64_t ids[ARRAY_SIZE(paths)];

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		ids[i] = inode_lookup(t, &paths[i], 5 + (i << 40));
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		assert_known(ids[i], &paths[i], 5 + (i << 40));
	for (size_t gone = 0; gone < ARRAY_SIZE(paths); gone++) {
		/* The middle first. */
		size_t k = (gone + 2) % ARRAY_SIZE(paths);

		inode_forget(t, ids[k], 1);
		assert_unknown(ids[k]);
		assert_int_equal(inode_id(t, 5 + (k << 40)), 0);
		for (size_t i = gone + 1; i < ARRAY_SIZE(paths); i++) {
			size_t left = (i + 2) % ARRAY_SIZE(paths);

			assert_known(ids[left], &paths[left], 5 + (left << 40));
		}
	}
}

static void test_longest_names(void **state)
{
	struct place path = {.kind = KIND_TAG_IMAGE};
	uint64_t id;

	memset(path.namespace, 'n', NAME_SIZE - 1);
	memset(path.stream, 's', NAME_SIZE - 1);
	memset(path.tag, 't', NAME_SIZE - 1);
	id = inode_lookup(t, &path, 9);
	assert_known(id, &path, 9);
}

#define MANY 100000

static void test_growth(void **state)
{
	struct place path = {.kind = KIND_STREAM, .namespace = "shop"};
	uint64_t *ids = xcalloc(MANY, sizeof(*ids));
	/* Odd, so that all are different. */
	const uint64_t factor = UINT64_C(0x9e3779b97f4a7c15);

	for (int round = 0; round < 2; round++)
		for (uint64_t i = 0; i < MANY; i++) {
			uint64_t id;

			sprintf(path.stream, "s%d", (int)i);
			id = inode_lookup(t, &path, (i + 2) * factor);
			assert_true(round == 0 || ids[i] == id);
			assert_true(i == 0 || id > ids[i - 1]);
			ids[i] = id;
		}
	assert_int_equal(inode_count(t), MANY + 1);
	for (uint64_t i = 0; i < MANY; i++) {
		sprintf(path.stream, "s%d", (int)i);
		assert_known(ids[i], &path, (i + 2) * factor);
		inode_forget(t, ids[i], i % 2 ? 2 : 1);
	}
	assert_int_equal(inode_count(t), MANY / 2 + 1);
	for (uint64_t i = 0; i < MANY; i++) {
		assert_int_equal(inode_id(t, (i + 2) * factor), i % 2 ? 0 : ids[i]);
		inode_forget(t, ids[i], 1);
	}
	assert_int_equal(inode_count(t), 1);
	free(ids);
}

static void note_node(void *arg, const struct place *path, uint64_t ino)
{
	char *text = arg;

	sprintf(text + strlen(text), "%s/%s:%d ", path->namespace, path->stream, (int)ino);
}

/* Those of one namespace that the kernel may know, but not what is GONE. */
static void test_foreach(void **state)
{
	struct place web_v1 = tag_path("shop", "web", "v1"), api_v1 = tag_path("dev", "api", "v1");
	struct place web_image = web_v1;
	uint64_t id;
	char text[256] = "";

	web_image.kind = KIND_TAG_IMAGE;
	inode_foreach(t, "shop", note_node, text);
	assert_string_equal(text, "");
	inode_lookup(t, &web_v1, 10);
	id = inode_lookup(t, &web_v1, 11);
	inode_lookup(t, &api_v1, 12);
	inode_lookup(t, &web_image, 13);
	inode_foreach(t, "shop", note_node, text);
	assert_string_equal(text, "shop/web:13 shop/web:11 shop/web:10 ");
	inode_drop(t, 10);
	inode_forget(t, id, 1);
	*text = '\0';
	inode_foreach(t, "shop", note_node, text);
	assert_string_equal(text, "shop/web:13 ");
	*text = '\0';
	inode_foreach(t, "dev", note_node, text);
	assert_string_equal(text, "dev/api:12 ");
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
		cmocka_unit_test_setup_teardown(test_pending_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pending_saved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_take, setup, teardown),
		cmocka_unit_test_setup_teardown(test_root, setup, teardown),
		cmocka_unit_test_setup_teardown(test_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreach, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unknown, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forget_too_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ids_are_never_reused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_similar, setup, teardown),
		cmocka_unit_test_setup_teardown(test_longest_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_growth, setup, teardown),
	};

	return cmocka_run_group_tests_name("inode", tests, NULL, NULL);
}
