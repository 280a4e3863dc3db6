"""Sockets and HTTP/1.1: one thread a connection."""

import gzip
import itertools
import select
import socket
import struct
import threading
import time
import uuid
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qs, unquote_to_bytes

import tls

BODY_LIMIT = 3145728
CONTROL_LIMIT = 64 << 20  # streams that came into being bit by bit
GZIP_FLOOR = 128 * 1024
# Go's server counts the body itself up to here and chunks what is longer.
CHUNK_FLOOR = 2048
REASONS = {status.value: status.phrase for status in HTTPStatus}
# The UIDs that X-Kubernetes-Pf-Flowschema-Uid and its twin have while all is well.
FLOW = "5edc7fc8-680b-415f-97bd-2f5c98d0fbd6"
REASONS[422] = "Unprocessable Entity"


class Disconnected(Exception):
    """The connection is gone, or is to be cut on purpose."""


class Request:
    def __init__(self, method, target, headers, groups, certificate_user, sni):
        self.method = method
        self.target = target
        raw, _, query = target.partition("?")
        self.raw_path = raw
        self.path = unquote_to_bytes(raw).decode("utf-8", "surrogateescape")
        self.raw_query = query
        self.query = parse_qs(query, keep_blank_values=True)
        self.headers = headers
        self.groups = groups
        self.certificate_user = certificate_user
        self.sni = sni
        self.replica = 0
        self.port = 0  # the client's
        self.body = b""

    def param(self, name, default=""):
        return self.query.get(name, [default])[0]

    def flag(self, name):
        """Go's idea of a boolean parameter: everything is true but false, 0, and absence."""
        if name not in self.query:
            return False
        return self.query[name][0].lower() not in ("false", "0")


class Response:
    """body, or stream(connection): called with the connection after the head is sent."""

    def __init__(self, status, body=b"", content_type="application/json", headers=(),
                 stream=None, aggregated=False):
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = list(headers)
        self.stream = stream
        self.aggregated = aggregated
        self.flow = None  # what X-Kubernetes-Pf-* say; None leaves them out
        self.close = False


class Connection:
    def __init__(self, server, sock):
        self.server = server
        self.sock = sock
        self.dropped = False
        self.slow = None  # (bytes, delay): write that much at a time
        self.cut_after = None  # bytes of body until the connection is cut
        self.prefix = b""  # what a streamed answer begins with
        self.replica = next(server.turns) % server.app.options.replicas

    def run(self):
        try:
            self.sock.settimeout(10)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock = self.server.context.wrap_socket(self.sock, server_side=True)
            self.sock.settimeout(None)
            self.user = tls.common_name(self.sock.getpeercert())
            self.sni = getattr(self.sock, "sni", None)
            self.port = self.sock.getpeername()[1]
            self.reader = self.sock.makefile("rb", 65536)
            while not self.dropped and self.serve_one():
                pass
        except (OSError, Disconnected, ValueError):
            pass
        finally:
            self.server.forget(self)
            self.close()

    def close(self):
        self.dropped = True
        for step in (lambda: self.sock.shutdown(socket.SHUT_RDWR), self.sock.close):
            try:
                step()
            except (OSError, ValueError):
                pass

    def hang_up(self):
        """From another thread: ends the connection without a word."""
        self.dropped = True
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except (OSError, ValueError):
            pass

    def cut(self, reset=False):
        """From its own thread: ends the connection with no answer, by a FIN or by a RST."""
        if reset:
            # Closed without a shutdown and with nothing to linger for, TCP resets.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.reader.close()
            self.sock.close()
        raise Disconnected

    def client_gone(self):
        """Whether the client closed; called by who waits with nothing to read or write."""
        if self.dropped:
            return True
        poll = select.poll()
        try:
            poll.register(self.sock, select.POLLIN)
            if not poll.poll(0):
                return False
            self.sock.settimeout(0.01)
            try:
                return self.sock.recv(1) == b""
            except socket.timeout:
                return False
            finally:
                self.sock.settimeout(None)
        except (OSError, ValueError):
            return True

    def read_head(self):
        line = self.reader.readline(65537)
        if not line or line in (b"\r\n", b"\n"):
            return None
        parts = line.decode("latin-1").split()
        if len(parts) != 3:
            raise Disconnected
        headers, groups = {}, []
        while True:
            line = self.reader.readline(65537)
            if line in (b"\r\n", b"\n"):
                break
            if not line:
                raise Disconnected
            name, _, value = line.decode("latin-1").partition(":")
            name, value = name.strip().lower(), value.strip()
            if name == "impersonate-group":
                groups.append(value)
            headers[name] = headers[name] + ", " + value if name in headers else value
        request = Request(parts[0], parts[1], headers, groups, self.user, self.sni)
        request.replica = self.replica
        request.port = self.port
        return request

    def read_body(self, request):
        """Whether the body was within the limit; what is over it is read and thrown away."""
        limit = CONTROL_LIMIT if request.path.startswith("/_control/") else BODY_LIMIT
        if request.headers.get("expect", "").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        pieces, size = [], 0
        for piece in self._body_pieces(request):
            size += len(piece)
            if size <= limit:
                pieces.append(piece)
        request.body = b"".join(pieces)
        return size <= limit

    def _body_pieces(self, request):
        if request.headers.get("transfer-encoding", "").lower() == "chunked":
            while True:
                size = int(self.reader.readline(1024).split(b";")[0], 16)
                yield self._read(size)
                self.reader.readline(1024)
                if not size:
                    return
        left = int(request.headers.get("content-length") or 0)
        while left > 0:
            piece = self._read(min(left, 1 << 20))
            left -= len(piece)
            yield piece

    def _read(self, size):
        data = self.reader.read(size)
        if len(data) != size:
            raise Disconnected
        return data

    def serve_one(self):
        request = self.read_head()
        if request is None:
            return False
        within = self.read_body(request)
        self.slow = self.cut_after = None
        self.prefix = b""
        response = self.server.app.answer(request, self, within)
        self.write(request, response)
        return not response.close and request.headers.get("connection", "").lower() != "close"

    def write(self, request, response):
        body = response.body
        audit = str(uuid.uuid4())
        head = ["HTTP/1.1 %d %s" % (response.status, REASONS.get(response.status, "")),
                "Audit-Id: " + audit]
        if response.aggregated:
            # The aggregated server and the one in front of it both add theirs.
            head += ["Audit-Id: " + audit, "Cache-Control: no-cache, private",
                     "Cache-Control: no-store"]
        elif not any(name == "Cache-Control" for name, _ in response.headers):
            head.append("Cache-Control: no-cache, private")
        for name, value in response.headers:
            head.append("%s: %s" % (name, value))
        head += ["Content-Type: " + response.content_type,
                 "Date: " + formatdate(usegmt=True),
                 "Strict-Transport-Security: max-age=31536000; includeSubDomains; preload"]
        if response.flow is not None:
            head += ["X-Kubernetes-Pf-Flowschema-Uid: " + response.flow,
                     "X-Kubernetes-Pf-Prioritylevel-Uid: " + response.flow]
        if response.close:
            head.append("Connection: close")
        if response.stream:
            head.append("Transfer-Encoding: chunked")
            self.sock.sendall("\r\n".join(head + ["", ""]).encode("utf-8"))
            if self.cut_after == 0:
                raise Disconnected
            self.send_raw(self.prefix)
            response.stream(self)
            self.sock.sendall(b"0\r\n\r\n")
            return
        if self.server.app.options.gzip and len(body) > GZIP_FLOOR and \
                "gzip" in request.headers.get("accept-encoding", ""):
            body = gzip.compress(body, 1)
            head += ["Content-Encoding: gzip", "Vary: Accept-Encoding"]
        if response.status == 204:
            self.sock.sendall("\r\n".join(head + ["", ""]).encode("utf-8"))
            return
        chunked = len(body) > CHUNK_FLOOR and self.cut_after is None
        head.append("Transfer-Encoding: chunked" if chunked else "Content-Length: %d" % len(body))
        prefix = "\r\n".join(head + ["", ""]).encode("utf-8")
        if request.method == "HEAD":
            self.sock.sendall(prefix)
        elif self.cut_after is not None:
            self.sock.sendall(prefix + body[:self.cut_after])
            raise Disconnected
        elif self.slow:
            self.sock.sendall(prefix)
            self._write_slowly(body, chunked)
        elif chunked:
            self.sock.sendall(b"%b%x\r\n%b\r\n0\r\n\r\n" % (prefix, len(body), body))
        else:
            self.sock.sendall(prefix + body)

    def _write_slowly(self, body, chunked):
        step, delay = self.slow
        for start in range(0, len(body), step):
            piece = body[start:start + step]
            self.sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            time.sleep(delay)
        if chunked:
            self.sock.sendall(b"0\r\n\r\n")

    def send_chunk(self, data):
        """One piece of a streamed answer, subject to cutAfter and slow."""
        if self.dropped:
            raise Disconnected
        if self.cut_after is not None:
            if len(data) >= self.cut_after:
                self.send_raw(data[:self.cut_after])
                raise Disconnected
            self.cut_after -= len(data)
        if self.slow:
            step, delay = self.slow
            for start in range(0, len(data), step):
                self.send_raw(data[start:start + step])
                time.sleep(delay)
        else:
            self.send_raw(data)

    def send_raw(self, data):
        if data:
            self.sock.sendall(b"%x\r\n%b\r\n" % (len(data), data))


class Server:
    """Accepts connections; can go away and come back on the same port."""

    def __init__(self, app, context, port):
        self.app = app
        self.context = context
        self.connections = set()
        self.lock = threading.Lock()
        self.listener = None
        self.turns = itertools.count()
        self.port = port
        self.listen()

    def listen(self):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(512)
        self.port = listener.getsockname()[1]
        self.listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            connection = Connection(self, sock)
            with self.lock:
                self.connections.add(connection)
            threading.Thread(target=connection.run, daemon=True).start()

    def forget(self, connection):
        with self.lock:
            self.connections.discard(connection)

    def go_away(self, seconds):
        """Closes everything and listens again after that time."""
        # shutdown wakes the thread in accept(), so that the port is free at once.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            connections = list(self.connections)
        for connection in connections:
            connection.hang_up()
        self.app.later(seconds, self.come_back)

    def come_back(self):
        """Listens again; somebody else may hold the port for a moment."""
        try:
            self.listen()
        except OSError:
            self.app.later(0.05, self.come_back)
