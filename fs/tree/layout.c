#include "fs/tree/layout.h"

#include "client/object.h"

#include <errno.h>
#include <stdatomic.h>

_Static_assert(OBJECT_NAME_MAX < NAME_SIZE, "the gate lets through what has no room");

const struct layout_row layout[KIND_COUNT] = {
#define ROW(kind, parent, ...) [KIND_##kind] = {#kind, KIND_##parent, __VA_ARGS__},
	LAYOUT(ROW)
#undef ROW
};

int layout_put(enum kind kind, const struct scan_value *object, const struct attr_elements *tag,
	struct attr_sink *to)
{
	const struct layout_row *row = &layout[kind];
	const struct scan_value *part = attr_part(row->view, object, tag);

	return part ? row->show(part, patch_hidden(row->view), to) : -ENOENT;
}

int layout_show(enum kind kind, const json_t *object, const struct attr_tag *tag, struct buf *out)
{
	_cleanup_json_ json_t *value = attr_value(layout[kind].view, object, tag);
	_cleanup_buf_ struct buf text = BUF_INIT(ATTR_MAX);
	_cleanup_scan_ struct scan scan = SCAN_INIT;
	struct attr_sink to = {.bytes = out};
	int r = value ? buf_addjson(&text, value, JSON_COMPACT) : -ENOENT;

	if (r < 0)
		return r;
	scan_read_own(&scan, text.data, text.len);
	return layout[kind].show(scan.values, NULL, &to);
}

const char *layout_name(const struct place *path)
{
	switch (path->kind) {
	case KIND_NAMESPACE:
		return path->ns;
	case KIND_STREAM:
		return path->stream;
	case KIND_TAG:
		return path->tag;
	default:
		return layout[path->kind].name;
	}
}

enum kind layout_child(enum kind parent, const char *name)
{
	for (enum kind kind = KIND_ROOT + 1; kind < KIND_COUNT; kind++)
		if (layout[kind].parent == parent && layout[kind].name &&
			streq(layout[kind].name, name))
			return kind;
	return KIND_COUNT;
}

bool layout_is_selected(enum kind kind)
{
	return kind == KIND_SELECTOR || kind == KIND_SELECTED;
}

bool layout_is_select(enum kind kind)
{
	return kind == KIND_API_SELECT || kind == KIND_NAMESPACE_SELECT || kind == KIND_SELECTOR;
}

/* At the root a link is called NAMESPACE.STREAM: no namespace has a dot in it. */
char *layout_target(const struct place *path)
{
	const char *dot = strchr(path->stream, '.');

	if (path->ns[0] || !dot)
		return xasprintf("../../../%s", path->stream);
	return xasprintf("../../../%.*s/%s", (int)(dot - path->stream), path->stream, dot + 1);
}

static bool is_escaped(unsigned char c, size_t at)
{
	return c == '/' || c == '%' || c < 0x20 || c == 0x7f || (c == '.' && at == 0);
}

int layout_escape(const char *tag, size_t len, char ret[NAME_SIZE])
{
	char name[NAME_SIZE];
	size_t n = 0;

	if (len == 1 && tag[0] == '\0')
		return -EINVAL;
	if (len == 0) {
		strcpy(ret, "%00");
		return 0;
	}
	for (size_t i = 0; i < len; i++) {
		unsigned char c = tag[i];

		if (n + (is_escaped(c, i) ? 3 : 1) >= NAME_SIZE)
			return -ENAMETOOLONG;
		if (is_escaped(c, i))
			n += sprintf(name + n, "%%%02X", c);
		else
			name[n++] = c;
	}
	memcpy(ret, name, n);
	ret[n] = '\0';
	return 0;
}

int layout_escape_json(const json_t *name, char ret[NAME_SIZE])
{
	const char *text = json_string_value(name);

	return text ? layout_escape(text, json_string_length(name), ret) : -EINVAL;
}

static int hex_digit(char c)
{
	static const char digits[] = "0123456789ABCDEF";
	const char *p = c ? strchr(digits, c) : NULL;

	return p ? p - digits : -1;
}

int layout_unescape(const char *name, char ret[NAME_SIZE], size_t *ret_len)
{
	char raw[NAME_SIZE], again[NAME_SIZE];
	int high, low;
	size_t n = 0;

	if (strlen(name) >= NAME_SIZE)
		return -EINVAL;
	for (const char *p = name; *p; p++) {
		if (*p != '%') {
			raw[n++] = *p;
			continue;
		}
		high = hex_digit(p[1]);
		low = high < 0 ? -1 : hex_digit(p[2]);
		if (low < 0)
			return -EINVAL;
		raw[n++] = (char)(high * 16 + low);
		p += 2;
	}
	if (streq(name, "%00"))
		n = 0;
	/* One name for each tag: what wouldn't be written like this isn't one. */
	if (layout_escape(raw, n, again) < 0 || !streq(again, name))
		return -EINVAL;
	memcpy(ret, raw, n);
	ret[n] = '\0';
	*ret_len = n;
	return 0;
}

uint64_t layout_new_ino(void)
{
	static atomic_uint_fast64_t last;

	return UINT64_C(1) << 63 | ++last;
}

uint64_t layout_ino(const char *uid, enum kind kind, const char *tag, uint64_t born)
{
	uint64_t h = hash_str(HASH_INIT, uid);

	h = hash_str(h, layout[kind].kind);
	h = hash_str(h, tag);
	h = hash_bytes(h, &born, sizeof(born));
	return h > 1 ? h : 2;
}
