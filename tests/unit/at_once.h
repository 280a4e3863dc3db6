/* Changes of the tree as if nobody looked: begun, and every step flipped. */
#ifndef TESTS_UNIT_AT_ONCE_H
#define TESTS_UNIT_AT_ONCE_H

#include "fs/tree/shown.h"

#include <errno.h>

static void settle_namespace(struct shown *p, const char *name)
{
	struct step step;

	if (shown_namespace_step(p, name, &step))
		shown_flip(p, name, &step);
}

static inline void set_namespace(
	struct shown *p, const char *name, const struct store_namespace *ns)
{
	shown_begin_namespace(p, name, ns);
	settle_namespace(p, name);
	if (!ns)
		return;
	shown_begin_namespace(p, name, ns); /* another one of that name is gone now */
	settle_namespace(p, name);
}

/* NULL when nothing changed. */
static struct change *set_once(struct shown *p, const char *key, struct object *object)
{
	_cleanup_free_ char *name = xstrndup(key, strcspn(key, "/"));
	struct change *c = shown_begin(p, key, object, NULL);

	if (!c)
		return NULL;
	for (size_t i = 0; i < c->nsteps; i++)
		shown_flip(p, key, &c->steps[i]);
	settle_namespace(p, name);
	return c;
}

/* False when nothing changed. *ret_old and *ret_new as in struct change. */
static inline bool set_stream(struct shown *p, const char *key, struct object *object,
	struct snapshot **ret_old, struct snapshot **ret_new)
{
	_cleanup_change_ struct change *first = set_once(p, key, object), *second = NULL;

	if (!first)
		return false;
	if (first->again)
		second = set_once(p, key, object);
	*ret_old = snapshot_ref_or_null(first->old);
	*ret_new = snapshot_ref_or_null(second ? second->new : first->new);
	return true;
}

/* The child of that name. -ENOENT. */
static inline int look_up(struct shown *p, const struct place *directory, const char *name,
	struct place *ret_path, struct layout_attr *ret_attr)
{
	struct place path = *directory;
	int r;

	path.kind = layout_child(directory->kind, name);
	if (path.kind == KIND_COUNT && directory->kind == KIND_ROOT) {
		path.kind = KIND_NAMESPACE;
		strcpy(path.namespace, name);
	} else if (path.kind == KIND_COUNT && directory->kind == KIND_NAMESPACE) {
		path.kind = KIND_STREAM;
		strcpy(path.stream, name);
	} else if (path.kind == KIND_COUNT && directory->kind == KIND_TAGS) {
		path.kind = KIND_TAG;
		strcpy(path.tag, name);
	} else if (path.kind == KIND_COUNT) {
		return -ENOENT;
	}
	r = shown_attr(p, &path, ret_attr);
	if (r == 0)
		*ret_path = path;
	return r;
}

#endif
