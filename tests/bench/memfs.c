/*
 * memfs TREE MOUNTPOINT: the floor of a FUSE server, beside which the bench measures. A copy of TREE
 * is read into memory and served by one thread until SIGTERM: nothing is rendered, nothing expires,
 * nothing can be changed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct node {
	struct stat st; /* st_ino is its place in nodes */
	char *name, *bytes;
	struct node **children; /* by name */
	size_t n;
};
static struct node **nodes;
static size_t nnodes = FUSE_ROOT_ID; /* 0 is no inode */

#define FOREVER 1e9

static void *checked(void *memory)
{
	if (!memory)
		abort();
	return memory;
}

static struct node *load(int parent, const char *name)
{
	struct node *node = checked(calloc(1, sizeof *node));
	int fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent **names;

	if (fd < 0 || fstat(fd, &node->st))
		abort();
	node->name = checked(strdup(name));
	node->st.st_ino = nnodes;
	if (!(nnodes & (nnodes - 1))) /* full */
		nodes = checked(reallocarray(nodes, nnodes * 2, sizeof *nodes));
	nodes[nnodes++] = node;
	if (S_ISREG(node->st.st_mode)) {
		node->bytes = checked(malloc((size_t)node->st.st_size + 1));
		if (read(fd, node->bytes, (size_t)node->st.st_size) != node->st.st_size)
			abort();
	} else {
		int found = scandirat(fd, ".", &names, NULL, alphasort);

		if (found < 0)
			abort();
		node->children = checked(calloc((size_t)found, sizeof *node->children));
		for (int i = 0; i < found; i++) {
			if (strcmp(names[i]->d_name, ".") && strcmp(names[i]->d_name, ".."))
				node->children[node->n++] = load(fd, names[i]->d_name);
			free(names[i]);
		}
		free(names);
	}
	close(fd);
	return node;
}

static struct fuse_entry_param entry(const struct node *node)
{
	return (struct fuse_entry_param){.ino = node->st.st_ino,
		.attr = node->st,
		.attr_timeout = FOREVER,
		.entry_timeout = FOREVER};
}

static int by_name(const void *name, const void *child)
{
	return strcmp(name, (*(struct node *const *)child)->name);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct node **found = bsearch(
		name, nodes[parent]->children, nodes[parent]->n, sizeof(struct node *), by_name);
	struct fuse_entry_param none = {.entry_timeout = FOREVER}, e = found ? entry(*found) : none;

	fuse_reply_entry(req, &e);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fuse_reply_attr(req, &nodes[ino]->st, FOREVER);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fuse_reply_err(req, ENOSYS); /* listings are the kernel's to keep */
}

static void op_readdirplus(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	char *buf = checked(malloc(size));
	size_t len = 0;

	for (size_t i = (size_t)off; i < nodes[ino]->n; i++) {
		struct fuse_entry_param e = entry(nodes[ino]->children[i]);
		size_t need = fuse_add_direntry_plus(req, buf + len, size - len,
			nodes[ino]->children[i]->name, &e, (off_t)i + 1);

		if (need > size - len)
			break;
		len += need;
	}
	fuse_reply_buf(req, buf, len);
	free(buf);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fi->keep_cache = fi->noflush = 1;
	fuse_reply_open(req, fi);
}

static void op_read(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	size_t have = (size_t)nodes[ino]->st.st_size,
	       from = (size_t)off < have ? (size_t)off : have;

	fuse_reply_buf(req, nodes[ino]->bytes + from, size < have - from ? size : have - from);
}

static const struct fuse_lowlevel_ops ops = {
	.lookup = op_lookup,
	.getattr = op_getattr,
	.opendir = op_opendir,
	.readdirplus = op_readdirplus,
	.open = op_open,
	.read = op_read,
};

int main(int argc, char *argv[])
{
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct fuse_session *session;

	if (argc != 3)
		return 2;
	load(AT_FDCWD, argv[1]);
	session = fuse_session_new(&args, &ops, sizeof ops, NULL);
	if (!session || fuse_set_signal_handlers(session) || fuse_session_mount(session, argv[2]))
		return 1;
	fuse_session_loop(session);
	fuse_session_unmount(session);
	fuse_session_destroy(session);
	return 0;
}
