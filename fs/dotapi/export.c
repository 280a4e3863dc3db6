#include "fs/dotapi/export.h"

#include "client/manifest.h"
#include "client/yaml.h"
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

/* Whether the `from` is an image of the stream itself, which goes with it. */
static bool is_own_image(const json_t *from, const char *ns, const char *stream)
{
	const char *kind = json_str(from, "kind"), *name = json_str(from, "name");
	const char *in = json_str(from, "namespace");
	size_t n = strlen(stream);

	return kind && name && streq(kind, "ImageStreamImage") && (!in || !*in || streq(in, ns)) &&
	       strncmp(name, stream, n) == 0 && name[n] == '@';
}

/* How many bytes at `s` would end a comment, or aren't of YAML at all. */
static size_t not_in_a_comment(const unsigned char *s)
{
	static const char *const bad[] = {"\xe2\x80\xa8", "\xe2\x80\xa9", "\xef\xbb\xbf",
		"\xef\xbf\xbe", "\xef\xbf\xbf"}; /* breaks of line, a mark, no characters */

	if (s[0] < 0x20 || s[0] == 0x7f)
		return 1;
	if (s[0] == 0xc2 && s[1] >= 0x80 && s[1] <= 0x9f) /* NEL and the like */
		return 2;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (str_has_prefix((const char *)s, bad[i]))
			return strlen(bad[i]);
	return 0;
}

/* What a comment can't have is escaped as in the names of tags. */
static int add_plain(struct buf *out, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	int r = 0;

	while (r == 0 && *s) {
		size_t n = not_in_a_comment(s);

		if (n == 0)
			r = buf_add(out, s++, 1);
		for (; r == 0 && n > 0; n--)
			r = buf_addf(out, "%%%02X", *s++);
	}
	return r;
}

/* A tag without a `from` that a manifest could have: its image, as a comment. */
static int add_comment(struct buf *out, const json_t *history)
{
	const json_t *newest = json_array_get(json_object_get(history, "items"), 0);
	const char *image = json_str(newest, "dockerImageReference");
	char tag[NAME_SIZE];
	int r;

	if (!newest || layout_escape_json(json_object_get(history, "tag"), tag) < 0)
		return 0;
	r = buf_addstr(out, "# pushed: tag ");
	r = r < 0 ? r : add_plain(out, tag);
	r = r < 0 ? r : buf_addstr(out, " is ");
	r = r < 0 ? r : add_plain(out, image ? image : "");
	return r < 0 ? r : buf_addstr(out, "\n");
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

/* What `create` and `apply` take. */
static json_t *clean(const json_t *object, const char *ns, const char *stream)
{
	json_t *copy = json_deep_copy(object);
	json_t *tags = json_object_get(json_object_get(copy, "spec"), "tags");

	for (size_t i = json_array_size(tags); i > 0; i--)
		if (is_own_image(json_object_get(json_array_get(tags, i - 1), "from"), ns, stream))
			json_array_remove(tags, i - 1);
	manifest_clean(copy);
	return copy;
}

static int add_document(struct buf *out, struct object *o)
{
	_cleanup_json_ json_t *object = object_parse(o), *copy = NULL;
	_cleanup_free_ char *ns = object_key_namespace(o->key);
	int r;

	copy = clean(object, ns, o->name);
	r = buf_addstr(out, "---\n");
	r = r < 0 ? r : yaml_show(copy, out);
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
