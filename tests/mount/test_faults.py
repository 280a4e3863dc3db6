"""The server fails: the last known tree stays readable, and changes arrive again by themselves."""

import json
import threading

import pytest

from conftest import wait_for
from stopwatch import Stopwatch

FAULTS = {
    "500": {"status": 500}, "503": {"status": 503, "text": "the pod is away"},
    "429": {"status": 429, "text": "slow down", "retryAfter": 1}, "401": {"status": 401},
    "404": {"status": 404}, "410": {"status": 410}, "delay": {"delay": 0.5},
    "hang": {"hang": 1}, "cutAfter": {"cutAfter": 30}, "cutInEvent": {"cutInEvent": True},
    "slow": {"slow": {"bytes": 64, "delay": 0.01}},
}
STREAMS = "/apis/image.openshift.io/v1/imagestreams$"
NAMED = ("500", "503", "429", "401", "410")


class Reader(threading.Thread):
    """Reads files of a stream that doesn't change, again and again."""

    def __init__(self, top):
        super().__init__(daemon=True)
        self.files = [top / name for name in ("imagestream.json", "spec.json", "status.json")]
        self.end = threading.Event()
        self.slowest, self.problems, self.rounds = 0, [], 0

    def run(self):
        while not self.end.is_set():
            for path in self.files:
                watch = Stopwatch()
                try:
                    json.loads(path.read_text())
                except (OSError, ValueError) as error:
                    self.problems.append(repr(error))
                self.slowest = max(self.slowest, watch.seconds())
            self.rounds += 1
            self.end.wait(0.005)


@pytest.fixture
def reader(mount):
    thread = Reader(mount / "openshift/nginx")
    thread.start()
    yield thread
    thread.end.set()
    thread.join(5)
    assert not thread.is_alive() and thread.rounds
    assert not thread.problems
    assert thread.slowest < 1


def wait_for_watches(server):
    wait_for(lambda: server.control("GET", "state")["watches"] >= 2, 10, "the watches")


def comes_back(server, mount):
    server.create("dev", "afterwards")
    wait_for((mount / "dev/afterwards").is_dir, 12, "the change after the fault")


@pytest.mark.parametrize("where", ["watch", "list"])
@pytest.mark.parametrize("kind", FAULTS)
def test_fault(server, mount, reader, kind, where):
    if where == "list" and kind == "cutInEvent":
        pytest.skip("a list has no events")
    wait_for_watches(server)
    server.fault(path=STREAMS, watch=where == "watch", count=1, **FAULTS[kind])
    if where == "list":
        server.create("dev", "forgotten")
        server.control("POST", "compact", {"style": "status"})
    server.control("POST", "drop", {"path": "imagestreams"})
    comes_back(server, mount)
    if kind in NAMED:
        assert int(kind) in [one["code"] for one in mount.errors()]
        assert mount.status()["lastError"]


def item(name, uid="u", **more):
    return json.dumps({"metadata": {"name": name, "namespace": "dev", "uid": uid,
                                    "resourceVersion": "7", **more}})


def list_again(server, text):
    """The next list of the streams is that text."""
    wait_for_watches(server)
    server.fault(path=STREAMS, watch=False, count=1, status=200, text=text)
    server.control("POST", "compact", {"style": "status"})
    server.control("POST", "drop", {"path": "imagestreams"})


HEAD = '{"kind":"ImageStreamList","metadata":{"resourceVersion":"99999999"},'
NO_LIST = {
    "nothing": "", "text": "the pod is away", "array": "[]", "object": "{}", "no items": HEAD + '"x":1}',
    "items": HEAD + '"items":{}}', "cut": HEAD + '"items":[' + item("one"),
    "cut item": HEAD + '"items":[' + item("one")[:-1] + "]}",
    "comma": HEAD + '"items":[' + item("one") + item("two") + "]}",
    "bad item": HEAD + '"items":[' + item("one") + "," + item("two")[:-1] + ',"a":01}]}',
    "metadata": '{"metadata":{"resourceVersion":9 9},"items":[]}',
    "more": HEAD + '"items":[]}x',
}


@pytest.mark.parametrize("kind", NO_LIST)
def test_no_list(server, mount, reader, kind):
    """Nothing goes by an answer that is no list, and the next one is asked for."""
    list_again(server, NO_LIST[kind])
    wait_for(lambda: [one for one in mount.errors() if one["message"].startswith("the answer is no list: ")],
             10, "the failure")
    comes_back(server, mount)


@pytest.mark.parametrize("items", ["null", "[]", " [ ] "])
def test_empty_list(server, mount, items):
    list_again(server, HEAD + '"items":' + items + "}")
    wait_for(lambda: not (mount / "openshift/nginx").exists(), 10, "the empty list")
    assert not mount.errors() or not mount.errors()[-1]["message"].startswith("the answer is no list")


def test_items_among_others(server, mount):
    """What is no ImageStream is left out; white space and the order of things don't matter."""
    list_again(server, '{"items" : [ ' + ", ".join([
        item("one"), "1", '"x"', "{}", "[]", item("two", uid="v", managedFields=[{"a": 1}])]) +
        ' ], "metadata": {"resourceVersion": "99999999"} }\n')
    wait_for((mount / "dev/two").is_dir, 10, "the list")
    assert (mount / "dev/one").is_dir()
    assert "managedFields" not in (mount / "dev/two/imagestream.json").read_text()
    assert [one for one in mount.errors() if one["message"].startswith("4 of 6 items are left out")]


@pytest.mark.parametrize("seconds", [0, 2])
def test_server_away(server, mount, reader, seconds):
    wait_for_watches(server)
    server.control("POST", "restart", {"seconds": seconds})
    wait_for(mount.errors, 10, "the failure")

    def back():
        try:
            return server.control("GET", "state")
        except OSError:
            return None

    wait_for(back, 10, "the server")
    comes_back(server, mount)
