/*
 * config: from kubeconfig files and flags to one immutable configuration: which server, how to
 * trust it, where our credentials are. The rules are client-go's (tools/clientcmd); names are
 * kubectl's.
 */
#ifndef CLIENT_CONFIG_H
#define CLIENT_CONFIG_H

#include "client/exec.h"

/* What the command line says. NULL, "" or false: not given. Borrowed. */
struct config_flags {
	const char *kubeconfig;
	const char *context, *cluster, *user;
	const char *server;
	const char *token, *token_file;
	const char *certificate_authority, *client_certificate, *client_key;
	const char *tls_server_name;
	bool insecure_skip_tls_verify;
	const char *as, *as_uid;
	json_t *as_groups; /* array of texts, or NULL */

	/* Where relative paths begin. NULL: the current directory. */
	const char *directory;

	/* Where a pod finds its credentials. NULL: where Kubernetes mounts them. */
	const char *serviceaccount;
};

/* A file or its content, never both. Both NULL: not given. */
struct config_pem {
	char *file; /* absolute; readable when it was loaded */
	char *data; /* PEM text, NUL-terminated */
};

/*
 * Immutable. What renews is made from it: see credentials and login. Over http:// there are no
 * credentials in it: they are only used over https.
 */
struct config {
	char *server;  /* https://host[:port][/path] or http://…, without a slash at the end */
	char *context; /* name of the context in use, or NULL */
	char *cluster; /* name of its cluster entry, or NULL */
	char *user;    /* name of its user entry, or NULL */
	char *ns;      /* the context's namespace, a DNS label, or NULL */

	bool insecure_skip_tls_verify; /* never together with a certificate authority */
	bool disable_compression;
	char *tls_server_name;
	char *proxy_url; /* http, https, socks5, socks5h; may hold a password. NULL: none */
	struct config_pem certificate_authority;

	struct config_pem client_certificate, client_key; /* both or none */
	char *username, *password; /* both or none, and never together with a token */
	char *token_file;	   /* absolute */
	char *token;		   /* with a token file only until that can be read */
	struct exec_plugin *exec;  /* only where nothing of the above is given */

	/* Whom to act as; nothing else is given without `as`. */
	char *as, *as_uid;
	json_t *as_groups; /* texts, or NULL */
	json_t *as_extra;  /* key → texts, or NULL */

	struct config_flags flags; /* a copy, for config_reload */
	uint64_t signature;	   /* kubeconfig_signature when it was read */
};

/*
 * Loads the files (--kubeconfig; else $KUBECONFIG's list, merged; else ~/.kube/config), picks the
 * context and lays the flags over it. Where the files hold nothing and no flag chooses, a pod's own
 * service account is taken. The caller frees *ret with config_free.
 * No token file is read and no plugin run. -EINVAL, -EOPNOTSUPP or the errno of a file, and then
 * *ret_error is one sentence for the user without any credential in it (the caller frees it).
 */
int config_load(const struct config_flags *flags, struct config **ret, char **ret_error);

/*
 * What the files name, without a request: the contexts, or the namespaces that they have (each
 * once), for completions. 0 and a new list of texts, or as config_load.
 */
int config_list(const struct config_flags *flags, bool namespaces, json_t **ret, char **ret_error);

void config_free(struct config *c); /* wipes what is secret; NULL is fine */

/*
 * The same files and flags again, and the same context though another one may be current now.
 * -EXDEV when they name another server, CA or server name: what belongs to one server must not be
 * sent to another.
 */
int config_reload(const struct config *old, struct config **ret, char **ret_error);

/* Whether a kubeconfig was written since it was loaded. */
bool config_is_outdated(const struct config *c);

/* What may stand in a header's value, and what a bearer token may hold: visible ASCII. */
bool config_header_is_safe(const char *text);
bool config_token_is_valid(const char *token);

char *config_trim(char *s); /* cuts white space off; where the rest begins */

#endif
