/*
 * kubeconfig: the kubeconfig files, read and merged. Which of their entries are used, and what
 * the fields mean, is config's affair.
 */
#ifndef CLIENT_KUBECONFIG_H
#define CLIENT_KUBECONFIG_H

#include "client/util.h"

enum kubeconfig_kind {
	KUBECONFIG_CLUSTER,
	KUBECONFIG_USER,
	KUBECONFIG_CONTEXT,
	KUBECONFIG_KINDS,
};

struct kubeconfig {
	json_t *entries[KUBECONFIG_KINDS]; /* name → {"file": …, "fields": {…}} */
	char *current_context;		   /* NULL: no file names one */
	char *tried;			   /* where we looked, for the user */
	bool found;			   /* at least one file was there */
};

/* One named entry. Everything is borrowed from the kubeconfig. */
struct kubeconfig_entry {
	const char *kind;     /* "cluster", "user" or "context" */
	const char *name;     /* "" where it has none */
	const char *file;     /* the absolute path of the file that it stands in */
	const json_t *fields; /* text, maps, lists or null; a number is text, but in extensions */
};

/*
 * Reads `path`, which has to be there; or where it is NULL $KUBECONFIG's list, or ~/.kube/config,
 * which may be missing (client-go tools/clientcmd/loader.go). Relative ones start at `directory`.
 * Of entries with one name, that of the first file wins as a whole. -EINVAL or the errno of a file,
 * and *ret_error as kubeconfig_fail makes it.
 */
int kubeconfig_load(
	const char *path, const char *directory, struct kubeconfig *ret, char **ret_error);
void kubeconfig_release(struct kubeconfig *k);

bool kubeconfig_empty(const struct kubeconfig *k); /* no entry of any kind, no current-context */

/* 0 or -ENOENT. */
int kubeconfig_find(const struct kubeconfig *k, enum kubeconfig_kind kind, const char *name,
	struct kubeconfig_entry *ret);

/* Those that there are, for a message: "admin, dev", cut after 20. The caller frees. */
char *kubeconfig_names(const struct kubeconfig *k, enum kubeconfig_kind kind);

/* All of a kind: name → {file, fields}. Borrowed. */
const json_t *kubeconfig_entries(const struct kubeconfig *k, enum kubeconfig_kind kind);

const char *kubeconfig_word(enum kubeconfig_kind kind); /* "cluster", "user" or "context" */

/* `path` below the directory `file` stands in, unless it is absolute. The caller frees. */
char *kubeconfig_resolve(const char *file, const char *path);

/* `path` as an absolute one below `directory` (NULL: as it is). The caller frees. */
char *kubeconfig_absolute(const char *path, const char *directory);

/* Another number when one of the files that kubeconfig_load would read was written or replaced. */
uint64_t kubeconfig_signature(const char *path, const char *directory);

/* The booleans of YAML 1.1, in whatever letters. -EINVAL where it is none. */
int kubeconfig_parse_flag(const char *text, bool *ret);

/* Sets *ret_error to a sentence on one line (the caller frees it) and returns `r`. */
int kubeconfig_fail(char **ret_error, int r, const char *format, ...) _printf_(3, 4);

#endif
