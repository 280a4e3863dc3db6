/*
 * descriptors: how many file descriptors this process may have (RLIMIT_NOFILE), and who may use how
 * many of them. Nothing is handed out here: each part keeps to its share by itself, and asks again
 * whenever it is about to take more, since the limit can be changed from outside while we run
 * (prlimit(1)). Thread-safe; each question costs one getrlimit(2).
 */
#ifndef CLIENT_DESCRIPTORS_H
#define CLIENT_DESCRIPTORS_H

#include "client/util.h"

/*
 * Kept free of transfers: for saves, for starting the announcer, for what opens a file for a
 * moment.
 */
#define DESCRIPTORS_RESERVE 16

#define DESCRIPTORS_THREADS 32 /* threads that make requests (fs/pool.h), at most */
#define DESCRIPTORS_WORKERS 16 /* workers of the announcer (fs/announce.h), at most */

/*
 * Once, before threads: the soft limit becomes the hard one. 0 or -errno, and then it stays as it
 * was.
 */
int descriptors_raise(void);

/* The soft limit now. */
size_t descriptors_limit(void);

/*
 * How many transfers the reflector may have open at once (lists and watches, a connection each):
 * the limit less DESCRIPTORS_RESERVE, what the program itself has, and the shares below. At least
 * 1: with one it can list and poll. A server that is given by name costs two descriptors more for
 * each transfer while its name is looked up, so many should not be started in one go.
 */
size_t descriptors_budget(void);

/* The shares of the others: at least 1 each, their most from a limit of 1024 and 256 on. */
size_t descriptors_threads(void);
size_t descriptors_workers(void);

#endif
