/* What a refusal is worth. The texts are recorded: reference transcripts g0-* and g1-*. */
#include "client/clock.h"
#include "client/review.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define SECOND	 NSEC_PER_SEC
#define INTERVAL (30 * SECOND)

static void assert_json(json_t *json, const char *expected)
{
	_cleanup_free_ char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);

	assert_string_equal(text, expected);
	json_decref(json);
}

static void test_body(void **state)
{
	assert_json(review_body(&(struct review){
			    "list", &resources_in_groups.streams, NULL, "team", NULL}),
		"{\"apiVersion\":\"authorization.k8s.io/"
		"v1\",\"kind\":\"SelfSubjectAccessReview\","
		"\"spec\":{\"resourceAttributes\":{\"group\":\"image.openshift.io\",\"namespace\":"
		"\"team\","
		"\"resource\":\"imagestreams\",\"verb\":\"list\"}}}");
	assert_json(review_body(&(struct review){
			    "patch", &resources_in_oapi.streams, "status", "", "web"}),
		"{\"apiVersion\":\"authorization.k8s.io/"
		"v1\",\"kind\":\"SelfSubjectAccessReview\","
		"\"spec\":{\"resourceAttributes\":{\"group\":\"\",\"name\":\"web\",\"namespace\":"
		"\"\","
		"\"resource\":\"imagestreams\",\"subresource\":\"status\",\"verb\":\"patch\"}}}");
}

#define REVIEW(status) "{\"kind\":\"SelfSubjectAccessReview\",\"status\":" status "}"

static void test_answers(void **state)
{
	static const struct {
		long code;
		const char *body;
		enum review_answer answer;
	} rows[] = {
		{201, REVIEW("{\"allowed\":false}"), REVIEW_DENIED},
		{201, REVIEW("{\"allowed\":false,\"reason\":\"RBAC\"}"), REVIEW_DENIED},
		{201, REVIEW("{\"allowed\":true}"), REVIEW_ALLOWED},
		{200, REVIEW("{\"allowed\":false}"), REVIEW_FAILED},
		{201, REVIEW("{\"allowed\":\"false\"}"), REVIEW_FAILED},
		{201, REVIEW("{\"allowed\":null}"), REVIEW_FAILED},
		{201, REVIEW("{}"), REVIEW_FAILED},
		{201, REVIEW("null"), REVIEW_FAILED},
		{201, "{\"kind\":\"Status\",\"status\":\"Failure\"}", REVIEW_FAILED},
		{201, "{\"status\":{\"allowed\":false}}", REVIEW_FAILED},
		{201, "[]", REVIEW_FAILED},
		{201, "<html>", REVIEW_FAILED},
		{201, "", REVIEW_FAILED},
		{403, REVIEW("{\"allowed\":false}"), REVIEW_FAILED},
		{503, "service unavailable\n", REVIEW_FAILED},
		{0, "", REVIEW_FAILED},
		{404, "", REVIEW_ABSENT},
		{405, "", REVIEW_ABSENT},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(review_parse(rows[i].code, rows[i].body, strlen(rows[i].body)),
			rows[i].answer);
	assert_int_equal(review_parse(201, NULL, 0), REVIEW_FAILED);
}

#define FORBIDDEN(message)                                                                         \
	"{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\","       \
	"\"message\":\"" message "\",\"reason\":\"Forbidden\",\"code\":403}"
#define LIST(user)                                                                                 \
	"imagestreams.image.openshift.io is forbidden: User \\\"" user                             \
	"\\\" cannot list resource \\\"imagestreams\\\" in API group "                             \
	"\\\"image.openshift.io\\\" in the namespace \\\"team\\\""

static void test_passing(void **state)
{
	static const struct {
		const char *body, *user;
		bool unready, passing;
	} rows[] = {
		{FORBIDDEN(LIST("developer")), "developer", false, false},
		{FORBIDDEN(LIST("developer")), "developer", true, true},
		{FORBIDDEN(LIST("developer")), NULL, false, false},
		{FORBIDDEN(LIST("developer")), "developer2", false, true},
		{FORBIDDEN(LIST("developer2")), "developer", false, true},
		{FORBIDDEN(LIST("developer") ": RBAC: [clusterrole.rbac.authorization.k8s.io "
					     "\\\"edit\\\" not found]"),
			"developer", false, false},
		{FORBIDDEN(LIST("system:anonymous")), "developer", false, true},
		{FORBIDDEN(LIST("system:anonymous")), NULL, false, true},
		{FORBIDDEN(LIST("system:anonymous")), "system:anonymous", false, false},
		{FORBIDDEN(
			 "forbidden: User \\\"system:anonymous\\\" cannot get path \\\"/apis\\\""),
			"developer", false, true},
		{FORBIDDEN(LIST("system:serviceaccount:team:builder")),
			"system:serviceaccount:team:builder", false, false},
		{FORBIDDEN("exceeded quota: q"), "developer", false, false},
		{FORBIDDEN("User \\\"developer"), "developer", false, false},
		{FORBIDDEN(""), "developer", false, false},
		{"Forbidden\n", "developer", false, true},
		{"<html><body>403</body></html>", "developer", false, true},
		{"", NULL, false, true},
		{"{\"kind\":\"Other\"}", NULL, false, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_status_ struct status status = {0};

		status_parse(403, rows[i].body, strlen(rows[i].body), &status);
		if (refusal_is_passing(&status, rows[i].user, rows[i].unready) != rows[i].passing)
			fail_msg("%s as %s", rows[i].body, rows[i].user);
	}
}

static void test_only_403_is_a_refusal(void **state)
{
	_cleanup_status_ struct status status = {0};

	status_parse(503, "", 0, &status);
	assert_false(refusal_is_passing(&status, NULL, true));
}

/* Three of them, over a minute. */
static void test_refusals(void **state)
{
	struct refusals r = {0};
	int64_t begin = 1000 * SECOND;

	assert_false(refusals_add(&r, begin, INTERVAL));
	assert_int_equal(refusals_next(&r, begin, INTERVAL), begin + 30 * SECOND);
	assert_false(refusals_add(&r, begin + 30 * SECOND, INTERVAL));
	assert_int_equal(refusals_next(&r, begin + 30 * SECOND, INTERVAL), begin + 60 * SECOND);
	assert_true(refusals_add(&r, begin + 60 * SECOND, INTERVAL));
}

/* However often it is asked meanwhile. */
static void test_refusals_in_a_row(void **state)
{
	struct refusals r = {0};
	int64_t begin = 1, now = begin;

	for (unsigned i = 0; i < 100; i++, now += SECOND / 10)
		assert_false(refusals_add(&r, now, INTERVAL));
	assert_false(refusals_add(&r, begin + 60 * SECOND - 1, INTERVAL));
	assert_true(refusals_add(&r, begin + 60 * SECOND, INTERVAL));
}

/* Answers that come late don't make it ask at once, nor in the past. */
static void test_refusals_late(void **state)
{
	struct refusals r = {0};
	int64_t begin = 1000 * SECOND, late = begin + 55 * SECOND;

	refusals_add(&r, begin, INTERVAL);
	refusals_add(&r, late, INTERVAL);
	assert_int_equal(refusals_next(&r, late, INTERVAL), begin + 60 * SECOND);
	late = begin + 61 * SECOND;
	assert_true(refusals_next(&r, late, INTERVAL) > late);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_body),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_passing),
		cmocka_unit_test(test_only_403_is_a_refusal),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_refusals_in_a_row),
		cmocka_unit_test(test_refusals_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
