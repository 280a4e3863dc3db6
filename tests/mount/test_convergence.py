"""Everything at once, then rest: what the mounts show is what the server has.

Mounts of every kind stand beside each other on one server. On each live a writer, a reader and a
mirror (inhabitants.py), while somebody else changes the server and all that can fail fails. When
everything is whole again, names, bytes, modes and what isn't there equal the server's, and so does
what inotify's events made of the mirror.

CONVERGENCE_SECONDS=600 is the long form (`long`); CONVERGENCE_SEED repeats the choices of a run, not
its timing.
"""

import contextlib
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import pytest

from conftest import TOP, Mount, wait_for
from events import Agent, KeptServer, announcers

from test_contents import escape, model_of_stream

pytestmark = pytest.mark.long if "CONVERGENCE_SECONDS" in os.environ else pytest.mark.alone

SECONDS = float(os.environ.get("CONVERGENCE_SECONDS", 60))
SEED = int(os.environ.get("CONVERGENCE_SEED", random.SystemRandom().randrange(1 << 32)))
START = 120  # of a mount, on a busy machine
END = 60  # of a program whose limit test_stop measures, where nothing else runs
# The longest back-off, a namespace that is made sure of, and a busy machine.
REST = float(os.environ.get("CONVERGENCE_REST", 180))
QUIET = 15  # no namespaces go in these last seconds: each is made sure of for ten
REPORTED = 12  # differences of each mount
NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")

LASTING, PASSING = ["c0", "c1", "c2"], ["n0", "n1"]
WRITTEN, FOREIGN, COPIED = ["web", "api", "db"], ["swing", "odd"], ["copy", "moved"]
# "touched" is what a touch of the server's makes.
TAGS, ODD_TAGS = ["v1", "v2", "latest"], ["touched", "a/b", ".dot", "100%"]
UNIVERSE = {"namespaces": LASTING + PASSING, "streams": WRITTEN + FOREIGN + COPIED, "written": WRITTEN,
            "copied": COPIED, "tags": TAGS + [escape(tag) for tag in ODD_TAGS], "written_tags": TAGS}
IMAGES = "/apis/image.openshift.io/v1/imagestreams"
PROJECTS = "/apis/project.openshift.io/v1/projects"

# name: options, and what is different there
VARIANTS = {
    "plain": {"announcer_fails": True},
    "steady": {"options": ["--max_threads=4"]},
    "noopen": {"options": ["-o", "noopen"], "reads_only": True, "api": False},
    "noevents": {"options": ["-o", "noevents"], "events": False},
    "selector": {"options": ["-l", "tier=web"], "shows": lambda one: label_of(one) == "web"},
    "narrow": {"options": ["-n", "c0", "-n", "c2"], "namespaces": {"c0", "c2"}},
    "developer": {"options": ["--context", "developer"],
                  "namespaces": {"c0", "c1", "dev", "prod"}, "may_edit": {"c0", "dev"}},
    "single": {"options": ["--single-threaded"], "announcer_fails": True},
    "nobody": {"user": "nobody"},
}


def label_of(stream):
    return (stream["metadata"].get("labels") or {}).get("tier")


# What must be there.


def tree_of(streams, namespaces):
    """Path -> text, None for a directory."""
    tree = {"": None, **dict.fromkeys(namespaces)}
    for one in streams:
        top = f"{one['metadata']['namespace']}/{one['metadata']['name']}"
        tree |= {top: None, top + "/tags": None}
        for kind, key in (("spec", "name"), ("status", "tag")):
            for tag in one[kind].get("tags") or []:
                tree[f"{top}/tags/{escape(tag[key])}"] = None
        for name, content in model_of_stream(one).items():
            tree[f"{top}/{name}"] = content.decode("latin-1")
    return tree


def modes_of(tree, variant):
    def writable(path):
        namespace, _, rest = path.partition("/")
        may = path and not variant.get("reads_only")
        if "may_edit" in variant:
            may = may and namespace in variant["may_edit"] and not rest.endswith("status.json")
        return may and not (tree[path] is not None and rest.endswith("/image"))

    return {path: (0o555 if content is None else 0o444) | (0o200 if writable(path) else 0)
            for path, content in tree.items()}


def tree_for(variant, server):
    """What a mount of that kind has to show."""
    projects = {one["metadata"]["name"] for one in server.request("GET", PROJECTS)["items"]}
    namespaces = variant.get("namespaces", projects) & projects
    streams = [one for one in server.request("GET", IMAGES)["items"]
               if one["metadata"]["namespace"] in namespaces
               and variant.get("shows", lambda _: True)(one)]
    return tree_of(streams, namespaces)


# Somebody else's changes.


def an_item(dice, stream):
    digest = f"sha256:{dice.getrandbits(256):064x}"
    return {"created": "2026-11-01T10:00:00Z", "image": digest, "generation": 1,
            "dockerImageReference": f"registry.example/{stream}@{digest}"}


def a_stream(dice, name, tags=TAGS):
    """With some of these tags, in spec, in status or in both."""
    def some():
        return [tag for tag in tags if dice.random() < 0.5]

    return {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
            "metadata": {"name": name, "labels": {"tier": dice.choice(["web", "data"])}},
            "spec": {"lookupPolicy": {"local": False}, "tags": [
                {"name": tag, "generation": 1, "importPolicy": {}, "from": {
                    "kind": "DockerImage", "name": f"quay.io/x/{name}:{dice.randrange(100)}"},
                 "referencePolicy": {"type": "Source"}} for tag in some()]},
            "status": {"dockerImageRepository": "registry.example/" + name, "tags": [
                {"tag": tag, "items": [an_item(dice, name)]} for tag in some()]}}


class Others(threading.Thread):
    """Changes streams and namespaces until it is told to end."""

    def __init__(self, server, seed, quiet_from):
        super().__init__(daemon=True)
        self.server = KeptServer(server)
        self.dice = random.Random(seed)
        self.quiet_from = quiet_from
        self.ending = threading.Event()
        self.done = 0

    def run(self):
        while not self.ending.is_set():
            # Without an answer: the server is away, or the stream isn't there.
            with contextlib.suppress(OSError, AssertionError):
                self.change()
                self.done += 1
            self.ending.wait(self.dice.random() * 0.2)

    def change(self):
        if self.dice.random() < 0.1:
            namespace, name = self.dice.choice(LASTING + PASSING), self.dice.choice(WRITTEN)
            self.server.request("POST", self.server.streams(namespace), a_stream(self.dice, name))
        else:
            self.server.bulk(*self.a_change())

    def a_change(self):
        namespace = self.dice.choice(LASTING + PASSING)
        name = self.dice.choice(WRITTEN + FOREIGN + COPIED)
        place = {"namespace": namespace, "name": name}
        chance = self.dice.random()
        if chance < 0.03:
            going = time.monotonic() < self.quiet_from and self.dice.random() < 0.5
            return [{"op": "delete-namespace" if going else "create-namespace",
                     "name": self.dice.choice(PASSING)}]
        if name in FOREIGN:
            tags = TAGS + ODD_TAGS
            return [{"op": "replace", **place, "object": a_stream(self.dice, name, tags)}]
        if chance < 0.1 or (name in COPIED and chance < 0.4):
            return [{"op": "delete", **place}]
        if name in COPIED:
            return [{"op": "touch-image", **place}]
        if chance < 0.2:  # at once: another object under the same name
            return [{"op": "delete", **place},
                    {"op": "create", **place, "object": a_stream(self.dice, name)}]
        kind = self.dice.choice(["label", "annotation", "image", "tag"])
        return [{"op": "touch-" + kind, **place}] * self.dice.randrange(1, 4)

    def finish(self):
        self.ending.set()
        self.join()


# A mount and who lives there.


class Site:
    def __init__(self, name, directory, server, dice):
        self.name = name
        self.variant = VARIANTS[name]
        self.server = server
        user = self.variant.get("user")
        state = pathlib.Path(tempfile.mkdtemp(dir=directory))
        if user:
            shutil.chown(state, user)
        self.mount = Mount(directory, server.kubeconfig, *self.variant.get("options", ()),
                           user=user, environment={"XDG_STATE_HOME": str(state)})
        self.mount.expect("")  # it may say a lot of all this
        kinds = ["reader"]
        kinds += ["mirror"] if self.variant.get("events", True) else []
        kinds += ["writer"] if not self.variant.get("reads_only") else []
        self.agents = {}
        for kind in kinds:
            script = TOP / "tests/mount/inhabitants.py"
            self.agents[kind] = Agent(*(NOBODY if user else ()), script=script)
        self.wait_for_start()
        for kind, agent in self.agents.items():
            agent.begin(kind, str(self.mount.path), UNIVERSE, dice.getrandbits(32))

    def wait_for_start(self):
        if self.variant.get("events", True) and self.variant.get("api", True):
            wait_for(lambda: self.status()["events"]["state"] == "announced", START,
                     f"the announcer of {self.name}")

    def status(self):
        text = self.agents["reader"].read_text(str(self.mount / ".api/status.json"))
        return json.loads(text)

    def refresh(self):
        if self.variant.get("api", True):
            self.agents["reader"].write_text(str(self.mount / ".api/refresh"), "now\n")

    def losses(self):
        """Events that were given up, as the program counts them."""
        return self.status()["events"]["lost"] if self.variant.get("api", True) else 0

    def finish_writer(self):
        if "writer" not in self.agents:
            return None
        done = self.agents["writer"].finish()
        self.agents["writer"].tidy()
        return done

    def compare(self):
        """[(who saw it, path, expected, found, how)]; empty when all is as on the server."""
        tree = tree_for(self.variant, self.server)
        wrong = [("reader", *one)
                 for one in self.agents["reader"].compare(tree, modes_of(tree, self.variant))]
        if "mirror" in self.agents:
            missed = self.agents["mirror"].compare(tree)
            allowed = self.losses() if self.variant.get("announcer_fails") else 0
            wrong += [("mirror", *one) for one in missed] if len(missed) > allowed else []
        return wrong

    def close(self):
        for agent in self.agents.values():
            agent.close()
        self.mount.process.send_signal(signal.SIGTERM)
        try:
            self.mount.process.wait(END)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} doesn't end: {threads_of(self.mount.process.pid)}") from None
        self.mount.check()

    def kill(self):
        for agent in self.agents.values():
            agent.close()
        self.mount.kill()


def threads_of(pid):
    """What each of them waits for in the kernel."""
    found = []
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            found.append([(path / name).read_text().strip() for name in ("comm", "wchan")])
    return found


# All that fails.


class Weather:
    """One disorder after the other; each ends before the next begins, or heals by itself."""

    def __init__(self, server, sites, dice):
        self.server = server
        self.sites = sites
        self.dice = dice
        self.begin = time.monotonic()
        self.rolled_back = None
        self.done = []
        self.kinds = [self.cut_watches] * 4 + [self.cut_in_event] * 2 + [self.compact] * 2 + [
            self.storm] * 2 + [self.broken_watches, self.silence, self.stop_server,
                               self.restart, self.restart, self.restart, self.refresh,
                               self.kill_announcer, self.stop_announcer, self.shortage]

    def one(self):
        kind = self.dice.choice(self.kinds)
        self.done.append(kind.__name__)
        with contextlib.suppress(OSError):  # the server is away
            kind()
        time.sleep(self.dice.random() * 0.7)  # the pace of a run

    def cut_watches(self):
        self.server.control("POST", "drop", {
            "path": self.dice.choice(["imagestreams", "projects", ""]),
            "clean": self.dice.random() < 0.5})

    def cut_in_event(self):
        self.server.fault(cutInEvent=True, count=self.dice.randrange(1, 4))

    def compact(self):
        self.server.control("POST", "compact", {"style": self.dice.choice(["event", "status"])})
        self.cut_watches()

    def storm(self):
        self.server.fault(path="imagestreams", status=429, retryAfter=1,
                          count=self.dice.randrange(5, 40))
        self.cut_watches()

    def broken_watches(self):
        broken = [{"status": 204}, {"status": 502, "text": "<html>", "type": "text/html"},
                  {"text": '{"type":"ERROR"}\n', "type": "application/json"}, {"cutAfter": 0}]
        self.server.fault(watch=True, count=self.dice.randrange(1, 12), **self.dice.choice(broken))
        self.cut_watches()

    def silence(self):
        self.server.control("POST", "silence", {"path": "imagestreams"})
        time.sleep(0.3)
        self.server.control("POST", "drop", {"path": "imagestreams"})

    def stop_server(self):
        with stopped(self.server.process.pid):
            time.sleep(self.dice.random() * 2)

    def restart(self):
        style = self.dice.choice([
            {"style": "aggregated"}, {"style": "aggregated", "noticed": True, "factor": 0.3},
            {"style": "main"}, {"style": "etcd", "kind": "frozen", "factor": 0.15},
            {"style": "etcd", "kind": "killed", "factor": 0.3},
            {"style": "rollback", "uids": "new"}])
        if style["style"] == "rollback":
            if self.rolled_back:
                return
            self.rolled_back = True
        self.done[-1] += " " + style["style"]
        restart(self.server, style)
        if style["style"] == "rollback":
            # Nothing tells of it. People would.
            self.refresh()
            for site in self.sites.values():
                if "writer" in site.agents:
                    site.agents["writer"].forget()

    def refresh(self):
        for site in self.sites.values():
            site.refresh()

    def failing(self):
        sites = [site for site in self.sites.values() if site.variant.get("announcer_fails")]
        return self.dice.choice(sites).mount.process.pid

    def kill_announcer(self):
        for pid in announcers(self.failing()):
            os.kill(pid, signal.SIGKILL)

    def stop_announcer(self):
        with contextlib.ExitStack() as stack:
            for pid in announcers(self.failing()):
                stack.enter_context(stopped(pid))
            time.sleep(self.dice.random() * 2)

    def shortage(self):
        """Of descriptors, for new connections, files and processes."""
        pid = self.failing()
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, limits[1]))
        try:
            self.cut_watches()
            time.sleep(self.dice.random() * 2)
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def patiently(call):
    """The answer of a server that may be away for a while."""
    def answer():
        try:
            return [call()]
        except OSError:
            return None
    return wait_for(answer, START, "the server")[0]


def restart(server, style):
    before = patiently(lambda: server.control("GET", "state"))["restart"]["done"]
    server.control("POST", "restart", style)
    wait_for(lambda: patiently(lambda: server.control("GET", "state"))["restart"]["done"] > before,
             START, "the end of the restart")


def make_whole(server, sites, newest):
    """Nothing fails any more, and every mount has to list again."""
    patiently(lambda: server.control("DELETE", "faults"))
    # Past every version that a mount has seen: a watch from a later one would be silent.
    while int(server.control("GET", "state")["resourceVersion"]) < newest:
        server.control("POST", "bulk", {"modify": {"times": 20}})
    # No watch of before the rollback goes on: it would never tell of what went with that.
    server.fault(watch=True, status=503, count=9999)
    server.control("POST", "drop", {})
    server.control("POST", "bulk", {"modify": {"times": 20}})
    server.control("POST", "compact", {"style": "status"})
    server.control("DELETE", "faults")
    for site in sites.values():
        patiently(site.refresh)


# The run.


def populate(server):
    dice = random.Random(SEED)
    for namespace in LASTING + PASSING:
        server.control("POST", "bulk", [
            {"op": "create-namespace", "name": namespace},
            *({"op": "create", "namespace": namespace, "name": name,
               "object": a_stream(dice, name)} for name in WRITTEN + FOREIGN)])
    server.control("POST", "snapshot", {})


@pytest.fixture
def sites(directory, start_server):
    server = start_server("--user", "developer:edit:c0", "--user", "developer:view:c1")
    server.kubeconfig.chmod(0o644)  # nobody reads it, too
    populate(server)
    dice = random.Random(SEED)
    found = {}
    try:
        for name in os.environ.get("CONVERGENCE_VARIANTS", " ".join(VARIANTS)).split():
            found[name] = Site(name, directory, server, dice)
        yield found
        for name in list(found):
            found.pop(name).close()
    finally:
        for site in found.values():
            site.kill()


def churn(server, sites):
    """Gives the newest version that was ever seen."""
    dice = random.Random(SEED + 1)
    end = time.monotonic() + SECONDS
    others = Others(server, SEED + 2, end - QUIET)
    weather = Weather(server, sites, dice)
    others.start()
    newest = 0
    while time.monotonic() < end:
        weather.one()
        with contextlib.suppress(OSError):
            newest = max(newest, int(server.control("GET", "state")["resourceVersion"]))
    others.finish()
    print(f"{others.done} changes by others; {' '.join(weather.done)}")
    return newest + 100


def describe(site, wrong):
    def short(value):
        text = str(value)
        return text if len(text) < 600 else text[:300] + " … " + text[-300:]

    lines = [f"{site.name}: {len(wrong)} wrong"]
    for who, path, expected, found, how in wrong[:REPORTED]:
        lines.append(f"  {who} at {path or 'the root'}: expected {short(expected)}\n"
                     f"    found {short(found)}\n    {how}")
    return "\n".join(lines)


def check_saves(site, done):
    """Each label that a save set, and was told so, is on the server."""
    streams = {f"{one['metadata']['namespace']}/{one['metadata']['name']} {one['metadata']['uid']}":
               one["metadata"].get("labels") or {}
               for one in site.server.request("GET", IMAGES)["items"]}
    for key, number in done["saved"].items():
        if key in streams:
            found = int(streams[key].get(done["label"], 0))
            if not number <= found <= done["tried"][key]:
                yield f"{site.name}: {key} has {found}, saved {number}, tried {done['tried'][key]}"


def test_convergence(sites):
    print(f"CONVERGENCE_SEED={SEED}")
    server = next(iter(sites.values())).server
    newest = churn(server, sites)
    begin = time.monotonic()
    make_whole(server, sites, newest)
    problems = []
    for name, site in sites.items():
        done = site.finish_writer()
        if done:
            problems += [f"{name}: {one}" for one in done["problems"]]
            problems += check_saves(site, done)
            print(name, done["rounds"], "deeds:", dict(sorted(done["results"].items())))
        read = site.agents["reader"].finish()
        problems += [f"{name}: {one}" for one in read["problems"]]
        print(name, read["rounds"], "reads:", read["failures"])
    for name, site in sites.items():
        wrong = []

        def same():
            wrong[:] = site.compare()
            return not wrong
        try:
            wait_for(same, REST, name)
            print(f"{name}: as the server after {time.monotonic() - begin:.1f} s")
        except AssertionError:
            problems.append(describe(site, wrong) + f"\n  {status_of(site)}")
    assert not problems, f"CONVERGENCE_SEED={SEED}\n" + "\n".join(problems)


def status_of(site):
    if not site.variant.get("api", True):
        return ""
    status = site.status()
    return {"scopes": [(one["path"], one["state"]) for one in status["scopes"]],
            "events": status["events"]}
