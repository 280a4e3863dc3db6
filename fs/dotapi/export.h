/*
 * export: the files `export.yaml` of .api: every ImageStream as a clean manifest, made while it is
 * read, so that memory stays bounded whatever there is. What a pushed tag shows is a comment: no
 * manifest can bring it back.
 */
#ifndef FS_DOTAPI_EXPORT_H
#define FS_DOTAPI_EXPORT_H

#include "client/buf.h"
#include "client/store.h"

struct export;

/* The streams of the namespace ("": of all) as they are now, in the order of their names. */
struct export *export_open(struct store *store, const char *ns);
void export_close(struct export *x);

/*
 * Appends up to `size` bytes from the offset, fewer only at the end. Whoever reads on gets the text
 * made once; another offset before that starts it anew. Thread-safe. 0 or -EFBIG.
 */
int export_read(struct export *x, size_t size, uint64_t offset, struct buf *ret);

#endif
