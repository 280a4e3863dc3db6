/*
 * overlay: what people did to the names of real files: hidden ones, ones that another inode stands
 * for now, and files that were created but never saved.
 *
 * A place is named by its own st_ino (layout_ino of what is shown there), `place`. Thread-safe;
 * its lock is a leaf.
 */
#ifndef FS_TREE_OVERLAY_H
#define FS_TREE_OVERLAY_H

#include "client/clock.h"
#include "fs/tree/layout.h"

/* What was unlinked or renamed away and not made anew comes back after that time. */
#define OVERLAY_HIDDEN_NS (2 * NSEC_PER_SEC)

struct overlay;

struct overlay *overlay_new(void);
void overlay_free(struct overlay *o);

/* The st_ino that is shown for the place: its own, or the one that took it over. */
uint64_t overlay_ino(struct overlay *o, uint64_t place);

bool overlay_is_hidden(struct overlay *o, uint64_t place);

/* From now on the name isn't there; when it comes back it is a new inode. */
void overlay_hide(struct overlay *o, uint64_t place, const struct layout_path *path);

/* What is hidden for long enough. It stays so until overlay_return: somebody may have to be told. */
struct overlay_due {
	struct layout_path path;
	uint64_t place; /* 0: a file that was never saved, and now is gone */
};

/* The next one that is due, each once. False where none is, and then *ret_next is when (monotonic ns). */
bool overlay_next_due(struct overlay *o, struct overlay_due *ret, int64_t *ret_next);
bool overlay_is_returning(struct overlay *o, uint64_t place);
void overlay_return(struct overlay *o, uint64_t place);

/* The place is gone and never comes back. */
void overlay_forget(struct overlay *o, uint64_t place);

/* The inode stands for the place, and the name is there. */
void overlay_show(struct overlay *o, uint64_t place, uint64_t ino);

/*
 * A file that the object doesn't have yet, created here: `slot` names where (snapshot_slot).
 * It is there while a handle is open and for 2 s after.
 */
void overlay_add_pending(
	struct overlay *o, uint64_t slot, uint64_t ino, const struct layout_path *path);
bool overlay_has_pending(struct overlay *o);
/* Its st_ino, or 0. */
uint64_t overlay_pending(struct overlay *o, uint64_t slot);
/* A handle more or less. */
void overlay_hold_pending(struct overlay *o, uint64_t slot, int by);
void overlay_drop_pending(struct overlay *o, uint64_t slot);

#endif
