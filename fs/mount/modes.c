#include "fs/mount/modes.h"

#include "client/map.h"

#include <sys/stat.h>

static mode_t mode_by(const struct mount *m, const struct place *path, const struct grants *g)
{
	bool ns = path->kind == KIND_NAMESPACE;
	mode_t mode = layout[path->kind].mode & ~m->umask;
	unsigned rights = grants_of(g, ns ? NULL : path->stream);

	if (m->read_only || !(rights & layout[path->kind].rights))
		mode &= ~0222;
	/* Who may read streams by name only can't list them, but for those that rules name. */
	if (ns && !(rights & RIGHT_LIST) && !grants_name(g))
		mode &= ~0444;
	return mode;
}

static mode_t api_mode(const struct mount *m, enum kind kind)
{
	mode_t mode = layout[kind].mode;

	if (S_ISLNK(mode))
		return mode;
	return mode & ~m->umask & (m->read_only ? ~0222 : ~0);
}

mode_t modes_of(const struct mount *m, const struct place *path)
{
	_cleanup_grants_ struct grants *g = NULL;

	if (layout_is_api(path->kind))
		return api_mode(m, path->kind);
	if (path->kind != KIND_ROOT)
		g = rights_get(m->rights, path->ns);
	return mode_by(m, path, g);
}

mode_t modes_to_open(const struct mount *m, const struct place *path)
{
	mode_t mode = modes_of(m, path);
	struct place dir = *path;

	if (layout_is_api(path->kind) || !layout_takes_equal(path->kind))
		return mode;
	dir.kind = layout[path->kind].parent;
	return mode | (modes_of(m, &dir) & 0222);
}

/* ---- changes ---- */

struct search {
	const struct mount *mount;
	const struct grants *old, *next;
	struct map changes; /* by key -> struct change */
};

static struct change *change_of(struct search *s, const struct place *path)
{
	_cleanup_free_ char *key = path->kind == KIND_NAMESPACE
					   ? xstrdup(path->ns)
					   : xasprintf("%s/%s", path->ns, path->stream);
	struct change *c = map_get(&s->changes, key);

	if (!c) {
		c = change_new(key);
		map_set(&s->changes, c->key, c);
	}
	return c;
}

static void find_changed(void *arg, const struct place *path, uint64_t ino)
{
	struct search *s = arg;

	if (path->kind == KIND_ROOT || layout_is_api(path->kind) || path->kind == KIND_SCRATCH ||
		mode_by(s->mount, path, s->old) == mode_by(s->mount, path, s->next))
		return;
	change_add(change_of(s, path), STEP_ATTRIB, path->kind, path->tag, ino);
}

void modes_changed(void *arg, const char *ns, const struct grants *old, const struct grants *next)
{
	struct mount *m = arg;
	struct search s = {.mount = m, .old = old, .next = next};

	if (old && ((grants_of(old, NULL) ^ grants_of(next, NULL)) & (RIGHT_GET | RIGHT_LIST)))
		reflector_doubt(m->reflector, ns);
	inode_foreach(m->inodes, ns, find_changed, &s);
	map_foreach(&s.changes, e)
		publish_attributes(m->publisher, e->value);
	map_release(&s.changes);
}
