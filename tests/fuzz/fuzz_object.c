/*
 * An object of any JSON has the names that its place in the tree needs, and every file of it can be
 * shown.
 */
#include "fuzz.h"

#include "client/json.h"
#include "fs/tree/snapshot.h"

#include <errno.h>

#define VERSION "image.openshift.io/v1"

static void show(struct snapshot *v, enum kind kind, const char *tag, bool there)
{
	_cleanup_buf_ struct buf text = BUF_INIT(ATTR_MAX);
	struct layout_attr attr;
	int shown = snapshot_show(v, kind, tag, &text);

	if ((shown == 0) != there || (!there && shown != -ENOENT))
		abort();
	if (there &&
		(snapshot_attr(v, kind, tag, &attr) < 0 || attr.size != text.len || attr.ino < 2))
		abort();
}

static void show_tag(struct snapshot *v, const struct snapshot_tag *tag)
{
	char raw[NAME_SIZE], name[NAME_SIZE];
	size_t len;

	if (layout_unescape(tag->name, raw, &len) < 0 || len != tag->raw_len ||
		memcmp(raw, tag->raw, len) != 0 || layout_escape(raw, len, name) < 0 ||
		!streq(name, tag->name) || strchr(name, '/') || !*name)
		abort();
	if (snapshot_tag_cookie(v, tag->name) != tag->cookie)
		abort();
	for (int i = 0; i < TAG_FILES; i++)
		show(v, KIND_TAG_SPEC + i, tag->name, tag->files[i].there);
}

static void show_all(struct object *o)
{
	struct indexes *indexes = indexes_new(NULL);
	struct snapshot *v = snapshot_new(o, NULL, NULL, 0, 1, indexes);
	struct snapshot *next = snapshot_new(o, v, NULL, 0, 2, indexes);
	struct snapshot_index *index = snapshot_index(next);

	for (int i = 0; i < STREAM_FILES; i++)
		show(next, KIND_IMAGESTREAM_JSON + i, NULL, index->files[i].there);
	for (size_t i = 0; i < index->ntags; i++)
		show_tag(next, &index->tags[i]);
	snapshot_index_unref(index);
	snapshot_unref(next);
	snapshot_unref(v);
	indexes_free(indexes);
}

/* What is kept is read again as the same object. */
static void check_again(const struct object *o)
{
	_cleanup_object_ struct object *again = NULL;
	int r = object_from_text(o->text, o->len, "another/v1", &again, NULL);

	if (r == -EFBIG)
		return; /* what was put in front made it too large */
	if (r < 0 || !streq(again->key, o->key) || !streq(again->uid, o->uid) ||
		!streq(again->resource_version, o->resource_version) ||
		again->created != o->created)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_object_ struct object *o = NULL;
	_cleanup_free_ char *why = NULL;
	_cleanup_json_ json_t *parsed = NULL;
	int r = object_from_text((const char *)data, size, VERSION, &o, &why);

	if ((r < 0) != (why != NULL) || (r < 0) != (o == NULL))
		abort();
	if (o) {
		parsed = object_parse(o);
		if (strlen(o->text) != o->len || strchr(o->name, '/') || *o->name == '.' ||
			!*o->uid)
			abort();
		check_again(o);
		show_all(o);
	}
	return 0;
}
