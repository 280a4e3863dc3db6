/*
 * The test's own clock, in place of the C library's: what the program reads as now can be moved on
 * at will, so that hours pass without a wait. Included by one file of a test program.
 */
#ifndef TESTS_UNIT_CLOCK_H
#define TESTS_UNIT_CLOCK_H

#include "client/clock.h"

#include <sys/syscall.h>
#include <unistd.h>

static _Atomic int64_t clock_moved;  /* ns ahead of the real time */
static _Atomic int64_t clock_frozen; /* realtime ns, or 0: it runs */

int clock_gettime(clockid_t clock, struct timespec *ret)
{
	int64_t ns;

	if (syscall(SYS_clock_gettime, clock, ret) < 0)
		return -1;
	ns = timespec_to_ns(ret) + clock_moved;
	if (clock == CLOCK_REALTIME && clock_frozen)
		ns = clock_frozen;
	*ret = timespec_from_ns(ns);
	return 0;
}

#endif
