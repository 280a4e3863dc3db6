"""imagestream.yaml: what independent readers make of it, and when and how it is saved."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import yaml
from conftest import wait_for
from stopwatch import at_most
from test_contents import yaml_text
from test_save import (BIG, CALLER, SAVES, body, fails, in_child, names, rejected, replace, rig,
                       save, shell, stream, text)

__all__ = ["rig", "stream"]  # fixtures
KUBECTL = shutil.which("kubectl")
NO_KUBECTL = "no kubectl found on PATH"

# Text that some reader would take for something else, or not read at all.
STRINGS = [
    "yes", "no", "y", "N", "on", "Off", "true", "FALSE", "null", "Null", "~", "", "1e3", "0o7",
    "017", "0x1f", "0b1", "1_000", "+1", "-1", ".5", "5.", "1.0", ".inf", "-.INF", ".nan", "1:30",
    "190:20:30", "2026-11-23", "2026-11-23T19:48:08Z", "2026-11-23 19:48:08", "<<", "=", "-", "?",
    ":", "---", "...", "- a", "? a", ": a", "a: b", "a #b", "#a", "!a", "&a", "*a", "|", ">", "%a",
    "@a", "`a", "'", '"', "{a}", "[a]", ",", "a:", " a", "a ", "a\tb", "\ta", "\\n", "a\nb",
    "a\nb\n", "a\n\n", "\na", "\n", "a \nb", " a\nb", "a\n  b\n\nc\n", "a\r\nb", "a\rb", "é", "🐟",
    "a\u0085b", "a\u2028b\n", "\ufeffa", "\x7f", "\x1b[0m", "\ufffe", "a\x01b", "{\"a\": [1, 2]}\n",
    "x" * 5000, "word " * 500, "9007199254740993", "123456789012345678901234567890"]
KEYS = ["y", "No", "on", "null", "1", "0x10", "1e3", "1.5", "2026-11-23", "yes/no", "a" * 63]


def annotated(stream):
    """A stream whose annotations are all of these."""
    values = {f"v{i}": value for i, value in enumerate(STRINGS)} | {key: key for key in KEYS}
    stream.change({"metadata": {"annotations": values}})
    return stream.value("imagestream.json")


def edited(content):
    """What people do: a line more."""
    assert "    tier: web\n" in content
    return content.replace("    tier: web\n", "    tier: web\n    edited: \"yes\"\n")


def is_edited(stream):
    return stream.get()["metadata"]["labels"].get("edited") == "yes"


def refused(stream, content, *said, number=errno.EINVAL, ways=("close", "rename")):
    path, obj = stream / "imagestream.yaml", stream.get()
    for way in ways:
        with fails(number):
            SAVES[way](path, content)
        kept, reason = rejected(path)
        assert kept.read_text() == content
        for sentence in said:
            assert sentence in reason.read_text()
    stream.is_untouched(obj)


# What it says.


def test_python_reads_the_same(stream):
    value = annotated(stream)
    content = (stream / "imagestream.yaml").read_text()
    for loader in (yaml.SafeLoader, yaml.CSafeLoader):
        read = yaml.load(content, Loader=loader)
        assert json.dumps(read) == json.dumps(value)  # the order of keys too
    assert f"generation: {BIG}\n" in content
    assert yaml_text(value) == content
    assert os.stat(stream / "imagestream.yaml").st_size == len(content.encode())


@pytest.mark.skipif(not shutil.which("yq"), reason="yq isn't installed")
def test_yq_reads_the_same(stream):
    value = annotated(stream)
    output = subprocess.run(["yq", ".metadata", stream / "imagestream.yaml"], check=True,
                            capture_output=True).stdout
    assert json.loads(output) == value["metadata"]


def kubectl(stream, *arguments):
    home = stream.mount.directory
    done = subprocess.run([KUBECTL, *arguments], capture_output=True, text=True, timeout=60,
                          env={**os.environ, "KUBECONFIG": str(stream.server.kubeconfig),
                               "HOME": str(home)}, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not KUBECTL, reason=NO_KUBECTL)
@pytest.mark.parametrize("command", ["label --local -o json x=y",
                                     "create --dry-run=client -o json"])
def test_kubectl_reads_the_same(stream, command):
    value = annotated(stream)
    read = json.loads(kubectl(stream, *command.split(), "-f", stream / "imagestream.yaml"))
    if "label" in command:
        assert read["metadata"]["labels"].pop("x") == "y"
    assert read == value


@pytest.mark.skipif(not KUBECTL, reason=NO_KUBECTL)
def test_kubectl_applies_it(stream):
    annotated(stream)
    obj = stream.get()
    kubectl(stream, "apply", "-f", stream / "imagestream.yaml")
    now = stream.get()
    assert now["spec"] == obj["spec"] and now["status"] == obj["status"]
    applied = "kubectl.kubernetes.io/last-applied-configuration"
    assert now["metadata"]["annotations"].pop(applied)
    assert now["metadata"]["annotations"] == obj["metadata"]["annotations"]


# Saving it.


@pytest.mark.parametrize("way", SAVES)
def test_save(stream, way):
    path = stream / "imagestream.yaml"
    SAVES[way](path, edited(path.read_text()))
    (request,) = stream.sent()
    assert (request["method"], request["path"]) == ("PUT", stream.url)
    assert is_edited(stream)
    value = stream.value("imagestream.json")
    assert path.read_text() == yaml_text(value)  # new when close returns
    assert (stream / "imagestream.json").read_text() == text(value)
    assert json.loads((stream / "metadata.json").read_text())["labels"]["edited"] == "yes"


def test_comments_are_not_kept(stream):
    path = stream / "imagestream.yaml"
    content = path.read_text()
    save(path, "# mine\n" + edited(content).replace("kind:", "# of what\nkind:", 1))
    assert is_edited(stream)
    assert "#" not in path.read_text()


@pytest.mark.parametrize("form", ["comments", "json", "flow", "anchors"])
def test_other_form_is_no_change(stream, form):
    path = stream / "imagestream.yaml"
    content, value = path.read_text(), stream.value("imagestream.json")
    save(path, {"comments": "# mine\n" + content, "json": text(value),
                "flow": yaml.safe_dump(value, default_flow_style=True),
                "anchors": content.replace("    tier: web", "    tier: &a web").replace(
                    "    app: shop", "    <<: {app: shop}")}[form])
    assert stream.sent() == []
    assert path.read_text() == content


def quoted(value):
    """PyYAML by itself leaves the quotes of y and 0o7 away."""
    class Dumper(yaml.SafeDumper):
        pass
    Dumper.add_representer(str, lambda dumper, one: dumper.represent_scalar(
        "tag:yaml.org,2002:str", one, style='"'))
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True)


def test_every_string_comes_back(stream):
    value = annotated(stream)
    path = stream / "imagestream.yaml"
    save(path, quoted(value))
    assert stream.sent() == []
    changed = {key: one + "!" for key, one in value["metadata"]["annotations"].items()}
    value["metadata"]["annotations"] = changed
    save(path, quoted(value))
    assert body(stream.sent()[-1])["metadata"]["annotations"] == changed


def test_json_and_yaml_take_turns(stream):
    """The mount's own saves through other files are no conflict."""
    path = stream / "imagestream.yaml"
    content = path.read_text()
    save(stream / "spec.json", text(stream.edited("spec.json")))
    save(path, edited(content))
    assert is_edited(stream)
    save(stream / "imagestream.json", text(stream.edited("imagestream.json")))
    save(path, path.read_text().replace("tier: web", "tier: back"))
    assert stream.get()["metadata"]["labels"]["tier"] == "back"


def test_conflict(stream):
    path = stream / "imagestream.yaml"
    content = path.read_text()
    stream.change({"metadata": {"labels": {"theirs": "yes"}}})
    with fails(errno.ESTALE):
        save(path, edited(content))
    kept, reason = rejected(path)
    assert kept.read_text() == edited(content)
    assert "somebody changed the ImageStream since resourceVersion" in reason.read_text()
    with fails(errno.EBUSY):
        replace(path, edited(content))
    save(path, edited(path.read_text()))
    assert is_edited(stream) and not kept.exists() and not reason.exists()


# Refused.

WRONG = {
    "a: b\n]\n": "not YAML: line 2, column 1: did not find expected key",
    "a: [b\n": "not YAML: line 2, column 1: did not find expected ',' or ']'",
    "a: 1\nb: .inf\n": "not YAML: line 2, column 4: infinity and NaN are no JSON",
    "a: 1\nb: 2\na: 3\n": "not YAML: line 3, column 1: a key that stands twice",
    "a: 9223372036854775808": "not YAML: line 1, column 4: an integer beyond 64 bits",
    "a: *b": "not YAML: line 1, column 4: unknown alias",
    "a: !!binary aGk=": "not YAML: line 1, column 4: tags aren't supported",
    "a: b\n---\nc: d\n": "not YAML: several documents",
    "- a\n": "not a YAML mapping", "a": "not a YAML mapping", "# nothing\n": "not a YAML mapping",
}


@pytest.mark.parametrize("content", WRONG)
def test_wrong_text(stream, content):
    refused(stream, content, WRONG[content] + "\n")
    with fails(errno.EIO):
        SAVES["fsync"](stream / "imagestream.yaml", content)
    assert stream.sent() == []


def test_bomb(stream):
    bomb = "a0: &a0 [lol]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n"
                                       for i in range(1, 30))
    with at_most(5):
        refused(stream, bomb, "aliases that repeat more than 1 MiB")


def test_status_is_no_edit(stream):
    content = (stream / "imagestream.yaml").read_text()
    refused(stream, content.replace("tag: pushed", "tag: mine"), "status")


def test_unquoted_yes_is_the_servers_to_refuse(stream):
    path, obj = stream / "imagestream.yaml", stream.get()
    content = edited(path.read_text()).replace('"yes"', "yes")
    with fails(errno.EINVAL):
        save(path, content)
    kept, reason = rejected(path)
    assert kept.read_text() == content and reason.read_text()
    assert stream.get() == obj
    assert {"imagestream.yaml.rejected", "imagestream.yaml.error"} < names(stream.path)
    kept.write_text(edited(path.read_text()))  # put right in place, and tried again
    shutil.copyfile(kept, path)
    assert is_edited(stream) and not kept.exists() and not reason.exists()


# Whose flush.


def test_part_of_it_waits(stream):
    """A prefix of YAML is YAML: another process's flush or fsync never saves it."""
    path = stream / "imagestream.yaml"
    content = edited(path.read_text())
    at = content.index("spec:")
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)

    def child():
        os.write(fd, content[:at].encode())
        os.fsync(fd)
        os.close(fd)

    assert in_child(child) == 0
    assert stream.sent() == []
    os.write(fd, content[at:].encode())
    os.close(fd)
    assert len(stream.sent()) == 1
    assert is_edited(stream)


def test_commands_in_braces(stream, tmp_path):
    path = stream / "imagestream.yaml"
    (tmp_path / "new").write_text(edited(path.read_text()))
    script = '{ /usr/bin/head -n 3 "$2"; /usr/bin/tail -n +4 "$2"; } > "$1"'
    assert shell(script, path, tmp_path / "new") == (0, "")
    wait_for(lambda: is_edited(stream), 5, "the save")
    assert len(stream.sent()) == 1


def test_release_saves(stream):
    """The opener has left: the last close is nobody's flush, and the text is saved all the same."""
    path = stream / "imagestream.yaml"
    script = 'exec 3> "$1"; { sleep 0.2; /bin/echo "$2"; } >&3 & exec 3>&-'
    assert shell(script, path, edited(path.read_text())) == (0, "")
    wait_for(lambda: is_edited(stream), 5, "the save")
    assert len(stream.sent()) == 1


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_killed_writer_saves_nothing(stream, sig):
    path = stream / "imagestream.yaml"
    content = edited(path.read_text())
    script = CALLER + "print(flush=True)\nsignal.pause()"
    with subprocess.Popen([sys.executable, "-c", script, path, content],
                          stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        child.send_signal(sig)
        assert child.wait(60) == -sig
    # Saves of one stream go out one after another: this one comes after the release.
    save(stream / "spec.json", text(stream.edited("spec.json")))
    assert [one["method"] for one in stream.sent()] == ["PATCH"]
    assert not is_edited(stream)
    assert rejected(path)[0].read_text() == content


def test_a_tag_more(stream):
    path = stream / "imagestream.yaml"
    content = path.read_text()
    more = ("  tags:\n  - name: more\n    from:\n      kind: DockerImage\n"
            "      name: quay.io/a/b:1\n")
    save(path, content.replace("  tags:\n", more, 1))
    assert (stream / "tags/more/spec.json").exists()
    assert "more" in stream.tags()


def test_hidden_and_back(stream):
    path = stream / "imagestream.yaml"
    content = path.read_text()
    os.rename(path, stream / "mine")
    assert not path.exists() and (stream / "mine").read_text() == content
    os.rename(stream / "mine", path)
    assert stream.sent() == [] and path.read_text() == content
    os.unlink(path)
    save(path, edited(content), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    assert is_edited(stream)
