/*
 * select: .api/select/SELECTOR/: which streams match a selector now. The server says so, each time.
 */
#ifndef FS_DOTAPI_SELECT_H
#define FS_DOTAPI_SELECT_H

#include "fs/mount/mount.h"

/* What matched when the server was asked. Counted, immutable. */
struct selection {
	atomic_uint refs;
	int64_t made;	   /* monotonic ns */
	uint64_t received; /* how many changes the server had told by then */
	size_t n;
	char **names; /* of the links, sorted */
};

/* The selections that were asked for last: a listing goes on in one, and its names are looked up in it. */
struct selections;

struct selections *selections_new(void);
void selections_free(struct selections *s); /* NULL is fine */

enum select_age {
	SELECT_NOW, /* ask */
	SELECT_UNCHANGED, /* the last will do, if it isn't older than a second and nothing was told since */
	SELECT_GOING_ON, /* the last will do, if it isn't older than a second */
};

/*
 * `path`: the KIND_SELECTOR. 0, -EINVAL for what is no selector, or why there was no answer; .api/errors tells
 * the rest.
 */
int select_get(struct mount *m, const struct api_call *call, const struct place *path,
	enum select_age age, struct selection **ret);
void selection_unref(struct selection *s); /* NULL is fine */

static inline void cleanup_selection(struct selection **s)
{
	selection_unref(*s);
}
#define _cleanup_selection_ _cleanup_(cleanup_selection)

bool selection_has(const struct selection *s, const char *name);

#endif
