/*
 * A server over TCP that answers as it is told, request by request, and credentials for it. It runs
 * in a thread of the test. Included by one file of a test program, after cmocka.h.
 */
#ifndef TESTS_UNIT_SERVER_H
#define TESTS_UNIT_SERVER_H

#include "client/http.h"
#include "client/login.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define SERVER_REQUESTS 64   /* of one test */
#define SERVER_LOST	0    /* a code: the connection ends without an answer */
#define SERVER_SILENT	(-1) /* a code: no answer ever comes */

struct server_step {
	int code;
	char *body;
	void (*before)(void); /* what happens before it is answered, or NULL */
};

struct server_request {
	char *line; /* "PUT /path CONTENT-TYPE", the type only with a body */
	char *body;
};

static int server_fd, server_kept[SERVER_REQUESTS];
static char server_url[64];
static pthread_t server_thread;
static pthread_mutex_t server_lock = PTHREAD_MUTEX_INITIALIZER;
static struct server_step server_steps[SERVER_REQUESTS];
static struct server_request server_requests[SERVER_REQUESTS];
static size_t server_planned, server_asked; /* server_lock */
static struct config *server_config;
static struct login *server_login;

/* The next request is answered so. */
static inline void answer_after(void (*before)(void), int code, const char *body)
{
	pthread_mutex_lock(&server_lock);
	assert_true(server_planned < SERVER_REQUESTS);
	server_steps[server_planned++] = (struct server_step){code, xstrdup(body), before};
	pthread_mutex_unlock(&server_lock);
}

static inline void answer(int code, const char *body)
{
	answer_after(NULL, code, body);
}

/* How many requests came. */
static inline size_t asked(void)
{
	size_t n;

	pthread_mutex_lock(&server_lock);
	n = server_asked;
	pthread_mutex_unlock(&server_lock);
	return n;
}

/* Every request that was planned came, and no other; the request from the end on, 0: the last. */
static inline const struct server_request *request(size_t from_end)
{
	assert_int_equal(asked(), server_planned);
	return &server_requests[server_asked - 1 - from_end];
}

static inline void assert_request(size_t from_end, const char *line, const char *body)
{
	const struct server_request *r = request(from_end);

	assert_string_equal(r->line, line);
	if (body)
		assert_string_equal(r->body, body);
}

/* ---- the thread ---- */

static size_t body_length(const char *head)
{
	const char *line = strcasestr(head, "\r\ncontent-length:");

	return line ? strtoul(line + 17, NULL, 10) : 0;
}

static void note_request(const char *head, const char *body)
{
	const char *type = strcasestr(head, "\r\ncontent-type: ");
	int target = strcspn(strchr(head, ' ') + 1, " ") + (strchr(head, ' ') - head) + 1;
	struct server_request *r = &server_requests[server_asked];

	type = type ? type + 16 : "";
	r->line = xasprintf(
		"%.*s%s%.*s", target, head, *type ? " " : "", (int)strcspn(type, "\r"), type);
	r->body = xstrdup(body);
}

/* False where the connection brought nothing. */
static bool read_request(int fd)
{
	size_t max = 1 << 20, len = 0;
	_cleanup_free_ char *text = xcalloc(1, max + 1);
	char *end = NULL;
	ssize_t n;

	while (!end || strlen(end + 4) < body_length(text)) {
		n = read(fd, text + len, max - len);
		if (n <= 0)
			return false;
		len += n;
		end = strstr(text, "\r\n\r\n");
	}
	end[2] = '\0';
	note_request(text, end + 4);
	return true;
}

static void send_answer(int fd, const struct server_step *step)
{
	_cleanup_free_ char *text = xasprintf("HTTP/1.1 %d X\r\nContent-Type: application/json\r\n"
					      "Connection: close\r\nContent-Length: %zu\r\n\r\n%s",
		step->code, strlen(step->body), step->body);
	size_t len = strlen(text);

	for (char *p = text; len;) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		p += n;
		len -= n;
	}
}

static void *server_run(void *arg)
{
	static const struct server_step unplanned = {500, "unplanned", NULL};
	int fd;

	while ((fd = accept(server_fd, NULL, NULL)) >= 0) {
		struct server_step step = unplanned;

		if (!read_request(fd)) {
			close(fd);
			continue;
		}
		pthread_mutex_lock(&server_lock);
		if (server_asked < server_planned)
			step = server_steps[server_asked];
		server_kept[server_asked++] = step.code == SERVER_SILENT ? fd : -1;
		pthread_mutex_unlock(&server_lock);
		if (step.before)
			step.before();
		if (step.code > 0)
			send_answer(fd, &step);
		if (step.code != SERVER_SILENT)
			close(fd);
	}
	return NULL;
}

static inline void server_begin(void)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	struct config_flags flags = {.server = server_url};
	char *error = NULL;

	server_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(server_fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(server_fd, SERVER_REQUESTS), 0);
	assert_int_equal(getsockname(server_fd, (struct sockaddr *)&address, &len), 0);
	sprintf(server_url, "http://127.0.0.1:%d", ntohs(address.sin_port));
	server_planned = server_asked = 0;
	assert_int_equal(pthread_create(&server_thread, NULL, server_run, NULL), 0);
	setenv("KUBECONFIG", "/dev/null", 1);
	setenv("HOME", "/nonexistent", 1);
	assert_int_equal(config_load(&flags, &server_config, &error), 0);
	assert_int_equal(login_new(server_config, 1000, &server_login, &error), 0);
}

/* False where not all came that was planned, or more. */
static inline bool server_end(void)
{
	bool all;

	shutdown(server_fd, SHUT_RDWR);
	pthread_join(server_thread, NULL);
	close(server_fd);
	all = server_asked == server_planned;
	for (size_t i = 0; i < server_asked; i++) {
		free(server_requests[i].line);
		free(server_requests[i].body);
		if (server_kept[i] >= 0)
			close(server_kept[i]);
	}
	for (size_t i = 0; i < server_planned; i++)
		free(server_steps[i].body);
	login_free(server_login);
	config_free(server_config);
	return all;
}

/* Of a group of tests that send something. */
static int http_group_setup(void **state)
{
	return http_global_init();
}

static int http_group_teardown(void **state)
{
	http_global_cleanup();
	return 0;
}

#endif
