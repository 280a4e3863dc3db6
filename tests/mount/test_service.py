"""It runs as a service: starts and ends as whoever starts it expects, and says what becomes of it."""

import contextlib
import errno
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

import pytest
import yaml

import conftest
from events import Inotify, announcers
from conftest import TOP, is_mounted, unmount, wait_for
from stopwatch import Stopwatch

SECONDS = 60
ROOT = os.getuid() == 0
STREAMS = "/apis/image.openshift.io/v1/imagestreams"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def mountpoint(directory):
    path = pathlib.Path(tempfile.mkdtemp(dir=directory)) / "mnt"
    path.mkdir()
    yield path
    subprocess.run(["umount", "-l", path], check=False, capture_output=True)


def start(server, mountpoint, *arguments, **options):
    """In the background."""
    return subprocess.run([conftest.PROGRAM, "--kubeconfig", server.kubeconfig, *map(str, arguments),
                           mountpoint], capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL, timeout=120, **options)


def source(mountpoint):
    """What mount and df call it, and the options of mountinfo."""
    with open("/proc/self/mountinfo") as f:
        for line in f:
            fields, _, rest = line.partition(" - ")
            if fields.split()[4] == str(mountpoint):
                return rest.split()[1], fields.split()[5]
    return None


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(child) for child in f.read().split()]


def has_ended(pid):
    """Also where it waits for somebody to hear of it."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


# ---- automount ----

@pytest.fixture
def automount(mountpoint):
    processes = []

    def hold(*command):
        process = subprocess.Popen(
            ["/usr/bin/python3", TOP / "tests/mount/automount.py", mountpoint, *map(str, command)],
            start_new_session=True, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield hold
    for _ in range(2):  # what is mounted, and what held the place
        subprocess.run(["umount", "-l", mountpoint], check=False, capture_output=True)
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def words_of(how, server, mountpoint):
    if how == "program":
        return [conftest.PROGRAM, "--kubeconfig", server.kubeconfig, mountpoint]
    return ["mount", "-t", "fuse." + conftest.PROGRAM, "admin", mountpoint, "-o",
            f"kubeconfig={server.kubeconfig},_netdev,x-systemd.automount,x-systemd.idle-timeout=60"]


@pytest.mark.skipif(not ROOT, reason="only root mounts autofs")
@pytest.mark.parametrize("how", ["program", "mount"])
def test_automount(server, mountpoint, automount, how):
    """Whoever goes in waits for the mount, and finds it there; a second time, too."""
    holder = automount(*words_of(how, server, mountpoint))
    for _ in range(2):
        seen = subprocess.run(["ls", f"{mountpoint}/shop"], capture_output=True, text=True,
                              check=False, timeout=SECONDS)
        assert (seen.returncode, holder.stdout.readline()) == (0, "0\n"), seen.stderr
        assert "web" in seen.stdout.split()
        wait_for(lambda: subprocess.run(["umount", "-t", "fuse.imagestreamfs", mountpoint],
                                        capture_output=True, check=False).returncode == 0, 30, "umount")


@pytest.mark.skipif(not ROOT, reason="only root mounts autofs")
def test_automount_that_fails(server, mountpoint, automount):
    """Whoever goes in hears at once, and isn't held up."""
    server.stop()
    holder = automount(*words_of("program", server, mountpoint))
    seen = subprocess.run(["ls", f"{mountpoint}/shop"], capture_output=True, text=True, check=False,
                          timeout=SECONDS)
    assert seen.returncode and holder.stdout.readline() == "4\n"


# ---- ready means mounted ----

def test_ready_means_mounted(server, mountpoint):
    for _ in range(10):
        process = subprocess.Popen([conftest.PROGRAM, "--kubeconfig", server.kubeconfig, mountpoint],
                                   stdin=subprocess.DEVNULL)  # no pipe, whose end would be waited for
        status = os.waitpid(process.pid, 0)[1]
        there = os.lstat(mountpoint / "shop")  # in the next moment
        process.returncode = status
        assert status == 0 and there.st_nlink > 2
        unmount(mountpoint)


@pytest.mark.parametrize("option", ["max_read=131072", "max_read=4096", "noatime,nodev,noexec",
                                    "async,atime,nosuid,defaults,rw", "sync,dirsync", "nofail,user",
                                    "relatime,nodiratime,lazytime"])
def test_what_fuse_is_told(server, mountpoint, option):
    done = start(server, mountpoint, "-o", option)
    assert (done.returncode, done.stderr) == (0, "")
    text = (mountpoint / "shop/web/imagestream.json").read_text()
    assert json.loads(text)["metadata"]["name"] == "web"
    if option.startswith("max_read="):
        assert option in subprocess.run(["findmnt", "-n", "-o", "OPTIONS", mountpoint], check=True,
                                        capture_output=True, text=True).stdout
    unmount(mountpoint)


def test_the_place_is_taken_meanwhile(server, mountpoint):
    """A mount that the kernel refuses: a line, no mount, and not 0."""
    done = start(server, mountpoint, "-o", "context=system_u:object_r:nothing_t:s0")
    if os.path.exists("/sys/fs/selinux/enforce"):
        pytest.skip("SELinux knows it")
    assert done.returncode == 1 and not is_mounted(mountpoint)
    lines = done.stderr.splitlines()
    assert lines and all(line.startswith("imagestreamfs: ") for line in lines), done.stderr
    assert "there is no context" not in done.stderr and "Invalid argument" in done.stderr


# ---- the end of a start ----

STAGES = {"root": "/apis/image.openshift.io/v1$", "list": "/imagestreams"}


@pytest.fixture(params=STAGES)
def starting(request, server, mountpoint):
    """A start that waits for a slow server: the process, and the one in the background."""
    server.reset()
    server.fault(path=STAGES[request.param], hang=True, count=100)
    process = subprocess.Popen([conftest.PROGRAM, "--kubeconfig", server.kubeconfig,
                                "--request-timeout=5m", mountpoint], stdin=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, start_new_session=True)
    place = re.compile(STAGES[request.param])
    wait_for(lambda: any(place.search(name.split()[1].split("?")[0]) or "imagestreams" in name
                         for name in server.counts()), SECONDS, "the request")
    child, = children_of(process.pid)
    yield process, child
    process.kill()
    process.wait()
    process.stderr.close()
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("end", ["^C", "TERM of the parent", "KILL of the parent"])
def test_the_start_is_ended(server, starting, mountpoint, end):
    process, child = starting
    if end == "^C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM if "TERM" in end else signal.SIGKILL)
    watch = Stopwatch()
    status = process.wait(SECONDS)
    wait_for(lambda: has_ended(child), SECONDS, "the end of the child")
    assert watch.seconds() < 5
    assert status == -{"^": signal.SIGINT, "T": signal.SIGTERM, "K": signal.SIGKILL}[end[0]]
    server.control("DELETE", "faults")
    assert not is_mounted(mountpoint)


# ---- it speaks ----

class Kubeconfig:
    """One whose token can be replaced."""

    def __init__(self, server, place):
        self.base, self.kubeconfig = yaml.safe_load(server.kubeconfig.read_text()), place / "k"
        self.write(server.token)

    def write(self, token):
        for user in self.base["users"]:
            if user["name"].startswith("admin") and "token" in user["user"]:
                user["user"]["token"] = token
        new = self.kubeconfig.with_suffix(".new")
        new.write_text(yaml.safe_dump(self.base))
        new.rename(self.kubeconfig)


# What is to be said of what live_through() brings about.
SAID = {
    "lost": r"the watch of \S+imagestreams is lost: .*",
    "back": r"\S+imagestreams is watched again, after \d+ s$",
    "save": r"/?shop/web/metadata.json wasn't saved: .*label is ugly",
    "refused": r"credentials are refused by https://\S+: it doesn't take the token of user ",
    "renewed": r"credentials were renewed$",
}
ERRORS = {"save": "the label"}


def live_through(server, kubeconfig, path, said):
    """`said(name)` waits for it."""
    server.fault(path="/imagestreams", watch=True, status=500, count=2, message="no watches today")
    server.control("POST", "drop", {"path": "imagestreams"})
    said("lost")
    said("back")
    server.fault(method="PATCH", status=422, reason="Invalid", message="the label is ugly")
    document = json.loads((path / "shop/web/metadata.json").read_text())
    document.setdefault("labels", {})["ugly"] = "yes"
    with pytest.raises(OSError) as error:
        (path / "shop/web/metadata.json").write_text(json.dumps(document))
    assert error.value.errno == errno.EINVAL
    said("save")
    server.control("POST", "token", {"user": "admin", "token": "sha256~second"})
    server.token = "sha256~second"
    server.control("POST", "drop", {"path": "imagestreams"})
    said("refused")
    kubeconfig.write("sha256~second")
    said("renewed")


def waiter(lines):
    def said(name):
        pattern = re.compile(SAID[name])
        wait_for(lambda: [line for line in lines() if pattern.search(line)], SECONDS,
                 f"{name}: {lines()}")
    return said


def test_it_speaks_in_the_foreground(server, start_mount, tmp_path):
    kubeconfig = Kubeconfig(server, tmp_path)
    mount = start_mount(kubeconfig)
    for pattern in SAID.values():
        mount.expect(pattern)

    def lines():
        return mount.stderr.read_text().splitlines()

    live_through(server, kubeconfig, mount.path, waiter(lines))
    assert all(re.match(f"{TIME} imagestreamfs: .", line) for line in lines())
    assert server.token not in mount.stderr.read_text()


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("where", ["foreground", "background"])
def test_it_speaks_in_a_file(server, mountpoint, tmp_path, form, where):
    kubeconfig, log = Kubeconfig(server, tmp_path), tmp_path / "log"
    log.write_text("what stood there stays\n")
    command = [conftest.PROGRAM, "--kubeconfig", kubeconfig.kubeconfig, "--log-file", log,
               f"--log-format={form}", mountpoint]
    if where == "foreground":
        process = subprocess.Popen([*command, "-f"], stdin=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        conftest.wait_until_mounted(mountpoint, process)
    else:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)

    def lines():
        first, *rest = log.read_text().splitlines()
        assert first == "what stood there stays"
        if form == "text":
            assert all(re.match(f"{TIME} imagestreamfs: ", line) for line in rest)
            return [line.split(" imagestreamfs: ", 1)[1] for line in rest]
        objects = [json.loads(line) for line in rest]
        assert all(set(one) == {"time", "level", "message"} and re.fullmatch(TIME, one["time"])
                   and one["level"] in ("error", "notice") for one in objects)
        return [one["message"] for one in objects]

    live_through(server, kubeconfig, mountpoint, waiter(lines))
    unmount(mountpoint)
    if where == "foreground":
        assert (process.wait(SECONDS), process.stderr.read()) == (0, "")
        process.stderr.close()


def test_a_new_log_file_is_its_owners(server, mountpoint, tmp_path):
    start(server, mountpoint, "--log-file", tmp_path / "log")
    unmount(mountpoint)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


# Runs with a /dev of its own, in which a socket of the test's is the system's log.
OWN_DEV = """
set -e
for one in fuse null urandom random zero tty; do
    [ -e /dev/$one ] || continue
    touch "$1/$one"
    mount --bind /dev/$one "$1/$one"
done
mount --rbind "$1" /dev
shift
exec "$@"
"""


@pytest.mark.skipif(not ROOT, reason="only root has a /dev of his own")
def test_it_speaks_to_syslog(server, mountpoint, tmp_path):
    kubeconfig, dev = Kubeconfig(server, tmp_path), tmp_path / "dev"
    dev.mkdir()
    came = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(dev / "log"))
        log.setblocking(False)

        def lines():
            with contextlib.suppress(BlockingIOError):
                while True:
                    came.append(log.recv(65536).decode())
            return came

        subprocess.run(["unshare", "-m", "bash", "-c", OWN_DEV, "bash", dev, conftest.PROGRAM,
                        "--kubeconfig", kubeconfig.kubeconfig, mountpoint], check=True,
                       stdin=subprocess.DEVNULL)
        pid = next(int(one) for one in os.listdir("/proc") if one.isdigit()
                   and mountpoint_of(one) == str(mountpoint))
        try:
            assert not is_mounted(mountpoint)
            live_through(server, kubeconfig, pathlib.Path(f"/proc/{pid}/root{mountpoint}"),
                         waiter(lines))
        finally:
            os.kill(pid, signal.SIGTERM)
            wait_for(lambda: has_ended(pid), SECONDS, "the end")
        for line in lines():
            assert re.match(rf"<(29|27)>\w{{3}} .* imagestreamfs\[{pid}\]: ", line), line


def mountpoint_of(pid):
    with contextlib.suppress(OSError):
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if pathlib.Path(words[0]).name == "imagestreamfs":
            return words[-2]
    return None


def test_it_speaks_of_rights(server, start_mount):
    server.control("POST", "grant", {"user": "developer", "namespace": "shop", "role": "edit"})
    mount = start_mount(server, "--context", "developer", "--rights-interval", "1s",
                        "--confirm-interval", "1s")
    assert os.access(mount / "shop/web/spec.json", os.W_OK)

    def lines():
        return mount.stderr.read_text().splitlines()

    server.control("POST", "revoke", {"user": "developer", "namespace": "shop"})
    server.control("POST", "grant", {"user": "developer", "namespace": "shop", "role": "view",
                                     "wait": False})
    wait_for(lambda: [line for line in lines() if "rights in shop are lost: " in line], SECONDS,
             "the loss")
    server.control("POST", "grant", {"user": "developer", "namespace": "shop", "role": "edit"})
    wait_for(lambda: [line for line in lines() if "rights in shop are won: " in line], SECONDS,
             "the gain")


def test_it_speaks_of_the_announcer(server, start_mount):
    mount = start_mount(server)
    mount.expect("the announcer has ended")
    wait_for(lambda: len(announcers(mount.process.pid)) == 1, SECONDS, "the announcer")
    os.kill(announcers(mount.process.pid)[0], signal.SIGKILL)
    server.label("shop", "web", changed="yes")
    wait_for(lambda: "the announcer has ended (" in mount.stderr.read_text(), SECONDS, "the line")
    assert "it is started again" in mount.stderr.read_text()


def test_it_is_silent_by_default(server, mountpoint):
    done = start(server, mountpoint)
    unmount(mountpoint)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---- systemd ----

@pytest.fixture(params=["path", "abstract"])
def notify(request, tmp_path):
    """(what $NOTIFY_SOCKET says, the socket)"""
    name = str(tmp_path / "notify")
    if request.param == "abstract":
        name = "@imagestreamfs-test-" + tmp_path.name + str(os.getpid())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0"))
        listener.settimeout(SECONDS)
        yield name, listener


def test_systemd_is_told(server, start_mount, notify):
    name, listener = notify
    mount = start_mount(server, environment={"NOTIFY_SOCKET": name}, wait=False)
    messages = []
    while "READY=1" not in messages:
        messages += listener.recv(65536).decode().split("\n")
    assert os.lstat(mount / "shop/web").st_nlink > 2  # it is mounted by then
    status = next(one for one in messages if one.startswith("STATUS="))
    assert re.fullmatch(r"STATUS=[1-9]\d* namespaces, [1-9]\d* imagestreams, .*, true \d+ s ago", status)
    mount.process.send_signal(signal.SIGTERM)
    while "STOPPING=1" not in messages:
        messages += listener.recv(65536).decode().split("\n")


def test_nobody_listens_to_notifications(server, start_mount, tmp_path):
    for name in ("", "@", "nonsense", str(tmp_path / "missing"), "/" + "x" * 200):
        mount = start_mount(server, environment={"NOTIFY_SOCKET": name})
        assert "shop" in os.listdir(mount.path)


# ---- health ----

def health(mount, name):
    """"ok", or the name of the errno."""
    try:
        return (mount / ".api" / name).read_text().strip()
    except OSError as error:
        return errno.errorcode[error.errno]


def test_healthy_and_ready(mount):
    assert (health(mount, "healthz"), health(mount, "readyz")) == ("ok", "ok")
    assert os.stat(mount / ".api/healthz").st_size == 0
    subprocess.run(["cat", mount / ".api/readyz"], check=True, stdout=subprocess.DEVNULL)


def test_not_ready_while_a_list_waits(server, start_mount):
    mount = start_mount(server, "--context", "developer")
    assert health(mount, "readyz") == "ok"
    server.fault(path="/namespaces/dev/", hang=True, count=10)
    with subprocess.Popen(["ls", mount / "dev"], stderr=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL) as waiting:
        wait_for(lambda: health(mount, "readyz") == "EAGAIN", SECONDS, "not to be ready")
        assert health(mount, "healthz") == "ok"
        server.control("DELETE", "faults")
        waiting.wait(SECONDS)
    wait_for(lambda: health(mount, "readyz") == "ok", SECONDS, "to be ready")


def test_not_ready_with_refused_credentials(server, start_mount, tmp_path):
    kubeconfig = Kubeconfig(server, tmp_path)
    mount = start_mount(kubeconfig)
    server.control("POST", "token", {"user": "admin", "token": "sha256~second"})
    server.token = "sha256~second"
    server.control("POST", "drop", {"path": "imagestreams"})
    wait_for(lambda: health(mount, "readyz") == "EKEYEXPIRED", SECONDS, "the refusal")
    assert health(mount, "healthz") == "ok"
    kubeconfig.write("sha256~second")
    wait_for(lambda: health(mount, "readyz") == "ok", SECONDS, "the new token")


def test_not_ready_after_a_minute_without_a_watch(server, start_mount):
    mount = start_mount(server)
    server.stop()
    watch = Stopwatch()
    assert health(mount, "readyz") == "ok"  # it may come back at once
    wait_for(lambda: health(mount, "readyz") == "ETIMEDOUT", 180, "the minute")
    assert watch.seconds() > 1 and health(mount, "healthz") == "ok"
    assert (mount / "shop/web/spec.json").read_text()


# ---- metrics, df, mount ----

def test_metrics_of_failed_imports(start_server, start_mount):
    server = start_server("--import-controller", "--import-fail", "broken", "--namespace", "dev",
                          "--namespace", "prod")
    for namespace, name, references in (("dev", "one", ["broken/a", "broken/b", "good/c"]),
                                        ("dev", "two", ["broken/a"]), ("prod", "one", ["good/a"])):
        server.create(namespace, name, tags=[
            {"name": f"v{number}", "from": {"kind": "DockerImage", "name": f"registry.example/{one}"}}
            for number, one in enumerate(references)])
    mount = start_mount(server)
    wait_for(lambda: len((mount / ".api/failing").read_text().splitlines()) == 3, SECONDS, "imports")
    found = re.findall(r"^imagestreamfs_failing_tags\{(.*)\} (\d+)$",
                       (mount / ".api/metrics").read_text(), re.M)
    assert found == [('namespace="dev"', "3")]


def test_metrics_of_pushes(server, mount):
    """Each once, whoever brings it; what was there isn't one, nor is a change of anything else."""
    def pushes():
        return dict(re.findall(r"^imagestreamfs_pushes_total\{namespace=\"(.*)\"\} (\d+)$",
                               (mount / ".api/metrics").read_text(), re.M))

    assert pushes() == {}
    for _ in range(3):
        server.control("POST", "bulk", [{"op": "touch-image", "namespace": "shop", "name": "api"}])
    server.control("POST", "bulk", [{"op": "touch-image", "namespace": "prod", "name": "web"}])
    server.label("dev", "scratch", changed="yes")
    server.create("dev", "new")
    wait_for(lambda: pushes() == {"shop": "3", "prod": "1"}, SECONDS, f"the pushes: {pushes()}")
    (mount / ".api/refresh").write_text("now\n")
    status = json.loads((mount / "dev/new/status.json").read_text())
    image = "sha256:" + "7" * 64
    status["tags"] = [{"tag": "latest", "items": [{
        "created": "2020-01-01T00:00:00Z", "dockerImageReference": f"registry.example/new@{image}",
        "image": image, "generation": 1}]}]
    (mount / "dev/new/status.json").write_text(json.dumps(status))  # a save of our own
    assert pushes() == {"shop": "3", "prod": "1", "dev": "1"}


def test_metrics(server, mount):
    parser = pytest.importorskip("prometheus_client.parser")

    def family(name):
        text = (mount / ".api/metrics").read_text()
        return {one.name: one for one in parser.text_string_to_metric_families(text)}[name]

    def value(name):
        sample, = family(name).samples
        return sample.value

    version = subprocess.run([conftest.PROGRAM, "--version"], capture_output=True, text=True,
                             check=True).stdout.split()[1]
    sample, = family("imagestreamfs_build_info").samples
    assert (sample.labels, sample.value) == ({"version": version}, 1)
    assert value("imagestreamfs_up") == 1
    wait_for(lambda: abs(value("process_open_fds") - len(os.listdir(f"/proc/{mount.process.pid}/fd"))) < 8, SECONDS,
             "a moment when no connection comes or goes")
    assert 0 <= os.stat(mount.directory / "stderr").st_mtime - value("process_start_time_seconds") \
        or value("process_start_time_seconds") > 1.6e9


def test_df_counts_inodes(mount):
    seen = os.statvfs(mount.path)
    assert seen.f_files > seen.f_ffree > seen.f_files // 2 and seen.f_favail == seen.f_ffree
    line = subprocess.run(["df", "-i", mount.path], capture_output=True, text=True,
                          check=True).stdout.splitlines()[1]
    assert int(line.split()[4].rstrip("%")) < 50, line


def test_two_contexts_are_told_apart(server, start_mount):
    one, other = start_mount(server, "--context", "admin"), start_mount(server, "--context", "viewer")
    assert source(one.path)[0] == "admin" and source(other.path)[0] == "viewer"
    assert other.status()["server"] == server.url


def test_without_a_context_it_is_the_server(mount, server):
    assert source(mount.path)[0] == server.url


@pytest.mark.parametrize("option, name", [("fsname=streams", "streams"), (r"fsname=a\,b", "a,b"),
                                          (r"fsname=a\\b", r"a\134b"),
                                          (r"context=,fsname=x", None)])
def test_fsname(server, start_mount, option, name):
    if name:
        assert source(start_mount(server, "-o", option).path)[0] == name


# ---- spellings ----

@pytest.mark.parametrize("words", [["-n=shop"], ["-nshop"], ["-n", "shop"], ["--namespace=shop"],
                                   ["--namespace", "shop"], ["-o", "namespace=shop"]])
def test_one_namespace(server, start_mount, words):
    assert os.listdir(start_mount(server, *words).path) == ["shop"]


@pytest.mark.parametrize("words, writable", [
    (["--read-only"], False), (["--read-only=true"], False), (["--read-only=false"], True),
    (["-o", "read-only=1"], False), (["-o", "read-only=F"], True), (["-o", "ro"], False),
    (["-o", "ro,rw"], True), ([], True)])
def test_read_only(server, start_mount, words, writable):
    mount = start_mount(server, *words)
    assert os.access(mount / "shop/web/spec.json", os.W_OK) == writable


@pytest.mark.skipif(not ROOT, reason="only root has a mount that is read-only for others alone")
@pytest.mark.parametrize("words", [["--read-only"], ["-o", "ro"], ["-o", "noopen"], ["-o", "ro,noevents"]])
def test_a_read_only_mount_shows_ro(server, start_mount, words):
    """And what changes on the server raises its events all the same."""
    if "mount_setattr" not in pathlib.Path("/usr/include/asm-generic/unistd.h").read_text():
        pytest.skip("these kernel headers (5.10) have no mount_setattr(2)")
    mount = start_mount(server, *words)
    assert os.statvfs(mount.path).f_flag & os.ST_RDONLY  # it answers: now it is as it will be
    assert source(mount.path)[1].split(",")[0] == "ro"
    for what in (lambda: os.mkdir(mount / "dev/new"), lambda: open(mount / "shop/web/spec.json", "w"),
                 lambda: os.rmdir(mount / "shop/web")):
        with conftest.fails(errno.EROFS):
            what()
    if "noevents" not in words[-1]:
        with contextlib.closing(Inotify()) as seen:
            for watched in ("dev", "shop/web"):
                os.listdir(mount / watched)
                seen.add(mount / watched, watched)
            for change, event in (
                    (lambda: server.create("dev", "appears"), ("dev", "appears", "CREATE|ISDIR")),
                    (lambda: server.label("shop", "web", changed="yes"),
                     ("shop/web", "metadata.json", "MODIFY")),
                    (lambda: server.delete("dev", "appears"), ("dev", "appears", "DELETE|ISDIR"))):
                change()
                assert seen.until(lambda one: one == event, SECONDS), event


def test_a_read_only_mount_of_a_user(server, mountpoint):
    """Without the right to such a mount the program alone refuses: the events are worth more."""
    if not ROOT:
        pytest.skip("only root becomes somebody else")
    server.kubeconfig.parent.chmod(0o755)
    server.kubeconfig.chmod(0o644)
    for path in (mountpoint.parent, mountpoint):
        path.chmod(0o755)
        shutil.chown(path, "nobody")
    for words, flag in ((["--read-only"], "rw"), (["--read-only", "--noevents"], "ro")):
        nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        subprocess.run([*nobody, conftest.PROGRAM, "--kubeconfig", server.kubeconfig, *words,
                        mountpoint], check=True, stdin=subprocess.DEVNULL)
        assert source(mountpoint)[1].split(",")[0] == flag
        done = subprocess.run([*nobody, "mkdir", mountpoint / "dev/new"], capture_output=True, text=True,
                              check=False)
        assert "Read-only file system" in done.stderr
        unmount(mountpoint)


@pytest.mark.parametrize("text", ["0", "1m30s", "1.5h", "90", "2500ms", "1h0m0s"])
def test_durations(server, start_mount, text):
    mount = start_mount(server, f"--request-timeout={text}", f"--poll-interval={text}")
    assert "shop" in os.listdir(mount.path)


def test_the_context_as_an_option(server, start_mount):
    mount = start_mount(server, "-o", "kubecontext=viewer")
    assert mount.status()["user"] == "viewer"


# ---- mount -t imagestreamfs ----

HELPED = """
set -e
mount --bind "$1" /usr/sbin
mount -t imagestreamfs admin "$2" -o "kubeconfig=$3,ro,noexec"
findmnt -n -o SOURCE,FSTYPE "$2"
ls "$2/shop"
until umount "$2" 2>/dev/null; do sleep 0.05; done  # the announcer may still be in there
"""


@pytest.mark.skipif(not ROOT, reason="only root mounts so")
def test_mount_t_imagestreamfs(server, mountpoint, tmp_path):
    """mount(8) finds its helper; with an /sbin of one's own."""
    (tmp_path / "mount.imagestreamfs").symlink_to(conftest.PROGRAM)
    (tmp_path / "mount.imagestreamfs").chmod
    seen = subprocess.run(["unshare", "-m", "bash", "-c", HELPED, "bash", tmp_path, mountpoint,
                           server.kubeconfig], capture_output=True, text=True, check=False,
                          timeout=SECONDS)
    assert seen.returncode == 0, seen.stderr
    first, *rest = seen.stdout.splitlines()
    assert first.split() == ["admin", "fuse.imagestreamfs"] and "web" in rest


# ---- progress ----

def on_a_terminal(command):
    """What came to the terminal until the command ended, and its exit status."""
    master, slave = pty.openpty()
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave,
                               start_new_session=True)
    os.close(slave)
    text = b""
    while select.select([master], [], [], SECONDS)[0]:
        try:
            piece = os.read(master, 65536)
        except OSError:  # nobody has it open any more
            break
        text += piece
    os.close(master)
    return text.decode(), process.wait(SECONDS)


@pytest.fixture
def slow(start_server):
    """The second page of its list takes 3 s."""
    server = start_server("--streams", 1200, "--tags", 1)
    server.fault(path="imagestreams.*continue=", delay=3)
    return server


def test_progress(slow, mountpoint):
    text, status = on_a_terminal([conftest.PROGRAM, "--kubeconfig", slow.kubeconfig, mountpoint])
    unmount(mountpoint)
    *lines, last = text.split("\r")
    assert status == 0 and last == "\x1b[K", text  # nothing of it stays
    assert lines.pop(0) == "" and len(lines) >= 3, text
    counts = [int(re.fullmatch(r"imagestreamfs: (\d+) imagestreams so far", line)[1])
              for line in lines]
    assert 500 in counts and counts == sorted(counts)


def test_no_progress_where_it_is_quick(server, mountpoint):
    text, status = on_a_terminal([conftest.PROGRAM, "--kubeconfig", server.kubeconfig, mountpoint])
    unmount(mountpoint)
    assert status == 0 and (text == "" or text.endswith("\r\x1b[K"))  # a busy machine isn't


def test_no_progress_without_a_terminal(slow, mountpoint):
    done = start(slow, mountpoint)
    unmount(mountpoint)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_progress_makes_room_for_the_error(start_server, mountpoint):
    server = start_server("--streams", 1200, "--tags", 1)
    server.fault(path="imagestreams.*continue=", delay=2, status=403, count=10)
    server.fault(path="selfsubjectaccessreviews", status=500, count=10)
    text, status = on_a_terminal([conftest.PROGRAM, "--kubeconfig", server.kubeconfig, mountpoint])
    if status == 0:
        unmount(mountpoint)
    assert "\r\x1b[K" in text and "so far" not in text.rpartition("\r\x1b[K")[2]


# ---- units ----


def test_the_helper_is_installed(installed):
    helper = installed / "sbin/mount.imagestreamfs"
    assert helper.is_symlink() and helper.resolve() == installed / "bin/imagestreamfs"
    assert (installed / "share/man/man8/mount.imagestreamfs.8").read_text() == ".so man1/imagestreamfs.1\n"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
@pytest.mark.parametrize("which", ["--user", "--system"])
def test_the_units_are_right(installed, tmp_path, which):
    name = "imagestreamfs.service" if which == "--user" else "imagestreamfs@.service"
    unit = installed / "lib/systemd" / which.lstrip("-") / name
    text = unit.read_text()
    assert "Type=notify\n" in text and " -f " in text
    copy = tmp_path / name.replace("@", "@prod")
    copy.write_text(text.replace("/usr/local/", f"{installed}/"))
    done = subprocess.run(["systemd-analyze", which, "--man=no", "verify", copy],
                          capture_output=True, text=True, check=False,
                          env=dict(os.environ, XDG_RUNTIME_DIR=str(tmp_path), HOME=str(tmp_path)))
    ours = [line for line in done.stderr.splitlines() if "imagestreamfs" in line]
    assert not ours and done.returncode == 0, done.stderr


@pytest.mark.skipif(not ROOT, reason="only root gives capabilities up")
def test_the_system_unit_s_capabilities_are_enough(installed, server, start_mount):
    """It mounts for everybody, saves, tells callers apart, raises events, and ends."""
    text = (installed / "lib/systemd/system/imagestreamfs@.service").read_text()
    words = re.search(r"^CapabilityBoundingSet=(.*)$", text, re.M)[1].lower().replace("cap_", "+")
    some = ",".join(["-all", *words.split()])
    prefix = ["setpriv", "--no-new-privs", "--bounding-set", some, "--inh-caps", some]
    mount = start_mount(server, "-o", "allow_other,auto_unmount", prefix=prefix)
    with open(f"/proc/{mount.process.pid}/status") as f:
        assert bin(int(re.search(r"^CapEff:\s*(\S+)$", f.read(), re.M)[1], 16)).count("1") == \
            len(words.split())
    document = json.loads((mount / "shop/web/metadata.json").read_text())
    document["labels"] = {"saved": "yes"}
    (mount / "shop/web/metadata.json").write_text(json.dumps(document))
    assert server.get("shop", "web")["metadata"]["labels"] == {"saved": "yes"}
    assert mount.status()["callers"]["told"]
    wait_for(lambda: mount.status()["events"]["state"] == "announced", SECONDS, "the announcer")
    seen = subprocess.run(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "ls",
                           mount / "shop"], capture_output=True, text=True, check=False)
    assert mount.directory.stat().st_mode & 0o077 == 0 or "web" in seen.stdout
