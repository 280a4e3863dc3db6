#include "client/scope_state.h"

#include "client/clock.h"
#include "client/descriptors.h"
#include "client/log.h"

#include <errno.h>

#define BACKOFF_MAX    (15 * NSEC_PER_SEC) /* with its jitter 30 s */
#define ERROR_BODY_MAX ((size_t)64 << 10)

const char *const scope_state_names[] = {
	"listing", "watching", "waiting", "polling", "refused", "doubted", "rollback seen"};

bool scope_is_of_namespaces(const struct scope *s)
{
	return s->kind == SCOPE_NAMESPACES || s->kind == SCOPE_NAMESPACE;
}

bool scope_is_single(const struct scope *s)
{
	return s->kind == SCOPE_NAMESPACE || s->kind == SCOPE_STREAM;
}

bool scope_lists_first(const struct scope *s)
{
	return scope_is_of_namespaces(s) || scope_is_single(s);
}

const struct api_resource *scope_resource(const struct scope *s)
{
	const struct api *api = s->shared->api;

	return scope_is_of_namespaces(s) ? api->namespaces : &api->resources->streams;
}

struct intake scope_intake(struct scope *s, uint64_t list)
{
	struct scope_shared *shared = s->shared;

	return (struct intake){shared->api, shared->store,
		scope_is_of_namespaces(s) ? INTAKE_NAMESPACES : INTAKE_STREAMS, list, shared->check,
		shared->arg};
}

void scope_note_version(struct scope *s, const char *version)
{
	if (!version || !*version || (s->high && rv_compare(version, s->high) <= 0))
		return;
	free(s->high);
	s->high = xstrdup(version);
}

void scope_add_selector(const struct scope *s, struct buf *path, char separator)
{
	if (!s->shared->selector || scope_lists_first(s))
		return;
	buf_addf(path, "%clabelSelector=", separator);
	buf_addurl(path, s->shared->selector);
}

/* ---- what others see of it ---- */

/* Whoever runs the program hears that what was watched isn't, and that it is again. */
static void tell(struct scope *s, enum scope_state state, const char *message)
{
	if (state == SCOPE_WATCHING) {
		if (s->lost)
			log_notice("%s is watched again, after %lld s", s->path,
				(long long)((now_monotonic() - s->lost) / NSEC_PER_SEC));
		s->lost = 0;
		s->watched = true;
	} else if (state != SCOPE_LISTING && s->watched && !s->lost) {
		s->lost = now_monotonic();
		log_notice("the watch of %s is lost: %s", s->path,
			message ? message : scope_state_names[state]);
	}
}

void scope_set_state(struct scope *s, enum scope_state state, int error, const char *message)
{
	struct scope_shared *shared = s->shared;

	tell(s, state, message);
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

void scope_set_synced(struct scope *s, bool synced)
{
	pthread_mutex_lock(&s->shared->lock);
	s->synced = synced;
	pthread_mutex_unlock(&s->shared->lock);
}

void scope_note_contact(struct scope *s)
{
	pthread_mutex_lock(&s->shared->lock);
	s->contact = now_monotonic();
	pthread_mutex_unlock(&s->shared->lock);
}

void scope_note_failure(
	struct scope *s, const char *verb, long code, int error, const char *message)
{
	_cleanup_free_ char *request = xasprintf("%s %s", verb, s->path);

	journal_add(s->shared->api->journal, NULL, request, code, error, message);
}

/* ---- waiting ---- */

int64_t scope_jitter(struct scope *s, int64_t wait)
{
	return wait + wait * (rand_r(&s->shared->seed) % 1000) / 1000;
}

void scope_back_off(struct scope *s, long retry_after)
{
	int64_t wait;

	s->backoff = s->backoff ? s->backoff * 2 : SCOPE_BACKOFF_FIRST;
	if (s->backoff > BACKOFF_MAX)
		s->backoff = BACKOFF_MAX;
	wait = scope_jitter(s, s->backoff);
	if (retry_after > SCOPE_RETRY_AFTER)
		retry_after = SCOPE_RETRY_AFTER;
	if (wait < retry_after * NSEC_PER_SEC)
		wait = retry_after * NSEC_PER_SEC;
	s->due = now_monotonic() + wait;
}

void scope_fail(struct scope *s, const char *verb, long code, int error, const char *message,
	long retry_after)
{
	scope_note_failure(s, verb, code, error, message);
	if (s->state ==
		SCOPE_REFUSED) /* as before: what others may read by name they go on reading */
		scope_set_state(s, SCOPE_REFUSED, s->error, NULL);
	else
		scope_set_state(s, SCOPE_WAITING, error, message);
	scope_back_off(s, retry_after);
}

void scope_poll_later(struct scope *s)
{
	s->due = now_monotonic() + s->shared->poll_interval * NSEC_PER_SEC;
}

/* ---- transfers ---- */

void scope_reset_frame(struct scope *s)
{
	frame_release(&s->frame); /* a cut event is no event */
	s->frame = (struct frame)FRAME_INIT(FRAME_MAX);
}

void scope_stop_transfer(struct scope *s)
{
	if (s->transfer) {
		http_abort(s->transfer);
		s->shared->transfers--;
	}
	if (s->doing == SCOPE_WATCH)
		scope_reset_frame(s);
	s->transfer = NULL;
	s->doing = SCOPE_IDLE;
}

void scope_clear_body(struct scope *s)
{
	buf_release(&s->body);
	s->body = (struct buf)BUF_INIT(HTTP_BODY_MAX);
}

bool scope_has_room(const struct scope *s, size_t left_to_others)
{
	return s->shared->transfers + left_to_others < descriptors_budget();
}

void scope_start(struct scope *s, int doing, const struct http_request *request, http_data_fn *data,
	http_done_fn *done)
{
	scope_clear_body(s);
	s->doing = doing;
	s->transfer = http_start(s->shared->http, request, data, done, s);
	s->shared->transfers++;
}

void scope_transfer_done(struct scope *s)
{
	s->transfer = NULL;
	s->doing = SCOPE_IDLE;
	s->shared->transfers--;
}

int scope_on_body(void *arg, long code, const char *data, size_t len)
{
	struct scope *s = arg;

	if (code != 200 && code != 201 && s->body.len + len > ERROR_BODY_MAX)
		return 0;
	if (s->shared->check(s->shared->arg) < 0) /* a page may take long to come */
		return -ESHUTDOWN;
	return buf_add(&s->body, data, len);
}

void scope_restart(struct scope *s)
{
	free(steal_ptr(s->version));
	free(steal_ptr(s->next_page));
	free(steal_ptr(s->list_version));
	s->quiet = 0;
}
