/*
 * http: requests to the API server. The only file that sends with curl, and includes OpenSSL for
 * it.
 *
 * A struct http is one thread's connections: everything but http_wakeup is called by the thread
 * that owns it. Connections are kept alive and reused (HTTP/1.1: on HTTP/2 one dead connection
 * would hold every watch and every request up together), gzip is accepted, TLS is verified as the
 * configuration says, redirects are not followed. Each transfer goes with the credentials that
 * there are when it starts, and a 401 is told to the login; a connection is only reused with the
 * client certificate that it was made with. A TLS alert about that certificate is an answer, too:
 * 401.
 */
#ifndef CLIENT_HTTP_H
#define CLIENT_HTTP_H

#include "client/buf.h"
#include "client/counts.h"
#include "client/login.h"

struct http;
struct http_transfer;

struct http_request {
	const char *method;	  /* NULL: GET */
	const char *path;	  /* path and query, below the server's URL */
	const char *accept;	  /* NULL: application/json */
	const char *content_type; /* with a body */
	const char *body;
	size_t body_len;
	/*
	 * On a connection of its own: curl sends a request again by itself when a connection that
	 * it reused ends without an answer, and what isn't the same twice must not be sent twice.
	 */
	bool once;
	/*
	 * The answer is (http_call: client/buf.h): on a connection of its own, not packed, and
	 * wiped from curl's buffer. What the TLS library keeps of it is out of reach.
	 */
	bool secret;
	size_t answer_max;  /* http_call: bytes of the answer, unpacked; 0: HTTP_ANSWER_MAX */
	int64_t timeout_ms; /* from start to end; 0: none */
	int64_t silence_ms; /* without a single byte; 0: none */
};

struct http_result {
	int error;	     /* 0, or -errno: there was no (whole) answer */
	char *message;	     /* with an error: one sentence; owned by the transfer */
	long code;	     /* HTTP status, 0 where none came */
	long retry_after;    /* seconds up to RETRY_AFTER_MAX, 0 where the server said nothing */
	bool unready;	     /* refused by a server that is still starting (client/review.h) */
	unsigned generation; /* of the credentials that it went with */
};

#define RETRY_AFTER_MAX 86400 /* whatever the server says; the callers have limits of their own */

/*
 * Called by http_run: once with len 0 when the headers are in, then with each piece of the body. A
 * negative errno ends the transfer with that error.
 */
typedef int http_data_fn(void *arg, long code, const char *data, size_t len);
/* Called by http_run, once, as the transfer's last act. */
typedef void http_done_fn(void *arg, const struct http_result *result);

/* Once a process, before threads; the last call frees what curl holds. */
int http_global_init(void);
void http_global_cleanup(void);

/* Both are borrowed. */
struct http *http_new(struct login *login, struct counts *counts);
void http_free(struct http *h); /* aborts what runs; NULL is fine */

/* Starts a transfer; what `request` points at but for `body` may go afterwards. */
struct http_transfer *http_start(struct http *h, const struct http_request *request,
	http_data_fn *data, http_done_fn *done, void *arg);
/* Ends it without calling done. Not from within a callback. */
void http_abort(struct http_transfer *t);

/* Moves every transfer on; waits for at most wait_ms for something to do. */
void http_run(struct http *h, int64_t wait_ms);
/* Makes a waiting http_run return at once. From any thread. */
void http_wakeup(struct http *h);

/*
 * A whole request. `check` (may be NULL) is asked at each wake-up and at least every 100 ms; a
 * negative errno from it cancels the request with that errno.
 */
struct http_check {
	int (*fn)(void *arg);
	void *arg;
};

struct http_response {
	long code;
	long retry_after;
	bool unready;
	unsigned generation;
	struct buf body;
};

#define HTTP_BODY_MAX	((size_t)256 << 20) /* a page of a list */
#define HTTP_ANSWER_MAX ((size_t)64 << 20)  /* any other answer */
#define HTTP_HEADER_MAX                                                                            \
	((size_t)1 << 20) /* all headers of one answer; curl's own limit is 100 KiB a line */

/*
 * 0 when an answer came, whatever its code. Else -ECONNREFUSED, -EHOSTUNREACH, -EPROTO (TLS),
 * -ETIMEDOUT, -ECONNRESET (lost on the way), -EIO (answer over its maximum; it may have been done),
 * what is short on this machine (-EMFILE, -ENOMEM, -EAGAIN: a thread) or what check said, and then
 * *ret_error is one sentence (the caller frees it).
 */
int http_call(struct http *h, const struct http_request *request, const struct http_check *check,
	struct http_response *ret, char **ret_error);
void http_response_release(struct http_response *r);

#define _cleanup_response_ _cleanup_(http_response_release)

#endif
