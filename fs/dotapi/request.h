/*
 * request: what the files of .api ask of the server: requests as the user writes them, answers as
 * they come (DESIGN.md 2, ".api/"). README.md has the table of file → request.
 *
 * Every function waits for the server; 0 or -errno. The answer stands in the call, also that of a
 * refusal, and what it says of streams is shown before the function returns.
 */
#ifndef FS_DOTAPI_REQUEST_H
#define FS_DOTAPI_REQUEST_H

#include "fs/dotapi/call.h"

/* GET: the file's own subresource, query and media type. */
int request_get(struct dotapi_call *c);
/* GET …?export=true where the server has it; else a clean copy made here. */
int request_export(struct dotapi_call *c);

/* POST of each ImageStream of the text: JSON or YAML, documents, lists. */
int request_create(struct dotapi_call *c);
/*
 * Server-side apply of each of the same texts. The answer has a line for each: what became of it, or
 * why not and who owns what it would change.
 */
int request_apply(struct dotapi_call *c);
/* A line for each tag whose newest import failed. Asks nobody. */
int request_failing(struct dotapi_call *c);
/* How many such tags the stream has. */
size_t request_failures(const struct object *o);
/* GET of the tag's image: imagestreamtags, or imagestreamimages for a name that has no URL. */
int request_image(struct dotapi_call *c);
/* DELETE of the stream, or of the namespace's collection. */
int request_delete(struct dotapi_call *c);
int request_delete_collection(struct dotapi_call *c);
/* PATCH or PUT of the stream or its status. */
int request_change(struct dotapi_call *c);
/* The tag's image, now: imagestreamimports. */
int request_import(struct dotapi_call *c);

#endif
