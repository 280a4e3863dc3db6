"""Directories are objects: what is absent for who makes one, and what tools copy, move and restore."""

import contextlib

import errno
import itertools
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import pytest
from _pytest.monkeypatch import MonkeyPatch
import results
from conftest import fails, older, skip_for, wait_for
from events import Agent, Inotify
from test_machine import HIDDEN, UNTOLD, Elsewhere
from test_save import (NAMESPACE, Rig, Stream, image, in_child, item, names, save, sent, tag,
                       template, text, without)

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
REAL = {"imagestream.json", "imagestream.yaml", "metadata.json", "spec.json", "status.json", "tags"}
CHECK = "openshift.io/image.dockerRepositoryCheck"
REGISTRY = "image-registry.openshift-image-registry.svc:5000"
ODD = ("a/b", ".hidden", "100%", "ümlaut", "with space", "quote\"'\\", "a:b@c")


# What is copied: a stream of everything that a stream may hold.


def own(name, namespace, number):
    """An image that was pushed into the stream."""
    digest = f"sha256:{number:064x}"
    return {"created": "2026-11-01T10:00:00Z", "image": digest, "generation": 1,
            "dockerImageReference": f"{REGISTRY}/{namespace}/{name}@{digest}"}


def full(name, namespace=NAMESPACE):
    obj = template(name, namespace)
    obj["metadata"]["annotations"] |= {CHECK: "2026-11-01T10:00:00Z", "text": "two\nlines, \"ü\""}
    obj["spec"]["lookupPolicy"]["local"] = True
    obj["spec"]["tags"] += [
        {**tag("ref", image("web:ref"), why="kept"), "reference": True},
        {**tag("scheduled", image("web:daily")),
         "importPolicy": {"scheduled": True, "insecure": True, "importMode": "PreserveOriginal"},
         "referencePolicy": {"type": "Local"}},
        {"name": "bare", "annotations": {"to": "push to"}},
        tag("alias", {"kind": "ImageStreamTag", "namespace": NAMESPACE, "name": "marker:v1"}),
        *(tag(odd, image("odd:1")) for odd in ODD)]
    obj["spec"]["tags"].sort(key=lambda one: one["name"])
    obj["status"]["tags"].insert(0, {"tag": "alias", "items": [item(2)]})
    obj["status"]["tags"][2] = {"tag": "pushed", "items": [own(name, namespace, 5),
                                                           own(name, namespace, 4)]}
    return obj


def portable(name, namespace=NAMESPACE):
    """Without what follows a stream of another namespace."""
    obj = full(name, namespace)
    obj["spec"]["tags"] = [one for one in obj["spec"]["tags"] if one["name"] != "alias"]
    obj["status"]["tags"] = [one for one in obj["status"]["tags"] if one["tag"] != "alias"]
    return obj


class Copies(Rig):
    """Streams that aren't copied to: `full-N`, made when asked for."""

    count = 0

    def make(self, namespace=NAMESPACE, mount=None, make=full):
        Copies.count += 1
        return self.put(make(f"full-{Copies.count}", namespace), mount)

    def put(self, obj, mount=None):
        mount = mount or self.mount
        namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
        self.server.control("POST", "bulk", [{
            "op": "replace", "namespace": namespace, "name": name,
            "object": without(obj, "kind", "apiVersion")}])
        made = Stream(self.server, mount, name, namespace)
        wait_for(made.path.exists, 10, "the stream")
        return made

    def remove(self, made):
        self.server.delete(made.namespace, made.name)
        wait_for(lambda: not made.path.exists(), 10, "its end")


@pytest.fixture(scope="module")
def rig(directory):
    place = pathlib.Path(tempfile.mkdtemp(dir=directory))
    with MonkeyPatch().context() as patch:
        patch.setenv("XDG_STATE_HOME", str(place / "state"))
        made = Copies(place)
        yield made
        made.stop()


@pytest.fixture(autouse=True)
def calm(rig):
    yield
    rig.server.control("DELETE", "faults")


@pytest.fixture
def place(directory):
    return pathlib.Path(tempfile.mkdtemp(dir=directory))


def meant(obj):
    """What a copy has to have of it."""
    return {"labels": obj["metadata"].get("labels"),
            "annotations": without(obj["metadata"].get("annotations") or {}, CHECK),
            "lookupPolicy": obj["spec"]["lookupPolicy"],
            "tags": {one["name"]: without(one, "generation") for one in obj["spec"].get("tags", [])}}


def same(now, before, pushed=()):
    """`pushed`: names of tags that may have got a `from`, or a history without one."""
    now, before = meant(now), meant(before)
    for name in pushed:
        now["tags"].pop(name, None)
    assert now == before


# The tools. $1/$2 is copied into $3; $4 is an empty directory to work in.

PYTHON = "/usr/bin/python3"
UU = "/usr/lib/cargo/bin/coreutils/"
SFTP = "/usr/lib/openssh/sftp-server"
TOOLS = {
    "cp -r": 'cp -r "$1/$2" "$3/"',
    "cp -a": 'cp -a "$1/$2" "$3/"',
    "cp -rT": 'cp -rT "$1/$2" "$3/$2"',
    "mv": 'cp -a "$1/$2" "$4/" && mv "$4/$2" "$3/"',
    "tar": 'tar -C "$1" -cf - "$2" | tar -C "$3" -xf -',
    "tar -p": 'tar -C "$1" -cpf - "$2" | tar -C "$3" -xpf - --same-owner',
    "rsync -a": 'rsync -a "$1/$2" "$3/"',
    "rsync -r": 'rsync -r "$1/$2" "$3/"',
    "rsync -a --inplace": 'rsync -a --inplace "$1/$2" "$3/"',
    "rsync -a --delay-updates": 'rsync -a --delay-updates "$1/$2" "$3/"',
    "rsync -a --delete": 'rsync -a --delete "$1/$2" "$3/"',
    "rsync -aXA --fsync": 'rsync -aA --fsync "$1/$2" "$3/"',
    "git checkout": 'git init -q "$4/g" && cd "$1" && export GIT_DIR="$4/g/.git" && '
                    'git --work-tree "$1" add "$2" && git commit -qm a && '
                    'cd "$3" && git --work-tree "$3" checkout -f HEAD -- "$2"',
    "git worktree": 'git init -q "$4/g" && cp -r "$1/$2/." "$4/g/" && cd "$4/g" && git add . && '
                    'git commit -qm a && git worktree add -q --detach "$3/$2"',
    "git clone": 'git init -q "$4/g" && cp -r "$1/$2/." "$4/g/" && cd "$4/g" && git add . && '
                 'git commit -qm a && git clone -q "$4/g" "$3/$2"',
    "unzip -o": 'cd "$1" && zip -qr "$4/z.zip" "$2" && cd "$3" && unzip -qo "$4/z.zip"',
    "cpio": 'cd "$1" && find "$2" | cpio -o --quiet -Hnewc > "$4/c" && cd "$3" && '
            'cpio -idmu --quiet < "$4/c"',
    "cpio -p": 'cd "$1" && find "$2" -depth -print0 | cpio -0pdmu --quiet "$3"',
    "bsdtar": 'bsdtar -C "$1" -cf - "$2" | bsdtar -C "$3" -xf -',
    "install -D": 'cd "$1" && find "$2" -type f | while read -r f; do '
                  'install -D "$f" "$3/$f" || exit 1; done',
    "shutil.copytree": f'{PYTHON} -c "import shutil, sys; shutil.copytree(*sys.argv[1:])" '
                       '"$1/$2" "$3/$2"',
    "shutil.move": f'cp -a "$1/$2" "$4/" && {PYTHON} -c "import shutil, sys; '
                   'shutil.move(*sys.argv[1:])" "$4/$2" "$3/"',
    "tarfile": f'tar -C "$1" -cf "$4/t" "$2" && {PYTHON} -c "import tarfile, sys; '
               'tarfile.open(sys.argv[1]).extractall(sys.argv[2])" "$4/t" "$3"',
    "zipfile": f'cd "$1" && {PYTHON} -m zipfile -c "$4/z.zip" "$2" && '
               f'{PYTHON} -m zipfile -e "$4/z.zip" "$3"',
    "node cpSync": 'node -e "require(\'fs\').cpSync(...process.argv.slice(1), '
                   '{recursive: true})" "$1/$2" "$3/$2"',
    "node cp": 'node -e "require(\'fs\').promises.cp(...process.argv.slice(1), '
               '{recursive: true})" "$1/$2" "$3/$2"',
    "busybox cp": 'busybox cp -r "$1/$2" "$3/"',
    "busybox cp -a": 'busybox cp -a "$1/$2" "$3/"',
    "busybox mv": 'cp -a "$1/$2" "$4/" && busybox mv "$4/$2" "$3/"',
    "busybox tar": 'busybox tar -C "$1" -cf - "$2" | busybox tar -C "$3" -xf -',
    "busybox cpio": 'cd "$1" && find "$2" | busybox cpio -o -Hnewc 2>/dev/null > "$4/c" && cd "$3" && '
                    'busybox cpio -idmu 2>"$4/said" < "$4/c"',
    "busybox unzip": 'cd "$1" && zip -qr "$4/z.zip" "$2" && cd "$3" && '
                     'busybox unzip -qo "$4/z.zip"',
    "sftp put -r": f'cd "$1" && printf "put -r %s\\n" "$2" > "$4/b" && cd "$1" && '
                   f'(printf "cd %s\\n" "$3"; cat "$4/b") > "$4/c" && '
                   f'sftp -q -b "$4/c" -D {SFTP} >/dev/null',
    "uu cp": f'{UU}cp -r "$1/$2" "$3/"',
    "uu mv": f'cp -a "$1/$2" "$4/" && {UU}mv "$4/$2" "$3/"',
    "toybox cp": 'toybox cp -r "$1/$2" "$3/"',
    "toybox mv": 'cp -a "$1/$2" "$4/" && toybox mv "$4/$2" "$3/"',
    "toybox tar": 'tar -C "$1" -cf "$4/t" "$2" && cd "$3" && toybox tar -xf "$4/t"',
    "toybox cpio": 'cd "$1" && find "$2" | toybox cpio -oHnewc > "$4/c" && cd "$3" && '
                   'toybox cpio -idu < "$4/c"',
    "perl dircopy": 'perl -MFile::Find -MFile::Copy -e \'my ($s, $d) = @ARGV; find({no_chdir => 1, '
                    'wanted => sub { my $t = $_; $t =~ s/^\\Q$s\\E/$d/; -d $_ ? (mkdir($t) or die '
                    '"$t: $!") : (copy($_, $t) or die "$t: $!") }}, $s)\' "$1/$2" "$3/$2"',
}
NEEDS = {"node": "node", "busybox": "busybox", "toybox": "toybox", "uu": UU + "cp", "sftp": SFTP,
         "git": "git", "bsdtar": "bsdtar", "cpio": "cpio", "unzip": "unzip"}


def needed(tool):
    program = NEEDS.get(tool.split()[0])
    if program and not shutil.which(program):
        pytest.skip(f"{program} isn't here")
    if "--fsync" in tool:
        skip_for(older("rsync", "3.2.4"))


def run(tool, source, target, scratch, **options):
    """What it said and how it ended: $1/$2 into $3."""
    work = tempfile.mkdtemp(dir=scratch)
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "a",
                   "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a",
                   "GIT_COMMITTER_EMAIL": "a@b", "GIT_CONFIG_COUNT": "1",
                   "PYTHONWARNINGS": "ignore",  # Python 3.13 warns of tarfile's defaults
                   "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    done = subprocess.run(
        ["bash", "-c", "set -o pipefail; " + TOOLS[tool], "bash", source.parent, source.name,
         target, work], capture_output=True, text=True, check=False, timeout=240,
        stdin=subprocess.DEVNULL, env=environment, **options)
    return done.returncode, done.stderr


def on_ext4(tool, source, target, place):
    """The same there: how it ends where it's new, or over what is there."""
    code, said = run(tool, source, target, place)
    return "ok" if (code, said) == (0, "") else f"err {code}"


def note(tool, case, ended, other):
    """A cell of the table: how it ended on the mount and on ext4."""
    code, said = ended
    outcome = "ok" if (code, said) == (0, "") else f"err {code}" if code else "warns"
    lines = [line for line in said.strip().splitlines() if "/" in line or ":" in line]
    why = re.sub(r"/var/tmp/[^\s':]*", "…", lines[-1])[:120] if lines else ""
    results.record("copiers", tool, case, outcome, other, "" if outcome == "ok" else why)


# A process for each file: what it writes after the first isn't a copy, since nobody made the
# directory for it. Of a status that is older than the server's, and of images, it is told so.
SEPARATE = ("install -D",)


# It lists each directory that it made, and looks at what it found: that isn't there for its maker,
# though a listing shows it. It says so, and copies all the same.
LISTS = "rsync -a --delete"


def clean(tool, ended):
    code, said = ended
    if tool == LISTS and code == 24:
        return all(line.startswith(("file has vanished", "rsync warning: some files vanished"))
                   for line in said.splitlines())
    return (code, said) == (0, "")


@pytest.fixture
def backup(rig, place):
    """A stream, and a copy of its directory elsewhere."""
    made = rig.make()
    (place / "out").mkdir()
    subprocess.run(["cp", "-a", made.path, place / "out"], check=True)
    return made, place / "out" / made.name


# Round trips: out, gone on the server, back.


@pytest.mark.parametrize("tool", TOOLS)
def test_restore(rig, backup, place, tool):
    """As an admin: pushed images go where a push would have put them."""
    needed(tool)
    made, out = backup
    obj = made.get()
    (place / "ext4").mkdir()
    other = on_ext4(tool, out, place / "ext4", place)
    rig.remove(made)
    ended = run(tool, out, made.path.parent, place)
    note(tool, "new", ended, other)
    if tool in SEPARATE:
        assert "status.json" in ended[1]
        return
    assert clean(tool, ended), ended
    same(made.get(), obj, ["pushed"])
    assert made.history()["pushed"][0]["image"] == own(made.name, NAMESPACE, 5)["image"]
    assert not list(made.path.rglob("*.error"))


@pytest.mark.parametrize("tool", TOOLS)
def test_over_what_is_there(rig, backup, place, tool):
    """A backup over its own stream that hasn't changed: nothing is lost, and nothing is wrong."""
    needed(tool)
    made, out = backup
    obj = made.get()
    (place / "ext4").mkdir()
    shutil.copytree(out, place / "ext4" / made.name)
    other = on_ext4(tool, out, place / "ext4", place)
    ended = run(tool, out, made.path.parent, place)
    note(tool, "over", ended, other)
    same(made.get(), obj)
    assert made.history() == {one["tag"]: one["items"] for one in obj["status"]["tags"]}
    assert made.get()["metadata"]["uid"] == obj["metadata"]["uid"]
    if other == "ok":
        assert ended == (0, "")


def copied_tags(rig, made):
    return rig.server.get("empty", made.name)["spec"]["tags"]


INSIDE = [tool for tool in TOOLS if tool not in SEPARATE and not tool.startswith("git")]


@pytest.mark.parametrize("tool", INSIDE)
def test_copy_within_the_mount(rig, place, tool):
    """Into another namespace: pushed images are the very ones, by reference."""
    needed(tool)
    made = rig.make()
    obj = made.get()
    rig.server.reset()
    ended = run(tool, made.path, rig.mount / "empty", place)
    count = len(sent(rig.server))
    print(f"{tool}: {count} requests for {len(copied_tags(rig, made))} tags")
    assert clean(tool, ended), ended
    copied = Stream(rig.server, rig.mount, made.name, "empty")
    same(copied.get(), obj, ["pushed"])
    digest = own(made.name, NAMESPACE, 5)["image"]
    assert copied.tags()["pushed"]["from"] == {
        "kind": "ImageStreamImage", "namespace": NAMESPACE, "name": f"{made.name}@{digest}"}
    assert copied.history()["pushed"][0]["image"] == digest
    assert made.get() == obj or tool.endswith("mv")
    # With the spec first it's one for all tags; with the directories first, one or two for each.
    assert count <= 5 + 3 * len(copied.tags())


@pytest.mark.parametrize("tool", ["cp -r", "mv", "rsync -a", "tar"])
def test_a_tag_is_a_directory_too(rig, place, tool):
    made = rig.make()
    for name in ("v1", "pushed", "bare", "ref"):
        (place / name).mkdir()
        shutil.copytree(made / "tags" / name, place / name / f"new-{name}")
        assert run(tool, place / name / f"new-{name}", made / "tags", place) == (0, "")
    tags = made.tags()
    for name in ("v1", "bare", "ref"):
        assert without(tags[f"new-{name}"], "name", "generation") == \
            without(tags[name], "name", "generation")
    digest = own(made.name, NAMESPACE, 5)["image"]
    assert tags["new-pushed"]["from"] == {"kind": "ImageStreamImage",
                                          "name": f"{made.name}@{digest}"}
    assert made.history()["new-pushed"][0]["image"] == digest


def test_oc_tag_by_cp(rig):
    """cp -r tags/v1 tags/prod, and once more over it."""
    made = rig.make()
    subprocess.run(["cp", "-r", made / "tags/v1", made / "tags/prod"], check=True)
    assert made.tags()["prod"]["from"] == image("web:v1")
    done = subprocess.run(["cp", "-rT", made / "tags/v2", made / "tags/prod"],
                          capture_output=True, text=True, check=False)
    assert made.tags()["prod"]["from"] == image("web:v2"), done.stderr


# With other rights.


@pytest.fixture(scope="module")
def developer(rig):
    """Edits dev, views prod."""
    rig.put(portable("viewed", "prod"))
    return rig.another("--context", "developer")


@pytest.mark.parametrize("tool", ["cp -r", "cp -a", "mv", "tar", "rsync -a", "git checkout",
                                  "unzip -o", "node cp"])
def test_as_an_editor(rig, developer, place, tool):
    """No right to status: a pushed image whose stream is gone is refused, that file alone."""
    needed(tool)
    made = rig.make("dev", developer, portable)
    (place / "out").mkdir()
    subprocess.run(["cp", "-a", made.path, place / "out"], check=True)
    obj = made.get()
    rig.remove(made)
    code, said = run(tool, place / "out" / made.name, made.path.parent, place)
    same(made.get(), obj, ["pushed"])
    assert {path.relative_to(made.path).as_posix() for path in made.path.rglob("*.error")} == {
        "tags/pushed/image.error"}
    assert "gone" in (made / "tags/pushed/image.error").read_text()
    if tool not in ("git checkout", "unzip -o"):  # these don't look at close()
        assert code and "tags/pushed/image" in said
        found = {re.sub(r"/\.image\.\w+$", "/image", one)
                 for one in re.findall(r"full-\d+/([^'\": ]*)", said)}
        assert found == {"tags/pushed/image"}
    assert {one["method"] for one in sent(rig.server)} <= {"POST", "PATCH", "PUT", "DELETE"}


def test_a_viewer_of_the_source(rig, developer, place):
    """Who may view a stream may pull from it, too."""
    source = Stream(rig.server, developer, "viewed", "prod")
    obj = source.get()
    assert run("cp -r", source.path, developer / "dev", place) == (0, "")
    copied = Stream(rig.server, developer, "viewed", "dev")
    same(copied.get(), obj, ["pushed"])
    assert copied.tags()["pushed"]["from"]["namespace"] == "prod"


def test_a_mere_viewer_copies_out_alone(rig, place):
    mount = rig.another("--context", "viewer")
    source = Stream(rig.server, mount, rig.make("dev").name, "dev")
    wait_for(source.path.exists, 10, "the stream")
    assert run("cp -r", source.path, place, place) == (0, "")
    code, said = run("cp -r", place / source.name, mount / "prod", place)
    assert code == 1 and "Permission denied" in said
    assert len(said.splitlines()) == 1


# Two servers.


@pytest.mark.parametrize("tool", ["cp -r", "rsync -a", "tar", "true mv"])
def test_migration(rig, start_server, start_mount, place, tool):
    other = start_server("--namespace", "there")
    mount = start_mount(other)
    made = rig.make(make=portable)
    obj = made.get()
    if tool == "true mv":
        done = subprocess.run(["mv", made.path, mount / "there"], capture_output=True, text=True,
                              check=False)
        code, said = done.returncode, done.stderr
    else:
        code, said = run(tool, made.path, mount / "there", place)
    gone = Stream(other, mount, made.name, "there")
    now = gone.get()
    assert (code, said) == (0, "")
    same(now, obj, ["pushed"])
    # An admin there may say what was pushed.
    assert gone.history()["pushed"][0]["image"] == own(made.name, NAMESPACE, 5)["image"]
    assert made.path.exists() == (tool != "true mv")


# A namespace.


@pytest.mark.parametrize("tool", ["cp -r", "rsync -a", "tar"])
@pytest.mark.parametrize("namespace", ["openshift", "shop", "monitoring"])
def test_a_namespace_of_the_sample(server, mount, place, namespace, tool):
    """Copied out, all deleted on the server, and copied back."""
    before = {one["metadata"]["name"]: one
              for one in server.request("GET", server.streams(namespace))["items"]}
    subprocess.run(["cp", "-a", mount / namespace, place], check=True)
    for name in before:
        server.delete(namespace, name)
    wait_for(lambda: not names(mount / namespace), 30, "their end")
    command = {"cp -r": ["cp", "-r", f"{place}/{namespace}/.", mount / namespace],
               "rsync -a": ["rsync", "-a", f"{place}/{namespace}/", f"{mount / namespace}/"],
               "tar": ["sh", "-c", 'tar -C "$1" -cf - . | tar -C "$2" --no-overwrite-dir -xf -',
                       "sh", place / namespace, mount / namespace]}[tool]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    after = {one["metadata"]["name"]: one
             for one in server.request("GET", server.streams(namespace))["items"]}
    assert set(after) == set(before)
    for name, one in before.items():
        pushed = {tag_["tag"] for tag_ in one["status"].get("tags", [])} - {
            tag_["name"] for tag_ in one["spec"].get("tags", []) if "from" in tag_}
        same(after[name], {**one, "spec": {**one["spec"], "tags": [
            tag_ for tag_ in one["spec"].get("tags", []) if tag_["name"] not in pushed]}}, pushed)
        assert set(mount.path.joinpath(namespace, name, "tags").iterdir())


# What is absent.


@pytest.fixture
def fresh(rig):
    """A stream that this process makes."""
    path = rig.mount / "empty" / f"fresh-{time.monotonic_ns()}"
    os.mkdir(path)
    return Stream(rig.server, rig.mount, path.name, "empty")


def others_see(path):
    """What another process sees: a listing and a look at each."""
    done = subprocess.run(["find", path, "-mindepth", "1", "-maxdepth", "1", "-printf", "%f\\n"],
                          capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


def seen(path):
    """What a listing shows and a look finds: for a maker what it made."""
    return {name for name in os.listdir(path) if os.path.lexists(os.path.join(path, name))}


def test_a_new_directory_is_empty_for_its_maker(fresh):
    assert seen(fresh.path) == set()
    assert set(os.listdir(fresh.path)) == REAL  # a listing shows everything, the maker's, too
    assert seen(fresh.path) == set()  # and ends nothing
    for name in REAL:
        path = fresh / name
        assert not path.exists()
        for call in (os.stat, os.unlink, os.rmdir, os.listdir, lambda p: os.rename(p, fresh / "x"),
                     lambda p: os.open(p, os.O_RDONLY), lambda p: os.open(p, os.O_WRONLY),
                     lambda p: os.truncate(p, 0), lambda p: os.chmod(p, 0o600)):
            with fails(errno.ENOENT):
                call(path)
    assert others_see(fresh.path) == REAL
    assert in_child(os.stat, fresh / "spec.json") == 0  # a child is another process
    assert in_child(os.stat, fresh / "tags") == 0
    assert (fresh / ".api/export.json").exists()
    assert os.stat(fresh.path).st_nlink == 3


def test_what_the_maker_makes_is_there(rig, fresh):
    count = len(sent(rig.server))
    fd = os.open(fresh / "spec.json", NEW)
    with fails(errno.EEXIST):
        os.open(fresh / "spec.json", NEW)
    assert seen(fresh.path) == {"spec.json"} and (fresh / "spec.json").exists()
    os.close(fd)
    os.mkdir(fresh / "tags")
    with fails(errno.EEXIST):
        os.mkdir(fresh / "tags")
    assert seen(fresh.path) == {"spec.json", "tags"} and seen(fresh / "tags") == set()
    assert len(sent(rig.server)) == count
    save(fresh / "spec.json", text({"tags": [tag("v1", image("a:1")), tag("v2", image("a:2"))]}))
    assert len(sent(rig.server)) == count + 1
    assert seen(fresh / "tags") == set() and not (fresh / "tags/v1").exists()
    assert others_see(fresh / "tags") == {"v1", "v2"}
    for call in (os.rmdir, os.unlink):
        with fails(errno.ENOENT):
            call(fresh / "tags/v1")
    os.mkdir(fresh / "tags/v1")
    assert seen(fresh / "tags") == {"v1"} and seen(fresh / "tags/v1") == set()
    assert others_see(fresh / "tags/v1") == {"spec.json", "from"}
    assert len(sent(rig.server)) == count + 1
    for name in ("imagestream.yaml", "imagestream.json", "metadata.json", "status.json"):
        os.close(os.open(fresh / name, NEW))
    assert seen(fresh.path) == REAL and len(sent(rig.server)) == count + 1
    assert (fresh / "imagestream.json").read_text() == \
        subprocess.run(["cat", fresh / "imagestream.json"], capture_output=True, text=True,
                       check=True).stdout


def test_a_rename_onto_an_absent_name_is_a_save(fresh):
    save(fresh / ".spec.json.x", text({"tags": [tag("v1", image("a:1"))]}), NEW)
    os.rename(fresh / ".spec.json.x", fresh / "spec.json")
    assert fresh.tags()["v1"]["from"] == image("a:1")
    assert seen(fresh.path) == {"spec.json"}


def test_its_threads_are_the_maker(rig):
    box = {}
    path = rig.mount / "empty" / f"threads-{time.monotonic_ns()}"

    def in_thread(function, *arguments):
        thread = threading.Thread(target=lambda: box.update(it=function(*arguments)))
        thread.start()
        thread.join()
        return box["it"]

    in_thread(os.mkdir, path)
    assert not path.joinpath("spec.json").exists()
    assert not in_thread(os.path.exists, path / "spec.json")
    assert in_thread(seen, path) == set()
    os.close(in_thread(os.open, path / "spec.json", NEW))
    assert in_thread(os.path.exists, path / "spec.json")


def test_caches_of_others(rig):
    """What another process knew, and knows, is nothing to the maker; nor the other way round."""
    path = rig.mount / "empty" / f"cached-{time.monotonic_ns()}"
    other = Agent()
    assert not other.exists(str(path)) and not other.exists(str(path / "spec.json"))
    os.mkdir(path)
    for _ in range(3):
        assert other.exists(str(path / "spec.json")) and not (path / "spec.json").exists()
        other.walk(str(path))
        subprocess.run(["ls", "-lR", path], check=True, stdout=subprocess.DEVNULL)  # READDIRPLUS
        assert not (path / "spec.json").exists() and seen(path) == set()
        assert others_see(path) == REAL
    os.close(os.open(path / "spec.json", NEW))
    assert (path / "spec.json").exists() and other.exists(str(path / "spec.json"))
    os.mkdir(path / "tags")
    assert not other.exists(str(path / "tags/v1"))
    save(path / "spec.json", text({"tags": [tag("v1", image("a:1"))]}))
    assert other.exists(str(path / "tags/v1/spec.json")) and not (path / "tags/v1").exists()
    os.mkdir(path / "tags/v1")
    assert other.exists(str(path / "tags/v1/spec.json"))
    assert not (path / "tags/v1/spec.json").exists()
    other.close()


def test_with_a_cwd_in_it(fresh):
    before = os.getcwd()
    try:
        os.chdir(fresh.path)
        assert set(os.listdir(".")) == REAL and not os.path.exists("spec.json")
        os.mkdir("tags")
        os.chdir("tags")
        save("../spec.json", text({"tags": [tag("v1", image("a:1"))]}), NEW)
        assert not os.path.exists("v1") and os.path.exists("../spec.json")
        os.mkdir("v1")
        assert seen("v1") == set()
    finally:
        os.chdir(before)


def test_by_a_bind_mount(rig, place):
    other = place / "bind"
    other.mkdir()
    subprocess.run(["mount", "--bind", rig.mount / "empty", other], check=True)
    try:
        name = f"bound-{time.monotonic_ns()}"
        os.mkdir(other / name)
        assert seen(other / name) == set() and seen(rig.mount / "empty" / name) == set()
        assert not (rig.mount / "empty" / name / "spec.json").exists()
        assert others_see(other / name) == others_see(rig.mount / "empty" / name) == REAL
        os.close(os.open(rig.mount / "empty" / name / "spec.json", NEW))
        assert (other / name / "spec.json").exists()
    finally:
        subprocess.run(["umount", other], check=True)


def test_what_it_makes_is_announced(rig, fresh):
    """To who watches: its own makes, and what the server put there."""
    events = Inotify()
    events.add(fresh.path, "stream")
    os.mkdir(fresh / "tags")
    save(fresh / "spec.json", text({"tags": [tag("v1", image("a:1"))]}), NEW)
    assert events.until(lambda one: one[1] == "spec.json" and "CREATE" in one[2], 30)
    events.add(fresh / "tags", "tags")
    os.mkdir(fresh / "tags/v1")
    assert events.until(lambda one: one[1] == "v1" and "CREATE" in one[2], 30)
    events.close()


def test_a_maker_that_forks(fresh):
    """Its children see everything, and what they write is the copy's."""
    def write():
        # On an object with another uid, the text of which has no say in who it is.
        save(fresh / "metadata.json", text({"name": "other", "uid": "1-2", "labels": {"a": "b"}}))

    assert in_child(write) == 0
    assert fresh.get()["metadata"]["labels"] == {"a": "b"}
    assert not (fresh / "metadata.json").exists()
    assert in_child(os.open, fresh / "metadata.json", NEW) == errno.EEXIST


def test_it_ends_with_the_process(rig):
    """A second process finds a directory like any other."""
    path = rig.mount / "empty" / f"ended-{time.monotonic_ns()}"
    assert in_child(os.mkdir, path) == 0
    assert seen(path) == REAL and (path / "spec.json").exists()
    with fails(errno.EEXIST):
        os.open(path / "spec.json", NEW)
    with fails(errno.EEXIST):
        os.mkdir(path / "tags")
    # Once it is forgotten, the kernel keeps names again.
    def warm():
        subprocess.run(["ls", "-l", path], check=True, stdout=subprocess.DEVNULL)
        before = requests_of(rig)
        subprocess.run(["ls", "-l", path], check=True, stdout=subprocess.DEVNULL)
        return requests_of(rig) == before
    wait_for(warm, 60, "the kernel's own answers")


def requests_of(rig):
    """Lookups and listings that the kernel sent."""
    lines = (rig.mount / ".api/metrics").read_text().splitlines()
    return [line for line in lines if "lookup" in line.lower() or "readdir" in line.lower()]


def test_two_makers_at_once(rig, place):
    """Two tools fill one stream: one of them made it, the other finds it there."""
    made = rig.make()
    for number in range(6):
        shutil.copytree(made.path, place / str(number))
    obj = made.get()
    rig.remove(made)
    both = [subprocess.Popen(["cp", "-rT", place / str(number), made.path], text=True,
                             stderr=subprocess.PIPE) for number in range(6)]
    said = [one.communicate(timeout=240)[1] for one in both]
    assert any(one.returncode == 0 for one in both), said
    same(made.get(), obj, ["pushed"])


def test_two_make_tags_of_one_stream(rig, fresh):
    """A TAG's maker needn't be the stream's."""
    code = ("import os, sys\nos.mkdir(sys.argv[1])\n"
            "assert not any(map(os.path.exists, os.listdir(sys.argv[1])))\n"
            "os.close(os.open(sys.argv[1] + '/spec.json', os.O_CREAT | os.O_EXCL | os.O_WRONLY))\n"
            "assert os.path.exists(os.path.dirname(sys.argv[1]) + '/../spec.json')\n")
    ended = [subprocess.Popen([PYTHON, "-c", code, str(fresh / f"tags/t{n}")]) for n in range(4)]
    assert [one.wait(120) for one in ended] == [0] * 4
    assert set(fresh.tags()) == {"t0", "t1", "t2", "t3"}
    assert not (fresh / "tags").exists() and seen(fresh.path) == set()


def test_another_process_can_remove_it_at_once(fresh):
    """For its maker a listing shows what can't be unlinked; rm of another process sees it all."""
    save(fresh / "spec.json", text({"tags": [tag("v1", image("a:1"))]}), NEW)
    os.mkdir(fresh / "tags")
    os.mkdir(fresh / "tags/v1")
    save(fresh / "tags/v1/spec.json", text(tag("v1", image("a:2"))), NEW)
    subprocess.run(["rm", "-r", fresh.path], check=True)
    assert not fresh.path.exists()


def test_who_can_not_be_told_makes_nothing_empty(server, start_mount):
    place = Elsewhere(server, start_mount, HIDDEN, UNTOLD)
    path = pathlib.Path(str(place / "dev/fresh"))
    os.mkdir(path)
    assert names(path) == REAL and (path / "spec.json").exists()
    with fails(errno.EEXIST):
        os.mkdir(path / "tags")
    os.mkdir(path / "tags/v1")
    assert names(path / "tags/v1") == {"spec.json"}
    os.rmdir(path / "tags/v1")
    os.rmdir(path)
    place.stop()


# Saves of a copy.


@pytest.mark.parametrize("seed", range(12))
def test_in_any_order(rig, backup, seed):
    """Files and directories of a stream in a random order, each directory before what is in it."""
    made, out = backup
    obj = made.get()
    rig.remove(made)
    chance, files = random.Random(seed), [path for path in out.rglob("*") if path.is_file()]
    chance.shuffle(files)
    os.mkdir(made.path)
    for file in files:
        target = made.path / file.relative_to(out)
        for parent in reversed(target.relative_to(made.path).parents):
            with contextlib.suppress(FileExistsError):
                os.mkdir(made.path / parent)
        save(target, file.read_bytes(), NEW)
    same(made.get(), obj, ["pushed"])
    assert made.history()["pushed"][0]["image"] == own(made.name, NAMESPACE, 5)["image"]
    assert not list(out.rglob("*.error")), seed


@pytest.mark.parametrize("order", list(itertools.permutations(
    ("spec.json", "status.json", "from", "image"))), ids=" ".join)
def test_files_of_a_tag_in_any_order(rig, order):
    made = rig.make()
    source, number = {name: (made / "tags/v1" / name).read_bytes() for name in order}, 0
    for reads in (source, without(source, "from")):
        path, number = made / f"tags/new-{number}", number + 1
        os.mkdir(path)
        for name in order:
            if name in reads:
                save(path / name, reads[name], NEW)
        assert without(made.tags()[path.name], "name", "generation") == \
            without(made.tags()["v1"], "name", "generation")


def dropped(rig, made):
    top = rig.directory / "state/imagestreamfs/dropped"
    return {path.name.partition("@")[0]: path.read_text() for path in top.rglob(f"*{made.name}*")}


def test_a_history_that_is_dropped_is_kept(rig, backup):
    made, out = backup
    rig.remove(made)
    shutil.copytree(out, made.path)
    found = dropped(rig, made)
    assert found[f"{made.name}.status"] == (out / "status.json").read_text()
    assert found[f"{made.name}:v1.status"] == (out / "tags/v1/status.json").read_text()
    lines = [one for one in rig.mount.errors() if made.name in (one["path"] or "")]
    assert {one["path"] for one in lines} >= {f"{NAMESPACE}/{made.name}/status.json"}
    assert all("history" in one["message"] and one["code"] in (0, None) for one in lines)
    for path in (rig.directory / "state/imagestreamfs/dropped").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


def test_a_history_that_the_copy_has_is_not_kept(rig):
    made = rig.make()
    made.change({"status": {"tags": [{"tag": "v1", "items": []}]}}, subresource="/status")
    obj = made.get()
    for history in obj["status"].get("tags", []):
        history["items"] = []
    count = len(rig.mount.errors())
    os.mkdir(rig.mount / "empty" / made.name)
    path = rig.mount / "empty" / made.name / "status.json"
    save(path, text({"dockerImageRepository": "elsewhere/x", "tags": []}), NEW)
    assert not dropped(rig, made) and len(rig.mount.errors()) == count
    assert not path.with_name("status.json.error").exists()


def test_a_copy_neither_reads_nor_writes_the_check(rig, fresh):
    """The annotation by which the server says when it looked at the registry."""
    save(fresh / "metadata.json", text({"annotations": {CHECK: "then", "a": "b"}}), NEW)
    assert fresh.get()["metadata"]["annotations"] == {"a": "b"}
    fresh.server.request("PATCH", fresh.url, {"metadata": {"annotations": {CHECK: "now"}}},
                         "application/merge-patch+json")
    save(fresh / "imagestream.json", text({
        "kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
        "metadata": {"name": "x", "resourceVersion": "1", "uid": "2",
                     "annotations": {CHECK: "then", "c": "d"}}}), NEW)
    assert fresh.get()["metadata"]["annotations"] == {CHECK: "now", "a": "b", "c": "d"}


def test_what_a_copy_says_wrongly_is_refused(fresh):
    for name, content in (("spec.json", "{"), ("metadata.json", "[]"),
                          ("spec.json", text({"tags": [tag("a", None), tag("a", None)]}))):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh / name)
        with fails(errno.EINVAL):
            save(fresh / name, content, NEW)
        assert (fresh / (name + ".error")).exists()
    os.makedirs(fresh / "tags/v1")
    with fails(errno.EINVAL):
        save(fresh / "tags/v1/image", "no image\nat all\n", NEW)


def test_a_push_into_it_meanwhile(rig, backup):
    """The server's history stays, whatever the copy says."""
    made, out = backup
    rig.remove(made)
    os.mkdir(made.path)
    save(made / "spec.json", (out / "spec.json").read_text(), NEW)
    obj = made.get()
    obj["status"]["tags"] = [{"tag": "v1", "items": [own(made.name, NAMESPACE, 99)]}]
    rig.put(obj)
    for name in ("status.json", "metadata.json", "imagestream.json", "imagestream.yaml"):
        save(made / name, (out / name).read_text(), NEW)
    os.makedirs(made / "tags/v1")
    for name in ("status.json", "image", "spec.json", "from"):
        save(made / "tags/v1" / name, (out / "tags/v1" / name).read_text(), NEW)
    assert made.history()["v1"][0]["image"] == own(made.name, NAMESPACE, 99)["image"]
    assert made.get()["metadata"]["labels"] == {"app": "shop", "tier": "web"}


def test_deleted_meanwhile(rig, backup):
    made, out = backup
    rig.remove(made)
    os.mkdir(made.path)
    fd = os.open(made / "spec.json", NEW)
    os.write(fd, (out / "spec.json").read_bytes())
    rig.remove(made)
    with fails(errno.ESTALE, errno.ENOENT):
        os.close(fd)
    with fails(errno.ENOENT, errno.ESTALE):
        save(made / "metadata.json", "{}", NEW)
    rig.server.create(made.namespace, made.name)  # another's
    wait_for(made.path.exists, 10, "the new one")
    assert names(made.path) == REAL


def test_what_another_cluster_lacks_is_said(rig, start_server, start_mount, place):
    """A tag that follows a stream which isn't there: the server refuses it, the rest goes."""
    other = start_server("--namespace", "there")
    made = rig.make()
    code, said = run("cp -r", made.path, start_mount(other) / "there", place)
    gone = other.get("there", made.name)
    assert code == 1 and "tags/alias/" in said and "spec.json" in said
    assert {one["name"] for one in gone["spec"]["tags"]} >= {"v1", "v2", "latest", "ref", "bare"}
    assert gone["metadata"]["labels"] == made.get()["metadata"]["labels"]


# Interrupted.


@pytest.fixture
def imported(rig, place):
    """As `backup`, with the images that the registry says."""
    rig.server.control("POST", "imports", {"on": True, "delay": 0})
    obj = portable("x")
    # What a tag that is only referred to had in between, its history shows for ever.
    obj["spec"]["tags"] = [one for one in obj["spec"]["tags"] if one["name"] != "ref"]
    Copies.count += 1
    name = f"full-{Copies.count}"
    rig.server.request("POST", rig.server.streams(NAMESPACE), {
        "kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
        "metadata": {"name": name, "labels": obj["metadata"]["labels"]}, "spec": obj["spec"]})
    made = Stream(rig.server, rig.mount, name)
    wait_for((made / "tags/latest/image").exists, 30, "the imports")
    obj = made.get()
    obj["status"]["tags"].append({"tag": "pushed", "items": [own(name, NAMESPACE, 5)]})
    rig.put(obj)
    wait_for((made / "tags/pushed/image").exists, 30, "the push")
    (place / "out").mkdir()
    subprocess.run(["cp", "-a", made.path, place / "out"], check=True)
    yield made, place / "out" / made.name
    rig.server.control("POST", "imports", {"on": False})


def again(made, out):
    """The same command, however far the first one came."""
    for command in (["cp", "-rT", out, made.path], ["rsync", "-a", f"{out}/", f"{made.path}/"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
        if (done.returncode, done.stderr) != (0, ""):
            return command[0], done.stderr
    return None


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_interrupted(rig, imported, signal_, after):
    """In the middle of a request; what is there is whole, and the rest comes with the next run."""
    made, out = imported
    obj = made.get()
    rig.remove(made)
    rig.server.reset()
    rig.server.fault(method="(?!GET)", path="/imagestreams", count=0)
    for _ in range(after):
        rig.server.fault(method="PATCH", path=made.name, delay=0.01)
    rig.server.fault(path=f"/{made.name}", method="PATCH", hang=True)
    copying = subprocess.Popen(["cp", "-r", out, made.path.parent], stderr=subprocess.DEVNULL)
    wait_for(lambda: copying.poll() is not None or any(
        one["status"] is None for one in sent(rig.server)), 60, "a request that hangs")
    copying.send_signal(signal_)
    assert copying.wait(60) != 0 or copying.returncode == 0
    rig.server.control("DELETE", "faults")
    problem = again(made, out)
    assert problem is None, problem
    same(made.get(), obj, ["pushed"])


@pytest.mark.parametrize("fault", [{"status": 403, "message": "exceeded quota: objects"},
                                   {"cut": True}, {"status": 503}])
def test_refused_in_the_middle(rig, imported, fault):
    made, out = imported
    obj = made.get()
    rig.remove(made)
    rig.server.fault(method="PATCH", path=made.name, count=2, **fault)
    done = subprocess.run(["cp", "-r", out, made.path.parent], capture_output=True, text=True,
                          check=False, timeout=240)
    if done.returncode:
        assert made.name in done.stderr
    rig.server.control("DELETE", "faults")
    problem = again(made, out)
    assert problem is None, problem
    same(made.get(), obj, ["pushed"])
    assert not list(made.path.rglob("*.error"))


def is_back(rig):
    with contextlib.suppress(OSError):
        return rig.server.control("GET", "state")
    return None


def test_server_away_in_the_middle(rig, imported):
    made, out = imported
    obj = made.get()
    rig.remove(made)
    rig.server.fault(method="PATCH", path=made.name, delay=0.2)
    copying = subprocess.Popen(["cp", "-r", out, made.path.parent], stderr=subprocess.PIPE,
                               text=True)
    wait_for(lambda: made.path.exists() or copying.poll() is not None, 60, "its beginning")
    rig.server.control("POST", "restart", {"seconds": 0.5})
    copying.communicate(timeout=240)
    wait_for(lambda: is_back(rig), 60, "the server")
    problem = again(made, out)
    assert problem is None, problem
    same(made.get(), obj, ["pushed"])


def test_who_looks_before_the_maker_does(rig):
    """Somebody waits for the directory, and looks into it before mkdir has returned."""
    space, name = rig.mount / "empty", f"raced-{time.monotonic_ns()}"
    code = ("import os, sys\nn = 0\nwhile n < int(sys.argv[2]):\n"
            "    try:\n        os.stat(f'{sys.argv[1]}-{n}/spec.json')\n        n += 1\n"
            "    except FileNotFoundError:\n        pass\n")
    with subprocess.Popen([PYTHON, "-c", code, space / name, "50"]) as looking:
        for number in range(50):
            path = space / f"{name}-{number}"
            os.mkdir(path)
            for _ in range(3):
                assert not os.path.exists(path / "spec.json"), number
                assert not os.path.exists(path / "tags"), number
            save(path / "spec.json", text({"tags": [tag("v1", image("a:1"))]}), NEW)
        assert looking.wait(120) == 0
