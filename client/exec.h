/*
 * exec: credential plugins, as client-go runs them (plugin/pkg/client/auth/exec): a program of the
 * user's prints an ExecCredential. Ours never has a terminal: its stdin is /dev/null, it is the
 * head of a session of its own, and it has until a deadline.
 */
#ifndef CLIENT_EXEC_H
#define CLIENT_EXEC_H

#include "client/util.h"

/*
 * One plugin, as the kubeconfig describes it. Immutable but for `cluster`, which config fills in.
 */
struct exec_plugin {
	char *api_version; /* client.authentication.k8s.io/v1 or …/v1beta1 */
	char *command;	   /* absolute, or a name to look for in PATH */
	char *install_hint;
	json_t *args; /* texts */
	json_t *env;  /* name → text */
	bool provide_cluster, interactive;
	json_t *cluster; /* what it is told of the cluster, or NULL */
};

/* What it answered. Times are ns since 1970, 0: it doesn't expire. */
struct exec_answer {
	char *token;
	char *certificate, *key; /* PEM; both or none */
	int64_t expires;
};

/*
 * From the map `exec` of a user that stands in `file`. -EINVAL, and *ret_error is half a sentence
 * that goes on from "user "u" in FILE: " (the caller frees it).
 */
int exec_plugin_new(
	const json_t *map, const char *file, struct exec_plugin **ret, char **ret_error);
void exec_plugin_free(struct exec_plugin *p); /* NULL is fine */

/*
 * Runs it and reads its answer. 0; -ETIMEDOUT after timeout_ms, -ECANCELED when cancel_fd (-1:
 * none) gets readable, else -EIO, -EINVAL or what kept it from starting; *ret_error is then one
 * sentence without a credential. The last of what it wrote to stderr is in *ret_stderr either way,
 * or NULL. The caller frees both, and calls exec_answer_release. No process of its session outlives
 * a failure.
 */
int exec_run(const struct exec_plugin *p, int64_t timeout_ms, int cancel_fd,
	struct exec_answer *ret, char **ret_stderr, char **ret_error);
void exec_answer_release(struct exec_answer *a); /* wipes it */

/* The answer in an ExecCredential of that version. -EINVAL, and *ret_error as above. */
int exec_answer_parse(const char *text, size_t len, const char *api_version,
	struct exec_answer *ret, char **ret_error);

#endif
