#include "client/exec.h"

#include "client/buf.h"
#include "client/clock.h"
#include "client/json.h"
#include "client/keypair.h"
#include "client/kubeconfig.h"
#include "client/spawn.h"
#include "client/yaml.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define GROUP	   "client.authentication.k8s.io/"
#define ANSWER_MAX ((size_t)16 << 20)
#define STDERR_MAX ((size_t)4 << 10) /* the last of it is kept */
#define READS_MAX  64		     /* of what a plugin writes, in one go */

/* ---- what the kubeconfig says ---- */

static const char *text_of(const json_t *map, const char *key)
{
	const char *text = json_str(map, key);

	return text && *text ? text : NULL;
}

static bool is_absent(const json_t *value)
{
	return !value || json_is_null(value);
}

static int read_args(struct exec_plugin *p, const json_t *list, char **ret_error)
{
	const json_t *item;
	size_t i;

	if (!is_absent(list) && !json_is_array(list))
		return kubeconfig_fail(ret_error, -EINVAL, "exec's args isn't a list");
	json_array_foreach(list, i, item) {
		if (!json_is_string(item))
			return kubeconfig_fail(
				ret_error, -EINVAL, "exec's args[%zu] isn't text", i);
		json_array_append(p->args, (json_t *)item);
	}
	return 0;
}

static int read_env(struct exec_plugin *p, const json_t *list, char **ret_error)
{
	const json_t *item;
	size_t i;

	if (!is_absent(list) && !json_is_array(list))
		return kubeconfig_fail(ret_error, -EINVAL, "exec's env isn't a list");
	json_array_foreach(list, i, item) {
		const char *name = text_of(item, "name");
		json_t *value = json_object_get(item, "value");

		if (!name || strchr(name, '='))
			return kubeconfig_fail(
				ret_error, -EINVAL, "exec's env[%zu] has no usable name", i);
		if (is_absent(value))
			json_object_set_new(p->env, name, json_string(""));
		else if (json_is_string(value))
			json_object_set(p->env, name, value);
		else
			return kubeconfig_fail(
				ret_error, -EINVAL, "exec's env \"%s\" isn't text", name);
	}
	return 0;
}

static int read_version(struct exec_plugin *p, const json_t *map, char **ret_error)
{
	const char *version = text_of(map, "apiVersion");

	if (!version)
		return kubeconfig_fail(ret_error, -EINVAL, "exec has no apiVersion");
	if (streq(version, GROUP "v1alpha1"))
		return kubeconfig_fail(ret_error, -EINVAL,
			"exec's apiVersion v1alpha1 is gone: update the plugin to v1");
	if (!streq(version, GROUP "v1") && !streq(version, GROUP "v1beta1"))
		return kubeconfig_fail(ret_error, -EINVAL,
			"exec's apiVersion is neither " GROUP "v1 nor " GROUP "v1beta1");
	p->api_version = xstrdup(version);
	return 0;
}

static int read_mode(struct exec_plugin *p, const json_t *map, char **ret_error)
{
	const char *mode = text_of(map, "interactiveMode");

	if (!mode && streq(p->api_version, GROUP "v1"))
		return kubeconfig_fail(ret_error, -EINVAL, "exec has no interactiveMode");
	if (mode && !streq(mode, "Never") && !streq(mode, "IfAvailable") && !streq(mode, "Always"))
		return kubeconfig_fail(ret_error, -EINVAL,
			"exec's interactiveMode is none of Never, IfAvailable and Always");
	p->interactive = mode && streq(mode, "Always");
	return 0;
}

static int read_provide_cluster(struct exec_plugin *p, const json_t *map, char **ret_error)
{
	const json_t *value = json_object_get(map, "provideClusterInfo");
	const char *text = json_string_value(value);

	if (is_absent(value))
		return 0;
	if (text && kubeconfig_parse_flag(text, &p->provide_cluster) == 0)
		return 0;
	return kubeconfig_fail(
		ret_error, -EINVAL, "exec's provideClusterInfo is neither true nor false");
}

static int read_plugin(struct exec_plugin *p, const json_t *map, const char *file, char **ret_error)
{
	const char *command = text_of(map, "command"), *hint = text_of(map, "installHint");
	int r;

	if (!json_is_object(map))
		return kubeconfig_fail(ret_error, -EINVAL, "exec isn't a map");
	if (!command)
		return kubeconfig_fail(ret_error, -EINVAL, "exec has no command");
	p->command = strchr(command, '/') ? kubeconfig_resolve(file, command) : xstrdup(command);
	p->install_hint = hint ? xstrdup(hint) : NULL;
	r = read_version(p, map, ret_error);
	if (r == 0)
		r = read_mode(p, map, ret_error);
	if (r == 0)
		r = read_provide_cluster(p, map, ret_error);
	if (r == 0)
		r = read_args(p, json_object_get(map, "args"), ret_error);
	if (r == 0)
		r = read_env(p, json_object_get(map, "env"), ret_error);
	return r;
}

int exec_plugin_new(const json_t *map, const char *file, struct exec_plugin **ret, char **ret_error)
{
	struct exec_plugin *p = xcalloc(1, sizeof(*p));
	int r;

	p->args = json_array();
	p->env = json_object();
	r = read_plugin(p, map, file, ret_error);
	if (r < 0)
		exec_plugin_free(p);
	else
		*ret = p;
	return r;
}

void exec_plugin_free(struct exec_plugin *p)
{
	if (!p)
		return;
	free(p->api_version);
	free(p->command);
	free(p->install_hint);
	json_decref(p->args);
	json_decref(p->env);
	json_decref(p->cluster);
	free(p);
}

/* ---- the answer ---- */

void exec_answer_release(struct exec_answer *a)
{
	str_wipe(&a->token);
	str_wipe(&a->certificate);
	str_wipe(&a->key);
}

static char *copy_text(const json_t *status, const char *key)
{
	const char *text = text_of(status, key);

	return text ? xstrdup(text) : NULL;
}

/* Half a sentence, which the caller frees; NULL: TLS can use them. */
static char *check_keypair(const struct exec_answer *a)
{
	_cleanup_free_ char *problem = NULL;
	bool of_key;

	if (!a->certificate || keypair_check(a->certificate, a->key, &of_key, &problem) == 0)
		return NULL;
	return xasprintf("its client %s %s", of_key ? "key" : "certificate", problem);
}

static const char *read_status(const json_t *status, struct exec_answer *a)
{
	const char *expires = text_of(status, "expirationTimestamp");

	if (!json_is_object(status))
		return "it has no status";
	a->token = copy_text(status, "token");
	a->certificate = copy_text(status, "clientCertificateData");
	a->key = copy_text(status, "clientKeyData");
	if (!a->token && !a->certificate && !a->key)
		return "it has neither a token nor a client certificate";
	if (!a->certificate != !a->key)
		return a->key ? "it has a client key without its certificate"
			      : "it has a client certificate without its key";
	for (const char *p = a->token ? a->token : ""; *p; p++)
		if (*p <= ' ' || *p > '~')
			return "its token holds white space or control characters";
	if (expires && rfc3339_parse(expires, &a->expires) < 0)
		return "its expirationTimestamp is no time";
	return NULL;
}

/* The parsers' own words aren't for others to read: jansson's quote the text. */
static const char *read_answer(const json_t *root, const char *api_version, struct exec_answer *a)
{
	const char *kind = json_str(root, "kind"), *version = json_str(root, "apiVersion");

	if (!json_is_object(root))
		return "it isn't an object, in JSON or YAML";
	if (!is_absent(json_object_get(root, "kind")) && (!kind || !streq(kind, "ExecCredential")))
		return "its kind isn't ExecCredential";
	if (!version || !streq(version, api_version))
		return "its apiVersion isn't the kubeconfig's";
	return read_status(json_object_get(root, "status"), a);
}

/* As kubectl tells them apart: what begins with a brace is JSON. NULL: it is neither. */
static json_t *parse_text(const char *text, size_t len)
{
	_cleanup_yaml_reader_ struct yaml_reader *r = NULL;
	_cleanup_free_ char *error = NULL;
	json_t *root = NULL;
	size_t blank = 0;

	while (blank < len && isspace((unsigned char)text[blank]))
		blank++;
	if (blank < len && text[blank] == '{')
		return json_read_or_null(text, len, 0);
	r = yaml_reader_new(text, len, YAML_SCALARS_TEXT);
	yaml_reader_next(r, &root, &error);
	return root;
}

int exec_answer_parse(const char *text, size_t len, const char *api_version,
	struct exec_answer *ret, char **ret_error)
{
	_cleanup_json_ json_t *root = parse_text(text, len);
	struct exec_answer answer = {0};
	const char *unreadable = read_answer(root, api_version, &answer);
	_cleanup_free_ char *problem = unreadable ? xstrdup(unreadable) : check_keypair(&answer);

	if (problem) {
		exec_answer_release(&answer);
		return kubeconfig_fail(ret_error, -EINVAL, "%s", problem);
	}
	*ret = answer;
	return 0;
}

/* ---- running it ---- */

struct process {
	const struct exec_plugin *plugin;
	pid_t pid;
	int pidfd, out, err; /* -1: at its end */
	struct buf text, errors;
};

/* Its environment is ours, then the kubeconfig's, then what it is asked. */
static char **make_env(const struct exec_plugin *p)
{
	extern char **environ;
	_cleanup_json_ json_t *info = json_pack("{s:s, s:s, s:{s:b}}", "kind", "ExecCredential",
		"apiVersion", p->api_version, "spec", "interactive", 0);
	_cleanup_free_ char *text = NULL;
	size_t n = 0, i = 0;
	char **env;
	const char *name;
	json_t *value;

	if (p->cluster)
		json_object_set(json_object_get(info, "spec"), "cluster", p->cluster);
	text = json_dumps(info, JSON_COMPACT);
	while (environ[n])
		n++;
	env = xcalloc(n + json_object_size(p->env) + 2, sizeof(*env));
	for (char **e = environ; *e; e++) {
		_cleanup_free_ char *key = xstrndup(*e, strcspn(*e, "="));

		if (!json_object_get(p->env, key) && !streq(key, "KUBERNETES_EXEC_INFO"))
			env[i++] = xstrdup(*e);
	}
	json_object_foreach(p->env, name, value)
		if (!streq(name, "KUBERNETES_EXEC_INFO"))
			env[i++] = xasprintf("%s=%s", name, json_string_value(value));
	env[i] = xasprintf("KUBERNETES_EXEC_INFO=%s", text ? text : "");
	return env;
}

static void free_env(char **env)
{
	for (char **e = env; *e; e++)
		str_wipe(e);
	free(env);
}

static int run_plugin(struct process *x, int out, int err)
{
	const struct exec_plugin *p = x->plugin;
	char **argv = xcalloc(json_array_size(p->args) + 2, sizeof(*argv));
	struct spawn s = {.file = p->command,
		.argv = argv,
		.env = make_env(p),
		.fds = (int[]){out, err},
		.nfds = 2,
		.first_fd = STDOUT_FILENO,
		.flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID};
	const json_t *arg;
	size_t i;
	int r;

	argv[0] = p->command;
	json_array_foreach(p->args, i, arg)
		argv[i + 1] = (char *)json_string_value(arg);
	r = spawn(&s, &x->pid);
	free_env(s.env);
	free(argv);
	return r;
}

/* Two pipes; ours don't block. */
static int start(struct process *x)
{
	int out[2] = {-1, -1}, err[2] = {-1, -1}, r = 0;

	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
		r = -errno;
	x->out = out[0];
	x->err = err[0];
	if (r == 0 &&
		(fcntl(x->out, F_SETFL, O_NONBLOCK) < 0 || fcntl(x->err, F_SETFL, O_NONBLOCK) < 0))
		r = -errno;
	if (r == 0)
		r = run_plugin(x, out[1], err[1]);
	if (out[1] >= 0)
		close(out[1]);
	if (err[1] >= 0)
		close(err[1]);
	if (r < 0)
		return r;
	x->pidfd = (int)syscall(SYS_pidfd_open, x->pid, 0); /* glibc has a name for it since 2.36 */
	return x->pidfd < 0 ? -errno : 0;
}

static void close_end(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* What is there now. -EFBIG where the answer gets too long; of stderr the last part stays. */
static int drain(struct process *x, int *fd, struct buf *buf)
{
	char bytes[4096];
	ssize_t n;

	if (*fd < 0)
		return 0;
	for (int i = 0; i < READS_MAX; i++) { /* then the deadline is looked at */
		n = read(*fd, bytes, sizeof(bytes));
		if (n == 0) {
			close_end(fd);
			return 0;
		}
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		if (buf_add(buf, bytes, n) < 0)
			return -EFBIG;
		explicit_bzero(bytes, n);
		if (buf == &x->errors && buf->len > STDERR_MAX)
			buf_consume(buf, buf->len - STDERR_MAX);
	}
	return 0;
}

/* Until it has ended; a process that it left behind may hold its pipes open. */
static int converse(struct process *x, int64_t deadline, int cancel_fd)
{
	for (;;) {
		struct pollfd fds[] = {{x->pidfd, POLLIN, 0}, {x->out, POLLIN, 0},
			{x->err, POLLIN, 0}, {cancel_fd, POLLIN, 0}};
		int64_t left = ms_until(deadline);
		int r;

		if (left == 0)
			return -ETIMEDOUT;
		if (poll(fds, ARRAY_SIZE(fds), left < INT32_MAX ? (int)left : INT32_MAX) < 0)
			continue;
		if (fds[3].revents)
			return -ECANCELED;
		r = drain(x, &x->out, &x->text);
		if (r == 0)
			r = drain(x, &x->err, &x->errors);
		if (r < 0 || fds[0].revents)
			return r;
	}
}

static int fail_start(const struct exec_plugin *p, int r, char **ret_error)
{
	return kubeconfig_fail(ret_error, r, "can't run the exec plugin %s: %s%s%s", p->command,
		strerror(-r), p->install_hint ? ": " : "", p->install_hint ? p->install_hint : "");
}

static int fail_run(const struct exec_plugin *p, int r, int64_t timeout_ms, char **ret_error)
{
	if (r == -ETIMEDOUT)
		return kubeconfig_fail(ret_error, r,
			"the exec plugin %s didn't answer within %.1f s", p->command,
			(double)timeout_ms / 1000);
	if (r == -EFBIG)
		return kubeconfig_fail(
			ret_error, r, "the exec plugin %s printed more than 16 MiB", p->command);
	return kubeconfig_fail(
		ret_error, r, "the exec plugin %s was stopped: %s", p->command, strerror(-r));
}

static int take_answer(
	struct process *x, int wait_status, struct exec_answer *ret, char **ret_error)
{
	const struct exec_plugin *p = x->plugin;
	_cleanup_free_ char *problem = NULL;

	if (WIFSIGNALED(wait_status))
		return kubeconfig_fail(ret_error, -EIO, "the exec plugin %s was ended by signal %d",
			p->command, WTERMSIG(wait_status));
	if (WEXITSTATUS(wait_status) != 0)
		return kubeconfig_fail(ret_error, -EIO,
			"the exec plugin %s failed with exit code %d", p->command,
			WEXITSTATUS(wait_status));
	if (exec_answer_parse(x->text.data ? x->text.data : "", x->text.len, p->api_version, ret,
		    &problem) == 0)
		return 0;
	return kubeconfig_fail(ret_error, -EINVAL, "the answer of the exec plugin %s is wrong: %s",
		p->command, problem);
}

static int finish(
	struct process *x, int r, int64_t timeout_ms, struct exec_answer *ret, char **ret_error)
{
	int wait_status = 0;

	if (r < 0) { /* its children are in its process group, unless they left it */
		kill(-x->pid, SIGKILL);
		kill(x->pid, SIGKILL);
	}
	while (waitpid(x->pid, &wait_status, 0) < 0 && errno == EINTR)
		;
	if (r < 0)
		return fail_run(x->plugin, r, timeout_ms, ret_error);
	return take_answer(x, wait_status, ret, ret_error);
}

/* A careless plugin may have said there what nobody else is to read. */
static char *stderr_text(const struct process *x, const struct exec_answer *a, bool answered)
{
	char *text = xstrndup(x->errors.data ? x->errors.data : "", x->errors.len);
	bool secret = answered &&
		      ((a->token && strstr(text, a->token)) || (a->key && strstr(text, a->key)));

	if (secret || !*text)
		str_wipe(&text);
	return text;
}

int exec_run(const struct exec_plugin *p, int64_t timeout_ms, int cancel_fd,
	struct exec_answer *ret, char **ret_stderr, char **ret_error)
{
	struct process x = {.plugin = p,
		.pidfd = -1,
		.out = -1,
		.err = -1,
		.text = BUF_INIT(ANSWER_MAX),
		.errors = BUF_INIT(2 * STDERR_MAX)};
	int r;

	if (p->interactive)
		return kubeconfig_fail(ret_error, -EINVAL,
			"the exec plugin %s wants a terminal (interactiveMode Always), and a mount "
			"has none",
			p->command);
	r = start(&x);
	if (x.pid == 0) {
		r = fail_start(p, r, ret_error);
	} else {
		if (r == 0)
			r = converse(&x, deadline_in_ms(timeout_ms), cancel_fd);
		r = finish(&x, r, timeout_ms, ret, ret_error);
	}
	*ret_stderr = stderr_text(&x, ret, r == 0);
	close_end(&x.out);
	close_end(&x.err);
	close_end(&x.pidfd);
	if (x.text.data)
		explicit_bzero(x.text.data, x.text.len);
	buf_release(&x.text);
	buf_release(&x.errors);
	return r;
}
