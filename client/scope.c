#include "client/scope.h"

#include "client/clock.h"
#include "client/descriptors.h"

#include <errno.h>

#define PAGE_LIMIT	 500
#define BACKOFF_FIRST	 (800 * NSEC_PER_MSEC)
#define BACKOFF_MAX	 (15 * NSEC_PER_SEC) /* with its jitter 30 s */
#define RETRY_AFTER	 30		     /* seconds that a server can ask for, at most */
#define LIST_TIMEOUT_MS	 300000 /* one page; the server gives up after 60 s of its own time */
#define WATCH_GRACE_S	 30	/* how long after its timeoutSeconds a watch may still be open */
#define BOOKMARK_GRACE_S 180
#define GOOD_WATCH	 (10 * NSEC_PER_SEC)
#define QUIET_WATCHES	 3
#define RESUME_AFTER                                                                               \
	5 /* seconds; a server that asks for more is listed next, which tells what changed meanwhile */
#define RELIST_INTERVAL (60 * NSEC_PER_SEC) /* of namespaces: their watch replays nothing */
#define NO_ROOM		(50 * NSEC_PER_MSEC)
#define LIST_ROOM	8 /* transfers that watches leave to lists */

#define ERROR_BODY_MAX ((size_t)64 << 10)

const char *const scope_state_names[] = {
	"listing", "watching", "waiting", "polling", "refused", "doubted", "rollback seen"};

bool scope_is_of_namespaces(const struct scope *s)
{
	return s->kind == SCOPE_NAMESPACES || s->kind == SCOPE_NAMESPACE;
}

static bool is_single(const struct scope *s)
{
	return s->kind == SCOPE_NAMESPACE || s->kind == SCOPE_STREAM;
}

/* Whether a watch goes on where nothing tells what was missed: what is there is looked at first. */
static bool lists_first(const struct scope *s)
{
	return scope_is_of_namespaces(s) || is_single(s);
}

static const struct api_resource *resource_of(const struct scope *s)
{
	const struct api *api = s->shared->api;

	return scope_is_of_namespaces(s) ? api->namespaces : &api->resources->streams;
}

struct scope *scope_new(
	struct scope_shared *shared, enum scope_kind kind, const char *namespace, const char *name)
{
	struct scope *s = xcalloc(1, sizeof(*s));

	s->shared = shared;
	s->kind = kind;
	s->namespace = namespace ? xstrdup(namespace) : NULL;
	s->name = name ? xstrdup(name) : NULL;
	s->path = resource_path(resource_of(s), namespace, name, NULL);
	s->body.max = HTTP_BODY_MAX;
	s->frame = (struct frame)FRAME_INIT(FRAME_MAX);
	s->state = SCOPE_LISTING;
	return s;
}

static void reset_frame(struct scope *s)
{
	frame_release(&s->frame); /* a cut event is no event */
	s->frame = (struct frame)FRAME_INIT(FRAME_MAX);
}

static void stop_transfer(struct scope *s)
{
	if (s->transfer) {
		http_abort(s->transfer);
		s->shared->transfers--;
	}
	if (s->doing == SCOPE_WATCH)
		reset_frame(s);
	s->transfer = NULL;
	s->doing = SCOPE_IDLE;
}

void scope_end(struct scope *s)
{
	stop_transfer(s);
	s->ended = true;
}

void scope_free(struct scope *s)
{
	stop_transfer(s);
	buf_release(&s->body);
	frame_release(&s->frame);
	free(s->question);
	free(s->namespace);
	free(s->name);
	free(s->path);
	free(s->version);
	free(s->list_version);
	free(s->next_page);
	free(s->high);
	status_release(&s->error_event);
	status_release(&s->refusal);
	free(s->error_message);
	free(s);
}

static struct intake intake_of(struct scope *s, uint64_t list)
{
	struct scope_shared *shared = s->shared;

	return (struct intake){shared->api, shared->store, shared->cache,
		scope_is_of_namespaces(s) ? INTAKE_NAMESPACES : INTAKE_STREAMS, list, shared->check,
		shared->arg};
}

/* ---- what others see of it ---- */

/* `message` NULL: as it was. */
static void set_state(struct scope *s, enum scope_state state, int error, const char *message)
{
	struct scope_shared *shared = s->shared;

	pthread_mutex_lock(&shared->lock);
	s->state = state;
	s->error = error;
	if (message) {
		free(s->error_message);
		s->error_message = xstrdup(message);
	}
	if (!s->relist && state != SCOPE_ROLLBACK)
		s->refreshed = s->asked;
	pthread_cond_broadcast(&shared->changed);
	pthread_mutex_unlock(&shared->lock);
}

static void set_synced(struct scope *s, bool synced)
{
	pthread_mutex_lock(&s->shared->lock);
	s->synced = synced;
	pthread_mutex_unlock(&s->shared->lock);
}

/* A list went well; of a scope that polls it still holds why its watches don't work. */
static void set_listed(struct scope *s)
{
	set_synced(s, true);
	if (s->polls)
		set_state(s, SCOPE_POLLING, s->error, NULL);
	else
		set_state(s, s->version ? SCOPE_WATCHING : SCOPE_POLLING, 0, NULL);
}

/* What is in the store is whole and current. */
static void note_contact(struct scope *s)
{
	pthread_mutex_lock(&s->shared->lock);
	s->contact = now_monotonic();
	pthread_mutex_unlock(&s->shared->lock);
}

static void note_failure(
	struct scope *s, const char *verb, long code, int error, const char *message)
{
	_cleanup_free_ char *request = xasprintf("%s %s", verb, s->path);

	journal_add(s->shared->api->journal, NULL, request, code, error, message);
}

/* ---- waiting ---- */

static int64_t jitter(struct scope *s, int64_t wait)
{
	return wait + wait * (rand_r(&s->shared->seed) % 1000) / 1000;
}

/* Waits 0.8 s, doubling to 15 s, each plus up to as much again at random; or as the server says. */
static void back_off(struct scope *s, long retry_after)
{
	int64_t wait;

	s->backoff = s->backoff ? s->backoff * 2 : BACKOFF_FIRST;
	if (s->backoff > BACKOFF_MAX)
		s->backoff = BACKOFF_MAX;
	wait = jitter(s, s->backoff);
	if (retry_after > RETRY_AFTER)
		retry_after = RETRY_AFTER;
	if (wait < retry_after * NSEC_PER_SEC)
		wait = retry_after * NSEC_PER_SEC;
	s->due = now_monotonic() + wait;
}

static void fail(struct scope *s, const char *verb, long code, int error, const char *message,
	long retry_after)
{
	note_failure(s, verb, code, error, message);
	if (s->state ==
		SCOPE_REFUSED) /* as before: what others may read by name they go on reading */
		set_state(s, SCOPE_REFUSED, s->error, NULL);
	else
		set_state(s, SCOPE_WAITING, error, message);
	back_off(s, retry_after);
}

static void poll_later(struct scope *s)
{
	s->due = now_monotonic() + s->shared->poll_interval * NSEC_PER_SEC;
}

/* ---- transfers ---- */

/* Of a watch's answer and of errors not more is kept than is needed. */
static void clear_body(struct scope *s)
{
	buf_release(&s->body);
	s->body = (struct buf)BUF_INIT(HTTP_BODY_MAX);
}

static bool has_room(const struct scope *s, size_t left_to_others)
{
	return s->shared->transfers + left_to_others < descriptors_budget();
}

static void start(struct scope *s, int doing, const struct http_request *request,
	http_data_fn *data, http_done_fn *done)
{
	clear_body(s);
	s->doing = doing;
	s->transfer = http_start(s->shared->http, request, data, done, s);
	s->shared->transfers++;
}

/* The first line of each done function: http frees the transfer. */
static void transfer_done(struct scope *s)
{
	s->transfer = NULL;
	s->doing = SCOPE_IDLE;
	s->shared->transfers--;
}

static int on_body(void *arg, long code, const char *data, size_t len)
{
	struct scope *s = arg;

	if (code != 200 && code != 201 && s->body.len + len > ERROR_BODY_MAX)
		return 0;
	if (s->shared->check(s->shared->arg) < 0) /* a page may take long to come */
		return -ESHUTDOWN;
	return buf_add(&s->body, data, len);
}

static void restart_list(struct scope *s)
{
	free(steal_ptr(s->version));
	free(steal_ptr(s->next_page));
	free(steal_ptr(s->list_version));
	s->quiet = 0;
}

/* ---- refusals ---- */

/* Out of the store. An object that only the rights took away may come back: nothing remembers it. */
static void drop(struct scope *s)
{
	struct store *store = s->shared->store;
	_cleanup_free_ char *key = NULL;

	if (s->kind == SCOPE_STREAM) {
		key = xasprintf("%s/%s", s->namespace, s->name);
		store_drop_one(store, key);
	} else if (s->kind == SCOPE_STREAMS && s->synced) { /* else there are those read by name */
		store_drop(store, s->namespace);
	}
}

/* A right that comes is taken up within 60 s. */
static void ask_again(struct scope *s)
{
	s->due = now_monotonic() + s->shared->confirm_interval * 3 / 2;
}

static void refuse(struct scope *s)
{
	const struct status *status = &s->refusal;

	if (s->kind != SCOPE_CLUSTER || s->synced)
		note_failure(s, "LIST", status->code, status->error, status->message);
	drop(s);
	s->polls = false;
	set_state(s, SCOPE_REFUSED, status->error, status->message);
	ask_again(s);
	s->shared->events->refused(s->shared->arg, s);
	s->refusals = (struct refusals){0};
	set_synced(s, false);
}

/* A review says that we may not, after the server had refused. */
static void take_refusal(struct scope *s)
{
	int64_t now = now_monotonic();

	if (!s->synced || refusals_add(&s->refusals, now, s->shared->confirm_interval)) {
		refuse(s);
		return;
	}
	note_failure(s, "LIST", s->refusal.code, s->refusal.error, s->refusal.message);
	set_state(s, SCOPE_DOUBTED, s->refusal.error, s->refusal.message);
	s->due = refusals_next(&s->refusals, now, s->shared->confirm_interval);
}

/* The refusal was none: the server is starting, or can't say. */
static void take_outage(struct scope *s)
{
	s->refusals = (struct refusals){0};
	fail(s, "LIST", s->refusal.code, EAGAIN, s->refusal.message, 0);
}

static void on_review_done(void *arg, const struct http_result *result)
{
	struct scope *s = arg;
	enum review_answer answer = REVIEW_FAILED;

	transfer_done(s);
	if (result->error == 0)
		answer = review_parse(result->code, s->body.data, s->body.len);
	if (answer == REVIEW_DENIED || (answer == REVIEW_ABSENT && !s->synced))
		take_refusal(s);
	else
		take_outage(s);
	status_release(&s->refusal);
}

static void ask_review(struct scope *s)
{
	const struct api *api = s->shared->api;
	struct review review = {.verb = is_single(s) ? "get" : "list",
		.resource = resource_of(s),
		.namespace = s->namespace ? s->namespace : "",
		.name = s->name};
	_cleanup_json_ json_t *body = review_body(&review);
	_cleanup_free_ char *path = resource_path(&resource_access_reviews, NULL, NULL, NULL);
	struct http_request request = {.method = "POST",
		.path = path,
		.content_type = "application/json",
		.timeout_ms = api->timeout_ms};

	free(s->question);
	s->question = json_dumps(body, JSON_COMPACT);
	request.body = s->question;
	request.body_len = strlen(s->question);
	start(s, SCOPE_REVIEW, &request, on_body, on_review_done);
}

/* 403. It was asked for by name, and its streams may be readable all the same: so it is there. */
static void take_forbidden(struct scope *s)
{
	s->forbidden = true;
	if (!s->synced)
		store_put_namespace(s->shared->store, s->name, NULL, 0, 0);
	set_synced(s, true);
	set_state(s, SCOPE_POLLING, 0, NULL);
	ask_again(s);
}

/* Takes the status over. */
static void take_403(struct scope *s, struct status *status, const struct http_result *result)
{
	const struct api *api = s->shared->api;

	status_release(&s->refusal);
	s->refusal = *status;
	*status = (struct status){0};
	if (refusal_is_passing(&s->refusal, api_user(api, result->generation), result->unready)) {
		take_outage(s);
	} else if (s->kind == SCOPE_NAMESPACE) {
		take_forbidden(s);
	} else if (s->state == SCOPE_REFUSED) { /* still */
		set_state(s, SCOPE_REFUSED, s->refusal.error, s->refusal.message);
		ask_again(s);
	} else {
		ask_review(s);
		return;
	}
	status_release(&s->refusal);
}

/* ---- list ---- */

static void list_page(struct scope *s);

static void note_version(struct scope *s, const char *version)
{
	if (!version || !*version || (s->high && rv_compare(version, s->high) <= 0))
		return;
	free(s->high);
	s->high = xstrdup(version);
}

/* The list has a lower version than was seen before: true until a second one says so. */
static bool went_back(struct scope *s)
{
	s->replaces = false;
	if (!s->high || scope_is_of_namespaces(s) || streq(s->list_version, "0") ||
		rv_compare(s->list_version, s->high) >= 0) {
		s->lower = 0;
		return false;
	}
	s->replaces = s->lower++ > 0;
	return !s->replaces;
}

static void doubt_versions(struct scope *s)
{
	_cleanup_free_ char *message = xasprintf(
		"the list is of version %s, after %s: once more", s->list_version, s->high);

	restart_list(s);
	note_failure(s, "LIST", 200, ESTALE, message);
	set_state(s, SCOPE_ROLLBACK, ESTALE, message);
	back_off(s, 0);
}

/* The server is where it was before: what it says now is the truth. */
static void take_rollback(struct scope *s)
{
	_cleanup_free_ char *message =
		xasprintf("the server went back from version %s to %s", s->high, s->list_version);

	note_failure(s, "LIST", 200, ESTALE, message);
	store_forget_deleted(s->shared->store);
	free(steal_ptr(s->high));
	s->lower = 0;
	s->replaces = false;
}

static void list_done_whole(struct scope *s)
{
	struct scope_shared *shared = s->shared;

	if (!scope_is_of_namespaces(s) && !s->unnamed)
		store_sweep(shared->store, s->namespace, s->list, s->list_version);
	if (s->replaces)
		take_rollback(s);
	if (!streq(s->list_version, "0"))
		note_version(s, s->list_version);
	free(s->version);
	s->version = steal_ptr(s->list_version);
	s->unpaged = false;
	s->refusals = (struct refusals){0};
	s->listed = now_monotonic();
	if (s->polls)
		s->backoff = 0;
	s->due = 0;
	shared->listed = true;
	note_contact(s);
	shared->events->listed(shared->arg, s); /* first: whoever waits for it finds all of it */
	set_listed(s);
}

static void list_broken(struct scope *s, const char *why)
{
	stop_transfer(s);
	restart_list(s);
	fail(s, "LIST", 200, EIO, why, 0);
}

/* Of the only one: what it is now. A watch from nowhere tells it again. */
static void take_single(struct scope *s, const struct buf *body)
{
	struct intake in = intake_of(s, 0);
	_cleanup_taken_ struct taken taken = {0};
	int r = intake_object(&in, body->data ? body->data : "", body->len, &taken);

	if (r < 0) {
		list_broken(s, taken.why ? taken.why : "the answer is not what was asked for");
		return;
	}
	restart_list(s);
	s->listed = now_monotonic();
	s->refusals = (struct refusals){0};
	s->forbidden = false;
	s->due = 0;
	if (s->kind == SCOPE_NAMESPACE)
		poll_later(s);
	else
		s->version = xstrdup("");
	note_contact(s);
	set_listed(s);
	if (s->kind == SCOPE_NAMESPACE)
		s->shared->events->seen(s->shared->arg, s->name);
}

/* A 404 that names the only one. */
static void take_missing(struct scope *s, const struct status *status)
{
	_cleanup_free_ char *key = NULL;

	if (s->kind == SCOPE_STREAM) {
		key = xasprintf("%s/%s", s->namespace, s->name);
		store_delete(s->shared->store, key, NULL);
		s->ended = !s->keep;
		set_synced(s, true);
		set_state(s, SCOPE_POLLING, 0, NULL);
		s->version = xstrdup("");
		s->due = 0;
	} else if (s->synced) {
		s->shared->events->missing(s->shared->arg, s->name);
		set_state(s, SCOPE_POLLING, 0, NULL);
		poll_later(s);
	} else {
		set_state(s, SCOPE_REFUSED, status->error, status->message);
		poll_later(s);
	}
}

static void note_left_out(struct scope *s, const struct taken *taken)
{
	_cleanup_free_ char *message = NULL;

	if (!taken->left_out)
		return;
	message = xasprintf("%zu of %zu items are left out: %s", taken->left_out, taken->items,
		taken->why ? taken->why : "they can't be read");
	note_failure(s, "LIST", 200, EINVAL, message);
}

/* One page: the next one is asked for before this one's items are taken in. */
static void take_page(struct scope *s, const struct buf *body, struct taken *page)
{
	struct intake in = intake_of(s, s->list);
	bool again = page->more && s->next_page && streq(page->more, s->next_page);
	int r;

	free(s->next_page);
	s->next_page = steal_ptr(page->more);
	if (s->next_page && !again)
		list_page(s);
	r = intake_page(&in, body->data, body->len, page);
	note_left_out(s, page);
	s->unnamed = s->unnamed || page->unnamed;
	if (r == -EBADMSG || (page->mangled && s->synced))
		list_broken(s, "the answer is no list");
	else if (r < 0)
		return; /* the reflector ends */
	else if (again || (s->next_page && page->news == 0))
		list_broken(s, "the list's continue leads nowhere: a page brings nothing new");
	else if (!s->next_page)
		list_done_whole(s);
}

static void list_refused(struct scope *s, const struct http_result *result)
{
	_cleanup_status_ struct status status = {0};
	bool expired = false;

	status_parse(result->code, s->body.data, s->body.len, &status);
	if (is_single(s) && status_is_missing(&status, s->name)) {
		restart_list(s);
		take_missing(s, &status);
		return;
	}
	expired = status.code == 410 && s->next_page;
	s->unpaged = s->unpaged || expired; /* once more, in one piece */
	restart_list(s);
	if (status.code == 403) {
		take_403(s, &status, result);
	} else if (!s->synced && (status.code == 404 || status.code == 405)) {
		s->refusal = status;
		status = (struct status){0};
		refuse(s);
		status_release(&s->refusal);
	} else {
		fail(s, "LIST", result->code, status.error ? status.error : EIO, status.message,
			result->retry_after);
	}
}

static void on_list_done(void *arg, const struct http_result *result)
{
	struct scope *s = arg;
	_cleanup_taken_ struct taken page = {0};
	_cleanup_buf_ struct buf body = {0};

	transfer_done(s);
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
	if (is_single(s)) {
		take_single(s, &body);
		return;
	}
	if (intake_page_head(body.data ? body.data : "", body.len, &page) < 0) {
		list_broken(s, page.why);
		return;
	}
	if (!s->list_version) {
		s->list_version = xstrdup(page.version ? page.version : "0");
		if (went_back(s)) {
			doubt_versions(s);
			return;
		}
	}
	take_page(s, &body, &page);
}

static void add_selector(const struct scope *s, struct buf *path, char separator)
{
	if (!s->shared->selector || lists_first(s))
		return;
	buf_addf(path, "%clabelSelector=", separator);
	buf_addurl(path, s->shared->selector);
}

static void list_page(struct scope *s)
{
	_cleanup_buf_ struct buf path = BUF_INIT(1 << 20);
	struct http_request request = {
		.timeout_ms = LIST_TIMEOUT_MS, .silence_ms = s->shared->api->timeout_ms};
	char separator = '?';

	buf_addf(&path, "%s", s->path);
	if (!s->unpaged && !is_single(s)) {
		buf_addf(&path, "?limit=%d", PAGE_LIMIT);
		separator = '&';
	}
	add_selector(s, &path, separator);
	if (s->next_page) {
		buf_addstr(&path, "&continue=");
		buf_addurl(&path, s->next_page);
	}
	request.path = path.data;
	start(s, SCOPE_LIST, &request, on_body, on_list_done);
}

static void list(struct scope *s)
{
	if (!has_room(s, 0)) {
		s->due = now_monotonic() + NO_ROOM;
		return;
	}
	restart_list(s);
	s->relist = s->unnamed = false;
	s->list_asked = now_monotonic();
	s->list = store_list_begin(s->shared->store);
	list_page(s);
}

/* ---- watch ---- */

/* Watches don't work: it is listed from time to time instead. */
static void start_polling(struct scope *s, int error, const char *message)
{
	int64_t soon = now_monotonic() + RETRY_AFTER * NSEC_PER_SEC;
	bool begins = !s->polls;

	restart_list(s);
	s->polls = true;
	set_state(s, SCOPE_POLLING, error, message);
	poll_later(s);
	if (begins && s->due > soon) /* perhaps it was the end of a restart */
		s->due = soon;
}

/* Refused, broken, or ended too often without a word: a list tells what is true. */
static void watch_failed(
	struct scope *s, long code, int error, const char *message, long retry_after)
{
	bool refused = code == 403 || code == 404 || code == 405;

	note_failure(s, "WATCH", code, error, message);
	s->fruitless++;
	if (s->polls || s->fruitless >= (refused ? 2 : 3)) {
		start_polling(s, error, message);
		return;
	}
	restart_list(s);
	set_state(s, SCOPE_WAITING, error, message);
	back_off(s, retry_after);
}

/* Whether a watch that was interrupted is to be tried again where it was, without a list. */
static bool may_resume(const struct scope *s, long retry_after)
{
	return !lists_first(s) && !s->polls && s->fruitless == 0 && retry_after <= RESUME_AFTER &&
	       s->quiet + 1 < QUIET_WATCHES;
}

/* It goes on where it was; three times from one version, and it is listed. After a list that didn't help, once. */
static void watch_interrupted(
	struct scope *s, long code, int error, const char *message, long retry_after)
{
	if (may_resume(s, retry_after)) {
		s->quiet++;
		fail(s, "WATCH", code, error, message, retry_after);
	} else {
		watch_failed(s, code, error, message, retry_after);
	}
}

/* What goes wrong from now on is another failure than before. */
static void watch_is_good(struct scope *s)
{
	if (s->good)
		return;
	s->good = true;
	s->backoff = 0;
	s->fruitless = 0;
	s->polls = false;
	set_state(s, SCOPE_WATCHING, 0, NULL);
}

/* False where a bookmark tells that the server is at an earlier version than it was. */
static bool set_version(struct scope *s, const struct event *event)
{
	const char *version = event->taken.version;

	if (!version || lists_first(s)) /* a project watch has no place to resume at */
		return true;
	if (event->type == INTAKE_BOOKMARK && s->version && rv_compare(version, s->version) < 0)
		return false;
	note_version(s, version);
	free(s->version);
	s->version = xstrdup(version);
	s->quiet = 0;
	return true;
}

static void tell_namespace(struct scope *s, const struct event *event)
{
	const struct scope_events *events = s->shared->events;

	if (!scope_is_of_namespaces(s) || !event->taken.name)
		return;
	if (event->type == INTAKE_OBJECT)
		events->seen(s->shared->arg, event->taken.name);
	else if (event->type == INTAKE_DELETED)
		events->missing(s->shared->arg, event->taken.name);
}

/* 0, or a negative errno that ends the watch. */
static int take_event(struct scope *s, const char *text, size_t len)
{
	struct intake in = intake_of(s, 0);
	_cleanup_event_ struct event event = {0};
	int r = intake_event(&in, text, len, &event);

	if (r < 0)
		return r;
	s->words++;
	if (event.type == INTAKE_ERROR) {
		status_release(&s->error_event);
		s->error_event = event.status;
		event.status = (struct status){0};
		return -ESTALE;
	}
	if (event.taken.why)
		note_failure(s, "WATCH", 200, EINVAL, event.taken.why);
	note_contact(s);
	if (event.type == INTAKE_BOOKMARK)
		s->bookmarks = true;
	else if (!lists_first(s)) /* theirs begin with what is there, which shows nothing */
		watch_is_good(s);
	tell_namespace(s, &event);
	return set_version(s, &event) ? 0 : -EREMCHG;
}

/* The server grants the watch. Whether it works is seen later, unless it was only refused before. */
static void watch_granted(struct scope *s)
{
	if (!s->polls || s->error == EACCES || s->error == ENOENT || s->error == EOPNOTSUPP ||
		s->error == EMFILE)
		set_state(s, SCOPE_WATCHING, 0, NULL);
}

static int on_watch_data(void *arg, long code, const char *data, size_t len)
{
	struct scope *s = arg;
	const char *text;
	size_t text_len;
	int r;

	if (code != 200)
		return on_body(arg, code, data, len);
	if (len == 0)
		watch_granted(s);
	r = frame_feed(&s->frame, data, len);
	while (r == 0 && (r = frame_next(&s->frame, &text, &text_len)) > 0)
		r = take_event(s, text, text_len);
	return r;
}

static void watch_refused(struct scope *s, const struct http_result *result)
{
	_cleanup_status_ struct status status = {0};
	int error;

	status_parse(result->code, s->body.data, s->body.len, &status);
	error = status.error ? status.error : EIO;
	if (refusal_is_passing(
		    &status, api_user(s->shared->api, result->generation), result->unready))
		error = EAGAIN;
	if (error == EAGAIN || error == ETIMEDOUT || error == EKEYEXPIRED ||
		(error == EIO && status.code >= 500))
		watch_interrupted(s, result->code, error, status.message, result->retry_after);
	else
		watch_failed(s, result->code, error, status.message, 0);
}

/* A watch that was granted has ended: go on where it stopped, or list again. */
static void watch_ended(struct scope *s, const struct http_result *result)
{
	int64_t stood = now_monotonic() - s->watch_started;
	bool whole = stood >= s->watch_seconds * NSEC_PER_SEC - NSEC_PER_SEC / 2;

	if (s->error_event.message)
		watch_failed(s, s->error_event.code,
			s->error_event.error ? s->error_event.error : EIO, s->error_event.message,
			0);
	else if (result->error == -EREMCHG)
		watch_failed(s, 200, ESTALE, "a bookmark is of an earlier version", 0);
	else if (result->error == -EBADMSG || result->error == -EFBIG)
		watch_failed(s, 200, -result->error, "what came is no watch event", 0);
	else if (s->words == 0 && !whole && (!s->good || s->quiet + 1 >= QUIET_WATCHES))
		watch_interrupted(s, 200, EIO, "the watch ended without a word", 0);
	else if (s->words == 0 && !whole)
		s->quiet++;
	else if (!s->good && !whole)
		back_off(s, 0);
	else if (stood < GOOD_WATCH && !whole)
		s->due = now_monotonic() + jitter(s, BACKOFF_FIRST);
	if (result->error == -ETIMEDOUT)
		note_failure(s, "WATCH", 200, ETIMEDOUT, "silent for too long");
}

static void on_watch_done(void *arg, const struct http_result *result)
{
	struct scope *s = arg;

	transfer_done(s);
	s->due = 0;
	if (lists_first(s))
		s->relist = true;
	reset_frame(s);
	if (result->code == 200)
		watch_ended(s, result);
	else if (result->error < 0)
		watch_interrupted(s, 0, -result->error, result->message, 0);
	else
		watch_refused(s, result);
	status_release(&s->error_event);
	clear_body(s);
}

static void watch(struct scope *s)
{
	struct scope_shared *shared = s->shared;
	int timeout =
		shared->watch_timeout ? shared->watch_timeout : 300 + rand_r(&shared->seed) % 301;
	int grace = shared->watch_timeout && timeout < WATCH_GRACE_S ? timeout : WATCH_GRACE_S;
	_cleanup_buf_ struct buf path = BUF_INIT(1 << 16);
	struct http_request request = {.silence_ms = (timeout + grace) * INT64_C(1000)};

	if (!has_room(s, LIST_ROOM)) {
		start_polling(s, EMFILE, "no descriptor is left here for its watch");
		return;
	}
	buf_add(&path, s->path,
		s->name ? (size_t)(strrchr(s->path, '/') - s->path) : strlen(s->path));
	buf_addf(&path, "?watch=true&allowWatchBookmarks=true&timeoutSeconds=%d", timeout);
	if (s->name) { /* from nowhere: it begins with what is there */
		buf_addstr(&path, "&fieldSelector=metadata.name%3D");
		buf_addurl(&path, s->name);
	} else {
		buf_addstr(&path, "&resourceVersion=");
		buf_addurl(&path, scope_is_of_namespaces(s) ? "0" : s->version);
	}
	add_selector(s, &path, '&');
	request.path = path.data;
	if (s->bookmarks && timeout > BOOKMARK_GRACE_S)
		request.silence_ms = BOOKMARK_GRACE_S * 1000;
	s->words = 0;
	s->good = false;
	s->watch_seconds = timeout;
	s->watch_started = now_monotonic();
	start(s, SCOPE_WATCH, &request, on_watch_data, on_watch_done);
}

/* ---- step by step ---- */

void scope_relist(struct scope *s)
{
	if (s->refusals.count || s->state == SCOPE_WAITING || s->state == SCOPE_ROLLBACK)
		return; /* it comes in its time */
	s->relist = true;
	s->due = 0;
}

/* What came to be wanted since the last step. */
static void take_wishes(struct scope *s, int64_t now)
{
	unsigned asked = atomic_load(&s->shared->asked);

	if (atomic_load(&s->doubted)) {
		scope_relist(s);
		if (s->state == SCOPE_REFUSED && s->relist) /* whoever asks waits for the answer */
			set_state(s, SCOPE_LISTING, 0, NULL);
		atomic_store(&s->doubted, false);
	}
	if (s->kind == SCOPE_NAMESPACES && s->doing == SCOPE_WATCH &&
		now >= s->listed + RELIST_INTERVAL)
		s->relist = true;
	if (s->asked != asked) {
		s->asked = asked;
		s->relist = true;
		s->due = 0;
		stop_transfer(s);
	}
	if (s->relist && s->doing == SCOPE_WATCH) {
		stop_transfer(s);
		s->due = 0;
	}
	if (s->doing == SCOPE_WATCH && now >= s->watch_started + GOOD_WATCH)
		watch_is_good(s);
}

/* When there is something to do although nothing comes. */
static int64_t watch_due(const struct scope *s)
{
	int64_t good = s->good ? INT64_MAX : s->watch_started + GOOD_WATCH;
	int64_t relist = s->kind == SCOPE_NAMESPACES ? s->listed + RELIST_INTERVAL : INT64_MAX;

	if (s->doing != SCOPE_WATCH)
		return INT64_MAX;
	return good < relist ? good : relist;
}

int64_t scope_step(struct scope *s, int64_t now)
{
	take_wishes(s, now);
	if (!s->transfer && s->due <= now) {
		if (s->version && !s->relist)
			watch(s);
		else
			list(s);
	}
	return s->transfer ? watch_due(s) : s->due;
}

/* A list under way comes to its end with the credentials that it has. */
void scope_renew(struct scope *s)
{
	if (s->doing == SCOPE_WATCH) {
		stop_transfer(s);
		s->due = 0;
		s->relist = s->relist || lists_first(s); /* their watch replays nothing */
	} else if (!s->transfer && s->state == SCOPE_WAITING && s->error == EKEYEXPIRED) {
		s->due = s->backoff = 0;
	}
}
