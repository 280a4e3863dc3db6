"""How an answer looks: views of objects, content negotiation, tables, YAML."""

import json
import re
from datetime import datetime, timezone

import yaml

import errors
from store import encode

_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class View:
    """An object as one endpoint shows it. show gives what follows kind and apiVersion."""

    def __init__(self, kind, api_version, show=None):
        self.kind = kind
        self.api_version = api_version
        self.head = b'{"kind":"%b","apiVersion":"%b",' % (kind.encode(), api_version.encode())
        self.show = show or (lambda obj: obj)


PARTIAL = View("PartialObjectMetadata", "meta.k8s.io/v1",
               lambda obj: {"metadata": obj["metadata"]})


def self_linked(kind, api_version, resource):
    """The view of OpenShift 3: selfLink, no managedFields, and later inventions left out."""
    base = "/oapi/v1" if api_version == "v1" else "/apis/" + api_version

    def show(obj):
        meta = dict(obj["metadata"])
        link = base
        if meta.get("namespace"):
            link += "/namespaces/" + meta["namespace"]
        meta["selfLink"] = "%s/%s/%s" % (link, resource, meta["name"])
        meta.pop("managedFields", None)
        order = ("name", "generateName", "namespace", "selfLink")
        shown = {key: meta.pop(key) for key in order if key in meta}
        return {**obj, "metadata": {**shown, **meta}}
    return View(kind, api_version, show)


class Accept:
    """What the client can read: form object, partial or table; media json or yaml."""

    def __init__(self, form, media, version="v1"):
        self.form = form
        self.media = media
        self.version = version

    @property
    def content_type(self):
        return "application/" + self.media


def negotiate(header, forms=("table", "partial")):
    """The first clause of Accept, by weight, that can be met; 406 if none."""
    clauses = []
    for index, clause in enumerate((header or "*/*").split(",")):
        parts = [part.strip() for part in clause.split(";")]
        params = dict(part.split("=", 1) for part in parts[1:] if "=" in part)
        try:
            weight = float(params.get("q", 1))
        except ValueError:
            weight = 0
        clauses.append((-weight, index, parts[0], params))
    for _, _, media, params in sorted(clauses, key=lambda c: c[:2]):
        kind = {"application/json": "json", "*/*": "json", "application/*": "json",
                "application/yaml": "yaml"}.get(media)
        if kind is None:
            continue
        wanted = params.get("as", "")
        if not wanted:
            return Accept("object", kind)
        form = {"Table": "table", "PartialObjectMetadata": "partial",
                "PartialObjectMetadataList": "partial"}.get(wanted)
        if form in forms and params.get("g") == "meta.k8s.io":
            return Accept(form, kind, params.get("v", "v1"))
    raise errors.not_acceptable()


def wants_pretty(request):
    if "pretty" in request.query:
        return request.flag("pretty")
    agent = request.headers.get("user-agent", "")
    return agent.startswith(("curl", "Wget", "Mozilla/5.0"))


def document(data, request, media):
    """Encoded JSON as the client wants to see it."""
    if media == "yaml":
        return yaml.dump(json.loads(data), Dumper=_Dumper, default_flow_style=False,
                         allow_unicode=True, sort_keys=True, width=10 ** 9).encode()
    if wants_pretty(request):
        return json.dumps(json.loads(data), indent=2, ensure_ascii=False).encode() + b"\n"
    return data + b"\n"


class _Loader(yaml.SafeLoader):
    """YAML as it maps to JSON: times stay strings."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()}


def parse_yaml(text):
    return yaml.load(text, Loader=_Loader)


def human_duration(seconds):
    """An age in words, as docker/go-units prints it."""
    seconds = int(seconds)
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return "%d seconds" % seconds
    minutes = seconds // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return "%d minutes" % minutes
    hours = round(seconds / 3600)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return "%d hours" % hours
    days = seconds // 86400
    if days < 14:
        return "%d days" % days
    if days < 60:
        return "%d weeks" % (days // 7)
    if days < 730:
        return "%d months" % (days // 30)
    return "%d years" % (days // 365)


def age(time):
    when = datetime.strptime(time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    return (datetime.now(timezone.utc) - when).total_seconds()


def column(name, description, kind="string", form=""):
    return {"name": name, "type": kind, "format": form, "description": description, "priority": 0}


NAME_COLUMN = column("Name", (
    "Name must be unique within a namespace. Is required when creating resources, although some "
    "resources may allow a client to request the generation of an appropriate name automatically. "
    "Name is primarily intended for creation idempotence and configuration definition. Cannot be "
    "updated. More info: "
    "https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names"), form="name")
STREAM_COLUMNS = [NAME_COLUMN, column("Image Repository", (
    "dockerImageRepository represents the effective location this stream may be accessed at. May "
    "be empty until the server determines where the repository is located")),
    column("Tags", "Human readable list of tags."), column("Updated", "Last update time.")]
TAGS_WIDTH = 40


def stream_cells(obj):
    tags = obj["status"].get("tags", ())
    newest = [(tag["items"][0]["created"] or "", tag["tag"]) for tag in tags if tag["items"]]
    newest.sort(key=lambda one: one[1])
    newest.sort(key=lambda one: one[0], reverse=True)
    shown = ""
    for index, (_, name) in enumerate(newest):
        longer = shown + ("," if shown else "") + name
        if shown and len(longer) > TAGS_WIDTH:
            shown += " + %d more..." % (len(newest) - index)
            break
        shown = longer
    updated = human_duration(age(newest[0][0])) + " ago" if newest and newest[0][0] else ""
    return [obj["metadata"]["name"], obj["status"]["dockerImageRepository"], shown, updated]


PROJECT_COLUMNS = [NAME_COLUMN, column("Display Name", "Display name of the project."),
                   column("Status", "Status of the project.")]


def project_cells(obj):
    meta = obj["metadata"]
    return [meta["name"], (meta.get("annotations") or {}).get("openshift.io/display-name", ""),
            obj["status"].get("phase", "")]


NAMESPACE_COLUMNS = [NAME_COLUMN, column("Status", "The status of the namespace"),
                     column("Age", "CreationTimestamp is a timestamp.")]


def namespace_cells(obj):
    return [obj["metadata"]["name"], obj["status"].get("phase", ""),
            human_duration(age(obj["metadata"]["creationTimestamp"]))]


IMAGE_COLUMNS = [NAME_COLUMN, column("Image Reference", "Image reference.")]


def image_cells(obj):
    return [obj["metadata"]["name"], obj.get("dockerImageReference", "")]


def table(columns, cells, objects, meta, include, version="v1"):
    rows = []
    for obj in objects:
        row = {"cells": cells(obj)}
        if include != "None":
            full = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/" + version,
                    "metadata": obj["metadata"]}
            row["object"] = obj if include == "Object" else full
        rows.append(row)
    return {"kind": "Table", "apiVersion": "meta.k8s.io/" + version, "metadata": meta,
            "columnDefinitions": columns, "rows": rows}


def encode_table(*args):
    return encode(table(*args))


def resource_name_ok(name):
    return re.match(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z", name) is not None and len(name) <= 63
