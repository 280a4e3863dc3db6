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

int rfc3339_parse(const char *s, int64_t *ret_ns)
{
	struct tm tm = {0};
	int64_t ns = 0, offset = 0;
	const char *p = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);

	if (!p)
		return -EINVAL;
	if (*p == '.') {
		int64_t scale = NSEC_PER_SEC / 10;

		for (p++; *p >= '0' && *p <= '9'; p++, scale /= 10)
			ns += (*p - '0') * scale;
	}
	if (*p == '+' || *p == '-') {
		int hours, minutes, used = 0;

		if (sscanf(p + 1, "%2d:%2d%n", &hours, &minutes, &used) != 2 || p[1 + used])
			return -EINVAL;
		offset = (hours * 60 + minutes) * INT64_C(60) * (*p == '-' ? -1 : 1);
	} else if (!streq(p, "Z")) {
		return -EINVAL;
	}
	*ret_ns = (timegm(&tm) - offset) * NSEC_PER_SEC + ns;
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
