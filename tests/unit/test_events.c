/*
 * The files `events` of .api: who is told what, who waits and how a wait ends. Requests are
 * libfuse's own, and the test stands in the kernel's place.
 */
#include "client/buf.h"
#include "fs/dotapi/events.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/kernel.h"

static struct events *e;

static int setup(void **state)
{
	kernel_begin();
	e = events_new();
	return 0;
}

static int teardown(void **state)
{
	events_stop(e);
	events_free(e);
	kernel_end();
	return 0;
}

/* A version of a stream, the store's number `order`. */
static struct object *make(const char *key, uint64_t order, const char *content)
{
	const char *name = strchr(key, '/') + 1;
	_cleanup_json_ json_t *json = NULL;
	char number[24];
	struct object *o;

	sprintf(number, "%d", (int)order);
	json = json_pack("{s:{s:s%, s:s, s:s, s:s, s:s}, s:{s:s}}", "metadata", "namespace", key,
		(size_t)(name - 1 - key), "name", name, "uid", "u", "resourceVersion", number,
		"creationTimestamp", "2026-11-23T19:48:08Z", "spec", "content", content);
	assert_int_equal(object_from_json(json, "image.openshift.io/v1", &o), 0);
	o->order = order;
	return o;
}

static void add_with(enum store_event event, const char *key, uint64_t order, const char *content)
{
	_cleanup_object_ struct object *o = make(key, order, content);

	events_add(e, event, o);
}

static void add(enum store_event event, const char *key, uint64_t order)
{
	add_with(event, key, order, "");
}

static uint64_t read_with(struct events_reader *r, size_t size, int flags)
{
	uint64_t unique = ask(getpid());

	events_read(e, r, req_of(unique), size, flags);
	return unique;
}

static uint64_t read_of(struct events_reader *r)
{
	return read_with(r, 1 << 17, 0);
}

/* What the answer tells, as "TYPE key version;" for each line. The caller frees. */
static char *told(uint64_t unique)
{
	const struct asked *a = hear(unique);
	_cleanup_buf_ struct buf out = BUF_INIT(SIZE_MAX);
	const char *line = a->data, *end;

	assert_int_equal(a->error, 0);
	while ((end = strchr(line, '\n'))) {
		_cleanup_json_ json_t *json = json_loadb(line, end - line, 0, NULL);
		const json_t *object = json_object_get(json, "object");
		const json_t *metadata = json_object_get(object, "metadata");

		assert_non_null(json);
		buf_addf(&out, "%s %s/%s %s;", json_str(json, "type"),
			json_str(metadata, "namespace"), json_str(metadata, "name"),
			json_str(metadata, "resourceVersion"));
		line = end + 1;
	}
	assert_string_equal(line, ""); /* whole lines */
	return xstrdup(out.data ? out.data : "");
}

static void assert_told(uint64_t unique, const char *expected)
{
	_cleanup_free_ char *text = told(unique);

	assert_string_equal(text, expected);
}

static void assert_nothing_to_read(struct events_reader *r)
{
	assert_answer(read_with(r, 1 << 17, O_NONBLOCK), EAGAIN);
}

/* From the open on, each change as one line. */
static void test_lines(void **state)
{
	struct events_reader *r;

	add(STORE_ADDED, "shop/before", 1);
	r = events_open(e, "", "");
	assert_nothing_to_read(r);
	add(STORE_ADDED, "shop/web", 2);
	add(STORE_MODIFIED, "shop/web", 3);
	add(STORE_DELETED, "shop/web", 4);
	assert_told(read_of(r), "ADDED shop/web 2;MODIFIED shop/web 3;DELETED shop/web 4;");
	assert_nothing_to_read(r);
	events_close(e, r);
}

static void test_whose(void **state)
{
	struct events_reader *all = events_open(e, "", ""), *ns = events_open(e, "shop", ""),
			     *stream = events_open(e, "shop", "web");

	add(STORE_ADDED, "shop/web", 1);
	add(STORE_ADDED, "shop/web2", 2);
	add(STORE_ADDED, "shop2/web", 3);
	add(STORE_ADDED, "sho/web", 4);
	assert_told(read_of(all), "ADDED shop/web 1;ADDED shop/web2 2;ADDED shop2/web 3;"
				  "ADDED sho/web 4;");
	assert_told(read_of(ns), "ADDED shop/web 1;ADDED shop/web2 2;");
	assert_told(read_of(stream), "ADDED shop/web 1;");
	events_close(e, all);
	events_close(e, ns);
	events_close(e, stream);
}

/* A line as the API's watch sends it, byte for byte, in pieces of any size. */
static void test_pieces(void **state)
{
	_cleanup_object_ struct object *o = make("shop/web", 1, "x\ny");
	_cleanup_free_ char *line = xasprintf("{\"type\":\"ADDED\",\"object\":%s}\n", o->text);
	_cleanup_buf_ struct buf all = BUF_INIT(SIZE_MAX);
	struct events_reader *r = events_open(e, "", "");

	events_add(e, STORE_ADDED, o);
	while (all.len < strlen(line)) {
		const struct asked *a = hear(read_with(r, 7, 0));

		assert_true(a->len == 7 || all.len + a->len == strlen(line));
		buf_add(&all, a->data, a->len);
	}
	assert_string_equal(all.data, line);
	assert_nothing_to_read(r);
	add(STORE_MODIFIED, "shop/web", 2); /* the rest of one line and a part of the next */
	add(STORE_MODIFIED, "shop/web", 3);
	assert_int_equal(hear(read_with(r, 10, 0))->len, 10);
	assert_int_equal(hear(read_with(r, 1, 0))->len, 1);
	assert_true(hear(read_of(r))->len > 200);
	assert_nothing_to_read(r);
	events_close(e, r);
}

static void test_late_versions(void **state)
{
	struct events_reader *r = events_open(e, "", "");

	add(STORE_ADDED, "shop/web", 5);
	add(STORE_MODIFIED, "shop/web", 4);
	add(STORE_MODIFIED, "shop/web", 5);
	add(STORE_ADDED, "shop/api", 3); /* of another stream */
	add(STORE_DELETED, "shop/web", 4);
	add(STORE_DELETED, "shop/web", 5); /* this very version is gone */
	add(STORE_MODIFIED, "shop/web", 5);
	add(STORE_ADDED, "shop/web", 6);
	assert_told(read_of(r), "ADDED shop/web 5;ADDED shop/api 3;DELETED shop/web 5;"
				"ADDED shop/web 6;");
	events_close(e, r);
	r = events_open(e, "", ""); /* nobody read: what was told is forgotten */
	add(STORE_ADDED, "shop/web", 1);
	assert_told(read_of(r), "ADDED shop/web 1;");
	events_close(e, r);
}

/* Many deletions: the first ones are forgotten, and a stream that came back isn't. */
static void test_deletions_are_forgotten(void **state)
{
	struct events_reader *r = events_open(e, "shop", ""), *other;
	char key[32];

	add(STORE_DELETED, "shop/gone", 10);
	add(STORE_DELETED, "shop/back", 11);
	add(STORE_ADDED, "shop/back", 12);
	for (int i = 0; i < 300; i++) {
		sprintf(key, "many/s%d", i);
		add(STORE_DELETED, key, 20 + i);
	}
	other = events_open(e, "many", "");
	add(STORE_DELETED, "many/s299", 1);
	assert_nothing_to_read(other); /* this one is remembered */
	assert_told(read_of(r), "DELETED shop/gone 10;DELETED shop/back 11;ADDED shop/back 12;");
	add(STORE_MODIFIED, "shop/back", 11);
	assert_nothing_to_read(r);
	add(STORE_MODIFIED, "shop/gone", 9);
	assert_told(read_of(r), "MODIFIED shop/gone 9;");
	events_close(e, other);
	events_close(e, r);
}

/* Who is too slow loses what is in line, gets one line that says so, and then the end. */
static void test_too_slow(void **state)
{
	struct events_reader *slow = events_open(e, "", ""), *other = events_open(e, "shop", "b");
	_cleanup_json_ json_t *json = NULL;
	const struct asked *a;

	for (int i = 0; i < 16384; i++)
		add(STORE_MODIFIED, "shop/a", 1 + i);
	a = hear(read_with(slow, 100, 0)); /* not yet: a line was begun */
	assert_int_equal(a->len, 100);
	add(STORE_MODIFIED, "shop/a", 20000);
	add(STORE_MODIFIED, "shop/a", 20001);
	add(STORE_MODIFIED, "shop/b", 20002);
	a = hear(read_of(slow));
	assert_int_equal(a->error, 0);
	assert_non_null(strchr(a->data, '\n'));
	json = json_loads(strchr(a->data, '\n') + 1, 0, NULL);
	assert_string_equal(json_str(json, "type"), "ERROR");
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(json, "object"), "code")), 410);
	assert_int_equal(hear(read_of(slow))->len, 0);
	assert_int_equal(hear(read_with(slow, 100, O_NONBLOCK))->len, 0);
	assert_told(read_of(other), "MODIFIED shop/b 20002;");
	events_close(e, slow);
	events_close(e, other);
}

/* Not only in number: in bytes, too. */
static void test_too_large(void **state)
{
	_cleanup_free_ char *content = xcalloc(1, (1 << 20) + 1);
	struct events_reader *r = events_open(e, "", "");
	const struct asked *a;

	memset(content, 'x', 1 << 20);
	for (int i = 0; i < 15; i++)
		add_with(STORE_MODIFIED, "shop/a", 1 + i, content);
	a = hear(read_with(r, 16, 0));
	assert_string_equal(a->data, "{\"type\":\"MODIFIE");
	add_with(STORE_MODIFIED, "shop/a", 16, content);
	add_with(STORE_MODIFIED, "shop/a", 17, content);
	do {
		a = hear(read_of(r));
	} while (a->len == 1 << 17);
	assert_non_null(strstr(a->data, "\n{\"type\":\"ERROR\""));
	assert_int_equal(hear(read_of(r))->len, 0);
	events_close(e, r);
}

/* Reads wait in their order, and whoever brings a change answers none of them. */
static void test_reads_wait(void **state)
{
	struct events_reader *r = events_open(e, "", ""), *other = events_open(e, "x", "");
	uint64_t first = read_of(r), second = read_with(r, 1 << 17, 0), none = read_of(other);

	assert_false(is_answered(first));
	add(STORE_ADDED, "shop/web", 1);
	assert_told(first, "ADDED shop/web 1;");
	assert_false(is_answered(second));
	add(STORE_MODIFIED, "shop/web", 2);
	assert_told(second, "MODIFIED shop/web 2;");
	assert_false(is_answered(none));
	events_stop(e);
	assert_told(none, "");
	assert_told(read_of(r), "");
	events_close(e, r);
	events_close(e, other);
}

/* Also where something comes between two reads, and nobody has answered the first one yet. */
static void test_reads_keep_their_order(void **state)
{
	struct events_reader *r = events_open(e, "", "");

	for (uint64_t i = 1; i <= 100; i += 2) {
		_cleanup_object_ struct object *o = make("shop/web", i, ""),
					       *next = make("shop/web", i + 1, "");
		_cleanup_free_ char *one = xasprintf("ADDED shop/web %d;", (int)i),
				    *two = xasprintf("ADDED shop/web %d;", (int)i + 1);
		uint64_t first = ask(getpid()), second = ask(getpid());

		events_read(e, r, req_of(first), 1 << 17, 0);
		events_add(e, STORE_ADDED, o);
		events_read(e, r, req_of(second), 1 << 17, 0);
		assert_told(first, one);
		events_add(e, STORE_ADDED, next);
		assert_told(second, two);
	}
	events_close(e, r);
}

/* A signal ends the wait of that read only; what comes later is the others'. */
static void test_interrupted(void **state)
{
	struct events_reader *r = events_open(e, "", "");
	uint64_t first = read_of(r), second = read_of(r), third = read_of(r);

	interrupt(second);
	assert_answer(second, EINTR);
	assert_false(is_answered(first));
	interrupt(first);
	assert_answer(first, EINTR);
	add(STORE_ADDED, "shop/web", 1);
	assert_told(third, "ADDED shop/web 1;");
	events_close(e, r);
}

static uint64_t poll_of(struct events_reader *r, bool notify)
{
	uint64_t unique = ask_poll(getpid());
	struct asked *a = &kernel_asked[unique];

	if (!notify) {
		fuse_pollhandle_destroy(a->poll);
		a->poll = NULL;
	}
	events_poll(e, r, a->req, a->poll, POLLIN | POLLOUT);
	return unique;
}

static unsigned polled(uint64_t unique)
{
	const struct asked *a = hear(unique);
	struct fuse_poll_out out;

	assert_int_equal(a->error, 0);
	assert_int_equal(a->len, sizeof(out));
	memcpy(&out, a->data, sizeof(out));
	return out.revents;
}

/* Told once for each time that it was asked in vain. */
static void test_poll(void **state)
{
	struct events_reader *r = events_open(e, "", "");

	assert_int_equal(polled(poll_of(r, true)), 0);
	assert_int_equal(polled(poll_of(r, true)), 0); /* in place of the first one */
	assert_int_equal(polled(poll_of(r, false)), 0);
	assert_int_equal(kernel_polled, 0);
	add(STORE_ADDED, "shop/web", 1);
	wait_polled(1);
	assert_int_equal(polled(poll_of(r, true)), POLLIN);
	assert_told(read_of(r), "ADDED shop/web 1;");
	for (uint64_t i = 2; i < 4; i++) { /* nobody asked in vain: nobody is told */
		uint64_t unique = read_of(r);

		add(STORE_MODIFIED, "shop/web", i);
		hear(unique);
	}
	assert_int_equal(kernel_polled, 1);
	assert_int_equal(polled(poll_of(r, true)), 0);
	events_stop(e);
	wait_polled(2);
	assert_int_equal(polled(poll_of(r, true)), POLLIN); /* the end is there to be read */
	assert_int_equal(kernel_polled, 2);
	events_close(e, r);
}

/* Closed, and with it what waits to be told; events_free takes what nobody closed. */
static void test_left_open(void **state)
{
	struct events_reader *r = events_open(e, "shop", ""), *left = events_open(e, "", "");

	assert_int_equal(polled(poll_of(r, true)), 0);
	assert_int_equal(polled(poll_of(left, true)), 0);
	events_close(e, r);
	add(STORE_ADDED, "shop/web", 1);
	wait_polled(1);
	add(STORE_MODIFIED, "shop/web", 2);
}

#define ROUNDS 200

static void *bring(void *arg)
{
	const char *key = arg;

	for (int i = 1; i <= ROUNDS; i++)
		add(STORE_MODIFIED, key, i);
	return NULL;
}

/* Two bring changes, one reads, one opens and closes. */
static void test_threads(void **state)
{
	struct events_reader *r = events_open(e, "shop", "");
	unsigned next[2] = {1, 1};
	pthread_t threads[2];

	pthread_create(&threads[0], NULL, bring, "shop/a");
	pthread_create(&threads[1], NULL, bring, "shop/b");
	while (next[0] + next[1] < 2 * ROUNDS + 2) {
		_cleanup_free_ char *text = told(read_with(r, 1 << 17, 0));
		char *rest = text, *one, stream;
		unsigned version;

		events_close(e, events_open(e, "", ""));
		while ((one = strsep(&rest, ";")) && *one) {
			assert_int_equal(sscanf(one, "MODIFIED shop/%c %u", &stream, &version), 2);
			assert_int_equal(version, next[stream - 'a']++); /* each, in order */
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	events_close(e, r);
}

struct ending {
	struct events *events;
	pthread_barrier_t ready;
};

static void *stop(void *arg)
{
	struct ending *end = arg;

	pthread_barrier_wait(&end->ready);
	events_stop(end->events);
	return NULL;
}

/* The end meets a read that is just coming: it is answered. */
static void test_stop_meets_a_read(void **state)
{
	for (int i = 0; i < 300; i++) {
		struct ending end = {.events = events_new()};
		struct events_reader *r = events_open(end.events, "", "");
		uint64_t unique = ask(getpid());
		pthread_t thread;

		pthread_barrier_init(&end.ready, NULL, 2);
		pthread_create(&thread, NULL, stop, &end);
		pthread_barrier_wait(&end.ready);
		events_read(end.events, r, req_of(unique), 100, 0);
		pthread_join(thread, NULL);
		assert_told(unique, "");
		events_close(end.events, r);
		pthread_barrier_destroy(&end.ready);
		events_free(end.events);
	}
}

/* After the end there is no thread, and nothing waits for one. */
static void test_stopped(void **state)
{
	struct events_reader *r = events_open(e, "", ""), *later;

	events_stop(e);
	later = events_open(e, "", "");
	assert_told(read_of(r), "");
	assert_told(read_of(later), "");
	add(STORE_ADDED, "shop/web", 1);
	events_stop(e);
	events_close(e, r);
	events_close(e, later);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_lines),
		TEST(test_whose),
		TEST(test_pieces),
		TEST(test_late_versions),
		TEST(test_deletions_are_forgotten),
		TEST(test_too_slow),
		TEST(test_too_large),
		TEST(test_reads_wait),
		TEST(test_reads_keep_their_order),
		TEST(test_interrupted),
		TEST(test_poll),
		TEST(test_left_open),
		TEST(test_threads),
		TEST(test_stop_meets_a_read),
		TEST(test_stopped),
	};

	return cmocka_run_group_tests_name("events", tests, NULL, NULL);
}
