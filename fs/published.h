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

/*
 * Shows the object (NULL: nothing more) under the key NAMESPACE/NAME. An older version than the one
 * shown changes nothing. *ret_old and *ret_new are the views before and after, each with a
 * reference for the caller, or NULL. False when nothing changed.
 */
bool published_set_stream(struct published *p, const char *key, struct object *object,
	struct view **ret_old, struct view **ret_new);

/* A listed namespace as the server describes it; NULL: it isn't listed any more. */
void published_set_namespace(
	struct published *p, const char *name, const struct store_namespace *ns);

/* A namespace that no list names but that was found by name. */
void published_add_named(struct published *p, const char *name);

/* The streams of the namespace (NULL: of all, now and later) are all here. */
void published_set_ready(struct published *p, const char *namespace);
bool published_is_ready(struct published *p, const char *namespace);

/* The view of a stream with a reference for the caller, or NULL. */
struct view *published_view(struct published *p, const char *namespace, const char *stream);

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
