/* Each test writes small kubeconfig files into a directory of its own, which is also $HOME. */
#include "tests/unit/pem.h"

#include "client/credentials.h"
#include "client/log.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

#define _cleanup_config_ _cleanup_(free_config)

/* base64 of "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n" */
#define PEM	 "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCllRPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo="
#define PEM_TEXT "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n"

/* One context; the fields of its cluster and of its user are flow maps. */
#define FILE_OF(cluster, user)                                                                     \
	"current-context: here\n"                                                                  \
	"contexts: [{name: here, context: {cluster: c, user: u, namespace: shop}}]\n"              \
	"clusters: [{name: c, cluster: " cluster "}]\n"                                            \
	"users: [{name: u, user: " user "}]\n"
#define CLUSTER_OF(cluster) FILE_OF(cluster, "{}")
#define USER_OF(user)	    FILE_OF("{server: 'https://api:6443'}", user)

static char directory[] = "/tmp/test_config.XXXXXX";

static void free_config(struct config **c)
{
	config_free(*c);
}

/* The path of a file in the test's directory, good until sixteen others were asked for. */
static const char *in(const char *name)
{
	static char paths[16][64];
	static unsigned int next;
	char *path = paths[next++ % ARRAY_SIZE(paths)];

	snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
	return path;
}

static const char *put_bytes(const char *name, const void *bytes, size_t n)
{
	FILE *f = fopen(in(name), "w");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
	return in(name);
}

static const char *put(const char *name, const char *text)
{
	return put_bytes(name, text, strlen(text));
}

static struct config *load(struct config_flags flags)
{
	struct config *c = NULL;
	char *error = NULL;
	int r = config_load(&flags, &c, &error);

	if (r < 0)
		fail_msg("%d: %s", r, error);
	assert_null(error);
	return c;
}

static struct config *load_text(const char *text)
{
	return load((struct config_flags){.kubeconfig = put("k", text)});
}

/* As at a start: what the files say, then what stands in the files that they name. */
static void refuse(struct config_flags flags, int expected, const char *sentence)
{
	_cleanup_config_ struct config *c = NULL;
	struct credentials *credentials = NULL;
	_cleanup_free_ char *error = NULL;
	int r = config_load(&flags, &c, &error);

	assert_true((r < 0) == !c);
	if (r == 0)
		r = credentials_new(c, NULL, true, &credentials, &error);
	assert_null(credentials);
	assert_non_null(error);
	if (r != expected || !strstr(error, sentence))
		fail_msg("%d: %s (expected %d: %s)", r, error, expected, sentence);
	assert_null(strchr(error, '\n'));
	assert_null(strstr(error, "s3cret"));
}

static void refuse_text(const char *text, int expected, const char *sentence)
{
	refuse((struct config_flags){.kubeconfig = put("k", text)}, expected, sentence);
}

static struct credentials *credentials_of(const struct config *c)
{
	struct credentials *credentials = NULL;
	char *error = NULL;

	if (credentials_new(c, NULL, true, &credentials, &error) < 0)
		fail_msg("%s", error);
	return credentials;
}

static void assert_token(struct config *c, const char *expected)
{
	struct credentials *credentials = credentials_of(c);

	if (!expected)
		assert_null(credentials->token);
	else
		assert_string_equal(credentials->token, expected);
	credentials_unref(credentials);
}

/* The impersonation headers, joined by '|'. */
static void assert_headers(struct config *c, const char *expected)
{
	struct credentials *credentials = credentials_of(c);
	_cleanup_free_ char *all = xstrdup("");

	for (char **line = credentials->headers; *line; line++) {
		char *old = all;

		all = xasprintf("%s%s%s", old, *old ? "|" : "", *line);
		free(old);
	}
	assert_string_equal(all, expected);
	credentials_unref(credentials);
}

static int setup(void **state)
{
	static const char *const names[] = {"KUBECONFIG", "KUBERNETES_SERVICE_HOST",
		"KUBERNETES_SERVICE_PORT", "POD_NAMESPACE"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		unsetenv(names[i]);
	strcpy(directory + strlen(directory) - 6, "XXXXXX");
	return mkdtemp(directory) && setenv("HOME", directory, 1) == 0 ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	return nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* What is written to stderr between the two calls; the caller frees. */
static int begin_stderr(void)
{
	int fd = open(in("stderr"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int saved = dup(STDERR_FILENO);

	assert_true(fd >= 0 && saved >= 0);
	dup2(fd, STDERR_FILENO);
	close(fd);
	log_setup(&(struct log_options){.level = LOG_LEVEL_INFO});
	return saved;
}

static char *end_stderr(int saved)
{
	char *text;
	size_t len;

	log_setup(&(struct log_options){.level = LOG_LEVEL_ERROR});
	dup2(saved, STDERR_FILENO);
	close(saved);
	assert_int_equal(read_file(in("stderr"), 1 << 16, &text, &len), 0);
	return text;
}

static void test_free_null(void **state)
{
	config_free(NULL);
}

static void test_base64(void **state)
{
	static const char pem[] = "-----BEGIN X-----"; /* LS0tLS1CRUdJTiBYLS0tLS0= */
	static const char *const good[] = {"LS0tLS1CRUdJTiBYLS0tLS0=",
		"LS0tLS1C RUdJTiBY\tLS0tLS0 =", "  LS0tLS1CRUdJTiBYLS0tLS0=  "};
	static const char *const bad[] = {"LS0tLS1CRUdJTiBYLS0tLS0",
		"LS0tLS1CRUdJTiBYLS0tLS0==", "LS0tLS1CRUdJTiBYLS0tLS0=LS0t",
		"LS0tLS1CRUdJTiBYLS0tLS0=-", "LS0tLS1CRUdJTiBYLS0t*", "LS0tLS1CRUdJTiBYLS0tLS0A",
		"LS0tLS1CRUdJTiBYLS0t====", "LS0t_LS1-", "-", "="};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		_cleanup_free_ char *text = xasprintf(
			CLUSTER_OF("{server: 'https://a', certificate-authority-data: '%s'}"),
			good[i]);
		_cleanup_config_ struct config *c = load_text(text);

		assert_string_equal(c->certificate_authority.data, pem);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_free_ char *text = xasprintf(
			CLUSTER_OF("{server: 'https://a', certificate-authority-data: '%s'}"),
			bad[i]);

		refuse_text(text, -EINVAL, "isn't base64 of PEM");
	}
}

static void test_everything(void **state)
{
	_cleanup_config_ struct config *c =
		load_text("apiVersion: v1\n"
			  "kind: Config\n"
			  "preferences: {}\n"
			  "current-context: shop/api/dev\n"
			  "contexts:\n"
			  "- name: shop/api/dev\n"
			  "  context:\n"
			  "    cluster: api\n"
			  "    user: dev/api\n"
			  "    namespace: shop\n"
			  "clusters:\n"
			  "- name: api\n"
			  "  cluster:\n"
			  "    server: https://api.example:6443/prefix//\n"
			  "    tls-server-name: inner.example\n"
			  "    certificate-authority-data: " PEM "\n"
			  "    disable-compression: true\n"
			  "users:\n"
			  "- name: dev/api\n"
			  "  user:\n"
			  "    client-certificate-data: " CERTIFICATE_BASE64 "\n"
			  "    client-key-data: " KEY_BASE64 "\n"
			  "    token: s3cret\n");

	assert_string_equal(c->server, "https://api.example:6443/prefix");
	assert_string_equal(c->context, "shop/api/dev");
	assert_string_equal(c->cluster, "api");
	assert_string_equal(c->user, "dev/api");
	assert_string_equal(c->ns, "shop");
	assert_string_equal(c->tls_server_name, "inner.example");
	assert_false(c->insecure_skip_tls_verify);
	assert_string_equal(c->certificate_authority.data, PEM_TEXT);
	assert_string_equal(c->client_certificate.data, CERTIFICATE);
	assert_string_equal(c->client_key.data, KEY);
	assert_null(c->client_key.file);
	assert_token(c, "s3cret");
}

/* JSON is YAML, also when tabs indent it. */
static void test_json(void **state)
{
	_cleanup_config_ struct config *c = load_text(
		"{\n\t\"current-context\": \"a\",\n"
		"\t\"contexts\": [\n\t\t{\"name\": \"a\", \"context\": {\"cluster\": "
		"\"c\"}}\n\t],\n"
		"\t\"clusters\": [{\"name\": \"c\", \"cluster\":\n"
		"\t\t{\"server\": \"https:\\/\\/api\", \"insecure-skip-tls-verify\": true}}],\n"
		"\t\"users\": null\n}\n");

	assert_string_equal(c->server, "https://api");
	assert_true(c->insecure_skip_tls_verify);
	assert_null(c->user);
	assert_token(c, NULL);
}

/* Values are text, so that a password of digits stays as it was typed. */
static void test_scalars(void **state)
{
	_cleanup_config_ struct config *c =
		load_text(USER_OF("{username: null, password: 007, token: ~}"));
	_cleanup_config_ struct config *quoted =
		load_text(USER_OF("{username: 'null', password: !!str null}"));

	assert_string_equal(c->username, "");
	assert_string_equal(c->password, "007");
	assert_string_equal(quoted->username, "null");
	assert_string_equal(quoted->password, "null");
}

static void test_flag_words(void **state)
{
	_cleanup_config_ struct config *yes =
		load_text(CLUSTER_OF("{server: 'https://api', insecure-skip-tls-verify: Yes}"));
	_cleanup_config_ struct config *no =
		load_text(CLUSTER_OF("{server: 'https://api', insecure-skip-tls-verify: off}"));

	assert_true(yes->insecure_skip_tls_verify);
	assert_false(no->insecure_skip_tls_verify);
	refuse_text(CLUSTER_OF("{server: 'https://api', insecure-skip-tls-verify: 1}"), -EINVAL,
		"k: insecure-skip-tls-verify is neither true nor false");
}

static void test_kubeconfig_flag_wins(void **state)
{
	_cleanup_config_ struct config *c = NULL;

	setenv("KUBECONFIG", put("other", CLUSTER_OF("{server: 'https://other'}")), 1);
	c = load_text(CLUSTER_OF("{server: 'https://flag'}"));
	assert_string_equal(c->server, "https://flag");
}

static void test_kubeconfig_flag_missing(void **state)
{
	_cleanup_free_ char *sentence =
		xasprintf("can't read kubeconfig %s: No such file", in("missing"));

	refuse((struct config_flags){.kubeconfig = in("missing")}, -ENOENT, sentence);
	refuse((struct config_flags){.kubeconfig = in("missing"), .server = "https://api"}, -ENOENT,
		sentence);
}

/* Each name comes whole from the first file that has it; current-context from the first that isn't
 * empty. */
static void test_list_merged(void **state)
{
	_cleanup_config_ struct config *c = NULL;
	_cleanup_free_ char *list = NULL;

	put("1", "current-context: ''\n"
		 "clusters: [{name: c, cluster: {server: 'https://first'}}]\n");
	put("2", "current-context: x\n"
		 "contexts: [{name: x, context: {cluster: c, user: u}}]\n"
		 "clusters: [{name: c, cluster: {server: 'https://2', tls-server-name: two}}]\n");
	put("3", "current-context: y\n"
		 "contexts: [{name: x, context: {cluster: none}}]\n"
		 "users: [{name: u, user: {token: third}}]\n");
	list = xasprintf(":%s/1::%s/missing:%s/2:%s/1:%s/3:", directory, directory, directory,
		directory, directory);
	setenv("KUBECONFIG", list, 1);
	c = load((struct config_flags){0});
	assert_string_equal(c->context, "x");
	assert_string_equal(c->server, "https://first");
	assert_null(c->tls_server_name);
	assert_token(c, "third");
}

static void test_list_unparseable(void **state)
{
	_cleanup_free_ char *list = NULL;

	put("good", CLUSTER_OF("{server: 'https://api'}"));
	put("bad", "clusters: [\n");
	list = xasprintf("%s/good:%s/bad", directory, directory);
	setenv("KUBECONFIG", list, 1);
	refuse((struct config_flags){0}, -EINVAL, "/bad: line 2, column ");
}

/* A list replaces the default file, even where nothing of it is there. */
static void test_list_missing(void **state)
{
	assert_int_equal(mkdir(in(".kube"), 0700), 0);
	put(".kube/config", CLUSTER_OF("{server: 'https://home'}"));
	setenv("KUBECONFIG", "/missing", 1);
	refuse((struct config_flags){0}, -EINVAL,
		"no kubeconfig found (tried KUBECONFIG=/missing); give --kubeconfig or --server");
}

static void test_home(void **state)
{
	_cleanup_config_ struct config *c = NULL;

	refuse((struct config_flags){0}, -EINVAL,
		"no kubeconfig found (tried ~/.kube/config); give --kubeconfig or --server");
	assert_int_equal(mkdir(in(".kube"), 0700), 0);
	put(".kube/config", CLUSTER_OF("{server: 'https://home'}"));
	setenv("KUBECONFIG", "", 1);
	c = load((struct config_flags){0});
	assert_string_equal(c->server, "https://home");
	unsetenv("HOME");
	refuse((struct config_flags){0}, -EINVAL, "no kubeconfig found");
}

static void test_relative_paths(void **state)
{
	_cleanup_config_ struct config *c = NULL;
	char *cwd = getcwd(NULL, 0);

	assert_int_equal(mkdir(in("sub"), 0700), 0);
	put("sub/ca", "x");
	put("sub/crt", CERTIFICATE);
	put("key", KEY);
	put("sub/token", " s3cret\n");
	put("sub/k", FILE_OF("{server: 'https://api', certificate-authority: ca}",
			     "{client-certificate: crt, client-key: ../key, tokenFile: token}"));
	assert_int_equal(chdir(directory), 0);
	c = load((struct config_flags){.kubeconfig = "sub/k"});
	assert_int_equal(chdir(cwd), 0);
	free(cwd);
	assert_string_equal(c->certificate_authority.file, in("sub/ca"));
	assert_string_equal(c->client_certificate.file, in("sub/crt"));
	assert_string_equal(c->client_key.file, in("sub/../key"));
	assert_string_equal(c->token_file, in("sub/token"));
	assert_token(c, "s3cret");
}

#define TWO                                                                                        \
	"current-context: a\n"                                                                     \
	"contexts: [{name: a, context: {cluster: ca, user: ua, namespace: na}},\n"                 \
	"           {name: b, context: {cluster: cb, user: ub}}]\n"                                \
	"clusters: [{name: ca, cluster: {server: 'https://a', tls-server-name: inner}},\n"         \
	"           {name: cb, cluster: {server: 'https://b'}}]\n"                                 \
	"users: [{name: ua, user: {token: ta}}, {name: ub, user: {username: tb, password: pb}}]\n"

static void test_context_flag(void **state)
{
	const char *k = put("k", TWO);
	_cleanup_config_ struct config *c =
		load((struct config_flags){.kubeconfig = k, .context = "b"});

	assert_string_equal(c->context, "b");
	assert_string_equal(c->server, "https://b");
	assert_string_equal(c->username, "tb");
	assert_null(c->ns);
	assert_token(c, NULL);
	refuse((struct config_flags){.kubeconfig = k, .context = "d"}, -EINVAL,
		"there is no context \"d\" in /");
}

static void test_cluster_and_user_flags(void **state)
{
	const char *k = put("k", TWO);
	_cleanup_config_ struct config *c =
		load((struct config_flags){.kubeconfig = k, .cluster = "cb", .user = "ub"});

	assert_string_equal(c->context, "a");
	assert_string_equal(c->ns, "na");
	assert_string_equal(c->cluster, "cb");
	assert_string_equal(c->server, "https://b");
	assert_string_equal(c->user, "ub");
	assert_string_equal(c->username, "tb");
	refuse((struct config_flags){.kubeconfig = k, .cluster = "no"}, -EINVAL,
		"there is no cluster \"no\" in /");
	refuse((struct config_flags){.kubeconfig = k, .user = "no"}, -EINVAL,
		"there is no user \"no\" in /");
}

static void test_cluster_without_context(void **state)
{
	_cleanup_config_ struct config *c = load((struct config_flags){
		.kubeconfig = put("k", "clusters: [{name: c, cluster: {server: 'https://c'}}]\n"),
		.cluster = "c",
	});

	assert_string_equal(c->server, "https://c");
	assert_null(c->context);
}

static void test_dangling_names(void **state)
{
	refuse_text("current-context: gone\nclusters: []\n", -EINVAL,
		"there is no context \"gone\" in /");
	refuse_text("current-context: a\n"
		    "contexts: [{name: a, context: {cluster: gone, user: u}}]\n",
		-EINVAL, "k: there is no cluster \"gone\"");
	refuse_text("current-context: a\n"
		    "contexts: [{name: a, context: {cluster: c, user: gone}}]\n"
		    "clusters: [{name: c, cluster: {server: 'https://c'}}]\n",
		-EINVAL, "context \"a\" in /");
	refuse_text("current-context: a\n"
		    "contexts: [{name: a, context: {cluster: c, user: gone}}]\n"
		    "clusters: [{name: c, cluster: {server: 'https://c'}}]\n",
		-EINVAL, "k: there is no user \"gone\"");
}

static void test_no_server(void **state)
{
	refuse_text(CLUSTER_OF("{}"), -EINVAL, "k: no server is given");
	refuse_text(CLUSTER_OF("{server: ''}"), -EINVAL, "cluster \"c\" in /");
	refuse_text("current-context: a\ncontexts: [{name: a, context: {}}]\n", -EINVAL,
		"k: no cluster is given");
	refuse_text("clusters: [{name: c, cluster: {server: 'https://c'}}]\n", -EINVAL,
		"no current-context in the kubeconfig (/");
}

static void test_server_url(void **state)
{
	static const struct {
		const char *url, *sentence;
	} bad[] = {
		{"ftp://api", "has to start with https:// or http://"},
		{"https://u:s3cret@api", "has to be a host and maybe a path"},
		{"https://api?token=s3cret", "has to be a host and maybe a path"},
		{"https://api#x", "has to be a host and maybe a path"},
		{"https://a b", "has to be a host and maybe a path"},
		{"https://api\r\nX: s3cret", "has to be a host and maybe a path"},
		{"https://", "has no host"},
		{"https:////", "has no host"},
	};
	_cleanup_config_ struct config *c = load((struct config_flags){.server = "HTTPS://api/"});
	_cleanup_config_ struct config *plain =
		load((struct config_flags){.server = "api:6443/", .token = "s3cret"});

	assert_string_equal(c->server, "HTTPS://api");
	assert_string_equal(plain->server, "http://api:6443");
	assert_null(plain->token);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		refuse((struct config_flags){.server = bad[i].url}, -EINVAL, bad[i].sentence);
}

static void test_server_alone(void **state)
{
	_cleanup_config_ struct config *c =
		load((struct config_flags){.server = "https://api", .token = "s3cret"});

	assert_string_equal(c->server, "https://api");
	assert_null(c->context);
	assert_token(c, "s3cret");
}

static void test_server_flag(void **state)
{
	const char *k = put("k", TWO);
	_cleanup_config_ struct config *file = load((struct config_flags){.kubeconfig = k});
	_cleanup_config_ struct config *server =
		load((struct config_flags){.kubeconfig = k, .server = "https://x"});
	_cleanup_config_ struct config *both = load((struct config_flags){
		.kubeconfig = k, .server = "https://x", .tls_server_name = "flag"});

	assert_string_equal(file->tls_server_name, "inner");
	assert_string_equal(server->server, "https://x");
	assert_null(server->tls_server_name);
	assert_token(server, "ta");
	assert_string_equal(both->tls_server_name, "flag");
}

static void test_authority_flags(void **state)
{
	const char *k =
		put("k", CLUSTER_OF("{server: 'https://a', certificate-authority-data: " PEM "}"));
	_cleanup_config_ struct config *insecure =
		load((struct config_flags){.kubeconfig = k, .insecure_skip_tls_verify = true});
	_cleanup_config_ struct config *file = load(
		(struct config_flags){.kubeconfig = k, .certificate_authority = put("ca", "x")});
	_cleanup_config_ struct config *secure = load((struct config_flags){
		.kubeconfig = put("i", CLUSTER_OF("{server: 'https://a', "
						  "insecure-skip-tls-verify: true}")),
		.certificate_authority = in("ca")});

	assert_true(insecure->insecure_skip_tls_verify);
	assert_null(insecure->certificate_authority.data);
	assert_string_equal(file->certificate_authority.file, in("ca"));
	assert_null(file->certificate_authority.data);
	assert_false(secure->insecure_skip_tls_verify);
	refuse((struct config_flags){.server = "https://a",
		       .certificate_authority = in("ca"),
		       .insecure_skip_tls_verify = true},
		-EINVAL, "insecure-skip-tls-verify contradicts certificate-authority");
}

static void test_authority_contradictions(void **state)
{
	put("ca", "x");
	refuse_text(CLUSTER_OF("{server: 'https://a', certificate-authority: ca, "
			       "certificate-authority-data: " PEM "}"),
		-EINVAL, "k: certificate-authority and certificate-authority-data are given");
	refuse_text(CLUSTER_OF("{server: 'https://a', certificate-authority: ca, "
			       "insecure-skip-tls-verify: true}"),
		-EINVAL, "insecure-skip-tls-verify contradicts certificate-authority");
}

static void test_token_flags(void **state)
{
	const char *t = put("t", "renewed\n");
	const char *k = put("k", USER_OF("{token: old, tokenFile: t}"));
	const char *basic = put("b", USER_OF("{username: old, password: s3cret}"));
	_cleanup_config_ struct config *token =
		load((struct config_flags){.kubeconfig = k, .token = "flag"});
	_cleanup_config_ struct config *file =
		load((struct config_flags){.kubeconfig = basic, .token_file = t});
	_cleanup_config_ struct config *over =
		load((struct config_flags){.kubeconfig = basic, .token = "flag"});

	assert_null(token->token_file);
	assert_token(token, "flag");
	assert_token(file, "renewed");
	assert_null(file->username);
	assert_token(over, "flag");
	assert_null(over->password);
}

static void test_certificate_flags(void **state)
{
	_cleanup_config_ struct config *c = load((struct config_flags){
		.kubeconfig = put("k",
			USER_OF("{client-certificate-data: " PEM ", client-key-data: " PEM "}")),
		.client_certificate = put("crt", "x")});

	assert_string_equal(c->client_certificate.file, in("crt"));
	assert_null(c->client_certificate.data);
	assert_string_equal(c->client_key.data, PEM_TEXT);
}

static void test_certificate_contradictions(void **state)
{
	put("x", "x");
	refuse_text(
		USER_OF("{client-certificate: x, client-certificate-data: " PEM ", client-key: x}"),
		-EINVAL, "k: client-certificate and client-certificate-data are given");
	refuse_text(USER_OF("{client-certificate: x, client-key-data: " PEM ", client-key: x}"),
		-EINVAL, "k: client-key and client-key-data are given");
	refuse_text(USER_OF("{client-certificate: x}"), -EINVAL,
		"k: client-certificate without client-key");
	refuse_text(
		USER_OF("{client-key: x}"), -EINVAL, "k: client-key without client-certificate");
}

static void test_unreadable_files(void **state)
{
	put("x", "x");
	refuse_text(CLUSTER_OF("{server: 'https://a', certificate-authority: gone}"), -ENOENT,
		"k: can't read certificate-authority /");
	refuse_text(USER_OF("{client-certificate: gone, client-key: x}"), -ENOENT,
		"k: can't read client-certificate /");
	refuse_text(USER_OF("{client-certificate: x, client-key: gone}"), -ENOENT,
		"/gone: No such file");
	refuse_text(USER_OF("{client-certificate: x, client-key: /}"), -EISDIR,
		"k: can't read client-key /: Is a directory");
	refuse_text(USER_OF("{tokenFile: gone}"), -ENOENT, "k: can't read token file /");
}

static void test_data(void **state)
{
	_cleanup_config_ struct config *c =
		load_text("current-context: a\n"
			  "contexts: [{name: a, context: {cluster: c}}]\n"
			  "clusters:\n"
			  "- name: c\n"
			  "  cluster:\n"
			  "    server: https://a\n"
			  "    certificate-authority-data: |\n"
			  "      LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCllR\n"
			  "      PT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo =\n");

	assert_string_equal(c->certificate_authority.data, PEM_TEXT);
	refuse_text(USER_OF("{client-key-data: '!s3cret!'}"), -EINVAL,
		"k: client-key-data isn't base64 of PEM");
	refuse_text(USER_OF("{client-key-data: czNjcmV0}"), -EINVAL, "isn't base64 of PEM");
	refuse_text(USER_OF("{client-key-data: LS0tLS1CRUdJTiAA}"), -EINVAL, /* ends in a NUL */
		"isn't base64 of PEM");
}

static void test_token_with_password(void **state)
{
	put("t", "s3cret");
	refuse_text(USER_OF("{token: s3cret, username: u, password: s3cret}"), -EINVAL,
		"k: a token and username/password are given, but only one may be");
	refuse_text(USER_OF("{tokenFile: t, password: s3cret}"), -EINVAL, "only one may be");
}

static void test_bad_token(void **state)
{
	_cleanup_config_ struct config *c = load_text(USER_OF("{token: \" a-B_9.~+/= \\n\"}"));

	assert_token(c, "a-B_9.~+/=");
	refuse_text(USER_OF("{token: \"s3cret\\r\\nX: y\"}"), -EINVAL, "user \"u\" in /");
	refuse_text(USER_OF("{token: s3cret word}"), -EINVAL,
		"k: the token holds white space or control characters");
	refuse_text(USER_OF("{token: \"s3cret\\x7f\"}"), -EINVAL, "the token holds");
	refuse_text(USER_OF("{token: s3cré}"), -EINVAL, "the token holds");
	put("empty", " \n");
	refuse_text(USER_OF("{tokenFile: empty}"), -ENODATA, "/empty: it is empty");
	put("words", "s3cret\nwords\n");
	refuse_text(USER_OF("{tokenFile: words}"), -EINVAL, "/words: it doesn't hold a token");
}

/* The token is the file's first value where the file can't be read yet. */
static void test_token_before_file(void **state)
{
	_cleanup_config_ struct config *c = load_text(USER_OF("{token: inline, tokenFile: t}"));

	assert_token(c, "inline");
	put("t", "file");
	assert_token(c, "file");
}

static void test_http_drops_credentials(void **state)
{
	int saved = begin_stderr();
	_cleanup_config_ struct config *c = load_text(FILE_OF("{server: 'http://a'}",
		"{token: s3cret, client-certificate-data: " PEM ", client-key-data: " PEM "}"));
	_cleanup_config_ struct config *basic = load((struct config_flags){
		.server = "http://a", .kubeconfig = put("b", USER_OF("{username: u}"))});
	_cleanup_free_ char *text = end_stderr(saved);

	assert_string_equal(c->server, "http://a");
	assert_token(c, NULL);
	assert_null(c->client_certificate.data);
	assert_null(c->client_key.data);
	assert_null(basic->username);
	assert_non_null(strstr(text, "no credentials are sent"));
}

static void test_namespace(void **state)
{
	static const char *const bad[] = {"Shop", "a.b", "-a", "a-", "a/b", "../x",
		"a123456789012345678901234567890123456789012345678901234567890123"};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_free_ char *text =
			xasprintf("current-context: a\n"
				  "contexts: [{name: a, context: {cluster: c, namespace: '%s'}}]\n"
				  "clusters: [{name: c, cluster: {server: 'https://c'}}]\n",
				bad[i]);

		refuse_text(text, -EINVAL, "isn't a DNS label");
	}
}

static void test_proxy(void **state)
{
	static const char *const good[] = {
		"http://p", "HTTPS://u:s3cret@p:3128", "socks5://p", "socks5h://p:1080/"};
	static const char *const bad[] = {
		"p:3128", "ftp://u:s3cret@p", "http://", "http://s3cret p", "socks4://p"};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		_cleanup_free_ char *text =
			xasprintf(CLUSTER_OF("{server: 'https://a', proxy-url: '%s'}"), good[i]);
		_cleanup_config_ struct config *c = load_text(text);

		assert_string_equal(c->proxy_url, good[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_free_ char *text =
			xasprintf(CLUSTER_OF("{server: 'https://a', proxy-url: '%s'}"), bad[i]);

		refuse_text(text, -EINVAL, "k: proxy-url has to be a URL of http, https, socks5");
	}
}

static void test_as(void **state)
{
	_cleanup_config_ struct config *all = load_text(
		USER_OF("{token: t, as: 'jane doe', as-uid: 007, as-groups: [one, 'two, three'], "
			"as-user-extra: {'a/b%c': [x, y], Reason: [é]}}"));
	_cleanup_config_ struct config *none =
		load_text(USER_OF("{token: t, as: '', as-groups: [], as-user-extra: {}}"));

	assert_headers(all, "Impersonate-User: jane doe|Impersonate-Uid: 007|"
			    "Impersonate-Group: one|Impersonate-Group: two, three|"
			    "Impersonate-Extra-a%2Fb%25c: x|Impersonate-Extra-a%2Fb%25c: y|"
			    "Impersonate-Extra-Reason: é");
	assert_headers(none, "");
}

static void test_as_alone(void **state)
{
	static const char *const users[] = {
		"{as-uid: '1'}", "{token: t, as-groups: [g]}", "{as-user-extra: {a: [b]}}"};

	for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
		_cleanup_free_ char *text = xasprintf(USER_OF("%s"), users[i]);

		refuse_text(
			text, -EINVAL, "k: as-uid, as-groups or as-user-extra is given without as");
	}
}

static void test_as_wrong(void **state)
{
	refuse_text(USER_OF("{as: [a]}"), -EINVAL, "k: as isn't text");
	refuse_text(
		USER_OF("{as: a, as-groups: g}"), -EINVAL, "k: as-groups isn't a list of texts");
	refuse_text(USER_OF("{as: a, as-groups: [[g]]}"), -EINVAL, "as-groups isn't a list");
	refuse_text(USER_OF("{as: a, as-user-extra: [a]}"), -EINVAL,
		"k: as-user-extra isn't a map of lists of texts");
	refuse_text(
		USER_OF("{as: a, as-user-extra: {b: c}}"), -EINVAL, "as-user-extra isn't a map");
	refuse_text(
		USER_OF("{as: \"a\\r\\nAuthorization: b\"}"), -EINVAL, "holds control characters");
	refuse_text(USER_OF("{as: a, as-uid: \"\\n\"}"), -EINVAL, "holds control characters");
	refuse_text(USER_OF("{as: a, as-groups: [\"\\n\"]}"), -EINVAL, "holds control characters");
	refuse_text(USER_OF("{as: a, as-user-extra: {b: [\"\\n\"]}}"), -EINVAL,
		"holds control characters");
}

static void test_as_flags(void **state)
{
	_cleanup_json_ json_t *groups = json_pack("[s, s]", "x", "y");
	const char *k = put("k", USER_OF("{token: t, as: file, as-groups: [g]}"));
	const char *plain = put("plain", USER_OF("{token: t}"));
	_cleanup_config_ struct config *user =
		load((struct config_flags){.kubeconfig = k, .as = "flag", .as_uid = "1"});
	_cleanup_config_ struct config *group =
		load((struct config_flags){.kubeconfig = k, .as_groups = groups});

	assert_headers(user, "Impersonate-User: flag|Impersonate-Uid: 1|Impersonate-Group: g");
	assert_headers(group, "Impersonate-User: file|Impersonate-Group: x|Impersonate-Group: y");
	refuse((struct config_flags){.kubeconfig = plain, .as_groups = groups}, -EINVAL,
		"as-groups or as-user-extra is given without as");
}

#define EXEC_OF(fields)                                                                            \
	USER_OF("{exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, "    \
		"command: x" fields "}}")

static void test_exec(void **state)
{
	_cleanup_config_ struct config *c = load_text(FILE_OF(
		"{server: 'https://api', tls-server-name: inner, proxy-url: 'http://p', "
		"certificate-authority-data: " PEM ", disable-compression: true, extensions: ["
		"{name: other, extension: {a: b}}, {name: client.authentication.k8s.io/exec, "
		"extension: {audience: 'true', count: 1, flag: true, none: null}}]}",
		"{exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: bin/x, "
		"args: [get, 1], env: [{name: A, value: 'b=c'}, {name: E}], installHint: h, "
		"provideClusterInfo: true}}"));
	_cleanup_json_ json_t *cluster =
		json_pack("{s:s, s:s, s:s, s:b, s:s, s:{s:s, s:i, s:b, s:n}}", "server",
			"https://api", "tls-server-name", "inner", "proxy-url", "http://p",
			"disable-compression", 1, "certificate-authority-data", PEM, "config",
			"audience", "true", "count", 1, "flag", 1, "none");
	_cleanup_json_ json_t *args = json_pack("[s, s]", "get", "1");
	_cleanup_json_ json_t *env = json_pack("{s:s, s:s}", "A", "b=c", "E", "");

	assert_non_null(c->exec);
	assert_string_equal(c->exec->command, in("bin/x"));
	assert_string_equal(c->exec->install_hint, "h");
	assert_string_equal(c->exec->api_version, "client.authentication.k8s.io/v1beta1");
	assert_true(json_equal(c->exec->args, args));
	assert_true(json_equal(c->exec->env, env));
	assert_true(json_equal(c->exec->cluster, cluster));
	assert_false(c->exec->interactive);
}

/* The CA is told as data where the kubeconfig names a file; nothing is told unasked. */
static void test_exec_cluster(void **state)
{
	_cleanup_config_ struct config *file = NULL, *unasked = NULL;

	put_bytes("ca", PEM_TEXT, strlen(PEM_TEXT));
	file = load_text(FILE_OF("{server: 'https://api', certificate-authority: ca}",
		"{exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: "
		"IfAvailable, "
		"command: x, provideClusterInfo: true}}"));
	unasked = load_text(EXEC_OF(""));
	assert_string_equal(json_str(file->exec->cluster, "certificate-authority-data"), PEM);
	assert_string_equal(file->exec->command, "x");
	assert_null(unasked->exec->cluster);
}

static void test_exec_wrong(void **state)
{
	static const struct {
		const char *exec, *sentence;
	} rows[] = {
		{"[]", "exec isn't a map"},
		{"{apiVersion: client.authentication.k8s.io/v1}", "exec has no command"},
		{"{command: x}", "exec has no apiVersion"},
		{"{command: x, apiVersion: client.authentication.k8s.io/v1alpha1}",
			"v1alpha1 is gone"},
		{"{command: x, apiVersion: v1}", "apiVersion is neither"},
		{"{command: x, apiVersion: client.authentication.k8s.io/v1}",
			"exec has no interactiveMode"},
		{"{command: x, apiVersion: client.authentication.k8s.io/v1beta1, "
		 "interactiveMode: Sometimes}",
			"interactiveMode is none of"},
		{"{command: x, apiVersion: client.authentication.k8s.io/v1beta1, "
		 "provideClusterInfo: maybe}",
			"provideClusterInfo is neither"},
		{"{command: x, apiVersion: client.authentication.k8s.io/v1beta1, args: x}",
			"args isn't a list"},
		{"{command: x, apiVersion: client.authentication.k8s.io/v1beta1, args: [[]]}",
			"args[0] isn't text"},
		{"{command: x, apiVersion: client.authentication.k8s.io/v1beta1, env: {}}",
			"env isn't a list"},
		{"{command: x, apiVersion: client.authentication.k8s.io/v1beta1, env: [x]}",
			"env[0] has no usable name"},
		{"{command: x, apiVersion: client.authentication.k8s.io/v1beta1, "
		 "env: [{name: 'a=b'}]}",
			"env[0] has no usable name"},
		{"{command: x, apiVersion: client.authentication.k8s.io/v1beta1, "
		 "env: [{name: a, value: []}]}",
			"env \"a\" isn't text"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *text = xasprintf(USER_OF("{exec: %s}"), rows[i].exec);

		refuse_text(text, -EINVAL, rows[i].sentence);
	}
	refuse_text(USER_OF("{auth-provider: {name: oidc}, exec: {command: x}}"), -EINVAL,
		"k: exec contradicts auth-provider");
}

/* It isn't run where something else says who the user is, nor for a server of http. */
static void test_exec_unused(void **state)
{
	static const char *const users[] = {"token: t", "tokenFile: t", "username: u",
		"client-certificate-data: " PEM ", client-key-data: " PEM};
	_cleanup_config_ struct config *http = load(
		(struct config_flags){.kubeconfig = put("k", EXEC_OF("")), .server = "http://a"});

	put("t", "x");
	assert_null(http->exec);
	for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
		_cleanup_free_ char *text = xasprintf(
			USER_OF("{%s, exec: {apiVersion: client.authentication.k8s.io/v1, "
				"interactiveMode: Always, command: x}}"),
			users[i]);
		_cleanup_config_ struct config *c = load_text(text);

		assert_null(c->exec);
	}
}

static void test_auth_provider(void **state)
{
	_cleanup_config_ struct config *token =
		load_text(USER_OF("{token: t, auth-provider: {name: oidc}}"));

	assert_token(token, "t");
	refuse_text(USER_OF("{auth-provider: {name: oidc, config: {id-token: s3cret}}}"),
		-EOPNOTSUPP,
		"k: the auth-provider \"oidc\" isn't supported: use an exec plugin or a token");
}

static struct config *reload(const struct config *old)
{
	struct config *c = NULL;
	_cleanup_free_ char *error = NULL;

	assert_true(config_is_outdated(old));
	if (config_reload(old, &c, &error) < 0)
		fail_msg("%s", error);
	return c;
}

/* The context that the mount began with, whichever is current by now. */
static void test_reload(void **state)
{
	_cleanup_config_ struct config *c = load_text(TWO), *again = NULL;

	assert_false(config_is_outdated(c));
	put("k", "current-context: b\n"
		 "contexts: [{name: a, context: {cluster: ca, user: new}},\n"
		 "           {name: b, context: {cluster: cb, user: new}}]\n"
		 "clusters: [{name: ca, cluster: {server: 'https://a', tls-server-name: inner}},\n"
		 "           {name: cb, cluster: {server: 'https://b'}}]\n"
		 "users: [{name: new, user: {token: second}}]\n");
	again = reload(c);
	assert_string_equal(again->context, "a");
	assert_token(again, "second");
	assert_false(config_is_outdated(again));
}

static void test_reload_elsewhere(void **state)
{
	static const char *const others[] = {"{server: 'https://b'}",
		"{server: 'https://a', tls-server-name: other}",
		"{server: 'https://a', insecure-skip-tls-verify: true}",
		"{server: 'https://a', certificate-authority-data: " PEM "}"};
	_cleanup_config_ struct config *c = load_text(CLUSTER_OF("{server: 'https://a'}"));

	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		_cleanup_free_ char *text = xasprintf(CLUSTER_OF("%s"), others[i]);
		_cleanup_free_ char *error = NULL;
		struct config *other = NULL;

		put("k", text);
		assert_int_equal(config_reload(c, &other, &error), -EXDEV);
		assert_null(other);
		assert_non_null(strstr(error, "another server"));
	}
}

/* Flags and relative paths count as they did at first, wherever the program is by then. */
static void test_reload_relative(void **state)
{
	_cleanup_config_ struct config *c = NULL, *again = NULL;
	_cleanup_free_ char *cwd = getcwd(NULL, 0);
	char flag[] = "flag";

	put("k", USER_OF("{token: a}"));
	setenv("KUBECONFIG", "missing:k", 1);
	assert_int_equal(chdir(directory), 0);
	c = load((struct config_flags){.as = flag});
	assert_int_equal(chdir(cwd), 0);
	memset(flag, 'x', 4);
	put("missing", "users: [{name: u, user: {token: b}}]");
	again = reload(c);
	assert_token(again, "b");
	assert_headers(again, "Impersonate-User: flag");
}

static struct config_flags serviceaccount(const char *host)
{
	assert_int_equal(mkdir(in("sa"), 0700), 0);
	put("sa/token", "s3cret\n");
	setenv("KUBERNETES_SERVICE_HOST", host, 1);
	setenv("KUBERNETES_SERVICE_PORT", "443", 1);
	return (struct config_flags){.serviceaccount = in("sa")};
}

static void test_in_cluster(void **state)
{
	struct config_flags flags = serviceaccount("10.0.0.1");
	_cleanup_config_ struct config *c = NULL, *pod = NULL;

	put("sa/ca.crt", "x");
	put("sa/namespace", "shop\n");
	c = load(flags);
	assert_string_equal(c->server, "https://10.0.0.1:443");
	assert_string_equal(c->certificate_authority.file, in("sa/ca.crt"));
	assert_string_equal(c->ns, "shop");
	assert_string_equal(c->token_file, in("sa/token"));
	assert_token(c, "s3cret");
	setenv("POD_NAMESPACE", "pod", 1);
	pod = load(flags);
	assert_string_equal(pod->ns, "pod");
}

static void test_in_cluster_ipv6(void **state)
{
	_cleanup_config_ struct config *c = load(serviceaccount("fd00::1"));

	assert_string_equal(c->server, "https://[fd00::1]:443");
	assert_null(c->certificate_authority.file);
	assert_null(c->ns);
}

static void test_in_cluster_not(void **state)
{
	struct config_flags flags = serviceaccount("10.0.0.1");
	_cleanup_config_ struct config *server = NULL, *file = NULL;

	flags.server = "https://other";
	server = load(flags);
	assert_token(server, NULL);
	flags.server = NULL;
	flags.context = "a";
	refuse(flags, -EINVAL, "there is no context \"a\"");
	flags.context = NULL;
	flags.kubeconfig = put("k", CLUSTER_OF("{server: 'https://file'}"));
	file = load(flags);
	assert_string_equal(file->server, "https://file");
	put("k", "current-context: gone\n");
	refuse(flags, -EINVAL, "there is no context \"gone\"");
	flags.kubeconfig = NULL;
	unsetenv("KUBERNETES_SERVICE_PORT");
	refuse(flags, -EINVAL, "no kubeconfig found");
	setenv("KUBERNETES_SERVICE_PORT", "443", 1);
	unlink(in("sa/token"));
	refuse(flags, -EINVAL, "no kubeconfig found");
}

static void test_wrong_shapes(void **state)
{
	static const struct {
		const char *text, *sentence;
	} bad[] = {
		{"just words\n", "k isn't a kubeconfig: no map"},
		{"- a\n- b\n", "k isn't a kubeconfig: no map"},
		{"apiVersion: v2\n", "k isn't a kubeconfig: its apiVersion isn't v1"},
		{"kind: [Config]\n", "its kind isn't Config"},
		{"kind: Secret\n", "its kind isn't Config"},
		{"clusters: s3cret\n", "clusters in /"},
		{"users: {u: {token: s3cret}}\n", "k isn't a list"},
		{"contexts: [a]\n", "contexts[0] in /"},
		{"contexts: [{name: a}, text]\n", "k isn't a map"},
		{"contexts: [{context: {}}, null]\n", "context \"\" stands twice in /"},
		{"users: [{name: u, user: s3cret}]\n", "user \"u\" in /"},
		{"users: [{name: [u], user: {}}]\n", "users[0] in /"},
		{"users: [{name: u}, {name: u}]\n", "user \"u\" stands twice in /"},
		{"current-context: {a: b}\n", "current-context in /"},
		{CLUSTER_OF("{server: [https]}"), "k: server isn't text"},
		{CLUSTER_OF("[]"), "cluster \"c\""},
		{USER_OF("{token: {s3cret: s3cret}}"), "k: token isn't text"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		refuse_text(bad[i].text, -EINVAL, bad[i].sentence);
}

static void test_empty(void **state)
{
	static const char *const texts[] = {"", "\n", "# nothing\n", "---\n", "---\n...\n", "{}",
		"null",
		"apiVersion: v1\nkind: Config\nclusters: null\nusers: []\ncurrent-context: ''\n"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		refuse_text(texts[i], -EINVAL, "in the kubeconfig (/");
}

static void test_bad_yaml(void **state)
{
	static const struct {
		const char *text, *sentence;
	} bad[] = {
		{"a: b\n\tc: d\n", "can't parse kubeconfig /"},
		{"a:\n\t- b\n", "k: line 2, column "},
		{"a: [b\n", "k: line "},
		{"a: 's3cret\n", "k: line "},
		{"a: \"\\q\"\n", "k: line "},
		{"{\"a\": \"\\ud800\"}", "k: line "},
		{"a: \"x\\0y\"\n", "k: line 1, column 4: text with a NUL"},
		{"\"x\\0y\": a\n", "k: line 1, column 1: text with a NUL"},
		{"a: b\n? [c]\n: d\n", "k: line 2, column 3: a key that isn't text"},
		{"a: !!binary eA==\n", "k: line 1, column 4: tags aren't supported"},
		{"a: !x {}\n", "k: line 1, column 4: tags aren't supported"},
		{"a: *gone\n", "k: line 1, column 4: unknown alias"},
		{"a: &a [*a]\n", "k: line 1, column 8: unknown alias"},
		{"%YAML 9.9\n---\na: b\n", "k: line 1, column "},
		{"\xff\xfe\xff", "can't parse kubeconfig /"},
		{"a: \xc3(\n", "can't parse kubeconfig /"},
		{"a: \xed\xa0\x80\n", "can't parse kubeconfig /"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		refuse_text(bad[i].text, -EINVAL, bad[i].sentence);
}

static void test_alias(void **state)
{
	_cleanup_config_ struct config *c =
		load_text("current-context: &n a\n"
			  "contexts: [{name: *n, context: {cluster: b}}]\n"
			  "clusters:\n"
			  "- {name: a, cluster: &c {server: 'https://a'}}\n"
			  "- {name: b, cluster: *c}\n");

	assert_string_equal(c->server, "https://a");
}

static void test_alias_bomb(void **state)
{
	_cleanup_free_ char *text = xcalloc(1 << 20, 1);
	char *p = text + sprintf(text, "a0: &a0 [x, x]\n");

	for (int i = 1; i < 20; i++) {
		p += sprintf(p, "a%d: &a%d [", i, i);
		for (int j = 0; j < 10; j++)
			p += sprintf(p, "*a%d,", i - 1);
		p += sprintf(p, "]\n");
	}
	refuse_text(text, -EINVAL, "k: line 7, column 10: aliases that repeat more than 1 MiB");
}

/* Aliases nest values deeper than the text does. */
static void test_alias_chain(void **state)
{
	_cleanup_free_ char *text = xcalloc(1 << 20, 1);
	char *p = text + sprintf(text, "[&a0 []");

	for (int i = 1; i < 40000; i++)
		p += sprintf(p, ",\n&a%d [*a%d]", i, i - 1);
	strcpy(p, "]");
	refuse_text(text, -EINVAL, "nested too deeply");
	p = text + sprintf(text, "[&a0 []");
	for (int i = 1; i <= 64; i++) {
		p += sprintf(p, ",\n&a%d ", i);
		for (int j = 0; j < 31; j++)
			*p++ = '[';
		p += sprintf(p, "*a%d", i - 1);
		for (int j = 0; j < 31; j++)
			*p++ = ']';
	}
	strcpy(p, "]");
	refuse_text(text, -EINVAL, "nested too deeply");
}

/* `open` many times over, on one line and on many. */
static void refuse_nested(const char *open, size_t times)
{
	_cleanup_free_ char *text = xcalloc(times + 1, strlen(open));

	for (size_t i = 0; i < times; i++)
		memcpy(text + i * strlen(open), open, strlen(open));
	refuse((struct config_flags){.kubeconfig = put_bytes("k", text, times * strlen(open))},
		-EINVAL, "can't parse kubeconfig /");
}

static void test_nesting(void **state)
{
	refuse_nested("[", 1 << 20);
	refuse_nested("{a: ", 1 << 18);
	refuse_nested("- ", 1 << 19);
	refuse_nested("? ", 1 << 19);
	refuse_nested("[\n", 1 << 19);
	refuse_nested("&a [", 1 << 18);
}

static void test_size(void **state)
{
	const size_t size = 17 << 20;
	_cleanup_free_ char *text = xmalloc(size);
	_cleanup_config_ struct config *c = NULL;
	const char *good = CLUSTER_OF("{server: 'https://api'}");

	memset(text, '#', size);
	memcpy(text, good, strlen(good));
	c = load((struct config_flags){.kubeconfig = put_bytes("k", text, 16 << 20)});
	assert_string_equal(c->server, "https://api");
	refuse((struct config_flags){.kubeconfig = put_bytes("k", text, (16 << 20) + 1)}, -EFBIG,
		"k: larger than 16 MiB");
	refuse((struct config_flags){.kubeconfig = put_bytes("k", text, size)}, -EFBIG,
		"k: larger than 16 MiB");
	refuse((struct config_flags){.kubeconfig = "/dev/zero"}, -EFBIG, "larger than 16 MiB");
	refuse((struct config_flags){.kubeconfig = "/"}, -EISDIR, "Is a directory");
}

/* Control characters of a name don't break the line that the user sees. */
static void test_one_line(void **state)
{
	refuse_text(
		"current-context: \"a\\nb\\e[2J\"\n", -EINVAL, "there is no context \"a?b?[2J\"");
}

/* Whatever stands in the file: a sentence, and no crash. The seed is fixed. */
static void test_garbage(void **state)
{
	uint64_t seed = HASH_INIT;

	for (int i = 0; i < 300; i++) {
		unsigned char bytes[512];

		for (size_t j = 0; j < sizeof(bytes); j++)
			bytes[j] = seed = hash_bytes(seed, &j, sizeof(j));
		put_bytes("k", bytes, sizeof(bytes));
		refuse((struct config_flags){.kubeconfig = in("k")}, -EINVAL,
			"can't parse kubeconfig");
	}
}

/* A good file with single bytes changed may load or not, but nothing else. */
static void test_mutations(void **state)
{
	static const char bytes[] = "\0\t\n&*!|>'\"%@`{}[],:?-#~\\\x80\xff";
	const char *good = FILE_OF("{server: 'https://a', certificate-authority-data: " PEM "}",
		"{token: &t abc, username: *t}");
	_cleanup_free_ char *text = xstrdup(good);
	size_t len = strlen(good);

	for (size_t i = 0; i < len; i++)
		for (size_t j = 0; j < sizeof(bytes) - 1; j += 1 + i % 3) {
			struct config_flags flags = {.kubeconfig = in("k")};
			_cleanup_config_ struct config *c = NULL;
			_cleanup_free_ char *error = NULL;

			text[i] = bytes[j];
			put_bytes("k", text, len);
			assert_true((config_load(&flags, &c, &error) == 0) == !error);
			assert_true(!c == !!error);
			text[i] = good[i];
		}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_free_null),
		TEST(test_everything),
		TEST(test_base64),
		TEST(test_json),
		TEST(test_scalars),
		TEST(test_flag_words),
		TEST(test_kubeconfig_flag_wins),
		TEST(test_kubeconfig_flag_missing),
		TEST(test_list_merged),
		TEST(test_list_unparseable),
		TEST(test_list_missing),
		TEST(test_home),
		TEST(test_relative_paths),
		TEST(test_context_flag),
		TEST(test_cluster_and_user_flags),
		TEST(test_cluster_without_context),
		TEST(test_dangling_names),
		TEST(test_no_server),
		TEST(test_server_url),
		TEST(test_server_alone),
		TEST(test_server_flag),
		TEST(test_authority_flags),
		TEST(test_authority_contradictions),
		TEST(test_token_flags),
		TEST(test_certificate_flags),
		TEST(test_certificate_contradictions),
		TEST(test_unreadable_files),
		TEST(test_data),
		TEST(test_token_with_password),
		TEST(test_bad_token),
		TEST(test_token_before_file),
		TEST(test_http_drops_credentials),
		TEST(test_namespace),
		TEST(test_proxy),
		TEST(test_as),
		TEST(test_as_alone),
		TEST(test_as_wrong),
		TEST(test_as_flags),
		TEST(test_exec),
		TEST(test_exec_cluster),
		TEST(test_exec_wrong),
		TEST(test_exec_unused),
		TEST(test_auth_provider),
		TEST(test_reload),
		TEST(test_reload_elsewhere),
		TEST(test_reload_relative),
		TEST(test_in_cluster),
		TEST(test_in_cluster_ipv6),
		TEST(test_in_cluster_not),
		TEST(test_wrong_shapes),
		TEST(test_empty),
		TEST(test_bad_yaml),
		TEST(test_alias),
		TEST(test_alias_bomb),
		TEST(test_alias_chain),
		TEST(test_nesting),
		TEST(test_size),
		TEST(test_one_line),
		TEST(test_garbage),
		TEST(test_mutations),
	};

	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
