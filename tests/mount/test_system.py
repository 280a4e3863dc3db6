"""As a part of the system: mount(8), fstab, systemd, ends that nobody wanted, starts without a network."""

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
