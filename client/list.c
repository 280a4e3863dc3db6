#include "client/list.h"

#include "client/json.h"

#include <errno.h>

/*
 * What is found of them from here up to the end of the object and the text; or up to the items, once
 * there is metadata: then 1.
 */
static int find_members(struct cut *c, struct piece *metadata, struct piece *items)
{
	struct piece key = {0}, value = {0};
	int r = 0;

	while (r == 0 && (r = cut_next(c, '}')) > 0) {
		r = cut_key(c, &key);
		if (r == 0 && cut_is(&key, "items") && metadata->p && c->p < c->end && *c->p == '[')
			return 1;
		if (r == 0)
			r = cut_value(c, &value);
		if (r == 0 && cut_is(&key, "metadata"))
			*metadata = value;
		else if (r == 0 && cut_is(&key, "items"))
			*items = value;
	}
	return r == 0 ? cut_end(c) : r;
}

int list_open(const char *text, size_t len, struct list *ret)
{
	struct cut c = CUT_INIT(text ? text : "", len);
	struct piece metadata = {0}, items = {0};
	int r = cut_enter(&c, '{');
	bool null;

	if (r == 0)
		r = find_members(&c, &metadata, &items);
	if (r > 0) {
		*ret = (struct list){.metadata = metadata, .items = c, .open = true};
		return 0;
	}
	if (r < 0 || !items.len)
		return -EBADMSG;
	null = items.len == 4 && memcmp(items.p, "null", 4) == 0;
	if (!null && *items.p != '[')
		return -EBADMSG;
	*ret = (struct list){
		.metadata = metadata, .items = CUT_INIT(items.p, items.len), .empty = null};
	return 0;
}

json_t *list_metadata(const struct list *l)
{
	return json_read_or_null(l->metadata.p, l->metadata.len, JSON_ALLOW_NUL | JSON_DECODE_ANY);
}

/* What stands after the items. Each of the two members came once. */
static int read_end(struct list *l)
{
	struct piece metadata = {0}, items = {0};

	l->items.first = false;
	return find_members(&l->items, &metadata, &items) == 0 && !metadata.p && !items.p
		       ? 0
		       : -EBADMSG;
}

int list_next(struct list *l)
{
	int r = 0;

	if (l->empty)
		return 0;
	if (!l->begun)
		r = cut_enter(&l->items, '[');
	l->begun = true;
	if (r == 0)
		r = cut_next(&l->items, ']');
	return r == 0 && l->open ? read_end(l) : r;
}

int list_take(struct list *l, struct piece *ret)
{
	return cut_value(&l->items, ret);
}

struct piece list_rest(const struct list *l)
{
	return (struct piece){l->items.p, l->items.end - l->items.p};
}

void list_skip(struct list *l, size_t len)
{
	l->items.p += len;
}

int list_read(const char *text, size_t len, list_item_fn *item, void *arg, json_t **ret_metadata)
{
	struct piece one = {0};
	struct list l;
	int r = list_open(text, len, &l);

	while (r == 0 && (r = list_next(&l)) > 0) {
		r = list_take(&l, &one);
		if (r == 0)
			item(arg, one.p, one.len);
	}
	if (r == 0)
		*ret_metadata = list_metadata(&l);
	return r;
}
