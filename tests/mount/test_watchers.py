"""Programs that watch files see what others change on the server, as they see local changes.

Each runs on tmpfs too, where the changes are made by hand: that shows that the program reacts, and
that this test would notice.
"""

import contextlib
import os
import re
import select
import shutil
import subprocess
import tempfile
import time

import conftest
import pytest
from conftest import wait_for
from events import Abort, Inotify, KeptServer, PYTHON, Worker, mask

SECONDS = 5
SOURCE = {"kind": "DockerImage", "name": "quay.io/example/app:1"}
DIRECTORIES = 8  # of a place below: work app tags v1 old doomed tags v1


def stream(name, *tags, labels=None):
    return {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
            "metadata": {"name": name, "labels": labels or {}},
            "spec": {"tags": [{"name": tag, "from": SOURCE} for tag in tags]},
            "status": {"tags": [{"tag": "old", "items": [
                {"created": "2024-05-01T10:00:00Z", "generation": 1, "image": "sha256:" + "1" * 64,
                 "dockerImageReference": "registry.example/work/app@sha256:" + "1" * 64}]}]
                if name == "app" else []}}


class Remote:
    """A namespace of the mount; somebody else works on the server."""

    def __init__(self, server, mount, name):
        self.server, self.name = server, name
        self.top = str(mount / name)
        self.tags, self.labels = ["v1"], {}
        self.server.bulk({"op": "create-namespace", "name": name})
        wait_for(lambda: os.path.exists(self.top), SECONDS, "the namespace")
        self.put(stream("app", "v1"), stream("doomed", "v1"))
        for path in ("app", "doomed"):
            wait_for(lambda path=path: os.path.exists(f"{self.top}/{path}"), SECONDS, path)

    def put(self, *streams):
        self.server.bulk(*({"op": "replace", "namespace": self.name,
                            "name": one["metadata"]["name"], "object": one} for one in streams))

    def modify(self):
        """app/metadata.json gets longer."""
        self.labels = {"colour": "green" * 10}
        self.put(stream("app", *self.tags, labels=self.labels))

    def create(self):
        self.put(stream("fresh", "v1"))

    def delete(self):
        self.server.bulk({"op": "delete", "namespace": self.name, "name": "doomed"})

    def create_file(self):
        """app/tags/old/spec.json"""
        self.tags = ["v1", "old"]
        self.put(stream("app", *self.tags, labels=self.labels))

    def delete_file(self):
        self.tags = ["v1"]
        self.put(stream("app", *self.tags, labels=self.labels))

    def close(self):
        pass


class Local:
    """The same on tmpfs."""

    def __init__(self):
        self.place = tempfile.mkdtemp(dir="/dev/shm")
        self.top = self.place + "/work"
        self.worker = Worker()
        files = ("imagestream.json", "imagestream.yaml", "metadata.json", "spec.json",
                 "status.json")
        self.stream = {"tags": None, "tags/v1": None, "tags/v1/spec.json": "{}\n",
                       **dict.fromkeys(files, "{}\n")}
        tree = {"": None}
        for name in ("app", "doomed"):
            tree |= {name: None, **{f"{name}/{path}": self.stream[path] for path in self.stream}}
        tree |= {"app/tags/old": None, "app/tags/old/status.json": "{}\n",
                 "app/tags/old/image": "x\n"}
        self.worker.build(self.top, tree)

    def modify(self):
        for name in ("metadata.json", "imagestream.json", "imagestream.yaml"):
            self.worker.do_modify(f"{self.top}/app/{name}")

    def create(self):
        self.worker.do_mkdir(self.top + "/fresh", self.stream)

    def delete(self):
        shutil.rmtree(self.top + "/doomed")

    def create_file(self):
        self.worker.do_create(self.top + "/app/tags/old/spec.json")

    def delete_file(self):
        os.unlink(self.top + "/app/tags/old/spec.json")

    def close(self):
        shutil.rmtree(self.place)


@pytest.fixture(autouse=True)
def abort_what_hangs(directory):
    with Abort(directory):
        yield


@pytest.fixture(scope="module")
def shared(directory):
    """One server and one mount for all."""
    place = directory / "watchers"
    place.mkdir()
    server = conftest.Server(place)
    mount = conftest.Mount(directory, server.kubeconfig)
    yield KeptServer(server), mount
    mount.stop()
    server.stop()
    mount.check()


@pytest.fixture(params=["tmpfs", "mount"])
def place(request):
    if request.param == "tmpfs":
        made = Local()
    else:
        server, mount = request.getfixturevalue("shared")
        name = re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
        made = Remote(server, mount, name)
    yield made
    made.close()


class Watcher:
    """A program under watch itself: what it says, and how many inotify watches it has."""

    def __init__(self, *command, text=None, **options):
        self.process = subprocess.Popen([*map(str, command)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.output = ""
        if text:
            self.process.stdin.write(text.encode())
        self.process.stdin.close()

    def says(self, pattern):
        """Waits for it, and forgets what was said up to there."""
        def found():
            select.select([self.process.stdout], [], [], 0.1)
            try:
                self.output += os.read(self.process.stdout.fileno(), 1 << 16).decode()
            except BlockingIOError:
                pass
            return re.search(pattern, self.output, re.MULTILINE)
        match = wait_for(found, SECONDS, f"{pattern!r} of {self.process.args[0]}")
        self.output = self.output[match.end():]

    def watches(self, number):
        def enough():
            total = 0
            for fd in os.listdir(f"/proc/{self.process.pid}/fdinfo"):
                with contextlib.suppress(FileNotFoundError), open(
                        f"/proc/{self.process.pid}/fdinfo/{fd}") as file:
                    total += sum(line.startswith("inotify ") for line in file)
            return total >= number
        wait_for(enough, SECONDS, f"watches of {self.process.args[0]}")
        return self

    def ends(self):
        return self.process.wait(60)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def watch():
    made = []

    def start(*command, **options):
        if not shutil.which(str(command[0])):
            pytest.skip(f"{command[0]} isn't installed")
        made.append(Watcher(*command, **options))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_inotifywait(place, watch):
    it = watch("inotifywait", "-m", "-r", "--format", "%e %w%f", place.top)
    it.says("Watches established")
    place.modify()
    it.says("^MODIFY .*/app/metadata.json$")
    it.says("^CLOSE_WRITE,CLOSE .*/app/metadata.json$")
    place.create()
    it.says("^CREATE,ISDIR .*/fresh$")
    place.create_file()
    it.says("^CREATE .*/app/tags/old/spec.json$")
    place.delete_file()
    it.says("^DELETE .*/app/tags/old/spec.json$")
    place.delete()
    it.says("^DELETE,ISDIR .*/doomed$")


def test_inotifywait_close_write(place, watch):
    """What people write into their scripts."""
    it = watch("inotifywait", "-m", "-r", "-e", "close_write,moved_to,create,delete", "--format",
               "%e %w%f", place.top)
    it.says("Watches established")
    place.modify()
    it.says("^CLOSE_WRITE,CLOSE .*/app/metadata.json$")
    place.create_file()
    it.says("^CLOSE_WRITE,CLOSE .*/app/tags/old/spec.json$")
    place.delete()
    it.says("^DELETE,ISDIR .*/doomed$")


def test_inotifywait_once(place, watch):
    """Without -m: it ends at the first event."""
    it = watch("inotifywait", "-q", "-e", "close_write", f"{place.top}/app/metadata.json")
    it.watches(1)
    place.modify()
    assert it.ends() == 0


def entr(watch, *options, files, watches=1):
    command = ("entr", "-n", "-p", *options, "sh", "-c", "echo changed")
    it = watch(*command, text="".join(f"{path}\n" for path in files)).watches(watches)
    time.sleep(0.15)  # it ignores what comes in its first 50 ms
    return it


def test_entr(place, watch):
    file = f"{place.top}/app/metadata.json"
    it = entr(watch, files=[file])
    place.modify()
    it.says("^changed$")
    it = entr(watch, "-d", files=[f"{place.top}/app/tags/old/status.json"], watches=2)
    place.create_file()
    it.says("directory altered")
    assert it.ends() == 2
    it = entr(watch, files=[f"{place.top}/app/tags/old/spec.json"])
    place.delete_file()
    it.says("entr: cannot open .*spec.json.*No such file or directory")
    assert it.ends() == 1
    it = entr(watch, files=[f"{place.top}/doomed/spec.json"])
    place.delete()
    assert it.ends() == 1


WATCHDOG = """
import sys
from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer

class Handler(FileSystemEventHandler):
    def on_any_event(self, event):
        print(event.event_type, event.src_path, flush=True)

observer = Observer()
observer.schedule(Handler(), sys.argv[1], recursive=True)
observer.start()
print("ready", flush=True)
observer.join()
"""


def test_watchdog(place, watch):
    if subprocess.run([PYTHON, "-c", "import watchdog"], stderr=subprocess.DEVNULL,
                      check=False).returncode:
        pytest.skip("python3-watchdog isn't installed")
    conftest.skip_for(conftest.older("python3-watchdog", "2"))
    it = watch(PYTHON, "-c", WATCHDOG, place.top)
    it.says("^ready$")
    it.watches(DIRECTORIES)
    place.modify()
    it.says("^modified .*/app/metadata.json$")
    it.says("^closed .*/app/")
    place.create()
    it.says("^created .*/fresh$")
    it.says("^created .*/fresh/.*json$")  # it looks into what is new
    place.create_file()
    it.says("^created .*/app/tags/old/spec.json$")
    place.delete_file()
    it.says("^deleted .*/app/tags/old/spec.json$")
    place.delete()
    it.says("^deleted .*/doomed$")


CHOKIDAR = """
const {watch} = require(process.argv[1])
watch(process.argv[2]).on('all', (event, path) => console.log(event, path))
    .on('ready', () => console.log('ready'))
"""


@pytest.fixture(scope="module")
def chokidar(directory):
    """From npm, since only version 3 is packaged."""
    if not shutil.which("npm"):
        pytest.skip("npm isn't installed")
    place = directory / "npm"
    place.mkdir()
    try:
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--silent", "--fetch-retries=1",
             f"--cache={place}/cache", f"--prefix={place}", "chokidar3@npm:chokidar@3",
             "chokidar4@npm:chokidar@4"], capture_output=True, text=True, check=False, timeout=60,
            cwd=place)
    except subprocess.TimeoutExpired:
        pytest.skip("npm can't get chokidar in 60 s")
    if done.returncode:
        pytest.skip("npm can't get chokidar: " + done.stderr.strip()[-200:])
    return place / "node_modules"


@pytest.mark.parametrize("version", [3, 4])
def test_chokidar(place, watch, chokidar, version):
    it = watch("node", "-e", CHOKIDAR, chokidar / f"chokidar{version}", place.top)
    it.says("^ready$")
    it.watches(DIRECTORIES)
    place.modify()
    it.says("^change .*/app/metadata.json$")
    place.create()
    it.says("^addDir .*/fresh$")
    it.says("^add .*/fresh/tags/v1/spec.json$")  # it looks into what is new
    place.create_file()
    it.says("^add .*/app/tags/old/spec.json$")
    place.delete_file()
    it.says("^unlink .*/app/tags/old/spec.json$")
    place.delete()
    it.says("^unlinkDir .*/doomed$")


def test_fswatch(place, watch):
    it = watch("fswatch", "-r", "-x", "-l", "0.1", "--event", "Created", "--event", "Updated",
               "--event", "Removed", place.top)
    it.watches(DIRECTORIES)
    place.modify()
    it.says("/app/metadata.json .*Updated")
    place.create()
    it.says("/fresh .*Created")
    place.create_file()
    it.says("/app/tags/old/spec.json .*Created")
    place.delete_file()
    it.says("/app/tags/old/spec.json .*Removed")
    place.delete()
    it.says("/doomed .*Removed")


def test_gio(place, watch):
    app, old = place.top + "/app", place.top + "/app/tags/old"
    it = watch("gio", "monitor", place.top, app, old)
    it.watches(3)
    place.modify()
    it.says(": /.*/metadata.json: changed$")
    place.create()
    it.says(": /.*/fresh: created$")
    place.create_file()
    it.says(": /.*/old/spec.json: created$")
    place.delete_file()
    it.says(": /.*/old/spec.json: deleted$")
    place.delete()
    it.says(": /.*/doomed: deleted$")


def test_watches_of_one_thing(place):
    """As incron makes them: of a file or directory itself, with DELETE_SELF."""
    inotify = Inotify()
    place.create_file()
    created = place.top + "/app/tags/old/spec.json"
    wait_for(lambda: os.path.exists(created), SECONDS)
    inotify.add(place.top + "/app/metadata.json", "file", mask("MODIFY|CLOSE_WRITE|DELETE_SELF"))
    inotify.add(created, "gone", mask("MODIFY|CLOSE_WRITE|DELETE_SELF"))
    inotify.add(place.top, "top", mask("CREATE|DELETE"))
    inotify.add(place.top + "/doomed", "directory", mask("DELETE_SELF"))
    inotify.add(place.top + "/doomed/tags/v1", "deep", mask("DELETE_SELF"))
    place.modify()
    assert inotify.until(lambda event: event == ("file", "", "CLOSE_WRITE"), SECONDS)
    place.delete_file()
    assert inotify.until(lambda event: event == ("gone", "", "DELETE_SELF"), SECONDS)
    place.create()
    assert inotify.until(lambda event: event == ("top", "fresh", "CREATE|ISDIR"), SECONDS)
    place.delete()
    missing = {("top", "doomed", "DELETE|ISDIR"), ("directory", "", "DELETE_SELF"), ("deep", "", "DELETE_SELF")}
    found = inotify.until(lambda event: missing.discard(event) or not missing, SECONDS)
    assert found, missing
    if not conftest.older("python3", "3.11"):  # whose rmtree holds what it removes
        assert found[-1] == ("top", "doomed", "DELETE|ISDIR")
    inotify.close()


def test_tail(place, watch):
    """It polls on FUSE, every second unless told otherwise."""
    place.create_file()
    file = place.top + "/app/tags/old/spec.json"
    wait_for(lambda: os.path.exists(file), SECONDS)
    it = watch("tail", "-n", "0", "-s", "0.1", "-F", place.top + "/app/metadata.json", file,
               place.top + "/doomed/spec.json")
    it.says("/doomed/spec.json <==")
    place.modify()
    it.says("==> .*/app/metadata.json <==|metadata.json.* truncated|^changed$")
    place.delete_file()
    it.says("/old/spec.json.* has become inaccessible: No such file or directory")
    place.create_file()
    it.says("/old/spec.json.* has appeared")
    place.delete()
    it.says("/doomed/spec.json.* has become inaccessible: No such file or directory")
