/*
 * Renewal, with files and plugins in a directory of each test. The clock is moved before the thread
 * starts: it then finds what is due.
 */
#include "tests/unit/clock.h"
#include "tests/unit/pem.h"

#include "client/clock.h"
#include "client/log.h"
#include "client/login.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

#define USER_OF(user)                                                                              \
	"current-context: a\n"                                                                     \
	"contexts: [{name: a, context: {cluster: c, user: u}}]\n"                                  \
	"clusters: [{name: c, cluster: {server: 'https://a'}}]\n"                                  \
	"users: [{name: u, user: " user "}]\n"
#define EXEC                                                                                       \
	USER_OF("{exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, "    \
		"command: ./plugin}}")
#define SECOND NSEC_PER_SEC

static char directory[] = "/tmp/test_login.XXXXXX";
static struct config *config;
static struct login *in_use;
static sem_t changed;
static int saved_stderr;

static char *in(const char *name)
{
	return xasprintf("%s/%s", directory, name);
}

/* As a careful program writes: whoever reads meanwhile sees the old or the new text. */
static void put(const char *name, const char *text)
{
	_cleanup_free_ char *path = in(name), *next = in(".new");
	FILE *f = fopen(next, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(next, 0700), 0);
	assert_int_equal(rename(next, path), 0);
}

static void put_plugin(const char *script)
{
	_cleanup_free_ char *text =
		xasprintf("#!/bin/sh\ncd %s\n"
			  "n=$(($(cat runs 2>/dev/null) + 1)); echo $n >runs\n%s\n",
			directory, script);

	put("plugin", text);
}

#define ANSWER_WITH(more)                                                                          \
	"echo '{\"kind\": \"ExecCredential\", \"apiVersion\": \"client.authentication.k8s.io/v1\"" \
	", \"status\": {\"token\": \"s3cret'$n'\"" more "}}'\n"
#define ANSWER ANSWER_WITH("")

static int runs(void)
{
	_cleanup_free_ char *path = in("runs"), *text = NULL;
	size_t len;

	return read_file(path, 100, &text, &len) < 0 ? 0 : atoi(text);
}

static int setup(void **state)
{
	_cleanup_free_ char *errors = NULL;
	int fd;

	strcpy(directory + strlen(directory) - 6, "XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	unsetenv("KUBECONFIG");
	setenv("HOME", directory, 1);
	sem_init(&changed, 0, 0);
	clock_moved = 0;
	errors = in("stderr");
	fd = open(errors, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	saved_stderr = dup(STDERR_FILENO);
	dup2(fd, STDERR_FILENO);
	close(fd);
	log_setup(&(struct log_options){.level = LOG_LEVEL_DEBUG});
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

/* No test has logged a credential. */
static int teardown(void **state)
{
	_cleanup_free_ char *path = in("stderr"), *text = NULL;
	size_t len;

	login_free(steal_ptr(in_use));
	config_free(steal_ptr(config));
	sem_destroy(&changed);
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	if (read_file(path, 1 << 20, &text, &len) < 0 || strstr(text, "s3cret")) {
		fprintf(stderr, "%s", text);
		return -1;
	}
	return nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void on_changed(void *arg)
{
	sem_post(arg);
}

static int try_begin(const char *kubeconfig, char **ret_error)
{
	_cleanup_free_ char *path = in("k");
	struct config_flags flags = {.kubeconfig = path};
	int r;

	put("k", kubeconfig);
	r = config_load(&flags, &config, ret_error);
	return r < 0 ? r : login_new(config, 20000, &in_use, ret_error);
}

static void begin(const char *kubeconfig)
{
	char *error = NULL;

	if (try_begin(kubeconfig, &error) < 0)
		fail_msg("%s", error);
}

static void start(void)
{
	assert_int_equal(login_start(in_use, on_changed, &changed), 0);
}

static void assert_token(const char *expected)
{
	struct credentials *c = login_credentials(in_use);

	assert_string_equal(c->token, expected);
	credentials_unref(c);
}

static void wait_for_change(void)
{
	struct timespec until;

	syscall(SYS_clock_gettime, CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	assert_int_equal(sem_timedwait(&changed, &until), 0);
}

/* A request with the credentials in use was answered by 401; what came of it. */
static int be_refused(void)
{
	struct credentials *c = login_credentials(in_use);
	unsigned renewal;
	int r;

	login_answered(in_use, c, 401);
	renewal = login_ask(in_use, c->generation);
	r = login_wait(in_use, c->generation, renewal, now_monotonic() - clock_moved + 20 * SECOND);
	credentials_unref(c);
	return r;
}

static void assert_status(const char *key, const char *part)
{
	_cleanup_json_ json_t *status = login_status(in_use);
	_cleanup_free_ char *text = json_dumps(status, 0);

	assert_null(strstr(text, "s3cret"));
	if (!part) {
		assert_true(json_is_null(json_object_get(status, key)));
		return;
	}
	if (!json_str(status, key) || !strstr(json_str(status, key), part))
		fail_msg("%s: %s", key, text);
}

static bool is_refused(void)
{
	_cleanup_json_ json_t *status = login_status(in_use);

	return json_is_true(json_object_get(status, "refused"));
}

/* What no event tells: polled. */
static void wait_for_status(const char *key, const char *part)
{
	for (int i = 0; i < 2000; i++) {
		_cleanup_json_ json_t *status = login_status(in_use);
		const char *text = json_str(status, key);

		if (part ? text && strstr(text, part) : !text)
			break;
		usleep(10000);
	}
	assert_status(key, part);
}

/* ---- files ---- */

static void test_token_file_grows_old(void **state)
{
	put("t", "s3cret1\n");
	begin(USER_OF("{tokenFile: t}"));
	assert_status("kind", "tokenFile");
	put("t", "\ts3cret2 \n");
	assert_token("s3cret1");
	clock_moved = 51 * SECOND;
	start();
	wait_for_change();
	assert_token("s3cret2");
}

static void test_token_file_not_yet(void **state)
{
	put("t", "s3cret1");
	begin(USER_OF("{tokenFile: t}"));
	put("t", "s3cret2");
	clock_moved = 40 * SECOND;
	start();
	assert_int_equal(
		login_wait(in_use, 1, 1, now_monotonic() - clock_moved + SECOND / 5), -EAGAIN);
	assert_token("s3cret1");
}

static void test_token_file_after_401(void **state)
{
	put("t", "s3cret1");
	begin(USER_OF("{tokenFile: t}"));
	start();
	put("t", "s3cret2");
	assert_int_equal(be_refused(), 0);
	assert_token("s3cret2");
	assert_false(is_refused());
}

static void test_token_file_kept(void **state)
{
	static const char *const bad[] = {"", "two words", NULL};
	_cleanup_free_ char *path = in("t");

	put("t", "s3cret1");
	begin(USER_OF("{token: s3cret0, tokenFile: t}"));
	start();
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (bad[i])
			put("t", bad[i]);
		else
			unlink(path);
		assert_int_equal(be_refused(), -EKEYEXPIRED);
		assert_token("s3cret1");
		assert_status("error", "can't read token file");
	}
	put("t", "s3cret2");
	wait_for_change(); /* once refused, it looks by itself */
	assert_token("s3cret2");
	assert_status("error", NULL);
}

/* A pod's token: the link stays, the directory that it leads through goes. */
static void test_token_link(void **state)
{
	_cleanup_free_ char *one = in("one"), *two = in("two"), *link = in("link"),
			    *next = in("next"), *old = in("one/t");

	assert_int_equal(mkdir(one, 0700) + mkdir(two, 0700), 0);
	put("one/t", "s3cret1");
	put("two/t", "s3cret2");
	assert_int_equal(symlink("one", link), 0);
	begin(USER_OF("{tokenFile: link/t}"));
	start();
	assert_token("s3cret1");
	assert_int_equal(symlink("two", next) + rename(next, link) + unlink(old), 0);
	assert_int_equal(be_refused(), 0);
	assert_token("s3cret2");
}

static void test_certificate_files(void **state)
{
	struct credentials *c;

	put("crt", CERTIFICATE);
	put("key", KEY);
	begin(USER_OF("{client-certificate: crt, client-key: key}"));
	put("crt", CERTIFICATE_2);
	put("key", KEY_2);
	clock_moved = 51 * SECOND;
	start();
	wait_for_change();
	c = login_credentials(in_use);
	assert_string_equal(c->certificate, CERTIFICATE_2);
	assert_string_equal(c->key, KEY_2);
	assert_string_equal(c->kind, "client-certificate");
	credentials_unref(c);
}

/* ---- the kubeconfig ---- */

static void test_kubeconfig(void **state)
{
	begin(USER_OF("{token: s3cret1}"));
	start();
	assert_int_equal(be_refused(), -EKEYEXPIRED);
	assert_true(is_refused());
	put("k", USER_OF("{token: s3cret2, as: jane}"));
	wait_for_change();
	assert_token("s3cret2");
	assert_false(is_refused());
}

/* While they are good nobody asks. */
static void test_kubeconfig_unasked(void **state)
{
	struct credentials *c;

	begin(USER_OF("{token: s3cret1}"));
	start();
	assert_int_equal(be_refused(), -EKEYEXPIRED);
	c = login_credentials(in_use);
	login_answered(in_use, c, 200);
	assert_false(is_refused());
	put("k", USER_OF("{token: s3cret2}"));
	usleep(1500000);
	assert_token("s3cret1");
	credentials_unref(c);
}

static void test_kubeconfig_half_written(void **state)
{
	begin(USER_OF("{token: s3cret1}"));
	start();
	put("k", "users: [{name: u, user: {token: s3cret2");
	assert_int_equal(be_refused(), -EKEYEXPIRED);
	assert_status("error", "can't parse kubeconfig");
	put("k", USER_OF("{token: s3cret2}"));
	wait_for_change();
	assert_token("s3cret2");
	assert_status("error", NULL);
}

static void test_kubeconfig_of_another_server(void **state)
{
	begin(USER_OF("{token: s3cret1}"));
	start();
	put("k", "current-context: a\n"
		 "contexts: [{name: a, context: {cluster: c, user: u}}]\n"
		 "clusters: [{name: c, cluster: {server: 'https://b'}}]\n"
		 "users: [{name: u, user: {token: s3cret2}}]\n");
	assert_int_equal(be_refused(), -EKEYEXPIRED);
	assert_token("s3cret1");
	assert_status("error", "another server");
}

/* ---- plugins ---- */

static void test_plugin(void **state)
{
	put_plugin(ANSWER "echo hello >&2");
	begin(EXEC);
	assert_token("s3cret1");
	assert_status("kind", "exec");
	assert_status("expires", NULL);
	assert_status("stderr", "hello");
	start();
	assert_int_equal(be_refused(), 0);
	assert_token("s3cret2");
	assert_int_equal(runs(), 2);
}

static void test_plugin_fails_at_first(void **state)
{
	_cleanup_free_ char *error = NULL;

	put_plugin("echo first >&2; echo 'log in\twith x' >&2; exit 1");
	assert_int_equal(try_begin(EXEC, &error), -EIO);
	assert_null(in_use);
	assert_non_null(strstr(error, "plugin failed with exit code 1: log in?with x"));
}

static void test_plugin_expires(void **state)
{
	put_plugin(ANSWER_WITH(
		", \"expirationTimestamp\": \"'$(date -u -d +11sec +%Y-%m-%dT%H:%M:%SZ)'\""));
	begin(EXEC);
	assert_status("expires", "T");
	start();
	wait_for_change();
	assert_token("s3cret2");
}

/* It may give the same again until it has expired: it is asked early, and then in time. */
static void test_plugin_expires_later(void **state)
{
	put_plugin("test -e at || date -u -d +3sec +%Y-%m-%dT%H:%M:%SZ >at\n"
		   "if [ $n -gt 1 ] && [ $(date -u +%Y-%m-%dT%H:%M:%SZ) '<' $(cat at) ]; then n=1; "
		   "fi\n" ANSWER_WITH(", \"expirationTimestamp\": \"'$(cat at)'\""));
	begin(EXEC);
	start();
	wait_for_change();
	assert_true(runs() >= 2 && runs() <= 4);
}

/* Answers that have expired already don't make it run all the time. */
static void test_plugin_expired(void **state)
{
	put_plugin(ANSWER_WITH(", \"expirationTimestamp\": \"2020-01-01T00:00:00Z\""));
	begin(EXEC);
	start();
	usleep(1000000);
	assert_int_equal(runs(), 1);
}

static void test_plugin_fruitless(void **state)
{
	int64_t begun;

	put_plugin("n=1\n" ANSWER);
	begin(EXEC);
	start();
	assert_int_equal(be_refused(), -EKEYEXPIRED);
	begun = now_monotonic();
	for (int i = 0; i < 20; i++)
		assert_int_equal(be_refused(), -EKEYEXPIRED);
	assert_true(runs() >= 2 && runs() <= 3 + (now_monotonic() - begun) / (2 * SECOND));
}

static void test_plugin_fails_later(void **state)
{
	put_plugin(ANSWER);
	begin(EXEC);
	start();
	put_plugin("echo not now >&2; exit 7");
	assert_int_equal(be_refused(), -EKEYEXPIRED);
	assert_token("s3cret1");
	assert_status("error", "failed with exit code 7");
	assert_status("stderr", "not now");
	assert_int_equal(be_refused(), -EKEYEXPIRED); /* too soon for another run */
	assert_status("error", "failed with exit code 7");
	put_plugin(ANSWER);
	wait_for_change(); /* it is tried again without being asked */
	assert_status("error", NULL);
	assert_status("stderr", NULL);
}

static void test_plugin_replaced_by_token(void **state)
{
	put_plugin(ANSWER_WITH(", \"expirationTimestamp\": \"2099-01-01T00:00:00Z\""));
	begin(EXEC);
	start();
	put_plugin("exit 1");
	assert_int_equal(be_refused(), -EKEYEXPIRED);
	put("k", USER_OF("{token: other}"));
	wait_for_change();
	assert_token("other");
	wait_for_status("kind", "token");
	assert_status("expires", NULL);
}

static void test_stop_while_it_runs(void **state)
{
	int64_t begun;

	put_plugin(ANSWER);
	begin(EXEC);
	start();
	put_plugin("exec sleep 60");
	login_ask(in_use, 1);
	for (int i = 0; i < 2000 && runs() < 2; i++)
		usleep(10000);
	begun = now_monotonic();
	login_stop(in_use);
	assert_true(now_monotonic() - begun < 10 * SECOND);
	assert_token("s3cret1");
}

/* ---- requests beside each other ---- */

static void *ask_credentials(void *arg)
{
	for (int i = 0; i < 200; i++) {
		struct credentials *c = login_credentials(in_use);
		bool good = str_has_prefix(c->token, "s3cret");

		login_answered(in_use, c, i % 10 ? 200 : 401);
		credentials_unref(c);
		if (!good)
			return in_use;
	}
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[4];
	void *failed;

	put("t", "s3cret0");
	begin(USER_OF("{tokenFile: t}"));
	start();
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ask_credentials, NULL), 0);
	for (int i = 0; i < 20; i++) {
		_cleanup_free_ char *text = xasprintf("s3cret%d", i);

		put("t", text);
	}
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
}

/* Without the thread nothing renews: nobody waits. */
static void test_not_started(void **state)
{
	begin(USER_OF("{token: s3cret}"));
	assert_int_equal(be_refused(), -EKEYEXPIRED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_token_file_grows_old),
		TEST(test_token_file_not_yet),
		TEST(test_token_file_after_401),
		TEST(test_token_file_kept),
		TEST(test_token_link),
		TEST(test_certificate_files),
		TEST(test_kubeconfig),
		TEST(test_kubeconfig_unasked),
		TEST(test_kubeconfig_half_written),
		TEST(test_kubeconfig_of_another_server),
		TEST(test_plugin),
		TEST(test_plugin_fails_at_first),
		TEST(test_plugin_expires),
		TEST(test_plugin_expires_later),
		TEST(test_plugin_expired),
		TEST(test_plugin_fruitless),
		TEST(test_plugin_fails_later),
		TEST(test_plugin_replaced_by_token),
		TEST(test_stop_while_it_runs),
		TEST(test_threads),
		TEST(test_not_started),
	};

	return cmocka_run_group_tests_name("login", tests, NULL, NULL);
}
