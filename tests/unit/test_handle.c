/*
 * Open files, and what becomes of them when their inode is renamed, replaced or gone: without a
 * mount.
 */
#include "fs/tree/handle.h"
#include "fs/tree/scratch.h"
#include "tests/unit/clock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define DIR_A 100
#define AFTER INODE_HIDDEN_NS

static struct inode_table *t;
static struct journal *journal;
static struct indexes *indexes;
static const struct place spec = {KIND_SPEC_JSON, "shop", "web", ""};
static const struct place begun = {KIND_TAG_SPEC, "shop", "web", "v1"};
static const struct place dir_path = {KIND_STREAM, "shop", "web", ""};

static int setup(void **state)
{
	clock_moved = clock_frozen = 0;
	journal = journal_new();
	indexes = indexes_new(journal);
	t = inode_table_new();
	return 0;
}

static int teardown(void **state)
{
	inode_table_free(t);
	indexes_free(indexes);
	journal_free(journal);
	return 0;
}

static struct snapshot *next(struct snapshot *old, const char *version, const char *hold)
{
	_cleanup_json_ json_t *json = json_pack("{s:{s:s, s:s, s:s, s:s}, s:{s:s, s:[]}, s:{}}",
		"metadata", "name", "web", "namespace", "shop", "uid", "u", "resourceVersion",
		version, "spec", "dockerImageRepository", hold, "tags", "status");
	_cleanup_object_ struct object *o = NULL;

	assert_int_equal(object_from_json(json, "image.openshift.io/v1", &o), 0);
	return snapshot_new(o, old, NULL, 0, 1, indexes);
}

static uint64_t first_of(struct snapshot *s)
{
	struct layout_attr attr;

	assert_int_equal(snapshot_attr(s, KIND_SPEC_JSON, "", &attr), 0);
	return attr.ino;
}

static struct handle *open_as(
	struct snapshot *s, const struct place *path, uint64_t ino, uint64_t first, bool writable)
{
	struct handle_open open = {.path = path,
		.ino = ino,
		.first = first,
		.snapshot = s,
		.writable = writable,
		.tid = 7};

	return handle_open(t, &open);
}

static struct handle *open_spec(struct snapshot *s, bool writable)
{
	uint64_t first = first_of(s);

	return open_as(s, &spec, inode_at(t, first, NULL), first, writable);
}

static bool reads(struct handle *f, const char *part)
{
	_cleanup_free_ char *copy = NULL;
	struct text *text;
	const char *data;
	size_t len;
	bool found;

	assert_int_equal(handle_read(t, f, 1 << 20, 0, &text, &data, &len), 0);
	copy = xstrndup(data, len);
	found = part[0] ? strstr(copy, part) != NULL : len == 0;
	text_unref(text);
	return found;
}

static void assert_on(struct handle *f, enum kind kind, uint64_t ino, uint64_t place)
{
	_cleanup_handle_state_ struct handle_state state;

	handle_get_state(t, f, &state);
	assert_int_equal(state.path.kind, kind);
	assert_true(state.ino == ino);
	assert_true(state.first == place);
	assert_int_equal(state.scratch != NULL, kind == KIND_SCRATCH);
	assert_int_equal(state.slot == 0, kind == KIND_SCRATCH);
}

static struct inode *scratch(const char *name, const char *text)
{
	struct scratch_init init = {.mode = S_IFREG | 0600, .data = text, .len = strlen(text)};
	struct inode *n;

	assert_int_equal(scratch_create(t, DIR_A, &dir_path, name, &init, &n), 0);
	return n;
}

static struct inode *leave(uint64_t ino, uint64_t first)
{
	struct scratch_to to = {{.mode = S_IFREG | 0600, .data = "left", .len = 4}, DIR_A, "away"};
	struct inode *n;

	assert_int_equal(scratch_leave(t, ino, first, &spec, &to, &n), 0);
	return n;
}

/* A reader sees each version that is shown, a writer that of its open and then its own bytes. */
static void test_follow(void **state)
{
	_cleanup_view_ struct snapshot *one = next(NULL, "1", "one"), *two = next(one, "2", "two");
	struct handle *reader = open_spec(one, false), *writer = open_spec(one, true);
	uint64_t first = first_of(one);

	assert_false(handle_is_fixed(reader));
	assert_true(handle_is_fixed(writer));
	assert_true(reads(reader, "one") && reads(writer, "one"));
	handle_follow(t, &spec, two);
	assert_true(reads(reader, "two") && reads(writer, "one"));
	assert_false(handle_has_draft(t, first));
	assert_int_equal(handle_write(t, writer, "x", 1, 0, false), 0);
	assert_int_equal(handle_write(t, reader, "x", 1, 0, false), -EBADF);
	assert_true(handle_has_draft(t, first));
	assert_true(reads(writer, "xone") || reads(writer, "x"));
	assert_int_equal(handle_drafts(t), 1);
	assert_on(reader, KIND_SPEC_JSON, first, first);
	assert_false(handle_close(t, writer));
	assert_int_equal(handle_drafts(t), 0);
	assert_true(handle_is_open(t, first));
	assert_false(handle_close(t, reader));
	assert_false(handle_is_open(t, first));
}

/* What isn't there (any more) isn't opened, whatever the caller found before. */
static void test_open_too_late(void **state)
{
	_cleanup_view_ struct snapshot *one = next(NULL, "1", "one");
	uint64_t first = first_of(one);

	inode_lookup(t, &spec, first);
	inode_hide(t, first, &spec);
	assert_null(open_as(one, &spec, first, first, false));
	inode_show(t, first, 77, &spec);
	assert_null(open_as(one, &spec, first, first, false));
	assert_null(open_as(one, &begun, 77, 0, true));
	assert_int_equal(handle_drafts(t), 0);
	handle_close(t, open_as(one, &spec, 77, first, false));
}

/* The server deleted the file: its handles keep the last version, and know what it was. */
static void test_gone(void **state)
{
	_cleanup_view_ struct snapshot *one = next(NULL, "1", "one"), *two = next(one, "2", "two");
	struct handle *f = open_spec(one, false);
	uint64_t first = first_of(one);
	struct layout_attr attr;

	inode_drop(t, first);
	assert_on(f, KIND_SPEC_JSON, first, first);
	handle_follow(t, &spec, two);
	assert_true(reads(f, "one"));
	assert_true(handle_last_attr(t, first, &attr));
	assert_int_equal(attr.nlink, 0);
	assert_true(attr.ino == first && attr.size > 0);
	assert_int_equal(inode_id(t, first), 0);
	handle_close(t, f);
	assert_false(handle_last_attr(t, first, &attr));
}

/* Renamed away: the handles are on scratch; what they write is that file's. */
static void test_leave(void **state)
{
	_cleanup_view_ struct snapshot *one = next(NULL, "1", "one"), *two = next(one, "2", "two");
	struct handle *reader = open_spec(one, false), *writer = open_spec(one, true);
	uint64_t first = first_of(one);
	_cleanup_inode_ struct inode *n = leave(first, first);
	struct stat st;

	assert_on(reader, KIND_SCRATCH, first, 0);
	assert_null(open_as(one, &spec, first, first, false)); /* it has left */
	handle_follow(t, &spec, two);
	assert_true(reads(reader, "left"));
	assert_int_equal(handle_write(t, writer, "L", 1, 0, false), 0);
	assert_true(reads(reader, "Left"));
	assert_int_equal(scratch_moved_from(t, n), 0);
	assert_int_equal(scratch_unlink(t, DIR_A, "away", false), 0);
	inode_unpin(steal_ptr(n));
	assert_true(reads(reader, "Left")); /* it lives as long as it is open */
	handle_close(t, reader);
	assert_int_equal(handle_truncate(t, writer, 1), 0);
	n = scratch_get(t, first);
	scratch_stat(t, n, &st);
	assert_int_equal(st.st_size, 1);
	inode_unpin(steal_ptr(n));
	handle_close(t, writer);
	assert_null(scratch_get(t, first));
}

/*
 * Saved over a real name: its handles are on the real file, those of who stood there on what is
 * gone.
 */
static void test_take(void **state)
{
	_cleanup_view_ struct snapshot *one = next(NULL, "1", "one"), *two = next(one, "2", "two");
	struct inode *n = scratch("x", "mine");
	static const struct process_id nobody;
	uint64_t first = first_of(one), ino = scratch_ino(n), old = inode_lookup(t, &spec, first),
		 id;
	struct handle *before = open_spec(one, false);
	struct handle *mine = handle_open_scratch(t, n, true, 7, &nobody), *later;
	struct place path = {.kind = KIND_SCRATCH};
	size_t bytes, count;

	id = inode_lookup(t, &path, ino);
	assert_int_equal(scratch_take(t, n, DIR_A, &spec, first, two), 0);
	assert_true(inode_at(t, first, NULL) == ino);
	assert_true(inode_id_at(t, first) == id);
	assert_int_equal(inode_id(t, first), 0);
	assert_true(inode_get(t, old, &path, &ino)); /* the kernel has it */
	assert_true(inode_get(t, id, &path, &ino));
	assert_int_equal(path.kind, KIND_SPEC_JSON);
	assert_null(scratch_lookup(t, DIR_A, "x"));
	assert_int_equal(scratch_take(t, n, DIR_A, &spec, first, two), -ENOENT);
	inode_unpin(n);
	scratch_usage(t, &bytes, &count);
	assert_int_equal(bytes + count, 0);
	assert_on(mine, KIND_SPEC_JSON, ino, first);
	assert_true(reads(mine, "mine")); /* a writer goes on with its bytes */
	assert_on(before, KIND_SPEC_JSON, first, 0);
	assert_true(reads(before, "one"));
	assert_int_equal(handle_drafts(t), 1);
	later = open_spec(two, false);
	assert_true(reads(later, "two"));
	handle_close(t, later);
	handle_close(t, mine);
	handle_close(t, before);
	assert_true(inode_id_at(t, first) == id);
}

/* Renamed away and back: all is as before. */
static void test_leave_and_take(void **state)
{
	_cleanup_view_ struct snapshot *one = next(NULL, "1", "one"), *two = next(one, "2", "two");
	uint64_t first = first_of(one), id = inode_lookup(t, &spec, first);
	struct handle *f = open_spec(one, false);
	_cleanup_inode_ struct inode *n = leave(first, first);
	bool hidden;

	assert_int_equal(scratch_take(t, n, DIR_A, &spec, first, one), 0);
	assert_true(inode_at(t, first, &hidden) == first && !hidden);
	assert_true(inode_id_at(t, first) == id);
	assert_on(f, KIND_SPEC_JSON, first, first);
	handle_follow(t, &spec, two);
	assert_true(reads(f, "two"));
	handle_close(t, f);
}

/* A file that was begun is there while it is open, and for 2 s after its last close. */
static void test_pending(void **state)
{
	_cleanup_view_ struct snapshot *one = next(NULL, "1", "one");
	uint64_t ino = inode_begin(t, DIR_A, &begun);
	struct handle *a = open_as(one, &begun, ino, 0, true),
		      *b = open_as(one, &begun, ino, 0, false);
	struct inode_due due;
	int64_t when;

	assert_true(reads(a, ""));
	assert_on(a, KIND_TAG_SPEC, ino, 0);
	clock_moved += 100 * AFTER;
	assert_false(inode_next_due(t, &due, &when));
	assert_true(when == INT64_MAX); /* nobody knows when */
	assert_true(inode_pending(t, DIR_A, KIND_TAG_SPEC) == ino);
	assert_false(handle_close(t, a));
	clock_moved += AFTER;
	assert_true(inode_pending(t, DIR_A, KIND_TAG_SPEC) == ino);
	assert_true(handle_close(t, b)); /* from now on its time runs */
	clock_moved += AFTER - NSEC_PER_SEC / 2;
	a = open_as(one, &begun, ino, 0, false); /* opened anew meanwhile */
	assert_non_null(a);
	clock_moved += 2 * AFTER;
	assert_true(inode_pending(t, DIR_A, KIND_TAG_SPEC) == ino);
	assert_true(handle_close(t, a));
	clock_moved += AFTER;
	assert_null(open_as(one, &begun, ino, 0, false)); /* too late, though nobody looked since */
	assert_true(inode_next_due(t, &due, &when));
	assert_true(due.first == 0 && due.dir == DIR_A);
}

/*
 * Saved, it is a real file, and its handles with it; scratch that takes its place leaves it GONE.
 */
static void test_pending_replaced(void **state)
{
	_cleanup_view_ struct snapshot *one = next(NULL, "1", "one");
	uint64_t ino = inode_begin(t, DIR_A, &begun);
	struct handle *f = open_as(one, &begun, ino, 0, true);
	_cleanup_inode_ struct inode *n = scratch("x", "mine");

	assert_int_equal(scratch_take(t, n, DIR_A, &begun, 1000, one), 0);
	assert_on(f, KIND_TAG_SPEC, ino, 0);
	assert_false(inode_is_pending(t, ino, DIR_A));
	assert_false(handle_close(t, f));
	ino = inode_begin(t, DIR_A, &begun);
	f = open_as(one, &begun, ino, 0, true);
	inode_show(t, 1000, ino, &begun);
	assert_on(f, KIND_TAG_SPEC, ino, 1000);
	assert_false(handle_close(t, f));
}

/* open(O_TRUNC) comes as a call without a handle: it is the newest one's of the thread. */
static void test_truncate_opened(void **state)
{
	_cleanup_view_ struct snapshot *one = next(NULL, "1", "one");
	struct handle *a = open_spec(one, true), *b = open_spec(one, true);
	uint64_t first = first_of(one), end;

	assert_false(handle_truncate_opened(t, first, 8));
	assert_true(handle_truncate_opened(t, first, 7));
	assert_true(handle_draft_end(t, b, &end));
	assert_int_equal(end, 0);
	assert_false(handle_draft_end(t, a, &end));	   /* the other's is no affair of its */
	assert_false(handle_truncate_opened(t, first, 7)); /* the newest has its bytes already */
	handle_close(t, a);
	handle_close(t, b);
}

static void note_text(void *arg, const struct handle_state *state, const char *text, size_t len)
{
	strncat(arg, text, len);
}

static void test_unsaved(void **state)
{
	_cleanup_view_ struct snapshot *one = next(NULL, "1", "one");
	struct handle *a = open_spec(one, true), *b = open_spec(one, true), *c;
	uint64_t first = first_of(one);
	char text[64] = "";

	c = open_as(one, &begun, inode_begin(t, DIR_A, &begun), 0, true);
	handle_start_empty(t, c);
	assert_int_equal(handle_write(t, c, "c", 1, 0, false), 0);
	handle_start_empty(t, b);
	assert_int_equal(handle_write(t, b, "b", 1, 0, false), 0);
	handle_start_empty(t, a);
	assert_int_equal(handle_write(t, a, "a", 1, 0, false), 0);
	handle_foreach_unsaved(t, first, note_text, text);
	assert_string_equal(text, "ab"); /* the oldest first */
	*text = '\0';
	handle_foreach_unsaved(t, 0, note_text, text);
	assert_string_equal(text, "abc");
	handle_close(t, a); /* b and c go with the table */
}

/* A file of .api has the bytes that were made for its open; events have none. */
static void test_api(void **state)
{
	struct place path = {.kind = KIND_API_STATUS};
	struct handle_open open = {.path = &path, .ino = 55, .writable = true, .tid = 7};
	struct buf bytes = BUF_INIT(64);
	struct handle_source source = {.events = (struct events_reader *)&path};
	struct handle *f, *events = handle_open_source(t, source);

	buf_addstr(&bytes, "{}");
	f = handle_open_api(t, &open, &bytes);
	assert_true(reads(f, "{}"));
	assert_int_equal(handle_write(t, f, "x", 1, 0, false), 0);
	assert_true(handle_has_draft(t, 55));
	assert_false(handle_close(t, f));
	assert_ptr_equal(handle_get_source(t, events).events, source.events);
	assert_ptr_equal(handle_first_reader(t), events);
	assert_false(handle_close(t, events));
	assert_null(handle_first_reader(t));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_follow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_too_late, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leave, setup, teardown),
		cmocka_unit_test_setup_teardown(test_take, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leave_and_take, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pending, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pending_replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(test_truncate_opened, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unsaved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_api, setup, teardown),
	};

	return cmocka_run_group_tests_name("handle", tests, NULL, NULL);
}
