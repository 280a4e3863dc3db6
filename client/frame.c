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

int frame_next(struct frame *f, const char **ret, size_t *ret_len)
{
	const char *data = f->buf.data;

	for (; !f->border.begun && f->scanned < f->buf.len; f->start = ++f->scanned) {
		if (data[f->scanned] == '{')
			break;
		if (!cut_is_space(data[f->scanned]))
			return -EBADMSG;
	}
	if (f->scanned == f->buf.len)
		return 0;
	f->scanned = border_search(&f->border, data + f->scanned, data + f->buf.len) - data;
	if (!border_is_found(&f->border))
		return 0;
	*ret = data + f->start;
	*ret_len = f->scanned - f->start;
	f->start = f->scanned;
	f->border = (struct border){0};
	return 1;
}
