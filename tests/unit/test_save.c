/*
 * A text that a process wrote: what of it is sent, and what is kept with the reason. The server is
 * one over TCP that answers as each test says.
 */
#include "fs/save/save.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/server.h"

#include "tests/unit/parts.h"

#define PATCH	"PATCH " PATH "?fieldValidation=Strict application/strategic-merge-patch+json"
#define SERVER	"imagestreamfs/server/shop/web/"
#define WRITTEN "{\"content\": \"new\"}"

static struct http *http;
static struct http_check check;
static struct save_call call;
static const struct place spec = {KIND_SPEC_JSON, "shop", "web", ""};

static int setup(void **state)
{
	server_begin();
	parts_begin();
	http = http_new(server_login, parts.api->counts);
	check = (struct http_check){0};
	call = (struct save_call){.api = {.http = http, .deadline = deadline_in_ms(60000)}};
	process_identify(getpid(), &call.who);
	receive(10, "{\"content\": \"old\", \"other\": \"x\"}");
	return 0;
}

static int teardown(void **state)
{
	bool all;

	http_free(http);
	parts_end();
	all = server_end();
	if (!all)
		print_error("%zu requests instead of %zu\n", server_asked, server_planned);
	return all ? 0 : -1;
}

static uint64_t first_of(const struct place *path)
{
	struct layout_attr attr;

	assert_int_equal(shown_attr(parts.shown, path, &attr), 0);
	return attr.ino;
}

static struct handle *open_file(const struct place *path, uint64_t ino, uint64_t first)
{
	_cleanup_view_ struct snapshot *s = shown_snapshot(parts.shown, "shop", "web");
	struct handle_open open = {.path = path,
		.ino = ino,
		.first = first,
		.snapshot = s,
		.writable = true,
		.tid = getpid(),
		.opener = call.who};
	struct handle *f = handle_open(parts.inodes, &open);

	assert_non_null(f);
	return f;
}

static struct handle *open_spec(void)
{
	uint64_t first = first_of(&spec);

	inode_lookup(parts.inodes, &spec, first);
	return open_file(&spec, first, first);
}

static void write_text(struct handle *f, const char *text)
{
	assert_int_equal(handle_truncate(parts.inodes, f, 0), 0);
	assert_int_equal(handle_write(parts.inodes, f, text, strlen(text), 0, false), 0);
}

static struct handle *open_and_write(const char *text)
{
	struct handle *f = open_spec();

	write_text(f, text);
	return f;
}

static int save(struct handle *f)
{
	return save_handle(&parts, &call, f);
}

static void close_file(struct handle *f)
{
	handle_close(parts.inodes, f);
}

/* NULL: it isn't there. */
static void assert_beside(const char *name, const char *expected)
{
	struct place dir = {KIND_STREAM, "shop", "web", ""};
	_cleanup_inode_ struct inode *n = scratch_lookup(parts.inodes, first_of(&dir), name);
	_cleanup_free_ char *data = NULL;
	size_t len;

	if (!expected) {
		assert_null(n);
		return;
	}
	assert_non_null(n);
	data = scratch_read(parts.inodes, n, 0, SCRATCH_FILE_MAX, &len);
	if (len < strlen(expected) || strncmp(data, expected, strlen(expected)) != 0)
		fail_msg("%s: %.*s", name, (int)len, data);
}

static void assert_state(const char *name, const char *expected)
{
	_cleanup_free_ char *path = xasprintf("%s/" SERVER "%s", parts_state, name), *text = NULL;
	size_t len;

	if (!expected) {
		assert_int_equal(access(path, F_OK), -1);
		return;
	}
	assert_int_equal(read_file(path, 1 << 20, &text, &len), 0);
	assert_int_equal(len, strlen(expected));
	assert_memory_equal(text, expected, len);
}

static void assert_kept(const char *text, const char *reason)
{
	_cleanup_json_ json_t *last = journal_last(parts.journal);

	assert_beside("spec.json.rejected", text);
	assert_beside("spec.json.error", reason);
	assert_state("spec.json.rejected", text);
	assert_string_equal(json_str(last, "path"), "shop/web/spec.json");
}

static void assert_nothing_kept(void)
{
	assert_beside("spec.json.rejected", NULL);
	assert_beside("spec.json.error", NULL);
	assert_state("spec.json.rejected", NULL);
	assert_state("spec.json.error", NULL);
}

/* Nothing written: nothing to save. */
static void test_clean(void **state)
{
	struct handle *f = open_spec();

	assert_int_equal(save(f), 0);
	write_text(f, "{\"content\": \"old\", \"other\": \"x\"}");
	assert_int_equal(save(f), 0); /* what is there already isn't sent */
	assert_nothing_kept();
	close_file(f);
}

/* Sent, shown when it returns, and never twice; the next text of the handle is a diff from it. */
static void test_saved(void **state)
{
	struct handle *f = open_and_write("{\"content\": \"new\", \"other\": \"x\"}");

	answer_web(11, "{\"content\": \"new\", \"other\": \"x\"}");
	assert_int_equal(save(f), 0);
	assert_request(0, PATCH,
		"{\"spec\":{\"content\":\"new\"},\"metadata\":{\"resourceVersion\":\"10\",\"uid\":"
		"\"u\"}}");
	assert_shown("11");
	assert_int_equal(save(f), 0);
	assert_nothing_kept();
	receive(12, "{\"content\": \"theirs\", \"other\": \"x\"}");
	write_text(f, "{\"content\": \"new\", \"other\": \"y\"}");
	answer_web(13, "{\"content\": \"theirs\", \"other\": \"y\"}");
	assert_int_equal(save(f), 0);
	assert_request(0, PATCH,
		"{\"spec\":{\"other\":\"y\"},\"metadata\":{\"resourceVersion\":\"12\",\"uid\":"
		"\"u\"}}");
	close_file(f);
}

static void test_no_text(void **state)
{
	static const struct {
		const char *text, *reason;
	} rows[] = {{"{", "not JSON: "}, {"[]", "not a JSON object"}, {"7", "not JSON: "},
		{"{\"a\": 1, \"a\": 2}", "not JSON: "}, {"\xff", "not JSON: "}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct handle *f = open_and_write(rows[i].text);

		assert_int_equal(save(f), -EINVAL);
		assert_kept(rows[i].text, rows[i].reason);
		close_file(f);
	}
}

/* The verdict stays with the text, and the text with its reason, until one is accepted. */
static void test_refused(void **state)
{
	struct handle *f = open_and_write(WRITTEN);

	answer(422,
		"{\"kind\": \"Status\", \"reason\": \"Invalid\", \"message\": \"it is\\nwrong\", "
		"\"code\": 422, \"details\": {\"causes\": [{\"field\": \"spec.x\", "
		"\"reason\": \"Why\", \"message\": \"so\"}, {}]}}");
	assert_int_equal(save(f), -EINVAL);
	assert_kept(WRITTEN, "it is wrong\nspec.x: Why: so\n-: -: -\n");
	assert_int_equal(save(f), -EINVAL);
	write_text(f, "{\"content\": \"better\"}");
	answer_web(11, "{\"content\": \"better\"}");
	assert_int_equal(save(f), 0);
	assert_nothing_kept();
	close_file(f);
}

/*
 * The old text put back ends the refusal, though nothing is sent; but not where the same process
 * does it at once.
 */
static void test_old_text_ends_refusal(void **state)
{
	struct handle *f = open_and_write("{");

	assert_int_equal(save(f), -EINVAL);
	write_text(f, "{\"content\": \"old\", \"other\": \"x\"}");
	assert_int_equal(save(f), 0);
	assert_kept("{", "not JSON");
	call.who = (struct process_id){.tgid = getpid(), .start = 1};
	write_text(f, "{\"content\": \"old\", \"other\": \"x\"} ");
	assert_int_equal(save(f), 0);
	assert_nothing_kept();
	close_file(f);
}

/* Both changed one thing: nothing is sent, and the reason names it. */
static void test_conflict(void **state)
{
	struct handle *f = open_and_write("{\"content\": \"mine\", \"other\": \"x\"}");

	receive(11, "{\"content\": \"theirs\", \"other\": \"x\"}");
	assert_int_equal(save(f), -ESTALE);
	assert_kept("{\"content\": \"mine\", \"other\": \"x\"}",
		"somebody changed the same thing meanwhile\n"
		"spec.content");
	close_file(f);
}

/* Only what the text changes is sent, on top of what others made of the rest. */
static void test_merge(void **state)
{
	struct handle *f = open_and_write("{\"content\": \"mine\", \"other\": \"x\"}");

	receive(11, "{\"content\": \"old\", \"other\": \"theirs\"}");
	answer_web(12, "{\"content\": \"mine\", \"other\": \"theirs\"}");
	assert_int_equal(save(f), 0);
	assert_request(0, PATCH,
		"{\"spec\":{\"content\":\"mine\"},\"metadata\":{\"resourceVersion\":\"11\","
		"\"uid\":\"u\"}}");
	close_file(f);
}

/* What no request can change is refused without one. */
static void test_impossible(void **state)
{
	static const char text[] = "{\"name\": \"another\"}";
	const struct place metadata = {KIND_METADATA_JSON, "shop", "web", ""};
	uint64_t first = first_of(&metadata);
	struct handle *f;

	inode_lookup(parts.inodes, &metadata, first);
	f = open_file(&metadata, first, first);
	write_text(f, text);
	assert_int_equal(save(f), -EINVAL);
	assert_beside("metadata.json.rejected", text);
	close_file(f);
}

/* The stream went, or another one has the name: the text isn't for that. */
static void test_gone(void **state)
{
	struct handle *f = open_and_write(WRITTEN);

	store_delete(parts.store, WEB, "10");
	wait_shown();
	assert_int_equal(save(f), -ESTALE);
	assert_state("spec.json.rejected", WRITTEN);
	write_text(f, "{}");
	receive_as("web", "another", 20, "{}");
	wait_shown();
	assert_int_equal(save(f), -ESTALE);
	assert_int_equal(asked(), 4); /* api_connect's */
	close_file(f);
}

static int is_ending(void *arg)
{
	return -ESHUTDOWN;
}

/* The program ends: nothing is decided, and the text goes to the state directory. */
static void test_ending(void **state)
{
	struct handle *f = open_and_write(WRITTEN), *clean = open_spec(), *one = open_spec();

	check.fn = is_ending;
	call.api.check = &check;
	assert_int_equal(save(f), -ESHUTDOWN);
	assert_beside("spec.json.rejected", NULL);
	save_keep_handle(&parts, clean);
	assert_state("spec.json.rejected", NULL);
	save_keep_unsaved(&parts);
	assert_state("spec.json.rejected", WRITTEN);
	assert_state("spec.json.error", "imagestreamfs ended before this was saved\n");
	write_text(one, "{\"content\": \"one\"}");
	save_keep_handle(&parts, one);
	assert_state("spec.json.rejected.2", "{\"content\": \"one\"}");
	close_file(f);
	close_file(clean);
	close_file(one);
}

static int end_meanwhile(void *arg)
{
	return asked() > 4 ? -ESHUTDOWN : 0;
}

/* The end while the request is under way is a verdict, which says what nobody knows. */
static void test_ending_meanwhile(void **state)
{
	struct handle *f = open_and_write(WRITTEN);

	check.fn = end_meanwhile;
	call.api.check = &check;
	answer(SERVER_SILENT, "");
	assert_true(save(f) < 0);
	assert_beside("spec.json.rejected", WRITTEN);
	assert_beside("spec.json.error", "");
	close_file(f);
}

static void test_refuse_handle(void **state)
{
	struct handle *f = open_and_write(WRITTEN), *clean = open_spec();

	save_refuse_handle(&parts, clean, EINTR, "killed");
	assert_nothing_kept();
	save_refuse_handle(&parts, f, EINTR, "killed");
	assert_kept(WRITTEN, "killed\n");
	assert_int_equal(save(f), -EINTR); /* that was the verdict */
	close_file(f);
	close_file(clean);
}

/* All texts but the newest are kept, and that is the caller's. */
static void test_keep_older(void **state)
{
	struct handle *a = open_and_write("{\"a\": 1}"), *b = open_and_write("{\"b\": 2}"),
		      *c = open_and_write("{\"c\": 3}");
	_cleanup_free_ char *newest = NULL, *none = NULL;
	size_t len;

	assert_int_equal(save_keep_older(&parts, 12345, false, &none, &len), 0);
	assert_null(none);
	assert_int_equal(save_keep_older(&parts, first_of(&spec), false, &newest, &len), -EAGAIN);
	assert_null(newest);
	assert_state("spec.json.rejected", NULL);
	assert_int_equal(save_keep_older(&parts, first_of(&spec), true, &newest, &len), 0);
	assert_int_equal(len, 8);
	assert_memory_equal(newest, "{\"c\": 3}", 8);
	assert_state("spec.json.rejected", "{\"a\": 1}");
	assert_state("spec.json.rejected.2", "{\"b\": 2}");
	assert_state("spec.json.rejected.3", NULL);
	assert_state("spec.json.error", "the file was renamed or removed before this was saved\n");
	close_file(a);
	close_file(b);
	close_file(c);
}

static struct inode *make_scratch(const char *text)
{
	struct place dir = {KIND_STREAM, "shop", "web", ""};
	_cleanup_object_ struct object *version = store_get(parts.store, WEB);
	struct scratch_init init = {
		.mode = S_IFREG | 0644, .data = text, .len = strlen(text), .version = version};
	struct inode *n;

	assert_int_equal(scratch_create(parts.inodes, first_of(&dir), &dir, "new", &init, &n), 0);
	return n;
}

static void test_scratch(void **state)
{
	_cleanup_inode_ struct inode *n = make_scratch("{\"content\": \"new\", \"other\": \"x\"}"),
				     *bad = NULL;
	struct place other = {KIND_SPEC_JSON, "shop", "other", ""};
	uint64_t first = 0;

	answer_web(11, "{\"content\": \"new\", \"other\": \"x\"}");
	assert_int_equal(save_scratch(&parts, &call, n, &spec, &first), 0);
	assert_request(0, PATCH, NULL);
	assert_int_equal(first, first_of(&spec));
	first = 7;
	assert_int_equal(save_scratch(&parts, &call, n, &other, &first), -ENOENT);
	answer(403, "{\"kind\": \"Status\", \"reason\": \"Forbidden\", \"message\": "
		    "\"User \\\"me\\\" may not\", \"code\": 403}");
	scratch_unlink(parts.inodes, first_of(&(struct place){KIND_STREAM, "shop", "web", ""}),
		"new", false);
	bad = make_scratch("{\"content\": \"bad\", \"other\": \"x\"}");
	assert_int_equal(save_scratch(&parts, &call, bad, &spec, &first), -EACCES);
	assert_int_equal(first, 7);
	assert_kept("{\"content\": \"bad\", \"other\": \"x\"}", "User \"me\" may not\n");
}

/* The text took the tag's file along: there is no such place any more. */
static void test_scratch_without_place(void **state)
{
	const struct place tag = {KIND_TAG_SPEC, "shop", "web", "v1"};
	_cleanup_inode_ struct inode *n = NULL;
	uint64_t first = 7;

	receive(11, "{\"tags\": [{\"name\": \"v1\", \"a\": \"1\"}]}");
	n = make_scratch("{\"name\": \"v1\", \"a\": \"2\"}");
	answer_web(12, "{}");
	assert_int_equal(save_scratch(&parts, &call, n, &tag, &first), 0);
	assert_int_equal(first, 0);
}

/* A file that the object didn't have is there once it is saved, as the inode that was begun. */
static void test_begun(void **state)
{
	const struct place tag = {KIND_TAG, "shop", "web", "v1"};
	const struct place file = {KIND_TAG_SPEC, "shop", "web", "v1"};
	struct handle *f;
	uint64_t ino;

	_cleanup_free_ char *text = xasprintf(
		"{\"kind\": \"ImageStream\", \"apiVersion\": \"image.openshift.io/v1\", "
		"\"metadata\": {\"namespace\": \"shop\", \"name\": \"web\", \"uid\": \"u\", "
		"\"resourceVersion\": \"11\", \"creationTimestamp\": \"2026-11-23T19:48:08Z\"}, "
		"\"spec\": {}, \"status\": {\"tags\": [{\"tag\": \"v1\", \"items\": []}]}}");
	struct object *o;

	assert_int_equal(object_from_text(text, strlen(text), NULL, &o, NULL), 0);
	store_put(parts.store, o, 0);
	wait_shown();
	ino = inode_begin(parts.inodes, first_of(&tag), &file);
	inode_lookup(parts.inodes, &file, ino);
	f = open_file(&file, ino, 0);
	write_text(f, "{\"name\": \"v1\"}");
	answer_web(12, "{\"tags\": [{\"name\": \"v1\"}]}");
	assert_int_equal(save(f), 0);
	assert_int_equal(inode_at(parts.inodes, first_of(&file), NULL), ino);
	assert_false(inode_is_pending(parts.inodes, ino, first_of(&tag)));
	close_file(f);
}

static void test_whole(void **state)
{
	static const struct {
		enum kind kind;
		const char *text;
		bool whole;
	} rows[] = {
		{KIND_SPEC_JSON, "{}", true},
		{KIND_SPEC_JSON, " {\"a\": [1]}\n", true},
		{KIND_SPEC_JSON, "{\"a\": [1]", false},
		{KIND_SPEC_JSON, "", false},
		{KIND_IMAGESTREAM_JSON, "{}", true},
		{KIND_IMAGESTREAM_YAML, "{}", false},
		{KIND_IMAGESTREAM_YAML, "a: 1\n", false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct place path = {rows[i].kind, "shop", "web", ""};

		assert_int_equal(
			save_is_whole(&path, rows[i].text, strlen(rows[i].text)), rows[i].whole);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_clean),
		TEST(test_saved),
		TEST(test_no_text),
		TEST(test_refused),
		TEST(test_old_text_ends_refusal),
		TEST(test_conflict),
		TEST(test_merge),
		TEST(test_impossible),
		TEST(test_gone),
		TEST(test_ending),
		TEST(test_ending_meanwhile),
		TEST(test_refuse_handle),
		TEST(test_keep_older),
		TEST(test_scratch),
		TEST(test_scratch_without_place),
		TEST(test_begun),
		TEST(test_whole),
	};

	return cmocka_run_group_tests_name("save", tests, http_group_setup, http_group_teardown);
}
