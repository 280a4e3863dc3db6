"""What others do while a call waits for the server raises its events, whatever the call's verdict is."""

import contextlib
import errno
import json
import os
import re
import signal
import subprocess

import pytest

from conftest import fails, wait_for
from events import Inotify, KeptServer, announcers

SECONDS = 10
SOURCE = {"kind": "DockerImage", "name": "quay.io/example/app:1"}


def stream(label, *tags):
    return {"namespace": "work", "name": "app", "object": {
        "kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
        "metadata": {"name": "app", "labels": {"n": label}},
        "spec": {"tags": [{"name": tag, "from": SOURCE} for tag in tags]}, "status": {}}}


@pytest.fixture
def server(start_server):
    one = KeptServer(start_server("--namespace", "work", "--namespace", "quiet"))
    one.bulk(*({"op": "create", **stream("one", "v1"), "namespace": namespace}
               for namespace in ("work", "quiet")))
    return one


@pytest.fixture
def mount(server, start_mount):
    return start_mount(server)


@pytest.fixture
def app(mount):
    path = mount / "work/app"
    wait_for(path.is_dir, SECONDS, "the stream")
    os.listdir(path / "tags/v1")
    return path


def emptied(path):
    """All that rm -r does before the last rmdir."""
    for name in os.listdir(path):
        if (path / name).is_dir():
            os.rmdir(emptied(path / name))
        else:
            os.unlink(path / name)
    return path


def published(mount):
    metrics = (mount / ".api/metrics").read_text()
    return int(re.search(r"^imagestreamfs_events_published_total (\d+)", metrics, re.M)[1])


@contextlib.contextmanager
def watching(path):
    """Ends with the wait for the events, in this order, and nothing of that name before them."""
    one = Inotify()
    one.add(path)

    def expect(name, *flags):
        for wanted in flags:
            assert one.until(lambda event: event[1] == name and event[2].startswith(wanted),
                             SECONDS), f"no {wanted} of {name}"

    yield expect
    one.close()


def test_tag_that_others_make_first(server, app):
    with watching(app / "tags") as expect:
        assert not (app / "tags/v2").exists()
        server.fault(method="PATCH", path="/app$",
                     bulk=[{"op": "replace", **stream("two", "v1", "v2")}])
        with fails(errno.EEXIST):
            os.mkdir(app / "tags/v2")
        expect("v2", "CREATE|ISDIR")
        assert sorted(os.listdir(app / "tags")) == ["v1", "v2"]
        assert json.loads((app / "tags/v2/spec.json").read_bytes())["from"] == SOURCE


def test_tag_that_others_remove_first(server, app):
    emptied(app / "tags/v1")
    with watching(app / "tags") as expect:
        server.fault(method="DELETE", path="/imagestreamtags/",
                     bulk=[{"op": "replace", **stream("two")}])
        with fails(errno.ENOENT):
            os.rmdir(app / "tags/v1")
        expect("v1", "DELETE|ISDIR")
        assert os.listdir(app / "tags") == []


def test_stream_that_others_remove_first(server, app):
    emptied(app)
    with watching(app.parent) as expect:
        server.fault(method="DELETE", path="/app$",
                     bulk=[{"op": "delete", "namespace": "work", "name": "app"}])
        with fails(errno.ENOENT):
            os.rmdir(app)
        expect("app", "DELETE|ISDIR")
        assert os.listdir(app.parent) == []


def test_tag_that_others_make_again(server, app):
    emptied(app / "tags/v1")
    before = (app / "tags/v1").stat().st_ino
    with watching(app / "tags") as expect:
        server.fault(method="DELETE", path="/imagestreamtags/", after=True,
                     bulk=[{"op": "replace", **stream("two", "v0", "v1")}])
        os.rmdir(app / "tags/v1")
        expect("v1", "DELETE|ISDIR", "CREATE|ISDIR")
        assert sorted(os.listdir(app / "tags")) == ["v0", "v1"]
        assert (app / "tags").stat().st_nlink == 4
        assert (app / "tags/v1").stat().st_ino != before
        assert json.loads((app / "tags/v1/spec.json").read_bytes())["from"] == SOURCE


def test_stream_that_others_make_again(server, app):
    emptied(app)
    before = app.stat().st_ino
    with watching(app.parent) as expect:
        server.fault(method="DELETE", path="/app$", after=True, delay=0.5,
                     bulk=[{"op": "create", **stream("two", "v2")}])
        os.rmdir(app)
        expect("app", "DELETE|ISDIR", "CREATE|ISDIR")
        assert os.listdir(app / "tags") == ["v2"]
        assert app.stat().st_ino != before


def test_save_after_the_last_close(app):
    """Of YAML nobody knows that it is whole before the last close, whose event comes before the save."""
    path = app / "imagestream.yaml"
    text = path.read_text().replace('"n": one', '"n": two')
    with watching(app) as expect:
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(ours, 1)
            os.write(fd, text.encode())
            os._exit(0)
        os.close(fd)
        os.write(theirs, b"!")
        os.waitpid(child, 0)
        os.close(ours)
        os.close(theirs)
        expect("imagestream.yaml", "CLOSE_WRITE", "MODIFY", "CLOSE_WRITE")
        assert '"n": two' in path.read_text()


def test_file_that_others_change_first(server, app):
    """A rename raises no event of its own where it is refused."""
    meta = json.loads((app / "metadata.json").read_bytes())
    meta["labels"]["n"] = "mine"
    (app / "new").write_text(json.dumps(meta))
    with watching(app) as expect:
        server.fault(method="PATCH", path="/app$",
                     bulk=[{"op": "replace", **stream("theirs", "v1")}])
        with fails(errno.EBUSY):
            os.rename(app / "new", app / "metadata.json")
        expect("metadata.json", "MODIFY", "CLOSE_WRITE")
        assert json.loads((app / "metadata.json").read_bytes())["labels"]["n"] == "theirs"


def test_hidden_file_loses_no_event(server, mount, app):
    """Its bytes are on their way to be announced when the name goes."""
    wait_for(lambda: mount.status()["events"]["state"] == "announced", SECONDS, "the announcer")
    (pid,) = announcers(mount.process.pid)
    with watching(app) as expect:
        os.kill(pid, signal.SIGSTOP)
        before = published(mount)
        # The second is one that the kernel doesn't know: that needs no announcer.
        server.bulk(*({"op": "replace", **stream("two", "v1"), "namespace": namespace}
                      for namespace in ("work", "quiet")))
        wait_for(lambda: published(mount) > before, SECONDS, "the second")
        os.unlink(app / "metadata.json")
        os.kill(pid, signal.SIGCONT)
        expect("metadata.json", "CREATE")
        assert json.loads((app / "metadata.json").read_bytes())["labels"]["n"] == "two"
    assert mount.status()["events"]["lost"] == 0


def test_answer_that_comes_late(server, mount):
    """The stream that the call made is gone by then, as a list has said."""
    os.listdir(mount / "work")
    server.control("POST", "silence", {"path": "imagestreams"})
    server.fault(method="POST", path="/imagestreams\\b", after=True, delay=4)
    with subprocess.Popen(["mkdir", str(mount / "work/new")], stderr=subprocess.DEVNULL):
        wait_for(lambda: len(server.request("GET", server.streams("work"))["items"]) == 2, SECONDS)
        server.bulk({"op": "delete", "namespace": "work", "name": "new"})
        server.control("POST", "compact", {"style": "status"})
        server.control("POST", "drop", {"path": "imagestreams"})
    wait_for(lambda: os.listdir(mount / "work") == ["app"], 2)


def test_file_that_was_begun_and_never_saved(app):
    """It goes 2 s after its last close, and whoever watches hears of it."""
    subprocess.run(["mkdir", app / "tags/new"], check=True)
    with watching(app / "tags/new") as expect:
        with open(app / "tags/new/status.json", "x"):
            pass
        expect("status.json", "CREATE", "DELETE")
        assert "status.json" not in os.listdir(app / "tags/new")
        assert not (app / "tags/new/status.json").exists()


@pytest.mark.parametrize("held", [False, True])
def test_file_that_was_begun_when_the_servers_comes(server, app, held):
    """Who read the empty file at its CREATE hears that it is another one now."""
    name = "status.json"
    subprocess.run(["mkdir", app / "tags/latest"], check=True)
    with watching(app / "tags/latest") as expect:
        with open(app / "tags/latest" / name, "x") as begun:
            if not held:
                begun.close()
            expect(name, "CREATE")
            server.bulk({"op": "touch-image", "namespace": "work", "name": "app"})
            expect(name, "OPEN" if held else "CLOSE_WRITE", "MODIFY", "CLOSE_WRITE")
            assert json.loads((app / "tags/latest" / name).read_text())["tag"] == "latest"
