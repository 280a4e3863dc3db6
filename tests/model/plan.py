"""Random steps that make sense for the model as it is."""

import os

import merge
from model import STREAM_FILES, Place
from test_contents import escape

STREAMS = ["a", "b", "c"]
TAGS = ["v1", "v2", "a/b", "new"]
TAG_FILES = ["spec.json", "status.json", "from", "image"]
NAMES = ["x", "y", "spec.json~", "spec.json.rejected", "d", "l"]
METHODS = {"PATCH": 6, "PUT": 2, "DELETE": 1, "TAG": 2}
LINES = ["quay.io/example/i:{n}", "quay.io/example/i:{n}\n", "DockerImage quay.io/example/i:{n}\r\n",
         "ImageStreamTag {stream}:v1\n", "ImageStreamTag {stream}:v2\n", "ImageStreamTag v2\n",
         "ImageStreamTag @NAMESPACE@/{stream}:v2\n", "ImageStreamTag {stream}:none\n", "ImageStreamTag none:v1\n",
         "ImageStreamImage {stream}@sha256:{digest:064x}\n", "  ImageStreamTag\t{stream}:v2  \n",
         "one\ntwo\n", "ImageStreamTag\n", "ImageStreamTag @NAMESPACE@/\n", "\n", "UPPER/case\n", "Kind {stream}:v1\n", "a b c\n", "\x01\n",
         "image-registry.openshift-image-registry.svc:5000/@NAMESPACE@/{stream}@sha256:{digest:064x}\n",
         "image-registry.openshift-image-registry.svc:5000/other/{stream}@sha256:{digest:064x}\n"]
RAW = [b"{", b"[]", b"null", b"text\n", b"{}", b'{"a": 1, "a": 2}', b'{"bogus": 1}', b"x" * 700, b""]


def change_for(rng, kind):
    """What is done to the value of such a file."""
    number = rng.randrange(4)
    text, image = f"t{rng.randrange(5)}", f"quay.io/example/i:{rng.randrange(5)}"
    if rng.random() < 0.1:
        return "raw", rng.choice(RAW)
    if rng.random() < 0.08:
        return "same", 0
    if kind in ("tag from", "image"):
        return "raw", line_for(rng)
    if kind in ("metadata.json", "imagestream.json", "imagestream.yaml") and rng.random() < 0.6:
        return rng.choice(["labels", "annotations"]), f"k{number}", rng.choice([text, text, None])
    if kind == "metadata.json":
        return "field", rng.choice(["uid", "name", "bogus"]), text
    if kind in ("spec.json", "imagestream.json", "imagestream.yaml"):
        return rng.choice([("local", rng.random() < 0.5), ("tag", rng.choice(TAGS), rng.choice([image, image, None])),
                           ("tag", rng.choice(TAGS), image)])
    if kind == "tag spec.json":
        return rng.choice([("from", image), ("from", image), ("annotations", f"k{number}", rng.choice([text, None])),
                           ("field", "name", text)])
    return ("pop", 0) if rng.random() < 0.7 else ("field", "bogus", text)


def line_for(rng):
    """A text for `from`, most of them such as people mean."""
    chosen = rng.choice(LINES if rng.random() < 0.3 else LINES[:10])
    return chosen.format(n=rng.randrange(5), stream=rng.choice(STREAMS), digest=rng.randrange(1, 4)).encode()


def missing_names(rng):
    """Some names that may be missing now and come later: by the server, or by the program itself."""
    stream, kept = rng.choice(STREAMS), rng.choice(["", ".rejected", ".error"])
    tag = f"{stream}/tags/{escape(rng.choice(TAGS))}"
    return [stream, tag, f"{stream}/{rng.choice(STREAM_FILES)}{kept}", f"{tag}/{rng.choice(TAG_FILES)}{kept}"]


class Plan:
    """Steps for one sequence, a few at a time."""

    def __init__(self, rng, workers):
        self.rng, self.workers = rng, workers
        self.queue = []
        self.count = 0

    def next(self, m):
        if not self.queue or self.rng.random() < 0.1:  # in the middle of what one does another does something
            rest, self.queue = self.queue, []
            name = self.rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            getattr(self, name)(m)
            self.queue += rest
        return self.queue.pop(0) if self.queue else None

    def add(self, *step):
        self.queue.append(step)

    def worker(self):
        return self.rng.randrange(self.workers)

    def new_handle(self):
        self.count += 1
        return f"h{self.count}"

    # Names.

    def directory(self, m):
        found = [path for path, one in m.names().items() if one.kind == "directory"]
        return self.rng.choice(found) if found else "a"

    def scratch_name(self, m):
        found = [path for path, one in m.names().items() if one.kind == "directory"
                 and not (isinstance(one, Place) and path.endswith("/tags"))]
        return (self.rng.choice(found) if found else "a") + "/" + self.rng.choice(NAMES)

    def real_file(self, m):
        """A path of a real file, there or hidden."""
        found = [path for path, one in m.places.items() if one.kind != "directory" and m.reachable(path)]
        return self.rng.choice(found) if found else None

    def any_name(self, m):
        """Whatever: what is there, what isn't, what can't be."""
        way = self.rng.random()
        there = list(m.names())
        if way < 0.5 and there:
            return self.rng.choice(there)
        if way < 0.7:
            return self.scratch_name(m)
        stream = self.rng.choice(STREAMS)
        return self.rng.choice([
            stream, f"{stream}/tags", f"{stream}/{self.rng.choice(STREAM_FILES)}",
            f"{stream}/tags/{escape(self.rng.choice(TAGS))}",
            f"{stream}/tags/{escape(self.rng.choice(TAGS))}/{self.rng.choice(TAG_FILES)}",
            f"{stream}/tags/x", "x", f"{stream}/none/x", f"{stream}/spec.json/x"])

    def handle(self, m):
        return self.rng.choice(list(m.handles)) if m.handles else None

    # What people do.

    def save(self, m):
        path = self.real_file(m)
        if path is None:
            return
        place, worker = m.places[path], self.worker()
        change = change_for(self.rng, place.kind)
        if self.rng.random() < 0.25 or place.kind == "image":
            change = self.text_for(m, path)
        if place.hidden is None and self.rng.random() < 0.6:
            self.add("slurp", worker, path)
        getattr(self, self.rng.choice(["save_in_place", "save_in_place", "save_by_rename", "save_anew"]))(
            path, worker, change)

    def text_for(self, m, path):
        """The text of something else, an older one of this file, a manifest, or what it has."""
        name = path.rpartition("/")[2]
        alike = [one for one in m.places if one.rpartition("/")[2] == name]
        if name == "from":
            alike += [one for one in m.places if one.endswith("/image")] * 2
        return self.rng.choice([("text", self.rng.choice(alike)), ("text", self.rng.choice(alike)), ("text", path),
                                ("older", path, self.rng.choice([1, 2, 3])), ("manifest", self.rng.choice(alike))])

    def save_in_place(self, path, worker, change):
        handle = self.new_handle()
        flags = self.rng.choice([os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_TRUNC | os.O_CREAT,
                                 os.O_RDWR, os.O_RDWR | os.O_APPEND])
        self.add("open", worker, handle, path, flags)
        if not flags & os.O_TRUNC:
            self.add("ftruncate", handle, 0)
        self.add("write", handle, change, 0)
        self.finish(handle)

    def finish(self, handle):
        if self.rng.random() < 0.3:
            self.add(self.rng.choice(["fsync", "dup_close"]), handle)
        if self.rng.random() < 0.85:
            self.add("close", handle)

    def save_by_rename(self, path, worker, change):
        """The text is what the real file gives, written to a scratch file: so it is read there, too."""
        scratch, handle = path.rpartition("/")[0] + "/" + self.rng.choice(NAMES[:3]), self.new_handle()
        self.add("open", worker, handle, scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.add("write_text", handle, path, change)
        if self.rng.random() < 0.8:
            self.add("close", handle)
        if self.rng.random() < 0.3:
            self.add("unlink", worker, path)
        self.add("rename", worker, scratch, path, 0)

    def save_anew(self, path, worker, change):
        handle = self.new_handle()
        if self.rng.random() < 0.5:
            self.add("unlink", worker, path)
        else:
            self.add("rename", worker, path, path + "~", 0)
        self.add("open", worker, handle, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self.add("write", handle, change, 0)
        self.finish(handle)
        if self.rng.random() < 0.3:
            self.add("rename", worker, path + "~", path, 0)

    def begin(self, m):
        """A tag's file that isn't there."""
        tags = [path for path, one in m.places.items() if one.kind == "directory" and path.count("/") == 2]
        if not tags:
            return
        path = self.rng.choice(tags) + "/" + self.rng.choice(TAG_FILES)
        handle, worker = self.new_handle(), self.worker()
        self.add("open", worker, handle, path, os.O_WRONLY | os.O_CREAT)
        text = merge.text({"from": {"kind": "DockerImage", "name": f"quay.io/example/i:{self.rng.randrange(5)}"},
                           "importPolicy": {"importMode": "Legacy"}, "referencePolicy": {"type": "Source"}})
        if path.endswith(("/from", "/image")):
            text = line_for(self.rng)
        self.add("write", handle, ("raw", text), 0)
        self.finish(handle)

    def scratch_file(self, m):
        path, handle = self.scratch_name(m), self.new_handle()
        self.add("open", self.worker(), handle, path, os.O_RDWR | os.O_CREAT | self.rng.choice([0, os.O_EXCL, os.O_TRUNC]))
        self.add("write", handle, ("raw", self.rng.choice(RAW)), self.rng.choice([0, 0, 7]))
        if self.rng.random() < 0.7:
            self.add("close", handle)

    def make_directory(self, m):
        self.add("mkdir", self.worker(), self.any_name(m))

    def make_thing(self, m):
        """A stream, a tag or a directory of scratch's."""
        stream = self.rng.choice(STREAMS)
        self.add("mkdir", self.worker(), self.rng.choice([
            stream, f"{stream}/tags/{escape(self.rng.choice(TAGS))}", f"{stream}/d", f"{stream}/tags"]))

    def remove_directory(self, m):
        self.add("rmdir", self.worker(), self.any_name(m) if self.rng.random() < 0.5 else self.directory(m))

    # Directories as a whole.

    def copy(self, m):
        """cp -r, as a tool does it: a directory that is made, and what another one has, in any order."""
        there = [name for name in STREAMS if name in m.streams]
        missing = [name for name in STREAMS if name not in m.streams]
        if not there:
            return
        worker, source = self.worker(), self.rng.choice(there)
        if self.rng.random() < 0.5:
            target = self.rng.choice(missing or there)
            if not missing or self.rng.random() < 0.2:
                self.add("remote", target, ("delete",))
            self.add("mkdir", worker, target)
            self.copy_stream(m, worker, source, target)
        else:
            target = f"{self.rng.choice(there)}/tags/{escape(self.rng.choice(TAGS))}"
            self.add("mkdir", worker, target)
            self.copy_files(worker, f"{source}/tags/{escape(self.rng.choice(TAGS[:2]))}", target, TAG_FILES)

    def copy_stream(self, m, worker, source, target):
        way = self.rng.randrange(3)
        if way:
            self.copy_files(worker, source, target, STREAM_FILES)
        self.add("mkdir", worker, f"{target}/tags")
        for path in [path for path in m.places if path.startswith(f"{source}/tags/") and path.count("/") == 2]:
            to = target + path[len(source):]
            self.add("mkdir", worker, to)
            self.copy_files(worker, path, to, TAG_FILES)
        if way != 1:
            self.copy_files(worker, source, target, STREAM_FILES)

    def copy_files(self, worker, source, target, names):
        for name in self.rng.sample(names, self.rng.randint(1, len(names))):
            if self.rng.random() < 0.15:
                self.add("view", self.rng.choice([worker, worker, self.worker()]), target)
            text = ("text", f"{source}/{name}")
            if self.rng.random() < 0.7:
                self.write_new(worker, f"{target}/{name}", text)
            else:
                self.write_new(worker, f"{target}/x", text)
                self.add("rename", worker, f"{target}/x", f"{target}/{name}", 0)

    def write_new(self, worker, path, text):
        handle = self.new_handle()
        self.add("open", worker, handle, path, os.O_WRONLY | os.O_CREAT | self.rng.choice([os.O_EXCL, os.O_TRUNC]))
        self.add("write", handle, text, 0)
        self.finish(handle)

    def remove_all(self, m):
        """rm -r, by one process or several, some of them slow."""
        found = [path for path, one in m.places.items() if one.kind == "directory" and m.reachable(path)]
        if not found:
            return
        top, workers = self.rng.choice(found), self.rng.choice([[self.worker()], [self.worker(), self.worker()]])
        inside = [path for path in m.names() if path.startswith(top + "/")]
        for path in sorted(inside, key=lambda path: (-path.count("/"), m.at(path).kind == "directory")):
            if self.rng.random() < 0.05:
                continue
            step = "rmdir" if m.at(path).kind == "directory" else "unlink"
            self.add(step, self.rng.choice(workers), path)
        if self.rng.random() < 0.15:
            self.add("wait")
        self.add("rmdir", self.rng.choice(workers), top)

    def look_in(self, m):
        """What a process finds where it, or another, made the directory."""
        made = m.makers()
        path = self.rng.choice(made)[1] if made and self.rng.random() < 0.8 else self.directory(m)
        if path:
            self.add("view", self.worker(), path)

    def remove(self, m):
        self.add("unlink", self.worker(), self.any_name(m))

    def move(self, m):
        flags = self.rng.choices([0, 1, 2], [8, 1, 1])[0]
        self.add("rename", self.worker(), self.any_name(m), self.any_name(m), flags)

    def move_back(self, m):
        """What was renamed away, where it came from."""
        found = [(path, one.moved_from.path) for path, one in m.scratch.items() if one.moved_from]
        if found:
            old, new = self.rng.choice(found)
            self.add("rename", self.worker(), old, new, 0)

    def open_any(self, m):
        flags = self.rng.choice([os.O_RDONLY, os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_TRUNC,
                                 os.O_RDWR | os.O_CREAT, os.O_RDONLY | os.O_CREAT, os.O_WRONLY | os.O_APPEND])
        self.add("open", self.worker(), self.new_handle(), self.any_name(m), flags)

    def use_handle(self, m):
        handle = self.handle(m)
        if handle is None:
            return
        way = self.rng.choice(["read", "read", "fstat", "map", "map_shared", "seek_end", "write", "ftruncate", "fsync",
                               "dup_close", "fork", "close", "close", "close"])
        if way == "read":
            self.add("read", handle, self.rng.choice([4096, 10]), self.rng.choice([0, 0, 5, 5000]))
        elif way == "write":
            target = m.handles[handle].target()
            change = change_for(self.rng, target.kind if target else "image")
            self.add("ftruncate", handle, 0)
            self.add("write", handle, change, self.rng.choice([0, 0, 3]))
        elif way == "ftruncate":
            self.add("ftruncate", handle, self.rng.choice([0, 5, 900]))
        elif way == "fork":
            self.add("fork_exit", m.handles[handle].worker)
        else:
            self.add(way, handle)

    def look_around(self, m):
        path, worker = self.any_name(m), self.worker()
        way = self.rng.choice(["slurp", "access", "chmod", "utime", "truncate", "link", "symlink"])
        if way == "access":
            self.add("access", worker, path, self.rng.choice([os.R_OK, os.W_OK, os.X_OK]))
        elif way == "chmod":
            self.add("chmod", worker, path, 0o600)
        elif way == "truncate":
            self.add("truncate", worker, path, self.rng.choice([0, 0, 5]))
        elif way in ("link", "symlink"):
            self.add(way, *((worker, path, self.any_name(m)) if way == "link" else (worker, "spec.json", path)))
        else:
            self.add(way, worker, path)

    def scan(self, m):
        if m.listings and self.rng.random() < 0.6:
            self.add(self.rng.choice(["scan_more", "scan_end"]), self.rng.choice(list(m.listings)))
        else:
            self.count += 1
            self.add("scan_begin", self.worker(), f"l{self.count}", self.directory(m))
            self.add("scan_more", f"l{self.count}")

    # What the server does.

    def others(self, m):
        stream, rng = self.rng.choice(STREAMS), self.rng
        tag, image = rng.choice(TAGS), f"quay.io/example/i:{rng.randrange(5)}"
        change = rng.choices([
            ("labels", f"k{rng.randrange(4)}", rng.choice([f"r{rng.randrange(5)}", None])),
            ("annotations", f"k{rng.randrange(4)}", f"r{rng.randrange(5)}"),
            ("local", rng.random() < 0.5), ("tag", tag, image), ("tag", tag, None),
            ("push", tag, rng.randrange(1, 1000)), ("forget", tag), ("untag", tag), ("delete",),
            ("make", {"app": "x"}, TAGS[:2], TAGS[1:2]), ("anew", {"app": "x"}, TAGS[:2], TAGS[1:2]),
            ("labels", "app", rng.choice(["x", None])), ("follow", tag, line_for(rng).decode())],
            [6, 3, 2, 4, 4, 6, 3, 4, 2, 6, 3, 6 if m.selector else 1, 3])[0]
        self.add("remote", stream, change)

    def refuse(self, m):
        if m.streams:
            self.add("fault", self.rng.choice(list(m.streams)),
                     self.rng.choices(list(METHODS), list(METHODS.values()))[0], self.rng.choice([403, 422, 409, 503]))

    def rest(self, m):
        self.add("settle")

    def cut(self, m):
        self.add("cut", self.rng.random() < 0.5, self.rng.random() < 0.5)

    def wait(self, m):
        self.add("wait")


WEIGHTS = {"save": 24, "begin": 4, "scratch_file": 7, "make_directory": 2, "make_thing": 5, "remove_directory": 2,
           "remove": 4, "move": 7, "move_back": 2, "open_any": 9, "use_handle": 20, "look_around": 8, "scan": 3,
           "others": 12, "refuse": 3, "rest": 0.5, "copy": 4, "remove_all": 2, "look_in": 5, "wait": 0.3, "cut": 0.3}
