"""A disk that stands still under the state directory: who waits for it, and that nobody else does."""

import contextlib
import errno
import fcntl
import json
import os
import subprocess
import threading

import pytest
from conftest import fails, opened, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a filesystem of its own")
HANG_SECONDS = 60
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878  # linux/fs.h


class Disk:
    """An ext4 of its own, which can be stopped: each write, fsync and unlink waits."""

    def __init__(self, directory):
        self.image, self.path = directory / "image", directory / "disk"
        self.path.mkdir()
        self.image.write_bytes(b"")
        os.truncate(self.image, 8 << 20)
        subprocess.run(["mkfs.ext4", "-q", self.image], check=True)
        subprocess.run(["mount", "-o", "loop", self.image, self.path], check=True)

    @contextlib.contextmanager
    def frozen(self):
        with opened(self.path) as fd:
            fcntl.ioctl(fd, FIFREEZE, 0)
            try:
                yield
            finally:  # no process: one would close the descriptors that it inherits, on the mount
                fcntl.ioctl(fd, FITHAW, 0)

    def state(self):
        return {path.name: path.read_text() for path in self.path.rglob("*.json.*")}


@pytest.fixture
def disk(tmp_path):
    made = Disk(tmp_path)
    yield made
    subprocess.run(["umount", made.path], check=True)


@pytest.fixture
def mount(disk, server, start_mount):
    """One thread for the kernel's requests: when that one waits, so does everybody."""
    server.create("dev", "web")
    server.create("dev", "other")
    made = start_mount(server, "--single-threaded", environment={"XDG_STATE_HOME": str(disk.path)})
    yield made
    made.stop()  # before the disk goes


class Call(threading.Thread):
    """A call on the mount, beside the test."""

    def __init__(self, function, *arguments):
        super().__init__()
        self.call = function, arguments
        self.error = None
        self.start()

    def run(self):
        function, arguments = self.call
        try:
            function(*arguments)
        except OSError as error:
            self.error = error.errno

    def end(self):
        self.join(HANG_SECONDS)
        assert not self.is_alive()
        return self.error


def serve(mount):
    """Calls that come to the program: none of them is answered by the kernel."""
    status = json.loads((mount / ".api/status.json").read_text())
    assert status
    scratch = mount / "dev/other/scratch"
    scratch.write_text("x")
    os.unlink(scratch)
    with fails(errno.ENOENT):
        os.stat(mount / "dev/other/nothing")


def waits_alone(mount, disk, function, *arguments):
    """The call waits for the disk, and all others are served meanwhile. Its errno, or None."""
    with disk.frozen():
        call = Call(function, *arguments)
        wait_for(lambda: waits_for_disk(mount) or not call.is_alive(), HANG_SECONDS, "the call")
        assert call.is_alive(), f"it didn't come to the disk, and ended with {call.error}"
        others = Call(serve, mount)
        others.join(HANG_SECONDS)
        served = not others.is_alive()
        assert call.is_alive()
    assert others.end() is None
    result = call.end()
    assert served, "the others waited for the disk"
    return result


def waits_for_disk(mount):
    """Whether a thread of the program sleeps where nothing wakes it: in the frozen filesystem."""
    tasks = f"/proc/{mount.process.pid}/task"
    for task in os.listdir(tasks):
        with contextlib.suppress(FileNotFoundError), open(f"{tasks}/{task}/wchan") as file:
            if "percpu_rwsem" in file.read():
                return True
    return False


def save(path, text):
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def test_refused_save(mount, disk):
    assert waits_alone(mount, disk, save, mount / "dev/web/spec.json", "{") == errno.EINVAL
    assert disk.state()["spec.json.rejected"] == "{"


def test_accepted_after_refused(mount, disk):
    path = mount / "dev/web/spec.json"
    before = path.read_text()
    with fails(errno.EINVAL):
        save(path, "{")
    after = json.dumps({**json.loads(before), "dockerImageRepository": "quay.io/a/b"})
    assert waits_alone(mount, disk, save, path, after) is None
    assert disk.state() == {}


def test_removed_by_hand(mount, disk):
    path = mount / "dev/web/spec.json"
    with fails(errno.EINVAL):
        save(path, "{")
    assert waits_alone(mount, disk, os.unlink, f"{path}.rejected") is None
    assert set(disk.state()) == {"spec.json.error"}


@pytest.fixture
def drafts(mount):
    """Two handles with unsaved texts; the first is kept when the name goes."""
    fds = [os.open(mount / "dev/web/spec.json", os.O_WRONLY | os.O_TRUNC) for _ in range(2)]
    for number, fd in enumerate(fds):
        os.write(fd, b"{\"draft\": %d" % number)
    yield
    for fd in fds:
        os.close(fd)


def test_unlinked_with_drafts(mount, disk, drafts):
    assert waits_alone(mount, disk, os.unlink, mount / "dev/web/spec.json") is None
    assert disk.state()["spec.json.rejected"] == '{"draft": 0'


def test_renamed_with_drafts(mount, disk, drafts):
    path = mount / "dev/web/spec.json"
    assert waits_alone(mount, disk, os.rename, path, f"{path}.mine") is None
    assert disk.state()["spec.json.rejected"] == '{"draft": 0'
    assert (mount / "dev/web/spec.json.mine").read_text() == '{"draft": 1'
