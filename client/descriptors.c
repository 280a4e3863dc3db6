#include "client/descriptors.h"

#include <errno.h>
#include <sys/resource.h>

/*
 * stdin to stderr, /dev/fuse, signalfd, eventfds, an epoll, the unmounter's socket, a curl multi
 * handle (2) and a connection or two for each of login, rights and reflector; counted: 20 to 26.
 */
#define PROGRAM	   28
#define PER_THREAD 4 /* a multi handle's pair, a connection, another one that is fresh */

int descriptors_raise(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return -errno;
	limit.rlim_cur = limit.rlim_max;
	return setrlimit(RLIMIT_NOFILE, &limit) < 0 ? -errno : 0;
}

size_t descriptors_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > INT32_MAX)
		return INT32_MAX; /* so many that nobody need count */
	return limit.rlim_cur;
}

static size_t share(size_t limit, size_t part, size_t most)
{
	size_t n = limit / part;

	return n < 1 ? 1 : n > most ? most : n;
}

size_t descriptors_threads(void)
{
	return share(descriptors_limit(), 32, DESCRIPTORS_THREADS);
}

size_t descriptors_workers(void)
{
	return share(descriptors_limit(), 16, DESCRIPTORS_WORKERS);
}

size_t descriptors_budget(void)
{
	size_t limit = descriptors_limit();
	size_t others = DESCRIPTORS_RESERVE + PROGRAM +
			PER_THREAD * share(limit, 32, DESCRIPTORS_THREADS) +
			share(limit, 16, DESCRIPTORS_WORKERS);

	return limit > others ? limit - others : 1;
}
