"""One sequence: each step is done on the mount and on the model, and then the two are compared."""

import errno
import os
import random
import stat
import time
from collections import Counter

import merge
import steps
from events import FLAGS, Inotify
from model import HIDDEN_SECONDS, Ino, Mismatch, Model, Place, Scratch
from plan import TAGS, Plan, missing_names
from steps import ANY
from worker import look

LIMIT = 30  # seconds for what comes by itself
MARGIN = 0.25  # what is due so soon is waited for
EXCL_UNLINK = 0x04000000  # nothing of what was unlinked, though it is still open
WATCHED = EXCL_UNLINK + sum(FLAGS[one] for one in ("CREATE", "DELETE", "MOVED_FROM", "MOVED_TO", "MODIFY", "CLOSE_WRITE"))
MOVES = ("CREATE", "DELETE", "MOVED_FROM", "MOVED_TO")


class Late(Exception):
    """A step took so long that nobody can say whether something hidden was back during it."""


class Sequence:
    def __init__(self, rig, namespace, selector=None):
        self.rig, self.namespace = rig, namespace
        self.top = f"{rig.path}/{namespace}"
        self.model = Model(selector, namespace)
        self.inos = {}  # number -> Ino
        self.inotify = Inotify()
        self.serial = 0
        self.seen = []
        self.done = []  # steps that made sense
        self.ending = set()  # what was begun and is about to vanish
        self.named = set()  # what was there when it was compared last
        self.read = {}  # the bytes then
        self.rng = random.Random(namespace)  # which names and bytes are looked at

    # The whole of it.

    def begin(self):
        obj = steps.new_stream({"app": "x"}, TAGS[:2], TAGS[1:2])
        self.rig.server.bulk({"op": "create-namespace", "name": self.namespace},
                             *({"op": "create", "namespace": self.namespace, "name": name, "object": obj}
                               for name in ("a", "b")))
        for name in ("a", "b"):
            self.model.take(name, self.server(name))
        self.eventually()

    def random(self, seed, count):
        rng = random.Random(seed)
        plan = Plan(rng, len(self.rig.workers))
        while len(self.done) < count:
            step = plan.next(self.model)
            if step:
                self.step(step)

    def replay(self, all_steps):
        for step in all_steps:
            self.step(step)

    def end(self, wait):
        """Everything is closed; at last all that was hidden is back (if there is time), and all events are there."""
        for name in list(self.model.handles):
            self.step(("close", name))
        if wait:
            self.wait_due(HIDDEN_SECONDS)
        self.step(("settle",))

    def clean(self):
        for worker in self.rig.workers:
            worker.call("end")
        self.inotify.close()
        self.rig.server.clear_faults()
        self.rig.server.bulk({"op": "delete-namespace", "name": self.namespace})

    # One step.

    def step(self, step):
        self.wait_due(HIDDEN_SECONDS if step[0] == "wait" else MARGIN)
        m = self.model
        if m.is_forgetting():
            raise Late
        m.moment, m.expected, m.lags = time.monotonic(), {}, False
        waiting = m.waiting()
        sends, writes = m.sends, self.rig.server.writes()
        effect = steps.OPERATIONS[step[0]](m, *step[1:])
        try:
            call = next(effect)
        except steps.Skip:
            return
        self.done.append(step)
        try:
            self.compare_result(call, self.perform(call))
            self.compare_server(call, sends, writes)
            self.finish(effect)
            self.follow_listings()
            if step[0] == "settle":
                self.compare_events()
            self.compare_after(call)
        except Mismatch as error:
            if m.unsure or self.is_late() or self.came_first(waiting):
                raise Late from None
            raise Mismatch(f"step {len(self.done)}, {step}: {error}") from None
        if m.unsure or self.came_first(waiting):
            raise Late

    def compare_after(self, call):
        """At once after a call of our own."""
        if call.where == "server" or self.model.selector or self.model.lags:
            self.eventually()
        else:
            self.compare()

    def finish(self, effect):
        try:
            effect.send(self.server)
        except StopIteration:
            return
        raise AssertionError("an effect yields once")

    def server(self, name):
        return self.rig.server.get(self.namespace, name)

    def perform(self, call):
        if call.where == "server":
            getattr(self, "do_" + call.name)(*call.arguments)
            return "ok", None
        arguments = [self.place(call.name, number, one) for number, one in enumerate(call.arguments)]
        return self.rig.workers[call.where].call(call.name, *arguments)

    def place(self, name, number, value):
        """Paths are below the namespace, but for a symlink's target."""
        where = PATHS.get(name, ())
        return f"{self.top}/{value}" if number in where else value

    def do_fault(self, stream, method, status):
        what = f"imagestreamtags/{stream}:.*" if method == "TAG" else f"imagestreams/{stream}(/status)?$"
        self.rig.server.fault(method="PUT" if method == "TAG" else method, status=status,
                              path=f"/namespaces/{self.namespace}/{what}")

    def do_change(self, stream, change):
        obj = self.server(stream)
        changed = steps.change_object(obj, change)
        at = {"namespace": self.namespace, "name": stream}
        operations = []
        if obj is not None and (changed is None or change[0] == "anew"):
            operations.append({"op": "delete", **at})
        if changed is not None:
            operations.append({"op": "replace", **at, "object": merge.without(changed, "kind", "apiVersion")})
        if operations:
            self.rig.server.bulk(*operations)

    def do_settle(self):
        self.rig.settle()

    def do_cut(self, clean, compacted):
        control = self.rig.server.app.control
        if compacted:
            control.compact({"style": "event" if clean else "status"})
        control.drop({"path": "", "clean": clean})

    def do_nothing(self):
        pass

    # What comes by itself.

    def wait_due(self, margin):
        back, over = self.model.due(time.monotonic() + margin)
        if not back and not over:
            return
        for place in back:
            self.model.show_again(place)
            self.model.event(place.path, "CREATE")
        for pending in over:
            del self.model.pending[pending.path]
            self.model.unsure_of(pending.path)  # a DELETE, unless somebody was at the name just then
        self.ending |= {pending.path for pending in over}  # this may be asked for within itself
        self.eventually()
        self.ending = set()

    def came_first(self, waiting):
        """Whether what the step took away may have been back before: `waiting` is from its beginning."""
        late = time.monotonic() + 0.05
        return any(when <= late for one, when in waiting.items() if one not in self.model.waiting())

    def is_late(self):
        back, over = self.model.due(time.monotonic() + 0.05)
        return bool(back or over)

    def eventually(self):
        """As compare, within a generous time: nothing tells when it is shown."""
        end = time.monotonic() + LIMIT
        while True:
            try:
                self.compare()
                return
            except (Mismatch, OSError) as error:
                if time.monotonic() > end:
                    raise Mismatch(f"not within {LIMIT} s: {error}") from None
                if self.is_late():
                    self.wait_due(0.05)
                    return
            time.sleep(0.002)

    def follow_listings(self):
        for held in self.model.listings.values():
            now, own = (steps.names_in(self.model, held["path"], who) for who in (None, held["worker"]))
            one = self.model.at(held["path"]) if held["path"] else self.model.root
            if one is not held["one"] or not self.model.reachable(held["path"]):
                now = own = {}
                held["gone"] = True
            held["stay"] = {name: what for name, what in held["stay"].items() if own.get(name) is what}
            held["may"] |= now.keys()

    # Comparing.

    def compare_result(self, call, got):
        kind, expected = call.result
        if got == call.other:
            return
        if kind != got[0]:
            raise Mismatch(f"{call.name} gave {show(got)}, not {show(call.result)}")
        if callable(expected):
            same = expected(got[1])
        elif isinstance(expected, dict):
            same = all(self.is_same(value, got[1][key]) for key, value in expected.items())
        else:
            same = expected is ANY or expected == got[1]
        if not same:
            raise Mismatch(f"{call.name} gave {show(got)}, not {show(call.result)}")

    def is_same(self, expected, got):
        if isinstance(expected, Ino):
            return self.is_ino(expected, got)
        return expected is ANY or expected == got

    def is_ino(self, ino, number):
        if ino.number is None:
            if number in self.inos:
                return False
            self.inos[number] = ino
            ino.number = number
        return ino.number == number

    def compare_server(self, call, sends, writes):
        m = self.model
        if call.where == "server":
            return
        requests = self.rig.server.writes() - writes
        if (m.sends > sends) != (requests > 0):
            raise Mismatch(f"{requests} requests, where the model sends {m.sends - sends}")
        held = {name: one.obj for name, one in m.streams.items()} | m.hidden_streams
        for name in {*held, *m.expected}:
            now = self.server(name)
            if name not in m.expected:
                if now != held[name]:
                    raise Mismatch(f"the server has {name} changed")
            elif not is_expected(m.expected[name], now):
                raise Mismatch(f"the server has {now}, where {m.expected[name]} is saved")
        extra = self.rig.server.names(self.namespace) - {*held, *m.expected}
        if extra:
            raise Mismatch(f"the server has {extra} more")

    def compare(self):
        expected = self.model.names()
        self.compare_lookups(expected)
        begun = (self.model.pending.keys() | self.ending) - self.model.places.keys()
        try:
            found = look(self.top, begun, self.unchanged(expected))
        except OSError as error:
            raise Mismatch(f"looking around: {error}") from None
        if found.keys() != expected.keys():
            raise Mismatch(f"there are {sorted(found.keys() - expected.keys())} more, "
                           f"and {sorted(expected.keys() - found.keys())} aren't there")
        directories = Counter(path.rpartition("/")[0] for path, one in expected.items() if one.kind == "directory")
        for path, one in expected.items():
            self.compare_one(path, one, found[path], self.links(path, directories))
        self.read = {path: bytes_of(one) for path, one in expected.items()}
        self.watch(expected)

    def unchanged(self, expected):
        """Most of the files whose bytes are those that were read last: to open all of them takes most of the time."""
        return {path for path, one in expected.items() if one.kind != "directory" and bytes_of(one) is not None and
                bytes_of(one) is self.read.get(path) and self.rng.random() < 0.8}

    def compare_lookups(self, expected):
        """By name, before a listing tells the kernel what there is: what has come, what has gone, and a few names that
        aren't there, which the kernel may keep as missing."""
        unsure = self.model.pending.keys() | self.ending
        for path in (expected.keys() ^ self.named) - unsure:
            if os.path.lexists(f"{self.top}/{path}") != (path in expected):
                raise Mismatch(f"{path} is {'not' if path in expected else 'still'} found by name")
        self.named = expected.keys()
        missing = [path for path in missing_names(self.rng) if path not in expected and path not in unsure]
        for path in missing:
            if os.path.lexists(f"{self.top}/{path}"):
                raise Mismatch(f"{path} is found by name")

    def compare_one(self, path, one, got, links):
        is_scratch = isinstance(one, Scratch)
        data = bytes_of(one)
        wanted = {"kind": one.kind if one.kind in ("directory", "symlink") else "file", "mode": one.mode,
                  "nlink": links if one.kind == "directory" else 1}
        real = {"kind": kind_of(got["mode"]), "mode": stat.S_IMODE(got["mode"]), "nlink": got["nlink"]}
        if one.kind != "directory":
            if is_scratch and data is None:
                one.data = data = got["bytes"]
            wanted |= {"bytes": data, "size": len(data)}
            real |= {"bytes": got.get("bytes", data), "size": got["size"]}
        if wanted != real:
            raise Mismatch(f"{path}: " + ", ".join(
                f"{key} is {show(real[key])}, not {show(wanted[key])}" for key in wanted if wanted[key] != real[key]))
        if not self.is_ino(one.ino, got["ino"]):
            raise Mismatch(f"{path}: inode {got['ino']}, not {one.ino.number or 'a new one'}")
        if isinstance(one, Place) and one.kind != "directory":
            self.compare_time(path, one, got["mtime"])

    def compare_time(self, path, one, mtime):
        if one.mtime:
            before, data = one.mtime
            if (mtime > before) != (data != one.bytes) or mtime < before:
                raise Mismatch(f"{path}: its mtime went from {before} to {mtime}, "
                               f"its bytes are {'the same' if data == one.bytes else 'others'}")
        one.mtime = mtime, one.bytes

    def links(self, path, directories):
        hidden = self.model.places.get(path + "/tags") if "/" not in path else None
        # A hidden `tags` is counted: who hides it makes no other inode of the stream's directory.
        return 2 + directories[path] + bool(hidden and hidden.hidden is not None)

    # Events.

    def watch(self, expected):
        m = self.model
        for path in ["", *(path for path, one in expected.items()
                           if isinstance(one, Place) and one.kind == "directory")]:
            if path in m.watched:
                continue
            self.seen += self.inotify.read()  # a directory that was hidden has the watch that it had
            self.serial += 1
            try:
                self.inotify.add(f"{self.top}/{path}", self.serial, WATCHED)
            except FileNotFoundError:
                continue
            m.watched[path] = self.serial

    def compare_events(self):
        m = self.model
        live = {serial: path for path, serial in m.watched.items()}
        moves, modified, closes = {}, set(), Counter()
        seen, self.seen = self.seen + self.inotify.read(), []
        for serial, name, flags in seen:
            if serial not in live or name.endswith((".rejected", ".error")):
                continue  # the latter the program changes by itself, without a word to the kernel
            for flag in flags.split("|"):
                if flag in MOVES:
                    moves.setdefault((serial, name), []).append(flag)
                elif flag == "MODIFY":
                    modified.add((serial, name))
                elif flag == "CLOSE_WRITE":
                    closes[serial, name] += 1
        kept = (".rejected", ".error")
        wanted = {key: value for key, value in m.events.items() if key[0] in live and not key[1].endswith(kept)}
        changed = {key for key in m.modified if key[0] in live and not key[1].endswith(kept)}
        busy = {*moves, *wanted, *m.vague}  # whether these were modified before they went isn't known
        vague, m.vague = m.vague, set()
        own, announced = m.closes, m.announced
        m.events, m.modified, m.closes, m.announced = {}, set(), Counter(), set()
        for key in busy - vague:
            if moves.get(key) != wanted.get(key):
                raise Mismatch(f"events of {live[key[0]]}/{key[1]}: {moves.get(key)}, not {wanted.get(key)}; all: "
                               + ", ".join(f"{live.get(one, '?')}/{name} {flags}" for one, name, flags in seen))
        loose, m.loose = m.loose, False
        for key in (changed - modified if loose else modified ^ changed) - busy:
            raise Mismatch(f"{live[key[0]]}/{key[1]}: MODIFY was "
                           f"{'raised' if key in modified else 'not raised'}")
        for key in () if loose else closes.keys() - busy - announced:
            if closes[key] > own[key]:  # a save is no remote change
                raise Mismatch(f"{live[key[0]]}/{key[1]}: {closes[key]} CLOSE_WRITE, and {own[key]} were closed")


def bytes_of(one):
    return one.data if isinstance(one, Scratch) else one.bytes


PATHS = {"slurp": (0,), "open": (1,), "truncate": (0,), "unlink": (0,), "rename": (0, 1), "mkdir": (0,),
         "rmdir": (0,), "symlink": (1,), "link": (0, 1), "access": (0,), "chmod": (0,), "utime": (0,),
         "scan_begin": (1,), "find": (0,)}


def is_expected(expected, now):
    if expected is None or now is None:
        return expected is None and now is None
    kind, tag, value = expected
    got = merge.value_of(kind, tag, now)
    if value is None or got is None:
        return value is None and got is None
    if kind.startswith("imagestream"):  # what follows from it is the server's to say
        value, got = merge.without(value, "status"), merge.without(got, "status")
    return merge.equal(with_defaults(got), with_defaults(value))


DEFAULTS = {"importPolicy": {"importMode": "Legacy"}, "referencePolicy": {"type": "Source"}, "lookupPolicy": {"local": False}}


def with_defaults(value):
    """Without what the server fills in by itself."""
    if not isinstance(value, dict):
        return value
    return {key: with_defaults(one) for key, one in merge.bare(value).items() if one != DEFAULTS.get(key, ...)}


def kind_of(mode):
    return {stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}.get(stat.S_IFMT(mode), "file")


def show(value):
    if isinstance(value, tuple) and value[0] == "errno":
        return errno.errorcode.get(value[1], value[1])
    text = repr({key: getattr(one, "number", one) for key, one in value[1].items()}
                if isinstance(value, tuple) and isinstance(value[1], dict) else value)
    return text if len(text) < 3000 else text[:3000] + "…"
