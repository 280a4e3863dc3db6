/* Texts of ImageStreams that are created or applied (fs/dotapi/request.h). */
#include "fs/dotapi/request.h"

#include "client/json.h"
#include "client/manifest.h"

#include <errno.h>

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
	size_t before = c->answer.len;
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
	if (before)
		buf_truncate(&c->answer, before);
	else
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

/* Goes on after a refusal; the first one is the verdict. */
static int each_manifest(struct dotapi_call *c,
	int (*fn)(struct dotapi_call *c, const json_t *manifest, struct buf *arg), struct buf *arg)
{
	_cleanup_json_ json_t *manifests = json_array();
	struct status refusal = {0};
	char *refused = NULL;
	json_t *manifest;
	size_t i;
	int r = read_manifests(c, manifests), one;

	if (r < 0)
		return r;
	json_array_foreach(manifests, i, manifest) {
		one = fn(c, manifest, arg);
		if (one == 0 || r < 0)
			continue;
		r = one;
		refusal = c->status;
		refused = steal_ptr(c->request);
		c->status = (struct status){0};
	}
	if (r < 0) {
		status_release(&c->status);
		c->status = refusal;
		free(c->request);
		c->request = refused;
	}
	return r;
}

int request_create(struct dotapi_call *c)
{
	return each_manifest(c, create_one, NULL);
}

/* ---- applying ---- */

#define MANAGER "imagestreamfs" /* of our saves, too: the User-Agent's first word */

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

static int apply_to(
	struct dotapi_call *c, const char *ns, const char *name, const json_t *copy, json_t **ret)
{
	_cleanup_free_ char *url = api_stream_path(c->mount->api, ns, name);
	int r = send_apply(c, url, c->file->query, copy, ret);

	if (r < 0 && is_our_conflict(&c->status))
		r = send_apply(c, url, "force=true", copy, ret);
	return r;
}

/* What became of one, as a line of the answer. */
static void add_outcome(struct dotapi_call *c, struct buf *out, const char *what,
	const json_t *before, const json_t *now)
{
	const char *was = json_str(json_object_get(before, "metadata"), "resourceVersion");
	const char *is = json_str(json_object_get(now, "metadata"), "resourceVersion");

	buf_addf(out, "%s: %s%s\n", what,
		!was					     ? "created"
		: is && streq(was, is) && !c->mount->dry_run ? "unchanged"
							     : "applied",
		c->mount->dry_run ? " (dry run)" : "");
}

static void add_refusal(struct dotapi_call *c, struct buf *out, const char *what, int r)
{
	const char *message = c->status.message ? c->status.message : strerror(-r);
	bool old = strstr(message, "\"before-first-apply\"");

	buf_addf(out, "%s: refused: %s%s\n", what, message,
		old ? " (before-first-apply: it was made without apply, by an import or a tag)"
		    : "");
}

static json_t *held(struct dotapi_call *c, const char *ns, const char *name)
{
	_cleanup_free_ char *key = xasprintf("%s/%s", ns, name);
	_cleanup_object_ struct object *o = store_get(c->mount->store, key);

	return o ? object_parse_metadata(o) : NULL;
}

static int check_applied(struct dotapi_call *c, const char *ns, const char *name)
{
	if (!ns || !*ns)
		return call_refuse(c, EINVAL, "metadata.namespace is missing");
	if (!name || !*name)
		return call_refuse(c, EINVAL, "metadata.name is missing: apply needs it");
	return is_left_out(c->mount, ns) ? call_refuse(c, EPERM, NOT_MOUNTED) : 0;
}

static int apply_one(struct dotapi_call *c, const json_t *manifest, struct buf *outcomes)
{
	_cleanup_json_ json_t *copy = NULL, *before = NULL, *now = NULL;
	const char *ns = NULL, *name = NULL;
	_cleanup_free_ char *what = NULL;
	int r = check_manifest(c, manifest);

	if (r == 0) {
		copy = prepare(c, manifest);
		ns = json_str(json_object_get(copy, "metadata"), "namespace");
		name = json_str(json_object_get(copy, "metadata"), "name");
		r = check_applied(c, ns, name);
	}
	what = xasprintf("%s/%s", ns ? ns : "-", name ? name : "-");
	if (r == 0) {
		before = held(c, ns, name);
		r = apply_to(c, ns, name, copy, &now);
	}
	if (r == 0)
		r = call_take_stream(c, now, (struct call_asked){ns, name});
	if (r == 0)
		add_outcome(c, outcomes, what, before, now);
	else
		add_refusal(c, outcomes, what, r);
	return r;
}

int request_apply(struct dotapi_call *c)
{
	_cleanup_buf_ struct buf outcomes = BUF_INIT(HTTP_BODY_MAX);
	int r = each_manifest(c, apply_one, &outcomes);

	if (outcomes.len) { /* what the server said of each stands there, too */
		buf_release(&c->answer);
		c->answer = outcomes;
		outcomes = (struct buf){0};
	}
	return r;
}
