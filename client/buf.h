/*
 * buf: bytes that grow up to a maximum.
 *
 * `data` is NUL-terminated after `len` bytes once anything was added; NULL before. A buf that would
 * grow past `max` refuses with -EFBIG and stays as it was.
 */
#ifndef CLIENT_BUF_H
#define CLIENT_BUF_H

#include "client/util.h"

struct buf {
	char *data;
	size_t len, size, max;
	bool secret; /* out of swap and core dumps, and wiped; not for buf_steal */
};

#define BUF_INIT(maximum)                                                                          \
	{                                                                                          \
		.max = (maximum)                                                                   \
	}

void buf_release(struct buf *b); /* frees the bytes; the buf can be used again */

/* 0 or -EFBIG. */
int buf_reserve(struct buf *b, size_t n); /* room for n more bytes */
int buf_add(struct buf *b, const void *p, size_t n);
int buf_addstr(struct buf *b, const char *s);
int buf_addf(struct buf *b, const char *format, ...) _printf_(2, 3);
/* One field of a line, and what ends it; "-" for NULL. Control characters become spaces. */
int buf_addfield(struct buf *b, const char *text, char end);

/* JSON as `flags` of json_dumps say, without an end of line. 0, -EFBIG, or -EINVAL. */
int buf_addjson(struct buf *b, const json_t *json, size_t flags);

/* Appends `s` percent-encoded for one segment of a URL's path or one value of its query. */
int buf_addurl(struct buf *b, const char *s);

/* How it begins, in one line in quotes, for a message ("nothing" if it is empty). The caller frees. */
char *buf_begin(const struct buf *b);

/* Takes back what was added since the length was `len`. */
void buf_truncate(struct buf *b, size_t len);

/* Takes the first `n` bytes away. */
void buf_consume(struct buf *b, size_t n);

/* Hands the bytes over (never NULL; the caller frees) and empties the buf. */
char *buf_steal(struct buf *b, size_t *ret_len);

#define _cleanup_buf_ _cleanup_(buf_release)

#endif
