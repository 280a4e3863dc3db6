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
import time

import pytest
import yaml
from conftest import STOP_SECONDS, Mount, Server, wait_for

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


@contextlib.contextmanager
def opened(path, flags=os.O_RDONLY):
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def fails(code):
    return pytest.raises(OSError, match=re.escape(f"[Errno {code}]"))


def requests(server, watches=False):
    """What the program has sent since the last reset."""
    return [one for one in server.control("GET", "requests")["requests"]
            if one["headers"].get("user-agent", "").startswith("imagestreamfs")
            and watches == ("watch=true" in one["query"])]


def request(server):
    sent = requests(server)
    assert len(sent) == 1, sent
    return sent[0]


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
    yield [("POST", "/namespaces/dev/imagestreams", STRICT, JSON, manifest("yaml"))]
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
    yield [("DELETE", "/namespaces/shop/imagestreams",
            "pretty=true&labelSelector=app%3Dshop%2Ctier%21%3Dweb", JSON,
            {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0})]
    assert os.listdir(mount / "shop") == ["web"]
    assert json.loads((mount / "shop/.api/delete").read_text())["kind"] == "ImageStreamList"


def row_secrets(mount, server):
    secrets = json.loads((mount / "monitoring/read/.api/secrets.json").read_text())
    yield [("GET", "/namespaces/monitoring/imagestreams/read/secrets", PRETTY, None, None)]
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
