""".api/pushes: a line for each new image of a tag, each once, whatever the watch goes through."""

import errno
import itertools
import json
import os
import select
import threading
import time
import urllib.error

import pytest
from conftest import fails, opened, wait_for
from test_restarts import (ADMINS, BACK_OFF, DEVELOPERS, RESTARTS, refresh, restart, start_watched,
                           widest)

SECONDS = 20  # for something to come, on a busy machine
serial = itertools.count(1)


def escaped(name):
    """As a directory of that tag is called."""
    out = "".join(f"%{ord(c):02X}" if c in "/%" or ord(c) < 0x20 or ord(c) == 0x7f else c
                  for c in name) or "%00"
    return "%2E" + out[1:] if out[0] == "." else out


def lines_of(stream):
    """What would be told of all of a stream's histories: tag -> lines, the oldest first."""
    meta, found = stream["metadata"], {}
    for tag in stream["status"].get("tags") or ():
        items = [*reversed(tag["items"] or ())]
        before = ["-", *(one["dockerImageReference"] or "-" for one in items)]
        place = f"{meta['namespace']}/{meta['name']}:{escaped(tag['tag'])}"
        found[tag["tag"]] = [(one["created"], place, one["dockerImageReference"], old)
                             for one, old in zip(items, before)]
    return found


def everything(server):
    items = server.request("GET", "/apis/image.openshift.io/v1/imagestreams")["items"]
    return {line for one in items for lines in lines_of(one).values() for line in lines}


class Reader(threading.Thread):
    """Reads the file as it comes, from before anything else happens."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.text, self.over, self.broken, self.end = b"", False, False, threading.Event()
        self.start()

    def run(self):
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        while not self.end.is_set() and not self.over:
            if not poller.poll(100):
                continue
            try:
                piece = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                continue
            except OSError:  # the program ended before all was told
                piece, self.broken = b"", True
            self.text += piece
            if not piece:
                os.close(self.fd)  # at once: the program may be about to end
                self.over = True

    def lines(self):
        return [tuple(line.split("\t")) for line in self.text.decode().split("\n")[:-1]]

    def wait(self, count, seconds=SECONDS):
        wait_for(lambda: len(self.lines()) >= count, seconds, f"{count} lines: {self.lines()}")
        return self.lines()

    def close(self):
        self.end.set()
        self.join()
        if not self.over:
            os.close(self.fd)


@pytest.fixture
def reader():
    made = []

    def start(path):
        made.append(Reader(path))
        return made[-1]
    yield start
    for one in made:
        one.close()


def created(seconds=0):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def item(name="", when=None):
    digest = f"sha256:{next(serial):064x}"
    return {"created": when or created(), "image": digest, "generation": 1,
            "dockerImageReference": f"quay.io/example/{name or 'pushed'}@{digest}"}


def push(server, namespace, stream, *tags, when=None):
    """As a push does: one more item on top of each tag's history, all in one write."""
    obj = server.get(namespace, stream)
    known = {one["tag"]: one for one in obj["status"].get("tags") or ()}
    for tag in tags:
        old = known.setdefault(tag, {"tag": tag, "items": []})
        old["items"] = [item(when=when), *(old["items"] or ())]
    obj["status"]["tags"] = list(known.values())
    store(server, obj)


def store(server, obj):
    meta = obj["metadata"]
    server.control("POST", "bulk", [{"op": "replace", "namespace": meta["namespace"],
                                     "name": meta["name"], "object": obj}])


def check(server, before, lines):
    """Each that is there now and wasn't before, once; those of one tag in order."""
    assert len(set(lines)) == len(lines), "told twice"
    now = everything(server)
    assert set(lines) == now - before
    position = {line: number for number, line in enumerate(lines)}
    items = server.request("GET", "/apis/image.openshift.io/v1/imagestreams")["items"]
    for one in items:
        for told in lines_of(one).values():
            numbers = [position[line] for line in told if line in position]
            assert numbers == sorted(numbers), told


def test_a_line_for_each_new_image(server, mount, reader):
    files = {name: reader(mount / name / ".api/pushes") for name in ("", "shop", "shop/api", "dev")}
    before = everything(server)
    push(server, "shop", "api", "v1")
    push(server, "shop", "web", "new")
    push(server, "shop", "api", "v1", "v2")
    lines = files[""].wait(4)
    check(server, before, lines)
    assert files["shop"].wait(4) == lines
    assert files["shop/api"].wait(3) == [line for line in lines if "/api:" in line[1]]
    assert lines[1][3] == "-" and lines[0][3] != "-"
    server.label("dev", "scratch", x="y")
    server.label("shop", "api", x="y")
    push(server, "dev", "scratch", "t")
    assert len(files["dev"].wait(1)) == 1 and len(files[""].wait(5)) == 5


def test_nothing_of_what_was_there(server, mount, reader):
    one = reader(mount / ".api/pushes")
    refresh(mount)
    server.control("POST", "bulk", [{"op": "touch", "match": "", "change": "label"}])
    server.control("POST", "drop", {"path": "imagestreams"})
    refresh(mount)
    push(server, "shop", "api", "v1")
    assert len(one.wait(1)) == 1


def test_many_at_once_are_in_order(server, mount, reader):
    """Between two versions that are seen there may be many images, all of one second."""
    one = reader(mount / ".api/pushes")
    before = everything(server)
    server.control("POST", "silence", {})
    for _ in range(20):
        push(server, "shop", "api", "v1", "v2")
        push(server, "shop", "web", "x")
    server.control("POST", "silence", {"on": False})
    server.control("POST", "drop", {"path": "imagestreams"})
    refresh(mount)
    check(server, before, one.wait(60))


def test_followers_and_old_times(server, mount, reader):
    """What follows another tag has that one's times: what comes later may be of an earlier time."""
    server.create("dev", "f", tags=[
        {"name": "follows", "from": {"kind": "ImageStreamTag", "name": "f:src"}},
        {"name": "prod", "from": {"kind": "ImageStreamTag", "name": "f:src"}}])
    wait_for((mount / "dev/f").exists, SECONDS, "the stream")
    one = reader(mount / "dev/f/.api/pushes")
    before = everything(server)
    obj = server.get("dev", "f")
    first, second = item(when="2026-02-02T00:00:00Z"), item(when="2026-01-01T00:00:00Z")
    obj["status"]["tags"] = [{"tag": "src", "items": [first]}, {"tag": "follows", "items": [first]},
                             {"tag": "prod", "items": [second, first]}]
    store(server, obj)
    lines = one.wait(4)
    check(server, before, lines)
    assert [line[2] for line in lines if line[1] == "dev/f:prod"] == [
        first["dockerImageReference"], second["dockerImageReference"]]
    # The same item in another tag is that tag's first.
    obj = server.get("dev", "f")
    obj["status"]["tags"].append({"tag": "late", "items": [first]})
    store(server, obj)
    assert one.wait(5)[4][1:] == ("dev/f:late", first["dockerImageReference"], "-")


def test_followers_of_the_server(server, mount, reader):
    """A PUT of the imagestreamtag, as `from` makes it, moves what follows as well."""
    one = reader(mount / "shop/.api/pushes")
    before = everything(server)
    tags = mount / "shop/web/tags"
    (tags / "2.0/from").write_text("ImageStreamTag shop/api:v1\n")
    image = (mount / "shop/api/tags/v1/image").read_text().partition("@")[2]
    wait_for(lambda: (tags / "2.0/image").read_text().endswith(image), SECONDS, "the image")
    lines = one.wait(2)
    assert {line[1] for line in lines} >= {"shop/web:2.0", "shop/web:latest"}
    check(server, before, lines)


def test_odd_names_and_references(server, mount, reader):
    one = reader(mount / "dev/.api/pushes")
    names = ["a\tb", "a\nb", "a/b", "%", ".x", "", "é", "\x7f", "a b", "a:b@c"]
    push(server, "dev", "scratch", *names)
    lines = one.wait(len(names))
    assert [len(line) for line in lines] == [4] * len(names)
    assert {line[1] for line in lines} == {f"dev/scratch:{escaped(name)}" for name in names}
    obj = server.get("dev", "scratch")
    obj["status"]["tags"] = [{"tag": "t", "items": [
        {**item(), "dockerImageReference": "a\tb\nc\x01", "image": ""}]}]
    store(server, obj)
    assert one.wait(len(names) + 1)[-1][2:] == ("a b c ", "-")


def test_odd_histories(server, mount, reader):
    """No items, items without a time or reference: nothing breaks, the line has `-`."""
    one = reader(mount / "dev/.api/pushes")
    obj = server.get("dev", "scratch")
    obj["status"]["tags"] = [
        {"tag": "none", "items": None}, {"tag": "empty", "items": []},
        {"tag": "bare", "items": [{"created": None, "dockerImageReference": "", "image": "",
                                   "generation": 1}]}]
    store(server, obj)
    push(server, "dev", "scratch", "none")
    lines = one.wait(2)
    assert lines[0][1:] == ("dev/scratch:bare", "-", "-")
    assert lines[1][1] == "dev/scratch:none"


# ---- streams that come and go ----


def test_a_stream_made_anew(server, mount, reader):
    """All that it has then is new, also what is older than the stream; nothing is told twice."""
    one = reader(mount / ".api/pushes")
    server.create("dev", "made", tags=[{"name": "src"}])
    push(server, "dev", "made", "t")
    push(server, "dev", "made", "old", when="2026-01-01T00:00:00Z")
    first = one.wait(2)
    server.delete("dev", "made")
    wait_for(lambda: not (mount / "dev/made").exists(), SECONDS, "the deletion")
    time.sleep(1.1)  # another second: times are whole ones
    server.create("dev", "made", tags=[{"name": "new", "from": {
        "kind": "ImageStreamTag", "namespace": "shop", "name": "api:v1"}}])
    push(server, "dev", "made", "t")
    lines = one.wait(4)
    assert lines[:2] == first and len(set(lines)) == 4
    assert {line[1] for line in lines[2:]} == {"dev/made:new", "dev/made:t"}
    digest = (mount / "shop/api/tags/v1/image").read_text().strip().partition("@")[2]
    assert next(line for line in lines if line[1] == "dev/made:new")[2].endswith(digest)


def test_a_tag_made_anew(server, mount, reader):
    one = reader(mount / ".api/pushes")
    push(server, "dev", "scratch", "t")
    obj = server.get("dev", "scratch")
    store(server, {**obj, "status": {**obj["status"], "tags": []}})
    wait_for(lambda: not (mount / "dev/scratch/tags/t").exists(), SECONDS, "the deletion")
    push(server, "dev", "scratch", "t")
    lines = one.wait(2)
    assert lines[0][2] != lines[1][2] and lines[1][3] == "-"


def test_a_list_that_starts_later(server, start_mount, reader):
    """What a namespace had before the open isn't new when its list comes; what came since is."""
    mount = start_mount(server, "--context", "developer")
    one = reader(mount / ".api/pushes")
    time.sleep(1.1)  # another second: times are whole ones
    two = reader(mount / ".api/pushes")
    time.sleep(1.1)
    push(server, "prod", "web", "between", when=created())
    assert (mount / "prod/web").exists()
    assert [line[1] for line in one.wait(1)] == ["prod/web:between"]
    assert [line[1] for line in two.wait(1)] == ["prod/web:between"]


def test_each_reader_has_its_own_beginning(server, start_mount, reader):
    mount = start_mount(server, "--context", "developer")
    one = reader(mount / ".api/pushes")
    time.sleep(1.1)
    push(server, "prod", "web", "early", when=created())
    time.sleep(2.1)
    two = reader(mount / ".api/pushes")
    assert (mount / "prod/web").exists()
    assert [line[1] for line in one.wait(1)] == ["prod/web:early"]
    push(server, "prod", "web", "late")
    assert [line[1] for line in two.wait(1)] == ["prod/web:late"]
    assert [line[1] for line in one.wait(2)] == ["prod/web:early", "prod/web:late"]


def test_lost_and_regained_rights(server, start_mount, reader):
    """600 streams go and come back: what was told isn't told again, what came meanwhile is."""
    make_many(server, 600)
    mount = start_watched(server, start_mount, "developer", DEVELOPERS, "-oconfirm-interval=1",
                          "-orights-interval=1")
    one = reader(mount / ".api/pushes")
    before = everything(server)
    touch_many(server)
    one.wait(600)
    server.control("POST", "revoke", {"user": "developer", "role": "edit", "namespace": "dev"})
    wait_for(lambda: not os.access(mount / "dev/s000", os.R_OK), 4 * BACK_OFF, "the loss")
    push(server, "dev", "s001", "meanwhile")
    server.control("POST", "grant", {"user": "developer", "role": "edit", "namespace": "dev"})
    wait_for(lambda: os.access(mount / "dev/s000", os.R_OK), 4 * BACK_OFF, "the return")
    lines = one.wait(601)
    push(server, "dev", "s002", "after")
    check(server, before, one.wait(602))
    assert lines[600][1] == "dev/s001:meanwhile"


# ---- how it is read ----


def test_nonblocking_poll_and_epoll(server, mount):
    path = mount / "dev/.api/pushes"
    with opened(path, os.O_RDONLY | os.O_NONBLOCK) as fd, opened(path) as other:
        with fails(errno.EAGAIN):
            os.read(fd, 1000)
        poller, epoll = select.poll(), select.epoll()
        poller.register(fd, select.POLLIN)
        epoll.register(other, select.EPOLLIN)
        assert poller.poll(0) == [] and epoll.poll(0) == []
        server.label("dev", "scratch", no="image")
        push(server, "dev", "scratch", "t")
        assert poller.poll(SECONDS * 1000) == [(fd, select.POLLIN)]
        assert epoll.poll(SECONDS) == [(other, select.EPOLLIN)]
        line = os.read(fd, 1000)
        assert line.count(b"\n") == 1 and line.endswith(b"\n")
        assert os.read(other, 5) + os.read(other, 1000) == line
        assert poller.poll(0) == []
        epoll.close()


def make_many(server, count):
    server.control("POST", "bulk", [
        {"op": "create", "namespace": "dev", "name": f"s{number:03}", "object": {
            "kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
            "metadata": {"name": f"s{number:03}"},
            "spec": {}, "status": {"dockerImageRepository": "", "tags": []}}}
        for number in range(count)])


def touch_many(server, times=1):
    server.control("POST", "bulk", {"modify": {"match": "^s[0-9]", "namespace": "dev",
                                               "times": times, "change": "image"}})


def test_a_slow_reader_is_told_so(server, mount, reader):
    make_many(server, 600)
    wait_for((mount / "dev/s599").exists, SECONDS, "the streams")
    with opened(mount / ".api/pushes", os.O_RDONLY | os.O_NONBLOCK) as fd:
        keen = reader(mount / ".api/pushes")
        for times in range(1, 29):
            touch_many(server)
            keen.wait(600 * times, 60)
        text = b""
        while piece := os.read(fd, 1 << 16):
            text += piece
        assert text.startswith(b"ERROR\t") and text.count(b"\n") == 1
        assert text.count(b"\t") == 3
        assert len(set(keen.lines())) == 600 * 28


def test_a_long_history(server, mount, reader):
    """A thousand images of one tag: each change costs no more than the stream's size."""
    one = reader(mount / ".api/pushes")
    before = everything(server)
    for _ in range(1000 // 50):
        server.control("POST", "bulk", {"modify": {"match": "^api$", "namespace": "shop",
                                                   "times": 50, "change": "image"}})
    check(server, before, one.wait(1000, 120))


def test_the_end_in_the_middle(server, start_mount):
    """What isn't told yet holds up nobody."""
    mount = start_mount(server)
    make_many(server, 600)
    wait_for((mount / "dev/s599").exists, SECONDS, "the streams")
    one = Reader(mount / ".api/pushes")
    touch_many(server, 10)
    one.wait(1)
    assert mount.stop() < 2
    wait_for(lambda: one.over, SECONDS, "the end of the file")
    one.close()


def test_the_end(server, start_mount):
    mount = start_mount(server)
    one = Reader(mount / ".api/pushes")
    with pytest.raises(OSError):
        (mount / ".api/pushes").write_text("x")
    assert mount.stop() < 2
    wait_for(lambda: one.over, SECONDS, "the end of the file")
    assert one.text == b"" and not one.broken
    one.close()


def test_many_readers_and_no_leak(server, mount):
    for _ in range(100):
        with opened(mount / ".api/pushes"):
            server.control("POST", "bulk", [{"op": "touch-image", "namespace": "shop",
                                             "name": "api"}])
    version = server.get("shop", "api")["metadata"]["resourceVersion"]
    wait_for(lambda: version in (mount / "shop/api/imagestream.json").read_text(), SECONDS, "the last one")
    one = Reader(mount / ".api/pushes")
    push(server, "shop", "api", "v1")
    assert len(one.wait(1)) == 1
    one.close()


# ---- cuts and restarts ----


@pytest.mark.parametrize("name", [*RESTARTS, "rollback-new", "rollback-kept"])
def test_through_a_restart(server, start_mount, reader, name):
    """What comes before, while and after it is away, for who watches all and for who watches two."""
    mounts = [start_watched(server, start_mount, context, scopes)
              for context, scopes in (("admin", ADMINS), ("developer", DEVELOPERS))]
    readers = [reader(mount / "dev/.api/pushes") for mount in mounts]
    before = everything(server)
    server.control("POST", "snapshot", {})
    push(server, "dev", "scratch", "before")
    for one in readers:
        one.wait(1)
    if name.startswith("rollback"):
        restart(server, "rollback", uids=name.partition("-")[2])
        for mount in mounts:
            refresh(mount)
            wait_for(lambda mount=mount: not (mount / "dev/scratch/tags/before").exists(),
                     2 * BACK_OFF, "the older state")
        gone = {readers[0].lines()[0]}
    else:
        thread = threading.Thread(target=restart, args=(server,), kwargs=RESTARTS[name])
        thread.start()
        for _ in range(5):
            time.sleep(0.3)
            # The bulk call is a control call; only `away` refuses it.
            while True:
                try:
                    server.control("POST", "bulk", [{"op": "touch-image", "namespace": "dev",
                                                     "name": "scratch"}])
                    break
                except (OSError, urllib.error.URLError):
                    time.sleep(0.05)
        thread.join()
        gone = set()

    def pushed():
        try:
            return push(server, "dev", "scratch", "after") or True
        except OSError:
            return False
    wait_for(pushed, BACK_OFF, "the last push")
    for one in readers:
        wait_for(lambda one=one: set(one.lines()) - gone >= everything(server) - before,
                 2 * BACK_OFF, "all of them")
        lines = one.lines()
        assert len(lines) == len(set(lines)), "told twice"
        check(server, before, [line for line in lines if line not in gone])


def test_through_watch_cuts(server, start_mount, reader):
    """Cut, cut in the middle of an event, expired: all come, in order, none twice."""
    mount = start_watched(server, start_mount, "admin", ADMINS)
    one = reader(mount / ".api/pushes")
    before = everything(server)
    cuts = [lambda: server.control("POST", "drop", {"path": "imagestreams"}),
            lambda: server.control("POST", "drop", {"path": "imagestreams", "clean": True}),
            lambda: server.fault(watch=True, path="imagestreams", cutInEvent=True),
            lambda: server.control("POST", "compact", {}),
            lambda: refresh(mount)]
    for number in range(30):
        push(server, *(("shop", "api") if number % 2 else ("dev", "scratch")), "a", f"t{number}")
        cuts[number % len(cuts)]()
        push(server, "shop", "web", "b")
    wait_for(lambda: len(one.lines()) >= 90, 3 * BACK_OFF, "all of them")
    check(server, before, one.lines())


def test_a_thousand_imports_across_five_restarts(start_server, start_mount, reader):
    server = start_server("--sample", "--import-controller", "--import-delay", "0.01")
    mount = start_watched(server, start_mount, "admin", ADMINS)
    one = reader(mount / ".api/pushes")
    before = everything(server)
    styles = ["aggregated", "main", "aggregated-noticed", "etcd-killed", "main"]
    number = itertools.count()

    def make():
        wanted = next(number)

        def done():
            try:
                server.create("dev", f"i{wanted}", tags=[
                    {"name": f"t{tag}", "from": {
                        "kind": "DockerImage", "name": f"quay.io/example/i{wanted}:{tag}"}}
                    for tag in range(20)])
                return True
            except OSError as error:
                return getattr(error, "code", 0) == 409
        wait_for(done, 60, "a stream")
    for style in styles:
        for _ in range(5):
            make()
        thread = threading.Thread(target=restart, args=(server,), kwargs=RESTARTS[style])
        thread.start()
        for _ in range(5):
            make()
        thread.join()
    wait_for(lambda: widest(mount) >= ADMINS, 2 * BACK_OFF, "the watch")

    def imported():
        return [line for line in one.lines() if line[1].startswith("dev/i")]
    wait_for(lambda: len(imported()) >= 1000, 4 * BACK_OFF, "all of them")
    assert len(imported()) == 1000
    check(server, before, one.lines())


def test_the_objects_are_compared_by_what_they_are(server, mount, reader):
    """A change of generation or conditions, and an import that brings the same: nothing new."""
    one = reader(mount / ".api/pushes")
    obj = server.get("shop", "api")
    for tag in obj["status"]["tags"]:
        for each in tag["items"]:
            each["generation"] += 5
        tag["conditions"] = [{"type": "ImportSuccess", "status": "False", "generation": 9,
                              "lastTransitionTime": created(), "reason": "x", "message": "y"}]
    store(server, obj)
    wait_for(lambda: json.loads((mount / "shop/api/tags/v1/status.json").read_text()).get(
        "conditions"), SECONDS, "the change")
    push(server, "shop", "api", "v1")
    assert len(one.wait(1)) == 1
