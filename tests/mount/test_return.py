"""What went and comes back: new inodes for everybody, and what was held stays gone.

The kernel keeps a directory that was removed dead for as long as anybody holds it. A stream that leaves
the selector and returns, or a namespace whose right goes and comes back, has the uid that it had.
"""

import contextlib
import errno
import json
import os
import subprocess

import pytest
from conftest import fails, opened, wait_for
from events import Inotify

LATER = 60
STREAM_FILES = {"imagestream.json", "imagestream.yaml", "metadata.json", "spec.json", "status.json"}


class Held:
    """What somebody has open, stands in and watches below a directory."""

    def __init__(self, stack, directory, files, watch=None):
        self.directory = directory
        self.inode = directory.stat().st_ino
        self.fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, self.fd)
        self.files = {}
        for name in files:
            fd = os.open(directory / name, os.O_RDWR)
            stack.callback(os.close, fd)
            self.files[name] = (fd, os.pread(fd, 1 << 20, 0))
        self.stander = stack.enter_context(subprocess.Popen(
            ["sh", "-c", "read line; ls; read line; cat spec.json"], cwd=directory, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
        self.watch = Inotify()
        stack.callback(self.watch.close)
        self.watch.add(watch or directory.parent, "", 0x300)  # CREATE and DELETE

    def came_and_went(self):
        """DELETE and CREATE of the directory, each once, in that order."""
        name = self.directory.name
        found = self.watch.until(lambda event: event[1:] == (name, "CREATE|ISDIR"), LATER)
        assert found is not None, self.watch.waiting
        flags = [event[2] for event in found if event[1] == name]
        assert flags == ["DELETE|ISDIR", "CREATE|ISDIR"]

    def is_dead(self):
        assert os.fstat(self.fd).st_ino == self.inode
        assert os.fstat(self.fd).st_nlink == 0
        assert os.listdir(self.fd) == []
        with fails(errno.ENOENT):
            os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=self.fd)
        for name, (fd, text) in self.files.items():
            wait_for(lambda fd=fd: os.fstat(fd).st_nlink == 0, LATER, f"the end of {name}")
            assert os.pread(fd, 1 << 20, 0) == text
            with fails(errno.ESTALE):
                os.pwrite(fd, b"{", 0)
        assert self.stander.communicate("\n\n")[0] == ""  # neither a name nor a byte


def inodes(top):
    paths = [os.path.join(place, name) for place, directories, files in os.walk(top)
             for name in ["", *directories, *files]]
    return {path: os.lstat(path).st_ino for path in paths}


def is_whole(server, mount, namespace, name):
    """The stream's directory shows the object, all of it."""
    stream, truth = mount / namespace / name, server.get(namespace, name)
    tags = {tag["name"] for tag in truth["spec"].get("tags", [])} | {
        tag["tag"] for tag in truth["status"].get("tags", [])}
    assert set(os.listdir(stream)) == STREAM_FILES | {"tags"}
    assert set(os.listdir(stream / "tags")) == tags
    shown = json.loads((stream / "imagestream.json").read_text())
    assert shown["metadata"]["uid"] == truth["metadata"]["uid"]
    for tag in truth["spec"].get("tags", []):
        assert json.loads((stream / "tags" / tag["name"] / "spec.json").read_text())["name"] \
            == tag["name"]
    assert (stream / ".api/events").exists() and (stream / "tags" / min(tags) / ".api").exists()


def save(path, **annotations):
    text = json.loads(path.read_text())
    text["annotations"] = annotations
    path.write_text(json.dumps(text))


@pytest.fixture
def stream(server):
    """A stream that -l team=a selects."""
    server.create("dev", "web", tags=[
        {"name": name, "from": {"kind": "DockerImage", "name": f"example.com/web:{name}"}}
        for name in ("v1", "v2")])
    server.label("dev", "web", team="a")
    return ("dev", "web")


@pytest.mark.parametrize("times", [1, 3])
def test_stream_leaves_the_selector(server, stream, start_mount, times):
    mount = start_mount(server, "-l", "team=a")
    path = mount / "dev/web"
    uid, seen = server.get(*stream)["metadata"]["uid"], set()
    with contextlib.ExitStack() as stack:
        held = []
        for _ in range(times):
            (path / "notes").write_text("scratch")
            os.mkdir(path / "drafts")
            (path / "drafts/one").write_text("scratch")
            assert (path / ".api/events").exists() and (path / "tags/v1/.api/import").exists()
            now = {**inodes(path), **inodes(path / ".api"), **inodes(path / "tags/v1/.api")}
            assert not seen & set(now.values())
            seen |= set(now.values())
            held.append([Held(stack, path, ["spec.json", "metadata.json"]),
                         Held(stack, path / "tags", []),
                         Held(stack, path / "tags/v1", ["spec.json"])])
            for place in (path / "drafts", path / ".api", path / "tags/v1/.api"):
                stack.enter_context(opened(place))
            server.label(*stream, team="b")
            wait_for(lambda: not path.exists(), LATER, "its leaving")
            assert os.listdir(mount / "dev") == []
            server.label(*stream, team="a")
            wait_for(path.exists, LATER, "its return")
            held[-1][0].came_and_went()
            is_whole(server, mount, *stream)
        for one in held:
            for thing in one:
                thing.is_dead()
        for place in (path, path / ".api", path / "tags/v1/.api"):
            assert not seen & set(inodes(place).values())
        os.mkdir(path / "drafts")
        assert os.listdir(path / "drafts") == []
        assert server.get(*stream)["metadata"]["uid"] == uid
        save(path / "tags/v1/spec.json", saved="anew")
        assert server.get(*stream)["spec"]["tags"][0]["annotations"] == {"saved": "anew"}
        (path / "notes").write_text("anew")
        assert (path / "notes").read_text() == "anew"
        os.mkdir(path / "tags/v3")
        os.rmdir(path / "tags/v3")
        assert set(os.listdir(path)) == STREAM_FILES | {"tags", "notes", "drafts"}


def test_draft_of_what_left(server, stream, start_mount):
    """A text that was written before it left is no save of what came back; it is kept as refused."""
    mount = start_mount(server, "-l", "team=a")
    path = mount / "dev/web"
    fd = os.open(path / "spec.json", os.O_RDWR)
    os.pwrite(fd, b'{"tags": []}', 0)
    os.ftruncate(fd, 12)
    server.label(*stream, team="b")
    wait_for(lambda: not path.exists(), LATER, "its leaving")
    server.label(*stream, team="a")
    wait_for(path.exists, LATER, "its return")
    version = server.get(*stream)["metadata"]["resourceVersion"]
    with fails(errno.ESTALE):
        os.close(fd)
    assert server.get(*stream)["metadata"]["resourceVersion"] == version
    assert (path / "spec.json.rejected").read_text() == '{"tags": []}'


def test_draft_while_it_is_away(server, stream, start_mount):
    mount = start_mount(server, "-l", "team=a")
    path = mount / "dev/web"
    fd = os.open(path / "spec.json", os.O_RDWR)
    os.pwrite(fd, b'{"tags": []}', 0)
    os.ftruncate(fd, 12)
    server.label(*stream, team="b")
    wait_for(lambda: not path.exists(), LATER, "its leaving")
    version = server.get(*stream)["metadata"]["resourceVersion"]
    with fails(errno.ESTALE):
        os.close(fd)
    assert server.get(*stream)["metadata"]["resourceVersion"] == version
    assert not path.exists()


def change_tags(server, stream, keep):
    now = server.get(*stream)
    status = {**now["status"], "tags": [tag for tag in now["status"].get("tags", [])
                                        if tag["tag"] in keep]}
    server.control("POST", "bulk", [{
        "op": "replace", "namespace": stream[0], "name": stream[1], "object": {
            **now, "status": status,
            "spec": {**now["spec"], "tags": [
                {"name": name, "from": {"kind": "DockerImage", "name": f"example.com/web:{name}"}}
                for name in sorted(keep)]}}}])


def test_tag_goes_and_comes_back(server, stream, start_mount):
    """Also once the stream itself went and came back meanwhile."""
    mount = start_mount(server, "-l", "team=a")
    tags, seen = mount / "dev/web/tags", set()
    with contextlib.ExitStack() as stack:
        held = []
        for round_ in range(3):
            v1 = inodes(tags / "v1")
            assert not seen & set(v1.values())
            seen |= set(v1.values())
            held.append(Held(stack, tags / "v1", ["spec.json"]))
            change_tags(server, stream, {"v2"})
            wait_for(lambda: os.listdir(tags) == ["v2"], LATER, "the tag's end")
            change_tags(server, stream, {"v1", "v2"})
            wait_for((tags / "v1").exists, LATER, "the tag's return")
            held[-1].came_and_went()
            is_whole(server, mount, *stream)
            if round_ == 1:
                server.label(*stream, team="b")
                wait_for(lambda: not tags.exists(), LATER, "the stream's leaving")
                server.label(*stream, team="a")
                wait_for((tags / "v1").exists, LATER, "the stream's return")
        for one in held:
            one.is_dead()
        save(tags / "v1/spec.json", saved="anew")
        is_whole(server, mount, *stream)


def test_namespace_whose_right_goes_and_comes_back(server, start_mount):
    server.create("prod", "ours", tags=[
        {"name": "v1", "from": {"kind": "DockerImage", "name": "example.com/ours:v1"}}])
    role = {"user": "developer", "namespace": "prod"}
    server.control("POST", "revoke", {**role, "role": "view"})
    server.control("POST", "grant", {**role, "role": "edit"})
    mount = start_mount(server, "--context", "developer")
    path = mount / "prod"
    before = inodes(path)
    streams = set(os.listdir(path))
    with contextlib.ExitStack() as stack:
        held = [Held(stack, path, []), Held(stack, path / "ours", ["spec.json"]),
                Held(stack, path / "ours/tags/v1", ["spec.json"])]
        server.control("POST", "revoke", {**role, "role": "edit"})
        wait_for(lambda: "prod" not in os.listdir(mount.path), 300, "the namespace's leaving")
        wait_for(lambda: not path.exists(), LATER, "the streams' leaving")
        server.control("POST", "grant", {**role, "role": "edit"})
        wait_for(lambda: "prod" in os.listdir(mount.path), 120, "the namespace's return")
        wait_for(lambda: set(os.listdir(path)) == streams, LATER, "the streams' return")
        held[0].came_and_went()
        is_whole(server, mount, "prod", "ours")
        assert not set(before.values()) & set(inodes(path).values())
        for one in held:
            one.is_dead()
        assert (path / ".api/events").exists()
        save(path / "ours/tags/v1/spec.json", saved="anew")
        assert server.get("prod", "ours")["spec"]["tags"][0]["annotations"] == {"saved": "anew"}


def test_what_never_went_keeps_its_inodes(server, stream, start_mount):
    """Over remounts, too, whatever went and came beside it."""
    server.label("dev", "scratch", team="a")
    mount = start_mount(server, "-l", "team=a")
    server.create("dev", "late", tags=[
        {"name": "v1", "from": {"kind": "DockerImage", "name": "example.com/late:v1"}}])
    server.label("dev", "late", team="a")
    wait_for((mount / "dev/late").exists, LATER, "the new stream")
    server.label(*stream, team="b")
    wait_for(lambda: not (mount / "dev/web").exists(), LATER, "its leaving")
    server.label(*stream, team="a")
    wait_for((mount / "dev/web").exists, LATER, "its return")
    again = start_mount(server, "-l", "team=a")
    for name in ("scratch", "late"):
        before, after = inodes(mount / "dev" / name), inodes(again / "dev" / name)
        assert sorted(before.values()) == sorted(after.values())
    assert os.stat(mount / "dev").st_ino == os.stat(again / "dev").st_ino


def test_nobody_held_it(server, stream, start_mount):
    """The kernel has forgotten the old one or not: the new one is there."""
    mount = start_mount(server, "-l", "team=a")
    with opened(mount / "dev"):
        for _ in range(5):
            wait_for((mount / "dev/web").exists, LATER, "the stream")
            is_whole(server, mount, *stream)
            server.label(*stream, team="b")
            wait_for(lambda: not (mount / "dev/web").exists(), LATER, "its leaving")
            server.label(*stream, team="a")
