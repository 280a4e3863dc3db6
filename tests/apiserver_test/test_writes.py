"""The write side where no recording reaches: the real server's traps, and rules in all cases."""

import json

import pytest

import apiclient

pytestmark = pytest.mark.xdist_group("writes")  # one server, which each test leaves in some state

GROUP = "/apis/image.openshift.io/v1/namespaces/"
DEV = GROUP + "dev/imagestreams"
TAGS = GROUP + "dev/imagestreamtags/"
JSON, MERGE, STRATEGIC = ("application/%s+json" % kind for kind in (
    "json-patch", "merge-patch", "strategic-merge-patch"))
DIGESTS = ["sha256:" + char * 64 for char in "1234"]


@pytest.fixture(scope="module")
def server(start_server):
    return start_server("--deletion-delay", "60", "--import-fail", "broken")


@pytest.fixture(autouse=True)
def nothing_left(server):
    yield
    server.control("bulk", [{"op": "clear"}])


def docker(name, **more):
    return {"from": {"kind": "DockerImage", "name": "registry.test/%s:1" % name}, **more}


def items(*digests):
    return [{"created": "2024-01-02T03:04:05Z", "image": digest, "generation": 1,
             "dockerImageReference": "registry.test/a@" + digest} for digest in digests]


def stored(server, name="s", tags=(), history=(), **meta):
    """Stores a stream as it is, status included; gives it as the server shows it."""
    server.control("bulk", [{"op": "create", "object": {
        "metadata": {"name": name, "namespace": "dev", **meta},
        "spec": {"tags": list(tags)}, "status": {"tags": list(history)}}}])
    return get(server, name)


def get(server, name="s"):
    status, obj = server.call("GET", DEV + "/" + name)
    assert status == 200, obj
    return obj


def patch(server, kind, value, path=DEV + "/s", user="admin"):
    return server.call("PATCH", path, value, user, Content_Type=kind)


def spec_names(obj):
    return [tag["name"] for tag in obj["spec"].get("tags", ())]


def status_names(obj):
    return [tag["tag"] for tag in obj["status"].get("tags", ())]


def fields(answer):
    return [one["field"] for one in answer["details"]["causes"]]


def two_tags(server, **meta):
    return stored(server, tags=[{"name": name, "generation": 1, **docker(name)} for name in "ab"],
                  history=[{"tag": "a", "items": items(DIGESTS[0])},
                           {"tag": "b", "items": items(DIGESTS[1])}], **meta)


# Deleting a tag.

def test_an_encoded_slash_deletes_another_tag(server):
    stored(server, tags=[{"name": name} for name in ("a", "a/", "b")])
    assert server.call("DELETE", TAGS + "s:a%2F")[0] == 200
    assert spec_names(get(server)) == ["a/", "b"]
    assert server.call("DELETE", TAGS + "s:a%2F")[0] == 404
    assert server.call("DELETE", TAGS + "s:b%2Fc")[0] == 404
    assert spec_names(get(server)) == ["a/", "b"]


def test_delete_of_a_tag_takes_the_uid_of_the_stream(server):
    before = two_tags(server)
    options = {"kind": "DeleteOptions", "apiVersion": "v1"}
    status, answer = server.call("DELETE", TAGS + "s:a", {
        **options, "preconditions": {"uid": "someone-else"}})
    assert (status, answer["reason"]) == (409, "Conflict") and get(server) == before
    # The resourceVersion isn't looked at.
    status, answer = server.call("DELETE", TAGS + "s:a", {**options, "preconditions": {
        "uid": before["metadata"]["uid"], "resourceVersion": "1"}})
    assert (status, answer["status"]) == (200, "Success")
    after = get(server)
    assert spec_names(after) == status_names(after) == ["b"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1


def test_delete_of_a_tag_that_is_only_history(server):
    before = stored(server, history=[{"tag": "old", "items": items(DIGESTS[0])}])
    assert server.call("DELETE", TAGS + "s:old")[0] == 200
    after = get(server)
    assert status_names(after) == []
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


@pytest.mark.parametrize("kind, value", [
    (JSON, [{"op": "remove", "path": "/spec/tags/0"}]),
    (MERGE, {"spec": {"tags": [{"name": "b", **docker("b")}]}}),
    (STRATEGIC, {"spec": {"tags": [{"name": "a", "$patch": "delete"}]}})])
def test_a_patch_leaves_the_history(server, kind, value):
    two_tags(server)
    status, after = patch(server, kind, value)
    assert status == 200
    assert spec_names(after) == ["b"] and status_names(after) == ["a", "b"]


# Strategic merge patches and their directives.

def test_replace_in_an_element_empties_the_list(server):
    before = two_tags(server)
    status, after = patch(server, STRATEGIC, {"spec": {"tags": [
        {"name": "a", "$patch": "replace"}]}})
    assert status == 200 and spec_names(after) == []
    assert status_names(after) == ["a", "b"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1


def test_replace_inside_from_drops_what_it_does_not_name(server):
    source = {"kind": "ImageStreamTag", "namespace": "prod", "name": "x:1"}
    stored(server, tags=[{"name": "a", "from": source}])
    docker_image = docker("new")["from"]
    merged = patch(server, STRATEGIC, {"spec": {"tags": [{"name": "a", "from": docker_image}]}})[1]
    assert merged["spec"]["tags"][0]["from"] == {**docker_image, "namespace": "prod"}
    replaced = patch(server, STRATEGIC, {"spec": {"tags": [
        {"name": "a", "from": {**docker_image, "$patch": "replace"}}]}})[1]
    assert replaced["spec"]["tags"][0]["from"] == docker_image


def test_strategic_patch_leaves_other_tags_and_keys(server):
    two_tags(server)
    status, after = patch(server, STRATEGIC, {"spec": {
        "$setElementOrder/tags": [{"name": "b"}, {"name": "c"}], "tags": [
            {"name": "b", "annotations": {"k": "v"}}, {"name": "c", **docker("c")}]}})
    assert status == 200 and spec_names(after) == ["a", "b", "c"]
    b = after["spec"]["tags"][1]
    assert b["from"] == docker("b")["from"] and b["annotations"] == {"k": "v"}
    after = patch(server, STRATEGIC, {"spec": {"tags": [
        {"name": "b", "from": None, "annotations": None}]}})[1]
    assert "from" not in after["spec"]["tags"][1]
    assert after["spec"]["tags"][1]["annotations"] is None


def test_a_dollar_alone_makes_no_directive(server):
    two_tags(server)
    status, after = patch(server, STRATEGIC, {"spec": {"tags": [
        {"name": "a", "annotations": {"$x": "1"}}]}})
    assert status == 200 and after["spec"]["tags"][0]["annotations"] == {"$x": "1"}


def test_finalizers_merge_as_a_set(server):
    stored(server, finalizers=["test/a", "test/b"])
    after = patch(server, STRATEGIC, {"metadata": {"finalizers": ["test/b", "test/c"]}})[1]
    assert after["metadata"]["finalizers"] == ["test/a", "test/b", "test/c"]
    after = patch(server, STRATEGIC, {"metadata": {
        "$deleteFromPrimitiveList/finalizers": ["test/a"]}})[1]
    assert after["metadata"]["finalizers"] == ["test/b", "test/c"]
    after = patch(server, MERGE, {"metadata": {"finalizers": ["test/d"]}})[1]
    assert after["metadata"]["finalizers"] == ["test/d"]


# The status.

def test_a_merge_patch_of_status_deletes_other_histories(server):
    before = two_tags(server)
    one = [{"tag": "a", "items": items(DIGESTS[2])}]
    after = patch(server, STRATEGIC, {"status": {"tags": one}}, DEV + "/s/status")[1]
    assert [tag["items"][0]["image"] for tag in after["status"]["tags"]] == [
        DIGESTS[2], DIGESTS[1]]
    after = patch(server, MERGE, {"status": {"tags": one}}, DEV + "/s/status")[1]
    assert status_names(after) == ["a"]
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


def test_a_put_of_status_replaces_metadata_too(server):
    before = two_tags(server, labels={"l": "1"}, annotations={"x": "1"},
                      finalizers=["test/hold"])
    bare = {"metadata": {"name": "s", "resourceVersion": before["metadata"]["resourceVersion"]},
            "spec": {"lookupPolicy": {"local": True}, "tags": []},
            "status": {"tags": before["status"]["tags"][:1]}}
    status, after = server.call("PUT", DEV + "/s/status", bare)
    assert status == 200
    assert not {"labels", "annotations", "finalizers"} & {
        key for key, value in after["metadata"].items() if value is not None}
    assert after["spec"] == {**before["spec"], "lookupPolicy": {"local": True}}
    assert status_names(after) == ["a"]


def test_a_put_ignores_status(server):
    before = two_tags(server)
    value = {**before, "status": {"tags": [{"tag": "z", "items": items(DIGESTS[3])}]}}
    status, after = server.call("PUT", DEV + "/s", value)
    assert (status, after) == (200, before)


@pytest.mark.parametrize("method, kind", [("PUT", "application/json"), ("PATCH", MERGE)])
def test_status_is_not_for_editors(server, method, kind):
    value = two_tags(server)
    status, answer = server.call(method, DEV + "/s/status", value, "developer",
                                 Content_Type=kind)
    assert (status, answer["reason"]) == (403, "Forbidden")
    assert get(server) == value


# Preconditions.

@pytest.mark.parametrize("path", [DEV + "/s", DEV + "/s/status"])
@pytest.mark.parametrize("kind", [JSON, MERGE, STRATEGIC])
def test_another_uid_is_422_for_patches(server, kind, path):
    before = stored(server)
    value = {"metadata": {"uid": "other", "labels": {"a": "b"}}}
    if kind == JSON:
        value = [{"op": "replace", "path": "/metadata/uid", "value": "other"}]
    status, answer = patch(server, kind, value, path)
    assert (status, answer["reason"]) == (422, "Invalid")
    assert set(fields(answer)) == {"metadata.uid"}
    assert get(server) == before


def test_another_uid_is_409_for_the_rest(server):
    before = stored(server)
    meta = before["metadata"]
    for path in (DEV + "/s", DEV + "/s/status"):
        status, answer = server.call("PUT", path, {**before, "metadata": {
            **meta, "uid": "other", "labels": {"a": "b"}}})
        assert (status, answer["reason"]) == (409, "Conflict")
    for wrong in ({"uid": "other"}, {"resourceVersion": "1"}):
        status, answer = server.call("DELETE", DEV + "/s", {"preconditions": wrong})
        assert (status, answer["reason"]) == (409, "Conflict")
    assert get(server) == before
    assert server.call("DELETE", DEV + "/s", {"preconditions": {
        key: meta[key] for key in ("uid", "resourceVersion")}})[0] == 200


@pytest.mark.parametrize("kind", [MERGE, STRATEGIC])
def test_only_a_patch_that_names_a_version_conflicts(server, kind):
    before = stored(server)
    change = {"metadata": {"labels": {"a": "1"}}}
    assert patch(server, kind, change)[0] == 200
    change["metadata"]["labels"]["b"] = "1"
    stale = {"metadata": {**change["metadata"],
                          "resourceVersion": before["metadata"]["resourceVersion"]}}
    status, answer = patch(server, kind, stale)
    assert (status, answer["reason"]) == (409, "Conflict")
    assert patch(server, kind, change)[0] == 200


def test_what_changes_nothing_writes_nothing(server):
    before = two_tags(server)
    watch = server.watch(DEV + "?watch=true&resourceVersion="
                         + before["metadata"]["resourceVersion"])
    for status, answer in (
            server.call("PUT", DEV + "/s", before),
            server.call("PUT", DEV + "/s/status", before),
            patch(server, MERGE, {"metadata": {"labels": None}}),
            patch(server, STRATEGIC, {"spec": {"tags": [{"name": "a", **docker("a")}]}}),
            patch(server, JSON, [{"op": "test", "path": "/metadata/name", "value": "s"}])):
        assert (status, answer) == (200, before)
    patch(server, MERGE, {"metadata": {"labels": {"last": "1"}}})
    assert watch.event()["object"]["metadata"]["labels"] == {"last": "1"}
    watch.close()


# Unknown fields, and validation.

BAD = {"spec": {"bogus": 1, "tags": [{"name": "a", "wrong": True}]}}
COMPLAINTS = ('unknown field "spec.bogus"', 'unknown field "spec.tags[0].wrong"')


@pytest.mark.parametrize("method, kind", [
    ("POST", "application/json"), ("PUT", "application/json"), ("PATCH", MERGE),
    ("PATCH", STRATEGIC)])
def test_unknown_fields(server, method, kind):
    meta = {"name": "s"}
    if method != "POST":
        meta["resourceVersion"] = stored(server)["metadata"]["resourceVersion"]
    path = DEV if method == "POST" else DEV + "/s"
    body = json.dumps({"metadata": meta, **BAD})
    headers = server.headers(Content_Type=kind)
    status, _, data = server.exchange(method, path + "?fieldValidation=Strict", body, headers)
    assert status == (422 if method == "PATCH" else 400)
    answer = json.loads(data)
    for text in COMPLAINTS:
        assert text in answer["message"]
    if method == "PATCH":
        assert fields(answer) == ["patch"]
        assert '\\"bogus\\":1' in answer["message"]
    status, seen, data = server.exchange(method, path, body, headers)
    assert status in (200, 201)
    assert seen.get_all("Warning") == ['299 - "%s"' % text.replace('"', '\\"')
                                       for text in COMPLAINTS]
    spec = json.loads(data)["spec"]
    assert "bogus" not in spec and "wrong" not in spec["tags"][0]


def test_every_cause_is_named(server):
    two_tags(server)
    status, answer = patch(server, MERGE, {
        "metadata": {"labels": {"bad/": "1"}},
        "spec": {"dockerImageRepository": "a.test/b:tag", "tags": [
            {"name": "t", "from": {"kind": "Nothing", "name": ""},
             "referencePolicy": {"type": "Odd"}, "importPolicy": {"importMode": "Odd"}},
            {"name": "u", "from": {"kind": "DockerImage", "name": "UPPER"}}]}})
    assert (status, answer["reason"]) == (422, "Invalid")
    seen = fields(answer)
    assert "metadata.labels" in seen and "spec.dockerImageRepository" in seen
    assert [one for one in seen if "tags" in one] == [
        "spec.tags[t].from.name", "spec.tags[t].from.kind",
        "spec.tags[t].importPolicy.importMode", "spec.tags[t].referencePolicy.type",
        "spec.tags[u].from.name"]
    # What is found while a tag is looked up comes as one cause of its own.
    assert {one["reason"] for one in answer["details"]["causes"]
            if not one["reason"].startswith("FieldValue")} == {"InternalError"}


def test_a_bad_status_stands_in_the_way_of_every_change(server):
    stored(server, history=[{"tag": "t", "items": [{
        "created": "2024-01-02T03:04:05Z", "dockerImageReference": "UPPER", "image": "",
        "generation": 1}]}])
    status, answer = patch(server, MERGE, {"metadata": {"labels": {"a": "b"}}})
    assert status == 422
    assert fields(answer) == ["status.tags[t].items[0].dockerImageReference"]


# Generations, and history that comes from the spec.

def numbered(server, tag, change):
    """(generation of the stream, of the tag) after a change, both before at 5."""
    stored(server, generation=5, tags=[{"name": "t", "generation": 4, **tag}])
    status, after = patch(server, MERGE, {"spec": {"tags": [{"name": "t", **change}]}})
    assert status == 200, after
    return after["metadata"]["generation"], after["spec"]["tags"][0]["generation"]


@pytest.mark.parametrize("change, expected", [
    (docker("a"), (5, 4)),
    (docker("a", generation=None), (5, 4)),
    (docker("a", generation=99), (5, 4)),
    (docker("a", generation=0), (6, 6)),
    (docker("b"), (6, 6)),
    (docker("a", reference=True), (6, 6)),
    (docker("a", importPolicy={"importMode": "PreserveOriginal"}), (6, 6)),
    (docker("a", importPolicy={"scheduled": True}), (6, 4)),
    (docker("a", annotations={"k": "v"}), (6, 4)),
    (docker("a", referencePolicy={"type": "Local"}), (6, 4)),
    ({}, (6, 4))])
def test_generations(server, change, expected):
    assert numbered(server, docker("a"), change) == expected


def test_labels_leave_the_generation(server):
    before = two_tags(server)
    for meta in ({"labels": {"a": "b"}}, {"annotations": {"a": "b"}}, {"finalizers": ["test/a"]}):
        assert patch(server, MERGE, {"metadata": meta})[1]["metadata"]["generation"] == \
            before["metadata"]["generation"]
    after = patch(server, MERGE, {"spec": {"lookupPolicy": {"local": True}}})[1]
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1


def test_reference_tags_have_history_at_once(server):
    stored(server, tags=[{"name": "r", "reference": True, **docker("a")}], history=[{
        "tag": "r", "items": None, "conditions": [{
            "type": "ImportSuccess", "status": "False", "reason": "NotFound", "message": "",
            "lastTransitionTime": "2024-01-02T03:04:05Z", "generation": 1}]}])

    def references():
        return [item["dockerImageReference"]
                for item in get(server)["status"]["tags"][0]["items"] or ()]

    def change(**tag):
        assert patch(server, STRATEGIC, {"spec": {"tags": [{"name": "r", **tag}]}})[0] == 200
    change(annotations={"only": "this"})
    assert references() == []
    change(**docker("b"))
    assert references() == ["registry.test/b:1"]
    tag = get(server)["status"]["tags"][0]
    assert "conditions" not in tag
    assert tag["items"][0]["generation"] == get(server)["metadata"]["generation"]
    assert tag["items"][0]["image"] == ""
    change(**docker("c"))
    # One without an image isn't told from another: the newest changes in place.
    assert references() == ["registry.test/c:1"]


def test_a_tag_of_another_stream_is_copied(server):
    stored(server, "source", history=[{"tag": "1", "items": items(DIGESTS[0], DIGESTS[1])}])
    stored(server)
    after = patch(server, STRATEGIC, {"spec": {"tags": [
        {"name": "t", "from": {"kind": "ImageStreamTag", "name": "source:1"}},
        {"name": "i", "from": {"kind": "ImageStreamImage", "name": "source@" + DIGESTS[1]}}]}})[1]
    history = {tag["tag"]: tag["items"] for tag in after["status"]["tags"]}
    assert [item["image"] for item in history["t"]] == [DIGESTS[0]]
    assert [item["image"] for item in history["i"]] == [DIGESTS[1]]
    assert history["t"][0]["created"] == "2024-01-02T03:04:05Z"
    assert history["t"][0]["generation"] == after["metadata"]["generation"]


def test_a_missing_source_is_a_nested_cause(server):
    stored(server)
    status, answer = patch(server, STRATEGIC, {"spec": {"tags": [
        {"name": "t", "from": {"kind": "ImageStreamTag", "name": "nosuch:1"}}]}})
    assert status == 422 and fields(answer) == ["[]"]
    assert "spec.tags[t].from.name: Not found" in answer["message"]


# Deleting.

def test_finalizers_hold_a_stream(server):
    before = stored(server, finalizers=["test/a"], tags=[{"name": "t"}])
    path = DEV + "/s"
    watch = server.watch(DEV + "?watch=true&resourceVersion="
                         + before["metadata"]["resourceVersion"])
    status, marked = server.call("DELETE", path)
    assert status == 200 and marked["kind"] == "ImageStream"
    assert marked["metadata"]["deletionTimestamp"]
    assert server.call("DELETE", path) == (200, marked)
    status, answer = patch(server, MERGE, {"metadata": {"finalizers": ["test/a", "test/b"]}})
    assert status == 422 and fields(answer)[0] == "metadata.finalizers"
    assert patch(server, MERGE, {"metadata": {"labels": {"still": "here"}}})[0] == 200
    status, answer = server.call("POST", DEV, {"metadata": {"name": "s"}})
    assert status == 409 and answer["message"].startswith("object is being deleted")
    assert patch(server, MERGE, {"metadata": {"finalizers": None}})[0] == 200
    assert server.call("GET", path)[0] == 404
    assert [watch.event()["type"] for _ in range(3)] == ["MODIFIED", "MODIFIED", "DELETED"]
    watch.close()


def test_deletecollection(server):
    for name, labels in (("a", {"x": "1"}), ("b", {"x": "1"}), ("c", {"x": "2"}), ("d", None)):
        stored(server, name, labels=labels, **({"finalizers": ["test/a"]} if name == "b" else {}))

    def names():
        return [one["metadata"]["name"] for one in server.call("GET", DEV)[1]["items"]]

    def remove(query, user="admin"):
        status, listed = server.call("DELETE", DEV + query, user=user)
        assert status == 200 and listed["kind"] == "ImageStreamList"
        return [one["metadata"]["name"] for one in listed["items"]]
    assert remove("?labelSelector=x&dryRun=All") == ["a", "b", "c"]
    assert names() == ["a", "b", "c", "d"]
    assert remove("?labelSelector=x%3D1") == ["a", "b"]
    assert names() == ["b", "c", "d"] and "deletionTimestamp" in get(server, "b")["metadata"]
    assert remove("?fieldSelector=metadata.name%3Dd") == ["d"]
    assert server.call("DELETE", DEV + "?labelSelector=%21%21")[0] == 400
    assert server.call("DELETE", DEV, user="viewer")[0] == 403
    assert names() == ["b", "c"]
    assert remove("", "developer") == ["b", "c"] and names() == ["b"]


CREATIONS = {
    "imagestreams": {"metadata": {"name": "new"}},
    "imagestreamtags": {"metadata": {"name": "new:t"}, "tag": {"name": "t", **docker("a")}},
    "imagetags": {"metadata": {"name": "new:t"}, "spec": {"name": "t", **docker("a")}},
    "imagestreamimports": {"metadata": {"name": "new"}, "spec": {"import": True, "images": [
        {"from": docker("a")["from"], "to": {"name": "t"}}]}},
    "imagestreammappings": {"metadata": {"name": "s"}, "tag": "t", "image": {
        "metadata": {"name": DIGESTS[0]},
        "dockerImageReference": "registry.test/a@" + DIGESTS[0]}},
}


@pytest.fixture
def dying(server):
    """A namespace that is being deleted, with a stream in it that holds it."""
    server.control("bulk", [{"op": "create", "object": {"metadata": {
        "name": "s", "namespace": "dying", "finalizers": ["test/a"]}}}])
    assert server.call("DELETE", "/apis/project.openshift.io/v1/projects/dying")[0] == 200
    apiclient.until(lambda: server.call("GET", "/api/v1/namespaces/dying")[1]["status"]["phase"]
                    == "Terminating")
    return GROUP + "dying/"


@pytest.mark.parametrize("resource", CREATIONS)
def test_nothing_is_created_in_a_namespace_that_dies(server, dying, resource):
    status, answer = server.call("POST", dying + resource, CREATIONS[resource])
    assert (status, answer["reason"]) == (403, "Forbidden")
    assert answer["details"]["causes"] == [{
        "reason": "NamespaceTerminating", "field": "metadata.namespace",
        "message": "namespace dying is being terminated"}]


def test_what_is_there_can_change_while_its_namespace_dies(server, dying):
    path = dying + "imagestreams/s"
    assert patch(server, MERGE, {"metadata": {"labels": {"a": "b"}}}, path)[0] == 200
    obj = server.call("GET", path)[1]
    obj["spec"]["tags"] = [{"name": "t"}]
    assert server.call("PUT", path, obj)[0] == 200
    assert server.call("DELETE", dying + "imagestreamtags/s:t")[0] == 200
    assert server.call("DELETE", path)[1]["kind"] == "ImageStream"


@pytest.mark.parametrize("resource", CREATIONS)
def test_nothing_is_created_in_no_namespace(server, resource):
    value = CREATIONS[resource]
    status, answer = server.call("POST", GROUP + "nowhere/" + resource, value)
    assert (status, answer["message"]) == (404, 'namespaces "nowhere" not found')
    if "tags" in resource:
        status, answer = server.call("PUT", "%snowhere/%s/new:t" % (GROUP, resource), value)
        assert (status, answer["message"]) == (404, 'namespaces "nowhere" not found')
    assert server.call("GET", GROUP + "nowhere/imagestreams")[1]["items"] == []


# Sizes.

def padded(size):
    return {"spec": {"tags": [{"name": "t%d" % index, "annotations": {"pad": "x" * (size // 10)}}
                              for index in range(10)]}}


@pytest.mark.parametrize("method, kind", [
    ("POST", "application/json"), ("PUT", "application/json"), ("PATCH", MERGE),
    ("PATCH", STRATEGIC)])
def test_too_large_to_be_stored(server, method, kind):
    value = {"metadata": {"name": "s"}, **padded(1600000)}
    if method != "POST":
        before = stored(server)
        value["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
    path = DEV if method == "POST" else DEV + "/s"
    status, answer = server.call(method, path, value, Content_Type=kind)
    assert (status, answer["message"]) == (500, "etcdserver: request is too large")
    assert answer.get("reason") is None and answer.get("details") is None
    if method == "POST":
        assert server.call("GET", DEV + "/s")[0] == 404
    else:
        assert get(server) == before


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_too_large_to_be_read(server, method):
    path = DEV if method == "POST" else DEV + "/s"
    status, headers, data = server.exchange(
        method, path, json.dumps({"metadata": {"name": "s"}, **padded(3200000)}),
        server.headers(Content_Type=MERGE if method == "PATCH" else "application/json"))
    answer = json.loads(data)
    assert (status, answer["reason"]) == (413, "RequestEntityTooLarge")
    assert headers["Connection"] == "close"


def test_too_many_operations(server):
    stored(server)
    one = {"op": "test", "path": "/metadata/name", "value": "s"}
    assert patch(server, JSON, [one] * 10000)[0] == 200
    assert patch(server, JSON, [one] * 10001)[0] == 413


# imagestreamtags and imagestreamimports.

def test_put_of_a_tag(server):
    path, tag = TAGS + "new:t", {"name": "t", "reference": True, **docker("a")}
    value = {"metadata": {"name": "new:t"}, "tag": tag}
    assert server.call("PUT", path, value)[0] == 201
    made = get(server, "new")
    assert spec_names(made) == status_names(made) == ["t"]
    value["tag"] = {**tag, **docker("b")}
    assert server.call("PUT", path, value)[0] == 200
    value["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
    status, answer = server.call("PUT", path, value)
    assert (status, answer["reason"]) == (409, "Conflict")
    for wrong in ({"name": "new:other"}, {"name": "new:t", "namespace": "prod"}):
        assert server.call("PUT", path, {"metadata": wrong, "tag": tag})[0] == 400
    assert server.call("PUT", TAGS + "new:u", {"metadata": {"name": "new:u"}})[0] == 400
    strict = {**value, "bogus": 1}
    assert server.call("PUT", path + "?fieldValidation=Strict", strict)[0] == 400


def test_patches_of_a_tag_that_fail(server):
    stored(server, tags=[{"name": "t", **docker("a")}])
    path = TAGS + "s:t"
    assert patch(server, JSON, [{"op": "remove", "path": "/nothing"}], path)[0] == 422
    assert patch(server, MERGE, {"tag": {"from": 1}}, path)[0] == 422
    status, answer = patch(server, STRATEGIC, {"bogus": 1}, path + "?fieldValidation=Strict")
    assert status == 422 and fields(answer) == ["patch"]
    assert patch(server, MERGE, {"metadata": {"name": "s:u"}}, path)[0] == 400
    assert patch(server, MERGE, {}, TAGS + "s:nosuch")[0] == 404
    assert patch(server, "application/json", {}, path)[0] == 415
    after = patch(server, STRATEGIC, {"tag": {"annotations": {"k": "v"}},
                                      "metadata": {"annotations": {"k": "v"}}}, path)
    assert after[0] == 200 and get(server)["spec"]["tags"][0]["annotations"] == {"k": "v"}


def import_one(server, image, meta=None, query=""):
    return server.call("POST", GROUP + "dev/imagestreamimports" + query, {
        "kind": "ImageStreamImport", "apiVersion": "image.openshift.io/v1",
        "metadata": {"name": "s", **(meta or {})},
        "spec": {"import": True, "images": [image]}})


def test_an_import_resets_the_policies_it_does_not_name(server):
    tag = {"name": "t", "annotations": {"k": "v"}, "importPolicy": {"scheduled": True},
           "referencePolicy": {"type": "Local"}, **docker("a")}
    before = stored(server, tags=[tag])
    image = {"from": tag["from"], "to": {"name": "t"}}
    whole = {key: tag[key] for key in ("importPolicy", "referencePolicy")}
    assert import_one(server, {**image, **whole})[0] == 201
    kept = get(server)["spec"]["tags"][0]
    assert kept["importPolicy"]["scheduled"] and kept["referencePolicy"]["type"] == "Local"
    assert import_one(server, image)[0] == 201
    after = get(server)
    reset = after["spec"]["tags"][0]
    assert "scheduled" not in reset["importPolicy"]
    assert reset["referencePolicy"]["type"] == "Source" and reset["annotations"] == {"k": "v"}
    assert after["metadata"]["generation"] > before["metadata"]["generation"]


def test_a_failed_import_is_created(server):
    stored(server, tags=[{"name": "t", **docker("broken")}])
    image = {"from": docker("broken")["from"], "to": {"name": "t"}}
    status, answer = import_one(server, image)
    assert status == 201
    assert answer["status"]["images"][0]["status"]["status"] == "Failure"
    after = get(server)
    assert after["spec"]["tags"][0]["generation"] == after["metadata"]["generation"] != 0
    assert after["status"]["tags"][0]["conditions"][0]["reason"] == "NotFound"
    assert after["status"]["tags"][0]["items"] is None


def test_preconditions_of_an_import(server):
    meta = stored(server, tags=[{"name": "t", **docker("a")}])["metadata"]
    image = {"from": docker("a")["from"], "to": {"name": "t"}}
    assert import_one(server, image, {"resourceVersion": "1"})[0] == 409
    assert import_one(server, image, {"uid": "other"})[0] == 404
    assert import_one(server, {**image, "bogus": 1}, query="?fieldValidation=Strict")[0] == 400
    assert import_one(server, image, {key: meta[key] for key in ("uid", "resourceVersion")})[
        0] == 201
