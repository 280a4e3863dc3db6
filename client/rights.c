#include "client/rights.h"

#include "client/clock.h"
#include "client/log.h"
#include "client/map.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#define DOUBT_NS      (2 * NSEC_PER_SEC) /* between two questions, whatever makes us doubt */
#define START_WAIT_NS NSEC_PER_SEC

static const struct {
	enum right right;
	const char *verb, *resource, *subresource;
} table[] = {
	{RIGHT_GET, "get", "imagestreams", ""},
	{RIGHT_LIST, "list", "imagestreams", ""},
	{RIGHT_CREATE, "create", "imagestreams", ""},
	{RIGHT_UPDATE, "update", "imagestreams", ""},
	{RIGHT_PATCH, "patch", "imagestreams", ""},
	{RIGHT_DELETE, "delete", "imagestreams", ""},
	{RIGHT_PATCH_STATUS, "patch", "imagestreams", "status"},
	{RIGHT_DELETE_TAG, "delete", "imagestreamtags", ""},
	{RIGHT_WATCH, "watch", "imagestreams", ""},
};

/* ---- grants ---- */

struct named {
	unsigned rights;
	char name[];
};

struct grants {
	atomic_uint refs;
	unsigned everywhere;
	struct map by_name; /* stream -> struct named */
};

struct grants *grants_ref(struct grants *g)
{
	atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
	return g;
}

void grants_unref(struct grants *g)
{
	if (!g || atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) != 1)
		return;
	map_foreach(&g->by_name, e)
		free(e->value);
	map_release(&g->by_name);
	free(g);
}

static struct grants *grants_new(unsigned everywhere)
{
	struct grants *g = xcalloc(1, sizeof(*g));

	atomic_init(&g->refs, 1);
	g->everywhere = everywhere;
	return g;
}

static bool has(const json_t *list, const char *value)
{
	const json_t *one;
	size_t i;

	json_array_foreach(list, i, one) {
		const char *s = json_string_value(one);

		if (s && (streq(s, "*") || streq(s, value)))
			return true;
	}
	return false;
}

/* A rule names a subresource as RESOURCE/SUB or, of any resource, as STAR/SUB. */
static bool has_resource(const json_t *list, const char *resource, const char *subresource)
{
	_cleanup_free_ char *full = NULL, *any = NULL;

	if (!*subresource)
		return has(list, resource);
	full = xasprintf("%s/%s", resource, subresource);
	any = xasprintf("*/%s", subresource);
	return has(list, full) || has(list, any);
}

static unsigned rights_of_rule(const json_t *rule, const char *group)
{
	const json_t *verbs = json_object_get(rule, "verbs");
	const json_t *resources = json_object_get(rule, "resources");
	unsigned rights = 0;

	if (!has(json_object_get(rule, "apiGroups"), group))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (has(verbs, table[i].verb) &&
			has_resource(resources, table[i].resource, table[i].subresource))
			rights |= table[i].right;
	return rights;
}

static void add_named(struct grants *g, const char *name, unsigned rights)
{
	size_t len = strcspn(name, ":"); /* an imagestreamtag is named STREAM:TAG */
	_cleanup_free_ char *stream = xstrndup(name, len);
	struct named *n = map_get(&g->by_name, stream);

	rights &= name[len] == ':' ? RIGHT_DELETE_TAG : ~RIGHT_DELETE_TAG;
	if (!rights || !*stream)
		return;
	if (!n) {
		n = xcalloc(1, sizeof(*n) + len + 1);
		strcpy(n->name, stream);
		map_set(&g->by_name, n->name, n);
	}
	n->rights |= rights;
}

struct grants *grants_from_rules(const json_t *rules, const char *group, unsigned more)
{
	struct grants *g = grants_new(more);
	const json_t *rule, *name;
	size_t i, k;

	json_array_foreach(rules, i, rule) {
		const json_t *names = json_object_get(rule, "resourceNames");
		unsigned rights = rights_of_rule(rule, group);

		if (json_array_size(names) == 0)
			g->everywhere |= rights;
		/* A list isn't of one name, and what is created has none yet. */
		rights &= ~(RIGHT_LIST | RIGHT_CREATE);
		json_array_foreach(names, k, name) {
			if (json_is_string(name))
				add_named(g, json_string_value(name), rights);
		}
	}
	return g;
}

unsigned grants_everywhere(const struct grants *g)
{
	return g ? g->everywhere : RIGHTS_ALL;
}

unsigned grants_of(const struct grants *g, const char *stream)
{
	const struct named *n;
	unsigned rights;

	if (!g)
		return RIGHTS_ALL;
	rights = g->everywhere;
	if (stream) {
		n = map_get(&g->by_name, stream);
		return rights | (n ? n->rights : 0);
	}
	map_foreach(&g->by_name, e)
		rights |= ((const struct named *)e->value)->rights;
	return rights;
}

void grants_named(const struct grants *g, void (*fn)(void *arg, const char *stream), void *arg)
{
	if (!g)
		return;
	map_foreach(&g->by_name, e) {
		const struct named *n = e->value;

		if (n->rights & RIGHT_GET)
			fn(arg, n->name);
	}
}

static void note(void *arg, const char *stream)
{
	*(bool *)arg = true;
}

bool grants_name(const struct grants *g)
{
	bool any = false;

	grants_named(g, note, &any);
	return any;
}

static bool grants_equal(const struct grants *a, const struct grants *b)
{
	if (a->everywhere != b->everywhere || a->by_name.count != b->by_name.count)
		return false;
	map_foreach(&a->by_name, e) {
		const struct named *n = map_get(&b->by_name, e->key);

		if (!n || n->rights != ((const struct named *)e->value)->rights)
			return false;
	}
	return true;
}

/* ---- the namespaces in use ---- */

struct rights_namespace {
	struct grants *grants; /* NULL: no answer so far */
	int64_t asked, due;    /* monotonic ns; 0: never, at once */
	int64_t answered; /* when what was answered last was asked, also if in vain; 0: never */
	bool doubted;	  /* of the cluster: all of it is asked, not what a watch needs alone */
	char name[];
};

struct rights {
	struct api *api;
	int64_t interval;
	int64_t watched_interval; /* an open watch doesn't tell that the right is gone */
	struct rights_listener listener;
	struct http *http;
	pthread_t thread;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct map namespaces; /* lock; name -> struct rights_namespace */
	bool covered;	       /* lock; the cluster is asked for, too */
	struct rights_namespace *cluster;
	int64_t whole;	     /* the thread's own: when all of the cluster's rights were asked */
	unsigned everywhere; /* lock; what holds in every namespace */
	bool started, stop;  /* lock */
};

static struct rights_namespace *namespace_new(const char *name)
{
	struct rights_namespace *n = xcalloc(1, sizeof(*n) + strlen(name) + 1);

	strcpy(n->name, name);
	return n;
}

static void namespace_free(struct rights_namespace *n)
{
	grants_unref(n->grants);
	free(n);
}

struct rights *rights_new(
	struct api *api, int interval_s, int watched_s, const struct rights_listener *listener)
{
	struct rights *r = xcalloc(1, sizeof(*r));

	r->api = api;
	r->interval = interval_s * NSEC_PER_SEC;
	r->watched_interval = (interval_s < watched_s ? interval_s : watched_s) * NSEC_PER_SEC;
	r->listener = *listener;
	r->http = http_new(api->login, api->counts);
	r->cluster = namespace_new("");
	pthread_mutex_init(&r->lock, NULL);
	cond_init(&r->changed);
	return r;
}

void rights_free(struct rights *r)
{
	if (!r)
		return;
	map_foreach(&r->namespaces, e)
		namespace_free(e->value);
	map_release(&r->namespaces);
	namespace_free(r->cluster);
	http_free(r->http);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* r->lock held. Every namespace is as the cluster is: nothing is to be asked for one. */
static bool is_everything(const struct rights *r)
{
	return r->everywhere == RIGHTS_ALL;
}

/* r->lock held. */
static struct rights_namespace *use(struct rights *r, const char *name)
{
	struct rights_namespace *n = map_get(&r->namespaces, name);

	if (n)
		return n;
	n = namespace_new(name);
	if (is_everything(r)) {
		n->grants = grants_new(RIGHTS_ALL);
		n->answered = now_monotonic();
	}
	map_set(&r->namespaces, n->name, n);
	pthread_cond_broadcast(&r->changed);
	return n;
}

struct grants *rights_get(struct rights *r, const char *ns)
{
	struct grants *g = NULL;
	struct rights_namespace *n;

	pthread_mutex_lock(&r->lock);
	n = map_get(&r->namespaces, ns);
	if (n && n->grants)
		g = grants_ref(n->grants);
	pthread_mutex_unlock(&r->lock);
	return g;
}

void rights_use(struct rights *r, const char *ns)
{
	pthread_mutex_lock(&r->lock);
	use(r, ns);
	pthread_mutex_unlock(&r->lock);
}

/* r->lock held. Waits for a change, at most until then and a tenth of a second. */
static void wait_for_change(struct rights *r, int64_t until)
{
	int64_t soon = deadline_in_ms(100);

	cond_wait_until(&r->changed, &r->lock, until < soon ? until : soon);
}

struct grants *rights_wait(struct rights *r, const char *ns, int64_t since,
	const struct http_check *check, int64_t deadline)
{
	struct grants *g = NULL;
	struct rights_namespace *n;

	pthread_mutex_lock(&r->lock);
	while ((n = use(r, ns))->answered < since && !r->stop && now_monotonic() < deadline) {
		if (n->asked < since)
			n->due = 0;
		pthread_cond_broadcast(&r->changed);
		wait_for_change(r, deadline);
		pthread_mutex_unlock(&r->lock);
		if (check && check->fn(check->arg) < 0)
			return NULL;
		pthread_mutex_lock(&r->lock);
	}
	if (n->grants)
		g = grants_ref(n->grants);
	pthread_mutex_unlock(&r->lock);
	return g;
}

void rights_forget(struct rights *r, const char *ns)
{
	struct rights_namespace *n;

	pthread_mutex_lock(&r->lock);
	n = map_del(&r->namespaces, ns);
	pthread_mutex_unlock(&r->lock);
	if (n)
		namespace_free(n);
}

/* r->lock held. */
static void doubt(struct rights_namespace *n)
{
	int64_t due = n->asked + DOUBT_NS;

	n->doubted = true;
	if (n->asked && due < n->due)
		n->due = due;
}

void rights_doubt(struct rights *r, const char *ns)
{
	struct rights_namespace *n;

	pthread_mutex_lock(&r->lock);
	n = map_get(&r->namespaces, ns);
	if (n)
		doubt(n);
	doubt(r->cluster);
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

/* ---- asking ---- */

static int is_stopped(void *arg)
{
	struct rights *r = arg;
	bool stop;

	pthread_mutex_lock(&r->lock);
	stop = r->stop;
	pthread_mutex_unlock(&r->lock);
	return stop ? -ESHUTDOWN : 0;
}

/* Takes the review's reference. Its answer, or NULL where there was none. */
static json_t *ask(struct rights *r, const struct api_resource *resource, const char *ns,
	json_t *body, int *ret_error)
{
	_cleanup_free_ char *path = resource_path(resource, ns, NULL, NULL);
	struct http_check check = {is_stopped, r};
	struct api_call call = {
		.http = r->http, .check = &check, .deadline = deadline_in_ms(r->api->timeout_ms)};
	struct api_request request = {.method = "POST",
		.path = path,
		.content_type = "application/json",
		.body = body,
		.asks = true};
	_cleanup_status_ struct status status = {0};
	json_t *answer = NULL;

	*ret_error = api_send(r->api, &call, &request, &answer, &status);
	json_decref(body);
	if (*ret_error < 0)
		log_debug("%s: %s", path, status.message);
	return answer;
}

/* 0 and the rules, with a reference, or why not. */
static int ask_rules(struct rights *r, const char *ns, json_t **ret_rules, bool *ret_incomplete)
{
	_cleanup_json_ json_t *answer = NULL, *own = NULL;
	const struct api_resource *old = &r->api->resources->rules_reviews;
	const json_t *status;
	int error;

	answer = ask(r, &resource_rules_reviews, NULL,
		json_pack("{s:s, s:s, s:{s:s}}", "kind", resource_rules_reviews.kind, "apiVersion",
			resource_rules_reviews.api_version, "spec", "namespace", ns),
		&error);
	status = json_object_get(answer, "status");
	if (json_is_array(json_object_get(status, "resourceRules"))) {
		*ret_rules = json_incref(json_object_get(status, "resourceRules"));
		*ret_incomplete = json_is_true(json_object_get(status, "incomplete"));
		return 0;
	}
	if (error != -ENOENT && error != -EACCES && error != -EOPNOTSUPP)
		return error < 0 ? error : -EIO;
	own = ask(r, old, ns,
		json_pack("{s:s, s:s, s:{s:n}}", "kind", old->kind, "apiVersion", old->api_version,
			"spec", "scopes"),
		&error);
	status = json_object_get(own, "status");
	if (!json_is_array(json_object_get(status, "rules")))
		return error < 0 ? error : -EIO;
	*ret_rules = json_incref(json_object_get(status, "rules"));
	*ret_incomplete = json_object_get(status, "evaluationError") != NULL;
	return 0;
}

/* r->lock held. The old one is for the caller. */
static struct grants *set_grants(struct rights *r, struct rights_namespace *n, struct grants *g)
{
	struct grants *old = n->grants;

	n->grants = g;
	return old;
}

/* Those of the set, with commas. The caller frees. */
static char *right_names(unsigned rights)
{
	static const char *const names[] = {"get", "list", "create", "update", "patch", "delete",
		"patch status", "delete tags", "watch"};
	_cleanup_buf_ struct buf out = BUF_INIT(1 << 10);

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (rights & (1u << i))
			buf_addf(&out, "%s%s", out.len ? ", " : "", names[i]);
	return buf_steal(&out, NULL);
}

static void tell_difference(const char *ns, unsigned old, unsigned now)
{
	_cleanup_free_ char *lost = right_names(old & ~now), *won = right_names(now & ~old);
	const char *where = ns && *ns ? ns : "every namespace";

	if (*lost)
		log_notice("rights in %s are lost: %s", where, lost);
	if (*won)
		log_notice("rights in %s are won: %s", where, won);
}

static void tell(
	struct rights *r, const char *ns, const struct grants *old, const struct grants *now)
{
	if (old && !grants_equal(old, now))
		tell_difference(ns, grants_of(old, NULL), grants_of(now, NULL));
	if (!old || !grants_equal(old, now))
		r->listener.changed(r->listener.arg, ns, old, now);
	r->listener.answered(r->listener.arg, ns, now);
}

/* The answer, NULL where the server can't say; `error` where it didn't. */
static void take_answer(struct rights *r, const char *name, struct grants *g, int error)
{
	_cleanup_grants_ struct grants *old = NULL, *now = g ? grants_ref(g) : NULL;
	struct rights_namespace *n;

	pthread_mutex_lock(&r->lock);
	n = map_get(&r->namespaces, name);
	if (n && g)
		old = set_grants(r, n, g);
	if (n)
		n->answered = n->asked;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	if (n && g)
		tell(r, name, old, now);
	else
		grants_unref(g);
	if (error < 0 && error != -ESHUTDOWN)
		log_info("rights in %s: %s", name, strerror(-error));
}

static void ask_namespace(struct rights *r, const char *name)
{
	_cleanup_json_ json_t *rules = NULL;
	struct grants *g = NULL;
	bool incomplete = false;
	unsigned more;
	int error = ask_rules(r, name, &rules, &incomplete);

	pthread_mutex_lock(&r->lock);
	more = incomplete ? RIGHTS_ALL : r->everywhere;
	pthread_mutex_unlock(&r->lock);
	if (error == 0)
		g = grants_from_rules(rules, r->api->resources->streams.group, more);
	take_answer(r, name, g, error);
}

/* Which of these rights hold in every namespace: an empty one stands for all of them. */
static int ask_cluster(struct rights *r, unsigned asked, unsigned *ret_rights)
{
	*ret_rights = 0;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		const struct api_resources *resources = r->api->resources;
		struct review review = {.verb = table[i].verb,
			.resource = table[i].right == RIGHT_DELETE_TAG ? &resources->tags
								       : &resources->streams,
			.subresource = table[i].subresource,
			.ns = ""};
		_cleanup_json_ json_t *answer = NULL;
		const json_t *allowed;
		int error;

		if (!(asked & table[i].right))
			continue;
		answer = ask(r, &resource_access_reviews, NULL, review_body(&review), &error);
		if (error < 0)
			return error;
		allowed = json_object_get(json_object_get(answer, "status"), "allowed");
		if (!json_is_boolean(allowed))
			return -EIO;
		if (json_is_true(allowed))
			*ret_rights |= table[i].right;
	}
	return 0;
}

/* Every namespace in use, copied: the caller frees each and the array. */
static char **names_in_use(struct rights *r, size_t *ret_count)
{
	char **names;
	size_t n = 0;

	pthread_mutex_lock(&r->lock);
	names = xcalloc(r->namespaces.count, sizeof(*names));
	map_foreach(&r->namespaces, e)
		names[n++] = xstrdup(e->key);
	pthread_mutex_unlock(&r->lock);
	*ret_count = n;
	return names;
}

static void grant_everything(struct rights *r)
{
	size_t count;
	_cleanup_free_ char **names = names_in_use(r, &count);

	for (size_t i = 0; i < count; i++) {
		take_answer(r, names[i], grants_new(RIGHTS_ALL), 0);
		free(names[i]);
	}
}

/* All of them once an interval, and what a watch needs each minute. */
static unsigned cluster_rights_due(struct rights *r)
{
	int64_t now = now_monotonic();

	if (r->whole && now < r->whole + r->interval && !r->cluster->doubted)
		return RIGHT_LIST | RIGHT_WATCH;
	r->cluster->doubted = false;
	r->whole = now;
	return RIGHTS_ALL;
}

/* False where the server didn't say: it is as before, and at first each namespace is asked. */
static bool find_cluster_rights(struct rights *r, unsigned *ret_rights)
{
	unsigned asked, found;
	int error;

	pthread_mutex_lock(&r->lock);
	asked = cluster_rights_due(r);
	*ret_rights = r->everywhere;
	pthread_mutex_unlock(&r->lock);
	error = ask_cluster(r, asked, &found);
	if (error == 0)
		*ret_rights = (*ret_rights & ~asked) | found;
	return error == 0;
}

static void take_cluster(struct rights *r)
{
	unsigned rights;
	bool differs, everything, said = find_cluster_rights(r, &rights);
	_cleanup_grants_ struct grants *g = NULL;

	pthread_mutex_lock(&r->lock);
	if (!r->covered) { /* not any more: each namespace is asked for itself */
		pthread_mutex_unlock(&r->lock);
		return;
	}
	differs = r->everywhere != rights || !r->cluster->answered;
	r->everywhere = rights;
	r->cluster->answered = r->cluster->asked;
	everything = is_everything(r);
	if (differs && !everything)
		map_foreach(&r->namespaces, e)
			((struct rights_namespace *)e->value)->due = 0;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	if (said) {
		g = grants_new(rights);
		r->listener.answered(r->listener.arg, NULL, g);
	}
	if (differs && everything)
		grant_everything(r);
}

void rights_cover(struct rights *r, bool cluster)
{
	pthread_mutex_lock(&r->lock);
	if (r->covered == cluster) {
		pthread_mutex_unlock(&r->lock);
		return;
	}
	r->covered = cluster;
	r->cluster->due = 0;
	r->cluster->doubted = true;
	if (!cluster) { /* what each namespace has is to be asked for itself */
		r->everywhere = 0;
		r->cluster->answered = 0;
		map_foreach(&r->namespaces, e)
			((struct rights_namespace *)e->value)->due = 0;
	}
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

/* ---- the thread ---- */

/* r->lock held. What is due first: those never asked come before those to be asked again. */
static struct rights_namespace *next(struct rights *r)
{
	struct rights_namespace *first = r->covered ? r->cluster : NULL;

	if (is_everything(r) || (r->covered && !r->cluster->answered))
		return first;
	map_foreach(&r->namespaces, e) {
		struct rights_namespace *n = e->value;

		if (!first || n->due < first->due)
			first = n;
	}
	return first;
}

/* r->lock held. Whether a watch stands on these rights. */
static bool is_watched(const struct rights *r, const struct rights_namespace *n)
{
	return n == r->cluster || !r->covered;
}

static void *run(void *arg)
{
	struct rights *r = arg;

	pthread_mutex_lock(&r->lock);
	while (!r->stop) {
		struct rights_namespace *n = next(r);
		int64_t now = now_monotonic();
		_cleanup_free_ char *name = NULL;

		if (!n) {
			pthread_cond_wait(&r->changed, &r->lock);
			continue;
		}
		if (n->due > now) {
			cond_wait_until(&r->changed, &r->lock, n->due);
			continue;
		}
		n->asked = now;
		n->due = now + (is_watched(r, n) ? r->watched_interval : r->interval);
		name = xstrdup(n->name);
		pthread_mutex_unlock(&r->lock);
		if (*name)
			ask_namespace(r, name);
		else
			take_cluster(r);
		pthread_mutex_lock(&r->lock);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

int rights_start(struct rights *r, bool cluster)
{
	bool started;

	int64_t deadline = now_monotonic() + START_WAIT_NS;

	pthread_mutex_lock(&r->lock);
	r->covered = cluster;
	r->started = !r->stop && pthread_create(&r->thread, NULL, run, r) == 0;
	started = r->started || r->stop;
	while (cluster && r->started && !r->cluster->answered && !r->stop &&
		now_monotonic() < deadline)
		wait_for_change(r, deadline);
	pthread_mutex_unlock(&r->lock);
	return started ? 0 : -EAGAIN;
}

void rights_stop(struct rights *r)
{
	bool started;

	pthread_mutex_lock(&r->lock);
	r->stop = true;
	started = r->started;
	r->started = false;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	if (!started)
		return;
	http_wakeup(r->http);
	pthread_join(r->thread, NULL);
}
