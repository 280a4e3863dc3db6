#include "fs/device.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define DEVICE_MAJOR 10 /* Linux's Documentation/admin-guide/devices.txt: /dev/fuse */
#define DEVICE_MINOR 229

int device_open(const char *mountpoint)
{
	int fd, end = 0;

	/* As libfuse reads it (fuse_session_mount). */
	if (sscanf(mountpoint, "/dev/fd/%d%n", &fd, &end) != 1 || mountpoint[end] || fd < 0)
		return -1;
	fcntl(fd, F_SETFD, FD_CLOEXEC); /* a mount lives as long as anybody has its device open */
	return fd;
}

bool device_is_fuse(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) &&
	       st.st_rdev == makedev(DEVICE_MAJOR, DEVICE_MINOR);
}

/* The number of the connection, which is the minor number of the mount's st_dev; -1: not told. */
static int connection_of(int fd)
{
	_cleanup_free_ char *path = xasprintf("/proc/self/fdinfo/%d", fd);
	FILE *f = fopen(path, "re");
	char line[128];
	int number = -1;

	while (f && number < 0 && fgets(line, sizeof(line), f))
		if (sscanf(line, "fuse_connection: %d", &number) != 1)
			number = -1;
	if (f)
		fclose(f);
	return number;
}

/* What mountinfo writes as \040 and the like. */
static void unescape(char *text)
{
	char *out = text;

	for (; *text; text++) {
		unsigned char byte;

		if (text[0] == '\\' && sscanf(text + 1, "%3hho", &byte) == 1) {
			*out++ = (char)byte;
			text += 3;
		} else {
			*out++ = *text;
		}
	}
	*out = '\0';
}

/*
 * proc(5): "36 35 0:98 / /mnt rw,noatime master:1 - fuse.name source rw". NULL: it is no FUSE mount,
 * a part of one, or not that one's.
 */
static char *path_of(char *line, int connection)
{
	enum { DEVICE = 2, ROOT, PATH, FIELDS };
	bool is_fuse = strstr(line, " - fuse.");
	char *fields[FIELDS];
	int minor;

	for (int i = 0; i < FIELDS; i++)
		if (!(fields[i] = strsep(&line, " ")))
			return NULL;
	if (!is_fuse || !streq(fields[ROOT], "/") || sscanf(fields[DEVICE], "0:%d", &minor) != 1 ||
		(connection >= 0 && minor != connection))
		return NULL;
	unescape(fields[PATH]);
	return xstrdup(fields[PATH]);
}

char *device_find(FILE *mountinfo, int connection)
{
	char *line = NULL, *found = NULL;
	size_t size = 0;

	while (getline(&line, &size, mountinfo) > 0) {
		char *path = path_of(line, connection);

		if (path) {
			free(found);
			found = path;
		}
	}
	free(line);
	return found;
}

char *device_mountpoint(int fd)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *found = f ? device_find(f, connection_of(fd)) : NULL;

	if (f)
		fclose(f);
	return found;
}
