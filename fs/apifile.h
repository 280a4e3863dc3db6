/*
 * apifile: the files of .api: a row each. What a read shows is made at the open; what is written is
 * one request, sent once an open.
 */
#ifndef FS_APIFILE_H
#define FS_APIFILE_H

#include "fs/mount.h"

mode_t apifile_mode(enum node_kind kind);

/* Whether it is one of the files `events`, whose reads wait. */
bool apifile_is_events(enum node_kind kind);
/* Whether the server is asked at each open (apifile_fetch); else apifile_show has it at once. */
bool apifile_is_fetched(enum node_kind kind);

/* The bytes of the file now: for what is written, the last answer. 0 or -errno. */
int apifile_show(struct mount *m, const struct tree_path *path, struct buf *out);
int apifile_fetch(
	struct mount *m, const struct api_call *api, const struct tree_path *path, struct buf *out);

/* How long a write may take, in ms; 0: as any request. */
int64_t apifile_timeout(enum node_kind kind);

/* What the file sends; the last part of the URL's path, a query without its '?'. */
struct apifile_request {
	const char *method, *subresource, *query, *media;
};

/* What was written, and what is to be answered. */
struct apifile_call {
	struct mount *mount;
	const struct api_call *api;
	const struct tree_path *path;
	const struct apifile_request *file;
	const char *text;
	size_t len;
	struct buf answer;    /* what a read of the file shows from now on */
	char *request;	      /* verb and URL path of what was sent, or NULL */
	struct status status; /* of a refusal */
};

/*
 * Does what the text asks for; waits for the server. 0 or -errno; a refusal stands in .api/errors, and the
 * server's answer in the file, whatever it says.
 */
int apifile_store(struct mount *m, const struct api_call *api, const struct tree_path *path,
	const char *text, size_t len);

#endif
