#include "client/frame.h"

#include <errno.h>

void frame_release(struct frame *f)
{
	buf_release(&f->buf);
}

int frame_feed(struct frame *f, const char *p, size_t n)
{
	buf_consume(&f->buf, f->start);
	f->scanned -= f->start;
	f->start = 0;
	return buf_add(&f->buf, p, n);
}

/* From within a string to after its closing quote, or as far as there are bytes. */
static size_t scan_string(struct frame *f, size_t at)
{
	const char *data = f->buf.data;
	size_t len = f->buf.len;
	bool escaped = f->escaped;

	f->in_string = true;
	for (; at < len; at++) {
		if (escaped) {
			escaped = false;
		} else if (data[at] == '\\') {
			escaped = true;
		} else if (data[at] == '"') {
			f->in_string = false;
			at++;
			break;
		}
	}
	f->escaped = escaped;
	return at;
}

/* To after the byte that closes the document, or as far as there are bytes. */
static size_t scan(struct frame *f, size_t at)
{
	if (f->in_string)
		at = scan_string(f, at);
	while (at < f->buf.len) {
		char c = f->buf.data[at++];

		if (c == '"')
			at = scan_string(f, at);
		else if (c == '{' || c == '[')
			f->depth++;
		else if ((c == '}' || c == ']') && --f->depth == 0)
			break;
	}
	return at;
}

int frame_next(struct frame *f, const char **ret, size_t *ret_len)
{
	while (f->depth == 0 && f->scanned < f->buf.len) {
		char c = f->buf.data[f->scanned];

		if (c == '{')
			break;
		if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
			return -EBADMSG;
		f->start = ++f->scanned;
	}
	f->scanned = scan(f, f->scanned);
	if (f->depth > 0 || f->scanned == f->start)
		return 0;
	*ret = f->buf.data + f->start;
	*ret_len = f->scanned - f->start;
	f->start = f->scanned;
	return 1;
}
