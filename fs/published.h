/*
 * published: what the tree shows now: namespaces, their streams, and each stream's view.
 *
 * The store (client/store.h) holds what the server sent; this holds what the kernel is told. It
 * changes only through fs/publish. Thread-safe; its lock is a leaf, and views are made and asked
 * outside it.
 */
#ifndef FS_PUBLISHED_H
#define FS_PUBLISHED_H

#include "client/store.h"
#include "fs/view.h"

struct published;

struct published *published_new(struct object_cache *cache, struct journal *journal);
void published_free(struct published *p);

/* One change of one place, as somebody who watches it would see it. */
enum published_op {
	PUBLISHED_CREATE, /* a directory with all that is in it, or a file */
	PUBLISHED_DELETE,
	PUBLISHED_WRITE,  /* its bytes are others */
	PUBLISHED_ATTRIB, /* its mode is another; never waits here (fs/modes.h) */
};

struct published_step {
	enum published_op op;
	enum node_kind kind;
	uint64_t place;	 /* st_ino of what comes, goes or changes */
	bool waits;	 /* shown as before until published_flip */
	uint64_t change; /* the change that it belongs to */
	char tag[NAME_SIZE];
};

/* What the kernel does by itself, since somebody's own call made the change. */
struct published_own {
	const struct tree_path *file; /* this file: it was saved */
	const struct tree_path
		*tree; /* this stream or tag with all that is in it: made, or removed */
	bool removed;
	bool renamed; /* the file came by a rename: who has the one open that it replaces keeps that */
};

struct published_change {
	struct view *old, *new; /* with a reference each, or NULL */
	struct published_step *steps;
	size_t nsteps;
	bool again; /* deleted and made anew: this is the deletion, the rest is to be published after */
};

void published_change_release(struct published_change *c);
#define _cleanup_change_ _cleanup_(published_change_release)

/*
 * Takes the object (NULL: nothing more) as the newest of the key NAMESPACE/NAME. Every place that it
 * changes goes on showing what it showed, until published_flip. What is the caller's `own` (NULL:
 * nothing is) is shown at once; and then the bytes of all other files, too, whose steps don't wait. What others
 * did to the name of the caller's own meanwhile is not: what was removed and stands there is another one, by
 * somebody else.
 *
 * False when nothing changed: an older version than the newest. Steps come children before their
 * directory where things go, directories alone where they come.
 */
bool published_begin(struct published *p, const char *key, struct object *object,
	const struct published_own *own, struct published_change *ret);

/* The place shows the newest from now on. False where it does already. For a namespace `key` is its name. */
bool published_flip(struct published *p, const char *key, const struct published_step *step);

/*
 * published_flip of what nobody knows: while `counter` (node_made) has the value. -EAGAIN where it hasn't: somebody
 * may know of the place by now. Else 1, or 0 as published_flip.
 */
int published_flip_unknown(struct published *p, const char *key, const struct published_step *step,
	const atomic_uint_fast64_t *counter, uint64_t value);

/* The same for a file's bytes, whose event is still to come: the announcer may end before it raises it. */
bool published_show(struct published *p, const char *key, const struct published_step *step);

/* Whether such a step waits, or its event is still to come (published_expect), at the place. */
bool published_is_expected(struct published *p, const struct tree_path *path, enum published_op op);
/* A step that doesn't wait is to be announced, or was (`on` false). */
void published_expect(
	struct published *p, const char *key, const struct published_step *step, bool on);

/*
 * published_begin with every step flipped: as if nobody looked. *ret_old and *ret_new as there.
 */
bool published_set_stream(struct published *p, const char *key, struct object *object,
	struct view **ret_old, struct view **ret_new);

/*
 * A listed namespace as the server describes it; NULL: it isn't listed any more. Whether it is to be
 * shown is seen from published_namespace_step, also after changes of its streams.
 */
void published_begin_namespace(
	struct published *p, const char *name, const struct store_namespace *ns);
/* The step that shows or hides the namespace. False where it is as it should be. */
bool published_namespace_step(struct published *p, const char *name, struct published_step *ret);

/*
 * Before there is a mount: what the first lists brought in any order gets the inodes that the whole of it
 * makes. (A namespace whose streams come before its uid has one by its name.)
 */
void published_restart_inodes(struct published *p);

/* The same, shown at once. */
void published_set_namespace(
	struct published *p, const char *name, const struct store_namespace *ns);

/* A namespace that no list names but that was found by name. */
void published_add_named(struct published *p, const char *name);

/* Whether the streams of the namespace (NULL: of all, now and later) are all here. */
void published_set_ready(struct published *p, const char *namespace, bool ready);
bool published_is_ready(struct published *p, const char *namespace);

/* The view that the stream's directory shows, with a reference for the caller, or NULL. */
struct view *published_view(struct published *p, const char *namespace, const char *stream);
/* The view that the place shows. It may have no such file. */
struct view *published_view_at(struct published *p, const struct tree_path *path);

/* Attributes of the root, a namespace, a stream or anything in it. -ENOENT. */
int published_attr(struct published *p, const struct tree_path *path, struct tree_attr *ret);

/* The child of that name. -ENOENT. */
int published_lookup(struct published *p, const struct tree_path *directory, const char *name,
	struct tree_path *ret_path, struct tree_attr *ret_attr);

/*
 * Gives the children whose place is after `cookie` (0: from the start), in order, until `fn` answers
 * true. The next call goes on from the cookie given last, whatever came and went meanwhile.
 */
typedef bool published_fn(void *arg, const char *name, uint64_t cookie,
	const struct tree_path *path, const struct tree_attr *attr);
int published_list(struct published *p, const struct tree_path *directory, uint64_t cookie,
	published_fn *fn, void *arg);

#endif
