#include "fs/save/objects.h"

#include "client/json.h"
#include "fs/mount/removal.h"
#include "fs/save/deleted.h"
#include "fs/save/update.h"
#include "fs/save/verdict.h"

#include <errno.h>

#define LOST_MAX 5 /* answers that may be lost in one call */

static void update_init(struct update *e, struct mount *m, const struct api_call *call,
	const struct place *path, bool removes)
{
	*e = (struct update){.mount = m,
		.call = call,
		.ns = path->ns,
		.stream = path->stream,
		.own = {.tree = path, .removed = removes}};
}

/* Shows what came of it, and notes a failure. */
static int settle(struct update *e, const struct place *path, int r)
{
	_cleanup_free_ char *text = NULL;

	update_end(e, r);
	if (r == 0)
		return 0;
	text = namei_text(path);
	journal_add(e->mount->journal, text, e->request, e->status.code, -r,
		e->status.message ? e->status.message : strerror(-r));
	return verdict_errno(VERDICT_PATH, r);
}

/* One request that is no change of an object: *ret_answer as update_send. */
static int send_request(struct update *e, const char *method, const char *path, const json_t *body,
	struct buf *ret_answer)
{
	struct api_request request = {
		.method = method, .path = path, .content_type = "application/json", .body = body};

	return update_send(e, &request, ret_answer);
}

/* Nothing came of a request whose answer was lost. (503 and the like are -EAGAIN with a code.) */
static bool is_to_repeat(int r, const struct update *e)
{
	return r == -EAGAIN && e->status.code == 0;
}

/* The newest version that we know of, if anything is lost with the stream or tag. */
static void keep_deleted(struct update *e, const struct place *path, const struct process_id *who)
{
	_cleanup_free_ char *key = update_key(e);
	_cleanup_object_ struct object *current = store_get(e->mount->store, key);
	_cleanup_json_ json_t *json = current ? object_parse(current) : NULL;

	if (current && !e->mount->dry_run && !removal_is_bare(json, path))
		deleted_keep(e->mount->deleted, who, current);
}

/* ---- streams ---- */

/*
 * After a lost answer: 0 when the stream that is there now is the empty one we asked for, -EAGAIN
 * when none is.
 */
static int look_for_stream(struct update *e)
{
	_cleanup_json_ json_t *json = NULL;
	int r = update_refresh(e);

	if (r < 0)
		return r == -ENOENT ? update_refuse(e, EAGAIN, xstrdup("the connection was lost"))
				    : r;
	json = object_parse(e->result);
	if (json_array_size(json_object_get(json_object_get(json, "spec"), "tags")) > 0)
		return update_refuse(e, EEXIST, xstrdup("somebody made the ImageStream meanwhile"));
	return 0;
}

static int post_stream(struct update *e, const char *url, const json_t *body)
{
	_cleanup_buf_ struct buf answer = {0};
	int r = send_request(e, "POST", url, body, &answer);

	if (r == 0 ? update_take_change(e, &answer, NULL) < 0 : update_is_lost(e))
		r = look_for_stream(e);
	return r;
}

int objects_make_stream(struct mount *m, const struct api_call *call, const struct place *path)
{
	_cleanup_free_ char *streams = api_stream_path(m->api, path->ns, NULL);
	_cleanup_free_ char *url = xasprintf("%s?fieldValidation=%s", streams, m->validation);
	_cleanup_json_ json_t *body =
		json_pack("{s:s, s:s, s:{s:s, s:s}}", "kind", m->api->resources->streams.kind,
			"apiVersion", m->api->resources->streams.api_version, "metadata", "name",
			path->stream, "namespace", path->ns);
	_cleanup_update_ struct update e = {0};
	int r = -EAGAIN;

	update_init(&e, m, call, path, false);
	if (!body)
		return settle(
			&e, path, update_refuse(&e, EINVAL, xstrdup("the name is not UTF-8")));
	for (int i = 0; i < LOST_MAX && is_to_repeat(r, &e); i++)
		r = post_stream(&e, url, body);
	if (r == -ESTALE)
		r = -EEXIST;
	return settle(&e, path, r);
}

static json_t *delete_options(const char *uid)
{
	return json_pack("{s:s, s:s, s:{s:s}}", "kind", "DeleteOptions", "apiVersion", "v1",
		"preconditions", "uid", uid);
}

/* After a lost answer: 0 when it is gone, -EAGAIN when it isn't. */
static int look_for_deletion(struct update *e, const char *uid)
{
	int r = update_refresh(e);

	if (r == -ENOENT || (r == 0 && !streq(e->result->uid, uid)))
		return 0;
	return r == 0 ? update_refuse(e, EAGAIN, xstrdup("the connection was lost")) : r;
}

/* *ret_answer empty, or no stream: it is gone. */
static int delete_stream(struct update *e, const char *url, const char *uid, struct buf *ret_answer)
{
	_cleanup_json_ json_t *options = delete_options(uid);
	int r = -EAGAIN;

	for (int i = 0; i < LOST_MAX && is_to_repeat(r, e); i++) {
		r = send_request(e, "DELETE", url, options, ret_answer);
		if (r < 0 && update_is_lost(e))
			r = look_for_deletion(e, uid);
	}
	return r;
}

int objects_remove_stream(struct mount *m, const struct api_call *call, const struct place *path,
	const struct process_id *who)
{
	_cleanup_view_ struct snapshot *snapshot = shown_snapshot(m->shown, path->ns, path->stream);
	_cleanup_buf_ struct buf answer = {0};
	_cleanup_free_ char *url = NULL, *key = NULL;
	_cleanup_update_ struct update e = {0};
	int r;

	if (!snapshot)
		return -ENOENT;
	update_init(&e, m, call, path, true);
	keep_deleted(&e, path, who);
	url = api_stream_path(m->api, path->ns, path->stream);
	r = delete_stream(&e, url, snapshot->object->uid, &answer);
	/* An ImageStream as the answer: finalizers hold it, it goes later. */
	if (r == -ENOENT || (r == 0 && !m->dry_run && update_take_answer(&e, &answer, NULL) < 0)) {
		key = update_key(&e);
		update_forget_stream(m, key, snapshot->object->uid);
		e.taken = true;
	}
	return settle(&e, path, r);
}

/* ---- tags ---- */

static int set_tag(struct update *e, const struct place *path, char raw[NAME_SIZE])
{
	_cleanup_json_ json_t *utf8 = NULL;
	size_t len;

	if (layout_unescape(path->tag, raw, &len) == 0)
		utf8 = json_stringn(raw, len);
	if (!utf8)
		return update_refuse(e, EINVAL, xstrdup("no tag can have that name"));
	e->file.tag = raw;
	e->file.tag_len = len;
	return 0;
}

/* update_decide */
static int add_tag(
	struct update *e, struct object *current, const json_t *json, json_t **ret_merged)
{
	struct attr_tag tag = attr_find_tag(json, e->file.tag, e->file.tag_len);

	/* An answer of ours was lost, and what is there is the empty tag that we asked for. */
	if (tag.spec && e->last_from && !json_object_get(tag.spec, "from"))
		return 0;
	if (tag.spec || tag.status)
		return update_refuse(e, EEXIST, xstrdup("the tag is there already"));
	*ret_merged = json_object();
	return 1;
}

int objects_make_tag(
	struct mount *m, const struct api_call *call, const struct place *path, bool may_be_there)
{
	_cleanup_view_ struct snapshot *snapshot = shown_snapshot(m->shown, path->ns, path->stream);
	_cleanup_update_ struct update e = {0};
	char raw[NAME_SIZE];
	int r;

	if (!snapshot)
		return -ENOENT;
	update_init(&e, m, call, path, false);
	e.uid = snapshot->object->uid;
	e.file.view = PATCH_TAG_SPEC;
	e.decide = add_tag;
	r = set_tag(&e, path, raw);
	if (r == 0)
		r = update_run(&e);
	if (r == -EEXIST && may_be_there) {
		e.taken = true; /* by the watch, maybe, and not shown yet */
		r = 0;
	}
	return settle(&e, path, r);
}

/* update_decide: takes the element out of the list. */
static int remove_element(
	struct update *e, struct object *current, const json_t *json, json_t **ret_merged)
{
	struct attr_tag tag = attr_find_tag(json, e->file.tag, e->file.tag_len);

	*ret_merged = NULL;
	return (e->file.view == PATCH_TAG_SPEC ? tag.spec : tag.status) ? 1 : 0;
}

static int delete_imagestreamtag(struct update *e, const char *uid)
{
	_cleanup_json_ json_t *options = delete_options(uid);
	_cleanup_buf_ struct buf answer = {0};
	_cleanup_free_ char *path = update_tag_path(e);

	return send_request(e, "DELETE", path, options, &answer);
}

/* After a lost answer: 0 when the tag is gone, -EAGAIN when it isn't. */
static int look_for_tag(struct update *e)
{
	_cleanup_json_ json_t *json = NULL;
	struct attr_tag left;
	int r = update_refresh(e);

	if (r < 0)
		return r;
	json = update_parse(e, e->result);
	left = attr_find_tag(json, e->file.tag, e->file.tag_len);
	if (left.spec || left.status)
		return update_refuse(e, EAGAIN, xstrdup("the connection was lost"));
	return 0;
}

/* By patches of the stream: history first, since that may be refused. */
static int remove_by_patch(struct update *e, const struct attr_tag *tag)
{
	int r = 0;

	e->decide = remove_element;
	if (tag->status) {
		e->file.view = PATCH_TAG_STATUS;
		r = update_may_patch_status(e) ? update_run(e) : -EACCES;
		if (r == -EACCES)
			return update_refuse(e, ENOTEMPTY,
				xstrdup("the tag has a history, and the right to patch "
					"imagestreams/status is missing"));
	}
	if (r == 0 && tag->spec) {
		e->file.view = PATCH_TAG_SPEC;
		r = update_run(e);
	}
	return r;
}

static int remove_tag(struct update *e)
{
	_cleanup_free_ char *key = update_key(e);
	_cleanup_object_ struct object *current = store_get(e->mount->store, key);
	_cleanup_json_ json_t *json = current ? update_parse(e, current) : NULL;
	struct attr_tag tag = attr_find_tag(json, e->file.tag, e->file.tag_len);
	int r = -EAGAIN;

	if (!current)
		return update_refuse(e, ENOENT, xstrdup("the ImageStream is gone"));
	if (!update_tag_fits_url(e))
		return remove_by_patch(e, &tag);
	for (int i = 0; i < LOST_MAX && is_to_repeat(r, e); i++) {
		r = delete_imagestreamtag(e, e->uid);
		if (r < 0 && (e->status.code == 403 || e->status.code == 405))
			return remove_by_patch(e, &tag);
		if (r == 0)
			r = update_refresh(e);
		else if (update_is_lost(e))
			r = look_for_tag(e);
		else if (r == -ENOENT && update_refresh(e) < 0)
			r = -ENOENT; /* shown, but gone on the server */
	}
	return r;
}

int objects_remove_tag(struct mount *m, const struct api_call *call, const struct place *path,
	const struct process_id *who)
{
	_cleanup_view_ struct snapshot *snapshot = shown_snapshot(m->shown, path->ns, path->stream);
	_cleanup_update_ struct update e = {0};
	char raw[NAME_SIZE];
	int r;

	if (!snapshot)
		return -ENOENT;
	update_init(&e, m, call, path, true);
	e.uid = snapshot->object->uid;
	r = set_tag(&e, path, raw);
	if (r == 0) {
		keep_deleted(&e, path, who);
		r = remove_tag(&e);
	}
	return settle(&e, path, r);
}
