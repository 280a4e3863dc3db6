/*
 * draft: the bytes that one handle wrote to a real file, and when they are to be saved (DESIGN.md 3
 * "When"). Knows nothing of what a save is. Thread-safe; its lock is a leaf.
 */
#ifndef FS_TREE_DRAFT_H
#define FS_TREE_DRAFT_H

#include "client/buf.h"

#define DRAFT_MAX	((size_t)4 << 20)
#define DRAFT_MANIFESTS ((size_t)256 << 20) /* of many streams */

struct draft;

struct draft *draft_new(void);
/* It may have so many bytes instead of DRAFT_MAX. For a new one. */
void draft_allow(struct draft *d, size_t max);
void draft_free(struct draft *d); /* NULL is fine */

/* Whether it has bytes of its own yet; until then the handle shows what is shown. */
bool draft_is_loaded(struct draft *d);
/*
 * Its first bytes, if it has none yet. `saved`: they are on the server already, and stand for
 * whatever it had. -EFBIG.
 */
int draft_load(struct draft *d, const char *data, size_t len, bool saved);

/* To be called on a loaded draft, as all below. -EFBIG. */
int draft_write(struct draft *d, const char *data, size_t len, uint64_t offset, bool append);
/* To 0: as if nothing had been written. */
int draft_truncate(struct draft *d, uint64_t size);
size_t draft_size(struct draft *d);
/* Up to `size` bytes from the offset into a new buffer (the caller frees). */
char *draft_read(struct draft *d, uint64_t offset, size_t size, size_t *ret_len);

enum draft_state {
	DRAFT_CLEAN,   /* nothing written, or nothing left of it */
	DRAFT_DECIDED, /* these very bytes have a verdict */
	DRAFT_WRITTEN, /* to be saved */
};

/* For DRAFT_DECIDED *ret_verdict is the errno (0: saved). */
enum draft_state draft_state(struct draft *d, int *ret_verdict);

/*
 * The same, and for DRAFT_WRITTEN the bytes (the caller frees, they are NUL-terminated) and which
 * change they are, for draft_decide.
 */
enum draft_state draft_take(
	struct draft *d, int *ret_verdict, char **ret, size_t *ret_len, uint64_t *ret_change);
/* The verdict on that change; one that was written to meanwhile has none yet. */
void draft_decide(struct draft *d, uint64_t change, int verdict);
/* These bytes have no verdict any more. */
void draft_undecide(struct draft *d);

#endif
