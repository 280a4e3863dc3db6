"""Starting, refusing to start, and stopping."""

import contextlib
import errno
import os
import pathlib
import signal
import subprocess
import tempfile
import threading

import conftest
import pytest
from stopwatch import at_most

ROUNDS = 50


@pytest.fixture
def place(directory):
    return pathlib.Path(tempfile.mkdtemp(dir=directory))


def start(place, *arguments):
    """In the background, as users do it."""
    if place.name not in os.listdir(place.parent):
        place.mkdir()
    return subprocess.run([conftest.PROGRAM, *map(str, arguments), str(place)], text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60,
                          env={"PATH": os.environ["PATH"], "HOME": str(place.parent)})


@pytest.fixture
def broken_kubeconfig(server, place):
    def write(old, new):
        path = place / "kubeconfig"
        text = server.kubeconfig.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        return path
    return write


def refused(done, sentence, place, status=1):
    assert done.returncode == status, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and sentence in lines[0], done.stderr
    assert not conftest.is_mounted(place)


def test_wrong_token(server, place, broken_kubeconfig):
    path = broken_kubeconfig(server.token, "nonsense")
    refused(start(place / "mnt", "--kubeconfig", path), "Unauthorized", place / "mnt", 3)


def test_unknown_host(server, place, broken_kubeconfig):
    path = broken_kubeconfig("127.0.0.1", "host.invalid")
    refused(start(place / "mnt", "--kubeconfig", path), "resolve host", place / "mnt", 4)


def test_connection_refused(server, place):
    server.stop()
    refused(start(place / "mnt", "--kubeconfig", server.kubeconfig), "Failed to connect",
            place / "mnt", 4)


def test_foreign_certificate(server, start_server, place):
    other = start_server()
    refused(start(place / "mnt", "--server", server.url, "--token-file", server.token_file,
                  "--certificate-authority", other.ca), "certificate", place / "mnt", 4)


def test_unverified_certificate_when_asked(server, place):
    done = start(place / "mnt", "--server", server.url, "--token-file", server.token_file,
                 "--insecure-skip-tls-verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert "shop" in os.listdir(place / "mnt")
    conftest.unmount(place / "mnt")


def test_client_certificate(server, start_mount):
    mount = start_mount(server, "--context", "admin-cert")
    assert "shop" in os.listdir(mount.path)


def test_no_kubeconfig(place):
    refused(start(place / "mnt"), "no kubeconfig found", place / "mnt")


def test_unknown_context(server, place):
    refused(start(place / "mnt", "--kubeconfig", server.kubeconfig, "--context", "nowhere"),
            "nowhere", place / "mnt")


def test_missing_mountpoint(server, place):
    done = subprocess.run([conftest.PROGRAM, "--kubeconfig", server.kubeconfig, place / "missing"],
                          capture_output=True, text=True, check=False)
    refused(done, "No such file or directory", place / "missing")


def test_file_as_mountpoint(server, place):
    (place / "file").write_text("")
    done = subprocess.run([conftest.PROGRAM, "--kubeconfig", server.kubeconfig, place / "file"],
                          capture_output=True, text=True, check=False)
    refused(done, "not a directory", place / "file")


def test_mountpoint_in_use(server, mount):
    done = start(mount.path, "--kubeconfig", server.kubeconfig)
    assert done.returncode == 1 and "mounted there already" in done.stderr
    assert os.listdir(mount.path)


def test_no_imagestreams(server, place):
    server.fault(path="^/(apis/image|oapi)", status=404, text="404 page not found", count=2)
    refused(start(place / "mnt", "--kubeconfig", server.kubeconfig), "has no ImageStreams",
            place / "mnt")


def test_list_fails_at_start(server, place):
    server.fault(path="/imagestreams", status=503, text="service unavailable", count=100)
    refused(start(place / "mnt", "--kubeconfig", server.kubeconfig), "service unavailable",
            place / "mnt", 4)


def test_server_hangs_at_start(server, place):
    server.fault(path="/imagestreams", hang=True, count=100)
    with at_most(10):
        refused(start(place / "mnt", "--kubeconfig", server.kubeconfig, "--request-timeout", "1s"),
                "deadline", place / "mnt", 4)


def test_background(server, place):
    done = start(place / "mnt", "--kubeconfig", server.kubeconfig)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    assert "web" in os.listdir(place / "mnt/shop")  # whole when the command returns
    with open(place / "mnt/shop/web/spec.json"):
        busy = subprocess.run(["umount", place / "mnt"], capture_output=True, check=False)
        assert busy.returncode != 0
    conftest.wait_for(lambda: subprocess.run(["fusermount3", "-u", place / "mnt"], check=False,
                                             capture_output=True).returncode == 0, 10, "the end")
    assert not conftest.is_mounted(place / "mnt")


def test_single_threaded(server, start_mount):
    mount = start_mount(server, "-o", "single-threaded")
    subprocess.run(["find", mount.path, "-type", "f", "-exec", "cat", "{}", "+"], check=True,
                   stdout=subprocess.DEVNULL)


def test_dead_mount_is_replaced(server, place):
    mountpoint = place / "mnt"
    mountpoint.mkdir()
    with subprocess.Popen([conftest.PROGRAM, "-f", "--kubeconfig", server.kubeconfig,
                           mountpoint]) as process:
        conftest.wait_until_mounted(mountpoint, process)
        process.kill()
    with pytest.raises(OSError) as error:
        os.listdir(mountpoint)
    assert error.value.errno == errno.ENOTCONN
    assert start(mountpoint, "--kubeconfig", server.kubeconfig).returncode == 0
    assert "shop" in os.listdir(mountpoint)
    conftest.unmount(mountpoint)


def test_ordinary_user(server, start_mount):
    for path in (server.kubeconfig, server.kubeconfig.parent):
        path.chmod(0o755)
    mount = start_mount(server, user="nobody")
    done = subprocess.run(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "ls",
                           mount.path], capture_output=True, text=True, check=True)
    assert "shop" in done.stdout


def refuses(call, *arguments):
    with pytest.raises(OSError) as error:
        call(*arguments)
    assert error.value.errno == errno.EROFS


def test_read_only(server, start_mount):
    mount = start_mount(server, "--read-only")
    spec = mount / "shop/web/spec.json"
    refuses(open, spec, "w")
    refuses(open, spec, "a")
    refuses(os.open, mount / "shop/web/new", os.O_CREAT | os.O_WRONLY)
    refuses(os.mkdir, mount / "shop/new")
    refuses(os.rmdir, mount / "shop/web")
    refuses(os.unlink, spec)
    refuses(os.rename, spec, mount / "shop/web/other")
    refuses(os.link, spec, mount / "shop/web/other")
    refuses(os.symlink, "target", mount / "shop/web/other")
    refuses(os.truncate, spec, 0)
    refuses(os.utime, spec)
    refuses(os.chmod, spec, 0o600)
    assert not os.access(spec, os.W_OK)


class Load:
    """Readers in the mount and changes on the server, ended whatever happens: `with`."""

    def __init__(self, mount, server):
        self.done = threading.Event()
        command = "while :; do find . -type f -exec cat {} + ; done"
        self.readers = [subprocess.Popen(["bash", "-c", command], cwd=mount.path,
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                        for _ in range(2)]
        self.writer = threading.Thread(target=self.write, args=(server,))
        self.writer.start()

    def write(self, server):
        count = 0
        while not self.done.is_set():
            count += 1
            server.label("shop", "web", round=str(count))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.done.set()
        self.writer.join()
        for reader in self.readers:
            reader.kill()
            reader.wait()


def test_fifty_ends_under_load(server, start_mount):
    slowest = 0
    for _ in range(ROUNDS):
        mount = start_mount(server)
        held = os.open(mount / "shop/web/imagestream.json", os.O_RDONLY)
        with Load(mount, server):
            os.read(held, 1 << 20)
            conftest.wait_for(lambda: mount.status()["counts"]["nodes"] > 100, 10, "the load")
            took = mount.stop()
        # libfuse 3.10 has no way to say that a close needs no answer.
        late = OSError if conftest.older("libfuse3-3", "3.11") else ()
        with contextlib.suppress(late):
            os.close(held)
        assert took < conftest.STOP_SECONDS
        mount.check()
        slowest = max(slowest, took)
    print(f"slowest end: {slowest:.2f} s")


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_end_with_the_server_away(server, start_mount, sig):
    mount = start_mount(server)
    server.stop()
    assert (mount / "shop/web/spec.json").read_text()
    assert mount.stop(sig) < conftest.STOP_SECONDS


def test_end_while_the_first_list_hangs(server, start_mount):
    server.fault(path="/imagestreams", hang=True, count=10)
    mount = start_mount(server, wait=False)
    mount.expect("told to stop")
    conftest.wait_for(lambda: any("imagestreams" in name for name in server.counts()), 10, "list")
    assert mount.stop() < conftest.STOP_SECONDS
    assert mount.process.returncode == 1
    mount.process.returncode = 0


def test_end_while_a_lookup_waits(server, start_mount):
    mount = start_mount(server, "--context", "developer")
    server.fault(path="/namespaces/openshift/", hang=True, count=10)
    with subprocess.Popen(["ls", mount / "openshift"], stderr=subprocess.DEVNULL) as waiting:
        conftest.wait_for(lambda: any("openshift" in name for name in server.counts()), 10, "lookup")
        assert "dev" in os.listdir(mount.path)  # the others aren't held up
        assert mount.stop() < conftest.STOP_SECONDS
        assert waiting.wait(60) != 0


def test_only_stop_signals_interrupt(server, start_mount):
    mount = start_mount(server, "--context", "developer", "--request-timeout", "30s")
    server.fault(path="/namespaces/openshift/", hang=True, count=10)
    with subprocess.Popen(["ls", mount / "openshift"], stderr=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL) as waiting:
        conftest.wait_for(lambda: any("openshift" in name for name in server.counts()), 10, "lookup")
        waiting.send_signal(signal.SIGWINCH)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.5)
        with at_most(1):
            waiting.send_signal(signal.SIGINT)
            assert waiting.wait() == -signal.SIGINT
