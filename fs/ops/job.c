#include "fs/ops/job.h"

#include <errno.h>

void job_free(struct job *j)
{
	inode_unpin(j->scratch);
	free(j);
}

void job_submit(fuse_req_t req, pool_fn *fn, struct job *j)
{
	_cleanup_free_ char *key = xasprintf("%s/%s", j->path.ns, j->path.stream);

	pool_submit(op_mount(req)->pool, req, key, fn, j);
}

void job_begin(struct mount *m, const struct job *j)
{
	char key[2 * NAME_SIZE];

	op_key(&j->path, key);
	publish_hold(m->publisher, key);
}

void job_end(struct mount *m, const struct job *j)
{
	char key[2 * NAME_SIZE];

	op_key(&j->path, key);
	publish_release(m->publisher, key);
}

void job_look_at(struct mount *m, const struct job *j, int r)
{
	if (r == -EACCES)
		rights_doubt(m->rights, j->path.ns);
}

struct save_call job_save_call(const struct pool_call *call)
{
	return (struct save_call){.api = op_api_call(call),
		.who = mergebase_who(op_mount(call->req)->bases, call->tid)};
}
