"""A real mount of the embedded API server for each test that asks for one."""

import contextlib
import errno
import json
import os
import pathlib
import re
import select
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(TOP / "tests/mount"))  # where another folder's tests load this file by its path

from stopwatch import Stopwatch, at_most  # noqa: E402, F401

# nohup and a shell's & leave these ignored, and programs that the tests start would go on ignoring them.
with contextlib.suppress(ValueError):  # not the main thread
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

PROGRAM = os.environ.get("IMAGESTREAMFS", str(TOP / "build-test/fs/imagestreamfs"))
STOP_SECONDS = 2  # as stopwatch.py counts them


def older(package, version):
    """Why what wants that version of a program can't be tested here (a skip's reason); or None."""
    here = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True,
                          check=False).stdout
    if here and subprocess.run(["dpkg", "--compare-versions", here, "lt", version], check=False).returncode == 0:
        return f"{package} {here} is older than {version}"
    return None


def pinned(program, *releases):
    """Why what Debian 12's version of that program does isn't tested on these other releases; or None."""
    release = re.search(r'^VERSION_ID="?(\d+)', pathlib.Path("/etc/os-release").read_text(), re.M)
    return f"it pins what Debian 12's {program} does" if release and release[1] in releases else None


def skip_for(reason):
    """Unless there is none."""
    if reason:
        pytest.skip(reason)


def wait_for(condition, seconds=10, what="condition"):
    """Polls what has no event to wait for: the state of another process."""
    watch = Stopwatch()
    while True:
        result = condition()
        if result:
            return result
        assert watch.seconds() < seconds, f"{what}: not within {seconds} s"
        time.sleep(0.01)


@contextlib.contextmanager
def fails(*numbers):
    """The block ends with an OSError of one of these errnos."""
    with pytest.raises(OSError) as error:
        yield
    assert errno.errorcode[error.value.errno] in {errno.errorcode[one] for one in numbers}


@contextlib.contextmanager
def opened(path, flags=os.O_RDONLY):
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def is_mounted(path):
    with open("/proc/self/mountinfo") as f:
        return any(line.split()[4] == str(path) for line in f)


def wait_until_mounted(path, process, seconds=60):
    """The kernel tells about changes of the mount table through poll()."""
    watch = Stopwatch()
    with open("/proc/self/mountinfo") as table:
        poller = select.poll()
        poller.register(table, select.POLLPRI | select.POLLERR)
        while not is_mounted(path):
            assert process.poll() is None, "the program ended before it mounted"
            assert watch.seconds() < seconds, "not mounted in time"
            poller.poll(100)


def unmount(path, seconds=5):
    """umount(8). What was just saved is still being announced for some moments: then it is busy."""
    def done():
        tried = subprocess.run(["umount", path], capture_output=True, text=True, check=False)
        assert tried.returncode == 0 or "busy" in tried.stderr, tried.stderr
        return tried.returncode == 0
    wait_for(done, seconds, "umount")


class Server:
    """The embedded API server as its own process."""

    def __init__(self, directory, *arguments):
        self.kubeconfig = directory / "kubeconfig"
        self.ca = directory / "ca.crt"
        self.token_file = directory / "token"
        self.errors = open(directory / "server.stderr", "w+")
        self.process = subprocess.Popen(
            ["/usr/bin/python3", str(TOP / "tests/apiserver"), "--port", "0",
             "--kubeconfig", str(self.kubeconfig), "--ca", str(self.ca),
             "--token-file", str(self.token_file), *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=self.errors, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("ready "), f"the server said {line!r}: {self.error_text()}"
        self.url = line.split()[1]
        self.context = ssl.create_default_context(cafile=str(self.ca))
        self.token = self.token_file.read_text().strip()

    def error_text(self):
        self.errors.flush()
        return pathlib.Path(self.errors.name).read_text()

    def request(self, method, path, body=None, content_type="application/json", timeout=60):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data=data, method=method, headers={
            "Authorization": "Bearer " + self.token, "Accept": "application/json",
            "User-Agent": "tests", "Content-Type": content_type})
        with urllib.request.urlopen(request, context=self.context, timeout=timeout) as response:
            text = response.read()
            return json.loads(text) if text else None

    def control(self, method, name, body=None):
        return self.request(method, "/_control/" + name, body)

    def streams(self, namespace, name=""):
        path = f"/apis/image.openshift.io/v1/namespaces/{namespace}/imagestreams"
        return path + ("/" + name if name else "")

    def get(self, namespace, name):
        return self.request("GET", self.streams(namespace, name))

    def create(self, namespace, name, **spec):
        return self.request("POST", self.streams(namespace), {
            "kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
            "metadata": {"name": name}, "spec": spec})

    def delete(self, namespace, name):
        return self.request("DELETE", self.streams(namespace, name))

    def label(self, namespace, name, **labels):
        return self.request("PATCH", self.streams(namespace, name),
                            {"metadata": {"labels": labels}}, "application/merge-patch+json")

    def counts(self):
        """Requests since the last reset, but for those of the tests themselves."""
        return self.control("GET", "requests")["counts"]

    def reset(self):
        self.control("POST", "reset", {})

    def fault(self, **spec):
        self.control("POST", "faults", spec)

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()


# What the program says by default, of what becomes of it: tests that look for it do so themselves.
NOTICE = re.compile(r"Z imagestreamfs: (the watch of .* is lost: |/\S+ is watched again, after |"
                    r"credentials were renewed$|credentials are (refused|accepted again) by |rights in .* are (lost|won): |"
                    r"(\S+|[^ /]+/[^ /]+/tags/.+) wasn't saved: |the announcer has ended |"
                    r"\S+ has no project that )")


# What a leak check says of a thread that ended while it looked; it goes on.
MISSED_THREAD = re.compile(r"(==\d+==Unable to get registers from thread \d+\.\n)+")


class Mount:
    """One run of the program in the foreground."""

    asan = ""  # options more

    def __init__(self, directory, kubeconfig, *arguments, user=None, wait=True, prefix=(),
                 environment=None):
        """`prefix`: the words of a command that runs the rest, and `environment` what it adds."""
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=directory))
        self.path = self.directory / "mnt"
        self.path.mkdir()
        self.stderr = self.directory / "stderr"
        self.expected = []
        command = [PROGRAM, "-f", "--kubeconfig", str(kubeconfig), *map(str, arguments),
                   str(self.path)]
        if user:
            for path in (self.directory, self.path):
                shutil.chown(path, user)
                path.chmod(0o755)
            command = ["setpriv", f"--reuid={user}", "--regid=nogroup", "--clear-groups", *command]
        command = [*prefix, *command]
        environment = {**os.environ,
                       "ASAN_OPTIONS": f"log_path={self.directory}/san:detect_leaks=1{self.asan}",
                       "UBSAN_OPTIONS": f"log_path={self.directory}/san:print_stacktrace=1",
                       "TSAN_OPTIONS": f"log_path={self.directory}/san:"
                                       f"suppressions={TOP}/tests/tsan.supp",
                       **(environment or {})}
        with open(self.stderr, "w") as stderr:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr,
                                            env=environment)
        if wait:
            try:
                wait_until_mounted(self.path, self.process)
            except AssertionError as error:
                self.kill()
                raise AssertionError(f"{error}: {self.stderr.read_text()}") from None

    def __truediv__(self, name):
        return self.path / name

    def status(self):
        return json.loads((self.path / ".api/status.json").read_text())

    def errors(self):
        return [json.loads(line) for line in (self.path / ".api/errors").read_text().splitlines()]

    def expect(self, pattern):
        """A line on stderr that this test brings about."""
        self.expected.append(re.compile(pattern))

    def stop(self, sig=signal.SIGTERM):
        """Ends the program; how long that took, in seconds of a machine that isn't busy."""
        watch = Stopwatch()
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            wait_for(lambda: self.process.poll() is not None, STOP_SECONDS + 8)
        except AssertionError:
            self.kill()
            raise AssertionError("the program didn't end") from None
        return watch.seconds()

    def kill(self):
        self.process.kill()
        subprocess.run(["umount", "-l", str(self.path)], capture_output=True, check=False)
        self.process.wait()

    def check(self):
        """Nothing unexpected was said, nothing is left behind."""
        reports = [text for path in self.directory.glob("san.*")
                   if not MISSED_THREAD.fullmatch(text := path.read_text())]
        assert not reports, "\n".join(reports)
        code = self.process.returncode
        assert not is_mounted(self.path), f"the mount is still there, exit code {code}"
        unexpected = [line for line in self.stderr.read_text().splitlines()
                      if not NOTICE.search(line)
                      and not any(p.search(line) for p in self.expected)]
        assert not unexpected, "on stderr:\n" + "\n".join(unexpected)
        assert code == 0, f"exit code {code}"


def pytest_configure(config):
    if not os.access("/dev/fuse", os.W_OK):
        raise pytest.UsageError("/dev/fuse can't be opened: run scripts/test")


@pytest.fixture(scope="session")
def directory():
    """Not below /tmp: editors treat files there in another way."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="imagestreamfs-test-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """Where `meson install` of the build that is tested installs: a copy of /usr/local."""
    target = tmp_path_factory.mktemp("install")
    build = pathlib.Path(PROGRAM).parents[1]
    subprocess.run(["meson", "install", "-C", build, "--no-rebuild"], check=True, capture_output=True,
                   env={**os.environ, "DESTDIR": str(target)})
    return target / "usr/local"


@pytest.fixture
def start_server(directory):
    servers = []

    def start(*arguments):
        place = pathlib.Path(tempfile.mkdtemp(dir=directory))
        place.chmod(0o755)
        server = Server(place, *arguments)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def start_mount(directory):
    mounts = []

    def start(server, *arguments, **options):
        mount = Mount(directory, server.kubeconfig, *arguments, **options)
        mounts.append(mount)
        return mount

    yield start
    failures = []
    for mount in mounts:
        try:
            took = mount.stop()
            assert took < STOP_SECONDS, f"it took {took:.1f} s to end"
            mount.check()
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n".join(failures)


@pytest.fixture
def server(start_server):
    return start_server("--sample")


@pytest.fixture
def mount(server, start_mount):
    return start_mount(server)
