"""The first walks of a mount beside the floor of a FUSE server: the same tree out of memory (memfs.c)."""

import contextlib
import statistics
import subprocess
import tempfile

from measure import cpu_seconds, ratio, run, side_by_side, wait_idle
from shared import conftest, walk_command


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
