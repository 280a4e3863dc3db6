"""An API server of two namespaces with a stream each, any answer of which a test may replace.

It knows nothing of ImageStreams but what the program needs to mount: what it says is healthy until a rule
says something else, byte by byte.
"""

import base64
import functools
import http.server
import json
import pathlib
import re
import ssl
import sys
import threading

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "apiserver"))
from tls import Authority  # noqa: E402

ROOT = "/apis/image.openshift.io/v1"
PROJECTS = "/apis/project.openshift.io/v1/projects"
REVIEWS = "/apis/authorization.k8s.io/v1/"


def encode(value):
    """Bytes stay as they are, so that a test can say what json.dumps wouldn't."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


class Answer:
    """One answer. `pieces`: called with the server, gives the body bit by bit (for ever, perhaps)."""

    def __init__(self, body=b"", status=200, kind="application/json", headers=(), pieces=None):
        self.body, self.status, self.kind, self.pieces = encode(body), status, kind, pieces
        self.headers = dict(headers)


def stream(namespace, name, version, tags=("v1",), **metadata):
    """A stream as the real server gives it."""
    return {"metadata": {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}",
                         "resourceVersion": str(version), "generation": 1,
                         "creationTimestamp": "2026-11-23T19:48:08Z", **metadata},
            "spec": {"lookupPolicy": {"local": False}, "tags": [
                {"name": tag, "annotations": None, "generation": 1, "importPolicy": {},
                 "from": {"kind": "DockerImage", "name": f"registry.example/{name}:{tag}"}}
                for tag in tags]},
            "status": {"dockerImageRepository": ""}}


def whole(item):
    """An item of a list as the answer to a GET has it."""
    return {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1", **item}


def project(name, **metadata):
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": "1",
                         "creationTimestamp": "2026-11-23T19:48:08Z", **metadata}}


def page(items, more="", kind="ImageStream", version="100"):
    """A list of items, some of which may be bytes."""
    return (b'{"kind":"%sList","apiVersion":"image.openshift.io/v1","metadata":%s,"items":[%s]}' % (
        kind.encode(), encode({"resourceVersion": version, "continue": more}),
        b",".join(map(encode, items))))


def event(kind, item):
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), encode(item))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 120

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            self.request.do_handshake()
            super().handle()
        except (OSError, ValueError):  # the program left, as it may
            pass

    def answer(self):
        hostile = self.server.hostile
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        with hostile.lock:
            hostile.requests.append((self.command, self.path))
        self.send(hostile.answer(self))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def send(self, answer):
        headers = {"Content-Type": answer.kind, **answer.headers}
        self.send_response(answer.status)
        if answer.pieces:
            headers.setdefault("Transfer-Encoding", "chunked")
        elif answer.status != 204:
            headers.setdefault("Content-Length", str(len(answer.body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if not answer.pieces:
            self.wfile.write(answer.body)
            if int(headers.get("Content-Length", 0)) != len(answer.body):
                self.close_connection = True
            return
        for piece in answer.pieces(self.server.hostile):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


class Sockets(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def get_request(self):
        sock, address = super().get_request()
        return self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (OSError, ssl.SSLError)):
            super().handle_error(request, client_address)


class Server:
    """`rules`: (method, pattern of path?query, Answer or function(request) -> Answer or None)."""

    def __init__(self, directory):
        authority = Authority()
        self.lock = threading.Condition()
        self.rules, self.requests, self.lines = [], [], []
        self.watches, self.version, self.ending = 0, 100, False
        self.sent = threading.Event()  # by `pieces`: enough is under way
        self.streams = {key: stream(*key.split("/"), 10) for key in ("shop/web", "dev/app")}
        self.projects = [project("shop"), project("dev")]
        self.sockets = Sockets(("127.0.0.1", 0), Handler)
        self.sockets.hostile = self
        self.sockets.context = authority.server_context()
        self.kubeconfig = directory / "kubeconfig"
        self.kubeconfig.write_text(json.dumps(self.configuration(authority.pem)))
        threading.Thread(target=self.sockets.serve_forever, daemon=True).start()

    def configuration(self, pem):
        url = f"https://127.0.0.1:{self.sockets.server_address[1]}"
        return {"kind": "Config", "apiVersion": "v1", "current-context": "c",
                "clusters": [{"name": "c", "cluster": {
                    "server": url,
                    "certificate-authority-data": base64.b64encode(pem).decode()}}],
                "users": [{"name": "c", "user": {"token": "t"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]}

    def stop(self):
        with self.lock:
            self.ending = True
            self.lock.notify_all()
        self.sockets.shutdown()
        self.sockets.server_close()

    # ---- what a test does ----

    def arm(self, *rules):
        with self.lock:
            self.rules = list(rules)
            self.sent.clear()

    def change(self, key, tag):
        """A tag more; the event is the caller's to send."""
        with self.lock:
            self.version += 1
            namespace, _, name = key.partition("/")
            self.streams[key] = stream(namespace, name, self.version, ("v1", tag))
            return event("MODIFIED", whole(self.streams[key]))

    def push(self, *lines):
        """To the watches of streams that are open now."""
        with self.lock:
            self.lines += lines
            self.lock.notify_all()

    def wait_for_watch(self, seconds=60):
        with self.lock:
            assert self.lock.wait_for(lambda: self.watches, seconds), "no watch of the streams"

    def count(self, method, pattern):
        with self.lock:
            return sum(one == method and bool(re.search(pattern, path))
                       for one, path in self.requests)

    # ---- what is healthy ----

    def answer(self, request):
        with self.lock:
            rules = list(self.rules)
        for method, pattern, answer in rules:
            if method == request.command and re.search(pattern, request.path):
                found = answer(request) if callable(answer) else answer
                if found:
                    return found
        return self.healthy(request.command, request.path, request.body)

    def healthy(self, method, target, body):
        path, _, query = target.partition("?")
        if method == "POST" and path.startswith(REVIEWS):
            return self.review(path[len(REVIEWS):], json.loads(body))
        if "watch=true" in query:
            since = re.search("resourceVersion=([0-9]+)", query)
            return Answer(pieces=self.silence if path == PROJECTS else functools.partial(
                self.watch, int(since[1]) if since else 0))
        if path == PROJECTS:
            return Answer(page(self.projects, kind="Project"))
        if path.startswith(PROJECTS + "/"):
            return self.one(self.projects, path.rpartition("/")[2])
        if path.startswith(ROOT) and path.endswith("/imagestreams"):
            found = re.search("/namespaces/([^/]*)/", path)
            return Answer(page([one for key, one in self.streams.items() if not found or
                                key.startswith(found[1] + "/")], version=str(self.version)))
        found = re.fullmatch(ROOT + "/namespaces/([^/]*)/imagestreams/([^/]*)(/status)?", path)
        if found and f"{found[1]}/{found[2]}" in self.streams:
            return Answer(whole(self.streams[f"{found[1]}/{found[2]}"]))
        if path in (ROOT, "/version"):
            return Answer({"major": "1", "minor": "30", "kind": "APIResourceList", "resources": []})
        if path.endswith("/users/~"):
            return Answer({"kind": "User", "metadata": {"name": "somebody"}})
        return self.missing()

    @staticmethod
    def missing():
        return Answer({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404,
                       "message": "not found"}, 404)

    def one(self, items, name):
        return next((Answer(item) for item in items if item["metadata"]["name"] == name),
                    self.missing())

    @staticmethod
    def review(what, body):
        status = {"allowed": True}
        if what == "selfsubjectrulesreviews":
            status = {"incomplete": False, "nonResourceRules": [], "resourceRules": [
                {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}
        return Answer({**body, "status": status}, 201)

    def silence(self, _):
        with self.lock:
            self.lock.wait_for(lambda: self.ending)
        return iter(())

    def watch(self, since, _):
        """What is newer than that version, then what is pushed."""
        with self.lock:
            at = len(self.lines)
            newer = [event("MODIFIED", whole(one)) for one in self.streams.values()
                     if int(one["metadata"]["resourceVersion"]) > since]
            self.watches += 1
            self.lock.notify_all()
        try:
            yield from newer
            while True:
                with self.lock:
                    self.lock.wait_for(lambda: self.ending or len(self.lines) > at)
                    if self.ending:
                        return
                    lines, at = self.lines[at:], len(self.lines)
                for line in lines:
                    yield from line(self) if callable(line) else [line]
        finally:
            with self.lock:
                self.watches -= 1
