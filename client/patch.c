#include "client/patch.h"

#include "client/json.h"
#include "client/manifest.h"

#include <errno.h>

#define VALUE_MAX 1024

enum kind {
	PLAIN,	/* a map by key, anything else one value */
	ATOM,	/* one value */
	KEYED,	/* a list of objects by `key` */
	SET,	/* a list of strings in any order */
	SERVER, /* counted by the server: never compared, stays as it is */
	IMPORT, /* the same, but for a written 0 */
};

struct type {
	enum kind kind;
	const struct field *fields;  /* PLAIN: up to a name of NULL; what isn't here is PLAIN */
	bool others_refused;	     /* PLAIN: the rest is as if it had .refused = EINVAL */
	const char *const *together; /* PLAIN: members that are one value, up to NULL */
	const char *key;	     /* KEYED */
	const struct type *element;  /* KEYED */
	bool unique;		     /* KEYED: patch_check insists on one element a key */
};

struct field {
	const char *name;
	const struct type *type;
	int refused; /* the errno of an edit, 0 where it can be changed */
};

static const struct type plain = {.kind = PLAIN};
static const struct type atom = {.kind = ATOM};
static const struct type set = {.kind = SET};
static const struct type server = {.kind = SERVER};
static const struct type import_type = {.kind = IMPORT};

static const char *const reference[] = {"from", "reference", NULL};
static const struct field tag_fields[] = {
	{"from", &atom, 0},
	{"generation", &import_type, 0},
	{NULL},
};
static const struct type tag = {.fields = tag_fields, .together = reference};
static const struct type tags = {.kind = KEYED, .key = "name", .element = &tag, .unique = true};
static const struct field spec_fields[] = {
	{"tags", &tags, 0},
	{"generation", &server, 0},
	{NULL},
};
static const struct type spec = {.fields = spec_fields};

static const struct field history_fields[] = {
	{"items", &atom, 0},
	{"conditions", &atom, 0},
	{NULL},
};
static const struct type history = {.fields = history_fields};
static const struct type histories = {
	.kind = KEYED, .key = "tag", .element = &history, .unique = true};
static const struct field status_fields[] = {{"tags", &histories, 0}, {NULL}};
static const struct type status = {.fields = status_fields, .others_refused = true};

static const struct type owners = {.kind = KEYED, .key = "uid", .element = &plain};

static const struct field metadata_file_fields[] = {
	{"labels", &plain, 0},
	{"annotations", &plain, 0},
	{"finalizers", &set, 0},
	{"ownerReferences", &owners, 0},
	{"resourceVersion", &server, 0},
	{"generation", &server, 0},
	{"managedFields", &server, 0},
	{NULL},
};
static const struct type metadata_file = {.fields = metadata_file_fields, .others_refused = true};

static const struct field metadata_fields[] = {
	{"finalizers", &set, 0},
	{"ownerReferences", &owners, 0},
	{"resourceVersion", &server, 0},
	{"generation", &server, 0},
	{"managedFields", &server, 0},
	{"name", &plain, EINVAL},
	{"namespace", &plain, EINVAL},
	{"uid", &plain, ESTALE},
	{"creationTimestamp", &plain, EINVAL},
	{"deletionTimestamp", &plain, EINVAL},
	{"deletionGracePeriodSeconds", &plain, EINVAL},
	{"selfLink", &plain, EINVAL},
	{NULL},
};
static const struct type metadata = {.fields = metadata_fields};
static const struct field imagestream_fields[] = {
	{"kind", &plain, EINVAL},
	{"apiVersion", &plain, EINVAL},
	{"metadata", &metadata, 0},
	{"spec", &spec, 0},
	{"status", &status, EINVAL},
	{NULL},
};
static const struct type imagestream = {.fields = imagestream_fields};

/* What a patch may hold, from the object's root. */
static const struct field patch_fields[] = {
	{"metadata", &metadata_file, 0},
	{"spec", &spec, 0},
	{"status", &status, 0},
	{NULL},
};
static const struct type patch = {.fields = patch_fields};

static const char *const counted_metadata[] = {
	"resourceVersion", "generation", "managedFields", NULL};
static const char *const counted[] = {"generation", NULL};
static const struct patch_hidden hidden_metadata = {counted_metadata, NULL};
static const struct patch_hidden hidden_tag = {counted, NULL};
static const struct patch_hidden hidden_spec = {counted, &hidden_tag};

struct view {
	const struct type *type;
	const char *root; /* the member of the object, NULL: the object itself */
	const char *key;  /* of a tag: the member that names it in root's `tags` */
	const struct patch_hidden *hidden;
};

static const struct view views[] = {
	[PATCH_IMAGESTREAM] = {&imagestream, NULL, NULL, NULL},
	[PATCH_METADATA] = {&metadata_file, "metadata", NULL, &hidden_metadata},
	[PATCH_SPEC] = {&spec, "spec", NULL, &hidden_spec},
	[PATCH_STATUS] = {&status, "status", NULL, NULL},
	[PATCH_TAG_SPEC] = {&tag, "spec", "name", &hidden_tag},
	[PATCH_TAG_STATUS] = {&history, "status", "tag", NULL},
};

const struct patch_hidden *patch_hidden(enum patch_view view)
{
	return views[view].hidden;
}

/* How much of `s` to print, so that no character is torn. */
static size_t utf8_cut(const char *s, size_t len, size_t max)
{
	if (len <= max)
		return len;
	while (max > 0 && ((unsigned char)s[max] & 0xc0) == 0x80)
		max--;
	return max;
}

/* Where we are in the object, from the leaf up; the outermost key is NULL. */
struct path {
	const struct path *up;
	const char *key;
	size_t len;
	bool element;
};

static struct path path_member(const struct path *up, const char *key)
{
	return (struct path){up, key, strlen(key), false};
}

static bool is_identifier(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strchr("./[] \"\x7f", s[i]) || (unsigned char)s[i] < 0x20)
			return false;
	return n > 0;
}

static void add_key(struct buf *out, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			buf_addf(out, "\\u%04x", (unsigned)s[i]);
		else
			buf_add(out, &s[i], 1);
}

static void add_path(struct buf *out, const struct path *path)
{
	if (!path || !path->key)
		return;
	add_path(out, path->up);
	if (!path->element && is_identifier(path->key, path->len)) {
		buf_addstr(out, out->len ? "." : "");
		buf_add(out, path->key, path->len);
		return;
	}
	buf_addstr(out, "[");
	add_key(out, path->key, path->len);
	buf_addstr(out, "]");
}

/* The caller frees. */
static char *path_text(const struct path *path)
{
	_cleanup_buf_ struct buf out = BUF_INIT(SIZE_MAX);

	add_path(&out, path);
	return buf_steal(&out, NULL);
}

/* The frames of a view's root: spec, tags, [TAG]. Returns the innermost. */
static const struct path *root_path(const struct patch_file *f, struct path frames[3])
{
	const struct view *view = &views[f->view];

	frames[0] = (struct path){.key = view->root, .len = view->root ? strlen(view->root) : 0};
	if (!view->key)
		return &frames[0];
	frames[1] = path_member(&frames[0], "tags");
	frames[2] = (struct path){&frames[1], f->tag, f->tag_len, true};
	return &frames[2];
}

/* A new reference to what stays as it is. NULL stays NULL. */
static json_t *keep(const json_t *v)
{
	return json_incref((json_t *)v);
}

/* Its members are shared. An empty one of what is no object. */
static json_t *copy_object(const json_t *v)
{
	return json_is_object(v) ? json_copy((json_t *)v) : json_object();
}

/* Takes the reference over; NULL: it goes. */
static void set_member(json_t *object, const char *key, json_t *value)
{
	if (value)
		json_object_set_new(object, key, value);
	else
		json_object_del(object, key);
}

static json_t *without(const json_t *object, const char *key)
{
	json_t *copy = copy_object(object);

	json_object_del(copy, key);
	return copy;
}

/* Equal to a member that isn't there. */
static bool is_blank(const json_t *v)
{
	const char *key;
	json_t *member;

	if (json_is_array(v))
		return json_array_size(v) == 0;
	if (!json_is_object(v))
		return !v || json_is_null(v);
	json_object_foreach((json_t *)v, key, member) {
		if (!is_blank(member))
			return false;
	}
	return true;
}

/* Says nothing: `"dockerImageRepository": ""`, as tools write what they don't know. */
static bool is_void(const json_t *v)
{
	const char *key;
	json_t *member;
	size_t i;

	if (json_is_string(v))
		return json_string_length(v) == 0;
	if (!json_is_object(v) && !json_is_array(v))
		return !v || json_is_null(v);
	json_array_foreach(v, i, member)
		if (!is_void(member))
			return false;
	json_object_foreach((json_t *)v, key, member) {
		if (!is_void(member))
			return false;
	}
	return true;
}

static bool is_map(const json_t *v)
{
	return json_is_object(v) || is_blank(v);
}

static bool is_zero(const json_t *v)
{
	return json_is_integer(v) && json_integer_value(v) == 0;
}

static const struct field *find_field(const struct type *type, const char *name)
{
	static const struct field free_field = {"", &plain, 0};
	static const struct field refused_field = {"", &plain, EINVAL};

	for (const struct field *f = type->fields; f && f->name; f++)
		if (streq(f->name, name))
			return f;
	return type->others_refused ? &refused_field : &free_field;
}

/*
 * The keys of three objects (NULL and others count as empty), each once, in order of first sight.
 * The values mean nothing.
 */
static json_t *all_keys(const json_t *a, const json_t *b, const json_t *c)
{
	const json_t *objects[] = {a, b, c};
	json_t *keys = json_object(), *value;
	const char *key;
	size_t len;

	for (size_t i = 0; i < ARRAY_SIZE(objects); i++)
		json_object_keylen_foreach((json_t *)objects[i], key, len, value) {
			json_object_setn_nocheck(keys, key, len, value);
		}
	return keys;
}

/*
 * A KEYED list or a SET as an object in the list's order (its keys may hold NUL). NULL where it
 * isn't one: another type, something else than a list, a key that is missing or comes twice.
 */
static json_t *index_of(const struct type *type, const json_t *list)
{
	_cleanup_json_ json_t *index = json_object();
	json_t *element;
	size_t i;

	if (type->kind != KEYED && type->kind != SET)
		return NULL;
	if (!json_is_array(list) && !is_blank(list))
		return NULL;
	json_array_foreach(list, i, element) {
		const json_t *name =
			type->kind == SET ? element : json_object_get(element, type->key);

		if (!json_is_string(name))
			return NULL;
		json_object_setn_nocheck(
			index, json_string_value(name), json_string_length(name), element);
		if (type->kind == KEYED && json_object_size(index) != i + 1)
			return NULL;
	}
	return steal_ptr(index);
}

static const struct type *element_type(const struct type *list)
{
	return list->kind == SET ? &plain : list->element;
}

static bool equal(const struct type *type, const json_t *a, const json_t *b);

static bool equal_maps(const struct type *type, const json_t *a, const json_t *b)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)a, key, value) {
		if (!equal(find_field(type, key)->type, value, json_object_get(b, key)))
			return false;
	}
	json_object_foreach((json_t *)b, key, value) {
		if (!json_object_get(a, key) && !equal(find_field(type, key)->type, NULL, value))
			return false;
	}
	return true;
}

static bool equal_arrays(const json_t *a, const json_t *b)
{
	const json_t *value;
	size_t i;

	if (json_array_size(a) != json_array_size(b))
		return false;
	json_array_foreach(a, i, value) {
		if (!equal(&plain, value, json_array_get(b, i)))
			return false;
	}
	return true;
}

static bool equal_indexes(const struct type *element, const json_t *a, const json_t *b)
{
	const char *key;
	size_t len;
	json_t *value;

	if (json_object_size(a) != json_object_size(b))
		return false;
	json_object_keylen_foreach((json_t *)a, key, len, value) {
		const json_t *other = json_object_getn(b, key, len);

		if (!other || !equal(element, value, other))
			return false;
	}
	return true;
}

static bool equal(const struct type *type, const json_t *a, const json_t *b)
{
	_cleanup_json_ json_t *ia = NULL, *ib = NULL;

	if (type->kind == SERVER || a == b)
		return true;
	if (type->kind == IMPORT)
		return is_zero(a) == is_zero(b);
	ia = index_of(type, a);
	ib = index_of(type, b);
	if (ia && ib)
		return equal_indexes(element_type(type), ia, ib);
	if (is_map(a) && is_map(b))
		return equal_maps(type, a, b);
	if (json_is_array(a) && json_is_array(b))
		return equal_arrays(a, b);
	return json_equal(a, b);
}

/* A tag's value with its name in it, since the user may leave that out. NULL stays NULL. */
static json_t *with_name(const struct patch_file *f, const json_t *value)
{
	const char *key = views[f->view].key;
	json_t *copy;

	if (!value || !key || !is_map(value))
		return keep(value);
	copy = copy_object(value);
	json_object_set_new(copy, key, json_stringn(f->tag, f->tag_len));
	return copy;
}

bool patch_equal(const struct patch_file *f, const json_t *a, const json_t *b)
{
	_cleanup_json_ json_t *x = with_name(f, a), *y = with_name(f, b);

	return equal(views[f->view].type, x, y);
}

static json_t *without_hidden(const json_t *value, const struct patch_hidden *hidden)
{
	json_t *copy = copy_object(value), *elements;
	const json_t *list = json_object_get(value, "tags"), *element;
	size_t i;

	for (const char *const *name = hidden->members; *name; name++)
		json_object_del(copy, *name);
	if (!hidden->tags || !json_is_array(list))
		return copy;
	elements = json_array();
	json_array_foreach(list, i, element)
		json_array_append_new(elements, without_hidden(element, hidden->tags));
	json_object_set_new(copy, "tags", elements);
	return copy;
}

static json_t *shown_spec(const json_t *object)
{
	return without_hidden(json_object_get(object, "spec"), &hidden_spec);
}

static json_t *shown_imagestream(const json_t *object)
{
	json_t *shown = json_copy((json_t *)object);
	const json_t *fields = json_object_get(object, "metadata");

	if (json_object_get(fields, "managedFields"))
		json_object_set_new(shown, "metadata", without(fields, "managedFields"));
	return shown;
}

static bool has_name(const struct patch_file *f, const json_t *element)
{
	const json_t *name = json_object_get(element, views[f->view].key);

	return json_is_string(name) && json_string_length(name) == f->tag_len &&
	       memcmp(json_string_value(name), f->tag, f->tag_len) == 0;
}

json_t *patch_tag_value(enum patch_view view, const json_t *element)
{
	const struct patch_hidden *hidden = patch_hidden(view);

	return hidden && element ? without_hidden(element, hidden) : keep(element);
}

static json_t *shown_tag(const struct patch_file *f, const json_t *object)
{
	const json_t *root = json_object_get(object, views[f->view].root), *element;
	size_t i;

	json_array_foreach(json_object_get(root, "tags"), i, element) {
		if (has_name(f, element))
			return patch_tag_value(f->view, element);
	}
	return NULL;
}

json_t *patch_value(const struct patch_file *f, const json_t *object)
{
	const struct view *view = &views[f->view];
	const json_t *root = json_object_get(object, view->root);

	if (!view->root)
		return shown_imagestream(object);
	if (view->key)
		return shown_tag(f, object);
	if (view->hidden)
		return without_hidden(root, view->hidden);
	return json_is_object(root) ? keep(root) : json_object();
}

static int refuse(char **ret_error, int error, const struct path *path, const char *what)
{
	_cleanup_free_ char *text = path_text(path);
	const char *field = *text ? text : "the text";

	*ret_error =
		xasprintf("%.*s %s", (int)utf8_cut(field, strlen(field), VALUE_MAX), field, what);
	return -error;
}

static int check_list(
	const struct path *path, const struct type *type, const json_t *list, char **ret_error)
{
	_cleanup_json_ json_t *seen = json_object();
	const json_t *element;
	size_t i;

	if (!json_is_array(list) && !is_blank(list))
		return refuse(ret_error, EINVAL, path, "is not a list");
	json_array_foreach(list, i, element) {
		json_t *name = json_object_get(element, type->key);
		struct path at = {path, json_string_value(name), json_string_length(name), true};

		if (!json_is_string(name)) {
			_cleanup_free_ char *what =
				xasprintf("has an element without a \"%s\"", type->key);

			return refuse(ret_error, EINVAL, path, what);
		}
		json_object_setn_nocheck(seen, at.key, at.len, name);
		if (json_object_size(seen) != i + 1)
			return refuse(ret_error, EINVAL, &at, "is there twice");
	}
	return 0;
}

static int check_map(const struct path *path, const struct type *type, const json_t *base,
	const json_t *mine, char **ret_error);

static int check_field(const struct path *path, const struct field *field, const json_t *base,
	const json_t *mine, char **ret_error)
{
	if (field->refused && !is_void(mine) && !equal(field->type, base, mine))
		return refuse(ret_error, field->refused, path,
			field->refused == ESTALE
				? "is another: the object was deleted and made again"
				: "can't be changed by saving this file");
	if (field->refused)
		return 0;
	if (field->type->unique)
		return check_list(path, field->type, mine, ret_error);
	return field->type->fields ? check_map(path, field->type, base, mine, ret_error) : 0;
}

static int check_map(const struct path *path, const struct type *type, const json_t *base,
	const json_t *mine, char **ret_error)
{
	const char *key;
	json_t *value;

	if (!is_map(mine))
		return refuse(ret_error, EINVAL, path, "is not an object");
	json_object_foreach((json_t *)mine, key, value) {
		struct path at = path_member(path, key);
		int r = check_field(
			&at, find_field(type, key), json_object_get(base, key), value, ret_error);

		if (r < 0)
			return r;
	}
	return 0;
}

int patch_check(
	const struct patch_file *f, const json_t *base, const json_t *mine, char **ret_error)
{
	const struct view *view = &views[f->view];
	struct path frames[3];
	const struct path *path = root_path(f, frames);
	json_t *name;

	if (!json_is_object(mine))
		return refuse(ret_error, EINVAL, NULL, "is not a JSON object");
	name = view->key ? json_object_get(mine, view->key) : NULL;
	if (!is_blank(name) && !has_name(f, mine)) {
		struct path at = path_member(path, view->key);

		return refuse(ret_error, EINVAL, &at, "can't be changed by saving this file");
	}
	return check_map(path, view->type, base, mine, ret_error);
}

/* ---- whose text it is ---- */

/* Where the view shows metadata: in a member, or (metadata.json) as a whole; else NULL. */
static const json_t *metadata_of(const struct patch_file *f, const json_t *value)
{
	if (f->view == PATCH_IMAGESTREAM)
		return json_object_get(value, "metadata");
	return f->view == PATCH_METADATA ? value : NULL;
}

static bool names_another(const json_t *base, const json_t *mine, const char *key)
{
	const json_t *value = json_object_get(mine, key);

	return !is_void(value) && !equal(&plain, json_object_get(base, key), value);
}

enum patch_text patch_text(
	const struct patch_file *f, const json_t *base, const json_t *mine, bool foreign)
{
	const json_t *fields = metadata_of(f, mine), *name = json_object_get(mine, "name");

	if (f->view == PATCH_TAG_SPEC)
		return foreign && json_is_string(name) && !has_name(f, mine) ? PATCH_TEXT_FOREIGN
									     : PATCH_TEXT_OWN;
	if (f->view == PATCH_STATUS) /* where all else is as it is, that is what was edited */
		return foreign && names_another(base, mine, "dockerImageRepository") &&
				       !equal(&histories, json_object_get(base, "tags"),
					       json_object_get(mine, "tags"))
			       ? PATCH_TEXT_FOREIGN
			       : PATCH_TEXT_OWN;
	if (!json_is_object(fields))
		return PATCH_TEXT_OWN;
	if (foreign && json_is_string(json_object_get(fields, "uid")) &&
		names_another(metadata_of(f, base), fields, "uid"))
		return PATCH_TEXT_FOREIGN;
	return f->view == PATCH_IMAGESTREAM && is_void(json_object_get(fields, "resourceVersion"))
		       ? PATCH_TEXT_MANIFEST
		       : PATCH_TEXT_OWN;
}

/* The members as the base has them. */
static void take_over(json_t *object, const json_t *base, const char *const *names)
{
	for (; *names; names++)
		set_member(object, *names, keep(json_object_get(base, *names)));
}

/* When the server looked at another object's images says nothing of this one. */
static void take_over_check(json_t *fields, const json_t *old)
{
	const json_t *notes = json_object_get(fields, "annotations");
	json_t *check = json_object_get(
		       json_object_get(old, "annotations"), MANIFEST_IMPORT_ANNOTATION),
	       *copy;

	if (!is_map(notes) || (!check && !json_object_get(notes, MANIFEST_IMPORT_ANNOTATION)))
		return;
	copy = copy_object(notes);
	set_member(copy, MANIFEST_IMPORT_ANNOTATION, keep(check));
	json_object_set_new(fields, "annotations", copy);
}

json_t *patch_adopt(
	const struct patch_file *f, enum patch_text text, const json_t *base, const json_t *mine)
{
	static const char *const names[] = {"name", "namespace", NULL}, *const status_name[] = {
										"status", NULL};
	const json_t *old = metadata_of(f, base), *version = json_object_get(base, "apiVersion");
	json_t *result = copy_object(mine), *fields;

	if (f->view == PATCH_TAG_SPEC && text == PATCH_TEXT_FOREIGN)
		json_object_del(result, "name");
	if (f->view == PATCH_STATUS && text == PATCH_TEXT_FOREIGN) {
		json_decref(result);
		return json_copy((json_t *)base);
	}
	if (text == PATCH_TEXT_OWN || !metadata_of(f, mine))
		return result;
	fields = copy_object(metadata_of(f, mine));
	if (text == PATCH_TEXT_FOREIGN) {
		take_over(fields, old, names);
		take_over_check(fields, old);
	}
	if (names_another(old, fields, "uid"))
		take_over(fields, old, manifest_ties);
	take_over(fields, old, manifest_server_fields);
	if (f->view == PATCH_METADATA) {
		json_decref(result);
		return fields;
	}
	json_object_set_new(result, "metadata", fields);
	take_over(result, base, status_name);
	if (json_is_string(version) && manifest_is_version(json_object_get(result, "apiVersion"),
					       json_string_value(version)))
		json_object_set(result, "apiVersion", (json_t *)version);
	return result;
}

/* ---- copies ---- */

static json_t *overlay(const struct type *type, const json_t *theirs, const json_t *mine);

static json_t *overlay_maps(const struct type *type, const json_t *theirs, const json_t *mine)
{
	json_t *result = copy_object(theirs), *value;
	const char *const *together = type->together;
	const char *key;

	/* They are one value, and without the first they are none. */
	if (together && !is_blank(json_object_get(mine, together[0])))
		for (const char *const *name = together; *name; name++)
			json_object_del(result, *name);
	json_object_foreach((json_t *)mine, key, value) {
		const struct field *field = find_field(type, key);

		if (!field->refused)
			set_member(result, key,
				overlay(field->type, json_object_get(result, key), value));
	}
	return result;
}

/* Of a keyed list, or a set: every element of both. */
static json_t *overlay_lists(const struct type *list, const json_t *theirs, const json_t *mine)
{
	_cleanup_json_ json_t *keys = all_keys(theirs, mine, NULL);
	json_t *result = json_array(), *value;
	const char *key;
	size_t len;

	json_object_keylen_foreach(keys, key, len, value)
		json_array_append_new(
			result, overlay(element_type(list), json_object_getn(theirs, key, len),
					json_object_getn(mine, key, len)));
	return result;
}

static json_t *overlay(const struct type *type, const json_t *theirs, const json_t *mine)
{
	_cleanup_json_ json_t *a = index_of(type, theirs), *b = index_of(type, mine);

	if (type->kind == SERVER || type->kind == IMPORT || is_blank(mine))
		return keep(theirs);
	if (a && b)
		return overlay_lists(type, a, b);
	if (type->kind == PLAIN && is_map(theirs) && is_map(mine))
		return overlay_maps(type, theirs, mine);
	return keep(mine);
}

json_t *patch_copy(const struct patch_file *f, const json_t *theirs, const json_t *mine)
{
	_cleanup_json_ json_t *text = patch_adopt(f, PATCH_TEXT_FOREIGN, theirs, mine);
	_cleanup_json_ json_t *shown = with_name(f, text);

	return overlay(views[f->view].type, theirs, shown);
}

/* What makes an item of a history this very one. */
static bool is_item(const json_t *a, const json_t *b)
{
	static const char *const names[] = {"image", "dockerImageReference", "created"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!equal(&plain, json_object_get(a, names[i]), json_object_get(b, names[i])))
			return false;
	return true;
}

static bool has_item(const json_t *entry, const json_t *item)
{
	const json_t *one;
	size_t i;

	json_array_foreach(json_object_get(entry, "items"), i, one)
		if (is_item(one, item))
			return true;
	return false;
}

/* What is only referred to has no digest. */
static const char *image_of(const json_t *item)
{
	const char *image = json_str(item, "image");

	return image && *image ? image : json_str(item, "dockerImageReference");
}

static bool has_same_images(const json_t *a, const json_t *b)
{
	const json_t *x = json_object_get(a, "items"), *y = json_object_get(b, "items"), *item;
	size_t i;

	if (json_array_size(x) != json_array_size(y))
		return false;
	json_array_foreach(x, i, item) {
		const char *image = image_of(item), *other = image_of(json_array_get(y, i));

		if (!image || !other || !streq(image, other))
			return false;
	}
	return true;
}

static void settle_entry(const json_t *theirs, json_t *mine)
{
	if (!theirs || !json_is_object(mine) || !has_same_images(theirs, mine))
		return;
	json_object_clear(mine);
	json_object_update(mine, (json_t *)theirs);
}

void patch_settle_history(const struct patch_file *f, const json_t *theirs, json_t *mine)
{
	const json_t *list = json_object_get(mine, "tags"), *element;
	_cleanup_json_ json_t *index = index_of(&histories, json_object_get(theirs, "tags"));
	json_t *elements;
	size_t i;

	if (f->view == PATCH_TAG_STATUS)
		settle_entry(theirs, mine);
	if (f->view != PATCH_STATUS || !json_is_array(list))
		return;
	elements = json_array();
	json_array_foreach(list, i, element) {
		const json_t *name = json_object_get(element, "tag");
		json_t *entry = copy_object(element);

		if (json_is_string(name))
			settle_entry(json_object_getn(index, json_string_value(name),
					     json_string_length(name)),
				entry);
		json_array_append_new(elements, json_is_object(element) ? entry : keep(element));
		if (!json_is_object(element))
			json_decref(entry);
	}
	json_object_set_new(mine, "tags", elements);
}

json_t *patch_lost_item(const struct patch_file *f, const json_t *theirs, const json_t *mine)
{
	bool one = f->view == PATCH_TAG_STATUS;
	_cleanup_json_ json_t *list =
		one ? json_pack("[O*]", theirs) : keep(json_object_get(theirs, "tags"));
	_cleanup_json_ json_t *index =
		one ? NULL : index_of(&histories, json_object_get(mine, "tags"));
	const json_t *element, *newest, *entry;
	size_t i;

	if (f->view != PATCH_STATUS && !one)
		return NULL;
	json_array_foreach(list, i, element) {
		json_t *name = json_object_get(element, "tag");

		newest = json_array_get(json_object_get(element, "items"), 0);
		entry = one ? mine
			    : json_object_getn(
				      index, json_string_value(name), json_string_length(name));
		if (newest && json_is_string(name) && !has_item(entry, newest))
			return json_incref(name);
	}
	return NULL;
}

static json_t *prune(const json_t *v);

static json_t *prune_array(const json_t *v)
{
	json_t *out = json_array();
	const json_t *value;
	size_t i;

	json_array_foreach(v, i, value)
		json_array_append_new(out, json_is_null(value) ? json_null() : prune(value));
	return out;
}

/*
 * What the user wrote, without members that are null, and NULL for null: a null among labels or
 * annotations, which is the same as none, would become an empty string where the server decodes it.
 */
static json_t *prune(const json_t *v)
{
	const char *key;
	json_t *out, *value;

	if (json_is_array(v))
		return prune_array(v);
	if (!json_is_object(v))
		return json_is_null(v) ? NULL : keep(v);
	out = json_object();
	json_object_foreach((json_t *)v, key, value) {
		if (!json_is_null(value))
			json_object_set_new(out, key, prune(value));
	}
	return out;
}

/* The three sides of one place. */
struct sides {
	const json_t *base, *theirs, *mine;
};

static struct sides sides_get(const struct sides *s, const char *key, size_t len)
{
	return (struct sides){
		json_object_getn(s->base, key, len),
		json_object_getn(s->theirs, key, len),
		json_object_getn(s->mine, key, len),
	};
}

static void conflict(json_t *conflicts, const struct path *path, const struct sides *s)
{
	_cleanup_free_ char *text = path_text(path);
	json_t *entry = json_object();

	json_object_set_new(entry, "path", json_string(text));
	if (s->base)
		json_object_set(entry, "base", (json_t *)s->base);
	if (s->theirs)
		json_object_set(entry, "theirs", (json_t *)s->theirs);
	if (s->mine)
		json_object_set(entry, "mine", (json_t *)s->mine);
	json_array_append_new(conflicts, entry);
}

static json_t *merge(
	json_t *conflicts, const struct path *path, const struct type *type, const struct sides *s);

/* One value that either side takes whole. */
static json_t *merge_whole(
	json_t *conflicts, const struct path *path, const struct type *type, const struct sides *s)
{
	if (equal(type, s->theirs, s->base))
		return prune(s->mine);
	conflict(conflicts, path, s);
	return keep(s->theirs);
}

static bool contains(const char *const *names, const char *name)
{
	for (; names && *names; names++)
		if (streq(*names, name))
			return true;
	return false;
}

static bool all_equal(const struct type *type, const json_t *a, const json_t *b)
{
	for (const char *const *key = type->together; *key; key++)
		if (!equal(find_field(type, *key)->type, json_object_get(a, *key),
			    json_object_get(b, *key)))
			return false;
	return true;
}

/* `from` and `reference`: mixing two sides would make a reference that nobody wrote. */
static void merge_together(json_t *conflicts, const struct path *path, const struct type *type,
	const struct sides *s, json_t *result)
{
	bool conflicting = !all_equal(type, s->theirs, s->base);

	if (all_equal(type, s->mine, s->base) || all_equal(type, s->mine, s->theirs))
		return;
	for (const char *const *key = type->together; *key; key++) {
		const struct type *inner = find_field(type, *key)->type;
		struct path at = path_member(path, *key);
		struct sides member = sides_get(s, *key, strlen(*key));

		if (!conflicting)
			set_member(result, *key, prune(member.mine));
		else if (!equal(inner, member.base, member.theirs) ||
			 !equal(inner, member.base, member.mine))
			conflict(conflicts, &at, &member);
	}
}

static json_t *merge_import(const struct sides *s)
{
	return is_zero(s->mine) && !is_zero(s->base) ? json_integer(0) : keep(s->theirs);
}

static json_t *merge_maps(
	json_t *conflicts, const struct path *path, const struct type *type, const struct sides *s)
{
	_cleanup_json_ json_t *keys = all_keys(s->theirs, s->base, s->mine);
	json_t *result = copy_object(s->theirs);
	const char *key;
	json_t *value;

	json_object_foreach(keys, key, value) {
		const struct field *field = find_field(type, key);
		struct path at = path_member(path, key);
		struct sides member = sides_get(s, key, strlen(key));

		if (!field->refused && !contains(type->together, key))
			set_member(result, key, merge(conflicts, &at, field->type, &member));
	}
	if (type->together)
		merge_together(conflicts, path, type, s, result);
	return result;
}

/* An element that only the user has. A generation other than 0 isn't taken from him. */
static json_t *added_element(const struct type *type, const json_t *mine)
{
	json_t *result = prune(mine);

	if (type == &tag && !is_zero(json_object_get(result, "generation")))
		json_object_del(result, "generation");
	return result;
}

static json_t *without_import(const struct type *type, const json_t *element)
{
	return type == &tag ? without(element, "generation") : keep(element);
}

/*
 * The two that are there, of an element that one side deleted or didn't have. A 0 of the server's,
 * which imagestream.json shows, is no edit, neither where it comes nor where it goes.
 */
static bool elements_agree(const struct type *type, const struct sides *s)
{
	const json_t *shown = s->base ? s->base : s->theirs;
	_cleanup_json_ json_t *known = without_import(type, shown), *theirs = NULL;

	if (s->mine)
		return equal(type, shown, s->mine) || equal(type, known, s->mine);
	theirs = without_import(type, s->theirs);
	return equal(type, known, theirs);
}

/* An element of a keyed list, NULL where it isn't there: that is no empty element. */
static json_t *merge_element(
	json_t *conflicts, const struct path *path, const struct type *type, const struct sides *s)
{
	if (s->base && s->theirs && s->mine)
		return merge(conflicts, path, type, s);
	if (!s->base && !s->theirs)
		return s->mine ? added_element(type, s->mine) : NULL;
	if (!s->mine && (!s->base || !s->theirs))
		return keep(s->theirs); /* theirs alone, or deleted by both */
	if (elements_agree(type, s))
		return s->base ? NULL : keep(s->theirs);
	conflict(conflicts, path, s);
	return keep(s->theirs);
}

static json_t *merge_elements(
	json_t *conflicts, const struct path *path, const struct type *type, const struct sides *s)
{
	_cleanup_json_ json_t *keys = all_keys(s->theirs, s->base, s->mine);
	json_t *result = json_array(), *value;
	const char *key;
	size_t len;

	json_object_keylen_foreach(keys, key, len, value) {
		struct path at = {path, key, len, true};
		struct sides element = sides_get(s, key, len);
		json_t *merged = merge_element(conflicts, &at, type, &element);

		if (merged)
			json_array_append_new(result, merged);
	}
	return result;
}

static json_t *merge_list(
	json_t *conflicts, const struct path *path, const struct type *type, const struct sides *s)
{
	_cleanup_json_ json_t *base = index_of(type, s->base), *theirs = index_of(type, s->theirs);
	_cleanup_json_ json_t *mine = index_of(type, s->mine);
	struct sides indexes = {base, theirs, mine};

	if (!base || !theirs || !mine)
		return merge_whole(conflicts, path, type, s);
	return merge_elements(conflicts, path, element_type(type), &indexes);
}

/* New reference, NULL where it isn't there. Where sides conflict, any. */
static json_t *merge(
	json_t *conflicts, const struct path *path, const struct type *type, const struct sides *s)
{
	if (type->kind == IMPORT)
		return merge_import(s);
	if (equal(type, s->mine, s->base) || equal(type, s->mine, s->theirs))
		return keep(s->theirs);
	if (type->kind == PLAIN && is_map(s->base) && is_map(s->theirs) && is_map(s->mine))
		return merge_maps(conflicts, path, type, s);
	if (type->kind == KEYED || type->kind == SET)
		return merge_list(conflicts, path, type, s);
	return merge_whole(conflicts, path, type, s);
}

int patch_merge3(const struct patch_file *f, const json_t *base, const json_t *theirs,
	const json_t *mine, json_t **ret_merged, json_t **ret_conflicts)
{
	const struct view *view = &views[f->view];
	_cleanup_json_ json_t *conflicts = json_array(), *merged = NULL;
	_cleanup_json_ json_t *b = with_name(f, base), *t = with_name(f, theirs);
	_cleanup_json_ json_t *m = with_name(f, mine);
	struct sides s = {b, t, m};
	struct path frames[3];
	const struct path *path = root_path(f, frames);

	merged = view->key ? merge_element(conflicts, path, view->type, &s)
			   : merge(conflicts, path, view->type, &s);
	if (json_array_size(conflicts) > 0) {
		*ret_conflicts = steal_ptr(conflicts);
		return -ESTALE;
	}
	*ret_merged = steal_ptr(merged);
	return 0;
}

static int add_side(struct buf *out, const json_t *entry, const char *side)
{
	const json_t *value = json_object_get(entry, side);
	_cleanup_free_ char *text =
		value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : xstrdup("(not there)");
	size_t len = text ? strlen(text) : 0, cut = utf8_cut(text, len, VALUE_MAX);

	return buf_addf(
		out, "  %-7s %.*s%s\n", side, (int)cut, text ? text : "", cut < len ? "..." : "");
}

int patch_conflict_text(const json_t *conflicts, struct buf *out)
{
	static const char *const names[] = {"base", "theirs", "mine"};
	const json_t *entry;
	size_t i;

	json_array_foreach(conflicts, i, entry) {
		const char *path = json_str(entry, "path");
		int r = buf_addf(out, "%.*s\n", (int)utf8_cut(path, strlen(path), VALUE_MAX), path);

		for (size_t k = 0; r == 0 && k < ARRAY_SIZE(names); k++)
			r = add_side(out, entry, names[k]);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The list with the tag's element replaced, taken out (NULL) or added. */
static json_t *graft_element(const struct patch_file *f, const json_t *list, const json_t *merged)
{
	json_t *named = with_name(f, merged), *element;
	json_t *result = json_array();
	size_t i;

	json_array_foreach(list, i, element) {
		if (!has_name(f, element))
			json_array_append(result, element);
		else if (named)
			json_array_append_new(result, steal_ptr(named));
	}
	if (named)
		json_array_append_new(result, named);
	return result;
}

/* A copy of the object with the members `keys` as in `merged`. */
static json_t *graft_members(const json_t *object, const char *const *keys, const json_t *merged)
{
	json_t *result = copy_object(object);

	for (; *keys; keys++)
		set_member(result, *keys, keep(json_object_get(merged, *keys)));
	return result;
}

/* What the view's member of the object becomes. */
static json_t *graft_root(const struct patch_file *f, const json_t *current, const json_t *merged)
{
	static const char *const metadata_keys[] = {
		"labels", "annotations", "finalizers", "ownerReferences", NULL};
	static const char *const status_keys[] = {"tags", NULL};
	const json_t *old = json_object_get(current, views[f->view].root);
	json_t *root;

	if (f->view == PATCH_METADATA)
		return graft_members(old, metadata_keys, merged);
	if (f->view == PATCH_STATUS)
		return graft_members(old, status_keys, merged);
	if (f->view == PATCH_SPEC)
		return keep(merged);
	root = f->view == PATCH_TAG_SPEC ? shown_spec(current) : copy_object(old);
	json_object_set_new(root, "tags", graft_element(f, json_object_get(root, "tags"), merged));
	return root;
}

/*
 * The generation to send: 0 where the user wrote it, else the current one, so that the tag isn't
 * imported anew. A current 0 isn't sent back: it would read as a wish (api-facts 8.4).
 */
static json_t *with_generation(const json_t *element, const json_t *old, bool shown)
{
	const json_t *now = json_object_get(old, "generation");
	bool wished = is_zero(json_object_get(element, "generation")) && !(shown && is_zero(now));
	json_t *copy = without(element, "generation");

	if (wished)
		json_object_set_new(copy, "generation", json_integer(0));
	else if (!is_blank(now) && !is_zero(now))
		json_object_set(copy, "generation", (json_t *)now);
	return copy;
}

/* `shown`: the file shows generations, so a 0 that is current isn't the user's. */
static void set_generations(json_t *object, const json_t *current, bool shown)
{
	json_t *value = json_object_get(object, "spec"), *element, *copy, *elements;
	const json_t *list = json_object_get(value, "tags");
	_cleanup_json_ json_t *old =
		index_of(&tags, json_object_get(json_object_get(current, "spec"), "tags"));
	size_t i;

	if (!json_is_array(list))
		return;
	elements = json_array();
	json_array_foreach(list, i, element) {
		const json_t *name = json_object_get(element, "name");
		const json_t *was = name ? json_object_getn(old, json_string_value(name),
						   json_string_length(name))
					 : NULL;

		json_array_append_new(elements, with_generation(element, was, shown));
	}
	copy = json_copy(value);
	json_object_set_new(copy, "tags", elements);
	json_object_set_new(object, "spec", copy);
}

static bool writes_spec(const struct patch_file *f)
{
	return f->view == PATCH_SPEC || f->view == PATCH_TAG_SPEC;
}

/* The whole object as it shall be. */
static json_t *graft(const struct patch_file *f, const json_t *current, const json_t *merged)
{
	bool whole = f->view == PATCH_IMAGESTREAM;
	_cleanup_json_ json_t *object = json_copy((json_t *)(whole ? merged : current));

	if (!whole)
		json_object_set_new(object, views[f->view].root, graft_root(f, current, merged));
	if (whole || writes_spec(f))
		set_generations(object, current, whole);
	return shown_imagestream(object);
}

struct diff {
	bool strategic;
	bool dollar; /* strategic merge can't say this */
};

static void note_key(struct diff *d, const char *key)
{
	if (key[0] == '$')
		d->dollar = true;
}

static void note_keys(struct diff *d, const json_t *v)
{
	const char *key;
	json_t *value;
	size_t i;

	json_array_foreach(v, i, value)
		note_keys(d, value);
	json_object_foreach((json_t *)v, key, value) {
		note_key(d, key);
		note_keys(d, value);
	}
}

static json_t *diff(struct diff *d, const struct type *type, const json_t *old, const json_t *next);

/* NULL where nothing changed. */
static json_t *diff_maps(
	struct diff *d, const struct type *type, const json_t *old, const json_t *next)
{
	_cleanup_json_ json_t *keys = all_keys(old, next, NULL), *result = json_object();
	const char *key;
	json_t *value;

	json_object_foreach(keys, key, value) {
		const struct field *field = find_field(type, key);
		json_t *change = field->refused ? NULL
						: diff(d, field->type, json_object_get(old, key),
							  json_object_get(next, key));

		if (!change)
			continue;
		note_key(d, key);
		json_object_set_new(result, key, change);
	}
	return json_object_size(result) > 0 ? steal_ptr(result) : NULL;
}

/*
 * `$patch: delete` is the only directive for an element: `replace` there empties the whole list. A
 * new element goes as it is, since the server takes it unread.
 */
static json_t *diff_element(
	struct diff *d, const struct type *type, const json_t *old, const json_t *next)
{
	json_t *change;

	if (!old) {
		note_keys(d, next);
		return keep(next);
	}
	change = next ? diff_maps(d, type->element, old, next) : json_object();
	if (!next)
		json_object_set_new(change, "$patch", json_string("delete"));
	if (change)
		json_object_set(change, type->key, json_object_get(old, type->key));
	return change;
}

static json_t *diff_list(
	struct diff *d, const struct type *type, const json_t *old, const json_t *next)
{
	_cleanup_json_ json_t *before = index_of(type, old), *after = index_of(type, next);
	_cleanup_json_ json_t *keys = all_keys(before, after, NULL);
	json_t *result = json_array(), *value;
	const char *key;
	size_t len;

	if (!before || !after)
		d->dollar = true;
	json_object_keylen_foreach(keys, key, len, value) {
		json_t *change = diff_element(d, type, json_object_getn(before, key, len),
			json_object_getn(after, key, len));

		if (change)
			json_array_append_new(result, change);
	}
	return result;
}

/*
 * `from`, which strategic merge would merge field by field. Only where there is one: what is new is
 * taken unread, and older servers would keep the directive as a field.
 */
static json_t *replacement(const json_t *next)
{
	json_t *result = json_copy((json_t *)next);

	json_object_set_new(result, "$patch", json_string("replace"));
	return result;
}

/* The patch from `old` to `next`, NULL where nothing changed. */
static json_t *diff(struct diff *d, const struct type *type, const json_t *old, const json_t *next)
{
	bool objects = json_is_object(old) && json_is_object(next);

	if (equal(type, old, next))
		return NULL;
	if (d->strategic && type->kind == KEYED)
		return diff_list(d, type, old, next);
	if (type->kind == IMPORT)
		return is_zero(next) ? json_integer(0) : NULL;
	/* never null for spec: that would delete more than what we know of */
	if (type->fields && is_map(old) && is_map(next))
		return diff_maps(d, type, old, next);
	if (is_blank(next))
		return json_null();
	if (objects && type->kind == PLAIN)
		return diff_maps(d, type, old, next);
	note_keys(d, next);
	return objects && d->strategic ? replacement(next) : keep(next);
}

static json_t *diff_objects(
	struct diff *d, const struct patch_file *f, const json_t *current, const json_t *object)
{
	_cleanup_json_ json_t *shown = json_copy((json_t *)current);
	json_t *change;

	/* without generations, so that a 0 which the user wrote differs also from a current 0 */
	if (writes_spec(f))
		json_object_set_new(shown, "spec", shown_spec(current));
	change = diff_maps(d, &patch, shown, object);
	return change ? change : json_object();
}

static json_t *body_patch(
	struct diff *d, const struct patch_file *f, const json_t *current, const json_t *object)
{
	static const char *const names[] = {"resourceVersion", "uid"};
	const json_t *now = json_object_get(current, "metadata");
	json_t *body = diff_objects(d, f, current, object);
	json_t *fields = json_object_get(body, "metadata");

	if (!fields) {
		fields = json_object();
		json_object_set_new(body, "metadata", fields);
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		set_member(fields, names[i], keep(json_object_get(now, names[i])));
	return body;
}

enum patch_form patch_form(
	const struct patch_file *f, const json_t *current, const json_t *merged, json_t **ret_body)
{
	struct diff d = {.strategic = true};
	_cleanup_json_ json_t *object = NULL, *body = NULL;

	*ret_body = NULL;
	if (f->view == PATCH_IMAGESTREAM)
		return PATCH_PUT;
	if (f->view == PATCH_METADATA)
		return PATCH_MERGE;
	object = graft(f, current, merged);
	body = body_patch(&d, f, current, object);
	if (d.dollar)
		return PATCH_MERGE;
	*ret_body = steal_ptr(body);
	return PATCH_STRATEGIC;
}

json_t *patch_body(const struct patch_file *f, enum patch_form form, const json_t *current,
	const json_t *merged)
{
	struct diff d = {.strategic = form == PATCH_STRATEGIC};
	_cleanup_json_ json_t *object = graft(f, current, merged);

	return form == PATCH_PUT ? steal_ptr(object) : body_patch(&d, f, current, object);
}

/* What a person has a hand in. */
static json_t *foreground(const json_t *object)
{
	const json_t *old = json_object_get(object, "metadata");
	json_t *copy = without(object, "status"), *fields = without(old, "managedFields");

	json_object_set_new(fields, "annotations",
		without(json_object_get(old, "annotations"), MANIFEST_IMPORT_ANNOTATION));
	json_object_set_new(copy, "metadata", fields);
	json_object_set_new(copy, "spec", shown_spec(object));
	return copy;
}

bool patch_is_background(const json_t *older, const json_t *newer)
{
	_cleanup_json_ json_t *a = foreground(older), *b = foreground(newer);

	return equal(&imagestream, a, b);
}
