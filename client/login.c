#include "client/login.h"

#include "client/clock.h"
#include "client/kubeconfig.h"
#include "client/log.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>

#define FILES_AGE	(50 * NSEC_PER_SEC)
#define REFUSED_AGE	NSEC_PER_SEC /* also of files that weren't whole */
#define EXPIRY_EARLY	(10 * NSEC_PER_SEC)
#define EXPIRED_AGAIN	(5 * NSEC_PER_SEC)  /* a plugin whose answers have expired already */
#define FRUITLESS_AGAIN (2 * NSEC_PER_SEC)  /* one whose last answer changed nothing */
#define CLOCK_CHECK	(60 * NSEC_PER_SEC) /* the clock may be set, the machine may sleep */
#define RETRY_MAX	(60 * NSEC_PER_SEC)

struct login {
	const struct config *config;
	int64_t plugin_timeout_ms;
	login_changed_fn *changed_fn;
	void *arg;
	int cancel_fd; /* readable: stop */
	pthread_t thread;

	/* Of who renews: login_new, then the thread. */
	struct config *reread; /* what the kubeconfig says by now; NULL: what it said at first */
	struct exec_answer answer;
	bool answered, fruitless;
	bool unusable; /* what the files and the plugin said last */
	int64_t read;  /* monotonic ns: the last renewal */
	int64_t ran;   /* realtime ns: the plugin; 0: never */
	int64_t retry, backoff;

	pthread_mutex_t lock; /* a leaf, of all that follows */
	pthread_cond_t changed;
	struct credentials *current; /* NULL: none yet */
	bool started;		     /* and not stopped */
	bool asked, stop;
	unsigned begun, ended; /* renewals */
	int64_t renewed;       /* realtime ns: when `current` came */
	int64_t expires;       /* likewise; 0: not known */
	char *error, *stderr_text;
};

static const struct config *source(const struct login *l)
{
	return l->reread ? l->reread : l->config;
}

/* ---- one renewal ---- */

static bool is_refused(struct login *l)
{
	bool refused;

	pthread_mutex_lock(&l->lock);
	refused = l->current && atomic_load(&l->current->refused);
	pthread_mutex_unlock(&l->lock);
	return refused;
}

/* The kubeconfig, once it was written. True when there is something new in it. */
static bool reread(struct login *l, char **ret_error)
{
	struct config *config;

	if (!config_is_outdated(source(l)) || config_reload(l->config, &config, ret_error) < 0)
		return false;
	config_free(l->reread);
	l->reread = config;
	exec_answer_release(&l->answer);
	l->answered = false;
	l->backoff = 0;
	return true;
}

/* When the plugin's answer has to be replaced, in realtime ns. */
static int64_t answer_due(const struct login *l)
{
	int64_t expires = l->answer.expires;

	if (!expires)
		return INT64_MAX;
	if (l->ran < expires - EXPIRY_EARLY)
		return expires - EXPIRY_EARLY;
	return l->ran < expires ? expires : l->ran + EXPIRED_AGAIN;
}

static bool plugin_is_due(const struct login *l, bool asked)
{
	int64_t now = now_realtime();

	if (!source(l)->exec)
		return false;
	if (asked && (!l->fruitless || now - l->ran >= FRUITLESS_AGAIN || now < l->ran))
		return true;
	if (l->backoff)
		return now_monotonic() >= l->retry;
	return !l->answered || now >= answer_due(l);
}

static int run_plugin(struct login *l, char **ret_error)
{
	_cleanup_free_ char *text = NULL;
	struct exec_answer answer;
	int r = exec_run(
		source(l)->exec, l->plugin_timeout_ms, l->cancel_fd, &answer, &text, ret_error);

	l->ran = now_realtime();
	pthread_mutex_lock(&l->lock);
	free(l->stderr_text);
	l->stderr_text = steal_ptr(text);
	pthread_mutex_unlock(&l->lock);
	if (r < 0) {
		l->fruitless = true;
		l->backoff = l->backoff ? l->backoff * 2 : NSEC_PER_SEC;
		if (l->backoff > RETRY_MAX)
			l->backoff = RETRY_MAX;
		l->retry = now_monotonic() + l->backoff;
		return r;
	}
	exec_answer_release(&l->answer);
	l->answer = answer;
	l->answered = true;
	l->backoff = 0;
	return 0;
}

/* True when the new credentials differ from those in use; they are used from now on. */
static bool take(struct login *l, struct credentials *made)
{
	struct credentials *old = made;

	pthread_mutex_lock(&l->lock);
	l->expires = l->answered ? l->answer.expires : 0;
	if (!l->current || !credentials_equal(l->current, made)) {
		made->generation = l->current ? l->current->generation + 1 : 1;
		old = l->current;
		l->current = made;
		l->renewed = now_realtime();
		l->asked = false; /* that was about the old ones */
	}
	pthread_mutex_unlock(&l->lock);
	credentials_unref(old);
	return old != made;
}

/* Takes `error` over; NULL: all went well. */
static void set_error(struct login *l, char *error)
{
	bool news;

	pthread_mutex_lock(&l->lock);
	news = error && !(l->error && streq(l->error, error));
	free(l->error);
	l->error = error ? xstrdup(error) : NULL;
	pthread_mutex_unlock(&l->lock);
	if (news)
		log_error("%s; the old credentials are kept", error);
	free(error);
}

/* 1: there are other credentials; 0: the same; or why not, in the first sentence that says so. */
static int renew(struct login *l, bool asked, char **ret_error)
{
	struct credentials *made;
	bool news = false, ran = false;
	char *late = NULL;
	int r = 0;

	if (asked || is_refused(l))
		news = reread(l, ret_error);
	if (news || plugin_is_due(l, asked)) {
		ran = source(l)->exec;
		r = ran ? run_plugin(l, *ret_error ? &late : ret_error) : 0;
	}
	if (source(l)->exec && !ran && l->backoff)
		r = -EAGAIN; /* it failed, and isn't due again */
	if (r == 0) {
		r = credentials_new(source(l), l->answered ? &l->answer : NULL, !l->current, &made,
			*ret_error ? &late : ret_error);
		l->unusable = r < 0;
	}
	free(late);
	l->read = now_monotonic();
	if (r < 0)
		return r;
	r = take(l, made);
	if (ran)
		l->fruitless = r == 0;
	return r;
}

static const char *last_line(char *text)
{
	char *line;

	while ((line = strrchr(text, '\n')) && !line[1])
		*line = '\0';
	return line ? line + 1 : text;
}

static int first_credentials(struct login *l, char **ret_error)
{
	_cleanup_free_ char *error = NULL;
	int r = renew(l, false, &error);
	const char *said = r < 0 && l->stderr_text ? last_line(l->stderr_text) : "";

	if (r > 0)
		return 0;
	return kubeconfig_fail(ret_error, r, "%s%s%s", error, *said ? ": " : "", said);
}

/* ---- the thread ---- */

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* When there is something to do even where nobody asks, as now_monotonic. */
static int64_t next_renewal(struct login *l)
{
	const struct config *c = source(l);
	int64_t now = now_monotonic(), next = INT64_MAX;

	if (c->token_file || c->client_certificate.file || c->client_key.file)
		next = l->read + FILES_AGE;
	if (c->exec && l->backoff)
		next = earlier(next, l->retry);
	else if (c->exec && l->answered && l->answer.expires)
		next = earlier(next, now + earlier(answer_due(l) - now_realtime(), CLOCK_CHECK));
	if (is_refused(l) || l->unusable)
		next = earlier(next, l->read + REFUSED_AGE);
	return next;
}

/* True when a renewal begins; *ret_asked whether a process asked for it. */
static bool wait_for_work(struct login *l, bool *ret_asked)
{
	int64_t next = next_renewal(l);
	bool go;

	pthread_mutex_lock(&l->lock);
	while (!l->stop && !l->asked && now_monotonic() < next)
		cond_wait_until(&l->changed, &l->lock, next);
	go = !l->stop;
	*ret_asked = l->asked;
	l->asked = false;
	l->begun++;
	pthread_mutex_unlock(&l->lock);
	return go;
}

static void *run(void *arg)
{
	struct login *l = arg;
	bool asked;

	while (wait_for_work(l, &asked)) {
		char *error = NULL;
		int r = renew(l, asked, &error);

		if (r != -EAGAIN && r != -ECANCELED)
			set_error(l, steal_ptr(error));
		free(error);
		pthread_mutex_lock(&l->lock);
		l->ended = l->begun;
		pthread_cond_broadcast(&l->changed);
		pthread_mutex_unlock(&l->lock);
		if (r > 0) {
			log_notice("credentials were renewed");
			l->changed_fn(l->arg);
		}
	}
	return NULL;
}

int login_new(const struct config *config, int64_t plugin_timeout_ms, struct login **ret,
	char **ret_error)
{
	struct login *l = xcalloc(1, sizeof(*l));
	int r;

	l->config = config;
	l->plugin_timeout_ms = plugin_timeout_ms;
	l->cancel_fd = eventfd(0, EFD_CLOEXEC);
	pthread_mutex_init(&l->lock, NULL);
	cond_init(&l->changed);
	r = first_credentials(l, ret_error);
	if (r < 0)
		login_free(l);
	else
		*ret = l;
	return r;
}

bool login_renew(struct login *l)
{
	_cleanup_free_ char *error = NULL;

	return renew(l, true, &error) > 0;
}

int login_start(struct login *l, login_changed_fn *changed, void *arg)
{
	int r;

	l->changed_fn = changed;
	l->arg = arg;
	pthread_mutex_lock(&l->lock);
	r = -pthread_create(&l->thread, NULL, run, l);
	l->started = r == 0;
	pthread_mutex_unlock(&l->lock);
	return r;
}

void login_stop(struct login *l)
{
	uint64_t one = 1;
	bool started;

	pthread_mutex_lock(&l->lock);
	started = l->started;
	l->started = false;
	l->stop = true;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	if (!started)
		return;
	if (write(l->cancel_fd, &one, sizeof(one)) != sizeof(one))
		abort();
	pthread_join(l->thread, NULL);
}

void login_free(struct login *l)
{
	if (!l)
		return;
	login_stop(l);
	config_free(l->reread);
	exec_answer_release(&l->answer);
	credentials_unref(l->current);
	free(l->error);
	free(l->stderr_text);
	if (l->cancel_fd >= 0)
		close(l->cancel_fd);
	pthread_cond_destroy(&l->changed);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

/* ---- for requests ---- */

const struct config *login_config(const struct login *l)
{
	return l->config;
}

struct credentials *login_credentials(struct login *l)
{
	struct credentials *c;

	pthread_mutex_lock(&l->lock);
	c = credentials_ref(l->current);
	pthread_mutex_unlock(&l->lock);
	return c;
}

unsigned login_ask(struct login *l, unsigned generation)
{
	unsigned renewal;

	pthread_mutex_lock(&l->lock);
	if (l->current->generation == generation) {
		l->asked = true;
		pthread_cond_broadcast(&l->changed);
	}
	renewal = l->begun + 1;
	pthread_mutex_unlock(&l->lock);
	return renewal;
}

/* Where the credentials in use came from. The caller frees. */
static char *describe(const struct config *c, const char *kind)
{
	const struct config_flags *f = &c->flags;
	const char *user = c->user ? c->user : "";

	if (streq(kind, "token") || streq(kind, "tokenFile")) {
		if (f->token && *f->token)
			return xstrdup("--token");
		if (f->token_file && *f->token_file)
			return xasprintf("the token in --token-file %s", f->token_file);
		if (c->token_file)
			return xasprintf("the token in %s", c->token_file);
		return xasprintf("the token of user \"%s\" in the kubeconfig", user);
	}
	if (streq(kind, "client-certificate"))
		return f->client_certificate && *f->client_certificate
			       ? xstrdup("--client-certificate")
			       : xasprintf(
					 "the client certificate of user \"%s\" in the kubeconfig",
					 user);
	if (streq(kind, "exec"))
		return xasprintf("what the plugin of user \"%s\" in the kubeconfig said", user);
	return xasprintf("the password of user \"%s\" in the kubeconfig", user);
}

char *login_advice(struct login *l)
{
	const struct config *c = l->config;
	struct credentials *current = login_credentials(l);
	_cleanup_free_ char *what = describe(c, current->kind);
	bool none = streq(current->kind, "none"), plain = str_has_prefix(c->server, "http://");
	bool token = str_has_prefix(current->kind, "token");

	credentials_unref(current);
	if (none && plain)
		return xstrdup("to an http:// URL no credentials are sent");
	if (none)
		return xasprintf("there are no credentials for it: `oc login %s`, or give "
				 "--token-file",
			c->server);
	return xasprintf("it doesn't take %s%s", what,
		token ? ": it may have expired; `oc login` gets a new one" : "");
}

/* Once for each of the credentials. */
static void tell_refused(struct login *l)
{
	_cleanup_free_ char *advice = login_advice(l);
	bool started;

	pthread_mutex_lock(&l->lock);
	started = l->started;
	pthread_mutex_unlock(&l->lock);
	if (started) /* else the start says so */
		log_notice("credentials are refused by %s: %s", l->config->server, advice);
}

void login_answered(struct login *l, struct credentials *c, long code)
{
	if (code == 401) {
		if (!atomic_exchange(&c->refused, true))
			tell_refused(l);
		login_ask(l, c->generation);
	} else if (code >= 200 && atomic_load(&c->refused)) {
		if (atomic_exchange(&c->refused, false))
			log_notice("credentials are accepted again by %s", l->config->server);
	}
}

int login_wait(struct login *l, unsigned generation, unsigned renewal, int64_t until)
{
	bool early = true;
	int r;

	pthread_mutex_lock(&l->lock);
	while (l->started && l->current->generation == generation &&
		(int)(l->ended - renewal) < 0 && early)
		early = cond_wait_until(&l->changed, &l->lock, until);
	if (l->current->generation != generation)
		r = 0;
	else if (!l->started || (int)(l->ended - renewal) >= 0)
		r = -EKEYEXPIRED;
	else
		r = -EAGAIN;
	pthread_mutex_unlock(&l->lock);
	return r;
}

/* A plugin may write any bytes. */
static json_t *text_or_null(const char *text)
{
	json_t *json = text ? json_string(text) : json_null();
	char *copy;

	if (json)
		return json;
	copy = xstrdup(text);
	for (char *p = copy; *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	json = json_string(copy);
	free(copy);
	return json;
}

static json_t *time_or_null(int64_t ns)
{
	char text[RFC3339_SIZE];

	if (!ns)
		return json_null();
	rfc3339_format(ns, text);
	return json_string(text);
}

json_t *login_status(struct login *l)
{
	json_t *status;

	pthread_mutex_lock(&l->lock);
	status = json_pack("{s:s, s:b, s:o, s:o, s:o, s:o}", "kind", l->current->kind, "refused",
		atomic_load(&l->current->refused), "renewed", time_or_null(l->renewed), "expires",
		time_or_null(l->expires), "error", text_or_null(l->error), "stderr",
		text_or_null(l->stderr_text));
	pthread_mutex_unlock(&l->lock);
	return status;
}
