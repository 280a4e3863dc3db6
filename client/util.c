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

static int64_t now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

int64_t now_monotonic(void)
{
	return now(CLOCK_MONOTONIC);
}

int64_t now_realtime(void)
{
	return now(CLOCK_REALTIME);
}

/* "2026-11-23T19:48:08" with each digit in its place; strptime alone is more generous. */
static const char *parse_seconds(const char *s, time_t *ret)
{
	static const char shape[] = "dddd-dd-ddTdd:dd:dd";
	struct tm tm = {0}, again;

	for (size_t i = 0; shape[i]; i++)
		if (shape[i] == 'd' ? s[i] < '0' || s[i] > '9' : s[i] != shape[i])
			return NULL;
	if (!strptime(s, "%Y-%m-%dT%H:%M:%S", &tm))
		return NULL;
	again = tm;
	*ret = timegm(&again);
	/* A day that no month has was moved to the next one. */
	return again.tm_mday == tm.tm_mday && again.tm_sec == tm.tm_sec ? s + strlen(shape) : NULL;
}

static const char *parse_fraction(const char *p, int64_t *ret_ns)
{
	int64_t scale = NSEC_PER_SEC / 10;

	if (*p != '.')
		return p;
	if (p[1] < '0' || p[1] > '9')
		return NULL;
	for (p++; *p >= '0' && *p <= '9'; p++, scale /= 10)
		*ret_ns += (*p - '0') * scale;
	return p;
}

/* "Z", or "+hh:mm" and the like, to the end of the text. */
static int parse_offset(const char *p, int64_t *ret_seconds)
{
	unsigned hours, minutes;
	int used = 0;

	if (streq(p, "Z"))
		return 0;
	if ((*p != '+' && *p != '-') || strlen(p) != 6 || strspn(p + 1, "0123456789:") != 5 ||
		sscanf(p + 1, "%2u:%2u%n", &hours, &minutes, &used) != 2 || used != 5 ||
		hours > 23 || minutes > 59)
		return -EINVAL;
	*ret_seconds = (hours * 60 + minutes) * INT64_C(60) * (*p == '-' ? -1 : 1);
	return 0;
}

int rfc3339_parse(const char *s, int64_t *ret_ns)
{
	int64_t fraction = 0, offset = 0, ns;
	time_t seconds;
	const char *p = parse_seconds(s, &seconds);

	if (p)
		p = parse_fraction(p, &fraction);
	if (!p || parse_offset(p, &offset) < 0)
		return -EINVAL;
	if (__builtin_mul_overflow(seconds - offset, NSEC_PER_SEC, &ns) ||
		__builtin_add_overflow(ns, fraction, &ns))
		return -EINVAL;
	*ret_ns = ns;
	return 0;
}

void rfc3339_format(int64_t ns, char buf[RFC3339_SIZE])
{
	time_t seconds = ns / NSEC_PER_SEC;
	struct tm tm;
	size_t n;

	gmtime_r(&seconds, &tm);
	n = strftime(buf, RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf + n, RFC3339_SIZE - n, ".%03dZ", (int)(ns % NSEC_PER_SEC / NSEC_PER_MSEC));
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
