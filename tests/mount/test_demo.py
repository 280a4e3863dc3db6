"""The README's first command."""

import pathlib
import re
import subprocess
import tempfile
import xml.dom.minidom

import conftest
import pytest

pytestmark = pytest.mark.xdist_group("demo")  # it builds
DEMO = conftest.TOP / "scripts/demo"


@pytest.fixture
def runtime(directory):
    """Its own place for the demo's state, so that a demo that is up isn't touched."""
    return pathlib.Path(tempfile.mkdtemp(dir=directory))


def demo(runtime, *arguments, script=DEMO):
    done = subprocess.run([script, *arguments], capture_output=True, text=True, check=False,
                          timeout=240, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                                            "XDG_RUNTIME_DIR": str(runtime)})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_once(runtime):
    mountpoint = runtime / "mnt"
    output = demo(runtime, "--once", mountpoint)
    assert "openshift\n" in output and "nodejs" in output
    assert "@sha256:" in output
    before, after = output.split("now somebody labels")
    assert "on-the-server" not in before
    assert '"changed":"on-the-server"' in after
    assert not conftest.is_mounted(mountpoint)


def test_the_picture(runtime):
    """The README's is of today's demo: the same commands; and what differs from day to day is none of it."""
    committed, today = conftest.TOP / "scripts/demo.svg", runtime / "demo.svg"
    assert "(scripts/demo.svg)" in (conftest.TOP / "README.md").read_text()
    demo(runtime, today, script=conftest.TOP / "scripts/picture")
    texts = [path.read_text() for path in (committed, today)]
    old, new = ([node.firstChild.data for node in xml.dom.minidom.parseString(text)
                 .getElementsByTagName("tspan") if node.getAttribute("class") == "command"]
                for text in texts)
    assert len(new) > 5 and old == new
    shown = re.findall("^show '(.*)'$", DEMO.read_text(), re.M)
    assert [command for command in new if command in shown] == shown
    for text in texts:
        assert not re.search(r"[\x00-\x09\x0b-\x1f]|/tmp|/home|/run", text)


def test_left_up_and_stopped(runtime):
    mountpoint = runtime / "mnt"
    assert "scripts/demo --stop" in demo(runtime, mountpoint)
    assert (mountpoint / "shop/web/spec.json").read_text()
    state = next(runtime.glob("imagestreamfs-demo-*"))
    server = int((state / "pid").read_text())
    demo(runtime, "--stop")
    assert not conftest.is_mounted(mountpoint)
    conftest.wait_for(lambda: "apiserver" not in command_line(server), 5, "the server's end")


def command_line(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        return ""
