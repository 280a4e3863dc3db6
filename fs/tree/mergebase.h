/*
 * mergebase: what a process saw of a file before it saves it: the version that it last opened for
 * reading, or its own text once that was saved (DESIGN.md 3 "Conflicts").
 *
 * An editor reads, closes, and opens anew to save; so this is remembered for each process as long
 * as it lives, within bounds: a process that reads everything forgets its oldest, never another's.
 * Callers that can't be told from each other (fs/tree/process.h) are as one: any of them may have
 * seen what any of them was served, so the oldest version that they were served in the last 10
 * minutes counts. Thread-safe; its lock is a leaf.
 */
#ifndef FS_TREE_MERGEBASE_H
#define FS_TREE_MERGEBASE_H

#include "client/object.h"
#include "fs/tree/process.h"

struct mergebases;

struct mergebases *mergebase_new(void);
void mergebase_free(struct mergebases *b);

/* The thread's process; all 0 where nobody knows. Cheap for one that asks again and again. */
struct process_id mergebase_who(struct mergebases *b, pid_t tid);
/*
 * The same of a caller that waits for our answer: one that isn't known can't be told, and the log
 * says so once.
 */
struct process_id mergebase_caller(struct mergebases *b, pid_t tid);
/* Whether there was such a caller. */
bool mergebase_met_unknown(const struct mergebases *b);

/*
 * The process (all 0: one that can't be told) opened the file (`slot`: layout_ino with born 0) for
 * reading and saw that version.
 */
void mergebase_note(
	struct mergebases *b, const struct process_id *who, uint64_t slot, struct object *version);

/* What the next save is a diff from. */
struct base {
	struct object *version; /* with a reference */
	/* with a reference: the process's own, already saved; NULL: what the version shows */
	json_t *text;
	uint64_t stamp; /* the later of two has the higher one */
};

void base_release(struct base *b);
#define _cleanup_base_ _cleanup_(base_release)

/* What the process saw. False where it read nothing. */
bool mergebase_find(
	struct mergebases *b, const struct process_id *who, uint64_t slot, struct base *ret);
/* The oldest version that a caller who can't be told may still have. False where there is none. */
bool mergebase_find_oldest(struct mergebases *b, uint64_t slot, struct base *ret);

/*
 * The process's text was saved and made that version: what it read is replaced by that. Returns a
 * stamp for the caller's own record of it.
 */
uint64_t mergebase_saved(struct mergebases *b, const struct process_id *who, uint64_t slot,
	json_t *text, struct object *version);

#endif
