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

/*
 * The streams of the namespace (NULL: all), in the order of their keys, each with a reference; `name`
 * NULL: all of them. The caller gives the references back and frees *ret.
 */
size_t store_objects(struct store *s, const char *ns, const char *name, struct object ***ret);
void store_objects_free(struct object **objects, size_t count);

/*
 * A number for the list, or the single request, that is about to be sent. A list is the truth for
 * what was there when it was asked for: whatever an event or an answer told since isn't judged by
 * it.
 */
uint64_t store_list_begin(struct store *s);

/*
 * Takes the caller's reference.
 *
 * `list` 0, an event or an answer: a version that isn't newer than the one held is late news and
 * changes nothing, nor does an object that was deleted since. `list`, the number of the list that
 * it came with: the object replaces what is held, whatever its version and uid, unless something
 * was told of the key since the list was asked for.
 *
 * 1 where the list had nothing of that key before; 0; -EEXIST: another key has an object of this
 * uid, so this one is left out.
 */
int store_put(struct store *s, struct object *o, uint64_t list);

/*
 * The same with an answer to a request of that number. Where the key isn't held it is late news,
 * too, if a whole list that was asked for later, and is no older, didn't have the object: it was
 * deleted meanwhile.
 */
int store_put_answer(struct store *s, struct object *o, uint64_t asked);

/*
 * Whether the key's object is held in this version or a newer one, so that an event brings nothing.
 * `told`: it is an event, and by that the server has told that the object is there.
 */
bool store_holds(struct store *s, const char *key, const char *resource_version, bool told);

/* The list holds the key, but not in a form that can be taken in: what is held stays. */
void store_saw(struct store *s, const char *key, uint64_t list);

/*
 * `resource_version` of the deletion: a newer object stays. NULL: whatever it is. For a while what
 * is late doesn't bring this very object back.
 */
void store_delete(struct store *s, const char *key, const char *resource_version);

/*
 * After a whole list: takes away what the list didn't hold and of which nothing was told since it
 * was asked for, or only an answer that is no newer than the list. `ns` NULL: all. `list_version`:
 * late versions up to it don't bring it back.
 */
void store_sweep(struct store *s, const char *ns, uint64_t list, const char *list_version);

/*
 * We may not read them any more: takes the namespace's objects away (NULL: all). They may come
 * back.
 */
void store_drop(struct store *s, const char *ns);
void store_drop_one(struct store *s, const char *key);

/*
 * The server went back to an earlier state: deletions that it doesn't know of any more hide
 * nothing.
 */
void store_forget_deleted(struct store *s);

bool store_get_namespace(struct store *s, const char *name, struct store_namespace *ret);
/* 0, or -EEXIST: another namespace has this uid. `list` as for store_put. */
int store_put_namespace(
	struct store *s, const char *name, const char *uid, int64_t created, uint64_t list);
void store_delete_namespace(struct store *s, const char *name);

/*
 * The namespaces that this list didn't hold; and those that hold streams. Copies in a JSON array.
 */
json_t *store_unlisted_namespaces(struct store *s, uint64_t list);
json_t *store_used_namespaces(struct store *s);

void store_counts(struct store *s, size_t *ret_namespaces, size_t *ret_streams, size_t *ret_bytes);

#endif
