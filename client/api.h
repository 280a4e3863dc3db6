/*
 * api: where the server keeps what we need, and single requests to it as blocking calls.
 */
#ifndef CLIENT_API_H
#define CLIENT_API_H

#include "client/http.h"
#include "client/journal.h"
#include "client/object.h"
#include "client/resource.h"
#include "client/review.h"

struct api {
	struct login *login;
	const struct config *config; /* the login's */
	struct journal *journal;
	struct counts *counts; /* of every request */
	int64_t timeout_ms;    /* --request-timeout */
	bool dry_run;	       /* what changes ImageStreams says dryRun=All */
	const struct api_resources *resources;
	const struct api_resource *namespaces; /* projects, or namespaces where there are none */
	char *user;			       /* who we are, or NULL where the server can't say */
	unsigned user_generation;	       /* of the credentials that it was asked with */
	json_t *version;		       /* GET /version, or NULL */
};

/*
 * Asks the server for its API root, who we are and its version. login and journal are borrowed
 * for the life of *ret. 429, 503 and a server that is starting are waited for until `deadline`
 * (monotonic ns). 0; or -errno, and then *ret_error is one sentence for the user.
 */
int api_connect(struct login *login, struct journal *journal, int64_t timeout_ms, int64_t deadline,
	struct api **ret, char **ret_error);
void api_free(struct api *a); /* NULL is fine */

/* Who we are with the credentials of that generation (client/login.h); NULL: not known. */
const char *api_user(const struct api *a, unsigned generation);

/*
 * Whether a namespace that no list names exists for us: 0 when its ImageStreams may be listed,
 * -EACCES when they may not, -ENOENT when it isn't there, else why there was no answer.
 */
int api_find_namespace(
	struct api *a, struct http *h, const char *name, const struct http_check *check);

/* The namespace itself: 0, -ENOENT, -EACCES, else why there was no answer. */
int api_find_project(
	struct api *a, struct http *h, const char *name, const struct http_check *check);

/* One stream by name. With a reference for the caller. -ENOENT, -EACCES, else why not. */
int api_get_stream(struct api *a, struct http *h, const char *ns, const char *name,
	const struct http_check *check, struct object **ret);

/*
 * Whether the request changes ImageStreams or their tags: then a dry run says so (imagestreamimports
 * know no dry run, reviews change nothing).
 */
bool api_is_change(const struct api *a, const char *method, const char *path);

/* Where a request goes, and until when it may take. */
struct api_call {
	struct http *http;
	const struct http_check *check; /* NULL: nobody cancels it */
	int64_t deadline;		/* monotonic ns */
};

struct api_request {
	const char *method; /* NULL: GET */
	const char *path;   /* with its query */
	const char *content_type;
	const char *accept; /* NULL: JSON */
	const json_t *body; /* NULL: none, or `text` */
	const char *text;   /* sent as it is; NULL: none */
	size_t text_len;
	size_t answer_max; /* client/http.h; 0: 64 MiB */
	bool secret;	   /* the answer is (client/buf.h) */
	bool asks;	   /* it changes nothing, whatever its method says */
};

/*
 * One request, sent again after 429, 503, ServerTimeout and a 403 that isn't about our rights
 * (client/review.h) while there is time, and once after a 401 when the login has found other
 * credentials by then. 0 for 2xx, and *ret_json is the answer (NULL where it isn't JSON; the caller
 * owns the reference). Else -errno, and *ret_status tells all of it, with code 0 and the errno of
 * http_call where there was no answer (-ECONNRESET, -ETIMEDOUT, -EINTR, -ESHUTDOWN: the server may
 * have done it nonetheless). Nothing is sent when `check` says no from the start.
 */
int api_send(struct api *a, const struct api_call *call, const struct api_request *request,
	json_t **ret_json, struct status *ret_status);

/*
 * The same with the answer's bytes, whatever it says: a refusal's too. *ret_answer is empty where
 * there was none; the caller releases it. A success, too, has its code in *ret_status.
 */
int api_send_raw(struct api *a, const struct api_call *call, const struct api_request *request,
	struct buf *ret_answer, struct status *ret_status);

/* Waits, as check and the deadline allow. 0, -ETIMEDOUT or what check said. */
int api_wait(const struct api_call *call, int64_t ms);

/*
 * resource_path of a stream (name NULL: of the namespace's streams; namespace NULL: of all
 * streams).
 */
char *api_stream_path(const struct api *a, const char *ns, const char *name);

#endif
