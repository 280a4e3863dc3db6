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

import merge
import yaml
from test_contents import escape, yaml_text

HIDDEN_SECONDS = 2
STREAM_FILES = ("imagestream.json", "imagestream.yaml", "metadata.json", "spec.json", "status.json")
WRITES = {"PATCH", "PUT"}
FAULTS = {403: errno.EACCES, 422: errno.EINVAL, 409: 0, 503: 0}


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

    mode, bytes, hidden = 0o644, b"", None

    def __init__(self, path, kind, stream, tag):
        self.path, self.kind, self.stream, self.tag = path, kind, stream, tag
        self.ino = Ino()
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


class Mismatch(Exception):
    """The mount and the model differ."""


class Skip(Exception):
    """The step makes no sense here (a handle that a shrunk script doesn't open)."""


class Model:
    def __init__(self, selector=None):
        self.selector = selector
        self.streams = {}  # name -> Stream, as shown
        self.hidden_streams = {}  # on the server, left out by the selector
        self.places = {}  # path -> Place
        self.pending = {}  # path -> Pending
        self.scratch = {}  # path -> Scratch
        self.handles = {}
        self.bases = {}  # (worker, slot) -> Base
        self.stamp = 0
        self.faults = []  # (stream, method, status)
        self.expected = {}  # stream -> (kind, tag, bare value) that a request of this step makes
        self.sends = 0  # requests that this step sends at least
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

    def at(self, path):
        """What stands at the path, or None."""
        place = self.places.get(path)
        if place:  # also where it is hidden: what was begun there before it came isn't seen
            return place if place.hidden is None else self.scratch.get(path)
        return self.pending.get(path) or self.scratch.get(path)

    def hidden_at(self, path):
        place = self.places.get(path)
        return place if place and place.hidden is not None else None

    def kind_of_directory(self, path):
        """root, stream, tags, tag or scratch; None where no directory is."""
        if path == "":
            return "root"
        one = self.at(path)
        if not one or not self.reachable(path) or one.kind != "directory":
            return None
        if isinstance(one, Scratch):
            return "scratch"
        return ("stream", "tags", "tag")[path.count("/")]

    def reachable(self, path):
        """Whether no directory above is hidden or gone."""
        while "/" in path:
            path = path.rpartition("/")[0]
            if not self.at(path):
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
            kind = parts[3] if parts[3] in ("from", "image") else "tag " + parts[3]
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
        source = (merge.value_of("tag spec.json", tag, stream.obj) or {}).get("from")
        if source:
            files[f"{top}/from"] = "from", tag, merge.line(source)
        history = merge.value_of("tag status.json", tag, stream.obj)
        if history and history.get("items"):
            data = history["items"][0]["dockerImageReference"].encode() + b"\n"
            files[f"{top}/image"] = "image", tag, data

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
        self.stamp += 1
        self.bases[worker, place.slot()] = Base(place.stream.obj, None, self.stamp)
        if place.kind.startswith("imagestream"):
            place.stream.served = True

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
        try:
            if kind == "imagestream.yaml":
                value = yaml.load(data.decode(), Loader)
            else:
                value = json.loads(data.decode(), object_pairs_hook=unique)
        except (ValueError, yaml.YAMLError):
            return None
        return value if isinstance(value, dict) else None

    def find_base(self, save, stream):
        base = self.bases.get((save.worker, save.slot)) or self.bases.get((save.opener, save.slot))
        if save.saved and (not base or save.saved.stamp > base.stamp):
            base = save.saved
        if base and base.version["metadata"]["uid"] != stream.uid:
            base = None
        if not base and save.opened and save.opened["metadata"]["uid"] == stream.uid:
            base = Base(save.opened, None, 0)
        return base

    def judge(self, save):
        """0 or an errno: what becomes of the text. Where a request is made, its outcome is expected of the server."""
        stream = self.streams.get(save.stream)
        save.mine = None
        if save.stale or not stream:
            return errno.ESTALE
        save.mine = self.parse(save.kind, save.data)
        if save.mine is None:
            return errno.EINVAL
        if save.uid and stream.uid != save.uid:
            return errno.ESTALE
        base = self.find_base(save, stream)
        if save.kind.startswith("imagestream"):
            stale, base = self.check_version(save, stream, base)
            if stale:
                return errno.ESTALE
        shown = merge.value_of(save.kind, save.tag, base.version if base else stream.obj)
        wrong = check(save.kind, save.tag, shown, save.mine)
        if wrong:
            return wrong
        theirs = merge.value_of(save.kind, save.tag, stream.obj)
        mine = left_out(save.kind, save.mine, theirs)
        of = base.text if base and base.text is not None else shown
        try:
            if save.kind.startswith("tag "):
                key = "name" if save.kind == "tag spec.json" else "tag"
                mine, of = ({key: save.tag, **one} if one is not None else None for one in (save.mine, of))
                merged = merge.merge_tag(of, theirs, mine)
            else:
                merged = merge.merge(*map(merge.bare, (left_out(save.kind, of, theirs), theirs, mine)))
        except merge.Conflict:
            return errno.ESTALE
        if merge.equal(merged, theirs):
            return 0
        return self.request(save, stream, merged)

    def check_version(self, save, stream, base):
        """imagestream.*: (whether it is refused, the base)."""
        named = (save.mine.get("metadata") or {}).get("resourceVersion")
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

    def request(self, save, stream, merged):
        self.sends += 1
        method = "PUT" if save.kind.startswith("imagestream") else "PATCH"
        status = self.fault(stream.name, {method})
        if status and FAULTS[status]:
            return FAULTS[status]
        if refused_by_server(save.kind, merged):
            return errno.EINVAL
        if save.kind == "tag status.json" and not (merged and merged.get("items")):
            merged = None  # the server keeps no history without items
        self.expected[stream.name] = save.kind, save.tag, merged
        return 0

    def accept(self, save, result):
        """After an accepted save; `result` is the server's object."""
        stream = self.streams.get(save.stream)
        self.stamp += 1
        if (save.worker, save.slot) in self.bases:
            self.bases[save.worker, save.slot] = Base(result, save.mine, self.stamp)
        self.stamp += 1
        kept = self.scratch.get(save.path + ".rejected")
        if stream and (save.sent or (kept and kept.data == save.data)):
            for path in (save.path + ".rejected", save.path + ".error"):
                if path in self.scratch and self.scratch[path].kind != "directory":
                    self.remove_scratch(path)
        return Base(result, save.mine, self.stamp)

    def refuse(self, save):
        """The text is kept beside the file, where its directory still is."""
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
        self.slot = None
        self.stale = self.sent = False


class Loader(yaml.CSafeLoader):
    def construct_mapping(self, node, deep=False):
        unique((key.value, None) for key, _ in node.value)
        return super().construct_mapping(node, deep)


def unique(pairs):
    pairs = list(pairs)
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def check(kind, tag, shown, mine):
    """Edits that would be dropped are refused before anything is sent: 0 or an errno."""
    shown = shown or {}
    spec = mine.get("spec") if kind.startswith("imagestream") else mine
    tags = (spec or {}).get("tags") if kind.startswith("imagestream") or kind in ("spec.json", "status.json") else None
    names = [one.get("tag" if kind == "status.json" else "name") for one in tags or []]
    if None in names or len(set(names)) != len(names):
        return errno.EINVAL
    if kind == "metadata.json":
        fixed = set(mine) - {"labels", "annotations", "finalizers", "ownerReferences",
                             "resourceVersion", "generation", "managedFields"}
        return errno.EINVAL if any(not merge.equal(mine[key], shown.get(key)) for key in fixed) else 0
    if kind.startswith("imagestream"):
        meta, old = mine.get("metadata") or {}, shown["metadata"]
        if "uid" in meta and meta["uid"] != old["uid"]:
            return errno.ESTALE
        fixed = ("name", "namespace", "creationTimestamp")
        if any(key in meta and meta[key] != old.get(key) for key in fixed):
            return errno.EINVAL
        if "status" in mine and not merge.equal(mine["status"], shown["status"]):
            return errno.EINVAL
    if kind == "status.json":
        return errno.EINVAL if any(not merge.equal(mine[key], shown.get(key)) for key in mine
                                   if key != "tags") else 0
    if kind.startswith("tag "):
        key = "name" if kind == "tag spec.json" else "tag"
        return errno.EINVAL if key in mine and mine[key] != tag else 0
    return 0


def left_out(kind, mine, theirs):
    """Leaving a field out that the request can't change is no edit."""
    if kind == "status.json":
        return {**theirs, **mine, "tags": mine.get("tags")}
    if kind == "metadata.json":
        kept = merge.without(theirs, "labels", "annotations", "finalizers", "ownerReferences")
        return {**kept, **mine}
    if kind.startswith("imagestream"):
        mine = {key: one for key, one in mine.items() if one is not None}
        return {**merge.without(theirs, "spec"), **mine,
                "metadata": {**merge.without(theirs["metadata"], "labels", "annotations"), **(mine.get("metadata") or {})}}
    return mine


FIELDS = {"tag spec.json": {"name", "annotations", "from", "generation", "importPolicy", "referencePolicy", "reference"},
          "tag status.json": {"tag", "items", "conditions"}, "spec.json": {"lookupPolicy", "tags", "dockerImageRepository"},
          "status.json": {"tags", "dockerImageRepository", "publicDockerImageRepository"},
          "imagestream.json": {"kind", "apiVersion", "metadata", "spec", "status"}}


def refused_by_server(kind, merged):
    """Strict validation: a field that ImageStreams don't have."""
    kind = kind.replace("yaml", "json")
    return kind in FIELDS and bool(set(merged) - FIELDS[kind])


def step_is_ours(before, version, made_on):
    if made_on is not None:
        return made_on == before
    strip = ("resourceVersion", "generation", "managedFields")
    return (merge.equal(before["spec"], version["spec"]) and
            merge.without(before["metadata"], *strip) == merge.without(version["metadata"], *strip))
