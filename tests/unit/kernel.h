/*
 * A FUSE session without a mount: libfuse's own, and at the other end of its device stands the test
 * in the kernel's place. It asks, interrupts and hears what is answered. Included by one file of a
 * test program, after cmocka.h.
 */
#ifndef TESTS_UNIT_KERNEL_H
#define TESTS_UNIT_KERNEL_H

#include "client/util.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define KERNEL_ASKED   512	 /* requests of one test */
#define KERNEL_MESSAGE (1 << 18) /* bytes */
#define KERNEL_MS      60000	 /* against a hang only */

/* A request, and what became of it. */
struct asked {
	fuse_req_t req;
	struct fuse_pollhandle *poll;
	bool answered;
	int error; /* 0 or -errno */
	char *data;
	size_t len;
};

static struct fuse_session *kernel_session;
static pthread_t kernel_thread;
static int kernel_fd; /* ours; its peer is the session's device */
static sem_t kernel_given;
static struct asked kernel_asked[KERNEL_ASKED];
static uint64_t kernel_unique; /* of the last request */
static unsigned kernel_polled; /* notifications of a poll handle */

/* ---- the session's side ---- */

static void on_read(
	fuse_req_t req, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *fi)
{
	kernel_asked[id].req = req;
	sem_post(&kernel_given);
}

static void on_poll(
	fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct fuse_pollhandle *ph)
{
	kernel_asked[id].req = req;
	kernel_asked[id].poll = ph;
	sem_post(&kernel_given);
}

static void *kernel_run(void *arg)
{
	fuse_session_loop(kernel_session);
	return NULL;
}

/* ---- the kernel's side ---- */

static void kernel_send(
	uint32_t opcode, uint64_t unique, uint64_t id, pid_t pid, const void *in, size_t in_len)
{
	struct fuse_in_header header = {.len = sizeof(header) + in_len,
		.opcode = opcode,
		.unique = unique,
		.nodeid = id,
		.pid = pid};
	struct iovec iov[] = {{&header, sizeof(header)}, {(void *)in, in_len}};

	assert_int_equal(writev(kernel_fd, iov, 2), header.len);
}

/* Takes one message in, if one comes until then. */
static bool kernel_receive(int ms)
{
	static char message[KERNEL_MESSAGE];
	struct fuse_out_header *header = (struct fuse_out_header *)message;
	struct pollfd fd = {.fd = kernel_fd, .events = POLLIN};
	struct asked *a;
	ssize_t n;

	if (poll(&fd, 1, ms) <= 0)
		return false;
	n = read(kernel_fd, message, sizeof(message));
	assert_true(n >= (ssize_t)sizeof(*header) && header->len == n);
	if (header->unique == 0) {
		assert_int_equal(header->error, FUSE_NOTIFY_POLL);
		kernel_polled++;
		return true;
	}
	if (header->unique > kernel_unique) /* an interrupt of what was answered already */
		return true;
	a = &kernel_asked[header->unique];
	assert_false(a->answered);
	a->answered = true;
	a->error = header->error;
	a->len = n - sizeof(*header);
	a->data = xcalloc(1, a->len + 1);
	memcpy(a->data, message + sizeof(*header), a->len);
	return true;
}

/* Whether it has been answered by now. */
static inline bool is_answered(uint64_t unique)
{
	while (kernel_receive(0))
		;
	return kernel_asked[unique].answered;
}

/* Waits for the answer. */
static inline const struct asked *hear(uint64_t unique)
{
	while (!is_answered(unique))
		assert_true(kernel_receive(KERNEL_MS));
	return &kernel_asked[unique];
}

static inline void assert_answer(uint64_t unique, int error)
{
	assert_int_equal(hear(unique)->error, -error);
}

static inline void wait_polled(unsigned count)
{
	while (kernel_polled < count)
		assert_true(kernel_receive(KERNEL_MS));
}

static inline void wait_for_semaphore(sem_t *sem)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += KERNEL_MS / 1000;
	while (sem_timedwait(sem, &until) < 0)
		assert_int_equal(errno, EINTR);
}

/* A request of that thread's, which the session has handed over when this returns. */
static inline uint64_t ask(pid_t tid)
{
	struct fuse_read_in in = {0};

	assert_true(++kernel_unique < KERNEL_ASKED);
	kernel_send(FUSE_READ, kernel_unique, kernel_unique, tid, &in, sizeof(in));
	wait_for_semaphore(&kernel_given);
	return kernel_unique;
}

/* The same, of a poll(2) that wants to be told. */
static inline uint64_t ask_poll(pid_t tid)
{
	struct fuse_poll_in in = {
		.kh = kernel_unique + 1, .flags = FUSE_POLL_SCHEDULE_NOTIFY, .events = POLLIN};

	assert_true(++kernel_unique < KERNEL_ASKED);
	kernel_send(FUSE_POLL, kernel_unique, kernel_unique, tid, &in, sizeof(in));
	wait_for_semaphore(&kernel_given);
	return kernel_unique;
}

static inline fuse_req_t req_of(uint64_t unique)
{
	return kernel_asked[unique].req;
}

/* A signal for the caller: the session has told whoever holds the request when this returns. */
static inline void interrupt(uint64_t unique)
{
	struct fuse_interrupt_in in = {.unique = unique};

	kernel_send(FUSE_INTERRUPT, UINT64_MAX - 1, 0, 0, &in, sizeof(in));
	fuse_reply_err(req_of(ask(getpid())), 0);
}

static inline void kernel_begin(void)
{
	static const struct fuse_lowlevel_ops ops = {.read = on_read, .poll = on_poll};
	struct fuse_init_in init = {
		.major = FUSE_KERNEL_VERSION, .minor = 31, .max_readahead = 1 << 17};
	char *argv[] = {"test", NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	_cleanup_free_ char *device = NULL;
	int fds[2];

	memset(kernel_asked, 0, sizeof(kernel_asked));
	kernel_unique = kernel_polled = 0;
	sem_init(&kernel_given, 0, 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	kernel_fd = fds[0];
	kernel_session = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	assert_non_null(kernel_session);
	fuse_opt_free_args(&args);
	device = xasprintf("/dev/fd/%d", fds[1]); /* for libfuse an open device */
	assert_int_equal(fuse_session_mount(kernel_session, device), 0);
	assert_int_equal(pthread_create(&kernel_thread, NULL, kernel_run, NULL), 0);
	kernel_send(FUSE_INIT, ++kernel_unique, 0, 0, &init, sizeof(init));
	assert_answer(kernel_unique, 0);
}

/* Every request has been answered. */
static inline void kernel_end(void)
{
	for (uint64_t unique = 1; unique <= kernel_unique; unique++) {
		assert_true(is_answered(unique));
		free(kernel_asked[unique].data);
	}
	fuse_session_exit(kernel_session);
	shutdown(kernel_fd, SHUT_RDWR);
	pthread_join(kernel_thread, NULL);
	fuse_session_destroy(kernel_session); /* closes its end */
	close(kernel_fd);
	sem_destroy(&kernel_given);
}

#endif
