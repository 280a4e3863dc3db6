"""A server that restarts, is rolled back or has several heads; rights that truly go.

Nothing goes because something failed: through every restart all names stay, no event is raised, and
what is listed stays listed.
"""

import json
import os
import threading
import time

import pytest

from conftest import wait_for
from events import Inotify, mask

BACK_OFF = 35  # the longest back-off and its jitter
START = 60  # of a mount and its watches, on a busy machine
IMAGES = "/apis/image.openshift.io/v1"
CHANGES = mask("MODIFY|ATTRIB|CLOSE_WRITE|MOVED_FROM|MOVED_TO|CREATE|DELETE|DELETE_SELF")
NOISY = "watch|refused|rights|server"  # what the program may say of all this


def restart(server, style, **more):
    """Returns when the restart is over."""
    before = server.control("GET", "state")["restart"]["done"]
    seconds = server.control("POST", "restart", {"style": style, **more})["seconds"]

    def over():
        try:
            return server.control("GET", "state")["restart"]["done"] > before
        except OSError:
            return False
    wait_for(over, seconds + START, "the end of the restart")


def directories(top):
    """Those of namespaces, streams and tags, below the top."""
    return sorted(os.path.relpath(place, top) for place, _, _ in os.walk(top))


class Watcher(threading.Thread):
    """Looks at every directory again and again, and at the state of the scopes."""

    def __init__(self, mount):
        super().__init__(daemon=True)
        self.mount = mount
        self.places = directories(mount.path)
        self.missing, self.unlisted = set(), set()
        self.rounds = 0
        self.end = threading.Event()
        self.inotify = Inotify()
        for place in self.places:
            self.inotify.add(mount / place, place, CHANGES)

    def run(self):
        lists = {parent: {os.path.basename(place) for place in self.places
                          if place != "." and (os.path.dirname(place) or ".") == parent}
                 for parent in self.places}
        scopes = listed(self.mount)
        while not self.end.is_set():
            for place in self.places:
                try:
                    os.stat(self.mount / place)
                    if lists[place]:
                        self.missing |= {f"{place}/{name}" for name in lists[place].difference(
                            os.listdir(self.mount / place))}
                except OSError as error:
                    self.missing.add(f"{place}: {error.strerror}")
            self.unlisted |= scopes - listed(self.mount)
            self.rounds += 1
            self.end.wait(0.005)

    def stop(self):
        self.end.set()
        self.join(START)
        assert not self.is_alive() and self.rounds

    def problems(self, place):
        """What was missing, and the events but for one change of metadata in that place."""
        changed = {"metadata.json", "imagestream.json", "imagestream.yaml"}
        once = [(place, name, flag) for name in changed for flag in ("MODIFY", "CLOSE_WRITE")]
        unexpected = []
        for event in self.inotify.read():
            if event in once:
                once.remove(event)
            else:
                unexpected.append(event)
        deleted = [event for event in unexpected if "DELETE" in event[2]]
        return {key: value for key, value in {
            "missing for a while": sorted(self.missing),
            "not listed for a while": sorted(self.unlisted), "DELETE events": len(deleted),
            "unexpected events": unexpected[:20], "events that didn't come": once}.items() if value}


def listed(mount):
    return {scope["path"] for scope in mount.status()["scopes"] if scope["listed"]}


def state_of(mount, path):
    return {scope["path"]: scope["state"] for scope in mount.status()["scopes"]}.get(path)


def widest(mount):
    """The scopes that hold streams and are watched at the start."""
    return {scope["path"] for scope in mount.status()["scopes"]
            if scope["state"] == "watching" and scope["path"].endswith("/imagestreams")}


def start_watched(server, start_mount, context, scopes, *arguments):
    """A mount that was walked once and watches what it can; it may say what it went through."""
    mount = start_mount(server, "--context", context, *arguments)
    mount.expect(NOISY)
    directories(mount.path)
    wait_for(lambda: widest(mount) == scopes, START, f"the watches of {context}")
    return mount


ADMINS = {IMAGES + "/imagestreams"}
DEVELOPERS = {f"{IMAGES}/namespaces/{name}/imagestreams" for name in ("dev", "prod")}
RESTARTS = {
    "aggregated": {"style": "aggregated"},
    "aggregated-slow": {"style": "aggregated", "factor": 3},
    "aggregated-noticed": {"style": "aggregated", "noticed": True},
    "main": {"style": "main"},
    "main-slow": {"style": "main", "factor": 3},
    "etcd-frozen": {"style": "etcd", "kind": "frozen", "factor": 0.8},
    "etcd-killed": {"style": "etcd", "kind": "killed"},
}


@pytest.mark.parametrize("name", RESTARTS)
def test_nothing_goes_through(server, start_mount, name):
    mounts = {context: start_watched(server, start_mount, context, scopes)
              for context, scopes in (("admin", ADMINS), ("developer", DEVELOPERS))}
    wait_for(lambda: knows_rights(mounts["developer"]), START, "the rights")
    for mount in mounts.values():
        refresh(mount)  # and what that changed is announced
    stream = os.listdir(mounts["developer"] / "dev")[0]
    watchers = [Watcher(mount) for mount in mounts.values()]
    for watcher in watchers:
        watcher.start()
    problems = []
    try:
        go_through(server, mounts, name, stream)
    except AssertionError as error:
        problems.append(str(error).partition("\n")[0])
    for watcher in watchers:
        watcher.stop()
        found = watcher.problems(f"dev/{stream}")
        problems += [f"{key}: {value}" for key, value in found.items()]
    assert not problems, "\n".join(problems)


def knows_rights(mount):
    """A developer's: what may not be saved in dev and prod has no w any more."""
    files = [path for name in ("dev", "prod") for path in mount.path.glob(name + "/*/status.json")]
    files += mount.path.glob("prod/*/spec.json")
    return files and not any(os.stat(path).st_mode & 0o222 for path in files)


def go_through(server, mounts, name, stream):
    """The restart, a change right after it, and what must be so then."""
    if name.startswith("etcd"):
        # Its watches stay open, so that the program would notice nothing.
        for mount in mounts.values():
            threading.Thread(target=refresh, args=(mount,), daemon=True).start()
    restart(server, **RESTARTS[name])
    label_when_possible(server, "dev", stream, after=name)
    began = time.monotonic()
    for mount in mounts.values():
        path = mount / "dev" / stream / "metadata.json"
        wait_for(lambda path=path: f'"{name}"' in text_of(path),
                 BACK_OFF + began - time.monotonic(), "the change")
    print(f"seen after {time.monotonic() - began:.1f} s")
    for mount, scopes in zip(mounts.values(), (ADMINS, DEVELOPERS)):
        wait_for(lambda mount=mount, scopes=scopes: widest(mount) >= scopes, BACK_OFF,
                 "the watches' return")


def text_of(path):
    try:
        return path.read_text()
    except OSError as error:
        return str(error)


def refresh(mount):
    with open(mount / ".api/refresh", "w", encoding="utf-8") as file:
        file.write("now\n")


def label_when_possible(server, namespace, name, **labels):
    def done():
        try:
            return server.label(namespace, name, **labels)
        except OSError:
            return None
    return wait_for(done, START, "the change itself")


# Versions that go back.


def tree_of_server(server, namespaces):
    return {f"{namespace}/{item['metadata']['name']}": item["metadata"]
            for namespace in namespaces
            for item in server.request("GET", server.streams(namespace))["items"]}


def tree_of_mount(mount, namespaces):
    found = {}
    for namespace in namespaces:
        for name in os.listdir(mount / namespace):
            text = (mount / namespace / name / "metadata.json").read_text()
            found[f"{namespace}/{name}"] = json.loads(text)
    return found


def same_tree(server, mount, namespaces):
    """By name, uid and labels."""
    def short(tree):
        return {path: (meta["uid"], meta.get("labels")) for path, meta in tree.items()}
    try:
        return short(tree_of_mount(mount, namespaces)) == short(tree_of_server(server, namespaces))
    except OSError:
        return False  # between a listing and the reading of it


@pytest.mark.parametrize("uids", ["new", "kept"])
def test_rollback(server, start_mount, uids):
    """The mount ends up with what the server has: what is gone goes, what was gone is back."""
    namespaces = ("shop", "dev")
    mount = start_watched(server, start_mount, "admin", ADMINS)
    gone, changed = sorted(os.listdir(mount / "shop"))[:2]
    server.label("shop", changed, state="old")
    server.control("POST", "snapshot", {})
    server.delete("shop", gone)
    server.create("shop", "late")
    server.label("shop", changed, state="new")
    wait_for(lambda: same_tree(server, mount, namespaces), START, "the newest state")
    inodes = {path: os.stat(mount / path).st_ino for path in tree_of_server(server, namespaces)}
    restart(server, "rollback", uids=uids)
    # Nothing tells of it: a watch from a version that is yet to come is silent. People would.
    refresh(mount)
    wait_for(lambda: same_tree(server, mount, namespaces), 2 * BACK_OFF, "the older state")
    assert not (mount / "shop/late").exists() and (mount / "shop" / gone).exists()
    assert json.loads((mount / "shop" / changed / "metadata.json").read_text())["labels"][
        "state"] == "old"
    for path, old in inodes.items():
        if path != "shop/late":
            assert (os.stat(mount / path).st_ino == old) == (uids == "kept"), path
    # From here on all is as ever.
    server.label("shop", changed, state="later")
    wait_for(lambda: same_tree(server, mount, namespaces), BACK_OFF, "a change after it")
    server.delete("shop", gone)
    wait_for(lambda: not (mount / "shop" / gone).exists(), BACK_OFF, "a deletion after it")


# Several API servers behind one address.

LAG = 1
ROUNDS = 12


class NeverBack(threading.Thread):
    """Reads a counter in a label again and again; it never goes back."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path = path
        self.seen = []
        self.end = threading.Event()

    def run(self):
        while not self.end.is_set():
            number = int(json.loads(self.path.read_text())["labels"].get("number", 0))
            if not self.seen or self.seen[-1] != number:
                self.seen.append(number)
            self.end.wait(0.002)

    def check(self):
        self.end.set()
        self.join(START)
        assert not self.is_alive() and self.seen == sorted(self.seen), self.seen


def save_number(path, number):
    value = json.loads(path.read_text())
    value.setdefault("labels", {})["number"] = str(number)
    path.write_text(json.dumps(value, indent=2) + "\n")


def modified(inotify, place, seconds):
    """Waits for a change of the metadata there; whether it came."""
    return inotify.until(lambda event: event == (place, "metadata.json", "CLOSE_WRITE"), seconds)


def test_several_servers(start_server, start_mount):
    """A watch ends on one and goes on at another that is behind; own saves come in between."""
    server = start_server("--sample", "--replicas", 3, "--lag", LAG)
    mount = start_watched(server, start_mount, "admin", ADMINS)
    mine, theirs = sorted(os.listdir(mount / "shop"))[:2]
    server.label("shop", mine, number="0")
    server.label("shop", theirs, number="0")
    for name in (mine, theirs):
        path = mount / "shop" / name / "metadata.json"
        wait_for(lambda path=path: '"number"' in path.read_text(), START, "the first change")
    watcher = Watcher(mount)
    readers = [NeverBack(mount / "shop" / name / "metadata.json") for name in (mine, theirs)]
    for thread in (watcher, *readers):
        thread.start()
    others = Inotify()
    others.add(mount / "shop" / theirs, theirs, CHANGES)
    seen = []
    for number in range(1, ROUNDS + 1):
        save_number(mount / "shop" / mine / "metadata.json", number)
        server.control("POST", "drop", {"path": "imagestreams", "clean": number % 2 == 0})
        server.label("shop", theirs, number=str(number))
        if number % 3 == 0:
            refresh(mount)
        came = modified(others, theirs, BACK_OFF)
        assert came, f"change {number} wasn't seen"
        seen += came
    os.mkdir(mount / "shop/own")
    server.control("POST", "drop", {"path": "imagestreams", "clean": True})
    refresh(mount)
    begin = time.monotonic()
    while time.monotonic() < begin + 3 * LAG:
        assert (mount / "shop/own").is_dir(), "what was just made was taken away"
    server.control("POST", "drop", {"path": "imagestreams", "clean": True})
    os.rmdir(mount / "shop/own")
    refresh(mount)
    begin = time.monotonic()
    while time.monotonic() < begin + 3 * LAG:
        assert not (mount / "shop/own").exists(), "what was just deleted came back"
    for reader in readers:
        reader.check()
        assert reader.seen[-1] == ROUNDS
    seen += others.read()
    again = [event for event in seen if event[1:] == ("metadata.json", "CLOSE_WRITE")]
    assert len(again) == ROUNDS, f"{ROUNDS} changes raised {len(again)} events"
    watcher.stop()
    assert not watcher.missing and not watcher.unlisted, (watcher.missing, watcher.unlisted)
    flapped = [event for event in watcher.inotify.read()
               if set(event[2].split("|")) & {"CREATE", "DELETE", "DELETE_SELF"}
               and event[:2] != ("shop", "own")]
    assert not flapped, flapped


# Rights that are taken away.

SURE, LATEST = 60, 180  # a loss is confirmed for a minute, and known after three
RETURN = 60


class Presence(threading.Thread):
    """Notes when a path comes and goes: [(seconds since it was watched, whether it is there)]"""

    def __init__(self, mount, path):
        super().__init__(daemon=True)
        self.path = mount / path
        self.name = f"{mount.path.parent.name}:{path}"
        self.begin = time.monotonic()
        self.changes = []
        self.end = threading.Event()

    def run(self):
        while not self.end.is_set():
            now, there = time.monotonic() - self.begin, os.path.exists(self.path)
            if not self.changes or self.changes[-1][1] != there:
                self.changes.append((now, there))
            self.end.wait(0.1)

    def is_there(self):
        return bool(self.changes) and self.changes[-1][1]


def test_a_role_is_taken_away(start_server, start_mount):
    """Of a developer, under -n, and of somebody who may read one stream by its name."""
    server = start_server("--sample", "--user", "reader:none")
    by_name = {"user": "reader", "namespace": "shop", "rules": [
        {"resources": ["imagestreams"], "verbs": ["get", "watch"], "resourceNames": ["web"]}]}
    view = {"user": "developer", "namespace": "prod", "role": "view"}
    server.control("POST", "grant", by_name)
    stream = server.request("GET", server.streams("prod"))["items"][0]["metadata"]["name"]
    whole = start_watched(server, start_mount, "developer", DEVELOPERS)
    narrow = start_watched(server, start_mount, "developer",
                           {f"{IMAGES}/namespaces/prod/imagestreams"}, "-n", "prod")
    named = start_mount(server, "--context", "reader")
    named.expect(NOISY)
    assert (named / "shop/web/spec.json").exists()
    expected = [(whole, f"prod/{stream}"), (whole, "prod"), (narrow, f"prod/{stream}"),
                (named, "shop/web")]
    present = [Presence(*one) for one in expected]
    for one in present:
        one.start()
    wait_for(lambda: all(one.is_there() for one in present), START, "all of it")
    taken = time.monotonic()
    server.control("POST", "revoke", {"user": "developer", "namespace": "prod"})
    server.control("POST", "revoke", {"user": "reader", "namespace": "shop"})
    try:
        wait_for(lambda: not any(one.is_there() for one in present), LATEST + 5, "the end of it")
    except AssertionError as error:
        raise AssertionError(f"{error}: {[(p.name, p.changes) for p in present]}") from None
    assert (whole / "dev").is_dir()
    given = time.monotonic()
    server.control("POST", "grant", view)
    server.control("POST", "grant", by_name)
    wait_for(lambda: all(one.is_there() for one in present), RETURN + 15, "its return")
    for one in present:
        one.end.set()
        one.join(START)
        assert [there for _, there in one.changes] == [True, False, True], (one.name, one.changes)
        gone = one.begin + one.changes[1][0] - taken
        back = one.begin + one.changes[2][0] - given
        print(f"{one.name}: gone after {gone:.1f} s, back after {back:.1f} s")
        assert SURE - 1 <= gone <= LATEST, f"{one.name} gone after {gone:.1f} s"
        assert back <= RETURN + 5, f"{one.name} back after {back:.1f} s"
