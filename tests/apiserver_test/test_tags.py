"""Tags that refer to others: what the real server makes of them, row by row of the recordings."""

import json

import pytest

import copying
from apiclient import until

pytestmark = pytest.mark.xdist_group("tags")  # one server, which each test leaves in some state

GROUP = "/apis/image.openshift.io/v1/namespaces/"
TEAM = GROUP + "team/imagestreams"
TAGS = GROUP + "team/imagestreamtags"
STRATEGIC = "application/strategic-merge-patch+json"
ONE, TWO = copying.DIGESTS["1.0"], copying.DIGESTS["2.0"]
OLD = "2026-11-28T20:05:31Z"
NOBODY = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def server(start_server):
    return start_server("--import-fail", ":nosuch$", "--import-plain", "^plain.test/",
                        "--import-delay", "0.05", "--project-delay", "0.1")


@pytest.fixture(autouse=True)
def streams(server):
    with copying.spaces(server):
        put(server, copying.web("team"), copying.web("base"), copying.web("hidden"),
            copying.stream("team", "x", 1))
        yield
        server.control("imports", {"on": False})


def put(server, *objects):
    server.control("bulk", [{"op": "create", "object": obj} for obj in objects])


def get(server, name="x", namespace="team"):
    status, obj = server.call("GET", "%s%s/imagestreams/%s" % (GROUP, namespace, name))
    assert status == 200, obj
    return obj


def patch(server, value, path=TEAM + "/x", user="admin", kind=STRATEGIC):
    return server.call("PATCH", path, value, user, Content_Type=kind)


def tagged(server, user="admin", **tag):
    return patch(server, {"spec": {"tags": [{"name": "x", **tag}]}}, user=user)


def source(kind, name, namespace=None, **more):
    out = {"from": {"kind": kind, "name": name}, **more}
    if namespace:
        out["from"]["namespace"] = namespace
    return out


def docker(image, **more):
    return source("DockerImage", image, **more)


def history(obj, tag="x"):
    return next((one for one in obj["status"].get("tags", ()) if one["tag"] == tag), None)


def spec(obj, tag="x"):
    return next((one for one in obj["spec"].get("tags", ()) if one["name"] == tag), None)


def newest(obj, tag="x"):
    return history(obj, tag)["items"][0]


# D1: a new tag by PATCH.

@pytest.mark.parametrize("tag, item", [
    (docker("a.test/b:1", reference=True), {"image": "", "dockerImageReference": "a.test/b:1"}),
    (source("ImageStreamTag", "x:other"), {"image": TWO, "created": OLD}),
    (source("ImageStreamTag", "other"), {"image": TWO, "created": OLD}),
    (source("ImageStreamTag", "web:1.0"), {"image": ONE, "created": OLD}),
    (source("ImageStreamTag", "web:1.0", "base"), {"image": ONE, "created": OLD}),
    (source("ImageStreamTag", "web:1.0", "base", reference=True), {"image": ONE, "created": OLD}),
    (source("ImageStreamImage", "web@" + TWO), {"image": TWO}),
    (source("ImageStreamImage", "web@" + TWO[7:20], "base"), {"image": TWO}),
    (source("ImageStreamTag", "web:nosuch"), None),
    (docker("a.test/b:1"), None),
    (docker("a.test/b@" + ONE), None),
])
def test_a_new_tag(server, tag, item):
    put(server, copying.stream("team", "x", 1, [], {"other": [copying.item("2.0")]}))
    before = get(server)["metadata"]
    status, obj = tagged(server, **tag)
    generation = before["generation"] + 1
    assert status == 200 and obj["metadata"]["generation"] == generation
    assert obj == get(server)
    made = spec(obj)
    assert made["generation"] == generation
    assert made["importPolicy"] == {"importMode": "Legacy"}
    assert made["referencePolicy"] == {"type": "Source"}
    if item is None:
        assert history(obj) is None
        return
    assert history(obj).get("conditions") is None
    assert {key: newest(obj)[key] for key in item} == item
    assert newest(obj)["generation"] == generation
    assert (newest(obj)["created"] == OLD) == ("created" in item)


@pytest.mark.parametrize("tag, cause", [
    (source("ImageStreamTag", "nosuch:1.0"), 'spec.tags[x].from.name: Not found: "nosuch:1.0"'),
    (source("ImageStreamImage", "web@" + NOBODY), (
        'spec.tags[x].from.name: Invalid value: "web@%s": error generating tag event: '
        'imagestreamimage.image.openshift.io "%s" not found' % (NOBODY, NOBODY))),
    (source("ImageStreamImage", "web@sha256:"), (
        'spec.tags[x].from.name: Invalid value: "web@sha256:": error generating tag event: '
        'Operation cannot be fulfilled on imagestreamimage.image.openshift.io "sha256:": multiple '
        'images match the prefix "sha256:": %s, %s' % (ONE, TWO))),
    (source("ImageStreamImage", "web:1.0"), (
        'spec.tags[x].from.name: Invalid value: "web:1.0": error generating tag event: '
        'imagestreamimage.image.openshift.io "web:1.0" not found')),
    (source("ImageStreamTag", "web@" + ONE), 'spec.tags[x].from.name: Not found: "%s"' % (
        "web@" + ONE)),
    (source("ImageStreamTag", "a:b:c"), (
        'spec.tags[x].from.name: Invalid value: "a:b:c": must be of the form <tag>, <repo>:<tag>, '
        '<id>, or <repo>@<id>')),
])
def test_a_source_that_is_not_there(server, tag, cause):
    before = get(server)
    status, answer = tagged(server, **tag)
    inner = 'imagestreams "x" is invalid: ' + cause
    assert (status, answer["reason"]) == (422, "Invalid")
    assert answer["details"]["causes"] == [{
        "reason": "InternalError", "message": "Internal error: " + inner, "field": "[]"}]
    assert answer["message"] == \
        'ImageStream.image.openshift.io "x" is invalid: []: Internal error: ' + inner
    assert get(server) == before


# D1: what the import controller makes of it.

def imported(server, **tag):
    """(the answer to the PATCH, the stream after the controller's write)"""
    server.control("imports", {"on": True})
    stream = server.watch(TEAM + "?watch=true&resourceVersion=" + server.control(
        "state")["resourceVersion"])
    status, answer = tagged(server, **tag)
    assert status == 200 and history(answer) is None
    events = [stream.event(), stream.event()]
    stream.close()
    assert [event["type"] for event in events] == ["MODIFIED", "MODIFIED"]
    return answer, events[1]["object"]


@pytest.mark.parametrize("name", ["a.test/b:1", "a.test/b@" + ONE])
def test_an_image_is_imported_a_moment_later(server, name):
    answer, after = imported(server, **docker(name))
    generation = answer["metadata"]["generation"] + 1
    assert after["metadata"]["generation"] == spec(after)["generation"] == generation
    assert "openshift.io/image.dockerRepositoryCheck" in after["metadata"]["annotations"]
    item = newest(after)
    assert item["generation"] == generation and item["created"] > OLD
    assert item["dockerImageReference"] == "a.test/b@" + item["image"]
    assert after["metadata"].get("managedFields") == answer["metadata"].get("managedFields")


@pytest.mark.parametrize("name, reason, message", [
    ("a.test/b:nosuch", "NotFound", 'dockerimage.image.openshift.io "a.test/b:nosuch" not found'),
    ("plain.test/b:1", "InternalError", (
        'Internal error occurred: plain.test/b:1: Get "https://plain.test/v2/": http: server gave '
        'HTTP response to HTTPS client')),
])
def test_an_import_that_fails(server, name, reason, message):
    answer, after = imported(server, **docker(name))
    generation = answer["metadata"]["generation"] + 1
    assert spec(after)["generation"] == generation
    failed = history(after)
    assert failed["items"] is None
    (condition,) = failed["conditions"]
    assert condition.pop("lastTransitionTime") > OLD
    assert condition == {"type": "ImportSuccess", "status": "False", "reason": reason,
                         "message": message, "generation": generation}


def test_plain_http_is_fine_for_who_says_so(server):
    after = imported(server, **docker("plain.test/b:1", importPolicy={"insecure": True}))[1]
    assert newest(after)["image"].startswith("sha256:")


@pytest.mark.parametrize("tag", [
    docker("a.test/b:1", reference=True), source("ImageStreamTag", "web:1.0"),
    source("ImageStreamTag", "web:nosuch"), source("ImageStreamImage", "web@" + ONE)])
def test_the_controller_leaves_other_tags_alone(server, tag):
    server.control("imports", {"on": True})
    after = tagged(server, **tag)[1]
    put(server, copying.stream("team", "y", 1))
    # The controller takes streams in turn: when this one is done, x would be.
    patch(server, {"spec": {"tags": [{"name": "x", **docker("a.test/b:1")}]}}, TEAM + "/y")
    until(lambda: history(get(server, "y")) is not None)
    assert get(server) == after


# Tags that follow another one of their stream.

FOLLOWERS = {"near": "1.0", "far": "f:1.0", "spaced": "f:1.0", "chain": "near", "other": "2.0",
             "foreign": "web:1.0"}


@pytest.fixture
def followed(server):
    """A stream with tags that follow 1.0, directly or not, and some that don't."""
    tags = [copying.tag("1.0"), copying.tag("2.0", image="2.0")]
    for name, of in FOLLOWERS.items():
        tags.append({**copying.tag(name), **source(
            "ImageStreamTag", of, "team" if name == "spaced" else None)})
    put(server, copying.stream("team", "f", 1, tags, {
        name: [copying.item("1.0")] for name in ("1.0", "2.0", *FOLLOWERS)}))
    return get(server, "f")


LED = ["chain", "far", "near", "spaced"]


def led(before, after):
    """The tags besides 1.0 whose newest image is another one; they have its very item."""
    changed = [one["tag"] for one in after["status"]["tags"]
               if one["tag"] != "1.0" and one["items"] != history(before, one["tag"])["items"]]
    for name in changed:
        assert newest(after, name) == newest(after, "1.0")
        assert len(history(after, name)["items"]) == 2
    return changed


def push(server, image, tag="1.0"):
    return server.call("POST", GROUP + "team/imagestreammappings", {
        "metadata": {"name": "f", "namespace": "team"}, "tag": tag, "image": {
            "metadata": {"name": image}, "dockerImageReference": "a.test/b@" + image}})


def test_tags_follow_a_push(server, followed):
    assert push(server, TWO)[0] == 201
    assert led(followed, get(server, "f")) == LED


def test_tags_follow_an_import(server, followed):
    assert server.call("POST", GROUP + "team/imagestreamimports", {
        "metadata": {"name": "f"}, "spec": {"import": True, "images": [
            {**docker("a.test/new:1"), "to": {"name": "1.0"}}]}})[0] == 201
    assert led(followed, get(server, "f")) == LED


def test_tags_follow_the_import_controller(server, followed):
    server.control("imports", {"on": True})
    patch(server, {"spec": {"tags": [{"name": "1.0", **docker("a.test/new:1")}]}}, TEAM + "/f")
    until(lambda: get(server, "f")["metadata"]["generation"] == 3)
    assert led(followed, get(server, "f")) == LED


def test_tags_follow_a_write_of_an_imagestreamtag(server, followed):
    assert server.call("PUT", TAGS + "/f:1.0", {
        "metadata": {"name": "f:1.0"}, "tag": source("ImageStreamTag", "web:2.0")})[0] == 200
    assert led(followed, get(server, "f")) == LED


def test_tags_do_not_follow_a_save_of_the_stream(server, followed):
    for kind in (STRATEGIC, "application/apply-patch+yaml"):
        value = {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
                 "spec": {"tags": [{"name": "1.0", **source("ImageStreamTag", "web:2.0")}]}}
        assert patch(server, value, TEAM + "/f?fieldManager=m&force=true" if kind != STRATEGIC
                     else TEAM + "/f", kind=kind)[0] == 200
        after = get(server, "f")
        assert newest(after, "1.0")["image"] == TWO and led(followed, after) == []


# D2: rights for the source.

RULES = {"layers": [{"resources": ["imagestreams/layers"], "verbs": ["get"]}],
         "streams": [{"resources": ["imagestreams", "imagestreamtags", "imagestreamimages",
                                    "imagestreams/status"], "verbs": ["get", "list", "watch"]}]}
REFS = {"ImageStreamTag": "web:1.0", "ImageStreamImage": "web@" + ONE}


@pytest.fixture
def right(request, server):
    """One of RULES in the namespace hidden, or none."""
    grant = {"user": "developer", "namespace": "hidden", "rules": RULES.get(request.param, [])}
    server.control("grant", grant)
    yield request.param
    server.control("revoke", {"user": "developer", "namespace": "hidden"})


def written_by(server, how, tag, user="developer"):
    """Writes the tag x of the stream x in one of three ways."""
    if how == "PATCH":
        return tagged(server, user, **tag)
    value = {"metadata": {"name": "x:x", "namespace": "team"}, "tag": {"name": "x", **tag}}
    return server.call(how, TAGS + ("/x:x" if how == "PUT" else ""), value, user)


WAYS = {"PATCH": 200, "PUT": 201, "POST": 201}
refused = pytest.mark.parametrize("kind", REFS)
ways = pytest.mark.parametrize("how", WAYS)


@ways
@refused
def test_who_views_may_refer(server, kind, how):
    status, answer = written_by(server, how, source(kind, REFS[kind], "base"))
    assert status == WAYS[how], answer
    assert newest(get(server))["image"] == ONE


@ways
@refused
@pytest.mark.parametrize("right", ["layers"], indirect=True)
def test_the_right_to_layers_is_enough(server, kind, how, right):
    assert server.call("GET", GROUP + "hidden/imagestreams/web", user="developer")[0] == 403
    assert written_by(server, how, source(kind, REFS[kind], "hidden"))[0] == WAYS[how]


@ways
@refused
@pytest.mark.parametrize("right", ["streams", "nothing"], indirect=True)
def test_without_the_right_to_layers_it_is_refused(server, kind, how, right):
    before = get(server)
    status, answer = written_by(server, how, source(kind, REFS[kind], "hidden"))
    text = ('ImageStream.image.openshift.io "x" is invalid: []: Internal error: imagestreams "x" '
            'is invalid: spec.tags[x].from: Forbidden: hidden/web: "" ""')
    assert (status, answer["message"]) == (422, text)
    assert get(server) == before


def test_a_namespace_that_is_not_there_is_refused_and_not_found(server):
    status, answer = tagged(server, "developer", **source("ImageStreamTag", "web:1.0", "nosuchns"))
    assert status == 422
    assert answer["message"].endswith(
        'imagestreams "x" is invalid: [spec.tags[x].from: Forbidden: nosuchns/web: "" "", '
        'spec.tags[x].from.name: Not found: "web:1.0"]')


# D3: the requests of oc.

def session_body(server, method, path, body):
    """The recorded body; where it was cut off, one that asks for the same."""
    if body is None:
        return None
    try:
        value = json.loads(body)
    except ValueError:
        value = cut_body(server, method, path)
    meta = value.get("metadata", {})
    if "resourceVersion" in meta:
        meta["resourceVersion"] = get(server, meta["name"], meta["namespace"])[
            "metadata"]["resourceVersion"]
    return value


def cut_body(server, method, path):
    if method == "PUT":
        return get(server, "web", "base")
    tags = get(server, "web")["spec"]["tags"]
    return {"kind": "ImageStreamImport", "apiVersion": "image.openshift.io/v1",
            "metadata": {"name": "web", "namespace": "team", "resourceVersion": "1"},
            "spec": {"import": True, "images": [
                {"from": tag["from"], "to": {"name": tag["name"]},
                 "importPolicy": tag["importPolicy"], "referencePolicy": tag["referencePolicy"]}
                for tag in tags if tag["from"]["kind"] == "DockerImage"]}, "status": {}}


def test_the_requests_of_oc(server):
    """The whole session on one server, as it was recorded; the last commands are a developer's."""
    user = "admin"
    for command, requests in copying.sessions():
        if "web:frombase" in command:
            user = "developer"
        for method, path, status, body in requests:
            got, answer = server.call(method, path, session_body(server, method, path, body), user)
            assert got == status, (command, method, path, answer)
        check_after(server, command)


def check_after(server, command):
    """What the command is said to have done."""
    words = command.split()
    if "import-image" in words and "--all" in words and "--from" not in command:
        # Reference tags get an image by it.
        assert newest(get(server, "web"), "ref")["image"] and not spec(
            get(server, "web"), "ref").get("reference")
    elif "--dry-run" in words:
        assert server.call("GET", TEAM + "/new4")[0] == 404
    elif words[3:] == ["tag", "-d", "web:prod"]:
        assert spec(get(server, "web"), "prod") is history(get(server, "web"), "prod") is None
    elif "--scheduled" in words:
        assert spec(get(server, "web"), "sch")["importPolicy"]["scheduled"]
    elif "--reference" in words:
        assert newest(get(server, "web"), "ref")["image"] == ""
    elif words[-1] in ("newstream:x", "web:byid", "web:al", "web:alx", "web:frombase"):
        stream, _, tag = words[-1].partition(":") if ":" in words[-1] else ("", "", "")
        assert newest(get(server, stream), tag)["image"] == ONE


def test_the_same_write_of_a_tag_again(server):
    value = {"metadata": {"name": "x:t"}, "tag": source("ImageStreamTag", "web:1.0")}
    assert [server.call("PUT", TAGS + "/x:t", value)[0] for _ in range(2)] == [201, 200]
    assert server.call("POST", TAGS, value)[0] == 409
    assert server.call("DELETE", TAGS + "/x:t")[0] == 200
    assert server.call("DELETE", TAGS + "/x:t")[0] == 404
    assert server.call("POST", TAGS, value)[0] == 201
