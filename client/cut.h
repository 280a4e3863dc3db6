/*
 * cut: a JSON text cut into the members of its objects and the elements of its arrays, so that what
 * a list or an event wraps is read (and kept) piece by piece instead of as one.
 *
 * Only borders are looked for here: whether a piece is JSON is the parser's to say.
 *
 *	cut_enter(&c, '{') == 0
 *	while ((r = cut_next(&c, '}')) > 0 && (r = cut_key(&c, &key)) == 0 &&
 *		(r = cut_value(&c, &value)) == 0)
 *		…
 *
 * Instead of cut_value one may cut_enter the value and go on with its own elements.
 */
#ifndef CLIENT_CUT_H
#define CLIENT_CUT_H

#include "client/util.h"

struct cut {
	const char *p, *end;
	bool first;  /* of the object or array entered last nothing was seen yet */
	bool spaces; /* there was white space between what was cut */
};

/*
 * How far the search for the end of a string, object or array went. {0} before it begins; it can go
 * on with more bytes where the first ones ended.
 */
struct border {
	size_t depth;
	bool begun, in_string, escaped;
	bool spaces; /* there was white space outside its strings */
};

static inline bool border_is_found(const struct border *s)
{
	return s->begun && s->depth == 0 && !s->in_string;
}

/* To after the byte that ends what begins (or goes on) at p, or as far as there are bytes. */
const char *border_search(struct border *s, const char *p, const char *end);

/*
 * To the next byte that needs a look in a string: a quote, a backslash, a control character, or one
 * outside of ASCII; most strings have none, and eight bytes are looked at together.
 */
const char *cut_skip_ordinary(const char *p, const char *end);

static inline bool cut_is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* Borrowed from the text. */
struct piece {
	const char *p;
	size_t len;
};

#define CUT_INIT(text, size)                                                                       \
	{                                                                                          \
		.p = (text), .end = (text) + (size)                                                \
	}

/* 0, or -EBADMSG where no such bracket ('{' or '[') comes next. */
int cut_enter(struct cut *c, char bracket);

/* 1: another member or element follows; 0: `bracket` has closed it; -EBADMSG. */
int cut_next(struct cut *c, char bracket);

/* The key before a member's value, with its quotes and as it is escaped. 0 or -EBADMSG. */
int cut_key(struct cut *c, struct piece *ret);

/* Any value, whole. 0 or -EBADMSG. */
int cut_value(struct cut *c, struct piece *ret);

/* 0, or -EBADMSG where anything but white space is left. */
int cut_end(struct cut *c);

/* The text of a string that has nothing escaped in it. False: it isn't one, or is too long. */
bool cut_plain(const struct piece *value, char *ret, size_t size);

/* Whether a key is this name, which has nothing to escape. */
static inline bool cut_is(const struct piece *key, const char *name)
{
	size_t len = strlen(name);

	return key->len == len + 2 && memcmp(key->p + 1, name, len) == 0;
}

/* The first member of that name in an object. False: there is none, as far as it is an object. */
bool cut_find(const char *text, size_t len, const char *name, struct piece *ret);

#endif
