#include "fs/process.h"

#include <errno.h>
#include <signal.h>

#define STATUS_MAX 65536

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

bool process_identify(pid_t tid, struct process_id *ret)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/status", tid);
	_cleanup_free_ char *status = NULL;
	struct process_id id;
	const char *line;
	unsigned long start;
	size_t len;

	*ret = (struct process_id){0};
	if (tid == 0 || read_file(path, STATUS_MAX, &status, &len) < 0)
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
