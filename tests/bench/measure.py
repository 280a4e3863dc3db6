"""Ways to measure: runs side by side, CPU time, memory and FUSE requests of another process."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import statistics
import subprocess
import sys
import time


class Skip(Exception):
    """Why a row can't be measured here and now."""


@dataclasses.dataclass
class Result:
    row: str
    value: str
    target: str
    reached: bool | None
    detail: str = ""


def say(text):
    print(text, file=sys.stderr, flush=True)


def spread(values, form="{:.2f}"):
    """median (min–max)"""
    values = [form.format(v) for v in (statistics.median(values), min(values), max(values))]
    return f"{values[0]} ({values[1]}–{values[2]})"


def seconds(value):
    return f"{value:.2f} s" if value >= 0.1 else f"{value * 1e3:.2f} ms"


def timed(function):
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def run(command, cwd=None, env=None):
    """Runs a program whose output nobody wants; how long it took."""
    environment = {**os.environ, "LC_ALL": "C", **(env or {})}
    return timed(lambda: subprocess.run(command, cwd=cwd, env=environment, check=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))


def usage(command):
    """struct rusage of a program that runs to its end, and whose output nobody wants."""
    with open(os.devnull, "wb") as null:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=null)
        _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, command
    return used


def side_by_side(runs, ours, reference):
    """[(ours, reference)]: ours, reference, ours, reference … Each gives its seconds."""
    pairs = []
    for number in range(runs):
        pairs.append((ours(), reference()))
        say("    run %d: %s against %s" % (number + 1, *map(seconds, pairs[-1])))
    return pairs


def ratio(row, target, pairs, detail=""):
    """The row of a figure that may be at most `target` times the reference."""
    ratios = [ours / reference for ours, reference in pairs]
    medians = [statistics.median(column) for column in zip(*pairs)]
    detail = "%s / %s%s" % (*map(seconds, medians), detail and "; " + detail)
    return Result(row, spread(ratios), "≤ %g" % target, statistics.median(ratios) <= target, detail)


def percentile(values, percent):
    values = sorted(values)
    return values[min(len(values) - 1, len(values) * percent // 100)]


def children(pid):
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            child = int(path.parent.name)
            found += [child, *children(child)]
    return found


CPU_OF_ALL, CPU_OF_USER = 2, 1  # CPUCLOCK_SCHED, CPUCLOCK_VIRT


def cpu_seconds(pid, which=CPU_OF_ALL):
    """CPU time of the process and those that it started (the kernel's clocks of a process)."""
    total = 0.0
    for one in [pid, *children(pid)]:
        try:
            total += time.clock_gettime((~one << 3) | which)
        except OSError:
            pass
    return total


def wait_idle(pid, limit=60):
    """Until the process has used no CPU for a third of a second."""
    end = time.monotonic() + limit
    quiet, last = 0, cpu_seconds(pid)
    while quiet < 7:
        if time.monotonic() > end:
            raise Skip(f"the program wasn't idle within {limit} s")
        time.sleep(0.05)
        now = cpu_seconds(pid)
        quiet = quiet + 1 if now - last < 0.001 else 0
        last = now


def status_kib(pid, field):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise Skip(f"/proc/{pid}/status has no {field}")


def reads_of(pid):
    """read() calls of the process: one for each FUSE request, and few others."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/io").read_text().splitlines()
    except PermissionError:
        raise Skip(f"/proc/{pid}/io can't be read") from None
    return int(dict(line.split(": ") for line in lines)["syscr"])


def check_reads(pid, directory):
    """That reads_of() counts: each name that isn't there and was never asked for is a request."""
    before, wanted = reads_of(pid), 200
    for number in range(wanted):
        (pathlib.Path(directory) / f"never-{os.getpid()}-{time.monotonic_ns()}-{number}").exists()
    if reads_of(pid) - before < wanted:
        raise Skip("the program's FUSE requests don't show as read() calls")
