"""inotify without a library, and an agent that watches, looks and changes as another user.

An event is (watched, name, flags): the watched path below the top, the name that a directory's
watch gives ("" for the watched thing itself), and "CREATE|ISDIR" and the like.

A step is ("mkdir", path), ("create", path), ("modify", path), ("unlink", path) or ("rmdir", path):
what somebody would do to local files. Run as a program, this file is the agent.
"""

import contextlib
import ctypes
import http.client
import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time

from stopwatch import SAMPLE, Stopwatch

FLAGS = {"ACCESS": 0x1, "MODIFY": 0x2, "ATTRIB": 0x4, "CLOSE_WRITE": 0x8, "CLOSE_NOWRITE": 0x10,
         "OPEN": 0x20, "MOVED_FROM": 0x40, "MOVED_TO": 0x80, "CREATE": 0x100, "DELETE": 0x200,
         "DELETE_SELF": 0x400, "MOVE_SELF": 0x800, "UNMOUNT": 0x2000, "Q_OVERFLOW": 0x4000,
         "IGNORED": 0x8000, "ISDIR": 0x40000000}
ALL = 0xFFF
# What a reader raises.
READS = {"OPEN", "ACCESS", "CLOSE_NOWRITE", "ISDIR"}
PYTHON = "/usr/bin/python3"
libc = ctypes.CDLL(None, use_errno=True)


def mask(text):
    return sum(FLAGS[flag] for flag in text.split("|"))


class Inotify:
    """One instance; watches are told apart by the names that they were given."""

    def __init__(self):
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self.fd >= 0, os.strerror(ctypes.get_errno())
        self.names = {}
        self.waiting = []

    def add(self, path, name=None, wanted=ALL):
        wd = libc.inotify_add_watch(self.fd, os.fsencode(path), wanted)
        if wd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
        self.names[wd] = str(path) if name is None else name

    def read(self):
        """What is there now."""
        return [(self.names.get(wd, "?"), *event) for wd, *event in self.read_numbered()]

    def read_numbered(self):
        """The same with the number of each watch, whose name an earlier event may change."""
        events = []
        while True:
            try:
                data = os.read(self.fd, 1 << 20)
            except BlockingIOError:
                return events
            at = 0
            while at < len(data):
                wd, bits, _, length = struct.unpack_from("iIII", data, at)
                name = os.fsdecode(data[at + 16:at + 16 + length].rstrip(b"\0"))
                flags = "|".join(flag for flag, bit in FLAGS.items() if bits & bit)
                events.append((wd, name, flags))
                at += 16 + length

    def take(self, number, seconds, quiet=0):
        """That many events if they come in time, then what comes within the quiet time."""
        events, self.waiting = self.waiting, []
        watch = Stopwatch()
        while len(events) < number and watch.seconds() < seconds:
            select.select([self.fd], [], [], SAMPLE)
            events += self.read()
        if quiet:
            time.sleep(quiet)
        return events + self.read()

    def until(self, wanted, seconds):
        """All events up to the first that is wanted; None if that doesn't come."""
        events, self.waiting = self.waiting, []
        watch = Stopwatch()
        at = 0
        while True:
            for at in range(at, len(events)):
                if wanted(events[at]):
                    self.waiting = events[at + 1:]
                    return events[:at + 1]
            at = len(events)
            if watch.seconds() >= seconds:
                self.waiting = events
                return None
            select.select([self.fd], [], [], SAMPLE)
            events += self.read()

    def close(self):
        os.close(self.fd)


# What an agent can be told.


class Worker:
    def __init__(self):
        self.instances = {}
        self.held = []

    def walk(self, top, reading=True):
        """Path below the top → content (as latin-1), None for a directory."""
        found = {}
        todo = [""]
        while todo:
            place = todo.pop()
            for name in os.listdir(os.path.join(top, place)):
                path = os.path.join(place, name)
                whole = os.path.join(top, path)
                if os.path.isdir(whole):
                    found[path] = None
                    todo.append(path)
                elif reading:
                    with open(whole, "rb") as file:
                        found[path] = file.read().decode("latin-1")
                else:
                    found[path] = ""
        return found

    def exists(self, path):
        return os.path.lexists(path)

    def wait_exists(self, path, seconds):
        watch = Stopwatch()
        while not os.path.lexists(path):
            if watch.seconds() > seconds:
                return False
            time.sleep(0.002)
        return True

    def read_file(self, path):
        with open(path, "rb") as file:
            return file.read().decode("latin-1")

    def mtime(self, path):
        return os.stat(path).st_mtime_ns

    def watch(self, key, top, names, wanted=ALL):
        instance = self.instances.pop(key, None)
        if instance:
            instance.close()
        instance = self.instances[key] = Inotify()
        for name in names:
            instance.add(os.path.join(top, name), name, wanted)

    def take(self, key, number, seconds, quiet=0):
        return self.instances[key].take(number, seconds, quiet)

    def hold(self, path):
        self.held.append(os.open(path, os.O_RDONLY))

    def enter(self, path):
        """A process whose directory that is."""
        self.held.append(subprocess.Popen(["sleep", "1000"], cwd=path))

    def release(self):
        """What had become of it: the link count of each; and the content of files."""
        seen = []
        for held in self.held:
            if isinstance(held, int):
                seen.append([os.fstat(held).st_nlink, os.pread(held, 1 << 20, 0).decode("latin-1")])
                os.close(held)
            else:
                seen.append([os.stat(f"/proc/{held.pid}/cwd").st_nlink])
                held.kill()
                held.wait()
        self.held = []
        return seen

    # Changes of local files. Nothing is opened but what is written.

    def build(self, top, tree):
        for path in sorted(tree):
            whole = os.path.join(top, path)
            if tree[path] is None:
                os.mkdir(whole)
            else:
                with open(whole, "xb") as file:
                    file.write(tree[path].encode("latin-1"))

    def perform(self, top, steps):
        for step in steps:
            path = os.path.join(top, step[1])
            getattr(self, "do_" + step[0])(path, *step[2:])

    def do_mkdir(self, path, content=None):
        # Its maker sees nothing in it; this process looks at what the server puts there.
        subprocess.run(["mkdir", path], check=True)
        self.build(path, content or {})

    def do_create(self, path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, b"new\n")
        os.close(fd)

    def do_modify(self, path):
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, b"changed\n")
        os.close(fd)

    def do_unlink(self, path):
        os.unlink(path)

    def do_rmdir(self, path):
        os.rmdir(path)

    def do_save(self, path, text):
        """As `echo TEXT > PATH`: the shell truncates."""
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        os.write(fd, text.encode())
        os.close(fd)

    def do_replace(self, path, text):
        """As an editor that writes beside the file and renames."""
        fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, text.encode())
        os.close(fd)
        os.rename(path + ".new", path)


def work():
    worker = Worker()
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            answer = [getattr(worker, name)(*arguments), None]
        except OSError as error:
            answer = [None, [error.errno, str(error)]]
        print(json.dumps(answer), flush=True)


class Agent:
    """`prefix` is what makes the process somebody else, in another place."""

    def __init__(self, *prefix, script=__file__):
        self.process = subprocess.Popen([*prefix, PYTHON, str(script)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __getattr__(self, name):
        def call(*arguments):
            self.process.stdin.write(json.dumps([name, arguments]) + "\n")
            self.process.stdin.flush()
            ready, _, _ = select.select([self.process.stdout], [], [], 60)
            assert ready, f"{name} hangs"
            line = self.process.stdout.readline()
            assert line, f"the agent ended in {name}"
            value, error = json.loads(line)
            if error:
                raise OSError(*error)
            return value
        return call

    def events(self, key, number, seconds, quiet=0):
        return [tuple(event) for event in self.take(key, number, seconds, quiet)]

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class KeptServer:
    """conftest's Server by one connection that is kept: ten times as fast as one for each call."""

    def __init__(self, server):
        self.server = server
        self.connection = None

    def __getattr__(self, name):
        return getattr(self.server, name)

    def request(self, method, path, body=None, content_type="application/json"):
        if self.connection is None:
            host, port = self.server.url.rpartition("//")[2].split(":")
            self.connection = http.client.HTTPSConnection(host, int(port), timeout=60,
                                                          context=self.server.context)
        try:
            self.connection.request(
                method, path, None if body is None else json.dumps(body), headers={
                    "Authorization": "Bearer " + self.server.token, "Accept": "application/json",
                    "User-Agent": "tests", "Content-Type": content_type})
            response = self.connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            self.connection = None
            raise OSError(str(error)) from None
        assert response.status < 400, f"{method} {path}: {response.status} {text}"
        return json.loads(text) if text else None

    def control(self, method, name, body=None):
        return self.request(method, "/_control/" + name, body)

    def bulk(self, *changes):
        return self.control("POST", "bulk", list(changes))

    def get(self, namespace, name):
        return self.request("GET", self.server.streams(namespace, name))


def announcers(program):
    """The processes that the program started and that are the program themselves."""
    def command_line(pid):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()

    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                above = int(file.read().rpartition(")")[2].split()[1])
            # Between vfork() and execve() it is the program still, which waits for it.
            if above == program and command_line(pid) != command_line(program) and \
                    os.path.samefile(f"/proc/{pid}/exe", f"/proc/{program}/exe"):
                found.append(int(pid))
        except OSError:
            pass
    return found


class Abort:
    """Ends mounts that answer nobody, so that the test fails instead of waiting for ever."""

    def __init__(self, directory, seconds=60):
        self.directory = str(directory)
        self.timer = threading.Timer(seconds, self.run)

    def run(self):
        with open("/proc/self/mountinfo") as table:
            paths = [line.split()[4] for line in table if " fuse.imagestreamfs " in line]
        for path in paths:
            if path.startswith(self.directory + "/"):
                libc.umount2(os.fsencode(path), 1)  # MNT_FORCE

    def __enter__(self):
        self.timer.start()

    def __exit__(self, *_):
        self.timer.cancel()


# Lists of events.


def parent(path):
    return path.rpartition("/")[0]


def by_directory(events, directories):
    """Directory → what its watch and those of its files said, in order."""
    groups = {}
    for watched, name, flags in events:
        if watched in directories:
            groups.setdefault(watched, []).append((".", name, flags))
        else:
            groups.setdefault(parent(watched), []).append(
                (watched.rpartition("/")[2], name, flags))
    return groups


def by_name(events, directories):
    """The same, where things in one directory may happen at one time."""
    groups = {}
    for directory, entries in by_directory(events, directories).items():
        for watched, name, flags in entries:
            key = f"{directory}/{name or watched}"
            groups.setdefault(key, []).append((watched, flags))
    return groups


MARKS = {"mkdir": "CREATE|ISDIR", "create": "CREATE", "modify": "OPEN", "unlink": "DELETE",
         "rmdir": "DELETE|ISDIR"}


def in_order_of(events, steps):
    """The steps as somebody would have done them who raised these events in this order."""
    def when(step):
        place, _, name = step[1].rpartition("/")
        event = (place, name, MARKS.get(step[0]))
        return events.index(event) if event in events else len(events)
    return sorted(steps, key=when)


def compare(found, expected):
    """Both are groups of events."""
    wrong = []
    for place in sorted(found.keys() | expected.keys()):
        here, there = found.get(place, []), expected.get(place, [])
        if here != there:
            wrong.append(f"in {place or 'the root'}:\n" + "\n".join(
                f"    {'here' if lines is here else 'tmpfs'}: "
                + (", ".join(" ".join(filter(None, line)) for line in lines) or "nothing")
                for lines in (here, there)))
    assert not wrong, "\n".join(wrong)


class Inotifywait:
    """inotifywait -m -r. Directories that it opens itself are left out."""

    def __init__(self, top, *prefix):
        self.top = str(top)
        self.process = subprocess.Popen(
            [*prefix, "inotifywait", "-m", "-r", "--format", "%w|%f|%e", self.top],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.rest = b""
        self.taken = []
        self.errors = b""
        os.set_blocking(self.process.stdout.fileno(), False)
        while b"Watches established" not in self.errors:
            data = os.read(self.process.stderr.fileno(), 4096)
            assert data, self.errors
            self.errors += data

    def read(self):
        try:
            data = self.rest + os.read(self.process.stdout.fileno(), 1 << 20)
        except BlockingIOError:
            return []
        lines = data.split(b"\n")
        self.rest = lines.pop()
        events = []
        for line in lines:
            watched, name, flags = os.fsdecode(line).split("|")
            flags = flags.split(",")
            # CLOSE stands beside CLOSE_WRITE and CLOSE_NOWRITE.
            flags = {flag for flag in flags if flag != "CLOSE"}
            if flags <= READS and "ISDIR" in flags:
                continue
            path = os.path.relpath(watched, self.top)
            events.append(("" if path == "." else path, name,
                           "|".join(flag for flag in FLAGS if flag in flags)))
        return events

    def take(self, number, seconds, quiet=0):
        events = []
        watch = Stopwatch()
        while len(events) < number and watch.seconds() < seconds:
            select.select([self.process.stdout], [], [], SAMPLE)
            events += self.read()
        if quiet:
            time.sleep(quiet)
        return events + self.read()

    def watches(self):
        """How many there are, which says whether new directories have been found."""
        total = 0
        for fd in os.listdir(f"/proc/{self.process.pid}/fdinfo"):
            with contextlib.suppress(FileNotFoundError), open(
                    f"/proc/{self.process.pid}/fdinfo/{fd}") as file:
                total += sum(line.startswith("inotify ") for line in file)
        return total

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        while True:
            with open(f"/proc/{self.process.pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "T":
                    return
            time.sleep(0.001)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


if __name__ == "__main__":
    work()
