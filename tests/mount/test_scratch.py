"""Files beside the real ones: scratch; and real names that are renamed, unlinked and made anew."""

import contextlib
import ctypes
import errno
import json
import os
import shutil
import stat
import subprocess
import time

import pytest
from conftest import wait_for
from test_save import (LIMIT, STRATEGIC, Stream, drafted, fails, image, modes, names, rejected,
                       replace, rig, save, shown, stream, text, without)

__all__ = ["rig", "stream"]  # fixtures
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
NEW_RDWR = os.O_RDWR | os.O_CREAT | os.O_EXCL
TOTAL = 64 << 20
HIDDEN = 2  # seconds
REAL = {"imagestream.json", "imagestream.yaml", "metadata.json", "spec.json", "status.json", "tags"}
LIBC = ctypes.CDLL(None, use_errno=True)
NOREPLACE, EXCHANGE = 1, 2
PLACES = [".", "tags/v1", "tags/pushed"]


def rename(old, new, flags):
    """renameat2(2), which Python doesn't have."""
    if LIBC.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def others(path):
    """The names that aren't real ones, in the mount's own listing."""
    return names(path) - REAL


# Scratch.


@pytest.mark.parametrize("place", PLACES)
def test_ordinary_file(stream, place):
    path = stream / place / ".spec.json.swp"
    before = time.time_ns()
    fd = os.open(path, NEW_RDWR, 0o640)
    assert os.write(fd, b"hello, ") == 7 and os.write(fd, b"world") == 5
    assert os.pwrite(fd, b"H", 0) == 1
    os.fsync(fd)
    os.close(fd)
    st = os.stat(path)
    assert (st.st_size, st.st_nlink) == (12, 1)
    assert stat.S_IMODE(st.st_mode) == 0o640 and stat.S_ISREG(st.st_mode)
    assert (st.st_uid, st.st_gid) == (os.geteuid(), os.getegid())
    assert before - 10**9 < st.st_mtime_ns < time.time_ns() + 10**9
    assert path.read_bytes() == b"Hello, world"
    with fails(errno.EEXIST):
        os.open(path, NEW)
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    os.write(fd, b"!")
    assert os.pread(fd, 100, 0) == b"Hello, world!"
    os.ftruncate(fd, 5)
    os.ftruncate(fd, 8)
    assert os.pread(fd, 100, 0) == b"Hello\0\0\0" and os.fstat(fd).st_size == 8
    os.pwrite(fd, b"x", 0)  # O_APPEND wins
    os.close(fd)
    assert path.read_bytes() == b"Hello\0\0\0x"
    os.truncate(path, 3)
    assert path.read_bytes() == b"Hel"
    save(path, "")
    assert os.stat(path).st_size == 0
    assert path.name in names(path.parent)
    os.unlink(path)
    assert path.name not in names(path.parent) and not path.exists()
    assert stream.sent() == []


def test_attributes_can_be_set(stream):
    path = stream / "scratch"
    save(path, "x", NEW)
    os.chmod(path, 0o4751)
    os.utime(path, ns=(1_000_000_001, 2_000_000_002))
    st = os.stat(path)
    assert stat.S_IMODE(st.st_mode) == 0o4751
    assert (st.st_atime_ns, st.st_mtime_ns) == (1_000_000_001, 2_000_000_002)
    os.utime(path)
    assert abs(os.stat(path).st_mtime - time.time()) < 5
    if os.geteuid() == 0:
        os.chown(path, 65534, 65533)
        assert (os.stat(path).st_uid, os.stat(path).st_gid) == (65534, 65533)
    os.utime(path, (1, 1))
    save(path, "longer")
    assert os.stat(path).st_mtime > 1 and os.stat(path).st_size == 6


def test_directories_and_symlinks(stream):
    top = stream / "work"
    links, moved = os.stat(stream.path).st_nlink, os.stat(stream.path).st_mtime_ns
    os.mkdir(top, 0o750)
    assert os.stat(stream.path).st_nlink == links + 1
    assert os.stat(stream.path).st_mtime_ns > moved
    assert stat.S_IMODE(os.stat(top).st_mode) == 0o750
    os.makedirs(top / "a/b")
    save(top / "a/b/file", "deep", NEW)
    assert os.stat(top / "a").st_nlink == 3 and names(top / "a") == {"b"}
    os.symlink("a/b/file", top / "link")
    os.symlink("nowhere", stream / ".#spec.json")  # the lock of emacs
    assert os.readlink(top / "link") == "a/b/file" and (top / "link").read_text() == "deep"
    assert os.readlink(stream / ".#spec.json") == "nowhere"
    assert stat.S_ISLNK(os.lstat(top / "link").st_mode)
    assert os.lstat(top / "link").st_size == len("a/b/file")
    with fails(errno.ENOTEMPTY):
        os.rmdir(top / "a")
    with fails(errno.EISDIR, errno.EPERM):
        os.unlink(top / "a")
    with fails(errno.ENOTDIR):
        os.rmdir(top / "link")
    os.rename(top / "a", stream / "tags/v1/moved")
    assert (stream / "tags/v1/moved/b/file").read_text() == "deep"
    kinds = {entry.name: (entry.is_dir(follow_symlinks=False), entry.is_symlink())
             for entry in os.scandir(top)}
    assert kinds == {"link": (False, True)}
    shutil.rmtree(top)
    shutil.rmtree(stream / "tags/v1/moved")
    assert others(stream.path) == {".#spec.json"}
    assert os.stat(stream.path).st_nlink == links
    assert stream.sent() == []


@pytest.mark.alone  # all caches of the machine are dropped
def test_scratch_has_one_inode_and_stays(stream):
    path = stream / "kept"
    save(path, "kept", NEW)
    inode = os.stat(path).st_ino
    stream.change({"metadata": {"labels": {"theirs": "yes"}}})
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("2")
    assert os.stat(path).st_ino == inode and path.read_text() == "kept"
    assert "kept" in names(stream.path)
    os.rename(path, stream / "tags/v1/elsewhere")
    assert os.stat(stream / "tags/v1/elsewhere").st_ino == inode


def test_unlinked_while_open(stream):
    fd = os.open(stream / "gone", NEW_RDWR)
    os.write(fd, b"still")
    os.unlink(stream / "gone")
    os.write(fd, b" here")
    assert os.pread(fd, 100, 0) == b"still here"
    assert (os.fstat(fd).st_nlink, os.fstat(fd).st_size) == (0, 10)
    save(stream / "gone", "another", NEW)
    assert os.pread(fd, 100, 0) == b"still here"
    os.close(fd)
    assert (stream / "gone").read_text() == "another"


def test_scratch_renames(stream):
    one, two = stream / "one", stream / "two"
    save(one, "1", NEW)
    save(two, "2", NEW)
    with fails(errno.EEXIST):
        rename(one, two, NOREPLACE)
    os.rename(one, two)
    assert two.read_text() == "1" and not one.exists()
    rename(two, one, NOREPLACE)
    assert one.read_text() == "1" and not two.exists()
    os.mkdir(two)
    with fails(errno.EISDIR):
        os.rename(one, two)
    with fails(errno.ENOTDIR):
        os.rename(two, one)
    os.rmdir(two)
    assert others(stream.path) == {"one"}


def test_what_the_api_has_not(stream):
    save(stream / "scratch", "x", NEW)
    for name in ("scratch", "spec.json"):
        with fails(errno.EPERM):
            os.link(stream / name, stream / "linked")
        with fails(errno.EINVAL):
            rename(stream / name, stream / "status.json", EXCHANGE)
    with fails(errno.EINVAL):
        rename(stream / "spec.json", stream / "scratch", EXCHANGE)
    assert stream.sent() == []


def test_where_nothing_can_be_made(rig, stream):
    space, tags = stream.path.parent, stream / "tags"
    for place in (rig.mount.path, space, tags):
        with fails(errno.EPERM):
            os.open(place / "file", NEW)
        with fails(errno.EPERM):
            os.symlink("x", place / "link")
    save(stream / "mine", "x", NEW)
    for place in (space, tags):
        with fails(errno.EPERM):
            os.rename(stream / "mine", place / "mine")
    with fails(errno.EPERM):
        os.mkfifo(stream / "fifo")
    assert others(stream.path) == {"mine"} and stream.sent() == []


def test_long_and_odd_names(stream):
    for name in ("x" * 255, "4913", "#spec.json#", "spec.json~", "with space", "ümlaut", "a:b@c",
                 "new\nline", "%41"):
        save(stream / name, name, NEW)
        assert (stream / name).read_text() == name and name in names(stream.path)
        os.unlink(stream / name)
    with fails(errno.ENAMETOOLONG):
        os.open(stream / ("x" * 256), NEW)


def test_listing_while_scratch_comes_and_goes(stream):
    stay = {f"stay-{number:03}" for number in range(300)}
    for name in stay:
        save(stream / name, "", NEW)
    seen = []
    for entry in os.scandir(stream.path):  # several getdents64
        seen.append(entry.name)
        if len(seen) == 50:
            for number in range(50):
                save(stream / f"come-{number}", "", NEW)
        if len(seen) == 100:
            for number in range(50):
                os.unlink(stream / f"come-{number}")
    assert len(seen) == len(set(seen)) and stay | REAL <= set(seen)
    for name in stay:
        os.unlink(stream / name)


@pytest.fixture
def tidy(stream):
    """For a test that fills the scratch space, which is everybody's."""
    yield
    for name in others(stream.path):
        os.unlink(stream / name)


def room(mount):
    now = os.statvfs(mount)
    assert now.f_blocks * now.f_frsize == TOTAL and now.f_bfree >= now.f_bavail
    return now.f_bavail * now.f_frsize


def test_limits(rig, stream, tidy):
    free, chunk = room(rig.mount.path), bytes(LIMIT)
    assert free <= TOTAL
    with contextlib.ExitStack() as files:
        first = files.enter_context(open(stream / "0", "xb", buffering=0))
        first.write(chunk)
        for call in (lambda: first.write(b"x"), lambda: os.ftruncate(first.fileno(), LIMIT + 1),
                     lambda: os.pwrite(first.fileno(), b"x", 1 << 40)):
            with fails(errno.EFBIG):
                call()
        assert abs(free - LIMIT - room(stream.path)) <= 65536
        with fails(errno.ENOSPC):
            for number in range(1, TOTAL // LIMIT + 1):
                one = files.enter_context(open(stream / str(number), "xb", buffering=0))
                while one.tell() < LIMIT:  # where room ends, less is written
                    assert one.write(chunk[one.tell():]) > 0
        assert room(stream.path) < LIMIT
        # Where there is no room what is refused still isn't lost.
        with fails(errno.EINVAL):
            save(stream / "spec.json", "{")
        assert rejected(stream / "spec.json")[0].read_text() == "{"
    assert (stream / "0").read_bytes() == chunk
    for name in others(stream.path):
        os.unlink(stream / name)
    wait_for(lambda: room(rig.mount.path) >= free, 5, "the room")  # a close ends a moment later
    assert stream.sent() == []


def test_directory_at_the_name_of_a_refused_text(stream):
    """It makes room, and what is in it has no name any more."""
    kept = stream / "spec.json.rejected"
    kept.mkdir()
    (kept / "deep").mkdir()
    fds = [os.open(kept / name, os.O_CREAT | os.O_RDWR) for name in ("one", "deep/two")]
    with fails(errno.EINVAL):
        save(stream / "spec.json", "{")
    assert kept.read_text() == "{"
    assert [os.fstat(fd).st_nlink for fd in fds] == [0, 0]
    for fd in fds:
        os.close(fd)


def test_gone_with_the_mount(rig, start_mount):
    name = next(rig.names)
    for _ in range(2):
        mount = start_mount(rig.server)
        stream = Stream(rig.server, mount, name)
        assert others(stream.path) == set()
        save(stream / "scratch", "x", NEW)
        os.mkdir(stream / "tags/v1/directory")
        assert mount.stop() < 2


def test_directories_can_be_synced(stream):
    for place in (".", "tags", "tags/v1", ".."):
        fd = os.open(stream / place, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(fd)
        os.close(fd)


def test_scratch_of_a_deleted_stream(stream):
    save(stream / "scratch", "x", NEW)
    fd = os.open(stream / "scratch", os.O_RDWR)
    stream.server.delete(stream.namespace, stream.name)
    wait_for(lambda: not (stream / "scratch").exists(), 5, "its end")
    assert os.pread(fd, 10, 0) == b"x"
    wait_for(lambda: os.fstat(fd).st_nlink == 0, 5, "what fstat says")
    os.close(fd)


# A tag's spec.json that isn't there yet.


def test_spec_of_a_pushed_tag(stream):
    """In status alone: creating its spec.json adds the tag."""
    path = stream / "tags/pushed/spec.json"
    assert not path.exists()
    save(path, text({"from": image("pushed:1")}), NEW)
    (request,) = stream.sent()
    assert request["method"] == "PATCH"
    assert stream.tags()["pushed"]["from"] == image("pushed:1")
    assert set(stream.tags()) == {"latest", "pushed", "v1", "v2"}
    stream.holds("tags/pushed/spec.json", stream.value("tags/pushed/spec.json"))
    assert len(stream.history()["pushed"]) == 2


def test_spec_of_a_pushed_tag_by_rename(stream):
    path = stream / "tags/pushed/spec.json"
    replace(path, text({"name": "pushed", "annotations": {"x": "y"}}))
    assert stream.tags()["pushed"]["annotations"] == {"x": "y"}
    stream.holds("tags/pushed/spec.json", stream.value("tags/pushed/spec.json"))
    assert names(path.parent) == {"image", "spec.json", "status.json"}  # it follows nothing


def test_never_saved_it_vanishes(stream):
    path = stream / "tags/pushed/spec.json"
    begin = time.monotonic()
    os.close(os.open(path, NEW))
    assert path.exists() and path.read_text() == ""
    assert "spec.json" in names(path.parent)
    wait_for(lambda: not path.exists(), HIDDEN + 3, "its end")
    assert time.monotonic() - begin > HIDDEN - 0.5
    wait_for(lambda: names(path.parent) == {"image", "status.json"}, 1, "the listing")
    assert stream.sent() == [] and "pushed" not in stream.tags()


def test_while_open_it_stays(stream):
    path = stream / "tags/pushed/spec.json"
    fd = os.open(path, NEW)
    time.sleep(HIDDEN + 1)  # nothing happens: there is nothing to wait for
    assert path.exists()
    os.write(fd, text({"from": image("pushed:1")}).encode())
    os.close(fd)
    assert stream.tags()["pushed"]["from"] == image("pushed:1")
    stream.holds("tags/pushed/spec.json", stream.value("tags/pushed/spec.json"))


def test_refused_it_is_kept(stream):
    path = stream / "tags/pushed/spec.json"
    with fails(errno.EINVAL):
        save(path, '{"from":', NEW)
    assert rejected(path)[0].read_text() == '{"from":'
    wait_for(lambda: not path.exists(), HIDDEN + 3, "its end")
    save(path, text({"from": image("pushed:1")}), NEW)
    assert stream.tags()["pushed"]["from"] == image("pushed:1")
    assert not any(one.exists() for one in rejected(path))


def test_added_by_somebody_else_meanwhile(stream):
    path = stream / "tags/pushed/spec.json"
    fd = drafted(path, text({"from": image("mine:1")}), NEW)
    stream.change({"spec": {"tags": [{"name": "pushed", "from": image("theirs:1")}]}},
                  STRATEGIC)
    with fails(errno.ESTALE):
        os.close(fd)
    assert stream.tags()["pushed"]["from"] == image("theirs:1")


# Real names renamed, unlinked and made anew.

FILES = ["imagestream.json", "metadata.json", "spec.json", "tags/v1/spec.json"]


def edited(stream, name):
    value = stream.value(name)
    if name == "spec.json":
        value["lookupPolicy"]["local"] = True
    else:
        place = value["metadata"] if name == "imagestream.json" else value
        place["annotations"]["edited"] = "yes"
    return value


@pytest.mark.parametrize("name", FILES)
def test_renamed_away_and_created(stream, name):
    """vim with backupcopy=no, helix, emacs, sed -i.bak."""
    path, value = stream / name, edited(stream, name)
    before, content = os.stat(path), path.read_text()
    backup = path.with_name(path.name + "~")
    os.rename(path, backup)
    assert not path.exists() and path.name not in names(path.parent)
    assert backup.read_text() == content and backup.name in names(path.parent)
    assert os.stat(backup).st_ino == before.st_ino
    assert stream.sent() == []
    save(path, text(value), NEW)
    assert len(stream.sent()) == 1
    stream.holds(name, value)
    assert backup.read_text() == content
    assert os.stat(path).st_ino != before.st_ino
    os.unlink(backup)
    assert stream.sent()[1:] == []


@pytest.mark.parametrize("name", FILES)
def test_unlinked_and_created(stream, name):
    """install, git checkout, cp --remove-destination, tar x."""
    path, value = stream / name, edited(stream, name)
    inode = os.stat(path).st_ino
    os.unlink(path)
    assert not path.exists() and path.name not in names(path.parent)
    save(path, text(value), NEW)
    assert len(stream.sent()) == 1
    stream.holds(name, value)
    assert os.stat(path).st_ino != inode
    rest = set(stream.tags())
    assert rest == {"latest", "v1", "v2"}


def test_unlinked_and_renamed_onto(stream):
    path, value = stream / "spec.json", edited(stream, "spec.json")
    save(stream / "new", text(value), NEW)
    os.unlink(path)
    os.rename(stream / "new", path)
    assert len(stream.sent()) == 1
    stream.holds("spec.json", value)


@pytest.mark.parametrize("name", FILES)
def test_renamed_back(stream, name):
    path = stream / name
    obj, before, content = stream.get(), os.stat(path), path.read_text()
    os.rename(path, stream / "away")
    os.rename(stream / "away", path)
    assert path.read_text() == content and os.stat(path).st_ino == before.st_ino
    assert others(stream.path) == set()
    stream.is_untouched(obj)


def test_failed_save_of_vim(stream):
    """Renamed away, created, refused, removed, renamed back: as if nothing had been."""
    path, backup = stream / "spec.json", stream / "spec.json~"
    obj, content = stream.get(), path.read_text()
    stream.fault(status=403, count=1)
    os.rename(path, backup)
    fd = drafted(path, text(edited(stream, "spec.json")), NEW)
    with fails(errno.EACCES):
        os.fsync(fd)
    with fails(errno.EACCES):
        os.close(fd)
    os.unlink(path)
    os.rename(backup, path)
    assert path.read_text() == content
    assert len(stream.sent()) == 1 and stream.get() == obj
    assert rejected(path)[0].read_text() == text(edited(stream, "spec.json"))


def test_renamed_back_after_their_change(stream):
    """The bytes of before: nobody wrote them, so they take nothing back."""
    path = stream / "metadata.json"
    os.rename(path, stream / "away")
    stream.change({"metadata": {"labels": {"theirs": "yes"}}})
    os.rename(stream / "away", path)
    assert stream.get()["metadata"]["labels"]["theirs"] == "yes"
    assert stream.sent() == []
    assert path.read_text() == text(stream.value("metadata.json"))


def test_backup_is_a_scratch_copy(stream):
    """Its bytes are its own: changed, and renamed back, it is a save."""
    path, value = stream / "spec.json", edited(stream, "spec.json")
    os.rename(path, stream / "away")
    os.chmod(stream / "away", 0o600)
    assert stat.S_IMODE(os.stat(stream / "away").st_mode) == 0o600
    save(stream / "away", text(value))
    assert stream.sent() == []
    os.rename(stream / "away", path)
    assert len(stream.sent()) == 1
    stream.holds("spec.json", value)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644


@pytest.mark.parametrize("way", ["unlink", "rename"])
def test_hidden_comes_back(stream, way):
    obj, begin = stream.get(), time.monotonic()
    paths = [stream / name for name in (*FILES, "status.json", "tags/v1/image",
                                        "tags/v1/status.json")]
    inodes = {path: os.stat(path).st_ino for path in paths}
    for path in paths:
        if way == "unlink":
            os.unlink(path)
        else:
            os.rename(path, path.with_name(path.name + ".away"))
        with fails(errno.ENOENT):
            os.stat(path)
        with fails(errno.ENOENT):
            os.open(path, os.O_RDONLY)
    assert {"spec.json", "imagestream.json"}.isdisjoint(names(stream.path))
    wait_for(lambda: all(path.exists() for path in paths), HIDDEN + 3, "what was hidden")
    assert time.monotonic() - begin > HIDDEN - 0.5
    for path, inode in inodes.items():
        assert os.stat(path).st_ino != inode
        assert path.name in names(path.parent)
    stream.is_untouched(obj)
    for name in FILES:
        assert (stream / name).read_text() == text(shown(obj, name))


def test_deleted_while_its_tags_are_hidden(stream):
    """The announcer finds no way there, and yet who has a file open is told."""
    stream.change({"spec": {"tags": []}})
    stream.change({"status": {"tags": []}}, subresource="/status")
    fds = [os.open(stream / name, os.O_RDONLY) for name in ("tags", "spec.json")]
    os.rmdir(stream / "tags")
    stream.server.delete(stream.namespace, stream.name)
    for fd in fds:
        wait_for(lambda fd=fd: os.fstat(fd).st_nlink == 0, 60, "the end of the file")
        os.close(fd)


def test_unlinked_while_somebody_reads(stream):
    path, content = stream / "spec.json", text(stream.value("spec.json"))
    fd = os.open(path, os.O_RDONLY)
    os.unlink(path)
    assert os.pread(fd, LIMIT, 0).decode() == content and os.fstat(fd).st_nlink == 0
    os.close(fd)


def test_draft_of_what_was_renamed_away(stream):
    """A draft belongs to the inode: it is scratch now."""
    path, content = stream / "spec.json", text(edited(stream, "spec.json"))
    obj = stream.get()
    fd = drafted(path, content)
    os.rename(path, stream / "away")
    os.write(fd, b"\n")
    os.close(fd)
    assert (stream / "away").read_text() == content + "\n"
    stream.is_untouched(obj)


def test_draft_of_what_was_unlinked(stream):
    obj = stream.get()
    fd = drafted(stream / "spec.json", text(edited(stream, "spec.json")))
    os.unlink(stream / "spec.json")
    os.write(fd, b"\n")
    os.fsync(fd)
    os.close(fd)
    stream.is_untouched(obj)


def test_inode_comes_along(stream):
    path, value = stream / "spec.json", edited(stream, "spec.json")
    before = os.stat(path).st_ino
    save(stream / "new", text(value), NEW)
    mine = os.stat(stream / "new").st_ino
    fd = os.open(path, os.O_RDONLY)
    os.rename(stream / "new", path)
    assert os.stat(path).st_ino == mine != before
    assert os.fstat(fd).st_ino == before
    os.close(fd)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644
    value["lookupPolicy"]["local"] = False
    save(path, text(value))
    assert os.stat(path).st_ino == mine  # in place
    stream.change({"metadata": {"labels": {"theirs": "yes"}}})
    assert os.stat(path).st_ino == mine  # a remote change


def test_reader_of_what_became_real(stream):
    """It reads what is there, as every reader does: also after later changes."""
    scratch, value = stream / "metadata.json~", stream.value("metadata.json")
    save(scratch, text(value), NEW)
    fd = os.open(scratch, os.O_RDONLY)
    os.rename(scratch, stream / "metadata.json")
    value["labels"] = {"longer": "x" * 60}
    save(stream / "metadata.json", text(value))
    data = os.pread(fd, LIMIT, 0)
    assert b"longer" in data and len(data) == os.fstat(fd).st_size
    os.close(fd)


def test_still_open_while_renamed_onto(stream):
    """gio: the rename saves, and the close of that handle has nothing left to do."""
    value = edited(stream, "spec.json")
    fd = drafted(stream / "new", text(value), NEW)
    os.rename(stream / "new", stream / "spec.json")
    assert len(stream.sent()) == 1
    os.fsync(fd)
    os.close(fd)
    assert len(stream.sent()) == 1
    stream.holds("spec.json", value)


@pytest.mark.parametrize("number, fault", [
    (errno.EACCES, {"status": 403}), (errno.EINVAL, {"status": 422}), (None, {})])
def test_refused_rename_moves_nothing(stream, number, fault):
    path, obj = stream / "spec.json", stream.get()
    content = text(edited(stream, "spec.json")) if number else "no JSON"
    stream.fault(count=1, **fault) if number else None
    save(stream / "new", content, NEW)
    before = os.stat(path), os.stat(stream / "new")
    with fails(number or errno.EINVAL):
        os.rename(stream / "new", path)
    after = os.stat(path), os.stat(stream / "new")
    for one, two in zip(before, after):
        assert (one.st_ino, one.st_size, one.st_mtime_ns) == (
            two.st_ino, two.st_size, two.st_mtime_ns)
    assert (stream / "new").read_text() == content
    assert path.read_text() == text(shown(obj, "spec.json"))
    assert {"new", "spec.json"} <= names(stream.path)
    assert stream.get() == obj


def test_real_onto_real(stream):
    """mv status.json spec.json: the bytes of the one are no value of the other."""
    obj = stream.get()
    with contextlib.suppress(OSError):
        os.rename(stream / "metadata.json", stream / "spec.json")
    assert stream.get()["spec"] == obj["spec"]
    wait_for((stream / "metadata.json").exists, HIDDEN + 3, "what was renamed away")


def test_real_onto_another_streams(rig, stream):
    """mv one/spec.json other/spec.json: a save there, and here it comes back."""
    other = rig.stream()
    value = edited(stream, "spec.json")
    save(stream / "spec.json", text(value))
    obj = stream.get()
    os.rename(stream / "spec.json", other / "spec.json")
    other.holds("spec.json", value)
    wait_for((stream / "spec.json").exists, HIDDEN + 3, "what was renamed away")
    assert stream.get() == obj
    assert (stream / "spec.json").read_text() == text(value)


def test_without_replacing(stream):
    """RENAME_NOREPLACE: only where no name is."""
    path, value = stream / "spec.json", edited(stream, "spec.json")
    save(stream / "new", text(value), NEW)
    with fails(errno.EEXIST):
        rename(stream / "new", path, NOREPLACE)
    with fails(errno.EEXIST):
        rename(path, stream / "new", NOREPLACE)
    assert stream.sent() == []
    rename(path, stream / "away", NOREPLACE)
    rename(stream / "new", path, NOREPLACE)
    assert len(stream.sent()) == 1
    stream.holds("spec.json", value)


def test_no_symlink_for_a_real_file(stream):
    """ln -sf: neither onto the name nor in its place."""
    obj = stream.get()
    os.symlink("status.json", stream / "link")
    with pytest.raises(OSError):
        os.rename(stream / "link", stream / "spec.json")
    os.unlink(stream / "spec.json")
    with pytest.raises(OSError):
        os.symlink("status.json", stream / "spec.json")
    with pytest.raises(OSError):
        os.mkdir(stream / "spec.json")
    wait_for((stream / "spec.json").exists, HIDDEN + 3, "what was unlinked")
    assert stat.S_ISREG(os.lstat(stream / "spec.json").st_mode)
    stream.is_untouched(obj)


def test_unlinked_and_touched(stream):
    """Made anew with nothing in it: as if nothing had been."""
    obj, path = stream.get(), stream / "spec.json"
    os.unlink(path)
    os.close(os.open(path, NEW))
    assert path.exists()
    wait_for(lambda: path.read_text() == text(shown(obj, "spec.json")), HIDDEN + 3, "the document")
    stream.is_untouched(obj)


def test_hidden_while_somebody_changes_it(stream):
    path = stream / "metadata.json"
    os.unlink(path)
    stream.change({"metadata": {"labels": {"theirs": "yes"}}})
    with fails(errno.ENOENT):
        os.stat(path)
    wait_for(path.exists, HIDDEN + 3, "what was unlinked")
    assert path.read_text() == text(stream.value("metadata.json"))


def test_unlink_and_nothing_else_is_no_delete(rig, stream):
    obj = stream.get()
    subprocess.run(["rm", *(stream / name for name in FILES[:3])], check=True)
    wait_for(lambda: names(stream.path) >= REAL, HIDDEN + 3, "what was hidden")
    rig.settle()
    stream.is_untouched(obj)


def test_modes_are_those_of_before(stream):
    before = modes(stream.path)
    for name in FILES:
        os.rename(stream / name, stream / "away")
        os.chmod(stream / "away", 0o600)
        save(stream / name, text(edited(stream, name)), NEW)
        os.unlink(stream / "away")
    assert modes(stream.path) == before
    assert json.loads((stream / "metadata.json").read_text())["annotations"]["edited"] == "yes"
    assert without(stream.value("spec.json"), "tags") == {"lookupPolicy": {"local": True}}
