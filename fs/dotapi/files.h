/*
 * files: the files of .api: a row each. What a read shows is made at the open; what is written is
 * one request, sent once an open.
 */
#ifndef FS_DOTAPI_FILES_H
#define FS_DOTAPI_FILES_H

#include "fs/dotapi/request.h"

/* How the file is read, where it isn't made at the open. */
enum dotapi_reader {
	DOTAPI_MADE,
	DOTAPI_EVENTS, /* events_open: its reads wait */
	DOTAPI_PUSHES, /* the same */
	DOTAPI_EXPORT, /* export_open */
};

enum dotapi_reader dotapi_reader(enum kind kind);
/* Whether it shows all that is below, so that lists are waited for (fs/mount/discover.h). */
bool dotapi_is_whole(enum kind kind);
/* Whether the server is asked at each open (dotapi_fetch); else dotapi_show has it at once. */
bool dotapi_is_fetched(enum kind kind);

/* The bytes of the file now: for what is written, the last answer. 0 or -errno. */
int dotapi_show(struct mount *m, const struct place *path, struct buf *out);
int dotapi_fetch(
	struct mount *m, const struct api_call *api, const struct place *path, struct buf *out);

/* How long a write may take, in ms; 0: as any request. */
int64_t dotapi_timeout(enum kind kind);

/*
 * Does what the text asks for; waits for the server. 0 or -errno; a refusal stands in .api/errors,
 * and the server's answer in the file, whatever it says.
 */
int dotapi_store(struct mount *m, const struct api_call *api, const struct process_id *who,
	const struct place *path, const char *text, size_t len);

#endif
