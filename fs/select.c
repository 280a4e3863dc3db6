#include "fs/select.h"

#include "fs/names.h"

#include <errno.h>

#define PAGE_LIMIT 500
#define KEPT	   16 /* listings that go on beside each other */
#define LAST_NS	   NSEC_PER_SEC
#define FIELD	   "field:"

struct kept {
	char *key;
	struct selection *selection;
};

struct selections {
	pthread_mutex_t lock;
	struct kept kept[KEPT]; /* lock; a ring */
	size_t next;		/* lock */
};

struct selections *selections_new(void)
{
	struct selections *s = xcalloc(1, sizeof(*s));

	pthread_mutex_init(&s->lock, NULL);
	return s;
}

static void drop(struct kept *k)
{
	free(k->key);
	selection_unref(k->selection);
	*k = (struct kept){0};
}

void selections_free(struct selections *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < KEPT; i++)
		drop(&s->kept[i]);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static struct selection *selection_ref(struct selection *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void selection_unref(struct selection *s)
{
	if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < s->n; i++)
		free(s->names[i]);
	free(s->names);
	free(s);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

bool selection_has(const struct selection *s, const char *name)
{
	return bsearch(&name, s->names, s->n, sizeof(*s->names), compare);
}

bool select_is_part(enum node_kind kind)
{
	return kind == NODE_SELECTOR || kind == NODE_SELECTED;
}

bool select_is_directory(enum node_kind kind)
{
	return kind == NODE_API_SELECT || kind == NODE_NAMESPACE_SELECT || kind == NODE_SELECTOR;
}

/* At the root a link is called NAMESPACE.STREAM: no namespace has a dot in it. */
char *select_target(const struct tree_path *path)
{
	const char *dot = strchr(path->stream, '.');

	if (path->namespace[0] || !dot)
		return xasprintf("../../../%s", path->stream);
	return xasprintf("../../../%.*s/%s", (int)(dot - path->stream), path->stream, dot + 1);
}

/* ---- asking ---- */

static void add_names(struct selection *s, const json_t *list, bool whole)
{
	const json_t *items = json_object_get(list, "items"), *item;
	size_t i;

	s->names = xrealloc(s->names, (s->n + json_array_size(items) + 1) * sizeof(*s->names));
	json_array_foreach(items, i, item)
	{
		const json_t *metadata = json_object_get(item, "metadata");
		const char *namespace = json_str(metadata, "namespace");
		const char *name = json_str(metadata, "name");

		if (name && namespace)
			s->names[s->n++] =
				whole ? xasprintf("%s.%s", namespace, name) : xstrdup(name);
	}
}

/* The URL of the first page. -EINVAL for a name that means no text. What -l hides isn't selected. */
static int add_url(
	struct mount *m, const struct tree_path *path, const char *namespace, struct buf *url)
{
	_cleanup_free_ char *collection = *namespace ? api_stream_path(m->api, namespace, NULL)
						     : xasprintf("%s/imagestreams", m->api->root);
	bool field = str_has_prefix(path->tag, FIELD);
	char text[NAME_SIZE];
	size_t len;

	if (tree_unescape(path->tag, text, &len) < 0 || strlen(text) != len)
		return -EINVAL;
	buf_addf(url, "%s?limit=%d&%s=", collection, PAGE_LIMIT,
		field ? "fieldSelector" : "labelSelector");
	buf_addurl(url, text + (field ? strlen(FIELD) : 0));
	if (!m->selector)
		return 0;
	buf_addstr(url, field ? "&labelSelector=" : len ? "%2C" : "");
	return buf_addurl(url, m->selector);
}

static int ask(struct mount *m, const struct api_call *call, const char *first, bool whole,
	struct selection *s, struct status *status)
{
	_cleanup_free_ char *more = NULL;
	int r;

	do {
		_cleanup_buf_ struct buf url = BUF_INIT(1 << 20);
		_cleanup_json_ json_t *list = NULL;
		const char *next;

		buf_addstr(&url, first);
		if (more) {
			buf_addstr(&url, "&continue=");
			buf_addurl(&url, more);
		}
		r = api_send(m->api, call, &(struct api_request){.path = url.data}, &list, status);
		add_names(s, list, whole);
		next = json_str(json_object_get(list, "metadata"), "continue");
		free(more);
		more = next && *next ? xstrdup(next) : NULL;
	} while (r == 0 && more);
	return r;
}

/* The streams of one namespace, "": of all. A failure is noted. */
static int ask_namespace(struct mount *m, const struct api_call *call, const struct tree_path *path,
	const char *namespace, struct selection *s)
{
	_cleanup_buf_ struct buf url = BUF_INIT(1 << 16);
	_cleanup_status_ struct status status = {0};
	_cleanup_free_ char *name = NULL, *request = NULL;
	int r = add_url(m, path, namespace, &url);

	if (r == 0)
		r = ask(m, call, url.data, !path->namespace[0], s, &status);
	if (r == 0)
		return 0;
	name = xasprintf(
		"%s%s.api/select/%s", path->namespace, path->namespace[0] ? "/" : "", path->tag);
	request = url.data ? xasprintf("GET %s", url.data) : NULL;
	journal_add(m->journal, name, request, status.code, -r,
		status.message ? status.message : strerror(-r));
	return r;
}

/* At the root of a mount of some namespaces: each of them, and nothing else is asked for. */
static int ask_all(struct mount *m, const struct api_call *call, const struct tree_path *path,
	struct selection *s)
{
	const json_t *namespace;
	int r = 0;
	size_t i;

	if (path->namespace[0] || !m->namespaces)
		r = ask_namespace(m, call, path, path->namespace, s);
	else
		json_array_foreach(m->namespaces, i, namespace)
		{
			if (r == 0)
				r = ask_namespace(m, call, path, json_string_value(namespace), s);
		}
	if (s->n)
		qsort(s->names, s->n, sizeof(*s->names), compare);
	return r;
}

/* How many changes the server has told: with none since, what it said of a selection still holds. */
static uint64_t received(struct mount *m)
{
	struct publish_counts counts;

	publish_get_counts(m->publish, &counts);
	return counts.received;
}

static struct selection *find_last(struct mount *m, const char *key, enum select_age age)
{
	uint64_t now = age == SELECT_UNCHANGED ? received(m) : 0;
	struct selections *s = m->selections;
	struct selection *found = NULL;

	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < KEPT; i++) {
		struct kept *k = &s->kept[i];

		if (k->key && now_monotonic() - k->selection->made > LAST_NS)
			drop(k);
		else if (k->key && streq(k->key, key) &&
			 (age == SELECT_GOING_ON || k->selection->received == now))
			found = k->selection;
	}
	if (found)
		selection_ref(found);
	pthread_mutex_unlock(&s->lock);
	return found;
}

static void keep(struct selections *s, const char *key, struct selection *selection)
{
	struct kept *k;

	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < KEPT; i++)
		if (s->kept[i].key && streq(s->kept[i].key, key))
			drop(&s->kept[i]);
	k = &s->kept[s->next++ % KEPT];
	drop(k);
	*k = (struct kept){xstrdup(key), selection_ref(selection)};
	pthread_mutex_unlock(&s->lock);
}

int select_get(struct mount *m, const struct api_call *call, const struct tree_path *path,
	enum select_age age, struct selection **ret)
{
	_cleanup_free_ char *key = xasprintf("%s/%s", path->namespace, path->tag);
	_cleanup_selection_ struct selection *s = age == SELECT_NOW ? NULL : find_last(m, key, age);
	int r;

	if (!s) {
		s = xcalloc(1, sizeof(*s));
		atomic_init(&s->refs, 1);
		s->made = now_monotonic();
		s->received = received(m);
		r = ask_all(m, call, path, s);
		if (r < 0)
			return r;
		keep(m->selections, key, s);
	}
	*ret = steal_ptr(s);
	return 0;
}
