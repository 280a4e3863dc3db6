/*
 * snapshot: one shown version of a stream: its object, and what its files and tags look like.
 *
 * Immutable and counted. A snapshot that follows another one knows which files' bytes changed, so
 * that a file's mtime moves only with its bytes and a thing that comes back is a new thing: that is
 * in its index, of names, sizes and times. Of the first version all of it follows from the text, so
 * its index is made when it is asked for, in 10 µs and without any file's bytes, and only the last
 * ones are kept. imagestream.yaml has other bytes exactly when imagestream.json has; its size is made
 * when it is asked for itself.
 */
#ifndef FS_TREE_SNAPSHOT_H
#define FS_TREE_SNAPSHOT_H

#include "client/journal.h"
#include "client/map.h"
#include "client/object.h"
#include "fs/tree/layout.h"

#include <pthread.h>

struct snapshot_file {
	bool there;
	/* how often something was made anew in the stream before it; part of its st_ino */
	unsigned born;
	uint64_t size, hash; /* of imagestream.yaml those of imagestream.json */
	int64_t mtime;
};

#define SNAPSHOT_NOWHERE SIZE_MAX

struct snapshot_tag {
	char *name; /* as a file name */
	char *raw;  /* as the API has it */
	size_t raw_len;
	/* where its elements of spec.tags and status.tags begin in the text, or SNAPSHOT_NOWHERE */
	size_t spec_at, status_at;
	unsigned cookie; /* its place in listings; never used again in this stream */
	unsigned born;
	int64_t mtime;
	struct snapshot_file files[TAG_FILES];
};

struct snapshot_index {
	atomic_uint refs;
	struct snapshot_file files[STREAM_FILES];
	size_t parts[STREAM_FILES]; /* where what they show begins in the text; SNAPSHOT_NOWHERE */
	int64_t mtime, tags_mtime;  /* of STREAM/ and STREAM/tags/ */
	unsigned counter;	    /* the last cookie given */
	size_t ntags;
	struct snapshot_tag *tags; /* by cookie */
	struct map by_name;
};

/* The indexes that were made lately. */
struct indexes;

/* The journal is told of tags whose names can't be file names; it is borrowed. */
struct indexes *indexes_new(struct journal *journal);
void indexes_free(struct indexes *s); /* after the snapshots; NULL is fine */

struct snapshot {
	atomic_uint refs;
	unsigned generation; /* of the stream's life here; part of each st_ino */
	struct object *object;
	struct indexes *indexes;
	struct snapshot_index *index;	/* of one that follows another; NULL: it can be made anew */
	size_t recent;			/* its place in `indexes`, from 1 on; 0: it has none */
	atomic_bool told;		/* the journal has what can't be shown */
	atomic_uint_fast64_t yaml_size; /* of imagestream.yaml; 0: nobody asked yet */
};

/*
 * The first version of a stream, or the one after `old`, whose generation it then has. Takes a
 * reference of its own on the object; `indexes` are borrowed for the snapshot's life. `now`
 * is the mtime of what changed. `generation` 0: it was never shown here before; what went and comes
 * back has another one, so that everything in it is a new inode. The tag `went` (NULL: none) of the
 * old one was removed: where it is there, it is another.
 */
struct snapshot *snapshot_new(struct object *object, struct snapshot *old, const char *went,
	unsigned generation, int64_t now, struct indexes *indexes);
struct snapshot *snapshot_ref(struct snapshot *v);
void snapshot_unref(struct snapshot *v); /* NULL is fine */

static inline struct snapshot *snapshot_ref_or_null(struct snapshot *v)
{
	return v ? snapshot_ref(v) : NULL;
}

static inline void cleanup_snapshot(struct snapshot **v)
{
	snapshot_unref(*v);
}
#define _cleanup_view_ _cleanup_(cleanup_snapshot)

/* Names, sizes, times. The caller owns the reference. */
struct snapshot_index *snapshot_index(struct snapshot *v);
void snapshot_index_unref(struct snapshot_index *x); /* NULL is fine */

static inline void cleanup_snapshot_index(struct snapshot_index **x)
{
	snapshot_index_unref(*x);
}
#define _cleanup_index_ _cleanup_(cleanup_snapshot_index)

/* The index of the first tag after the cookie; ntags where there is none. */
size_t snapshot_tag_after(const struct snapshot_index *x, uint64_t cookie);

/* Whether the tag, with all its files, is the same in another version of the same generation. */
bool snapshot_has_tag(const struct snapshot_index *x, const struct snapshot_tag *t);

/* The cookie of the tag, 0 where there is none. */
unsigned snapshot_tag_cookie(struct snapshot *v, const char *tag);

/* Attributes of the stream, of its tags or of a file in it. -ENOENT where it isn't there. */
int snapshot_attr(struct snapshot *v, enum kind kind, const char *tag, struct layout_attr *ret);

/* The same without the size. */
int snapshot_stamp(struct snapshot *v, enum kind kind, const char *tag, struct layout_attr *ret);

/* The file's bytes. -ENOENT. */
int snapshot_show(struct snapshot *v, enum kind kind, const char *tag, struct buf *out);

#endif
