/*
 * proxy: which proxy requests go through, as client-go chooses it: Go's
 * golang.org/x/net/http/httpproxy. tests/data/proxies.json has the cases.
 */
#ifndef CLIENT_PROXY_H
#define CLIENT_PROXY_H

#include "client/util.h"

/*
 * What the environment `env` (as environ) names for the server at `url`: HTTPS_PROXY or HTTP_PROXY
 * by the URL's scheme, unless the host is this machine or stands in NO_PROXY; each name also in
 * lower case, where the other one is missing or empty. "": none, also where the proxy's URL is none
 * (Go passes over it). The caller frees it; it may hold a password.
 */
char *proxy_for(const char *url, char *const env[]);

/*
 * A proxy's URL as Go reads it, in curl's terms: http:// where it has no scheme, Go's port where it
 * has none, and SOCKS proxies look names up themselves. NULL: it is no URL. The caller frees it.
 */
char *proxy_complete(const char *proxy);

#endif
