#include "client/resource.h"

#include "client/buf.h"

#define PATH_SIZE 8192 /* four names of 255 bytes, escaped */

#define IN_GROUP(name) "/apis/" name "/v1", name "/v1", name
#define IN_OAPI	       "/oapi/v1", "v1", ""

const struct api_resources resources_in_groups = {
	.streams = {IN_GROUP("image.openshift.io"), "imagestreams", "ImageStream", true},
	.tags = {IN_GROUP("image.openshift.io"), "imagestreamtags", "ImageStreamTag", true},
	.images = {IN_GROUP("image.openshift.io"), "imagestreamimages", "ImageStreamImage", true},
	.imports = {IN_GROUP("image.openshift.io"), "imagestreamimports", "ImageStreamImport",
		true},
	.projects = {IN_GROUP("project.openshift.io"), "projects", "Project", false},
	.users = {IN_GROUP("user.openshift.io"), "users", "User", false},
	.rules_reviews = {IN_GROUP("authorization.openshift.io"), "selfsubjectrulesreviews",
		"SelfSubjectRulesReview", true},
};

const struct api_resources resources_in_oapi = {
	.streams = {IN_OAPI, "imagestreams", "ImageStream", true},
	.tags = {IN_OAPI, "imagestreamtags", "ImageStreamTag", true},
	.images = {IN_OAPI, "imagestreamimages", "ImageStreamImage", true},
	.imports = {IN_OAPI, "imagestreamimports", "ImageStreamImport", true},
	.projects = {IN_OAPI, "projects", "Project", false},
	.users = {IN_OAPI, "users", "User", false},
	.rules_reviews = {IN_OAPI, "selfsubjectrulesreviews", "SelfSubjectRulesReview", true},
};

const struct api_resource resource_namespaces = {
	"/api/v1", "v1", "", "namespaces", "Namespace", false};
const struct api_resource resource_access_reviews = {IN_GROUP("authorization.k8s.io"),
	"selfsubjectaccessreviews", "SelfSubjectAccessReview", false};
const struct api_resource resource_rules_reviews = {IN_GROUP("authorization.k8s.io"),
	"selfsubjectrulesreviews", "SelfSubjectRulesReview", false};

/* A tag's name is STREAM:TAG, and a colon may stand in a path as it is. */
static void add_part(struct buf *path, const char *part)
{
	const char *separator = "/";

	while (part) {
		_cleanup_free_ char *piece = xstrndup(part, strcspn(part, ":"));

		buf_addstr(path, separator);
		buf_addurl(path, piece);
		separator = ":";
		part = strchr(part, ':');
		part = part ? part + 1 : NULL;
	}
}

char *resource_path(
	const struct api_resource *r, const char *ns, const char *name, const char *subresource)
{
	struct buf path = BUF_INIT(PATH_SIZE);
	size_t len;

	buf_addstr(&path, r->root);
	if (r->namespaced && ns) {
		add_part(&path, "namespaces");
		add_part(&path, ns);
	}
	add_part(&path, r->plural);
	add_part(&path, name);
	add_part(&path, subresource);
	return buf_steal(&path, &len);
}
