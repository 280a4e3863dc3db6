"""As a part of the system: mount(8), fstab, systemd, ends that nobody wanted, starts without a network."""

import contextlib
import ctypes
import errno
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile

import pytest

import conftest
from stopwatch import at_most
from conftest import is_mounted, unmount, wait_for

TYPE = "fuse." + conftest.PROGRAM  # mount.fuse3 takes a path, too
GENERATOR = "/usr/lib/systemd/system-generators/systemd-fstab-generator"
MNT_FORCE = 1
NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
FSTAB_OPTIONS = "_netdev,noauto,nofail,x-systemd.automount,x-systemd.idle-timeout=60"


@pytest.fixture
def mountpoint(directory):
    path = pathlib.Path(tempfile.mkdtemp(dir=directory)) / "mnt"
    path.mkdir()
    path.parent.chmod(0o755)
    yield path
    subprocess.run(["umount", "-l", path], check=False, capture_output=True)


# ---- mount(8) ----

@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts so")
def test_mount_command(server, mountpoint):
    subprocess.run(["mount", "-t", TYPE, "admin", mountpoint, "-o",
                    f"kubeconfig={server.kubeconfig},allow_other"], check=True)
    assert "shop" in os.listdir(mountpoint)
    seen = subprocess.run(["findmnt", "-n", "-o", "FSTYPE,OPTIONS", mountpoint], check=True,
                          capture_output=True, text=True).stdout
    assert seen.startswith("fuse.imagestreamfs ") and "allow_other" in seen
    other = subprocess.run([*NOBODY, "ls", mountpoint / "shop"], capture_output=True, text=True, check=False)
    assert "web" in other.stdout
    unmount(mountpoint)
    assert not is_mounted(mountpoint)


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts so")
@pytest.mark.parametrize("more", ["defaults", "ro", "noexec,nosuid,nodev", "read-only,as=developer"])
def test_fstab(server, mountpoint, more):
    fstab = mountpoint.parent / "fstab"
    fstab.write_text(f"developer {mountpoint} {TYPE} kubeconfig={server.kubeconfig},"
                     f"{FSTAB_OPTIONS},{more} 0 0\n")
    command = ["mount", "-T", fstab, mountpoint]
    if "as=" in more:
        server.control("POST", "grant", {"user": "developer", "role": "cluster-admin"})
    subprocess.run(command, check=True)
    assert "dev" in os.listdir(mountpoint)
    if "ro" in more.split(",") or "read-only" in more:
        with pytest.raises(OSError) as error:
            os.mkdir(mountpoint / "dev/new")
        assert error.value.errno == errno.EROFS
    else:
        os.mkdir(mountpoint / "dev/new")
    server.create("dev", "appears")  # a change is announced whatever the options say
    wait_for((mountpoint / "dev/appears").is_dir, 10, "the change")
    unmount(mountpoint)


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts so")
def test_mount_command_fails(server, mountpoint):
    done = subprocess.run(["mount", "-t", TYPE, "nowhere", mountpoint, "-o",
                           f"kubeconfig={server.kubeconfig}"], capture_output=True, text=True,
                          check=False)
    assert done.returncode != 0 and 'no context "nowhere"' in done.stderr
    assert not is_mounted(mountpoint)


# ---- a device that somebody else has mounted ----

def program_at(word):
    """The process that serves it, as its command line says."""
    return int(subprocess.run(["pgrep", "-f", f"{conftest.PROGRAM} .*{word}"], check=True,
                              capture_output=True, text=True).stdout.split()[0])


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts so")
@pytest.mark.parametrize("end", ["umount", "TERM"])
def test_drop_privileges(server, mountpoint, end):
    """mount.fuse3 mounts, and the program has no right left: all but unmounting works."""
    place = server.kubeconfig
    subprocess.run(["mount", "-t", TYPE, "admin", mountpoint, "-o",
                    f"kubeconfig={place},drop_privileges,allow_other"], check=True)
    pid = program_at(f"/dev/fd/.*{place}")
    status = dict(line.split(":\t") for line in
                  pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {0}
    assert "web" in os.listdir(mountpoint / "shop")
    labels = json.loads((mountpoint / "shop/web/metadata.json").read_text())
    labels["labels"]["saved"] = "yes"
    (mountpoint / "shop/web/metadata.json").write_text(json.dumps(labels))
    assert server.get("shop", "web")["metadata"]["labels"]["saved"] == "yes"
    wait_for(lambda: json.loads((mountpoint / ".api/status.json").read_text())["events"]["state"] ==
             "announced", 10, "the announcer")
    if end == "umount":
        unmount(mountpoint)
    else:
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not pathlib.Path(f"/proc/{pid}").exists(), 10, "the end")
    assert is_mounted(mountpoint) == (end == "TERM")


@contextlib.contextmanager
def mounted_device(mountpoint):
    """What mount.fuse3 does: the descriptor of a mount that nobody serves yet."""
    fd = os.open("/dev/fuse", os.O_RDWR)
    os.set_inheritable(fd, True)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0"
    assert libc.mount(b"test", bytes(mountpoint), b"fuse.test", 0, options.encode()) == 0
    try:
        yield fd
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts so")
def test_a_device_of_somebody_else(server, mountpoint):
    """With the right to it, it is unmounted at the end."""
    with mounted_device(mountpoint) as fd:
        done = subprocess.run([conftest.PROGRAM, "--kubeconfig", server.kubeconfig, f"/dev/fd/{fd}"],
                              check=False, capture_output=True, text=True, pass_fds=[fd],
                              stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, "")
    assert "web" in os.listdir(mountpoint / "shop")
    os.kill(program_at(f"{server.kubeconfig} /dev/fd/"), signal.SIGTERM)
    wait_for(lambda: not is_mounted(mountpoint), 10, "the end of the mount")


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts so")
def test_a_device_and_a_start_that_fails(server, mountpoint):
    server.stop()
    with mounted_device(mountpoint) as fd:
        child = subprocess.Popen([conftest.PROGRAM, "--kubeconfig", server.kubeconfig, f"/dev/fd/{fd}"],
                                 stderr=subprocess.PIPE, text=True, pass_fds=[fd])
    assert "Failed to connect" in child.communicate(timeout=60)[1] and child.returncode == 4
    assert not is_mounted(mountpoint)


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts so")
@pytest.mark.parametrize("where", [["-f"], []], ids=["foreground", "background"])
def test_an_init_that_fails(server, mountpoint, where):
    """The kernel gives the connection up before it is answered: no mount, and that isn't 0."""
    server.fault(path="/imagestreams", hang=True, count=100)
    with mounted_device(mountpoint) as fd:
        child = subprocess.Popen([conftest.PROGRAM, *where, "--kubeconfig", server.kubeconfig,
                                  "--request-timeout=5m", f"/dev/fd/{fd}"], stdin=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, text=True, pass_fds=[fd])
    try:
        wait_for(lambda: any("imagestreams" in name for name in server.counts()), 60, "the list")
        assert ctypes.CDLL(None).umount2(bytes(mountpoint), MNT_FORCE) == 0
        server.control("DELETE", "faults")
        said = child.communicate(timeout=60)[1].splitlines()
    finally:
        child.kill()
    assert child.returncode == 1 and len(said) == 1, said
    assert "the kernel gave the mount up before it was ready" in said[0]


# umount(8) would look at it first, and nobody answers yet.
WITHOUT_THE_MOUNT = """
import ctypes, os, sys
MNT_DETACH = 2
assert ctypes.CDLL(None).umount2(sys.argv[1].encode(), MNT_DETACH) == 0
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts so")
def test_a_device_that_is_mounted_elsewhere(server, mountpoint):
    """In a mount namespace where its mount isn't: it works, without events, and says so."""
    with mounted_device(mountpoint) as fd:
        child = subprocess.Popen(
            ["unshare", "-m", "/usr/bin/python3", "-c", WITHOUT_THE_MOUNT, mountpoint,
             conftest.PROGRAM, "-f", "--kubeconfig", server.kubeconfig, f"/dev/fd/{fd}"],
            stderr=subprocess.PIPE, text=True, pass_fds=[fd])
    try:
        assert "web" in os.listdir(mountpoint / "shop")
        server.create("dev", "appears")
        wait_for((mountpoint / "dev/appears").is_dir, 10, "the change")
        child.send_signal(signal.SIGTERM)
        said = child.communicate(timeout=60)[1].splitlines()
    finally:
        child.kill()
    assert child.returncode == 0 and len(said) == 1, said
    assert "where it is mounted isn't known here: changes raise no inotify events" in said[0]


@pytest.mark.skipif(not os.path.exists(GENERATOR), reason="no systemd here")
def test_systemd_reads_the_fstab(tmp_path):
    """The README's line gives an automount, and a mount that waits for the network."""
    for name in ("normal", "early", "late"):
        (tmp_path / name).mkdir()
    line = next(line for line in (conftest.TOP / "README.md").read_text().splitlines()
                if "x-systemd.automount" in line and "fuse.imagestreamfs" in line)
    (tmp_path / "fstab").write_text(line.strip() + "\n")
    subprocess.run([GENERATOR, tmp_path / "normal", tmp_path / "early", tmp_path / "late"],
                   check=True, env={"SYSTEMD_FSTAB": str(tmp_path / "fstab")})
    automount, = (tmp_path / "normal").glob("*.automount")
    mount, = (tmp_path / "normal").glob("*.mount")
    where = line.split()[1]
    assert f"Where={where}\n" in automount.read_text()
    assert "Type=fuse.imagestreamfs\n" in mount.read_text()
    assert (tmp_path / "normal/remote-fs.target.requires" / automount.name).exists()


# ---- systemd ----


def test_user_unit(installed):
    unit = installed / "lib/systemd/user/imagestreamfs.service"
    start = next(line for line in unit.read_text().splitlines() if line.startswith("ExecStart="))
    program = start.removeprefix("ExecStart=").split()[0]
    assert os.access(program.replace("/usr/local", str(installed), 1), os.X_OK)


# ---- an ordinary user ----


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes somebody else")
def test_an_ordinary_user(server, mountpoint):
    """By fusermount3, from a kubeconfig that nobody else can read, to the end; root isn't let in."""
    home = mountpoint.parent
    (home / ".kube").mkdir()
    shutil.copy(server.kubeconfig, home / ".kube/config")
    (home / ".kube/config").chmod(0o600)
    for path in (home, home / ".kube", home / ".kube/config", mountpoint):
        shutil.chown(path, "nobody", "nogroup")

    def run(*command, **options):
        return subprocess.run([*NOBODY, *command], check=True, text=True, capture_output=True,
                              env={"PATH": os.environ["PATH"], "HOME": str(home)}, **options).stdout

    for _ in range(2):
        assert run(conftest.PROGRAM, mountpoint) == ""
        assert "web" in run("ls", mountpoint / "shop")
        spec = json.loads(run("cat", mountpoint / "shop/web/metadata.json"))
        spec.setdefault("labels", {})["saved"] = "yes"
        run("tee", mountpoint / "shop/web/metadata.json", input=json.dumps(spec))
        assert server.get("shop", "web")["metadata"]["labels"]["saved"] == "yes"
        with pytest.raises(PermissionError):
            os.listdir(mountpoint)
        # The save's own announcements may still be in there.
        wait_for(lambda: subprocess.run([*NOBODY, "fusermount3", "-u", mountpoint], check=False,
                                        capture_output=True).returncode == 0, 10, "the end")
        assert not is_mounted(mountpoint)
        server.label("shop", "web", saved="no")


# ---- the end ----

FAULTS = [signal.SIGABRT, signal.SIGTRAP, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL,
          signal.SIGFPE]


@pytest.mark.parametrize("sig", FAULTS)
def test_a_fault_ends_it(server, mountpoint, sig):
    """And the mount goes, where that was asked for, also one that the kernel has cached."""
    with subprocess.Popen([conftest.PROGRAM, "-f", "--kubeconfig", server.kubeconfig, "-o",
                           "auto_unmount", mountpoint], stderr=subprocess.DEVNULL) as process:
        try:
            conftest.wait_until_mounted(mountpoint, process)
            assert "shop" in os.listdir(mountpoint)
            process.send_signal(sig)
            assert process.wait(60) in (-sig, 1)  # 1: a sanitizer that has handled it
        finally:
            process.kill()
    wait_for(lambda: not is_mounted(mountpoint), 10, "the end of the mount")


def test_auto_unmount_after_kill(server, mountpoint):
    subprocess.run([conftest.PROGRAM, "--kubeconfig", server.kubeconfig, "-o", "auto_unmount",
                    mountpoint], check=True)
    pid = int(subprocess.run(["pgrep", "-f", f"{conftest.PROGRAM}.*{mountpoint}"], check=True,
                             capture_output=True, text=True).stdout.split()[0])
    assert "shop" in os.listdir(mountpoint)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_mounted(mountpoint), 10, "the end of the mount")


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes somebody else")
def test_auto_unmount_of_an_ordinary_user(server, mountpoint):
    for path in (server.kubeconfig, server.kubeconfig.parent):
        path.chmod(0o755)
    shutil.chown(mountpoint, "nobody")
    with subprocess.Popen([*NOBODY, conftest.PROGRAM, "-f", "--kubeconfig", server.kubeconfig, "-o",
                           "auto_unmount", mountpoint]) as process:
        conftest.wait_until_mounted(mountpoint, process)
        process.kill()
    wait_for(lambda: not is_mounted(mountpoint), 10, "the end of the mount")


def test_auto_unmount_ends_as_ever(server, start_mount):
    mount = start_mount(server, "-o", "auto_unmount")
    assert "shop" in os.listdir(mount.path)


# ---- the network is away ----

def gives_up(command, seconds, *sentences):
    with at_most(seconds):
        done = subprocess.run(command, capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL)
    assert done.returncode == 4, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert any(one in done.stderr for one in sentences), done.stderr


def start(mountpoint, *arguments):
    return [conftest.PROGRAM, "--request-timeout", "2s", "--token", "t",
            "--insecure-skip-tls-verify", *arguments, mountpoint]


def test_start_without_an_answer(mountpoint):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        gives_up(start(mountpoint, "--server", "https://127.0.0.1:%d" % silent.getsockname()[1]),
                 8, "deadline")
    assert not is_mounted(mountpoint)


@pytest.mark.skipif(os.getuid() != 0, reason="only root takes the network away")
@pytest.mark.parametrize("host", ["192.0.2.1", "api.example"])
def test_start_without_a_network(mountpoint, host):
    gives_up(["unshare", "-n", *start(mountpoint, "--server", f"https://{host}:6443")], 8,
             "connect to", "resolve host")


# Runs with a network and a mount table of its own: a name server that never answers.
SILENT_NAME_SERVER = """
import socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
open(sys.argv[1], "w").write("nameserver 127.0.0.1\\noptions timeout:30 attempts:5\\n")
subprocess.run(["mount", "--bind", sys.argv[1], "/etc/resolv.conf"], check=True)
silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.0.0.1", 53))
sys.exit(subprocess.run(sys.argv[2:]).returncode)
"""


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("ip"), reason="only root, and with ip")
def test_start_with_a_silent_name_server(mountpoint):
    gives_up(["unshare", "-n", "-m", "/usr/bin/python3", "-c", SILENT_NAME_SERVER,
              mountpoint.parent / "resolv.conf",
              *start(mountpoint, "--server", "https://api.example:6443")], 8, "deadline")
