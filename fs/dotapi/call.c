#include "fs/dotapi/call.h"

#include "client/json.h"
#include "fs/save/update.h"

#include <errno.h>

int call_refuse(struct dotapi_call *c, int error, const char *message)
{
	status_release(&c->status);
	c->status = (struct status){.error = error, .message = xstrdup(message)};
	return -error;
}

/* One request; its answer is added to what there is. */
int call_send(struct dotapi_call *c, const struct api_request *request, json_t **ret)
{
	_cleanup_buf_ struct buf answer = {0};
	int r;

	status_release(&c->status);
	c->status = (struct status){0};
	free(c->request);
	c->request = xasprintf("%s %s", request->method ? request->method : "GET", request->path);
	c->asked = store_list_begin(c->mount->store);
	r = api_send_raw(c->mount->api, c->api, request, &answer, &c->status);
	if (ret)
		*ret = r < 0 ? NULL : json_read_or_null(answer.data, answer.len, JSON_ALLOW_NUL);
	if (!c->answer.data) {
		c->answer = answer;
		answer = (struct buf){0};
	} else if (answer.len) {
		if (c->answer.data[c->answer.len - 1] != '\n')
			buf_addstr(&c->answer, "\n");
		buf_add(&c->answer, answer.data, answer.len);
	}
	return r;
}

int call_send_json(struct dotapi_call *c, const char *method, const char *url, const json_t *body,
	json_t **ret)
{
	return call_send(c,
		&(struct api_request){.method = method,
			.path = url,
			.content_type = "application/json",
			.body = body},
		ret);
}

char *call_stream_url(const struct dotapi_call *c, const char *query)
{
	const struct place *path = c->path;
	_cleanup_free_ char *base = path->kind == KIND_API_VERSION
					    ? xstrdup("/version")
					    : resource_path(&c->mount->api->resources->streams,
						      path->ns, path->stream, c->file->subresource);

	return xasprintf("%s%s%s", base, *query ? "?" : "", query);
}

/* `ns` "": of all of them. */
char *call_collection_url(const struct dotapi_call *c, const char *ns)
{
	return api_stream_path(c->mount->api, *ns ? ns : NULL, NULL);
}

void call_forget_stream(struct dotapi_call *c, const char *key, const char *uid)
{
	update_forget_stream(c->mount, key, uid);
	publish_now(c->mount->publisher, key, NULL);
}

void call_wait_for_events(struct dotapi_call *c, const char *key)
{
	publish_wait(c->mount->publisher, key, PUBLISH_ANNOUNCED, NULL,
		now_monotonic() + PUBLISH_WAIT_NS);
}

/*
 * The watch may have told of it first: either way it is shown, and announced, when the call
 * returns.
 */
static void show_stream(struct dotapi_call *c, const char *key)
{
	publish_now(c->mount->publisher, key, NULL);
	call_wait_for_events(c, key);
}

struct call_asked call_asked_stream(const struct dotapi_call *c)
{
	return (struct call_asked){c->path->ns, c->path->stream};
}

/* NULL, or why an answer isn't the ImageStream that was asked for; the caller frees it. */
char *call_check_asked(const json_t *json, const struct call_asked *asked)
{
	const json_t *metadata = json_object_get(json, "metadata");
	const char *ns = json_str(metadata, "namespace"), *name = json_str(metadata, "name");
	char *why = NULL;

	if (object_check_names(metadata, &why) < 0)
		return why;
	if ((asked->ns && !streq(ns, asked->ns)) || (asked->name && !streq(name, asked->name)))
		return xasprintf("it is another ImageStream: %s/%s", ns, name);
	return NULL;
}

/* The ImageStream that was asked for goes into the store and is shown; anything else is -EIO. */
int call_take_stream(struct dotapi_call *c, const json_t *json, struct call_asked asked)
{
	_cleanup_object_ struct object *o = NULL;
	_cleanup_free_ char *why = NULL, *message = NULL;

	if (c->mount->dry_run)
		return 0; /* it is of what would be */
	why = call_check_asked(json, &asked);
	if (why || object_from_json(json, c->mount->api->resources->streams.api_version, &o) < 0) {
		message = xasprintf("the server's answer isn't the ImageStream: %s",
			why ? why : "it is of another kind or too large");
		return call_refuse(c, EIO, message);
	}
	store_put_answer(c->mount->store, object_ref(o), c->asked);
	show_stream(c, o->key);
	return 0;
}
