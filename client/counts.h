/*
 * counts: how many requests were sent, by verb and HTTP code, and how long they took. Thread-safe;
 * its lock is a leaf.
 */
#ifndef CLIENT_COUNTS_H
#define CLIENT_COUNTS_H

#include "client/buf.h"

struct counts;

struct counts *counts_new(void);
void counts_free(struct counts *c); /* NULL is fine */

/* `code` 0: there was no answer. */
void counts_add(struct counts *c, const char *verb, long code, int64_t ns);

/* As Prometheus text: a counter and a histogram. 0 or -EFBIG. */
int counts_show(struct counts *c, struct buf *out);

#endif
