"""A mount that lives long in a busy cluster needs no more in the end than in the beginning.

Projects and streams come and go under ever new names, editors save, selections are looked at, five
readers follow the events. Every few seconds what the program holds is written down; it has to be
flat in the end.

LONGLIFE_SECONDS=3600 is the long form, LONGLIFE_CSV=FILE keeps the samples, of which
tests/bench/plot.py draws a picture. RSS counts without sanitizers alone, which keep what is freed,
and from half an hour on: versions that were opened are remembered for ten minutes.
"""

import collections
import contextlib
import csv
import itertools
import os
import pathlib
import random
import subprocess
import threading
import time

import conftest
from conftest import wait_for
from events import KeptServer, announcers
from test_convergence import a_stream
from test_watch import QUICKLY

import pytest

pytestmark = pytest.mark.long

SECONDS = float(os.environ.get("LONGLIFE_SECONDS", 60))
SAMPLE = max(1, SECONDS / 600)
PROJECTS, STREAMS = 6, 8  # at any time
READERS, EDITORS = 5, 3
PERIOD = 3  # seconds between two projects
START = 60
SANITIZED = b"__asan_init" in pathlib.Path(conftest.PROGRAM).read_bytes()
LASTING, CALM = "shop", "calm"  # streams come and go in the one, none in the other
# Names that are asked for and never were. The program remembers up to 65,536 of them, since the
# kernel does: ever new ones would fill that table for the whole of an hour.
MISSING = 2000

# Column -> how far its peak may rise in the last third: a part of the one before, and some more.
# In a minute nothing of a busy machine is flat: what grows with each change is seen all the same.
SHORT = SECONDS < 600
FLAT = {"descriptors": (0.1, 4), "threads": (0.1, 3), "nodes": (0.1, 100 if SHORT else 30),
        "drafts": (0, EDITORS), "scratch_bytes": (0, 100_000), "store_bytes": (0.1, 50_000),
        **({} if SANITIZED or SECONDS < 1800 else {"rss_kib": (0.02, 1500)}),
        **({} if SANITIZED else {"announcer_rss_kib": (0.05, 500)})}

# Saves of one file until its directory goes; then of another one.
EDITOR = """
import itertools, json, os, random, sys
top, seconds = sys.argv[1], float(sys.argv[2])
import time
end = time.monotonic() + seconds
for i in itertools.count():
    if time.monotonic() > end:
        break
    try:
        streams = os.listdir(top)
        place = os.path.join(top, random.choice(streams))
        path = os.path.join(place, "metadata.json")
        with open(path) as file:
            value = json.load(file)
        value.setdefault("labels", {})["edited"] = "no label!" if i % 20 == 0 else str(i)
        if i % 2:
            with open(path + "~", "w") as file:
                json.dump(value, file)
            os.rename(path + "~", path)
        else:
            with open(path, "w") as file:
                json.dump(value, file)
    except (OSError, ValueError):
        pass
    for name in ("metadata.json~", "metadata.json.rejected", "metadata.json.error"):
        try:
            os.unlink(os.path.join(place, name))
        except OSError:
            pass
    time.sleep(0.1 + random.random() * 0.2)
"""


class Cluster(threading.Thread):
    """Projects that come and go, and streams in each and in one that stays."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server = KeptServer(server)
        self.dice = random.Random(7)
        self.ending = threading.Event()
        self.names = itertools.count(1)
        self.streams = collections.deque()
        self.projects = collections.deque()
        self.changes = 0
        self.add_streams(CALM)
        for _ in range(PROJECTS):
            self.add_project()
        for _ in range(STREAMS):
            self.add_stream()

    def add_project(self):
        name = f"project-{next(self.names)}"
        self.add_streams(name)
        self.projects.append(name)

    def add_streams(self, namespace):
        self.server.bulk({"op": "create-namespace", "name": namespace}, *(
            {"op": "create", "namespace": namespace, "name": f"app-{i}",
             "object": a_stream(self.dice, f"app-{i}")} for i in range(STREAMS)))

    def add_stream(self):
        name = f"stream-{next(self.names)}"
        self.server.bulk({"op": "create", "namespace": LASTING, "name": name,
                          "object": a_stream(self.dice, name)})
        self.streams.append(name)

    def run(self):
        next_project = time.monotonic() + PERIOD
        while not self.ending.is_set():
            self.change()
            if time.monotonic() > next_project:
                next_project += PERIOD
                self.server.bulk({"op": "delete-namespace", "name": self.projects.popleft()})
                self.add_project()
            self.ending.wait(0.05)

    def change(self):
        self.changes += 1
        if self.changes % 5 == 0:
            self.server.bulk({"op": "delete", "namespace": LASTING,
                              "name": self.streams.popleft()})
            self.add_stream()
        else:
            self.server.bulk({"op": self.dice.choice(["touch-image", "touch-annotation"]),
                              "namespace": self.dice.choice(self.projects),
                              "name": f"app-{self.dice.randrange(STREAMS)}"})

    def finish(self):
        self.ending.set()
        self.join()


class Visitor(threading.Thread):
    """Walks through all of it, looks at selections and for what was never there."""

    def __init__(self, mount):
        super().__init__(daemon=True)
        self.mount = mount
        self.ending = threading.Event()
        self.numbers = itertools.count()

    def run(self):
        while not self.ending.is_set():
            subprocess.run(["grep", "-r", "-q", "no such text", self.mount.path], check=False,
                           stderr=subprocess.DEVNULL)
            # Not ever new names: the kernel keeps those of a selection until memory is short.
            for selector in ("tier=web", f"tier=data,number!={next(self.numbers) % 20}"):
                self.look(self.mount / CALM / ".api/select" / selector)
            for _ in range(20):
                missing = f"missing-{next(self.numbers) % MISSING}"
                os.path.exists(self.mount / LASTING / missing)
            self.ending.wait(1)

    @staticmethod
    def look(directory):
        with contextlib.suppress(OSError):
            for name in os.listdir(directory):
                with contextlib.suppress(OSError):
                    (directory / name / "spec.json").read_bytes()

    def finish(self):
        self.ending.set()
        self.join()


def resident(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0])


def sample(mount):
    """Column -> number; metrics with labels are summed."""
    pid = mount.process.pid
    found = collections.Counter()
    found["rss_kib"] = resident(pid)
    found["announcer_rss_kib"] = sum(map(resident, announcers(pid)))
    found["descriptors"] = len(os.listdir(f"/proc/{pid}/fd"))
    found["threads"] = len(os.listdir(f"/proc/{pid}/task"))
    for line in (mount / ".api/metrics").read_text().splitlines():
        name, _, value = line.rpartition(" ")
        name = name.partition("{")[0].removeprefix("imagestreamfs_")
        if not line.startswith("#") and not name.endswith(("_bucket", "_sum")):
            found[name] += float(value)
    return found


def rises(samples):
    """Column -> (peak of the second third, how far that of the last is above it).

    Peaks, since anybody on this machine may make the kernel drop what it holds, and it comes again.
    """
    def peak(column, third):
        return max(one[column] for one in samples
                   if third <= 3 * one["seconds"] / SECONDS < third + 1)

    return {column: (peak(column, 1), peak(column, 2) - peak(column, 1)) for column in samples[0]}


def write_csv(samples):
    if os.environ.get("LONGLIFE_CSV"):
        with open(os.environ["LONGLIFE_CSV"], "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(samples[0]))
            writer.writeheader()
            writer.writerows(samples)


@contextlib.contextmanager
def inhabited(server, mount):
    with contextlib.ExitStack() as stack:
        for _ in range(READERS):
            reader = subprocess.Popen(["cat", mount / ".api/events"], stdout=subprocess.DEVNULL)
            stack.callback(reader.wait)
            stack.callback(reader.kill)
        for _ in range(EDITORS):
            editor = subprocess.Popen(["/usr/bin/python3", "-c", EDITOR, mount / LASTING,
                                       str(SECONDS)])
            stack.callback(editor.wait)
            stack.callback(editor.kill)
        cluster, visitor = Cluster(server), Visitor(mount)
        for one in (cluster, visitor):
            one.start()
            stack.callback(one.finish)
        yield cluster


def test_longlife(start_server, start_mount, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    server = start_server("--namespace", LASTING)
    server.create(LASTING, "first")
    # A project that goes is made sure of: for seconds instead of half a minute.
    mount = start_mount(server, *QUICKLY)
    mount.expect("")  # refused saves
    samples = []
    wait_for((mount / LASTING / "first").is_dir, START, "the mount")
    with inhabited(server, mount) as cluster:
        begin = time.monotonic()
        while (now := time.monotonic() - begin) < SECONDS:
            assert cluster.is_alive()
            samples.append({"seconds": round(now, 1), **sample(mount)})
            write_csv(samples)
            time.sleep(SAMPLE)  # the pace of the samples
    figures = rises(samples)
    for column in FLAT:
        print(f"{column}: at most {figures[column][0]:.0f}, then {figures[column][1]:+.0f}")
    print(f"{cluster.changes} changes")
    wrong = {column: figures[column] for column, (part, more) in FLAT.items()
             if figures[column][1] > part * figures[column][0] + more}
    assert not wrong, f"column: (peak, rise over the last third of {SECONDS:.0f} s): {wrong}"
