#include "client/intake.h"

#include "client/clock.h"
#include "client/json.h"

#include <errno.h>

#define CHECK_EACH  4096  /* items of a page between two looks at whether to go on */
#define UNNAMED_MAX 10000 /* items of a page that nobody can name: then it is none */

void taken_release(struct taken *t)
{
	free(t->more);
	free(t->version);
	free(t->name);
	free(t->why);
	*t = (struct taken){0};
}

void event_release(struct event *e)
{
	taken_release(&e->taken);
	status_release(&e->status);
}

static void set_string(char **field, const char *value)
{
	free(*field);
	*field = value && *value ? xstrdup(value) : NULL;
}

/* ---- one object ---- */

static int put_namespace(
	const struct intake *in, const char *text, size_t len, char **ret_name, char **ret_why)
{
	_cleanup_json_ json_t *json = NULL;
	const json_t *metadata;
	const char *created;
	int64_t time = 0;
	int r = json_read(text, len, JSON_ALLOW_NUL | JSON_DECODE_ANY, &json, ret_why);

	metadata = json_object_get(json, "metadata");
	if (r == 0)
		r = object_check_namespace(metadata, ret_why);
	if (r < 0)
		return r;
	created = json_str(metadata, "creationTimestamp");
	if (created)
		rfc3339_parse(created, &time);
	r = store_put_namespace(
		in->store, json_str(metadata, "name"), json_str(metadata, "uid"), time, in->list);
	if (r == -EEXIST)
		*ret_why = xasprintf(
			"%.64s: another namespace has its uid", json_str(metadata, "name"));
	else if (ret_name)
		set_string(ret_name, json_str(metadata, "name"));
	return r;
}

/* What names an object and its version, as far as that can be seen without parsing. */
struct identity {
	char key[2 * OBJECT_NAME_MAX + 2]; /* NAMESPACE/NAME */
	char version[OBJECT_VERSION_MAX + 1];
};

static bool cut_text(const struct piece *object, const char *name, char *ret, size_t size)
{
	struct piece value;

	return cut_find(object->p, object->len, name, &value) && cut_plain(&value, ret, size);
}

/* False where the whole text has to be read to know. */
static bool cut_identity(const char *text, size_t len, struct identity *ret)
{
	char name[OBJECT_NAME_MAX + 1];
	struct piece metadata;

	if (!cut_find(text, len, "metadata", &metadata) ||
		!cut_text(&metadata, "namespace", ret->key, OBJECT_NAME_MAX + 1) ||
		!cut_text(&metadata, "name", name, sizeof(name)) ||
		!cut_text(&metadata, "resourceVersion", ret->version, sizeof(ret->version)))
		return false;
	strcat(strcat(ret->key, "/"), name);
	return true;
}

/*
 * The list has the stream, though not in a form that can be taken in: it isn't gone. False: which
 * one?
 */
static bool note_left_out(const struct intake *in, const char *text, size_t len)
{
	struct identity id;

	if (!cut_identity(text, len, &id))
		return false;
	store_saw(in->store, id.key, in->list);
	return true;
}

/* The echo of what we saved ourselves is no news. */
static bool is_held(const struct intake *in, const char *text, size_t len, char **ret_version)
{
	struct identity id;

	if (in->list || !cut_identity(text, len, &id) ||
		!store_holds(in->store, id.key, id.version, true))
		return false;
	set_string(ret_version, id.version);
	return true;
}

/* The same of a text that may be cut off. */
static bool seems_held(const struct intake *in, const char *text, size_t len)
{
	struct identity id;

	return cut_identity(text, len, &id) && store_holds(in->store, id.key, id.version, false);
}

/* Takes the reference over. As store_put, and why. */
static int put_object(const struct intake *in, struct object *o, char **ret_version, char **ret_why)
{
	_cleanup_object_ struct object *told = object_ref(o);
	int r;

	if (ret_version)
		set_string(ret_version, o->resource_version);
	r = store_put(in->store, o, in->list);
	if (r == -EEXIST)
		*ret_why = xasprintf("%.64s: another object has its uid", told->key);
	return r;
}

/* 1 where the list had nothing of that key before; 0; or a negative errno and why. */
static int put_stream(
	const struct intake *in, const char *text, size_t len, char **ret_version, char **ret_why)
{
	struct object *o;
	int r;

	if (is_held(in, text, len, ret_version))
		return 0;
	r = object_from_text(text, len, in->api->resources->streams.api_version, &o, ret_why);
	return r < 0 ? r : put_object(in, o, ret_version, ret_why);
}

/* `ret_what` (NULL: it isn't wanted): a stream's version, a namespace's name. */
static int put(
	const struct intake *in, const char *text, size_t len, char **ret_what, char **ret_why)
{
	return in->kind == INTAKE_NAMESPACES ? put_namespace(in, text, len, ret_what, ret_why)
					     : put_stream(in, text, len, ret_what, ret_why);
}

int intake_object(const struct intake *in, const char *text, size_t len, struct taken *ret)
{
	bool ns = in->kind == INTAKE_NAMESPACES;
	int r = put(in, text, len, ns ? &ret->name : &ret->version, &ret->why);

	return r < 0 ? r : 0;
}

/* ---- a page ---- */

int intake_page_head(const char *body, size_t len, struct taken *ret)
{
	_cleanup_json_ json_t *metadata = NULL;
	int r = list_open(body, len, &ret->list);

	if (r == 0 && ret->list.metadata.p) {
		metadata = list_metadata(&ret->list);
		r = json_is_object(metadata) || json_is_null(metadata) ? 0 : -EBADMSG;
	}
	if (r < 0) {
		set_string(&ret->why, "the answer is no list");
		return -EBADMSG;
	}
	set_string(&ret->more, json_str(metadata, "continue"));
	set_string(&ret->version, json_str(metadata, "resourceVersion"));
	return 0;
}

static void note_failure(
	const struct intake *in, const struct piece *item, int error, char *why, struct taken *page)
{
	page->left_out++;
	page->unnamed += in->kind == INTAKE_NAMESPACES || !note_left_out(in, item->p, item->len);
	page->mangled = page->mangled || error == -EBADMSG;
	if (page->why)
		free(why);
	else
		page->why = why;
}

/* The item that comes next, whose end is looked for only where it isn't plain. 0 or -EBADMSG. */
static int put_item(const struct intake *in, struct scan *scan, struct taken *page)
{
	struct piece item = list_rest(&page->list);
	struct object *o = NULL;
	char *why = NULL;
	int r;

	if (in->kind == INTAKE_STREAMS)
		o = object_from_plain(
			scan, item.p, item.len, in->api->resources->streams.api_version, &item.len);
	if (o)
		list_skip(&page->list, item.len);
	else if (list_take(&page->list, &item) < 0)
		return -EBADMSG;
	r = o ? put_object(in, o, NULL, &why) : put(in, item.p, item.len, NULL, &why);
	page->items++;
	page->news += r > 0;
	if (r < 0)
		note_failure(in, &item, r, why, page);
	return 0;
}

int intake_page(const struct intake *in, struct taken *page)
{
	_cleanup_scan_ struct scan scan = SCAN_INIT;
	int r;

	while ((r = list_next(&page->list)) > 0 && (r = put_item(in, &scan, page)) == 0) {
		if (page->items % CHECK_EACH == 0 && in->check)
			r = in->check(in->arg);
		if (r == 0 && page->unnamed > UNNAMED_MAX)
			r = -EBADMSG;
		if (r < 0)
			break;
	}
	return r;
}

/* ---- a watch ---- */

static void take_deleted(const struct intake *in, const json_t *metadata, struct event *ret)
{
	const char *ns = json_str(metadata, "namespace"), *name = json_str(metadata, "name");

	set_string(&ret->taken.name, name);
	if (in->kind == INTAKE_STREAMS && ns && name) {
		_cleanup_free_ char *key = xasprintf("%s/%s", ns, name);

		store_delete(in->store, key, json_str(metadata, "resourceVersion"));
	}
}

/* What an event that brings no object says. */
static int take_notice(const struct intake *in, const struct piece *text, struct event *ret)
{
	_cleanup_json_ json_t *object = NULL;
	const json_t *metadata;
	int r = json_read(text->p, text->len, JSON_ALLOW_NUL | JSON_DECODE_ANY, &object, NULL);

	metadata = json_object_get(object, "metadata");
	if (ret->type == INTAKE_ERROR) { /* it is one, whatever it says */
		status_from_json(500, object ? object : json_null(), &ret->status);
		return 0;
	}
	if (r < 0 || !json_is_object(object))
		return -EBADMSG;
	if (ret->type == INTAKE_DELETED)
		take_deleted(in, metadata, ret);
	set_string(&ret->taken.version, json_str(metadata, "resourceVersion"));
	return 0;
}

/* An object that isn't JSON is a broken watch; one that can't be kept is left out. */
static int take_object(const struct intake *in, const struct piece *text, struct event *ret)
{
	int r = intake_object(in, text->p, text->len, &ret->taken);

	return r == -EBADMSG ? r : 0;
}

static int event_type(const struct piece *type, enum intake_event *ret)
{
	static const struct {
		const char *name;
		enum intake_event type;
	} names[] = {{"ADDED", INTAKE_OBJECT}, {"MODIFIED", INTAKE_OBJECT},
		{"DELETED", INTAKE_DELETED}, {"BOOKMARK", INTAKE_BOOKMARK},
		{"ERROR", INTAKE_ERROR}};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (type->p && cut_is(type, names[i].name)) {
			*ret = names[i].type;
			return 0;
		}
	}
	return -EBADMSG;
}

/* What an event's line holds. */
struct line {
	struct piece type, object;
	struct object *plain; /* the object, where it could be taken as it stands */
};

static void line_release(struct line *l)
{
	object_unref(l->plain);
}

static bool brings_object(const struct piece *type)
{
	enum intake_event what;

	return type->p && event_type(type, &what) == 0 && what == INTAKE_OBJECT;
}

/*
 * The object of an event: most streams are plain, and are read where they stand, without looking for
 * their end first.
 */
static int read_object(const struct intake *in, struct cut *c, struct line *ret)
{
	struct piece rest = {c->p, c->end - c->p};
	_cleanup_scan_ struct scan scan = SCAN_INIT;

	object_unref(steal_ptr(ret->plain)); /* of two the last one counts */
	if (in->kind == INTAKE_STREAMS && brings_object(&ret->type) &&
		!seems_held(in, rest.p, rest.len))
		ret->plain = object_from_plain(&scan, rest.p, rest.len,
			in->api->resources->streams.api_version, &rest.len);
	if (!ret->plain)
		return cut_value(c, &ret->object);
	c->p += rest.len;
	ret->object = rest;
	return 0;
}

static int read_line(const struct intake *in, const char *text, size_t len, struct line *ret)
{
	struct cut c = CUT_INIT(text, len);
	struct piece key, value;
	int r = cut_enter(&c, '{');

	while (r == 0 && (r = cut_next(&c, '}')) > 0) {
		r = cut_key(&c, &key);
		if (r == 0 && cut_is(&key, "object"))
			r = read_object(in, &c, ret);
		else if (r == 0)
			r = cut_value(&c, &value);
		if (r == 0 && cut_is(&key, "type"))
			ret->type = value;
	}
	return r;
}

int intake_event(const struct intake *in, const char *text, size_t len, struct event *ret)
{
	_cleanup_(line_release) struct line line = {0};
	int r = read_line(in, text, len, &line);

	if (r == 0)
		r = event_type(&line.type, &ret->type);
	if (r < 0 || (!line.object.p && ret->type != INTAKE_ERROR))
		return -EBADMSG;
	if (line.plain && ret->type == INTAKE_OBJECT) {
		put_object(in, steal_ptr(line.plain), &ret->taken.version, &ret->taken.why);
		return 0;
	}
	return ret->type == INTAKE_OBJECT ? take_object(in, &line.object, ret)
					  : take_notice(in, &line.object, ret);
}
