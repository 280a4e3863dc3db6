#include "fs/turns.h"

#include "client/map.h"

#include <errno.h>
#include <pthread.h>

#define LOOK_NS (50 * NSEC_PER_MSEC) /* how often a waiting call looks whether it is cancelled */

struct turn {
	unsigned waiting;
	bool taken;
	char key[];
};

struct turns {
	pthread_mutex_t lock;
	pthread_cond_t ended;
	struct map turns; /* lock; key -> struct turn */
};

struct turns *turns_new(void)
{
	struct turns *t = xcalloc(1, sizeof(*t));
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->ended, &attr);
	pthread_condattr_destroy(&attr);
	return t;
}

void turns_free(struct turns *t)
{
	if (!t)
		return;
	map_release(&t->turns);
	pthread_cond_destroy(&t->ended);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* t->lock held. */
static struct turn *get(struct turns *t, const char *key)
{
	struct turn *turn = map_get(&t->turns, key);

	if (!turn) {
		turn = xcalloc(1, sizeof(*turn) + strlen(key) + 1);
		strcpy(turn->key, key);
		map_set(&t->turns, turn->key, turn);
	}
	return turn;
}

static void drop_unused(struct turns *t, struct turn *turn)
{
	if (turn->taken || turn->waiting)
		return;
	map_del(&t->turns, turn->key);
	free(turn);
}

int turns_begin(struct turns *t, const char *key, const struct api_call *call)
{
	struct turn *turn;
	int r = 0;

	pthread_mutex_lock(&t->lock);
	turn = get(t, key);
	turn->waiting++;
	while (turn->taken && r == 0) {
		int64_t until = now_monotonic() + LOOK_NS;
		struct timespec ts = {until / NSEC_PER_SEC, until % NSEC_PER_SEC};

		pthread_cond_timedwait(&t->ended, &t->lock, &ts);
		if (!turn->taken)
			break;
		pthread_mutex_unlock(&t->lock);
		r = call->check ? call->check->fn(call->check->arg) : 0;
		if (r == 0 && now_monotonic() >= call->deadline)
			r = -ETIMEDOUT;
		pthread_mutex_lock(&t->lock);
	}
	turn->waiting--;
	if (r == 0)
		turn->taken = true;
	drop_unused(t, turn);
	pthread_mutex_unlock(&t->lock);
	return r;
}

void turns_end(struct turns *t, const char *key)
{
	struct turn *turn;

	pthread_mutex_lock(&t->lock);
	turn = map_get(&t->turns, key);
	turn->taken = false;
	drop_unused(t, turn);
	pthread_cond_broadcast(&t->ended);
	pthread_mutex_unlock(&t->lock);
}
