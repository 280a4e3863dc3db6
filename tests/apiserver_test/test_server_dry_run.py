"""dryRun=All: the same answers, and nothing stored; but for imports."""

import json

import pytest

import copying

pytestmark = pytest.mark.xdist_group("dry")  # one server, which each test leaves in some state

GROUP = "/apis/image.openshift.io/v1/namespaces/team/"
STREAMS = GROUP + "imagestreams"
DRY = "?dryRun=All"
KINDS = {"merge": "application/merge-patch+json", "json": "application/json-patch+json",
         "strategic": "application/strategic-merge-patch+json",
         "apply": "application/apply-patch+yaml"}
NEW = {"name": "new", "from": {"kind": "DockerImage", "name": "a.test/b:1"}}


@pytest.fixture(scope="module")
def server(start_server):
    return start_server("--project-delay", "0.1")


@pytest.fixture(autouse=True)
def unchanged(server):
    """A stream in a store that no test changes."""
    with copying.spaces(server):
        server.control("bulk", [{"op": "create", "object": copying.web("team")}])
        before = everything(server)
        yield
        assert everything(server) == before


def everything(server):
    return server.call("GET", STREAMS)[1]["items"]


def get(server, name="web"):
    return server.call("GET", STREAMS + "/" + name)[1]


def stream(name, *tags):
    return {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
            "metadata": {"name": name}, "spec": {"tags": list(tags)}}


def test_post(server):
    status, made = server.call("POST", STREAMS + DRY, stream("dry", NEW))
    assert status == 201 and made["metadata"]["uid"] and made["metadata"]["generation"] == 1
    assert "resourceVersion" not in made["metadata"]
    assert server.call("POST", STREAMS + DRY, stream("web"))[0] == 409
    assert server.call("POST", STREAMS + DRY, stream("Bad_"))[0] == 422


def test_put(server):
    obj = get(server)
    changed = {**obj, "spec": {"tags": obj["spec"]["tags"] + [NEW]}}
    status, answer = server.call("PUT", STREAMS + "/web" + DRY, changed)
    assert status == 200 and len(answer["spec"]["tags"]) == 3
    assert answer["metadata"]["generation"] == obj["metadata"]["generation"] + 1
    assert answer["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]
    labelled = {**obj, "metadata": {**obj["metadata"], "labels": {"a": "b"}}}
    status, answer = server.call("PUT", STREAMS + "/web" + DRY, labelled)
    assert (status, answer["metadata"]["generation"]) == (200, obj["metadata"]["generation"])
    changed["metadata"] = {**obj["metadata"], "resourceVersion": "1"}
    assert server.call("PUT", STREAMS + "/web" + DRY, changed)[0] == 409


@pytest.mark.parametrize("kind", KINDS)
def test_patch(server, kind):
    obj = get(server)
    value = [{"op": "add", "path": "/spec/tags/-", "value": NEW}] if kind == "json" \
        else {**stream("web", NEW), "status": {}}
    query = DRY + ("&fieldManager=m" if kind == "apply" else "")

    def patch(value):
        return server.call("PATCH", STREAMS + "/web" + query, value, Content_Type=KINDS[kind])
    status, answer = patch(value)
    assert status == 200, answer
    assert answer["metadata"]["generation"] == obj["metadata"]["generation"] + 1
    assert answer["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]
    if kind == "json":
        value = [{"op": "add", "path": "/metadata/resourceVersion", "value": "1"}] + value
    else:
        value["metadata"] = {"name": "web", "resourceVersion": "1"}
    assert patch(value)[0] == 409


def test_apply_on_a_new_name(server):
    status, made = server.call("PATCH", STREAMS + "/dry" + DRY + "&fieldManager=m",
                               stream("dry", NEW), Content_Type=KINDS["apply"])
    assert status == 201 and "resourceVersion" not in made["metadata"]


@pytest.mark.parametrize("query, body", [
    (DRY, None), ("", {"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]})])
def test_delete(server, query, body):
    status, answer = server.call("DELETE", STREAMS + "/web" + query, body)
    assert (status, answer["kind"], answer["status"]) == (200, "Status", "Success")
    assert server.call("DELETE", STREAMS + "/none" + query, body)[0] == 404
    status, answer = server.call("DELETE", STREAMS + query, body)
    assert status == 200 and [one["metadata"]["name"] for one in answer["items"]] == ["web"]
    for resource in ("imagestreamtags", "imagetags"):
        assert server.call("DELETE", GROUP + resource + "/web:1.0" + query, body)[0] == 200
        assert server.call("DELETE", GROUP + resource + "/web:none" + query, body)[0] == 404


def test_status(server):
    obj = get(server)
    value = {**obj, "status": {"tags": []}}
    status, answer = server.call("PUT", STREAMS + "/web/status" + DRY, value)
    assert status == 200 and "tags" not in answer["status"]
    status, answer = server.call("PATCH", STREAMS + "/web/status" + DRY, {"status": {"tags": None}},
                                 Content_Type=KINDS["merge"])
    assert status == 200 and "tags" not in answer["status"]


@pytest.mark.parametrize("name, status", [("web:new", 201), ("web:1.0", 200), ("none:new", 201)])
def test_tags(server, name, status):
    value = {"metadata": {"name": name}, "tag": {"from": NEW["from"]}}
    got, answer = server.call("PUT", GROUP + "imagestreamtags/" + name + DRY, value)
    assert got == status and answer["tag"]["from"] == NEW["from"]
    got, answer = server.call("POST", GROUP + "imagestreamtags" + DRY, value)
    assert got == (409 if status == 200 else 201)
    if name == "none:new":
        assert "resourceVersion" not in answer["metadata"]


OPTIONS = {"POST": "CreateOptions", "PUT": "UpdateOptions", "PATCH": "PatchOptions",
           "DELETE": "DeleteOptions"}


@pytest.mark.parametrize("value", ["Some", "true", ""])
@pytest.mark.parametrize("method", OPTIONS)
def test_other_values(server, method, value):
    path = STREAMS + ("" if method == "POST" else "/web") + "?dryRun=" + value
    status, answer = server.call(method, path, {}, Content_Type=KINDS["merge"]
                                 if method == "PATCH" else "application/json")
    assert (status, answer["message"]) == (422, (
        '%s.meta.k8s.io "" is invalid: dryRun: Unsupported value: %s: supported values: "All"'
        % (OPTIONS[method], json.dumps([value]))))


def test_other_values_in_a_body(server):
    status, answer = server.call("DELETE", STREAMS + "/web", {
        "kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["Some"]})
    assert status == 422 and 'Unsupported value: ["Some"]' in answer["message"]


# E4.

def image_import(server, name, query="", really=True):
    return server.call("POST", GROUP + "imagestreamimports" + query, {
        "metadata": {"name": name}, "spec": {"import": really, "images": [
            {"from": NEW["from"], "to": {"name": "x"}}]}})


def test_an_import_stores_all_the_same(server):
    status, answer = image_import(server, "imported", DRY)
    assert status == 201
    obj = get(server, "imported")
    digest = obj["status"]["tags"][0]["items"][0]["image"]
    assert answer["status"]["import"]["metadata"]["uid"] == obj["metadata"]["uid"]
    assert server.call("GET", "/apis/image.openshift.io/v1/images/" + digest)[0] == 200
    assert server.call("DELETE", STREAMS + "/imported")[0] == 200
    assert server.call("DELETE", "/apis/image.openshift.io/v1/images/" + digest)[0] == 200


def test_an_import_without_import(server):
    for name in ("web", "none"):
        status, answer = image_import(server, name, really=False)
        assert status == 201 and answer["status"]["images"][0]["status"]["status"] == "Success"
        assert "import" not in answer["status"]
