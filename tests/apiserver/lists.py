"""LIST and WATCH of a collection."""

import base64
import itertools
import json
import random
import time

import errors
import render
import selector
from server import Disconnected, Response
from store import Version, at_version, bisect_by, encode, event_line

# A request for a version of the future waits that long for it.
PATIENCE = 3
# How often a quiet watch looks whether its client is still there.
HEARTBEAT = 0.25


class Kind:
    """What the list code must know of a resource."""

    def __init__(self, resource, group, kind, columns, cells, fields=None, blank=None):
        self.resource = resource
        self.group = group
        self.kind = kind
        self.columns = columns
        self.cells = cells
        self.fields = {"metadata.name": lambda obj: obj["metadata"]["name"],
                       "metadata.namespace": lambda obj: obj["metadata"].get("namespace", "")}
        self.fields.update(fields or {})
        self.blank = blank or {}  # what a bookmark object holds besides metadata


class Selection:
    """The selectors of a request."""

    def __init__(self, request, kind):
        self.labels = selector.parse_labels(request.param("labelSelector"))
        requirements = selector.parse_fields(request.param("fieldSelector"), kind.fields)
        self.fields = selector.match_fields(requirements, kind.fields)

    def __bool__(self):
        return self.labels is not None or self.fields is not None

    def matches(self, version):
        return ((self.labels is None or self.labels(version.labels))
                and (self.fields is None or self.fields(version.obj)))


def only_name(request):
    """The name that a field selector pins the request to, or ""."""
    for part in request.param("fieldSelector").split(","):
        key, _, value = part.replace("==", "=").partition("=")
        if key == "metadata.name":
            return value
    return ""


def list_options_error(field, text, reason="FieldValueForbidden"):
    word = {"FieldValueForbidden": "Forbidden", "FieldValueInvalid": "Invalid value"}.get(
        reason, "Unsupported value")
    causes = [errors.cause(reason, field, "%s: %s" % (word, text))]
    return errors.invalid("ListOptions", "meta.k8s.io", "", causes)


def parse_version(text):
    if not text.isdigit() or not text.isascii():
        raise errors.bad_version(text)
    return int(text)


def check_list_options(request, watch):
    match = request.param("resourceVersionMatch")
    version = request.param("resourceVersion")
    initial = "sendInitialEvents" in request.query
    if watch:
        if initial and match != "NotOlderThan":
            raise list_options_error("resourceVersionMatch", (
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
        if match and not initial:
            raise list_options_error("resourceVersionMatch", (
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is "
                "provided"))
        if initial and not request.flag("allowWatchBookmarks"):
            raise list_options_error("sendInitialEvents", (
                "sendInitialEvents is forbidden for watch unless allowWatchBookmarks is true"))
        return
    if initial:
        raise list_options_error("sendInitialEvents",
                                 "sendInitialEvents is forbidden for list")
    if not match:
        return
    if not version:
        raise list_options_error("resourceVersionMatch", (
            "resourceVersionMatch is forbidden unless resourceVersion is provided"))
    if request.param("continue"):
        raise list_options_error("resourceVersionMatch",
                                 "resourceVersionMatch is forbidden when continue is provided")
    if match not in ("Exact", "NotOlderThan"):
        raise list_options_error("resourceVersionMatch", (
            '%s: supported values: "Exact", "NotOlderThan", ""' % errors.quote(match)),
            "FieldValueNotSupported")
    if match == "Exact" and version == "0":
        raise list_options_error("resourceVersionMatch", (
            'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))


def parse_int(request, name):
    text = request.param(name)
    if not text:
        return 0
    try:
        return int(text)
    except ValueError:
        raise errors.bad_request("strconv.ParseInt: parsing %s: invalid syntax"
                                 % errors.quote(text))


def make_token(rv, start):
    raw = json.dumps({"v": "meta.k8s.io/v1", "rv": rv, "start": start + "\0"},
                     separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def read_token(token):
    """(rv, first key that's still wanted)"""
    def bad(why):
        return errors.bad_request(
            "invalid continue token: continue key is not valid: " + why)
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), "-_", validate=True)
    except ValueError:
        raise bad("illegal base64 data at input byte 0")
    try:
        value = json.loads(raw)
        return int(value["rv"]), value["start"].lstrip("/")
    except UnicodeDecodeError:
        raise bad("invalid character '%s' looking for beginning of value" % chr(raw[0]))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise bad("invalid character '%s' looking for beginning of value" % (
            raw[:1].decode("latin-1")))


class Lister:
    """LIST and WATCH, with what the flavor of the server knows of them."""

    def __init__(self, store, options):
        self.store = store
        self.options = options
        self.watches = set()
        self.frozen = False  # etcd says nothing, so that watches stay open and silent

    def lag(self, replica):
        """How many seconds the watch cache of that replica is behind the store."""
        return self.options.lag * replica / max(1, self.options.replicas - 1)

    def reached(self, replica):
        """The resourceVersion that the watch cache of that replica has got to."""
        lag = self.lag(replica)
        return self.store.rv_at(time.monotonic() - lag) if lag else self.store.rv

    def wait_for(self, rv, replica):
        """Holds the request until the cache has got that far; 504 after PATIENCE."""
        deadline = time.monotonic() + PATIENCE
        with self.store.changed:
            while self.reached(replica) < rv:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise errors.version_too_large(rv, self.store.rv)
                self.store.changed.wait(min(left, self.until_more(self.reached(replica), replica)))

    def until_more(self, rv, replica):
        """Seconds until the cache gets further than rv by what is stored already."""
        if rv >= self.store.rv:
            return HEARTBEAT
        return max(0, self.store.due(rv) + self.lag(replica) - time.monotonic())

    def select(self, request, collection, namespace, kind):
        """(versions, list metadata) of a LIST."""
        options = self.options
        if options.version_match:
            check_list_options(request, False)
        limit = parse_int(request, "limit") if options.paging else 0
        token = request.param("continue") if options.paging else ""
        given = request.param("resourceVersion")
        match = request.param("resourceVersionMatch") if options.version_match else ""
        chosen = Selection(request, kind)
        start = ""
        if token:
            if given and given != "0":
                raise errors.bad_request(
                    "specifying resource version is not allowed when using continue")
            at, start = read_token(token)
            exact = at > 0
        else:
            at = parse_version(given) if given else 0
            exact = at > 0 and (match == "Exact" or (limit > 0 and not match))
            if at and not exact:
                self.wait_for(at, request.replica)
            elif at > self.store.rv:
                self.wait_for(at, 0)
        # The watch cache answers version 0, and it knows no limit.
        if given == "0" and options.watch_cache:
            limit = 0
        with self.store.changed:
            # Only what asks for a version is answered by the cache; the rest is consistent.
            cached = given and not exact and not token
            current = self.reached(request.replica) if cached else self.store.rv
            if exact and at < collection.compacted:
                raise errors.ContinueExpired(make_token(-1, start.rstrip("\0"))) if token \
                    else errors.expired()
            rv = at if exact else current
            found, count = collection.walk(namespace, start, rv if rv < self.store.rv else None)
            if chosen:
                found = filter(chosen.matches, found)
            # One more tells whether there are more.
            versions = list(itertools.islice(found, limit + 1) if limit > 0 else found)
        meta = {"resourceVersion": str(rv)}
        if 0 < limit < len(versions):
            del versions[limit]
            meta["continue"] = make_token(rv, "/" + self._key(versions[-1], namespace))
            if not chosen and options.remaining:
                meta["remainingItemCount"] = count - limit
        return versions, meta

    @staticmethod
    def _key(version, namespace):
        return version.name if namespace or not version.namespace else \
            version.namespace + "/" + version.name

    def list(self, request, collection, namespace, kind, view):
        versions, meta = self.select(request, collection, namespace, kind)
        return self.render_list(request, versions, meta, kind, view)

    def render_list(self, request, versions, meta, kind, view):
        accept = render.negotiate(request.headers.get("accept"), self.options.forms)
        if accept.form == "table":
            data = render.encode_table(
                kind.columns, kind.cells, [v.obj for v in versions], meta,
                request.param("includeObject", "Metadata"), accept.version)
        else:
            if accept.form == "partial":
                view = render.PARTIAL
            data = b'{"kind":"%bList","apiVersion":"%b","metadata":%b,"items":[%b]}' % (
                view.kind.encode(), view.api_version.encode(), encode(meta),
                b",".join([v.body(view) for v in versions]))
        return Response(200, render.document(data, request, accept.media), accept.content_type)

    def watch(self, request, collection, namespace, kind, view, name=""):
        if self.options.version_match:
            check_list_options(request, True)
        accept = render.negotiate(request.headers.get("accept"), self.options.forms)
        if accept.media != "json":
            raise errors.StatusError(406, "NotAcceptable", (
                "only the following media types are accepted: application/json;stream=watch, "
                "application/vnd.kubernetes.protobuf;stream=watch"))
        watch = Watch(self, request, collection, namespace, name, kind, view, accept)
        return watch.response()


class Watch:
    def __init__(self, lister, request, collection, namespace, name, kind, view, accept):
        self.lister = lister
        self.store = lister.store
        self.options = lister.options
        self.collection = collection
        self.namespace = namespace
        self.name = name
        self.kind = kind
        self.accept = accept
        self.view = render.PARTIAL if accept.form == "partial" else view
        self.selection = Selection(request, kind)
        self.path = request.path
        self.query = request.raw_query
        self.include = request.param("includeObject", "Metadata")
        given = request.param("resourceVersion")
        self.start = parse_version(given) if given else 0
        self.replica = request.replica
        self.cached = given == "0"  # begins with what the cache holds, however old
        self.initial = (request.flag("sendInitialEvents") if "sendInitialEvents" in request.query
                        and self.options.initial_events else self.start == 0)
        self.marked = "sendInitialEvents" in request.query and self.options.initial_events
        self.bookmarks = request.flag("allowWatchBookmarks") and self.options.bookmarks
        seconds = parse_int(request, "timeoutSeconds")
        self.deadline = time.monotonic() + (seconds or random.uniform(1800, 3600))
        # A watch that is about to end sends one last bookmark.
        self.last_words = self.deadline - (1 if seconds and seconds < 10 else 2)
        self.columns_sent = False
        self.bookmarked = 0  # resourceVersion of the last bookmark
        self.silent = False
        self.connection = None

    def response(self):
        too_old = self.start > 0 and self.start < self.collection.window
        if too_old and self.options.gone_by_status:
            raise errors.StatusError(410, "Gone", self.too_old_text())
        return Response(200, stream=self.run)

    def too_old_text(self):
        return "too old resource version: %d (%d)" % (self.start, self.collection.window)

    def run(self, connection):
        self.connection = connection
        with self.store.changed:
            self.lister.watches.add(self)
        try:
            self.follow()
        finally:
            with self.store.changed:
                self.lister.watches.discard(self)

    def drop(self, clean=False):
        """From another thread: ends the watch."""
        if clean:
            self.deadline = 0
            self.store.notify()
        else:
            self.connection.hang_up()
            self.store.notify()

    def follow(self):
        with self.store.changed:
            rv = self.lister.reached(self.replica) if self.cached else self.store.rv
            index = self.collection.index_after(rv)
            backlog = self.collection.select_at(rv, self.namespace) if self.initial else []
            old = 0 < self.start < self.collection.window
            if self.start and not self.initial:
                index = min(index, self.collection.index_after(self.start))
        if old:
            self.send(self.error_line())
            return
        self.send(b"".join(self.line("ADDED", v) for v in backlog if self.wants(v)))
        if self.marked:
            self.send(self.bookmark(rv, {"k8s.io/initial-events-end": "true"}))
        self.follow_from(index)

    def follow_from(self, index):
        next_bookmark = time.monotonic() + self.options.bookmark_interval
        while True:
            events, rv = self.wait(index, next_bookmark)
            if events is None:
                self.send(self.error_line())
                return
            if events:
                index += len(events)
                self.send_events(events)
            now = time.monotonic()
            if now >= self.deadline:
                return
            if self.bookmarks and now >= min(next_bookmark, self.last_words) and \
                    not self.lister.frozen:
                # A cache that is behind the version where the watch began has nothing to say.
                if rv >= self.start and (now >= next_bookmark or rv != self.bookmarked):
                    self.send(self.bookmark(rv))
                next_bookmark = now + self.options.bookmark_interval
                if now >= self.last_words:
                    self.last_words = self.deadline + 1
            if self.connection.client_gone():
                raise Disconnected

    def wait(self, index, next_bookmark):
        """(new changes, current resourceVersion); may give none. None: they are forgotten."""
        until = self.deadline
        if self.bookmarks:
            until = min(until, next_bookmark, self.last_words)
        with self.store.changed:
            events, rv = self.known(index)
            if events == []:
                left = until - time.monotonic()
                if rv < self.store.rv:
                    left = min(left, self.lister.until_more(rv, self.replica))
                self.store.changed.wait(min(max(left, 0), HEARTBEAT))
                events, rv = self.known(index)
            return events, rv

    def known(self, index):
        """(changes from that index on, resourceVersion) as far as the replica's cache goes."""
        if self.lister.frozen:
            return [], self.start
        rv, events = self.lister.reached(self.replica), self.collection.since(index)
        if events and rv < self.store.rv:
            events = events[:bisect_by(events, rv, lambda event: event.rv)]
        return events, rv

    def wants(self, version):
        return ((not self.namespace or version.namespace == self.namespace)
                and (not self.name or version.name == self.name)
                and self.selection.matches(version))

    def send_events(self, events):
        lines = []
        for event in events:
            if event.rv <= self.start:
                continue
            line = self.event(event)
            if not line:
                continue
            if self.lister.options.cut_in_event(self.path, self.query):
                self.send(b"".join(lines) + line[:len(line) // 2])
                raise Disconnected
            lines.append(line)
            if sum(map(len, lines)) > 1 << 20:
                self.send(b"".join(lines))
                lines = []
        self.send(b"".join(lines))

    def event(self, event):
        """One change as this watch sees it: a selector turns it into ADDED, DELETED or nothing."""
        version, previous = event.version, event.previous
        now = event.type != "DELETED" and self.wants(version)
        before = previous is not None and self.wants(previous)
        if not now and not before:
            return b""
        if now and before:
            kind = "MODIFIED"
        elif now:
            kind = "ADDED"
        else:
            kind = "DELETED"
        if kind == event.type:
            if self.accept.form == "table":
                return self.line(kind, version)
            return event.line(self.view)
        if kind == "DELETED":
            version = Version(at_version(previous.obj, event.rv), event.rv)
        return self.line(kind, version)

    def line(self, kind, version):
        if self.accept.form != "table":
            return event_line(kind, version.document(self.view))
        return event_line(kind, self.table([version.obj], {
            "resourceVersion": str(version.rv)}))

    def table(self, objects, meta):
        columns = None if self.columns_sent else self.kind.columns
        self.columns_sent = True
        return render.encode_table(columns, self.kind.cells, objects, meta, self.include,
                                   self.accept.version)

    def bookmark(self, rv, annotations=None):
        self.bookmarked = rv
        if self.accept.form == "table":
            return event_line("BOOKMARK", self.table([], {"resourceVersion": str(rv)}))
        meta = {"resourceVersion": str(rv)}
        if self.kind.resource == "imagestreams":
            # An oddity of the real server.
            meta = {"namespace": "default", "resourceVersion": str(rv)}
        if annotations:
            meta["annotations"] = annotations
        body = {"metadata": meta}
        if self.accept.form != "partial":
            body.update(self.kind.blank)
        return event_line("BOOKMARK", self.view.head + encode(body)[1:])

    def error_line(self):
        status = errors.expired(self.too_old_text()).body()
        return event_line("ERROR", encode(status))

    def send(self, data):
        if data and not self.silent:
            self.connection.send_chunk(data)
