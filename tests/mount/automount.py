"""What systemd does for x-systemd.automount, by itself: holds a direct autofs mount point in its own
process group, and runs a command in that group when somebody wants to go in.

    automount.py MOUNTPOINT COMMAND...

Prints "ready" when it stands, and then the exit status of each command.
"""

import ctypes
import fcntl
import os
import struct
import subprocess
import sys

# linux/auto_fs.h, auto_fs4.h
PACKET = struct.Struct("@iiIIQIIIII256s4x")  # struct autofs_v5_packet
MISSING_DIRECT = 5
READY, FAIL = 0x9360, 0x9361  # _IO(0x93, 0x60), and the next


def main():
    mountpoint, command = sys.argv[1], sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    reader, writer = os.pipe()
    options = f"fd={writer},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
    if libc.mount(b"automount", mountpoint.encode(), b"autofs", 0, options.encode()):
        sys.exit(os.strerror(ctypes.get_errno()))
    root = os.open(mountpoint, os.O_RDONLY)  # this group is let through
    os.close(writer)
    print("ready", flush=True)
    while True:
        packet = os.read(reader, PACKET.size)
        if len(packet) < PACKET.size:
            return  # it was unmounted
        _, kind, token, *_ = PACKET.unpack(packet)
        assert kind == MISSING_DIRECT, kind
        done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
        fcntl.ioctl(root, FAIL if done.returncode else READY, token)
        print(done.returncode, flush=True)


main()
