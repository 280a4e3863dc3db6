/*
 * frame: the bytes of a watch cut into JSON documents.
 *
 * The server ends each event with a newline, but neither the newline nor the size of a chunk is
 * promised, so documents are found by their braces (border_search).
 */
#ifndef CLIENT_FRAME_H
#define CLIENT_FRAME_H

#include "client/buf.h"
#include "client/cut.h"

struct frame {
	struct buf buf;
	size_t start, scanned; /* of the document being read; how far the search went */
	struct border border;
};

#define FRAME_MAX ((size_t)8 << 20) /* DESIGN: "Limits" */
#define FRAME_INIT(max)                                                                            \
	{                                                                                          \
		.buf = BUF_INIT(max)                                                               \
	}

void frame_release(struct frame *f);

/* 0, or -EFBIG when one document is larger than the maximum. */
int frame_feed(struct frame *f, const char *p, size_t n);

/*
 * 1 and the next whole document (borrowed until the next frame_feed), 0 when more bytes are
 * needed, -EBADMSG when what comes is no JSON object.
 */
int frame_next(struct frame *f, const char **ret, size_t *ret_len);

#endif
