#include "client/proxy.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h> /* its URLs alone */
#include <errno.h>

struct address {
	int family; /* AF_INET, also where it was written as ::ffff:a.b.c.d, or AF_INET6 */
	unsigned char bytes[sizeof(struct in6_addr)];
};

struct target {
	char *host, *port; /* the host in lower case, without brackets */
	bool is_address;
	struct address address;
};

/* ---- the proxy's URL ---- */

/* libcurl before 7.78 would cut it at the blank. */
static bool has_blank(const char *text)
{
	return strpbrk(text, " \t\r\n") != NULL;
}

static bool parse_proxy(CURLU *parts, const char *text)
{
	return !has_blank(text) &&
	       curl_url_set(parts, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK;
}

static const char *default_port(const char *scheme)
{
	if (str_has_prefix(scheme, "socks5"))
		return "1080";
	return streq(scheme, "https") ? "443" : "80";
}

/* Only who and where: curl takes a path behind a SOCKS proxy for a socket in the filesystem. */
static char *rebuild(CURLU *parts)
{
	char *scheme = NULL, *port = NULL, *url = NULL, *copy = NULL;

	curl_url_set(parts, CURLUPART_PATH, NULL, 0);
	curl_url_set(parts, CURLUPART_QUERY, NULL, 0);
	curl_url_set(parts, CURLUPART_FRAGMENT, NULL, 0);
	if (curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK)
		return NULL;
	if (curl_url_get(parts, CURLUPART_PORT, &port, 0) != CURLUE_OK)
		curl_url_set(parts, CURLUPART_PORT, default_port(scheme), 0);
	if (streq(scheme, "socks5"))
		curl_url_set(parts, CURLUPART_SCHEME, "socks5h", CURLU_NON_SUPPORT_SCHEME);
	if (curl_url_get(parts, CURLUPART_URL, &url, 0) == CURLUE_OK)
		copy = xstrdup(url);
	curl_free(scheme);
	curl_free(port);
	curl_free(url);
	return copy;
}

char *proxy_complete(const char *proxy)
{
	_cleanup_free_ char *prefixed = xasprintf("http://%s", proxy);
	CURLU *parts = curl_url();
	char *url = NULL;

	if (!parts)
		abort(); /* out of memory */
	if (parse_proxy(parts, proxy) || parse_proxy(parts, prefixed))
		url = rebuild(parts);
	curl_url_cleanup(parts);
	explicit_bzero(prefixed, strlen(prefixed));
	return url;
}

/* ---- addresses ---- */

/* What was ::ffff:a.b.c.d is a.b.c.d, as in Go. */
static void unmap(struct address *a)
{
	static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (memcmp(a->bytes, mapped, sizeof(mapped)) != 0)
		return;
	a->family = AF_INET;
	memmove(a->bytes, a->bytes + sizeof(mapped), sizeof(struct in_addr));
}

static bool parse_address(const char *text, struct address *ret)
{
	struct address a = {.family = AF_INET};

	if (inet_pton(AF_INET, text, a.bytes) != 1) {
		a.family = AF_INET6;
		if (inet_pton(AF_INET6, text, a.bytes) != 1)
			return false;
		unmap(&a);
	}
	*ret = a;
	return true;
}

static size_t address_bits(const struct address *a)
{
	return 8 * (a->family == AF_INET ? sizeof(struct in_addr) : sizeof(struct in6_addr));
}

static bool same_prefix(const struct address *a, const struct address *b, size_t bits)
{
	size_t whole = bits / 8;
	unsigned char mask = (unsigned char)(0xff00 >> bits % 8);

	return a->family == b->family && memcmp(a->bytes, b->bytes, whole) == 0 &&
	       (bits % 8 == 0 || ((a->bytes[whole] ^ b->bytes[whole]) & mask) == 0);
}

static bool is_loopback(const struct address *a)
{
	static const struct address ipv4 = {AF_INET, {127}}, ipv6 = {AF_INET6, {[15] = 1}};

	return same_prefix(a, &ipv4, 8) || same_prefix(a, &ipv6, 128);
}

/* True when `text` is ADDRESS/BITS; *ret_inside whether the target is in it. */
static bool match_cidr(const char *text, const struct target *t, bool *ret_inside)
{
	const char *slash = strchr(text, '/');
	_cleanup_free_ char *net = slash ? xstrndup(text, slash - text) : NULL;
	struct address address;
	char *end;
	long bits;

	if (!slash || !isdigit((unsigned char)slash[1]) || !parse_address(net, &address))
		return false;
	bits = strtol(slash + 1, &end, 10);
	if (*end || bits > (long)address_bits(&address))
		return false;
	*ret_inside = t->is_address && same_prefix(&address, &t->address, bits);
	return true;
}

/* ---- NO_PROXY ---- */

/* Go's net.SplitHostPort. False: there is no port, and the text is as it was. */
static bool split_port(char *text, char **ret_host, char **ret_port)
{
	char *colon = strrchr(text, ':'), *close = strchr(text, ']');

	if (!colon)
		return false;
	if (*text == '[') {
		if (!close || close + 1 != colon || strpbrk(close + 1, "[]") ||
			strchr(text + 1, '['))
			return false;
		text++;
		*close = '\0';
	} else if (strchr(text, ':') != colon || strpbrk(text, "[]")) {
		return false;
	}
	*colon = '\0';
	*ret_host = text;
	*ret_port = colon + 1;
	return true;
}

/*
 * "domain" stands for itself and what is below it, ".domain" and "*.domain" for the latter alone.
 */
static bool match_domain(const char *domain, const char *host)
{
	size_t length = strlen(host), n;

	if (str_has_prefix(domain, "*."))
		domain++;
	n = strlen(domain);
	if (*domain != '.' && streq(domain, host))
		return true;
	if (length < n + (*domain != '.') || !streq(host + length - n, domain))
		return false;
	return *domain == '.' || host[length - n - 1] == '.';
}

/* `entry` is trimmed, in lower case and not "*". It is written to. */
static bool match_entry(char *entry, const struct target *t)
{
	char *host = entry, *port = NULL;
	struct address address;
	bool inside;

	if (match_cidr(entry, t, &inside))
		return inside;
	if (split_port(entry, &host, &port) && !*host)
		return false;
	if (port && *port && !streq(port, t->port))
		return false;
	if (parse_address(host, &address))
		return t->is_address && same_prefix(&address, &t->address, address_bits(&address));
	return !t->is_address && match_domain(host, t->host);
}

static char *trim(char *s)
{
	size_t n;

	while (isspace((unsigned char)*s))
		s++;
	n = strlen(s);
	while (n > 0 && isspace((unsigned char)s[n - 1]))
		s[--n] = '\0';
	return s;
}

static void lower(char *s)
{
	for (; *s; s++)
		*s = (char)tolower((unsigned char)*s);
}

static bool is_excepted(const char *list, const struct target *t)
{
	_cleanup_free_ char *copy = xstrdup(list);
	char *rest = copy, *item;
	bool found = false;

	lower(copy);
	while (!found && (item = strsep(&rest, ","))) {
		item = trim(item);
		found = streq(item, "*") || (*item && match_entry(item, t));
	}
	return found;
}

/* ---- the choice ---- */

static const char *value_of(char *const env[], const char *name)
{
	size_t n = strlen(name);

	for (; *env; env++)
		if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
			return *env + n + 1;
	return "";
}

static const char *either_of(char *const env[], const char *name, const char *lower_case)
{
	const char *value = value_of(env, name);

	return *value ? value : value_of(env, lower_case);
}

/* False: `url` is none. */
static bool read_target(const char *url, struct target *ret)
{
	CURLU *parts = curl_url();
	char *host = NULL, *port = NULL;
	bool read;

	if (!parts)
		abort(); /* out of memory */
	read = curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
	       curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
	       curl_url_get(parts, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK;
	if (read) {
		bool bracket = *host == '[';

		ret->host = xstrndup(host + bracket, strcspn(host + bracket, "]"));
		ret->port = xstrdup(port);
		ret->is_address = parse_address(ret->host, &ret->address);
	}
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(parts);
	return read;
}

static bool is_here(const struct target *t)
{
	return streq(t->host, "localhost") || (t->is_address && is_loopback(&t->address));
}

char *proxy_for(const char *url, char *const env[])
{
	bool https = strncasecmp(url, "https://", 8) == 0;
	const char *proxy = https ? either_of(env, "HTTPS_PROXY", "https_proxy")
				  : either_of(env, "HTTP_PROXY", "http_proxy");
	struct target target = {0};
	char *chosen = NULL;

	if (*proxy && read_target(url, &target) && !is_here(&target)) {
		lower(target.host);
		if (!is_excepted(either_of(env, "NO_PROXY", "no_proxy"), &target))
			chosen = proxy_complete(proxy);
	}
	free(target.host);
	free(target.port);
	return chosen ? chosen : xstrdup("");
}
