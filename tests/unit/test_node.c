/* The inodes that the kernel knows. */
#include "fs/tree/node.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct layout_path tag_path(const char *namespace, const char *stream, const char *tag)
{
	struct layout_path path = {.kind = KIND_TAG};

	strcpy(path.namespace, namespace);
	strcpy(path.stream, stream);
	strcpy(path.tag, tag);
	return path;
}

static void assert_known(
	struct node_table *t, uint64_t id, const struct layout_path *path, uint64_t ino)
{
	struct layout_path found = {0};
	uint64_t found_ino = 0;

	assert_true(node_get(t, id, &found, &found_ino));
	assert_int_equal(found.kind, path->kind);
	assert_string_equal(found.namespace, path->namespace);
	assert_string_equal(found.stream, path->stream);
	assert_string_equal(found.tag, path->tag);
	assert_int_equal(found_ino, ino);
	assert_int_equal(node_find(t, ino), id);
}

static void assert_unknown(struct node_table *t, uint64_t id)
{
	struct layout_path path;
	uint64_t ino;

	assert_false(node_get(t, id, &path, &ino));
}

static void test_root(void **state)
{
	struct node_table *t = node_table_new();
	struct layout_path root = {.kind = KIND_ROOT};

	assert_known(t, NODE_ID_ROOT, &root, 1);
	assert_int_equal(node_count(t), 1);
	node_forget(t, NODE_ID_ROOT, 1);
	node_forget(t, NODE_ID_ROOT, UINT64_MAX);
	assert_known(t, NODE_ID_ROOT, &root, 1); /* the kernel never looks it up */
	assert_int_equal(node_lookup(t, &root, 1), NODE_ID_ROOT);
	node_table_free(t);
	node_table_free(NULL);
}

static void test_counts(void **state)
{
	struct node_table *t = node_table_new();
	struct layout_path path = tag_path("shop", "web", "latest");
	uint64_t id = node_lookup(t, &path, 77);

	assert_true(id != 0 && id != NODE_ID_ROOT);
	assert_int_equal(node_count(t), 2);
	assert_int_equal(node_lookup(t, &path, 77), id);
	assert_int_equal(node_lookup(t, &path, 77), id);
	assert_int_equal(node_count(t), 2);
	node_forget(t, id, 1);
	assert_known(t, id, &path, 77);
	node_forget(t, id, 0);
	assert_known(t, id, &path, 77);
	node_forget(t, id, 2);
	assert_unknown(t, id);
	assert_int_equal(node_find(t, 77), 0);
	assert_int_equal(node_count(t), 1);
	node_table_free(t);
}

static void test_unknown(void **state)
{
	struct node_table *t = node_table_new();

	assert_unknown(t, 0);
	assert_unknown(t, 2);
	assert_unknown(t, UINT64_MAX);
	assert_int_equal(node_find(t, 0), 0);
	node_forget(t, 2, 1);
	node_forget(t, 0, 1);
	assert_int_equal(node_count(t), 1);
	node_table_free(t);
}

/* More lookups taken back than there were: gone, and nothing worse. */
static void test_forget_too_many(void **state)
{
	struct node_table *t = node_table_new();
	struct layout_path path = tag_path("shop", "web", "latest");
	uint64_t id = node_lookup(t, &path, 77);

	node_forget(t, id, 5);
	assert_unknown(t, id);
	node_forget(t, id, 1);
	assert_int_equal(node_count(t), 1);
	node_table_free(t);
}

/* What comes back after it was forgotten is another node, also if it is the same thing. */
static void test_ids_are_never_reused(void **state)
{
	struct node_table *t = node_table_new();
	struct layout_path path = tag_path("shop", "web", "latest");
	uint64_t last = NODE_ID_ROOT;

	for (int i = 0; i < 5000; i++) {
		uint64_t id = node_lookup(t, &path, 77 + i % 3);

		assert_true(id > last);
		last = id;
		node_forget(t, id, 1);
	}
	node_table_free(t);
}

/* Inodes that share a bucket, and paths that only differ in where one name ends. */
static void test_similar(void **state)
{
	struct node_table *t = node_table_new();
	struct layout_path paths[] = {tag_path("ab", "c", "d"), tag_path("a", "bc", "d"),
		tag_path("a", "b", "cd"), tag_path("", "", ""), tag_path("abcd", "", "")};
	uint64_t ids[ARRAY_SIZE(paths)];

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		ids[i] = node_lookup(t, &paths[i], 5 + (i << 40));
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		assert_known(t, ids[i], &paths[i], 5 + (i << 40));
	for (size_t gone = 0; gone < ARRAY_SIZE(paths); gone++) {
		/* The middle first. */
		size_t k = (gone + 2) % ARRAY_SIZE(paths);

		node_forget(t, ids[k], 1);
		assert_unknown(t, ids[k]);
		assert_int_equal(node_find(t, 5 + (k << 40)), 0);
		for (size_t i = gone + 1; i < ARRAY_SIZE(paths); i++) {
			size_t left = (i + 2) % ARRAY_SIZE(paths);

			assert_known(t, ids[left], &paths[left], 5 + (left << 40));
		}
	}
	node_table_free(t);
}

static void test_longest_names(void **state)
{
	struct node_table *t = node_table_new();
	struct layout_path path = {.kind = KIND_TAG_IMAGE};
	uint64_t id;

	memset(path.namespace, 'n', NAME_SIZE - 1);
	memset(path.stream, 's', NAME_SIZE - 1);
	memset(path.tag, 't', NAME_SIZE - 1);
	id = node_lookup(t, &path, 9);
	assert_known(t, id, &path, 9);
	node_table_free(t);
}

#define MANY 100000

static void test_growth(void **state)
{
	struct node_table *t = node_table_new();
	struct layout_path path = {.kind = KIND_STREAM, .namespace = "shop"};
	uint64_t *ids = xcalloc(MANY, sizeof(*ids));
	/* Odd, so that all are different. */
	const uint64_t factor = UINT64_C(0x9e3779b97f4a7c15);

	for (int round = 0; round < 2; round++)
		for (uint64_t i = 0; i < MANY; i++) {
			uint64_t id;

			sprintf(path.stream, "s%d", (int)i);
			id = node_lookup(t, &path, (i + 2) * factor);
			assert_true(round == 0 || ids[i] == id);
			assert_true(i == 0 || id > ids[i - 1]);
			ids[i] = id;
		}
	assert_int_equal(node_count(t), MANY + 1);
	for (uint64_t i = 0; i < MANY; i++) {
		sprintf(path.stream, "s%d", (int)i);
		assert_known(t, ids[i], &path, (i + 2) * factor);
		node_forget(t, ids[i], i % 2 ? 2 : 1);
	}
	assert_int_equal(node_count(t), MANY / 2 + 1);
	for (uint64_t i = 0; i < MANY; i++) {
		assert_int_equal(node_find(t, (i + 2) * factor), i % 2 ? 0 : ids[i]);
		node_forget(t, ids[i], 1);
	}
	assert_int_equal(node_count(t), 1);
	free(ids);
	node_table_free(t);
}

static void note_node(void *arg, const struct layout_path *path, uint64_t ino)
{
	char *text = arg;

	sprintf(text + strlen(text), "%s/%s:%d ", path->namespace, path->stream, (int)ino);
}

/* The nodes of one namespace, the newest first; who moves to another is among that one's. */
static void test_foreach(void **state)
{
	struct node_table *t = node_table_new();
	struct layout_path web = tag_path("shop", "web", "v1"), api = tag_path("dev", "api", "v1");
	uint64_t id;
	char text[256] = "";

	node_foreach(t, "shop", note_node, text);
	assert_string_equal(text, "");
	node_lookup(t, &web, 10);
	id = node_lookup(t, &web, 11);
	node_lookup(t, &api, 12);
	node_foreach(t, "shop", note_node, text);
	assert_string_equal(text, "shop/web:11 shop/web:10 ");
	node_set_path(t, 10, &api);
	node_forget(t, id, 1);
	*text = '\0';
	node_foreach(t, "shop", note_node, text);
	assert_string_equal(text, "");
	node_foreach(t, "dev", note_node, text);
	assert_string_equal(text, "dev/api:10 dev/api:12 ");
	node_table_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_root),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_foreach),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_forget_too_many),
		cmocka_unit_test(test_ids_are_never_reused),
		cmocka_unit_test(test_similar),
		cmocka_unit_test(test_longest_names),
		cmocka_unit_test(test_growth),
	};

	return cmocka_run_group_tests_name("node", tests, NULL, NULL);
}
