#include "client/scope.h"

#include "client/clock.h"
#include "client/scope_list.h"
#include "client/scope_watch.h"

#include <errno.h>

#define RELIST_INTERVAL (60 * NSEC_PER_SEC) /* of namespaces: their watch replays nothing */

struct scope *scope_new(
	struct scope_shared *shared, enum scope_kind kind, const char *ns, const char *name)
{
	struct scope *s = xcalloc(1, sizeof(*s));

	s->shared = shared;
	s->kind = kind;
	s->ns = ns ? xstrdup(ns) : NULL;
	s->name = name ? xstrdup(name) : NULL;
	s->path = resource_path(scope_resource(s), ns, name, NULL);
	s->body.max = HTTP_BODY_MAX;
	s->frame = (struct frame)FRAME_INIT(FRAME_MAX);
	s->state = SCOPE_LISTING;
	return s;
}

void scope_end(struct scope *s)
{
	scope_stop_transfer(s);
	s->ended = true;
}

void scope_free(struct scope *s)
{
	scope_stop_transfer(s);
	buf_release(&s->body);
	frame_release(&s->frame);
	free(s->question);
	free(s->ns);
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
			scope_set_state(s, SCOPE_LISTING, 0, NULL);
		atomic_store(&s->doubted, false);
	}
	if (s->kind == SCOPE_NAMESPACES && s->doing == SCOPE_WATCH &&
		now >= s->listed + RELIST_INTERVAL)
		s->relist = true;
	if (s->asked != asked) {
		s->asked = asked;
		s->relist = true;
		s->due = 0;
		scope_stop_transfer(s);
	}
	if (s->relist && s->doing == SCOPE_WATCH) {
		scope_stop_transfer(s);
		s->due = 0;
	}
	if (s->doing == SCOPE_WATCH && now >= s->watch_started + SCOPE_GOOD_WATCH)
		scope_watch_is_good(s);
}

/* When there is something to do although nothing comes. */
static int64_t watch_due(const struct scope *s)
{
	int64_t good = s->good ? INT64_MAX : s->watch_started + SCOPE_GOOD_WATCH;
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
			scope_watch(s);
		else
			scope_list(s);
	}
	return s->transfer ? watch_due(s) : s->due;
}

/* A list under way comes to its end with the credentials that it has. */
void scope_renew(struct scope *s)
{
	if (s->doing == SCOPE_WATCH) {
		scope_stop_transfer(s);
		s->due = 0;
		s->relist = s->relist || scope_lists_first(s); /* their watch replays nothing */
	} else if (!s->transfer && s->state == SCOPE_WAITING && s->error == EKEYEXPIRED) {
		s->due = s->backoff = 0;
	}
}
