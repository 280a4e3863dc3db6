#include "fs/ops/session.h"

#include <linux/fuse.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/uio.h>
#include <unistd.h>

/* The first thing that a session writes is the answer to INIT. */
static atomic_flag init_answered = ATOMIC_FLAG_INIT;

static ssize_t session_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	if (!atomic_flag_test_and_set(&init_answered) && count > 1 &&
		iov[1].iov_len >= offsetof(struct fuse_init_out, flags) + sizeof(uint32_t)) {
		struct fuse_init_out *out = iov[1].iov_base;

		out->flags |= FUSE_PARALLEL_DIROPS;
	}
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
