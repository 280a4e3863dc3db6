/*
 * idmap: 64-bit numbers (not 0) to pointers, a hash table with open addressing. No lock of its own.
 */
#ifndef CLIENT_IDMAP_H
#define CLIENT_IDMAP_H

#include "client/util.h"

struct idmap_entry {
	uint64_t id; /* 0: free */
	void *value;
};

struct idmap {
	struct idmap_entry *entries;
	size_t count, size; /* size is a power of two, or 0 */
};

void idmap_release(struct idmap *m); /* frees the table, not the values */

void *idmap_get(const struct idmap *m, uint64_t id); /* NULL: not there */

/* Sets the value (not NULL). Returns the old one. */
void *idmap_set(struct idmap *m, uint64_t id, void *value);

/* Takes the number out and returns its value, NULL where there was none. */
void *idmap_del(struct idmap *m, uint64_t id);

/* Any order. The map may not change meanwhile. */
#define idmap_foreach(m, e)                                                                        \
	for (struct idmap_entry *e = (m)->entries; e && e < (m)->entries + (m)->size; e++)         \
		if (e->id)

#endif
