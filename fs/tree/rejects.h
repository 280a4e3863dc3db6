/*
 * rejects: what a save left behind that wasn't accepted: the text as NAME.rejected and the reason
 * as NAME.error, beside the file (scratch) and in $XDG_STATE_HOME/imagestreamfs/SERVER/NAMESPACE/
 * STREAM/[tags/TAG/], where it outlives the program.
 */
#ifndef FS_TREE_REJECTS_H
#define FS_TREE_REJECTS_H

#include "client/journal.h"
#include "fs/tree/layout.h"
#include "fs/tree/process.h"
#include "fs/tree/scratch.h"

struct rejects;

/* Everything is borrowed. What can't be written to the state directory is noted in the journal. */
struct rejects *rejects_new(struct inode_table *inodes, struct journal *journal, const char *server,
	uid_t uid, gid_t gid);
void rejects_free(struct rejects *r);

/*
 * Keeps the text of the file and the reason, in place of what this mount kept of the file before.
 * `dir`: st_ino of the directory it stands in; 0: in the state directory only, beside what was kept
 * before. What another run left there is never touched: names that are taken get a number
 * (spec.json.rejected.2).
 */
void rejects_keep(struct rejects *r, uint64_t dir, const struct place *file, const char *text,
	size_t len, const struct buf *reason);

/*
 * The process's save of the file was refused just now. What it writes there within the next 2 s, and
 * is what was there before, it puts back by itself, as vim -es does: nobody took the text back.
 */
void rejects_note(
	struct rejects *r, uint64_t dir, const struct place *file, const struct process_id *who);
bool rejects_is_fresh(
	struct rejects *r, uint64_t dir, const struct place *file, const struct process_id *who);

/* Whether the text that stands beside the file is this one. */
bool rejects_holds(
	struct rejects *r, uint64_t dir, const struct place *file, const char *text, size_t len);

/* A save of the file was accepted. True when something stood beside it. */
bool rejects_clear(struct rejects *r, uint64_t dir, const struct place *file);

/* Whether the name may be that of something kept. */
bool rejects_is_kept(const struct place *dir, const char *name);

/* A process removed the scratch file of that name from the directory. */
void rejects_removed(struct rejects *r, const struct place *dir, const char *name);

#endif
