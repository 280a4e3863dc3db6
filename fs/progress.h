/*
 * progress: one line on a terminal that tells how far a long start has come, and goes at its end.
 */
#ifndef FS_PROGRESS_H
#define FS_PROGRESS_H

#include "client/util.h"

#include <stddef.h>

struct progress;

/* How many imagestreams there are so far; asked by a thread of its own. */
typedef size_t progress_count_fn(void *arg);

/* Where stderr is no terminal, or no thread can be made: NULL, and nothing is ever said. */
struct progress *progress_begin(progress_count_fn *count, void *arg);
void progress_end(struct progress *p); /* the line is gone; NULL is fine */

#endif
