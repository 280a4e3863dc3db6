/*
 * mount: the parts of one running mount, put together by main and used by every request.
 */
#ifndef FS_MOUNT_MOUNT_H
#define FS_MOUNT_MOUNT_H

#include "client/reflector.h"
#include "client/rights.h"
#include "fs/mount/pool.h"
#include "fs/publish/publisher.h"
#include "fs/tree/acts.h"
#include "fs/tree/handle.h"
#include "fs/tree/history.h"
#include "fs/tree/inode.h"
#include "fs/tree/mergebase.h"
#include "fs/tree/rejects.h"
#include "fs/tree/shown.h"

/* fs/dotapi */
struct events;
struct pushed;
struct responses;
struct selections;
/* fs/save */
struct deleted;

struct mount {
	struct config *config;
	struct login *login;
	struct journal *journal;
	struct api *api;
	struct store *store;
	struct reflector *reflector;
	struct rights *rights;
	struct object_cache *cache;
	struct indexes *indexes;
	struct shown *shown;
	struct inode_table *inodes;
	struct mergebases *bases;
	struct acts *acts;
	struct history *history;
	struct events *events;
	struct pushed *pushed;
	struct responses *responses;
	struct selections *selections;
	struct rejects *rejects;
	struct deleted *deleted;
	struct announce *announce; /* NULL: -o noevents */
	struct kernel *kernel;
	struct publisher *publisher;
	struct pool *pool;     /* requests that wait for the server */
	struct pool *notifier; /* requests that wait for a kernel notification: never long */
	int64_t started;       /* ns since 1970 */
	double seconds;	       /* how long the kernel may keep names and attributes */
	uid_t uid;
	gid_t gid;
	mode_t umask;
	bool read_only, nodelete;
	bool dry_run; /* answers to changes say what would be: nothing of them is shown */
	bool strict;  /* others are here, and the bits of directories keep some of them out */
	const char *selector;	/* --selector, or NULL */
	const char *validation; /* the fieldValidation of what is sent: --validate */
	bool narrowed;		/* --namespace: what isn't listed isn't there */
	size_t max_read;	/* bytes; 0: the kernel's choice */
	bool no_opendir;	/* the kernel can do without it (from its INIT on) */
	bool noopen;		/* the kernel opens by itself; read_only then, too */
	atomic_bool ending;	/* nothing is opened for writing any more */
};

#endif
