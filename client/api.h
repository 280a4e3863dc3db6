/*
 * api: where the server keeps what we need, and single requests to it as blocking calls.
 */
#ifndef CLIENT_API_H
#define CLIENT_API_H

#include "client/http.h"
#include "client/journal.h"

struct api {
	struct config *config;
	struct journal *journal;
	int64_t timeout_ms;	     /* --request-timeout */
	const char *root;	     /* "/apis/image.openshift.io/v1" or "/oapi/v1" */
	const char *api_version;     /* of objects below root */
	const char *namespaces_path; /* of projects, or of namespaces where there are none */
	char *user;		     /* who we are, or NULL where the server can't say */
	json_t *version;	     /* GET /version, or NULL */
};

/*
 * Asks the server for its API root, who we are and its version. config and journal are borrowed
 * for the life of *ret. 0; or -errno, and then *ret_error is one sentence for the user.
 */
int api_connect(struct config *config, struct journal *journal, int64_t timeout_ms,
	struct api **ret, char **ret_error);
void api_free(struct api *a); /* NULL is fine */

/*
 * Whether a namespace that no list names exists for us: 0 when its ImageStreams may be listed,
 * -ENOENT when it isn't there or they may not, else why there was no answer.
 */
int api_find_namespace(
	struct api *a, struct http *h, const char *name, const struct http_check *check);

#endif
