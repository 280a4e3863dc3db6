"""What oc tag does, as file operations: the server holds the same afterwards.

The bodies are those that oc sends (transcripts j2-oc-tag-and-import-requests).
"""

import json
import subprocess

import pytest

from conftest import wait_for

SECONDS = 20
TAGS = "/apis/image.openshift.io/v1/namespaces/{}/imagestreamtags/web:{}"
POLICIES = {"importPolicy": {"importMode": "Legacy"}, "referencePolicy": {"type": "Source"}}
PULL = {"kind": "DockerImage", "name": "quay.io/example/web:2.0"}


def by_oc(server, namespace, name, source, **more):
    server.request("PUT", TAGS.format(namespace, name), {
        "kind": "ImageStreamTag", "apiVersion": "image.openshift.io/v1",
        "metadata": {"name": f"web:{name}", "namespace": namespace},
        "tag": {"name": name, "annotations": None, "from": source, "generation": None,
                **{**POLICIES, **more}},
        "generation": 0, "lookupPolicy": server.get(namespace, "web")["spec"]["lookupPolicy"],
        "image": {"metadata": {}, "dockerImageMetadata": None}})


def tag_of(server, namespace, name):
    """Its spec without what names or counts it, and its newest image."""
    stream = server.get(namespace, "web")
    spec = [{key: one for key, one in tag.items() if key not in ("name", "generation") and one}
            for tag in stream["spec"].get("tags", []) if tag["name"] == name]
    items = [tag["items"] for tag in stream["status"].get("tags", []) if tag["tag"] == name]
    return spec, [one[0]["image"] for one in items if one]


@pytest.fixture
def digest(server):
    return next(tag["items"][0]["image"] for tag in server.get("shop", "web")["status"]["tags"]
                if tag["tag"] == "1.0")


def shell(mount, command):
    subprocess.run(["sh", "-ec", command], cwd=mount.path, check=True)


def test_within_a_stream_and_by_digest(server, mount, digest):
    source = {"kind": "ImageStreamImage", "name": f"web@{digest}"}
    by_oc(server, "shop", "oc", source)
    shell(mount, f"mkdir shop/web/tags/fs; echo 'ImageStreamImage web@{digest}' > shop/web/tags/fs/from")
    assert tag_of(server, "shop", "fs") == tag_of(server, "shop", "oc") != ([], [])


def test_across_namespaces(server, mount, digest):
    server.create("dev", "web")
    source = {"kind": "ImageStreamImage", "namespace": "shop", "name": f"web@{digest}"}
    by_oc(server, "dev", "oc", source)
    wait_for((mount / "dev/web/tags/oc").is_dir, SECONDS, "the stream")
    shell(mount, f"mkdir dev/web/tags/fs; echo 'ImageStreamImage shop/web@{digest}' > dev/web/tags/fs/from")
    assert tag_of(server, "dev", "fs") == tag_of(server, "dev", "oc") != ([], [])


@pytest.mark.parametrize("namespace", ["shop", "dev"])
def test_alias(server, mount, namespace):
    source = {"kind": "ImageStreamTag", "name": "web:1.0"}
    line = "ImageStreamTag web:1.0"
    if namespace == "dev":
        server.create("dev", "web")
        source["namespace"], line = "shop", "ImageStreamTag shop/web:1.0"
    by_oc(server, namespace, "oc", source)
    wait_for((mount / namespace / "web/tags/oc").is_dir, SECONDS, "the tag")
    shell(mount, f"mkdir {namespace}/web/tags/fs; echo '{line}' > {namespace}/web/tags/fs/from")
    assert tag_of(server, namespace, "fs") == tag_of(server, namespace, "oc") != ([], [])


@pytest.mark.parametrize("more", [
    {}, {"importPolicy": {"insecure": True, "importMode": "Legacy"}},
    {"importPolicy": {"scheduled": True, "importMode": "Legacy"}},
    {"reference": True}, {"referencePolicy": {"type": "Local"}}],
    ids=["plain", "insecure", "scheduled", "reference", "local"])
def test_from_a_registry(server, mount, more):
    by_oc(server, "shop", "oc", PULL, **more)
    shell(mount, f"mkdir shop/web/tags/fs; echo '{PULL['name']}' > shop/web/tags/fs/from")
    for key, value in more.items():
        program = f".{key} = {json.dumps(value)}"
        shell(mount, f"jq '{program}' shop/web/tags/fs/spec.json > shop/web/tags/fs/x; "
                     "mv shop/web/tags/fs/x shop/web/tags/fs/spec.json")
    assert tag_of(server, "shop", "fs")[0] == tag_of(server, "shop", "oc")[0] != []


def test_delete(server, mount):
    server.request("DELETE", TAGS.format("shop", "1.0"))
    shell(mount, "rm -r shop/web/tags/1.1")
    assert tag_of(server, "shop", "1.0") == tag_of(server, "shop", "1.1") == ([], [])
