/*
 * mount: the parts of one running mount, put together by main and used by every request.
 */
#ifndef FS_MOUNT_H
#define FS_MOUNT_H

#include "client/reflector.h"
#include "fs/file.h"
#include "fs/node.h"
#include "fs/pool.h"
#include "fs/publish.h"
#include "fs/published.h"

struct mount {
	struct config *config;
	struct journal *journal;
	struct api *api;
	struct store *store;
	struct reflector *reflector;
	struct object_cache *cache;
	struct published *published;
	struct node_table *nodes;
	struct file_table *files;
	struct publish *publish;
	struct pool *pool;
	int64_t started; /* ns since 1970 */
	uid_t uid;
	gid_t gid;
};

#endif
