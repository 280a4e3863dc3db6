/*
 * One function a rule of DESIGN.md 3 and a danger of the patch formats; then generated saves
 * against models: a flat one of three-way merging, and one of each patch format as the server
 * applies it.
 *
 * JSON stands in single quotes.
 */
#include "client/patch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define CASES 6000

static const struct patch_file whole_file = {.view = PATCH_IMAGESTREAM};
static const struct patch_file metadata_file = {.view = PATCH_METADATA};
static const struct patch_file spec_file = {.view = PATCH_SPEC};
static const struct patch_file status_file = {.view = PATCH_STATUS};
static const struct patch_file tag_file = {PATCH_TAG_SPEC, "a", 1};
static const struct patch_file history_file = {PATCH_TAG_STATUS, "a", 1};

/* Sets the member, or takes it out. Takes the reference. */
static void put(json_t *object, const char *key, json_t *value)
{
	if (value)
		json_object_set_new(object, key, value);
	else
		json_object_del(object, key);
}

/* NULL stays NULL. */
static json_t *parse(const char *text)
{
	_cleanup_free_ char *copy = text ? xstrdup(text) : NULL;
	json_error_t error;
	json_t *json;

	for (char *p = copy; p && *p; p++)
		if (*p == '\'')
			*p = '"';
	json = copy ? json_loads(copy, JSON_ALLOW_NUL | JSON_DECODE_ANY, &error) : NULL;
	if (copy && !json)
		fail_msg("%s: %s", copy, error.text);
	return json;
}

/* Compact, sorted by key, in single quotes; the caller frees. */
static char *show(const json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY)
			  : xstrdup("NULL");

	for (char *p = text; *p; p++)
		if (*p == '"')
			*p = '\'';
	return text;
}

static void assert_json(const json_t *got, const char *expected)
{
	_cleanup_json_ json_t *json = parse(expected);
	_cleanup_free_ char *text = show(got), *wanted = show(json);

	assert_string_equal(text, wanted);
}

static bool equals(const struct patch_file *f, const char *a, const char *b)
{
	_cleanup_json_ json_t *x = parse(a), *y = parse(b);
	bool result = patch_equal(f, x, y);

	assert_int_equal(result, patch_equal(f, y, x));
	return result;
}

/* Merges and expects the result, by patch_equal and also as text. */
static void merges(const struct patch_file *f, const char *base, const char *theirs,
	const char *mine, const char *expected)
{
	_cleanup_json_ json_t *b = parse(base), *t = parse(theirs), *m = parse(mine);
	_cleanup_json_ json_t *result = NULL, *conflicts = NULL;
	int r = patch_merge3(f, b, t, m, &result, &conflicts);
	_cleanup_free_ char *text = show(conflicts);

	if (r != 0)
		fail_msg("%s", text);
	assert_null(conflicts);
	assert_json(result, expected);
}

/* Expects the conflicts. */
static void clashes_one_way(const struct patch_file *f, const char *base, const char *theirs,
	const char *mine, const char *expected)
{
	_cleanup_json_ json_t *b = parse(base), *t = parse(theirs), *m = parse(mine);
	_cleanup_json_ json_t *result = NULL, *conflicts = NULL;

	assert_int_equal(patch_merge3(f, b, t, m, &result, &conflicts), -ESTALE);
	assert_null(result);
	assert_json(conflicts, expected);
}

/* Expects the conflicts, and the same ones with the sides exchanged. */
static void clashes(const struct patch_file *f, const char *base, const char *theirs,
	const char *mine, const char *expected)
{
	_cleanup_json_ json_t *mirrored = parse(expected);
	json_t *entry;
	_cleanup_free_ char *text = NULL;
	size_t i;

	clashes_one_way(f, base, theirs, mine, expected);
	json_array_foreach(mirrored, i, entry) {
		json_t *t = json_incref(json_object_get(entry, "theirs"));
		json_t *m = json_incref(json_object_get(entry, "mine"));

		put(entry, "theirs", m);
		put(entry, "mine", t);
	}
	text = show(mirrored);
	clashes_one_way(f, base, mine, theirs, text);
}

static void refuses(const struct patch_file *f, const char *base, const char *mine, int error,
	const char *sentence)
{
	_cleanup_json_ json_t *b = parse(base), *m = parse(mine);
	_cleanup_free_ char *text = NULL;
	int r = patch_check(f, b, m, &text);

	assert_int_equal(r, -error);
	assert_string_equal(text, sentence);
}

static void accepts(const struct patch_file *f, const char *base, const char *mine)
{
	_cleanup_json_ json_t *b = parse(base), *m = parse(mine);
	_cleanup_free_ char *text = NULL;

	if (patch_check(f, b, m, &text) < 0)
		fail_msg("%s", text);
	assert_null(text);
}

static void sends(const struct patch_file *f, enum patch_form form, const char *current,
	const char *merged, const char *expected)
{
	_cleanup_json_ json_t *c = parse(current), *m = parse(merged);
	_cleanup_json_ json_t *body = patch_body(f, form, c, m);

	assert_json(body, expected);
}

static void chooses(const struct patch_file *f, const char *current, const char *merged,
	enum patch_form expected)
{
	_cleanup_json_ json_t *c = parse(current), *m = parse(merged), *body = NULL;

	assert_int_equal(patch_form(f, c, m, &body), expected);
	assert_int_equal(body != NULL, expected == PATCH_STRATEGIC);
}

/* An object with that spec and that status. */
#define META "'metadata':{'name':'s','namespace':'n','uid':'u','resourceVersion':'7'}"
#define OBJECT(spec, status)                                                                       \
	"{'kind':'ImageStream','apiVersion':'v1'," META ",'spec':" spec ",'status':" status "}"
#define TAGS(tags)	   OBJECT("{'tags':[" tags "]}", "{}")
#define PRECONDITION	   "'metadata':{'resourceVersion':'7','uid':'u'}"
#define SPEC_PATCH(tags)   "{" PRECONDITION ",'spec':{'tags':" tags "}}"
#define STATUS_PATCH(tags) "{" PRECONDITION ",'status':{'tags':" tags "}}"

/* ---- what is shown ---- */

static void value_of_each_file(void **state)
{
	static const char object[] =
		"{'kind':'ImageStream','metadata':{'name':'s','resourceVersion':'7',"
		"'generation':3,'managedFields':[{}],'labels':{'generation':'1'}},"
		"'spec':{'x':1,'tags':[{'name':'b'},{'name':'a','generation':4,'annotations':null}]"
		"},"
		"'status':{'tags':[{'tag':'a','items':null}],'r':'q'}}";
	static const struct {
		const struct patch_file *file;
		const char *value;
	} rows[] = {
		{&metadata_file, "{'name':'s','labels':{'generation':'1'}}"},
		{&spec_file, "{'x':1,'tags':[{'name':'b'},{'name':'a','annotations':null}]}"},
		{&status_file, "{'tags':[{'tag':'a','items':null}],'r':'q'}"},
		{&tag_file, "{'name':'a','annotations':null}"},
		{&history_file, "{'tag':'a','items':null}"},
		{&whole_file, "{'kind':'ImageStream','metadata':{'name':'s','resourceVersion':'7',"
			      "'generation':3,'labels':{'generation':'1'}},'spec':{'x':1,'tags':"
			      "[{'name':'b'},{'name':'a','generation':4,'annotations':null}]},"
			      "'status':{'tags':[{'tag':'a','items':null}],'r':'q'}}"},
	};
	_cleanup_json_ json_t *json = parse(object);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_json_ json_t *value = patch_value(rows[i].file, json);

		assert_json(value, rows[i].value);
	}
	assert_json(json, object);
}

static void value_of_what_is_not_there(void **state)
{
	_cleanup_json_ json_t *json = parse("{'metadata':{}}");

	assert_null(patch_value(&tag_file, json));
	assert_null(patch_value(&history_file, json));
	for (int view = PATCH_METADATA; view <= PATCH_STATUS; view++) {
		struct patch_file f = {.view = (enum patch_view)view};
		_cleanup_json_ json_t *value = patch_value(&f, json);

		assert_json(value, "{}");
	}
}

static void tag_names_may_hold_anything(void **state)
{
	static const struct patch_file f = {PATCH_TAG_SPEC, "a\0b", 3};
	static const struct patch_file empty = {PATCH_TAG_SPEC, "", 0};
	static const char object[] =
		TAGS("{'name':''},{'name':'a','x':1},{'name':'a\\u0000b','x':2}");
	_cleanup_json_ json_t *json = parse(object);
	_cleanup_json_ json_t *value = patch_value(&f, json), *none = patch_value(&empty, json);

	assert_json(value, "{'name':'a\\u0000b','x':2}");
	assert_json(none, "{'name':''}");
	sends(&f, PATCH_STRATEGIC, object, NULL,
		SPEC_PATCH("[{'name':'a\\u0000b','$patch':'delete'}]"));
	sends(&empty, PATCH_STRATEGIC, object, NULL, SPEC_PATCH("[{'name':'','$patch':'delete'}]"));
	clashes(&f, "{'x':1}", "{'x':2}", "{'x':3}",
		"[{'path':'spec.tags[a\\\\u0000b].x','base':1,'theirs':2,'mine':3}]");
}

/* ---- equality ---- */

static void null_absent_and_empty_are_equal(void **state)
{
	static const char *const blanks[] = {"{}", "{'x':null}", "{'x':{}}", "{'x':[]}",
		"{'x':{'y':null,'z':{}}}", "{'tags':null}", "{'tags':[]}", "{'tags':{}}"};

	for (size_t i = 0; i < ARRAY_SIZE(blanks); i++)
		for (size_t k = 0; k < ARRAY_SIZE(blanks); k++)
			assert_true(equals(&spec_file, blanks[i], blanks[k]));
	assert_true(equals(&spec_file, "{'x':[{}]}", "{'x':[null]}"));
	assert_false(equals(&spec_file, "{'x':[{}]}", "{'x':[]}"));
	assert_false(equals(&spec_file, "{'x':''}", "{}"));
	assert_false(equals(&spec_file, "{'x':false}", "{}"));
	assert_false(equals(&spec_file, "{'x':0}", "{}"));
	assert_false(equals(&spec_file, "{'tags':[{'name':''}]}", "{}"));
	assert_true(equals(&metadata_file, "{'finalizers':null}", "{'finalizers':[]}"));
}

static void server_counted_fields_are_not_compared(void **state)
{
	assert_true(equals(&metadata_file, "{'resourceVersion':'1','generation':0}",
		"{'resourceVersion':'2','managedFields':[{'a':1}]}"));
	assert_true(equals(&whole_file,
		"{'metadata':{'resourceVersion':'1','generation':1},'spec':{'tags':[{'name':'a',"
		"'generation':3}]}}",
		"{'metadata':{'managedFields':[1]},'spec':{'tags':[{'name':'a'}]}}"));
	assert_true(equals(&spec_file, "{'generation':5}", "{}"));
	assert_true(equals(&tag_file, "{'generation':5}", "{'generation':null}"));
}

static void their_names_elsewhere_are_compared(void **state)
{
	assert_false(equals(&metadata_file, "{'labels':{'generation':'1'}}", "{'labels':{}}"));
	assert_false(equals(&metadata_file, "{'annotations':{'resourceVersion':'1'}}",
		"{'annotations':{'resourceVersion':'2'}}"));
	assert_false(equals(&tag_file, "{'annotations':{'managedFields':'1'}}", "{}"));
	assert_false(equals(&tag_file, "{'from':{'resourceVersion':'1'}}", "{'from':{}}"));
	assert_false(equals(
		&history_file, "{'items':[{'generation':1}]}", "{'items':[{'generation':2}]}"));
}

static void a_written_generation_of_zero_is_an_edit(void **state)
{
	assert_false(equals(&tag_file, "{'generation':0}", "{}"));
	assert_false(equals(&tag_file, "{'generation':0}", "{'generation':4}"));
	assert_true(equals(&tag_file, "{'generation':0}", "{'generation':0}"));
	assert_true(equals(&tag_file, "{'generation':'0'}", "{}"));
	assert_false(equals(
		&spec_file, "{'tags':[{'name':'a','generation':0}]}", "{'tags':[{'name':'a'}]}"));
}

static void keyed_lists_have_no_order(void **state)
{
	assert_true(equals(&spec_file, "{'tags':[{'name':'a'},{'name':'b','x':1}]}",
		"{'tags':[{'x':1,'name':'b'},{'name':'a'}]}"));
	assert_false(equals(&spec_file, "{'tags':[{'name':'a','x':1},{'name':'b'}]}",
		"{'tags':[{'name':'a'},{'name':'b','x':1}]}"));
	assert_true(equals(&status_file, "{'tags':[{'tag':'a'},{'tag':'b'}]}",
		"{'tags':[{'tag':'b'},{'tag':'a'}]}"));
	assert_true(equals(&metadata_file, "{'ownerReferences':[{'uid':'1'},{'uid':'2'}]}",
		"{'ownerReferences':[{'uid':'2'},{'uid':'1'}]}"));
	assert_true(equals(&whole_file, "{'status':{'tags':[{'tag':'a'},{'tag':'b'}]}}",
		"{'status':{'tags':[{'tag':'b'},{'tag':'a'}]}}"));
}

static void finalizers_are_a_set(void **state)
{
	assert_true(
		equals(&metadata_file, "{'finalizers':['a','b']}", "{'finalizers':['b','a','a']}"));
	assert_false(equals(&metadata_file, "{'finalizers':['a']}", "{'finalizers':['a','b']}"));
	assert_false(equals(&metadata_file, "{'finalizers':['a']}", "{'finalizers':'a'}"));
}

static void other_lists_are_one_value(void **state)
{
	assert_false(equals(&spec_file, "{'x':[1,2]}", "{'x':[2,1]}"));
	assert_false(equals(&history_file, "{'items':[{'image':'1'},{'image':'2'}]}",
		"{'items':[{'image':'2'},{'image':'1'}]}"));
	assert_true(equals(&history_file, "{'items':null}", "{'items':[]}"));
	/* no list by key: a key twice, or none, or no list */
	assert_false(equals(&spec_file, "{'tags':{'a':1}}", "{'tags':[]}"));
	assert_false(equals(&metadata_file, "{'ownerReferences':[{'uid':'1'},{'uid':'1'}]}",
		"{'ownerReferences':[{'uid':'1'}]}"));
	assert_false(equals(&metadata_file, "{'ownerReferences':[{'x':1},{'x':2}]}",
		"{'ownerReferences':[{'x':2},{'x':1}]}"));
}

static void integers_are_exact(void **state)
{
	assert_false(equals(&spec_file, "{'x':9007199254740993}", "{'x':9007199254740992}"));
	assert_false(equals(&spec_file, "{'x':9223372036854775807}", "{'x':9223372036854775806}"));
	assert_false(equals(&spec_file, "{'x':1}", "{'x':1.0}"));
	assert_false(equals(&spec_file, "{'x':0.1}", "{'x':0.10000000000000002}"));
	merges(&spec_file, "{'x':1,'y':1}", "{'x':9223372036854775807,'y':1}",
		"{'x':1,'y':9007199254740993}", "{'x':9223372036854775807,'y':9007199254740993}");
	sends(&spec_file, PATCH_STRATEGIC, OBJECT("{'x':1}", "{}"), "{'x':9007199254740993}",
		"{" PRECONDITION ",'spec':{'x':9007199254740993}}");
}

static void a_tag_may_leave_its_name_out(void **state)
{
	assert_true(equals(&tag_file, "{'x':1}", "{'name':'a','x':1}"));
	assert_true(equals(&tag_file, "{'name':null}", "{'name':'a'}"));
	assert_true(equals(&history_file, "{'tag':'a'}", "{}"));
	assert_false(equals(&tag_file, "{}", NULL));
	assert_true(equals(&tag_file, NULL, NULL));
}

/* ---- merging ---- */

static void maps_merge_by_key(void **state)
{
	merges(&metadata_file, "{'labels':{'a':'1','b':'1','c':'1'}}",
		"{'labels':{'a':'2','b':'1','c':'1','t':'1'},'annotations':{'x':'1'}}",
		"{'labels':{'a':'1','b':'2','m':'1'}}",
		"{'labels':{'a':'2','b':'2','m':'1','t':'1'},'annotations':{'x':'1'}}");
	clashes(&metadata_file, "{'labels':{'app.kubernetes.io/x':'1','b':'1'}}",
		"{'labels':{'app.kubernetes.io/x':'2','b':'2'}}",
		"{'labels':{'app.kubernetes.io/x':'3'}}",
		"[{'path':'metadata.labels[app.kubernetes.io/"
		"x]','base':'1','theirs':'2','mine':'3'},"
		"{'path':'metadata.labels.b','base':'1','theirs':'2'}]");
}

static void a_map_emptied_by_one_side_takes_keys_of_the_other(void **state)
{
	/* the server leaves empty maps out, so deleting the last key is deleting the map */
	merges(&metadata_file, "{'labels':{'a':'1'}}", "{}", "{'labels':{'a':'1','m':'1'}}",
		"{'labels':{'m':'1'}}");
	merges(&metadata_file, "{'labels':{'a':'1'}}", "{'labels':{'a':'1','t':'1'}}", "{}",
		"{'labels':{'t':'1'}}");
	clashes(&metadata_file, "{'labels':{'a':'1'}}", "{}", "{'labels':{'a':'2'}}",
		"[{'path':'metadata.labels.a','base':'1','mine':'2'}]");
}

static void the_same_change_twice_is_no_conflict(void **state)
{
	merges(&metadata_file, "{'labels':{'a':'1'}}", "{'labels':{'a':'2'}}",
		"{'labels':{'a':'2'}}", "{'labels':{'a':'2'}}");
	merges(&spec_file, "{}", "{'tags':[{'name':'a','x':1,'generation':5,'annotations':null}]}",
		"{'tags':[{'name':'a','x':1}]}",
		"{'tags':[{'name':'a','x':1,'generation':5,'annotations':null}]}");
	merges(&spec_file, "{'tags':[{'name':'a'},{'name':'b'}]}", "{'tags':[{'name':'b'}]}",
		"{'tags':[{'name':'b'}]}", "{'tags':[{'name':'b'}]}");
	merges(&tag_file, "{'from':{'name':'x'}}", "{'name':'a','from':{'name':'y'}}",
		"{'from':{'name':'y'}}", "{'name':'a','from':{'name':'y'}}");
}

static void both_add_one_key_differently(void **state)
{
	clashes(&metadata_file, "{}", "{'labels':{'a':'1'}}", "{'labels':{'a':'2'}}",
		"[{'path':'metadata.labels.a','theirs':'1','mine':'2'}]");
	clashes(&spec_file, "{}", "{'tags':[{'name':'v 1','x':1}]}", "{'tags':[{'name':'v 1'}]}",
		"[{'path':'spec.tags[v 1]','theirs':{'name':'v 1','x':1},'mine':{'name':'v 1'}}]");
	clashes(&tag_file, NULL, "{'name':'a','x':1}", "{}",
		"[{'path':'spec.tags[a]','theirs':{'name':'a','x':1},'mine':{'name':'a'}}]");
}

static void tags_merge_by_name(void **state)
{
	merges(&spec_file,
		"{'tags':[{'name':'a','x':1},{'name':'b','x':1},{'name':'c'},{'name':'d'}]}",
		"{'tags':[{'name':'t'},{'name':'d'},{'name':'b','x':2},{'name':'a','x':1}]}",
		"{'tags':[{'name':'a','x':2},{'name':'b','x':1},{'name':'c'},{'name':'m'}]}",
		"{'tags':[{'name':'t'},{'name':'b','x':2},{'name':'a','x':2},{'name':'m'}]}");
	clashes(&spec_file, "{'tags':[{'name':'latest','x':1}]}",
		"{'tags':[{'name':'latest','x':2}]}", "{'tags':[{'name':'latest','x':3}]}",
		"[{'path':'spec.tags[latest].x','base':1,'theirs':2,'mine':3}]");
}

static void status_tags_merge_by_tag(void **state)
{
	merges(&status_file, "{'tags':[{'tag':'a','items':[1]},{'tag':'b','items':[1]}]}",
		"{'tags':[{'tag':'b','items':[2]},{'tag':'a','items':[1]}]}",
		"{'tags':[{'tag':'a','items':[3]},{'tag':'b','items':[1]},{'tag':'m'}]}",
		"{'tags':[{'tag':'b','items':[2]},{'tag':'a','items':[3]},{'tag':'m'}]}");
}

static void owners_merge_by_uid(void **state)
{
	merges(&metadata_file, "{'ownerReferences':[{'uid':'1','name':'x'}]}",
		"{'ownerReferences':[{'uid':'2'},{'uid':'1','name':'x'}]}",
		"{'ownerReferences':[{'uid':'1','name':'y'}]}",
		"{'ownerReferences':[{'uid':'2'},{'uid':'1','name':'y'}]}");
	clashes(&metadata_file, "{'ownerReferences':[{'uid':'1','name':'x'}]}",
		"{'ownerReferences':[]}", "{'ownerReferences':[{'uid':'1','name':'y'}]}",
		"[{'path':'metadata.ownerReferences[1]','base':{'uid':'1','name':'x'},"
		"'mine':{'uid':'1','name':'y'}}]");
	/* not by key: one value */
	clashes(&metadata_file, "{'ownerReferences':[{'x':1}]}", "{'ownerReferences':[{'x':2}]}",
		"{'ownerReferences':[{'x':1},{'x':3}]}",
		"[{'path':'metadata.ownerReferences','base':[{'x':1}],'theirs':[{'x':2}],"
		"'mine':[{'x':1},{'x':3}]}]");
}

static void finalizers_never_conflict(void **state)
{
	merges(&metadata_file, "{'finalizers':['a','b','c']}", "{'finalizers':['c','t','a']}",
		"{'finalizers':['b','m','c','c']}", "{'finalizers':['c','t','m']}");
}

static void from_with_reference_is_one_value(void **state)
{
	static const char base[] = "{'name':'a','from':{'kind':'DockerImage','name':'x'}}";

	/* field by field this would be {ImageStreamTag, y}, which nobody wrote */
	clashes(&tag_file, base, "{'name':'a','from':{'kind':'ImageStreamTag','name':'x'}}",
		"{'from':{'kind':'DockerImage','name':'y'}}",
		"[{'path':'spec.tags[a].from','base':{'kind':'DockerImage','name':'x'},"
		"'theirs':{'kind':'ImageStreamTag','name':'x'},'mine':{'kind':'DockerImage','name':"
		"'y'}}]");
	clashes(&tag_file, base, "{'name':'a','from':{'kind':'DockerImage','name':'y'}}",
		"{'from':{'kind':'DockerImage','name':'x'},'reference':true}",
		"[{'path':'spec.tags[a].from','base':{'kind':'DockerImage','name':'x'},"
		"'theirs':{'kind':'DockerImage','name':'y'},'mine':{'kind':'DockerImage','name':'x'"
		"}},"
		"{'path':'spec.tags[a].reference','mine':true}]");
	merges(&tag_file, base, "{'name':'a','from':{'kind':'DockerImage','name':'x'},'x':1}",
		"{'from':{'kind':'ImageStreamTag','name':'y'},'reference':true}",
		"{'name':'a','from':{'kind':'ImageStreamTag','name':'y'},'reference':true,'x':1}");
	merges(&tag_file, base, "{'name':'a','from':{'name':'z'},'reference':true}",
		"{'from':{'kind':'DockerImage','name':'x'},'x':1}",
		"{'name':'a','from':{'name':'z'},'reference':true,'x':1}");
	merges(&tag_file, base, base, "{'name':'a'}", "{'name':'a'}");
}

static void items_and_conditions_are_one_value_each(void **state)
{
	merges(&history_file, "{'items':[{'i':1}],'conditions':[{'c':1}]}",
		"{'tag':'a','items':[{'i':2},{'i':1}],'conditions':[{'c':1}]}",
		"{'items':[{'i':1}],'conditions':[]}",
		"{'tag':'a','items':[{'i':2},{'i':1}],'conditions':[]}");
	clashes(&history_file, "{'items':[{'i':1},{'i':2}]}", "{'items':[{'i':1},{'i':3}]}",
		"{'items':[{'i':4},{'i':2}]}",
		"[{'path':'status.tags[a].items','base':[{'i':1},{'i':2}],"
		"'theirs':[{'i':1},{'i':3}],'mine':[{'i':4},{'i':2}]}]");
}

static void editing_what_the_other_side_deleted(void **state)
{
	static const char both[] = "{'tags':[{'name':'a','annotations':{'x':'1'}},{'name':'b'}]}";
	static const char edited[] =
		"{'tags':[{'name':'a','annotations':{'x':'1','y':'1'}},{'name':'b'}]}";

	clashes(&spec_file, both, "{'tags':[{'name':'b'}]}", edited,
		"[{'path':'spec.tags[a]','base':{'name':'a','annotations':{'x':'1'}},"
		"'mine':{'name':'a','annotations':{'x':'1','y':'1'}}}]");
	clashes(&spec_file, both, edited, "{'tags':[{'name':'b'}]}",
		"[{'path':'spec.tags[a]','base':{'name':'a','annotations':{'x':'1'}},"
		"'theirs':{'name':'a','annotations':{'x':'1','y':'1'}}}]");
	clashes(&tag_file, "{'name':'a'}", NULL, "{'name':'a','x':1}",
		"[{'path':'spec.tags[a]','base':{'name':'a'},'mine':{'name':'a','x':1}}]");
	/* asking for an import of it is an edit, too */
	clashes_one_way(&tag_file, "{'name':'a'}", NULL, "{'generation':0}",
		"[{'path':'spec.tags[a]','base':{'name':'a'},'mine':{'name':'a','generation':0}}]");
}

static void a_change_of_type_is_one_value(void **state)
{
	clashes(&spec_file, "{'x':{'a':1}}", "{'x':{'a':2}}", "{'x':'s'}",
		"[{'path':'spec.x','base':{'a':1},'theirs':{'a':2},'mine':'s'}]");
	merges(&spec_file, "{'x':{'a':1}}", "{'x':{'a':1}}", "{'x':'s'}", "{'x':'s'}");
	merges(&spec_file, "{'x':'s'}", "{'x':'s'}", "{'x':{'a':1}}", "{'x':{'a':1}}");
	merges(&spec_file, "{'x':'s'}", "{'x':['t']}", "{'x':'s','y':1}", "{'x':['t'],'y':1}");
}

static void a_new_import_beside_another_change(void **state)
{
	merges(&tag_file, "{'name':'a','from':{'name':'x'}}", "{'name':'a','from':{'name':'y'}}",
		"{'from':{'name':'x'},'generation':0}",
		"{'name':'a','from':{'name':'y'},'generation':0}");
}

static void only_a_generation_of_zero_is_taken(void **state)
{
	merges(&spec_file, "{'tags':[{'name':'a'}]}", "{'tags':[{'name':'a'}]}",
		"{'tags':[{'name':'a','generation':9,'x':1},{'name':'m','generation':9},"
		"{'name':'n','generation':0}]}",
		"{'tags':[{'name':'a','x':1},{'name':'m'},{'name':'n','generation':0}]}");
	/* imagestream.json shows generations: a 0 that was there isn't the user's */
	merges(&whole_file, "{'spec':{'tags':[{'name':'a','generation':0}]}}",
		"{'spec':{'tags':[{'name':'a','generation':6}]}}",
		"{'spec':{'tags':[{'name':'a','generation':0,'x':1}]}}",
		"{'spec':{'tags':[{'name':'a','generation':6,'x':1}]}}");
	merges(&whole_file, "{'spec':{'tags':[{'name':'a','generation':5}]}}",
		"{'spec':{'tags':[{'name':'a','generation':6}]}}",
		"{'spec':{'tags':[{'name':'a','generation':0}]}}",
		"{'spec':{'tags':[{'name':'a','generation':0}]}}");
}

static void what_a_request_cannot_change_stays_theirs(void **state)
{
	merges(&whole_file, OBJECT("{}", "{'tags':[{'tag':'a'}]}"),
		OBJECT("{}", "{'tags':[{'tag':'a'},{'tag':'t'}]}"), "{'spec':{'x':1}}",
		OBJECT("{'x':1}", "{'tags':[{'tag':'a'},{'tag':'t'}]}"));
	merges(&metadata_file, "{'name':'s','uid':'u','x':1}", "{'name':'s','uid':'u','x':2}",
		"{'labels':{'m':'1'}}", "{'name':'s','uid':'u','x':2,'labels':{'m':'1'}}");
	merges(&status_file, "{'dockerImageRepository':'r'}", "{'dockerImageRepository':'q'}",
		"{'tags':[{'tag':'m'}]}", "{'dockerImageRepository':'q','tags':[{'tag':'m'}]}");
}

static void unknown_fields_survive(void **state)
{
	merges(&whole_file,
		"{'new':{'a':1},'metadata':{'n':1},'spec':{'n':1,'tags':[{'name':'a','n':1}]}}",
		"{'new':{'a':1,'b':2},'metadata':{'n':2},'spec':{'n':2,'tags':[{'name':'a','n':2}]}"
		"}",
		"{'new':{'a':3},'metadata':{'n':1,'labels':{'m':'1'}},"
		"'spec':{'n':1,'tags':[{'name':'a','n':1,'m':1}]}}",
		"{'new':{'a':3,'b':2},'metadata':{'n':2,'labels':{'m':'1'}},"
		"'spec':{'n':2,'tags':[{'name':'a','n':2,'m':1}]}}");
}

/* Go decodes a null in a map of strings as "", but here it is the same as none. */
static void nulls_that_the_user_wrote_are_dropped(void **state)
{
	merges(&tag_file, NULL, NULL, "{'annotations':{'x':null,'y':'1'},'from':null}",
		"{'name':'a','annotations':{'y':'1'}}");
	merges(&tag_file, "{'name':'a','items':null}", "{'name':'a','items':null}",
		"{'x':{'y':null,'z':[{'w':null},null]}}",
		"{'name':'a','items':null,'x':{'z':[{},null]}}");
	merges(&whole_file, "{'metadata':{'labels':{'a':'1','b':'1'}}}",
		"{'metadata':{'labels':{'a':'1','b':'1'}}}",
		"{'metadata':{'labels':{'a':null,'b':'1'}}}", "{'metadata':{'labels':{'b':'1'}}}");
	merges(&tag_file, "{'from':{'name':'x'}}", "{'name':'a','from':{'name':'x'}}",
		"{'from':null}", "{'name':'a'}");
}

static void adopts(enum patch_text text, const struct patch_file *f, const char *base,
	const char *mine, const char *expected)
{
	_cleanup_json_ json_t *b = parse(base), *m = parse(mine);
	_cleanup_json_ json_t *result = patch_adopt(f, text, b, m);

	assert_json(result, expected);
}

/* What of another object's text is kept from this one. */
static void another_objects_text(void **state)
{
#define OWN	      "'name':'s','namespace':'n','uid':'u','resourceVersion':'7'"
#define OTHER	      "'name':'t','namespace':'m','uid':'x','resourceVersion':'9'"
#define NOTES(notes)  ",'annotations':{" notes "}"
#define CHECKED(time) "'openshift.io/image.dockerRepositoryCheck':'" time "'"
	static const struct {
		const char *base, *mine, *expected;
	} rows[] = {
		{NOTES("'k':'1'"), NOTES("'l':'2'"), NOTES("'l':'2'")},
		{NOTES(CHECKED("2")), NOTES("'l':'2'," CHECKED("1")),
			NOTES("'l':'2'," CHECKED("2"))},
		{NOTES("'k':'1'"), NOTES("'l':'2'," CHECKED("1")), NOTES("'l':'2'")},
		{NOTES(CHECKED("2")), NOTES("'l':'2'"), NOTES("'l':'2'," CHECKED("2"))},
		{NOTES(CHECKED("2")), "", NOTES(CHECKED("2"))},
		{NOTES(CHECKED("2")), ",'annotations':'x'", ",'annotations':'x'"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *base = xasprintf("{" OWN "%s}", rows[i].base);
		_cleanup_free_ char *mine = xasprintf("{" OTHER "%s}", rows[i].mine);
		_cleanup_free_ char *expected = xasprintf("{" OWN "%s}", rows[i].expected);
		_cleanup_free_ char *base_whole = xasprintf("{'metadata':%s,'spec':{'x':1}}", base);
		_cleanup_free_ char *mine_whole = xasprintf("{'metadata':%s,'spec':{'x':2}}", mine);
		_cleanup_free_ char *whole = xasprintf("{'metadata':%s,'spec':{'x':2}}", expected);

		adopts(PATCH_TEXT_FOREIGN, &metadata_file, base, mine, expected);
		adopts(PATCH_TEXT_FOREIGN, &whole_file, base_whole, mine_whole, whole);
		adopts(PATCH_TEXT_OWN, &metadata_file, base, mine, mine);
	}
#undef OWN
#undef OTHER
#undef NOTES
#undef CHECKED
}

static void conflicts_of_several_places(void **state)
{
	clashes(&whole_file,
		"{'metadata':{'labels':{'a':'1'}},'spec':{'tags':[{'name':'b','x':[1]}]}}",
		"{'metadata':{'labels':{'a':'2'}},'spec':{'tags':[{'name':'b','x':[2]}]}}",
		"{'metadata':{},'spec':{'tags':[{'name':'b','x':[3]}]}}",
		"[{'path':'metadata.labels.a','base':'1','theirs':'2'},"
		"{'path':'spec.tags[b].x','base':[1],'theirs':[2],'mine':[3]}]");
}

static void conflict_text_for_a_person(void **state)
{
	_cleanup_json_ json_t *conflicts =
		parse("[{'path':'spec.tags[a].from','base':{'kind':'DockerImage'},'theirs':'y'}]");
	_cleanup_buf_ struct buf out = BUF_INIT(4096), small = BUF_INIT(20);

	assert_int_equal(patch_conflict_text(conflicts, &out), 0);
	assert_string_equal(out.data, "spec.tags[a].from\n"
				      "  base    {\"kind\":\"DockerImage\"}\n"
				      "  theirs  \"y\"\n"
				      "  mine    (not there)\n");
	assert_int_equal(patch_conflict_text(conflicts, &small), -EFBIG);
}

static void conflict_text_is_cut_between_characters(void **state)
{
	_cleanup_json_ json_t *conflicts = parse("[{'path':'p'}]"), *value = NULL;
	_cleanup_buf_ struct buf out = BUF_INIT(8192);
	char text[2001] = "";

	for (size_t i = 0; i < 2000; i++)
		text[i] = i % 2 ? '\xa9' : '\xc3';
	value = json_string(text);
	json_object_set(json_array_get(conflicts, 0), "base", value);
	json_object_set_new(json_array_get(conflicts, 0), "mine", json_stringn(text, 1022));
	assert_int_equal(patch_conflict_text(conflicts, &out), 0);
	/* a quote and 511 characters of two bytes; the next would be torn */
	assert_memory_equal(out.data, "p\n  base    \"", 13);
	assert_memory_equal(out.data + 12 + 1 + 1022, "...\n  theirs", 12);
	assert_non_null(strstr(out.data, "\xc3\xa9\"\n"));
	/* and so is a path */
	json_object_set(json_array_get(conflicts, 0), "path", value);
	out.len = 0;
	assert_int_equal(patch_conflict_text(conflicts, &out), 0);
	assert_int_equal(strcspn(out.data, "\n"), 1024);
}

/* ---- validation ---- */

static void text_that_is_no_object(void **state)
{
	static const char *const texts[] = {"[]", "'x'", "1", "null", "true", "[{}]"};

	for (int view = PATCH_IMAGESTREAM; view <= PATCH_TAG_STATUS; view++)
		for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
			struct patch_file f = {(enum patch_view)view, "a", 1};

			refuses(&f, "{}", texts[i], EINVAL, "the text is not a JSON object");
		}
}

static void fixed_fields_of_imagestream_json(void **state)
{
	static const char base[] =
		"{'kind':'ImageStream','apiVersion':'v1','metadata':{'name':'s','namespace':'n',"
		"'uid':'u','creationTimestamp':'t','deletionTimestamp':'t','selfLink':'l',"
		"'deletionGracePeriodSeconds':1,'resourceVersion':'7','generation':1},"
		"'status':{'tags':[{'tag':'a','items':[{'generation':1}]},{'tag':'b'}]}}";
	static const struct {
		const char *text, *sentence;
	} rows[] = {
		{"{'kind':'List'}", "kind can't be changed by saving this file"},
		{"{'apiVersion':'v2'}", "apiVersion can't be changed by saving this file"},
		{"{'status':{}}", NULL},
		{"{'status':{'tags':[{'tag':'b'}]}}",
			"status can't be changed by saving this file"},
		{"{'status':{'tags':[{'tag':'b'},{'tag':'a','items':[{'generation':1}]}]}}", NULL},
		{"{'status':{'tags':[{'tag':'b'},{'tag':'a','items':[{'generation':2}]}]}}",
			"status can't be changed by saving this file"},
		{"{'metadata':{'name':'x'}}", "metadata.name can't be changed by saving this file"},
		{"{'metadata':{'namespace':'x'}}",
			"metadata.namespace can't be changed by saving this file"},
		{"{'metadata':{'creationTimestamp':'x'}}",
			"metadata.creationTimestamp can't be changed by saving this file"},
		{"{'metadata':{'deletionTimestamp':'x'}}",
			"metadata.deletionTimestamp can't be changed by saving this file"},
		{"{'metadata':{'deletionGracePeriodSeconds':2}}",
			"metadata.deletionGracePeriodSeconds can't be changed by saving this file"},
		{"{'metadata':{'selfLink':'x'}}",
			"metadata.selfLink can't be changed by saving this file"},
		{"{'metadata':'x'}", "metadata is not an object"},
		{"{'spec':[1]}", "spec is not an object"},
		{"{'metadata':{'resourceVersion':'1','generation':9,'managedFields':[1]}}", NULL},
		{"{'metadata':{'labels':{'a':'b'},'unknown':1},'spec':{'x':1},'unknown':1}", NULL},
		{"{'metadata':null,'spec':null,'status':null,'kind':null}", NULL},
		{"{}", NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].sentence)
			refuses(&whole_file, base, rows[i].text, EINVAL, rows[i].sentence);
		else
			accepts(&whole_file, base, rows[i].text);
	accepts(&whole_file, base, base);
}

static void another_uid_is_another_object(void **state)
{
	refuses(&whole_file, "{'metadata':{'uid':'u'}}", "{'metadata':{'uid':'v'}}", ESTALE,
		"metadata.uid is another: the object was deleted and made again");
	accepts(&whole_file, "{'metadata':{'uid':'u'}}", "{'metadata':{'uid':'u'}}");
}

static void fixed_fields_of_metadata_json(void **state)
{
	static const char base[] = "{'name':'s','uid':'u','x':{'a':1}}";

	accepts(&metadata_file, base,
		"{'labels':{'a':'1'},'annotations':{'a':'1'},'finalizers':['a'],"
		"'ownerReferences':[{'uid':'1'}],'name':'s','x':{'a':1},'resourceVersion':'9',"
		"'generation':0,'managedFields':[]}");
	accepts(&metadata_file, base, "{}");
	refuses(&metadata_file, base, "{'name':'t'}", EINVAL,
		"metadata.name can't be changed by saving this file");
	refuses(&metadata_file, base, "{'uid':'v'}", EINVAL,
		"metadata.uid can't be changed by saving this file");
	refuses(&metadata_file, base, "{'x':{'a':2}}", EINVAL,
		"metadata.x can't be changed by saving this file");
	refuses(&metadata_file, base, "{'new':1}", EINVAL,
		"metadata.new can't be changed by saving this file");
}

static void fixed_fields_of_status_json(void **state)
{
	static const char base[] = "{'dockerImageRepository':'r','tags':[]}";

	accepts(&status_file, base, "{'tags':[{'tag':'a'}]}");
	accepts(&status_file, base, base);
	refuses(&status_file, base, "{'dockerImageRepository':'q'}", EINVAL,
		"status.dockerImageRepository can't be changed by saving this file");
}

static void another_name_in_a_tag(void **state)
{
	accepts(&tag_file, "{'name':'a'}", "{'name':'a','tag':'z'}");
	accepts(&tag_file, "{'name':'a'}", "{}");
	accepts(&tag_file, NULL, "{'name':null}");
	refuses(&tag_file, "{'name':'a'}", "{'name':'b'}", EINVAL,
		"spec.tags[a].name can't be changed by saving this file");
	refuses(&tag_file, NULL, "{'name':1}", EINVAL,
		"spec.tags[a].name can't be changed by saving this file");
	refuses(&history_file, "{'tag':'a'}", "{'tag':'ab'}", EINVAL,
		"status.tags[a].tag can't be changed by saving this file");
}

static void two_tags_of_one_name(void **state)
{
	refuses(&spec_file, "{}", "{'tags':[{'name':'a'},{'name':'b'},{'name':'a'}]}", EINVAL,
		"spec.tags[a] is there twice");
	refuses(&whole_file, "{}", "{'spec':{'tags':[{'name':''},{'name':''}]}}", EINVAL,
		"spec.tags[] is there twice");
	refuses(&status_file, "{}", "{'tags':[{'tag':'a'},{'tag':'a'}]}", EINVAL,
		"status.tags[a] is there twice");
	accepts(&spec_file, "{}", "{'tags':[{'name':'a'},{'name':'A'}]}");
	accepts(&metadata_file, "{}", "{'ownerReferences':[{'uid':'1'},{'uid':'1'}]}");
}

static void a_tag_without_a_name(void **state)
{
	refuses(&spec_file, "{}", "{'tags':[{'x':1}]}", EINVAL,
		"spec.tags has an element without a \"name\"");
	refuses(&spec_file, "{}", "{'tags':['a']}", EINVAL,
		"spec.tags has an element without a \"name\"");
	refuses(&status_file, "{}", "{'tags':[{'name':'a'}]}", EINVAL,
		"status.tags has an element without a \"tag\"");
	refuses(&spec_file, "{}", "{'tags':{'a':1}}", EINVAL, "spec.tags is not a list");
	accepts(&spec_file, "{}", "{'tags':null}");
}

/* ---- requests ---- */

static void a_strategic_patch_holds_what_changed(void **state)
{
	sends(&spec_file, PATCH_STRATEGIC,
		OBJECT("{'lookupPolicy':{'local':false},'x':1,'y':1,'tags':[{'name':'a','"
		       "generation':3,"
		       "'annotations':{'k':'1','l':'1'}},{'name':'b','x':1},{'name':'c'}]}",
			"{}"),
		"{'lookupPolicy':{'local':true},'y':1,'tags':[{'name':'n','x':1},{'name':'a',"
		"'annotations':{'k':'2'}},{'name':'b','x':1}]}",
		"{" PRECONDITION ",'spec':{'lookupPolicy':{'local':true},'x':null,'tags':["
		"{'name':'a','annotations':{'k':'2','l':null}},{'name':'c','$patch':'delete'},"
		"{'name':'n','x':1}]}}");
	sends(&tag_file, PATCH_STRATEGIC,
		TAGS("{'name':'a','x':1,'importPolicy':{'m':1}},{'name':'b','x':1}"),
		"{'name':'a','x':2}", SPEC_PATCH("[{'name':'a','x':2,'importPolicy':null}]"));
}

static void from_is_replaced_and_never_merged_into(void **state)
{
	/* merged by the server it would keep the namespace */
	sends(&tag_file, PATCH_STRATEGIC,
		TAGS("{'name':'a','from':{'kind':'ImageStreamTag','namespace':'q','name':'x'}}"),
		"{'from':{'kind':'DockerImage','name':'y'}}",
		SPEC_PATCH("[{'name':'a','from':{'kind':'DockerImage','name':'y','$patch':'replace'"
			   "}}]"));
	sends(&tag_file, PATCH_STRATEGIC, TAGS("{'name':'a','from':{'name':'x'},'reference':true}"),
		"{'name':'a'}", SPEC_PATCH("[{'name':'a','from':null,'reference':null}]"));
}

/* Servers before 2023 store what is new without reading directives in it. */
static void no_directive_inside_what_is_new(void **state)
{
	sends(&tag_file, PATCH_STRATEGIC, TAGS("{'name':'a'}"), "{'from':{'name':'y'}}",
		SPEC_PATCH("[{'name':'a','from':{'name':'y'}}]"));
	sends(&tag_file, PATCH_STRATEGIC, TAGS("{'name':'a','from':null}"), "{'from':{'name':'y'}}",
		SPEC_PATCH("[{'name':'a','from':{'name':'y'}}]"));
	sends(&tag_file, PATCH_STRATEGIC, TAGS(""), "{'from':{'name':'y'}}",
		SPEC_PATCH("[{'name':'a','from':{'name':'y'}}]"));
}

/* `$patch: replace` in one element empties the whole list. */
static void removing_every_tag_deletes_each(void **state)
{
	sends(&spec_file, PATCH_STRATEGIC, TAGS("{'name':'a'},{'name':'b'}"), "{}",
		SPEC_PATCH("[{'name':'a','$patch':'delete'},{'name':'b','$patch':'delete'}]"));
	sends(&spec_file, PATCH_MERGE, TAGS("{'name':'a'},{'name':'b'}"), "{}", SPEC_PATCH("null"));
}

static void a_dollar_key_needs_a_merge_patch(void **state)
{
	static const char *const written[] = {
		"{'tags':[{'name':'a','annotations':{'$patch':'delete'}}]}",
		"{'tags':[{'name':'a','annotations':{'x':'1'},'from':{'$retainKeys':['x']}}]}",
		"{'tags':[{'name':'a','annotations':{'x':'1'}},{'name':'b','x':[{'$y':1}]}]}",
		"{'$setElementOrder/tags':['x'],'tags':[{'name':'a','annotations':{'x':'1'}}]}",
	};
	static const char current[] = TAGS("{'name':'a','annotations':{'x':'1'}}");
	static const char dollar[] =
		TAGS("{'name':'a','annotations':{'$x':'1','y':'1'}},{'name':'b'}");

	for (size_t i = 0; i < ARRAY_SIZE(written); i++)
		chooses(&spec_file, current, written[i], PATCH_MERGE);
	chooses(&tag_file, dollar, "{'annotations':{'y':'1'}}", PATCH_MERGE); /* takes it away */
	/* nor can it tell two elements of one name apart */
	chooses(&tag_file, TAGS("{'name':'b'},{'name':'b'}"), "{'x':1}", PATCH_MERGE);
	/* not in what changes; and as a value it means nothing */
	chooses(&spec_file, dollar, "{'tags':[{'name':'a','annotations':{'$x':'1','y':'1'}}]}",
		PATCH_STRATEGIC);
	chooses(&tag_file, current, "{'from':{'name':'$patch'}}", PATCH_STRATEGIC);
	sends(&tag_file, PATCH_MERGE, current, "{'annotations':{'$patch':'delete'}}",
		SPEC_PATCH("[{'name':'a','annotations':{'$patch':'delete'}}]"));
}

static void the_form_of_each_file(void **state)
{
	static const char object[] = OBJECT("{'tags':[{'name':'a'}]}", "{'tags':[{'tag':'a'}]}");

	chooses(&whole_file, object, "{'$x':1}", PATCH_PUT);
	chooses(&metadata_file, object, "{'labels':{'a':'1'}}", PATCH_MERGE);
	chooses(&spec_file, object, "{'x':1}", PATCH_STRATEGIC);
	chooses(&status_file, object, "{}", PATCH_STRATEGIC);
	chooses(&status_file, object, "{'tags':[{'tag':'a','$x':1}]}", PATCH_MERGE);
	chooses(&tag_file, object, NULL, PATCH_STRATEGIC);
	chooses(&history_file, object, NULL, PATCH_STRATEGIC);
}

/* Without the generations each tag would look changed, with a 0 of the server's it would be. */
static void a_merge_patch_has_every_tag_with_its_generation(void **state)
{
	static const char current[] =
		TAGS("{'name':'a','generation':3,'x':1},{'name':'b','generation':0},"
		     "{'name':'c','generation':null},{'name':'d','generation':9007199254740993}");

	sends(&tag_file, PATCH_MERGE, current, "{'x':2}",
		SPEC_PATCH("[{'name':'a','generation':3,'x':2},{'name':'b'},{'name':'c'},"
			   "{'name':'d','generation':9007199254740993}]"));
	sends(&spec_file, PATCH_MERGE, current,
		"{'tags':[{'name':'n','generation':0},{'name':'b','generation':0},{'name':'a','x':"
		"1}]}",
		SPEC_PATCH("[{'name':'n','generation':0},{'name':'b','generation':0},"
			   "{'name':'a','generation':3,'x':1}]"));
}

static void a_merge_patch_of_spec_leaves_unchanged_tags_out(void **state)
{
	sends(&spec_file, PATCH_MERGE, TAGS("{'name':'a','generation':3}"),
		"{'x':1,'tags':[{'name':'a'}]}", "{" PRECONDITION ",'spec':{'x':1}}");
}

static void asking_for_an_import(void **state)
{
	sends(&tag_file, PATCH_STRATEGIC, TAGS("{'name':'a','generation':3,'x':1}"),
		"{'x':1,'generation':0}", SPEC_PATCH("[{'name':'a','generation':0}]"));
	/* also where the current one is 0 */
	sends(&tag_file, PATCH_STRATEGIC, TAGS("{'name':'a','generation':0,'x':1}"),
		"{'x':1,'generation':0}", SPEC_PATCH("[{'name':'a','generation':0}]"));
	sends(&tag_file, PATCH_STRATEGIC, TAGS("{'name':'a','generation':0,'x':1}"), "{'x':2}",
		SPEC_PATCH("[{'name':'a','x':2}]"));
	sends(&spec_file, PATCH_STRATEGIC, TAGS("{'name':'a','generation':3},{'name':'b'}"),
		"{'tags':[{'name':'a'},{'name':'b','generation':0}]}",
		SPEC_PATCH("[{'name':'b','generation':0}]"));
}

static void metadata_is_a_merge_patch_of_four_fields(void **state)
{
	sends(&metadata_file, PATCH_MERGE,
		"{'metadata':{'name':'s','uid':'u','resourceVersion':'7','labels':{'a':'1','b':'1'}"
		","
		"'annotations':{'x':'1'},'finalizers':['f'],'ownerReferences':[{'uid':'1'}]}}",
		"{'name':'s','labels':{'a':'2','$c':'1'},'finalizers':['f','g'],"
		"'ownerReferences':[{'uid':'1','name':'n'}]}",
		"{'metadata':{'resourceVersion':'7','uid':'u','labels':{'a':'2','b':null,'$c':'1'},"
		"'annotations':null,'finalizers':['f','g'],'ownerReferences':[{'uid':'1','name':'n'"
		"}]}}");
	sends(&metadata_file, PATCH_MERGE, OBJECT("{}", "{}"), "{'labels':{'a':'1'}}",
		"{'metadata':{'resourceVersion':'7','uid':'u','labels':{'a':'1'}}}");
}

/* A merge patch with one status tag alone would delete the others' history. */
static void status_in_each_form(void **state)
{
	static const char current[] = OBJECT("{'tags':[{'name':'a','generation':3}]}",
		"{'dockerImageRepository':'r','tags':[{'tag':'a','items':[{'i':1},{'i':2}]},"
		"{'tag':'b','items':null,'conditions':[{'c':1}]}]}");
	static const char merged[] = "{'tag':'a','items':[{'i':3}],'conditions':[{'c':2}]}";

	sends(&history_file, PATCH_STRATEGIC, current, merged,
		STATUS_PATCH("[{'tag':'a','items':[{'i':3}],'conditions':[{'c':2}]}]"));
	sends(&history_file, PATCH_MERGE, current, merged,
		STATUS_PATCH("[{'tag':'a','items':[{'i':3}],'conditions':[{'c':2}]},"
			     "{'tag':'b','items':null,'conditions':[{'c':1}]}]"));
	sends(&history_file, PATCH_PUT, current, merged,
		OBJECT("{'tags':[{'name':'a','generation':3}]}",
			"{'dockerImageRepository':'r','tags':[{'tag':'a','items':[{'i':3}],"
			"'conditions':[{'c':2}]},{'tag':'b','items':null,'conditions':[{'c':1}]}]"
			"}"));
	sends(&status_file, PATCH_STRATEGIC, current,
		"{'dockerImageRepository':'q','tags':[{'tag':'b','conditions':[{'c':1}]}]}",
		STATUS_PATCH("[{'tag':'a','$patch':'delete'}]"));
}

/* Anything less than all of it wipes labels and finalizers. */
static void a_status_put_replaces_status_tags_alone(void **state)
{
	sends(&status_file, PATCH_PUT,
		"{'kind':'ImageStream','metadata':{'name':'s','labels':{'a':'1'},'finalizers':['f']"
		","
		"'managedFields':[1],'resourceVersion':'7'},'spec':{'lookupPolicy':{'local':true}},"
		"'status':{'dockerImageRepository':'','x':1},'unknown':1}",
		"{'dockerImageRepository':'decorated','tags':[{'tag':'a'}]}",
		"{'kind':'ImageStream','metadata':{'name':'s','labels':{'a':'1'},'finalizers':['f']"
		","
		"'resourceVersion':'7'},'spec':{'lookupPolicy':{'local':true}},"
		"'status':{'dockerImageRepository':'','x':1,'tags':[{'tag':'a'}]},'unknown':1}");
}

static void a_put_is_the_current_object_with_the_edits(void **state)
{
	static const char base[] =
		"{'kind':'ImageStream','metadata':{'name':'s','resourceVersion':'5','generation':1,"
		"'managedFields':[1]},'spec':{'n':1,'tags':[{'name':'a','generation':2},"
		"{'name':'b','generation':0},{'name':'c','generation':2}]}}";
	static const char current[] =
		"{'kind':'ImageStream','metadata':{'name':'s','resourceVersion':'7','generation':2,"
		"'managedFields':[2]},'spec':{'n':1,'tags':[{'name':'a','generation':3},"
		"{'name':'b','generation':0},{'name':'c','generation':2}]},'status':{'x':1}}";
	static const char text[] =
		"{'metadata':{'name':'s','resourceVersion':'5','labels':{'a':'1'}},'spec':{'n':1,"
		"'tags':[{'name':'a','generation':2,'x':1},{'name':'b','generation':0,'x':1},"
		"{'name':'c','generation':0}]}}";
	_cleanup_json_ json_t *b = parse(base), *c = parse(current), *m = parse(text);
	_cleanup_json_ json_t *old = patch_value(&whole_file, b),
			      *now = patch_value(&whole_file, c);
	_cleanup_json_ json_t *merged = NULL, *conflicts = NULL, *body = NULL;

	assert_int_equal(patch_merge3(&whole_file, old, now, m, &merged, &conflicts), 0);
	body = patch_body(&whole_file, PATCH_PUT, c, merged);
	assert_json(body, "{'kind':'ImageStream','metadata':{'name':'s','resourceVersion':'7',"
			  "'generation':2,'labels':{'a':'1'}},'spec':{'n':1,'tags':[{'name':'a',"
			  "'generation':3,'x':1},{'name':'b','x':1},{'name':'c','generation':0}]},"
			  "'status':{'x':1}}");
}

static void adding_and_removing_one_tag(void **state)
{
	static const char current[] =
		OBJECT("{'tags':[{'name':'a','generation':2},{'name':'b','generation':0}]}",
			"{'tags':[{'tag':'a'},{'tag':'b'}]}");
	static const struct patch_file odd = {PATCH_TAG_SPEC, "x/y", 3};

	sends(&odd, PATCH_STRATEGIC, current, "{}", SPEC_PATCH("[{'name':'x/y'}]"));
	sends(&odd, PATCH_MERGE, current, "{}",
		SPEC_PATCH("[{'name':'a','generation':2},{'name':'b'},{'name':'x/y'}]"));
	sends(&odd, PATCH_STRATEGIC, OBJECT("{}", "{}"), "{}", SPEC_PATCH("[{'name':'x/y'}]"));
	sends(&tag_file, PATCH_STRATEGIC, current, NULL,
		SPEC_PATCH("[{'name':'a','$patch':'delete'}]"));
	sends(&tag_file, PATCH_MERGE, current, NULL, SPEC_PATCH("[{'name':'b'}]"));
	sends(&history_file, PATCH_STRATEGIC, current, NULL,
		STATUS_PATCH("[{'tag':'a','$patch':'delete'}]"));
	sends(&history_file, PATCH_MERGE, current, NULL, STATUS_PATCH("[{'tag':'b'}]"));
	/* nothing to remove, nothing said */
	sends(&odd, PATCH_STRATEGIC, current, NULL, "{" PRECONDITION "}");
}

static void background_changes(void **state)
{
	static const struct {
		bool background;
		const char *a, *b;
	} rows[] = {
		{true, "{'metadata':{'resourceVersion':'1','generation':1}}",
			"{'metadata':{'resourceVersion':'2','generation':2,'managedFields':[1],"
			"'annotations':{'openshift.io/image.dockerRepositoryCheck':'now'}},"
			"'status':{'tags':[{'tag':'a'}]}}"},
		{true, "{'spec':{'tags':[{'name':'a','generation':0}]}}",
			"{'spec':{'tags':[{'name':'a','generation':5}]}}"},
		{false, "{'metadata':{'annotations':{'x':'1'}}}",
			"{'metadata':{'annotations':{'x':'2'}}}"},
		{false, "{'metadata':{}}", "{'metadata':{'labels':{'a':'1'}}}"},
		{false, "{'spec':{}}", "{'spec':{'tags':[{'name':'a'}]}}"},
		{false, "{'metadata':{'uid':'1'}}", "{'metadata':{'uid':'2'}}"},
		{false, "{}", "{'unknown':1}"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_json_ json_t *a = parse(rows[i].a), *b = parse(rows[i].b);

		assert_int_equal(patch_is_background(a, b), rows[i].background);
		assert_int_equal(patch_is_background(b, a), rows[i].background);
	}
}

/* Linear in the number of tags: this would take minutes otherwise. */
static void many_tags(void **state)
{
	_cleanup_json_ json_t *object = parse(OBJECT("{}", "{}")), *list = json_array();
	_cleanup_json_ json_t *base = NULL, *mine = NULL, *merged = NULL, *conflicts = NULL;
	_cleanup_json_ json_t *body = NULL;
	_cleanup_free_ char *error = NULL;

	for (int i = 0; i < 20000; i++)
		json_array_append_new(list, json_pack("{s:o}", "name", json_sprintf("v%d", i)));
	json_object_set(json_object_get(object, "spec"), "tags", list);
	base = patch_value(&spec_file, object);
	mine = json_deep_copy(base);
	json_array_remove(json_object_get(mine, "tags"), 19999);
	assert_int_equal(patch_check(&spec_file, base, mine, &error), 0);
	assert_int_equal(patch_merge3(&spec_file, base, base, mine, &merged, &conflicts), 0);
	body = patch_body(&spec_file, PATCH_STRATEGIC, object, merged);
	assert_json(body, SPEC_PATCH("[{'name':'v19999','$patch':'delete'}]"));
}

/* ---- models of what the server does ---- */

/* RFC 7386. New reference. */
static json_t *apply_merge(const json_t *target, const json_t *change)
{
	json_t *result, *value;
	const char *key;

	if (!json_is_object(change))
		return json_incref((json_t *)change);
	result = json_is_object(target) ? json_copy((json_t *)target) : json_object();
	json_object_foreach((json_t *)change, key, value) {
		if (json_is_null(value))
			json_object_del(result, key);
		else
			json_object_set_new(
				result, key, apply_merge(json_object_get(target, key), value));
	}
	return result;
}

static json_t *apply_strategic(const json_t *target, const json_t *change);

static size_t find_index(const json_t *list, const char *key, const json_t *name)
{
	const json_t *element;
	size_t i;

	json_array_foreach(list, i, element) {
		if (json_equal(json_object_get(element, key), name))
			return i;
	}
	return json_array_size(list);
}

static json_t *apply_to_list(const json_t *target, const json_t *change, const char *key)
{
	json_t *result = json_copy((json_t *)target), *element;
	size_t i;

	json_array_foreach(change, i, element) {
		const char *directive = json_str(element, "$patch");
		size_t at = find_index(result, key, json_object_get(element, key));

		assert_true(json_is_string(json_object_get(element, key)));
		if (directive && streq(directive, "replace")) {
			json_array_clear(result);
		} else if (directive) {
			assert_string_equal(directive, "delete");
			json_array_remove(result, at);
		} else if (at == json_array_size(result)) {
			json_array_append(result, element);
		} else {
			json_array_set_new(
				result, at, apply_strategic(json_array_get(result, at), element));
		}
	}
	return result;
}

/*
 * k8s.io/apimachinery pkg/util/strategicpatch mergeMap for the fields of an ImageStream, as before
 * 2023: what isn't in the target, or is of another type there, is taken as it stands.
 */
static json_t *apply_strategic(const json_t *target, const json_t *change)
{
	const char *directive = json_str(change, "$patch"), *key;
	json_t *result = json_copy((json_t *)(directive ? change : target)), *value;

	if (directive) {
		assert_string_equal(directive, "replace");
		json_object_del(result, "$patch");
		return result;
	}
	json_object_foreach((json_t *)change, key, value) {
		const json_t *old = json_object_get(target, key);
		bool same = old && json_typeof(old) == json_typeof(value);

		if (json_is_null(value))
			json_object_del(result, key);
		else if (same && json_is_object(value))
			json_object_set_new(result, key, apply_strategic(old, value));
		else if (same && json_is_array(value) && streq(key, "tags"))
			json_object_set_new(result, key,
				apply_to_list(old, value,
					json_object_get(json_array_get(value, 0), "tag") ? "tag"
											 : "name"));
		else
			json_object_set(result, key, value);
	}
	return result;
}

/* What is stored then, by a body of that form. Through text, as on the wire. */
static json_t *apply(enum patch_form form, const json_t *current, const json_t *body)
{
	_cleanup_free_ char *text = json_dumps(body, JSON_COMPACT);
	_cleanup_json_ json_t *read = json_loads(text, JSON_ALLOW_NUL, NULL);
	json_t *shallow = NULL, *copy;

	assert_non_null(read);
	if (form == PATCH_PUT)
		shallow = json_incref(read);
	else
		shallow = (form == PATCH_MERGE ? apply_merge : apply_strategic)(current, read);
	copy = json_deep_copy(shallow); /* the caller may change it */
	json_decref(shallow);
	return copy;
}

static void models_do_what_the_transcripts_show(void **state)
{
	static const struct {
		bool strategic;
		const char *target, *change, *result;
	} rows[] = {
		{true, "{'tags':[{'name':'only','x':1}]}", "{'tags':[{'name':'smp'}]}",
			"{'tags':[{'name':'only','x':1},{'name':'smp'}]}"},
		{true, "{'tags':[{'name':'only'},{'name':'smp'}]}",
			"{'tags':[{'name':'smp','$patch':'delete'}]}",
			"{'tags':[{'name':'only'}]}"},
		{true, "{'tags':[{'name':'a'},{'name':'b'}]}",
			"{'tags':[{'name':'a','$patch':'replace'}]}", "{'tags':[]}"},
		{true, "{'tags':[{'name':'a','from':{'kind':'k','namespace':'n'}}]}",
			"{'tags':[{'name':'a','from':{'kind':'l'}}]}",
			"{'tags':[{'name':'a','from':{'kind':'l','namespace':'n'}}]}"},
		{true, "{'tags':[{'tag':'a','items':[1,2]}]}", "{'tags':[{'tag':'a','items':[3]}]}",
			"{'tags':[{'tag':'a','items':[3]}]}"},
		{true, "{'tags':[{'name':'a'}]}",
			"{'tags':[{'name':'a','from':{'$patch':'replace'}}]}",
			"{'tags':[{'name':'a','from':{'$patch':'replace'}}]}"},
		{false, "{'tags':[{'name':'a'},{'name':'b'}]}", "{'tags':[{'name':'c'}]}",
			"{'tags':[{'name':'c'}]}"},
		{false, "{'labels':{'tier':'web','m':'1'}}", "{'labels':{'m':null}}",
			"{'labels':{'tier':'web'}}"},
		{false, "{'a':'b'}", "{'a':{'b':{'c':null}}}", "{'a':{'b':{}}}"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_json_ json_t *target = parse(rows[i].target);
		_cleanup_json_ json_t *change = parse(rows[i].change);
		_cleanup_json_ json_t *result =
			(rows[i].strategic ? apply_strategic : apply_merge)(target, change);

		assert_json(result, rows[i].result);
	}
}

/* ---- dangers, by what is stored in the end ---- */

/* Saves `mine` on top of `current`, in each form that the file has, and expects the object. */
static void saves(const struct patch_file *f, const char *base, const char *current,
	const char *mine, const char *expected)
{
	_cleanup_json_ json_t *b = parse(base), *c = parse(current), *m = parse(mine);
	_cleanup_json_ json_t *old = patch_value(f, b), *now = patch_value(f, c);
	_cleanup_json_ json_t *merged = NULL, *conflicts = NULL;
	bool in_status = f->view == PATCH_STATUS || f->view == PATCH_TAG_STATUS;
	bool forms[] = {
		[PATCH_PUT] = f->view == PATCH_IMAGESTREAM || in_status,
		[PATCH_MERGE] = f->view != PATCH_IMAGESTREAM,
		[PATCH_STRATEGIC] = f->view != PATCH_IMAGESTREAM && f->view != PATCH_METADATA,
	};

	assert_int_equal(patch_merge3(f, old, now, m, &merged, &conflicts), 0);
	for (size_t form = 0; form < ARRAY_SIZE(forms); form++) {
		_cleanup_json_ json_t *body = NULL, *result = NULL;

		if (!forms[form])
			continue;
		body = patch_body(f, (enum patch_form)form, c, merged);
		result = apply((enum patch_form)form, c, body);
		assert_json(result, expected);
	}
}

static void a_tag_that_they_deleted_is_not_resurrected(void **state)
{
	static const char base[] = TAGS("{'name':'a','generation':1},{'name':'b','generation':1}");
	static const char current[] = TAGS("{'name':'b','generation':1}");

	/* my text still has it */
	saves(&spec_file, base, current, "{'tags':[{'name':'a'},{'name':'b','x':1}]}",
		TAGS("{'name':'b','generation':1,'x':1}"));
	saves(&whole_file, base, current,
		"{'spec':{'tags':[{'name':'a','generation':1},{'name':'b','x':1}]}}",
		TAGS("{'name':'b','generation':1,'x':1}"));
	saves(&tag_file, base, current, "{}", current);
	clashes(&spec_file, "{'tags':[{'name':'a'}]}", "{}", "{'tags':[{'name':'a','x':1}]}",
		"[{'path':'spec.tags[a]','base':{'name':'a'},'mine':{'name':'a','x':1}}]");
}

static void a_tag_that_they_added_is_not_removed(void **state)
{
	static const char base[] = TAGS("{'name':'b','generation':1}");
	static const char current[] =
		TAGS("{'name':'b','generation':1},{'name':'t','generation':2}");

	saves(&spec_file, base, current, "{'tags':[{'name':'b','x':1}]}",
		TAGS("{'name':'b','generation':1,'x':1},{'name':'t','generation':2}"));
	saves(&spec_file, base, current, "{}", TAGS("{'name':'t','generation':2}"));
	saves(&whole_file, base, current, "{'spec':{'tags':[]}}",
		TAGS("{'name':'t','generation':2}"));
}

static void from_of_another_kind_keeps_nothing_of_the_old(void **state)
{
	static const char current[] =
		TAGS("{'name':'a','generation':1,'from':{'kind':'ImageStreamTag','namespace':'n',"
		     "'name':'x:1'},'annotations':{'k':'1'}},{'name':'b','generation':1}");
	static const char expected[] =
		TAGS("{'name':'a','generation':1,'from':{'kind':'DockerImage','name':'q/x'},"
		     "'annotations':{'k':'1'}},{'name':'b','generation':1}");

	saves(&tag_file, current, current,
		"{'from':{'kind':'DockerImage','name':'q/x'},'annotations':{'k':'1'}}", expected);
	saves(&spec_file, current, current,
		"{'tags':[{'name':'a','from':{'kind':'DockerImage','name':'q/x'},"
		"'annotations':{'k':'1'}},{'name':'b'}]}",
		expected);
}

static void removing_a_tag_from_spec_keeps_history(void **state)
{
	static const char history[] = "{'dockerImageRepository':'r','tags':[{'tag':'a',"
				      "'items':[{'i':1}]},{'tag':'b','items':null}]}";
	_cleanup_free_ char *before = xasprintf("{'kind':'ImageStream'," META
						",'spec':{'tags':[{'name':'a'},{'name':'b'}]},"
						"'status':%s}",
		history);
	_cleanup_free_ char *after = xasprintf("{'kind':'ImageStream'," META
					       ",'spec':{'tags':[{'name':'b'}]},'status':%s}",
		history);

	saves(&spec_file, before, before, "{'tags':[{'name':'b'}]}", after);
}

static void a_write_of_one_history_keeps_the_rest(void **state)
{
	static const char metadata[] =
		"'metadata':{'name':'s','uid':'u','resourceVersion':'7','labels':{'a':'1'},"
		"'annotations':{'a':'1'},'finalizers':['f']},'spec':{'lookupPolicy':{'local':true},"
		"'tags':[{'name':'a','generation':0}]},'unknown':{'u':null}";
	_cleanup_free_ char *base = xasprintf(
		"{%s,'status':{'tags':[{'tag':'a','items':[{'i':1}]},{'tag':'b','items':[{'i':1}]}"
		"]}}",
		metadata);
	_cleanup_free_ char *current =
		xasprintf("{%s,'status':{'n':1,'tags':[{'tag':'a','items':[{'i':1}]},"
			  "{'tag':'b','items':[{'i':2},{'i':1}],'conditions':[{'c':1}]},{'tag':'t',"
			  "'items':null}]}}",
			metadata);
	_cleanup_free_ char *expected =
		xasprintf("{%s,'status':{'n':1,'tags':[{'tag':'a','items':[{'i':9}]},"
			  "{'tag':'b','items':[{'i':2},{'i':1}],'conditions':[{'c':1}]},{'tag':'t',"
			  "'items':null}]}}",
			metadata);
	static const struct patch_file *const files[] = {&history_file, &status_file};
	static const char *const texts[] = {"{'items':[{'i':9}]}",
		"{'tags':[{'tag':'a','items':[{'i':9}]},{'tag':'b','items':[{'i':1}]}]}"};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		saves(files[i], base, current, texts[i], expected);
}

static void unknown_fields_and_long_integers_survive_every_form(void **state)
{
	static const char before[] =
		"{" META
		",'new':{'i':9223372036854775807,'r':0.1},'spec':{'new':[-9223372036854775807],"
		"'x':1,'tags':[{'name':'a','generation':9007199254740993,'new':[{'$y':null}]},"
		"{'name':'b','generation':9007199254740995,'new':{'r':1e300}}]},'status':{'new':1}"
		"}";
	static const char after[] =
		"{" META
		",'new':{'i':9223372036854775807,'r':0.1},'spec':{'new':[-9223372036854775807],"
		"'x':2,'tags':[{'name':'a','generation':9007199254740993,'new':[{'$y':null}]},"
		"{'name':'b','generation':9007199254740995,'new':{'r':1e300},'l':9007199254740993}]"
		"},"
		"'status':{'new':1}}";
	static const char text[] =
		"{'new':[-9223372036854775807],'x':2,'tags':[{'name':'a','new':[{'$y':null}]},"
		"{'name':'b','new':{'r':1e300},'l':9007199254740993}]}";

	saves(&spec_file, before, before, text, after);
}

static void a_null_label_is_no_label(void **state)
{
	static const char before[] = "{'metadata':{'uid':'u','resourceVersion':'7',"
				     "'labels':{'a':'1','b':'1'}}}";
	static const char after[] =
		"{'metadata':{'uid':'u','resourceVersion':'7','labels':{'b':'1'}}}";
	static const char text[] = "{'labels':{'a':null,'b':'1','c':null}}";
	_cleanup_free_ char *whole = xasprintf("{'metadata':%s}", text);

	saves(&metadata_file, before, before, text, after);
	saves(&whole_file, before, before, whole, after);
}

static void only_what_the_user_asked_for_is_imported(void **state)
{
	static const char before[] = TAGS("{'name':'a','generation':3},{'name':'b','generation':4},"
					  "{'name':'c','generation':null}");
	static const char after[] = TAGS("{'name':'a','generation':0},{'name':'b','generation':4},"
					 "{'name':'c','generation':null}");
	_cleanup_json_ json_t *current = parse(before), *mine = parse("{'generation':0}");
	_cleanup_json_ json_t *body = patch_body(&tag_file, PATCH_MERGE, current, mine);
	_cleanup_json_ json_t *result = apply(PATCH_MERGE, current, body);
	_cleanup_json_ json_t *other = patch_body(&tag_file, PATCH_STRATEGIC, current, mine);
	_cleanup_json_ json_t *stored = apply(PATCH_STRATEGIC, current, other);

	assert_json(stored, after);
	/* null and absent are one to the server */
	assert_json(result, TAGS("{'name':'a','generation':0},{'name':'b','generation':4},"
				 "{'name':'c'}"));
}

/* As deep as a text can be (jansson reads 2048). Nothing here may run out of stack. */
static void deep_values(void **state)
{
	enum { DEPTH = 2000 };
	json_t *text = json_integer(1), *edited = json_integer(2);
	_cleanup_json_ json_t *object = parse(OBJECT("{}", "{}")), *base = NULL, *mine = NULL;
	_cleanup_json_ json_t *merged = NULL, *conflicts = NULL, *body = NULL, *result = NULL;

	for (int i = 0; i < DEPTH; i++) {
		text = json_pack("{s:o}", "x", text);
		edited = json_pack("{s:o}", "x", edited);
	}
	json_object_set_new(object, "spec", text);
	mine = edited;
	base = patch_value(&spec_file, object);
	assert_false(patch_equal(&spec_file, base, mine));
	assert_int_equal(patch_merge3(&spec_file, base, base, mine, &merged, &conflicts), 0);
	body = patch_body(&spec_file, PATCH_STRATEGIC, object, merged);
	result = apply(PATCH_STRATEGIC, object, body);
	assert_true(json_equal(json_object_get(result, "spec"), mine));
}

/* ---- generated saves ---- */

static uint64_t random_state;

/* splitmix64 */
static unsigned random_below(unsigned n)
{
	uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (unsigned)((z ^ (z >> 31)) % n);
}

static bool one_in(unsigned n)
{
	return random_below(n) == 0;
}

static json_t *random_word(void)
{
	return json_sprintf("%u", random_below(3));
}

/* NULL, null and {} stand for nothing; dollar keys are rare. */
static json_t *random_map(void)
{
	json_t *map;

	if (one_in(4))
		return one_in(2) ? NULL : json_null();
	map = json_object();
	if (one_in(2))
		json_object_set_new(map, "k", one_in(6) ? json_null() : random_word());
	if (one_in(2))
		json_object_set_new(map, "generation", random_word());
	if (one_in(16))
		json_object_set_new(map, "$patch", random_word());
	if (one_in(6))
		json_object_set_new(map, "n", json_null());
	return map;
}

static json_t *random_from(void)
{
	json_t *from;

	if (one_in(4))
		return NULL;
	from = json_pack("{s:s, s:o}", "kind", one_in(2) ? "DockerImage" : "ImageStreamTag", "name",
		random_word());
	if (one_in(3))
		json_object_set_new(from, "namespace", random_word());
	return from;
}

static json_t *random_integer(void)
{
	return one_in(2) ? NULL : json_integer(INT64_C(9007199254740992) + random_below(2));
}

/* Sets one member of a tag, of spec or of status, anew. */
static void vary_tag(json_t *tag)
{
	switch (random_below(6)) {
	case 0:
		put(tag, "annotations", random_map());
		break;
	case 1:
		put(tag, "from", random_from());
		break;
	case 2:
		put(tag, "reference", one_in(2) ? json_true() : NULL);
		break;
	case 3:
		put(tag, "importPolicy", random_map());
		break;
	case 4:
		put(tag, "unknown", random_integer());
		break;
	default:
		put(tag, "from", random_from());
		put(tag, "annotations", random_map());
	}
}

static json_t *random_list(void)
{
	json_t *list;

	if (one_in(4))
		return one_in(2) ? NULL : json_null();
	list = json_array();
	for (unsigned n = random_below(3); n > 0; n--)
		json_array_append_new(list, json_pack("{s:i}", "i", random_below(2)));
	return list;
}

static void vary_history(json_t *tag)
{
	if (one_in(2))
		put(tag, "items", random_list());
	else
		put(tag, one_in(2) ? "conditions" : "unknown", random_list());
}

static void vary_owner(json_t *owner)
{
	put(owner, "name", random_word());
}

/* Adds, removes, varies or moves an element of a list by key. */
static void vary_list(json_t *object, const char *member, const char *key, void (*vary)(json_t *))
{
	static const char *const names[] = {"a", "b/c", "", "d.e"};
	_cleanup_json_ json_t *name = json_string(names[random_below(ARRAY_SIZE(names))]);
	json_t *list = json_object_get(object, member), *element;
	size_t at;

	if (!json_is_array(list)) {
		list = json_array();
		json_object_set_new(object, member, list);
	}
	at = find_index(list, key, name);
	if (at < json_array_size(list) && one_in(3)) {
		json_array_remove(list, at);
		return;
	}
	if (at == json_array_size(list)) {
		element = json_object();
		json_object_set(element, key, name);
		json_array_insert_new(list, random_below((unsigned)at + 1), element);
		if (one_in(2))
			return;
	} else {
		element = json_array_get(list, at);
	}
	vary(element);
}

static void vary_finalizers(json_t *metadata)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < 3; i++)
		if (one_in(2))
			json_array_insert_new(list, 0, json_sprintf("f%u", i));
	put(metadata, "finalizers", list);
}

static json_t *member(json_t *object, const char *key)
{
	if (!json_is_object(json_object_get(object, key)))
		json_object_set_new(object, key, json_object());
	return json_object_get(object, key);
}

static void vary_metadata(json_t *metadata)
{
	switch (random_below(4)) {
	case 0:
		put(metadata, "labels", random_map());
		break;
	case 1:
		put(metadata, "annotations", random_map());
		break;
	case 2:
		vary_list(metadata, "ownerReferences", "uid", vary_owner);
		break;
	default:
		vary_finalizers(metadata);
	}
}

static void vary_spec(json_t *spec)
{
	switch (random_below(6)) {
	case 0:
		put(spec, "lookupPolicy", random_map());
		break;
	case 1:
		put(spec, "unknown", random_integer());
		break;
	default:
		vary_list(spec, "tags", "name", vary_tag);
	}
}

static void vary_status(json_t *status)
{
	vary_list(status, "tags", "tag", vary_history);
}

static void vary_whole(json_t *object)
{
	if (one_in(2))
		vary_metadata(member(object, "metadata"));
	else
		vary_spec(member(object, "spec"));
}

/* What only the server changes. */
static void vary_server(json_t *object)
{
	json_t *metadata = member(object, "metadata"), *tag;
	size_t i;

	json_object_set_new(metadata, "resourceVersion", json_sprintf("%u", random_below(100)));
	json_object_set_new(metadata, "generation", json_integer(random_below(9)));
	json_array_foreach(json_object_get(json_object_get(object, "spec"), "tags"), i, tag)
		json_object_set_new(
			tag, "generation", one_in(3) ? json_null() : json_integer(random_below(3)));
}

/*
 * The maps of strings of an object as Go decodes them: a null is an empty string there. Nothing
 * that the server sends has one.
 */
static void decode_strings(json_t *map, bool keep_nulls)
{
	const char *key;
	json_t *value;
	void *next;

	json_object_foreach_safe(map, next, key, value) {
		if (json_is_null(value))
			put(map, key, keep_nulls ? json_string("") : NULL);
	}
}

static void decode(json_t *object, bool keep_nulls)
{
	json_t *metadata = json_object_get(object, "metadata"), *tag;
	size_t i;

	decode_strings(json_object_get(metadata, "labels"), keep_nulls);
	decode_strings(json_object_get(metadata, "annotations"), keep_nulls);
	json_array_foreach(json_object_get(json_object_get(object, "spec"), "tags"), i, tag)
		decode_strings(json_object_get(tag, "annotations"), keep_nulls);
}

static json_t *random_object(void)
{
	json_t *object = json_pack("{s:s, s:{s:s, s:s, s:s}, s:{s:s}}", "kind", "ImageStream",
		"metadata", "name", "s", "uid", "u", "creationTimestamp", "t", "status",
		"dockerImageRepository", "r");

	for (unsigned n = random_below(8); n > 0; n--)
		vary_whole(object);
	for (unsigned n = random_below(5); n > 0; n--)
		vary_status(member(object, "status"));
	vary_server(object);
	decode(object, false);
	return object;
}

static void vary_object(json_t *object)
{
	for (unsigned n = random_below(6); n > 0; n--)
		if (one_in(3))
			vary_status(member(object, "status"));
		else
			vary_whole(object);
	vary_server(object);
	decode(object, false);
}

/* The user's edits of what the file shows. */
static void vary_value(const struct patch_file *f, json_t *value)
{
	static void (*const vary[])(json_t *) = {
		vary_whole, vary_metadata, vary_spec, vary_status, vary_tag, vary_history};

	for (unsigned n = random_below(6); n > 0; n--)
		vary[f->view](value);
}

/* Writes "generation": 0 into one of the value's tags, now and then. */
static void wish(const struct patch_file *f, json_t *value)
{
	json_t *spec = f->view == PATCH_IMAGESTREAM ? json_object_get(value, "spec") : value;
	json_t *list = json_object_get(spec, "tags");
	json_t *tag =
		f->view == PATCH_TAG_SPEC
			? value
			: json_array_get(list, random_below((unsigned)json_array_size(list) + 1));

	if (f->view != PATCH_STATUS && tag && one_in(6))
		json_object_set_new(tag, "generation", json_integer(0));
}

/* ---- a flat model of a value: its leaves by path ---- */

static void flatten(json_t *out, const char *path, const json_t *value);

static void flatten_leaf(json_t *out, const char *path, const char *key, const json_t *value)
{
	_cleanup_free_ char *leaf = xasprintf("%s.%s", path, key);

	if (value && !json_is_null(value) && !(json_is_array(value) && json_array_size(value) == 0))
		json_object_set(out, leaf, (json_t *)value);
}

static void flatten_reference(json_t *out, const char *path, const json_t *tag)
{
	_cleanup_json_ json_t *both = json_object();

	if (json_object_get(tag, "from"))
		json_object_set(both, "from", json_object_get(tag, "from"));
	if (json_object_get(tag, "reference"))
		json_object_set(both, "reference", json_object_get(tag, "reference"));
	if (json_object_size(both) > 0)
		flatten_leaf(out, path, "from", both);
}

/* "\1there" stands for the element itself; it sorts out who added and who deleted it. */
static void flatten_elements(json_t *out, const char *path, const json_t *list, const char *key)
{
	const json_t *element;
	size_t i;

	json_array_foreach(list, i, element) {
		const char *name = json_str(element, key);
		_cleanup_free_ char *at = xasprintf("%s\1%s\1", path, name ? name : "");
		_cleanup_free_ char *there = xasprintf("%sthere", at);

		json_object_set_new(out, there, json_true());
		flatten(out, at, element);
	}
}

static const char *element_key(const char *path, const char *key)
{
	if (streq(key, "ownerReferences"))
		return "uid";
	if (!streq(key, "tags"))
		return NULL;
	return strstr(path, "status") ? "tag" : "name";
}

static void flatten_member(json_t *out, const char *path, const char *key, const json_t *value)
{
	_cleanup_free_ char *at = xasprintf("%s.%s", path, key);
	bool in_tag = strstr(path, "tags\1") && path[strlen(path) - 1] == '\1';
	const char *by = element_key(path, key);
	const json_t *string;
	size_t i;

	if (in_tag && (streq(key, "from") || streq(key, "reference")))
		return;
	if (in_tag && streq(key, "generation")) {
		if (json_is_integer(value) && json_integer_value(value) == 0)
			json_object_set_new(out, at, json_true());
	} else if (streq(at, ".metadata.generation") || streq(at, ".metadata.resourceVersion")) {
		return;
	} else if (streq(key, "finalizers")) {
		json_array_foreach(value, i, string)
			flatten_leaf(out, at, json_string_value(string), string);
	} else if (by) {
		flatten_elements(out, at, value, by);
	} else if (json_is_object(value)) {
		flatten(out, at, value);
	} else {
		flatten_leaf(out, path, key, value);
	}
}

static void flatten(json_t *out, const char *path, const json_t *value)
{
	const char *key;
	json_t *child;

	if (path[0] && strstr(path, "tags\1") && path[strlen(path) - 1] == '\1')
		flatten_reference(out, path, value);
	json_object_foreach((json_t *)value, key, child)
		flatten_member(out, path, key, child);
}

/* The leaves of a file's value, with the paths that they have in the object. */
static json_t *flat(const struct patch_file *f, const json_t *value)
{
	static const char *const roots[] = {
		"", ".metadata", ".spec", ".status", ".spec.tags", ".status.tags"};
	json_t *out = json_object();

	if (f->view < PATCH_TAG_SPEC) {
		flatten(out, roots[f->view], value);
	} else if (value) {
		_cleanup_json_ json_t *list = json_array(), *element = json_copy((json_t *)value);

		json_object_set_new(element, f->view == PATCH_TAG_SPEC ? "name" : "tag",
			json_stringn(f->tag, f->tag_len));
		json_array_append(list, element);
		flatten_elements(
			out, roots[f->view], list, f->view == PATCH_TAG_SPEC ? "name" : "tag");
	}
	return out;
}

static bool same(const json_t *a, const json_t *b)
{
	return a == b || json_equal(a, b);
}

/* Whether any leaf below the element that `there` stands for differs. */
static bool element_differs(const json_t *a, const json_t *b, const char *there)
{
	size_t n = strlen(there) - strlen("there");
	const json_t *sides[] = {a, b};
	const char *key;
	json_t *value;

	for (size_t i = 0; i < 2; i++)
		json_object_foreach((json_t *)sides[i], key, value) {
			if (strncmp(key, there, n) == 0 &&
				!same(value, json_object_get(sides[1 - i], key)))
				return true;
		}
	return false;
}

struct flat_sides {
	json_t *base, *theirs, *mine, *keys;
};

static bool leaf_conflicts(const struct flat_sides *s, const char *key)
{
	const json_t *b = json_object_get(s->base, key), *t = json_object_get(s->theirs, key);
	const json_t *m = json_object_get(s->mine, key);

	if (strstr(key, "\1there")) {
		if (b && !t && m)
			return element_differs(s->base, s->mine, key);
		if (b && t && !m)
			return element_differs(s->base, s->theirs, key);
		if (!b && t && m)
			return element_differs(s->theirs, s->mine, key);
	}
	return !same(b, t) && !same(b, m) && !same(t, m);
}

static bool model_conflicts(const struct flat_sides *s)
{
	const char *key;
	json_t *value;

	json_object_foreach(s->keys, key, value) {
		if (leaf_conflicts(s, key))
			return true;
	}
	return false;
}

/* All of mine's edits, all of theirs, and nothing that neither wrote. */
static void check_edits(const struct flat_sides *s, const json_t *leaves)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)leaves, key, value) {
		assert_non_null(json_object_get(s->keys, key));
	}
	json_object_foreach(s->keys, key, value) {
		const json_t *b = json_object_get(s->base, key), *is = json_object_get(leaves, key);
		const json_t *t = json_object_get(s->theirs, key);
		const json_t *m = json_object_get(s->mine, key);

		if (!same(b, m))
			assert_true(same(is, m));
		if (!same(b, t))
			assert_true(same(is, t));
		if (same(b, m) && same(b, t))
			assert_true(same(is, b));
	}
}

static struct counts {
	unsigned conflicts, clean, unchanged, both, wishes, dollars, forms[3], views[6];
} counts;

struct save {
	struct patch_file file;
	json_t *old, *current; /* whole objects */
	json_t *base, *theirs, *mine;
};

static void save_release(struct save *s)
{
	json_decref(s->old);
	json_decref(s->current);
	json_decref(s->base);
	json_decref(s->theirs);
	json_decref(s->mine);
}

static void random_save(struct save *s)
{
	static const char *const names[] = {"a", "b/c", "", "d.e"};
	const char *name = names[random_below(ARRAY_SIZE(names))];
	_cleanup_json_ json_t *shown = NULL;

	s->file = (struct patch_file){(enum patch_view)random_below(6), name, strlen(name)};
	s->old = random_object();
	s->current = json_deep_copy(s->old);
	if (!one_in(8))
		vary_object(s->current);
	shown = patch_value(&s->file, s->old);
	s->base = json_deep_copy(shown);
	s->theirs = patch_value(&s->file, s->current);
	s->mine = shown ? json_deep_copy(shown) : json_object();
	if (one_in(8) && s->theirs) {
		json_decref(s->mine);
		s->mine = json_deep_copy(s->theirs); /* so that both did the same */
		if (s->file.view == PATCH_IMAGESTREAM)
			json_object_del(s->mine, "status");
	}
	vary_value(&s->file, s->mine);
	wish(&s->file, s->mine);
}

static bool is_wish(const char *key)
{
	return strstr(key, "\1.generation") != NULL;
}

/* imagestream.json shows generations: a 0 is the user's where the base has another. */
static void drop_server_zeros(json_t *base, json_t *theirs, json_t *mine)
{
	const char *key;
	json_t *value;
	void *next;

	json_object_foreach_safe(base, next, key, value) {
		if (is_wish(key)) {
			json_object_del(mine, key);
			json_object_del(base, key);
		}
	}
	json_object_foreach_safe(theirs, next, key, value) {
		_cleanup_free_ char *there = NULL;

		if (!is_wish(key))
			continue;
		there = xasprintf("%.*sthere", (int)(strlen(key) - strlen(".generation")), key);
		if (!json_object_get(base, there))
			json_object_del(mine, key); /* both added it like this */
		json_object_del(theirs, key);
	}
}

/* The user's text with the status that he left out. */
static json_t *with_status(const struct save *s)
{
	json_t *mine = json_copy(s->mine);

	if (s->file.view == PATCH_IMAGESTREAM)
		put(mine, "status", json_incref(json_object_get(s->base, "status")));
	return mine;
}

static void flat_sides_init(struct flat_sides *sides, const struct save *s)
{
	_cleanup_json_ json_t *mine = with_status(s);

	*sides = (struct flat_sides){flat(&s->file, s->base), flat(&s->file, s->theirs),
		flat(&s->file, mine), json_object()};
	if (s->file.view == PATCH_IMAGESTREAM)
		drop_server_zeros(sides->base, sides->theirs, sides->mine);
	json_object_update(sides->keys, sides->base);
	json_object_update(sides->keys, sides->theirs);
	json_object_update(sides->keys, sides->mine);
}

static void flat_sides_release(struct flat_sides *sides)
{
	json_decref(sides->base);
	json_decref(sides->theirs);
	json_decref(sides->mine);
	json_decref(sides->keys);
}

static bool has_dollar(const json_t *v)
{
	const char *key;
	json_t *value;
	size_t i;

	json_array_foreach(v, i, value) {
		if (has_dollar(value))
			return true;
	}
	json_object_foreach((json_t *)v, key, value) {
		if (key[0] == '$' || has_dollar(value))
			return true;
	}
	return false;
}

static json_t *list_of(const json_t *object, const char *root)
{
	return json_object_get(json_object_get(object, root), "tags");
}

static const json_t *find_tag(const json_t *object, const json_t *name)
{
	const json_t *list = list_of(object, "spec");

	return json_array_get(list, find_index(list, "name", name));
}

static bool counted(const json_t *generation)
{
	return json_is_integer(generation) && json_integer_value(generation) != 0;
}

static bool member_differs(const json_t *a, const json_t *b, const char *key)
{
	return !same(json_object_get(a, key), json_object_get(b, key));
}

/* Whether an update from `was` to what the client sent gives the tag a new generation (2.4). */
static bool server_imports(const json_t *was, const json_t *sent)
{
	const json_t *now = json_object_get(sent, "generation");
	const json_t *old_from = json_object_get(was, "from"),
		     *from = json_object_get(sent, "from");

	if (!was)
		return true;
	if (json_is_integer(now) && !counted(now) && counted(json_object_get(was, "generation")))
		return true;
	return from && (member_differs(old_from, from, "namespace") ||
			       member_differs(old_from, from, "name") ||
			       member_differs(was, sent, "reference"));
}

/* No tag is imported but a new one, one with another reference, and where the user asked for it. */
static void check_imports(const struct save *s, const json_t *merged, const json_t *result)
{
	_cleanup_json_ json_t *wanted = flat(&s->file, merged), *theirs = flat(&s->file, s->theirs);
	const json_t *tag;
	size_t i;

	json_array_foreach(list_of(result, "spec"), i, tag) {
		const json_t *name = json_object_get(tag, "name");
		const json_t *was = find_tag(s->current, name);
		_cleanup_free_ char *path = xasprintf(".spec.tags\1%s\1", json_string_value(name));
		_cleanup_free_ char *from = xasprintf("%s.from", path);
		_cleanup_free_ char *zero = xasprintf("%s.generation", path);
		bool wished = json_object_get(wanted, zero) != NULL;

		if (server_imports(was, tag))
			assert_true(!was || wished || member_differs(theirs, wanted, from));
		else
			assert_false(wished && counted(json_object_get(was, "generation")));
	}
}

/* All that the file doesn't show is as it was. */
static void check_rest(const struct save *s, const json_t *result)
{
	static const char *const others[6][3] = {
		{"status"}, {"spec", "status"}, {"status"}, {"spec"}, {"status"}, {"spec"}};
	const char *const *other = others[s->file.view];

	for (size_t i = 0; other[i]; i++)
		assert_true(same(
			json_object_get(s->current, other[i]), json_object_get(result, other[i])));
	for (size_t i = 0; i < 4; i++) {
		static const char *const names[] = {"a", "b/c", "", "d.e"};
		struct patch_file f = {s->file.view, names[i], strlen(names[i])};
		_cleanup_json_ json_t *was = NULL, *is = NULL;

		if (s->file.view < PATCH_TAG_SPEC || streq(names[i], s->file.tag))
			continue;
		was = patch_value(&f, s->current);
		is = patch_value(&f, result);
		assert_true(same(was, is));
	}
	assert_true(
		same(json_object_get(json_object_get(s->current, "metadata"), "resourceVersion"),
			json_object_get(json_object_get(result, "metadata"), "resourceVersion")));
}

static json_t *without_wishes(json_t *leaves)
{
	const char *key;
	json_t *value;
	void *next;

	json_object_foreach_safe(leaves, next, key, value) {
		if (is_wish(key))
			json_object_del(leaves, key);
	}
	return leaves;
}

static void check_form(const struct save *s, enum patch_form form, const json_t *merged)
{
	_cleanup_json_ json_t *body = patch_body(&s->file, form, s->current, merged);
	_cleanup_json_ json_t *result = NULL, *shown = NULL, *wanted = NULL, *got = NULL;

	counts.forms[form]++;
	result = apply(form, s->current, body);
	decode(result, true);
	check_imports(s, merged, result);
	check_rest(s, result);
	shown = patch_value(&s->file, result);
	wanted = without_wishes(flat(&s->file, merged));
	got = without_wishes(flat(&s->file, shown));
	assert_true(json_equal(wanted, got));
}

static void check_forms(const struct save *s, const json_t *merged)
{
	_cleanup_json_ json_t *body = NULL, *again = NULL;
	enum patch_form first = patch_form(&s->file, s->current, merged, &body);
	bool dollar = has_dollar(merged) || has_dollar(s->theirs);

	again = patch_body(&s->file, first, s->current, merged);
	assert_true(first == PATCH_STRATEGIC ? json_equal(body, again) : !body);
	check_form(s, first, merged);
	if (s->file.view == PATCH_IMAGESTREAM || s->file.view == PATCH_METADATA)
		return;
	if (first == PATCH_MERGE) {
		assert_true(dollar);
		counts.dollars++;
	} else {
		check_form(s, PATCH_MERGE, merged);
	}
	if (s->file.view == PATCH_STATUS || s->file.view == PATCH_TAG_STATUS)
		check_form(s, PATCH_PUT, merged);
}

static bool wishes(const json_t *leaves)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)leaves, key, value) {
		if (is_wish(key))
			return true;
	}
	return false;
}

/* In imagestream.json status and a shown generation are always theirs. */
static bool agrees(const struct save *s, const json_t *a, const json_t *b)
{
	return s->file.view == PATCH_IMAGESTREAM ? patch_is_background(a, b)
						 : patch_equal(&s->file, a, b);
}

/* The other side's save on top of ours: the same outcome, but a 0 of theirs would be a wish. */
static void check_mirrored(const struct save *s, int r, const json_t *merged, size_t n_conflicts)
{
	_cleanup_json_ json_t *other = NULL, *conflicts = NULL;
	_cleanup_json_ json_t *theirs = flat(&s->file, s->theirs), *mine = flat(&s->file, s->mine);
	int mirrored;

	if (!s->theirs || wishes(theirs) || wishes(mine))
		return;
	mirrored = patch_merge3(&s->file, s->base, s->mine, s->theirs, &other, &conflicts);
	assert_int_equal(r, mirrored);
	if (r == 0)
		assert_true(agrees(s, merged, other));
	else
		assert_int_equal(n_conflicts, json_array_size(conflicts));
}

static void check_identities(const struct save *s)
{
	_cleanup_json_ json_t *a = NULL, *b = NULL, *c = NULL, *conflicts = NULL;

	assert_int_equal(patch_merge3(&s->file, s->base, s->base, s->mine, &a, &conflicts), 0);
	assert_true(agrees(s, a, s->mine));
	assert_int_equal(patch_merge3(&s->file, s->base, s->theirs, s->base, &b, &conflicts), 0);
	assert_true(same(b, s->theirs));
	assert_int_equal(patch_merge3(&s->file, s->base, s->mine, s->mine, &c, &conflicts), 0);
	assert_true(agrees(s, c, s->mine));
}

static void check_save(const struct save *s)
{
	_cleanup_json_ json_t *merged = NULL, *conflicts = NULL, *leaves = NULL, *theirs = NULL;
	_cleanup_(flat_sides_release) struct flat_sides sides;
	_cleanup_free_ char *error = NULL;
	int r = patch_merge3(&s->file, s->base, s->theirs, s->mine, &merged, &conflicts);
	const char *key;
	json_t *value;

	flat_sides_init(&sides, s);
	assert_int_equal(patch_check(&s->file, s->base, s->mine, &error), 0);
	counts.views[s->file.view]++;
	check_identities(s);
	check_mirrored(s, r, merged, json_array_size(conflicts));
	assert_int_equal(r, model_conflicts(&sides) ? -ESTALE : 0);
	if (r < 0) {
		counts.conflicts++;
		return;
	}
	leaves = flat(&s->file, merged);
	theirs = flat(&s->file, s->theirs);
	if (s->file.view == PATCH_IMAGESTREAM)
		json_object_foreach(theirs, key, value) {
			if (is_wish(key) && !json_object_get(sides.mine, key))
				json_object_del(leaves, key);
		}
	check_edits(&sides, leaves);
	counts.clean++;
	counts.unchanged += patch_equal(&s->file, s->theirs, merged);
	counts.both += !json_equal(leaves, sides.theirs) && !json_equal(leaves, sides.mine);
	counts.wishes += wishes(leaves);
	check_forms(s, merged);
}

static void print_save(const struct save *s, unsigned number)
{
	_cleanup_free_ char *current = show(s->current), *base = show(s->base);
	_cleanup_free_ char *theirs = show(s->theirs), *mine = show(s->mine);

	fprintf(stderr, "seed %u, view %d, tag \"%s\"\ncurrent %s\nbase %s\ntheirs %s\nmine %s\n",
		number, s->file.view, s->file.tag, current, base, theirs, mine);
}

static struct save failing;
static unsigned failing_seed;

static int print_failing(void **state)
{
	if (failing.old)
		print_save(&failing, failing_seed);
	return 0;
}

/* TEST_PATCH_SEED=N runs that one alone. */
static void generated_saves(void **state)
{
	const char *one = getenv("TEST_PATCH_SEED");
	unsigned first = one ? (unsigned)strtoul(one, NULL, 10) : 0;

	for (unsigned seed = first; seed < (one ? first + 1 : CASES); seed++) {
		random_state = seed;
		failing_seed = seed;
		random_save(&failing);
		check_save(&failing);
		save_release(&failing);
		failing = (struct save){0};
	}
	if (one)
		return;
	print_message("conflicts %u, clean %u (unchanged %u, of both sides %u, asking for an "
		      "import %u), dollar keys %u, PUT %u, merge %u, strategic %u\n",
		counts.conflicts, counts.clean, counts.unchanged, counts.both, counts.wishes,
		counts.dollars, counts.forms[PATCH_PUT], counts.forms[PATCH_MERGE],
		counts.forms[PATCH_STRATEGIC]);
	assert_true(counts.conflicts > CASES / 20 && counts.clean > CASES / 2);
	assert_true(counts.unchanged > CASES / 20 && counts.both > CASES / 20);
	assert_true(counts.wishes > CASES / 100 && counts.dollars > CASES / 200);
	for (size_t i = 0; i < ARRAY_SIZE(counts.forms); i++)
		assert_true(counts.forms[i] > CASES / 10);
	for (size_t i = 0; i < ARRAY_SIZE(counts.views); i++)
		assert_true(counts.views[i] > CASES / 10);
}

/* ---- copies ---- */

#define COPIED_FILES 6

static const struct patch_file copied_tag = {PATCH_TAG_SPEC, "a", 1};
static const struct patch_file pushed_tag = {PATCH_TAG_SPEC, "c", 1};

/* The file's value in the object from now on. Takes the reference. */
static void store(const struct patch_file *f, json_t *object, json_t *value)
{
	json_t *spec = json_object_get(object, "spec"), *list, *element;
	size_t i;

	switch (f->view) {
	case PATCH_IMAGESTREAM:
		json_object_clear(object);
		json_object_update(object, value);
		json_decref(value);
		return;
	case PATCH_METADATA:
		put(object, "metadata", value);
		return;
	case PATCH_SPEC:
		put(object, "spec", value);
		return;
	default:
		break;
	}
	list = json_deep_copy(json_object_get(spec, "tags"));
	if (!list)
		list = json_array();
	json_array_foreach(list, i, element)
		if (streq(json_string_value(json_object_get(element, "name")), f->tag)) {
			json_array_remove(list, i);
			break;
		}
	json_array_append_new(list, value);
	spec = json_copy(spec);
	put(spec, "tags", list);
	put(object, "spec", spec);
}

struct copied {
	const struct patch_file *file;
	const char *text, *from; /* a file, or the `from` that a line comes to */
	bool image;		 /* which only counts where there is no other */
};

static const struct copied copied_files[COPIED_FILES] = {
	{&whole_file,
		"{'kind': 'ImageStream', 'metadata': {'name': 'web', 'uid': 'old', "
		"'resourceVersion': '9',"
		" 'labels': {'app': 'shop'}, 'annotations': {'owner': 'alice',"
		" 'openshift.io/image.dockerRepositoryCheck': 'then'}, 'finalizers': ['x/y']},"
		" 'spec': {'lookupPolicy': {'local': true}, 'tags': [{'name': 'a', 'annotations': "
		"{'n': '1'},"
		" 'from': {'kind': 'DockerImage', 'name': 'q/a:1'}, 'reference': true, "
		"'generation': 7},"
		" {'name': 'b'}]}, 'status': {'tags': [{'tag': 'c', 'items': [{'image': 'i'}]}]}}",
		NULL, false},
	{&metadata_file,
		"{'name': 'web', 'uid': 'old', 'labels': {'app': 'shop'}, 'annotations': {'owner': "
		"'alice',"
		" 'openshift.io/image.dockerRepositoryCheck': 'then'}, 'finalizers': ['x/y']}",
		NULL, false},
	{&spec_file,
		"{'lookupPolicy': {'local': true}, 'tags': [{'name': 'a', 'annotations': {'n': "
		"'1'},"
		" 'from': {'kind': 'DockerImage', 'name': 'q/a:1'}, 'reference': true}, {'name': "
		"'b'}]}",
		NULL, false},
	{&copied_tag,
		"{'name': 'a', 'annotations': {'n': '1'}, 'from': {'kind': 'DockerImage', 'name': "
		"'q/a:1'},"
		" 'reference': true}",
		NULL, false},
	{&copied_tag, NULL, "{'kind': 'DockerImage', 'name': 'q/a@sha256:1'}", true},
	{&pushed_tag, NULL, "{'kind': 'ImageStreamImage', 'name': 'web@sha256:2'}", true},
};

/* As the program saves a file of a copy. */
static void copy_in(json_t *object, const struct copied *c)
{
	_cleanup_json_ json_t *theirs = patch_value(c->file, object), *mine = parse(c->text),
			      *from = parse(c->from);

	if (c->text) {
		store(c->file, object, patch_copy(c->file, theirs, mine));
		return;
	}
	if (c->image && json_object_get(theirs, "from"))
		return;
	mine = theirs ? json_copy(theirs) : json_pack("{s:s}", "name", c->file->tag);
	json_object_set(mine, "from", from);
	store(c->file, object, json_incref(mine));
}

#define COPIED                                                                                     \
	"{'kind': 'ImageStream', 'metadata': {'name': 'new', 'uid': 'now', 'resourceVersion': "    \
	"'1',"                                                                                     \
	" 'labels': {'app': 'shop'}, 'annotations': {'owner': 'alice'}},"                          \
	" 'spec': {'lookupPolicy': {'local': true}, 'tags': [{'name': 'a', 'annotations': {'n': "  \
	"'1'},"                                                                                    \
	" 'from': {'kind': 'DockerImage', 'name': 'q/a:1'}, 'reference': true},"                   \
	" {'name': 'b'}, {'name': 'c', 'from': {'kind': 'ImageStreamImage', 'name': "              \
	"'web@sha256:2'}}]}, 'status': {'dockerImageRepository': 'r/new'}}"

static void copy_in_order(const int *order)
{
	_cleanup_json_ json_t *object = parse("{'kind': 'ImageStream', 'metadata': {'name': 'new', "
					      "'uid': 'now', 'resourceVersion': "
					      "'1'}, 'spec': {'lookupPolicy': {'local': false}}, "
					      "'status': {'dockerImageRepository': "
					      "'r/new'}}"),
			      *wanted = parse(COPIED);
	_cleanup_free_ char *text = NULL;

	for (int i = 0; i < COPIED_FILES; i++)
		copy_in(object, &copied_files[order[i]]);
	text = show(object);
	if (!patch_equal(&whole_file, object, wanted))
		fail_msg("%d%d%d%d%d%d: %s", order[0], order[1], order[2], order[3], order[4],
			order[5], text);
}

/* All 720 orders, in Heap's way. */
static int copy_in_all_orders(int *order, int n)
{
	int count = 0;

	if (n == 1) {
		copy_in_order(order);
		return 1;
	}
	for (int i = 0; i < n; i++) {
		int with = n % 2 ? 0 : i, swap;

		count += copy_in_all_orders(order, n - 1);
		swap = order[with];
		order[with] = order[n - 1];
		order[n - 1] = swap;
	}
	return count;
}

static void copies_have_no_order(void **state)
{
	int order[COPIED_FILES];

	for (int i = 0; i < COPIED_FILES; i++)
		order[i] = i;
	assert_int_equal(copy_in_all_orders(order, COPIED_FILES), 720);
}

static void copies(
	const struct patch_file *f, const char *theirs, const char *mine, const char *expected)
{
	_cleanup_json_ json_t *t = parse(theirs), *m = parse(mine), *got = patch_copy(f, t, m);

	assert_json(got, expected);
}

static void copies_add_and_replace(void **state)
{
	copies(&metadata_file, "{'name': 'new', 'uid': 'u', 'labels': {'a': '1', 'b': '2'}}",
		"{'name': 'web', 'uid': 'old', 'labels': {'a': '3', 'c': '4'}}",
		"{'name': 'new', 'uid': 'u', 'labels': {'a': '3', 'b': '2', 'c': '4'}}");
	copies(&metadata_file, "{'name': 'new', 'labels': {'a': '1'}}", "{'labels': null}",
		"{'name': 'new', 'labels': {'a': '1'}}");
	copies(&spec_file, "{'tags': [{'name': 'x'}]}", "{'tags': []}",
		"{'tags': [{'name': 'x'}]}");
	copies(&spec_file, "{}", "{'tags': [{'name': 'x'}, {'name': 'x'}]}",
		"{'tags': [{'name': 'x'}, {'name': 'x'}]}"); /* for patch_check to refuse */
	copies(&copied_tag, NULL, "{'name': 'other', 'from': {'name': 'q'}}",
		"{'name': 'a', 'from': {'name': 'q'}}");
}

/* A text without a `from` leaves the one that is there, whatever else it says. */
static void copies_keep_what_a_tag_follows(void **state)
{
	const char *theirs = "{'name': 'a', 'from': {'kind': 'DockerImage', 'name': 'q/a:1'}}";

	copies(&copied_tag, theirs, "{'name': 'a', 'annotations': {'n': '1'}}",
		"{'name': 'a', 'annotations': {'n': '1'}, "
		"'from': {'kind': 'DockerImage', 'name': 'q/a:1'}}");
	copies(&copied_tag, theirs, "{'name': 'a', 'from': null, 'reference': false}",
		"{'name': 'a', 'from': {'kind': 'DockerImage', 'name': 'q/a:1'}, 'reference': "
		"false}");
	copies(&copied_tag, "{'name': 'a', 'from': {'name': 'q/a:1', 'x': 1}, 'reference': true}",
		"{'name': 'a', 'from': {'name': 'q/b'}}", "{'name': 'a', 'from': {'name': 'q/b'}}");
}

static void histories_of_the_same_images(void **state)
{
	_cleanup_json_ json_t *theirs = parse("{'tags': [{'tag': 'a', 'items': [{'image': '1', "
					      "'created': 'now'}]}, {'tag': 'b', 'items': "
					      "[{'image': '2'}]}]}"),
			      *mine = parse("{'tags': [{'tag': 'a', 'items': [{'image': '1', "
					    "'created': 'then'}]}, {'tag': 'b', 'items': "
					    "[{'image': '3'}]}, 7]}");

	patch_settle_history(&status_file, theirs, mine);
	assert_json(mine, "{'tags': [{'tag': 'a', 'items': [{'image': '1', 'created': 'now'}]}, "
			  "{'tag': 'b', 'items': [{'image': '3'}]}, 7]}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(value_of_each_file),
		cmocka_unit_test(value_of_what_is_not_there),
		cmocka_unit_test(tag_names_may_hold_anything),
		cmocka_unit_test(null_absent_and_empty_are_equal),
		cmocka_unit_test(server_counted_fields_are_not_compared),
		cmocka_unit_test(their_names_elsewhere_are_compared),
		cmocka_unit_test(a_written_generation_of_zero_is_an_edit),
		cmocka_unit_test(keyed_lists_have_no_order),
		cmocka_unit_test(copies_have_no_order),
		cmocka_unit_test(copies_add_and_replace),
		cmocka_unit_test(copies_keep_what_a_tag_follows),
		cmocka_unit_test(histories_of_the_same_images),
		cmocka_unit_test(finalizers_are_a_set),
		cmocka_unit_test(other_lists_are_one_value),
		cmocka_unit_test(integers_are_exact),
		cmocka_unit_test(a_tag_may_leave_its_name_out),
		cmocka_unit_test(maps_merge_by_key),
		cmocka_unit_test(a_map_emptied_by_one_side_takes_keys_of_the_other),
		cmocka_unit_test(the_same_change_twice_is_no_conflict),
		cmocka_unit_test(both_add_one_key_differently),
		cmocka_unit_test(tags_merge_by_name),
		cmocka_unit_test(status_tags_merge_by_tag),
		cmocka_unit_test(owners_merge_by_uid),
		cmocka_unit_test(finalizers_never_conflict),
		cmocka_unit_test(from_with_reference_is_one_value),
		cmocka_unit_test(items_and_conditions_are_one_value_each),
		cmocka_unit_test(editing_what_the_other_side_deleted),
		cmocka_unit_test(a_change_of_type_is_one_value),
		cmocka_unit_test(a_new_import_beside_another_change),
		cmocka_unit_test(only_a_generation_of_zero_is_taken),
		cmocka_unit_test(what_a_request_cannot_change_stays_theirs),
		cmocka_unit_test(unknown_fields_survive),
		cmocka_unit_test(nulls_that_the_user_wrote_are_dropped),
		cmocka_unit_test(another_objects_text),
		cmocka_unit_test(conflicts_of_several_places),
		cmocka_unit_test(conflict_text_for_a_person),
		cmocka_unit_test(conflict_text_is_cut_between_characters),
		cmocka_unit_test(text_that_is_no_object),
		cmocka_unit_test(fixed_fields_of_imagestream_json),
		cmocka_unit_test(another_uid_is_another_object),
		cmocka_unit_test(fixed_fields_of_metadata_json),
		cmocka_unit_test(fixed_fields_of_status_json),
		cmocka_unit_test(another_name_in_a_tag),
		cmocka_unit_test(two_tags_of_one_name),
		cmocka_unit_test(a_tag_without_a_name),
		cmocka_unit_test(a_strategic_patch_holds_what_changed),
		cmocka_unit_test(from_is_replaced_and_never_merged_into),
		cmocka_unit_test(no_directive_inside_what_is_new),
		cmocka_unit_test(removing_every_tag_deletes_each),
		cmocka_unit_test(a_dollar_key_needs_a_merge_patch),
		cmocka_unit_test(the_form_of_each_file),
		cmocka_unit_test(a_merge_patch_has_every_tag_with_its_generation),
		cmocka_unit_test(a_merge_patch_of_spec_leaves_unchanged_tags_out),
		cmocka_unit_test(asking_for_an_import),
		cmocka_unit_test(metadata_is_a_merge_patch_of_four_fields),
		cmocka_unit_test(status_in_each_form),
		cmocka_unit_test(a_status_put_replaces_status_tags_alone),
		cmocka_unit_test(a_put_is_the_current_object_with_the_edits),
		cmocka_unit_test(adding_and_removing_one_tag),
		cmocka_unit_test(background_changes),
		cmocka_unit_test(many_tags),
		cmocka_unit_test(models_do_what_the_transcripts_show),
		cmocka_unit_test(a_tag_that_they_deleted_is_not_resurrected),
		cmocka_unit_test(a_tag_that_they_added_is_not_removed),
		cmocka_unit_test(from_of_another_kind_keeps_nothing_of_the_old),
		cmocka_unit_test(removing_a_tag_from_spec_keeps_history),
		cmocka_unit_test(a_write_of_one_history_keeps_the_rest),
		cmocka_unit_test(unknown_fields_and_long_integers_survive_every_form),
		cmocka_unit_test(a_null_label_is_no_label),
		cmocka_unit_test(only_what_the_user_asked_for_is_imported),
		cmocka_unit_test(deep_values),
		cmocka_unit_test_teardown(generated_saves, print_failing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
