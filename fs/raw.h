/*
 * raw: what the files of .api ask of the server: requests as the user writes them, answers as they come
 * (DESIGN.md 2, ".api/"). README.md has the table of file → request.
 *
 * Every function waits for the server; 0 or -errno. The answer stands in the call, also that of a
 * refusal, and what it says of streams is shown before the function returns.
 */
#ifndef FS_RAW_H
#define FS_RAW_H

#include "fs/apifile.h"

/* GET: the file's own subresource, query and media type. */
int raw_get(struct apifile_call *c);
/* GET …?export=true where the server has it; else a clean copy made here. */
int raw_export(struct apifile_call *c);

/* POST of each ImageStream of the text: JSON or YAML, documents, lists. */
int raw_create(struct apifile_call *c);
/* DELETE of the stream, or of the namespace's collection. */
int raw_delete(struct apifile_call *c);
int raw_delete_collection(struct apifile_call *c);
/* PATCH or PUT of the stream or its status. */
int raw_change(struct apifile_call *c);
/* The tag's image, now: imagestreamimports. */
int raw_import(struct apifile_call *c);

#endif
