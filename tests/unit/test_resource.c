/* The URLs of the API's resources. */
#include "client/resource.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void assert_path(char *path, const char *expected)
{
	assert_string_equal(path, expected);
	free(path);
}

static void test_in_groups(void **state)
{
	const struct api_resources *r = &resources_in_groups;

	assert_path(resource_path(&r->streams, NULL, NULL, NULL),
		"/apis/image.openshift.io/v1/imagestreams");
	assert_path(resource_path(&r->streams, "shop", NULL, NULL),
		"/apis/image.openshift.io/v1/namespaces/shop/imagestreams");
	assert_path(resource_path(&r->streams, "shop", "web", "status"),
		"/apis/image.openshift.io/v1/namespaces/shop/imagestreams/web/status");
	assert_path(resource_path(&r->tags, "shop", "web:v 1", NULL),
		"/apis/image.openshift.io/v1/namespaces/shop/imagestreamtags/web:v%201");
	assert_path(resource_path(&r->imports, "shop", NULL, NULL),
		"/apis/image.openshift.io/v1/namespaces/shop/imagestreamimports");
	assert_path(resource_path(&r->projects, NULL, "shop", NULL),
		"/apis/project.openshift.io/v1/projects/shop");
	assert_path(
		resource_path(&r->users, NULL, "~", NULL), "/apis/user.openshift.io/v1/users/~");
	assert_path(resource_path(&r->rules_reviews, "shop", NULL, NULL),
		"/apis/authorization.openshift.io/v1/namespaces/shop/selfsubjectrulesreviews");
}

static void test_in_oapi(void **state)
{
	const struct api_resources *r = &resources_in_oapi;

	assert_path(resource_path(&r->streams, "shop", "web", NULL),
		"/oapi/v1/namespaces/shop/imagestreams/web");
	assert_path(resource_path(&r->projects, NULL, NULL, NULL), "/oapi/v1/projects");
	assert_string_equal(r->streams.api_version, "v1");
	assert_string_equal(r->streams.group, "");
}

static void test_of_kubernetes(void **state)
{
	assert_path(
		resource_path(&resource_namespaces, NULL, "shop", NULL), "/api/v1/namespaces/shop");
	assert_path(resource_path(&resource_access_reviews, NULL, NULL, NULL),
		"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews");
	assert_path(resource_path(&resource_rules_reviews, "shop", NULL, NULL),
		"/apis/authorization.k8s.io/v1/selfsubjectrulesreviews");
}

static void test_escaped(void **state)
{
	assert_path(resource_path(&resources_in_oapi.streams, "a/b", "c d?", NULL),
		"/oapi/v1/namespaces/a%2Fb/imagestreams/c%20d%3F");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_groups),
		cmocka_unit_test(test_in_oapi),
		cmocka_unit_test(test_of_kubernetes),
		cmocka_unit_test(test_escaped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
