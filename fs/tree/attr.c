#include "fs/tree/attr.h"

#include "client/reference.h"
#include "client/yamltext.h"

#include <errno.h>

/* ---- JSON with an indentation of two, as jansson writes it ---- */

static void put(struct attr_sink *to, const char *p, size_t n)
{
	to->size += n;
	if (!to->bytes)
		to->hash = hash_text(to->hash, p, n);
	else if (to->error == 0)
		to->error = buf_add(to->bytes, p, n);
}

static void put_line(struct attr_sink *to, size_t depth)
{
	static const char spaces[] = "                                ";
	size_t left = 2 * depth, n;

	put(to, "\n", 1);
	for (; left > 0; left -= n) {
		n = left < strlen(spaces) ? left : strlen(spaces);
		put(to, spaces, n);
	}
}

static void put_value(struct attr_sink *to, const struct scan_value *v, size_t depth);

static void put_members(struct attr_sink *to, const struct scan_value *object,
	const struct patch_hidden *hidden, size_t depth);

/* `hidden`: of each element, which is {} then where it is no object; or NULL. */
static void put_elements(struct attr_sink *to, const struct scan_value *list,
	const struct patch_hidden *hidden, size_t depth)
{
	bool first = true;

	put(to, "[", 1);
	scan_foreach(list, v) {
		put(to, ",", !first);
		put_line(to, depth + 1);
		if (!hidden)
			put_value(to, v, depth + 1);
		else if (scan_is_object(v))
			put_members(to, v, hidden, depth + 1);
		else
			put(to, "{}", 2);
		first = false;
	}
	if (!first)
		put_line(to, depth);
	put(to, "]", 1);
}

static bool is_hidden(const struct patch_hidden *hidden, const struct piece *key)
{
	for (const char *const *name = hidden ? hidden->members : NULL; name && *name; name++)
		if (cut_is(key, *name))
			return true;
	return false;
}

static void put_members(struct attr_sink *to, const struct scan_value *object,
	const struct patch_hidden *hidden, size_t depth)
{
	bool first = true;

	put(to, "{", 1);
	scan_foreach(object, v) {
		struct piece key = scan_key(v);

		if (is_hidden(hidden, &key))
			continue;
		put(to, ",", !first);
		put_line(to, depth + 1);
		put(to, key.p, key.len);
		put(to, ": ", 2);
		if (hidden && hidden->tags && scan_is_array(v) && cut_is(&key, "tags"))
			put_elements(to, v, hidden->tags, depth + 1);
		else
			put_value(to, v, depth + 1);
		first = false;
	}
	if (!first)
		put_line(to, depth);
	put(to, "}", 1);
}

static void put_value(struct attr_sink *to, const struct scan_value *v, size_t depth)
{
	if (!to->bytes) { /* no need to look into it */
		to->size += v->size + 2 * depth * v->lines;
		to->hash = hash_text(to->hash, v->p, v->len);
	} else if (scan_is_object(v)) {
		put_members(to, v, NULL, depth);
	} else if (scan_is_array(v)) {
		put_elements(to, v, NULL, depth);
	} else {
		put(to, v->p, v->len);
	}
}

int attr_json(
	const struct scan_value *value, const struct patch_hidden *hidden, struct attr_sink *to)
{
	if (hidden)
		put_members(to, value, hidden, 0);
	else
		put_value(to, value, 0);
	put(to, "\n", 1);
	return to->error;
}

/* ---- other files ---- */

int attr_yaml(
	const struct scan_value *value, const struct patch_hidden *hidden, struct attr_sink *to)
{
	if (to->bytes)
		return yamltext_show(value->p, value->len, to->bytes);
	to->size += yamltext_size(value->p, value->len);
	return 0;
}

int attr_from(
	const struct scan_value *value, const struct patch_hidden *hidden, struct attr_sink *to)
{
	_cleanup_buf_ struct buf line = BUF_INIT(ATTR_MAX);
	int r = reference_show(scan_find(value, "from"), &line);

	if (r == 0)
		put(to, line.data, line.len);
	return r < 0 ? r : to->error;
}

int attr_image(
	const struct scan_value *value, const struct patch_hidden *hidden, struct attr_sink *to)
{
	const struct scan_value *newest = scan_element(scan_find(value, "items"), 0);
	size_t len;
	_cleanup_free_ char *text = scan_string(scan_find(newest, "dockerImageReference"), &len);

	if (!newest)
		return -ENOENT;
	if (text)
		put(to, text, strlen(text));
	put(to, "\n", 1);
	return to->error;
}

const struct scan_value *attr_part(
	enum patch_view view, const struct scan_value *object, const struct attr_elements *tag)
{
	static const struct scan_value empty = {.p = "{}", .len = 2, .span = 1, .size = 2};
	static const char *const members[] = {
		[PATCH_METADATA] = "metadata", [PATCH_SPEC] = "spec", [PATCH_STATUS] = "status"};
	const struct scan_value *part;

	switch (view) {
	case PATCH_IMAGESTREAM:
		return object;
	case PATCH_TAG_SPEC:
		return tag->spec;
	case PATCH_TAG_STATUS:
		return tag->status;
	default:
		part = scan_find(object, members[view]);
		return scan_is_object(part) ? part : &empty;
	}
}

/* ---- trees ---- */

json_t *attr_value(enum patch_view view, const json_t *object, const struct attr_tag *tag)
{
	if (view == PATCH_TAG_SPEC || view == PATCH_TAG_STATUS)
		return patch_tag_value(view, view == PATCH_TAG_SPEC ? tag->spec : tag->status);
	return patch_value(&(struct patch_file){.view = view}, object);
}

static json_t *find(const json_t *tags, const char *key, const char *name, size_t len)
{
	json_t *element;
	size_t i;

	json_array_foreach(tags, i, element) {
		const json_t *value = json_object_get(element, key);

		if (json_is_string(value) && json_string_length(value) == len &&
			memcmp(json_string_value(value), name, len) == 0)
			return element;
	}
	return NULL;
}

struct attr_tag attr_find_tag(const json_t *object, const char *name, size_t len)
{
	const json_t *spec = json_object_get(json_object_get(object, "spec"), "tags");
	const json_t *status = json_object_get(json_object_get(object, "status"), "tags");

	return (struct attr_tag){find(spec, "name", name, len), find(status, "tag", name, len)};
}
