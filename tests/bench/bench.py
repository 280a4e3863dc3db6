"""Measures the figures to reach and prints them as one table; README.md says how each is measured."""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import floors
import inotify
import large
from measure import (Result, Skip, check_reads, children, cpu_seconds, percentile, ratio, reads_of,
                     run, say, side_by_side, spread, status_kib, timed,
                     usage, wait_idle)
from manytags import OPTIONS, ManyTags
from relay import LocalFile, Relay
from shared import (COMPACT, LIST, Bench, Control, conftest, curl_command, curl_list,
                    kubectl_command, touch, walk_command)

STREAM_FILES = ("imagestream.json", "imagestream.yaml", "metadata.json", "spec.json", "status.json")
LABEL_FILES = ("imagestream.json", "imagestream.yaml", "metadata.json")  # what a label changes


# ---- warm and cold walks ----

def warm(bench, row, what, target, *arguments):
    mount, tree = bench.shared(*arguments), bench.tree()
    command = walk_command(bench, what)
    for _ in range(2):
        run(command, mount.path)
    run(command, tree)
    return ratio(row, target, side_by_side(
        bench.runs, lambda: run(command, mount.path), lambda: run(command, tree)))


def warm_row(what, target, *arguments):
    return lambda bench, row: [warm(bench, row, what, target, *arguments)]


def walk(bench, row, what, *arguments):
    """The third pass of a fresh mount: who is asked."""
    server = bench.server(bench.options.streams)
    command = walk_command(bench, what)
    with bench.mount(server.kubeconfig, bench.options.streams, *arguments) as mount:
        pid = mount.process.pid
        check_reads(pid, mount.path)
        passes = []
        for _ in range(3):
            server.reset()
            before = reads_of(pid)
            run(command, mount.path)
            passes.append((reads_of(pid) - before, sum(server.counts().values())))
    percents = [100 * reads / bench.nodes() for reads, _ in passes]
    detail = "passes: " + ", ".join("%.1f %%" % one for one in percents)
    return [Result(row + ": to the server", str(passes[2][1]), "0", passes[2][1] == 0),
            Result(row + ": to the program", "%.1f %% of nodes" % percents[2], "≤ 5 %",
                   percents[2] <= 5, detail)]


def cold_find(bench, row):
    server, tree = bench.server(bench.options.streams), bench.tree()
    run(["find", "."], tree)

    def ours():
        with bench.mount(server.kubeconfig, bench.options.streams) as mount:
            return run(["find", "."], mount.path)
    return [ratio(row, 8, side_by_side(bench.runs, ours, lambda: run(["find", "."], tree)))]


# ---- the start ----

def mounting(bench, row):
    server = bench.server(bench.options.streams)

    def ours():
        begin = time.perf_counter()
        with bench.mount(server.kubeconfig, bench.options.streams):
            return time.perf_counter() - begin
    ours()
    return [ratio(row, 1.75, side_by_side(bench.runs, ours, lambda: curl_list(server))),
            ratio(row + ", indented", 1.5, side_by_side(
                bench.runs, ours, lambda: curl_list(server, "")), "indented is curl's default")]


def list_cpu(bench, row):
    """CPU time of the start until the whole list is there, against curl's."""
    server = bench.server(bench.options.streams)

    def ours():
        with bench.mount(server.kubeconfig, bench.options.streams) as mount:
            wait_idle(mount.process.pid)
            return cpu_seconds(mount.process.pid)

    def reference():
        used = usage(curl_command(server))
        return used.ru_utime + used.ru_stime
    ours()
    return [ratio(row, 3, side_by_side(bench.runs, ours, reference))]


def kubectl(bench, row):
    server = bench.server(bench.options.small)
    command = kubectl_command(bench, server, "json")

    def ours():
        begin = time.perf_counter()
        with bench.mount(server.kubeconfig, bench.options.small) as mount:
            run(["sh", "-c", "cat */*/imagestream.json"], mount.path)
            return time.perf_counter() - begin
    ours()
    run(command)  # fills its cache of what the API has
    return [ratio(row, 1, side_by_side(bench.runs, ours, lambda: run(command)))]


def export(bench, row):
    """Everything as clean YAML, from the mount, against kubectl; and the memory that each takes."""
    server = bench.server(bench.options.streams)
    command = kubectl_command(bench, server, "yaml")
    run(command)  # fills its cache of what the API has
    with bench.mount(server.kubeconfig, bench.options.streams) as mount:
        pid, read = mount.process.pid, ["cat", ".api/export.yaml"]
        wait_idle(pid)
        before = status_kib(pid, "VmRSS")
        run(read, mount.path)
        grown = status_kib(pid, "VmHWM") - before
        pairs = side_by_side(min(bench.runs, 3), lambda: run(read, mount.path),
                             lambda: run(command))
    kubectls = usage(command).ru_maxrss
    return [ratio(row, 1, pairs), Result(
        row + ": memory", f"{grown / kubectls:.3f}", "≤ 0.1", grown <= 0.1 * kubectls,
        "the program grows by %.1f MB at most; kubectl takes %.1f MB" % (
            grown / 1024, kubectls / 1024))]


# ---- events ----

def latency(bench, row):
    server = bench.server(bench.options.small)
    relay, local = Relay(server, bench.directory), LocalFile(bench.directory)
    namespace, name = bench.names(server, 1)[0]
    control, watch, found, last, locals_ = Control(server), inotify.Inotify(), [], [], []
    try:
        with bench.mount(relay.kubeconfig, bench.options.small) as mount:
            stream = mount / namespace / name
            for file in STREAM_FILES:
                (stream / file).read_bytes()
            watch.add(stream, inotify.MODIFY | inotify.CLOSE_WRITE)
            for _ in range(bench.options.changes):
                relay.ask("reset")
                begin = time.monotonic_ns()
                control.send(touch([(namespace, name)]))
                reads = [watch.read(2)]
                control.answer()
                if reads[0] is None:
                    raise Skip("no inotify event within 2 s")
                reads += watch.read_until_quiet(0.01, 0.005)
                locals_.append(local.change() / 1000)
                sent = [at for at, _ in relay.ask("sent")["sent"] if begin < at < reads[0][0]]
                if not sent:
                    continue  # the relay was held up before it looked at its clock
                found.append((reads[0][0] - sent[-1]) / 1000)
                last.append((reads[-1][0] - sent[-1]) / 1000)
    finally:
        relay.stop()
        local.stop()
        watch.close()
    p50, p99 = percentile(found, 50), percentile(found, 99)
    detail = "until the last of the events p50 %.0f µs; a local file, told to its writer over TCP: " \
        "p50 %.0f, p99 %.0f µs" % tuple(percentile(*one) for one in (
            (last, 50), (locals_, 50), (locals_, 99)))
    return [Result(row + ", p50", f"{p50:.0f} µs", "≤ 300 µs", p50 <= 300, detail),
            Result(row + ", p99", f"{p99:.0f} µs", "≤ 2000 µs", p99 <= 2000,
                   f"{len(found)} changes")]


def check_last_state(server, mount, names):
    """Whether the mount shows the label that the server has, stream by stream."""
    def label(o):
        return (o["metadata"].get("labels") or {}).get("touched")
    current = {(o["metadata"]["namespace"], o["metadata"]["name"]): label(o)
               for o in server.request("GET", LIST)["items"]}
    wrong = 0
    for namespace, name in names:
        shown = json.loads((mount / namespace / name / "metadata.json").read_text())
        wrong += shown.get("labels", {}).get("touched") != current[namespace, name]
    return wrong


def touched_files(reads, directories):
    """({(stream, file)} modified, events, whether the kernel's queue ran over)"""
    seen, count, overflow = set(), 0, False
    for _, data in reads:
        for wd, mask, file in inotify.parse(data):
            overflow |= bool(mask & inotify.OVERFLOW)
            if mask & inotify.MODIFY and wd in directories:
                seen.add((directories[wd], file))
                count += 1
    return seen, count, overflow


def watch_streams(mount, names):
    """An inotify watch on each stream's directory, its files known to the kernel."""
    watch, directories = inotify.Inotify(), {}
    for namespace, name in names:
        path = mount / namespace / name
        for file in STREAM_FILES:
            (path / file).stat()
        directories[watch.add(path, inotify.MODIFY)] = (namespace, name)
    return watch, directories


def burst(bench, row):
    server = bench.server(bench.options.streams)
    relay, names = Relay(server, bench.directory), bench.names(server)
    control, results = Control(server), []
    try:
        with bench.mount(relay.kubeconfig, bench.options.streams) as mount:
            watch, directories = watch_streams(mount, names)
            rates, whole, lost, wrong = [], [], 0, 0
            for _ in range(bench.runs):
                relay.ask("hold")
                control.bulk(touch(names))
                received = -1
                while (now := relay.ask("state")["received"]) != received:
                    received = now
                    time.sleep(1)
                begin = relay.ask("release")["now"]
                reads = watch.read_until_quiet(5, 2)
                seen, count, overflow = touched_files(reads, directories)
                if not count:
                    raise Skip("no inotify event within 5 s")
                lost += len(names) * len(LABEL_FILES) - len(seen) + overflow
                rates.append(count / max(1e-9, (reads[-1][0] - reads[0][0]) / 1e9))
                whole.append(len(names) / ((reads[-1][0] - begin) / 1e9))
                wait_idle(mount.process.pid)
                wrong += check_last_state(server, mount, names)
                say(f"    {count} events, {rates[-1]:.0f} a second; {whole[-1]:.0f} objects a second")
            detail = "objects a second from the first byte to the last event, parsing included: " \
                + spread(whole, "{:.0f}")
            results = [
                Result(row + ": files announced a second", spread(rates, "{:.0f}"), "≥ 17000",
                       statistics.median(rates) >= 17000, detail),
                Result(row + ": lost; wrong last state", f"{lost}; {wrong}", "0; 0",
                       lost == 0 and wrong == 0)]
            # And the same number of changes of one stream, which may be drawn together.
            control.bulk({"modify": {"namespace": names[0][0], "match": f"^{names[0][1]}$",
                                     "times": len(names)}})
            count = touched_files(watch.read_until_quiet(5, 2), directories)[1]
            wait_idle(mount.process.pid)
            wrong = check_last_state(server, mount, names[:1])
            results.append(Result(row + " of one stream: wrong last state", str(wrong), "0",
                                  wrong == 0, f"{len(names)} changes raised {count} MODIFY"))
            watch.close()
    finally:
        relay.stop()
    return results


def flat(row, sizes, found, detail):
    """Rows that say whether what was found at each size is what it is at the first one."""
    results = []
    for size in sizes:
        # In the order of the rounds; the first one warms up.
        ratios = [value / first for value, first in zip(found[size][1:], found[sizes[0]][1:])]
        compared = size != sizes[0]
        results.append(Result(
            f"{row} at {size} streams", spread(ratios), "1 ± 0.2" if compared else "–",
            0.8 <= statistics.median(ratios) <= 1.2 if compared else None, detail(size)))
    return results


def cost(bench, row):
    sizes = bench.options.sizes
    found, announced, events = {size: [] for size in sizes}, {}, sizes[0]
    with contextlib.ExitStack() as stack:
        mounts = []
        for size in sizes:
            server = bench.server(size)
            mount = stack.enter_context(bench.mount(server.kubeconfig, size))
            watch, directories = watch_streams(mount, names := bench.names(server, events))
            stack.callback(watch.close)
            mounts.append((size, Control(server), mount, watch, directories, touch(names)))
        for _ in range(bench.runs + 1):
            for size, control, mount, watch, directories, body in mounts:
                pid = mount.process.pid
                wait_idle(pid)
                before = cpu_seconds(pid)
                control.bulk(body)
                reads = watch.read_until_quiet(0.5, 0.5)
                wait_idle(pid)
                found[size].append((cpu_seconds(pid) - before) * 1e6 / events)
                announced[size] = touched_files(reads, directories)[1]
    return flat(row, sizes, found, lambda size: (
        "%.0f µs of CPU time an event; %d MODIFY raised by %d events" % (
            statistics.median(found[size][1:]), announced[size], events)))


# ---- saves and memory ----

def saver(mount, namespace, name, serial):
    """A function that saves the spec of one tag, each time another one."""
    path = mount / namespace / name / "tags/1.0/spec.json"
    text = json.loads(path.read_text())

    def save_one():
        text["annotations"]["version"] = f"mount-{next(serial)}"
        data = json.dumps(text, indent=2).encode() + b"\n"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.write(fd, data)
        os.close(fd)
    return save_one


def save(bench, row):
    server = bench.server(bench.options.small)
    # A stream each: what curl saves would else be a conflict for the mount.
    (namespace, name), (curl_namespace, curl_name) = bench.names(server, 2)
    count, serial = bench.options.saves, iter(range(1, 1 << 30))

    def curl_batch():
        """One curl, one connection, the program's request: the mean but for the first, which connects."""
        config = []
        for number in range(count + 1):
            body = {"spec": {"tags": [{"name": "1.0", "annotations": {
                "version": f"curl-{next(serial)}"}}]}}
            config.append("\n".join([
                f'url = "{server.url}{server.streams(curl_namespace, curl_name)}{COMPACT}&fieldValidation=Strict"',
                "request = PATCH", "silent", "show-error", f'cacert = "{server.ca}"', f"output = {os.devnull}",
                f'header = "Authorization: Bearer {server.token}"',
                'header = "Content-Type: application/strategic-merge-patch+json"',
                "data = " + json.dumps(json.dumps(body)),
                r'write-out = "%{http_code} %{num_connects} %{time_total}\n"']))
        text = subprocess.run(["curl", "-K", "-"], input="\nnext\n".join(config), check=True,
                              capture_output=True, text=True).stdout
        answers = [line.split() for line in text.splitlines()][1:]
        if any(answer[:2] != ["200", "0"] for answer in answers):
            raise Skip(f"curl's requests: {answers[0]}")
        return sum(float(answer[2]) for answer in answers) / count

    with bench.mount(server.kubeconfig, bench.options.small) as mount:
        save_one = saver(mount, namespace, name, serial)

        def save_batch():
            return timed(lambda: [save_one() for _ in range(count)]) / count
        save_batch()
        curl_batch()
        server.reset()
        save_batch()
        asked = server.counts()
        pairs = side_by_side(bench.runs, save_batch, curl_batch)
    verbs = ", ".join(f"{verb} {number / count:g}" for verb, number in sorted(
        (key.split()[0], number) for key, number in asked.items()))
    return [ratio(row, 1.5, pairs, f"requests a save: {verbs}")]


def save_cost(bench, row):
    """CPU time of the program for a save, by how many streams there are."""
    sizes, count, serial = bench.options.sizes, 4 * bench.options.saves, iter(range(1, 1 << 30))
    cpu, wall = {size: [] for size in sizes}, {size: [] for size in sizes}
    with contextlib.ExitStack() as stack:
        mounts = []
        for size in sizes:
            server = bench.server(size)
            mount = stack.enter_context(bench.mount(server.kubeconfig, size))
            mounts.append((size, mount.process.pid, saver(mount, *bench.names(server, 1)[0], serial)))
        for _ in range(bench.runs + 1):
            for size, pid, save_one in mounts:
                wait_idle(pid)
                before = cpu_seconds(pid)
                wall[size] += [timed(save_one) * 1e6 for _ in range(count)]
                wait_idle(pid)
                cpu[size].append((cpu_seconds(pid) - before) * 1e6 / count)
    return flat(row, sizes, cpu, lambda size: (
        "%.0f µs of CPU time a save; by the clock p50 %.0f µs" % (
            statistics.median(cpu[size][1:]), statistics.median(wall[size]))))


def memory(bench, row):
    server = bench.server(bench.options.streams)
    json_bytes = sum(len(json.dumps(o, separators=(",", ":"), ensure_ascii=False).encode())
                     for o in bench.objects(server))
    with bench.mount(server.kubeconfig, bench.options.streams) as mount:
        wait_idle(mount.process.pid)
        kib = status_kib(mount.process.pid, "VmRSS")
        helpers = sum(status_kib(child, "VmRSS") for child in children(mount.process.pid))
    left = (kib - 1.3 * json_bytes / 1024) / bench.options.streams
    detail = "RSS %.1f MB = %.2f × JSON (%.1f MB)" % (
        kib / 1024, kib * 1024 / json_bytes, json_bytes / 2 ** 20)
    if helpers:
        detail += "; helpers %.1f MB" % (helpers / 1024)
    return [Result(row, f"{left:.2f} KiB a stream", "≤ 1.5 KiB", left <= 1.5, detail)]


def many_tags(bench, row):
    """CPU time at 10,000 tags against 1,000: ten times as much is linear."""
    sizes, found = (1000, 10000), {}
    for _ in range(min(bench.runs, 3)):
        for size in sizes:
            place = pathlib.Path(tempfile.mkdtemp(dir=bench.directory))
            server = conftest.Server(place, "--stream-tags", size)
            try:
                with bench.mount(server.kubeconfig, 1, *OPTIONS) as mount:
                    for step, figures in ManyTags(server, mount).steps().items():
                        found.setdefault(step, {}).setdefault(size, []).append(figures)
            finally:
                server.stop()
    results = []
    for step, figures in found.items():
        small, large = ([cpu for _, cpu, _ in figures[size]] for size in sizes)
        ratios = [b / a for a, b in zip(small, large)]
        detail = "CPU %.1f / %.1f ms; wall %.1f / %.1f ms" % tuple(
            1e3 * statistics.median(one[kind] for one in figures[size])
            for kind in (1, 0) for size in reversed(sizes))
        results.append(Result(f"{row}: {step}", spread(ratios), "≤ 13",
                              statistics.median(ratios) <= 13, detail))
    return results


ROWS = {
    "find": ("warm find", warm_row("find", 1.15)),
    "ls": ("warm ls -lR", warm_row("ls", 1.1)),
    "cat": ("warm cat of every spec.json", warm_row("cat", 2.5)),
    "grep": ("warm grep -r", warm_row("grep", 6)),
    "cat-noopen": ("warm cat of every spec.json, noopen", warm_row("cat", 1.2, "-o", "noopen")),
    "grep-noopen": ("warm grep -r, noopen", warm_row("grep", 1.3, "-o", "noopen")),
    "walk": ("third find", lambda bench, row: walk(bench, row, "find")),
    "walk-ls": ("third ls -lR", lambda bench, row: walk(bench, row, "ls")),
    "walk-noopen": ("third grep -r, noopen",
                    lambda bench, row: walk(bench, row, "grep", "-o", "noopen")),
    "cold": ("cold find / warm find of tmpfs", cold_find),
    "cold-find": ("cold find / memfs", floors.first("find", 1.25)),
    "cold-ls": ("cold ls -lR / memfs", floors.first("ls", 1.25)),
    "cold-grep": ("first grep -r / memfs", floors.first("grep", 1.5)),
    "cold-cat": ("first cat of every spec.json after a find / memfs",
                 floors.first("cat", 1.35, "find")),
    "received": ("object received, CPU", floors.received),
    "sizes": ("all sizes of a stream, CPU", floors.sizes),
    "mount": ("mount / curl --compressed of the list", mounting),
    "list-cpu": ("list + mount, CPU / curl's CPU of the list", list_cpu),
    "kubectl": ("mount + cat of every imagestream.json / kubectl get is", kubectl),
    "export": ("cat .api/export.yaml / kubectl get is -A -o yaml", export),
    "latency": ("event line → inotify", latency),
    "burst": ("burst", burst),
    "save": ("save of a tag / curl PATCH", save),
    "save-cost": ("save cost", save_cost),
    "memory": ("RSS − 1.3 × JSON", memory),
    "cost": ("event cost", cost),
    "rss": ("RSS", large.rss),
    "large": ("mount / kubectl get is -A -o json", large.mounting),
    "tags": ("10,000 tags / 1,000 tags", many_tags),
}


def table(results):
    rows = [("row", "ratio or figure: median (min–max)", "target", "reached", "ours / reference"),
            *((r.row, r.value, r.target, {True: "yes", False: "no", None: "–"}[r.reached], r.detail)
              for r in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    rows.insert(1, tuple("-" * width for width in widths) + ("---",))
    for row in rows:
        print("| " + " | ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]])
              + " |")


def options():
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Prints one table of figures.",
                                     epilog="rows: " + " ".join(ROWS))
    parser.add_argument("rows", nargs="*", metavar="row", help="these rows only")
    parser.add_argument("--quick", action="store_true", help="a fifth of the streams, 3 runs")
    parser.add_argument("--streams", type=int, help="10000, quick 2000; a tenth and five times as "
                        "many for the rows that want fewer and more")
    parser.add_argument("--tags", type=int, default=5)
    parser.add_argument("--namespaces", type=int, default=10)
    parser.add_argument("--runs", type=int, help="of each pair (5, quick 3)")
    given = parser.parse_args()
    given.streams = given.streams or (2000 if given.quick else 10000)
    given.runs = given.runs or (3 if given.quick else 5)
    given.small = max(given.streams // 10, 2)
    given.large = given.streams * 10
    given.sizes = (given.small, given.streams, given.large)
    given.changes = 200 if given.quick else 1000
    given.saves = 50
    unknown = set(given.rows) - set(ROWS)
    if unknown:
        parser.error("no such row: " + ", ".join(sorted(unknown)))
    return given


def main():
    given = options()
    results = []
    with contextlib.ExitStack() as stack:
        # Not below /tmp: that may itself be a tmpfs, or watched.
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(
            prefix="imagestreamfs-bench-", dir="/var/tmp", ignore_cleanup_errors=True)))
        os.environ["XDG_STATE_HOME"] = str(directory / "state")
        bench = Bench(given, stack, directory)
        for key in given.rows or ROWS:
            row, measure = ROWS[key]
            say(f"{row} …")
            try:
                results += measure(bench, row)
            except Skip as why:
                results.append(Result(row, "not measured", "", None, str(why)))
            except (OSError, AssertionError, subprocess.SubprocessError, LookupError,
                    ValueError, http.client.HTTPException) as why:
                results.append(Result(row, "failed", "", False, f"{type(why).__name__}: {why}"))
        print("%d streams × %d tags, %d runs of each pair; load %s on %d CPUs; Linux %s" % (
            given.streams, given.tags, given.runs, "%.1f" % os.getloadavg()[0], os.cpu_count(),
            os.uname().release))
        table(results)


if __name__ == "__main__":
    main()
