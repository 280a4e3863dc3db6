/*
 * turns: saves of one stream go out one at a time. Thread-safe; its lock is a leaf.
 */
#ifndef FS_TURNS_H
#define FS_TURNS_H

#include "client/api.h"

struct turns;

struct turns *turns_new(void);
void turns_free(struct turns *t);

/* Waits for the key's turn: 0, -ETIMEDOUT past the call's deadline, or what its check said. */
int turns_begin(struct turns *t, const char *key, const struct api_call *call);
void turns_end(struct turns *t, const char *key);

#endif
