#include "fs/pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

struct job {
	struct pool_call call;
	struct pool *pool;
	pool_fn *fn;
	void *arg;
	pid_t caller;
	atomic_bool interrupted;
	struct http *_Atomic running; /* whom to wake */
	struct job *next;
};

struct pool {
	struct config *config;
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct job *first, **last;	 /* lock; the line */
	pthread_t threads[POOL_THREADS]; /* lock */
	struct http *http[POOL_THREADS]; /* lock */
	size_t count, idle;		 /* lock */
	atomic_bool stop;
};

struct pool *pool_new(struct config *config)
{
	struct pool *p = xcalloc(1, sizeof(*p));

	p->config = config;
	p->last = &p->first;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	return p;
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static bool mask_line(const char *status, const char *name, uint64_t *ret)
{
	const char *line = strstr(status, name);

	return line && sscanf(line + strlen(name), " %lx", ret) == 1;
}

/*
 * Whether the thread has a signal pending that means stop. FUSE_INTERRUPT itself comes for any
 * signal, once a request: a terminal that is resized, a timer, a child that ended.
 */
static bool told_to_stop(pid_t tid)
{
	static const int stops[] = {SIGINT, SIGQUIT, SIGHUP, SIGTERM, SIGKILL};
	_cleanup_free_ char *path = xasprintf("/proc/%d/status", tid);
	_cleanup_free_ char *status = NULL;
	uint64_t own = 0, shared = 0, blocked = 0, ignored = 0, pending;
	size_t len;

	if (tid == 0 || read_file(path, 65536, &status, &len) < 0)
		return true; /* out of our sight, or gone */
	if (!mask_line(status, "\nSigPnd:", &own) || !mask_line(status, "\nShdPnd:", &shared) ||
		!mask_line(status, "\nSigBlk:", &blocked) ||
		!mask_line(status, "\nSigIgn:", &ignored))
		return true;
	pending = (own | shared) & ~blocked & ~ignored;
	for (size_t i = 0; i < ARRAY_SIZE(stops); i++)
		if (pending & (UINT64_C(1) << (stops[i] - 1)))
			return true;
	return false;
}

static int job_check(void *arg)
{
	struct job *job = arg;

	if (atomic_load(&job->pool->stop))
		return -ESHUTDOWN;
	if (atomic_load(&job->interrupted) && told_to_stop(job->caller))
		return -EINTR;
	return 0;
}

static void on_interrupt(fuse_req_t req, void *arg)
{
	struct job *job = arg;
	struct http *http;

	atomic_store(&job->interrupted, true);
	http = atomic_load(&job->running);
	if (http)
		http_wakeup(http);
}

void pool_settle(struct pool_call *call)
{
	fuse_req_interrupt_func(call->req, NULL, NULL);
}

static struct job *next_job(struct pool *p)
{
	struct job *job;

	pthread_mutex_lock(&p->lock);
	p->idle++;
	while (!p->first && !atomic_load(&p->stop))
		pthread_cond_wait(&p->work, &p->lock);
	p->idle--;
	job = p->first;
	if (job) {
		p->first = job->next;
		if (!p->first)
			p->last = &p->first;
	}
	pthread_mutex_unlock(&p->lock);
	return job;
}

static void *run(void *arg)
{
	struct pool *p = arg;
	struct http *http = http_new(p->config);
	struct job *job;

	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < p->count; i++)
		if (pthread_equal(p->threads[i], pthread_self()))
			p->http[i] = http;
	pthread_mutex_unlock(&p->lock);
	while ((job = next_job(p))) {
		job->call.http = http;
		atomic_store(&job->running, http);
		job->fn(&job->call, job->arg);
		free(job);
	}
	return NULL;
}

/* p->lock held. */
static void add_thread(struct pool *p)
{
	if (pthread_create(&p->threads[p->count], NULL, run, p) == 0)
		p->count++;
	else if (p->count == 0)
		abort(); /* nobody would ever answer */
}

void pool_submit(struct pool *p, fuse_req_t req, pool_fn *fn, void *arg)
{
	struct job *job = xcalloc(1, sizeof(*job));

	job->call = (struct pool_call){.req = req, .check = {job_check, job}};
	job->pool = p;
	job->fn = fn;
	job->arg = arg;
	job->caller = fuse_req_ctx(req)->pid;
	fuse_req_interrupt_func(req, on_interrupt, job);
	pthread_mutex_lock(&p->lock);
	*p->last = job;
	p->last = &job->next;
	if (p->idle == 0 && p->count < POOL_THREADS)
		add_thread(p);
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
}

void pool_stop(struct pool *p)
{
	size_t count;

	atomic_store(&p->stop, true);
	pthread_mutex_lock(&p->lock);
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
	p->count = 0;
}
