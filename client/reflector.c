#include "client/reflector.h"

#include "client/absent.h"
#include "client/clock.h"
#include "client/log.h"
#include "client/map.h"
#include "client/scope.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>

struct reflector {
	struct scope_shared shared; /* its lock guards what says so below */
	struct reflector_options options;
	struct absents *absents;
	pthread_t thread;

	struct scope *scopes;	  /* lock for the links; only the reflector's thread frees one */
	struct scope *cluster;	  /* set by reflector_new; NULL: only some namespaces are wanted */
	struct scope *namespaces; /* all of them; likewise */
	bool covers;		  /* the thread's own: what options.covers was told last */
	struct map by_namespace;  /* lock; name -> its SCOPE_STREAMS */
	struct map by_key;	  /* lock; path of a SCOPE_STREAM -> it */
	bool started, stop;	  /* lock */
	bool renewed;		  /* lock; the credentials */
};

/* ---- the scopes ---- */

/* lock held, once the thread runs. */
static struct scope *add_scope(
	struct reflector *r, enum scope_kind kind, const char *ns, const char *name)
{
	struct scope *s = scope_new(&r->shared, kind, ns, name);

	s->next = r->scopes;
	r->scopes = s;
	if (kind == SCOPE_STREAMS)
		map_set(&r->by_namespace, s->ns, s);
	else if (kind == SCOPE_STREAM)
		map_set(&r->by_key, s->path, s);
	return s;
}

/* The namespaces and the whole cluster; or each namespace that is wanted, by name. */
static void add_first_scopes(struct reflector *r)
{
	const json_t *name;
	size_t i;

	json_array_foreach(r->options.namespaces, i, name)
		add_scope(r, SCOPE_NAMESPACE, NULL, json_string_value(name))->first = true;
	if (r->options.namespaces)
		return;
	r->cluster = add_scope(r, SCOPE_CLUSTER, NULL, NULL);
	r->namespaces = add_scope(r, SCOPE_NAMESPACES, NULL, NULL);
	r->cluster->first = r->namespaces->first = true;
}

/*
 * Links only grow at the head, and only this thread takes one out: the rest can be walked without
 * the lock.
 */
static struct scope *first_scope(struct reflector *r)
{
	struct scope *s;

	pthread_mutex_lock(&r->shared.lock);
	s = r->scopes;
	pthread_mutex_unlock(&r->shared.lock);
	return s;
}

/* lock held. */
static void unlink_scope(struct reflector *r, struct scope *s)
{
	struct scope **at = &r->scopes;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	if (s->kind == SCOPE_STREAMS)
		map_del(&r->by_namespace, s->ns);
	else if (s->kind == SCOPE_STREAM)
		map_del(&r->by_key, s->path);
}

static void free_ended_scopes(struct reflector *r)
{
	for (struct scope *s = first_scope(r), *next; s; s = next) {
		next = s->next;
		if (!s->ended)
			continue;
		pthread_mutex_lock(&r->shared.lock);
		unlink_scope(r, s);
		pthread_cond_broadcast(&r->shared.changed);
		pthread_mutex_unlock(&r->shared.lock);
		scope_free(s);
	}
}

/* Those of streams in the namespace (NULL: any); by name alone where `by_name`. */
static void end_scopes(struct reflector *r, const char *ns, bool by_name)
{
	for (struct scope *s = first_scope(r); s; s = s->next)
		if ((s->kind == SCOPE_STREAM || (s->kind == SCOPE_STREAMS && !by_name)) &&
			(!ns || streq(s->ns, ns)))
			scope_end(s);
}

/* ---- what happens to them; the reflector's thread, without the lock ---- */

static void tell_covers(struct reflector *r, const char *ns, bool covers)
{
	if (r->options.covers)
		r->options.covers(r->options.arg, ns, covers);
}

static void on_listed(void *arg, struct scope *s)
{
	struct reflector *r = arg;
	_cleanup_json_ json_t *unlisted = NULL;

	if (s->kind == SCOPE_NAMESPACES && s->unnamed)
		return; /* it may be any of those that seem to be missing */
	if (s->kind == SCOPE_NAMESPACES) {
		unlisted = store_unlisted_namespaces(r->shared.store, s->list);
		absents_listed(r->absents, unlisted, s->list_asked);
	} else if (s->kind == SCOPE_STREAMS) {
		end_scopes(r, s->ns, true); /* the list has them */
	} else if (s->kind == SCOPE_CLUSTER) {
		end_scopes(r, NULL, false);
		if (!r->covers)
			tell_covers(r, NULL, true);
		r->covers = true;
	}
}

/*
 * A watch of the cluster is lost: what each namespace shows goes on by a list of its own, or goes
 * with the next refusal, since the right is gone for sure.
 */
static void split_cluster(struct reflector *r, const struct refusals *refusals)
{
	_cleanup_json_ json_t *names = store_used_namespaces(r->shared.store);
	const json_t *name;
	size_t i;

	json_array_foreach(names, i, name) {
		struct scope *s;

		pthread_mutex_lock(&r->shared.lock);
		s = map_get(&r->by_namespace, json_string_value(name));
		if (!s)
			s = add_scope(r, SCOPE_STREAMS, json_string_value(name), NULL);
		s->synced = true;
		s->refusals = *refusals;
		pthread_mutex_unlock(&r->shared.lock);
	}
}

/* Perhaps the namespace went, or came back. */
static void look_at_namespace(struct reflector *r, const char *name)
{
	for (struct scope *s = first_scope(r); s; s = s->next)
		if (s->kind == SCOPE_NAMESPACES ||
			(s->kind == SCOPE_NAMESPACE && streq(s->name, name)))
			scope_relist(s);
}

/*
 * Under --namespace, where neither the namespace nor its streams may be read, nothing is left of
 * it.
 */
static void drop_forbidden(struct reflector *r, const char *name)
{
	for (struct scope *s = first_scope(r); s; s = s->next)
		if (s->kind == SCOPE_NAMESPACE && s->forbidden && streq(s->name, name))
			store_delete_namespace(r->shared.store, name);
}

static bool is_listed(struct reflector *r, const char *ns)
{
	struct store_namespace found;

	return store_get_namespace(r->shared.store, ns, &found);
}

/* No list tells any more which of them are there: each is asked for. */
static void doubt_namespaces(struct reflector *r)
{
	_cleanup_json_ json_t *names = store_unlisted_namespaces(r->shared.store, UINT64_MAX);
	const json_t *name;
	size_t i;

	json_array_foreach(names, i, name)
		absents_add(r->absents, json_string_value(name), true);
}

static void on_refused(void *arg, struct scope *s)
{
	struct reflector *r = arg;

	if (s->kind == SCOPE_CLUSTER && s->synced) {
		r->covers = false;
		split_cluster(r, &s->refusals);
		tell_covers(r, NULL, false);
	} else if (s->kind == SCOPE_NAMESPACES && s->synced) {
		doubt_namespaces(r);
	} else if (s->kind == SCOPE_STREAMS) {
		tell_covers(r, s->ns, false);
		look_at_namespace(r, s->ns);
		if (s->synced)
			drop_forbidden(r, s->ns);
		if (s->synced && r->namespaces && !is_listed(r, s->ns))
			s->ended = true; /* whoever asks for it by name begins anew */
	} else if (s->kind == SCOPE_STREAM && !s->keep) {
		s->ended = true; /* likewise */
	}
}

static void on_seen(void *arg, const char *ns)
{
	struct reflector *r = arg;

	absents_remove(r->absents, ns);
}

/* Where nobody lists the namespaces, no list can say that it is still missing. */
static void on_missing(void *arg, const char *ns)
{
	struct reflector *r = arg;

	absents_add(r->absents, ns, !r->namespaces || r->namespaces->state == SCOPE_REFUSED);
}

static const struct scope_events scope_events = {on_listed, on_refused, on_seen, on_missing};

/* A namespace is gone for sure, and takes along what only its own list covers. */
static void on_gone(void *arg, const char *ns)
{
	struct reflector *r = arg;

	if (!r->covers) {
		if (r->namespaces) /* else it is wanted all the same, should it come back */
			end_scopes(r, ns, false);
		store_drop(r->shared.store, ns);
	}
	store_delete_namespace(r->shared.store, ns);
}

static void on_namespace_refused(void *arg, const char *ns)
{
	struct reflector *r = arg;

	for (struct scope *s = first_scope(r); s; s = s->next)
		if (s->kind >= SCOPE_STREAMS && streq(s->ns, ns) && s->state != SCOPE_REFUSED)
			scope_relist(s);
}

/* ---- from start to end ---- */

static bool is_stopping(struct reflector *r)
{
	bool stop;

	pthread_mutex_lock(&r->shared.lock);
	stop = r->stop;
	pthread_mutex_unlock(&r->shared.lock);
	return stop;
}

static int check_stop(void *arg)
{
	return is_stopping(arg) ? -ESHUTDOWN : 0;
}

struct reflector *reflector_new(
	struct api *api, struct store *store, const struct reflector_options *options)
{
	struct reflector *r = xcalloc(1, sizeof(*r));
	struct absents_listener listener = {on_gone, on_namespace_refused, r};

	r->options = *options;
	r->shared = (struct scope_shared){.api = api,
		.store = store,
		.http = http_new(api->login, api->counts),
		.watch_timeout = options->watch_timeout,
		.poll_interval = options->poll_interval,
		.confirm_interval = options->confirm_interval * NSEC_PER_SEC,
		.selector = options->selector,
		.seed = (unsigned)now_realtime() ^ (unsigned)getpid(),
		.events = &scope_events,
		.check = check_stop,
		.arg = r};
	pthread_mutex_init(&r->shared.lock, NULL);
	cond_init(&r->shared.changed);
	r->absents = absents_new(api, r->shared.http, r->shared.confirm_interval, &listener);
	add_first_scopes(r);
	return r;
}

void reflector_free(struct reflector *r)
{
	if (!r)
		return;
	absents_free(r->absents);
	while (r->scopes) {
		struct scope *s = r->scopes;

		r->scopes = s->next;
		scope_free(s);
	}
	map_release(&r->by_namespace);
	map_release(&r->by_key);
	http_free(r->shared.http);
	pthread_cond_destroy(&r->shared.changed);
	pthread_mutex_destroy(&r->shared.lock);
	free(r);
}

static bool take_renewed(struct reflector *r)
{
	bool renewed;

	pthread_mutex_lock(&r->shared.lock);
	renewed = r->renewed;
	r->renewed = false;
	pthread_mutex_unlock(&r->shared.lock);
	return renewed;
}

void reflector_renew(struct reflector *r)
{
	pthread_mutex_lock(&r->shared.lock);
	r->renewed = true;
	pthread_mutex_unlock(&r->shared.lock);
	http_wakeup(r->shared.http);
}

/*
 * Every scope and every missing namespace takes its next step. When to look again (monotonic ns).
 */
static int64_t step(struct reflector *r)
{
	int64_t now = now_monotonic(), next = now + NSEC_PER_SEC, due;
	bool renewed = take_renewed(r), list = false;

	due = absents_step(r->absents, now, &list);
	if (due < next)
		next = due;
	for (struct scope *s = first_scope(r); s; s = s->next) {
		if (renewed)
			scope_renew(s);
		if (list && s == r->namespaces)
			scope_relist(s);
		due = scope_step(s, now);
		if (due < next)
			next = due;
	}
	return next;
}

static void *run(void *arg)
{
	struct reflector *r = arg;

	while (!is_stopping(r)) {
		http_run(r->shared.http, ms_until(step(r)));
		free_ended_scopes(r);
		if (r->shared.listed)
			malloc_trim(0); /* pages, and trees of what wasn't plain */
		r->shared.listed = false;
	}
	return NULL;
}

void reflector_start(struct reflector *r)
{
	pthread_mutex_lock(&r->shared.lock);
	r->started = pthread_create(&r->thread, NULL, run, r) == 0;
	pthread_mutex_unlock(&r->shared.lock);
}

void reflector_stop(struct reflector *r)
{
	bool started;

	pthread_mutex_lock(&r->shared.lock);
	r->stop = true;
	started = r->started;
	r->started = false;
	pthread_cond_broadcast(&r->shared.changed);
	pthread_mutex_unlock(&r->shared.lock);
	if (!started)
		return;
	http_wakeup(r->shared.http);
	pthread_join(r->thread, NULL);
}

/* Whether the error passes by itself, so that a start waits for it. */
static bool passes(int error)
{
	return error == EAGAIN || error == EIO || error == ECONNRESET || error == ESTALE;
}

/* lock held. What is still missing before there is a mount, and will not come. */
static bool is_fatal(const struct scope *s)
{
	if (s->synced || !s->error)
		return false;
	if (s->state == SCOPE_REFUSED) /* one that was asked for by name has to be there */
		return s->kind == SCOPE_NAMESPACE && s->error == ENOENT;
	return true;
}

/* lock held. */
static bool has_first_answer(const struct scope *s, int64_t deadline)
{
	return s->synced || s->state == SCOPE_REFUSED ||
	       (s->error && (!passes(s->error) || now_monotonic() >= deadline));
}

/* lock held. Waits for a change, a tenth of a second at most. */
static void wait_for_change(struct reflector *r)
{
	cond_wait_until(&r->shared.changed, &r->shared.lock, deadline_in_ms(100));
}

int reflector_wait_start(struct reflector *r, int64_t deadline, char **ret_error)
{
	const struct scope *failed = NULL;
	bool all = false;
	int error = 0;

	pthread_mutex_lock(&r->shared.lock);
	while (r->started && !r->stop && !all) {
		all = true;
		for (const struct scope *s = r->scopes; s; s = s->next)
			all = all && (!s->first || has_first_answer(s, deadline));
		if (!all)
			wait_for_change(r);
	}
	for (const struct scope *s = r->scopes; s; s = s->next)
		if (s->first && is_fatal(s))
			failed = s;
	if (r->stop) {
		error = EINTR;
		*ret_error = xstrdup("told to stop");
	} else if (!r->started) {
		error = EAGAIN;
		*ret_error = xstrdup("no thread can be made here");
	} else if (failed) {
		error = failed->error;
		*ret_error = xasprintf("%s%s: %s", r->shared.api->config->server, failed->path,
			failed->error_message);
	}
	pthread_mutex_unlock(&r->shared.lock);
	return -error;
}

/* ---- for other threads ---- */

bool reflector_covers_cluster(struct reflector *r)
{
	bool covers;

	pthread_mutex_lock(&r->shared.lock);
	covers = r->cluster && r->cluster->synced && r->cluster->state != SCOPE_REFUSED;
	pthread_mutex_unlock(&r->shared.lock);
	return covers;
}

/* lock held. */
static struct scope *scope_of(struct reflector *r, const char *ns, bool *ret_new)
{
	struct scope *s = r->cluster;

	if (s && s->state != SCOPE_REFUSED && (s->synced || !s->error))
		return s;
	s = map_get(&r->by_namespace, ns);
	*ret_new = !s;
	return s ? s : add_scope(r, SCOPE_STREAMS, ns, NULL);
}

int reflector_need(struct reflector *r, const char *ns)
{
	struct scope *s;
	bool is_new = false;
	int error;

	pthread_mutex_lock(&r->shared.lock);
	s = scope_of(r, ns, &is_new);
	if (s->state == SCOPE_REFUSED && !atomic_load(&s->doubted))
		error = -s->error;
	else
		error = s->synced ? 0 : -EAGAIN;
	pthread_mutex_unlock(&r->shared.lock);
	if (is_new)
		http_wakeup(r->shared.http);
	return error;
}

int reflector_wait(
	struct reflector *r, const char *ns, const struct http_check *check, int64_t timeout_ms)
{
	int64_t deadline = deadline_in_ms(timeout_ms);
	int error;

	while ((error = reflector_need(r, ns)) == -EAGAIN) {
		if (now_monotonic() >= deadline)
			return -ETIMEDOUT;
		if (check && check->fn(check->arg) < 0)
			return check->fn(check->arg);
		pthread_mutex_lock(&r->shared.lock);
		if (!r->stop)
			wait_for_change(r);
		else
			deadline = 0;
		pthread_mutex_unlock(&r->shared.lock);
	}
	return error;
}

void reflector_add_stream(struct reflector *r, const char *ns, const char *name, bool keep)
{
	_cleanup_free_ char *path = api_stream_path(r->shared.api, ns, name);
	struct scope *s;

	pthread_mutex_lock(&r->shared.lock);
	if (map_get(&r->by_namespace, ns) && !map_get(&r->by_key, path)) {
		s = add_scope(r, SCOPE_STREAM, ns, name);
		s->keep = keep;
		s->version = xstrdup(""); /* the watch begins with what is there */
		s->synced = true;
	}
	pthread_mutex_unlock(&r->shared.lock);
	http_wakeup(r->shared.http);
}

bool reflector_lists_namespaces(struct reflector *r)
{
	bool lists;

	pthread_mutex_lock(&r->shared.lock);
	lists = r->namespaces && r->namespaces->state != SCOPE_REFUSED;
	pthread_mutex_unlock(&r->shared.lock);
	return lists;
}

void reflector_doubt(struct reflector *r, const char *ns)
{
	pthread_mutex_lock(&r->shared.lock);
	for (struct scope *s = r->scopes; s; s = s->next)
		if (s->ns && streq(s->ns, ns))
			atomic_store(&s->doubted, true);
	pthread_mutex_unlock(&r->shared.lock);
	http_wakeup(r->shared.http);
}

/*
 * Whether the scope goes on as if it had a right that isn't among these. A watch that was only just
 * asked for says by itself whether there is one.
 */
static bool lacks_right(const struct scope *s, const struct grants *grants)
{
	unsigned rights = grants_of(grants, s->kind == SCOPE_STREAM ? s->name : NULL);
	unsigned needed = s->kind == SCOPE_STREAM ? RIGHT_GET : RIGHT_LIST;

	if (s->kind != SCOPE_STREAM)
		rights = grants_everywhere(grants);
	if (s->state == SCOPE_WATCHING && atomic_load(&s->good))
		needed |= RIGHT_WATCH;
	return s->synced && (needed & ~rights);
}

void reflector_rights(struct reflector *r, const char *ns, const struct grants *grants)
{
	bool any = false;

	pthread_mutex_lock(&r->shared.lock);
	for (struct scope *s = r->scopes; s; s = s->next) {
		bool concerned = ns ? s->ns && streq(s->ns, ns) : s == r->cluster;

		if (concerned && lacks_right(s, grants)) {
			atomic_store(&s->doubted, true);
			any = true;
		}
	}
	pthread_mutex_unlock(&r->shared.lock);
	if (any)
		http_wakeup(r->shared.http);
}

/* lock held. 0, -EAGAIN while a list is still to come, or why one failed. */
static int refreshed(const struct reflector *r, unsigned asked)
{
	int error = 0;

	for (const struct scope *s = r->scopes; s; s = s->next) {
		if ((int)(s->refreshed - asked) < 0)
			return -EAGAIN;
		if (s->error && s->state == SCOPE_WAITING)
			error = -s->error;
	}
	return error;
}

int reflector_refresh(struct reflector *r, const struct http_check *check, int64_t timeout_ms)
{
	int64_t deadline = deadline_in_ms(timeout_ms);
	unsigned asked = atomic_fetch_add(&r->shared.asked, 1) + 1;
	int error;

	http_wakeup(r->shared.http);
	pthread_mutex_lock(&r->shared.lock);
	while ((error = refreshed(r, asked)) == -EAGAIN && !r->stop) {
		if (now_monotonic() >= deadline) {
			error = -ETIMEDOUT;
			break;
		}
		wait_for_change(r);
		pthread_mutex_unlock(&r->shared.lock);
		error = check ? check->fn(check->arg) : 0;
		pthread_mutex_lock(&r->shared.lock);
		if (error < 0)
			break;
	}
	pthread_mutex_unlock(&r->shared.lock);
	return error == -EAGAIN ? -ESHUTDOWN : error;
}

json_t *reflector_status(struct reflector *r)
{
	json_t *scopes = json_array();
	int64_t now = now_monotonic();

	pthread_mutex_lock(&r->shared.lock);
	for (struct scope *s = r->scopes; s; s = s->next) {
		json_t *o = json_pack("{s:s, s:s, s:b}", "path", s->path, "state",
			scope_state_names[s->state], "listed", s->synced);

		json_object_set_new(o, "ageSeconds",
			s->contact ? json_real((double)(now - s->contact) / NSEC_PER_SEC)
				   : json_null());
		json_object_set_new(
			o, "error", s->error ? json_string(s->error_message) : json_null());
		json_array_append_new(scopes, o);
	}
	pthread_mutex_unlock(&r->shared.lock);
	return scopes;
}
