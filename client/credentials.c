#include "client/credentials.h"

#include "client/keypair.h"
#include "client/kubeconfig.h"

#include <errno.h>

#define FILE_MAX ((size_t)1 << 20)

static char *copy(const char *s)
{
	return s ? xstrdup(s) : NULL;
}

/* What a token file can lack has nothing to do with the system. */
static int read_token(const char *path, char **ret, const char **ret_problem)
{
	char *text, *token;
	size_t len;
	int r = read_file(path, FILE_MAX, &text, &len);

	if (r < 0) {
		*ret_problem = strerror(-r);
		return r;
	}
	token = config_trim(text);
	if (!*token) {
		r = -ENODATA;
		*ret_problem = "it is empty";
	} else if (!config_token_is_valid(token)) {
		r = -EINVAL;
		*ret_problem = "it doesn't hold a token";
	} else {
		*ret = xstrdup(token);
	}
	explicit_bzero(text, len);
	free(text);
	return r;
}

static int take_token(
	struct credentials *c, const struct config *config, bool first, char **ret_error)
{
	const char *problem = NULL;
	int r = config->token_file ? read_token(config->token_file, &c->token, &problem) : 0;

	if (r < 0 && !(first && config->token))
		return kubeconfig_fail(
			ret_error, r, "can't read token file %s: %s", config->token_file, problem);
	if (!c->token)
		c->token = copy(config->token);
	return 0;
}

static int take_pem(const struct config_pem *pem, const char *what, char **ret, char **ret_error)
{
	size_t len;
	int r = 0;

	if (pem->file)
		r = read_file(pem->file, FILE_MAX, ret, &len);
	else
		*ret = copy(pem->data);
	if (r < 0)
		return kubeconfig_fail(
			ret_error, r, "can't read %s %s: %s", what, pem->file, strerror(-r));
	return 0;
}

/* How the user finds it. */
static char *name_pem(const struct config *config, bool of_key)
{
	const struct config_pem *pem = of_key ? &config->client_key : &config->client_certificate;
	const char *field = of_key ? "client-key" : "client-certificate";

	if (pem->file)
		return xasprintf("%s %s", field, pem->file);
	return xasprintf("the %s-data of user \"%s\"", field, config->user ? config->user : "");
}

static int take_keypair(struct credentials *c, const struct config *config, char **ret_error)
{
	_cleanup_free_ char *problem = NULL, *name = NULL;
	bool of_key;
	int r = take_pem(
		&config->client_certificate, "client-certificate", &c->certificate, ret_error);

	if (r == 0)
		r = take_pem(&config->client_key, "client-key", &c->key, ret_error);
	if (r < 0 || !c->certificate || !c->key)
		return r;
	r = keypair_check(c->certificate, c->key, &of_key, &problem);
	if (r == 0)
		return 0;
	name = name_pem(config, of_key);
	return kubeconfig_fail(ret_error, r, "%s %s", name, problem);
}

/* client-go transport/round_trippers.go, headerKeyEscape: all but RFC 7230's token characters. */
static char *escape_key(const char *key)
{
	char *escaped = xmalloc(3 * strlen(key) + 1), *p = escaped;

	for (; *key; key++) {
		bool plain = (*key >= 'a' && *key <= 'z') || (*key >= 'A' && *key <= 'Z') ||
			     (*key >= '0' && *key <= '9') || strchr("!#$&'*+-.^_`|~", *key);

		p += sprintf(p, plain ? "%c" : "%%%02X", (unsigned char)*key);
	}
	*p = '\0';
	return escaped;
}

static void add_header(struct credentials *c, size_t *n, const char *name, const char *value)
{
	c->headers = xrealloc(c->headers, (*n + 2) * sizeof(*c->headers));
	c->headers[(*n)++] = xasprintf("%s: %s", name, value);
	c->headers[*n] = NULL;
}

static void take_impersonation(struct credentials *c, const struct config *config)
{
	const json_t *value;
	const char *key;
	json_t *list;
	size_t i, n = 0;

	c->headers = xcalloc(1, sizeof(*c->headers));
	if (!config->as)
		return;
	add_header(c, &n, "Impersonate-User", config->as);
	if (config->as_uid)
		add_header(c, &n, "Impersonate-Uid", config->as_uid);
	json_array_foreach(config->as_groups, i, value)
		add_header(c, &n, "Impersonate-Group", json_string_value(value));
	json_object_foreach(config->as_extra, key, list) {
		_cleanup_free_ char *escaped = escape_key(key);
		_cleanup_free_ char *name = xasprintf("Impersonate-Extra-%s", escaped);

		json_array_foreach(list, i, value)
			add_header(c, &n, name, json_string_value(value));
	}
}

static const char *kind_of(const struct config *config)
{
	if (config->exec)
		return "exec";
	if (config->token_file)
		return "tokenFile";
	if (config->token)
		return "token";
	if (config->username)
		return "basic";
	return config->client_certificate.file || config->client_certificate.data
		       ? "client-certificate"
		       : "none";
}

int credentials_new(const struct config *config, const struct exec_answer *answer, bool first,
	struct credentials **ret, char **ret_error)
{
	struct credentials *c = xcalloc(1, sizeof(*c));
	int r;

	c->refs = 1;
	c->kind = kind_of(config);
	c->username = copy(config->username);
	c->password = copy(config->password);
	take_impersonation(c, config);
	r = take_token(c, config, first, ret_error);
	if (r == 0)
		r = take_keypair(c, config, ret_error);
	if (r < 0) {
		credentials_unref(c);
		return r;
	}
	if (answer) {
		c->token = copy(answer->token);
		c->certificate = copy(answer->certificate);
		c->key = copy(answer->key);
	}
	*ret = c;
	return 0;
}

struct credentials *credentials_ref(struct credentials *c)
{
	atomic_fetch_add(&c->refs, 1);
	return c;
}

void credentials_unref(struct credentials *c)
{
	if (!c || atomic_fetch_sub(&c->refs, 1) > 1)
		return;
	str_wipe(&c->token);
	str_wipe(&c->username);
	str_wipe(&c->password);
	str_wipe(&c->certificate);
	str_wipe(&c->key);
	for (char **h = c->headers; *h; h++)
		free(*h);
	free(c->headers);
	free(c);
}

static bool same(const char *a, const char *b)
{
	return a && b ? streq(a, b) : a == b;
}

static bool same_headers(char **a, char **b)
{
	for (; *a && *b; a++, b++)
		if (!streq(*a, *b))
			return false;
	return *a == *b;
}

bool credentials_equal(const struct credentials *a, const struct credentials *b)
{
	return streq(a->kind, b->kind) && same(a->token, b->token) &&
	       same(a->username, b->username) && same(a->password, b->password) &&
	       same(a->certificate, b->certificate) && same(a->key, b->key) &&
	       same_headers(a->headers, b->headers);
}
