/*
 * reference: what a tag follows (its `from`) as one line of text, and references into registries.
 * Pure.
 *
 * The line is NAME for a DockerImage, else KIND NAME or KIND NAMESPACE/NAME. Control characters,
 * '%', spaces at the ends of a name, and a slash that would end a namespace, all of which a tag's
 * name may have, are written %XX.
 */
#ifndef CLIENT_REFERENCE_H
#define CLIENT_REFERENCE_H

#include "client/buf.h"
#include "client/scan.h"

/* Appends the line. -ENOENT where there is no `from` (NULL, null, {}); -EFBIG past the maximum. */
int reference_show(const struct scan_value *from, struct buf *out);

/*
 * The `from` that a text of one line means; `ns`, where the line names no other, isn't put into it.
 * A newline at the end may be missing, CRLF and a byte order mark are read, too. -EINVAL, and
 * *ret_error is a sentence; the caller frees. The caller owns the reference in *ret.
 */
int reference_parse(const char *text, size_t len, json_t **ret, char **ret_error);

/* Whether both name the same: kind, name and namespace, `ns` where one names none. */
bool reference_is_same(const json_t *a, const json_t *b, const char *ns);

/* REGISTRY/NAMESPACE/STREAM@DIGEST, as the images in a cluster's own registry are called. */
struct reference {
	char *registry, *ns, *stream, *digest;
};

/* False where it is no such reference. The caller calls reference_release. */
bool reference_split(const char *name, struct reference *ret);
void reference_release(struct reference *r);
#define _cleanup_reference_ _cleanup_(reference_release)

/* Whether the repository (HOST/NAMESPACE/STREAM) is in that registry. */
bool reference_is_in(const char *repository, const char *registry);

/* Whether the registry is reached inside of a cluster alone: HOST.svc:5000. */
bool reference_is_internal(const char *registry);

#endif
