#include "fs/tree/process.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#define STATUS_MAX  65536
#define GENERATIONS 64 /* how far up it is looked for an ancestor */

static pthread_once_t looked = PTHREAD_ONCE_INIT;
static enum process_sight sight;

/* The numbers in /proc are those of the pid namespace that it was mounted in. */
static bool proc_is_ours(void)
{
	char target[32] = "";

	return readlink("/proc/self", target, sizeof(target) - 1) > 0 && atoi(target) == getpid();
}

static void look(void)
{
	if (!proc_is_ours())
		sight = PROCESS_NO_PROC;
	else if (getpid() == 1)
		sight = PROCESS_OUTSIDE;
	else if (access("/proc/1/status", R_OK) < 0)
		sight = PROCESS_HIDDEN;
}

enum process_sight process_sight(void)
{
	pthread_once(&looked, look);
	return sight;
}

const char *process_sight_text(enum process_sight s)
{
	switch (s) {
	case PROCESS_OUTSIDE:
		return "this program is the first of a pid namespace: processes outside of it "
		       "can't be told from each other";
	case PROCESS_HIDDEN:
		return "/proc hides other users' processes: these can't be told from each other";
	case PROCESS_NO_PROC:
		return "/proc is not there, or another pid namespace's: processes can't be told "
		       "from each other";
	default:
		return NULL;
	}
}

/* /proc/TID/NAME of the caller; false where nobody can tell. The caller frees *ret. */
static bool read_proc(pid_t tid, const char *name, char **ret)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/%s", tid, name);
	size_t len;

	return tid > 0 && process_sight() != PROCESS_NO_PROC &&
	       read_file(path, STATUS_MAX, ret, &len) == 0;
}

/* Field `n` (from 3 on) of /proc/TID/stat (proc(5)); what stands before may hold spaces. */
static bool stat_field(pid_t tid, int n, unsigned long *ret)
{
	_cleanup_free_ char *text = NULL;
	const char *p;

	if (!read_proc(tid, "stat", &text))
		return false;
	p = strrchr(text, ')');
	for (int i = 2; p && i < n; i++)
		p = strchr(p + 1, ' ');
	if (!p)
		return false;
	*ret = strtoul(p + 1, NULL, 10);
	return true;
}

bool process_identify(pid_t tid, struct process_id *ret)
{
	_cleanup_free_ char *status = NULL;
	struct process_id id;
	const char *line;
	unsigned long start;

	*ret = (struct process_id){0};
	if (!read_proc(tid, "status", &status))
		return false;
	line = strstr(status, "\nTgid:");
	id.tgid = line ? strtol(line + 6, NULL, 10) : 0;
	if (!stat_field(id.tgid, 22, &start))
		return false;
	id.start = start;
	*ret = id;
	return true;
}

bool process_is_alive(const struct process_id *id)
{
	unsigned long start;

	return stat_field(id->tgid, 22, &start) && start == id->start;
}

bool process_is_stopped(const struct process_id *id)
{
	_cleanup_free_ char *text = NULL;
	const char *p = NULL;

	if (read_proc(id->tgid, "stat", &text))
		p = strrchr(text, ')');
	return p && strlen(p) > 2 && (p[2] == 'T' || p[2] == 't');
}

bool process_descends(pid_t tid, const struct process_id *ancestor)
{
	struct process_id id;
	unsigned long parent = tid;

	for (int i = 0; i < GENERATIONS && parent > 0; i++) {
		if (!process_identify(parent, &id))
			return false;
		if (process_id_equal(&id, ancestor))
			return true;
		if (!stat_field(id.tgid, 4, &parent))
			return false;
	}
	return false;
}

#define PF_EXITING  0x00000004ul /* include/linux/sched.h */
#define PF_SIGNALED 0x00000400ul

/* 0 where the caller has a program that we may know of; else -errno. */
static int find_program(pid_t tid)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/exe", tid);
	char target[1];

	return readlink(path, target, sizeof(target)) < 0 ? -errno : 0;
}

/* Whether the kernel hides from us what only the process's owner may know (ptrace(2)). */
static bool is_hidden(pid_t tid)
{
	return find_program(tid) == -EACCES;
}

/*
 * Whether the caller has its memory, and with it a program: who ends gives it up before its files
 * (do_exit). One call, where /proc/TID/stat takes four and the kernel counts for it. False also where
 * we may not know.
 */
static bool has_program(pid_t tid)
{
	return tid > 0 && process_sight() != PROCESS_NO_PROC && find_program(tid) == 0;
}

bool process_is_killed(pid_t tid)
{
	unsigned long flags, exit_code;

	if (has_program(tid))
		return false;
	if (!stat_field(tid, 9, &flags) || !(flags & PF_EXITING) || !(flags & PF_SIGNALED))
		return false;
	/* exit() of one thread takes the others along as if by a signal: the code tells. */
	if (!stat_field(tid, 52, &exit_code))
		return true;
	return exit_code == 0 ? is_hidden(tid) : exit_code & 0x7f;
}

static bool mask_line(const char *status, const char *name, uint64_t *ret)
{
	const char *line = strstr(status, name);

	return line && sscanf(line + strlen(name), " %lx", ret) == 1;
}

bool process_told_to_stop(pid_t tid)
{
	static const int stops[] = {SIGINT, SIGQUIT, SIGHUP, SIGTERM, SIGKILL};
	_cleanup_free_ char *status = NULL;
	uint64_t own = 0, shared = 0, blocked = 0, ignored = 0, pending;

	if (!read_proc(tid, "status", &status))
		/* a resized terminal interrupts, too: nobody can tell that it isn't */
		return false;
	if (!mask_line(status, "\nSigPnd:", &own) || !mask_line(status, "\nShdPnd:", &shared) ||
		!mask_line(status, "\nSigBlk:", &blocked) ||
		!mask_line(status, "\nSigIgn:", &ignored))
		return false;
	pending = (own | shared) & ~blocked & ~ignored;
	for (size_t i = 0; i < ARRAY_SIZE(stops); i++)
		if (pending & (UINT64_C(1) << (stops[i] - 1)))
			return true;
	return false;
}
