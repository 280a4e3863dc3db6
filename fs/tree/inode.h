/*
 * inode: what the kernel and people made of the tree that the server has: one table under one lock.
 *
 * Three numbers: `id` is what the kernel calls an inode, never used again; `ino` is its st_ino;
 * `first` is the st_ino that fs/tree/shown gives to what it shows at a place, for which usually the
 * inode of that st_ino stands, and after a rename or an unlink another one.
 *
 *   SHOWN   --unlink, rename away--> HIDDEN --2 s--> SHOWN, as a new inode
 *   (none)  --create, not on the server--> PENDING --saved--> SHOWN; 2 s after its last close:
 *           GONE
 *   SHOWN   --rename away--> SCRATCH, taking its ino and its handles along
 *   SCRATCH --renamed over a real name, accepted--> SHOWN; the inode that stood there --> GONE
 *   SHOWN   --the server's deletion, rmdir--> GONE: never shown again; what comes back is another
 *
 * An inode that is only SHOWN, with the st_ino that it had first, and that the kernel doesn't know
 * has no entry. Thread-safe; the lock is a leaf.
 */
#ifndef FS_TREE_INODE_H
#define FS_TREE_INODE_H

#include "client/clock.h"
#include "fs/tree/snapshot.h"

#define INODE_ROOT 1 /* its id, and its st_ino */

/* So long a name stays hidden, and a file that was never saved is kept after its last close. */
#define INODE_HIDDEN_NS (2 * NSEC_PER_SEC)

/* Of all scratch (fs/tree/scratch.h). */
#define SCRATCH_TOTAL_MAX ((size_t)64 << 20)
#define SCRATCH_NAMES_MAX 10000
#define SCRATCH_AGE                                                                                \
	(24 * 3600 * NSEC_PER_SEC) /* closed and untouched for so long: it loses its name */

struct inode_table;
struct inode;

struct inode_table *inode_table_new(void);
void inode_table_free(struct inode_table *t); /* NULL is fine */

/* Scratch that a process works on stays until it is given back. */
struct inode *inode_pin(struct inode *n);
void inode_unpin(struct inode *n); /* NULL is fine */

static inline void cleanup_inode(struct inode **n)
{
	inode_unpin(*n);
}
#define _cleanup_inode_ _cleanup_(cleanup_inode)

/* ---- what the kernel knows ---- */

/* One lookup more of the inode, which is made where there is none. Returns its id. */
uint64_t inode_lookup(struct inode_table *t, const struct place *path, uint64_t ino);
/* Takes `count` lookups back. */
void inode_forget(struct inode_table *t, uint64_t id, uint64_t count);
/* What the id stands for. False for an id that isn't known. */
bool inode_get(struct inode_table *t, uint64_t id, struct place *ret_path, uint64_t *ret_ino);
/* The id of an inode that the kernel knows and that isn't GONE, or 0. */
uint64_t inode_id(struct inode_table *t, uint64_t ino);
/* The same of the inode that stands for what is shown. */
uint64_t inode_id_at(struct inode_table *t, uint64_t first);
/* How many the kernel knows. */
size_t inode_count(struct inode_table *t);
/*
 * How often an inode has become known so far; it grows before inode_lookup returns. Borrowed. Where
 * it is the same under another module's lock as before an inode_id that found nothing, all that is
 * asked of that inode from now on comes after what is done under that lock.
 */
const atomic_uint_fast64_t *inode_known(struct inode_table *t);

/*
 * Calls fn for each inode of the namespace that the kernel may know, under the lock: fn may take no
 * other one.
 */
typedef void inode_fn(void *arg, const struct place *path, uint64_t ino);
void inode_foreach(struct inode_table *t, const char *ns, inode_fn *fn, void *arg);

/*
 * With -o noopen, where the kernel tells of no open: what is shown vanishes, and as long as the
 * kernel knows the inode, a process may have it open. A reference is taken. inode_last: one to give
 * back, or NULL.
 */
void inode_keep(struct inode_table *t, uint64_t first, struct snapshot *last);
struct snapshot *inode_last(struct inode_table *t, uint64_t ino);

/* ---- names of the server's tree ---- */

/* The st_ino that stands for what is shown. *ret_hidden (NULL is fine): its name isn't there. */
uint64_t inode_at(struct inode_table *t, uint64_t first, bool *ret_hidden);

/* The name isn't there any more. Who stood for it is GONE, unless it is scratch by now. */
void inode_hide(struct inode_table *t, uint64_t first, const struct place *path);
/*
 * The inode stands for what is shown from now on, and the name is there. Who stood for it is GONE.
 */
void inode_show(struct inode_table *t, uint64_t first, uint64_t ino, const struct place *path);
/*
 * What was shown is gone and never comes back; what people made in it, if it was a directory, loses
 * its name.
 */
void inode_drop(struct inode_table *t, uint64_t first);

/* The hidden name was given as due: the announcer may make it. */
bool inode_is_returning(struct inode_table *t, uint64_t first);
/* It is there again, as a new inode. */
void inode_return(struct inode_table *t, uint64_t first);

/* ---- files that were created and that the server doesn't have yet ---- */

/* Begins one in the tag's directory (`dir`: its st_ino). Returns the new st_ino. */
uint64_t inode_begin(struct inode_table *t, uint64_t dir, const struct place *path);
/* The st_ino of the one that was begun there, or 0. */
uint64_t inode_pending(struct inode_table *t, uint64_t dir, enum kind kind);
/* Whether the inode is one that was begun there. */
bool inode_is_pending(struct inode_table *t, uint64_t ino, uint64_t dir);
/* Whether it is PENDING, also in a directory that is gone. */
bool inode_is_unsaved(struct inode_table *t, uint64_t ino);
/* The inode is GONE, if it is PENDING. */
void inode_give_up(struct inode_table *t, uint64_t ino);
/* It was given as due, and nobody has opened it since: the announcer may remove it. */
bool inode_is_leaving(struct inode_table *t, uint64_t ino);
/* It is GONE, if it is leaving. */
void inode_leave(struct inode_table *t, uint64_t ino);

/* ---- what is due ---- */

struct inode_due {
	struct place path;
	uint64_t first; /* what was hidden and is to come back, or 0 */
	uint64_t begun; /* st_ino of a file that was never saved and is to go, or 0 */
	uint64_t dir;	/* else: st_ino of the directory that lost a name, of old scratch */
};

/*
 * The next one, each once. What is hidden stays so until inode_return, and what was begun is there
 * until inode_leave, since both have to be announced. False where none is due, and then *ret_next is
 * when one will be (monotonic ns).
 */
bool inode_next_due(struct inode_table *t, struct inode_due *ret, int64_t *ret_next);

#endif
