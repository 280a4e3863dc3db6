#include "fs/tree/bytes.h"

#include <errno.h>

void bytes_set(struct bytes *b, struct bytes_budget *budget, const char *data, size_t len)
{
	bytes_release(b, budget);
	b->len = b->size = len;
	budget->used += len;
	if (!len)
		return;
	b->data = xmalloc(len);
	memcpy(b->data, data, len);
}

int bytes_resize(struct bytes *b, struct bytes_budget *budget, size_t file_max, uint64_t len)
{
	if (len > file_max)
		return -EFBIG;
	if (len > b->len && budget->used + (len - b->len) > budget->max)
		return -ENOSPC;
	if (len > b->size) {
		b->size = len > b->size * 2 ? len : b->size * 2;
		b->data = xrealloc(b->data, b->size);
	}
	if (len > b->len)
		memset(b->data + b->len, 0, len - b->len);
	budget->used += len - b->len;
	b->len = len;
	return 0;
}

int bytes_write(struct bytes *b, struct bytes_budget *budget, size_t file_max, const char *data,
	size_t len, uint64_t offset)
{
	int r = 0;

	if (offset > file_max || len > file_max - offset)
		return -EFBIG;
	if (offset + len > b->len)
		r = bytes_resize(b, budget, file_max, offset + len);
	if (r == 0 && len)
		memcpy(b->data + offset, data, len);
	return r;
}

char *bytes_read(const struct bytes *b, uint64_t offset, size_t size, size_t *ret_len)
{
	char *data;

	if (offset > b->len)
		offset = b->len;
	if (size > b->len - offset)
		size = b->len - offset;
	data = xmalloc(size);
	if (size)
		memcpy(data, b->data + offset, size);
	*ret_len = size;
	return data;
}

void bytes_release(struct bytes *b, struct bytes_budget *budget)
{
	budget->used -= b->len;
	free(b->data);
	*b = (struct bytes){0};
}
