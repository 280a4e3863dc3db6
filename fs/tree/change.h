/*
 * change: the way from one version of a stream to the next, step by step, as whoever watches
 * the tree sees it.
 *
 * Counted, and shared: fs/tree/shown asks the steps of a place what it shows, fs/publish/publisher
 * performs them. A step is PENDING (its place shows the old version), SHOWN (its event is still to
 * come), ANNOUNCED.
 */
#ifndef FS_TREE_CHANGE_H
#define FS_TREE_CHANGE_H

#include "fs/tree/snapshot.h"

enum step_op {
	STEP_CREATE, /* a directory with all that is in it, or a file */
	STEP_DELETE,
	STEP_WRITE,  /* its bytes changed */
	STEP_ATTRIB, /* its mode changed; applied at once, never pending (fs/mount/modes.h) */
};

enum step_state { STEP_PENDING, STEP_SHOWN, STEP_ANNOUNCED };

struct step {
	enum step_op op;
	enum kind kind;
	uint64_t place;		/* st_ino of what comes, goes or changes */
	bool waits;		/* it began as PENDING; else its place showed the newest at once */
	bool own;		/* a user's call made it: the kernel raises its events by itself */
	char at[1 + NAME_SIZE]; /* its place in the stream as a key: kind, tag */

	/* fs/tree/shown's, under its lock */
	enum step_state state;
	bool bare; /* while it is PENDING its place shows nothing, not the old version */
	struct change *change;
	struct step *next; /* of the same place, newer */
	uint64_t serial;   /* the oldest has the lowest */
	unsigned cookie;   /* of a tag that goes: its place in listings */

	/* the publish thread's own */
	uint64_t id; /* at the announcer; 0: not there */
	bool done;
	unsigned misses; /* how often the announcer found nothing at its place */
};

struct change {
	atomic_uint refs;
	struct snapshot *old, *next; /* NULL: there is none */
	bool again; /* deleted and made anew: this is the deletion, the rest is to be shown after */
	size_t nsteps;
	struct step *steps;
	char key[]; /* NAMESPACE/STREAM, or NAMESPACE */
};

/* What the kernel does by itself, since a user's own call made the change. */
struct change_own {
	const struct place *file; /* this file: it was saved */
	const struct place *tree; /* this stream or tag with all in it: made, or removed */
	bool removed;
	/* the file came by a rename: who has the one open that it replaces keeps that */
	bool renamed;
};

static inline const char *step_tag(const struct step *step)
{
	return step->at + 1;
}

/* Its place, in a change of the key NAMESPACE/STREAM or NAMESPACE. */
void step_place(const char *key, const struct step *step, struct place *ret);

void step_init(struct step *step, enum step_op op, enum kind kind, const char *tag, uint64_t place);

/* The step says something of a file that is there, and nothing of its name. */
static inline bool step_keeps_name(const struct step *step)
{
	return step->op == STEP_WRITE || step->op == STEP_ATTRIB;
}

/* Without versions and steps. */
struct change *change_new(const char *key);
/* Adds a step, which is PENDING. Not once anybody else knows the change. */
struct step *change_add(
	struct change *c, enum step_op op, enum kind kind, const char *tag, uint64_t place);

/*
 * The steps from one snapshot to the other (NULL: there is none; not both), whose references it
 * takes over. What is `own` (NULL: nothing is) doesn't wait; and then no file's bytes do. Steps
 * come children before their directory where things go, directories alone where they come.
 */
struct change *change_between(
	const char *key, struct snapshot *old, struct snapshot *next, const struct change_own *own);

struct change *change_ref(struct change *c);
void change_unref(struct change *c); /* NULL is fine */

static inline void cleanup_change(struct change **c)
{
	change_unref(*c);
}
#define _cleanup_change_ _cleanup_(cleanup_change)

#endif
