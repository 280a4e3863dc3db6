/* Cutting a text finds the members and elements that the parser finds in it. */
#include "fuzz.h"

#include "client/cut.h"
#include "client/json.h"

#define FLAGS (JSON_ALLOW_NUL | JSON_DECODE_ANY)

static json_t *parse(const struct piece *p)
{
	json_t *json;

	return json_read(p->p, p->len, FLAGS, &json, NULL) == 0 ? json : NULL;
}

static void check_piece(const char *text, size_t size, const struct piece *p)
{
	if (p->len == 0 || p->p < text || p->p + p->len > text + size)
		abort();
}

/* The key of a member that a parsed text has is a string without NULs. */
static void cut_member(struct cut *c, const char *text, size_t size, json_t *into, bool whole)
{
	_cleanup_json_ json_t *name = NULL, *json = NULL;
	struct piece key = {0}, value = {0};
	char plain[64];

	if (cut_key(c, &key) < 0 || cut_value(c, &value) < 0) {
		if (whole)
			abort();
		return;
	}
	check_piece(text, size, &key);
	check_piece(text, size, &value);
	name = parse(&key);
	json = parse(&value);
	if (whole && (!json_is_string(name) || !json))
		abort();
	if (!whole)
		return;
	if (cut_plain(&key, plain, sizeof(plain)) && !cut_is(&key, json_string_value(name)))
		abort();
	json_object_set(into, json_string_value(name), json);
}

static void cut_members(const char *text, size_t size, const json_t *expected)
{
	_cleanup_json_ json_t *found = json_object();
	struct cut c = CUT_INIT(text, size);
	int r = cut_enter(&c, '{');
	const char *before = NULL;

	while (r == 0 && (r = cut_next(&c, '}')) > 0 && c.p != before) {
		before = c.p;
		cut_member(&c, text, size, found, expected != NULL);
		r = 0;
	}
	if (expected && (r < 0 || cut_end(&c) < 0 || !json_equal(found, expected)))
		abort();
}

static void cut_elements(const char *text, size_t size, const json_t *expected)
{
	struct cut c = CUT_INIT(text, size);
	int r = cut_enter(&c, '[');
	struct piece value;
	size_t count = 0;

	while (r == 0 && (r = cut_next(&c, ']')) > 0 && (r = cut_value(&c, &value)) == 0) {
		_cleanup_json_ json_t *json = parse(&value);

		check_piece(text, size, &value);
		if (expected && !json_equal(json, json_array_get(expected, count)))
			abort();
		count++;
	}
	if (expected && (r < 0 || cut_end(&c) < 0 || count != json_array_size(expected)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = xmalloc(size + 1); /* so that a byte too far is found */
	struct piece all = {text, size};
	_cleanup_json_ json_t *json = NULL;

	memcpy(text, data, size);
	text = xrealloc(text, size ? size : 1);
	all.p = text;
	json = size ? parse(&all) : NULL;
	cut_members(text, size, json_is_object(json) ? json : NULL);
	cut_elements(text, size, json_is_array(json) ? json : NULL);
	return 0;
}
