/*
 * update: one change of one stream, sent until it is on the server or can't be: on top of the
 * current object, again after a conflict, looked at again after a lost answer.
 *
 * Blocking; runs on a pool thread. What the server answers is in the store when update_run returns,
 * and shown by update_end: only with the verdict is it known what of it is the caller's own.
 */
#ifndef FS_SAVE_UPDATE_H
#define FS_SAVE_UPDATE_H

#include "client/patch.h"
#include "fs/mount/mount.h"

struct update;

/*
 * What the change makes of the current object (`json` is its tree, by update_parse): 1 and
 * *ret_merged (as patch_body takes it; NULL may be meant), 0 when there is nothing to send, or
 * -errno after update_refuse.
 */
typedef int update_decide(
	struct update *e, struct object *current, const json_t *json, json_t **ret_merged);

struct update {
	struct mount *mount;
	const struct api_call *call;
	const char *ns, *stream;
	const char *uid; /* NULL: whatever object has the name */
	struct patch_file file;
	update_decide *decide;
	void *arg;
	bool as_tag;	       /* a `from` that is no DockerImage goes as `oc tag` sends it */
	struct change_own own; /* what the kernel does by itself if the call succeeds */
	bool taken;	       /* an answer is in the store */

	struct object *result; /* the version that shows the change, or the current one */
	struct status status;  /* why not */
	bool sent;	       /* a change was sent and is there */
	bool lost;	       /* the last change that was sent got no answer */
	bool in_doubt;	       /* nobody knows what became of it */
	char *last_from;       /* the version that was sent last was made on that one */
	json_t *last_sent;
	char *tag_version; /* of the stream, by the answer to the PUT of a tag; or NULL */
	uint64_t asked;	   /* the number of the last request (client/store.h) */
	char *request;	   /* the last one sent, for messages; NULL: none */
};

/*
 * 0 or -errno (as close would give it, update.status tells all). The caller calls update_end and
 * update_release.
 */
int update_run(struct update *e);

/*
 * The verdict of the call is `r`: what the answers said is shown. Only of a call that succeeds does
 * the kernel tell itself; after a refusal all that came with the answers is another's, and
 * announced.
 */
void update_end(struct update *e, int r);
void update_release(struct update *e);
#define _cleanup_update_ _cleanup_(update_release)

/* For update_decide: notes why not. Takes over `message`. Returns -error. */
int update_refuse(struct update *e, int error, char *message);

/* The object's tree, as much of it as the change is about. The caller owns the reference. */
json_t *update_parse(const struct update *e, struct object *o);

/* GET of the stream into the store. -ENOENT when it is gone. */
int update_refresh(struct update *e);

/*
 * The answer (this stream) goes into the store. -EINVAL where it isn't this stream, and
 * *ret_why (NULL: it isn't wanted) says why; the caller frees it.
 */
int update_take_answer(struct update *e, const struct buf *answer, char **ret_why);

/*
 * The same of the answer to a change. In a dry run it is of what would be: then what is there stays
 * the result.
 */
int update_take_change(struct update *e, const struct buf *answer, char **ret_why);

/* api_send_raw, and what is asked and answered is the update's. *ret_answer's old bytes go. */
int update_send(struct update *e, const struct api_request *request, struct buf *ret_answer);

/*
 * The URL of the imagestreamtag; the caller frees. A name that is empty or has '/', ':' or '@' has
 * none of its own: the server would take another tag (api-facts.md, corrections).
 */
bool update_tag_fits_url(const struct update *e);
char *update_tag_path(const struct update *e);

/* Whether we may patch the stream's status; where nobody says: yes, the server decides. */
bool update_may_patch_status(struct update *e);

/* Whether the request may have arrived, though no answer came, or one too large to be taken. */
bool update_is_lost(const struct update *e);

/*
 * A stream was deleted by a call of ours: it goes from the store, unless it was made again (another
 * uid; NULL: whatever is there). The caller shows that.
 */
void update_forget_stream(struct mount *m, const char *key, const char *uid);

/* The key NAMESPACE/STREAM. The caller frees. */
char *update_key(const struct update *e);

#endif
