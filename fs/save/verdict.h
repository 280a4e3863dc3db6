/*
 * verdict: the errno that a call answers for what became of a change (DESIGN.md 3, "Errno table").
 * The same outcome has different names in different calls; they are told apart here alone.
 */
#ifndef FS_SAVE_VERDICT_H
#define FS_SAVE_VERDICT_H

enum verdict_call {
	VERDICT_PATH,  /* mkdir, rmdir, rename, unlink, open */
	VERDICT_CLOSE, /* a handle's draft keeps it, and close answers it */
	VERDICT_FSYNC, /* from what close answers */
};

/* 0 or -errno for that call. */
int verdict_errno(enum verdict_call call, int r);

#endif
