#include "fs/tree/change.h"

static void copy_name(char ret[NAME_SIZE], const char *name, size_t len)
{
	if (len >= NAME_SIZE)
		len = NAME_SIZE - 1;
	memcpy(ret, name, len);
	ret[len] = '\0';
}

void step_place(const char *key, const struct step *step, struct place *ret)
{
	const char *slash = strchr(key, '/');

	*ret = (struct place){.kind = step->kind};
	copy_name(ret->ns, key, slash ? (size_t)(slash - key) : strlen(key));
	if (slash)
		copy_name(ret->stream, slash + 1, strlen(slash + 1));
	strcpy(ret->tag, step_tag(step));
}

void step_init(struct step *step, enum step_op op, enum kind kind, const char *tag, uint64_t place)
{
	*step = (struct step){.op = op, .kind = kind, .place = place, .waits = true};
	step->at[0] = (char)(1 + kind);
	strcpy(step->at + 1, kind < KIND_TAG ? "" : tag);
}

struct change *change_new(const char *key)
{
	struct change *c = xcalloc(1, sizeof(*c) + strlen(key) + 1);

	atomic_init(&c->refs, 1);
	strcpy(c->key, key);
	return c;
}

struct change *change_ref(struct change *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

void change_unref(struct change *c)
{
	if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return;
	snapshot_unref(c->old);
	snapshot_unref(c->next);
	free(c->steps);
	free(c);
}

struct step *change_add(
	struct change *c, enum step_op op, enum kind kind, const char *tag, uint64_t place)
{
	struct step *step;

	if ((c->nsteps & (c->nsteps + 1)) == 0) /* grows by powers of two */
		c->steps = xrealloc(c->steps, (2 * c->nsteps + 1) * sizeof(*c->steps));
	step = &c->steps[c->nsteps++];
	step_init(step, op, kind, tag, place);
	step->change = c;
	return step;
}

/* One file: it came, went, changed or didn't. `deletions` picks what is looked for. */
static void diff_file(struct change *c, enum kind kind, const char *tag, bool deletions)
{
	struct layout_attr before, after;
	bool was = c->old && snapshot_stamp(c->old, kind, tag, &before) == 0;
	bool is = c->next && snapshot_stamp(c->next, kind, tag, &after) == 0;
	bool same = was && is && before.ino == after.ino;

	if (deletions && was && !same)
		change_add(c, STEP_DELETE, kind, tag, before.ino);
	else if (!deletions && is && !same)
		change_add(c, STEP_CREATE, kind, tag, after.ino);
	else if (!deletions && same && before.mtime != after.mtime)
		change_add(c, STEP_WRITE, kind, tag, after.ino);
}

static bool same_tag(struct snapshot *a, struct snapshot *b, const char *tag)
{
	struct layout_attr x, y;

	return a && b && snapshot_attr(a, KIND_TAG, tag, &x) == 0 &&
	       snapshot_attr(b, KIND_TAG, tag, &y) == 0 && x.ino == y.ino;
}

/* Of the same life, so that what has one number is one thing. */
static bool is_kept(
	const struct change *c, const struct snapshot_index *x, const struct snapshot_tag *t)
{
	return x && c->old->generation == c->next->generation && snapshot_has_tag(x, t);
}

static void diff_deleted_tags(struct change *c)
{
	_cleanup_index_ struct snapshot_index *x = snapshot_index(c->old);
	_cleanup_index_ struct snapshot_index *y = c->next ? snapshot_index(c->next) : NULL;

	for (size_t i = 0; i < x->ntags; i++) {
		const char *tag = x->tags[i].name;
		struct layout_attr attr;

		if (is_kept(c, y, &x->tags[i]))
			continue;
		for (unsigned k = 0; k < TAG_FILES; k++)
			diff_file(c, TAG_FILE + k, tag, true);
		if (!same_tag(c->old, c->next, tag) &&
			snapshot_attr(c->old, KIND_TAG, tag, &attr) == 0)
			change_add(c, STEP_DELETE, KIND_TAG, tag, attr.ino);
	}
}

static void diff_tags(struct change *c)
{
	_cleanup_index_ struct snapshot_index *x = snapshot_index(c->next),
					      *y = snapshot_index(c->old);

	for (size_t i = 0; i < x->ntags; i++) {
		const char *tag = x->tags[i].name;
		struct layout_attr attr;

		if (is_kept(c, y, &x->tags[i]))
			continue;
		if (!same_tag(c->old, c->next, tag)) {
			snapshot_attr(c->next, KIND_TAG, tag, &attr);
			change_add(c, STEP_CREATE, KIND_TAG, tag, attr.ino);
			continue;
		}
		for (unsigned k = 0; k < TAG_FILES; k++)
			diff_file(c, TAG_FILE + k, tag, false);
	}
}

/*
 * Whoever waits for the files that every version moves, the whole object's, finds the others moved.
 */
static void diff_files(struct change *c)
{
	for (unsigned k = 0; k < STREAM_FILES; k++)
		if (layout[STREAM_FILE + k].view != PATCH_IMAGESTREAM)
			diff_file(c, STREAM_FILE + k, "", false);
	for (unsigned k = STREAM_FILES; k-- > 0;)
		if (layout[STREAM_FILE + k].view == PATCH_IMAGESTREAM)
			diff_file(c, STREAM_FILE + k, "", false);
}

static void diff(struct change *c)
{
	struct layout_attr attr;

	if (!c->old) {
		snapshot_attr(c->next, KIND_STREAM, "", &attr);
		change_add(c, STEP_CREATE, KIND_STREAM, "", attr.ino);
		return;
	}
	diff_deleted_tags(c);
	if (c->next) {
		diff_tags(c);
		diff_files(c);
		return;
	}
	for (unsigned k = 0; k < STREAM_FILES; k++)
		diff_file(c, STREAM_FILE + k, "", true);
	snapshot_attr(c->old, KIND_TAGS, "", &attr);
	change_add(c, STEP_DELETE, KIND_TAGS, "", attr.ino);
	snapshot_attr(c->old, KIND_STREAM, "", &attr);
	change_add(c, STEP_DELETE, KIND_STREAM, "", attr.ino);
}

/* The step is what the call did, and no other's that comes with it. */
static bool is_own(const struct step *step, const struct change_own *own)
{
	bool removal = step->op == STEP_DELETE;

	if (own->file) /* that the file goes by what was saved the kernel doesn't know */
		return !removal && step->kind == own->file->kind &&
		       (step->kind < KIND_TAG || streq(step_tag(step), own->file->tag));
	return own->tree && removal == own->removed &&
	       (own->tree->kind == KIND_STREAM ||
		       (step->kind >= KIND_TAG && streq(step_tag(step), own->tree->tag)));
}

struct change *change_between(
	const char *key, struct snapshot *old, struct snapshot *next, const struct change_own *own)
{
	struct change *c = change_new(key);

	c->old = old;
	c->next = next;
	diff(c);
	for (size_t i = 0; own && i < c->nsteps; i++) {
		struct step *step = &c->steps[i];

		step->own = is_own(step, own);
		step->waits = !step->own && step->op != STEP_WRITE;
		step->state = step->waits ? STEP_PENDING : STEP_SHOWN;
	}
	return c;
}
