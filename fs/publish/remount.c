#include "fs/publish/remount.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef SYS_mount_setattr
#include <linux/mount.h>

static int set_attr(int fd, const char *path, struct mount_attr attr)
{
	int flags = *path ? 0 : AT_EMPTY_PATH;

	return syscall(SYS_mount_setattr, fd, path, flags, &attr, sizeof(attr)) < 0 ? -errno : 0;
}

int remount_read_only(const char *path)
{
	return set_attr(AT_FDCWD, path, (struct mount_attr){.attr_set = MOUNT_ATTR_RDONLY});
}

int remount_writable(int fd)
{
	int copy =
		syscall(SYS_open_tree, fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	int r;

	if (copy < 0)
		return -errno;
	r = set_attr(copy, "", (struct mount_attr){.attr_clr = MOUNT_ATTR_RDONLY});
	if (r < 0)
		close(copy);
	return r < 0 ? r : copy;
}
#else
int remount_read_only(const char *path)
{
	return -ENOSYS;
}

int remount_writable(int fd)
{
	return -ENOSYS;
}
#endif
