/*
 * itable: the table of inodes as its own files see it (inode, scratch, handle). Whatever is
 * declared here is to be called and looked at with the table's lock held.
 *
 * Millions of inodes may be known at a time, nearly all of them with nothing of their own: these
 * stand in chunks, in 40 bytes each, point at each other by number, and share the names of their
 * place.
 */
#ifndef FS_TREE_ITABLE_H
#define FS_TREE_ITABLE_H

#include "client/map.h"
#include "fs/tree/bytes.h"
#include "fs/tree/handle.h"
#include "fs/tree/inode.h"
#include "fs/tree/order.h"
#include "fs/tree/scratch.h"

#include <pthread.h>

enum inode_state {
	INODE_FREE,
	INODE_SHOWN,
	INODE_HIDDEN,
	INODE_PENDING,
	INODE_SCRATCH,
	INODE_GONE
};

struct inode {
	uint64_t id, ino;
	uint64_t lookups : 47;
	uint64_t has_own : 1;
	uint64_t kind : 8;
	uint64_t state : 8;
	/* There are millions. Of what is pinned it is `own`, also for who hasn't the lock. */
	union {
		struct names *names;
		struct own *own; /* has_own */
	};
	uint32_t next_ino,
		/* numbers: in its bucket (of free ones: in their list); of the same names */
		next_kin;
};

/* What those of a stream, of a tag or of another directory have in common. */
struct names {
	struct names *next, **link; /* in the group */
	uint32_t first;		    /* inode of these names */
	uint32_t refs;
	char text[]; /* NAMESPACE/STREAM/TAG */
};

/* The names of one namespace. */
struct group {
	struct names *first;
	char ns[];
};

/* Inodes whose time comes: each for the same time, so that the first in it is due first. */
struct line {
	struct own *first, **last;
	int64_t ns;
};

/* What most inodes don't have. */
struct own {
	struct inode_table *table;
	struct inode *inode;
	struct names *names;
	/* it stands for what is shown with that st_ino; 0: with its own, or for nothing */
	uint64_t first;
	unsigned pins;		  /* pointers that others have */
	uint64_t lost;		  /* GONE: what it stood for, if that went */
	unsigned open;		  /* handles */
	struct line *line;	  /* that it stands in, or NULL */
	int64_t due;		  /* monotonic ns */
	struct own *next, **link; /* in the line */
	bool returning;		  /* HIDDEN, PENDING: it was given as due */
	struct snapshot *last;	  /* inode_keep; NULL */
	struct entry *entry;	  /* PENDING, SCRATCH: its name; NULL: it has none */
	struct made *made;	  /* SCRATCH: what it is; kept for who has it pinned */
	struct handle *handles;	  /* the newest first */
};

/* NULL: the inode has nothing of its own. */
static inline struct own *own_of(const struct inode *n)
{
	return n->has_own ? n->own : NULL;
}

static inline struct names *names_of(const struct inode *n)
{
	return n->has_own ? n->own->names : n->names;
}

/* A scratch file, directory or symlink. */
struct made {
	struct object *version; /* or NULL */
	char *target;		/* of a symlink, or NULL */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	uint64_t moved_from;
	int64_t atime, mtime, ctime;
	struct bytes bytes;
};

/* A name that a process made. */
struct entry {
	struct inode *inode;
	struct dir *dir;
	uint64_t cookie;
	char name[];
};

struct dir {
	uint64_t ino;
	struct map names;   /* -> struct entry */
	struct order order; /* of these */
	unsigned subdirs;
	int64_t mtime;
};

struct inode_table {
	pthread_mutex_t lock; /* guards all below */
	struct inode **chunks;
	size_t nchunks;
	uint32_t free;	   /* number of a free inode; 0: none */
	uint32_t made;	   /* numbers that were ever given */
	uint32_t serial;   /* inodes ever made */
	uint32_t *buckets; /* by st_ino */
	size_t size;	   /* of them, a power of two */
	size_t count;	   /* inodes */
	size_t known;	   /* by the kernel */
	/* how often one became known; it only grows, and is read without the lock */
	atomic_uint_fast64_t met;
	size_t pending; /* of them */
	size_t scratch; /* of them */
	size_t names_made;
	size_t writers;		/* handles for writing */
	uint64_t handles;	/* ever opened */
	struct handle *readers; /* those of no inode: files of .api that are read as they come */
	struct map names;	/* their text -> struct names */
	struct map groups;	/* namespace -> struct group */
	struct idmap standing;	/* first -> struct inode, where that has another st_ino */
	struct idmap dirs;	/* st_ino -> struct dir */
	struct bytes_budget budget;
	struct line soon; /* HIDDEN, PENDING */
	struct line old;  /* SCRATCH: with a name, not open, and nothing in it */
};

/* ---- itable.c ---- */

/* NULL for 0. */
struct inode *inode_numbered(struct inode_table *t, uint32_t i);
/* All that exist, NULL first and last. */
struct inode *inode_next(struct inode_table *t, struct inode *n);
/* Those whose st_ino may be that one, the newest first. */
struct inode *inode_first_of(struct inode_table *t, uint64_t ino);
struct inode *inode_next_of(struct inode_table *t, const struct inode *n);
/* Those of the same names, scratch left out. */
struct inode *inode_first_kin(struct inode_table *t, const struct place *path);
struct inode *inode_next_kin(struct inode_table *t, const struct inode *n);
/* Where it is, or was. */
void inode_path(const struct inode *n, struct place *ret);
struct inode *inode_by_id(struct inode_table *t, uint64_t id);
/* The newest of that st_ino, GONE or not; NULL. */
struct inode *inode_find_any(struct inode_table *t, uint64_t ino);
/* What isn't GONE; NULL. */
struct inode *inode_find(struct inode_table *t, uint64_t ino);
struct inode *inode_make(
	struct inode_table *t, const struct place *path, uint64_t ino, enum inode_state state);
struct own *inode_own(struct inode_table *t, struct inode *n);
void inode_set_state(struct inode_table *t, struct inode *n, enum inode_state state);
void inode_move(struct inode_table *t, struct inode *n, const struct place *path);
/* To be called when a name, a pin, a handle or a lookup is taken away: frees what nothing needs. */
void inode_settle(struct inode_table *t, struct inode *n);
void line_up(struct line *line, struct own *own);
void line_leave(struct own *own);

/* ---- inode.c ---- */

/* What it stands for, or stood for when that went; 0: nothing, or another inode does. */
uint64_t inode_first(const struct inode *n);
/* It is PENDING, and its time isn't over. */
bool inode_is_begun(const struct inode *n);
/*
 * The inode that stands for what is shown: the one of that st_ino, where none has an entry: NULL.
 */
struct inode *inode_standing(struct inode_table *t, uint64_t first);
/*
 * It has no name and stands for nothing any more. For the caller to say what it is now, and to
 * settle it.
 */
void inode_detach(struct inode_table *t, struct inode *n);
/* It is GONE. */
void inode_end(struct inode_table *t, struct inode *n);
/* It stands for what is shown, and who did is GONE. */
void inode_take(struct inode_table *t, struct inode *n, uint64_t first, const struct place *path);
/* Who stands for what is shown is GONE. */
void inode_vacate(struct inode_table *t, uint64_t first);
void inode_stand(struct inode_table *t, struct inode *n, uint64_t first);
void inode_hide_name(struct inode_table *t, uint64_t first, const struct place *path);

/* ---- scratch.c: names that processes made ---- */

struct entry *entry_find(struct inode_table *t, uint64_t dir, const char *name);
void entry_add(struct inode_table *t, uint64_t dir, const char *name, struct inode *n);
void entry_del(struct inode_table *t, struct inode *n);
/* The directory is gone, and what is in it, however deep, loses its name. */
void entries_drop(struct inode_table *t, uint64_t dir);
void made_free(struct inode_table *t, struct own *own);
/* It was used, or isn't any more: its age counts from now on. */
void scratch_touch(struct inode_table *t, struct inode *n);
void scratch_release(struct inode_table *t);

/* ---- handle.c ---- */

void handles_free(struct own *own);
/* The inode is scratch now: they show no version of the stream any more. */
void handles_leave(struct inode *n);
/* Scratch becomes a real file, which has its bytes: writers go on with those. */
void handles_take(struct inode_table *t, struct inode *n, struct snapshot *snapshot,
	const struct layout_attr *attr);

#endif
