/*
 * edit: one change of one stream, sent until it is on the server or can't be: on top of the current
 * object, again after a conflict, looked at again after a lost answer.
 *
 * Blocking; runs on a pool thread. What the server answers is in the store when edit_run returns, and shown
 * by edit_end: only with the verdict is it known what of it is the caller's own.
 */
#ifndef FS_EDIT_H
#define FS_EDIT_H

#include "client/patch.h"
#include "fs/mount.h"

struct edit;

/*
 * What the change makes of the current object (`json` is its tree): 1 and *ret_merged (as
 * patch_body takes it; NULL may be meant), 0 when there is nothing to send, or -errno after
 * edit_refuse.
 */
typedef int edit_decide(
	struct edit *e, struct object *current, const json_t *json, json_t **ret_merged);

struct edit {
	struct mount *mount;
	const struct api_call *call;
	const char *namespace, *stream;
	const char *uid; /* NULL: whatever object has the name */
	struct patch_file file;
	edit_decide *decide;
	void *arg;
	struct published_own own; /* what the kernel does by itself if the call succeeds */
	bool taken;		  /* an answer is in the store */

	struct object *result; /* the version that shows the change, or the current one */
	struct status status;  /* why not */
	bool sent;	       /* a change was sent and is there */
	bool lost;	       /* the last change that was sent got no answer */
	bool in_doubt;	       /* nobody knows what became of it */
	char *last_from;       /* the version that was sent last was made on that one */
	json_t *last_sent;
	char *request; /* the last one sent, for messages; NULL: none */
};

/* 0 or -errno (as close would give it, edit.status tells all). The caller calls edit_end and edit_release. */
int edit_run(struct edit *e);

/*
 * The verdict of the call is `r`: what the answers said is shown. Only of a call that succeeds does the kernel
 * tell itself; after a refusal all that came with the answers is somebody else's, and announced.
 */
void edit_end(struct edit *e, int r);
void edit_release(struct edit *e);
#define _cleanup_edit_ _cleanup_(edit_release)

/* For edit_decide: notes why not. Takes over `message`. Returns -error. */
int edit_refuse(struct edit *e, int error, char *message);

/* GET of the stream into the store. -ENOENT when it is gone. */
int edit_refresh(struct edit *e);

/*
 * The answer (this stream) goes into the store. -EINVAL where it isn't this stream, and
 * *ret_why (NULL: it isn't wanted) says why; the caller frees it.
 */
int edit_take_answer(struct edit *e, const struct buf *answer, char **ret_why);

/* api_send_raw, and what is asked and answered is the edit's. *ret_answer's old bytes go. */
int edit_send(struct edit *e, const struct api_request *request, struct buf *ret_answer);

/* The key NAMESPACE/STREAM. The caller frees. */
char *edit_key(const struct edit *e);

#endif
