#include "client/absent.h"

#include "client/clock.h"
#include "client/map.h"
#include "client/review.h"

#include <errno.h>

#define AT_ONCE	   10 /* requests beside each other */
#define ANSWER_MAX ((size_t)1 << 20)

struct absent {
	struct absents *absents;
	int64_t since, due; /* monotonic ns */
	bool confirmed;	    /* a list 10 s later lacks it, too, or there is none */
	struct refusals refusals;
	struct http_transfer *transfer;
	struct buf answer;
	char *question; /* the body of a review */
	char ns[];
};

struct absents {
	struct api *api;
	struct http *http;
	int64_t interval; /* ns, to confirm in */
	struct absents_listener listener;
	struct map by_name;  /* namespace -> struct absent */
	size_t asking;	     /* transfers under way */
	int64_t list_wanted; /* monotonic ns: when a list was asked for last */
};

struct absents *absents_new(struct api *api, struct http *http, int64_t confirm_interval,
	const struct absents_listener *listener)
{
	struct absents *a = xcalloc(1, sizeof(*a));

	a->api = api;
	a->http = http;
	a->interval = confirm_interval;
	a->listener = *listener;
	return a;
}

/*
 * How long a namespace has to be missing, and after which an answer that says nothing is asked
 * again.
 */
static int64_t later(const struct absents *a)
{
	return a->interval / 3;
}

static void absent_free(struct absent *n)
{
	if (n->transfer) {
		http_abort(n->transfer);
		n->absents->asking--;
	}
	buf_release(&n->answer);
	free(n->question);
	free(n);
}

void absents_free(struct absents *a)
{
	if (!a)
		return;
	map_foreach(&a->by_name, e)
		absent_free(e->value);
	map_release(&a->by_name);
	free(a);
}

void absents_add(struct absents *a, const char *ns, bool unlisted)
{
	struct absent *n = map_get(&a->by_name, ns);

	if (n) {
		n->confirmed = n->confirmed || unlisted;
		return;
	}
	n = xcalloc(1, sizeof(*n) + strlen(ns) + 1);
	strcpy(n->ns, ns);
	n->absents = a;
	n->since = now_monotonic();
	n->due = n->since + later(a);
	n->confirmed = unlisted;
	n->answer.max = ANSWER_MAX;
	map_set(&a->by_name, n->ns, n);
}

void absents_remove(struct absents *a, const char *ns)
{
	struct absent *n = map_del(&a->by_name, ns);

	if (n)
		absent_free(n);
}

/* Those that the list has aren't missing. */
static void remove_listed(struct absents *a, const json_t *names)
{
	_cleanup_json_ json_t *missing = json_object(), *there = json_array();
	const json_t *name;
	size_t i;

	json_array_foreach(names, i, name)
		json_object_set_new(missing, json_string_value(name), json_null());
	map_foreach(&a->by_name, e) {
		if (!json_object_get(missing, e->key))
			json_array_append_new(there, json_string(e->key));
	}
	json_array_foreach(there, i, name)
		absents_remove(a, json_string_value(name));
}

void absents_listed(struct absents *a, const json_t *names, int64_t asked)
{
	const json_t *name;
	size_t i;

	remove_listed(a, names);
	json_array_foreach(names, i, name) {
		struct absent *n = map_get(&a->by_name, json_string_value(name));

		if (!n)
			absents_add(a, json_string_value(name), false);
		else if (asked >= n->since + later(a))
			n->confirmed = true;
	}
}

/* ---- asking for one ---- */

static int on_data(void *arg, long code, const char *data, size_t len)
{
	struct absent *n = arg;

	return buf_add(&n->answer, data, len);
}

static void ask(struct absent *n, const struct http_request *request, http_done_fn *done)
{
	struct absents *a = n->absents;

	buf_release(&n->answer);
	n->answer = (struct buf)BUF_INIT(ANSWER_MAX);
	n->transfer = http_start(a->http, request, on_data, done, n);
	a->asking++;
}

static void answered(struct absent *n)
{
	n->transfer = NULL;
	n->absents->asking--;
	n->due = now_monotonic() + later(n->absents);
}

static void take_gone(struct absent *n)
{
	struct absents *a = n->absents;
	_cleanup_free_ char *ns = xstrdup(n->ns);

	absents_remove(a, ns);
	a->listener.gone(a->listener.arg, ns);
}

static void on_review_done(void *arg, const struct http_result *result)
{
	struct absent *n = arg;
	int64_t now = now_monotonic();
	enum review_answer answer = REVIEW_FAILED;

	answered(n);
	if (result->error == 0)
		answer = review_parse(result->code, n->answer.data, n->answer.len);
	if (answer != REVIEW_DENIED) {
		n->refusals = (struct refusals){0};
	} else if (refusals_add(&n->refusals, now, n->absents->interval)) {
		take_gone(n);
	} else {
		n->due = refusals_next(&n->refusals, now, n->absents->interval);
		n->absents->listener.refused(n->absents->listener.arg, n->ns);
	}
}

static void ask_review(struct absent *n)
{
	const struct api *api = n->absents->api;
	struct review review = {
		.verb = "get", .resource = api->namespaces, .ns = n->ns, .name = n->ns};
	_cleanup_free_ char *path = NULL;
	struct http_request request = review_request(&review, api->timeout_ms, &n->question, &path);

	ask(n, &request, on_review_done);
}

static void on_get_done(void *arg, const struct http_result *result)
{
	struct absent *n = arg;
	struct absents *a = n->absents;
	_cleanup_status_ struct status status = {0};

	answered(n);
	if (result->error < 0)
		return;
	if (result->code == 200) { /* no list has it, but it is there */
		absents_remove(a, n->ns);
		return;
	}
	status_parse(result->code, n->answer.data, n->answer.len, &status);
	if (status_is_missing(&status, n->ns))
		take_gone(n);
	else if (status.code == 403 &&
		 !refusal_is_passing(
			 &status, api_user(a->api, result->generation), result->unready))
		ask_review(n);
}

static void ask_server(struct absent *n)
{
	const struct api *api = n->absents->api;
	_cleanup_free_ char *path = resource_path(api->namespaces, NULL, n->ns, NULL);
	struct http_request request = {.path = path, .timeout_ms = api->timeout_ms};

	ask(n, &request, on_get_done);
}

int64_t absents_step(struct absents *a, int64_t now, bool *ret_list)
{
	int64_t next = INT64_MAX;

	map_foreach(&a->by_name, e) {
		struct absent *n = e->value;

		if (n->transfer)
			continue;
		if (n->due > now) {
			next = n->due < next ? n->due : next;
		} else if (!n->confirmed) {
			*ret_list = *ret_list || a->list_wanted < n->since + later(a);
		} else if (a->asking < AT_ONCE) {
			ask_server(n);
		}
	}
	if (*ret_list)
		a->list_wanted = now;
	return next;
}
