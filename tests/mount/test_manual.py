"""The manual page and the completion say what the program's own table of options says."""

import os
import re
import shutil
import subprocess

import pytest
from conftest import PROGRAM, TOP

MANUAL, COMPLETION = TOP / "fs/imagestreamfs.1", TOP / "fs/imagestreamfs.bash"
LIBRARY = "/usr/share/bash-completion/bash_completion"
OPTION = re.compile(r"^ *(?:-(\w), +)?--([a-z_-]+)(?:=([A-Z]+))?(?: .*)?$", re.M)
# What mandoc says of the machine's other manuals.
ELSEWHERE = re.compile("mandoc.db|referenced manual not found")


def run(*command, **environment):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False,
                          env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def options():
    """(letter, name, value) of each option."""
    found = OPTION.findall(run(PROGRAM, "--help"))
    assert ("f", "foreground", "") in found and len(found) > 20
    return found


@pytest.fixture(scope="module")
def rendered():
    return run("man", "-l", str(MANUAL), MANWIDTH="100", LC_ALL="C.UTF-8", MAN_KEEP_FORMATTING="")


def test_manual_has_the_options(options, rendered):
    section = rendered[rendered.index("\n   Options"):rendered.index("\nTREE\n")]
    headings = [line for line in section.splitlines() if re.match(r" {5}-", line)]
    assert headings.pop().strip() == "-o OPTION[,OPTION ...]"
    assert OPTION.findall("\n".join(headings)) == options


def test_manual_has_the_tree(rendered):
    """Each fixed name of the layout stands in the section of its place."""
    nodes = re.findall(r'ROW\(\w+, +(\w+), +"([^"]+)"', (TOP / "fs/tree/layout.h").read_text())
    assert ("STREAM", "imagestream.yaml") in nodes and len(nodes) > 10
    tree = rendered[rendered.index("\nTREE\n"):rendered.index("\n   The directory .api")]
    hidden = rendered[rendered.index("\n   The directory .api"):rendered.index("\nSAVING\n")]
    for parent, name in nodes:
        section = hidden if "API" in parent else tree
        assert re.search(rf"(^|[ ,]){re.escape(name)}(?=[/, \n])", section, re.M), (parent, name)


def test_manual_has_every_errno_of_the_program(rendered):
    section = rendered[rendered.index("\n   Errors\n"):rendered.index("\nENVIRONMENT\n")]
    listed = set(re.findall(r"\bE[A-Z]{2,}\b", section))
    table = (TOP / "client/status.c").read_text()
    assert set(re.findall(r"\bE[A-Z]{2,}\b", table)) - {"ERROR"} <= listed


def test_manual_is_clean():
    warnings = subprocess.run(["man", "--warnings", "-l", MANUAL], stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, check=True).stderr
    assert warnings == ""


@pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc isn't installed")
def test_manual_is_good_mdoc():
    done = subprocess.run(["mandoc", "-T", "lint", MANUAL], capture_output=True, text=True,
                          check=False)
    said = (done.stdout + done.stderr).splitlines()
    assert [line for line in said if not ELSEWHERE.search(line)] == []


def complete(*words, directory="/"):
    """What TAB would offer after these words."""
    script = f"""
        source {LIBRARY}
        source {COMPLETION}
        compopt() {{ :; }}  # of no use outside a real completion
        cd "$1"; shift
        PATH=/nowhere:/usr/bin:/bin
        line=$*
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE=${{line// = /=}} COMP_TYPE=9 COMP_KEY=9
        COMP_POINT=${{#COMP_LINE}}
        _imagestreamfs {PROGRAM} "${{@: -1}}" "${{@: -2:1}}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    output = run("bash", "--norc", "-c", script, "bash", str(directory), "imagestreamfs", *words)
    return [line for line in output.splitlines() if line]


@pytest.fixture
def place(tmp_path):
    (tmp_path / "directory").mkdir()
    (tmp_path / "direct").touch()
    return tmp_path


@pytest.mark.skipif(not os.path.exists(LIBRARY), reason="bash-completion isn't installed")
class TestCompletion:
    def test_options(self, options):
        names = [f"--{name}" + ("=" if value else "") for _, name, value in options]
        assert sorted(complete("-")) == sorted([*names, "-o"])
        assert complete("--kubec") == ["--kubeconfig="]
        assert complete("-f", "--read") == ["--read-only"]

    def test_mount_options(self, options):
        names = [name + ("=" if value else "") for _, name, value in options]
        assert sorted(complete("-o", "")) == sorted([*names, "allow_other"])
        assert complete("-o", "read-only,nod") == ["read-only,nodelete"]

    def test_files(self, options, place):
        for _, name, value in options:
            found = sorted(complete(f"--{name}", "dir", directory=place))
            if value == "FILE":
                assert found == ["direct", "directory"], name
            elif not value:
                assert found == ["directory"], name  # the mountpoint
            elif name != "context":
                assert found == [], name
        assert sorted(complete("--kubeconfig", "=", "dir", directory=place)) == [
            "direct", "directory"]
        assert complete("-s", "dir", directory=place) == []

    @pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl found on PATH")
    def test_contexts(self, place):
        (place / "config").write_text(
            "contexts: [{name: direct-one, context: {}}, {name: other, context: {}}]\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KUBECONFIG", str(place / "config"))
            assert complete("--context", "dir", directory=place) == ["direct-one"]
            assert sorted(complete("dir", directory=place)) == ["direct-one", "directory"]
