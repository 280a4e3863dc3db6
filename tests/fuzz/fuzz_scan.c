/*
 * A text that scan_read takes is one that jansson takes, and writes again byte for byte; what
 * scan says of its values is what jansson's tree of it says. What jansson writes, but for reals and
 * long integers, scan_read takes; all of it scan_read_own does.
 */
#include "fuzz.h"

#include "client/json.h"
#include "client/scan.h"
#include "fs/tree/attr.h"

#define COMPACT (JSON_COMPACT | JSON_ENCODE_ANY)

static void check_value(const struct scan_value *v, const json_t *json);

static void check_string(const struct scan_value *v, const json_t *json)
{
	size_t len;
	_cleanup_free_ char *text = scan_string(v, &len);

	if (!text != !json_is_string(json))
		abort();
	if (text && (len != json_string_length(json) ||
			    memcmp(text, json_string_value(json), len) != 0))
		abort();
}

static void check_members(const struct scan_value *v, const json_t *json)
{
	size_t members = 0;
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)json, name, value) {
		const struct scan_value *member = NULL;
		size_t at = 0;

		scan_foreach(v, m) {
			if (at++ == members)
				member = m;
		}
		if (!member || member->key_len < strlen(name) + 2)
			abort();
		check_value(member, value);
		members++;
	}
	scan_foreach(v, m)
		members--;
	if (members != 0)
		abort();
}

static void check_elements(const struct scan_value *v, const json_t *json)
{
	size_t i = 0;

	scan_foreach(v, e)
		check_value(e, json_array_get(json, i++));
	if (i != json_array_size(json))
		abort();
}

static void check_value(const struct scan_value *v, const json_t *json)
{
	if (scan_is_object(v) != json_is_object(json) || scan_is_array(v) != json_is_array(json))
		abort();
	check_string(v, json);
	if (json_is_object(json))
		check_members(v, json);
	if (json_is_array(json))
		check_elements(v, json);
}

static void check_sizes(const struct scan_value *v, const json_t *json)
{
	_cleanup_free_ char *shown = json_dumps(json, JSON_INDENT(2) | JSON_ENCODE_ANY);
	_cleanup_buf_ struct buf bytes = BUF_INIT(ATTR_MAX);
	struct attr_sink counted = {0}, written = {.bytes = &bytes};
	size_t lines = 0;

	for (const char *p = shown; *p; p++)
		lines += *p == '\n';
	if (v->size != strlen(shown) || v->lines != lines)
		abort();
	attr_json(v, NULL, &counted);
	attr_json(v, NULL, &written);
	if (counted.size != bytes.len || written.size != bytes.len ||
		bytes.len != strlen(shown) + 1 || memcmp(bytes.data, shown, strlen(shown)) != 0)
		abort();
}

static bool is_plain(const json_t *json)
{
	const char *key;
	json_t *value;
	size_t i;

	if (json_is_real(json))
		return false;
	if (json_is_integer(json))
		return llabs(json_integer_value(json)) < INT64_C(1000000000000000000);
	json_array_foreach(json, i, value)
		if (!is_plain(value))
			return false;
	if (json_object_size(json) > 64)
		return false;
	json_object_foreach((json_t *)json, key, value) {
		if (!is_plain(value))
			return false;
	}
	return true;
}

/* What jansson made of the text, written anew. */
static void check_own(const json_t *json)
{
	_cleanup_free_ char *text = json_dumps(json, COMPACT);
	_cleanup_scan_ struct scan own = SCAN_INIT, again = SCAN_INIT;

	scan_read_own(&own, text, strlen(text));
	if (own.values->len != strlen(text))
		abort();
	check_value(own.values, json);
	check_sizes(own.values, json);
	if (json_is_object(json) && is_plain(json) && !scan_read(&again, text, strlen(text)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = xmalloc(size ? size : 1); /* so that a byte too far is found */
	_cleanup_scan_ struct scan scan = SCAN_INIT;
	_cleanup_json_ json_t *json = NULL;
	bool taken;

	memcpy(text, data, size);
	taken = scan_read(&scan, text, size);
	json = json_read_or_null(text, size, JSON_ALLOW_NUL);
	if (taken) {
		_cleanup_free_ char *again = json ? json_dumps(json, COMPACT) : NULL;

		if (!again || strlen(again) != size || memcmp(again, text, size) != 0)
			abort();
		check_value(scan.values, json);
		check_sizes(scan.values, json);
	}
	if (json)
		check_own(json);
	return 0;
}
