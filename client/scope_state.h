/*
 * scope_state: what is known of a scope (client/scope.h), and what its lists and its watches share:
 * the state that others see, how long it waits, its transfer. Only the reflector's thread calls
 * this.
 */
#ifndef CLIENT_SCOPE_STATE_H
#define CLIENT_SCOPE_STATE_H

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
	/*
	 * What it covered may surely not be read any more, and is out of the store where it stood
	 * alone.
	 */
	void (*refused)(void *arg, struct scope *s);
	/* A namespace was named by the server, or is said to be gone. */
	void (*seen)(void *arg, const char *ns);
	void (*missing)(void *arg, const char *ns);
};

/* What the scopes of a reflector share. */
struct scope_shared {
	struct api *api;
	struct store *store;
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
	char *ns;   /* that it is of; NULL: of all */
	char *name; /* of SCOPE_NAMESPACE, SCOPE_STREAM: the only one */
	char *path; /* of the collection, or of the one */
	bool first; /* its answer is waited for before there is a mount */
	bool keep;  /* SCOPE_STREAM: also while there is no such stream */
	bool ended; /* it has nothing to do any more; the reflector frees it */

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
	int64_t list_asked; /* monotonic ns: the list under way, or the last one */
	bool unpaged;	    /* a page expired: the next list comes in one piece */
	bool relist;	    /* instead of going on with the watch */
	char *high;	    /* the highest version seen; NULL: none */
	unsigned lower;	    /* lists in a row that came with a lower one */
	bool unnamed;	    /* an item of it is one that nobody can name: nothing goes by it */
	bool replaces;	    /* the list under way confirms an older state of the server */
	unsigned asked;	    /* the last reflector_refresh that it has heard of */
	int64_t listed, due;
	int64_t backoff;
	bool watched; /* a watch stood once */
	int64_t lost; /* monotonic ns, since when none does; 0: one does, or none ever did */

	/* Watches. */
	bool bookmarks; /* this server sends them */
	bool polls;	/* watches don't work */
	/* the one under way, or the last one, brought an object or stood for 10 s; others look at it */
	atomic_bool good;
	/* watches that didn't work since the last good one, each after a list */
	unsigned fruitless;
	unsigned quiet; /* watches from `version` that ended without a word */
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

#define SCOPE_BACKOFF_FIRST (800 * NSEC_PER_MSEC)
#define SCOPE_RETRY_AFTER   30 /* seconds that a server can ask for, at most */

bool scope_is_of_namespaces(const struct scope *s);
/* One namespace or stream, by name. */
bool scope_is_single(const struct scope *s);
/* Whether a watch goes on where nothing tells what was missed: what is there is looked at first. */
bool scope_lists_first(const struct scope *s);
const struct api_resource *scope_resource(const struct scope *s);

/* Where to put what comes; `list` as in struct intake. */
struct intake scope_intake(struct scope *s, uint64_t list);
/* The highest version seen. */
void scope_note_version(struct scope *s, const char *version);
/* The mount's --selector, where the scope's objects are selected by it. */
void scope_add_selector(const struct scope *s, struct buf *path, char separator);

/* ---- what others see of it ---- */

/* `message` NULL: as it was. */
void scope_set_state(struct scope *s, enum scope_state state, int error, const char *message);
void scope_set_synced(struct scope *s, bool synced);
/* What is in the store is whole and current. */
void scope_note_contact(struct scope *s);
/* Into the journal. */
void scope_note_failure(
	struct scope *s, const char *verb, long code, int error, const char *message);

/* ---- waiting ---- */

int64_t scope_jitter(struct scope *s, int64_t wait);
/* Waits 0.8 s, doubling to 15 s, each plus up to as much again at random; or as the server says. */
void scope_back_off(struct scope *s, long retry_after);
/* Notes the failure and waits. */
void scope_fail(struct scope *s, const char *verb, long code, int error, const char *message,
	long retry_after);
void scope_poll_later(struct scope *s);

/* ---- transfers ---- */

bool scope_has_room(const struct scope *s, size_t left_to_others);
void scope_start(struct scope *s, int doing, const struct http_request *request, http_data_fn *data,
	http_done_fn *done);
/* The first line of each done function: http frees the transfer. */
void scope_transfer_done(struct scope *s);
void scope_stop_transfer(struct scope *s);
/* An http_data_fn: into s->body. */
int scope_on_body(void *arg, long code, const char *data, size_t len);
/* Of a watch's answer and of errors not more is kept than is needed. */
void scope_clear_body(struct scope *s);
void scope_reset_frame(struct scope *s);
/* The next thing is a list from its first page. */
void scope_restart(struct scope *s);

#endif
