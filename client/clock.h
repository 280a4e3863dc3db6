/*
 * clock: what time it is, how long there is still, and waiting until then. Times are nanoseconds:
 * CLOCK_MONOTONIC for intervals and deadlines (INT64_MAX: never), CLOCK_REALTIME for file times.
 */
#ifndef CLIENT_CLOCK_H
#define CLIENT_CLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define NSEC_PER_SEC  INT64_C(1000000000)
#define NSEC_PER_MSEC INT64_C(1000000)

int64_t now_monotonic(void);
int64_t now_realtime(void);

/* The deadline that is so many milliseconds away. */
int64_t deadline_in_ms(int64_t ms);

/* How many milliseconds there are until the deadline: rounded up; 0 once it has passed. */
int64_t ms_until(int64_t deadline);

struct timespec timespec_from_ns(int64_t ns);
int64_t timespec_to_ns(const struct timespec *t);

/* A condition variable that cond_wait_until can wait for. pthread_cond_destroy ends it. */
void cond_init(pthread_cond_t *cond);

/* As pthread_cond_wait, but no longer than until the deadline: false once that has passed. */
bool cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline);

/*
 * RFC 3339 as Kubernetes writes it (2026-11-23T19:48:08Z, also with a fraction or an offset) to
 * nanoseconds since 1970. -EINVAL where it isn't one.
 */
int rfc3339_parse(const char *s, int64_t *ret_ns);

/* Nanoseconds since 1970 as 2026-11-23T19:48:08.123Z. */
#define RFC3339_SIZE 32
void rfc3339_format(int64_t ns, char buf[RFC3339_SIZE]);

#endif
