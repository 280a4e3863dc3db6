/*
 * request: what the files of .api ask of the server: requests as the user writes them, answers as
 * they come (DESIGN.md 2, ".api/"). README.md has the table of file → request.
 *
 * Every function waits for the server; 0 or -errno. The answer stands in the call, also that of a
 * refusal, and what it says of streams is shown before the function returns.
 */
#ifndef FS_DOTAPI_REQUEST_H
#define FS_DOTAPI_REQUEST_H

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

/* GET: the file's own subresource, query and media type. */
int request_get(struct dotapi_call *c);
/* GET …?export=true where the server has it; else a clean copy made here. */
int request_export(struct dotapi_call *c);

/* POST of each ImageStream of the text: JSON or YAML, documents, lists. */
int request_create(struct dotapi_call *c);
/* DELETE of the stream, or of the namespace's collection. */
int request_delete(struct dotapi_call *c);
int request_delete_collection(struct dotapi_call *c);
/* PATCH or PUT of the stream or its status. */
int request_change(struct dotapi_call *c);
/* The tag's image, now: imagestreamimports. */
int request_import(struct dotapi_call *c);

#endif
