"""Everything is new right after its event, whoever reads meanwhile; and what happens when a part of
the program dies in the middle of many changes."""

import contextlib
import errno
import json
import mmap
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import conftest
import pytest
from conftest import is_mounted, wait_for
from events import Abort, Inotify, KeptServer, PYTHON, Worker, announcers, mask
from stopwatch import at_most
from test_contents import model_of_stream

SECONDS = 5
BURST = 30  # for 10,000 changes on a busy machine, under sanitizers
CHANGES = mask("MODIFY|ATTRIB|CLOSE_WRITE|CREATE|DELETE|MOVED_FROM|MOVED_TO|DELETE_SELF")
SOURCE = {"kind": "DockerImage", "name": "quay.io/example/app:1"}


def stream(namespace, name, label, *tags):
    """A label has six digits, so that all versions of a file have the same size."""
    return {"namespace": namespace, "name": name, "object": {
        "kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
        "metadata": {"name": name, "labels": {"n": f"{label:06}"}},
        "spec": {"tags": [{"name": tag, "from": SOURCE} for tag in tags]}, "status": {}}}


def label_of(data):
    return int(json.loads(data)["labels"]["n"])


@pytest.fixture(autouse=True)
def abort_what_hangs(directory):
    with Abort(directory):
        yield


@pytest.fixture
def server(start_server):
    return KeptServer(start_server("--namespace", "work", "--namespace", "other"))


@contextlib.contextmanager
def inotify(*paths):
    one = Inotify()
    for path in paths:
        one.add(path, wanted=CHANGES)  # what the hammers read would fill the queue
    yield one
    one.close()


@contextlib.contextmanager
def meanwhile(function, *arguments):
    """Runs it in a thread, and ends with it."""
    errors = []

    def run():
        try:
            function(*arguments)
        except BaseException as error:  # shown by the assertion below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()
    assert not errors, errors


# Others that look while things change.


HAMMER = """
import os, random, sys
top, what, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.nice(5)
sizes = {}
while True:
    name = f"s{random.randrange(count)}"
    path = f"{top}/{name}/metadata.json"
    try:
        if what == "look":
            os.stat(f"{top}/{name}")
            os.stat(f"{top}/s{random.randrange(count)}/tags")
        elif what == "list":
            names = os.listdir(top)
            assert len(names) == len(set(names)), names
            os.listdir(f"{top}/{name}")
        else:
            with open(path, "rb") as file:
                data = file.read()
            size = sizes.setdefault(name, len(data))
            assert len(data) == size, (path, size, len(data))
    except FileNotFoundError:
        pass
"""


@pytest.fixture
def hammer():
    processes = []

    def start(top, count, *kinds):
        for kind in kinds:
            processes.append(subprocess.Popen([PYTHON, "-c", HAMMER, str(top), kind, str(count)],
                                              stderr=subprocess.PIPE, text=True))

    yield start
    for process in processes:
        done = process.poll()
        process.kill()
        _, text = process.communicate(timeout=60)
        assert done is None, text


class Held:
    """A file that stays open and mapped."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self.fd).st_size
        self.map = mmap.mmap(self.fd, self.size, prot=mmap.PROT_READ)
        assert self.map[:] == os.pread(self.fd, 1 << 16, 0)

    def close(self):
        self.map.close()
        os.close(self.fd)


class Race:
    """Streams s0, s1, … of one namespace; each is right when its event arrives."""

    def __init__(self, server, mount, count):
        self.server, self.top, self.count = server, mount.path / "work", count
        self.label = 0
        self.held = {}
        self.times = {}
        self.inodes = {}

    def names(self):
        return [f"s{i}" for i in range(self.count)]

    def send(self, op):
        self.server.bulk(*({"op": op, **stream("work", name, self.label, "v1")}
                           for name in self.names()))

    def each(self, watch, op, name_of, check):
        """Waits for the event of each stream, and checks that stream at once."""
        left = set(self.names())
        with meanwhile(self.send, op):
            while left:
                events = watch.take(1, SECONDS)
                assert events, f"no event for {sorted(left)}"
                for event in events:
                    name = name_of(event)
                    if name in left:
                        left.remove(name)
                        check(name)

    def create(self, watch):
        self.label += 1
        self.each(watch, "create", lambda e: e[1] if e[2] == "CREATE|ISDIR" else None, self.is_new)

    def modify(self, watch):
        self.label += 1
        self.each(watch, "replace",
                  lambda e: e[0] if e[1:] == ("metadata.json", "CLOSE_WRITE") else None,
                  self.is_changed)

    def delete(self, watch):
        self.each(watch, "delete", lambda e: e[1] if e[2] == "DELETE|ISDIR" else None, self.is_gone)

    def content(self, name):
        path = self.top / name / "metadata.json"
        data = path.read_bytes()
        assert label_of(data) == self.label, name
        assert path.stat().st_size == len(data), name
        return path.stat()

    def is_new(self, name):
        inode = os.stat(self.top / name).st_ino
        assert name in os.listdir(self.top)
        assert sorted(os.listdir(self.top / name)) == [
            "imagestream.json", "imagestream.yaml", "metadata.json", "spec.json", "status.json",
            "tags"]
        assert os.listdir(self.top / name / "tags") == ["v1"]
        seen = self.content(name)
        assert inode != self.inodes.get(name)
        self.inodes[name], self.times[name] = inode, seen.st_mtime_ns
        self.held[name] = Held(self.top / name / "metadata.json")

    def is_changed(self, name):
        seen = self.content(name)
        assert seen.st_mtime_ns > self.times[name]
        self.times[name] = seen.st_mtime_ns
        held = self.held[name]
        data = os.pread(held.fd, 1 << 16, 0)
        assert label_of(data) == self.label
        assert os.fstat(held.fd).st_size == len(data) == held.size
        assert held.map[:] == data
        assert json.loads((self.top / name / "imagestream.json").read_bytes())

    def is_gone(self, name):
        for path in (self.top / name, self.top / name / "tags/v1", self.top / name / "spec.json"):
            with pytest.raises(FileNotFoundError):
                os.stat(path)
        with pytest.raises(FileNotFoundError):
            open(self.top / name / "metadata.json")
        assert name not in os.listdir(self.top)
        held = self.held.pop(name)
        assert os.fstat(held.fd).st_nlink == 0
        assert label_of(os.pread(held.fd, 1 << 16, 0)) == self.label
        held.close()


@pytest.mark.parametrize("options", [("--max_threads=4",), ("--single-threaded",), ("-o", "noopen")],
                         ids=["threads", "single-threaded", "noopen"])
def test_right_after_each_event(server, start_mount, hammer, options):
    mount = start_mount(server, *options)
    race = Race(server, mount, 100)
    hammer(race.top, race.count, "look", "list", "read")
    with inotify(race.top) as watch:
        for _ in range(2):
            race.create(watch)
            with inotify() as files:
                for name in race.names():
                    files.add(race.top / name, name, CHANGES)
                race.modify(files)
                race.modify(files)
            race.delete(watch)
    assert os.listdir(race.top) == []


def test_tags_right_after_each_event(server, start_mount, hammer):
    mount = start_mount(server)
    top = mount / "work/app/tags"
    server.bulk({"op": "create", **stream("work", "app", 0)})
    wait_for(top.is_dir, SECONDS, "the stream")
    hammer(top, 30, "look", "list")
    names = []

    def put():
        server.bulk({"op": "replace", **stream("work", "app", len(names), *names)})

    with inotify(top) as watch, inotify(mount / "work/app") as files:
        for i in range(30):
            names.append(f"s{i}")
            put()
            assert watch.until(lambda e: e[1:] == (names[-1], "CREATE|ISDIR"), SECONDS)
            assert sorted(os.listdir(top)) == sorted(names)
            assert sorted(os.listdir(top / names[-1])) == ["from", "spec.json"]
            assert json.loads((top / names[-1] / "spec.json").read_bytes())["name"] == names[-1]
            assert files.until(lambda e: e[1:] == ("spec.json", "CLOSE_WRITE"), SECONDS)
            spec = (mount / "work/app/spec.json").read_bytes()
            assert [tag["name"] for tag in json.loads(spec)["tags"]] == sorted(names)
            assert (mount / "work/app/spec.json").stat().st_size == len(spec)
        assert top.stat().st_nlink == 2 + len(names)
        while names:
            gone = names.pop(0)
            put()
            assert watch.until(lambda e: e[1:] == (gone, "DELETE|ISDIR"), SECONDS)
            assert sorted(os.listdir(top)) == sorted(names)
            assert not (top / gone).exists() and not (top / gone / "spec.json").exists()


def test_held_file_grows_and_shrinks(server, start_mount):
    """A handle and a mapping of a file whose size changes."""
    mount = start_mount(server)
    path = mount / "work/app/metadata.json"
    server.bulk({"op": "create", **stream("work", "app", 0)})
    wait_for(path.exists, SECONDS, "the stream")
    held = Held(path)
    with inotify(path) as watch:
        for length in (3000, 10, 20000, 1):
            change = stream("work", "app", length)
            change["object"]["metadata"]["annotations"] = {"long": "x" * length}
            server.bulk({"op": "replace", **change})
            assert watch.until(lambda e: e[2] == "CLOSE_WRITE", SECONDS)
            data = path.read_bytes()
            assert label_of(data) == length and path.stat().st_size == len(data)
            assert os.fstat(held.fd).st_size == len(data)
            assert os.pread(held.fd, 1 << 16, 0) == data
            size = min(held.size, len(data))
            assert held.map[:size] == data[:size]
    held.close()


# A process in a directory that goes.


LOST = """
import os, sys
def tell(call, *arguments):
    try:
        value = call(*arguments)
        print(getattr(value, "st_nlink", value))
    except OSError as error:
        print(type(error).__name__, error.errno)
print("ready", flush=True)
sys.stdin.readline()
tell(os.getcwd)
tell(os.stat, ".")
tell(os.listdir, ".")
tell(os.stat, "v1")
tell(os.open, "v1/spec.json", os.O_RDONLY)
tell(os.mkdir, "new")
tell(os.stat, "..")
"""


def lost_in(path, remove):
    with subprocess.Popen([PYTHON, "-c", LOST], cwd=path, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        remove()
        output, _ = process.communicate("\n", timeout=60)
    return output.splitlines()


@pytest.mark.parametrize("again", [False, True], ids=["gone", "made-again"])
def test_directory_is_somebodys_when_it_goes(server, start_mount, again):
    mount = start_mount(server)
    path = mount / "work/app/tags"
    server.bulk({"op": "create", **stream("work", "app", 0, "v1")})
    wait_for(path.is_dir, SECONDS, "the stream")

    def remove():
        with inotify(mount / "work") as watch:
            changes = [{"op": "delete", "namespace": "work", "name": "app"}]
            if again:
                changes.append({"op": "create", **stream("work", "app", 1, "v1")})
            server.bulk(*changes)
            assert watch.until(lambda e: e[2] == ("CREATE|ISDIR" if again else "DELETE|ISDIR"),
                               SECONDS)

    place = tempfile.mkdtemp(dir="/dev/shm")
    worker = Worker()
    tree = {"app": None, "app/tags": None, "app/tags/v1": None, "app/tags/v1/spec.json": "{}\n"}

    def remove_local():
        for name in sorted(tree, reverse=True):
            (worker.do_unlink if tree[name] else worker.do_rmdir)(f"{place}/{name}")
        if again:
            worker.build(place, tree)

    worker.build(place, tree)
    expected = lost_in(f"{place}/app/tags", remove_local)
    assert expected[:2] == [f"FileNotFoundError {errno.ENOENT}", "0"]
    assert lost_in(path, remove) == expected
    shutil.rmtree(place)
    if again:
        assert os.listdir(path) == ["v1"]


# Many changes.


def streams_of(server):
    found = server.request("GET", "/apis/image.openshift.io/v1/imagestreams")["items"]
    return {f"{one['metadata']['namespace']}/{one['metadata']['name']}": one for one in found}


class Reader(threading.Thread):
    """Reads all events as they come, so that the queue doesn't overflow."""

    def __init__(self, watch):
        super().__init__()
        self.watch, self.events, self.done = watch, [], threading.Event()
        self.start()

    def run(self):
        while not self.done.is_set():
            select.select([self.watch.fd], [], [], 0.1)
            self.events += self.watch.read()

    def stop(self):
        self.done.set()
        self.join()


@contextlib.contextmanager
def reader(watch):
    one = Reader(watch)
    try:
        yield one
    finally:
        one.stop()


def watch_streams(watch, mount, streams):
    for name in streams:
        watch.add(mount / name, name, CHANGES)


def until_final(server, mount, read, seconds=BURST):
    """Waits until each stream has had an event after which its label was the server's."""
    final = {name: one["metadata"]["labels"] for name, one in streams_of(server).items()}
    left, at = set(final), 0
    end = time.monotonic() + seconds
    while left:
        assert time.monotonic() < end, f"{len(left)} streams without their last event"
        events = read.events[at:]
        at += len(events)
        for name in {event[0] for event in events
                     if event[1:] == ("metadata.json", "CLOSE_WRITE")} & left:
            try:
                now = json.loads((mount / name / "metadata.json").read_bytes())
                if now["labels"] == final[name]:
                    left.remove(name)
            except ValueError:
                pass  # in the middle of a change, whose event is still to come
        time.sleep(0.005)


def check_contents(server, mount):
    for name, one in streams_of(server).items():
        for path, content in model_of_stream(one).items():
            assert (mount / name / path).read_bytes() == content, f"{name}/{path}"


def check_pairs(events):
    """Each change of a file is MODIFY, CLOSE_WRITE, and no other file says anything."""
    files = {}
    for place, name, flags in events:
        files.setdefault((place, name), []).append(flags)
    for (place, name), flags in files.items():
        whole = "imagestream.json", "imagestream.yaml"
        assert name in ("metadata.json", *whole), (place, name, flags)
        assert flags == ["MODIFY", "CLOSE_WRITE"] * (len(flags) // 2), (place, name)


@pytest.fixture
def many(start_server, start_mount):
    server = KeptServer(start_server("--streams", 1000, "--tags", 1, "--namespaces", 10))
    return server, start_mount(server)


def test_ten_thousand_changes(many):
    server, mount = many
    with inotify() as watch:
        watch_streams(watch, mount, streams_of(server))
        with reader(watch) as read:
            server.control("POST", "bulk", {"modify": {"change": "label", "times": 10}})
            until_final(server, mount, read)
        assert not [event for event in read.events if "Q_OVERFLOW" in event[2]]
        check_pairs(read.events)
    check_contents(server, mount)


def test_ten_thousand_streams_come_and_go(server, start_mount):
    mount = start_mount(server)
    names = [f"s{i}" for i in range(2500)]

    def send(op, label):
        server.bulk(*({"op": op, **stream("work", name, label)} for name in names))

    def is_final():
        try:
            return set(os.listdir(mount / "work")) == set(names) and all(
                label_of((mount / "work" / name / "metadata.json").read_bytes()) == 3
                for name in names)
        except FileNotFoundError:
            return False  # they were the first ones

    with inotify(mount / "work") as watch:
        with reader(watch) as read:
            send("create", 1)
            send("replace", 2)
            send("delete", 2)
            send("create", 3)
            wait_for(is_final, BURST, "the last state")
            wait_for(lambda: sum(event[2] == "CREATE|ISDIR" for event in read.events)
                     > sum(event[2] == "DELETE|ISDIR" for event in read.events), SECONDS)
            time.sleep(0.1)
        assert not [event for event in read.events if "Q_OVERFLOW" in event[2]]
        seen = {}
        for _, name, flags in read.events:
            if name and flags in ("CREATE|ISDIR", "DELETE|ISDIR"):
                seen.setdefault(name, []).append(flags)
        assert set(seen) == set(names)
        for flags in seen.values():
            assert flags in (["CREATE|ISDIR"], ["CREATE|ISDIR", "DELETE|ISDIR", "CREATE|ISDIR"])


# Somebody's call waits for the server.


@contextlib.contextmanager
def blocked_mkdir(server, mount):
    """Until the faults are cleared, or the block ends."""
    server.fault(method="POST", path="/namespaces/work/imagestreams", hang=True)
    with subprocess.Popen(["mkdir", mount / "work/slow"]) as process:
        try:
            wait_for(lambda: any(key.startswith("POST ") for key in server.counts()), SECONDS,
                     "the request")
            yield process
        finally:
            server.control("DELETE", "faults")


def test_blocked_mkdir_holds_up_nothing_else(server, start_mount):
    others = [f"n{i}" for i in range(24)]
    server.bulk(*({"op": "create-namespace", "name": name} for name in others))
    server.bulk(*({"op": "create", **stream(name, "app", 0)} for name in (*others, "work")))
    mount = start_mount(server, "--request-timeout", "60s")
    places = [*(f"{name}/app" for name in others), "work/app"]
    with inotify() as watch, inotify(mount / "work") as work:
        watch_streams(watch, mount, places)
        for name in others:
            watch.add(mount / name, name, CHANGES)
        with blocked_mkdir(server, mount) as blocked:
            # One that has to wait for that directory, and keeps its announcer waiting.
            server.bulk({"op": "create", **stream("work", "waiting", 0)})
            with at_most(2):
                server.bulk(*({"op": "replace", **stream(*place.split("/"), 1)} for place in places),
                            *({"op": "create", **stream(name, "new", 1)} for name in others))
                wanted = {*((place, "metadata.json", "CLOSE_WRITE") for place in places),
                          *((name, "new", "CREATE|ISDIR") for name in others)}
                while wanted:
                    events = watch.take(1, SECONDS)
                    assert events, f"nothing more; missing: {sorted(wanted)}"
                    wanted -= set(events)
            for place in places:
                assert label_of((mount / place / "metadata.json").read_bytes()) == 1
            assert blocked.poll() is None and not work.read()
            server.control("DELETE", "faults")
            assert blocked.wait(60) == 0
        seen = {event[1] for event in work.take(2, SECONDS, 0.05) if event[2] == "CREATE|ISDIR"}
        assert seen == {"slow", "waiting"}
        assert sorted(os.listdir(mount / "work")) == ["app", "slow", "waiting"]


def test_covered_directory_is_left_alone(server, start_mount):
    """Something else is mounted on a stream: what changes there changes only below it."""
    server.bulk(*({"op": "create", **stream("work", name, 0)} for name in ("app", "next", "gone")))
    mount = start_mount(server)
    mount.expect("work/|events? lost")
    covered = [mount / "work/app", mount / "work/gone"]
    try:
        for path in covered:
            subprocess.run(["mount", "-t", "tmpfs", "none", path], check=True)
            (path / "metadata.json").write_text("mine\n")
        with inotify(mount / "work/next", *(path / "metadata.json" for path in covered)) as watch:
            server.bulk({"op": "replace", **stream("work", "app", 1, "v1")},
                        {"op": "delete", "namespace": "work", "name": "gone"},
                        {"op": "replace", **stream("work", "next", 1)})
            found = watch.until(lambda e: e[1:] == ("metadata.json", "CLOSE_WRITE"), SECONDS)
            assert found and {event[0] for event in found} == {str(mount / "work/next")}
            for path in covered:
                assert (path / "metadata.json").read_text() == "mine\n"
                assert os.listdir(path) == ["metadata.json"]
    finally:
        for path in covered:
            subprocess.run(["umount", path], check=False)
    wait_for(lambda: label_of((mount / "work/app/metadata.json").read_bytes()) == 1, SECONDS,
             "the change below")
    assert os.listdir(mount / "work/app/tags") == ["v1"]
    wait_for(lambda: not (mount / "work/gone").exists(), SECONDS, "the end of what was covered")


# Parts that die.


class Load:
    """Changes and readers, until it is stopped."""

    def __init__(self, server, mount):
        self.server, self.mount, self.done = server, mount, threading.Event()
        self.watch = Inotify()
        watch_streams(self.watch, mount, streams_of(server))
        self.reader = Reader(self.watch)
        command = "while :; do find . -type f -exec cat {} + >/dev/null || sleep 0.01; done"
        self.processes = [subprocess.Popen(["bash", "-c", command], cwd=mount.path,
                                           stderr=subprocess.DEVNULL, start_new_session=True)
                          for _ in range(2)]
        self.writer = threading.Thread(target=self.write)
        self.writer.start()
        wait_for(lambda: len(self.reader.events) > 1000, SECONDS, "many events")

    def write(self):
        server = KeptServer(self.server.server)
        while not self.done.wait(0.1):  # no faster than it can be announced beside all the rest
            server.control("POST", "bulk", {"modify": {"change": "label"}})

    def stop_changes(self):
        self.done.set()
        self.writer.join()

    def stop(self):
        """Everybody that looked can be killed, whatever has become of the mount."""
        self.stop_changes()
        self.reader.stop()
        self.watch.close()
        for process in self.processes:
            os.killpg(process.pid, signal.SIGKILL)
        for process in self.processes:
            wait_for(lambda leader=process.pid: not [
                pid for pid in session_of(leader) if alive(pid)], SECONDS, "the readers' end")
            process.wait(60)


def session_of(leader):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
            if int(file.read().rpartition(")")[2].split()[3]) == leader:
                found.append(int(pid))
    return found


def alive(pid):
    """Neither gone nor a zombie; a process in D state is alive."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] not in "ZX"
    return False


@pytest.fixture
def hundreds(start_server):
    return KeptServer(start_server("--streams", 300, "--tags", 1, "--namespaces", 10))


@pytest.fixture
def fragile(directory, hundreds, tmp_path, monkeypatch):
    """A mount that may end in any way. Crashes dump core, as on a machine where that is on."""
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(
        "#!/bin/sh\nulimit -c unlimited\n"
        'export ASAN_OPTIONS="$ASAN_OPTIONS:handle_segv=0:disable_coredump=0"\n'
        'export TSAN_OPTIONS="$TSAN_OPTIONS:handle_segv=0:handle_abort=0:disable_coredump=0"\n'
        f'cd {tmp_path} && exec {conftest.PROGRAM} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(conftest, "PROGRAM", str(wrapper))
    mount = conftest.Mount(directory, hundreds.kubeconfig)
    yield mount
    mount.kill()
    shutil.rmtree(tmp_path)  # the core, too


def crash(pid):
    """As a bug would: the first thread that returns from read() meets what it may not execute."""
    def where():
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/syscall") as file:
                fields = file.read().split()
            if fields[0] == "0":  # read(), of /dev/fuse
                return int(fields[-1], 16)
        return None

    address = wait_for(where, SECONDS, "a thread that reads")
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(address)
        memory.write(b"\xf4")  # hlt


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGSEGV], ids=lambda sig: sig.name)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="crashes by an instruction of x86_64")
def test_program_dies_in_a_burst(hundreds, fragile, sig):
    load = Load(hundreds, fragile)
    pids = announcers(fragile.process.pid)
    assert pids
    if sig == signal.SIGSEGV:
        crash(fragile.process.pid)
    else:
        fragile.process.send_signal(sig)
    try:
        assert fragile.process.wait(60) == -sig  # it writes a core
        wait_for(lambda: not [pid for pid in pids if alive(pid)], SECONDS, "the announcers' end")
        with pytest.raises(OSError) as error:
            os.statvfs(fragile.path)
        assert error.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    finally:
        load.stop()
    subprocess.run(["umount", fragile.path], check=True, timeout=60)
    assert not is_mounted(fragile.path)


@pytest.mark.parametrize("times", [1, 5])
def test_announcer_dies_in_a_burst(hundreds, start_mount, times):
    mount = start_mount(hundreds)
    mount.expect("announce")
    load = Load(hundreds, mount)
    try:
        for _ in range(times):
            old = set(wait_for(lambda: announcers(mount.process.pid), SECONDS, "an announcer"))
            for pid in old:
                os.kill(pid, signal.SIGKILL)
            wait_for(lambda old=old: set(announcers(mount.process.pid)) - old, SECONDS,
                     "another announcer")
            count = len(load.reader.events)
            wait_for(lambda count=count: sum(
                event[2] == "CLOSE_WRITE" for event in load.reader.events[count:]) > 100, SECONDS,
                "events again")
        load.stop_changes()
        # Whatever was under way when it died is announced too.
        hundreds.control("POST", "bulk", {"modify": {"change": "label"}})
        read = load.reader
        until_final(hundreds, mount, read)
        check_contents(hundreds, mount)
        wait_for(lambda: not [pid for pid in old if alive(pid)], SECONDS, "the old one's end")
    finally:
        load.stop()
    assert not [event for event in read.events if "Q_OVERFLOW" in event[2]]


def test_change_under_way_survives_the_announcer(server, start_mount):
    """The announcer dies while it waits for a directory; its successor announces the same."""
    server.bulk({"op": "create", **stream("work", "app", 0)})
    mount = start_mount(server, "--request-timeout", "60s")
    mount.expect("announce")
    with inotify(mount / "work") as watch:
        with blocked_mkdir(server, mount) as blocked:
            server.bulk({"op": "create", **stream("work", "waiting", 0)})
            (old,) = announcers(mount.process.pid)
            time.sleep(0.1)
            os.kill(old, signal.SIGKILL)
            assert os.listdir(mount / "other") == [] and blocked.poll() is None
            server.control("DELETE", "faults")
            assert blocked.wait(60) == 0
        # Only now can it have died: waiting for a directory can't be interrupted.
        wait_for(lambda: [pid for pid in announcers(mount.process.pid) if pid != old], SECONDS,
                 "another announcer")
        seen = sorted(event[1:] for event in watch.take(2, SECONDS, 0.1))
        assert seen == [("slow", "CREATE|ISDIR"), ("waiting", "CREATE|ISDIR")]
    assert label_of((mount / "work/waiting/metadata.json").read_bytes()) == 0


@pytest.mark.parametrize("end", [False, True], ids=["goes-on", "program-ends"])
def test_stopped_announcer_holds_up_nobody(server, start_mount, end):
    server.bulk({"op": "create", **stream("work", "app", 0, "v1")})
    mount = start_mount(server)
    mount.expect("announce")
    path = mount / "work/app/metadata.json"
    spec = mount / "work/app/tags/v1/spec.json"
    value = json.loads(spec.read_bytes())
    assert label_of(path.read_bytes()) == 0
    pids = wait_for(lambda: announcers(mount.process.pid), SECONDS, "an announcer")
    with inotify(mount / "work/app") as watch:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        server.bulk({"op": "replace", **stream("work", "app", 1, "v1")},
                    {"op": "create", **stream("work", "new", 1)})
        done = subprocess.run(["ls", "-lR", mount.path], stdout=subprocess.DEVNULL, check=True,
                              timeout=60)
        assert done.returncode == 0
        value["from"]["name"] = "quay.io/example/app:2"
        save = subprocess.run(["tee", spec], input=json.dumps(value).encode(), check=True,
                              stdout=subprocess.DEVNULL, timeout=60)
        assert save.returncode == 0
        saved = server.get("work", "app")["spec"]["tags"][0]["from"]["name"]
        assert saved == "quay.io/example/app:2"
        assert re.search("app:2", spec.read_text())
        if end:
            assert mount.stop() < conftest.STOP_SECONDS
            wait_for(lambda: not [pid for pid in pids if alive(pid)], SECONDS, "its end")
            return
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert watch.until(lambda e: e[1:] == ("metadata.json", "CLOSE_WRITE"), SECONDS)
    assert label_of(path.read_bytes()) == 1
    wait_for((mount / "work/new").is_dir, SECONDS, "the new stream")


def test_end_in_a_burst(hundreds, start_mount):
    """SIGTERM: the announcer goes first, then the mount."""
    for _ in range(3):
        mount = start_mount(hundreds)
        load = Load(hundreds, mount)
        pids = announcers(mount.process.pid)
        try:
            took = mount.stop()
        finally:
            load.stop()
        assert took < conftest.STOP_SECONDS, f"it took {took:.1f} s"
        assert not [pid for pid in pids if alive(pid)]
        mount.check()
