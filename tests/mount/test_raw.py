"""The files of .api that send a request: which one, what comes back, verdicts (DESIGN.md 2)."""

import contextlib
import errno
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

import pytest
import yaml
from conftest import STOP_SECONDS, Mount, Server, fails, opened, pinned, skip_for, wait_for
from events import Inotify
from stopwatch import at_most

SECONDS = 10  # for something to come, on a busy machine
JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
PROTOBUF = "application/vnd.kubernetes.protobuf"
FLAVORS = ("4", "3.11", "3.7")
STRICT = "fieldValidation=Strict&pretty=true"
PRETTY = "pretty=true"
SECRET = "c2VjcmV0LXRoYXQtbm9ib2R5LW1heS1zZWU-0123456789"


def requests(server, watches=False):
    """What the program has sent since the last reset, but for reviews of rights: those come when they come."""
    return [one for one in server.control("GET", "requests")["requests"]
            if one["headers"].get("user-agent", "").startswith("imagestreamfs")
            and "/authorization." not in one["path"]
            and watches == ("watch=true" in one["query"])]


def request(server):
    sent = requests(server)
    assert len(sent) == 1, sent
    return sent[0]


def silence(server):
    """From here on the tree isn't told anything."""
    wait_for(lambda: server.control("GET", "state")["watches"] >= 2, SECONDS, "the watches")
    server.control("POST", "silence", {})


def said(one):
    """A request in short: verb, path below the API root, query, content type, body."""
    body = one.get("body")
    path = re.sub("^/(apis/image.openshift.io|oapi)/v1", "", one["path"])
    try:
        body = json.loads(body) if body else None
    except ValueError:
        pass
    return one["method"], path, one["query"], one["headers"].get("content-type"), body


def manifest(name, **metadata):
    return {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
            "metadata": {"name": name, **metadata}}


def stored(server, namespace, name):
    """What the server has, as the files show it; None: nothing."""
    found = [one for one in server.request("GET", server.streams(namespace))["items"]
             if one["metadata"]["name"] == name]
    return found[0] if found else None


def bare(obj):
    """Without what differs from answer to answer."""
    obj = {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}
    return {**obj, "metadata": {key: value for key, value in obj["metadata"].items()
                                if key != "managedFields"}}


def add_secret(server, namespace="shop", value=SECRET):
    server.request("POST", f"/api/v1/namespaces/{namespace}/secrets", {
        "kind": "Secret", "apiVersion": "v1", "metadata": {"name": "pull"},
        "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": value}})


def last(mount):
    one = mount.errors()[-1]
    return one["path"], one["errno"], one["message"]


# ---- sixteen operations ----


@pytest.fixture(scope="module", params=FLAVORS)
def rig(request, directory):
    """One server and one mount for all rows of a flavor: each row has streams of its own."""
    server = Server(pathlib.Path(directory), "--flavor", request.param, "--sample")
    mount = None
    try:
        for name in ("replaced", "patched", "removed", "read", "watched", "status-put",
                     "status-patched"):
            server.create("monitoring", name, tags=[
                {"name": "a", "from": {"kind": "DockerImage", "name": "quay.io/example/a:1"}}])
        server.control("POST", "bulk", [
            {"op": "touch-image", "namespace": "monitoring", "name": name}
            for name in ("status-put", "status-patched")])
        add_secret(server, "monitoring")
        mount = Mount(directory, server.kubeconfig)
        mount.flavor = request.param
        mount.server = server
        mount.at_start = requests(server, watches=True)
        yield mount
        assert mount.stop() < STOP_SECONDS
        mount.check()
    finally:
        if mount and mount.process.poll() is None:
            mount.kill()
        server.stop()


def row_create(mount, server):
    body = manifest("made", namespace="dev")
    (mount / ".api/create").write_text(json.dumps(body))
    post = ("POST", "/imagestreams", STRICT, JSON, body)
    own = ("POST", "/namespaces/dev/imagestreams", STRICT, JSON, body)
    yield [post, own] if mount.flavor == "4" else [post]
    assert stored(server, "dev", "made")
    assert (mount / "dev/made/spec.json").exists()
    assert json.loads((mount / ".api/create").read_text())["metadata"]["name"] == "made"


def row_create_in_a_namespace(mount, server):
    (mount / "dev/.api/create").write_text(yaml.safe_dump(manifest("yaml")))
    yield [("POST", "/namespaces/dev/imagestreams", STRICT, JSON,
            manifest("yaml", namespace="dev"))]
    assert stored(server, "dev", "yaml")
    assert (mount / "dev/yaml").is_dir()


def row_get(mount, server):
    text = (mount / "monitoring/read/.api/fresh.json").read_text()
    yield [("GET", "/namespaces/monitoring/imagestreams/read", PRETTY, None, None)]
    assert text.startswith('{\n  "kind": "ImageStream"')
    assert bare(json.loads(text)) == bare(stored(server, "monitoring", "read"))


def row_list(mount, server):
    links = set(os.listdir(mount / ".api/select/app=shop"))
    query = "limit=500&labelSelector=app%3Dshop"
    # Once to find the directory, once to list it: each is the truth of its moment.
    yield [("GET", "/imagestreams", query, None, None)] * 2
    assert {"shop-staging.web", "prod.web"} <= links


def row_list_a_namespace(mount, server):
    links = os.listdir(mount / "prod/.api/select/field:metadata.name=web")
    query = "limit=500&fieldSelector=metadata.name%3Dweb"
    yield [("GET", "/namespaces/prod/imagestreams", query, None, None)] * 2
    assert links == ["web"]


def watch_row(mount, server, directory):
    """The watch that keeps the tree true is the one that they all read from."""
    with opened(mount / directory / ".api/events", os.O_RDONLY | os.O_NONBLOCK) as fd:
        server.label("monitoring", "watched", at=str(len(directory)))
        text = wait_for(lambda: read_some(fd), SECONDS, "the event")
    yield []
    path = "/imagestreams"
    watches = [said(one) for one in mount.at_start if one["path"].endswith(path)]
    assert watches and watches[0][:2] == ("GET", path), mount.at_start
    assert re.search("(^|&)resourceVersion=[0-9]+(&|$)", watches[0][2])
    assert re.search("(^|&)timeoutSeconds=[0-9]+(&|$)", watches[0][2])
    event = json.loads(text.splitlines()[0])
    assert event["type"] == "MODIFIED"
    assert event["object"]["metadata"]["labels"]["at"] == str(len(directory))


def read_some(fd):
    try:
        return os.read(fd, 1 << 20)
    except BlockingIOError:
        return b""


def row_watch(mount, server):
    return watch_row(mount, server, "monitoring/watched")


def row_watch_all(mount, server):
    return watch_row(mount, server, "")


def row_watch_a_namespace(mount, server):
    return watch_row(mount, server, "monitoring")


def row_update(mount, server):
    path = mount / "monitoring/replaced/imagestream.json"
    value = json.loads(path.read_text())
    value["spec"]["lookupPolicy"] = {"local": True}
    path.write_text(json.dumps(value))
    yield [("PUT", "/namespaces/monitoring/imagestreams/replaced", "fieldValidation=Strict", JSON,
            {**value, "status": requested_status(server)})]
    assert stored(server, "monitoring", "replaced")["spec"]["lookupPolicy"] == {"local": True}


def requested_status(server):
    """A PUT carries the status as it is: the server leaves it alone."""
    return json.loads(request(server)["body"])["status"]


def row_patch(mount, server):
    api = mount / "monitoring/patched/.api"
    patches = {"json-patch": (JSON_PATCH, [{"op": "add", "path": "/metadata/labels",
                                            "value": {"json": "1"}}]),
               "merge-patch": (MERGE_PATCH, {"metadata": {"labels": {"merge": "1"}}}),
               "strategic-merge-patch": (STRATEGIC_PATCH, {"spec": {"tags": [
                   {"name": "a", "annotations": {"strategic": "1"}}]}})}
    for name, (_, patch) in patches.items():
        (api / name).write_text(json.dumps(patch))
    yield [("PATCH", "/namespaces/monitoring/imagestreams/patched", PRETTY, kind, patch)
           for kind, patch in patches.values()]
    answer = json.loads((api / "strategic-merge-patch").read_text())
    assert answer["metadata"]["labels"] == {"json": "1", "merge": "1"}
    assert bare(answer) == bare(stored(server, "monitoring", "patched"))
    assert json.loads((mount / "monitoring/patched/tags/a/spec.json").read_text())[
        "annotations"] == {"strategic": "1"}


def row_delete(mount, server):
    uid = stored(server, "monitoring", "removed")["metadata"]["uid"]
    (mount / "monitoring/removed/.api/delete").write_text("{}")
    yield [("DELETE", "/namespaces/monitoring/imagestreams/removed", PRETTY, JSON, {
        "kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}})]
    assert not stored(server, "monitoring", "removed")
    assert not (mount / "monitoring/removed").exists()


def row_delete_collection(mount, server):
    (mount / "shop/.api/delete").write_text(json.dumps({
        "labelSelector": "app=shop,tier!=web", "gracePeriodSeconds": 0}))
    query = "pretty=true&labelSelector=app%3Dshop%2Ctier%21%3Dweb"
    # What goes is first looked at, and kept.
    yield [("GET", "/namespaces/shop/imagestreams", query, None, None),
           ("DELETE", "/namespaces/shop/imagestreams", query, JSON,
            {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0})]
    assert os.listdir(mount / "shop") == ["web"]
    assert json.loads((mount / "shop/.api/delete").read_text())["kind"] == "ImageStreamList"


def row_secrets(mount, server):
    secrets = json.loads((mount / "monitoring/read/.api/secrets.json").read_text())
    yield [("GET", "/namespaces/monitoring/imagestreams/read/secrets", "", None, None)]
    assert SECRET in [one["data"].get(".dockerconfigjson") for one in secrets["items"]]


def row_get_status(mount, server):
    status = json.loads((mount / "monitoring/read/.api/status.json").read_text())
    yield [("GET", "/namespaces/monitoring/imagestreams/read/status", PRETTY, None, None)]
    assert status["kind"] == "ImageStream" and status["metadata"]["name"] == "read"


def row_update_status(mount, server):
    api = mount / "monitoring/status-put/.api"
    value = json.loads((api / "status.json").read_text())
    assert value["status"]["tags"]
    del value["status"]["tags"]
    server.reset()
    (api / "status-replace").write_text(json.dumps(value))
    yield [("PUT", "/namespaces/monitoring/imagestreams/status-put/status", PRETTY, JSON, value)]
    assert "tags" not in stored(server, "monitoring", "status-put")["status"]
    assert json.loads((api / "status-replace").read_text())["kind"] == "ImageStream"
    assert "tags" not in json.loads((mount / "monitoring/status-put/status.json").read_text())


def row_patch_status(mount, server):
    api = mount / "monitoring/status-patched/.api"
    tag = stored(server, "monitoring", "status-patched")["status"]["tags"][0]
    digest = "sha256:" + 64 * "5"
    item = {**tag["items"][0], "image": digest}
    conditions = [{"type": "ImportSuccess", "status": "False", "generation": 1,
                   "lastTransitionTime": None, "reason": "Test", "message": "none"}]
    patches = {
        "status-json-patch": (JSON_PATCH, [
            {"op": "replace", "path": "/status/tags/0/items/0/image", "value": digest}]),
        "status-merge-patch": (MERGE_PATCH, {"status": {"tags": [
            {"tag": tag["tag"], "items": [item, item]}]}}),
        "status-strategic-merge-patch": (STRATEGIC_PATCH, {"status": {"tags": [
            {"tag": tag["tag"], "items": [item], "conditions": conditions}]}})}
    for name, (_, patch) in patches.items():
        (api / name).write_text(json.dumps(patch))
    yield [("PATCH", "/namespaces/monitoring/imagestreams/status-patched/status", PRETTY, kind,
            patch) for kind, patch in patches.values()]
    found = stored(server, "monitoring", "status-patched")["status"]["tags"][0]
    assert [one["image"] for one in found["items"]] == [digest]
    assert found["conditions"][0]["reason"] == "Test"
    assert bare(json.loads((api / "status-strategic-merge-patch").read_text())) == bare(
        stored(server, "monitoring", "status-patched"))


ROWS = [one for name, one in list(globals().items()) if name.startswith("row_")]


@pytest.mark.parametrize("row", ROWS, ids=[one.__name__[4:] for one in ROWS])
def test_row(rig, row):
    """The request that goes out, and what comes of it, at servers of three ages."""
    rig.server.reset()
    steps = row(rig, rig.server)
    expected = next(steps)
    assert [said(one) for one in requests(rig.server)] == expected
    assert next(steps, None) is None


def test_sixteen_rows():
    assert len(ROWS) == 16


# ---- creating ----


def names(server, namespace):
    return {one["metadata"]["name"]
            for one in server.request("GET", server.streams(namespace))["items"]}


def created(server):
    """Paths of the POSTs and how they went."""
    return [(said(one)[1], one["status"]) for one in requests(server) if one["method"] == "POST"]


DOCUMENTS = """# several, of both kinds
kind: ImageStream
apiVersion: image.openshift.io/v1
metadata: {name: first, labels: {"yes": "on"}}
---
---
{"kind": "List", "apiVersion": "v1", "items": [
  {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1", "metadata": {"name": "second"}},
  {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1", "metadata": {"name": "third"}}]}
---
kind: ImageStreamList
apiVersion: image.openshift.io/v1
items:
- metadata: {name: fourth}
"""


def test_create_documents_and_lists(server, mount):
    server.reset()
    (mount / "dev/.api/create").write_text(DOCUMENTS)
    made = {"first", "second", "third", "fourth"}
    assert made <= names(server, "dev") and made <= set(os.listdir(mount / "dev"))
    assert len(requests(server)) == 4
    assert stored(server, "dev", "first")["metadata"]["labels"] == {"yes": "on"}
    answers = (mount / "dev/.api/create").read_text()
    decoder, at, seen = json.JSONDecoder(), 0, []
    while at < len(answers.rstrip()):
        one, at = decoder.raw_decode(answers, at)
        at += len(answers[at:]) - len(answers[at:].lstrip())
        seen.append(one["metadata"]["name"])
    assert seen == ["first", "second", "third", "fourth"]


@pytest.mark.parametrize("text, why", [
    (json.dumps(manifest("good")) + "\n---\n{\n", "line"),
    ("kind: ImageStream\nmetadata: {name: good}\n---\na: b: c\n", "line"),
    ("\n", "no ImageStream"), ("---\n...\n", "no ImageStream"),
    ("# only a comment\n", "no ImageStream")])
def test_create_sends_nothing_of_a_broken_text(server, mount, text, why):
    server.reset()
    with fails(errno.EINVAL):
        (mount / "dev/.api/create").write_text(text)
    assert requests(server) == []
    path, code, message = last(mount)
    assert (path, code) == ("dev/.api/create", "EINVAL") and why in message
    assert message in json.loads((mount / "dev/.api/create").read_text())["message"]


def test_create_goes_on_after_a_refusal(server, mount):
    texts = [manifest("one"), manifest("scratch"), manifest("Not_A_Name"), manifest("two")]
    with fails(errno.EEXIST):
        (mount / "dev/.api/create").write_text("\n---\n".join(map(json.dumps, texts)))
    assert {"one", "two"} <= names(server, "dev")
    assert last(mount)[1] == "EEXIST" and '"scratch" already exists' in last(mount)[2]
    answers = (mount / "dev/.api/create").read_text()
    assert answers.count('"Failure"') == 2 and answers.count('"name": "two"') == 1


@pytest.mark.parametrize("text, code", [
    ("[1, 2]", errno.EINVAL), ('"text"', errno.EINVAL),
    (json.dumps({**manifest("x"), "spec": {"no-such-field": 1}}), errno.EINVAL),
    (json.dumps({**manifest("x"), "kind": "Deployment"}), errno.EINVAL),
    (json.dumps(manifest("Wrong_Name")), errno.EINVAL),
    (json.dumps(manifest("scratch")), errno.EEXIST)])
def test_create_verdicts(server, mount, text, code):
    before = names(server, "dev")
    with fails(code):
        (mount / "dev/.api/create").write_text(text)
    assert names(server, "dev") == before
    assert last(mount)[1] == errno.errorcode[code]


def test_create_at_the_root_without_a_namespace(start_server, start_mount):
    """OpenShift 4 has no such route; what says so stands in .api/errors."""
    new, old = start_server("--sample"), start_server("--sample", "--flavor", "3.11")
    mount, older = start_mount(new), start_mount(old)
    new.reset()
    with fails(errno.EOPNOTSUPP):
        (mount / ".api/create").write_text(json.dumps(manifest("lost")))
    assert created(new) == [("/imagestreams", 405)]
    assert last(mount)[:2] == (".api/create", "EOPNOTSUPP")
    assert "metadata.namespace" in last(mount)[2]
    with fails(errno.ENOENT):  # 3.x has the route, and says that "" is no namespace
        (older / ".api/create").write_text(json.dumps(manifest("lost")))
    assert last(older)[1] == "ENOENT"


def test_create_at_the_root_into_several_namespaces(server, mount):
    server.reset()
    (mount / ".api/create").write_text("\n---\n".join(json.dumps(manifest("new", namespace=one))
                                                      for one in ("dev", "prod")))
    assert "new" in names(server, "dev") and "new" in names(server, "prod")
    assert created(server) == [
        ("/imagestreams", 405), ("/namespaces/dev/imagestreams", 201),
        ("/imagestreams", 405), ("/namespaces/prod/imagestreams", 201)]
    answer = (mount / ".api/create").read_text()
    assert answer.count('"kind": "ImageStream"') == 2 and "Failure" not in answer


@pytest.mark.parametrize("flavor", FLAVORS)
def test_create_at_the_root_by_who_has_one_namespace(start_server, start_mount, flavor):
    """May nothing at the cluster's route, which a server refuses before it says that there is none."""
    server = start_server("--sample", "--flavor", flavor)
    mount = start_mount(server, "--context", "developer")
    server.reset()
    (mount / ".api/create").write_text(json.dumps(manifest("mine", namespace="dev")))
    assert "mine" in names(server, "dev")
    assert [one[1] for one in created(server)] == [403, 201]
    with fails(errno.EACCES):
        (mount / ".api/create").write_text(json.dumps(manifest("mine", namespace="prod")))
    assert "namespace \"prod\"" in last(mount)[2]


# ---- deleting ----

OPTIONS = {"kind": "DeleteOptions", "apiVersion": "v1"}


def test_delete_sends_every_option(server, mount):
    uid = stored(server, "shop", "api")["metadata"]["uid"]
    options = {"gracePeriodSeconds": 30, "orphanDependents": False,
               "propagationPolicy": "Foreground", "preconditions": {"uid": uid}}
    server.reset()
    (mount / "shop/api/.api/delete").write_text(json.dumps(options))
    assert json.loads(request(server)["body"]) == {**OPTIONS, **options}
    assert not (mount / "shop/api").exists()


def test_delete_with_preconditions_of_ones_own(server, mount):
    for given in ({"uid": "another"}, {"resourceVersion": "1"}):
        server.reset()
        with fails(errno.ESTALE):
            (mount / "shop/api/.api/delete").write_text(json.dumps({"preconditions": given}))
        assert json.loads(request(server)["body"])["preconditions"] == given
        assert "precondition" in last(mount)[2]
    assert (mount / "shop/api/spec.json").exists()


def test_delete_of_one_that_was_made_anew(server, mount):
    """The uid of what the mount shows goes along: what came since isn't deleted."""
    path = mount / "shop/api/.api/delete"
    with fails(errno.ESTALE), opened(path, os.O_WRONLY) as fd:
        os.write(fd, b"{}")
        silence(server)
        server.delete("shop", "api")
        server.create("shop", "api")
        with fails(errno.ESTALE):
            os.fsync(fd)
    assert stored(server, "shop", "api")


@pytest.mark.parametrize("text", ["\n", "[]", "{", "yes", '{"a": 1, "a": 2}', "{} {}"])
def test_delete_wants_options(server, mount, text):
    for path in ("shop/api/.api/delete", "shop/.api/delete"):
        server.reset()
        with fails(errno.EINVAL):
            (mount / path).write_text(text)
        assert requests(server) == []
        assert last(mount)[:2] == (path, "EINVAL") and "DeleteOptions" in last(mount)[2]


def test_delete_with_nothing_written(server, mount):
    server.reset()
    for path in ("shop/api/.api/delete", "shop/.api/delete"):
        (mount / path).write_text("")
        with opened(mount / path, os.O_RDWR):
            pass
    assert requests(server) == []


def test_delete_with_finalizers(server, mount):
    hold = {"metadata": {"finalizers": ["example.test/hold"]}}
    for name in ("api", "worker"):
        server.request("PATCH", server.streams("shop", name), hold,
                       "application/merge-patch+json")
    wait_for(lambda: "finalizers" in (mount / "shop/worker/metadata.json").read_text(), SECONDS)
    (mount / "shop/api/.api/delete").write_text("{}")
    marked = json.loads((mount / "shop/api/metadata.json").read_text())
    assert marked["deletionTimestamp"] and marked["finalizers"] == ["example.test/hold"]
    (mount / "shop/.api/delete").write_text('{"labelSelector": "app=shop"}')
    assert sorted(os.listdir(mount / "shop")) == ["api", "worker"]
    wait_for(lambda: "deletionTimestamp" in (mount / "shop/worker/metadata.json").read_text(),
             SECONDS, "the mark")
    (mount / "shop/api/.api/merge-patch").write_text('{"metadata": {"finalizers": null}}')
    wait_for(lambda: not (mount / "shop/api").exists(), SECONDS, "the end")


def test_delete_that_is_dry(server, mount):
    """Nothing is gone, here neither."""
    (mount / "shop/api/.api/delete").write_text('{"dryRun": ["All"]}')
    (mount / "shop/.api/delete").write_text('{"dryRun": ["All"], "labelSelector": "app"}')
    assert sorted(os.listdir(mount / "shop")) == ["api", "web", "worker"]
    assert names(server, "shop") == {"api", "web", "worker"}
    assert json.loads((mount / "shop/.api/delete").read_text())["items"]


def test_delete_collection_parameters(server, mount):
    given = {"labelSelector": "app=shop", "fieldSelector": "metadata.name=web",
             "includeUninitialized": True, "resourceVersion": "0", "timeoutSeconds": 5}
    server.reset()
    (mount / "shop/.api/delete").write_text(json.dumps({**given, "orphanDependents": True,
                                                        "propagationPolicy": None}))
    looked, deleted = requests(server)
    assert looked["method"] == "GET" and looked["query"] == deleted["query"]
    _, _, query, kind, body = said(deleted)
    assert query == ("pretty=true&labelSelector=app%3Dshop&fieldSelector=metadata.name%3Dweb"
                     "&includeUninitialized=true&resourceVersion=0&timeoutSeconds=5")
    assert (kind, body) == (JSON, {**OPTIONS, "orphanDependents": True,
                                   "propagationPolicy": None})
    assert sorted(os.listdir(mount / "shop")) == ["api", "worker"]


def test_delete_collection_of_all(server, mount):
    (mount / "shop/.api/delete").write_text("{}")
    assert names(server, "shop") == set() and os.listdir(mount / "shop") == []


@pytest.mark.parametrize("given", [{"labelSelector": "a=(b"}, {"fieldSelector": "spec.x=1"},
                                   {"labelSelector": ["a"]}, {"labelSelector": None}])
def test_delete_collection_with_a_wrong_selector(server, mount, given):
    """Above all: never the whole namespace."""
    with fails(errno.EINVAL):
        (mount / "shop/.api/delete").write_text(json.dumps(given))
    assert len(names(server, "shop")) == 3
    assert last(mount)[:2] == ("shop/.api/delete", "EINVAL")


def test_nodelete(server, start_mount):
    mount = start_mount(server, "-o", "nodelete")
    server.reset()
    for path in ("shop/web/.api/delete", "shop/.api/delete"):
        with fails(errno.EPERM):
            (mount / path).write_text("{}")
        assert last(mount) == (path, "EPERM", "mounted with -o nodelete")
    assert requests(server) == []
    (mount / "shop/.api/create").write_text(json.dumps(manifest("made")))


# ---- what others see ----


@contextlib.contextmanager
def watched(*paths):
    inotify = Inotify()
    for path in paths:
        inotify.add(path, path.name)
    yield inotify
    inotify.close()


def seen(inotify, *wanted):
    for one in wanted:
        assert inotify.until(lambda event, one=one: event == one, SECONDS), one


def test_events(mount):
    with watched(mount / "shop", mount / "shop/web") as inotify:
        (mount / "shop/.api/create").write_text(json.dumps(manifest("made")))
        seen(inotify, ("shop", "made", "CREATE|ISDIR"))
        (mount / "shop/web/.api/merge-patch").write_text('{"metadata": {"labels": {"a": "b"}}}')
        seen(inotify, ("web", "metadata.json", "MODIFY"))
        (mount / "shop/web/.api/status-json-patch").write_text(
            '[{"op": "remove", "path": "/status/tags/0"}]')
        seen(inotify, ("web", "status.json", "MODIFY"))
        (mount / "shop/made/.api/delete").write_text("{}")
        seen(inotify, ("shop", "made", "DELETE|ISDIR"))
        (mount / "shop/.api/delete").write_text('{"fieldSelector": "metadata.name=web"}')
        seen(inotify, ("shop", "web", "DELETE|ISDIR"))


def test_events_file(mount):
    with opened(mount / "shop/.api/events", os.O_RDONLY | os.O_NONBLOCK) as fd:
        (mount / "shop/.api/create").write_text(json.dumps(manifest("made")))
        (mount / "shop/made/.api/merge-patch").write_text('{"metadata": {"labels": {"a": "b"}}}')
        (mount / "shop/made/.api/delete").write_text("{}")
        text = b""
        while text.count(b"\n") < 3:
            text += wait_for(lambda: read_some(fd), SECONDS, "an event")
    assert [json.loads(line)["type"] for line in text.splitlines()] == [
        "ADDED", "MODIFIED", "DELETED"]


def test_what_is_answered_is_shown(server, mount):
    """At once, whether the watch or the answer comes first."""
    stream = mount / "shop/web"
    for number in range(60):
        server.fault(method="PATCH", after=True, delay=number % 6 * 0.002)
        if number % 3 == 0:  # somebody else's change is on its way
            server.label("shop", "web", other=str(number))
        (stream / ".api/merge-patch").write_text(json.dumps({"metadata": {
            "labels": {"n": str(number) * (1 + number % 7)}}}))
        labels = json.loads((stream / "metadata.json").read_text())["labels"]
        assert labels["n"] == str(number) * (1 + number % 7)
        assert json.loads((stream / "imagestream.json").read_text())["metadata"][
            "labels"] == labels


# ---- whose close, and its verdict ----

PATCH = '{"metadata": {"labels": {"a": "b"}}}'


def test_a_child_writes_for_its_parent(server, mount):
    path = mount / "shop/web/.api/merge-patch"
    server.reset()
    done = subprocess.run(["bash", "-c", "( printf '{\"metadata\": {\"labels\": '; printf "
                           f"'{{\"a\": \"b\"}}}}}}' ) > {path}"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(request(server)["body"]) == json.loads(PATCH)
    done = subprocess.run(["bash", "-c", f"exec 3> {path}; /bin/echo '{PATCH}' >&3; "
                           f"/bin/echo ' ' >&3; exec 3>&-"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(requests(server)) == 2


def test_a_killed_writer_sends_nothing(server, mount):
    server.reset()
    code = ("import os, sys\nfd = os.open(sys.argv[1], os.O_WRONLY)\nos.write(fd, b'{}')\n"
            "print(flush=True)\nsys.stdin.read()\n")
    child = subprocess.Popen([sys.executable, "-c", code, mount / "shop/api/.api/delete"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close()
    child.stdout.close()
    wait_for(lambda: not writers(mount), SECONDS, "the release")
    assert requests(server) == [] and stored(server, "shop", "api")


def writers(mount):
    """Handles that are open for writing."""
    return int(re.search(r"^imagestreamfs_drafts (\d+)", (mount / ".api/metrics").read_text(),
                         re.M)[1])


@pytest.mark.parametrize("status, reason, at_close, at_fsync", [
    (409, "Conflict", errno.ESTALE, errno.ESTALE), (422, None, errno.EINVAL, errno.EIO),
    (403, None, errno.EACCES, errno.EACCES), (404, None, errno.ESTALE, errno.ESTALE),
    (400, None, errno.EINVAL, errno.EIO), (415, None, errno.EINVAL, errno.EIO),
    (405, None, errno.EOPNOTSUPP, errno.EOPNOTSUPP), (413, None, errno.EFBIG, errno.EFBIG),
    (500, None, errno.EIO, errno.EIO)])
def test_verdicts(server, mount, status, reason, at_close, at_fsync):
    server.reset()
    fault = {"method": "PATCH", "status": status, "message": f"no: {status}", "count": 2}
    server.fault(**fault, **({"reason": reason} if reason else {}))
    path = mount / "shop/web/.api/json-patch"
    with fails(at_close):
        path.write_text("[]")
    noted = {404: "ENOENT", 405: "EOPNOTSUPP"}.get(status, errno.errorcode[at_close])
    assert last(mount) == ("shop/web/.api/json-patch", noted, f"no: {status}")
    answer = json.loads(path.read_text())
    assert (answer["kind"], answer["code"], answer["message"]) == (
        "Status", status, f"no: {status}")
    with pytest.raises(OSError) as closed, opened(path, os.O_WRONLY) as fd:
        os.write(fd, b"[]")
        for _ in range(2):  # the second is the verdict again, and no request
            with fails(at_fsync):
                os.fsync(fd)
    assert closed.value.errno == at_close
    assert len(requests(server)) == 2
    assert (mount / "shop/web/spec.json").exists()


def test_a_patch_goes_out_as_it_was_written(server, mount):
    text = '[ {"op":"test",  "path":"/kind","value":"ImageStream"} ]\n'
    server.reset()
    (mount / "shop/web/.api/json-patch").write_text(text)
    assert request(server)["body"] == text
    for wrong in ("nothing like JSON", '{"an": "object"}'):
        server.reset()
        with fails(errno.EINVAL):
            (mount / "shop/web/.api/json-patch").write_text(wrong)
        assert request(server)["body"] == wrong


def test_once_an_open(server, mount):
    path = mount / "shop/web/.api/merge-patch"
    server.reset()
    with opened(path, os.O_RDWR) as fd:
        os.write(fd, PATCH.encode())
        os.fsync(fd)
        os.fsync(fd)
        os.close(os.dup(fd))
        with fails(errno.EINVAL):
            os.write(fd, b"more")
    assert len(requests(server)) == 1


def waiting_writer(server, mount, path):
    """A shell's echo whose close waits for a server that hangs."""
    server.reset()
    server.fault(path="/shop/", hang=True)
    writer = subprocess.Popen(["/bin/sh", "-c", f"echo '{PATCH}' > {mount / path}"],
                              stderr=subprocess.PIPE)
    wait_for(lambda: requests(server), SECONDS, "the request")
    return writer


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_the_wait(server, mount, sig):
    for path in ("shop/web/.api/merge-patch", "shop/web/tags/1.0/.api/import"):
        writer = waiting_writer(server, mount, path)
        with at_most(5):
            writer.send_signal(sig)
            writer.communicate()
        wait_for(lambda path=path: last(mount)[:2] == (path, "EINTR"), SECONDS, "the note")
        assert len(requests(server)) == 1  # and not again at the release
    server.control("DELETE", "faults")


def test_the_end_ends_the_wait(server, start_mount):
    for path in ("shop/web/.api/merge-patch", "shop/web/tags/1.0/.api/import"):
        mount = start_mount(server)
        writer = waiting_writer(server, mount, path)
        assert mount.stop() < STOP_SECONDS
        writer.communicate()
        server.control("DELETE", "faults")


# ---- answers ----


def test_an_answer_stays_until_the_next(server, mount):
    path = mount / "shop/web/.api/merge-patch"
    assert path.read_text() == ""
    path.write_text(PATCH)
    first = json.loads(path.read_text())
    assert first["metadata"]["labels"]["a"] == "b"
    assert bare(first) == bare(stored(server, "shop", "web"))
    server.label("shop", "web", a="c")
    assert json.loads(path.read_text()) == first
    assert path.stat().st_size == 0
    assert (mount / "shop/web/.api/json-patch").read_text() == ""
    assert (mount / "shop/api/.api/merge-patch").read_text() == ""
    with fails(errno.EINVAL):
        path.write_text("{")
    assert json.loads(path.read_text())["status"] == "Failure"
    with open(path, "w"):
        pass  # writes nothing, sends nothing
    assert json.loads(path.read_text())["status"] == "Failure"


STRANGER = """
import errno, json, os, sys
seen = {}
for path in sys.argv[1:]:
    for flags in (os.O_RDONLY, os.O_WRONLY):
        try:
            os.close(os.open(path, flags))
            seen[path, flags] = 0
        except OSError as error:
            seen[path, flags] = error.errno
print(json.dumps([[*key, value] for key, value in seen.items()]))
"""


def test_the_last_answers_are_kept(server, mount):
    """However many files are written to."""
    paths = [stream / ".api" / name for name in ("delete", "json-patch", "merge-patch")
             for stream in sorted((mount / "openshift").iterdir()) + sorted((mount / "shop").iterdir())]
    assert len(paths) > 64
    for path in paths:
        with fails(errno.EINVAL):
            path.write_text("{")
    assert [bool(path.read_text()) for path in paths] == [False] * (len(paths) - 64) + [True] * 64
    with fails(errno.EINVAL):
        paths[-64].write_text("[")
    assert all(path.read_text() for path in paths[-64:]), "an answer that took another's place"


def test_answers_and_secrets_are_the_owners(server, start_mount):
    mount = start_mount(server, "-o", "allow_other")
    mount.directory.chmod(0o755)
    (mount / "shop/web/.api/merge-patch").write_text(PATCH)
    own = [mount / "shop/web/.api" / name for name in (
        "merge-patch", "json-patch", "delete", "status-replace", "secrets.json")]
    own += [mount / "shop/.api/create", mount / ".api/refresh", mount / "shop/.api/delete",
            mount / "shop/web/tags/latest/.api/import"]
    others = [mount / "shop/web/.api/fresh.json", mount / "shop/web/.api/status.json"]
    server.reset()
    done = subprocess.run(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
                           sys.executable, "-c", STRANGER, *own, *others],
                          capture_output=True, text=True, check=True)
    for path, flags, code in json.loads(done.stdout):
        allowed = flags == os.O_RDONLY and pathlib.Path(path) in others
        assert code == (0 if allowed else errno.EACCES), (path, flags)
    assert len(requests(server)) == len(others)
    assert own[4].stat().st_mode & 0o777 == 0o400
    assert {one.stat().st_mode & 0o777 for one in own[:4] + own[5:]} == {0o600}


def test_read_only(server, start_mount):
    mount = start_mount(server, "--read-only")
    server.reset()
    for path in ("shop/web/.api/merge-patch", "shop/web/.api/delete", "shop/.api/delete",
                 ".api/create", "shop/web/tags/latest/.api/import"):
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
            with fails(errno.EROFS):
                os.open(mount / path, flags)
        assert (mount / path).stat().st_mode & 0o777 == 0o400
        assert (mount / path).read_text() == ""
    assert requests(server) == []
    for name in ("fresh.json", "fresh.yaml", "status.json", "export.json", "secrets.json"):
        assert (mount / "shop/web/.api" / name).read_text()
    assert os.listdir(mount / "shop/.api/select/tier=web") == ["web"]
    assert (mount / ".api/version").read_text()


def test_noopen_has_none_of_it(server, start_mount):
    mount = start_mount(server, "-o", "noopen")
    (mount / "shop/web/spec.json").read_text()
    for name in (".api/version", "shop/web/.api/fresh.json", "shop/.api/create"):
        assert not (mount / name).exists()


# ---- what is fetched ----


def negative(path, code):
    """Opening fails with it."""
    with fails(code):
        os.open(path, os.O_RDONLY)


def test_fresh_is_past_every_cache(server, mount):
    path = mount / "shop/web/.api/fresh.json"
    path.read_text()
    silence(server)
    server.label("shop", "web", unseen="1")
    server.reset()
    for number in range(1, 4):
        assert json.loads(path.read_text())["metadata"]["labels"]["unseen"] == "1"
        assert len(requests(server)) == number
    assert "unseen" not in (mount / "shop/web/metadata.json").read_text()
    with opened(path) as fd:  # one version an open
        first = os.read(fd, 100)
        server.label("shop", "web", unseen="2")
        rest = b"".join(iter(lambda: os.read(fd, 100), b""))
        assert json.loads(first + rest)["metadata"]["labels"]["unseen"] == "1"
    assert path.stat().st_size == 0


def test_tools_that_seek(server, mount):
    path = mount / "shop/web/.api/fresh.json"
    text = path.read_text()
    for command, expected in ((["head", "-n", "2"], "".join(text.splitlines(True)[:2])),
                              (["tail", "-n", "2"], "".join(text.splitlines(True)[-2:])),
                              (["tail", "-c", "+5"], text[4:]), (["head", "-c", "7"], text[:7]),
                              (["grep", "-c", "kind"], f"{text.count('kind')}\n")):
        done = subprocess.run([*command, path], capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == (expected, ""), command


def test_fresh_yaml(server, mount):
    server.reset()
    text = (mount / "shop/web/.api/fresh.yaml").read_text()
    assert request(server)["headers"]["accept"] == "application/yaml"
    assert not text.startswith("{")
    assert bare(yaml.safe_load(text.replace("!!timestamp", ""))).keys() == bare(
        stored(server, "shop", "web")).keys()
    assert yaml.load(text, yaml.BaseLoader)["metadata"]["name"] == "web"


def test_fresh_pb(server, mount):
    """Raw bytes, whatever they are; the embedded server doesn't speak it."""
    path = mount / "shop/web/.api/fresh.pb"
    server.reset()
    negative(path, errno.EOPNOTSUPP)
    one = request(server)
    assert (one["status"], one["headers"]["accept"]) == (406, PROTOBUF)
    assert last(mount)[:2] == ("shop/web/.api/fresh.pb", "EOPNOTSUPP")
    assert "Not Acceptable" in last(mount)[2]
    text = "k8s\0\n\x18\n\x04\x01\x7f binary"
    server.fault(path="/web$", text=text)
    assert path.read_bytes() == text.encode()


@pytest.mark.parametrize("name", ["fresh.json", "fresh.yaml", "status.json", "layers.json",
                                  "secrets.json", "export.json"])
def test_fetches_that_are_refused(server, mount, name):
    path = mount / "shop/web/.api" / name
    for status, code in ((403, errno.EACCES), (409, errno.EBUSY), (500, errno.EIO),
                         (405, errno.EOPNOTSUPP)):
        server.fault(path="/shop/imagestreams/web", status=status, message=f"no: {status}")
        negative(path, code)
        assert last(mount)[0] == f"shop/web/.api/{name}" and last(mount)[2] == f"no: {status}"
    assert path.read_text()


def test_fetches_of_a_stream_that_is_gone(server, mount):
    """A stream that isn't there is no subresource that isn't there."""
    silence(server)
    server.delete("shop", "web")
    for name in ("fresh.json", "status.json", "layers.json", "export.json"):
        negative(mount / "shop/web/.api" / name, errno.ENOENT)
        assert '"web" not found' in last(mount)[2]


@pytest.mark.parametrize("flavor", FLAVORS)
def test_layers(start_server, start_mount, flavor):
    server = start_server("--sample", "--flavor", flavor)
    mount = start_mount(server)
    path = mount / "shop/web/.api/layers.json"
    server.reset()
    if flavor == "3.7":
        negative(path, errno.EOPNOTSUPP)
        assert last(mount)[1:] == (
            "EOPNOTSUPP", "the server could not find the requested resource")
    else:
        assert json.loads(path.read_text())["kind"] == "ImageStreamLayers"
    assert said(request(server)) == (
        "GET", "/namespaces/shop/imagestreams/web/layers", PRETTY, None, None)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_version(start_server, start_mount, flavor):
    server = start_server("--sample", "--flavor", flavor)
    mount = start_mount(server)
    server.reset()
    version = json.loads((mount / ".api/version").read_text())
    assert (request(server)["path"], version) == ("/version", server.request("GET", "/version"))


@pytest.mark.parametrize("flavor", FLAVORS)
def test_export(start_server, start_mount, flavor):
    """By the server up to Kubernetes 1.20, made here after that: postable anywhere else."""
    server = start_server("--sample", "--flavor", flavor)
    mount = start_mount(server)
    for name, query, namespace in (("export.json", "export=true", None),
                                   ("export-exact.json", "export=true&exact=true", "shop")):
        server.reset()
        text = (mount / "shop/web/.api" / name).read_text()
        copy = json.loads(text)
        one = request(server)
        assert said(one)[1] == "/namespaces/shop/imagestreams/web"
        assert one["query"] == ("" if flavor == "4" else query + "&pretty=true")
        assert text.startswith('{\n  "kind"') and text.endswith("}\n")
        assert copy["metadata"].get("namespace") == namespace
        assert set(copy["metadata"]) <= {"name", "namespace", "labels", "annotations",
                                         "generation", "selfLink"}
        assert copy["metadata"].get("generation", 1) == 1
        assert not copy.get("status", {}).get("tags")
        tags = copy["spec"]["tags"]
        assert [one["name"] for one in tags] == ["1.0", "1.1", "2.0", "latest", "stable"]
        copy["metadata"]["name"] = "copy"
        (mount / ("shop" if namespace else "dev") / ".api/create").write_text(json.dumps(copy))
        made = stored(server, namespace or "dev", "copy")
        assert [one["from"] for one in made["spec"]["tags"]] == [one["from"] for one in tags]


@pytest.mark.parametrize("answer", ["unknown", "ignored"])
def test_export_where_the_server_has_none_and_does_not_say(start_server, start_mount, answer):
    """A version that isn't known, and export=true refused or ignored: a copy made here."""
    server = start_server("--sample", "--flavor", "3.11")
    server.fault(path="^/version$", json={"major": "1", "minor": "20+"}, count=9)
    mount = start_mount(server)
    plain = server.get("shop", "web")
    if answer == "unknown":
        server.fault(path="export=true", status=400)
    else:
        server.fault(path="export=true", json=plain)
    before = len(requests(server))
    copy = json.loads((mount / "shop/web/.api/export.json").read_text())
    assert "status" not in copy and "uid" not in copy["metadata"]
    assert all("generation" not in one for one in copy["spec"]["tags"])
    assert [one["query"] for one in requests(server)[before:]] == (
        ["export=true&pretty=true", ""] if answer == "unknown" else ["export=true&pretty=true"])


# ---- secrets ----


def copies(pid, needle):
    """How often the process has it in its memory."""
    found = 0
    with open(f"/proc/{pid}/mem", "rb", 0) as memory, open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            place, mode, *_ = line.split()
            begin, end = (int(one, 16) for one in place.split("-"))
            if not mode.startswith("rw") or end - begin > 1 << 32 or "[v" in line:
                continue  # a sanitizer's shadow
            with contextlib.suppress(OSError):
                memory.seek(begin)
                found += memory.read(end - begin).count(needle)
    return found


def is_sanitized(pid):
    return b"asan" in pathlib.Path(f"/proc/{pid}/maps").read_bytes()


def locked(pid):
    """kB that don't go to the swap."""
    return int(re.search(r"^VmLck:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(),
                         re.M)[1])


def test_a_secret_is_wiped(server, mount):
    """What this program, its libraries' buffers and its stacks hold of it ends with the file; but the TLS
    library frees the buffer of the last record as it is, and that copy lasts until the memory is
    used again. A connection of its own at least takes that buffer out of use."""
    path, pid = mount / "shop/web/.api/secrets.json", mount.process.pid
    if is_sanitized(pid):
        skip_for(pinned("TLS library", "13"))  # it frees two buffers, and the sanitizer keeps what is freed
    add_secret(server)
    with opened(path) as fd:
        assert SECRET.encode() in os.read(fd, 1 << 20)
        assert copies(pid, SECRET.encode()) >= 1
        assert is_sanitized(pid) or locked(pid) > 0
    wait_for(lambda: copies(pid, SECRET.encode()) <= 1, SECONDS, "the wiping")
    assert locked(pid) == 0


def test_a_large_secret_is_wiped(server, mount):
    """In many pieces: the buffers that it outgrew are wiped, too."""
    value = "".join(f"{number:012d}" for number in range(20000))
    add_secret(server, value=value)
    with opened(mount / "shop/web/.api/secrets.json") as fd:
        text = b"".join(iter(lambda: os.read(fd, 1 << 16), b""))
        assert value.encode() in text
    pid, first = mount.process.pid, value[:9000].encode()
    # The sanitizer keeps what is freed, so each record's buffer is there still, once.
    wait_for(lambda: copies(pid, first) <= is_sanitized(pid), SECONDS, "the wiping")


def test_a_secret_is_in_no_log(server, start_mount):
    add_secret(server)
    mount = start_mount(server, "-v", "-v")
    mount.expect("")
    path = mount / "shop/web/.api/secrets.json"
    server.reset()
    assert SECRET in path.read_text() and SECRET in path.read_text()
    assert len(requests(server)) == 2
    server.fault(path="/secrets", status=403, message="not yours")
    negative(path, errno.EACCES)
    for text in (mount.stderr.read_text(), (mount / ".api/errors").read_text(),
                 (mount / ".api/status.json").read_text(), (mount / ".api/metrics").read_text()):
        assert SECRET not in text and server.token not in text
    assert "/secrets" in mount.stderr.read_text()


# ---- importing ----


@pytest.mark.parametrize("flavor", FLAVORS)
def test_import(start_server, start_mount, flavor):
    """The tag's own source and policies, whole: what is left out would be reset."""
    server = start_server("--sample", "--flavor", flavor)
    mount = start_mount(server)
    before = stored(server, "monitoring", "grafana")
    path = mount / "monitoring/grafana/tags/latest/.api/import"
    server.reset()
    path.write_text("now\n")
    one = request(server)
    assert said(one)[:4] == ("POST", "/namespaces/monitoring/imagestreamimports", "", JSON)
    body, tag = json.loads(one["body"]), before["spec"]["tags"][1]
    assert body["metadata"] == {"name": "grafana", "namespace": "monitoring",
                                "uid": before["metadata"]["uid"]}
    assert body["spec"] == {"import": True, "images": [{
        "from": tag["from"], "to": {"name": "latest"}, "importPolicy": tag["importPolicy"],
        "referencePolicy": tag["referencePolicy"]}]}
    assert tag["importPolicy"]["insecure"]
    after = stored(server, "monitoring", "grafana")
    image = after["status"]["tags"][1]["items"][0]["dockerImageReference"]
    assert image != before["status"]["tags"][1]["items"][0]["dockerImageReference"]
    assert (mount / "monitoring/grafana/tags/latest/image").read_text() == image + "\n"
    assert after["spec"]["tags"][1]["importPolicy"] == tag["importPolicy"]
    answer = json.loads(path.read_text())
    assert answer["status"]["images"][0]["status"]["status"] == "Success"


def test_import_that_fails(server, mount):
    """Also under HTTP 201; what it left in the stream is shown."""
    server.control("POST", "imports", {"fail": "worker"})
    path = mount / "shop/worker/tags/latest/.api/import"
    server.reset()
    with fails(errno.EIO):
        path.write_text("now\n")
    assert request(server)["status"] == 201
    sentence = 'dockerimage.image.openshift.io "quay.io/example/worker:latest" not found'
    assert last(mount) == ("shop/worker/tags/latest/.api/import", "EIO", sentence)
    image = json.loads(path.read_text())["status"]["images"][0]
    assert image["status"]["message"] == sentence
    shown = json.loads((mount / "shop/worker/tags/latest/status.json").read_text())
    assert shown["conditions"][0]["message"] == sentence and len(shown["items"]) == 4


@pytest.mark.parametrize("path", ["shop/web/tags/latest", "shop/api/tags/v1",
                                  "shop-staging/web/tags/latest"])
def test_import_without_an_image_to_import(server, mount, path):
    server.reset()
    with fails(errno.EINVAL):
        (mount / path / ".api/import").write_text("now\n")
    assert requests(server) == []
    assert last(mount)[:2] == (path + "/.api/import", "EINVAL")
    assert "DockerImage" in last(mount)[2]


def test_import_meets_a_conflict(server, mount):
    server.fault(path="imagestreamimports", status=409, count=3)
    before = len(requests(server))
    (mount / "shop/web/tags/1.0/.api/import").write_text("now\n")
    assert [one["status"] for one in requests(server)[before:]] == [409, 409, 409, 201]
    assert '"code":409' not in (mount / "shop/web/tags/1.0/.api/import").read_text()
    server.fault(path="imagestreamimports", status=409, count=99)
    before = len(requests(server))
    with fails(errno.ESTALE):
        (mount / "shop/web/tags/1.0/.api/import").write_text("now\n")
    assert len(requests(server)) - before == 10


def test_import_of_a_stream_that_was_made_anew(server, mount):
    silence(server)
    server.delete("shop", "web")
    server.create("shop", "web")
    with fails(errno.ESTALE):
        (mount / "shop/web/tags/1.0/.api/import").write_text("now\n")
    assert "tags" not in stored(server, "shop", "web")["spec"]


def test_import_may_take_longer_than_a_request(server, start_mount):
    """Registries are slow: 60 s, whatever --request-timeout says."""
    mount = start_mount(server, "--request-timeout", "1s")
    server.fault(path="imagestreamimports", delay=2.5)
    (mount / "shop/web/tags/1.0/.api/import").write_text("now\n")
    server.fault(method="PATCH", hang=True)
    with fails(errno.ETIMEDOUT):
        (mount / "shop/web/.api/merge-patch").write_text("{}")
    server.control("DELETE", "faults")


def test_import_holds_up_no_save(server, start_mount):
    mount = start_mount(server, "--request-timeout", "1s")
    path = mount / "shop/web/tags/1.0/.api/import"
    importer = threading.Thread(target=path.write_text, args=("now\n",))
    server.reset()
    server.fault(path="imagestreamimports", delay=4)
    importer.start()
    wait_for(lambda: requests(server), SECONDS, "the import")
    (mount / "shop/web/.api/merge-patch").write_text(PATCH)
    assert importer.is_alive()
    importer.join()
    assert json.loads(path.read_text())["status"]["images"][0]["status"]["status"] == "Success"
    assert json.loads((mount / "shop/web/metadata.json").read_text())["labels"]["a"] == "b"


def test_import_of_odd_tags(server, mount):
    odd = "a/b:c%"
    server.request("PATCH", server.streams("shop", "web"), {"spec": {"tags": [
        {"name": odd, "from": {"kind": "DockerImage", "name": "quay.io/example/odd:1"}}]}},
        "application/merge-patch+json")
    directory = mount / "shop/web/tags/a%2Fb:c%25"
    wait_for(directory.exists, SECONDS, "the tag")
    server.reset()
    (directory / ".api/import").write_text("now\n")
    assert json.loads(request(server)["body"])["spec"]["images"][0]["to"] == {"name": odd}
