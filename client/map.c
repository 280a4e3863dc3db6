#include "client/map.h"

/* What differs between the two kinds of table; `wanted` is an entry with the key alone. */
struct keys {
	uint64_t (*hash)(const struct map_entry *wanted);
	bool (*equal)(const struct map_entry *e, const struct map_entry *wanted);
};

static uint64_t hash_key(const struct map_entry *wanted)
{
	return hash_str(HASH_INIT, wanted->key);
}

static bool equal_key(const struct map_entry *e, const struct map_entry *wanted)
{
	return streq(e->key, wanted->key);
}

static uint64_t hash_id(const struct map_entry *wanted)
{
	return hash_bytes(HASH_INIT, &wanted->id, sizeof(wanted->id));
}

static bool equal_id(const struct map_entry *e, const struct map_entry *wanted)
{
	return e->id == wanted->id;
}

static const struct keys by_key = {hash_key, equal_key}, by_id = {hash_id, equal_id};

/* The key's slot, or the free one where it would stand. */
static inline size_t find_slot(
	const struct map *m, const struct keys *keys, const struct map_entry *wanted)
{
	size_t i = keys->hash(wanted) & (m->size - 1);

	while (m->entries[i].value && !keys->equal(&m->entries[i], wanted))
		i = (i + 1) & (m->size - 1);
	return i;
}

static inline void grow(struct map *m, const struct keys *keys)
{
	struct map old = *m;

	m->size = old.size ? old.size * 2 : 16;
	m->entries = xcalloc(m->size, sizeof(*m->entries));
	map_foreach(&old, e)
		m->entries[find_slot(m, keys, e)] = *e;
	free(old.entries);
}

static inline void *get(
	const struct map *m, const struct keys *keys, const struct map_entry *wanted)
{
	return m->size ? m->entries[find_slot(m, keys, wanted)].value : NULL;
}

static inline void *set(struct map *m, const struct keys *keys, const struct map_entry *entry)
{
	struct map_entry *e;
	void *old;

	if (m->count * 4 >= m->size * 3)
		grow(m, keys);
	e = &m->entries[find_slot(m, keys, entry)];
	old = e->value;
	m->count += !old;
	*e = *entry;
	return old;
}

static inline void *del(struct map *m, const struct keys *keys, const struct map_entry *wanted)
{
	size_t i = m->size ? find_slot(m, keys, wanted) : 0, j;
	void *old = m->size ? m->entries[i].value : NULL;

	if (!old)
		return NULL;
	m->count--;
	m->entries[i] = (struct map_entry){0};
	/* Entries that had to go past this slot move back, so that no search stops too early. */
	for (j = (i + 1) & (m->size - 1); m->entries[j].value; j = (j + 1) & (m->size - 1)) {
		struct map_entry e = m->entries[j];

		m->entries[j] = (struct map_entry){0};
		m->entries[find_slot(m, keys, &e)] = e;
	}
	return old;
}

void map_release(struct map *m)
{
	free(m->entries);
	*m = (struct map){0};
}

void *map_get(const struct map *m, const char *key)
{
	return get(m, &by_key, &(struct map_entry){.key = key});
}

void *map_set(struct map *m, const char *key, void *value)
{
	return set(m, &by_key, &(struct map_entry){.key = key, .value = value});
}

void *map_del(struct map *m, const char *key)
{
	return del(m, &by_key, &(struct map_entry){.key = key});
}

void idmap_release(struct idmap *m)
{
	map_release(&m->map);
}

void *idmap_get(const struct idmap *m, uint64_t id)
{
	return get(&m->map, &by_id, &(struct map_entry){.id = id});
}

void *idmap_set(struct idmap *m, uint64_t id, void *value)
{
	return set(&m->map, &by_id, &(struct map_entry){.id = id, .value = value});
}

void *idmap_del(struct idmap *m, uint64_t id)
{
	return del(&m->map, &by_id, &(struct map_entry){.id = id});
}
