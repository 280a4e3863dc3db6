#include "fs/change.h"

#include "client/json.h"
#include "fs/edit.h"
#include "fs/names.h"

#include <errno.h>

#define LOST_MAX 5 /* answers that may be lost in one call */

int change_path_errno(int r)
{
	return r == -ESTALE ? -EBUSY : r;
}

static void edit_init(struct edit *e, struct mount *m, const struct api_call *call,
	const struct tree_path *path, bool removes)
{
	*e = (struct edit){.mount = m,
		.call = call,
		.namespace = path->namespace,
		.stream = path->stream,
		.own = {.tree = path, .removed = removes}};
}

/* Shows what came of it, and notes a failure. */
static int settle(struct edit *e, const struct tree_path *path, int r)
{
	_cleanup_free_ char *text = NULL;

	edit_end(e, r);
	if (r == 0)
		return 0;
	text = names_text(path);
	journal_add(e->mount->journal, text, e->request, e->status.code, -r,
		e->status.message ? e->status.message : strerror(-r));
	return change_path_errno(r);
}

/* One request that is no change of an object: *ret_answer as edit_send. */
static int send_request(struct edit *e, const char *method, const char *path, const json_t *body,
	struct buf *ret_answer)
{
	struct api_request request = {
		.method = method, .path = path, .content_type = "application/json", .body = body};

	return edit_send(e, &request, ret_answer);
}

/* The request may have arrived, though no answer came, or one too large to be taken. */
static bool is_lost(const struct edit *e)
{
	return e->status.code == 0 && (e->status.error == ECONNRESET || e->status.error == EIO);
}

/* Nothing came of a request whose answer was lost. (503 and the like are -EAGAIN with a code.) */
static bool is_to_repeat(int r, const struct edit *e)
{
	return r == -EAGAIN && e->status.code == 0;
}

/* ---- streams ---- */

/*
 * After a lost answer: 0 when the stream that is there now is the empty one we asked for, -EAGAIN
 * when none is.
 */
static int look_for_stream(struct edit *e)
{
	_cleanup_json_ json_t *json = NULL;
	int r = edit_refresh(e);

	if (r < 0)
		return r == -ENOENT ? edit_refuse(e, EAGAIN, xstrdup("the connection was lost"))
				    : r;
	json = object_parse(e->result);
	if (json_array_size(json_object_get(json_object_get(json, "spec"), "tags")) > 0)
		return edit_refuse(e, EEXIST, xstrdup("somebody made the ImageStream meanwhile"));
	return 0;
}

static int post_stream(struct edit *e, const char *url, const json_t *body)
{
	_cleanup_buf_ struct buf answer = {0};
	int r = send_request(e, "POST", url, body, &answer);

	if (r == 0 ? edit_take_answer(e, &answer, NULL) < 0 : is_lost(e))
		r = look_for_stream(e);
	return r;
}

int change_make_stream(struct mount *m, const struct api_call *call, const struct tree_path *path)
{
	_cleanup_free_ char *streams = api_stream_path(m->api, path->namespace, NULL);
	_cleanup_free_ char *url = xasprintf("%s?fieldValidation=Strict", streams);
	_cleanup_json_ json_t *body = json_pack("{s:s, s:s, s:{s:s, s:s}}", "kind", "ImageStream",
		"apiVersion", m->api->api_version, "metadata", "name", path->stream, "namespace",
		path->namespace);
	_cleanup_edit_ struct edit e = {0};
	int r = -EAGAIN;

	edit_init(&e, m, call, path, false);
	if (!body)
		return settle(&e, path, edit_refuse(&e, EINVAL, xstrdup("the name is not UTF-8")));
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

/* The object is gone for us, unless it was made again. */
static void forget_stream(struct edit *e, const char *uid)
{
	_cleanup_free_ char *key = edit_key(e);
	_cleanup_object_ struct object *held = store_get(e->mount->store, key);

	if (held && streq(held->uid, uid))
		store_delete(e->mount->store, key, held->resource_version);
	e->taken = true;
}

/* After a lost answer: 0 when it is gone, -EAGAIN when it isn't. */
static int look_for_deletion(struct edit *e, const char *uid)
{
	int r = edit_refresh(e);

	if (r == -ENOENT || (r == 0 && !streq(e->result->uid, uid)))
		return 0;
	return r == 0 ? edit_refuse(e, EAGAIN, xstrdup("the connection was lost")) : r;
}

/* *ret_answer empty, or no stream: it is gone. */
static int delete_stream(struct edit *e, const char *url, const char *uid, struct buf *ret_answer)
{
	_cleanup_json_ json_t *options = delete_options(uid);
	int r = -EAGAIN;

	for (int i = 0; i < LOST_MAX && is_to_repeat(r, e); i++) {
		r = send_request(e, "DELETE", url, options, ret_answer);
		if (r < 0 && is_lost(e))
			r = look_for_deletion(e, uid);
	}
	return r;
}

int change_remove_stream(struct mount *m, const struct api_call *call, const struct tree_path *path)
{
	_cleanup_view_ struct view *view =
		published_view(m->published, path->namespace, path->stream);
	_cleanup_buf_ struct buf answer = {0};
	_cleanup_free_ char *url = NULL;
	_cleanup_edit_ struct edit e = {0};
	int r;

	if (!view)
		return -ENOENT;
	edit_init(&e, m, call, path, true);
	url = api_stream_path(m->api, path->namespace, path->stream);
	r = delete_stream(&e, url, view->object->uid, &answer);
	/* An ImageStream as the answer: finalizers hold it, it goes later. */
	if (r == -ENOENT || (r == 0 && edit_take_answer(&e, &answer, NULL) < 0))
		forget_stream(&e, view->object->uid);
	return settle(&e, path, r);
}

/* ---- tags ---- */

static int set_tag(struct edit *e, const struct tree_path *path, char raw[NAME_SIZE])
{
	_cleanup_json_ json_t *utf8 = NULL;
	size_t len;

	if (tree_unescape(path->tag, raw, &len) == 0)
		utf8 = json_stringn(raw, len);
	if (!utf8)
		return edit_refuse(e, EINVAL, xstrdup("no tag can have that name"));
	e->file.tag = raw;
	e->file.tag_len = len;
	return 0;
}

/* edit_decide */
static int add_tag(struct edit *e, struct object *current, const json_t *json, json_t **ret_merged)
{
	struct attr_tag tag = attr_find_tag(json, e->file.tag, e->file.tag_len);

	/* An answer of ours was lost, and what is there is the empty tag that we asked for. */
	if (tag.spec && e->last_from && !json_object_get(tag.spec, "from"))
		return 0;
	if (tag.spec || tag.status)
		return edit_refuse(e, EEXIST, xstrdup("the tag is there already"));
	*ret_merged = json_object();
	return 1;
}

int change_make_tag(struct mount *m, const struct api_call *call, const struct tree_path *path)
{
	_cleanup_view_ struct view *view =
		published_view(m->published, path->namespace, path->stream);
	_cleanup_edit_ struct edit e = {0};
	char raw[NAME_SIZE];
	int r;

	if (!view)
		return -ENOENT;
	edit_init(&e, m, call, path, false);
	e.uid = view->object->uid;
	e.file.view = PATCH_TAG_SPEC;
	e.decide = add_tag;
	r = set_tag(&e, path, raw);
	if (r == 0)
		r = edit_run(&e);
	return settle(&e, path, r);
}

/* edit_decide: takes the element out of the list. */
static int remove_element(
	struct edit *e, struct object *current, const json_t *json, json_t **ret_merged)
{
	struct attr_tag tag = attr_find_tag(json, e->file.tag, e->file.tag_len);

	*ret_merged = NULL;
	return (e->file.view == PATCH_TAG_SPEC ? tag.spec : tag.status) ? 1 : 0;
}

/*
 * A name that is empty or has one of these would be another tag's in a URL: the server takes what
 * stands before a slash (api-facts.md, corrections).
 */
static bool fits_url(const struct edit *e)
{
	return e->file.tag_len > 0 && strlen(e->file.tag) == e->file.tag_len &&
	       !strpbrk(e->file.tag, "/:@") && !streq(e->file.tag, ".") &&
	       !streq(e->file.tag, "..");
}

static int delete_imagestreamtag(struct edit *e, const char *uid)
{
	_cleanup_json_ json_t *options = delete_options(uid);
	_cleanup_buf_ struct buf answer = {0};
	struct buf path = BUF_INIT(8192);
	int r;

	buf_addf(&path, "%s/namespaces/", e->mount->api->root);
	buf_addurl(&path, e->namespace);
	buf_addstr(&path, "/imagestreamtags/");
	buf_addurl(&path, e->stream);
	buf_addstr(&path, ":");
	buf_addurl(&path, e->file.tag);
	r = send_request(e, "DELETE", path.data, options, &answer);
	buf_release(&path);
	return r;
}

/* After a lost answer: 0 when the tag is gone, -EAGAIN when it isn't. */
static int look_for_tag(struct edit *e)
{
	_cleanup_json_ json_t *json = NULL;
	struct attr_tag left;
	int r = edit_refresh(e);

	if (r < 0)
		return r;
	json = object_parse(e->result);
	left = attr_find_tag(json, e->file.tag, e->file.tag_len);
	if (left.spec || left.status)
		return edit_refuse(e, EAGAIN, xstrdup("the connection was lost"));
	return 0;
}

/* Whether we may patch the stream's status; where nobody says: yes, the server decides. */
static bool may_patch_status(struct edit *e)
{
	_cleanup_json_ json_t *answer = NULL;
	_cleanup_buf_ struct buf text = {0};
	_cleanup_json_ json_t *body = json_pack("{s:s, s:s, s:{s:{s:s, s:s, s:s, s:s, s:s, s:s}}}",
		"kind", "SelfSubjectAccessReview", "apiVersion", "authorization.k8s.io/v1", "spec",
		"resourceAttributes", "namespace", e->namespace, "verb", "patch", "group",
		"image.openshift.io", "resource", "imagestreams", "subresource", "status", "name",
		e->stream);
	const json_t *allowed;
	int r = send_request(
		e, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body, &text);

	answer = json_read_or_null(text.data, text.len, JSON_ALLOW_NUL);
	allowed = json_object_get(json_object_get(answer, "status"), "allowed");
	return r < 0 || !json_is_false(allowed);
}

/* By patches of the stream: history first, since that may be refused. */
static int remove_by_patch(struct edit *e, const struct attr_tag *tag)
{
	int r = 0;

	e->decide = remove_element;
	if (tag->status) {
		e->file.view = PATCH_TAG_STATUS;
		r = may_patch_status(e) ? edit_run(e) : -EACCES;
		if (r == -EACCES)
			return edit_refuse(e, ENOTEMPTY,
				xstrdup("the tag has a history, and the right to patch "
					"imagestreams/status is missing"));
	}
	if (r == 0 && tag->spec) {
		e->file.view = PATCH_TAG_SPEC;
		r = edit_run(e);
	}
	return r;
}

static int remove_tag(struct edit *e)
{
	_cleanup_free_ char *key = edit_key(e);
	_cleanup_object_ struct object *current = store_get(e->mount->store, key);
	_cleanup_json_ json_t *json = current ? object_parse(current) : NULL;
	struct attr_tag tag = attr_find_tag(json, e->file.tag, e->file.tag_len);
	int r = -EAGAIN;

	if (!current)
		return edit_refuse(e, ENOENT, xstrdup("the ImageStream is gone"));
	if (!fits_url(e))
		return remove_by_patch(e, &tag);
	for (int i = 0; i < LOST_MAX && is_to_repeat(r, e); i++) {
		r = delete_imagestreamtag(e, e->uid);
		if (r < 0 && (e->status.code == 403 || e->status.code == 405))
			return remove_by_patch(e, &tag);
		if (r == 0)
			r = edit_refresh(e);
		else if (is_lost(e))
			r = look_for_tag(e);
		else if (r == -ENOENT && edit_refresh(e) < 0)
			r = -ENOENT; /* shown, but gone on the server */
	}
	return r;
}

int change_remove_tag(struct mount *m, const struct api_call *call, const struct tree_path *path)
{
	_cleanup_view_ struct view *view =
		published_view(m->published, path->namespace, path->stream);
	_cleanup_edit_ struct edit e = {0};
	char raw[NAME_SIZE];
	int r;

	if (!view)
		return -ENOENT;
	edit_init(&e, m, call, path, true);
	e.uid = view->object->uid;
	r = set_tag(&e, path, raw);
	if (r == 0)
		r = remove_tag(&e);
	return settle(&e, path, r);
}
