/*
 * shown: what the tree shows now: namespaces, their streams, and each stream's snapshot.
 *
 * The store (client/store.h) holds what the server sent; this holds what the kernel is told. It
 * changes only through fs/publish. Thread-safe; its lock is a leaf, and snapshots are made and asked
 * outside it.
 */
#ifndef FS_TREE_SHOWN_H
#define FS_TREE_SHOWN_H

#include "client/store.h"
#include "fs/tree/snapshot.h"

struct shown;

struct shown *shown_new(struct object_cache *cache, struct journal *journal);
void shown_free(struct shown *p);

/* One change of one place, as somebody who watches it would see it. */
enum shown_op {
	SHOWN_CREATE, /* a directory with all that is in it, or a file */
	SHOWN_DELETE,
	SHOWN_WRITE,  /* its bytes are others */
	SHOWN_ATTRIB, /* its mode is another; never waits here (fs/mount/modes.h) */
};

struct shown_step {
	enum shown_op op;
	enum kind kind;
	uint64_t place;	 /* st_ino of what comes, goes or changes */
	bool waits;	 /* shown as before until shown_flip */
	uint64_t change; /* the change that it belongs to */
	char tag[NAME_SIZE];
};

/* What the kernel does by itself, since somebody's own call made the change. */
struct shown_own {
	const struct layout_path *file; /* this file: it was saved */
	const struct layout_path
		*tree; /* this stream or tag with all that is in it: made or removed */
	bool renamed; /* the file came by a rename: who has the one open that it replaces keeps that */
};

struct shown_change {
	struct snapshot *old, *new; /* with a reference each, or NULL */
	struct shown_step *steps;
	size_t nsteps;
	bool again; /* deleted and made anew: this is the deletion, the rest is to be shown after */
};

void shown_change_release(struct shown_change *c);
#define _cleanup_change_ _cleanup_(shown_change_release)

/*
 * Takes the object (NULL: nothing more) as the newest of the key NAMESPACE/NAME. Every place that it
 * changes goes on showing what it showed, until shown_flip. What is the caller's `own` (NULL:
 * nothing is) is shown at once; and then the bytes of all other files, too, whose steps don't wait.
 *
 * False when nothing changed: an older version than the newest. Steps come children before their
 * directory where things go, directories alone where they come.
 */
bool shown_begin(struct shown *p, const char *key, struct object *object,
	const struct shown_own *own, struct shown_change *ret);

/* The place shows the newest from now on. False where it does already. For a namespace `key` is its name. */
bool shown_flip(struct shown *p, const char *key, const struct shown_step *step);

/* Whether such a step waits, or its event is still to come (shown_expect), at the place. */
bool shown_is_expected(struct shown *p, const struct layout_path *path, enum shown_op op);
/* A step that doesn't wait is to be announced, or was (`on` false). */
void shown_expect(struct shown *p, const char *key, const struct shown_step *step, bool on);

/*
 * A listed namespace as the server describes it; NULL: it isn't listed any more. Whether it is to be
 * shown is seen from shown_namespace_step, also after changes of its streams.
 */
void shown_begin_namespace(struct shown *p, const char *name, const struct store_namespace *ns);
/* The step that shows or hides the namespace. False where it is as it should be. */
bool shown_namespace_step(struct shown *p, const char *name, struct shown_step *ret);

/*
 * Before there is a mount: what the first lists brought in any order gets the inodes that the whole of it
 * makes. (A namespace whose streams come before its uid has one by its name.)
 */
void shown_restart_inodes(struct shown *p);

/* A namespace that no list names but that was found by name. */
void shown_add_named(struct shown *p, const char *name);

/* Whether the streams of the namespace (NULL: of all, now and later) are all here. */
void shown_set_ready(struct shown *p, const char *namespace, bool ready);
bool shown_is_ready(struct shown *p, const char *namespace);

/* The snapshot that the stream's directory shows, with a reference for the caller, or NULL. */
struct snapshot *shown_snapshot(struct shown *p, const char *namespace, const char *stream);
/* The snapshot that the place shows. It may have no such file. */
struct snapshot *shown_snapshot_at(struct shown *p, const struct layout_path *path);

/* Attributes of the root, a namespace, a stream or anything in it. -ENOENT. */
int shown_attr(struct shown *p, const struct layout_path *path, struct layout_attr *ret);

/*
 * Gives the children whose place is after `cookie` (0: from the start), in order, until `fn` answers
 * true. The next call goes on from the cookie given last, whatever came and went meanwhile.
 */
typedef bool shown_fn(void *arg, const char *name, uint64_t cookie, const struct layout_path *path,
	const struct layout_attr *attr);
int shown_list(struct shown *p, const struct layout_path *directory, uint64_t cookie, shown_fn *fn,
	void *arg);

#endif
