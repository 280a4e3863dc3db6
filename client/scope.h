/*
 * scope: one thing that is kept true by list and watch: the namespaces, or the streams of the
 * cluster, of a namespace, or a single one. The reflector's own: only its thread calls this.
 *
 *	LISTING -- 200 --> WATCHING -- it works --> (its end) --> WATCHING, from the last version
 *	   |                  \-- it doesn't --> WAITING --> LISTING; again and again: POLLING
 *	   |-- no answer, an outage --> WAITING --> LISTING
 *	   |-- 403, confirmed --> DOUBTED --> LISTING; sure --> REFUSED (asked again)
 *	   \-- an older state of the server --> ROLLBACK --> LISTING, and then it counts
 *
 * What was received stays in the store through all of them but REFUSED.
 */
#ifndef CLIENT_SCOPE_H
#define CLIENT_SCOPE_H

#include "client/scope_state.h"

/* `ns` and `name` as in struct scope, copied. */
struct scope *scope_new(
	struct scope_shared *shared, enum scope_kind kind, const char *ns, const char *name);
void scope_free(struct scope *s);

/*
 * It has nothing to do any more: what it asked for is not taken in. Not from within a watch's
 * event.
 */
void scope_end(struct scope *s);

/* Starts what is due. When to look again (monotonic ns). */
int64_t scope_step(struct scope *s, int64_t now);

/*
 * There are other credentials: a watch goes on with them, and what was refused for the old ones is
 * asked again.
 */
void scope_renew(struct scope *s);

/* Lists again as soon as it may: at once, but for a scope that waits after a failure. */
void scope_relist(struct scope *s);

#endif
