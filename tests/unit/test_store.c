/* What the server sent: which version wins, what a list takes away, and who is told. */
#include "client/store.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* The keys that the listener was told, sorted, each once a call. */
struct told {
	struct store *store;
	char *keys[64];
	size_t n;
};

static void listen(void *arg, const char *key, enum store_event event, struct object *object)
{
	struct told *told = arg;
	/* The store may be read here: its lock isn't held. */
	_cleanup_object_ struct object *o = store_get(told->store, key);

	if (strchr(key, '/')) {
		assert_string_equal(object->key, key);
		assert_true((event == STORE_DELETED) == !o);
	}
	assert_true(told->n < ARRAY_SIZE(told->keys));
	told->keys[told->n++] = xasprintf("%s%s", o ? "+" : "-", key);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What was told since the last question; "+" where a stream of that key was there then. */
static void assert_told(struct told *told, const char *expected)
{
	char text[4096] = "";

	qsort(told->keys, told->n, sizeof(told->keys[0]), compare);
	for (size_t i = 0; i < told->n; i++) {
		strcat(strcat(text, i ? " " : ""), told->keys[i]);
		free(told->keys[i]);
	}
	told->n = 0;
	assert_string_equal(text, expected);
}

static void _printf_(2, 0) assert_told_of(struct told *told, const char *format, const char *key)
{
	char expected[512];

	snprintf(expected, sizeof(expected), format, key);
	assert_told(told, expected);
}

static int setup(void **state)
{
	struct told *told = xcalloc(1, sizeof(*told));

	told->store = store_new(listen, told);
	*state = told;
	return 0;
}

static int teardown(void **state)
{
	struct told *told = *state;

	for (size_t i = 0; i < told->n; i++)
		free(told->keys[i]);
	store_free(told->store);
	free(told);
	return 0;
}

/* A new object with one reference; the key is NAMESPACE/NAME. */
static struct object *make(const char *key, const char *uid, const char *version)
{
	const char *name = strchr(key, '/') + 1;
	_cleanup_json_ json_t *json = json_pack("{s:{s:s%, s:s, s:s, s:s}}", "metadata",
		"namespace", key, (size_t)(name - 1 - key), "name", name, "uid", uid,
		"resourceVersion", version);
	struct object *o;

	assert_int_equal(object_from_json(json, "v1", &o), 0);
	return o;
}

/* The uid is the key's. */
static int put(struct told *told, const char *key, const char *version, uint64_t list)
{
	return store_put(told->store, make(key, key, version), list);
}

static void assert_held(struct told *told, const char *key, const char *version)
{
	_cleanup_object_ struct object *o = store_get(told->store, key);

	if (!version) {
		assert_null(o);
		return;
	}
	assert_non_null(o);
	assert_string_equal(o->key, key);
	assert_string_equal(o->resource_version, version);
}

static void test_put(void **state)
{
	struct told *told = *state;
	struct object *o = make("shop/web", "u", "7");
	_cleanup_object_ struct object *held = NULL;

	assert_held(told, "shop/web", NULL);
	store_put(told->store, o, 0);
	assert_told(told, "+shop/web");
	held = store_get(told->store, "shop/web");
	assert_ptr_equal(held, o);
	assert_int_equal(atomic_load(&o->refs), 2); /* the store's and ours */
	assert_held(told, "shop/we", NULL);
	assert_held(told, "shop", NULL);
}

/* The order is that of numbers of any length, not of texts. */
static void test_put_versions(void **state)
{
	static const struct {
		const char *put, *held;
	} steps[] = {
		{"9", "9"},
		{"9", "9"},
		{"8", "9"},
		{"10", "10"},
		{"9", "10"},
		{"99999999999999999999", "99999999999999999999"},
		{"100", "99999999999999999999"},
		{"100000000000000000000", "100000000000000000000"},
	};
	struct told *told = *state;
	const char *before = "";

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		_cleanup_object_ struct object *o = make("shop/web", "u", steps[i].put);

		store_put(told->store, object_ref(o), 0);
		assert_held(told, "shop/web", steps[i].held);
		assert_told(told, streq(before, steps[i].held) ? "" : "+shop/web");
		/* What isn't taken is let go. */
		assert_int_equal(atomic_load(&o->refs), streq(before, steps[i].held) ? 1 : 2);
		before = steps[i].held;
	}
}

/* Deleted and made again, and the deletion wasn't seen. */
static void test_put_other_uid(void **state)
{
	struct told *told = *state;
	_cleanup_object_ struct object *o = NULL;

	store_put(told->store, make("shop/web", "first", "7"), 0);
	assert_told(told, "+shop/web");
	store_put(told->store, make("shop/web", "second", "9"), 0);
	assert_told(told, "+shop/web");
	o = store_get(told->store, "shop/web");
	assert_string_equal(o->uid, "second");
}

/* The key of an entry goes with its object. */
static void test_put_frees_the_old(void **state)
{
	struct told *told = *state;
	_cleanup_object_ struct object *old = make("shop/web", "u", "1");

	store_put(told->store, object_ref(old), 0);
	assert_told(told, "+shop/web");
	for (int i = 2; i < 50; i++) {
		_cleanup_free_ char *version = xasprintf("%d", i), *other = xasprintf("shop/%d", i);

		put(told, "shop/web", version, 0);
		assert_int_equal(atomic_load(&old->refs), 1);
		put(told, other, version, 0);
		assert_held(told, "shop/web", version);
		assert_held(told, other, version);
		assert_told_of(told, "+%s +shop/web", other);
	}
}

static void test_delete(void **state)
{
	static const struct {
		const char *version;
		bool stays;
	} rows[] = {{"9", true}, {"10", false}, {"11", false}, {"100", false}, {NULL, false}};
	struct told *told = *state;

	store_delete(told->store, "shop/web", NULL);
	store_delete(told->store, "shop/web", "1");
	assert_told(told, "");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		put(told, "shop/web", "10", store_list_begin(told->store));
		assert_told(told, i == 1 ? "" : "+shop/web");
		store_delete(told->store, "shop/web", rows[i].version);
		assert_held(told, "shop/web", rows[i].stays ? "10" : NULL);
		assert_told(told, rows[i].stays ? "" : "-shop/web");
	}
	put(told, "shop/web", "3", store_list_begin(told->store)); /* a list knows better */
	assert_held(told, "shop/web", "3");
}

/* An answer that comes after the deletion doesn't bring the object back. */
static void test_late(void **state)
{
	struct told *told = *state;

	put(told, "shop/web", "10", 0);
	store_delete(told->store, "shop/web", "12");
	assert_told(told, "+shop/web -shop/web");
	put(told, "shop/web", "11", 0);
	put(told, "shop/web", "12", 0);
	assert_held(told, "shop/web", NULL);
	assert_told(told, "");
	put(told, "shop/web", "13", 0); /* deleted for a selector only: it is there again */
	assert_held(told, "shop/web", "13");
	store_delete(told->store, "shop/web", NULL);
	put(told, "shop/web", "14", 0); /* a deletion of ours: later than anything */
	assert_held(told, "shop/web", NULL);
	put(told, "shop/web", "14", store_list_begin(told->store));
	assert_held(told, "shop/web", "14");
}

/* A list is the truth for what was there when it was asked for. */
static void test_sweep(void **state)
{
	struct told *told = *state;
	uint64_t list;

	put(told, "shop/old", "5", 0);
	put(told, "shop/newer", "21", 0);
	put(told, "shop/seen", "5", 0);
	put(told, "shop/changed", "6", 0);
	put(told, "shop/ahead", "30", 0);
	put(told, "shop/broken", "5", 0);
	put(told, "shop/echoed", "5", 0);
	put(told, "shop/deleted", "5", 0);
	list = store_list_begin(told->store);
	assert_told(told,
		"+shop/ahead +shop/broken +shop/changed +shop/deleted +shop/echoed +shop/newer "
		"+shop/old +shop/seen");
	assert_int_equal(put(told, "shop/seen", "5", list), 1);
	assert_int_equal(put(told, "shop/seen", "5", list), 0); /* twice in one list */
	put(told, "shop/changed", "15", list);
	put(told, "shop/ahead", "10", list); /* lower than what is held: the list knows */
	put(told, "shop/fresh", "16", list);
	put(told, "shop/watched", "22", 0); /* came while the list was read */
	put(told, "shop/watched", "4", list);
	store_saw(told->store, "shop/broken", list);
	assert_true(store_holds(told->store, "shop/echoed", "5", true));
	assert_false(store_holds(told->store, "shop/echoed", "6", true));
	assert_false(store_holds(told->store, "shop/none", "6", true));
	assert_true(
		store_holds(told->store, "shop/old", "5", false)); /* which tells nothing of it */
	store_delete(told->store, "shop/deleted", "23");
	put(told, "shop/deleted", "5", list); /* the list was asked for before */
	assert_told(told, "+shop/ahead +shop/changed +shop/fresh +shop/watched -shop/deleted");
	store_sweep(told->store, NULL, list, "20");
	assert_told(told, "-shop/newer -shop/old");
	assert_held(told, "shop/seen", "5");
	assert_held(told, "shop/changed", "15");
	assert_held(told, "shop/ahead", "10");
	assert_held(told, "shop/fresh", "16");
	assert_held(told, "shop/watched", "22");
	assert_held(told, "shop/broken", "5");
	assert_held(told, "shop/echoed", "5");
	assert_held(told, "shop/deleted", NULL);
	store_sweep(told->store, NULL, list, "20");
	assert_told(told, "");
	put(told, "shop/old", "19", 0); /* an answer from before the list */
	assert_told(told, "");
}

static void answer(struct told *told, const char *key, const char *version, uint64_t asked)
{
	store_put_answer(told->store, make(key, key, version), asked);
}

/* An answer may come after a list that was asked for later: then its object is gone by now. */
static void test_late_answers(void **state)
{
	struct told *told = *state;
	uint64_t early = store_list_begin(told->store), list = store_list_begin(told->store);

	answer(told, "shop/before", "19", early); /* it comes while the list is read */
	answer(told, "shop/younger", "21", early);
	assert_told(told, "+shop/before +shop/younger");
	store_sweep(told->store, "shop", list, "20");
	assert_told(told, "-shop/before");
	answer(told, "shop/late", "20", early);
	answer(told, "shop/before", "19", early);
	assert_told(told, "");
	answer(told, "shop/made", "21", early); /* after the list was made */
	answer(told, "lab/other", "20", early); /* not the list's to say */
	answer(told, "shop/found", "20",
		store_list_begin(told->store)); /* asked for after the list */
	assert_told(told, "+lab/other +shop/found +shop/made");
}

/* Another uid under a lower version: the server went back, and a list says so. */
static void test_rollback(void **state)
{
	struct told *told = *state;
	uint64_t list;

	put(told, "shop/web", "100", 0);
	put(told, "shop/made-later", "101", 0);
	store_delete(told->store, "shop/web", "102");
	put(told, "shop/web", "110", 0);
	list = store_list_begin(told->store);
	store_put(told->store, make("shop/web", "older", "40"), list);
	store_sweep(told->store, NULL, list, "50");
	assert_held(told, "shop/web", "40");
	assert_held(told, "shop/made-later", NULL);
	put(told, "shop/made-later", "45", 0); /* late news, unless deletions are forgotten */
	assert_held(told, "shop/made-later", NULL);
	store_forget_deleted(told->store);
	put(told, "shop/made-later", "51", 0);
	assert_held(told, "shop/made-later", "51");
}

/* One uid, one key: in a stream of another name it is left out. */
static void test_uid_of_another(void **state)
{
	struct told *told = *state;

	store_put(told->store, make("shop/web", "u", "5"), 0);
	assert_int_equal(store_put(told->store, make("shop/copy", "u", "6"), 0), -EEXIST);
	assert_held(told, "shop/copy", NULL);
	assert_told(told, "+shop/web");
	store_delete(told->store, "shop/web", NULL);
	assert_int_equal(store_put(told->store, make("shop/copy", "v", "6"), 0), 0);
	store_put(told->store, make("shop/web", "w", "7"), 0);
	store_put(told->store, make("shop/web", "x", "8"), 0); /* made anew: w is free */
	assert_int_equal(store_put(told->store, make("shop/third", "w", "9"), 0), 0);
	assert_int_equal(store_put_namespace(told->store, "a", "n", 1, 0), 0);
	assert_int_equal(store_put_namespace(told->store, "b", "n", 1, 0), -EEXIST);
	assert_int_equal(store_put_namespace(told->store, "a", "m", 1, 0), 0);
	assert_int_equal(store_put_namespace(told->store, "b", "n", 1, 0), 0);
}

/* What an earlier list saw and the next one doesn't goes. */
static void test_sweep_again(void **state)
{
	struct told *told = *state;
	uint64_t first = store_list_begin(told->store), second;

	put(told, "shop/a", "1", first);
	put(told, "shop/b", "2", first);
	store_sweep(told->store, NULL, first, "5");
	assert_told(told, "+shop/a +shop/b");
	second = store_list_begin(told->store);
	assert_true(second != first && first != 0);
	put(told, "shop/b", "2", second);
	store_sweep(told->store, NULL, second, "6");
	assert_told(told, "-shop/a");
	assert_held(told, "shop/b", "2");
}

static void test_sweep_namespace(void **state)
{
	struct told *told = *state;
	uint64_t list;

	put(told, "shop/a", "1", 0);
	put(told, "shop/b", "2", 0);
	put(told, "shopping/a", "1", 0);
	put(told, "sho/p", "1", 0);
	put(told, "sh/op", "1", 0);
	assert_told(told, "+sh/op +sho/p +shop/a +shop/b +shopping/a");
	list = store_list_begin(told->store);
	put(told, "shop/b", "2", list);
	store_sweep(told->store, "shop", list, "10");
	assert_told(told, "-shop/a");
	store_sweep(told->store, "shop", store_list_begin(told->store), NULL);
	assert_told(told, "-shop/b");
	store_sweep(told->store, NULL, store_list_begin(told->store), "10");
	assert_told(told, "-sh/op -sho/p -shopping/a");
}

static void test_drop(void **state)
{
	struct told *told = *state;

	put(told, "shop/a", "1", 0);
	put(told, "shop/b", "999999", store_list_begin(told->store));
	put(told, "shopping/a", "1", 0);
	store_put_namespace(told->store, "shop", "n", 5, 0);
	assert_told(told, "+shop/a +shop/b +shopping/a -shop");
	store_drop(told->store, "shop");
	assert_told(told, "-shop/a -shop/b");
	store_drop(told->store, "shop");
	store_drop(told->store, "none");
	assert_told(told, "");
	put(told, "shop/a", "1", 0); /* only our right was gone */
	assert_told(told, "+shop/a");
	assert_held(told, "shopping/a", "1");
	store_drop_one(told->store, "shop/a");
	assert_told(told, "-shop/a");
	put(told, "shop/a", "1", 0);
	assert_told(told, "+shop/a");
	assert_true(store_get_namespace(told->store, "shop", &(struct store_namespace){0}));
}

static void assert_counts(struct told *told, size_t namespaces, size_t streams, size_t bytes)
{
	size_t n = 99, s = 99, b = 99;

	store_counts(told->store, &n, &s, &b);
	assert_int_equal(n, namespaces);
	assert_int_equal(s, streams);
	assert_int_equal(b, bytes);
}

static void test_counts(void **state)
{
	struct told *told = *state;
	_cleanup_object_ struct object *a = make("shop/a", "u", "1");
	_cleanup_object_ struct object *a2 = make("shop/a", "u-longer", "20");
	_cleanup_object_ struct object *b = make("shop/b", "v", "1");

	assert_counts(told, 0, 0, 0);
	store_put(told->store, object_ref(a), 0);
	assert_counts(told, 0, 1, a->len);
	store_put(told->store, object_ref(b), 0);
	assert_counts(told, 0, 2, a->len + b->len);
	assert_true(a2->len > a->len);
	store_put(told->store, object_ref(a2), 0);
	assert_counts(told, 0, 2, a2->len + b->len);
	store_put(told->store, object_ref(a), 0);
	assert_counts(told, 0, 2, a2->len + b->len);
	store_put_namespace(told->store, "shop", NULL, 0, 0);
	assert_counts(told, 1, 2, a2->len + b->len);
	store_delete(told->store, "shop/a", NULL);
	assert_counts(told, 1, 1, b->len);
	store_drop(told->store, "shop");
	assert_counts(told, 1, 0, 0);
}

static void assert_namespace(struct told *told, const char *name, const char *uid, int64_t created)
{
	struct store_namespace ns = {.uid = "?"};

	assert_int_equal(store_get_namespace(told->store, name, &ns), uid != NULL);
	assert_string_equal(ns.uid, uid ? uid : "?");
	assert_int_equal(ns.created, created);
}

static void test_namespaces(void **state)
{
	struct told *told = *state;

	assert_namespace(told, "shop", NULL, 0);
	store_put_namespace(told->store, "shop", "u-1", 5, 0);
	assert_told(told, "-shop");
	assert_namespace(told, "shop", "u-1", 5);
	store_put_namespace(told->store, "shop", "u-1", 5, 0);
	assert_told(told, "");
	store_put_namespace(told->store, "shop", "u-2", 6, 0);
	assert_told(told, "-shop");
	assert_namespace(told, "shop", "u-2", 6);
	store_put_namespace(told->store, "nameless", NULL, 0, 0);
	assert_told(told, "-nameless");
	assert_namespace(told, "nameless", "", 0);
	store_delete_namespace(told->store, "shop");
	assert_told(told, "-shop");
	assert_namespace(told, "shop", NULL, 0);
	store_delete_namespace(told->store, "shop");
	assert_told(told, "");
}

static void test_unlisted_namespaces(void **state)
{
	struct told *told = *state;
	_cleanup_json_ json_t *names = NULL, *used = NULL;
	uint64_t list;

	store_put_namespace(told->store, "gone", "1", 1, store_list_begin(told->store));
	store_put_namespace(told->store, "stays", "3", 1, 0);
	put(told, "gone/web", "1", 0);
	put(told, "gone/api", "1", 0);
	list = store_list_begin(told->store);
	store_put_namespace(told->store, "stays", "3", 1, list);
	store_put_namespace(told->store, "new", "4", 1, list);
	names = store_unlisted_namespaces(told->store, list);
	assert_int_equal(json_array_size(names), 1);
	assert_string_equal(json_string_value(json_array_get(names, 0)), "gone");
	used = store_used_namespaces(told->store);
	assert_int_equal(json_array_size(used), 1);
	assert_string_equal(json_string_value(json_array_get(used, 0)), "gone");
}

/* Random puts, deletions and drops against plain arrays. */
static void test_model(void **state)
{
	struct told *told = *state;
	int held[4][30] = {0};
	uint64_t seed = HASH_INIT;

	for (int step = 0; step < 20000; step++) {
		_cleanup_free_ char *key = NULL, *version = NULL;
		int *h, v, n;

		seed = hash_bytes(seed, &step, sizeof(step));
		n = seed >> 20 & 3;
		h = &held[n][(seed >> 30) % 30];
		v = (seed >> 40) % 2000 + 1;
		key = xasprintf("n%d/s%d", n, (int)((seed >> 30) % 30));
		version = xasprintf("%d", v);
		if (seed >> 60 < 11) {
			put(told, key, version, *h == 0 ? UINT_MAX : 0);
			assert_told_of(told, v > *h ? "+%s" : "%.0s", key);
			*h = v > *h ? v : *h;
		} else if (seed >> 60 < 15 || step % 16) {
			bool goes = *h && *h <= v;

			store_delete(told->store, key, version);
			assert_told_of(told, goes ? "-%s" : "%.0s", key);
			*h = goes ? 0 : *h;
		} else {
			*strchr(key, '/') = '\0';
			store_drop(told->store, key);
			memset(held[n], 0, sizeof(held[n]));
			for (size_t i = 0; i < told->n; i++)
				free(told->keys[i]);
			told->n = 0;
		}
	}
	for (int n = 0; n < 4; n++)
		for (int i = 0; i < 30; i++) {
			_cleanup_free_ char *key = xasprintf("n%d/s%d", n, i);
			_cleanup_free_ char *version = xasprintf("%d", held[n][i]);

			assert_held(told, key, held[n][i] ? version : NULL);
		}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_put),
		TEST(test_put_versions),
		TEST(test_put_other_uid),
		TEST(test_put_frees_the_old),
		TEST(test_delete),
		TEST(test_late),
		TEST(test_sweep),
		TEST(test_sweep_again),
		TEST(test_late_answers),
		TEST(test_rollback),
		TEST(test_uid_of_another),
		TEST(test_sweep_namespace),
		TEST(test_drop),
		TEST(test_counts),
		TEST(test_namespaces),
		TEST(test_unlisted_namespaces),
		TEST(test_model),
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
