/*
 * save: a text that a process wrote becomes a change on the server, or is kept with the reason why
 * not (DESIGN.md 3). Blocking; runs on a pool thread, one at a time for each stream.
 */
#ifndef FS_SAVE_SAVE_H
#define FS_SAVE_SAVE_H

#include "fs/mount/mount.h"

/* Whose save it is and until when. */
struct save_call {
	struct api_call api;
	struct process_id who; /* all 0: nobody waits for it (release) */
	/* the kernel has raised the last close's event already: the file is announced, too */
	bool closed;
};

/*
 * Saves what the handle wrote, if it wrote anything that has no verdict yet, else repeats the
 * verdict. 0 or -errno as close gives it. -ESHUTDOWN: the program ends, and nothing was decided
 * (save_keep_unsaved).
 */
int save_handle(struct mount *m, const struct save_call *call, struct handle *f);

/* Keeps what the handle wrote as refused, without a request. */
void save_refuse_handle(struct mount *m, struct handle *f, int error, const char *why);

/*
 * Keeps the unsaved texts of the inode's handles but for the newest, which the caller gets to free
 * (NULL: there is none). Waits for the disk where there are several; -EAGAIN, and nothing is done,
 * where that is so and the caller may not wait.
 */
int save_keep_older(
	struct mount *m, uint64_t ino, bool may_wait, char **ret_newest, size_t *ret_len);

/*
 * A scratch file takes the name of a real file: its bytes are saved. On success *ret_first is the
 * st_ino of the place; 0: by these bytes the object has no such file any more (a history without
 * items; labels that --selector doesn't select). 0 or -errno as close gives it.
 */
int save_scratch(struct mount *m, const struct save_call *call, struct inode *n,
	const struct place *path, uint64_t *ret_first);

/* At the end: every draft that no save decided on goes to the state directory. */
void save_keep_unsaved(struct mount *m);
/* The same for one handle that is about to be closed. */
void save_keep_handle(struct mount *m, struct handle *f);

/*
 * Whether nothing can follow the text: a whole JSON document, since no proper prefix of an object
 * is one. Of YAML nobody can say.
 */
bool save_is_whole(const struct place *path, const char *text, size_t len);

#endif
