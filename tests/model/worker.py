"""What a process of the model test does: one system call, or a few, at a time; descriptors by name."""

import ctypes
import mmap
import os
import pickle
import socket
import stat
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
READ_MAX = 1 << 20
GETDENTS64 = 217 if os.uname().machine == "x86_64" else 61
LISTED = 300


def attributes(st):
    return {"ino": st.st_ino, "mode": st.st_mode, "nlink": st.st_nlink, "size": st.st_size,
            "mtime": st.st_mtime_ns}


class Calls:
    """Each method is a step's call; an OSError is its result, too."""

    def __init__(self):
        self.fds = {}
        self.listings = {}

    def open(self, handle, path, flags):
        self.fds[handle] = os.open(path, flags, 0o644)

    def close(self, handle):
        os.close(self.fds.pop(handle))

    def dup_close(self, handle):
        """Another descriptor of the same file is closed: a flush."""
        os.close(os.dup(self.fds[handle]))

    def fork_exit(self):
        """A child inherits every descriptor and ends: a flush of each."""
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    def write(self, handle, data, offset):
        return os.pwrite(self.fds[handle], data, offset)

    def append(self, handle, data):
        os.lseek(self.fds[handle], 0, os.SEEK_SET)
        return os.write(self.fds[handle], data)

    def read(self, handle, size, offset):
        return os.pread(self.fds[handle], size, offset)

    def seek_end(self, handle):
        return os.lseek(self.fds[handle], 0, os.SEEK_END)

    def ftruncate(self, handle, size):
        os.ftruncate(self.fds[handle], size)

    def truncate(self, path, size):
        os.truncate(path, size)

    def fsync(self, handle):
        os.fsync(self.fds[handle])

    def fstat(self, handle):
        return attributes(os.fstat(self.fds[handle]))

    def map(self, handle, size):
        """Private: what a shared one of a file that can be written is refused."""
        with mmap.mmap(self.fds[handle], size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as memory:
            return bytes(memory[:])

    def map_shared(self, handle, size):
        with mmap.mmap(self.fds[handle], size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ) as memory:
            return bytes(memory[:])

    def slurp(self, path):
        """As cat does: what makes a base."""
        fd = os.open(path, os.O_RDONLY)
        try:
            return os.read(fd, READ_MAX)
        finally:
            os.close(fd)

    def rename(self, old, new, flags):
        if LIBC.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def unlink(self, path):
        os.unlink(path)

    def mkdir(self, path):
        os.mkdir(path, 0o755)

    def rmdir(self, path):
        os.rmdir(path)

    def symlink(self, target, path):
        os.symlink(target, path)

    def find(self, path, names):
        """By lookups, not by a listing."""
        return [os.path.lexists(os.path.join(path, name)) for name in names]

    def link(self, old, new):
        os.link(old, new)

    def access(self, path, mask):
        return os.access(path, mask)

    def chmod(self, path, mode):
        os.chmod(path, mode)

    def utime(self, path):
        os.utime(path)

    def lstat(self, path):
        return attributes(os.lstat(path))

    def scan_begin(self, listing, path):
        """A listing that is held at its beginning."""
        self.listings[listing] = os.open(path, os.O_RDONLY | os.O_DIRECTORY), []

    def scan_more(self, listing):
        """The next entries: as many as fit into a buffer for two or three. False at the end."""
        fd, names = self.listings[listing]
        buffer = ctypes.create_string_buffer(LISTED)
        size = LIBC.syscall(GETDENTS64, fd, buffer, LISTED)
        if size < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        at = 0
        while at < size:
            length = struct.unpack_from("H", buffer, at + 16)[0]
            names.append(os.fsdecode(buffer[at + 19:at + length].split(b"\0")[0]))
            at += length
        return size > 0

    def scan_end(self, listing):
        while self.scan_more(listing):
            pass
        fd, names = self.listings.pop(listing)
        os.close(fd)
        return names

    def end(self):
        for fd in self.fds.values():
            try:
                os.close(fd)
            except OSError:
                pass
        for fd, _ in self.listings.values():
            os.close(fd)
        self.fds, self.listings = {}, {}


def look(top, begun, skipped):
    """Path below the top → what stands there, with bytes or the target of a symlink, but for those that
    are `skipped`. What was begun and not saved isn't opened: it would live longer for that."""
    found, todo = {}, [""]
    while todo:
        place = todo.pop()
        here = os.path.join(top, place) if place else top
        for name in os.listdir(here):
            path = os.path.join(here, name)
            st = os.lstat(path)
            one = attributes(st)
            if stat.S_ISDIR(st.st_mode):
                todo.append(os.path.join(place, name))
            elif stat.S_ISLNK(st.st_mode):
                one["bytes"] = os.readlink(path).encode()
            elif os.path.join(place, name) in begun:
                one["bytes"] = b""
            elif os.path.join(place, name) not in skipped:
                fd = os.open(path, os.O_RDONLY)
                one["bytes"] = os.read(fd, READ_MAX)
                os.close(fd)
            found[os.path.join(place, name)] = one
    return found


def work(channel):
    calls = Calls()
    while True:
        head = channel.recv(4, socket.MSG_WAITALL)
        if len(head) < 4:
            return
        name, arguments = pickle.loads(channel.recv(struct.unpack("I", head)[0], socket.MSG_WAITALL))
        try:
            answer = ("ok", getattr(calls, name)(*arguments))
        except OSError as error:
            answer = ("errno", error.errno)
        except ValueError as error:  # mmap of more than there is
            answer = ("raised", str(error))
        data = pickle.dumps(answer)
        channel.sendall(struct.pack("I", len(data)) + data)
