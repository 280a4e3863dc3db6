/*
 * However the bytes of a watch are cut on their way, the same documents come out, one after the
 * other.
 */
#include "fuzz.h"

#include "client/frame.h"

#include <errno.h>

#define LARGE ((size_t)1 << 16) /* a frame's maximum here */

/* What was read: each document and a NUL; and how it ended. */
struct reading {
	struct buf documents;
	int end;
};

static void read_all(struct frame *f, struct reading *to)
{
	const char *p;
	size_t len;

	while (to->end == 0 && (to->end = frame_next(f, &p, &len)) > 0) {
		if (len < 2 || p[0] != '{' || p < f->buf.data || p + len > f->buf.data + f->buf.len)
			abort();
		buf_add(&to->documents, p, len);
		buf_add(&to->documents, "", 1);
		to->end = 0;
	}
}

static void feed(const char *p, size_t len, size_t piece, struct reading *to)
{
	struct frame f = FRAME_INIT(LARGE);

	to->documents = (struct buf)BUF_INIT(SIZE_MAX);
	for (size_t at = 0; to->end == 0 && at < len; at += piece) {
		to->end = frame_feed(&f, p + at, piece < len - at ? piece : len - at);
		read_all(&f, to);
	}
	frame_release(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reading whole = {0}, pieces = {0};
	const char *text = (const char *)data;
	size_t piece = size ? 1 + data[0] % 64 : 1;

	if (size > LARGE)
		return 0;
	feed(text, size, size ? size : 1, &whole);
	feed(text, size, piece, &pieces);
	if (whole.end != pieces.end || whole.documents.len != pieces.documents.len ||
		(whole.documents.len && memcmp(whole.documents.data, pieces.documents.data,
						whole.documents.len) != 0))
		abort();
	if (whole.end != 0 && whole.end != -EBADMSG)
		abort();
	buf_release(&whole.documents);
	buf_release(&pieces.documents);
	return 0;
}
