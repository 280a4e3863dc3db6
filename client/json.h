/*
 * json: the one way in for JSON that others wrote: a server, a credential plugin, a user.
 *
 * A parsed tree costs up to thirty times its text (`{}` and a comma are 3 bytes, the tree of them
 * 90), so a text is measured before it is parsed. DESIGN: "Limits".
 */
#ifndef CLIENT_JSON_H
#define CLIENT_JSON_H

#include "client/util.h"
#include "have.h"

#define JSON_TEXT_MAX ((size_t)8 << 20) /* bytes of an object, of a watch line */
#define JSON_VALUES_MAX                                                                            \
	((size_t)200000) /* objects, arrays, strings, numbers, booleans and nulls in one text */
#define JSON_DEPTH_MAX                                                                             \
	((size_t)512) /* as deep as YAML may be (yaml.c); jansson's own limit is 2048 */

/*
 * Parses one text. `flags` are json_loadb's; `text` may be NULL where `len` is 0. 0 and a reference
 * for the caller; -EFBIG above one of the limits, or where a number has no room in 64 bits;
 * -EBADMSG where it is no JSON. *ret_why (NULL: it isn't wanted) is what is wrong, with line and
 * column where there is one; the caller frees it. A byte order mark before the text is left out.
 */
int json_read(const char *text, size_t len, size_t flags, json_t **ret, char **ret_why);

/* The bytes of the byte order mark at the beginning, or 0. */
size_t json_mark(const char *text, size_t len);

/* The bytes before what isn't white space or a byte order mark. */
size_t json_skip_blank(const char *text, size_t len);

/*
 * The same of texts that stand back to back, with or without those between them: appends each
 * to the array `ret`. The limits hold for all together.
 */
int json_read_all(const char *text, size_t len, size_t flags, json_t *ret, char **ret_why);

/* The same for whoever has nothing to say of it: NULL where json_read fails. */
json_t *json_read_or_null(const char *text, size_t len, size_t flags);

#if !HAVE_JSON_KEYLEN
/*
 * jansson 2.13 has no keys with a length, and none that hold a NUL: it stands there as C0 80, which
 * no text has. What it parses has no such key (json.c), so these are of objects that we make.
 */
json_t *json_getn_2_13(const json_t *object, const char *key, size_t len);
int json_setn_2_13(json_t *object, const char *key, size_t len, json_t *value);

#undef json_object_keylen_foreach
#define json_object_getn     json_getn_2_13
#define json_object_setn_new json_setn_2_13
#define json_object_setn_nocheck(object, key, len, value)                                          \
	json_setn_2_13(object, key, len, json_incref(value))
#define json_object_keylen_foreach(object, key, len, value)                                        \
	for (void *_at = json_object_iter(object);                                                 \
		_at && ((key) = json_object_iter_key(_at), (len) = strlen(key),                    \
		       (value) = json_object_iter_value(_at));                                     \
		_at = json_object_iter_next(object, _at))
#endif

#endif
