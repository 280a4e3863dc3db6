#include "fs/dotapi/export.h"

#include "client/manifest.h"
#include "fs/tree/layout.h"

#include <pthread.h>

struct export
{
	pthread_mutex_t lock;
	struct object **objects;
	size_t count;
	size_t next;	     /* lock; the object whose text is to be made */
	struct buf text;     /* lock */
	uint64_t text_begin; /* lock; where that stands in the whole */
};

struct export *export_open(struct store *store, const char *ns)
{
	struct export *x = xcalloc(1, sizeof(*x));

	pthread_mutex_init(&x->lock, NULL);
	x->text.max = SIZE_MAX;
	x->count = store_objects(store, *ns ? ns : NULL, NULL, &x->objects);
	return x;
}

void export_close(struct export *x)
{
	store_objects_free(x->objects, x->count);
	buf_release(&x->text);
	pthread_mutex_destroy(&x->lock);
	free(x);
}

/* Members that are null say nothing. */
static void drop_nulls(json_t *value)
{
	const char *key;
	json_t *member;
	void *next;
	size_t i;

	json_object_foreach_safe(value, next, key, member) {
		drop_nulls(member);
		if (json_is_null(member))
			json_object_del(value, key);
	}
	json_array_foreach(value, i, member)
		drop_nulls(member);
}

/* Whether the `from` is an image of the stream itself, which goes with it. */
static bool is_own_image(const json_t *from, const char *ns, const char *stream)
{
	const char *kind = json_str(from, "kind"), *name = json_str(from, "name");
	const char *in = json_str(from, "namespace");
	size_t n = strlen(stream);

	return kind && name && streq(kind, "ImageStreamImage") && (!in || !*in || streq(in, ns)) &&
	       strncmp(name, stream, n) == 0 && name[n] == '@';
}

/* A tag without a `from` that a manifest could have: its image, as a comment. */
static int add_comment(struct buf *out, const json_t *history)
{
	const json_t *name = json_object_get(history, "tag");
	const json_t *newest = json_array_get(json_object_get(history, "items"), 0);
	const char *image = json_str(newest, "dockerImageReference");
	char tag[NAME_SIZE];

	if (!newest || !json_is_string(name) ||
		layout_escape(json_string_value(name), json_string_length(name), tag) < 0)
		return 0;
	return buf_addf(out, "# pushed: tag %s is %.*s\n", tag,
		image ? (int)strcspn(image, "\r\n") : 0, image ? image : "");
}

static int add_comments(struct buf *out, const json_t *object, const char *ns, const char *stream)
{
	const json_t *tags = json_object_get(json_object_get(object, "status"), "tags"), *history;
	int r = 0;
	size_t i;

	json_array_foreach(tags, i, history) {
		const json_t *name = json_object_get(history, "tag"), *from;

		if (!json_is_string(name))
			continue;
		from = json_object_get(
			attr_find_tag(object, json_string_value(name), json_string_length(name))
				.spec,
			"from");
		if (r == 0 && (json_object_size(from) == 0 || is_own_image(from, ns, stream)))
			r = add_comment(out, history);
	}
	return r;
}

/* What `create` and `apply` take, and nothing that changes by itself. */
static json_t *clean(const json_t *object, const char *ns, const char *stream)
{
	json_t *copy = json_deep_copy(object), *list, *tag;
	json_t *metadata = json_object_get(copy, "metadata");
	size_t i;

	manifest_strip(copy, json_str(object, "apiVersion"));
	json_object_del(json_object_get(metadata, "annotations"), MANIFEST_IMPORT_ANNOTATION);
	if (json_object_size(json_object_get(metadata, "annotations")) == 0)
		json_object_del(metadata, "annotations");
	list = json_object_get(json_object_get(copy, "spec"), "tags");
	for (i = json_array_size(list); i > 0; i--) {
		tag = json_array_get(list, i - 1);
		json_object_del(tag, "generation");
		if (is_own_image(json_object_get(tag, "from"), ns, stream))
			json_array_remove(list, i - 1);
	}
	drop_nulls(copy);
	return copy;
}

static int add_document(struct buf *out, struct object *o)
{
	_cleanup_json_ json_t *object = object_parse(o), *copy = NULL;
	_cleanup_free_ char *ns = xstrndup(o->key, strcspn(o->key, "/"));
	int r;

	copy = clean(object, ns, o->name);
	r = buf_addstr(out, "---\n");
	r = r < 0 ? r : attr_yaml(copy, out);
	return r < 0 ? r : add_comments(out, object, ns, o->name);
}

/* x->lock held. */
static int make(struct export *x, size_t size, uint64_t offset)
{
	int r = 0;

	if (offset < x->text_begin) {
		buf_release(&x->text);
		x->next = x->text_begin = 0;
	}
	for (;;) {
		uint64_t end = x->text_begin + x->text.len;
		size_t past = offset < end ? offset - x->text_begin : x->text.len;

		buf_consume(&x->text, past);
		x->text_begin += past;
		if (r < 0 || x->next == x->count || x->text.len >= size)
			return r;
		r = add_document(&x->text, x->objects[x->next++]);
	}
}

int export_read(struct export *x, size_t size, uint64_t offset, struct buf *ret)
{
	int r;

	pthread_mutex_lock(&x->lock);
	r = make(x, size, offset);
	if (r == 0 && x->text_begin == offset)
		buf_add(ret, x->text.data, x->text.len < size ? x->text.len : size);
	pthread_mutex_unlock(&x->lock);
	return r;
}
