"""Faults that don't pass: watches that never work, lists that never do, a server that begs for patience.

Nothing goes, what changes is seen as far as anything works, and the server is asked seldom.
"""

import contextlib
import errno
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

import conftest
import disorder
import pytest
from conftest import wait_for
from disorder import (API, HEALTHY, LISTS, LONG, MANY, PROJECTS, USER, WATCHES, namespaced, scope,
                      states)
from events import Inotify, mask

STREAMS = API + "/imagestreams"
HEALED = 35 + 15  # the longest wait of the program, and what a busy machine adds
COMES_AND_GOES = mask("CREATE|DELETE|DELETE_SELF|MODIFY|MOVED_FROM|MOVED_TO")
NOISY = "watch|refused|rights|server|credentials"


@pytest.fixture
def server(start_server):
    return start_server("--sample", "--user", USER + ":none")


def heal(server):
    server.control("DELETE", "faults")


def request_lines(mount, request):
    return [one for one in mount.errors() if one["request"] == request]


def wait_for_states(mount, names, state):
    def others():
        now = disorder.scopes(mount)
        return {name: now[namespaced(name)] for name in names if now[namespaced(name)]["state"] != state}
    try:
        wait_for(lambda: not others(), 3 * LONG)
    except AssertionError:
        assert not others()


# Watches.


def test_watches_that_never_work(server, start_mount):
    """Of each namespace in another way: lists tell what changes, and a watch that works is taken up."""
    names = ["w-" + kind for kind in WATCHES]
    disorder.fill(server, names)
    disorder.break_watches(server, WATCHES)
    mount = start_mount(server, "--context", USER, "--poll-interval", 2)
    mount.expect(NOISY)
    disorder.look_at(mount, [*names, HEALTHY])
    wait_for_states(mount, names, "polling")
    for name in names:
        server.create(name, "second")
    for name in names:
        wait_for((mount / name / "second").is_dir, LONG, f"the change in {name}")
    for kind, name in zip(WATCHES, names):
        now = scope(mount, name)
        assert now["state"] == "polling" and now["error"], (name, now)
        assert now["ageSeconds"] < LONG
        lines = request_lines(mount, "WATCH " + namespaced(name))
        assert 0 < len(lines) <= 3 and lines[-1]["count"] >= 2, (kind, lines)
    others = disorder.per_minute(server, [HEALTHY], 0, time.time())
    listed = disorder.scopes(mount)[PROJECTS]
    assert listed["state"] == "watching" and scope(mount, HEALTHY)["state"] == "watching"
    assert others and len([one for one in server.control("GET", "requests")["requests"]
                           if one["path"] == namespaced(HEALTHY)]) <= 4
    heal(server)
    disorder.wait_until_watched(mount, names)
    assert not [name for name in names if scope(mount, name)["error"]]
    asked = len(server.control("GET", "requests")["requests"])
    for name in names:
        server.delete(name, "second")
    for name in names:
        wait_for(lambda name=name: os.listdir(mount / name) == ["one"], LONG, f"the end in {name}")
    assert not [one for one in server.control("GET", "requests")["requests"][asked:]
                if "/w-" in one["path"] and one["method"] == "GET" and "watch=true" not in one["query"]]


@pytest.mark.parametrize("kind", WATCHES)
def test_start_without_a_watch(server, start_mount, kind):
    """The mount comes about all the same, at once, and a list shows what changes."""
    server.fault(path="imagestreams$|projects$", watch=True, count=MANY, **WATCHES[kind])
    begin = time.monotonic()
    mount = start_mount(server, "--poll-interval", 1)
    mount.expect(NOISY)
    assert time.monotonic() - begin < LONG / 2
    assert "nginx" in os.listdir(mount / "openshift")
    server.create("dev", "later")
    server.control("POST", "bulk", [{"op": "create-namespace", "name": "later"}])
    wait_for((mount / "dev/later").is_dir, LONG, "the change")
    wait_for((mount / "later").is_dir, LONG, "the namespace")
    assert states(mount)[STREAMS] in ("polling", "waiting", "watching", "listing")


# Lists.


def test_lists_that_never_work(server, start_mount):
    """The last known tree stays, silently; the first list that works shows what is true by then."""
    names = ["l-" + kind for kind in LISTS]
    disorder.fill(server, names)
    mount = start_mount(server, "--context", USER)
    mount.expect(NOISY)
    disorder.look_at(mount, [*names, HEALTHY])
    disorder.wait_until_watched(mount, names)
    inotify = Inotify()
    inotify.add(mount.path, ".", COMES_AND_GOES)
    for name in names:
        inotify.add(mount / name, name, COMES_AND_GOES)
        inotify.add(mount / name / "one", name + "/one", COMES_AND_GOES)
    disorder.break_lists(server, LISTS)
    disorder.list_again(server)
    for name in names:
        server.create(name, "second")
        server.delete(name, "one")
    server.create(HEALTHY, "second")
    wait_for((mount / HEALTHY / "second").is_dir, HEALED, "the change in the healthy one")
    wait_for_states(mount, names, "waiting")
    wait_for(lambda: all(sum(one.get("count", 1) for one in request_lines(
        mount, "LIST " + namespaced(name))) >= 3 for name in names), 2 * LONG, "the third list of each")
    for name in names:
        assert os.listdir(mount / name) == ["one"], name
        assert json.loads((mount / name / "one/metadata.json").read_text())["name"] == "one"
        now = scope(mount, name)
        assert now["error"] and now["listed"], (name, now)
        assert len(request_lines(mount, "LIST " + namespaced(name))) <= 2
    assert not inotify.read()
    heal(server)
    begin = time.monotonic()
    for name in names:
        wait_for(lambda name=name: os.listdir(mount / name) == ["second"],
                 HEALED + begin - time.monotonic(), f"the truth in {name}")
    disorder.wait_until_watched(mount, names)
    assert not [name for name in names if scope(mount, name)["error"]]
    inotify.close()


# How often the server is asked.


def test_requests_are_bounded(server, start_mount):
    everything = disorder.Disorder(server, start_mount)
    everything.mount.expect(NOISY)
    rates = everything.measure(30)
    print("\n".join(f"{name:26} {requests:5.0f} requests, {lists:4.0f} lists a minute"
                    for name, (requests, lists) in sorted(rates.items())))
    # Where a connection that was used before ends without a byte of an answer, libcurl asks once more.
    assert not {name: one for name, one in rates.items()
                if one[0] > 30 or one[1] > (16 if name == "l-cut" else 8)}
    assert rates[HEALTHY] == (0, 0)


PATIENCE = 3  # --request-timeout
BUSY = {f"{code}-{after}": {"status": code, "retryAfter": after}
        for code in (429, 503) for after in (disorder.ENDLESS, 3600, 1, 0)}
BUSY["429-text"] = {"status": 429, "text": "Too many requests, please try again later.\n"}


def test_saves_of_a_busy_server(server, start_mount):
    mount = start_mount(server, "--request-timeout", PATIENCE)
    path = mount / "shop/web/metadata.json"
    for kind, fault in BUSY.items():
        server.reset()
        server.fault(method="PATCH", path="/web$", count=MANY, **fault)
        value = json.loads(path.read_text())
        value["labels"] = {"kind": kind}
        begin = time.monotonic()
        with conftest.fails(errno.EAGAIN):
            path.write_text(json.dumps(value))
        took = time.monotonic() - begin
        sent = [one for one in server.control("GET", "requests")["requests"]
                if one["method"] == "PATCH"]
        assert took < PATIENCE + 3, (kind, took)
        assert 1 <= len(sent) <= 8, (kind, len(sent))
        assert kind in pathlib.Path(f"{path}.rejected").read_text()
    server.reset()
    server.fault(method="PATCH", path="/web$", count=1, status=429, retryAfter=1)
    path.write_text(json.dumps(value))
    assert server.get("shop", "web")["metadata"]["labels"] == value["labels"]


# What .api says.


def metric(mount, path):
    """The states that the metrics have for that scope."""
    lines = (mount / ".api/metrics").read_text().splitlines()
    begin = f'imagestreamfs_scope_state{{path="{path}",state="'
    return [line[len(begin):].split('"')[0] for line in lines
            if line.startswith(begin) and line.endswith(" 1")]


def wait_for_state(mount, path, state, seconds=LONG):
    """Both say so, and why."""
    def is_so():
        now = disorder.scopes(mount).get(path)
        return now and now["state"] == state and metric(mount, path) == [state] and now
    now = wait_for(is_so, seconds, f"the state {state} of {path}")
    assert now["error"], now
    return now


def test_state_polling_and_waiting(server, start_mount):
    mount = start_mount(server)
    mount.expect(NOISY)
    wait_for(lambda: metric(mount, STREAMS) == ["watching"], LONG, "the watch")
    server.fault(path=STREAMS + "$", watch=True, status=405, count=MANY)
    server.control("POST", "drop", {"path": "imagestreams"})
    wait_for_state(mount, STREAMS, "polling")
    server.reset()
    server.fault(path=STREAMS + "$", status=503, text="service unavailable\n", count=MANY)
    threading.Thread(target=refresh, args=(mount,), daemon=True).start()
    assert wait_for_state(mount, STREAMS, "waiting")["error"] == "service unavailable"
    wait_for(lambda: request_lines(mount, "LIST " + STREAMS)[-1].get("count", 1) >= 2, LONG,
             "another failure")
    assert len(request_lines(mount, "LIST " + STREAMS)) == 1
    server.reset()
    wait_for(lambda: metric(mount, STREAMS) == ["watching"], HEALED, "the watch")
    assert metric(mount, PROJECTS) == ["watching"]


def refresh(mount):
    with contextlib.suppress(OSError):
        (mount / ".api/refresh").write_text("now\n")


def test_state_doubted_and_refused(server, start_mount):
    mount = start_mount(server, "--context", "developer", "--confirm-interval", 3)
    mount.expect(NOISY)
    wait_for_state(mount, STREAMS, "refused")  # the cluster's
    assert os.listdir(mount / "prod")
    disorder.wait_until_watched(mount, ["prod"])
    server.control("POST", "grant", {"user": "developer", "namespace": "prod", "rules": [
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}]})
    server.control("POST", "revoke", {"user": "developer", "namespace": "prod", "role": "view"})
    doubted = wait_for_state(mount, namespaced("prod"), "doubted")
    assert "cannot list" in doubted["error"] and doubted["listed"]
    assert os.listdir(mount / "prod")
    refused = wait_for_state(mount, namespaced("prod"), "refused")
    assert "cannot list" in refused["error"] and not refused["listed"]
    lines = request_lines(mount, "LIST " + namespaced("prod"))
    assert len(lines) == 1 and lines[0]["count"] >= 3 and lines[0]["code"] == 403

    def is_closed():
        try:
            os.listdir(mount / "prod")
            return False
        except PermissionError:
            return True
    wait_for(is_closed, LONG, "the end of its streams")
    server.control("POST", "grant", {"user": "developer", "namespace": "prod", "role": "view"})
    wait_for(lambda: states(mount)[namespaced("prod")] == "watching", LONG, "the watch")
    wait_for(lambda: not is_closed(), LONG, "the streams")


def test_state_rollback(server, start_mount):
    mount = start_mount(server)
    mount.expect(NOISY)
    server.control("POST", "snapshot", {})
    server.create("dev", "late")
    wait_for((mount / "dev/late").is_dir, LONG, "the newest state")
    done = server.control("GET", "state")["restart"]["done"]
    server.control("POST", "restart", {"style": "rollback", "uids": "kept"})

    def over():
        try:
            return server.control("GET", "state")["restart"]["done"] > done
        except OSError:
            return False
    wait_for(over, LONG, "the restart")
    server.fault(path=STREAMS + "$", watch=False, delay=0, count=1)
    server.fault(path=STREAMS + "$", watch=False, delay=2, count=1)  # the list that confirms it
    threading.Thread(target=refresh, args=(mount,), daemon=True).start()
    seen = wait_for_state(mount, STREAMS, "rollback seen")
    assert "once more" in seen["error"] and (mount / "dev/late").is_dir()
    wait_for(lambda: not (mount / "dev/late").exists(), LONG, "the older state")
    assert [one for one in request_lines(mount, "LIST " + STREAMS)
            if "went back from version" in one["message"]]
    wait_for(lambda: metric(mount, STREAMS) == ["watching"], LONG, "the watch")


# The start.


WAITED = {
    "discovery-503": {"path": API + "$", "status": 503, "text": "service unavailable\n"},
    "discovery-429": {"path": API + "$", "status": 429, "retryAfter": 1},
    "discovery-anonymous": {"path": API + "$", "status": 403,
                            "message": 'forbidden: User "system:anonymous" cannot get path "/apis"'},
    "discovery-for-ever": {"path": API + "$", "status": 503, "retryAfter": disorder.ENDLESS},
    "list-503": {"path": STREAMS + "$", "watch": False, "status": 503},
    "list-429": {"path": STREAMS + "$", "watch": False, "status": 429, "retryAfter": 2},
    "list-anonymous": {"path": STREAMS + "$", "watch": False, "status": 403,
                       "message": disorder.ANONYMOUS},
    "list-refused-though-allowed": {"path": STREAMS + "$", "watch": False, "status": 403},
    "list-html": {"path": STREAMS + "$", "watch": False, **disorder.HTML},
    "list-cut": {"path": STREAMS + "$", "watch": False, "cutAfter": 300},
    "projects-503": {"path": PROJECTS + "$", "watch": False, "status": 503},
    "projects-html": {"path": PROJECTS + "$", "watch": False, "status": 502, **disorder.HTML},
    "watch-html": {"watch": True, **disorder.HTML},
}


@pytest.mark.parametrize("kind", WAITED)
def test_start_waits(server, start_mount, kind):
    """Three times, and then all is well: so is the mount."""
    server.fault(count=3, **WAITED[kind])
    mount = start_mount(server)
    mount.expect(NOISY)
    assert "nginx" in os.listdir(mount / "openshift")


def start(directory, server, *arguments, **options):
    place = directory / f"start-{time.monotonic_ns()}"
    place.mkdir()
    return subprocess.Popen([conftest.PROGRAM, "--kubeconfig", server.kubeconfig, *arguments, place],
                            stderr=subprocess.PIPE, text=True, **options), place


WRONG = {
    "credentials": (("--token", "wrong"), "nauthorized|credentials"),
    "selector": (("-l", "a=b=c"), "parse requirement|selector"),
    "host": (("-s", "https://no-such-host.invalid:6443"), "no-such-host.invalid"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_start_ends_at_once(server, directory, kind):
    arguments, said = WRONG[kind]
    begin = time.monotonic()
    process, place = start(directory, server, *arguments)
    error = process.communicate(timeout=LONG)[1]
    assert time.monotonic() - begin < 20, "it waited"
    assert process.returncode and len(error.splitlines()) == 1, error
    assert any(one in error for one in said.split("|")), error
    assert not conftest.is_mounted(place)


def test_start_waits_not_for_ever(server, directory):
    """30 s at least, whatever --request-timeout says, and then one line."""
    server.fault(path=STREAMS + "$", watch=False, status=503, text="service unavailable\n", count=MANY)
    begin = time.monotonic()
    process, place = start(directory, server, "--request-timeout", "1")
    error = process.communicate(timeout=2 * LONG)[1]
    assert 28 < time.monotonic() - begin < 30 + LONG / 2
    assert process.returncode and len(error.splitlines()) == 1 and "service unavailable" in error
    assert not conftest.is_mounted(place)
    lists = [one for one in server.control("GET", "requests")["requests"] if one["path"] == STREAMS]
    assert 4 <= len(lists) <= 12, len(lists)


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("phase", ["discovery", "list"])
@pytest.mark.parametrize("place", ["foreground", "background"])
def test_a_start_that_waits_can_be_ended(server, directory, place, phase, sig):
    """All of it: also the process that would have gone on in the background."""
    path = (API if phase == "discovery" else STREAMS) + "$"
    server.fault(path=path, status=503, count=MANY)
    process, mountpoint = start(directory, server, *(["-f"] if place == "foreground" else []))
    wait_for(lambda: len([one for one in server.control("GET", "requests")["requests"]
                          if one["path"] == path[:-1]]) >= 2, LONG, "the second try")
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    begin = time.monotonic()
    process.send_signal(sig)
    process.communicate(timeout=LONG)
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in children), LONG,
             "the end of the other")
    assert time.monotonic() - begin < 2 + 3
    assert process.returncode and not conftest.is_mounted(mountpoint)
