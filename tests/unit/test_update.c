/*
 * One change of one stream: what is sent, what is looked at again, and what is known at the end.
 * The server is one over TCP that answers as each test says.
 */
#include "fs/save/update.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/server.h"

#include "tests/unit/parts.h"

#define STRATEGIC "PATCH " PATH "?fieldValidation=Strict application/strategic-merge-patch+json"
#define MERGE	  "PATCH " PATH "?fieldValidation=Strict application/merge-patch+json"
#define GET	  "GET " PATH

static struct http *http;
static struct http_check check;
static struct api_call call;
static struct update e;
static unsigned decided; /* how often */

static int decide(
	struct update *update, struct object *current, const json_t *json, json_t **ret_merged)
{
	const char *content = update->arg;
	_cleanup_json_ json_t *now = patch_value(&update->file, json);

	decided++;
	assert_ptr_equal(update, &e);
	if (streq(content, "refused"))
		return update_refuse(update, EDOM, xstrdup("it is refused"));
	if (json_str(now, "content") && streq(json_str(now, "content"), content))
		return 0;
	*ret_merged = json_deep_copy(now);
	json_object_set_new(*ret_merged, "content", json_string(content));
	return 1;
}

static int setup(void **state)
{
	server_begin();
	parts_begin();
	http = http_new(server_login, parts.api->counts);
	decided = 0;
	check = (struct http_check){0};
	call = (struct api_call){.http = http, .deadline = deadline_in_ms(60000)};
	e = (struct update){.mount = &parts,
		.call = &call,
		.ns = "shop",
		.stream = "web",
		.file = {.view = PATCH_SPEC},
		.decide = decide};
	receive(10, "{\"content\": \"old\"}");
	publish_hold(parts.publisher, WEB); /* as whoever makes a change does */
	return 0;
}

static int teardown(void **state)
{
	bool all;

	update_release(&e);
	publish_release(parts.publisher, WEB);
	http_free(http);
	parts_end();
	all = server_end();
	if (!all)
		print_error("%zu requests instead of %zu\n", server_asked, server_planned);
	return all ? 0 : -1;
}

static void assert_run(const char *content, int r)
{
	e.arg = (void *)content;
	assert_int_equal(update_run(&e), r);
}

static void assert_result(const char *version)
{
	assert_non_null(e.result);
	assert_string_equal(e.result->resource_version, version);
}

static void answer_status(int code, const char *reason)
{
	_cleanup_free_ char *text =
		xasprintf("{\"kind\": \"Status\", \"apiVersion\": \"v1\", \"status\": \"Failure\", "
			  "\"message\": \"the server says %s\", \"reason\": \"%s\", \"code\": %d}",
			reason, reason, code);

	answer(code, text);
}

/* It is in the store when update_run returns, and shown by update_end. */
static void test_sent(void **state)
{
	answer_web(11, "{\"content\": \"new\"}");
	assert_run("new", 0);
	assert_request(0, STRATEGIC,
		"{\"spec\":{\"content\":\"new\"},\"metadata\":{\"resourceVersion\":\"10\",\"uid\":"
		"\"u\"}}");
	assert_true(e.sent && e.taken && !e.in_doubt);
	assert_result("11");
	assert_stored("11");
	assert_string_equal(e.request, "PATCH " PATH "?fieldValidation=Strict");
	wait_shown();
	assert_shown("10");
	update_end(&e, 0);
	assert_shown("11");
}

static void test_nothing_to_send(void **state)
{
	assert_run("old", 0);
	assert_false(e.sent || e.taken);
	assert_result("10");
	assert_null(e.request);
	update_end(&e, 0);
	assert_shown("10");
}

static void test_refused_by_decide(void **state)
{
	assert_run("refused", -EDOM);
	assert_int_equal(e.status.error, EDOM);
	assert_string_equal(e.status.message, "it is refused");
	assert_false(e.sent || e.taken || e.in_doubt);
	assert_int_equal(decided, 1);
}

static void test_refused_by_server(void **state)
{
	answer_status(422, "Invalid");
	assert_run("new", -EINVAL);
	assert_int_equal(e.status.code, 422);
	assert_string_equal(e.status.message, "the server says Invalid");
	assert_false(e.sent || e.taken || e.in_doubt);
	assert_stored("10");
}

/* Somebody was faster: the object is looked at, and decided on again. */
static void test_conflict(void **state)
{
	answer_status(409, "Conflict");
	answer_web(12, "{\"content\": \"old\", \"theirs\": 1}");
	answer_status(409, "Conflict");
	answer_web(13, "{\"content\": \"old\", \"theirs\": 2}");
	answer_web(14, "{\"content\": \"new\", \"theirs\": 2}");
	assert_run("new", 0);
	assert_request(4, STRATEGIC, NULL);
	assert_request(3, GET, "");
	assert_request(1, GET, "");
	assert_request(0, STRATEGIC,
		"{\"spec\":{\"content\":\"new\"},\"metadata\":{\"resourceVersion\":\"13\",\"uid\":"
		"\"u\"}}");
	assert_int_equal(decided, 3);
	assert_result("14");
	assert_true(e.sent);
}

/* What another made of it needs no change any more, or is refused. */
static void test_conflict_ends(void **state)
{
	answer_status(409, "Conflict");
	answer_web(12, "{\"content\": \"new\"}");
	assert_run("new", 0);
	assert_result("12");
	assert_int_equal(decided, 1); /* what was sent is there, whoever sent it */
}

static void test_conflict_and_gone(void **state)
{
	answer_status(409, "Conflict");
	answer_status(404, "NotFound");
	assert_run("new", -ENOENT);
	assert_int_equal(e.status.code, 404);
	assert_false(e.in_doubt);
}

/* The time is over while others are faster: that is no doubt, but busy. */
static int is_late(void *arg)
{
	return e.status.code == 409 ? -ETIMEDOUT : 0;
}

static void test_conflict_without_end(void **state)
{
	check.fn = is_late;
	call.check = &check;
	answer_status(409, "Conflict");
	assert_run("new", -EAGAIN);
	assert_string_equal(e.status.message, "the server says Conflict");
}

/* The answer was lost, and the change is there: it isn't sent twice. */
static void test_lost_and_arrived(void **state)
{
	answer(SERVER_LOST, "");
	answer_web(11, "{\"content\": \"new\"}");
	assert_run("new", 0);
	assert_request(1, STRATEGIC, NULL);
	assert_request(0, GET, "");
	assert_true(e.sent && !e.in_doubt);
	assert_result("11");
	assert_int_equal(decided, 1);
}

static void test_lost_and_not_arrived(void **state)
{
	answer(SERVER_LOST, "");
	answer_web(10, "{\"content\": \"old\"}");
	answer_web(11, "{\"content\": \"new\"}");
	assert_run("new", 0);
	assert_request(0, STRATEGIC, NULL);
	assert_int_equal(decided, 2);
	assert_result("11");
}

/* Not for ever; and then nobody knows. */
static void test_lost_again_and_again(void **state)
{
	answer(SERVER_LOST, "");
	for (int i = 0; i < 5; i++) {
		answer_web(10, "{\"content\": \"old\"}");
		answer(SERVER_LOST, "");
	}
	assert_run("new", -ECONNRESET);
	assert_true(e.lost && e.in_doubt && !e.sent);
	assert_non_null(strstr(e.status.message, "; the server may have applied the change"));
	assert_stored("10");
}

/* The look that follows finds nobody: what became of the change stays in doubt. */
static void test_lost_and_nobody_there(void **state)
{
	answer(SERVER_LOST, "");
	answer(SERVER_LOST, "");
	assert_run("new", -ECONNRESET);
	assert_true(e.in_doubt);
	assert_non_null(strstr(e.status.message, "; the server may have applied the change"));
}

/* An answer that is none: nobody knows what the request did. */
static void test_wrong_answers(void **state)
{
	_cleanup_free_ char *other = stream_text("other", "u", 11, "{\"content\": \"new\"}");
	static const char *const texts[] = {"", "no JSON", "{}", "{\"kind\": \"Status\"}"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		answer(200, texts[i]);
		answer_web(10, "{\"content\": \"old\"}");
	}
	answer(200, other);
	answer_web(11, "{\"content\": \"new\"}");
	assert_run("new", 0);
	assert_result("11");
	assert_true(e.sent);
	assert_null(store_get(parts.store, "shop/other"));
}

static void test_other_form(void **state)
{
	answer_status(415, "UnsupportedMediaType");
	answer_web(11, "{\"content\": \"new\"}");
	assert_run("new", 0);
	assert_request(1, STRATEGIC, NULL);
	assert_request(0, MERGE, NULL);
	assert_true(e.sent);
}

static void test_no_other_form(void **state)
{
	answer_status(415, "UnsupportedMediaType");
	answer_status(415, "UnsupportedMediaType");
	e.arg = "new";
	assert_true(update_run(&e) < 0);
	assert_int_equal(e.status.code, 415);
}

/* Another object has the name by now. */
static void test_uid(void **state)
{
	e.uid = "u";
	assert_run("old", 0);
	e.uid = "before";
	assert_run("new", -ESTALE);
	assert_int_equal(decided, 1);
	assert_non_null(strstr(e.status.message, "made again"));
}

/* A stream that nothing watches is looked at first. */
static void test_not_held(void **state)
{
	store_drop_one(parts.store, WEB);
	answer_web(20, "{\"content\": \"old\"}");
	answer_web(21, "{\"content\": \"new\"}");
	assert_run("new", 0);
	assert_request(1, GET, "");
	assert_result("21");
	store_drop_one(parts.store, WEB);
	answer_status(404, "NotFound");
	assert_run("newer", -ENOENT);
	assert_stored(NULL);
}

static int told_to_stop(void *arg)
{
	return decided ? -EINTR : 0;
}

/* Whoever is told to stop before it is sent can be sure that it wasn't. */
static void test_cancelled_before(void **state)
{
	check.fn = told_to_stop;
	call.check = &check;
	assert_run("new", -EINTR);
	assert_false(e.in_doubt || e.sent);
	assert_string_equal(e.status.message, "nothing was sent: Interrupted system call");
}

static int told_meanwhile(void *arg)
{
	return asked() > 4 ? -EINTR : 0; /* the first four are api_connect's */
}

/* And while the answer is still to come nobody can. */
static void test_cancelled_meanwhile(void **state)
{
	check.fn = told_meanwhile;
	call.check = &check;
	answer(SERVER_SILENT, "");
	assert_run("new", -EINTR);
	assert_true(e.in_doubt);
	assert_non_null(strstr(e.status.message, "; the server may have applied the change"));
}

/* A refusal after an answer: what the answer says is shown all the same. */
static void test_end_after_refusal(void **state)
{
	answer_status(409, "Conflict");
	answer_web(12, "{\"content\": \"theirs\"}");
	answer_status(422, "Invalid");
	assert_run("new", -EINVAL);
	assert_true(e.taken && !e.sent);
	update_end(&e, -EINVAL);
	assert_shown("12");
}

static void come_by_watch(void)
{
	receive_as("web", "u", 15, "{\"content\": \"newest\"}");
}

/* What the watch brought meanwhile is newer than the answer. */
static void test_late_answer(void **state)
{
	_cleanup_free_ char *text = stream_text("web", "u", 11, "{\"content\": \"new\"}");

	answer_after(come_by_watch, 200, text);
	assert_run("new", 0);
	assert_result("11");
	assert_stored("15");
	update_end(&e, 0);
	assert_shown("15");
}

static void test_take_answer(void **state)
{
	_cleanup_buf_ struct buf text = BUF_INIT(SIZE_MAX), wrong = BUF_INIT(SIZE_MAX);
	_cleanup_free_ char *web = stream_text("web", "u", 11, "{}"), *why = NULL,
			    *other = stream_text("other", "u", 11, "{}");

	buf_addstr(&text, web);
	buf_addstr(&wrong, other);
	assert_int_equal(update_take_answer(&e, &wrong, NULL), -EINVAL);
	assert_int_equal(update_take_answer(&e, &wrong, &why), -EINVAL);
	assert_string_equal(why, "it is another ImageStream: shop/other");
	assert_false(e.taken);
	e.asked = store_list_begin(parts.store);
	assert_int_equal(update_take_answer(&e, &text, NULL), 0);
	assert_true(e.taken);
	assert_stored("11");
}

static void test_forget_stream(void **state)
{
	update_forget_stream(&parts, WEB, "another");
	assert_stored("10");
	update_forget_stream(&parts, WEB, "u");
	assert_stored(NULL);
	update_forget_stream(&parts, WEB, "u");
	receive_as("web", "again", 20, "{}");
	update_forget_stream(&parts, WEB, NULL);
	assert_stored(NULL);
}

static void test_key(void **state)
{
	_cleanup_free_ char *key = update_key(&e);

	assert_string_equal(key, WEB);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sent),
		TEST(test_nothing_to_send),
		TEST(test_refused_by_decide),
		TEST(test_refused_by_server),
		TEST(test_conflict),
		TEST(test_conflict_ends),
		TEST(test_conflict_and_gone),
		TEST(test_conflict_without_end),
		TEST(test_lost_and_arrived),
		TEST(test_lost_and_not_arrived),
		TEST(test_lost_again_and_again),
		TEST(test_lost_and_nobody_there),
		TEST(test_wrong_answers),
		TEST(test_other_form),
		TEST(test_no_other_form),
		TEST(test_uid),
		TEST(test_not_held),
		TEST(test_cancelled_before),
		TEST(test_cancelled_meanwhile),
		TEST(test_end_after_refusal),
		TEST(test_late_answer),
		TEST(test_take_answer),
		TEST(test_forget_stream),
		TEST(test_key),
	};

	return cmocka_run_group_tests_name("update", tests, http_group_setup, http_group_teardown);
}
