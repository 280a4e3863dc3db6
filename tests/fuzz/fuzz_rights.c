/* Rules of any JSON give rights, and never more for one stream than its rules say. */
#include "fuzz.h"

#include "client/json.h"
#include "client/rights.h"

static void check_stream(void *arg, const char *stream)
{
	const struct grants *g = arg;

	if (grants_of(g, stream) & ~grants_of(g, NULL))
		abort();
	if (grants_everywhere(g) & ~grants_of(g, stream))
		abort();
	if (!(grants_of(g, stream) & RIGHT_GET) || !grants_name(g))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_json_ json_t *json =
		json_read_or_null((const char *)data, size, JSON_ALLOW_NUL | JSON_DECODE_ANY);
	const json_t *rules = json_object_get(json_object_get(json, "status"), "resourceRules");
	unsigned more = size ? data[size - 1] & RIGHTS_ALL : 0;
	_cleanup_grants_ struct grants *g =
		grants_from_rules(rules ? rules : json, "image.openshift.io", more);

	if (!g || (grants_of(g, NULL) & ~RIGHTS_ALL) || (more & ~grants_everywhere(g)))
		abort();
	grants_named(g, check_stream, g);
	return 0;
}
