/*
 * publish: moves what was received (client/store.h) to what is shown (fs/published.h), on a thread
 * of its own, and tells the kernel which files' bytes changed.
 */
#ifndef FS_PUBLISH_H
#define FS_PUBLISH_H

#include "client/store.h"
#include "fs/file.h"
#include "fs/node.h"
#include "fs/overlay.h"
#include "fs/published.h"
#include "fs/scratch.h"

struct publish;

/* How the kernel is told; behind this the tree can be tested without a mount. */
struct publish_notify {
	void (*inval_inode)(void *arg, uint64_t node_id);
	void *arg;
};

struct publish *publish_new(struct published *published, struct node_table *nodes,
	struct file_table *files, struct overlay *overlay, struct scratch *scratch);
void publish_free(struct publish *p); /* NULL is fine */

/* Before publish_start. */
void publish_set_store(struct publish *p, struct store *store);
void publish_start(struct publish *p);
/* From now on the kernel is told. */
void publish_set_notify(struct publish *p, const struct publish_notify *notify);
/* No notification is under way or will come after this returns. */
void publish_stop(struct publish *p);

/* The store's listener: the key is published soon. `arg` is the struct publish. */
void publish_key(void *arg, const char *key);

/*
 * Publishes the key before all others, and waits until that is done and told. Not from the publish
 * thread.
 */
void publish_now(struct publish *p, const char *key);

/* Waits until everything is published that was in line at the call. */
void publish_flush(struct publish *p);

#endif
