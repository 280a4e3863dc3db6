"""imagestreamtags, imagetags, imagestreamimages: views of the streams, with their own writes."""

import json

import bodies
import errors
import images
import imagestream
import render
import schema
from history import history_of, names_image, tags_of
from server import Response
from streams import APPLY
from store import encode


def joined(stream, tag):
    """The object's name; the empty tag is shown as latest."""
    return "%s:%s" % (stream, tag or "latest")


class _Tags:
    """What the two tag resources have in common."""

    resource = ""
    kind = ""
    schema = None
    apply_refusal = False  # whether server-side apply is refused for what it does to metadata

    def __init__(self, app):
        self.app = app
        self.store = app.store
        self.streams = app.streams

    def answer(self, context):
        return {"get": self.get, "list": self.list, "create": self.create, "update": self.replace,
                "patch": self.patch, "delete": self.delete}[context.verb](context)

    def split(self, context, name):
        """(stream, tag) of an object's name."""
        stream, _, tag = name.partition(":")
        if not stream or not tag or ":" in tag:
            raise errors.bad_request("%ss must be retrieved with <name>:<tag>" % self.kind)
        return stream, tag

    def stream(self, context, name):
        version = self.store["imagestreams"].get(context.namespace, name)
        if version is None:
            raise errors.not_found(self.resource, context.group, name)
        return version

    def not_found(self, context, name=None):
        return errors.not_found(self.resource, context.group, name or context.name)

    def list(self, context):
        """The tags of a list of streams: a limit is one of streams; nothing tells of the rest."""
        try:
            versions, _ = self.app.lister.select(
                context.request, self.store["imagestreams"], context.namespace,
                self.app.kinds["imagestreams"])
        except errors.StatusError as why:
            # A version that is no number: a 500 of streams.
            raise errors.bad_request(why.message) if why.code == 500 else why
        items = [item for version in versions for item in self.items(version.obj)]
        data = encode({"kind": self.kind + "List", "apiVersion": context.api_version,
                       "metadata": {}, "items": items})
        accept = render.negotiate(context.request.headers.get("accept"), self.app.options.forms)
        if accept.form == "table":
            data = render.encode_table(
                [render.NAME_COLUMN, render.column("Image Reference", "Image reference."),
                 render.column("Updated", "Last update time.")], self.cells, items, {},
                context.request.param("includeObject", "Metadata"), accept.version)
        return Response(200, render.document(data, context.request, accept.media),
                        accept.content_type)

    @staticmethod
    def cells(item):
        image = item.get("image") or {}
        return [item["metadata"]["name"], image.get("dockerImageReference", ""), ""]

    def document(self, context, obj, status=200, headers=()):
        data = encode({"kind": self.kind, "apiVersion": context.api_version, **obj})
        return self.app.document(context, data, status, headers)

    def decode(self, context):
        value = bodies.parse(context.request, self.kind)
        bodies.check_kind(value, self.kind, context.api_version)
        obj, report = bodies.decoded(self.typed, value, self.kind)
        return obj, bodies.checked_fields(context.request, report, self.app.options, self.kind)

    def typed(self, value, report):
        return self.schema.decode(value, "", self.kind, report)

    def create(self, context):
        obj, warnings = self.decode(context)
        dry = self.streams.dry(context)
        with self.store.changed:
            self.streams.check_namespace(context, self.resource, obj["metadata"].get("name", ""))
            made = self.write(context, obj, obj["metadata"].get("name", ""), True, dry)
        return self.document(context, made, 201, warnings)

    def replace(self, context):
        obj, warnings = self.decode(context)
        self.streams.check_names(context, obj)
        dry = self.streams.dry(context)
        with self.store.changed:
            self.check_there(context)
            before = self.spec_tag(context)
            made = self.write(context, obj, context.name, False, dry)
        return self.document(context, made, 200 if before else 201, warnings)

    def patch(self, context):
        media_type = bodies.media_type(context.request)
        kind = {"application/json-patch+json": "json", "application/merge-patch+json": "merge",
                "application/strategic-merge-patch+json": "strategic"}.get(
                    media_type)
        if media_type == APPLY and self.apply_refusal and self.app.options.apply:
            self.shown(context, context.name, True)
            raise self.untouchable(context)
        if kind is None:
            raise errors.StatusError(415, "UnsupportedMediaType", "415: Unsupported Media Type",
                                     {})
        change = self.streams.parse_patch(context.request.body, kind)
        dry = self.streams.dry(context)
        with self.store.changed:
            shown = {"kind": self.kind, "apiVersion": context.api_version,
                     **self.shown(context, context.name, True)}
            shown = json.loads(encode(shown))
            value = self.streams.patched(shown, change, kind)
            obj, warnings = self.streams.decode_patched(context, value, self.kind, self.typed)
            self.streams.check_names(context, obj)
            if any((obj["metadata"].get(key) or None) != (shown["metadata"].get(key) or None)
                   for key in ("labels", "finalizers", "ownerReferences")):
                raise self.untouchable(context)
            made = self.write(context, obj, context.name, False, dry)
        return self.document(context, made, 200, warnings)

    def untouchable(self, context):
        """422: metadata is the stream's. Server-side apply always changes some."""
        return errors.invalid(self.kind, context.group, context.name, [errors.value_invalid(
            "metadata", "", "may not update fields other than metadata.annotations")])

    def check_there(self, context):
        """A PUT may make the stream, but not the namespace."""
        if self.store["namespaces"].get("", context.namespace) is None:
            raise errors.not_found("namespaces", "", context.namespace)

    def spec_tag(self, context):
        stream, tag = self.split(context, context.name)
        version = self.store["imagestreams"].get(context.namespace, stream)
        return tags_of(version.obj).get(tag) if version else None

    def save_tag(self, context, name, tag, wanted, create, dry, version_given):
        """Puts a spec tag into its stream, which is made if it's missing; gives the Version."""
        wanted = imagestream.with_defaults({**wanted, "name": tag},
                                           self.app.options.import_modes)
        old = self.store["imagestreams"].get(context.namespace, name)
        if version_given and old is not None and version_given != str(old.rv):
            raise errors.conflict(self.resource, context.group, "%s:%s" % (name, tag), (
                "another caller has updated the resource version to %d" % old.rv))
        if old is None:
            obj = schema.IMAGE_STREAM.blank()
            obj = imagestream.with_meta(obj, name=name, namespace=context.namespace)
            obj = imagestream.with_spec_tags(obj, {tag: wanted})
            return self.streams.save(self.streams.rules(context).new(obj), None, dry)
        tags = tags_of(old.obj)
        if create and tag in tags:
            raise errors.already_exists("imagestreamtag", context.group, "%s:%s" % (name, tag))
        if tag not in tags:
            wanted = {**wanted, "generation": None}
        tags[tag] = wanted
        obj = imagestream.with_spec_tags(old.obj, tags)
        obj = self.streams.rules(context).changed(obj, old.obj, True)
        return self.streams.save(obj, old, dry)

    def delete(self, context):
        preconditions, dry = self.streams.delete_options(context)
        name, tag = self.split(context, context.name)
        with self.store.changed:
            old = self.stream(context, name)
            uid = preconditions.get("uid")
            if uid and uid != old.uid:
                raise errors.conflict(self.resource, context.group, context.name, (
                    "the UID in the precondition (%s) does not match the UID in record (%s). The "
                    "object might have been deleted and then recreated" % (uid, old.uid)))
            tags, history = tags_of(old.obj), history_of(old.obj)
            if tags.pop(tag, None) is None and tag not in history:
                raise self.not_found(context)
            history.pop(tag, None)
            obj = imagestream.with_spec_tags(old.obj, tags)
            obj = imagestream.with_history(obj, history)
            obj = self.streams.rules(context).changed(obj, old.obj, True)
            self.streams.save(obj, old, dry)
        return self.app.document(context, encode({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))


class StreamTags(_Tags):
    """imagestreamtags: tags that have an image."""

    resource = "imagestreamtags"
    kind = "ImageStreamTag"
    schema = schema.IMAGE_STREAM_TAG
    apply_refusal = True

    def get(self, context):
        return self.document(context, self.shown(context, context.name))

    def shown(self, context, name, allow_empty=False, version=None):
        """version is that of the stream, if it isn't what is stored."""
        stream_name, tag = self.split(context, name)
        version = version or self.stream(context, stream_name)
        history = history_of(version.obj).get(tag)
        item = history["items"][0] if history and history["items"] else None
        image = self.app.images.of(item) if item else None
        if image is None and not (allow_empty and tag in tags_of(version.obj)):
            raise self.not_found(context, "%s:%s" % (stream_name, tag))
        if image is None:
            item, image = None, images.bare("", "")
        return self.build(version.obj, tag, item, image)

    @staticmethod
    def build(stream, tag, item, image):
        meta = stream["metadata"]
        out = {"name": joined(meta["name"], tag), "namespace": meta["namespace"],
               "uid": meta["uid"]}
        if "resourceVersion" in meta:  # not of a stream that a dry run made
            out["resourceVersion"] = meta["resourceVersion"]
        out["creationTimestamp"] = item["created"] if item else meta["creationTimestamp"]
        spec = tags_of(stream).get(tag)
        if meta.get("labels"):
            out["labels"] = meta["labels"]
        if spec and spec["annotations"]:
            out["annotations"] = spec["annotations"]
        shown = {"metadata": out, "tag": spec, "generation": item["generation"] if item else 0,
                 "lookupPolicy": stream["spec"]["lookupPolicy"]}
        conditions = history_of(stream).get(tag, {}).get("conditions")
        if conditions:
            shown["conditions"] = conditions
        return {**shown, "image": image}

    def items(self, stream):
        out = []
        for name, tag in history_of(stream).items():
            if tag["items"]:
                item = tag["items"][0]
                out.append(self.build(stream, name, item, images.bare(
                    item["image"], item["dockerImageReference"])))
        return out

    def write(self, context, obj, name, create, dry):
        stream, tag = self.split(context, name)
        wanted = obj.get("tag")
        if wanted is None:
            known = self.store["imagestreams"].get(context.namespace, stream)
            wanted = tags_of(known.obj).get(tag) if known else None
            if wanted is None:
                raise errors.bad_request(
                    "imagestreamtag %s:%s is not a spec tag in imagestream %s/%s, cannot be "
                    "updated" % (stream, tag, context.namespace, stream))
        elif not create and self.spec_tag(context) is not None:
            # An update takes the object's annotations, whatever the tag in it says.
            wanted = {**wanted, "annotations": obj["metadata"].get("annotations")}
        elif wanted["annotations"] is None:
            wanted = {**wanted, "annotations": obj["metadata"].get("annotations")}
        version = self.save_tag(context, stream, tag, wanted, create, dry,
                                obj["metadata"].get("resourceVersion"))
        return self.shown(context, name, True, version)

    def stream_image(self, context):
        """imagestreamimages: GET stream@image."""
        name, at, wanted = context.name.partition("@")
        if not at or not name or not wanted:
            raise errors.bad_request("ImageStreamImages must be retrieved with <name>@<id>")
        version = self.store["imagestreams"].get(context.namespace, name)
        if version is None:
            raise errors.not_found("imagestreamimages", context.group, name)
        found = [image for digest, image in self.app.images.all_of(version.obj).items()
                 if names_image(wanted, digest)]
        if not found:
            raise errors.not_found("imagestreamimage", context.group, context.name)
        # Where a short name fits several images, one of them is as good as another.
        image = found[-1]
        meta = {"name": context.name, "namespace": context.namespace,
                "creationTimestamp": image["metadata"]["creationTimestamp"]}
        for key in ("labels", "annotations"):
            if version.obj["metadata"].get(key):
                meta[key] = version.obj["metadata"][key]
        data = encode({"kind": "ImageStreamImage", "apiVersion": context.api_version,
                       "metadata": meta, "image": image})
        return self.app.document(context, data)


class ImageTags(_Tags):
    """imagetags: the union of the spec and status tags."""

    resource = "imagetags"
    kind = "ImageTag"
    schema = schema.IMAGE_TAG

    def get(self, context):
        return self.document(context, self.shown(context, context.name))

    def shown(self, context, name, allow_empty=False, version=None):
        """version is that of the stream, if it isn't what is stored."""
        stream_name, tag = self.split(context, name)
        version = version or self.stream(context, stream_name)
        spec = tags_of(version.obj).get(tag)
        history = history_of(version.obj).get(tag)
        if spec is None and history is None:
            raise self.not_found(context, "%s:%s" % (stream_name, tag))
        items = history["items"] if history else None
        return self.build(version.obj, tag, self.app.images.of(items[0]) if items else None)

    @staticmethod
    def build(stream, tag, image):
        meta = {**stream["metadata"], "name": joined(stream["metadata"]["name"], tag)}
        return {"metadata": meta, "spec": tags_of(stream).get(tag),
                "status": history_of(stream).get(tag), "image": image}

    def items(self, stream):
        names = sorted(tags_of(stream).keys() | history_of(stream).keys())
        return [self.build(stream, name, None) for name in names]

    def write(self, context, obj, name, create, dry):
        stream, tag = self.split(context, name)
        if obj.get("spec") is None:
            version = self.remove_spec(context, stream, tag, dry)
        else:
            version = self.save_tag(context, stream, tag, obj["spec"], create, dry,
                                    obj["metadata"].get("resourceVersion"))
        return self.shown(context, name, version=version)

    def remove_spec(self, context, stream, tag, dry):
        old = self.stream(context, stream)
        tags = tags_of(old.obj)
        if tags.pop(tag, None) is None:
            raise self.not_found(context)
        obj = imagestream.with_spec_tags(old.obj, tags)
        return self.streams.save(self.streams.rules(context).changed(obj, old.obj, True), old, dry)
