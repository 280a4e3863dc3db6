"""What is wrong with an ImageStream: its metadata, its tags, its history."""

import re

import errors
import reference
from history import history_of, tags_of

NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*\Z")
NAME_TEXT = 'must match "[a-z0-9]+(?:[._-][a-z0-9]+)*"'
QUALIFIED_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\Z")
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z")
SUBDOMAIN = re.compile(
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
ANNOTATIONS_LIMIT = 262144
STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")

# Each function gives a list of causes.

def validate_meta(obj):
    """The metadata of a new stream."""
    meta = obj["metadata"]
    name = meta.get("name", "")
    problems = validate_name("metadata.name", name)
    if not problems and len(meta["namespace"]) + 1 + len(name) > 255:
        problems.append(errors.value_invalid(
            "metadata.name", name, "'namespace/name' cannot be longer than 255 characters"))
    if meta.get("generateName"):
        problems += validate_name("metadata.generateName", meta["generateName"])
    return problems + validate_labels(obj) + validate_annotations(obj) + validate_finalizers(obj)


def validate_meta_update(obj, old):
    problems = validate_labels(obj) * 2 + validate_annotations(obj)
    added = [one for one in obj["metadata"].get("finalizers", ())
             if one not in old["metadata"].get("finalizers", ())]
    if added and old["metadata"].get("deletionTimestamp"):
        problems.append(errors.value_forbidden("metadata.finalizers", (
            "no new finalizers can be added if the object is being deleted, found new finalizers "
            "[]string{%s}" % ", ".join(map(errors.quote, added)))))
    if obj["metadata"]["uid"] != old["metadata"]["uid"]:
        problems.append(errors.value_invalid("metadata.uid", obj["metadata"]["uid"],
                                             "field is immutable"))
    return problems


def validate_annotations(obj):
    annotations = obj["metadata"].get("annotations") or {}
    problems = []
    for key in annotations:
        problems += validate_key("metadata.annotations", key.lower())
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > \
            ANNOTATIONS_LIMIT:
        problems.append(errors.value_too_long("metadata.annotations", ANNOTATIONS_LIMIT))
    return problems


def validate_finalizers(obj):
    return [errors.value_invalid(
        "metadata.finalizers[%d]" % index, name,
        "name is neither a standard finalizer name nor is it fully qualified")
            for index, name in enumerate(obj["metadata"].get("finalizers", ()))
            if "/" not in name and name not in STANDARD_FINALIZERS]


def validate_name(field, name):
    if name in (".", ".."):
        return [errors.value_invalid(field, name, "may not be '%s'" % name)]
    problems = [errors.value_invalid(field, name, "may not contain '%s'" % char)
                for char in "/%" if char in name]
    if not problems and not NAME.match(name):
        problems.append(errors.value_invalid(field, name, NAME_TEXT))
    return problems


def validate_labels(obj):
    problems = []
    for key, value in (obj["metadata"].get("labels") or {}).items():
        problems += validate_key("metadata.labels", key)
        if len(value) > 63:
            problems.append(errors.value_invalid("metadata.labels", value,
                                                 "must be no more than 63 bytes"))
        if not LABEL_VALUE.match(value):
            problems.append(errors.value_invalid("metadata.labels", value, (
                "a valid label must be an empty string or consist of alphanumeric characters, '-', "
                "'_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',"
                "  or 'my_value',  or '12345', regex used for validation is "
                "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')")))
    return problems


def validate_key(field, key):
    prefix, slash, name = key.rpartition("/")
    problems = []
    if slash and not SUBDOMAIN.match(prefix):
        problems.append(errors.value_invalid(field, key, (
            "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric "
            "characters, '-' or '.', and must start and end with an alphanumeric character (e.g. "
            "'example.com', regex used for validation is "
            "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')")))
    if not name:
        problems.append(errors.value_invalid(field, key, "name part must be non-empty"))
    elif len(name) > 63:
        problems.append(errors.value_invalid(field, key,
                                             "name part must be no more than 63 bytes"))
    if not QUALIFIED_NAME.match(name):
        problems.append(errors.value_invalid(field, key, (
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start "
            "and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', "
            "regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')")))
    return problems


def validate_stream(obj, update=False):
    problems = []
    spec_repository = obj["spec"].get("dockerImageRepository")
    if spec_repository:
        field = "spec.dockerImageRepository"
        try:
            parsed = reference.parse(spec_repository)
            if parsed.tag:
                problems.append(errors.value_invalid(
                    field, spec_repository, "the repository name may not contain a tag"))
            if parsed.digest:
                problems.append(errors.value_invalid(
                    field, spec_repository, "the repository name may not contain an ID"))
        except ValueError as why:
            problems.append(errors.value_invalid(field, spec_repository, str(why)))
    for name, tag in tags_of(obj).items():
        problems += validate_tag("spec.tags[%s]" % name, tag)
    return problems + (validate_history(obj) if update else [])


def validate_tag(field, tag):
    problems = []
    source = tag.get("from")
    if source is not None:
        kind, name = source.get("kind", ""), source.get("name", "")
        if not name:
            problems.append(errors.value_required(field + ".from.name"))
        if kind == "DockerImage":
            try:
                if name:
                    reference.parse(name)
            except ValueError as why:
                problems.append(errors.value_invalid(field + ".from.name", name, str(why)))
        elif kind in ("ImageStreamImage", "ImageStreamTag"):
            if tag["importPolicy"].get("scheduled"):
                problems.append(errors.value_invalid(field + ".importPolicy.scheduled", True, (
                    "only tags pointing to Docker repositories may be scheduled for background "
                    "import")))
        else:
            problems.append(errors.value_required(
                field + ".from.kind",
                "valid values are 'DockerImage', 'ImageStreamImage', 'ImageStreamTag'"))
    mode = tag["importPolicy"].get("importMode", "")
    if mode not in ("", "Legacy", "PreserveOriginal"):
        problems.append(errors.value_invalid(
            field + ".importPolicy.importMode", mode,
            "invalid import mode, valid modes are '', 'Legacy', 'PreserveOriginal'"))
    policy = tag["referencePolicy"]["type"]
    if policy not in ("Source", "Local"):
        problems.append(errors.value_invalid(
            field + ".referencePolicy.type", policy, 'valid values are "Source", "Local"'))
    return problems


def validate_history(obj, known=()):
    problems = []
    for name, tag in history_of(obj).items():
        for index, item in enumerate(tag["items"] or ()):
            text = item["dockerImageReference"]
            if text in known:
                continue
            try:
                reference.parse(text)
            except ValueError as why:
                problems.append(errors.value_invalid(
                    "status.tags[%s].items[%d].dockerImageReference" % (name, index), text,
                    str(why)))
    return problems
