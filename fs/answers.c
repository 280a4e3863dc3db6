#include "fs/answers.h"

#include "client/map.h"

#include <pthread.h>

struct answer {
	char *text;
	size_t len;
	char path[];
};

struct answers {
	pthread_mutex_t lock;
	struct map by_path; /* lock; path -> struct answer */
};

struct answers *answers_new(void)
{
	struct answers *a = xcalloc(1, sizeof(*a));

	pthread_mutex_init(&a->lock, NULL);
	return a;
}

static void answer_free(struct answer *one)
{
	if (!one)
		return;
	free(one->text);
	free(one);
}

void answers_free(struct answers *a)
{
	if (!a)
		return;
	map_foreach(&a->by_path, e) answer_free(e->value);
	map_release(&a->by_path);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

void answers_set(struct answers *a, const char *path, struct buf *text)
{
	struct answer *one = xcalloc(1, sizeof(*one) + strlen(path) + 1), *old;

	strcpy(one->path, path);
	one->text = buf_steal(text, &one->len);
	pthread_mutex_lock(&a->lock);
	old = map_set(&a->by_path, one->path, one);
	pthread_mutex_unlock(&a->lock);
	answer_free(old);
}

int answers_show(struct answers *a, const char *path, struct buf *out)
{
	struct answer *one;
	int r = 0;

	pthread_mutex_lock(&a->lock);
	one = map_get(&a->by_path, path);
	if (one)
		r = buf_add(out, one->text, one->len);
	pthread_mutex_unlock(&a->lock);
	return r;
}
