#include "client/kubeconfig.h"

#include "client/yaml.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/stat.h>

#define FILE_MAX ((size_t)16 << 20)

static const struct {
	const char *list, *entry;
} kinds[KUBECONFIG_KINDS] = {
	[KUBECONFIG_CLUSTER] = {"clusters", "cluster"},
	[KUBECONFIG_USER] = {"users", "user"},
	[KUBECONFIG_CONTEXT] = {"contexts", "context"},
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

/* The first document, as in kubectl; null where there is none. */
static int parse(const char *file, const char *text, size_t len, json_t **ret, char **ret_error)
{
	_cleanup_yaml_reader_ struct yaml_reader *r = yaml_reader_new(text, len, YAML_SCALARS_TEXT);
	_cleanup_free_ char *error = NULL;
	json_t *root = NULL;

	if (yaml_reader_next(r, &root, &error) < 0)
		return kubeconfig_fail(
			ret_error, -EINVAL, "can't parse kubeconfig %s: %s", file, error);
	*ret = root ? root : json_null();
	return 0;
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

	if (item && !json_is_null(item) && !json_is_object(item))
		return kubeconfig_fail(
			ret_error, -EINVAL, "%s[%zu] in %s isn't a map", list, i, file);
	if (!name && member(item, "name"))
		return kubeconfig_fail(ret_error, -EINVAL,
			"%s[%zu] in %s has a name that isn't text", list, i, file);
	if (!name)
		name = "";
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
	json_array_foreach(list, i, item) {
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
			ret_error, r, "can't read kubeconfig %s: larger than 16 MiB", file);
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
	json_array_foreach(files, i, file) {
		r = load_file(&k, json_string_value(file), ret_error);
		if (r == -ENOENT && !path) {
			free(steal_ptr(*ret_error));
			r = 0;
		}
		if (r < 0)
			break;
	}
	if (r < 0 && path) {
		_cleanup_free_ char *error = *ret_error;

		kubeconfig_fail(ret_error, r, "--kubeconfig: %s", error);
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

	json_array_foreach(files, i, file) {
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

const json_t *kubeconfig_entries(const struct kubeconfig *k, enum kubeconfig_kind kind)
{
	return k->entries[kind];
}

#define NAMES_MAX 20

char *kubeconfig_names(const struct kubeconfig *k, enum kubeconfig_kind kind)
{
	char *names = xstrdup("");
	const char *name;
	json_t *entry;
	size_t n = 0;

	json_object_foreach(k->entries[kind], name, entry) {
		_cleanup_free_ char *before = names;

		names = xasprintf("%s%s%s", before, n ? ", " : "", n < NAMES_MAX ? name : "...");
		if (n++ == NAMES_MAX)
			break;
	}
	return names;
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

int kubeconfig_parse_flag(const char *text, bool *ret)
{
	static const char *const yes[] = {"true", "yes", "on", "y"};
	static const char *const no[] = {"false", "no", "off", "n"};

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		if (strcasecmp(text, yes[i]) == 0) {
			*ret = true;
			return 0;
		} else if (strcasecmp(text, no[i]) == 0) {
			*ret = false;
			return 0;
		}
	return -EINVAL;
}
