/* The writer that client/yamltext.c replaced: jansson's tree through libyaml's emitter. */
#include "tests/yaml_reference.h"

#include <ctype.h>
#include <errno.h>
#include <yaml.h>

/* What YAML takes for null, a boolean or a number that is none for JSON. */
static const char *const words[] = {"", "~", "null", "Null", "NULL", "y", "Y", "yes", "Yes", "YES",
	"on", "On", "ON", "true", "True", "TRUE", "n", "N", "no", "No", "NO", "off", "Off", "OFF",
	"false", "False", "FALSE", ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf",
	"-.Inf", "-.INF", ".nan", ".NaN", ".NAN"};

static bool is_word(const char *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (streq(words[i], text))
			return true;
	return false;
}

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
	       !memchr(text, '\n', len) && !has_odd_break(text, len) && !is_word(text);
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

int yaml_reference_show(const json_t *json, struct buf *out)
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
