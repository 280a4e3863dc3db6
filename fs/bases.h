/*
 * bases: what a process saw of a file before it saves it: the version that it last opened for
 * reading, or its own text once that was saved (DESIGN.md 3 "Conflicts").
 *
 * An editor reads, closes, and opens anew to save; so this is remembered for each process as long
 * as it lives, within bounds: a process that reads everything forgets its oldest, never another's.
 * Thread-safe; its lock is a leaf.
 */
#ifndef FS_BASES_H
#define FS_BASES_H

#include "client/object.h"

#include <sys/types.h>

struct bases;

struct bases *bases_new(void);
void bases_free(struct bases *b);

/* The thread opened the file (`slot`: tree_ino with born 0) for reading and saw that version. */
void bases_note(struct bases *b, pid_t tid, uint64_t slot, struct object *version);

/*
 * What the thread's process saw: *ret_version, or *ret_text (as it was saved), each with a
 * reference for the caller; the other is NULL. False where it read nothing.
 */
bool bases_find(
	struct bases *b, pid_t tid, uint64_t slot, struct object **ret_version, json_t **ret_text);

/* The process's text was saved and made that version: its next save is a diff from the text. */
void bases_saved(struct bases *b, pid_t tid, uint64_t slot, json_t *text, struct object *version);

#endif
