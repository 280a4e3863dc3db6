/*
 * scratch: files, directories and symlinks that exist in memory only: what editors and people put
 * beside the real files. Never sent to the server, gone with the mount.
 *
 * A directory is named by its st_ino: a real one's (STREAM/ and TAG/), or that of a scratch one. A
 * node is counted: by its name and by those who hold it, so what is unlinked lives as long as it is
 * open. Thread-safe; its lock is a leaf.
 */
#ifndef FS_TREE_SCRATCH_H
#define FS_TREE_SCRATCH_H

#include "client/buf.h"
#include "client/clock.h"
#include "client/object.h"

#include <sys/stat.h>

#define SCRATCH_FILE_MAX  ((size_t)4 << 20)
#define SCRATCH_TOTAL_MAX ((size_t)64 << 20)
#define SCRATCH_AGE	  (24 * 3600 * NSEC_PER_SEC) /* closed and untouched for so long: removed */

struct scratch;
struct scratch_node;

struct scratch *scratch_new(void);
void scratch_free(struct scratch *s);

struct scratch_node *scratch_ref(struct scratch_node *n);
void scratch_unref(struct scratch_node *n); /* NULL is fine */

static inline void cleanup_scratch(struct scratch_node **n)
{
	scratch_unref(*n);
}
#define _cleanup_scratch_ _cleanup_(cleanup_scratch)

/* What a new node is. */
struct scratch_init {
	mode_t mode; /* type and permissions */
	uid_t uid;
	gid_t gid;
	const char *target;	/* of a symlink */
	uint64_t ino;		/* 0: a new one */
	struct object *version; /* of the stream at this moment, or NULL; a reference is taken */
	uint64_t moved_from;	/* st_ino of the real place that it was renamed away from, or 0 */
	const char *data;	/* its first bytes */
	size_t len;
	bool past_limit; /* what the program itself keeps isn't refused for its size */
};

/*
 * A new node under a name. With a reference for the caller. -EEXIST, -ENOSPC (data beyond
 * SCRATCH_TOTAL_MAX). `dir` 0: without a name, as if it had been unlinked at once.
 */
int scratch_create(struct scratch *s, uint64_t dir, const char *name,
	const struct scratch_init *init, struct scratch_node **ret);

/* What the program leaves there itself: in place of what has the name, past the total's limit. */
void scratch_put(
	struct scratch *s, uint64_t dir, const char *name, const struct scratch_init *init);

/* Gives a node without a name one, in place of what has it. -EISDIR. */
int scratch_link(struct scratch *s, uint64_t dir, const char *name, struct scratch_node *n);

/* With a reference for the caller, or NULL. */
struct scratch_node *scratch_lookup(struct scratch *s, uint64_t dir, const char *name);
struct scratch_node *scratch_get(struct scratch *s, uint64_t ino);

/* -ENOENT, -ENOTDIR, -EISDIR, -ENOTEMPTY as unlink and rmdir. */
int scratch_unlink(struct scratch *s, uint64_t dir, const char *name, bool directory);

/* As rename; what stands at the new name is replaced. `noreplace`: -EEXIST. */
int scratch_rename(struct scratch *s, uint64_t dir, const char *name, uint64_t new_dir,
	const char *new_name, bool noreplace);

/* The directory is gone, and what is in it, however deep, loses its name. */
void scratch_drop(struct scratch *s, uint64_t dir);

/* When something came to or went from the directory last (0: never), and its subdirectories. */
int64_t scratch_dir_mtime(struct scratch *s, uint64_t dir, unsigned *ret_subdirs);

/* Entries after the cookie (1 and up), in order, until fn answers true. */
typedef bool scratch_fn(void *arg, const char *name, uint64_t cookie, const struct stat *st);
void scratch_list(struct scratch *s, uint64_t dir, uint64_t cookie, scratch_fn *fn, void *arg);

uint64_t scratch_ino(const struct scratch_node *n);
void scratch_stat(struct scratch *s, struct scratch_node *n, struct stat *ret);
/* Symlink's target; borrowed, it never changes. */
const char *scratch_target(const struct scratch_node *n);
/* Of scratch_init; borrowed. */
struct object *scratch_version(const struct scratch_node *n);
/* The place that these very bytes were renamed away from: 0 once they were written to. */
uint64_t scratch_moved_from(struct scratch *s, struct scratch_node *n);

/* A count of open handles: what is open isn't removed for its age. */
void scratch_hold(struct scratch *s, struct scratch_node *n, int by);

/* Up to `size` bytes from the offset into a new buffer (the caller frees). */
char *scratch_read(
	struct scratch *s, struct scratch_node *n, uint64_t offset, size_t size, size_t *ret_len);
/* -EFBIG, -ENOSPC. `append`: to the end. */
int scratch_write(struct scratch *s, struct scratch_node *n, const char *data, size_t len,
	uint64_t offset, bool append);
int scratch_truncate(struct scratch *s, struct scratch_node *n, uint64_t size);

/* chmod, chown and times; what is negative or (id_t)-1 stays. Times in ns since 1970. */
void scratch_set(struct scratch *s, struct scratch_node *n, int mode, uid_t uid, gid_t gid,
	int64_t atime, int64_t mtime);

/* Bytes and names in use. */
void scratch_usage(struct scratch *s, size_t *ret_bytes, size_t *ret_nodes);

#endif
