#include "client/reference.h"

#include "client/json.h"

#include <errno.h>

#define DOCKER_IMAGE "DockerImage"
#define INTERNAL     ".svc:5000"
#define SPACES	     " \t"

static bool is_odd(unsigned char c)
{
	return c < 0x20 || c == 0x7f || c == '%';
}

/*
 * At the ends a space would be taken for none; a slash in the first `lone` bytes for the end of a
 * namespace.
 */
static int add_name(struct buf *out, const char *name, size_t len, size_t lone)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < len; i++) {
		unsigned char c = name[i];
		bool end = i == 0 || i + 1 == len;

		r = is_odd(c) || (c == ' ' && end) || (c == '/' && i < lone)
			    ? buf_addf(out, "%%%02X", c)
			    : buf_add(out, &name[i], 1);
	}
	return r;
}

/* A member's text, "" where it is none. The caller frees. */
static char *text_of(const struct scan_value *from, const char *member, size_t *ret_len)
{
	char *text = scan_string(scan_find(from, member), ret_len);

	if (!text)
		*ret_len = 0;
	return text ? text : xstrdup("");
}

static int add_kind(struct buf *out, const char *kind)
{
	int r = add_name(out, kind, strlen(kind), 0);

	return r < 0 ? r : buf_addstr(out, " ");
}

int reference_show(const struct scan_value *from, struct buf *out)
{
	size_t len, kind_len, ns_len;
	_cleanup_free_ char *name = text_of(from, "name", &len);
	_cleanup_free_ char *given = text_of(from, "kind", &kind_len);
	_cleanup_free_ char *ns = text_of(from, "namespace", &ns_len);
	const char *kind = *given ? given : DOCKER_IMAGE;
	bool image = streq(kind, DOCKER_IMAGE), named = !image && *ns;
	int r = 0;

	if (!scan_is_object(from) || from->span == 1)
		return -ENOENT;
	if (!image || strpbrk(name, SPACES))
		r = add_kind(out, kind);
	if (r == 0 && named) {
		r = add_name(out, ns, strlen(ns), 0);
		r = r < 0 ? r : buf_addstr(out, "/");
	}
	if (r == 0)
		r = add_name(out, name, len, image || named ? 0 : strcspn(name, ":@"));
	return r < 0 ? r : buf_addstr(out, "\n");
}

static const char *kind_of(const json_t *from)
{
	const char *kind = json_str(from, "kind");

	return kind && *kind ? kind : DOCKER_IMAGE;
}

static int refuse(char **ret_error, const char *why)
{
	*ret_error = xstrdup(why);
	return -EINVAL;
}

static int hex_digit(char c)
{
	static const char digits[] = "0123456789ABCDEF";
	const char *p = c ? strchr(digits, c) : NULL;

	return p ? p - digits : -1;
}

/* What reference_show escapes is read back; any other '%' stands for itself. */
static json_t *read_name(const char *text, size_t len)
{
	_cleanup_free_ char *name = xmalloc(len + 1);
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		int high = text[i] == '%' && i + 2 < len ? hex_digit(text[i + 1]) : -1;
		int low = high < 0 ? -1 : hex_digit(text[i + 2]);
		unsigned char c = (unsigned char)(low < 0 ? text[i] : high * 16 + low);

		if (low >= 0 && (is_odd(c) || c == ' ' || c == '/'))
			i += 2;
		else
			c = text[i];
		name[n++] = c;
	}
	return json_stringn(name, n);
}

/* A namespace is a DNS label; a slash after ':' or '@' is the tag's own. */
static size_t namespace_len(const char *text, size_t len)
{
	for (size_t i = 0; i < len && text[i] != ':' && text[i] != '@'; i++)
		if (text[i] == '/')
			return i;
	return 0;
}

/* Of a line that says no more the server would make an image of that name. */
static bool is_kind(const char *word)
{
	return streq(word, DOCKER_IMAGE) || streq(word, "ImageStreamTag") ||
	       streq(word, "ImageStreamImage");
}

static int parse_line(const char *line, size_t len, json_t **ret, char **ret_error)
{
	size_t kind_len = strcspn(line, SPACES), ns_len = 0;
	_cleanup_json_ json_t *kind = NULL, *ns = NULL, *name = NULL;
	bool image = true;

	if (kind_len < len) {
		kind = read_name(line, kind_len);
		image = kind && streq(json_string_value(kind), DOCKER_IMAGE);
		kind_len += strspn(line + kind_len, SPACES);
		line += kind_len;
		len -= kind_len;
	} else {
		kind = json_string(DOCKER_IMAGE);
	}
	if (!image)
		ns_len = namespace_len(line, len);
	if (ns_len) {
		ns = read_name(line, ns_len);
		line += ns_len + 1;
		len -= ns_len + 1;
	}
	if (len == 0 || is_kind(line))
		return refuse(ret_error, "no name: KIND NAME, or KIND NAMESPACE/NAME");
	name = read_name(line, len);
	if (!kind || !name || (ns_len && !ns))
		return refuse(ret_error, "the reference is not UTF-8");
	*ret = json_pack("{s:O, s:O*, s:O}", "kind", kind, "namespace", ns, "name", name);
	return 0;
}

int reference_parse(const char *text, size_t len, json_t **ret, char **ret_error)
{
	size_t mark = json_mark(text, len);
	_cleanup_free_ char *line = NULL;
	char *p;

	text += mark;
	len -= mark;
	len -= len && text[len - 1] == '\n';
	len -= len && text[len - 1] == '\r';
	if (memchr(text, '\n', len) || memchr(text, '\r', len))
		return refuse(ret_error, "more than one line: a tag follows one reference");
	for (size_t i = 0; i < len; i++)
		if (((unsigned char)text[i] < 0x20 && text[i] != '\t') || text[i] == 0x7f)
			return refuse(ret_error, "a control character in the reference");
	line = xstrndup(text, len);
	while (len && strchr(SPACES, line[len - 1]))
		line[--len] = '\0';
	p = line + strspn(line, SPACES);
	len -= p - line;
	if (!len)
		return refuse(ret_error, "no reference: NAME, or KIND [NAMESPACE/]NAME");
	return parse_line(p, len, ret, ret_error);
}

static const char *namespace_of(const json_t *from, const char *ns)
{
	const char *named = json_str(from, "namespace");

	return named && *named ? named : ns;
}

bool reference_is_same(const json_t *a, const json_t *b, const char *ns)
{
	if (!streq(kind_of(a), kind_of(b)) ||
		!json_equal(json_object_get(a, "name"), json_object_get(b, "name")))
		return false;
	return streq(kind_of(a), DOCKER_IMAGE) || streq(namespace_of(a, ns), namespace_of(b, ns));
}

/* The next part up to the separator, if it isn't empty; NULL: there is none. The caller frees. */
static char *take_part(const char **p, char separator)
{
	const char *end = strchr(*p, separator), *begin = *p;

	if (!end || end == begin)
		return NULL;
	*p = end + 1;
	return xstrndup(begin, end - begin);
}

bool reference_split(const char *name, struct reference *ret)
{
	const char *p = name;

	*ret = (struct reference){0};
	ret->registry = take_part(&p, '/');
	ret->ns = ret->registry ? take_part(&p, '/') : NULL;
	ret->stream = ret->ns ? take_part(&p, '@') : NULL;
	if (ret->stream && *p && !strchr(ret->stream, '/') && !strchr(ret->stream, ':')) {
		ret->digest = xstrdup(p);
		return true;
	}
	reference_release(ret);
	return false;
}

void reference_release(struct reference *r)
{
	free(r->registry);
	free(r->ns);
	free(r->stream);
	free(r->digest);
	*r = (struct reference){0};
}

bool reference_is_in(const char *repository, const char *registry)
{
	size_t len = strlen(registry);

	return repository && strncmp(repository, registry, len) == 0 && repository[len] == '/';
}

bool reference_is_internal(const char *registry)
{
	size_t len = strlen(registry), n = strlen(INTERNAL);

	return len > n && streq(registry + len - n, INTERNAL);
}
