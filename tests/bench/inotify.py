"""inotify by ctypes: watches, and raw reads that are taken apart later."""

import ctypes
import os
import select
import struct
import time

MODIFY, CLOSE_WRITE, OVERFLOW = 0x2, 0x8, 0x4000
_libc = ctypes.CDLL(None, use_errno=True)


def parse(data):
    """[(wd, mask, name)] of one read()."""
    events, at = [], 0
    while at < len(data):
        wd, mask, _, size = struct.unpack_from("iIII", data, at)
        events.append((wd, mask, data[at + 16:at + 16 + size].rstrip(b"\0").decode()))
        at += 16 + size
    return events


class Inotify:
    def __init__(self):
        self.fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self.poll = select.poll()
        self.poll.register(self.fd, select.POLLIN)

    def add(self, path, mask):
        wd = _libc.inotify_add_watch(self.fd, os.fsencode(path), ctypes.c_uint32(mask))
        if wd < 0:
            raise OSError(ctypes.get_errno(), f"inotify_add_watch {path}")
        return wd

    def read(self, timeout):
        """(time in ns right after read() returned, its bytes), or None when nothing came."""
        if not self.poll.poll(timeout * 1000):
            return None
        data = os.read(self.fd, 1 << 20)
        return time.monotonic_ns(), data

    def read_until_quiet(self, first, quiet):
        """All reads until nothing comes for `quiet` seconds (`first` before the first one)."""
        reads, timeout = [], first
        while True:
            one = self.read(timeout)
            if one is None:
                return reads
            reads.append(one)
            timeout = quiet

    def close(self):
        os.close(self.fd)
