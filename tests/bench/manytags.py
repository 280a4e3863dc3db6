"""One stream of many tags: what listing it, removing half of it and saving one tag cost the program."""

import json
import os
import subprocess
import time

import inotify
from measure import CPU_OF_USER, cpu_seconds, run, wait_idle

STREAM = ("big", "many-tags")  # what --stream-tags makes
DELETE = 0x200
LIMIT = 600  # seconds, of a build with sanitizers on a busy machine
OPTIONS = ("--request-timeout", f"{LIMIT}s")  # the server is no faster there


class ManyTags:
    """A mount of a server that was started with --stream-tags.

    Each step gives seconds: wall, CPU, CPU outside the kernel.
    """

    def __init__(self, server, mount):
        self.server = server
        self.pid = mount.process.pid
        self.stream = mount / STREAM[0] / STREAM[1]
        self.tags = self.stream / "tags"
        self.whole = server.request("GET", server.streams(*STREAM), timeout=LIMIT)
        self.names = sorted(tag["name"] for tag in self.whole["spec"]["tags"])
        self.removed = self.names[::2]

    def measure(self, function):
        wait_idle(self.pid, LIMIT)
        cpu, user = cpu_seconds(self.pid), cpu_seconds(self.pid, CPU_OF_USER)
        begin = time.perf_counter()
        function()
        wall = time.perf_counter() - begin
        wait_idle(self.pid, LIMIT)
        return wall, cpu_seconds(self.pid) - cpu, cpu_seconds(self.pid, CPU_OF_USER) - user

    def replace(self, stream):
        self.server.request("POST", "/_control/bulk", [{
            "op": "replace", "namespace": STREAM[0], "name": STREAM[1], "object": stream}],
            timeout=LIMIT)

    def wait(self, there):
        """Until the name that comes or goes last is shown so."""
        last, end = self.tags / self.removed[-1], time.monotonic() + LIMIT
        while os.path.lexists(last) != there:
            assert time.monotonic() < end, f"{last}: not in time"
            time.sleep(0.01)

    def half(self):
        gone, spec, status = set(self.removed), self.whole["spec"], self.whole["status"]
        return {**self.whole,
                "spec": {**spec, "tags": [t for t in spec["tags"] if t["name"] not in gone]},
                "status": {**status, "tags": [t for t in status["tags"] if t["tag"] not in gone]}}

    def remove_half(self):
        self.replace(self.half())
        self.wait(False)

    def remove_half_watched(self):
        """Until a reader of tags/ has each event."""
        watch, seen, end = inotify.Inotify(), set(), time.monotonic() + LIMIT
        watch.add(self.tags, DELETE)
        self.replace(self.half())
        while len(seen) < len(self.removed):
            one = watch.read(max(0, end - time.monotonic()))
            assert one, f"{len(seen)} of {len(self.removed)} events"
            for _, mask, name in inotify.parse(one[1]):
                assert not mask & inotify.OVERFLOW
                seen.add(name)
        watch.close()

    def bring_back(self):
        self.replace(self.whole)
        self.wait(True)

    def save(self):
        path = self.tags / self.names[len(self.names) // 2 | 1] / "spec.json"
        text = json.loads(path.read_text())
        text["annotations"] = {"saved": str(time.time_ns())}
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(fd, json.dumps(text).encode())
        finally:
            os.close(fd)

    def read_all(self):
        subprocess.run(f"find {self.tags} -type f -print0 | xargs -0 cat >/dev/null", shell=True,
                       check=True)

    def steps(self):
        """What each is called -> what it took (measure)."""
        return {name: self.measure(step) for name, step in [
            ("ls tags/", lambda: run(["ls", self.tags])),
            ("ls -l tags/", lambda: run(["ls", "-l", self.tags])),
            ("find", lambda: run(["find", self.stream])),
            ("cat of every file", self.read_all),
            ("half of the tags removed", self.remove_half),
            ("brought back", self.bring_back),
            ("half removed, with a reader", self.remove_half_watched),
            ("brought back again", self.bring_back),
            ("save of a tag", self.save),
            ("save of a tag again", self.save)]}
