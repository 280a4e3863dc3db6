"""Time as a machine with nothing else to do would count it, so that a limit means the same on a busy one."""

import contextlib
import os
import threading
import time

PROCESSORS = len(os.sched_getaffinity(0))
SAMPLE = 0.05  # seconds


def share():
    """What part of a processor falls to each who wants one now (proc(5), /proc/loadavg)."""
    with open("/proc/loadavg") as file:
        running = int(file.read().split()[3].split("/")[0])
    return min(1, PROCESSORS / max(1, running))


class Stopwatch:
    """To be asked every now and then: what passed since then counts by the share at both ends."""

    def __init__(self):
        self.passed, self.at, self.share = 0, time.monotonic(), share()

    def seconds(self):
        now = time.monotonic()
        if now - self.at >= SAMPLE:
            before, self.share = self.share, share()
            self.passed += (now - self.at) * (before + self.share) / 2
            self.at = now
        return self.passed + (now - self.at) * self.share


@contextlib.contextmanager
def at_most(seconds):
    """The block takes no longer than that."""
    watch, done = Stopwatch(), threading.Event()

    def look():
        while not done.wait(SAMPLE):
            watch.seconds()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    begin = time.monotonic()
    try:
        yield
    finally:
        wall = time.monotonic() - begin
        done.set()
        thread.join()
    took = watch.seconds()
    assert took < seconds, f"it took {took:.1f} s ({wall:.1f} s by the clock) of at most {seconds}"
