/*
 * job: what a request that changes something leaves to the pool, and what is done around it there.
 */
#ifndef FS_OPS_JOB_H
#define FS_OPS_JOB_H

#include "fs/ops/ops.h"
#include "fs/save/save.h"

struct job {
	struct namei_dir dir;
	fuse_ino_t parent, new_parent;
	struct place path;
	char name[NAME_SIZE];
	struct name moved; /* a real file that takes another's name */
	struct inode *scratch;
	struct handle *file;
	bool sync, killed;
};

void job_free(struct job *j);

/* Changes of one stream go out one at a time. `fn` answers, and frees the job. */
void job_submit(fuse_req_t req, pool_fn *fn, struct job *j);

/*
 * What the watch says of the stream between the two waits: the kernel itself raises this call's
 * events.
 */
void job_begin(struct mount *m, const struct job *j);
void job_end(struct mount *m, const struct job *j);

/* What came of it: after a 403 our rights may be others by now. */
void job_look_at(struct mount *m, const struct job *j, int r);

/* Whose save it is. */
struct save_call job_save_call(const struct pool_call *call);

#endif
