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

    def run(*arguments, check=True):
        done = subprocess.run(
            [KUBECTL, *arguments], capture_output=True, text=True, timeout=30,
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
