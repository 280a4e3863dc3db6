/* Whatever a server answers that is no success gives an errno and a sentence. */
#include "fuzz.h"

#include "client/json.h"
#include "client/review.h"
#include "client/status.h"

static void check_status(struct status *s)
{
	if (s->error < 0 || (s->error == 0) != (s->code >= 200 && s->code < 300) || !s->message)
		abort();
	if (status_is_missing(s, "web") && s->code != 404)
		abort();
	(void)refusal_is_passing(s, "developer", false);
	(void)refusal_is_passing(s, NULL, true);
	status_release(s);
}

/* The first byte stands for the HTTP code. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const long codes[] = {0, 200, 201, 204, 301, 400, 401, 403, 404, 405, 409, 410, 413,
		415, 422, 429, 500, 503, 504, 599};
	long code = size ? codes[data[0] % ARRAY_SIZE(codes)] : 500;
	const char *body = size ? (const char *)data + 1 : NULL;
	size_t len = size ? size - 1 : 0;
	_cleanup_json_ json_t *json =
		json_read_or_null(body, len, JSON_ALLOW_NUL | JSON_DECODE_ANY);
	enum review_answer answer = review_parse(code, body, len);
	struct status s;

	if ((answer == REVIEW_ALLOWED || answer == REVIEW_DENIED) && code != 201)
		abort();
	status_parse(code, body, len, &s);
	if (s.code != code)
		abort();
	check_status(&s);
	if (json) {
		status_from_json(code, json, &s);
		check_status(&s);
	}
	return 0;
}
