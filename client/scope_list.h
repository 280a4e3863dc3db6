/*
 * scope_list: a scope's lists: pages, what they replace, and what a refusal of one is worth. The
 * reflector's own, as client/scope.h.
 */
#ifndef CLIENT_SCOPE_LIST_H
#define CLIENT_SCOPE_LIST_H

#include "client/scope_state.h"

/* Asks for the first page, or a little later where no descriptor is free. */
void scope_list(struct scope *s);

#endif
