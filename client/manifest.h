/*
 * manifest: ImageStreams as people have them: in files, from other clusters, of any age. What of
 * such a text only a server sets, and how several stand in one text. Pure.
 */
#ifndef CLIENT_MANIFEST_H
#define CLIENT_MANIFEST_H

#include "client/util.h"

/*
 * What only a server sets, in metadata: up to NULL. Never the user's, wherever a text comes from
 * (real-server-2.md, C1).
 */
extern const char *const manifest_server_fields[];
/* What of a text that a server wrote would tie a copy to the original: up to NULL. */
extern const char *const manifest_ties[];

/* What the import controller notes at each import. */
#define MANIFEST_IMPORT_ANNOTATION "openshift.io/image.dockerRepositoryCheck"

/*
 * Takes out of the ImageStream what a copy of it can't have: the above, the ties where it has a uid
 * (by ownerReferences the garbage collector would take the copy, a finalizer nobody would clear),
 * and the status. Old spellings of the apiVersion become `api_version`.
 */
void manifest_strip(json_t *object, const char *api_version);

/*
 * Leaves of a server's ImageStream what a person would write: the same, and nothing that is null or
 * moves by itself (generations, the import controller's annotation).
 */
void manifest_clean(json_t *object);

/* Whether an ImageStream may have it: `api_version`, or what its version was called once. */
bool manifest_is_version(const json_t *value, const char *api_version);

/*
 * Reads every document of the text, as kubectl does: JSON objects back to back or YAML, a byte order
 * mark and any white space before, "---" between; a list is what is in it. Appends them to the array
 * `ret`. `json_flags`: JSON_REJECT_DUPLICATES or 0. 0, or -EINVAL and *ret_error, a sentence; the
 * caller frees.
 */
int manifest_read(const char *text, size_t len, size_t json_flags, json_t *ret, char **ret_error);

#endif
