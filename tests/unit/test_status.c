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
	{500,
		"{\"kind\":\"Status\",\"message\":\"failed to create typed patch object (/ap1; "
		"image.openshift.io/v1, Kind=ImageStream): .spec.colour: field not declared in "
		"schema\"}",
		EINVAL, ".spec.colour: field not declared in schema"},
	{500,
		STATUS("", "failed to create typed patch object (/ap1; v1, Kind=ImageStream): "
			   ".spec.tags: duplicate entries for key"),
		EINVAL, ".spec.tags: duplicate entries for key"},
	{500, STATUS("", "resourceVersion should not be set on objects to be created"), EINVAL,
		"resourceVersion should not be set on objects to be created"},
	/* Whatever has a reason, isn't said so by a Status, or is about what the server has. */
	{500, STATUS("InternalError", "failed to create typed patch object (x): m"), EIO, "m"},
	{500, "failed to create typed patch object (x): m", EIO,
		"failed to create typed patch object (x): m"},
	{500, STATUS("", "failed to create typed live object (x): m"), EIO,
		"failed to create typed live object (x): m"},
	{500, STATUS("", "no: failed to create typed patch object ("), EIO, NULL},
	{503, STATUS("", "failed to create typed patch object (x): m"), EAGAIN, "m"},
	{500, STATUS("", "m"), EIO, "m"},
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

/* The code alone decides where something before the API server answers. */
static void test_bodies_without_status(void **state)
{
	static const struct {
		long code;
		int error;
	} codes[] = {{302, EIO}, {400, EINVAL}, {401, EKEYEXPIRED}, {403, EACCES}, {404, ENOENT},
		{405, EOPNOTSUPP}, {406, EIO}, {409, ESTALE}, {410, ESTALE}, {413, EFBIG},
		{415, EINVAL}, {422, EINVAL}, {429, EAGAIN}, {500, EIO}, {501, EOPNOTSUPP},
		{502, EIO}, {503, EAGAIN}, {504, ETIMEDOUT}, {505, EIO}, {599, EIO}};
	static const char *const bodies[] = {"", "\n", "<html>\n<h1>Sorry</h1></html>",
		"{\"kind\":\"NotAStatus\",\"code\":200}", "[1]", "{\"kind\":", "\x01"};

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		for (size_t k = 0; k < ARRAY_SIZE(bodies); k++) {
			_cleanup_status_ struct status s = {0};

			status_parse(codes[i].code, bodies[k], strlen(bodies[k]), &s);
			assert_int_equal(s.error, codes[i].error);
			assert_int_equal(s.code, codes[i].code);
			assert_null(s.body);
			assert_null(s.reason);
			assert_true(strlen(s.message) > 0);
			assert_null(strchr(s.message, '<'));
		}
}

/* What HTTP says is what happened; a number in the text can't turn a failure into a success. */
static void test_http_code_counts(void **state)
{
	static const char *const bodies[] = {"{\"kind\":\"Status\",\"message\":\"m\",\"code\":200}",
		"{\"kind\":\"Status\",\"message\":\"m\",\"code\":0}",
		"{\"kind\":\"Status\",\"message\":\"m\",\"code\":404}"};

	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		_cleanup_status_ struct status s = {0};

		status_parse(503, bodies[i], strlen(bodies[i]), &s);
		assert_int_equal(s.code, 503);
		assert_int_equal(s.error, EAGAIN);
	}
}

static void test_causes(void **state)
{
	static const struct {
		const char *details;
		int error;
	} causes[] = {
		{"{\"causes\":[{\"field\":\"spec\"},{\"field\":\"metadata.uid\"}]}", EINVAL},
		{"{\"causes\":[{\"field\":\"metadata.uidx\"}]}", EINVAL},
		{"{\"causes\":[{\"field\":null}]}", EINVAL},
		{"{\"causes\":[7]}", EINVAL},
		{"{\"causes\":{\"field\":\"metadata.uid\"}}", EINVAL},
		{"null", EINVAL},
		{"{\"causes\":[{\"field\":\"metadata.uid\",\"reason\":\"x\"}]}", ESTALE},
		{"{\"causes\":[]}", EINVAL},
		/* The server names it twice. */
		{"{\"causes\":[{\"field\":\"metadata.uid\"},{\"field\":\"metadata.uid\"}]}",
			ESTALE},
		{"{\"causes\":[{\"field\":\"metadata.uid\"},{\"field\":\"metadata.uid\"},"
		 "{\"field\":\"metadata.name\"}]}",
			EINVAL},
		{"{\"causes\":[{\"field\":\"metadata.uid\"},{\"message\":\"m\"}]}", EINVAL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(causes); i++) {
		_cleanup_free_ char *text = xasprintf(
			"{\"kind\":\"Status\",\"code\":422,\"details\":%s}", causes[i].details);
		_cleanup_status_ struct status s = {0};

		status_parse(422, text, strlen(text), &s);
		assert_int_equal(s.error, causes[i].error);
		assert_string_equal(s.message, "the server answered 422");
	}
}

/* The words count only with the codes that they come with. */
static void test_words_elsewhere(void **state)
{
	static const char quota[] = STATUS("BadRequest", "exceeded quota: q");
	static const char large[] = STATUS("BadRequest", "request is too large");
	static const char busy[] = STATUS("ServerTimeout", "m");
	_cleanup_status_ struct status s = {0}, t = {0}, u = {0};

	status_parse(400, quota, strlen(quota), &s);
	assert_int_equal(s.error, EINVAL);
	assert_string_equal(s.reason, "BadRequest");
	status_parse(400, large, strlen(large), &t);
	assert_int_equal(t.error, EINVAL);
	status_parse(404, busy, strlen(busy), &u);
	assert_int_equal(u.error, ENOENT);
}

/* The body isn't NUL-terminated where it ends, and may be long. */
static void test_len(void **state)
{
	_cleanup_free_ char *few = xmalloc(3), *many = xmalloc(1 << 20);
	_cleanup_status_ struct status s = {0}, t = {0};

	memcpy(few, "abc", 3);
	status_parse(500, few, 3, &s);
	assert_string_equal(s.message, "abc");
	memset(many, 'x', 1 << 20);
	status_parse(500, many, 1 << 20, &t);
	assert_int_equal(strlen(t.message), 1024);
}

static void test_event_of_anything(void **state)
{
	json_t *objects[] = {NULL, json_null(), json_object(), json_array(), json_string("x"),
		json_integer(410), json_pack("{s:{}, s:[], s:i}", "code", "reason", "message", 7)};

	for (size_t i = 0; i < ARRAY_SIZE(objects); i++) {
		_cleanup_status_ struct status s = {0};

		status_from_json(500, objects[i], &s);
		assert_int_equal(s.code, 500);
		assert_int_equal(s.error, EIO);
		assert_null(s.reason);
		assert_string_equal(s.message, "the server answered 500");
		json_decref(objects[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_event_of_a_watch),
		cmocka_unit_test(test_no_body),
		cmocka_unit_test(test_bodies_without_status),
		cmocka_unit_test(test_http_code_counts),
		cmocka_unit_test(test_causes),
		cmocka_unit_test(test_words_elsewhere),
		cmocka_unit_test(test_len),
		cmocka_unit_test(test_event_of_anything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
