/*
 * review: SelfSubjectAccessReview, the question whether we may do one thing, as a body to send and
 * an answer to understand; and what a refusal (403) is worth. Pure.
 *
 * A server that is starting answers 403 to everybody, with the very text of a true refusal
 * (DESIGN.md §4 "What goes, and when"). A review that is asked after the refusal and answered 201
 * with allowed=false was never seen to be wrong.
 */
#ifndef CLIENT_REVIEW_H
#define CLIENT_REVIEW_H

#include "client/http.h"
#include "client/resource.h"
#include "client/status.h"

struct review {
	const char *verb;
	const struct api_resource *resource;
	const char *subresource; /* NULL: none */
	const char *ns;		 /* "": all of them */
	const char *name;	 /* NULL: any */
};

/* The body of the POST to resource_access_reviews. New reference. */
json_t *review_body(const struct review *r);
/*
 * That POST. The caller frees *ret_body when it is answered, *ret_path when it is on its way; what
 * *ret_body held before is freed.
 */
struct http_request review_request(
	const struct review *r, int64_t timeout_ms, char **ret_body, char **ret_path);

enum review_answer {
	REVIEW_FAILED, /* no answer that says anything */
	REVIEW_ALLOWED,
	REVIEW_DENIED,
	REVIEW_ABSENT, /* this server has no such reviews (before Kubernetes 1.6) */
};

/* What an answer of that HTTP code says. */
enum review_answer review_parse(long http_code, const char *body, size_t len);

/*
 * Whether a 403 says by itself that it isn't about our rights: it is no Status, or it names another
 * user than `user` (NULL: not known), as system:anonymous, or its X-Kubernetes-Pf-Flowschema-Uid
 * header was `unready` (there, but empty).
 */
bool refusal_is_passing(const struct status *s, const char *user, bool unready);

/* Refusals one after the other that nothing contradicted; all zero: none. */
struct refusals {
	unsigned count;
	int64_t first; /* monotonic ns */
};

/*
 * One more, which a review has confirmed. True once they are sure: three, over two intervals (ns).
 */
bool refusals_add(struct refusals *r, int64_t now, int64_t interval);

/* When to ask again, monotonic ns: so that the third one is sure. */
int64_t refusals_next(const struct refusals *r, int64_t now, int64_t interval);

#endif
