#include "client/idmap.h"

void idmap_release(struct idmap *m)
{
	free(m->entries);
	*m = (struct idmap){0};
}

/* The number's slot, or the free one where it would stand. */
static size_t slot(const struct idmap *m, uint64_t id)
{
	size_t i = hash_bytes(HASH_INIT, &id, sizeof(id)) & (m->size - 1);

	while (m->entries[i].id && m->entries[i].id != id)
		i = (i + 1) & (m->size - 1);
	return i;
}

static void grow(struct idmap *m)
{
	struct idmap old = *m;

	m->size = old.size ? old.size * 2 : 16;
	m->entries = xcalloc(m->size, sizeof(*m->entries));
	idmap_foreach(&old, e) m->entries[slot(m, e->id)] = *e;
	free(old.entries);
}

void *idmap_get(const struct idmap *m, uint64_t id)
{
	return m->size ? m->entries[slot(m, id)].value : NULL;
}

void *idmap_set(struct idmap *m, uint64_t id, void *value)
{
	struct idmap_entry *e;
	void *old;

	if (m->count * 4 >= m->size * 3)
		grow(m);
	e = &m->entries[slot(m, id)];
	old = e->value;
	if (!e->id)
		m->count++;
	*e = (struct idmap_entry){id, value};
	return old;
}

void *idmap_del(struct idmap *m, uint64_t id)
{
	size_t i, j;
	void *old;

	if (!m->size)
		return NULL;
	i = slot(m, id);
	if (!m->entries[i].id)
		return NULL;
	old = m->entries[i].value;
	m->count--;
	m->entries[i] = (struct idmap_entry){0};
	/* Entries that had to go past this slot move back, so that no search stops too early. */
	for (j = (i + 1) & (m->size - 1); m->entries[j].id; j = (j + 1) & (m->size - 1)) {
		struct idmap_entry e = m->entries[j];

		m->entries[j] = (struct idmap_entry){0};
		m->entries[slot(m, e.id)] = e;
	}
	return old;
}
