"""What an ImageStream is: decoding, defaults, generations, spec.tags to status.tags, validation.

Objects are dicts in the order in which the server prints them, and are never changed in place.
"""

import random
import re

import errors
import reference
import schema
from store import new_uid, now

REGISTRY = "image-registry.openshift-image-registry.svc:5000"
GROUP = errors.IMAGE_GROUP
API_VERSION = GROUP + "/v1"

NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*\Z")
NAME_TEXT = 'must match "[a-z0-9]+(?:[._-][a-z0-9]+)*"'
QUALIFIED_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\Z")
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z")
SUBDOMAIN = re.compile(
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
ANNOTATIONS_LIMIT = 262144


def decode(body, report, import_modes=True):
    """A request's JSON value as a canonical ImageStream without kind and apiVersion."""
    obj = schema.IMAGE_STREAM.decode(body, "", "ImageStream", report)
    obj.pop("kind", None)
    obj.pop("apiVersion", None)
    return canonical(obj, import_modes)


def canonical(obj, import_modes=True):
    """Defaults applied, tags collapsed (the last of a name wins) and sorted."""
    spec = dict(obj["spec"])
    tags = collapse(spec.get("tags"), "name")
    if tags:
        spec["tags"] = [with_defaults(tag, import_modes) for tag in tags]
    else:
        spec.pop("tags", None)
    status = dict(obj["status"])
    history = collapse(status.get("tags"), "tag")
    if history:
        status["tags"] = history
    else:
        status.pop("tags", None)
    return {**obj, "spec": spec, "status": status}


def collapse(tags, key):
    by_name = {tag[key]: tag for tag in tags or ()}
    return [by_name[name] for name in sorted(by_name)]


def with_defaults(tag, import_modes=True):
    """The tag with the policies that the server fills in; old servers know no importMode."""
    policy = dict(tag["importPolicy"])
    if not import_modes:
        policy.pop("importMode", None)
    elif "importMode" not in policy:
        policy["importMode"] = "Legacy"
    elif tag["referencePolicy"]["type"]:
        return tag  # nothing to fill in, as is the rule when thousands are loaded
    return {**tag, "importPolicy": policy,
            "referencePolicy": {"type": tag["referencePolicy"]["type"] or "Source"}}


def tags_of(obj):
    return {tag["name"]: tag for tag in obj["spec"].get("tags", ())}


def history_of(obj):
    return {tag["tag"]: tag for tag in obj["status"].get("tags", ())}


def with_meta(obj, **changes):
    """The object with metadata changed; None removes a field. Keeps the order of printing."""
    meta = {**obj["metadata"], **changes}
    ordered = {name: meta[name] for name, _, _ in schema.OBJECT_META.fields
               if meta.get(name) is not None}
    return {**obj, "metadata": ordered}


def with_spec_tags(obj, tags):
    spec = {key: value for key, value in obj["spec"].items() if key != "tags"}
    if tags:
        spec["tags"] = [tags[name] for name in sorted(tags)]
    return {**obj, "spec": spec}


def with_history(obj, history):
    """Tags without items and conditions are dropped."""
    status = {key: value for key, value in obj["status"].items() if key != "tags"}
    kept = [history[name] for name in sorted(history)
            if history[name]["items"] or history[name].get("conditions")]
    if kept:
        status["tags"] = kept
    return {**obj, "status": status}


def repository(obj):
    meta = obj["metadata"]
    return "%s/%s/%s" % (REGISTRY, meta["namespace"], meta["name"])


def with_repository(obj):
    status = {**obj["status"], "dockerImageRepository": repository(obj)}
    status.pop("publicDockerImageRepository", None)
    return {**obj, "status": status}


def generated_name(base):
    return base[:58] + "".join(random.choice("bcdfghjklmnpqrstvwxz2456789") for _ in range(5))


class Rules:
    """The create and update rules, against the other streams of a store."""

    def __init__(self, store, may_pull, group=GROUP):
        """may_pull(namespace, stream) says whether the acting user may get its layers; group is
        the API group that errors name."""
        self.streams = store["imagestreams"]
        self.may_pull = may_pull
        self.group = group

    def new(self, obj):
        """A created stream, ready to be stored, or the 422."""
        obj = with_meta(
            obj, uid=new_uid(), creationTimestamp=now(), deletionTimestamp=None,
            deletionGracePeriodSeconds=None, selfLink=None, generation=1)
        obj = {**obj, "status": {"dockerImageRepository": ""}}
        obj = with_repository(obj)
        obj = with_spec_tags(obj, {
            name: {**tag, "generation": 1} for name, tag in tags_of(obj).items()})
        obj, problems = self._resolve(obj, {})
        problems += validate_meta(obj) + validate_stream(obj)
        if problems:
            raise errors.invalid("ImageStream", self.group, obj["metadata"]["name"], problems)
        return obj

    def changed(self, obj, old, with_status=False):
        """An updated stream ready to be stored, or the 422. The status is that of storage, unless
        one of the server's own parts writes."""
        obj = keep_meta(obj, old)
        if not with_status:
            obj = {**obj, "status": old["status"]}
        obj = with_repository(obj)
        obj = keep_generations(obj, old)
        if obj["spec"] != old["spec"] or not old["metadata"].get("generation"):
            obj = with_meta(obj, generation=old["metadata"].get("generation", 0) + 1)
        obj = number_tags(obj, old)
        obj, nested = self._resolve(obj, tags_of(old))
        # The registry and the stream's strategy both validate metadata, each its labels twice.
        metadata = validate_meta_update(obj, old)
        problems = metadata + nested + metadata + validate_stream(obj, True)
        if problems:
            raise errors.invalid("ImageStream", self.group, obj["metadata"]["name"], problems)
        return with_history(obj, history_of(obj))

    def changed_status(self, obj, old):
        """The status subresource: spec is kept but for lookupPolicy; labels and annotations are
        taken from the body."""
        obj = keep_meta(obj, old)
        spec = {**old["spec"], "lookupPolicy": obj["spec"]["lookupPolicy"]}
        obj = {**obj, "spec": spec}
        history = {}
        for name, tag in history_of(obj).items():
            items = tag["items"]
            if items and not items[0]["generation"]:
                items = [{**items[0], "generation": old["metadata"]["generation"]}] + items[1:]
            history[name] = {**tag, "items": items}
        obj = with_history(obj, history)
        known = {item["dockerImageReference"] for tag in history_of(old).values()
                 for item in tag["items"] or ()}
        problems = validate_meta_update(obj, old) * 2 + validate_history(obj, known)
        if problems:
            raise errors.invalid("ImageStream", self.group, obj["metadata"]["name"], problems)
        return obj

    def _resolve(self, obj, old_tags):
        """Turns new and changed tags into history. Gives the object and what is wrong."""
        history = history_of(obj)
        meta = obj["metadata"]
        problems = []
        for name, tag in tags_of(obj).items():
            old = old_tags.get(name)
            if "from" in tag and (
                    old is None or reference_changed(old, tag, meta["namespace"])):
                problems += self._resolve_tag(obj, name, tag, history)
        if problems:
            # Access is checked before anything is looked up.
            problems.sort(key=lambda one: one["reason"] != "FieldValueForbidden")
            problems = [errors.internal("imagestreams %s is invalid: %s" % (
                errors.quote(meta["name"]), errors.aggregate(problems)))]
        return with_history(obj, history), problems

    def _resolve_tag(self, obj, name, tag, history):
        """Puts what one tag refers to into the history; gives what is wrong with it."""
        source, meta = tag["from"], obj["metadata"]
        field = "spec.tags[%s].from.name" % name
        if source.get("kind") == "DockerImage" and source.get("name"):
            if tag.get("reference"):
                add_item(history, name, {
                    "created": now(), "dockerImageReference": source["name"], "image": "",
                    "generation": meta["generation"]})
            return []
        try:
            stream, item_name = split_source(source)
        except ValueError:
            return [errors.value_invalid(field, source.get("name", ""), (
                "must be of the form <tag>, <repo>:<tag>, <id>, or <repo>@<id>"))]
        namespace = source.get("namespace") or meta["namespace"]
        if stream in ("", meta["name"]) and namespace == meta["namespace"]:
            return self._follow(obj, name, tag, history, item_name, field)
        problems = []
        if namespace != meta["namespace"] and not self.may_pull(namespace, stream):
            problems.append(errors.value_forbidden(
                "spec.tags[%s].from" % name, '%s/%s: "" ""' % (namespace, stream)))
        found = self.streams.get(namespace, stream)
        if found is None:
            return problems + [errors.value_not_found(field, source["name"])]
        try:
            item = source_item(source["kind"], item_name, history_of(found.obj),
                               meta["generation"])
        except ValueError as why:
            return problems + [errors.value_invalid(
                field, source["name"], "error generating tag event: %s" % why)]
        if item is not None:
            if not tag.get("reference"):
                item = self._pulled_through(item, namespace, stream, obj)
            add_item(history, name, item)
        return problems

    @staticmethod
    def _follow(obj, name, tag, history, item_name, field):
        """A tag that refers to another tag or image of its own stream."""
        source = tag["from"]
        try:
            item = source_item(source["kind"], item_name, history,
                               obj["metadata"]["generation"])
        except ValueError as why:
            return [errors.value_invalid(field, source["name"],
                                         "error generating tag event: %s" % why)]
        if item is None:
            return []
        if source["kind"] == "ImageStreamTag":
            # The two tags share the item on the real server, so the source is numbered too.
            items = history[item_name]["items"]
            history[item_name] = {**history[item_name], "items": [item] + items[1:]}
        add_item(history, name, item)
        return []

    @staticmethod
    def _pulled_through(item, namespace, stream, obj):
        """An image in the internal registry is pulled through this stream's own repository."""
        theirs = "%s/%s/%s@" % (REGISTRY, namespace, stream)
        if not item["dockerImageReference"].startswith(theirs):
            return item
        digest = item["dockerImageReference"][len(theirs):]
        return {**item, "dockerImageReference": "%s@%s" % (repository(obj), digest)}


def split_source(source):
    """(stream or "", tag or image id) of an ImageStreamTag or ImageStreamImage reference."""
    separator = {"ImageStreamTag": ":", "ImageStreamImage": "@"}.get(source.get("kind"))
    if separator is None or not source.get("name"):
        raise ValueError
    parts = source["name"].split(separator)
    if len(parts) > 2 or not parts[-1]:
        raise ValueError
    return (parts[0], parts[1]) if len(parts) == 2 else ("", parts[0])


def source_item(kind, name, history, generation):
    """The history item that a reference to another tag or image stands for, or None."""
    if kind == "ImageStreamTag":
        items = history.get(name, {}).get("items")
        return {**items[0], "generation": generation} if items else None
    item = find_image(history, name)
    return {**item, "created": now(), "generation": generation}


def find_image(history, wanted):
    """The newest item whose image has that name or begins with it; ValueError otherwise."""
    found = matching_images(history, wanted)
    if len(found) > 1:
        raise ValueError('multiple images match the prefix %s: %s' % (
            errors.quote(wanted), ", ".join(sorted(found))))
    if not found:
        raise ValueError("imagestreamimage.%s %s not found" % (GROUP, errors.quote(wanted)))
    return next(iter(found.values()))


def matching_images(history, wanted):
    """image -> item for the images whose name or digest begins with wanted."""
    found = {}
    for tag in history.values():
        for item in tag["items"] or ():
            digest = item["image"].partition(":")[2]
            if item["image"] and (item["image"].startswith(wanted) or digest.startswith(wanted)):
                found.setdefault(item["image"], item)
    return found


def add_item(history, name, item):
    """Puts an item in front of a tag's history; drops the tag's conditions if it changes."""
    tag = history.get(name)
    items = tag["items"] if tag else None
    if not items:
        history[name] = {"tag": name, "items": [item]}
        return
    newest = items[0]
    same_reference = newest["dockerImageReference"] == item["dockerImageReference"]
    same_image = newest["image"] == item["image"]
    if same_reference and same_image and newest["generation"] == item["generation"]:
        return
    if same_image or same_reference:
        newest = {**newest, "image": item["image"],
                  "dockerImageReference": item["dockerImageReference"],
                  "generation": item["generation"]}
        history[name] = {"tag": name, "items": [newest] + items[1:]}
    else:
        history[name] = {"tag": name, "items": [item] + items}


def reference_changed(old, new, namespace):
    """Whether a tag must be resolved or imported again."""
    source = new.get("from")
    if source is None or not (source.get("kind") or source.get("name")):
        return False
    before = old.get("from")
    if before is None:
        return True
    return ((before.get("namespace") or namespace) != (source.get("namespace") or namespace)
            or before.get("name") != source.get("name")
            or bool(old.get("reference")) != bool(new.get("reference"))
            or old["importPolicy"].get("importMode") != new["importPolicy"].get("importMode")
            or (new["generation"] == 0 and bool(old["generation"])))


def keep_meta(obj, old):
    """What an update can't change about metadata."""
    kept = old["metadata"]
    return with_meta(
        obj, namespace=kept["namespace"], uid=obj["metadata"].get("uid") or kept["uid"],
        creationTimestamp=kept["creationTimestamp"], generation=kept.get("generation"),
        deletionTimestamp=kept.get("deletionTimestamp"), selfLink=None,
        deletionGracePeriodSeconds=kept.get("deletionGracePeriodSeconds"),
        resourceVersion=kept["resourceVersion"])


def keep_generations(obj, old):
    """A client's tag generation counts only if it is 0."""
    before = tags_of(old)
    return with_spec_tags(obj, {
        name: {**tag, "generation": before[name]["generation"]}
        if name in before and tag["generation"] != 0 else tag
        for name, tag in tags_of(obj).items()})


def number_tags(obj, old):
    """Gives new and changed tags the stream's generation."""
    before = tags_of(old)
    current = obj["metadata"]["generation"]
    numbered = {}
    for name, tag in tags_of(obj).items():
        known = before.get(name)
        fresh = (known is None or not tag["generation"]
                 or reference_changed(known, tag, obj["metadata"]["namespace"]))
        numbered[name] = {**tag, "generation": current} if fresh else tag
    return with_spec_tags(obj, numbered)


# Validation. Each function gives a list of causes.

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
    return problems + validate_labels(obj) + validate_annotations(obj)


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
