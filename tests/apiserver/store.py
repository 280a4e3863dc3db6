"""Objects, resourceVersions and the history of changes.

Every stored object is a Version: immutable, with its encoded bytes cached. One counter numbers all
writes of all resources. The store's condition is its lock: whoever holds it sees one consistent
state, and it is notified of every change.
"""

import bisect
import heapq
import json
import threading
import time
import uuid
from datetime import datetime, timezone
from itertools import islice

# How many changes a watch can be resumed over before it gets 410.
HISTORY = 20000


class _Keys:
    """Of each item, when it is looked at."""

    def __init__(self, items, key):
        self.items, self.key = items, key

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.key(self.items[index])


def bisect_by(items, value, key):
    """bisect_right with a key, which Python has since 3.10."""
    return bisect.bisect_right(_Keys(items, key), value)


def now():
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_uid():
    return str(uuid.uuid4())


_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def encode(value):
    """Compact JSON with the characters escaped that Go escapes for HTML."""
    text = _encoder.encode(value)
    for char, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"),
                          ("\u2028", "\\u2028"), ("\u2029", "\\u2029")):
        if char in text:
            text = text.replace(char, escaped)
    # A lone surrogate from a \ud800 in a request has no UTF-8 form; Go stores U+FFFD.
    return text.encode("utf-8", "replace")


class Version:
    """One version of one object. obj must never be changed."""

    __slots__ = ("obj", "rv", "namespace", "name", "_bytes")

    def __init__(self, obj, rv):
        meta = obj["metadata"]
        self.obj = obj
        self.rv = rv
        self.namespace = meta.get("namespace", "")
        self.name = meta["name"]
        self._bytes = {}

    @property
    def uid(self):
        return self.obj["metadata"]["uid"]

    @property
    def labels(self):
        return self.obj["metadata"].get("labels") or {}

    def body(self, view):
        """The object as a list holds it, without kind and apiVersion, as the view shows it."""
        got = self._bytes.get(view)
        if got is None:
            got = self._bytes[view] = encode(view.show(self.obj))
        return got

    def document(self, view):
        """The object as it stands alone."""
        return view.head + self.body(view)[1:]


class Event:
    """A change: what was (None for a creation) and what is. For a deletion both are set, and
    `version` is the last state with the resourceVersion of the deletion."""

    __slots__ = ("type", "rv", "version", "previous", "_bytes")

    def __init__(self, kind, rv, version, previous):
        self.type = kind
        self.rv = rv
        self.version = version
        self.previous = previous
        self._bytes = {}

    def line(self, view):
        """The event as a watch without selectors sends it."""
        got = self._bytes.get(view)
        if got is None:
            got = self._bytes[view] = event_line(self.type, self.version.document(view))
        return got


def event_line(kind, document):
    return b'{"type":"' + kind.encode() + b'","object":' + document + b"}\n"


class Collection:
    """All objects of one resource, and the recent changes to them."""

    def __init__(self, namespaced):
        self.namespaced = namespaced
        self.versions = {}
        self.keys = []  # sorted as etcd sorts them: namespace/name
        self.events = []
        self.dropped = 0  # changes forgotten from the front of events
        self.window = 0  # a watch can start at this resourceVersion or later
        self.compacted = 0  # a list can be read at this resourceVersion or later
        self.first = 0  # all that is newer is in events

    def get(self, namespace, name):
        return self.versions.get(namespace + "/" + name)

    def select(self, namespace=""):
        """The current objects of a namespace, or all of them, in key order."""
        if not namespace:
            return [self.versions[key] for key in self.keys]
        low = bisect.bisect_left(self.keys, namespace + "/")
        high = bisect.bisect_left(self.keys, namespace + "0")
        return [self.versions[key] for key in self.keys[low:high]]

    def select_at(self, rv, namespace=""):
        """The objects as they were at an earlier resourceVersion, by undoing what came since."""
        return list(self.walk(namespace, rv=rv)[0])

    def walk(self, namespace="", start="", rv=None):
        """(the objects of select or select_at from a key on, one by one; how many they are).

        A key is namespace/name, and the name alone in a namespace or where there are none. The time
        it takes to begin is that of the changes since rv, whatever the number of objects. Nothing may
        change until it is at its end.
        """
        prefix = namespace + "/" if namespace or not self.namespaced else ""
        low = bisect.bisect_left(self.keys, prefix + start)
        high = bisect.bisect_left(self.keys, namespace + "0") if namespace else len(self.keys)
        high = max(low, high)
        if rv is None:
            return map(self.versions.__getitem__, islice(self.keys, low, high)), high - low
        then = {}  # what was of each key that changed since
        for event in reversed(self.events):
            if event.rv <= rv:
                break
            version = event.version
            if not namespace or version.namespace == namespace:
                then[version.namespace + "/" + version.name] = event.previous
        then = {key: version for key, version in then.items() if key >= prefix + start}
        gone = sorted(key for key, version in then.items()
                      if version is not None and key not in self.versions)
        keys = heapq.merge(islice(self.keys, low, high), gone)
        versions = (then[key] if key in then else self.versions[key] for key in keys)
        if rv < self.first:  # there are newer ones that no change tells of
            versions = [v for v in versions if v is not None and v.rv <= rv]
            return iter(versions), len(versions)
        new = sum(version is None and key in self.versions for key, version in then.items())
        return (v for v in versions if v is not None), high - low + len(gone) - new

    def next_index(self):
        return self.dropped + len(self.events)

    def since(self, index):
        """Changes from that index on, or None when they are forgotten."""
        if index < self.dropped:
            return None
        return self.events[index - self.dropped:]

    def index_after(self, rv):
        """Index of the first change after rv."""
        return self.dropped + bisect_by(self.events, rv, lambda e: e.rv)

    def restore(self, versions, rv, new_uids):
        self.versions = {key: remade(version) if new_uids else version
                         for key, version in versions.items()}
        self.keys = sorted(self.versions)
        self.dropped = self.next_index()
        self.events = []
        self.window = self.compacted = self.first = rv

    def _record(self, event):
        self.events.append(event)
        if len(self.events) > 2 * HISTORY:
            gone = self.events[:HISTORY]
            del self.events[:HISTORY]
            self.dropped += HISTORY
            self.window = self.compacted = self.first = gone[-1].rv


class Store:
    """All collections under one resourceVersion counter."""

    def __init__(self, first_rv=1000):
        self.changed = threading.Condition(threading.RLock())
        self.rv = first_rv
        self.collections = {name: Collection(name in ("imagestreams", "secrets")) for name in (
            "imagestreams", "namespaces", "images", "secrets")}
        self.marks = [(float("-inf"), first_rv)]  # (monotonic time, resourceVersion), in order
        self.saved = None  # the snapshot to which a rollback goes back

    def __getitem__(self, resource):
        return self.collections[resource]

    def begin_history(self):
        """Called once the initial objects are loaded: a watch can't go further back."""
        for collection in self.collections.values():
            collection.events.clear()
            collection.window = collection.first = self.rv
        self.marks = [(float("-inf"), self.rv)]
        self.saved = self.snapshot()

    def mark(self):
        """Notes when the present resourceVersion was reached."""
        self.marks.append((time.monotonic(), self.rv))
        if len(self.marks) > 2 * HISTORY:
            del self.marks[:HISTORY]

    def rv_at(self, when):
        """The resourceVersion that held at a time of the monotonic clock."""
        index = bisect_by(self.marks, when, lambda mark: mark[0])
        return self.marks[max(index - 1, 0)][1]

    def due(self, rv):
        """When a resourceVersion later than rv was first reached."""
        index = bisect_by(self.marks, rv, lambda mark: mark[1])
        return self.marks[min(index, len(self.marks) - 1)][0]

    def snapshot(self):
        """What restore can go back to. Versions never change, so that references do."""
        with self.changed:
            return self.rv, {name: dict(collection.versions)
                             for name, collection in self.collections.items()}

    def restore(self, snapshot, new_uids):
        """An older state, as after a restore of etcd; with new uids, as of another cluster."""
        with self.changed:
            self.rv, versions = snapshot
            for name, collection in self.collections.items():
                collection.restore(versions[name], self.rv, new_uids)
            self.marks = [(float("-inf"), self.rv)]
            self.changed.notify_all()

    def put(self, resource, obj):
        """Stores a new object or a new version of one; obj gets its resourceVersion."""
        with self.changed:
            collection = self.collections[resource]
            self.rv += 1
            obj["metadata"]["resourceVersion"] = str(self.rv)
            version = Version(obj, self.rv)
            key = version.namespace + "/" + version.name
            previous = collection.versions.get(key)
            if previous is None:
                bisect.insort(collection.keys, key)
            collection.versions[key] = version
            collection._record(Event("MODIFIED" if previous else "ADDED", self.rv, version,
                                     previous))
            self.mark()
            self.changed.notify_all()
            return version

    def load(self, resource, objects):
        """Stores many new objects at once, without history."""
        with self.changed:
            collection = self.collections[resource]
            for obj in objects:
                self.rv += 1
                obj["metadata"]["resourceVersion"] = str(self.rv)
                version = Version(obj, self.rv)
                collection.versions[version.namespace + "/" + version.name] = version
            collection.keys = sorted(collection.versions)

    def delete(self, resource, namespace, name):
        with self.changed:
            collection = self.collections[resource]
            key = namespace + "/" + name
            previous = collection.versions.pop(key)
            del collection.keys[bisect.bisect_left(collection.keys, key)]
            self.rv += 1
            last = Version(at_version(previous.obj, self.rv), self.rv)
            collection._record(Event("DELETED", self.rv, last, previous))
            self.mark()
            self.changed.notify_all()
            return previous

    def compact(self):
        """Forgets all history, as etcd's compaction plus a restart of the server does."""
        with self.changed:
            self.rv += 1
            self.mark()
            for collection in self.collections.values():
                collection.dropped = collection.next_index()
                collection.events = []
                collection.window = collection.compacted = collection.first = self.rv

    def notify(self):
        with self.changed:
            self.changed.notify_all()


def remade(version):
    """The same object, made anew."""
    return Version({**version.obj, "metadata": {**version.obj["metadata"], "uid": new_uid()}},
                   version.rv)


def at_version(obj, rv):
    """The object with another resourceVersion."""
    meta = dict(obj["metadata"])
    meta["resourceVersion"] = str(rv)
    out = dict(obj)
    out["metadata"] = meta
    return out
