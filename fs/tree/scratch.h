/*
 * scratch: the SCRATCH inodes of fs/tree/inode.h: files, directories and symlinks that exist in memory only, what
 * editors and people put beside the real files. Never sent to the server, gone with the mount.
 *
 * A directory is named by its st_ino: a real one's (STREAM/ and TAG/), or that of a scratch one. What is
 * unlinked lives as long as it is open or pinned. Thread-safe, under the table's lock.
 */
#ifndef FS_TREE_SCRATCH_H
#define FS_TREE_SCRATCH_H

#include "client/clock.h"
#include "client/object.h"
#include "fs/tree/inode.h"

#include <sys/stat.h>

#define SCRATCH_FILE_MAX ((size_t)4 << 20)

/* What a new one is. */
struct scratch_init {
	mode_t mode; /* type and permissions */
	uid_t uid;
	gid_t gid;
	const char *target;	/* of a symlink */
	int64_t mtime;		/* ns since 1970; 0: now */
	struct object *version; /* of the stream at this moment, or NULL; a reference is taken */
	uint64_t moved_from;	/* what it was renamed away from (fs/tree/inode.h: first), or 0 */
	const char *data;	/* its first bytes */
	size_t len;
	bool past_limit; /* what the program itself keeps isn't refused for its size */
};

/*
 * A new one under a name, in a directory (`dir`: its st_ino) that stands at `path`. Pinned for the caller. -EEXIST,
 * -ENOSPC (data beyond SCRATCH_TOTAL_MAX, or SCRATCH_NAMES_MAX names). `dir` 0: without a name, as if it had been unlinked at once.
 */
int scratch_create(struct inode_table *t, uint64_t dir, const struct place *path, const char *name,
	const struct scratch_init *init, struct inode **ret);

/* What the program leaves there itself: in place of what has the name, past the limits. */
void scratch_put(struct inode_table *t, uint64_t dir, const struct place *path, const char *name,
	const struct scratch_init *init);

/* Pinned for the caller, or NULL. */
struct inode *scratch_lookup(struct inode_table *t, uint64_t dir, const char *name);
struct inode *scratch_get(struct inode_table *t, uint64_t ino);

/* What a real file becomes that leaves its place. */
struct scratch_to {
	struct scratch_init init;
	uint64_t dir; /* where it gets a name; 0: it has none */
	const char *name;
};

/*
 * The inode leaves its place: it stood for `first` (0: it is PENDING) at `path`, and is SCRATCH now. The name is
 * hidden. Pinned for the caller. -ENOENT: it doesn't stand there (any more). -EISDIR, -ENOSPC.
 */
int scratch_leave(struct inode_table *t, uint64_t ino, uint64_t first, const struct place *path,
	const struct scratch_to *to, struct inode **ret);

/*
 * Scratch stands for `first`, which `snapshot` shows at `path`, from now on, its handles with it, and loses its name; who stood there is GONE, and so is
 * the file that was begun under that name in the directory (`dir`: its st_ino). -ENOENT: it isn't scratch any more.
 */
int scratch_take(struct inode_table *t, struct inode *n, uint64_t dir, const struct place *path,
	uint64_t first, struct snapshot *snapshot);

/* -ENOENT, -ENOTDIR, -EISDIR, -ENOTEMPTY as unlink and rmdir. */
int scratch_unlink(struct inode_table *t, uint64_t dir, const char *name, bool directory);

/* As rename, to a directory at `new_path`; what stands at the new name is replaced. `noreplace`: -EEXIST. */
int scratch_rename(struct inode_table *t, uint64_t dir, const char *name, uint64_t new_dir,
	const struct place *new_path, const char *new_name, bool noreplace);

/* When something came to or went from the directory last (0: never), and its subdirectories. */
int64_t scratch_dir_mtime(struct inode_table *t, uint64_t dir, unsigned *ret_subdirs);

/*
 * Names after the cookie (1 and up), in order, until fn answers true. `kind` isn't KIND_SCRATCH for a file that
 * was begun (inode_begin), of which `st` says nothing.
 */
typedef bool scratch_fn(
	void *arg, const char *name, uint64_t cookie, enum kind kind, const struct stat *st);
void scratch_list(struct inode_table *t, uint64_t dir, uint64_t cookie, scratch_fn *fn, void *arg);

uint64_t scratch_ino(const struct inode *n);
void scratch_stat(struct inode_table *t, struct inode *n, struct stat *ret);
/* Symlink's target; borrowed, it never changes. */
const char *scratch_target(const struct inode *n);
/* Of scratch_init; borrowed. */
struct object *scratch_version(const struct inode *n);
/* The place that these very bytes were renamed away from: 0 once they were written to. */
uint64_t scratch_moved_from(struct inode_table *t, struct inode *n);

/* Up to `size` bytes from the offset into a new buffer (the caller frees). */
char *scratch_read(
	struct inode_table *t, struct inode *n, uint64_t offset, size_t size, size_t *ret_len);
/* -EFBIG, -ENOSPC. `append`: to the end. */
int scratch_write(struct inode_table *t, struct inode *n, const char *data, size_t len,
	uint64_t offset, bool append);
int scratch_truncate(struct inode_table *t, struct inode *n, uint64_t size);

/* chmod, chown and times; what is negative or (id_t)-1 stays. Times in ns since 1970. */
void scratch_set(struct inode_table *t, struct inode *n, int mode, uid_t uid, gid_t gid,
	int64_t atime, int64_t mtime);

/* Bytes and inodes in use. */
void scratch_usage(struct inode_table *t, size_t *ret_bytes, size_t *ret_nodes);

#endif
