/*
 * attr: what the files of an object hold, and how that becomes bytes.
 */
#ifndef FS_TREE_ATTR_H
#define FS_TREE_ATTR_H

#include "client/buf.h"
#include "client/patch.h"

#define ATTR_MAX ((size_t)128 << 20)

/* The elements of spec.tags and status.tags of one tag; NULL where it isn't there. Borrowed. */
struct attr_tag {
	json_t *spec, *status;
};

/* A value's bytes, appended. -EFBIG past the buf's maximum. */
typedef int attr_fn(const json_t *value, struct buf *out);
attr_fn attr_json, attr_yaml;
/* Of a tag's spec: what it follows (client/reference.h). -ENOENT where it follows nothing. */
attr_fn attr_from;
/* Of a tag's status: where its newest image is. -ENOENT where it has none. */
attr_fn attr_image;

/*
 * What a file of that view shows of the whole ImageStream, as patch_value, which looks for the tag
 * by its name; here it was found. A new reference, NULL where the object has no such tag.
 */
json_t *attr_value(enum patch_view view, const json_t *object, const struct attr_tag *tag);

/* How many bytes a member of the ImageStream takes in imagestream.json, with what separates it. */
size_t attr_member_size(const char *key, const json_t *value);
/* And what is there without any. */
#define ATTR_NO_MEMBERS 3

/* The elements of the tag of that name. */
struct attr_tag attr_find_tag(const json_t *object, const char *name, size_t len);

#endif
