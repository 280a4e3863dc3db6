#include "client/kubeconfig.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <yaml.h>

#define FILE_MAX ((size_t)1 << 20)

/*
 * An alias shares its anchor's value, so that no text of the file can grow in memory. What an alias
 * can still do is to nest deeper than the text does: the two limits together bound that depth,
 * since jansson frees a value by recursion.
 */
#define DEPTH_MAX   32
#define ALIASES_MAX 64

static const struct {
	const char *list, *entry;
} kinds[KUBECONFIG_KINDS] = {
	[KUBECONFIG_CLUSTER] = {"clusters", "cluster"},
	[KUBECONFIG_USER] = {"users", "user"},
	[KUBECONFIG_CONTEXT] = {"contexts", "context"},
};

/* From YAML to JSON. Functions return NULL when they fail, and `problem` is set. */
struct reader {
	yaml_parser_t parser;
	json_t *anchors; /* name → value */
	unsigned int depth, aliases;
	bool typed; /* below an extension: true and 1 aren't text */
	const char *problem;
	size_t line; /* 0: unknown */
};

int kubeconfig_fail(char **ret_error, int r, const char *format, ...)
{
	va_list ap;
	char *text;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = xstrdup("out of memory");
	va_end(ap);
	for (char *p = text; *p; p++) /* one line, whatever names the file holds */
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	*ret_error = text;
	return r;
}

static json_t *refuse(struct reader *r, const yaml_event_t *event, const char *problem)
{
	r->problem = problem;
	r->line = event->start_mark.line + 1;
	return NULL;
}

static bool next_event(struct reader *r, yaml_event_t *event)
{
	if (yaml_parser_parse(&r->parser, event))
		return true;
	r->problem = r->parser.problem ? r->parser.problem : "out of memory";
	if (r->parser.error != YAML_READER_ERROR)
		r->line = r->parser.problem_mark.line + 1;
	return false;
}

static bool is_null(const char *text)
{
	return streq(text, "") || streq(text, "~") || strcasecmp(text, "null") == 0;
}

/* What JSON knows of an extension's plain scalars, as its owner wants to find them. */
static json_t *typed_scalar(const char *text)
{
	json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);

	if (json_is_number(value) || json_is_boolean(value))
		return value;
	json_decref(value);
	return NULL;
}

static json_t *read_scalar(struct reader *r, const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value;
	size_t len = event->data.scalar.length;

	if (memchr(text, '\0', len))
		return refuse(r, event, "text with a NUL");
	if (event->data.scalar.plain_implicit && is_null(text))
		return json_null();
	if (event->data.scalar.plain_implicit && r->typed) {
		json_t *value = typed_scalar(text);

		if (value)
			return value;
	}
	return json_stringn(text, len);
}

static json_t *read_alias(struct reader *r, const yaml_event_t *event)
{
	json_t *value = json_object_get(r->anchors, (const char *)event->data.alias.anchor);

	if (!value)
		return refuse(r, event, "unknown alias");
	if (++r->aliases > ALIASES_MAX)
		return refuse(r, event, "too many aliases");
	return json_incref(value);
}

static json_t *read_value(struct reader *r, const yaml_event_t *event);

static json_t *read_list(struct reader *r)
{
	_cleanup_json_ json_t *list = json_array();

	for (;;) {
		_cleanup_(yaml_event_delete) yaml_event_t event = {0};

		if (!next_event(r, &event))
			return NULL;
		if (event.type == YAML_SEQUENCE_END_EVENT)
			return steal_ptr(list);
		if (json_array_append_new(list, read_value(r, &event)) < 0)
			return NULL;
	}
}

static json_t *read_pair(struct reader *r, json_t *map, const yaml_event_t *key)
{
	_cleanup_(yaml_event_delete) yaml_event_t event = {0};
	bool typed = r->typed;
	const char *name;
	int failed;

	if (key->type != YAML_SCALAR_EVENT)
		return refuse(r, key, "a key that isn't text");
	name = (const char *)key->data.scalar.value;
	if (strlen(name) != key->data.scalar.length)
		return refuse(r, key, "text with a NUL");
	if (streq(name, "<<") && key->data.scalar.plain_implicit)
		return refuse(r, key, "merge keys (<<) aren't supported");
	if (!next_event(r, &event))
		return NULL;
	r->typed = typed || streq(name, "extension");
	failed = json_object_set_new(map, name, read_value(r, &event));
	r->typed = typed;
	return failed ? NULL : map;
}

static json_t *read_map(struct reader *r)
{
	_cleanup_json_ json_t *map = json_object();

	for (;;) {
		_cleanup_(yaml_event_delete) yaml_event_t key = {0};

		if (!next_event(r, &key))
			return NULL;
		if (key.type == YAML_MAPPING_END_EVENT)
			return steal_ptr(map);
		if (!read_pair(r, map, &key))
			return NULL;
	}
}

static json_t *read_nested(
	struct reader *r, const yaml_event_t *event, json_t *(*read)(struct reader *))
{
	json_t *value;

	if (r->depth == DEPTH_MAX)
		return refuse(r, event, "nested too deeply");
	r->depth++;
	value = read(r);
	r->depth--;
	return value;
}

/* Keeps what an alias may name later. Only when it is complete, so that nothing holds itself. */
static json_t *keep_anchor(struct reader *r, const yaml_char_t *anchor, json_t *value)
{
	if (anchor && value)
		json_object_set(r->anchors, (const char *)anchor, value);
	return value;
}

static json_t *read_value(struct reader *r, const yaml_event_t *event)
{
	const yaml_char_t *anchor, *tag;
	json_t *value;

	switch (event->type) {
	case YAML_ALIAS_EVENT:
		return read_alias(r, event);
	case YAML_SCALAR_EVENT:
		anchor = event->data.scalar.anchor;
		tag = event->data.scalar.tag;
		break;
	case YAML_SEQUENCE_START_EVENT:
		anchor = event->data.sequence_start.anchor;
		tag = event->data.sequence_start.tag;
		break;
	default:
		anchor = event->data.mapping_start.anchor;
		tag = event->data.mapping_start.tag;
	}
	if (tag && !streq((const char *)tag, YAML_STR_TAG)) /* !!binary would change the value */
		return refuse(r, event, "tags aren't supported");
	if (event->type == YAML_SCALAR_EVENT)
		value = read_scalar(r, event);
	else if (event->type == YAML_SEQUENCE_START_EVENT)
		value = read_nested(r, event, read_list);
	else
		value = read_nested(r, event, read_map);
	return keep_anchor(r, anchor, value);
}

/* The first document of the stream, as in kubectl; null where there is none. */
static json_t *read_stream(struct reader *r)
{
	for (;;) {
		_cleanup_(yaml_event_delete) yaml_event_t event = {0};

		if (!next_event(r, &event))
			return NULL;
		switch (event.type) {
		case YAML_STREAM_START_EVENT:
		case YAML_DOCUMENT_START_EVENT:
			break;
		case YAML_STREAM_END_EVENT:
			return json_null();
		default:
			return read_value(r, &event);
		}
	}
}

static int parse(const char *file, const char *text, size_t len, json_t **ret, char **ret_error)
{
	struct reader r = {.anchors = json_object(), .problem = "not UTF-8"};
	int result = 0;
	json_t *root;

	if (!yaml_parser_initialize(&r.parser)) {
		json_decref(r.anchors);
		return kubeconfig_fail(ret_error, -ENOMEM, "out of memory");
	}
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
	root = read_stream(&r);
	if (root)
		*ret = root;
	else if (r.line)
		result = kubeconfig_fail(ret_error, -EINVAL,
			"can't parse kubeconfig %s: line %zu: %s", file, r.line, r.problem);
	else
		result = kubeconfig_fail(
			ret_error, -EINVAL, "can't parse kubeconfig %s: %s", file, r.problem);
	yaml_parser_delete(&r.parser);
	json_decref(r.anchors);
	return result;
}

/* Absent and null are one thing. */
static const json_t *member(const json_t *object, const char *key)
{
	const json_t *value = json_object_get(object, key);

	return json_is_null(value) ? NULL : value;
}

/* A file may leave kind and apiVersion out, but it can't be of another kind. */
static int check_root(const char *file, const json_t *root, char **ret_error)
{
	static const char *const expected[][2] = {{"apiVersion", "v1"}, {"kind", "Config"}};

	if (!json_is_object(root))
		return kubeconfig_fail(ret_error, -EINVAL, "%s isn't a kubeconfig: no map", file);
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		const json_t *value = member(root, expected[i][0]);

		if (value && (!json_is_string(value) ||
				     !streq(json_string_value(value), expected[i][1])))
			return kubeconfig_fail(ret_error, -EINVAL,
				"%s isn't a kubeconfig: its %s isn't %s", file, expected[i][0],
				expected[i][1]);
	}
	return 0;
}

static int add_entry(json_t *own, enum kubeconfig_kind kind, const char *file, size_t i,
	const json_t *item, char **ret_error)
{
	const char *list = kinds[kind].list, *key = kinds[kind].entry;
	const char *name = json_str(item, "name");
	const json_t *fields = member(item, key);

	if (!name)
		return kubeconfig_fail(
			ret_error, -EINVAL, "%s[%zu] in %s has no name", list, i, file);
	if (fields && !json_is_object(fields))
		return kubeconfig_fail(
			ret_error, -EINVAL, "%s \"%s\" in %s isn't a map", key, name, file);
	if (json_object_get(own, name))
		return kubeconfig_fail(
			ret_error, -EINVAL, "%s \"%s\" stands twice in %s", key, name, file);
	json_object_set_new(own, name,
		json_pack("{s:o, s:o}", "file", json_string_nocheck(file), "fields",
			fields ? json_incref((json_t *)fields) : json_object()));
	return 0;
}

static int merge_list(struct kubeconfig *k, enum kubeconfig_kind kind, const char *file,
	const json_t *root, char **ret_error)
{
	const json_t *list = member(root, kinds[kind].list);
	_cleanup_json_ json_t *own = json_object();
	const json_t *item;
	size_t i;

	if (list && !json_is_array(list))
		return kubeconfig_fail(
			ret_error, -EINVAL, "%s in %s isn't a list", kinds[kind].list, file);
	json_array_foreach(list, i, item)
	{
		int r = add_entry(own, kind, file, i, item, ret_error);

		if (r < 0)
			return r;
	}
	json_object_update_missing(k->entries[kind], own);
	return 0;
}

static int merge(struct kubeconfig *k, const char *file, const json_t *root, char **ret_error)
{
	const json_t *current;
	int r;

	if (json_is_null(root)) /* an empty file */
		return 0;
	r = check_root(file, root, ret_error);
	for (enum kubeconfig_kind kind = 0; r == 0 && kind < KUBECONFIG_KINDS; kind++)
		r = merge_list(k, kind, file, root, ret_error);
	if (r < 0)
		return r;
	current = member(root, "current-context");
	if (current && !json_is_string(current))
		return kubeconfig_fail(
			ret_error, -EINVAL, "current-context in %s isn't text", file);
	if (current && !k->current_context && json_string_length(current) > 0)
		k->current_context = xstrdup(json_string_value(current));
	return 0;
}

static int load_file(struct kubeconfig *k, const char *file, char **ret_error)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_json_ json_t *root = NULL;
	size_t len;
	int r = read_file(file, FILE_MAX, &text, &len);

	if (r == -EFBIG)
		return kubeconfig_fail(
			ret_error, r, "can't read kubeconfig %s: larger than 1 MiB", file);
	if (r < 0)
		return kubeconfig_fail(
			ret_error, r, "can't read kubeconfig %s: %s", file, strerror(-r));
	k->found = true;
	r = parse(file, text, len, &root, ret_error);
	explicit_bzero(text, len);
	return r < 0 ? r : merge(k, file, root, ret_error);
}

/*
 * The files to look for, as absolute paths, and in *ret_tried how to call them. A file that stands
 * twice in a list adds nothing the second time, so it may.
 */
static json_t *list_files(const char *path, const char *directory, char **ret_tried)
{
	const char *list = getenv("KUBECONFIG"), *home = getenv("HOME");
	_cleanup_free_ char *copy = list ? xstrdup(list) : NULL;
	json_t *files = json_array();
	char *rest = copy, *item;

	if (path) {
		_cleanup_free_ char *file = kubeconfig_absolute(path, directory);

		*ret_tried = xstrdup(path);
		json_array_append_new(files, json_string_nocheck(file));
	} else if (list && *list) {
		*ret_tried = xasprintf("KUBECONFIG=%s", list);
		while ((item = strsep(&rest, ":"))) {
			_cleanup_free_ char *file = kubeconfig_absolute(item, directory);

			if (*item)
				json_array_append_new(files, json_string_nocheck(file));
		}
	} else {
		*ret_tried = xstrdup("~/.kube/config");
		if (home && *home) {
			_cleanup_free_ char *file = xasprintf("%s/.kube/config", home);

			json_array_append_new(files, json_string_nocheck(file));
		}
	}
	return files;
}

int kubeconfig_load(
	const char *path, const char *directory, struct kubeconfig *ret, char **ret_error)
{
	struct kubeconfig k = {0};
	_cleanup_json_ json_t *files = list_files(path, directory, &k.tried);
	const json_t *file;
	size_t i;
	int r = 0;

	for (size_t kind = 0; kind < KUBECONFIG_KINDS; kind++)
		k.entries[kind] = json_object();
	json_array_foreach(files, i, file)
	{
		r = load_file(&k, json_string_value(file), ret_error);
		if (r == -ENOENT && !path) {
			free(steal_ptr(*ret_error));
			r = 0;
		}
		if (r < 0)
			break;
	}
	if (r < 0)
		kubeconfig_release(&k);
	else
		*ret = k;
	return r;
}

uint64_t kubeconfig_signature(const char *path, const char *directory)
{
	_cleanup_free_ char *tried = NULL;
	_cleanup_json_ json_t *files = list_files(path, directory, &tried);
	uint64_t hash = HASH_INIT;
	const json_t *file;
	struct stat st;
	size_t i;

	json_array_foreach(files, i, file)
	{
		if (stat(json_string_value(file), &st) < 0)
			st = (struct stat){0};
		hash = hash_bytes(hash, &st.st_ino, sizeof(st.st_ino));
		hash = hash_bytes(hash, &st.st_size, sizeof(st.st_size));
		hash = hash_bytes(hash, &st.st_mtim, sizeof(st.st_mtim));
	}
	return hash;
}

void kubeconfig_release(struct kubeconfig *k)
{
	for (size_t i = 0; i < KUBECONFIG_KINDS; i++)
		json_decref(k->entries[i]);
	free(k->current_context);
	free(k->tried);
}

bool kubeconfig_empty(const struct kubeconfig *k)
{
	size_t n = 0;

	for (size_t i = 0; i < KUBECONFIG_KINDS; i++)
		n += json_object_size(k->entries[i]);
	return n == 0 && !k->current_context;
}

int kubeconfig_find(const struct kubeconfig *k, enum kubeconfig_kind kind, const char *name,
	struct kubeconfig_entry *ret)
{
	const json_t *entry = json_object_get(k->entries[kind], name);

	if (!entry)
		return -ENOENT;
	*ret = (struct kubeconfig_entry){
		.kind = kinds[kind].entry,
		.name = name,
		.file = json_str(entry, "file"),
		.fields = json_object_get(entry, "fields"),
	};
	return 0;
}

const char *kubeconfig_word(enum kubeconfig_kind kind)
{
	return kinds[kind].entry;
}

char *kubeconfig_resolve(const char *file, const char *path)
{
	const char *slash = strrchr(file, '/');

	if (*path == '/' || !slash)
		return xstrdup(path);
	return xasprintf("%.*s/%s", (int)(slash - file), file, path);
}

char *kubeconfig_absolute(const char *path, const char *directory)
{
	return *path == '/' || !directory ? xstrdup(path) : xasprintf("%s/%s", directory, path);
}
