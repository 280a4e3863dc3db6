"""Start and stop: errors before it daemonizes, ends under every condition."""

import os
import signal
import subprocess
import threading

import pytest

from conftest import PROGRAM, is_mounted, wait_for


def start(mountpoint, *arguments, **environment):
    return subprocess.run([PROGRAM, *map(str, arguments), str(mountpoint)], capture_output=True,
                          text=True, timeout=20, check=False,
                          env=dict(os.environ, **environment))


def refused(mountpoint, *arguments, **environment):
    done = start(mountpoint, *arguments, **environment)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not is_mounted(mountpoint)
    return done.stderr


@pytest.mark.parametrize("arguments", [
    ["-s", "https://no-such-host.invalid"], ["-s", "https://127.0.0.1:1"], ["--token", "wrong"],
    ["--context", "none"], ["--no-such-option"], ["--certificate-authority", "/etc/passwd"]],
    ids=["host", "refused", "token", "context", "option", "ca"])
def test_start_error(server, tmp_path, arguments):
    refused(tmp_path, "--kubeconfig", server.kubeconfig, *arguments)


def test_bad_mountpoints(server, mount, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for path in (tmp_path / "missing", file):
        refused(path, "--kubeconfig", server.kubeconfig)
    done = start(mount.path, "--kubeconfig", server.kubeconfig)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


def test_no_kubeconfig(tmp_path):
    refused(tmp_path, HOME=str(tmp_path), KUBECONFIG=str(tmp_path / "none"))


def test_both_roots_refused(server, tmp_path):
    server.fault(path="^/(apis/image|oapi)", status=403, count=9)
    refused(tmp_path, "--kubeconfig", server.kubeconfig)


def test_writes_answer_erofs(mount):
    file = mount / "openshift/nginx/spec.json"
    for change in (lambda: open(file, "w"), lambda: os.mkdir(mount / "dev/x"),
                   lambda: os.unlink(file), lambda: os.rename(file, str(file) + "x"),
                   lambda: os.symlink("a", mount / "dev/x"), lambda: os.utime(file),
                   lambda: os.chmod(file, 0o600), lambda: open(mount / "dev/x", "w")):
        with pytest.raises(OSError, match="Read-only"):
            change()


def test_stop_with_open_file_and_server_gone(server, mount):
    with open(mount / "openshift/nginx/spec.json", "rb"):
        server.process.kill()
        assert mount.stop() < 2


def test_unmount(mount):
    with open(mount / "openshift/nginx/spec.json", "rb"):
        assert subprocess.run(["umount", mount.path], capture_output=True, check=False).returncode
    subprocess.run(["umount", mount.path], check=True)
    wait_for(lambda: mount.process.poll() is not None, 2, "the end")


def test_dead_mount_is_replaced(server, start_mount):
    dead = start_mount(server)
    dead.process.kill()
    dead.process.wait()
    dead.process.returncode = 0
    done = start(dead.path, "--kubeconfig", server.kubeconfig)
    assert done.returncode == 0, done.stderr
    assert "nginx" in os.listdir(dead / "openshift")
    subprocess.run(["umount", dead.path], check=True)


def test_fifty_stops_under_load(server, start_mount):
    for _ in range(50):
        mount = start_mount(server)
        readers = [subprocess.Popen(["grep", "-rq", "no such text", mount.path],
                                    stderr=subprocess.DEVNULL) for _ in range(2)]
        change = threading.Thread(target=server.control, args=(
            "POST", "bulk", {"modify": {"change": "label", "times": 20}}))
        change.start()
        took = mount.stop(signal.SIGTERM)
        change.join()
        for one in readers:
            one.wait(5)
        assert took < 2
        mount.check()
