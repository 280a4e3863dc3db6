#include "client/status.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define STATUS(reason, message)                                                                    \
	"{\"kind\":\"Status\",\"reason\":\"" reason "\",\"message\":\"" message "\"}"

struct row {
	long code;
	const char *body;
	int error;
	const char *message;
};

static const struct row rows[] = {
	{200, "{}", 0, "the server answered 200"},
	{400, STATUS("BadRequest", "m"), EINVAL, "m"},
	{401, STATUS("Unauthorized", "Unauthorized"), EKEYEXPIRED, "Unauthorized"},
	{403, STATUS("Forbidden", "User may not"), EACCES, "User may not"},
	{403, STATUS("Forbidden", "x: exceeded quota: q"), EDQUOT, "x: exceeded quota: q"},
	{404, "404 page not found\n", ENOENT, "404 page not found"},
	{405, STATUS("MethodNotAllowed", "m"), EOPNOTSUPP, "m"},
	{409, STATUS("AlreadyExists", "m"), EEXIST, "m"},
	{409, STATUS("Conflict", "m"), ESTALE, "m"},
	{410, STATUS("Expired", "m"), ESTALE, "m"},
	{413, STATUS("RequestEntityTooLarge", "m"), EFBIG, "m"},
	{415, STATUS("UnsupportedMediaType", "m"), EINVAL, "m"},
	{422, STATUS("Invalid", "m"), EINVAL, "m"},
	{422,
		"{\"kind\":\"Status\",\"message\":\"m\",\"details\":{\"causes\":[{\"field\":"
		"\"metadata.uid\"}]}}",
		ESTALE, "m"},
	{422,
		"{\"kind\":\"Status\",\"message\":\"m\",\"details\":{\"causes\":[{\"field\":"
		"\"metadata.uid\"},"
		"{\"field\":\"spec\"}]}}",
		EINVAL, "m"},
	{429, "Too many requests, please try again later.\n", EAGAIN,
		"Too many requests, please try again later."},
	{500, STATUS("InternalError", "m"), EIO, "m"},
	{500, STATUS("ServerTimeout", "m"), EAGAIN, "m"},
	{500, STATUS("", "etcdserver: request is too large"), EFBIG,
		"etcdserver: request is too large"},
	{501, "", EOPNOTSUPP, "the server answered 501"},
	{502, "<html><body>Bad Gateway</body></html>", EIO, "the server answered 502"},
	{503, "service unavailable\n", EAGAIN, "service unavailable"},
	{504, STATUS("Timeout", "m"), ETIMEDOUT, "m"},
	{503, "{\"kind\":\"Sta", EAGAIN, "the server answered 503"},
	{418, "\xff\xfe", EIO, NULL},
};

static void test_rows(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_status_ struct status status = {0};

		status_parse(rows[i].code, rows[i].body, strlen(rows[i].body), &status);
		if (status.error != rows[i].error)
			fail_msg("row %zu: %d", i, status.error);
		assert_int_equal(status.code, rows[i].code);
		if (rows[i].message)
			assert_string_equal(status.message, rows[i].message);
	}
}

static void test_event_of_a_watch(void **state)
{
	_cleanup_json_ json_t *gone = json_pack("{s:s, s:i, s:s}", "kind", "Status", "code", 410,
		"message", "too old resource version");
	_cleanup_json_ json_t *odd = json_pack("{s:s}", "kind", "Unknown");
	_cleanup_status_ struct status status = {0}, unknown = {0};

	status_from_json(500, gone, &status);
	assert_int_equal(status.code, 410);
	status_from_json(500, odd, &unknown);
	assert_int_equal(unknown.error, EIO);
}

static void test_no_body(void **state)
{
	_cleanup_status_ struct status status = {0};

	status_parse(503, NULL, 0, &status);
	assert_string_equal(status.message, "the server answered 503");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_event_of_a_watch),
		cmocka_unit_test(test_no_body),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
