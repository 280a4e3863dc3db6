/*
 * map: strings to pointers, a hash table with open addressing. Keys are borrowed: they have to live
 * as long as their entry (they usually stand in the value). No lock of its own.
 */
#ifndef CLIENT_MAP_H
#define CLIENT_MAP_H

#include "client/util.h"

struct map_entry {
	const char *key; /* NULL: free */
	void *value;
};

struct map {
	struct map_entry *entries;
	size_t count, size; /* size is a power of two, or 0 */
};

void map_release(struct map *m); /* frees the table, not the values */

void *map_get(const struct map *m, const char *key); /* NULL: not there */

/* Sets the value (not NULL) of the key, and makes `key` the entry's key. Returns the old value. */
void *map_set(struct map *m, const char *key, void *value);

/* Takes the key out and returns its value, NULL where there was none. */
void *map_del(struct map *m, const char *key);

/* Any order. The map may not change meanwhile. */
#define map_foreach(m, e)                                                                          \
	for (struct map_entry *e = (m)->entries; e && e < (m)->entries + (m)->size; e++)           \
		if (e->key)

#endif
