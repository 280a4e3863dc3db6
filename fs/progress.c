#include "fs/progress.h"

#include "client/clock.h"

#include <pthread.h>

#define FIRST_MS 1000 /* what is quicker needs no line */
#define NEXT_MS	 200

struct progress {
	progress_count_fn *count;
	void *arg;
	pthread_t thread;
	pthread_mutex_t lock; /* a leaf */
	pthread_cond_t changed;
	bool ends;
};

static void say(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return; /* the terminal has gone */
}

/* True when the start is over before that. */
static bool wait_for_end(struct progress *p, int64_t ms)
{
	int64_t until = deadline_in_ms(ms);
	bool ends;

	pthread_mutex_lock(&p->lock);
	while (!p->ends && cond_wait_until(&p->changed, &p->lock, until))
		;
	ends = p->ends;
	pthread_mutex_unlock(&p->lock);
	return ends;
}

static void *run(void *arg)
{
	struct progress *p = arg;
	bool said = false;

	for (int64_t ms = FIRST_MS; !wait_for_end(p, ms); ms = NEXT_MS) {
		_cleanup_free_ char *line =
			xasprintf("\rimagestreamfs: %zu imagestreams so far", p->count(p->arg));

		say(line);
		said = true;
	}
	if (said)
		say("\r\033[K");
	return NULL;
}

struct progress *progress_begin(progress_count_fn *count, void *arg)
{
	struct progress *p;

	if (!isatty(STDERR_FILENO))
		return NULL;
	p = xcalloc(1, sizeof(*p));
	p->count = count;
	p->arg = arg;
	pthread_mutex_init(&p->lock, NULL);
	cond_init(&p->changed);
	if (pthread_create(&p->thread, NULL, run, p) == 0)
		return p;
	free(p);
	return NULL;
}

void progress_end(struct progress *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->ends = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
	pthread_join(p->thread, NULL);
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
