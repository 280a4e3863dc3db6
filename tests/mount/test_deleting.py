"""rmdir answers as everywhere: what counts as empty, for whom, and what is kept of what goes."""

import contextlib
import copy
import errno
import json
import os
import pathlib
import shutil
import stat as modes
import subprocess
import tempfile
import time

import pytest
from conftest import fails, pinned, skip_for, wait_for
from test_save import (NAMESPACE, Stream, image, in_child, item, names, rig, save, sent, stream,
                       tag, template, text, without)

__all__ = ["rig", "stream"]  # fixtures
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
TAGS = ("latest", "pushed", "v1", "v2")  # of test_save's streams


def put(stream, obj):
    """Shown when it returns, whatever is hidden of it."""
    stream.server.control("POST", "bulk", [{
        "op": "replace", "namespace": stream.namespace, "name": stream.name,
        "object": without(obj, "kind", "apiVersion")}])
    Stream(stream.server, stream.mount, "marker").change(
        {"metadata": {"labels": {"at": str(time.monotonic_ns())}}})


def exists(stream):
    listed = stream.server.request("GET", stream.server.streams(stream.namespace))["items"]
    return stream.name in {one["metadata"]["name"] for one in listed}


def clear(path):
    """By this process: the files in it."""
    for name in os.listdir(path):
        if not os.path.isdir(path / name):
            os.unlink(path / name)


def pushed(stream, name, number=77):
    """What a push into the tag makes of the object."""
    obj = copy.deepcopy(stream.get())
    tags = {one["tag"]: one for one in obj["status"].setdefault("tags", [])}
    if name not in tags:
        tags[name] = {"tag": name, "items": []}
        obj["status"]["tags"].append(tags[name])
    tags[name]["items"] = [item(number), *(tags[name].get("items") or [])]
    return obj


def kept(rig, stream, where="deleted"):
    """What stands in the state directory of the stream: path and object."""
    top = rig.directory / "state/imagestreamfs" / where
    return {path: json.loads(path.read_bytes()) for path in top.rglob(f"*/{stream.name}@*")}


# What is empty.


def test_what_is_full_stays(stream):
    obj = stream.get()
    for path in (stream.path, stream / "tags", *(stream / "tags" / name for name in TAGS)):
        with fails(errno.ENOTEMPTY):
            os.rmdir(path)
        done = subprocess.run(["rmdir", path], capture_output=True, text=True, check=False)
        assert done.returncode == 1 and "Directory not empty" in done.stderr
    stream.is_untouched(obj)
    assert names(stream / "tags") == set(TAGS)


def test_names_left_keep_it(stream):
    """All but one, whichever it is."""
    obj, path = stream.get(), stream / "tags/v1"
    for left in sorted(names(path)):
        for name in names(path) - {left}:
            assert in_child(os.unlink, path / name) == 0
        assert in_child(os.rmdir, path) == errno.ENOTEMPTY
        wait_for(lambda: len(names(path)) == 4, 30, "what was hidden")
    stream.is_untouched(obj)


def test_what_another_removed(stream):
    """For two seconds it is gone for everybody; then for who removed it."""
    for name in names(stream / "tags/v1"):
        assert in_child(os.unlink, stream / "tags/v1" / name) == 0
    assert in_child(os.rmdir, stream / "tags/v1") == 0
    assert "v1" not in stream.tags() and "v1" not in stream.history()
    clear(stream / "tags/v2")
    wait_for(lambda: names(stream / "tags/v2"), 30, "what was hidden")
    assert in_child(os.rmdir, stream / "tags/v2") == errno.ENOTEMPTY
    os.rmdir(stream / "tags/v2")
    assert "v2" not in stream.tags() and "v2" not in stream.history()


def test_what_is_made_again_counts(stream):
    """Also for who had removed it."""
    clear(stream / "tags/v1")
    content = text(stream.value("tags/v1/spec.json"))
    save(stream / "tags/v1/spec.json", content, NEW)
    with fails(errno.ENOTEMPTY):
        os.rmdir(stream / "tags/v1")
    clear(stream / "tags/v1")
    os.rmdir(stream / "tags/v1")


def test_threads_are_one_process(stream):
    """What one of its threads removed."""
    code = ("import os, sys, threading, time\n"
            "def do(f, *a):\n"
            "    t = threading.Thread(target=f, args=a); t.start(); t.join()\n"
            "p = sys.argv[1]\n"
            "for n in os.listdir(p): do(os.unlink, p + '/' + n)\n"
            "while not os.listdir(p): time.sleep(0.05)\n"
            "do(os.rmdir, p)\n"
            "sys.exit(os.path.exists(p))\n")
    assert subprocess.run(["/usr/bin/python3", "-c", code, stream / "tags/v1"],
                          check=False).returncode == 0
    assert "v1" not in stream.tags()


ADDITIONS = {
    "a condition": lambda obj: obj["status"]["tags"][0].update(conditions=[{
        "type": "ImportSuccess", "status": "False", "reason": "NotFound", "message": "gone",
        "lastTransitionTime": "2026-11-01T10:00:00Z", "generation": 2}]),
    "a placeholder": lambda obj: obj["spec"]["tags"].append({"name": "zz"}),
    "a label": lambda obj: obj["metadata"]["labels"].update(late="yes"),
    "an import of v1": lambda obj: obj["status"]["tags"][0]["items"].insert(0, item(70)),
    "a tag from elsewhere": lambda obj: obj["spec"]["tags"].append(tag("zz", image("zz:1"))),
    "its import": lambda obj: (obj["spec"]["tags"].append(tag("zz", image("zz:1"))),
                               obj["status"]["tags"].append({"tag": "zz", "items": [item(71)]})),
}


def emptied(stream):
    """All that is in the stream is removed by this process but its tags' directories."""
    for name in names(stream / "tags"):
        clear(stream / "tags" / name)
    clear(stream.path)


@pytest.mark.parametrize("what", ADDITIONS)
def test_what_the_server_adds_does_not_count(stream, what):
    emptied(stream)
    for name in ("latest", "pushed", "v2"):
        os.rmdir(stream / "tags" / name)
    obj = stream.get()
    obj["status"]["tags"] = template(stream.name)["status"]["tags"][2:3]
    obj["spec"]["tags"] = template(stream.name)["spec"]["tags"][1:2]
    ADDITIONS[what](obj)
    put(stream, obj)
    os.rmdir(stream / "tags/v1")
    for name in names(stream / "tags"):
        clear(stream / "tags" / name)
        os.rmdir(stream / "tags" / name)
    os.rmdir(stream / "tags")
    os.rmdir(stream.path)
    assert not exists(stream)


def test_an_addition_to_a_stream_goes_with_it(stream):
    """Who removes the stream never saw the new tag."""
    emptied(stream)
    for name in TAGS:
        os.rmdir(stream / "tags" / name)
    obj = stream.get()
    obj["spec"]["tags"] = [{"name": "zz"}, tag("zy", image("zy:1"))]
    obj["status"]["tags"] = [{"tag": "zy", "items": [item(3)]}]
    put(stream, obj)
    os.rmdir(stream / "tags")
    os.rmdir(stream.path)
    assert not exists(stream)


@pytest.mark.parametrize("name", ["pushed", "new"])
def test_a_push_keeps_its_tag_and_stream(stream, name):
    emptied(stream)
    put(stream, pushed(stream, name))
    if name == "pushed":
        with fails(errno.ENOTEMPTY):
            os.rmdir(stream / "tags/pushed")
    for one in set(TAGS) - {name}:
        os.rmdir(stream / "tags" / one)
    for path in (stream / "tags", stream.path):
        with fails(errno.ENOTEMPTY):
            os.rmdir(path)
    assert stream.history()[name][0] == item(77)
    wait_for((stream / "tags" / name / "image").exists, 30, "what was hidden")
    wait_for(lambda: names(stream.path) >= {"spec.json", "imagestream.json", "imagestream.yaml",
                                            "metadata.json", "status.json"}, 30, "the others")
    subprocess.run(["rm", "-r", stream.path], check=True)  # whoever sees it may remove it
    assert not exists(stream)


def test_scratch_counts(stream):
    os.mkdir(stream / "tags/new")
    for path in (stream.path, stream / "tags/new"):
        save(path / "notes", "mine\n", NEW)
    obj = stream.get()
    for one in ("spec.json", "imagestream.json"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(stream / one)
    for path in (stream / "tags/new", stream.path):
        with fails(errno.ENOTEMPTY):
            os.rmdir(path)
    assert stream.get() == obj and (stream / "tags/new/notes").read_text() == "mine\n"
    os.unlink(stream / "tags/new/notes")
    os.rmdir(stream / "tags/new")
    assert "new" not in stream.tags()


def test_bare_ones_go_at_once(rig, stream):
    """By anybody: nothing is lost with them."""
    path = rig.mount / "empty/bare"
    assert in_child(os.mkdir, path) == 0
    assert in_child(os.mkdir, path / "tags/one") == 0
    rig.server.reset()
    assert names(path / "tags/one") == {"spec.json"}
    os.rmdir(path / "tags/one")
    os.rmdir(path)
    assert [one["method"] for one in sent(rig.server)] == ["DELETE", "DELETE"]
    assert not path.exists()
    assert not kept(rig, Stream(rig.server, rig.mount, "bare", "empty"))
    for change in ({"labels": {"a": "b"}}, {"annotations": {"a": "b"}}):
        assert in_child(os.mkdir, path) == 0
        one = Stream(rig.server, rig.mount, "bare", "empty")
        one.change({"metadata": change})
        with fails(errno.ENOTEMPTY):
            os.rmdir(path)
        subprocess.run(["rm", "-r", path], check=True)


def test_tags_is_held_to_the_rule(stream):
    obj = stream.get()
    with fails(errno.ENOTEMPTY):
        os.rmdir(stream / "tags")
    for name in TAGS:
        shutil.rmtree(stream / "tags" / name)
    os.rmdir(stream / "tags")
    assert not (stream / "tags").exists() and "tags" not in names(stream.path)
    wait_for((stream / "tags").exists, 30, "what was hidden")
    assert stream.get()["metadata"]["labels"] == obj["metadata"]["labels"]


def test_no_delete_says_so(rig, start_mount):
    mount = start_mount(rig.server, "-o", "nodelete")
    one = rig.stream(mount)
    obj = one.get()
    rig.server.reset()
    done = subprocess.run(["rm", "-rf", one.path], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Operation not permitted" in done.stderr
    one.is_untouched(obj)
    assert not kept(rig, one)


# Over what is there.


@pytest.fixture
def backup(stream, directory):
    """A copy of the stream's directory elsewhere, as cp -r makes it."""
    place = pathlib.Path(tempfile.mkdtemp(dir=directory))
    subprocess.run(["cp", "-r", stream.path, place], check=True)
    return place / stream.name


def test_mv_over_a_stream(stream, backup):
    obj = stream.get()
    done = subprocess.run(["mv", backup, stream.path.parent], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 1 and "Directory not empty" in done.stderr
    stream.is_untouched(obj)
    assert (backup / "spec.json").exists()


OVER = {
    "tar -U": ["sh", "-c", 'tar -C "$1" -cf - "$2" | tar -C "$3" -xUf -', "sh"],
    "toybox cpio": ["sh", "-c", 'cd "$1" && find "$2" | toybox cpio -oHnewc | '
                                '(cd "$3" && toybox cpio -idu)', "sh"],
    "toybox tar": ["sh", "-c", 'tar -C "$1" -cf - "$2" | (cd "$3" && toybox tar -x)', "sh"],
    "bsdtar -U": ["sh", "-c", 'tar -C "$1" -cf - "$2" | bsdtar -C "$3" -xUf -', "sh"],
    "mv -T": ["sh", "-c", 'mv -T "$1/$2" "$3/$2"', "sh"],
    "mv -f": ["sh", "-c", 'mv -f "$1/$2" "$3/"', "sh"],
    "python move": ["/usr/bin/python3", "-c", "import shutil, sys\n"
                    "shutil.move(sys.argv[1] + '/' + sys.argv[2], sys.argv[3])"],
    "busybox mv": ["sh", "-c", 'busybox mv "$1/$2" "$3/"', "sh"],
    "toybox mv": ["sh", "-c", 'toybox mv "$1/$2" "$3/"', "sh"],
}


@pytest.mark.parametrize("tool", OVER)
def test_nothing_is_deleted_on_the_way(stream, backup, tool):
    """These call rmdir on what is there. Whatever they make of it, it is the same stream still."""
    obj = stream.get()
    subprocess.run([*OVER[tool], backup.parent, stream.name, stream.path.parent],
                   capture_output=True, check=False, timeout=120)
    now = stream.get()
    assert now["metadata"]["uid"] == obj["metadata"]["uid"]
    assert "DELETE" not in {one["method"] for one in stream.sent()}
    assert set(stream.history()) == set(TAGS)
    for key in ("labels", "annotations"):
        assert now["metadata"][key] == obj["metadata"][key]
    assert set(stream.tags()) == {"latest", "v1", "v2"}


# What removes directories.

TOOLS = {
    "rm -r": ["rm", "-r"],
    "rm -rf": ["rm", "-rf"],
    "find -delete": ["sh", "-c", 'find "$1" -delete', "sh"],
    "find -exec": ["sh", "-c",
                   'find "$1" -depth ! -type d -exec rm {} \\; , -depth -type d -exec rmdir {} \\;',
                   "sh"],
    "find | xargs": ["sh", "-c", 'find "$1" -type f | xargs rm && '
                                 'find "$1" -depth -type d | xargs rmdir', "sh"],
    "find -exec rm -r": ["sh", "-c", 'find "$1" -maxdepth 0 -exec rm -r {} +', "sh"],
    "busybox rm": ["busybox", "rm", "-r"],
    "toybox rm": ["toybox", "rm", "-r"],
    "uu rm": ["/usr/lib/cargo/bin/coreutils/rm", "-r"],
    "shutil.rmtree": ["/usr/bin/python3", "-c", "import shutil, sys; shutil.rmtree(sys.argv[1])"],
    "perl remove_tree": ["perl", "-MFile::Path=remove_tree", "-e",
                         "remove_tree($ARGV[0], {error => \\my $e}); exit(@$e ? 1 : 0)"],
    "node fs.rm": ["node", "-e",
                   "require('fs').promises.rm(process.argv[1], {recursive: true})"],
    "node rmSync": ["node", "-e", "require('fs').rmSync(process.argv[1], {recursive: true})"],
    "rsync --delete": ["sh", "-c", 'e=$(mktemp -d) && rsync -r --delete --include="/${1##*/}" '
                                   '--include="/${1##*/}/**" --exclude="*" "$e/" "${1%/*}/"', "sh"],
}


def needed(tool):
    for word in (TOOLS[tool][0], "node" if "node" in tool else TOOLS[tool][0]):
        if not shutil.which(word):
            pytest.skip(f"{word} isn't here")
    if tool == "uu rm":  # 0.0.30 asks before it removes what is read-only, and nobody answers
        skip_for(pinned("uu rm", "13"))


def remove(tool, path):
    done = subprocess.run([*TOOLS[tool], path], capture_output=True, text=True, check=False,
                          timeout=120)
    return done.returncode, done.stderr


@pytest.mark.parametrize("tool", TOOLS)
def test_what_removes_directories(stream, tool):
    """A request a tag and one more."""
    needed(tool)
    assert remove(tool, stream.path) == (0, "")
    assert not exists(stream) and not stream.path.exists()
    assert [one["method"] for one in stream.sent()] == ["DELETE"] * (len(TAGS) + 1)
    assert stream.name not in names(stream.path.parent)


@pytest.mark.parametrize("tool", TOOLS)
def test_what_removes_a_tag(stream, tool):
    needed(tool)
    if tool == "rsync --delete":
        pytest.skip("it names a stream")
    assert remove(tool, stream / "tags/v1") == (0, "")
    assert "v1" not in stream.tags() and "v1" not in stream.history()
    assert [one["method"] for one in stream.sent()] == ["DELETE"]


@pytest.mark.parametrize("tool", TOOLS)
def test_with_an_import_running_into_it(rig, stream, tool):
    """An image for each tag of the registry's, and for those that follow them, and conditions."""
    needed(tool)
    imported = stream.get()
    for one in imported["status"]["tags"]:
        if one["tag"] == "pushed":
            continue
        one["items"].insert(0, item(50 + (one["tag"] == "v1")))
        one["conditions"] = [{
            "type": "ImportSuccess", "status": "True", "reason": "", "message": "",
            "lastTransitionTime": "2026-11-01T10:00:00Z", "generation": 3}]
    rig.server.fault(method="DELETE", path=f"/imagestreamtags/{stream.name}", delay=0.2, bulk=[{
        "op": "replace", "namespace": NAMESPACE, "name": stream.name,
        "object": without(imported, "kind", "apiVersion")}])
    assert remove(tool, stream.path) == (0, "")
    assert not exists(stream)


def test_a_push_running_into_it(rig, stream):
    rig.server.fault(method="DELETE", path=f"/imagestreamtags/{stream.name}", after=True, bulk=[{
        "op": "replace", "namespace": NAMESPACE, "name": stream.name,
        "object": without(pushed(stream, "late"), "kind", "apiVersion")}])
    code, said = remove("rm -r", stream.path)
    assert code == 1 and "Directory not empty" in said
    assert exists(stream) and "late" in stream.history()


def test_git_rm(stream, directory):
    place = tempfile.mkdtemp(dir=directory)
    git = ["git", "--git-dir", place + "/git", "--work-tree", stream.path.parent,
           "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false",
           "-c", "safe.directory=*"]
    for command in (["init", "-q"], ["add", stream.name], ["commit", "-qm", "all"],
                    ["rm", "-rq", stream.name]):
        done = subprocess.run([*git, *command], capture_output=True, text=True, check=False,
                              cwd=stream.path.parent)
        assert (done.returncode, done.stderr) == (0, "")
    assert not exists(stream)


def test_gio_trash_is_refused(stream):
    obj = stream.get()
    done = subprocess.run(["gio", "trash", stream.path], capture_output=True, text=True,
                          check=False)
    assert done.returncode != 0 and done.stderr
    assert stream.get() == obj and stream.sent() == []


def test_two_remove_it_at_once(stream):
    both = [subprocess.Popen(["rm", "-rf", stream.path], stderr=subprocess.PIPE, text=True)
            for _ in range(2)]
    for one in both:
        one.communicate(timeout=120)
    assert not exists(stream) and not stream.path.exists()


# What is kept.


def whole(obj):
    """As far as what is kept says it."""
    return {"metadata": without(obj["metadata"], "managedFields"), "spec": obj["spec"],
            "status": obj["status"]}


def restore(rig, path):
    with open(rig.mount / NAMESPACE / ".api/create", "wb", buffering=0) as file:
        file.write(path.read_bytes())


def test_what_is_deleted_is_kept(rig, stream):
    obj = stream.get()
    assert remove("rm -r", stream.path) == (0, "")
    ((path, text_kept),) = kept(rig, stream).items()
    assert whole(text_kept) == whole(obj)
    assert modes.S_IMODE(path.stat().st_mode) == 0o600
    assert modes.S_IMODE(path.parent.stat().st_mode) == 0o700
    restore(rig, path)
    now = stream.get()
    for key in ("labels", "annotations"):
        assert now["metadata"][key] == obj["metadata"][key]
    assert now["metadata"]["uid"] != obj["metadata"]["uid"]
    assert [without(one, "generation") for one in now["spec"]["tags"]] == \
        [without(one, "generation") for one in obj["spec"]["tags"]]


def test_a_tag_that_is_deleted_is_kept_with_its_stream(rig, stream):
    obj = stream.get()
    assert remove("rm -r", stream / "tags/v1") == (0, "")
    assert remove("rm -r", stream / "tags/v2") == (0, "")
    found = sorted(kept(rig, stream).values(), key=lambda one: -len(one["spec"]["tags"]))
    assert len(found) == 2 and whole(found[0]) == whole(obj)  # two processes


@pytest.mark.parametrize("way", ["delete", "collection"])
def test_api_keeps_it_too(rig, stream, way):
    obj = stream.get()
    if way == "delete":
        (stream / ".api/delete").write_text("{}")
    else:
        stream.change({"metadata": {"labels": {"go": stream.name}}})
        obj = stream.get()
        (stream.path.parent / ".api/delete").write_text(
            json.dumps({"labelSelector": f"go={stream.name}"}))
    assert not exists(stream)
    ((path, text_kept),) = kept(rig, stream).items()
    assert whole(text_kept) == whole(obj)
    restore(rig, path)
    assert exists(stream)


def test_a_dry_run_keeps_nothing(rig, stream):
    obj = stream.get()
    (stream / ".api/delete").write_text('{"dryRun": ["All"]}')
    (stream.path.parent / ".api/delete").write_text(
        json.dumps({"dryRun": ["All"], "fieldSelector": f"metadata.name={stream.name}"}))
    assert stream.get() == obj and not kept(rig, stream)


def test_where_nothing_can_be_kept(rig, start_mount, directory):
    place = pathlib.Path(tempfile.mkdtemp(dir=directory))
    (place / "imagestreamfs").mkdir()
    (place / "imagestreamfs/deleted").write_text("not a directory")
    mount = start_mount(rig.server, environment={"XDG_STATE_HOME": str(place)})
    one = rig.stream(mount)
    assert remove("rm -r", one.path) == (0, "")
    assert not exists(one)
    (entry,) = [line for line in mount.errors() if line["path"] == f"{NAMESPACE}/{one.name}"]
    assert "isn't kept" in entry["message"] and "state directory" in entry["message"]


def test_what_a_text_of_something_else_overwrites_is_kept(rig, stream):
    other = rig.stream()
    other.change({"metadata": {"labels": {"mine": "yes"}}})
    obj = other.get()
    done = subprocess.run(["cp", stream / "imagestream.json", other / "imagestream.json"],
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "mine" not in other.get()["metadata"]["labels"]
    ((_, text_kept),) = kept(rig, other).items()
    assert whole(text_kept) == whole(obj)
