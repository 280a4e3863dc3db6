/*
 * imagestreamfs: options, start order, stop order.
 *
 * The process that was started waits for its child to say that the mount is up; threads and curl
 * start in the child, since neither survives a fork.
 */
#include "client/clock.h"
#include "client/descriptors.h"
#include "client/log.h"
#include "fs/device.h"
#include "fs/dotapi/events.h"
#include "fs/dotapi/pushed.h"
#include "fs/dotapi/responses.h"
#include "fs/dotapi/select.h"
#include "fs/mount/modes.h"
#include "fs/ops/ops.h"
#include "fs/ops/session.h"
#include "fs/options.h"
#include "fs/progress.h"
#include "fs/publish/remount.h"
#include "fs/save/deleted.h"
#include "fs/save/save.h"
#include "fs/service.h"
#include "fs/unmounter.h"
#include "version.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>

#define FUSE_THREADS  4
#define STATUS_MS     30000 /* how often systemd hears of the counts */
#define WAKE_INTERVAL 10    /* ms */
#define READERS_NS    (NSEC_PER_SEC / 4)

/* How long a start waits for a server that says that it will be there soon. */
#define START_SECONDS 30

/* An exec plugin asks a server, too, and perhaps another one before that. */
#define PLUGIN_TIMEOUTS 3

struct program {
	struct options options;
	struct mount mount;
	char *mountpoint;  /* absolute; NULL: who mounted the device knows it alone */
	int device_fd;	   /* -1: we mount */
	bool device_taken; /* by the session */
	struct fuse_session *_Atomic session;
	int ready_fd;		/* to the process that waits for us, or -1 */
	int unmounter_fd;	/* -1: none */
	int64_t start_deadline; /* monotonic ns */

	pthread_t main_thread, supervisor;
	atomic_bool ready; /* the mount is up */
	int signal_fd, finished_fd;
	atomic_bool finished;
};

static int complain(int error, const char *format, ...) _printf_(2, 3);
static int complain(int error, const char *format, ...)
{
	va_list ap;

	fputs("imagestreamfs: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	return error;
}

static int complain_of_thread(int error)
{
	return complain(-ENOMEM, "no thread can be made here: %s (ulimit -u, -v; TasksMax=)",
		strerror(-error));
}

/* ---- the mountpoint ---- */

/* Whoever mounts for an automount (x-systemd.automount) finds that there. */
static bool is_automount(const char *path)
{
	struct statfs st;

	return statfs(path, &st) == 0 && st.f_type == AUTOFS_SUPER_MAGIC;
}

static int check_mountpoint(const char *path)
{
	_cleanup_free_ char *above = xasprintf("%s/..", path);
	struct stat st, parent;

	if (mount_is_dead(path))
		mount_remove_dead(path);
	if (stat(path, &st) < 0)
		return complain(-errno, "%s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return complain(-ENOTDIR, "%s: not a directory", path);
	if (stat(above, &parent) == 0 && parent.st_dev != st.st_dev && !is_automount(path))
		return complain(-EBUSY, "%s: something is mounted there already", path);
	return 0;
}

/* Somebody else has mounted it already; and it answers only once we do. */
static int take_device(struct program *p)
{
	struct options *o = &p->options;

	if (!device_is_fuse(p->device_fd))
		return complain(-EINVAL, "%s: that is no /dev/fuse", o->mountpoint);
	p->mountpoint = device_mountpoint(p->device_fd);
	/* A mount that is read-only for the kernel, or isn't found, is none that can be announced on. */
	o->noevents = o->noevents || o->ro || !p->mountpoint;
	return 0;
}

/* Who mounted it has left the end to us, and perhaps the right to it. */
static void give_up_device(struct program *p)
{
	if (!p->device_taken)
		close(p->device_fd);
	if (!p->mountpoint || !mount_is_dead(p->mountpoint))
		return;
	mount_remove_dead(p->mountpoint);
	if (mount_is_dead(p->mountpoint))
		log_notice("%s is left to be unmounted: this process may not", p->mountpoint);
}

/* ---- going to the background ---- */

static volatile sig_atomic_t child_pid, child_signal;

static void forward(int signal)
{
	child_signal = signal;
	kill(child_pid, signal);
}

/* The exit status of a start that failed. The child has said why, unless a signal ended it. */
static int why_not_mounted(pid_t child)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return EXIT_FAILURE;
	if (child_signal) { /* as if it had been ours alone */
		signal(child_signal, SIG_DFL);
		raise(child_signal);
	}
	if (!WIFSIGNALED(status))
		return WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
	complain(0, "the background process died of signal %d (%s)", WTERMSIG(status),
		strsignal(WTERMSIG(status)));
	return EXIT_FAILURE;
}

/* What ends the start ends all of it. */
static void forward_signals(pid_t child)
{
	static const int stops[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = forward}, old;

	child_pid = child;
	for (size_t i = 0; i < ARRAY_SIZE(stops); i++)
		if (sigaction(stops[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(stops[i], &action, NULL);
}

static int wait_for_child(pid_t child, int fd)
{
	char byte;
	ssize_t n;

	forward_signals(child);
	while ((n = read(fd, &byte, 1)) < 0 && errno == EINTR)
		;
	return n == 1 ? EXIT_SUCCESS : why_not_mounted(child);
}

/*
 * Forks. In the child: 0, and p->ready_fd tells the parent. The parent doesn't come back: it ends
 * with success once the mount is up, else with failure (the child has said why). The child stays in
 * the process group until then: an automount lets nobody else through.
 */
static int go_to_background(struct program *p)
{
	pid_t parent = getpid(), pid;
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return complain(-errno, "pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		return complain(-errno, "fork: %s", strerror(errno));
	if (pid > 0) {
		close(fds[1]);
		if (p->device_fd >= 0)
			close(p->device_fd);
		_exit(wait_for_child(pid, fds[0]));
	}
	close(fds[0]);
	p->ready_fd = fds[1];
	/* Nobody looks at the pipe while the server is looked for (this thread's alone). */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		return complain(-EINTR, "the process that started us has gone");
	return 0;
}

/* The process that started us may go, and what it stood in. */
static void leave_terminal(struct program *p)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	log_to_background();
	for (int fd = 0; null >= 0 && fd <= 2; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	if (write(p->ready_fd, "", 1) != 1)
		log_info("the process that started us has gone");
}

/* How long ago the tree was last known to be true, in seconds: the longest of what is watched. */
static double age(struct program *p)
{
	_cleanup_json_ json_t *scopes = reflector_status(p->mount.reflector);
	const json_t *scope;
	double oldest = 0;
	size_t i;

	json_array_foreach(scopes, i, scope) {
		double seconds = json_number_value(json_object_get(scope, "ageSeconds"));

		oldest = seconds > oldest ? seconds : oldest;
	}
	return oldest;
}

static void tell_status(struct program *p)
{
	size_t namespaces, streams, bytes;

	store_counts(p->mount.store, &namespaces, &streams, &bytes);
	service_notify("STATUS=%zu namespaces, %zu imagestreams, %zu inodes known, true %.0f s ago",
		namespaces, streams, inode_count(p->mount.inodes), age(p));
}

static void tell_ready(struct program *p)
{
	atomic_store(&p->ready, true); /* first: then the supervisor knows why the pipe ends */
	if (p->ready_fd >= 0)
		leave_terminal(p);
	tell_status(p);
	service_notify("READY=1");
}

static int load_config(struct program *p)
{
	_cleanup_free_ char *error = NULL;
	int r = config_load(&p->options.flags, &p->mount.config, &error);

	if (r < 0)
		return complain(r, "%s", error);
	return 0;
}

/* ---- stopping ---- */

static void on_wake(int signal)
{
}

/* Who reads .api as it comes was told of the end, and has a moment to see it. */
static void wait_for_readers(struct program *p)
{
	struct timespec wait = timespec_from_ns(WAKE_INTERVAL * NSEC_PER_MSEC);
	int64_t end = now_monotonic() + READERS_NS;

	while (!atomic_load(&p->finished) && p->mount.inodes &&
		handle_first_reader(p->mount.inodes) && now_monotonic() < end)
		nanosleep(&wait, NULL);
}

/*
 * In this order: no more HTTP, then no notification under way (it may need a worker to come to its
 * end), then the session. fuse_session_exit() alone doesn't wake a loop that waits.
 */
static void stop(struct program *p)
{
	struct timespec wait = timespec_from_ns(WAKE_INTERVAL * NSEC_PER_MSEC);

	atomic_store(&p->mount.ending, true);
	login_stop(p->mount.login);
	reflector_stop(p->mount.reflector);
	rights_stop(p->mount.rights);
	pool_stop(p->mount.pool);
	pool_stop(p->mount.notifier);
	events_stop(p->mount.events);
	publish_stop(p->mount.publisher);
	wait_for_readers(p);
	while (!atomic_load(&p->finished)) {
		if (p->session) /* it may come only now */
			fuse_session_exit(p->session);
		pthread_kill(p->main_thread, SIGUSR1);
		nanosleep(&wait, NULL);
	}
}

static void *supervise(void *arg)
{
	struct program *p = arg;
	/* The end of the pipe that nobody reads any more: who started us was killed. */
	struct pollfd fds[] = {
		{p->signal_fd, POLLIN, 0}, {p->finished_fd, POLLIN, 0}, {p->ready_fd, 0, 0}};
	int r;

	for (;;) {
		r = poll(fds, ARRAY_SIZE(fds), STATUS_MS);
		if (r == 0)
			tell_status(p);
		if (atomic_load(&p->ready))
			fds[2].fd = -1;
		if (fds[0].revents || fds[1].revents || (fds[2].fd >= 0 && fds[2].revents))
			break;
	}
	if (!fds[1].revents) {
		service_notify("STOPPING=1");
		stop(p);
	}
	return NULL;
}

static int start_supervisor(struct program *p)
{
	struct sigaction wake = {.sa_handler = on_wake};
	sigset_t stops;
	int r;

	sigemptyset(&stops);
	sigaddset(&stops, SIGTERM);
	sigaddset(&stops, SIGINT);
	sigaddset(&stops, SIGHUP);
	p->signal_fd = signalfd(-1, &stops, SFD_CLOEXEC);
	p->finished_fd = eventfd(0, EFD_CLOEXEC);
	if (p->signal_fd < 0 || p->finished_fd < 0)
		return complain(-errno, "signalfd: %s", strerror(errno));
	p->main_thread = pthread_self();
	sigaction(SIGUSR1, &wake, NULL);
	r = -pthread_create(&p->supervisor, NULL, supervise, p);
	if (r < 0)
		return complain_of_thread(r);
	prctl(PR_SET_PDEATHSIG, 0); /* from here on that one looks at the pipe */
	return 0;
}

static void end_supervisor(struct program *p)
{
	uint64_t one = 1;

	atomic_store(&p->finished, true);
	if (write(p->finished_fd, &one, sizeof(one)) != sizeof(one))
		abort();
	pthread_join(p->supervisor, NULL);
	close(p->signal_fd);
	close(p->finished_fd);
}

/*
 * Every signal is blocked in every thread; the main thread alone can be woken. But not those that
 * say that the program has gone wrong: blocked, they would do nothing when another process sends
 * them.
 */
static void block_signals(void)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP};
	sigset_t all;

	sigfillset(&all);
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
		sigdelset(&all, faults[i]);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
}

static void let_main_be_woken(void)
{
	sigset_t wake;

	sigemptyset(&wake);
	sigaddset(&wake, SIGUSR1);
	pthread_sigmask(SIG_UNBLOCK, &wake, NULL);
}

/* ---- starting ---- */

/* Something lacks on this machine. */
static bool is_short(int r)
{
	return r == -EMFILE || r == -ENFILE || r == -ENOMEM || r == -EAGAIN;
}

/* The flags that a refusal of TLS may be about. */
static const char *tls_flags(const struct config_flags *f)
{
	if (f->certificate_authority && f->tls_server_name)
		return "--certificate-authority, --tls-server-name: ";
	if (f->certificate_authority)
		return "--certificate-authority: ";
	return f->tls_server_name ? "--tls-server-name: " : "";
}

static int connect_to_server(struct program *p)
{
	_cleanup_free_ char *error = NULL;
	struct mount *m = &p->mount;
	int timeout = p->options.request_timeout_ms, r;

	p->start_deadline = deadline_in_ms(START_SECONDS * 1000);
	if (timeout > START_SECONDS * 1000)
		p->start_deadline = deadline_in_ms(timeout);
	m->journal = journal_new();
	r = login_new(m->config, PLUGIN_TIMEOUTS * timeout, &m->login, &error);
	if (r < 0 && !is_short(r))
		r = -EKEYEXPIRED; /* whatever became of a file or a plugin: it is about them */
	if (r == 0)
		r = api_connect(m->login, m->journal, timeout, p->start_deadline, &m->api, &error);
	if (r == -EKEYEXPIRED && m->login &&
		login_renew(m->login)) { /* a plugin may keep what was revoked */
		free(steal_ptr(error));
		r = api_connect(m->login, m->journal, timeout, p->start_deadline, &m->api, &error);
	}
	if (r < 0)
		return complain(r, "%s%s", r == -EPROTO ? tls_flags(&p->options.flags) : "", error);
	return 0;
}

/*
 * Only its streams brought the namespace so far, while the list of them is still to come (again):
 * whether it goes with the last one is for that list to say.
 */
static void keep_namespace(struct mount *m, const char *key)
{
	_cleanup_free_ char *name = object_key_namespace(key);
	struct store_namespace ns;

	if (!store_get_namespace(m->store, name, &ns) && !shown_was_listed(m->shown, name) &&
		reflector_lists_namespaces(m->reflector))
		store_put_namespace(m->store, name, NULL, 0, 0);
}

/* The store's listener. */
static void on_change(void *arg, const char *key, enum store_event event, struct object *object)
{
	struct mount *m = arg;
	struct store_namespace ns;

	if (object && event != STORE_DELETED)
		history_note(m->history, object);
	if (object)
		events_add(m->events, event, object);
	if (object && event == STORE_DELETED)
		keep_namespace(m, key);
	if (!strchr(key, '/')) { /* perhaps it is our access that came or went */
		if (store_get_namespace(m->store, key, &ns))
			rights_doubt(m->rights, key);
		else
			rights_forget(m->rights, key);
		reflector_doubt(m->reflector, key);
	}
	publish_key(m->publisher, key);
}

/* The reflector's thread tells that one watch covers these names from now on, or not any more. */
static void on_covers(void *arg, const char *ns, bool covers)
{
	struct mount *m = arg;

	if (covers)
		publish_wait(m->publisher, NULL, PUBLISH_SHOWN, NULL,
			INT64_MAX); /* what is said to be all has to be shown */
	shown_set_ready(m->shown, ns, covers);
	if (!covers) /* what it kept as missing may be there by now */
		kernel_uncover(m->kernel, ns);
	if (!ns)
		rights_cover(m->rights, covers);
}

/* The rights' thread tells what the server said. */
static void on_rights(void *arg, const char *ns, const struct grants *grants)
{
	struct mount *m = arg;

	reflector_rights(m->reflector, ns, grants);
}

/* Without a thread of each pool nothing that is mounted would ever be answered. */
static int make_pools(struct program *p)
{
	struct mount *m = &p->mount;
	int timeout = p->options.request_timeout_ms;
	int r = pool_new(m->login, m->api->counts, POOL_THREADS, timeout, &m->pool);

	if (r == 0)
		r = pool_new(m->login, m->api->counts, 1, timeout, &m->notifier);
	return r < 0 ? complain_of_thread(r) : 0;
}

static void make_mount(struct program *p)
{
	struct mount *m = &p->mount;
	struct reflector_options options = {.watch_timeout = p->options.watch_timeout,
		.poll_interval = p->options.poll_interval,
		.confirm_interval = p->options.confirm_interval,
		.namespaces = p->options.namespaces,
		.selector = p->options.selector,
		.covers = on_covers,
		.arg = m};
	struct rights_listener listener = {modes_changed, on_rights, m};

	m->started = now_realtime();
	m->uid = p->options.uid;
	m->gid = p->options.gid;
	m->umask = p->options.umask;
	m->strict = p->options.allow_other && (m->umask & 0555);
	m->narrowed = p->options.namespaces;
	m->selector = p->options.selector;
	m->validation = p->options.validation;
	m->dry_run = m->api->dry_run = p->options.dry_run;
	m->cache = object_cache_new();
	m->noopen = p->options.noopen;
	m->read_only = p->options.read_only || m->noopen;
	m->nodelete = p->options.nodelete;
	m->indexes = indexes_new(m->journal);
	m->shown = shown_new(m->indexes);
	m->inodes = inode_table_new();
	m->bases = mergebase_new();
	m->acts = acts_new();
	m->history = history_new();
	m->events = events_new();
	m->pushed = pushed_new();
	m->responses = responses_new();
	m->selections = selections_new();
	m->deleted = deleted_new(m->config->server, m->journal);
	m->rejects = rejects_new(m->inodes, m->journal, m->config->server, m->uid, m->gid);
	m->announce = p->options.noevents ? NULL : announce_new(p->mountpoint);
	/* What the kernel keeps it gives to everybody. */
	m->seconds = m->strict ? 0 : m->announce ? NAMEI_FOREVER : NAMEI_SECONDS;
	m->kernel = kernel_new(m->shown, m->inodes);
	m->publisher = publish_new(&(struct publish_parts){m->shown, m->inodes, m->kernel, m->acts,
		m->announce, m->noopen, pushed_note, m->pushed});
	m->store = store_new(on_change, m);
	publish_set_store(m->publisher, m->store);
	m->rights = rights_new(
		m->api, p->options.rights_interval, 2 * p->options.confirm_interval, &listener);
	m->reflector = reflector_new(m->api, m->store, &options);
}

static void on_renewed(void *arg)
{
	reflector_renew(arg);
}

/* A user without a project would look for what is wrong. */
static void tell_of_emptiness(struct program *p)
{
	const struct mount *m = &p->mount;
	size_t namespaces, streams, bytes;

	store_counts(m->store, &namespaces, &streams, &bytes);
	if (!namespaces && !streams && !m->narrowed)
		log_notice("%s has no project that %s may see: the mount is empty until there is "
			   "one (`oc new-project`)",
			m->config->server, m->api->user ? m->api->user : "this user");
}

static size_t count_streams(void *store)
{
	size_t namespaces, streams, bytes;

	store_counts(store, &namespaces, &streams, &bytes);
	return streams;
}

/* The first lists: what is mounted is whole. */
static int fill(struct program *p)
{
	struct mount *m = &p->mount;
	struct progress *progress;
	_cleanup_free_ char *error = NULL;
	int r;

	r = publish_start(m->publisher);
	if (r == 0)
		r = login_start(m->login, on_renewed, m->reflector);
	if (r < 0)
		return complain_of_thread(r);
	reflector_start(m->reflector);
	progress = p->options.verbosity ? NULL : progress_begin(count_streams, m->store);
	r = reflector_wait_start(m->reflector, p->start_deadline, &error);
	progress_end(progress);
	if (r == -EINVAL && p->options.selector)
		return complain(r, "--selector %s: %s", p->options.selector, error);
	if (r == -ENOENT && p->options.namespaces)
		return complain(r, "--namespace: %s", error);
	if (r < 0)
		return complain(r, "%s", error);
	publish_wait(m->publisher, NULL, PUBLISH_SHOWN, NULL, INT64_MAX);
	shown_restart_inodes(m->shown);
	if (rights_start(m->rights, reflector_covers_cluster(m->reflector)) < 0)
		return complain_of_thread(-EAGAIN);
	tell_of_emptiness(p);
	return 0;
}

static int inval_inode(void *arg, uint64_t node_id)
{
	return fuse_lowlevel_notify_inval_inode(arg, node_id, 0, 0);
}

static void inval_attr(void *arg, uint64_t node_id)
{
	fuse_lowlevel_notify_inval_inode(arg, node_id, -1, 0);
}

static void inval_entry(void *arg, uint64_t parent_id, const char *name)
{
	fuse_lowlevel_notify_inval_entry(arg, parent_id, name, strlen(name));
}

/* The kubeconfig's URL is one value, whatever commas and backslashes it has. */
static char *name_options(const char *name)
{
	_cleanup_free_ char *fsname = xasprintf("fsname=%s", name);
	_cleanup_free_ char *options = NULL;

	if (fuse_opt_add_opt_escaped(&options, fsname) < 0)
		abort(); /* out of memory */
	return xasprintf("-o%s,subtype=imagestreamfs", options);
}

/* The mount table says ro, and nobody but the announcer gets as far as the program with a change. */
static void show_read_only(struct program *p)
{
	int r = remount_read_only(p->mountpoint);

	if (r == 0)
		announce_set_read_only(p->mount.announce);
	else /* it refuses all changes itself */
		log_info("the kernel takes the mount for writable: %s", strerror(-r));
}

static int open_session(struct program *p)
{
	struct kernel_notify notify = {
		.inval_inode = inval_inode, .inval_attr = inval_attr, .inval_entry = inval_entry};
	const char *given =
		p->options.flags.context ? p->options.flags.context : p->mount.config->server;
	_cleanup_free_ char *name = name_options(p->options.fsname ? p->options.fsname : given);
	_cleanup_free_ char *max_read = xasprintf("-omax_read=%ld", p->options.max_read);
	int r;

	if (p->options.max_read)
		fuse_opt_add_arg(&p->options.fuse, max_read);
	p->mount.max_read = p->options.max_read;
	if (p->mount.read_only && !p->mount.announce)
		fuse_opt_add_arg(&p->options.fuse, "-oro");
	fuse_opt_add_arg(&p->options.fuse, name);
	p->session = fuse_session_new(&p->options.fuse, &ops, sizeof(ops), &p->mount);
	if (!p->session)
		return -EINVAL; /* libfuse has said why */
	if (p->options.auto_unmount && p->mountpoint) {
		p->unmounter_fd = unmounter_start(p->mountpoint);
		if (p->unmounter_fd < 0)
			return complain(
				p->unmounter_fd, "auto_unmount: %s", strerror(-p->unmounter_fd));
	}
	/* libfuse knows /dev/fd/N, too. */
	if (fuse_session_mount(
		    p->session, p->device_fd < 0 ? p->mountpoint : p->options.mountpoint) < 0)
		return -EIO;
	p->device_taken = p->device_fd >= 0;
	r = session_begin(p->session);
	if (r < 0)
		return complain(
			-EIO, "the kernel gave the mount up before it was ready: %s", strerror(-r));
	if (p->mount.read_only && p->mount.announce && p->device_fd < 0)
		show_read_only(p);
	notify.arg = p->session;
	kernel_set_notify(p->mount.kernel, &notify);
	publish_wake(p->mount.publisher); /* there is something to announce to */
	return 0;
}

/*
 * With two processors a second one only takes turns with the first, which costs a seventh of a cold
 * walk. What waits for anything is the pool's, so one is enough.
 */
static long count_threads(const struct options *o)
{
	cpu_set_t ours;

	if (o->single_threaded || o->max_threads)
		return o->single_threaded ? 1 : o->max_threads;
	CPU_ZERO(&ours);
	if (sched_getaffinity(0, sizeof(ours), &ours) < 0)
		return FUSE_THREADS; /* of more processors than the set holds */
	return CPU_COUNT(&ours) <= 2 ? 1 : FUSE_THREADS;
}

static int serve(struct program *p)
{
	long threads = count_threads(&p->options);
	int r;

	let_main_be_woken();
	r = threads == 1 ? fuse_session_loop(p->session) : session_loop(p->session, threads);
	block_signals();
	if (r < 0)
		return complain(-EIO, "the session with the kernel broke: %s", strerror(-r));
	return 0;
}

/* Who shares the mount may lose what others changed, or be refused more often: they are to know. */
static void tell_of_callers(struct program *p)
{
	enum process_sight sight = process_sight();

	if (sight == PROCESS_HIDDEN && !p->options.allow_other)
		return; /* nobody else's processes get in */
	if (sight != PROCESS_TOLD)
		log_error("%s; their saves are compared with the oldest version that they were "
			  "shown in "
			  "the last 10 minutes",
			process_sight_text(sight));
}

static void release(struct program *p)
{
	struct mount *m = &p->mount;

	if (m->login)
		login_stop(m->login);
	if (m->reflector)
		reflector_stop(m->reflector);
	if (m->rights)
		rights_stop(m->rights);
	if (m->pool)
		pool_stop(m->pool);
	if (m->notifier)
		pool_stop(m->notifier);
	if (m->events)
		events_stop(m->events);
	if (m->publisher)
		publish_stop(m->publisher);
	if (m->inodes)
		save_keep_unsaved(m);
	if (p->session) {
		fuse_session_unmount(p->session);
		fuse_session_destroy(p->session);
	}
	if (p->unmounter_fd >= 0)
		close(p->unmounter_fd);
	while (m->inodes && handle_first_reader(m->inodes))
		op_close(m, handle_first_reader(m->inodes));
	reflector_free(m->reflector);
	rights_free(m->rights);
	pool_free(m->pool);
	pool_free(m->notifier);
	publish_free(m->publisher);
	kernel_free(m->kernel);
	announce_free(m->announce);
	store_free(m->store);
	mergebase_free(m->bases);
	acts_free(m->acts);
	history_free(m->history);
	events_free(m->events);
	pushed_free(m->pushed);
	responses_free(m->responses);
	selections_free(m->selections);
	rejects_free(m->rejects);
	deleted_free(m->deleted);
	inode_table_free(m->inodes);
	shown_free(m->shown);
	indexes_free(m->indexes);
	object_cache_free(m->cache);
	api_free(m->api);
	login_free(m->login);
	journal_free(m->journal);
}

static int run(struct program *p)
{
	int r = http_global_init();

	if (r == 0)
		r = connect_to_server(p);
	if (r == 0) {
		block_signals(); /* until here a signal just ends us */
		make_mount(p);
		r = make_pools(p);
	}
	if (r == 0)
		r = start_supervisor(p);
	if (r < 0)
		goto out;
	r = fill(p);
	if (r == 0)
		r = open_session(p);
	if (r == 0) {
		tell_ready(
			p); /* INIT is answered: what is asked for now waits for the loop alone */
		tell_of_callers(p);
		if (!p->mountpoint)
			log_notice("where it is mounted isn't known here: changes raise no inotify "
				   "events");
		r = serve(p);
	}
	end_supervisor(p);
out:
	release(p);
	http_global_cleanup();
	return r;
}

/* libfuse's own messages, in one line like ours. */
static void log_fuse(enum fuse_log_level level, const char *format, va_list ap) _printf_(2, 0);
static void log_fuse(enum fuse_log_level level, const char *format, va_list ap)
{
	log_vwrite(level <= FUSE_LOG_ERR ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, format, ap);
}

static int set_up_log(const struct options *o)
{
	struct log_options log = {.level = LOG_LEVEL_NOTICE + o->verbosity,
		.file = o->log_file,
		.json = o->log_json,
		.times = o->foreground && o->mountpoint};
	int r = log_setup(&log);

	fuse_set_log_func(log_fuse);
	return r < 0 ? complain(r, "--log-file: %s: %s", o->log_file, strerror(-r)) : 0;
}

enum { EXIT_USAGE = 2, EXIT_RIGHTS = 3, EXIT_AWAY = 4 };

/* What the man page says under EXIT STATUS. */
static int exit_status(int r)
{
	switch (-r) {
	case 0:
		return EXIT_SUCCESS;
	case EKEYEXPIRED:
	case EACCES:
		return EXIT_RIGHTS;
	case EAGAIN:
	case ECONNREFUSED:
	case ECONNRESET:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EPROTO:
	case ETIMEDOUT:
		return EXIT_AWAY;
	default:
		return EXIT_FAILURE;
	}
}

/* For a shell's completion. A name with a line end in it would be two. */
static int complete(const struct options *o)
{
	_cleanup_free_ char *error = NULL;
	_cleanup_json_ json_t *names = NULL;
	const json_t *name;
	size_t i;
	int r = config_list(&o->flags, streq(o->complete, "namespaces"), &names, &error);

	if (r < 0)
		return complain(r, "%s", error);
	json_array_foreach(names, i, name)
		if (!strchr(json_string_value(name), '\n'))
			puts(json_string_value(name));
	return 0;
}

/* What can be found wrong without the server. */
static int prepare(struct program *p)
{
	int r = set_up_log(&p->options);

	descriptors_raise();
	p->device_fd = device_open(p->options.mountpoint);
	if (r == 0 && p->device_fd >= 0)
		r = take_device(p);
	else if (r == 0)
		r = check_mountpoint(p->options.mountpoint);
	if (r == 0 && p->device_fd < 0)
		p->mountpoint = realpath(p->options.mountpoint, NULL);
	return r < 0 ? r : load_config(p);
}

static int start(struct program *p)
{
	int r = p->options.foreground ? 0 : go_to_background(p);

	if (r < 0)
		return r;
	if (p->ready_fd >= 0 && chdir("/") < 0)
		log_error("/: %s", strerror(errno));
	return run(p);
}

int main(int argc, char *argv[])
{
	struct program p = {.ready_fd = -1, .unmounter_fd = -1, .device_fd = -1};
	int status = EXIT_SUCCESS;

	if (argc > 0 && streq(argv[0], ANNOUNCER_ARGV0))
		return announcer_main(argc, argv);
	if (argc > 0 && streq(argv[0], UNMOUNTER_ARGV0))
		return unmounter_main(argc, argv);
	process_sight();
	prctl(PR_SET_DUMPABLE, 0); /* no core dump, no other process of the user's, sees a token */
	if (options_parse(&p.options, argc, argv) < 0) {
		options_release(&p.options);
		return EXIT_USAGE;
	}
	if (p.options.help)
		options_usage(stdout);
	else if (p.options.manual)
		options_manual(stdout);
	else if (p.options.version)
		puts("imagestreamfs " IMAGESTREAMFS_VERSION);
	else if (p.options.complete)
		status = complete(&p.options) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	else if (p.options.nothing)
		status = EXIT_SUCCESS;
	else if (prepare(&p) < 0)
		status = EXIT_FAILURE; /* no refusal of the server's, whatever the errno */
	else
		status = exit_status(start(&p));
	if (p.device_fd >= 0)
		give_up_device(&p);
	config_free(p.mount.config);
	free(p.mountpoint);
	options_release(&p.options);
	return status;
}
