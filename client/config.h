/*
 * config: from kubeconfig files and flags to one immutable configuration: which server, how to
 * trust it, who we are. The rules are client-go's (tools/clientcmd); names are kubectl's.
 */
#ifndef CLIENT_CONFIG_H
#define CLIENT_CONFIG_H

#include "client/util.h"

#include <pthread.h>

/* What the command line says. NULL, "" or false: not given. Borrowed. */
struct config_flags {
	const char *kubeconfig;
	const char *context, *cluster, *user;
	const char *server;
	const char *token, *token_file;
	const char *certificate_authority, *client_certificate, *client_key;
	const char *tls_server_name;
	bool insecure_skip_tls_verify;

	/* Where a pod finds its credentials. NULL: where Kubernetes mounts them. */
	const char *serviceaccount;
};

/* A file or its content, never both. Both NULL: not given. */
struct config_pem {
	char *file; /* absolute; readable when it was loaded */
	char *data; /* PEM text, NUL-terminated */
};

/*
 * Nothing but the token changes after config_load. Over http:// there are no credentials in it:
 * they are only used over https.
 */
struct config {
	char *server;	 /* https://host[:port][/path] or http://…, without a slash at the end */
	char *context;	 /* name of the context in use, or NULL */
	char *cluster;	 /* name of its cluster entry, or NULL */
	char *user;	 /* name of its user entry, or NULL */
	char *namespace; /* the context's namespace, a DNS label, or NULL */

	bool insecure_skip_tls_verify; /* never together with a certificate authority */
	char *tls_server_name;
	struct config_pem certificate_authority;

	struct config_pem client_certificate, client_key; /* both or none */
	char *username, *password; /* both or none, and never together with a token */

	/* config_token alone reads these. */
	char *token_file;     /* absolute */
	pthread_mutex_t lock; /* of what follows; a leaf */
	char *token;
	int64_t token_read; /* when the file was read, now_monotonic; 0: never */
};

/*
 * Loads the files (--kubeconfig; else $KUBECONFIG's list, merged; else ~/.kube/config), picks the
 * context and lays the flags over it. Where the files hold nothing and no flag chooses, a pod's own
 * service account is taken. The caller frees *ret with config_free.
 * -EINVAL, -EOPNOTSUPP or the errno of a file, and then *ret_error is one sentence for the user
 * without any credential in it (the caller frees it).
 */
int config_load(const struct config_flags *flags, struct config **ret, char **ret_error);

void config_free(struct config *c); /* wipes what is secret; NULL is fine */

/*
 * The bearer token for a request now, or NULL where there is none. A token file is read again when
 * its last reading is older than 50 seconds; an unreadable file keeps the old token. Thread-safe.
 * The caller frees.
 */
char *config_token(struct config *c);

/* The server refused the token: reads the file again now. True when there is another one. */
bool config_renew_token(struct config *c);

#endif
