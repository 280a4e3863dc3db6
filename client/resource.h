/*
 * resource: the API's resources that we use, and their URLs: every path below the server's URL is
 * made here, but for /version. Pure.
 */
#ifndef CLIENT_RESOURCE_H
#define CLIENT_RESOURCE_H

#include "client/util.h"

struct api_resource {
	const char *root;	 /* what its URLs begin with: "/apis/image.openshift.io/v1" */
	const char *api_version; /* of its objects: "image.openshift.io/v1" */
	const char *group;	 /* "" for Kubernetes's core and OpenShift's old API */
	const char *plural, *kind;
	bool namespaced;
};

/* What OpenShift adds. */
struct api_resources {
	struct api_resource streams, tags, images, imports, projects, users;
	struct api_resource rules_reviews; /* for servers without resource_rules_reviews */
};

/* In groups; and as /oapi/v1 on servers that have none. */
extern const struct api_resources resources_in_groups, resources_in_oapi;

/* What Kubernetes has. */
extern const struct api_resource resource_namespaces, resource_access_reviews,
	resource_rules_reviews;

/*
 * The URL path, each part escaped. `ns` NULL: of all of them; `name` NULL: of the collection;
 * `subresource` NULL: none. The caller frees.
 */
char *resource_path(
	const struct api_resource *r, const char *ns, const char *name, const char *subresource);

#endif
