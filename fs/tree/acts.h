/*
 * acts: what processes lately made and removed in streams, as far as it decides what they see there
 * (DESIGN.md 3 "Copying directories", "Deleting").
 *
 * A directory that a process made is empty for it, whatever the server puts there by itself: a name
 * in it is there for its maker once the maker made it. What a process removed doesn't keep it from
 * removing the directory. Both until the process ends, or has done nothing of the kind for 60 s; the
 * time that it is stopped doesn't count. Streams are told by their uid, so what is deleted and made
 * again has no past. Of callers that can't be told nothing is known. Thread-safe; the lock is a leaf.
 */
#ifndef FS_TREE_ACTS_H
#define FS_TREE_ACTS_H

#include "client/clock.h"
#include "client/object.h"
#include "fs/tree/layout.h"
#include "fs/tree/process.h"

#define ACTS_NS (60 * NSEC_PER_SEC)

struct acts;

struct acts *acts_new(void);
void acts_free(struct acts *a); /* NULL is fine */

enum act {
	ACT_MAKER = 1 << 0,   /* of a directory: the process made it */
	ACT_MADE = 1 << 1,    /* the process made the name */
	ACT_REMOVED = 1 << 2, /* the process removed the name */
};

/*
 * The process made (ACT_MADE, perhaps ACT_MAKER) or removed (ACT_REMOVED) the place; the one ends the
 * other. A name alone that is made is noted of who did something before. `version`: of the stream, before the first removal; NULL where something was made. True
 * where it is the first that is known here: somebody has to call acts_look.
 */
bool acts_note(struct acts *a, const struct process_id *who, const char *uid,
	const struct place *place, unsigned act, struct object *version);

/*
 * The thread made the name: it is there for its own process, and for a maker of the directory that it
 * descends from, whose children copy for it.
 */
void acts_note_made(struct acts *a, pid_t tid, const char *uid, const struct place *place);

/* Whether anything is known of anybody: cheap. */
bool acts_any(const struct acts *a);

/* A set of enum act. */
unsigned acts_of(
	struct acts *a, const struct process_id *who, const char *uid, const struct place *place);

/*
 * Whether anybody is the maker of the directory, or of its stream: then the kernel may keep no names
 * in it.
 */
bool acts_have_maker(struct acts *a, const char *uid, const struct place *directory);

/*
 * Whether the caller, or a process that it descends from, is the maker of the stream, or of the
 * directory `place` is, or is in.
 */
bool acts_are_copy(struct acts *a, pid_t tid, const char *uid, const struct place *place);

/* The version that the process began to remove things from, with a reference, or NULL. */
struct object *acts_seen(struct acts *a, const struct process_id *who, const char *uid);

/*
 * Forgets what is over, and notices who is stopped. Returns when to look again (monotonic ns;
 * INT64_MAX: once acts_note says so).
 */
int64_t acts_look(struct acts *a);

#endif
