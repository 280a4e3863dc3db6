#include "client/counts.h"

#include "client/clock.h"

#include <inttypes.h>
#include <pthread.h>

/* HTTP's, WATCH for those that go on, and whatever else comes. */
static const char *const verbs[] = {"GET", "WATCH", "POST", "PUT", "PATCH", "DELETE", "other"};
static const double bounds[] = {0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60};

#define VERBS ARRAY_SIZE(verbs)
#define CODES 600

struct counts {
	pthread_mutex_t lock;
	uint64_t requests[VERBS][CODES];		 /* lock */
	uint64_t buckets[VERBS][ARRAY_SIZE(bounds) + 1]; /* lock */
	int64_t ns[VERBS];				 /* lock */
};

struct counts *counts_new(void)
{
	struct counts *c = xcalloc(1, sizeof(*c));

	pthread_mutex_init(&c->lock, NULL);
	return c;
}

void counts_free(struct counts *c)
{
	if (!c)
		return;
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void counts_add(struct counts *c, const char *verb, long code, int64_t ns)
{
	size_t v = 0, bucket = 0;

	while (v < VERBS - 1 && !streq(verbs[v], verb))
		v++;
	while (bucket < ARRAY_SIZE(bounds) && (double)ns > bounds[bucket] * NSEC_PER_SEC)
		bucket++;
	pthread_mutex_lock(&c->lock);
	c->requests[v][code > 0 && code < CODES ? code : 0]++;
	c->buckets[v][bucket]++;
	c->ns[v] += ns;
	pthread_mutex_unlock(&c->lock);
}

static void show_histogram(const struct counts *c, size_t v, struct buf *out)
{
	uint64_t total = 0;

	for (size_t i = 0; i <= ARRAY_SIZE(bounds); i++)
		total += c->buckets[v][i];
	if (total == 0)
		return;
	total = 0;
	for (size_t i = 0; i < ARRAY_SIZE(bounds); i++) {
		total += c->buckets[v][i];
		buf_addf(out,
			"imagestreamfs_request_duration_seconds_bucket{verb=\"%s\",le=\"%g\"} "
			"%" PRIu64 "\n",
			verbs[v], bounds[i], total);
	}
	total += c->buckets[v][ARRAY_SIZE(bounds)];
	buf_addf(out,
		"imagestreamfs_request_duration_seconds_bucket{verb=\"%s\",le=\"+Inf\"} %" PRIu64
		"\nimagestreamfs_request_duration_seconds_sum{verb=\"%s\"} %.6f"
		"\nimagestreamfs_request_duration_seconds_count{verb=\"%s\"} %" PRIu64 "\n",
		verbs[v], total, verbs[v], (double)c->ns[v] / NSEC_PER_SEC, verbs[v], total);
}

int counts_show(struct counts *c, struct buf *out)
{
	struct counts *copy = xmalloc(sizeof(*copy));
	int r;

	pthread_mutex_lock(&c->lock);
	*copy = *c;
	pthread_mutex_unlock(&c->lock);
	buf_addstr(out,
		"# HELP imagestreamfs_requests_total Requests by verb and HTTP code (0: none).\n"
		"# TYPE imagestreamfs_requests_total counter\n");
	for (size_t v = 0; v < VERBS; v++)
		for (size_t code = 0; code < CODES; code++)
			if (copy->requests[v][code])
				buf_addf(out,
					"imagestreamfs_requests_total{verb=\"%s\",code=\"%zu\"} "
					"%" PRIu64 "\n",
					verbs[v], code, copy->requests[v][code]);
	r = buf_addstr(out, "# HELP imagestreamfs_request_duration_seconds Time to a whole answer; "
			    "of a watch, to its start.\n"
			    "# TYPE imagestreamfs_request_duration_seconds histogram\n");
	for (size_t v = 0; v < VERBS; v++)
		show_histogram(copy, v, out);
	free(copy);
	return r;
}
