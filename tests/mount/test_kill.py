"""kill -9 of the program in the middle of saves, again and again on one mountpoint.

What holds: a save that was acknowledged is on the server. A text whose refusal was told stands
whole in the state directory, and no later run touches it. A save that the kill met may have reached the
server or not; what a handle had written and not saved yet was in the program's memory alone, and is
lost with it. The next start replaces the dead mount.

KILLS=200 is the long form.
"""

import contextlib
import errno
import json
import os
import random
import re
import subprocess
import threading

from conftest import Mount, fails, is_mounted, wait_for

import pytest

pytestmark = [pytest.mark.long] if "KILLS" in os.environ else []

KILLS = int(os.environ.get("KILLS", 20))
SEED = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(1 << 32)))
SECONDS = 120  # of a start or a few saves, on a busy machine
STREAM = "shared"
STEP = 10000  # between the numbers of two rounds

# Saves until the mount is gone; says before each what, and after it how that went.
WRITER = """
import errno, json, os, sys
way, path, good, number = sys.argv[1:]
tag = path.split("/")[-2]
def text(i):
    kind = "DockerImage" if good == "good" else "Nope"
    source = {"kind": kind, "name": f"quay.io/example/app:{i}"}
    return json.dumps({"name": tag, "from": source}, indent=2) + " " * (i % 7)
def write(place, i, flags):
    fd = os.open(place, os.O_WRONLY | flags, 0o644)
    try:
        whole = text(i).encode()
        os.write(fd, whole[:50])
        os.write(fd, whole[50:])
        if way == "fsync":
            os.fsync(fd)
    except OSError:
        try:
            os.close(fd)
        except OSError:
            pass
        raise
    os.close(fd)
def save(i):
    if way == "rename":
        write(path + ".new", i, os.O_CREAT | os.O_TRUNC)
        os.rename(path + ".new", path)
    elif way == "directory":
        if os.path.isdir(path):
            os.rmdir(path)
        else:
            os.mkdir(path)
    else:
        write(path, i, os.O_TRUNC)
GONE = errno.ENOTCONN, errno.ECONNABORTED
i = int(number)
while True:
    i += 1
    print("try", i, flush=True)
    try:
        save(i)
        print("ok", i, os.path.isdir(path) if way == "directory" else "", flush=True)
    except OSError as error:
        if error.errno in GONE:
            break
        # Without O_TRUNC what was refused may come with the next save: each has its own handle.
        print("refused", i, errno.errorcode[error.errno], flush=True)
"""

WRITERS = {  # tag: how it is saved, whether the server takes it
    "close": ("close", "good"), "fsync": ("fsync", "good"), "rename": ("rename", "good"),
    "bad-close": ("close", "bad"), "bad-fsync": ("fsync", "bad"), "bad-rename": ("rename", "bad"),
    "dir": ("directory", "good"),
}
BAD = [tag for tag, (_, good) in WRITERS.items() if good == "bad"]
FILES = [tag for tag in WRITERS if tag != "dir"]


def rejected_text(tag, i):
    """As WRITER writes it."""
    source = {"kind": "Nope", "name": f"quay.io/example/app:{i}"}
    return json.dumps({"name": tag, "from": source}, indent=2) + " " * (i % 7)


class Program:
    """Run after run on one mountpoint."""

    def __init__(self, directory, server):
        self.mount = Mount(directory, server.kubeconfig)
        self.command = self.mount.process.args
        self.path = self.mount.path

    def kill(self):
        self.mount.process.kill()
        self.mount.process.wait()
        with fails(errno.ENOTCONN, errno.ECONNABORTED):
            (self.path / "work" / STREAM / "spec.json").read_text()

    def start(self):
        """The dead mount is there until it is replaced."""
        assert is_mounted(self.path)
        log = f"log_path={self.mount.directory}/san"
        with open(self.mount.stderr, "a") as stderr:
            self.mount.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stderr=stderr, env={
                    **os.environ, "ASAN_OPTIONS": log + ":detect_leaks=1",
                    "UBSAN_OPTIONS": log + ":print_stacktrace=1"})
        wait_for(self.works, SECONDS, "the next start")
        with open("/proc/self/mountinfo") as table:
            assert sum(line.split()[4] == str(self.path) for line in table) == 1

    def works(self):
        assert self.mount.process.poll() is None, self.mount.stderr.read_text()
        with contextlib.suppress(OSError):
            return (self.path / "work" / STREAM / "spec.json").read_text()


class Round:
    """The writers of one life of the program."""

    def __init__(self, program, number):
        self.said = {tag: [] for tag in WRITERS}
        self.changed = threading.Condition()
        self.processes, self.threads = [], []
        for tag, (way, good) in WRITERS.items():
            place = program.path / "work" / STREAM / "tags" / tag
            place = place if way == "directory" else place / "spec.json"
            process = subprocess.Popen(
                ["/usr/bin/python3", "-c", WRITER, way, str(place), good, str(number * STEP)],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            thread = threading.Thread(target=self.listen, args=(tag, process), daemon=True)
            thread.start()
            self.processes.append(process)
            self.threads.append(thread)

    def listen(self, tag, process):
        for line in process.stdout:
            with self.changed:
                self.said[tag].append(line.split())
                self.changed.notify()

    def verdicts(self):
        return sum(words[0] != "try" for lines in self.said.values() for words in lines)

    def wait(self, number):
        with self.changed:
            assert self.changed.wait_for(lambda: self.verdicts() >= number, SECONDS), self.said

    def end(self):
        for thread, process in zip(self.threads, self.processes):
            thread.join(SECONDS)
            assert not thread.is_alive(), "a writer hangs"
            assert process.wait() == 0, process.stderr.read()
            process.stdout.close()
            process.stderr.close()

    def last(self, tag, word):
        numbers = [words for words in self.said[tag] if words[0] == word]
        return numbers[-1] if numbers else None


def spec_tags(server):
    return {tag["name"]: tag for tag in server.get("work", STREAM)["spec"]["tags"] or []}


def check_saved(server, done, saved):
    """`saved`: tag -> the number that was acknowledged last, in this round or before."""
    tags = spec_tags(server)
    for tag in FILES:
        if tag in BAD:
            assert tags[tag]["from"]["name"] == "quay.io/example/app:0"
            continue
        told, tried = done.last(tag, "ok"), done.last(tag, "try")
        saved[tag] = int(told[1]) if told else saved[tag]
        number = int(tags[tag]["from"]["name"].rpartition(":")[2])
        assert saved[tag] <= number <= max(int(tried[1]), saved[tag]), \
            f"{tag}: {number}, acknowledged {saved[tag]}, tried {tried}"
        saved[tag] = number  # the save that the kill met was stored
    check_directory(tags, done)


def check_directory(tags, done):
    told, tried = done.last("dir", "ok"), done.last("dir", "try")
    if told and told[1] == tried[1]:  # nothing was under way
        assert ("dir" in tags) == (told[2] == "True"), (told, list(tags))


def state_files(state, tag, suffix):
    """Path -> text of what was kept for that tag's spec.json; no unfinished file counts."""
    pattern = re.compile(r"spec\.json" + re.escape(suffix) + r"(\.\d+)?")
    return {path: path.read_text() for path in state.glob(f"imagestreamfs/*/*/*/tags/{tag}/*")
            if pattern.fullmatch(path.name)}


def check_kept(state, done, kept):
    """`kept`: what earlier rounds left in the state directory, path -> text."""
    for path, text in kept.items():
        assert path.read_text() == text, f"{path} was touched"
    for tag in BAD:
        refused, tried = done.last(tag, "refused"), done.last(tag, "try")
        files = state_files(state, tag, ".rejected")
        new = {path: text for path, text in files.items() if path not in kept}
        texts = {rejected_text(tag, i): i for i in range(
            int(refused[1]) if refused else 0, int(tried[1]) + 1)} if refused else {}
        if refused:
            assert any(text in texts for text in new.values()), \
                f"{tag}: the text that was refused last ({refused}) isn't in {new}"
            assert any(text for text in state_files(state, tag, ".error").values())
        for path, text in new.items():
            check_whole(done, tag, path, text)
            kept[path] = text


def check_whole(done, tag, path, text):
    """A text that was tried; or nothing, where the kill came between naming and writing."""
    tried = [int(words[1]) for words in done.said[tag] if words[0] == "try"]
    assert text == "" or text in {rejected_text(tag, i) for i in tried}, f"{path}: {text!r}"


def make_stream(server):
    server.control("POST", "bulk", [{"op": "create-namespace", "name": "work"}])
    server.create("work", STREAM, tags=[
        {"name": tag, "from": {"kind": "DockerImage", "name": "quay.io/example/app:0"}}
        for tag in FILES])


def test_kill(start_server, directory, tmp_path, monkeypatch):
    print(f"KILL_SEED={SEED}")
    dice = random.Random(SEED)
    server = start_server()
    make_stream(server)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    program = Program(directory, server)
    program.mount.expect("")  # it tells of each refusal
    saved, kept, verdicts = dict.fromkeys(FILES, 0), {}, 0
    try:
        for number in range(1, KILLS + 1):
            done = Round(program, number)
            done.wait(dice.randrange(1, 60))
            threading.Event().wait(dice.random() * 0.02)  # any moment of a save
            program.kill()
            done.end()
            verdicts += done.verdicts()
            check_saved(server, done, saved)
            check_kept(tmp_path, done, kept)
            program.start()
        program.mount.stop()
        program.mount.check()
    finally:
        program.mount.kill()
    print(f"{KILLS} kills, {verdicts} verdicts, {len(kept)} texts kept")
