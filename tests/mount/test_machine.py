"""What this machine runs short of, or hides: descriptors, threads, memory, the mount's path, callers."""

import contextlib
import errno
import grp
import json
import os
import pwd
import resource
import signal
import socket
import subprocess
import threading
import time

import conftest
import pytest
from conftest import fails, is_mounted, unmount, wait_for
from events import Inotify, announcers

SECONDS = 60
LONELY = 61234  # a uid that nothing else has
USER = "games"  # who has no other processes: all of a user's count
PATIENT = "--request-timeout=60s"  # where many calls wait for few threads
LOST = "raise no events for now"
BACK = "raise events again"
SANITIZED = b"__asan_init" in open(conftest.PROGRAM, "rb").read()
NO_LEAK_CHECK = {"ASAN_OPTIONS": "detect_leaks=0"}  # it needs a process, and /proc, of its own


def limits(**values):
    """The words that make prlimit(1) run the rest under these limits, soft and hard."""
    return ["prlimit", *[f"--{name}={value}:{value}" for name, value in values.items()], "--"]


@contextlib.contextmanager
def limited(pid, kind, value, run=lambda function: function()):
    """A shortage that ends. `run`: whoever may set a limit of the process."""
    before = run(lambda: resource.prlimit(pid, kind))
    run(lambda: resource.prlimit(pid, kind, (value, before[1])))
    try:
        yield
    finally:
        run(lambda: resource.prlimit(pid, kind, tuple(before)))


def no_descriptor(pid):
    """The limit at which the process, which has come to rest, gets no further descriptor."""
    def used():
        return {int(name) for name in os.listdir(f"/proc/{pid}/fd")}

    def at_rest():
        before = used()
        time.sleep(0.3)
        return used() == before

    wait_for(at_rest, SECONDS, "rest")
    numbers = used()
    return next(number for number in range(len(numbers) + 1) if number not in numbers)


def read(path):
    with open(path) as file:
        return file.read()


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def edited(path, **fields):
    value = json.loads(read(path))
    value.update(fields)
    return json.dumps(value)


def labelled(path, **labels):
    value = json.loads(read(path))
    value.setdefault("labels", {}).update(labels)
    return json.dumps(value)


def labels(server, name="web", namespace="shop"):
    return server.get(namespace, name)["metadata"].get("labels", {})


def failure_of_a_save(path, text):
    """The errno of close(), or None."""
    try:
        write(path, text)
    except OSError as error:
        return error.errno
    return None


def until_announced(mount):
    wait_for(lambda: mount.status()["events"]["state"] == "announced", SECONDS, "the announcer")


def raises_events(server, mount, label):
    """A change on the server is an event here; files are known to the kernel then."""
    watch = Inotify()
    try:
        path = mount / "shop/web/metadata.json"
        read(path)
        watch.add(path)
        server.label("shop", "web", shown=label)
        return watch.until(lambda event: "MODIFY" in event[2], SECONDS) is not None
    finally:
        watch.close()


# ---- descriptors


def test_limit_is_raised(server, start_mount):
    mount = start_mount(server, prefix=["prlimit", "--nofile=200:3000", "--"])
    assert resource.prlimit(mount.process.pid, resource.RLIMIT_NOFILE) == (3000, 3000)


@pytest.mark.parametrize("limit", [64, 256, 1024])
def test_few_descriptors(server, start_mount, limit):
    mount = start_mount(server, PATIENT, prefix=limits(nofile=limit))
    write(mount / "shop/web/metadata.json", labelled(mount / "shop/web/metadata.json", few="yes"))
    assert labels(server)["few"] == "yes"
    assert raises_events(server, mount, "first")
    # Many saves at once, more than there are threads for.
    names = [f"one{i}" for i in range(40)]
    for name in names:
        server.create("shop", name)
    wait_for(lambda: set(names) <= set(os.listdir(mount / "shop")), SECONDS, "the streams")
    texts = {name: labelled(mount / "shop" / name / "metadata.json", n=name) for name in names}
    results = {}
    threads = [threading.Thread(target=lambda name=name: results.update({name: failure_of_a_save(
        mount / "shop" / name / "metadata.json", texts[name])})) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(names), mount.errors()
    assert raises_events(server, mount, "second")
    assert len(os.listdir(f"/proc/{mount.process.pid}/fd")) < limit


@pytest.mark.parametrize("host", ["127.0.0.1", socket.gethostname()])
def test_no_descriptor_at_the_start(server, directory, host):
    """Whatever lacks one, the CA's file, the resolver or the socket: it isn't the server's fault."""
    place = directory / f"short-{host}"
    place.mkdir(exist_ok=True)
    for limit in range(5, 9):
        done = subprocess.run(
            [*limits(nofile=limit), conftest.PROGRAM, "-f", "--server",
             server.url.replace("127.0.0.1", host), "--token-file", server.token_file,
             "--certificate-authority", server.ca, place], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=SECONDS, check=False, env=NO_LEAK_CHECK)
        assert done.returncode == 1 and not is_mounted(place)
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert "no file descriptor is left" in done.stderr or \
            os.strerror(errno.EMFILE) in done.stderr, (limit, done.stderr)


def test_no_descriptor_for_a_save(server, start_mount):
    mount = start_mount(server)
    mount.expect("Too many open files")
    until_announced(mount)
    path = mount / "shop/web/metadata.json"
    text = labelled(path, kept="yes")
    with limited(mount.process.pid, resource.RLIMIT_NOFILE, no_descriptor(mount.process.pid)):
        assert failure_of_a_save(path, text) == errno.EMFILE
        reason = read(mount / "shop/web/metadata.json.error")
        assert "no file descriptor is left on this machine" in reason and "http" not in reason
        assert json.loads(read(mount / "shop/web/metadata.json.rejected")) == json.loads(text)
        assert mount.status()["lastError"]["errno"] == "EMFILE"
        assert mount.status()["callers"]["told"]
    write(path, text)
    assert labels(server)["kept"] == "yes"


def test_no_descriptor_for_the_announcer(server, start_mount):
    mount = start_mount(server)
    mount.expect(LOST)
    mount.expect(BACK)
    mount.expect("Too many open files")
    until_announced(mount)
    path = mount / "shop/web/metadata.json"
    read(path)
    (pid,) = announcers(mount.process.pid)
    with limited(mount.process.pid, resource.RLIMIT_NOFILE, 8):
        os.kill(pid, signal.SIGKILL)
        # Longer than five starts, after which it was given up.
        wait_for(lambda: mount.stderr.read_text().count(LOST), SECONDS, "the line")
        server.label("shop", "web", meanwhile="yes")
        wait_for(lambda: "meanwhile" in read(path), SECONDS, "the change")
        status = wait_for(lambda: (s := mount.status()["events"])["state"] == "lost" and
                          s["lost"] and s, SECONDS, "the loss")
        assert status["reason"] == os.strerror(errno.EMFILE)
        assert "imagestreamfs_announcer_works 0" in read(mount / ".api/metrics")
    until_announced(mount)
    assert raises_events(server, mount, "again")
    assert mount.stderr.read_text().count(LOST) == 1
    assert mount.stderr.read_text().count(BACK) == 1


# ---- threads


@pytest.fixture
def shared(server):
    """The server's files, which another user may read, too."""
    for path in (server.kubeconfig, server.ca, server.token_file):
        path.chmod(0o644)
    return server


def test_no_thread_at_the_start(shared, start_mount):
    # A user of its own: what others of USER's run beside it would count, too.
    mount = start_mount(shared, user=LONELY, wait=False, prefix=limits(nproc=1),
                        environment=NO_LEAK_CHECK)
    mount.expect("no thread can be made here")
    assert mount.process.wait(SECONDS) == 1
    lines = mount.stderr.read_text().splitlines()
    assert len(lines) == 1 and "Resource temporarily unavailable" in lines[0], lines
    assert not is_mounted(mount.path)
    mount.process.returncode = 0  # as it has to be, here


def save_beside_each_other(server, mount, run, names):
    """One save a stream, all of them waiting for the server at once; the errno of each."""
    for name in names:
        server.create("shop", name)
    texts = {name: run(lambda name=name: wait_until_readable(mount, name)) for name in names}
    server.fault(method="PATCH", path="/imagestreams/", count=len(names), delay=1)
    results = {}
    threads = [threading.Thread(target=lambda name=name: results.update({name: run(
        lambda: failure_of_a_save(mount / "shop" / name / "metadata.json", texts[name]))}))
        for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def wait_until_readable(mount, name):
    path = mount / "shop" / name / "metadata.json"
    wait_for(path.exists, SECONDS, name)
    return labelled(path, n=name)


def as_user(function):
    """In a process of the user's. What it returns is a string, a number or None."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(*3 * [grp.getgrnam("nogroup").gr_gid])
            os.setresuid(*3 * [pwd.getpwnam(USER).pw_uid])
            os.write(writing, json.dumps(function()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return json.loads(text)


def test_no_further_thread(shared, start_mount):
    """Calls wait for the threads that there are; nothing is aborted, and it heals."""
    mount = start_mount(shared, PATIENT, user=USER, environment=NO_LEAK_CHECK)
    mount.expect("no further thread")
    mount.expect("fuse: error creating thread")  # libfuse's, for its workers
    names = ["few1", "few2", "few3"]
    with limited(mount.process.pid, resource.RLIMIT_NPROC, 1, as_user):
        assert save_beside_each_other(shared, mount, as_user, names) == dict.fromkeys(names)
        assert mount.process.poll() is None
        assert "no further thread" in mount.stderr.read_text()
    more = ["many1", "many2", "many3"]
    before = len(os.listdir(f"/proc/{mount.process.pid}/task"))
    assert save_beside_each_other(shared, mount, as_user, more) == dict.fromkeys(more)
    assert len(os.listdir(f"/proc/{mount.process.pid}/task")) > before
    assert mount.stderr.read_text().count("no further thread") == 1


def test_no_process_for_the_announcer(shared, start_mount):
    mount = start_mount(shared, user=USER, environment=NO_LEAK_CHECK)
    mount.expect("fuse: error creating thread")
    mount.expect(LOST)
    mount.expect(BACK)
    path = mount / "shop/web/metadata.json"

    def state():
        return as_user(lambda: mount.status()["events"]["state"])

    wait_for(lambda: state() == "announced", SECONDS, "the announcer")
    with limited(mount.process.pid, resource.RLIMIT_NPROC, 1, as_user):
        for pid in announcers(mount.process.pid):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: LOST in mount.stderr.read_text(), SECONDS, "the line")
        assert state() == "lost"
        shared.label("shop", "web", meanwhile="yes")
        wait_for(lambda: "meanwhile" in as_user(lambda: read(path)), SECONDS, "the change")
    wait_for(lambda: state() == "announced", SECONDS, "the announcer")


@pytest.mark.skipif(SANITIZED, reason="the sanitizer ends a program that gets no memory")
def test_no_memory_for_a_thread(server, start_mount):
    mount = start_mount(server, PATIENT)
    mount.expect("no further thread")
    mount.expect("fuse: error creating thread")
    until_announced(mount)
    with open(f"/proc/{mount.process.pid}/statm") as file:
        size = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    names = ["few1", "few2", "few3"]
    with limited(mount.process.pid, resource.RLIMIT_AS, size + (4 << 20)):
        done = save_beside_each_other(server, mount, lambda f: f(), names)
        assert set(done.values()) <= {None, errno.ENOMEM, errno.EAGAIN}, done
        assert mount.process.poll() is None
    assert failure_of_a_save(mount / "shop/few1/metadata.json",
                             labelled(mount / "shop/few1/metadata.json", after="yes")) is None


# ---- the mount's path


@contextlib.contextmanager
def mounted(*arguments):
    """One more mount, at the last of the arguments."""
    subprocess.run(["mount", *map(str, arguments)], check=True)
    try:
        yield
    finally:
        if is_mounted(arguments[-1]):
            unmount(arguments[-1])


@pytest.fixture
def kept(mount):
    """The mount's tree at another path, too."""
    path = mount.directory / "kept"
    path.mkdir()
    with mounted("--bind", mount.path, path):
        yield path


def shown_without_events(server, mount, top):
    """Changes are shown at `top`, though nothing can be announced; how often it was started."""
    mount.expect(LOST)
    mount.expect(BACK)

    def status():
        return json.loads(read(top / ".api/status.json"))["events"]

    for number in range(3):
        server.label("shop", "web", silent=str(number))
        server.create("shop", f"new{number}")
        wait_for(lambda number=number: f'"silent": "{number}"' in read(
            top / "shop/web/metadata.json"), SECONDS, "the change")
        wait_for(lambda number=number: (top / f"shop/new{number}").is_dir(), SECONDS, "the stream")
        server.delete("shop", f"new{number}")
        wait_for(lambda number=number: not (top / f"shop/new{number}").exists(), SECONDS, "its end")
    wait_for(lambda: LOST in mount.stderr.read_text(), SECONDS, "the line")
    found = status()
    assert found["state"] == "lost" and found["lost"] > 0 and "path" in found["reason"], found
    return status


def starts_of(mount, during):
    """How many announcers there are one after the other, while that happens."""
    seen = set()
    end = threading.Event()

    def look():
        while not end.wait(0.02):
            seen.update(announcers(mount.process.pid))

    looker = threading.Thread(target=look)
    looker.start()
    try:
        during()
    finally:
        end.set()
        looker.join()
    return len(seen)


def test_path_is_unmounted(server, mount, kept):
    until_announced(mount)
    os.listdir(kept / "shop")
    read(kept / "shop/web/metadata.json")
    unmount(mount.path)
    status = shown_without_events(server, mount, kept)
    assert "not found" not in read(kept / "shop/web/metadata.json")
    with mounted("--bind", kept, mount.path):
        wait_for(lambda: status()["state"] == "announced", SECONDS, "the announcer")
        assert raises_events(server, mount, "again")
    assert mount.stderr.read_text().count(LOST) == 1
    unmount(kept)
    assert mount.process.wait(SECONDS) == 0


def test_path_is_covered(server, mount, kept):
    until_announced(mount)
    os.listdir(kept / "shop")
    read(kept / "shop/web/metadata.json")
    with mounted("-t", "tmpfs", "tmpfs", mount.path):
        status = shown_without_events(server, mount, kept)
        assert os.listdir(mount.path) == []
    wait_for(lambda: status()["state"] == "announced", SECONDS, "the announcer")
    assert raises_events(server, mount, "again")


def test_path_is_started_on_rarely(server, mount, kept):
    """Where it comes to nothing it is tried after 1, 2, 4 s and so on."""
    mount.expect(LOST)
    until_announced(mount)
    read(kept / "shop/web/metadata.json")
    unmount(mount.path)
    server.label("shop", "web", silent="yes")
    wait_for(lambda: LOST in mount.stderr.read_text(), SECONDS, "the line")
    # Two more starts at most in the next 8 s; there were eight.
    assert starts_of(mount, lambda: threading.Event().wait(8)) <= 3
    unmount(kept)
    assert mount.process.wait(SECONDS) == 0


# ---- callers that can't be told


class Elsewhere:
    """The program in namespaces of its own, whose tree is reached through /proc."""

    def __init__(self, server, start_mount, prefix, line):
        self.server = server
        self.mount = start_mount(server, wait=False, prefix=prefix, environment=NO_LEAK_CHECK)
        if line:
            self.mount.expect(line)
        self.pid = wait_for(self.find, SECONDS, "the program")
        self.top = f"/proc/{self.pid}/root{self.mount.path}"
        wait_for(lambda: os.path.exists(f"{self.top}/shop"), SECONDS, "the mount")

    def find(self):
        """The program: among the descendants of what was started."""
        todo = [self.mount.process.pid]
        while todo:
            pid = todo.pop()
            assert self.mount.process.poll() is None, self.mount.stderr.read_text()
            with contextlib.suppress(OSError):
                if os.path.samefile(f"/proc/{pid}/exe", conftest.PROGRAM):
                    return pid
                with open(f"/proc/{pid}/task/{pid}/children") as file:
                    todo += map(int, file.read().split())
        return None

    def __truediv__(self, name):
        return f"{self.top}/{name}"

    def status(self):
        return json.loads(read(self / ".api/status.json"))

    def change(self, **fields):
        """By somebody else; over when it is shown. Nothing is opened here: that would be a base."""
        path = self / "shop/web/metadata.json"
        before = os.stat(path).st_mtime_ns
        self.server.label("shop", "web", **fields)
        wait_for(lambda: os.stat(path).st_mtime_ns != before, SECONDS, "the change")

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        assert self.mount.process.wait(SECONDS) == 0


PID = ["unshare", "--pid", "--fork", "--kill-child"]
PROC = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
HIDDEN = ["unshare", "--mount", "sh", "-c", "mount -t proc -o hidepid=2,gid=65534 proc /proc && "
          "exec setpriv --bounding-set=-sys_ptrace -- \"$@\"", "sh"]
UNTOLD = "can't be told from"


@pytest.fixture(params=[PID, PROC, HIDDEN], ids=["pid", "mount-proc", "hidepid"])
def elsewhere(request, server, start_mount):
    place = Elsewhere(server, start_mount, request.param, UNTOLD)
    yield place
    place.stop()


@pytest.mark.parametrize("way", ["close", "rename"])
def test_change_of_another_is_not_lost(server, elsewhere, way):
    """Read, change on the server, save: the other's change was undone without a word."""
    path = elsewhere / "shop/web/metadata.json"
    text = labelled(path, tier="mine")
    elsewhere.change(tier="theirs")
    if way == "close":
        assert failure_of_a_save(path, text) == errno.ESTALE
    else:
        write(path + ".new", text)
        with fails(errno.EBUSY):
            os.rename(path + ".new", path)
    assert labels(server)["tier"] == "theirs"
    reason = read(path + ".error")
    assert "theirs" in reason and "mine" in reason
    # Neither is a change that the text doesn't know of.
    text = read(path)
    elsewhere.change(beside="theirs")
    value = json.loads(text)
    value["labels"]["other"] = "mine"
    write(path, json.dumps(value))
    assert labels(server)["beside"] == "theirs" and labels(server)["other"] == "mine"


def test_nobody_read_it(server, elsewhere):
    """Who never looked lays a whole text there: from the version at open."""
    path = elsewhere / "shop/web/metadata.json"
    value = {key: one for key, one in server.get("shop", "web")["metadata"].items()
             if key not in ("managedFields", "resourceVersion", "generation")}
    value["labels"] = {"whole": "text"}
    write(path, json.dumps(value))
    assert labels(server) == {"whole": "text"}


def test_part_of_a_text_waits(server, elsewhere):
    path = elsewhere / "shop/web/metadata.json"
    text = labelled(path, whole="yes")
    with open(path, "w") as file:
        for piece in (text[:20], text[20:-1], text[-1:]):
            assert "whole" not in labels(server)
            file.write(piece)
            file.flush()
            os.close(os.dup(file.fileno()))  # a flush, as each command of a script makes one
        assert labels(server)["whole"] == "yes"


def test_whole_yaml_is_saved_at_last(server, elsewhere):
    """A part of YAML is YAML, too, and nobody knows who opened it."""
    path = elsewhere / "shop/web/imagestream.yaml"
    text = read(path).replace("metadata:\n", "metadata:\n  labels: {yaml: \"yes\"}\n", 1) \
        if "labels:" not in read(path) else read(path).replace("labels:\n",
                                                               "labels:\n    yaml: \"yes\"\n", 1)
    write(path, text)
    wait_for(lambda: labels(server).get("yaml") == "yes", SECONDS, "the save")


def test_patch_in_api(server, elsewhere):
    write(elsewhere / "shop/web/.api/merge-patch", '{"metadata": {"labels": {"patched": "yes"}}}')
    assert labels(server)["patched"] == "yes"


def test_signal_cancels_nothing(server, elsewhere):
    """Nobody can say that it wasn't a terminal being resized."""
    path = elsewhere / "shop/web/metadata.json"
    text = labelled(path, slow="yes")
    server.fault(method="PATCH", path="/imagestreams/web$", delay=2)
    code = ("import signal, sys\nsignal.signal(signal.SIGINT, lambda *a: None)\n"
            "f = open(sys.argv[1], 'w'); f.write(sys.argv[2]); f.flush()\n"
            "print(flush=True); f.close()")
    saving = subprocess.Popen(["/usr/bin/python3", "-c", code, path, text], stdout=subprocess.PIPE)
    saving.stdout.readline()
    for _ in range(10):
        if saving.poll() is None:
            saving.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            saving.wait(0.1)
    assert saving.wait(SECONDS) == 0
    saving.stdout.close()
    assert labels(server)["slow"] == "yes"


def test_it_is_said(elsewhere):
    read(elsewhere / "shop/web/spec.json")
    status = elsewhere.status()["callers"]
    assert not status["told"] and status["unknownSeen"] and status["reason"]
    lines = [line for line in elsewhere.mount.stderr.read_text().splitlines() if UNTOLD in line]
    assert len(lines) == 1, lines


def test_changes_are_announced_from_a_namespace(server, elsewhere):
    """The announcer is in the program's own namespace, and so it is known."""
    wait_for(lambda: elsewhere.status()["events"]["state"] == "announced", SECONDS, "the announcer")


def test_callers_are_told(mount):
    read(mount / "shop/web/spec.json")
    assert mount.status()["callers"] == {"told": True, "unknownSeen": False, "reason": None}
