"""-o noopen: the kernel opens by itself, reads cost what tmpfs's cost, nothing can be written."""

import errno
import json
import mmap
import os
import pathlib
import subprocess

import pytest
from conftest import wait_for
from test_contents import model_of_stream

LARGE = 300_000  # far more than one read of the kernel's


@pytest.fixture
def mount(server, start_mount):
    return start_mount(server, "-o", "noopen")


def requests_to(mount):
    """read() calls of the program: one for each FUSE request."""
    text = pathlib.Path(f"/proc/{mount.process.pid}/io").read_text()
    return int(dict(line.split(": ") for line in text.splitlines())["syscr"])


def large_stream(server, letter):
    server.create("shop", "large", tags=[{"name": "v1", "annotations": {"a": letter * LARGE}}])
    return server.get("shop", "large")


def drop_pages(fd):
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def test_the_same_bytes(server, mount):
    for one in server.request("GET", "/apis/image.openshift.io/v1/imagestreams")["items"]:
        top = mount / one["metadata"]["namespace"] / one["metadata"]["name"]
        for name, content in model_of_stream(one).items():
            assert (top / name).read_bytes() == content
            assert (top / name).stat().st_size == len(content)


def test_opening_again_asks_nobody(mount):
    command = ["cat", *[mount / "shop/web/spec.json"] * 200]  # Python would ask for a terminal
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    before = requests_to(mount)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    assert requests_to(mount) - before < 100  # the announcer may still be greeting


def test_a_large_file_in_pieces(server, mount):
    content = model_of_stream(large_stream(server, "x"))["spec.json"]
    path = mount / "shop/large/spec.json"
    wait_for(path.exists, 5, "the stream")
    assert path.read_bytes() == content
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as mapping:
        assert mapping[:] == content
        drop_pages(f.fileno())
        f.seek(LARGE // 2)
        assert f.read(4096) == content[LARGE // 2:LARGE // 2 + 4096]


def test_a_change_reaches_open_handles(server, mount):
    path = mount / "shop/web/metadata.json"
    with open(path, "rb", buffering=0) as held:
        before = held.read()
        server.label("shop", "web", shown="later")
        wait_for(lambda: path.read_bytes() != before, 5, "the change")
        assert json.loads(path.read_bytes())["labels"]["shown"] == "later"
        assert os.pread(held.fileno(), 1 << 16, 0) == path.read_bytes()
        assert os.fstat(held.fileno()).st_size == path.stat().st_size


def test_what_is_gone_reads_its_last_version(server, mount):
    path = mount / "shop/web/metadata.json"
    with open(path, "rb", buffering=0) as held:
        last = path.read_bytes()
        server.delete("shop", "web")
        wait_for(lambda: not path.exists(), 5, "the deletion")
        drop_pages(held.fileno())
        assert os.pread(held.fileno(), 1 << 16, 0) == last
        assert os.fstat(held.fileno()).st_nlink == 0
        assert os.fstat(held.fileno()).st_size == len(last)


def write(path):
    """Where the kernel doesn't take the mount for read-only it opens by itself, and the write fails."""
    with open(path, "r+b", buffering=0) as f:
        f.write(b"{}")


def test_writing_fails(server, mount):
    path = mount / "shop/web/spec.json"
    before = path.read_bytes()
    server.reset()
    for attempt in (lambda: write(path), lambda: open(path, "wb"), lambda: os.truncate(path, 3), lambda: os.unlink(path),
                    lambda: os.mkdir(mount / "shop/new"), lambda: os.rmdir(mount / "shop/web"),
                    lambda: open(mount / "shop/web/new", "wb"), lambda: os.utime(path),
                    lambda: os.rename(path, mount / "shop/web/new"), lambda: os.chmod(path, 0o666)):
        with pytest.raises(OSError) as error:
            attempt()
        assert error.value.errno == errno.EROFS
    assert path.read_bytes() == before
    assert not [one for one in server.counts() if not one.startswith("GET")]


def test_files_made_at_each_open_are_absent(mount):
    assert not (mount / ".api/status.json").exists()
    assert not (mount / ".api").exists()
