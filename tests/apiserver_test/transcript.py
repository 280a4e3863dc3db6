"""Reading the recorded exchanges in transcripts/."""

import datetime
import functools
import json
import os
import re

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "transcripts")
TOKENS = {"admin": "admin", "dev": "developer", "view": "viewer", "none": "nobody"}


class Transcript:
    """One exchange. Files that hold something else have method None."""

    def __init__(self, name, text):
        self.name = name
        self.text = text
        self.method = None
        head, mark, rest = text.partition(">>> request\n")
        if not mark or "<<< response" not in rest:
            return
        request, _, response = rest.partition("<<< response")
        response = response.partition("\n")[2]
        lines, self.body = _split(request)
        self.method, self.target, _ = lines[0].split(" ")
        self.headers = _headers(lines[1:])
        self.body = self.body.strip("\n")
        lines, self.answer = _split(response)
        self.status = int(lines[0].split(" ")[1])
        self.answer_headers = _headers(lines[1:])
        self.events = [line.partition("] ")[2] for line in self.answer.split("\n")
                       if re.match(r"\[\+[0-9.]+ s\] ", line)]
        self.streamed = bool(self.events) or "# stream:" in self.answer
        self.answer = "\n".join(line for line in self.answer.split("\n")
                                if not line.startswith("# stream:")).strip("\n")
        if self.streamed:
            self.answer = "\n".join(self.events)

    def parts(self):
        """The exchanges of a recording that holds several."""
        return [Transcript(self.name, ">>> request\n" + text)
                for text in self.text.split(">>> request\n")[1:]]

    @property
    def user(self):
        token = self.headers.get("authorization", [""])[0]
        match = re.search(r"<(\w+) token>", token)
        return TOKENS.get(match[1], match[1]) if match else None

    @property
    def path(self):
        return self.target.partition("?")[0]

    @property
    def is_watch(self):
        return self.streamed and self.status == 200 and \
            self.answer_headers.get("transfer-encoding") == ["chunked"]

    def request_json(self):
        return json_or_none(self.body)

    def answer_json(self):
        return json_or_none(self.answer)

    @property
    def date(self):
        return self.answer_headers.get("date", [""])[0][5:]

    @property
    def just_now(self):
        """The second of the answer and the one before, as objects hold times."""
        if not self.date:
            return ()
        when = datetime.datetime.strptime(self.date, "%d %b %Y %H:%M:%S %Z")
        return [(when - datetime.timedelta(seconds=back)).strftime("%Y-%m-%dT%H:%M:%SZ")
                for back in (0, 1)]


def _split(text):
    head, _, body = text.partition("\n\n")
    return [line for line in head.split("\n") if line], body


def _headers(lines):
    out = {}
    for line in lines:
        name, _, value = line.partition(": ")
        out.setdefault(name.lower(), []).append(value)
    return out


def json_or_none(text):
    try:
        return json.loads(text)
    except ValueError:
        return None


@functools.lru_cache(maxsize=None)
def load_all():
    out = {}
    for file in sorted(os.listdir(FOLDER)):
        if file.endswith(".txt"):
            with open(os.path.join(FOLDER, file), encoding="utf-8", errors="replace") as source:
                out[file[:-4]] = Transcript(file[:-4], source.read())
    return out


class Observed:
    """Every version of every stream that the recordings show: what the state was, and when."""

    def __init__(self):
        self.versions = {}  # (namespace, name) -> {resourceVersion: object}
        self.sources = {}  # (uid, resourceVersion) -> the first recording that shows it
        for one in load_all().values():
            if one.method is None:
                continue
            self._collect(one.answer_json(), one.name)
            for line in one.events:
                event = json_or_none(line)
                if event and event.get("type") in ("ADDED", "MODIFIED"):
                    self._collect(event["object"], one.name)

    def _collect(self, value, source):
        if not isinstance(value, dict):
            return
        if value.get("kind") == "ImageStream" and "spec" in value and "status" in value:
            self._add(value, source)
        if value.get("kind") == "ImageStreamList":
            for item in value["items"]:
                self._add({"kind": "ImageStream", "apiVersion": value["apiVersion"], **item},
                          source)

    def _add(self, obj, source):
        meta = obj["metadata"]
        if "resourceVersion" in meta and "uid" in meta and meta["resourceVersion"].isdigit():
            known = self.versions.setdefault((meta["namespace"], meta["name"]), {})
            rv = int(meta["resourceVersion"])
            known.setdefault(rv, obj)
            self.sources.setdefault((meta["uid"], rv), source)

    def at(self, namespace, name, rv):
        return self.versions[namespace, name][rv]

    def before(self, namespace, name, rv, uid=None):
        """The newest version older than rv, of the same object if uid is given; or None."""
        known = self.versions.get((namespace, name), {})
        older = [at for at in known if at < rv and uid in (None, known[at]["metadata"]["uid"])]
        return known[max(older)] if older else None


@functools.lru_cache(maxsize=None)
def observed():
    return Observed()
