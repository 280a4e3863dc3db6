/* Refused saves: the two files beside the text and their copies in the state directory. */
#include "fs/tree/rejects.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>

#define DIR_INO 100

static char *top; /* a directory of the test's own */
static struct inode_table *scratch;
static struct journal *journal;
static struct rejects *r;

/* Below the test's directory; the caller frees. */
static char *below(const char *path)
{
	return xasprintf("%s/%s", top, path);
}

static void begin(const char *server)
{
	rejects_free(r);
	r = rejects_new(scratch, journal, server, 7, 8);
}

static int setup(void **state)
{
	_cleanup_free_ char *xdg = NULL;
	char name[] = "/tmp/test-refused-XXXXXX";

	umask(022);
	top = xstrdup(mkdtemp(name));
	xdg = below("state");
	setenv("XDG_STATE_HOME", xdg, 1);
	setenv("HOME", "/nonexistent", 1);
	scratch = inode_table_new();
	journal = journal_new();
	r = NULL;
	begin("https://api.example:6443");
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	rejects_free(r);
	inode_table_free(scratch);
	journal_free(journal);
	nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(top);
	return 0;
}

#define SERVER "state/imagestreamfs/api.example:6443"

static const struct place stream_spec = {KIND_SPEC_JSON, "shop", "web", ""};
static const struct place stream_dir = {KIND_STREAM, "shop", "web", ""};
static const struct place tag_spec = {KIND_TAG_SPEC, "shop", "web", "v%2F1"};
static const struct place tag_dir = {KIND_TAG, "shop", "web", "v%2F1"};

static void keep(uint64_t dir, const struct place *path, const char *text, const char *reason)
{
	_cleanup_buf_ struct buf b = BUF_INIT(1024);

	buf_addstr(&b, reason);
	rejects_keep(r, dir, path, text, strlen(text), &b);
}

/* NULL: it isn't there. */
static void assert_state(const char *path, const char *expected)
{
	_cleanup_free_ char *full = below(path), *text = NULL;
	struct stat st;
	size_t len;

	if (!expected) {
		assert_int_equal(access(full, F_OK), -1);
		return;
	}
	assert_int_equal(read_file(full, 1 << 20, &text, &len), 0);
	assert_int_equal(len, strlen(expected));
	assert_string_equal(text, expected);
	assert_int_equal(stat(full, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
}

static void assert_private(const char *path)
{
	_cleanup_free_ char *full = below(path);
	struct stat st;

	assert_int_equal(stat(full, &st), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0700);
}

static void assert_beside(const char *name, const char *expected)
{
	_cleanup_inode_ struct inode *n = scratch_lookup(scratch, DIR_INO, name);
	_cleanup_free_ char *data = NULL;
	struct stat st;
	size_t len;

	if (!expected) {
		assert_null(n);
		return;
	}
	assert_non_null(n);
	scratch_stat(scratch, n, &st);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_int_equal(st.st_uid, 7);
	assert_int_equal(st.st_gid, 8);
	data = scratch_read(scratch, n, 0, 1 << 20, &len);
	assert_int_equal(len, strlen(expected));
	assert_memory_equal(data, expected, len);
}

static void assert_no_failure(void)
{
	_cleanup_json_ json_t *last = journal_last(journal);

	assert_true(json_is_null(last));
}

static int others; /* files that aren't of the two kinds, or half-written */

static int count_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	const char *end = strstr(path, ".json.rejected");

	if (type != FTW_F)
		return 0;
	end = end ? end + strlen(".json.rejected") : strstr(path, ".json.error");
	if (end && str_has_prefix(end, ".json.error"))
		end += strlen(".json.error");
	/* With a number at most. */
	if (!end || (*end && (*end != '.' || strspn(end + 1, "0123456789") != strlen(end + 1))))
		others++;
	return 0;
}

static void assert_nothing_else(void)
{
	others = 0;
	nftw(top, count_one, 16, FTW_PHYS);
	assert_int_equal(others, 0);
}

static void test_keep(void **state)
{
	static const char *const directories[] = {"state", "state/imagestreamfs", SERVER,
		SERVER "/shop", SERVER "/shop/web", SERVER "/shop/web/tags",
		SERVER "/shop/web/tags/v%2F1"};

	keep(DIR_INO, &stream_spec, "{\"a\":1}", "why\n");
	assert_beside("spec.json.rejected", "{\"a\":1}");
	assert_beside("spec.json.error", "why\n");
	assert_state(SERVER "/shop/web/spec.json.rejected", "{\"a\":1}");
	assert_state(SERVER "/shop/web/spec.json.error", "why\n");
	keep(DIR_INO + 1, &tag_spec, "{}", "tag\n");
	assert_beside("spec.json.rejected", "{\"a\":1}");
	assert_state(SERVER "/shop/web/tags/v%2F1/spec.json.rejected", "{}");
	assert_state(SERVER "/shop/web/tags/v%2F1/spec.json.error", "tag\n");
	for (size_t i = 0; i < ARRAY_SIZE(directories); i++)
		assert_private(directories[i]);
	assert_nothing_else();
	assert_no_failure();
}

/* Each file of a directory has its own two. */
static void test_names(void **state)
{
	struct place path = stream_spec;

	for (int i = 0; i < STREAM_FILES; i++) {
		path.kind = KIND_IMAGESTREAM_JSON + i;
		keep(DIR_INO, &path, layout[path.kind].name, "x");
	}
	assert_state(SERVER "/shop/web/imagestream.json.rejected", "imagestream.json");
	assert_state(SERVER "/shop/web/metadata.json.rejected", "metadata.json");
	assert_state(SERVER "/shop/web/spec.json.rejected", "spec.json");
	assert_state(SERVER "/shop/web/status.json.rejected", "status.json");
	assert_beside("metadata.json.rejected", "metadata.json");
	path = tag_spec;
	path.kind = KIND_TAG_STATUS;
	keep(0, &path, "status of a tag", "x");
	assert_state(SERVER "/shop/web/tags/v%2F1/status.json.rejected", "status of a tag");
	assert_state(SERVER "/shop/web/status.json.rejected", "status.json");
}

static void test_keep_again(void **state)
{
	keep(DIR_INO, &stream_spec, "first, and longer", "first reason");
	keep(DIR_INO, &stream_spec, "second", "");
	assert_beside("spec.json.rejected", "second");
	assert_beside("spec.json.error", "");
	assert_state(SERVER "/shop/web/spec.json.rejected", "second");
	assert_state(SERVER "/shop/web/spec.json.error", "");
	assert_nothing_else();
	assert_no_failure();
}

/* Any bytes, and as many as a draft may have. */
static void test_bytes(void **state)
{
	size_t size = (size_t)4 << 20, len;
	_cleanup_free_ char *text = xmalloc(size), *path = NULL, *back = NULL;
	_cleanup_buf_ struct buf none = BUF_INIT(1024);
	_cleanup_inode_ struct inode *n = NULL;
	struct stat st;

	for (size_t i = 0; i < size; i++)
		text[i] = i % 251;
	rejects_keep(r, DIR_INO, &stream_spec, text, size, &none);
	path = below(SERVER "/shop/web/spec.json.rejected");
	assert_int_equal(read_file(path, size, &back, &len), 0);
	assert_int_equal(len, size);
	assert_memory_equal(back, text, size);
	n = scratch_lookup(scratch, DIR_INO, "spec.json.rejected");
	scratch_stat(scratch, n, &st);
	assert_int_equal(st.st_size, size);
	assert_beside("spec.json.error", "");
}

#define SPEC SERVER "/shop/web/spec.json"

/* The directory is gone: in the state directory only, each beside what is there. */
static void test_without_directory(void **state)
{
	size_t bytes, nodes;

	keep(0, &stream_spec, "1", "why 1");
	keep(0, &stream_spec, "2", "why 2");
	assert_state(SPEC ".rejected", "1");
	assert_state(SPEC ".rejected.2", "2");
	assert_state(SPEC ".error.2", "why 2");
	scratch_usage(scratch, &bytes, &nodes);
	assert_int_equal(nodes, 0);
	keep(DIR_INO, &stream_spec, "3", "why 3");
	keep(DIR_INO, &stream_spec, "4", "why 4"); /* in place of the one before */
	assert_state(SPEC ".rejected.3", "4");
	assert_state(SPEC ".error.3", "why 4");
	assert_state(SPEC ".rejected.4", NULL);
	rejects_clear(r, DIR_INO, &stream_spec);
	assert_state(SPEC ".rejected", "1");
	assert_state(SPEC ".error.2", "why 2");
	assert_state(SPEC ".rejected.3", NULL);
	assert_state(SPEC ".error.3", NULL);
	assert_nothing_else();
	assert_no_failure();
}

/* What an earlier run left is neither overwritten nor removed. */
static void test_other_run(void **state)
{
	keep(DIR_INO, &stream_spec, "before", "why");
	keep(DIR_INO, &stream_spec, "before!", "why!");
	begin("https://api.example:6443");
	rejects_clear(r, DIR_INO, &stream_spec);
	rejects_removed(r, &stream_dir, "spec.json.rejected");
	assert_state(SPEC ".rejected", "before!");
	keep(DIR_INO, &stream_spec, "now", "why now");
	assert_state(SPEC ".rejected", "before!");
	assert_state(SPEC ".error", "why!");
	assert_state(SPEC ".rejected.2", "now");
	assert_state(SPEC ".error.2", "why now");
	rejects_removed(r, &stream_dir, "spec.json.rejected");
	assert_state(SPEC ".rejected.2", NULL);
	assert_state(SPEC ".error.2", "why now");
	keep(DIR_INO, &stream_spec, "again", "why again");
	assert_state(SPEC ".rejected.2", "again");
	assert_state(SPEC ".error.2", "why again");
	rejects_clear(r, DIR_INO, &stream_spec);
	assert_state(SPEC ".rejected", "before!");
	assert_state(SPEC ".error", "why!");
	assert_state(SPEC ".error.2", NULL);
	assert_nothing_else();
	assert_no_failure();
}

/* No room: what was kept before stays as it was, and of what is new there is nothing. */
static void test_no_room(void **state)
{
	struct rlimit before, none;
	_cleanup_json_ json_t *last = NULL;

	keep(DIR_INO + 1, &tag_spec, "old", "old why");
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	none = (struct rlimit){0, before.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	keep(DIR_INO, &stream_spec, "new", "new why");
	keep(DIR_INO + 1, &tag_spec, "newer", "newer why");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, SIG_DFL);
	assert_beside("spec.json.rejected", "new");
	assert_state(SPEC ".rejected", NULL);
	assert_state(SPEC ".error", NULL);
	assert_state(SERVER "/shop/web/tags/v%2F1/spec.json.rejected", "old");
	assert_state(SERVER "/shop/web/tags/v%2F1/spec.json.error", "old why");
	assert_nothing_else();
	last = journal_last(journal);
	assert_string_equal(json_str(last, "errno"), "EFBIG");
	keep(DIR_INO, &stream_spec, "then", "then why");
	assert_state(SPEC ".rejected", "then");
	rejects_clear(r, DIR_INO + 1, &tag_spec);
	assert_state(SERVER "/shop/web/tags/v%2F1/spec.json.rejected", NULL);
}

static void test_clear(void **state)
{
	struct place metadata = stream_spec;

	metadata.kind = KIND_METADATA_JSON;
	keep(DIR_INO, &stream_spec, "text", "why");
	keep(DIR_INO, &metadata, "metadata", "why");
	keep(DIR_INO + 1, &tag_spec, "tag", "why");
	rejects_clear(r, DIR_INO, &stream_spec);
	assert_beside("spec.json.rejected", NULL);
	assert_beside("spec.json.error", NULL);
	assert_state(SERVER "/shop/web/spec.json.rejected", NULL);
	assert_state(SERVER "/shop/web/spec.json.error", NULL);
	assert_beside("metadata.json.rejected", "metadata");
	assert_state(SERVER "/shop/web/metadata.json.error", "why");
	assert_state(SERVER "/shop/web/tags/v%2F1/spec.json.rejected", "tag");
	rejects_clear(r, DIR_INO, &stream_spec); /* nothing there: fine */
	rejects_clear(r, DIR_INO + 1, &tag_spec);
	assert_state(SERVER "/shop/web/tags/v%2F1/spec.json.rejected", NULL);
	assert_no_failure();
}

static void test_removed(void **state)
{
	struct place inside = {KIND_SCRATCH, "shop", "web", ""};

	keep(DIR_INO, &stream_spec, "text", "why");
	keep(DIR_INO + 1, &tag_spec, "tag", "why");
	rejects_removed(r, &inside, "spec.json.rejected"); /* STREAM/mine/spec.json.rejected */
	rejects_removed(r, &stream_dir, "spec.json");
	rejects_removed(r, &stream_dir, ".rejected");
	rejects_removed(r, &stream_dir, "");
	rejects_removed(r, &stream_dir, "status.json.rejected");
	rejects_removed(r, &stream_dir, "spec.json.rejected~");
	assert_state(SERVER "/shop/web/spec.json.rejected", "text");
	rejects_removed(r, &stream_dir, "spec.json.rejected");
	assert_state(SERVER "/shop/web/spec.json.rejected", NULL);
	assert_state(SERVER "/shop/web/spec.json.error", "why");
	assert_state(SERVER "/shop/web/tags/v%2F1/spec.json.rejected", "tag");
	rejects_removed(r, &tag_dir, "spec.json.error");
	assert_state(SERVER "/shop/web/tags/v%2F1/spec.json.error", NULL);
	assert_state(SERVER "/shop/web/tags/v%2F1/spec.json.rejected", "tag");
	assert_state(SERVER "/shop/web/spec.json.error", "why");
	rejects_removed(r, &stream_dir, "spec.json.error");
	assert_state(SERVER "/shop/web/spec.json.error", NULL);
	assert_beside("spec.json.rejected", "text"); /* that one is the caller's */
}

static void test_is_kept(void **state)
{
	static const struct place tags = {KIND_TAGS, "shop", "web", ""};
	static const struct place mine = {KIND_SCRATCH, "shop", "web", ""};

	assert_true(rejects_is_kept(&stream_dir, "spec.json.rejected"));
	assert_true(rejects_is_kept(&stream_dir, "imagestream.json.error"));
	assert_true(rejects_is_kept(&tag_dir, "spec.json.error"));
	assert_false(rejects_is_kept(&mine, "spec.json.error"));
	assert_false(rejects_is_kept(&tags, "spec.json.error"));
	assert_false(rejects_is_kept(&stream_dir, "spec.json"));
	assert_false(rejects_is_kept(&stream_dir, "spec.json.rejected~"));
	assert_false(rejects_is_kept(&stream_dir, "spec.json.error.2"));
	assert_false(rejects_is_kept(&stream_dir, ".rejected"));
	assert_false(rejects_is_kept(&stream_dir, ""));
}

/* Only what was kept is removed: other files of the user there stay. */
static void test_removed_other(void **state)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -1;

	keep(DIR_INO, &stream_spec, "text", "why");
	path = below(SERVER "/shop/web/notes");
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	rejects_removed(r, &stream_dir, "notes");
	rejects_clear(r, DIR_INO, &stream_spec);
	assert_state(SERVER "/shop/web/notes", "");
}

static void test_servers(void **state)
{
	static const struct {
		const char *server, *directory;
	} rows[] = {
		{"http://localhost:8080", "localhost:8080"},
		{"https://api.example/", "api.example_"},
		{"https://proxy.example/k8s/clusters/c-1", "proxy.example_k8s_clusters_c-1"},
		{"api.example:443", "api.example:443"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *path = xasprintf(
			"state/imagestreamfs/%s/shop/web/spec.json.rejected", rows[i].directory);

		begin(rows[i].server);
		assert_state(path, NULL);
		keep(0, &stream_spec, rows[i].server, "why");
		assert_state(path, rows[i].server);
	}
}

/* basedir-spec: what isn't absolute doesn't count. */
static void test_homes(void **state)
{
	_cleanup_free_ char *home = below("home");

	assert_int_equal(mkdir(home, 0755), 0);
	setenv("HOME", home, 1);
	keep(0, &stream_spec, "1", "why"); /* settled when the program started */
	assert_state(SERVER "/shop/web/spec.json.rejected", "1");
	begin("https://s");
	keep(0, &stream_spec, "2", "why");
	assert_state("state/imagestreamfs/s/shop/web/spec.json.rejected", "2");
	setenv("XDG_STATE_HOME", "", 1);
	begin("https://s");
	keep(0, &stream_spec, "3", "why");
	assert_state("home/.local/state/imagestreamfs/s/shop/web/spec.json.rejected", "3");
	assert_private("home/.local");
	setenv("XDG_STATE_HOME", "relative/state", 1);
	begin("https://s");
	keep(0, &stream_spec, "4", "why");
	assert_state("home/.local/state/imagestreamfs/s/shop/web/spec.json.rejected.2", "4");
	unsetenv("XDG_STATE_HOME");
	begin("https://s");
	keep(0, &stream_spec, "5", "why");
	assert_state("home/.local/state/imagestreamfs/s/shop/web/spec.json.rejected.3", "5");
	assert_state("state/imagestreamfs/s/shop/web/spec.json.rejected", "2");
	assert_no_failure();
}

/* Directories that were there before keep their modes. */
static void test_modes_of_others(void **state)
{
	_cleanup_free_ char *path = below("state");
	struct stat st;

	assert_int_equal(mkdir(path, 0755), 0);
	keep(0, &stream_spec, "text", "why");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_private("state/imagestreamfs");
}

/* No place for copies: what stands beside the file is there all the same, and the journal says so. */
static void test_no_place(void **state)
{
	_cleanup_free_ char *path = below("state");
	_cleanup_close_ int fd = open(path, O_CREAT | O_WRONLY, 0600);
	_cleanup_json_ json_t *last = NULL;

	assert_true(fd >= 0);
	keep(DIR_INO, &stream_spec, "text", "why");
	assert_beside("spec.json.rejected", "text");
	assert_beside("spec.json.error", "why");
	last = journal_last(journal);
	assert_string_equal(json_str(last, "errno"), "ENOTDIR");
	assert_non_null(strstr(json_str(last, "message"), "spec.json.error"));
	rejects_clear(r, DIR_INO, &stream_spec);
	assert_beside("spec.json.rejected", NULL);
}

/* Whatever else has the name keeps it; where that is a link, what it leads to isn't written to. */
static void test_name_taken(void **state)
{
	_cleanup_free_ char *directory = below(SPEC ".rejected"), *link = below(SPEC ".error"),
			    *victim = below("victim");
	struct stat st;

	keep(DIR_INO + 1, &tag_spec, "x", "why"); /* makes the directories */
	assert_int_equal(mkdir(directory, 0700), 0);
	assert_int_equal(symlink(victim, link), 0);
	keep(DIR_INO, &stream_spec, "text", "why");
	assert_state("victim", NULL);
	assert_state(SPEC ".rejected.2", "text");
	assert_state(SPEC ".error.2", "why");
	rejects_clear(r, DIR_INO, &stream_spec);
	assert_int_equal(lstat(directory, &st), 0);
	assert_int_equal(lstat(link, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_state(SPEC ".rejected.2", NULL);
	assert_nothing_else();
	assert_no_failure();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_keep, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keep_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_run, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_room, setup, teardown),
		cmocka_unit_test_setup_teardown(test_clear, setup, teardown),
		cmocka_unit_test_setup_teardown(test_removed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_removed_other, setup, teardown),
		cmocka_unit_test_setup_teardown(test_servers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_homes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_modes_of_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_place, setup, teardown),
		cmocka_unit_test_setup_teardown(test_name_taken, setup, teardown),
	};

	return cmocka_run_group_tests_name("refused", tests, NULL, NULL);
}
