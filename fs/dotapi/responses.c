#include "fs/dotapi/responses.h"

#include <pthread.h>

#define KEPT	  64
#define BYTES_MAX ((size_t)16 << 20) /* all together; the newest may be larger */

struct answer {
	char *path; /* NULL: none */
	char *text;
	size_t len;
};

struct responses {
	pthread_mutex_t lock;
	struct answer kept[KEPT]; /* lock; a ring, `next` is the oldest */
	size_t next;		  /* lock */
	size_t bytes;		  /* lock; of all texts */
};

struct responses *responses_new(void)
{
	struct responses *a = xcalloc(1, sizeof(*a));

	pthread_mutex_init(&a->lock, NULL);
	return a;
}

static void drop(struct responses *a, struct answer *one)
{
	a->bytes -= one->len;
	free(one->path);
	free(one->text);
	*one = (struct answer){0};
}

void responses_free(struct responses *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < KEPT; i++)
		drop(a, &a->kept[i]);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

/* a->lock held. */
static struct answer *find(struct responses *a, const char *path)
{
	for (size_t i = 0; i < KEPT; i++)
		if (a->kept[i].path && streq(a->kept[i].path, path))
			return &a->kept[i];
	return NULL;
}

void responses_set(struct responses *a, const char *path, struct buf *text)
{
	struct answer one = {.path = xstrdup(path)}, *old;

	one.text = buf_steal(text, &one.len);
	pthread_mutex_lock(&a->lock);
	old = find(a, path);
	if (old)
		drop(a, old);
	drop(a, &a->kept[a->next]);
	for (size_t i = 1; i < KEPT && a->bytes + one.len > BYTES_MAX; i++)
		drop(a, &a->kept[(a->next + i) % KEPT]);
	a->kept[a->next] = one;
	a->next = (a->next + 1) % KEPT;
	a->bytes += one.len;
	pthread_mutex_unlock(&a->lock);
}

int responses_show(struct responses *a, const char *path, struct buf *out)
{
	struct answer *one;
	int r = 0;

	pthread_mutex_lock(&a->lock);
	one = find(a, path);
	if (one)
		r = buf_add(out, one->text, one->len);
	pthread_mutex_unlock(&a->lock);
	return r;
}
