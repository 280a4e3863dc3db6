/*
 * ops: the FUSE requests: decode, call, reply. ops.c reads and lists, ops_write.c makes and changes.
 */
#ifndef FS_OPS_H
#define FS_OPS_H

#include "fs/names.h"

/* The session's userdata is a struct mount. */
extern const struct fuse_lowlevel_ops ops;

/* ---- between the two files ---- */

static inline struct mount *op_mount(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline struct file *op_file(const struct fuse_file_info *fi)
{
	return (struct file *)(uintptr_t)fi->fh;
}

/* False where the kernel's number isn't known. */
bool op_directory(fuse_req_t req, fuse_ino_t id, struct names_dir *ret);

/* Whether the caller may, by the mode bits (R_OK, W_OK, X_OK): 0, -EACCES, -EROFS. */
int op_may(fuse_req_t req, enum node_kind kind, const struct stat *st, int mask);

/* Pins what is seen at the name: a lookup of its node is counted. */
void op_fill_entry(struct mount *m, const struct name *n, struct fuse_entry_param *ret);
void op_reply_entry(fuse_req_t req, const struct fuse_entry_param *entry);

/* Opens what the inode stands for at the real path. NULL and -errno. */
struct file *op_open_real(
	fuse_req_t req, const struct tree_path *path, uint64_t ino, int flags, int *ret_error);
struct file *op_open_scratch(fuse_req_t req, struct scratch_node *n, int flags);
/* The key of what is published at the path: NAMESPACE/STREAM, or NAMESPACE. */
void op_key(const struct tree_path *path, char ret[2 * NAME_SIZE]);
void op_fill_open(struct mount *m, struct file *f, uint64_t ino, struct fuse_file_info *fi);
void op_close(struct mount *m, struct file *f);

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
void op_write(fuse_req_t req, fuse_ino_t id, const char *data, size_t size, off_t offset,
	struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi);

#endif
