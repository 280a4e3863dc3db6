/* Threads that wait, for tests of what tells threads and processes apart. After cmocka.h. */
#ifndef TESTS_UNIT_WAITING_H
#define TESTS_UNIT_WAITING_H

#include <pthread.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* A thread that waits until it is let go. */
struct waiting {
	pthread_t thread;
	pthread_barrier_t ready, done;
	pid_t tid;
};

static void *wait_in_thread(void *arg)
{
	struct waiting *w = arg;

	w->tid = syscall(SYS_gettid);
	pthread_barrier_wait(&w->ready);
	pthread_barrier_wait(&w->done);
	return NULL;
}

static inline void start_waiting(struct waiting *w)
{
	pthread_barrier_init(&w->ready, NULL, 2);
	pthread_barrier_init(&w->done, NULL, 2);
	assert_int_equal(pthread_create(&w->thread, NULL, wait_in_thread, w), 0);
	pthread_barrier_wait(&w->ready);
}

static inline void end_waiting(struct waiting *w)
{
	pthread_barrier_wait(&w->done);
	pthread_join(w->thread, NULL);
	pthread_barrier_destroy(&w->ready);
	pthread_barrier_destroy(&w->done);
}

#endif
