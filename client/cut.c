#include "client/cut.h"

#include <errno.h>

static bool is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static void skip_spaces(struct cut *c)
{
	while (c->p < c->end && is_space(*c->p)) {
		c->p++;
		c->spaces = true;
	}
}

int cut_enter(struct cut *c, char bracket)
{
	skip_spaces(c);
	if (c->p == c->end || *c->p != bracket)
		return -EBADMSG;
	c->p++;
	c->first = true;
	return 0;
}

int cut_next(struct cut *c, char bracket)
{
	bool first = c->first;

	skip_spaces(c);
	c->first = false;
	if (c->p == c->end)
		return -EBADMSG;
	if (*c->p == bracket) {
		c->p++;
		return 0;
	}
	if (first)
		return 1;
	if (*c->p != ',')
		return -EBADMSG;
	c->p++;
	return 1;
}

/* From the opening quote to after the closing one; NULL where it has none. */
static const char *skip_string(const char *p, const char *end)
{
	for (p++; (p = memchr(p, '"', end - p)); p++) {
		const char *q = p;

		while (q[-1] == '\\') /* the opening quote ends this at the latest */
			q--;
		if ((p - q) % 2 == 0)
			return p + 1;
	}
	return NULL;
}

int cut_key(struct cut *c, struct piece *ret)
{
	const char *start, *end;

	skip_spaces(c);
	start = c->p;
	end = start < c->end && *start == '"' ? skip_string(start, c->end) : NULL;
	if (!end)
		return -EBADMSG;
	c->p = end;
	skip_spaces(c);
	if (c->p == c->end || *c->p != ':')
		return -EBADMSG;
	c->p++;
	*ret = (struct piece){start, end - start};
	return 0;
}

/* An object or array, with all that is in it. */
static const char *skip_nested(const char *p, const char *end, bool *spaces)
{
	size_t depth = 0;

	while (p < end) {
		switch (*p) {
		case '"':
			p = skip_string(p, end);
			if (!p)
				return NULL;
			continue;
		case '{':
		case '[':
			depth++;
			break;
		case '}':
		case ']':
			if (--depth == 0)
				return p + 1;
			break;
		default:
			*spaces |= is_space(*p);
		}
		p++;
	}
	return NULL;
}

static const char *skip_scalar(const char *p, const char *end)
{
	while (p < end && *p != ',' && *p != '}' && *p != ']' && !is_space(*p))
		p++;
	return p;
}

int cut_value(struct cut *c, struct piece *ret)
{
	const char *start, *end;

	skip_spaces(c);
	start = c->p;
	if (start == c->end)
		return -EBADMSG;
	if (*start == '"')
		end = skip_string(start, c->end);
	else if (*start == '{' || *start == '[')
		end = skip_nested(start, c->end, &c->spaces);
	else
		end = skip_scalar(start, c->end);
	if (!end || end == start)
		return -EBADMSG;
	c->p = end;
	*ret = (struct piece){start, end - start};
	return 0;
}

int cut_end(struct cut *c)
{
	skip_spaces(c);
	return c->p == c->end ? 0 : -EBADMSG;
}

bool cut_is(const struct piece *key, const char *name)
{
	size_t len = strlen(name);

	return key->len == len + 2 && memcmp(key->p + 1, name, len) == 0;
}

bool cut_plain(const struct piece *value, char *ret, size_t size)
{
	size_t len = value->len - 2;

	if (value->len < 2 || *value->p != '"' || len >= size || memchr(value->p, '\\', value->len))
		return false;
	memcpy(ret, value->p + 1, len);
	ret[len] = '\0';
	return true;
}
