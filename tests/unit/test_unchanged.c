/*
 * A file's bytes, saved as they were read, are no change: for every file of every ImageStream in
 * the recordings of a real server. What is shown and what a save is compared to are one thing. And
 * the bytes are those that jansson writes of that, though they are made without it. And a save of a
 * tag, for which that tag alone is read, sends what it would send if all of them were.
 */
#include "client/object.h"
#include "client/reference.h"
#include "client/yaml.h"
#include "fs/tree/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/recordings.h"

#define TEXT_MAX ((size_t)64 << 20)

static const char *directory;
static size_t streams, files, requests;

static json_t *parse(enum kind kind, const struct buf *bytes)
{
	_cleanup_free_ char *error = NULL;
	json_t *json = NULL;

	if (kind != KIND_IMAGESTREAM_YAML)
		return json_loadb(bytes->data, bytes->len, JSON_ALLOW_NUL, NULL);
	assert_int_equal(yaml_parse(bytes->data, bytes->len, &json, &error), 0);
	return json;
}

static void check_bytes(enum kind kind, const json_t *base, const struct buf *bytes)
{
	_cleanup_free_ char *dump = json_dumps(base, JSON_INDENT(2));

	if (layout[kind].show != attr_json)
		return;
	assert_int_equal(bytes->len, strlen(dump) + 1);
	assert_memory_equal(bytes->data, dump, strlen(dump));
	assert_int_equal(bytes->data[bytes->len - 1], '\n');
}

static void check_file(
	enum kind kind, const json_t *object, const struct attr_tag *tag, const json_t *name)
{
	struct patch_file f = {
		layout[kind].view, json_string_value(name), json_string_length(name)};
	_cleanup_json_ json_t *base = patch_value(&f, object), *mine = NULL;
	_cleanup_json_ json_t *merged = NULL, *conflicts = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT(TEXT_MAX);
	_cleanup_free_ char *error = NULL;

	if (!layout[kind].rights || layout_show(kind, object, tag, &bytes) < 0)
		return;
	if (kind == KIND_TAG_FROM) {
		assert_int_equal(reference_parse(bytes.data, bytes.len, &mine, &error), 0);
		assert_true(reference_is_same(json_object_get(base, "from"), mine, ""));
		files++;
		return;
	}
	check_bytes(kind, base, &bytes);
	mine = parse(kind, &bytes);
	assert_non_null(mine);
	if (patch_check(&f, base, mine, &error) < 0)
		fail_msg("%s: %s", layout[kind].kind, error);
	assert_int_equal(patch_merge3(&f, base, base, mine, &merged, &conflicts), 0);
	assert_true(patch_equal(&f, base, merged));
	files++;
}

/* The tag changed, or not there any more (NULL): the request by the one tree and by the other. */
static void check_request(const struct patch_file *f, const json_t *object, const json_t *alone,
	const json_t *changed)
{
	_cleanup_json_ json_t *body = NULL, *same = NULL;

	assert_int_equal(
		patch_form(f, alone, changed, &same), patch_form(f, object, changed, &body));
	assert_true(json_equal(body, same));
	requests += body != NULL;
}

static void check_alone(enum patch_view view, const json_t *object, const json_t *name)
{
	struct patch_file f = {view, json_string_value(name), json_string_length(name)};
	_cleanup_json_ json_t *alone = NULL, *value = patch_value(&f, object), *same = NULL,
			      *changed = value ? json_copy(value) : json_object();
	_cleanup_object_ struct object *o = NULL;

	if (object_from_json(object, "image.openshift.io/v1", &o) < 0)
		return;
	alone = object_parse_tag(o, f.tag, f.tag_len);
	same = patch_value(&f, alone);
	assert_true(value ? json_equal(value, same) : !same);
	json_object_set_new(changed, "annotations", json_pack("{s:s}", "changed", "yes"));
	check_request(&f, object, alone, changed);
	if (value)
		check_request(&f, object, alone, NULL);
}

static void check_tags(const json_t *object, const char *part, const char *key)
{
	const json_t *element;
	size_t i;

	json_array_foreach(json_object_get(json_object_get(object, part), "tags"), i, element) {
		const json_t *name = json_object_get(element, key);
		struct attr_tag tag;

		if (!json_is_string(name))
			continue;
		tag = attr_find_tag(object, json_string_value(name), json_string_length(name));
		for (unsigned k = 0; k < TAG_FILES; k++)
			check_file(TAG_FILE + k, object, &tag, name);
		check_alone(PATCH_TAG_SPEC, object, name);
		check_alone(PATCH_TAG_STATUS, object, name);
	}
}

static bool is_stream(const json_t *value)
{
	const char *kind = json_str(value, "kind");

	return kind && streq(kind, "ImageStream") &&
	       json_str(json_object_get(value, "metadata"), "uid");
}

/* Every ImageStream in the value, however deep. */
static void check_all(const json_t *value)
{
	const json_t *member;
	const char *key;
	size_t i;

	if (is_stream(value)) {
		for (unsigned k = 0; k < STREAM_FILES; k++)
			check_file(STREAM_FILE + k, value, NULL, NULL);
		check_tags(value, "spec", "name");
		check_tags(value, "status", "tag");
		streams++;
		return;
	}
	json_array_foreach(value, i, member)
		check_all(member);
	json_object_foreach((json_t *)value, key, member)
		check_all(member);
}

static void saved_as_read(void **state)
{
	read_recordings(directory, check_all);
	print_message("%zu files of %zu ImageStreams, %zu requests\n", files, streams, requests);
	assert_true(streams > 100 && files > 900 && requests > 700);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(saved_as_read)};

	directory = argc > 1 ? argv[1] : "tests/apiserver_test/transcripts";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
