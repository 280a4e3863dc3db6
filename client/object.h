/*
 * object: one version of an ImageStream: immutable, counted, and kept as compact JSON.
 *
 * What was received is stored as text (without managedFields, with kind and apiVersion in front),
 * since a parsed tree costs about ten times as much; whoever needs the tree parses it, through an
 * object_cache where it is likely to be needed again.
 */
#ifndef CLIENT_OBJECT_H
#define CLIENT_OBJECT_H

#include "client/scan.h"

#include <stdatomic.h>

struct object {
	atomic_uint refs;
	int64_t created; /* creationTimestamp, ns since 1970 */
	int64_t newest;	 /* the newest time that the object itself names */
	uint64_t status; /* a hash of that part */
	uint64_t order;	 /* in which the store took it; 0: it never did */
	const char *key; /* NAMESPACE/NAME */
	const char *name;
	const char *uid;
	const char *resource_version;
	const char *text; /* compact JSON, NUL-terminated */
	size_t len;
	char bytes[]; /* what the pointers point at */
};

#define OBJECT_NAME_MAX	   255 /* bytes of a namespace's or stream's name: NAME_MAX */
#define OBJECT_UID_MAX	   128
#define OBJECT_VERSION_MAX 128

/*
 * The gate: everything that a server sends passes one of these before it enters the store, so that
 * whoever looks at an object behind them may trust its names: a namespace and a name have 1 to
 * OBJECT_NAME_MAX bytes, no '/', no NUL, no '.' in front; a uid and a resourceVersion are there,
 * are printable ASCII without spaces and have at most the bytes above. Any other character of a
 * name is possible, and so is any text elsewhere in the object.
 *
 * 0, or -EINVAL; then *ret_why (NULL: it isn't wanted) is one sentence that begins with at most 64
 * bytes of each name, control characters escaped. The caller frees it.
 */
int object_check_names(
	const json_t *metadata, char **ret_why); /* namespace, name, uid, resourceVersion */
int object_check_namespace(
	const json_t *metadata, char **ret_why); /* of a project or namespace: name, uid */

/*
 * From a received document that was parsed (client/json.h); `api_version` for list items, which
 * carry none. One reference for the caller. -EINVAL where it isn't an ImageStream that passes
 * object_check_names, -EFBIG where its compact text is above JSON_TEXT_MAX.
 */
int object_from_json(const json_t *json, const char *api_version, struct object **ret);

/*
 * The same from its text, of which no tree is made where it is plain (client/scan.h). Also -EBADMSG
 * where it is no JSON, and -EFBIG above the limits of client/json.h. After a failure *ret is NULL, and
 * *ret_why (NULL: it isn't wanted) one sentence, as above, with the names where they could be read;
 * the caller frees it.
 */
int object_from_text(
	const char *text, size_t len, const char *api_version, struct object **ret, char **ret_why);

/*
 * The same of an object that begins a longer text, and how many bytes it takes. NULL where it isn't
 * plain, or isn't an ImageStream that passes: then object_from_text tells what is wrong. `scan` is
 * the caller's, to be used for one object after the other.
 */
struct object *object_from_plain(
	struct scan *scan, const char *text, size_t len, const char *api_version, size_t *ret_len);

/*
 * What names an object (namespace, name, uid, resourceVersion), and its finalizers, from its text,
 * without parsing the rest: as far as these are there and plainly spelled. NULL where the text has
 * no metadata. The caller owns the reference.
 */
json_t *object_find_names(const char *text, size_t len);

/* Whether it is the stream that was asked for: an answer about another one is no answer. */
bool object_is(const struct object *o, const char *ns, const char *name);

struct object *object_ref(struct object *o);
void object_unref(struct object *o);	     /* NULL is fine */
char *object_key_namespace(const char *key); /* of NAMESPACE/NAME; the caller frees */

static inline void cleanup_object(struct object **o)
{
	object_unref(*o);
}
#define _cleanup_object_ _cleanup_(cleanup_object)

/* A new parsed tree. The caller owns the reference. */
json_t *object_parse(const struct object *o);

/*
 * The same without the other tags, in spec as in status: what is asked of one tag, or sent to change
 * it, costs no more where there are ten thousand of them. (Elements that have no name stay: a list
 * that has such is none by name. That another's name stands twice isn't seen.)
 */
json_t *object_parse_tag(const struct object *o, const char *tag, size_t len);

/* The newest object's trees, so that reading file after file of one stream parses it once. */
struct object_cache;

struct object_cache *object_cache_new(void);
void object_cache_free(struct object_cache *c);

/*
 * The parsed tree, to be read only: other threads hold it too. The caller owns the reference.
 * Thread-safe; parsing happens outside the cache's lock.
 */
json_t *object_cache_get(struct object_cache *c, struct object *o);

#endif
