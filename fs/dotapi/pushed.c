#include "fs/dotapi/pushed.h"

#include "client/clock.h"
#include "fs/dotapi/pushes.h"

#include <pthread.h>

struct pushed {
	int64_t since; /* ns since 1970 */
	pthread_mutex_t lock;
	json_t *counts; /* lock */
};

struct pushed *pushed_new(void)
{
	struct pushed *p = xcalloc(1, sizeof(*p));

	p->since = now_realtime();
	p->counts = json_object();
	pthread_mutex_init(&p->lock, NULL);
	return p;
}

void pushed_free(struct pushed *p)
{
	if (!p)
		return;
	pthread_mutex_destroy(&p->lock);
	json_decref(p->counts);
	free(p);
}

void pushed_note(void *pushed, const struct object *before, const struct object *now)
{
	struct pushed *p = pushed;
	size_t n = pushes_count(before, now, p->since);
	_cleanup_free_ char *ns = n ? object_key_namespace(now->key) : NULL;
	json_int_t sum;

	if (!n)
		return;
	pthread_mutex_lock(&p->lock);
	sum = json_integer_value(json_object_get(p->counts, ns));
	json_object_set_new(p->counts, ns, json_integer(sum + (json_int_t)n));
	pthread_mutex_unlock(&p->lock);
}

json_t *pushed_counts(struct pushed *p)
{
	json_t *counts;

	pthread_mutex_lock(&p->lock);
	counts = json_deep_copy(p->counts);
	pthread_mutex_unlock(&p->lock);
	return counts;
}
