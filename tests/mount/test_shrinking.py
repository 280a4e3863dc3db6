"""What is covered by a list of the cluster becomes less, and more again; and how much of it there may be."""

import errno
import json
import multiprocessing.pool
import os
import resource
import time

import disorder
import pytest
from conftest import fails, wait_for
from disorder import API, LONG, PROJECTS, USER, namespaced, states
from events import Inotify, mask
from test_machine import limits

STREAMS = API + "/imagestreams"
QUICKLY = ("--confirm-interval", 1)
READ = ["get", "list", "watch"]
NOISY = "watch|refused|rights|server|events"


@pytest.fixture
def server(start_server):
    return start_server("--sample", "--user", USER + ":none")


def rule(verbs, names=(), resource="imagestreams", group="image.openshift.io"):
    return {"apiGroups": [group], "resources": [resource], "verbs": verbs, "resourceNames": list(names)}


LISTED = rule(["get"], resource="namespaces", group="")


def grant(server, namespace, *rules, role=None):
    what = {"role": role} if role else {"rules": list(rules)}
    server.control("POST", "grant", {"user": USER, "namespace": namespace, **what})


def revoke(server, namespace, role=None):
    server.control("POST", "revoke", {"user": USER, "namespace": namespace,
                                      **({"role": role} if role else {})})


def walk(top):
    """path -> bytes"""
    found = {}
    for place, _, names in os.walk(top):
        for name in names:
            path = os.path.join(place, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, top)] = file.read()
    return found


def is_there(path):
    try:
        return bool(os.stat(path))
    except (FileNotFoundError, PermissionError):
        return False


def watches(server, namespace):
    return [one for one in server.control("GET", "requests")["requests"]
            if one["path"] == namespaced(namespace) and "watch=true" in one["query"]]


# Names.


def test_names_that_were_missing_are_found(server, start_mount):
    """While one watch covered the cluster the kernel kept them as missing without an end."""
    grant(server, "", role="view")
    grant(server, "shop", role="edit")
    grant(server, "prod", rule(["get", "watch"]))
    mount = start_mount(server, "--context", USER, *QUICKLY)
    mount.expect(NOISY)
    wait_for(lambda: states(mount)[STREAMS] == "watching", LONG, "the watch")
    missing = [mount / name for name in ("unlisted", "shop/later", "prod/later")]
    for _ in range(2):
        assert not [path for path in missing if path.exists()]
    revoke(server, "", "view")
    wait_for(lambda: states(mount)[STREAMS] == "refused", LONG, "the loss")
    wait_for(lambda: not is_there(mount / "dev"), LONG, "the end of the others")
    server.control("POST", "bulk", [{"op": "create-namespace", "name": "unlisted"}])
    grant(server, "unlisted", rule(READ))
    for name in ("unlisted", "shop", "prod"):
        server.create(name, "later")
    for path in missing:
        wait_for(path.is_dir, LONG, path)
        assert is_there(path / "later/spec.json" if path.name == "unlisted" else path / "spec.json")
    with fails(errno.EACCES):
        os.listdir(mount / "prod")
    assert "unlisted" not in os.listdir(mount.path)


def test_list_is_lost_and_get_is_left(server, start_mount):
    """What was listed is readable by name, and true; the list that returns brings all of it back."""
    grant(server, "shop", LISTED, rule(["get", "watch"]))
    grant(server, "shop", role="view")
    mount = start_mount(server, "--context", USER, *QUICKLY)
    mount.expect(NOISY)
    assert {"web", "api"} <= set(os.listdir(mount / "shop"))
    disorder.wait_until_watched(mount, ["shop"])
    before = walk(mount / "shop")
    revoke(server, "shop", "view")

    def refused():
        try:
            return os.listdir(mount / "shop") is None
        except PermissionError:
            return True
    wait_for(refused, LONG, "the loss of the list")
    path = namespaced("shop") + "/web"

    def by_name():
        """The review may take the right away before the list is lost: until then web is one of the list's."""
        return is_there(mount / "shop/web/metadata.json") and states(mount).get(path) == "watching"
    wait_for(by_name, LONG, "the watch of one")
    assert json.loads((mount / "shop/web/metadata.json").read_text())["name"] == "web"
    assert "fieldSelector=metadata.name%3Dweb" in watches(server, "shop")[-1]["query"]
    server.label("shop", "web", seen="yes")
    wait_for(lambda: '"seen"' in (mount / "shop/web/metadata.json").read_text(), LONG, "the change")
    server.control("POST", "bulk", [{"op": "touch-label", "namespace": "shop", "name": "api"}])
    assert is_there(mount / "shop/api/spec.json") and not is_there(mount / "shop/no-such-stream")
    grant(server, "shop", role="view")
    wait_for(lambda: not refused(), LONG, "the list")
    wait_for(lambda: set(walk(mount / "shop")) == set(before), LONG, "all of it")
    wait_for(lambda: path not in states(mount), LONG, "the end of the watch of one")


# What only our rights took away.


def test_nothing_of_it_is_buried(server, start_mount):
    """The same versions are there again: of the cluster, and of a namespace that nobody lists."""
    grant(server, "", role="view")
    grant(server, "prod", rule(READ))
    mount = start_mount(server, "--context", USER, *QUICKLY)
    mount.expect(NOISY)
    before = walk(mount.path)
    revoke(server, "", "view")
    wait_for(lambda: not os.listdir(mount.path), LONG, "the end of what is listed")
    assert not is_there(mount / "shop")
    assert os.listdir(mount / "prod")  # though no list names it
    revoke(server, "prod")
    stream = next(path for path in before if path.startswith("prod/")).split("/")[1]
    wait_for(lambda: not is_there(mount / "prod" / stream), LONG, "the end of it")
    grant(server, "prod", rule(READ))
    wait_for(lambda: is_there(mount / "prod" / stream), LONG, "its return")
    theirs = {path[5:]: text for path, text in before.items() if path.startswith("prod/")}
    wait_for(lambda: walk(mount / "prod") == theirs, LONG, "the list's return")
    grant(server, "", role="view")
    wait_for(lambda: states(mount)[STREAMS] == "watching", LONG, "the watch of the cluster")
    wait_for(lambda: set(walk(mount.path)) == set(before), LONG, "all of it")
    assert walk(mount.path) == before


def test_namespace_that_is_found_by_name_goes_and_comes(server, start_mount):
    grant(server, "monitoring", rule(READ))
    mount = start_mount(server, "--context", USER, *QUICKLY)
    mount.expect(NOISY)
    stream = os.listdir(mount / "monitoring")[0]
    before = walk(mount / "monitoring")
    number = len(states(mount))
    for _ in range(2):
        revoke(server, "monitoring")
        wait_for(lambda: not is_there(mount / "monitoring" / stream), LONG, "its end")
        assert not is_there(mount / "monitoring" / stream)
        grant(server, "monitoring", rule(READ))
        wait_for(lambda: is_there(mount / "monitoring" / stream), LONG, "its return")
        wait_for(lambda: walk(mount / "monitoring") == before, LONG, "the list's return")
    assert len(states(mount)) == number
    server.label("monitoring", stream, seen="yes")
    wait_for(lambda: '"seen"' in (mount / "monitoring" / stream / "metadata.json").read_text(), LONG,
             "the change")


# Many.

PROJECTS_AT_ALL, AT_ONCE = 300, 50


def descriptors(mount):
    return len(os.listdir(f"/proc/{mount.process.pid}/fd"))


def come(server, mount, names):
    server.control("POST", "bulk", [{"op": "create-namespace", "name": name} for name in names])
    for name in names:
        server.create(name, "one")
        server.control("POST", "grant", {"user": USER, "namespace": name, "role": "edit",
                                         "wait": False})
    wait_for(lambda: set(names) <= set(os.listdir(mount.path)), LONG, "the projects")
    for name in names:
        assert os.listdir(mount / name) == ["one"]


def go(server, mount, names):
    server.control("POST", "bulk", [{"op": "delete-namespace", "name": name} for name in names])
    wait_for(lambda: not set(names) & set(os.listdir(mount.path)), LONG, "their end")


def test_projects_that_come_and_go_leave_nothing(server, start_mount):
    grant(server, "shop", role="edit")
    mount = start_mount(server, "--context", USER, *QUICKLY)
    mount.expect(NOISY)
    assert os.listdir(mount / "shop")
    disorder.wait_until_watched(mount, ["shop"])
    before, used = set(states(mount)), descriptors(mount)
    for first in range(0, PROJECTS_AT_ALL, AT_ONCE):
        names = [f"come-{number}" for number in range(first, first + AT_ONCE)]
        come(server, mount, names)
        go(server, mount, names)
    wait_for(lambda: set(states(mount)) == before, LONG, "the end of their scopes")
    wait_for(lambda: descriptors(mount) <= used + 20, LONG, "the end of their connections")
    begin = len(server.control("GET", "requests")["requests"])
    since = time.time()
    time.sleep(10)
    asked = [one["path"] for one in server.control("GET", "requests")["requests"][begin - 1:]
             if one["time"] > since and one["headers"]["user-agent"] != "tests"]
    assert not [path for path in asked if "come-" in path]
    assert len(asked) < 20  # shop's rights every 2 s, and the projects
    assert (mount / "shop/web/spec.json").exists()


# "1200:1024" is the size that has to work; it takes a while.
SIZE = os.environ.get("NAMESPACES", "300:256")


def test_more_namespaces_than_descriptors(start_server, start_mount):
    """Each is read, and followed: what finds no room for a watch says so and is listed from time to time."""
    number, limit = map(int, SIZE.split(":"))
    patience = LONG + number // 4
    server = start_server("--sample", "--streams", number, "--tags", 1, "--namespaces", number,
                          "--user", USER + ":none")
    names = sorted(one["metadata"]["name"] for one in server.request("GET", PROJECTS)["items"]
                   if one["metadata"]["name"].startswith("ns-"))
    assert len(names) == number
    for name in names:
        server.control("POST", "grant", {"user": USER, "namespace": name, "role": "edit",
                                         "wait": False})
    mount = start_mount(server, "--context", USER, "--poll-interval", 5,
                        "--request-timeout", "60s", prefix=limits(nofile=limit))
    mount.expect(NOISY)
    wait_for(lambda: set(os.listdir(mount.path)) >= set(names), patience, "the projects")
    with multiprocessing.pool.ThreadPool(16) as pool:
        streams = dict(zip(names, pool.map(lambda name: os.listdir(mount / name), names)))
    assert all(len(one) == 1 for one in streams.values())

    def settled():
        now = [one for one in mount.status()["scopes"] if "/ns-" in one["path"]]
        return {one["state"] for one in now} == {"polling", "watching"} and now
    scopes = wait_for(settled, patience, "watches, and polls")
    polled = [one for one in scopes if one["state"] == "polling"]
    assert {one["error"] for one in polled} == {"no descriptor is left here for its watch"}
    watched = number - len(polled)
    print(f"{number} namespaces, {limit} descriptors: {watched} watches, {len(polled)} polled")
    assert watched > limit / 4
    assert resource.prlimit(mount.process.pid, resource.RLIMIT_NOFILE) == (limit, limit)
    inotify = Inotify()
    for name in names:
        inotify.add(mount / name / streams[name][0] / "metadata.json", name, mask("MODIFY"))
        os.stat(mount / name / streams[name][0] / "metadata.json")
    server.control("POST", "bulk", {"modify": {"match": "", "namespace": "", "change": "label"}})
    seen, end = set(), time.monotonic() + patience
    while len(seen) < number and time.monotonic() < end:
        seen |= {event[0] for event in inotify.take(1, 1)}
    assert len(seen) == number
    print(f"all changes seen after {patience - (end - time.monotonic()):.1f} s")
    for name in (polled[0]["path"].split("/")[5], polled[-1]["path"].split("/")[5], names[0]):
        path = mount / name / streams[name][0] / "metadata.json"
        value = json.loads(path.read_text())
        value["labels"]["saved"] = "yes"
        path.write_text(json.dumps(value))
        assert server.get(name, streams[name][0])["metadata"]["labels"]["saved"] == "yes"
    assert mount.status()["events"]["state"] == "announced"
    assert descriptors(mount) < limit
