""".api: events, refresh, metrics (DESIGN.md 2)."""

import errno
import contextlib
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import threading

import pytest
from conftest import fails, opened, wait_for
from prometheus_client.parser import text_string_to_metric_families
from stopwatch import at_most

SECONDS = 5  # for something to come, on a busy machine
STREAMS = "/apis/image.openshift.io/v1/imagestreams"


class Reader:
    """A process that reads lines of a file of .api as they come: a shell's `cat`."""

    def __init__(self, path):
        self.process = subprocess.Popen(["cat", path], stdout=subprocess.PIPE)
        wait_for(lambda: path in self.opened(), SECONDS, "the open")

    def opened(self):
        found = set()
        for one in pathlib.Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError): # closed since
                found.add(os.readlink(one))
        return found

    def line(self):
        assert select.select([self.process.stdout], [], [], SECONDS)[0], "nothing came"
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def reader():
    made = []

    def start(path):
        made.append(Reader(str(path)))
        return made[-1]
    yield start
    for one in made:
        one.close()


def told(event):
    meta = event["object"]["metadata"]
    return event["type"], meta["namespace"], meta["name"]


# ---- the directories ----


def test_found_by_name_never_listed(mount):
    patches = {f"{status}{form}" for status in ("", "status-")
               for form in ("json-patch", "merge-patch", "strategic-merge-patch")}
    whole = {"events", "pushes", "failing", "export.yaml", "create", "apply", "apply-force"}
    files = {"": {"status.json", "metrics", "errors", "refresh", "version", "healthz", "readyz"} | whole,
             "shop": {"delete"} | whole,
             "shop/web": {"events", "pushes", "delete", "status-replace", "export.json", "export-exact.json",
                          "fresh.json", "fresh.yaml", "fresh.pb", "status.json", "secrets.json",
                          "layers.json"} | patches,
             "shop/web/tags/latest": {"import", "image.json"}}
    for where, names in files.items():
        top = mount / where
        assert ".api" not in os.listdir(top)
        directories = set() if "web" in where else {"select"}
        assert names | directories == set(os.listdir(top / ".api"))
        assert (top / ".api").stat().st_nlink == 2 + len(directories)
        assert os.path.samefile(top / ".api/..", top)
        for name in names:
            assert (top / ".api" / name).stat().st_size == 0
    inodes = [(mount / where / ".api/events").stat().st_ino for where in ("", "shop", "shop/web")]
    assert len(set(inodes)) == 3
    with pytest.raises(FileNotFoundError):
        os.stat(mount / "shop/web/tags/.api")
    found = subprocess.run(["find", mount.path, "-name", ".api"], capture_output=True, check=True)
    assert found.stdout == b""


def test_nothing_is_made_or_removed_there(mount):
    api = mount / "shop/web/.api"
    for call in (lambda: open(api / "new", "w"), lambda: os.mkdir(api / "new"),
                 lambda: os.unlink(api / "events"), lambda: os.rmdir(api),
                 lambda: os.rename(api / "events", mount / "shop/web/x"),
                 lambda: os.symlink("x", api / "new")):
        with pytest.raises(PermissionError):
            call()


def test_metadata_calls_change_nothing(server, mount, tmp_path):
    path = mount / "shop/web/.api/merge-patch"
    before = path.stat()
    os.chmod(path, 0o777)
    os.utime(path, (1, 1))
    os.chown(path, os.getuid(), os.getgid())
    os.truncate(path, 0)
    with fails(errno.EINVAL):
        os.truncate(path, 1)
    assert path.stat() == before
    (tmp_path / "patch").write_text('{"metadata": {"labels": {"copied": "yes"}}}')
    subprocess.run(["cp", "-p", tmp_path / "patch", path], check=True)
    assert server.get("shop", "web")["metadata"]["labels"]["copied"] == "yes"


def test_it_goes_with_its_stream(server, mount):
    api = mount / "shop/web/.api"
    before = api.stat().st_ino
    fd = os.open(api, os.O_PATH)
    server.delete("shop", "web")
    wait_for(lambda: not api.exists(), SECONDS, "the end")
    server.create("shop", "web")
    wait_for(api.exists, SECONDS, "the new one")
    assert api.stat().st_ino != before
    os.close(fd)


# ---- events ----


def test_each_change_is_a_line(server, mount, reader):
    everything, namespace = reader(mount / ".api/events"), reader(mount / "shop/.api/events")
    stream = reader(mount / "shop/web/.api/events")
    server.label("shop", "web", a="1")
    server.create("shop", "fresh")
    server.create("dev", "fresh")
    server.label("shop", "web", a="2")
    server.delete("shop", "fresh")
    server.delete("shop", "web")
    web = [("MODIFIED", "shop", "web"), ("MODIFIED", "shop", "web"), ("DELETED", "shop", "web")]
    assert [told(stream.line()) for _ in web] == web
    shop = [web[0], ("ADDED", "shop", "fresh"), web[1], ("DELETED", "shop", "fresh"), web[2]]
    assert [told(namespace.line()) for _ in shop] == shop
    whole = [*shop[:2], ("ADDED", "dev", "fresh"), *shop[2:]]
    assert [told(everything.line()) for _ in whole] == whole


def test_the_object_is_the_servers(server, mount, reader):
    one = reader(mount / "shop/web/.api/events")
    server.request("PATCH", server.streams("shop", "web"), {"metadata": {"annotations": {
        "a": "ü\n\\\""}}}, "application/merge-patch+json")
    expected = server.get("shop", "web")
    expected["metadata"].pop("managedFields", None)
    assert one.line() == {"type": "MODIFIED", "object": expected}


def test_own_saves_are_events_once(server, mount, reader):
    one = reader(mount / "shop/web/.api/events")
    path = mount / "shop/web/metadata.json"
    value = json.loads(path.read_text())
    value["labels"] = {"mine": "1"}
    path.write_text(json.dumps(value))
    assert one.line()["object"]["metadata"]["labels"] == {"mine": "1"}
    server.label("shop", "web", other="1")
    assert one.line()["object"]["metadata"]["labels"] == {"mine": "1", "other": "1"}


def test_differences_of_a_list_are_events(server, mount, reader):
    one = reader(mount / ".api/events")
    server.control("POST", "silence", {})
    server.label("shop", "web", later="1")
    server.delete("shop", "worker")
    (mount / ".api/refresh").write_text("now\n")
    assert {told(one.line()) for _ in range(2)} == {
        ("MODIFIED", "shop", "web"), ("DELETED", "shop", "worker")}


def test_read_in_pieces(server, mount):
    with opened(mount / "shop/web/.api/events") as fd:
        server.label("shop", "web", a="1")
        text = b""
        while not text.endswith(b"\n"):
            piece = os.read(fd, 100)
            assert 0 < len(piece) <= 100
            text += piece
        assert told(json.loads(text)) == ("MODIFIED", "shop", "web")


def test_nonblocking(server, mount):
    with opened(mount / "shop/web/.api/events", os.O_RDONLY | os.O_NONBLOCK) as fd:
        with fails(errno.EAGAIN):
            os.read(fd, 1000)
        server.label("shop", "web", a="1")
        assert select.select([fd], [], [], SECONDS)[0]
        text = os.read(fd, 1 << 20)
        assert told(json.loads(text)) == ("MODIFIED", "shop", "web")
        with fails(errno.EAGAIN):
            os.read(fd, 1000)


def test_poll_and_epoll_wake_up(server, mount):
    with opened(mount / "shop/web/.api/events") as fd, opened(mount / "shop/.api/events") as other:
        poller, epoll = select.poll(), select.epoll()
        poller.register(fd, select.POLLIN)
        epoll.register(other, select.EPOLLIN)
        assert poller.poll(0) == [] and epoll.poll(0) == []
        changer = threading.Timer(0.2, server.label, ("shop", "web"), {"a": "1"})
        changer.start()
        with at_most(SECONDS):
            assert poller.poll() == [(fd, select.POLLIN)]
            assert epoll.poll() == [(other, select.EPOLLIN)]
        changer.join()
        os.read(fd, 1 << 20)
        assert poller.poll(0) == []
        server.label("shop", "web", a="2")
        assert poller.poll(SECONDS * 1000) == [(fd, select.POLLIN)]
        epoll.close()


def test_poll_of_other_files_is_ready_at_once(mount):
    with opened(mount / "shop/web/spec.json") as fd:
        poller = select.poll()
        poller.register(fd, select.POLLIN | select.POLLOUT)
        assert poller.poll(1000) == [(fd, select.POLLIN | select.POLLOUT)]


def test_a_waiting_read_can_be_interrupted(mount, reader):
    one = reader(mount / "shop/web/.api/events")
    wait_for(lambda: pathlib.Path(f"/proc/{one.process.pid}/syscall").read_text().startswith("0 "),
             SECONDS, "the read")
    one.process.send_signal(signal.SIGINT)
    assert one.process.wait(60) == -signal.SIGINT


def test_a_slow_reader_is_cut(server, mount):
    with opened(mount / ".api/events") as fd, opened(mount / ".api/events") as fast:
        burst(server, fast)
        event = json.loads(drain(fd))
        assert event["type"] == "ERROR"
        assert event["object"]["kind"] == "Status" and event["object"]["code"] == 410
        assert os.read(fd, 1000) == b""  # and that is the end


def burst(server, fd):
    """More than a reader may leave in line; `fd` keeps up, and is told all of it."""
    server.create("shop", "big", tags=[{"name": "t", "annotations": {"a": "x" * 400_000}}])
    got = 0
    for number in range(60):
        server.label("shop", "big", n=str(number))
        while got < number + 2:
            piece = os.read(fd, 1 << 20)
            assert b'{"type":"ERROR"' not in piece
            got += piece.count(b"\n")


def drain(fd):
    text = b""
    while not text.endswith(b"\n"):
        text += os.read(fd, 1 << 20)
    return text


def test_the_end_ends_waiting_reads(server, start_mount, reader):
    mount = start_mount(server)
    one = reader(mount / ".api/events")
    mount.process.send_signal(signal.SIGTERM)
    assert one.process.wait(60) == 0
    assert one.process.stdout.read() == b""


def test_many_readers_and_no_leak(server, mount):
    for _ in range(200):
        with opened(mount / ".api/events") as fd:
            server.label("shop", "web", a="0")
    with opened(mount / ".api/events") as fd:
        server.label("shop", "web", a="1")
        assert told(json.loads(os.read(fd, 1 << 20))) == ("MODIFIED", "shop", "web")


# ---- refresh ----


def test_refresh_lists_again_and_waits_for_it(server, mount):
    server.reset()
    (mount / ".api/refresh").write_text("now\n")
    lists = [key for key in server.counts() if key.startswith("GET ")]
    assert "GET " + STREAMS in lists
    assert "GET /apis/project.openshift.io/v1/projects" in lists


def test_refresh_brings_what_the_watch_missed(server, mount):
    path = mount / "shop/web/metadata.json"
    before = path.read_text()
    server.control("POST", "silence", {})
    server.label("shop", "web", unseen="1")
    assert path.read_text() == before
    (mount / ".api/refresh").write_text("now\n")
    assert json.loads(path.read_text())["labels"]["unseen"] == "1"


def test_refresh_fails_where_the_server_is_away(server, start_mount):
    mount = start_mount(server, "--request-timeout", "2s")
    server.stop()
    with pytest.raises(OSError) as error:
        (mount / ".api/refresh").write_text("now\n")
    assert error.value.errno == errno.ECONNREFUSED
    assert mount.errors()[-1]["path"] == ".api/refresh"
    assert (mount / "shop/web/spec.json").exists()


def test_refresh_once_an_open(server, mount):
    with opened(mount / ".api/refresh", os.O_WRONLY) as fd:
        os.write(fd, b"now")
        os.fsync(fd)
        wait_for(lambda: server.control("GET", "state")["watches"] >= 2, SECONDS, "the watches")
        server.reset()
        os.fsync(fd)
        assert server.counts() == {}
        with fails(errno.EINVAL):
            os.write(fd, b"again")
    assert server.counts() == {}


def test_refresh_of_a_read_only_mount(server, start_mount):
    mount = start_mount(server, "--read-only")
    with fails(errno.EROFS):
        open(mount / ".api/refresh", "w")
    assert (mount / ".api/refresh").stat().st_mode & 0o777 == 0o400


# ---- metrics ----


def metrics(mount):
    """Name with labels → value, each line checked against the format."""
    values, types = {}, {}
    for line in (mount / ".api/metrics").read_text().splitlines():
        if line.startswith("# TYPE "):
            name, kind = line[7:].split()
            assert name not in types
            types[name] = kind
        elif not line.startswith("# HELP "):
            match = re.fullmatch(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\]|\\.)*",?)+)\})? (\S+)', line)
            assert match, line
            base = re.sub("_(bucket|sum|count)$", "", match[1])
            assert base in types or match[1] in types, line
            values[line.rpartition(" ")[0]] = float(match[3])
    return values


def test_metrics_count_what_happens(server, mount):
    name = "imagestreamfs_"
    before = metrics(mount)
    assert before[name + "imagestreams"] == len(server.request("GET", STREAMS)["items"])
    os.stat(mount / "shop/web/metadata.json")
    server.label("shop", "web", a="1")
    wait_for(lambda: metrics(mount)[name + "events_announced_total"]
             > before[name + "events_announced_total"], SECONDS, "an announcement")
    path = mount / "shop/web/spec.json"
    with pytest.raises(OSError):
        path.write_text("{")
    value = json.loads(path.read_text())
    value["lookupPolicy"] = {"local": True}
    with open(path, "w") as f:
        f.write(json.dumps(value))
        f.flush()
        assert metrics(mount)[name + "drafts"] == 1
    after = metrics(mount)
    assert after[name + "drafts"] == 0
    assert after[name + "events_received_total"] > before[name + "events_received_total"]
    assert after[name + "errors_total"] == before[name + "errors_total"] + 1
    assert after[name + "events_lost_total"] == 0
    assert after[name + 'requests_total{verb="PATCH",code="200"}'] == 1
    assert after[name + 'request_duration_seconds_count{verb="PATCH"}'] == 1
    assert after[name + 'request_duration_seconds_sum{verb="PATCH"}'] > 0
    assert after[name + 'requests_total{verb="WATCH",code="200"}'] >= 2
    ages = [key for key in after if key.startswith(name + "watch_age_seconds")]
    assert len(ages) == 2 and all('state="watching"' in key for key in ages)
    assert all(0 <= after[key] < 60 for key in ages)


def test_metrics_are_read_by_prometheus(mount):
    """Its own project's parser."""
    families = {one.name: one.type for one in text_string_to_metric_families(
        (mount / ".api/metrics").read_text())}
    assert families["imagestreamfs_requests"] == "counter"
    assert families["imagestreamfs_request_duration_seconds"] == "histogram"
