"""The recordings of copying and tagging (i to l): namespaces, rights and streams of their own."""

import contextlib
import re

import replay
from special import image_import_answers, recorded, special

SPACES = ("base", "hidden", "team")
RIGHTS = [{"user": "developer", "role": "edit", "namespace": "team"},
          {"user": "developer", "role": "view", "namespace": "base"}]
NO_LAYERS = {"user": "developer", "namespace": "hidden", "rules": [{
    "resources": ["imagestreams", "imagestreamtags", "imagestreamimages"],
    "verbs": ["get", "list", "watch"]}]}
DIGESTS = {"1.0": "sha256:10aadcb22f39b3879b66cc3237aa0278e946b984b0a67295c887485621e0111c",
           "2.0": "sha256:8037d1cc70aa01cc50fa08ff409b706af1ebdbab9787cc483808b42e93440323"}
APP = "registry.example.test:5000/demo/app"


@contextlib.contextmanager
def spaces(server):
    """The namespaces and the rights of these recordings."""
    server.control("bulk", [{"op": "create-namespace", "name": name} for name in SPACES])
    for right in RIGHTS:
        server.control("grant", right)
    try:
        yield
    finally:
        for right in RIGHTS:
            server.control("revoke", right)
        server.control("bulk", [{"op": "clear"}] + [
            {"op": "delete-namespace", "name": name} for name in SPACES])


def tag(name, generation=1, image="1.0", **more):
    return {"name": name, "annotations": None, "generation": generation,
            "from": {"kind": "DockerImage", "name": "%s:%s" % (APP, image)},
            "importPolicy": {"insecure": True, "importMode": "Legacy"},
            "referencePolicy": {"type": "Source"}, **more}


def item(image, generation=1, created="2026-11-28T20:05:31Z"):
    return {"created": created, "image": DIGESTS[image], "generation": generation,
            "dockerImageReference": "%s@%s" % (APP, DIGESTS[image])}


def stream(namespace, name, rv, tags=(), history=None, **meta):
    return {"metadata": {"name": name, "namespace": namespace, "resourceVersion": str(rv),
                         "generation": 1, "creationTimestamp": "2026-11-28T20:05:30Z", **meta},
            "spec": {"lookupPolicy": {"local": False}, "tags": list(tags)},
            "status": {"dockerImageRepository": "", "tags": [
                {"tag": name, "items": items} for name, items in (history or {}).items()]}}


def web(namespace, rv=600, **meta):
    return stream(namespace, "web", rv, [tag("1.0"), tag("2.0", 3, "2.0")],
                  {"1.0": [item("1.0")], "2.0": [item("2.0", 3)]}, **meta)


def of_answer(one, rv, tags=()):
    """The stream that an answer shows, before the write: empty, or with these tags."""
    meta = one.answer_json()["metadata"]
    return stream(meta["namespace"], meta["name"], rv, tags, uid=meta["uid"],
                  creationTimestamp=meta["creationTimestamp"])


def of_tag(one, items):
    """The stream of the imagestreamtag that an answer shows."""
    value = one.answer_json()
    meta = value["metadata"]
    name = meta["name"].partition(":")[0]
    return stream(meta["namespace"], name, meta["resourceVersion"], [value["tag"]],
                  {value["tag"]["name"]: items}, uid=meta["uid"],
                  creationTimestamp=meta["creationTimestamp"])


def listed_stream(one):
    """The stream whose tags a list of imagestreamtags shows."""
    items = one.answer_json()["items"]
    meta = items[0]["metadata"]
    history = {}
    for value in items:
        name = value["metadata"]["name"].partition(":")[2]
        history[name] = [{
            "created": value["metadata"]["creationTimestamp"], "generation": value["generation"],
            "image": value["image"]["metadata"]["name"],
            "dockerImageReference": value["image"]["dockerImageReference"]}]
    return stream(meta["namespace"], "ap1", meta["resourceVersion"],
                  [value["tag"] for value in items if value["tag"]], history, uid=meta["uid"])


def written(one):
    """The stream that a PUT was sent over: that of the body, with other labels and owners."""
    value = one.request_json()
    value["metadata"] = {**value["metadata"], "labels": {"q": "1"}, "managedFields": [{
        "manager": "unknown", "operation": "Update", "apiVersion": value["apiVersion"],
        "time": "2026-11-28T20:11:17Z", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:q": {}}}}}]}
    return value


def created_again(one):
    """The stream whose uid the refusal tells."""
    value = one.request_json()
    value["metadata"]["uid"] = re.search(r"UID in object meta: ([0-9a-f-]+)", one.answer)[1]
    return value


STREAMS = {
    "i0-post-c-all": lambda one: [],
    "i1-put-managedFields-empty": lambda one: [written(one)],
    "i1-put-other-uid-right-rv": lambda one: [created_again(one)],
    "j0-tag-docker-missing-after": lambda one: [one.answer_json()],
    "j0-tag-isimage-ns": lambda one: [of_answer(one, 700), web("base")],
    "j0-tag-istag-other-ns": lambda one: [of_answer(one, 700), web("base")],
    "j1-dev-get-but-no-layers-ImageStreamTag": lambda one: [
        stream("team", "dd-nolayers", 800), web("hidden")],
    "k0-apply-create": lambda one: [],
    "k0-apply-dup-tags": lambda one: [],
    "k0-apply-unknown-field-spec": lambda one: [],
    "k0-apply-over-import-made-change": lambda one: [
        stream("team", "new2", 780, [tag("1.0")], {"1.0": [item("1.0")]})],
    "k1-dryrun-post": lambda one: [],
    "l0-istag": lambda one: [of_tag(one, [item("1.0", 6, "2026-11-28T20:05:30Z")])],
    "l1-isimage-missing-digest": lambda one: [web("team")],
    "l1-istag-missing-stream": lambda one: [],
    "l2-istag-list-limit-1": lambda one: [listed_stream(one), web("team")],
    "l3-ml-preserve-istag": lambda one: [of_tag(one, [{
        "created": "2026-11-28T20:14:38Z", "generation": 2,
        "image": one.answer_json()["image"]["metadata"]["name"],
        "dockerImageReference": one.answer_json()["image"]["dockerImageReference"]}])],
}


@special(*STREAMS)
def copying(server, one):
    with spaces(server):
        if one.name.startswith("j1-dev-get-but-no-layers"):
            server.control("grant", NO_LAYERS)
        replay.check(server, one, replay.seed(server, one, STREAMS[one.name](one)))


@special("k1-dryrun-import")
def dry_import(server, one):
    with spaces(server):
        recorded_value, value = image_import_answers(server, one)
        assert value == recorded_value
        name = one.request_json()["metadata"]["name"]
        assert server.call("GET", "%s/namespaces/team/imagestreams/%s" % (replay.GROUP, name))[
            0] == 200


# The requests of oc, in the order of the recorded session.

def sessions():
    """[(the command, [(method, path, status, body or None)])] of j2."""
    text = recorded("j2-oc-tag-and-import-requests").text
    out = []
    for block in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, _, rest = block.partition("\n")
        requests = []
        for line in rest.split("\n"):
            match = re.match(r"  ([A-Z]+) (/\S+) -> (\d+)", line)
            if match:
                requests.append([match[1], match[2], int(match[3]), None])
            elif line.startswith("      body: "):
                requests[-1][3] = line[len("      body: "):]
        out.append((command, requests))
    return out
