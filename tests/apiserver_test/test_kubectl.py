"""kubectl against the server: an independent client must be at home there."""

import json
import os
import shutil
import subprocess

import pytest

from apiclient import until

KUBECTL = shutil.which("kubectl")
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="no kubectl found on PATH")


@pytest.fixture(scope="module")
def server(start_server):
    return start_server("--sample")


@pytest.fixture
def kubectl(server, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")

    def run(*arguments, check=True, text=None):
        done = subprocess.run(
            [KUBECTL, *arguments], capture_output=True, text=True, timeout=30, input=text,
            env={**os.environ, "KUBECONFIG": server.kubeconfig, "HOME": str(home)})
        if check:
            assert done.returncode == 0, done.stderr
        return done
    return run


def test_get(kubectl):
    lines = kubectl("get", "imagestreams", "-n", "shop").stdout.splitlines()
    assert lines[0].split() == ["NAME", "IMAGE", "REPOSITORY", "TAGS", "UPDATED"]
    assert [line.split()[0] for line in lines[1:]] == ["api", "web", "worker"]
    assert "shop/web" in lines[2] and "latest" in lines[2]


def test_get_yaml_and_json(kubectl):
    assert "name: web\n" in kubectl("get", "is", "web", "-n", "shop", "-o", "yaml").stdout
    obj = json.loads(kubectl("get", "is", "web", "-n", "shop", "-o", "json").stdout)
    assert obj["kind"] == "ImageStream" and len(obj["spec"]["tags"]) == 5


def test_watch(kubectl, server, tmp_path):
    process = subprocess.Popen(
        [KUBECTL, "get", "is", "-n", "shop", "-w", "-o", "name"], stdout=subprocess.PIPE,
        text=True, env={**os.environ, "KUBECONFIG": server.kubeconfig, "HOME": str(tmp_path)})
    try:
        first = [process.stdout.readline().strip() for _ in range(3)]
        assert [line.rpartition("/")[2] for line in first] == ["api", "web", "worker"]
        until(server.watches)
        server.control("bulk", {"modify": {"namespace": "shop", "match": "web"}})
        assert process.stdout.readline().strip().endswith("/web")
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def test_writes(kubectl):
    kubectl("label", "is", "web", "-n", "shop", "colour=blue")
    assert kubectl("get", "is", "-n", "shop", "-l", "colour=blue", "-o",
                   "name").stdout.strip().endswith("/web")
    kubectl("delete", "is", "worker", "-n", "shop")
    assert "NotFound" in kubectl("get", "is", "worker", "-n", "shop", check=False).stderr


def test_users(kubectl):
    denied = kubectl("get", "is", "-n", "shop", "--context", "developer", check=False)
    assert "Forbidden" in denied.stderr
    kubectl("get", "is", "-n", "dev", "--context", "developer")
    kubectl("get", "is", "-A", "--context", "admin-cert")
    assert "shop" in kubectl("get", "projects").stdout


# Manifests, checked as kubectl checks them: nothing is said about validation.

def manifest(name, image="b:1", **more):
    source = {"kind": "DockerImage", "name": "a.test/" + image}
    return json.dumps({
        "apiVersion": "image.openshift.io/v1", "kind": "ImageStream",
        "metadata": {"name": name, "namespace": "dev"},
        "spec": {"tags": [{"name": "a", "from": source}], **more}})


def image_of(kubectl, name, tag="a"):
    obj = json.loads(kubectl("get", "is", name, "-n", "dev", "-o", "json").stdout)
    return next(one["from"]["name"] for one in obj["spec"]["tags"] if one["name"] == tag)


@pytest.fixture(params=["v3", "v2"])
def documents(server, request):
    """Which documents of the API kubectl gets."""
    if request.param == "v2":
        server.control("faults", {"path": "^/openapi/v3", "status": 404, "count": 99})
    yield request.param
    server.control("faults", method="DELETE")


def test_create(kubectl, documents):
    name = "made-" + documents
    assert kubectl("create", "-f", "-", text=manifest(name)).stdout.endswith("created\n")
    assert "AlreadyExists" in kubectl("create", "-f", "-", text=manifest(name), check=False).stderr


def test_create_with_an_unknown_field(kubectl):
    done = kubectl("create", "-f", "-", text=manifest("strict", colour="red"), check=False)
    assert done.returncode == 1 and 'unknown field "spec.colour"' in done.stderr
    done = kubectl("create", "--validate=warn", "-f", "-", text=manifest("strict", colour="red"))
    assert 'Warning: unknown field "spec.colour"' in done.stderr


def test_apply(kubectl, documents):
    name = "applied-" + documents
    assert kubectl("apply", "-f", "-", text=manifest(name)).stdout.endswith("created\n")
    # Without a schema it merges lists as wholes, and those come back with more than was sent.
    again = kubectl("apply", "-f", "-", text=manifest(name)).stdout
    assert again.endswith("unchanged\n" if documents == "v3" else "configured\n")
    # A tag that it doesn't know stays, as the documents say that tags merge by name.
    kubectl("patch", "is", name, "-n", "dev", "--type=json", "-p", json.dumps([
        {"op": "add", "path": "/spec/tags/-", "value": {"name": "z", "from": {
            "kind": "DockerImage", "name": "a.test/z:1"}}}]))
    done = kubectl("apply", "-f", "-", text=manifest(name, "b:2"))
    assert done.stdout.endswith("configured\n") and done.stderr == ""
    assert image_of(kubectl, name) == "a.test/b:2"
    if documents == "v3":
        assert image_of(kubectl, name, "z") == "a.test/z:1"


def test_server_side_apply(kubectl):
    def apply(image, *more, check=True):
        return kubectl("apply", "--server-side", "-f", "-", *more, text=manifest("ssa", image),
                       check=check)
    assert apply("b:1").stdout.endswith("serverside-applied\n")
    done = apply("b:2", "--field-manager=other", check=False)
    assert 'conflict with "kubectl"' in done.stderr and done.returncode == 1
    apply("b:2", "--field-manager=other", "--force-conflicts")
    assert image_of(kubectl, "ssa") == "a.test/b:2"
    assert apply("b:3", "--dry-run=server", "--force-conflicts").stdout.endswith(
        "serverside-applied (server dry run)\n")
    assert image_of(kubectl, "ssa") == "a.test/b:2"


def test_replace_and_delete_by_manifest(kubectl):
    kubectl("create", "-f", "-", text=manifest("replaced"))
    kubectl("replace", "-f", "-", text=manifest("replaced", "b:9"))
    assert image_of(kubectl, "replaced") == "a.test/b:9"
    kubectl("delete", "-f", "-", text=manifest("replaced"))


def test_explain(kubectl):
    text = kubectl("explain", "imagestreams.spec.tags.from").stdout
    assert "ObjectReference" in text and "namespace" in text
