/*
 * credentials: who we are in one request. A snapshot: immutable, counted. login makes another one
 * when a file, a plugin or the kubeconfig says something new, and each transfer holds the one that
 * it was started with.
 */
#ifndef CLIENT_CREDENTIALS_H
#define CLIENT_CREDENTIALS_H

#include "client/config.h"

#include <stdatomic.h>

struct credentials {
	atomic_uint refs;
	atomic_bool refused; /* the server's last answer to them was 401 */
	unsigned generation; /* login counts them */
	const char *kind; /* "token", "tokenFile", "basic", "exec", "client-certificate", "none" */

	char *token;		   /* or NULL */
	char *username, *password; /* both or none */
	char *certificate, *key;   /* PEM text, both or none */
	char **headers;		   /* whole header lines (impersonation), then NULL */
};

/*
 * What `config` says, its files read now, and `answer` (NULL where there is no plugin), which stays
 * the caller's. `first`: a token that stands beside an unreadable token file will do. -ENODATA,
 * -EINVAL, -EKEYEXPIRED (the certificate) or the errno of a file, and *ret_error is one sentence
 * (the caller frees it). A certificate and its key are only taken if TLS can use them (keypair).
 */
int credentials_new(const struct config *config, const struct exec_answer *answer, bool first,
	struct credentials **ret, char **ret_error);
struct credentials *credentials_ref(struct credentials *c);
void credentials_unref(struct credentials *c); /* the last one wipes them; NULL is fine */

bool credentials_equal(const struct credentials *a, const struct credentials *b);

#endif
