"""Server-side apply: who owns which tag, conflicts, and what it refuses."""

import json

import pytest

import copying

pytestmark = pytest.mark.xdist_group("apply")  # one server, which each test leaves in some state

GROUP = "/apis/image.openshift.io/v1/namespaces/team/"
STREAMS = GROUP + "imagestreams"
APPLY = "application/apply-patch+yaml"
USING = " using image.openshift.io/v1"


@pytest.fixture(scope="module")
def server(start_server):
    return start_server("--project-delay", "0.1")


@pytest.fixture(autouse=True)
def spaces(server):
    with copying.spaces(server):
        yield


def image(name):
    return {"kind": "DockerImage", "name": "a.test/%s:1" % name}


def tags(**images):
    """spec.tags of names and images."""
    return [{"name": name, "from": image(one)} for name, one in images.items()]


def text(name="s", meta=None, **spec):
    value = {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
             "metadata": {"name": name, **(meta or {})}}
    return {**value, "spec": spec} if spec else value


def apply(server, value, manager="m", path="imagestreams/s", query="", user="admin"):
    body = value if isinstance(value, str) else json.dumps(value)
    status, _, data = server.exchange(
        "PATCH", "%s%s?fieldManager=%s%s" % (GROUP, path, manager, query), body,
        server.headers(user, Content_Type=APPLY))
    return status, json.loads(data)


def applied(server, manager="m", query="", **images):
    return apply(server, text(tags=tags(**images)), manager, query=query)


def get(server, name="s"):
    status, obj = server.call("GET", STREAMS + "/" + name)
    assert status == 200, obj
    return obj


def froms(obj):
    return {tag["name"]: tag["from"]["name"][7:-2] for tag in obj["spec"].get("tags", ())}


def owned(obj, manager="m", tag="a"):
    """What a manager owns of a tag, or None."""
    for entry in obj["metadata"].get("managedFields", ()):
        if entry["manager"] == manager:
            return entry["fieldsV1"].get("f:spec", {}).get("f:tags", {}).get(
                'k:{"name":"%s"}' % tag)
    return None


WHOLE = {".": {}, "f:from": {}, "f:name": {}}


# E1: ownership.

def test_a_new_name(server):
    status, obj = apply(server, text(tags=tags(a="one")), user="developer")
    assert status == 201 and obj["metadata"]["generation"] == 1 and obj == get(server)
    assert owned(obj) == WHOLE


def test_the_same_again(server):
    server.control("imports", {"on": True, "delay": 0})
    stream = server.watch(STREAMS + "?watch=true")
    assert applied(server, a="one")[0] == 201
    assert [stream.event()["type"] for _ in "12"] == ["ADDED", "MODIFIED"]  # the controller
    server.control("imports", {"on": False})
    imported = get(server)
    # The controller's write left no owner, so there is no conflict.
    assert applied(server, a="one") == (200, imported)
    assert server.call("PATCH", STREAMS + "/s", {"metadata": {"labels": {"q": "1"}}},
                       Content_Type="application/merge-patch+json")[0] == 200
    assert "q" in stream.event()["object"]["metadata"]["labels"]  # nothing came before it
    stream.close()


def test_two_own_the_same(server):
    applied(server, a="one")
    status, obj = applied(server, "other", a="one")
    assert status == 200 and owned(obj) == owned(obj, "other") == WHOLE
    assert froms(applied(server, b="two")[1]) == {"a": "one", "b": "two"}
    assert froms(applied(server, "other", b="two")[1]) == {"b": "two"}


def test_own_tags_that_are_left_out_go(server):
    applied(server, a="one", b="two")
    applied(server, "other", c="three")
    status, obj = applied(server, a="one")
    assert status == 200 and froms(obj) == {"a": "one", "c": "three"}
    status, obj = apply(server, text())
    assert status == 200 and froms(obj) == {"c": "three"} and owned(obj) is None


def test_history_stays(server):
    apply(server, text(tags=[{**tags(a="one")[0], "reference": True}]))
    obj = apply(server, text())[1]
    assert froms(obj) == {} and [tag["tag"] for tag in obj["status"]["tags"]] == ["a"]


def conflict(manager, *names):
    """The whole body of a conflict over the sources of tags (E2)."""
    causes = [{"reason": "FieldManagerConflict", "message": "conflict with " + manager,
               "field": '.spec.tags[name="%s"].from' % name} for name in names]
    message = "Apply failed with 1 conflict: %s: %s" % (causes[0]["message"], causes[0]["field"])
    if len(names) > 1:
        message = "Apply failed with %d conflicts: conflicts with %s:\n%s" % (
            len(names), manager, "\n".join("- " + cause["field"] for cause in causes))
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": "Conflict", "details": {"causes": causes}, "code": 409}


def test_another_value_conflicts(server):
    applied(server, a="one", b="two")
    before = get(server)
    assert applied(server, "other", a="new") == (409, conflict('"m"', "a"))
    assert applied(server, "other", a="new", b="new") == (409, conflict('"m"', "a", "b"))
    assert get(server) == before


def test_force_takes_the_field(server):
    applied(server, a="one")
    status, obj = applied(server, "other", "&force=true", a="new")
    assert status == 200 and froms(obj) == {"a": "new"}
    assert owned(obj, "other") == WHOLE
    assert owned(obj) == {".": {}, "f:name": {}}
    assert applied(server, a="one") == (409, conflict('"other"', "a"))


PLAIN = {"PUT": None, "merge": "application/merge-patch+json",
         "strategic": "application/strategic-merge-patch+json",
         "json": "application/json-patch+json"}


@pytest.mark.parametrize("how", PLAIN)
def test_what_a_plain_write_set_conflicts(server, how):
    obj = applied(server, a="one")[1]
    both = tags(a="one", c="three")
    value = {"PUT": {**obj, "spec": {"tags": both}}, "json": [
        {"op": "add", "path": "/spec/tags/-", "value": both[1]}]}.get(
            how, {"spec": {"tags": both}})
    status, obj = server.call(
        "PUT" if how == "PUT" else "PATCH", STREAMS + "/s?fieldManager=editor", value,
        Content_Type=PLAIN[how] or "application/json")
    assert status == 200 and {".", "f:from", "f:name"} <= owned(obj, "editor", "c").keys()
    assert owned(obj) == WHOLE  # what it didn't change it doesn't own
    assert applied(server, a="one", c="new") == (409, conflict('"editor"' + USING, "c"))
    assert applied(server, a="one", c="three")[0] == 200


def test_who_posted_owns(server):
    assert server.call("POST", STREAMS + "?fieldManager=editor", text(tags=tags(a="one")))[0] == 201
    assert applied(server, a="new") == (409, conflict('"editor"' + USING, "a"))


UNOWNED = {
    "imagestreamimports": lambda server: server.call("POST", GROUP + "imagestreamimports", {
        "metadata": {"name": "s"}, "spec": {"import": True, "images": [
            {"from": image("one"), "to": {"name": "a"}}]}}),
    "imagestreamtags": lambda server: server.call("PUT", GROUP + "imagestreamtags/s:a", {
        "metadata": {"name": "s:a"}, "tag": {"name": "a", "from": image("one")}}),
}


@pytest.mark.parametrize("how", UNOWNED)
def test_before_first_apply(server, how):
    assert UNOWNED[how](server)[0] == 201
    assert "managedFields" not in get(server)["metadata"]
    assert applied(server, a="new") == (409, conflict('"before-first-apply"' + USING, "a"))
    status, obj = applied(server, a="one")
    assert status == 200 and owned(obj) == WHOLE
    first = owned(obj, "before-first-apply")
    assert {".", "f:from", "f:name"} <= first.keys()
    # Two own it, so that it stays.
    status, obj = apply(server, text(tags=tags(b="two")))
    assert status == 200 and froms(obj) == {"a": "one", "b": "two"}
    assert owned(obj) is None and owned(obj, tag="b") == WHOLE


@pytest.mark.parametrize("how", UNOWNED)
def test_these_writes_leave_owners_as_they_are(server, how):
    before = applied(server, a="old")[1]["metadata"]["managedFields"]
    assert UNOWNED[how](server)[0] in (200, 201)
    after = get(server)
    assert froms(after) == {"a": "one"} and after["metadata"]["managedFields"] == before
    # The owner sees no conflict with what nobody owns.
    assert applied(server, a="old")[0] == 200


# E1: versions, uids, texts as they are saved.

def test_a_version(server):
    old = applied(server, a="one")[1]["metadata"]["resourceVersion"]
    new = applied(server, a="two")[1]["metadata"]["resourceVersion"]
    status, answer = apply(server, text(meta={"resourceVersion": old}, tags=tags(a="three")))
    assert (status, answer["details"]["kind"]) == (409, "imagestreams")
    assert "causes" not in answer["details"]
    assert answer["message"].endswith(
        "please apply your changes to the latest version and try again")
    assert apply(server, text(meta={"resourceVersion": new}, tags=tags(a="three")))[0] == 200
    assert apply(server, text("n", {"resourceVersion": old}), path="imagestreams/n")[0] == 201


def test_a_uid(server):
    uid = "e4d23f53-e6ce-44e2-bf7f-4b3e9987f415"
    status, answer = apply(server, text(meta={"uid": uid}))
    assert (status, answer["message"]) == (409, (
        'Operation cannot be fulfilled on imagestreams.image.openshift.io "s": uid mismatch: the '
        'provided object specified uid %s, and no existing object was found' % uid))
    applied(server, a="one")
    status, answer = apply(server, text(meta={"uid": uid}, tags=tags(a="one")))
    assert status == 422
    assert [cause["field"] for cause in answer["details"]["causes"]] == ["metadata.uid"] * 2


def test_a_saved_text(server):
    server.control("bulk", [{"op": "create", "object": copying.web("team")}])
    saved = get(server, "web")
    saved["metadata"] = {key: value for key, value in saved["metadata"].items()
                         if key not in ("resourceVersion", "uid", "managedFields")}
    status, obj = apply(server, saved, path="imagestreams/web")
    assert status == 200 and obj["status"] == saved["status"]
    assert all(owned(obj, tag=tag)["f:from"] == {} for tag in ("1.0", "2.0"))
    saved["metadata"]["name"] = "copy"
    status, obj = apply(server, saved, path="imagestreams/copy")
    assert status == 201 and "tags" not in obj["status"]


@pytest.mark.parametrize("generation, bumped", [(7, 0), (None, 0), (0, 1)])
def test_generations_of_tags(server, generation, bumped):
    before = applied(server, a="one")[1]
    tag = {**tags(a="one")[0], "generation": generation}
    status, obj = apply(server, text(tags=[tag]))
    assert status == 200
    assert obj["metadata"]["generation"] == before["metadata"]["generation"] + bumped
    assert obj["spec"]["tags"][0]["generation"] == 1 + bumped


# E1: refusals.

TYPED = "failed to create typed patch object (/s; image.openshift.io/v1, Kind=ImageStream): "


@pytest.mark.parametrize("value, status, message", [
    (text("other"), 400, "the name of the object (other) does not match the name on the URL (s)"),
    (text(meta={"namespace": "base"}), 400, "the namespace of the provided object does not match "
                                            "the namespace sent on the request"),
    (text(meta={"managedFields": []}), 400, "metadata.managedFields must be nil"),
    (text(meta={"managedFields": [{}]}), 400, "metadata.managedFields must be nil"),
    (text(colour="red"), 500, TYPED + ".spec.colour: field not declared in schema"),
    (text(tags=[{"name": "c", "form": {}}], colour="red"), 500, TYPED + (
        'errors:\n  .spec.colour: field not declared in schema\n  '
        '.spec.tags[name="c"].form: field not declared in schema')),
    (text(tags=tags(c="one") * 2), 500, TYPED + '.spec.tags: duplicate entries for key [name="c"]'),
    (text(meta={"namespace": "team"}, a=1), 500, TYPED.replace("(/s", "(team/s") + (
        ".spec.a: field not declared in schema")),
    ({"kind": "ImageStream", "metadata": {"name": "s"}}, 400,
     "invalid object type: /, Kind=ImageStream"),
    ({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}, 400,
     "invalid object type: /v1, Kind=Secret"),
])
def test_refusals(server, value, status, message):
    got, answer = apply(server, value)
    assert (got, answer["message"]) == (status, message)
    assert ("reason" in answer) == (status != 500)
    assert server.call("GET", STREAMS + "/s")[0] == 404


@pytest.mark.parametrize("body", ["{", "a: [", "[]", "x", ""])
def test_broken_texts(server, body):
    status, answer = apply(server, body)
    assert (status, answer["reason"]) == (400, "BadRequest")
    assert body == "" or answer["message"].startswith("error decoding YAML: ")


def test_yaml_is_fine_too(server):
    assert apply(server, "kind: ImageStream\napiVersion: image.openshift.io/v1\n"
                         "metadata: {name: s}\nspec: {tags: [{name: a}]}\n")[0] == 201


@pytest.mark.parametrize("manager, cause", [
    ("", "fieldManager: Required value: is required for apply patch"),
    ("m" * 129, "fieldManager: Too long: may not be more than 128 bytes")])
def test_managers(server, manager, cause):
    status, answer = apply(server, text(), manager)
    assert (status, answer["message"]) == (
        422, 'PatchOptions.meta.k8s.io "" is invalid: ' + cause)
    assert apply(server, text(), "m" * 128)[0] == 201


def test_rights(server):
    status, answer = apply(server, text(), user="nobody")
    assert status == 403 and 'cannot patch resource "imagestreams"' in answer["message"]
    rules = [{"resources": ["imagestreams"], "verbs": ["get", "patch"]}]
    server.control("grant", {"user": "nobody", "namespace": "team", "rules": rules})
    status, answer = apply(server, text(), user="nobody")
    assert status == 403 and 'cannot create resource "imagestreams"' in answer["message"]
    applied(server, a="one")
    assert apply(server, text(meta={"labels": {"a": "b"}}), "n", user="nobody")[0] == 200
    server.control("revoke", {"user": "nobody"})


def test_of_status(server):
    applied(server, a="one")
    value = text()
    value["status"] = {"tags": [{"tag": "a", "items": [copying.item("1.0")]}]}
    assert apply(server, value, "st", "imagestreams/s/status", user="developer")[0] == 403
    status, obj = apply(server, value, "st", "imagestreams/s/status")
    assert status == 200 and obj["status"]["tags"][0]["items"][0]["generation"] == 1
    (entry,) = [one for one in obj["metadata"]["managedFields"] if one["manager"] == "st"]
    assert (entry["operation"], entry["subresource"]) == ("Apply", "status")
    assert apply(server, text("none"), path="imagestreams/none/status")[0] == 404


def test_of_an_imagestreamtag(server):
    applied(server, a="one")
    value = {"kind": "ImageStreamTag", "apiVersion": "image.openshift.io/v1",
             "metadata": {"name": "s:a", "annotations": {"k": "v"}}}
    status, answer = apply(server, value, path="imagestreamtags/s:a")
    assert (status, answer["message"]) == (422, (
        'ImageStreamTag.image.openshift.io "s:a" is invalid: metadata: Invalid value: "": may not '
        'update fields other than metadata.annotations'))
