/*
 * yaml: YAML text → JSON, by libyaml, and JSON → YAML text, by yamltext.
 *
 * What is read means what it means to kubectl (sigs.k8s.io/yaml on yaml.v2): plain yes, no, on,
 * off, y and n are booleans, 0x1f, 0o17, 017, 0b11 and 1_000 integers, ~ and nothing at all null,
 * dates text, and keys that are integers or booleans become text. Anchors, aliases and merge keys
 * (<<, the map's own keys win) are read, as far as aliases repeat at most 1 MiB. Where kubectl
 * would choose for the user or lose something, the text is refused: a key that stands twice, .inf
 * and .nan, integers beyond 64 bits signed, a fraction as a key, any tag but !!str, !!map and
 * !!seq.
 *
 * What is written reads the same in YAML 1.1, YAML 1.2 and kubectl, and from JSON to YAML and back
 * is the identity (up to 512 levels), key order included: block style, text in quotes wherever
 * a reader could take it for something else, as a literal block where it has several lines and no
 * space that an editor would trim. The same JSON always gives the same bytes.
 */
#ifndef CLIENT_YAML_H
#define CLIENT_YAML_H

#include "client/buf.h"

/* Appends the value. 0, or -EFBIG past the buf's maximum. */
int yaml_show(const json_t *json, struct buf *out);

/*
 * The only document of the text; JSON null where there is none. -EINVAL, and *ret_error (the caller
 * frees) says in one line what is wrong, and where: "line 3, column 7: …". It quotes no value.
 */
int yaml_parse(const char *text, size_t len, json_t **ret, char **ret_error);

enum yaml_scalars {
	YAML_SCALARS_TYPED,
	/*
	 * Whatever isn't null is text, as it stands, but below a kubeconfig's `extension`. Of a key
	 * that stands twice the last one counts, as for kubectl: nobody writes this back.
	 */
	YAML_SCALARS_TEXT,
};

/* Reads a stream document by document. The text is borrowed for the reader's life. */
struct yaml_reader;

struct yaml_reader *yaml_reader_new(const char *text, size_t len, enum yaml_scalars scalars);
void yaml_reader_free(struct yaml_reader *r); /* NULL is fine */

/*
 * 1 and the next document, 0 at the end of the stream, or -EINVAL as above: then there is no more.
 */
int yaml_reader_next(struct yaml_reader *r, json_t **ret, char **ret_error);

static inline void cleanup_yaml_reader(struct yaml_reader **r)
{
	yaml_reader_free(*r);
}
#define _cleanup_yaml_reader_ _cleanup_(cleanup_yaml_reader)

#endif
