/*
 * absent: namespaces that a list or the project watch lacks, until it is sure that they are gone. A
 * starting server lists no projects for a second, and a project watch says DELETED of a lost right,
 * too: so a namespace is gone only once it is missing a third of the confirm interval (10 s) later
 * as well and GET of it says 404, or a sure 403. The reflector's own: only its thread calls this.
 */
#ifndef CLIENT_ABSENT_H
#define CLIENT_ABSENT_H

#include "client/api.h"

struct absents;

struct absents_listener {
	/* It is sure. */
	void (*gone)(void *arg, const char *ns);
	/* GET of it was refused: perhaps its streams are, too. */
	void (*refused)(void *arg, const char *ns);
	void *arg;
};

/* Everything is borrowed. */
struct absents *absents_new(struct api *api, struct http *http, int64_t confirm_interval,
	const struct absents_listener *listener);
void absents_free(struct absents *a); /* aborts what runs; NULL is fine */

/* It is missing. `unlisted`: there is no list that would tell whether it still is 10 s later. */
void absents_add(struct absents *a, const char *ns, bool unlisted);
void absents_remove(struct absents *a, const char *ns); /* it is there */

/*
 * A whole list that was asked for then (monotonic ns) lacks these: an array of names, all of them.
 */
void absents_listed(struct absents *a, const json_t *names, int64_t asked);

/*
 * Starts what is due. When to look again (monotonic ns); *ret_list: a list is wanted, which tells
 * what is still missing.
 */
int64_t absents_step(struct absents *a, int64_t now, bool *ret_list);

#endif
