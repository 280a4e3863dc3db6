"""Two people at one stream: what is merged, what is a conflict, and from which base."""

import concurrent.futures
import contextlib
import copy
import errno
import json
import multiprocessing
import os
import subprocess

import pytest
from conftest import wait_for
from test_save import (BIG, MERGE, NAMESPACE, SAVES, STRATEGIC, Stream, body, drafted, fails, image,
                       impatient, item, rejected, replace, rig, save, stream, tag, template, text,
                       verdict, without)

__all__ = ["impatient", "rig", "stream"]  # fixtures
CHECK = "openshift.io/image.dockerRepositoryCheck"
WAYS = ["close", "fsync", "rename"]
UID_CAUSE = [{"reason": "FieldValueInvalid", "field": "metadata.uid",
              "message": "Invalid value: \"x\": field is immutable"}]


@pytest.fixture
def other():
    """Calls a function in another process, always the same one."""
    with concurrent.futures.ProcessPoolExecutor(
            1, multiprocessing.get_context("fork")) as pool:
        pool.submit(os.getpid).result()
        yield lambda function, *arguments: pool.submit(function, *arguments).result(30)


def read(path):
    with open(path) as file:
        return file.read()


def label(**labels):
    return {"metadata": {"labels": labels}}


def tags_patch(*tags):
    return {"spec": {"tags": list(tags)}}


def change_tag(stream, name, **fields):
    stream.change(tags_patch({"name": name, **fields}), STRATEGIC)


def drop_tag(stream, name):
    change_tag(stream, name, **{"$patch": "delete"})


def labels(stream):
    return stream.get()["metadata"].get("labels", {})


def conflict(stream, name, value, *said, ways=("close", "rename")):
    """The save is refused; the reason names each of these; nothing changed, nothing is lost."""
    obj, path = stream.get(), stream / name
    for way in ways:
        with fails(verdict(errno.ESTALE, way)):
            SAVES[way](path, text(value))
        why = rejected(path)[1].read_text()
        for one in said:
            assert one in why
        kept = rejected(path)[0] if way != "rename" else path.with_name(path.name + ".new")
        assert kept.read_text() == text(value)
    assert stream.get() == obj


# The base.


@pytest.mark.parametrize("way", WAYS)
def test_base_is_what_the_process_read(stream, way):
    """As vim, nano and sponge do it: read, close, open anew to save."""
    value = json.loads(read(stream / "metadata.json"))
    stream.change(label(theirs="yes", tier=None))
    value["labels"]["mine"] = "yes"
    SAVES[way](stream / "metadata.json", text(value))
    assert labels(stream) == {"app": "shop", "mine": "yes", "theirs": "yes"}


def test_base_is_what_it_read_last(stream):
    read(stream / "metadata.json")
    stream.change(label(theirs="yes"))
    value = json.loads(read(stream / "metadata.json"))
    del value["labels"]["theirs"]  # seen, and not wanted
    save(stream / "metadata.json", text(value))
    assert labels(stream) == {"app": "shop", "tier": "web"}


def test_base_is_not_what_another_process_read(stream, other):
    other(read, stream / "metadata.json")
    value = stream.value("metadata.json")
    stream.change(label(theirs="yes"))
    save(stream / "metadata.json", text(value))  # opened now, and their label left out
    assert labels(stream) == value["labels"]


def test_base_of_the_other_process_is_its_own(stream, other):
    value = json.loads(other(read, stream / "metadata.json"))
    stream.change(label(theirs="yes"))
    read(stream / "metadata.json")
    value["labels"]["mine"] = "yes"
    other(save, stream / "metadata.json", text(value))
    assert labels(stream) == {**value["labels"], "theirs": "yes"}


def test_threads_of_a_process_are_one(stream):
    """Editors read in one thread, which may be gone, and save in another."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        value = json.loads(pool.submit(read, stream / "metadata.json").result())
    stream.change(label(theirs="yes"))
    value["labels"]["mine"] = "yes"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(save, stream / "metadata.json", text(value)).result()
    assert labels(stream) == {**value["labels"], "theirs": "yes"}
    stream.change(label(more="yes"))  # its base is its own text now
    value["labels"]["mine"] = "again"
    save(stream / "metadata.json", text(value))
    assert labels(stream) == {**value["labels"], "theirs": "yes", "more": "yes"}


def fork_as(number, function, *arguments):
    """Runs it in a child with that process id; False where the kernel took another."""
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(number - 1))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.getpid() == number:
                function(*arguments)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    return pid == number


@pytest.mark.alone  # it needs a process id that nobody else takes
def test_number_of_a_process_that_ended(stream):
    """Whoever gets it next has read nothing."""
    if not os.access("/proc/sys/kernel/ns_last_pid", os.W_OK):
        pytest.skip("only root can choose the next process id")
    path, value = stream / "metadata.json", stream.value("metadata.json")
    reader = os.fork()
    if reader == 0:
        with contextlib.suppress(OSError):
            read(path)
        os._exit(0)
    os.waitpid(reader, 0)
    stream.change(label(theirs="yes"))
    value["labels"]["mine"] = "yes"
    if not any(fork_as(reader, save, path, text(value)) for _ in range(50)):
        pytest.skip("that process id was always taken")
    assert labels(stream) == value["labels"]  # opened after their change, and without it


def test_base_is_the_version_at_open(stream):
    value = stream.value("metadata.json")
    fd = os.open(stream / "metadata.json", os.O_WRONLY | os.O_TRUNC)
    stream.change(label(theirs="yes"))
    value["labels"]["mine"] = "yes"
    os.write(fd, text(value).encode())
    os.close(fd)
    assert labels(stream) == {**value["labels"], "theirs": "yes"}


def test_base_of_a_handle_that_reads_itself(stream):
    fd = os.open(stream / "metadata.json", os.O_RDWR)
    value = json.loads(os.read(fd, 65536))
    stream.change(label(theirs="yes"))
    value["labels"]["mine"] = "yes"
    os.ftruncate(fd, 0)
    os.pwrite(fd, text(value).encode(), 0)
    os.close(fd)
    assert labels(stream) == {**value["labels"], "theirs": "yes"}


def test_base_of_a_rename_is_when_scratch_began(stream, other):
    """jq … spec.json >tmp && mv tmp spec.json: nobody who renames has read."""
    value = json.loads(other(read, stream / "metadata.json"))
    scratch = stream / "tmp"
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT)
    stream.change(label(theirs="yes"))
    value["labels"]["mine"] = "yes"
    os.write(fd, text(value).encode())
    os.close(fd)
    os.rename(scratch, stream / "metadata.json")
    assert labels(stream) == {**value["labels"], "theirs": "yes"}


def test_base_of_a_late_scratch(stream):
    value = stream.value("metadata.json")
    stream.change(label(theirs="yes"))
    replace(stream / "metadata.json", text(value))
    assert labels(stream) == value["labels"]


def test_shell_pipeline(stream):
    """The same with the tools themselves."""
    script = """set -e
    jq '.labels.mine = "yes"' "$1/metadata.json" > "$1/tmp"
    echo ready; read -r line
    mv "$1/tmp" "$1/metadata.json"
    """
    with subprocess.Popen(["bash", "-c", script, "bash", stream.path], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == "ready\n"
        stream.change(label(theirs="yes"))
        child.communicate("\n", timeout=60)
    assert child.returncode == 0
    assert labels(stream) == {"app": "shop", "tier": "web", "mine": "yes", "theirs": "yes"}


def test_draft_stays_what_it_is(stream, other):
    """Their change is shown at once, to all but the draft."""
    value = stream.value("metadata.json")
    value["labels"]["mine"] = "yes"
    fd = drafted(stream / "metadata.json", text(value), os.O_RDWR | os.O_TRUNC)
    stream.change(label(theirs="yes"))
    assert os.pread(fd, 65536, 0).decode() == text(value)
    assert other(read, stream / "metadata.json") == text(stream.value("metadata.json"))
    assert os.fstat(fd).st_size == len(text(stream.value("metadata.json")))
    os.close(fd)
    assert labels(stream) == {**value["labels"], "theirs": "yes"}


# Own saves.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["metadata.json", "imagestream.json"])
def test_second_save_can_undo_the_first(stream, name, way):
    """vim reads once and saves often."""
    first = json.loads(read(stream / name))
    second = copy.deepcopy(first)
    place = second if name == "metadata.json" else second["metadata"]
    place["labels"]["mine"] = "yes"
    SAVES[way](stream / name, text(second))
    assert labels(stream)["mine"] == "yes"
    SAVES[way](stream / name, text(first))
    assert "mine" not in labels(stream)


def test_second_save_of_an_open_handle(stream):
    first = stream.value("metadata.json")
    second = copy.deepcopy(first)
    second["labels"]["mine"] = "yes"
    fd = os.open(stream / "metadata.json", os.O_WRONLY)
    for value in (second, first):
        os.ftruncate(fd, 0)
        os.pwrite(fd, text(value).encode(), 0)
        os.fsync(fd)
        assert labels(stream) == value["labels"]
    os.close(fd)


def test_own_saves_of_other_files_are_no_conflict(stream):
    spec = json.loads(read(stream / "spec.json"))
    value = stream.value("tags/v1/spec.json")
    value["annotations"]["mine"] = "yes"
    save(stream / "tags/v1/spec.json", text(value))
    spec["lookupPolicy"]["local"] = True  # with v1 as it was before
    save(stream / "spec.json", text(spec))
    now = stream.tags()
    assert stream.get()["spec"]["lookupPolicy"] == {"local": True}
    assert now["v1"]["annotations"]["mine"] == "yes"


def test_another_process_here_is_somebody_else(stream, other):
    value = json.loads(read(stream / "metadata.json"))
    theirs = json.loads(other(read, stream / "metadata.json"))
    theirs["labels"].update(theirs="yes", tier="theirs")
    other(save, stream / "metadata.json", text(theirs))
    value["labels"]["mine"] = "yes"
    save(stream / "metadata.json", text(value))
    assert labels(stream) == {**theirs["labels"], "mine": "yes"}
    theirs["labels"]["tier"] = "again"
    other(save, stream / "metadata.json", text(theirs))
    value["labels"]["tier"] = "mine"
    with fails(errno.ESTALE):
        save(stream / "metadata.json", text(value))
    assert labels(stream)["tier"] == "again"


def test_refused_save_is_no_base(stream):
    value = json.loads(read(stream / "metadata.json"))
    stream.change(label(tier="theirs"))
    value["labels"]["tier"] = "mine"
    for _ in range(3):
        with fails(errno.ESTALE):
            save(stream / "metadata.json", text(value))
    assert labels(stream)["tier"] == "theirs"
    value = json.loads(read(stream / "metadata.json"))  # :e, and again
    value["labels"]["tier"] = "mine"
    save(stream / "metadata.json", text(value))
    assert labels(stream)["tier"] == "mine"


# What is merged.


def edit_annotation(value):
    value["annotations"]["mine"] = "yes"


def append_tag(value):
    value["tags"].append(without(tag("mine", image("mine:1")), "generation"))


def drop_own_tag(value):
    value["tags"] = [one for one in value["tags"] if one["name"] != "v2"]


def tag_of(value, name):
    return next(one for one in value["tags"] if one["name"] == name)


MERGED = {
    "labels and annotations": ("metadata.json", label(app="theirs"), edit_annotation),
    "two labels": ("metadata.json", label(app="theirs"),
                   lambda value: value["labels"].update(tier="mine")),
    "two new labels": ("metadata.json", label(theirs="yes"),
                       lambda value: value["labels"].update(mine="yes")),
    "two tags": ("spec.json", tags_patch({"name": "v2", "from": {"name": "quay.io/x/theirs"}}),
                 lambda value: tag_of(value, "v1")["from"].update(name="quay.io/x/mine")),
    "two parts of a tag": ("spec.json", tags_patch({"name": "v1", "annotations": {"theirs": "y"}}),
                           lambda value: tag_of(value, "v1")["from"].update(name="quay.io/x/m")),
    "two new tags": ("spec.json", tags_patch({"name": "theirs", "from": image("theirs:1")}),
                     append_tag),
    "tag and lookupPolicy": ("spec.json", {"spec": {"lookupPolicy": {"local": True}}}, append_tag),
    "they drop another tag": ("spec.json", tags_patch({"name": "v2", "$patch": "delete"}),
                              append_tag),
    "I drop another tag": ("spec.json", tags_patch({"name": "v1", "annotations": {"x": "y"}}),
                           drop_own_tag),
    "both drop it": ("spec.json", tags_patch({"name": "v2", "$patch": "delete"}), drop_own_tag),
    "both the same": ("spec.json", tags_patch({"name": "mine", "from": image("mine:1")}),
                      append_tag),
    "annotations of one tag": ("tags/v1/spec.json", tags_patch(
        {"name": "v1", "annotations": {"version": "theirs"}}), edit_annotation),
    "another tag": ("tags/v1/spec.json", tags_patch({"name": "v2", "$patch": "delete"}),
                    edit_annotation),
}


def merged(theirs, base, mine):
    """The model: their object with each path that mine has otherwise than base."""
    if isinstance(mine, dict) and isinstance(base, dict) and isinstance(theirs, dict):
        keys = list(theirs) + [key for key in mine if key not in theirs]
        out = {key: merged(theirs.get(key), base.get(key), mine.get(key)) for key in keys}
        return {key: one for key, one in out.items() if key in theirs or one is not None}
    return theirs if mine == base else mine


def keyed(value):
    value = copy.deepcopy(value)
    if "tags" in value:
        value["tags"] = {one["name"]: without(one, "importPolicy", "referencePolicy")
                         for one in value["tags"]}
    return value


@pytest.mark.parametrize("way", ["close", "rename"])
@pytest.mark.parametrize("case", MERGED)
def test_merged(stream, case, way):
    name, patch, edit = MERGED[case]
    base = json.loads(read(stream / name))
    stream.change(patch, STRATEGIC)
    theirs, mine = stream.value(name), copy.deepcopy(base)
    edit(mine)
    SAVES[way](stream / name, text(mine))
    now = keyed(stream.value(name))
    expected = merged(keyed(theirs), keyed(base), keyed(mine))
    if "tags" in expected:
        expected["tags"] = {key: one for key, one in expected["tags"].items() if one is not None}
    assert without(now, "resourceVersion") == without(expected, "resourceVersion")
    assert len(stream.sent()) == (0 if case.startswith("both") else 1)
    stream.holds(name, stream.value(name))


def test_finalizers_are_a_set(stream):
    stream.change({"metadata": {"finalizers": ["example.org/a", "example.org/b"]}})
    value = json.loads(read(stream / "metadata.json"))
    stream.change({"metadata": {"finalizers": ["example.org/b", "example.org/theirs"]}})
    value["finalizers"] = ["example.org/mine", "example.org/b", "example.org/a"]
    save(stream / "metadata.json", text(value))
    assert sorted(stream.get()["metadata"]["finalizers"]) == [
        "example.org/b", "example.org/mine", "example.org/theirs"]


def owner(uid, name="owner"):
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid}


def test_owners_go_by_uid(stream):
    stream.change({"metadata": {"ownerReferences": [owner("1"), owner("2")]}})
    value = json.loads(read(stream / "metadata.json"))
    stream.change({"metadata": {"ownerReferences": [owner("2"), owner("3")]}})
    value["ownerReferences"] = [owner("1"), owner("2", "mine")]
    save(stream / "metadata.json", text(value))
    assert {one["uid"]: one["name"] for one in stream.get()["metadata"]["ownerReferences"]} == {
        "2": "mine", "3": "owner"}


def test_null_absent_and_empty_are_equal(stream):
    stream.change({"metadata": {"annotations": None}})
    value = json.loads(read(stream / "metadata.json"))
    value["annotations"] = {}
    stream.change({"metadata": {"annotations": {"theirs": "yes"}}})
    value["labels"]["mine"] = "yes"
    save(stream / "metadata.json", text(value))
    now = stream.get()["metadata"]
    assert now["annotations"] == {"theirs": "yes"} and now["labels"]["mine"] == "yes"


def test_status_of_another_tag(stream):
    """Pushed while somebody cuts the history of another tag: nothing of it is lost."""
    value = json.loads(read(stream / "tags/v1/status.json"))
    with stream.shows():
        stream.server.control("POST", "bulk", [
            {"op": "touch-image", "namespace": NAMESPACE, "name": stream.name}])
    pushed = stream.history()
    value["items"].pop()
    save(stream / "tags/v1/status.json", text(value))
    assert stream.history() == {**pushed, "v1": value["items"]}


def test_status_keeps_what_is_no_status(stream):
    value = json.loads(read(stream / "status.json"))
    stream.change({"metadata": {"labels": {"theirs": "yes"}, "finalizers": ["example.org/keep"]},
                   "spec": {"lookupPolicy": {"local": True}}})
    before = stream.get()
    next(one for one in value["tags"] if one["tag"] == "v1")["items"].pop()
    save(stream / "status.json", text(value))
    now = stream.get()
    assert now["spec"] == before["spec"]
    for part in ("labels", "annotations", "finalizers"):
        assert now["metadata"][part] == before["metadata"][part]
    assert len(stream.history()["v1"]) == 1 and len(stream.history()["pushed"]) == 2


# What is a conflict.


def test_same_thing(stream):
    value = json.loads(read(stream / "metadata.json"))
    stream.change(label(tier="theirs"))
    value["labels"]["tier"] = "mine"
    conflict(stream, "metadata.json", value, "labels", "tier", "web", "theirs", "mine", ways=WAYS)
    assert stream.sent() == []


def test_every_conflict_is_named(stream):
    value = json.loads(read(stream / "spec.json"))
    stream.change(tags_patch({"name": "v1", "from": {"name": "quay.io/x/theirs"}},
                             {"name": "v2", "annotations": {"description": "theirs too"}}),
                  STRATEGIC)
    tag_of(value, "v1")["from"]["name"] = "quay.io/x/mine"
    tag_of(value, "v2")["annotations"]["description"] = "mine too"
    value["lookupPolicy"]["local"] = True
    conflict(stream, "spec.json", value, "v1", "quay.io/example/web:v1", "quay.io/x/theirs",
             "quay.io/x/mine", "v2", "second", "theirs too", "mine too")


@pytest.mark.parametrize("name", ["spec.json", "tags/v1/spec.json"])
def test_from_and_reference_are_one(stream, name):
    """A merge inside would make a reference that nobody wrote."""
    value = json.loads(read(stream / name))
    change_tag(stream, "v1", **{"from": {"name": "quay.io/x/theirs"}})
    mine = tag_of(value, "v1") if name == "spec.json" else value
    mine["reference"] = True
    conflict(stream, name, value, "quay.io/x/theirs")


def test_kind_and_name_of_from_are_one(stream):
    value = json.loads(read(stream / "tags/v1/spec.json"))
    change_tag(stream, "v1", **{"from": {"name": "marker:v2", "kind": "ImageStreamTag"}})
    value["from"]["name"] = "quay.io/x/mine"
    conflict(stream, "tags/v1/spec.json", value, "marker:v2", "quay.io/x/mine")


@pytest.mark.parametrize("case", ["v1", "new"])
def test_both_added_or_changed_a_tag(stream, case):
    value = json.loads(read(stream / "spec.json"))
    change_tag(stream, case, **{"from": image("theirs:1")})
    if case == "new":
        value["tags"].append(tag("new", image("mine:1")))
    else:
        tag_of(value, "v1")["from"] = image("mine:1")
    conflict(stream, "spec.json", value, case, "theirs:1", "mine:1")


def test_deleted_tag_is_not_resurrected(stream):
    value = json.loads(read(stream / "spec.json"))
    drop_tag(stream, "v1")
    tag_of(value, "v1")["annotations"]["description"] = "mine"
    conflict(stream, "spec.json", value, "v1", "mine")
    assert "v1" not in stream.tags()


def test_deleted_tag_that_i_left_alone(stream):
    value = json.loads(read(stream / "spec.json"))
    drop_tag(stream, "v1")
    tag_of(value, "v2")["annotations"]["description"] = "mine"
    save(stream / "spec.json", text(value))
    assert set(stream.tags()) == {"latest", "v2"}
    assert stream.tags()["v2"]["annotations"]["description"] == "mine"


def test_deleting_what_they_edited(stream):
    value = json.loads(read(stream / "spec.json"))
    change_tag(stream, "v1", annotations={"description": "theirs"})
    value["tags"] = [one for one in value["tags"] if one["name"] != "v1"]
    conflict(stream, "spec.json", value, "v1", "theirs")
    assert "v1" in stream.tags()


def test_deleted_tag_and_its_own_file(stream):
    """A handle on what is gone: writing through it is ESTALE, and nothing comes back."""
    path = stream / "tags/v1/spec.json"
    value = json.loads(read(path))
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    drop_tag(stream, "v1")
    wait_for(lambda: not path.exists(), 5, "the tag's end")
    value["annotations"]["description"] = "mine"
    with fails(errno.ESTALE):
        try:
            os.write(fd, text(value).encode())
        finally:
            os.close(fd)
    assert "v1" not in stream.tags() and stream.history()["v1"]


def test_written_before_the_tag_went(rig, stream):
    path = stream / "tags/v1/spec.json"
    value = stream.value("tags/v1/spec.json")
    value["annotations"]["description"] = "mine"
    fd = drafted(path, text(value))
    drop_tag(stream, "v1")
    with fails(errno.ESTALE):
        os.close(fd)
    assert "v1" not in stream.tags()
    assert text(value).encode() in rig.state().values()


def test_items_are_one_value(stream):
    """The newest of a history came meanwhile: replacing the items would lose it."""
    value = json.loads(read(stream / "tags/v1/status.json"))
    stream.server.control("POST", "bulk", [{
        "op": "put", "resource": "imagestreams", "object": with_pushed(stream.get(), "v1")}])
    wait_for(lambda: len(json.loads(read_elsewhere(stream / "tags/v1/status.json"))["items"]) == 3,
             5, "the push")
    value["items"].pop()
    conflict(stream, "tags/v1/status.json", value, "items")
    assert len(stream.history()["v1"]) == 3


def read_elsewhere(path):
    """Makes no base here; in the middle of a change two versions may meet."""
    content = subprocess.check_output(["cat", path], text=True)
    try:
        json.loads(content)
    except ValueError:
        return '{"items": []}'
    return content


def with_pushed(obj, name):
    obj = without(obj, "kind", "apiVersion")
    for one in obj["status"]["tags"]:
        if one["tag"] == name:
            one["items"].insert(0, item(77, BIG + 2))
    return obj


def test_stream_made_anew(rig, stream):
    """Deleted and created again meanwhile: another object, which isn't mine to change."""
    value = stream.value("metadata.json")
    value["labels"]["mine"] = "yes"
    old = stream.get()["metadata"]["uid"]
    fd = drafted(stream / "metadata.json", text(value))
    stream.server.delete(NAMESPACE, stream.name)
    stream.server.create(NAMESPACE, stream.name)
    with contextlib.suppress(FileNotFoundError):
        os.stat(stream / "metadata.json")
    with fails(errno.ESTALE):
        os.close(fd)
    now = stream.get()["metadata"]
    assert now["uid"] != old and "labels" not in now
    assert text(value).encode() in rig.state().values()


def test_stream_deleted(rig, stream):
    value = stream.value("metadata.json")
    value["labels"]["mine"] = "yes"
    fd = drafted(stream / "metadata.json", text(value))
    stream.server.delete(NAMESPACE, stream.name)
    wait_for(lambda: not stream.path.exists(), 5, "its end")
    with fails(errno.ESTALE):
        os.close(fd)
    assert text(value).encode() in rig.state().values()


# While the request is under way.


def touched(stream, kind="label"):
    return [{"op": "touch-" + kind, "namespace": NAMESPACE, "name": stream.name}]


@pytest.mark.parametrize("name", ["metadata.json", "spec.json", "tags/v1/spec.json",
                                  "tags/pushed/status.json"])
def test_somebody_is_faster(stream, name):
    """409, looked at again: nothing that touches this, so it goes out once more."""
    value = stream.value(name)
    if name == "tags/pushed/status.json":
        value["items"].pop()
    else:
        (value if name != "spec.json" else value["tags"][1])["annotations"]["mine"] = "yes"
    stream.fault(count=2, bulk=touched(stream))
    save(stream / name, text(value))
    assert [one["status"] for one in stream.sent()] == [409, 409, 200]
    assert "touched" in labels(stream)
    versions = [body(one)["metadata"]["resourceVersion"] for one in stream.sent()]
    assert len(set(versions)) == 3


def test_somebody_is_faster_with_the_same(stream):
    value = stream.value("metadata.json")
    value["labels"]["touched"] = "mine"
    stream.fault(count=1, bulk=touched(stream))
    with fails(errno.ESTALE):
        save(stream / "metadata.json", text(value))
    assert labels(stream)["touched"] != "mine"
    assert len(stream.sent()) == 1
    assert "touched" in rejected(stream / "metadata.json")[1].read_text()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("answer", [{}, {"status": 422, "causes": UID_CAUSE}],
                         ids=["409", "422"])
def test_made_anew_while_under_way(stream, way, answer):
    value = stream.value("metadata.json")
    value["labels"]["mine"] = "yes"
    stream.fault(bulk=[{"op": "delete", "namespace": NAMESPACE, "name": stream.name},
                       {"op": "create", "object": template(stream.name)}], **answer)
    with fails(verdict(errno.ESTALE, way)):
        SAVES[way](stream / "metadata.json", text(value))
    assert "mine" not in labels(stream)


@pytest.mark.parametrize("way", WAYS)
def test_whole_object_while_somebody_is_faster(stream, way):
    value = stream.value("imagestream.json")
    value["metadata"]["labels"]["mine"] = "yes"
    stream.fault(method="PUT", count=1, bulk=touched(stream))
    with fails(verdict(errno.ESTALE, way)):
        SAVES[way](stream / "imagestream.json", text(value))
    assert "mine" not in labels(stream)


def test_whole_object_while_an_image_is_pushed(stream):
    value = stream.value("imagestream.json")
    value["metadata"]["labels"]["mine"] = "yes"
    stream.fault(method="PUT", count=2, bulk=touched(stream, "image"))
    save(stream / "imagestream.json", text(value))
    assert labels(stream)["mine"] == "yes"
    assert len(stream.history()["latest"]) == 3


# imagestream.json is stricter.


def test_whole_object_after_anybodys_change(stream):
    path = stream / "imagestream.json"
    value = json.loads(read(path))
    stream.change({"metadata": {"annotations": {"theirs": "yes"}}})
    value["metadata"]["labels"]["mine"] = "yes"
    conflict(stream, "imagestream.json", value, ways=WAYS)
    assert stream.sent() == []
    now = json.loads(read(path))
    now["metadata"]["labels"]["mine"] = "yes"
    save(path, text(now))
    assert labels(stream)["mine"] == "yes"


def test_version_in_the_text_names_the_base(stream):
    """Whoever reads it and whenever it is opened: a backup from before is a conflict."""
    old = stream.value("imagestream.json")
    stream.change(label(theirs="yes"))
    read(stream / "imagestream.json")
    conflict(stream, "imagestream.json", old)


def test_whole_object_without_a_version(stream):
    path = stream / "imagestream.json"
    value = json.loads(read(path))
    del value["metadata"]["resourceVersion"]
    value["metadata"]["labels"]["mine"] = "yes"
    save(path, text(value))
    assert labels(stream)["mine"] == "yes"
    stream.change(label(theirs="yes"))
    value["metadata"]["labels"]["again"] = "yes"
    with fails(errno.ESTALE):
        save(path, text(value))
    assert "again" not in labels(stream)


def test_version_that_was_never_served(stream):
    value = stream.value("imagestream.json")
    value["metadata"]["resourceVersion"] = "7"
    value["metadata"]["labels"]["mine"] = "yes"
    conflict(stream, "imagestream.json", value)


def test_only_status_since(stream):
    path = stream / "imagestream.json"
    value = json.loads(read(path))
    with stream.shows():
        stream.server.control("POST", "bulk", touched(stream, "image"))
    stream.change({"metadata": {"annotations": {CHECK: "2026-11-20T10:00:00Z"}}})
    value["metadata"]["labels"]["mine"] = "yes"
    save(path, text(value))
    now = stream.get()
    assert now["metadata"]["labels"]["mine"] == "yes"
    assert now["metadata"]["annotations"][CHECK] == "2026-11-20T10:00:00Z"
    assert len(stream.history()["latest"]) == 2


def test_only_own_saves_since(stream):
    path = stream / "imagestream.json"
    value = json.loads(read(path))
    for number in range(5):
        tag_value = stream.value("tags/v1/spec.json")
        tag_value["annotations"]["round"] = str(number)
        save(stream / "tags/v1/spec.json", text(tag_value))
    value["metadata"]["labels"]["mine"] = "yes"
    save(path, text(value))
    assert labels(stream)["mine"] == "yes"
    assert stream.tags()["v1"]["annotations"]["round"] == "4"


def test_sixteen_versions_are_remembered(stream):
    path = stream / "imagestream.json"
    value = json.loads(read(path))
    metadata = stream.value("metadata.json")
    for number in range(12):
        metadata["annotations"]["round"] = str(number)
        save(stream / "metadata.json", text(metadata))
    value["metadata"]["labels"]["mine"] = "yes"
    save(path, text(value))
    assert labels(stream)["mine"] == "yes"
    for number in range(20):
        metadata["annotations"]["round"] = str(number + 20)
        save(stream / "metadata.json", text(metadata))
    del value["metadata"]["labels"]["mine"]
    conflict(stream, "imagestream.json", value)  # nobody knows what it was based on


def test_own_saves_do_not_hide_theirs(stream):
    path = stream / "imagestream.json"
    value = json.loads(read(path))
    stream.change(label(theirs="yes"))
    metadata = stream.value("metadata.json")
    metadata["annotations"]["own"] = "yes"
    save(stream / "metadata.json", text(metadata))
    value["metadata"]["labels"]["mine"] = "yes"
    with fails(errno.ESTALE):
        save(path, text(value))
    assert labels(stream).get("theirs") == "yes" and "mine" not in labels(stream)


def test_own_save_and_the_same_thing(stream):
    """The rule for all files still holds: one thing, changed in two ways."""
    path = stream / "imagestream.json"
    value = json.loads(read(path))
    tag_value = stream.value("tags/v1/spec.json")
    tag_value["annotations"]["description"] = "of the tag's file"
    save(stream / "tags/v1/spec.json", text(tag_value))
    tag_of(value["spec"], "v1")["annotations"]["description"] = "of the whole"
    with fails(errno.ESTALE):
        save(path, text(value))
    assert stream.tags()["v1"]["annotations"]["description"] == "of the tag's file"


def test_another_mount_is_somebody_else(rig, stream, impatient):
    path = stream / "imagestream.json"
    value = json.loads(read(path))
    elsewhere = Stream(rig.server, impatient, stream.name)
    metadata = elsewhere.value("metadata.json")
    metadata["annotations"]["elsewhere"] = "yes"
    with stream.shows():
        save(elsewhere / "metadata.json", text(metadata))
    value["metadata"]["labels"]["mine"] = "yes"
    with fails(errno.ESTALE):
        save(path, text(value))


# What stays.


def test_conflict_text_is_cut(stream):
    value = json.loads(read(stream / "tags/v1/spec.json"))
    change_tag(stream, "v1", annotations={"description": "t" * 5000})
    value["annotations"]["description"] = "m" * 5000
    with fails(errno.ESTALE):
        save(stream / "tags/v1/spec.json", text(value))
    why = rejected(stream / "tags/v1/spec.json")[1].read_text()
    for letter in "tm":
        assert letter * 900 in why and letter * 1025 not in why


def test_conflict_is_in_errors(stream):
    value = json.loads(read(stream / "metadata.json"))
    stream.change(label(tier="theirs"))
    value["labels"]["tier"] = "mine"
    with fails(errno.ESTALE):
        save(stream / "metadata.json", text(value))
    (entry,) = [one for one in stream.mount.errors()
                if (one["path"] or "").endswith(f"{stream.name}/metadata.json")]
    assert entry["errno"] in ("ESTALE", errno.ESTALE)


def test_merge_after_a_conflict(stream):
    """The refused text again, once the base is what it was compared with."""
    path = stream / "metadata.json"
    value = json.loads(read(path))
    stream.change(label(tier="theirs"))
    value["labels"]["tier"] = "mine"
    with fails(errno.ESTALE):
        save(path, text(value))
    subprocess.run(["cp", rejected(path)[0], path], check=True)  # a process of its own, opened now
    assert labels(stream)["tier"] == "mine"
    assert not any(one.exists() for one in rejected(path))


def test_merge_patches_are_what_they_say(stream):
    """A merge patch holds the whole list of tags: theirs are in it."""
    value = json.loads(read(stream / "tags/v1/spec.json"))
    change_tag(stream, "theirs", **{"from": image("theirs:1")})
    drop_tag(stream, "v2")
    stream.fault(status=415, contentType="strategic", count=9)
    value["annotations"]["mine"] = "yes"
    save(stream / "tags/v1/spec.json", text(value))
    request = stream.sent()[-1]
    assert request["headers"]["content-type"].startswith(MERGE)
    assert set(stream.tags()) == {"latest", "theirs", "v1"}
