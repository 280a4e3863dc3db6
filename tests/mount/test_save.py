"""Saving: when, whose flush, buffering, verdicts, which request, what a refused save leaves."""

import contextlib
import copy
import errno
import fcntl
import json
import mmap
import os
import pathlib
import pwd
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time

import pytest
from _pytest.monkeypatch import MonkeyPatch
from conftest import STOP_SECONDS, Mount, Server, fails, wait_for
from events import Inotify
from stopwatch import at_most

JSON = "application/json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
NAMESPACE = "work"
STREAMS = 400  # one for each test of a file; whoever needs more finds out at once
BIG = 2**53 + 1  # what a float can't hold
LIMIT = 4 << 20
CALLER = """
import os, signal, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC)
os.write(fd, sys.argv[2].encode())
"""  # what a child of these tests begins with


# The streams of these tests, and what their files show.


def tag(name, source, **annotations):
    return {"name": name, "annotations": annotations or None, "from": source, "generation": 2,
            "importPolicy": {"importMode": "Legacy"}, "referencePolicy": {"type": "Source"}}


def image(name):
    return {"kind": "DockerImage", "name": "quay.io/example/" + name}


def item(number, generation=2):
    digest = f"sha256:{number:064x}"
    return {"created": "2026-11-01T10:00:00Z", "image": digest, "generation": generation,
            "dockerImageReference": "quay.io/example/web@" + digest}


def template(name, namespace=NAMESPACE):
    return {"metadata": {"name": name, "namespace": namespace, "generation": 2,
                         "labels": {"app": "shop", "tier": "web"},
                         "annotations": {"owner": "alice"}},
            "spec": {"lookupPolicy": {"local": False}, "tags": [
                tag("latest", {"kind": "ImageStreamTag", "name": "v2"}),
                tag("v1", image("web:v1"), description="first", version="1"),
                tag("v2", image("web:v2"), description="second")]},
            "status": {"dockerImageRepository": "", "tags": [
                {"tag": "latest", "items": [item(3)]},
                {"tag": "pushed", "items": [item(5, BIG), item(4, 1)]},
                {"tag": "v1", "items": [item(2), item(1)]},
                {"tag": "v2", "items": [item(3)]}]}}


def without(value, *keys):
    return {key: one for key, one in value.items() if key not in keys}


def shown(obj, name):
    """What a file shows of an object, as JSON; None where there is no such file."""
    stream = {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
              **without(obj, "kind", "apiVersion")}
    stream["metadata"] = without(stream["metadata"], "managedFields")
    if name == "imagestream.json":
        return stream
    if name == "metadata.json":
        return without(stream["metadata"], "resourceVersion", "generation")
    spec, status = dict(stream["spec"]), stream["status"]
    spec["tags"] = [without(one, "generation") for one in spec.get("tags", [])]
    if name == "spec.json":
        return spec if spec["tags"] else without(spec, "tags")
    if name == "status.json":
        return status
    _, which, part = name.split("/")
    found = [one for one in spec["tags"] if one["name"] == which] if part == "spec.json" else [
        one for one in status.get("tags", []) if one["tag"] == which]
    return found[0] if found else None


def text(value):
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def cut_history(tags):
    next(one for one in tags if one["tag"] == "pushed")["items"].pop()


# For each file a change of it.
EDITS = {
    "imagestream.json": lambda value: value["metadata"]["labels"].update(edited="yes"),
    "metadata.json": lambda value: value["labels"].update(edited="yes"),
    "spec.json": lambda value: value["lookupPolicy"].update(local=True),
    "status.json": lambda value: cut_history(value["tags"]),
    "tags/v1/spec.json": lambda value: value["annotations"].update(edited="yes"),
    "tags/pushed/status.json": lambda value: value["items"].pop(),
}
REQUESTS = {
    "imagestream.json": ("PUT", "", JSON), "metadata.json": ("PATCH", "", MERGE),
    "spec.json": ("PATCH", "", STRATEGIC), "status.json": ("PATCH", "/status", STRATEGIC),
    "tags/v1/spec.json": ("PATCH", "", STRATEGIC),
    "tags/pushed/status.json": ("PATCH", "/status", STRATEGIC),
}


class Stream:
    """One stream: on the server, and as a mount shows it."""

    def __init__(self, server, mount, name, namespace=NAMESPACE):
        self.server, self.mount, self.name, self.namespace = server, mount, name, namespace
        self.url = server.streams(namespace, name)
        self.path = mount / namespace / name

    def __truediv__(self, name):
        return self.path / name

    def get(self):
        return self.server.get(self.namespace, self.name)

    def value(self, name):
        """What the file must show, without a look at it: reading makes a base."""
        return shown(self.get(), name)

    def edited(self, name):
        value = copy.deepcopy(self.value(name))
        EDITS[name](value)
        return value

    def tags(self):
        return {one["name"]: one for one in self.get()["spec"].get("tags", [])}

    def history(self):
        return {one["tag"]: one["items"] for one in self.get()["status"].get("tags", [])}

    def fault(self, method="PATCH", **spec):
        self.server.fault(method=method, path=f"/imagestreams/{self.name}(/status)?$", **spec)

    def sent(self):
        return sent(self.server)

    def change(self, patch, content_type=MERGE, subresource=""):
        """What somebody else does; over when the mount shows it."""
        with self.shows():
            self.server.request("PATCH", self.url + subresource, patch, content_type)

    @contextlib.contextmanager
    def shows(self):
        """Every version moves imagestream.json. Asked by stat, which makes no base."""
        before = os.stat(self / "imagestream.json").st_mtime_ns
        yield
        wait_for(lambda: os.stat(self / "imagestream.json").st_mtime_ns != before, 5,
                 "the change")

    def holds(self, name, value):
        """The server has it, and the file shows it to the byte."""
        obj = self.get()
        now = shown(obj, name)
        assert bare(now) == bare(value)
        if now is not None:
            assert (self / name).read_text() == text(now)
            assert os.stat(self / name).st_size == len(text(now).encode())

    def is_untouched(self, obj):
        assert self.get() == obj
        assert self.sent() == []


def bare(value):
    """Without what moves at each save of imagestream.json."""
    if not value or "metadata" not in value:
        return value
    return {**value, "metadata": without(value["metadata"], "resourceVersion", "generation"),
            "spec": shown(value, "spec.json")}


def sent(server):
    """The mount's requests that change something, oldest first."""
    records = server.control("GET", "requests")["requests"]
    return [one for one in records if one["headers"].get("user-agent") != "tests"
            and one["method"] != "GET" and "/imagestream" in one["path"]]


def body(request):
    return json.loads(request["body"])


class Rig:
    """A server with a stream for each test, and the mount of it that a module's tests share."""

    def __init__(self, directory):
        self.directory = directory
        self.load = self.directory / "streams.json"
        names = [f"s-{number:03}" for number in range(STREAMS)] + ["marker"]
        self.load.write_text(json.dumps({
            "kind": "ImageStreamList", "apiVersion": "image.openshift.io/v1",
            "items": [template(name) for name in names] +
                     [template(name, "dev") for name in names[:20]]}))
        self.names = iter(names[:-1])
        self.server = Server(self.directory, "--load", self.load, "--namespace", "empty")
        self.token = self.server.token
        self.mounts = []
        self.mount = self.another()

    def another(self, *arguments):
        mount = Mount(self.directory, self.server.kubeconfig, *arguments)
        self.mounts.append(mount)
        return mount

    def stream(self, mount=None):
        mount = mount or self.mount
        assert mount.process.poll() is None, "the program ended: " + mount.stderr.read_text()
        return Stream(self.server, mount, next(self.names))

    def settle(self):
        """Returns when the mount has seen every event up to now: a later one shows."""
        marker = Stream(self.server, self.mount, "marker")
        marker.change({"metadata": {"labels": {"at": str(time.monotonic_ns())}}})

    def state(self):
        """Path → bytes of what the program keeps for later."""
        top = self.directory / "state/imagestreamfs"
        return {path: path.read_bytes() for path in top.rglob("*") if path.is_file()}

    def stop(self):
        failures = []
        for mount in self.mounts:
            try:
                took = mount.stop()
                assert took < STOP_SECONDS, f"it took {took:.1f} s to end"
                mount.check()
            except AssertionError as error:
                failures.append(str(error))
        self.server.stop()
        assert not failures, "\n".join(failures)


@pytest.fixture(scope="module")
def rig(directory):
    place = pathlib.Path(tempfile.mkdtemp(dir=directory))
    with MonkeyPatch().context() as patch:
        patch.setenv("XDG_STATE_HOME", str(place / "state"))
        made = Rig(place)
        yield made
        made.stop()


@pytest.fixture(scope="module")
def impatient(rig):
    """A mount that gives the server a second."""
    return rig.another("--request-timeout", "1s")


@pytest.fixture
def stream(rig):
    rig.server.reset()
    yield rig.stream()
    rig.server.control("DELETE", "faults")


@pytest.fixture
def hasty(rig, impatient):
    """A stream of the mount that gives the server a second."""
    rig.server.reset()
    yield rig.stream(impatient)
    rig.server.control("DELETE", "faults")


# Ways to save.


def drafted(path, content, flags=os.O_WRONLY | os.O_TRUNC):
    """A descriptor with everything written to it."""
    fd = os.open(path, flags, 0o666)
    data = content if isinstance(content, bytes) else content.encode()
    try:
        while data:
            data = data[os.write(fd, data):]
    except OSError:
        os.close(fd)
        raise
    return fd


def save(path, content, flags=os.O_WRONLY | os.O_TRUNC):
    os.close(drafted(path, content, flags))


def synced(path, content, sync=os.fsync):
    fd = drafted(path, content)
    try:
        sync(fd)
    except OSError:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise
    os.close(fd)


def replace(path, content):
    """What sed -i and many others do."""
    scratch = path.with_name(path.name + ".new")
    save(scratch, content, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.rename(scratch, path)


SAVES = {"close": save, "fsync": synced, "rename": replace,
         "fdatasync": lambda path, content: synced(path, content, os.fdatasync)}


def in_child(function, *arguments):
    """What another process, with these descriptors, got from it: 0 or an errno."""
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            function(*arguments)
            code = 0
        except OSError as error:
            code = error.errno
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def shell(script, *arguments, **options):
    done = subprocess.run(["bash", "-c", script, "bash", *map(str, arguments)], text=True,
                          stdin=subprocess.DEVNULL,
                          capture_output=True, check=False, timeout=60, **options)
    return done.returncode, done.stderr


def rejected(path):
    return path.with_name(path.name + ".rejected"), path.with_name(path.name + ".error")


def names(path):
    return {entry.name for entry in os.scandir(path)}


# When.


@pytest.mark.parametrize("name", EDITS)
def test_each_file(stream, name):
    value = stream.edited(name)
    save(stream / name, text(value))
    (request,) = stream.sent()
    verb, subresource, content_type = REQUESTS[name]
    assert (request["method"], request["path"]) == (verb, stream.url + subresource)
    assert request["headers"]["content-type"].split(";")[0] == content_type
    stream.holds(name, value)


@pytest.mark.parametrize("way", SAVES)
def test_first_of_them_saves(stream, way):
    value = stream.edited("spec.json")
    SAVES[way](stream / "spec.json", text(value))
    assert len(stream.sent()) == 1
    stream.holds("spec.json", value)


def test_sync_saves_and_close_repeats(stream):
    value = stream.edited("spec.json")
    fd = drafted(stream / "spec.json", text(value))
    assert stream.sent() == []
    os.fsync(fd)
    assert len(stream.sent()) == 1
    os.fdatasync(fd)
    os.close(os.dup(fd))
    os.close(fd)
    assert len(stream.sent()) == 1
    stream.holds("spec.json", value)


def test_refusal_is_repeated(stream):
    stream.fault(status=422, count=1)
    fd = drafted(stream / "spec.json", text(stream.edited("spec.json")))
    with fails(errno.EIO):
        os.fsync(fd)
    with fails(errno.EIO):
        os.fdatasync(fd)
    for one in (os.dup(fd), os.dup(fd), fd):
        with fails(errno.EINVAL):
            os.close(one)
    assert len(stream.sent()) == 1


def test_new_bytes_are_a_new_save(stream):
    stream.fault(status=422, count=1)
    path, value = stream / "spec.json", stream.edited("spec.json")
    fd = drafted(path, text(value))
    with fails(errno.EINVAL):
        os.close(os.dup(fd))
    os.write(fd, b"\n")
    os.close(os.dup(fd))
    assert len(stream.sent()) == 2
    stream.holds("spec.json", value)
    value["lookupPolicy"]["local"] = False
    os.ftruncate(fd, 0)
    os.pwrite(fd, text(value).encode(), 0)
    os.close(fd)
    assert len(stream.sent()) == 3
    stream.holds("spec.json", value)


def opened(flags):
    return lambda path: os.close(os.open(path, flags))


def emptied_again(path):
    fd = drafted(path, "{")
    os.ftruncate(fd, 0)
    os.close(fd)


def truncated_by_handle(path):
    fd = os.open(path, os.O_RDWR)
    os.ftruncate(fd, 0)
    os.fsync(fd)
    os.close(fd)


def synced_by_a_reader(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


NOTHING = {
    "reader": synced_by_a_reader,
    "O_WRONLY": opened(os.O_WRONLY), "O_RDWR": opened(os.O_RDWR), "O_APPEND": opened(
        os.O_WRONLY | os.O_APPEND), "O_TRUNC": opened(os.O_WRONLY | os.O_TRUNC),
    "O_CREAT": opened(os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "emptied": emptied_again,
    "ftruncate": truncated_by_handle,
    "shell": lambda path: subprocess.run(["bash", "-c", ': > "$1"', "bash", path], check=True),
    "touch": lambda path: subprocess.run(["touch", path], check=True),
    "truncate": lambda path: subprocess.run(["truncate", "-s", "0", path], check=True),
    "cp": lambda path: subprocess.run(["cp", "/dev/null", path], check=True),
}


@pytest.mark.parametrize("name", ["imagestream.json", "spec.json", "tags/v1/spec.json"])
def test_nothing_written_is_nothing_saved(stream, name):
    obj, before = stream.get(), os.stat(stream / name)
    for way in NOTHING.values():
        way(stream / name)
    stream.is_untouched(obj)
    now = os.stat(stream / name)
    assert (now.st_mtime_ns, now.st_size, now.st_ino) == (
        before.st_mtime_ns, before.st_size, before.st_ino)
    assert (stream / name).read_text() == text(shown(obj, name))
    assert not any(one.exists() for one in rejected(stream / name))


def test_empty_text_by_rename(stream):
    obj = stream.get()
    save(stream / "empty", "", os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        os.rename(stream / "empty", stream / "spec.json")
    stream.is_untouched(obj)
    assert (stream / "spec.json").read_text() == text(shown(obj, "spec.json"))


def reversed_keys(value):
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(one) for one in value] if isinstance(value, list) else value


def nulls(value):
    """null, absent, {} and [] are the same."""
    if isinstance(value, dict):
        return {key: nulls(one) for key, one in value.items() if one is not None}
    return [nulls(one) for one in value] if isinstance(value, list) else value


def tags_turned(value):
    for place in (value, value.get("spec", {}), value.get("status", {})):
        if "tags" in place:
            place["tags"] = place["tags"][::-1]
    return value


@pytest.mark.parametrize("name", EDITS)
def test_equal_json_is_no_change(stream, name):
    obj, before = stream.get(), os.stat(stream / name)
    value = shown(obj, name)
    for content in (text(value), json.dumps(value, separators=(",", ":")),
                    json.dumps(reversed_keys(value), indent="\t"), json.dumps(nulls(value)),
                    "\n" + text(tags_turned(copy.deepcopy(value))) + "\n\n"):
        for way in SAVES.values():
            way(stream / name, content)
    stream.is_untouched(obj)
    now = os.stat(stream / name)
    assert (now.st_mtime_ns, now.st_size) == (before.st_mtime_ns, before.st_size)
    assert (stream / name).read_text() == text(value)


# Whose flush.


def halves(value):
    content = text(value)
    return content[:20], content[20:]


def test_group_of_commands(stream):
    value = stream.edited("spec.json")
    assert shell('{ /bin/echo -n "$2"; /bin/echo "$3"; } > "$1"', stream / "spec.json",
                 *halves(value)) == (0, "")
    assert len(stream.sent()) == 1
    stream.holds("spec.json", value)


def test_builtins_in_a_group(stream):
    value = stream.edited("spec.json")
    assert shell('{ printf %s "$2"; /bin/true; printf %s "$3"; } > "$1"', stream / "spec.json",
                 *halves(value)) == (0, "")
    assert len(stream.sent()) == 1
    stream.holds("spec.json", value)


def test_subshell_that_opens_nothing(stream):
    value = stream.edited("spec.json")
    assert shell('exec 3> "$1"; (printf %s "$2" >&3); (printf %s "$3" >&3); exec 3>&-',
                 stream / "spec.json", *halves(value)) == (0, "")
    assert len(stream.sent()) == 1
    stream.holds("spec.json", value)


def test_child_with_part_of_it_waits(stream):
    value = stream.edited("spec.json")
    first, second = halves(value)
    fd = os.open(stream / "spec.json", os.O_WRONLY | os.O_TRUNC)

    def child():
        os.write(fd, first.encode())
        os.close(fd)

    assert in_child(child) == 0
    assert stream.sent() == []
    os.write(fd, second.encode())
    os.close(fd)
    assert len(stream.sent()) == 1
    stream.holds("spec.json", value)


def test_child_with_all_of_it_saves(stream):
    value = stream.edited("spec.json")
    fd = os.open(stream / "spec.json", os.O_WRONLY | os.O_TRUNC)

    def child():
        os.write(fd, text(value).encode())
        os.close(fd)

    assert in_child(child) == 0
    assert len(stream.sent()) == 1
    stream.holds("spec.json", value)
    os.close(fd)
    assert len(stream.sent()) == 1


def test_child_gets_the_verdict(stream):
    stream.fault(status=403, count=1)
    fd = drafted(stream / "spec.json", text(stream.edited("spec.json")))
    assert in_child(os.close, fd) == errno.EACCES
    with fails(errno.EACCES):
        os.close(fd)
    assert len(stream.sent()) == 1


def test_opener_with_part_of_it(stream):
    obj = stream.get()
    for content in ("{", '{"lookupPolicy"', text(stream.edited("spec.json"))[:-3]):
        with fails(errno.EINVAL):
            save(stream / "spec.json", content)
        assert rejected(stream / "spec.json")[0].read_text() == content
    stream.is_untouched(obj)


def test_thread_is_the_same_process(stream):
    fd = drafted(stream / "spec.json", "{")
    seen = []

    def close():
        try:
            os.close(os.dup(fd))
        except OSError as error:
            seen.append(error.errno)

    thread = threading.Thread(target=close)
    thread.start()
    thread.join()
    assert seen == [errno.EINVAL]
    with fails(errno.EINVAL):
        os.close(fd)


def test_release_decides_what_nobody_did(stream):
    """The opener left before the first byte, and nobody finished the text: it isn't lost."""
    obj = stream.get()
    script = 'exec 3> "$1"; { sleep 0.2; /bin/echo -n "$2"; } >&3 & exec 3>&-'
    assert shell(script, stream / "spec.json", '{"lookupPolicy":') == (0, "")
    kept, _ = rejected(stream / "spec.json")
    wait_for(lambda: kept.name in names(stream.path), 5, "what was typed")
    assert kept.read_text() == '{"lookupPolicy":'
    stream.is_untouched(obj)


def test_child_after_its_opener_left(stream):
    value = stream.edited("spec.json")
    script = 'exec 3> "$1"; { sleep 0.2; /bin/echo -n "$2"; /bin/echo "$3"; } >&3 & exec 3>&-'
    assert shell(script, stream / "spec.json", *halves(value)) == (0, "")
    wait_for(lambda: stream.value("spec.json") == value, 5, "the save")
    assert len(stream.sent()) == 1


def test_yaml_waits_for_its_opener(stream):
    path = stream / "imagestream.yaml"
    content = path.read_text()
    assert "    tier: web\n" in content
    fd = drafted(path, content.replace("    tier: web\n", "    tier: web\n    edited: yes-it-is\n"))
    assert in_child(os.close, fd) == 0
    assert stream.sent() == []
    os.close(fd)
    assert stream.get()["metadata"]["labels"]["edited"] == "yes-it-is"


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP,
                                 signal.SIGABRT])
def test_killed_writer_saves_nothing(stream, sig):
    value = stream.edited("spec.json")
    script = CALLER + "signal.signal(signal.SIGINT, signal.SIG_DFL)\n" \
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it\n" \
        "print(flush=True)\nsignal.pause()"
    with subprocess.Popen([sys.executable, "-c", script, stream / "spec.json", text(value)],
                          stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        child.send_signal(sig)
        assert child.wait(60) == -sig
    # Saves of one stream go out one after another: this one comes after the release.
    save(stream / "metadata.json", text(stream.edited("metadata.json")))
    assert [body(one).get("spec") for one in stream.sent()] == [None]
    assert stream.value("spec.json")["lookupPolicy"] == {"local": False}


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(3)", "raise SystemExit"])
def test_writer_that_just_ends_saves(stream, end):
    value = stream.edited("spec.json")
    subprocess.run([sys.executable, "-c", CALLER + end, stream / "spec.json", text(value)],
                   check=False)
    assert len(stream.sent()) == 1
    stream.holds("spec.json", value)


CLOSER = CALLER + """
for sig in (signal.SIGINT, signal.SIGWINCH, signal.SIGALRM):
    signal.signal(sig, lambda *_: None)
exec(sys.argv[3])
try:
    os.close(fd)
except OSError as error:
    sys.exit(error.errno)
"""


@contextlib.contextmanager
def waiting(stream, setup=""):
    """A child whose close waits for the server, and catches signals."""
    stream.fault(hang=True)
    content = text(stream.edited("spec.json"))
    with subprocess.Popen([sys.executable, "-c", CLOSER, stream / "spec.json", content, setup],
                          stderr=subprocess.PIPE) as child:
        try:
            wait_for(lambda: stream.sent() or child.poll() is not None, 10, "the request")
            assert child.poll() is None, child.stderr.read().decode()
            yield child, content
        finally:
            child.kill()


def still_waits(child):
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.3)


def test_stop_signal_cancels(stream):
    with waiting(stream) as (child, content):
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == errno.EINTR
    kept, why = rejected(stream / "spec.json")
    assert kept.read_text() == content
    assert "applied" in why.read_text()  # that it may have been
    stream.server.control("DELETE", "faults")
    save(stream / "metadata.json", text(stream.edited("metadata.json")))
    assert [one["headers"]["content-type"].split(";")[0] for one in stream.sent()] == [
        STRATEGIC, MERGE]  # it wasn't tried again at release


def test_other_signals_do_not(stream):
    with waiting(stream) as (child, _):
        child.send_signal(signal.SIGWINCH)
        child.send_signal(signal.SIGALRM)
        still_waits(child)
        stream.server.control("DELETE", "faults")
        assert child.wait(60) == 0
    assert stream.value("spec.json")["lookupPolicy"] == {"local": True}
    assert len(stream.sent()) == 1


def test_stop_signal_after_another(stream):
    with waiting(stream) as (child, _):
        child.send_signal(signal.SIGWINCH)
        still_waits(child)
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == errno.EINTR


@pytest.mark.parametrize("setup", [
    "signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])"], ids=["ignored", "blocked"])
def test_stop_signal_that_is_not_heard(stream, setup):
    with waiting(stream, setup) as (child, _):
        child.send_signal(signal.SIGINT)
        child.send_signal(signal.SIGWINCH)
        still_waits(child)
        stream.server.control("DELETE", "faults")
        assert child.wait(60) == 0


def test_killed_while_it_waits(stream):
    with waiting(stream) as (child, _):
        child.kill()
        assert child.wait(60) == -signal.SIGKILL
    stream.server.control("DELETE", "faults")
    save(stream / "metadata.json", text(stream.edited("metadata.json")))
    assert len(stream.sent()) == 2


# Buffering.


def test_any_offset(stream):
    value = stream.edited("spec.json")
    data = text(value).encode()
    fd = os.open(stream / "spec.json", os.O_WRONLY | os.O_TRUNC)
    for begin in reversed(range(0, len(data), 100)):
        assert os.pwrite(fd, data[begin:begin + 100], begin) == len(data[begin:begin + 100])
    os.close(fd)
    assert len(stream.sent()) == 1
    stream.holds("spec.json", value)


def test_part_of_it_in_place(stream):
    content = text(stream.value("spec.json"))
    at = content.index('"local": false')
    fd = os.open(stream / "spec.json", os.O_RDWR)
    os.pwrite(fd, b'"local": true ', at)
    assert os.pread(fd, LIMIT, 0).decode() == content.replace('"local": false', '"local": true ')
    os.close(fd)
    assert stream.value("spec.json")["lookupPolicy"] == {"local": True}


def test_append_goes_to_the_end_of_the_draft(stream):
    value = stream.edited("spec.json")
    first, second = halves(value)
    fd = os.open(stream / "spec.json", os.O_RDWR | os.O_APPEND)
    os.ftruncate(fd, 0)
    os.write(fd, first.encode())
    os.write(fd, second.encode())
    os.pwrite(fd, b"\n", 3)  # O_APPEND wins on Linux
    assert os.pread(fd, LIMIT, 0).decode() == text(value) + "\n"
    os.close(fd)
    stream.holds("spec.json", value)


def test_append_to_what_is_there(stream):
    obj = stream.get()
    assert shell('echo >> "$1"; echo >> "$1"', stream / "spec.json") == (0, "")
    with fails(errno.EINVAL):
        save(stream / "spec.json", "}", os.O_WRONLY | os.O_APPEND)
    stream.is_untouched(obj)
    assert rejected(stream / "spec.json")[0].read_text() == text(shown(obj, "spec.json")) + "}"


def test_truncated_after_writing(stream):
    """rsync --inplace, and "r+" of many languages."""
    value = stream.value("spec.json")
    value["tags"] = value["tags"][:2]
    fd = os.open(stream / "spec.json", os.O_RDWR)
    os.write(fd, text(value).encode())
    os.ftruncate(fd, len(text(value)))
    os.close(fd)
    assert len(stream.sent()) == 1
    stream.holds("spec.json", value)


def test_truncated_before_writing(stream):
    value = stream.edited("spec.json")
    fd = os.open(stream / "spec.json", os.O_RDWR)
    os.read(fd, LIMIT)
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, text(value).encode())
    os.close(fd)
    assert len(stream.sent()) == 1
    stream.holds("spec.json", value)


def test_draft_is_its_writers_alone(stream):
    path, value = stream / "spec.json", stream.edited("spec.json")
    published, draft = text(stream.value("spec.json")), text(value) + " " * 1000
    before = os.stat(path)
    fd = os.open(path, os.O_RDWR | os.O_TRUNC)
    for size in (0, 100, len(draft)):
        os.pwrite(fd, draft[:size].encode(), 0)
        assert os.pread(fd, LIMIT, 0).decode() == draft[:size]
        assert os.lseek(fd, 0, os.SEEK_END) == size
        for st in (os.stat(path), os.fstat(fd)):
            assert (st.st_size, st.st_mtime_ns, st.st_ino) == (
                before.st_size, before.st_mtime_ns, before.st_ino)
        assert path.read_text() == published
        if size < len(draft):  # a child's end flushes all that it inherits
            assert subprocess.check_output(["cat", path], text=True) == published
    assert stream.sent() == []
    os.close(fd)
    assert path.read_text() == text(stream.value("spec.json"))


def test_truncation_takes_nothing_from_others(stream):
    path, value = stream / "spec.json", stream.edited("spec.json")
    reader = os.open(path, os.O_RDONLY)
    first = drafted(path, text(value))
    second = os.open(path, os.O_RDWR | os.O_TRUNC)
    assert os.pread(second, LIMIT, 0) == b""
    os.close(second)
    assert os.pread(reader, LIMIT, 0).decode() == text(stream.value("spec.json"))
    os.close(first)
    os.close(reader)
    assert len(stream.sent()) == 1
    stream.holds("spec.json", value)


def test_two_writers(stream):
    path = stream / "metadata.json"
    one, other = stream.value("metadata.json"), stream.value("metadata.json")
    one["labels"]["one"] = other["labels"]["other"] = "yes"
    first, second = drafted(path, text(one)), drafted(path, text(other))
    os.close(first)
    os.close(second)
    assert stream.get()["metadata"]["labels"] == {**one["labels"], "other": "yes"}


def test_end_of_a_handle_that_wrote_nothing(stream):
    """It is the file's, as everywhere, and not that of the version that the handle reads."""
    path = stream / "metadata.json"
    fd = os.open(path, os.O_RDWR)
    value = stream.value("metadata.json")
    value["annotations"] = {"long": "x" * 3000}
    save(path, text(value))
    assert os.lseek(fd, 0, os.SEEK_END) == os.fstat(fd).st_size == os.stat(path).st_size
    os.close(fd)


def test_limit(stream):
    obj = stream.get()
    fd = os.open(stream / "spec.json", os.O_RDWR)
    os.pwrite(fd, b"x", LIMIT - 1)
    os.ftruncate(fd, LIMIT)
    for call in (lambda: os.pwrite(fd, b"x", LIMIT), lambda: os.ftruncate(fd, LIMIT + 1),
                 lambda: os.pwrite(fd, b"x", 1 << 40)):
        with fails(errno.EFBIG):
            call()
    assert os.lseek(fd, 0, os.SEEK_END) == LIMIT
    with fails(errno.EFBIG):
        os.write(fd, b"x")
    os.ftruncate(fd, 0)
    os.close(fd)
    stream.is_untouched(obj)


def test_mmap_of_a_writing_handle(stream):
    content = text(stream.value("spec.json")).encode()
    fd = os.open(stream / "spec.json", os.O_RDWR)
    for protection in (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE):
        with fails(errno.ENODEV):
            mmap.mmap(fd, len(content), mmap.MAP_SHARED, protection)
        with mmap.mmap(fd, len(content), mmap.MAP_PRIVATE, protection) as mapped:
            assert mapped[:] == content
            if protection & mmap.PROT_WRITE:
                mapped[0:1] = b"x"
    os.close(fd)
    assert stream.sent() == []


def test_truncate_by_path(stream):
    obj, path = stream.get(), stream / "spec.json"
    size = os.stat(path).st_size
    os.truncate(path, 0)
    os.truncate(path, size)
    for wrong in (1, size - 1, size + 1, LIMIT + 1):
        with fails(errno.EINVAL):
            os.truncate(path, wrong)
    stream.is_untouched(obj)
    assert path.read_text() == text(shown(obj, "spec.json"))


def test_locks_are_the_kernels(stream):
    with open(stream / "spec.json", "r+") as first, open(stream / "spec.json", "r+") as second:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with fails(errno.EAGAIN):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert in_child(fcntl.lockf, second, fcntl.LOCK_EX | fcntl.LOCK_NB) == errno.EAGAIN
    assert stream.sent() == []


# The verdict.

MANY = 1000
VERDICTS = {
    "400": ({"status": 400}, errno.EINVAL),
    "401": ({"status": 401, "count": MANY}, errno.EKEYEXPIRED),
    "403": ({"status": 403}, errno.EACCES),
    "quota": ({"status": 403, "message": "imagestreams \"x\" is forbidden: exceeded quota: q, "
               "requested: openshift.io/imagestreams=1"}, errno.EDQUOT),
    "404": ({"status": 404}, errno.ESTALE),
    "405": ({"status": 405}, errno.EOPNOTSUPP),
    "413": ({"status": 413}, errno.EFBIG),
    "415": ({"status": 415, "count": MANY}, errno.EINVAL),
    "422": ({"status": 422}, errno.EINVAL),
    "429": ({"status": 429, "text": "Too many requests, please try again later.",
             "retryAfter": 1, "count": MANY}, errno.EAGAIN),
    "500": ({"status": 500}, errno.EIO),
    "ServerTimeout": ({"status": 500, "reason": "ServerTimeout", "count": MANY}, errno.EAGAIN),
    "etcd": ({"status": 500, "message": "etcdserver: request is too large"}, errno.EFBIG),
    "501": ({"status": 501}, errno.EOPNOTSUPP),
    "502": ({"status": 502, "text": "<html>bad gateway</html>", "count": MANY}, errno.EIO),
    "503": ({"status": 503, "text": "service unavailable", "count": MANY}, errno.EAGAIN),
    "504": ({"status": 504, "count": MANY}, errno.ETIMEDOUT),
    "hang": ({"hang": True, "count": MANY}, errno.ETIMEDOUT),
}


def verdict(number, way):
    if way in ("fsync", "fdatasync"):
        return errno.EIO if number == errno.EINVAL else number
    if way == "rename" and number == errno.ESTALE:
        return errno.EBUSY
    return number


@pytest.mark.parametrize("way", ["close", "fsync", "rename"])
@pytest.mark.parametrize("kind", VERDICTS)
def test_verdict(rig, hasty, kind, way):
    fault, number = VERDICTS[kind]
    hasty.fault(**fault)
    obj, path = hasty.get(), hasty / "spec.json"
    content = text(hasty.edited("spec.json"))
    before = os.stat(path)
    expected = errno.ENOENT if (kind, way) == ("404", "rename") else verdict(number, way)
    with at_most(3), fails(expected):  # the deadline is 1 s
        SAVES[way](path, content)
    assert hasty.get() == obj and hasty.sent()
    now = os.stat(path)
    assert (now.st_ino, now.st_size, now.st_mtime_ns) == (
        before.st_ino, before.st_size, before.st_mtime_ns)
    assert path.read_text() == text(shown(obj, "spec.json"))
    kept, why = rejected(path)
    if way == "rename":
        kept = path.with_name("spec.json.new")  # nothing moved
    assert kept.read_text() == content
    sentence = fault.get("message", "injected fault" if "text" not in fault else fault["text"])
    if kind not in ("hang", "502"):
        assert sentence in why.read_text().splitlines()[0]
    assert why.read_text().strip()


def test_busy_for_a_moment(stream):
    for fault in ({"status": 429, "text": "later", "retryAfter": 1},
                  {"status": 503, "text": "service unavailable"},
                  {"status": 500, "reason": "ServerTimeout"}):
        stream.fault(count=1, **fault)
    value = stream.edited("spec.json")
    save(stream / "spec.json", text(value))
    assert len(stream.sent()) == 4
    stream.holds("spec.json", value)


def test_conflicts_that_are_none(stream):
    """409 without a change of the same thing is examined again."""
    stream.fault(status=409, count=3)
    value = stream.edited("spec.json")
    save(stream / "spec.json", text(value))
    assert len(stream.sent()) == 4
    stream.holds("spec.json", value)


@pytest.mark.parametrize("way", ["close", "rename"])
def test_conflicts_without_end(hasty, way):
    hasty.fault(status=409, count=MANY)
    with fails(errno.EAGAIN):
        SAVES[way](hasty / "spec.json", text(hasty.edited("spec.json")))
    assert len(hasty.sent()) > 5


def test_conflicts_are_tried_ten_times(stream):
    stream.fault(status=409, count=MANY)
    with at_most(12), fails(errno.EAGAIN):  # the deadline is 10 s
        save(stream / "spec.json", text(stream.edited("spec.json")))
    assert len(stream.sent()) >= 10


@pytest.fixture
def lonely(rig, start_server, start_mount):
    """A stream of a server of its own, with a mount that gives it a second."""
    server = start_server("--load", rig.load)
    return Stream(server, start_mount(server, "--request-timeout", "1s"), "s-000")


def test_server_away(rig, lonely, start_server):
    content, path = text(lonely.edited("spec.json")), lonely / "spec.json"
    port = lonely.server.url.rpartition(":")[2]
    lonely.server.stop()
    for way, number in (("close", errno.ECONNREFUSED), ("rename", errno.ECONNREFUSED)):
        with fails(number):
            SAVES[way](path, content)
    assert rejected(path)[0].read_text() == content
    start_server("--load", rig.load, "--port", port)  # with another certificate
    with fails(errno.EPROTO):
        save(path, content)
    assert rejected(path)[1].read_text().strip()


def test_token_that_changed(rig, start_server, start_mount):
    """401, and the credentials are read again."""
    server = start_server("--load", rig.load)
    stream = Stream(server, start_mount(server, "--token-file", server.token_file), "s-000")
    value = stream.edited("spec.json")
    server.control("POST", "token", {"user": "admin", "token": "sha256~the-new-one"})
    server.token = "sha256~the-new-one"
    server.token_file.write_text(server.token)
    save(stream / "spec.json", text(value))
    stream.holds("spec.json", value)
    assert [one["status"] for one in stream.sent()] == [401, 200]


def test_too_large_for_the_server(stream):
    """As the server itself says it: past etcd's limit, and past the limit of a body."""
    obj = stream.get()
    for size in (1700, 3500):
        value = stream.value("tags/v1/spec.json")
        value["annotations"]["description"] = "x" * size * 1024
        with fails(errno.EFBIG):
            save(stream / "tags/v1/spec.json", text(value))
        assert rejected(stream / "tags/v1/spec.json")[0].read_text() == text(value)
    assert stream.get() == obj


def test_quiet_after_the_verdict(rig, stream):
    path, value = stream / "spec.json", stream.edited("spec.json")
    before = os.stat(path)
    fd = drafted(path, text(value) + " " * 500)
    os.close(os.dup(fd))
    after = os.stat(path)
    assert after.st_mtime_ns > before.st_mtime_ns and after.st_ino == before.st_ino
    assert after.st_size == len(text(value)) == os.fstat(fd).st_size
    os.close(fd)
    with stream.shows():
        rig.server.control("POST", "bulk", [{"op": "touch-image", "namespace": NAMESPACE,
                                             "name": stream.name}])
    rig.settle()
    now = os.stat(path)
    assert (now.st_mtime_ns, now.st_size, now.st_ino) == (
        after.st_mtime_ns, after.st_size, after.st_ino)
    stream.holds("spec.json", value)
    stream.holds("status.json", stream.value("status.json"))


def test_echo_comes_before_the_answer(rig, stream):
    path, value = stream / "spec.json", stream.edited("spec.json")
    stream.fault(after=True, delay=0.5)
    save(path, text(value))
    after = os.stat(path)
    assert after.st_size == len(text(value))
    rig.settle()
    now = os.stat(path)
    assert (now.st_mtime_ns, now.st_size, now.st_ino) == (
        after.st_mtime_ns, after.st_size, after.st_ino)
    assert len(stream.sent()) == 1
    stream.holds("spec.json", value)


def test_each_save_is_newer(stream):
    path, value = stream / "metadata.json", stream.value("metadata.json")
    times = [os.stat(path).st_mtime_ns]
    for number in range(10):
        value["labels"]["round"] = str(number)
        save(path, text(value))
        times.append(os.stat(path).st_mtime_ns)
    assert times == sorted(set(times))


def test_small_and_large(stream):
    """Past 64 KiB files are read in another way."""
    path = stream / "tags/v1/spec.json"
    assert path.exists()
    for size in (100_000, 5, 65_000, 300_000, 1):
        value = stream.value("tags/v1/spec.json")
        value["annotations"]["description"] = "x" * size
        json.loads(path.read_text())
        save(path, text(value))
        for name in ("tags/v1/spec.json", "spec.json", "imagestream.json"):
            stream.holds(name, stream.value(name))
        assert stream.tags()["v1"]["annotations"]["description"] == "x" * size


def test_saved_files_echo_is_quiet(rig, stream):
    """imagestream.json has everything: its own echo would be seen at once."""
    path = stream / "imagestream.json"
    save(path, text(stream.edited("imagestream.json")))
    after = os.stat(path)
    rig.settle()
    now = os.stat(path)
    assert (now.st_mtime_ns, now.st_size) == (after.st_mtime_ns, after.st_size)


def test_other_files_read_new_at_once(stream):
    tags = stream / "tags"
    for name in ("new", "v1", "v2"):  # the kernel may remember what it was told
        assert (tags / name).exists() == (name != "new")
    assert (tags / "v1/spec.json").exists()
    held = os.open(tags / "v2/spec.json", os.O_RDONLY)
    os.read(held, 10)
    value = stream.value("spec.json")
    value["tags"] = [one for one in value["tags"] if one["name"] != "v1"]
    value["tags"][-1]["from"]["name"] = "quay.io/example/web:v2-much-longer"
    value["tags"].append({"name": "new", "from": image("web:new")})
    save(stream / "spec.json", text(value))
    assert names(tags / "new") == {"from", "spec.json"}
    assert names(tags / "v1") == {"image", "status.json"}
    assert not (tags / "v1/spec.json").exists()
    assert b"much-longer" in os.pread(held, LIMIT, 0)
    os.close(held)
    for name in ("tags/v2/spec.json", "tags/new/spec.json", "imagestream.json", "metadata.json"):
        stream.holds(name, stream.value(name))
    tag_value = stream.value("tags/new/spec.json")
    tag_value["annotations"] = {"description": "the newest"}
    save(tags / "new/spec.json", text(tag_value))
    stream.holds("spec.json", stream.value("spec.json"))
    assert "the newest" in (stream / "spec.json").read_text()


def test_other_files_are_of_one_version(stream):
    """Bytes and size, also while the announcer tells of what a save changed in them."""
    value, others = stream.value("metadata.json"), (stream / "imagestream.json", stream / "imagestream.yaml")
    for number in range(300):
        value["annotations"] = {"number": f"{number:03}", "long": "x" * (3000 if number % 2 else 1)}
        save(stream / "metadata.json", text(value))
        for path in others * 10:
            size, data = os.stat(path).st_size, path.read_bytes()
            assert len(data) == size and f'"{number:03}"'.encode() in data
            assert b"\0" not in data and data.endswith(b"\n")


@pytest.mark.parametrize("way", SAVES)
def test_history_without_items(stream, way):
    """The server keeps none, so the file goes by what was saved, and that is no failure."""
    path, watch = stream / "tags/v1/status.json", Inotify()
    path.read_text()
    watch.add(path.parent)
    SAVES[way](path, "{}")
    assert "v1" not in stream.history()
    assert watch.until(lambda event: event[1:] == ("status.json", "DELETE"), 60), watch.waiting
    watch.close()
    assert not path.exists()
    assert names(path.parent) == {"from", "spec.json"}


def test_tag_without_history_goes_at_once(stream):
    save(stream / "spec.json", text({**stream.value("spec.json"), "tags": stream.value(
        "spec.json")["tags"] + [{"name": "brief", "from": image("web:brief")}]}))
    assert (stream / "tags/brief/spec.json").exists()
    value = stream.value("spec.json")
    value["tags"] = [one for one in value["tags"] if one["name"] != "brief"]
    save(stream / "spec.json", text(value))
    assert not (stream / "tags/brief").exists()
    assert "brief" not in names(stream / "tags")


# Which request.


def all_keys(value):
    if isinstance(value, dict):
        return set(value) | set().union(*map(all_keys, value.values()), set())
    return set().union(*map(all_keys, value), set()) if isinstance(value, list) else set()


def patch_directives(value, inside=""):
    """(where, directive) of each $patch."""
    found = []
    for key, one in value.items() if isinstance(value, dict) else enumerate(value):
        if key == "$patch":
            found.append((inside, one))
        elif isinstance(one, (dict, list)):
            found += patch_directives(one, key if isinstance(key, str) else inside + "[]")
    return found


@pytest.mark.parametrize("name", EDITS)
def test_every_request_is_careful(stream, name):
    obj = stream.get()
    save(stream / name, text(stream.edited(name)))
    (request,) = stream.sent()
    assert "fieldValidation=Strict" in request["query"].split("&")
    assert body(request)["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]
    assert "managedFields" not in request["body"]


def test_spec_sends_what_changed(stream):
    value = stream.value("spec.json")
    latest, first, second = value["tags"]
    first["annotations"] = {"description": "changed"}  # without version
    second["importPolicy"]["scheduled"] = True
    value["tags"] = [first, second, {"name": "v3", "from": image("web:v3")}]
    save(stream / "spec.json", text(value))
    (request,) = stream.sent()
    patch = body(request)
    assert set(patch) <= {"kind", "apiVersion", "metadata", "spec"}
    assert set(patch["metadata"]) <= {"resourceVersion", "uid"}
    tags = {one["name"]: one for one in patch["spec"]["tags"]}
    assert set(patch["spec"]) == {"tags"} and set(tags) == {"latest", "v1", "v2", "v3"}
    assert tags["latest"] == {"name": "latest", "$patch": "delete"}
    assert tags["v1"] == {"name": "v1", "annotations": {"description": "changed", "version": None}}
    assert tags["v2"] == {"name": "v2", "importPolicy": {"scheduled": True}}
    now = stream.tags()
    assert set(now) == {"v1", "v2", "v3"}
    assert now["v1"]["annotations"] == {"description": "changed"}
    assert now["v1"]["from"] == first["from"] and now["v1"]["generation"] == 2
    assert now["v2"]["annotations"] == second["annotations"]
    assert stream.history()["latest"]  # history stays


def test_tag_sends_that_tag_alone(stream):
    value, before = stream.value("tags/v1/spec.json"), stream.tags()
    value["from"]["name"] = "quay.io/example/web:v1.1"
    save(stream / "tags/v1/spec.json", text(value))
    (request,) = stream.sent()
    assert [one["name"] for one in body(request)["spec"]["tags"]] == ["v1"]
    now = stream.tags()
    assert now["v1"]["from"] == value["from"]
    assert {name: now[name] for name in ("latest", "v2")} == {
        name: before[name] for name in ("latest", "v2")}


def test_from_is_never_merged(stream):
    path = stream / "tags/v1/spec.json"
    sources = [{"kind": "ImageStreamTag", "name": "marker:v1", "namespace": NAMESPACE},
               {"kind": "ImageStreamTag", "name": "marker:v2"},
               {"kind": "DockerImage", "name": "quay.io/example/other"}]
    for source in sources:
        save(path, text({**stream.value("tags/v1/spec.json"), "from": source}))
        assert stream.tags()["v1"]["from"] == source
    save(path, text(without(stream.value("tags/v1/spec.json"), "from")))
    assert "from" not in stream.tags()["v1"]
    assert set(stream.tags()) == {"latest", "v1", "v2"}
    for request in stream.sent():
        for where, directive in patch_directives(body(request)):
            assert (where, directive) == ("from", "replace")


def test_tags_are_never_emptied_by_a_directive(stream):
    value = stream.value("spec.json")
    value["tags"] = [{"name": "v1", "from": {"kind": "ImageStreamTag", "name": "marker:v1"}},
                     value["tags"][2]]
    save(stream / "spec.json", text(value))
    for where, directive in patch_directives(body(stream.sent()[0])):
        assert directive == ("replace" if where == "from" else "delete")
    assert set(stream.tags()) == {"v1", "v2"}


def test_key_with_a_dollar(stream):
    path, before = stream / "tags/v1/spec.json", stream.tags()
    value = stream.value("tags/v1/spec.json")
    value["annotations"].update({"$patch": "delete", "$x": "y"})
    save(path, text(value))
    (request,) = stream.sent()
    assert request["headers"]["content-type"].split(";")[0] == MERGE
    assert [one["name"] for one in body(request)["spec"]["tags"]] == ["latest", "v1", "v2"]
    now = stream.tags()
    assert now["v1"]["annotations"] == value["annotations"]
    assert {**now, "v1": None} == {**before, "v1": None}
    assert now["v1"]["generation"] == 2  # nothing is imported by accident
    stream.holds("tags/v1/spec.json", value)


def test_no_strategic_merge(stream):
    stream.fault(status=415, contentType="strategic", count=MANY)
    value, before = stream.value("tags/v1/spec.json"), stream.tags()
    value["annotations"] = {"description": "changed"}
    save(stream / "tags/v1/spec.json", text(value))
    first, second = stream.sent()
    assert first["headers"]["content-type"].startswith(STRATEGIC)
    assert second["headers"]["content-type"].startswith(MERGE)
    assert [one["name"] for one in body(second)["spec"]["tags"]] == ["latest", "v1", "v2"]
    assert "fieldValidation=Strict" in second["query"]
    assert body(second)["metadata"]["resourceVersion"]
    now = stream.tags()
    assert {**now, "v1": None} == {**before, "v1": None}
    assert now["v1"] == {**before["v1"], "annotations": value["annotations"]}


def test_metadata_is_a_merge_patch(stream):
    value = stream.value("metadata.json")
    del value["labels"]["tier"]
    value["labels"]["$weird"] = "x"  # a merge patch has no directives; the server says no
    with fails(errno.EINVAL):
        save(stream / "metadata.json", text(value))
    del value["labels"]["$weird"]
    value["annotations"]["note"] = "ümlaut \u2028"
    value["finalizers"] = ["example.org/keep"]
    save(stream / "metadata.json", text(value))
    patch = body(stream.sent()[-1])
    assert set(patch) == {"metadata"}
    assert without(patch["metadata"], "resourceVersion", "uid") == {
        "labels": {"tier": None}, "annotations": {"note": "ümlaut \u2028"},
        "finalizers": ["example.org/keep"]}
    stream.holds("metadata.json", value)


def test_leaving_out_is_removing(stream):
    """Of what can be changed: labels, tags."""
    save(stream / "metadata.json", text(without(stream.value("metadata.json"), "labels")))
    assert "labels" not in stream.get()["metadata"]
    save(stream / "spec.json", text({"lookupPolicy": {"local": False}}))
    assert stream.tags() == {}
    assert names(stream / "tags") == {"latest", "pushed", "v1", "v2"}  # of history
    assert set(stream.history()) == {"latest", "pushed", "v1", "v2"}
    assert not (stream / "tags/v1/spec.json").exists()


def test_odd_tags_by_the_spec(stream):
    value = stream.value("spec.json")
    odd = {"a/b": "a%2Fb", "": "%00", "nul\0": "nul%00", ".": "%2E", "$patch": "$patch",
           "\U0001f600": "\U0001f600"}
    value["tags"] += [tag(name, image("odd:1"), note="\0 \u2028 \U0001f600") for name in odd]
    save(stream / "spec.json", text(value))
    assert set(stream.tags()) == {"latest", "v1", "v2", *odd}
    assert names(stream / "tags") == {"latest", "pushed", "v1", "v2", *odd.values()}
    for name in odd.values():
        path = stream / "tags" / name / "spec.json"
        one = json.loads(path.read_text())
        assert one["annotations"] == {"note": "\0 \u2028 \U0001f600"}
        save(path, text({**one, "annotations": {"note": "\0"}}))
    assert {one["annotations"]["note"] for name, one in stream.tags().items() if name in odd} == {
        "\0"}


def test_status_goes_to_its_subresource(stream):
    before = stream.get()
    (stream / "tags/v1/status.json").read_text()  # who never read would roll a push back
    value = stream.value("tags/v1/status.json")
    value["items"] = value["items"][1:]
    save(stream / "tags/v1/status.json", text(value))
    (request,) = stream.sent()
    assert request["path"] == stream.url + "/status"
    assert [one["tag"] for one in body(request)["status"]["tags"]] == ["v1"]
    now = stream.get()
    assert shown(now, "tags/v1/status.json") == value
    for name in ("latest", "pushed", "v2"):  # a merge of the list would lose them
        assert stream.history()[name] == shown(before, f"tags/{name}/status.json")["items"]
    assert now["spec"] == before["spec"]
    assert now["metadata"]["labels"] == before["metadata"]["labels"]


@pytest.mark.parametrize("name", ["status.json", "tags/pushed/status.json"])
def test_status_without_strategic_merge(stream, name):
    before = stream.get()
    stream.fault(status=415, contentType="strategic", count=MANY)
    value = stream.edited(name)
    save(stream / name, text(value))
    stream.holds(name, value)
    now = stream.get()
    assert now["spec"] == before["spec"] and shown(now, "metadata.json") == shown(
        before, "metadata.json")
    assert set(stream.history()) == {"latest", "pushed", "v1", "v2"}


@pytest.mark.parametrize("name", ["status.json", "tags/pushed/status.json"])
def test_status_without_patches(stream, name):
    """The PUT is that of GET …/status: a smaller one would wipe labels and finalizers."""
    stream.change({"metadata": {"finalizers": ["example.org/keep"]}})
    before = stream.get()
    stream.fault(status=415, count=MANY)
    value = stream.edited(name)
    save(stream / name, text(value))
    request = stream.sent()[-1]
    assert (request["method"], request["path"]) == ("PUT", stream.url + "/status")
    assert "fieldValidation=Strict" in request["query"]
    put = body(request)
    assert put["metadata"]["labels"] == before["metadata"]["labels"]
    assert put["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert put["spec"] == before["spec"] and "managedFields" not in put["metadata"]
    assert str(BIG) in request["body"]
    now = stream.get()
    assert shown(now, "metadata.json") == shown(before, "metadata.json")
    stream.holds(name, value)


def test_put_has_everything(stream):
    """Fields that this program doesn't know, and numbers that a float can't hold."""
    obj = stream.get()
    obj["spec"]["futureField"] = {"n": BIG, "big": 2**63 - 1, "list": [{"x": None}]}
    with stream.shows():
        stream.server.control("POST", "bulk", [{
            "op": "put", "resource": "imagestreams",
            "object": without(obj, "kind", "apiVersion")}])
    value = stream.edited("imagestream.json")
    assert "futureField" in value["spec"]
    with fails(errno.EINVAL):  # this server knows no such field either
        save(stream / "imagestream.json", text(value))
    request = stream.sent()[0]
    assert request["method"] == "PUT"
    put = body(request)
    assert put["spec"]["futureField"] == obj["spec"]["futureField"]
    assert put["metadata"]["labels"]["edited"] == "yes"
    for number in (BIG, 2**63 - 1):
        assert str(number) in request["body"]
    assert "managedFields" not in request["body"]


def test_put_of_all_at_once(stream):
    value = stream.edited("imagestream.json")
    value["spec"]["tags"][1]["annotations"] = {"description": "changed"}
    value["metadata"]["annotations"] = {}
    save(stream / "imagestream.json", text(value))
    assert [one["method"] for one in stream.sent()] == ["PUT"]
    now = stream.get()
    assert now["metadata"]["labels"]["edited"] == "yes"
    assert "annotations" not in now["metadata"]
    assert stream.tags()["v1"]["annotations"] == {"description": "changed"}
    assert stream.history()["pushed"][0]["generation"] == BIG


def test_long_numbers_in_patches(stream):
    value = stream.value("tags/pushed/status.json")
    value["items"].insert(0, item(9, 2**63 - 1))
    save(stream / "tags/pushed/status.json", text(value))
    (request,) = stream.sent()
    assert str(BIG) in request["body"] and str(2**63 - 1) in request["body"]
    assert [one["generation"] for one in stream.history()["pushed"]] == [2**63 - 1, BIG, 1]


def test_zero_asks_for_an_import(stream):
    value = stream.value("tags/v1/spec.json")
    before = stream.tags()["v1"]["generation"]
    save(stream / "tags/v1/spec.json", text({**value, "generation": 0}))
    (request,) = stream.sent()
    assert body(request)["spec"]["tags"] == [{"name": "v1", "generation": 0}]
    assert stream.tags()["v1"]["generation"] > before
    stream.holds("tags/v1/spec.json", value)


# Edits that would be dropped.


def changed(*path, value="other"):
    def change(document):
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value
    return change


DROPPED = {
    "status": ("imagestream.json", lambda value: cut_history(value["status"]["tags"])),
    "kind": ("imagestream.json", changed("kind")),
    "apiVersion": ("imagestream.json", changed("apiVersion", value="v1")),
    "name": ("imagestream.json", changed("metadata", "name")),
    "namespace": ("imagestream.json", changed("metadata", "namespace")),
    "creationTimestamp": ("metadata.json", changed("creationTimestamp",
                                                   value="2020-01-01T00:00:00Z")),
    "uid": ("metadata.json", changed("uid")),
    "selfLink": ("metadata.json", changed("selfLink", value="/somewhere")),
    "unheardOf": ("metadata.json", changed("unheardOf")),
    "dockerImageRepository": ("status.json", changed("dockerImageRepository")),
    "name ": ("tags/v1/spec.json", changed("name", value="v9")),
    "v2": ("spec.json", lambda value: value["tags"].append(dict(value["tags"][-1]))),
}


@pytest.mark.parametrize("field", DROPPED)
def test_edit_that_would_be_dropped(stream, field):
    name, edit = DROPPED[field]
    """By who read the file: who didn't, or renames another onto it, lays a copy of something else
    there (test_texts.py)."""
    obj, path = stream.get(), stream / name
    value = copy.deepcopy(shown(obj, name))
    EDITS[name](value)
    edit(value)
    for way, number in (("close", errno.EINVAL), ("fsync", errno.EIO), ("rename", errno.EINVAL)):
        if way == "rename" and field in ("uid", "name ", "dockerImageRepository"):
            continue
        path.read_text()
        with fails(number):
            SAVES[way](path, text(value))
        assert field.strip() in rejected(path)[1].read_text()
    stream.is_untouched(obj)


@pytest.mark.parametrize("name, left_out", [
    ("metadata.json", ("uid", "name", "namespace", "creationTimestamp")),
    ("imagestream.json", ("status", "kind", "apiVersion")), ("tags/v1/spec.json", ("name",)),
    ("status.json", ("dockerImageRepository",))])
def test_leaving_a_field_out_is_no_edit(stream, name, left_out):
    value = stream.edited(name)
    save(stream / name, text(without(value, *left_out)))
    stream.holds(name, value)


@pytest.mark.parametrize("content", [
    "[]", '"text"', "7", "null", "nonsense", "{} {}", '{"a": 1,}', "{'a': 1}", '{"a": NaN}',
    b'{"\xff": 1}', b"\0", '{"a": "\\ud800"}', '{"a": 1' + "0" * 400 + "}",
    pytest.param("[" * 100_000, id="deep"), pytest.param('{"a":' * 50_000, id="deeper")],
                         ids=lambda content: repr(content)[:20])
def test_no_json_object(stream, content):
    obj = stream.get()
    with fails(errno.EINVAL):
        save(stream / "metadata.json", content)
    stream.is_untouched(obj)
    kept, why = rejected(stream / "metadata.json")
    assert kept.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert why.read_text().strip()


def test_a_retry_of_what_the_server_has_by_now_ends_the_refusal(stream):
    """The request that was cancelled may have been applied."""
    path = stream / "metadata.json"
    path.read_text()
    value = stream.value("metadata.json")
    value.setdefault("labels", {})["late"] = "yes"
    stream.server.fault(path=stream.url, method="PATCH", status=403, count=1)
    with fails(errno.EACCES):
        save(path, text(value))
    assert all(one.exists() for one in rejected(path))
    stream.server.label(stream.namespace, stream.name, late="yes")
    wait_for(lambda: "late" in path.read_text())
    sent = len(stream.sent())
    save(path, rejected(path)[0].read_text())
    assert not any(one.exists() for one in rejected(path)) and len(stream.sent()) == sent


def test_text_reverted_to_what_the_server_has_ends_the_refusal(stream):
    path = stream / "metadata.json"
    before = path.read_text()
    stream.server.fault(path=stream.url, method="PATCH", status=403, count=1)
    with fails(errno.EACCES):
        save(path, text(stream.edited("metadata.json")))
    save(path, before)  # what the same process does at once is no person's word: vim -es
    assert all(one.exists() for one in rejected(path))
    assert in_child(save, path, before) == 0
    assert not any(one.exists() for one in rejected(path)) and len(stream.sent()) == 1


def test_reverted_by_the_same_process_in_its_time(stream):
    """Undone and written, in an editor."""
    path = stream / "metadata.json"
    before = path.read_text()
    stream.server.fault(path=stream.url, method="PATCH", status=403, count=1)
    with fails(errno.EACCES):
        save(path, text(stream.edited("metadata.json")))

    def reverted():
        save(path, before)
        return not any(one.exists() for one in rejected(path))

    wait_for(reverted, 10, "the end of the refusal")


def test_unknown_fields_are_the_servers_to_refuse(stream):
    value = stream.value("spec.json")
    value["tags"][1]["form"] = value["tags"][1].pop("from")
    obj = stream.get()
    with fails(errno.EINVAL):
        save(stream / "spec.json", text(value))
    assert len(stream.sent()) == 1 and stream.get() == obj
    first, *causes = rejected(stream / "spec.json")[1].read_text().splitlines()
    assert first == 'unknown field "spec.tags[1].form"'  # the server quotes the whole object
    assert all(line.endswith(": " + first) and len(line) < 100 for line in causes)


# What a refused save leaves.

CAUSES = [{"reason": "FieldValueInvalid", "field": "spec.tags[v1].from.name",
           "message": "Invalid value: \"a b\": the reference isn't one"},
          {"reason": "FieldValueRequired", "field": "spec.tags[v2].from.kind",
           "message": "Required value: " + "x" * 3000}]


def test_refused_save_leaves_text_and_reason(stream):
    path, content = stream / "tags/v1/spec.json", text(stream.edited("tags/v1/spec.json"))
    kept, why = rejected(path)
    assert not kept.exists() and not why.exists()  # the kernel may remember that
    stream.fault(status=422, message="ImageStream is invalid: both", causes=CAUSES)
    with fails(errno.EINVAL):
        save(path, content)
    with open(kept) as file, open(why) as reason:
        assert file.read() == content
        first, *causes = reason.read().splitlines()
    assert first == "ImageStream is invalid: both"
    assert len(causes) == len(CAUSES)
    for line, cause in zip(causes, CAUSES):
        for part in cause.values():
            assert part[:400] in line
    assert causes[1].count("x") > 900 and "x" * 1025 not in causes[1] and "x…x" in causes[1]
    assert names(path.parent) == {"from", "image", "spec.json", "status.json", kept.name,
                                  why.name}
    assert os.stat(kept).st_size == len(content)


def test_state_directory(rig, stream):
    stream.fault(status=422, message="refused for the test of the state directory", count=1)
    content = text(stream.edited("metadata.json"))  # with the stream's own name
    with fails(errno.EINVAL):
        save(stream / "metadata.json", content)
    top = rig.directory / "state/imagestreamfs"
    assert list(rig.state().values()).count(content.encode()) == 1
    assert any(b"the test of the state directory" in one for one in rig.state().values())
    for path in (top, *top.rglob("*")):
        assert stat.S_IMODE(os.stat(path).st_mode) == (0o700 if path.is_dir() else 0o600), path
    save(stream / "metadata.json", content)
    assert content.encode() not in rig.state().values()


def test_failure_is_told_in_errors(rig, stream):
    stream.fault(status=422, message="refused for the test of errors")
    with fails(errno.EINVAL):
        save(stream / "spec.json", text(stream.edited("spec.json")))
    (entry,) = [one for one in stream.mount.errors()
                if one["message"] == "refused for the test of errors"]
    assert entry["code"] == 422 and entry["path"].endswith(f"{NAMESPACE}/{stream.name}/spec.json")
    assert entry["request"].startswith("PATCH ") and stream.url in entry["request"]
    assert entry["errno"] in ("EINVAL", errno.EINVAL)


def test_no_token_anywhere(rig, stream):
    stream.fault(status=401, count=2)
    with fails(errno.EKEYEXPIRED):
        save(stream / "spec.json", text(stream.edited("spec.json")))
    told = [(rig.mount / ".api/errors").read_bytes(), *rig.state().values()]
    told += [path.read_bytes() for path in rejected(stream / "spec.json")]
    assert not any(rig.token.encode() in one for one in told)
    assert rig.token not in rig.mount.stderr.read_text()


def test_next_accepted_save_clears_it(stream):
    path, content = stream / "spec.json", text(stream.edited("spec.json"))
    kept, why = rejected(path)
    stream.fault(status=403, count=2)
    for attempt in (content, content + "\n"):
        with fails(errno.EACCES):
            save(path, attempt)
        assert kept.read_text() == attempt
    save(stream / "metadata.json", text(stream.edited("metadata.json")))
    assert kept.exists() and why.exists()  # that was another file
    subprocess.run(["cp", kept, path], check=True)
    assert {kept.name, why.name}.isdisjoint(names(stream.path))
    assert not kept.exists() and not why.exists()
    stream.holds("spec.json", json.loads(content))


def test_rejected_can_be_moved_back(stream):
    path, content = stream / "spec.json", text(stream.edited("spec.json"))
    stream.fault(status=403, count=1)
    with fails(errno.EACCES):
        save(path, content)
    os.rename(rejected(path)[0], path)
    assert {one.name for one in rejected(path)}.isdisjoint(names(stream.path))
    stream.holds("spec.json", json.loads(content))


def test_rejected_can_be_removed(stream):
    stream.fault(status=403)
    with fails(errno.EACCES):
        save(stream / "spec.json", text(stream.edited("spec.json")))
    for path in rejected(stream / "spec.json"):
        os.unlink(path)
        assert not path.exists()
    assert names(stream.path) == {"imagestream.json", "imagestream.yaml", "metadata.json",
                                  "spec.json", "status.json", "tags"}


def test_refused_rename_says_why(stream):
    stream.fault(status=422, message="no such thing", count=1)
    content = text(stream.edited("spec.json"))
    with fails(errno.EINVAL):
        replace(stream / "spec.json", content)
    assert rejected(stream / "spec.json")[1].read_text().startswith("no such thing")
    assert (stream / "spec.json.new").read_text() == content
    os.rename(stream / "spec.json.new", stream / "spec.json")
    stream.holds("spec.json", json.loads(content))
    assert not rejected(stream / "spec.json")[1].exists()


# The answer that never came.

# libcurl repeats a request by itself where an old connection ends without a byte: cutAfter isn't
# that, and two cuts are more than it takes.
LOST = {"applied": {"after": True, "cutAfter": 0}, "cut": {"after": True, "cut": True},
        "reset": {"after": True, "cut": "reset"}, "never": {"cut": True, "count": 2},
        "twice": {"after": True, "cut": True, "count": 2}}


@pytest.mark.parametrize("name", ["imagestream.json", "metadata.json", "spec.json",
                                  "tags/pushed/status.json"])
@pytest.mark.parametrize("kind", LOST)
def test_lost_answer(stream, kind, name):
    value = stream.edited(name)
    stream.fault(method=REQUESTS[name][0], **LOST[kind])
    save(stream / name, text(value))
    stream.holds(name, value)
    assert not any(path.exists() for path in rejected(stream / name))


def test_lost_answer_and_somebody_else(stream):
    """Applied, then cut, and the same thing changed again since: theirs stays."""
    value = stream.edited("metadata.json")
    stream.fault(count=1, after=True, cut=True, bulk=[{
        "op": "touch-label", "namespace": NAMESPACE, "name": stream.name}])
    save(stream / "metadata.json", text(value))
    labels = stream.get()["metadata"]["labels"]
    assert labels["edited"] == "yes" and "touched" in labels


def test_applied_but_told_too_late(hasty):
    """The text is kept; tried again, it is there already."""
    path, value = hasty / "spec.json", hasty.edited("spec.json")
    hasty.fault(after=True, hang=True)
    with fails(errno.ETIMEDOUT):
        save(path, text(value))
    kept, why = rejected(path)
    assert kept.read_text() == text(value) and "applied" in why.read_text()
    wait_for(lambda: path.read_text() == text(value), 5, "what was applied")
    subprocess.run(["cp", kept, path], check=True)
    assert len(hasty.sent()) == 1
    hasty.holds("spec.json", value)


# Drafts when the program ends.


def test_unsaved_draft_outlives_the_program(rig, start_mount):
    mount = start_mount(rig.server)
    stream = Stream(rig.server, mount, next(rig.names))
    obj, content = stream.get(), text(stream.edited("spec.json")) + "unfinished"
    drafts = [drafted(stream / "spec.json", content),
              drafted(stream / "tags/v1/spec.json", '{"unsaved": ')]
    assert mount.stop() < STOP_SECONDS
    for fd in drafts:
        with contextlib.suppress(OSError):
            os.close(fd)
    kept = rig.state().values()
    assert content.encode() in kept and b'{"unsaved": ' in kept
    assert stream.get() == obj


def test_end_of_the_program_while_a_save_waits(rig, start_mount):
    stream = Stream(rig.server, start_mount(rig.server), next(rig.names))
    rig.server.reset()
    with waiting(stream) as (child, content):
        assert stream.mount.stop() < STOP_SECONDS
        assert child.wait(60) != 0
    rig.server.control("DELETE", "faults")
    assert content.encode() in rig.state().values()


def test_no_place_to_keep_things(rig, start_mount, monkeypatch):
    """Without a state directory the text is still beside the file."""
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    stream = Stream(rig.server, start_mount(rig.server), next(rig.names))
    stream.mount.expect("/proc/nowhere")
    with fails(errno.EINVAL):
        save(stream / "spec.json", "{")
    assert rejected(stream / "spec.json")[0].read_text() == "{"
    value = stream.edited("spec.json")
    save(stream / "spec.json", text(value))
    stream.holds("spec.json", value)


# The import controller's own change.


def test_import_after_a_save(rig, start_server, start_mount):
    server = start_server("--load", rig.load, "--import-controller")
    stream = Stream(server, start_mount(server), "s-000")
    path, value = stream / "spec.json", stream.value("spec.json")
    value["tags"].append(tag("fresh", image("fresh:1")))
    content = text(value)
    save(path, content)
    after, status = os.stat(path), os.stat(stream / "status.json")
    wait_for((stream / "tags/fresh/image").exists, 5, "the import")
    # One file of a change after another, this one last.
    wait_for(lambda: os.stat(stream / "status.json").st_mtime_ns > status.st_mtime_ns, 5, "status")
    now = os.stat(path)
    assert (now.st_mtime_ns, now.st_size) == (after.st_mtime_ns, after.st_size)
    assert "dockerRepositoryCheck" in (stream / "metadata.json").read_text()
    stream.holds("tags/fresh/status.json", stream.value("tags/fresh/status.json"))
    stream.holds("imagestream.json", stream.value("imagestream.json"))
    value["lookupPolicy"]["local"] = True  # an editor that is still open saves again
    save(path, text(value))
    assert stream.value("spec.json")["lookupPolicy"] == {"local": True}
    assert stream.history()["fresh"]


def test_import_is_no_conflict_for_the_whole_object(rig, start_server, start_mount):
    server = start_server("--load", rig.load, "--import-controller")
    stream = Stream(server, start_mount(server), "s-000")
    path = stream / "imagestream.json"
    value = json.loads(path.read_text())
    value["spec"]["tags"].append(tag("fresh", image("fresh:1")))
    save(path, text(value))
    wait_for((stream / "tags/fresh/image").exists, 5, "the import")
    value["metadata"]["labels"]["edited"] = "yes"  # with the resourceVersion of before
    save(path, text(value))
    now = stream.get()
    assert now["metadata"]["labels"]["edited"] == "yes" and stream.history()["fresh"]
    assert "openshift.io/image.dockerRepositoryCheck" in now["metadata"]["annotations"]


# Metadata calls, modes and rights.

REAL = ["imagestream.json", "imagestream.yaml", "metadata.json", "spec.json", "status.json", "tags",
        "tags/v1/spec.json", "tags/v1/status.json", "tags/v1/image", "tags/v1", "."]


def test_metadata_calls_change_nothing(stream):
    for name in REAL:
        path = stream / name
        before = os.lstat(path)
        os.chmod(path, 0o600)
        os.chown(path, 65534, 65534)
        os.utime(path, (1, 1))
        os.utime(path)
        with open(path, "rb", opener=lambda one, _: os.open(one, os.O_RDONLY)) if not \
                path.is_dir() else contextlib.nullcontext() as file:
            if file:
                os.fchmod(file.fileno(), 0o777)
                os.utime(file.fileno(), (1, 1))
        now = os.lstat(path)
        for field in ("st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_ctime_ns"):
            assert getattr(now, field) == getattr(before, field), (name, field)
    assert stream.sent() == []


def test_no_extended_attributes(stream):
    for name in REAL:
        for call in (lambda path: os.getxattr(path, "user.x"), os.listxattr,
                     lambda path: os.setxattr(path, "user.x", b"1"),
                     lambda path: os.removexattr(path, "user.x")):
            with fails(errno.ENOTSUP, errno.ENOSYS):
                call(stream / name)


def modes(top):
    return {os.path.relpath(os.path.join(place, name), top):
            stat.S_IMODE(os.lstat(os.path.join(place, name)).st_mode)
            for place, directories, files in os.walk(top) for name in directories + files}


def test_modes(rig, stream):
    assert stat.S_IMODE(os.stat(rig.mount.path).st_mode) == 0o555
    assert stat.S_IMODE(os.stat(stream.path.parent).st_mode) == 0o755
    for name, mode in modes(stream.path).items():
        is_directory = name == "tags" or name.count("/") == 1
        expected = 0o755 if is_directory else 0o444 if name.endswith("/image") else 0o644
        assert mode == expected, name


def test_image_is_not_for_writing(stream):
    """It takes what it shows, and nothing else."""
    path = stream / "tags/v1/image"
    shown = path.read_text()
    for way, store in SAVES.items():
        store(path, shown)
        with fails(errno.EACCES):
            store(path, "x\n")
        kept, why = rejected(path)
        assert "`from`" in why.read_text() and (way == "rename" or kept.read_text() == "x\n")
        assert in_child(save, path, shown.strip()) == 0 and not why.exists()
        if way == "rename":
            os.unlink(path.with_name("image.new"))
    with fails(errno.EACCES), open(path, "a") as file:
        file.write("x")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o444 and path.read_text() == shown
    assert stream.sent() == []


def attempts(stream):
    """Every call that would change something."""
    spec, other = stream / "spec.json", stream / "other"
    space = stream.path.parent
    return {
        "write": lambda: os.open(spec, os.O_WRONLY), "append": lambda: os.open(
            spec, os.O_WRONLY | os.O_APPEND), "truncating": lambda: os.open(
            spec, os.O_WRONLY | os.O_TRUNC), "rdwr": lambda: os.open(spec, os.O_RDWR),
        "create": lambda: os.open(other, os.O_WRONLY | os.O_CREAT, 0o666),
        "in tag": lambda: os.open(stream / "tags/v1/x", os.O_WRONLY | os.O_CREAT, 0o666),
        "spec of a tag": lambda: os.open(stream / "tags/pushed/spec.json",
                                         os.O_WRONLY | os.O_CREAT, 0o666),
        "mkdir": lambda: os.mkdir(space / "new"), "mkdir tag": lambda: os.mkdir(
            stream / "tags/new"), "scratch directory": lambda: os.mkdir(other),
        "rmdir": lambda: os.rmdir(stream.path), "rmdir tag": lambda: os.rmdir(stream / "tags/v1"),
        "rmdir tags": lambda: os.rmdir(stream / "tags"), "unlink": lambda: os.unlink(spec),
        "unlink image": lambda: os.unlink(stream / "tags/v1/image"),
        "rename": lambda: os.rename(spec, other), "rename onto": lambda: os.rename(
            stream / "status.json", spec), "link": lambda: os.link(spec, other),
        "symlink": lambda: os.symlink("x", other), "truncate": lambda: os.truncate(spec, 0),
        "utime": lambda: os.utime(spec), "chmod": lambda: os.chmod(spec, 0o600),
        "chown": lambda: os.chown(spec, 1, 1), "mknod": lambda: os.mknod(other),
    }


def test_read_only(rig, start_mount):
    mount = start_mount(rig.server, "--read-only")
    stream = Stream(rig.server, mount, next(rig.names))
    rig.server.reset()
    obj = stream.get()
    for name, call in attempts(stream).items():
        with pytest.raises(OSError) as error:
            call()
        assert error.value.errno == errno.EROFS, name
    assert not os.access(stream / "spec.json", os.W_OK)
    assert not os.access(stream.path, os.W_OK)
    stream.is_untouched(obj)
    for name, mode in modes(stream.path).items():
        assert mode == (0o555 if (stream / name).is_dir() else 0o444), name
    assert stat.S_IMODE(os.stat(mount.path).st_mode) == 0o555


def test_without_the_right_to(rig, start_mount):
    """Where it isn't refused at open, the server refuses it: nothing looks saved."""
    mount = start_mount(rig.server, "--context", "viewer")
    stream = Stream(rig.server, mount, "s-001", "dev")
    obj = stream.get()
    for name in EDITS:
        for way in ("close", "fsync", "rename"):
            with fails(errno.EACCES):
                SAVES[way](stream / name, text(stream.edited(name)))
            with contextlib.suppress(FileNotFoundError):
                os.unlink(stream / (name + ".new"))
    for call in (lambda: os.mkdir(stream.path.parent / "new"),
                 lambda: os.mkdir(stream / "tags/new"), lambda: os.rmdir(stream.path)):
        with fails(errno.EACCES):
            call()
    with fails(errno.EACCES, errno.ENOTEMPTY):  # its history can't be removed
        os.rmdir(stream / "tags/v1")
    assert stream.get() == obj


STRANGER = """
import errno, json, os, sys
top = sys.argv[1]
spec, seen = top + "/spec.json", {}

def attempt(name, call):
    try:
        call()
        seen[name] = "allowed"
    except OSError as error:
        seen[name] = errno.errorcode[error.errno]

attempt("read", lambda: open(spec).read())
attempt("list", lambda: os.listdir(top))
attempt("write", lambda: os.open(spec, os.O_WRONLY))
attempt("truncating", lambda: os.open(spec, os.O_WRONLY | os.O_TRUNC))
attempt("append", lambda: os.open(spec, os.O_RDWR | os.O_APPEND))
attempt("create", lambda: os.open(top + "/x", os.O_WRONLY | os.O_CREAT))
attempt("mkdir", lambda: os.mkdir(top + "/../new"))
attempt("mkdir tag", lambda: os.mkdir(top + "/tags/new"))
attempt("scratch directory", lambda: os.mkdir(top + "/x"))
attempt("rmdir", lambda: os.rmdir(top))
attempt("rmdir tag", lambda: os.rmdir(top + "/tags/v1"))
attempt("unlink", lambda: os.unlink(spec))
attempt("unlink scratch", lambda: os.unlink(top + "/mine"))
attempt("rename", lambda: os.rename(spec, top + "/x"))
attempt("rename onto", lambda: os.rename(top + "/mine", spec))
attempt("symlink", lambda: os.symlink("x", top + "/x"))
attempt("truncate", lambda: os.truncate(spec, 0))
attempt("private", lambda: open(top + "/mine").read())
attempt("write scratch", lambda: os.open(top + "/mine", os.O_WRONLY))
print(json.dumps([seen, os.access(spec, os.R_OK), os.access(spec, os.W_OK),
                  os.access(top, os.W_OK), os.access(top, os.R_OK | os.X_OK),
                  os.access(top + "/mine", os.R_OK)]))
"""


def test_other_users_are_held_to_the_modes(rig, start_mount):
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    mount = start_mount(rig.server, "-o", "allow_other")
    for path in (mount.directory.parent, mount.directory):
        path.chmod(0o755)
    stream = Stream(rig.server, mount, next(rig.names))
    rig.server.reset()
    obj = stream.get()
    os.close(os.open(stream / "mine", os.O_WRONLY | os.O_CREAT, 0o600))
    nobody = pwd.getpwnam("nobody").pw_uid
    done = subprocess.run(
        ["setpriv", f"--reuid={nobody}", "--regid=nogroup", "--clear-groups", "/usr/bin/python3",
         "-c", STRANGER, stream.path], capture_output=True, text=True, check=True)
    seen, *access = json.loads(done.stdout)
    assert {seen.pop("read"), seen.pop("list")} == {"allowed"}
    assert seen == dict.fromkeys(seen, "EACCES")
    assert access == [True, False, False, True, False]
    stream.is_untouched(obj)


# Saves of one stream.


def test_one_at_a_time(stream):
    stream.fault(delay=0.5, count=2)
    threads = [threading.Thread(target=save, args=(stream / name, text(stream.edited(name))))
               for name in ("spec.json", "metadata.json")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = stream.sent()
    assert second["time"] - first["time"] >= 0.5
    assert stream.value("spec.json")["lookupPolicy"] == {"local": True}
    assert stream.get()["metadata"]["labels"]["edited"] == "yes"


def test_other_streams_do_not_wait(rig, stream):
    other = rig.stream()
    stream.fault(hang=True)
    waiter = threading.Thread(target=save, args=(
        stream / "spec.json", text(stream.edited("spec.json"))))
    waiter.start()
    wait_for(stream.sent, 5, "the request that waits")
    save(other / "spec.json", text(other.edited("spec.json")))
    assert (stream / "spec.json").read_text() == text(stream.value("spec.json"))
    assert waiter.is_alive()
    stream.server.control("DELETE", "faults")
    waiter.join()
    assert stream.value("spec.json")["lookupPolicy"] == {"local": True}
