/* tests/data/proxies.json, row by row. tests/mount/test_proxy.py holds kubectl to the same rows. */
#include "client/proxy.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const char *table;

/* The caller frees the list and its lines. */
static char **make_env(const json_t *variables)
{
	char **env = xcalloc(json_object_size(variables) + 1, sizeof(*env)), **end = env;
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)variables, name, value)
		*end++ = xasprintf("%s=%s", name, json_string_value(value));
	return env;
}

static void check_row(const json_t *row)
{
	const char *url = json_str(row, "server"), *expected = json_str(row, "proxy");
	char **env = make_env(json_object_get(row, "env"));
	_cleanup_free_ char *text = json_dumps(row, 0), *proxy = NULL;

	assert_non_null(url);
	proxy = proxy_for(url, env);
	if (!streq(proxy, expected))
		fail_msg("%s: got \"%s\"", text, proxy);
	for (char **line = env; *line; line++)
		free(*line);
	free(env);
}

static void test_table(void **state)
{
	_cleanup_json_ json_t *rows = json_load_file(table, 0, NULL);
	const json_t *row;
	size_t i;

	assert_true(json_array_size(rows) >= 30);
	json_array_foreach(rows, i, row)
		check_row(row);
}

static void test_complete(void **state)
{
	static const char *const rows[][2] = {
		{"http://p", "http://p:80/"},
		{"HTTPS://p", "https://p:443/"},
		{"socks5://p", "socks5h://p:1080/"},
		{"socks5h://p:9/", "socks5h://p:9/"},
		{"http://me:pass%20word@p:3128/path?x#y", "http://me:pass%20word@p:3128/"},
		{"p:3128", "http://p:3128/"},
		{"http://[::1]:3128", "http://[::1]:3128/"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *proxy = proxy_complete(rows[i][0]);

		if (!proxy || !streq(proxy, rows[i][1]))
			fail_msg("%s: %s", rows[i][0], proxy);
	}
	assert_null(proxy_complete("http://a b"));
	assert_null(proxy_complete(""));
}

int main(int argc, char *argv[])
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_complete),
	};

	table = argc > 1 ? argv[1] : "tests/data/proxies.json";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
