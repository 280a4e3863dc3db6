/*
 * mount: the parts of one running mount, put together by main and used by every request.
 */
#ifndef FS_MOUNT_H
#define FS_MOUNT_H

#include "client/reflector.h"
#include "client/rights.h"
#include "fs/answers.h"
#include "fs/bases.h"
#include "fs/events.h"
#include "fs/file.h"
#include "fs/history.h"
#include "fs/node.h"
#include "fs/overlay.h"
#include "fs/pool.h"
#include "fs/publish.h"
#include "fs/published.h"
#include "fs/refused.h"

struct selections;

struct mount {
	struct config *config;
	struct login *login;
	struct journal *journal;
	struct api *api;
	struct store *store;
	struct reflector *reflector;
	struct rights *rights;
	struct object_cache *cache;
	struct published *published;
	struct overlay *overlay;
	struct scratch *scratch;
	struct node_table *nodes;
	struct file_table *files;
	struct bases *bases;
	struct history *history;
	struct events *events;
	struct answers *answers;
	struct selections *selections; /* fs/select.h */
	struct refused *refused;
	struct announce *announce; /* NULL: -o noevents */
	struct publish *publish;
	struct pool *pool;     /* requests that wait for the server */
	struct pool *notifier; /* requests that wait for a kernel notification: never long */
	struct publish_notify notify;
	int64_t started; /* ns since 1970 */
	double seconds;	 /* how long the kernel may keep names and attributes */
	uid_t uid;
	gid_t gid;
	mode_t umask;
	bool read_only, nodelete;
	bool strict; /* others are here, and the bits of directories keep some of them out */
	const char *selector; /* --selector, or NULL */
	bool narrowed;	      /* --namespace: what isn't listed isn't there */
	bool noopen;	      /* the kernel opens by itself; read_only then, too */
	atomic_bool ending;   /* nothing is opened for writing any more */
};

#endif
