"""The model: what one namespace of the mount must show, in plain Python (fs/README.md, DESIGN.md 2 and 3).

A Place is a real file or directory as the tree has it (one incarnation: what goes and comes back is another), a Scratch
what people made beside it. `Ino` is the identity of an inode: its number is learnt where it is seen first. A handle is
an open file. Steps (steps.py) change the model; the driver (drive.py) compares it with the mount.
"""

import errno
import json
import os
import time
from collections import Counter

import history
import merge
import reference
import texts
import yaml
from test_contents import escape, yaml_text

HIDDEN_SECONDS = 2
ACTS_SECONDS = 60  # what a process did is remembered so long after the last of it
READER_FILES = 32  # of so many files a process's last look is known
STREAM_FILES = ("imagestream.json", "imagestream.yaml", "metadata.json", "spec.json", "status.json")
FAULTS = {403: errno.EACCES, 422: errno.EINVAL, 409: 0, 503: 0, "none": 0}


class Ino:
    """One inode, as stat tells it apart."""

    def __init__(self):
        self.number = None


class Place:
    """A name of the server's tree. `kind` names the file as merge.value_of does, or "directory"."""

    def __init__(self, path, kind, stream, tag, data):
        self.path, self.kind, self.stream, self.tag = path, kind, stream, tag
        self.ino = self.first = Ino()
        self.bytes = data
        self.mtime = None
        self.hidden = None  # since when, monotonic
        self.gone = False

    @property
    def mode(self):
        if self.kind == "directory":
            return 0o755
        return 0o444 if self.kind == "image" else 0o644

    def slot(self):
        return self.stream.uid, self.kind, self.tag


class Pending:
    """A tag's file that was created and isn't on the server."""

    bytes, hidden = b"", None

    def __init__(self, path, kind, stream, tag):
        self.path, self.kind, self.stream, self.tag = path, kind, stream, tag
        self.ino = Ino()
        self.mode = 0o444 if kind == "image" else 0o644
        self.open = 0
        self.until = None  # since when nobody has it open

    def slot(self):
        return self.stream.uid, self.kind, self.tag


class Scratch:
    hidden = None

    def __init__(self, kind, ino=None, data=b"", mode=0o644, version=None, moved_from=None):
        self.kind, self.ino, self.data, self.mode = kind, ino or Ino(), data, mode
        self.version, self.moved_from = version, moved_from
        self.named = True


class Draft:
    """A handle's own bytes, and the verdict on them (DESIGN.md 3 "When")."""

    def __init__(self):
        self.data, self.loaded, self.written = b"", False, False
        self.change, self.decided, self.verdict = 1, 0, 0

    def load(self, data):
        if not self.loaded:
            self.data, self.loaded = data, True

    def write(self, data, offset):
        if not data:
            return
        held = self.data.ljust(offset, b"\0")
        self.data = held[:offset] + data + held[offset + len(data):]
        self.written = True
        self.change += 1

    def truncate(self, size):
        if size != len(self.data):
            self.data = self.data[:size].ljust(size, b"\0")
            self.change += 1
        if size == 0:
            self.written = False

    def state(self):
        if not self.loaded or not self.written or not self.data:
            return "clean"
        return "decided" if self.decided == self.change else "written"

    def decide(self, verdict):
        self.decided, self.verdict = self.change, verdict


class Handle:
    def __init__(self, name, worker, ino, access, append):
        self.name, self.worker, self.ino, self.append = name, worker, ino, append
        self.reads, self.writable = access != os.O_WRONLY, access != os.O_RDONLY
        self.place = self.pending = self.scratch = None
        self.last = b""  # what a reader sees of what is gone, and a writer before it wrote
        self.draft = None
        self.opened = None  # the version at open
        self.saved = None
        self.gone = False

    def target(self):
        return self.place or self.pending


class Base:
    def __init__(self, version, text, stamp):
        self.version, self.text, self.stamp = version, text, stamp


class Stream:
    def __init__(self, name, obj):
        self.name, self.obj = name, obj
        self.uid = obj["metadata"]["uid"]
        self.served = False
        self.versions = []  # (object, version that a save of ours was made on, or None)


class Acts:
    """What one process made and removed in one stream. `names`: path below the stream → made, maker or removed; a maker
    made a directory, which is empty for it."""

    def __init__(self):
        self.names = {}
        self.seen = None  # the version from which it began to remove


class Mismatch(Exception):
    """The mount and the model differ."""


class Skip(Exception):
    """The step makes no sense here (a handle that a shrunk script doesn't open)."""


class Model:
    def __init__(self, selector=None, namespace=""):
        self.selector, self.namespace = selector, namespace
        self.streams = {}  # name -> Stream, as shown
        self.hidden_streams = {}  # on the server, left out by the selector
        self.places = {}  # path -> Place
        self.pending = {}  # path -> Pending
        self.scratch = {}  # path -> Scratch
        self.handles = {}
        self.bases = {}  # (worker, slot) -> Base
        self.acts = {}  # (worker, uid) -> Acts
        self.acted = {}  # worker -> when it last did something of the kind
        self.refused = {}  # (worker, file's slot) -> when a text of it was refused
        self.stamp = 0
        self.faults = []  # (stream, method, status)
        self.expected = {}  # stream -> (kind, tag, bare value) that a request of this step makes
        self.sends = 0  # requests that this step sends at least
        self.unsure = False  # whether what this step does depends on the very moment
        self.lags = False  # what this step does is shown a moment later
        self.moment = time.monotonic()  # when the step began
        self.events = {}  # (watch, name) -> [CREATE, DELETE, …]
        self.modified = set()  # (watch, name)
        self.announced = set()  # those of them that the announcer modifies
        self.closes = Counter()  # (watch, name) -> descriptors that wrote and were closed
        self.loose = False  # something was closed or truncated whose name is gone: the kernel may know it by that still
        self.vague = set()  # (watch, name): no rule says what is raised
        self.watched = {}  # directory -> its watch
        self.listings = {}  # name -> (directory, names that stay, names that may be there)
        self.root = Place("", "directory", None, None, None)

    # Names.

    def at(self, path, worker=None):
        """What stands at the path for the process (None: for those that made nothing), or None."""
        place = self.places.get(path)
        if place:  # also where it is hidden: what was begun there before it came isn't seen
            real = place if place.hidden is None else None
        else:
            real = self.pending.get(path)
        if real and self.is_absent(path, worker):
            real = None
        return real or self.scratch.get(path)

    # What processes made and removed.

    def acts_of(self, worker, path):
        """What the process did in the path's stream, or None; and the path below the stream."""
        top, _, below = path.partition("/")
        stream = self.streams.get(top)
        return self.acts.get((worker, stream.uid)) if stream else None, below

    def is_absent(self, path, worker):
        """A real name in a directory that the process made, if it didn't make the name."""
        acts, below = self.acts_of(worker, path)
        if not acts or "/" not in path:
            return False
        return acts.names.get(below.rpartition("/")[0]) == "maker" and acts.names.get(below) not in ("made", "maker")

    def note_act(self, worker, path, act):
        stream = self.streams.get(path.partition("/")[0])
        acts, below = self.acts_of(worker, path)
        if not stream or (not acts and act == "made"):
            return
        acts = self.acts.setdefault((worker, stream.uid), acts or Acts())
        if act == "removed" and not acts.seen:
            acts.seen = stream.obj
        acts.names[below] = act
        self.acted[worker] = time.monotonic()

    def is_copy(self, worker, path):
        """Whether the process (a worker, or its child) made the stream or the tag for it."""
        acts, below = self.acts_of(worker, path)
        if not acts:
            return False
        tag = "/".join(below.split("/")[:2]) if below.startswith("tags/") else ""
        return "maker" in (acts.names.get(tag), acts.names.get(""))

    def makers(self):
        """(worker, directory that it made)."""
        return [(worker, f"{stream.name}/{below}".strip("/")) for stream in self.streams.values()
                for (worker, uid), acts in self.acts.items() if uid == stream.uid
                for below, act in acts.names.items() if act == "maker"]

    def is_forgetting(self):
        """Whether what a process did may be forgotten by now: nobody can tell when."""
        return any(time.monotonic() > when + ACTS_SECONDS - 5 for when in self.acted.values())

    def hidden_at(self, path):
        place = self.places.get(path)
        return place if place and place.hidden is not None else None

    def kind_of_directory(self, path, worker=None):
        """root, stream, tags, tag or scratch; None where no directory is."""
        if path == "":
            return "root"
        one = self.at(path, worker)
        if not one or not self.reachable(path, worker) or one.kind != "directory":
            return None
        if isinstance(one, Scratch):
            return "scratch"
        return ("stream", "tags", "tag")[path.count("/")]

    def reachable(self, path, worker=None):
        """Whether no directory above is hidden or gone, or absent for the process."""
        while "/" in path:
            path = path.rpartition("/")[0]
            if not self.at(path, worker):
                return False
        return True

    def names(self):
        """Path → what must stand there."""
        found = {**self.pending, **self.places, **self.scratch}
        found = {path: one for path, one in found.items() if one.hidden is None}
        return {path: one for path, one in found.items() if self.reachable(path)}

    def stream_at(self, path):
        return self.streams.get(path.split("/")[0])

    def real_name(self, path):
        """(kind, tag) of the real thing that a name can only be, or None."""
        parts = path.split("/")
        if len(parts) == 2 and (parts[1] in STREAM_FILES or parts[1] == "tags"):
            return parts[1] if parts[1] != "tags" else "directory", None
        if len(parts) == 4 and parts[1] == "tags" and parts[3] in ("spec.json", "status.json", "from", "image"):
            kind = parts[3] if parts[3] == "image" else "tag " + parts[3]
            return kind, self.tag_of(parts[0], parts[2])
        return None

    def tag_of(self, stream, name):
        place = self.places.get(f"{stream}/tags/{name}")
        return place.tag if place else None

    # What the server has.

    def selected(self, obj):
        return not self.selector or (obj["metadata"].get("labels") or {}).get(
            self.selector[0]) == self.selector[1]

    def shown_files(self, stream):
        """Path → (kind, tag, bytes) of all that the stream's directory holds of its own."""
        obj, top = stream.obj, stream.name
        files = {top: ("directory", None, None), f"{top}/tags": ("directory", None, None)}
        for kind in STREAM_FILES:
            value = merge.value_of(kind, None, obj)
            data = yaml_text(value).encode() if kind.endswith("yaml") else merge.text(value)
            files[f"{top}/{kind}"] = kind, None, data
        for tag in obj["spec"].get("tags") or []:
            self.show_tag(files, stream, tag["name"])
        for tag in obj["status"].get("tags") or []:
            self.show_tag(files, stream, tag["tag"])
        return files

    def show_tag(self, files, stream, tag):
        top = f"{stream.name}/tags/{escape(tag)}"
        files[top] = "directory", tag, None
        for kind in ("tag spec.json", "tag status.json"):
            value = merge.value_of(kind, tag, stream.obj)
            if value is not None:
                files[f"{top}/{kind[4:]}"] = kind, tag, merge.text(value)
        spec = merge.value_of("tag from", tag, stream.obj)
        if spec and spec.get("from"):
            files[f"{top}/from"] = "tag from", tag, texts.line(spec["from"])
        image = merge.value_of("image", tag, stream.obj)
        if image is not None:
            files[f"{top}/image"] = "image", tag, image.encode() + b"\n"

    def take(self, name, obj, own_base=None, quiet=()):
        """The server's object (None: it has none) is shown. `own_base`: the version that our save was made on.
        `quiet`: paths whose events aren't the announcer's."""
        if obj is not None and not self.selected(obj):
            self.hidden_streams[name] = obj
            obj = None
        else:
            self.hidden_streams.pop(name, None)
        old = self.streams.get(name)
        if old and (obj is None or obj["metadata"]["uid"] != old.uid):
            self.remove_all(name, quiet)
            del self.streams[name]
            old = None
        if obj is None:
            return
        if not old:
            old = self.streams[name] = Stream(name, obj)
        elif obj == old.obj:
            return
        old.obj = obj
        old.versions.append((obj, own_base))
        self.show(old, quiet)

    def remove_all(self, name, quiet):
        for path in [path for path in self.places if path == name or path.startswith(name + "/")]:
            self.drop(path, quiet)

    def show(self, stream, quiet):
        files = self.shown_files(stream)
        top = stream.name
        for path in [path for path in self.places
                     if (path == top or path.startswith(top + "/")) and path not in files]:
            self.drop(path, quiet)
        for path, (kind, tag, data) in sorted(files.items()):
            place = self.places.get(path)
            if not place:
                self.come(path, kind, stream, tag, data, quiet)
            elif place.bytes != data:
                place.bytes = data
                if place.hidden is not None or not self.reachable(path):
                    place.mtime = None  # they may be what they were before anybody looks again
                if place.hidden is None and path not in quiet:
                    self.modify(path, True)

    def come(self, path, kind, stream, tag, data, quiet):
        self.places[path] = Place(path, kind, stream, tag, data)
        directory, _, name = path.rpartition("/")
        if path in self.pending and directory in self.watched:
            # Begun here, now there: the name was there already, and no rule says what is raised.
            self.vague.add((self.watched[directory], name))
        elif path not in quiet:
            self.event(path, "CREATE")

    def drop(self, path, quiet):
        """The real thing isn't there any more, and scratch in it loses its name."""
        place = self.places.pop(path, None)
        if not place:
            return
        place.gone = True
        for handle in self.handles.values():
            if handle.place is place:
                self.part(handle)
        if place.hidden is None and path not in quiet:
            self.event(path, "DELETE")
        if place.kind == "directory":
            self.drop_below(path)

    def drop_below(self, path):
        for one in [one for one in (*self.scratch, *self.pending) if one.startswith(path + "/")]:
            pending = self.pending.pop(one, None)
            found = self.scratch.pop(one, None)
            if found:
                found.named = False
            for handle in self.handles.values():
                handle.gone |= pending is not None and handle.pending is pending
        self.unwatch(path)

    def part(self, handle):
        """The handle's inode stands for nothing any more: its last version stays."""
        handle.last = self.published(handle)
        handle.gone = True

    # Events.

    def event(self, path, what):
        directory, _, name = path.rpartition("/")
        if directory in self.watched:
            self.events.setdefault((self.watched[directory], name), []).append(what)

    def unsure_of(self, path):
        """What is raised for the name depends on the moment."""
        directory, _, name = path.rpartition("/")
        if directory in self.watched:
            self.vague.add((self.watched[directory], name))

    def modify(self, path, announced=False):
        directory, _, name = path.rpartition("/")
        if directory in self.watched:
            self.modified.add((self.watched[directory], name))
            if announced:
                self.announced.add((self.watched[directory], name))

    def closed(self, path):
        directory, _, name = path.rpartition("/")
        if directory in self.watched:
            self.closes[self.watched[directory], name] += 1

    def unwatch(self, path):
        for one in [one for one in self.watched if one == path or one.startswith(path + "/")]:
            del self.watched[one]

    # Handles.

    def published(self, handle):
        """What a handle that wrote nothing reads."""
        if handle.gone or handle.writable or handle.pending:
            return handle.last
        return handle.place.bytes

    def content(self, handle):
        if handle.scratch:
            return handle.scratch.data
        if handle.draft and handle.draft.loaded:
            return handle.draft.data
        return self.published(handle)

    def is_open(self, ino):
        return any(handle.ino is ino for handle in self.handles.values())

    def is_gone(self, handle):
        """Writing through it answers ESTALE."""
        if handle.pending:
            return self.pending.get(handle.pending.path) is not handle.pending
        return handle.gone or handle.place.ino is not handle.ino

    def note_base(self, worker, place):
        self.set_base(worker, place.slot(), place.stream.obj, None)
        if place.kind.startswith("imagestream"):
            place.stream.served = True

    def set_base(self, worker, slot, version, text):
        self.stamp += 1
        self.bases[worker, slot] = Base(version, text, self.stamp)
        mine = [key for key in self.bases if key[0] == worker]
        if len(mine) > READER_FILES:
            del self.bases[min(mine, key=lambda key: self.bases[key].stamp)]

    # Hiding.

    def hide(self, place):
        place.hidden = self.moment
        place.ino = Ino()
        place.mtime = None
        if place.kind == "directory":
            self.unwatch(place.path)

    def show_again(self, place):
        place.hidden = None
        place.mtime = None

    def due(self, moment):
        """What comes back, or vanishes, by that moment."""
        due = [one for one, when in self.waiting().items() if when <= moment]
        return [one for one in due if isinstance(one, Place)], [one for one in due if isinstance(one, Pending)]

    def waiting(self):
        """What comes back, or vanishes, by itself → when."""
        back = {one: one.hidden for one in self.places.values() if one.hidden is not None}
        over = {one: one.until for one in self.pending.values() if one.open <= 0 and one.until is not None}
        return {one: since + HIDDEN_SECONDS for one, since in {**back, **over}.items()}

    def leave_place(self, target, kept_name):
        """The inode becomes scratch, with the newest unsaved text of a handle, else with what is published."""
        real = isinstance(target, Place)
        drafts = [handle.draft for handle in self.handles.values()
                  if handle.ino is target.ino and handle.draft and not handle.scratch
                  and handle.draft.state() == "written"]
        data, moved_from = (target.bytes, target) if real else (b"", None)
        if drafts:
            data, moved_from = drafts[-1].data, None
        node = Scratch("file", target.ino, data, target.mode, target.stream.obj, moved_from)
        node.named = kept_name
        for handle in self.handles.values():
            if handle.ino is target.ino and not handle.scratch:
                handle.scratch, handle.place, handle.pending = node, None, None
        if real:
            self.hide(target)
        else:
            self.pending.pop(target.path, None)
        return node

    def take_place(self, node, path):
        """The scratch inode stands for the place from now on."""
        place = self.places[path]
        for handle in self.handles.values():
            if handle.place is place and handle.ino is place.ino:
                self.part(handle)
        place.ino = node.ino
        place.mtime = None
        place.hidden = None
        self.pending.pop(path, None)
        for handle in self.handles.values():
            if handle.scratch is node:
                self.make_real(handle, place, node)

    def make_real(self, handle, place, node):
        handle.scratch, handle.place, handle.gone = None, place, False
        handle.opened = place.stream.obj
        if handle.writable:
            handle.draft = handle.draft or Draft()
            handle.draft.data, handle.draft.loaded, handle.draft.written = node.data, True, True
            handle.draft.change += 1
            handle.draft.decide(0)

    # Saving.

    def fault(self, stream, methods):
        """The status that the server answers the next such request with, taken; or None."""
        for one in self.faults:
            if one[0] == stream and one[1] in methods:
                self.faults.remove(one)
                return one[2]
        return None

    def parse(self, kind, data):
        """The text's object, or None."""
        if kind in ("tag from", "image"):
            return texts.parse_line(data)
        try:
            if kind == "imagestream.yaml":
                value = yaml.load(data.decode(), Loader)
            else:
                value = json.loads(data.decode(), object_pairs_hook=unique)
        except (ValueError, yaml.YAMLError):
            return None
        return value if isinstance(value, dict) else None

    def find_base(self, save, stream):
        """What the text is a diff from, and whether its writer saw that: nothing, saved or read."""
        base = self.bases.get((save.worker, save.slot)) or self.bases.get((save.opener, save.slot))
        if save.saved and (not base or save.saved.stamp > base.stamp):
            base = save.saved
        if base and base.version["metadata"]["uid"] != stream.uid:
            base = None
        seen = "nothing" if not base else "read" if base.text is None else "saved"
        if not base and save.opened and save.opened["metadata"]["uid"] == stream.uid:
            base = Base(save.opened, None, 0)
        return base, seen

    def judge(self, save):
        """0 or an errno: what becomes of the text. Where a request is made, its outcome is expected of the server."""
        stream = self.streams.get(save.stream)
        save.mine = save.meant = None
        if save.stale or not stream:
            return errno.ESTALE
        writer = save.opener if save.worker == "child" else save.worker
        save.writer, copy = writer, self.is_copy(writer, save.path)
        awaited = save.kind == "image" and not copy and save.path not in self.places
        copy = copy or awaited
        if save.kind == "image" and not copy:
            return self.judge_image(save)
        if save.kind == "image" and (merge.value_of("tag from", save.tag, stream.obj) or {}).get("from"):
            return errno.EACCES if awaited and b"@" not in save.data else 0  # the server makes it
        save.mine = self.parse(save.kind, save.data)
        wrong = errno.EINVAL if save.mine is None else self.find_own_image(save, copy)
        if wrong:
            return wrong
        if copy and save.kind in ("status.json", "tag status.json"):
            return 0  # only the server makes it
        if save.uid and stream.uid != save.uid:
            return errno.ESTALE
        save.is_known = True
        return self.judge_copy(save, stream) if copy else self.judge_edit(save, stream)

    def judge_image(self, save):
        """It is the server's to say: the text may be that, and nothing else."""
        place = self.places.get(save.path)
        if not place:
            return errno.ESTALE
        return 0 if save.data.rstrip(b"\r\n") + b"\n" == place.bytes else errno.EACCES

    def find_own_image(self, save, copy):
        """A reference into this cluster's registry is that very image of that stream."""
        save.lost = False
        place = self.places.get(save.path)
        if save.kind == "tag from" and place and save.data.rstrip(b"\r\n") + b"\n" == place.bytes:
            save.mine = merge.value_of("tag from", save.tag, place.stream.obj)["from"]
            return 0  # what it follows already, whatever that is
        parts = texts.split_image(save.mine["name"]) if save.kind in ("tag from", "image") else None
        if not parts or save.mine["kind"] != texts.DOCKER:
            return 0
        registry, namespace, name, digest = parts
        own = self.streams[save.stream].obj["status"]["dockerImageRepository"].startswith(registry + "/")
        if own and namespace == self.namespace and self.has_image(name, digest):
            save.mine = {"kind": "ImageStreamImage", "name": f"{name}@{digest}"}
            return 0
        if not registry.endswith(texts.INTERNAL):
            return 0
        save.lost = copy and save.kind == "image"  # it goes where a push would have put it
        return 0 if save.lost else errno.EINVAL

    def object_of(self, name):
        return self.streams[name].obj if name in self.streams else self.hidden_streams.get(name)

    def has_image(self, name, digest):
        obj = self.object_of(name)
        return obj is not None and any(digest in texts.images_of(one) for one in obj["status"].get("tags") or [])

    def judge_copy(self, save, stream):
        """It adds and replaces, and never removes."""
        kind = "tag from" if save.kind == "image" else save.kind
        theirs = merge.value_of(kind, save.tag, stream.obj)
        if save.lost:
            if self.has_image(stream.name, save.mine["name"].rpartition("@")[2]):
                return 0
            return self.request(save, stream, "image", save.mine["name"])
        if kind == "tag from":
            merged = {**texts.with_from(theirs, save.mine, self.namespace), "name": save.tag}
        else:
            merged = texts.copied(kind, save.tag, theirs, save.mine)
        save.meant = merged
        wrong = check(kind, save.tag, theirs, merged)
        if wrong:
            return wrong
        if merge.equal(merged, theirs) and (theirs is not None or merged is None):
            return 0
        return self.request(save, stream, kind, merged)

    def is_of_forerunner(self, save, stream):
        """The text of an object that had the name before, which its writer read."""
        uid = (texts.metadata_of(save.kind, save.mine) or {}).get("uid")
        known = self.bases.get((save.worker, (uid, save.kind, save.tag)))
        return bool(uid) and uid != stream.uid and known is not None and \
            known.version["metadata"]["name"] == stream.name

    def judge_edit(self, save, stream):
        base, seen = self.find_base(save, stream)
        theirs = merge.value_of(save.kind, save.tag, stream.obj)
        foreign = (seen != "read" or save.renamed) and not self.is_of_forerunner(save, stream)
        whose = texts.whose(save.kind, save.tag, theirs or {}, save.mine, foreign)
        if save.kind.startswith("imagestream"):
            stale, base = self.check_version(save, stream, base, whose)
            if stale:
                return errno.ESTALE
        shown = merge.value_of(save.kind, save.tag, base.version if base else stream.obj)
        of = base.text if base and base.text is not None else shown
        if save.kind == "tag from":
            meant = texts.with_from(of, save.mine, self.namespace)
        else:
            meant = texts.adopt(save.kind, whose, shown or {}, save.mine)
        if seen == "nothing":
            meant = texts.settle(save.kind, theirs, meant)
        save.meant = meant
        wrong = check(save.kind, save.tag, shown, meant)
        if not wrong and seen == "nothing" and texts.rolls_back(save.kind, theirs, meant):
            wrong = errno.ESTALE
        if not wrong and seen == "nothing" and whose == "own" and save.kind.startswith("imagestream"):
            wrong = self.is_backup(stream, base, shown, meant) and errno.ESTALE
        if wrong:
            return wrong
        mine = left_out(save.kind, meant, theirs)
        try:
            if save.kind.startswith("tag "):
                key = "tag" if save.kind == "tag status.json" else "name"
                mine, of = ({**one, key: save.tag} if one is not None else None for one in (mine, of))
                merged = merge.merge_tag(of, theirs, mine)
            else:
                merged = merge.merge(*map(merge.bare, (left_out(save.kind, of, theirs), theirs, mine)))
        except merge.Conflict:
            return errno.ESTALE
        if merge.equal(merged, theirs) and (merged is None) == (theirs is None):
            return 0
        return self.request(save, stream, save.kind, merged)

    def is_backup(self, stream, base, shown, meant):
        """The text of an older version, which would put nothing back."""
        return bool(base and (meant.get("metadata") or {}).get("resourceVersion") and merge.equal(shown, meant) and
                    not moves_by_itself(base.version, stream.obj))

    def check_version(self, save, stream, base, whose):
        """imagestream.*: (whether it is refused, the base)."""
        named = (save.mine.get("metadata") or {}).get("resourceVersion") if whose == "own" else None
        saved = base and base.text and (base.text.get("metadata") or {}).get("resourceVersion")
        if named and named != saved:
            versions = [one for one, _ in stream.versions if one["metadata"]["resourceVersion"] == named]
            if not versions:
                return True, base
            base = Base(versions[0], None, 0)
        return not self.is_ours(stream, base), base

    def is_ours(self, stream, base):
        """Whether all since the base is this mount's saves, or what moves by itself."""
        if not base or base.version == stream.obj:
            return True
        at = [number for number, (one, _) in enumerate(stream.versions) if one == base.version]
        if not at:
            return False
        since = stream.versions[at[0]:]
        return all(step_is_ours(before, one, on) for (before, _), (one, on) in zip(since, since[1:]))

    def request(self, save, stream, kind, merged):
        self.sends += 1
        save.sent = True
        status = self.fault_of_tag(stream.name, kind, save.tag, merged)
        if not status:
            status = self.fault(stream.name, {"PUT" if kind.startswith("imagestream") else "PATCH"})
        if status and FAULTS[status]:
            return FAULTS[status]
        if refused_by_server(kind, merged) or self.is_unresolved(kind, save.tag, stream.obj, merged):
            return errno.EINVAL
        if kind == "tag status.json" and not (merged and merged.get("items")):
            merged = None  # the server keeps no history without items
        self.expected[stream.name] = kind, save.tag, merged
        return 0

    def fault_of_tag(self, name, kind, tag, merged):
        """Where a `from` that is no DockerImage goes as oc tag sends it. Refused for want of the right, it goes as others."""
        if kind != "tag from" or merged["from"]["kind"] == texts.DOCKER or not fits_url(tag):
            return None
        status = self.fault(name, {"TAG"})
        return None if status == 403 else status or "none"

    def is_unresolved(self, kind, tag, obj, merged):
        """Whether a tag would follow what isn't there."""
        if kind in ("tag spec.json", "tag from"):
            after = {tag: merged or {}}
        elif kind == "spec.json" or kind.startswith("imagestream"):
            spec = merged if kind == "spec.json" else merged.get("spec") or {}
            after = {key[1]: one for key, one in (merge.bare(spec).get("tags") or {}).items()}
        else:
            return False
        before = {one["name"]: one.get("from") for one in obj["spec"].get("tags") or []}
        return any(one.get("from") and one["from"] != before.get(name) and
                   self.leads_nowhere(obj["metadata"]["name"], one["from"]) for name, one in after.items())

    def leads_nowhere(self, own, source):
        """By the server's own rules."""
        try:
            if source.get("kind") == texts.DOCKER:
                return not reference.parse(source["name"])
            stream, item = history.split_source(source)
            obj = self.object_of(stream or own)
            if obj is None or (source.get("namespace") or self.namespace) != self.namespace:
                return True
            known = {one["tag"]: {"items": None, **one} for one in obj["status"].get("tags") or []}
            history.source_item(source["kind"], item, known, 1)
        except ValueError:
            return True
        return False

    def accept(self, save, result):
        """After an accepted save; `result` is the server's object."""
        stream = self.streams.get(save.stream)
        self.stamp += 1
        if stream and (save.sent or self.holds(save) or not self.is_fresh(save)):
            for path in (save.path + ".rejected", save.path + ".error"):
                if path in self.scratch and self.scratch[path].kind != "directory":
                    self.remove_scratch(path)
        if not save.is_known:  # a text that was only compared, or dropped
            return save.saved
        text = save.mine if save.meant is None else save.meant
        if (save.worker, save.slot) in self.bases:
            self.set_base(save.worker, save.slot, result, text)
        self.stamp += 1
        return Base(result, text, self.stamp)

    def holds(self, save):
        kept = self.scratch.get(save.path + ".rejected")
        return kept is not None and kept.kind == "file" and kept.data == save.data

    def is_fresh(self, save):
        """Whether the writer's text was refused just now: he puts back what was there, as vim -es does."""
        age = time.monotonic() - self.refused.get((save.worker, save.path), 0)
        self.unsure |= HIDDEN_SECONDS - 0.3 < age < HIDDEN_SECONDS + 0.5
        return age < HIDDEN_SECONDS

    def refuse(self, save):
        """The text is kept beside the file, where its directory still is."""
        self.refused[save.worker, save.path] = time.monotonic()
        if save.path.rpartition("/")[0] in self.places:
            for suffix, data in ((".rejected", save.data), (".error", None)):
                self.remove_scratch(save.path + suffix)
                self.scratch[save.path + suffix] = Scratch("file", None, data, 0o600)

    def remove_scratch(self, path):
        node = self.scratch.pop(path, None)
        if node:
            node.named = False
            if node.kind == "directory":
                self.drop_below(path)


class Save:
    """One text on its way to a place."""

    def __init__(self, path, kind, tag, stream, data):
        self.path, self.kind, self.tag, self.stream, self.data = path, kind, tag, stream, data
        self.worker = self.opener = None
        self.opened = self.saved = self.mine = self.uid = None
        self.slot = self.meant = None
        self.stale = self.renamed = self.is_known = self.lost = self.sent = False


class Loader(yaml.CSafeLoader):
    def construct_mapping(self, node, deep=False):
        unique((key.value, None) for key, _ in node.value)
        return super().construct_mapping(node, deep)


def unique(pairs):
    pairs = list(pairs)
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def fits_url(tag):
    return bool(tag) and not set(tag) & set("/:@")


def check(kind, tag, shown, mine):
    """Edits that would be dropped are refused before anything is sent: 0 or an errno, of the first in the text."""
    if kind.startswith("tag "):
        key = "tag" if kind == "tag status.json" else "name"
        return errno.EINVAL if not merge.is_empty(mine.get(key)) and mine[key] != tag else 0
    place = kind if kind.endswith("metadata.json") or kind.startswith("imagestream") else kind.removesuffix(".json")
    return check_map(place, shown or {}, mine)


def check_map(place, shown, mine):
    if mine is not None and not isinstance(mine, dict):
        return errno.EINVAL
    for key, one in (mine or {}).items():
        wrong = check_member(place, key, shown.get(key), one)
        if wrong:
            return wrong
    return 0


def check_member(place, key, shown, mine):
    if key in ("resourceVersion", "generation", "managedFields"):
        return 0
    if texts.is_refused(place, key) or (place == "status" and key != "tags"):
        if texts.is_void(mine) or merge.equal(mine, shown):
            return 0
        return errno.ESTALE if place == "metadata" and key == "uid" else errno.EINVAL
    if key == "tags" and place in ("spec", "status"):
        return check_list("name" if place == "spec" else "tag", mine)
    if place.startswith("imagestream") and key in ("metadata", "spec"):
        return check_map(key, shown or {}, mine)
    return 0


def check_list(key, tags):
    if not isinstance(tags, list):
        return 0 if merge.is_empty(tags) else errno.EINVAL
    names = [one.get(key) if isinstance(one, dict) else None for one in tags]
    bad = any(not isinstance(name, str) for name in names) or len(set(names)) != len(names)
    return errno.EINVAL if bad else 0


def left_out(kind, mine, theirs):
    """What the request can't change stays, whatever the text says of it."""
    if kind == "status.json":
        return {**theirs, "tags": mine.get("tags")}
    if kind == "metadata.json":
        changed = {key: one for key, one in mine.items() if not texts.is_refused(kind, key)}
        return {**merge.without(theirs, "labels", "annotations", "finalizers", "ownerReferences"), **changed}
    if kind.startswith("imagestream"):
        kept = merge.without(theirs["metadata"], "labels", "annotations")
        fields = {key: one for key, one in (mine.get("metadata") or {}).items()
                  if not texts.is_refused("metadata", key)}
        others = {key: one for key, one in mine.items() if one is not None and not texts.is_refused(kind, key)}
        return {**merge.without(theirs, "spec"), **others, "metadata": {**kept, **fields}}
    return mine


FIELDS = {"tag from": {"name", "annotations", "from", "generation", "importPolicy", "referencePolicy", "reference"},
          "tag spec.json": {"name", "annotations", "from", "generation", "importPolicy", "referencePolicy", "reference"},
          "tag status.json": {"tag", "items", "conditions"}, "spec.json": {"lookupPolicy", "tags", "dockerImageRepository"},
          "status.json": {"tags", "dockerImageRepository", "publicDockerImageRepository"},
          "imagestream.json": {"kind", "apiVersion", "metadata", "spec", "status"}}


def refused_by_server(kind, merged):
    """Strict validation: a field that ImageStreams don't have."""
    kind = kind.replace("yaml", "json")
    return kind in FIELDS and bool(set(merged) - FIELDS[kind])


def step_is_ours(before, version, made_on):
    return made_on == before if made_on is not None else moves_by_itself(before, version)


def moves_by_itself(before, version):
    strip = ("resourceVersion", "generation", "managedFields")
    return (merge.equal(before["spec"], version["spec"]) and
            merge.without(before["metadata"], *strip) == merge.without(version["metadata"], *strip))
