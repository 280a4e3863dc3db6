#include "client/reflector.h"

#include "client/cut.h"
#include "client/frame.h"
#include "client/json.h"
#include "client/log.h"
#include "client/map.h"
#include "client/status.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#define PAGE_LIMIT	 500
#define BACKOFF_FIRST	 (800 * NSEC_PER_MSEC)
#define BACKOFF_MAX	 (30 * NSEC_PER_SEC)
#define LIST_TIMEOUT_MS	 300000 /* one page; the server gives up after 60 s of its own time */
#define WATCH_GRACE_S	 30	/* how long after its timeoutSeconds a watch may still be open */
#define BOOKMARK_GRACE_S 180
#define RELIST_INTERVAL	 (60 * NSEC_PER_SEC) /* of projects: their watch replays nothing */
#define SHORT_WATCH	 NSEC_PER_SEC

#define SHARES_MAX 4  /* threads that take in a page */
#define SHARE_MIN  64 /* items that are worth it */

#define ERROR_BODY_MAX ((size_t)64 << 10)

enum scope_state { LISTING, WATCHING, WAITING, POLLING, REFUSED };

static const char *const state_names[] = {"listing", "watching", "waiting", "polling", "refused"};

struct scope {
	struct reflector *reflector;
	struct scope *next;
	char *namespace; /* of a namespace's streams; NULL: of all */
	bool namespaces; /* the scope of the namespaces themselves */
	char *name;	 /* of the only one that the scope is about; NULL: of all that are listed */
	bool first;	 /* its answer is waited for before there is a mount */
	char *path;	 /* of the collection, or of the one */
	struct scope *parent; /* of a stream: its namespace's scope, which is refused */

	/* The reflector thread's own. */
	struct http_transfer *transfer;
	struct buf body;    /* of a list, or of an error */
	struct frame frame; /* of a watch */
	char *version;	    /* where the next watch starts; NULL: list first */
	char *list_version; /* of the list under way */
	char *next_page;
	unsigned list;	     /* the store's number of the list under way */
	bool broken;	     /* something in it is no JSON */
	bool unpaged;	     /* a page expired: the next list comes in one piece */
	bool relist;	     /* instead of going on with the watch */
	unsigned asked;	     /* the last reflector_refresh that it has heard of */
	atomic_bool doubted; /* from another thread: as relist, at once */
	bool bookmarks;	     /* this server sends them */
	bool granted;	     /* a watch, since the last list */
	bool polls;	     /* the last watch was refused */
	int64_t listed, watch_started, due;
	int64_t backoff;
	size_t events;
	int watch_error; /* an ERROR event's HTTP code, or 0 */

	/* reflector->lock */
	enum scope_state state;
	bool synced;
	int error; /* of the last try, positive errno; 0: it went well */
	char *error_message;
	unsigned refreshed; /* the reflector_refresh that the last list answers */
	int64_t contact;    /* monotonic ns: when the server was last heard */
};

struct reflector {
	struct api *api;
	struct store *store;
	struct reflector_options options;
	struct http *http;
	pthread_t thread;
	unsigned seed;
	bool listed; /* a whole list was taken in: what its pages needed is free now */

	pthread_mutex_t lock;
	pthread_cond_t changed;	 /* a scope's synced, error or state */
	struct scope *scopes;	 /* lock for the links; scopes stay until reflector_free */
	struct scope *cluster;	 /* set by reflector_new; NULL: only some namespaces are wanted */
	struct map by_namespace; /* lock; name -> struct scope */
	struct map by_key;	 /* lock; NAMESPACE/NAME -> struct scope */
	bool started, stop;	 /* lock */
	bool renewed;		 /* lock; the credentials */
	atomic_uint asked;	 /* how often reflector_refresh was called */
};

/* r->lock held, once the thread runs. Takes `path`. */
static struct scope *scope_new(struct reflector *r, const char *namespace, char *path)
{
	struct scope *s = xcalloc(1, sizeof(*s));

	s->reflector = r;
	s->namespace = namespace ? xstrdup(namespace) : NULL;
	s->path = path;
	s->body.max = HTTP_BODY_MAX;
	s->frame.buf.max = FRAME_MAX;
	s->state = LISTING;
	s->next = r->scopes;
	r->scopes = s;
	return s;
}

static void scope_free(struct scope *s)
{
	buf_release(&s->body);
	frame_release(&s->frame);
	free(s->namespace);
	free(s->name);
	free(s->path);
	free(s->version);
	free(s->list_version);
	free(s->next_page);
	free(s->error_message);
	free(s);
}

/* The namespaces and the whole cluster; or each namespace that is wanted, by name. */
static void add_first_scopes(struct reflector *r)
{
	const json_t *name;
	struct scope *s;
	size_t i;

	json_array_foreach(r->options.namespaces, i, name)
	{
		s = scope_new(r, NULL,
			xasprintf("%s/%s", r->api->namespaces_path, json_string_value(name)));
		s->namespaces = s->first = true;
		s->name = xstrdup(json_string_value(name));
	}
	if (r->options.namespaces)
		return;
	r->cluster = scope_new(r, NULL, xasprintf("%s/imagestreams", r->api->root));
	s = scope_new(r, NULL, xstrdup(r->api->namespaces_path));
	s->namespaces = r->cluster->first = s->first = true;
}

struct reflector *reflector_new(
	struct api *api, struct store *store, const struct reflector_options *options)
{
	struct reflector *r = xcalloc(1, sizeof(*r));
	pthread_condattr_t attr;

	r->api = api;
	r->store = store;
	r->options = *options;
	r->seed = (unsigned)now_realtime() ^ (unsigned)getpid();
	r->http = http_new(api->login, api->counts);
	pthread_mutex_init(&r->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->changed, &attr);
	pthread_condattr_destroy(&attr);
	add_first_scopes(r);
	return r;
}

void reflector_free(struct reflector *r)
{
	if (!r)
		return;
	while (r->scopes) {
		struct scope *s = r->scopes;

		r->scopes = s->next;
		scope_free(s);
	}
	map_release(&r->by_namespace);
	map_foreach(&r->by_key, e) free((char *)e->key);
	map_release(&r->by_key);
	http_free(r->http);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static void set_state(struct scope *s, enum scope_state state)
{
	struct reflector *r = s->reflector;

	pthread_mutex_lock(&r->lock);
	s->state = state;
	if (state == WATCHING || state == POLLING) {
		s->synced = true;
		if (!s->relist)
			s->refreshed = s->asked;
		s->error = 0;
	}
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

static void set_error(struct scope *s, enum scope_state state, int error, const char *message)
{
	struct reflector *r = s->reflector;

	pthread_mutex_lock(&r->lock);
	s->state = state;
	s->error = error;
	if (!s->relist)
		s->refreshed = s->asked;
	free(s->error_message);
	s->error_message = xstrdup(message);
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

static void heard(struct scope *s)
{
	struct reflector *r = s->reflector;

	pthread_mutex_lock(&r->lock);
	s->contact = now_monotonic();
	pthread_mutex_unlock(&r->lock);
}

/* Waits 0.8 s, doubling to 30 s, each plus up to as much again at random. */
static void back_off(struct scope *s, long retry_after)
{
	struct reflector *r = s->reflector;
	int64_t wait;

	s->backoff = s->backoff ? s->backoff * 2 : BACKOFF_FIRST;
	if (s->backoff > BACKOFF_MAX)
		s->backoff = BACKOFF_MAX;
	wait = s->backoff + s->backoff * (rand_r(&r->seed) % 1000) / 1000;
	if (wait < retry_after * NSEC_PER_SEC)
		wait = retry_after * NSEC_PER_SEC;
	s->due = now_monotonic() + wait;
}

static void note_failure(
	struct scope *s, const char *verb, long code, int error, const char *message)
{
	_cleanup_free_ char *request = xasprintf("%s %s", verb, s->path);

	journal_add(s->reflector->api->journal, NULL, request, code, error, message);
}

static void fail(struct scope *s, const char *verb, long code, int error, const char *message,
	long retry_after)
{
	note_failure(s, verb, code, error, message);
	set_error(s, WAITING, error, message);
	back_off(s, retry_after);
}

static int64_t poll_due(const struct reflector *r)
{
	return now_monotonic() + r->options.poll_interval * NSEC_PER_SEC;
}

/* Whether a watch goes on where nothing tells what was missed: what is there is looked at first. */
static bool lists_first(const struct scope *s)
{
	return s->namespaces || s->name;
}

/* The links only grow at the head, so the rest of the list can be walked without the lock. */
static struct scope *first_scope(struct reflector *r)
{
	struct scope *s;

	pthread_mutex_lock(&r->lock);
	s = r->scopes;
	pthread_mutex_unlock(&r->lock);
	return s;
}

/* Perhaps the namespace went, or came back. */
static void look_at_namespace(struct reflector *r, const char *name)
{
	for (struct scope *s = first_scope(r); s; s = s->next) {
		if (!s->namespaces || (s->name && !streq(s->name, name)))
			continue;
		s->relist = true;
		if (s->name)
			s->due = 0;
	}
}

static void drop_one(struct scope *s)
{
	struct store *store = s->reflector->store;
	_cleanup_free_ char *key = NULL;

	if (s->namespaces) {
		store_delete_namespace(store, s->name);
	} else {
		key = xasprintf("%s/%s", s->namespace, s->name);
		store_delete(store, key, NULL);
	}
}

/* The server says that we may not, or that there is no such thing: what was there goes. */
static void refuse(struct scope *s, long code, const struct status *status)
{
	struct reflector *r = s->reflector;

	if (s != r->cluster)
		note_failure(s, s->name ? "GET" : "LIST", code, status->error, status->message);
	if (s->name)
		drop_one(s);
	else if (s->namespaces)
		store_sweep_namespaces(r->store, store_list_begin(r->store));
	else if (s->synced) /* else there are only those read by name */
		store_drop(r->store, s->namespace);
	if (s->namespace && !s->name)
		look_at_namespace(r, s->namespace);
	free(s->version);
	s->version = NULL;
	pthread_mutex_lock(&r->lock);
	s->synced = false;
	pthread_mutex_unlock(&r->lock);
	set_error(s, REFUSED, status->error, status->message);
	s->due = poll_due(r);
}

/* ---- list ---- */

static void list_page(struct scope *s);
static void watch(struct scope *s);
static bool stopping(struct reflector *r);

static int put_namespace(struct scope *s, const char *text, size_t len, unsigned list)
{
	_cleanup_json_ json_t *json = json_read_or_null(text, len, JSON_ALLOW_NUL);
	const json_t *metadata = json_object_get(json, "metadata");
	const char *name = json_str(metadata, "name"), *uid = json_str(metadata, "uid");
	const char *created = json_str(metadata, "creationTimestamp");
	_cleanup_free_ char *why = NULL;
	int64_t time = 0;

	if (!json)
		return -EBADMSG;
	if (object_check_namespace(metadata, &why) < 0) {
		note_failure(s, list ? "LIST" : "WATCH", 200, EINVAL, why);
		return 0;
	}
	if (created)
		rfc3339_parse(created, &time);
	store_put_namespace(s->reflector->store, name, uid, time, list);
	return 0;
}

static void set_version(struct scope *s, const char *version)
{
	if (!version || !*version || lists_first(s)) /* a project watch has no place to resume at */
		return;
	free(s->version);
	s->version = xstrdup(version);
}

#define NAME_MAX_LEN 256 /* of a namespace, of a stream; a version is shorter */

/* What names an object and its version, as far as that can be seen without parsing. */
struct identity {
	char namespace[NAME_MAX_LEN], name[NAME_MAX_LEN], version[NAME_MAX_LEN];
};

static bool cut_identity(struct cut *c, struct identity *ret)
{
	struct piece key, value;
	bool namespace = false, name = false, version = false;

	if (cut_enter(c, '{') < 0)
		return false;
	while (cut_next(c, '}') > 0 && cut_key(c, &key) == 0 && cut_value(c, &value) == 0) {
		if (cut_is(&key, "namespace"))
		namespace = cut_plain(&value, ret->namespace, NAME_MAX_LEN);
		else if (cut_is(&key, "name")) name = cut_plain(&value, ret->name, NAME_MAX_LEN);
		else if (cut_is(&key, "resourceVersion")) version =
			cut_plain(&value, ret->version, NAME_MAX_LEN);
	}
	return namespace && name && version;
}

/* Whether the store holds this version or a newer one: the echo of what we saved ourselves is no news. */
static bool is_held(struct scope *s, const char *text, size_t len)
{
	_cleanup_object_ struct object *held = NULL;
	struct cut c = CUT_INIT(text, len);
	char key[2 * NAME_MAX_LEN];
	struct piece name, value;
	struct identity id;
	bool known = false;

	if (cut_enter(&c, '{') < 0)
		return false;
	while (!known && cut_next(&c, '}') > 0 && cut_key(&c, &name) == 0) {
		if (cut_is(&name, "metadata"))
			known = cut_identity(&c, &id);
		else if (cut_value(&c, &value) < 0)
			return false;
	}
	if (!known)
		return false;
	snprintf(key, sizeof(key), "%s/%s", id.namespace, id.name);
	held = store_get(s->reflector->store, key);
	if (!held || rv_compare(id.version, held->resource_version) > 0)
		return false;
	set_version(s, id.version);
	return true;
}

static int put_stream(struct scope *s, const char *text, size_t len, unsigned list)
{
	struct reflector *r = s->reflector;
	struct object_cache *cache = list ? NULL : r->options.cache;
	_cleanup_json_ json_t *json = NULL;
	_cleanup_free_ char *why = NULL;
	struct object *o;
	int error;

	if (!list && is_held(s, text, len))
		return 0;
	error = object_from_text(text, len, r->api->api_version, &o, cache ? &json : NULL, &why);
	if (error < 0) {
		note_failure(s, list ? "LIST" : "WATCH", 200, -error, why);
		return error;
	}
	if (cache)
		object_cache_put(cache, o, json); /* whoever publishes it is the next to ask */
	if (!list)
		set_version(s, o->resource_version);
	store_put(r->store, o, list);
	return 0;
}

/* 0; -EINVAL: it isn't kept; -EBADMSG: it is no JSON. */
static int put(struct scope *s, const char *text, size_t len, unsigned list)
{
	return s->namespaces ? put_namespace(s, text, len, list) : put_stream(s, text, len, list);
}

static void restart_list(struct scope *s)
{
	free(s->version);
	free(s->next_page);
	free(s->list_version);
	s->version = s->next_page = s->list_version = NULL;
	s->broken = false;
}

static void list_done_whole(struct scope *s)
{
	struct reflector *r = s->reflector;

	if (s->namespaces)
		store_sweep_namespaces(r->store, s->list);
	else
		store_sweep(r->store, s->namespace, s->list, s->list_version);
	free(s->version);
	s->version = steal_ptr(s->list_version);
	s->unpaged = s->granted = false;
	s->listed = now_monotonic();
	if (!lists_first(s)) /* else it would never double while only the watch fails */
		s->backoff = 0;
	s->due = 0;
	s->reflector->listed = true;
	set_state(s, s->polls ? POLLING : WATCHING);
}

struct page {
	struct piece metadata, *items;
	size_t count;
	bool is_list;
};

static void page_release(struct page *p)
{
	free(p->items);
}

static int cut_items(struct cut *c, struct page *ret)
{
	struct piece item;
	int r = cut_enter(c, '[');

	ret->is_list = r == 0;
	ret->count = 0;
	if (r < 0) {
		r = cut_value(c, &item);
		ret->is_list = r == 0 && item.len == 4 && memcmp(item.p, "null", 4) == 0;
		return r;
	}
	while ((r = cut_next(c, ']')) > 0 && (r = cut_value(c, &item)) == 0) {
		if ((ret->count & (ret->count + 1)) == 0) /* grows by powers of two */
			ret->items =
				xrealloc(ret->items, (2 * ret->count + 1) * sizeof(*ret->items));
		ret->items[ret->count++] = item;
	}
	return r;
}

/* -EBADMSG where it is no list. */
static int cut_page(const struct buf *body, struct page *ret)
{
	struct cut c = CUT_INIT(body->data, body->len);
	struct piece key, value;
	int r = body->len ? cut_enter(&c, '{') : -EBADMSG;

	while (r == 0 && (r = cut_next(&c, '}')) > 0) {
		r = cut_key(&c, &key);
		if (r == 0 && cut_is(&key, "items"))
			r = cut_items(&c, ret);
		else if (r == 0)
			r = cut_value(&c, cut_is(&key, "metadata") ? &ret->metadata : &value);
	}
	if (r == 0)
		r = cut_end(&c);
	return r == 0 && !ret->is_list ? -EBADMSG : r;
}

/* Some of a page's items. */
struct share {
	struct scope *scope;
	const struct piece *items;
	size_t count;
	bool broken;
	pthread_t thread;
	bool started;
};

static void *put_share(void *arg)
{
	struct share *share = arg;

	for (size_t i = 0; i < share->count && !share->broken; i++)
		share->broken = put(share->scope, share->items[i].p, share->items[i].len,
					share->scope->list) == -EBADMSG;
	return NULL;
}

/* Parsing is what a list takes longest for: every processor does a part. False where one is broken. */
static bool put_items(struct scope *s, const struct page *page)
{
	struct share shares[SHARES_MAX] = {0};
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	size_t n = processors < SHARES_MAX ? processors : SHARES_MAX, done = 0;
	bool broken = false;

	if (page->count < SHARE_MIN || processors < 1)
		n = 1;
	for (size_t i = 0; i < n; i++) {
		size_t count = page->count * (i + 1) / n - done;

		shares[i] = (struct share){.scope = s, .items = page->items + done, .count = count};
		done += count;
		shares[i].started = i + 1 < n && pthread_create(&shares[i].thread, NULL, put_share,
							 &shares[i]) == 0;
		if (!shares[i].started)
			put_share(&shares[i]);
	}
	for (size_t i = 0; i < n; i++) {
		if (shares[i].started)
			pthread_join(shares[i].thread, NULL);
		broken |= shares[i].broken;
	}
	return !broken;
}

static void list_broken(struct scope *s)
{
	restart_list(s);
	fail(s, "LIST", 200, EIO, "the answer is no list", 0);
}

/* Of the only one: what it is now (NULL: it isn't there). A watch from nowhere tells it again. */
static void take_one(struct scope *s, const struct buf *json)
{
	if (json && put(s, json->data ? json->data : "", json->len, 0) < 0) {
		list_broken(s);
		return;
	}
	if (!json)
		drop_one(s);
	restart_list(s);
	s->granted = false;
	s->listed = now_monotonic();
	s->due = s->namespaces ? poll_due(s->reflector) : 0;
	if (!s->namespaces)
		s->version = xstrdup("");
	set_state(s, s->namespaces || s->polls ? POLLING : WATCHING);
}

/* One page: the next one is asked for before this one's items are taken in. */
static void take_page(struct scope *s, const struct page *page, const json_t *metadata)
{
	const char *more = json_str(metadata, "continue");
	const char *version = json_str(metadata, "resourceVersion");
	bool last = !more || !*more;

	if (!s->list_version)
		s->list_version = xstrdup(version && *version ? version : "0");
	free(s->next_page);
	s->next_page = last ? NULL : xstrdup(more);
	if (!last)
		list_page(s);
	s->broken = !put_items(s, page);
	if (last && s->broken)
		list_broken(s);
	else if (last)
		list_done_whole(s);
}

static void list_refused(struct scope *s, const struct http_result *result)
{
	_cleanup_status_ struct status status = {0};

	status_parse(result->code, s->body.data, s->body.len, &status);
	if (s->name && status.code == 404 && (s->synced || !s->namespaces)) {
		take_one(s, NULL);
	} else if (s->name && s->namespaces && status.code == 403) {
		/* It was asked for by name, and its streams may be readable all the same. */
		store_put_namespace(s->reflector->store, s->name, NULL, 0, 0);
		s->due = poll_due(s->reflector);
		set_state(s, POLLING);
	} else if (status.code == 410 && s->next_page) { /* it expired: once more, in one piece */
		note_failure(s, "LIST", 410, status.error, status.message);
		s->unpaged = true;
		restart_list(s);
	} else if (status.code == 403 || (!s->synced && status.code >= 404 && status.code <= 405)) {
		restart_list(s);
		refuse(s, result->code, &status);
	} else {
		restart_list(s);
		fail(s, "LIST", result->code, status.error, status.message, result->retry_after);
	}
}

static void on_list_done(void *arg, const struct http_result *result)
{
	struct scope *s = arg;
	_cleanup_(page_release) struct page page = {0};
	_cleanup_json_ json_t *metadata = NULL;
	_cleanup_buf_ struct buf body = {0};

	s->transfer = NULL;
	if (result->error < 0) {
		restart_list(s);
		fail(s, "LIST", 0, -result->error, result->message, 0);
		return;
	}
	if (result->code != 200) {
		list_refused(s, result);
		return;
	}
	body = s->body;
	s->body = (struct buf)BUF_INIT(HTTP_BODY_MAX);
	if (s->name) {
		heard(s);
		take_one(s, &body);
		return;
	}
	if (cut_page(&body, &page) == 0)
		metadata = page.metadata.p
				   ? json_read_or_null(page.metadata.p, page.metadata.len, 0)
				   : json_null();
	if (s->broken || !metadata) {
		list_broken(s);
		return;
	}
	heard(s);
	take_page(s, &page, metadata);
}

static int on_list_data(void *arg, long code, const char *data, size_t len)
{
	struct scope *s = arg;

	/* A few KiB may unpack to 256 MiB in one go. */
	return stopping(s->reflector) ? -ESHUTDOWN : buf_add(&s->body, data, len);
}

static void add_selector(const struct scope *s, struct buf *path, char separator)
{
	if (!s->reflector->options.selector || s->namespaces || s->name)
		return;
	buf_addf(path, "%clabelSelector=", separator);
	buf_addurl(path, s->reflector->options.selector);
}

static void list_page(struct scope *s)
{
	struct reflector *r = s->reflector;
	_cleanup_buf_ struct buf path = BUF_INIT(1 << 20);
	struct http_request request = {
		.timeout_ms = LIST_TIMEOUT_MS, .silence_ms = r->api->timeout_ms};
	char separator = '?';

	buf_addf(&path, "%s", s->path);
	if (!s->unpaged && !s->name) {
		buf_addf(&path, "?limit=%d", PAGE_LIMIT);
		separator = '&';
	}
	add_selector(s, &path, separator);
	if (s->next_page) {
		buf_addstr(&path, "&continue=");
		buf_addurl(&path, s->next_page);
	}
	request.path = path.data;
	buf_release(&s->body);
	s->transfer = http_start(r->http, &request, on_list_data, on_list_done, s);
}

static void list(struct scope *s)
{
	restart_list(s);
	s->relist = false;
	s->list = store_list_begin(s->reflector->store);
	list_page(s);
}

/* ---- watch ---- */

static void take_deleted(struct scope *s, const json_t *object)
{
	const json_t *metadata = json_object_get(object, "metadata");
	const char *namespace = json_str(metadata, "namespace"), *name = json_str(metadata, "name");

	if (!name)
		return;
	if (s->namespaces) {
		store_delete_namespace(s->reflector->store, name);
	} else if (namespace) {
		_cleanup_free_ char *key = xasprintf("%s/%s", namespace, name);

		store_delete(s->reflector->store, key, json_str(metadata, "resourceVersion"));
	}
}

/* What an event that brings no object says. */
static int take_notice(struct scope *s, const struct piece *type, const struct piece *text)
{
	_cleanup_json_ json_t *object = json_read_or_null(text->p, text->len, JSON_ALLOW_NUL);

	if (!json_is_object(object))
		return -EBADMSG;
	if (cut_is(type, "ERROR")) {
		_cleanup_status_ struct status status = {0};

		status_from_json(500, object, &status);
		s->watch_error = status.code;
		note_failure(s, "WATCH", status.code, status.error, status.message);
		return -ESTALE;
	}
	if (cut_is(type, "BOOKMARK"))
		s->bookmarks = true;
	else if (cut_is(type, "DELETED"))
		take_deleted(s, object);
	set_version(s, json_str(json_object_get(object, "metadata"), "resourceVersion"));
	return 0;
}

/* 0, or a negative errno that ends the watch. */
static int take_event(struct scope *s, const char *text, size_t len)
{
	struct cut c = CUT_INIT(text, len);
	struct piece key, value, type = {0}, object = {0};
	int r = cut_enter(&c, '{');

	while (r == 0 && (r = cut_next(&c, '}')) > 0) {
		r = cut_key(&c, &key);
		if (r == 0)
			r = cut_value(&c, &value);
		if (r == 0 && cut_is(&key, "type"))
			type = value;
		else if (r == 0 && cut_is(&key, "object"))
			object = value;
	}
	if (r < 0 || !type.p || !object.p)
		return -EBADMSG;
	s->events++;
	if (!cut_is(&type, "ADDED") && !cut_is(&type, "MODIFIED"))
		return take_notice(s, &type, &object);
	return put(s, object.p, object.len, 0) == -EBADMSG ? -EBADMSG : 0;
}

static int take_events(struct scope *s)
{
	const char *text;
	size_t len;
	int r;

	while ((r = frame_next(&s->frame, &text, &len)) > 0) {
		r = take_event(s, text, len);
		if (r < 0)
			return r;
	}
	return r;
}

static int on_watch_data(void *arg, long code, const char *data, size_t len)
{
	struct scope *s = arg;
	int r;

	if (code != 200)
		return s->body.len + len > ERROR_BODY_MAX ? 0 : buf_add(&s->body, data, len);
	heard(s);
	if (len == 0) {
		s->granted = true;
		s->polls = false;
		set_state(s, WATCHING);
	}
	r = frame_feed(&s->frame, data, len);
	return r < 0 ? r : take_events(s);
}

static void watch_refused(struct scope *s, const struct http_result *result)
{
	_cleanup_status_ struct status status = {0};

	status_parse(result->code, s->body.data, s->body.len, &status);
	if (status.code == 410 || status.code == 400) {
		note_failure(s, "WATCH", result->code, status.error, status.message);
		restart_list(s);
	} else if (status.code == 403 || status.code == 404 || status.code == 405) {
		/* Perhaps only the watch: a list tells, at once unless the last one did. */

		note_failure(s, "WATCH", result->code, status.error, status.message);
		restart_list(s);
		s->polls = true;
		set_state(s, POLLING);
		s->due = s->granted ? 0 : poll_due(s->reflector);
	} else {
		fail(s, "WATCH", result->code, status.error, status.message, result->retry_after);
	}
}

/* A watch that was granted has ended: go on where it stopped, or list again. */
static void watch_ended(struct scope *s, const struct http_result *result)
{
	bool brief = now_monotonic() - s->watch_started < SHORT_WATCH && s->events == 0;

	if (s->watch_error == 410)
		restart_list(s);
	else if (s->watch_error)
		fail(s, "WATCH", s->watch_error, EIO, "the watch ended with an error", 0);
	else if (result->error == -EBADMSG || result->error == -EFBIG)
		fail(s, "WATCH", 200, -result->error, "what came is no watch event", 0);
	else if (brief)
		fail(s, "WATCH", 200, EIO, "the watch ended at once", 0);
	else
		s->backoff = 0;
	if (result->error == -ETIMEDOUT)
		note_failure(s, "WATCH", 200, ETIMEDOUT, "silent for too long");
}

static void on_watch_done(void *arg, const struct http_result *result)
{
	struct scope *s = arg;

	s->transfer = NULL;
	s->due = 0;
	if (lists_first(s))
		s->relist = true;
	frame_release(&s->frame); /* a cut event is no event */
	s->frame = (struct frame)FRAME_INIT(FRAME_MAX);
	if (result->code == 200)
		watch_ended(s, result);
	else if (result->error < 0)
		fail(s, "WATCH", 0, -result->error, result->message, 0);
	else
		watch_refused(s, result);
}

static int watch_timeout(struct reflector *r)
{
	return r->options.watch_timeout ? r->options.watch_timeout : 300 + rand_r(&r->seed) % 301;
}

static void watch(struct scope *s)
{
	struct reflector *r = s->reflector;
	int timeout = watch_timeout(r), grace = WATCH_GRACE_S;
	_cleanup_buf_ struct buf path = BUF_INIT(1 << 16);
	struct http_request request = {0};

	if (r->options.watch_timeout && r->options.watch_timeout < grace)
		grace = r->options.watch_timeout;
	buf_add(&path, s->path,
		s->name ? (size_t)(strrchr(s->path, '/') - s->path) : strlen(s->path));
	buf_addf(&path, "?watch=true&allowWatchBookmarks=true&timeoutSeconds=%d", timeout);
	if (s->name) { /* from nowhere: it begins with what is there */
		buf_addstr(&path, "&fieldSelector=metadata.name%3D");
		buf_addurl(&path, s->name);
	} else {
		buf_addstr(&path, "&resourceVersion=");
		buf_addurl(&path, s->namespaces ? "0" : s->version);
	}
	add_selector(s, &path, '&');
	request.path = path.data;
	request.silence_ms = (timeout + grace) * INT64_C(1000);
	if (s->bookmarks && timeout > BOOKMARK_GRACE_S)
		request.silence_ms = BOOKMARK_GRACE_S * 1000;
	s->events = 0;
	s->watch_error = 0;
	s->watch_started = now_monotonic();
	buf_release(&s->body);
	s->transfer = http_start(r->http, &request, on_watch_data, on_watch_done, s);
}

/* ---- the thread ---- */

static bool is_refused(struct scope *s)
{
	struct reflector *r = s->reflector;
	bool refused;

	pthread_mutex_lock(&r->lock);
	refused = s->state == REFUSED;
	pthread_mutex_unlock(&r->lock);
	return refused;
}

/* Starts what is due; when to look again. */
static int64_t step(struct scope *s, int64_t now)
{
	struct reflector *r = s->reflector;

	if (s->parent && !is_refused(s->parent)) { /* its list has the stream */
		if (s->transfer)
			http_abort(s->transfer);
		s->transfer = NULL;
		restart_list(s);
		return INT64_MAX;
	}
	if (atomic_exchange(&s->doubted, false)) {
		s->relist = true;
		s->due = 0;
	}
	if (s->namespaces && s->version && now >= s->listed + RELIST_INTERVAL)
		s->relist = true;
	if (s->asked != atomic_load(&r->asked)) {
		s->asked = atomic_load(&r->asked);
		s->relist = true;
		s->due = 0;
		if (s->transfer)
			http_abort(s->transfer);
		s->transfer = NULL;
	}
	if (s->relist && s->version && s->transfer) {
		http_abort(s->transfer);
		s->transfer = NULL;
		s->due = 0;
	}
	if (s->transfer)
		return s->namespaces && s->version ? s->listed + RELIST_INTERVAL : INT64_MAX;
	if (s->due > now)
		return s->due;
	if (s == r->cluster && s->state == REFUSED)
		return INT64_MAX; /* the namespaces have their own */
	if (s->version && !s->relist)
		watch(s);
	else
		list(s);
	return INT64_MAX;
}

static bool stopping(struct reflector *r)
{
	bool stop;

	pthread_mutex_lock(&r->lock);
	stop = r->stop;
	pthread_mutex_unlock(&r->lock);
	return stop;
}

/* A list under way comes to its end with the credentials that it has. */
static void renew_scope(struct scope *s)
{
	if (s->transfer && s->version) {
		http_abort(s->transfer);
		s->transfer = NULL;
		s->due = 0;
		frame_release(&s->frame);
		s->frame = (struct frame)FRAME_INIT(FRAME_MAX);
		s->relist = s->relist || lists_first(s); /* their watch replays nothing */
	} else if (!s->transfer && s->state == WAITING && s->error == EKEYEXPIRED) {
		s->due = s->backoff = 0;
	}
}

static bool take_renewed(struct reflector *r)
{
	bool renewed;

	pthread_mutex_lock(&r->lock);
	renewed = r->renewed;
	r->renewed = false;
	pthread_mutex_unlock(&r->lock);
	return renewed;
}

void reflector_renew(struct reflector *r)
{
	pthread_mutex_lock(&r->lock);
	r->renewed = true;
	pthread_mutex_unlock(&r->lock);
	http_wakeup(r->http);
}

static void *run(void *arg)
{
	struct reflector *r = arg;

	while (!stopping(r)) {
		int64_t now = now_monotonic(), next = now + NSEC_PER_SEC;
		bool renewed = take_renewed(r);

		for (struct scope *s = first_scope(r); s; s = s->next) {
			int64_t due;

			if (renewed)
				renew_scope(s);
			due = step(s, now);

			if (due < next)
				next = due;
		}
		http_run(r->http, next > now ? (next - now) / NSEC_PER_MSEC + 1 : 0);
		if (r->listed)
			malloc_trim(0); /* parsed pages are ten times what is kept of them */
		r->listed = false;
	}
	for (struct scope *s = first_scope(r); s; s = s->next)
		if (s->transfer)
			http_abort(s->transfer);
	return NULL;
}

void reflector_start(struct reflector *r)
{
	pthread_mutex_lock(&r->lock);
	if (pthread_create(&r->thread, NULL, run, r) != 0)
		abort();
	r->started = true;
	pthread_mutex_unlock(&r->lock);
}

void reflector_stop(struct reflector *r)
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

static bool first_answer(const struct scope *s)
{
	return s->synced || s->state == REFUSED || s->error;
}

/* A namespace that was asked for by name has to be there. */
static bool is_fatal(const struct scope *s)
{
	return s->error && (s->state != REFUSED || (s->name && s->error == ENOENT));
}

int reflector_wait_start(struct reflector *r, char **ret_error)
{
	const struct scope *failed = NULL;
	bool all = false;
	int error = 0;

	pthread_mutex_lock(&r->lock);
	while (!r->stop && !all) {
		all = true;
		for (const struct scope *s = r->scopes; s; s = s->next)
			all = all && (!s->first || first_answer(s));
		if (!all)
			pthread_cond_wait(&r->changed, &r->lock);
	}
	for (const struct scope *s = r->scopes; s; s = s->next)
		if (s->first && is_fatal(s))
			failed = s;
	if (r->stop) {
		error = EINTR;
		*ret_error = xstrdup("told to stop");
	} else if (failed) {
		error = failed->error;
		*ret_error = xstrdup(failed->error_message);
	}
	pthread_mutex_unlock(&r->lock);
	return -error;
}

bool reflector_covers_cluster(struct reflector *r)
{
	bool covers;

	pthread_mutex_lock(&r->lock);
	covers = r->cluster && r->cluster->synced && r->cluster->state != REFUSED;
	pthread_mutex_unlock(&r->lock);
	return covers;
}

/* r->lock held. */
static struct scope *scope_of(struct reflector *r, const char *namespace, bool *ret_new)
{
	struct scope *s = r->cluster;

	if (s && s->state != REFUSED)
		return s;
	s = map_get(&r->by_namespace, namespace);
	if (!s) {
		s = scope_new(r, namespace, api_stream_path(r->api, namespace, NULL));
		map_set(&r->by_namespace, s->namespace, s);
		*ret_new = true;
	}
	return s;
}

int reflector_need(struct reflector *r, const char *namespace)
{
	struct scope *s;
	bool is_new = false;
	int error;

	pthread_mutex_lock(&r->lock);
	s = scope_of(r, namespace, &is_new);
	if (s->state == REFUSED)
		error = -s->error;
	else if (s->synced)
		error = 0;
	else
		error = -EAGAIN;
	pthread_mutex_unlock(&r->lock);
	if (is_new)
		http_wakeup(r->http);
	return error;
}

int reflector_wait(struct reflector *r, const char *namespace, const struct http_check *check,
	int64_t timeout_ms)
{
	int64_t deadline = now_monotonic() + timeout_ms * NSEC_PER_MSEC;
	int error;

	while ((error = reflector_need(r, namespace)) == -EAGAIN) {
		int64_t now = now_monotonic(), until = now + 100 * NSEC_PER_MSEC;
		struct timespec ts = {until / NSEC_PER_SEC, until % NSEC_PER_SEC};

		if (now >= deadline)
			return -ETIMEDOUT;
		if (check && check->fn(check->arg) < 0)
			return check->fn(check->arg);
		pthread_mutex_lock(&r->lock);
		if (!r->stop)
			pthread_cond_timedwait(&r->changed, &r->lock, &ts);
		else
			deadline = 0;
		pthread_mutex_unlock(&r->lock);
	}
	return error;
}

void reflector_add_stream(struct reflector *r, const char *namespace, const char *name)
{
	char *key = xasprintf("%s/%s", namespace, name);
	struct scope *s, *parent;

	pthread_mutex_lock(&r->lock);
	parent = map_get(&r->by_namespace, namespace);
	if (parent && !map_get(&r->by_key, key)) {
		s = scope_new(r, namespace, api_stream_path(r->api, namespace, name));
		s->name = xstrdup(name);
		s->parent = parent;
		s->version = xstrdup(""); /* the watch begins with what is there */
		map_set(&r->by_key, steal_ptr(key), s);
	}
	pthread_mutex_unlock(&r->lock);
	free(key);
	http_wakeup(r->http);
}

void reflector_doubt(struct reflector *r, const char *namespace)
{
	pthread_mutex_lock(&r->lock);
	for (struct scope *s = r->scopes; s; s = s->next) {
		if (!s->namespace || !streq(s->namespace, namespace))
			continue;
		atomic_store(&s->doubted, true);
		if (s->state == REFUSED && !s->name)
			s->state = LISTING; /* whoever asks waits for the answer */
	}
	pthread_mutex_unlock(&r->lock);
	http_wakeup(r->http);
}

/* r->lock held. Whether the scope has nothing to do: another one covers it. */
static bool is_idle(const struct reflector *r, const struct scope *s)
{
	return s->parent ? s->parent->state != REFUSED : s == r->cluster && s->state == REFUSED;
}

/* r->lock held. 0, -EAGAIN while a list is still to come, or why one failed. */
static int refreshed(const struct reflector *r, unsigned asked)
{
	int error = 0;

	for (const struct scope *s = r->scopes; s; s = s->next) {
		if (is_idle(r, s))
			continue;
		if ((int)(s->refreshed - asked) < 0)
			return -EAGAIN;
		if (s->error && s->state != REFUSED)
			error = -s->error;
	}
	return error;
}

int reflector_refresh(struct reflector *r, const struct http_check *check, int64_t timeout_ms)
{
	int64_t deadline = now_monotonic() + timeout_ms * NSEC_PER_MSEC;
	unsigned asked = atomic_fetch_add(&r->asked, 1) + 1;
	int error;

	http_wakeup(r->http);
	pthread_mutex_lock(&r->lock);
	while ((error = refreshed(r, asked)) == -EAGAIN && !r->stop) {
		int64_t now = now_monotonic(), until = now + 100 * NSEC_PER_MSEC;
		struct timespec ts = {until / NSEC_PER_SEC, until % NSEC_PER_SEC};

		if (now >= deadline) {
			error = -ETIMEDOUT;
			break;
		}
		pthread_cond_timedwait(&r->changed, &r->lock, &ts);
		pthread_mutex_unlock(&r->lock);
		error = check ? check->fn(check->arg) : 0;
		pthread_mutex_lock(&r->lock);
		if (error < 0)
			break;
	}
	pthread_mutex_unlock(&r->lock);
	return error == -EAGAIN ? -ESHUTDOWN : error;
}

json_t *reflector_status(struct reflector *r)
{
	json_t *scopes = json_array();
	int64_t now = now_monotonic();

	pthread_mutex_lock(&r->lock);
	for (struct scope *s = r->scopes; s; s = s->next) {
		json_t *o = json_pack("{s:s, s:s, s:b}", "path", s->path, "state",
			state_names[s->state], "listed", s->synced);

		json_object_set_new(o, "ageSeconds",
			s->contact ? json_real((double)(now - s->contact) / NSEC_PER_SEC)
				   : json_null());
		json_object_set_new(
			o, "error", s->error ? json_string(s->error_message) : json_null());
		json_array_append_new(scopes, o);
	}
	pthread_mutex_unlock(&r->lock);
	return scopes;
}
