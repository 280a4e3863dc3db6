"""What an ImageStream is: decoding, defaults, generations, spec.tags to status.tags.

Objects are dicts in the order in which the server prints them, and are never changed in place.
"""

import random

import errors
import schema
from history import add_item, follow, history_of, source_item, split_source, tags_of
from store import new_uid, now
from validation import (
    validate_history, validate_meta, validate_meta_update, validate_stream)

REGISTRY = "image-registry.openshift-image-registry.svc:5000"
GROUP = errors.IMAGE_GROUP
API_VERSION = GROUP + "/v1"


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


def followed_up(obj, old):
    """The stream with its following tags brought up to date; old is what is stored, or None."""
    history = history_of(obj)
    follow(obj, history, None if old is None else history_of(old))
    return with_history(obj, history)


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
        obj = followed_up(obj, None)
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
        # A save of the stream itself leads nobody: the real server sees no change of status in it.
        return followed_up(obj, old) if with_status else with_history(obj, history_of(obj))

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
