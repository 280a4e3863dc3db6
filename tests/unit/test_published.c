/* The tree as it is shown: what is there, what it is called, and listings of what changes. */
#include "fs/published.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct object_cache *cache;
static struct journal *journal;
static struct published *tree;

static int setup(void **state)
{
	cache = object_cache_new();
	journal = journal_new();
	tree = published_new(cache, journal);
	return 0;
}

static int teardown(void **state)
{
	published_free(tree);
	object_cache_free(cache);
	journal_free(journal);
	return 0;
}

/* A stream with the tags named, "a b c". */
static struct object *make(
	const char *key, const char *uid, int version, const char *created, const char *tags)
{
	const char *name = strchr(key, '/') + 1;
	_cleanup_free_ char *list = xstrdup(tags);
	_cleanup_json_ json_t *elements = json_array(), *json = NULL;
	char number[16], *rest = list, *tag;
	struct object *o;

	while ((tag = strsep(&rest, " ")))
		if (*tag)
			json_array_append_new(elements, json_pack("{s:s}", "name", tag));
	sprintf(number, "%d", version);
	json = json_pack("{s:{s:s%, s:s, s:s, s:s, s:s}, s:{s:O}}", "metadata", "namespace", key,
		(size_t)(name - 1 - key), "name", name, "uid", uid, "resourceVersion", number,
		"creationTimestamp", created, "spec", "tags", elements);
	assert_int_equal(object_from_json(json, "image.openshift.io/v1", &o), 0);
	return o;
}

#define OLD    "2026-11-23T19:48:08Z"
#define OLD_NS (INT64_C(1795463288) * NSEC_PER_SEC)
#define OLDER  "2026-11-23T19:48:00Z"

static bool set_tags(const char *key, const char *uid, int version, const char *tags)
{
	_cleanup_object_ struct object *o = make(key, uid, version, OLD, tags);
	_cleanup_view_ struct view *old = NULL, *new = NULL;

	return published_set_stream(tree, key, o, &old, &new);
}

static bool set(const char *key, const char *uid, int version)
{
	return set_tags(key, uid, version, "");
}

static bool del(const char *key)
{
	_cleanup_view_ struct view *old = NULL, *new = NULL;

	return published_set_stream(tree, key, NULL, &old, &new);
}

static struct tree_path path_of(
	enum node_kind kind, const char *namespace, const char *stream, const char *tag)
{
	struct tree_path path = {.kind = kind};

	strcpy(path.namespace, namespace);
	strcpy(path.stream, stream);
	strcpy(path.tag, tag);
	return path;
}

static struct tree_attr attr_of(struct tree_path path)
{
	struct tree_attr attr;

	assert_int_equal(published_attr(tree, &path, &attr), 0);
	return attr;
}

static void assert_absent(struct tree_path path)
{
	struct tree_attr attr;

	assert_int_equal(published_attr(tree, &path, &attr), -ENOENT);
}

/* Field by field: there may be anything in the gaps. */
static void assert_same(const struct tree_attr *a, const struct tree_attr *b)
{
	assert_true(a->ino == b->ino);
	assert_true(a->size == b->size);
	assert_true(a->mtime == b->mtime);
	assert_true(a->nlink == b->nlink);
}

#define ROOT	     path_of(NODE_ROOT, "", "", "")
#define NAMESPACE(n) path_of(NODE_NAMESPACE, n, "", "")
#define STREAM(n, s) path_of(NODE_STREAM, n, s, "")
#define TAG(n, s, t) path_of(NODE_TAG, n, s, t)

static bool add_name(void *arg, const char *name, uint64_t cookie, const struct tree_path *path,
	const struct tree_attr *attr)
{
	struct tree_attr same = attr_of(*path);

	assert_same(&same, attr);
	strcat(strcat(arg, *(char *)arg ? " " : ""), name);
	return false;
}

/* All names, in the order given. */
static void assert_list(struct tree_path directory, const char *expected)
{
	char names[4096] = "";

	assert_int_equal(published_list(tree, &directory, 0, add_name, names), 0);
	assert_string_equal(names, expected);
}

static void assert_shown(struct view *v, const char *version)
{
	if (version)
		assert_string_equal(v->object->resource_version, version);
	else
		assert_null(v);
}

static void test_set(void **state)
{
	static const struct {
		int version; /* 0: deleted */
		bool changes;
		const char *before, *after;
	} steps[] = {
		{0, false, NULL, NULL},
		{9, true, NULL, "9"},
		{9, false, "9", "9"},
		{8, false, "9", "9"},
		{10, true, "9", "10"},
		{0, true, "10", NULL},
		{0, false, NULL, NULL},
		{3, true, NULL, "3"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		_cleanup_object_ struct object *o =
			make("shop/web", "u", steps[i].version, OLD, "");
		_cleanup_view_ struct view *old = NULL, *new = NULL, *now = NULL;
		bool changed = published_set_stream(
			tree, "shop/web", steps[i].version ? o : NULL, &old, &new);

		assert_int_equal(changed, steps[i].changes);
		assert_shown(old, changed ? steps[i].before : NULL);
		assert_shown(new, changed ? steps[i].after : NULL);
		now = published_view(tree, "shop", "web");
		assert_shown(now, steps[i].after);
		if (changed)
			assert_ptr_equal(now, new);
	}
}

/* Made anew on the server: another thing, whatever its version, and without the old one's past. */
static void test_set_other_uid(void **state)
{
	struct tree_attr first, second;

	assert_true(set("shop/web", "first", 9));
	first = attr_of(STREAM("shop", "web"));
	assert_true(set("shop/web", "second", 10));
	second = attr_of(STREAM("shop", "web"));
	assert_true(first.ino != second.ino);
	assert_true(attr_of(path_of(NODE_SPEC_JSON, "shop", "web", "")).mtime == OLD_NS);
	assert_list(NAMESPACE("shop"), "web");
}

/* A version of the same thing keeps the inode, and moves what it changes. */
static void test_set_follows(void **state)
{
	struct tree_path file = path_of(NODE_SPEC_JSON, "shop", "web", "");
	int64_t before = now_realtime();
	struct tree_attr old, new;

	set_tags("shop/web", "u", 1, "a");
	old = attr_of(file);
	set_tags("shop/web", "u", 2, "a b");
	new = attr_of(file);
	assert_true(new.ino == old.ino);
	assert_true(old.mtime == OLD_NS);
	assert_true(new.mtime >= before);
	assert_true(new.size > old.size);
}

/* The views outlive the tree's interest in them. */
static void test_views_are_counted(void **state)
{
	_cleanup_view_ struct view *first = NULL, *second = NULL, *old = NULL, *new = NULL;
	_cleanup_object_ struct object *o = make("shop/web", "u", 2, OLD, "");

	assert_null(published_view(tree, "shop", "web"));
	set("shop/web", "u", 1);
	first = published_view(tree, "shop", "web");
	assert_true(published_set_stream(tree, "shop/web", o, &old, &new));
	assert_ptr_equal(old, first);
	second = published_view(tree, "shop", "web");
	assert_ptr_equal(second, new);
	del("shop/web");
	assert_int_equal(atomic_load(&first->refs), 2);
	assert_int_equal(atomic_load(&second->refs), 2);
	assert_string_equal(first->object->resource_version, "1");
	assert_null(published_view(tree, "shop", "we"));
	assert_null(published_view(tree, "sho", "web"));
}

static void lookup(struct tree_path directory, const char *name, enum node_kind kind)
{
	struct tree_path path = {.kind = NODE_KINDS};
	struct tree_attr attr, same;

	if (kind == NODE_KINDS) {
		assert_int_equal(published_lookup(tree, &directory, name, &path, &attr), -ENOENT);
		assert_int_equal(path.kind, NODE_KINDS);
		return;
	}
	assert_int_equal(published_lookup(tree, &directory, name, &path, &attr), 0);
	assert_int_equal(path.kind, kind);
	same = attr_of(path);
	assert_same(&attr, &same);
}

static void test_lookup(void **state)
{
	struct tree_path path;
	struct tree_attr attr;
	struct tree_path tags = path_of(NODE_TAGS, "shop", "web", "");

	set_tags("shop/web", "u", 1, "v1 .x");
	lookup(ROOT, "shop", NODE_NAMESPACE);
	lookup(ROOT, "web", NODE_KINDS);
	lookup(ROOT, "", NODE_KINDS);
	lookup(NAMESPACE("shop"), "web", NODE_STREAM);
	lookup(NAMESPACE("shop"), "api", NODE_KINDS);
	lookup(NAMESPACE("none"), "web", NODE_KINDS);
	lookup(STREAM("shop", "web"), "imagestream.json", NODE_IMAGESTREAM_JSON);
	lookup(STREAM("shop", "web"), "metadata.json", NODE_METADATA_JSON);
	lookup(STREAM("shop", "web"), "spec.json", NODE_SPEC_JSON);
	lookup(STREAM("shop", "web"), "status.json", NODE_STATUS_JSON);
	lookup(STREAM("shop", "web"), "tags", NODE_TAGS);
	lookup(STREAM("shop", "web"), "v1", NODE_KINDS);
	lookup(STREAM("shop", "api"), "tags", NODE_KINDS);
	lookup(tags, "v1", NODE_TAG);
	lookup(tags, "%2Ex", NODE_TAG);
	lookup(tags, ".x", NODE_KINDS);
	lookup(tags, "v2", NODE_KINDS);
	lookup(TAG("shop", "web", "v1"), "spec.json", NODE_TAG_SPEC);
	lookup(TAG("shop", "web", "v1"), "status.json", NODE_KINDS);
	lookup(TAG("shop", "web", "v1"), "image", NODE_KINDS);
	lookup(TAG("shop", "web", "v2"), "spec.json", NODE_KINDS);
	assert_int_equal(published_lookup(tree, &tags, "v1", &path, &attr), 0);
	assert_string_equal(path.namespace, "shop");
	assert_string_equal(path.stream, "web");
	assert_string_equal(path.tag, "v1");
	del("shop/web");
	lookup(ROOT, "shop", NODE_KINDS);
	lookup(tags, "v1", NODE_KINDS);
}

static void test_fixed_lists(void **state)
{
	set_tags("shop/web", "u", 1, "v2 v1 .x a/b");
	assert_list(
		STREAM("shop", "web"), "imagestream.json metadata.json spec.json status.json tags");
	assert_list(path_of(NODE_TAGS, "shop", "web", ""), "%2Ex a%2Fb v1 v2");
	assert_list(TAG("shop", "web", "v1"), "spec.json");
	set_tags("shop/web", "u", 2, "v2 a/b a .x");
	assert_list(path_of(NODE_TAGS, "shop", "web", ""), "%2Ex a%2Fb v2 a");
}

static void list_namespace(const char *name, const char *uid, int64_t created)
{
	struct store_namespace ns = {.created = created};

	strcpy(ns.uid, uid);
	published_set_namespace(tree, name, &ns);
}

static void assert_root(const char *names)
{
	unsigned n = *names != '\0';

	for (const char *p = names; *p; p++)
		n += *p == ' ';
	assert_list(ROOT, names);
	assert_int_equal(attr_of(ROOT).nlink, 2 + n);
	assert_int_equal(attr_of(ROOT).ino, 1);
}

static void test_listed_namespaces(void **state)
{
	assert_root("");
	list_namespace("shop", "n1", 5);
	list_namespace("empty", "n2", 6);
	list_namespace("shop", "n1", 5);
	assert_root("shop empty");
	set("shop/web", "u", 1);
	assert_root("shop empty");
	published_set_namespace(tree, "empty", NULL);
	assert_root("shop");
	assert_absent(NAMESPACE("empty"));
	published_set_namespace(tree, "empty", NULL);
	published_set_namespace(tree, "never", NULL);
	assert_root("shop");
	list_namespace("empty", "n2", 6);
	assert_root("shop empty");
}

/* Streams of a watch of the whole cluster show their namespace, also where none are listed. */
static void test_namespaces_by_streams(void **state)
{
	set("shop/web", "u1", 1);
	set("shop/api", "u2", 1);
	assert_root("shop");
	del("shop/web");
	assert_root("shop");
	del("shop/api");
	assert_root("");
	assert_absent(NAMESPACE("shop"));
	set("shop/web", "u3", 1);
	list_namespace("shop", "n", 5);
	published_set_namespace(tree, "shop", NULL);
	assert_root("shop");
	list_namespace("shop", "n", 5);
	del("shop/web");
	assert_root("shop");
}

/* Found by name: there, and never listed, whatever is in it. */
static void test_named_namespaces(void **state)
{
	published_add_named(tree, "hidden");
	assert_root("");
	lookup(ROOT, "hidden", NODE_NAMESPACE);
	set("hidden/web", "u", 1);
	assert_root("");
	lookup(NAMESPACE("hidden"), "web", NODE_STREAM);
	assert_list(NAMESPACE("hidden"), "web");
	del("hidden/web");
	lookup(ROOT, "hidden", NODE_NAMESPACE);
	list_namespace("hidden", "n", 5);
	assert_root("hidden");
	published_add_named(tree, "hidden");
	assert_root("hidden");
	published_set_namespace(tree, "hidden", NULL);
	assert_root("");
	assert_absent(NAMESPACE("hidden"));
}

/* A stream came while somebody asked for its namespace by name: the count stays right. */
static void test_named_after_streams(void **state)
{
	char names[4096] = "";
	struct tree_path root = ROOT;

	set("shop/web", "u", 1);
	assert_root("shop");
	published_add_named(tree, "shop");
	published_list(tree, &root, 0, add_name, names);
	assert_int_equal(attr_of(ROOT).nlink, 2 + (*names != '\0'));
	del("shop/web");
	assert_root("");
	published_set_namespace(tree, "shop", NULL);
	assert_root("");
}

static void test_ready(void **state)
{
	set("shop/web", "u1", 1);
	set("lab/a", "u2", 1);
	set("lab/b", "u3", 1);
	assert_false(published_is_ready(tree, "shop"));
	assert_int_equal(attr_of(NAMESPACE("shop")).nlink, 1);
	published_set_ready(tree, "shop");
	assert_true(published_is_ready(tree, "shop"));
	assert_false(published_is_ready(tree, "lab"));
	assert_int_equal(attr_of(NAMESPACE("shop")).nlink, 3);
	assert_int_equal(attr_of(NAMESPACE("lab")).nlink, 1);
	published_set_ready(tree, NULL);
	assert_true(published_is_ready(tree, "lab"));
	assert_true(published_is_ready(tree, "later"));
	assert_int_equal(attr_of(NAMESPACE("lab")).nlink, 4);
	set("later/x", "u4", 1);
	assert_int_equal(attr_of(NAMESPACE("later")).nlink, 3);
	del("lab/a");
	assert_int_equal(attr_of(NAMESPACE("lab")).nlink, 3);
}

/* A namespace that isn't listed any more has to be found anew. */
static void test_not_ready_again(void **state)
{
	list_namespace("shop", "n", 5);
	published_set_ready(tree, "shop");
	published_set_namespace(tree, "shop", NULL);
	assert_false(published_is_ready(tree, "shop"));
	list_namespace("shop", "n", 5);
	assert_false(published_is_ready(tree, "shop"));
	assert_int_equal(attr_of(NAMESPACE("shop")).nlink, 1);
}

/* What the first list finds is as old as the server says; what comes later is new. */
static void test_namespace_mtime(void **state)
{
	int64_t start = now_realtime(), mtime;
	_cleanup_object_ struct object *older = make("shop/older", "u2", 1, OLDER, "");
	_cleanup_view_ struct view *old = NULL, *new = NULL;

	list_namespace("shop", "n", 5);
	assert_int_equal(attr_of(NAMESPACE("shop")).mtime, 5);
	set("shop/web", "u1", 1);
	assert_int_equal(attr_of(NAMESPACE("shop")).mtime, OLD_NS);
	published_set_stream(tree, "shop/older", older, &old, &new);
	assert_int_equal(attr_of(NAMESPACE("shop")).mtime, OLD_NS);
	published_set_ready(tree, "shop");
	assert_int_equal(attr_of(NAMESPACE("shop")).mtime, OLD_NS);
	set("shop/api", "u3", 1);
	mtime = attr_of(NAMESPACE("shop")).mtime;
	assert_true(mtime >= start && mtime <= now_realtime() + 1);
	set("shop/api", "u3", 2); /* no name came or went */
	assert_int_equal(attr_of(NAMESPACE("shop")).mtime, mtime);
	del("shop/api");
	assert_true(attr_of(NAMESPACE("shop")).mtime > mtime);
	mtime = attr_of(NAMESPACE("shop")).mtime;
	del("shop/api");
	list_namespace("shop", "n", 5);
	assert_int_equal(attr_of(NAMESPACE("shop")).mtime, mtime);
}

static void test_root_mtime(void **state)
{
	int64_t mtime = attr_of(ROOT).mtime;

	published_add_named(tree, "hidden");
	assert_int_equal(attr_of(ROOT).mtime, mtime);
	list_namespace("shop", "n", 5);
	assert_true(attr_of(ROOT).mtime > mtime);
	mtime = attr_of(ROOT).mtime;
	set("shop/web", "u", 1);
	list_namespace("shop", "n", 5);
	del("shop/web");
	assert_int_equal(attr_of(ROOT).mtime, mtime);
	published_set_namespace(tree, "shop", NULL);
	assert_true(attr_of(ROOT).mtime > mtime);
}

static void test_namespace_ino(void **state)
{
	uint64_t first, unnamed;

	list_namespace("shop", "n1", 5);
	first = attr_of(NAMESPACE("shop")).ino;
	list_namespace("lab", "n1", 5);
	assert_true(attr_of(NAMESPACE("lab")).ino != first);
	list_namespace("shop", "n2", 6); /* deleted and made again */
	assert_true(attr_of(NAMESPACE("shop")).ino != first);
	published_add_named(tree, "a");
	published_add_named(tree, "b");
	unnamed = attr_of(NAMESPACE("a")).ino;
	assert_true(attr_of(NAMESPACE("b")).ino != unnamed);
	assert_true(attr_of(NAMESPACE("a")).ino == unnamed);
}

/* xorshift64: the same steps at every run. */
static uint64_t draw(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

#define NAMES 400

/* One listing in many calls, while names come and go. */
struct listing {
	unsigned seen[NAMES], ever[NAMES]; /* how often given; whether it was there at any time */
	bool there[NAMES], always[NAMES];
	uint64_t cookie;
	size_t room;
	bool refused;
};

/* Takes what it has room for: the buffer of a READDIR, which gives the last one back. */
static bool take(void *arg, const char *name, uint64_t cookie, const struct tree_path *path,
	const struct tree_attr *attr)
{
	struct listing *l = arg;
	int i = atoi(name + 1);

	assert_true(cookie > l->cookie);
	if (l->room == 0) {
		l->refused = true;
		return true;
	}
	l->room--;
	l->cookie = cookie;
	assert_true(l->there[i]);
	l->seen[i]++;
	return false;
}

/* `kind` says what comes and goes: namespaces, streams or tags. */
static void change(enum node_kind kind, struct listing *l, int i, int *version)
{
	char key[32], tags[NAMES * 6] = "", *p = tags;

	l->there[i] = !l->there[i];
	l->always[i] = l->always[i] && l->there[i];
	l->ever[i] += l->there[i];
	sprintf(key, "n%d", i);
	if (kind == NODE_NAMESPACE && l->there[i])
		list_namespace(key, key, 5);
	else if (kind == NODE_NAMESPACE)
		published_set_namespace(tree, key, NULL);
	sprintf(key, "shop/s%d", i);
	if (kind == NODE_STREAM)
		assert_true(l->there[i] ? set(key, key, 1) : del(key));
	if (kind != NODE_TAG)
		return;
	for (int k = 0; k < NAMES; k++)
		if (l->there[k])
			p += sprintf(p, "t%d ", k);
	assert_true(set_tags("shop/web", "u", ++*version, tags));
}

static void list_while_changing(
	enum node_kind kind, struct tree_path directory, int names, uint64_t seed)
{
	struct listing *l = xcalloc(1, sizeof(*l));
	int version = 0;

	if (kind == NODE_TAG)
		set("shop/web", "u", ++version);
	for (int i = 0; i < names; i++)
		if (draw(&seed) % 3)
			change(kind, l, i, &version);
	for (int round = 0; round < 4; round++) {
		size_t most = round == 0 ? 1 : round == 1 ? 7 : round == 2 ? 130 : 1000;

		memset(l->seen, 0, sizeof(l->seen));
		l->cookie = 0;
		for (int i = 0; i < names; i++) {
			l->always[i] = l->there[i];
			l->ever[i] = l->there[i];
		}
		do {
			l->room = draw(&seed) % most + 1;
			l->refused = false;
			assert_int_equal(published_list(tree, &directory, l->cookie, take, l), 0);
			for (int n = draw(&seed) % 4; n > 0 && l->refused; n--)
				change(kind, l, draw(&seed) % names, &version);
		} while (l->refused);
		for (int i = 0; i < names; i++) {
			if (l->always[i])
				assert_int_equal(l->seen[i], 1);
			/* Twice only where it went and came back. */
			assert_true(l->seen[i] <= l->ever[i]);
		}
	}
	free(l);
}

static void test_list_changing_streams(void **state)
{
	list_namespace("shop", "n", 5);
	list_while_changing(NODE_STREAM, NAMESPACE("shop"), NAMES, 1);
}

static void test_list_changing_namespaces(void **state)
{
	list_while_changing(NODE_NAMESPACE, ROOT, NAMES, 2);
}

static void test_list_changing_tags(void **state)
{
	list_while_changing(NODE_TAG, path_of(NODE_TAGS, "shop", "web", ""), 30, 3);
}

static bool take_one(void *arg, const char *name, uint64_t cookie, const struct tree_path *path,
	const struct tree_attr *attr)
{
	*(uint64_t *)arg = cookie;
	return true;
}

/* "true" also ends a listing after what was taken, and the fixed names have cookies, too. */
static void test_list_one_by_one(void **state)
{
	struct tree_path directory = STREAM("shop", "web");
	uint64_t cookie = 0, last;
	int n = 0;

	set("shop/web", "u", 1);
	do {
		last = cookie;
		assert_int_equal(published_list(tree, &directory, last, take_one, &cookie), 0);
		assert_true(cookie >= last);
		n += cookie != last;
	} while (cookie != last);
	assert_int_equal(n, 5);
}

static void test_list_nothing(void **state)
{
	struct tree_path directory = STREAM("shop", "web");
	char names[256] = "";

	assert_int_equal(published_list(tree, &directory, 0, add_name, names), -ENOENT);
	directory.kind = NODE_TAGS;
	assert_int_equal(published_list(tree, &directory, 0, add_name, names), -ENOENT);
	list_namespace("empty", "n", 5);
	assert_list(NAMESPACE("empty"), "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_set),
		TEST(test_set_other_uid),
		TEST(test_set_follows),
		TEST(test_views_are_counted),
		TEST(test_lookup),
		TEST(test_fixed_lists),
		TEST(test_listed_namespaces),
		TEST(test_namespaces_by_streams),
		TEST(test_named_namespaces),
		TEST(test_named_after_streams),
		TEST(test_ready),
		TEST(test_not_ready_again),
		TEST(test_namespace_mtime),
		TEST(test_root_mtime),
		TEST(test_namespace_ino),
		TEST(test_list_changing_streams),
		TEST(test_list_changing_namespaces),
		TEST(test_list_changing_tags),
		TEST(test_list_one_by_one),
		TEST(test_list_nothing),
	};

	return cmocka_run_group_tests_name("published", tests, NULL, NULL);
}
