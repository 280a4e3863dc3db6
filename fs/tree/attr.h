/*
 * attr: what the files of an object hold, and how that becomes bytes.
 */
#ifndef FS_TREE_ATTR_H
#define FS_TREE_ATTR_H

#include "client/buf.h"
#include "client/patch.h"
#include "client/scan.h"

#define ATTR_MAX ((size_t)128 << 20)

/* The elements of spec.tags and status.tags of one tag; NULL where it isn't there. Borrowed. */
struct attr_tag {
	json_t *spec, *status;
};

/* The same as they stand in a text that was scanned. */
struct attr_elements {
	const struct scan_value *spec, *status;
};

/*
 * Where a file goes. {.bytes = …}: its bytes; {0}: how many they are, and a hash of them (but of YAML).
 */
struct attr_sink {
	struct buf *bytes;
	uint64_t size, hash;
	int error; /* -EFBIG: past the buf's maximum */
};

/* A value, without what is hidden of it. */
typedef int attr_fn(
	const struct scan_value *value, const struct patch_hidden *hidden, struct attr_sink *to);
attr_fn attr_json;
attr_fn attr_yaml; /* of what nothing is hidden of */
/* Of a tag's spec: what it follows (client/reference.h). -ENOENT where it follows nothing. */
attr_fn attr_from;
/* Of a tag's status: where its newest image is. -ENOENT where it has none. */
attr_fn attr_image;

/*
 * What a file of that view shows of the whole ImageStream, but for what is hidden of it. NULL where
 * the object has no such tag.
 */
const struct scan_value *attr_part(
	enum patch_view view, const struct scan_value *object, const struct attr_elements *tag);

/* The same of a tree, as patch_value, which looks for the tag by its name. A new reference. */
json_t *attr_value(enum patch_view view, const json_t *object, const struct attr_tag *tag);

/* The elements of the tag of that name. */
struct attr_tag attr_find_tag(const json_t *object, const char *name, size_t len);

#endif
