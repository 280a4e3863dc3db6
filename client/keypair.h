/*
 * keypair: whether TLS can use a client certificate with its key, as Go's tls.X509KeyPair says it
 * to kubectl. libcurl can't be asked: it looks only when it connects, and there OpenSSL asks the
 * terminal for a key's passphrase, or crashes where it has none.
 */
#ifndef CLIENT_KEYPAIR_H
#define CLIENT_KEYPAIR_H

#include "client/util.h"

/*
 * Both are PEM text; the certificate may have others behind it. 0; else -EINVAL, or -EKEYEXPIRED
 * where the certificate's time is over. Then *ret_of_key says which of the two is wrong, and
 * *ret_problem (the caller frees) goes on from its name: "is encrypted …".
 */
int keypair_check(const char *certificate, const char *key, bool *ret_of_key, char **ret_problem);

#endif
