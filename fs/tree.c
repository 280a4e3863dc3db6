#include "fs/tree.h"

#include "client/object.h"

#include <errno.h>
#include <stdatomic.h>

_Static_assert(OBJECT_NAME_MAX < NAME_SIZE, "the gate lets through what has no room");

/* clang-format off */
const struct tree_node tree_nodes[NODE_KINDS] = {
	[NODE_ROOT] =					{NODE_ROOT,	 NULL, true, false},
	[NODE_NAMESPACE] =				{NODE_ROOT,	 NULL, true, false},
	[NODE_STREAM] =					{NODE_NAMESPACE, NULL, true, false},
	[NODE_IMAGESTREAM_JSON] =			{NODE_STREAM,	 "imagestream.json", false, false},
	[NODE_IMAGESTREAM_YAML] =			{NODE_STREAM,	 "imagestream.yaml", false, false},
	[NODE_METADATA_JSON] =				{NODE_STREAM,	 "metadata.json", false, false},
	[NODE_SPEC_JSON] =				{NODE_STREAM,	 "spec.json", false, false},
	[NODE_STATUS_JSON] =				{NODE_STREAM,	 "status.json", false, false},
	[NODE_TAGS] =					{NODE_STREAM,	 "tags", true, false},
	[NODE_TAG] =					{NODE_TAGS,	 NULL, true, false},
	[NODE_TAG_SPEC] =				{NODE_TAG,	 "spec.json", false, false},
	[NODE_TAG_STATUS] =				{NODE_TAG,	 "status.json", false, false},
	[NODE_TAG_IMAGE] =				{NODE_TAG,	 "image", false, false},
	[NODE_API] =					{NODE_ROOT,	 ".api", true, true},
	[NODE_API_STATUS] =				{NODE_API,	 "status.json", false, false},
	[NODE_API_METRICS] =				{NODE_API,	 "metrics", false, false},
	[NODE_API_ERRORS] =				{NODE_API,	 "errors", false, false},
	[NODE_API_REFRESH] =				{NODE_API,	 "refresh", false, false},
	[NODE_API_EVENTS] =				{NODE_API,	 "events", false, false},
	[NODE_API_VERSION] =				{NODE_API,	 "version", false, false},
	[NODE_API_CREATE] =				{NODE_API,	 "create", false, false},
	[NODE_API_SELECT] =				{NODE_API,	 "select", true, false},
	[NODE_SELECTOR] =				{NODE_API_SELECT, NULL, true, false},
	[NODE_SELECTED] =				{NODE_SELECTOR,	 NULL, false, false},
	[NODE_NAMESPACE_API] =				{NODE_NAMESPACE, ".api", true, true},
	[NODE_NAMESPACE_EVENTS] =			{NODE_NAMESPACE_API, "events", false, false},
	[NODE_NAMESPACE_CREATE] =			{NODE_NAMESPACE_API, "create", false, false},
	[NODE_NAMESPACE_DELETE] =			{NODE_NAMESPACE_API, "delete", false, false},
	[NODE_NAMESPACE_SELECT] =			{NODE_NAMESPACE_API, "select", true, false},
	[NODE_STREAM_API] =				{NODE_STREAM,	 ".api", true, true},
	[NODE_STREAM_EVENTS] =				{NODE_STREAM_API, "events", false, false},
	[NODE_STREAM_DELETE] =				{NODE_STREAM_API, "delete", false, false},
	[NODE_JSON_PATCH] =				{NODE_STREAM_API, "json-patch", false, false},
	[NODE_MERGE_PATCH] =				{NODE_STREAM_API, "merge-patch", false, false},
	[NODE_STRATEGIC_MERGE_PATCH] =			{NODE_STREAM_API, "strategic-merge-patch", false, false},
	[NODE_STATUS_JSON_PATCH] =			{NODE_STREAM_API, "status-json-patch", false, false},
	[NODE_STATUS_MERGE_PATCH] =			{NODE_STREAM_API, "status-merge-patch", false, false},
	[NODE_STATUS_STRATEGIC_MERGE_PATCH] =		{NODE_STREAM_API, "status-strategic-merge-patch", false, false},
	[NODE_STATUS_REPLACE] =				{NODE_STREAM_API, "status-replace", false, false},
	[NODE_EXPORT] =					{NODE_STREAM_API, "export.json", false, false},
	[NODE_EXPORT_EXACT] =				{NODE_STREAM_API, "export-exact.json", false, false},
	[NODE_FRESH_JSON] =				{NODE_STREAM_API, "fresh.json", false, false},
	[NODE_FRESH_YAML] =				{NODE_STREAM_API, "fresh.yaml", false, false},
	[NODE_FRESH_PB] =				{NODE_STREAM_API, "fresh.pb", false, false},
	[NODE_FRESH_STATUS] =				{NODE_STREAM_API, "status.json", false, false},
	[NODE_SECRETS] =				{NODE_STREAM_API, "secrets.json", false, false},
	[NODE_LAYERS] =					{NODE_STREAM_API, "layers.json", false, false},
	[NODE_TAG_API] =				{NODE_TAG,	 ".api", true, true},
	[NODE_TAG_IMPORT] =				{NODE_TAG_API,	 "import", false, false},
	[NODE_SCRATCH] =				{NODE_STREAM,	 NULL, false, false},
};
/* clang-format on */

enum node_kind tree_child(enum node_kind parent, const char *name)
{
	for (enum node_kind kind = NODE_ROOT + 1; kind < NODE_KINDS; kind++)
		if (tree_nodes[kind].parent == parent && tree_nodes[kind].name &&
			streq(tree_nodes[kind].name, name))
			return kind;
	return NODE_KINDS;
}

static bool is_escaped(unsigned char c, size_t at)
{
	return c == '/' || c == '%' || c < 0x20 || c == 0x7f || (c == '.' && at == 0);
}

int tree_escape(const char *tag, size_t len, char ret[NAME_SIZE])
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

int tree_unescape(const char *name, char ret[NAME_SIZE], size_t *ret_len)
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
	if (tree_escape(raw, n, again) < 0 || !streq(again, name))
		return -EINVAL;
	memcpy(ret, raw, n);
	ret[n] = '\0';
	*ret_len = n;
	return 0;
}

uint64_t tree_new_ino(void)
{
	static atomic_uint_fast64_t last;

	return UINT64_C(1) << 63 | ++last;
}

uint64_t tree_ino(const char *uid, enum node_kind kind, const char *tag, uint64_t born)
{
	uint64_t h = hash_str(HASH_INIT, uid);

	h = hash_bytes(h, &kind, sizeof(kind));
	h = hash_str(h, tag);
	h = hash_bytes(h, &born, sizeof(born));
	return h > 1 ? h : 2;
}
