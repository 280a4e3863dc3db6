/* Tags whose newest import failed (fs/dotapi/request.h). */
#include "fs/dotapi/request.h"

#include <errno.h>

#define CONDITION "\"ImportSuccess\"" /* a stream whose text lacks it has none that failed */

/* The condition of an import that failed, if none came after it; or NULL. */
static const json_t *failure_of(const json_t *history)
{
	const json_t *newest = json_array_get(json_object_get(history, "items"), 0), *condition;
	json_int_t last = json_integer_value(json_object_get(newest, "generation"));
	size_t i;

	json_array_foreach(json_object_get(history, "conditions"), i, condition) {
		const char *type = json_str(condition, "type"),
			   *status = json_str(condition, "status");
		json_int_t generation =
			json_integer_value(json_object_get(condition, "generation"));

		if (type && status && streq(type, "ImportSuccess") && streq(status, "False") &&
			generation >= last)
			return condition;
	}
	return NULL;
}

static int add_failures(struct buf *out, const struct object *o)
{
	_cleanup_json_ json_t *object = object_parse(o);
	const json_t *history;
	int r = 0;
	size_t i;

	json_array_foreach(json_object_get(json_object_get(object, "status"), "tags"), i, history) {
		const json_t *failure = failure_of(history);
		char tag[NAME_SIZE];

		if (!failure || layout_escape_json(json_object_get(history, "tag"), tag) < 0)
			continue;
		r = buf_addf(out, "%s:%s\t", o->key, tag);
		r = r < 0 ? r : buf_addfield(out, json_str(failure, "lastTransitionTime"), '\t');
		r = r < 0 ? r : buf_addfield(out, json_str(failure, "message"), '\n');
		if (r < 0)
			return r;
	}
	return r;
}

size_t request_failures(const struct object *o)
{
	_cleanup_json_ json_t *object = strstr(o->text, CONDITION) ? object_parse(o) : NULL;
	const json_t *tags = json_object_get(json_object_get(object, "status"), "tags"), *history;
	size_t i, n = 0;

	json_array_foreach(tags, i, history)
		n += failure_of(history) != NULL;
	return n;
}

int request_failing(struct dotapi_call *c)
{
	const char *ns = c->path->ns[0] ? c->path->ns : NULL;
	struct object **objects;
	size_t n = store_objects(c->mount->store, ns, NULL, &objects);
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		if (strstr(objects[i]->text, CONDITION))
			r = add_failures(&c->answer, objects[i]);
	store_objects_free(objects, n);
	return r;
}
