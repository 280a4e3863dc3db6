#include "fs/dotapi/pushes.h"

#include "client/clock.h"
#include "fs/tree/layout.h"

struct push {
	const char *created, *image, *before;
	const char *after; /* the newest time of the tag's items up to this one */
	char tag[NAME_SIZE];
	size_t order;
};

/* What makes an item one of its own; the caller frees. */
static char *identity(const json_t *item)
{
	const char *created = json_str(item, "created"), *image = json_str(item, "image");
	const char *reference = json_str(item, "dockerImageReference");

	return xasprintf("%s\n%s\n%s", created ? created : "", image ? image : "",
		reference ? reference : "");
}

/* The items as a set: histories may be long. */
static json_t *identities(const json_t *items)
{
	json_t *set = json_object();
	const json_t *item;
	size_t i;

	json_array_foreach(items, i, item) {
		_cleanup_free_ char *key = identity(item);

		json_object_set_new(set, key, json_true());
	}
	return set;
}

static bool has_item(const json_t *known, const json_t *item)
{
	_cleanup_free_ char *key = identity(item);

	return json_object_get(known, key);
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
	int order = strcmp(x->after, y->after);

	return order ? order : x->order < y->order ? -1 : x->order > y->order;
}

/*
 * What came to one tag, behind the `n` that there are. `old`: the items may have been there before.
 * Returns how many there are then.
 */
static size_t collect(struct push *pushes, size_t n, const json_t *history, const json_t *known,
	bool old, int64_t since)
{
	const json_t *items = json_object_get(history, "items");
	const char *after = "";
	char tag[NAME_SIZE];

	if (layout_escape_json(json_object_get(history, "tag"), tag) < 0)
		return n;
	for (size_t i = json_array_size(items); i > 0; i--) {
		const json_t *item = json_array_get(items, i - 1);
		const char *created = json_str(item, "created");

		/* What follows another tag has that one's times. */
		after = created && strcmp(created, after) > 0 ? created : after;
		if (has_item(known, item) || (old && !is_since(item, since)))
			continue;
		pushes[n] = (struct push){.created = created ? created : "-",
			.image = image_of(item),
			.before = image_of(json_array_get(items, i)),
			.after = after,
			.order = n};
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

/* Tag -> its history; names that no file can have aside. */
static json_t *by_tag(const json_t *tags)
{
	json_t *map = json_object(), *history;
	size_t i;

	json_array_foreach(tags, i, history) {
		const json_t *name = json_object_get(history, "tag");

		if (json_is_string(name) &&
			strlen(json_string_value(name)) == json_string_length(name))
			json_object_set(map, json_string_value(name), history);
	}
	return map;
}

struct pushes {
	json_t *was, *now; /* what they point into */
	struct push *array;
	size_t n;
};

static void pushes_release(struct pushes *p)
{
	json_decref(p->was);
	json_decref(p->now);
	free(p->array);
}

static bool is_same(const struct object *before, const struct object *now)
{
	return before && streq(before->uid, now->uid);
}

static void pushes_find(
	struct pushes *p, const struct object *before, const struct object *now, int64_t since)
{
	bool old = !is_same(before, now) && now->created < since;
	_cleanup_json_ json_t *histories = NULL;
	const json_t *tags, *history;
	size_t i;

	p->was = before ? object_parse(before) : NULL;
	p->now = object_parse(now);
	histories = by_tag(tags_of(p->was));
	tags = tags_of(p->now);
	p->array = xcalloc(count_items(tags) + 1, sizeof(*p->array));
	p->n = 0;
	json_array_foreach(tags, i, history) {
		const char *tag = json_str(history, "tag");
		const json_t *known = tag ? json_object_get(histories, tag) : NULL;
		_cleanup_json_ json_t *items = identities(json_object_get(known, "items"));

		p->n = collect(p->array, p->n, history, items, old, since);
	}
	qsort(p->array, p->n, sizeof(*p->array), by_time);
}

size_t pushes_count(const struct object *before, const struct object *now, int64_t since)
{
	struct pushes p;

	if (is_same(before, now) ? before->status == now->status : now->newest < since)
		return 0;
	pushes_find(&p, before, now, since);
	pushes_release(&p);
	return p.n;
}

int pushes_add(
	const struct object *before, const struct object *now, int64_t since, struct buf *out)
{
	struct pushes p;
	int r = 0;

	pushes_find(&p, before, now, since);
	for (size_t i = 0; r == 0 && i < p.n; i++) {
		r = buf_addfield(out, p.array[i].created, '\t');
		r = r < 0 ? r : buf_addf(out, "%s:%s\t", now->key, p.array[i].tag);
		r = r < 0 ? r : buf_addfield(out, p.array[i].image, '\t');
		r = r < 0 ? r : buf_addfield(out, p.array[i].before, '\n');
	}
	pushes_release(&p);
	return r;
}
