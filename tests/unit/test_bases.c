/* What a process saw of a file: its threads, its saved text, and who is forgotten. */
#include "fs/bases.h"
#include "fs/process.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#define READERS 1024
#define SLOT	1000

/* From here on there are no processes. */
#define NOBODY 0x70000000

static struct bases *b;

static int setup(void **state)
{
	b = bases_new();
	return 0;
}

static int teardown(void **state)
{
	bases_free(b);
	return 0;
}

static struct object *make(int version)
{
	_cleanup_free_ char *number = xasprintf("%d", version);
	_cleanup_json_ json_t *json = json_pack("{s:{s:s, s:s, s:s, s:s}}", "metadata", "namespace",
		"shop", "name", "web", "uid", "u", "resourceVersion", number);
	struct object *o;

	assert_int_equal(object_from_json(json, "v1", &o), 0);
	return o;
}

static void note(pid_t tid, uint64_t slot, int version)
{
	_cleanup_object_ struct object *o = make(version);

	bases_note(b, tid, slot, o);
}

static void saved(pid_t tid, uint64_t slot, const char *text, int version)
{
	_cleanup_object_ struct object *o = make(version);
	_cleanup_json_ json_t *json = json_string(text);

	bases_saved(b, tid, slot, json, o);
}

/* The version and the text (NULL: none) of what was seen; version 0: nothing. */
static void assert_base(pid_t tid, uint64_t slot, int version, const char *text)
{
	_cleanup_object_ struct object *o = NULL;
	_cleanup_json_ json_t *json = NULL;

	assert_int_equal(bases_find(b, tid, slot, &o, &json), version != 0);
	assert_int_equal(o ? atoi(o->resource_version) : 0, version);
	if (text)
		assert_string_equal(json_string_value(json), text);
	else
		assert_null(json);
}

static void test_note(void **state)
{
	_cleanup_object_ struct object *o = make(1), *found = NULL;
	json_t *text = NULL;
	pid_t self = getpid();

	assert_base(self, SLOT, 0, NULL);
	bases_note(b, self, SLOT, o);
	assert_true(bases_find(b, self, SLOT, &found, &text));
	assert_ptr_equal(found, o);
	assert_int_equal(atomic_load(&o->refs), 3);
	assert_base(self, SLOT + 1, 0, NULL);
	note(self, SLOT + 1, 5);
	note(self, SLOT, 2); /* the last reading counts */
	assert_base(self, SLOT, 2, NULL);
	assert_base(self, SLOT + 1, 5, NULL);
	assert_int_equal(atomic_load(&o->refs), 2);
	note(self, SLOT, 1); /* whatever its version */
	assert_base(self, SLOT, 1, NULL);
}

/* Somebody outside our pid namespace: anybody. */
static void test_unknown(void **state)
{
	note(0, SLOT, 1);
	saved(0, SLOT, "text", 2);
	assert_base(0, SLOT, 0, NULL);
	note(getpid(), SLOT, 3);
	saved(0, SLOT, "text", 4);
	assert_base(0, SLOT, 0, NULL);
	assert_base(getpid(), SLOT, 3, NULL);
}

static void test_saved(void **state)
{
	_cleanup_json_ json_t *text = json_string("mine");
	_cleanup_object_ struct object *o = make(2);
	pid_t self = getpid();

	saved(self, SLOT, "never read", 1); /* what wasn't read has no base to replace */
	assert_base(self, SLOT, 0, NULL);
	note(self, SLOT, 1);
	bases_saved(b, self, SLOT, text, o);
	assert_int_equal(atomic_load(&o->refs), 2);
	assert_int_equal(text->refcount, 2);
	assert_base(self, SLOT, 2, "mine");
	saved(self, SLOT, "again", 3);
	assert_int_equal(atomic_load(&o->refs), 1);
	assert_int_equal(text->refcount, 1);
	assert_base(self, SLOT, 3, "again");
	assert_base(self, SLOT + 1, 0, NULL);
	note(self, SLOT, 4); /* read anew: the text is no base any more */
	assert_base(self, SLOT, 4, NULL);
}

/* ---- threads and processes ---- */

struct waiting {
	pthread_t thread;
	pthread_barrier_t ready, done;
	pid_t tid;
};

static void *wait_in_thread(void *arg)
{
	struct waiting *w = arg;

	w->tid = syscall(SYS_gettid);
	pthread_barrier_wait(&w->ready);
	pthread_barrier_wait(&w->done);
	return NULL;
}

static void start_waiting(struct waiting *w)
{
	pthread_barrier_init(&w->ready, NULL, 2);
	pthread_barrier_init(&w->done, NULL, 2);
	assert_int_equal(pthread_create(&w->thread, NULL, wait_in_thread, w), 0);
	pthread_barrier_wait(&w->ready);
}

static void end_waiting(struct waiting *w)
{
	pthread_barrier_wait(&w->done);
	pthread_join(w->thread, NULL);
	pthread_barrier_destroy(&w->ready);
	pthread_barrier_destroy(&w->done);
}

static void *wait_for_ever(void *arg)
{
	for (;;)
		pause();
	return NULL;
}

/* A child with that many threads, or -1 where there is no room for them. */
static pid_t start(int threads)
{
	int fds[2];
	pid_t pid;
	char byte = 0;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		pthread_attr_t attr;
		pthread_t thread;

		prctl(PR_SET_PDEATHSIG, SIGKILL); /* not left where the test fails */
		pthread_attr_init(&attr);
		pthread_attr_setstacksize(&attr, 128 << 10);
		for (int i = 1; i < threads; i++)
			if (pthread_create(&thread, &attr, wait_for_ever, NULL) != 0)
				_exit(1);
		if (write(fds[1], "x", 1) == 1)
			wait_for_ever(NULL);
		_exit(1);
	}
	close(fds[1]);
	if (read(fds[0], &byte, 1) != 1) {
		waitpid(pid, NULL, 0);
		pid = -1;
	}
	close(fds[0]);
	return pid;
}

static void reap(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* One thread reads, another saves. */
static void test_threads(void **state)
{
	pid_t self = getpid(), child = start(1);
	struct waiting x, y;

	start_waiting(&x);
	start_waiting(&y);
	note(x.tid, SLOT, 1);
	assert_base(x.tid, SLOT, 1, NULL);
	assert_base(y.tid, SLOT, 1, NULL);
	assert_base(self, SLOT, 1, NULL);
	assert_base(child, SLOT, 0, NULL);
	saved(y.tid, SLOT, "of y", 2);
	assert_base(x.tid, SLOT, 2, "of y");
	assert_base(self, SLOT, 2, "of y");
	note(self, SLOT, 3); /* of several, the one that looked last */
	assert_base(x.tid, SLOT, 3, NULL);
	assert_base(y.tid, SLOT, 3, NULL);
	note(x.tid, SLOT, 4);
	assert_base(self, SLOT, 4, NULL);
	saved(self, SLOT, "of self", 5);
	assert_base(x.tid, SLOT, 5, "of self");
	note(y.tid, SLOT, 6);
	assert_base(self, SLOT, 6, NULL);
	assert_base(self, SLOT + 1, 0, NULL);
	end_waiting(&y);
	end_waiting(&x);
	reap(child);
}

static void test_processes(void **state)
{
	pid_t self = getpid(), child = start(1);

	note(self, SLOT, 1);
	note(child, SLOT, 2);
	assert_base(self, SLOT, 1, NULL);
	assert_base(child, SLOT, 2, NULL);
	saved(self, SLOT, "mine", 3);
	assert_base(child, SLOT, 2, NULL);
	saved(child, SLOT, "child's", 4);
	assert_base(self, SLOT, 3, "mine");
	reap(child);
}

/* ---- bounds ---- */

/* Who reads everything forgets its own, the one that was read least lately first. */
static void test_many_files(void **state)
{
	pid_t self = getpid(), child = start(1);
	int kept = 0;

	note(child, SLOT, 1);
	for (int i = 0; i < 100; i++)
		note(self, SLOT + i, i + 1);
	assert_base(child, SLOT, 1, NULL);
	for (int i = 0; i < 100; i++) {
		_cleanup_object_ struct object *o = NULL;
		_cleanup_json_ json_t *text = NULL;

		if (!bases_find(b, self, SLOT + i, &o, &text)) {
			assert_int_equal(kept, 0);
			continue;
		}
		assert_int_equal(atoi(o->resource_version), i + 1);
		kept++;
	}
	assert_int_equal(kept, 32);
	note(self, SLOT + 68, 200); /* the oldest, read anew */
	saved(self, SLOT + 69, "saved", 201);
	note(self, SLOT, 300);
	note(self, SLOT + 1, 301);
	assert_base(self, SLOT + 68, 200, NULL);
	assert_base(self, SLOT + 69, 201, "saved");
	assert_base(self, SLOT + 70, 0, NULL);
	assert_base(self, SLOT + 71, 0, NULL);
	assert_base(self, SLOT + 72, 73, NULL);
	/* What had a text doesn't hand it on to the next file in its place. */
	for (int i = 0; i < 32; i++)
		note(self, SLOT + 500 + i, 1);
	for (int i = 0; i < 32; i++)
		assert_base(self, SLOT + 500 + i, 1, NULL);
	assert_base(self, SLOT + 69, 0, NULL);
	reap(child);
}

/* Those that ended go first, all of them, and none that lives. */
static void test_dead_readers(void **state)
{
	pid_t self = getpid(), child = start(1);

	note(self, SLOT, 1); /* the oldest of all */
	note(child, SLOT, 2);
	for (int i = 0; i < READERS - 2; i++)
		note(NOBODY + i, SLOT, 3);
	assert_base(NOBODY, SLOT, 3, NULL);
	note(NOBODY, SLOT, 4); /* known already: needs no room */
	assert_base(NOBODY + 1, SLOT, 3, NULL);
	note(NOBODY + READERS, SLOT, 5);
	assert_base(self, SLOT, 1, NULL);
	assert_base(child, SLOT, 2, NULL);
	assert_base(NOBODY + READERS, SLOT, 5, NULL);
	for (int i = 0; i < READERS - 2; i++)
		assert_base(NOBODY + i, SLOT, 0, NULL);
	reap(child);
}

struct tids {
	pid_t tids[READERS + 1];
	int count;
};

static bool add_tid(void *arg, pid_t tid)
{
	struct tids *t = arg;

	t->tids[t->count++] = tid;
	return t->count == READERS + 1;
}

/* All alive: the one that read least lately makes room. */
static void test_live_readers(void **state)
{
	pid_t self = getpid(), child = start(READERS);
	_cleanup_free_ struct tids *t = xcalloc(1, sizeof(*t));

	if (child < 0)
		skip();
	process_threads(child, add_tid, t);
	assert_int_equal(t->count, READERS);
	for (int i = 0; i < READERS; i++)
		note(t->tids[i], SLOT + i, i + 1);
	for (int i = 0; i < READERS; i++)
		assert_base(child, SLOT + i, i + 1, NULL);
	note(t->tids[0], SLOT + READERS, 7);
	note(self, SLOT, 5000);
	assert_base(self, SLOT, 5000, NULL);
	assert_base(child, SLOT, 1, NULL);
	assert_base(child, SLOT + READERS, 7, NULL);
	assert_base(child, SLOT + 1, 0, NULL);
	for (int i = 2; i < READERS; i += 101)
		assert_base(child, SLOT + i, i + 1, NULL);
	note(t->tids[1], SLOT + 1, 6000);
	assert_base(child, SLOT + 2, 0, NULL);
	assert_base(child, SLOT + 3, 4, NULL);
	assert_base(self, SLOT, 5000, NULL);
	reap(child);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_note, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unknown, setup, teardown),
		cmocka_unit_test_setup_teardown(test_saved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_processes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dead_readers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_live_readers, setup, teardown),
	};

	return cmocka_run_group_tests_name("bases", tests, NULL, NULL);
}
