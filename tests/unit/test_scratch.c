/* Scratch: names, limits, renames, what is unlinked and held, listings, times. */
#include "client/clock.h"
#include "fs/tree/handle.h"
#include "fs/tree/scratch.h"
#include "tests/unit/clock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define DIR_A 100
#define DIR_B 200

static struct inode_table *s;
static const struct place dir_path = {KIND_STREAM, "shop", "web", ""};
static const struct place spec = {KIND_SPEC_JSON, "shop", "web", ""};

static int setup(void **state)
{
	clock_moved = clock_frozen = 0;
	s = inode_table_new();
	return 0;
}

static int teardown(void **state)
{
	inode_table_free(s);
	return 0;
}

/* With a reference for the caller. */
static struct inode *make(uint64_t dir, const char *name, mode_t mode, const char *data)
{
	struct scratch_init init = {.mode = mode, .data = data, .len = data ? strlen(data) : 0};
	struct inode *n = NULL;

	if (S_ISLNK(mode)) {
		init.target = data;
		init.data = NULL;
		init.len = 0;
	}
	assert_int_equal(scratch_create(s, dir, &dir_path, name, &init, &n), 0);
	return n;
}

/* Returns its st_ino. */
static uint64_t add(uint64_t dir, const char *name, mode_t mode, const char *data)
{
	_cleanup_inode_ struct inode *n = make(dir, name, mode, data);

	return scratch_ino(n);
}

#define FILE_MODE (S_IFREG | 0644)
#define DIR_MODE  (S_IFDIR | 0755)
#define LINK_MODE (S_IFLNK | 0777)

static struct stat stat_of(struct inode *n)
{
	struct stat st;

	scratch_stat(s, n, &st);
	return st;
}

static int64_t ns(struct timespec t)
{
	return t.tv_sec * NSEC_PER_SEC + t.tv_nsec;
}

static void assert_text(struct inode *n, const char *expected)
{
	size_t len;
	_cleanup_free_ char *data = scratch_read(s, n, 0, 1 << 20, &len);

	assert_int_equal(len, strlen(expected));
	assert_memory_equal(data, expected, len);
}

/* The node of the name has that st_ino; 0: nothing has the name. */
static void assert_name(uint64_t dir, const char *name, uint64_t ino)
{
	_cleanup_inode_ struct inode *n = scratch_lookup(s, dir, name);

	assert_true((n ? scratch_ino(n) : 0) == ino);
}

static void assert_usage(size_t bytes, size_t nodes)
{
	size_t now_bytes, now_nodes;

	scratch_usage(s, &now_bytes, &now_nodes);
	assert_int_equal(now_bytes, bytes);
	assert_int_equal(now_nodes, nodes);
}

struct listing {
	char names[1024];
	uint64_t cookies[64];
	struct stat stats[64];
	size_t count, max; /* 0: all */
};

static bool add_listed(
	void *arg, const char *name, uint64_t cookie, enum kind kind, const struct stat *st)
{
	struct listing *l = arg;

	strcat(strcat(l->names, l->count ? " " : ""), name);
	l->stats[l->count] = *st;
	l->cookies[l->count++] = cookie;
	return l->count == l->max;
}

static void assert_list(uint64_t dir, const char *expected)
{
	struct listing l = {0};

	scratch_list(s, dir, 0, add_listed, &l);
	assert_string_equal(l.names, expected);
}

static void assert_dir(uint64_t dir, int64_t mtime, unsigned subdirs)
{
	unsigned n = 99;

	assert_int_equal(scratch_dir_mtime(s, dir, &n), mtime);
	assert_int_equal(n, subdirs);
}

static void test_create(void **state)
{
	struct scratch_init init = {.mode = S_IFREG | 0640,
		.uid = 7,
		.gid = 8,
		.data = "abc",
		.len = 3,
		.moved_from = 5};
	_cleanup_inode_ struct inode *n = NULL, *again = NULL, *found = NULL, *got = NULL;
	int64_t before = now_realtime();
	struct stat st;

	assert_int_equal(scratch_create(s, DIR_A, &dir_path, "x", &init, &n), 0);
	st = stat_of(n);
	assert_true(st.st_ino == scratch_ino(n) && st.st_ino > 1);
	assert_int_equal(st.st_mode, S_IFREG | 0640);
	assert_int_equal(st.st_uid, 7);
	assert_int_equal(st.st_gid, 8);
	assert_int_equal(st.st_nlink, 1);
	assert_int_equal(st.st_size, 3);
	assert_int_equal(st.st_blocks, 1);
	assert_true(ns(st.st_mtim) >= before && ns(st.st_mtim) <= now_realtime());
	assert_true(ns(st.st_atim) >= before && ns(st.st_ctim) >= before);
	assert_text(n, "abc");
	assert_null(scratch_target(n));
	assert_null(scratch_version(n));
	assert_int_equal(scratch_moved_from(s, n), 5);
	found = scratch_lookup(s, DIR_A, "x");
	got = scratch_get(s, scratch_ino(n));
	assert_ptr_equal(found, n);
	assert_ptr_equal(got, n);
	assert_null(scratch_get(s, scratch_ino(n) + 1));
	assert_name(DIR_B, "x", 0);
	assert_name(DIR_A, "y", 0);
	assert_int_equal(scratch_create(s, DIR_A, &dir_path, "x", &init, &again), -EEXIST);
	assert_null(again);
	assert_usage(3, 1);
	assert_int_equal(scratch_create(s, DIR_B, &dir_path, "x", &init, &again), 0);
	assert_true(scratch_ino(again) != scratch_ino(n));
	assert_usage(6, 2);
}

/* A time that it had; the version is referenced; a link says where it leads. */
static void test_create_with(void **state)
{
	_cleanup_json_ json_t *json = json_pack("{s:{s:s, s:s, s:s, s:s}}", "metadata", "namespace",
		"shop", "name", "web", "uid", "u", "resourceVersion", "1");
	_cleanup_object_ struct object *o = NULL;
	struct scratch_init init = {.mode = FILE_MODE, .mtime = 77};
	uint64_t ino;
	struct inode *n;
	_cleanup_inode_ struct inode *link = make(DIR_A, "l", LINK_MODE, "to/there");

	assert_int_equal(object_from_json(json, "v1", &o), 0);
	init.version = o;
	assert_int_equal(scratch_create(s, DIR_A, &dir_path, "x", &init, &n), 0);
	ino = scratch_ino(n);
	assert_int_equal(ns(stat_of(n).st_mtim), 77);
	assert_ptr_equal(scratch_version(n), o);
	assert_int_equal(atomic_load(&o->refs), 2);
	assert_int_equal(scratch_unlink(s, DIR_A, "x", false), 0);
	assert_int_equal(atomic_load(&o->refs), 2);
	inode_unpin(n);
	assert_int_equal(atomic_load(&o->refs), 1);
	assert_null(scratch_get(s, ino));
	assert_string_equal(scratch_target(link), "to/there");
	assert_int_equal(stat_of(link).st_size, 8);
	assert_true(S_ISLNK(stat_of(link).st_mode));
	inode_unpin(NULL);
}

static void test_without_name(void **state)
{
	struct inode *n = make(0, "x", FILE_MODE, "abc");

	assert_name(0, "x", 0);
	assert_list(0, "");
	assert_int_equal(stat_of(n).st_nlink, 0);
	assert_text(n, "abc");
	assert_usage(3, 1);
	inode_unpin(n);
	assert_usage(0, 0);
}

static void test_put(void **state)
{
	struct scratch_init init = {.mode = FILE_MODE, .data = "new!", .len = 4};
	_cleanup_inode_ struct inode *held = make(DIR_A, "x", FILE_MODE, "old"), *now = NULL;

	add(DIR_A, "y", FILE_MODE, "");
	scratch_put(s, DIR_A, &spec, "x", &init);
	now = scratch_lookup(s, DIR_A, "x");
	assert_true(now != held);
	assert_text(now, "new!");
	assert_int_equal(stat_of(now).st_nlink, 1);
	assert_text(held, "old");
	assert_int_equal(stat_of(held).st_nlink, 0);
	assert_usage(7, 3);
	scratch_put(s, DIR_A, &spec, "y", &init); /* nobody holds the old one */
	assert_usage(11, 3);
	scratch_put(s, DIR_A, &spec, "z", &init);
	assert_list(DIR_A, "x y z");
	inode_unpin(steal_ptr(held));
	assert_usage(12, 3);
}

/* ---- between the server's tree and scratch ---- */

#define PLACE 1000

static int leave(uint64_t ino, uint64_t first, uint64_t dir, const char *name, struct inode **ret)
{
	struct scratch_to to = {{.mode = FILE_MODE, .data = "text", .len = 4, .moved_from = first}};

	to.dir = dir;
	to.name = name;
	return scratch_leave(s, ino, first, &spec, &to, ret);
}

static bool is_hidden(uint64_t first)
{
	bool hidden;

	inode_at(s, first, &hidden);
	return hidden;
}

/* Renamed away: with its st_ino and its id, in place of what has the name; the real name is hidden. */
static void test_leave(void **state)
{
	uint64_t id = inode_lookup(s, &spec, PLACE), dir = add(DIR_A, "d", DIR_MODE, NULL);
	_cleanup_inode_ struct inode *n = NULL, *old = make(DIR_A, "x", FILE_MODE, "old"),
				     *no = NULL;
	struct place path;
	uint64_t ino;

	assert_int_equal(leave(PLACE, PLACE, DIR_A, "d", &no), -EISDIR);
	assert_name(DIR_A, "d", dir);
	assert_false(is_hidden(PLACE));
	assert_int_equal(leave(PLACE, PLACE, DIR_A, "x", &n), 0);
	assert_true(scratch_ino(n) == PLACE);
	assert_name(DIR_A, "x", PLACE);
	assert_true(is_hidden(PLACE));
	assert_true(inode_get(s, id, &path, &ino));
	assert_int_equal(path.kind, KIND_SCRATCH);
	assert_true(inode_id(s, PLACE) == id);
	assert_text(n, "text");
	assert_int_equal(stat_of(n).st_nlink, 1);
	assert_int_equal(stat_of(old).st_nlink, 0);
	assert_text(old, "old");
	assert_int_equal(leave(PLACE, PLACE, DIR_A, "y", &no), -ENOENT); /* it has left already */
	assert_null(no);
	inode_unpin(steal_ptr(old));
	assert_usage(4, 2);
}

/* Unlinked while somebody has it open: it has no name, and isn't held to the limits. */
static void test_leave_without_name(void **state)
{
	struct inode *n = NULL;

	assert_int_equal(leave(PLACE, PLACE, 0, "", &n), 0);
	assert_int_equal(stat_of(n).st_nlink, 0);
	assert_true(is_hidden(PLACE));
	inode_unpin(n);
	assert_usage(0, 0);
	assert_null(scratch_get(s, PLACE));
}

/* What was begun and isn't saved can be renamed, too; nothing is hidden then. */
static void test_leave_pending(void **state)
{
	struct place begun = {KIND_TAG_SPEC, "shop", "web", "v1"};
	_cleanup_inode_ struct inode *n = NULL;
	struct scratch_to to = {{.mode = FILE_MODE}, DIR_B, "x"};
	uint64_t ino = inode_begin(s, DIR_B, &begun);

	assert_list(DIR_B, "spec.json");
	assert_int_equal(scratch_leave(s, ino, 0, &begun, &to, &n), 0);
	assert_list(DIR_B, "x");
	assert_int_equal(inode_pending(s, DIR_B, KIND_TAG_SPEC), 0);
	assert_true(scratch_ino(n) == ino);
}

static void test_names_limit(void **state)
{
	struct scratch_init init = {.mode = FILE_MODE};
	struct inode *n = NULL;
	char name[16];

	for (int i = 0; i < SCRATCH_NAMES_MAX; i++) {
		sprintf(name, "%d", i);
		add(i % 2 ? DIR_A : DIR_B, name, LINK_MODE, "x");
	}
	assert_int_equal(scratch_create(s, DIR_A, &dir_path, "more", &init, &n), -ENOSPC);
	assert_int_equal(leave(PLACE, PLACE, DIR_A, "more", &n), -ENOSPC);
	assert_false(is_hidden(PLACE));
	assert_int_equal(leave(PLACE, PLACE, DIR_A, "1", &n), 0); /* in place of one */
	inode_unpin(n);
	scratch_put(s, DIR_A, &spec, "put", &init); /* what the program leaves there */
	assert_int_equal(scratch_unlink(s, DIR_A, "put", false), 0);
	assert_int_equal(scratch_unlink(s, DIR_A, "1", false), 0);
	assert_int_equal(scratch_create(s, DIR_A, &dir_path, "more", &init, &n), 0);
	inode_unpin(n);
}

static void test_unlink(void **state)
{
	static const struct {
		const char *name;
		bool directory;
		int r;
	} rows[] = {
		{"none", false, -ENOENT},
		{"none", true, -ENOENT},
		{"file", true, -ENOTDIR},
		{"link", true, -ENOTDIR},
		{"empty", false, -EISDIR},
		{"full", false, -EISDIR},
		{"full", true, -ENOTEMPTY},
		{"file", false, 0},
		{"file", false, -ENOENT},
		{"link", false, 0},
		{"empty", true, 0},
		{"empty", true, -ENOENT},
	};
	uint64_t full = add(DIR_A, "full", DIR_MODE, NULL);

	add(full, "inside", FILE_MODE, "");
	add(DIR_A, "file", FILE_MODE, "abc");
	add(DIR_A, "link", LINK_MODE, "abc");
	add(DIR_A, "empty", DIR_MODE, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(
			scratch_unlink(s, DIR_A, rows[i].name, rows[i].directory), rows[i].r);
	assert_list(DIR_A, "full");
	assert_usage(0, 2);
	assert_int_equal(scratch_unlink(s, full, "inside", false), 0);
	assert_int_equal(scratch_unlink(s, DIR_A, "full", true), 0);
	assert_usage(0, 0);
}

/* Unlinked and still open: it reads and writes, counts, and goes with its last holder. */
static void test_unlinked_and_held(void **state)
{
	struct inode *n = make(DIR_A, "x", FILE_MODE, "abc"), *more = inode_pin(n);
	_cleanup_inode_ struct inode *got = NULL;

	assert_int_equal(scratch_unlink(s, DIR_A, "x", false), 0);
	assert_int_equal(stat_of(n).st_nlink, 0);
	assert_int_equal(scratch_write(s, n, "defg", 4, 3, false), 0);
	assert_text(n, "abcdefg");
	add(DIR_A, "x", FILE_MODE, "1");
	assert_usage(8, 2);
	got = scratch_get(s, scratch_ino(n));
	assert_ptr_equal(got, n);
	inode_unpin(steal_ptr(got));
	inode_unpin(n);
	assert_text(more, "abcdefg");
	inode_unpin(more);
	assert_usage(1, 1);
}

/* The kernel may know of it for longer: its bytes take no room then. */
static void test_unlinked_and_known(void **state)
{
	struct place path = {.kind = KIND_SCRATCH};
	uint64_t ino = add(DIR_A, "x", FILE_MODE, "abc"), id = inode_lookup(s, &path, ino), found;

	assert_int_equal(scratch_unlink(s, DIR_A, "x", false), 0);
	assert_usage(0, 0);
	assert_null(scratch_get(s, ino));
	assert_int_equal(inode_id(s, ino), 0);
	assert_true(inode_get(s, id, &path, &found) && found == ino);
	inode_forget(s, id, 1);
	assert_false(inode_get(s, id, &path, &found));
}

#define MIB ((size_t)1 << 20)

static void test_file_limit(void **state)
{
	static const struct {
		uint64_t offset;
		size_t len;
	} rows[] = {{SCRATCH_FILE_MAX, 1}, {SCRATCH_FILE_MAX - 1, 2}, {SCRATCH_FILE_MAX + 1, 1},
		{UINT64_MAX, 1}, {UINT64_MAX - 1, 3}, {INT64_MAX, 1}, {0, SCRATCH_FILE_MAX + 1}};
	_cleanup_free_ char *data = xcalloc(SCRATCH_FILE_MAX + 1, 1);
	_cleanup_inode_ struct inode *n = make(DIR_A, "x", FILE_MODE, "abc");
	struct stat before = stat_of(n), after;

	assert_int_equal(SCRATCH_FILE_MAX, 4 * MIB);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(
			scratch_write(s, n, data, rows[i].len, rows[i].offset, false), -EFBIG);
	assert_int_equal(scratch_truncate(s, n, SCRATCH_FILE_MAX + 1), -EFBIG);
	assert_int_equal(scratch_truncate(s, n, UINT64_MAX), -EFBIG);
	after = stat_of(n);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_text(n, "abc");
	assert_int_equal(scratch_write(s, n, "z", 1, SCRATCH_FILE_MAX - 1, false), 0);
	assert_int_equal(stat_of(n).st_size, SCRATCH_FILE_MAX);
	assert_int_equal(scratch_write(s, n, "z", 1, 0, true), -EFBIG);
	assert_int_equal(scratch_truncate(s, n, 0), 0);
	assert_int_equal(scratch_write(s, n, data, SCRATCH_FILE_MAX, 0, true), 0);
	assert_int_equal(scratch_truncate(s, n, SCRATCH_FILE_MAX), 0);
	assert_usage(SCRATCH_FILE_MAX, 1);
}

static void test_total_limit(void **state)
{
	struct scratch_init init = {.mode = FILE_MODE, .data = "a", .len = 1};
	struct inode *held, *last;
	_cleanup_inode_ struct inode *refused = NULL;
	char name[16];

	assert_int_equal(SCRATCH_TOTAL_MAX, 64 * MIB);
	for (int i = 0; i < 16; i++) {
		_cleanup_inode_ struct inode *n = NULL;

		sprintf(name, "%d", i);
		n = make(DIR_A, name, FILE_MODE, NULL);
		assert_int_equal(scratch_truncate(s, n, SCRATCH_FILE_MAX), 0);
	}
	last = make(DIR_A, "last", FILE_MODE, NULL);
	held = scratch_lookup(s, DIR_A, "3");
	assert_int_equal(scratch_write(s, last, "a", 1, 0, false), -ENOSPC);
	assert_int_equal(scratch_truncate(s, last, 1), -ENOSPC);
	assert_int_equal(scratch_create(s, DIR_A, &dir_path, "more", &init, &refused), -ENOSPC);
	assert_null(refused);
	assert_name(DIR_A, "more", 0);
	assert_int_equal(stat_of(last).st_size, 0);
	assert_int_equal(scratch_write(s, held, "a", 1, 7, false), 0); /* no more than before */
	init.past_limit = true;					       /* what the program keeps */
	assert_int_equal(scratch_create(s, DIR_A, &dir_path, "kept", &init, &refused), 0);
	inode_unpin(steal_ptr(refused));
	assert_usage(SCRATCH_TOTAL_MAX + 1, 18);
	assert_int_equal(scratch_unlink(s, DIR_A, "kept", false), 0);
	init.past_limit = false;
	scratch_put(s, DIR_A, &spec, "put", &init);
	assert_usage(SCRATCH_TOTAL_MAX + 1, 18);
	assert_int_equal(scratch_unlink(s, DIR_A, "put", false), 0);

	assert_int_equal(scratch_unlink(s, DIR_A, "3", false), 0);
	assert_int_equal(scratch_write(s, last, "a", 1, 0, false), -ENOSPC); /* it lives on */
	assert_int_equal(scratch_truncate(s, held, SCRATCH_FILE_MAX - 2), 0);
	assert_int_equal(scratch_write(s, last, "abc", 3, 0, false), -ENOSPC);
	assert_int_equal(scratch_write(s, last, "a", 1, 0, false), 0);
	assert_int_equal(scratch_create(s, DIR_A, &dir_path, "more", &init, &refused), 0);
	assert_int_equal(scratch_write(s, last, "a", 1, 0, true), -ENOSPC);
	assert_usage(SCRATCH_TOTAL_MAX, 18);
	inode_unpin(held);
	assert_usage(SCRATCH_TOTAL_MAX - SCRATCH_FILE_MAX + 2, 17);
	assert_int_equal(scratch_truncate(s, last, SCRATCH_FILE_MAX - 1), 0);
	inode_unpin(last);
}

static void test_write(void **state)
{
	_cleanup_inode_ struct inode *n = make(DIR_A, "x", FILE_MODE, "abcdef");
	_cleanup_free_ char *data = NULL, *none = NULL, *part = NULL;
	size_t len;

	assert_int_equal(scratch_write(s, n, "XY", 2, 2, false), 0);
	assert_text(n, "abXYef");
	assert_int_equal(scratch_write(s, n, "g", 1, 0, true), 0);
	assert_text(n, "abXYefg");
	assert_int_equal(scratch_truncate(s, n, 2), 0);
	assert_int_equal(scratch_truncate(s, n, 4), 0); /* nothing of what was there before */
	assert_int_equal(scratch_write(s, n, "z", 1, 6, false), 0);
	data = scratch_read(s, n, 0, 100, &len);
	assert_int_equal(len, 7);
	assert_memory_equal(data, "ab\0\0\0\0z", 7);
	none = scratch_read(s, n, 8, 1, &len);
	assert_int_equal(len, 0);
	part = scratch_read(s, n, 5, 1, &len);
	assert_int_equal(len, 1);
	assert_memory_equal(part, "\0", 1);
	free(steal_ptr(part));
	part = scratch_read(s, n, 6, SIZE_MAX, &len);
	assert_int_equal(len, 1);
	assert_memory_equal(part, "z", 1);
}

/* ---- rename ---- */

enum what { NOTHING, REGULAR, LINK, EMPTY, FULL, WHATS };

static uint64_t make_what(uint64_t dir, const char *name, enum what what)
{
	static const mode_t modes[WHATS] = {0, FILE_MODE, LINK_MODE, DIR_MODE, DIR_MODE};
	uint64_t ino =
		what == NOTHING ? 0 : add(dir, name, modes[what], what < EMPTY ? name : NULL);

	if (what >= EMPTY)
		add(ino, "inside", FILE_MODE, "");
	if (what == EMPTY)
		assert_int_equal(scratch_unlink(s, ino, "inside", false), 0);
	return ino;
}

/* rename(2), for each pair of kinds. */
static int expected_rename(enum what from, enum what to, bool noreplace)
{
	if (from == NOTHING)
		return -ENOENT;
	if (to == NOTHING)
		return 0;
	if (noreplace)
		return -EEXIST;
	if (from < EMPTY)
		return to < EMPTY ? 0 : -EISDIR;
	if (to < EMPTY)
		return -ENOTDIR;
	return to == FULL ? -ENOTEMPTY : 0;
}

static void rename_case(
	enum what from, enum what to, uint64_t to_dir, bool to_first, bool noreplace)
{
	uint64_t from_ino = 0, to_ino = 0;
	size_t before, after, bytes;
	int r = expected_rename(from, to, noreplace);

	setup(NULL);
	if (to_first)
		to_ino = make_what(to_dir, "to", to);
	from_ino = make_what(DIR_A, "from", from);
	if (!to_first)
		to_ino = make_what(to_dir, "to", to);
	add(DIR_A, "other", FILE_MODE, "");
	scratch_usage(s, &bytes, &before);
	assert_int_equal(scratch_rename(s, DIR_A, "from", to_dir, &dir_path, "to", noreplace), r);
	assert_name(DIR_A, "from", r < 0 ? from_ino : 0);
	assert_name(to_dir, "to", r < 0 ? to_ino : from_ino);
	if (from == FULL)
		assert_list(from_ino, "inside");
	if (to == FULL)
		assert_list(to_ino, "inside");
	if (r == 0 && to == EMPTY)
		assert_dir(to_ino, 0, 0); /* nothing is remembered of it */
	scratch_usage(s, &bytes, &after);
	assert_int_equal(after, before - (r == 0 && to != NOTHING));
	if (r == 0)
		assert_list(to_dir, to_dir == DIR_A ? "other to" : "to");
	teardown(NULL);
}

static void test_rename_table(void **state)
{
	teardown(NULL); /* each case has its own */
	for (enum what from = NOTHING; from < WHATS; from++)
		for (enum what to = NOTHING; to < WHATS; to++)
			for (int i = 0; i < 8; i++)
				rename_case(from, to, i & 1 ? DIR_A : DIR_B, i & 2, i & 4);
	setup(NULL);
}

static void test_rename_to_itself(void **state)
{
	uint64_t ino = add(DIR_A, "x", FILE_MODE, "");
	struct listing before = {0}, after = {0};

	add(DIR_A, "y", FILE_MODE, "");
	scratch_list(s, DIR_A, 0, add_listed, &before);
	assert_int_equal(scratch_rename(s, DIR_A, "x", DIR_A, &dir_path, "x", false), 0);
	scratch_list(s, DIR_A, 0, add_listed, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(scratch_rename(s, DIR_A, "x", DIR_A, &dir_path, "x", true), -EEXIST);
	assert_name(DIR_A, "x", ino);
	assert_int_equal(scratch_rename(s, DIR_B, "x", DIR_A, &dir_path, "x", false), -ENOENT);
}

static void test_rename_over_held(void **state)
{
	struct inode *old = make(DIR_B, "x", FILE_MODE, "old");
	_cleanup_inode_ struct inode *n = make(DIR_A, "x", FILE_MODE, "new");

	assert_int_equal(scratch_rename(s, DIR_A, "x", DIR_B, &dir_path, "x", false), 0);
	assert_text(old, "old");
	assert_int_equal(stat_of(old).st_nlink, 0);
	assert_int_equal(stat_of(n).st_nlink, 1);
	assert_text(n, "new");
	assert_usage(6, 2);
	inode_unpin(old);
	assert_usage(3, 1);
}

/* ---- listings ---- */

static void test_list(void **state)
{
	struct listing all = {0}, some = {.max = 2}, rest = {0};

	assert_list(DIR_A, "");
	add(DIR_A, "c", FILE_MODE, "123");
	add(DIR_A, "a", LINK_MODE, "b");
	add(DIR_B, "x", FILE_MODE, "");
	add(DIR_A, "b", DIR_MODE, NULL);
	scratch_list(s, DIR_A, 0, add_listed, &all);
	assert_string_equal(all.names, "c a b");
	assert_true(all.cookies[0] > 0);
	assert_true(all.cookies[1] > all.cookies[0] && all.cookies[2] > all.cookies[1]);
	for (size_t i = 0; i < 3; i++) {
		static const char *const names[] = {"c", "a", "b"};
		_cleanup_inode_ struct inode *n = scratch_lookup(s, DIR_A, names[i]);
		struct stat st = stat_of(n);

		assert_memory_equal(&all.stats[i], &st, sizeof(st));
	}
	scratch_list(s, DIR_A, 0, add_listed, &some);
	assert_string_equal(some.names, "c a");
	scratch_list(s, DIR_A, some.cookies[1], add_listed, &rest);
	assert_string_equal(rest.names, "b");
	rest = (struct listing){0};
	scratch_list(s, DIR_A, all.cookies[2], add_listed, &rest);
	assert_string_equal(rest.names, "");
}

/* What stays between two parts of one listing is listed once, whatever comes and goes. */
static void test_list_while_it_changes(void **state)
{
	struct listing part = {.max = 3}, rest = {0}, all = {0};
	char name[8];

	for (int i = 0; i < 8; i++) {
		sprintf(name, "%d", i);
		add(DIR_A, name, FILE_MODE, "");
	}
	scratch_list(s, DIR_A, 0, add_listed, &part);
	assert_string_equal(part.names, "0 1 2");
	assert_int_equal(scratch_unlink(s, DIR_A, "0", false), 0);
	assert_int_equal(scratch_unlink(s, DIR_A, "2", false), 0); /* whose cookie it is */
	assert_int_equal(scratch_unlink(s, DIR_A, "4", false), 0);
	assert_int_equal(scratch_unlink(s, DIR_A, "7", false), 0); /* the last one */
	add(DIR_A, "8", FILE_MODE, "");
	assert_int_equal(scratch_rename(s, DIR_A, "5", DIR_A, &dir_path, "3", false), 0);
	scratch_list(s, DIR_A, part.cookies[2], add_listed, &rest);
	assert_string_equal(rest.names, "6 8 3");
	/* A directory that was emptied doesn't begin anew. */
	inode_drop(s, DIR_B);
	scratch_list(s, DIR_A, 0, add_listed, &all);
	for (size_t i = all.count; i-- > 0;)
		assert_int_equal(
			scratch_unlink(s, DIR_A, (const char *[]){"1", "6", "8", "3"}[i], false),
			0);
	add(DIR_A, "9", FILE_MODE, "");
	rest = (struct listing){0};
	scratch_list(s, DIR_A, all.cookies[all.count - 1], add_listed, &rest);
	assert_string_equal(rest.names, "9");
}

/* ---- times and attributes ---- */

static void test_moved_from(void **state)
{
	struct scratch_init init = {.mode = FILE_MODE, .moved_from = 42, .data = "abc", .len = 3};
	_cleanup_inode_ struct inode *written = NULL, *cut = NULL;
	_cleanup_free_ char *data = NULL;
	size_t len;

	assert_int_equal(scratch_create(s, DIR_A, &dir_path, "w", &init, &written), 0);
	assert_int_equal(scratch_create(s, DIR_A, &dir_path, "t", &init, &cut), 0);
	scratch_set(s, written, 0600, 1, 1, 1, 1);
	data = scratch_read(s, written, 0, 3, &len);
	assert_int_equal(scratch_rename(s, DIR_A, "w", DIR_B, &dir_path, "w", false), 0);
	assert_int_equal(scratch_truncate(s, written, SCRATCH_FILE_MAX + 1), -EFBIG);
	assert_int_equal(scratch_moved_from(s, written), 42);
	assert_int_equal(scratch_write(s, written, "abc", 3, 0, false), 0);
	assert_int_equal(scratch_moved_from(s, written), 0);
	assert_int_equal(scratch_truncate(s, cut, 1), 0);
	assert_int_equal(scratch_moved_from(s, cut), 0);
}

static void test_set(void **state)
{
	_cleanup_inode_ struct inode *n = make(DIR_A, "x", FILE_MODE, "abc");
	struct stat before = stat_of(n), st;

	clock_moved = NSEC_PER_SEC;
	scratch_set(s, n, -1, -1, -1, -1, -1);
	st = stat_of(n);
	assert_true(ns(st.st_ctim) >= ns(before.st_ctim) + NSEC_PER_SEC);
	st.st_ctim = before.st_ctim;
	assert_memory_equal(&st, &before, sizeof(st));
	scratch_set(s, n, S_IFDIR | 04711, -1, 9, -1, 5 * NSEC_PER_SEC + 7);
	st = stat_of(n);
	assert_int_equal(st.st_mode, S_IFREG | 04711);
	assert_int_equal(st.st_uid, before.st_uid);
	assert_int_equal(st.st_gid, 9);
	assert_int_equal(ns(st.st_mtim), 5 * NSEC_PER_SEC + 7);
	assert_int_equal(st.st_mtim.tv_nsec, 7);
	assert_int_equal(ns(st.st_atim), ns(before.st_atim));
	scratch_set(s, n, -1, 8, -1, 6, -1);
	st = stat_of(n);
	assert_int_equal(st.st_mode, S_IFREG | 04711);
	assert_int_equal(st.st_uid, 8);
	assert_int_equal(st.st_gid, 9);
	assert_int_equal(ns(st.st_atim), 6);
	assert_int_equal(ns(st.st_mtim), 5 * NSEC_PER_SEC + 7);
	assert_text(n, "abc");
}

/* Two writes within one tick of the clock are two times. */
static void test_mtime_increases(void **state)
{
	_cleanup_inode_ struct inode *n = NULL;
	int64_t last, start;

	clock_frozen = start = 1000 * NSEC_PER_SEC;
	n = make(DIR_A, "x", FILE_MODE, "abc");
	last = ns(stat_of(n).st_mtim);
	assert_int_equal(last, start);
	for (int i = 0; i < 4; i++) {
		struct stat st;

		if (i & 1)
			assert_int_equal(scratch_write(s, n, "x", 1, 0, false), 0);
		else
			assert_int_equal(scratch_truncate(s, n, 9), 0);
		st = stat_of(n);
		assert_true(ns(st.st_mtim) > last);
		assert_int_equal(ns(st.st_ctim), ns(st.st_mtim));
		last = ns(st.st_mtim);
	}
	clock_frozen = 2000 * NSEC_PER_SEC;
	assert_int_equal(scratch_write(s, n, "x", 1, 0, false), 0);
	assert_int_equal(ns(stat_of(n).st_mtim), clock_frozen);
}

/* A directory moves when a name comes or goes, and not when a file is written to. */
static void test_directories(void **state)
{
	_cleanup_inode_ struct inode *d = NULL, *n = NULL;
	uint64_t dir;

	assert_dir(DIR_A, 0, 0);
	clock_frozen = 1 * NSEC_PER_SEC;
	d = make(DIR_A, "d", DIR_MODE, NULL);
	dir = scratch_ino(d);
	assert_dir(DIR_A, 1 * NSEC_PER_SEC, 1);
	assert_int_equal(stat_of(d).st_nlink, 2);
	assert_int_equal(ns(stat_of(d).st_mtim), 1 * NSEC_PER_SEC);
	clock_frozen = 2 * NSEC_PER_SEC;
	n = make(dir, "x", FILE_MODE, "");
	add(dir, "sub", DIR_MODE, NULL);
	assert_dir(dir, 2 * NSEC_PER_SEC, 1);
	assert_dir(DIR_A, 1 * NSEC_PER_SEC, 1);
	assert_int_equal(stat_of(d).st_nlink, 3);
	assert_int_equal(ns(stat_of(d).st_mtim), 2 * NSEC_PER_SEC);
	assert_int_equal(ns(stat_of(d).st_ctim), 2 * NSEC_PER_SEC);
	clock_frozen = 3 * NSEC_PER_SEC;
	assert_int_equal(scratch_write(s, n, "x", 1, 0, false), 0);
	assert_dir(dir, 2 * NSEC_PER_SEC, 1);
	clock_frozen = 4 * NSEC_PER_SEC;
	assert_int_equal(scratch_rename(s, dir, "x", DIR_A, &dir_path, "x", false), 0);
	assert_dir(dir, 4 * NSEC_PER_SEC, 1);
	assert_dir(DIR_A, 4 * NSEC_PER_SEC, 1);
	assert_int_equal(ns(stat_of(n).st_ctim), 4 * NSEC_PER_SEC);
	assert_int_equal(ns(stat_of(n).st_mtim), 3 * NSEC_PER_SEC);
	clock_frozen = 5 * NSEC_PER_SEC;
	assert_int_equal(scratch_unlink(s, dir, "sub", true), 0);
	assert_dir(dir, 5 * NSEC_PER_SEC, 0);
	assert_int_equal(stat_of(d).st_nlink, 2);
	clock_frozen = 6 * NSEC_PER_SEC;
	assert_int_equal(scratch_unlink(s, DIR_A, "d", true), 0);
	assert_dir(dir, 0, 0);
	assert_int_equal(stat_of(d).st_nlink, 0);
	assert_dir(DIR_A, 6 * NSEC_PER_SEC, 0);
	clock_frozen = 7 * NSEC_PER_SEC;
	assert_int_equal(scratch_unlink(s, DIR_A, "x", false), 0);
	assert_int_equal(ns(stat_of(n).st_ctim), 6 * NSEC_PER_SEC + NSEC_PER_SEC);
}

/* ---- what goes ---- */

static void test_drop(void **state)
{
	_cleanup_inode_ struct inode *held = make(DIR_A, "x", FILE_MODE, "abc");

	add(DIR_A, "y", FILE_MODE, "de");
	add(DIR_A, "d", DIR_MODE, NULL);
	add(DIR_B, "z", FILE_MODE, "f");
	inode_drop(s, DIR_A);
	assert_list(DIR_A, "");
	assert_dir(DIR_A, 0, 0);
	assert_list(DIR_B, "z");
	assert_text(held, "abc");
	assert_int_equal(stat_of(held).st_nlink, 0);
	assert_usage(4, 2);
	inode_drop(s, DIR_A);
	inode_drop(s, 12345);
}

/* Nothing below it is left to take room where nobody can get at it. */
static void test_drop_with_what_is_below(void **state)
{
	uint64_t dir = DIR_A, first = 0, last = 0;
	_cleanup_inode_ struct inode *held = NULL;

	for (int i = 0; i < 500; i++) {
		last = add(dir, "d", DIR_MODE, NULL);
		add(dir, "x", FILE_MODE, "abc");
		first = first ? first : last;
		dir = last;
	}
	held = make(last, "held", FILE_MODE, "h");
	inode_drop(s, DIR_A);
	assert_list(first, "");
	assert_null(scratch_get(s, first));
	assert_name(last, "held", 0);
	assert_dir(last, 0, 0);
	assert_int_equal(stat_of(held).st_nlink, 0);
	assert_text(held, "h");
	assert_usage(1, 1);
}

/* What is too old goes; each time the directory is told. */
static unsigned age(uint64_t dir)
{
	struct inode_due due;
	int64_t next;
	unsigned n = 0;

	for (; inode_next_due(s, &due, &next); n++) {
		assert_int_equal(due.first, 0);
		assert_true(due.dir == dir);
		assert_int_equal(due.path.kind, KIND_SCRATCH);
	}
	return n;
}

/* Closed and untouched for 24 hours; whatever touches it begins the day anew. */
static void test_age(void **state)
{
	struct inode *held = make(DIR_A, "open", FILE_MODE, "1");
	_cleanup_inode_ struct inode *written = make(DIR_A, "written", FILE_MODE, "2"),
				     *read = make(DIR_A, "read", FILE_MODE, "3"),
				     *set = make(DIR_A, "set", FILE_MODE, "4"),
				     *closed = make(DIR_A, "closed", FILE_MODE, "5");
	static const struct process_id nobody;
	struct handle *handles[2];
	size_t len;

	assert_int_equal(SCRATCH_AGE / NSEC_PER_SEC, 86400);
	add(DIR_A, "old1", FILE_MODE, "6");
	add(DIR_A, "old2", LINK_MODE, "7");
	handles[0] = handle_open_scratch(s, held, true, 1, &nobody);
	handles[1] = handle_open_scratch(s, closed, false, 1, &nobody);
	clock_moved = SCRATCH_AGE - 61 * NSEC_PER_SEC;
	assert_int_equal(age(DIR_A), 0);
	assert_list(DIR_A, "open written read set closed old1 old2");
	assert_int_equal(scratch_write(s, written, "x", 1, 0, false), 0);
	free(scratch_read(s, read, 0, 1, &len));
	scratch_set(s, set, 0600, -1, -1, -1, -1);
	assert_false(handle_close(s, handles[1]));
	clock_moved = SCRATCH_AGE + 61 * NSEC_PER_SEC;
	assert_int_equal(age(DIR_A), 2);
	assert_list(DIR_A, "open written read set closed");
	assert_text(held, "1");
	assert_int_equal(stat_of(held).st_nlink, 1);
	clock_moved = 3 * SCRATCH_AGE;
	assert_int_equal(age(DIR_A), 4);
	assert_list(DIR_A, "open");
	assert_int_equal(stat_of(closed).st_nlink, 0);
	assert_text(closed, "5");
	assert_false(handle_close(s, handles[0]));
	inode_unpin(held);
	clock_moved = 5 * SCRATCH_AGE;
	assert_int_equal(age(DIR_A), 1);
	assert_list(DIR_A, "");
}

/* A directory counts from when the last name in it went; what is hidden comes in its own time. */
static void test_age_of_directories(void **state)
{
	uint64_t dir = add(DIR_A, "d", DIR_MODE, NULL);
	struct inode_due due;
	int64_t next;

	add(dir, "x", FILE_MODE, "");
	inode_hide(s, PLACE, &spec);
	assert_true(inode_next_due(s, &due, &next) == false &&
		    next < now_monotonic() + SCRATCH_AGE / 2);
	inode_return(s, PLACE);
	clock_moved = SCRATCH_AGE + NSEC_PER_SEC;
	assert_int_equal(age(dir), 1);
	assert_list(dir, "");
	assert_list(DIR_A, "d");
	clock_moved = 2 * SCRATCH_AGE;
	assert_int_equal(age(DIR_A), 0);
	clock_moved = 2 * SCRATCH_AGE + 2 * NSEC_PER_SEC;
	assert_int_equal(age(DIR_A), 1);
	assert_list(DIR_A, "");
	assert_usage(0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_create, setup, teardown),
		cmocka_unit_test_setup_teardown(test_create_with, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without_name, setup, teardown),
		cmocka_unit_test_setup_teardown(test_put, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leave, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leave_without_name, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leave_pending, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unlink, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unlinked_and_held, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unlinked_and_known, setup, teardown),
		cmocka_unit_test_setup_teardown(test_file_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_total_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rename_table, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rename_to_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rename_over_held, setup, teardown),
		cmocka_unit_test_setup_teardown(test_list, setup, teardown),
		cmocka_unit_test_setup_teardown(test_list_while_it_changes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_moved_from, setup, teardown),
		cmocka_unit_test_setup_teardown(test_set, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mtime_increases, setup, teardown),
		cmocka_unit_test_setup_teardown(test_directories, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drop_with_what_is_below, setup, teardown),
		cmocka_unit_test_setup_teardown(test_age, setup, teardown),
		cmocka_unit_test_setup_teardown(test_age_of_directories, setup, teardown),
	};

	return cmocka_run_group_tests_name("scratch", tests, NULL, NULL);
}
