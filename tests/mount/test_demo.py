"""The README's first command."""

import pathlib
import subprocess
import tempfile

import conftest
import pytest

pytestmark = pytest.mark.xdist_group("demo")  # it builds
DEMO = conftest.TOP / "scripts/demo"


@pytest.fixture
def runtime(directory):
    """Its own place for the demo's state, so that a demo that is up isn't touched."""
    return pathlib.Path(tempfile.mkdtemp(dir=directory))


def demo(runtime, *arguments):
    done = subprocess.run([DEMO, *arguments], capture_output=True, text=True, check=False,
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
