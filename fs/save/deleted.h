/*
 * deleted: what processes took away or wrote over, kept in the state directory so that it can be
 * put back: deleted/SERVER/NAMESPACE/STREAM@TIME.json, the whole ImageStream as .api/create takes it
 * (DESIGN.md 3 "Deleting"), once for each stream and process (a process that lives long: and removal); and in dropped/ the status of a copy,
 * which only the server makes. Thread-safe.
 */
#ifndef FS_SAVE_DELETED_H
#define FS_SAVE_DELETED_H

#include "client/journal.h"
#include "client/object.h"
#include "fs/tree/layout.h"
#include "fs/tree/process.h"

/* All together; beyond that the oldest go, but nothing of the last day, and all after 30 days. */
#define DELETED_BYTES_MAX ((int64_t)100 << 20)
#define DELETED_AGE_MAX	  30 /* days */

struct deleted;

/* The journal is borrowed. */
struct deleted *deleted_new(const char *server, struct journal *journal);
void deleted_free(struct deleted *d); /* NULL is fine */

/*
 * The process (all 0: nobody knows which) is about to take that version away. Waits for the disk;
 * what can't be written is noted in the journal, and nothing else comes of it.
 */
void deleted_keep(struct deleted *d, const struct process_id *who, struct object *version);

/* The text of that status.json isn't sent. Noted in the journal, too. */
void deleted_drop(struct deleted *d, const struct place *file, const char *text, size_t len);

#endif
