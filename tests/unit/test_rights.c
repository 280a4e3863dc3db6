#include "client/rights.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define GROUP "image.openshift.io"

/* VERBS, RESOURCES and NAMES are the insides of JSON arrays. */
#define RULE(verbs, groups, resources, names)                                                      \
	"{\"verbs\":[" verbs "],\"apiGroups\":[" groups "],\"resources\":[" resources              \
	"],\"resourceNames\":[" names "]}"
#define OURS(verbs, resources, names) RULE(verbs, "\"\",\"" GROUP "\"", resources, names)

static struct grants *parse(const char *rules)
{
	_cleanup_free_ char *text = xasprintf("[%s]", rules);
	_cleanup_json_ json_t *json = json_loads(text, 0, NULL);

	assert_non_null(json);
	return grants_from_rules(json, GROUP, 0);
}

static void test_rules(void **state)
{
	static const struct {
		const char *rule;
		unsigned rights;
	} rows[] = {
		{OURS("\"get\",\"list\",\"watch\"", "\"imagestreams\"", ""),
			RIGHT_GET | RIGHT_LIST | RIGHT_WATCH},
		{OURS("\"*\"", "\"*\"", ""), RIGHTS_ALL},
		{RULE("\"*\"", "\"*\"", "\"*\"", ""), RIGHTS_ALL},
		{RULE("\"*\"", "\"apps\"", "\"*\"", ""), 0},
		{RULE("\"*\"", "\"\"", "\"imagestreams\"", ""), 0},
		{OURS("\"patch\"", "\"imagestreams/status\"", ""), RIGHT_PATCH_STATUS},
		{OURS("\"patch\"", "\"*/status\"", ""), RIGHT_PATCH_STATUS},
		{OURS("\"patch\"", "\"imagestreams\"", ""), RIGHT_PATCH},
		{OURS("\"delete\"", "\"imagestreamtags\"", ""), RIGHT_DELETE_TAG},
		{OURS("\"delete\"", "\"imagestreamtags/x\"", ""), 0},
		{"{}", 0},
		{"7", 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_grants_ struct grants *g = parse(rows[i].rule);

		assert_int_equal(grants_of(g, NULL), rows[i].rights);
		assert_int_equal(grants_of(g, "web"), rows[i].rights);
		assert_false(grants_name(g));
	}
}

static void note(void *arg, const char *stream)
{
	char *names = arg;

	strcat(names, stream);
	strcat(names, ";");
}

static void test_names(void **state)
{
	_cleanup_grants_ struct grants *g = parse(
		OURS("\"list\"", "\"imagestreams\"", "") "," OURS("\"get\",\"list\",\"create\"",
			"\"imagestreams\"", "\"web\"") "," OURS("\"patch\",\"delete\"",
			"\"imagestreams\","
			"\"imagestreamtags\"",
			"\"api\"") "," OURS("\"delete\"", "\"imagestreamtags\"", "\"web:v1\",7"));
	char names[64] = "";

	assert_int_equal(grants_of(g, "web"), RIGHT_LIST | RIGHT_GET | RIGHT_DELETE_TAG);
	assert_int_equal(grants_of(g, "api"), RIGHT_LIST | RIGHT_PATCH | RIGHT_DELETE);
	assert_int_equal(grants_of(g, "other"), RIGHT_LIST);
	assert_int_equal(grants_of(g, NULL),
		RIGHT_LIST | RIGHT_GET | RIGHT_DELETE_TAG | RIGHT_PATCH | RIGHT_DELETE);
	assert_true(grants_name(g));
	grants_named(g, note, names);
	assert_string_equal(names, "web;");
}

static void test_unknown(void **state)
{
	_cleanup_json_ json_t *none = json_array();
	_cleanup_grants_ struct grants *g = grants_from_rules(none, GROUP, RIGHT_PATCH);

	assert_int_equal(grants_of(NULL, NULL), RIGHTS_ALL);
	assert_int_equal(grants_of(NULL, "web"), RIGHTS_ALL);
	assert_false(grants_name(NULL));
	assert_int_equal(grants_of(g, "web"), RIGHT_PATCH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
