#include "client/list.h"

#include "client/cut.h"
#include "client/json.h"

#include <errno.h>

static int read_items(struct cut *c, list_item_fn *item, void *arg)
{
	struct piece value = {0};
	int r = cut_enter(c, '[');

	while (r == 0 && (r = cut_next(c, ']')) > 0) {
		r = cut_value(c, &value);
		if (r == 0)
			item(arg, value.p, value.len);
	}
	return r;
}

static bool is_null(const struct piece *value)
{
	return value->len == 4 && memcmp(value->p, "null", 4) == 0;
}

static int read_member(struct cut *c, list_item_fn *item, void *arg, struct piece *ret_metadata)
{
	struct piece key = {0}, value = {0};
	struct cut items;
	int r = cut_key(c, &key);

	if (r == 0)
		r = cut_value(c, &value);
	if (r < 0)
		return r;
	if (cut_is(&key, "metadata"))
		*ret_metadata = value;
	if (!cut_is(&key, "items") || is_null(&value))
		return 0;
	items = (struct cut)CUT_INIT(value.p, value.len);
	return read_items(&items, item, arg);
}

int list_read(const char *text, size_t len, list_item_fn *item, void *arg, json_t **ret_metadata)
{
	struct cut c = CUT_INIT(text ? text : "", len);
	struct piece metadata = {0};
	int r = cut_enter(&c, '{');

	while (r == 0 && (r = cut_next(&c, '}')) > 0)
		r = read_member(&c, item, arg, &metadata);
	if (r == 0)
		r = cut_end(&c);
	if (r == 0)
		*ret_metadata = json_read_or_null(metadata.p, metadata.len, JSON_ALLOW_NUL);
	return r;
}
