#include "fs/mount/modes.h"

#include "client/map.h"

#include <sys/stat.h>

static mode_t mode_by(const struct mount *m, const struct layout_path *path, const struct grants *g)
{
	bool namespace = path->kind == KIND_NAMESPACE;
	mode_t mode = layout[path->kind].mode & ~m->umask;
	unsigned rights = grants_of(g, namespace ? NULL : path->stream);

	if (m->read_only || !(rights & layout[path->kind].rights))
		mode &= ~0222;
	/* Who may read streams by name only can't list them, but for those that rules name. */
	if (namespace && !(rights & RIGHT_LIST) && !grants_name(g))
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

mode_t modes_of(const struct mount *m, const struct layout_path *path)
{
	_cleanup_grants_ struct grants *g = NULL;

	if (layout_is_api(path->kind))
		return api_mode(m, path->kind);
	if (path->kind != KIND_ROOT)
		g = rights_get(m->rights, path->namespace);
	return mode_by(m, path, g);
}

/* ---- changes ---- */

/* The steps of one key of fs/publish. */
struct changed {
	struct shown_step *steps;
	size_t count, size;
	char key[];
};

struct search {
	const struct mount *mount;
	const struct grants *old, *new;
	struct map keys; /* -> struct changed */
};

static struct changed *changed_get(struct search *s, const struct layout_path *path)
{
	_cleanup_free_ char *key = path->kind == KIND_NAMESPACE
					   ? xstrdup(path->namespace)
					   : xasprintf("%s/%s", path->namespace, path->stream);
	struct changed *c = map_get(&s->keys, key);

	if (!c) {
		c = xcalloc(1, sizeof(*c) + strlen(key) + 1);
		strcpy(c->key, key);
		map_set(&s->keys, c->key, c);
	}
	return c;
}

static void find_changed(void *arg, const struct layout_path *path, uint64_t ino)
{
	struct search *s = arg;
	struct shown_step *step;
	struct changed *c;

	if (path->kind == KIND_ROOT || layout_is_api(path->kind) || path->kind == KIND_SCRATCH ||
		mode_by(s->mount, path, s->old) == mode_by(s->mount, path, s->new))
		return;
	c = changed_get(s, path);
	if (c->count == c->size) {
		c->size = c->size ? 2 * c->size : 8;
		c->steps = xrealloc(c->steps, c->size * sizeof(*c->steps));
	}
	step = &c->steps[c->count++];
	*step = (struct shown_step){.op = SHOWN_ATTRIB, .kind = path->kind, .place = ino};
	strcpy(step->tag, path->tag);
}

void modes_changed(
	void *arg, const char *namespace, const struct grants *old, const struct grants *new)
{
	struct mount *m = arg;
	struct search s = {.mount = m, .old = old, .new = new};

	if (old && ((grants_of(old, NULL) ^ grants_of(new, NULL)) & (RIGHT_GET | RIGHT_LIST)))
		reflector_doubt(m->reflector, namespace);
	inode_foreach(m->inodes, namespace, find_changed, &s);
	map_foreach(&s.keys, e)
	{
		struct changed *c = e->value;

		publish_attributes(m->publisher, c->key, c->steps, c->count);
		free(c);
	}
	map_release(&s.keys);
}
