/*
 * remount: a mount that is read-only for everybody but the announcer.
 *
 * The kernel lets nobody change anything on a read-only mount, and so would raise no events there.
 * But each mount of a filesystem has a flag of its own (mount_setattr(2)): what stands at the path
 * is made read-only, and the announcer works on one that nobody sees.
 */
#ifndef FS_PUBLISH_REMOUNT_H
#define FS_PUBLISH_REMOUNT_H

/* Needs CAP_SYS_ADMIN and Linux 5.12. 0 or -errno; -ENOSYS where it was built without. */
int remount_read_only(const char *path);

/*
 * Another mount of what is mounted at `fd`, which may be O_PATH; one that can be written to. It goes
 * when it is closed. -errno as above.
 */
int remount_writable(int fd);

#endif
