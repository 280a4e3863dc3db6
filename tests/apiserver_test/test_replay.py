"""Replays the recorded exchanges, one test a recording."""

import os
import re

import pytest

import copying  # noqa: F401: its functions are in SPECIAL
import replay
import seeds
import transcript
from special import SPECIAL

pytestmark = pytest.mark.xdist_group("replay")  # one server, which each test leaves in some state

# Recordings that aren't compared, and why. README.md has the list, too.
NOT_COMPARED = {
    "00-discovery-api-v1-kube": "only namespaces and secrets of the core group are served",
    "20-get-protobuf": "protobuf isn't spoken: the answer is 406",
    "c1-apiservice-while-down": "apiregistration.k8s.io isn't served",
    "c1-sigterm-window-openshift-apiserver": "a log, not an exchange",
    "c3-sigterm-window-kube-apiserver": "a log, not an exchange",
    "c3-startup-sequence": "a log, not an exchange",
    "e0-oc-session": "a terminal session; its calls are those of d0 to d4",
    "f0-scale": "a table of timings",
    "g1-timeline-etcd-and-all": "a log; test_server_restarts.py holds the phases to the order of these",
    "g1-timeline-kas-admin": "a log",
    "g1-timeline-kas-dev": "a log",
    "g1-timeline-oas": "a log",
    "m1-http2": "HTTP/2 isn't spoken",
}


def exchanges():
    return [name for name, one in transcript.load_all().items()
            if one.method is not None and not one.is_watch and name not in NOT_COMPARED]


# Sessions of several requests, each with its own tests.
ELSEWHERE = {"j2-oc-tag-and-import-requests"}


@pytest.fixture(scope="module")
def server(start_server):
    return start_server("--deletion-delay", "0.2", "--import-fail", ":nosuch$",
                        "--project-delay", "0.3")


@pytest.mark.parametrize("name", exchanges())
def test_exchange(server, name):
    one = transcript.load_all()[name]
    if name in SPECIAL:
        SPECIAL[name](server, one)
    else:
        replay.check(server, one, replay.seed(server, one, seeds.streams_for(one)))


def watch_names():
    return [name for name, one in transcript.load_all().items()
            if one.method is not None and one.is_watch]


@pytest.fixture(scope="module")
def importing(start_server):
    """A server with the import controller."""
    return start_server("--import-controller", "--import-fail", ":nosuch$",
                        "--import-unreachable", "^127.0.0.1:1/")


@pytest.fixture(scope="module")
def patient(start_server):
    """A server that keeps deleted projects for longer than a watch lasts."""
    return start_server("--deletion-delay", "60")


@pytest.mark.parametrize("name", watch_names())
def test_watch(request, name):
    if name in SPECIAL:
        SPECIAL[name](request.getfixturevalue("server"), transcript.load_all()[name])
        return
    other = "importing" if name in ("d0-watch", "d1-watch") else \
        "patient" if name.startswith("b3") else "server"
    replay.check_watch(request.getfixturevalue(other), transcript.load_all()[name])


@pytest.mark.parametrize("name", NOT_COMPARED)
def test_not_compared(name):
    pytest.skip(NOT_COMPARED[name])


def test_readme_names_what_is_not_compared():
    with open(os.path.join(os.path.dirname(__file__), "README.md"), encoding="utf-8") as file:
        text = file.read()
    table = text.partition("Not compared at all")[2]
    rows = re.findall(r"^\| (\S+) \| (.+) \|$", table, re.M)
    assert dict(rows[1:]) == NOT_COMPARED
    known = set(exchanges()) | set(watch_names()) | set(NOT_COMPARED) | ELSEWHERE
    assert known == set(transcript.load_all())
