"""Those who live on a mount while the server changes: a writer, a reader, and a mirror.

Each is a process (events.Agent) that works in the background until it is told to stop, and answers
calls meanwhile. The mirror knows the tree by one walk and by inotify's events alone: what it has in
the end is the net effect of all events.
"""

import collections
import contextlib
import errno
import json
import mmap
import os
import random
import select
import shutil
import sys
import tempfile
import threading

from events import FLAGS, Inotify, mask

NAMES = ("imagestream.json", "imagestream.yaml", "metadata.json", "spec.json", "status.json")
TAG_NAMES = ("spec.json", "status.json", "from", "image")
WATCHED = mask("ATTRIB|CLOSE_WRITE|MOVED_FROM|MOVED_TO|CREATE|DELETE")
REMEMBERED = 12  # events of each path, for the report
PROMPT = 0.2  # seconds until somebody who waits looks whether he should end


def places(universe):
    """Every path that may ever be there, whether it is a directory, by depth."""
    yield "", True
    for namespace in universe["namespaces"]:
        yield namespace, True
        for stream in universe["streams"]:
            top = f"{namespace}/{stream}"
            yield top, True
            yield from ((f"{top}/{name}", False) for name in NAMES)
            yield top + "/tags", True
            for tag in universe["tags"]:
                yield f"{top}/tags/{tag}", True
                yield from ((f"{top}/tags/{tag}/{name}", False) for name in TAG_NAMES)


def read_file(path):
    with open(path, "rb", buffering=0) as file:
        return file.readall()


class Background(threading.Thread):
    def __init__(self, top, universe, seed):
        super().__init__(daemon=True)
        self.top = top
        self.universe = universe
        self.places = list(places(universe))
        self.dice = random.Random(seed)
        self.ending = threading.Event()
        self.problems = []
        self.rounds = 0

    def path(self, *names):
        return os.path.join(self.top, *names)

    def run(self):
        while not self.ending.is_set():
            try:
                self.work()
            except Exception as error:  # pylint: disable=broad-except
                self.problems.append(repr(error))
                return
            self.rounds += 1

    def finish(self):
        self.ending.set()
        self.join()
        return {"problems": self.problems[:20], "rounds": self.rounds}


class Mirror(Background):
    """Follows the tree by its events."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.inotify = Inotify()
        self.tree = {}  # path -> bytes, None for a directory
        self.log = collections.defaultdict(lambda: collections.deque(maxlen=REMEMBERED))
        self.later = set()  # paths that can't be read yet
        self.lock = threading.Lock()  # tree and log
        self.enter("")

    def enter(self, path):
        """A directory that is new to us, and all below it."""
        try:
            self.inotify.add(self.path(path), path, WATCHED)
            self.tree[path] = None
            for name in os.listdir(self.path(path)):
                below = os.path.join(path, name)
                if os.path.isdir(self.path(below)):
                    self.enter(below)
                else:
                    self.read(below)
        except FileNotFoundError:
            pass  # an event will say so
        except OSError:
            self.later.add(path)  # a namespace whose streams aren't listed yet

    def read(self, path):
        """What is gone again stays known until its event comes."""
        try:
            self.tree[path] = read_file(self.path(path))
        except FileNotFoundError:
            self.tree[path] = b"(nothing to read)"
        except OSError:
            self.tree.setdefault(path, b"(not read yet)")
            self.later.add(path)

    def try_again(self):
        again, self.later = self.later, set()
        for path in again:
            if self.tree.get(path) is None:
                self.enter(path)
            else:
                self.read(path)

    def leave(self, path):
        self.later -= {one for one in self.later if one == path or one.startswith(path + "/")}
        for one in [one for one in self.tree if one == path or one.startswith(path + "/")]:
            del self.tree[one]
        for wd, place in list(self.inotify.names.items()):
            if place == path or place.startswith(path + "/"):
                del self.inotify.names[wd]

    def work(self):
        select.select([self.inotify.fd], [], [], PROMPT)
        with self.lock:
            self.try_again()
        for wd, name, text in self.inotify.read_numbered():
            place = self.inotify.names.get(wd, "?")
            flags = set(text.split("|"))
            if "Q_OVERFLOW" in flags:
                self.problems.append("inotify's queue was full")
            if place == "?" or not name:
                continue  # of a directory that is gone, or of a watched thing itself
            path = os.path.join(place, name)
            with self.lock:
                self.follow(path, flags)
                found = self.tree.get(path, "gone")
                self.log[path].append(f"{text}: {len(found)} bytes" if isinstance(found, bytes) else text)

    def follow(self, path, flags):
        if flags & {"DELETE", "MOVED_FROM"}:
            self.leave(path)
        elif flags & {"CREATE", "MOVED_TO"}:
            if "ISDIR" in flags:
                self.enter(path)
            else:
                self.read(path)
        elif flags & {"CLOSE_WRITE"} and path in self.tree:
            self.read(path)

    def compare(self, expected):
        """The topmost paths that differ: (path, expected, found, events)."""
        with self.lock:
            found = {path: (None if content is None else content.decode("latin-1"))
                     for path, content in self.tree.items()
                     if not path.endswith((".rejected", ".error"))
                     and content != b""}  # begun and not saved: it goes without an event
            log = {path: list(events) for path, events in self.log.items()}
        return [("", "no problems", self.problems, [])] * bool(self.problems) + [
            (path, *sides, log.get(path, [])) for path, *sides in differences(expected, found)]


MISSING = "(not there)"


def differences(expected, found):
    """The topmost only; both map paths to text, None for a directory."""
    out = []
    for path in sorted(expected.keys() | found.keys()):
        sides = [one.get(path, MISSING) for one in (expected, found)]
        if sides[0] != sides[1] and not any(path.startswith(above + "/") for above, *_ in out):
            out.append((path, *sides))
    return out


class Reader(Background):
    """Fills the kernel's caches with whatever there is and isn't, and holds things open."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.held = []
        self.failures = collections.Counter()

    def work(self):
        path, is_directory = self.dice.choice(self.places)
        try:
            if self.dice.random() < 0.4:
                os.lstat(self.path(path))
            elif is_directory:
                os.listdir(self.path(path))
            else:
                self.open_and_read(self.path(path))
        except FileNotFoundError:
            pass
        except OSError as error:
            self.failures[errno.errorcode[error.errno]] += 1
        self.ending.wait(self.dice.random() * 0.03)

    def open_and_read(self, path):
        fd = os.open(path, os.O_RDONLY)
        self.held.append([fd, None])
        size = os.fstat(fd).st_size
        os.pread(fd, size + 1, 0)
        if 0 < size <= 1 << 16:
            with contextlib.suppress(ValueError):  # it is smaller meanwhile
                self.held[-1][1] = mmap.mmap(fd, size, prot=mmap.PROT_READ)
        while len(self.held) > self.dice.randrange(12):
            self.release(self.dice.randrange(len(self.held)))

    def release(self, index):
        fd, mapping = self.held.pop(index)
        if mapping is not None:
            mapping.close()
        os.close(fd)

    def finish(self):
        result = super().finish()
        while self.held:
            self.release(0)
        return {**result, "failures": dict(self.failures)}

    def compare(self, expected, modes):
        """Names that are and aren't there by lookup, then bytes and modes, then listings."""
        wrong = []
        ours = [place for place, _ in self.places]
        self.dice.shuffle(ours)
        for path in ours:
            if os.path.lexists(self.path(path)) != (path in expected):
                wrong.append((path, path in expected, path not in expected, ["lookup"]))
        for path, content in expected.items():
            wrong += self.compare_file(path, content, modes[path])
        wrong += self.compare_listings(expected)
        return wrong

    def compare_file(self, path, content, mode):
        try:
            st = os.lstat(self.path(path))
            if st.st_mode & 0o7777 != mode:
                yield path, f"{mode:o}", f"{st.st_mode & 0o7777:o}", ["mode"]
            if content is not None:
                found = read_file(self.path(path)).decode("latin-1")
                if found != content or st.st_size != len(found):
                    yield path, content, found, ["bytes", st.st_size]
        except OSError as error:
            yield path, content, errno.errorcode[error.errno], ["read"]

    def compare_listings(self, expected):
        listed = collections.defaultdict(set)
        for path in filter(None, expected):
            above, _, name = path.rpartition("/")
            listed[above].add(name)
        for path, content in expected.items():
            if content is None:
                try:
                    found = sorted(os.listdir(self.path(path)))
                except OSError as error:
                    found = errno.errorcode[error.errno]
                if found != sorted(listed[path]):
                    yield path, sorted(listed[path]), found, ["listing"]


class Writer(Background):
    """Saves, makes and removes; each time as a process of its own."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.label = f"n{os.getpid()}"
        self.number = 0
        self.tried, self.saved = {}, {}  # place and uid -> the last number
        self.results = collections.Counter()
        self.deeds = [self.save_label] * 5 + [self.replace_label] * 3 + [self.save_whole] * 2 + [
            self.save_tag] * 4 + [self.make_tag] * 3 + [self.remove_tag] * 2 + [
            self.make_stream] * 3 + [self.follow] * 3 + [self.promote] * 2 + [
            self.copy] * 4 + [self.move_in] * 2 + [self.copy_tag] * 2 + [
            self.remove_stream, self.remove_copy, self.refused, self.hide, self.scratch,
            self.rename_away]

    def work(self):
        self.number += 1
        deed = self.dice.choice(self.deeds)
        names = [self.dice.choice(self.universe[kind])
                 for kind in ("namespaces", "written", "written_tags")]
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(theirs, json.dumps(self.perform(deed, *names)).encode())
            os._exit(0)
        os.close(theirs)
        text = b"".join(iter(lambda: os.read(ours, 4096), b""))
        os.close(ours)
        os.waitpid(child, 0)
        self.note(deed.__name__, *json.loads(text))
        self.ending.wait(self.dice.random() * 0.2)

    @staticmethod
    def perform(deed, *names):
        """[errno's name or "ok", what was saved]; the second place is filled before the verdict."""
        about = []
        try:
            deed(about, *names)
            return ["ok", about]
        except OSError as error:
            return [errno.errorcode[error.errno], about]
        except ValueError:
            return ["half", about]  # two versions met while it was read

    def note(self, name, result, about):
        self.results[f"{name} {result}"] += 1
        for key in about:
            self.tried[key] = self.number
            if result == "ok":
                self.saved[key] = self.number

    def forget(self):
        """The server went back: what was saved may be gone."""
        self.saved = {}

    # Deeds.

    def labelled(self, about, path):
        value = json.loads(read_file(path))
        meta = value.get("metadata", value)
        meta.setdefault("labels", {})[self.label] = str(self.number)
        about.append(f"{meta['namespace']}/{meta['name']} {meta['uid']}")
        return (json.dumps(value, indent=2) + "\n").encode()

    def save_label(self, about, namespace, stream, _, name="metadata.json"):
        path = self.path(namespace, stream, name)
        write_file(path, self.labelled(about, path), os.O_TRUNC)

    def save_whole(self, about, namespace, stream, tag):
        self.save_label(about, namespace, stream, tag, "imagestream.json")

    def replace_label(self, about, namespace, stream, _):
        path = self.path(namespace, stream, "metadata.json")
        text = self.labelled(about, path)
        write_file(path + ".new", text, os.O_CREAT | os.O_TRUNC)
        os.rename(path + ".new", path)

    def save_tag(self, _, namespace, stream, tag, kind="DockerImage"):
        source = {"kind": kind, "name": f"quay.io/example/app:{self.number}"}
        write_file(self.path(namespace, stream, "tags", tag, "spec.json"),
                   json.dumps({"name": tag, "from": source}).encode(), os.O_TRUNC)

    def refused(self, _, namespace, stream, tag):
        self.save_tag(_, namespace, stream, tag, "Nope")

    def make_tag(self, _, namespace, stream, tag):
        os.mkdir(self.path(namespace, stream, "tags", tag))

    def remove_tag(self, _, namespace, stream, tag):
        remove(self.path(namespace, stream, "tags", tag))

    def make_stream(self, _, namespace, stream, __):
        os.mkdir(self.path(namespace, stream))

    def remove_stream(self, _, namespace, stream, __):
        remove(self.path(namespace, stream))

    def follow(self, _, namespace, stream, tag):
        name = self.dice.choice([f"quay.io/example/app:{self.number}", "ImageStreamTag web:v1",
                                 f"ImageStreamTag {self.dice.choice(self.universe['namespaces'])}/web:v2"])
        write_file(self.path(namespace, stream, "tags", tag, "from"), f"{name}\n".encode(), os.O_CREAT | os.O_TRUNC)

    def promote(self, _, namespace, stream, tag):
        image = read_file(self.path(namespace, stream, "tags", self.dice.choice(self.universe["written_tags"]), "image"))
        write_file(self.path(namespace, stream, "tags", tag, "from"), image, os.O_CREAT | os.O_TRUNC)

    # Copies have names of their own: a text that is laid over a stream takes its labels away.

    def copied(self):
        return self.path(self.dice.choice(self.universe["namespaces"]), self.dice.choice(self.universe["copied"]))

    def copy(self, _, namespace, stream, __):
        copy_tree(self.path(namespace, stream), self.copied())

    def move_in(self, _, namespace, stream, __):
        """What mv does with a backup on another filesystem."""
        with tempfile.TemporaryDirectory() as backup:
            copy_tree(self.path(namespace, stream), backup + "/stream")
            copy_tree(backup + "/stream", self.copied())

    def copy_tag(self, _, namespace, stream, tag):
        copy_tree(self.path(namespace, stream, "tags", tag),
                  os.path.join(self.copied(), "tags", self.dice.choice(self.universe["written_tags"])))

    def remove_copy(self, *_):
        remove(self.copied())

    def hide(self, _, namespace, stream, __):
        os.unlink(self.path(namespace, stream, self.dice.choice(NAMES)))

    def scratch(self, _, namespace, stream, __):
        path = self.path(namespace, stream, f"scratch-{self.number}")
        write_file(path, b"notes\n" * 100, os.O_CREAT)

    def rename_away(self, _, namespace, stream, __):
        path = self.path(namespace, stream, "spec.json")
        os.rename(path, path + "~")

    def tidy(self):
        """Removes what is ours alone; how many that were."""
        names = {path for path, _ in self.places}
        count = 0
        for place, _, files in os.walk(self.top, topdown=False):
            for name in files:
                path = os.path.join(place, name)
                if os.path.relpath(path, self.top) not in names:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path)
                        count += 1
        return count

    def finish(self):
        return {**super().finish(), "results": dict(self.results), "label": self.label,
                "saved": self.saved, "tried": self.tried}


def write_file(path, text, flags):
    fd = os.open(path, os.O_WRONLY | flags, 0o644)
    try:
        os.write(fd, text)
    except OSError:
        os.close(fd)
        raise
    os.close(fd)


def copy_tree(source, target):
    """cp -r, of a target that isn't there."""
    try:
        shutil.copytree(source, target)
    except shutil.Error as errors:  # of some files
        raise OSError(errno.EIO, str(errors)) from None


def remove(path):
    """rm -r"""
    for place, directories, files in os.walk(path, topdown=False):
        for name in files:
            os.unlink(os.path.join(place, name))
        for name in directories:
            os.rmdir(os.path.join(place, name))
    os.rmdir(path)


KINDS = {"mirror": Mirror, "reader": Reader, "writer": Writer}


def work():
    inhabitant = None
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            if name == "begin":
                kind, *arguments = arguments
                inhabitant = KINDS[kind](*arguments)
                inhabitant.start()
                answer = [None, None]
            elif name in ("read_text", "write_text"):
                answer = [globals()[name](*arguments), None]
            else:
                answer = [getattr(inhabitant, name)(*arguments), None]
        except OSError as error:
            answer = [None, [error.errno, str(error)]]
        print(json.dumps(answer), flush=True)


def read_text(path):
    return read_file(path).decode()


def write_text(path, text):
    write_file(path, text.encode(), 0)


if __name__ == "__main__":
    work()
