"""What the rows share: servers, mounts, the tree beside them, bulk changes."""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from measure import Skip, run, say

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/mount"))
import conftest  # noqa: E402  starts servers and mounts

LIST = "/apis/image.openshift.io/v1/imagestreams"


class Bench:
    """What rows share, made when the first one asks for it."""

    def __init__(self, options, stack, directory):
        self.options = options
        self.stack = stack
        self.directory = directory
        self.runs = options.runs
        self.kept = {}

    def once(self, key, make):
        if key not in self.kept:
            self.kept[key] = make()
        value = self.kept[key]
        if isinstance(value, Skip):
            raise value
        return value

    def server(self, streams):
        def make():
            say(f"  a server with {streams} streams of {self.options.tags} tags …")
            place = pathlib.Path(tempfile.mkdtemp(dir=self.directory))
            server = conftest.Server(place, "--streams", streams, "--tags", self.options.tags,
                                     "--namespaces", self.options.namespaces)
            self.stack.callback(server.stop)
            curl_list(server)  # the server encodes each object once; not part of any figure
            return server
        return self.once(("server", streams), make)

    def objects(self, server):
        return self.once(("objects", server.url), lambda: server.request("GET", LIST)["items"])

    def names(self, server, limit=0):
        items = server.request("GET", f"{LIST}?limit={limit}")["items"] if limit \
            else self.objects(server)
        return [(o["metadata"]["namespace"], o["metadata"]["name"]) for o in items]

    @contextlib.contextmanager
    def mount(self, kubeconfig, streams, *arguments):
        """A mount of its own for one figure, with the whole list in the store."""
        try:
            mount = conftest.Mount(self.directory, kubeconfig, *arguments)
        except AssertionError as why:
            raise Skip(str(why).strip().splitlines()[-1]) from None
        try:
            if "noopen" not in arguments:  # there is no status.json; what is mounted is whole
                conftest.wait_for(lambda: mount.status()["counts"]["imagestreams"] >= streams, 120)
            yield mount
        finally:
            stop(mount)

    def shared(self, *arguments):
        """The mount of the full server that warm rows share."""
        def make():
            try:
                return self.stack.enter_context(self.mount(
                    self.server(self.options.streams).kubeconfig, self.options.streams,
                    *arguments))
            except Skip as why:
                return why
        return self.once(("mount", arguments), make)

    def tree(self):
        """The same tree on a tmpfs."""
        def make():
            place = self.directory / "tree"
            place.mkdir()
            if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place],
                              capture_output=True, check=False).returncode == 0:
                self.stack.callback(subprocess.run, ["umount", "-l", place], check=False)
            else:
                place = pathlib.Path(tempfile.mkdtemp(prefix="imagestreamfs-bench-",
                                                      dir="/dev/shm"))
                self.stack.callback(shutil.rmtree, place, ignore_errors=True)
            say("  the same tree on a tmpfs …")
            run(["cp", "-r", f"{self.shared().path}/.", place])
            return place
        return self.once("tree", make)

    def program(self, name):
        """A program of this directory, out of the build that is measured."""
        def make():
            build = pathlib.Path(conftest.PROGRAM).resolve().parents[1]
            run(["ninja", "-C", build, "--quiet", f"tests/bench/{name}"])
            return build / "tests/bench" / name
        return self.once(("program", name), make)

    def nodes(self):
        return self.once("nodes", lambda: sum(
            len(directories) + len(files) for _, directories, files in os.walk(self.tree())) + 1)

    def spec_list(self):
        def make():
            listed = self.directory / "specs"
            with open(listed, "wb") as out:
                subprocess.run(["find", ".", "-name", "spec.json", "-print0"], cwd=self.tree(),
                               stdout=out, check=True)
            return listed
        return self.once("specs", make)


def stop(mount):
    """Ends a mount; what doesn't end in time is killed, and that isn't this table's concern."""
    try:
        mount.stop()
    except AssertionError as why:
        say(f"  {why}: killed")


COMPACT = "?pretty=false"  # as the program gets it; servers indent what curl asks for


def curl_command(server, query=COMPACT):
    return ["curl", "-sS", "--fail", "--compressed", "--cacert", server.ca, "-o", os.devnull,
            "-H", "Authorization: Bearer " + server.token, server.url + LIST + query]


def curl_list(server, query=COMPACT):
    return run(curl_command(server, query))


class Control:
    """Bulk changes on one kept connection."""

    def __init__(self, server):
        self.server = server
        self.connection = http.client.HTTPSConnection(
            server.url.partition("//")[2], context=server.context, timeout=600)
        self.connection.connect()

    def send(self, body):
        self.connection.request("POST", "/_control/bulk", json.dumps(body), {
            "Content-Type": "application/json"})

    def answer(self):
        response = self.connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise Skip(f"the server says {text!r}")

    def bulk(self, body):
        self.send(body)
        self.answer()


def touch(names):
    return [{"op": "touch-label", "namespace": namespace, "name": name}
            for namespace, name in names]


def walk_command(bench, what):
    return {"find": ["find", "."], "ls": ["ls", "-lR"],
            "cat": ["xargs", "-0", "-a", str(bench.spec_list()), "cat"],
            # Not found, so that everything is read; the output is no /dev/null for grep to notice.
            "grep": ["sh", "-c", "grep -r 'is in no file' . | cat; true"]}[what]


def kubectl_command(bench, server, form):
    """Prints all streams; run once, it has its cache of what the API has."""
    if not shutil.which("kubectl"):
        raise Skip("kubectl is missing")
    return ["kubectl", f"--kubeconfig={server.kubeconfig}",
            f"--cache-dir={bench.directory}/kubectl", "get", "is", "-A", "-o", form]
