"""The first walks of a mount beside the floor of a FUSE server: the same tree out of memory (memfs.c)."""

import contextlib
import json
import statistics
import subprocess
import tempfile

from measure import Result, cpu_seconds, ratio, run, side_by_side, spread, wait_idle
from shared import LIST, conftest, walk_command


@contextlib.contextmanager
def memfs(bench):
    """(where it is mounted, the process)"""
    place = tempfile.mkdtemp(dir=bench.directory)
    process = subprocess.Popen([bench.program("memfs"), bench.tree(), place])
    try:
        conftest.wait_until_mounted(place, process, 600)
        yield place, process.pid
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def fresh_mount(bench):
    """The same of the program, once it has nothing more to do."""
    server = bench.server(bench.options.streams)
    with bench.mount(server.kubeconfig, bench.options.streams) as mount:
        wait_idle(mount.process.pid)
        yield mount.path, mount.process.pid


def first(what, target, before=None):
    """A row: the first such walk of a fresh mount, after a walk of another kind where one is named."""
    def measure(bench, row):
        command, spent = walk_command(bench, what), ([], [])

        def once(mounting, cpu):
            with mounting(bench) as (path, pid):
                if before:
                    run(walk_command(bench, before), path)
                begin = cpu_seconds(pid)
                took = run(command, path)
                cpu.append(cpu_seconds(pid) - begin)
                return took
        bench.tree()
        pairs = side_by_side(bench.runs, lambda: once(fresh_mount, spent[0]),
                             lambda: once(memfs, spent[1]))
        return [ratio(row, target, pairs, "CPU of the servers %.2f / %.2f s" % tuple(
            map(statistics.median, spent)))]
    return measure


def stream_costs(bench):
    """(bytes of a stream as listed, {work: [µs of each round]}) of stream.c, in one run of it."""
    def make():
        stream = bench.server(bench.options.small).request("GET", LIST + "?limit=1")["items"][0]
        text = bench.directory / "stream.json"
        text.write_text(json.dumps(stream, separators=(",", ":"), ensure_ascii=False))
        found = subprocess.run(
            [bench.program("stream"), text, str(bench.runs),
             *(tag["tag"] for tag in stream["status"]["tags"])],
            check=True, capture_output=True, text=True).stdout
        columns = zip(*(map(float, line.split()) for line in found.splitlines()))
        works = ("received", "jansson", "pass", "sizes", "shown")
        return text.stat().st_size, dict(zip(works, columns))
    return bench.once("stream costs", make)


def cpu_row(row, values, most, detail):
    return [Result(row, spread(values, "{:.1f}") + " µs", "≤ %d µs" % most,
                   statistics.median(values) <= most, detail)]


def received(bench, row):
    size, found = stream_costs(bench)
    return cpu_row(row, found["received"], 10, (
        "%d bytes; its tree by jansson %.1f µs, a state machine's pass %.1f µs" % (
            size, *(statistics.median(found[work]) for work in ("jansson", "pass")))))


def sizes(bench, row):
    _, found = stream_costs(bench)
    return cpu_row(row, found["sizes"], 20, "%d tags; the bytes of the same files %.0f µs" % (
        bench.options.tags, statistics.median(found["shown"])))
