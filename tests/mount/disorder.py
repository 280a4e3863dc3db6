"""What a server in disorder answers: a namespace for each kind, so that one mount meets all of them.

A developer's mount lists and watches each of its namespaces by itself: whatever goes wrong in one of them
leaves the others alone.
"""

import json
import os
import time

from conftest import wait_for

API = "/apis/image.openshift.io/v1"
PROJECTS = "/apis/project.openshift.io/v1/projects"
USER = "reader"
HEALTHY = "healthy"
MANY = 100000
LONG = 60  # what takes a few seconds on an idle machine
ENDLESS = 9223372036  # seconds
HTML = {"text": "<!DOCTYPE html>\n<html><body>Application is not available</body></html>\n",
        "type": "text/html"}
ANONYMOUS = ('imagestreams.image.openshift.io is forbidden: User "system:anonymous" cannot list resource '
             '"imagestreams" in API group "image.openshift.io" in the namespace "x"')


def answer(value):
    return {"text": (value if isinstance(value, str) else json.dumps(value)) + "\n",
            "type": "application/json"}


def status(code, message="etcd is unwell"):
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "code": code}


# Each time, while lists work.
WATCHES = {
    "closed": {"cut": True},
    "reset": {"cut": "reset"},
    "closed-after-the-head": {"cutAfter": 0},
    "empty": {"text": "", "type": "application/json"},
    "no-content": {"status": 204, "text": ""},
    "html-502": {"status": 502, **HTML},
    "html-200": HTML,
    "error-500": answer({"type": "ERROR", "object": status(500)}),
    "error-410": answer({"type": "ERROR", "object": status(410, "too old resource version: 1 (2)")}),
    "error-without-object": answer({"type": "ERROR"}),
    "error-null": answer({"type": "ERROR", "object": None}),
    "no-json": answer("this is no event"),
    "no-event": answer({"kind": "ImageStream"}),
    "400": {"status": 400}, "403": {"status": 403}, "404": {"status": 404}, "405": {"status": 405},
    "410": {"status": 410}, "500": {"status": 500}, "504": {"status": 504},
    "503-for-ever": {"status": 503, "retryAfter": ENDLESS},
    "429": {"status": 429, "text": "Too many requests, please try again later.\n", "retryAfter": 1,
            "close": True},
}

LIST = {"kind": "ImageStreamList", "apiVersion": "image.openshift.io/v1"}
# Each time.
LISTS = {
    "html": HTML,
    "html-502": {"status": 502, **HTML},
    "nothing": answer(""),
    "status-200": answer(status(500)),
    "no-list": answer({**LIST, "metadata": {"resourceVersion": "99999"}}),
    "array": answer([]),
    "cut": {"cut": True},
    "401": {"status": 401},
    "403-anonymous": {"status": 403, "message": ANONYMOUS},
    "403-but-allowed": {"status": 403},
    "403-unready": {"status": 403, "flow": ""},
    "404": {"status": 404}, "405": {"status": 405}, "410": {"status": 410}, "500": {"status": 500},
    "503": {"status": 503, "text": "service unavailable\n"},
    "503-hour": {"status": 503, "retryAfter": 3600},
    "503-for-ever": {"status": 503, "retryAfter": ENDLESS},
    "429": {"status": 429, "retryAfter": 1},
    "429-hour": {"status": 429, "retryAfter": 3600},
    "endless": answer({**LIST, "metadata": {"resourceVersion": "99999", "continue": "again"},
                       "items": []}),
}


def namespaced(namespace):
    return f"{API}/namespaces/{namespace}/imagestreams"


def fill(server, names):
    """A namespace with a stream for each name, and one that stays well: all are the reader's to see."""
    for name in (*names, HEALTHY):
        server.control("POST", "bulk", [{"op": "create-namespace", "name": name}])
        server.create(name, "one")
        server.control("POST", "grant", {"user": USER, "namespace": name, "role": "edit",
                                         "wait": False})


def break_watches(server, kinds, prefix="w-"):
    for kind in kinds:
        server.fault(path=namespaced(prefix + kind) + "$", watch=True, count=MANY, **WATCHES[kind])


def break_lists(server, kinds, prefix="l-"):
    for kind in kinds:
        server.fault(path=namespaced(prefix + kind) + "$", method="GET", watch=False, count=MANY,
                     **LISTS[kind])


def list_again(server):
    """Every watch of streams ends, and can't be taken up."""
    server.control("POST", "compact", {"style": "event"})
    server.control("POST", "drop", {"path": "imagestreams"})


def look_at(mount, names):
    """In each of them, so that it is listed and watched from now on."""
    for name in names:
        wait_for(lambda name=name: name in os.listdir(mount.path), LONG, f"the project {name}")
        assert os.listdir(mount / name) == ["one"], name


def scopes(mount):
    return {one["path"]: one for one in mount.status()["scopes"]}


def scope(mount, namespace):
    return scopes(mount)[namespaced(namespace)]


def states(mount):
    return {path: one["state"] for path, one in scopes(mount).items()}


def wait_until_watched(mount, names):
    wanted = {namespaced(name) for name in names}
    wait_for(lambda: {path for path, state in states(mount).items() if state == "watching"} >= wanted,
             LONG, "the watches")


def per_minute(server, names, since, until):
    """namespace -> (requests, whole lists) a minute, of the mount, between two times of the server."""
    requests = [one for one in server.control("GET", "requests")["requests"]
                if since <= one["time"] < until and one["headers"]["user-agent"] != "tests"]
    scale = 60 / (until - since)

    def rates(name):
        mine = [one for one in requests if one["path"] == namespaced(name)]
        whole = [one for one in mine if "watch=true" not in one["query"]
                 and "continue=" not in one["query"]]
        return len(mine) * scale, len(whole) * scale
    return {name: rates(name) for name in names}


class Disorder:
    """A mount that meets every fault at once, with the intervals that people have."""

    def __init__(self, server, start_mount, *arguments):
        self.server = server
        self.watched = ["w-" + kind for kind in WATCHES]
        self.listed = ["l-" + kind for kind in LISTS]
        self.names = self.watched + self.listed
        fill(server, self.names)
        self.mount = start_mount(server, "--context", USER, *arguments)
        look_at(self.mount, [*self.names, HEALTHY])
        wait_until_watched(self.mount, self.names)
        break_watches(server, WATCHES)
        break_lists(server, LISTS)
        list_again(server)
        self.began = time.time()

    def measure(self, seconds, after=10):
        """From `after` seconds on."""
        time.sleep(max(0, self.began + after + seconds - time.time()))
        since = self.began + after
        return per_minute(self.server, [*self.names, HEALTHY], since, time.time())
