#include "fs/save/update.h"

#include "client/json.h"

#include <errno.h>
#include <sys/random.h>

#define CONFLICT_MS  10 /* the first wait after a conflict is up to this, then doubled */
#define CONFLICT_TOP 8	/* and no longer after so many times */
#define LOST_MAX     5	/* answers that may be lost in one save */

void update_forget_stream(struct mount *m, const char *key, const char *uid)
{
	_cleanup_object_ struct object *held = store_get(m->store, key);

	if (held && (!uid || streq(held->uid, uid)))
		store_delete(m->store, key, held->resource_version);
}

char *update_key(const struct update *e)
{
	return xasprintf("%s/%s", e->ns, e->stream);
}

int update_refuse(struct update *e, int error, char *message)
{
	status_release(&e->status);
	e->status = (struct status){.error = error, .message = message};
	return -error;
}

void update_release(struct update *e)
{
	status_release(&e->status);
	object_unref(e->result);
	free(e->request);
	free(e->last_from);
	free(e->tag_version);
	json_decref(e->last_sent);
}

int update_send(struct update *e, const struct api_request *request, struct buf *ret_answer)
{
	status_release(&e->status);
	free(e->request);
	e->request = xasprintf("%s %s", request->method ? request->method : "GET", request->path);
	buf_release(ret_answer);
	e->asked = store_list_begin(e->mount->store);
	return api_send_raw(e->mount->api, e->call, request, ret_answer, &e->status);
}

/* An answer about another stream is no answer to the request. */
static int read_answer(
	const struct update *e, const struct buf *answer, struct object **ret, char **ret_why)
{
	_cleanup_object_ struct object *o = NULL;
	int r = object_from_text(answer->data, answer->len,
		e->mount->api->resources->streams.api_version, &o, ret_why);

	if (r < 0)
		return -EINVAL;
	if (!object_is(o, e->ns, e->stream)) {
		*ret_why = xasprintf("it is another ImageStream: %s", o->key);
		return -EINVAL;
	}
	*ret = steal_ptr(o);
	return 0;
}

/*
 * What the store holds of the answer: the watch may have been faster, and who reads both of them
 * shall not parse the same text twice.
 */
static struct object *get_held(struct store *store, struct object *o)
{
	struct object *held = store_get(store, o->key);

	if (held && streq(held->uid, o->uid) && streq(held->resource_version, o->resource_version))
		return held;
	object_unref(held);
	return object_ref(o);
}

int update_take_answer(struct update *e, const struct buf *answer, char **ret_why)
{
	_cleanup_free_ char *why = NULL;
	_cleanup_object_ struct object *o = NULL;
	int r = read_answer(e, answer, &o, &why);

	if (r < 0) {
		if (ret_why)
			*ret_why = steal_ptr(why);
		return r;
	}
	store_put_answer(e->mount->store, object_ref(o), e->asked);
	object_unref(e->result);
	e->result = get_held(e->mount->store, o);
	e->taken = true;
	return 0;
}

int update_take_change(struct update *e, const struct buf *answer, char **ret_why)
{
	_cleanup_free_ char *key = NULL;
	struct object *o;

	if (!e->mount->dry_run)
		return update_take_answer(e, answer, ret_why);
	key = update_key(e);
	o = store_get(e->mount->store, key);
	if (o) {
		object_unref(e->result);
		e->result = o;
	}
	return 0;
}

void update_end(struct update *e, int r)
{
	_cleanup_free_ char *key = update_key(e);

	if (e->taken)
		publish_now(e->mount->publisher, key, r == 0 ? &e->own : NULL);
}

int update_refresh(struct update *e)
{
	_cleanup_free_ char *path = api_stream_path(e->mount->api, e->ns, e->stream);
	_cleanup_buf_ struct buf answer = {0};
	_cleanup_free_ char *why = NULL;
	int r = update_send(e, &(struct api_request){.path = path}, &answer);

	if (r == 0 && update_take_answer(e, &answer, &why) < 0)
		r = update_refuse(
			e, EIO, xasprintf("the server's answer isn't the ImageStream: %s", why));
	return r;
}

json_t *update_parse(const struct update *e, struct object *o)
{
	return e->file.tag ? object_parse_tag(o, e->file.tag, e->file.tag_len)
			   : object_cache_get(e->mount->cache, o);
}

static const char *const content_types[] = {
	[PATCH_PUT] = "application/json",
	[PATCH_MERGE] = "application/merge-patch+json",
	[PATCH_STRATEGIC] = "application/strategic-merge-patch+json",
};

static bool is_status(const struct update *e)
{
	return e->file.view == PATCH_STATUS || e->file.view == PATCH_TAG_STATUS;
}

/* The form to try where the server doesn't take this one as a type (415). */
static bool other_form(const struct update *e, enum patch_form *form)
{
	if (*form == PATCH_STRATEGIC)
		*form = PATCH_MERGE;
	else if (*form == PATCH_MERGE && is_status(e))
		*form = PATCH_PUT;
	else
		return false;
	return true;
}

static bool is_same_version(
	const struct update *e, const struct object *current, const json_t *answer)
{
	const json_t *metadata = json_object_get(answer, "metadata");
	const char *const same[][2] = {{"namespace", e->ns}, {"name", e->stream},
		{"uid", current->uid}, {"resourceVersion", current->resource_version}};

	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		const char *value = json_str(metadata, same[i][0]);

		if (!value || !streq(value, same[i][1]))
			return false;
	}
	return true;
}

static int update_conflict(struct update *e)
{
	update_refuse(e, ESTALE, xstrdup("the ImageStream was changed meanwhile"));
	e->status.code = 409;
	return -ESTALE;
}

/* `patch`: the body where it is made already; else it is made of the whole object. */
static int send_form(struct update *e, enum patch_form form, const json_t *patch,
	struct object *current, const json_t *merged, struct buf *ret_answer)
{
	_cleanup_free_ char *base = resource_path(&e->mount->api->resources->streams, e->ns,
		e->stream, is_status(e) ? "status" : NULL);
	_cleanup_free_ char *path = xasprintf("%s?fieldValidation=%s", base, e->mount->validation);
	_cleanup_json_ json_t *whole = NULL, *body = NULL;
	_cleanup_buf_ struct buf text = {0};
	struct api_request request = {.method = form == PATCH_PUT ? "PUT" : "PATCH",
		.path = path,
		.content_type = content_types[form],
		.body = patch};
	int r;

	if (form == PATCH_PUT && is_status(e)) { /* a status PUT takes labels and finalizers too */
		r = update_send(e, &(struct api_request){.path = base}, &text);
		if (r < 0)
			return r;
		whole = json_read_or_null(text.data, text.len, JSON_ALLOW_NUL);
		if (!is_same_version(e, current, whole)) /* newer than what was merged */
			return update_conflict(e);
	} else if (!patch) {
		whole = object_cache_get(e->mount->cache, current);
	}
	if (!patch) {
		body = patch_body(&e->file, form, whole, merged);
		request.body = body;
	}
	return update_send(e, &request, ret_answer);
}

bool update_tag_fits_url(const struct update *e)
{
	return e->file.tag_len > 0 && strlen(e->file.tag) == e->file.tag_len &&
	       !strpbrk(e->file.tag, "/:@") && !streq(e->file.tag, ".") &&
	       !streq(e->file.tag, "..");
}

char *update_tag_path(const struct update *e)
{
	_cleanup_free_ char *name = xasprintf("%s:%s", e->stream, e->file.tag);

	return resource_path(&e->mount->api->resources->tags, e->ns, name, NULL);
}

static bool goes_as_tag(const struct update *e, const json_t *merged)
{
	const char *kind = json_str(json_object_get(merged, "from"), "kind");

	return e->as_tag && kind && !streq(kind, "DockerImage") && update_tag_fits_url(e);
}

/*
 * The tag as PUT of the imagestreamtag, after which tags that follow it move along (real-server-2.md
 * D3). The server takes the tag's annotations from metadata, and the stream's lookupPolicy.
 */
static json_t *tag_body(const struct update *e, const json_t *current, const json_t *merged)
{
	const struct api_resource *tags = &e->mount->api->resources->tags;
	const json_t *metadata = json_object_get(current, "metadata");
	_cleanup_json_ json_t *tag = json_copy((json_t *)merged);

	json_object_del(tag, "generation");
	json_object_set_new(tag, "name", json_string(e->file.tag));
	return json_pack("{s:s, s:s, s:{s:s++, s:s, s:O*, s:O*}, s:O, s:O*}", "kind", tags->kind,
		"apiVersion", tags->api_version, "metadata", "name", e->stream, ":", e->file.tag,
		"namespace", e->ns, "resourceVersion", json_object_get(metadata, "resourceVersion"),
		"annotations", json_object_get(tag, "annotations"), "tag", tag, "lookupPolicy",
		json_object_get(json_object_get(current, "spec"), "lookupPolicy"));
}

/* The caller frees; NULL: it names none. */
static char *version_of(const struct buf *answer)
{
	_cleanup_json_ json_t *json = json_read_or_null(answer->data, answer->len, JSON_ALLOW_NUL);
	const char *version = json_str(json_object_get(json, "metadata"), "resourceVersion");

	return version ? xstrdup(version) : NULL;
}

/* Its answer is no ImageStream: that is asked for. -EOPNOTSUPP: this server or user can't. */
static int send_tag(
	struct update *e, const json_t *current, const json_t *merged, struct buf *ret_answer)
{
	_cleanup_free_ char *base = update_tag_path(e);
	_cleanup_free_ char *stream = api_stream_path(e->mount->api, e->ns, e->stream);
	_cleanup_free_ char *path = xasprintf("%s?fieldValidation=%s", base, e->mount->validation);
	_cleanup_json_ json_t *body = tag_body(e, current, merged);
	struct api_request request = {.method = "PUT",
		.path = path,
		.content_type = content_types[PATCH_PUT],
		.body = body};
	int r = update_send(e, &request, ret_answer);

	if (r < 0)
		return e->status.code == 403 || e->status.code == 405 ? -EOPNOTSUPP : r;
	free(e->tag_version);
	e->tag_version = version_of(ret_answer);
	r = update_send(e, &(struct api_request){.path = stream}, ret_answer);
	if (r < 0 && e->status.code) /* what the PUT did isn't known: look again */
		r = update_refuse(e, EIO, xstrdup("the changed ImageStream couldn't be read"));
	return r;
}

/* `json`: as much of the current object as update_parse gives. */
static int send_change(struct update *e, struct object *current, const json_t *json,
	const json_t *merged, struct buf *ret_answer)
{
	_cleanup_json_ json_t *patch = NULL;
	enum patch_form form = patch_form(&e->file, json, merged, &patch);
	int r;

	free(steal_ptr(e->tag_version));
	r = goes_as_tag(e, merged) ? send_tag(e, json, merged, ret_answer) : -EOPNOTSUPP;
	if (r != -EOPNOTSUPP)
		return r;
	r = send_form(e, form, patch, current, merged, ret_answer);
	while (r < 0 && e->status.code == 415 && other_form(e, &form))
		r = send_form(e, form, NULL, current, merged, ret_answer);
	return r;
}

bool update_may_patch_status(struct update *e)
{
	_cleanup_buf_ struct buf answer = {0};
	_cleanup_json_ json_t *body = review_body(&(struct review){.verb = "patch",
		.resource = &e->mount->api->resources->streams,
		.subresource = "status",
		.ns = e->ns,
		.name = e->stream});
	_cleanup_free_ char *path = resource_path(&resource_access_reviews, NULL, NULL, NULL);
	int r = update_send(e,
		&(struct api_request){.method = "POST",
			.path = path,
			.content_type = "application/json",
			.body = body,
			.asks = true},
		&answer);

	return r < 0 || review_parse(e->status.code, answer.data, answer.len) != REVIEW_DENIED;
}

/* Whether another was faster: the object is to be looked at again. */
static bool is_conflict(const struct update *e)
{
	return e->status.error == ESTALE && (e->status.code == 409 || e->status.code == 422);
}

bool update_is_lost(const struct update *e)
{
	return e->status.code == 0 && (e->status.error == ECONNRESET || e->status.error == EIO);
}

/* The change was sent, and nobody knows what became of it. */
static bool is_in_doubt(const struct update *e)
{
	return e->status.code == 0 &&
	       (update_is_lost(e) || e->status.error == ETIMEDOUT || e->status.error == EINTR ||
		       e->status.error == ESHUTDOWN);
}

static void add_doubt(struct update *e)
{
	char *message = xasprintf("%s; the server may have applied the change", e->status.message);

	free(e->status.message);
	e->status.message = message;
}

static int wait_random(struct update *e, unsigned attempt)
{
	int64_t top = CONFLICT_MS << (attempt < CONFLICT_TOP ? attempt : CONFLICT_TOP);
	uint32_t random = 0;
	ssize_t n = getrandom(&random, sizeof(random), GRND_NONBLOCK);

	return api_wait(e->call, n > 0 ? random % top + 1 : top);
}

/* The object to change: the store's, else the server's (a stream that nothing watches). */
static int get_current(struct update *e, struct object **ret)
{
	_cleanup_free_ char *key = update_key(e);
	int r;

	*ret = store_get(e->mount->store, key);
	if (!*ret) {
		r = update_refresh(e);
		if (r < 0)
			return r;
		*ret = object_ref(e->result);
	}
	if (e->uid && !streq((*ret)->uid, e->uid)) {
		object_unref(steal_ptr(*ret));
		return update_refuse(
			e, ESTALE, xstrdup("the ImageStream was deleted and made again meanwhile"));
	}
	return 0;
}

/* Whether a change that was sent without an answer (curl may even send it twice) is there now. */
static bool has_arrived(struct update *e, struct object *current, const json_t *json)
{
	_cleanup_json_ json_t *now = NULL;

	if (!e->last_from || streq(e->last_from, current->resource_version))
		return false;
	now = patch_value(&e->file, json);
	if (!patch_equal(&e->file, now, e->last_sent))
		return false;
	history_own(e->mount->history, current, e->last_from);
	return true;
}

static void remember_sent(struct update *e, const struct object *from, json_t *merged)
{
	free(e->last_from);
	json_decref(e->last_sent);
	e->last_from = xstrdup(from->resource_version);
	e->last_sent = json_incref(merged);
}

static void set_result(struct update *e, struct object *o)
{
	object_unref(e->result);
	e->result = object_ref(o);
}

/* One attempt. 0, or -errno; *ret_again when the object should be looked at again. */
static int attempt(struct update *e, bool *ret_again)
{
	_cleanup_object_ struct object *current = NULL;
	_cleanup_json_ json_t *json = NULL, *merged = NULL;
	_cleanup_buf_ struct buf answer = {0};
	_cleanup_free_ char *why = NULL;
	int r = get_current(e, &current);

	*ret_again = false;
	if (r < 0)
		return r;
	json = update_parse(e, current);
	e->sent = has_arrived(e, current, json);
	r = e->sent ? 0 : e->decide(e, current, json, &merged);
	if (r <= 0) {
		set_result(e, current);
		return r;
	}
	r = e->call->check ? e->call->check->fn(e->call->check->arg) : 0;
	if (r < 0)
		return update_refuse(e, -r, xasprintf("nothing was sent: %s", strerror(-r)));
	remember_sent(e, current, merged);
	r = send_change(e, current, json, merged, &answer);
	if (r == 0 && update_take_change(e, &answer, &why) < 0) /* nobody knows what it did */
		r = update_refuse(
			e, EIO, xasprintf("the server's answer isn't the ImageStream: %s", why));
	if (r < 0) {
		e->lost = update_is_lost(e);
		e->in_doubt = is_in_doubt(e);
		*ret_again = is_conflict(e) || update_is_lost(e);
		return r;
	}
	e->sent = true;
	/* Between the PUT of a tag and the look at the stream others may have been. */
	if (!e->tag_version || streq(e->tag_version, e->result->resource_version))
		history_own(e->mount->history, e->result, current->resource_version);
	return 0;
}

int update_run(struct update *e)
{
	unsigned conflicts = 0, lost = 0;
	bool again;
	int r;

	while ((r = attempt(e, &again)) < 0 && again) {
		bool conflict = is_conflict(e);
		_cleanup_free_ char *message = xstrdup(e->status.message);

		if (!conflict && ++lost > LOST_MAX)
			break;
		r = conflict ? wait_random(e, conflicts++) : 0;
		if (r == 0)
			r = update_refresh(e); /* what came of it is seen there, not guessed */
		if (r == 0)
			e->in_doubt = false;
		if (r == -ETIMEDOUT && conflict)
			return update_refuse(e, EAGAIN, steal_ptr(message));
		if (r < 0) {
			if (e->status.error != -r)
				update_refuse(e, -r, xstrdup(strerror(-r)));
			break;
		}
	}
	if (r < 0 && e->in_doubt)
		add_doubt(e);
	return r;
}
