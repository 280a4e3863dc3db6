#include "client/http.h"

#include "client/clock.h"
#include "client/descriptors.h"
#include "client/log.h"
#include "client/proxy.h"
#include "have.h"
#include "version.h"

#include <curl/curl.h>
#include <errno.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define CONNECT_TIMEOUT_MS 10000
#define CHECK_INTERVAL_MS  100
#define NEEDED		   4 /* descriptors to look up a name: a pair, the resolver's own */

struct http {
	struct login *login;
	const struct config *config;
	struct counts *counts;
	char *proxy; /* "": none */
	CURLM *multi;
	struct http_transfer *transfers;
};

struct http_transfer {
	struct http *http;
	struct http_transfer *next;
	struct credentials *credentials;
	CURL *easy;
	struct curl_slist *headers, *connect_to;
	SSL_CTX *tls; /* of the connection that was made for it, with the server's alert; or NULL */
	http_data_fn *data;
	http_done_fn *done;
	void *arg;
	char verb[16]; /* for the counts; "": it is counted */
	int64_t began;
	int64_t deadline;	    /* monotonic ns, 0: none */
	int64_t silence, last_byte; /* ns, 0: no limit */
	int data_error;
	int socket_error; /* no socket could be made: a positive errno */
	size_t header_bytes;
	bool secret, unready;
	char curl_error[CURL_ERROR_SIZE];
};

/*
 * Under TLS 1.3 the server looks at our certificate when for us the connection stands already: its
 * alert comes when we read, and curl's error may be about what failed after it. So we take it from
 * OpenSSL.
 */
static int alert_index; /* of SSL_CTX: the alert's number */

int http_global_init(void)
{
	alert_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	if (alert_index < 0)
		return -ENOMEM;
	return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? 0 : -ENOMEM;
}

void http_global_cleanup(void)
{
	curl_global_cleanup();
}

/*
 * The kubeconfig's, else what the environment says. Curl's own rules differ from client-go's.
 */
static char *choose_proxy(const struct config *c)
{
	return c->proxy_url ? proxy_complete(c->proxy_url) : proxy_for(c->server, environ);
}

struct http *http_new(struct login *login, struct counts *counts)
{
	struct http *h = xcalloc(1, sizeof(*h));

	h->login = login;
	h->config = login_config(login);
	h->counts = counts;
	h->multi = curl_multi_init();
	if (!h->multi) {
		free(h);
		return NULL;
	}
	h->proxy = choose_proxy(h->config);
	return h;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	while (h->transfers)
		http_abort(h->transfers);
	curl_multi_cleanup(h->multi);
	explicit_bzero(h->proxy, strlen(h->proxy));
	free(h->proxy);
	free(h);
}

static void count(struct http_transfer *t, long code)
{
	if (t->verb[0])
		counts_add(t->http->counts, t->verb, code, now_monotonic() - t->began);
	t->verb[0] = '\0';
}

static int hand_over(struct http_transfer *t, const char *p, size_t n)
{
	long code = 0;

	t->last_byte = now_monotonic();
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &code);
	if (streq(t->verb, "WATCH"))
		count(t, code);
	t->data_error = t->data(t->arg, code, p, n);
	return t->data_error;
}

static size_t on_data(char *p, size_t size, size_t n, void *arg)
{
	struct http_transfer *t = arg;
	int r = hand_over(t, p, size * n);

	if (t->secret)
		explicit_bzero(p, size * n); /* in curl's own buffer */
	return r < 0 ? 0 : size * n;
}

/* A kube-apiserver that knows no flow schema yet sends this header empty. */
static bool is_unready(const char *line, size_t len)
{
	static const char name[] = "X-Kubernetes-Pf-Flowschema-Uid:";
	size_t n = sizeof(name) - 1;

	if (len < n || strncasecmp(line, name, n) != 0)
		return false;
	while (n < len && (line[n] == ' ' || line[n] == '\r' || line[n] == '\n'))
		n++;
	return n == len;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
	bool end = size * n == 2 && p[0] == '\r';
	struct http_transfer *t = arg;
	long code = 0;

	t->unready = t->unready || is_unready(p, size * n);
	t->header_bytes += size * n;
	if (t->header_bytes > HTTP_HEADER_MAX) {
		t->data_error = -EIO;
		return 0;
	}
	if (!end)
		return size * n;
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &code);
	login_answered(t->http->login, t->credentials, code);
	if (!t->secret)
		curl_easy_setopt(t->easy, CURLOPT_FORBID_REUSE, 0L);
	return hand_over(t, "", 0) < 0 ? 0 : size * n;
}

/* curl doesn't tell why it has no socket; and none of ours is for the programs that we start. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct http_transfer *t = arg;
	int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);

	if (fd < 0)
		t->socket_error = errno;
	return fd < 0 ? CURL_SOCKET_BAD : fd;
}

/* ---- a client certificate that is refused ---- */

static void on_tls_event(const SSL *ssl, int where, int value)
{
	if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT)
		SSL_CTX_set_ex_data(
			SSL_get_SSL_CTX(ssl), alert_index, (void *)(intptr_t)(value & 0xff));
}

#if HAVE_CURL_CAINFO_BLOB
static CURLcode trust_authority(struct http_transfer *t)
{
	return CURLE_OK; /* set_tls gave it to curl */
}
#else
/* In curl's place. A proxy of https is held to it, too, as it is by client-go. */
static CURLcode trust_authority(struct http_transfer *t)
{
	const char *pem = t->http->config->certificate_authority.data;
	X509_STORE *store = SSL_CTX_get_cert_store(t->tls);
	STACK_OF(X509_INFO) *all = NULL;
	BIO *text = pem ? BIO_new_mem_buf(pem, -1) : NULL;
	int trusted = 0;

	if (!pem)
		return CURLE_OK;
	if (text)
		all = PEM_X509_INFO_read_bio(text, NULL, NULL, NULL);
	for (int i = 0; i < sk_X509_INFO_num(all); i++) {
		const X509_INFO *info = sk_X509_INFO_value(all, i);

		if (info->x509 && X509_STORE_add_cert(store, info->x509))
			trusted++;
		if (info->crl)
			X509_STORE_add_crl(store, info->crl);
	}
	sk_X509_INFO_pop_free(all, X509_INFO_free);
	BIO_free(text);
	if (trusted)
		return CURLE_OK;
	snprintf(t->curl_error, sizeof(t->curl_error),
		"the certificate authority's data holds no certificate");
	return CURLE_SSL_CACERT_BADFILE;
}
#endif

/*
 * Curl makes one for each connection. Until there is an answer that connection isn't kept: when
 * curl closes it, it reads what is left, and where our request couldn't be sent any more that is
 * the alert.
 */
static CURLcode on_tls_context(CURL *easy, void *context, void *arg)
{
	struct http_transfer *t = arg;

	SSL_CTX_free(t->tls);
	t->tls = context;
	SSL_CTX_up_ref(t->tls);
	SSL_CTX_set_info_callback(t->tls, on_tls_event);
	curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
	return trust_authority(t);
}

/* What the server says of our certificate, or that it wants one; NULL: nothing. */
static const char *certificate_refusal(const struct http_transfer *t)
{
	static const int about_it[] = {SSL_AD_BAD_CERTIFICATE, SSL_AD_UNSUPPORTED_CERTIFICATE,
		SSL_AD_CERTIFICATE_REVOKED, SSL_AD_CERTIFICATE_EXPIRED, SSL_AD_CERTIFICATE_UNKNOWN,
		SSL_AD_UNKNOWN_CA, SSL_AD_ACCESS_DENIED, TLS13_AD_CERTIFICATE_REQUIRED};
	const void *kept = t->tls ? SSL_CTX_get_ex_data(t->tls, alert_index) : NULL;
	int alert = (int)(intptr_t)kept;

	for (size_t i = 0; i < ARRAY_SIZE(about_it); i++)
		if (alert == about_it[i])
			return SSL_alert_desc_string_long(alert);
	return NULL;
}

static void set_blob(CURL *easy, CURLoption option, const char *pem)
{
	struct curl_blob blob = {(void *)pem, strlen(pem), CURL_BLOB_NOCOPY};

	curl_easy_setopt(easy, option, &blob);
}

static void set_tls(CURL *easy, const struct config *c, const struct credentials *credentials)
{
	if (c->insecure_skip_tls_verify) {
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	}
	if (c->certificate_authority.data || c->certificate_authority.file) {
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
		curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
		if (!c->certificate_authority.data)
			curl_easy_setopt(easy, CURLOPT_CAINFO, c->certificate_authority.file);
#if HAVE_CURL_CAINFO_BLOB
		else
			set_blob(easy, CURLOPT_CAINFO_BLOB, c->certificate_authority.data);
#endif
	}
	if (credentials->certificate) {
		set_blob(easy, CURLOPT_SSLCERT_BLOB, credentials->certificate);
		set_blob(easy, CURLOPT_SSLKEY_BLOB, credentials->key);
	}
}

static void set_protocols(CURL *easy)
{
#if HAVE_CURL_PROTOCOLS_STR
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https,http");
#else
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTPS | CURLPROTO_HTTP));
#endif
}

/* "" is none, whatever the environment says. */
static void set_proxy(CURL *easy, const char *proxy)
{
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(easy, CURLOPT_PROXY, proxy);
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
}

static void add_line(struct http_transfer *t, const char *line)
{
	struct curl_slist *list = curl_slist_append(t->headers, line);

	if (list)
		t->headers = list;
}

static void add_header(struct http_transfer *t, const char *name, const char *value)
{
	_cleanup_free_ char *line = xasprintf("%s: %s", name, value);

	add_line(t, line);
	explicit_bzero(line, strlen(line));
}

/* Only over https: over http a configuration has none (config.h). */
static void set_credentials(struct http_transfer *t)
{
	const struct credentials *c = t->credentials;

	if (c->token) {
		_cleanup_free_ char *value = xasprintf("Bearer %s", c->token);

		add_header(t, "Authorization", value);
		explicit_bzero(value, strlen(value));
	} else if (c->username) {
		curl_easy_setopt(t->easy, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
		curl_easy_setopt(t->easy, CURLOPT_USERNAME, c->username);
		curl_easy_setopt(t->easy, CURLOPT_PASSWORD, c->password);
	}
	for (char **line = c->headers; *line; line++)
		add_line(t, *line);
}

/* The name is for TLS alone: what stands before the server goes by the URL's host. */
static void set_host(struct http_transfer *t, const char *url)
{
	const char *host = strstr(url, "://") + 3;
	_cleanup_free_ char *value = xstrndup(host, strcspn(host, "/?"));

	add_header(t, "Host", value);
}

/*
 * The certificate is to be for another name than the URL's: ask that name, but connect to the
 * URL's host. Returns the URL to ask.
 */
static char *set_server_name(struct http_transfer *t, const char *url, const char *name)
{
	CURLU *parts = curl_url();
	char *host = NULL, *port = NULL, *changed = NULL, *copy = NULL;

	if (curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
		curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
		curl_url_get(parts, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
		curl_url_set(parts, CURLUPART_HOST, name, 0) == CURLUE_OK &&
		curl_url_get(parts, CURLUPART_URL, &changed, 0) == CURLUE_OK) {
		_cleanup_free_ char *target = xasprintf("::%s:%s", host, port);

		t->connect_to = curl_slist_append(NULL, target);
		curl_easy_setopt(t->easy, CURLOPT_CONNECT_TO, t->connect_to);
		copy = xstrdup(changed);
		set_host(t, url);
	}
	curl_free(host);
	curl_free(port);
	curl_free(changed);
	curl_url_cleanup(parts);
	return copy ? copy : xstrdup(url);
}

static void set_request(struct http_transfer *t, const struct http_request *r)
{
	_cleanup_free_ char *url = xasprintf("%s%s", t->http->config->server, r->path);
	const char *name = t->http->config->tls_server_name;

	if (name) {
		char *plain = url;

		url = set_server_name(t, plain, name);
		free(plain);
	}
	curl_easy_setopt(t->easy, CURLOPT_URL, url);
	curl_easy_setopt(t->easy, CURLOPT_PATH_AS_IS, 1L);
	if (r->body) {
		curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, r->body);
		curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
		add_header(t, "Content-Type", r->content_type);
		add_header(t, "Expect", "");
	}
	if (r->method)
		curl_easy_setopt(t->easy, CURLOPT_CUSTOMREQUEST, r->method);
	if (r->once || r->secret)
		curl_easy_setopt(t->easy, CURLOPT_FRESH_CONNECT, 1L);
	if (r->secret) { /* no copies in what unpacks, nor in a connection that stays */
		curl_easy_setopt(t->easy, CURLOPT_FORBID_REUSE, 1L);
		curl_easy_setopt(t->easy, CURLOPT_ACCEPT_ENCODING, NULL);
	}
	add_header(t, "Accept", r->accept ? r->accept : "application/json");
}

struct http_transfer *http_start(struct http *h, const struct http_request *request,
	http_data_fn *data, http_done_fn *done, void *arg)
{
	struct http_transfer *t = xcalloc(1, sizeof(*t));

	t->http = h;
	t->data = data;
	t->done = done;
	t->arg = arg;
	t->credentials = login_credentials(h->login);
	t->easy = curl_easy_init();
	if (!t->easy)
		abort(); /* only memory can be missing here */
	t->began = t->last_byte = now_monotonic();
	t->secret = request->secret;
	snprintf(t->verb, sizeof(t->verb), "%s",
		strstr(request->path, "watch=true") ? "WATCH"
		: request->method		    ? request->method
						    : "GET");
	t->silence = request->silence_ms * NSEC_PER_MSEC;
	if (request->timeout_ms)
		t->deadline = t->last_byte + request->timeout_ms * NSEC_PER_MSEC;
	curl_easy_setopt(t->easy, CURLOPT_ERRORBUFFER, t->curl_error);
	curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
	curl_easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
#if HAVE_CURL_QUICK_EXIT /* else the end waits for a resolver that hangs */
	curl_easy_setopt(t->easy, CURLOPT_QUICK_EXIT, 1L);
#endif
	set_protocols(t->easy);
	curl_easy_setopt(t->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	if (!h->config->disable_compression)
		curl_easy_setopt(t->easy, CURLOPT_ACCEPT_ENCODING, "gzip");
	curl_easy_setopt(t->easy, CURLOPT_USERAGENT, "imagestreamfs/" IMAGESTREAMFS_VERSION);
	curl_easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
	curl_easy_setopt(t->easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(t->easy, CURLOPT_TCP_KEEPIDLE, 30L);
	curl_easy_setopt(t->easy, CURLOPT_TCP_KEEPINTVL, 10L);
	if (request->silence_ms) /* a list or a watch; not 256 KiB for each small answer */
		curl_easy_setopt(t->easy, CURLOPT_BUFFERSIZE, 256L * 1024);
	curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(t->easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(t->easy, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(t->easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_easy_setopt(t->easy, CURLOPT_OPENSOCKETDATA, t);
	set_tls(t->easy, h->config, t->credentials);
	curl_easy_setopt(t->easy, CURLOPT_SSL_CTX_FUNCTION, on_tls_context);
	curl_easy_setopt(t->easy, CURLOPT_SSL_CTX_DATA, t);
	set_proxy(t->easy, h->proxy);
	set_request(t, request);
	set_credentials(t);
	curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
	t->next = h->transfers;
	h->transfers = t;
	curl_multi_add_handle(h->multi, t->easy);
	return t;
}

void http_abort(struct http_transfer *t)
{
	struct http_transfer **p = &t->http->transfers;

	while (*p != t)
		p = &(*p)->next;
	*p = t->next;
	curl_multi_remove_handle(t->http->multi, t->easy);
	curl_easy_cleanup(t->easy);
	if (t->credentials->token) /* curl has a copy of each header, and doesn't wipe it */
		for (struct curl_slist *line = t->headers; line; line = line->next)
			explicit_bzero(line->data, strlen(line->data));
	curl_slist_free_all(t->headers);
	curl_slist_free_all(t->connect_to);
	SSL_CTX_free(t->tls);
	credentials_unref(t->credentials);
	free(t);
}

/* ---- what is short here ---- */

static void *do_nothing(void *arg)
{
	return arg;
}

/* Whether there are descriptors and a thread, now: 0 or -errno. */
static int look_for_shortage(void)
{
	int fds[NEEDED], n = 0, r = 0;
	pthread_t thread;

	while (r == 0 && n < NEEDED) {
		fds[n] = eventfd(0, EFD_CLOEXEC);
		if (fds[n] < 0)
			r = -errno;
		else
			n++;
	}
	while (n > 0)
		close(fds[--n]);
	if (r == 0)
		r = -pthread_create(&thread, NULL, do_nothing, NULL);
	if (r == 0)
		pthread_join(thread, NULL);
	return r;
}

/*
 * What is short on this machine, if that is why the transfer failed: -EMFILE, -ENOMEM, -EAGAIN (no
 * thread); else 0. A resolver and a TLS library say of a descriptor that they lacked only that they
 * couldn't do their part.
 */
static int shortage(const struct http_transfer *t, CURLcode code)
{
	int error = t->socket_error;

	switch (code) {
	case CURLE_OUT_OF_MEMORY: /* or, once it has begun, a header too long for curl */
		return t->header_bytes ? 0 : -ENOMEM;
	case CURLE_COULDNT_CONNECT:
		break;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_FAILED_INIT:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CONNECT_ERROR:
		error = -look_for_shortage();
		break;
	default:
		return 0;
	}
	switch (error) {
	case EMFILE:
	case ENFILE:
		return -EMFILE;
	case ENOMEM:
	case ENOBUFS:
		return -ENOMEM;
	default:
		return error == EAGAIN ? -EAGAIN : 0;
	}
}

static char *shortage_text(int error)
{
	if (error == -EMFILE)
		return xasprintf("no file descriptor is left on this machine for a connection "
				 "(this program may have %zu)",
			descriptors_limit());
	return xasprintf("no %s is left on this machine for a connection",
		error == -ENOMEM ? "memory" : "thread");
}

static int curl_errno(const struct http_transfer *t, CURLcode code)
{
	long os_errno = 0, proxy_code = 0;

	curl_easy_getinfo(t->easy, CURLINFO_HTTP_CONNECTCODE, &proxy_code);
	if (code == CURLE_RECV_ERROR && proxy_code >= 300)
		return -ECONNREFUSED; /* the proxy's word: nothing went through */
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return -EHOSTUNREACH;
	case CURLE_COULDNT_CONNECT:
		curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &os_errno);
		if (os_errno == EHOSTUNREACH || os_errno == ENETUNREACH)
			return -EHOSTUNREACH;
		return os_errno == ETIMEDOUT ? -ETIMEDOUT : -ECONNREFUSED;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_PROXY:
		return -ECONNREFUSED;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
	case CURLE_SSL_CIPHER:
	case CURLE_USE_SSL_FAILED:
		return -EPROTO;
	case CURLE_WRITE_ERROR:
		return t->data_error < 0 ? t->data_error : -EIO;
	default:
		return -ECONNRESET;
	}
}

static void finish_with(struct http_transfer *t, struct http_result *result)
{
	result->generation = t->credentials->generation;
	count(t, result->error < 0 ? 0 : result->code);
	t->done(t->arg, result);
	http_abort(t);
}

/* `message`, with an error: one sentence, taken over. */
static void finish(struct http_transfer *t, int error, char *message)
{
	struct http_result result = {.error = error, .message = message};
	curl_off_t retry_after = 0;

	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &result.code);
	curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &retry_after);
	result.retry_after = retry_after < RETRY_AFTER_MAX ? retry_after : RETRY_AFTER_MAX;
	result.unready = t->unready;
	finish_with(t, &result);
	free(message);
}

/* As a 401 with a Status: whoever asked does what is to be done where credentials are refused. */
static void finish_refused(struct http_transfer *t, const char *alert)
{
	struct http_result result = {.code = 401};
	_cleanup_free_ char *why = xasprintf("the server %s the client certificate: %s",
		t->credentials->certificate ? "refuses" : "asks for", alert);
	_cleanup_json_ json_t *status = json_pack("{s:s, s:s, s:s, s:s, s:i}", "kind", "Status",
		"status", "Failure", "message", why, "reason", "Unauthorized", "code", 401);
	_cleanup_free_ char *body = json_dumps(status, JSON_COMPACT);

	login_answered(t->http->login, t->credentials, 401);
	t->data_error = t->data(t->arg, 401, "", 0);
	if (t->data_error == 0)
		t->data_error = t->data(t->arg, 401, body, strlen(body));
	result.error = t->data_error;
	finish_with(t, &result);
}

static char *server_text(const struct http_transfer *t, const char *why)
{
	return xasprintf("%s: %s", t->http->config->server, why);
}

static void finish_curl(struct http_transfer *t, CURLcode code)
{
	const char *why = t->curl_error[0] ? t->curl_error : curl_easy_strerror(code);
	const char *refusal = code == CURLE_OK ? NULL : certificate_refusal(t);
	int error = curl_errno(t, code), here = shortage(t, code);
	_cleanup_free_ char *tls = NULL;

	if (here < 0) {
		finish(t, here, shortage_text(here));
		return;
	}
	if (refusal) {
		finish_refused(t, refusal);
		return;
	}
	/* OpenSSL's own words alone don't tell anybody that a certificate was refused. */
	if (code == CURLE_OUT_OF_MEMORY)
		why = "a header of the answer is too long";
	if (t->header_bytes > HTTP_HEADER_MAX)
		why = "the answer's headers are larger than 1 MiB";
	if (error == -EPROTO) {
		if (t->credentials->certificate) /* perhaps it is ours */
			login_answered(t->http->login, t->credentials, 401);
		tls = xasprintf("the TLS connection or certificate is refused: %s", why);
		why = tls;
	}
	finish(t, error, error < 0 ? server_text(t, why) : NULL);
}

/* When the transfer is out of time, and why. */
static int64_t transfer_limit(const struct http_transfer *t)
{
	int64_t silent = t->silence ? t->last_byte + t->silence : INT64_MAX;
	int64_t whole = t->deadline ? t->deadline : INT64_MAX;

	return silent < whole ? silent : whole;
}

/* The first that is out of time, or NULL. */
static struct http_transfer *find_late(const struct http *h, int64_t now)
{
	struct http_transfer *t = h->transfers;

	while (t && transfer_limit(t) > now)
		t = t->next;
	return t;
}

/* From the front each time: callbacks may start and abort transfers. */
static void finish_late(struct http *h)
{
	int64_t now = now_monotonic();
	struct http_transfer *t;

	while ((t = find_late(h, now)))
		finish(t, -ETIMEDOUT, server_text(t, "no answer within the deadline"));
}

static int64_t next_limit_ms(const struct http *h, int64_t wait_ms)
{
	int64_t first = INT64_MAX, left;

	for (const struct http_transfer *t = h->transfers; t; t = t->next) {
		/* What has ended is off the list. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		int64_t limit = transfer_limit(t);

		if (limit < first)
			first = limit;
	}
	left = ms_until(first);
	return left < wait_ms ? left : wait_ms;
}

void http_run(struct http *h, int64_t wait_ms)
{
	int running, left;
	CURLMsg *message;

	curl_multi_perform(h->multi, &running);
	while ((message = curl_multi_info_read(h->multi, &left))) {
		CURLcode code = message->data.result;
		struct http_transfer *t;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &t);
		finish_curl(t, code);
		wait_ms = 0; /* the caller may have something to do now */
	}
	finish_late(h);
	wait_ms = next_limit_ms(h, wait_ms);
	if (wait_ms > 0)
		curl_multi_poll(h->multi, NULL, 0, wait_ms > 1000000 ? 1000000 : wait_ms, NULL);
}

void http_wakeup(struct http *h)
{
	curl_multi_wakeup(h->multi);
}

struct call {
	struct http_response *response;
	bool excess; /* the answer is over its maximum */
	bool done;
	int error;
	char *message;
};

static int call_data(void *arg, long code, const char *data, size_t len)
{
	struct call *c = arg;

	c->excess = buf_add(&c->response->body, data, len) < 0;
	return c->excess ? -EIO : 0;
}

static void call_done(void *arg, const struct http_result *result)
{
	struct call *c = arg;

	c->done = true;
	c->error = result->error;
	if (c->excess)
		c->message =
			xasprintf("the answer is larger than %zu MiB", c->response->body.max >> 20);
	else
		c->message = result->message ? xstrdup(result->message) : NULL;
	c->response->code = result->code;
	c->response->retry_after = result->retry_after;
	c->response->unready = result->unready;
	c->response->generation = result->generation;
}

int http_call(struct http *h, const struct http_request *request, const struct http_check *check,
	struct http_response *ret, char **ret_error)
{
	struct http_response response = {
		.body = {.max = request->answer_max ? request->answer_max : HTTP_ANSWER_MAX,
			.secret = request->secret}};
	struct call call = {.response = &response};
	struct http_transfer *t = http_start(h, request, call_data, call_done, &call);
	int r = 0;

	while (!call.done) {
		r = check ? check->fn(check->arg) : 0;
		if (r < 0) {
			http_abort(t);
			call.message = xasprintf("cancelled: %s", strerror(-r));
			break;
		}
		http_run(h, CHECK_INTERVAL_MS);
	}
	if (r == 0)
		r = call.error;
	log_debug("%s %s: %ld%s%s", request->method ? request->method : "GET", request->path,
		response.code, call.message ? " " : "", call.message ? call.message : "");
	if (r < 0) {
		buf_release(&response.body);
		if (ret_error)
			*ret_error = steal_ptr(call.message);
		free(call.message);
		return r;
	}
	free(call.message);
	*ret = response;
	return 0;
}

void http_response_release(struct http_response *r)
{
	buf_release(&r->body);
}
