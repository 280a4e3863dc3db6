/* What /proc says of a caller: which process it is, killed or gone by itself, told to stop. */
#include "fs/tree/process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "waiting.h"

/* Nobody has that id: it is beyond the greatest that there can be. */
#define NOBODY 0x7ffffff0

/* ---- threads ---- */

/* A child that says so once it has prepared itself, and then waits. */
static pid_t start(void (*prepare)(void))
{
	int fds[2];
	pid_t pid;
	char byte;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* not left where the test fails */
		if (prepare)
			prepare();
		while (write(fds[1], "x", 1) != 1)
			;
		for (;;)
			pause();
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &byte, 1), 1);
	close(fds[0]);
	return pid;
}

static void reap(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void refuse(pid_t tid)
{
	struct process_id id = {.tgid = 4711, .start = 4711};

	assert_false(process_identify(tid, &id));
	assert_int_equal(id.tgid, 0);
	assert_int_equal(id.start, 0);
}

static void test_identify(void **state)
{
	struct process_id self, again, of_a, of_b, of_child;
	pid_t child = start(NULL);
	struct waiting a, b;

	usleep(20000); /* a thread that started later than its process */
	start_waiting(&a);
	start_waiting(&b);
	assert_true(process_identify(getpid(), &self));
	assert_true(process_identify(getpid(), &again));
	assert_true(process_identify(a.tid, &of_a));
	assert_true(process_identify(b.tid, &of_b));
	assert_true(process_identify(child, &of_child));
	assert_int_equal(self.tgid, getpid());
	assert_true(self.start > 0);
	assert_true(process_id_equal(&self, &again));
	assert_true(process_id_equal(&self, &of_a));
	assert_true(process_id_equal(&of_b, &of_a));
	assert_int_equal(of_child.tgid, child);
	assert_true(of_child.start >= self.start);
	assert_false(process_id_equal(&of_child, &self));
	again.start++;
	assert_false(process_id_equal(&self, &again)); /* the number alone isn't it */
	refuse(0);
	refuse(NOBODY);
	end_waiting(&b);
	end_waiting(&a);
	reap(child);
	refuse(child);
}

static void test_alive(void **state)
{
	struct process_id self, of_child, nobody = {.tgid = NOBODY, .start = 1}, none = {0};
	pid_t child = start(NULL);

	assert_true(process_identify(getpid(), &self));
	assert_true(process_identify(child, &of_child));
	assert_true(process_is_alive(&self));
	assert_true(process_is_alive(&of_child));
	assert_false(process_is_alive(&nobody));
	assert_false(process_is_alive(&none));
	self.start--;
	assert_false(process_is_alive(&self)); /* another one that had the number */
	reap(child);
	assert_false(process_is_alive(&of_child));
}

/* ---- how it ended ---- */

static int exit_code;

static void *exit_from_thread(void *arg)
{
	_exit(exit_code);
	return NULL;
}

/* Ends the program from another thread than the first, which lies in wait. */
static void exit_beside(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, exit_from_thread, NULL) == 0)
		for (;;)
			pause();
}

static void exit_alone(void)
{
	_exit(exit_code);
}

static void *wait_for_ever(void *arg)
{
	for (;;)
		pause();
	return NULL;
}

static void two_threads(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, wait_for_ever, NULL);
}

static void abort_quietly(void)
{
	signal(SIGABRT, SIG_DFL);
	abort();
}

static void exit_on_term(int sig)
{
	_exit(exit_code);
}

static void handle_term(void)
{
	signal(SIGTERM, exit_on_term);
}

/* A dead child that nobody waited for yet shows how it ended. Nothing is left of its memory. */
static void assert_ended(pid_t pid, bool killed)
{
	siginfo_t info;

	while (waitid(P_PID, pid, &info, WEXITED | WNOWAIT) < 0)
		assert_int_equal(errno, EINTR);
	assert_int_equal(process_is_killed(pid), killed);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_false(process_is_killed(pid));
}

static pid_t run(void (*fn)(void))
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fn();
		_exit(99);
	}
	return pid;
}

/* exit() ends the other threads as a signal would, and is none, whatever the code. */
static void test_exited(void **state)
{
	static const int codes[] = {0, 1, 9, 15, 127, 128 + 9, 255};

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		exit_code = codes[i];
		assert_ended(run(exit_alone), false);
		assert_ended(run(exit_beside), false);
	}
}

static void test_killed(void **state)
{
	static const int signals[] = {SIGKILL, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGSEGV};
	static void (*const prepares[])(void) = {NULL, two_threads};

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		for (size_t k = 0; k < ARRAY_SIZE(prepares); k++) {
			pid_t pid;

			signal(signals[i], SIG_DFL); /* not the sanitizer's */
			pid = start(prepares[k]);
			assert_false(process_is_killed(pid));
			kill(pid, signals[i]);
			assert_ended(pid, true);
		}
	assert_ended(run(abort_quietly), true);
}

/* A program that takes the signal and ends by itself has ended by itself. */
static void test_handled(void **state)
{
	static const int codes[] = {0, 1, 128 + 15};

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		pid_t pid;

		exit_code = codes[i];
		pid = start(handle_term);
		kill(pid, SIGTERM);
		assert_ended(pid, false);
	}
}

static void test_not_ended(void **state)
{
	assert_false(process_is_killed(getpid()));
	assert_false(process_is_killed(0));
	assert_false(process_is_killed(NOBODY));
}

/* A name with what the line of numbers is made of. */
static void odd_name(void)
{
	int fd = open("/proc/self/comm", O_WRONLY);

	if (write(fd, ") R 1 2 (x) 4", 13) != 13)
		_exit(98);
	close(fd);
}

static void odd_name_exit(void)
{
	odd_name();
	exit_beside();
}

static void test_odd_name(void **state)
{
	pid_t pid = start(odd_name);
	struct process_id id;

	assert_true(process_identify(pid, &id));
	assert_int_equal(id.tgid, pid);
	assert_true(process_is_alive(&id));
	assert_false(process_is_killed(pid));
	kill(pid, SIGKILL);
	assert_ended(pid, true);
	exit_code = 3;
	assert_ended(run(odd_name_exit), false);
}

/* ---- told to stop ---- */

static int the_signal;

static void block_all(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
}

static void ignore(void)
{
	signal(the_signal, SIG_IGN);
}

static void block_and_ignore(void)
{
	block_all();
	ignore();
}

static void take_note(int sig)
{
}

static void handle(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(the_signal, take_note);
}

/*
 * A signal that is handled is pending until its thread runs, so the thread is kept from running: it
 * is stopped.
 */
static pid_t start_stopped(void (*prepare)(void))
{
	pid_t pid = start(prepare);
	siginfo_t info;

	kill(pid, SIGSTOP);
	assert_int_equal(waitid(P_PID, pid, &info, WSTOPPED | WNOWAIT), 0);
	return pid;
}

static const int stops[] = {SIGINT, SIGQUIT, SIGHUP, SIGTERM};
static const int others[] = {SIGWINCH, SIGALRM, SIGCHLD, SIGUSR1, SIGUSR2, SIGTSTP, SIGIO, SIGPIPE,
	SIGPROF, SIGURG, 34, 64};

static void assert_told(void (*prepare)(void), int sig, bool to_thread, bool told)
{
	pid_t pid;

	the_signal = sig;
	pid = start_stopped(prepare);
	assert_false(process_told_to_stop(pid));
	if (to_thread)
		assert_int_equal(syscall(SYS_tgkill, pid, pid, sig), 0);
	else
		assert_int_equal(kill(pid, sig), 0);
	if (process_told_to_stop(pid) != told)
		fail_msg("signal %d, to the thread: %d", sig, to_thread);
	reap(pid);
}

static void test_told(void **state)
{
	for (int to_thread = 0; to_thread < 2; to_thread++) {
		for (size_t i = 0; i < ARRAY_SIZE(stops); i++) {
			assert_told(handle, stops[i], to_thread, true);
			assert_told(ignore, stops[i], to_thread, false);
			assert_told(block_all, stops[i], to_thread, false);
			assert_told(block_and_ignore, stops[i], to_thread, false);
		}
		for (size_t i = 0; i < ARRAY_SIZE(others); i++)
			assert_told(handle, others[i], to_thread, false);
	}
}

static void block_one(void)
{
	sigset_t set;

	signal(SIGUSR1, take_note);
	for (size_t i = 0; i < ARRAY_SIZE(stops); i++)
		signal(stops[i], take_note);
	sigemptyset(&set);
	sigaddset(&set, the_signal);
	sigprocmask(SIG_SETMASK, &set, NULL);
}

/* Each signal counts by itself: a blocked one doesn't hide the other. */
static void test_told_beside(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(stops); i++) {
		pid_t pid;

		the_signal = stops[i];
		pid = start_stopped(block_one);
		kill(pid, stops[i]);
		assert_false(process_told_to_stop(pid));
		kill(pid, SIGUSR1);
		assert_false(process_told_to_stop(pid));
		kill(pid, stops[(i + 1) % ARRAY_SIZE(stops)]);
		assert_true(process_told_to_stop(pid));
		reap(pid);
	}
}

/* Another thread's own signal is no concern of this one's. */
static void test_told_thread(void **state)
{
	struct waiting w;
	sigset_t set, old;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	start_waiting(&w);
	assert_int_equal(syscall(SYS_tgkill, getpid(), w.tid, SIGTERM), 0);
	assert_false(process_told_to_stop(getpid()));
	assert_false(process_told_to_stop(w.tid)); /* blocked there */
	end_waiting(&w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* Of a process that can't be looked at nobody can tell that it isn't a resized terminal. */
static void test_told_unknown(void **state)
{
	pid_t child = start(NULL);

	assert_false(process_told_to_stop(0));
	assert_false(process_told_to_stop(NOBODY));
	assert_false(process_told_to_stop(getpid()));
	assert_false(process_told_to_stop(child));
	reap(child);
	assert_false(process_told_to_stop(child));
}

/* ---- what can be told at all ---- */

static void test_sight(void **state)
{
	assert_int_equal(process_sight(), getpid() == 1 ? PROCESS_OUTSIDE : PROCESS_TOLD);
	assert_null(process_sight_text(PROCESS_TOLD));
	assert_non_null(process_sight_text(PROCESS_OUTSIDE));
	assert_non_null(process_sight_text(PROCESS_HIDDEN));
	assert_non_null(process_sight_text(PROCESS_NO_PROC));
}

/* The first process of a new pid namespace: with the /proc of the old one, then with its own. */
static int look_from_inside(bool own_proc, pid_t stranger)
{
	struct process_id id;

	if (own_proc && (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
				mount("proc", "/proc", "proc", 0, NULL) < 0))
		return 77;
	if (process_sight() != (own_proc ? PROCESS_OUTSIDE : PROCESS_NO_PROC))
		return 1;
	if (process_identify(getpid(), &id) != own_proc)
		return 2;
	/* The number is another process's there. */
	return !own_proc && process_identify(stranger, &id) ? 3 : 0;
}

static int look_in_namespace(bool own_proc)
{
	pid_t outer = fork(), inner, self = getpid();
	int status;

	assert_true(outer >= 0);
	if (outer == 0) {
		if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0)
			_exit(77);
		inner = fork();
		if (inner == 0)
			_exit(look_from_inside(own_proc, self));
		if (inner < 0 || waitpid(inner, &status, 0) != inner || !WIFEXITED(status))
			_exit(99);
		_exit(WEXITSTATUS(status));
	}
	assert_int_equal(waitpid(outer, &status, 0), outer);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* Before anything else asks: the answer is kept. */
static void test_sight_in_namespace(void **state)
{
	int without = look_in_namespace(false), own = look_in_namespace(true);

	if (without == 77 || own == 77)
		skip(); /* not root */
	assert_int_equal(without, 0);
	assert_int_equal(own, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sight_in_namespace),
		cmocka_unit_test(test_sight),
		cmocka_unit_test(test_identify),
		cmocka_unit_test(test_alive),
		cmocka_unit_test(test_exited),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_handled),
		cmocka_unit_test(test_not_ended),
		cmocka_unit_test(test_odd_name),
		cmocka_unit_test(test_told),
		cmocka_unit_test(test_told_beside),
		cmocka_unit_test(test_told_thread),
		cmocka_unit_test(test_told_unknown),
	};

	return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
