/*
 * file: open files: what a handle sees.
 *
 * A file of at most 64 KiB shows the version published now; a larger one the version of its open.
 * A handle on what is gone goes on showing the last version. Thread-safe; one leaf lock for all.
 */
#ifndef FS_FILE_H
#define FS_FILE_H

#include "fs/view.h"

#define FILE_SNAPSHOT_SIZE (64 * 1024) /* larger files are read from a snapshot */

struct file;
struct file_table;

struct file_table *file_table_new(void);
void file_table_free(struct file_table *t);

/* Opens one file of the view (a reference of its own is taken). */
struct file *file_open(struct file_table *t, struct view *view, const struct tree_path *path,
	const struct tree_attr *attr);
/* A file that was made for this open; takes over `data`. */
struct file *file_open_text(struct file_table *t, char *data, size_t len);
void file_close(struct file_table *t, struct file *f);

bool file_is_snapshot(const struct file *f);

/* Bytes to be read through *ret (borrowed until text_unref of *ret_text). */
struct text;
void text_unref(struct text *text);
int file_read(struct file_table *t, struct file *f, size_t size, uint64_t offset,
	struct text **ret_text, const char **ret, size_t *ret_len);

/* The last attributes of what is gone but still open; false where nobody holds it open. */
bool file_last_attr(struct file_table *t, uint64_t ino, struct tree_attr *ret);

/* The stream has a new view: its open files follow. */
void file_publish(struct file_table *t, const char *key, struct view *view);

#endif
