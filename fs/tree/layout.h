/*
 * layout: the layout of the mount: what there is and how it is called.
 *
 * A layout_path names a place by what it means (kind, namespace, stream, tag), not by its parents,
 * so it stays right whatever comes and goes around it.
 */
#ifndef FS_TREE_LAYOUT_H
#define FS_TREE_LAYOUT_H

#include "client/util.h"

/*
 * NAME_MAX and its NUL. What is copied into such a buffer was measured: names of namespaces and streams by
 * the gate (client/object.h), of tags by layout_escape, those that a caller asks for by namei_find and op_lookup.
 */
#define NAME_SIZE 256

/* clang-format off */
enum kind {
	KIND_ROOT,
		KIND_NAMESPACE,
			KIND_STREAM,
				KIND_IMAGESTREAM_JSON,
				KIND_IMAGESTREAM_YAML,
				KIND_METADATA_JSON,
				KIND_SPEC_JSON,
				KIND_STATUS_JSON,
				KIND_TAGS,
					KIND_TAG,
						KIND_TAG_SPEC,
						KIND_TAG_STATUS,
						KIND_TAG_IMAGE,
	/* the rest of the API: in the root, in NAMESPACE/, in STREAM/ and in TAG/ */
	KIND_API,
		KIND_API_STATUS,
		KIND_API_METRICS,
		KIND_API_ERRORS,
		KIND_API_REFRESH,
		KIND_API_VERSION,
		KIND_API_EVENTS,
		KIND_API_CREATE,
		KIND_API_SELECT,
			KIND_SELECTOR, /* `tag` is the selector; also in NAMESPACE/.api/select */
				KIND_SELECTED, /* `stream` is the link's name */
	KIND_NAMESPACE_API,
		KIND_NAMESPACE_EVENTS,
		KIND_NAMESPACE_CREATE,
		KIND_NAMESPACE_DELETE,
		KIND_NAMESPACE_SELECT,
	KIND_STREAM_API,
		KIND_STREAM_EVENTS,
		KIND_STREAM_DELETE,
		KIND_JSON_PATCH,
		KIND_MERGE_PATCH,
		KIND_STRATEGIC_MERGE_PATCH,
		KIND_STATUS_JSON_PATCH,
		KIND_STATUS_MERGE_PATCH,
		KIND_STATUS_STRATEGIC_MERGE_PATCH,
		KIND_STATUS_REPLACE,
		KIND_EXPORT,
		KIND_EXPORT_EXACT,
		KIND_FRESH_JSON,
		KIND_FRESH_YAML,
		KIND_FRESH_PB,
		KIND_FRESH_STATUS,
		KIND_SECRETS,
		KIND_LAYERS,
	KIND_TAG_API,
		KIND_TAG_IMPORT,
	KIND_SCRATCH, /* anything of fs/tree/scratch.h, wherever it stands */
	KIND_COUNT
};
/* clang-format on */

#define STREAM_FILES 5 /* from KIND_IMAGESTREAM_JSON on */
#define TAG_FILES    3 /* from KIND_TAG_SPEC on */

struct layout_row {
	enum kind parent;
	const char *name; /* NULL: the names of objects */
	bool directory;
	bool hidden; /* found by name, never listed */
};

extern const struct layout_row layout[KIND_COUNT];

/* Whether it is a directory .api, or in one. */
static inline bool layout_is_api(enum kind kind)
{
	return kind >= KIND_API && kind < KIND_SCRATCH;
}

struct layout_path {
	enum kind kind;
	char namespace[NAME_SIZE];
	char stream[NAME_SIZE];
	char tag[NAME_SIZE]; /* as a file name, escaped */
};

struct layout_attr {
	uint64_t ino;
	uint64_t size;
	int64_t mtime; /* ns since 1970; ctime is the same */
	unsigned nlink;
};

/* The kind of the fixed child of that name, or KIND_COUNT. */
enum kind layout_child(enum kind parent, const char *name);

/* KIND_SELECTOR or KIND_SELECTED. */
bool layout_is_selected(enum kind kind);
/* A directory whose names are the server's to tell: `select` and SELECTOR. */
bool layout_is_select(enum kind kind);
/* Where the link of a selection leads. The caller frees. */
char *layout_target(const struct layout_path *path);

/*
 * A tag's name as a file name: '/', NUL, '%', control characters and a leading '.' are escaped as
 * %XX, the empty name is %00. -ENAMETOOLONG where that has no room in a name, -EINVAL for the tag
 * that consists of one NUL, whose file name belongs to the empty one.
 */
int layout_escape(const char *tag, size_t len, char ret[NAME_SIZE]);

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
