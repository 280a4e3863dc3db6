#include "fs/mount/discover.h"

#include "client/clock.h"

#include <errno.h>

#define RIGHTS_WAIT_NS NSEC_PER_SEC

int discover_namespace(struct mount *m, struct pool_call *call, const char *name)
{
	_cleanup_grants_ struct grants *g = NULL;
	int r = api_find_namespace(m->api, call->http, name, &call->check);

	if (r != -EACCES)
		return r;
	if (!m->selector) /* what is read by name can't be selected */
		g = rights_wait(m->rights, name, now_monotonic(), &call->check, call->deadline);
	if (g && !(grants_of(g, NULL) & RIGHT_GET))
		r = -ENOENT;
	else
		r = api_find_project(m->api, call->http, name, &call->check);
	if (r == -EACCES)
		r = g ? 0 : -ENOENT;
	if (r == -ENOENT)
		rights_forget(m->rights, name);
	return r;
}

int discover_streams(struct mount *m, struct pool_call *call, const char *ns)
{
	int64_t soon = now_monotonic() + RIGHTS_WAIT_NS;
	int r;

	rights_use(m->rights, ns);
	if (!reflector_covers_cluster(m->reflector)) /* or not any more */
		shown_set_ready(m->shown, NULL, false);
	r = reflector_wait(m->reflector, ns, &call->check, m->api->timeout_ms);
	if (r == 0) {
		publish_wait(m->publisher, NULL, PUBLISH_SHOWN, NULL, INT64_MAX);
		shown_set_ready(m->shown, ns, true);
	}
	if (r == 0 || r == -EACCES)
		grants_unref(rights_wait(m->rights, ns, 1, &call->check,
			soon < call->deadline ? soon : call->deadline));
	return r;
}

/* What the server stores: the rest isn't asked for. */
static bool is_stream_name(const char *s)
{
	static const char inner[] = "abcdefghijklmnopqrstuvwxyz0123456789._-";

	return s[0] != '.' && s[0] != '_' && s[0] != '-' && strspn(s, inner) == strlen(s);
}

/* `keep`: one that isn't there is watched for, too. */
static int get_stream(
	struct mount *m, struct pool_call *call, const char *ns, const char *name, bool keep)
{
	_cleanup_view_ struct snapshot *snapshot = shown_snapshot(m->shown, ns, name);
	struct object *object;
	uint64_t asked;
	int r;

	if (snapshot)
		return 0;
	asked = store_list_begin(m->store);
	r = api_get_stream(m->api, call->http, ns, name, &call->check, &object);
	if (r == 0) {
		/* Who asks holds the directory: it is shown, not announced. */
		shown_set_ready(m->shown, ns, false);
		store_put_answer(m->store, object, asked);
		publish_wait(m->publisher, NULL, PUBLISH_SHOWN, NULL, INT64_MAX);
	}
	if (r == 0 || (r == -ENOENT && keep))
		reflector_add_stream(m->reflector, ns, name, keep);
	return r;
}

int discover_stream(struct mount *m, struct pool_call *call, const char *ns, const char *name)
{
	if (m->selector || !is_stream_name(name))
		return -ENOENT;
	return get_stream(m, call, ns, name, false);
}

struct named {
	struct mount *mount;
	struct pool_call *call;
	const char *ns;
	int error;
};

static void get_named(void *arg, const char *stream)
{
	struct named *n = arg;
	int r = 0;

	if (n->error == 0 && is_stream_name(stream))
		r = get_stream(n->mount, n->call, n->ns, stream, true);
	if (r < 0 && r != -ENOENT && r != -EACCES)
		n->error = r;
}

int discover_named_streams(struct mount *m, struct pool_call *call, const char *ns)
{
	_cleanup_grants_ struct grants *g = rights_get(m->rights, ns);
	struct named n = {m, call, ns, 0};

	if (m->selector || !grants_name(g))
		return -EACCES;
	grants_named(g, get_named, &n);
	return n.error;
}

/* shown_fn: into a JSON array. */
static bool add_name(void *arg, const char *name, uint64_t cookie, const struct place *path,
	const struct layout_attr *attr)
{
	json_array_append_new(arg, json_string(name));
	return false;
}

/* Every list is under way before the first is waited for. What can't be listed is left out. */
static int discover_all(struct mount *m, struct pool_call *call)
{
	_cleanup_json_ json_t *names = json_array();
	struct place root = {.kind = KIND_ROOT};
	json_t *name;
	size_t i;
	int r = 0;

	if (reflector_covers_cluster(m->reflector))
		return 0;
	shown_list(m->shown, &root, 0, add_name, names);
	json_array_foreach(names, i, name)
		reflector_need(m->reflector, json_string_value(name));
	json_array_foreach(names, i, name) {
		r = reflector_wait(
			m->reflector, json_string_value(name), &call->check, m->api->timeout_ms);
		if (r < 0 && r != -EACCES)
			return r;
	}
	return 0;
}

int discover_whole(struct mount *m, struct pool_call *call, const char *ns)
{
	int r;

	if (!*ns)
		return discover_all(m, call);
	r = discover_streams(m, call, ns);
	return r == -EACCES ? discover_named_streams(m, call, ns) : r;
}
