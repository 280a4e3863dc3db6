"""mkdir and rmdir: streams and tags come and go; what must never be deleted on the way."""

import copy
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from conftest import wait_for
from test_save import (LOST, MERGE, NAMESPACE, VERDICTS, Stream, body, drafted, fails, hasty, image,
                       impatient, in_child, item, names, rejected, rig, save, sent, stream, tag,
                       template, text, without)

__all__ = ["hasty", "impatient", "rig", "stream"]  # fixtures
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
REAL = {"imagestream.json", "imagestream.yaml", "metadata.json", "spec.json", "status.json", "tags"}
TAGS_URL = f"/apis/image.openshift.io/v1/namespaces/{NAMESPACE}/imagestreamtags/"


def path_verdict(kind):
    """The errno of mkdir and rmdir: a path call never answers ESTALE."""
    number = VERDICTS[kind][1]
    if kind == "404":
        return errno.ENOENT
    return errno.EBUSY if number == errno.ESTALE else number


@pytest.fixture
def space(rig, stream):
    """Room for new streams: the directory of an empty namespace."""
    return rig.mount / "empty"


def fresh(space, count=iter(range(1000))):
    return space / f"new-{next(count)}"


def get(rig, path):
    return rig.server.get(path.parent.name, path.name)


def exists(rig, path):
    listed = rig.server.request("GET", rig.server.streams(path.parent.name))["items"]
    return path.name in {one["metadata"]["name"] for one in listed}


def verbs(requests):
    return [one["method"] for one in requests]


def mkdir(path):
    """By another process: what the server puts there isn't there for who made it."""
    number = in_child(os.mkdir, path)
    if number:
        raise OSError(number, os.strerror(number), path)


def clear(path):
    """All that is in it, so that its own rmdir is what is left to do."""
    with os.scandir(path) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)


def put(stream, obj):
    with stream.shows():
        stream.server.control("POST", "bulk", [{
            "op": "replace", "namespace": stream.namespace, "name": stream.name,
            "object": without(obj, "kind", "apiVersion")}])


def hollow(stream):
    """Without tags, so that its removal is one request."""
    put(stream, with_tags(template(stream.name), set()))
    return stream.get()


# mkdir of a stream.


def test_mkdir_of_a_stream(rig, space):
    path, links = fresh(space), os.stat(space).st_nlink
    assert not path.exists()  # the kernel may remember that
    mkdir(path)
    (request,) = sent(rig.server)
    assert (request["method"], request["path"]) == ("POST", rig.server.streams("empty"))
    assert "fieldValidation=Strict" in request["query"].split("&")
    assert body(request)["metadata"]["name"] == path.name
    assert not body(request).get("spec") and not body(request).get("status")
    assert names(path) == REAL
    assert names(path / "tags") == set() and path.name in names(space)
    assert os.stat(space).st_nlink == links + 1
    for name in ("imagestream.json", "spec.json", "metadata.json"):
        stream = Stream(rig.server, rig.mount, path.name, "empty")
        stream.holds(name, stream.value(name))
    with fails(errno.EEXIST):
        os.mkdir(path)
    save(path / "spec.json", text({"tags": [tag("v1", image("web:v1"))]}))
    assert names(path / "tags") == {"v1"}


def test_mode_of_mkdir_is_no_matter(rig, space):
    path = fresh(space)
    os.mkdir(path, 0)
    assert os.stat(path).st_mode & 0o7777 == 0o755
    assert exists(rig, path)


@pytest.mark.parametrize("name", ["UPPER", "under__score", "-dash", "dash-", "a b", "ümlaut", ".x",
                                  "x" * 250, "a%2Fb", "a:b"])
def test_name_that_no_stream_can_have(rig, space, name):
    with fails(errno.EINVAL):
        os.mkdir(space / name)
    assert not exists(rig, space / name) and name not in names(space)


def test_names_that_a_stream_can_have(rig, space):
    for name in ("spec.json", "tags", "a.b-c_d", "1.0", "x" * 240):
        mkdir(space / name)
        assert exists(rig, space / name) and (space / name / "spec.json").exists()
        os.rmdir(space / name)
        assert not exists(rig, space / name) and not (space / name).exists()


def test_mkdir_of_what_is_there_by_then(rig, start_server, start_mount):
    """The watch is dumb, so the mount can't know: the server's word counts."""
    server = start_server("--load", rig.load)
    stream = Stream(server, start_mount(server), "s-000")
    second = Stream(server, stream.mount, "s-001")
    hollow(second)
    wait_for(lambda: server.control("GET", "state")["watches"] >= 2, 5, "the watches")
    server.control("POST", "silence", {})
    server.create(NAMESPACE, "theirs")
    with fails(errno.EEXIST):
        os.mkdir(stream.path.parent / "theirs")
    server.request("PATCH", stream.url, {"spec": {"tags": [
        *stream.get()["spec"]["tags"], {"name": "theirs", "from": image("theirs:1")}]}}, MERGE)
    with fails(errno.EEXIST):
        os.mkdir(stream / "tags/theirs")
    assert stream.tags()["theirs"]["from"] == image("theirs:1")
    for one, path in ((stream, stream / "tags/v1"), (second, second.path)):
        obj = one.get()["metadata"]["uid"]
        server.delete(NAMESPACE, one.name)
        server.create(NAMESPACE, one.name)  # another stream by now
        clear(path)
        with fails(errno.EBUSY, errno.ENOENT):
            os.rmdir(path)
        assert one.get()["metadata"]["uid"] != obj


@pytest.mark.parametrize("kind", [
    "400", "401", "403", "quota", "404", "405", "422", "429", "500", "503", "hang"])
def test_mkdir_refused(rig, impatient, stream, kind):
    fault, number = VERDICTS[kind][0], path_verdict(kind)
    rig.server.fault(method="POST", path="/namespaces/empty/imagestreams$", **fault)
    path = fresh(impatient / "empty")
    with fails(number):
        os.mkdir(path)
    assert not exists(rig, path) and not path.exists()
    assert path.name not in names(path.parent)
    (entry,) = [one for one in impatient.errors() if (one["path"] or "").endswith(path.name)]
    assert entry["code"] == fault.get("status") and entry["request"].startswith("POST ")


def test_mkdir_that_is_there_already(rig, space):
    rig.server.fault(method="POST", path="/empty/imagestreams$", status=409,
                     reason="AlreadyExists", count=9)
    with fails(errno.EEXIST):
        os.mkdir(fresh(space))


@pytest.mark.parametrize("kind", LOST)
def test_mkdir_with_a_lost_answer(rig, space, kind):
    rig.server.fault(method="POST", path="/empty/imagestreams$", **LOST[kind])
    path = fresh(space)
    mkdir(path)
    assert exists(rig, path) and (path / "spec.json").exists()


# mkdir of a tag.


def test_mkdir_of_a_tag(stream):
    path, before = stream / "tags/new", stream.tags()
    assert not path.exists()
    mkdir(path)
    (request,) = stream.sent()
    assert request["method"] == "PATCH" and "fieldValidation=Strict" in request["query"]
    assert body(request)["metadata"]["resourceVersion"]
    now = stream.tags()
    assert "from" not in now["new"] and {**now, **before} == now and len(now) == 4
    assert names(path) == {"spec.json"} and "new" in names(stream / "tags")
    stream.holds("tags/new/spec.json", stream.value("tags/new/spec.json"))
    stream.holds("spec.json", stream.value("spec.json"))
    for name in ("new", "v1", "pushed"):
        with fails(errno.EEXIST):
            os.mkdir(stream / "tags" / name)
    assert len(stream.sent()) == 1
    value = {**stream.value("tags/new/spec.json"), "from": image("new:1")}
    save(path / "spec.json", text(value))
    assert stream.tags()["new"]["from"] == image("new:1")


ODD = {"a%2Fb": "a/b", "a%2F": "a/", "100%25": "100%", "%2Ehidden": ".hidden", "%2E": ".",
       "%2E.": "..", "%00": "", "a:b@c": "a:b@c", "line%0Abreak": "line\nbreak",
       "with space": "with space", "ümlaut": "ümlaut", "spec.json": "spec.json", "tags": "tags",
       "quote\"'\\": "quote\"'\\", "nul%00": "nul\0"}


@pytest.mark.parametrize("name", ODD)
def test_odd_tags_come_and_go(stream, name):
    before, history = stream.tags(), stream.history()
    path = stream / "tags" / name
    mkdir(path)
    assert set(stream.tags()) == set(before) | {ODD[name]}
    assert name in names(stream / "tags") and names(path) == {"spec.json"}
    value = stream.tags()[ODD[name]]
    save(path / "spec.json", text({**without(value, "generation"), "from": image("odd:1")}))
    assert stream.tags()[ODD[name]]["from"] == image("odd:1")
    shutil.rmtree(path)
    assert stream.tags() == before and stream.history() == history
    assert not path.exists() and name not in names(stream / "tags")


@pytest.mark.parametrize("name", ["a%2fb", "%41", "%", "100%", "%2", ".hidden", "%2E%2E", "a%2E"])
def test_names_that_no_tag_has(stream, name):
    """One tag, one name: what isn't the escaped form of any tag can't be made."""
    obj = stream.get()
    with fails(errno.EINVAL):
        os.mkdir(stream / "tags" / name)
    stream.is_untouched(obj)


@pytest.mark.parametrize("kind", ["403", "422", "500", "503", "hang"])
def test_mkdir_of_a_tag_refused(hasty, kind):
    hasty.fault(**VERDICTS[kind][0])
    with fails(path_verdict(kind)):
        os.mkdir(hasty / "tags/new")
    assert "new" not in hasty.tags() and "new" not in names(hasty / "tags")
    assert not (hasty / "tags/new").exists()


def test_mkdir_of_a_tag_while_somebody_is_faster(stream):
    stream.fault(count=1, bulk=[{"op": "touch-label", "namespace": NAMESPACE,
                                 "name": stream.name}])
    os.mkdir(stream / "tags/new")
    assert "new" in stream.tags() and [one["status"] for one in stream.sent()] == [409, 200]


@pytest.mark.parametrize("kind", LOST)
def test_mkdir_of_a_tag_with_a_lost_answer(stream, kind):
    stream.fault(**LOST[kind])
    mkdir(stream / "tags/new")
    assert set(stream.tags()) == {"latest", "new", "v1", "v2"}
    assert names(stream / "tags/new") == {"spec.json"}


def test_tag_that_is_added_while_under_way(stream):
    """EEXIST, and nothing of theirs is touched."""
    theirs = with_tags(stream.get(), {"new"})
    stream.fault(bulk=[{"op": "replace", "namespace": NAMESPACE, "name": stream.name,
                        "object": without(theirs, "kind", "apiVersion")}])
    with fails(errno.EEXIST):
        os.mkdir(stream / "tags/new")
    assert stream.tags()["new"]["from"] == image("odd:1")
    wait_for(lambda: names(stream / "tags") == {"new"}, 5, "what is announced")


def test_mkdir_of_the_same_tag_twice_at_once(stream):
    stream.fault(delay=0.3)
    seen = []

    def make():
        try:
            os.mkdir(stream / "tags/new")
            seen.append(0)
        except OSError as error:
            seen.append(error.errno)

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [0, errno.EEXIST, errno.EEXIST]


CALLER = """
import os, shutil, signal, sys
signal.signal(signal.SIGINT, lambda *_: None)
try:
    getattr(shutil if sys.argv[1] == "rmtree" else os, sys.argv[1])(*sys.argv[2:])
except OSError as error:
    sys.exit(error.errno)
"""


@pytest.mark.parametrize("call", ["mkdir", "rmtree", "mkdir tag", "rename"])
def test_path_calls_can_be_interrupted(rig, space, stream, call):
    obj = hollow(stream)
    if call == "rename":
        save(stream / "new", text({"tags": [tag("a", image("a:1"))]}), NEW)
    arguments = {"mkdir": [fresh(space)], "rmtree": [stream.path],
                 "mkdir tag": [stream / "tags/new"],
                 "rename": [stream / "new", stream / "spec.json"]}[call]
    rig.server.fault(path="/imagestreams", method={"mkdir": "POST", "rmtree": "DELETE"}.get(
        call, "PATCH"), hang=True)
    with subprocess.Popen([sys.executable, "-c", CALLER, call.split()[0], *arguments]) as child:
        wait_for(stream.sent, 10, "the request")
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == errno.EINTR
    assert stream.get() == obj and (call != "rename" or (stream / "new").exists())
    wait_for((stream / "spec.json").exists, 10, "what may be hidden")
    assert not (stream / "tags/new").exists()


# rmdir of a stream.


def test_rmdir_of_a_stream(rig, stream):
    """Nothing in it would be lost: it goes at once."""
    space, bare = stream.path.parent, hollow(stream)
    put(stream, {**bare, "metadata": without(bare["metadata"], "labels", "annotations")})
    uid = stream.get()["metadata"]["uid"]
    links = os.stat(space).st_nlink
    fd = os.open(stream / "spec.json", os.O_RDWR)
    content = os.read(fd, 65536)
    os.rmdir(stream.path)
    (request,) = stream.sent()
    assert (request["method"], request["path"]) == ("DELETE", stream.url)
    assert body(request)["preconditions"] == {"uid": uid}
    assert not stream.path.exists() and stream.name not in names(space)
    assert os.stat(space).st_nlink == links - 1
    assert not exists(rig, stream.path)
    assert os.pread(fd, 65536, 0) == content and os.fstat(fd).st_nlink == 0
    with fails(errno.ESTALE):
        os.pwrite(fd, content, 0)
    os.close(fd)
    with fails(errno.ENOENT):
        os.rmdir(stream.path)


def test_made_again_it_is_another(stream):
    before = os.stat(stream.path).st_ino, os.stat(stream / "spec.json").st_ino
    shutil.rmtree(stream.path)
    mkdir(stream.path)
    after = os.stat(stream.path).st_ino, os.stat(stream / "spec.json").st_ino
    assert not set(before) & set(after)
    assert names(stream / "tags") == set()
    assert names(stream.path) == REAL


def test_finalizers_hold_a_stream(stream):
    """Deleted, and still there: as the server shows it."""
    stream.change({"metadata": {"finalizers": ["example.org/keep"]}})
    shutil.rmtree(stream.path)
    assert stream.get()["metadata"]["deletionTimestamp"]
    stream.server.request("PATCH", stream.url, {"metadata": {"finalizers": None}}, MERGE)
    wait_for(lambda: not stream.path.exists(), 5, "its end")


@pytest.mark.parametrize("kind", ["400", "401", "403", "405", "429", "500", "503", "hang"])
def test_rmdir_refused(rig, hasty, kind):
    obj = hollow(hasty)
    hasty.fault(method="DELETE", **VERDICTS[kind][0])
    clear(hasty.path)
    with fails(path_verdict(kind)):
        os.rmdir(hasty.path)
    assert hasty.get() == obj
    wait_for((hasty / "spec.json").exists, 10, "what was hidden")
    assert hasty.name in names(hasty.path.parent)


def test_rmdir_of_what_is_gone(rig, stream):
    hollow(stream)
    clear(stream.path)
    stream.fault(method="DELETE", bulk=[
        {"op": "delete", "namespace": NAMESPACE, "name": stream.name}])
    with fails(errno.ENOENT):
        os.rmdir(stream.path)
    assert verbs(stream.sent()) == ["DELETE"] and not stream.path.exists()


def made_anew(stream):
    """Somebody deletes the stream and creates it again."""
    return [{"op": "delete", "namespace": NAMESPACE, "name": stream.name},
            {"op": "create", "object": template(stream.name)}]


def test_rmdir_of_what_was_made_anew(stream):
    hollow(stream)
    clear(stream.path)
    stream.fault(method="DELETE", bulk=made_anew(stream))
    with fails(errno.EBUSY):
        os.rmdir(stream.path)
    assert verbs(stream.sent()) == ["DELETE"] and set(stream.tags()) == {"latest", "v1", "v2"}


@pytest.mark.parametrize("kind", LOST)
def test_rmdir_with_a_lost_answer(rig, stream, kind):
    hollow(stream)
    stream.fault(method="DELETE", **LOST[kind])
    shutil.rmtree(stream.path)
    assert not exists(rig, stream.path) and not stream.path.exists()


# rmdir of a tag.


@pytest.mark.parametrize("name", ["v1", "latest", "pushed", "bare"])
def test_rmdir_of_a_tag(stream, name):
    """Spec and history, as oc tag -d does it."""
    mkdir(stream / "tags/bare")
    if name != "bare":
        clear(stream / "tags" / name)
    tags, history = stream.tags(), stream.history()
    links, count = os.stat(stream / "tags").st_nlink, len(stream.sent())
    os.rmdir(stream / "tags" / name)
    (request,) = stream.sent()[count:]
    assert request["method"] == "DELETE"
    assert request["path"] in (TAGS_URL + f"{stream.name}:{name}",
                               TAGS_URL + f"{stream.name}%3A{name}")
    assert body(request)["preconditions"] == {"uid": stream.get()["metadata"]["uid"]}
    tags.pop(name, None)
    history.pop(name, None)
    assert stream.tags() == tags and stream.history() == history
    assert not (stream / "tags" / name).exists() and name not in names(stream / "tags")
    assert os.stat(stream / "tags").st_nlink == links - 1
    for one in ("spec.json", "status.json", "imagestream.json"):
        stream.holds(one, stream.value(one))


def test_tag_made_again_is_another(stream):
    before = os.stat(stream / "tags/v1").st_ino, os.stat(stream / "tags/v1/spec.json").st_ino
    shutil.rmtree(stream / "tags/v1")
    mkdir(stream / "tags/v1")
    after = os.stat(stream / "tags/v1").st_ino, os.stat(stream / "tags/v1/spec.json").st_ino
    assert not set(before) & set(after)
    assert names(stream / "tags/v1") == {"spec.json"}


DANGERS = {"a%2F": "a/", "a%2Fb": "a/b", "a:b": "a:b", "a@b": "a@b", "%00": "", ":": ":",
           "%2F": "/", "a%2F..%2Fb": "a/../b", "%2E%2F": "./"}


def with_tags(obj, wanted, history=None):
    """The stream with these tags, in spec and in history (or another list there)."""
    obj = copy.deepcopy(obj)
    obj["spec"]["tags"] = [tag(name, image("odd:1")) for name in sorted(wanted)]
    obj["status"]["tags"] = [{"tag": name, "items": [item(number + 1)]} for number, name in
                             enumerate(sorted(wanted if history is None else history))]
    return obj


@pytest.mark.parametrize("name", DANGERS)
def test_odd_name_never_gets_into_a_url(stream, name):
    """The server would take DELETE …:a%2F for the tag a."""
    neighbours = {"a", "b", "latest", "v1", *DANGERS.values()}
    put(stream, with_tags(template(stream.name), neighbours))
    tags, history = stream.tags(), stream.history()
    shutil.rmtree(stream / "tags" / name)
    for request in stream.sent():
        assert "imagestreamtags" not in request["path"] and request["method"] == "PATCH"
        assert request["path"] in (stream.url, stream.url + "/status")
    assert set(stream.tags()) == neighbours - {DANGERS[name]}
    assert set(stream.history()) == neighbours - {DANGERS[name]}
    for one, before in ((stream.tags(), tags), (stream.history(), history)):
        assert one == {key: before[key] for key in one}
    assert name not in names(stream / "tags") and not (stream / "tags" / name).exists()
    assert {"a", "b"} <= names(stream / "tags")


@pytest.mark.parametrize("name", ["a%2F", "a:b", "%00"])
@pytest.mark.parametrize("where", ["spec", "history"])
def test_odd_name_in_one_place(stream, name, where):
    odd = DANGERS[name]
    put(stream, with_tags(template(stream.name), {"a", odd} if where == "spec" else {"a"},
                          {"a"} if where == "spec" else {"a", odd}))
    shutil.rmtree(stream / "tags" / name)
    assert set(stream.tags()) == {"a"} == set(stream.history())
    (request,) = stream.sent()
    assert request["path"] == stream.url + ("" if where == "spec" else "/status")


@pytest.mark.parametrize("status", [403, 405])
def test_without_imagestreamtags(stream, status):
    """Old servers and narrow rights: by patches of spec and status."""
    stream.server.fault(method="DELETE", path="/imagestreamtags/", status=status, count=9)
    tags, history = stream.tags(), stream.history()
    shutil.rmtree(stream / "tags/v1")
    assert verbs(stream.sent()) == ["DELETE", "PATCH", "PATCH"]
    assert {one["path"] for one in stream.sent()[1:]} == {stream.url, stream.url + "/status"}
    assert stream.tags() == without(tags, "v1") and stream.history() == without(history, "v1")
    assert not (stream / "tags/v1").exists()


@pytest.mark.parametrize("kind", ["400", "401", "404", "429", "500", "503", "hang"])
def test_rmdir_of_a_tag_refused(hasty, kind):
    obj = hasty.get()
    hasty.server.fault(method="DELETE", path="/imagestreamtags/", **VERDICTS[kind][0])
    clear(hasty / "tags/v1")
    with fails(path_verdict(kind)):
        os.rmdir(hasty / "tags/v1")
    assert hasty.get() == obj
    wait_for((hasty / "tags/v1/spec.json").exists, 10, "what was hidden")


def test_rmdir_of_a_tag_of_another_stream(stream):
    stream.server.fault(method="DELETE", path="/imagestreamtags/", bulk=made_anew(stream))
    clear(stream / "tags/v1")
    with fails(errno.EBUSY):
        os.rmdir(stream / "tags/v1")
    assert "v1" in stream.tags()


def test_mkdir_of_a_tag_of_another_stream(stream):
    stream.fault(bulk=made_anew(stream))
    with fails(errno.EBUSY):
        os.mkdir(stream / "tags/new")
    assert "new" not in stream.tags()


@pytest.mark.parametrize("kind", LOST)
def test_rmdir_of_a_tag_with_a_lost_answer(stream, kind):
    stream.server.fault(method="DELETE", path="/imagestreamtags/", **LOST[kind])
    shutil.rmtree(stream / "tags/v1")
    assert "v1" not in stream.tags() and "v1" not in stream.history()
    assert not (stream / "tags/v1").exists()


@pytest.fixture
def developer(rig, start_mount):
    """A stream with tags of odd names, as one sees it who has no right to status."""
    rig.server.reset()
    stream = Stream(rig.server, start_mount(rig.server, "--context", "developer"), "s-002", "dev")
    put(stream, with_tags(template(stream.name, "dev"), {"a", "a/", "plain"},
                          {"a", "a/", "history:only", "plain"}))
    yield stream
    rig.server.control("DELETE", "faults")


def test_without_the_right_to_status(developer):
    obj = developer.get()
    for name in ("a%2F", "history:only"):
        clear(developer / "tags" / name)
        with fails(errno.ENOTEMPTY):
            os.rmdir(developer / "tags" / name)
    developer.is_untouched(obj)
    shutil.rmtree(developer / "tags/plain")  # the server does it itself
    assert verbs(developer.sent()) == ["DELETE"]
    assert "plain" not in developer.tags() and "plain" not in developer.history()
    os.mkdir(developer / "tags/new%2F")
    os.rmdir(developer / "tags/new%2F")  # no history: the spec's patch is enough
    assert set(developer.tags()) == {"a", "a/"}
    assert set(developer.history()) == {"a", "a/", "history:only"}
    developer.server.fault(method="DELETE", path="/imagestreamtags/", status=403, count=9)
    clear(developer / "tags/a")
    with fails(errno.ENOTEMPTY):
        os.rmdir(developer / "tags/a")
    assert "a" in developer.tags() and "a" in developer.history()


# What can't be made, removed or renamed.


def test_namespaces_are_not_ours(rig, stream):
    top = rig.mount.path
    for call in (lambda: os.mkdir(top / "new"), lambda: os.rmdir(top / NAMESPACE),
                 lambda: os.rmdir(top / "empty"), lambda: os.rename(top / "empty", top / "full")):
        with fails(errno.EPERM):
            call()
    assert "empty" in names(top) and stream.sent() == []


def test_streams_and_tags_have_no_other_name(rig, stream):
    obj, space, tags = stream.get(), stream.path.parent, stream / "tags"
    os.mkdir(stream / "directory")
    for old, new in ((stream.path, space / "renamed"), (stream.path, rig.mount / "empty/moved"),
                     (tags / "v1", tags / "renamed"), (tags / "v1", tags / "v2"),
                     (tags / "v1", stream / "moved"), (stream.path, space / "marker"),
                     (stream / "directory", tags / "v9"), (stream / "directory", space / "new")):
        with fails(errno.EPERM):
            os.rename(old, new)
    stream.is_untouched(obj)
    assert {"v1", "v2"} <= names(tags) and "directory" in names(stream.path)


def test_rmdir_of_tags_hides_it(stream):
    obj, path = hollow(stream), stream / "tags"
    before = os.stat(path).st_ino
    os.rmdir(path)
    assert not path.exists() and "tags" not in names(stream.path)
    wait_for(path.exists, 5, "what was hidden")
    assert names(path) == set()
    assert os.stat(path).st_ino != before
    stream.is_untouched(obj)


def test_rmdir_and_unlink_are_not_the_same(stream):
    for name in ("spec.json", "tags/v1/image"):
        with fails(errno.ENOTDIR):
            os.rmdir(stream / name)
    for path in (stream.path, stream / "tags", stream / "tags/v1"):
        with fails(errno.EISDIR, errno.EPERM):
            os.unlink(path)
    assert stream.sent() == []


def test_no_delete(rig, start_mount):
    mount = start_mount(rig.server, "-o", "nodelete")
    stream = Stream(rig.server, mount, next(rig.names))
    rig.server.reset()
    obj = stream.get()
    for path in (stream.path, stream / "tags/v1", stream / "tags/pushed"):
        with fails(errno.EPERM):
            os.rmdir(path)
    stream.is_untouched(obj)
    done = subprocess.run(["rm", "-r", stream.path], capture_output=True, check=False)
    assert done.returncode != 0 and stream.get() == obj
    os.mkdir(stream / "tags/new")
    os.mkdir(stream / "directory")
    os.rmdir(stream / "directory")  # scratch is one's own
    wait_for((stream / "metadata.json").exists, 5, "what rm has hidden")
    value = stream.value("metadata.json")
    value["labels"]["edited"] = "yes"
    save(stream / "metadata.json", text(value))
    assert stream.get()["metadata"]["labels"]["edited"] == "yes"


# rm -r.


def remove(path):
    done = subprocess.run(["rm", "-r", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_rm_of_a_stream(rig, stream):
    os.makedirs(stream / "directory/deeper")
    save(stream / "directory/file", "x", NEW)
    save(stream / "tags/v1/scratch", "x", NEW)
    os.symlink("nowhere", stream / "link")
    before = {one["metadata"]["name"] for one in rig.server.request(
        "GET", rig.server.streams(NAMESPACE))["items"]}
    remove(stream.path)
    after = {one["metadata"]["name"] for one in rig.server.request(
        "GET", rig.server.streams(NAMESPACE))["items"]}
    assert before - after == {stream.name} and not after - before
    assert not stream.path.exists()


def test_rm_of_a_stream_with_odd_tags(rig, stream):
    put(stream, with_tags(template(stream.name), {"a", *DANGERS.values(), *ODD.values()}))
    remove(stream.path)
    assert not exists(rig, stream.path) and not stream.path.exists()
    for request in stream.sent():
        if "imagestreamtags" in request["path"]:
            assert not re.search("[/@]|%2F|%40", request["path"].partition(TAGS_URL)[2])


def test_rm_of_a_tag(stream):
    remove(stream / "tags/v1")
    assert set(stream.tags()) == {"latest", "v2"}
    assert set(stream.history()) == {"latest", "pushed", "v2"}


def test_rm_of_a_fresh_stream(rig, space):
    path = fresh(space)
    os.makedirs(path / "tags/v1")
    remove(path)
    assert not exists(rig, path)


def test_draft_of_a_removed_tag(rig, stream):
    """Bare, so that it goes with the file in it: who unlinked that made it scratch."""
    content = json.dumps({"from": image("lost:1")})
    mkdir(stream / "tags/bare")
    fd = drafted(stream / "tags/bare/spec.json", content)
    os.rmdir(stream / "tags/bare")
    with fails(errno.ESTALE):
        os.close(fd)
    assert "bare" not in stream.tags()
    assert content.encode() in rig.state().values()


def test_rejected_goes_with_its_stream(stream):
    with fails(errno.EINVAL):
        save(stream / "spec.json", "{")
    assert all(path.exists() for path in rejected(stream / "spec.json"))
    stream.server.delete(NAMESPACE, stream.name)
    wait_for(lambda: not stream.path.exists(), 5, "its end")
    mkdir(stream.path)
    assert names(stream.path) == REAL
