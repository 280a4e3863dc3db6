#include "fs/ops/session.h"

#include "client/util.h"
#include "have.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

static atomic_bool kernel_seems_old;

#define INIT_SIZE                                                                                  \
	65536 /* the kernel gives a request to no smaller buffer than FUSE_MIN_READ_BUFFER */

/* What the kernel doesn't offer in its INIT, it isn't asked for. */
#define WITHHELD                                                                                   \
	((uint32_t)(FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |           \
		    FUSE_CACHE_SYMLINKS | FUSE_PARALLEL_DIROPS | FUSE_NO_OPENDIR_SUPPORT))

struct init_request {
	struct fuse_in_header header;
	struct fuse_init_in in;
};

#define INIT_FLAGS_END ((ssize_t)(offsetof(struct init_request, in.flags) + sizeof(uint32_t)))

struct init_answer {
	struct fuse_out_header header;
	struct fuse_init_out out;
};

static ssize_t read_whole(int fd, void *buf, size_t len)
{
	ssize_t n;

	do
		n = read(fd, buf, len);
	while (n < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT));
	return n < 0 ? -errno : n;
}

/*
 * The session answers INIT into a socket that stands in its device's place meanwhile; from there
 * the answer goes on to the kernel. 0 or -errno.
 */
static int answer_init(struct fuse_session *session, char *request, size_t len, int device)
{
	const struct fuse_buf buf = {.size = len, .mem = request};
	struct init_request *init = (void *)request;
	union {
		struct init_answer init;
		char bytes[4096];
	} answer;
	int fd = fuse_session_fd(session), fds[2];
	ssize_t n = -EIO;

	if (kernel_seems_old)
		init->in.flags &= ~WITHHELD;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	if (dup3(fds[1], fd, O_CLOEXEC) >= 0) {
		fuse_session_process_buf(session, &buf);
		n = recv(fds[0], &answer, sizeof(answer), MSG_DONTWAIT);
		n = n < 0 ? -errno : n;
		if (dup3(device, fd, O_CLOEXEC) < 0)
			n = -errno;
	}
	close(fds[0]);
	close(fds[1]);
	if (n >= (ssize_t)(sizeof(answer.init.header) + FUSE_COMPAT_22_INIT_OUT_SIZE) &&
		init->in.flags & FUSE_PARALLEL_DIROPS)
		answer.init.out.flags |= FUSE_PARALLEL_DIROPS;
	if (n > 0 && write(device, &answer, (size_t)n) < 0)
		n = -errno;
	if (n >= 0 && answer.init.header.error)
		n = -EPROTO;
	return n < 0 ? (int)n : 0;
}

int session_begin(struct fuse_session *session)
{
	_cleanup_free_ char *request = xmalloc(INIT_SIZE);
	_cleanup_close_ int device = fcntl(fuse_session_fd(session), F_DUPFD_CLOEXEC, 0);
	ssize_t n = device < 0 ? -errno : read_whole(device, request, INIT_SIZE);

	kernel_seems_old = getenv("IMAGESTREAMFS_OLD_KERNEL") != NULL;
	if (n >= 0 && n < INIT_FLAGS_END)
		n = -EPROTO;
	return n < 0 ? (int)n : answer_init(session, request, (size_t)n, device);
}

int session_loop(struct fuse_session *session, unsigned threads)
{
	int r;

#if HAVE_FUSE_LOOP_CFG
	struct fuse_loop_config *config = fuse_loop_cfg_create();

	fuse_loop_cfg_set_max_threads(config, threads);
	r = fuse_session_loop_mt(session, config);
	fuse_loop_cfg_destroy(config);
#else
	struct fuse_loop_config config = {.max_idle_threads = threads};

	r = fuse_session_loop_mt(session, &config);
#endif
	return r;
}

void session_skip_flush(struct fuse_file_info *fi, bool skip)
{
#if HAVE_FUSE_NOFLUSH
	fi->noflush = skip && !kernel_seems_old;
#endif
}
