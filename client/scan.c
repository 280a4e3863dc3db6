#include "client/scan.h"

#include "client/json.h"

#define MEMBERS_MAX 64 /* of an object whose keys are compared with each other */
#define DIGITS_MAX  18 /* of a number that has room in 64 bits for sure */

struct scanner {
	struct scan *scan;
	const char *p, *end;
	size_t depth;
	bool own; /* jansson wrote it: keys and numbers are as it writes them */
};

void scan_release(struct scan *s)
{
	free(s->values);
	*s = (struct scan)SCAN_INIT;
}

/* ---- strings ---- */

static bool is_within(unsigned char c, unsigned char first, unsigned char last)
{
	return c >= first && c <= last;
}

/* What may stand after a backslash. */
static bool is_short_escape(char c)
{
	return c && strchr("\"\\bfnrt", c);
}

/* "\u0000" to "\u001F" where no shorter form is. */
static bool is_control_escape(const char *p, const char *end)
{
	if (end - p < 6 || strncmp(p, "\\u00", 4) != 0)
		return false;
	if (!is_within(p[5], '0', '9') && !is_within(p[5], 'A', 'F'))
		return false;
	return p[4] == '1' || (p[4] == '0' && !strchr("89ACD", p[5]));
}

static size_t escape_len(const char *p, const char *end)
{
	if (end - p >= 2 && is_short_escape(p[1]))
		return 2;
	return is_control_escape(p, end) ? 6 : 0;
}

/* The bytes of a character outside of ASCII, 0 where it is none (RFC 3629). */
static size_t character_len(const char *p, const char *end)
{
	const unsigned char *s = (const unsigned char *)p;
	size_t len = is_within(*s, 0xc2, 0xdf)	 ? 2
		     : is_within(*s, 0xe0, 0xef) ? 3
		     : is_within(*s, 0xf0, 0xf4) ? 4
						 : 0;

	if ((size_t)(end - p) < len || len == 0)
		return 0;
	for (size_t i = 1; i < len; i++)
		if (!is_within(s[i], 0x80, 0xbf))
			return 0;
	if ((*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] > 0x9f) ||
		(*s == 0xf0 && s[1] < 0x90) || (*s == 0xf4 && s[1] > 0x8f))
		return 0;
	return len;
}

/* From the opening quote to after the closing one. jansson knows no key with a NUL. */
static bool scan_quoted(struct scanner *c, bool key)
{
	size_t len;

	for (c->p++;; c->p += len) {
		c->p = cut_skip_ordinary(c->p, c->end);
		if (c->p == c->end)
			return false;
		if (*c->p == '"')
			break;
		len = *c->p == '\\' ? escape_len(c->p, c->end) : character_len(c->p, c->end);
		if (len == 0 || (key && len == 6 && strncmp(c->p, "\\u0000", len) == 0))
			return false;
	}
	c->p++;
	return true;
}

/* ---- numbers and words ---- */

/* To before what ends it. */
static bool skip_scalar(struct scanner *c)
{
	const char *start = c->p;

	while (c->p < c->end && !strchr(",]}", *c->p))
		c->p++;
	return c->p > start;
}

static bool scan_number(struct scanner *c)
{
	const char *digits;

	if (c->own)
		return skip_scalar(c);
	c->p += *c->p == '-';
	digits = c->p;
	while (c->p < c->end && *c->p >= '0' && *c->p <= '9')
		c->p++;
	if (c->p == digits || c->p - digits > DIGITS_MAX)
		return false;
	return *digits != '0' || (c->p - digits == 1 && digits[-1] != '-');
}

static bool scan_word(struct scanner *c, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(c->end - c->p) < len || memcmp(c->p, word, len) != 0)
		return false;
	c->p += len;
	return true;
}

/* ---- objects and lists ---- */

static bool scan_value(struct scanner *c, size_t key_len);

/* Its place among the values; SIZE_MAX above the limit. */
static size_t add_value(struct scanner *c, size_t key_len)
{
	struct scan *s = c->scan;

	if (s->count >= JSON_VALUES_MAX && !c->own)
		return SIZE_MAX;
	if (s->count == s->room) {
		s->room = s->room ? 2 * s->room : 256;
		s->values = xrealloc(s->values, s->room * sizeof(*s->values));
	}
	s->values[s->count] = (struct scan_value){.p = c->p, .key_len = key_len};
	return s->count++;
}

/* A value that is written on lines of its own makes its container larger. */
static void add_sizes(struct scan_value *container, const struct scan_value *v)
{
	container->size += v->size + 2 * v->lines + strlen("\n  ,");
	if (v->key_len)
		container->size += v->key_len + strlen(": ");
	container->lines += v->lines + 1;
}

static bool is_same_key(const struct scan_value *a, const struct scan_value *b)
{
	return a->key_len == b->key_len && memcmp(scan_key(a).p, scan_key(b).p, a->key_len) == 0;
}

static bool has_doubled_key(const struct scan_value *object)
{
	size_t members = 0;

	scan_foreach(object, v) {
		if (++members > MEMBERS_MAX)
			return true; /* for all we know */
		for (const struct scan_value *w = object + 1; w != v; w += w->span)
			if (is_same_key(v, w))
				return true;
	}
	return false;
}

static bool scan_member_key(struct scanner *c, size_t *ret_len)
{
	const char *start = c->p;

	if (c->p == c->end || *c->p != '"' || !scan_quoted(c, true))
		return false;
	*ret_len = c->p - start;
	return c->p < c->end && *c->p++ == ':';
}

/* What is in the container at that place, one level deeper, up to its bracket. */
static bool scan_inside(struct scanner *c, size_t at, char bracket)
{
	struct scan *s = c->scan;

	for (;;) {
		size_t child, key_len = 0;

		if (bracket == '}' && !scan_member_key(c, &key_len))
			return false;
		child = s->count;
		if (!scan_value(c, key_len) || c->p == c->end)
			return false;
		add_sizes(&s->values[at], &s->values[child]);
		if (*c->p == bracket)
			break;
		if (*c->p++ != ',')
			return false;
	}
	/* no comma after the last one, a line for the bracket */
	s->values[at].lines++;
	return true;
}

static bool scan_container(struct scanner *c, size_t at, char bracket)
{
	bool fine = true;

	c->p++;
	c->scan->values[at].size = strlen("{}");
	if (c->p == c->end || (!c->own && ++c->depth > JSON_DEPTH_MAX))
		return false;
	if (*c->p != bracket)
		fine = scan_inside(c, at, bracket);
	c->p++;
	c->depth--;
	return fine;
}

static bool scan_any(struct scanner *c, size_t at)
{
	switch (*c->p) {
	case '{':
		return scan_container(c, at, '}');
	case '[':
		return scan_container(c, at, ']');
	case '"':
		return scan_quoted(c, false);
	case 't':
		return scan_word(c, "true");
	case 'f':
		return scan_word(c, "false");
	case 'n':
		return scan_word(c, "null");
	default:
		return scan_number(c);
	}
}

static bool scan_value(struct scanner *c, size_t key_len)
{
	size_t at = c->p < c->end ? add_value(c, key_len) : SIZE_MAX;
	struct scan_value *v;

	if (at == SIZE_MAX || !scan_any(c, at))
		return false;
	v = &c->scan->values[at];
	v->len = c->p - v->p;
	v->span = c->scan->count - at;
	if (!v->size)
		v->size = v->len;
	return c->own || *v->p != '{' || !has_doubled_key(v);
}

bool scan_read_first(struct scan *s, const char *text, size_t len)
{
	struct scanner c = {s, text, text + (len < JSON_TEXT_MAX ? len : JSON_TEXT_MAX), 0, false};

	s->count = 0;
	return len > 0 && *text == '{' && scan_value(&c, 0);
}

bool scan_read(struct scan *s, const char *text, size_t len)
{
	return scan_read_first(s, text, len) && s->values->len == len;
}

void scan_read_own(struct scan *s, const char *text, size_t len)
{
	struct scanner c = {s, text, text + len, 0, true};

	s->count = 0;
	if (!scan_value(&c, 0))
		abort(); /* it isn't what the caller says */
}

const struct scan_value *scan_find(const struct scan_value *object, const char *name)
{
	size_t len = strlen(name);

	if (!scan_is_object(object))
		return NULL;
	scan_foreach(object, v)
		if (v->key_len == len + 2 && memcmp(scan_key(v).p + 1, name, len) == 0)
			return v;
	return NULL;
}

/* Values stand in the order of the text. */
static int by_place(const void *key, const void *value)
{
	const char *p = key, *other = ((const struct scan_value *)value)->p;

	return p < other ? -1 : p > other;
}

const struct scan_value *scan_at(const struct scan *s, const char *p)
{
	return bsearch(p, s->values, s->count, sizeof(*s->values), by_place);
}

const struct scan_value *scan_element(const struct scan_value *list, size_t at)
{
	if (!scan_is_array(list))
		return NULL;
	scan_foreach(list, v) {
		if (at-- == 0)
			return v;
	}
	return NULL;
}

static char *copy_text(const char *p, size_t len, size_t *ret_len)
{
	char *text = xmalloc(len + 1);

	memcpy(text, p, len);
	text[len] = '\0';
	*ret_len = len;
	return text;
}

char *scan_string(const struct scan_value *v, size_t *ret_len)
{
	_cleanup_json_ json_t *json = NULL;

	if (!scan_is_string(v))
		return NULL;
	if (!memchr(v->p, '\\', v->len))
		return copy_text(v->p + 1, v->len - 2, ret_len);
	json = json_loadb(v->p, v->len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	return copy_text(json_string_value(json), json_string_length(json), ret_len);
}
