/*
 * order: the children of a directory by their cookies, for listings that go on where they stopped.
 *
 * A cookie is never used again. Taking a child out and finding the first one after a cookie cost no
 * walk. No lock of its own; children are borrowed.
 */
#ifndef FS_TREE_ORDER_H
#define FS_TREE_ORDER_H

#include "client/util.h"

struct order {
	struct order_place {
		uint64_t cookie;
		void *child; /* NULL: gone */
	} * places;
	size_t count, size, gone; /* of places: in use, allocated, without a child */
	uint64_t counter;	  /* the last cookie given */
};

void order_release(struct order *o); /* frees the table, not the children */

/* Adds the child after all others. Returns its cookie. */
uint64_t order_add(struct order *o, void *child);

/* Adds the child at a cookie of the caller's. Cheap where cookies mostly ascend. */
void order_put(struct order *o, uint64_t cookie, void *child);

/* Takes the child out, which is at that cookie; where it isn't, nothing happens. */
void order_del(struct order *o, uint64_t cookie, const void *child);

/* The index in `places` of the first one after the cookie; o->count where there is none. */
size_t order_after(const struct order *o, uint64_t cookie);

/*
 * The same in any items whose cookies ascend: the index of the first one after the cookie, else
 * count.
 */
typedef uint64_t order_cookie_fn(const void *items, size_t i);
size_t order_search(const void *items, size_t count, order_cookie_fn *cookie_at, uint64_t cookie);

#endif
