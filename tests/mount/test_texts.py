"""Texts as people have them: old ones, those of other objects, manifests; and what of them counts."""

import contextlib
import copy
import errno
import json
import os
import pathlib
import stat
import subprocess
import sys
import tempfile
import time

import pytest
import yaml
from conftest import Mount, Server, fails, wait_for
from test_from import CREATE, DIGEST, follows, pushed, stored, try_again
from test_save import (BIG, EDITS, MERGE, NAMESPACE, SAVES, STRATEGIC, Stream, body, drafted, image,
                       in_child, item, names, rejected, replace, rig, save, sent, shell, shown,
                       stream, tag, template, text, verdict, without)

__all__ = ["rig", "stream"]  # fixtures
WAYS = ["close", "fsync", "rename"]
NEWEST = 99
DAY = 24 * 3600
WHOLE = {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1"}
SERVERS_OWN = ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"]


def cp(source, target, *options):
    """What cp(1) says; "" if all is well."""
    done = subprocess.run(["cp", *options, source, target], capture_output=True, text=True,
                          check=False)
    assert (done.returncode == 0) == (done.stderr == ""), done.stderr
    return done.stderr


@pytest.fixture
def work(directory):
    return pathlib.Path(tempfile.mkdtemp(dir=directory))


def backup(stream, work, name):
    """A file as it was saved elsewhere some time ago; nobody on the mount has read it since."""
    path = work / name.replace("/", "-")
    path.write_text(text(stream.value(name)))
    return path


def why(path):
    return rejected(path)[1].read_text()


def push(stream, name="v2", number=NEWEST):
    """Somebody pushes."""
    obj = copy.deepcopy(stream.get())
    entry = next(one for one in obj["status"]["tags"] if one["tag"] == name)
    entry["items"] = [pushed(number, stream), *(entry["items"] or [])]
    stored(stream, obj)


def read_in_place(path, content, flags=os.O_WRONLY | os.O_TRUNC):
    """What an editor does: reads and then writes; another process than this one."""
    script = ("import os, sys\npath, content, flags = sys.argv[1:]\nopen(path, 'rb').read()\n"
              "fd = os.open(path, int(flags))\ndata = open(content, 'rb').read()\n"
              "os.write(fd, data)\ntry:\n    os.close(fd)\n"
              "except OSError as error:\n    sys.exit(error.errno)\n")
    with tempfile.NamedTemporaryFile("w", dir="/var/tmp") as file:
        file.write(content)
        file.flush()
        return subprocess.run([sys.executable, "-c", script, path, file.name, str(flags)],
                              check=False).returncode


# Status texts that are older than the status.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name, which", [("status.json", "v2"), ("tags/v2/status.json", "v2"),
                                         ("status.json", "pushed"),
                                         ("tags/pushed/status.json", "pushed")])
def test_old_status_rolls_nothing_back(stream, work, name, which, way):
    old = backup(stream, work, name)
    push(stream, which)
    stream.server.reset()
    obj, path = stream.get(), stream / name
    with fails(verdict(errno.ESTALE, way)):
        SAVES[way](path, old.read_text())
    assert f"tag {which};" in why(path) and "status-replace" in why(path)
    assert "older than the status" in why(path)
    stream.is_untouched(obj)


@pytest.mark.parametrize("name", ["status.json", "tags/v2/status.json"])
def test_backup_laid_over_a_pushed_stream(stream, work, name):
    """cp -r backup/. web/, of which the status is a part."""
    old = backup(stream, work, name)
    push(stream)
    stream.server.reset()
    obj = stream.get()
    for options in ((), ("-f",), ("-p",), ("--remove-destination",)):
        assert "Stale file handle" in cp(old, stream / name, *options)
        wait_for((stream / name).exists, 10, "its return")
    stream.is_untouched(obj)
    assert rejected(stream / name)[0].read_text() == old.read_text()


def test_who_read_the_status_may_take_items_away(stream, work):
    old = backup(stream, work, "tags/v2/status.json")
    push(stream)
    path = stream / "tags/v2/status.json"
    assert read_in_place(path, old.read_text()) == 0
    assert [one["image"] for one in stream.history()["v2"]] == [DIGEST % 3]


def test_who_read_it_before_the_push_is_in_conflict_or_merged(stream, work):
    """A text of before, by who saw the file before: no item is lost."""
    path = stream / "tags/v2/status.json"
    old = path.read_text()
    push(stream)
    save(path, old)  # nothing was changed in it
    assert stream.history()["v2"][0]["image"] == DIGEST % NEWEST
    edited = json.loads(old)
    edited["items"] = []
    with fails(errno.ESTALE):
        save(path, json.dumps(edited))
    assert stream.history()["v2"][0]["image"] == DIGEST % NEWEST


def test_newest_item_with_more_beside_it(stream, work):
    """A text that has the newest item may change the rest."""
    value = stream.value("tags/pushed/status.json")
    value["items"].pop()
    (work / "new").write_text(text(value))
    assert cp(work / "new", stream / "tags/pushed/status.json") == ""
    assert len(stream.history()["pushed"]) == 1


@pytest.mark.parametrize("change", [
    lambda value: value.update(items=[]), lambda value: value.update(items=None),
    lambda value: value.pop("items"), lambda value: value["items"].pop(0),
    lambda value: value["items"][0].update(image="sha256:" + "0" * 64),
    lambda value: value["items"][0].update(image="")], ids=range(6))
def test_without_the_newest_item(stream, work, change):
    value = stream.value("tags/pushed/status.json")
    change(value)
    (work / "new").write_text(text(value))
    obj = stream.get()
    assert "Stale file handle" in cp(work / "new", stream / "tags/pushed/status.json")
    whole = stream.value("status.json")
    change(next(one for one in whole["tags"] if one["tag"] == "pushed"))
    (work / "new").write_text(text(whole))
    assert "Stale file handle" in cp(work / "new", stream / "status.json")
    stream.is_untouched(obj)


def test_newest_item_deeper_in_the_text(stream, work):
    """What is there in another order isn't lost: the server says what becomes of it."""
    value = stream.value("tags/pushed/status.json")
    value["items"].reverse()
    (work / "new").write_text(text(value))
    assert cp(work / "new", stream / "tags/pushed/status.json") == ""
    assert [one["image"] for one in stream.history()["pushed"]] == [DIGEST % 4, DIGEST % 5]


def test_tags_without_items_are_lost_by_nobody(stream, work):
    obj = copy.deepcopy(stream.get())
    obj["status"]["tags"] = [{"tag": "failed", "items": None, "conditions": [
        {"type": "ImportSuccess", "status": "False", "reason": "NotFound", "generation": 2,
         "lastTransitionTime": "2026-11-09T10:00:00Z", "message": "not found"}]}]
    stored(stream, obj)
    (work / "new").write_text('{"tags": []}')
    assert cp(work / "new", stream / "status.json") == ""
    assert stream.history() == {}


def test_equal_status_is_none_of_this(stream, work):
    for name in ("status.json", "tags/v2/status.json"):
        assert cp(backup(stream, work, name), stream / name) == ""
    assert stream.sent() == []


# A text of something else.


def another(rig, **more):
    """A stream that is other than those of the template."""
    one = Stream(rig.server, rig.mount, next(rig.names))
    obj = template(one.name)
    obj["metadata"].update(labels={"app": "other"}, annotations={"note": "theirs"}, **more)
    obj["spec"] = {"lookupPolicy": {"local": True}, "tags": [
        tag("a", image("other:a")), tag("v1", {"kind": "ImageStreamTag", "name": "a"})]}
    stored(one, obj)
    rig.server.reset()
    return one


def is_copy(stream, of, before, spec=True):
    """Labels, annotations and spec are the other's; identity and status its own."""
    now = stream.get()
    for key in ("name", "namespace", "uid", "creationTimestamp", "ownerReferences", "finalizers"):
        assert now["metadata"].get(key) == before["metadata"].get(key), key
    for key in ("labels", "annotations"):
        assert now["metadata"].get(key) == of["metadata"].get(key), key
    if spec:
        assert shown(now, "spec.json") == shown(of, "spec.json")
    kept = {one["tag"]: one["items"] for one in now["status"].get("tags", [])}
    for one in before["status"]["tags"]:
        assert kept[one["tag"]][-1]["image"] == one["items"][-1]["image"], "its history"


def deleted(rig, stream):
    """What is kept of it: path → JSON."""
    top = rig.directory / "state/imagestreamfs/deleted"
    found = {}
    for path in top.rglob(f"{stream.name}@*.json*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        found[path] = json.loads(path.read_text())
    return found


FOREIGN = ["imagestream.json", "imagestream.yaml", "metadata.json"]


@pytest.mark.parametrize("name", FOREIGN)
def test_cp_of_another_stream(rig, stream, name):
    other = another(rig)
    before, of = stream.get(), other.get()
    assert cp(other / name, stream / name) == ""
    is_copy(stream, of, before, spec=name != "metadata.json")
    if name == "metadata.json":
        assert stream.get()["spec"] == before["spec"]
    assert other.get() == of
    (kept,) = deleted(rig, stream).values()
    assert without(kept["metadata"], "managedFields") == without(before["metadata"],
                                                                   "managedFields")
    assert kept["spec"]["tags"] == before["spec"]["tags"] and kept["status"] == before["status"]
    assert not any(one.exists() for one in rejected(stream / name))


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("command", [
    'cat "$1" > "$2"', 'cp -p "$1" "$2"', 'cp --remove-destination "$1" "$2"',
    'install -m 644 "$1" "$2"', 'cp "$1" "$2.new" && mv "$2.new" "$2"', 'rsync "$1" "$2"',
    'dd if="$1" of="$2" status=none', 'tee "$2" < "$1" > /dev/null'])
def test_by_any_command(rig, stream, name, command):
    other = another(rig)
    before = stream.get()
    assert shell(command, other / name, stream / name) == (0, "")
    is_copy(stream, other.get(), before, spec=name != "metadata.json")


@pytest.mark.parametrize("name", FOREIGN)
def test_whoever_read_the_file_edits_it(rig, stream, name):
    """Pasted into an editor: another uid is a mistake."""
    other = another(rig)
    obj, content = stream.get(), (other / name).read_text()
    assert read_in_place(stream / name, content) in (errno.EINVAL, errno.ESTALE)
    stream.is_untouched(obj)
    assert why(stream / name).strip() and deleted(rig, stream) == {}


def test_who_opened_it_for_reading_has_read_it(rig, stream):
    """rsync --inplace does, as the basis of what it writes: nothing is lost, nothing is done."""
    other, obj = another(rig), stream.get()
    for name in FOREIGN:
        assert shell('rsync --inplace "$1" "$2"', other / name, stream / name)[0] == 11
        assert rejected(stream / name)[0].read_bytes() == (other / name).read_bytes()
    stream.is_untouched(obj)


def test_after_its_own_save(rig, stream):
    """Who wrote a text of his own never saw the object: the next text may be of something else."""
    other = another(rig)
    before = stream.get()
    save(stream / "metadata.json", text(stream.edited("metadata.json")))
    save(stream / "metadata.json", (other / "metadata.json").read_text())
    is_copy(stream, other.get(), before, spec=False)


def test_of_another_namespace_and_name(rig, stream):
    other = Stream(rig.server, rig.mount, "s-007", "dev")
    before = stream.get()
    assert cp(other / "imagestream.json", stream / "imagestream.json") == ""
    now = stream.get()
    assert now["metadata"]["namespace"] == NAMESPACE and now["metadata"]["name"] == stream.name
    is_copy(stream, other.get(), before)


def test_of_an_object_that_was_deleted_and_made_again(rig, stream, work):
    """A backup of the stream of that name, which is another object."""
    old = backup(stream, work, "imagestream.json")
    value = json.loads(old.read_text())
    value["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555"
    value["metadata"]["labels"] = {"old": "yes"}
    old.write_text(text(value))
    before = stream.get()
    assert cp(old, stream / "imagestream.json") == ""
    is_copy(stream, value, before)


def test_ties_of_the_other_stay_there(rig, stream):
    """Its owner would take this one along, and its finalizer nobody would clear here."""
    owner = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u-1"}]
    other = another(rig, ownerReferences=owner, finalizers=["example.test/theirs"])
    stream.change({"metadata": {"finalizers": ["example.test/ours"]}})
    before = stream.get()
    for name in FOREIGN:
        assert cp(other / name, stream / name) == ""
        is_copy(stream, other.get(), before, spec=name != "metadata.json")
    assert stream.get()["metadata"]["finalizers"] == ["example.test/ours"]


def test_refused_by_the_server_is_still_kept(rig, stream):
    other = another(rig)
    stream.fault(method="PUT", status=422, count=1)
    obj = stream.get()
    assert "Invalid argument" in cp(other / "imagestream.json", stream / "imagestream.json")
    assert stream.get() == obj
    assert rejected(stream / "imagestream.json")[0].read_text() == text(
        other.value("imagestream.json"))
    subprocess.run(["cp", rejected(stream / "imagestream.json")[0], stream / "imagestream.json"],
                   check=True)
    is_copy(stream, other.get(), obj)


def test_kept_once_for_a_process(rig, stream):
    """A copy of three files keeps the stream as it was, not as it was in between."""
    other = another(rig)
    before = stream.get()
    assert shell('cp "$1/metadata.json" "$1/imagestream.json" "$2"', other.path,
                 stream.path) == (0, "")
    assert len(stream.sent()) == 2
    (kept,) = deleted(rig, stream).values()
    assert kept["metadata"]["labels"] == before["metadata"]["labels"]
    assert kept["spec"]["tags"] == before["spec"]["tags"]


def test_kept_again_for_another_process(rig, stream):
    other = another(rig)
    for command in (1, 2):
        assert cp(other / "imagestream.json", stream / "imagestream.json") == ""
        assert len(deleted(rig, stream)) == command
        stream.change({"metadata": {"labels": {"app": "again"}}})


def test_what_was_kept_can_be_made_again(rig, stream):
    other = another(rig)
    before = stream.get()
    assert cp(other / "imagestream.json", stream / "imagestream.json") == ""
    (path,) = deleted(rig, stream)
    stream.server.delete(NAMESPACE, stream.name)
    wait_for(lambda: not stream.path.exists(), 10, "its end")
    assert cp(path, stream.mount / NAMESPACE / ".api/create") == ""
    now = stream.get()
    assert shown(now, "spec.json") == shown(before, "spec.json")
    for key in ("labels", "annotations"):
        assert now["metadata"][key] == before["metadata"][key]


def test_kept_is_laid_back_by_cp(rig, stream):
    """Of this very object, with an old resourceVersion: .error says how."""
    before = stream.get()
    assert cp(another(rig) / "imagestream.json", stream / "imagestream.json") == ""
    (path,) = deleted(rig, stream)
    assert "Stale file handle" in cp(path, stream / "imagestream.json")
    assert "leave its resourceVersion out" in why(stream / "imagestream.json")
    assert ".api/apply" in why(stream / "imagestream.json")
    value = json.loads(path.read_text())
    del value["metadata"]["resourceVersion"]
    path.write_text(json.dumps(value))
    assert cp(path, stream / "imagestream.json") == ""
    assert shown(stream.get(), "spec.json") == shown(before, "spec.json")


@pytest.mark.parametrize("name", ["imagestream.json", "imagestream.yaml"])
def test_backup_is_never_taken_for_nothing(stream, work, name):
    """What changed since was changed here: by the version in it the text would say nothing new."""
    old = work / "old"
    subprocess.run(["cp", stream / name, old], check=True)  # a process that is gone
    assert shell('sed -i s/first/changed/ "$1"', stream / "tags/v1/spec.json") == (0, "")
    obj = stream.get()
    assert "Stale file handle" in cp(old, stream / name)
    assert "as it was at resourceVersion" in why(stream / name)
    shell('mv "$1" "$2.new"; mv "$2.new" "$2"', old, stream / name)
    assert stream.get() == obj


def test_backup_after_what_moves_by_itself_is_the_same(stream, work):
    old = work / "old"
    subprocess.run(["cp", stream / "imagestream.json", old], check=True)
    push(stream)
    obj = stream.get()
    assert cp(old, stream / "imagestream.json") == ""
    assert stream.get() == obj


def test_no_place_to_keep_it(rig, start_mount, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    mount = start_mount(rig.server)
    one, other = Stream(rig.server, mount, next(rig.names)), another(rig)
    before = one.get()
    assert cp(mount / NAMESPACE / other.name / "imagestream.json", one / "imagestream.json") == ""
    is_copy(one, other.get(), before)
    assert any("isn't kept" in error["message"] for error in mount.errors())


# The spec of another tag.


@pytest.mark.parametrize("way", [*WAYS, "cp"])
def test_spec_of_another_tag(rig, stream, work, way):
    content = text(stream.value("tags/v2/spec.json"))
    before = stream.get()
    if way == "cp":
        assert cp(stream / "tags/v2/spec.json", stream / "tags/v1/spec.json") == ""
    else:
        in_child(SAVES[way], stream / "tags/v1/spec.json", content)
    one, two = (stream.tags()[name] for name in ("v1", "v2"))
    assert without(one, "name", "generation") == without(two, "name", "generation")
    assert one["name"] == "v1"
    (kept,) = deleted(rig, stream).values()
    assert kept["spec"]["tags"] == before["spec"]["tags"]


def test_spec_of_another_tag_for_one_of_status(rig, stream):
    assert cp(stream / "tags/v2/spec.json", stream / "tags/pushed/spec.json") == ""
    assert stream.tags()["pushed"]["from"] == image("web:v2")
    assert stream.tags()["pushed"]["annotations"] == {"description": "second"}


def test_spec_of_another_tag_for_a_placeholder(stream):
    os.mkdir(stream / "tags/prod")
    assert cp(stream / "tags/v2/spec.json", stream / "tags/prod/spec.json") == ""
    assert follows(stream, "prod") == image("web:v2")


def test_spec_of_another_tag_by_who_read_it(stream):
    obj = stream.get()
    assert read_in_place(stream / "tags/v1/spec.json",
                         text(stream.value("tags/v2/spec.json"))) == errno.EINVAL
    assert "name" in why(stream / "tags/v1/spec.json")
    stream.is_untouched(obj)


def test_spec_without_a_name(rig, stream):
    """It says nothing of another tag."""
    value = stream.edited("tags/v1/spec.json")
    save(stream / "tags/v1/spec.json", text({**value, "name": None}))
    assert stream.tags()["v1"]["annotations"]["edited"] == "yes" and deleted(rig, stream) == {}


def test_odd_name_in_the_spec_of_another(stream):
    obj = stream.get()
    for name in (7, ["v2"], {"a": "b"}, True):
        with fails(errno.EINVAL):
            save(stream / "tags/v1/spec.json",
                 json.dumps({**stream.edited("tags/v1/spec.json"), "name": name}))
        assert "name" in why(stream / "tags/v1/spec.json")
    stream.is_untouched(obj)


def test_spec_of_the_tag_without_a_name(stream):
    """A tag may be called nothing: that is another's name, too."""
    stream.change({"spec": {"tags": [tag("", image("web:nameless"))]}}, STRATEGIC)
    assert cp(stream / "tags/%00/spec.json", stream / "tags/v1/spec.json") == ""
    assert follows(stream) == image("web:nameless")
    assert cp(stream / "tags/v2/spec.json", stream / "tags/%00/spec.json") == ""
    assert follows(stream, "") == image("web:v2")


@pytest.mark.parametrize("uid", [7, ["x"], {"a": "b"}, True, BIG, 1.5])
@pytest.mark.parametrize("name", ["imagestream.json", "metadata.json"])
def test_odd_uids(rig, stream, name, uid):
    """Whatever it is, the object keeps its own."""
    value = stream.value(name)
    value.get("metadata", value)["uid"] = uid
    value.get("metadata", value)["labels"] = {"odd": "yes"}
    before = stream.get()
    with contextlib.suppress(OSError):
        save(stream / name, text(value))
    assert stream.get()["metadata"]["uid"] == before["metadata"]["uid"]
    assert stream.mount.process.poll() is None


@pytest.mark.parametrize("metadata", [7, [], None, "x", {}, {"uid": "x"}, {"uid": "x", "labels": 7},
                                      {"uid": "x", "labels": []}, {"uid": "x", "annotations": "a"}])
def test_odd_metadata(stream, metadata):
    """No crash, and either the server's word or ours."""
    before = stream.get()
    with contextlib.suppress(OSError):
        save(stream / "imagestream.json", json.dumps({**WHOLE, "metadata": metadata,
                                                      "spec": before["spec"]}))
    now = stream.get()
    assert now["metadata"]["uid"] == before["metadata"]["uid"] and now["status"] == before["status"]


# Manifests.


def manifest(stream, **metadata):
    return {**WHOLE, "metadata": {"name": stream.name, **metadata}, "spec": {
        "lookupPolicy": {"local": True}, "tags": [{"name": "v1", "from": image("web:v7")}]}}


BLANK = {
    "nothing": {},
    "empty repository": {"status": {"dockerImageRepository": ""}},
    "empty tags": {"status": {"dockerImageRepository": "", "tags": []}},
    "null": {"status": None},
    "empty": {"status": {}},
    "nested": {"status": {"tags": [{"tag": "", "items": None, "conditions": []}], "x": [[], {}]}},
    "full of something": {"status": {"dockerImageRepository": "other/repository", "tags": [
        {"tag": "v9", "items": [item(77)]}]}},
}


@pytest.mark.parametrize("way", [*WAYS, "yaml"])
@pytest.mark.parametrize("which", BLANK)
def test_manifest_over_the_object(stream, which, way):
    """What has no resourceVersion is for any server; its status never counts."""
    value = {**manifest(stream, creationTimestamp=None), **BLANK[which]}
    before = stream.get()
    if way == "yaml":
        save(stream / "imagestream.yaml", yaml.safe_dump(value))
    else:
        SAVES[way](stream / "imagestream.json", text(value))
    now = stream.get()
    assert now["spec"]["lookupPolicy"] == {"local": True} and follows(stream) == image("web:v7")
    assert now["status"]["dockerImageRepository"] == before["status"]["dockerImageRepository"]
    assert now["metadata"]["uid"] == before["metadata"]["uid"]
    history = {one["tag"]: one["items"] for one in now["status"]["tags"]}
    assert history["pushed"] == stream_items(before, "pushed")


def stream_items(obj, name):
    return next(one["items"] for one in obj["status"]["tags"] if one["tag"] == name)


@pytest.mark.parametrize("metadata", [
    {"creationTimestamp": None}, {"creationTimestamp": "2020-01-01T00:00:00Z"},
    {"generation": 99}, {"selfLink": "/old"}, {"resourceVersion": ""}, {"resourceVersion": None},
    {"managedFields": []}, {"managedFields": [{"manager": "x", "operation": "Update"}]},
    {"deletionTimestamp": None}, {"uid": ""}, {"uid": None}, {"namespace": NAMESPACE},
    {"namespace": ""}, {"namespace": None}, {"labels": None}, {"annotations": {}},
    {"creationTimestamp": "2020-01-01T00:00:00Z", "generation": 7, "selfLink": "/x", "uid": "other"}],
    ids=lambda value: "-".join(value))
def test_manifest_with(stream, metadata):
    before = stream.get()
    save(stream / "imagestream.json", text(manifest(stream, **metadata)))
    now = stream.get()
    assert follows(stream) == image("web:v7")
    for key in ("name", "namespace", "uid", "creationTimestamp"):
        assert now["metadata"][key] == before["metadata"][key]


@pytest.mark.parametrize("version", ["v1", "image.openshift.io/v1", "", None])
def test_manifest_of_an_old_version(stream, version):
    save(stream / "imagestream.json", text({**manifest(stream), "apiVersion": version}))
    assert follows(stream) == image("web:v7")


@pytest.mark.parametrize("change", [{"kind": "Deployment"}, {"apiVersion": "apps/v1"},
                                    {"kind": "ImageStreamTag"}])
def test_manifest_of_another_kind(stream, change):
    obj = stream.get()
    with fails(errno.EINVAL):
        save(stream / "imagestream.json", text({**manifest(stream), **change}))
    assert next(iter(change)) in why(stream / "imagestream.json")
    stream.is_untouched(obj)


def test_manifest_of_another_name(stream):
    """Without a uid it may be a slip: which stream is meant?"""
    obj = stream.get()
    for change in ({"name": "else"}, {"namespace": "else"}):
        with fails(errno.EINVAL):
            save(stream / "imagestream.json", text(manifest(stream, **change)))
        assert "metadata." + next(iter(change)) in why(stream / "imagestream.json")
    stream.is_untouched(obj)


def test_manifest_by_who_read_it(stream):
    """Edited in place: the same."""
    value = {**manifest(stream, creationTimestamp=None), "status": {"dockerImageRepository": ""}}
    assert read_in_place(stream / "imagestream.json", text(value)) == 0
    assert follows(stream) == image("web:v7")


def test_status_is_no_edit_where_it_says_nothing(stream):
    """Also in a text with the resourceVersion: leaving it out and saying nothing are one."""
    for blank in ({"dockerImageRepository": ""}, {"dockerImageRepository": "", "tags": None}):
        value = {**stream.value("imagestream.json"), "status": blank}
        value["metadata"]["labels"]["n"] = str(len(blank))
        save(stream / "imagestream.json", text(value))
        assert stream.get()["metadata"]["labels"]["n"] == str(len(blank))
        assert stream.history()["pushed"]


# Equal texts.


def developer(rig, start_mount, *arguments, name="s-002"):
    """Who may edit, and not write the status; a stream of his."""
    mount = start_mount(rig.server, "--context", "developer", *arguments)
    return Stream(rig.server, mount, name, "dev")


EQUAL = ["status.json", "tags/v1/status.json", "tags/v1/image", "tags/pushed/status.json",
         "tags/pushed/image"]


@pytest.mark.parametrize("name", EQUAL)
def test_equal_text_of_what_nobody_may_write(rig, start_mount, name):
    one = developer(rig, start_mount)
    obj, path, content = one.get(), one / name, (one / name).read_bytes()
    before = os.stat(path)
    assert stat.S_IMODE(before.st_mode) == 0o444
    for way in SAVES.values():
        way(path, content)
    save(path, content, os.O_RDWR)
    save(path, content, CREATE)
    os.unlink(path)
    save(path, content, CREATE | os.O_EXCL)
    assert path.read_bytes() == content
    now = os.stat(path)
    assert (now.st_size, now.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert one.get() == obj and not any(path.exists() for path in rejected(path))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", EQUAL)
def test_other_text_of_what_nobody_may_write(rig, start_mount, name, way):
    one = developer(rig, start_mount)
    obj, path = one.get(), one / name
    content = path.read_text()
    if name.endswith("image"):
        other = "quay.io/example/other@" + DIGEST % 8 + "\n"
    else:
        value = json.loads(content)
        for entry in value.get("tags") or [value]:
            entry["items"] = [item(8), *(entry["items"] or [])]
        other = text(value)
    with fails(errno.EACCES):
        SAVES[way](path, other)
    assert ("`from`" in why(path)) == name.endswith("image") and why(path).strip()
    assert one.get() == obj and path.read_text() == content
    kept = path.with_name(path.name + ".new") if way == "rename" else rejected(path)[0]
    assert kept.read_text() == other


def test_mere_reader_is_refused_at_open(rig, start_mount):
    mount = start_mount(rig.server, "--context", "viewer")
    one = Stream(rig.server, mount, "s-003", "dev")
    for name in (*EQUAL, "spec.json", "imagestream.json", "tags/v1/from"):
        content = (one / name).read_text()
        for call in (lambda path=one / name: os.open(path, os.O_WRONLY),
                     lambda path=one / name: os.open(path, os.O_RDWR | os.O_TRUNC),
                     lambda path=one / name: os.unlink(path),
                     lambda path=one / name: os.truncate(path, 0),
                     lambda path=one / name: os.rename(path, path.with_name("x"))):
            with fails(errno.EACCES):
                call()
        assert (one / name).read_text() == content


@pytest.mark.parametrize("user", ["admin", "developer"])
@pytest.mark.parametrize("options", ["-a", "-a --inplace", "-rc --ignore-times", "-a --delay-updates",
                                     "-rlt --delete"])
def test_rsync_of_an_unchanged_backup(rig, start_mount, work, options, user):
    one = developer(rig, start_mount) if user == "developer" else Stream(
        rig.server, rig.mount, "s-002", "dev")
    subprocess.run(["cp", "-r", one.path, work / "backup"], check=True)
    obj = one.get()
    for _ in range(3):
        done = subprocess.run(["rsync", *options.split(), f"{work}/backup/", f"{one.path}/"],
                              capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    assert one.get() == obj and not list(one.path.rglob("*.error"))
    done = subprocess.run(["diff", "-r", work / "backup", one.path], capture_output=True,
                          text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("command", ['cp -r "$1/." "$2"', 'cp -a "$1/." "$2"',
                                     'tar -C "$1" -c . | tar -C "$2" -x --overwrite',
                                     'cp -rf --remove-destination "$1/." "$2"'])
def test_unchanged_backup_laid_back(rig, start_mount, work, command):
    one = developer(rig, start_mount)
    subprocess.run(["cp", "-r", one.path, work / "backup"], check=True)
    obj = one.get()
    for _ in range(2):
        assert shell(command, work / "backup", one.path) == (0, "")
    assert one.get() == obj and not list(one.path.rglob("*.error"))


def test_git_checkout(rig, start_mount, work):
    one = developer(rig, start_mount)
    obj = one.get()
    script = ('git init -q "$1/repo" && cp -r "$2/." "$1/repo" && cd "$1/repo" && git add -A && '
              'git -c user.name=x -c user.email=x@x commit -qm x && '
              'git --work-tree="$2" checkout -f HEAD -- . ')
    assert shell(script, work, one.path) == (0, "")
    assert one.get() == obj and not list(one.path.rglob("*.error"))


def test_equal_text_while_it_changes(rig, start_mount, work):
    """What was equal when it was copied isn't any more: a push isn't rolled back by anybody."""
    one = developer(rig, start_mount, name="s-004")
    for name in ("status.json", "tags/v2/status.json", "tags/v2/image"):
        (work / name.replace("/", "-")).write_text((one / name).read_text())
    push(one)
    obj = one.get()
    for name in ("status.json", "tags/v2/status.json", "tags/v2/image"):
        assert cp(work / name.replace("/", "-"), one / name) != ""
    assert one.get() == obj


# What ends a refusal.


@pytest.mark.parametrize("name", EDITS)
def test_equal_save_ends_a_refusal(stream, name):
    path, value = stream / name, stream.value(name)
    path.read_text()
    with fails(errno.EINVAL):
        save(path, "no text of that kind")
    assert all(one.exists() for one in rejected(path))
    assert in_child(save, path, json.dumps(value, indent=1)) == 0
    assert not any(one.exists() for one in rejected(path))
    assert stream.sent() == []


# Sentences.


@pytest.mark.parametrize("name", ["imagestream.json", "spec.json", "tags/v1/spec.json"])
def test_unknown_field(stream, name):
    """The server quotes the whole object; what is wrong is one sentence."""
    path, value = stream / name, stream.value(name)
    place = value if name.startswith("tags") else value.get("spec", value)["tags"][1]
    place["form"] = "x"
    with fails(errno.EINVAL):
        save(path, text(value))
    first, *causes = why(path).splitlines()
    assert "unknown field" in first and "form" in first and len(first) < 80, first
    assert all(len(line) < 200 for line in causes)
    assert '{"' not in why(path)


def test_sentences_in_errors_of_the_mount(stream):
    value = stream.value("spec.json")
    value["colour"] = "red"
    with fails(errno.EINVAL):
        save(stream / "spec.json", text(value))
    (entry,) = [one for one in stream.mount.errors()
                if one["path"].endswith(stream.name + "/spec.json")]
    assert entry["message"].startswith("unknown field") and len(entry["message"]) < 80


@pytest.mark.parametrize("message, sentence", [
    ('ImageStream "x" is invalid: a: Invalid value: "{\\"a\\":\\"b\\"}": it is wrong', "it is wrong"),
    ("strict decoding error: ", "strict decoding error"), ("", None), ("x" * 5000, "x…x"),
    ('Invalid value: "{', 'Invalid value: "{'), ("a\nb\tc", "a b"),
    ('Invalid value: "{\\"', 'Invalid value: "{'), ("größe 🐟", "größe 🐟")],
    ids=range(8))
def test_any_sentence(stream, message, sentence):
    stream.fault(status=422, message=message, count=1)
    with fails(errno.EINVAL):
        save(stream / "spec.json", text(stream.edited("spec.json")))
    first = why(stream / "spec.json").splitlines()[0]
    assert first.strip() and len(first) <= 1025
    assert sentence is None or sentence in first, first


# --validate.


@pytest.mark.parametrize("mode, fields", [("warn", "Warn"), ("ignore", "Ignore"),
                                          ("strict", "Strict")])
@pytest.mark.parametrize("form", ["--validate={}", "-ovalidate={}"])
def test_validation(rig, start_mount, mode, fields, form):
    mount = start_mount(rig.server, form.format(mode))
    one = Stream(rig.server, mount, next(rig.names))
    rig.server.reset()
    value = one.value("spec.json")
    value["tags"][1]["form"] = "x"
    value["lookupPolicy"]["local"] = True
    if mode == "strict":
        with fails(errno.EINVAL):
            save(one / "spec.json", text(value))
    else:
        save(one / "spec.json", text(value))
        assert one.get()["spec"]["lookupPolicy"] == {"local": True}
    save(one / "tags/v1/from", "ImageStreamTag v2\n")
    name = next(made)
    post = {**WHOLE, "metadata": {"name": name}, "spec": {"colour": "red"}}
    with contextlib.ExitStack() as stack:
        if mode == "strict":
            stack.enter_context(fails(errno.EINVAL))
        save(mount / NAMESPACE / ".api/create", json.dumps(post))
    requests = sent(rig.server)
    assert len(requests) >= 3
    assert {f"fieldValidation={fields}" in one["query"] for one in requests} == {True}
    if mode != "strict":  # the last one of two counts, as in the API
        save(mount / NAMESPACE / ".api/create",
             '{"kind": "ImageStream", "apiVersion": "image.openshift.io/v1", "metadata": '
             f'{{"name": "x", "name": "{name}-2"}}}}')
        assert rig.server.get(NAMESPACE, name + "-2")


@pytest.mark.parametrize("value", ["", "Strict", "none", "strict,warn"])
def test_no_validation(rig, work, value):
    done = subprocess.run([os.environ.get("IMAGESTREAMFS", "imagestreamfs"), "--kubeconfig",
                           rig.server.kubeconfig, f"--validate={value}", work],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--validate" in done.stderr.splitlines()[0]


# .api/create.

made = iter(f"c-{number:03}" for number in range(10**3))


def plain(name, **more):
    return {**WHOLE, "metadata": {"name": name, **more}}


def create(stream, content, at=NAMESPACE + "/"):
    path = stream.mount / f"{at}.api/create"
    save(path, content)
    return path


def posted(server):
    return [body(one) for one in sent(server) if one["method"] == "POST"]


@pytest.mark.parametrize("form", [
    "{a}\n{b}\n", "{a}{b}", "{a} {b}", "\t{a}\r\n\t{b}", "\ufeff{a}\n{b}", "\ufeff{a}\n\ufeff{b}",
    "{a}\n---\n{b}", "---\n{a}\n---\n{b}\n---\n", "--- {a}\n--- {b}", "\n\n{a}\n\n\n{b}\n\n",
    "{a}\n---\n# nothing\n---\n{b}", "{yaml_a}---\n{yaml_b}", "{yaml_a}---\n{b}", "{a}\n---\n{yaml_b}",
    "\ufeff{yaml_a}---\n{yaml_b}", "---\n{yaml_a}...\n---\n{yaml_b}", "# both\n{yaml_a}---\n{b}",
    "{list}", "{yaml_list}", "{null}\n---\n{a}\n---\n{b}", "%YAML 1.1\n---\n{yaml_a}---\n{yaml_b}",
    "{crlf_a}---\r\n{crlf_b}"])
def test_create_reads(stream, form):
    one, two = next(made), next(made)
    a, b = plain(one, annotations={"x": "🚀 \t"}), plain(two)
    items = {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": [a, b]}
    values = {"{a}": json.dumps(a), "{b}": json.dumps(b, indent=2), "{yaml_a}": yaml.safe_dump(a),
              "{yaml_b}": yaml.safe_dump(b), "{null}": "null", "{list}": json.dumps(items),
              "{yaml_list}": yaml.safe_dump({**items, "kind": "ImageStreamList"}),
              "{crlf_a}": yaml.safe_dump(a).replace("\n", "\r\n"),
              "{crlf_b}": yaml.safe_dump(b).replace("\n", "\r\n")}
    for key, value in values.items():
        form = form.replace(key, value)
    create(stream, form)
    assert [one["metadata"]["name"] for one in posted(stream.server)] == [one, two]
    assert stream.server.get(NAMESPACE, one)["metadata"]["annotations"]["x"] == "🚀 \t"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig"])
def test_create_reads_powershell(stream, encoding):
    name = next(made)
    content = yaml.safe_dump(plain(name))
    data = content.encode(encoding)
    if encoding == "utf-16-le":
        data = b"\xff\xfe" + data
    create(stream, data)
    assert stream.server.get(NAMESPACE, name)


def test_create_reads_json_as_json(stream):
    name = next(made)
    content = json.dumps(plain(name, annotations={"rocket": "🚀", "tab": "a\tb", "nul": "\u00e9"}))
    assert "\\ud83d\\ude80" in content
    create(stream, content.replace('": "', '":\t"'))
    assert stream.server.get(NAMESPACE, name)["metadata"]["annotations"] == {
        "rocket": "🚀", "tab": "a\tb", "nul": "é"}


@pytest.mark.parametrize("content, said", [
    ('{"a": "\\ud83d"}', "JSON"), ('{"kind": "ImageStream"', "JSON"), ("[]", "map"), ("7", "map"),
    ("", None), ("   \n\t\n", None), ("null\n", "no ImageStream"), ("---\n---\n", "no ImageStream"),
    ("\ufeff", "no ImageStream"), ('{"kind": "List", "items": []}', "no ImageStream"), ("a: [", "line 2"),
    ('{"kind":"ImageStream","kind":"ImageStream"}', "JSON"), ("{} {", "JSON"), ("{}}", "JSON"),
    (b"\xff\xfe\x00", None), (b"\x00", None), ("a: 1\na: 2\n", None), ("&a [*a]", None),
    ("[" * 10000, None), ('{"a":' * 100000, None), (b'{"a": "\xff"}', "JSON")],
    ids=lambda one: repr(one)[:16])
def test_create_refuses(stream, content, said):
    path = stream.mount / NAMESPACE / ".api/create"
    if content == "":
        save(path, content)
    else:
        with fails(errno.EINVAL):
            save(path, content)
        last = stream.mount.errors()[-1]
        assert last["path"].endswith(".api/create") and last["errno"] == "EINVAL"
        assert said is None or said in last["message"], last["message"]
    assert posted(stream.server) == []


def test_create_names_other_kinds(stream):
    """All that are ImageStreams are made up to there; the other one is named."""
    one, two = next(made), next(made)
    items = [plain(one), {"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "web"}},
             plain(two)]
    for content in (json.dumps({"kind": "List", "items": items}),
                    "\n".join(map(json.dumps, items)), yaml.safe_dump_all(items)):
        with pytest.raises(OSError) as error:
            create(stream, content)
        assert error.value.errno in (errno.EINVAL, errno.EEXIST)
        said = [one["message"] for one in stream.mount.errors()[-3:]]
        assert any('Deployment "web" is no ImageStream' in one for one in said), said


def test_create_in_a_namespace_is_there(stream):
    name = next(made)
    create(stream, json.dumps(plain(name, namespace="elsewhere")))
    assert stream.server.get(NAMESPACE, name)["metadata"]["namespace"] == NAMESPACE
    assert (stream.mount / NAMESPACE / name).is_dir()


def test_create_at_the_root_goes_by_the_manifest(stream):
    one, two = next(made), next(made)
    create(stream, json.dumps(plain(one, namespace="dev")) + json.dumps(
        plain(two, namespace=NAMESPACE)), at="")
    assert stream.server.get("dev", one) and stream.server.get(NAMESPACE, two)


def test_create_of_what_a_mount_shows(rig, stream):
    """imagestream.json and .yaml can be posted back under another name, or where the old one was."""
    owner = [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u-1"}]
    stream.change({"metadata": {"finalizers": ["example.test/x"], "ownerReferences": owner}})
    for name, load, dump in (("imagestream.json", json.loads, json.dumps),
                             ("imagestream.yaml", yaml.safe_load, yaml.safe_dump)):
        copy_name = next(made)
        value = load((stream / name).read_text())
        assert value["metadata"]["uid"] and value["status"]
        value["metadata"]["name"] = copy_name
        value["metadata"]["deletionTimestamp"] = "2026-11-09T10:00:00Z"
        value["metadata"]["deletionGracePeriodSeconds"] = 30
        value["metadata"]["selfLink"] = "/somewhere"
        stream.server.reset()
        create(stream, dump(value))
        (request,) = posted(rig.server)
        assert set(request["metadata"]) == {"name", "namespace", "labels", "annotations"}
        assert "status" not in request
        now = stream.server.get(NAMESPACE, copy_name)
        assert shown(now, "spec.json") == stream.value("spec.json")


def test_create_keeps_ties_that_somebody_wrote(stream):
    """A manifest without a uid is a person's: its finalizers are meant."""
    name = next(made)
    create(stream, json.dumps(plain(name, finalizers=["example.test/x"])))
    assert stream.server.get(NAMESPACE, name)["metadata"]["finalizers"] == ["example.test/x"]
    stream.server.request("PATCH", stream.server.streams(NAMESPACE, name),
                          {"metadata": {"finalizers": None}}, MERGE)


@pytest.mark.parametrize("version", ["v1", "image.openshift.io/v1"])
def test_create_of_an_old_version(stream, version):
    name = next(made)
    create(stream, json.dumps({**plain(name), "apiVersion": version}))
    assert stream.server.get(NAMESPACE, name)


def test_create_many_back_to_back(stream):
    """As jq -c and cat *.json give them."""
    wanted = [next(made) for _ in range(40)]
    script = 'for n in "${@:2}"; do jq -nc --arg n "$n" \'{kind: "ImageStream", apiVersion: "v1", ' \
             'metadata: {name: $n}}\'; done | cat > "$1/.api/create"'
    assert shell(script, stream.mount / NAMESPACE, *wanted) == (0, "")
    assert [one["metadata"]["name"] for one in posted(stream.server)] == wanted


def test_create_of_metadata_that_is_none(stream):
    for metadata in (7, [], None, "x"):
        with fails(errno.EINVAL):
            create(stream, json.dumps({**WHOLE, "metadata": metadata}))


# What is kept of what was overwritten.


@pytest.fixture
def keeper(directory, start_server, start_mount, monkeypatch):
    """A mount with a state directory of its own: (stream, another, directory of what is kept)."""
    place = pathlib.Path(tempfile.mkdtemp(dir=directory))
    monkeypatch.setenv("XDG_STATE_HOME", str(place))
    load = place / "streams.json"
    items = [template(f"s-{i}") for i in range(4)]
    for number, one in enumerate(items):
        one["metadata"]["labels"]["n"] = str(number)
    load.write_text(json.dumps({"kind": "ImageStreamList", "apiVersion": "image.openshift.io/v1",
                                "items": items}))
    server = start_server("--load", load)
    mount = start_mount(server)
    top = place / "imagestreamfs/deleted"
    host = server.url.partition("://")[2].replace("/", "_")
    return Stream(server, mount, "s-0"), Stream(server, mount, "s-1"), top, top / host


def lay(path, size, days):
    """A file that was kept so many days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)
    when = time.time() - days * DAY
    os.utime(path, (when, when))
    return path


def overwrite(one, other):
    assert cp(other / "imagestream.json", one / "imagestream.json") == ""


def test_kept_where_and_how(keeper):
    one, other, top, place = keeper
    overwrite(one, other)
    (path,) = top.rglob("*.json")
    assert path.parent == place / NAMESPACE and path.name.startswith("s-0@2")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_text()
    assert content.endswith("}\n") and json.loads(content)["kind"] == "ImageStream"
    assert content == text(json.loads(content))


def test_older_than_thirty_days_goes(keeper):
    one, other, top, place = keeper
    old = lay(place / "work/a@1.json", 100, 31)
    foreign = lay(top / "another.example/ns/b@2.json", 100, 40)
    young = lay(place / "work/c@3.json", 100, 29)
    overwrite(one, other)
    assert not old.exists() and not foreign.exists() and young.exists()
    assert len(list(place.rglob("s-0@*"))) == 1


def test_more_than_a_hundred_megabytes_go_oldest_first(keeper):
    one, other, top, place = keeper
    files = [lay(place / f"work/f{days}@x.json", 30 << 20, days) for days in (5, 4, 3, 2)]
    overwrite(one, other)
    assert [path.exists() for path in files] == [False, True, True, True]
    assert len(list(place.rglob("s-0@*"))) == 1


def test_nothing_of_the_last_day_goes(keeper):
    one, other, top, place = keeper
    files = [lay(place / f"work/f{i}@x.json", 60 << 20, 0.9) for i in range(4)]
    ancient = lay(place / "work/ancient@x.json", 1, 2)
    overwrite(one, other)
    assert all(path.exists() for path in files) and not ancient.exists()


def test_what_is_no_file_of_ours_stays(keeper):
    """Links aren't followed, and what lies elsewhere in the state directory isn't touched."""
    one, other, top, place = keeper
    outside = lay(top.parent / "outside.json", 200 << 20, 90)
    link = place / "work/link@x.json"
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    directory = top / "linked"
    directory.symlink_to(top.parent)
    overwrite(one, other)
    assert outside.exists() and link.is_symlink() and directory.is_symlink()


def test_kept_before_the_request(keeper):
    """Whatever becomes of the request, it is there."""
    one, other, top, place = keeper
    one.fault(method="PUT", status=500, count=1)
    assert cp(other / "imagestream.json", one / "imagestream.json") != ""
    assert len(list(top.rglob("*.json"))) == 1


def test_place_that_takes_nothing(keeper):
    """A file where the directory would be: said, and the save goes on."""
    one, other, top, place = keeper
    top.parent.mkdir(parents=True, exist_ok=True)
    top.write_text("in the way")
    overwrite(one, other)
    assert any("isn't kept" in error["message"] for error in one.mount.errors())
    assert top.read_text() == "in the way"


def test_two_in_a_second(keeper):
    """Two processes, one name: both are kept."""
    one, other, top, place = keeper
    third = Stream(one.server, one.mount, "s-2")
    overwrite(one, other)
    overwrite(one, third)
    kept = sorted(json.loads(path.read_text())["metadata"]["labels"]["n"]
                  for path in top.rglob("s-0@*"))
    assert kept == ["0", "1"]
