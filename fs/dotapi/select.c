#include "fs/dotapi/select.h"

#include "client/clock.h"
#include "client/list.h"
#include "fs/mount/namei.h"

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
	return s->n && bsearch(&name, s->names, s->n, sizeof(*s->names), compare);
}

/* ---- asking ---- */

/* What is asked for one selection, and what came of it. */
struct question {
	struct mount *mount;
	const struct api_call *call;
	const char *query;
	bool whole; /* links are called NAMESPACE.STREAM */
	struct selection *selection;
	struct status status;
	char *request; /* the last one */
};

/* list_item_fn */
static void add_item(void *arg, const char *text, size_t len)
{
	struct question *q = arg;
	struct selection *s = q->selection;
	_cleanup_json_ json_t *metadata = object_find_names(text, len);
	_cleanup_free_ char *why = NULL;
	const char *name;

	if (object_check_names(metadata, &why) < 0) {
		journal_add(q->mount->journal, NULL, q->request, 200, EINVAL, why);
		return;
	}
	if ((s->n & (s->n - 1)) == 0) /* it grows at powers of two */
		s->names = xrealloc(s->names, (s->n ? 2 * s->n : 1) * sizeof(*s->names));
	name = json_str(metadata, "name");
	s->names[s->n++] = q->whole ? xasprintf("%s.%s", json_str(metadata, "namespace"), name)
				    : xstrdup(name);
}

/* A mount that selects by itself (--selector) does so here too. -EINVAL for a name that means no text. */
static int add_query(struct mount *m, const struct place *path, struct buf *query)
{
	bool field = str_has_prefix(path->tag, FIELD);
	char text[NAME_SIZE];
	size_t len;

	if (layout_unescape(path->tag, text, &len) < 0 || strlen(text) != len)
		return -EINVAL;
	buf_addf(query, "?limit=%d", PAGE_LIMIT);
	if (field) {
		buf_addstr(query, "&fieldSelector=");
		buf_addurl(query, text + strlen(FIELD));
	}
	if (!field || m->selector)
		buf_addstr(query, "&labelSelector=");
	if (!field)
		buf_addurl(query, text);
	if (!field && len && m->selector)
		buf_addurl(query, ",");
	return m->selector ? buf_addurl(query, m->selector) : 0;
}

static int refuse(struct question *q, const char *message)
{
	status_release(&q->status);
	q->status = (struct status){.error = EIO, .message = xstrdup(message)};
	return -EIO;
}

/* One page; *more (NULL: the first) becomes where the next one begins. */
static int ask_page(struct question *q, const char *collection, char **more)
{
	_cleanup_buf_ struct buf url = BUF_INIT(1 << 20), answer = {0};
	_cleanup_json_ json_t *metadata = NULL;
	_cleanup_free_ char *before = steal_ptr(*more);
	struct api_request request = {.answer_max = HTTP_BODY_MAX};
	const char *next;
	int r;

	buf_addf(&url, "%s%s", collection, q->query);
	if (before) {
		buf_addstr(&url, "&continue=");
		buf_addurl(&url, before);
	}
	request.path = url.data;
	status_release(&q->status);
	free(q->request);
	q->request = xasprintf("GET %s", url.data);
	r = api_send_raw(q->mount->api, q->call, &request, &answer, &q->status);
	if (r < 0)
		return r;
	if (list_read(answer.data, answer.len, add_item, q, &metadata) < 0)
		return refuse(q, "the server's answer is no list");
	next = json_str(metadata, "continue");
	if (!next || !*next)
		return 0;
	if (before && streq(next, before))
		return refuse(q, "the list's continue leads nowhere new");
	*more = xstrdup(next);
	return 0;
}

/* One collection, page by page. */
static int ask(struct question *q, const char *collection)
{
	_cleanup_free_ char *more = NULL;
	int r;

	do {
		r = ask_page(q, collection, &more);
	} while (r == 0 && more);
	return r;
}

static bool add_namespace(void *arg, const char *name, uint64_t cookie, const struct place *path,
	const struct layout_attr *attr)
{
	json_array_append_new(arg, json_string(name));
	return false;
}

/* Those of every namespace that the mount shows and that we may list. */
static int ask_each(struct question *q)
{
	struct place root = {.kind = KIND_ROOT};
	_cleanup_json_ json_t *namespaces = json_array();
	const json_t *namespace;
	size_t i;
	int r;

	r = shown_list(q->mount->shown, &root, 0, add_namespace, namespaces);
	if (r < 0)
		return r;
	json_array_foreach(namespaces, i, namespace) {
		_cleanup_free_ char *collection =
			api_stream_path(q->mount->api, json_string_value(namespace), NULL);

		r = ask(q, collection);
		if (r < 0 && r != -EACCES)
			return r;
	}
	return 0;
}

static int ask_all(struct question *q, const struct place *path)
{
	_cleanup_free_ char *collection =
		api_stream_path(q->mount->api, q->whole ? NULL : path->namespace, NULL);
	int r = q->whole && q->mount->narrowed ? -EACCES : ask(q, collection);

	return r == -EACCES && q->whole ? ask_each(q) : r;
}

static int find_now(
	struct mount *m, const struct api_call *call, const struct place *path, struct selection *s)
{
	_cleanup_buf_ struct buf query = BUF_INIT(1 << 16);
	struct question q = {
		.mount = m, .call = call, .whole = !path->namespace[0], .selection = s};
	int r = add_query(m, path, &query);

	q.query = query.data;
	if (r == 0)
		r = ask_all(&q, path);
	if (r < 0) {
		_cleanup_free_ char *name = xasprintf("%s%s.api/select/%s", path->namespace,
			path->namespace[0] ? "/" : "", path->tag);

		journal_add(m->journal, name, q.request, q.status.code, -r,
			q.status.message ? q.status.message : strerror(-r));
	}
	if (s->n)
		qsort(s->names, s->n, sizeof(*s->names), compare);
	status_release(&q.status);
	free(q.request);
	return r;
}

/* How many changes the server has told: with none since, what it said of a selection still holds. */
static uint64_t received(struct mount *m)
{
	struct publish_counts counts;

	publish_get_counts(m->publisher, &counts);
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

int select_get(struct mount *m, const struct api_call *call, const struct place *path,
	enum select_age age, struct selection **ret)
{
	_cleanup_free_ char *key = xasprintf("%s/%s", path->namespace, path->tag);
	_cleanup_selection_ struct selection *s = age == SELECT_NOW ? NULL : find_last(m, key, age);
	int r = 0;

	if (!s) {
		s = xcalloc(1, sizeof(*s));
		atomic_init(&s->refs, 1);
		s->made = now_monotonic();
		s->received = received(m);
		r = find_now(m, call, path, s);
		if (r == 0)
			keep(m->selections, key, s);
	}
	if (r == 0)
		*ret = steal_ptr(s);
	return r;
}
