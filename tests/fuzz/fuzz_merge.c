/*
 * A merge of two edits holds everything of mine and everything of theirs, or it is a conflict; and
 * the bodies say what was merged. The documents are made of the input's bytes: an object, and two
 * edits of it.
 */
#include "fuzz.h"

#include "client/patch.h"

#include <errno.h>

struct bytes {
	const uint8_t *p, *end;
};

static unsigned take(struct bytes *b, unsigned below)
{
	return b->p < b->end ? *b->p++ % below : 0;
}

static json_t *make_value(struct bytes *b, unsigned depth)
{
	static const char *const keys[] = {"a", "b", "$patch", "generation", "name", "uid"};
	json_t *value;
	unsigned n;

	switch (take(b, depth ? 9 : 7)) {
	case 0:
		return json_null();
	case 1:
		return json_true();
	case 2:
		return json_integer(take(b, 3));
	case 3:
		return json_object();
	case 4:
		return json_array();
	case 5:
		return json_string("x");
	case 6:
		return json_string("y");
	case 7:
		value = json_array();
		for (n = take(b, 3); n > 0; n--)
			json_array_append_new(value, make_value(b, depth - 1));
		return value;
	default:
		value = json_object();
		for (n = take(b, 4); n > 0; n--)
			json_object_set_new(
				value, keys[take(b, ARRAY_SIZE(keys))], make_value(b, depth - 1));
		return value;
	}
}

/*
 * Where an edit may be made; "?" stands for an element of the list of tags, owners or finalizers.
 */
static const char *const places[] = {"spec", "spec.lookupPolicy", "spec.tags", "spec.tags.?",
	"spec.tags.?.from", "spec.tags.?.reference", "spec.tags.?.generation",
	"spec.tags.?.annotations", "spec.tags.?.annotations.a", "spec.tags.?.importPolicy.b",
	"status.tags", "status.tags.?", "status.tags.?.items", "status.tags.?.conditions",
	"metadata.labels", "metadata.labels.a", "metadata.labels.b", "metadata.annotations.a",
	"metadata.finalizers", "metadata.ownerReferences", "metadata.ownerReferences.?",
	"metadata.ownerReferences.?.a", "metadata.generation", "metadata.c", "spec.tags.?.$a",
	"metadata.labels.$b"};

static const char *key_of(const char *list)
{
	return streq(list, "ownerReferences") ? "uid" : streq(list, "tags") ? "name" : "tag";
}

/* The element that the bytes choose; a new one, named as one of three, where there is none. */
static json_t *element(struct bytes *b, json_t *list, const char *key)
{
	static const char *const names[] = {"v1", "v2", ""};
	const char *name = names[take(b, ARRAY_SIZE(names))];
	json_t *one;
	size_t i;

	json_array_foreach(list, i, one)
		if (json_str(one, key) && streq(json_str(one, key), name))
			return one;
	one = json_pack("{s:s}", key, name);
	json_array_insert_new(list, take(b, json_array_size(list) + 1), one);
	return one;
}

static json_t *member(json_t *object, const char *key, json_t *otherwise)
{
	json_t *value = json_object_get(object, key);

	if (json_typeof(otherwise) == (value ? json_typeof(value) : JSON_NULL)) {
		json_decref(otherwise);
		return value;
	}
	json_object_set_new(object, key, otherwise);
	return otherwise;
}

/* The element of the list is taken out. */
static void drop(json_t *list, const json_t *one)
{
	const json_t *each;
	size_t i;

	json_array_foreach(list, i, each)
		if (each == one)
			json_array_remove(list, i--);
}

static void edit(struct bytes *b, json_t *object)
{
	_cleanup_free_ char *place = xstrdup(places[take(b, ARRAY_SIZE(places))]);
	char *rest = place, *key = strsep(&rest, "."), *next;
	const char *root = key;
	bool away = take(b, 4) == 0;
	json_t *at = object;

	while ((next = strsep(&rest, "."))) {
		if (*next == '?') {
			json_t *list = member(at, key, json_array());
			json_t *one = element(b, list, streq(root, "status") ? "tag" : key_of(key));

			next = strsep(&rest, ".");
			if (!next && away)
				drop(list, one);
			if (!next)
				return;
			at = json_is_object(one) ? one : object;
		} else {
			at = member(at, key, json_object());
		}
		key = next;
	}
	if (away)
		json_object_del(at, key);
	else
		json_object_set_new(at, key, make_value(b, 2));
}

static json_t *edited(struct bytes *b, const json_t *object)
{
	json_t *copy = json_deep_copy(object);

	for (unsigned n = take(b, 5); n > 0; n--)
		edit(b, copy);
	return copy;
}

/* ---- what must hold ---- */

/* 0 and what was merged; -ESTALE. */
static int merge(const struct patch_file *f, const json_t *base, const json_t *theirs,
	const json_t *mine, json_t **ret)
{
	_cleanup_json_ json_t *conflicts = NULL;
	_cleanup_buf_ struct buf text = BUF_INIT((size_t)1 << 24);
	int r = patch_merge3(f, base, theirs, mine, ret, &conflicts);

	if (r != 0 && r != -ESTALE)
		abort();
	if ((r == 0) != (conflicts == NULL) || (conflicts && json_array_size(conflicts) == 0))
		abort();
	if (conflicts && (patch_conflict_text(conflicts, &text) < 0 || text.len == 0))
		abort();
	return r;
}

/* For whoever looks into a finding: the bytes say nothing to a reader. */
static void show(const struct patch_file *f, const json_t *base, const json_t *theirs,
	const json_t *mine, const json_t *merged)
{
	const json_t *sides[] = {base, theirs, mine, merged};

	fprintf(stderr, "view %d: base, theirs, mine, merged\n", f->view);
	for (size_t i = 0; i < ARRAY_SIZE(sides); i++) {
		_cleanup_free_ char *text =
			sides[i] ? json_dumps(sides[i], JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

		fprintf(stderr, "%s\n", text ? text : "(nothing)");
	}
}

/* The merge of these gives the same again. */
static void expect(const struct patch_file *f, const json_t *base, const json_t *theirs,
	const json_t *mine, const json_t *expected)
{
	_cleanup_json_ json_t *merged = NULL;

	if (merge(f, base, theirs, mine, &merged) < 0 || !patch_equal(f, merged, expected)) {
		show(f, base, theirs, mine, merged);
		abort();
	}
}

static void check_body(const struct patch_file *f, const json_t *current, const json_t *merged)
{
	_cleanup_json_ json_t *body = NULL, *again = NULL;
	enum patch_form form = patch_form(f, current, merged, &body);
	const json_t *fields = NULL;

	again = patch_body(f, form, current, merged);
	fields = json_object_get(again, "metadata");
	if (!again || (body && !json_equal(body, again)) || !json_str(fields, "resourceVersion") ||
		!json_str(fields, "uid"))
		abort();
}

static void check_merge(const struct patch_file *f, const json_t *base, const json_t *theirs,
	const json_t *mine, const json_t *current)
{
	_cleanup_json_ json_t *merged = NULL;

	/* Who changed nothing gets all of the other's. */
	expect(f, base, theirs, base, theirs);
	expect(f, base, base, mine, mine);
	expect(f, base, mine, mine, mine);
	if (merge(f, base, theirs, mine, &merged) < 0)
		return;
	/* All of mine is in it, and all of theirs: adding either once more changes nothing. */
	expect(f, base, merged, mine, merged);
	expect(f, base, merged, theirs, merged);
	if (!patch_equal(f, theirs, merged))
		check_body(f, current, merged);
}

/* What can't be changed through the file is no edit where it is left out: mine has it as it was. */
static void restore(const struct patch_file *f, const json_t *base, json_t *mine)
{
	static const char *const refused[] = {
		[PATCH_IMAGESTREAM] = "status", [PATCH_METADATA] = "c", [PATCH_TAG_STATUS] = NULL};
	const char *key = refused[f->view];
	json_t *was = key ? json_object_get(base, key) : NULL;

	if (was)
		json_object_set(mine, key, was);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes b = {data, data + size};
	struct patch_file f = {.view = take(&b, PATCH_TAG_STATUS + 1), .tag = "v1", .tag_len = 2};
	_cleanup_json_ json_t *origin =
		json_pack("{s:s, s:{s:s, s:s, s:s, s:s}}", "kind", "ImageStream", "metadata",
			"name", "web", "namespace", "shop", "uid", "u1", "resourceVersion", "7");
	_cleanup_json_ json_t *object = edited(&b, origin), *remote = edited(&b, object);
	_cleanup_json_ json_t *local = edited(&b, object);
	_cleanup_json_ json_t *base = patch_value(&f, object), *theirs = patch_value(&f, remote);
	_cleanup_json_ json_t *shown = patch_value(&f, local), *mine = json_deep_copy(shown);
	_cleanup_free_ char *error = NULL;

	if (!mine || patch_check(&f, base, mine, &error) < 0)
		return 0;
	restore(&f, base, mine);
	if (!patch_equal(&f, base, base) || !patch_equal(&f, mine, mine))
		abort();
	check_merge(&f, base, theirs, mine, remote);
	return 0;
}
