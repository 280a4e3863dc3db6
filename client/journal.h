/*
 * journal: the last failures, for .api/errors. Thread-safe; its lock is a leaf.
 */
#ifndef CLIENT_JOURNAL_H
#define CLIENT_JOURNAL_H

#include "client/buf.h"

#define JOURNAL_SIZE 200

struct journal;

struct journal *journal_new(void);
void journal_free(struct journal *j);

/*
 * Notes one failure. `path` is the path in the mount or NULL, `request` verb and URL path or NULL,
 * `http_code` 0 where there was no answer, `error` an errno (positive), `message` one sentence. A
 * failure that is there already but for its time becomes the newest entry, with `count` (from 2)
 * and `first`, the time of the first one.
 */
void journal_add(struct journal *j, const char *path, const char *request, long http_code,
	int error, const char *message);

/* Every entry as one JSON object a line, oldest first. */
void journal_show(struct journal *j, struct buf *b);

/* How many failures there were, also those that are gone. */
uint64_t journal_count(struct journal *j);

/* The newest entry as a JSON object, or null. The caller owns the reference. */
json_t *journal_last(struct journal *j);

#endif
