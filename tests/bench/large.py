"""Ten times as many streams: memory, and the start beside kubectl."""

import json
import time
import zlib

from measure import Result, ratio, run, side_by_side, status_kib, usage, wait_idle
from shared import LIST, kubectl_command

MB = 1 << 20


def listed(server):
    """(bytes of all streams as compact JSON, the same compressed one by one)"""
    whole = packed = 0
    query, more = "?limit=500", ""
    while True:
        page = server.request("GET", LIST + query + more)
        for stream in page["items"]:
            text = json.dumps(stream, separators=(",", ":"), ensure_ascii=False).encode()
            whole += len(text)
            packed += len(zlib.compress(text, 1))
        if "continue" not in page["metadata"]:
            return whole, packed
        more = "&continue=" + page["metadata"]["continue"]


def rss(bench, row):
    streams = bench.options.large
    server = bench.server(streams)
    whole, packed = bench.once(("listed", streams), lambda: listed(server))

    def result(name, kib, most, detail):
        most *= streams / 100000  # MB
        return Result(f"{row} at {streams} streams, {name}", "%.0f MB" % (kib / 1024),
                      "≤ %.0f MB" % most, kib / 1024 <= most, detail)
    with bench.mount(server.kubeconfig, streams) as mount:
        pid = mount.process.pid
        wait_idle(pid)
        before = status_kib(pid, "VmRSS")
        run(["find", "."], mount.path)
        wait_idle(pid)
        after = status_kib(pid, "VmRSS")
    return [result("after the list", before, 480, "compact JSON %.0f MB, each stream by zlib %.0f MB" % (
        whole / MB, packed / MB)), result("after a find", after, 650, "")]


def mounting(bench, row):
    """The start until every stream is there; the memory that either takes."""
    streams = bench.options.large
    server = bench.server(streams)
    command = kubectl_command(bench, server, "json")
    peaks, kubectls = [], []

    def ours():
        begin = time.perf_counter()
        with bench.mount(server.kubeconfig, streams) as mount:
            took = time.perf_counter() - begin
            peaks.append(status_kib(mount.process.pid, "VmHWM"))
            return took

    def reference():
        begin = time.perf_counter()
        kubectls.append(usage(command).ru_maxrss)
        return time.perf_counter() - begin
    pairs = side_by_side(min(bench.runs, 3), ours, reference)
    return [ratio(f"{row}, {streams} streams", 0.1, pairs, "at most %.0f / %.0f MB" % (
        max(peaks) / 1024, min(kubectls) / 1024))]
