/*
 * scope_watch: a scope's watches: events, and what to do when one ends. The reflector's own, as
 * client/scope.h.
 */
#ifndef CLIENT_SCOPE_WATCH_H
#define CLIENT_SCOPE_WATCH_H

#include "client/scope_state.h"

#define SCOPE_GOOD_WATCH (10 * NSEC_PER_SEC) /* one that stood so long works */

/* From s->version on; where no descriptor is left, it is polled. */
void scope_watch(struct scope *s);

/* It works: what goes wrong from now on is another failure than before. */
void scope_watch_is_good(struct scope *s);

#endif
