/*
 * call: one use of a file of .api that asks the server: its requests, its answer, and what the
 * answer says of streams.
 */
#ifndef FS_DOTAPI_CALL_H
#define FS_DOTAPI_CALL_H

#include "fs/mount/mount.h"

/* What the file sends; `subresource` NULL: to the stream itself; a query without its '?'. */
struct dotapi_request {
	const char *method, *subresource, *query, *media;
};

/* What was written, and what is to be answered. */
struct dotapi_call {
	struct mount *mount;
	const struct api_call *api;
	const struct process_id *who; /* that writes; all 0: nobody knows */
	const struct place *path;
	const struct dotapi_request *file;
	const char *text;
	size_t len;
	struct buf answer;    /* what a read of the file shows from now on */
	uint64_t asked;	      /* the number of the last request (client/store.h) */
	char *request;	      /* verb and URL path of what was sent, or NULL */
	struct status status; /* of a refusal */
};

/* Notes why not, as a refusal of the server's is. Returns -error. */
int call_refuse(struct dotapi_call *c, int error, const char *message);

/*
 * One request; its answer is added to what there is, and is *ret, too (NULL: it isn't wanted), where
 * it is JSON and no refusal. The caller owns the reference.
 */
int call_send(struct dotapi_call *c, const struct api_request *request, json_t **ret);
int call_send_json(struct dotapi_call *c, const char *method, const char *url, const json_t *body,
	json_t **ret);

/* The file's own stream, with the file's subresource; its namespace's, `ns` "" all, streams. */
char *call_stream_url(const struct dotapi_call *c, const char *query);
char *call_collection_url(const struct dotapi_call *c, const char *ns);

/* What a request asked for; NULL: whatever the server chose. */
struct call_asked {
	const char *ns, *name;
};

struct call_asked call_asked_stream(const struct dotapi_call *c);
/* NULL, or why an answer isn't the ImageStream that was asked for; the caller frees it. */
char *call_check_asked(const json_t *json, const struct call_asked *asked);

/* The ImageStream that was asked for goes into the store and is shown; anything else is -EIO. */
int call_take_stream(struct dotapi_call *c, const json_t *json, struct call_asked asked);
/* The stream is gone; this is shown. */
void call_forget_stream(struct dotapi_call *c, const char *key, const char *uid);
/* What was received of the stream before is shown and announced, if that takes no longer than usual. */
void call_wait_for_events(struct dotapi_call *c, const char *key);

#endif
