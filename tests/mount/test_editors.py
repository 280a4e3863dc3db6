"""Editors as people use them: a save that is accepted, refused, in conflict, and the save after it.

Every editor runs in a terminal of its own as an ordinary user. What is expected of it stands in the
table of editors.py; what was seen goes to RESULTS.md.
"""

import concurrent.futures
import dataclasses
import multiprocessing
import os
import pathlib
import pwd
import re
import shutil
import tempfile
import time
import traceback

import pytest
from _pytest.monkeypatch import MonkeyPatch
from conftest import Mount, Server, older, skip_for, wait_for
from editors import EDITORS, Session, missing
from results import record

NAMESPACE = "editors"
pytestmark = pytest.mark.xdist_group("editors")  # at work at the same time, on one mount
CASES = ("accepted", "refused", "conflict")
AT_ONCE = 4
USER = "nobody" if os.getuid() == 0 else None
_server = None


def stream_of(editor, case):
    kind = ["from"] if editor.file == "from" else []
    return "-".join(re.findall("[a-z]+", editor.name.lower()) + kind + [case])


def source(tag):
    return {"kind": "DockerImage", "name": f"registry.example/editors/image:{tag}"}


@dataclasses.dataclass
class Document:
    """One stream's tag with a note, as the mount shows it and as the server has it."""

    mount: pathlib.Path
    stream: str
    path: pathlib.Path

    def tag(self):
        return _server.get(NAMESPACE, self.stream)["spec"]["tags"][0]

    def is_from(self):
        return self.path.name == "from"

    def note(self):
        tag = self.tag()
        if self.is_from():
            return tag["from"]["name"].rpartition(":")[2]
        return tag["annotations"]["note"]

    def shows(self, note):
        return (f":{note}\n" if self.is_from() else f'"{note}"') in self.path.read_text()

    def change_note(self, note):
        """By somebody else, in another second than before: some editors look at seconds only."""
        wait_for(lambda: int(time.time()) > int(self.path.stat().st_mtime), 5, "the next second")
        fields = {"from": source(note)} if self.is_from() else {"annotations": {"note": note}}
        _server.request("PATCH", _server.streams(NAMESPACE, self.stream),
                        {"spec": {"tags": [{"name": "v1", **fields}]}},
                        "application/strategic-merge-patch+json")
        wait_for(lambda: self.shows(note), 10, "the change on the mount")
        self.settle()

    def settle(self):
        """Whatever the watch had to say about what was done so far has been said."""
        value = str(time.monotonic_ns())
        _server.label(NAMESPACE, "sync", **{self.stream: value})
        metadata = self.mount / NAMESPACE / "sync" / "metadata.json"
        wait_for(lambda: value in metadata.read_text(), 10, "the watch")

    def beside(self):
        ours = {"imagestream.json", "imagestream.yaml", "metadata.json", "spec.json", "status.json",
                "tags", "image", "from"}
        return sorted(re.sub(r"(^tmp|\.kak\.)\w{6}$", r"\1XXXXXX", name)
                      for name in set(os.listdir(self.path.parent)) - ours)

    def check_kept(self, text, *reasons):
        """What was typed stands beside the file, and why it wasn't saved."""
        assert pathlib.Path(f"{self.path}.rejected").read_text() == text
        error = pathlib.Path(f"{self.path}.error").read_text()
        for reason in reasons:
            assert reason in error, error


def save(session, document, old, new):
    """An edit and a save that must succeed, be final at once and make no editor suspicious."""
    asked = len(session.asked)
    session.edit(old, new)
    assert session.save(), f"the editor says it wasn't saved:\n{session.said}"
    assert document.note() == new
    status = document.path.stat()
    text = document.path.read_text()
    assert document.shows(new) and status.st_size == len(text)
    document.settle()
    after = document.path.stat()
    assert (after.st_mtime_ns, after.st_size, after.st_ino) == (
        status.st_mtime_ns, status.st_size, status.st_ino), "moved after the save"
    assert not [name for name in document.beside() if name.endswith((".rejected", ".error"))]
    assert session.asked[asked:] == [], "asked about our own save"


def save_and_quit(session, document, old, new):
    save(session, document, old, new)
    assert session.quit(), "asked about a saved text"


def accepted(editor, place, document, seen):
    with Session(editor, place, document.path) as session:
        save(session, document, "AAAA", "BBBB")
        seen["accepted"] = "ok"
        save_and_quit(session, document, "BBBB", "CCCC")
        seen["accepted again"] = "ok"
    seen["left"] = " ".join(document.beside()) or "none"
    assert document.beside() == sorted(editor.left)


def refused(editor, place, document, seen):
    before, tag = document.path.read_text(), document.tag()
    old, new, field = (("image", "image:x", "name") if document.is_from()
                       else ("DockerImage", "Nope", "kind"))
    with Session(editor, place, document.path) as session:
        session.edit(old, new)
        saved = session.save()
        shown = document.path.read_text()
        gone = session.quit()
        seen["refused"] = "SILENT" if saved else (
            f"err,{'clean' if gone else 'dirty'}/{'old' if shown == before else 'new'}")
        assert editor.says[0] in session.said, session.said
        assert shown == before
        assert document.tag() == tag
        document.check_kept(before.replace(old, new), f"spec.tags[v1].from.{field}")
        if not gone:
            session.edit(new, old)
            save_and_quit(session, document, "AAAA", "BBBB")
    if gone:
        with Session(editor, place, document.path) as session:
            save_and_quit(session, document, "AAAA", "BBBB")
    seen["refused, then right"] = "ok"
    assert document.is_from() or document.tag()["from"] == tag["from"]
    seen["left then"] = " ".join(document.beside()) or "none"
    assert document.beside() == sorted(editor.left + editor.left_refused)


def conflict(editor, place, document, seen):
    mine = document.path.read_text().replace("AAAA", "BBBB")
    with Session(editor, place, document.path) as session:
        document.change_note("XXXX")
        session.look()
        session.edit("AAAA", "BBBB")
        saved = session.save()
        asked = "asked," if session.asked else ""
        if document.note() == "BBBB":
            seen["conflict"] = asked + "ok/mine"
            assert saved and asked, "the other's change is lost, and nobody was asked"
            save_and_quit(session, document, "BBBB", "CCCC")
            again = False
        else:
            gone = session.quit()
            seen["conflict"] = asked + (
                "SILENT" if saved else "err,clean" if gone else "err,dirty") + "/theirs"
            assert editor.says[1] in session.said, session.said
            assert document.note() == "XXXX" and document.shows("XXXX")
            document.check_kept(mine, "from" if document.is_from() else "annotations", "AAAA",
                                "BBBB", "XXXX")
            again = gone or not session.reread()
            if not again:
                save_and_quit(session, document, "XXXX", "CCCC")
            elif not gone:
                session.leave()
    if again:
        with Session(editor, place, document.path) as session:
            save_and_quit(session, document, "XXXX", "CCCC")
    seen["conflict, then read again"] = "ok"
    assert document.beside() == sorted(editor.left)


def become_ordinary(server):
    """In the processes that drive the editors."""
    global _server  # pylint: disable=global-statement
    _server = server
    if USER:
        user = pwd.getpwnam(USER)
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)


def run(number, case, place, document):
    """What was seen, and how it failed. Runs in a process of the ordinary user."""
    seen = {}
    try:
        place.mkdir()
        globals()[case](EDITORS[number], place, document, seen)
    except Exception:  # pylint: disable=broad-except
        return seen, traceback.format_exc()
    return seen, None


def wanted(request):
    """The (editor, case) of the tests that were chosen."""
    for item in request.session.items:
        if item.module.__file__ == __file__:
            yield item.callspec.params["number"], item.callspec.params["case"]


def document(mount, editor, case):
    """A tag's own file, or the whole spec: the saves differ, the editors don't."""
    stream = stream_of(editor, case)
    name = ("tags/v1/from" if editor.file == "from" else
            "spec.json" if case == "refused" else "tags/v1/spec.json")
    return Document(mount.path, stream, mount / NAMESPACE / stream / name)


@pytest.fixture(scope="module")
def futures(request, directory):
    """All at once on one mount, a few at a time."""
    place = pathlib.Path(tempfile.mkdtemp(dir=directory))
    place.chmod(0o755)
    homes = place / "homes"
    homes.mkdir()
    server = Server(place, "--namespace", NAMESPACE)
    server.kubeconfig.chmod(0o644)
    chosen = [one for one in wanted(request) if not missing(EDITORS[one[0]])]
    server.create(NAMESPACE, "sync")
    for number, case in chosen:
        server.create(NAMESPACE, stream_of(EDITORS[number], case), tags=[{
            "name": "v1", "annotations": {"note": "AAAA"},
            "from": source("AAAA" if EDITORS[number].file == "from" else "1")}])
    if USER:
        shutil.chown(homes, USER)
    with MonkeyPatch().context() as patch:
        patch.setenv("XDG_STATE_HOME", str(homes / "state"))
        mount = Mount(place, server.kubeconfig, user=USER)
    try:
        with concurrent.futures.ProcessPoolExecutor(
                AT_ONCE, multiprocessing.get_context("fork"), become_ordinary, (server,)) as pool:
            yield {(number, case): pool.submit(run, number, case, homes / str(position),
                                               document(mount, EDITORS[number], case))
                   for position, (number, case) in enumerate(chosen)}
        mount.stop()
        mount.check()
    finally:
        if mount.process.poll() is None:
            mount.kill()
        server.stop()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("number", range(len(EDITORS)), ids=[
    editor.name + ", from" * (editor.file == "from") for editor in EDITORS])
def test_editor(futures, number, case):
    editor = EDITORS[number]
    skip_for(missing(editor))
    if case == "conflict" and editor.command.startswith("vim"):
        skip_for(older("vim", "2:9"))  # it compares times in whole seconds
    seen, failure = futures[number, case].result()
    ext4 = {"refused": editor.ext4_refused, "refused, then right": editor.ext4_right,
            "conflict": editor.ext4_conflict, "left": " ".join(editor.left) or "none",
            "left then": " ".join(sorted(editor.left + editor.left_refused)) or "none"}
    why = {"refused": editor.why_refused,
           "conflict": "what the other wrote was never read, so it isn't overwritten"
                       if "/theirs" in seen.get("conflict", "") else ""}
    for column, outcome in seen.items():
        record("editors" + " of from" * (editor.file == "from"), editor.name, column, outcome, ext4.get(column, "ok"), why.get(column, ""))
    if failure:
        pytest.fail(failure, pytrace=False)
    expected = {"refused": editor.refused, "conflict": editor.conflict}.get(case, "ok")
    assert seen[case] == expected
