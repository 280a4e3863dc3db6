/*
 * publisher: moves what was received (client/store.h) to what is shown (fs/tree/shown.h), on a
 * thread of its own, so that whoever watches the mount sees each change happen: through the
 * announcer process (fs/publish/announce.h), which makes the kernel drop its caches and raise the
 * events.
 *
 * What the kernel can't know (neither the node nor its directory) is shown silently. One transition
 * at a time for each stream; newer versions wait and coalesce.
 */
#ifndef FS_PUBLISH_PUBLISHER_H
#define FS_PUBLISH_PUBLISHER_H

#include "client/http.h"
#include "client/store.h"
#include "fs/publish/announce.h"
#include "fs/publish/kernel.h"
#include "fs/tree/acts.h"
#include "fs/tree/handle.h"
#include "fs/tree/inode.h"
#include "fs/tree/shown.h"

struct publisher;

struct publish_parts {
	struct shown *shown;
	struct inode_table *inodes;
	struct kernel *kernel;
	struct acts *acts; /* NULL: none */
	/* NULL: nothing is announced, the kernel's caches have timeouts */
	struct announce *announce;
	bool noopen; /* opens aren't seen, so nothing drops a file's pages but we */
	/* Each version of a stream that follows `before` (NULL: none), once; NULL: nobody wants it. */
	void (*on_version)(void *arg, const struct object *before, const struct object *now);
	void *arg;
};

/* What happened so far. */
struct publish_counts {
	uint64_t received, shown, announced, lost, silent;
};

struct publisher *publish_new(const struct publish_parts *parts);
void publish_free(struct publisher *p); /* NULL is fine */

/* Before publish_start. */
void publish_set_store(struct publisher *p, struct store *store);
int publish_start(struct publisher *p); /* 0 or -EAGAIN: no thread */
/* Nothing is announced, and no notification is under way or will come after this returns. */
void publish_stop(struct publisher *p);

/*
 * The store's listener: the key is shown soon, or begun with at once, on the caller's thread, where
 * nothing else is to be shown. `arg` is the struct publisher.
 */
void publish_key(void *arg, const char *key);

/*
 * A user's call changes the stream on the server: what comes from the watch meanwhile waits
 * for publish_release, since the kernel itself raises that call's events.
 */
void publish_hold(struct publisher *p, const char *key);
void publish_release(struct publisher *p, const char *key);

/*
 * Shows the key's current version now, on this thread, which tells the kernel, too: so it is none
 * that serves requests. What is the caller's own, and every file's bytes, are shown when this
 * returns. Names that come or go by it, and the events of the other files, follow through the
 * announcer, which nobody waits for: after publish_release, where the key is held and no names are
 * among them. `own` (NULL: nothing is) only has to live until this returns.
 */
void publish_now(struct publisher *p, const char *key, const struct change_own *own);

/*
 * STEP_ATTRIB: other modes, where `place` is the st_ino that the kernel knows. Takes the reference
 * over.
 */
void publish_attributes(struct publisher *p, struct change *change);

/* How far it is waited for. */
enum publish_until {
	/*
	 * Of a key: the names that publish_now left to the announcer are there: whoever saved a tag
	 * into spec.json lists tags/ next. Of all: what was received before the call is shown or on
	 * its way to the announcer.
	 */
	PUBLISH_SHOWN,
	/* What was received before the call is shown, and its events are raised. */
	PUBLISH_ANNOUNCED,
};

/* How long a call that holds a directory, which the announcer may need, waits at most. */
#define PUBLISH_WAIT_NS (NSEC_PER_SEC / 2)

/*
 * Waits for the key (NULL: for all), until the deadline (monotonic ns; INT64_MAX: none) or the end
 * of the publisher. `check` as for http_call, or NULL. 0, -ETIMEDOUT, or what check said.
 */
int publish_wait(struct publisher *p, const char *key, enum publish_until until,
	const struct http_check *check, int64_t deadline);

/* Something may be due (fs/tree/inode.h). */
void publish_wake(struct publisher *p);

void publish_get_counts(struct publisher *p, struct publish_counts *ret);

#endif
