#include "fs/save/save.h"

#include "client/json.h"
#include "client/log.h"
#include "client/reference.h"
#include "client/yaml.h"
#include "fs/mount/namei.h"
#include "fs/save/deleted.h"
#include "fs/save/update.h"
#include "fs/save/verdict.h"

#include <errno.h>

#define LINE_MAX_LEN                                                                               \
	1024 /* of a cause: Strict errors quote the object, and then say what is wrong */
#define REASON_MAX ((size_t)4 << 20)

/* For who lays a backup over the object that it was made of. */
#define PUT_BACK                                                                                   \
	"to save this text all the same, leave its resourceVersion out, or write it to "           \
	"NAMESPACE/.api/apply"

struct document {
	struct mount *mount;
	const struct save_call *call;
	const struct place *path;
	uint64_t slot;
	struct object *opened;	  /* the base where the process read nothing, or NULL */
	const struct base *saved; /* what the handle itself saved last, or NULL */
	struct process_id opener; /* of the handle, or all 0 */
	bool untold;		  /* whoever wrote it can't be told from others */
	bool lost;		  /* an image whose stream is gone */
	bool copy;		  /* into a directory that its writer made for it */
	bool awaited;		  /* or else the image of a tag that has none yet: as a copy */
	const char *text;
	size_t len;
	json_t *mine;	     /* as it was written; of `from` what the line says */
	json_t *meant;	     /* what of it counts, and is merged */
	char raw[NAME_SIZE]; /* the tag's real name */
	json_t *conflicts;
	uint64_t stamp; /* of the accepted save (fs/tree/mergebase.h) */
	struct update edit;
};

static void document_release(struct document *d)
{
	json_decref(d->mine);
	json_decref(d->meant);
	json_decref(d->conflicts);
	update_release(&d->edit);
}

/* Whose text it is, as far as anybody can say. */
static const struct process_id *writer(const struct document *d)
{
	return d->call->who.tgid ? &d->call->who : &d->opener;
}

/* Whether the writer made the directory for it. */
static bool is_copy(const struct document *d)
{
	_cleanup_view_ struct snapshot *snapshot =
		shown_snapshot(d->mount->shown, d->path->ns, d->path->stream);

	return snapshot &&
	       acts_are_copy(d->mount->acts, writer(d)->tgid, snapshot->object->uid, d->path);
}

/* Whether the file is the image of a tag that has none yet: a copy that was interrupted goes on. */
static bool is_awaited(const struct document *d)
{
	struct layout_attr attr;

	return d->path->kind == KIND_TAG_IMAGE && shown_attr(d->mount->shown, d->path, &attr) < 0;
}

/* Takes over the reference. */
static void base_set(struct base *b, struct object *version)
{
	json_decref(steal_ptr(b->text));
	object_unref(b->version);
	b->version = version;
}

/*
 * A process may have seen it who can't be told: the older of what those were shown and the version
 * at open.
 */
static void find_oldest(struct document *d, struct base *ret)
{
	const struct object *opened = d->opened;

	if (!mergebase_find_oldest(d->mount->bases, d->slot, ret) || !opened)
		return;
	if (rv_compare(opened->resource_version, ret->version->resource_version) < 0)
		base_release(ret);
}

enum seen { SEEN_NOTHING, SEEN_SAVED, SEEN_READ };

/*
 * What the process that saves saw last of the file, or the one that opened it; what the handle
 * itself saved, if that is newer; else the version at open. Returns what it saw: SEEN_SAVED is a
 * text of its own.
 */
static enum seen find_base(struct document *d, const struct object *current, struct base *ret)
{
	struct mergebases *bases = d->mount->bases;
	const struct base *saved = d->saved;
	enum seen seen;

	*ret = (struct base){0};
	if (d->untold)
		find_oldest(d, ret);
	else if (!mergebase_find(bases, &d->call->who, d->slot, ret))
		mergebase_find(bases, &d->opener, d->slot, ret);
	if (saved && saved->version && saved->stamp > ret->stamp) {
		base_release(ret);
		*ret = (struct base){
			object_ref(saved->version), json_incref(saved->text), saved->stamp};
	}
	if (ret->version && !streq(ret->version->uid, current->uid))
		base_release(ret);
	seen = !ret->version ? SEEN_NOTHING : ret->text ? SEEN_SAVED : SEEN_READ;
	if (!ret->version && d->opened && streq(d->opened->uid, current->uid))
		ret->version = object_ref(d->opened);
	return seen;
}

static const char *version_in(const json_t *text)
{
	return json_str(json_object_get(text, "metadata"), "resourceVersion");
}

/*
 * imagestream.*: the resourceVersion in the text names the base, and nothing may have happened
 * since but this mount's saves and what moves by itself.
 */
static int check_version(
	struct document *d, struct object *current, struct base *base, const char *named)
{
	const char *saved = version_in(base->text);

	if (named && !(saved && streq(saved, named))) {
		struct object *version =
			streq(current->resource_version, named)
				? object_ref(current)
				: history_get(d->mount->history, current->key, named);

		if (!version)
			return update_refuse(&d->edit, ESTALE,
				xasprintf("resourceVersion %s is not one that this mount showed in "
					  "the last 10 minutes; the current one is %s; " PUT_BACK,
					named, current->resource_version));
		base_set(base, version);
	}
	if (base->version && !history_is_ours(d->mount->history, current->key,
				     base->version->resource_version, current))
		return update_refuse(&d->edit, ESTALE,
			xasprintf("somebody changed the ImageStream since resourceVersion %s; the "
				  "current one is %s; " PUT_BACK,
				base->version->resource_version, current->resource_version));
	return 0;
}

/*
 * Whether the text is of an object that had the name before, and that its writer read: he doesn't
 * know that the name is another's by now.
 */
static bool is_of_forerunner(struct document *d, const struct object *current)
{
	const json_t *metadata = d->path->kind == KIND_METADATA_JSON
					 ? d->mine
					 : json_object_get(d->mine, "metadata");
	const char *uid = json_str(metadata, "uid");
	_cleanup_base_ struct base base = {0};

	return uid && !streq(uid, current->uid) &&
	       mergebase_find(d->mount->bases, writer(d),
		       layout_ino(uid, d->path->kind, d->path->tag, 0), &base) &&
	       streq(base.version->key, current->key);
}

/* The tag with the `from` of the line. What no line can say stays while it names the same. */
static json_t *with_from(const struct document *d, const json_t *element)
{
	const json_t *old = json_object_get(element, "from");
	json_t *result = element ? json_copy((json_t *)element) : json_object();

	if (!reference_is_same(old, d->mine, d->path->ns))
		json_object_set(result, "from", d->mine);
	return result;
}

/* A status that was written before the last push would take that back. */
static int check_history(struct document *d, const json_t *theirs)
{
	_cleanup_json_ json_t *tag = patch_lost_item(&d->edit.file, theirs, d->meant);

	return !tag ? 0
		    : update_refuse(&d->edit, ESTALE,
			      xasprintf("the text is older than the status: it lacks the newest "
					"image "
					"of tag %s; who means it writes the whole ImageStream to "
					".api/status-replace",
				      json_string_value(tag)));
}

#define WRITE_FROM "a tag's image is what it was given: write what it is to follow to `from`"

/*
 * The server makes it of the tag's `from`. Who didn't make the tag may have meant something else: it
 * isn't lost without a word.
 */
static int leave_image(struct document *d)
{
	_cleanup_free_ char *path = NULL;

	if (!d->awaited)
		return 0;
	if (!memchr(d->text, '@', d->len))
		return update_refuse(&d->edit, EACCES, xstrdup(WRITE_FROM));
	path = namei_text(d->path);
	journal_add(d->mount->journal, path, NULL, 0, ENOTSUP,
		"the image that was copied here isn't sent: the server makes it of `from`");
	return 0;
}

/*
 * A backup of the whole object, laid there by who never saw the object: by its version it would say
 * nothing new, and nothing would be put back.
 */
static int check_backup(struct document *d, struct object *current, const json_t *json,
	const struct base *base, const json_t *parsed)
{
	const struct patch_file *file = &d->edit.file;
	_cleanup_json_ json_t *shown = patch_value(file, parsed);

	if (file->view != PATCH_IMAGESTREAM || !base->version || !version_in(d->mine) ||
		!patch_equal(file, shown, d->meant) || patch_is_background(parsed, json))
		return 0;
	return update_refuse(&d->edit, ESTALE,
		xasprintf("the text is the ImageStream as it was at resourceVersion %s; the "
			  "current one is %s; " PUT_BACK,
			base->version->resource_version, current->resource_version));
}

/* A copy's base is the empty object that mkdir made: it adds and replaces. */
static int merge_copy(struct document *d, const json_t *theirs, json_t **ret_merged)
{
	const struct patch_file *file = &d->edit.file;
	char *error = NULL;
	int r;

	if (d->path->kind == KIND_TAG_IMAGE && json_object_get(theirs, "from"))
		return leave_image(d);
	json_decref(d->meant);
	d->meant = d->path->kind == KIND_TAG_FROM || d->path->kind == KIND_TAG_IMAGE
			   ? with_from(d, theirs)
			   : patch_copy(file, theirs, d->mine);
	r = patch_check(file, theirs, d->meant, &error);
	if (r < 0)
		return update_refuse(&d->edit, -r, error);
	json_decref(steal_ptr(d->conflicts));
	r = patch_merge3(file, theirs, theirs, d->meant, ret_merged, &d->conflicts);
	if (r < 0)
		return update_refuse(&d->edit, -r, xstrdup("the text doesn't fit the object"));
	return patch_equal(file, theirs, *ret_merged) ? 0 : 1;
}

/* update_decide: the text's changes from its base, on top of the current object. */
static int merge(struct update *e, struct object *current, const json_t *json, json_t **ret_merged)
{
	struct document *d = e->arg;
	_cleanup_base_ struct base base = {0};
	_cleanup_json_ json_t *theirs = patch_value(&e->file, json), *shown = NULL, *parsed = NULL;
	enum seen seen = find_base(d, current, &base);
	bool foreign = (seen != SEEN_READ || e->own.renamed) && !is_of_forerunner(d, current);
	enum patch_text whose = d->path->kind == KIND_TAG_FROM
					? PATCH_TEXT_OWN
					: patch_text(&e->file, theirs, d->mine, foreign);
	char *error = NULL;
	int r;

	if (d->copy)
		return merge_copy(d, theirs, ret_merged);
	if (e->file.view == PATCH_IMAGESTREAM) {
		r = check_version(
			d, current, &base, whose == PATCH_TEXT_OWN ? version_in(d->mine) : NULL);
		if (r < 0)
			return r;
	}
	parsed = base.version && base.version != current ? update_parse(e, base.version)
							 : json_incref((json_t *)json);
	shown = patch_value(&e->file, parsed);
	json_decref(d->meant);
	d->meant = d->path->kind == KIND_TAG_FROM ? with_from(d, base.text ? base.text : shown)
						  : patch_adopt(&e->file, whose, shown, d->mine);
	if (seen == SEEN_NOTHING)
		patch_settle_history(&e->file, theirs, d->meant);
	r = patch_check(&e->file, shown, d->meant, &error);
	if (r < 0)
		return update_refuse(e, -r, error);
	r = seen == SEEN_NOTHING ? check_history(d, theirs) : 0;
	if (r == 0 && seen == SEEN_NOTHING && whose == PATCH_TEXT_OWN)
		r = check_backup(d, current, json, &base, parsed);
	if (r < 0)
		return r;
	json_decref(steal_ptr(d->conflicts));
	r = patch_merge3(&e->file, base.text ? base.text : shown, theirs, d->meant, ret_merged,
		&d->conflicts);
	if (r < 0)
		return update_refuse(e, -r,
			xstrdup(d->conflicts ? "somebody changed the same thing meanwhile"
					     : "the text doesn't fit the current object"));
	if (!*ret_merged && !theirs)
		return 0;
	if (patch_equal(&e->file, theirs, *ret_merged))
		return 0;
	if (whose == PATCH_TEXT_FOREIGN && !d->mount->dry_run)
		deleted_keep(d->mount->deleted, writer(d), current);
	return 1;
}

bool save_is_whole(const struct place *path, const char *text, size_t len)
{
	_cleanup_json_ json_t *json = NULL;

	if (path->kind == KIND_TAG_FROM || path->kind == KIND_TAG_IMAGE)
		return len && memchr(text, '\n', len) == text + len - 1;
	if (path->kind != KIND_IMAGESTREAM_YAML)
		json = json_read_or_null(text, len, JSON_ALLOW_NUL);
	return json;
}

/* ---- images in the cluster's own registry ---- */

static json_t *find_stream(struct document *d, const char *ns, const char *name, int *ret_error)
{
	_cleanup_free_ char *key = xasprintf("%s/%s", ns, name);
	_cleanup_object_ struct object *held = store_get(d->mount->store, key);
	_cleanup_free_ char *path = NULL;
	_cleanup_status_ struct status status = {0};
	json_t *json = NULL;

	*ret_error = 0;
	if (held)
		return object_parse(held);
	path = api_stream_path(d->mount->api, ns, name);
	*ret_error = api_send(
		d->mount->api, &d->call->api, &(struct api_request){.path = path}, &json, &status);
	return json;
}

static bool has_image(const json_t *stream, const char *digest)
{
	const json_t *tag, *item;
	size_t i, k;

	json_array_foreach(json_object_get(json_object_get(stream, "status"), "tags"), i, tag) {
		json_array_foreach(json_object_get(tag, "items"), k, item) {
			const char *image = json_str(item, "image");

			if (image && streq(image, digest))
				return true;
		}
	}
	return false;
}

/* Whether the registry is the one that the stream's own images are in. */
static bool is_own_registry(struct document *d, const char *registry)
{
	int error;
	_cleanup_json_ json_t *stream = find_stream(d, d->path->ns, d->path->stream, &error);
	const json_t *status = json_object_get(stream, "status");

	return reference_is_in(json_str(status, "dockerImageRepository"), registry) ||
	       reference_is_in(json_str(status, "publicDockerImageRepository"), registry);
}

/*
 * A reference to an image in this cluster's own registry, as `image` shows it, becomes that very
 * image of that stream. Who may not read the stream may be allowed to pull from it: then the server
 * decides.
 */
static int find_own_image(struct document *d)
{
	const char *name = json_str(d->mine, "name"), *kind = json_str(d->mine, "kind");
	_cleanup_reference_ struct reference r = {0};
	_cleanup_json_ json_t *stream = NULL;
	_cleanup_free_ char *image = NULL;
	int error = -ENOENT;

	if (!streq(kind, "DockerImage") || !reference_split(name, &r))
		return 0;
	if (is_own_registry(d, r.registry))
		stream = find_stream(d, r.ns, r.stream, &error);
	if (error == -EACCES || has_image(stream, r.digest)) {
		image = xasprintf("%s@%s", r.stream, r.digest);
		json_decref(d->mine);
		d->mine = json_pack("{s:s, s:s*, s:s}", "kind", "ImageStreamImage", "namespace",
			streq(r.ns, d->path->ns) ? NULL : r.ns, "name", image);
		return 0;
	}
	if (error < 0 && error != -ENOENT)
		return update_refuse(&d->edit, -error,
			xasprintf("%s/%s couldn't be looked at: %s", r.ns, r.stream,
				strerror(-error)));
	if (!reference_is_internal(r.registry))
		return 0;
	d->lost = d->copy && d->path->kind == KIND_TAG_IMAGE;
	if (d->lost && update_may_patch_status(&d->edit))
		return 0;
	return update_refuse(&d->edit, EINVAL,
		xasprintf("%s is in a cluster's internal registry, and %s/%s here has no such "
			  "image: it "
			  "is another cluster's, or its ImageStream is gone",
			name, r.ns, r.stream));
}

/* ---- the text ---- */

/* The version that has the text for what the file shows of it, or NULL. The caller releases it. */
static struct snapshot *find_shown(const struct document *d)
{
	_cleanup_view_ struct snapshot *snapshot = shown_snapshot_at(d->mount->shown, d->path);
	_cleanup_buf_ struct buf bytes = BUF_INIT(ATTR_MAX);
	size_t len = d->len;

	while (len && (d->text[len - 1] == '\n' || d->text[len - 1] == '\r'))
		len--;
	if (snapshot && snapshot_show(snapshot, d->path->kind, d->path->tag, &bytes) == 0 &&
		len + 1 == bytes.len && memcmp(d->text, bytes.data, len) == 0)
		return steal_ptr(snapshot);
	return NULL;
}

/* What the file shows is what the tag follows already, whatever that is and wherever it lies. */
static int parse_line(struct document *d)
{
	_cleanup_view_ struct snapshot *snapshot =
		d->path->kind == KIND_TAG_FROM ? find_shown(d) : NULL;
	_cleanup_json_ json_t *json = NULL, *element = NULL;
	_cleanup_free_ char *why = NULL;

	if (snapshot) {
		json = update_parse(&d->edit, snapshot->object);
		element = patch_value(&d->edit.file, json);
		d->mine = json_incref(json_object_get(element, "from"));
		return 0;
	}
	if (reference_parse(d->text, d->len, &d->mine, &why) < 0)
		return update_refuse(&d->edit, EINVAL, steal_ptr(why));
	return find_own_image(d);
}

static int parse_yaml(struct document *d)
{
	_cleanup_free_ char *error = NULL;

	if (yaml_parse(d->text, d->len, &d->mine, &error) < 0)
		return update_refuse(&d->edit, EINVAL, xasprintf("not YAML: %s", error));
	if (!json_is_object(d->mine))
		return update_refuse(&d->edit, EINVAL, xstrdup("not a YAML mapping"));
	return 0;
}

static int parse(struct document *d)
{
	_cleanup_free_ char *why = NULL;

	if (d->path->kind == KIND_IMAGESTREAM_YAML)
		return parse_yaml(d);
	if (d->path->kind == KIND_TAG_FROM || d->path->kind == KIND_TAG_IMAGE)
		return parse_line(d);
	if (json_read(d->text, d->len, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &d->mine, &why) < 0)
		return update_refuse(&d->edit, EINVAL, xasprintf("not JSON: %s", why));
	if (!json_is_object(d->mine))
		return update_refuse(&d->edit, EINVAL, xstrdup("not a JSON object"));
	return 0;
}

/* ---- the reason ---- */

static void add_line(struct buf *out, const char *text)
{
	_cleanup_free_ char *line = str_shorten(text, LINE_MAX_LEN);

	for (char *p = line; *p; p++)
		if (*p == '\n')
			*p = ' ';
	buf_addf(out, "%s\n", line);
}

static void add_causes(const struct status *status, struct buf *out)
{
	const json_t *causes = json_object_get(json_object_get(status->body, "details"), "causes");
	const json_t *cause;
	size_t i;

	json_array_foreach(causes, i, cause) {
		const char *field = json_str(cause, "field"), *reason = json_str(cause, "reason");
		const char *message = json_str(cause, "message");
		_cleanup_free_ char *sentence = message ? status_sentence(message) : xstrdup("-");
		_cleanup_free_ char *line = xasprintf(
			"%s: %s: %s", field ? field : "-", reason ? reason : "-", sentence);

		add_line(out, line);
	}
}

static void refuse(struct document *d)
{
	_cleanup_buf_ struct buf reason = BUF_INIT(REASON_MAX);
	_cleanup_free_ char *path = namei_text(d->path);
	const struct status *status = &d->edit.status;
	uint64_t dir = namei_parent(d->mount, d->path);

	add_line(&reason,
		status->message && *status->message ? status->message : strerror(status->error));
	add_causes(status, &reason);
	if (d->conflicts)
		patch_conflict_text(d->conflicts, &reason);
	rejects_keep(d->mount->rejects, dir, d->path, d->text, d->len, &reason);
	rejects_note(d->mount->rejects, dir, d->path, writer(d));
	kernel_inval_ino(d->mount->kernel, dir);
	journal_add(d->mount->journal, path, d->edit.request, status->code, status->error,
		status->message);
	log_notice("%s wasn't saved: %s", path,
		status->message ? status->message : strerror(status->error));
}

/* ---- one document ---- */

static int document_init(struct document *d, struct mount *m, const struct save_call *call,
	const struct place *path, const char *uid)
{
	size_t len = 0;

	d->mount = m;
	d->call = call;
	d->path = path;
	d->edit = (struct update){.mount = m,
		.call = &call->api,
		.ns = path->ns,
		.stream = path->stream,
		.uid = uid,
		.file = {.view = layout[path->kind].view},
		.as_tag = path->kind == KIND_TAG_FROM || path->kind == KIND_TAG_IMAGE,
		.decide = merge,
		.arg = d,
		.own = {.file = call->closed ? NULL : path}};
	if (path->kind < KIND_TAG)
		return 0;
	if (layout_unescape(path->tag, d->raw, &len) < 0)
		return update_refuse(&d->edit, EINVAL, xstrdup("no tag can have that name"));
	d->edit.file.tag = d->raw;
	d->edit.file.tag_len = len;
	return 0;
}

/* The image that a tag shows is the server's to say: the text may be that, and nothing else. */
static int check_image(struct document *d)
{
	_cleanup_view_ struct snapshot *snapshot = find_shown(d);
	struct layout_attr attr;

	if (snapshot)
		return 0;
	if (shown_attr(d->mount->shown, d->path, &attr) < 0)
		return update_refuse(&d->edit, ESTALE, xstrdup("the tag has no image any more"));
	return update_refuse(&d->edit, EACCES, xstrdup(WRITE_FROM));
}

/* Whether every image of the history is in the stream. */
static bool has_images(const json_t *stream, const json_t *history)
{
	const json_t *item;
	size_t i;

	json_array_foreach(json_object_get(history, "items"), i, item) {
		const char *image = json_str(item, "image");

		if (image && *image && !has_image(stream, image))
			return false;
	}
	return true;
}

/* The status of a copy is the server's to make. What it won't have is kept. */
static int drop_status(struct document *d)
{
	int error;
	_cleanup_json_ json_t *stream = find_stream(d, d->path->ns, d->path->stream, &error);
	const json_t *history;
	bool whole = has_images(stream, d->mine);
	size_t i;

	json_array_foreach(json_object_get(d->mine, "tags"), i, history)
		whole = whole && has_images(stream, history);
	if (!whole)
		deleted_drop(d->mount->deleted, d->path, d->text, d->len);
	return 0;
}

/* update_decide: the image goes where a push would have put it. */
static int add_image(
	struct update *e, struct object *current, const json_t *json, json_t **ret_merged)
{
	struct document *d = e->arg;
	_cleanup_json_ json_t *history = patch_value(&e->file, json), *items = json_array();
	_cleanup_json_ json_t *stream = object_cache_get(d->mount->cache, current);
	const char *name = json_str(d->mine, "name"), *digest = strchr(name, '@') + 1;
	char now[RFC3339_SIZE];
	json_t *merged;

	if (has_image(stream, digest))
		return 0;
	rfc3339_format(now_realtime() / NSEC_PER_SEC * NSEC_PER_SEC, now);
	json_array_append_new(
		items, json_pack("{s:s, s:s, s:s, s:O*}", "created", now, "dockerImageReference",
			       name, "image", digest, "generation",
			       json_object_get(json_object_get(json, "metadata"), "generation")));
	json_array_extend(items, json_object_get(history, "items"));
	merged = history ? json_copy(history) : json_object();
	json_object_set(merged, "items", items);
	*ret_merged = merged;
	return 1;
}

static bool has_from(struct document *d)
{
	int error;
	_cleanup_json_ json_t *stream = find_stream(d, d->path->ns, d->path->stream, &error);
	struct attr_tag tag = attr_find_tag(stream, d->edit.file.tag, d->edit.file.tag_len);

	return json_object_size(json_object_get(tag.spec, "from")) > 0;
}

/* What the text comes to: something that is sent, or nothing. */
static int carry_out(struct document *d)
{
	bool image = d->path->kind == KIND_TAG_IMAGE;
	int r;

	if (image && !d->copy)
		return check_image(d);
	if (image && has_from(d))
		return leave_image(d);
	r = parse(d);
	if (r < 0)
		return r;
	if (d->copy && !image && layout_takes_equal(d->path->kind))
		return drop_status(d);
	if (image && !d->lost)
		d->edit.file.view = PATCH_TAG_SPEC;
	if (d->lost)
		d->edit.decide = add_image;
	return update_run(&d->edit);
}

/* Whether what stands beside the file of an earlier save is over. */
static bool ends_refusal(const struct document *d, uint64_t dir)
{
	struct rejects *r = d->mount->rejects;

	return d->edit.sent || rejects_holds(r, dir, d->path, d->text, d->len) ||
	       !rejects_is_fresh(r, dir, d->path, writer(d));
}

/* 0 or -errno; what is refused is kept. */
static int save(struct document *d)
{
	uint64_t dir = namei_parent(d->mount, d->path);
	int r;

	d->copy = is_copy(d);
	d->awaited = !d->copy && is_awaited(d);
	d->copy = d->copy || d->awaited;
	r = carry_out(d);
	update_end(&d->edit, r);
	if (r < 0) {
		refuse(d);
		return r;
	}
	if (ends_refusal(d, dir) && rejects_clear(d->mount->rejects, dir, d->path))
		kernel_inval_ino(d->mount->kernel, dir);
	if (!d->edit.result)
		return 0;
	d->stamp = mergebase_saved(
		d->mount->bases, writer(d), d->slot, d->meant ? d->meant : d->mine, d->edit.result);
	/* A rename holds the tag's directory: what comes or goes there with it waits for its end. */
	if (!d->edit.own.renamed || d->path->kind < KIND_TAG)
		publish_wait(d->mount->publisher, d->edit.result->key, PUBLISH_SHOWN, NULL,
			now_monotonic() + PUBLISH_WAIT_NS);
	return 0;
}

/*
 * A file that the object didn't have: from now on the place is there, and the inode stands for it.
 */
static void settle_pending(struct mount *m, const struct handle_state *state)
{
	struct layout_attr attr;

	if (state->first ||
		!inode_is_pending(m->inodes, state->ino, namei_parent(m, &state->path)) ||
		shown_attr(m->shown, &state->path, &attr) < 0)
		return;
	inode_show(m->inodes, attr.ino, state->ino, &state->path);
}

/* 0 while the handle's inode still stands for its place; else it is refused. */
static int check_current(struct document *d, const struct handle_state *state)
{
	struct mount *m = d->mount;
	struct place stream = state->path;
	struct layout_attr attr;
	bool current;

	stream.kind = KIND_STREAM;
	if (shown_attr(m->shown, &stream, &attr) < 0)
		return update_refuse(&d->edit, ESTALE, xstrdup("the ImageStream is gone"));
	if (!state->first) /* what was begun in a tag that is gone isn't begun in its next one */
		current = inode_is_pending(m->inodes, state->ino, namei_parent(m, &state->path));
	else
		current = inode_at(m->inodes, state->first, NULL) == state->ino;
	if (!current)
		return update_refuse(&d->edit, ESTALE, xstrdup("another file has taken the name"));
	/* What only lacks the file is for the merge to say. */
	if (state->first && shown_attr(m->shown, &state->path, &attr) == 0 &&
		attr.ino != state->first)
		return update_refuse(
			&d->edit, ESTALE, xstrdup("the file went and came back: open it again"));
	return 0;
}

static bool is_ending(const struct save_call *call)
{
	return call->api.check && call->api.check->fn(call->api.check->arg) == -ESHUTDOWN;
}

int save_handle(struct mount *m, const struct save_call *call, struct handle *f)
{
	_cleanup_handle_state_ struct handle_state state = {0};
	struct document __attribute__((cleanup(document_release))) d = {0};
	_cleanup_free_ char *text = NULL;
	uint64_t change;
	size_t len;
	int verdict = 0, r;

	if (is_ending(call))
		return -ESHUTDOWN;
	handle_get_state(m->inodes, f, &state);
	if (state.scratch || !state.draft)
		return 0;
	switch (draft_take(state.draft, &verdict, &text, &len, &change)) {
	case DRAFT_CLEAN:
		return 0;
	case DRAFT_DECIDED:
		return -verdict;
	case DRAFT_WRITTEN:
		break;
	}
	d.text = text;
	d.len = len;
	d.opened = state.opened;
	d.saved = &state.saved;
	d.opener = *handle_opener(f);
	d.untold = !d.opener.tgid;
	d.slot = state.slot;
	r = document_init(&d, m, call, &state.path, state.opened->uid);
	if (r == 0)
		r = check_current(&d, &state);
	if (r < 0) {
		refuse(&d);
	} else {
		r = save(&d);
	}
	if (r == 0)
		settle_pending(m, &state);
	if (r == 0 && d.edit.result) {
		struct base saved = {d.edit.result, d.meant ? d.meant : d.mine, d.stamp};

		handle_set_saved(m->inodes, f, &saved);
	}
	r = verdict_errno(VERDICT_CLOSE, r);
	draft_decide(state.draft, change, -r);
	kernel_inval_ino(m->kernel, state.ino); /* what it made of the writes */
	return r;
}

void save_refuse_handle(struct mount *m, struct handle *f, int error, const char *why)
{
	_cleanup_handle_state_ struct handle_state state;
	struct save_call call = {0};
	struct document __attribute__((cleanup(document_release))) d = {0};
	_cleanup_free_ char *text = NULL;
	uint64_t change;
	size_t len;
	int verdict;

	handle_get_state(m->inodes, f, &state);
	if (state.scratch || !state.draft ||
		draft_take(state.draft, &verdict, &text, &len, &change) != DRAFT_WRITTEN)
		return;
	document_init(&d, m, &call, &state.path, NULL);
	d.text = text;
	d.len = len;
	update_refuse(&d.edit, error, xstrdup(why));
	refuse(&d);
	draft_decide(state.draft, change, error);
}

/* Whether the version that the save made has the file. */
static bool shows_file(struct document *d)
{
	_cleanup_json_ json_t *json = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT(ATTR_MAX);
	struct attr_tag tag = {0};

	if (!d->edit.result || d->path->kind < KIND_TAG)
		return true;
	json = update_parse(&d->edit, d->edit.result);
	tag = attr_find_tag(json, d->edit.file.tag, d->edit.file.tag_len);
	return layout_show(d->path->kind, json, &tag, &bytes) == 0;
}

int save_scratch(struct mount *m, const struct save_call *call, struct inode *n,
	const struct place *path, uint64_t *ret_first)
{
	_cleanup_view_ struct snapshot *snapshot = shown_snapshot(m->shown, path->ns, path->stream);
	struct document __attribute__((cleanup(document_release))) d = {0};
	_cleanup_free_ char *text = NULL;
	struct layout_attr attr;
	size_t len;
	int r;

	if (!snapshot)
		return -ENOENT;
	text = scratch_read(m->inodes, n, 0, SCRATCH_FILE_MAX, &len);
	d.text = text;
	d.len = len;
	d.opened = scratch_version(n);
	d.untold = !call->who.tgid;
	d.slot = layout_ino(snapshot->object->uid, path->kind, path->tag, 0);
	r = document_init(&d, m, call, path, snapshot->object->uid);
	if (r < 0) {
		refuse(&d);
		return r;
	}
	d.edit.own.renamed = true;
	r = save(&d);
	/* What goes by it may be shown for a moment still: the announcer waits for this call. */
	if (r == 0)
		*ret_first =
			shown_attr(m->shown, path, &attr) == 0 && shows_file(&d) ? attr.ino : 0;
	return r;
}

static void keep(
	struct mount *m, const struct place *path, const char *text, size_t len, const char *why)
{
	_cleanup_buf_ struct buf reason = BUF_INIT(REASON_MAX);

	add_line(&reason, why);
	rejects_keep(m->rejects, 0, path, text, len, &reason);
}

static void keep_unsaved(void *arg, const struct handle_state *state, const char *text, size_t len)
{
	keep(arg, &state->path, text, len, "imagestreamfs ended before this was saved");
}

void save_keep_unsaved(struct mount *m)
{
	handle_foreach_unsaved(m->inodes, 0, keep_unsaved, m);
}

void save_keep_handle(struct mount *m, struct handle *f)
{
	_cleanup_handle_state_ struct handle_state state;
	_cleanup_free_ char *text = NULL;
	uint64_t change;
	size_t len;
	int verdict;

	handle_get_state(m->inodes, f, &state);
	if (!state.scratch && state.draft &&
		draft_take(state.draft, &verdict, &text, &len, &change) == DRAFT_WRITTEN)
		keep_unsaved(m, &state, text, len);
}

struct older {
	struct mount *mount;
	bool may_wait, several;
	struct place path;
	char *text; /* the newest so far */
	size_t len;
};

static void keep_older(void *arg, const struct handle_state *state, const char *text, size_t len)
{
	struct older *o = arg;

	o->several = o->text;
	if (o->text && o->may_wait)
		keep(o->mount, &o->path, o->text, o->len,
			"the file was renamed or removed before this was saved");
	free(o->text);
	o->path = state->path;
	o->text = xmalloc(len + 1);
	memcpy(o->text, text, len);
	o->len = len;
}

int save_keep_older(
	struct mount *m, uint64_t ino, bool may_wait, char **ret_newest, size_t *ret_len)
{
	struct older o = {.mount = m, .may_wait = may_wait};

	handle_foreach_unsaved(m->inodes, ino, keep_older, &o);
	if (o.several && !may_wait) {
		free(o.text);
		return -EAGAIN;
	}
	*ret_newest = o.text;
	*ret_len = o.len;
	return 0;
}
