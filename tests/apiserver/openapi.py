"""OpenAPI documents, made from discovery's tables and from those of schema.py.

They say what this server knows: which verbs have which parameters, and what the kinds of the image
group look like. Other kinds have no schema, so that clients leave checking them to the server.
"""

import errors
import schema
from fields import LIST_KEYS
from patch import MERGED_SETS, MERGE_KEYS
from store import encode

KINDS = {"ImageStream": schema.IMAGE_STREAM, "ImageStreamTag": schema.IMAGE_STREAM_TAG,
         "ImageTag": schema.IMAGE_TAG, "ImageStreamMapping": schema.IMAGE_STREAM_MAPPING,
         "ImageStreamImport": schema.IMAGE_STREAM_IMPORT}
INFO = {"title": "OpenShift API", "version": "0.1"}
V2_ASKED = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
V2_PROTOBUF = V2_ASKED.replace("@", ".")  # an @ is no media type
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
CORE = "io.k8s.api.core.v1."
IMAGE = "com.github.openshift.api.image.v1."
PACKAGES = {"ObjectMeta": META, "OwnerReference": META, "ManagedFieldsEntry": META,
            "ObjectReference": CORE, "LocalObjectReference": CORE}
SCALARS = {
    schema.String: {"type": "string", "default": ""},
    schema.Bool: {"type": "boolean"},
    schema.Int: {"type": "integer", "format": "int64"},
    schema.Time: {"type": "string", "format": "date-time"},
    schema.StringMap: {"type": "object", "additionalProperties": {"type": "string", "default": ""}},
    schema.Raw: {"type": "object"},
}
METHODS = {"get": "get", "list": "get", "create": "post", "update": "put", "patch": "patch",
           "delete": "delete", "deletecollection": "delete"}
ON_COLLECTIONS = ("list", "create", "deletecollection")
PARAMETERS = {"create": ("dryRun", "fieldManager", "fieldValidation"),
              "update": ("dryRun", "fieldManager", "fieldValidation"),
              "patch": ("dryRun", "fieldManager", "fieldValidation", "force"),
              "delete": ("dryRun",), "deletecollection": ("dryRun", "labelSelector"),
              "list": ("labelSelector", "limit", "continue", "resourceVersion", "watch")}
PATCHES = ("application/apply-patch+yaml", "application/json-patch+json",
           "application/merge-patch+json", "application/strategic-merge-patch+json")


class OpenApi:
    def __init__(self, discovery, options):
        self.discovery = discovery
        self.options = options

    def answer(self, path, accept):
        """(bytes, content type) of the document at a path below /openapi."""
        parts = path.strip("/").split("/")
        if parts[1:] == ["v2"] and self.options.openapi_v2:
            return self.second(accept)
        return encode(self.third(parts)), "application/json"

    @staticmethod
    def second(accept):
        """Version 2, which old clients want before they send anything; it has no kinds."""
        if V2_ASKED in accept or V2_PROTOBUF in accept:
            title, version = INFO["title"].encode(), INFO["version"].encode()
            info = _field(1, title) + _field(2, version)
            return _field(1, b"2.0") + _field(2, info), V2_PROTOBUF
        return encode({"swagger": "2.0", "info": INFO, "paths": {}}), "application/json"

    def third(self, parts):
        """Version 3: an index, and a document for each group."""
        if parts[1:2] == ["v3"] and self.options.openapi_v3:
            if len(parts) == 2:
                return {"paths": {place: {"serverRelativeURL": "/openapi/v3/" + place}
                                  for place in self.places()}}
            group = self.places().get("/".join(parts[2:]))
            if group is not None:
                return self.document(group)
        raise errors.no_such_path()

    def places(self):
        """The path of each group's document -> the group."""
        return {"api/v1": "", **{"apis/%s/v1" % name: name for name in self.discovery.groups}}

    def document(self, group):
        resources = self.discovery.groups[group] if group else self.discovery.core
        return {"openapi": "3.0.0", "info": INFO,
                "paths": paths(group, resources),
                "components": {"schemas": schemas(group, {one["kind"] for one in resources})}}


def _field(number, data):
    """A field of a protobuf message, for less than 128 bytes."""
    return bytes([number << 3 | 2, len(data)]) + data


# Paths.

def paths(group, resources):
    out = {}
    for one in resources:
        base = "/apis/%s/v1" % group if group else "/api/v1"
        if one["namespaced"]:
            base += "/namespaces/{namespace}"
        name, _, sub = one["name"].partition("/")
        item = "%s/%s/{name}%s" % (base, name, "/" + sub if sub else "")
        for verb in one["verbs"]:
            if verb in METHODS:
                place = "%s/%s" % (base, name) if verb in ON_COLLECTIONS else item
                out.setdefault(place, {})[METHODS[verb]] = operation(verb, group, one["kind"])
    return out


def operation(verb, group, kind):
    out = {"x-kubernetes-action": verb,
           "x-kubernetes-group-version-kind": {"group": group, "version": "v1", "kind": kind},
           "parameters": [{"name": name, "in": "query", "schema": {"type": "string"}}
                          for name in PARAMETERS.get(verb, ())],
           "responses": {"200": {"description": "OK", "content": {
               "application/json": {"schema": of_kind(group, kind)}}}}}
    if verb == "patch":
        out["requestBody"] = {"content": {media: {"schema": {"type": "object"}}
                                          for media in PATCHES}}
    elif verb in ("create", "update"):
        out["requestBody"] = {"content": {"*/*": {"schema": of_kind(group, kind)}}}
    return out


def of_kind(group, kind):
    if group == errors.IMAGE_GROUP and kind in KINDS:
        return {"$ref": "#/components/schemas/" + IMAGE + kind}
    return {"type": "object"}


# Schemas.

def schemas(group, kinds):
    out = {}
    if group == errors.IMAGE_GROUP:
        for kind in sorted(kinds & KINDS.keys()):
            add(out, KINDS[kind], ())
            out[IMAGE + kind]["x-kubernetes-group-version-kind"] = [
                {"group": group, "version": "v1", "kind": kind}]
    return dict(sorted(out.items()))


def add(out, struct, where):
    """Adds the schema of a struct and of those in it; where is its path in an object."""
    name = PACKAGES.get(struct.go_name, IMAGE) + struct.go_name
    if name in out:
        return name
    made = out[name] = {"type": "object", "properties": {}}
    if struct is schema.OBJECT_REFERENCE:
        made["x-kubernetes-map-type"] = "atomic"
    for field, kind, _ in struct.fields:
        made["properties"][field] = of_field(out, kind, where + (field,))
    return name


def of_field(out, kind, where):
    if isinstance(kind, schema.Struct):
        return {"default": {}, "allOf": [
            {"$ref": "#/components/schemas/" + add(out, kind, where)}]}
    if not isinstance(kind, schema.List):
        return SCALARS[type(kind)]
    made = {"type": "array", "items": of_field(out, kind.item, where + ("*",))}
    if where in MERGE_KEYS:
        made["x-kubernetes-patch-merge-key"] = MERGE_KEYS[where]
    if where in MERGE_KEYS or where in MERGED_SETS:
        made["x-kubernetes-patch-strategy"] = "merge"
    key = LIST_KEYS.get(tuple("f:" + name for name in where))
    if key:
        made["x-kubernetes-list-type"] = "map"
        made["x-kubernetes-list-map-keys"] = [key]
    return made
