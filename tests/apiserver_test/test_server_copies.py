"""Copied manifests: POST of what was saved elsewhere, PUT of another object's text."""

import json

import pytest

import copying

pytestmark = pytest.mark.xdist_group("copies")  # one server, which each test leaves in some state

GROUP = "/apis/image.openshift.io/v1/namespaces/"
TEAM = GROUP + "team/imagestreams"
MODIFIED = ("the object has been modified; please apply your changes to the latest version and try "
            "again")


@pytest.fixture(scope="module")
def server(start_server):
    return start_server("--project-delay", "0.1")


@pytest.fixture(autouse=True)
def spaces(server):
    with copying.spaces(server):
        yield


def get(server, name):
    status, obj = server.call("GET", TEAM + "/" + name)
    assert status == 200, obj
    return obj


def manifest(server, name="web", **meta):
    """The text of a stream with history, as it is saved from a server; its name is another then."""
    server.control("bulk", [{"op": "create", "object": copying.web("team")}])
    value = get(server, "web")
    value["metadata"] = {**value["metadata"], "name": name, **meta}
    return value


def without(value, *keys):
    value["metadata"] = {key: one for key, one in value["metadata"].items() if key not in keys}
    return value


def post(server, value, query="", user="admin"):
    """(status, headers, answer)"""
    body = value if isinstance(value, str) else json.dumps(value)
    status, headers, data = server.exchange("POST", TEAM + query, body, server.headers(
        user, Content_Type="application/json"))
    return status, headers, json.loads(data)


# C1: POST.

@pytest.mark.parametrize("field, value", [
    ("uid", "e4d23f53-e6ce-44e2-bf7f-4b3e9987f415"), ("creationTimestamp", "2001-01-01T00:00:00Z"),
    ("generation", 7), ("selfLink", "/apis/x"), ("deletionTimestamp", "2001-01-01T00:00:00Z"),
    ("deletionGracePeriodSeconds", 30), ("managedFields", [{"manager": "nonsense"}])])
def test_what_only_the_server_sets_is_dropped(server, field, value):
    copied = without(manifest(server, "copy"), "resourceVersion")
    copied["metadata"][field] = value
    status, headers, made = post(server, copied, "?fieldValidation=Strict")
    assert status == 201 and headers.get_all("Warning") is None
    assert made["metadata"].get(field) != value
    assert made["metadata"]["generation"] == 1 and made == get(server, "copy")


@pytest.mark.parametrize("version, status", [("5", 500), ("", 201), ("0", 201)])
def test_a_resource_version_is_refused(server, version, status):
    got, _, answer = post(server, manifest(server, "copy", resourceVersion=version))
    assert got == status
    if status == 500:
        assert answer["message"] == "resourceVersion should not be set on objects to be created"
        assert "reason" not in answer
        assert server.call("GET", TEAM + "/copy")[0] == 404


def test_history_and_generations_are_dropped(server):
    server.control("imports", {"on": True, "delay": 0.05})
    check = {"openshift.io/image.dockerRepositoryCheck": "2026-11-28T20:05:31Z"}
    stream = server.watch(TEAM + "?watch=true&fieldSelector=metadata.name%3Dcopy")
    made = post(server, without(manifest(server, "copy", annotations=check),
                                "resourceVersion"))[2]
    assert "tags" not in made["status"] and made["metadata"]["annotations"] == check
    assert [tag["generation"] for tag in made["spec"]["tags"]] == [1, 1]
    # The import takes place all the same.
    assert stream.event()["object"] == made
    after = stream.event()["object"]
    stream.close()
    server.control("imports", {"on": False})
    assert [tag["tag"] for tag in after["status"]["tags"]] == ["1.0", "2.0"]
    assert after["metadata"]["annotations"] != check


def test_another_namespace_is_refused(server):
    value = without(manifest(server, "copy", namespace="base"), "resourceVersion")
    status, _, answer = post(server, value)
    assert (status, answer["reason"]) == (400, "BadRequest")
    assert answer["message"] == ("the namespace of the provided object does not match the "
                                 "namespace sent on the request")


def test_owners_and_finalizers_are_kept(server):
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone",
             "uid": "e4d23f53-e6ce-44e2-bf7f-4b3e9987f415"}
    value = without(manifest(server, "copy", ownerReferences=[owner],
                             finalizers=["example.test/x"]), "resourceVersion")
    status, _, made = post(server, value, user="developer")
    assert status == 201 and made["metadata"]["ownerReferences"] == [owner]
    assert made["metadata"]["finalizers"] == ["example.test/x"]
    value["metadata"]["finalizers"] = ["nodomain"]
    status, _, answer = post(server, value)
    assert (status, answer["message"]) == (422, (
        'ImageStream.image.openshift.io "copy" is invalid: metadata.finalizers[0]: Invalid value: '
        '"nodomain": name is neither a standard finalizer name nor is it fully qualified'))


UNKNOWN = ['unknown field "metadata.nonsense"', 'unknown field "spec.colour"']


def test_unknown_fields(server):
    value = {"metadata": {"name": "copy", "nonsense": 1}, "spec": {"colour": "red"}}
    strict = ('ImageStream in version "v1" cannot be handled as a ImageStream: strict decoding '
              'error: ')
    status, _, answer = post(server, value, "?fieldValidation=Strict")
    assert (status, answer["message"]) == (400, strict + ", ".join(UNKNOWN))
    status, _, answer = post(server, '{"metadata":{"name":"copy","name":"copy"}}',
                             "?fieldValidation=Strict")
    assert (status, answer["message"]) == (400, strict + 'duplicate field "metadata.name"')
    status, _, answer = post(server, value, "?fieldValidation=Bogus")
    assert (status, answer["reason"], answer["details"]["kind"]) == (
        422, "Invalid", "CreateOptions")
    assert answer["message"].startswith(
        'CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "Bogus"')


@pytest.mark.parametrize("query, warned", [
    ("", True), ("?fieldValidation=", True), ("?fieldValidation=Warn", True),
    ("?fieldValidation=Ignore", False)])
def test_unknown_fields_are_only_warned_of(server, query, warned):
    status, headers, _ = post(server, {"metadata": {"name": "copy", "nonsense": 1},
                                       "spec": {"colour": "red"}}, query)
    assert status == 201
    assert headers.get_all("Warning") == (
        ["299 - %s" % json.dumps(text) for text in UNKNOWN] if warned else None)


def test_the_last_of_two_keys_counts(server):
    assert post(server, '{"metadata":{"name":"lost","name":"copy"}}')[0] == 201
    get(server, "copy")


# C2: PUT.

@pytest.fixture
def target(server):
    """The stream that is written over; gives its text."""
    value = without(manifest(server, "target"), "resourceVersion", "uid", "managedFields")
    assert post(server, value)[0] == 201
    return get(server, "target")


def put(server, value, name="target"):
    return server.call("PUT", TEAM + "/" + name, value)


@pytest.mark.parametrize("meta, status, message", [
    ({"name": "web"}, 400,
     "the name of the object (web) does not match the name on the URL (target)"),
    ({"name": None}, 400, "the name of the object (target based on URL) was undeterminable: name "
                          "must be provided"),
    ({"namespace": "base"}, 400, "the namespace of the provided object does not match the "
                                 "namespace sent on the request"),
    ({"namespace": None}, 200, None),
    ({"uid": None, "resourceVersion": "1"}, 409, (
        'Operation cannot be fulfilled on imagestreams.image.openshift.io "target": ' + MODIFIED)),
    ({"uid": None, "resourceVersion": None}, 422, (
        'imagestreams.image.openshift.io "target" is invalid: metadata.resourceVersion: Invalid '
        'value: 0: must be specified for an update')),
    ({"creationTimestamp": "2001-01-01T00:00:00Z", "generation": 9}, 200, None),
])
def test_another_text(server, target, meta, status, message):
    value = {**target, "metadata": {**target["metadata"], **meta}}
    got, answer = put(server, without(value, *(key for key in meta if meta[key] is None)))
    assert (got, answer.get("message")) == (status, message)
    if status == 200:
        assert answer == target == get(server, "target")
    elif status == 409:
        assert answer["reason"] == "Conflict" and answer["details"]["kind"] == "imagestreams"


@pytest.mark.parametrize("version", ["1", None, "right"])
def test_another_uid(server, target, version):
    other = get(server, "web")["metadata"]["uid"]
    value = {**target, "metadata": {**target["metadata"], "uid": other}}
    if version is None:
        del value["metadata"]["resourceVersion"]
    elif version != "right":
        value["metadata"]["resourceVersion"] = version
    status, answer = put(server, value)
    assert (status, answer["reason"]) == (409, "Conflict")
    assert answer["message"].endswith(
        "Precondition failed: UID in precondition: %s, UID in object meta: %s" % (
            other, target["metadata"]["uid"]))


def test_generations_of_tags_are_ignored(server, target):
    tags = [{**tag, "generation": 9} for tag in target["spec"]["tags"]]
    assert put(server, {**target, "spec": {**target["spec"], "tags": tags}}) == (200, target)


def test_managed_fields_are_stored_as_the_truth(server, target):
    label = {"labels": {"q": "1"}}
    kept = put(server, without({**target, "metadata": {**target["metadata"], **label}},
                               "managedFields"))[1]
    owners = [one["manager"] for one in kept["metadata"]["managedFields"]]
    assert owners == [one["manager"] for one in target["metadata"]["managedFields"]]
    wiped = {**kept["metadata"], "managedFields": [], "labels": {"q": "2"}}
    assert "managedFields" not in put(server, {**kept, "metadata": wiped})[1]["metadata"]
    wiped = get(server, "target")
    other = [{"manager": "other", "operation": "Update", "apiVersion": "image.openshift.io/v1",
              "time": "2001-01-01T00:00:00Z", "fieldsType": "FieldsV1",
              "fieldsV1": {"f:spec": {"f:tags": {}}}}]
    value = {**wiped, "metadata": {**wiped["metadata"], "managedFields": other,
                                   "labels": {"q": "3"}}}
    owned = put(server, value)[1]["metadata"]["managedFields"]
    assert owned[0] == other[0] and len(owned) == 2
    assert owned[1]["fieldsV1"] == {"f:metadata": {"f:labels": {"f:q": {}}}}


@pytest.mark.parametrize("drop", [(), ("resourceVersion",), ("uid",), ("uid", "resourceVersion")])
def test_a_put_makes_nothing(server, target, drop):
    value = {**target, "metadata": {**target["metadata"], "name": "none"}}
    assert put(server, without(value, *drop), "none")[0] == 404
