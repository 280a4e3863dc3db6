/*
 * patch: what a save of a file changes, and the request that says so.
 *
 * Pure: JSON in, JSON out. A save is a diff from its base, applied on top of the current object
 * (DESIGN.md 3). In order:
 *
 *	base = patch_value(f, the version that was opened), theirs = patch_value(f, current)
 *	patch_check(f, base, mine)		edits that would be dropped
 *	patch_merge3(f, base, theirs, mine)	merged, or conflicts
 *	patch_equal(f, theirs, merged)		nothing to send
 *	patch_form(f, current, merged, &body), and patch_body where that gives none
 *
 * Values are never changed: results share subtrees with the arguments, so they are to be read only.
 * Every json_t returned is a new reference for the caller. NULL as a value means: not there.
 *
 * What is one thing, for comparing and for merging:
 * - null, absent, {} and [] are equal; so a map that one side deleted and the other added a key to
 *   merges by key;
 * - maps go by key; spec.tags by `name`, status.tags by `tag`, ownerReferences by `uid`, in any
 *   order; finalizers are a set; every other list is one value, and so is a keyed list that repeats
 *   a key or lacks one;
 * - a tag's `from` with `reference`, a status tag's `items` and its `conditions` are one value
 *   each;
 * - metadata.resourceVersion, metadata.generation, metadata.managedFields, spec.generation and
 *   spec.tags[].generation aren't compared and stay as they currently are. In labels, annotations
 *   and status history these names mean nothing special;
 * - `"generation": 0` in a tag asks for a new import (api-facts 2.4). It is an edit where the base
 *   doesn't show it, and the only generation that is ever taken from the user.
 */
#ifndef CLIENT_PATCH_H
#define CLIENT_PATCH_H

#include "client/buf.h"

enum patch_view {
	PATCH_IMAGESTREAM, /* imagestream.json, imagestream.yaml */
	PATCH_METADATA,	   /* metadata.json */
	PATCH_SPEC,	   /* spec.json */
	PATCH_STATUS,	   /* status.json */
	PATCH_TAG_SPEC,	   /* tags/TAG/spec.json */
	PATCH_TAG_STATUS,  /* tags/TAG/status.json */
};

struct patch_file {
	enum patch_view view;
	const char *tag; /* of PATCH_TAG_*: the tag's real name: any UTF-8, also with NUL */
	size_t tag_len;
};

enum patch_form {
	PATCH_PUT,	 /* the whole object; of a status, to …/status */
	PATCH_MERGE,	 /* application/merge-patch+json */
	PATCH_STRATEGIC, /* application/strategic-merge-patch+json */
};

/* What only the server counts, and a view doesn't show (DESIGN.md 2). */
struct patch_hidden {
	const char *const *members;	 /* of the value, up to NULL */
	const struct patch_hidden *tags; /* of the elements of its list `tags`; NULL: nothing */
};

/* NULL: all is shown. */
const struct patch_hidden *patch_hidden(enum patch_view view);

/*
 * What the file shows of an ImageStream: without what is hidden, {} of what is no object. NULL where
 * the object has no such tag. The other functions take values of this kind.
 */
json_t *patch_value(const struct patch_file *f, const json_t *object);
/* The same of an element of spec.tags or status.tags, by the view; NULL gives NULL. */
json_t *patch_tag_value(enum patch_view view, const json_t *element);

/* By the rules above. A tag's value may leave its own name out. */
bool patch_equal(const struct patch_file *f, const json_t *a, const json_t *b);

/*
 * Whose text it is that a person wrote over the file (DESIGN.md 3 "A text of something else", "Edits
 * that would be dropped").
 */
enum patch_text {
	PATCH_TEXT_OWN,	     /* of this object, or it doesn't say */
	PATCH_TEXT_MANIFEST, /* an ImageStream without a resourceVersion: made for any server */
	PATCH_TEXT_FOREIGN,  /* with another object's uid or repository, or another tag's name */
};

/* `foreign`: whether it may be that, or its writer saw the very object. */
enum patch_text patch_text(
	const struct patch_file *f, const json_t *base, const json_t *mine, bool foreign);

/*
 * The text as far as it counts: what doesn't is as the base has it. Of a manifest that is the
 * status and what only a server sets; of a foreign text all that ties it to the other object, when
 * the server looked at that one's images (openshift.io/image.dockerRepositoryCheck), and the whole of
 * its status.
 */
json_t *patch_adopt(
	const struct patch_file *f, enum patch_text text, const json_t *base, const json_t *mine);

/*
 * Theirs with what `mine` has besides, and instead: of a text that is copied into an object that was
 * made for it, which adds and replaces and never removes. The text counts as a foreign one.
 */
json_t *patch_copy(const struct patch_file *f, const json_t *theirs, const json_t *mine);

/*
 * Of the views of a status: where a tag's history in `mine` (is changed) has the same images as in
 * `theirs`, in their order, it becomes theirs: when the server noted them is nothing that a text from
 * somewhere else tells.
 */
void patch_settle_history(const struct patch_file *f, const json_t *theirs, json_t *mine);

/*
 * Of the views of a status: the first tag whose newest item `mine` lacks, while `theirs` has it: a
 * text that was written before the last push. NULL: none. The caller owns the reference.
 */
json_t *patch_lost_item(const struct patch_file *f, const json_t *theirs, const json_t *mine);

/*
 * Whether a save of `mine` (the user's text, any JSON) can mean all it says, before any request:
 * -EINVAL where it is no object, where two tags have one name or one has none, or where it changes
 * against the base what the request can't change (leaving such a field out is no edit, nor is one of
 * nothing but empty values):
 * - imagestream.json: kind, apiVersion, status, and in metadata name, namespace, creationTimestamp,
 *   deletionTimestamp, deletionGracePeriodSeconds, selfLink; another uid is -ESTALE: the text is
 *   that of an object that was deleted and made again;
 * - metadata.json: all but labels, annotations, finalizers, ownerReferences;
 * - status.json: all but tags (the server computes the repositories at every read);
 * - of a tag: its name.
 * *ret_error is a sentence that names the field; the caller frees.
 */
int patch_check(
	const struct patch_file *f, const json_t *base, const json_t *mine, char **ret_error);

/*
 * Theirs with mine's edits from base. `mine` has passed patch_check. For a tag, base or theirs may
 * be NULL (it isn't there, or no more), and so is *ret_merged where they deleted what mine left as
 * it was: nothing to send.
 *
 * -ESTALE where both changed one thing in different ways, one edited inside a list's element that
 * the other deleted, or both added the same element with different contents. Then *ret_conflicts is
 * an array of {"path", "base", "theirs", "mine"}, without the values that aren't there; a path
 * reads spec.tags[latest].from.
 */
int patch_merge3(const struct patch_file *f, const json_t *base, const json_t *theirs,
	const json_t *mine, json_t **ret_merged, json_t **ret_conflicts);

/*
 * Appends the conflicts for a person, one block a path; each value on one line, cut at 1 KiB.
 * 0, or -EFBIG past the buf's maximum.
 */
int patch_conflict_text(const json_t *conflicts, struct buf *out);

/*
 * The form to send first. Of spec.json, status.json and a tag's files it is PATCH_STRATEGIC, but
 * where a key in what changed starts with `$`, which strategic merge would take for its own:
 * PATCH_MERGE. *ret_body is what patch_body gives for PATCH_STRATEGIC, which had to be tried anyway;
 * NULL for the others.
 */
enum patch_form patch_form(
	const struct patch_file *f, const json_t *current, const json_t *merged, json_t **ret_body);

/*
 * The body that turns `current` (a whole object, as just received) into one that shows `merged`,
 * with current's resourceVersion and uid as preconditions. Any view in these forms:
 *
 *			PUT	MERGE	STRATEGIC
 *	IMAGESTREAM	x
 *	METADATA		x
 *	SPEC, TAG_SPEC		x	x
 *	STATUS, TAG_STATUS x	x	x		to …/status
 *
 * Patches hold only what changed; a merge patch the whole list of tags where that changed, since
 * it can't say less, with the current generations so that nothing is imported by accident. PUT has
 * all of `current`, fields unknown here too, but managedFields (leaving them out keeps them,
 * api-facts 8.12). For the PUT of a status `current` is the answer of GET …/status.
 *
 * A tag's `merged` NULL removes the tag from that list; PATCH_TAG_SPEC with {} adds one without
 * `from`.
 */
json_t *patch_body(const struct patch_file *f, enum patch_form form, const json_t *current,
	const json_t *merged);

/*
 * Whether two versions of an object differ only in what moves without a person's doing: status,
 * generation, and the import controller's annotation openshift.io/image.dockerRepositoryCheck.
 */
bool patch_is_background(const json_t *older, const json_t *newer);

#endif
