/*
 * state: files in $XDG_STATE_HOME/imagestreamfs, which outlive the program and its crashes. 0600 in
 * directories of 0700.
 */
#ifndef FS_TREE_STATE_H
#define FS_TREE_STATE_H

#include "client/util.h"

/*
 * The server's directory: imagestreamfs/[KIND/]HOST:PORT. NULL where there is no home. The caller
 * frees.
 */
char *state_directory(const char *kind, const char *server);

/* Those that the path's last name stands in. -errno. */
int state_make_directories(char *path);

/*
 * Makes an empty file at the path, or where something is there already at PATH.2, PATH.3 and so on.
 * -errno; the caller frees *ret, the name that it has.
 */
int state_make_free(const char *path, char **ret);

/* Replaces the file, whole or not at all, and waits for the disk. -errno. */
int state_write(const char *path, const char *data, size_t len);

#endif
