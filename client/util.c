#include "client/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

static void *check(void *p)
{
	if (!p) {
		fputs("imagestreamfs: out of memory\n", stderr);
		abort();
	}
	return p;
}

void *xmalloc(size_t n)
{
	return check(malloc(n ? n : 1));
}

void *xcalloc(size_t n, size_t size)
{
	return check(calloc(n ? n : 1, size ? size : 1));
}

void *xrealloc(void *p, size_t n)
{
	return check(realloc(p, n ? n : 1));
}

char *xstrdup(const char *s)
{
	return check(strdup(s));
}

char *xstrndup(const char *s, size_t n)
{
	return check(strndup(s, n));
}

char *xasprintf(const char *format, ...)
{
	char *s;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&s, format, ap) < 0)
		s = NULL;
	va_end(ap);
	return check(s);
}

static bool is_within_character(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

char *str_shorten(const char *s, size_t max)
{
	size_t len = strlen(s), head = max / 2, tail = len - max / 2;

	if (len <= max)
		return xstrdup(s);
	while (head && is_within_character(s[head]))
		head--;
	while (is_within_character(s[tail]))
		tail++;
	return xasprintf("%.*s…%s", (int)head, s, s + tail);
}

#define EXCERPT_MAX 64

char *str_excerpt(const char *s, size_t len)
{
	char text[4 * EXCERPT_MAX + 1], *p = text;
	size_t end = len < EXCERPT_MAX ? len : EXCERPT_MAX;

	while (end < len && end > 0 && is_within_character(s[end]))
		end--;
	for (size_t i = 0; i < end; i++) {
		if ((unsigned char)s[i] < ' ' || s[i] == 0x7f)
			p += sprintf(p, "\\x%02x", (unsigned char)s[i]);
		else
			*p++ = s[i];
	}
	*p = '\0';
	return xasprintf("%s%s", text, end < len ? "…" : "");
}

bool str_is_dns_label(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return n > 0 && n <= 63 && !s[n] && s[0] != '-' && s[n - 1] != '-';
}

void str_wipe(char **s)
{
	if (*s)
		explicit_bzero(*s, strlen(*s));
	free(steal_ptr(*s));
}

uint64_t hash_bytes(uint64_t h, const void *p, size_t n)
{
	const unsigned char *s = p;

	for (size_t i = 0; i < n; i++)
		h = (h ^ s[i]) * UINT64_C(0x100000001b3);
	return h;
}

uint64_t hash_text(uint64_t h, const char *p, size_t n)
{
	uint64_t word;

	for (; n >= sizeof(word); n -= sizeof(word), p += sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 32; /* a product's low bits depend on low bits alone */
	}
	return hash_bytes(h, p, n);
}

uint64_t hash_str(uint64_t h, const char *s)
{
	return hash_bytes(h, s, strlen(s) + 1);
}

int rv_compare(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);

	if (la != lb)
		return la < lb ? -1 : 1;
	return strcmp(a, b);
}

int read_file(const char *path, size_t max, char **ret, size_t *ret_len)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *text = NULL;
	size_t len = 0, size = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t n;

		if (len == size) {
			if (len > max)
				return -EFBIG;
			size = size ? size * 2 : 4096;
			text = xrealloc(text, size + 1);
		}
		n = read(fd, text + len, size - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += n;
	}
	if (len > max)
		return -EFBIG;
	text[len] = '\0';
	*ret = steal_ptr(text);
	*ret_len = len;
	return 0;
}

const char *json_str(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}
