#include "fs/apifile.h"

#include "fs/metrics.h"
#include "fs/names.h"

#include <errno.h>
#include <sys/stat.h>

typedef int show_fn(struct mount *m, const struct tree_path *path, struct buf *out);
typedef int store_fn(struct apifile_call *c);

static json_t *string_or_null(const char *s)
{
	return s ? json_string(s) : json_null();
}

static int show_status(struct mount *m, const struct tree_path *path, struct buf *out)
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

static int show_metrics(struct mount *m, const struct tree_path *path, struct buf *out)
{
	return metrics_show(m, out);
}

static int show_errors(struct mount *m, const struct tree_path *path, struct buf *out)
{
	journal_show(m->journal, out);
	return 0;
}

static int show_answer(struct mount *m, const struct tree_path *path, struct buf *out)
{
	_cleanup_free_ char *name = names_text(path);

	return answers_show(m->answers, name, out);
}

static int64_t ms_left(const struct apifile_call *c)
{
	return (c->api->deadline - now_monotonic()) / NSEC_PER_MSEC;
}

static int refresh(struct apifile_call *c)
{
	int r = reflector_refresh(c->mount->reflector, c->api->check, ms_left(c));

	return r < 0 ? r : publish_settle(c->mount->publish, c->api->check, ms_left(c));
}

static const struct row {
	mode_t mode;
	show_fn *show;
	store_fn *store;
} rows[NODE_KINDS] = {
	[NODE_API_STATUS] = {0444, show_status, NULL},
	[NODE_API_METRICS] = {0444, show_metrics, NULL},
	[NODE_API_ERRORS] = {0444, show_errors, NULL},
	[NODE_API_REFRESH] = {0600, show_answer, refresh},
	[NODE_API_EVENTS] = {0444, NULL, NULL},
	[NODE_NAMESPACE_EVENTS] = {0444, NULL, NULL},
	[NODE_STREAM_EVENTS] = {0444, NULL, NULL},
};

mode_t apifile_mode(enum node_kind kind)
{
	return rows[kind].mode;
}

bool apifile_is_events(enum node_kind kind)
{
	return rows[kind].mode && !rows[kind].show;
}

int apifile_show(struct mount *m, const struct tree_path *path, struct buf *out)
{
	return rows[path->kind].show(m, path, out);
}

int apifile_store(struct mount *m, const struct api_call *api, const struct tree_path *path,
	const char *text, size_t len)
{
	_cleanup_free_ char *name = names_text(path);
	struct apifile_call c = {.mount = m,
		.api = api,
		.path = path,
		.text = text,
		.len = len,
		.answer = BUF_INIT(HTTP_BODY_MAX)};
	int r = rows[path->kind].store(&c);

	if (r < 0)
		journal_add(m->journal, name, c.request, c.status.code, -r,
			c.status.message ? c.status.message : strerror(-r));
	answers_set(m->answers, name, &c.answer);
	status_release(&c.status);
	free(c.request);
	return r;
}
