"""A kernel that offers less than this one: fs/ops/session.h withholds flags of its INIT.

What a kernel 5.10 lacks is shown as far as that goes; this isn't one.
"""

import errno
import json
import os

import pytest
from conftest import fails, wait_for


@pytest.fixture
def mount(server, start_mount):
    return start_mount(server, environment={"IMAGESTREAMFS_OLD_KERNEL": "1"})


def test_names_come_and_go(server, mount):
    assert "web" in os.listdir(mount / "shop")
    server.create("shop", "fresh")
    wait_for(lambda: "fresh" in os.listdir(mount / "shop"), 5, "a new name")


def test_verdict_of_close_after_what_the_announcer_closed(server, mount):
    """Its close is a FLUSH there; were that answered ENOSYS, no other would come any more."""
    path = mount / "shop/web/spec.json"
    before = os.stat(path).st_mtime_ns
    os.listdir(path.parent)
    tag = server.get("shop", "web")["spec"]["tags"][0]
    server.request("PATCH", "/apis/image.openshift.io/v1/namespaces/shop/imagestreams/web",
                   {"spec": {"tags": [{**tag, "annotations": {"told": "yes"}}]}},
                   "application/merge-patch+json")
    wait_for(lambda: os.stat(path).st_mtime_ns != before, 5, "what was announced")
    assert "told" in path.read_text()
    value = json.loads(path.read_text())
    value["tags"][0]["annotations"]["saved"] = "yes"
    path.write_text(json.dumps(value))
    assert server.get("shop", "web")["spec"]["tags"][0]["annotations"]["saved"] == "yes"
    with fails(errno.EINVAL):
        path.write_text("no JSON")
