#include "client/list.h"

#include "client/json.h"

#include <errno.h>

static int find_members(struct cut *c, struct piece *ret_metadata, struct piece *ret_items)
{
	struct piece key, value;
	int r = cut_enter(c, '{');

	while (r == 0 && (r = cut_next(c, '}')) > 0) {
		r = cut_key(c, &key);
		if (r == 0)
			r = cut_value(c, &value);
		if (r == 0 && cut_is(&key, "metadata"))
			*ret_metadata = value;
		else if (r == 0 && cut_is(&key, "items"))
			*ret_items = value;
	}
	return r == 0 ? cut_end(c) : r;
}

int list_open(const char *text, size_t len, struct list *ret)
{
	struct cut c = CUT_INIT(text ? text : "", len);
	struct piece metadata = {0}, items = {0};
	bool null;

	if (find_members(&c, &metadata, &items) < 0 || !items.len)
		return -EBADMSG;
	null = items.len == 4 && memcmp(items.p, "null", 4) == 0;
	if (!null && *items.p != '[')
		return -EBADMSG;
	*ret = (struct list){metadata, CUT_INIT(items.p, items.len), null, false};
	return 0;
}

json_t *list_metadata(const struct list *l)
{
	return json_read_or_null(l->metadata.p, l->metadata.len, JSON_ALLOW_NUL | JSON_DECODE_ANY);
}

int list_next(struct list *l, struct piece *ret)
{
	int r = 0;

	if (l->empty)
		return 0;
	if (!l->begun)
		r = cut_enter(&l->items, '[');
	l->begun = true;
	if (r == 0)
		r = cut_next(&l->items, ']');
	if (r > 0 && cut_value(&l->items, ret) < 0)
		return -EBADMSG;
	return r;
}

int list_read(const char *text, size_t len, list_item_fn *item, void *arg, json_t **ret_metadata)
{
	struct piece one;
	struct list l;
	int r = list_open(text, len, &l);

	while (r == 0 && (r = list_next(&l, &one)) > 0) {
		item(arg, one.p, one.len);
		r = 0;
	}
	if (r == 0)
		*ret_metadata = list_metadata(&l);
	return r;
}
