/*
 * options: the command line.
 */
#ifndef FS_OPTIONS_H
#define FS_OPTIONS_H

#include "client/config.h"

#include <fuse_lowlevel.h>

struct options {
	struct config_flags flags;
	char *mountpoint;     /* as given */
	const char *complete; /* "contexts", "namespaces": to be printed; NULL: no */
	bool manual;	      /* --help=man */
	bool nothing;	      /* mount -f: as if, and no more */
	bool foreground, help, version, single_threaded, read_only, nodelete, noevents, noopen,
		auto_unmount;
	int verbosity;
	int request_timeout_ms;
	int watch_timeout;  /* seconds; 0: random */
	json_t *namespaces; /* NULL at the end; NULL: all */
	const char *selector;
	long uid, gid, umask;
	bool dry_run;
	const char *log_file;
	bool log_json;
	long max_threads; /* for the kernel's requests; 0: as many as are good */
	long max_read;	  /* bytes; 0: the kernel's choice */
	const char *fsname;
	const char *validation; /* fieldValidation: Strict, Warn or Ignore */
	int poll_interval, rights_interval, confirm_interval; /* seconds */
	bool allow_other;
	bool ro;	       /* the last of fstab's ro and rw */
	struct fuse_args fuse; /* what is left for FUSE */
	char *token;	       /* ours, and wiped: argv's is overwritten */
};

/* What mount(8) runs for the type imagestreamfs. */
#define MOUNT_HELPER "mount.imagestreamfs"

/*
 * Called as MOUNT_HELPER it takes that command line: CONTEXT MOUNTPOINT [-sfnv] [-N NS] [-o ...]
 * [-t TYPE]. -EINVAL, and then one line was written to stderr.
 */
int options_parse(struct options *o, int argc, char *argv[]);
void options_release(struct options *o);
void options_usage(FILE *out);
/* The items of the man page's list of options, as mdoc(7). */
void options_manual(FILE *out);

#endif
