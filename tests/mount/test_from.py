"""tags/TAG/from: one line says what a tag follows."""

import contextlib
import copy
import errno
import json
import os
import stat
import subprocess
import sys

import pytest
from conftest import wait_for
from events import Inotify
from test_save import (BIG, JSON, NAMESPACE, SAVES, STRATEGIC, VERDICTS, Stream, body, drafted, fails, hasty,
                       image, impatient, in_child, item, names, rejected, replace, rig, save, shell,
                       stream, tag, template, verdict)

__all__ = ["hasty", "impatient", "rig", "stream"]  # fixtures
REGISTRY = "image-registry.openshift-image-registry.svc:5000"
DIGEST = "sha256:%064x"
WAYS = ["close", "fsync", "rename"]
CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def path_of(stream, name="v1"):
    return stream / f"tags/{name}/from"


def try_again(path):
    """Where a rename is refused, nothing moves."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path.with_name(path.name + ".new"))


def follows(stream, name="v1"):
    return stream.tags()[name].get("from")


def stored(stream, obj, shows=True):
    """Puts it past every check of the server."""
    change = {"op": "replace", "namespace": stream.namespace, "name": stream.name, "object": {
        "kind": "ImageStream", "apiVersion": "image.openshift.io/v1", **obj}}
    with stream.shows() if shows else contextlib.nullcontext():
        stream.server.control("POST", "bulk", [change])


def with_tags(stream, *tags, **more):
    obj = template(stream.name, stream.namespace)
    obj["spec"]["tags"] = list(tags)
    stored(stream, {**obj, **more})


def pushed(number, stream, registry=REGISTRY):
    """An item of the cluster's own registry."""
    reference = f"{registry}/{stream.namespace}/{stream.name}@{DIGEST % number}"
    return {**item(number), "dockerImageReference": reference}


def push(stream, number=77, name="v2", registry=REGISTRY):
    """Somebody pushes; what `image` says then."""
    obj = copy.deepcopy(stream.get())
    entries = {one["tag"]: one for one in obj["status"].setdefault("tags", [])}
    entry = entries.setdefault(name, {"tag": name, "items": []})
    entry["items"] = [pushed(number, stream, registry), *(entry["items"] or [])]
    obj["status"]["tags"] = list(entries.values())
    stored(stream, obj)
    return entry["items"][0]["dockerImageReference"]


def reason(path):
    return rejected(path)[1].read_text()


def holds(stream, name, line, wanted):
    """The server has it, and the file says so, with the right size."""
    assert follows(stream, name) == wanted
    assert path_of(stream, name).read_text() == line
    assert os.stat(path_of(stream, name)).st_size == len(line.encode())


# Reading.

SHOWN = {
    "image": (image("web:v1"), "quay.io/example/web:v1"),
    "by digest": ({"kind": "DockerImage", "name": "h:5/a/b@" + DIGEST % 1}, "h:5/a/b@" + DIGEST % 1),
    "no kind": ({"name": "quay.io/a/b"}, "quay.io/a/b"),
    "tag alone": ({"kind": "ImageStreamTag", "name": "v2"}, "ImageStreamTag v2"),
    "tag": ({"kind": "ImageStreamTag", "name": "web:v2"}, "ImageStreamTag web:v2"),
    "there": ({"kind": "ImageStreamTag", "namespace": "dev", "name": "web:v2"},
              "ImageStreamTag dev/web:v2"),
    "own namespace": ({"kind": "ImageStreamTag", "namespace": NAMESPACE, "name": "web:v2"},
                      f"ImageStreamTag {NAMESPACE}/web:v2"),
    "empty namespace": ({"kind": "ImageStreamTag", "namespace": "", "name": "a:b"},
                        "ImageStreamTag a:b"),
    "ImageStreamImage": ({"kind": "ImageStreamImage", "name": "web@" + DIGEST % 3},
                         "ImageStreamImage web@" + DIGEST % 3),
    "slash": ({"kind": "ImageStreamTag", "name": "web:a/b"}, "ImageStreamTag web:a/b"),
    "slash there": ({"kind": "ImageStreamTag", "namespace": "dev", "name": "web:a/b"},
                    "ImageStreamTag dev/web:a/b"),
    "slash in a tag alone": ({"kind": "ImageStreamTag", "name": "a/b"}, "ImageStreamTag a%2Fb"),
    "percent": ({"kind": "ImageStreamTag", "name": "web:a%0Ab"}, "ImageStreamTag web:a%250Ab"),
    "newline": ({"kind": "ImageStreamTag", "name": "web:a\nb"}, "ImageStreamTag web:a%0Ab"),
    "spaces": ({"kind": "DockerImage", "name": " a b "}, "DockerImage %20a b%20"),
    "no ASCII": ({"kind": "ImageStreamTag", "name": "web:größe🐟"}, "ImageStreamTag web:größe🐟"),
    "no such kind": ({"kind": "Nonsense", "name": "x"}, "Nonsense x"),
    "no name": ({"kind": "DockerImage"}, ""),
    "no name of a tag": ({"kind": "ImageStreamTag", "name": ""}, "ImageStreamTag "),
    "more": ({"kind": "ImageStreamTag", "name": "web:v2", "fieldPath": "spec.x", "uid": "u"},
             "ImageStreamTag web:v2"),
}


@pytest.mark.parametrize("which", SHOWN)
def test_is_one_line(stream, which):
    """What it shows can be written again and changes nothing."""
    source, line = SHOWN[which]
    with_tags(stream, {**tag("v1", source), "reference": True})
    stream.server.reset()
    obj, path = stream.get(), path_of(stream)
    assert path.read_bytes() == line.encode() + b"\n"
    assert os.stat(path).st_size == len(line.encode()) + 1
    for way in SAVES.values():
        way(path, line + "\n")
    in_child(save, path, line + "\n")
    assert stream.sent() == [] and stream.get() == obj
    assert not any(one.exists() for one in rejected(path))


def test_is_there_where_the_tag_follows_something(stream):
    assert names(stream / "tags/v1") == {"from", "image", "spec.json", "status.json"}
    assert names(stream / "tags/pushed") == {"image", "status.json"}  # in status alone
    with_tags(stream, tag("empty", None), {"name": "none"}, tag("nothing", {}))
    for one in ("empty", "none", "nothing"):
        assert "from" not in names(stream / f"tags/{one}"), one
        with fails(errno.ENOENT):
            os.open(path_of(stream, one), os.O_RDONLY)


def test_mode_bits(rig, stream, start_mount):
    assert stat.S_IMODE(os.stat(path_of(stream)).st_mode) == 0o644
    mount = start_mount(rig.server, "--context", "viewer")
    path = path_of(Stream(rig.server, mount, "s-001", "dev"))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o444
    for call in (lambda: os.open(path, os.O_WRONLY), lambda: os.unlink(path),
                 lambda: os.rename(path, path.with_name("x")),
                 lambda: os.open(path.with_name("x"), os.O_WRONLY | os.O_CREAT)):
        with fails(errno.EACCES):
            call()
    assert os.access(path, os.R_OK) and (os.geteuid() == 0 or not os.access(path, os.W_OK))
    mount = start_mount(rig.server, "--read-only")
    with fails(errno.EROFS):
        os.open(path_of(Stream(rig.server, mount, "s-001", "dev")), os.O_WRONLY)


# Writing.

SAID = {
    "quay.io/example/web:v9\n": image("web:v9"),
    "quay.io/example/web:v9": image("web:v9"),
    "quay.io/example/web:v9\r\n": image("web:v9"),
    "\ufeffquay.io/example/web:v9\n": image("web:v9"),
    "  quay.io/example/web:v9 \t\n": image("web:v9"),
    "DockerImage quay.io/example/web:v9\n": image("web:v9"),
    "DockerImage\tquay.io/example/web:v9\n": image("web:v9"),
    "ImageStreamTag v2\n": {"kind": "ImageStreamTag", "name": "v2"},
    "ImageStreamTag NAME:v2\n": {"kind": "ImageStreamTag", "name": "NAME:v2"},
    "ImageStreamTag  NAME:v2": {"kind": "ImageStreamTag", "name": "NAME:v2"},
    "ImageStreamTag dev/s-001:v2\r\n": {
        "kind": "ImageStreamTag", "namespace": "dev", "name": "s-001:v2"},
    f"ImageStreamTag {NAMESPACE}/NAME:v2\n": {
        "kind": "ImageStreamTag", "namespace": NAMESPACE, "name": "NAME:v2"},
    f"ImageStreamImage NAME@{DIGEST % 3}\n": {
        "kind": "ImageStreamImage", "name": "NAME@" + DIGEST % 3},
    f"ImageStreamImage dev/s-001@{DIGEST % 3}\n": {
        "kind": "ImageStreamImage", "namespace": "dev", "name": "s-001@" + DIGEST % 3},
}


def named(stream, value):
    return json.loads(json.dumps(value).replace("NAME", stream.name))


@pytest.mark.parametrize("way", SAVES)
@pytest.mark.parametrize("said", SAID, ids=repr)
def test_says_what_the_tag_follows(stream, said, way):
    wanted, path = named(stream, SAID[said]), path_of(stream)
    before = stream.tags()
    SAVES[way](path, said.replace("NAME", stream.name))
    (request,) = stream.sent()
    if wanted["kind"] == "DockerImage":
        assert (request["method"], request["path"]) == ("PATCH", stream.url)
        assert list(body(request)["spec"]) == ["tags"]
    else:
        assert (request["method"], request["path"]) == (
            "PUT", stream.url.replace("imagestreams", "imagestreamtags") + ":v1")
        assert request["headers"]["content-type"].split(";")[0] == JSON
    assert "fieldValidation=Strict" in request["query"]
    assert body(request)["metadata"]["resourceVersion"]
    now = stream.tags()
    assert now.pop("v1")["from"] == wanted
    was = before.pop("v1")
    assert now == before
    for key in ("annotations", "importPolicy", "referencePolicy"):
        assert stream.tags()["v1"][key] == was[key]
    line = said.replace("NAME", stream.name).strip("\ufeff \t\r\n").replace("  ", " ")
    line = line.replace("DockerImage", "").strip()
    holds(stream, "v1", line + "\n", wanted)
    assert not any(one.exists() for one in rejected(path))


@pytest.mark.parametrize("line", SAID, ids=repr)
def test_shell_writes_it(stream, line):
    said = line.replace("NAME", stream.name)
    assert shell('printf %s "$2" > "$1"', path_of(stream), said) == (0, "")
    assert follows(stream) == named(stream, SAID[line])


@pytest.mark.parametrize("said, why", {
    "\n": "no reference", " \t\r\n": "no reference", "\ufeff": "no reference",
    "a\nb\n": "more than one line", "a\n\n": "more than one line", "\na\n": "more than one line",
    "a\rb\n": "more than one line", "a\r": None, "a\0b\n": "control character",
    "a\x1bb\n": "control character", "a\x7f\n": "control character",
    b"quay.io/\xff\n": "UTF-8", b"\xff\xfea\0\n\0": None, "ImageStreamTag\n": "no name",
    "ImageStreamTag \n": "no name", "ImageStreamImage\n": "no name", "DockerImage\n": "no name",
    "DockerImage \t\n": "no name", "ImageStreamTag dev/\n": "no name",
}.items(), ids=lambda one: repr(one)[:20])
def test_no_reference(stream, said, why):
    obj, path = stream.get(), path_of(stream)
    if why is None and said == "a\r":
        save(path, said)  # a carriage return at the end alone
        assert follows(stream) == {"kind": "DockerImage", "name": "a"}
        return
    for way in WAYS:
        with fails(verdict(errno.EINVAL, way)):
            SAVES[way](path, said)
        sentence, = reason(path).splitlines()
        assert len(sentence) > 10 and (why or "") in sentence
    kept = rejected(path)[0].read_bytes()
    assert kept == (said if isinstance(said, bytes) else said.encode())
    stream.is_untouched(obj)
    assert path.read_text() == "quay.io/example/web:v1\n"


def test_empty_text_is_no_save(stream):
    obj = stream.get()
    for call in (lambda: save(path_of(stream), ""), lambda: os.truncate(path_of(stream), 0)):
        call()
    assert shell(': > "$1"', path_of(stream)) == (0, "")
    stream.is_untouched(obj)
    assert path_of(stream).read_text() == "quay.io/example/web:v1\n"


def test_longer_than_anything(stream):
    obj = stream.get()
    with fails(errno.EINVAL):
        save(path_of(stream), "x" * 200_000)
    assert stream.get() == obj and rejected(path_of(stream))[0].stat().st_size == 200_000
    assert len(reason(path_of(stream))) < 5000


def test_refusals_of_the_server(stream):
    """The sentence names what it is, and the text stays."""
    obj, path = stream.get(), path_of(stream)
    for said, why in (("no such thing\n", "from"), ("Nonsense x\n", "valid values are"),
                      ("ImageStreamTag nosuch:v1\n", "Not found"),
                      (f"ImageStreamImage {stream.name}@{DIGEST % 99}\n", "from.name"),
                      ("ImageStreamTag a:b:c\n", "must be of the form")):
        for way in WAYS:
            with fails(verdict(errno.EINVAL, way)):
                SAVES[way](path, said)
            assert why in reason(path), said
            try_again(path)
        assert rejected(path)[0].read_text() == said
    assert stream.get() == obj
    save(path, "quay.io/example/web:v2\n")
    assert not any(one.exists() for one in rejected(path))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", VERDICTS)
def test_verdict(hasty, kind, way):
    """The same errno, whichever of the two requests is refused."""
    fault, number = VERDICTS[kind]
    hasty.server.fault(method="PUT", path="/imagestreamtags/", **{"count": 1, **fault})
    hasty.fault(**fault)
    obj, path = hasty.get(), path_of(hasty)
    expected = errno.ENOENT if (kind, way) == ("404", "rename") else verdict(number, way)
    with fails(expected):
        SAVES[way](path, "ImageStreamTag v2\n")
    assert hasty.get() == obj
    sent = [(one["method"], one["path"].split("/")[-2]) for one in hasty.sent()]
    assert sent[0] == ("PUT", "imagestreamtags")
    if kind in ("403", "quota", "405", "501"):
        assert sent[1:] == [("PATCH", "imagestreams")]
    else:
        assert {one[0] for one in sent} == {"PUT"}
    assert path.read_text() == "quay.io/example/web:v1\n"


@pytest.mark.parametrize("code", [403, 405])
def test_patch_where_tags_cannot_be_put(stream, code):
    stream.server.fault(method="PUT", path="/imagestreamtags/", status=code, count=1)
    save(path_of(stream), "ImageStreamTag v2\n")
    put, patch = stream.sent()
    assert put["method"] == "PUT" and patch["method"] == "PATCH" and patch["path"] == stream.url
    assert body(patch)["spec"]["tags"][0]["name"] == "v1"
    holds(stream, "v1", "ImageStreamTag v2\n", {"kind": "ImageStreamTag", "name": "v2"})


ODD = ["a/b", "a\nb", "100%", "a:b", "a@b", "", ".", "..", ".hidden", "ü🐟", "a b", "%2F", "a?b#c",
       "a&b=c", "nul\0inside", "x" * 200]


def escaped(name):
    """As the tree shows a tag's name."""
    out = "".join("%%%02X" % ord(one) if one in "/%\0" or ord(one) < 32 or ord(one) == 127 else one
                  for one in name)
    return "%2E" + out[1:] if out.startswith(".") else out or "%00"


@pytest.mark.parametrize("name", ODD, ids=lambda name: ascii(name)[:12])
@pytest.mark.parametrize("line", ["quay.io/example/web:new\n", "ImageStreamTag v2\n"])
def test_odd_names(stream, name, line):
    with_tags(stream, tag(name, image("web:v1")), tag("v2", image("web:v2")))
    stream.server.reset()
    shown = escaped(name)
    save(path_of(stream, shown), line)
    (request,) = stream.sent()
    plain = line.startswith("ImageStreamTag") and not set(name) & set("/:@\0") and name not in (
        "", ".", "..")
    assert request["method"] == ("PUT" if plain else "PATCH")
    assert follows(stream, name)["name"] == line.split()[-1]
    assert follows(stream, "v2") == image("web:v2")
    assert path_of(stream, shown).read_text() == line
    assert sorted(stream.tags()) == sorted([name, "v2"])


def test_what_no_line_says_is_kept(stream):
    source = {"kind": "ImageStreamTag", "name": "v2", "fieldPath": "spec.x", "apiVersion": "v1"}
    with_tags(stream, {**tag("v1", source), "reference": True}, tag("v2", image("web:v2")))
    stream.server.reset()
    for said in ("ImageStreamTag v2\r\n", f"ImageStreamTag {NAMESPACE}/v2", "ImageStreamTag v2"):
        save(path_of(stream), said)
    assert stream.sent() == [] and follows(stream) == source
    save(path_of(stream), "ImageStreamTag latest\n")
    assert follows(stream) == {"kind": "ImageStreamTag", "name": "latest"}
    assert stream.tags()["v1"]["reference"] is True


def test_all_else_survives_the_put(stream):
    """lookupPolicy, the tag's annotations and policies, labels of the stream."""
    one = {**tag("v1", image("web:v1"), description="first"), "reference": True,
           "importPolicy": {"importMode": "PreserveOriginal", "insecure": True},
           "referencePolicy": {"type": "Local"}}
    with_tags(stream, one, tag("v2", image("web:v2")))
    obj = stream.get()
    obj["spec"]["lookupPolicy"]["local"] = True
    stored(stream, obj)
    stream.server.reset()
    before = stream.get()
    save(path_of(stream), "ImageStreamTag v2\n")
    now = stream.get()
    assert [one["method"] for one in stream.sent()] == ["PUT"]
    assert now["spec"]["lookupPolicy"] == {"local": True}
    for key in ("labels", "annotations"):
        assert now["metadata"][key] == before["metadata"][key]
    after = stream.tags()["v1"]
    for key in ("annotations", "importPolicy", "referencePolicy", "reference"):
        assert after[key] == one[key], key
    assert stream.tags()["v2"] == {one["name"]: one for one in before["spec"]["tags"]}["v2"]


# A tag that isn't in spec.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("line", ["quay.io/example/web:new\n", "ImageStreamTag v2\n"])
def test_tag_in_status_alone(stream, line, way):
    path = path_of(stream, "pushed")
    with fails(errno.ENOENT):
        os.stat(path)
    if way == "rename":
        replace(path, line)
    else:
        fd = drafted(path, line, CREATE | os.O_EXCL)
        if way == "fsync":
            os.fsync(fd)
        os.close(fd)
    assert path.read_text() == line and follows(stream, "pushed")["name"] == line.split()[-1]
    assert names(path.parent) == {"from", "image", "spec.json", "status.json"}
    assert len(stream.sent()) == 1


def test_placeholder(stream):
    """mkdir makes a tag that follows nothing."""
    subprocess.run(["mkdir", stream / "tags/new"], check=True)
    path = path_of(stream, "new")
    assert names(path.parent) == {"spec.json"}
    assert shell('echo quay.io/example/web:new > "$1"', path) == (0, "")
    holds(stream, "new", "quay.io/example/web:new\n", image("web:new"))
    assert names(path.parent) >= {"from", "spec.json"}


def test_created_and_never_saved(stream):
    path = path_of(stream, "pushed")
    os.close(os.open(path, CREATE))
    wait_for(lambda: not path.exists(), 10, "its end")
    assert names(path.parent) == {"image", "status.json"} and stream.sent() == []


def test_created_and_refused(stream):
    path = path_of(stream, "pushed")
    with fails(errno.EINVAL):
        save(path, "a\nb\n", CREATE)
    assert rejected(path)[0].read_text() == "a\nb\n" and "more than one line" in reason(path)
    wait_for(lambda: not path.exists(), 10, "its end")
    os.rename(rejected(path)[0], path.with_name("draft"))
    assert stream.sent() == []


def test_from_goes_with_the_reference(stream):
    """spec.json without it: the tag is a placeholder, and has no from."""
    value = stream.value("tags/v1/spec.json")
    del value["from"]
    path = path_of(stream)
    (stream / "tags/v1/spec.json").read_text()
    save(stream / "tags/v1/spec.json", json.dumps(value))
    assert not path.exists() and "from" not in names(path.parent)
    save(path, "ImageStreamTag v2\n", CREATE)
    holds(stream, "v1", "ImageStreamTag v2\n", {"kind": "ImageStreamTag", "name": "v2"})


# Conflicts.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("line", ["quay.io/example/web:mine\n", "ImageStreamTag v2\n"])
def test_changed_meanwhile(stream, line, way):
    path = path_of(stream)
    assert path.read_text() == "quay.io/example/web:v1\n"
    stream.change({"spec": {"tags": [{"name": "v1", "from": image("web:theirs")}]}}, STRATEGIC)
    obj = stream.get()
    with fails(verdict(errno.ESTALE, way)):
        SAVES[way](path, line)
    assert stream.get() == obj and stream.sent() == []
    for word in ("web:v1", "web:theirs", line.split()[-1]):
        assert word in reason(path)
    path.read_text()
    save(path, line)  # seen now
    assert follows(stream)["name"] == line.split()[-1]


def test_same_change_is_none(stream):
    path = path_of(stream)
    path.read_text()
    stream.change({"spec": {"tags": [{"name": "v1", "from": image("web:both")}]}}, STRATEGIC)
    before = len(stream.sent())
    save(path, "quay.io/example/web:both\n")
    assert len(stream.sent()) == before


def test_changes_beside_it_are_merged(stream):
    path = path_of(stream)
    path.read_text()
    stream.change({"spec": {"tags": [{"name": "v1", "annotations": {"theirs": "yes"}}]}}, STRATEGIC)
    save(path, "ImageStreamTag v2\n")
    assert follows(stream) == {"kind": "ImageStreamTag", "name": "v2"}
    assert stream.tags()["v1"]["annotations"]["theirs"] == "yes"


def test_tag_that_went_meanwhile(stream):
    path = path_of(stream)
    path.read_text()
    fd = drafted(path, "quay.io/example/web:mine\n")
    stream.change({"spec": {"tags": [{"name": "v1", "$patch": "delete"}]}}, STRATEGIC)
    obj = stream.get()
    with fails(errno.ESTALE):
        os.close(fd)
    assert stream.get() == obj


@pytest.mark.parametrize("after", [False, True], ids=["before the PUT", "behind it"])
def test_somebody_else_at_the_same_time(stream, after):
    """Before the PUT it is a 409, looked at again; behind it the next look has both."""
    touched = {"modify": {"match": f"^{stream.name}$", "namespace": stream.namespace,
                          "change": "label"}}
    stream.server.fault(method="PUT", path="/imagestreamtags/", count=1, after=after, bulk=touched)
    save(path_of(stream), "ImageStreamTag v2\n")
    assert follows(stream) == {"kind": "ImageStreamTag", "name": "v2"}
    assert "touched" in stream.get()["metadata"]["labels"]
    wait_for(lambda: "touched" in (stream / "metadata.json").read_text(), 5, "the label")
    assert len(stream.sent()) == (1 if after else 2)
    # The next save of the whole object isn't held for ours alone.
    assert path_of(stream).read_text() == "ImageStreamTag v2\n"


def test_theirs_between_the_put_and_the_look(stream):
    """The whole object that was read before is a conflict then: it isn't our change alone."""
    value = json.loads((stream / "imagestream.json").read_text())
    touched = {"modify": {"match": f"^{stream.name}$", "namespace": stream.namespace,
                          "change": "label"}}
    stream.server.fault(method="PUT", path="/imagestreamtags/", count=1, after=True, bulk=touched)
    save(path_of(stream), "ImageStreamTag v2\n")
    value["metadata"]["labels"]["mine"] = "yes"
    obj = stream.get()
    with fails(errno.ESTALE):
        save(stream / "imagestream.json", json.dumps(value))
    assert stream.get() == obj


def test_our_own_put_is_no_conflict(stream):
    value = json.loads((stream / "imagestream.json").read_text())
    save(path_of(stream), "ImageStreamTag v2\n")
    value["metadata"]["labels"]["mine"] = "yes"
    save(stream / "imagestream.json", json.dumps(value))
    now = stream.get()
    assert now["metadata"]["labels"]["mine"] == "yes"
    assert follows(stream) == {"kind": "ImageStreamTag", "name": "v2"}


@pytest.mark.parametrize("method, path", [("PUT", "/imagestreamtags/"), ("GET", None)])
def test_lost_answer(stream, method, path):
    """The PUT was applied and nobody said so; or the look behind it failed."""
    fault = {"method": method, "path": path or f"/imagestreams/{stream.name}$", "count": 1}
    fault |= {"close": True, "after": True} if method == "PUT" else {"status": 503, "text": "away"}
    stream.server.fault(**fault)
    save(path_of(stream), "ImageStreamTag v2\n")
    holds(stream, "v1", "ImageStreamTag v2\n", {"kind": "ImageStreamTag", "name": "v2"})
    assert not any(one.exists() for one in rejected(path_of(stream)))


def test_look_that_fails_for_good(hasty):
    """The tag was put: whether it is known to be saved or not, nothing claims the contrary."""
    hasty.server.fault(method="GET", path=f"/imagestreams/{hasty.name}$", status=500, count=1000)
    with pytest.raises(OSError):
        save(path_of(hasty), "ImageStreamTag v2\n")
    hasty.server.control("DELETE", "faults")
    assert follows(hasty) == {"kind": "ImageStreamTag", "name": "v2"}
    kept, why = rejected(path_of(hasty))
    assert kept.read_text() == "ImageStreamTag v2\n" and why.read_text().strip()
    save(path_of(hasty), kept.read_text())
    assert not kept.exists()


# inotify.


def test_events(stream):
    """What the server changes raises what a local change would."""
    place = path_of(stream).parent
    place.joinpath("from").read_text()
    watcher = Inotify()
    watcher.add(place)

    def expect(*flags):
        seen = []
        for wanted in flags:
            events = watcher.until(lambda event: event[1] == "from" and
                                   event[2].startswith(wanted), 10)
            assert events, f"no {wanted}"
            seen += events
        return seen

    def patched(**fields):
        stream.server.request("PATCH", stream.url, {"spec": {"tags": [{"name": "v1", **fields}]}},
                              STRATEGIC)

    patched(**{"from": image("web:theirs")})
    expect("MODIFY", "CLOSE_WRITE")
    assert place.joinpath("from").read_text() == "quay.io/example/web:theirs\n"
    patched(annotations={"touched": "yes"})
    assert not [event for event in watcher.take(2, 5, 0.2) if event[1] == "from"
                and not set(event[2].split("|")) <= {"OPEN", "ACCESS", "CLOSE_NOWRITE"}]
    patched(**{"from": None})
    expect("DELETE")
    patched(**{"from": image("web:back")})
    expect("CREATE")
    assert place.joinpath("from").read_text() == "quay.io/example/web:back\n"
    watcher.close()


def test_own_save_is_told_of_the_other_files(stream):
    watcher = Inotify()
    watcher.add(path_of(stream).parent)
    save(path_of(stream), "quay.io/example/web:v9\n")
    assert watcher.until(lambda one: one[1] == "spec.json" and one[2].startswith("MODIFY"), 10)
    spec = json.loads((stream / "tags/v1/spec.json").read_text())
    assert spec["from"] == image("web:v9")
    watcher.close()


def test_saving_spec_tells_of_from(stream):
    path_of(stream).read_text()
    watcher = Inotify()
    watcher.add(path_of(stream).parent)
    value = stream.value("tags/v1/spec.json")
    value["from"] = image("web:v9")
    save(stream / "tags/v1/spec.json", json.dumps(value))
    assert path_of(stream).read_text() == "quay.io/example/web:v9\n"
    assert watcher.until(lambda one: one[1] == "from" and one[2].startswith("MODIFY"), 10)
    watcher.close()


def test_time_moves_with_the_bytes_alone(stream):
    before = os.stat(path_of(stream)).st_mtime_ns
    stream.change({"spec": {"tags": [{"name": "v1", "annotations": {"x": "y"}}]}}, STRATEGIC)
    assert os.stat(path_of(stream)).st_mtime_ns == before
    stream.change({"spec": {"tags": [{"name": "v1", "from": image("web:v9")}]}}, STRATEGIC)
    assert os.stat(path_of(stream)).st_mtime_ns > before


# Names.


def test_unlinked_and_made_again(stream):
    path, obj = path_of(stream), stream.get()
    os.unlink(path)
    assert "from" not in names(path.parent)
    save(path, "ImageStreamTag v2\n", CREATE | os.O_EXCL)
    holds(stream, "v1", "ImageStreamTag v2\n", {"kind": "ImageStreamTag", "name": "v2"})
    os.unlink(path)
    wait_for(path.exists, 10, "its return")
    assert path.read_text() == "ImageStreamTag v2\n" and stream.get() != obj


def test_renamed_away_and_back(stream):
    path, obj = path_of(stream), stream.get()
    os.rename(path, path.with_name("from~"))
    assert path.with_name("from~").read_text() == "quay.io/example/web:v1\n"
    assert not path.exists()
    os.rename(path.with_name("from~"), path)
    stream.is_untouched(obj)
    assert names(path.parent) == {"from", "image", "spec.json", "status.json"}


def test_held_while_it_goes(stream):
    path = path_of(stream)
    with open(path) as held:
        stream.change({"spec": {"tags": [{"name": "v1", "from": None}]}}, STRATEGIC)
        assert os.fstat(held.fileno()).st_nlink == 0
        assert held.read() == "quay.io/example/web:v1\n"
        with fails(errno.ESTALE):  # what was read is what others removed
            save(path, "quay.io/example/web:mine\n", CREATE)
    assert "from" not in stream.tags()["v1"]


def test_image_renamed_onto_it(stream):
    """A rename onto the name is a save, whatever was renamed."""
    text = (stream / "tags/v1/image").read_text()
    os.rename(stream / "tags/v1/image", path_of(stream))
    assert follows(stream) == {"kind": "DockerImage", "name": text.strip()}
    wait_for((stream / "tags/v1/image").exists, 10, "its return")


def test_unchanged_text_of_an_image_that_is_nowhere(stream):
    """What it shows already is never looked up: a backup that is laid back, word for word."""
    for number, name in enumerate((f"{REGISTRY}/{NAMESPACE}/{stream.name}@{DIGEST % 2}",
                                   f"{REGISTRY}/other/x@{DIGEST % 99}")):
        with_tags(stream, tag("v1", {"kind": "DockerImage", "name": name}),
                  status={"tags": [{"tag": "v1", "items": [pushed(2, stream)]}]},
                  metadata={"name": stream.name, "annotations": {"n": str(number)}})
        stream.server.reset()
        for way in SAVES.values():
            way(path_of(stream), name + "\n")
        in_child(save, path_of(stream), name)
        assert stream.sent() == [] and follows(stream) == {"kind": "DockerImage", "name": name}


# Whose flush.


def test_command_in_a_group(stream):
    (stream / "line").write_text("ImageStreamTag v2\n")
    assert shell('{ cat "$2"; } > "$1"', path_of(stream), stream / "line") == (0, "")
    assert follows(stream) == {"kind": "ImageStreamTag", "name": "v2"}
    assert len(stream.sent()) == 1


def test_parts_in_a_group(stream):
    assert shell('{ /bin/echo -n "ImageStreamTag "; /bin/echo v2; } > "$1"',
                 path_of(stream)) == (0, "")
    assert follows(stream) == {"kind": "ImageStreamTag", "name": "v2"}
    assert len(stream.sent()) == 1


def test_group_without_a_newline(stream):
    """Nobody else than the opener knows that it ends there."""
    assert shell('{ /bin/echo -n quay.io/example/web; /bin/echo -n :v9; } > "$1"',
                 path_of(stream)) == (0, "")
    holds(stream, "v1", "quay.io/example/web:v9\n", image("web:v9"))
    assert len(stream.sent()) == 1


def test_two_lines_in_a_group(stream):
    code, said = shell('{ /bin/echo -n "a"; /bin/echo -e "\\nb"; } > "$1"', path_of(stream))
    assert "more than one line" in reason(path_of(stream)) and stream.sent() == []


@pytest.mark.parametrize("command", [
    'sed -i s/v1/v9/ from', 'perl -pi -e s/v1/v9/ from', 'ed -s from <<< $\'s/v1/v9/\\nw\\nq\'',
    'sed s/v1/v9/ from > from.tmp && mv from.tmp from', 'sed s/v1/v9/ from | tee from.x > /dev/null; '
    'cp from.x from; rm from.x', 'x=$(sed s/v1/v9/ from); echo "$x" > from',
    'echo quay.io/example/web:v9 | tee from > /dev/null', 'echo quay.io/example/web:v9 >| from',
    'dd of=from status=none <<< quay.io/example/web:v9',
    'sed s/v1/v9/ from > /tmp/from.$$; install -m 644 /tmp/from.$$ from; rm /tmp/from.$$'])
def test_commands(stream, command):
    assert shell(f'cd "$1" && {command}', path_of(stream).parent) == (0, "")
    holds(stream, "v1", "quay.io/example/web:v9\n", image("web:v9"))
    assert names(path_of(stream).parent) == {"from", "image", "spec.json", "status.json"}


def test_appended(stream):
    """>> makes it a longer name."""
    assert shell('echo x >> "$1"', path_of(stream))[0] == 0  # bash doesn't look at close()
    assert "more than one line" in reason(path_of(stream))


# Promotion.


def promote(source, target):
    return shell('cat "$1" > "$2"', source, target)


def test_promotes_the_very_image(stream):
    push(stream)
    stream.server.reset()
    subprocess.run(["mkdir", stream / "tags/prod"], check=True)
    assert promote(stream / "tags/v2/image", path_of(stream, "prod")) == (0, "")
    holds(stream, "prod", f"ImageStreamImage {stream.name}@{DIGEST % 77}\n",
          {"kind": "ImageStreamImage", "name": f"{stream.name}@{DIGEST % 77}"})
    assert [one["method"] for one in stream.sent()][1:] == ["PUT"]
    history = {one["tag"]: one["items"] for one in stream.get()["status"]["tags"]}
    assert history["prod"][0]["image"] == DIGEST % 77
    assert (stream / "tags/prod/image").read_bytes() == (stream / "tags/v2/image").read_bytes()
    # Rolled back by the same words, with an older image.
    assert shell('cat "$1" > "$2"', stream / "tags/v2/image", path_of(stream, "prod")) == (0, "")


def test_promotes_into_a_tag_of_status(stream):
    push(stream)
    assert promote(stream / "tags/v2/image", path_of(stream, "pushed")) == (0, "")
    assert follows(stream, "pushed")["kind"] == "ImageStreamImage"


def test_promotes_from_another_namespace(rig, stream):
    other = Stream(rig.server, stream.mount, "s-005", "dev")
    push(other)
    assert promote(other / "tags/v2/image", path_of(stream)) == (0, "")
    wanted = {"kind": "ImageStreamImage", "namespace": "dev", "name": f"s-005@{DIGEST % 77}"}
    holds(stream, "v1", f"ImageStreamImage dev/s-005@{DIGEST % 77}\n", wanted)
    assert (stream / "tags/v1/image").read_text().endswith("@" + DIGEST % 77 + "\n")


def test_unknown_image_of_this_registry(stream):
    """An internal registry's image that isn't here can't be pulled by anybody."""
    obj, path = stream.get(), path_of(stream)
    for name in (f"{REGISTRY}/{NAMESPACE}/{stream.name}@{DIGEST % 98}",
                 f"{REGISTRY}/{NAMESPACE}/nosuch@{DIGEST % 2}", f"{REGISTRY}/nosuch/x@{DIGEST % 2}",
                 f"docker-registry.default.svc:5000/{NAMESPACE}/{stream.name}@{DIGEST % 2}"):
        for way in WAYS:
            with fails(verdict(errno.EINVAL, way)):
                SAVES[way](path, name + "\n")
            (sentence,) = reason(path).splitlines()
            assert "internal registry" in sentence and "another cluster" in sentence
            try_again(path)
    stream.is_untouched(obj)


def test_image_of_another_registry(stream):
    for name in (f"quay.io/a/b@{DIGEST % 2}", f"registry.example:5000/{NAMESPACE}/x@{DIGEST % 2}",
                 f"{REGISTRY}/{NAMESPACE}/{stream.name}:v2"):
        save(path_of(stream), name + "\n")
        holds(stream, "v1", name + "\n", {"kind": "DockerImage", "name": name})
    assert {one["method"] for one in stream.sent()} == {"PATCH"}


def test_image_of_the_public_route(stream):
    obj = stream.get()
    obj["status"]["publicDockerImageRepository"] = f"images.example/{NAMESPACE}/{stream.name}"
    push(stream, registry="images.example")
    save(path_of(stream), f"images.example/{NAMESPACE}/{stream.name}@{DIGEST % 77}\n")
    # This server tells no public route: another registry like any.
    assert follows(stream)["kind"] == "DockerImage"


@pytest.fixture
def tagger(rig, start_mount):
    """A mount of somebody who may edit in `work`, and what the test grants elsewhere."""
    def start(*rules):
        user = f"tagger-{os.urandom(4).hex()}"
        rig.server.control("POST", "grant", {"user": user, "namespace": NAMESPACE, "role": "edit"})
        if rules:
            rig.server.control("POST", "grant", {"user": user, "namespace": "hidden",
                                                 "rules": list(rules)})
        token = f"sha256~{user}"
        rig.server.control("POST", "token", {"user": user, "token": token})
        file = rig.directory / user
        file.write_text(token)
        return start_mount(rig.server, "--token-file", file)
    return start


LAYERS = {"resources": ["imagestreams/layers"], "verbs": ["get"]}
READ = {"resources": ["imagestreams", "imagestreamtags", "imagestreamimages"],
        "verbs": ["get", "list", "watch"]}
PROJECT = {"apiGroups": ["", "project.openshift.io"], "resources": ["namespaces", "projects"],
           "verbs": ["get"]}


def hidden(rig, number=77):
    """A stream of a namespace that is few people's."""
    stream = Stream(rig.server, rig.mount, "web", "hidden")
    rig.server.control("POST", "bulk", [{"op": "create", "namespace": "hidden", "name": "web",
                                         "object": {**template("web", "hidden"), "kind": "ImageStream",
                                                    "apiVersion": "image.openshift.io/v1"}}])
    wait_for(stream.path.exists, 10, "the stream")
    return push(stream, number)


def test_viewer_there_promotes(rig, stream, tagger):
    name = hidden(rig)
    mount = tagger(READ, PROJECT, LAYERS)
    ours = Stream(rig.server, mount, stream.name)
    source = mount / "hidden/web/tags/v2/image"
    wait_for(source.exists, 10, "the other namespace")
    assert source.read_text() == name + "\n"
    assert promote(source, path_of(ours)) == (0, "")
    assert follows(stream) == {"kind": "ImageStreamImage", "namespace": "hidden",
                               "name": "web@" + DIGEST % 77}


def test_right_to_pull_is_enough(rig, stream, tagger):
    """403 on the stream: the server decides."""
    name = hidden(rig)
    ours = Stream(rig.server, tagger(LAYERS), stream.name)
    save(path_of(ours), name + "\n")
    assert follows(stream) == {"kind": "ImageStreamImage", "namespace": "hidden",
                               "name": "web@" + DIGEST % 77}


@pytest.mark.parametrize("rules", [(), (READ, PROJECT)], ids=["nothing", "reading alone"])
def test_no_right_to_pull(rig, stream, tagger, rules):
    name = hidden(rig)
    ours = Stream(rig.server, tagger(*rules), stream.name)
    obj, path = stream.get(), path_of(ours)
    for said in (name + "\n", "ImageStreamTag hidden/web:v2\n"):
        for way in WAYS:
            with fails(errno.EACCES):
                SAVES[way](path, said)
            assert "Forbidden" in reason(path)
            try_again(path)
    assert stream.get() == obj


def test_without_the_right_to_put_tags(rig, stream, start_mount):
    """Who may patch the stream, but not write its tags: as a patch."""
    user = f"patcher-{os.urandom(4).hex()}"
    rules = [READ, PROJECT, {"resources": ["imagestreams"], "verbs": ["patch", "update"]}]
    rig.server.control("POST", "grant", {"user": user, "namespace": NAMESPACE, "rules": rules})
    rig.server.control("POST", "token", {"user": user, "token": "sha256~" + user})
    file = rig.directory / user
    file.write_text("sha256~" + user)
    ours = Stream(rig.server, start_mount(rig.server, "--token-file", file), stream.name)
    save(path_of(ours), "ImageStreamTag v2\n")
    assert [one["method"] for one in stream.sent()] == ["PUT", "PATCH"]
    assert follows(stream) == {"kind": "ImageStreamTag", "name": "v2"}


def test_followers_move_along(stream):
    """As the server does it on a PUT of the tag: what follows v1 has its image then."""
    with_tags(stream, tag("v1", image("web:v1")), tag("v2", image("web:v2")),
              tag("prod", {"kind": "ImageStreamTag", "name": "v1"}))
    save(path_of(stream), "ImageStreamTag v2\n")
    history = {one["tag"]: one["items"] for one in stream.get()["status"]["tags"]}
    assert history["v1"][0]["image"] == DIGEST % 3
    assert (stream / "tags/v1/image").read_text().endswith(DIGEST % 3 + "\n")
    if history.get("prod"):  # a server that knows of followers
        assert history["prod"][0]["image"] == DIGEST % 3
        assert (stream / "tags/prod/image").read_text().endswith(DIGEST % 3 + "\n")


def test_numbers_survive(stream):
    """A tag with a generation that no float holds."""
    with_tags(stream, {**tag("v1", image("web:v1")), "generation": BIG}, tag("v2", image("web:v2")))
    stream.server.reset()
    save(path_of(stream), "ImageStreamTag v2\n")
    assert '"generation"' not in json.dumps(body(stream.sent()[0])["tag"])


def test_dictionary_of_kinds_in_the_yaml_view(stream):
    save(path_of(stream), "ImageStreamTag v2\n")
    assert "kind: ImageStreamTag" in (stream / "imagestream.yaml").read_text()


def test_copied_over_spec_and_back(stream):
    """A line is no JSON, and JSON is no line."""
    obj = stream.get()
    for name, other in (("spec.json", "from"), ("from", "spec.json")):
        done = subprocess.run(["cp", stream / "tags/v1" / name, stream / "tags/v2" / other],
                              capture_output=True, text=True, check=False)
        assert done.returncode and "Invalid argument" in done.stderr
    stream.is_untouched(obj)


def test_another_process_has_seen_it(stream):
    """Read by a child, changed by others, written by the child: a conflict for that child alone."""
    script = ("import sys, os\np = sys.argv[1]\nopen(p).read()\nprint(flush=True)\n"
              "sys.stdin.readline()\nf = os.open(p, os.O_WRONLY | os.O_TRUNC)\n"
              "os.write(f, b'quay.io/example/web:mine\\n')\n"
              "try:\n os.close(f)\nexcept OSError as e:\n sys.exit(e.errno)\n")
    child = subprocess.Popen([sys.executable, "-c", script, path_of(stream)], text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    stream.change({"spec": {"tags": [{"name": "v1", "from": image("web:theirs")}]}}, STRATEGIC)
    child.communicate("\n")
    assert child.returncode == errno.ESTALE
    assert follows(stream) == image("web:theirs")
    save(path_of(stream), "quay.io/example/web:third\n")  # this process never looked
    assert follows(stream) == image("web:third")


def test_dry_run(rig, stream, start_mount):
    """Both requests carry it; the verdict is the server's, and nothing changes."""
    ours, obj = Stream(rig.server, start_mount(rig.server, "--dry-run"), stream.name), stream.get()
    for said in ("quay.io/example/web:v9\n", "ImageStreamTag v2\n"):
        save(path_of(ours), said)
    with fails(errno.EINVAL):
        save(path_of(ours), "ImageStreamTag nosuch:v1\n")
    assert all("dryRun=All" in one["query"] for one in stream.sent())
    assert [one["method"] for one in stream.sent()] == ["PATCH", "PUT", "PUT"]
    assert stream.get() == obj and path_of(ours).read_text() == "quay.io/example/web:v1\n"


@pytest.mark.parametrize("said", ['{"kind": "ImageStreamTag", "name": "v2"}\n', "istag web:v2\n",
                                  "kind: ImageStreamTag\n", "imagestreamtag web:v2\n",
                                  "docker://quay.io/a/b\n", "ImageStreamTag web:v2 # newest\n",
                                  '"quay.io/a/b"\n', "<html>\n"])
def test_other_spellings_are_refused(stream, said):
    """Whatever people think it is: nothing is made of it but what it says."""
    obj = stream.get()
    with fails(errno.EINVAL):
        save(path_of(stream), said)
    assert stream.get() == obj and rejected(path_of(stream))[0].read_text() == said
    assert len(reason(path_of(stream)).splitlines()[0]) < 500
