#include "client/status.h"

#include "client/json.h"

#include <errno.h>

#define MESSAGE_MAX 1024

/* What apply says of an unknown field or of one tag that is there twice: a 500 without a reason. */
#define TYPED_PATCH "failed to create typed patch object ("

struct row {
	long code;
	const char *reason; /* NULL: any */
	int error;
};

/* The first row that fits decides. */
static const struct row rows[] = {
	{400, NULL, EINVAL},
	{401, NULL, EKEYEXPIRED},
	{403, NULL, EACCES},
	{404, NULL, ENOENT},
	{405, NULL, EOPNOTSUPP},
	{409, "AlreadyExists", EEXIST},
	{409, NULL, ESTALE},
	{410, NULL, ESTALE},
	{413, NULL, EFBIG},
	{415, NULL, EINVAL},
	{422, NULL, EINVAL},
	{429, NULL, EAGAIN},
	{500, "ServerTimeout", EAGAIN},
	{501, NULL, EOPNOTSUPP},
	{503, NULL, EAGAIN},
	{504, NULL, ETIMEDOUT},
};

/*
 * What is wrong, without what the server quotes around it: a refused patch is told with the whole
 * object before the reason (transcripts 40-patch-unknown-field-strict), a strict decoder names
 * itself.
 */
static const char *essence(const char *message)
{
	static const char strict[] = "strict decoding error: ";
	const char *at = message, *found = message;

	while ((at = strstr(
			at, strict))) /* the object may say it, too: the last one is the server's */
		found = at += strlen(strict);
	if (found == message && str_has_prefix(message, TYPED_PATCH)) {
		at = strstr(message, "): ");
		found = at ? at + strlen("): ") : message;
	}
	return *found ? found : message;
}

/* From `text`, at a quoted object, to what stands behind it; NULL: it doesn't end. */
static const char *skip_quoted(const char *text)
{
	for (const char *p = text + 1; *p; p++) {
		if (*p == '\\' && p[1])
			p++;
		else if (*p == '"')
			return p + 1;
	}
	return NULL;
}

char *status_sentence(const char *message)
{
	static const char quote[] = "Invalid value: \"{";
	const char *text = essence(message), *begin, *end;

	begin = strstr(text, quote);
	end = begin ? skip_quoted(begin + strlen(quote) - 2) : NULL;
	if (!end)
		return xstrdup(text);
	end += strspn(end, ": ");
	return *end ? xasprintf("%.*s%s", (int)(begin - text), text, end)
		    : xasprintf("%.*sInvalid value", (int)(begin - text), text);
}

static bool reason_is(const struct status *s, const char *reason)
{
	return s->reason && streq(s->reason, reason);
}

/* 422 whose causes are all metadata.uid (one comes twice): the object was made anew meanwhile. */
static bool only_uid_cause(const struct status *s)
{
	const json_t *causes = json_object_get(json_object_get(s->body, "details"), "causes");
	const json_t *cause;
	size_t i;

	json_array_foreach(causes, i, cause) {
		const char *field = json_str(cause, "field");

		if (!field || !streq(field, "metadata.uid"))
			return false;
	}
	return json_array_size(causes) > 0;
}

/* 500, with the sentence alone to say that it is about what was written (real-server-2.md, C1, E1). */
static bool is_about_text(const struct status *s)
{
	static const char *const sentences[] = {
		TYPED_PATCH, "resourceVersion should not be set on objects to be created"};
	const char *message = json_str(s->body, "message");

	if (s->code != 500 || !message || (s->reason && *s->reason))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(sentences); i++)
		if (str_has_prefix(message, sentences[i]))
			return true;
	return false;
}

static int status_errno(const struct status *s)
{
	if (s->code >= 200 && s->code < 300)
		return 0;
	if (s->code == 403 && strstr(s->message, "exceeded quota"))
		return EDQUOT;
	if (s->code == 422 && only_uid_cause(s))
		return ESTALE;
	if (s->code == 422 && strstr(s->message, ".from: Forbidden:"))
		return EACCES; /* a tag may not follow what its user may not pull */
	if (s->code >= 500 && strstr(s->message, "request is too large"))
		return EFBIG;
	if (is_about_text(s))
		return EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (s->code == rows[i].code && (!rows[i].reason || reason_is(s, rows[i].reason)))
			return rows[i].error;
	return EIO;
}

/* What a person can read of a body that is no Status: its first line, or the code alone. */
static char *text_message(long code, const char *body, size_t len)
{
	size_t n = 0;

	if (!body) {
		body = "";
		len = 0;
	}
	while (n < len && n < MESSAGE_MAX && (unsigned char)body[n] >= 0x20)
		n++;
	if (n == 0 || body[0] == '<' || body[0] == '{')
		return xasprintf("the server answered %ld", code);
	return xstrndup(body, n);
}

static void from_object(long code, json_t *object, struct status *ret)
{
	const char *message = json_str(object, "message"), *reason = json_str(object, "reason");
	struct status s = {.code = code};

	s.body = json_incref(object);
	s.reason = reason ? xstrdup(reason) : NULL;
	s.message = message && *message ? status_sentence(message) : text_message(code, NULL, 0);
	s.error = status_errno(&s);
	*ret = s;
}

void status_from_json(long http_code, json_t *object, struct status *ret)
{
	const json_t *code = json_object_get(object, "code");

	from_object(json_is_integer(code) ? json_integer_value(code) : http_code, object, ret);
}

void status_parse(long http_code, const char *body, size_t len, struct status *ret)
{
	_cleanup_json_ json_t *json = json_read_or_null(body, len, JSON_ALLOW_NUL);
	const char *kind = json_str(json, "kind");
	struct status s = {.code = http_code};

	if (kind && streq(kind, "Status")) {
		from_object(http_code, json, ret); /* the answer's own code counts */
		return;
	}
	s.message = text_message(http_code, body, len);
	s.error = status_errno(&s);
	*ret = s;
}

bool status_is_missing(const struct status *s, const char *name)
{
	const char *named = json_str(json_object_get(s->body, "details"), "name");

	return s->code == 404 && reason_is(s, "NotFound") && named && streq(named, name);
}

void status_release(struct status *s)
{
	free(s->reason);
	free(s->message);
	json_decref(s->body);
	*s = (struct status){0};
}
