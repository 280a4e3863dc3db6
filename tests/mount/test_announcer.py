"""The announcer process by itself, on local files: what it does is what somebody would do there."""

import os
import pathlib
import socket
import struct
import subprocess

import pytest

from conftest import PROGRAM, wait_for

SECONDS = 30
HELLO, MKDIR, _, _, _, WRITE, _ = range(7)  # fs/publish/announcer.h
ACK = struct.Struct("QiI")


class Announcer:
    def __init__(self, top):
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(SECONDS)
        self.process = subprocess.Popen(
            ["imagestreamfs-announcer", str(top), "1"], executable=PROGRAM, close_fds=False,
            preexec_fn=lambda: os.dup2(theirs.fileno(), 3))  # its one worker's socket
        theirs.close()

    def send(self, number, operation, path):
        self.socket.send(struct.pack("QI", number, operation) + path.encode())

    def acks(self, count):
        """Number -> errno."""
        found = {}
        while len(found) < count:
            found |= {number: error for number, error, _ in ACK.iter_unpack(self.socket.recv(4096))}
        return found

    def sleeps_in(self, directory):
        """It has that directory open, and waits for something: its thread does, not the first."""
        place = pathlib.Path(f"/proc/{self.process.pid}")
        held = [os.readlink(one) for one in (place / "fd").iterdir()]
        states = [(task / "stat").read_text().rpartition(")")[2].split()[0]
                  for task in (place / "task").iterdir()]
        return str(directory) in held and set(states) == {"S"}

    def close(self):
        self.socket.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def announcer(directory):
    one = Announcer(directory)
    one.send(0, HELLO, "nothing")
    assert one.acks(1) == {0: 0}
    yield one
    one.close()


def test_directory_is_replaced_between_steps(announcer, directory):
    """The second step waits in line while the directory of both goes and comes."""
    work, fifo = directory / "work", directory / "work/fifo"
    work.mkdir()
    os.mkfifo(fifo)
    writer = os.open(fifo, os.O_PATH)
    announcer.send(1, WRITE, "work/fifo")  # waits for a reader
    announcer.send(2, MKDIR, "work/made")
    wait_for(lambda: announcer.sleeps_in(work), SECONDS, "the first step")
    fifo.unlink()
    work.rmdir()
    work.mkdir()
    os.close(os.open(f"/proc/self/fd/{writer}", os.O_RDONLY))
    os.close(writer)
    assert announcer.acks(2)[2] == 0
    assert os.listdir(work) == ["made"]
