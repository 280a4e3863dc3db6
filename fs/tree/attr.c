#include "fs/tree/attr.h"

#include "client/yaml.h"

#include <errno.h>

static int show_json(const json_t *json, struct buf *out)
{
	int r = buf_addjson(out, json, JSON_INDENT(2));

	return r < 0 ? r : buf_addstr(out, "\n");
}

/* A shallow copy without the keys that only the server counts. */
static json_t *without(const json_t *object, const char *key, const char *other)
{
	json_t *copy = json_is_object(object) ? json_copy((json_t *)object) : json_object();

	json_object_del(copy, key);
	if (other)
		json_object_del(copy, other);
	return copy;
}

static int show_imagestream(const json_t *object, const struct attr_tag *tag, struct buf *out)
{
	return show_json(object, out);
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

static int show_yaml(const json_t *object, const struct attr_tag *tag, struct buf *out)
{
	return yaml_show(object, out);
}

static int show_metadata(const json_t *object, const struct attr_tag *tag, struct buf *out)
{
	const json_t *metadata = json_object_get(object, "metadata");
	_cleanup_json_ json_t *shown = without(metadata, "resourceVersion", "generation");

	return show_json(shown, out);
}

static int show_spec(const json_t *object, const struct attr_tag *tag, struct buf *out)
{
	_cleanup_json_ json_t *spec = without(json_object_get(object, "spec"), "generation", NULL);
	const json_t *tags = json_object_get(spec, "tags"), *element;
	size_t i;

	if (json_is_array(tags)) {
		json_t *shown = json_array();

		json_array_foreach(tags, i, element)
			json_array_append_new(shown, without(element, "generation", NULL));
		json_object_set_new(spec, "tags", shown);
	}
	return show_json(spec, out);
}

static int show_status(const json_t *object, const struct attr_tag *tag, struct buf *out)
{
	_cleanup_json_ json_t *empty = json_object();
	const json_t *status = json_object_get(object, "status");

	return show_json(json_is_object(status) ? status : empty, out);
}

static int show_tag_spec(const json_t *object, const struct attr_tag *tag, struct buf *out)
{
	_cleanup_json_ json_t *shown = NULL;

	if (!tag->spec)
		return -ENOENT;
	shown = without(tag->spec, "generation", NULL);
	return show_json(shown, out);
}

static int show_tag_status(const json_t *object, const struct attr_tag *tag, struct buf *out)
{
	return tag->status ? show_json(tag->status, out) : -ENOENT;
}

static int show_tag_image(const json_t *object, const struct attr_tag *tag, struct buf *out)
{
	const json_t *newest = json_array_get(json_object_get(tag->status, "items"), 0);
	const char *reference = json_str(newest, "dockerImageReference");

	return newest ? buf_addf(out, "%s\n", reference ? reference : "") : -ENOENT;
}

typedef int show_fn(const json_t *object, const struct attr_tag *tag, struct buf *out);

static show_fn *const shows[KIND_COUNT] = {
	[KIND_IMAGESTREAM_JSON] = show_imagestream,
	[KIND_IMAGESTREAM_YAML] = show_yaml,
	[KIND_METADATA_JSON] = show_metadata,
	[KIND_SPEC_JSON] = show_spec,
	[KIND_STATUS_JSON] = show_status,
	[KIND_TAG_SPEC] = show_tag_spec,
	[KIND_TAG_STATUS] = show_tag_status,
	[KIND_TAG_IMAGE] = show_tag_image,
};

int attr_show(enum kind kind, const json_t *object, const struct attr_tag *tag, struct buf *out)
{
	return shows[kind](object, tag, out);
}

static json_t *find(const json_t *tags, const char *key, const char *name, size_t len)
{
	json_t *element;
	size_t i;

	json_array_foreach(tags, i, element)
	{
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
