/*
 * bytes: what a file in memory holds. Bytes beyond its end that are asked for are zeros. No lock of
 * its own.
 */
#ifndef FS_TREE_BYTES_H
#define FS_TREE_BYTES_H

#include "client/util.h"

struct bytes {
	char *data;
	size_t len, size;
};

/* What all of them may have together, and have. */
struct bytes_budget {
	size_t used, max;
};

/* Takes a copy, also past the budget's maximum. */
void bytes_set(struct bytes *b, struct bytes_budget *budget, const char *data, size_t len);
/* -EFBIG (beyond file_max), -ENOSPC (beyond the budget). */
int bytes_resize(struct bytes *b, struct bytes_budget *budget, size_t file_max, uint64_t len);
int bytes_write(struct bytes *b, struct bytes_budget *budget, size_t file_max, const char *data,
	size_t len, uint64_t offset);
/* Up to `size` bytes from the offset into a new buffer (the caller frees). */
char *bytes_read(const struct bytes *b, uint64_t offset, size_t size, size_t *ret_len);
void bytes_release(struct bytes *b, struct bytes_budget *budget);

#endif
