#include "fs/ops/session.h"

#include <linux/fuse.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/uio.h>
#include <unistd.h>

/* The first thing that a session writes is the answer to INIT. */
static atomic_flag init_answered = ATOMIC_FLAG_INIT;

static session_init_fn *on_init;
static void *on_init_arg;

void session_on_init(session_init_fn *fn, void *arg)
{
	on_init = fn;
	on_init_arg = arg;
}

static ssize_t answer_init(int fd, struct iovec *iov, int count)
{
	const struct fuse_out_header *header = iov[0].iov_base;
	ssize_t n;

	if (count > 1 &&
		iov[1].iov_len >= offsetof(struct fuse_init_out, flags) + sizeof(uint32_t)) {
		struct fuse_init_out *out = iov[1].iov_base;

		out->flags |= FUSE_PARALLEL_DIROPS;
	}
	n = writev(fd, iov, count);
	if (n > 0 && header->error == 0 && on_init)
		on_init(on_init_arg);
	return n;
}

static ssize_t session_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	if (!atomic_flag_test_and_set(&init_answered))
		return answer_init(fd, iov, count);
	return writev(fd, iov, count);
}

static ssize_t session_read(int fd, void *buf, size_t len, void *userdata)
{
	return read(fd, buf, len);
}

int session_allow_parallel_dirops(struct fuse_session *session)
{
	static const struct fuse_custom_io io = {.writev = session_writev, .read = session_read};

	return fuse_session_custom_io(session, &io, fuse_session_fd(session));
}
