/*
 * util: ownership macros and the few conversions that everybody needs.
 *
 * Functions of this program return 0 (or a count) or -errno, and leave their ret_ outputs
 * untouched when they fail. Memory that runs out ends the program (xmalloc and friends): there is
 * no half-working mount after that.
 */
#ifndef CLIENT_UTIL_H
#define CLIENT_UTIL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* The object that holds `ptr` as its member. */
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* Runs the named function on the variable when it goes out of scope. */
#define _cleanup_(fn)  __attribute__((cleanup(fn)))
#define _printf_(f, a) __attribute__((format(printf, f, a)))

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}
#define _cleanup_free_ _cleanup_(cleanup_free)

static inline void cleanup_json(json_t **p)
{
	json_decref(*p);
}
#define _cleanup_json_ _cleanup_(cleanup_json)

static inline void cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define _cleanup_close_ _cleanup_(cleanup_close)

static inline void cleanup_fclose(FILE **f)
{
	if (*f)
		fclose(*f);
}
#define _cleanup_fclose_ _cleanup_(cleanup_fclose)

/* Hands a pointer over: returns it and sets the variable to NULL. */
#define steal_ptr(p)                                                                               \
	__extension__({                                                                            \
		__typeof__(p) _stolen = (p);                                                       \
		(p) = NULL;                                                                        \
		_stolen;                                                                           \
	})

/* As their namesakes; they never return NULL. The caller frees. */
void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *format, ...) _printf_(1, 2);

/*
 * A copy; what is longer than `max` bytes lacks its middle, between characters. The caller frees.
 */
char *str_shorten(const char *s, size_t max);

/*
 * The first 64 bytes of a name that others chose, for a sentence: whole characters, control
 * characters as \xNN, "…" where there is more. It may hold NULs. The caller frees.
 */
char *str_excerpt(const char *s, size_t len);

/* RFC 1123, as Kubernetes names a namespace. */
bool str_is_dns_label(const char *s);

/* Frees a secret and sets it to NULL; its bytes are overwritten before. NULL is fine. */
void str_wipe(char **s);

static inline bool streq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

static inline bool str_has_prefix(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* FNV-1a, 64 bits. Pass HASH_INIT, or an earlier result to go on. */
#define HASH_INIT UINT64_C(0xcbf29ce484222325)
uint64_t hash_bytes(uint64_t h, const void *p, size_t n);
uint64_t hash_str(uint64_t h, const char *s);

/*
 * For long texts: eight bytes at a time. Another hash than hash_bytes, and cut otherwise another
 * result.
 */
uint64_t hash_text(uint64_t h, const char *p, size_t n);

/*
 * Order of two resourceVersions of one resource: <0, 0, >0. They are decimal numbers of any length
 * (apimachinery pkg/util/resourceversion: compare by length, then by text).
 */
int rv_compare(const char *a, const char *b);

/* A whole file. The caller frees *ret. -errno of open/read; -EFBIG above `max` bytes. */
int read_file(const char *path, size_t max, char **ret, size_t *ret_len);

/* The string member of an object, or NULL where it is absent or no string. Borrowed. */
const char *json_str(const json_t *object, const char *key);

#endif
