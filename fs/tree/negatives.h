/*
 * negatives: the names that the kernel keeps as missing without an end, at the root and in
 * NAMESPACE/.
 *
 * That is right only while a watch covers them: whoever ends a watch takes the names and has the
 * kernel forget each. Thread-safe; its lock is a leaf.
 */
#ifndef FS_TREE_NEGATIVES_H
#define FS_TREE_NEGATIVES_H

#include "client/util.h"

#define NEGATIVES_MAX 65536

struct negatives;

struct negatives *negatives_new(void);
void negatives_free(struct negatives *n); /* NULL is fine */

/*
 * Changes with each negatives_take. Asked for before it is known whether a watch covers the name.
 */
uint64_t negatives_epoch(struct negatives *n);

/*
 * The kernel is about to be told that the name is missing, without an end. `dir` is a namespace's
 * name, "" for the root. False where it may not: there is no room, or a watch ended since the
 * epoch.
 */
bool negatives_add(struct negatives *n, uint64_t epoch, const char *dir, const char *name);

/* The name is there now; the directory is gone. */
void negatives_del(struct negatives *n, const char *dir, const char *name);
void negatives_del_dir(struct negatives *n, const char *dir);

/*
 * Gives each name (of the directory; NULL: of all) and forgets it. fn runs under the lock: it may
 * take no other.
 */
typedef void negatives_fn(void *arg, const char *dir, const char *name);
void negatives_take(struct negatives *n, const char *dir, negatives_fn *fn, void *arg);

#endif
