"""Whatever a server sends: the program lives, shows what is healthy, names the rest, and ends when told.

Each row replaces answers of server.py's healthy ones and says what is to be seen. README.md has the rules.
"""

import contextlib
import errno
import functools
import gzip
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading
import zlib

import pytest


def load(name, path):
    """By path: tests/mount and tests/apiserver have modules of these names, too."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HERE = pathlib.Path(__file__).resolve().parent
mounts = load("hostile_mounts", HERE.parent / "mount/conftest.py")
hostile = load("hostile_server", HERE / "server.py")
Answer, ROOT, encode, page = hostile.Answer, hostile.ROOT, hostile.encode, hostile.page
PROJECTS, event, stream, wait_for = hostile.PROJECTS, hostile.event, hostile.stream, mounts.wait_for
whole = hostile.whole

MIB = 1 << 20
STREAMS = ROOT + r"/imagestreams\?(?!.*watch=true)"
WEB = ROOT + "/namespaces/shop/imagestreams/web"
SANITIZED = b"libasan" in subprocess.run(["ldd", mounts.PROGRAM], capture_output=True,
                                         check=False).stdout
# Twice the page and 256 MiB (DESIGN, "Limits"). ASan puts red zones around each of a million small pieces, and keeps
# what was freed for a while: there half as much again, and what the bare program takes.
FACTOR, BASE = (1.5, 160 * MIB) if SANITIZED else (1, 0)


class Mount(mounts.Mount):
    asan = ":quarantine_size_mb=16:malloc_context_size=2"

    def peak(self):
        """The most memory that the program ever had, in bytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024

    def said(self, pattern):
        """Whether .api/errors says so; the path counts as well as the sentence."""
        return any(re.search(pattern, f'{one["path"]} {one["message"]}') for one in self.errors())

    def wait_said(self, pattern):
        try:
            wait_for(lambda: self.said(pattern), 60, "the line")
        except AssertionError:
            raise AssertionError(f"no {pattern!r} in .api/errors: {self.errors()}") from None


@pytest.fixture(scope="module")
def directory():
    path = pathlib.Path(tempfile.mkdtemp(prefix="imagestreamfs-hostile-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def server(directory):
    one = hostile.Server(pathlib.Path(tempfile.mkdtemp(dir=directory)))
    yield one
    one.stop()


@contextlib.contextmanager
def mounted(directory, server, *arguments, bytes_sent=0, **options):
    """A mount that has to end within 2 s and without a report, and to have stayed within its memory."""
    mount = Mount(directory, server.kubeconfig, *arguments, **options)
    mount.expect(".")  # what it logs of all this is its own affair
    try:
        yield mount
        assert mount.process.poll() is None, f"it ended: {mount.stderr.read_text()[-2000:]}"
        peak, limit = mount.peak(), FACTOR * (2 * bytes_sent + 256 * MIB) + BASE
        print(f"peak {peak / MIB:.0f} MiB, page {bytes_sent / MIB:.1f} MiB")
        assert peak < limit, f"{peak / MIB:.0f} MiB of at most {limit / MIB:.0f}"
    except BaseException:
        mount.kill()
        reports = [path.read_text() for path in mount.directory.glob("san.*")]
        assert not reports, "\n".join(reports)
        raise
    took = mount.stop()
    mount.check()
    assert took < mounts.STOP_SECONDS, f"it took {took:.1f} s to end"


def assert_healthy(mount, shop=(), dev=(), top=()):
    """The two streams that every list has, and nothing but them and what is named."""
    assert sorted(os.listdir(mount.path)) == sorted(["dev", "shop", *top])
    assert sorted(os.listdir(mount / "shop")) == sorted(["web", *shop])
    assert sorted(os.listdir(mount / "dev")) == sorted(["app", *dev])
    for key in ("shop/web", "dev/app"):
        assert json.loads((mount / key / "spec.json").read_text())["tags"][0]["name"] == "v1"


# ---- items of a list ----

def healthy_page(server, *more):
    return page([server.streams["shop/web"], *more, server.streams["dev/app"]])


def odd(name="odd", namespace="shop", **metadata):
    """A stream beside the healthy ones; a member that is None isn't there."""
    item = stream(namespace, "odd", 11)
    item["metadata"].update({"name": name, "namespace": namespace, **metadata})
    item["metadata"] = {key: value for key, value in item["metadata"].items() if value is not None}
    return item


def replaced(old, new, item=None):
    """The bytes of an item with something in it that no JSON writer would write."""
    text = encode(item or odd())
    assert text.count(old) >= 1
    return text.replace(old, new, 1)


def with_tags(spec, status=None):
    return {**odd(), "spec": {"tags": spec}, "status": {"tags": status}}


NESTED = b'{"a":' * 10000 + b"1" + b"}" * 10000
# name: (item, what of it is shown in shop/, what .api/errors says)
ITEMS = {
    "name-3000": (odd(3000 * "n"), (), r"shop/n{64}….*longer than 255"),
    "namespace-3000": (odd(namespace=3000 * "s"), (), r"s{64}…/odd: metadata.namespace is longer"),
    "name-slash": (odd("a/b"), (), "shop/a/b: metadata.name holds a slash"),
    "namespace-up": (odd(namespace="../shop"), (), "metadata.namespace holds a slash"),
    "name-empty": (odd(""), (), "metadata.name is empty"),
    "name-dot": (odd("."), (), r"metadata.name begins with a dot"),
    "name-dotdot": (odd(".."), (), r"shop/..: metadata.name begins with a dot"),
    "name-hidden": (odd(".api"), (), "shop/.api: metadata.name begins with a dot"),
    "name-nul": (odd("a\0b"), (), r"shop/a\\x00b: metadata.name holds a NUL"),
    "name-control": (odd("a\n\x1b[31mb"), ("a\n\x1b[31mb",), None),
    "name-255": (odd(255 * "n"), (255 * "n",), None),
    "name-number": (odd(7), (), "metadata.name is missing"),
    "name-surrogate": (replaced(b'"odd"', b'"\\ud800"'), (), "not read: invalid Unicode"),
    "name-no-utf8": (replaced(b'"odd"', b'"\xff\xfe"'), (), "not read: "),
    "uid-missing": (odd(uid=None), (), "shop/odd: metadata.uid is missing"),
    "uid-empty": (odd(uid=""), (), "shop/odd: metadata.uid is empty"),
    "uid-3000": (odd(uid=3000 * "u"), (), "shop/odd: metadata.uid is longer"),
    "uid-control": (odd(uid="a\nb"), (), "shop/odd: metadata.uid isn't printable"),
    "uid-of-another": (odd(uid="uid-shop-web"), (), "uid"),
    "version-missing": (odd(resourceVersion=None), (), "metadata.resourceVersion is missing"),
    "version-real": (replaced(b'"11"', b"1.5e300"), (), "metadata.resourceVersion is missing"),
    "version-huge": (replaced(b'"11"', b"9" * 400), (), "too big integer"),
    "version-3000": (odd(resourceVersion=3000 * "9"), (), "resourceVersion is longer"),
    "generation-huge": (replaced(b'"generation": 1', b'"generation":' + b"9" * 400), (),
                        "too big integer"),
    "generation-real": (odd(generation=1.5), ("odd",), None),
    "generation-overflow": (replaced(b'"generation": 1', b'"generation":1e999'), (),
                            "real number overflow"),
    "times": (odd(creationTimestamp="292277026596-12-04T15:30:08Z"), ("odd",), None),
    "metadata-twice": (replaced(b'"metadata":', b'"metadata":{"name":"x"},"metadata":'), ("odd",),
                       None),
    "metadata-twice-managed": (
        replaced(b'"metadata":', b'"metadata":{"managedFields":[{}]},"metadata":'), ("odd",), None),
    "metadata-escaped": (replaced(b'"metadata":', b'"met\\u0061data":'), ("odd",), None),
    "spec-twice": (replaced(b'"spec":', b'"spec":[],"spec":'), ("odd",), None),
    "metadata-null": ({"metadata": None, "spec": {}}, (), "metadata.namespace is missing"),
    "metadata-list": ({"metadata": ["odd"]}, (), "metadata.namespace is missing"),
    "metadata-string": ({"metadata": "odd"}, (), "metadata.namespace is missing"),
    "metadata-missing": ({}, (), "metadata.namespace is missing"),
    "item-null": (None, (), "metadata.namespace is missing"),
    "item-string": ("odd", (), "metadata.namespace is missing"),
    "item-deep": (replaced(b'"spec":', b'"deep":%s,"spec":' % NESTED), (),
                  "shop/odd: not read: nested more than 512 deep"),
    "item-only-deep": (b"[" * 10000 + b"]" * 10000, (), "nested more than 512 deep"),
    "item-of-many-values": (replaced(b'"spec":', b'"many":[%s{}],"spec":' % (b"{}," * 2000000)), (),
                            "shop/odd: not read: more than 200000 values"),
    "item-of-9-mib": (odd(annotations={"a": 9 * MIB * "x"}), (),
                      "shop/odd: not read: larger than 8 MiB"),
    "item-of-another-kind": ({"kind": "Secret", **odd()}, (), "its kind isn't ImageStream"),
    "tags-object": (with_tags({"v1": {}}, "none"), ("odd",), None),
    "tags-nameless": (with_tags([{}, {"name": 1}, None, "v1", []], [{}, {"tag": None}, 7]),
                      ("odd",), None),
    "tags-twice": (with_tags([{"name": "v1"}, {"name": "v1"}], [{"tag": "v1"}, {"tag": "v1"}]),
                   ("odd",), None),
    "tag-3000": (with_tags([{"name": 3000 * "t"}, {"name": "v1"}]), ("odd",),
                 r"shop/odd/tags t{64}…: a tag's name can't"),
    "tag-odd": (with_tags([{"name": name} for name in ("", ".", "..", "a/b", "\0", "a\0b", "%")]),
                ("odd",), None),
    "status-odd": (with_tags([{"name": "v1"}], [{"tag": "v1", "items": [None, 1, {"created": 5},
                   {"dockerImageReference": [], "created": 99 * "9"}]}]), ("odd",), None),
}


@pytest.mark.parametrize("name", ITEMS)
def test_item(directory, server, name):
    """A list of three streams, the middle one of which isn't what it should be."""
    item, shown, why = ITEMS[name]
    text = healthy_page(server, item)
    server.arm(("GET", STREAMS, Answer(text)))
    with mounted(directory, server, bytes_sent=len(text)) as mount:
        assert_healthy(mount, shown)
        for one in shown:  # all of it can be read
            for path in sorted((mount / "shop" / one).rglob("*")):
                if path.is_file():
                    path.read_bytes()
            assert json.loads((mount / "shop" / one / "imagestream.json").read_text())
        if why:
            mount.wait_said(why)


# ---- lists as a whole ----

def pieces_of(piece, times, end=b"", start=b""):
    """A body that is never held in one piece; `sent` is set when the half is out."""
    def pieces(server):
        yield start or piece
        for i in range(times):
            if 2 * i >= times or i == 64:
                server.sent.set()
            yield piece
        if end:
            yield end
    return pieces


HEAD = page([stream("shop", "web", 10), stream("dev", "app", 10)])[:-2]  # what follows begins with a comma


@functools.lru_cache(None)
def packed(piece, times):
    """The bytes of `piece` that many times, gzip'ed, some at a time."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    out = [packer.compress(HEAD)]
    out += [packer.compress(piece) for _ in range(times)]
    out += [packer.compress(b"]}"), packer.flush()]
    return [one for one in out if one]


def unpacks(piece, times):
    def pieces(server):
        out = packed(piece, times)
        for i, one in enumerate(out):
            if 2 * i >= len(out):
                server.sent.set()
            yield one
    return Answer(pieces=pieces, headers={"Content-Encoding": "gzip"})


def for_ever(server, token=lambda n: "more", items=lambda n: []):
    """Pages that always name another one."""
    count = iter(range(1 << 62))

    def give(request):
        n = next(count)
        if n == 3:
            server.sent.set()
        return Answer(page([*server.streams.values(), *items(n)], more=token(n)))
    return give


ZIPPED = gzip.compress(b'{"items":[],"metadata":{}}')
BRACES = b",{}" * (MIB // 3)
# name: (answer or function(server) -> answer, what .api/errors says ("": any line), bytes of a page unpacked)
PAGES = {
    "items-object": (Answer(b'{"metadata":{},"items":{}}'), "", 0),
    "items-string": (Answer(b'{"metadata":{},"items":"x"}'), "", 0),
    "list-null": (Answer(b"null"), "", 0),
    "list-array": (Answer(b"[]"), "", 0),
    "list-deep": (Answer(b"[" * MIB), "", MIB),
    "items-deep": (Answer(b'{"metadata":{},"items":' + b"[" * 10000 + b"]" * 10000 + b"}"), "", 0),
    "html": (Answer(b"<html><body>Log in</body></html>", kind="text/html"), "", 0),
    "empty": (Answer(b""), "", 0),
    "no-content": (Answer(b"", 204), "", 0),
    "status": (Answer({"kind": "Status", "status": "Failure", "code": 500}), "", 0),
    "cut": (lambda server: Answer(healthy_page(server)[:-20]), "", 0),
    "metadata-string": (Answer(b'{"metadata":"x","items":[]}'), "", 0),
    "gzip-cut": (Answer(ZIPPED[:-12], headers={"Content-Encoding": "gzip"}), "", 0),
    "gzip-none": (Answer(b"no gzip", headers={"Content-Encoding": "gzip"}), "", 0),
    "encoding-unknown": (Answer(b"{}", headers={"Content-Encoding": "rot13"}), "", 0),
    "length-too-long": (Answer(b'{"items":[]}', headers={"Content-Length": "1000"}), "", 0),
    "length-too-short": (Answer(b'{"metadata":{},"items":[]}', headers={"Content-Length": "9"}), "",
                         0),
    "length-no-number": (lambda server: Answer(healthy_page(server), headers={
        "Content-Length": "99999999999999999999"}), None, 0),
    "header-huge": (Answer(b"{}", headers={"X": 200000 * "x"}), "", 0),
    "headers-many": (Answer(b"{}", headers={f"X-{n}": 9000 * "x" for n in range(2000)}), "", 18 * MIB),
    "redirect": (Answer(b"", 302, headers={"Location": "https://127.0.0.1:1/"}), "", 0),
    "retry-after": (Answer(b"", 503, headers={"Retry-After": "99999999999999999999"}), "", 0),
    "braces": (Answer(pieces=pieces_of(BRACES, 15, b"]}", HEAD)), "", 15 * MIB),
    "braces-80-million": (unpacks(BRACES, 240), "", 240 * MIB),
    "gzip-bomb": (unpacks(MIB * b" ", 300), "", 256 * MIB),
    "endless-body": (Answer(pieces=pieces_of(MIB * b" ", 1 << 40)), "", 256 * MIB),
    "same-token": (for_ever, "continue", 0),
    "new-token-nothing-new": (lambda server: for_ever(server, "t{}".format), "continue", 0),
}
ENDLESS = ("braces", "braces-80-million", "gzip-bomb", "endless-body", "same-token",
           "new-token-nothing-new")


def list_again(mount):
    """Writes .api/refresh; a list that fails may say so, also late."""
    def write():
        with contextlib.suppress(OSError):
            (mount / ".api/refresh").write_text("1")
    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("name", PAGES)
def test_page(directory, server, name):
    """A mount lists again, and the answer is no list: what was there stays, and heals."""
    answer, why, size = PAGES[name]
    answer = answer(server) if callable(answer) else answer
    with mounted(directory, server, bytes_sent=size) as mount:
        server.wait_for_watch()
        server.arm(("GET", STREAMS, answer))
        list_again(mount)
        wait_for(lambda: server.count("GET", STREAMS) >= 2, 60, "another list")
        if why is not None:
            mount.wait_said(why)
        assert_healthy(mount)
        server.change("shop/web", "later")
        server.arm()
        wait_for(lambda: heals(mount), 120, "a list that is one")


def heals(mount):
    list_again(mount).join(60)
    return (mount / "shop/web/tags/later").exists()


@pytest.mark.parametrize("name", ENDLESS)
def test_stop_within(directory, server, name):
    """SIGTERM in the middle of it (mounted() holds it to 2 s)."""
    answer, _, size = PAGES[name]
    answer = answer(server) if callable(answer) else answer
    with mounted(directory, server, bytes_sent=size) as mount:
        server.wait_for_watch()
        server.arm(("GET", STREAMS, answer))
        list_again(mount)
        assert server.sent.wait(120)


def test_items_null(directory, server):
    """As Go writes an empty list."""
    server.arm(("GET", STREAMS, Answer(b'{"metadata":{"resourceVersion":"100"},"items":null}')))
    with mounted(directory, server) as mount:
        assert os.listdir(mount / "shop") == []


def test_many_pages(directory, server):
    """Pages of one stream each are a list as good as any."""
    def give(request):
        n = int((re.search("continue=t([0-9]+)", request.path) or [0, 0])[1])
        return Answer(page([stream("shop", f"s{n}", 10 + n)], more=f"t{n + 1}" if n < 60 else ""))
    server.arm(("GET", STREAMS, give))
    with mounted(directory, server) as mount:
        assert len(os.listdir(mount / "shop")) == 61


def test_broken_item_at_refresh(directory, server):
    """A stream that was healthy, and whose item of a later list is broken."""
    with mounted(directory, server) as mount:
        text = replaced(b'"metadata":', b'"deep":%s,"metadata":' % NESTED, server.streams["shop/web"])
        server.arm(("GET", STREAMS, Answer(page([text, server.streams["dev/app"]]))))
        list_again(mount).join(60)
        mount.wait_said("nested more than 512 deep")
        assert os.listdir(mount / "dev") == ["app"]


# ---- projects ----

def projects_page(*more):
    return page([hostile.project("shop"), *more, hostile.project("dev")], kind="Project")


PROJECT_ROWS = {
    "slash": (hostile.project("a/b"), "a/b: metadata.name holds a slash"),
    "dotdot": (hostile.project(".."), r"\.\.: metadata.name begins with a dot"),
    "empty": (hostile.project(""), "metadata.name is empty"),
    "name-3000": (hostile.project(3000 * "p"), "p{64}…: metadata.name is longer"),
    "nul": (hostile.project("a\0b"), r"a\\x00b: metadata.name holds a NUL"),
    "uid-twice": (hostile.project("odd", uid="uid-shop"), "uid"),
    "uid-missing": (hostile.project("odd", uid=None), "odd: metadata.uid is missing"),
    "uid-3000": (hostile.project("odd", uid=3000 * "u"), "odd: metadata.uid is longer"),
    "null": (b"null", "metadata.name is missing"),
    "deep": (NESTED, ""),
}


@pytest.mark.parametrize("name", PROJECT_ROWS)
def test_project(directory, server, name):
    item, why = PROJECT_ROWS[name]
    server.arm(("GET", PROJECTS + r"\?(?!.*watch=true)", Answer(projects_page(item))))
    with mounted(directory, server) as mount:
        mount.wait_said(why)
        assert_healthy(mount)


# ---- watches ----

def line_of(size, end=b"\n"):
    def pieces(server):
        yield b'{"type":"MODIFIED","object":{"a":"'
        for _ in range(size // 65536):
            yield 65536 * b"x"
            server.sent.set()
        yield b'"}}' + end
    return pieces


# name: (line, what .api/errors says; None: nothing need)
LINES = {
    "no-json": (b"hello\n", ""),
    "html": (b"<html>\n", ""),
    "array": (b"[]\n", ""),
    "empty-object": (b"{}\n", ""),
    "no-object": (b'{"type":"MODIFIED"}\n', ""),
    "no-type": (b'{"object":{}}\n', ""),
    "object-null": (b'{"type":"MODIFIED","object":null}\n', "metadata.namespace is missing"),
    "object-string": (b'{"type":"ADDED","object":"x"}\n', "metadata.namespace is missing"),
    "deleted-null": (b'{"type":"DELETED","object":null}\n', ""),
    "deleted-odd": (event("DELETED", odd("../web")), None),
    "bookmark-null": (b'{"type":"BOOKMARK","object":null}\n', ""),
    "bookmark-odd": (b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":{}}}}\n', None),
    "error-null": (b'{"type":"ERROR","object":null}\n', ""),
    "error-code": (b'{"type":"ERROR","object":{"kind":"Status","code":"x","message":[]}}\n', ""),
    "type-unknown": (b'{"type":"RENAMED","object":{}}\n', None),
    "type-3000": (b'{"type":"%s","object":{}}\n' % (3000 * b"T"), None),
    "deep": (event("MODIFIED", NESTED), "nested more than 512 deep"),
    "brackets": (MIB * b"[", ""),
    "slash": (event("ADDED", odd("a/b")), "shop/a/b: metadata.name holds a slash"),
    "name-3000": (event("ADDED", odd(3000 * "n")), "shop/n{64}….*longer"),
    "many-values": (event("ADDED", replaced(b'"spec":', b'"m":[%s{}],"spec":' % (b"{}," * 300000))),
                    "shop/odd: not read: more than 200000 values"),
    "metadata-twice": (event("ADDED", replaced(b'"metadata":', b'"metadata":{},"metadata":')), None),
    "line-9-mib": (line_of(9 * MIB), ""),
    "line-endless": (line_of(1 << 50), ""),
}


@pytest.mark.parametrize("name", LINES)
def test_line(directory, server, name):
    """A line of the watch that is none, and then a change: it shows, by this watch or after it."""
    line, why = LINES[name]
    with mounted(directory, server) as mount:
        server.wait_for_watch()
        server.push(line, server.change("shop/web", "later"))
        wait_for((mount / "shop/web/tags/later").exists, 120, "the change")
        if why is not None:
            mount.wait_said(why)
        assert "app" in os.listdir(mount / "dev")


def test_stop_within_a_line(directory, server):
    with mounted(directory, server) as mount:
        server.wait_for_watch()
        server.push(line_of(1 << 50))
        assert server.sent.wait(60)
        assert_healthy(mount)


# ---- saves ----

def answers_to_saves(server):
    web = server.streams["shop/web"]
    return {
        "another": Answer(whole(server.streams["dev/app"])),
        "another-name": Answer(whole(odd("../../dev/app"))),
        "none": Answer(b""),
        "no-content": Answer(b"", 204),
        "null": Answer(b"null"),
        "html": Answer(b"<html>", kind="text/html"),
        "status": Answer({"kind": "Status", "status": "Success", "code": 200}),
        "uidless": Answer(replaced(b'"uid-shop-web"', b"null", whole(web))),
        "deep": Answer(NESTED),
        "9-mib": Answer({**whole(web), "a": 9 * MIB * "x"}),
        "many-values": Answer(b'{"a":[' + b"{}," * 300000 + b"1]}"),
        "70-mib": Answer(pieces=pieces_of(MIB * b" ", 70)),
    }


def change_spec(text):
    value = json.loads(text)
    value["lookupPolicy"]["local"] = not value["lookupPolicy"]["local"]
    return json.dumps(value)


SAVES = ("another", "another-name", "none", "no-content", "null", "html", "status", "uidless", "deep",
         "9-mib", "many-values", "70-mib")


@pytest.mark.parametrize("name", SAVES)
def test_save(directory, server, name):
    """200, and an answer that isn't the stream: the save fails, and the text is kept."""
    server.arm(("PATCH", WEB, answers_to_saves(server)[name]))
    size = 64 * MIB if name == "70-mib" else 0
    with mounted(directory, server, "--request-timeout", "120s", bytes_sent=size) as mount:
        spec = mount / "shop/web/spec.json"
        text = change_spec(spec.read_text())
        with mounts.fails(errno.EIO):
            spec.write_text(text)
        assert spec.with_name("spec.json.rejected").read_text() == text
        assert "the server may have applied the change" in spec.with_name(
            "spec.json.error").read_text()
        mount.wait_said("shop/web/spec.json")
        os.unlink(spec.with_name("spec.json.rejected"))
        os.unlink(spec.with_name("spec.json.error"))
        assert_healthy(mount)
        assert server.count("PATCH", WEB) <= 10


def test_save_twice(directory, server):
    """metadata twice: the last one counts, as everywhere."""
    def give(request):
        web = stream("shop", "web", 50)
        web["spec"]["lookupPolicy"]["local"] = True
        return Answer(replaced(b'"metadata":', b'"metadata":{"name":"x"},"metadata":', whole(web)))
    server.arm(("PATCH", WEB, give))
    with mounted(directory, server) as mount:
        spec = mount / "shop/web/spec.json"
        spec.write_text(change_spec(spec.read_text()))
        assert json.loads(spec.read_text())["lookupPolicy"]["local"]
        assert_healthy(mount)


@pytest.mark.parametrize("name", ("another", "html", "9-mib", "deep"))
def test_mkdir(directory, server, name):
    server.arm(("POST", ROOT + "/namespaces/shop/imagestreams", answers_to_saves(server)[name]))
    with mounted(directory, server) as mount:
        with mounts.fails(errno.EIO, errno.EAGAIN):
            os.mkdir(mount / "shop/new")
        assert_healthy(mount)


@pytest.mark.parametrize("name", ("another", "html", "9-mib"))
def test_put(directory, server, name):
    server.arm(("PUT", WEB, answers_to_saves(server)[name]))
    with mounted(directory, server) as mount:
        path = mount / "shop/web/imagestream.json"
        with mounts.fails(errno.EIO):
            path.write_text(path.read_text().replace('"local": false', '"local": true'))
        mount.wait_said("imagestream.json")


@pytest.mark.parametrize("name", ("another", "another-name", "html", "null", "deep", "9-mib"))
def test_patch_of_api(directory, server, name):
    """.api sends once; its answer can be read, and its verdict is that this is no ImageStream."""
    server.arm(("PATCH", WEB, answers_to_saves(server)[name]))
    with mounted(directory, server) as mount:
        with mounts.fails(errno.EIO):
            (mount / "shop/web/.api/merge-patch").write_text('{"metadata":{"labels":{"a":"b"}}}')
        mount.wait_said("merge-patch.*isn't the ImageStream")
        assert_healthy(mount)
        assert server.count("PATCH", WEB) == 1


def test_delete_of_others(directory, server):
    """The answer to a deletion names streams of another namespace, and worse."""
    items = [server.streams["dev/app"], odd("../../dev/app"), None, {"metadata": []}, NESTED]
    server.arm(("DELETE", ROOT + "/namespaces/shop/imagestreams", Answer(page(items))))
    with mounted(directory, server) as mount:
        (mount / "shop/.api/delete").write_text("{}")
        assert_healthy(mount)


# ---- rights ----

def review(status):
    return Answer({"kind": "SelfSubjectAccessReview", "status": status}, 201)


ACCESS, RULES = "/selfsubjectaccessreviews", "/selfsubjectrulesreviews"
RULE = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
NO = ("POST", ACCESS, review({"allowed": False}))


def rules(value):
    return [NO, ("POST", RULES, Answer({"kind": "x", "status": {"resourceRules": value,
                                                                "incomplete": False}}, 201))]


RIGHTS = {
    "allowed-string": [("POST", ACCESS, review({"allowed": "yes"}))],
    "allowed-null": [("POST", ACCESS, review(None))],
    "access-html": [("POST", ACCESS, Answer(b"<html>", 201))],
    "access-deep": [("POST", ACCESS, Answer(b"[" * MIB, 201))],
    "access-70-mib": [("POST", ACCESS, Answer(pieces=pieces_of(MIB * b" ", 70)))],
    "rules-null": rules(None),
    "rules-strings": rules(["x", None, 1, [], {"verbs": "get", "resources": {}, "apiGroups": None}]),
    "rules-names": rules([{**RULE, "resourceNames": [None, 1, 3000 * "n", "../x"]}]),
    "rules-200000": rules(200000 * [RULE]),
    "rules-html": [NO, ("POST", RULES, Answer(b"<html>", 201))],
    "rules-array": [NO, ("POST", RULES, Answer(b"[]", 201))],
}


@pytest.mark.parametrize("name", RIGHTS)
def test_rights(directory, server, name):
    """Reviews that say nothing: what is there is shown, and the server decides."""
    server.arm(*RIGHTS[name])
    with mounted(directory, server, bytes_sent=64 * MIB if "70" in name else 0) as mount:
        assert_healthy(mount)
        wait_for(lambda: server.count("POST", RULES if len(RIGHTS[name]) > 1 else ACCESS), 60,
                 "a review")
        os.stat(mount / "shop/web/spec.json")
        assert_healthy(mount)


# ---- the start ----

# name: (rules, the whole line; None: it mounts)
STARTS = {
    "discovery-html": ([("GET", ROOT + "$", Answer(b"<html>"))], "is no API server"),
    "discovery-empty": ([("GET", ROOT + "$", Answer(b"", 204))], "is no API server"),
    "discovery-70-mib": ([("GET", ROOT + "$", Answer(pieces=pieces_of(MIB * b" ", 70)))],
                         "the answer is larger than 64 MiB"),
    "discovery-header": ([("GET", ROOT + "$", Answer(b"{}", headers={"X": 200000 * "x"}))],
                         "^imagestreamfs: https://127.0.0.1"),
    "discovery-headers": ([("GET", ROOT + "$", Answer(b"{}", headers={
        f"X-{n}": 9000 * "x" for n in range(2000)}))], "headers"),
    "list-html": ([("GET", STREAMS, Answer(b"<html>", kind="text/html"))],
                  "^imagestreamfs: .*no list"),
    "version-array": ([("GET", "/version", Answer(b"[1]"))], None),
    "version-odd": ([("GET", "/version", Answer({"major": 1, "minor": 9000 * "9"}))], None),
    "version-deep": ([("GET", "/version", Answer(NESTED))], None),
    "user-control": ([("GET", "/users/~", Answer({"metadata": {"name": "a\n\x1b[31m\0b"}}))], None),
    "user-list": ([("GET", "/users/~", Answer({"metadata": {"name": ["a"]}}))], None),
    "user-3000": ([("GET", "/users/~", Answer({"metadata": {"name": 3000 * "u"}}))], None),
}


@pytest.mark.parametrize("name", STARTS)
def test_start(directory, server, name):
    answers, why = STARTS[name]
    server.arm(*answers)
    if why is None:
        with mounted(directory, server) as mount:
            assert_healthy(mount)
            mount.status()
            os.listdir(mount / ".api")
        return
    mount = Mount(directory, server.kubeconfig, wait=False)
    assert mount.process.wait(120) in (1, 4)
    lines = mount.stderr.read_text().splitlines()
    assert len(lines) == 1 and re.search(why, lines[0]), lines
    assert not list(mount.directory.glob("san.*"))


# ---- what .api reads ----

def api_reads(server):
    """name: (file, request, answer)"""
    web, fresh = server.streams["shop/web"], "shop/web/.api/fresh.json"
    big = pieces_of(MIB * b" ", 70)
    return {
        "fresh-html": (fresh, WEB, Answer(b"<html>")),
        "fresh-another": (fresh, WEB, Answer(whole(server.streams["dev/app"]))),
        "fresh-null": (fresh, WEB, Answer(b"null")),
        "fresh-9-mib": (fresh, WEB, Answer({**whole(web), "a": 9 * MIB * "x"})),
        "fresh-70-mib": (fresh, WEB, Answer(pieces=big)),
        "fresh-bomb": (fresh, WEB, unpacks(MIB * b" ", 300)),
        "fresh-cut": (fresh, WEB, Answer(encode(whole(web))[:-9])),
        "status-another": ("shop/web/.api/status.json", WEB + "/status",
                           Answer(whole(server.streams["dev/app"]))),
        "secrets-70-mib": ("shop/web/.api/secrets.json", WEB + "/secrets", Answer(pieces=big)),
        "layers-array": ("shop/web/.api/layers.json", WEB + "/layers", Answer(b"[]")),
        "export-list": ("shop/web/.api/export.json", WEB, Answer(b"[]")),
        "export-metadata": ("shop/web/.api/export.json", WEB, Answer({"metadata": None})),
        "export-another": ("shop/web/.api/export.json", WEB,
                           Answer(whole(server.streams["dev/app"]))),
        "version-array": (".api/version", "/version", Answer(b"[1]")),
        "yaml-70-mib": ("shop/web/.api/fresh.yaml", WEB, Answer(pieces=big)),
    }


READS = ("fresh-html", "fresh-another", "fresh-null", "fresh-9-mib", "fresh-70-mib", "fresh-bomb",
         "fresh-cut", "status-another", "secrets-70-mib", "layers-array", "export-list",
         "export-metadata", "export-another", "version-array", "yaml-70-mib")


@pytest.mark.parametrize("name", READS)
def test_read(directory, server, name):
    """A file is the answer, or opening it fails and .api/errors says why."""
    path, request, answer = api_reads(server)[name]
    with mounted(directory, server, bytes_sent=64 * MIB) as mount:
        server.arm(("GET", request, answer))
        with mounts.fails(errno.EIO):
            (mount / path).read_bytes()
        mount.wait_said(re.escape(path))
        assert_healthy(mount)


def test_secrets_query(directory, server):
    """The real server refuses any query there."""
    server.arm(("GET", WEB + "/secrets", Answer({"kind": "SecretList", "items": []})))
    with mounted(directory, server) as mount:
        json.loads((mount / "shop/web/.api/secrets.json").read_text())
        assert server.count("GET", WEB + "/secrets$") == 1


SELECTIONS = {
    "html": (Answer(b"<html>"), None),
    "array": (Answer(b"[]"), None),
    "items-object": (Answer(b'{"items":{}}'), None),
    "same-token": (Answer(page([], more="x")), None),
    "odd-names": (Answer(page([odd("a/b"), odd(".."), odd(3000 * "n"), odd(uid=None), None, NESTED,
                               stream("shop", "web", 10)])), ["web"]),
    "many-values": (Answer(b'{"items":[' + b"{}," * 300000 + encode(stream("shop", "web", 10)) +
                           b"]}"), ["web"]),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_select(directory, server, name):
    answer, found = SELECTIONS[name]
    with mounted(directory, server) as mount:
        server.arm(("GET", "labelSelector=", answer))
        with contextlib.nullcontext() if found else mounts.fails(errno.EIO):
            assert os.listdir(mount / "shop/.api/select/a=b") == found
        assert mount.errors()
        assert_healthy(mount)


def test_get_by_name(directory, server):
    """Streams that are read by name only: another one's answer makes nothing appear."""
    forbidden = Answer({"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403,
                        "message": 'imagestreams is forbidden: User "somebody" cannot list'}, 403)
    server.arm(("GET", ROOT + r"/namespaces/shop/imagestreams/x$",
                Answer(whole(server.streams["dev/app"]))),
               ("GET", ROOT + r"(/namespaces/[a-z]+)?/imagestreams(\?|$)", forbidden), NO)
    with mounted(directory, server) as mount:
        with mounts.at_most(30), mounts.fails(errno.EIO):
            os.stat(mount / "shop/x")
        assert (mount / "shop/web/spec.json").exists()
