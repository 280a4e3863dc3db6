#include "client/json.h"

#include <errno.h>

/* What was seen of a text so far. */
struct measure {
	size_t values, depth;
	char last; /* the last byte outside of strings that isn't white space */
};

/* From the opening quote to after the closing one, or to the end. */
static const char *skip_string(const char *p, const char *end)
{
	for (p++; p < end && *p != '"'; p++)
		if (*p == '\\')
			p++;
	return p < end ? p + 1 : end;
}

/* A container has a value more than it has commas, unless it is empty. */
static void measure_byte(struct measure *m, char c)
{
	bool opens = c == '{' || c == '[', closes = c == '}' || c == ']';
	bool first = m->last == '{' || m->last == '[';

	m->values += c == ',' || (first && !closes);
	m->depth += opens;
	m->depth -= closes && m->depth;
	m->last = c;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* NULL, or the limit that the text is above. What is no JSON is measured somehow. */
static const char *find_excess(const char *text, size_t len)
{
	struct measure m = {.values = 1};
	const char *end = text + len;

	if (len > JSON_TEXT_MAX)
		return "larger than 8 MiB";
	for (const char *p = text; p < end;) {
		if (!is_space(*p))
			measure_byte(&m, *p);
		if (m.depth > JSON_DEPTH_MAX)
			return "nested more than 512 deep";
		if (m.values > JSON_VALUES_MAX)
			return "more than 200000 values";
		p = *p == '"' ? skip_string(p, end) : p + 1;
	}
	return NULL;
}

static char *parse_problem(const json_error_t *error)
{
	return error->line < 1 ? xstrdup(error->text)
			       : xasprintf("%s (line %d, column %d)", error->text, error->line,
					 error->column);
}

size_t json_mark(const char *text, size_t len)
{
	static const char mark[] = "\xef\xbb\xbf";
	size_t n = strlen(mark);

	return len >= n && memcmp(text, mark, n) == 0 ? n : 0;
}

int json_read(const char *text, size_t len, size_t flags, json_t **ret, char **ret_why)
{
	size_t mark = json_mark(text, len);
	const char *start = text ? text + mark : "";
	const char *excess = find_excess(start, len - mark);
	json_error_t error;
	json_t *json = excess ? NULL : json_loadb(start, len - mark, flags, &error);

	if (json) {
		*ret = json;
		return 0;
	}
	if (ret_why)
		*ret_why = excess ? xstrdup(excess) : parse_problem(&error);
	if (excess || json_error_code(&error) == json_error_numeric_overflow)
		return -EFBIG;
	return -EBADMSG;
}

size_t json_skip_blank(const char *text, size_t len)
{
	size_t i = 0;

	while (i < len && (is_space(text[i]) || json_mark(text + i, len - i)))
		i += is_space(text[i]) ? 1 : json_mark(text + i, len - i);
	return i;
}

int json_read_all(const char *text, size_t len, size_t flags, json_t *ret, char **ret_why)
{
	const char *excess = find_excess(text, len), *p = text, *end = text + len;
	json_error_t error;
	json_t *json;

	if (excess) {
		*ret_why = xstrdup(excess);
		return -EFBIG;
	}
	for (;;) {
		p += json_skip_blank(p, end - p);
		if (p == end)
			return 0;
		json = json_loadb(p, end - p, flags | JSON_DISABLE_EOF_CHECK, &error);
		if (!json)
			break;
		p += error.position;
		json_array_append_new(ret, json);
	}
	*ret_why = parse_problem(&error);
	return json_error_code(&error) == json_error_numeric_overflow ? -EFBIG : -EBADMSG;
}

json_t *json_read_or_null(const char *text, size_t len, size_t flags)
{
	json_t *json = NULL;

	return json_read(text, len, flags, &json, NULL) == 0 ? json : NULL;
}

#if !HAVE_JSON_KEYLEN
static char *encode_key(const char *key, size_t len)
{
	char *encoded = xmalloc(2 * len + 1), *p = encoded;

	for (size_t i = 0; i < len; i++) {
		if (!key[i])
			*p++ = '\xc0';
		*p++ = key[i] ? key[i] : '\x80';
	}
	*p = '\0';
	return encoded;
}

json_t *json_getn_2_13(const json_t *object, const char *key, size_t len)
{
	_cleanup_free_ char *encoded = key ? encode_key(key, len) : NULL;

	return json_object_get(object, encoded);
}

int json_setn_2_13(json_t *object, const char *key, size_t len, json_t *value)
{
	_cleanup_free_ char *encoded = encode_key(key, len);

	return json_object_set_new_nocheck(object, encoded, value);
}
#endif
