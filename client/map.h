/*
 * map: strings to pointers, idmap: 64-bit numbers to pointers: one hash table with open addressing.
 * A map's keys are borrowed: they have to live as long as their entry (they usually stand in the
 * value). No lock of its own.
 */
#ifndef CLIENT_MAP_H
#define CLIENT_MAP_H

#include "client/util.h"

struct map_entry {
	union {
		const char *key;
		uint64_t id; /* in an idmap */
	};
	void *value; /* NULL: free */
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
		if (e->value)

/*
 * By number. The same table, as a type of its own, so that nobody asks a map of strings for a
 * number.
 */
struct idmap {
	union {
		struct map map;
		struct {
			struct map_entry *entries; /* by `id` */
			size_t count, size;
		};
	};
};

void idmap_release(struct idmap *m); /* frees the table, not the values */

void *idmap_get(const struct idmap *m, uint64_t id); /* NULL: not there */

/* Sets the value (not NULL). Returns the old one. */
void *idmap_set(struct idmap *m, uint64_t id, void *value);

/* Takes the number out and returns its value, NULL where there was none. */
void *idmap_del(struct idmap *m, uint64_t id);

/* Any order. The map may not change meanwhile. */
#define idmap_foreach(m, e) map_foreach(&(m)->map, e)

#endif
