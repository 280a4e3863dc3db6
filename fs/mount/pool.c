#include "fs/mount/pool.h"

#include "client/clock.h"
#include "client/log.h"
#include "client/map.h"
#include "fs/tree/process.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

/* Beyond POOL_THREADS only for calls that were interrupted while they waited in line. */
#define THREADS_MAX (2 * POOL_THREADS)

#define LOOK_NS (50 * NSEC_PER_MSEC) /* how often those in line are looked at */

struct job {
	struct pool_call call;
	struct pool *pool;
	pool_fn *fn;
	void *arg;
	atomic_bool interrupted;
	struct http *_Atomic running; /* whom to wake */
	struct job *next;	      /* pool->lock */
	bool in_line, has_turn;	      /* pool->lock */
	char key[];
};

struct pool {
	struct login *login;
	struct counts *counts;
	size_t max;
	int64_t timeout_ms;
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct job *first, **last;	/* lock; the line */
	pthread_t threads[THREADS_MAX]; /* lock */
	struct http *http[THREADS_MAX]; /* lock */
	size_t count, idle, queued;	/* lock; count is never 0 */
	bool short_of_threads;		/* lock; no thread could be made, and it was said */
	struct map busy;		/* lock; key -> the job that has its turn */
	atomic_bool stop;
};

static int add_thread(struct pool *p);

int pool_new(struct login *login, struct counts *counts, size_t threads, int64_t timeout_ms,
	struct pool **ret)
{
	struct pool *p = xcalloc(1, sizeof(*p));
	int r;

	p->max = threads;
	p->timeout_ms = timeout_ms;
	p->login = login;
	p->counts = counts;
	p->last = &p->first;
	pthread_mutex_init(&p->lock, NULL);
	cond_init(&p->work);
	pthread_mutex_lock(&p->lock);
	r = add_thread(p);
	pthread_mutex_unlock(&p->lock);
	if (r < 0)
		pool_free(p);
	else
		*ret = p;
	return r;
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	map_release(&p->busy);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static int job_check(void *arg)
{
	struct job *job = arg;

	if (atomic_load(&job->pool->stop))
		return -ESHUTDOWN;
	if (atomic_load(&job->interrupted) && process_told_to_stop(job->call.tid))
		return -EINTR;
	return now_monotonic() >= job->call.deadline ? -ETIMEDOUT : 0;
}

void pool_settle(struct pool_call *call)
{
	fuse_req_interrupt_func(call->req, NULL, NULL);
}

/* p->lock held. */
static void line_take(struct pool *p, struct job *job)
{
	struct job **at = &p->first;

	while (*at != job)
		at = &(*at)->next;
	*at = job->next;
	if (p->last == &job->next)
		p->last = at;
	p->queued--;
	job->in_line = false;
}

/*
 * p->lock held. The first job in line that may run: its key's turn has come, or it is cancelled.
 */
static struct job *find_runnable(struct pool *p)
{
	for (struct job *job = p->first; job; job = job->next) {
		if (!job->key[0])
			return job;
		if (!map_get(&p->busy, job->key)) {
			map_set(&p->busy, job->key, job);
			job->has_turn = true;
			return job;
		}
		if (job_check(job) < 0)
			return job;
	}
	return NULL;
}

/* p->lock held. */
static void wait_for_work(struct pool *p)
{
	/* The turn of what stands in line may never come: its deadline does. */
	cond_wait_until(&p->work, &p->lock, p->first ? now_monotonic() + LOOK_NS : INT64_MAX);
}

static struct job *next_job(struct pool *p)
{
	struct job *job;

	pthread_mutex_lock(&p->lock);
	p->idle++;
	while (!(job = find_runnable(p)) && !(atomic_load(&p->stop) && !p->first))
		wait_for_work(p);
	p->idle--;
	if (job)
		line_take(p, job);
	pthread_mutex_unlock(&p->lock);
	return job;
}

static void job_end(struct pool *p, struct job *job)
{
	if (job->has_turn) {
		pthread_mutex_lock(&p->lock);
		map_del(&p->busy, job->key);
		pthread_cond_signal(&p->work);
		pthread_mutex_unlock(&p->lock);
	}
	free(job);
}

struct thread {
	struct pool *pool;
	struct http *http;
};

static void *run(void *arg)
{
	_cleanup_free_ struct thread *t = arg;
	struct job *job;

	while ((job = next_job(t->pool))) {
		job->call.http = t->http;
		atomic_store(&job->running, t->http);
		job->fn(&job->call, job->arg);
		job_end(t->pool, job);
	}
	return NULL;
}

/* p->lock held. -errno where this machine has no room for one now. */
static int add_thread(struct pool *p)
{
	struct thread *t = xcalloc(1, sizeof(*t));
	int r = 0;

	*t = (struct thread){p, http_new(p->login, p->counts)};
	if (!t->http)
		r = -ENOMEM;
	else
		r = -pthread_create(&p->threads[p->count], NULL, run, t);
	if (r < 0) {
		http_free(t->http);
		free(t);
		return r;
	}
	p->http[p->count++] = t->http;
	return 0;
}

/*
 * p->lock held. More calls than threads that wait for one. Where no thread can be made the calls
 * wait for those that there are, and the next call tries again.
 */
static void grow(struct pool *p, size_t max)
{
	int r;

	if (p->count >= max || atomic_load(&p->stop))
		return;
	r = add_thread(p);
	if (r < 0 && !p->short_of_threads)
		log_error("no further thread for calls to the server (there are %zu): %s", p->count,
			strerror(-r));
	p->short_of_threads = r < 0;
}

/* How many threads there may be: connections need descriptors. */
static size_t threads_max(const struct pool *p)
{
	size_t share = descriptors_threads();

	return p->max < share ? p->max : share;
}

/* p->lock held. A thread is to be told once it isn't: else that wakes to wait for the lock. */
static void line_push(struct pool *p, struct job *job, bool first)
{
	job->in_line = true;
	if (first) {
		job->next = p->first;
		p->first = job;
		if (!job->next)
			p->last = &job->next;
	} else {
		job->next = NULL;
		*p->last = job;
		p->last = &job->next;
	}
	/* One that was woken for the job before this one still counts as idle. */
	if (++p->queued > p->idle)
		grow(p, first ? THREADS_MAX : threads_max(p));
}

/* One that waits in line is looked at now: it may be told to stop. */
static void on_interrupt(fuse_req_t req, void *arg)
{
	struct job *job = arg;
	struct pool *p = job->pool;
	struct http *http;

	atomic_store(&job->interrupted, true);
	pthread_mutex_lock(&p->lock);
	if (job->in_line) {
		line_take(p, job);
		line_push(p, job, true);
	}
	pthread_mutex_unlock(&p->lock);
	pthread_cond_signal(&p->work);
	http = atomic_load(&job->running);
	if (http)
		http_wakeup(http);
}

void pool_submit(struct pool *p, fuse_req_t req, const char *key, pool_fn *fn, void *arg)
{
	struct job *job = xcalloc(1, sizeof(*job) + (key ? strlen(key) : 0) + 1);

	if (key)
		strcpy(job->key, key);
	job->call = (struct pool_call){.req = req,
		.check = {job_check, job},
		.deadline = deadline_in_ms(p->timeout_ms),
		.tid = fuse_req_ctx(req)->pid};
	job->pool = p;
	job->fn = fn;
	job->arg = arg;
	fuse_req_interrupt_func(req, on_interrupt, job);
	pthread_mutex_lock(&p->lock);
	if (!atomic_load(&p->stop)) {
		line_push(p, job, atomic_load(&job->interrupted));
		job = NULL;
	}
	pthread_mutex_unlock(&p->lock);
	pthread_cond_signal(&p->work);
	if (job) { /* the threads are gone or going: it is over before it begins */
		job->fn(&job->call, job->arg);
		free(job);
	}
}

void pool_stop(struct pool *p)
{
	size_t count;

	pthread_mutex_lock(&p->lock);
	atomic_store(&p->stop, true);
	count = p->count;
	for (size_t i = 0; i < count; i++)
		if (p->http[i])
			http_wakeup(p->http[i]);
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (size_t i = 0; i < count; i++) {
		pthread_join(p->threads[i], NULL);
		http_free(p->http[i]);
	}
	pthread_mutex_lock(&p->lock);
	p->count = 0;
	pthread_mutex_unlock(&p->lock);
}
