#include "client/config.h"

#include "client/kubeconfig.h"
#include "client/log.h"
#include "client/proxy.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <stdarg.h>

#define SERVICEACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount"
#define FILE_MAX       ((size_t)1 << 20)

enum field_kind {
	FIELD_TEXT,
	FIELD_FLAG,
	FIELD_PATH, /* relative to the file that names it */
	FIELD_DATA, /* base64 of PEM */
	FIELD_LIST, /* of texts */
	FIELD_MAP,  /* of lists of texts */
};

struct field {
	const char *name;
	enum field_kind kind;
	size_t offset; /* in struct config */
};

#define FIELD(name, kind, member)                                                                  \
	{                                                                                          \
		name, kind, offsetof(struct config, member)                                        \
	}

static const struct field context_fields[] = {
	FIELD("cluster", FIELD_TEXT, cluster),
	FIELD("user", FIELD_TEXT, user),
	FIELD("namespace", FIELD_TEXT, ns),
	{0},
};

static const struct field cluster_fields[] = {
	FIELD("server", FIELD_TEXT, server),
	FIELD("tls-server-name", FIELD_TEXT, tls_server_name),
	FIELD("insecure-skip-tls-verify", FIELD_FLAG, insecure_skip_tls_verify),
	FIELD("certificate-authority", FIELD_PATH, certificate_authority.file),
	FIELD("certificate-authority-data", FIELD_DATA, certificate_authority.data),
	FIELD("proxy-url", FIELD_TEXT, proxy_url),
	FIELD("disable-compression", FIELD_FLAG, disable_compression),
	{0},
};

static const struct field user_fields[] = {
	FIELD("client-certificate", FIELD_PATH, client_certificate.file),
	FIELD("client-certificate-data", FIELD_DATA, client_certificate.data),
	FIELD("client-key", FIELD_PATH, client_key.file),
	FIELD("client-key-data", FIELD_DATA, client_key.data),
	FIELD("token", FIELD_TEXT, token),
	FIELD("tokenFile", FIELD_PATH, token_file),
	FIELD("username", FIELD_TEXT, username),
	FIELD("password", FIELD_TEXT, password),
	FIELD("as", FIELD_TEXT, as),
	FIELD("as-uid", FIELD_TEXT, as_uid),
	FIELD("as-groups", FIELD_LIST, as_groups),
	FIELD("as-user-extra", FIELD_MAP, as_extra),
	{0},
};

/* What config_load works on. An entry without a file isn't there: flags alone say everything. */
struct load {
	const struct config_flags *flags;
	struct kubeconfig kubeconfig;
	struct kubeconfig_entry context, cluster, user;
	struct kubeconfig_entry flag; /* as blame() makes it */
	struct config *config;
	char **ret_error;
};

static bool given(const char *s)
{
	return s && *s;
}

static void wipe_pem(struct config_pem *pem)
{
	free(steal_ptr(pem->file));
	str_wipe(&pem->data);
}

static void wipe_user(struct config *c)
{
	wipe_pem(&c->client_certificate);
	wipe_pem(&c->client_key);
	str_wipe(&c->token);
	str_wipe(&c->username);
	str_wipe(&c->password);
	free(steal_ptr(c->token_file));
	free(steal_ptr(c->as));
	free(steal_ptr(c->as_uid));
	json_decref(steal_ptr(c->as_groups));
	json_decref(steal_ptr(c->as_extra));
	exec_plugin_free(steal_ptr(c->exec));
}

/* What is at fault: the flag where it was given, else the entry. */
static const struct kubeconfig_entry *blame(
	struct load *l, const char *value, const char *flag, const struct kubeconfig_entry *entry)
{
	l->flag = (struct kubeconfig_entry){.kind = flag};
	return given(value) ? &l->flag : entry;
}

/* "user "dev" in /home/u/.kube/config: …" or "--server: …", as far as there is either. */
static int fail_entry(struct load *l, const struct kubeconfig_entry *e, int r, const char *format,
	...) _printf_(4, 5);

static int fail_entry(
	struct load *l, const struct kubeconfig_entry *e, int r, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		text = xstrdup("out of memory");
	va_end(ap);
	if (!e->file)
		return kubeconfig_fail(l->ret_error, r, "%s%s%s", e->kind ? e->kind : "",
			e->kind ? ": " : "", text);
	return kubeconfig_fail(
		l->ret_error, r, "%s \"%s\" in %s: %s", e->kind, e->name, e->file, text);
}

/* OpenSSL's decoder takes more than base64: what it isn't to see is looked for here. */
static int decode_base64(const char *text, unsigned char *ret)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789+/";
	size_t len = strspn(text, letters), padding = strspn(text + len, "=");

	if (text[len + padding] || (len + padding) % 4 || padding > 2)
		return -EINVAL;
	return EVP_DecodeBlock(ret, (const unsigned char *)text, (int)(len + padding)) -
	       (int)padding;
}

/* White space may stand anywhere. *ret ends in a NUL. */
static int decode_pem(const char *text, char **ret)
{
	size_t len = strlen(text), n = 0;
	char *compact = xmalloc(len + 1), *pem = xcalloc(len + 1, 1);
	int r;

	for (const char *p = text; *p; p++)
		if (!isspace((unsigned char)*p))
			compact[n++] = *p;
	compact[n] = '\0';
	r = decode_base64(compact, (unsigned char *)pem);
	explicit_bzero(compact, n);
	free(compact);
	if (r < 0 || strlen(pem) != (size_t)r || !strstr(pem, "-----BEGIN ")) {
		explicit_bzero(pem, len);
		free(pem);
		return -EINVAL;
	}
	*ret = pem;
	return 0;
}

static int read_field(
	struct load *l, const struct kubeconfig_entry *e, const struct field *f, const char *text)
{
	void *member = (char *)l->config + f->offset;

	switch (f->kind) {
	case FIELD_FLAG:
		if (kubeconfig_parse_flag(text, member) < 0)
			return fail_entry(l, e, -EINVAL, "%s is neither true nor false", f->name);
		return 0;
	case FIELD_DATA:
		if (decode_pem(text, member) < 0)
			return fail_entry(l, e, -EINVAL, "%s isn't base64 of PEM", f->name);
		return 0;
	case FIELD_PATH:
		*(char **)member = kubeconfig_resolve(e->file, text);
		return 0;
	default:
		*(char **)member = xstrdup(text);
		return 0;
	}
}

static bool is_list_of_texts(const json_t *list)
{
	const json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
		if (!json_is_string(item))
			return false;
	return json_is_array(list);
}

static bool is_map_of_lists(const json_t *map)
{
	const char *key;
	json_t *list;

	json_object_foreach((json_t *)map, key, list)
		if (!is_list_of_texts(list))
			return false;
	return json_is_object(map);
}

static int read_texts(
	struct load *l, const struct kubeconfig_entry *e, const struct field *f, json_t *value)
{
	if (f->kind == FIELD_LIST && !is_list_of_texts(value))
		return fail_entry(l, e, -EINVAL, "%s isn't a list of texts", f->name);
	if (f->kind == FIELD_MAP && !is_map_of_lists(value))
		return fail_entry(l, e, -EINVAL, "%s isn't a map of lists of texts", f->name);
	*(json_t **)((char *)l->config + f->offset) = json_incref(value);
	return 0;
}

/* As in Go, an empty value is an absent one. */
static bool is_set(const json_t *value)
{
	if (json_is_string(value))
		return json_string_length(value) > 0;
	return json_array_size(value) > 0 || json_object_size(value) > 0;
}

static int read_fields(struct load *l, const struct kubeconfig_entry *e, const struct field *fields)
{
	for (const struct field *f = fields; f->name; f++) {
		json_t *value = json_object_get(e->fields, f->name);
		int r;

		if (!value || json_is_null(value))
			continue;
		if (f->kind < FIELD_LIST && !json_is_string(value))
			return fail_entry(l, e, -EINVAL, "%s isn't text", f->name);
		if (!is_set(value))
			continue;
		if (f->kind >= FIELD_LIST)
			r = read_texts(l, e, f, value);
		else
			r = read_field(l, e, f, json_string_value(value));
		if (r < 0)
			return r;
	}
	return 0;
}

/* `from`: the context that names it, or the flag. */
static int find(struct load *l, enum kubeconfig_kind kind, const char *name,
	const struct kubeconfig_entry *from, struct kubeconfig_entry *ret)
{
	_cleanup_free_ char *names = NULL;

	if (kubeconfig_find(&l->kubeconfig, kind, name, ret) == 0)
		return 0;
	names = kubeconfig_names(&l->kubeconfig, kind);
	if (from->file)
		return fail_entry(
			l, from, -EINVAL, "there is no %s \"%s\"", kubeconfig_word(kind), name);
	return fail_entry(l, from, -EINVAL, "there is no %s \"%s\" in %s%s%s",
		kubeconfig_word(kind), name, l->kubeconfig.tried,
		!l->kubeconfig.found ? ": no such file"
		: *names	     ? "; there are: "
				     : "; there is none at all",
		names);
}

static int load_context(struct load *l)
{
	struct config *c = l->config;
	const char *name =
		given(l->flags->context) ? l->flags->context : l->kubeconfig.current_context;
	const struct kubeconfig_entry none = {0}; /* CONTEXT is not always a flag */
	int r;

	if (!name)
		return 0;
	r = find(l, KUBECONFIG_CONTEXT, name,
		given(l->flags->context) ? &none : blame(l, name, "current-context", &none),
		&l->context);
	if (r < 0)
		return r;
	c->context = xstrdup(name);
	return read_fields(l, &l->context, context_fields);
}

/* The entry that the flag names, else the one that the context names, if any. */
static int load_entry(struct load *l, enum kubeconfig_kind kind, const char *flag, char **name,
	const struct field *fields, struct kubeconfig_entry *entry)
{
	const char *word = kind == KUBECONFIG_CLUSTER ? "--cluster" : "--user";
	int r;

	if (given(flag)) {
		free(*name);
		*name = xstrdup(flag);
	}
	if (!*name)
		return 0;
	r = find(l, kind, *name, blame(l, flag, word, &l->context), entry);
	return r < 0 ? r : read_fields(l, entry, fields);
}

/* What stands in the kubeconfig beside the fields that are text: exec and auth-provider. */
static int load_exec(struct load *l)
{
	const json_t *exec = json_object_get(l->user.fields, "exec");
	_cleanup_free_ char *problem = NULL;

	if (!exec || json_is_null(exec))
		return 0;
	if (is_set(json_object_get(l->user.fields, "auth-provider")))
		return fail_entry(l, &l->user, -EINVAL, "exec contradicts auth-provider");
	if (exec_plugin_new(exec, l->user.file, &l->config->exec, &problem) == 0)
		return 0;
	return fail_entry(l, &l->user, -EINVAL, "%s", problem);
}

static int load_files(struct load *l)
{
	struct config *c = l->config;
	int r = load_context(l);

	if (r == 0)
		r = load_entry(l, KUBECONFIG_CLUSTER, l->flags->cluster, &c->cluster,
			cluster_fields, &l->cluster);
	if (r == 0)
		r = load_entry(l, KUBECONFIG_USER, l->flags->user, &c->user, user_fields, &l->user);
	if (r == 0)
		r = load_exec(l);
	return r;
}

char *config_trim(char *s)
{
	size_t n;

	while (isspace((unsigned char)*s))
		s++;
	n = strlen(s);
	while (n > 0 && isspace((unsigned char)s[n - 1]))
		s[--n] = '\0';
	return s;
}

/* The rules are client-go's: rest.InClusterConfig, and clientcmd's for the namespace. */
static bool in_cluster(const struct load *l, const char *directory)
{
	const struct config_flags *f = l->flags;
	_cleanup_free_ char *token = xasprintf("%s/token", directory);

	if (!kubeconfig_empty(&l->kubeconfig) || given(f->server) || given(f->context) ||
		given(f->cluster) || given(f->user))
		return false;
	return given(getenv("KUBERNETES_SERVICE_HOST")) &&
	       given(getenv("KUBERNETES_SERVICE_PORT")) && access(token, F_OK) == 0;
}

static void load_in_cluster(struct config *c, const char *directory)
{
	const char *host = getenv("KUBERNETES_SERVICE_HOST");
	const char *port = getenv("KUBERNETES_SERVICE_PORT");
	const char *ns = getenv("POD_NAMESPACE");
	_cleanup_free_ char *ca = xasprintf("%s/ca.crt", directory);
	_cleanup_free_ char *namespace_file = xasprintf("%s/namespace", directory);
	_cleanup_free_ char *text = NULL;
	size_t len;

	if (!host || !port)
		abort(); /* the caller has looked */
	c->server = xasprintf(strchr(host, ':') ? "https://[%s]:%s" : "https://%s:%s", host, port);
	c->token_file = xasprintf("%s/token", directory);
	if (access(ca, R_OK) == 0)
		c->certificate_authority.file = steal_ptr(ca);
	else
		log_info("can't read %s: the system's certificate authorities are used", ca);
	if (given(ns))
		c->ns = xstrdup(ns);
	else if (read_file(namespace_file, FILE_MAX, &text, &len) == 0 && *config_trim(text))
		c->ns = xstrdup(config_trim(text)); /* the file may be missing */
}

static void override_text(char **value, const char *flag)
{
	if (given(flag)) {
		str_wipe(value);
		*value = xstrdup(flag);
	}
}

static void override_pem(struct config_pem *pem, const char *flag, const char *directory)
{
	if (given(flag)) {
		wipe_pem(pem);
		pem->file = kubeconfig_absolute(flag, directory);
	}
}

/* client-go tools/clientcmd/client_config.go, getCluster. */
static void override_cluster(struct config *c, const struct config_flags *f)
{
	override_text(&c->server, f->server);
	if (given(f->server)) /* the name was that of another server */
		free(steal_ptr(c->tls_server_name));
	override_text(&c->tls_server_name, f->tls_server_name);
	if (f->insecure_skip_tls_verify || given(f->certificate_authority)) {
		wipe_pem(&c->certificate_authority);
		c->insecure_skip_tls_verify = f->insecure_skip_tls_verify;
	}
	override_pem(&c->certificate_authority, f->certificate_authority, f->directory);
}

static void override_user(struct config *c, const struct config_flags *f)
{
	override_pem(&c->client_certificate, f->client_certificate, f->directory);
	override_pem(&c->client_key, f->client_key, f->directory);
	override_text(&c->as, f->as);
	override_text(&c->as_uid, f->as_uid);
	if (json_array_size(f->as_groups) > 0) {
		json_decref(c->as_groups);
		c->as_groups = json_incref(f->as_groups);
	}
	if (!given(f->token) && !given(f->token_file))
		return;
	str_wipe(&c->username);
	str_wipe(&c->password);
	str_wipe(&c->token);
	free(steal_ptr(c->token_file));
	override_text(&c->token, f->token);
	if (given(f->token_file))
		c->token_file = kubeconfig_absolute(f->token_file, f->directory);
}

static int no_server(struct load *l)
{
	const struct kubeconfig *k = &l->kubeconfig;

	if (l->cluster.file)
		return fail_entry(l, &l->cluster, -EINVAL, "no server is given");
	if (l->context.file)
		return fail_entry(l, &l->context, -EINVAL, "no cluster is given");
	if (!k->found)
		return kubeconfig_fail(l->ret_error, -EINVAL,
			"no kubeconfig found (tried %s); give --kubeconfig or --server", k->tried);
	return kubeconfig_fail(l->ret_error, -EINVAL,
		"no current-context in the kubeconfig (%s); give --context or --server", k->tried);
}

/* A user in the URL would be a credential, and the URL stands in messages: it is never quoted. */
static int check_server(struct load *l)
{
	const struct kubeconfig_entry *e = blame(l, l->flags->server, "--server", &l->cluster);
	char *server = l->config->server;
	const char *host;

	if (!server)
		return no_server(l);
	if (!strstr(server, "://")) { /* client-go: http, whatever else is said of TLS */
		l->config->server = xasprintf("http://%s", server);
		free(server);
		server = l->config->server;
	}
	if (strncasecmp(server, "https://", 8) != 0 && strncasecmp(server, "http://", 7) != 0)
		return fail_entry(
			l, e, -EINVAL, "the server's URL has to start with https:// or http://");
	host = strstr(server, "://") + 3;
	for (const char *p = server; *p; p++)
		if ((unsigned char)*p <= 0x20 || *p == 0x7f || strchr("?#@", *p))
			return fail_entry(l, e, -EINVAL,
				"the server's URL has to be a host and maybe a path, no more");
	for (size_t n = strlen(host); n > 0 && host[n - 1] == '/'; n--)
		server[strlen(server) - 1] = '\0';
	if (!*host)
		return fail_entry(l, e, -EINVAL, "the server's URL has no host");
	return 0;
}

static int check_readable(
	struct load *l, const struct kubeconfig_entry *e, const char *name, const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char byte;

	if (fd < 0 || read(fd, &byte, 1) < 0) {
		int r = -errno;

		return fail_entry(l, e, r, "can't read %s %s: %s", name, path, strerror(-r));
	}
	return 0;
}

static int check_pem(struct load *l, const struct kubeconfig_entry *e, const char *name,
	const struct config_pem *pem)
{
	if (pem->file && pem->data)
		return fail_entry(
			l, e, -EINVAL, "%s and %s-data are given, but only one may be", name, name);
	return pem->file ? check_readable(l, e, name, pem->file) : 0;
}

static bool pem_given(const struct config_pem *pem)
{
	return pem->file || pem->data;
}

/* It may hold a password: it is never quoted either. */
static int check_proxy(struct load *l)
{
	static const char *const schemes[] = {"http://", "https://", "socks5://", "socks5h://"};
	const char *proxy = l->config->proxy_url;
	_cleanup_free_ char *complete = proxy ? proxy_complete(proxy) : NULL;
	bool known = !proxy;

	for (size_t i = 0; complete && i < ARRAY_SIZE(schemes); i++)
		known = known || (strncasecmp(proxy, schemes[i], strlen(schemes[i])) == 0 &&
					 proxy[strlen(schemes[i])]);
	for (const char *p = proxy; p && *p; p++)
		known = known && (unsigned char)*p > 0x20 && *p != 0x7f;
	if (complete)
		explicit_bzero(complete, strlen(complete));
	if (known)
		return 0;
	return fail_entry(l, &l->cluster, -EINVAL,
		"proxy-url has to be a URL of http, https, socks5 or socks5h");
}

static int check_cluster(struct load *l)
{
	struct config *c = l->config;
	const struct kubeconfig_entry *e;
	int r = check_server(l);

	if (r == 0)
		r = check_proxy(l);
	e = blame(l, l->flags->certificate_authority, "--certificate-authority", &l->cluster);
	if (r == 0)
		r = check_pem(l, e, "certificate-authority", &c->certificate_authority);
	if (r == 0 && c->insecure_skip_tls_verify && pem_given(&c->certificate_authority))
		r = fail_entry(l, e, -EINVAL,
			"insecure-skip-tls-verify contradicts certificate-authority");
	return r;
}

static int check_certificate(struct load *l)
{
	struct config *c = l->config;
	const struct config_flags *f = l->flags;
	bool certificate = pem_given(&c->client_certificate), key = pem_given(&c->client_key);
	const struct kubeconfig_entry *e;
	int r;

	e = blame(l, f->client_certificate, "--client-certificate", &l->user);
	r = check_pem(l, e, "client-certificate", &c->client_certificate);
	if (r == 0 && certificate && !key)
		r = fail_entry(l, e, -EINVAL, "client-certificate without client-key");
	if (r < 0)
		return r;
	e = blame(l, f->client_key, "--client-key", &l->user);
	r = check_pem(l, e, "client-key", &c->client_key);
	if (r == 0 && key && !certificate)
		r = fail_entry(l, e, -EINVAL, "client-key without client-certificate");
	return r;
}

bool config_header_is_safe(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			return false;
	return true;
}

bool config_token_is_valid(const char *token)
{
	for (; *token; token++)
		if (*token <= ' ' || *token > '~')
			return false;
	return true;
}

static int check_token(struct load *l)
{
	struct config *c = l->config;

	if (c->token) {
		_cleanup_free_ char *old = c->token;

		c->token = xstrdup(config_trim(old));
		explicit_bzero(old, strlen(old));
		if (!config_token_is_valid(c->token))
			return fail_entry(l, blame(l, l->flags->token, "--token", &l->user),
				-EINVAL, "the token holds white space or control characters");
	}
	if (c->token_file && !c->token)
		return check_readable(l, blame(l, l->flags->token_file, "--token-file", &l->user),
			"token file", c->token_file);
	return 0;
}

static bool texts_are_safe(const json_t *list)
{
	const json_t *item;
	size_t i;

	json_array_foreach(list, i, item) {
		if (!config_header_is_safe(json_string_value(item)))
			return false;
	}
	return true;
}

static int check_as(struct load *l)
{
	struct config *c = l->config;
	bool safe = (!c->as || config_header_is_safe(c->as)) &&
		    (!c->as_uid || config_header_is_safe(c->as_uid)) &&
		    texts_are_safe(c->as_groups);
	const struct kubeconfig_entry *e =
		l->flags->as_groups ? blame(l, "x", "--as-group", &l->user)
				    : blame(l, l->flags->as_uid, "--as-uid", &l->user);
	const char *key;
	json_t *list;

	if (!c->as && (c->as_uid || c->as_groups || c->as_extra))
		return fail_entry(
			l, e, -EINVAL, "as-uid, as-groups or as-user-extra is given without as");
	json_object_foreach(c->as_extra, key, list)
		safe = safe && *key && texts_are_safe(list);
	if (given(l->flags->as) && !config_header_is_safe(c->as))
		e = blame(l, c->as, "--as", e);
	if (!safe)
		return fail_entry(l, e, -EINVAL,
			"as, as-uid, as-groups or as-user-extra holds control characters");
	return 0;
}

/* Both are only asked where nothing else says who the user is. */
static int check_exec(struct load *l)
{
	struct config *c = l->config;
	const char *provider = json_str(json_object_get(l->user.fields, "auth-provider"), "name");

	if (c->token || c->token_file || c->username || pem_given(&c->client_certificate)) {
		exec_plugin_free(steal_ptr(c->exec));
		return 0;
	}
	if (!is_set(json_object_get(l->user.fields, "auth-provider")))
		return 0;
	return fail_entry(l, &l->user, -EOPNOTSUPP,
		"the auth-provider \"%s\" isn't supported: use an exec plugin or a token instead",
		provider ? provider : "");
}

static int check_user(struct load *l)
{
	struct config *c = l->config;
	bool token = c->token || c->token_file, basic = c->username || c->password;
	int r = check_certificate(l);

	if (r == 0 && token && basic)
		r = fail_entry(l, &l->user, -EINVAL,
			"a token and username/password are given, but only one may be");
	if (r < 0)
		return r;
	if (basic && !c->username)
		c->username = xstrdup("");
	if (basic && !c->password)
		c->password = xstrdup("");
	r = check_token(l);
	if (r == 0)
		r = check_exec(l);
	return r < 0 ? r : check_as(l);
}

static int check(struct load *l)
{
	const char *ns = l->config->ns;
	int r = check_cluster(l);

	if (r == 0)
		r = check_user(l);
	if (r == 0 && ns && !str_is_dns_label(ns))
		r = fail_entry(
			l, &l->context, -EINVAL, "the namespace \"%s\" isn't a DNS label", ns);
	return r;
}

static void drop_credentials(struct config *c)
{
	if (strncasecmp(c->server, "https://", 8) == 0)
		return;
	if (c->token || c->token_file || c->username || c->exec || c->as ||
		pem_given(&c->client_certificate))
		log_info("the server's URL is http://, so no credentials are sent");
	wipe_user(c);
}

/* What an exec plugin is told (client-go tools/auth/exec, ConfigToExecCluster). */
static json_t *describe_cluster(const struct load *l)
{
	const struct config *c = l->config;
	const json_t *extensions = json_object_get(l->cluster.fields, "extensions"), *extension;
	json_t *cluster = json_pack("{s:s, s:s*, s:s*}", "server", c->server, "tls-server-name",
		c->tls_server_name, "proxy-url", c->proxy_url);
	_cleanup_free_ char *ca = NULL, *text = NULL;
	size_t len = 0, i;

	if (c->insecure_skip_tls_verify)
		json_object_set_new(cluster, "insecure-skip-tls-verify", json_true());
	if (c->disable_compression)
		json_object_set_new(cluster, "disable-compression", json_true());
	if (c->certificate_authority.data)
		text = xstrdup(c->certificate_authority.data);
	else if (c->certificate_authority.file)
		read_file(c->certificate_authority.file, FILE_MAX, &text, &len);
	if (text) {
		len = strlen(text);
		ca = xmalloc(len / 3 * 4 + 5);
		EVP_EncodeBlock((unsigned char *)ca, (const unsigned char *)text, (int)len);
		json_object_set_new(cluster, "certificate-authority-data", json_string(ca));
	}
	json_array_foreach(extensions, i, extension) {
		const char *name = json_str(extension, "name");

		if (name && streq(name, "client.authentication.k8s.io/exec"))
			json_object_set(cluster, "config", json_object_get(extension, "extension"));
	}
	return cluster;
}

static int load(struct load *l)
{
	const struct config_flags *f = l->flags;
	const char *directory = given(f->serviceaccount) ? f->serviceaccount : SERVICEACCOUNT;
	const char *path = given(f->kubeconfig) ? f->kubeconfig : NULL;
	struct config *c = l->config;
	int r;

	c->signature = kubeconfig_signature(path, f->directory); /* before it is read */
	r = kubeconfig_load(path, f->directory, &l->kubeconfig, l->ret_error);
	if (r < 0)
		return r;
	if (in_cluster(l, directory))
		load_in_cluster(c, directory);
	else
		r = load_files(l);
	if (r < 0)
		return r;
	override_cluster(c, f);
	override_user(c, f);
	r = check(l);
	if (r < 0)
		return r;
	drop_credentials(c);
	if (c->exec && c->exec->provide_cluster)
		c->exec->cluster = describe_cluster(l);
	return 0;
}

static const size_t flag_texts[] = {
	offsetof(struct config_flags, kubeconfig),
	offsetof(struct config_flags, context),
	offsetof(struct config_flags, cluster),
	offsetof(struct config_flags, user),
	offsetof(struct config_flags, server),
	offsetof(struct config_flags, token),
	offsetof(struct config_flags, token_file),
	offsetof(struct config_flags, certificate_authority),
	offsetof(struct config_flags, client_certificate),
	offsetof(struct config_flags, client_key),
	offsetof(struct config_flags, tls_server_name),
	offsetof(struct config_flags, as),
	offsetof(struct config_flags, as_uid),
	offsetof(struct config_flags, serviceaccount),
	offsetof(struct config_flags, directory),
};

static char **flag_text(struct config_flags *f, size_t i)
{
	return (char **)((char *)f + flag_texts[i]);
}

static struct config_flags copy_flags(const struct config_flags *flags)
{
	struct config_flags copy = *flags;

	for (size_t i = 0; i < ARRAY_SIZE(flag_texts); i++) {
		char **text = flag_text(&copy, i);

		*text = *text ? xstrdup(*text) : NULL;
	}
	json_incref(copy.as_groups);
	if (!copy.directory)
		copy.directory = getcwd(NULL, 0);
	return copy;
}

static void release_flags(struct config_flags *flags)
{
	for (size_t i = 0; i < ARRAY_SIZE(flag_texts); i++)
		str_wipe(flag_text(flags, i));
	json_decref(flags->as_groups);
}

int config_load(const struct config_flags *flags, struct config **ret, char **ret_error)
{
	struct load l = {.ret_error = ret_error};
	int r;

	l.config = xcalloc(1, sizeof(*l.config));
	l.config->flags = copy_flags(flags);
	l.flags = &l.config->flags;
	r = load(&l);
	kubeconfig_release(&l.kubeconfig);
	if (r < 0)
		config_free(l.config);
	else
		*ret = l.config;
	return r;
}

int config_list(const struct config_flags *flags, bool namespaces, json_t **ret, char **ret_error)
{
	const char *path = given(flags->kubeconfig) ? flags->kubeconfig : NULL, *name;
	_cleanup_json_ json_t *found = json_object();
	struct kubeconfig k;
	json_t *entry;
	int r = kubeconfig_load(path, flags->directory, &k, ret_error);

	if (r < 0)
		return r;
	json_object_foreach((json_t *)kubeconfig_entries(&k, KUBECONFIG_CONTEXT), name, entry) {
		const char *ns = json_str(json_object_get(entry, "fields"), "namespace");

		if (!namespaces || ns)
			json_object_set_new(found, namespaces ? ns : name, json_null());
	}
	kubeconfig_release(&k);
	*ret = json_array();
	json_object_foreach(found, name, entry)
		json_array_append_new(*ret, json_string(name));
	return 0;
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? streq(a, b) : a == b;
}

static bool same_server(const struct config *a, const struct config *b)
{
	return streq(a->server, b->server) && same_text(a->tls_server_name, b->tls_server_name) &&
	       a->insecure_skip_tls_verify == b->insecure_skip_tls_verify &&
	       same_text(a->certificate_authority.file, b->certificate_authority.file) &&
	       same_text(a->certificate_authority.data, b->certificate_authority.data);
}

int config_reload(const struct config *old, struct config **ret, char **ret_error)
{
	struct config_flags flags = old->flags;
	struct config *c;
	int r;

	if (old->context) /* current-context may be another cluster's by now */
		flags.context = old->context;
	r = config_load(&flags, &c, ret_error);
	if (r < 0)
		return r;
	if (!same_server(old, c)) {
		config_free(c);
		return kubeconfig_fail(ret_error, -EXDEV,
			"the kubeconfig names another server, or another way to trust it: only a "
			"new mount will use that");
	}
	*ret = c;
	return 0;
}

bool config_is_outdated(const struct config *c)
{
	const char *path = given(c->flags.kubeconfig) ? c->flags.kubeconfig : NULL;

	return kubeconfig_signature(path, c->flags.directory) != c->signature;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	wipe_user(c);
	wipe_pem(&c->certificate_authority);
	str_wipe(&c->proxy_url);
	free(c->server);
	free(c->context);
	free(c->cluster);
	free(c->user);
	free(c->ns);
	free(c->tls_server_name);
	release_flags(&c->flags);
	free(c);
}
