/*
 * store: what the server sent, as far as we know it: ImageStreams by key and namespaces by name.
 *
 * One listener is told the key of what changed (NAMESPACE/NAME, or NAMESPACE), after the change and
 * outside the lock: two threads may tell it of two changes in the wrong order.
 * Thread-safe; its lock is a leaf.
 */
#ifndef CLIENT_STORE_H
#define CLIENT_STORE_H

#include "client/object.h"

struct store;

enum store_event { STORE_ADDED, STORE_MODIFIED, STORE_DELETED };

/* `object`: the version that came or went, borrowed; NULL for a namespace. */
typedef void store_listener(
	void *arg, const char *key, enum store_event event, struct object *object);

struct store_namespace {
	char uid[OBJECT_UID_MAX + 1]; /* "" where the server names none */
	int64_t created;
};

struct store *store_new(store_listener *listener, void *arg);
void store_free(struct store *s);

/* The current version with a reference for the caller, or NULL. */
struct object *store_get(struct store *s, const char *key);

/* A number for the next list; entries remember the list that saw them last. */
unsigned store_list_begin(struct store *s);

/*
 * Takes the caller's reference. An object whose resourceVersion isn't newer than the one held, or
 * that was deleted since (a late answer), changes nothing. `list` is the number of the list it came
 * with, or 0.
 */
void store_put(struct store *s, struct object *o, unsigned list);

/*
 * `resource_version` of the deletion: a newer object stays. NULL: whatever it is. For a while what
 * is late doesn't bring this very object back.
 */
void store_delete(struct store *s, const char *key, const char *resource_version);

/*
 * After a whole list: takes away what the list didn't hold, but for what is newer than the list.
 * `namespace` NULL: all.
 */
void store_sweep(struct store *s, const char *namespace, unsigned list, const char *list_version);

/* Takes away every object of the namespace. */
void store_drop(struct store *s, const char *namespace);

bool store_get_namespace(struct store *s, const char *name, struct store_namespace *ret);
void store_put_namespace(
	struct store *s, const char *name, const char *uid, int64_t created, unsigned list);
void store_delete_namespace(struct store *s, const char *name);
void store_sweep_namespaces(struct store *s, unsigned list);

void store_counts(struct store *s, size_t *ret_namespaces, size_t *ret_streams, size_t *ret_bytes);

#endif
