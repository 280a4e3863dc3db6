#include "fs/dotapi/pushes.h"

#include "client/clock.h"
#include "fs/tree/layout.h"

struct push {
	const char *created, *image, *before;
	char tag[NAME_SIZE];
	size_t order;
};

static bool is_same_item(const json_t *a, const json_t *b)
{
	static const char *const names[] = {"created", "image", "dockerImageReference"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const json_t *x = json_object_get(a, names[i]), *y = json_object_get(b, names[i]);

		if (x != y && !json_equal(x, y))
			return false;
	}
	return true;
}

static bool has_item(const json_t *items, const json_t *item)
{
	const json_t *one;
	size_t i;

	json_array_foreach(items, i, one)
		if (is_same_item(one, item))
			return true;
	return false;
}

static bool is_since(const json_t *item, int64_t since)
{
	const char *created = json_str(item, "created");
	int64_t when;

	return created && rfc3339_parse(created, &when) == 0 && when >= since;
}

static const char *image_of(const json_t *item)
{
	const char *image = json_str(item, "dockerImageReference");

	return image && *image ? image : "-";
}

static int by_time(const void *a, const void *b)
{
	const struct push *x = a, *y = b;
	int order = strcmp(x->created, y->created);

	return order ? order : x->order < y->order ? -1 : x->order > y->order;
}

/* What came to one tag, behind the `n` that there are. Returns how many there are then. */
static size_t collect(struct push *pushes, size_t n, const json_t *history, const json_t *known,
	bool all, int64_t since)
{
	const json_t *name = json_object_get(history, "tag");
	const json_t *items = json_object_get(history, "items");
	char tag[NAME_SIZE];

	if (!json_is_string(name) ||
		layout_escape(json_string_value(name), json_string_length(name), tag) < 0)
		return n;
	for (size_t i = json_array_size(items); i > 0; i--) {
		const json_t *item = json_array_get(items, i - 1);
		const char *created = json_str(item, "created");

		if (has_item(known, item) || (all && !is_since(item, since)))
			continue;
		pushes[n] = (struct push){created ? created : "-", image_of(item),
			image_of(json_array_get(items, i)), "", n};
		strcpy(pushes[n++].tag, tag);
	}
	return n;
}

static size_t count_items(const json_t *tags)
{
	const json_t *history;
	size_t n = 0, i;

	json_array_foreach(tags, i, history)
		n += json_array_size(json_object_get(history, "items"));
	return n;
}

static const json_t *tags_of(const json_t *object)
{
	return json_object_get(json_object_get(object, "status"), "tags");
}

int pushes_add(
	const struct object *before, const struct object *now, int64_t since, struct buf *out)
{
	_cleanup_json_ json_t *old = before ? object_parse(before) : NULL, *new = object_parse(now);
	const json_t *tags = tags_of(new), *history;
	_cleanup_free_ struct push *pushes = xcalloc(count_items(tags) + 1, sizeof(*pushes));
	size_t n = 0, i;
	int r = 0;

	json_array_foreach(tags, i, history) {
		const json_t *name = json_object_get(history, "tag");
		struct attr_tag known =
			attr_find_tag(old, json_string_value(name), json_string_length(name));

		n = collect(
			pushes, n, history, json_object_get(known.status, "items"), !before, since);
	}
	qsort(pushes, n, sizeof(*pushes), by_time);
	for (i = 0; r == 0 && i < n; i++) {
		r = buf_addfield(out, pushes[i].created, '\t');
		r = r < 0 ? r : buf_addf(out, "%s:%s\t", now->key, pushes[i].tag);
		r = r < 0 ? r : buf_addfield(out, pushes[i].image, '\t');
		r = r < 0 ? r : buf_addfield(out, pushes[i].before, '\n');
	}
	return r;
}
