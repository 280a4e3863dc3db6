#include "fs/dotapi/files.h"

#include "client/clock.h"
#include "fs/dotapi/events.h"
#include "fs/dotapi/metrics.h"
#include "fs/dotapi/responses.h"
#include "fs/mount/namei.h"

#include <errno.h>
#include <sys/stat.h>

#define READY_AGE 60 /* seconds without a word: the watch is down */

typedef int show_fn(struct mount *m, const struct place *path, struct buf *out);
typedef int call_fn(struct dotapi_call *c);

static json_t *string_or_null(const char *s)
{
	return s ? json_string(s) : json_null();
}

/* Whether changes raise inotify events, and why not. */
static json_t *events_status(struct mount *m)
{
	static const char *const states[] = {[ANNOUNCE_STARTING] = "starting",
		[ANNOUNCE_READY] = "announced",
		[ANNOUNCE_LOST] = "lost"};
	struct announce_status status;
	struct publish_counts counts;

	if (!m->announce)
		return json_pack("{s:s}", "state", "off");
	announce_get_status(m->announce, &status);
	publish_get_counts(m->publisher, &counts);
	return json_pack("{s:s, s:o, s:I}", "state", states[status.state], "reason",
		string_or_null(status.error ? announce_reason(status.error) : NULL), "lost",
		(json_int_t)counts.lost);
}

/* Whether those that call can be told from each other (fs/tree/process.h), and why not. */
static json_t *callers_status(struct mount *m)
{
	const char *why = process_sight_text(process_sight());
	bool met = mergebase_met_unknown(m->bases);

	if (!why && met)
		why = "a pid namespace or /proc hides some of them";
	return json_pack(
		"{s:b, s:b, s:o}", "told", !why, "unknownSeen", met, "reason", string_or_null(why));
}

static int show_status(struct mount *m, const struct place *path, struct buf *out)
{
	size_t namespaces, streams, bytes;
	char time[RFC3339_SIZE];
	_cleanup_json_ json_t *status = NULL;
	int r;

	store_counts(m->store, &namespaces, &streams, &bytes);
	rfc3339_format(m->started, time);
	status = json_pack(
		"{s:s, s:o, s:o, s:s, s:O?, s:s, s:o, s:o, s:o, s:o, s:{s:I, s:I, s:I, s:I}, s:o}",
		"server", m->config->server, "context", string_or_null(m->config->context), "user",
		string_or_null(m->api->user), "apiRoot", m->api->resources->streams.root, "version",
		m->api->version, "mounted", time, "credentials", login_status(m->login), "scopes",
		reflector_status(m->reflector), "events", events_status(m), "callers",
		callers_status(m), "counts", "namespaces", (json_int_t)namespaces, "imagestreams",
		(json_int_t)streams, "bytes", (json_int_t)bytes, "nodes",
		(json_int_t)inode_count(m->inodes), "lastError", journal_last(m->journal));
	r = buf_addjson(out, status, JSON_INDENT(2));
	return r < 0 ? r : buf_addstr(out, "\n");
}

/* A part that is dead would leave what people see untrue for good. */
static int show_health(struct mount *m, const struct place *path, struct buf *out)
{
	struct announce_status status = {0};

	if (m->announce)
		announce_get_status(m->announce, &status);
	return status.state == ANNOUNCE_LOST ? -EIO : buf_addstr(out, "ok\n");
}

/* Whether a scope is what it should be: listed, and heard of lately. */
static int check_scope(const json_t *scope)
{
	const char *state = json_str(scope, "state");
	double age = json_number_value(json_object_get(scope, "ageSeconds"));

	if (streq(state, "refused") || streq(state, "polling"))
		return 0; /* that is all there is, and it is true */
	if (!json_is_true(json_object_get(scope, "listed")))
		return -EAGAIN;
	return !streq(state, "watching") && age >= READY_AGE ? -ETIMEDOUT : 0;
}

static int show_readiness(struct mount *m, const struct place *path, struct buf *out)
{
	_cleanup_json_ json_t *login = login_status(m->login),
			      *scopes = reflector_status(m->reflector);
	const json_t *scope;
	int r = json_is_true(json_object_get(login, "refused")) ? -EKEYEXPIRED : 0;
	size_t i;

	json_array_foreach(scopes, i, scope)
		r = r < 0 ? r : check_scope(scope);
	return r < 0 ? r : buf_addstr(out, "ok\n");
}

static int show_metrics(struct mount *m, const struct place *path, struct buf *out)
{
	return metrics_show(m, out);
}

static int show_errors(struct mount *m, const struct place *path, struct buf *out)
{
	journal_show(m->journal, out);
	return 0;
}

static int show_answer(struct mount *m, const struct place *path, struct buf *out)
{
	_cleanup_free_ char *name = namei_text(path);

	return responses_show(m->responses, name, out);
}

static int refresh(struct dotapi_call *c)
{
	int r = reflector_refresh(c->mount->reflector, c->api->check, ms_until(c->api->deadline));

	return r < 0 ? r
		     : publish_wait(c->mount->publisher, NULL, PUBLISH_ANNOUNCED, c->api->check,
			       c->api->deadline);
}

#define IMPORT_MS    60000		    /* a registry may be slow */
#define MANIFESTS_MS (3600 * INT64_C(1000)) /* of all of them: each has the time of a request */

#define JSON_PATCH	"application/json-patch+json"
#define MERGE_PATCH	"application/merge-patch+json"
#define STRATEGIC_PATCH "application/strategic-merge-patch+json"
#define PROTOBUF	"application/vnd.kubernetes.protobuf"
#define APPLY		"application/apply-patch+yaml"

/* clang-format off */
static const struct row {
	show_fn *show;	/* what is here: at once */
	call_fn *fetch;	/* what the server has: at each open */
	call_fn *store;	/* what is written; then `show` is its answer */
	struct dotapi_request request;
	enum dotapi_reader reader; /* what is read is made while it is read */
} rows[KIND_COUNT] = {
	[KIND_API_STATUS] =		{show_status},
	[KIND_API_METRICS] =		{show_metrics},
	[KIND_API_ERRORS] =		{show_errors},
	[KIND_API_REFRESH] =		{show_answer, NULL, refresh},
	[KIND_API_HEALTHZ] =		{show_health},
	[KIND_API_READYZ] =		{show_readiness},
	[KIND_API_VERSION] =		{NULL, request_get, NULL, {"GET", NULL, "", NULL}},

	[KIND_API_EVENTS] =		{.reader = DOTAPI_EVENTS},
	[KIND_NAMESPACE_EVENTS] =	{.reader = DOTAPI_EVENTS},
	[KIND_STREAM_EVENTS] =		{.reader = DOTAPI_EVENTS},
	[KIND_API_PUSHES] =		{.reader = DOTAPI_PUSHES},
	[KIND_NAMESPACE_PUSHES] =	{.reader = DOTAPI_PUSHES},
	[KIND_STREAM_PUSHES] =		{.reader = DOTAPI_PUSHES},
	[KIND_API_EXPORT] =		{.reader = DOTAPI_EXPORT},
	[KIND_NAMESPACE_EXPORT] =	{.reader = DOTAPI_EXPORT},
	[KIND_API_FAILING] =		{NULL, request_failing},
	[KIND_NAMESPACE_FAILING] =	{NULL, request_failing},

	[KIND_API_CREATE] = {show_answer, NULL, request_create,
		{"POST", NULL, "pretty=true", NULL}},
	[KIND_NAMESPACE_CREATE] = {show_answer, NULL, request_create,
		{"POST", NULL, "pretty=true", NULL}},
	[KIND_API_APPLY] =		{show_answer, NULL, request_apply, {"PATCH", NULL, "", APPLY}},
	[KIND_NAMESPACE_APPLY] =	{show_answer, NULL, request_apply, {"PATCH", NULL, "", APPLY}},
	[KIND_API_APPLY_FORCE] = {show_answer, NULL, request_apply,
		{"PATCH", NULL, "force=true", APPLY}},
	[KIND_NAMESPACE_APPLY_FORCE] = {show_answer, NULL, request_apply,
		{"PATCH", NULL, "force=true", APPLY}},
	[KIND_NAMESPACE_DELETE] = {show_answer, NULL, request_delete_collection,
		{"DELETE", NULL, "pretty=true", NULL}},
	[KIND_STREAM_DELETE] = {show_answer, NULL, request_delete,
		{"DELETE", NULL, "pretty=true", NULL}},
	[KIND_TAG_IMPORT] =		{show_answer, NULL, request_import},
	[KIND_TAG_IMAGE_JSON] =		{NULL, request_image, NULL, {"GET", NULL, "pretty=true", NULL}},

	[KIND_JSON_PATCH] = {show_answer, NULL, request_change,
		{"PATCH", NULL, "pretty=true", JSON_PATCH}},
	[KIND_MERGE_PATCH] = {show_answer, NULL, request_change,
		{"PATCH", NULL, "pretty=true", MERGE_PATCH}},
	[KIND_STRATEGIC_MERGE_PATCH] = {show_answer, NULL, request_change,
		{"PATCH", NULL, "pretty=true", STRATEGIC_PATCH}},
	[KIND_STATUS_JSON_PATCH] = {show_answer, NULL, request_change,
		{"PATCH", "status", "pretty=true", JSON_PATCH}},
	[KIND_STATUS_MERGE_PATCH] = {show_answer, NULL, request_change,
		{"PATCH", "status", "pretty=true", MERGE_PATCH}},
	[KIND_STATUS_STRATEGIC_PATCH] = {show_answer, NULL, request_change,
		{"PATCH", "status", "pretty=true", STRATEGIC_PATCH}},
	[KIND_STATUS_REPLACE] = {show_answer, NULL, request_change,
		{"PUT", "status", "pretty=true", "application/json"}},

	[KIND_EXPORT] = {NULL, request_export, NULL,
		{"GET", NULL, "export=true&pretty=true", NULL}},
	[KIND_EXPORT_EXACT] = {NULL, request_export, NULL,
		{"GET", NULL, "export=true&exact=true&pretty=true", NULL}},
	[KIND_FRESH_JSON] = {NULL, request_get, NULL,
		{"GET", NULL, "pretty=true", NULL}},
	[KIND_FRESH_YAML] = {NULL, request_get, NULL,
		{"GET", NULL, "", "application/yaml"}},
	[KIND_FRESH_PB] =		{NULL, request_get, NULL, {"GET", NULL, "", PROTOBUF}},
	[KIND_FRESH_STATUS] = {NULL, request_get, NULL,
		{"GET", "status", "pretty=true", NULL}},
	[KIND_SECRETS] =		{NULL, request_get, NULL, {"GET", "secrets", "", NULL}},
	[KIND_LAYERS] = {NULL, request_get, NULL,
		{"GET", "layers", "pretty=true", NULL}},
};
/* clang-format on */

enum dotapi_reader dotapi_reader(enum kind kind)
{
	return rows[kind].reader;
}

bool dotapi_is_whole(enum kind kind)
{
	return rows[kind].reader == DOTAPI_EXPORT || rows[kind].fetch == request_failing;
}

bool dotapi_is_fetched(enum kind kind)
{
	return rows[kind].fetch;
}

int64_t dotapi_timeout(enum kind kind)
{
	if (kind == KIND_TAG_IMPORT)
		return IMPORT_MS;
	return rows[kind].store == request_create || rows[kind].store == request_apply
		       ? MANIFESTS_MS
		       : 0;
}

int dotapi_show(struct mount *m, const struct place *path, struct buf *out)
{
	return rows[path->kind].show(m, path, out);
}

/* A refusal is noted; whose own it is, is as one of the server's. */
static int settle(struct dotapi_call *c, const char *name, int r)
{
	_cleanup_json_ json_t *own = NULL;
	const char *message = c->status.message ? c->status.message : strerror(r < 0 ? -r : 0);

	if (r < 0)
		journal_add(c->mount->journal, name, c->request, c->status.code, -r, message);
	if (r < 0 && !c->answer.len) {
		own = json_pack("{s:s, s:s, s:s, s:s}", "kind", "Status", "apiVersion", "v1",
			"status", "Failure", "message", message);
		buf_addjson(&c->answer, own, JSON_INDENT(2));
		buf_addstr(&c->answer, "\n");
	}
	status_release(&c->status);
	free(c->request);
	return r;
}

int dotapi_store(struct mount *m, const struct api_call *api, const struct process_id *who,
	const struct place *path, const char *text, size_t len)
{
	_cleanup_free_ char *name = namei_text(path);
	struct dotapi_call c = {.mount = m,
		.api = api,
		.who = who,
		.path = path,
		.file = &rows[path->kind].request,
		.text = text,
		.len = len,
		.answer = BUF_INIT(HTTP_BODY_MAX)};
	int r = settle(&c, name, rows[path->kind].store(&c));

	responses_set(m->responses, name, &c.answer);
	return r;
}

int dotapi_fetch(
	struct mount *m, const struct api_call *api, const struct place *path, struct buf *out)
{
	_cleanup_free_ char *name = namei_text(path);
	struct dotapi_call c = {.mount = m,
		.api = api,
		.path = path,
		.file = &rows[path->kind].request,
		.answer = BUF_INIT(HTTP_BODY_MAX)};
	int r = settle(&c, name, rows[path->kind].fetch(&c));

	if (r < 0)
		buf_release(&c.answer);
	else
		*out = c.answer;
	return r;
}
