"""Sending a recorded exchange to the server, and comparing the answers.

What differs from run to run is put into a common form first: resourceVersions, uids and times that
the exchange itself or its seed doesn't name. A resourceVersion that is the seed's stays
recognisable, so that a write that should not have happened shows.
"""

import json
import re
import socket

import yaml

from apiclient import until
import seeds
import transcript
import watches

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
HEADERS = ("content-type", "retry-after", "warning", "cache-control", "x-content-type-options",
           "connection", "vary")
# List items come in the order of a Go map.
UNORDERED = {"ImageStreamTagList"}
PAD = re.compile(r"\.\.\. ?\((\d+) bytes\)")
GROUP = "/apis/image.openshift.io/v1"


class Seeded:
    """What the seed put on the server: recorded resourceVersions and their counterparts."""

    def __init__(self):
        self.versions = {}  # recorded -> on the server
        self.texts = []

    def map_version(self, text):
        return self.versions.get(text, text)


def seed(server, one, streams):
    """Empties the server and loads the state for an exchange."""
    changes = [{"op": "clear"}]
    answer = one.answer_json()
    images = image_seeds(one, answer)
    changes += [{"op": "put", "resource": "images", "object": image} for image in images]
    for obj in streams:
        changes.append({"op": "create", "namespace": obj["metadata"]["namespace"],
                        "name": obj["metadata"]["name"], "object": obj})
    if one.name in seeds.WITH_SECRET:
        secret = dict(transcript.load_all()["60-secrets-one"].answer_json()["items"][0])
        changes.append({"op": "put", "resource": "secrets", "object": secret})
    server.control("bulk", changes)
    done = Seeded()
    for obj in streams:
        meta = obj["metadata"]
        status, current = server.call("GET", "%s/namespaces/%s/imagestreams/%s" % (
            GROUP, meta["namespace"], meta["name"]))
        assert status == 200, current
        done.versions[meta["resourceVersion"]] = current["metadata"]["resourceVersion"]
        done.texts.append(json.dumps(obj, ensure_ascii=False))
    done.texts += [json.dumps(image) for image in images]
    return done


def image_seeds(one, answer):
    """The Image objects that an answer shows or that its stream's history names."""
    prefix = one.name[:2]
    if prefix in ("a0", "a1", "a2", "a4", "a7"):
        return [strip_kind(item) for item in
                transcript.load_all()["a0-images-list"].answer_json()["items"]]
    if one.name == "d5-layers":
        answer = transcript.load_all()["d5-isimage"].answer_json()
    image = answer.get("image") if isinstance(answer, dict) else None
    return [strip_kind(image)] if image and image["metadata"].get("uid") else []


def strip_kind(obj):
    return {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}


def request_body(one, seeded):
    """The body to send, with what the seed knows put in place of recorded versions."""
    body = one.body
    if body == "":
        return None if one.method in ("GET", "DELETE", "HEAD", "OPTIONS") else ""
    body = PAD.sub(lambda match: "x" * int(match[1]), body) if one.name.startswith("13-") else body
    value = transcript.json_or_none(body)
    if not isinstance(value, dict):
        return re.sub(r'(resourceVersion: ")(\d+)"',
                      lambda match: match[1] + seeded.map_version(match[2]) + '"', body)
    meta = value.get("metadata")
    preconditions = value.get("preconditions")
    for holder in (meta, preconditions):
        if isinstance(holder, dict) and isinstance(holder.get("resourceVersion"), str):
            holder["resourceVersion"] = seeded.map_version(holder["resourceVersion"])
    # Duplicate keys must reach the server as they were recorded.
    return body if one.name == "10-post-dup-field-strict" else json.dumps(value)


def send(server, one, seeded, target=None):
    headers = {name: values[0] for name, values in one.headers.items()
               if name in ("accept", "content-type", "accept-encoding")}
    if one.user:
        headers["Authorization"] = "Bearer " + server.tokens.get(one.user, "sha256~unknown")
    status, answer_headers, data = server.exchange(
        one.method, target or one.target, request_body(one, seeded), headers)
    return status, answer_headers, data


def parse(data, content_type):
    """The body in a form that keeps the order of keys."""
    if content_type.startswith("application/json"):
        return json.loads(data, object_pairs_hook=Ordered)
    if content_type.startswith("application/yaml"):
        return yaml.safe_load(data)
    return data if isinstance(data, str) else data.decode("utf-8", "replace")


class Ordered(dict):
    """A dict that is equal only to one with its keys in the same order."""

    def __init__(self, pairs=()):
        super().__init__(pairs)

    def __eq__(self, other):
        return dict.__eq__(self, other) and list(self) == list(other)

    __hash__ = None


class Normal:
    """Brings recorded and actual values into the common form."""

    def __init__(self, known, seed_versions, just_now=()):
        # A time of the recording's own second may be the seed's or the write's: no telling.
        self.known_times = set(TIME.findall(known)) - set(just_now)
        self.known_uids = set(UID.findall(known))
        self.seed_versions = seed_versions

    def value(self, value, key=""):
        if isinstance(value, dict):
            items = [(name, self.value(one, name)) for name, one in value.items()]
            out = Ordered(items) if isinstance(value, Ordered) else dict(items)
            if str(value.get("kind")).endswith(("List", "Table")) and out.get("metadata"):
                # A list's version is that of the whole store.
                out["metadata"] = {**out["metadata"], "resourceVersion": "VERSION"}
            if value.get("type") == "BOOKMARK":
                # A bookmark's version is that of the whole store.
                meta = Ordered(out["object"]["metadata"].items())
                meta["resourceVersion"] = "VERSION"
                out["object"]["metadata"] = meta
            if value.get("kind") in UNORDERED:
                out["items"] = sorted(out["items"], key=lambda item: item["metadata"]["name"])
            return out
        if isinstance(value, list):
            return [self.value(one) for one in value]
        if key == "resourceVersion":
            return self.version(value)
        if key == "continue" and value:
            return "TOKEN"
        if isinstance(value, str):
            return self.message(self.text(value)) if key == "message" else self.text(value)
        return value

    def version(self, value):
        return "VERSION:seed" if value in self.seed_versions else "VERSION:new"

    def text(self, text):
        text = TIME.sub(lambda match: match[0] if match[0] in self.known_times else "TIME", text)
        text = UID.sub(lambda match: match[0] if match[0] in self.known_uids else "UID", text)
        return re.sub(r"\bgen-[a-z0-9]{5}\b", "gen-RANDOM", text)

    def message(self, text):
        for version in self.seed_versions:
            text = re.sub(r"\b%s\b" % version, "VERSION:seed", text)
        text = re.sub(r"(current: |updated the resource version to )(\d+|VERSION:seed)",
                      r"\1VERSION", text)
        return re.sub(r"too old resource version: \d+ \(\d+\)", "too old resource version", text)


def normals(one, seeded):
    """(for the recorded answer, for the server's)"""
    known = one.body + "".join(seeded.texts)
    return (Normal(known, set(seeded.versions), one.just_now),
            Normal(known, set(seeded.versions.values()), one.just_now))


FLOW = "X-Kubernetes-Pf-Flowschema-Uid"


def compare_headers(one, headers):
    if FLOW.lower() in one.answer_headers:
        # A server that is starting doesn't know the priority of requests yet: it is empty.
        assert bool(headers[FLOW]) == bool(one.answer_headers[FLOW.lower()][0])
    for name in HEADERS:
        recorded = one.answer_headers.get(name, [])
        actual = headers.get_all(name) or []
        if name in ("warning", "cache-control"):
            assert actual == recorded, name
        elif name == "vary":
            assert set(recorded) <= set(actual), name
        else:
            assert actual[:1] == recorded[:1], name


def check(server, one, seeded, target=None):
    """Replays one plain exchange."""
    status, headers, data = send(server, one, seeded, target)
    assert status == one.status, data[:600]
    compare_headers(one, headers)
    if one.method == "HEAD":
        assert data == b""
        return
    recorded_form, actual_form = normals(one, seeded)
    content_type = one.answer_headers["content-type"][0]
    recorded = recorded_form.value(parse(one.answer, content_type))
    actual = actual_form.value(parse(data, content_type))
    if isinstance(recorded, str):
        recorded, actual = recorded.strip(), actual.strip()
    assert actual == recorded


# Watches.

# Recordings of many seconds are shortened to that; the last bookmark comes a second before the end.
LONGEST, LONGEST_WITH_BOOKMARK = 1, 2
QUIET = 0.3


def watch_seeds(one):
    """The streams there when a watch is opened."""
    observed = transcript.observed()
    if one.name[:2] in ("80", "82", "83") and "missing" not in one.name:
        base = "72-list-timeoutSeconds"
        if one.name == "83-watch-all-namespaces":
            return [event["object"] for event in map(json.loads, one.events)]
        return seeds.listed(transcript.load_all()[base].answer_json())
    if one.name.startswith("c0"):
        return seeds.listed(transcript.load_all()["c0-exact-after-compaction"].answer_json())
    return {
        "91-finalizer-watch": lambda: [observed.at("dev", "fin", 554)],
        "93-deletecollection-watch": lambda: seeds.listed(
            transcript.load_all()["93-deletecollection-label"].answer_json()),
        "a2-DELETE-istag-watch": lambda: [observed.at("dev", "app", 622)],
        "a6-watch-of-the-whole-session": lambda: [observed.at("dev", "app", 580)],
        "b2-watch-in-deleted-namespace": lambda: [json.loads(one.events[0])["object"]],
        "d1-watch": lambda: [observed.at("dev", "imp", 967)],
    }.get(one.name, list)()


def watch_target(one, version):
    """The recorded target, resumed at the server's version, and not longer than LONGEST."""
    target = one.target
    match = re.search(r"resourceVersion=(\d+)", target)
    if match and match[1] not in ("0", "99999999"):
        target = target.replace(match[0], "resourceVersion=" + version)
    longest = LONGEST_WITH_BOOKMARK if "bookmarks" in one.name else LONGEST
    return re.sub(r"timeoutSeconds=(\d+)", lambda found: "timeoutSeconds=%d" % min(
        int(found[1]), longest), target)


def check_watch(server, one):
    """Opens a recorded watch, does what was done then, and compares the events."""
    mine = one.name.startswith("b2")
    if mine:
        special_projects(server)
    seeded = seed(server, one, watch_seeds(one))
    version = server.control("state")["resourceVersion"]
    if one.name in watches.BEFORE:
        watches.BEFORE[one.name](server)
    headers = {name: values[0] for name, values in one.headers.items() if name == "accept"}
    stream = server.watch(watch_target(one, version), one.user, **headers)
    try:
        assert stream.status == one.status
        compare_headers(one, stream.response.headers)
        wait_until_watching(server, one)
        if one.name in watches.DURING:
            watches.DURING[one.name](server)
        compare_events(stream, one, seeded)
    finally:
        stream.close()
        remove_projects(server)


def special_projects(server):
    obj = transcript.load_all()["b1-project-get-mine"].answer_json()
    del obj["kind"], obj["apiVersion"]
    server.control("bulk", [{"op": "put", "resource": "namespaces", "object": obj}])
    server.control("grant", {"user": "developer", "role": "admin", "namespace": "mine"})


def remove_projects(server):
    projects = server.call("GET", "/apis/project.openshift.io/v1/projects")[1]["items"]
    server.control("bulk", [{"op": "delete-namespace", "name": item["metadata"]["name"]}
                            for item in projects
                            if item["metadata"]["name"].startswith(("mine", "pw"))])


def wait_until_watching(server, one):
    """The head of the answer comes before the watch is listed; ERROR watches are never."""
    if one.name in watches.DURING:
        until(server.watches)


def compare_events(stream, one, seeded):
    recorded_form, actual_form = normals(one, seeded)
    for text in one.events:
        recorded = recorded_form.value(json.loads(text, object_pairs_hook=Ordered))
        line = stream.line()
        assert line is not None, "the watch ended before " + text
        actual = actual_form.value(json.loads(line, object_pairs_hook=Ordered))
        if one.name == "d0-watch" or one.name == "d1-watch":
            recorded, actual = without_digests(recorded), without_digests(actual)
        assert actual == recorded
    if "EOF (clean end" in one.text:
        assert stream.line() is None
    else:
        stream.connection.sock.settimeout(QUIET)
        try:
            assert stream.line() == "an event that wasn't recorded"
        except socket.timeout:  # no TimeoutError before Python 3.10
            pass


def without_digests(value):
    """The registry of the import tests is made up, so its digests differ."""
    if isinstance(value, dict):
        return Ordered([(key, without_digests(one)) for key, one in value.items()])
    if isinstance(value, list):
        return [without_digests(one) for one in value]
    if isinstance(value, str):
        return re.sub(r"sha256:[0-9a-f]{64}", "DIGEST", value)
    return value
