#include "client/yaml.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <yaml.h>

#define DEPTH_MAX 512

/*
 * An alias shares its anchor's value, so that reading it costs nothing; comparing and writing the
 * result does. So what aliases repeat is counted as if it stood there, in bytes and in levels.
 */
#define ALIASED_MAX ((size_t)1 << 20)

#define DIGITS "0123456789"

/* ---- reading ---- */

struct yaml_reader {
	yaml_parser_t parser;
	enum yaml_scalars scalars;
	json_t *anchors; /* of the document: name → {value, weight, height} */
	unsigned int depth, deepest;
	size_t weight, aliased; /* bytes */
	char *error;
};

/* Functions return NULL when they fail, and the reader's `error` is set. */
static void *fail(struct yaml_reader *r, const yaml_mark_t *mark, const char *problem)
{
	free(r->error);
	r->error = xasprintf("line %zu, column %zu: %s", mark->line + 1, mark->column + 1, problem);
	return NULL;
}

static void *refuse(struct yaml_reader *r, const yaml_event_t *event, const char *problem)
{
	return fail(r, &event->start_mark, problem);
}

static bool next_event(struct yaml_reader *r, yaml_event_t *event)
{
	const yaml_parser_t *p = &r->parser;

	if (yaml_parser_parse(&r->parser, event))
		return true;
	if (!p->problem)
		abort();		   /* out of memory */
	if (p->error == YAML_READER_ERROR) /* it knows bytes, not lines */
		r->error = xasprintf("byte %zu: %s", p->problem_offset + 1, p->problem);
	else
		fail(r, &p->problem_mark, p->problem);
	return false;
}

enum word { WORD_NONE, WORD_NULL, WORD_TRUE, WORD_FALSE, WORD_NO_JSON };

static const char *const words[][16] = {
	[WORD_NULL] = {"", "~", "null", "Null", "NULL"},
	[WORD_TRUE] = {"y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"},
	[WORD_FALSE] = {"n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"},
	[WORD_NO_JSON] = {".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf",
		"-.INF", ".nan", ".NaN", ".NAN"},
};

static enum word find_word(const char *text)
{
	for (enum word w = WORD_NULL; w < ARRAY_SIZE(words); w++)
		for (const char *const *p = words[w]; *p; p++)
			if (streq(*p, text))
				return w;
	return WORD_NONE;
}

/* The digits of an integer and their base, as Go's strconv.ParseInt finds it; NULL: it is none. */
static const char *find_digits(const char *text, int *ret_base)
{
	static const struct {
		const char *letters, *digits;
		int base;
	} bases[] = {{"xX", DIGITS "abcdefABCDEF", 16}, {"oO", "01234567", 8}, {"bB", "01", 2}};
	const char *s = text + (*text == '+' || *text == '-');

	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		if (s[0] != '0' || !s[1] || !strchr(bases[i].letters, s[1]))
			continue;
		*ret_base = bases[i].base;
		s += 2;
		return *s && s[strspn(s, bases[i].digits)] == '\0' ? s : NULL;
	}
	*ret_base = *s == '0' && s[strspn(s, "01234567")] == '\0' ? 8 : 10;
	return *s && s[strspn(s, DIGITS)] == '\0' ? s : NULL;
}

static json_t *read_integer(struct yaml_reader *r, const yaml_event_t *event, bool negative,
	const char *digits, int base)
{
	unsigned long long n;

	errno = 0;
	n = strtoull(digits, NULL, base);
	if (errno || n > (unsigned long long)INT64_MAX + negative)
		return refuse(r, event, "an integer beyond 64 bits");
	return json_integer(negative ? (json_int_t)(0 - n) : (json_int_t)n);
}

/* As yaml.v2 wants it: a digit at least, and no more than a number. */
static bool is_decimal(const char *s)
{
	size_t digits, n;

	s += *s == '+' || *s == '-';
	digits = strspn(s, DIGITS);
	s += digits;
	if (*s == '.') {
		n = strspn(s + 1, DIGITS);
		digits += n;
		s += 1 + n;
	}
	if (digits && (*s == 'e' || *s == 'E')) {
		s++;
		s += *s == '+' || *s == '-';
		digits = strspn(s, DIGITS);
		s += digits;
	}
	return digits && *s == '\0';
}

static json_t *read_number(struct yaml_reader *r, const yaml_event_t *event, const char *text)
{
	_cleanup_free_ char *plain = xstrdup(text);
	const char *digits;
	char *end = plain;
	double d;
	int base;

	for (const char *p = text; *p; p++)
		if (*p != '_' || *text == '.')
			*end++ = *p;
	*end = '\0';
	digits = find_digits(plain, &base);
	if (digits)
		return read_integer(r, event, *plain == '-', digits, base);
	d = is_decimal(plain) ? strtod(plain, NULL) : (double)INFINITY;
	return isfinite(d) ? json_real(d) : json_string(text);
}

static json_t *resolve(struct yaml_reader *r, const yaml_event_t *event, const char *text)
{
	enum word word = find_word(text);

	if (word == WORD_NULL)
		return json_null();
	if (r->scalars == YAML_SCALARS_TEXT)
		return json_string(text);
	if (word == WORD_NO_JSON)
		return refuse(r, event, "infinity and NaN are no JSON");
	if (word != WORD_NONE)
		return json_boolean(word == WORD_TRUE);
	return strchr(DIGITS "+-.", *text) ? read_number(r, event, text) : json_string(text);
}

static json_t *read_scalar(struct yaml_reader *r, const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value;
	size_t len = event->data.scalar.length;

	r->weight += len + 1;
	if (r->scalars == YAML_SCALARS_TEXT && memchr(text, '\0', len))
		return refuse(r, event, "text with a NUL");
	if (event->data.scalar.plain_implicit && strlen(text) == len)
		return resolve(r, event, text);
	return json_stringn(text, len);
}

static json_t *read_alias(struct yaml_reader *r, const yaml_event_t *event)
{
	const json_t *anchor = json_object_get(r->anchors, (const char *)event->data.alias.anchor);
	size_t weight = json_integer_value(json_object_get(anchor, "weight"));
	unsigned int depth = r->depth + json_integer_value(json_object_get(anchor, "height"));

	if (!anchor)
		return refuse(r, event, "unknown alias");
	r->weight += weight;
	r->aliased += weight;
	if (r->aliased > ALIASED_MAX)
		return refuse(r, event, "aliases that repeat more than 1 MiB");
	if (depth > DEPTH_MAX)
		return refuse(r, event, "nested too deeply");
	if (depth > r->deepest)
		r->deepest = depth;
	return json_incref(json_object_get(anchor, "value"));
}

static json_t *read_value(struct yaml_reader *r, const yaml_event_t *event);

static json_t *read_list(struct yaml_reader *r)
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

/* A key as text. The caller frees. */
static char *read_key(struct yaml_reader *r, const yaml_event_t *event)
{
	_cleanup_json_ json_t *key = NULL;
	const char *tag;

	if (event->type != YAML_SCALAR_EVENT)
		return refuse(r, event, "a key that isn't text");
	tag = (const char *)event->data.scalar.tag;
	if (tag && !streq(tag, YAML_STR_TAG))
		return refuse(r, event, "tags aren't supported");
	key = read_scalar(r, event);
	if (!key)
		return NULL;
	if (json_is_integer(key))
		return xasprintf("%" JSON_INTEGER_FORMAT, json_integer_value(key));
	if (json_is_boolean(key))
		return xstrdup(json_is_true(key) ? "true" : "false");
	if (!json_is_string(key))
		return refuse(r, event, "a key that isn't text: it needs quotes");
	if (strlen(json_string_value(key)) != json_string_length(key))
		return refuse(r, event, "text with a NUL");
	return xstrdup(json_string_value(key));
}

static bool is_merge(const yaml_event_t *key)
{
	return key->type == YAML_SCALAR_EVENT && key->data.scalar.plain_implicit &&
	       streq((const char *)key->data.scalar.value, "<<");
}

/* Takes over the value of a merge key: a map, or several of which the first wins. */
static bool add_merge(
	struct yaml_reader *r, json_t *merged, const yaml_event_t *event, json_t *value)
{
	_cleanup_json_ json_t *maps = json_is_array(value) ? json_incref(value) : json_array();
	json_t *map;
	size_t i;

	if (!json_is_array(value))
		json_array_append(maps, value);
	json_decref(value);
	json_array_foreach(maps, i, map)
		if (json_object_update_missing(merged, map) < 0) {
			refuse(r, event, "merging (<<) what isn't a map");
			return false;
		}
	return true;
}

static bool read_pair(struct yaml_reader *r, json_t *map, json_t *merged, const yaml_event_t *key)
{
	_cleanup_(yaml_event_delete) yaml_event_t event = {0};
	_cleanup_free_ char *name = is_merge(key) ? NULL : read_key(r, key);
	enum yaml_scalars scalars = r->scalars;
	json_t *value;

	if (!name && !is_merge(key))
		return false;
	if (name && r->scalars == YAML_SCALARS_TYPED && json_object_get(map, name)) {
		refuse(r, key, "a key that stands twice");
		return false;
	}
	if (!next_event(r, &event))
		return false;
	if (name && streq(name, "extension"))
		r->scalars = YAML_SCALARS_TYPED;
	value = read_value(r, &event);
	r->scalars = scalars;
	if (!value)
		return false;
	return name ? json_object_set_new(map, name, value) == 0
		    : add_merge(r, merged, &event, value);
}

static json_t *read_map(struct yaml_reader *r)
{
	_cleanup_json_ json_t *map = json_object(), *merged = json_object();

	for (;;) {
		_cleanup_(yaml_event_delete) yaml_event_t key = {0};

		if (!next_event(r, &key))
			return NULL;
		if (key.type == YAML_MAPPING_END_EVENT) {
			json_object_update_missing(map, merged);
			return steal_ptr(map);
		}
		if (!read_pair(r, map, merged, &key))
			return NULL;
	}
}

static json_t *read_nested(
	struct yaml_reader *r, const yaml_event_t *event, json_t *(*read)(struct yaml_reader *))
{
	json_t *value;

	if (r->depth == DEPTH_MAX)
		return refuse(r, event, "nested too deeply");
	r->weight++;
	if (++r->depth > r->deepest)
		r->deepest = r->depth;
	value = read(r);
	r->depth--;
	return value;
}

struct properties {
	const yaml_char_t *anchor, *tag;
	const char *own; /* the tag that says nothing new */
	json_t *(*read)(struct yaml_reader *);
};

/* Not of an alias. */
static struct properties properties_of(const yaml_event_t *event)
{
	if (event->type == YAML_SCALAR_EVENT)
		return (struct properties){
			event->data.scalar.anchor, event->data.scalar.tag, YAML_STR_TAG, NULL};
	if (event->type == YAML_SEQUENCE_START_EVENT)
		return (struct properties){event->data.sequence_start.anchor,
			event->data.sequence_start.tag, YAML_SEQ_TAG, read_list};
	return (struct properties){event->data.mapping_start.anchor, event->data.mapping_start.tag,
		YAML_MAP_TAG, read_map};
}

static json_t *read_value(struct yaml_reader *r, const yaml_event_t *event)
{
	unsigned int deepest = r->deepest;
	size_t weight = r->weight;
	struct properties p;
	json_t *value;

	if (event->type == YAML_ALIAS_EVENT)
		return read_alias(r, event);
	p = properties_of(event);
	if (p.tag && !streq((const char *)p.tag, p.own)) /* !!binary would change the value */
		return refuse(r, event, "tags aren't supported");
	r->deepest = r->depth;
	value = p.read ? read_nested(r, event, p.read) : read_scalar(r, event);
	/* Kept only when it is complete, so that nothing holds itself. */
	if (p.anchor && value)
		json_object_set_new(r->anchors, (const char *)p.anchor,
			json_pack("{s:O, s:I, s:I}", "value", value, "weight",
				(json_int_t)(r->weight - weight), "height",
				(json_int_t)(r->deepest - r->depth)));
	if (deepest > r->deepest)
		r->deepest = deepest;
	return value;
}

static json_t *read_document(struct yaml_reader *r)
{
	_cleanup_(yaml_event_delete) yaml_event_t event = {0}, end = {0};
	_cleanup_json_ json_t *root = NULL;

	json_object_clear(r->anchors);
	if (!next_event(r, &event))
		return NULL;
	root = read_value(r, &event);
	return root && next_event(r, &end) ? steal_ptr(root) : NULL;
}

struct yaml_reader *yaml_reader_new(const char *text, size_t len, enum yaml_scalars scalars)
{
	struct yaml_reader *r = xcalloc(1, sizeof(*r));

	r->scalars = scalars;
	r->anchors = json_object();
	if (!yaml_parser_initialize(&r->parser))
		abort();
	yaml_parser_set_input_string(&r->parser, (const unsigned char *)text, len);
	return r;
}

void yaml_reader_free(struct yaml_reader *r)
{
	if (!r)
		return;
	yaml_parser_delete(&r->parser);
	json_decref(r->anchors);
	free(r->error);
	free(r);
}

int yaml_reader_next(struct yaml_reader *r, json_t **ret, char **ret_error)
{
	json_t *root = NULL;

	while (!r->error) {
		_cleanup_(yaml_event_delete) yaml_event_t event = {0};

		if (!next_event(r, &event))
			break;
		if (event.type == YAML_STREAM_START_EVENT)
			continue;
		if (event.type != YAML_DOCUMENT_START_EVENT)
			return 0;
		root = read_document(r);
		if (!root)
			break;
		*ret = root;
		return 1;
	}
	*ret_error = xstrdup(r->error);
	return -EINVAL;
}

int yaml_parse(const char *text, size_t len, json_t **ret, char **ret_error)
{
	_cleanup_yaml_reader_ struct yaml_reader *r =
		yaml_reader_new(text, len, YAML_SCALARS_TYPED);
	_cleanup_json_ json_t *first = NULL, *second = NULL;
	int n = yaml_reader_next(r, &first, ret_error);

	if (n > 0)
		n = yaml_reader_next(r, &second, ret_error);
	if (n < 0)
		return n;
	if (second) {
		*ret_error = xstrdup("several documents");
		return -EINVAL;
	}
	*ret = first ? steal_ptr(first) : json_null();
	return 0;
}

/* ---- writing ---- */

struct writer {
	yaml_emitter_t emitter;
	struct buf *out;
	int error;
};

static int write_bytes(void *arg, unsigned char *bytes, size_t n)
{
	struct writer *w = arg;

	w->error = buf_add(w->out, bytes, n);
	return w->error == 0;
}

/* `made`: what the event's initializer said. */
static int emit(struct writer *w, yaml_event_t *event, int made)
{
	if (!made)
		abort(); /* out of memory: JSON's text is UTF-8 */
	if (yaml_emitter_emit(&w->emitter, event))
		return 0;
	return w->error < 0 ? w->error : -EINVAL; /* libyaml's own, of which none is known */
}

static int emit_scalar(struct writer *w, const char *text, size_t len, yaml_scalar_style_t style)
{
	yaml_event_t event;

	return emit(w, &event,
		yaml_scalar_event_initialize(
			&event, NULL, NULL, (yaml_char_t *)text, len, 1, 1, style));
}

/* Line ends that not every reader knows: U+0085, U+2028, U+2029. */
static bool has_odd_break(const char *text, size_t len)
{
	static const char *const breaks[] = {"\xc2\x85", "\xe2\x80\xa8", "\xe2\x80\xa9"};

	for (size_t i = 0; i < ARRAY_SIZE(breaks); i++)
		if (memmem(text, len, breaks[i], strlen(breaks[i])))
			return true;
	return false;
}

/* Nobody takes it for a number, a date, a boolean or null. The rest of the syntax libyaml knows. */
static bool is_plain(const char *text, size_t len)
{
	return (isalpha((unsigned char)*text) || *text == '_' || *text == '/') &&
	       !memchr(text, '\n', len) && !has_odd_break(text, len) && !find_word(text);
}

/* Of several lines, none of which ends in a space, and no empty line at either end of it all. */
static bool is_block(const char *text, size_t len)
{
	return memchr(text, '\n', len) && !strchr(" \n", *text) && !memmem(text, len, " \n", 2) &&
	       !(len > 1 && memcmp(text + len - 2, "\n\n", 2) == 0) && !has_odd_break(text, len);
}

static int show_key(struct writer *w, const char *key)
{
	size_t len = strlen(key);

	return emit_scalar(w, key, len,
		is_plain(key, len) ? YAML_PLAIN_SCALAR_STYLE : YAML_DOUBLE_QUOTED_SCALAR_STYLE);
}

static int show_string(struct writer *w, const json_t *json)
{
	const char *text = json_string_value(json);
	size_t len = json_string_length(json);

	if (is_plain(text, len))
		return emit_scalar(w, text, len, YAML_PLAIN_SCALAR_STYLE);
	return emit_scalar(w, text, len,
		is_block(text, len) ? YAML_LITERAL_SCALAR_STYLE : YAML_DOUBLE_QUOTED_SCALAR_STYLE);
}

/* Numbers, booleans and null. YAML 1.1 wants a point and a sign: 1e25 is 1.0e+25. */
static int show_other(struct writer *w, const json_t *json)
{
	_cleanup_free_ char *text = json_dumps(json, JSON_ENCODE_ANY);
	const char *e = json_is_real(json) ? strchr(text, 'e') : NULL;
	_cleanup_free_ char *real = NULL;

	if (!e)
		return emit_scalar(w, text, strlen(text), YAML_PLAIN_SCALAR_STYLE);
	real = xasprintf("%.*s%s%s%s", (int)(e - text), text,
		memchr(text, '.', e - text) ? "" : ".0", e[1] == '-' ? "e" : "e+", e + 1);
	return emit_scalar(w, real, strlen(real), YAML_PLAIN_SCALAR_STYLE);
}

static int show_value(struct writer *w, const json_t *json);

static int show_map(struct writer *w, const json_t *json)
{
	yaml_event_t event;
	const char *key;
	json_t *value;
	int r = emit(w, &event,
		yaml_mapping_start_event_initialize(
			&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE));

	json_object_foreach((json_t *)json, key, value) {
		if (r == 0)
			r = show_key(w, key);
		if (r == 0)
			r = show_value(w, value);
	}
	return r < 0 ? r : emit(w, &event, yaml_mapping_end_event_initialize(&event));
}

static int show_list(struct writer *w, const json_t *json)
{
	yaml_event_t event;
	const json_t *value;
	size_t i;
	int r = emit(w, &event,
		yaml_sequence_start_event_initialize(
			&event, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE));

	json_array_foreach(json, i, value)
		if (r == 0)
			r = show_value(w, value);
	return r < 0 ? r : emit(w, &event, yaml_sequence_end_event_initialize(&event));
}

static int show_value(struct writer *w, const json_t *json)
{
	switch (json_typeof(json)) {
	case JSON_OBJECT:
		return show_map(w, json);
	case JSON_ARRAY:
		return show_list(w, json);
	case JSON_STRING:
		return show_string(w, json);
	default:
		return show_other(w, json);
	}
}

static int show_stream(struct writer *w, const json_t *json)
{
	yaml_event_t event;
	int r = emit(w, &event, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING));

	if (r == 0)
		r = emit(w, &event,
			yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1));
	if (r == 0)
		r = show_value(w, json);
	if (r == 0)
		r = emit(w, &event, yaml_document_end_event_initialize(&event, 1));
	return r < 0 ? r : emit(w, &event, yaml_stream_end_event_initialize(&event));
}

int yaml_show(const json_t *json, struct buf *out)
{
	struct writer w = {.out = out};
	int r;

	if (!yaml_emitter_initialize(&w.emitter))
		abort();
	yaml_emitter_set_output(&w.emitter, write_bytes, &w);
	yaml_emitter_set_unicode(&w.emitter, 1);
	yaml_emitter_set_width(&w.emitter, -1);
	r = show_stream(&w, json);
	yaml_emitter_delete(&w.emitter);
	return r;
}
