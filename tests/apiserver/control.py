"""/_control/: counting requests, faults, bursts and disasters, for tests."""

import json
import re
import ssl
import threading
import time
from collections import Counter, deque

import auth
import imagestream
import projects
import schema
from history import add_item
from server import Disconnected, Response
from store import encode, new_uid, now

RECORDS = 10000
HEADERS = ("content-type", "accept", "user-agent", "impersonate-user", "impersonate-uid")
WRITES = ("POST", "PUT", "PATCH", "DELETE")
FAULT_KEYS = {"method", "path", "watch", "contentType", "count", "after", "bulk", "delay", "hang",
              "cut", "cutAfter", "cutInEvent", "slow", "status", "reason", "message", "causes",
              "retryAfter", "text", "type", "json", "nosniff", "close", "flow", "begin"}
# The list of projects learns of new rights that much sooner than of lost ones.
GRANTED = 0.4 / 6.5


class Fault:
    def __init__(self, spec):
        unknown = spec.keys() - FAULT_KEYS
        if unknown:
            raise ValueError("a fault knows no " + ", ".join(sorted(unknown)))
        if spec.get("cut") not in (None, False, True, "reset"):
            raise ValueError('cut is true or "reset"')
        self.spec = spec
        self.left = spec.get("count", 1)
        self.path = re.compile(spec.get("path", ""))
        self.content_type = re.compile(spec.get("contentType", ""))
        self.after = bool(spec.get("after"))
        self.freed = threading.Event()

    def matches(self, method, path, query, watch, content_type=""):
        return (self.left > 0 and self.spec.get("method") in (None, method)
                and self.spec.get("watch") in (None, watch)
                and self.content_type.search(content_type)
                # A pattern may end in $ to mean the path alone, or name a parameter.
                and any(self.path.search(text) for text in (path, path + "?" + query)))


class Control:
    def __init__(self, app):
        self.app = app
        self.lock = threading.Lock()
        self.counts = Counter()
        self.records = deque(maxlen=RECORDS)
        self.faults = []
        self.server = None
        self.project_delay = 0
        self.authority = None
        self.prefix = ""

    # What every ordinary request goes through.

    def record(self, request):
        """Gives the entry, whose status is filled in when the answer is known."""
        headers = {name: value for name, value in request.headers.items()
                   if name in HEADERS or name.startswith("impersonate-extra-")}
        headers["authorization"] = "authorization" in request.headers
        if request.groups:
            headers["impersonate-group"] = request.groups
        entry = {"method": request.method, "path": request.path, "query": request.raw_query,
                 "headers": headers, "time": time.time(), "status": None, "sni": request.sni,
                 "port": request.port, "host": request.headers.get("host"),
                 "certificate": request.certificate_user}
        if request.method in WRITES:
            entry["body"] = request.body.decode("utf-8", "replace")
        with self.lock:
            self.counts["%s %s" % (request.method, request.path)] += 1
            self.records.append(entry)
        return entry

    @staticmethod
    def is_watch(request):
        return request.method == "GET" and (request.flag("watch") or "/watch/" in request.path)

    def take_fault(self, method, path, query, watch, content_type="", in_event=False):
        """The first fault that matches, counted down. Faults in events wait for an event."""
        with self.lock:
            for fault in self.faults:
                if bool(fault.spec.get("cutInEvent")) == in_event and \
                        fault.matches(method, path, query, watch, content_type):
                    fault.left -= 1
                    return fault
        return None

    def take_cut(self, path, query):
        """Whether the event that a watch is about to send is to be cut in the middle."""
        return bool(self.faults) and self.take_fault(
            "GET", path, query, True, in_event=True) is not None

    def fault_for(self, request):
        return self.take_fault(request.method, request.path, request.raw_query,
                               self.is_watch(request), request.headers.get("content-type", ""))

    def apply_fault(self, fault, connection):
        """Does what a fault says; gives the answer if that's the fault's too."""
        spec = fault.spec
        if "bulk" in spec:
            self.bulk(spec["bulk"])
        if "delay" in spec:
            self.hold(fault, connection, spec["delay"])
        if spec.get("hang"):
            self.hold(fault, connection, None if spec["hang"] is True else spec["hang"])
        if spec.get("cut"):
            connection.cut(spec["cut"] == "reset")
        connection.cut_after = spec.get("cutAfter")
        connection.prefix = spec.get("begin", "").encode()
        if "slow" in spec:
            connection.slow = (spec["slow"]["bytes"], spec["slow"]["delay"])
        if not {"status", "text", "json"} & spec.keys():
            return None
        response = self.faulty_answer(spec)
        response.close = spec.get("close", False)
        return response

    @staticmethod
    def faulty_answer(spec):
        headers = [("Retry-After", str(spec["retryAfter"]))] if "retryAfter" in spec else []
        if "text" in spec:
            kind = spec.get("type", "text/plain; charset=utf-8")
            if spec.get("nosniff", kind.startswith("text/plain")):
                headers.append(("X-Content-Type-Options", "nosniff"))
            return Response(spec.get("status", 200), spec["text"].encode(), kind, headers)
        body = spec["json"] if "json" in spec else status_of(spec)
        return Response(spec.get("status", 200), encode(body) + b"\n",
                        spec.get("type", "application/json"), headers)

    @staticmethod
    def hold(fault, connection, seconds):
        """Holds a request until the time is over, the fault is cleared or the client left."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not fault.freed.is_set():
            left = 0.2 if deadline is None else min(0.2, deadline - time.monotonic())
            if left <= 0:
                return
            fault.freed.wait(left)
            if connection.client_gone():
                raise Disconnected

    # The control calls.

    def answer(self, request):
        name = request.path[len("/_control/"):].strip("/")
        handler = {
            ("GET", "requests"): self.show_requests, ("POST", "reset"): self.reset,
            ("POST", "faults"): self.add_fault, ("DELETE", "faults"): self.clear_faults,
            ("POST", "compact"): self.compact, ("POST", "drop"): self.drop,
            ("POST", "silence"): self.silence, ("POST", "restart"): self.restart,
            ("POST", "snapshot"): self.snapshot,
            ("GET", "state"): self.state, ("POST", "revoke"): self.revoke,
            ("POST", "grant"): self.grant, ("POST", "token"): self.token,
            ("POST", "certificate"): self.certificate,
            ("POST", "tls"): self.tls, ("POST", "prefix"): self.set_prefix,
            ("POST", "bulk"): self.bulk, ("GET", "imports"): self.imports,
            ("POST", "imports"): self.imports,
        }.get((request.method, name))
        if handler is None:
            return Response(404, b'{"error":"no such control call"}\n')
        try:
            value = json.loads(request.body) if request.body else {}
            return Response(200, encode(handler(value)) + b"\n")
        except (ValueError, KeyError, TypeError, AttributeError, re.error,
                schema.DecodeError) as why:
            return Response(400, encode({"error": repr(why)}) + b"\n")

    def show_requests(self, value):
        with self.lock:
            return {"counts": dict(self.counts), "requests": list(self.records)}

    def reset(self, value):
        with self.lock:
            self.counts.clear()
            self.records.clear()
        return self.clear_faults(value)

    def add_fault(self, value):
        made = [Fault(spec) for spec in (value if isinstance(value, list) else [value])]
        with self.lock:
            self.faults += made
        return {}

    def clear_faults(self, value):
        with self.lock:
            for fault in self.faults:
                fault.freed.set()
            self.faults = []
        return {}

    def compact(self, value):
        """{"style": "event" | "status"}: how an expired watch is answered from now on."""
        if "style" in value:
            self.app.options.gone_by_status = value["style"] == "status"
        self.app.store.compact()
        return {"resourceVersion": str(self.app.store.rv)}

    def open_watches(self, value):
        wanted = re.compile(value.get("path", ""))
        with self.app.store.changed:
            return [one for one in self.app.lister.watches if wanted.search(one.path)]

    def drop(self, value):
        """{"clean": true} ends the answers properly; otherwise connections are cut."""
        watches = self.open_watches(value)
        for watch in watches:
            watch.drop(value.get("clean", False))
        return {"dropped": len(watches)}

    def silence(self, value):
        """{"on": false} lets the watches talk again; what they missed stays unsaid."""
        watches = self.open_watches(value)
        for watch in watches:
            watch.silent = value.get("on", True)
        return {"silenced" if value.get("on", True) else "talking": len(watches)}

    def restart(self, value):
        if value.get("go"):
            return self.app.restarts.go_on()
        if "style" in value:
            return self.app.restarts.begin(value["style"], value)
        seconds = value.get("seconds", 0)
        # A moment later, so that this answer still gets out.
        self.app.later(0.05, self.server.go_away, seconds)
        return {}

    def snapshot(self, value):
        """What a restart of style rollback goes back to from now on."""
        self.app.store.saved = self.app.store.snapshot()
        return {"resourceVersion": str(self.app.store.saved[0])}

    def state(self, value):
        store = self.app.store
        with store.changed:
            return {"watches": len(self.app.lister.watches), "resourceVersion": str(store.rv),
                    "objects": {name: len(collection.versions)
                                for name, collection in store.collections.items()},
                    "window": str(store["imagestreams"].window),
                    "compacted": str(store["imagestreams"].compacted),
                    "restart": self.app.restarts.state()}

    def revoke(self, value):
        """Refused at once; the list of projects, and who watches it, learns of it later."""
        before = self.app.auth.grants
        self.app.auth.revoke(value["user"], value.get("role"), value.get("namespace"))
        self.show_projects(before - self.app.auth.grants, self.project_delay)
        return {}

    def show_projects(self, changed, delay):
        """Lets the list of projects learn of changed grants when it is time."""
        def learn():
            self.app.auth.show(changed)
            self.app.store.notify()
            learnt.set()

        learnt = threading.Event()
        if changed and delay:
            self.app.later(delay, learn)
        else:
            learn()
        return learnt

    def grant(self, value):
        role = auth.as_rules(value["rules"]) if "rules" in value else value["role"]
        if isinstance(role, str) and role not in auth.ROLES:
            raise ValueError("no such role")
        self.app.auth.add_user(value["user"])
        before = self.app.auth.grants
        self.app.auth.grant(value["user"], role, value.get("namespace", ""))
        learnt = self.show_projects(self.app.auth.grants - before, self.project_delay * GRANTED)
        if value.get("wait", True):
            learnt.wait()
        return {}

    def token(self, value):
        self.app.auth.set_token(value["user"], value["token"])
        return {}

    def certificate(self, value):
        """A client certificate for a user, which need not be known."""
        certificate, key = self.authority.client(value["user"])
        return {"certificate": certificate.decode(), "key": key.decode()}

    def tls(self, value):
        """For the connections that come from now on."""
        version = ssl.TLSVersion["TLSv" + value["version"].replace(".", "_")]
        self.server.context = self.authority.strict_context(version, value["revoked"])
        return {}

    def set_prefix(self, value):
        self.prefix = value["path"].rstrip("/")
        return {}

    def imports(self, value):
        """Switches the import controller and says how imports go; gives what holds now."""
        importer, controller = self.app.imports.importer, self.app.import_controller
        patterns = {key: re.compile(value[key]) for key in importer.PATTERNS if key in value}
        # Under the lock no import is half done: none comes after this answer says off.
        with self.app.store.changed:
            if "delay" in value:
                importer.delay = float(value["delay"])
            for key, pattern in patterns.items():
                importer.set(key, pattern.pattern)
            if "on" in value:
                controller.switch(value["on"])
            return {"on": controller.enabled, "delay": importer.delay, **{
                key: importer.pattern(key) for key in importer.PATTERNS}}

    # Many changes at once.

    def bulk(self, value):
        """Changes back to back, under one lock, past access checks and validation."""
        store = self.app.store
        with store.changed:
            first = store.rv
            if isinstance(value, list):
                for one in value:
                    self.change(one)
            else:
                self.modify(value["modify"])
            return {"changes": store.rv - first, "resourceVersion": str(store.rv)}

    def change(self, one):
        operation = one["op"]
        if operation == "touch":
            self.modify(one)
            return
        obj = one.get("object")
        namespace = one.get("namespace") or (obj or {}).get("metadata", {}).get("namespace", "")
        name = one.get("name") or (obj or {}).get("metadata", {}).get("name", "")
        streams = self.app.store["imagestreams"]
        if operation == "delete":
            self.app.store.delete("imagestreams", namespace, name)
        elif operation in ("create", "replace"):
            self.store_stream(namespace, name, obj)
        elif operation == "put":
            self.app.store.put(one["resource"], obj)
        elif operation == "clear":
            self.clear()
        elif operation == "create-namespace":
            self.app.projects.ensure(name or namespace)
        elif operation == "delete-namespace":
            self.app.projects.finish(name or namespace)
        else:
            self.touch(streams.get(namespace, name), operation.partition("touch-")[2])

    def clear(self):
        """Empties the server; namespaces stay."""
        for resource in ("imagestreams", "images", "secrets"):
            for version in self.app.store[resource].select():
                self.app.store.delete(resource, version.namespace, version.name)

    def store_stream(self, namespace, name, value):
        """Stores a whole stream, status included."""
        obj = imagestream.decode(value, schema.Report(), self.app.options.import_modes)
        old = self.app.store["imagestreams"].get(namespace, name)
        if self.app.store["namespaces"].get("", namespace) is None:
            self.app.store.put("namespaces", projects.namespace_object(
                namespace, managed=self.app.options.managed_fields))
        self.app.store.put("imagestreams", complete(obj, namespace, name, old))

    def modify(self, spec):
        pattern = re.compile(spec.get("match", ""))
        kind = spec.get("change", "label")
        collection = self.app.store["imagestreams"]
        chosen = [v for v in collection.select(spec.get("namespace", ""))
                  if pattern.search(v.name)]
        for _ in range(spec.get("times", 1)):
            for version in chosen:
                self.touch(collection.get(version.namespace, version.name), kind)

    def touch(self, version, kind):
        """A small change: of a label, an annotation, the newest image or the spec of a tag."""
        store, obj, serial = self.app.store, version.obj, str(self.app.store.rv)
        if kind in ("label", "annotation"):
            old = obj["metadata"].get(kind + "s") or {}
            changed = dict(sorted({**old, "touched": serial}.items()))
            obj = imagestream.with_meta(obj, **{kind + "s": changed})
        elif kind == "image":
            obj = self.pushed(obj, serial)
        elif kind == "tag":
            tags = imagestream.tags_of(obj)
            generation = obj["metadata"].get("generation", 0) + 1
            tags["touched"] = imagestream.with_defaults({
                "name": "touched", "annotations": {"touched": serial}, "generation": generation,
                "importPolicy": {}, "referencePolicy": {"type": ""}})
            obj = imagestream.with_meta(imagestream.with_spec_tags(obj, tags),
                                        generation=generation)
        else:
            raise ValueError("no such change: " + kind)
        if obj is not version.obj:
            # The store writes the resourceVersion into metadata, so that must be a copy.
            store.put("imagestreams", {**obj, "metadata": dict(obj["metadata"])})

    def pushed(self, obj, serial):
        history = imagestream.history_of(obj)
        tag = next(iter(history), "latest")
        digest = "sha256:" + serial.rjust(64, "0")
        add_item(history, tag, {
            "created": now(), "dockerImageReference": "%s@%s" % (
                imagestream.repository(obj), digest),
            "image": digest, "generation": obj["metadata"].get("generation", 1)})
        return imagestream.with_history(obj, history)


def complete(obj, namespace, name, old=None):
    """A stream from a file or a bulk change with what the server must have set."""
    kept = old.obj["metadata"] if old else {}
    meta = obj["metadata"]
    obj = imagestream.with_meta(
        obj, name=name, namespace=namespace, resourceVersion="0",
        uid=meta.get("uid") or kept.get("uid") or new_uid(),
        generation=meta.get("generation") or kept.get("generation") or 1,
        creationTimestamp=meta.get("creationTimestamp") or kept.get("creationTimestamp") or now())
    return imagestream.with_repository(obj)


def status_of(spec):
    """A Status body for a fault that names only a code."""
    code = spec["status"]
    reason = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound",
              405: "MethodNotAllowed", 406: "NotAcceptable", 409: "Conflict", 410: "Expired",
              413: "RequestEntityTooLarge", 415: "UnsupportedMediaType", 422: "Invalid",
              429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable",
              504: "Timeout"}.get(code, "")
    out = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
           "message": spec.get("message", "injected fault"), "reason": spec.get("reason", reason)}
    details = {"causes": spec["causes"]} if "causes" in spec else {}
    if "retryAfter" in spec:
        details["retryAfterSeconds"] = spec["retryAfter"]
    if details:
        out["details"] = details
    return {**out, "code": code}
