/*
 * kernel: what the kernel is told outside of its own calls: bytes, attributes, listings and names
 * that aren't true any more; and which names it may keep as missing. Thread-safe.
 */
#ifndef FS_PUBLISH_KERNEL_H
#define FS_PUBLISH_KERNEL_H

#include "fs/tree/inode.h"
#include "fs/tree/shown.h"

struct kernel;

/* How it is told; behind this the tree can be tested without a mount. From any thread. */
struct kernel_notify {
	/* -ENOENT: the kernel doesn't know it, or an answer that names it is still on its way. */
	int (*inval_inode)(void *arg, uint64_t id);
	/* The attributes alone: waits for nothing, not for a page that is being read either. */
	void (*inval_attr)(void *arg, uint64_t id);
	/* May wait for a call that holds the directory. */
	void (*inval_entry)(void *arg, uint64_t parent_id, const char *name);
	void *arg;
};

/* Both are borrowed. */
struct kernel *kernel_new(struct shown *shown, struct inode_table *inodes);
void kernel_free(struct kernel *k); /* NULL is fine */

/* The mount is there: from now on the kernel is told. */
void kernel_set_notify(struct kernel *k, const struct kernel_notify *notify);
bool kernel_is_told(const struct kernel *k);

/* No name is being forgotten any more, or will be: what is unmounted is forgotten whole. */
void kernel_stop(struct kernel *k);

/*
 * Drops what the kernel keeps of the inode: pages, attributes, of a directory its listing. `id` 0:
 * of none. 0 or -ENOENT, as inval_inode; 0 before there is a mount.
 */
int kernel_inval(struct kernel *k, uint64_t id);
/* The same by the st_ino. */
void kernel_inval_ino(struct kernel *k, uint64_t ino);
void kernel_inval_attr(struct kernel *k, uint64_t id);

/* The id of the directory that the place's name stands in; 0: the kernel knows of none. */
uint64_t kernel_directory(struct kernel *k, const struct place *place);

/* ---- names to be forgotten ---- */

/*
 * The kernel has to forget the place's name. That may wait for a call that holds the directory, and
 * such a call may wait for us: so a thread of its own does it.
 */
void kernel_forget_name(struct kernel *k, const struct place *place);
/* The same of the directory's listing alone: what stands there stays. */
void kernel_forget_listing(struct kernel *k, const struct place *place);
/* Makes the thread where it couldn't be made before. False where it can't now: the names wait. */
bool kernel_keep_forgetting(struct kernel *k);

/* ---- names that are missing ---- */

/*
 * A name at the root (`ns` "") or in a namespace is missing, and a watch covers it: whether the
 * kernel may keep that without an end. False beyond a number of names, and where a watch ended
 * since kernel_coverage, which is asked for before it is known whether one covers the name.
 */
uint64_t kernel_coverage(struct kernel *k);
bool kernel_keeps_missing(struct kernel *k, uint64_t coverage, const char *ns, const char *name);

/* The namespace or stream is there now; the namespace, with the names in it, isn't any more. */
void kernel_name_came(struct kernel *k, const struct place *place);
void kernel_namespace_went(struct kernel *k, const char *ns);

/*
 * No watch covers the namespace's streams (NULL: the cluster's namespaces and streams) any more:
 * what the kernel keeps as missing there is dropped. To be called once the reflector says so
 * itself: what is looked up from then on is asked for.
 */
void kernel_uncover(struct kernel *k, const char *ns);

#endif
