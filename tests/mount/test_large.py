"""Many streams, and large ones."""

import json
import os
import pathlib
import subprocess
import sys

import conftest
import pytest
from test_contents import model, walk

sys.path.insert(0, str(conftest.TOP / "tests/bench"))
from manytags import OPTIONS, ManyTags  # noqa: E402

pytestmark = pytest.mark.alone  # memory and CPU time are measured
RELEASE = pathlib.Path(conftest.TOP / "build/fs/imagestreamfs")


def test_large_streams(start_server, start_mount):
    server = start_server("--big-stream", 1500000, "--stream-tags", 1000, "--tag-items", 5000)
    mount = start_mount(server)
    expected = model(server)
    found = walk(mount.path)
    assert max(len(content) for content in found.values()) > 1500000
    assert found == expected
    large = max(found, key=lambda name: len(found[name]))
    namespace, name = large.split("/")[:2]
    with open(mount / large, "rb") as file:  # one version, whatever happens meanwhile
        first = file.read(1000)
        server.label(namespace, name, changed="yes")
        conftest.wait_for(lambda: b"changed" in (mount / namespace / name / "metadata.json")
                          .read_bytes(), 5, "the change")
        assert first + file.read() == found[large]


def rss(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


def test_ten_thousand_streams(start_server, start_mount):
    server = start_server("--streams", 10000, "--tags", 5, "--namespaces", 20)
    mount = start_mount(server)
    assert mount.status()["counts"]["imagestreams"] == 10000
    namespaces = [name for name in os.listdir(mount.path) if name.startswith("ns-")]
    assert sum(len(os.listdir(mount / name)) for name in namespaces) == 10000
    place = mount / namespaces[7]
    content = {name: data for name, data in walk(place).items()}
    assert len(content) == 500 * (5 + 5 * 4)
    for name in os.listdir(place):
        assert json.loads(content[f"{name}/imagestream.json"])["metadata"]["name"] == name


@pytest.mark.skipif(not RELEASE.exists(), reason="no build without sanitizers at build/")
def test_memory_of_a_stream(start_server, directory):
    server = start_server("--streams", 10000, "--tags", 5, "--namespaces", 20)
    mountpoint = directory / "memory"
    mountpoint.mkdir()
    with subprocess.Popen([RELEASE, "-f", "--kubeconfig", server.kubeconfig, mountpoint]) as process:
        try:
            conftest.wait_until_mounted(mountpoint, process)
            counts = json.loads((mountpoint / ".api/status.json").read_text())["counts"]
            used = rss(process.pid)
            print(f"{used} bytes resident, {counts['bytes']} bytes of JSON")
            assert used < 1.3 * counts["bytes"] + 2048 * 10000 + (16 << 20)
        finally:
            process.terminate()
            assert process.wait(60) == 0


def test_ten_thousand_tags(start_server, directory):
    """What one stream costs grows with its tags, not with their square: measured beside each other.

    Without the kernel's part: what a request costs there depends on what else the machine does.
    """
    found = {}
    for size in (1000, 10000):
        server = start_server("--stream-tags", size)
        mount = conftest.Mount(directory, server.kubeconfig, *OPTIONS)
        try:
            found[size] = ManyTags(server, mount).steps()
        finally:
            mount.stop()  # a sanitizer takes longer to end than the program
        mount.check()
    for step, (_, _, large) in found[10000].items():
        small = found[1000][step][2]
        print(f"{step}: {small * 1e3:.0f} ms of CPU time at 1,000 tags, {large * 1e3:.0f} at 10,000")
        # Ten times as much is linear, a hundred times quadratic; a sanitizer's part isn't either. The kernel counts in
        # ticks of 4 ms, whoever is running then: a few of them say nothing.
        assert large < 25 * max(small, 0.02), step
