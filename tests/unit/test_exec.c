/* Plugins are shell scripts in a directory of their own. */
#include "tests/unit/pem.h"

#include "client/clock.h"
#include "client/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include <cmocka.h>

#define V1 "client.authentication.k8s.io/v1"
#define ANSWER(status)                                                                             \
	"{\"kind\": \"ExecCredential\", \"apiVersion\": \"" V1 "\", \"status\": " status "}"

static char directory[] = "/tmp/test_exec.XXXXXX";

static int setup(void **state)
{
	strcpy(directory + strlen(directory) - 6, "XXXXXX");
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	return nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static char *in(const char *name)
{
	return xasprintf("%s/%s", directory, name);
}

/* ---- answers ---- */

static void test_answers(void **state)
{
	static const char both[] =
		ANSWER("{\"token\": \"t\", \"clientCertificateData\": \"" CERTIFICATE_JSON
		       "\", \"clientKeyData\": \"" KEY_JSON "\", "
		       "\"expirationTimestamp\": \"2026-01-02T03:04:05Z\"}");
	static const char token[] =
		ANSWER("{\"token\": \"t\", \"more\": [], "
		       "\"clientKeyData\": \"\", \"expirationTimestamp\": null}");
	struct exec_answer a = {0};
	char *error = NULL;

	assert_int_equal(exec_answer_parse(both, strlen(both), V1, &a, &error), 0);
	assert_string_equal(a.token, "t");
	assert_string_equal(a.certificate, CERTIFICATE);
	assert_string_equal(a.key, KEY);
	assert_int_equal(a.expires, INT64_C(1767323045) * NSEC_PER_SEC);
	exec_answer_release(&a);
	assert_int_equal(exec_answer_parse(token, strlen(token), V1, &a, &error), 0);
	assert_string_equal(a.token, "t");
	assert_null(a.certificate);
	assert_int_equal(a.expires, 0);
	exec_answer_release(&a);
	assert_null(error);
}

static void test_wrong_answers(void **state)
{
	static const struct {
		const char *text, *sentence;
	} rows[] = {
		{"", "it isn't an object"},
		{"s3cret", "it isn't an object"},
		{"{\"status\": {\"token\": \"s3cret\"}", "it isn't an object"},
		{"[]", "it isn't an object"},
		{"{}", "its apiVersion isn't the kubeconfig's"},
		{"{\"kind\": \"Secret\"}", "its kind isn't ExecCredential"},
		{"{\"kind\": \"ExecCredential\", \"status\": {\"token\": \"s3cret\"}}",
			"its apiVersion isn't the kubeconfig's"},
		{"{\"kind\": \"ExecCredential\", \"apiVersion\": \"" V1 "beta1\"}",
			"its apiVersion isn't the kubeconfig's"},
		{ANSWER("null"), "it has no status"},
		{ANSWER("\"s3cret\""), "it has no status"},
		{ANSWER("{}"), "it has neither a token nor a client certificate"},
		{ANSWER("{\"token\": 7}"), "neither a token nor"},
		{ANSWER("{\"token\": \"s3cret\\n\"}"), "its token holds white space"},
		{ANSWER("{\"token\": \"s3cr\\u00e9t\"}"), "its token holds white space"},
		{ANSWER("{\"token\": \"s3cret\\u0000\"}"), "it isn't an object"},
		{ANSWER("{\"clientCertificateData\": \"" CERTIFICATE_JSON "\"}"),
			"without its key"},
		{ANSWER("{\"token\": \"s3cret\", \"clientKeyData\": \"" KEY_JSON "\"}"),
			"without its certificate"},
		{ANSWER("{\"clientCertificateData\": \"x\", \"clientKeyData\": \"" KEY_JSON "\"}"),
			"its client certificate holds no whole PEM certificate"},
		{ANSWER("{\"clientCertificateData\": \"" CERTIFICATE_JSON
			"\", \"clientKeyData\": \"s3cret\"}"),
			"its client key holds no whole PEM key"},
		{ANSWER("{\"clientCertificateData\": \"" CERTIFICATE_JSON
			"\", \"clientKeyData\": \"" ENCRYPTED_KEY_JSON "\"}"),
			"its client key is encrypted"},
		{ANSWER("{\"token\": \"s3cret\", \"expirationTimestamp\": \"soon\"}"),
			"its expirationTimestamp is no time"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *error = NULL;
		struct exec_answer a = {0};

		assert_int_equal(
			exec_answer_parse(rows[i].text, strlen(rows[i].text), V1, &a, &error),
			-EINVAL);
		if (!strstr(error, rows[i].sentence) || strstr(error, "s3cret"))
			fail_msg("%s: %s", rows[i].text, error);
		assert_null(a.token);
		assert_null(a.key);
	}
}

/* ---- runs ---- */

struct run {
	struct exec_answer answer;
	char *text, *error;
	int r;
	int64_t took_ms;
};

static void run_release(struct run *x)
{
	exec_answer_release(&x->answer);
	free(x->text);
	free(x->error);
}

#define _cleanup_run_ _cleanup_(run_release)

static struct exec_plugin *plugin(const char *command, const char *more)
{
	_cleanup_free_ char *text =
		xasprintf("{\"apiVersion\": \"" V1 "\", \"interactiveMode\": \"Never\", "
			  "\"command\": \"%s\"%s}",
			command, more);
	_cleanup_free_ char *file = in("kubeconfig");
	_cleanup_json_ json_t *map = json_loads(text, 0, NULL);
	struct exec_plugin *p = NULL;
	char *error = NULL;

	assert_non_null(map);
	if (exec_plugin_new(map, file, &p, &error) < 0)
		fail_msg("%s", error);
	return p;
}

static struct run run_plugin(const struct exec_plugin *p, int64_t timeout_ms, int cancel_fd)
{
	struct run x = {0};
	int64_t begin = now_monotonic();

	x.r = exec_run(p, timeout_ms, cancel_fd, &x.answer, &x.text, &x.error);
	x.took_ms = (now_monotonic() - begin) / NSEC_PER_MSEC;
	assert_true((x.r < 0) == (x.error != NULL));
	return x;
}

static void put_script(const char *name, const char *script)
{
	_cleanup_free_ char *path = in(name);
	FILE *f = fopen(path, "w");

	fprintf(f, "#!/bin/sh\ncd %s\n%s\n", directory, script);
	fclose(f);
	assert_int_equal(chmod(path, 0700), 0);
}

static struct run run_script(const char *script)
{
	struct exec_plugin *p = plugin("./plugin", "");
	struct run x;

	put_script("plugin", script);
	x = run_plugin(p, 20000, -1);
	exec_plugin_free(p);
	return x;
}

static char *read_result(const char *name)
{
	_cleanup_free_ char *path = in(name);
	char *text;
	size_t len;

	assert_int_equal(read_file(path, 1 << 20, &text, &len), 0);
	return text;
}

#define TOKEN "echo '" ANSWER("{\"token\": \"s3cret\"}") "'\n"

static void test_run(void **state)
{
	_cleanup_run_ struct run x = run_script(TOKEN "echo hello >&2");

	assert_int_equal(x.r, 0);
	assert_string_equal(x.answer.token, "s3cret");
	assert_string_equal(x.text, "hello\n");
}

/* Its arguments, its environment, and what it is asked. */
static void test_asked(void **state)
{
	_cleanup_free_ char *args = NULL, *env = NULL, *info = NULL, *expected = NULL;
	_cleanup_json_ json_t *asked = NULL;
	struct exec_plugin *p =
		plugin("./plugin", ", \"args\": [\"a b\", \"$c\"], "
				   "\"env\": [{\"name\": \"A\", \"value\": \"new\"}, "
				   "{\"name\": \"KUBERNETES_EXEC_INFO\", \"value\": \"mine\"}]");
	_cleanup_run_ struct run x = {0};

	setenv("A", "old", 1);
	setenv("B", "kept", 1);
	setenv("KUBERNETES_EXEC_INFO", "theirs", 1);
	p->cluster = json_pack("{s:s}", "server", "https://api");
	put_script("plugin", "printf '%s|' \"$@\" >args; echo \"$A $B\" >env\n"
			     "printf %s \"$KUBERNETES_EXEC_INFO\" >info\n" TOKEN);
	x = run_plugin(p, 20000, -1);
	exec_plugin_free(p);
	assert_int_equal(x.r, 0);
	args = read_result("args");
	env = read_result("env");
	info = read_result("info");
	assert_string_equal(args, "a b|$c|");
	assert_string_equal(env, "new kept\n");
	asked = json_pack("{s:s, s:s, s:{s:b, s:{s:s}}}", "kind", "ExecCredential", "apiVersion",
		V1, "spec", "interactive", 0, "cluster", "server", "https://api");
	expected = json_dumps(asked, JSON_COMPACT);
	assert_string_equal(info, expected);
}

/* No terminal, no file of ours, no signal blocked or ignored, a session of its own. */
static void test_surroundings(void **state)
{
	_cleanup_free_ char *fds = NULL, *status = NULL, *session = NULL;
	_cleanup_close_ int fd = open("/", O_RDONLY); /* without O_CLOEXEC */
	unsigned long long blocked, ignored;
	int ids[4];
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	signal(SIGPIPE, SIG_IGN);
	{
		_cleanup_run_ struct run x =
			run_script("echo /proc/$$/fd/* >fds; readlink "
				   "/proc/$$/fd/0 >stdin\n"
				   "grep -E '^Sig(Blk|Ign)' /proc/self/status "
				   ">status\n" /* the shell blocks while it forks */
				   "cut -d' ' -f5,6 /proc/$$/stat >session; echo "
				   "$$ $$ >>session\n" TOKEN);

		assert_int_equal(x.r, 0);
	}
	signal(SIGPIPE, SIG_DFL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	fds = read_result("fds");
	assert_non_null(strstr(fds, "/fd/2"));
	for (int n = 3; n < 10; n++) {
		_cleanup_free_ char *name = xasprintf("/fd/%d ", n);

		assert_null(strstr(fds, name)); /* the shell's own for the script is 10 or more */
	}
	status = read_result("status");
	assert_int_equal(sscanf(status, "SigBlk: %llx SigIgn: %llx", &blocked, &ignored), 2);
	assert_int_equal(blocked, 0);
	/* The C library ignores the two that are its own. */
	assert_int_equal(ignored & ~UINT64_C(0x180000000), 0);
	session = read_result("session");
	assert_int_equal(sscanf(session, "%d %d %d %d", &ids[0], &ids[1], &ids[2], &ids[3]), 4);
	assert_memory_equal(ids, ids + 2, 2 * sizeof(ids[0]));
}

static void test_path(void **state)
{
	struct exec_plugin *p = plugin("plugin-in-path", "");
	_cleanup_free_ char *old = xstrdup(getenv("PATH"));
	_cleanup_free_ char *path = xasprintf("%s:%s", directory, old);
	_cleanup_run_ struct run x = {0};

	put_script("plugin-in-path", TOKEN);
	setenv("PATH", path, 1);
	x = run_plugin(p, 20000, -1);
	setenv("PATH", old, 1);
	exec_plugin_free(p);
	assert_int_equal(x.r, 0);
	assert_string_equal(x.answer.token, "s3cret");
}

static void test_missing(void **state)
{
	struct exec_plugin *p = plugin("plugin-nowhere", ", \"installHint\": \"get it\\nfrom us\"");
	_cleanup_run_ struct run x = run_plugin(p, 20000, -1);

	exec_plugin_free(p);
	assert_int_equal(x.r, -ENOENT);
	assert_string_equal(x.error, "can't run the exec plugin plugin-nowhere: No such file or "
				     "directory: get it?from us");
}

static void test_wants_terminal(void **state)
{
	_cleanup_free_ char *error = NULL, *text = NULL;
	_cleanup_json_ json_t *map = json_pack("{s:s, s:s, s:s}", "apiVersion", V1,
		"interactiveMode", "Always", "command", "true");
	struct exec_plugin *p = NULL;
	struct exec_answer a;

	assert_int_equal(exec_plugin_new(map, "/k", &p, &error), 0);
	assert_int_equal(exec_run(p, 1000, -1, &a, &text, &error), -EINVAL);
	assert_non_null(strstr(error, "wants a terminal (interactiveMode Always)"));
	exec_plugin_free(p);
}

static void test_failures(void **state)
{
	static const struct {
		const char *script, *sentence;
		int r;
	} rows[] = {
		{"echo why >&2; " TOKEN "exit 3", "failed with exit code 3", -EIO},
		{"kill -KILL $$", "was ended by signal 9", -EIO},
		{"", "is wrong: it isn't an object", -EINVAL},
		{"echo s3cret", "is wrong: it isn't an object", -EINVAL},
		{"exec yes s3cret", "printed more than 16 MiB", -EFBIG},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_run_ struct run x = run_script(rows[i].script);

		assert_int_equal(x.r, rows[i].r);
		assert_non_null(strstr(x.error, rows[i].sentence));
		assert_null(strstr(x.error, "s3cret"));
		assert_null(x.answer.token);
		if (i == 0)
			assert_string_equal(x.text, "why\n");
	}
}

/* Whoever holds its pipes open afterwards isn't waited for. */
static void test_left_behind(void **state)
{
	_cleanup_free_ char *pid = NULL;
	_cleanup_run_ struct run x = run_script("sleep 60 & echo $! >pid\n" TOKEN);

	assert_int_equal(x.r, 0);
	assert_string_equal(x.answer.token, "s3cret");
	assert_true(x.took_ms < 20000);
	pid = read_result("pid");
	assert_int_equal(kill(atoi(pid), SIGKILL), 0); /* it may live on: an agent */
}

static bool is_gone(const char *pid)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/stat", atoi(pid));
	char *text, *state;
	size_t len;
	bool gone;

	for (int i = 0; i < 1000; i++) {
		if (read_file(path, 4096, &text, &len) < 0)
			return true;
		state = strrchr(text, ')');
		gone = state && state[2] == 'Z'; /* nobody has waited for an orphan here */
		free(text);
		if (gone)
			return true;
		usleep(1000);
	}
	return false;
}

static void test_deadline(void **state)
{
	_cleanup_free_ char *pid = NULL;
	struct exec_plugin *p = plugin("./plugin", "");
	_cleanup_run_ struct run x = {0};

	put_script("plugin", "trap '' TERM; sleep 60 & echo $! >pid; echo slow >&2; wait");
	x = run_plugin(p, 3000, -1);
	exec_plugin_free(p);
	assert_int_equal(x.r, -ETIMEDOUT);
	assert_non_null(strstr(x.error, "didn't answer within 3.0 s"));
	assert_true(x.took_ms >= 2900 && x.took_ms < 20000);
	assert_string_equal(x.text, "slow\n");
	pid = read_result("pid");
	assert_true(is_gone(pid)); /* its children, too */
}

static void test_cancelled(void **state)
{
	_cleanup_close_ int cancel = eventfd(1, EFD_CLOEXEC);
	struct exec_plugin *p = plugin("./plugin", "");
	_cleanup_run_ struct run x = {0};

	put_script("plugin", "exec sleep 60");
	x = run_plugin(p, 60000, cancel);
	exec_plugin_free(p);
	assert_int_equal(x.r, -ECANCELED);
	assert_true(x.took_ms < 20000);
}

/* The last of it is kept, and nothing that nobody is to read. */
static void test_stderr(void **state)
{
	_cleanup_run_ struct run careless = run_script(TOKEN "echo using s3cret >&2");
	_cleanup_run_ struct run chatty = run_script(
		TOKEN "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done >&2");

	assert_null(careless.text);
	assert_int_equal(chatty.r, 0);
	assert_int_equal(strlen(chatty.text), 4096);
	assert_string_equal(chatty.text + 4096 - 10, "line 1999\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_answers),
		TEST(test_wrong_answers),
		TEST(test_run),
		TEST(test_asked),
		TEST(test_surroundings),
		TEST(test_path),
		TEST(test_missing),
		TEST(test_wants_terminal),
		TEST(test_failures),
		TEST(test_left_behind),
		TEST(test_deadline),
		TEST(test_cancelled),
		TEST(test_stderr),
	};

	return cmocka_run_group_tests_name("exec", tests, NULL, NULL);
}
