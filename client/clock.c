#include "client/clock.h"

#include "client/util.h"

#include <errno.h>

static int64_t now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return timespec_to_ns(&ts);
}

int64_t now_monotonic(void)
{
	return now(CLOCK_MONOTONIC);
}

int64_t now_realtime(void)
{
	return now(CLOCK_REALTIME);
}

int64_t deadline_in_ms(int64_t ms)
{
	return now_monotonic() + ms * NSEC_PER_MSEC;
}

int64_t ms_until(int64_t deadline)
{
	int64_t left = deadline - now_monotonic();

	return left > 0 ? left / NSEC_PER_MSEC + 1 : 0;
}

struct timespec timespec_from_ns(int64_t ns)
{
	return (struct timespec){ns / NSEC_PER_SEC, ns % NSEC_PER_SEC};
}

int64_t timespec_to_ns(const struct timespec *t)
{
	return t->tv_sec * NSEC_PER_SEC + t->tv_nsec;
}

void cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

bool cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline)
{
	struct timespec ts = timespec_from_ns(deadline);

	if (deadline == INT64_MAX)
		return pthread_cond_wait(cond, lock) == 0;
	return pthread_cond_timedwait(cond, lock, &ts) == 0;
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
