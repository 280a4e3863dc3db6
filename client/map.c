#include "client/map.h"

void map_release(struct map *m)
{
	free(m->entries);
	m->entries = NULL;
	m->count = m->size = 0;
}

/* The key's slot, or the free one where it would stand. */
static size_t map_slot(const struct map *m, const char *key)
{
	size_t i = hash_str(HASH_INIT, key) & (m->size - 1);

	while (m->entries[i].key && !streq(m->entries[i].key, key))
		i = (i + 1) & (m->size - 1);
	return i;
}

static void map_grow(struct map *m)
{
	struct map old = *m;

	m->size = old.size ? old.size * 2 : 16;
	m->entries = xcalloc(m->size, sizeof(*m->entries));
	map_foreach(&old, e)
	{
		m->entries[map_slot(m, e->key)] = *e;
	}
	free(old.entries);
}

void *map_get(const struct map *m, const char *key)
{
	return m->size ? m->entries[map_slot(m, key)].value : NULL;
}

void *map_set(struct map *m, const char *key, void *value)
{
	struct map_entry *e;
	void *old;

	if (m->count * 4 >= m->size * 3)
		map_grow(m);
	e = &m->entries[map_slot(m, key)];
	old = e->value;
	if (!e->key)
		m->count++;
	e->key = key;
	e->value = value;
	return old;
}

void *map_del(struct map *m, const char *key)
{
	size_t i, j;
	void *old;

	if (!m->size)
		return NULL;
	i = map_slot(m, key);
	if (!m->entries[i].key)
		return NULL;
	old = m->entries[i].value;
	m->count--;
	m->entries[i] = (struct map_entry){0};
	/* Entries that had to go past this slot move back, so that no search stops too early. */
	for (j = (i + 1) & (m->size - 1); m->entries[j].key; j = (j + 1) & (m->size - 1)) {
		struct map_entry e = m->entries[j];

		m->entries[j] = (struct map_entry){0};
		m->entries[map_slot(m, e.key)] = e;
	}
	return old;
}
