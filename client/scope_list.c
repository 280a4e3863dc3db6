#include "client/scope_list.h"

#include "client/clock.h"

#include <errno.h>

#define PAGE_LIMIT	500
#define LIST_TIMEOUT_MS 300000 /* one page; the server gives up after 60 s of its own time */
#define NO_ROOM		(50 * NSEC_PER_MSEC)

static void list_page(struct scope *s);

/* ---- refusals ---- */

/*
 * Out of the store. An object that only the rights took away may come back: nothing remembers it.
 */
static void drop(struct scope *s)
{
	struct store *store = s->shared->store;
	_cleanup_free_ char *key = NULL;

	if (s->kind == SCOPE_STREAM) {
		key = xasprintf("%s/%s", s->ns, s->name);
		store_drop_one(store, key);
	} else if (s->kind == SCOPE_STREAMS && s->synced) { /* else there are those read by name */
		store_drop(store, s->ns);
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
		scope_note_failure(s, "LIST", status->code, status->error, status->message);
	drop(s);
	s->polls = false;
	scope_set_state(s, SCOPE_REFUSED, status->error, status->message);
	ask_again(s);
	s->shared->events->refused(s->shared->arg, s);
	s->refusals = (struct refusals){0};
	scope_set_synced(s, false);
}

/* A review says that we may not, after the server had refused. */
static void take_refusal(struct scope *s)
{
	int64_t now = now_monotonic();

	if (!s->synced || refusals_add(&s->refusals, now, s->shared->confirm_interval)) {
		refuse(s);
		return;
	}
	scope_note_failure(s, "LIST", s->refusal.code, s->refusal.error, s->refusal.message);
	scope_set_state(s, SCOPE_DOUBTED, s->refusal.error, s->refusal.message);
	s->due = refusals_next(&s->refusals, now, s->shared->confirm_interval);
}

/* The refusal was none: the server is starting, or can't say. */
static void take_outage(struct scope *s)
{
	s->refusals = (struct refusals){0};
	scope_fail(s, "LIST", s->refusal.code, EAGAIN, s->refusal.message, 0);
}

static void on_review_done(void *arg, const struct http_result *result)
{
	struct scope *s = arg;
	enum review_answer answer = REVIEW_FAILED;

	scope_transfer_done(s);
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
	struct review review = {.verb = scope_is_single(s) ? "get" : "list",
		.resource = scope_resource(s),
		.ns = s->ns ? s->ns : "",
		.name = s->name};
	_cleanup_free_ char *path = NULL;
	struct http_request request = review_request(&review, api->timeout_ms, &s->question, &path);

	scope_start(s, SCOPE_REVIEW, &request, scope_on_body, on_review_done);
}

/* 403. It was asked for by name, and its streams may be readable all the same: so it is there. */
static void take_forbidden(struct scope *s)
{
	s->forbidden = true;
	if (!s->synced)
		store_put_namespace(s->shared->store, s->name, NULL, 0, 0);
	scope_set_synced(s, true);
	scope_set_state(s, SCOPE_POLLING, 0, NULL);
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
		scope_set_state(s, SCOPE_REFUSED, s->refusal.error, s->refusal.message);
		ask_again(s);
	} else {
		ask_review(s);
		return;
	}
	status_release(&s->refusal);
}

/* ---- what came ---- */

/* A list went well; of a scope that polls it still holds why its watches don't work. */
static void set_listed(struct scope *s)
{
	scope_set_synced(s, true);
	if (s->polls)
		scope_set_state(s, SCOPE_POLLING, s->error, NULL);
	else
		scope_set_state(s, s->version ? SCOPE_WATCHING : SCOPE_POLLING, 0, NULL);
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

	scope_restart(s);
	scope_note_failure(s, "LIST", 200, ESTALE, message);
	scope_set_state(s, SCOPE_ROLLBACK, ESTALE, message);
	scope_back_off(s, 0);
}

/* The server is where it was before: what it says now is the truth. */
static void take_rollback(struct scope *s)
{
	_cleanup_free_ char *message =
		xasprintf("the server went back from version %s to %s", s->high, s->list_version);

	scope_note_failure(s, "LIST", 200, ESTALE, message);
	store_forget_deleted(s->shared->store);
	free(steal_ptr(s->high));
	s->lower = 0;
	s->replaces = false;
}

static void list_done_whole(struct scope *s)
{
	struct scope_shared *shared = s->shared;

	if (!scope_is_of_namespaces(s) && !s->unnamed)
		store_sweep(shared->store, s->ns, s->list, s->list_version);
	if (s->replaces)
		take_rollback(s);
	if (!streq(s->list_version, "0"))
		scope_note_version(s, s->list_version);
	free(s->version);
	s->version = steal_ptr(s->list_version);
	s->unpaged = false;
	s->refusals = (struct refusals){0};
	s->listed = now_monotonic();
	if (s->polls)
		s->backoff = 0;
	s->due = 0;
	shared->listed = true;
	scope_note_contact(s);
	shared->events->listed(shared->arg, s); /* first: whoever waits for it finds all of it */
	set_listed(s);
}

static void list_broken(struct scope *s, const char *why)
{
	scope_stop_transfer(s);
	scope_restart(s);
	scope_fail(s, "LIST", 200, EIO, why, 0);
}

/* Of the only one: what it is now. A watch from nowhere tells it again. */
static void take_single(struct scope *s, const struct buf *body)
{
	struct intake in = scope_intake(s, 0);
	_cleanup_taken_ struct taken taken = {0};
	int r = intake_object(&in, body->data ? body->data : "", body->len, &taken);

	if (r < 0) {
		list_broken(s, taken.why ? taken.why : "the answer is not what was asked for");
		return;
	}
	scope_restart(s);
	s->listed = now_monotonic();
	s->refusals = (struct refusals){0};
	s->forbidden = false;
	s->due = 0;
	if (s->kind == SCOPE_NAMESPACE)
		scope_poll_later(s);
	else
		s->version = xstrdup("");
	scope_note_contact(s);
	set_listed(s);
	if (s->kind == SCOPE_NAMESPACE)
		s->shared->events->seen(s->shared->arg, s->name);
}

/* A 404 that names the only one. */
static void take_missing(struct scope *s, const struct status *status)
{
	_cleanup_free_ char *key = NULL;

	if (s->kind == SCOPE_STREAM) {
		key = xasprintf("%s/%s", s->ns, s->name);
		store_delete(s->shared->store, key, NULL);
		s->ended = !s->keep;
		scope_set_synced(s, true);
		scope_set_state(s, SCOPE_POLLING, 0, NULL);
		s->version = xstrdup("");
		s->due = 0;
	} else if (s->synced) {
		s->shared->events->missing(s->shared->arg, s->name);
		scope_set_state(s, SCOPE_POLLING, 0, NULL);
		scope_poll_later(s);
	} else {
		scope_set_state(s, SCOPE_REFUSED, status->error, status->message);
		scope_poll_later(s);
	}
}

static void note_left_out(struct scope *s, const struct taken *taken)
{
	_cleanup_free_ char *message = NULL;

	if (!taken->left_out)
		return;
	message = xasprintf("%zu of %zu items are left out: %s", taken->left_out, taken->items,
		taken->why ? taken->why : "they can't be read");
	scope_note_failure(s, "LIST", 200, EINVAL, message);
}

static void list_is_none(struct scope *s, const struct buf *body)
{
	_cleanup_free_ char *begin = buf_begin(body);
	_cleanup_free_ char *why = xasprintf("the answer is no list: %s", begin);

	list_broken(s, why);
}

/* One page: the next one is asked for before this one's items are taken in. */
static void take_page(struct scope *s, const struct buf *body, struct taken *page)
{
	struct intake in = scope_intake(s, s->list);
	bool again = page->more && s->next_page && streq(page->more, s->next_page);
	int r;

	free(s->next_page);
	s->next_page = steal_ptr(page->more);
	if (s->next_page && !again)
		list_page(s);
	r = intake_page(&in, page);
	note_left_out(s, page);
	s->unnamed = s->unnamed || page->unnamed;
	if (r == -EBADMSG || (page->mangled && s->synced))
		list_is_none(s, body);
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
	if (scope_is_single(s) && status_is_missing(&status, s->name)) {
		scope_restart(s);
		take_missing(s, &status);
		return;
	}
	expired = status.code == 410 && s->next_page;
	s->unpaged = s->unpaged || expired; /* once more, in one piece */
	scope_restart(s);
	if (status.code == 403) {
		take_403(s, &status, result);
	} else if (!s->synced && (status.code == 404 || status.code == 405)) {
		s->refusal = status;
		status = (struct status){0};
		refuse(s);
		status_release(&s->refusal);
	} else {
		scope_fail(s, "LIST", result->code, status.error ? status.error : EIO,
			status.message, result->retry_after);
	}
}

static void on_list_done(void *arg, const struct http_result *result)
{
	struct scope *s = arg;
	_cleanup_taken_ struct taken page = {0};
	_cleanup_buf_ struct buf body = {0};

	scope_transfer_done(s);
	if (result->error < 0) {
		scope_restart(s);
		scope_fail(s, "LIST", 0, -result->error, result->message, 0);
		return;
	}
	if (result->code != 200) {
		list_refused(s, result);
		return;
	}
	body = s->body;
	s->body = (struct buf)BUF_INIT(HTTP_BODY_MAX);
	if (scope_is_single(s)) {
		take_single(s, &body);
		return;
	}
	if (intake_page_head(body.data ? body.data : "", body.len, &page) < 0) {
		list_is_none(s, &body);
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

static void list_page(struct scope *s)
{
	_cleanup_buf_ struct buf path = BUF_INIT(1 << 20);
	struct http_request request = {
		.timeout_ms = LIST_TIMEOUT_MS, .silence_ms = s->shared->api->timeout_ms};
	char separator = '?';

	buf_addf(&path, "%s", s->path);
	if (!s->unpaged && !scope_is_single(s)) {
		buf_addf(&path, "?limit=%d", PAGE_LIMIT);
		separator = '&';
	}
	scope_add_selector(s, &path, separator);
	if (s->next_page) {
		buf_addstr(&path, "&continue=");
		buf_addurl(&path, s->next_page);
	}
	request.path = path.data;
	scope_start(s, SCOPE_LIST, &request, scope_on_body, on_list_done);
}

void scope_list(struct scope *s)
{
	if (!scope_has_room(s, 0)) {
		s->due = now_monotonic() + NO_ROOM;
		return;
	}
	scope_restart(s);
	s->relist = s->unnamed = false;
	s->list_asked = now_monotonic();
	s->list = store_list_begin(s->shared->store);
	list_page(s);
}
