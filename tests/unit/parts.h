/*
 * The parts of a mount without a mount, as fs/main.c puts them together: a connection to the test's
 * own server, a state directory of the test's own, one stream shop/web. After tests/unit/server.h.
 */
#ifndef TESTS_UNIT_PARTS_H
#define TESTS_UNIT_PARTS_H

#include "client/json.h"
#include "fs/mount/mount.h"
#include "fs/save/deleted.h"

#include <errno.h>
#include <ftw.h>

#define WEB  "shop/web"
#define PATH "/apis/image.openshift.io/v1/namespaces/shop/imagestreams/web"

static struct mount parts;
static char parts_state[] = "/tmp/test-parts-XXXXXX";

static void parts_changed(void *arg, const char *key, enum store_event event, struct object *object)
{
	publish_key(parts.publisher, key);
}

static int parts_inval_inode(void *arg, uint64_t id)
{
	return 0;
}

static void parts_inval_attr(void *arg, uint64_t id)
{
}

static void parts_inval_entry(void *arg, uint64_t parent, const char *name)
{
}

static inline void connect_api(void)
{
	char *error = NULL;

	answer(200, "{\"kind\": \"APIResourceList\"}"); /* the API's root */
	answer(200, "{}");				/* projects */
	answer(200, "{}");				/* the version */
	answer(200, "{\"metadata\": {\"name\": \"me\"}}");
	assert_int_equal(
		api_connect(server_login, parts.journal, 60000, INT64_MAX, &parts.api, &error), 0);
}

static inline void parts_begin(void)
{
	struct kernel_notify notify = {.inval_inode = parts_inval_inode,
		.inval_attr = parts_inval_attr,
		.inval_entry = parts_inval_entry};
	struct rights_listener nobody = {0};

	strcpy(parts_state + strlen(parts_state) - 6, "XXXXXX");
	assert_non_null(mkdtemp(parts_state));
	setenv("XDG_STATE_HOME", parts_state, 1);
	parts = (struct mount){.config = server_config,
		.login = server_login,
		.journal = journal_new(),
		.cache = object_cache_new(),
		.inodes = inode_table_new(),
		.bases = mergebase_new(),
		.acts = acts_new(),
		.validation = "Strict",
		.history = history_new(),
		.started = now_realtime(),
		.seconds = 1000,
		.uid = 7,
		.gid = 8,
		.umask = 022};
	connect_api();
	parts.indexes = indexes_new(parts.journal);
	parts.shown = shown_new(parts.indexes);
	parts.deleted = deleted_new("https://server", parts.journal);
	parts.rejects = rejects_new(parts.inodes, parts.journal, "https://server", 7, 8);
	parts.kernel = kernel_new(parts.shown, parts.inodes);
	parts.publisher = publish_new(&(struct publish_parts){
		.shown = parts.shown, .inodes = parts.inodes, .kernel = parts.kernel});
	parts.store = store_new(parts_changed, NULL);
	parts.rights = rights_new(parts.api, 300, 60, &nobody);
	publish_set_store(parts.publisher, parts.store);
	kernel_set_notify(parts.kernel, &notify);
	assert_int_equal(publish_start(parts.publisher), 0);
}

static int parts_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static inline void parts_end(void)
{
	publish_stop(parts.publisher);
	rights_free(parts.rights);
	publish_free(parts.publisher);
	kernel_free(parts.kernel);
	store_free(parts.store);
	rejects_free(parts.rejects);
	history_free(parts.history);
	mergebase_free(parts.bases);
	acts_free(parts.acts);
	deleted_free(parts.deleted);
	inode_table_free(parts.inodes);
	shown_free(parts.shown);
	object_cache_free(parts.cache);
	api_free(parts.api);
	indexes_free(parts.indexes);
	journal_free(parts.journal);
	nftw(parts_state, parts_remove, 16, FTW_DEPTH | FTW_PHYS);
}

/* The JSON text of a version of the stream, `spec` is that of its spec. The caller frees. */
static inline char *stream_text(const char *name, const char *uid, int version, const char *spec)
{
	return xasprintf("{\"kind\": \"ImageStream\", \"apiVersion\": \"image.openshift.io/v1\", "
			 "\"metadata\": {\"namespace\": \"shop\", \"name\": \"%s\", \"uid\": "
			 "\"%s\", \"resourceVersion\": \"%d\", \"creationTimestamp\": "
			 "\"2026-11-23T19:48:08Z\"}, \"spec\": %s}",
		name, uid, version, spec);
}

static inline void answer_web(int version, const char *spec)
{
	_cleanup_free_ char *text = stream_text("web", "u", version, spec);

	answer(200, text);
}

static inline void wait_shown(void)
{
	assert_int_equal(publish_wait(parts.publisher, NULL, PUBLISH_SHOWN, NULL, INT64_MAX), 0);
}

/* The watch brings it; it is only shown once nobody holds the stream. */
static inline void receive_as(const char *name, const char *uid, int version, const char *spec)
{
	_cleanup_free_ char *text = stream_text(name, uid, version, spec);
	struct object *o;

	assert_int_equal(object_from_text(text, strlen(text), NULL, &o, NULL), 0);
	store_put(parts.store, o, 0);
}

static inline void receive(int version, const char *spec)
{
	receive_as("web", "u", version, spec);
	wait_shown();
}

static inline void assert_shown(const char *version)
{
	_cleanup_view_ struct snapshot *s = shown_snapshot(parts.shown, "shop", "web");

	assert_non_null(s);
	assert_string_equal(s->object->resource_version, version);
}

static inline void assert_stored(const char *version)
{
	_cleanup_object_ struct object *o = store_get(parts.store, WEB);

	if (version)
		assert_string_equal(o->resource_version, version);
	else
		assert_null(o);
}

#endif
