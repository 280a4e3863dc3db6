"""Reads that few programs do, and copies by the more particular ones."""

import errno
import mmap
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest
from test_contents import model, walk
from test_tools import run

PARTS = ["shop/web/imagestream.json", "openshift/nodejs/imagestream.json",
         "shop/web/tags/latest/image"]
LARGE = "big/big-stream/imagestream.json"


@pytest.fixture
def expected(server):
    return model(server)


@pytest.fixture
def place(directory):
    """Room for copies; those may have inherited write protection."""
    path = pathlib.Path(tempfile.mkdtemp(dir=directory))
    yield path
    subprocess.run(["chmod", "-R", "u+w", path], check=True)
    shutil.rmtree(path)


def check_reads(path, content):
    """At and around every border, past the end too."""
    end = len(content)
    with open(path, "rb", buffering=0) as file:
        fd = file.fileno()
        for offset in (0, 1, 511, 4095, 4096, 4097, 65537, 131071, end - 1, end, end + 1, 1 << 40):
            for size in (1, 13, 4096, 4097, 131073, 1 << 21):
                assert os.pread(fd, size, offset) == content[offset:offset + size]
        buffer = bytearray(33)
        file.seek(5)
        assert file.readinto(buffer) == min(33, end - 5)
        assert buffer[:end - 5] == content[5:38]
        assert file.seek(0, os.SEEK_END) == end and file.read() == b""
        assert file.seek(-2, os.SEEK_END) == end - 2 and file.read() == content[-2:]
        assert os.lseek(fd, 0, os.SEEK_DATA) == 0 and os.lseek(fd, 0, os.SEEK_HOLE) == end
        parts = [bytearray(11), bytearray(3), bytearray(1 << 16)]
        read = os.preadv(fd, parts, 2)
        assert b"".join(parts)[:read] == content[2:2 + 14 + (1 << 16)]
    for size in (512, 4096, 1 << 20):
        assert run("dd", f"if={path}", f"bs={size}", "iflag=direct", "status=none") == content
    assert run("tail", "-c", "+3", path) == content[2:]
    assert run("tac", path) == b"".join(reversed(content.splitlines(True)))


def test_reads_at_odd_places(mount, expected):
    for path in PARTS:
        check_reads(mount / path, expected[path])


def test_mmap(mount, expected):
    for path in PARTS:
        for access in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
            with open(mount / path, "rb") as file, \
                    mmap.mmap(file.fileno(), 0, access, mmap.PROT_READ) as mapped:
                assert mapped[:] == expected[path]


def test_large_file(start_server, start_mount):
    """More than 64 KiB: past the page cache, so that one reader sees one version."""
    server = start_server("--big-stream", 1500000)
    mount = start_mount(server)
    content = model(server)[LARGE]
    assert len(content) > 1500000
    check_reads(mount / LARGE, content)
    with open(mount / LARGE, "rb") as file:
        with mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped:
            assert mapped[:] == content
        with pytest.raises(OSError) as why:
            mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
        assert why.value.errno == errno.ENODEV


def test_sendfile_and_copy2(mount, place, expected):
    for path in PARTS:
        content = expected[path]
        with open(mount / path, "rb") as source, open(place / "copy", "wb+") as target:
            sent = os.sendfile(target.fileno(), source.fileno(), 0, len(content) + 99)
            assert sent == len(content)
            assert target.seek(0) == 0 and target.read() == content
        shutil.copy2(mount / path, place / "copy2")
        assert (place / "copy2").read_bytes() == content
        assert os.stat(place / "copy2").st_mtime_ns == os.stat(mount / path).st_mtime_ns
        (place / "copy2").unlink()


@pytest.mark.parametrize("command", [
    'rsync -a --inplace --checksum "$1/" "$2/"', 'cp -a "$1/." "$2/"',
    'cp -r --sparse=always --reflink=auto "$1/." "$2/"',
    '/usr/bin/python3 -c "import shutil, sys; shutil.copytree(*sys.argv[1:])" "$1" "$2/copy"'])
def test_copies(mount, place, expected, command):
    run("bash", "-c", command, "bash", mount.path, place)
    copy = place / "copy" if "copytree" in command else place
    assert walk(copy) == expected
    for path in PARTS if "cp -r" not in command else ():
        assert os.stat(copy / path).st_mtime_ns == os.stat(mount / path).st_mtime_ns


@pytest.mark.alone  # all caches of the machine are dropped
def test_a_second_copy_finds_nothing_new(mount, place):
    run("rsync", "-a", f"{mount.path}/", place / "rsync")
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("2")
    assert run("rsync", "-aic", f"{mount.path}/", place / "rsync") == b""
    assert run("diff", "-r", mount.path, place / "rsync") == b""
    tar = ["tar", "-C", mount.path, f"--listed-incremental={place}/list", "--no-check-device",
           "-cf"]
    run(*tar, place / "full.tar", ".")
    run(*tar, place / "more.tar", ".")
    names = run("tar", "-tf", place / "more.tar").decode().splitlines()
    assert [name for name in names if not name.endswith("/")] == []


def test_jq_prints_the_same(mount, expected):
    """The files are in the form in which jq prints by itself."""
    for path in ("shop/web/spec.json", "openshift/nodejs/status.json"):
        assert run("jq", ".", mount / path) == expected[path]


def test_many_readers_at_once(mount, expected):
    readers = [subprocess.Popen(["tar", "-C", mount.path, "-cf", "-", "."], stdout=subprocess.PIPE)
               for _ in range(2)]
    readers += [subprocess.Popen(["sh", "-c", "find . -type f -exec cat {} + | wc -c"],
                                 cwd=mount.path, stdout=subprocess.PIPE) for _ in range(2)]
    output = [reader.communicate(timeout=60)[0] for reader in readers]
    assert [reader.returncode for reader in readers] == [0] * 4
    total = sum(map(len, expected.values()))
    assert [int(count) for count in output[2:]] == [total, total]
    assert output[0] == output[1]
