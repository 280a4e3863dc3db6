/*
 * handle: open files: what a handle sees, and where its writes go.
 *
 * A handle belongs to an inode (fs/tree/inode.h), and what that is decides what the handle is on: a
 * real file, one that was begun, scratch, or what is gone, of which it goes on showing the last
 * version. A reader of a file of at most 64 KiB sees the version shown now; of a larger one, and a
 * writer, the version of its open. Thread-safe, under the table's lock; a draft has its own, which
 * is taken under it.
 */
#ifndef FS_TREE_HANDLE_H
#define FS_TREE_HANDLE_H

#include "fs/tree/draft.h"
#include "fs/tree/mergebase.h"
#include "fs/tree/scratch.h"
#include "fs/tree/snapshot.h"

#define HANDLE_SNAPSHOT_SIZE (64 * 1024) /* larger files are read from a snapshot */

struct events_reader;
struct export;
struct handle;

struct handle_open {
	const struct place *path;
	uint64_t ino;	/* the inode's */
	uint64_t first; /* what the snapshot shows at the path; 0: nothing is there yet */
	struct snapshot *snapshot; /* of the stream now; a reference is taken */
	bool writable;
	pid_t tid; /* the opener's thread, and its process */
	struct process_id opener;
};

/* A real file, or one that was begun. NULL: the inode isn't what stands there (any more). */
struct handle *handle_open(struct inode_table *t, const struct handle_open *open);
/* A scratch file. */
struct handle *handle_open_scratch(struct inode_table *t, struct inode *n, bool writable, pid_t tid,
	const struct process_id *opener);
/*
 * A file of .api: its bytes, which are taken over, were made for this open; what is written is kept
 * apart.
 */
struct handle *handle_open_api(
	struct inode_table *t, const struct handle_open *open, struct buf *bytes);
/* A file of .api that isn't made at its open: one of these, which stays the caller's. */
struct handle_source {
	struct events_reader *events; /* its reads wait */
	struct export *export;	      /* it is made while it is read */
};
struct handle *handle_open_source(struct inode_table *t, struct handle_source source);
/* Both NULL for every other handle. */
struct handle_source handle_get_source(struct inode_table *t, const struct handle *f);
/* One with a source that nobody closed yet, or NULL: where the program ends first. */
struct handle *handle_first_reader(struct inode_table *t);
/* True when it was the last one of a file that was begun: its time runs (inode_next_due). */
bool handle_close(struct inode_table *t, struct handle *f);

bool handle_is_fixed(const struct handle *f);
bool handle_is_writable(const struct handle *f);
const struct process_id *handle_opener(const struct handle *f);

/* A flush came from a process that a signal is killing: its text is never saved. */
void handle_set_killed(struct handle *f);
bool handle_is_killed(const struct handle *f);

/* What a handle is on now. */
struct handle_state {
	struct place path; /* KIND_SCRATCH for scratch */
	uint64_t ino;
	uint64_t first; /* what the inode stands for, or did when that went; 0: another one does */
	uint64_t slot;	/* of the path, born 0; 0 for scratch and texts */
	struct inode *scratch; /* pinned, or NULL */
	struct draft *draft;   /* the handle's own, or NULL */
	struct object *opened; /* the version of the open, with a reference, or NULL */
	struct base saved;     /* what the handle itself saved last, or all 0 */
};

void handle_get_state(struct inode_table *t, struct handle *f, struct handle_state *ret);
void handle_state_release(struct handle_state *s);
#define _cleanup_handle_state_ _cleanup_(handle_state_release)

/* Bytes to be read through *ret (borrowed until text_unref of *ret_text). */
struct text;
void text_unref(struct text *text);
int handle_read(struct inode_table *t, struct handle *f, size_t size, uint64_t offset,
	struct text **ret_text, const char **ret, size_t *ret_len);

/* -EFBIG, -ENOSPC; -EBADF for a handle that isn't for writing. */
int handle_write(struct inode_table *t, struct handle *f, const char *data, size_t len,
	uint64_t offset, bool append);
int handle_truncate(struct inode_table *t, struct handle *f, uint64_t size);
/* A file that was just created over what is shown: it starts empty. */
void handle_start_empty(struct inode_table *t, struct handle *f);
/* Where SEEK_END goes in a handle that has written: the end of its draft. False: to the file's. */
bool handle_draft_end(struct inode_table *t, struct handle *f, uint64_t *ret);

/*
 * open(O_TRUNC): the newest handle for writing that the thread opened on the inode, if it has no
 * bytes of its own yet, starts empty. False where there is none.
 */
bool handle_truncate_opened(struct inode_table *t, uint64_t ino, pid_t tid);
/* The handle's text was saved: its next save is a diff from that. Takes references of its own. */
void handle_set_saved(struct inode_table *t, struct handle *f, const struct base *saved);
/* How many handles are open for writing. */
size_t handle_drafts(struct inode_table *t);
/* Whether anybody has the inode open. */
bool handle_is_open(struct inode_table *t, uint64_t ino);
/* Whether a handle of the inode has bytes of its own. */
bool handle_has_draft(struct inode_table *t, uint64_t ino);

/* The last attributes of what is gone but still open; false where nobody holds it open. */
bool handle_last_attr(struct inode_table *t, uint64_t ino, struct layout_attr *ret);

/* The path shows that snapshot from now on: its open files follow. */
void handle_follow(struct inode_table *t, const struct place *path, struct snapshot *snapshot);

/*
 * Each handle on a real file (of that inode; 0: of any) with bytes that no save decided on, the
 * oldest first. Not under the table's lock.
 */
typedef void handle_fn(void *arg, const struct handle_state *state, const char *text, size_t len);
void handle_foreach_unsaved(struct inode_table *t, uint64_t ino, handle_fn *fn, void *arg);

#endif
