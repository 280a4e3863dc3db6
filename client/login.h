/*
 * login: the credentials in use, and how they stay good while a mount lasts. One thread of its own
 * makes them anew; requests take the snapshot that there is and never wait for that thread, unless
 * they were refused and ask for better ones.
 *
 * - Token and certificate files are read again every 50 seconds (client-go: 60 less 10); what isn't
 *   whole or doesn't belong together, every second.
 * - A plugin runs again 10 seconds before its answer expires, and after a 401.
 * - After a 401, and then every second until the server takes us again, files are read again, and
 *   the kubeconfig, too, once it was written: `oc login` elsewhere heals the mount.
 * - The old credentials stay where that fails. None of them goes to another server than they were
 *   loaded for (config_reload).
 */
#ifndef CLIENT_LOGIN_H
#define CLIENT_LOGIN_H

#include "client/clock.h"
#include "client/credentials.h"

struct login;

typedef void login_changed_fn(void *arg);

/*
 * The first credentials; where the configuration names a plugin it runs now, and may take
 * plugin_timeout_ms. `config` is borrowed. 0; or as credentials_new and exec_run, and *ret_error is
 * one sentence for the user.
 */
int login_new(const struct config *config, int64_t plugin_timeout_ms, struct login **ret,
	char **ret_error);
/*
 * Before login_start, when the server refused the first ones: True when a renewal brought others.
 */
bool login_renew(struct login *l);
/*
 * Starts the thread. It calls `changed`, without a lock, when a renewal brought other credentials.
 * 0 or -EAGAIN: no thread.
 */
int login_start(struct login *l, login_changed_fn *changed, void *arg);
void login_stop(struct login *l); /* ends the thread and its plugin, also one started only later */
void login_free(struct login *l); /* NULL is fine */

const struct config *login_config(const struct login *l); /* where the server is; borrowed */

/* What a request is to use now. The caller owns the reference. */
struct credentials *login_credentials(struct login *l);

/* The server answered `code` to them: 401 starts a renewal, unless one has come since. */
void login_answered(struct login *l, struct credentials *c, long code);

/*
 * For a caller rejected with `generation`: requests a renewal; returns its number for login_wait.
 */
unsigned login_ask(struct login *l, unsigned generation);
/*
 * 0: it brought other credentials; -EAGAIN: not known before `until` (now_monotonic); -EKEYEXPIRED:
 * that renewal changed nothing.
 */
int login_wait(struct login *l, unsigned generation, unsigned renewal, int64_t until);

/*
 * What a server that refuses them didn't take, and what helps, for a message: "it doesn't take
 * --token; `oc login` …". Holds no secret. The caller frees.
 */
char *login_advice(struct login *l);

/* Kind, expiry, last error and a plugin's stderr, never a credential. New reference. */
json_t *login_status(struct login *l);

#endif
