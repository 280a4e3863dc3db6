"""Ordinary readers give the bytes that the tree holds."""

import hashlib
import mmap
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest
from test_contents import walk



def run(*command, **options):
    done = subprocess.run(command, capture_output=True, check=False, **options)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b"", done.stderr.decode()
    return done.stdout


@pytest.fixture
def copy(directory):
    return pathlib.Path(tempfile.mkdtemp(dir=directory))


def test_cat(mount):
    for name, content in walk(mount / "shop").items():
        assert run("cat", mount / "shop" / name) == content


def test_jq(mount):
    name = run("jq", "-r", ".metadata.name", mount / "shop/web/imagestream.json")
    assert name == b"web\n"
    tags = run("sh", "-c", "jq -r '.tags[].name' spec.json", cwd=mount / "shop/web")
    assert tags.decode().split() == sorted(os.listdir(mount / "shop/web/tags"))


def test_grep_and_find(mount):
    found = run("grep", "-rl", "dockerImageReference", mount.path).decode().splitlines()
    expected = [str(mount / name) for name, content in walk(mount.path).items()
                if b"dockerImageReference" in content]
    assert sorted(found) == sorted(expected)
    files = run("find", mount.path, "-type", "f").decode().splitlines()
    assert sorted(files) == sorted(str(mount / name) for name in walk(mount.path))
    assert run("find", mount.path, "-type", "f", "-empty") == b""


@pytest.mark.parametrize("command", [
    "tar -C {source} -cf - . | tar -C {copy} -xf -", "rsync -a {source}/ {copy}/",
    "cp -r {source}/. {copy}/"])
def test_copies(mount, copy, command):
    run("bash", "-o", "pipefail", "-c", command.format(source=mount.path, copy=copy))
    assert walk(copy) == walk(mount.path)
    run("chmod", "-R", "u+w", copy)  # so that it can be removed


def test_rsync_again_copies_nothing(mount, copy):
    run("rsync", "-a", f"{mount.path}/", copy)
    assert run("rsync", "-a", "--itemize-changes", f"{mount.path}/", copy) == b""
    run("chmod", "-R", "u+w", copy)


def test_git(mount, copy):
    git = ["git", "-c", "safe.directory=*", f"--git-dir={copy}/git", f"--work-tree={mount.path}"]
    run("git", "init", "-q", "--bare", copy / "git")
    run(*git, "add", "-A", ".")
    for line in run(*git, "ls-files", "-s", "-z").decode().split("\0")[:-1]:
        blob, name = line.split()[1], line.split("\t")[1]
        content = (mount / name).read_bytes()
        header = f"blob {len(content)}\0".encode()
        assert blob == hashlib.sha1(header + content).hexdigest(), name
    assert run(*git, "diff-files", "--name-only") == b""


def test_parts(mount):
    path = mount / "shop/web/imagestream.json"
    content = path.read_bytes()
    assert run("tail", "-c", "100", path) == content[-100:]
    assert run("head", "-c", "100", path) == content[:100]
    assert run("wc", "-c", path).split()[0] == str(len(content)).encode()
    assert run("dd", f"if={path}", "bs=7", "skip=3", "count=5", "status=none") == content[21:56]
    with open(path, "rb") as file:
        for offset in (0, 1, len(content) - 1, len(content), len(content) + 10):
            assert os.pread(file.fileno(), 50, offset) == content[offset:offset + 50]
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert mapped[:] == content


@pytest.mark.skipif(not shutil.which("node"), reason="node isn't installed")
def test_node(mount):
    script = "process.stdout.write(require('fs').readFileSync(process.argv[1]))"
    path = mount / "shop/web/spec.json"
    assert run("node", "-e", script, path) == path.read_bytes()


def test_ls_of_admin_and_viewer(server, start_mount):
    admin, viewer = start_mount(server), start_mount(server, "--context", "viewer")
    assert b"imagestream.json" in run("ls", "-lR", admin.path)
    assert b"imagestream.json" in run("ls", "-lR", viewer.path)
    assert set(os.listdir(viewer.path)) == {"dev", "prod"}
    assert set(os.listdir(viewer.path)) < set(os.listdir(admin.path))
