/*
 * handle: open files: what a handle sees, and where its writes go.
 *
 * A reader of a file of at most 64 KiB sees the version shown now; of a larger one, and a
 * writer, the version of its open. A handle on what is gone goes on showing the last version. A
 * handle belongs to an inode: where that is renamed away or unlinked, the handle is on scratch from
 * then on; where a scratch file takes a real name, its handles are on the real file. Thread-safe;
 * one leaf lock for all.
 */
#ifndef FS_TREE_HANDLE_H
#define FS_TREE_HANDLE_H

#include "fs/tree/draft.h"
#include "fs/tree/mergebase.h"
#include "fs/tree/scratch.h"
#include "fs/tree/snapshot.h"

#define HANDLE_SNAPSHOT_SIZE (64 * 1024) /* larger files are read from a snapshot */

struct handle;
struct handle_table;

struct handle_table *handle_table_new(struct scratch *scratch);
void handle_table_free(struct handle_table *t);

struct handle_open {
	const struct layout_path *path;
	uint64_t ino;	/* the inode's */
	uint64_t place; /* st_ino of the place (fs/tree/overlay.h); 0: nothing is there yet */
	struct snapshot *snapshot; /* of the stream now; a reference is taken */
	bool writable;
	bool pending; /* nothing is there yet, and the handle holds that (fs/tree/overlay.h) */
	pid_t tid;    /* the opener's thread, and its process */
	struct process_id opener;
};

/* A real file. */
struct handle *handle_open(struct handle_table *t, const struct handle_open *open);
/* A scratch file; a reference is taken. */
struct handle *handle_open_scratch(struct handle_table *t, struct scratch_node *n, bool writable,
	pid_t tid, const struct process_id *opener);
/* A file of .api: its bytes, which are taken over, were made for this open; what is written is kept apart. */
struct handle *handle_open_api(
	struct handle_table *t, const struct handle_open *open, struct buf *bytes);
/* A file of .api whose reads wait. The reader stays the caller's. */
struct events_reader;
struct handle *handle_open_events(struct handle_table *t, struct events_reader *reader);
struct events_reader *handle_events(const struct handle *f); /* or NULL */
void handle_close(struct handle_table *t, struct handle *f);

bool handle_is_fixed(const struct handle *f);
bool handle_is_writable(const struct handle *f);
bool handle_is_pending(const struct handle *f); /* it held that at its open */
const struct process_id *handle_opener(const struct handle *f);

/* A flush came from a process that a signal is killing: its text is never saved. */
void handle_set_killed(struct handle *f);
bool handle_is_killed(const struct handle *f);

/* What a handle is on now. */
struct handle_state {
	struct layout_path path;
	uint64_t ino, place;	      /* place 0: what it was on is gone */
	uint64_t slot;		      /* of the path, born 0; 0 for scratch and texts */
	uint64_t pending;	      /* snapshot_slot of the path */
	struct scratch_node *scratch; /* with a reference, or NULL */
	struct draft *draft;	      /* the handle's own, or NULL */
	struct object *opened;	      /* the version of the open, with a reference, or NULL */
	struct base saved;	      /* what the handle itself saved last, or all 0 */
};

void handle_get_state(struct handle_table *t, struct handle *f, struct handle_state *ret);
void handle_state_release(struct handle_state *s);
#define _cleanup_handle_state_ _cleanup_(handle_state_release)

/* Bytes to be read through *ret (borrowed until text_unref of *ret_text). */
struct text;
void text_unref(struct text *text);
int handle_read(struct handle_table *t, struct handle *f, size_t size, uint64_t offset,
	struct text **ret_text, const char **ret, size_t *ret_len);

/* -EFBIG, -ENOSPC; -EBADF for a handle that isn't for writing. */
int handle_write(struct handle_table *t, struct handle *f, const char *data, size_t len,
	uint64_t offset, bool append);
int handle_truncate(struct handle_table *t, struct handle *f, uint64_t size);
/* A file that was just created over what is shown: it starts empty. */
void handle_start_empty(struct handle_table *t, struct handle *f);
/* Where SEEK_END goes: the end of what the handle itself would read. */
int handle_end(struct handle_table *t, struct handle *f, uint64_t *ret);

/*
 * open(O_TRUNC): the newest handle for writing that the thread opened on the inode, if it has no
 * bytes of its own yet, starts empty. False where there is none.
 */
bool handle_truncate_opened(struct handle_table *t, uint64_t ino, pid_t tid);
/* The handle's text was saved: its next save is a diff from that. Takes references of its own. */
void handle_set_saved(struct handle_table *t, struct handle *f, const struct base *saved);
/* How many handles are open for writing. */
size_t handle_drafts(struct handle_table *t);
/* Whether anybody has the inode open. */
bool handle_is_open(struct handle_table *t, uint64_t ino);
/* Whether a handle of the inode has bytes of its own. */
bool handle_has_draft(struct handle_table *t, uint64_t ino);

/* The last attributes of what is gone but still open; false where nobody holds it open. */
bool handle_last_attr(struct handle_table *t, uint64_t ino, struct layout_attr *ret);

/* The place shows that snapshot from now on: its open files follow. */
void handle_follow(
	struct handle_table *t, const struct layout_path *path, struct snapshot *snapshot);

/* The inode was renamed away or unlinked: its handles are on the scratch file now. */
void handle_make_scratch(struct handle_table *t, uint64_t ino, struct scratch_node *n);
/* The scratch file took a real name and its bytes are saved: its handles are on the real file. */
void handle_make_real(
	struct handle_table *t, const struct handle_open *open, struct scratch_node *n);
/*
 * The place that the inode stands for now; 0: another one does, and the handles on this one keep
 * their last version.
 */
void handle_set_place(struct handle_table *t, uint64_t ino, uint64_t place);

/*
 * Each handle on a real file (of that inode; 0: of any) with bytes that no save decided on, the
 * oldest first. Not under the table's lock.
 */
typedef void handle_fn(void *arg, const struct handle_state *state, const char *text, size_t len);
void handle_foreach_unsaved(struct handle_table *t, uint64_t ino, handle_fn *fn, void *arg);

#endif
