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

/* Takes one byte in; true when it closes the document. */
static bool frame_byte(struct frame *f, char c)
{
	if (f->in_string) {
		if (f->escaped)
			f->escaped = false;
		else if (c == '\\')
			f->escaped = true;
		else if (c == '"')
			f->in_string = false;
		return false;
	}
	if (c == '"')
		f->in_string = true;
	else if (c == '{' || c == '[')
		f->depth++;
	else if (c == '}' || c == ']')
		return --f->depth == 0;
	return false;
}

int frame_next(struct frame *f, const char **ret, size_t *ret_len)
{
	while (f->scanned < f->buf.len) {
		char c = f->buf.data[f->scanned];

		if (f->depth == 0) {
			if (c == ' ' || c == '\n' || c == '\r' || c == '\t') {
				f->start = ++f->scanned;
				continue;
			}
			if (c != '{')
				return -EBADMSG;
		}
		f->scanned++;
		if (frame_byte(f, c)) {
			*ret = f->buf.data + f->start;
			*ret_len = f->scanned - f->start;
			f->start = f->scanned;
			return 1;
		}
	}
	return 0;
}
