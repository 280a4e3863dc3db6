/*
 * The tree as it is shown: what is there, what it is called, listings of what changes, and changes
 * that are shown step by step.
 */
#include "client/clock.h"
#include "tests/unit/at_once.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct journal *journal;
static struct indexes *indexes;
static struct shown *tree;

static int setup(void **state)
{
	journal = journal_new();
	indexes = indexes_new(journal);
	tree = shown_new(indexes);
	return 0;
}

static int teardown(void **state)
{
	shown_free(tree);
	indexes_free(indexes);
	journal_free(journal);
	return 0;
}

/*
 * "tag", "tag=content", "tag=content^from+image": its element in the spec, and one in the status.
 */
static void add_tag(char *word, json_t *spec, json_t *status)
{
	char *image = strchr(word, '+'), *content, *from;
	json_t *items = json_array(), *element;

	if (image)
		*image++ = '\0';
	from = strchr(word, '^');
	if (from)
		*from++ = '\0';
	content = strchr(word, '=');
	if (content)
		*content++ = '\0';
	element = json_pack("{s:s, s:s}", "name", word, "content", content ? content : "");
	if (from)
		json_object_set_new(element, "from",
			json_pack("{s:s, s:s}", "kind", "DockerImage", "name", from));
	json_array_append_new(spec, element);
	if (image && *image)
		json_array_append_new(items, json_pack("{s:s}", "dockerImageReference", image));
	if (image)
		json_array_append_new(status, json_pack("{s:s, s:O}", "tag", word, "items", items));
	json_decref(items);
}

/* A stream with these tags. */
static struct object *make(
	const char *key, const char *uid, int version, const char *created, const char *tags)
{
	const char *name = strchr(key, '/') + 1;
	_cleanup_free_ char *list = xstrdup(tags);
	_cleanup_json_ json_t *spec = json_array(), *status = json_array(), *json = NULL;
	char number[16], *rest = list, *tag;
	struct object *o;

	while ((tag = strsep(&rest, " ")))
		if (*tag)
			add_tag(tag, spec, status);
	sprintf(number, "%d", version);
	json = json_pack("{s:{s:s%, s:s, s:s, s:s, s:s}, s:{s:O}, s:{s:O}}", "metadata",
		"namespace", key, (size_t)(name - 1 - key), "name", name, "uid", uid,
		"resourceVersion", number, "creationTimestamp", created, "spec", "tags", spec,
		"status", "tags", status);
	assert_int_equal(object_from_json(json, "image.openshift.io/v1", &o), 0);
	return o;
}

#define OLD    "2026-11-23T19:48:08Z"
#define OLD_NS (INT64_C(1795463288) * NSEC_PER_SEC)
#define OLDER  "2026-11-23T19:48:00Z"

static void set_object(const char *key, struct object *o)
{
	_cleanup_view_ struct snapshot *old = NULL, *next = NULL;

	set_stream(tree, key, o, &old, &next);
}

static bool set_tags(const char *key, const char *uid, int version, const char *tags)
{
	_cleanup_object_ struct object *o = make(key, uid, version, OLD, tags);
	_cleanup_view_ struct snapshot *old = NULL, *next = NULL;

	return set_stream(tree, key, o, &old, &next);
}

static bool set(const char *key, const char *uid, int version)
{
	return set_tags(key, uid, version, "");
}

static bool del(const char *key)
{
	_cleanup_view_ struct snapshot *old = NULL, *next = NULL;

	return set_stream(tree, key, NULL, &old, &next);
}

static struct place path_of(enum kind kind, const char *ns, const char *stream, const char *tag)
{
	struct place path = {.kind = kind};

	strcpy(path.ns, ns);
	strcpy(path.stream, stream);
	strcpy(path.tag, tag);
	return path;
}

static struct layout_attr attr_of(struct place path)
{
	struct layout_attr attr;

	assert_int_equal(shown_attr(tree, &path, &attr), 0);
	return attr;
}

static void assert_absent(struct place path)
{
	struct layout_attr attr;

	assert_int_equal(shown_attr(tree, &path, &attr), -ENOENT);
}

/* Field by field: there may be anything in the gaps. */
static void assert_same(const struct layout_attr *a, const struct layout_attr *b)
{
	assert_true(a->ino == b->ino);
	assert_true(a->size == b->size);
	assert_true(a->mtime == b->mtime);
	assert_true(a->nlink == b->nlink);
}

#define ROOT	     path_of(KIND_ROOT, "", "", "")
#define NAMESPACE(n) path_of(KIND_NAMESPACE, n, "", "")
#define STREAM(n, s) path_of(KIND_STREAM, n, s, "")
#define TAG(n, s, t) path_of(KIND_TAG, n, s, t)
#define TAGS_OF_WEB  path_of(KIND_TAGS, "shop", "web", "")

static bool add_name(void *arg, const char *name, uint64_t cookie, const struct place *path,
	const struct layout_attr *attr)
{
	struct layout_attr same = attr_of(*path);

	assert_same(&same, attr);
	strcat(strcat(arg, *(char *)arg ? " " : ""), name);
	return false;
}

/* All names, in the order given. */
static void assert_list(struct place directory, const char *expected)
{
	char names[4096] = "";

	assert_int_equal(shown_list(tree, &directory, 0, add_name, names), 0);
	assert_string_equal(names, expected);
}

static void assert_shown(struct snapshot *v, const char *version)
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
		_cleanup_view_ struct snapshot *old = NULL, *next = NULL, *now = NULL;
		bool changed =
			set_stream(tree, "shop/web", steps[i].version ? o : NULL, &old, &next);

		assert_int_equal(changed, steps[i].changes);
		assert_shown(old, changed ? steps[i].before : NULL);
		assert_shown(next, changed ? steps[i].after : NULL);
		now = shown_snapshot(tree, "shop", "web");
		assert_shown(now, steps[i].after);
		if (changed)
			assert_ptr_equal(now, next);
	}
}

/* Made anew on the server: another thing, whatever its version, and without the old one's past. */
static void test_set_other_uid(void **state)
{
	struct layout_attr first, second;

	assert_true(set("shop/web", "first", 9));
	first = attr_of(STREAM("shop", "web"));
	assert_true(set("shop/web", "second", 10));
	second = attr_of(STREAM("shop", "web"));
	assert_true(first.ino != second.ino);
	assert_true(attr_of(path_of(KIND_SPEC_JSON, "shop", "web", "")).mtime == OLD_NS);
	assert_list(NAMESPACE("shop"), "web");
}

/* A version of the same thing keeps the inode, and moves what it changes. */
static void test_set_follows(void **state)
{
	struct place file = path_of(KIND_SPEC_JSON, "shop", "web", "");
	int64_t before = now_realtime();
	struct layout_attr old, next;

	set_tags("shop/web", "u", 1, "a");
	old = attr_of(file);
	set_tags("shop/web", "u", 2, "a b");
	next = attr_of(file);
	assert_true(next.ino == old.ino);
	assert_true(old.mtime == OLD_NS);
	assert_true(next.mtime >= before);
	assert_true(next.size > old.size);
}

/* The snapshots outlive the tree's interest in them. */
static void test_views_are_counted(void **state)
{
	_cleanup_view_ struct snapshot *first = NULL, *second = NULL, *old = NULL, *next = NULL;
	_cleanup_object_ struct object *o = make("shop/web", "u", 2, OLD, "");

	assert_null(shown_snapshot(tree, "shop", "web"));
	set("shop/web", "u", 1);
	first = shown_snapshot(tree, "shop", "web");
	assert_true(set_stream(tree, "shop/web", o, &old, &next));
	assert_ptr_equal(old, first);
	second = shown_snapshot(tree, "shop", "web");
	assert_ptr_equal(second, next);
	del("shop/web");
	assert_int_equal(atomic_load(&first->refs), 2);
	assert_int_equal(atomic_load(&second->refs), 2);
	assert_string_equal(first->object->resource_version, "1");
	assert_null(shown_snapshot(tree, "shop", "we"));
	assert_null(shown_snapshot(tree, "sho", "web"));
}

static void lookup(struct place directory, const char *name, enum kind kind)
{
	struct place path = {.kind = KIND_COUNT};
	struct layout_attr attr, same;

	if (kind == KIND_COUNT) {
		assert_int_equal(look_up(tree, &directory, name, &path, &attr), -ENOENT);
		assert_int_equal(path.kind, KIND_COUNT);
		return;
	}
	assert_int_equal(look_up(tree, &directory, name, &path, &attr), 0);
	assert_int_equal(path.kind, kind);
	same = attr_of(path);
	assert_same(&attr, &same);
}

static void test_lookup(void **state)
{
	struct place path;
	struct layout_attr attr;
	struct place tags = path_of(KIND_TAGS, "shop", "web", "");

	set_tags("shop/web", "u", 1, "v1 .x");
	lookup(ROOT, "shop", KIND_NAMESPACE);
	lookup(ROOT, "web", KIND_COUNT);
	lookup(ROOT, "", KIND_COUNT);
	lookup(NAMESPACE("shop"), "web", KIND_STREAM);
	lookup(NAMESPACE("shop"), "api", KIND_COUNT);
	lookup(NAMESPACE("none"), "web", KIND_COUNT);
	lookup(STREAM("shop", "web"), "imagestream.json", KIND_IMAGESTREAM_JSON);
	lookup(STREAM("shop", "web"), "metadata.json", KIND_METADATA_JSON);
	lookup(STREAM("shop", "web"), "spec.json", KIND_SPEC_JSON);
	lookup(STREAM("shop", "web"), "status.json", KIND_STATUS_JSON);
	lookup(STREAM("shop", "web"), "tags", KIND_TAGS);
	lookup(STREAM("shop", "web"), "v1", KIND_COUNT);
	lookup(STREAM("shop", "api"), "tags", KIND_COUNT);
	lookup(tags, "v1", KIND_TAG);
	lookup(tags, "%2Ex", KIND_TAG);
	lookup(tags, ".x", KIND_COUNT);
	lookup(tags, "v2", KIND_COUNT);
	lookup(TAG("shop", "web", "v1"), "spec.json", KIND_TAG_SPEC);
	lookup(TAG("shop", "web", "v1"), "status.json", KIND_COUNT);
	lookup(TAG("shop", "web", "v1"), "image", KIND_COUNT);
	lookup(TAG("shop", "web", "v2"), "spec.json", KIND_COUNT);
	assert_int_equal(look_up(tree, &tags, "v1", &path, &attr), 0);
	assert_string_equal(path.ns, "shop");
	assert_string_equal(path.stream, "web");
	assert_string_equal(path.tag, "v1");
	del("shop/web");
	lookup(ROOT, "shop", KIND_COUNT);
	lookup(tags, "v1", KIND_COUNT);
}

static void test_fixed_lists(void **state)
{
	set_tags("shop/web", "u", 1, "v2 v1 .x a/b");
	assert_list(STREAM("shop", "web"),
		"imagestream.json imagestream.yaml metadata.json spec.json status.json tags");
	assert_list(path_of(KIND_TAGS, "shop", "web", ""), "%2Ex a%2Fb v1 v2");
	assert_list(TAG("shop", "web", "v1"), "spec.json");
	set_tags("shop/web", "u", 2, "v2 a/b a .x");
	assert_list(path_of(KIND_TAGS, "shop", "web", ""), "%2Ex a%2Fb v2 a");
}

static void list_namespace(const char *name, const char *uid, int64_t created)
{
	struct store_namespace ns = {.created = created};

	strcpy(ns.uid, uid);
	set_namespace(tree, name, &ns);
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

/* By the request and by its acknowledgement: what went stays away until the other one comes. */
static void test_namespace_step_twice(void **state)
{
	struct store_namespace other = {.created = 6, .uid = "n2"};
	struct step step;

	list_namespace("shop", "n1", 5);
	shown_begin_namespace(tree, "shop", &other);
	assert_true(shown_namespace_step(tree, "shop", &step));
	assert_int_equal(step.op, STEP_DELETE);
	assert_true(shown_flip(tree, "shop", &step));
	assert_false(shown_flip(tree, "shop", &step));
	assert_root("");
	shown_begin_namespace(tree, "shop", &other);
	assert_true(shown_namespace_step(tree, "shop", &step));
	assert_int_equal(step.op, STEP_CREATE);
	assert_true(shown_flip(tree, "shop", &step));
	assert_false(shown_flip(tree, "shop", &step));
	assert_root("shop");
	assert_false(shown_namespace_step(tree, "shop", &step));
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
	set_namespace(tree, "empty", NULL);
	assert_root("shop");
	assert_absent(NAMESPACE("empty"));
	set_namespace(tree, "empty", NULL);
	set_namespace(tree, "never", NULL);
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
	set_namespace(tree, "shop", NULL);
	assert_root("shop");
	list_namespace("shop", "n", 5);
	del("shop/web");
	assert_root("shop");
}

/* Found by name: there, and never listed, whatever is in it. */
static void test_named_namespaces(void **state)
{
	shown_add_named(tree, "hidden");
	assert_root("");
	lookup(ROOT, "hidden", KIND_NAMESPACE);
	set("hidden/web", "u", 1);
	assert_root("");
	lookup(NAMESPACE("hidden"), "web", KIND_STREAM);
	assert_list(NAMESPACE("hidden"), "web");
	del("hidden/web");
	lookup(ROOT, "hidden", KIND_NAMESPACE);
	list_namespace("hidden", "n", 5);
	assert_root("hidden");
	shown_add_named(tree, "hidden");
	assert_root("hidden");
	set_namespace(tree, "hidden", NULL);
	assert_root("");
	assert_absent(NAMESPACE("hidden"));
}

/* A stream came while somebody asked for its namespace by name: the count stays right. */
static void test_named_after_streams(void **state)
{
	char names[4096] = "";
	struct place root = ROOT;

	set("shop/web", "u", 1);
	assert_root("shop");
	shown_add_named(tree, "shop");
	shown_list(tree, &root, 0, add_name, names);
	assert_int_equal(attr_of(ROOT).nlink, 2 + (*names != '\0'));
	del("shop/web");
	assert_root("");
	set_namespace(tree, "shop", NULL);
	assert_root("");
}

static void test_ready(void **state)
{
	set("shop/web", "u1", 1);
	set("lab/a", "u2", 1);
	set("lab/b", "u3", 1);
	assert_false(shown_is_ready(tree, "shop"));
	assert_int_equal(attr_of(NAMESPACE("shop")).nlink, 1);
	shown_set_ready(tree, "shop", true);
	assert_true(shown_is_ready(tree, "shop"));
	assert_false(shown_is_ready(tree, "lab"));
	assert_int_equal(attr_of(NAMESPACE("shop")).nlink, 3);
	assert_int_equal(attr_of(NAMESPACE("lab")).nlink, 1);
	shown_set_ready(tree, NULL, true);
	assert_true(shown_is_ready(tree, "lab"));
	assert_true(shown_is_ready(tree, "later"));
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
	shown_set_ready(tree, "shop", true);
	set_namespace(tree, "shop", NULL);
	assert_false(shown_is_ready(tree, "shop"));
	list_namespace("shop", "n", 5);
	assert_false(shown_is_ready(tree, "shop"));
	assert_int_equal(attr_of(NAMESPACE("shop")).nlink, 1);
}

/* What the first list finds is as old as the server says; what comes later is new. */
static void test_namespace_mtime(void **state)
{
	int64_t start = now_realtime(), mtime;
	_cleanup_object_ struct object *older = make("shop/older", "u2", 1, OLDER, "");
	_cleanup_view_ struct snapshot *old = NULL, *next = NULL;

	list_namespace("shop", "n", 5);
	assert_int_equal(attr_of(NAMESPACE("shop")).mtime, 5);
	set("shop/web", "u1", 1);
	assert_int_equal(attr_of(NAMESPACE("shop")).mtime, OLD_NS);
	set_stream(tree, "shop/older", older, &old, &next);
	assert_int_equal(attr_of(NAMESPACE("shop")).mtime, OLD_NS);
	shown_set_ready(tree, "shop", true);
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

	shown_add_named(tree, "hidden");
	assert_int_equal(attr_of(ROOT).mtime, mtime);
	list_namespace("shop", "n", 5);
	assert_true(attr_of(ROOT).mtime > mtime);
	mtime = attr_of(ROOT).mtime;
	set("shop/web", "u", 1);
	list_namespace("shop", "n", 5);
	del("shop/web");
	assert_int_equal(attr_of(ROOT).mtime, mtime);
	set_namespace(tree, "shop", NULL);
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
	shown_add_named(tree, "a");
	shown_add_named(tree, "b");
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
static bool take(void *arg, const char *name, uint64_t cookie, const struct place *path,
	const struct layout_attr *attr)
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
static void change(enum kind kind, struct listing *l, int i, int *version)
{
	char key[32], tags[NAMES * 6] = "", *p = tags;

	l->there[i] = !l->there[i];
	l->always[i] = l->always[i] && l->there[i];
	l->ever[i] += l->there[i];
	sprintf(key, "n%d", i);
	if (kind == KIND_NAMESPACE && l->there[i])
		list_namespace(key, key, 5);
	else if (kind == KIND_NAMESPACE)
		set_namespace(tree, key, NULL);
	sprintf(key, "shop/s%d", i);
	if (kind == KIND_STREAM)
		assert_true(l->there[i] ? set(key, key, 1) : del(key));
	if (kind != KIND_TAG)
		return;
	for (int k = 0; k < NAMES; k++)
		if (l->there[k])
			p += sprintf(p, "t%d ", k);
	assert_true(set_tags("shop/web", "u", ++*version, tags));
}

static void list_while_changing(enum kind kind, struct place directory, int names, uint64_t seed)
{
	struct listing *l = xcalloc(1, sizeof(*l));
	int version = 0;

	if (kind == KIND_TAG)
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
			assert_int_equal(shown_list(tree, &directory, l->cookie, take, l), 0);
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
	list_while_changing(KIND_STREAM, NAMESPACE("shop"), NAMES, 1);
}

static void test_list_changing_namespaces(void **state)
{
	list_while_changing(KIND_NAMESPACE, ROOT, NAMES, 2);
}

static void test_list_changing_tags(void **state)
{
	list_while_changing(KIND_TAG, path_of(KIND_TAGS, "shop", "web", ""), 30, 3);
}

static bool take_one(void *arg, const char *name, uint64_t cookie, const struct place *path,
	const struct layout_attr *attr)
{
	*(uint64_t *)arg = cookie;
	return true;
}

/* "true" also ends a listing after what was taken, and the fixed names have cookies, too. */
static void test_list_one_by_one(void **state)
{
	struct place directory = STREAM("shop", "web");
	uint64_t cookie = 0, last;
	int n = 0;

	set("shop/web", "u", 1);
	do {
		last = cookie;
		assert_int_equal(shown_list(tree, &directory, last, take_one, &cookie), 0);
		assert_true(cookie >= last);
		n += cookie != last;
	} while (cookie != last);
	assert_int_equal(n, 6);
}

static void test_list_nothing(void **state)
{
	struct place directory = STREAM("shop", "web");
	char names[256] = "";

	assert_int_equal(shown_list(tree, &directory, 0, add_name, names), -ENOENT);
	directory.kind = KIND_TAGS;
	assert_int_equal(shown_list(tree, &directory, 0, add_name, names), -ENOENT);
	list_namespace("empty", "n", 5);
	assert_list(NAMESPACE("empty"), "");
}

/* ---- changes in steps ---- */

#define WEB "shop/web"

/*
 * "+tags/a", "-spec.json", "~tags/a/image"; the stream itself is ".". With a '!' it doesn't wait.
 */
static void step_text(const struct step *step, char ret[2 * NAME_SIZE])
{
	const char *tags = step->kind >= KIND_TAG ? "tags/" : "";
	const char *name = step->kind == KIND_STREAM ? "." : layout[step->kind].name;

	sprintf(ret, "%c%s%s%s%s%s", "+-~"[step->op], tags, step_tag(step),
		step -> kind > KIND_TAG ? "/" : "", name ? name : "", step->waits ? "" : "!");
}

static void assert_steps(const struct change *c, const char *expected)
{
	char all[4096] = "", text[2 * NAME_SIZE];

	for (size_t i = 0; i < c->nsteps; i++) {
		const struct step *step = &c->steps[i];
		struct layout_attr attr;

		step_text(step, text);
		strcat(strcat(all, i ? " " : ""), text);
		assert_int_equal(snapshot_attr(step->op == STEP_DELETE ? c->old : c->next,
					 step->kind, step_tag(step), &attr),
			0);
		assert_true(step->place == attr.ino);
	}
	assert_string_equal(all, expected);
}

/* A version of shop/web; NULL tags: it is deleted. */
static void begin_uid(struct change **c, const char *uid, int version, const char *tags,
	const struct change_own *own)
{
	_cleanup_object_ struct object *o = tags ? make(WEB, uid, version, OLD, tags) : NULL;

	change_unref(*c);
	*c = shown_begin(tree, WEB, o, own);
	assert_non_null(*c);
}

static void begin(struct change **c, int version, const char *tags)
{
	begin_uid(c, "u", version, tags, NULL);
}

static void begin_own(
	struct change **c, int version, const char *tags, const struct change_own *own)
{
	begin_uid(c, "u", version, tags, own);
}

static bool flip_at(const struct change *c, const char *step)
{
	char text[2 * NAME_SIZE];

	for (size_t i = 0; i < c->nsteps; i++) {
		step_text(&c->steps[i], text);
		if (streq(text, step))
			return shown_flip(tree, WEB, &c->steps[i]);
	}
	fail_msg("no step %s", step);
	return false;
}

static void flip(const struct change *c, const char *step)
{
	assert_true(flip_at(c, step));
	assert_false(flip_at(c, step));
}

static void flip_all(const struct change *c)
{
	for (size_t i = 0; i < c->nsteps; i++) {
		assert_int_equal(shown_flip(tree, WEB, &c->steps[i]), c->steps[i].waits);
		assert_false(shown_flip(tree, WEB, &c->steps[i]));
	}
}

/* All that can be seen below a directory, a line each. */
struct dump {
	struct place path;
	const char *above;
	struct buf *out;
};

static bool dump_child(void *arg, const char *name, uint64_t cookie, const struct place *path,
	const struct layout_attr *attr)
{
	struct dump *d = arg;
	_cleanup_free_ char *full = xasprintf("%s/%s", d->above, name);
	struct dump below = {*path, full, d->out};
	struct place found;
	struct layout_attr same;

	same = attr_of(*path);
	assert_same(&same, attr);
	assert_int_equal(look_up(tree, &d->path, name, &found, &same), 0);
	assert_same(&same, attr);
	buf_addf(d->out, "%s ino %" PRIu64 " size %" PRIu64 " mtime %" PRId64 " nlink %u", full,
		attr->ino, attr->size, attr->mtime, attr->nlink);
	if (layout_is_directory(path->kind)) {
		buf_addstr(d->out, "\n");
		assert_int_equal(shown_list(tree, path, 0, dump_child, &below), 0);
	} else {
		_cleanup_view_ struct snapshot *v = shown_snapshot_at(tree, path);
		_cleanup_buf_ struct buf bytes = BUF_INIT(ATTR_MAX);

		assert_int_equal(snapshot_show(v, path->kind, path->tag, &bytes), 0);
		assert_int_equal(bytes.len, attr->size);
		buf_addf(d->out, " bytes %" PRIx64 "\n",
			hash_bytes(HASH_INIT, bytes.data, bytes.len));
	}
	return false;
}

static char *dump(struct place directory)
{
	_cleanup_buf_ struct buf out = BUF_INIT(1 << 24);
	struct dump d = {directory, "", &out};
	struct layout_attr attr;

	if (shown_attr(tree, &directory, &attr) == 0) {
		buf_addf(&out, ". ino %" PRIu64 " mtime %" PRId64 " nlink %u\n", attr.ino,
			attr.mtime, attr.nlink);
		assert_int_equal(shown_list(tree, &directory, 0, dump_child, &d), 0);
	}
	return xstrndup(out.data ? (char *)out.data : "", out.len);
}

static void assert_dump(const char *before)
{
	_cleanup_free_ char *now = dump(ROOT);

	assert_string_equal(now, before);
}

static void test_begin_created(void **state)
{
	_cleanup_change_ struct change *c = NULL;
	_cleanup_view_ struct snapshot *v = NULL;

	begin(&c, 1, "a=1+i b");
	assert_steps(c, "+.");
	assert_null(c->old);
	assert_shown(c->next, "1");
	assert_false(c->again);
	assert_absent(STREAM("shop", "web"));
	assert_absent(path_of(KIND_SPEC_JSON, "shop", "web", ""));
	assert_absent(path_of(KIND_TAGS, "shop", "web", ""));
	assert_absent(TAG("shop", "web", "a"));
	assert_absent(path_of(KIND_TAG_IMAGE, "shop", "web", "a"));
	lookup(NAMESPACE("shop"), "web", KIND_COUNT);
	assert_null(shown_snapshot(tree, "shop", "web"));
	assert_root("");
	assert_list(NAMESPACE("shop"), "");
	flip(c, "+.");
	v = shown_snapshot(tree, "shop", "web");
	assert_ptr_equal(v, c->next);
	assert_list(NAMESPACE("shop"), "web");
	assert_list(path_of(KIND_TAGS, "shop", "web", ""), "a b");
	assert_list(TAG("shop", "web", "a"), "spec.json status.json image");
	assert_list(TAG("shop", "web", "b"), "spec.json");
}

static void test_begin_nothing(void **state)
{
	_cleanup_object_ struct object *o = make(WEB, "u", 5, OLD, "a");
	_cleanup_object_ struct object *older = make(WEB, "u", 4, OLD, "b");
	_cleanup_change_ struct change *c = NULL;

	assert_null(shown_begin(tree, WEB, NULL, NULL));
	c = shown_begin(tree, WEB, o, NULL);
	flip_all(c);
	assert_null(shown_begin(tree, WEB, o, NULL));
	assert_null(shown_begin(tree, WEB, older, NULL));
	assert_list(path_of(KIND_TAGS, "shop", "web", ""), "a");
}

static void test_begin_deleted(void **state)
{
	_cleanup_change_ struct change *c = NULL;
	struct place tags = path_of(KIND_TAGS, "shop", "web", "");
	_cleanup_free_ char *before = NULL;

	list_namespace("shop", "n", 5);
	shown_set_ready(tree, NULL, true);
	set_tags(WEB, "u", 1, "a=1+i b");
	before = dump(ROOT);
	begin(&c, 0, NULL);
	assert_steps(c, "-tags/a/spec.json -tags/a/status.json -tags/a/image -tags/a "
			"-tags/b/spec.json -tags/b -imagestream.json -imagestream.yaml "
			"-metadata.json -spec.json -status.json -tags -.");
	assert_shown(c->old, "1");
	assert_null(c->next);
	assert_false(c->again);
	assert_dump(before);
	flip(c, "-tags/a/spec.json");
	assert_list(TAG("shop", "web", "a"), "status.json image");
	flip(c, "-tags/a/status.json");
	flip(c, "-tags/a/image");
	assert_list(TAG("shop", "web", "a"), "");
	assert_list(tags, "a b");
	flip(c, "-tags/a");
	assert_list(tags, "b");
	lookup(tags, "a", KIND_COUNT);
	lookup(tags, "b", KIND_TAG);
	flip(c, "-tags/b/spec.json");
	flip(c, "-tags/b");
	assert_list(tags, "");
	flip(c, "-imagestream.json");
	flip(c, "-imagestream.yaml");
	assert_list(STREAM("shop", "web"), "metadata.json spec.json status.json tags");
	flip(c, "-metadata.json");
	flip(c, "-spec.json");
	flip(c, "-status.json");
	assert_list(STREAM("shop", "web"), "tags");
	flip(c, "-tags");
	assert_list(STREAM("shop", "web"), "");
	assert_list(NAMESPACE("shop"), "web");
	assert_int_equal(attr_of(NAMESPACE("shop")).nlink, 3);
	flip(c, "-.");
	assert_list(NAMESPACE("shop"), "");
	assert_int_equal(attr_of(NAMESPACE("shop")).nlink, 2);
	assert_absent(STREAM("shop", "web"));
}

static void test_begin_content(void **state)
{
	struct place file = path_of(KIND_TAG_SPEC, "shop", "web", "a");
	_cleanup_change_ struct change *c = NULL;
	_cleanup_view_ struct snapshot *shown = NULL, *after = NULL;
	_cleanup_free_ char *before = NULL;
	struct layout_attr old;

	set_tags(WEB, "u", 1, "a=1+i b");
	old = attr_of(file);
	before = dump(ROOT);
	begin(&c, 2, "a=22+i b");
	assert_steps(c, "~tags/a/spec.json ~spec.json ~imagestream.yaml ~imagestream.json");
	assert_dump(before);
	shown = shown_snapshot_at(tree, &file);
	assert_ptr_equal(shown, c->old);
	flip(c, "~tags/a/spec.json");
	after = shown_snapshot_at(tree, &file);
	assert_ptr_equal(after, c->next);
	assert_int_equal(attr_of(file).size, old.size + 1);
	assert_true(attr_of(file).mtime > old.mtime);
	assert_true(attr_of(file).ino == old.ino);
	old = attr_of(path_of(KIND_SPEC_JSON, "shop", "web", ""));
	flip(c, "~imagestream.json");
	flip(c, "~imagestream.yaml");
	assert_int_equal(attr_of(path_of(KIND_SPEC_JSON, "shop", "web", "")).size, old.size);
	flip(c, "~spec.json");
	assert_int_equal(attr_of(path_of(KIND_SPEC_JSON, "shop", "web", "")).size, old.size + 1);

	begin(&c, 3, "a=22+ii b"); /* only its status */
	assert_steps(c, "~tags/a/status.json ~tags/a/image ~status.json ~imagestream.yaml "
			"~imagestream.json");
	flip_all(c);
	begin(&c, 4, "a=22+ii b"); /* only its version */
	assert_steps(c, "~imagestream.yaml ~imagestream.json");
	flip_all(c);
}

static void test_begin_tags(void **state)
{
	struct place tags = path_of(KIND_TAGS, "shop", "web", "");
	_cleanup_change_ struct change *c = NULL;
	struct layout_attr before;
	uint64_t ino;

	set_tags(WEB, "u", 1, "b c");
	ino = attr_of(TAG("shop", "web", "b")).ino;
	before = attr_of(tags);
	begin(&c, 2, "a+i c d");
	assert_steps(c, "-tags/b/spec.json -tags/b +tags/a +tags/d ~spec.json ~status.json "
			"~imagestream.yaml ~imagestream.json");
	assert_list(tags, "b c");
	assert_int_equal(attr_of(tags).nlink, 4);
	assert_true(attr_of(tags).mtime == before.mtime);
	lookup(tags, "a", KIND_COUNT);
	lookup(TAG("shop", "web", "a"), "spec.json", KIND_COUNT);
	lookup(TAG("shop", "web", "a"), "image", KIND_COUNT);
	assert_true(attr_of(TAG("shop", "web", "b")).ino == ino);
	flip(c, "+tags/d"); /* in whatever order */
	assert_list(tags, "b c d");
	assert_int_equal(attr_of(tags).nlink, 5);
	assert_true(attr_of(tags).mtime > before.mtime);
	flip(c, "-tags/b/spec.json");
	lookup(tags, "b", KIND_TAG);
	assert_list(TAG("shop", "web", "b"), "");
	flip(c, "-tags/b");
	assert_list(tags, "c d");
	assert_int_equal(attr_of(tags).nlink, 4);
	flip(c, "+tags/a");
	assert_int_equal(attr_of(tags).nlink, 5);
	assert_list(TAG("shop", "web", "a"), "spec.json status.json image");
	flip(c, "~imagestream.json");
	flip(c, "~imagestream.yaml");
	flip(c, "~spec.json");
	flip(c, "~status.json");
	assert_list(tags, "c a d");

	begin(&c, 3, "a+i b c d"); /* what comes back is another one */
	assert_steps(c, "+tags/b ~spec.json ~imagestream.yaml ~imagestream.json");
	flip_all(c);
	assert_true(attr_of(TAG("shop", "web", "b")).ino != ino);
	assert_list(tags, "c a d b");
}

static void test_begin_tag_files(void **state)
{
	_cleanup_change_ struct change *c = NULL;
	struct place tag = TAG("shop", "web", "a");
	struct place image = path_of(KIND_TAG_IMAGE, "shop", "web", "a");
	uint64_t ino;

	set_tags(WEB, "u", 1, "a");
	begin(&c, 2, "a+i");
	assert_steps(c, "+tags/a/status.json +tags/a/image ~status.json ~imagestream.yaml "
			"~imagestream.json");
	assert_list(tag, "spec.json");
	assert_absent(image);
	flip(c, "+tags/a/image");
	assert_list(tag, "spec.json image");
	flip(c, "+tags/a/status.json");
	assert_list(tag, "spec.json status.json image");
	flip(c, "~imagestream.json");
	flip(c, "~imagestream.yaml");
	flip(c, "~status.json");
	ino = attr_of(image).ino;

	begin(&c, 3, "a+");
	assert_steps(c, "-tags/a/image ~tags/a/status.json ~status.json ~imagestream.yaml "
			"~imagestream.json");
	assert_list(tag, "spec.json status.json image");
	assert_true(attr_of(image).ino == ino);
	flip(c, "-tags/a/image");
	assert_list(tag, "spec.json status.json");
	flip(c, "~tags/a/status.json");
	flip(c, "~imagestream.json");
	flip(c, "~imagestream.yaml");
	flip(c, "~status.json");

	begin(&c, 4, "a+i");
	assert_steps(c, "~tags/a/status.json +tags/a/image ~status.json ~imagestream.yaml "
			"~imagestream.json");
	flip_all(c);
	assert_true(attr_of(image).ino != ino);
}

/* Deleted and made anew: first the one, then the other. */
static void test_begin_again(void **state)
{
	_cleanup_change_ struct change *c = NULL;
	_cleanup_free_ char *before = NULL;
	struct layout_attr attr;

	set_tags(WEB, "u", 5, "a");
	attr = attr_of(STREAM("shop", "web"));
	before = dump(ROOT);
	begin_uid(&c, "other", 3, "a b", NULL);
	assert_true(c->again);
	assert_shown(c->old, "5");
	assert_null(c->next);
	assert_steps(c, "-tags/a/spec.json -tags/a -imagestream.json -imagestream.yaml "
			"-metadata.json -spec.json -status.json -tags -.");
	assert_dump(before);
	flip_all(c);
	assert_absent(STREAM("shop", "web"));
	begin_uid(&c, "other", 3, "a b", NULL);
	assert_false(c->again);
	assert_null(c->old);
	assert_steps(c, "+.");
	flip_all(c);
	assert_true(attr_of(STREAM("shop", "web")).ino != attr.ino);
	assert_list(path_of(KIND_TAGS, "shop", "web", ""), "a b");
}

/* The second begun while the first still waits. */
static void test_begin_again_at_once(void **state)
{
	_cleanup_change_ struct change *first = NULL, *second = NULL;
	_cleanup_free_ char *before = NULL;

	set_tags(WEB, "u", 5, "a");
	before = dump(ROOT);
	begin_uid(&first, "other", 3, "b", NULL);
	begin_uid(&second, "other", 3, "b", NULL);
	assert_dump(before);
	flip(first, "-tags/a/spec.json");
	flip(first, "-tags/a");
	flip(first, "-spec.json");
	assert_list(STREAM("shop", "web"),
		"imagestream.json imagestream.yaml metadata.json status.json tags");
	flip(first, "-imagestream.json");
	flip(first, "-imagestream.yaml");
	flip(first, "-metadata.json");
	flip(first, "-status.json");
	flip(first, "-tags");
	assert_list(STREAM("shop", "web"), "");
	flip(first, "-.");
	assert_absent(STREAM("shop", "web"));
	assert_absent(TAG("shop", "web", "b"));
	flip(second, "+.");
	assert_list(path_of(KIND_TAGS, "shop", "web", ""), "b");
}

/* The namespace's count, its mtime and its listing move with the flip. */
static void test_flip_moves_namespace(void **state)
{
	_cleanup_change_ struct change *c = NULL;
	struct layout_attr before;

	list_namespace("shop", "n", 5);
	shown_set_ready(tree, NULL, true);
	before = attr_of(NAMESPACE("shop"));
	begin(&c, 1, "");
	assert_int_equal(attr_of(NAMESPACE("shop")).nlink, 2);
	assert_int_equal(attr_of(NAMESPACE("shop")).mtime, before.mtime);
	flip_all(c);
	assert_int_equal(attr_of(NAMESPACE("shop")).nlink, 3);
	assert_true(attr_of(NAMESPACE("shop")).mtime > before.mtime);
	before = attr_of(NAMESPACE("shop"));
	begin(&c, 2, "a");
	flip_all(c);
	assert_int_equal(attr_of(NAMESPACE("shop")).mtime, before.mtime);
	begin(&c, 0, NULL);
	assert_int_equal(attr_of(NAMESPACE("shop")).nlink, 3);
	assert_int_equal(attr_of(NAMESPACE("shop")).mtime, before.mtime);
	flip_all(c);
	assert_int_equal(attr_of(NAMESPACE("shop")).nlink, 2);
	assert_true(attr_of(NAMESPACE("shop")).mtime > before.mtime);
}

/* What was never flipped goes with the tree, and flips of nothing do nothing. */
static void test_flip_nothing(void **state)
{
	struct step step;
	_cleanup_change_ struct change *c = NULL;

	step_init(&step, STEP_WRITE, KIND_SPEC_JSON, "", 0);
	assert_false(shown_flip(tree, WEB, &step));
	set_tags(WEB, "u", 1, "a");
	assert_false(shown_flip(tree, WEB, &step));
	begin(&c, 2, "a=1");
	assert_false(shown_flip(tree, "shop/api", &step));
	assert_false(shown_flip(tree, "shop/we", &step));
	step.op = STEP_DELETE;
	assert_false(shown_flip(tree, WEB, &step));
	step_init(&step, STEP_WRITE, KIND_TAG_SPEC, "b", 0);
	assert_false(shown_flip(tree, WEB, &step));
	step_init(&step, STEP_WRITE, KIND_TAG_SPEC, "a", 0);
	assert_true(shown_flip(tree, WEB, &step));
}

/* What nobody knows is shown only as long as nobody comes to know of anything. */
static void test_flip_unknown(void **state)
{
	_cleanup_change_ struct change *c = NULL;
	atomic_uint_fast64_t made = 7;

	set_tags(WEB, "u", 1, "a");
	begin(&c, 2, "b");
	assert_int_equal(shown_flip_unknown(tree, WEB, &c->steps[0], &made, 6), -EAGAIN);
	assert_list(TAG("shop", "web", "a"), "spec.json");
	assert_int_equal(shown_flip_unknown(tree, WEB, &c->steps[0], &made, 7), 1);
	assert_list(TAG("shop", "web", "a"), "");
	assert_int_equal(shown_flip_unknown(tree, WEB, &c->steps[0], &made, 7), 0);
	for (size_t i = 1; i < c->nsteps; i++)
		shown_flip(tree, WEB, &c->steps[i]);
}

/* ---- what is the caller's own ---- */

static void test_own_file(void **state)
{
	struct place file = path_of(KIND_TAG_SPEC, "shop", "web", "a");
	struct place other = path_of(KIND_TAG_SPEC, "shop", "web", "b");
	struct place tags = path_of(KIND_TAGS, "shop", "web", "");
	struct change_own own = {.file = &file};
	_cleanup_change_ struct change *c = NULL;
	struct layout_attr before, before_other;

	set_tags(WEB, "u", 1, "a b+i c");
	before = attr_of(file);
	before_other = attr_of(other);
	begin_own(&c, 2, "a=1 b=1 d", &own);
	assert_steps(c,
		"-tags/b/status.json -tags/b/image -tags/c/spec.json -tags/c ~tags/a/spec.json! "
		"~tags/b/spec.json! +tags/d ~spec.json! ~status.json! ~imagestream.yaml! "
		"~imagestream.json!");
	assert_int_equal(attr_of(file).size, before.size + 1);
	assert_int_equal(attr_of(other).size, before_other.size + 1);
	assert_list(tags, "a b c");
	assert_list(TAG("shop", "web", "b"), "spec.json status.json image");
	flip_all(c);
	assert_list(tags, "a b d");
	assert_list(TAG("shop", "web", "b"), "spec.json");
}

/* A file of the stream isn't that of a tag, and the file may be one that comes or goes. */
static void test_own_file_comes(void **state)
{
	struct place spec = path_of(KIND_SPEC_JSON, "shop", "web", "");
	struct place image = path_of(KIND_TAG_IMAGE, "shop", "web", "a");
	struct change_own own = {.file = &spec};
	_cleanup_change_ struct change *c = NULL;

	set_tags(WEB, "u", 1, "a b");
	begin_own(&c, 2, "a+i b", &own);
	assert_steps(c, "+tags/a/status.json +tags/a/image ~status.json! ~imagestream.yaml! "
			"~imagestream.json!");
	flip_all(c);
	own.file = &image;
	begin_own(&c, 3, "a+ b+i", &own);
	assert_steps(c, "-tags/a/image ~tags/a/status.json! +tags/b/status.json +tags/b/image "
			"~status.json! ~imagestream.yaml! ~imagestream.json!");
	/* Somebody else took it away. */
	assert_list(TAG("shop", "web", "a"), "spec.json status.json image");
	assert_list(TAG("shop", "web", "b"), "spec.json");
	flip_all(c);
	assert_list(TAG("shop", "web", "a"), "spec.json status.json");
	begin_own(&c, 4, "a+i b+i", &own);
	assert_steps(c, "~tags/a/status.json! +tags/a/image! ~status.json! ~imagestream.yaml! "
			"~imagestream.json!");
	assert_list(TAG("shop", "web", "a"), "spec.json status.json image");
}

static void test_own_nothing(void **state)
{
	static const struct change_own none = {0};
	_cleanup_change_ struct change *c = NULL;
	struct layout_attr before;

	set_tags(WEB, "u", 1, "a b");
	before = attr_of(path_of(KIND_TAG_SPEC, "shop", "web", "a"));
	begin_own(&c, 2, "a=1 c", &none);
	assert_steps(c, "-tags/b/spec.json -tags/b ~tags/a/spec.json! +tags/c ~spec.json! "
			"~imagestream.yaml! ~imagestream.json!");
	assert_int_equal(attr_of(path_of(KIND_TAG_SPEC, "shop", "web", "a")).size, before.size + 1);
	assert_list(path_of(KIND_TAGS, "shop", "web", ""), "a b");
	flip_all(c);
}

static void test_own_tag(void **state)
{
	struct place tags = path_of(KIND_TAGS, "shop", "web", "");
	struct place tag = TAG("shop", "web", "b");
	struct change_own own = {.tree = &tag};
	_cleanup_change_ struct change *c = NULL;

	set_tags(WEB, "u", 1, "a");
	begin_own(&c, 2, "b+i c", &own);
	assert_steps(c, "-tags/a/spec.json -tags/a +tags/b! +tags/c ~spec.json! ~status.json! "
			"~imagestream.yaml! ~imagestream.json!");
	assert_list(tags, "a b");
	assert_list(tag, "spec.json status.json image");
	lookup(tags, "c", KIND_COUNT);
	flip_all(c);
	assert_list(tags, "b c");

	own.removed = true;
	begin_own(&c, 3, "d", &own);
	assert_steps(c,
		"-tags/b/spec.json! -tags/b/status.json! -tags/b/image! -tags/b! -tags/c/spec.json "
		"-tags/c +tags/d ~spec.json! ~status.json! ~imagestream.yaml! ~imagestream.json!");
	assert_list(tags, "c");
	assert_absent(tag);
	assert_absent(path_of(KIND_TAG_IMAGE, "shop", "web", "b"));
	flip_all(c);
	assert_list(tags, "d");
}

static void test_own_stream(void **state)
{
	struct place stream = STREAM("shop", "web");
	struct change_own own = {.tree = &stream};
	_cleanup_change_ struct change *c = NULL;

	list_namespace("shop", "n", 5);
	shown_set_ready(tree, NULL, true);
	begin_own(&c, 1, "a", &own);
	assert_steps(c, "+.!");
	assert_list(NAMESPACE("shop"), "web");
	assert_list(path_of(KIND_TAGS, "shop", "web", ""), "a");
	assert_int_equal(attr_of(NAMESPACE("shop")).nlink, 3);
	flip_all(c);
	own.removed = true;
	begin_own(&c, 0, NULL, &own);
	assert_steps(c,
		"-tags/a/spec.json! -tags/a! -imagestream.json! -imagestream.yaml! -metadata.json! "
		"-spec.json! -status.json! -tags! -.!");
	assert_list(NAMESPACE("shop"), "");
	assert_absent(stream);
	assert_absent(TAG("shop", "web", "a"));
	assert_int_equal(attr_of(NAMESPACE("shop")).nlink, 2);
	flip_all(c);
	assert_list(NAMESPACE("shop"), "");
}

/* What the caller removed was made again by somebody else. */
static void test_own_tag_again(void **state)
{
	struct place tags = path_of(KIND_TAGS, "shop", "web", "");
	struct place tag = TAG("shop", "web", "a"), file = tag;
	struct change_own own = {.tree = &tag, .removed = true};
	_cleanup_change_ struct change *c = NULL;
	struct layout_attr before, before_file;

	file.kind = KIND_TAG_SPEC;
	set_tags(WEB, "u", 1, "a b");
	before = attr_of(tag);
	before_file = attr_of(file);
	begin_own(&c, 2, "a=1 b", &own);
	assert_steps(c, "-tags/a/spec.json! -tags/a! +tags/a ~spec.json! ~imagestream.yaml! "
			"~imagestream.json!");
	assert_list(tags, "b");
	assert_int_equal(attr_of(tags).nlink, 3);
	assert_absent(tag);
	assert_absent(file);
	flip_all(c);
	assert_list(tags, "b a");
	assert_int_equal(attr_of(tags).nlink, 4);
	assert_true(attr_of(tag).ino != before.ino);
	assert_true(attr_of(file).ino != before_file.ino);
}

static void test_own_stream_again(void **state)
{
	struct place stream = STREAM("shop", "web");
	struct change_own own = {.tree = &stream, .removed = true};
	_cleanup_change_ struct change *first = NULL, *second = NULL;

	set_tags(WEB, "u", 1, "");
	begin_uid(&first, "other", 2, "b", &own);
	assert_true(first->again);
	assert_absent(stream);
	begin_uid(&second, "other", 2, "b", &own);
	assert_steps(second, "+.");
	assert_absent(stream);
	flip_all(second);
	assert_list(path_of(KIND_TAGS, "shop", "web", ""), "b");
}

/* The caller made it while what somebody else had made and lost was still to come, or to go. */
static void test_own_tag_on_waiting(void **state)
{
	struct place tag = TAG("shop", "web", "b"), file = tag;
	struct change_own own = {.tree = &tag};
	_cleanup_change_ struct change *first = NULL, *second = NULL, *third = NULL;

	file.kind = KIND_TAG_SPEC;
	set_tags(WEB, "u", 1, "a");
	begin(&first, 2, "a b");
	assert_absent(tag);
	begin_own(&second, 4, "a b=1", &own);
	attr_of(tag);
	assert_int_equal(
		attr_of(file).size, attr_of(path_of(KIND_TAG_SPEC, "shop", "web", "a")).size + 1);
	assert_false(flip_at(first, "+tags/b"));

	begin(&second, 5, "a");
	attr_of(tag);
	begin_own(&third, 6, "a b", &own);
	assert_int_equal(
		attr_of(file).size, attr_of(path_of(KIND_TAG_SPEC, "shop", "web", "a")).size);
	assert_false(flip_at(second, "-tags/b/spec.json"));
	assert_false(flip_at(second, "-tags/b"));
	attr_of(file);
}

/* The saved stream was made anew meanwhile. */
static void test_own_again(void **state)
{
	struct place file = path_of(KIND_SPEC_JSON, "shop", "web", "");
	struct change_own own = {.file = &file};
	_cleanup_change_ struct change *first = NULL, *second = NULL;

	set_tags(WEB, "u", 5, "a");
	begin_uid(&first, "other", 7, "b", &own);
	assert_true(first->again);
	assert_steps(first,
		"-tags/a/spec.json -tags/a -imagestream.json -imagestream.yaml -metadata.json "
		"-spec.json -status.json -tags -.");
	assert_list(path_of(KIND_TAGS, "shop", "web", ""), "a");
	begin_uid(&second, "other", 7, "b", &own);
	assert_steps(second, "+.");
	assert_list(path_of(KIND_TAGS, "shop", "web", ""), "a");
	flip_all(first);
	assert_absent(STREAM("shop", "web"));
	flip_all(second);
	assert_list(path_of(KIND_TAGS, "shop", "web", ""), "b");
}

/* ---- what is expected ---- */

static bool is_expected(enum step_op op, enum kind kind, const char *tag)
{
	struct place path = path_of(kind, "shop", "web", tag);

	return shown_is_expected(tree, &path, op);
}

static void test_expected(void **state)
{
	struct place other = path_of(KIND_SPEC_JSON, "shop", "api", "");
	_cleanup_change_ struct change *c = NULL;

	assert_false(is_expected(STEP_CREATE, KIND_STREAM, ""));
	begin(&c, 1, "a b");
	assert_true(is_expected(STEP_CREATE, KIND_STREAM, ""));
	assert_false(is_expected(STEP_DELETE, KIND_STREAM, ""));
	assert_false(is_expected(STEP_CREATE, KIND_SPEC_JSON, ""));
	assert_false(is_expected(STEP_CREATE, KIND_TAG, "a"));
	flip_all(c);
	assert_false(is_expected(STEP_CREATE, KIND_STREAM, ""));
	begin(&c, 2, "a+i c");
	assert_true(is_expected(STEP_CREATE, KIND_TAG_STATUS, "a"));
	assert_false(is_expected(STEP_CREATE, KIND_TAG_STATUS, "b"));
	assert_true(is_expected(STEP_DELETE, KIND_TAG_SPEC, "b"));
	assert_true(is_expected(STEP_DELETE, KIND_TAG, "b"));
	assert_true(is_expected(STEP_CREATE, KIND_TAG, "c"));
	assert_false(is_expected(STEP_CREATE, KIND_TAG_SPEC, "c"));
	assert_true(is_expected(STEP_WRITE, KIND_SPEC_JSON, ""));
	assert_false(is_expected(STEP_WRITE, KIND_METADATA_JSON, ""));
	assert_false(is_expected(STEP_WRITE, KIND_TAG_SPEC, "a"));
	assert_false(shown_is_expected(tree, &other, STEP_WRITE));
	flip(c, "+tags/c");
	assert_false(is_expected(STEP_CREATE, KIND_TAG, "c"));
	assert_true(is_expected(STEP_DELETE, KIND_TAG, "b"));
	flip(c, "~spec.json");
	assert_false(is_expected(STEP_WRITE, KIND_SPEC_JSON, ""));
}

/* Shown already, while its event is still to come: until the end of the change. */
static void test_expected_bytes(void **state)
{
	struct place file = path_of(KIND_TAG_SPEC, "shop", "web", "a");
	struct change_own own = {.file = &file};
	_cleanup_change_ struct change *first = NULL, *second = NULL;
	_cleanup_free_ char *before = NULL;

	set_tags(WEB, "u", 1, "a b");
	begin_own(&first, 2, "a=1 b", &own);
	assert_steps(first, "~tags/a/spec.json! ~spec.json! ~imagestream.yaml! ~imagestream.json!");
	assert_true(is_expected(STEP_WRITE, KIND_SPEC_JSON, ""));
	assert_false(is_expected(STEP_CREATE, KIND_SPEC_JSON, ""));
	assert_true(is_expected(STEP_WRITE, KIND_IMAGESTREAM_JSON, ""));
	assert_false(is_expected(STEP_WRITE, KIND_TAG_SPEC, "a")); /* own */
	assert_false(shown_flip(tree, WEB, &first->steps[1]));
	assert_true(is_expected(STEP_WRITE, KIND_SPEC_JSON, ""));
	begin_own(&second, 3, "a=2 b", &own);
	before = dump(ROOT);
	shown_end(tree, first);
	assert_true(is_expected(STEP_WRITE, KIND_SPEC_JSON, "")); /* the second's */
	shown_end(tree, second);
	assert_false(is_expected(STEP_WRITE, KIND_SPEC_JSON, ""));
	shown_end(tree, second);
	assert_dump(before);
}

/* The announcer shows a file's bytes, and ends before its event: another one does it again. */
static void test_show(void **state)
{
	struct place spec = path_of(KIND_SPEC_JSON, "shop", "web", "");
	_cleanup_change_ struct change *c = NULL;
	struct layout_attr before;
	size_t i = 0;

	set_tags(WEB, "u", 1, "a");
	before = attr_of(spec);
	begin(&c, 2, "a=1");
	while (c->steps[i].kind != KIND_SPEC_JSON)
		i++;
	assert_true(shown_show(tree, WEB, &c->steps[i]));
	assert_int_equal(attr_of(spec).size, before.size + 1);
	assert_true(is_expected(STEP_WRITE, KIND_SPEC_JSON, ""));
	assert_false(shown_show(tree, WEB, &c->steps[i]));
	assert_false(shown_flip(tree, WEB, &c->steps[i]));
	shown_end(tree, c);
	assert_false(is_expected(STEP_WRITE, KIND_SPEC_JSON, ""));
}

/* The stream goes while an event is to come: then it is forgotten with the event. */
static void test_expected_gone(void **state)
{
	struct place stream = STREAM("shop", "web");
	struct change_own own = {.tree = &stream, .removed = true}, none = {0};
	_cleanup_change_ struct change *c = NULL, *gone = NULL;

	set_tags(WEB, "u", 1, "a");
	begin_own(&c, 2, "a=1", &none);
	assert_true(is_expected(STEP_WRITE, KIND_SPEC_JSON, ""));
	begin_own(&gone, 0, NULL, &own);
	assert_absent(stream);
	shown_end(tree, c);
	shown_end(tree, gone);
	assert_absent(stream);
	assert_null(shown_snapshot(tree, "shop", "web"));
	set_tags(WEB, "u", 3, "b");
	assert_list(path_of(KIND_TAGS, "shop", "web", ""), "b");
}

/* ---- a second change while the first one waits ---- */

/* The bytes of what the first changed are shown with the second; its event is still expected. */
static void test_own_on_waiting_bytes(void **state)
{
	struct place file = path_of(KIND_TAG_SPEC, "shop", "web", "a");
	struct place spec = path_of(KIND_SPEC_JSON, "shop", "web", "");
	struct change_own own = {.file = &file};
	_cleanup_change_ struct change *first = NULL, *second = NULL;
	_cleanup_view_ struct snapshot *v = NULL;

	set_tags(WEB, "u", 1, "a b");
	begin(&first, 2, "a=1 b=1 c");
	assert_steps(first, "~tags/a/spec.json ~tags/b/spec.json +tags/c ~spec.json "
			    "~imagestream.yaml ~imagestream.json");
	begin_own(&second, 3, "a=22 b=1 c", &own);
	assert_steps(
		second, "~tags/a/spec.json! ~spec.json! ~imagestream.yaml! ~imagestream.json!");
	assert_ptr_equal(second->old, first->next);
	v = shown_snapshot_at(tree, &spec);
	assert_ptr_equal(v, second->next);
	assert_int_equal(
		attr_of(file).size, attr_of(path_of(KIND_TAG_SPEC, "shop", "web", "b")).size + 2);
	assert_list(path_of(KIND_TAGS, "shop", "web", ""), "a b"); /* names wait */
	assert_true(is_expected(STEP_WRITE, KIND_SPEC_JSON, ""));
	assert_true(is_expected(STEP_WRITE, KIND_TAG_SPEC, "a"));
	assert_false(flip_at(first, "~spec.json")); /* shown already */
	assert_false(flip_at(first, "~tags/a/spec.json"));
	flip(first, "~tags/b/spec.json");
	flip(first, "+tags/c");
	assert_list(path_of(KIND_TAGS, "shop", "web", ""), "a b c");
	assert_true(is_expected(STEP_WRITE, KIND_SPEC_JSON, ""));
	shown_end(tree, first);
	shown_end(tree, second);
	assert_false(is_expected(STEP_WRITE, KIND_SPEC_JSON, ""));
	assert_false(is_expected(STEP_WRITE, KIND_TAG_SPEC, "a"));
	begin(&first, 0, NULL);
	flip_all(first);
	assert_absent(STREAM("shop", "web"));
}

/* Names of the first, and names of the second: each with its own flip. */
static void test_own_on_waiting_names(void **state)
{
	struct place tags = path_of(KIND_TAGS, "shop", "web", "");
	struct place mine = TAG("shop", "web", "mine");
	struct change_own own = {.tree = &mine};
	_cleanup_change_ struct change *first = NULL, *second = NULL, *third = NULL;

	set_tags(WEB, "u", 1, "a b");
	begin(&first, 2, "b c");
	assert_list(tags, "a b");
	begin_own(&second, 3, "c d mine", &own);
	assert_steps(second, "-tags/b/spec.json -tags/b +tags/d +tags/mine! ~spec.json! "
			     "~imagestream.yaml! ~imagestream.json!");
	assert_list(tags, "a b mine");
	own.removed = true;
	begin_own(&third, 4, "d", &own); /* gone again, and what was still coming, too */
	assert_steps(third, "-tags/c/spec.json -tags/c -tags/mine/spec.json! -tags/mine! "
			    "~spec.json! ~imagestream.yaml! ~imagestream.json!");
	assert_list(tags, "a b");
	assert_absent(mine);
	flip(first, "-tags/a/spec.json");
	flip(first, "-tags/a");
	assert_list(tags, "b");
	flip(first, "+tags/c"); /* it was there for a moment, and is so for whoever watches */
	assert_list(tags, "b c");
	flip(second, "-tags/b/spec.json");
	flip(second, "-tags/b");
	flip(second, "+tags/d");
	assert_list(tags, "c d");
	flip(third, "-tags/c/spec.json");
	flip(third, "-tags/c");
	assert_list(tags, "d");
}

/* The tag whose bytes wait is removed by the caller. */
static void test_own_removes_waiting(void **state)
{
	struct place tags = path_of(KIND_TAGS, "shop", "web", "");
	struct place tag = TAG("shop", "web", "a");
	struct change_own own = {.tree = &tag, .removed = true};
	_cleanup_change_ struct change *first = NULL, *second = NULL;

	set_tags(WEB, "u", 1, "a b");
	begin(&first, 2, "a=1+i b=1");
	begin_own(&second, 3, "b=1", &own);
	assert_absent(tag);
	assert_absent(path_of(KIND_TAG_SPEC, "shop", "web", "a"));
	assert_absent(path_of(KIND_TAG_IMAGE, "shop", "web", "a"));
	assert_list(tags, "b");
	for (size_t i = 0; i < first->nsteps; i++)
		shown_flip(tree, WEB, &first->steps[i]);
	assert_absent(tag);
	assert_absent(path_of(KIND_TAG_IMAGE, "shop", "web", "a"));
	assert_list(tags, "b");
}

/* The caller removes the stream while a change of it waits. */
static void test_own_removes_waiting_stream(void **state)
{
	struct place stream = STREAM("shop", "web");
	struct change_own own = {.tree = &stream, .removed = true};
	_cleanup_change_ struct change *first = NULL, *second = NULL, *third = NULL;

	set_tags(WEB, "u", 1, "a");
	begin(&first, 2, "a=1");
	begin_own(&second, 0, NULL, &own);
	assert_absent(stream);
	assert_absent(path_of(KIND_SPEC_JSON, "shop", "web", ""));
	assert_absent(TAG("shop", "web", "a"));
	assert_absent(path_of(KIND_TAG_SPEC, "shop", "web", "a"));
	own.removed = false; /* and makes it again */
	begin_uid(&third, "other", 9, "z", &own);
	assert_list(path_of(KIND_TAGS, "shop", "web", ""), "z");
	for (size_t i = 0; i < first->nsteps; i++)
		assert_false(shown_flip(tree, WEB, &first->steps[i]));
	shown_end(tree, first);
	assert_list(path_of(KIND_TAGS, "shop", "web", ""), "z");
	assert_list(NAMESPACE("shop"), "web");
}

/* ---- namespaces ---- */

static struct store_namespace server_namespace(const char *uid)
{
	struct store_namespace ns = {.created = 5};

	strcpy(ns.uid, uid);
	return ns;
}

static bool namespace_step(const char *name, struct step *ret)
{
	return shown_namespace_step(tree, name, ret);
}

static bool expects_namespace(const char *name, enum step_op op)
{
	struct place path = NAMESPACE(name);

	return shown_is_expected(tree, &path, op);
}

static void test_begin_namespace(void **state)
{
	struct store_namespace ns = server_namespace("n");
	struct step step;
	int64_t mtime = attr_of(ROOT).mtime;
	uint64_t ino;

	assert_false(namespace_step("shop", &step));
	shown_begin_namespace(tree, "shop", &ns);
	assert_root("");
	assert_absent(NAMESPACE("shop"));
	lookup(ROOT, "shop", KIND_COUNT);
	assert_true(namespace_step("shop", &step));
	assert_int_equal(step.op, STEP_CREATE);
	assert_int_equal(step.kind, KIND_NAMESPACE);
	assert_true(step.waits);
	assert_true(expects_namespace("shop", STEP_CREATE));
	assert_false(expects_namespace("shop", STEP_DELETE));
	assert_false(expects_namespace("lab", STEP_CREATE));
	assert_int_equal(attr_of(ROOT).mtime, mtime);
	assert_true(shown_flip(tree, "shop", &step));
	assert_false(shown_flip(tree, "shop", &step));
	assert_false(expects_namespace("shop", STEP_CREATE));
	assert_false(namespace_step("shop", &step));
	assert_root("shop");
	ino = attr_of(NAMESPACE("shop")).ino;
	assert_true(step.place == ino);
	assert_true(attr_of(ROOT).mtime > mtime);
	mtime = attr_of(ROOT).mtime;

	shown_begin_namespace(tree, "shop", &ns);
	assert_false(namespace_step("shop", &step));
	shown_begin_namespace(tree, "shop", NULL);
	assert_root("shop");
	assert_int_equal(attr_of(ROOT).mtime, mtime);
	assert_true(namespace_step("shop", &step));
	assert_int_equal(step.op, STEP_DELETE);
	assert_true(step.place == ino);
	assert_true(expects_namespace("shop", STEP_DELETE));
	assert_true(shown_flip(tree, "shop", &step));
	assert_false(shown_flip(tree, "shop", &step));
	assert_root("");
	assert_absent(NAMESPACE("shop"));
	assert_true(attr_of(ROOT).mtime > mtime);
}

/* Back, or gone, before it was shown so: nothing is left to be shown. */
static void test_begin_namespace_twice(void **state)
{
	struct store_namespace ns = server_namespace("n");
	struct step step;

	shown_begin_namespace(tree, "shop", &ns);
	assert_true(namespace_step("shop", &step));
	shown_begin_namespace(tree, "shop", NULL);
	assert_false(shown_flip(tree, "shop", &step));
	assert_root("");
	set_namespace(tree, "shop", &ns);
	shown_begin_namespace(tree, "shop", NULL);
	assert_true(namespace_step("shop", &step));
	shown_begin_namespace(tree, "shop", &ns);
	assert_false(namespace_step("shop", &step));
	assert_false(shown_flip(tree, "shop", &step));
	assert_root("shop");
}

/* Not listed: it comes with the first stream that is shown, and goes after the last one. */
static void test_namespace_step_by_streams(void **state)
{
	_cleanup_change_ struct change *c = NULL;
	struct step step;

	begin(&c, 1, "");
	assert_false(namespace_step("shop", &step));
	flip_all(c);
	assert_true(namespace_step("shop", &step));
	assert_int_equal(step.op, STEP_CREATE);
	assert_root("");
	assert_absent(NAMESPACE("shop"));
	assert_true(shown_flip(tree, "shop", &step));
	assert_root("shop");
	begin(&c, 0, NULL);
	assert_false(namespace_step("shop", &step));
	flip_all(c);
	assert_true(namespace_step("shop", &step));
	assert_int_equal(step.op, STEP_DELETE);
	assert_root("shop");
	assert_list(NAMESPACE("shop"), "");
	assert_true(shown_flip(tree, "shop", &step));
	assert_root("");
}

/* The server lists it no more while it has streams: it goes after them. */
static void test_namespace_step_after_streams(void **state)
{
	_cleanup_change_ struct change *c = NULL;
	struct store_namespace ns = server_namespace("n");
	struct step step;

	set_namespace(tree, "shop", &ns);
	set(WEB, "u", 1);
	shown_begin_namespace(tree, "shop", NULL);
	assert_false(namespace_step("shop", &step));
	begin(&c, 0, NULL);
	assert_false(namespace_step("shop", &step));
	flip_all(c);
	assert_root("shop");
	assert_true(namespace_step("shop", &step));
	assert_true(shown_flip(tree, "shop", &step));
	assert_root("");
}

/* Found by name, it is there before it is listed. */
static void test_begin_namespace_named(void **state)
{
	struct store_namespace ns = server_namespace("n");
	struct step step;

	shown_add_named(tree, "shop");
	assert_false(namespace_step("shop", &step));
	shown_begin_namespace(tree, "shop", &ns);
	assert_root("");
	lookup(ROOT, "shop", KIND_NAMESPACE);
	assert_true(namespace_step("shop", &step));
	assert_int_equal(step.op, STEP_CREATE);
	assert_true(step.place == attr_of(NAMESPACE("shop")).ino);
	assert_true(shown_flip(tree, "shop", &step));
	assert_root("shop");
}

/* ---- whatever changes, in whatever order it is flipped ---- */

static bool is_file(enum kind kind)
{
	return !layout_is_directory(kind);
}

/* Each place shows the old snapshot until its own step, or that of the directory it comes with. */
static void assert_place(
	const struct change *c, const bool *flipped, enum kind kind, const char *tag)
{
	struct place path = path_of(kind, "shop", "web", tag);
	struct snapshot *snapshot = c->next;
	struct layout_attr expected, attr;
	int r;

	for (size_t i = 0; i < c->nsteps; i++) {
		const struct step *step = &c->steps[i];
		bool same = streq(step_tag(step), tag) || kind < KIND_TAG;
		bool comes = step->op == STEP_CREATE &&
			     (step->kind == KIND_STREAM || (step->kind == KIND_TAG && same));

		if ((step->kind == kind && same) || (comes && kind > step->kind))
			snapshot = step->waits && !flipped[i] ? c->old : c->next;
	}
	r = snapshot ? snapshot_attr(snapshot, kind, tag, &expected) : -ENOENT;
	assert_int_equal(shown_attr(tree, &path, &attr), r);
	if (r == 0 && is_file(kind))
		assert_same(&attr, &expected);
	else if (r == 0)
		assert_true(attr.ino == expected.ino);
}

static bool count_tag(void *arg, const char *name, uint64_t cookie, const struct place *path,
	const struct layout_attr *attr)
{
	((unsigned *)arg)[name[0] - 'a']++;
	return false;
}

#define LETTERS 5

static void assert_all_places(const struct change *c, const bool *flipped)
{
	struct place tags = path_of(KIND_TAGS, "shop", "web", "");
	_cleanup_free_ char *text = dump(NAMESPACE("shop"));
	unsigned listed[LETTERS] = {0};
	struct layout_attr attr;
	bool there = shown_attr(tree, &tags, &attr) == 0;

	for (enum kind kind = KIND_STREAM; kind <= KIND_TAGS; kind++)
		assert_place(c, flipped, kind, "");
	if (there)
		assert_int_equal(shown_list(tree, &tags, 0, count_tag, listed), 0);
	for (int i = 0; i < LETTERS; i++) {
		char tag[2] = {'a' + i};
		struct place path = path_of(KIND_TAG, "shop", "web", tag);

		for (enum kind kind = KIND_TAG; kind <= KIND_TAG_IMAGE; kind++)
			assert_place(c, flipped, kind, tag);
		if (there)
			assert_int_equal(listed[i], shown_attr(tree, &path, &attr) == 0);
	}
}

static char *random_tags(uint64_t *seed)
{
	static const char *const words[] = {"", "", "%c ", "%c=1 ", "%c=2+ ", "%c+i ", "%c=1+ii "};
	_cleanup_buf_ struct buf out = BUF_INIT(256);

	for (int i = 0; i < LETTERS; i++) {
		const char *word = words[draw(seed) % ARRAY_SIZE(words)];
		char text[16];

		snprintf(text, sizeof(text), word, 'a' + i);
		buf_addstr(&out, text);
	}
	return xstrndup(out.data ? out.data : "", out.len);
}

static void test_any_change(void **state)
{
	struct place file = path_of(KIND_TAG_SPEC, "shop", "web", "a");
	struct place tag = TAG("shop", "web", "b");
	const struct change_own owns[] = {{0}, {.file = &file}, {.tree = &tag}};
	_cleanup_change_ struct change *c = NULL;
	uint64_t seed = 4;

	for (int version = 1; version <= 300; version++) {
		_cleanup_free_ char *tags = random_tags(&seed);
		size_t own = draw(&seed) % 6;
		bool flipped[64] = {0}, gone = version % 20 == 0;

		begin_own(&c, version, gone ? NULL : tags,
			own < ARRAY_SIZE(owns) ? &owns[own] : NULL);
		assert_true(c->nsteps <= ARRAY_SIZE(flipped));
		assert_all_places(c, flipped);
		for (size_t n = 0; n < c->nsteps; n++) {
			size_t i = draw(&seed) % c->nsteps;

			while (flipped[i])
				i = (i + 1) % c->nsteps;
			flipped[i] = true;
			assert_int_equal(shown_flip(tree, WEB, &c->steps[i]), c->steps[i].waits);
			assert_all_places(c, flipped);
		}
		shown_end(tree, c);
	}
}

/* Each place of the stream, directories and files. */
static void all_inos(uint64_t ret[KIND_TAG_IMAGE + 1])
{
	for (enum kind kind = KIND_STREAM; kind <= KIND_TAG_IMAGE; kind++)
		ret[kind] = attr_of(path_of(kind, "shop", "web", kind < KIND_TAG ? "" : "v1")).ino;
}

/*
 * What went and comes back with its uid is another inode, each time; and what never went is the
 * same.
 */
static void test_return(void **state)
{
	uint64_t first[KIND_TAG_IMAGE + 1], seen[4][KIND_TAG_IMAGE + 1], other;

	set_tags("shop/api", "u2", 1, "v1");
	set_tags("shop/web", "u1", 1, "v1^x+i");
	other = attr_of(STREAM("shop", "api")).ino;
	all_inos(first);
	for (int i = 0; i < 4; i++) {
		assert_true(set_tags("shop/web", "u1", 10 * i + 2, "v1^x+i"));
		all_inos(seen[i]);
		assert_true(i || seen[i][KIND_STREAM] == first[KIND_STREAM]);
		for (int k = 0; k < i; k++)
			for (enum kind kind = KIND_STREAM; kind <= KIND_TAG_IMAGE; kind++)
				assert_true(seen[k][kind] != seen[i][kind]);
		assert_true(del("shop/web"));
		assert_true(set_tags("shop/web", "u1", 10 * i + 3, "v1^x+i"));
		assert_true(del("shop/web"));
		assert_true(set_tags("shop/web", "u1", 10 * i + 3, "v1^x+i"));
	}
	assert_true(attr_of(STREAM("shop", "api")).ino == other);
}

static void test_return_of_a_namespace(void **state)
{
	uint64_t first, second;

	list_namespace("shop", "u1", 1);
	first = attr_of(NAMESPACE("shop")).ino;
	set_namespace(tree, "shop", NULL);
	list_namespace("shop", "u1", 1);
	second = attr_of(NAMESPACE("shop")).ino;
	assert_true(second != first);
	list_namespace("shop", "u1", 1);
	assert_true(attr_of(NAMESPACE("shop")).ino == second);
	set_namespace(tree, "shop", NULL);
	shown_add_named(tree, "shop"); /* found by name now */
	assert_true(attr_of(NAMESPACE("shop")).ino != first);
	assert_true(attr_of(NAMESPACE("shop")).ino != second);
}

/* More than are remembered: all that comes is another inode from then on. */
static void test_return_of_many(void **state)
{
	uint64_t first;
	char uid[32];

	set("shop/web", "first", 1);
	first = attr_of(STREAM("shop", "web")).ino;
	del("shop/web");
	for (int i = 0; i < 17000; i++) {
		sprintf(uid, "uid-%d", i);
		set("shop/other", uid, 1);
		del("shop/other");
	}
	set("shop/web", "first", 1);
	assert_true(attr_of(STREAM("shop", "web")).ino != first);
	first = attr_of(STREAM("shop", "web")).ino;
	del("shop/web");
	set("shop/web", "first", 1);
	assert_true(attr_of(STREAM("shop", "web")).ino != first);
}

/* tags/ with very many that go: the listing goes on where it stopped. */
static bool count_names(void *arg, const char *name, uint64_t cookie, const struct place *path,
	const struct layout_attr *attr)
{
	size_t *left = arg;

	left[0]--;
	left[1] = cookie;
	left[2]++;
	return left[0] == 0;
}

static void test_list_many_that_go(void **state)
{
	_cleanup_buf_ struct buf names = BUF_INIT(SIZE_MAX);
	_cleanup_change_ struct change *c = NULL;
	size_t left[3] = {0};
	struct object *none, *all;
	struct place tags = TAGS_OF_WEB;

	for (int i = 0; i < 1000; i++)
		buf_addf(&names, "%s%c%03d", i ? " " : "", i % 2 ? 'a' : 'b', i);
	all = make("shop/web", "u1", 1, OLD, names.data);
	none = make("shop/web", "u1", 2, OLD, "b500 new");
	set_object("shop/web", all);
	c = shown_begin(tree, "shop/web", none, NULL);
	assert_non_null(c);
	do { /* a few at a time */
		left[0] = 7;
		shown_list(tree, &tags, left[1], count_names, left);
	} while (left[0] == 0);
	assert_int_equal(left[2], 1000);
	for (size_t i = 0; i < c->nsteps; i++)
		shown_flip(tree, "shop/web", &c->steps[i]);
	assert_list(TAGS_OF_WEB, "b500 new");
	object_unref(all);
	object_unref(none);
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
		TEST(test_begin_created),
		TEST(test_begin_nothing),
		TEST(test_begin_deleted),
		TEST(test_begin_content),
		TEST(test_begin_tags),
		TEST(test_begin_tag_files),
		TEST(test_namespace_step_twice),
		TEST(test_begin_again),
		TEST(test_begin_again_at_once),
		TEST(test_flip_moves_namespace),
		TEST(test_flip_nothing),
		TEST(test_flip_unknown),
		TEST(test_own_file),
		TEST(test_own_file_comes),
		TEST(test_own_nothing),
		TEST(test_own_tag),
		TEST(test_own_stream),
		TEST(test_own_tag_again),
		TEST(test_own_stream_again),
		TEST(test_own_tag_on_waiting),
		TEST(test_own_again),
		TEST(test_expected),
		TEST(test_expected_bytes),
		TEST(test_show),
		TEST(test_expected_gone),
		TEST(test_own_on_waiting_bytes),
		TEST(test_own_on_waiting_names),
		TEST(test_own_removes_waiting),
		TEST(test_own_removes_waiting_stream),
		TEST(test_begin_namespace),
		TEST(test_begin_namespace_twice),
		TEST(test_namespace_step_by_streams),
		TEST(test_namespace_step_after_streams),
		TEST(test_begin_namespace_named),
		TEST(test_any_change),
		TEST(test_return),
		TEST(test_return_of_a_namespace),
		TEST(test_return_of_many),
		TEST(test_list_many_that_go),
	};

	return cmocka_run_group_tests_name("shown", tests, NULL, NULL);
}
