#include "fs/tree/attr.h"

#include "client/reference.h"
#include "client/yaml.h"

#include <errno.h>

int attr_json(const json_t *value, struct buf *out)
{
	int r = buf_addjson(out, value, JSON_INDENT(2));

	return r < 0 ? r : buf_addstr(out, "\n");
}

int attr_yaml(const json_t *value, struct buf *out)
{
	return yaml_show(value, out);
}

int attr_from(const json_t *value, struct buf *out)
{
	return reference_show(json_object_get(value, "from"), out);
}

int attr_image(const json_t *value, struct buf *out)
{
	const json_t *newest = json_array_get(json_object_get(value, "items"), 0);
	const char *reference = json_str(newest, "dockerImageReference");

	return newest ? buf_addf(out, "%s\n", reference ? reference : "") : -ENOENT;
}

json_t *attr_value(enum patch_view view, const json_t *object, const struct attr_tag *tag)
{
	if (view == PATCH_TAG_SPEC || view == PATCH_TAG_STATUS)
		return patch_tag_value(view, view == PATCH_TAG_SPEC ? tag->spec : tag->status);
	return patch_value(&(struct patch_file){.view = view}, object);
}

static int count(const char *p, size_t n, void *total)
{
	*(size_t *)total += n;
	return 0;
}

size_t attr_member_size(const char *key, const json_t *value)
{
	_cleanup_json_ json_t *alone = json_pack("{s:O}", key, value);
	size_t size = 0;

	json_dump_callback(alone, count, &size, JSON_INDENT(2));
	return size -
	       strlen("{\n"
		      "\n}") +
	       strlen(",\n");
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
