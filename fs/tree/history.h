/*
 * history: the versions of the streams whose imagestream.json or imagestream.yaml a process opened:
 * 16 a stream, for 10 minutes. The resourceVersion in a saved text names one of them as its base,
 * and what came since decides whether the text may still be saved (DESIGN.md 3 "Conflicts").
 *
 * Thread-safe; its lock is a leaf, and versions are compared outside it.
 */
#ifndef FS_TREE_HISTORY_H
#define FS_TREE_HISTORY_H

#include "client/object.h"

struct history;

struct history *history_new(void);
void history_free(struct history *h);

/* The version is shown to a process: from now on the stream's versions are remembered. */
void history_serve(struct history *h, struct object *version);

/* A new version was received; kept where the stream's versions are. */
void history_note(struct history *h, struct object *version);

/* A save of ours made `version` out of the version `from`. */
void history_own(struct history *h, struct object *version, const char *from);

/* The version of that number with a reference for the caller, or NULL. */
struct object *history_get(struct history *h, const char *key, const char *resource_version);

/*
 * Whether all that came after the version `from`, up to `to`, is this mount's own saves or what
 * moves without a person's doing (patch_is_background).
 */
bool history_is_ours(struct history *h, const char *key, const char *from, struct object *to);

#endif
