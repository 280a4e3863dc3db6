/*
 * layout: the layout of the mount: what there is and how it is called.
 *
 * A struct place names a place by what it means (kind, namespace, stream, tag), not by its parents,
 * so it stays right whatever comes and goes around it.
 */
#ifndef FS_TREE_LAYOUT_H
#define FS_TREE_LAYOUT_H

#include "client/rights.h"
#include "fs/tree/attr.h"

#include <sys/stat.h>

/*
 * NAME_MAX and its NUL. What is copied into such a buffer was measured: names of namespaces and
 * streams by the gate (client/object.h), of tags by layout_escape, those that a caller asks for by
 * namei_find and op_lookup.
 */
#define NAME_SIZE 256

/*
 * The layout: a row for each kind of thing, children after their directory. A new file is a row
 * here and, where none fits, a function in attr.c that shows it; one of .api needs a row in
 * dotapi/files.c, too.
 *
 *	kind	its name is hashed into st_ino
 *	parent, name	NULL: called by objects' names. With a leading dot: found, never listed
 *	mode	type and permissions, before umask and rights
 *	rights	any one of them gives w; none: it is nobody's to write (in .api `mode` says all)
 *	view	what it shows of the ImageStream, and its save is compared to (client/patch.h)
 *	show	how that becomes bytes (fs/tree/attr.h)
 */
/* clang-format off */
#define LAYOUT(ROW) \
	ROW(ROOT,      ROOT, NULL, S_IFDIR | 0777) \
	ROW(NAMESPACE, ROOT, NULL, S_IFDIR | 0777, RIGHT_CREATE | RIGHT_DELETE) \
	ROW(STREAM, NAMESPACE, NULL, S_IFDIR | 0777, \
		RIGHT_UPDATE | RIGHT_PATCH | RIGHT_PATCH_STATUS) \
	ROW(IMAGESTREAM_JSON, STREAM, "imagestream.json", S_IFREG | 0666, \
		RIGHT_UPDATE, PATCH_IMAGESTREAM, attr_json) \
	ROW(IMAGESTREAM_YAML, STREAM, "imagestream.yaml", S_IFREG | 0666, \
		RIGHT_UPDATE, PATCH_IMAGESTREAM, attr_yaml) \
	ROW(METADATA_JSON,    STREAM, "metadata.json",    S_IFREG | 0666, \
		RIGHT_PATCH, PATCH_METADATA, attr_json) \
	ROW(SPEC_JSON,        STREAM, "spec.json",        S_IFREG | 0666, \
		RIGHT_PATCH, PATCH_SPEC, attr_json) \
	ROW(STATUS_JSON,      STREAM, "status.json",      S_IFREG | 0666, \
		RIGHT_PATCH_STATUS, PATCH_STATUS, attr_json) \
	ROW(TAGS,             STREAM, "tags",             S_IFDIR | 0777, \
		RIGHT_PATCH | RIGHT_DELETE_TAG) \
	ROW(TAG, TAGS, NULL, S_IFDIR | 0777, RIGHT_PATCH | RIGHT_PATCH_STATUS) \
	ROW(TAG_SPEC,   TAG, "spec.json",   S_IFREG | 0666, \
		RIGHT_PATCH, PATCH_TAG_SPEC, attr_json) \
	ROW(TAG_STATUS, TAG, "status.json", S_IFREG | 0666, \
		RIGHT_PATCH_STATUS, PATCH_TAG_STATUS, attr_json) \
	ROW(TAG_FROM,   TAG, "from",        S_IFREG | 0666, \
		RIGHT_PATCH, PATCH_TAG_SPEC, attr_from) \
	ROW(TAG_IMAGE,  TAG, "image",       S_IFREG | 0666, \
		0, PATCH_TAG_STATUS, attr_image) \
	ROW(API, ROOT, ".api", S_IFDIR | 0555) \
	ROW(API_STATUS,  API, "status.json", S_IFREG | 0444) \
	ROW(API_METRICS, API, "metrics",     S_IFREG | 0444) \
	ROW(API_ERRORS,  API, "errors",      S_IFREG | 0444) \
	ROW(API_REFRESH, API, "refresh",     S_IFREG | 0600) \
	ROW(API_VERSION, API, "version",     S_IFREG | 0444) \
	ROW(API_HEALTHZ, API, "healthz",     S_IFREG | 0444) \
	ROW(API_READYZ,  API, "readyz",      S_IFREG | 0444) \
	ROW(API_EVENTS,  API, "events",      S_IFREG | 0444) \
	ROW(API_PUSHES,  API, "pushes",      S_IFREG | 0444) \
	ROW(API_FAILING, API, "failing",     S_IFREG | 0444) \
	ROW(API_EXPORT,  API, "export.yaml", S_IFREG | 0444) \
	ROW(API_CREATE,  API, "create",      S_IFREG | 0600) \
	ROW(API_APPLY,   API, "apply",       S_IFREG | 0600) \
	ROW(API_APPLY_FORCE, API, "apply-force", S_IFREG | 0600) \
	ROW(API_SELECT,  API, "select",      S_IFDIR | 0555) \
	ROW(SELECTOR, API_SELECT, NULL, S_IFDIR | 0555) \
	ROW(SELECTED, SELECTOR, NULL, S_IFLNK | 0777) \
	ROW(NAMESPACE_API, NAMESPACE, ".api", S_IFDIR | 0555) \
	ROW(NAMESPACE_EVENTS, NAMESPACE_API, "events", S_IFREG | 0444) \
	ROW(NAMESPACE_PUSHES, NAMESPACE_API, "pushes", S_IFREG | 0444) \
	ROW(NAMESPACE_FAILING, NAMESPACE_API, "failing", S_IFREG | 0444) \
	ROW(NAMESPACE_EXPORT, NAMESPACE_API, "export.yaml", S_IFREG | 0444) \
	ROW(NAMESPACE_CREATE, NAMESPACE_API, "create", S_IFREG | 0600) \
	ROW(NAMESPACE_APPLY, NAMESPACE_API, "apply", S_IFREG | 0600) \
	ROW(NAMESPACE_APPLY_FORCE, NAMESPACE_API, "apply-force", S_IFREG | 0600) \
	ROW(NAMESPACE_DELETE, NAMESPACE_API, "delete", S_IFREG | 0600) \
	ROW(NAMESPACE_SELECT, NAMESPACE_API, "select", S_IFDIR | 0555) \
	ROW(STREAM_API, STREAM, ".api", S_IFDIR | 0555) \
	ROW(STREAM_EVENTS, STREAM_API, "events", S_IFREG | 0444) \
	ROW(STREAM_PUSHES, STREAM_API, "pushes", S_IFREG | 0444) \
	ROW(STREAM_DELETE, STREAM_API, "delete", S_IFREG | 0600) \
	ROW(JSON_PATCH, STREAM_API, "json-patch", S_IFREG | 0600) \
	ROW(MERGE_PATCH, STREAM_API, "merge-patch", S_IFREG | 0600) \
	ROW(STRATEGIC_MERGE_PATCH, STREAM_API, "strategic-merge-patch", S_IFREG | 0600) \
	ROW(STATUS_JSON_PATCH, STREAM_API, "status-json-patch", S_IFREG | 0600) \
	ROW(STATUS_MERGE_PATCH, STREAM_API, "status-merge-patch", S_IFREG | 0600) \
	ROW(STATUS_STRATEGIC_PATCH, STREAM_API, "status-strategic-merge-patch", S_IFREG | 0600) \
	ROW(STATUS_REPLACE, STREAM_API, "status-replace", S_IFREG | 0600) \
	ROW(EXPORT, STREAM_API, "export.json", S_IFREG | 0444) \
	ROW(EXPORT_EXACT, STREAM_API, "export-exact.json", S_IFREG | 0444) \
	ROW(FRESH_JSON, STREAM_API, "fresh.json", S_IFREG | 0444) \
	ROW(FRESH_YAML, STREAM_API, "fresh.yaml", S_IFREG | 0444) \
	ROW(FRESH_PB, STREAM_API, "fresh.pb", S_IFREG | 0444) \
	ROW(FRESH_STATUS, STREAM_API, "status.json", S_IFREG | 0444) \
	ROW(SECRETS, STREAM_API, "secrets.json", S_IFREG | 0400) \
	ROW(LAYERS, STREAM_API, "layers.json", S_IFREG | 0444) \
	ROW(TAG_API, TAG, ".api", S_IFDIR | 0555) \
	ROW(TAG_IMPORT, TAG_API, "import", S_IFREG | 0600) \
	ROW(TAG_IMAGE_JSON, TAG_API, "image.json", S_IFREG | 0444) \
	ROW(SCRATCH, STREAM, NULL, 0)

enum kind {
#define KIND(kind, ...) KIND_##kind,
	LAYOUT(KIND)
#undef KIND
	KIND_COUNT,
	STREAM_FILE = KIND_STREAM + 1, /* the first of an ImageStream's files; the others follow */
	TAG_FILE = KIND_TAG + 1,
};
/* clang-format on */

struct layout_row {
	const char *kind;
	enum kind parent;
	const char *name;
	mode_t mode;
	unsigned rights;
	enum patch_view view;
	attr_fn *show;
};

extern const struct layout_row layout[KIND_COUNT];

/* How many files an ImageStream and a tag have. */
#define LAYOUT_FIRST(mode, ...) (mode)
#define LAYOUT_IS_STREAM_FILE(kind, parent, name, ...)                                             \
	+(KIND_##parent == KIND_STREAM && S_ISREG(LAYOUT_FIRST(__VA_ARGS__, 0)))
#define LAYOUT_IS_TAG_FILE(kind, parent, name, ...)                                                \
	+(KIND_##parent == KIND_TAG && S_ISREG(LAYOUT_FIRST(__VA_ARGS__, 0)))
enum {
	STREAM_FILES = 0 LAYOUT(LAYOUT_IS_STREAM_FILE),
	TAG_FILES = 0 LAYOUT(LAYOUT_IS_TAG_FILE),
};

static inline bool layout_is_stream_file(enum kind kind)
{
	return kind >= STREAM_FILE && kind < STREAM_FILE + STREAM_FILES;
}

static inline bool layout_is_tag_file(enum kind kind)
{
	return kind >= TAG_FILE && kind < TAG_FILE + TAG_FILES;
}

static inline bool layout_is_directory(enum kind kind)
{
	return S_ISDIR(layout[kind].mode);
}

static inline bool layout_is_hidden(enum kind kind)
{
	return layout[kind].name && layout[kind].name[0] == '.';
}

/*
 * A text equal to what the file shows is accepted of whoever may write in its directory, whatever
 * the rights to change it: tools write files again that didn't change.
 */
static inline bool layout_takes_equal(enum kind kind)
{
	return layout[kind].view == PATCH_STATUS || layout[kind].view == PATCH_TAG_STATUS;
}

/*
 * The file's bytes, or their size and hash. `object` is the whole ImageStream, `tag` is for the files
 * of a tag. -ENOENT where the object has no such file, -EFBIG past the buf's maximum.
 */
int layout_put(enum kind kind, const struct scan_value *object, const struct attr_elements *tag,
	struct attr_sink *to);

/* The same of a tree: appends the bytes. */
int layout_show(enum kind kind, const json_t *object, const struct attr_tag *tag, struct buf *out);

/* Whether it is a directory .api, or in one. */
static inline bool layout_is_api(enum kind kind)
{
	return kind >= KIND_API && kind < KIND_SCRATCH;
}

struct place {
	enum kind kind;
	char ns[NAME_SIZE];
	char stream[NAME_SIZE];
	char tag[NAME_SIZE]; /* as a file name, escaped */
};

struct layout_attr {
	uint64_t ino;
	uint64_t size;
	int64_t mtime; /* ns since 1970; ctime is the same */
	unsigned nlink;
};

/* What the place is called in its directory. Borrowed. */
const char *layout_name(const struct place *path);

/* The kind of the fixed child of that name, or KIND_COUNT. */
enum kind layout_child(enum kind parent, const char *name);

/* KIND_SELECTOR or KIND_SELECTED. */
bool layout_is_selected(enum kind kind);
/* A directory whose names are the server's to tell: `select` and SELECTOR. */
bool layout_is_select(enum kind kind);
/* Where the link of a selection leads. The caller frees. */
char *layout_target(const struct place *path);

/*
 * A tag's name as a file name: '/', NUL, '%', control characters and a leading '.' are escaped as
 * %XX, the empty name is %00. -ENAMETOOLONG where that has no room in a name, -EINVAL for the tag
 * that consists of one NUL, whose file name belongs to the empty one.
 */
int layout_escape(const char *tag, size_t len, char ret[NAME_SIZE]);

/* The same of a JSON string; also -EINVAL where it is none. */
int layout_escape_json(const json_t *name, char ret[NAME_SIZE]);

/* The tag's name back from its file name. -EINVAL where no tag is called so. */
int layout_unescape(const char *name, char ret[NAME_SIZE], size_t *ret_len);

/* A new st_ino for what has no other: a file that was made here. Never used again. */
uint64_t layout_new_ino(void);

/*
 * st_ino: from what an object is (its uid), the place in it, and how often the thing at that place
 * was made anew. Never 0 or 1.
 */
uint64_t layout_ino(const char *uid, enum kind kind, const char *tag, uint64_t born);

#endif
