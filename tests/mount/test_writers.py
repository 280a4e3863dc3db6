"""Command-line writers save, are refused, meet a conflict, and save again; as an ordinary user.

Each has a stream of its own, so they run at the same time. What a command says and leaves behind
when all goes well is compared with the same command in an ordinary directory.
"""

import concurrent.futures
import dataclasses
import fnmatch
import json
import multiprocessing
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import tempfile
import traceback

import pytest
from _pytest.monkeypatch import MonkeyPatch
import results
import writers
from conftest import STOP_SECONDS, Mount, Server, pinned, skip_for, wait_for

NAMESPACE, TAG = "work", "v1"
pytestmark = pytest.mark.xdist_group("writers")  # at work at the same time, on one mount
CASES = ("accepted", "refused", "conflict", "second")
USER = "nobody" if os.geteuid() == 0 else None
IMAGE = "quay.io/example/app:%s"
# What a command says of a refused save and of a conflict; node has no name for ESTALE.
STALE = "stale file handle|system error -116"
WORDS = {"close": ("invalid argument", STALE), "fsync": ("input/output error|i/o error", STALE),
         "rename": ("invalid argument", "resource busy")}
DOCUMENTS = {"imagestream.json", "imagestream.yaml", "metadata.json", "spec.json", "status.json",
             "tags", "from"}
# Names that are new every time, for a table that isn't.
RANDOM = [(r"\b(sed|XX|d2utmp|json\.gawk\.|json\.o)\w{6}\b", r"\1XXXXXX"),
          (r"\b(from\.gawk\.|from\.o)\w{6}\b", r"\1XXXXXX"), (r"\bfrom\.\d{5,}", "from.NNN"),
          (r"(\.spec\.json\.|\.from\.)\w{6}\b", r"\1XXXXXX"), (r"\btmp\w{8}\b", "tmpXXXXXXXX"),
          (r"\bjson\.\d{5,}", "json.NNN"), (r"\btmp-[0-9a-f]{12,}", "tmp-XXX")]
SHARED = {}  # what the processes of the writers inherit


def drop_rights():
    """In a process of its own: root can't enter a mount of somebody else's."""
    if USER:
        entry = pwd.getpwnam(USER)
        os.setgroups([])
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)


def stream_of(name):
    """A stream for each writer."""
    words = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"w{list(writers.BY_NAME).index(name)}-{words}"[:24].strip("-")


@dataclasses.dataclass
class Run:
    """What a command did."""

    code: int
    said: str
    left: list      # names beside the file
    content: str    # of the file, as soon as the command had returned; None without a file

    @property
    def word(self):
        if self.code == 0:
            return "warn" if self.said else "SILENT"
        return "err" if self.said else "err without a word"


class Place:
    """A writer at its file, on the mount or in an ordinary directory."""

    def __init__(self, writer, root):
        self.writer = writer
        self.stream = root / NAMESPACE / stream_of(writer.name)
        self.directory = self.stream
        if writer.file in ("spec.json", "from"):
            self.directory = self.stream / "tags" / TAG
        self.path = self.directory / writer.file
        self.work = pathlib.Path(tempfile.mkdtemp(dir=SHARED["work"]))
        self.new = None

    def read(self):
        return self.beside("")

    def beside(self, suffix):
        try:
            return self.path.with_name(self.writer.file + suffix).read_text()
        except FileNotFoundError:
            return None

    def start(self, old, new, **more):
        """Begins the command that makes the text old into new."""
        text = self.read()
        assert old in text, f"{old} isn't in {text}"
        self.new = text.replace(old, new)
        (self.work / "new").write_text(self.new)
        environment = dict(
            SHARED["environment"], F=self.writer.file, FROM=old, TO=new, NEW=str(self.work / "new"),
            W=str(self.work), TMPDIR=str(self.work), HOME=str(self.work), CODE=self.writer.code)
        return subprocess.Popen(
            [self.writer.shell, "-c", self.writer.command], cwd=self.directory,
            env=dict(environment, **more), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)

    def finish(self, process):
        said = process.communicate(timeout=60)[0].replace(str(self.work), "$W").strip()
        content, names = self.read(), set(os.listdir(self.directory)) - DOCUMENTS
        kept = {self.writer.file + suffix for suffix in (".rejected", ".error")}
        return Run(process.returncode, said, sorted(names - kept), content)

    def run(self, old, new):
        return self.finish(self.start(old, new))

    def clean(self, names):
        """Removes what a failed command left."""
        for path in (self.directory / name for name in names):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()


class Check:
    """The saves of one writer: what happened, and what of it was wrong, by case."""

    def __init__(self, name):
        self.writer = writers.BY_NAME[name]
        self.server, self.gate = SHARED["server"], SHARED["gate"]
        self.place = Place(self.writer, SHARED["mount"])
        self.plain = Place(self.writer, SHARED["plain"])
        self.usual = {}     # number of the save: Run on disk
        self.cells = {}     # case: (outcome, outcome on ext4, note)
        self.problems = {}  # case: [sentence]
        self.saves = 0

    def all(self):
        """Every case, whatever happened in those before; what can be sent to another process."""
        steps = [("accepted", self.accept, "accepted", 2), ("second", self.accept, "second", 3),
                 ("refused", self.refuse), ("second", self.accept, "second", 4),
                 ("conflict", self.conflict), ("second", self.accept, "second", 6)]
        for case, step, *arguments in steps:
            try:
                step(*arguments)
            except Exception:  # told where this case is looked at
                self.problems.setdefault(case, []).append(traceback.format_exc())
        return {"cells": self.cells, "problems": self.problems, "saves": self.saves}

    def expect(self, case, condition, sentence):
        if not condition:
            self.problems.setdefault(case, []).append(sentence)

    def object(self):
        return self.server.get(NAMESPACE, self.stream)

    @property
    def stream(self):
        return self.place.stream.name

    def from_name(self):
        return self.object()["spec"]["tags"][0]["from"]["name"]

    def on_disk(self, number):
        if number not in self.usual:
            self.usual[number] = self.plain.run(IMAGE % number, IMAGE % (number + 1))
        return self.usual[number]

    def accept(self, case, number):
        place, nothing = self.place, self.writer.how == "nothing"
        text = place.read()
        new = IMAGE % number
        run = place.run(self.from_name(), new)
        if nothing:
            if case == "second":
                return
            usual = self.on_disk(1)
            self.spared(case, run, text)
            self.cells[case] = (("ok" if run.code == 0 else "err") + ", no save",
                                "ok" if usual.code == 0 else "err",
                                self.writer.note or self.note(case, run))
            return
        usual = self.on_disk(1 if case == "accepted" else 2)
        self.saves += 1
        for what in ("code", "said", "left"):
            here, there = getattr(run, what), getattr(usual, what)
            self.expect(case, here == there, f"{what}: {here!r}, on disk {there!r}")
        self.expect(case, self.from_name() == new, f"the server has {self.from_name()}")
        shown = self.shown(run, new)
        self.expect(case, shown, f"not shown when the command returned, but {run.content!r}")
        for suffix in (".rejected", ".error"):
            self.expect(case, place.beside(suffix) is None, f"there is {suffix}")
        outcome, note = "ok", ""
        if run.code or not shown:
            outcome, note = run.word, run.said
        if run.left:
            outcome += ", left " + " ".join(run.left)
        if self.cells.get(case, ("ok",))[0].startswith("ok"):
            ext4 = "ok" + (", left " + " ".join(usual.left) if usual.left else "")
            self.cells[case] = (outcome, ext4, note)
        self.place.clean(run.left)

    def shown(self, run, new):
        """Whether the file holds what was saved, and its size says so."""
        if run.content is None or self.place.path.stat().st_size != len(run.content.encode()):
            return False
        if self.writer.file.endswith(".yaml"):
            return new in run.content
        if self.writer.file == "from":
            return run.content == self.place.new
        return json.loads(run.content) == json.loads(self.place.new)

    def refuse(self):
        case, place = "refused", self.place
        before, text = self.object(), place.read()
        run = place.run(*self.writer.kinds)
        self.expect(case, self.object() == before, "the object changed")
        if self.writer.how == "nothing":
            self.spared(case, run, text)
            self.cells[case] = (f"{run.word},unchanged", self.writer.refused, self.note(case, run))
            return
        self.saves += self.writer.tries
        self.failed(case, run, text)
        first, *causes = (place.beside(".error") or "").splitlines() or [""]
        self.expect(case, first.startswith(
            f'ImageStream.image.openshift.io "{self.stream}" is invalid: '),
            f"the reason begins {first!r}")
        field, why = (("name", "Invalid value") if self.writer.file == "from"
                      else ("kind", "Required value"))
        self.expect(case, any(f"spec.tags[{TAG}].from.{field}" in cause and why in cause
                              for cause in causes), f"the causes are {causes}")

    def failed(self, case, run, text):
        """What a refused save and a conflict have in common."""
        place, writer = self.place, self.writer
        words = self.words(case)
        self.expect(case, (run.code == 0) == (writer.how == "exit"), f"exit code {run.code}")
        if not words:
            self.expect(case, not run.said, f"it wasn't silent: {run.said}")
        else:
            self.expect(case, re.search(words, run.said.lower()),
                        f"said {run.said!r}, not {words}")
        if run.content is None and writer.hidden:
            wait_for(lambda: place.read() is not None, 5, "the hidden name comes back")
            run.content = place.read()
        if text is not None:
            self.expect(case, run.content == text, f"shows {run.content!r}, not {text!r}")
        kept = place.beside(".rejected")
        if writer.file.endswith(".yaml"):
            self.expect(case, kept and "from:" in kept, f"kept {kept!r}")
        elif writer.same_text:
            self.expect(case, kept == place.new, f"kept {kept!r}, not {place.new!r}")
        else:
            self.expect(case, kept and self.is_new(kept), f"kept {kept!r}")
        left = [self.pattern(case, name) for name in run.left]
        for path in (place.directory / name for name in run.left):
            if writer.how == "rename" and path.name not in writer.left and path.is_file():
                self.expect(case, self.is_new(path.read_text()),
                            f"{path.name} isn't what was to be saved")
        place.clean(run.left)
        outcome = run.word + (",kept" if kept is not None else ",LOST")
        if writer.hidden:
            outcome += ", away for 2 s"
        if left:
            outcome += ", left " + " ".join(left)
        ext4 = "their change is lost" if case == "conflict" else writer.refused
        self.cells[case] = (outcome, ext4, self.note(case, run))

    def is_new(self, text):
        """Whether it says what was to be saved."""
        if self.writer.file == "from":
            return text.strip() == self.place.new.strip()
        return json.loads(text) == json.loads(self.place.new)

    def pattern(self, case, name):
        """A name that was left, without its random part."""
        for one in (self.writer.left + " " + self.writer.left_failed).split():
            if fnmatch.fnmatch(name, one):
                return one.replace("?", "X")
        self.expect(case, False, f"left {name}")
        return name

    def words(self, case):
        """What it must say, as a pattern; nothing where it says nothing."""
        usual = WORDS.get(self.writer.how, ("", ""))[case == "conflict"]
        if self.writer.mute:
            return ""
        if self.writer.message and case == "refused":
            return self.writer.message
        return "|".join(one for one in (usual, self.writer.message) if one)

    def note(self, case, run):
        """What is known of it, its exit code and what it said, without what changes every time."""
        lines = run.said.splitlines()
        telling = [line for line in lines if re.search(self.words(case) or "$^", line.lower())]
        said = "".join((telling or lines)[-1:]).replace(str(self.place.directory), ".")
        for pattern, name in RANDOM:
            said = re.sub(pattern, name, said)
        parts = [self.writer.note, f"exit {run.code}" if run.code else "", said]
        return ", ".join(part for part in parts if part)

    def spared(self, case, run, text):
        """A command that never saves: the document stays as it is, and nothing is kept."""
        writer = self.writer
        self.expect(case, (run.code != 0) == bool(writer.message), f"{run.code}: {run.said}")
        self.expect(case, re.search(writer.message, run.said.lower()), f"said {run.said!r}")
        self.expect(case, self.place.read() == text, "the document changed")
        self.expect(case, self.place.beside(".rejected") is None, "there is .rejected")
        self.place.clean(run.left)

    def conflict(self):
        case, place, writer = "conflict", self.place, self.writer
        if writer.how == "nothing":
            return
        if self.gate is None:
            self.cells[case] = ("not measured", "their change is lost", "no compiler")
            return
        text, base = place.read(), self.from_name()
        theirs, mine = IMAGE % "9", IMAGE % "5"
        doors = place.work / "gate"
        doors.mkdir()
        process = place.start(base, mine, LD_PRELOAD=str(self.gate), GATE=str(doors),
                              GATE_AT="rename" if writer.how == "rename" else "open")
        try:
            wait_for(lambda: (doors / "reached").exists() or process.poll() is not None, 20,
                     "the window")
            if process.poll() is not None:
                raise AssertionError("it never came to the window: " + process.communicate()[0])
            self.change(theirs)
            whole = place.stream / "imagestream.json"
            wait_for(lambda: theirs in whole.read_text(), 10, "their change in imagestream.json")
            wait_for(lambda: theirs in (place.read() or theirs), 10,
                     f"their change in {writer.file}")
        finally:
            (doors / "go").touch()
            run = place.finish(process)
        self.expect(case, self.from_name() == theirs, f"the server has {self.from_name()}")
        by_field = writer.file in ("spec.json", "from")
        self.failed(case, run, text.replace(base, theirs) if by_field else None)
        reason = place.beside(".error") or ""
        for part in (f"spec.tags[{TAG}].from", base, theirs, mine) if by_field else ():
            self.expect(case, part in reason, f"{part} isn't in the reason {reason!r}")

    def change(self, name):
        """Somebody else changes the same field."""
        reference = dict(self.object()["spec"]["tags"][0]["from"], name=name)
        self.server.request("PATCH", self.server.streams(NAMESPACE, self.stream),
                            {"spec": {"tags": [{"name": TAG, "from": reference}]}},
                            "application/strategic-merge-patch+json")


def run_one(name):
    """In another process."""
    try:
        check = Check(name)
        if not check.place.path.exists():
            return f"there is no {check.writer.file}"
        return check.all()
    except Exception:
        return {"cells": {}, "saves": 0,
                "problems": {case: [traceback.format_exc()] for case in CASES}}


def give(path):
    """To the user that writes, with everything in it."""
    if USER:
        for one in [path, *path.rglob("*")]:
            shutil.chown(one, USER, "nogroup")


def make_plain(directory, names):
    """The same documents on disk."""
    for name in names:
        place = Place(writers.BY_NAME[name], directory)
        place.directory.mkdir(parents=True)
        source = {"kind": "DockerImage", "name": IMAGE % 1}
        text = json.dumps({"name": TAG, "from": source}, indent=2) + "\n"
        if place.path.suffix == ".yaml":
            text = ("spec:\n  tags:\n  - name: v1\n    from:\n      kind: DockerImage\n"
                    f"      name: {IMAGE % 1}\n")
        if place.path.name == "from":
            text = IMAGE % 1 + "\n"
        place.path.write_text(text)


def asked_for(request):
    """The writers that this session's tests are about, in their order."""
    names = {item.callspec.params["name"] for item in request.session.items
             if "checks" in getattr(item, "fixturenames", ()) and hasattr(item, "callspec")}
    return [name for name in writers.BY_NAME if name in names]


def those_here(names, modules):
    """{name: why not}, and the names of the others."""
    missing = {name: writers.BY_NAME[name].missing() for name in names}
    with_modules = [name for name in names if not missing[name]
                    and set(writers.BY_NAME[name].needs) & set(writers.MODULES)]
    why = writers.install_modules(modules) if with_modules else None
    missing.update({name: why for name in with_modules})
    missing = {name: why for name, why in missing.items() if why}
    return missing, [name for name in names if name not in missing]


@pytest.fixture(scope="module")
def checks(request, directory):
    """All writers that were asked for, at work at the same time."""
    place = directory / "writers"
    modules, plain, work, state = (place / name for name in ("modules", "plain", "work", "state"))
    for path in (place, modules, plain, work, state):
        path.mkdir()
    answers, names = those_here(asked_for(request), modules)
    server = Server(place, "--namespace", NAMESPACE)
    for path in (server.kubeconfig, server.ca, server.token_file):
        path.chmod(0o644)
    SHARED.update(
        plain=plain, work=work, server=server, gate=writers.build_gate(place),
        environment={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MODULES": str(modules),
                     "GIT_CEILING_DIRECTORIES": str(directory)})
    make_plain(plain, names)
    for path in (plain, work, state):
        give(path)
    for name in names:
        server.create(NAMESPACE, stream_of(name), tags=[
            {"name": TAG, "from": {"kind": "DockerImage", "name": IMAGE % 1}}])
    server.reset()
    with MonkeyPatch().context() as patch:
        patch.setenv("XDG_STATE_HOME", str(state))
        mount = Mount(directory, server.kubeconfig, user=USER)
    SHARED["mount"] = mount.path
    try:
        with concurrent.futures.ProcessPoolExecutor(
                6, multiprocessing.get_context("fork"), drop_rights) as pool:
            answers.update(zip(names, pool.map(run_one, names)))
        requests = server.control("GET", "requests")["requests"]
        for name in (name for name in names if isinstance(answers[name], dict)):
            path = server.streams(NAMESPACE, stream_of(name))
            answers[name]["sent"] = [
                request for request in requests if request["path"] == path
                and request["method"] in ("PATCH", "PUT")
                and request["headers"].get("user-agent") != "tests"]
        answers["the end"] = {"took": mount.stop(), "mount": mount, "state": state}
    finally:
        mount.stop()
        server.stop()
    return answers


@pytest.fixture
def check(checks, name):
    if isinstance(checks[name], str):
        pytest.skip(f"{name}: {checks[name]}")
    return checks[name]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", writers.BY_NAME)
def test_writer(check, name, case):
    if case in check["cells"]:
        outcome, ext4, note = check["cells"][case]
        kind = "writers of from" if writers.BY_NAME[name].file == "from" else "writers"
        results.record(kind, name.removesuffix(writers.OF_FROM), case, outcome, ext4, note)
    assert not check["problems"].get(case), "\n".join(
        [writers.BY_NAME[name].command, *check["problems"][case]])


@pytest.mark.parametrize("name", writers.BY_NAME)
def test_one_request_a_save(check, name):
    if "&& mv" in name:  # coreutils 9.5 renames once more what was refused
        skip_for(pinned("mv", "13"))
    if check["problems"]:
        pytest.skip("not where a save went wrong")
    assert len(check["sent"]) == check["saves"], check["sent"]


def test_end(checks):
    end = checks["the end"]
    assert end["took"] < STOP_SECONDS, f"it took {end['took']:.1f} s to end"
    end["mount"].check()
    # The last save of each was accepted.
    assert not [path for path in end["state"].rglob("*") if path.is_file()]
