#include "client/api.h"

#include "client/clock.h"
#include "client/json.h"
#include "client/log.h"

#include <errno.h>

#define RETRY_MS 100 /* doubled each time */
#define CHECK_NS (100 * NSEC_PER_MSEC)
#define BODY_MAX ((size_t)128 << 20)

static const struct api_resources *const servers[] = {&resources_in_groups, &resources_in_oapi};

static bool has_credentials(struct api *a)
{
	struct credentials *current = login_credentials(a->login);
	bool none = streq(current->kind, "none");

	credentials_unref(current);
	return !none;
}

/* Who without credentials comes is nobody else than that. */
static const char *expected_user(struct api *a, unsigned generation)
{
	const char *user = api_user(a, generation);

	return user || has_credentials(a) ? user : "system:anonymous";
}

/* GET. 0 and the answer for 2xx; else -errno, the HTTP code and a sentence. */
static int get(struct api *a, struct http *h, const char *path, const struct http_check *check,
	struct http_response *ret, long *ret_code, char **ret_error)
{
	struct http_request request = {.path = path, .timeout_ms = a->timeout_ms};
	_cleanup_response_ struct http_response response = {0};
	_cleanup_status_ struct status status = {0};
	int r = http_call(h, &request, check, &response, ret_error);

	*ret_code = 0;
	if (r < 0)
		return r;
	*ret_code = response.code;
	if (response.code >= 200 && response.code < 300) {
		*ret = response;
		response = (struct http_response){0};
		return 0;
	}
	status_parse(response.code, response.body.data, response.body.len, &status);
	*ret_error = xasprintf("%s: %s", a->config->server, status.message);
	if (refusal_is_passing(&status, expected_user(a, response.generation), response.unready))
		return -EAGAIN;
	return status.error ? -status.error : -EIO;
}

/* While a server starts, doubled each time; the answer's Retry-After would only make it longer. */
#define START_WAIT_MS	  200
#define START_WAIT_MAX_MS 2000

/* get() at the start: what passes is waited for. */
static int get_patiently(struct api *a, struct http *h, const char *path, int64_t deadline,
	struct http_response *ret, long *ret_code, char **ret_error)
{
	struct api_call call = {.http = h, .deadline = deadline};
	int64_t wait = START_WAIT_MS;
	int r;

	while ((r = get(a, h, path, NULL, ret, ret_code, ret_error)) == -EAGAIN &&
		now_monotonic() < deadline) {
		log_info("%s: the start waits", *ret_error);
		free(steal_ptr(*ret_error));
		api_wait(&call, wait);
		wait = wait * 2 < START_WAIT_MAX_MS ? wait * 2 : START_WAIT_MAX_MS;
	}
	return r;
}

static json_t *get_json(struct api *a, struct http *h, const char *path, unsigned *ret_generation)
{
	_cleanup_response_ struct http_response response = {0};
	_cleanup_free_ char *error = NULL;
	long code;

	if (get(a, h, path, NULL, &response, &code, &error) < 0)
		return NULL;
	*ret_generation = response.generation;
	return json_read_or_null(response.body.data, response.body.len, 0);
}

/* A refusal at the start, with what helps against it. */
static char *explain(struct api *a, char *error, long code)
{
	_cleanup_free_ char *advice = NULL, *old = NULL;

	if (code != 401 && (code != 403 || has_credentials(a)))
		return error;
	old = error;
	advice = login_advice(a->login);
	return xasprintf("%s; %s", old, advice);
}

/* Another server than OpenShift's, or a page that a proxy made, would say anything with 200. */
static int check_root(struct api *a, const char *root, const struct buf *body, char **ret_error)
{
	_cleanup_json_ json_t *json = json_read_or_null(body->data, body->len, 0);
	const char *kind = json_str(json, "kind");
	_cleanup_free_ char *begin = buf_begin(body);

	if (kind && streq(kind, "APIResourceList"))
		return 0;
	*ret_error = xasprintf(
		"%s is no API server: to %s it answers %s", a->config->server, root, begin);
	return -EBADMSG;
}

static int find_root(struct api *a, struct http *h, int64_t deadline, char **ret_error)
{
	_cleanup_free_ char *first_error = NULL;
	int first = 0;

	for (size_t i = 0; i < ARRAY_SIZE(servers); i++) {
		const char *root = servers[i]->streams.root;
		_cleanup_response_ struct http_response response = {0};
		char *error = NULL;
		long code;
		int r = get_patiently(a, h, root, deadline, &response, &code, &error);

		if (r == 0) {
			a->resources = servers[i];
			a->namespaces = &servers[i]->projects;
			return check_root(a, root, &response.body, ret_error);
		}
		if (r == -EAGAIN || (code != 403 && code != 404)) {
			*ret_error = explain(a, error, code);
			return r;
		}
		if (!first_error) {
			first_error = explain(a, error, code);
			first = code == 404 ? -EOPNOTSUPP : r;
		} else {
			free(error);
		}
	}
	if (first == -EOPNOTSUPP)
		*ret_error = xasprintf("%s has no ImageStreams (neither %s nor %s is there)",
			a->config->server, servers[0]->streams.root, servers[1]->streams.root);
	else
		*ret_error = steal_ptr(first_error);
	return first;
}

/* Projects where the server has them (whatever we may do with them), else namespaces. */
static void find_namespaces(struct api *a, struct http *h, int64_t deadline)
{
	_cleanup_free_ char *projects = resource_path(a->namespaces, NULL, NULL, NULL);
	_cleanup_free_ char *path = xasprintf("%s?limit=1", projects);
	_cleanup_response_ struct http_response response = {0};
	_cleanup_free_ char *error = NULL;
	long code;

	get_patiently(a, h, path, deadline, &response, &code, &error);
	if (code == 404)
		a->namespaces = &resource_namespaces;
}

static char *who_am_i(struct api *a, struct http *h)
{
	_cleanup_free_ char *path = resource_path(&a->resources->users, NULL, "~", NULL);
	_cleanup_json_ json_t *user = get_json(a, h, path, &a->user_generation);
	const char *name = json_str(json_object_get(user, "metadata"), "name");

	return name ? xstrdup(name) : NULL;
}

int api_connect(struct login *login, struct journal *journal, int64_t timeout_ms, int64_t deadline,
	struct api **ret, char **ret_error)
{
	unsigned generation;
	struct api *a = xcalloc(1, sizeof(*a));
	struct http *h;
	int r;

	a->login = login;
	a->config = login_config(login);
	a->journal = journal;
	a->timeout_ms = timeout_ms;
	a->counts = counts_new();
	h = http_new(login, a->counts);
	r = find_root(a, h, deadline, ret_error);
	if (r == 0) {
		find_namespaces(a, h, deadline);
		a->version = get_json(a, h, "/version", &generation);
		a->user = who_am_i(a, h);
		log_info("%s: %s, as %s", a->config->server, a->resources->streams.root,
			a->user ? a->user : "unknown");
		*ret = steal_ptr(a);
	}
	http_free(h);
	api_free(a);
	return r;
}

const char *api_user(const struct api *a, unsigned generation)
{
	return generation == a->user_generation ? a->user : NULL;
}

void api_free(struct api *a)
{
	if (!a)
		return;
	json_decref(a->version);
	counts_free(a->counts);
	free(a->user);
	free(a);
}

/* GET of JSON that `check` may cancel. 0 and the answer with a reference (NULL: it is none). */
static int get_checked(struct api *a, struct http *h, const char *path,
	const struct http_check *check, json_t **ret)
{
	_cleanup_response_ struct http_response response = {0};
	_cleanup_free_ char *error = NULL;
	long code;
	int r = check ? check->fn(check->arg) : 0;

	if (r < 0)
		return r; /* nobody waits, and there may be no connection either */
	r = get(a, h, path, check, &response, &code, &error);
	if (r < 0)
		return r;
	*ret = json_read_or_null(response.body.data, response.body.len, JSON_ALLOW_NUL);
	return 0;
}

int api_find_project(
	struct api *a, struct http *h, const char *name, const struct http_check *check)
{
	_cleanup_free_ char *path = resource_path(a->namespaces, NULL, name, NULL);
	_cleanup_json_ json_t *json = NULL;

	return get_checked(a, h, path, check, &json);
}

int api_find_namespace(
	struct api *a, struct http *h, const char *name, const struct http_check *check)
{
	_cleanup_free_ char *streams = api_stream_path(a, name, NULL);
	_cleanup_free_ char *path = xasprintf("%s?limit=1", streams);
	_cleanup_json_ json_t *json = NULL;
	int r = get_checked(a, h, path, check, &json);

	if (r < 0 || json_array_size(json_object_get(json, "items")) > 0)
		return r;
	/* An admin may list a namespace that doesn't exist: 200 and empty. */
	r = api_find_project(a, h, name, check);
	return r == -EACCES ? 0 : r;
}

int api_get_stream(struct api *a, struct http *h, const char *ns, const char *name,
	const struct http_check *check, struct object **ret)
{
	_cleanup_free_ char *path = api_stream_path(a, ns, name);
	_cleanup_object_ struct object *o = NULL;
	_cleanup_json_ json_t *json = NULL;
	int r = get_checked(a, h, path, check, &json);

	if (r < 0)
		return r;
	if (object_from_json(json, a->resources->streams.api_version, &o) < 0 ||
		!object_is(o, ns, name))
		return -EIO;
	*ret = steal_ptr(o);
	return 0;
}

char *api_stream_path(const struct api *a, const char *ns, const char *name)
{
	return resource_path(&a->resources->streams, ns, name, NULL);
}

/* Asked at least every 100 ms, like http_call does. */
int api_wait(const struct api_call *call, int64_t ms)
{
	int64_t end = deadline_in_ms(ms);
	int r = 0;

	while (r == 0 && now_monotonic() < end) {
		int64_t left = ms_until(end);

		if (now_monotonic() >= call->deadline)
			return -ETIMEDOUT;
		r = call->check ? call->check->fn(call->check->arg) : 0;
		if (r == 0)
			http_run(call->http, left < 100 ? left : 100);
	}
	return r;
}

/* 0 when there is an answer, whatever it says. */
static int send_once(struct api *a, const struct api_call *call, const struct api_request *request,
	const struct buf *body, struct http_response *ret, struct status *ret_status)
{
	int64_t left = ms_until(call->deadline);
	struct http_request http = {.method = request->method,
		.path = request->path,
		.accept = request->accept,
		.content_type = request->content_type,
		.body = request->body ? body->data : request->text,
		.body_len = request->body ? body->len : request->text_len,
		.secret = request->secret,
		.answer_max = request->answer_max,
		.once = request->method && !request->asks &&
			(streq(request->method, "POST") || streq(request->method, "DELETE")),
		.timeout_ms = left > 0 ? left : 1};
	_cleanup_free_ char *error = NULL;
	int r = http_call(call->http, &http, call->check, ret, &error);

	if (r < 0)
		*ret_status =
			(struct status){.error = -r, .message = steal_ptr(error), .reason = NULL};
	return r;
}

/* Refused with credentials of that generation: whether there are others soon. */
static bool find_others(struct api *a, const struct api_call *call, unsigned generation)
{
	unsigned renewal = login_ask(a->login, generation);
	int r = -EAGAIN;

	while (r == -EAGAIN && now_monotonic() < call->deadline &&
		(!call->check || call->check->fn(call->check->arg) == 0))
		r = login_wait(a->login, generation, renewal, now_monotonic() + CHECK_NS);
	return r == 0;
}

int api_send(struct api *a, const struct api_call *call, const struct api_request *request,
	json_t **ret_json, struct status *ret_status)
{
	_cleanup_buf_ struct buf answer = {0};
	int r = api_send_raw(a, call, request, &answer, ret_status);

	if (r == 0)
		*ret_json = json_read_or_null(answer.data, answer.len, JSON_ALLOW_NUL);
	return r;
}

/* Whether the path is of that resource, or below it. */
static bool is_of(const struct api_resource *r, const char *path)
{
	size_t root = strlen(r->root), plural = strlen(r->plural);

	if (strncmp(path, r->root, root) != 0 || path[root] != '/')
		return false;
	path += root + 1;
	if (str_has_prefix(path, "namespaces/")) {
		path = strchr(path + strlen("namespaces/"), '/');
		if (!path)
			return false;
		path++;
	}
	return strncmp(path, r->plural, plural) == 0 &&
	       (path[plural] == '\0' || path[plural] == '/' || path[plural] == '?');
}

bool api_is_change(const struct api *a, const char *method, const char *path)
{
	return method && !streq(method, "GET") &&
	       (is_of(&a->resources->streams, path) || is_of(&a->resources->tags, path));
}

#define DRY_RUN_MINOR 13 /* of Kubernetes: an older one does what it is asked to try */

/* Unless the server is known not to. */
static bool knows_dry_run(const struct api *a)
{
	const char *minor = json_str(a->version, "minor"), *major = json_str(a->version, "major");

	return !minor || !major || !streq(major, "1") || atoi(minor) >= DRY_RUN_MINOR;
}

/* The path of a change that isn't to be made. NULL: the server would make it all the same. */
static char *dry_path(const struct api *a, const char *path, struct status *ret_status)
{
	if (knows_dry_run(a))
		return xasprintf("%s%cdryRun=All", path, strchr(path, '?') ? '&' : '?');
	*ret_status = (struct status){.error = EOPNOTSUPP,
		.message =
			xasprintf("nothing was sent: a server of Kubernetes 1.%s knows no dry run",
				json_str(a->version, "minor"))};
	return NULL;
}

int api_send_raw(struct api *a, const struct api_call *call, const struct api_request *request,
	struct buf *ret_answer, struct status *ret_status)
{
	_cleanup_buf_ struct buf body = BUF_INIT(BODY_MAX);
	_cleanup_free_ char *dry = NULL;
	struct api_request asked = *request;
	int64_t wait = RETRY_MS;
	bool renewed = false;
	int r = call->check ? call->check->fn(call->check->arg) : 0;

	if (r < 0) {
		*ret_status = (struct status){
			.error = -r, .message = xasprintf("nothing was sent: %s", strerror(-r))};
		return r;
	}

	if (request->body && buf_addjson(&body, request->body, JSON_COMPACT) < 0) {
		*ret_status = (struct status){
			.error = EFBIG, .message = xstrdup("the request would be too large")};
		return -EFBIG;
	}
	if (a->dry_run && api_is_change(a, request->method, request->path)) {
		dry = dry_path(a, request->path, ret_status);
		if (!dry)
			return -EOPNOTSUPP;
		asked.path = dry;
	}
	for (;;) {
		_cleanup_response_ struct http_response response = {0};
		int64_t after;

		r = send_once(a, call, &asked, &body, &response, ret_status);
		if (r < 0)
			return r;
		if (response.code >= 200 && response.code < 300) {
			*ret_answer = response.body;
			response.body = (struct buf){0};
			ret_status->code = response.code;
			return 0;
		}
		status_parse(response.code, response.body.data, response.body.len, ret_status);
		if (response.code == 401 && !renewed && find_others(a, call, response.generation)) {
			renewed = true;
			status_release(ret_status);
			continue;
		}
		if (refusal_is_passing(
			    ret_status, api_user(a, response.generation), response.unready))
			ret_status->error = EAGAIN;
		after = response.retry_after * 1000 > wait ? response.retry_after * 1000 : wait;
		if (ret_status->error != EAGAIN || deadline_in_ms(after) >= call->deadline) {
			*ret_answer = response.body;
			response.body = (struct buf){0};
			return -ret_status->error;
		}
		r = api_wait(call, after);
		status_release(ret_status);
		if (r < 0) {
			*ret_status = (struct status){
				.error = -r, .message = xasprintf("cancelled: %s", strerror(-r))};
			return r;
		}
		wait *= 2;
	}
}
