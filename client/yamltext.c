/*
 * Written by hand on purpose: libyaml's emitter takes 70 µs for the YAML of an ImageStream of 4.2 KB
 * with 5 tags, and most files are never read, but all have a size; this here 6.5 µs, and 5.5 µs for
 * the size alone. A string is looked at once, byte by byte, and then mostly copied as it stands.
 */
#include "client/yamltext.h"

#define INDENT 2

/* libyaml's: a longer key stands after "? ". */
#define SIMPLE_KEY_MAX 128

struct writer {
	const char *p, *end; /* of the JSON */
	uint64_t size;	     /* of the YAML */
	struct buf *out;     /* NULL: only the size is wanted, or all of it is too large */
	size_t room;	     /* bytes that `out` takes without growing */
	int error;
};

static void make_room(struct writer *w, size_t n)
{
	struct buf *out = w->out;

	w->error = buf_reserve(out, n);
	if (w->error < 0)
		w->out = NULL;
	else
		w->room = (out->size - 1 < out->max ? out->size - 1 : out->max) - out->len;
}

static inline void put(struct writer *w, const char *p, size_t n)
{
	w->size += n;
	if (w->out && n > w->room)
		make_room(w, n);
	if (!w->out)
		return;
	memcpy(w->out->data + w->out->len, p, n);
	w->out->len += n;
	w->room -= n;
}

static inline void put_str(struct writer *w, const char *s)
{
	put(w, s, strlen(s));
}

static void put_spaces(struct writer *w, size_t n)
{
	static const char spaces[] = "                                ";
	const size_t most = sizeof(spaces) - 1;

	for (; n > most; n -= most)
		put(w, spaces, most);
	put(w, spaces, n);
}

/* ---- what a string holds ---- */

enum {
	HAS_NEWLINE = 1 << 0,
	HAS_BREAK = 1 << 1,	    /* that, or another end of a line: CR, U+0085, U+2028, U+2029 */
	HAS_SPACE_NEWLINE = 1 << 2, /* " \n" */
	HAS_EMPTY_END = 1 << 3,	    /* "\n\n" at the end */
	HAS_SYNTAX = 1 << 4,	    /* ": " or ":" at the end, " #" */
	HAS_UNPRINTABLE = 1 << 5,   /* for YAML 1.1: double quotes only */
	HAS_OTHER_ESCAPE = 1 << 6,  /* of these, what JSON writes otherwise */
};

struct text {
	const char *start, *end; /* between the quotes */
	const char *newline;	 /* after the last "\n" */
	size_t escapes;		 /* bytes that it has for being escaped */
	unsigned int has;
};

static unsigned int byte_at(const char *p)
{
	return *(const unsigned char *)p;
}

/* How many bytes the character has. */
static size_t decode(const char *p, unsigned int *ret)
{
	unsigned int a = byte_at(p);
	size_t n = a < 0x80 ? 1 : a < 0xe0 ? 2 : a < 0xf0 ? 3 : 4;

	*ret = n == 1 ? a : a & (0x7f >> n);
	for (size_t i = 1; i < n; i++)
		*ret = *ret << 6 | (byte_at(p + i) & 0x3f);
	return n;
}

/* Not printable in YAML 1.1, or an end of a line; and JSON doesn't escape it. */
static bool is_raw(unsigned int code)
{
	return (code >= 0x7f && code < 0xa0) || code == 0x2028 || code == 0x2029 ||
	       code == 0xfeff || code >= 0xfffe;
}

/*
 * A character that YAML escapes otherwise than JSON: how many bytes it has here. 0: it is another.
 */
static size_t find_other(const char *p, unsigned int *ret_code)
{
	char digits[5] = "";
	size_t n;

	if (*p != '\\') {
		n = decode(p, ret_code);
		return is_raw(*ret_code) ? n : 0;
	}
	if (p[1] != 'u')
		return 0;
	memcpy(digits, p + 2, 4);
	*ret_code = strtoul(digits, NULL, 16);
	return 6;
}

static size_t note_other(struct text *t, const char *p)
{
	unsigned int code = 0;
	size_t n = find_other(p, &code);

	if (!n)
		return 1;
	t->has |= HAS_UNPRINTABLE | HAS_OTHER_ESCAPE;
	if (code == 0x85 || code == 0x2028 || code == 0x2029)
		t->has |= HAS_BREAK;
	return n;
}

static void note_newline(struct text *t, const char *p)
{
	t->has |= HAS_NEWLINE | HAS_BREAK;
	if (p[-1] == ' ')
		t->has |= HAS_SPACE_NEWLINE;
	if (t->newline == p && p[2] == '"')
		t->has |= HAS_EMPTY_END;
	t->newline = p + 2;
}

static size_t note_escape(struct text *t, const char *p)
{
	t->escapes++;
	switch (p[1]) {
	case 'n':
		note_newline(t, p);
		return 2;
	case '"':
	case '\\':
		return 2;
	case 'u':
		t->escapes += 4;
		return note_other(t, p);
	case 'r':
		t->has |= HAS_BREAK;
		break;
	default: /* \b \f \t */
		break;
	}
	t->has |= HAS_UNPRINTABLE;
	return 2;
}

/* How many bytes were looked at. */
static size_t note(struct text *t, const char *p)
{
	switch (*p) {
	case ':':
		if (p[1] == ' ' || p[1] == '"')
			t->has |= HAS_SYNTAX;
		return 1;
	case '#':
		if (p[-1] == ' ')
			t->has |= HAS_SYNTAX;
		return 1;
	case '\\':
		return note_escape(t, p);
	default:
		return note_other(t, p);
	}
}

/* What may make a difference; the other bytes of a string are only copied. */
static const bool is_noted[256] = {
	['"'] = true,
	['\\'] = true,
	[':'] = true,
	['#'] = true,
	[0x7f] = true,
	[0xc2] = true, /* U+0080 to U+009F */
	[0xe2] = true, /* U+2028, U+2029 */
	[0xef] = true, /* U+FEFF, U+FFFE, U+FFFF */
	[0xf0] = true, /* from here on beyond U+FFFF */
	[0xf1] = true,
	[0xf2] = true,
	[0xf3] = true,
	[0xf4] = true,
};

/* From its opening quote to after its closing one. */
static struct text read_string(struct writer *w)
{
	const char *p = w->p + 1;
	struct text t = {.start = p};

	for (;;) {
		while (!is_noted[byte_at(p)])
			p++;
		if (*p == '"')
			break;
		p += note(&t, p);
	}
	t.end = p;
	w->p = p + 1;
	return t;
}

/* ---- how it is written ---- */

struct word {
	const char *text;
	enum yaml_word word;
};

#define WORD_MAX ((size_t)5)

static const struct word words[WORD_MAX + 1][20] = {
	{{"", YAML_WORD_NULL}},
	{{"~", YAML_WORD_NULL}, {"y", YAML_WORD_TRUE}, {"Y", YAML_WORD_TRUE},
		{"n", YAML_WORD_FALSE}, {"N", YAML_WORD_FALSE}},
	{{"on", YAML_WORD_TRUE}, {"On", YAML_WORD_TRUE}, {"ON", YAML_WORD_TRUE},
		{"no", YAML_WORD_FALSE}, {"No", YAML_WORD_FALSE}, {"NO", YAML_WORD_FALSE}},
	{{"yes", YAML_WORD_TRUE}, {"Yes", YAML_WORD_TRUE}, {"YES", YAML_WORD_TRUE},
		{"off", YAML_WORD_FALSE}, {"Off", YAML_WORD_FALSE}, {"OFF", YAML_WORD_FALSE}},
	{{"null", YAML_WORD_NULL}, {"Null", YAML_WORD_NULL}, {"NULL", YAML_WORD_NULL},
		{"true", YAML_WORD_TRUE}, {"True", YAML_WORD_TRUE}, {"TRUE", YAML_WORD_TRUE},
		{".inf", YAML_WORD_NO_JSON}, {".Inf", YAML_WORD_NO_JSON},
		{".INF", YAML_WORD_NO_JSON}, {".nan", YAML_WORD_NO_JSON},
		{".NaN", YAML_WORD_NO_JSON}, {".NAN", YAML_WORD_NO_JSON}},
	{{"false", YAML_WORD_FALSE}, {"False", YAML_WORD_FALSE}, {"FALSE", YAML_WORD_FALSE},
		{"+.inf", YAML_WORD_NO_JSON}, {"+.Inf", YAML_WORD_NO_JSON},
		{"+.INF", YAML_WORD_NO_JSON}, {"-.inf", YAML_WORD_NO_JSON},
		{"-.Inf", YAML_WORD_NO_JSON}, {"-.INF", YAML_WORD_NO_JSON}},
};

enum yaml_word yamltext_word(const char *text, size_t len)
{
	if (len > WORD_MAX)
		return YAML_WORD_NONE;
	for (const struct word *p = words[len]; p->text; p++)
		if (*p->text == *text && memcmp(p->text, text, len) == 0)
			return p->word;
	return YAML_WORD_NONE;
}

enum style { STYLE_PLAIN, STYLE_SINGLE, STYLE_DOUBLE, STYLE_LITERAL };

/* Nobody takes it for a number, a date, a boolean or null. */
static bool is_plain(const struct text *t)
{
	char c = *t->start;
	bool begins = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '/';

	return begins && !(t->has & (HAS_NEWLINE | HAS_UNPRINTABLE)) &&
	       yamltext_word(t->start, t->end - t->start) == YAML_WORD_NONE;
}

/* Of several lines, none of which ends in a space, and no empty line at either end of it all. */
static bool is_block(const struct text *t)
{
	return (t->has & HAS_NEWLINE) &&
	       !(t->has & (HAS_UNPRINTABLE | HAS_SPACE_NEWLINE | HAS_EMPTY_END)) &&
	       *t->start != ' ' && strncmp(t->start, "\\n", 2) != 0 && t->end[-1] != ' ';
}

static enum style key_style(const struct text *t)
{
	if (!is_plain(t))
		return STYLE_DOUBLE;
	return (t->has & HAS_SYNTAX) || t->end[-1] == ' ' ? STYLE_SINGLE : STYLE_PLAIN;
}

static enum style value_style(const struct text *t)
{
	return is_block(t) ? STYLE_LITERAL : key_style(t);
}

/* Of escapes only \" and \\. */
static void put_unescaped(struct writer *w, const char *p, const char *end)
{
	const char *slash;

	while ((slash = memchr(p, '\\', end - p))) {
		put(w, p, slash - p);
		put(w, slash + 1, 1);
		p = slash + 2;
	}
	put(w, p, end - p);
}

static void put_single(struct writer *w, const struct text *t)
{
	const char *p = t->start, *quote;

	put_str(w, "'");
	while ((quote = memchr(p, '\'', t->end - p))) {
		put_unescaped(w, p, quote + 1);
		put_str(w, "'");
		p = quote + 1;
	}
	put_unescaped(w, p, t->end);
	put_str(w, "'");
}

static void put_code(struct writer *w, unsigned int code)
{
	static const struct {
		unsigned int code;
		const char *escape;
	} letters[] = {{0, "\\0"}, {7, "\\a"}, {0xb, "\\v"}, {0x1b, "\\e"}, {0x85, "\\N"},
		{0x2028, "\\L"}, {0x2029, "\\P"}};
	char escape[16];

	for (size_t i = 0; i < ARRAY_SIZE(letters); i++)
		if (letters[i].code == code) {
			put_str(w, letters[i].escape);
			return;
		}
	snprintf(escape, sizeof(escape),
		code <= 0xff	 ? "\\x%02X"
		: code <= 0xffff ? "\\u%04X"
				 : "\\U%08X",
		code);
	put_str(w, escape);
}

/* Most of what JSON escapes YAML escapes the same way. */
static void put_double(struct writer *w, const struct text *t)
{
	const char *copied = t->start - 1, *p = t->has & HAS_OTHER_ESCAPE ? t->start : t->end;
	unsigned int code;

	while (p < t->end) {
		size_t n = is_noted[byte_at(p)] ? find_other(p, &code) : 0;

		if (n) {
			put(w, copied, p - copied);
			put_code(w, code);
			p += n;
			copied = p;
		} else {
			p += *p == '\\' ? 2 : 1;
		}
	}
	put(w, copied, t->end + 1 - copied);
}

/* The next \n, or the end. */
static const char *find_newline(const char *p, const char *end)
{
	const char *slash;

	while ((slash = memchr(p, '\\', end - p)) && slash[1] != 'n')
		p = slash + 2;
	return slash ? slash : end;
}

/* With its last end of line. */
static void put_literal(struct writer *w, const struct text *t, size_t indent)
{
	const char *stop;

	put_str(w, t->newline == t->end ? "|\n" : "|-\n");
	for (const char *p = t->start; p < t->end; p = stop + 2) {
		stop = find_newline(p, t->end);
		if (stop > p) {
			put_spaces(w, indent);
			put_unescaped(w, p, stop);
		}
		put_str(w, "\n");
	}
}

static void put_text(struct writer *w, const struct text *t, enum style style)
{
	if (style == STYLE_PLAIN && !t->escapes)
		put(w, t->start, t->end - t->start);
	else if (style == STYLE_PLAIN)
		put_unescaped(w, t->start, t->end);
	else if (style == STYLE_SINGLE)
		put_single(w, t);
	else
		put_double(w, t);
}

/* ---- values ---- */

/* What stands before a value in its line, and how far it is indented itself. */
struct place {
	enum { AT_ROOT, AFTER_KEY, AFTER_MARK } where; /* a mark: "-", or ":" below "? key" */
	size_t indent;
};

static void show_string(struct writer *w, const struct place *at)
{
	struct text t = read_string(w);
	enum style style = value_style(&t);

	if (style == STYLE_LITERAL) {
		put_literal(w, &t, at->indent + INDENT);
		return;
	}
	put_text(w, &t, style);
	put_str(w, "\n");
}

/* Numbers, booleans and null. YAML 1.1 wants a point and a sign: 1e25 is 1.0e+25. */
static void show_other(struct writer *w)
{
	const char *start = w->p, *e;

	while (w->p < w->end && !strchr(",]}", *w->p))
		w->p++;
	e = strchr("tfn", *start) ? NULL : memchr(start, 'e', w->p - start);
	if (!e) {
		put(w, start, w->p - start);
	} else {
		put(w, start, e - start);
		put_str(w, memchr(start, '.', e - start) ? "" : ".0");
		put_str(w, e[1] == '-' ? "e" : "e+");
		put(w, e + 1, w->p - (e + 1));
	}
	put_str(w, "\n");
}

static void show_value(struct writer *w, struct place at);

static void show_member(struct writer *w, size_t indent)
{
	struct text key = read_string(w);
	size_t len = key.end - key.start - key.escapes;
	bool simple = !(key.has & HAS_BREAK) && len <= SIMPLE_KEY_MAX;

	w->p++; /* the colon */
	if (!simple)
		put_str(w, "? ");
	put_text(w, &key, key_style(&key));
	if (!simple) {
		put_str(w, "\n");
		put_spaces(w, indent);
	}
	put_str(w, ":");
	show_value(w, (struct place){simple ? AFTER_KEY : AFTER_MARK, indent});
}

static void show_element(struct writer *w, size_t indent)
{
	put_str(w, "-");
	show_value(w, (struct place){AFTER_MARK, indent});
}

/* One that isn't empty. What stands after a mark begins in its line. */
static void show_nested(struct writer *w, struct place at)
{
	bool is_map = *w->p == '{';
	size_t indent = at.indent;

	if (at.where == AFTER_MARK || (at.where == AFTER_KEY && is_map))
		indent += INDENT;
	if (at.where != AT_ROOT)
		put_str(w, at.where == AFTER_KEY ? "\n" : " ");
	for (bool first = true; first || *w->p == ','; first = false) {
		w->p++; /* the bracket or the comma */
		if (!first || at.where == AFTER_KEY)
			put_spaces(w, indent);
		if (is_map)
			show_member(w, indent);
		else
			show_element(w, indent);
	}
	w->p++;
}

static void show_value(struct writer *w, struct place at)
{
	bool opens = *w->p == '{' || *w->p == '[';

	if (opens && w->p[1] != '}' && w->p[1] != ']') {
		show_nested(w, at);
		return;
	}
	if (at.where != AT_ROOT)
		put_str(w, " ");
	if (opens) {
		put(w, w->p, 2);
		put_str(w, "\n");
		w->p += 2;
	} else if (*w->p == '"') {
		show_string(w, &at);
	} else {
		show_other(w);
	}
}

int yamltext_show(const char *json, size_t len, struct buf *out)
{
	struct writer w = {.p = json, .end = json + len, .out = out};
	size_t before = out->len;

	show_value(&w, (struct place){AT_ROOT, 0});
	buf_truncate(out, w.error < 0 ? before : out->len);
	return w.error;
}

uint64_t yamltext_size(const char *json, size_t len)
{
	struct writer w = {.p = json, .end = json + len};

	show_value(&w, (struct place){AT_ROOT, 0});
	return w.size;
}
