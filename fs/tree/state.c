#include "fs/tree/state.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdatomic.h>
#include <sys/stat.h>

/* basedir-spec: an absolute $XDG_STATE_HOME, else ~/.local/state. */
static char *state_home(void)
{
	const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	struct passwd *user;

	if (xdg && xdg[0] == '/')
		return xstrdup(xdg);
	if (!home || home[0] != '/') {
		user = getpwuid(getuid());
		home = user ? user->pw_dir : NULL;
	}
	return home ? xasprintf("%s/.local/state", home) : NULL;
}

char *state_directory(const char *kind, const char *server)
{
	_cleanup_free_ char *home = state_home(), *name = NULL;
	const char *host = strstr(server, "://");

	if (!home)
		return NULL;
	name = xstrdup(host ? host + 3 : server);
	for (char *p = name; *p; p++)
		if (*p == '/')
			*p = '_';
	return xasprintf("%s/imagestreamfs/%s%s%s", home, kind ? kind : "", kind ? "/" : "", name);
}

int state_make_directories(char *path)
{
	for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		int r;

		*p = '\0';
		r = mkdir(path, 0700);
		*p = '/';
		if (r < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

static int write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			data += n;
			len -= n;
		}
	}
	return fsync(fd) < 0 ? -errno : 0;
}

int state_make_free(const char *path, char **ret)
{
	for (unsigned i = 1;; i++) {
		_cleanup_free_ char *name = i == 1 ? xstrdup(path) : xasprintf("%s.%u", path, i);
		_cleanup_close_ int fd =
			open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

		if (fd >= 0) {
			*ret = steal_ptr(name);
			return 0;
		}
		if (errno != EEXIST)
			return -errno;
	}
}

int state_write(const char *path, const char *data, size_t len)
{
	static atomic_uint serial;
	_cleanup_free_ char *temporary = xasprintf("%s.%d.%u", path, getpid(), ++serial);
	_cleanup_close_ int fd =
		open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0)
		return -errno;
	r = write_all(fd, data, len);
	if (r == 0 && rename(temporary, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(temporary);
	return r;
}
