/*
 * Whatever a server sends as a page of a list, as an event or as an object, what comes into the
 * store went through the gate, and a page that is no list takes nothing away.
 */
#include "fuzz.h"

#include "client/intake.h"

#include <errno.h>

static void check_stored(void *arg, const char *key, enum store_event event, struct object *object)
{
	_cleanup_json_ json_t *metadata = NULL;
	const char *slash = strchr(key, '/');

	if (!*key || *key == '.' || (slash && (!slash[1] || slash[1] == '.')))
		abort();
	if (event == STORE_DELETED || !object)
		return;
	metadata = object_parse(object);
	if (!metadata || object_check_names(json_object_get(metadata, "metadata"), NULL) < 0)
		abort();
}

/* A stream that the page doesn't name stays unless the whole page is a list. */
static void take_page(struct intake *in, const char *text, size_t len)
{
	_cleanup_json_ json_t *json = json_loadb(text, len, JSON_ALLOW_NUL, NULL);
	const json_t *items = json_object_get(json, "items");
	_cleanup_taken_ struct taken taken = {0};
	int head = intake_page_head(text, len, &taken), r;

	if ((head < 0) != (taken.why != NULL) || (head < 0 && head != -EBADMSG))
		abort();
	if (head < 0) {
		if (json && (json_is_array(items) || json_is_null(items)))
			abort();
		return;
	}
	r = intake_page(in, &taken);
	if (r != 0 && (r != -EBADMSG || json))
		abort();
	if (json && head == 0 && !json_is_array(items) && !json_is_null(items))
		abort();
	if (json && json_is_array(items) && (head < 0 || taken.items != json_array_size(items)))
		abort();
	/* `items` are a list or null */
	if (!json && head == 0 && taken.items == 0 && !memmem(text, len, "[", 1) &&
		!memmem(text, len, "null", 4))
		abort();
	if (taken.left_out > taken.items || (taken.left_out && !taken.why))
		abort();
}

static void take_event(struct intake *in, const char *text, size_t len)
{
	_cleanup_event_ struct event event = {0};

	if (intake_event(in, text, len, &event) == 0 && event.type == INTAKE_ERROR &&
		!event.status.message)
		abort();
}

static void take_object(struct intake *in, const char *text, size_t len)
{
	_cleanup_taken_ struct taken taken = {0};
	int r = intake_object(in, text, len, &taken);

	if ((r < 0) != (taken.why != NULL) || (taken.why && !*taken.why))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct api api = {.resources = &resources_in_groups};
	char *text = xmalloc(size ? size : 1); /* so that a byte too far is found */

	memcpy(text, data, size);
	for (int kind = INTAKE_STREAMS; kind <= INTAKE_NAMESPACES; kind++) {
		struct intake in = {
			.api = &api, .kind = kind, .store = store_new(check_stored, NULL)};

		take_event(&in, text, size);
		take_object(&in, text, size);
		in.list = store_list_begin(in.store);
		take_page(&in, text, size);
		store_free(in.store);
	}
	free(text);
	return 0;
}
