/*
 * events: the files `events` of .api: each change of a stream as one line of JSON, as the API's own
 * watch sends it, from the open on; and `pushes`: each new image of a tag.
 *
 * A reader that falls behind gets what is in line no more but one ERROR line (410, as from the API
 * server when a watch can't go on), and then the end of the file. A thread of its own answers the
 * reads that wait, so that nobody who brings a change ever does. Thread-safe; its lock is a leaf.
 */
#ifndef FS_DOTAPI_EVENTS_H
#define FS_DOTAPI_EVENTS_H

#include "client/store.h"

#include <fuse_lowlevel.h>

struct events;
struct events_reader;

struct events *events_new(void);
void events_free(struct events *e); /* stopped or never used; NULL is fine */

/* What the store's listener is told of a stream. An older version after a newer one is left out. */
void events_add(struct events *e, enum store_event event, struct object *object);

/* Of one stream; stream "": of the namespace; namespace "": of all. */
struct events_reader *events_open(struct events *e, const char *ns, const char *stream);
/* The same of new images (fs/dotapi/pushes.h); `store` says what there is now. */
struct events_reader *events_open_pushes(
	struct events *e, struct store *store, const char *ns, const char *stream);
void events_close(struct events *e, struct events_reader *r);

/* Answers the request, now or when there is something to read; `flags` of the open file. */
void events_read(struct events *e, struct events_reader *r, fuse_req_t req, size_t size, int flags);
/* `ph` (NULL is fine) is told when there is something to read, if there is nothing now. */
void events_poll(struct events *e, struct events_reader *r, fuse_req_t req,
	struct fuse_pollhandle *ph, unsigned wanted);

/* Reads that wait are answered with the end of the file, and so are all that come. */
void events_stop(struct events *e);

#endif
