/*
 * namei: what stands at a name and what its attributes are: what is shown, less what people hid,
 * and scratch. Nothing here waits for the server.
 */
#ifndef FS_MOUNT_NAMEI_H
#define FS_MOUNT_NAMEI_H

#include "fs/mount/mount.h"

/* How long names and attributes stay true at the kernel's, as mount.seconds. */
#define NAMEI_SECONDS 1.0 /* nobody tells the kernel of names that come and go */
#define NAMEI_FOREVER 1e9

struct name {
	/* What a real thing of that name is, there or not; KIND_COUNT where none can be. */
	struct place path;
	uint64_t first; /* st_ino of what is shown there, or 0 */
	bool vacant;	/* no file of a tag is shown there, but one may be begun */
	bool hidden;	/* shown, but unlinked or renamed away */
	bool absent;	/* shown, but not to the caller, who made the directory */
	/* of an image that isn't there: the caller, or whoever started it, made the directory */
	bool copied;
	struct inode *scratch; /* what is seen is scratch; with a reference */
	uint64_t ino;	       /* of what is seen, 0: nothing */
	struct stat st;	       /* of what is seen */
	double seconds;	       /* how long the kernel may keep it, also that it isn't there */
};

/* A directory by its node: where it is and its st_ino. */
struct namei_dir {
	struct place path;
	uint64_t ino;
};

/*
 * What the thread sees at the name (0: what everybody sees), which is less in a directory that its
 * process made (fs/tree/acts.h). 0 also where nothing is seen. The caller calls name_release.
 * -ENAMETOOLONG.
 */
int namei_find(struct mount *m, const struct namei_dir *dir, const char *name, pid_t tid,
	struct name *ret);
void name_release(struct name *n);
#define _cleanup_name_ _cleanup_(name_release)

/* Attributes of an inode, also of one that is gone but open. -ENOENT. */
int namei_stat(struct mount *m, const struct place *path, uint64_t ino, struct stat *ret);
/* 0 where it has any, without counting a size that nobody asked for (imagestream.yaml). -ENOENT. */
int namei_check(struct mount *m, const struct place *path, uint64_t ino);

/* Of what is never looked up here: a selection or a link in one. -ENOENT. */
int namei_place(struct mount *m, const struct place *path, struct stat *ret);

/* The thread's process made the place, or removed it (enum act). */
void namei_note_act(struct mount *m, const struct place *place, pid_t tid, unsigned act);

/* Whether files can be made in the directory. */
bool namei_takes_scratch(struct mount *m, const struct namei_dir *dir);

/* st_ino of the directory that the real path stands in, 0 where that is gone. */
uint64_t namei_parent(struct mount *m, const struct place *path);

/*
 * Children after the cookie, in order, until fn answers true. `path` is what each is, `seconds` how
 * long the kernel may keep the name.
 */
typedef bool namei_fn(void *arg, const char *name, uint64_t cookie, const struct place *path,
	const struct stat *st, double seconds);
int namei_list(
	struct mount *m, const struct namei_dir *dir, uint64_t cookie, namei_fn *fn, void *arg);

/* NAMESPACE/STREAM/... as the user sees it, for messages. The caller frees. */
char *namei_text(const struct place *path);

#endif
