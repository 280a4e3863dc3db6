/* Texts of ImageStreams that are created or applied (fs/dotapi/request.h). */
#include "fs/dotapi/request.h"

#include "client/clock.h"
#include "client/json.h"
#include "client/manifest.h"

#include <errno.h>

#define MESSAGE_MAX 4096
#define NOT_MOUNTED "mounted with --namespace: metadata.namespace is none of those"

/* ---- creating ---- */

static int post(struct dotapi_call *c, const char *ns, const json_t *manifest)
{
	_cleanup_free_ char *collection = call_collection_url(c, ns);
	_cleanup_free_ char *url = xasprintf(
		"%s?fieldValidation=%s&%s", collection, c->mount->validation, c->file->query);
	_cleanup_json_ json_t *made = NULL;
	struct call_asked asked = {
		*ns ? ns : NULL, json_str(json_object_get(manifest, "metadata"), "name")};
	int r = call_send_json(c, "POST", url, manifest, &made);

	if (asked.name && !*asked.name) /* generateName */
		asked.name = NULL;
	return r < 0 ? r : call_take_stream(c, made, asked);
}

/*
 * What the mount leaves out isn't made either: it would be shown, and no watch would tell more of
 * it.
 */
static bool is_left_out(struct mount *m, const char *ns)
{
	struct place path = {.kind = KIND_NAMESPACE};
	struct layout_attr attr;

	if (!m->narrowed)
		return false;
	if (!ns || strlen(ns) >= NAME_SIZE)
		return true;
	strcpy(path.ns, ns);
	return shown_attr(m->shown, &path, &attr) < 0;
}

/* Whether it is an ImageStream; what else stands in a text is named. */
static int check_manifest(struct dotapi_call *c, const json_t *manifest)
{
	const json_t *metadata = json_object_get(manifest, "metadata");
	const char *kind = json_str(manifest, "kind"), *name = json_str(metadata, "name");
	_cleanup_free_ char *message = NULL, *k = NULL, *n = NULL;

	if (!json_is_object(manifest))
		return call_refuse(c, EINVAL, "a manifest is a map");
	if (!kind || streq(kind, c->mount->api->resources->streams.kind))
		return 0; /* without a kind the server says so */
	k = str_excerpt(kind, strlen(kind));
	n = str_excerpt(name ? name : "", name ? strlen(name) : 0);
	message = xasprintf("%s \"%s\" is no ImageStream", k, n);
	return call_refuse(c, EINVAL, message);
}

/* As it is sent: without what only a server sets, and in the directory's namespace. */
static json_t *prepare(const struct dotapi_call *c, const json_t *manifest)
{
	json_t *copy = json_deep_copy(manifest), *metadata = json_object_get(copy, "metadata");

	manifest_strip(copy, c->mount->api->resources->streams.api_version);
	if (c->path->ns[0] && json_is_object(metadata))
		json_object_set_new(metadata, "namespace", json_string(c->path->ns));
	return copy;
}

/*
 * At the root: to the route of all namespaces where the server has one (3.x) and the user may, else
 * to its own. Rights are looked at first: 403 also stands for a route that isn't there.
 */
static int create_one(struct dotapi_call *c, const json_t *manifest, struct buf *unused)
{
	_cleanup_json_ json_t *copy = NULL;
	const char *ns = json_str(json_object_get(manifest, "metadata"), "namespace");
	bool named = ns && *ns;
	int r = check_manifest(c, manifest);

	if (r < 0)
		return r;
	if (!c->path->ns[0] && is_left_out(c->mount, ns))
		return call_refuse(c, EPERM, NOT_MOUNTED);
	copy = prepare(c, manifest);
	r = post(c, c->path->ns, copy);
	if (c->path->ns[0])
		return r;
	if (r == -EOPNOTSUPP && !named)
		return call_refuse(c, EOPNOTSUPP,
			"this server takes no ImageStream without a namespace: name it in "
			"metadata.namespace, or write to NAMESPACE/.api/create");
	if ((r != -EOPNOTSUPP && r != -EACCES) || !named)
		return r;
	buf_release(&c->answer);
	return post(c, ns, copy);
}

/* All of the text is read before anything is sent. */
static int read_manifests(struct dotapi_call *c, json_t *manifests)
{
	bool strict = streq(c->mount->validation, "Strict");
	_cleanup_free_ char *error = NULL;

	if (c->mount->selector)
		return call_refuse(c, EPERM,
			"mounted with --selector: nothing would tell whether what is made is "
			"selected");
	if (manifest_read(c->text, c->len, strict ? JSON_REJECT_DUPLICATES : 0, manifests, &error) <
		0)
		return call_refuse(c, EINVAL, error);
	return json_array_size(manifests)
		       ? 0
		       : call_refuse(c, EINVAL, "there is no ImageStream in the text");
}

/*
 * Sends one manifest. What is noted in *line is what became of it, as a line of the answer (NULL:
 * the server's own answers are that).
 */
typedef int send_fn(struct dotapi_call *c, const json_t *manifest, struct buf *line);

/* What became of one manifest. */
struct sent {
	int r;
	struct status refusal;
	char *request;
	struct buf answer; /* the server's */
	struct buf line;
};

/* Each has the time of a request, however many there are. */
static void send_one(
	struct dotapi_call *c, send_fn *fn, const json_t *manifest, bool away, struct sent *sent)
{
	const struct api_call *all = c->api;
	struct api_call one = *all;

	one.deadline = away ? now_monotonic() : deadline_in_ms(c->mount->api->timeout_ms);
	c->api = &one;
	buf_release(&sent->answer);
	buf_release(&sent->line);
	sent->r = fn(c, manifest, &sent->line);
	status_release(&sent->refusal);
	sent->refusal = c->status;
	c->status = (struct status){0};
	free(sent->request);
	sent->request = steal_ptr(c->request);
	sent->answer = c->answer;
	c->answer = (struct buf)BUF_INIT(HTTP_BODY_MAX);
	c->api = all;
}

/* Refused since what a tag follows isn't there: it may be one of the manifests that come later. */
static bool lacks_another(const struct sent *sent)
{
	return sent->r < 0 && sent->refusal.code == 422 &&
	       strstr(sent->refusal.message, ".from.name: Not found:");
}

/* True when it was worth it: what was refused in one round may be taken in the next. */
static bool send_round(
	struct dotapi_call *c, send_fn *fn, const json_t *manifests, bool first, struct sent *sent)
{
	bool away = false, more = false;
	const json_t *manifest;
	size_t i;

	json_array_foreach(manifests, i, manifest) {
		if (!first && !lacks_another(&sent[i]))
			continue;
		send_one(c, fn, manifest, away, &sent[i]);
		more = more || sent[i].r == 0;
		away = away || sent[i].r == -ETIMEDOUT; /* nobody waits for that again and again */
	}
	return more;
}

/* The answers and lines of all; the first refusal is the verdict, and the call's. */
static int gather(struct dotapi_call *c, struct sent *sent, size_t n)
{
	_cleanup_buf_ struct buf lines = BUF_INIT(HTTP_BODY_MAX);
	int r = 0;

	for (size_t i = 0; i < n; i++) {
		struct sent *one = &sent[i];

		if (c->answer.len && one->answer.len && c->answer.data[c->answer.len - 1] != '\n')
			buf_addstr(&c->answer, "\n");
		buf_add(&c->answer, one->answer.data, one->answer.len);
		buf_add(&lines, one->line.data, one->line.len);
		if (r == 0 && one->r < 0) {
			r = one->r;
			c->status = one->refusal;
			one->refusal = (struct status){0};
			c->request = steal_ptr(one->request);
		}
		status_release(&one->refusal);
		free(one->request);
		buf_release(&one->answer);
		buf_release(&one->line);
	}
	if (lines.len) { /* what the server said of each stands there, too */
		buf_release(&c->answer);
		c->answer = lines;
		lines = (struct buf){0};
	}
	return r;
}

/* All of them are tried. */
static int send_each(struct dotapi_call *c, send_fn *fn)
{
	_cleanup_json_ json_t *manifests = json_array();
	_cleanup_free_ struct sent *sent = NULL;
	int r = read_manifests(c, manifests);
	size_t n = json_array_size(manifests);

	if (r < 0)
		return r;
	sent = xcalloc(n, sizeof(*sent));
	for (size_t i = 0; i < n; i++)
		sent[i].answer.max = sent[i].line.max = HTTP_BODY_MAX;
	for (bool first = true; send_round(c, fn, manifests, first, sent); first = false)
		;
	return gather(c, sent, n);
}

int request_create(struct dotapi_call *c)
{
	return send_each(c, create_one);
}

/* ---- applying ---- */

#define MANAGER	    "imagestreamfs" /* of our saves, too: the User-Agent's first word */
#define APPLY_TRIES 10

/* Whether all that stands against it are our own earlier saves. */
static bool is_our_conflict(const struct status *status)
{
	static const char ours[] = "conflict with \"" MANAGER "\"";
	const json_t *causes = json_object_get(json_object_get(status->body, "details"), "causes");
	const json_t *cause;
	size_t i;

	json_array_foreach(causes, i, cause) {
		const char *message = json_str(cause, "message");

		if (!message || !str_has_prefix(message, ours))
			return false;
	}
	return status->code == 409 && json_array_size(causes) > 0;
}

static int send_apply(
	struct dotapi_call *c, const char *url, const char *query, const json_t *copy, json_t **ret)
{
	_cleanup_free_ char *whole = xasprintf("%s?fieldManager=" MANAGER "&fieldValidation=%s%s%s",
		url, c->mount->validation, *query ? "&" : "", query);

	return call_send(c,
		&(struct api_request){.method = "PATCH",
			.path = whole,
			.content_type = c->file->media,
			.body = copy},
		ret);
}

/* Refused, for it was changed after the version that the text names. */
static bool is_late(const struct status *status)
{
	return status->code == 409 && status->error == ESTALE &&
	       json_array_size(
		       json_object_get(json_object_get(status->body, "details"), "causes")) == 0;
}

/*
 * What we saved ourselves is brought to the text: of this very version, which nobody but us stands
 * against, so that no field is taken from somebody who comes in between.
 */
static int force_ours(struct dotapi_call *c, const char *url, const json_t *manifest, json_t **ret)
{
	_cleanup_json_ json_t *now = NULL, *copy = json_deep_copy(manifest);
	const char *version;
	int r = call_send(c, &(struct api_request){.path = url}, &now);

	version = json_str(json_object_get(now, "metadata"), "resourceVersion");
	if (r < 0 || !version)
		return r < 0 ? r : call_refuse(c, EIO, "the server's answer isn't the ImageStream");
	json_object_set_new(
		json_object_get(copy, "metadata"), "resourceVersion", json_string(version));
	r = send_apply(c, url, c->file->query, copy, ret);
	if (r < 0 && is_our_conflict(&c->status))
		r = send_apply(c, url, "force=true", copy, ret);
	return r;
}

static int apply_to(
	struct dotapi_call *c, const char *ns, const char *name, const json_t *copy, json_t **ret)
{
	_cleanup_free_ char *url = api_stream_path(c->mount->api, ns, name);
	int r = send_apply(c, url, c->file->query, copy, ret);

	if (r == 0 || !is_our_conflict(&c->status))
		return r;
	for (int i = 0; i < APPLY_TRIES; i++) {
		r = force_ours(c, url, copy, ret);
		if (r == 0 || !is_late(&c->status))
			break;
	}
	return r;
}

/* What a text can say of a stream. */
static bool says_the_same(const json_t *a, const json_t *b)
{
	_cleanup_json_ json_t *x = json_deep_copy(a), *y = json_deep_copy(b);

	manifest_clean(x);
	manifest_clean(y);
	return json_equal(x, y);
}

static const char *outcome(struct dotapi_call *c, const struct object *before, const json_t *now)
{
	const char *version = json_str(json_object_get(now, "metadata"), "resourceVersion");
	_cleanup_json_ json_t *was = NULL;

	if (c->status.code == 201)
		return "created";
	if (!before)
		return "applied";
	if (!c->mount->dry_run) /* there the version stays as it is, whatever would change */
		return version && streq(before->resource_version, version) ? "unchanged"
									   : "applied";
	was = object_parse(before);
	return says_the_same(was, now) ? "unchanged" : "applied";
}

static int add_line(struct buf *line, const char *what, const char *outcome, const char *more)
{
	_cleanup_free_ char *text = xasprintf("%s: %s%s", what, outcome, more);

	return buf_addfield(line, text, '\n');
}

static void add_refusal(struct dotapi_call *c, struct buf *line, const char *what, int r)
{
	const char *message = c->status.message ? c->status.message : strerror(-r);
	bool old = strstr(message, "\"before-first-apply\"");
	_cleanup_free_ char *more = xasprintf("%.*s%s", MESSAGE_MAX, message,
		old ? " (before-first-apply: it was made without apply, by an import or a tag)"
		    : "");

	add_line(line, what, "refused: ", more);
}

static struct object *held(struct dotapi_call *c, const char *ns, const char *name)
{
	_cleanup_free_ char *key = xasprintf("%s/%s", ns, name);

	return store_get(c->mount->store, key);
}

/* A name as a line can have it. */
static char *shown_name(const char *name)
{
	if (!name || !*name)
		return xstrdup("-");
	return strlen(name) > OBJECT_NAME_MAX ? str_excerpt(name, strlen(name)) : xstrdup(name);
}

static int check_applied(struct dotapi_call *c, const char *ns, const char *name)
{
	if (!ns || !*ns)
		return call_refuse(c, EINVAL, "metadata.namespace is missing");
	if (!name || !*name)
		return call_refuse(c, EINVAL, "metadata.name is missing: apply needs it");
	return is_left_out(c->mount, ns) ? call_refuse(c, EPERM, NOT_MOUNTED) : 0;
}

static int apply_one(struct dotapi_call *c, const json_t *manifest, struct buf *line)
{
	_cleanup_object_ struct object *before = NULL;
	_cleanup_json_ json_t *copy = NULL, *now = NULL;
	_cleanup_free_ char *what = NULL, *n = NULL, *s = NULL;
	const char *ns = NULL, *name = NULL, *became;
	int r = check_manifest(c, manifest);

	if (json_is_object(manifest)) {
		copy = prepare(c, manifest);
		ns = json_str(json_object_get(copy, "metadata"), "namespace");
		name = json_str(json_object_get(copy, "metadata"), "name");
	}
	n = shown_name(ns);
	s = shown_name(name);
	what = xasprintf("%s/%s", n, s);
	if (r == 0)
		r = check_applied(c, ns, name);
	if (r == 0) {
		before = held(c, ns, name);
		r = apply_to(c, ns, name, copy, &now);
	}
	became = r == 0 ? outcome(c, before, now) : NULL;
	if (r == 0)
		r = call_take_stream(c, now, (struct call_asked){ns, name});
	if (r == 0)
		add_line(line, what, became, c->mount->dry_run ? " (dry run)" : "");
	else
		add_refusal(c, line, what, r);
	return r;
}

int request_apply(struct dotapi_call *c)
{
	return send_each(c, apply_one);
}
