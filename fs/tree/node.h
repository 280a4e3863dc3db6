/*
 * node: the inodes that the kernel knows: node id, st_ino, place, lookup count.
 *
 * Node ids are counters and never used again. A node is found by its st_ino, which stands for one
 * thing at one place (fs/tree/layout.h): what comes back after it was gone is another node. Thread-safe;
 * its lock is a leaf.
 */
#ifndef FS_TREE_NODE_H
#define FS_TREE_NODE_H

#include "fs/tree/snapshot.h"

#define NODE_ID_ROOT 1

struct node_table;

struct node_table *node_table_new(void);
void node_table_free(struct node_table *t);

/* Pins the thing: its lookup count is one more. Returns its node id. */
uint64_t node_lookup(struct node_table *t, const struct layout_path *path, uint64_t ino);

/* Takes `count` lookups back. */
void node_forget(struct node_table *t, uint64_t id, uint64_t count);

/* What the id stands for. False for an id that isn't known. */
bool node_get(struct node_table *t, uint64_t id, struct layout_path *ret_path, uint64_t *ret_ino);

/* The inode is at another place from now on, or something else: it was renamed. */
void node_set_path(struct node_table *t, uint64_t ino, const struct layout_path *path);

/* The id of a thing that the kernel knows, or 0. */
uint64_t node_find(struct node_table *t, uint64_t ino);

/* Calls fn for each node of the namespace, under the lock: fn may take no other one. */
typedef void node_fn(void *arg, const struct layout_path *path, uint64_t ino);
void node_foreach(struct node_table *t, const char *namespace, node_fn *fn, void *arg);
/*
 * With -o noopen, where the kernel tells of no open: the thing vanishes, and as long as the kernel
 * knows it, somebody may have it open. A reference is taken. node_last: one to give back, or NULL.
 */
void node_keep(struct node_table *t, uint64_t ino, struct snapshot *last);
struct snapshot *node_last(struct node_table *t, uint64_t ino);

size_t node_count(struct node_table *t);

/*
 * How many things have become known so far; it grows before node_lookup returns. Borrowed. Where it is the same
 * under somebody's lock as before a node_find that found nothing, all that is asked of the thing from now on
 * comes after what is done under that lock.
 */
const atomic_uint_fast64_t *node_made(struct node_table *t);

#endif
