"""Names, numbers, listings and times where a tree of files could go wrong quietly."""

import ctypes
import datetime
import itertools
import json
import os
import stat
import struct
import urllib.parse

import conftest
import pytest
from test_contents import newest_time

LIBC = ctypes.CDLL(None, use_errno=True)
SYS_GETDENTS64 = {"x86_64": 217}.get(os.uname().machine, 61)
SHA = "sha256:" + "0123456789abcdef" * 4
BIG = 9007199254740993  # 2^53 + 1: no double holds it

# Tag → file name, spelled out rather than computed.
ODD = {
    "a/b": "a%2Fb", "/": "%2F", "a//b/": "a%2F%2Fb%2F", "100%": "100%25", "%2F": "%252F",
    "%00": "%2500", "line\nbreak": "line%0Abreak", "tab\t": "tab%09", "\x1f": "%1F",
    "del\x7f": "del%7F", ".hidden": "%2Ehidden", ".": "%2E", "..": "%2E.", "...": "%2E..",
    ".api": "%2Eapi", "a.b": "a.b", "1.0": "1.0", "": "%00", "nul\0inside": "nul%00inside",
    "ümlaut-日本-🐟": "ümlaut-日本-🐟", "u\u0308": "u\u0308", "ü": "ü", "host:5000@x": "host:5000@x",
    " ": " ", "two  spaces ": "two  spaces ", "-rf": "-rf", "\\back": "\\back", "\"q\"'": "\"q\"'",
    "*": "*", "<&>": "<&>", "\u2028": "\u2028", "UPPER": "UPPER", "upper": "upper",
    "spec.json": "spec.json", "tags": "tags", "image": "image", "from": "from",
    "x" * 255: "x" * 255, "ü" * 127: "ü" * 127, "/" * 85: "%2F" * 85}
# No room in 255 bytes, or (NUL alone) the name of another tag.
TOO_LONG = {"y" * 256: "y" * 256, "ü" * 128: "ü" * 128, "/" * 86: "%2F" * 86,
            "w" * 253 + "/": "w" * 253 + "%2F"}
NAMELESS = [*TOO_LONG, "\0"]


def reference(name, **more):
    return {"name": name, "annotations": None, "generation": 1,
            "from": {"kind": "DockerImage", "name": "quay.io/example/odd:1"},
            "importPolicy": {}, "referencePolicy": {"type": "Source"}, **more}


def image(created="2026-11-01T10:00:00Z", **more):
    return {"created": created, "dockerImageReference": "host:5000/a/b@" + SHA, "image": SHA,
            "generation": 1, **more}


def stream(name, tags=(), history=(), **metadata):
    return {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
            "metadata": {"name": name, "namespace": "dev", **metadata},
            "spec": {"lookupPolicy": {"local": False}, "tags": list(tags)},
            "status": {"dockerImageRepository": "", "tags": list(history)}}


CONDITION = {"type": "ImportSuccess", "status": "False", "reason": "NotFound", "generation": 2,
             "lastTransitionTime": "2026-11-09T10:00:00Z", "message": "not found"}
LOADED = [
    stream("odd", [reference(tag) for tag in [*ODD, *NAMELESS]],
           [{"tag": tag, "items": [image()]} for tag in itertools.islice(ODD, 0, None, 2)]),
    stream("spec.json", [reference("both")], [
        {"tag": "both", "items": [image("2026-11-03T00:00:00Z"), image("2026-11-05T00:00:00Z")]},
        {"tag": "pushed", "items": [image("2026-11-04T00:00:00Z", generation=BIG)]},
        {"tag": "empty", "items": [], "conditions": [CONDITION]}],
        creationTimestamp="2026-10-01T00:00:00Z"),
    stream("1.0", annotations={"<a href=\"x\">&": "b\\\r\n\x7fé🐟"}, generation=BIG,
           creationTimestamp="2026-10-02T03:04:05Z"),
    stream("tags"), stream("imagestream.json", [reference("status.json", generation=BIG)])]


@pytest.fixture
def loaded(start_server, directory):
    path = directory / "loaded.json"
    path.write_text(json.dumps({"kind": "ImageStreamList", "apiVersion": "image.openshift.io/v1",
                                "items": LOADED}))
    return start_server("--load", path)


@pytest.fixture
def odd(loaded, start_mount):
    return start_mount(loaded)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def walk(root):
    """Relative path → lstat, of everything."""
    found = {".": os.lstat(root)}
    for top, directories, files in os.walk(root):
        for name in directories + files:
            path = os.path.join(top, name)
            found[os.path.relpath(path, root)] = os.lstat(path)
    return found


def getdents(fd, size):
    """One getdents64: (inode, offset, type, name) of each entry, as the kernel tells them."""
    buffer = ctypes.create_string_buffer(size)
    n = LIBC.syscall(SYS_GETDENTS64, fd, buffer, size)
    assert n >= 0, os.strerror(ctypes.get_errno())
    out, at = [], 0
    while at < n:
        ino, offset, length, kind = struct.unpack_from("<QqHB", buffer, at)
        out.append((ino, offset, kind, buffer.raw[at + 19:at + length].split(b"\0")[0].decode()))
        at += length
    return out


class Listing:
    """A directory read a few entries at a time."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def steps(self, size=512):
        while entries := getdents(self.fd, size):
            yield [entry for entry in entries if entry[3] not in (".", "..")]

    def names(self, size=512):
        return [entry[3] for entries in self.steps(size) for entry in entries]


# Names and numbers.

def test_the_servers_text_differs_only_in_its_escapes(odd):
    """Go writes <, >, & and U+2028 as \\u003c ...; the files hold the characters."""
    text = read(odd / "dev/1.0/imagestream.json").decode()
    assert '"<a href=\\"x\\">&": "b\\\\\\r\\n\x7fé🐟"' in text
    assert text.startswith('{\n  "kind": "ImageStream",\n  "apiVersion": "image.openshift.io/v1",\n'
                           '  "metadata": {\n    "name": "1.0",\n')
    assert text.endswith("\n}\n")
    assert list(json.loads(text)) == ["kind", "apiVersion", "metadata", "spec", "status"]


def test_names_of_tags(odd):
    tags = odd / "dev/odd/tags"
    assert sorted(os.listdir(tags)) == sorted(ODD.values())
    for tag, name in ODD.items():
        assert json.loads(read(tags / name / "spec.json"))["name"] == tag
        assert tag == "" or urllib.parse.unquote(name) == tag, "can't be undone"
    for name in TOO_LONG.values():
        with pytest.raises(OSError, match="too long"):
            os.stat(tags / name)
    for name in ("a%2fb", ".hidden", "%61", "a", "%00x", "%00%00", "ü\u0308", "Upper"):
        assert not (tags / name).exists(), f"{name} is another spelling"


def test_names_without_room_are_told_and_stay_in_the_stream(odd):
    os.listdir(odd / "dev/odd/tags")
    told = odd.errors()
    counts = {name: sum(error.get("count", 1) for error in told if error["errno"] == name)
              for name in ("EINVAL", "ENAMETOOLONG")}
    times = counts["EINVAL"]  # two threads may look at a stream for the first time
    assert times >= 1 and counts["ENAMETOOLONG"] == times * len(TOO_LONG)
    assert len(told) == len([error for error in told if error["path"] == "dev/odd/tags"])
    for name in ("imagestream.json", "spec.json"):
        value = json.loads(read(odd / "dev/odd" / name))
        assert {tag["name"] for tag in value.get("spec", value)["tags"]} == {*ODD, *NAMELESS}


def test_streams_named_like_files(odd):
    for name in ("spec.json", "imagestream.json", "tags", "1.0"):
        place = odd / "dev" / name
        assert sorted(os.listdir(place)) == [
            "imagestream.json", "imagestream.yaml", "metadata.json", "spec.json", "status.json",
            "tags"]
        assert json.loads(read(place / "metadata.json"))["name"] == name
    tags = odd / "dev/spec.json/tags"
    assert sorted(os.listdir(tags / "both")) == ["from", "image", "spec.json", "status.json"]
    assert os.listdir(tags / "empty") == ["status.json"]
    assert os.listdir(odd / "dev/1.0/tags") == []


def test_64_bit_integers(odd):
    for path, times in (("spec.json/tags/pushed/status.json", 1), ("spec.json/status.json", 1),
                        ("1.0/imagestream.json", 1), ("imagestream.json/imagestream.json", 1),
                        ("1.0/metadata.json", 0), ("imagestream.json/spec.json", 0)):
        assert read(odd / "dev" / path).decode().count(str(BIG)) == times, path


def test_what_is_not_there(mount):
    for path in ("nothing", "shop/nothing", "shop/web/nothing", "shop/web/tags/nothing",
                 "shop/web/tags/latest/nothing", ".git", "shop/.git", ".api/nothing", "x" * 255):
        with pytest.raises(FileNotFoundError):
            os.stat(mount / path)
    with pytest.raises(OSError, match="too long"):
        os.stat(mount / ("x" * 256))
    with pytest.raises(NotADirectoryError):
        os.stat(mount / "shop/web/spec.json/x")


def test_a_forbidden_namespace_is_not_there(server, start_mount):
    mount = start_mount(server, "--context", "viewer")
    assert not (mount / "shop").exists() and not (mount / "shop/web/spec.json").exists()
    assert (mount / "dev").exists()


# Times and inodes.

def test_times_of_the_whole_tree(loaded, odd):
    items = loaded.request("GET", "/apis/image.openshift.io/v1/imagestreams")["items"]
    expected = {
        f"{item['metadata']['namespace']}/{item['metadata']['name']}":
            int(datetime.datetime.fromisoformat(newest_time(item).replace("Z", "+00:00"))
                .timestamp()) * 10**9 for item in items}
    assert len(set(expected.values())) > 2
    for path, st in walk(odd.path).items():
        if path.count("/"):
            place = "/".join(path.split("/")[:2])
            assert st.st_mtime_ns == st.st_ctime_ns == expected[place], path


def test_inodes_of_another_mount_of_the_same_server(server, mount, start_mount):
    one, two = walk(mount.path), walk(start_mount(server).path)
    assert {path: st.st_ino for path, st in one.items()} == {
        path: st.st_ino for path, st in two.items()}


# Listings.

def test_listings_tell_kinds_and_inodes(mount):
    kinds = {stat.S_IFDIR: 4, stat.S_IFREG: 8}
    for path, st in walk(mount.path).items():
        if not stat.S_ISDIR(st.st_mode):
            continue
        with Listing(mount / path) as listing:
            entries = getdents(listing.fd, 32768)
        for ino, _, kind, name in entries:
            if name not in (".", ".."):
                child = os.lstat(mount / path / name)
                assert kind == kinds[stat.S_IFMT(child.st_mode)], f"{path}/{name}"
                assert ino == child.st_ino, f"{path}/{name}"
        names = [name for _, _, _, name in entries]
        assert names.count(".") <= 1 and names.count("..") <= 1


@pytest.fixture
def thousand(start_server):
    return start_server("--streams", 1000, "--tags", 1, "--namespaces", 1)


def test_a_long_listing(thousand, start_mount):
    place = start_mount(thousand) / "ns-0000"
    expected = set(os.listdir(place))
    items = thousand.request("GET", thousand.streams("ns-0000"))["items"]
    assert expected == {item["metadata"]["name"] for item in items}
    for size in (280, 4096, 65536):
        with Listing(place) as listing:
            names = listing.names(size)
        assert len(names) == 1000 and set(names) == expected
    with Listing(place) as listing:  # telldir, seekdir: the rest comes again
        entries = list(itertools.chain.from_iterable(listing.steps()))
        for at in (0, 1, 499, 998, 999):
            os.lseek(listing.fd, entries[at][1], os.SEEK_SET)
            assert listing.names() == [entry[3] for entry in entries[at + 1:]]
        os.lseek(listing.fd, 0, os.SEEK_SET)
        assert set(listing.names()) == expected
    with Listing(place) as one, Listing(place) as two:  # each goes its own way
        assert all(left == right for left, right in zip(one.steps(), two.steps()))


def test_a_slow_listing_while_streams_come_go_and_come_back(thousand, start_mount):
    place = start_mount(thousand) / "ns-0000"
    names = sorted(os.listdir(place))
    removed = names[5::200] + names[-5:]
    again = removed[:3]  # the same names, other objects
    made = [f"{letter}-new" for letter in "0amz"]  # before, among and after the others
    stay = set(names) - set(removed)
    changes = [("delete", name) for name in removed]
    changes += [("create", name) for name in made + again]
    found = []
    with Listing(place) as listing:
        for step, entries in enumerate(listing.steps()):
            found += [entry[3] for entry in entries]
            if step % 2 == 0 and changes:
                verb, name = changes.pop(0)
                getattr(thousand, verb)("ns-0000", name)
                conftest.wait_for(
                    lambda v=verb, n=name: (n in os.listdir(place)) == (v == "create"), 5, name)
    assert not changes, "the listing was over too soon"
    once = [name for name in found if name not in again]
    assert len(once) == len(set(once)) and stay <= set(found)
    with Listing(place) as listing:
        now = listing.names()
    assert len(now) == len(set(now)) and set(now) == stay | set(made) | set(again)
