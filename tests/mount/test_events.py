"""A change on the server raises the inotify events that the same change to local files raises.

Each change is made twice: by somebody else on the server, and by mkdir, open, write, unlink, rmdir
on tmpfs, where everything that the change touches is named by the scenario. Names, flags and the
order in each directory must be equal, and nothing else may raise anything. The order of things that
don't depend on each other (two files of one stream) is the mount's own; tmpfs follows it.
"""

import contextlib
import copy
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass

import conftest
import pytest
from _pytest.monkeypatch import MonkeyPatch
from conftest import wait_for
from events import (READS, Abort, Agent, Inotify, Inotifywait, KeptServer, announcers,
                    by_directory, by_name, compare, in_order_of)
from test_contents import escape, model_of_stream

SECONDS = 10  # for an event to come, on a busy machine
QUICKLY = ("--confirm-interval", 1)  # what is lost is sure after three looks
QUIET = 0.03  # in which what must not come would come
LOST = 8  # one back-off and a new list
GONE = 60  # for a lost right to be sure, on a busy machine
STREAMS = "/apis/image.openshift.io/v1/imagestreams"
IMAGE = "registry.example/work/app@sha256:"
NUMBERS = itertools.count(1)  # of namespaces: the server is shared


def spec_tag(name, image="quay.io/example/app:1", **more):
    return {"name": name, "from": {"kind": "DockerImage", "name": image}, "generation": 1,
            "importPolicy": {}, "referencePolicy": {"type": "Source"}, **more}


def item(digit, created="2024-05-01T10:00:00Z"):
    digest = str(digit) * 64
    return {"created": created, "dockerImageReference": IMAGE + digest,
            "image": "sha256:" + digest, "generation": 1}


def failed(message="not found"):
    return [{"type": "ImportSuccess", "status": "False", "reason": "NotFound", "message": message,
             "generation": 1, "lastTransitionTime": "2024-05-01T10:00:00Z"}]


def a_stream(name="app", spec=(), status=(), **meta):
    return {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
            "metadata": {"name": name, **meta},
            "spec": {"lookupPolicy": {"local": False}, "tags": list(spec)},
            "status": {"dockerImageRepository": "registry.example/work/" + name,
                       "tags": list(status)}}


def spec_of(app, name):
    return next(tag for tag in app["spec"]["tags"] if tag["name"] == name)


def history_of(app, name):
    return next(tag for tag in app["status"]["tags"] if tag["tag"] == name)


def without_spec(app, name):
    app["spec"]["tags"].remove(spec_of(app, name))


def without_history(app, name):
    app["status"]["tags"].remove(history_of(app, name))


def an_app():
    """Tags of every kind: in both, in spec alone, in status alone, and without an image."""
    return a_stream("app", [spec_tag("v1"), spec_tag("v2"), spec_tag("failed")],
                    [{"tag": "v1", "items": [item(2), item(1)]}, {"tag": "old", "items": [item(3)]},
                     {"tag": "failed", "items": None, "conditions": failed()}],
                    labels={"tier": "web"})


# The tree as it must be, from the server's JSON.


def tree_of(server, namespace):
    """Path below the mount → content, None for a directory; empty without that namespace."""
    if namespace not in namespaces(server):
        return {}
    tree = {namespace: None}
    for one in server.request("GET", server.streams(namespace))["items"]:
        top = f"{namespace}/{one['metadata']['name']}"
        tree |= {top: None, top + "/tags": None}
        for kind, key in (("spec", "name"), ("status", "tag")):
            for tag in one[kind].get("tags") or []:
                tree[f"{top}/tags/{escape(tag[key])}"] = None
        for name, content in model_of_stream(one).items():
            tree[f"{top}/{name}"] = content.decode("latin-1")
    return tree


def namespaces(server):
    found = server.request("GET", "/apis/project.openshift.io/v1/projects")["items"]
    return {one["metadata"]["name"] for one in found}


def below(tree, path):
    return {name[len(path) + 1:]: content for name, content in tree.items()
            if name.startswith(path + "/")}


def applied(tree, steps):
    """The names after these steps."""
    names = set(tree)
    for kind, path, *content in steps:
        if kind in ("unlink", "rmdir"):
            assert path in names and not any(one.startswith(path + "/") for one in names), path
            names.remove(path)
        elif kind in ("mkdir", "create"):
            assert path not in names, path
            names |= {path, *(f"{path}/{one}" for one in (content[0] if content else ()))}
    return names


# Scenarios. Each gets the change to fill and the stream to alter, and gives the local steps.


class Change:
    def __init__(self, server, namespace, before):
        self.server, self.namespace, self.before = server, namespace, before
        self.requests = []

    def get(self, name="app"):
        return self.server.get(self.namespace, name)

    def ask(self, op, name="", **more):
        self.requests.append({"op": op, "namespace": self.namespace, "name": name, **more})

    def replace(self, stream):
        self.ask("replace", stream["metadata"]["name"], object=stream)

    def create(self, stream):
        self.ask("create", stream["metadata"]["name"], object=stream)

    def at(self, path):
        return f"{self.namespace}/{path}" if path else self.namespace

    def mkdir(self, path):
        return [("mkdir", self.at(path))]

    def new(self, *paths):
        return [("create", self.at(path)) for path in paths]

    def unlink(self, *paths):
        return [("unlink", self.at(path)) for path in paths]

    def modify(self, *paths):
        return [("modify", self.at(path)) for path in paths]

    def of(self, *names, stream="app"):
        """Changed files of a stream; the whole object changes with each."""
        whole = "imagestream.json", "imagestream.yaml"
        return self.modify(*(f"{stream}/{name}" for name in (*names, *whole)))

    def rm(self, path):
        """rm -r"""
        top = self.at(path)
        inside = sorted((one for one in self.before if one.startswith(top + "/")), reverse=True)
        return [("rmdir" if self.before[one] is None else "unlink", one) for one in (*inside, top)]


@dataclass
class Scenario:
    define: object
    start: object = an_app
    hold: str = None
    enter: tuple = ()

    @property
    def name(self):
        return self.define.__name__.strip("_")


SCENARIOS = {}


def scenario(start=lambda: [an_app()], **options):
    def add(function):
        one = Scenario(function, start, **options)
        SCENARIOS[one.name] = one
        return function
    return add


def edited(change, stream, *files):
    change.replace(stream)
    return change.of(*files)


@scenario()
def label(change):
    app = change.get()
    app["metadata"]["labels"]["colour"] = "green"
    return edited(change, app, "metadata.json")


@scenario()
def label_gone(change):
    app = change.get()
    del app["metadata"]["labels"]
    return edited(change, app, "metadata.json")


@scenario()
def annotation(change):
    app = change.get()
    app["metadata"]["annotations"] = {"note": "x" * 500}
    return edited(change, app, "metadata.json")


@scenario()
def version_only(change):
    return edited(change, change.get())


@scenario()
def lookup_policy(change):
    app = change.get()
    app["spec"]["lookupPolicy"]["local"] = True
    return edited(change, app, "spec.json")


@scenario()
def tag_changed(change):
    app = change.get()
    spec_of(app, "v1")["from"]["name"] = "quay.io/example/app:2"
    return edited(change, app, "spec.json", "tags/v1/spec.json", "tags/v1/from")


@scenario()
def tag_added(change):
    app = change.get()
    app["spec"]["tags"].append(spec_tag("v3"))
    return change.mkdir("app/tags/v3") + edited(change, app, "spec.json")


@scenario()
def tag_pushed(change):
    """A tag that comes with its first image."""
    app = change.get()
    app["status"]["tags"].append({"tag": "v3", "items": [item(5)]})
    return change.mkdir("app/tags/v3") + edited(change, app, "status.json")


@scenario()
def tag_with_odd_name(change):
    app = change.get()
    app["spec"]["tags"] += [spec_tag("a/b"), spec_tag(".x"), spec_tag("")]
    return (change.mkdir("app/tags/a%2Fb") + change.mkdir("app/tags/%2Ex")
            + change.mkdir("app/tags/%00") + edited(change, app, "spec.json"))


@scenario()
def many_tags(change):
    app = change.get()
    app["spec"]["tags"] += [spec_tag(f"n{i}") for i in range(20)]
    return [step for i in range(20) for step in change.mkdir(f"app/tags/n{i}")] + edited(
        change, app, "spec.json")


@scenario()
def tag_removed(change):
    app = change.get()
    without_spec(app, "v2")
    return change.rm("app/tags/v2") + edited(change, app, "spec.json")


@scenario()
def tag_removed_from_both(change):
    app = change.get()
    without_spec(app, "v1")
    without_history(app, "v1")
    return change.rm("app/tags/v1") + edited(change, app, "spec.json", "status.json")


@scenario()
def spec_appears(change):
    app = change.get()
    app["spec"]["tags"].append(spec_tag("old"))
    return change.new("app/tags/old/spec.json", "app/tags/old/from") + edited(change, app, "spec.json")


@scenario()
def spec_vanishes(change):
    app = change.get()
    without_spec(app, "v1")
    return change.unlink("app/tags/v1/spec.json", "app/tags/v1/from") + edited(
        change, app, "spec.json")


@scenario()
def history_appears(change):
    app = change.get()
    app["status"]["tags"].append({"tag": "v2", "items": [item(6)]})
    return change.new("app/tags/v2/status.json", "app/tags/v2/image") + edited(
        change, app, "status.json")


@scenario()
def history_vanishes(change):
    app = change.get()
    without_history(app, "v1")
    return change.unlink("app/tags/v1/status.json", "app/tags/v1/image") + edited(
        change, app, "status.json")


@scenario()
def image_appears(change):
    app = change.get()
    history_of(app, "failed")["items"] = [item(7)]
    return change.new("app/tags/failed/image") + edited(
        change, app, "status.json", "tags/failed/status.json")


@scenario()
def image_vanishes(change):
    app = change.get()
    history_of(app, "v1").update(items=None, conditions=failed())
    return change.unlink("app/tags/v1/image") + edited(
        change, app, "status.json", "tags/v1/status.json")


@scenario()
def image_pushed(change):
    app = change.get()
    history_of(app, "v1")["items"].insert(0, item(8))
    return edited(change, app, "status.json", "tags/v1/status.json", "tags/v1/image")


@scenario()
def history_pruned(change):
    app = change.get()
    del history_of(app, "v1")["items"][1]
    return edited(change, app, "status.json", "tags/v1/status.json")


@scenario()
def status_only(change):
    app = change.get()
    history_of(app, "failed")["conditions"] = failed("unauthorized")
    return edited(change, app, "status.json", "tags/failed/status.json")


@scenario()
def several_at_once(change):
    app = change.get()
    app["metadata"]["labels"] = {"tier": "data"}
    spec_of(app, "v1")["from"]["name"] = "quay.io/example/app:3"
    without_spec(app, "v2")
    app["spec"]["tags"] += [spec_tag("v4"), spec_tag("old")]
    history_of(app, "v1")["items"].insert(0, item(9))
    history_of(app, "failed")["items"] = [item(4)]
    return (change.rm("app/tags/v2") + change.mkdir("app/tags/v4")
            + change.new("app/tags/old/spec.json", "app/tags/old/from", "app/tags/failed/image") + edited(
                change, app, "metadata.json", "spec.json", "status.json", "tags/v1/spec.json",
                "tags/v1/from", "tags/v1/status.json", "tags/v1/image", "tags/failed/status.json"))


@scenario(lambda: [])
def stream_created(change):
    change.create(a_stream())
    return change.mkdir("app")


@scenario(lambda: [])
def stream_created_with_tags(change):
    change.create(an_app())
    return change.mkdir("app")


@scenario()
def stream_deleted(change):
    change.ask("delete", "app")
    return change.rm("app")


@scenario(lambda: [a_stream()])
def first_tag(change):
    app = change.get()
    app["spec"]["tags"] = [spec_tag("v1")]
    return change.mkdir("app/tags/v1") + edited(change, app, "spec.json")


@scenario()
def deleted_and_made_again(change):
    change.ask("delete", "app")
    change.create(an_app())
    return change.rm("app") + change.mkdir("app")


@scenario()
def deleted_and_made_again_otherwise(change):
    change.ask("delete", "app")
    change.create(a_stream("app", [spec_tag("v1"), spec_tag("v9")]))
    return change.rm("app") + change.mkdir("app")


@scenario(lambda: [an_app(), a_stream("one"), a_stream("two", [spec_tag("v1")])])
def several_streams(change):
    one, app = change.get("one"), change.get()
    one["metadata"]["labels"] = {"a": "b"}
    app["spec"]["tags"].append(spec_tag("v3"))
    change.replace(one)
    change.ask("delete", "two")
    change.replace(app)
    change.create(a_stream("three", [spec_tag("v1")]))
    return (change.of("metadata.json", stream="one") + change.rm("two") + change.mkdir("three")
            + change.mkdir("app/tags/v3") + change.of("spec.json"))


@scenario(lambda: [a_stream("app", annotations={"long": "x" * 100000})])
def large_files(change):
    app = change.get()
    app["metadata"]["labels"] = {"a": "b"}
    return edited(change, app, "metadata.json")


@scenario(lambda: [a_stream("app", annotations={"long": "x" * 100000})])
def large_files_get_small(change):
    app = change.get()
    del app["metadata"]["annotations"]
    return edited(change, app, "metadata.json")


@scenario(lambda: None)
def namespace_created(change):
    change.ask("create-namespace", change.namespace)
    return change.mkdir("")


@scenario(lambda: None)
def namespace_created_with_streams(change):
    change.ask("create-namespace", change.namespace)
    change.create(an_app())
    return change.mkdir("")


@scenario(lambda: [])
def namespace_deleted(change):
    change.ask("delete-namespace", change.namespace)
    return change.rm("")


@scenario(lambda: [an_app(), a_stream("one")])
def namespace_deleted_with_streams(change):
    change.ask("delete-namespace", change.namespace)
    return change.rm("")


@scenario(hold="app/spec.json")
def deleted_while_open(change):
    return stream_deleted(change)


@scenario(hold="app/tags/v1/image")
def file_vanishes_while_open(change):
    return history_vanishes(change)


@scenario(hold="app/metadata.json")
def made_again_while_open(change):
    return deleted_and_made_again(change)


@scenario(enter=("app", "app/tags/v1"))
def deleted_while_somebody_is_in_it(change):
    return stream_deleted(change)


@scenario(enter=("app/tags",))
def made_again_while_somebody_is_in_it(change):
    return deleted_and_made_again(change)


# The two places.


class Local:
    """tmpfs, where a change is made by hand."""

    def __init__(self):
        self.agent = Agent()

    def run(self, before, steps, watched, holding=lambda agent, top: None):
        """What was raised by the steps, and when what was held is let go; and what that showed."""
        top = tempfile.mkdtemp(dir="/dev/shm")
        try:
            self.agent.build(top, before)
            holding(self.agent, top)
            self.agent.watch("local", top, watched)
            self.agent.perform(top, steps)
            first = self.agent.events("local", 0, 0)
            seen = self.agent.release()
            return first, self.agent.events("local", 0, 0), seen
        except OSError as error:
            raise AssertionError(f"nobody could do this in this order: {error}: {steps}") from None
        finally:
            shutil.rmtree(top)

    def close(self):
        self.agent.close()


def nobody():
    return ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")


class Site:
    """One mount, and an agent that may look into it."""

    def __init__(self, directory, server, *arguments, user=None, others=(), wrapper=None):
        self.server = server
        self.arguments = arguments
        for name in ("events.py", "stopwatch.py"):
            shutil.copy(conftest.TOP / "tests/mount" / name, directory / name)
            (directory / name).chmod(0o755)
        script = directory / "events.py"
        with MonkeyPatch().context() as patch:
            if wrapper:
                patch.setattr(conftest, "PROGRAM", str(wrapper))
            self.mount = conftest.Mount(directory, server.kubeconfig, *QUICKLY, *arguments,
                                        user=user, wait=not wrapper)
        self.mount.directory.chmod(0o755)
        self.prefix = (nobody() if user else ()) + tuple(others)
        if wrapper:
            pid = self.mount.process.pid
            wait_for(lambda: str(self.mount.path) in open(f"/proc/{pid}/mountinfo").read(), 30,
                     "the mount in its namespace")
            self.prefix += ("nsenter", "-t", str(pid), "-U", "-m", "--preserve-credentials")
        self.top = str(self.mount.path)
        self.agent = Agent(*self.prefix, script=script)
        self.agent.watch("sentinel", self.top, ["sentinel/one/metadata.json"], 8)  # CLOSE_WRITE
        self.local = Local()

    def at(self, path):
        return os.path.join(self.top, path)

    def bulk(self, requests):
        self.server.control("POST", "bulk", requests)

    def sync(self):
        """Waits until a change made now has been announced, and so what was made before it."""
        self.agent.take("sentinel", 0, 0)
        path = self.at("sentinel/one/metadata.json")
        old = self.agent.mtime(path)
        self.bulk([{"op": "touch-label", "namespace": "sentinel", "name": "one"}])
        if "noevents" in self.arguments:
            wait_for(lambda: self.agent.mtime(path) != old, SECONDS, "the sentinel")
        else:
            assert self.agent.take("sentinel", 1, SECONDS), "no events at all"

    def wait_exists(self, path):
        if "noevents" in self.arguments:
            self.sync()  # names that aren't there are believed for a second
        assert self.agent.wait_exists(self.at(path), SECONDS), f"no {path}"

    def namespace(self, streams):
        """A new one with these streams; with None only its name."""
        name = f"work-{next(NUMBERS)}"
        if streams is not None:
            self.bulk([{"op": "create-namespace", "name": name}])
            self.wait_exists(name)
        if streams:
            self.bulk([{"op": "create", "namespace": name, "name": one["metadata"]["name"],
                        "object": one} for one in streams])
        for one in streams or ():
            self.wait_exists(f"{name}/{one['metadata']['name']}")
        self.sync()
        return name

    def walk(self, namespace):
        if not self.agent.exists(self.at(namespace)):
            return {}
        found = self.agent.walk(self.at(namespace))
        return {namespace: None, **{f"{namespace}/{path}": found[path] for path in found}}

    def events(self, number, seconds=SECONDS):
        """That many in time, and all that come besides."""
        found = self.agent.events("mount", number, seconds)
        self.sync()
        return found + self.agent.events("mount", 0, 0, QUIET)

    def close(self):
        self.agent.close()
        self.local.close()
        took = self.mount.stop()
        self.mount.check()
        assert took < conftest.STOP_SECONDS, f"it took {took:.1f} s to end"


MODES = {
    "root": {}, "user": {"user": "nobody"}, "noopen": {"arguments": ["-o", "noopen"]},
    "single-threaded": {"arguments": ["--single-threaded"]},
    "user-namespace": {"user": "nobody", "wrapper": "exec unshare -Urm"},
    "others": {"arguments": ["-o", "allow_other"], "others": nobody()}}


@pytest.fixture(autouse=True)
def abort_what_hangs(directory):
    with Abort(directory):
        yield


@pytest.fixture(scope="module")
def shared_server(directory):
    place = directory / "events"
    place.mkdir()
    server = conftest.Server(place, "--namespace", "sentinel")
    for path in (place, server.kubeconfig, server.ca, server.token_file):
        path.chmod(0o755)
    server.create("sentinel", "one")
    yield KeptServer(server)
    server.stop()


def make_site(directory, server, arguments=(), wrapper=None, **options):
    if wrapper:
        script = directory / "wrapper"
        script.write_text(f'#!/bin/sh\n{wrapper} {conftest.PROGRAM} "$@"\n')
        script.chmod(0o755)
        probe = subprocess.run([*nobody(), "unshare", "-Urm", "true"],
                                        capture_output=True, text=True, check=False)
        if probe.returncode:
            pytest.skip("no user namespaces here: " + probe.stderr.strip())
        wrapper = script
    return Site(directory, server, *arguments, wrapper=wrapper, **options)


class Sites:
    """One at a time; a new one where the program has died."""

    def __init__(self, directory, server):
        self.directory, self.server = directory, server
        self.name = self.site = None

    def get(self, name, **options):
        if self.site and (self.name != name or self.site.mount.process.poll() is not None):
            self.close()
        if not self.site:
            self.site, self.name = make_site(self.directory, self.server, **options), name
        return self.site

    def close(self):
        site, self.site = self.site, None
        if site:
            site.close()


@pytest.fixture(scope="module")
def sites(directory, shared_server):
    sites = Sites(directory, shared_server)
    yield sites
    sites.close()


# The contract.


def play(site, one, observer="all", apply=None, seconds=SECONDS):
    """Makes a change on the server, and the same one on tmpfs, and compares."""
    namespace = site.namespace(copy.deepcopy(one.start()))
    before = tree_of(site.server, namespace)
    if observer == "all":
        assert site.walk(namespace) == before
    watched = ["", *(path for path in sorted(before)
                     if before[path] is None or observer == "all")]
    directories = {path for path in watched if before.get(path) is None}
    change = Change(site.server, namespace, before)
    steps = one.define(change)

    def holding(agent, top):
        if one.hold:
            agent.hold(os.path.join(top, change.at(one.hold)))
        for path in one.enter:
            agent.enter(os.path.join(top, change.at(path)))

    first, last, seen = site.local.run(before, steps, watched, holding)
    holding(site.agent, site.top)
    site.agent.watch("mount", site.top, watched)
    (apply or site.bulk)(change.requests)
    found = site.events(len(first), seconds)
    found_seen = site.agent.release()
    found_last = site.agent.events("mount", len(last), seconds if last else 0, QUIET)

    after = tree_of(site.server, namespace)
    steps = [(*step, below(after, step[1])) if step[0] == "mkdir" else step for step in steps]
    check_steps(before, after, steps)
    first, last, _ = site.local.run(before, in_order_of(found, steps), watched, holding)
    compare(by_directory(found, directories), by_directory(first, directories))
    compare(by_directory(found_last, directories), by_directory(last, directories))
    assert found_seen == seen
    assert site.walk(namespace) == after


def check_steps(before, after, steps):
    """That the scenario names what it changes, all of it, and nothing else."""
    assert applied(before, steps) == set(after)
    made = {path for kind, path, *_ in steps if kind == "mkdir"}
    kept = {path for path in before.keys() & after.keys()
            if not any(path == one or path.startswith(one + "/") for one in made)}
    assert {path for path in kept if before[path] != after[path]} == {
        step[1] for step in steps if step[0] == "modify"}


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("mode", MODES)
def test_events(sites, mode, name):
    play(sites.get(mode, **MODES[mode]), SCENARIOS[name])


@pytest.mark.parametrize("name", [name for name, one in SCENARIOS.items()
                                  if not one.hold and not one.enter])
def test_events_of_directories_alone(sites, name):
    """Nothing was listed or read: the kernel knows the watched directories and no file."""
    play(sites.get("root"), SCENARIOS[name], "directories")


@pytest.mark.parametrize("name", SCENARIOS)
def test_without_events(sites, name):
    """The twin: no announcements, so the contract is broken, and yet all is right to read."""
    site = sites.get("noevents", arguments=["-o", "noevents"])
    one = SCENARIOS[name]
    changed = []

    def is_right(namespace):
        try:
            return site.walk(namespace) == tree_of(site.server, namespace)
        except OSError:  # gone while it was listed
            return False

    def apply(requests):
        site.bulk(requests)
        namespace = requests[0].get("namespace") or requests[0]["name"]
        wait_for(lambda: is_right(namespace), SECONDS, "the new content")

    def only_changes(number, seconds=SECONDS):
        found = site.agent.events("mount", 0, 0, QUIET)
        # Our own reading above; and what the kernel says of a file that it drops.
        changed.extend(event for event in found
                       if not set(event[2].split("|")) <= READS | {"DELETE_SELF", "IGNORED"})
        return []

    site.events, saved = only_changes, site.events
    try:
        with pytest.raises(AssertionError, match="tmpfs: "):
            play(site, one, apply=apply, seconds=0)
    finally:
        site.events = saved
        site.agent.release()
    assert changed == []


def test_namespace_that_came_with_its_streams(sites):
    """Two watches tell of it; either may be first."""
    site = sites.get("root")
    for _ in range(10):
        name = f"work-{next(NUMBERS)}"
        site.bulk([{"op": "create-namespace", "name": name},
                   {"op": "create", "namespace": name, "name": "app", "object": a_stream()}])
        site.wait_exists(name + "/app")
        site.agent.watch("mount", site.top, [name], 0x300)  # CREATE, DELETE
        inode = os.stat(site.at(name)).st_ino
        site.sync()
        site.bulk([{"op": "delete", "namespace": name, "name": "app"},
                   {"op": "create", "namespace": name, "name": "other", "object": a_stream()}])
        assert sorted(site.events(2)) == [(name, "app", "DELETE|ISDIR"),
                                          (name, "other", "CREATE|ISDIR")]
        assert os.stat(site.at(name)).st_ino == inode


# Watches that were lost.


def lost_changes(change):
    app = change.get()
    app["metadata"]["labels"] = {"a": "b"}
    app["spec"]["tags"].append(spec_tag("v3"))
    history_of(app, "v1")["items"].insert(0, item(8))
    change.replace(app)
    change.ask("delete", "gone")
    change.ask("delete", "again")
    change.create(a_stream("again", [spec_tag("v1")]))
    change.create(an_app() | {"metadata": {"name": "new"}})
    return (change.mkdir("app/tags/v3") + change.of(
        "metadata.json", "spec.json", "status.json", "tags/v1/status.json", "tags/v1/image")
        + change.rm("gone") + change.rm("again") + change.mkdir("again") + change.mkdir("new"))


def lost_namespace(change):
    change.ask("delete-namespace", change.namespace)
    return change.rm("")


LOST_CHANGES = Scenario(lost_changes, lambda: [
    an_app(), a_stream("gone", [spec_tag("v1")]), a_stream("again", [spec_tag("v1")]),
    a_stream("same")])
LOST_NAMESPACE = Scenario(lost_namespace, lambda: [an_app()])


def while_lost(server, how, requests):
    """Changes that no watch tells."""
    server.reset()
    if how == "restart":
        server.control("POST", "silence", {})
    else:
        server.fault(watch=True, status=503, count=2)
        server.control("POST", "drop", {})
    server.control("POST", "bulk", requests)
    if how == "restart":
        server.control("POST", "compact", {"style": "event"})
        server.control("POST", "restart", {"seconds": 0.2})
        wait_for(lambda: not answers(server), LOST, "the server's leave")
        wait_for(lambda: answers(server), LOST, "the server's return")
    elif how != "drop":
        server.control("POST", "compact", {"style": how.partition("-")[2]})


@pytest.mark.parametrize("how", ["drop", "compact-event", "compact-status", "restart"])
def test_events_after_a_lost_watch(sites, how):
    site = sites.get("root")
    wait_for(lambda: site.server.control("GET", "state")["watches"] >= 2, LOST, "the watches")
    play(site, LOST_CHANGES, apply=lambda requests: while_lost(site.server, how, requests),
         seconds=LOST)
    if how != "drop":
        assert any(key == "GET " + STREAMS for key in site.server.counts())


def test_events_after_a_lost_watch_of_namespaces(sites):
    """That watch replays nothing; its list comes every 60 s, or when asked for."""
    site = sites.get("root")
    refresh = site.at(".api/refresh")
    # What was lost again and again is tried again after up to half a minute.
    wait_for(lambda: site.server.control("GET", "state")["watches"] >= 2, 60, "the watches")

    def listed():
        with contextlib.suppress(TimeoutError), open(refresh, "w") as file:
            file.write("now\n")
            return True
        return False

    def apply(requests):
        while_lost(site.server, "drop", requests)
        wait_for(listed, 60, "a list")

    play(site, LOST_NAMESPACE, apply=apply, seconds=60)


def answers(server):
    try:
        return server.control("GET", "state")
    except OSError:
        return None


# Own changes: the kernel raises the events of the file that was saved; the rest is announced.


def in_json(tree, path, edit):
    value = json.loads(tree[path])
    edit(value)
    return json.dumps(value, indent=2) + "\n"


def set_image(value):
    value["from"]["name"] = "quay.io/example/app:7"


def set_label(value):
    value["labels"] = {"mine": "yes"}


def own_tag(change):
    path = change.at("app/tags/v1/spec.json")
    return [("save", path, in_json(change.before, path, set_image))], change.of("spec.json", "tags/v1/from")


def own_spec(change):
    path = change.at("app/spec.json")
    return ([("save", path, in_json(change.before, path, lambda v: set_image(v["tags"][-1])))],
            change.of("tags/v2/spec.json", "tags/v2/from"))


def own_metadata(change):
    path = change.at("app/metadata.json")
    return [("save", path, in_json(change.before, path, set_label))], change.of()


def own_status(change):
    path = change.at("app/status.json")
    return ([("save", path, in_json(
        change.before, path, lambda v: v["tags"][-1].update(items=[item(8)])))],
        change.of("tags/v1/status.json", "tags/v1/image"))


def own_object(change):
    path = change.at("app/imagestream.json")

    def edit(value):
        set_label(value["metadata"])
        set_image(spec_of(value, "v1"))

    return ([("save", path, in_json(change.before, path, edit))],
            [step for step in change.of("metadata.json", "spec.json", "tags/v1/spec.json",
                                        "tags/v1/from") if step[1] != path])


def own_unchanged(change):
    path = change.at("app/metadata.json")
    return [("save", path, change.before[path])], []


def own_rename_over(change):
    path = change.at("app/tags/v1/spec.json")
    return [("replace", path, in_json(change.before, path, set_image))], change.of("spec.json", "tags/v1/from")


def own_new_tag(change):
    return change.mkdir("app/tags/mine"), change.of("spec.json")


def own_tag_removed(change):
    return change.rm("app/tags/v2"), change.of("spec.json")


def own_stream(change):
    return change.mkdir("mine"), []


def own_stream_removed(change):
    return change.rm("app"), []


def own_unlinked_comes_back(change):
    return change.unlink("app/metadata.json"), change.new("app/metadata.json")


OWN = [own_tag, own_spec, own_metadata, own_status, own_object, own_unchanged, own_rename_over,
       own_new_tag, own_tag_removed, own_stream, own_stream_removed, own_unlinked_comes_back]


@pytest.mark.parametrize("mode", ["root", "user"])
@pytest.mark.parametrize("define", OWN, ids=lambda one: one.__name__)
def test_own_changes(sites, define, mode):
    site = sites.get(mode, **MODES[mode])
    # With tags, rm -r removes these first, which changes the files that it removes next.
    namespace = site.namespace([a_stream() if define is own_stream_removed else an_app()])
    before = tree_of(site.server, namespace)
    assert site.walk(namespace) == before
    watched = ["", *sorted(before)]
    directories = {path for path in watched if before.get(path) is None}
    own, others = define(Change(site.server, namespace, before))
    expected = site.local.run(before, own + others, watched)[0]
    site.agent.watch("mount", site.top, watched)
    site.agent.perform(site.top, own)
    found = site.events(len(expected))
    site.sync()  # the watch's echo has been heard by now
    found += site.agent.events("mount", 0, 0, QUIET)
    expected = site.local.run(before, own + in_order_of(found, others), watched)[0]
    compare(by_name(found, directories), by_name(expected, directories))
    assert site.walk(namespace) == tree_of(site.server, namespace)


# Rights that go: the namespace and its streams go, as with rm -r.


def test_events_of_a_namespace_that_is_refused(directory, start_server, start_mount):
    server = start_server("--namespace", "dev", "--namespace", "prod")
    for namespace in ("dev", "prod"):
        server.control("POST", "bulk", [{"op": "create", "namespace": namespace, "name": "app",
                                         "object": an_app()}])
    mount = start_mount(server, "--context", "developer", *QUICKLY)
    before, dev = tree_of(server, "prod"), tree_of(server, "dev")
    for path in (*before, *dev):
        assert os.path.exists(mount / path)
    wait_for(lambda: server.control("GET", "state")["watches"] >= 2, LOST, "the watches")
    watched = ["", *sorted(before), *sorted(dev)]
    inotify = Inotify()
    for path in watched:
        inotify.add(os.path.join(mount.path, path), path)
    steps = Change(server, "prod", before).rm("")
    local = Local()
    expected = local.run(before, steps, ["", *sorted(before)])[0]
    server.control("POST", "revoke", {"user": "developer", "namespace": "prod", "role": "view"})
    server.control("POST", "drop", {"path": "namespaces/prod"})
    found = inotify.until(lambda event: event == ("prod", "", "IGNORED"), GONE)
    assert found, "the namespace stays"
    # The rules are asked first, and tell that nothing may be written there any more.
    found = [one for one in found + inotify.take(0, 0, QUIET) if one[2] != "ATTRIB|ISDIR"]
    expected = local.run(before, in_order_of(found, steps), ["", *sorted(before)])[0]
    local.close()
    inotify.close()
    directories = {path for path in watched if before.get(path) is None}
    compare(by_directory(found, directories), by_directory(expected, directories))


def test_events_of_a_developer(start_server, start_mount):
    """One watch for each namespace."""
    server = start_server("--namespace", "dev")
    mount = start_mount(server, "--context", "developer")
    server.control("POST", "bulk", [{"op": "create", "namespace": "dev", "name": "app",
                                     "object": an_app()}])
    inotify = Inotify()
    inotify.add(mount / "dev", "dev")
    wait_for((mount / "dev/app").is_dir, SECONDS, "the stream")
    inotify.add(mount / "dev/app", "app")
    inotify.take(0, 0, QUIET)
    server.label("dev", "app", a="b")
    assert sorted(inotify.take(9, SECONDS, QUIET)) == sorted(
        ("app", name, flags) for name in ("metadata.json", "imagestream.json", "imagestream.yaml")
        for flags in ("OPEN", "MODIFY", "CLOSE_WRITE"))
    server.delete("dev", "app")
    found = inotify.take(1, SECONDS, 5 * QUIET)
    assert ("dev", "app", "DELETE|ISDIR") in found
    assert ("app", "", "DELETE_SELF") in found
    inotify.close()


# inotifywait -m -r itself.


MAIN = ["label", "tag_added", "tag_removed", "spec_appears", "spec_vanishes", "history_appears",
        "image_vanishes", "image_pushed", "several_at_once", "stream_created_with_tags",
        "stream_deleted", "several_streams", "deleted_and_made_again"]


class Waiting:
    """inotifywait in a namespace of the mount, and in the same tree on tmpfs."""

    def __init__(self, site, streams):
        self.site = site
        self.namespace = site.namespace(streams)
        self.top = tempfile.mkdtemp(dir="/dev/shm")
        self.before = tree_of(site.server, self.namespace)
        site.local.agent.build(self.top, below(self.before, self.namespace))
        self.there = Inotifywait(self.top)
        self.here = Inotifywait(site.at(self.namespace), *site.prefix)

    def step(self, define, seconds=SECONDS):
        change = Change(self.site.server, self.namespace, self.before)
        steps = [(kind, path[len(self.namespace) + 1:]) for kind, path in define(change)]
        self.site.bulk(change.requests)
        after = tree_of(self.site.server, self.namespace)
        # Local events are counted in this order first, then raised in the one that was seen.
        directories = ["", *(path for path, content in below(self.before, self.namespace).items()
                             if content is None)]
        number = len([event for event in self.site.local.run(
            below(self.before, self.namespace), steps, directories)[0] if event[2] != "IGNORED"])
        found = self.here.take(number, seconds)
        self.site.sync()
        found += self.here.take(0, 0, QUIET)
        filled = [(*step, below(after, f"{self.namespace}/{step[1]}")) if step[0] == "mkdir"
                  else step for step in in_order_of(found, steps)]
        # What the new directories hold must be there before inotifywait looks, as on the mount.
        self.there.pause()
        self.site.local.agent.perform(self.top, filled)
        self.there.go_on()
        expected = self.there.take(number, SECONDS, QUIET)
        everything = set(event[0] for event in found + expected)
        compare(by_directory(found, everything), by_directory(expected, everything))
        self.before = after
        new = 1 + sum(content is None for content in below(after, self.namespace).values())
        for one in (self.here, self.there):
            wait_for(lambda one=one: one.watches() == new, SECONDS, f"{new} watches")
            one.take(0, 0)

    def close(self):
        self.here.close()
        self.there.close()
        shutil.rmtree(self.top)


@pytest.fixture
def waiting(sites):
    made = []

    def start(site, streams):
        made.append(Waiting(site, streams))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.mark.parametrize("name", MAIN)
def test_inotifywait(sites, waiting, name):
    one = SCENARIOS[name]
    waiting(sites.get("root"), copy.deepcopy(one.start())).step(one.define)


@pytest.mark.parametrize("mode", ["root", "user", "noopen", "user-namespace", "others"])
def test_inotifywait_all_along(sites, waiting, mode):
    """A stream's life: what is made while inotifywait runs is watched too."""
    one = waiting(sites.get(mode, **MODES[mode]), [])
    for define in (stream_created_with_tags, label, tag_added, image_pushed, spec_vanishes,
                   tag_removed_again, several_changes, deleted_and_made_again, image_vanishes,
                   stream_deleted):
        one.step(define)


def tag_removed_again(change):
    app = change.get()
    app["spec"]["tags"] = [tag for tag in app["spec"]["tags"] if tag["name"] != "v3"]
    return change.rm("app/tags/v3") + edited(change, app, "spec.json")


def several_changes(change):
    app = change.get()
    app["metadata"]["labels"] = {"tier": "data"}
    app["spec"]["tags"].append(spec_tag("old"))
    change.create(a_stream("other", [spec_tag("x")]))
    return (change.mkdir("other") + change.new("app/tags/old/spec.json", "app/tags/old/from")
            + edited(change, app, "metadata.json", "spec.json"))


@pytest.mark.parametrize("name", ["label", "stream_deleted"])
def test_inotifywait_without_events(sites, waiting, name):
    site = sites.get("noevents", arguments=["-o", "noevents"])
    one = waiting(site, copy.deepcopy(SCENARIOS[name].start()))
    with pytest.raises(AssertionError, match="here: nothing"):
        one.step(SCENARIOS[name].define, seconds=0.2)
    assert site.walk(one.namespace) == tree_of(site.server, one.namespace)


# What the announcer must not leave behind.


def test_announcer_holds_nothing(server, start_mount):
    mount = start_mount(server)
    server.label("shop", "web", a="b")
    wait_for(lambda: "\"a\": \"b\"" in (mount / "shop/web/metadata.json").read_text(), SECONDS)
    pids = announcers(mount.process.pid)
    assert pids
    for pid in pids:
        def links(pid=pid):
            return [os.readlink(f"/proc/{pid}/{name}") for name in (
                "cwd", *(f"fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")))]
        wait_for(lambda links=links: not [one for one in links() if str(mount.path) in one],
                 SECONDS, "descriptors on the mount")
        assert not [one for one in links() if one == "/dev/fuse"]
    # Not busy: but for the last steps of the change, which may be under way.
    wait_for(lambda: subprocess.run(["umount", mount.path], check=False).returncode == 0, SECONDS)
    wait_for(lambda: mount.process.poll() is not None, conftest.STOP_SECONDS, "its end")


def test_announcer_dies_with_the_program(server, start_mount):
    mount = start_mount(server)
    pids = wait_for(lambda: announcers(mount.process.pid), SECONDS, "an announcer")
    mount.stop(signal.SIGTERM)
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
