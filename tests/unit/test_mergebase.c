/* What a process saw of a file: who it is, its saved text, and who is forgotten. */
#include "client/clock.h"
#include "fs/tree/mergebase.h"
#include "tests/unit/clock.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "waiting.h"

#define READERS 1024
#define SLOT	1000

/* From here on there are no processes. */
#define NOBODY 0x70000000

static struct mergebases *b;

static int setup(void **state)
{
	clock_moved = 0;
	b = mergebase_new();
	return 0;
}

static int teardown(void **state)
{
	mergebase_free(b);
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

static struct process_id id_of(pid_t tid)
{
	struct process_id id;

	assert_true(process_identify(tid, &id));
	return id;
}

/* One that ended long ago, each number another. */
static struct process_id dead(int i)
{
	return (struct process_id){.tgid = NOBODY + i, .start = 1};
}

static void note(struct process_id who, uint64_t slot, int version)
{
	_cleanup_object_ struct object *o = make(version);

	mergebase_note(b, &who, slot, o);
}

static uint64_t saved(struct process_id who, uint64_t slot, const char *text, int version)
{
	_cleanup_object_ struct object *o = make(version);
	_cleanup_json_ json_t *json = json_string(text);

	return mergebase_saved(b, &who, slot, json, o);
}

/* The version and the text (NULL: none) of what was seen; version 0: nothing. Returns its stamp. */
static uint64_t assert_base(struct process_id who, uint64_t slot, int version, const char *text)
{
	_cleanup_base_ struct base base = {0};

	assert_int_equal(mergebase_find(b, &who, slot, &base), version != 0);
	assert_int_equal(base.version ? atoi(base.version->resource_version) : 0, version);
	if (text)
		assert_string_equal(json_string_value(base.text), text);
	else
		assert_null(base.text);
	return base.stamp;
}

static void test_note(void **state)
{
	_cleanup_object_ struct object *o = make(1);
	struct process_id self = id_of(getpid());
	struct base found;

	assert_base(self, SLOT, 0, NULL);
	mergebase_note(b, &self, SLOT, o);
	assert_true(mergebase_find(b, &self, SLOT, &found));
	assert_ptr_equal(found.version, o);
	assert_null(found.text);
	assert_int_equal(atomic_load(&o->refs), 3);
	base_release(&found);
	assert_null(found.version);
	assert_base(self, SLOT + 1, 0, NULL);
	note(self, SLOT + 1, 5);
	note(self, SLOT, 2); /* the last reading counts */
	assert_base(self, SLOT, 2, NULL);
	assert_base(self, SLOT + 1, 5, NULL);
	assert_int_equal(atomic_load(&o->refs), 1);
	note(self, SLOT, 1); /* whatever its version */
	assert_base(self, SLOT, 1, NULL);
}

#define MINUTE (60 * NSEC_PER_SEC)

/* What any caller that can't be told may have; version 0: nothing. Returns its stamp. */
static uint64_t assert_oldest(uint64_t slot, int version)
{
	_cleanup_base_ struct base base = {0};

	assert_int_equal(mergebase_find_oldest(b, slot, &base), version != 0);
	assert_int_equal(base.version ? atoi(base.version->resource_version) : 0, version);
	assert_null(base.text);
	return base.stamp;
}

/* Callers that can't be told are as one: the oldest of the last 10 minutes counts. */
static void test_oldest(void **state)
{
	_cleanup_object_ struct object *first = make(1), *second = make(2);
	struct process_id nobody = {0}, self = id_of(getpid());
	uint64_t stamp;

	assert_oldest(SLOT, 0);
	note(self, SLOT, 9); /* known, and so no concern of theirs */
	assert_oldest(SLOT, 0);
	mergebase_note(b, &nobody, SLOT, first);
	stamp = assert_oldest(SLOT, 1);
	clock_moved += 5 * MINUTE;
	mergebase_note(b, &nobody, SLOT, second);
	assert_true(assert_oldest(SLOT, 1) == stamp);
	assert_true(saved(nobody, SLOT, "text", 3) > stamp);
	assert_oldest(SLOT, 1); /* whose text that was nobody can say */
	assert_oldest(SLOT + 1, 0);
	clock_moved += 4 * MINUTE;
	mergebase_note(b, &nobody, SLOT, first); /* shown again: its time begins anew */
	clock_moved += 9 * MINUTE;
	assert_oldest(SLOT, 1);
	assert_int_equal(atomic_load(&second->refs), 1);
	clock_moved += 2 * MINUTE;
	assert_oldest(SLOT, 0);
	assert_int_equal(atomic_load(&first->refs), 1);
	mergebase_note(b, &nobody, SLOT, second);
	assert_true(assert_oldest(SLOT, 2) > stamp);
}

/* More versions than are kept: the oldest stays as long as the next one would have. */
static void test_oldest_of_many(void **state)
{
	struct process_id nobody = {0};

	for (int i = 1; i <= 12; i++) {
		note(nobody, SLOT, i);
		clock_moved += MINUTE;
	}
	assert_oldest(SLOT, 1); /* for the fifth, served 8 minutes ago */
	clock_moved += 2 * MINUTE;
	assert_oldest(SLOT, 6);
}

/* More files than are kept: those that were served last. */
static void test_oldest_of_many_files(void **state)
{
	_cleanup_object_ struct object *o = make(1);
	struct process_id nobody = {0};

	for (int i = 0; i < 70000; i++) {
		mergebase_note(b, &nobody, SLOT + i, o);
		clock_moved += NSEC_PER_SEC / 200;
	}
	assert_oldest(SLOT + 69999, 1);
	assert_oldest(SLOT + 40000, 1);
	assert_oldest(SLOT, 0);
	assert_true(atomic_load(&o->refs) <= 65536 + 1);
}

static void test_met_unknown(void **state)
{
	assert_int_equal(mergebase_caller(b, getpid()).tgid, getpid());
	mergebase_who(b, 0); /* nobody waits: that says nothing */
	assert_false(mergebase_met_unknown(b));
	assert_int_equal(mergebase_caller(b, 0).tgid, 0);
	assert_true(mergebase_met_unknown(b));
}

/* Somebody outside our pid namespace: anybody. */
static void test_unknown(void **state)
{
	struct process_id nobody = {0}, self = id_of(getpid());

	note(nobody, SLOT, 1);
	saved(nobody, SLOT, "text", 2);
	assert_base(nobody, SLOT, 0, NULL);
	note(self, SLOT, 3);
	saved(nobody, SLOT, "text", 4);
	assert_base(nobody, SLOT, 0, NULL);
	assert_base(self, SLOT, 3, NULL);
}

static void test_saved(void **state)
{
	_cleanup_json_ json_t *text = json_string("mine");
	_cleanup_object_ struct object *o = make(2);
	struct process_id self = id_of(getpid());

	saved(self, SLOT, "never read", 1); /* what wasn't read has no base to replace */
	assert_base(self, SLOT, 0, NULL);
	note(self, SLOT, 1);
	mergebase_saved(b, &self, SLOT, text, o);
	assert_int_equal(atomic_load(&o->refs), 2);
	assert_int_equal(text->refcount, 2);
	assert_base(self, SLOT, 2, "mine");
	saved(self, SLOT, "again", 3);
	assert_int_equal(atomic_load(&o->refs), 1);
	assert_int_equal(text->refcount, 1);
	assert_base(self, SLOT, 3, "again");
	assert_base(self, SLOT + 1, 0, NULL);
	saved(self, SLOT + 1, "never read", 9); /* of the others read nothing either */
	assert_base(self, SLOT + 1, 0, NULL);
	note(self, SLOT, 4); /* read anew: the text is no base any more */
	assert_base(self, SLOT, 4, NULL);
}

/* What came later has the higher stamp, remembered or not. */
static void test_stamps(void **state)
{
	struct process_id self = id_of(getpid());
	uint64_t last = saved(self, SLOT, "never read", 1), next;

	note(self, SLOT, 1);
	next = assert_base(self, SLOT, 1, NULL);
	assert_true(next > last);
	assert_true(assert_base(self, SLOT, 1, NULL) == next); /* looking moves nothing */
	last = saved(self, SLOT, "text", 2);
	assert_true(last > next);
	assert_true(assert_base(self, SLOT, 2, "text") > next);
	assert_true(saved(dead(0), SLOT, "text", 3) > last);
	next = assert_base(self, SLOT, 2, "text");
	note(self, SLOT, 4);
	assert_true(assert_base(self, SLOT, 4, NULL) > last);
	note(self, SLOT + 1, 4);
	assert_true(assert_base(self, SLOT + 1, 4, NULL) > assert_base(self, SLOT, 4, NULL));
}

/* ---- threads and processes ---- */

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

static bool same(struct process_id x, struct process_id y)
{
	return process_id_equal(&x, &y);
}

/* Of any thread: its process. */
static void test_who(void **state)
{
	struct process_id self = id_of(getpid()), of_child;
	pid_t child = start(1);
	struct waiting w;

	start_waiting(&w);
	assert_int_equal(self.tgid, getpid());
	for (int i = 0; i < 3; i++) {
		assert_true(same(mergebase_who(b, getpid()), self));
		assert_true(same(mergebase_who(b, w.tid), self));
		of_child = mergebase_who(b, child);
		assert_int_equal(of_child.tgid, child);
		assert_false(same(of_child, self));
		assert_int_equal(mergebase_who(b, 0).tgid, 0);
		assert_int_equal(mergebase_who(b, NOBODY).tgid, 0);
		clock_moved += NSEC_PER_SEC;
	}
	/* One thread read, ended, and another one saves. */
	note(mergebase_who(b, w.tid), SLOT, 1);
	end_waiting(&w);
	assert_base(mergebase_who(b, getpid()), SLOT, 1, NULL);
	assert_base(mergebase_who(b, child), SLOT, 0, NULL);
	reap(child);
	clock_moved += NSEC_PER_SEC;
	assert_int_equal(mergebase_who(b, child).tgid, 0);
	assert_int_equal(mergebase_who(b, w.tid).tgid, 0);
}

static void test_processes(void **state)
{
	struct process_id self = id_of(getpid()), other;
	pid_t child = start(1);

	other = id_of(child);
	note(self, SLOT, 1);
	note(other, SLOT, 2);
	assert_base(self, SLOT, 1, NULL);
	assert_base(other, SLOT, 2, NULL);
	saved(self, SLOT, "mine", 3);
	assert_base(other, SLOT, 2, NULL);
	saved(other, SLOT, "child's", 4);
	assert_base(self, SLOT, 3, "mine");
	reap(child);
}

/* The number of one that ended, used again: what the other saw is gone. */
static void test_number_used_again(void **state)
{
	struct process_id self = id_of(getpid()), before = self;

	before.start--;
	note(before, SLOT, 1);
	note(before, SLOT + 1, 1);
	saved(before, SLOT, "before", 1);
	assert_base(self, SLOT, 0, NULL);
	assert_base(self, SLOT + 1, 0, NULL);
	note(before, SLOT, 1);
	saved(self, SLOT, "mine", 2);
	assert_base(self, SLOT, 0, NULL);
	note(before, SLOT, 1);
	note(self, SLOT + 1, 2);
	assert_base(self, SLOT, 0, NULL);
	assert_base(self, SLOT + 1, 2, NULL);
}

/* ---- bounds ---- */

/* Who reads everything forgets its own, the one that was read least lately first. */
static void test_many_files(void **state)
{
	struct process_id self = id_of(getpid()), other = dead(0);
	int kept = 0;

	note(other, SLOT, 1);
	for (int i = 0; i < 100; i++)
		note(self, SLOT + i, i + 1);
	assert_base(other, SLOT, 1, NULL);
	for (int i = 0; i < 100; i++) {
		_cleanup_base_ struct base base = {0};

		if (!mergebase_find(b, &self, SLOT + i, &base)) {
			assert_int_equal(kept, 0);
			continue;
		}
		assert_int_equal(atoi(base.version->resource_version), i + 1);
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
}

/* Those that ended go first, all of them, and none that lives. */
static void test_dead_readers(void **state)
{
	struct process_id self = id_of(getpid()), other;
	pid_t child = start(1);

	other = id_of(child);
	note(self, SLOT, 1); /* the oldest of all */
	note(other, SLOT, 2);
	for (int i = 0; i < READERS - 2; i++)
		note(dead(i), SLOT, 3);
	assert_base(dead(0), SLOT, 3, NULL);
	note(dead(0), SLOT, 4); /* known already: needs no room */
	assert_base(dead(1), SLOT, 3, NULL);
	note(dead(READERS), SLOT, 5);
	assert_base(self, SLOT, 1, NULL);
	assert_base(other, SLOT, 2, NULL);
	assert_base(dead(READERS), SLOT, 5, NULL);
	for (int i = 0; i < READERS - 2; i++)
		assert_base(dead(i), SLOT, 0, NULL);
	reap(child);
}

/* Those that ended don't wait for the room to run out: a minute will do. */
static void test_dead_after_a_minute(void **state)
{
	struct process_id self = id_of(getpid()), other, again;
	pid_t child = start(1);

	other = again = id_of(child);
	again.start++;
	note(dead(0), SLOT, 1);
	note(other, SLOT, 2);
	clock_moved += 50 * NSEC_PER_SEC;
	note(dead(1), SLOT, 3);
	assert_base(dead(0), SLOT, 1, NULL);
	clock_moved += 20 * NSEC_PER_SEC;
	note(self, SLOT, 4);
	assert_base(dead(0), SLOT, 0, NULL);
	assert_base(dead(1), SLOT, 0, NULL);
	assert_base(other, SLOT, 2, NULL);
	assert_base(self, SLOT, 4, NULL);
	note(again, SLOT, 5); /* nobody: the number is another's */
	clock_moved += 70 * NSEC_PER_SEC;
	note(dead(2), SLOT, 6);
	assert_base(again, SLOT, 0, NULL);
	assert_base(dead(2), SLOT, 6, NULL);
	reap(child);
}

/* A minute takes none that lives. */
static void test_alive_after_a_minute(void **state)
{
	struct process_id self = id_of(getpid()), other;
	pid_t child = start(1);

	other = id_of(child);
	note(self, SLOT, 1);
	clock_moved += 70 * NSEC_PER_SEC;
	note(other, SLOT, 2);
	assert_base(self, SLOT, 1, NULL);
	assert_base(other, SLOT, 2, NULL);
	reap(child);
}

/*
 * 1024 that live. Threads will do for processes: they have a number and a start time, too. False
 * where the machine has no room for them.
 */
static bool start_many(pid_t *ret_child, struct process_id ret[READERS])
{
	_cleanup_free_ char *path = NULL;
	struct dirent *d;
	int n = 0;
	DIR *dir;

	*ret_child = start(READERS);
	if (*ret_child < 0)
		return false;
	path = xasprintf("/proc/%d/task", *ret_child);
	dir = opendir(path);
	assert_non_null(dir);
	while ((d = readdir(dir))) {
		_cleanup_free_ char *stat = xasprintf("/proc/%s/stat", d->d_name), *text = NULL;
		unsigned long long started;
		size_t len;

		if (d->d_name[0] == '.')
			continue;
		if (n == READERS)
			break; /* a sanitizer's own thread */
		assert_int_equal(read_file(stat, 65536, &text, &len), 0);
		assert_int_equal(sscanf(strrchr(text, ')'),
					 ") %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
					 "%*s %*s %*s %*s %*s %*s %llu",
					 &started),
			1);
		ret[n++] = (struct process_id){.tgid = atoi(d->d_name), .start = started};
	}
	closedir(dir);
	assert_int_equal(n, READERS);
	return true;
}

/* All alive: the one that read least lately makes room. */
static void test_live_readers(void **state)
{
	_cleanup_free_ struct process_id *ids = xcalloc(READERS, sizeof(*ids));
	struct process_id self = id_of(getpid());
	pid_t child;

	if (!start_many(&child, ids)) {
		free(steal_ptr(ids)); /* skip() never comes back */
		skip();
	}
	for (int i = 0; i < READERS; i++)
		note(ids[i], SLOT, i + 1);
	clock_moved += 70 * NSEC_PER_SEC; /* to look for dead ones takes none that lives */
	for (int i = 0; i < READERS; i++)
		assert_base(ids[i], SLOT, i + 1, NULL);
	note(ids[0], SLOT + 1, 7);
	note(self, SLOT, 5000);
	assert_base(self, SLOT, 5000, NULL);
	assert_base(ids[0], SLOT, 1, NULL);
	assert_base(ids[1], SLOT, 0, NULL);
	for (int i = 3; i < READERS; i += 101)
		assert_base(ids[i], SLOT, i + 1, NULL);
	note(ids[1], SLOT, 6000);
	assert_base(ids[2], SLOT, 0, NULL);
	assert_base(ids[4], SLOT, 5, NULL);
	assert_base(self, SLOT, 5000, NULL);
	/* More of them than anybody remembers the process of. */
	for (int i = 0; i < READERS; i++)
		assert_int_equal(mergebase_who(b, ids[i].tgid).tgid, child);
	assert_true(same(mergebase_who(b, getpid()), self));
	reap(child);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_note, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unknown, setup, teardown),
		cmocka_unit_test_setup_teardown(test_oldest, setup, teardown),
		cmocka_unit_test_setup_teardown(test_oldest_of_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_oldest_of_many_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_met_unknown, setup, teardown),
		cmocka_unit_test_setup_teardown(test_saved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stamps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_who, setup, teardown),
		cmocka_unit_test_setup_teardown(test_processes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_number_used_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dead_readers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dead_after_a_minute, setup, teardown),
		cmocka_unit_test_setup_teardown(test_alive_after_a_minute, setup, teardown),
		cmocka_unit_test_setup_teardown(test_live_readers, setup, teardown),
	};

	return cmocka_run_group_tests_name("bases", tests, NULL, NULL);
}
