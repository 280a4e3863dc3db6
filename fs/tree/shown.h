/*
 * shown: what the tree shows now: namespaces, their streams, and each stream's snapshot.
 *
 * The store (client/store.h) holds what the server sent; this holds what the kernel is told. It
 * changes only through fs/publish. Thread-safe; its lock is a leaf, and snapshots are made and
 * asked outside it.
 */
#ifndef FS_TREE_SHOWN_H
#define FS_TREE_SHOWN_H

#include "client/store.h"
#include "fs/tree/change.h"

struct shown;

struct shown *shown_new(struct indexes *indexes);
void shown_free(struct shown *p);

/*
 * Takes the object (NULL: nothing more) as the newest of the key NAMESPACE/NAME. Every place that
 * it changes goes on showing what it showed, until shown_flip. What is the caller's `own` (NULL:
 * nothing is) is shown at once; and then the bytes of all other files, too, whose steps don't wait.
 * What others did to the name of the caller's own meanwhile is not: what was removed and stands
 * there is another one, made by another user.
 *
 * Returns the change with a reference for the caller, who ends it with shown_end; NULL when nothing
 * changed: it is older than the newest.
 */
struct change *shown_begin(
	struct shown *p, const char *key, struct object *object, const struct change_own *own);

/*
 * The place of the step (op, kind and tag are looked at) shows the newest from now on. False where
 * it does already. For a namespace `key` is its name.
 */
bool shown_flip(struct shown *p, const char *key, const struct step *step);

/*
 * shown_flip of what nobody knows: while `counter` (inode_known) has the value. -EAGAIN where it
 * hasn't: a process may know of the place by now. Else 1, or 0 as shown_flip.
 */
int shown_flip_unknown(struct shown *p, const char *key, const struct step *step,
	const atomic_uint_fast64_t *counter, uint64_t value);

/*
 * The same for a file's bytes, whose event is still to come: the announcer may end before it raises
 * it.
 */
bool shown_show(struct shown *p, const char *key, const struct step *step);

/* Whether such a step of the place is pending, or its event still to come. */
bool shown_is_expected(struct shown *p, const struct place *path, enum step_op op);

/* Every step of a stream's change was announced, or can't be. */
void shown_end(struct shown *p, struct change *c);

/*
 * A listed namespace as the server describes it; NULL: it isn't listed any more. Whether it is to
 * be shown is seen from shown_namespace_step, also after changes of its streams.
 */
void shown_begin_namespace(struct shown *p, const char *name, const struct store_namespace *ns);
/* The step that shows or hides the namespace. False where it is as it should be. */
bool shown_namespace_step(struct shown *p, const char *name, struct step *ret);

/*
 * Before there is a mount: what the first lists brought in any order gets the inodes that the whole
 * of it makes. (A namespace whose streams come before its uid has one by its name.)
 */
void shown_restart_inodes(struct shown *p);

/* A namespace that no list names but that was found by name. */
void shown_add_named(struct shown *p, const char *name);

/* Whether a list told of the namespace since it is shown. */
bool shown_was_listed(struct shown *p, const char *ns);

/* Whether the streams of the namespace (NULL: of all, now and later) are all here. */
void shown_set_ready(struct shown *p, const char *ns, bool ready);
bool shown_is_ready(struct shown *p, const char *ns);

/* The snapshot that the stream's directory shows, with a reference for the caller, or NULL. */
struct snapshot *shown_snapshot(struct shown *p, const char *ns, const char *stream);
/* The snapshot that the place shows. It may have no such file. */
struct snapshot *shown_snapshot_at(struct shown *p, const struct place *path);

/* Attributes of the root, a namespace, a stream or anything in it. -ENOENT. */
int shown_attr(struct shown *p, const struct place *path, struct layout_attr *ret);

/*
 * Gives the children whose place is after `cookie` (0: from the start), in order, until `fn`
 * answers true. The next call goes on from the cookie given last, whatever came and went meanwhile.
 */
typedef bool shown_fn(void *arg, const char *name, uint64_t cookie, const struct place *path,
	const struct layout_attr *attr);
int shown_list(
	struct shown *p, const struct place *directory, uint64_t cookie, shown_fn *fn, void *arg);

#endif
