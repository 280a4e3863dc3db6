/*
 * file: open files: what a handle sees, and where its writes go.
 *
 * A reader of a file of at most 64 KiB sees the version published now; of a larger one, and a
 * writer, the version of its open. A handle on what is gone goes on showing the last version. A
 * handle belongs to an inode: where that is renamed away or unlinked, the handle is on scratch from
 * then on; where a scratch file takes a real name, its handles are on the real file. Thread-safe;
 * one leaf lock for all.
 */
#ifndef FS_FILE_H
#define FS_FILE_H

#include "fs/bases.h"
#include "fs/draft.h"
#include "fs/scratch.h"
#include "fs/view.h"

#define FILE_SNAPSHOT_SIZE (64 * 1024) /* larger files are read from a snapshot */

struct file;
struct file_table;

struct file_table *file_table_new(struct scratch *scratch);
void file_table_free(struct file_table *t);

struct file_open {
	const struct tree_path *path;
	uint64_t ino;	   /* the inode's */
	uint64_t place;	   /* st_ino of the place (fs/overlay.h); 0: nothing is there yet */
	struct view *view; /* of the stream now; a reference is taken */
	bool writable;
	bool pending; /* nothing is there yet, and the handle holds that (fs/overlay.h) */
	pid_t tid;    /* the opener's thread, and its process */
	struct process_id opener;
};

/* A real file. */
struct file *file_open(struct file_table *t, const struct file_open *open);
/* A scratch file; a reference is taken. */
struct file *file_open_scratch(struct file_table *t, struct scratch_node *n, bool writable,
	pid_t tid, const struct process_id *opener);
/* A file of .api: its bytes, which are taken over, were made for this open; what is written is kept apart. */
struct file *file_open_api(struct file_table *t, const struct file_open *open, struct buf *bytes);
/* A file of .api whose reads wait. The reader stays the caller's. */
struct events_reader;
struct file *file_open_events(struct file_table *t, struct events_reader *reader);
struct events_reader *file_events(const struct file *f); /* or NULL */
void file_close(struct file_table *t, struct file *f);

bool file_is_snapshot(const struct file *f);
bool file_is_writable(const struct file *f);
bool file_is_pending(const struct file *f); /* it held that at its open */
const struct process_id *file_opener(const struct file *f);

/* A flush came from a process that a signal is killing: its text is never saved. */
void file_set_killed(struct file *f);
bool file_is_killed(const struct file *f);

/* What a handle is on now. */
struct file_state {
	struct tree_path path;
	uint64_t ino, place;	      /* place 0: what it was on is gone */
	uint64_t slot;		      /* of the path, born 0; 0 for scratch and texts */
	uint64_t pending;	      /* view_slot of the path */
	struct scratch_node *scratch; /* with a reference, or NULL */
	struct draft *draft;	      /* the handle's own, or NULL */
	struct object *opened;	      /* the version of the open, with a reference, or NULL */
	struct base saved;	      /* what the handle itself saved last, or all 0 */
};

void file_get_state(struct file_table *t, struct file *f, struct file_state *ret);
void file_state_release(struct file_state *s);
#define _cleanup_file_state_ _cleanup_(file_state_release)

/* Bytes to be read through *ret (borrowed until text_unref of *ret_text). */
struct text;
void text_unref(struct text *text);
int file_read(struct file_table *t, struct file *f, size_t size, uint64_t offset,
	struct text **ret_text, const char **ret, size_t *ret_len);

/* -EFBIG, -ENOSPC; -EBADF for a handle that isn't for writing. */
int file_write(struct file_table *t, struct file *f, const char *data, size_t len, uint64_t offset,
	bool append);
int file_truncate(struct file_table *t, struct file *f, uint64_t size);
/* A file that was just created over what is published: it starts empty. */
void file_start_empty(struct file_table *t, struct file *f);
/* Where SEEK_END goes in a handle that has written: the end of its draft. False: to the published size. */
bool file_draft_end(struct file_table *t, struct file *f, uint64_t *ret);

/*
 * open(O_TRUNC): the newest handle for writing that the thread opened on the inode, if it has no
 * bytes of its own yet, starts empty. False where there is none.
 */
bool file_truncate_opened(struct file_table *t, uint64_t ino, pid_t tid);
/* The handle's text was saved: its next save is a diff from that. Takes references of its own. */
void file_set_saved(struct file_table *t, struct file *f, const struct base *saved);
/* How many handles are open for writing. */
size_t file_drafts(struct file_table *t);
/* Whether anybody has the inode open. */
bool file_is_open(struct file_table *t, uint64_t ino);
/* Whether a handle of the inode has bytes of its own. */
bool file_has_draft(struct file_table *t, uint64_t ino);

/* The last attributes of what is gone but still open; false where nobody holds it open. */
bool file_last_attr(struct file_table *t, uint64_t ino, struct tree_attr *ret);

/* The place shows that view from now on: its open files follow. */
void file_follow(struct file_table *t, const struct tree_path *path, struct view *view);

/* The inode was renamed away or unlinked: its handles are on the scratch file now. */
void file_make_scratch(struct file_table *t, uint64_t ino, struct scratch_node *n);
/* The scratch file took a real name and its bytes are saved: its handles are on the real file. */
void file_make_real(struct file_table *t, const struct file_open *open, struct scratch_node *n);
/*
 * The place that the inode stands for now; 0: another one does, and the handles on this one keep
 * their last version.
 */
void file_set_place(struct file_table *t, uint64_t ino, uint64_t place);

/*
 * Each handle on a real file (of that inode; 0: of any) with bytes that no save decided on, the
 * oldest first. Not under the table's lock.
 */
typedef void file_fn(void *arg, const struct file_state *state, const char *text, size_t len);
void file_foreach_unsaved(struct file_table *t, uint64_t ino, file_fn *fn, void *arg);

#endif
