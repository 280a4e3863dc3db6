/*
 * reflector: keeps the store true by list and watch (the model is client-go's tools/cache).
 *
 * One thread runs every scope: the namespaces, and the streams of the whole cluster, of single
 * namespaces or single ones. A scope lists in pages, watches from the list's resourceVersion,
 * resumes there when the watch ends, and lists again after a 410. What can be read by name only is
 * got, and watched by name.
 */
#ifndef CLIENT_REFLECTOR_H
#define CLIENT_REFLECTOR_H

#include "client/rights.h"
#include "client/store.h"

struct reflector;

struct reflector_options {
	int watch_timeout;	  /* seconds to ask for; 0: random, 300 to 600 */
	int poll_interval;	  /* seconds between two lists of what can't be watched */
	int confirm_interval;	  /* seconds between two looks at what seems to be lost */
	const json_t *namespaces; /* an array of names: these only; NULL: all */
	const char *selector;	  /* only streams with such labels; NULL: all */
	/*
	 * One list and watch covers every namespace (`ns` NULL) or a namespace from now on, or not
	 * any more. By the reflector's thread, without a lock; may be NULL.
	 */
	void (*covers)(void *arg, const char *ns, bool covers);
	void *arg;
};

/* Everything is borrowed until reflector_free. */
struct reflector *reflector_new(
	struct api *api, struct store *store, const struct reflector_options *options);
/* Starts the thread with the namespaces and the whole cluster as scopes, or with those given. */
void reflector_start(struct reflector *r);
/* Ends the thread within moments, whatever it waits for, also one that is started only later. */
void reflector_stop(struct reflector *r);
/* There are other credentials: every watch goes on with them, and what was refused for the old ones
 * is asked again at once. From any thread. */
void reflector_renew(struct reflector *r);
void reflector_free(struct reflector *r); /* stopped or never started; NULL is fine */

/*
 * Waits until the first answers are in: the namespaces are listed or refused, and the cluster's
 * streams are, too. What passes (429, 503, a server that is starting, an answer that is none) is
 * waited for until `deadline` (monotonic ns). 0; or why the server doesn't answer, with one
 * sentence in *ret_error.
 */
int reflector_wait_start(struct reflector *r, int64_t deadline, char **ret_error);

/* Whether one watch covers every namespace. */
bool reflector_covers_cluster(struct reflector *r);

/*
 * Whether the streams of a namespace are in the store. Starts its list and watch at the first call
 * where no watch of the cluster covers it. 0: they are; -EAGAIN: not yet; else why not (-EACCES …).
 */
int reflector_need(struct reflector *r, const char *ns);

/* reflector_need, waiting for the list; `check` as for http_call. -ETIMEDOUT after timeout_ms. */
int reflector_wait(
	struct reflector *r, const char *ns, const struct http_check *check, int64_t timeout_ms);

/*
 * In a namespace whose list is refused: keeps a stream that can be read by name true, also (`keep`)
 * while there is none. The caller has put it into the store as far as it is there.
 */
void reflector_add_stream(struct reflector *r, const char *ns, const char *name, bool keep);

/* Whether a list will say which namespaces there are. */
bool reflector_lists_namespaces(struct reflector *r);

/* Something says that what we may read in the namespace has changed: it is tried at once. */
void reflector_doubt(struct reflector *r, const char *ns);

/*
 * The server says that we have these rights in the namespace (NULL: in all of them, by itself). An
 * open watch goes on delivering after a right is gone, so where a right to list, watch or get is
 * missing, that is tried.
 */
void reflector_rights(struct reflector *r, const char *ns, const struct grants *grants);

/*
 * Lists every scope again now, and waits for that; `check` as for http_call. 0; -ETIMEDOUT after
 * timeout_ms; or why a list failed (one that is refused is no failure).
 */
int reflector_refresh(struct reflector *r, const struct http_check *check, int64_t timeout_ms);

/* An array of the scopes: what is watched, state, age, last error. New reference. */
json_t *reflector_status(struct reflector *r);

#endif
