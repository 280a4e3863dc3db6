#include "fs/publish/announce.h"

#include "client/clock.h"
#include "client/descriptors.h"
#include "client/log.h"
#include "client/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define SECRET_PREFIX ".imagestreamfs-"
#define SECRET_SIZE   (sizeof(SECRET_PREFIX) + 32)
#define WINDOW	      64 /* steps under way at one worker */
#define HELLO_ID      0
#define RESPAWN_NS    NSEC_PER_SEC /* it is started again so often at most */
/* and so often where that comes to nothing again and again */
#define RETRY_NS    (30 * NSEC_PER_SEC)
#define GREETING_NS (15 * NSEC_PER_SEC) /* its path may lead to what doesn't answer */
#define SAID_AFTER  2			/* failures; one may be a moment's */
#define FREE_FD	    (ANNOUNCER_FD + ANNOUNCER_WORKERS)

struct worker {
	int fd;
	unsigned under_way;
	uint64_t directory; /* hash of the one whose steps are under way */
};

struct announce {
	char *mountpoint;
	bool read_only; /* before the first start */
	struct worker workers[ANNOUNCER_WORKERS];
	unsigned count;	   /* of them: as many as there are descriptors for */
	unsigned greeted;  /* workers that have answered */
	bool astray;	   /* a worker has found something else at the mount's path */
	int64_t started;   /* monotonic ns; 0: never */
	unsigned failures; /* of starts, since it was ready last */
	int epoll_fd;	   /* of their sockets; -1: none */
	struct epoll_event ready[ANNOUNCER_WORKERS];
	int heard, nready; /* of those */
	struct announcer_ack acks[ANNOUNCER_ACKS];
	size_t taken, nacks; /* of those */

	pthread_mutex_t lock;
	pid_t pid;		       /* lock */
	char secret[SECRET_SIZE];      /* lock */
	pid_t tids[ANNOUNCER_WORKERS]; /* lock */
	size_t ntids;		       /* lock */
	bool foreign;		       /* lock; it greeted from another pid namespace */
	struct announce_status status; /* lock */
};

struct announce *announce_new(const char *mountpoint)
{
	struct announce *a = xcalloc(1, sizeof(*a));

	a->mountpoint = xstrdup(mountpoint);
	pthread_mutex_init(&a->lock, NULL);
	for (int i = 0; i < ANNOUNCER_WORKERS; i++)
		a->workers[i].fd = -1;
	a->epoll_fd = -1;
	a->status.state = ANNOUNCE_STARTING;
	return a;
}

void announce_set_read_only(struct announce *a)
{
	a->read_only = true;
}

void announce_free(struct announce *a)
{
	if (!a)
		return;
	announce_stop(a);
	pthread_mutex_destroy(&a->lock);
	free(a->mountpoint);
	free(a);
}

static int make_secret(char ret[SECRET_SIZE])
{
	unsigned char random[16];
	size_t n = strlen(SECRET_PREFIX);

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	strcpy(ret, SECRET_PREFIX);
	for (size_t i = 0; i < sizeof(random); i++)
		sprintf(ret + n + 2 * i, "%02x", random[i]);
	return 0;
}

/* The descriptor, at a number that none of the process's own has. It is closed where that fails. */
static int move_away(int fd)
{
	int moved = fd < FREE_FD ? fcntl(fd, F_DUPFD_CLOEXEC, FREE_FD) : fd;
	int r = moved < 0 ? -errno : moved;

	if (moved != fd)
		close(fd);
	return r;
}

/* Our ends stay, the process's come in theirs[]. */
static int make_sockets(struct announce *a, int theirs[ANNOUNCER_WORKERS])
{
	a->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (a->epoll_fd < 0)
		return -errno;
	for (unsigned i = 0; i < a->count; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
			return -errno;
		a->workers[i] = (struct worker){.fd = pair[0]};
		theirs[i] = move_away(pair[1]);
		if (theirs[i] < 0)
			return theirs[i];
		if (epoll_ctl(a->epoll_fd, EPOLL_CTL_ADD, pair[0], &event) < 0)
			return -errno;
	}
	return 0;
}

/* Who waits for the end of our output doesn't wait for the process: it gets none of that. */
static int start_process(struct announce *a, const int theirs[ANNOUNCER_WORKERS], pid_t *ret)
{
	char workers[16];
	extern char **environ;
	struct spawn s = {.file = "/proc/self/exe",
		.argv = (char *[]){ANNOUNCER_ARGV0, a->mountpoint, workers,
			a->read_only ? ANNOUNCER_READ_ONLY : NULL, NULL},
		.env = environ,
		.fds = theirs,
		.nfds = (int)a->count,
		.first_fd = ANNOUNCER_FD};

	snprintf(workers, sizeof(workers), "%u", a->count);
	return spawn(&s, ret);
}

/* A name for each: the kernel asks once for a name that several look up at once. */
static int send_greetings(struct announce *a)
{
	for (unsigned i = 0; i < a->count; i++) {
		struct announcer_message m = {.id = HELLO_ID, .op = ANNOUNCER_HELLO};

		snprintf(m.path, sizeof(m.path), "%s-%u", a->secret, i);
		if (send(a->workers[i].fd, &m,
			    offsetof(struct announcer_message, path) + strlen(m.path),
			    MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			return -errno;
	}
	return 0;
}

/* Starts the process and greets it. */
static int start(struct announce *a)
{
	int theirs[ANNOUNCER_WORKERS];
	pid_t pid = 0;
	int r;

	announce_stop(a);
	a->count = descriptors_workers();
	for (int i = 0; i < ANNOUNCER_WORKERS; i++)
		theirs[i] = -1;
	pthread_mutex_lock(&a->lock);
	r = make_secret(a->secret);
	pthread_mutex_unlock(&a->lock);
	if (r == 0)
		r = make_sockets(a, theirs);
	if (r == 0)
		r = start_process(a, theirs, &pid);
	for (int i = 0; i < ANNOUNCER_WORKERS; i++)
		if (theirs[i] >= 0)
			close(theirs[i]);
	pthread_mutex_lock(&a->lock);
	a->pid = pid;
	pthread_mutex_unlock(&a->lock);
	return r < 0 ? r : send_greetings(a);
}

/* Ends the process, if there is one; the errno that it ended with by itself, or 0. */
static int end(pid_t pid)
{
	int status = 0;

	if (pid <= 0)
		return 0;
	kill(pid, SIGKILL);
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

static int stop(struct announce *a)
{
	int error;

	for (int i = 0; i < ANNOUNCER_WORKERS; i++) {
		if (a->workers[i].fd >= 0)
			close(a->workers[i].fd);
		a->workers[i] = (struct worker){.fd = -1};
	}
	if (a->epoll_fd >= 0)
		close(a->epoll_fd);
	a->epoll_fd = -1;
	a->heard = a->nready = 0;
	a->taken = a->nacks = 0;
	a->greeted = 0;
	a->astray = false;
	error = end(announce_pid(a));
	/* Only now: what it had asked for until then is known to be its own. */
	pthread_mutex_lock(&a->lock);
	a->pid = 0;
	a->ntids = 0;
	a->secret[0] = '\0';
	a->foreign = false;
	pthread_mutex_unlock(&a->lock);
	return error;
}

void announce_stop(struct announce *a)
{
	stop(a);
}

/* ---- whether it works ---- */

static void set_status(struct announce *a, enum announce_state state, int error)
{
	pthread_mutex_lock(&a->lock);
	a->status = (struct announce_status){state, error};
	pthread_mutex_unlock(&a->lock);
}

const char *announce_reason(int error)
{
	switch (error) {
	case ENODEV:
		return "the mount isn't found at its path: unmounted there, or covered";
	case EXDEV:
		return "it isn't in our pid namespace";
	case ENOENT:
		return "there is no /proc";
	case EPIPE:
		return "it ended";
	default:
		return strerror(error);
	}
}

void announce_fail(struct announce *a, int error)
{
	bool was_ready = announce_is_ready(a) && !a->astray;
	int ended_with = stop(a);

	if (was_ready) { /* it worked: another one will */
		set_status(a, ANNOUNCE_STARTING, 0);
		return;
	}
	error = error == -EPIPE && ended_with ? ended_with : -error;
	if (++a->failures == SAID_AFTER)
		log_error("remote changes raise no events for now, since the announcer can't work: "
			  "%s; it is tried again",
			announce_reason(error));
	set_status(a, ANNOUNCE_LOST, error);
}

/* Where it comes to nothing it is tried less and less often. */
static int64_t next_start(const struct announce *a)
{
	int64_t wait = RESPAWN_NS;

	if (!a->started)
		return 0;
	for (unsigned i = 1; i < a->failures && wait < RETRY_NS; i++)
		wait *= 2;
	return a->started + (wait < RETRY_NS ? wait : RETRY_NS);
}

static void note_ready(struct announce *a)
{
	if (a->failures >= SAID_AFTER)
		log_error("remote changes raise events again");
	a->failures = 0;
	set_status(a, ANNOUNCE_READY, 0);
}

int64_t announce_keep(struct announce *a)
{
	int r;

	if (announce_is_running(a) && announce_is_ready(a))
		return INT64_MAX;
	if (announce_is_running(a)) {
		if (now_monotonic() < a->started + GREETING_NS)
			return a->started + GREETING_NS;
		announce_fail(a, -ETIMEDOUT);
	}
	if (now_monotonic() < next_start(a))
		return next_start(a);
	a->started = now_monotonic();
	r = start(a);
	if (r < 0) {
		announce_fail(a, r);
		return next_start(a);
	}
	return a->started + GREETING_NS;
}

bool announce_is_lost(const struct announce *a)
{
	return a->failures;
}

void announce_get_status(struct announce *a, struct announce_status *ret)
{
	pthread_mutex_lock(&a->lock);
	*ret = a->status;
	pthread_mutex_unlock(&a->lock);
}

bool announce_is_ready(const struct announce *a)
{
	return a->count && a->greeted == a->count;
}

bool announce_is_running(const struct announce *a)
{
	return a->workers[0].fd >= 0;
}

bool announce_is_full(const struct announce *a)
{
	for (unsigned i = 0; i < a->count; i++)
		if (!a->workers[i].under_way)
			return false;
	return true;
}

/* The directory's worker, else the one with least to do. */
static struct worker *pick(struct announce *a, uint64_t directory)
{
	struct worker *least = &a->workers[0];

	for (unsigned i = 0; i < a->count; i++) {
		struct worker *w = &a->workers[i];

		if (w->under_way && w->directory == directory)
			return w;
		if (w->under_way < least->under_way)
			least = w;
	}
	return least;
}

int announce_send(struct announce *a, enum announcer_op op, uint64_t id, const char *directory,
	const char *path)
{
	uint64_t hash = hash_str(HASH_INIT, directory);
	struct worker *w = pick(a, hash);
	struct announcer_message m = {.id = id, .op = op};
	size_t len = strlen(path);

	if (w->fd < 0)
		return -EPIPE;
	if (w->under_way >= WINDOW || (w->under_way && w->directory != hash))
		return -EAGAIN;
	if (len >= sizeof(m.path) - 1)
		return -ENAMETOOLONG;
	memcpy(m.path, path, len);
	if (send(w->fd, &m, offsetof(struct announcer_message, path) + len,
		    MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return errno == EAGAIN || errno == ENOBUFS ? -EAGAIN : -EPIPE;
	w->directory = hash;
	w->under_way++;
	return 0;
}

int announce_fd(const struct announce *a)
{
	return a->epoll_fd;
}

/*
 * A worker has answered its greeting. 0; -ENODEV: it did that, and we never heard of it: what it
 * looked into isn't our mount; -EXDEV: the kernel has no number here for who asked.
 */
static int take_greeting(struct announce *a, int error)
{
	bool known, foreign;

	if (error)
		return -error;
	if (++a->greeted < a->count)
		return 0;
	pthread_mutex_lock(&a->lock);
	known = a->ntids == a->count;
	foreign = a->foreign;
	pthread_mutex_unlock(&a->lock);
	if (known) {
		note_ready(a);
		return 0;
	}
	a->greeted = 0;
	return foreign ? -EXDEV : -ENODEV;
}

/* Takes what the worker has sent. 0, -EPIPE, or what its greeting came to. */
static int hear(struct announce *a, struct worker *w)
{
	ssize_t n = recv(w->fd, a->acks, sizeof(a->acks), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0 || n % sizeof(*a->acks))
		return -EPIPE;
	a->taken = 0;
	a->nacks = n / sizeof(*a->acks);
	if (a->acks[0].id == HELLO_ID) {
		a->taken = a->nacks;
		return take_greeting(a, a->acks[0].error);
	}
	w->under_way -= a->nacks;
	for (size_t i = 0; i < a->nacks; i++)
		a->astray = a->astray || a->acks[i].error == ENODEV;
	return 0;
}

int announce_receive(struct announce *a, struct announcer_ack *ret)
{
	int r = 0;

	if (a->taken == a->nacks && a->heard == a->nready) {
		a->heard = 0;
		a->nready = epoll_wait(a->epoll_fd, a->ready, ANNOUNCER_WORKERS, 0);
		if (a->nready < 0)
			a->nready = 0;
	}
	while (r == 0 && a->taken == a->nacks && a->heard < a->nready)
		r = hear(a, &a->workers[a->ready[a->heard++].data.u32]);
	if (r == 0 && a->taken == a->nacks && a->astray)
		r = -ENODEV;
	if (r < 0 || a->taken == a->nacks)
		return r;
	*ret = a->acks[a->taken++];
	return 1;
}

bool announce_is_ours(struct announce *a, pid_t tid)
{
	bool ours = false;

	if (!a || tid == 0)
		return false;
	pthread_mutex_lock(&a->lock);
	for (size_t i = 0; i < a->ntids; i++)
		ours = ours || a->tids[i] == tid;
	pthread_mutex_unlock(&a->lock);
	return ours;
}

bool announce_greeted(struct announce *a, pid_t tid, const char *name)
{
	bool greeted;

	if (!a || !str_has_prefix(name, SECRET_PREFIX))
		return false;
	pthread_mutex_lock(&a->lock);
	greeted = a->secret[0] && str_has_prefix(name, a->secret) &&
		  name[strlen(a->secret)] == '-' && a->ntids < ANNOUNCER_WORKERS;
	if (greeted && tid == 0)
		a->foreign = true;
	else if (greeted)
		a->tids[a->ntids++] = tid;
	pthread_mutex_unlock(&a->lock);
	return greeted;
}

pid_t announce_pid(struct announce *a)
{
	pid_t pid;

	pthread_mutex_lock(&a->lock);
	pid = a->pid;
	pthread_mutex_unlock(&a->lock);
	return pid;
}
