/* YAML of any bytes gives JSON or one sentence; JSON to YAML and back is the identity. */
#include "fuzz.h"

#include "client/yaml.h"

#define TEXT_MAX ((size_t)64 << 20)

static void check_identity(const json_t *json)
{
	_cleanup_buf_ struct buf text = BUF_INIT(TEXT_MAX), again = BUF_INIT(TEXT_MAX);
	_cleanup_buf_ struct buf before = BUF_INIT(TEXT_MAX), after = BUF_INIT(TEXT_MAX);
	_cleanup_json_ json_t *back = NULL;
	_cleanup_free_ char *error = NULL;

	if (buf_addjson(&before, json, JSON_COMPACT | JSON_ENCODE_ANY) < 0)
		return; /* what aliases share may be more than the fuzzer's memory */
	if (yaml_show(json, &text) < 0 || yaml_parse(text.data, text.len, &back, &error) < 0)
		abort();
	if (buf_addjson(&after, back, JSON_COMPACT | JSON_ENCODE_ANY) < 0 ||
		!streq(before.data, after.data)) /* the order of keys too */
		abort();
	if (yaml_show(back, &again) < 0 || !streq(text.data, again.data))
		abort();
}

static void read_stream(const char *text, size_t len, enum yaml_scalars scalars)
{
	_cleanup_yaml_reader_ struct yaml_reader *r = yaml_reader_new(text, len, scalars);
	int n;

	do {
		_cleanup_free_ char *error = NULL;
		_cleanup_json_ json_t *json = NULL;

		n = yaml_reader_next(r, &json, &error);
		if ((n < 0) != (error != NULL) || (n > 0) != (json != NULL))
			abort();
		if (error && (!*error || strchr(error, '\n')))
			abort();
		if (json)
			check_identity(json);
	} while (n > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	_cleanup_json_ json_t *json =
		json_loadb(text, size, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);

	read_stream(text, size, YAML_SCALARS_TYPED);
	read_stream(text, size, YAML_SCALARS_TEXT);
	if (json)
		check_identity(json);
	return 0;
}
