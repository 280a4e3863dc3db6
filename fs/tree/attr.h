/*
 * attr: what each file of an object holds: one row a file.
 */
#ifndef FS_TREE_ATTR_H
#define FS_TREE_ATTR_H

#include "client/buf.h"
#include "fs/tree/layout.h"

#define ATTR_MAX ((size_t)128 << 20)

/* The elements of spec.tags and status.tags of one tag; NULL where it isn't there. Borrowed. */
struct attr_tag {
	json_t *spec, *status;
};

/*
 * Appends the file's bytes. `object` is the whole ImageStream, `tag` is for the files of a tag.
 * -ENOENT where the object has no such file, -EFBIG past the buf's maximum.
 */
int attr_show(enum kind kind, const json_t *object, const struct attr_tag *tag, struct buf *out);

/* How many bytes a member of the ImageStream takes in imagestream.json, with what separates it. */
size_t attr_member_size(const char *key, const json_t *value);
/* And what is there without any. */
#define ATTR_NO_MEMBERS 3

/* The elements of the tag of that name. */
struct attr_tag attr_find_tag(const json_t *object, const char *name, size_t len);

#endif
