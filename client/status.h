/*
 * status: what an answer that isn't a success means: an errno and the server's sentence.
 *
 * Pure. The body is a Kubernetes Status in nearly all cases; text and HTML come from what stands
 * before the API server (api-facts.md 2.9).
 */
#ifndef CLIENT_STATUS_H
#define CLIENT_STATUS_H

#include "client/util.h"

struct status {
	int error;     /* a positive errno (DESIGN.md, errno table); 0 for 2xx */
	long code;     /* the HTTP code, or the Status's own in an ERROR event */
	char *reason;  /* "NotFound", or NULL */
	char *message; /* one sentence, never NULL */
	json_t *body;  /* the Status, or NULL when the body was none */
};

/*
 * What is wrong, of a server's message: without the object that it quotes. The caller frees.
 */
char *status_sentence(const char *message);

/* For an answer. Fills *ret; the caller calls status_release. */
void status_parse(long http_code, const char *body, size_t len, struct status *ret);
/* For the object of a watch's ERROR event, which may be anything. */
void status_from_json(long http_code, json_t *object, struct status *ret);
void status_release(struct status *s);

/*
 * Whether it is a 404 that says so of the object of that name, and not of the whole resource or of
 * a path.
 */
bool status_is_missing(const struct status *s, const char *name);

#define _cleanup_status_ _cleanup_(status_release)

#endif
