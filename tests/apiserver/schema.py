"""Typed decoding: Go structs as tables.

Decoding a JSON value by a table drops unknown fields (and reports them), refuses wrong types in
Go's words, and gives back a dict in the order and with the null/absent rules of Go's printing.
"""

import json
import re
from datetime import datetime, timezone


class Duplicates(dict):
    """A JSON object in which a key occurred twice."""

    keys_twice = ()


def _pairs(pairs):
    out = dict(pairs)
    if len(out) != len(pairs):
        seen, twice = set(), []
        for key, _ in pairs:
            if key in seen and key not in twice:
                twice.append(key)
            seen.add(key)
        out = Duplicates(out)
        out.keys_twice = twice
    return out


def parse_json(text):
    """JSON with duplicate keys remembered and numbers kept exact."""
    return json.loads(text, object_pairs_hook=_pairs, parse_constant=_refuse_constant)


def _refuse_constant(name):
    raise ValueError("invalid character %r looking for beginning of value" % name[0])


class DecodeError(Exception):
    """A value that doesn't fit its Go type."""


class Report:
    """What strict decoding found: in document order."""

    def __init__(self):
        self.problems = []

    def unknown(self, path):
        self.problems.append('unknown field "%s"' % path)

    def duplicate(self, path):
        self.problems.append('duplicate field "%s"' % path)


def go_kind(value):
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, dict):
        return "object"
    return "array"


class Type:
    """A Go type: name as Go prints it, zero as it's printed when unset."""

    def __init__(self, name, zero):
        self.name = name
        self.zero = zero

    def empty(self, value):
        return value == self.zero

    def decode(self, value, path, struct, report):
        raise NotImplementedError

    def refuse(self, value, path, struct):
        shown = go_kind(value)
        if shown == "number" and self.name.startswith("int"):
            shown = "number " + repr(value)
        raise DecodeError("json: cannot unmarshal %s into Go struct field %s.%s of type %s" % (
            shown, struct, re.sub(r"\[\d+\]", "", path), self.name))


class String(Type):
    def __init__(self, name="string"):
        super().__init__(name, "")

    def decode(self, value, path, struct, report):
        return value if isinstance(value, str) else self.refuse(value, path, struct)


class Bool(Type):
    def __init__(self):
        super().__init__("bool", False)

    def decode(self, value, path, struct, report):
        return value if isinstance(value, bool) else self.refuse(value, path, struct)


class Int(Type):
    def __init__(self, zero=0):
        super().__init__("int64", zero)

    def decode(self, value, path, struct, report):
        fits = isinstance(value, int) and not isinstance(value, bool)
        if not fits or not -(1 << 63) <= value < 1 << 63:
            self.refuse(value, path, struct)
        return value


class Time(Type):
    """An RFC 3339 time, printed in UTC with whole seconds; the zero time is null."""

    PATTERN = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:[.,]\d+)?([Zz]|[+-]\d\d:\d\d)\Z")

    def __init__(self):
        super().__init__("string", None)

    def decode(self, value, path, struct, report):
        if not isinstance(value, str):
            self.refuse(value, path, struct)
        match = self.PATTERN.match(value)
        if not match:
            raise DecodeError('parsing time "%s" as "2006-01-02T15:04:05Z07:00": cannot parse "%s" '
                              'as "2006"' % (value, value))
        if match[2] in "Zz":
            return match[1].upper() + "Z"
        return _to_utc(match[1], match[2])


def _to_utc(clock, zone):
    when = datetime.fromisoformat(clock.upper() + zone)
    return when.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class StringMap(Type):
    def __init__(self):
        super().__init__("map[string]string", None)

    def empty(self, value):
        return not value

    def decode(self, value, path, struct, report):
        if not isinstance(value, dict):
            self.refuse(value, path, struct)
        for one in value.values():
            if one is not None and not isinstance(one, str):
                String().refuse(one, path, struct)
        if isinstance(value, Duplicates):
            for key in value.keys_twice:
                report.duplicate(path + "." + key)
        return {key: value[key] or "" for key in sorted(value)} or None


class Raw(Type):
    """Any JSON, kept as it is."""

    def __init__(self):
        super().__init__("json.RawMessage", None)

    def decode(self, value, path, struct, report):
        return value


class List(Type):
    def __init__(self, item, name):
        super().__init__("[]" + name, None)
        self.item = item

    def empty(self, value):
        return not value

    def decode(self, value, path, struct, report):
        if not isinstance(value, list):
            self.refuse(value, path, struct)
        out = []
        for index, one in enumerate(value):
            where = "%s[%d]" % (path, index)
            out.append(self.item.blank() if one is None else
                       self.item.decode(one, where, struct, report))
        return out or None


class Struct(Type):
    """fields: (JSON name, type, presence); presence is "always" or "omitempty"."""

    def __init__(self, name, *fields):
        super().__init__(name, None)
        self.go_name = name.rpartition(".")[2]
        self.fields = fields
        self.by_name = {field[0]: field for field in fields}

    def blank(self):
        return self._ordered({})

    def decode(self, value, path, struct, report):
        if not isinstance(value, dict):
            self.refuse(value, path, struct)
        got = {}
        if isinstance(value, Duplicates):
            for key in value.keys_twice:
                report.duplicate(path + "." + key if path else key)
        for key, one in value.items():
            where = path + "." + key if path else key
            field = self.by_name.get(key)
            if field is None:
                report.unknown(where)
            elif one is not None:
                got[key] = field[1].decode(one, where, self.go_name, report)
        return self._ordered(got)

    def _ordered(self, got):
        out = {}
        for name, kind, presence in self.fields:
            value = got.get(name, kind.zero)
            if presence == "always":
                out[name] = kind.blank() if value is None and isinstance(kind, Struct) else value
            elif not kind.empty(value) and value is not None:
                out[name] = value
        return out


STRING, BOOL, INT, TIME, STRING_MAP = String(), Bool(), Int(), Time(), StringMap()

OWNER_REFERENCE = Struct(
    "v1.OwnerReference",
    ("apiVersion", STRING, "always"), ("kind", STRING, "always"), ("name", STRING, "always"),
    ("uid", String("types.UID"), "always"), ("controller", Raw(), "omitempty"),
    ("blockOwnerDeletion", Raw(), "omitempty"))

MANAGED_FIELDS_ENTRY = Struct(
    "v1.ManagedFieldsEntry",
    ("manager", STRING, "omitempty"), ("operation", STRING, "omitempty"),
    ("apiVersion", STRING, "omitempty"), ("time", TIME, "omitempty"),
    ("fieldsType", STRING, "omitempty"), ("fieldsV1", Raw(), "omitempty"),
    ("subresource", STRING, "omitempty"))

OBJECT_META = Struct(
    "v1.ObjectMeta",
    ("name", STRING, "omitempty"), ("generateName", STRING, "omitempty"),
    ("namespace", STRING, "omitempty"), ("selfLink", STRING, "omitempty"),
    ("uid", String("types.UID"), "omitempty"), ("resourceVersion", STRING, "omitempty"),
    ("generation", INT, "omitempty"), ("creationTimestamp", TIME, "omitempty"),
    ("deletionTimestamp", TIME, "omitempty"),
    ("deletionGracePeriodSeconds", Int(None), "omitempty"),
    ("labels", STRING_MAP, "omitempty"), ("annotations", STRING_MAP, "omitempty"),
    ("ownerReferences", List(OWNER_REFERENCE, "v1.OwnerReference"), "omitempty"),
    ("finalizers", List(STRING, "string"), "omitempty"),
    ("managedFields", List(MANAGED_FIELDS_ENTRY, "v1.ManagedFieldsEntry"), "omitempty"))

OBJECT_REFERENCE = Struct(
    "v1.ObjectReference",
    ("kind", STRING, "omitempty"), ("namespace", STRING, "omitempty"),
    ("name", STRING, "omitempty"), ("uid", String("types.UID"), "omitempty"),
    ("apiVersion", STRING, "omitempty"), ("resourceVersion", STRING, "omitempty"),
    ("fieldPath", STRING, "omitempty"))

IMPORT_POLICY = Struct(
    "v1.TagImportPolicy",
    ("insecure", BOOL, "omitempty"), ("scheduled", BOOL, "omitempty"),
    ("importMode", String("v1.ImportModeType"), "omitempty"))

REFERENCE_POLICY = Struct(
    "v1.TagReferencePolicy", ("type", String("v1.TagReferencePolicyType"), "always"))

LOOKUP_POLICY = Struct("v1.ImageLookupPolicy", ("local", BOOL, "always"))

TAG_REFERENCE = Struct(
    "v1.TagReference",
    ("name", STRING, "always"), ("annotations", STRING_MAP, "always"),
    ("from", OBJECT_REFERENCE, "omitempty"), ("reference", BOOL, "omitempty"),
    ("generation", Int(None), "always"), ("importPolicy", IMPORT_POLICY, "always"),
    ("referencePolicy", REFERENCE_POLICY, "always"))

TAG_EVENT = Struct(
    "v1.TagEvent",
    ("created", TIME, "always"), ("dockerImageReference", STRING, "always"),
    ("image", STRING, "always"), ("generation", INT, "always"))

TAG_EVENT_CONDITION = Struct(
    "v1.TagEventCondition",
    ("type", STRING, "always"), ("status", STRING, "always"),
    ("lastTransitionTime", TIME, "omitempty"), ("reason", STRING, "omitempty"),
    ("message", STRING, "omitempty"), ("generation", INT, "always"))

NAMED_TAG_EVENT_LIST = Struct(
    "v1.NamedTagEventList",
    ("tag", STRING, "always"), ("items", List(TAG_EVENT, "v1.TagEvent"), "always"),
    ("conditions", List(TAG_EVENT_CONDITION, "v1.TagEventCondition"), "omitempty"))

IMAGE_STREAM_SPEC = Struct(
    "v1.ImageStreamSpec",
    ("lookupPolicy", LOOKUP_POLICY, "always"), ("dockerImageRepository", STRING, "omitempty"),
    ("tags", List(TAG_REFERENCE, "v1.TagReference"), "omitempty"))

IMAGE_STREAM_STATUS = Struct(
    "v1.ImageStreamStatus",
    ("dockerImageRepository", STRING, "always"),
    ("publicDockerImageRepository", STRING, "omitempty"),
    ("tags", List(NAMED_TAG_EVENT_LIST, "v1.NamedTagEventList"), "omitempty"))

TYPE_META = (("kind", STRING, "omitempty"), ("apiVersion", STRING, "omitempty"))

IMAGE_STREAM = Struct(
    "v1.ImageStream", *TYPE_META,
    ("metadata", OBJECT_META, "always"), ("spec", IMAGE_STREAM_SPEC, "always"),
    ("status", IMAGE_STREAM_STATUS, "always"))

# The image inside these is carried as it comes.
IMAGE_STREAM_TAG = Struct(
    "v1.ImageStreamTag", *TYPE_META,
    ("metadata", OBJECT_META, "always"), ("tag", TAG_REFERENCE, "omitempty"),
    ("generation", INT, "always"), ("lookupPolicy", LOOKUP_POLICY, "always"),
    ("conditions", List(TAG_EVENT_CONDITION, "v1.TagEventCondition"), "omitempty"),
    ("image", Raw(), "omitempty"))

IMAGE_TAG = Struct(
    "v1.ImageTag", *TYPE_META,
    ("metadata", OBJECT_META, "always"), ("spec", TAG_REFERENCE, "omitempty"),
    ("status", NAMED_TAG_EVENT_LIST, "omitempty"), ("image", Raw(), "omitempty"))

IMAGE_STREAM_MAPPING = Struct(
    "v1.ImageStreamMapping", *TYPE_META,
    ("metadata", OBJECT_META, "always"), ("image", Raw(), "omitempty"),
    ("tag", STRING, "omitempty"))

LOCAL_REFERENCE = Struct("v1.LocalObjectReference", ("name", STRING, "omitempty"))

IMAGE_IMPORT_SPEC = Struct(
    "v1.ImageImportSpec",
    ("from", OBJECT_REFERENCE, "omitempty"), ("to", LOCAL_REFERENCE, "omitempty"),
    ("importPolicy", IMPORT_POLICY, "always"), ("referencePolicy", REFERENCE_POLICY, "always"),
    ("includeManifest", BOOL, "omitempty"))

REPOSITORY_IMPORT_SPEC = Struct(
    "v1.RepositoryImportSpec",
    ("from", OBJECT_REFERENCE, "omitempty"), ("importPolicy", IMPORT_POLICY, "always"),
    ("referencePolicy", REFERENCE_POLICY, "always"), ("includeManifest", BOOL, "omitempty"))

IMAGE_STREAM_IMPORT = Struct(
    "v1.ImageStreamImport", *TYPE_META,
    ("metadata", OBJECT_META, "always"),
    ("spec", Struct("v1.ImageStreamImportSpec",
                    ("import", BOOL, "always"),
                    ("repository", REPOSITORY_IMPORT_SPEC, "omitempty"),
                    ("images", List(IMAGE_IMPORT_SPEC, "v1.ImageImportSpec"), "omitempty")),
     "always"),
    ("status", Raw(), "omitempty"))
