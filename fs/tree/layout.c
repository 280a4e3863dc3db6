#include "fs/tree/layout.h"

#include "client/object.h"

#include <errno.h>
#include <stdatomic.h>

_Static_assert(OBJECT_NAME_MAX < NAME_SIZE, "the gate lets through what has no room");

/* clang-format off */
const struct layout_row layout[KIND_COUNT] = {
	[KIND_ROOT] =					{KIND_ROOT,	 NULL, true, false},
	[KIND_NAMESPACE] =				{KIND_ROOT,	 NULL, true, false},
	[KIND_STREAM] =					{KIND_NAMESPACE, NULL, true, false},
	[KIND_IMAGESTREAM_JSON] =			{KIND_STREAM,	 "imagestream.json", false, false},
	[KIND_IMAGESTREAM_YAML] =			{KIND_STREAM,	 "imagestream.yaml", false, false},
	[KIND_METADATA_JSON] =				{KIND_STREAM,	 "metadata.json", false, false},
	[KIND_SPEC_JSON] =				{KIND_STREAM,	 "spec.json", false, false},
	[KIND_STATUS_JSON] =				{KIND_STREAM,	 "status.json", false, false},
	[KIND_TAGS] =					{KIND_STREAM,	 "tags", true, false},
	[KIND_TAG] =					{KIND_TAGS,	 NULL, true, false},
	[KIND_TAG_SPEC] =				{KIND_TAG,	 "spec.json", false, false},
	[KIND_TAG_STATUS] =				{KIND_TAG,	 "status.json", false, false},
	[KIND_TAG_IMAGE] =				{KIND_TAG,	 "image", false, false},
	[KIND_API] =					{KIND_ROOT,	 ".api", true, true},
	[KIND_API_STATUS] =				{KIND_API,	 "status.json", false, false},
	[KIND_API_METRICS] =				{KIND_API,	 "metrics", false, false},
	[KIND_API_ERRORS] =				{KIND_API,	 "errors", false, false},
	[KIND_API_REFRESH] =				{KIND_API,	 "refresh", false, false},
	[KIND_API_EVENTS] =				{KIND_API,	 "events", false, false},
	[KIND_API_VERSION] =				{KIND_API,	 "version", false, false},
	[KIND_API_CREATE] =				{KIND_API,	 "create", false, false},
	[KIND_API_SELECT] =				{KIND_API,	 "select", true, false},
	[KIND_SELECTOR] =				{KIND_API_SELECT, NULL, true, false},
	[KIND_SELECTED] =				{KIND_SELECTOR,	 NULL, false, false},
	[KIND_NAMESPACE_API] =				{KIND_NAMESPACE, ".api", true, true},
	[KIND_NAMESPACE_EVENTS] =			{KIND_NAMESPACE_API, "events", false, false},
	[KIND_NAMESPACE_CREATE] =			{KIND_NAMESPACE_API, "create", false, false},
	[KIND_NAMESPACE_DELETE] =			{KIND_NAMESPACE_API, "delete", false, false},
	[KIND_NAMESPACE_SELECT] =			{KIND_NAMESPACE_API, "select", true, false},
	[KIND_STREAM_API] =				{KIND_STREAM,	 ".api", true, true},
	[KIND_STREAM_EVENTS] =				{KIND_STREAM_API, "events", false, false},
	[KIND_STREAM_DELETE] =				{KIND_STREAM_API, "delete", false, false},
	[KIND_JSON_PATCH] =				{KIND_STREAM_API, "json-patch", false, false},
	[KIND_MERGE_PATCH] =				{KIND_STREAM_API, "merge-patch", false, false},
	[KIND_STRATEGIC_MERGE_PATCH] =			{KIND_STREAM_API, "strategic-merge-patch", false, false},
	[KIND_STATUS_JSON_PATCH] =			{KIND_STREAM_API, "status-json-patch", false, false},
	[KIND_STATUS_MERGE_PATCH] =			{KIND_STREAM_API, "status-merge-patch", false, false},
	[KIND_STATUS_STRATEGIC_MERGE_PATCH] =		{KIND_STREAM_API, "status-strategic-merge-patch", false, false},
	[KIND_STATUS_REPLACE] =				{KIND_STREAM_API, "status-replace", false, false},
	[KIND_EXPORT] =					{KIND_STREAM_API, "export.json", false, false},
	[KIND_EXPORT_EXACT] =				{KIND_STREAM_API, "export-exact.json", false, false},
	[KIND_FRESH_JSON] =				{KIND_STREAM_API, "fresh.json", false, false},
	[KIND_FRESH_YAML] =				{KIND_STREAM_API, "fresh.yaml", false, false},
	[KIND_FRESH_PB] =				{KIND_STREAM_API, "fresh.pb", false, false},
	[KIND_FRESH_STATUS] =				{KIND_STREAM_API, "status.json", false, false},
	[KIND_SECRETS] =				{KIND_STREAM_API, "secrets.json", false, false},
	[KIND_LAYERS] =					{KIND_STREAM_API, "layers.json", false, false},
	[KIND_TAG_API] =				{KIND_TAG,	 ".api", true, true},
	[KIND_TAG_IMPORT] =				{KIND_TAG_API,	 "import", false, false},
	[KIND_SCRATCH] =				{KIND_STREAM,	 NULL, false, false},
};
/* clang-format on */

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
char *layout_target(const struct layout_path *path)
{
	const char *dot = strchr(path->stream, '.');

	if (path->namespace[0] || !dot)
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

	h = hash_bytes(h, &kind, sizeof(kind));
	h = hash_str(h, tag);
	h = hash_bytes(h, &born, sizeof(born));
	return h > 1 ? h : 2;
}
