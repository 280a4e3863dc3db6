#include "fs/apifile.h"

#include <errno.h>

static json_t *string_or_null(const char *s)
{
	return s ? json_string(s) : json_null();
}

static int show_status(struct mount *m, struct buf *out)
{
	size_t namespaces, streams, bytes;
	char time[RFC3339_SIZE];
	_cleanup_json_ json_t *status = NULL;
	int r;

	store_counts(m->store, &namespaces, &streams, &bytes);
	rfc3339_format(m->started, time);
	status = json_pack("{s:s, s:o, s:o, s:s, s:O?, s:s, s:o, s:o, s:{s:I, s:I, s:I, s:I}, s:o}",
		"server", m->config->server, "context", string_or_null(m->config->context), "user",
		string_or_null(m->api->user), "apiRoot", m->api->root, "version", m->api->version,
		"mounted", time, "credentials", login_status(m->login), "scopes",
		reflector_status(m->reflector), "counts", "namespaces", (json_int_t)namespaces,
		"imagestreams", (json_int_t)streams, "bytes", (json_int_t)bytes, "nodes",
		(json_int_t)node_count(m->nodes), "lastError", journal_last(m->journal));
	r = buf_addjson(out, status, JSON_INDENT(2));
	return r < 0 ? r : buf_addstr(out, "\n");
}

int apifile_show(struct mount *m, enum node_kind kind, struct buf *out)
{
	switch (kind) {
	case NODE_API_STATUS:
		return show_status(m, out);
	case NODE_API_ERRORS:
		journal_show(m->journal, out);
		return 0;
	default:
		return -ENOENT;
	}
}
