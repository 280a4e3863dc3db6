#include "fs/process.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>

#define STATUS_MAX 65536

bool process_is_alive(pid_t tid)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d", tid);

	return access(path, F_OK) == 0;
}

bool process_same(pid_t tid, pid_t other)
{
	_cleanup_free_ char *path = NULL;

	if (tid == other || tid == 0 || other == 0)
		return true;
	/* Any thread's directory lists the threads of its process. */
	path = xasprintf("/proc/%d/task/%d", tid, other);
	return access(path, F_OK) == 0;
}

void process_threads(pid_t tid, bool (*fn)(void *arg, pid_t tid), void *arg)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/task", tid);
	DIR *dir = opendir(path);
	struct dirent *d;
	bool done = false;

	while (dir && !done && (d = readdir(dir)))
		if (d->d_name[0] != '.')
			done = fn(arg, strtol(d->d_name, NULL, 10));
	if (dir)
		closedir(dir);
}

/* Field `n` (from 3 on) of /proc/TID/stat (proc(5)); what stands before may hold spaces. */
static bool stat_field(pid_t tid, int n, unsigned long *ret)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/stat", tid);
	_cleanup_free_ char *text = NULL;
	const char *p;
	size_t len;

	if (tid == 0 || read_file(path, STATUS_MAX, &text, &len) < 0)
		return false;
	p = strrchr(text, ')');
	for (int i = 2; p && i < n; i++)
		p = strchr(p + 1, ' ');
	if (!p)
		return false;
	*ret = strtoul(p + 1, NULL, 10);
	return true;
}

#define PF_EXITING  0x00000004ul /* include/linux/sched.h */
#define PF_SIGNALED 0x00000400ul

/* Whether the kernel hides from us what only the process's owner may know (ptrace(2)). */
static bool is_hidden(pid_t tid)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/exe", tid);
	char target[1];

	return readlink(path, target, sizeof(target)) < 0 && errno == EACCES;
}

bool process_is_killed(pid_t tid)
{
	unsigned long flags, exit_code;

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
	_cleanup_free_ char *path = xasprintf("/proc/%d/status", tid);
	_cleanup_free_ char *status = NULL;
	uint64_t own = 0, shared = 0, blocked = 0, ignored = 0, pending;
	size_t len;

	if (tid == 0 || read_file(path, STATUS_MAX, &status, &len) < 0)
		return true; /* out of our sight, or gone */
	if (!mask_line(status, "\nSigPnd:", &own) || !mask_line(status, "\nShdPnd:", &shared) ||
		!mask_line(status, "\nSigBlk:", &blocked) ||
		!mask_line(status, "\nSigIgn:", &ignored))
		return true;
	pending = (own | shared) & ~blocked & ~ignored;
	for (size_t i = 0; i < ARRAY_SIZE(stops); i++)
		if (pending & (UINT64_C(1) << (stops[i] - 1)))
			return true;
	return false;
}
