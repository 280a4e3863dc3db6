/*
 * Any JSON gives the YAML that libyaml makes of it, byte for byte, and its size without it. Bytes
 * that are no JSON count as a text: as a key, a value, an element, and on its own.
 */
#include "fuzz.h"

#include "client/json.h"
#include "client/yamltext.h"
#include "tests/yaml_reference.h"

#define TEXT_MAX ((size_t)64 << 20)

static void check(const json_t *json)
{
	_cleanup_buf_ struct buf text = BUF_INIT(TEXT_MAX), is = BUF_INIT(TEXT_MAX);
	_cleanup_buf_ struct buf should = BUF_INIT(TEXT_MAX);

	if (buf_addjson(&text, json, JSON_COMPACT | JSON_ENCODE_ANY) < 0 ||
		yaml_reference_show(json, &should) < 0)
		abort();
	if (yamltext_show(text.data, text.len, &is) < 0 || is.len != should.len ||
		memcmp(is.data, should.data, is.len) != 0)
		abort();
	if (yamltext_size(text.data, text.len) != is.len)
		abort();
}

static json_t *wrap(json_t *text)
{
	const char *key = json_string_value(text);

	return json_pack("{s:O, s:[O, {s:[O, O], s:{s:O}}]}", key, text, "a", text, key, text, text,
		"b", key, text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_json_ json_t *json =
		json_read_or_null((const char *)data, size, JSON_ALLOW_NUL | JSON_DECODE_ANY);
	_cleanup_json_ json_t *text = json ? NULL : json_stringn((const char *)data, size);
	_cleanup_json_ json_t *wrapped = text ? wrap(text) : NULL;

	if (json)
		check(json);
	if (text)
		check(text);
	if (wrapped)
		check(wrapped);
	return 0;
}
