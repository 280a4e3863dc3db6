#include "client/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>

static void wipe(struct buf *b)
{
	if (!b->data)
		return;
	explicit_bzero(b->data, b->size);
	madvise(b->data, b->size, MADV_DODUMP);
	munlock(b->data, b->size);
}

/* Pages of its own: what else lies in them would be unlocked with it. */
static void grow_secret(struct buf *b, size_t size)
{
	size_t page = sysconf(_SC_PAGESIZE);
	char *data;

	size = (size + page - 1) / page * page;
	data = aligned_alloc(page, size);
	if (!data)
		abort();
	if (mlock(data, size) == 0)
		madvise(data, size, MADV_DONTDUMP);
	if (b->len)
		memcpy(data, b->data, b->len + 1);
	wipe(b);
	free(b->data);
	b->data = data;
	b->size = size;
}

void buf_release(struct buf *b)
{
	if (b->secret)
		wipe(b);
	free(b->data);
	b->data = NULL;
	b->len = b->size = 0;
}

int buf_reserve(struct buf *b, size_t n)
{
	if (n > b->max - b->len)
		return -EFBIG;
	if (b->len + n + 1 > b->size) {
		size_t size = b->size ? b->size * 2 : 256;

		while (size < b->len + n + 1)
			size *= 2;
		if (b->secret) {
			grow_secret(b, size);
			return 0;
		}
		b->data = xrealloc(b->data, size);
		b->size = size;
	}
	return 0;
}

int buf_add(struct buf *b, const void *p, size_t n)
{
	int r = buf_reserve(b, n);

	if (r < 0)
		return r;
	if (n)
		memcpy(b->data + b->len, p, n);
	b->len += n;
	b->data[b->len] = '\0';
	return 0;
}

int buf_addstr(struct buf *b, const char *s)
{
	return buf_add(b, s, strlen(s));
}

int buf_addf(struct buf *b, const char *format, ...)
{
	_cleanup_free_ char *s = NULL;
	va_list ap;
	int n;

	va_start(ap, format);
	n = vasprintf(&s, format, ap);
	va_end(ap);
	if (n < 0) {
		s = NULL;
		return -EINVAL;
	}
	return buf_add(b, s, n);
}

#define BEGIN_MAX 80

char *buf_begin(const struct buf *b)
{
	char line[BEGIN_MAX + 1];
	size_t n = 0;

	for (size_t i = 0; i < b->len && n < BEGIN_MAX; i++) {
		unsigned char c = b->data[i];

		if (c > ' ' && c < 0x7f)
			line[n++] = c;
		else if (n && line[n - 1] != ' ') /* also what may be cut in the middle */
			line[n++] = ' ';
	}
	line[n] = '\0';
	if (!n)
		return xstrdup("nothing");
	return xasprintf("\"%s%s\"", line, n == BEGIN_MAX ? "..." : "");
}

void buf_truncate(struct buf *b, size_t len)
{
	b->len = len;
	if (b->data)
		b->data[len] = '\0';
}

struct dump {
	struct buf *buf;
	int r;
};

static int dump_chunk(const char *p, size_t n, void *arg)
{
	struct dump *d = arg;

	d->r = buf_add(d->buf, p, n);
	return d->r < 0 ? -1 : 0;
}

int buf_addfield(struct buf *b, const char *text, char end)
{
	_cleanup_free_ char *field = xasprintf("%s%c", text ? text : "-", end);
	size_t len = strlen(field);

	for (size_t i = 0; i + 1 < len; i++)
		if ((unsigned char)field[i] < 0x20 || field[i] == 0x7f)
			field[i] = ' ';
	return buf_add(b, field, len);
}

int buf_addjson(struct buf *b, const json_t *json, size_t flags)
{
	struct dump d = {.buf = b, .r = 0};
	size_t len = b->len;

	if (json_dump_callback(json, dump_chunk, &d, flags) < 0) {
		buf_truncate(b, len);
		return d.r < 0 ? d.r : -EINVAL;
	}
	return 0;
}

int buf_addurl(struct buf *b, const char *s)
{
	static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
					 "0123456789-._~";
	size_t len = b->len;
	int r = 0;

	for (; *s && r == 0; s++) {
		if (strchr(unreserved, *s))
			r = buf_add(b, s, 1);
		else
			r = buf_addf(b, "%%%02X", (unsigned char)*s);
	}
	if (r < 0)
		buf_truncate(b, len);
	return r;
}

void buf_consume(struct buf *b, size_t n)
{
	if (n == 0)
		return;
	memmove(b->data, b->data + n, b->len - n + 1);
	b->len -= n;
}

char *buf_steal(struct buf *b, size_t *ret_len)
{
	char *data = b->data ? b->data : xstrdup("");

	if (ret_len)
		*ret_len = b->len;
	b->data = NULL;
	b->len = b->size = 0;
	return data;
}
