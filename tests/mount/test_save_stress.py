"""Saves that race, hang, are interrupted, or meet the end of the program."""

import concurrent.futures
import contextlib
import json
import os
import select
import signal
import subprocess
import threading
import time

import pytest
from conftest import Mount, wait_for
from stopwatch import SAMPLE, Stopwatch

PYTHON = "/usr/bin/python3"
SOURCE = {"kind": "DockerImage", "name": "quay.io/example/app:0"}


def make(server, name, *tags, **more):
    return server.create("work", name, tags=[
        {"name": tag, "from": SOURCE, **more} for tag in tags])


def tags_of(server, name):
    return {tag["name"]: tag for tag in server.get("work", name)["spec"]["tags"]}


def name_of(server, stream, tag):
    return tags_of(server, stream)[tag]["from"]["name"]


def tag_file(mount, stream, tag):
    return mount / f"work/{stream}/tags/{tag}/spec.json"


def document(path, name, **source):
    """The file's text with another image."""
    value = json.loads(path.read_text())
    value["from"] = dict(SOURCE, name=name, **source)
    return json.dumps(value, indent=2) + "\n"


def beside(path, suffix):
    return path.with_name(path.name + suffix)


def writes(server):
    """How many patches the server has seen."""
    return sum(count for key, count in server.counts().items() if key.startswith("PATCH "))


@pytest.fixture
def server(start_server):
    return start_server("--namespace", "work")


@contextlib.contextmanager
def python(code, *arguments):
    """A script as a process of its own, with lines to and from it; ended whatever happens."""
    process = subprocess.Popen([PYTHON, "-c", code, *map(str, arguments)], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def say(process, line):
    process.stdin.write(line + "\n")
    process.stdin.flush()


def hear(process, seconds=30):
    watch = Stopwatch()
    while not select.select([process.stdout], [], [], SAMPLE)[0]:
        assert watch.seconds() < seconds, f"nothing said within {seconds} s"
    return process.stdout.readline().strip()


def is_silent(process, seconds):
    return not select.select([process.stdout], [], [], seconds)[0]


# Every save adds to what the ones before it left, so that a lost one shows.
ADD = """
import json, sys
path, count, keys = sys.argv[1], int(sys.argv[2]), 20
for i in range(count):
    with open(path) as file:
        value = json.load(file)
    notes = value.get("annotations") or {}
    assert notes == {f"k{n % keys}": str(n) for n in range(max(0, i - keys), i)}, notes
    notes[f"k{i % keys}"] = str(i)
    value["annotations"] = notes
    with open(path, "w") as file:
        json.dump(value, file)
print("saved", count)
"""


def test_different_tags(server, start_mount):
    make(server, "shared", "left", "right")
    mount = start_mount(server)
    with python(ADD, tag_file(mount, "shared", "left"), 500) as left, \
            python(ADD, tag_file(mount, "shared", "right"), 500) as right:
        assert [hear(left, 120), hear(right, 120)] == ["saved 500", "saved 500"]
    for tag in tags_of(server, "shared").values():
        assert tag["annotations"] == {f"k{n % 20}": str(n) for n in range(480, 500)}
    assert writes(server) >= 1000
    assert sorted(os.listdir(mount / "work/shared/tags/left")) == ["from", "spec.json"]


# Opens and reads when told; writes and closes when told; says how that went.
RIVAL = """
import errno, json, sys
path, me = sys.argv[1:]
for line in sys.stdin:
    file = open(path, "r+")
    value = json.load(file)
    value["from"]["name"] = f"quay.io/example/{me}:{line.strip()}"
    text = json.dumps(value)
    print("ready", flush=True)
    sys.stdin.readline()
    file.seek(0)
    file.write(text)
    file.truncate()
    try:
        file.close()
        print(json.dumps(["ok", text]), flush=True)
    except OSError as error:
        print(json.dumps([errno.errorcode[error.errno], text]), flush=True)
"""


def test_same_tag(server, start_mount):
    make(server, "shared", "latest")
    mount = start_mount(server)
    path = tag_file(mount, "shared", "latest")
    winners = set()
    with python(RIVAL, path, "one") as one, python(RIVAL, path, "two") as two:
        for turn in range(50):
            before = name_of(server, "shared", "latest")
            for rival in (one, two):
                say(rival, str(turn))
                assert hear(rival) == "ready"
            for rival in (one, two) if turn % 2 else (two, one):
                say(rival, "save")
            answers = {rival: json.loads(hear(rival)) for rival in (one, two)}
            assert sorted(answer[0] for answer in answers.values()) == ["ESTALE", "ok"]
            (winner, won), (_, lost) = sorted(answers.items(), key=lambda a: a[1][0] != "ok")
            winners.add(winner)
            name = json.loads(won[1])["from"]["name"]
            assert name_of(server, "shared", "latest") == name
            assert json.loads(path.read_text())["from"]["name"] == name
            assert beside(path, ".rejected").read_text() == lost[1]
            reason = beside(path, ".error").read_text()
            for part in ("spec.tags[latest].from", before, name,
                         json.loads(lost[1])["from"]["name"]):
                assert part in reason
    assert winners == {one, two}


# Saves until the mount is gone; says before each what, and after it how that went.
UNTIL_THE_END = """
import errno, json, sys
path, kind = sys.argv[1:]
def text(i):
    source = {"kind": kind, "name": f"quay.io/example/app:{i}"}
    return json.dumps({"name": path.split("/")[-2], "from": source}, indent=2) + " " * (i % 7)
try:
    for i in range(1, 100000):
        print("try", i, flush=True)
        try:
            with open(path, "w") as file:
                file.write(text(i))
            print("ok", i, flush=True)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            print("refused", i, flush=True)
except OSError as error:
    print("end", errno.errorcode[error.errno], flush=True)
"""


def rejected_text(tag, i):
    """As UNTIL_THE_END writes it."""
    source = {"kind": "Nope", "name": f"quay.io/example/app:{i}"}
    return json.dumps({"name": tag, "from": source}, indent=2) + " " * (i % 7)


def last(said, word):
    numbers = [int(line.split()[1]) for line in said if line.startswith(word + " ")]
    return numbers[-1] if numbers else 0


@pytest.mark.parametrize("acknowledged", [20, 90, 200])
def test_killed(server, directory, tmp_path, monkeypatch, acknowledged):
    good, bad = ["a", "b", "c"], ["x", "y"]
    make(server, "shared", *good, *bad, "untouched", annotations={"description": "kept"})
    before = server.get("work", "shared")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    mount = Mount(directory, server.kubeconfig)
    said = {tag: [] for tag in good + bad}
    enough = threading.Event()

    def listen(tag, process):
        for line in process.stdout:
            said[tag].append(line.strip())
            if sum(last(lines, "ok") + last(lines, "refused")
                   for lines in list(said.values())) >= acknowledged:
                enough.set()

    try:
        with contextlib.ExitStack() as stack:
            threads = []
            for tag in said:
                process = stack.enter_context(python(
                    UNTIL_THE_END, tag_file(mount, "shared", tag),
                    "DockerImage" if tag in good else "Nope"))
                threads.append(threading.Thread(target=listen, args=(tag, process)))
                threads[-1].start()
            assert enough.wait(60), said
            mount.process.kill()
            for thread in threads:
                thread.join(20)
                assert not thread.is_alive(), "a writer hangs"
    finally:
        mount.kill()

    after = server.get("work", "shared")
    tags = {tag["name"]: tag for tag in after["spec"]["tags"]}
    for tag in good:
        saved, tried = last(said[tag], "ok"), last(said[tag], "try")
        number = int(tags[tag]["from"]["name"].rpartition(":")[2])
        assert saved <= number <= tried, f"{tag}: {number}, acknowledged {saved}, tried {tried}"
    assert list(tags) == [tag["name"] for tag in before["spec"]["tags"]]
    for tag in before["spec"]["tags"]:
        if tag["name"] not in good:
            assert tags[tag["name"]] == tag

    kept = [path.read_text() for path in tmp_path.glob("imagestreamfs/**/*") if path.is_file()]
    for tag in bad:
        refused, tried = last(said[tag], "refused"), last(said[tag], "try")
        assert refused, said[tag]
        assert any(rejected_text(tag, i) in kept for i in range(refused, tried + 1)), \
            f"the text refused last isn't in {kept}"


def save(path, text):
    """The errno of a save in place, or 0."""
    try:
        with open(path, "w") as file:
            file.write(text)
        return 0
    except OSError as error:
        return error.errno


def read_all(top):
    """Every file; how long the slowest took."""
    slowest, count = 0, 0
    for place, _, names in os.walk(top):
        for name in names:
            watch = Stopwatch()
            with open(os.path.join(place, name), "rb") as file:
                assert len(file.read()) == os.fstat(file.fileno()).st_size
            slowest, count = max(slowest, watch.seconds()), count + 1
    assert count
    return slowest


def test_reads_while_saves_hang(server, start_mount):
    streams, tags = [f"s{n}" for n in range(25)], ["a", "b", "c", "d"]
    for stream in streams:
        make(server, stream, *tags)
    mount = start_mount(server, "--request-timeout", "120s")
    paths = [tag_file(mount, stream, tag) for stream in streams for tag in tags]
    texts = [document(path, "quay.io/example/app:new") for path in paths]
    read_all(mount / "work")
    server.reset()
    server.fault(method="PATCH", hang=True, count=1000)
    with concurrent.futures.ThreadPoolExecutor(len(paths)) as pool:
        saves = [pool.submit(save, *one) for one in zip(paths, texts)]
        try:
            wait_for(lambda: writes(server) == len(streams), 20, "one save of each stream on its way")
            assert not any(one.done() for one in saves)
            counts = server.counts()
            assert read_all(mount / "work") < 1
            assert subprocess.run(["grep", "-rq", "app:new", mount.path], check=False,
                                  timeout=60).returncode == 1
            assert "work" in os.listdir(mount.path)
            assert server.counts() == counts
            assert not any(one.done() for one in saves)
        finally:
            server.control("DELETE", "faults")
        assert [one.result() for one in saves] == [0] * len(paths)
    for stream in streams:
        assert {tag["from"]["name"] for tag in tags_of(server, stream).values()} == {
            "quay.io/example/app:new"}


# Saves in place or by a rename, with handlers for signals; says how it went. Python's own fsync()
# doesn't tell of EINTR but calls again.
CAREFUL = """
import ctypes, errno, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
path, how, text = sys.argv[1:]
for one in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT,
            signal.SIGWINCH, signal.SIGALRM, signal.SIGUSR1, signal.SIGCHLD):
    signal.signal(one, lambda *arguments: None)
place = path + ".new" if how == "rename" else path
fd = os.open(place, os.O_WRONLY | os.O_TRUNC | os.O_CREAT)
os.write(fd, text.encode())
def tell(call, *arguments):
    failed = call(*arguments)
    print(errno.errorcode[ctypes.get_errno()] if failed else "ok", flush=True)
if how == "fsync":
    tell(libc.fsync, fd)
if how == "rename":
    os.close(fd)
    tell(libc.rename, place.encode(), path.encode())
else:
    tell(libc.close, fd)
"""


@contextlib.contextmanager
def hanging_save(server, mount, how, code=CAREFUL):
    """A process whose save has reached a server that doesn't answer."""
    path = tag_file(mount, "shared", "latest")
    text = document(path, "quay.io/example/app:mine")
    server.reset()
    server.fault(method="PATCH", hang=True, count=1000)
    with python(code, path, how, text) as process:
        wait_for(lambda: writes(server) == 1, what="the request")
        yield process, path, text


def pending(process):
    """Signals that wait to be handled."""
    with open(f"/proc/{process.pid}/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)


def interrupt(process, sig):
    """Sends it, and knows that it came while the process was in its call."""
    process.send_signal(sig)
    assert pending(process) & (1 << (sig - 1)) or not is_silent(process, 1)


@pytest.fixture
def shared(server, start_mount):
    make(server, "shared", "latest")
    return start_mount(server, "--request-timeout", "60s")


@pytest.mark.parametrize("how, sig", [
    ("close", signal.SIGINT), ("fsync", signal.SIGINT), ("rename", signal.SIGINT),
    ("close", signal.SIGTERM), ("close", signal.SIGHUP), ("close", signal.SIGQUIT)])
def test_interrupted(server, shared, how, sig):
    with hanging_save(server, shared, how) as (process, path, text):
        process.send_signal(sig)
        assert hear(process, 3) == "EINTR"
        if how == "fsync":
            assert hear(process, 3) == "EINTR"  # the same verdict
        process.wait(60)
        assert beside(path, ".rejected").read_text() == text
        assert "may have" in beside(path, ".error").read_text()
        assert SOURCE["name"] in path.read_text()
        if how == "rename":
            assert beside(path, ".new").read_text() == text
        server.control("DELETE", "faults")
    # It isn't tried again by itself; but the user can, and then what was kept goes.
    assert name_of(server, "shared", "latest") == SOURCE["name"]
    assert save(path, beside(path, ".rejected").read_text()) == 0
    assert writes(server) == 2
    assert name_of(server, "shared", "latest") == "quay.io/example/app:mine"
    assert not beside(path, ".rejected").exists() and not beside(path, ".error").exists()


@pytest.mark.parametrize("how", ["close", "fsync", "rename"])
def test_not_interrupted(server, shared, how):
    """By a terminal that is resized, or a timer."""
    with hanging_save(server, shared, how) as (process, path, _):
        for sig in (signal.SIGWINCH, signal.SIGALRM, signal.SIGUSR1):
            interrupt(process, sig)
        assert is_silent(process, 0.5), "interrupted: " + hear(process)
        server.control("DELETE", "faults")
        assert hear(process) == "ok"
    assert name_of(server, "shared", "latest") == "quay.io/example/app:mine"
    assert not beside(path, ".rejected").exists()
    assert writes(server) == 1


# As many programs do, python's own fsync() calls again after EINTR.
PERSISTENT = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *arguments: None)
path, _, text = sys.argv[1:]
fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
os.write(fd, text.encode())
try:
    os.fsync(fd)
    print("ok", flush=True)
except OSError as error:
    print(error, flush=True)
"""


def test_interrupted_and_called_again(server, shared):
    """Such a loop must end: with an answer of the server, or with another error."""
    with hanging_save(server, shared, "fsync", PERSISTENT) as (process, _, _):
        interrupt(process, signal.SIGTERM)
        server.control("DELETE", "faults")
        assert hear(process, 5)


# No handlers: a signal ends it, in the middle of close().
CARELESS = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
path, _, text = sys.argv[1:]
fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
os.write(fd, text.encode())
os.close(fd)
"""


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGKILL])
def test_killed_writer(server, shared, sig):
    with hanging_save(server, shared, "close", CARELESS) as (process, path, text):
        process.send_signal(sig)
        assert process.wait(60) == -sig
        wait_for(beside(path, ".rejected").exists, what="the kept text")
        assert beside(path, ".rejected").read_text() == text
        server.control("DELETE", "faults")
    assert save(path, document(path, "quay.io/example/app:next")) == 0
    assert writes(server) == 2
    assert name_of(server, "shared", "latest") == "quay.io/example/app:next"


@pytest.mark.parametrize("how", ["close", "fsync", "rename"])
def test_deadline(server, start_mount, how):
    make(server, "shared", "latest")
    mount = start_mount(server, "--request-timeout", "2s")
    begin, watch = time.monotonic(), Stopwatch()
    with hanging_save(server, mount, how) as (process, path, text):
        assert hear(process, 6) == "ETIMEDOUT"
        assert time.monotonic() - begin > 1.5 and watch.seconds() < 5
        if how == "fsync":
            assert hear(process, 1) == "ETIMEDOUT"  # the same verdict, at once
        process.wait(60)
        assert beside(path, ".rejected").read_text() == text
        assert beside(path, ".error").read_text()
        server.control("DELETE", "faults")
    assert writes(server) == 1
    assert name_of(server, "shared", "latest") == SOURCE["name"]
    assert save(path, text) == 0
    assert not beside(path, ".rejected").exists()


def test_end_under_writers(server, start_mount, tmp_path, monkeypatch):
    """Forty processes save in a loop whatever they are told: the end comes all the same."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for n in range(40):
        make(server, f"s{n}", "a")
    mount = start_mount(server)
    loop = ("import os, sys, itertools\n"
            "for n in itertools.count():\n"
            "    try:\n"
            "        fd = os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC)\n"
            "        os.write(fd, (sys.argv[2] % n).encode())\n"
            "        os.close(fd)\n"
            "    except OSError as why:\n"
            "        if why.errno in (2, 107, 103):\n"
            "            break\n")
    text = document(tag_file(mount, "s0", "a"), "quay.io/example/app:%d")
    writers = [subprocess.Popen(["/usr/bin/python3", "-c", loop, tag_file(mount, f"s{n}", "a"), text])
               for n in range(40)]
    try:
        wait_for(lambda: writes(server) > 200, 20, "saves")
        assert mount.stop() < 2
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
