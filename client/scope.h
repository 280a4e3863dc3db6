/*
 * scope: one thing that is kept true by list and watch: the namespaces, or the streams of the cluster,
 * of a namespace, or a single one. The reflector's own: only its thread calls this.
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

#include "client/frame.h"
#include "client/intake.h"
#include "client/review.h"

#include <pthread.h>

enum scope_kind {
	SCOPE_NAMESPACES, /* all of them */
	SCOPE_NAMESPACE,  /* one, by name (--namespace) */
	SCOPE_CLUSTER,	  /* the streams of all namespaces */
	SCOPE_STREAMS,	  /* of one namespace */
	SCOPE_STREAM,	  /* one, by name */
};

enum scope_state {
	SCOPE_LISTING,
	SCOPE_WATCHING,
	SCOPE_WAITING,
	SCOPE_POLLING,
	SCOPE_REFUSED,
	SCOPE_DOUBTED,
	SCOPE_ROLLBACK
};

extern const char *const scope_state_names[];

struct scope;

/* What the reflector does when something happens to a scope. */
struct scope_events {
	/* A whole list is in the store. */
	void (*listed)(void *arg, struct scope *s);
	/* What it covered may surely not be read any more, and is out of the store where it stood alone. */
	void (*refused)(void *arg, struct scope *s);
	/* A namespace was named by the server, or is said to be gone. */
	void (*seen)(void *arg, const char *namespace);
	void (*missing)(void *arg, const char *namespace);
};

/* What the scopes of a reflector share. */
struct scope_shared {
	struct api *api;
	struct store *store;
	struct object_cache *cache;
	struct http *http;
	int watch_timeout, poll_interval; /* seconds; as reflector_options */
	int64_t confirm_interval;	  /* ns */
	const char *selector;		  /* NULL: none */
	size_t transfers;		  /* under way */
	unsigned seed;
	bool listed; /* a whole list was taken in: what its pages needed is free now */
	const struct scope_events *events;
	int (*check)(void *arg); /* negative once the reflector is to end */
	void *arg;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* a scope's synced, error or state */
	atomic_uint asked;	/* how often reflector_refresh was called */
};

struct scope {
	struct scope_shared *shared;
	struct scope *next;
	enum scope_kind kind;
	char *namespace; /* that it is of; NULL: of all */
	char *name;	 /* of SCOPE_NAMESPACE, SCOPE_STREAM: the only one */
	char *path;	 /* of the collection, or of the one */
	bool first;	 /* its answer is waited for before there is a mount */
	bool keep;	 /* SCOPE_STREAM: also while there is no such stream */
	bool ended;	 /* it has nothing to do any more; the reflector frees it */

	/* The transfer under way. */
	enum { SCOPE_IDLE, SCOPE_LIST, SCOPE_WATCH, SCOPE_REVIEW } doing;
	struct http_transfer *transfer;
	struct buf body;    /* of a list, a review, or an error */
	struct frame frame; /* of a watch */
	char *question;	    /* the review's body */

	/* Lists. */
	char *version;	    /* where the next watch starts; NULL: list first */
	char *list_version; /* of the list under way */
	char *next_page;
	uint64_t list;	    /* the store's number of the list under way */
	int64_t list_asked; /* monotonic ns: when the list under way, or the last one, was asked for */
	bool unpaged;	    /* a page expired: the next list comes in one piece */
	bool relist;	    /* instead of going on with the watch */
	char *high;	    /* the highest version seen; NULL: none */
	unsigned lower;	    /* lists in a row that came with a lower one */
	bool replaces;	    /* the list under way confirms an older state of the server */
	unsigned asked;	    /* the last reflector_refresh that it has heard of */
	int64_t listed, due;
	int64_t backoff;

	/* Watches. */
	bool bookmarks; /* this server sends them */
	bool polls;	/* watches don't work */
	bool good; /* the one under way, or the last one, brought an object or stood for 10 s */
	unsigned
		fruitless; /* watches that didn't work since the last good one, each after a list */
	unsigned quiet;	   /* watches from `version` that ended without a word */
	int64_t watch_started;
	int watch_seconds; /* that it was asked to last */
	size_t words;	   /* events that it brought */
	struct status error_event;

	struct refusals refusals;
	struct status refusal; /* the one that is being reviewed */
	bool forbidden;	       /* SCOPE_NAMESPACE: the last answer was 403 */

	atomic_bool doubted; /* from another thread: it is listed again at once */

	/* shared->lock */
	enum scope_state state;
	bool synced;
	int error; /* of the last try, positive errno; 0: it went well */
	char *error_message;
	unsigned refreshed; /* the reflector_refresh that the last list answers */
	int64_t contact;    /* monotonic ns: when the tree was last known to be whole and current */
};

/* `namespace` and `name` as in struct scope, copied. */
struct scope *scope_new(
	struct scope_shared *shared, enum scope_kind kind, const char *namespace, const char *name);
void scope_free(struct scope *s);

/* Starts what is due. When to look again (monotonic ns). */
int64_t scope_step(struct scope *s, int64_t now);

/* There are other credentials: a watch goes on with them, and what was refused for the old ones is asked again. */
void scope_renew(struct scope *s);

/* Lists again as soon as it may: at once, but for a scope that waits after a failure. */
void scope_relist(struct scope *s);

bool scope_is_of_namespaces(const struct scope *s);

#endif
