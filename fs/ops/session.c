#include "fs/ops/session.h"

#include "have.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_bool kernel_seems_old;

#if HAVE_FUSE_CUSTOM_IO
/* What the kernel doesn't offer in its INIT, it isn't asked for. */
#define WITHHELD                                                                                   \
	((uint32_t)(FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |           \
		    FUSE_CACHE_SYMLINKS | FUSE_PARALLEL_DIROPS | FUSE_NO_OPENDIR_SUPPORT))

/* The first thing that a session reads is INIT, and the first that it writes is the answer. */
static atomic_flag init_read = ATOMIC_FLAG_INIT, init_answered = ATOMIC_FLAG_INIT;

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

	if (count > 1 && !kernel_seems_old &&
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
	ssize_t n = read(fd, buf, len);
	struct fuse_init_in *in = (void *)((char *)buf + sizeof(struct fuse_in_header));

	if (n > 0 && !atomic_flag_test_and_set(&init_read) && kernel_seems_old &&
		(size_t)n >= sizeof(struct fuse_in_header) + offsetof(struct fuse_init_in, flags) +
				     sizeof(uint32_t))
		in->flags &= ~WITHHELD;
	return n;
}

static int allow_parallel_dirops(struct fuse_session *session)
{
	static const struct fuse_custom_io io = {.writev = session_writev, .read = session_read};

	return fuse_session_custom_io(session, &io, fuse_session_fd(session));
}
#else
void session_on_init(session_init_fn *fn, void *arg)
{
	fn(arg); /* the kernel holds every request back until it is answered */
}

static int allow_parallel_dirops(struct fuse_session *session)
{
	return fuse_version() < 312 ? 0 : -EOPNOTSUPP; /* 3.10 and 3.11 don't forget it */
}
#endif

int session_begin(struct fuse_session *session)
{
	kernel_seems_old = getenv("IMAGESTREAMFS_OLD_KERNEL") != NULL;
	return allow_parallel_dirops(session);
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
