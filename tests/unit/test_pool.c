/*
 * The pool: which call runs when, beside which others, and how it is cancelled. Requests are
 * libfuse's own, and the test stands in the kernel's place.
 */
#include "fs/mount/pool.h"

#include "client/clock.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "tests/unit/kernel.h"
#include "tests/unit/server.h"

#define LONG_MS 600000

static struct counts *counts;
static struct pool *p;
static atomic_uint running, most; /* calls at once */
static atomic_uint serial;	  /* in which order they begin */

/* A call that runs until it is let go. */
struct work {
	sem_t begun, go;
	uint64_t unique;
	fuse_req_t req;
	unsigned order;
	pthread_t thread;
	struct http *http;
	int64_t deadline, began;
	pid_t tid;
	int check; /* what it said at the end */
};

static int setup(void **state)
{
	kernel_begin();
	server_begin();
	counts = counts_new();
	running = most = serial = 0;
	p = NULL;
	return 0;
}

static int teardown(void **state)
{
	bool all;

	if (p)
		pool_stop(p);
	pool_free(p);
	counts_free(counts);
	all = server_end();
	kernel_end();
	return all ? 0 : -1;
}

static void begin(size_t threads, int64_t timeout_ms)
{
	assert_int_equal(pool_new(server_login, counts, threads, timeout_ms, &p), 0);
}

static void enter(void)
{
	unsigned now = ++running, seen = most;

	while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now))
		;
}

static void answer_call(struct pool_call *call, struct work *w)
{
	w->check = call->check.fn(call->check.arg);
	running--;
	pool_settle(call);
	fuse_reply_err(w->req, -w->check);
}

static void do_work(struct pool_call *call, void *arg)
{
	struct work *w = arg;

	assert_ptr_equal(call->req, w->req);
	w->order = ++serial;
	w->thread = pthread_self();
	w->http = call->http;
	w->deadline = call->deadline;
	w->began = now_monotonic();
	w->tid = call->tid;
	enter();
	sem_post(&w->begun);
	wait_for_semaphore(&w->go);
	answer_call(call, w);
}

static void prepare(struct work *w, pid_t tid)
{
	*w = (struct work){0};
	sem_init(&w->begun, 0, 0);
	sem_init(&w->go, 0, 0);
	w->unique = ask(tid);
	w->req = req_of(w->unique);
}

static void submit_of(struct work *w, pid_t tid, const char *key)
{
	prepare(w, tid);
	pool_submit(p, w->req, key, do_work, w);
}

static void submit(struct work *w, const char *key)
{
	submit_of(w, getpid(), key);
}

static void wait_begun(struct work *w)
{
	wait_for_semaphore(&w->begun);
}

static bool has_begun(struct work *w)
{
	int n;

	sem_getvalue(&w->begun, &n);
	return n > 0;
}

/* It ends, or will when it begins; its answer is `error`. */
static void finish(struct work *w, int error)
{
	sem_post(&w->go);
	assert_answer(w->unique, error);
	assert_int_equal(w->check, -error);
}

/* A process that has a signal pending which it can't take yet: it is stopped. */
static pid_t stopped_child(int sig)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (sig) /* nohup and a shell's & leave some ignored */
			signal(sig, SIG_DFL);
		kill(getpid(), SIGSTOP); /* by itself: within fork() glibc 2.41 blocks signals */
		for (;;)
			pause();
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	if (sig)
		assert_int_equal(kill(pid, sig), 0);
	return pid;
}

static void end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void test_call(void **state)
{
	int64_t before = now_monotonic(), after;
	struct work w;

	begin(POOL_THREADS, LONG_MS);
	submit(&w, NULL);
	after = now_monotonic();
	wait_begun(&w);
	assert_false(pthread_equal(w.thread, pthread_self()));
	assert_non_null(w.http);
	assert_int_equal(w.tid, getpid());
	assert_true(w.deadline >= before + LONG_MS * NSEC_PER_MSEC);
	assert_true(w.deadline <= after + LONG_MS * NSEC_PER_MSEC);
	assert_false(is_answered(w.unique));
	finish(&w, 0);
}

/* As many threads as calls that run, up to the limit; the rest waits in line, in its order. */
static void test_threads(void **state)
{
	struct work w[6];

	begin(3, LONG_MS);
	for (size_t i = 0; i < 6; i++)
		submit(&w[i], NULL);
	for (size_t i = 0; i < 3; i++)
		wait_begun(&w[i]);
	for (size_t i = 0; i < 3; i++) {
		assert_false(has_begun(&w[3 + i]));
		finish(&w[i], 0);
		wait_begun(&w[3 + i]);
		for (size_t j = 0; j < i; j++) /* connections are a thread's own */
			assert_ptr_not_equal(w[3 + i].http, w[3 + j].http);
	}
	for (size_t i = 3; i < 6; i++) {
		finish(&w[i], 0);
		assert_int_equal(w[i].order, i + 1);
	}
	assert_int_equal(most, 3);
}

/* One of a key at a time, in their order, and who waits holds no thread. */
static void test_key(void **state)
{
	struct work a[8], b, none;
	char key[] = "shop/a";

	begin(2, LONG_MS);
	for (size_t i = 0; i < 8; i++)
		submit(&a[i], key);
	strcpy(key, "shop/b"); /* it was copied */
	submit(&b, key);
	wait_begun(&a[0]);
	wait_begun(&b);
	finish(&b, 0);
	submit(&none, NULL);
	wait_begun(&none);
	finish(&none, 0);
	for (size_t i = 0; i < 8; i++) {
		if (i > 0)
			wait_begun(&a[i]);
		for (size_t j = i + 1; j < 8; j++)
			assert_false(has_begun(&a[j]));
		finish(&a[i], 0);
	}
	for (size_t i = 1; i < 8; i++)
		assert_true(a[i].order > a[i - 1].order);
}

/* Past its deadline a call is cancelled; also one in line, which runs beside another of its key. */
static void test_deadline(void **state)
{
	struct work first, second;

	begin(2, 300);
	submit(&first, "shop/a");
	submit(&second, "shop/a");
	wait_begun(&first);
	wait_begun(&second);
	assert_true(second.began >= second.deadline);
	finish(&second, ETIMEDOUT);
	finish(&first, ETIMEDOUT);
}

/* Cancelled in line, it took nobody's turn: the next one still waits for the first. */
static void test_cancelled_has_no_turn(void **state)
{
	struct work first, second, third;
	pid_t child = stopped_child(SIGTERM);

	begin(4, LONG_MS);
	submit(&first, "shop/a");
	wait_begun(&first);
	submit_of(&second, child, "shop/a");
	interrupt(second.unique);
	wait_begun(&second);
	finish(&second, EINTR);
	submit(&third, "shop/a");
	usleep(120000); /* those in line are looked at twice in this time */
	assert_false(has_begun(&third));
	finish(&first, 0);
	wait_begun(&third);
	finish(&third, 0);
	end_child(child);
}

/* Only a signal that means stop cancels. */
static void test_interrupt(void **state)
{
	static const struct {
		int sig, error;
	} rows[] = {{SIGINT, EINTR}, {SIGTERM, EINTR}, {SIGHUP, EINTR}, {SIGQUIT, EINTR},
		{SIGWINCH, 0}, {SIGUSR1, 0}, {0, 0}};

	begin(2, LONG_MS);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		pid_t child = stopped_child(rows[i].sig);
		struct work w;

		submit_of(&w, child, NULL);
		wait_begun(&w);
		interrupt(w.unique);
		finish(&w, rows[i].error);
		end_child(child);
	}
}

/* A pending signal alone isn't looked for: the kernel says when there is one. */
static void test_not_interrupted(void **state)
{
	pid_t child = stopped_child(SIGTERM);
	struct work w;

	begin(1, LONG_MS);
	submit_of(&w, child, NULL);
	wait_begun(&w);
	finish(&w, 0);
	end_child(child);
}

/* In line for a thread, all of which are busy: it is answered all the same. */
static void test_interrupt_in_line(void **state)
{
	pid_t child = stopped_child(SIGINT);
	struct work busy[2], w[3], early;

	begin(2, LONG_MS);
	for (size_t i = 0; i < 2; i++) {
		submit(&busy[i], NULL);
		wait_begun(&busy[i]);
	}
	for (size_t i = 0; i < 3; i++)
		submit_of(&w[i], child, NULL);
	for (size_t i = 0; i < 3; i++) {
		assert_false(has_begun(&w[i]));
		interrupt(w[i].unique);
		wait_begun(&w[i]);
	}
	prepare(&early, child); /* interrupted before the pool has it */
	interrupt(early.unique);
	pool_submit(p, early.req, NULL, do_work, &early);
	wait_begun(&early);
	finish(&early, EINTR);
	for (size_t i = 0; i < 3; i++)
		finish(&w[i], EINTR);
	for (size_t i = 0; i < 2; i++)
		finish(&busy[i], 0);
	end_child(child);
}

static void do_request(struct pool_call *call, void *arg)
{
	struct work *w = arg;
	struct http_request request = {.path = "/"};
	_cleanup_response_ struct http_response response = {0};
	_cleanup_free_ char *error = NULL;

	w->check = http_call(call->http, &request, &call->check, &response, &error);
	pool_settle(call);
	fuse_reply_err(w->req, -w->check);
}

/* A request under way ends: by its caller's signal, by the deadline, and by the end. */
static void test_request(void **state)
{
	pid_t child = stopped_child(SIGTERM);
	struct work w;

	begin(2, 2000);
	answer(SERVER_SILENT, "");
	prepare(&w, getpid());
	pool_submit(p, w.req, NULL, do_request, &w);
	assert_answer(w.unique, ETIMEDOUT);
	pool_stop(p);
	pool_free(p);

	begin(2, LONG_MS);
	answer(SERVER_SILENT, "");
	prepare(&w, child);
	pool_submit(p, w.req, NULL, do_request, &w);
	while (asked() < 2)
		usleep(1000);
	interrupt(w.unique);
	assert_answer(w.unique, EINTR);

	answer(SERVER_SILENT, "");
	prepare(&w, child);
	pool_submit(p, w.req, NULL, do_request, &w);
	while (asked() < 3)
		usleep(1000);
	pool_stop(p);
	assert_true(is_answered(w.unique));
	assert_answer(w.unique, ESHUTDOWN);
	end_child(child);
}

static void settle(struct pool_call *call, void *arg)
{
	struct work *w = arg;

	pool_settle(call);
	sem_post(&w->begun);
}

/* From then on the pool doesn't know the request, whatever becomes of it. */
static void test_settle(void **state)
{
	struct work w, next;

	begin(1, LONG_MS);
	prepare(&w, getpid());
	pool_submit(p, w.req, NULL, settle, &w);
	wait_begun(&w);
	submit(&next, NULL); /* the job is gone by now: the only thread has another one */
	wait_begun(&next);
	interrupt(w.unique);
	fuse_reply_err(w.req, 0);
	assert_answer(w.unique, 0);
	finish(&next, 0);
}

static void *let_go(void *arg)
{
	sem_t *go = arg;

	usleep(20000);
	sem_post(go);
	return NULL;
}

/* Each call gets its answer before pool_stop returns, and what comes later gets one at once. */
static void test_stop(void **state)
{
	struct work first, in_line, keyed, late;
	pthread_t thread;

	begin(1, LONG_MS);
	submit(&first, "shop/a");
	wait_begun(&first);
	submit(&in_line, NULL);
	submit(&keyed, "shop/a");
	sem_post(&in_line.go);
	sem_post(&keyed.go);
	pthread_create(&thread, NULL, let_go, &first.go);
	pool_stop(p);
	assert_int_equal(running, 0);
	assert_answer(first.unique, ESHUTDOWN);
	assert_answer(in_line.unique, ESHUTDOWN);
	assert_answer(keyed.unique, ESHUTDOWN);
	pthread_join(thread, NULL);

	prepare(&late, getpid());
	sem_post(&late.go);
	pool_submit(p, late.req, "shop/a", do_work, &late);
	assert_true(pthread_equal(late.thread, pthread_self()));
	assert_null(late.http);
	assert_answer(late.unique, ESHUTDOWN);
}

#define ROUNDS 100

/* What several threads submit. */
struct many {
	const char *key;
	uint64_t unique[ROUNDS];
	unsigned done; /* by the calls, without a lock: they are one at a time */
	atomic_uint *inside;
};

struct one {
	struct many *many;
	unsigned number;
};

static void do_one(struct pool_call *call, void *arg)
{
	struct one *one = arg;
	bool fits = ++*one->many->inside == 1 && one->many->done == one->number;

	one->many->done++;
	--*one->many->inside;
	pool_settle(call);
	fuse_reply_err(call->req, fits ? 0 : EPROTO);
	free(one);
}

static void *submit_many(void *arg)
{
	struct many *m = arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct one *one = xcalloc(1, sizeof(*one));

		*one = (struct one){m, i};
		pool_submit(p, req_of(m->unique[i]), m->key, do_one, one);
	}
	return NULL;
}

/* Four threads, of two keys: one at a time of a key, each thread's own in their order. */
static void test_many_threads(void **state)
{
	atomic_uint inside[2] = {0};
	struct many m[4] = {{.key = "a", .inside = &inside[0]}, {.key = "a", .inside = &inside[0]},
		{.key = "b", .inside = &inside[1]}, {.key = "b", .inside = &inside[1]}};
	pthread_t threads[4];

	begin(8, LONG_MS);
	for (size_t i = 0; i < 4; i++)
		for (size_t j = 0; j < ROUNDS; j++)
			m[i].unique[j] = ask(getpid());
	for (size_t i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, submit_many, &m[i]);
	for (size_t i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		for (size_t j = 0; j < ROUNDS; j++)
			assert_answer(m[i].unique[j], 0);
	}
}

static void *stop(void *arg)
{
	usleep(500);
	pool_stop(p);
	return NULL;
}

static void do_nothing(struct pool_call *call, void *arg)
{
	pool_settle(call);
	fuse_reply_err(call->req, 0);
}

/* The end meets calls that are just coming: none is left without an answer. */
static void test_stop_meets_calls(void **state)
{
	uint64_t unique[ROUNDS];
	pthread_t thread;

	begin(8, LONG_MS);
	for (size_t i = 0; i < ROUNDS; i++)
		unique[i] = ask(getpid());
	pthread_create(&thread, NULL, stop, NULL);
	for (size_t i = 0; i < ROUNDS; i++)
		pool_submit(p, req_of(unique[i]), i % 2 ? "a" : NULL, do_nothing, NULL);
	for (size_t i = 0; i < ROUNDS; i++)
		assert_answer(unique[i], 0);
	pthread_join(thread, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_call),
		TEST(test_threads),
		TEST(test_key),
		TEST(test_deadline),
		TEST(test_cancelled_has_no_turn),
		TEST(test_interrupt),
		TEST(test_not_interrupted),
		TEST(test_interrupt_in_line),
		TEST(test_request),
		TEST(test_settle),
		TEST(test_stop),
		TEST(test_many_threads),
		TEST(test_stop_meets_calls),
	};

	return cmocka_run_group_tests_name("pool", tests, http_group_setup, http_group_teardown);
}
