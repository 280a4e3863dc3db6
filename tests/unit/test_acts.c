/* What processes made and removed: whose it is, what ends it, and that nothing of it stays. */
#include "fs/tree/acts.h"
#include "tests/unit/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "waiting.h"

#define NOBODY 0x70000000 /* from here on there are no processes */

static struct acts *a;

static const struct place stream = {.kind = KIND_STREAM, .ns = "shop", .stream = "web"};
static const struct place tags = {.kind = KIND_TAGS, .ns = "shop", .stream = "web"};
static const struct place spec = {.kind = KIND_SPEC_JSON, .ns = "shop", .stream = "web"};
static const struct place v1 = {.kind = KIND_TAG, .ns = "shop", .stream = "web", .tag = "v1"};
static const struct place v2 = {.kind = KIND_TAG, .ns = "shop", .stream = "web", .tag = "v2"};
static const struct place v1_image = {
	.kind = KIND_TAG_IMAGE, .ns = "shop", .stream = "web", .tag = "v1"};

static int setup(void **state)
{
	clock_moved = 0;
	a = acts_new();
	return 0;
}

static int teardown(void **state)
{
	acts_free(a);
	return 0;
}

static struct process_id id_of(pid_t tid)
{
	struct process_id id;

	assert_true(process_identify(tid, &id));
	return id;
}

static struct process_id dead(int i)
{
	return (struct process_id){.tgid = NOBODY + i, .start = 1};
}

/* A child that waits to be killed. */
static pid_t start_child(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		pause();
		_exit(0);
	}
	assert_true(pid > 0);
	return pid;
}

static void end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	kill(pid, SIGCONT);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void stop_child(pid_t pid)
{
	int status;

	kill(pid, SIGSTOP);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
}

static bool make(const struct process_id *who, const struct place *place, unsigned act)
{
	return acts_note(a, who, "uid", place, act, NULL);
}

static unsigned of(const struct process_id *who, const struct place *place)
{
	return acts_of(a, who, "uid", place);
}

static void each_process_and_place_for_itself(void **state)
{
	struct process_id me = id_of(getpid()), other = dead(1);

	assert_false(acts_any(a));
	assert_true(make(&me, &v1, ACT_MADE | ACT_MAKER));
	assert_true(acts_any(a));
	assert_int_equal(of(&me, &v1), ACT_MADE | ACT_MAKER);
	assert_int_equal(of(&me, &v2), 0);
	assert_int_equal(of(&me, &v1_image), 0);
	assert_int_equal(of(&other, &v1), 0);
	assert_int_equal(acts_of(a, &me, "another uid", &v1), 0);
	assert_false(make(&other, &v1, ACT_REMOVED));
	assert_int_equal(of(&other, &v1), ACT_REMOVED);
	assert_int_equal(of(&me, &v1), ACT_MADE | ACT_MAKER);
}

static void one_ends_the_other(void **state)
{
	struct process_id me = id_of(getpid());

	make(&me, &v1, ACT_REMOVED);
	make(&me, &v1, ACT_MADE);
	assert_int_equal(of(&me, &v1), ACT_MADE);
	make(&me, &v1, ACT_REMOVED);
	assert_int_equal(of(&me, &v1), ACT_REMOVED);
}

/* Ordinary files that ordinary processes make are nothing to remember. */
static void a_name_alone_is_not_noted(void **state)
{
	struct process_id me = id_of(getpid());

	assert_false(make(&me, &spec, ACT_MADE));
	assert_false(acts_any(a));
	make(&me, &stream, ACT_MADE | ACT_MAKER);
	make(&me, &spec, ACT_MADE);
	assert_int_equal(of(&me, &spec), ACT_MADE);
}

static void nobody_is_nobody(void **state)
{
	struct process_id nobody = {0};

	assert_false(make(&nobody, &stream, ACT_MADE | ACT_MAKER));
	assert_false(acts_any(a));
	assert_int_equal(of(&nobody, &stream), 0);
	assert_int_equal(acts_look(a), INT64_MAX);
}

static void makers(void **state)
{
	struct process_id me = id_of(getpid());

	assert_false(acts_have_maker(a, "uid", &stream));
	make(&me, &v1, ACT_MADE | ACT_MAKER);
	assert_true(acts_have_maker(a, "uid", &v1));
	assert_false(acts_have_maker(a, "uid", &v2));
	assert_false(acts_have_maker(a, "uid", &tags));
	assert_true(acts_are_copy(a, getpid(), "uid", &v1_image));
	assert_false(acts_are_copy(a, getpid(), "uid", &spec));
	make(&me, &stream, ACT_MADE | ACT_MAKER);
	assert_true(acts_have_maker(a, "uid", &v2));
	assert_true(acts_have_maker(a, "uid", &tags));
	assert_true(acts_are_copy(a, getpid(), "uid", &spec));
	assert_false(acts_have_maker(a, "other", &stream));
}

/* What threads and children do is the maker's; what its parent or a stranger does isn't. */
static void children_copy_for_it(void **state)
{
	pid_t child = start_child(), second = start_child();
	struct process_id me = id_of(getpid()), maker = id_of(child);
	struct waiting thread;

	make(&maker, &stream, ACT_MADE | ACT_MAKER);
	assert_true(acts_are_copy(a, child, "uid", &spec));
	assert_false(acts_are_copy(a, getpid(), "uid", &spec));
	assert_false(acts_are_copy(a, second, "uid", &spec));
	make(&me, &v1, ACT_MADE | ACT_MAKER);
	assert_true(acts_are_copy(a, second, "uid", &v1_image));
	assert_false(acts_are_copy(a, second, "uid", &spec));
	start_waiting(&thread);
	assert_true(acts_are_copy(a, thread.tid, "uid", &v1_image));
	assert_false(acts_are_copy(a, 0, "uid", &v1_image));
	end_waiting(&thread);
	end_child(child);
	end_child(second);
	assert_false(acts_are_copy(a, child, "uid", &spec));
}

static void sixty_seconds(void **state)
{
	struct process_id me = id_of(getpid());

	make(&me, &stream, ACT_MADE | ACT_MAKER);
	clock_moved += ACTS_NS - NSEC_PER_SEC;
	assert_true(acts_look(a) < INT64_MAX);
	assert_true(acts_have_maker(a, "uid", &stream));
	make(&me, &spec, ACT_MADE); /* whatever it makes */
	clock_moved += ACTS_NS - NSEC_PER_SEC;
	assert_true(acts_look(a) < INT64_MAX);
	assert_int_equal(of(&me, &stream), ACT_MADE | ACT_MAKER);
	clock_moved += 2 * NSEC_PER_SEC;
	assert_int_equal(of(&me, &stream), 0); /* also before anybody looked */
	assert_false(acts_have_maker(a, "uid", &stream));
	assert_false(acts_are_copy(a, getpid(), "uid", &spec));
	assert_int_equal(acts_look(a), INT64_MAX);
	assert_false(acts_any(a));
}

/* What it did long ago is no part of what it does now. */
static void what_is_over_does_not_come_back(void **state)
{
	struct process_id me = id_of(getpid());
	struct object *old, *new;
	_cleanup_json_ json_t *json = json_pack("{s:{s:s, s:s, s:s, s:s}}", "metadata", "namespace",
		"shop", "name", "web", "uid", "uid", "resourceVersion", "1");

	assert_int_equal(object_from_json(json, "v1", &old), 0);
	assert_int_equal(object_from_json(json, "v1", &new), 0);
	acts_note(a, &me, "uid", &v1, ACT_REMOVED, old);
	clock_moved += ACTS_NS + 1;
	acts_note(a, &me, "uid", &v2, ACT_REMOVED, new);
	assert_int_equal(of(&me, &v1), 0);
	assert_int_equal(of(&me, &v2), ACT_REMOVED);
	object_unref(old);
	old = acts_seen(a, &me, "uid");
	assert_ptr_equal(old, new);
	object_unref(old);
	object_unref(new);
}

static void time_stands_for_who_is_stopped(void **state)
{
	pid_t child = start_child();
	struct process_id maker = id_of(child);

	make(&maker, &stream, ACT_MADE | ACT_MAKER);
	stop_child(child);
	for (int i = 0; i < 100; i++) {
		clock_moved += 2 * NSEC_PER_SEC;
		acts_look(a);
	}
	assert_int_equal(of(&maker, &stream), ACT_MADE | ACT_MAKER);
	kill(child, SIGCONT);
	assert_int_equal(waitpid(child, NULL, WCONTINUED), child);
	clock_moved += ACTS_NS - 3 * NSEC_PER_SEC;
	acts_look(a);
	assert_int_equal(of(&maker, &stream), ACT_MADE | ACT_MAKER);
	clock_moved += 4 * NSEC_PER_SEC;
	acts_look(a);
	assert_false(acts_any(a));
	end_child(child);
}

static void the_end_of_the_process(void **state)
{
	pid_t child = start_child();
	struct process_id maker = id_of(child), me = id_of(getpid());

	make(&maker, &stream, ACT_MADE | ACT_MAKER);
	make(&maker, &v1, ACT_REMOVED);
	make(&me, &v2, ACT_MADE | ACT_MAKER);
	end_child(child);
	assert_true(acts_look(a) < INT64_MAX);
	assert_false(acts_have_maker(a, "uid", &stream));
	assert_true(acts_have_maker(a, "uid", &v2));
}

/* Who has the number of a process that is over isn't it. */
static void a_number_is_used_again(void **state)
{
	struct process_id old = id_of(getpid()), new = old;

	old.start--;
	make(&old, &stream, ACT_MADE | ACT_MAKER);
	make(&old, &v1, ACT_REMOVED);
	assert_int_equal(of(&new, &stream), 0);
	assert_false(acts_are_copy(a, getpid(), "uid", &spec));
	make(&new, &v2, ACT_MADE | ACT_MAKER);
	assert_int_equal(of(&old, &stream), 0);
	assert_false(acts_have_maker(a, "uid", &stream));
	assert_true(acts_have_maker(a, "uid", &v2));
}

static void the_first_version_is_kept(void **state)
{
	struct process_id me = id_of(getpid()), other = dead(1);
	struct object *first, *second, *seen;
	_cleanup_json_ json_t *json = json_pack("{s:{s:s, s:s, s:s, s:s}}", "metadata", "namespace",
		"shop", "name", "web", "uid", "uid", "resourceVersion", "1");

	assert_int_equal(object_from_json(json, "v1", &first), 0);
	assert_int_equal(object_from_json(json, "v1", &second), 0);
	assert_null(acts_seen(a, &me, "uid"));
	acts_note(a, &me, "uid", &v1, ACT_REMOVED, first);
	acts_note(a, &me, "uid", &v2, ACT_REMOVED, second);
	seen = acts_seen(a, &me, "uid");
	assert_ptr_equal(seen, first);
	assert_null(acts_seen(a, &other, "uid"));
	object_unref(seen);
	object_unref(first);
	object_unref(second);
}

/* Two fill one stream; thousands come and go. */
static void many(void **state)
{
	struct process_id me = id_of(getpid());

	make(&me, &stream, ACT_MADE | ACT_MAKER);
	for (int i = 0; i < 70000; i++) {
		struct process_id who = dead(i % 3000);
		_cleanup_free_ char *uid = xasprintf("u%d", i % 4000);

		acts_note(a, &who, uid, &v1, ACT_REMOVED, NULL);
		acts_note(a, &who, uid, &v2, ACT_MADE | ACT_MAKER, NULL);
	}
	assert_int_equal(of(&me, &stream), ACT_MADE | ACT_MAKER);
	assert_true(acts_look(a) < INT64_MAX);
	for (int i = 0; i < 100; i++) {
		struct process_id who = dead(i);
		_cleanup_free_ char *uid = xasprintf("u%d", i);

		assert_int_equal(acts_of(a, &who, uid, &v1), 0);
	}
	assert_int_equal(of(&me, &stream), ACT_MADE | ACT_MAKER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(each_process_and_place_for_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(one_ends_the_other, setup, teardown),
		cmocka_unit_test_setup_teardown(a_name_alone_is_not_noted, setup, teardown),
		cmocka_unit_test_setup_teardown(nobody_is_nobody, setup, teardown),
		cmocka_unit_test_setup_teardown(makers, setup, teardown),
		cmocka_unit_test_setup_teardown(children_copy_for_it, setup, teardown),
		cmocka_unit_test_setup_teardown(sixty_seconds, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_over_does_not_come_back, setup, teardown),
		cmocka_unit_test_setup_teardown(time_stands_for_who_is_stopped, setup, teardown),
		cmocka_unit_test_setup_teardown(the_end_of_the_process, setup, teardown),
		cmocka_unit_test_setup_teardown(a_number_is_used_again, setup, teardown),
		cmocka_unit_test_setup_teardown(the_first_version_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(many, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
