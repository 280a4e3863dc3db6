#include "fs/dotapi/metrics.h"

#include "client/clock.h"
#include "fs/dotapi/events.h"
#include "fs/dotapi/pushed.h"
#include "fs/dotapi/request.h"
#include "version.h"

#include <dirent.h>
#include <inttypes.h>

static void add(
	struct buf *out, const char *name, const char *type, const char *help, uint64_t value)
{
	buf_addf(out,
		"# HELP imagestreamfs_%s %s\n# TYPE imagestreamfs_%s %s\nimagestreamfs_%s %" PRIu64
		"\n",
		name, help, name, type, name, value);
}

/* A label's value: quotes, backslashes and line ends are escaped. */
static void add_label(struct buf *out, const char *value)
{
	for (; *value; value++) {
		if (*value == '\n')
			buf_addstr(out, "\\n");
		else if (*value == '"' || *value == '\\')
			buf_addf(out, "\\%c", *value);
		else
			buf_add(out, value, 1);
	}
}

/* What each scope does (client/scope.h): 1 for the state that it is in. */
static void show_states(const json_t *scopes, struct buf *out)
{
	const json_t *scope;
	size_t i;

	buf_addstr(out, "# HELP imagestreamfs_scope_state What is done to keep it true.\n"
			"# TYPE imagestreamfs_scope_state gauge\n");
	json_array_foreach(scopes, i, scope) {
		buf_addstr(out, "imagestreamfs_scope_state{path=\"");
		add_label(out, json_str(scope, "path"));
		buf_addf(out, "\",state=\"%s\"} 1\n", json_str(scope, "state"));
	}
}

/* How long ago the server was heard, a line for each scope. */
static void show_watches(struct mount *m, struct buf *out)
{
	_cleanup_json_ json_t *scopes = reflector_status(m->reflector);
	const json_t *scope;
	size_t i;

	buf_addstr(out, "# HELP imagestreamfs_watch_age_seconds Time since the server was heard.\n"
			"# TYPE imagestreamfs_watch_age_seconds gauge\n");
	json_array_foreach(scopes, i, scope) {
		const json_t *age = json_object_get(scope, "ageSeconds");

		if (!json_is_number(age))
			continue;
		buf_addstr(out, "imagestreamfs_watch_age_seconds{path=\"");
		add_label(out, json_str(scope, "path"));
		buf_addf(out, "\",state=\"%s\"} %.3f\n", json_str(scope, "state"),
			json_number_value(age));
	}
	show_states(scopes, out);
}

static bool announcer_works(struct mount *m)
{
	struct announce_status status = {.state = ANNOUNCE_LOST};

	if (m->announce)
		announce_get_status(m->announce, &status);
	return status.state == ANNOUNCE_READY;
}

static size_t count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t n = 0;

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n > 3 ? n - 3 : 0; /* ".", ".." and its own */
}

/* What every exporter has. */
static void show_program(struct mount *m, struct buf *out)
{
	buf_addstr(out, "# HELP imagestreamfs_build_info Always 1.\n"
			"# TYPE imagestreamfs_build_info gauge\n"
			"imagestreamfs_build_info{version=\"" IMAGESTREAMFS_VERSION "\"} 1\n");
	add(out, "up", "gauge", "1 while the program serves the mount.", 1);
	buf_addf(out,
		"# HELP process_start_time_seconds Start of the process, seconds since 1970.\n"
		"# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %.3f\n"
		"# HELP process_open_fds Open descriptors.\n# TYPE process_open_fds gauge\n"
		"process_open_fds %zu\n",
		(double)m->started / NSEC_PER_SEC, count_descriptors());
}

/* The streams come in the order of their keys, so a namespace's stand together. */
static void show_failures(struct mount *m, struct buf *out)
{
	struct object **objects;
	size_t count = store_objects(m->store, NULL, NULL, &objects), n = 0;

	buf_addstr(out, "# HELP imagestreamfs_failing_tags Tags whose newest import failed.\n"
			"# TYPE imagestreamfs_failing_tags gauge\n");
	for (size_t i = 0; i < count; i++) {
		const char *key = objects[i]->key;
		size_t len = strcspn(key, "/") + 1;

		n += request_failures(objects[i]);
		if (i + 1 < count && strncmp(objects[i + 1]->key, key, len) == 0)
			continue;
		if (n)
			buf_addf(out, "imagestreamfs_failing_tags{namespace=\"%.*s\"} %zu\n",
				(int)len - 1, key, n);
		n = 0;
	}
	store_objects_free(objects, count);
}

static void show_pushes(struct mount *m, struct buf *out)
{
	_cleanup_json_ json_t *counts = pushed_counts(m->pushed);
	const char *ns;
	json_t *n;

	buf_addstr(out, "# HELP imagestreamfs_pushes_total New images of tags.\n"
			"# TYPE imagestreamfs_pushes_total counter\n");
	json_object_foreach(counts, ns, n) {
		buf_addstr(out, "imagestreamfs_pushes_total{namespace=\"");
		add_label(out, ns);
		buf_addf(out, "\"} %" JSON_INTEGER_FORMAT "\n", json_integer_value(n));
	}
}

int metrics_show(struct mount *m, struct buf *out)
{
	struct publish_counts events;
	size_t namespaces, streams, bytes, scratch_bytes, scratch_nodes;

	publish_get_counts(m->publisher, &events);
	store_counts(m->store, &namespaces, &streams, &bytes);
	scratch_usage(m->inodes, &scratch_bytes, &scratch_nodes);
	show_program(m, out);
	show_watches(m, out);
	add(out, "events_received_total", "counter", "Changes that the server told.",
		events.received);
	add(out, "events_published_total", "counter", "Changes that the tree shows.", events.shown);
	add(out, "events_announced_total", "counter", "Steps of them that raised inotify events.",
		events.announced);
	add(out, "events_silent_total", "counter", "Steps that nobody could see.", events.silent);
	add(out, "events_lost_total", "counter", "Steps shown without their events.", events.lost);
	add(out, "announcer_works", "gauge", "1 while changes raise inotify events.",
		announcer_works(m));
	add(out, "namespaces", "gauge", "Namespaces listed.", namespaces);
	add(out, "imagestreams", "gauge", "ImageStreams held.", streams);
	show_failures(m, out);
	show_pushes(m, out);
	add(out, "store_bytes", "gauge", "Their JSON.", bytes);
	add(out, "nodes", "gauge", "Inodes that the kernel knows.", inode_count(m->inodes));
	add(out, "drafts", "gauge", "Files open for writing.", handle_drafts(m->inodes));
	add(out, "scratch_bytes", "gauge", "Bytes in scratch files.", scratch_bytes);
	add(out, "errors_total", "counter", "Failures noted in .api/errors.",
		journal_count(m->journal));
	return counts_show(m->api->counts, out);
}
