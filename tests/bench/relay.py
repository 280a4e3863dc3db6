"""
A TCP relay between the program and the server, as a process of its own. It notes the moment at which
each piece is handed to the program's socket, and can hold what the server sends until told to let go.
It sees TLS only, so it needs no keys.
"""

import multiprocessing
import os
import queue
import socket
import threading
import time

import inotify


def _pump(source, sink):
    """Program to server."""
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
    except OSError:
        pass
    _end(sink)


def _end(sock):
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class _State:
    def __init__(self):
        self.open = threading.Event()
        self.open.set()
        self.received = 0
        self.sent = []  # (ns, bytes)


def _collect(source, pieces, state):
    """Server to memory."""
    try:
        while data := source.recv(1 << 16):
            state.received += len(data)
            pieces.put(data)
    except OSError:
        pass
    pieces.put(b"")


def _deliver(pieces, sink, state):
    """Memory to program."""
    try:
        while data := pieces.get():
            state.open.wait()
            state.sent.append((time.monotonic_ns(), len(data)))
            sink.sendall(data)
    except OSError:
        pass
    _end(sink)


def _accept(listener, port, state):
    while True:
        client, _ = listener.accept()
        server = socket.create_connection(("127.0.0.1", port))
        pieces = queue.SimpleQueue()
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for target, *arguments in ((_pump, client, server), (_collect, server, pieces, state),
                                   (_deliver, pieces, client, state)):
            threading.Thread(target=target, args=arguments, daemon=True).start()


def _main(listener, port, pipe):
    state = _State()
    threading.Thread(target=_accept, args=(listener, port, state), daemon=True).start()
    while True:
        try:
            command = pipe.recv()
        except EOFError:
            return
        if command == "hold":
            state.open.clear()
        elif command == "release":
            state.open.set()
        elif command == "reset":
            state.sent.clear()
        pipe.send({"received": state.received, "now": time.monotonic_ns(),
                   "sent": list(state.sent) if command == "sent" else None})


class Relay:
    def __init__(self, server, directory):
        listener = socket.create_server(("127.0.0.1", 0))
        port = int(server.url.rpartition(":")[2])
        self.kubeconfig = directory / "kubeconfig-relay"
        self.kubeconfig.write_text(server.kubeconfig.read_text().replace(
            server.url, "https://127.0.0.1:%d" % listener.getsockname()[1]))
        self.kubeconfig.chmod(0o600)
        self.pipe, other = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(
            target=_main, args=(listener, port, other), daemon=True)
        self.process.start()
        listener.close()
        other.close()

    def ask(self, command):
        """hold, release, reset, sent or anything: how things are, after that."""
        self.pipe.send(command)
        return self.pipe.recv()

    def stop(self):
        self.process.kill()
        self.process.join()


def _write(connection, path):
    """A line comes, the file changes."""
    while connection.recv(1):
        fd = os.open(path, os.O_WRONLY)
        os.ftruncate(fd, 1)
        os.close(fd)


class LocalFile:
    """What this machine has to offer: a local file with a watch, which another process writes."""

    def __init__(self, directory):
        path = directory / "local"
        path.write_text("x")
        listener = socket.create_server(("127.0.0.1", 0))
        self.connection = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.process = multiprocessing.get_context("fork").Process(
            target=_write, args=(other, path), daemon=True)
        self.process.start()
        listener.close()
        other.close()
        self.watch = inotify.Inotify()
        self.watch.add(path, inotify.MODIFY)

    def change(self):
        """ns from right before the writer is told to the return of inotify's read()."""
        begin = time.monotonic_ns()
        self.connection.sendall(b"x")
        return self.watch.read(2)[0] - begin

    def stop(self):
        self.connection.close()
        self.watch.close()
        self.process.kill()
        self.process.join()
