#include "client/cut.h"

#include <endian.h>
#include <errno.h>

static void skip_spaces(struct cut *c)
{
	while (c->p < c->end && cut_is_space(*c->p)) {
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

/*
 * Of eight bytes, the first in the lowest: the lowest bit that is set is in the first byte that is a
 * quote, a backslash, a control character or part of a longer one. (A byte above may be set for no
 * reason of its own.)
 */
static uint64_t find_special(uint64_t word)
{
	const uint64_t ones = UINT64_MAX / 0xff, high = ones << 7;

	return (word | (word - ones * 0x20) | ((word ^ ones * '"') - ones) |
		       ((word ^ ones * '\\') - ones)) &
	       high;
}

const char *cut_skip_ordinary(const char *p, const char *end)
{
	uint64_t word, special;

	for (; (size_t)(end - p) >= sizeof(word); p += sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		special = find_special(le64toh(word));
		if (special)
			return p + __builtin_ctzll(special) / 8;
	}
	while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' &&
		*p != '\\')
		p++;
	return p;
}

/* From within a string to after its closing quote, or as far as there are bytes. */
static const char *search_string(struct border *s, const char *p, const char *end)
{
	for (;; p++) {
		if (!s->escaped)
			p = cut_skip_ordinary(p, end);
		if (p == end)
			return p;
		if (*p == '"' && !s->escaped)
			break;
		s->escaped = *p == '\\' && !s->escaped;
	}
	s->in_string = false;
	return p + 1;
}

const char *border_search(struct border *s, const char *p, const char *end)
{
	if (s->in_string)
		p = search_string(s, p, end);
	while (p < end && (s->depth > 0 || !s->begun)) {
		char c = *p++;

		s->begun = true;
		if (c == '"') {
			s->in_string = true;
			p = search_string(s, p, end);
		} else if (c == '{' || c == '[') {
			s->depth++;
		} else if (c == '}' || c == ']') {
			s->depth--;
		} else {
			s->spaces |= cut_is_space(c);
		}
	}
	return p;
}

/* A string, an object or an array, with all that is in it; NULL where it has no end. */
static const char *skip(struct cut *c, const char *p)
{
	struct border border = {0};

	p = border_search(&border, p, c->end);
	c->spaces |= border.spaces;
	return border_is_found(&border) ? p : NULL;
}

int cut_key(struct cut *c, struct piece *ret)
{
	const char *start, *end;

	skip_spaces(c);
	start = c->p;
	end = start < c->end && *start == '"' ? skip(c, start) : NULL;
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

static const char *skip_scalar(const char *p, const char *end)
{
	while (p < end && *p != ',' && *p != '}' && *p != ']' && !cut_is_space(*p))
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
	if (*start == '"' || *start == '{' || *start == '[')
		end = skip(c, start);
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

bool cut_plain(const struct piece *value, char *ret, size_t size)
{
	size_t len = value->len - 2;

	if (value->len < 2 || *value->p != '"' || len >= size || memchr(value->p, '\\', value->len))
		return false;
	memcpy(ret, value->p + 1, len);
	ret[len] = '\0';
	return true;
}

bool cut_find(const char *text, size_t len, const char *name, struct piece *ret)
{
	struct cut c = CUT_INIT(text, len);
	struct piece key, value;

	if (cut_enter(&c, '{') < 0)
		return false;
	while (cut_next(&c, '}') > 0 && cut_key(&c, &key) == 0 && cut_value(&c, &value) == 0) {
		if (cut_is(&key, name)) {
			*ret = value;
			return true;
		}
	}
	return false;
}
