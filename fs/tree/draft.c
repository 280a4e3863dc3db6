#include "fs/tree/draft.h"

#include <errno.h>
#include <pthread.h>

struct draft {
	pthread_mutex_t lock; /* guards all below */
	char *data;
	size_t len, size;
	size_t max; /* never changes */
	bool loaded;
	bool written;	  /* since open or the last truncation to 0 */
	uint64_t change;  /* counts what changed the bytes */
	uint64_t decided; /* the change that has a verdict; 0: none */
	int verdict;
};

struct draft *draft_new(void)
{
	struct draft *d = xcalloc(1, sizeof(*d));

	pthread_mutex_init(&d->lock, NULL);
	d->change = 1;
	d->max = DRAFT_MAX;
	return d;
}

void draft_allow(struct draft *d, size_t max)
{
	d->max = max;
}

void draft_free(struct draft *d)
{
	if (!d)
		return;
	pthread_mutex_destroy(&d->lock);
	free(d->data);
	free(d);
}

bool draft_is_loaded(struct draft *d)
{
	bool loaded;

	pthread_mutex_lock(&d->lock);
	loaded = d->loaded;
	pthread_mutex_unlock(&d->lock);
	return loaded;
}

/* d->lock held. */
static int resize(struct draft *d, uint64_t len)
{
	if (len > d->max)
		return -EFBIG;
	if (len > d->size) {
		d->size = len > d->size * 2 ? len : d->size * 2;
		d->data = xrealloc(d->data, d->size);
	}
	if (len > d->len)
		memset(d->data + d->len, 0, len - d->len);
	d->len = len;
	return 0;
}

int draft_load(struct draft *d, const char *data, size_t len, bool saved)
{
	int r = 0;

	pthread_mutex_lock(&d->lock);
	if (saved)
		d->loaded = false;
	if (!d->loaded)
		r = resize(d, len);
	if (r == 0 && !d->loaded) {
		if (len)
			memcpy(d->data, data, len);
		d->loaded = true;
		if (saved) {
			d->written = true;
			d->decided = ++d->change;
			d->verdict = 0;
		}
	}
	pthread_mutex_unlock(&d->lock);
	return r;
}

int draft_write(struct draft *d, const char *data, size_t len, uint64_t offset, bool append)
{
	int r = 0;

	pthread_mutex_lock(&d->lock);
	if (append)
		offset = d->len;
	if (offset > d->max || offset + len > d->max)
		r = -EFBIG;
	else if (offset + len > d->len)
		r = resize(d, offset + len);
	if (r == 0 && len) {
		memcpy(d->data + offset, data, len);
		d->written = true;
		d->change++;
	}
	pthread_mutex_unlock(&d->lock);
	return r;
}

int draft_truncate(struct draft *d, uint64_t size)
{
	int r = 0;

	pthread_mutex_lock(&d->lock);
	if (size != d->len) {
		r = resize(d, size);
		d->change += r == 0;
	}
	if (r == 0 && size == 0)
		d->written = false;
	pthread_mutex_unlock(&d->lock);
	return r;
}

size_t draft_size(struct draft *d)
{
	size_t len;

	pthread_mutex_lock(&d->lock);
	len = d->len;
	pthread_mutex_unlock(&d->lock);
	return len;
}

char *draft_read(struct draft *d, uint64_t offset, size_t size, size_t *ret_len)
{
	char *data;

	pthread_mutex_lock(&d->lock);
	if (offset > d->len)
		offset = d->len;
	if (size > d->len - offset)
		size = d->len - offset;
	data = xmalloc(size);
	if (size)
		memcpy(data, d->data + offset, size);
	pthread_mutex_unlock(&d->lock);
	*ret_len = size;
	return data;
}

/* d->lock held. */
static enum draft_state state(const struct draft *d, int *ret_verdict)
{
	if (!d->loaded || !d->written || d->len == 0)
		return DRAFT_CLEAN;
	if (d->decided != d->change)
		return DRAFT_WRITTEN;
	*ret_verdict = d->verdict;
	return DRAFT_DECIDED;
}

enum draft_state draft_state(struct draft *d, int *ret_verdict)
{
	enum draft_state s;

	pthread_mutex_lock(&d->lock);
	s = state(d, ret_verdict);
	pthread_mutex_unlock(&d->lock);
	return s;
}

enum draft_state draft_take(
	struct draft *d, int *ret_verdict, char **ret, size_t *ret_len, uint64_t *ret_change)
{
	enum draft_state s;

	pthread_mutex_lock(&d->lock);
	s = state(d, ret_verdict);
	if (s == DRAFT_WRITTEN) {
		*ret = xmalloc(d->len + 1);
		memcpy(*ret, d->data, d->len);
		(*ret)[d->len] = '\0';
		*ret_len = d->len;
		*ret_change = d->change;
	}
	pthread_mutex_unlock(&d->lock);
	return s;
}

void draft_decide(struct draft *d, uint64_t change, int verdict)
{
	pthread_mutex_lock(&d->lock);
	if (change >= d->decided) { /* not a late one */
		d->decided = change;
		d->verdict = verdict;
	}
	pthread_mutex_unlock(&d->lock);
}

void draft_undecide(struct draft *d)
{
	pthread_mutex_lock(&d->lock);
	d->decided = 0;
	pthread_mutex_unlock(&d->lock);
}
