#include "client/manifest.h"

#include "client/json.h"
#include "client/yaml.h"

#include <errno.h>

#define SEPARATOR "---"
#define SPACES	  " \t\r\n"

const char *const manifest_server_fields[] = {"uid", "resourceVersion", "generation",
	"creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink",
	"managedFields", NULL};
const char *const manifest_ties[] = {"ownerReferences", "finalizers", NULL};

static void remove_fields(json_t *object, const char *const *names)
{
	for (; *names; names++)
		json_object_del(object, *names);
}

bool manifest_is_version(const json_t *value, const char *api_version)
{
	const char *version = json_string_value(value);

	return version && (streq(version, api_version) || streq(version, "v1") ||
				  streq(version, "image.openshift.io/v1"));
}

void manifest_strip(json_t *object, const char *api_version)
{
	json_t *metadata = json_object_get(object, "metadata");
	bool copied = json_str(metadata, "uid");

	remove_fields(metadata, manifest_server_fields);
	if (copied)
		remove_fields(metadata, manifest_ties);
	json_object_del(object, "status");
	if (manifest_is_version(json_object_get(object, "apiVersion"), api_version))
		json_object_set_new(object, "apiVersion", json_string(api_version));
}

/* Members that are null say nothing. */
static void drop_nulls(json_t *value)
{
	const char *key;
	json_t *member;
	void *next;
	size_t i;

	json_object_foreach_safe(value, next, key, member) {
		drop_nulls(member);
		if (json_is_null(member))
			json_object_del(value, key);
	}
	json_array_foreach(value, i, member)
		drop_nulls(member);
}

static void drop_empty(json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	if (json_object_size(value) == 0 && json_array_size(value) == 0)
		json_object_del(object, name);
}

void manifest_clean(json_t *object)
{
	json_t *metadata = json_object_get(object, "metadata"), *tag;
	json_t *spec = json_object_get(object, "spec");
	size_t i;

	manifest_strip(object, json_str(object, "apiVersion"));
	json_object_del(json_object_get(metadata, "annotations"), MANIFEST_IMPORT_ANNOTATION);
	drop_empty(metadata, "annotations");
	drop_empty(metadata, "labels");
	json_array_foreach(json_object_get(spec, "tags"), i, tag)
		json_object_del(tag, "generation");
	drop_empty(spec, "tags");
	drop_nulls(object);
}

/* A list is what is in it; nothing at all is no document. */
static void add(json_t *documents, json_t *document)
{
	const char *kind = json_str(document, "kind");
	json_t *items = json_object_get(document, "items");
	size_t len = kind ? strlen(kind) : 0;

	if (len >= 4 && streq(kind + len - 4, "List") && json_is_array(items))
		json_array_extend(documents, items);
	else if (!json_is_null(document))
		json_array_append(documents, document);
}

/* ---- where documents end ---- */

static bool is_space(char c)
{
	return strchr(SPACES, c) && c;
}

/* The next line that begins with "---" as a word, or the end. */
static const char *find_separator(const char *p, const char *end)
{
	size_t n = strlen(SEPARATOR);

	for (bool line = true; p < end; line = *p++ == '\n')
		if (line && (size_t)(end - p) >= n && memcmp(p, SEPARATOR, n) == 0 &&
			(p + n == end || is_space(p[n])))
			return p;
	return end;
}

/* Whether the document at p, before which "---" may stand, is JSON; *ret is where that begins. */
static bool is_json(const char *p, const char *end, const char **ret)
{
	if (find_separator(p, end) == p && p < end)
		p += strlen(SEPARATOR);
	p += json_skip_blank(p, end - p);
	*ret = p;
	return p < end && *p == '{';
}

static int read_yaml(const char *p, size_t len, json_t *documents, char **ret_error)
{
	_cleanup_yaml_reader_ struct yaml_reader *reader =
		yaml_reader_new(p, len, YAML_SCALARS_TYPED);
	json_t *document;
	int r;

	while ((r = yaml_reader_next(reader, &document, ret_error)) > 0) {
		add(documents, document);
		json_decref(document);
	}
	return r;
}

/* What begins as JSON may be YAML all the same: {name: web}. */
static int read_json(const char *p, size_t len, size_t flags, json_t *documents, char **ret_error)
{
	_cleanup_json_ json_t *found = json_array();
	_cleanup_free_ char *why = NULL, *ignored = NULL;
	json_t *document;
	size_t i;

	if (json_read_all(p, len, flags | JSON_ALLOW_NUL, found, &why) == 0) {
		json_array_foreach(found, i, document)
			add(documents, document);
		return 0;
	}
	if (read_yaml(p, len, documents, &ignored) == 0)
		return 0;
	*ret_error = xasprintf("not JSON: %s", why);
	return -EINVAL;
}

int manifest_read(const char *text, size_t len, size_t json_flags, json_t *ret, char **ret_error)
{
	const char *p = text + json_mark(text, len), *end = text + len, *next, *begin;
	int r = 0;

	for (; r == 0 && p < end; p = next) {
		bool json = is_json(p, end, &begin);

		next = find_separator(p + 1, end);
		if (begin >= next)
			continue; /* nothing but white space */
		while (!json && next < end && !is_json(next, end, &begin))
			next = find_separator(next + 1, end);
		r = json ? read_json(begin, next - begin, json_flags, ret, ret_error)
			 : read_yaml(p, next - p, ret, ret_error);
	}
	return r;
}
