/*
 * scan: a JSON text in one pass: whether it is written as jansson would write it, where its values
 * stand, and how large each is when it is shown with an indentation of two.
 *
 * Written by hand on purpose. A tree of jansson's costs ten times the text, and 73 µs for a stream
 * of 4.2 KB where this takes 3; it can't tell a size without writing the bytes (370 µs for the files
 * of such a stream), and Debian 12 has no yyjson. What isn't plain goes the slow way through jansson,
 * which alone decides what is JSON: scan_read takes nothing that jansson refuses, and what it takes
 * jansson writes again byte for byte (tests/fuzz/fuzz_scan.c).
 */
#ifndef CLIENT_SCAN_H
#define CLIENT_SCAN_H

#include "client/cut.h"

/* A value. Its members or elements follow it in the array, each with all that is in it. */
struct scan_value {
	const char *p; /* borrowed from the text */
	uint32_t len;
	uint32_t key_len; /* of the key before it, with its quotes; 0: it is no member */
	uint32_t span;	  /* of values: itself and all that is in it */
	/*
	 * With an indentation of two, at the left edge: its bytes, and the line ends in them. Where
	 * it stands N levels deeper, each line but the first has 2 * N bytes more.
	 */
	uint32_t size, lines;
};

struct scan {
	struct scan_value *values; /* the first one is the whole */
	size_t count, room;
};

#define SCAN_INIT                                                                                  \
	{                                                                                          \
		.values = NULL                                                                     \
	}

void scan_release(struct scan *s); /* it can be used again */
#define _cleanup_scan_ _cleanup_(scan_release)

/*
 * Reads a text from a server: an object within the limits of client/json.h. False where jansson has
 * to look at it: it is no JSON, above a limit, or not plain: white space between its values, a key
 * that stands twice (or more than 64 members in one object), anything escaped in another way than
 * jansson does, a number that is no integer of 1 to 18 digits.
 */
bool scan_read(struct scan *s, const char *text, size_t len);
/* The same of an object that begins a longer text; s->values->len tells how far it goes. */
bool scan_read_first(struct scan *s, const char *text, size_t len);

/*
 * Reads the value, whatever it is, that begins a text which jansson wrote with JSON_COMPACT, or
 * which scan_read took.
 */
void scan_read_own(struct scan *s, const char *text, size_t len);

#define scan_foreach(parent, v)                                                                    \
	for (const struct scan_value *v = (parent) + 1; v != (parent) + (parent)->span;            \
		v += v->span)

static inline bool scan_is_object(const struct scan_value *v)
{
	return v && *v->p == '{';
}

static inline bool scan_is_array(const struct scan_value *v)
{
	return v && *v->p == '[';
}

static inline bool scan_is_string(const struct scan_value *v)
{
	return v && *v->p == '"';
}

/* The key of a member, with its quotes; with the colon it stands right before the value. */
static inline struct piece scan_key(const struct scan_value *v)
{
	return (struct piece){v->p - 1 - v->key_len, v->key_len};
}

/* The member of that name, which has nothing to escape. NULL: there is none, or no object (NULL). */
const struct scan_value *scan_find(const struct scan_value *object, const char *name);

/* The value that begins there; NULL: none does. */
const struct scan_value *scan_at(const struct scan *s, const char *p);

/* The element at that place of a list. NULL: there is none, or no list (NULL). */
const struct scan_value *scan_element(const struct scan_value *list, size_t at);

/* The text of a string, which may hold NULs; NULL of anything else (NULL, too). The caller frees. */
char *scan_string(const struct scan_value *v, size_t *ret_len);

#endif
