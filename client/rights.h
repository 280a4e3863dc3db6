/*
 * rights: what the server lets us do, namespace by namespace, asked of it in the background.
 *
 * One thread asks: for the whole cluster (SelfSubjectAccessReview with an empty namespace) where
 * one watch covers it, and for each namespace that was used (SelfSubjectRulesReview, on old servers
 * OpenShift's own review), again after a while and after a 403. Looking a right up never waits.
 * What isn't known, or what the server can't tell, counts as granted: it decides in the end.
 *
 * Thread-safe; its lock is a leaf.
 */
#ifndef CLIENT_RIGHTS_H
#define CLIENT_RIGHTS_H

#include "client/api.h"

enum right {
	RIGHT_GET = 1 << 0,
	RIGHT_LIST = 1 << 1,
	RIGHT_CREATE = 1 << 2,
	RIGHT_UPDATE = 1 << 3,
	RIGHT_PATCH = 1 << 4,
	RIGHT_DELETE = 1 << 5,
	RIGHT_PATCH_STATUS = 1 << 6, /* of imagestreams/status */
	RIGHT_DELETE_TAG = 1 << 7,   /* of imagestreamtags */
	RIGHT_WATCH = 1 << 8,
	RIGHTS_ALL = (1 << 9) - 1
};

/* What holds in one namespace. Immutable and counted; NULL stands for "not known". */
struct grants;

struct grants *grants_ref(struct grants *g);
void grants_unref(struct grants *g); /* NULL is fine */

static inline void cleanup_grants(struct grants **g)
{
	grants_unref(*g);
}
#define _cleanup_grants_ _cleanup_(cleanup_grants)

/*
 * From the rules of a review: an array of {verbs, apiGroups, resources, resourceNames}. `group` is
 * the API group of our ImageStreams, `more` are rights that hold anyway. The caller owns the
 * reference.
 */
struct grants *grants_from_rules(const json_t *rules, const char *group, unsigned more);

/* A set of enum right for the stream; NULL: what any of the namespace's streams has. */
unsigned grants_of(const struct grants *g, const char *stream);

/* Those that hold for the namespace as a whole, whatever its streams are called; NULL: all. */
unsigned grants_everywhere(const struct grants *g);

/* Whether rules name streams with RIGHT_GET; and fn for each of them. */
bool grants_name(const struct grants *g);
void grants_named(const struct grants *g, void (*fn)(void *arg, const char *stream), void *arg);

struct rights;

/* Both are called outside the lock, from the thread. */
struct rights_listener {
	/* The namespace's rights changed. */
	void (*changed)(
		void *arg, const char *ns, const struct grants *old, const struct grants *now);
	/*
	 * What the server said, also if it is as before: of a namespace, or (NULL) of all of them.
	 */
	void (*answered)(void *arg, const char *ns, const struct grants *grants);
	void *arg;
};

/*
 * `api` is borrowed. The rights are asked again every `interval_s` seconds, but those to list and
 * to watch what a watch covers at least every `watched_s`.
 */
struct rights *rights_new(
	struct api *api, int interval_s, int watched_s, const struct rights_listener *listener);
void rights_free(struct rights *r); /* stopped or never started; NULL is fine */

/*
 * `cluster`: one watch covers every namespace. Waits a moment for the answer for all of it. 0 or
 * -EAGAIN.
 */
int rights_start(struct rights *r, bool cluster);
void rights_stop(struct rights *r);

/* Whether one watch covers every namespace has changed. */
void rights_cover(struct rights *r, bool cluster);

/* With a reference for the caller, or NULL. Never waits. */
struct grants *rights_get(struct rights *r, const char *ns);
/* The namespace is used from now on: its rights are asked for. Doesn't wait. */
void rights_use(struct rights *r, const char *ns);
/*
 * rights_use, and waits for an answer to a question of `since` or later (monotonic ns; 1: any), at
 * most until `deadline`; `check` as for http_call.
 */
struct grants *rights_wait(struct rights *r, const char *ns, int64_t since,
	const struct http_check *check, int64_t deadline);
/* The namespace isn't there. */
void rights_forget(struct rights *r, const char *ns);
/* Something says that rights have changed: those of a namespace in use are asked again soon. */
void rights_doubt(struct rights *r, const char *ns);

#endif
