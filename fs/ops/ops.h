/*
 * ops: the FUSE requests: decode, call, reply. ops.c looks up, reads and lists, ops_names.c makes,
 * removes and moves names, ops_write.c sets attributes, writes and saves.
 */
#ifndef FS_OPS_OPS_H
#define FS_OPS_OPS_H

#include "fs/mount/namei.h"

/* The session's userdata is a struct mount. */
extern const struct fuse_lowlevel_ops ops;

/* ---- between these files ---- */

static inline struct mount *op_mount(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline struct handle *op_file(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

/* The announcer, whose requests make known what is shown (fs/publish/announce.h). */
static inline bool op_is_announcer(fuse_req_t req)
{
	return announce_is_ours(op_mount(req)->announce, fuse_req_ctx(req)->pid);
}

/* False where the kernel's number isn't known. */
bool op_directory(fuse_req_t req, fuse_ino_t id, struct namei_dir *ret);

/* Whether the caller may, by the mode bits (R_OK, W_OK, X_OK): 0, -EACCES, -EROFS. */
int op_may(fuse_req_t req, enum kind kind, const struct stat *st, int mask);

/* For op_may: the mode that counts where the file is opened, truncated or replaced. */
void op_mode_to_open(struct mount *m, const struct place *path, struct stat *st);

/* Pins what is seen at the name: a lookup of its node is counted. */
void op_fill_entry(struct mount *m, const struct name *n, struct fuse_entry_param *ret);
void op_reply_entry(fuse_req_t req, const struct fuse_entry_param *entry);

/* Opens what the inode stands for at the real path. NULL and -errno. */
struct handle *op_open_real(
	fuse_req_t req, const struct place *path, uint64_t ino, int flags, int *ret_error);
struct handle *op_open_scratch(fuse_req_t req, struct inode *n, int flags);
/* The key of what is shown at the path: NAMESPACE/STREAM, or NAMESPACE. */
void op_key(const struct place *path, char ret[2 * NAME_SIZE]);
void op_fill_open(struct mount *m, struct handle *f, uint64_t ino, struct fuse_file_info *fi);
void op_close(struct mount *m, struct handle *f);

/* What a call that waits for the server may use. */
static inline struct api_call op_api_call(const struct pool_call *call)
{
	return (struct api_call){
		.http = call->http, .check = &call->check, .deadline = call->deadline};
}

/*
 * A directory's listing under way. Cookies of the tree start at 1; "." and ".." stand before them.
 */
#define OP_COOKIE_BASE 2

struct op_listing {
	fuse_req_t req;
	struct mount *mount;
	bool plus;
	char *data;
	size_t len, size;
};

/* With "." and "..", as far as the offset is before them. False where there is no room left. */
bool op_listing_begin(struct op_listing *l, fuse_req_t req, const struct namei_dir *dir,
	size_t size, bool plus, off_t offset);
/* A namei_fn; `arg` is the struct op_listing. */
bool op_add_child(void *arg, const char *name, uint64_t cookie, const struct place *path,
	const struct stat *st, double seconds);
/* Answers with what there is, or -errno. */
void op_listing_reply(struct op_listing *l, int r);

/* ---- .api (ops_api.c) ---- */

enum op_written { OP_FLUSH, OP_FSYNC, OP_RELEASE };

/* Opens a file of .api and answers. */
void op_open_api(fuse_req_t req, const struct place *path, uint64_t ino, struct fuse_file_info *fi);
/* Sends what the handle was given, and answers; OP_RELEASE also closes it. */
void op_send_api(fuse_req_t req, struct handle *f, const struct place *path, enum op_written what);
/* Names below .api/select: the server is asked. False where the directory is another one. */
bool op_select_lookup(fuse_req_t req, const struct namei_dir *dir, const char *name);
/* `id`: the directory's node. */
void op_select_list(fuse_req_t req, const struct namei_dir *dir, fuse_ino_t id, size_t size,
	off_t offset, bool plus);

void op_setattr(
	fuse_req_t req, fuse_ino_t id, struct stat *st, int to_set, struct fuse_file_info *fi);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	const char *new_name, unsigned int flags);
void op_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t new_parent, const char *new_name);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t offset, off_t length,
	struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t id, const char *data, size_t size, off_t offset,
	struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);

#endif
