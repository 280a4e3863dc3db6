#include "client/review.h"

#include "client/json.h"

#define REFUSALS 3

json_t *review_body(const struct review *r)
{
	json_t *attributes = json_pack("{s:s, s:s, s:s, s:s}", "namespace", r->ns, "verb", r->verb,
		"group", r->resource->group, "resource", r->resource->plural);

	if (r->subresource)
		json_object_set_new(attributes, "subresource", json_string(r->subresource));
	if (r->name)
		json_object_set_new(attributes, "name", json_string(r->name));
	return json_pack("{s:s, s:s, s:{s:o}}", "kind", resource_access_reviews.kind, "apiVersion",
		resource_access_reviews.api_version, "spec", "resourceAttributes", attributes);
}

struct http_request review_request(
	const struct review *r, int64_t timeout_ms, char **ret_body, char **ret_path)
{
	_cleanup_json_ json_t *body = review_body(r);

	free(*ret_body);
	*ret_body = json_dumps(body, JSON_COMPACT);
	*ret_path = resource_path(&resource_access_reviews, NULL, NULL, NULL);
	return (struct http_request){.method = "POST",
		.path = *ret_path,
		.content_type = "application/json",
		.body = *ret_body,
		.body_len = strlen(*ret_body),
		.timeout_ms = timeout_ms};
}

enum review_answer review_parse(long http_code, const char *body, size_t len)
{
	_cleanup_json_ json_t *json = json_read_or_null(body, len, JSON_ALLOW_NUL);
	const char *kind = json_str(json, "kind");
	const json_t *allowed = json_object_get(json_object_get(json, "status"), "allowed");

	if (http_code == 404 || http_code == 405)
		return REVIEW_ABSENT;
	if (http_code != 201 || !kind || !streq(kind, resource_access_reviews.kind) ||
		!json_is_boolean(allowed))
		return REVIEW_FAILED;
	return json_is_true(allowed) ? REVIEW_ALLOWED : REVIEW_DENIED;
}

/* Whether the message is of `User "X" …` with another X. */
static bool names_other_user(const char *message, const char *user)
{
	static const char prefix[] = "User \"", anonymous[] = "system:anonymous";
	const char *name = strstr(message, prefix);
	size_t len;

	if (!name)
		return false;
	name += strlen(prefix);
	len = strcspn(name, "\"");
	if (user)
		return len != strlen(user) || memcmp(name, user, len) != 0;
	return len == strlen(anonymous) && memcmp(name, anonymous, len) == 0;
}

bool refusal_is_passing(const struct status *s, const char *user, bool unready)
{
	return s->code == 403 && (!s->body || unready || names_other_user(s->message, user));
}

bool refusals_add(struct refusals *r, int64_t now, int64_t interval)
{
	if (r->count == 0)
		r->first = now;
	r->count++;
	return r->count >= REFUSALS && now - r->first >= (REFUSALS - 1) * interval;
}

int64_t refusals_next(const struct refusals *r, int64_t now, int64_t interval)
{
	int64_t planned = r->first + r->count * interval;

	return planned > now ? planned : now + interval / 4;
}
