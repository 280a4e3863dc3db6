/*
 * tree: the layout of the mount: what there is and how it is called.
 *
 * A tree_path names a place by what it means (kind, namespace, stream, tag), not by its parents,
 * so it stays right whatever comes and goes around it.
 */
#ifndef FS_TREE_H
#define FS_TREE_H

#include "client/util.h"

/*
 * NAME_MAX and its NUL. What is copied into such a buffer was measured: names of namespaces and streams by
 * the gate (client/object.h), of tags by tree_escape, those that a caller asks for by names_find and op_lookup.
 */
#define NAME_SIZE 256

/* clang-format off */
enum node_kind {
	NODE_ROOT,
		NODE_NAMESPACE,
			NODE_STREAM,
				NODE_IMAGESTREAM_JSON,
				NODE_IMAGESTREAM_YAML,
				NODE_METADATA_JSON,
				NODE_SPEC_JSON,
				NODE_STATUS_JSON,
				NODE_TAGS,
					NODE_TAG,
						NODE_TAG_SPEC,
						NODE_TAG_STATUS,
						NODE_TAG_IMAGE,
	/* the rest of the API: in the root, in NAMESPACE/, in STREAM/ and in TAG/ */
	NODE_API,
		NODE_API_STATUS,
		NODE_API_METRICS,
		NODE_API_ERRORS,
		NODE_API_REFRESH,
		NODE_API_VERSION,
		NODE_API_EVENTS,
		NODE_API_CREATE,
		NODE_API_SELECT,
			NODE_SELECTOR, /* `tag` is the selector; also in NAMESPACE/.api/select */
				NODE_SELECTED, /* `stream` is the link's name */
	NODE_NAMESPACE_API,
		NODE_NAMESPACE_EVENTS,
		NODE_NAMESPACE_CREATE,
		NODE_NAMESPACE_DELETE,
		NODE_NAMESPACE_SELECT,
	NODE_STREAM_API,
		NODE_STREAM_EVENTS,
		NODE_STREAM_DELETE,
		NODE_JSON_PATCH,
		NODE_MERGE_PATCH,
		NODE_STRATEGIC_MERGE_PATCH,
		NODE_STATUS_JSON_PATCH,
		NODE_STATUS_MERGE_PATCH,
		NODE_STATUS_STRATEGIC_MERGE_PATCH,
		NODE_STATUS_REPLACE,
		NODE_EXPORT,
		NODE_EXPORT_EXACT,
		NODE_FRESH_JSON,
		NODE_FRESH_YAML,
		NODE_FRESH_PB,
		NODE_FRESH_STATUS,
		NODE_SECRETS,
		NODE_LAYERS,
	NODE_TAG_API,
		NODE_TAG_IMPORT,
	NODE_SCRATCH, /* anything of fs/scratch.h, wherever it stands */
	NODE_KINDS
};
/* clang-format on */

#define STREAM_FILES 5 /* from NODE_IMAGESTREAM_JSON on */
#define TAG_FILES    3 /* from NODE_TAG_SPEC on */

struct tree_node {
	enum node_kind parent;
	const char *name; /* NULL: the names of objects */
	bool directory;
	bool hidden; /* found by name, never listed */
};

extern const struct tree_node tree_nodes[NODE_KINDS];

/* Whether it is a directory .api, or in one. */
static inline bool tree_is_api(enum node_kind kind)
{
	return kind >= NODE_API && kind < NODE_SCRATCH;
}

struct tree_path {
	enum node_kind kind;
	char namespace[NAME_SIZE];
	char stream[NAME_SIZE];
	char tag[NAME_SIZE]; /* as a file name, escaped */
};

struct tree_attr {
	uint64_t ino;
	uint64_t size;
	int64_t mtime; /* ns since 1970; ctime is the same */
	unsigned nlink;
};

/* The kind of the fixed child of that name, or NODE_KINDS. */
enum node_kind tree_child(enum node_kind parent, const char *name);

/*
 * A tag's name as a file name: '/', NUL, '%', control characters and a leading '.' are escaped as
 * %XX, the empty name is %00. -ENAMETOOLONG where that has no room in a name, -EINVAL for the tag
 * that consists of one NUL, whose file name belongs to the empty one.
 */
int tree_escape(const char *tag, size_t len, char ret[NAME_SIZE]);

/* The tag's name back from its file name. -EINVAL where no tag is called so. */
int tree_unescape(const char *name, char ret[NAME_SIZE], size_t *ret_len);

/* A new st_ino for what has no other: a file that was made here. Never used again. */
uint64_t tree_new_ino(void);

/*
 * st_ino: from what an object is (its uid), the place in it, and how often the thing at that place
 * was made anew. Never 0 or 1.
 */
uint64_t tree_ino(const char *uid, enum node_kind kind, const char *tag, uint64_t born);

#endif
