#include "fs/dotapi/request.h"

#include "client/json.h"
#include "client/list.h"
#include "client/manifest.h"
#include "fs/mount/namei.h"
#include "fs/save/deleted.h"
#include "fs/save/update.h"

#include <errno.h>

#define IMPORT_TRIES  10
#define SHOWN_NS      (NSEC_PER_SEC / 2) /* after that a big deletion's events may still come */
#define EXPORT_MINORS 20		 /* Kubernetes 1.21 answers 400 to export=true */

/* ---- reading ---- */

/*
 * A file is the answer or an error: a page of HTML or another stream is neither. Secrets aren't
 * looked at.
 */
static int check_read(struct dotapi_call *c)
{
	_cleanup_free_ char *why = NULL, *message = NULL;
	_cleanup_json_ json_t *json = NULL;
	struct call_asked asked = call_asked_stream(c);
	enum kind kind = c->path->kind;

	if (c->file->media || kind == KIND_SECRETS)
		return 0;
	json_read(c->answer.data, c->answer.len, JSON_ALLOW_NUL, &json, &why);
	if (json && !json_is_object(json))
		why = xstrdup("it is no JSON object");
	else if (json && (kind == KIND_FRESH_JSON || kind == KIND_FRESH_STATUS))
		why = call_check_asked(json, &asked);
	if (!why)
		return 0;
	message = xasprintf("the server's answer isn't what was asked for: %s", why);
	return call_refuse(c, EIO, message);
}

int request_get(struct dotapi_call *c)
{
	_cleanup_free_ char *url = call_stream_url(c, c->file->query);
	const json_t *details;
	int r = call_send(c,
		&(struct api_request){.path = url,
			.accept = c->file->media,
			.secret = c->path->kind == KIND_SECRETS},
		NULL);

	/* The server has no such media type, or no such subresource: then it names nothing. */
	details = json_object_get(c->status.body, "details");
	if (c->status.code == 406 ||
		(r == -ENOENT && c->file->subresource && !json_str(details, "name")))
		return -EOPNOTSUPP;
	return r == 0 ? check_read(c) : r;
}

/* ---- tags ---- */

/* The tag's name in a URL: false where it has none of its own, and another tag would be meant. */
static bool tag_url(struct dotapi_call *c, char **ret)
{
	char raw[NAME_SIZE];
	size_t len = 0;
	struct update tag = {.mount = c->mount,
		.ns = c->path->ns,
		.stream = c->path->stream,
		.file = {.tag = raw}};

	if (layout_unescape(c->path->tag, raw, &len) < 0)
		return false;
	tag.file.tag_len = len;
	if (!update_tag_fits_url(&tag))
		return false;
	*ret = update_tag_path(&tag);
	return true;
}

/* The newest image of the tag, by its digest. NULL: it has none. */
static char *image_url(struct dotapi_call *c)
{
	_cleanup_view_ struct snapshot *snapshot =
		shown_snapshot(c->mount->shown, c->path->ns, c->path->stream);
	_cleanup_json_ json_t *object = snapshot ? object_parse(snapshot->object) : NULL;
	_cleanup_free_ char *name = NULL;
	const char *image = NULL;
	char raw[NAME_SIZE];
	size_t len;

	if (layout_unescape(c->path->tag, raw, &len) == 0)
		image = json_str(
			json_array_get(
				json_object_get(attr_find_tag(object, raw, len).status, "items"),
				0),
			"image");
	if (!image || !*image)
		return NULL;
	name = xasprintf("%s@%s", c->path->stream, image);
	return resource_path(&c->mount->api->resources->images, c->path->ns, name, NULL);
}

int request_image(struct dotapi_call *c)
{
	_cleanup_free_ char *base = NULL, *url = NULL;

	if (!tag_url(c, &base))
		base = image_url(c);
	if (!base)
		return call_refuse(c, ENOENT, "the tag has no image");
	url = xasprintf("%s?%s", base, c->file->query);
	return call_send(c, &(struct api_request){.path = url}, NULL) < 0 ? -c->status.error
									  : check_read(c);
}

/* What the server is known not to have, isn't asked of it. */
static bool may_export(const struct api *api)
{
	const char *minor = json_str(api->version, "minor"),
		   *major = json_str(api->version, "major");

	return !minor || !major || !streq(major, "1") || atoi(minor) <= EXPORT_MINORS;
}

/* As Kubernetes up to 1.20 does it for export=true: no more than what a user can set. */
static json_t *clean_copy(const json_t *object, bool exact)
{
	json_t *copy = json_deep_copy(object), *tag;
	json_t *metadata = json_object_get(copy, "metadata");
	size_t i;

	for (i = 0; manifest_server_fields[i]; i++)
		json_object_del(metadata, manifest_server_fields[i]);
	if (!exact)
		json_object_del(metadata, "namespace");
	json_object_del(copy, "status");
	json_array_foreach(json_object_get(json_object_get(copy, "spec"), "tags"), i, tag)
		json_object_del(tag, "generation");
	return copy;
}

/* The server made the clean copy itself: the stream's name, but no uid. */
static bool is_export(const json_t *json, const struct call_asked *asked)
{
	const json_t *metadata = json_object_get(json, "metadata");
	const char *name = json_str(metadata, "name");

	return name && streq(name, asked->name) && !json_object_get(metadata, "uid");
}

int request_export(struct dotapi_call *c)
{
	_cleanup_free_ char *url = call_stream_url(c, c->file->query),
			    *plain = call_stream_url(c, "");
	_cleanup_json_ json_t *object = NULL, *copy = NULL;
	struct call_asked asked = call_asked_stream(c);
	_cleanup_free_ char *why = NULL;
	int r = -EINVAL;

	if (may_export(c->mount->api)) {
		r = call_send(c, &(struct api_request){.path = url}, &object);
		if (r == 0 && is_export(object, &asked))
			return 0;
	}
	if (r == -EINVAL) { /* it has no such thing */
		buf_release(&c->answer);
		r = call_send(c, &(struct api_request){.path = plain}, &object);
	}
	if (r < 0)
		return r;
	why = call_check_asked(object, &asked);
	if (why)
		return call_refuse(c, EIO, why);
	copy = clean_copy(object, c->path->kind == KIND_EXPORT_EXACT);
	buf_release(&c->answer);
	r = buf_addjson(&c->answer, copy, JSON_INDENT(2));
	return r < 0 ? r : buf_addstr(&c->answer, "\n");
}

/* ---- deleting ---- */

/* Nothing is deleted, whatever the server answers. */
static bool is_dry(const struct dotapi_call *c, const json_t *options)
{
	return c->mount->dry_run || json_array_size(json_object_get(options, "dryRun")) > 0;
}

/* DeleteOptions, with what every such body has. */
static int parse_options(struct dotapi_call *c, json_t **ret)
{
	json_t *options = json_read_or_null(c->text, c->len, JSON_REJECT_DUPLICATES);

	if (!json_is_object(options)) {
		json_decref(options);
		return call_refuse(c, EINVAL, "write DeleteOptions as JSON ({} will do)");
	}
	if (!json_object_get(options, "kind"))
		json_object_set_new(options, "kind", json_string("DeleteOptions"));
	if (!json_object_get(options, "apiVersion"))
		json_object_set_new(options, "apiVersion", json_string("v1"));
	*ret = options;
	return 0;
}

int request_delete(struct dotapi_call *c)
{
	_cleanup_free_ char *url = call_stream_url(c, c->file->query), *key = NULL;
	_cleanup_object_ struct object *held = NULL;
	_cleanup_json_ json_t *options = NULL, *answer = NULL;
	json_t *preconditions;
	int r = c->mount->nodelete ? call_refuse(c, EPERM, "mounted with -o nodelete")
				   : parse_options(c, &options);

	if (r < 0)
		return r;
	key = xasprintf("%s/%s", c->path->ns, c->path->stream);
	held = store_get(c->mount->store, key);
	preconditions = json_object_get(options, "preconditions");
	if (held && !preconditions)
		json_object_set_new(options, "preconditions", json_pack("{s:s}", "uid", held->uid));
	if (held && !is_dry(c, options))
		deleted_keep(c->mount->deleted, c->who, held);
	r = call_send_json(c, "DELETE", url, options, &answer);
	if (json_object_get(json_object_get(answer, "metadata"), "deletionTimestamp"))
		r = call_take_stream(c, answer, call_asked_stream(c)); /* finalizers keep it */
	else if (r == 0 && !is_dry(c, options))
		call_forget_stream(c, key, held ? held->uid : NULL);
	call_wait_for_events(c, key);
	return r;
}

/* A mount that selects by itself (--selector) deletes no more than it shows. */
static int narrow(const struct mount *m, json_t *options)
{
	const json_t *given = json_object_get(options, "labelSelector");
	const char *selector = given ? json_string_value(given) : "";
	_cleanup_free_ char *both = NULL;

	if (!m->selector)
		return 0;
	if (!selector)
		return -EINVAL;
	both = xasprintf("%s%s%s", selector, *selector ? "," : "", m->selector);
	return json_object_set_new(options, "labelSelector", json_string(both));
}

/* Moves what belongs into the query out of the options. -EINVAL for a value that is no scalar. */
static int add_query(json_t *options, struct buf *url)
{
	static const char *const names[] = {"labelSelector", "fieldSelector",
		"includeUninitialized", "resourceVersion", "timeoutSeconds"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const json_t *value = json_object_get(options, names[i]);
		_cleanup_free_ char *text = NULL;

		if (!value)
			continue;
		if (json_is_object(value) || json_is_array(value) || json_is_null(value))
			return -EINVAL;
		text = json_is_string(value) ? xstrdup(json_string_value(value))
					     : json_dumps(value, JSON_ENCODE_ANY);
		buf_addf(url, "&%s=", names[i]);
		buf_addurl(url, text);
		json_object_del(options, names[i]);
	}
	return 0;
}

/* list_item_fn: what finalizers hold isn't gone. */
static void forget_item(void *arg, const char *text, size_t len)
{
	_cleanup_json_ json_t *metadata = object_find_names(text, len);
	_cleanup_free_ char *key = NULL;
	struct dotapi_call *c = arg;

	if (object_check_names(metadata, NULL) < 0 ||
		json_array_size(json_object_get(metadata, "finalizers")) > 0 ||
		!streq(json_str(metadata, "namespace"), c->path->ns))
		return;
	key = xasprintf("%s/%s", c->path->ns, json_str(metadata, "name"));
	call_forget_stream(c, key, json_str(metadata, "uid"));
}

/* list_item_fn: what is about to be deleted. */
static void keep_item(void *arg, const char *text, size_t len)
{
	_cleanup_object_ struct object *o = NULL;
	struct dotapi_call *c = arg;

	if (object_from_text(text, len, c->mount->api->resources->streams.api_version, &o, NULL) ==
		0)
		deleted_keep(c->mount->deleted, c->who, o);
}

/* The collection as it is now, by the same selectors. Who may not list it deletes all the same. */
static void keep_collection(struct dotapi_call *c, const char *url)
{
	_cleanup_free_ char *name = namei_text(c->path);
	_cleanup_json_ json_t *metadata = NULL;
	int r = call_send(c, &(struct api_request){.path = url}, NULL);

	if (r == 0)
		list_read(c->answer.data, c->answer.len, keep_item, c, &metadata);
	else
		journal_add(c->mount->journal, name, c->request, c->status.code, -r,
			"what is deleted couldn't be read, so it isn't kept");
	buf_release(&c->answer);
}

int request_delete_collection(struct dotapi_call *c)
{
	_cleanup_free_ char *collection = call_collection_url(c, c->path->ns);
	_cleanup_buf_ struct buf url = BUF_INIT(1 << 20);
	_cleanup_json_ json_t *options = NULL, *metadata = NULL;
	int r = c->mount->nodelete ? call_refuse(c, EPERM, "mounted with -o nodelete")
				   : parse_options(c, &options);

	if (r < 0)
		return r;
	buf_addf(&url, "%s?%s", collection, c->file->query);
	if (narrow(c->mount, options) < 0 || add_query(options, &url) < 0)
		return call_refuse(
			c, EINVAL, "selectors and other parameters are text, numbers or booleans");
	if (!is_dry(c, options))
		keep_collection(c, url.data);
	r = call_send_json(c, "DELETE", url.data, options, NULL);
	if (r < 0 || is_dry(c, options))
		return r;
	list_read(c->answer.data, c->answer.len, forget_item, c, &metadata);
	publish_wait(c->mount->publisher, NULL, PUBLISH_ANNOUNCED, c->api->check,
		now_monotonic() + SHOWN_NS);
	return 0;
}

/* ---- changing ---- */

int request_change(struct dotapi_call *c)
{
	_cleanup_free_ char *url = call_stream_url(c, c->file->query);
	_cleanup_json_ json_t *answer = NULL;
	int r = call_send(c,
		&(struct api_request){.method = c->file->method,
			.path = url,
			.content_type = c->file->media,
			.text = c->text,
			.text_len = c->len},
		&answer);

	return r < 0 ? r : call_take_stream(c, answer, call_asked_stream(c));
}

/* ---- importing ---- */

/* The tag as the stream's spec has it; borrowed from `stream`. */
static const json_t *find_spec_tag(const json_t *stream, const char *name, size_t len)
{
	const json_t *tag;
	size_t i;

	json_array_foreach(json_object_get(json_object_get(stream, "spec"), "tags"), i, tag) {
		const json_t *value = json_object_get(tag, "name");

		if (json_is_string(value) && json_string_length(value) == len &&
			memcmp(json_string_value(value), name, len) == 0)
			return tag;
	}
	return NULL;
}

/* The tag's own source and policies, whole: what is left out would be reset. */
static json_t *import_of(
	const struct dotapi_call *c, const struct object *stream, const json_t *tag)
{
	json_t *image = json_pack("{s:O, s:{s:O}}", "from", json_object_get(tag, "from"), "to",
		"name", json_object_get(tag, "name"));
	const struct api_resource *imports = &c->mount->api->resources->imports;
	static const char *const policies[] = {"importPolicy", "referencePolicy"};

	for (size_t i = 0; i < ARRAY_SIZE(policies); i++)
		if (json_is_object(json_object_get(tag, policies[i])))
			json_object_set(image, policies[i], json_object_get(tag, policies[i]));
	return json_pack("{s:s, s:s, s:{s:s, s:s, s:s}, s:{s:b, s:[o]}, s:{}}", "kind",
		imports->kind, "apiVersion", imports->api_version, "metadata", "name",
		c->path->stream, "namespace", c->path->ns, "uid", stream->uid, "spec", "import",
		!c->mount->dry_run, "images", image, "status");
}

/* The verdict on the image stands in the answer, whatever the HTTP code. */
static int take_import(struct dotapi_call *c, const json_t *answer)
{
	const json_t *status = json_object_get(answer, "status");
	const json_t *image =
		json_object_get(json_array_get(json_object_get(status, "images"), 0), "status");
	const char *verdict = json_str(image, "status"), *message = json_str(image, "message");

	call_take_stream(c, json_object_get(status, "import"), call_asked_stream(c));
	if (verdict && streq(verdict, "Success"))
		return 0;
	return call_refuse(c, EIO, message ? message : "the server says nothing of the image");
}

static int send_import(struct dotapi_call *c, const json_t *body)
{
	_cleanup_free_ char *url =
		resource_path(&c->mount->api->resources->imports, c->path->ns, NULL, NULL);
	_cleanup_json_ json_t *answer = NULL;
	int r = -ESTALE;

	for (int i = 0; i < IMPORT_TRIES && r == -ESTALE; i++) {
		if (i > 0) {
			buf_release(&c->answer);
			r = api_wait(c->api, INT64_C(10) << i);
			if (r < 0)
				return r;
		}
		r = call_send_json(c, "POST", url, body, &answer);
	}
	return r < 0 ? r : take_import(c, answer);
}

int request_import(struct dotapi_call *c)
{
	_cleanup_free_ char *key = xasprintf("%s/%s", c->path->ns, c->path->stream);
	_cleanup_object_ struct object *stream = store_get(c->mount->store, key);
	_cleanup_json_ json_t *parsed = stream ? object_parse(stream) : NULL, *body = NULL;
	char name[NAME_SIZE];
	const char *kind;
	const json_t *tag;
	size_t len;

	if (!stream || layout_unescape(c->path->tag, name, &len) < 0)
		return call_refuse(c, ENOENT, "the tag is gone");
	tag = find_spec_tag(parsed, name, len);
	kind = json_str(json_object_get(tag, "from"), "kind");
	if (!kind || !streq(kind, "DockerImage"))
		return call_refuse(
			c, EINVAL, "only a tag whose `from` is a DockerImage can be imported");
	body = import_of(c, stream, tag);
	if (!body)
		return call_refuse(c, EINVAL, "the tag can't be imported");
	return send_import(c, body);
}
