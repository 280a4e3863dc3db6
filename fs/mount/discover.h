/*
 * discover: what no list names but can be read by name: namespaces, and streams in a namespace
 * whose list is refused. For the pool's threads: each may ask the server.
 */
#ifndef FS_MOUNT_DISCOVER_H
#define FS_MOUNT_DISCOVER_H

#include "fs/mount/mount.h"

/* 0 when the namespace is there from now on; -ENOENT; or why there was no answer. */
int discover_namespace(struct mount *m, struct pool_call *call, const char *name);

/*
 * The namespace's streams are here from now on, or can't be listed: -EACCES. Its rights are known
 * where the server answers soon.
 */
int discover_streams(struct mount *m, struct pool_call *call, const char *ns);

/* In a namespace that can't be listed. 0 when it is there; -ENOENT, -EACCES, or another errno. */
int discover_stream(struct mount *m, struct pool_call *call, const char *ns, const char *name);

/* The same for each stream that the rules of our rights name. -EACCES where they name none. */
int discover_named_streams(struct mount *m, struct pool_call *call, const char *ns);

/*
 * The streams of the namespace ("": of all that can be listed) are in the store from now on, the
 * list's answer is waited for where it has to be. 0; -EACCES where that one can't be listed; or why
 * there was no answer.
 */
int discover_whole(struct mount *m, struct pool_call *call, const char *ns);

#endif
