#include "client/scope_watch.h"

#include "client/clock.h"

#include <errno.h>

#define WATCH_GRACE_S	 30 /* how long after its timeoutSeconds a watch may still be open */
#define BOOKMARK_GRACE_S 180
#define QUIET_WATCHES	 3
#define RESUME_AFTER	 5 /* seconds; who asks for more is listed next, which tells what changed */
#define LIST_ROOM	 8 /* transfers that watches leave to lists */

/* Watches don't work: it is listed from time to time instead. */
static void start_polling(struct scope *s, int error, const char *message)
{
	int64_t soon = now_monotonic() + SCOPE_RETRY_AFTER * NSEC_PER_SEC;
	bool begins = !s->polls;

	scope_restart(s);
	s->polls = true;
	scope_set_state(s, SCOPE_POLLING, error, message);
	scope_poll_later(s);
	if (begins && s->due > soon) /* perhaps it was the end of a restart */
		s->due = soon;
}

/* Refused, broken, or ended too often without a word: a list tells what is true. */
static void watch_failed(
	struct scope *s, long code, int error, const char *message, long retry_after)
{
	bool refused = code == 403 || code == 404 || code == 405;

	scope_note_failure(s, "WATCH", code, error, message);
	s->fruitless++;
	if (s->polls || s->fruitless >= (refused ? 2 : 3)) {
		start_polling(s, error, message);
		return;
	}
	scope_restart(s);
	scope_set_state(s, SCOPE_WAITING, error, message);
	scope_back_off(s, retry_after);
}

/* Whether a watch that was interrupted is to be tried again where it was, without a list. */
static bool may_resume(const struct scope *s, long retry_after)
{
	return !scope_lists_first(s) && !s->polls && s->fruitless == 0 &&
	       retry_after <= RESUME_AFTER && s->quiet + 1 < QUIET_WATCHES;
}

/*
 * It goes on where it was; three times from one version, and it is listed. After a list that didn't
 * help, once.
 */
static void watch_interrupted(
	struct scope *s, long code, int error, const char *message, long retry_after)
{
	if (may_resume(s, retry_after)) {
		s->quiet++;
		scope_fail(s, "WATCH", code, error, message, retry_after);
	} else {
		watch_failed(s, code, error, message, retry_after);
	}
}

void scope_watch_is_good(struct scope *s)
{
	if (s->good)
		return;
	s->good = true;
	s->backoff = 0;
	s->fruitless = 0;
	s->polls = false;
	scope_set_state(s, SCOPE_WATCHING, 0, NULL);
}

/* False where a bookmark tells that the server is at an earlier version than it was. */
static bool set_version(struct scope *s, const struct event *event)
{
	const char *version = event->taken.version;

	if (!version || scope_lists_first(s)) /* a project watch has no place to resume at */
		return true;
	if (event->type == INTAKE_BOOKMARK && s->version && rv_compare(version, s->version) < 0)
		return false;
	scope_note_version(s, version);
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
	struct intake in = scope_intake(s, 0);
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
		scope_note_failure(s, "WATCH", 200, EINVAL, event.taken.why);
	scope_note_contact(s);
	if (event.type == INTAKE_BOOKMARK)
		s->bookmarks = true;
	else if (!scope_lists_first(s)) /* theirs begin with what is there, which shows nothing */
		scope_watch_is_good(s);
	tell_namespace(s, &event);
	return set_version(s, &event) ? 0 : -EREMCHG;
}

/*
 * The server grants the watch. Whether it works is seen later, unless it was only refused before.
 */
static void watch_granted(struct scope *s)
{
	if (!s->polls || s->error == EACCES || s->error == ENOENT || s->error == EOPNOTSUPP ||
		s->error == EMFILE)
		scope_set_state(s, SCOPE_WATCHING, 0, NULL);
}

static int on_watch_data(void *arg, long code, const char *data, size_t len)
{
	struct scope *s = arg;
	const char *text;
	size_t text_len;
	int r;

	if (code != 200)
		return scope_on_body(arg, code, data, len);
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
		scope_back_off(s, 0);
	else if (stood < SCOPE_GOOD_WATCH && !whole)
		s->due = now_monotonic() + scope_jitter(s, SCOPE_BACKOFF_FIRST);
	if (result->error == -ETIMEDOUT)
		scope_note_failure(s, "WATCH", 200, ETIMEDOUT, "silent for too long");
}

static void on_watch_done(void *arg, const struct http_result *result)
{
	struct scope *s = arg;

	scope_transfer_done(s);
	s->due = 0;
	if (scope_lists_first(s))
		s->relist = true;
	scope_reset_frame(s);
	if (result->code == 200)
		watch_ended(s, result);
	else if (result->error < 0)
		watch_interrupted(s, 0, -result->error, result->message, 0);
	else
		watch_refused(s, result);
	status_release(&s->error_event);
	scope_clear_body(s);
}

void scope_watch(struct scope *s)
{
	struct scope_shared *shared = s->shared;
	int timeout =
		shared->watch_timeout ? shared->watch_timeout : 300 + rand_r(&shared->seed) % 301;
	int grace = shared->watch_timeout && timeout < WATCH_GRACE_S ? timeout : WATCH_GRACE_S;
	_cleanup_buf_ struct buf path = BUF_INIT(1 << 16);
	struct http_request request = {.silence_ms = (timeout + grace) * INT64_C(1000)};

	if (!scope_has_room(s, LIST_ROOM)) {
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
	scope_add_selector(s, &path, '&');
	request.path = path.data;
	if (s->bookmarks && timeout > BOOKMARK_GRACE_S)
		request.silence_ms = BOOKMARK_GRACE_S * 1000;
	s->words = 0;
	s->good = false;
	s->watch_seconds = timeout;
	s->watch_started = now_monotonic();
	scope_start(s, SCOPE_WATCH, &request, on_watch_data, on_watch_done);
}
