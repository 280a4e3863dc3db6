"""The manual page and the completion say what the program's own table of options says."""

import os
import pathlib
import pty
import re
import shutil
import subprocess

import pytest
from conftest import PROGRAM, TOP, older, pinned, skip_for

# The build puts the program's list of options into the page.
MANUAL, COMPLETION = pathlib.Path(PROGRAM).parent / "imagestreamfs.1", TOP / "fs/imagestreamfs.bash"
LIBRARY = "/usr/share/bash-completion/bash_completion"
OPTION = re.compile(r"^ *(?:-(\w), +)?--([a-z_-]+)(?:=([A-Za-z|]+))?(?: .*)?$", re.M)
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
    skip_for(pinned("groff", "13"))
    section = rendered[rendered.index("\n   Options"):rendered.index("\nTREE\n")]
    headings = [line for line in section.splitlines() if re.match(r" {5}-", line)]
    assert headings.pop().strip() == "-o OPTION[,OPTION ...]"
    assert OPTION.findall("\n".join(headings)) == options


def test_manual_says_what_each_option_does(options):
    """Of one table: the page's text is the program's, and none is left out."""
    text = run(PROGRAM, "--help=man")
    assert MANUAL.read_text().count(text) == 1
    items = re.split(r"^\.It ", text, flags=re.M)[1:]
    assert [re.search(r"Fl -(\S+)", item)[1] for item in items] == [name for _, name, _ in options]
    assert all(item.partition("\n")[2].strip() for item in items)
    assert "@" not in re.sub(r"\w@\w", "", MANUAL.read_text())


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
        names = [name.replace("context", "kubecontext") + ("=" if value else "")
                 for _, name, value in options]
        assert sorted(complete("-o", "")) == sorted([*names, "allow_other"])
        assert complete("-o", "read-only,nod") == ["read-only,nodelete"]

    def test_files(self, options, place):
        for _, name, value in options:
            found = sorted(complete(f"--{name}", "dir", directory=place))
            if value == "FILE":
                assert found == ["direct", "directory"], name
            elif not value:
                assert found == ["directory"], name  # the mountpoint
            elif name not in ("context", "namespace"):
                assert found == [], name
        assert sorted(complete("--kubeconfig", "=", "dir", directory=place)) == [
            "direct", "directory"]
        assert complete("-s", "dir", directory=place) == []

    def test_alternatives(self):
        assert complete("--validate", "") == ["strict", "warn", "ignore"]
        assert complete("--log-format", "j") == ["json"]

    def test_names(self, place, names):
        assert complete("--context", "dir", directory=place) == ["direct-one"]
        assert sorted(complete("dir", directory=place)) == ["direct-one", "directory"]
        assert complete("-n", "", directory=place) == ["only"]
        assert complete("--namespace", "o", directory=place) == ["only"]

    def test_names_of_another_file(self, place, names):
        (place / "another").write_text("contexts: [{name: third, context: {namespace: its}}]\n")
        for words in (["--kubeconfig", f"{place}/another"], [f"--kubeconfig={place}/another"]):
            assert complete(*words, "--context", "t") == ["third"]
            assert complete(*words, "-n", "") == ["its"]


CONTEXTS = """contexts:
- {name: direct-one, context: {namespace: only}}
- {name: other, context: {namespace: only}}
- {name: bare, context: {}}
"""


@pytest.fixture
def names(place, monkeypatch):
    (place / "config").write_text(CONTEXTS)
    monkeypatch.setenv("KUBECONFIG", str(place / "config"))


def test_names_are_printed(names, monkeypatch, place):
    assert run(PROGRAM, "--complete=contexts").split() == ["direct-one", "other", "bare"]
    assert run(PROGRAM, "--complete=namespaces").split() == ["only"]
    monkeypatch.setenv("KUBECONFIG", str(place / "missing"))
    assert run(PROGRAM, "--complete=contexts") == ""


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/imagestreamfs").symlink_to(PROGRAM)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")


@pytest.mark.skipif(not shutil.which("fish"), reason="fish isn't installed")
def test_fish(options, place, names, on_path, monkeypatch):
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "no-config"))

    def fish(line):
        script = f"cd {place}; source {COMPLETION.with_suffix('.fish')}; complete -C '{line}'"
        return [found.split("\t")[0] for found in run("fish", "-c", script).splitlines()]

    found = fish("imagestreamfs --")
    assert {f"--{name}" for _, name, _ in options} <= {one.rstrip("=") for one in found}
    in_order = sorted if older("fish", "3.4") else list
    assert in_order(fish("imagestreamfs --context ")) == ["bare", "direct-one", "other"]
    assert fish("imagestreamfs -n ") == ["only"]
    assert in_order(fish("imagestreamfs --validate ")) == ["ignore", "strict", "warn"]
    assert {"direct-one", "directory/"} <= set(fish("imagestreamfs dir"))
    assert "direct" not in fish("imagestreamfs dir") and "direct" in fish("imagestreamfs --log-file dir")


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh isn't installed")
@pytest.mark.parametrize("line, becomes", [
    ("--kubec", "--kubeconfig="), ("--context=dir", "--context=direct-one"), ("-n o", "-n only"),
    ("--validate=s", "--validate=strict"), ("--log-file=directo", "--log-file=directory/"),
    ("oth", "other"), ("-f --read", "-f --read-only")])
def test_zsh(place, names, on_path, line, becomes):
    """What TAB makes of the line, on a terminal."""
    (place / "functions").mkdir()
    (place / "functions/_imagestreamfs").symlink_to(COMPLETION.with_suffix(".zsh"))
    script = (f"cd {place}; fpath=({place}/functions $fpath); PS1=; autoload -U compinit; "
              "compinit -u -D; show() { print -r -- \"<<$BUFFER>>\"; exit; }; zle -N show; "
              "bindkey '^X' show; bindkey '^I' expand-or-complete; echo re''ady\n")
    pid, fd = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "dumb"
        os.execvp("zsh", ["zsh", "-f", "-i"])
    text = ""
    os.write(fd, script.encode())
    try:
        while "ready" not in text:
            text += os.read(fd, 65536).decode()
        while "\x1b[?2004h" not in text.rpartition("ready")[2]:  # the next line is asked for
            text += os.read(fd, 65536).decode()
        os.write(fd, f"imagestreamfs {line}\t\x18".encode())
        while ">>" not in text.partition("ready")[2]:
            text += os.read(fd, 65536).decode()
    except OSError:
        pass
    os.close(fd)
    os.waitpid(pid, 0)
    found = re.findall("<<(.*?)>>", text)
    assert found and found[-1].rstrip() == f"imagestreamfs {becomes}", text
