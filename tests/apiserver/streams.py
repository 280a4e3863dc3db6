"""The imagestreams endpoints: writes, and the status, secrets and layers subresources."""

import json

import bodies
import errors
import fields
import imagestream
import patch
import render
import schema
import writeoptions
from apply import Applier
from lists import Selection
from server import Response
from store import Version, encode, now

ETCD_LIMIT = 1536 * 1024
APPLY = "application/apply-patch+yaml"
PATCH_TYPES = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    APPLY: "apply",
}
PULL_TYPES = ("kubernetes.io/dockercfg", "kubernetes.io/dockerconfigjson")


class Streams:
    def __init__(self, app):
        self.app = app
        self.store = app.store
        self.options = app.options
        self.collection = app.store["imagestreams"]
        self.applier = Applier(self)

    # Helpers that the other image resources use too.

    def rules(self, context):
        def may_pull(namespace, stream):
            return self.app.auth.allowed(context.user, "get", context.group, "imagestreams",
                                         "layers", namespace, stream)
        return imagestream.Rules(self.store, may_pull, context.group)

    def find(self, context, name=None):
        name = context.name if name is None else name
        version = self.collection.get(context.namespace, name)
        if version is None:
            raise errors.not_found("imagestreams", context.group, name)
        return version

    def check_namespace(self, context, resource, name):
        """Creating needs a namespace that is there to stay."""
        namespace = self.store["namespaces"].get("", context.namespace)
        if namespace is None:
            raise errors.not_found("namespaces", "", context.namespace)
        if namespace.obj["status"].get("phase") == "Terminating":
            causes = [errors.cause("NamespaceTerminating", "metadata.namespace",
                                   "namespace %s is being terminated" % context.namespace)]
            raise errors.StatusError(403, "Forbidden", (
                "%s %s is forbidden: unable to create new content in namespace %s because it is "
                "being terminated" % (errors.qualified(resource, context.group),
                                      errors.quote(name), context.namespace)),
                errors.details(resource, context.group, name, causes))

    def save(self, obj, old=None, dry=False):
        """Stores a stream unless it is what's stored; gives the Version to answer with."""
        if old is not None and fields.same_but_times(obj, old.obj):
            return old
        if len(encode(obj)) > ETCD_LIMIT:
            bare = imagestream.with_meta(obj, managedFields=None)
            # What came into being larger (--stream-tags) may be changed.
            limit = max(ETCD_LIMIT, 2 * len(encode(old.obj)) if old else 0)
            if len(encode(bare)) > limit:
                raise errors.StatusError(500, None, "etcdserver: request is too large")
            obj = bare
        if dry:
            return Version(obj, old.rv if old else 0)
        meta = obj["metadata"]
        if old is not None and meta.get("deletionTimestamp") and not meta.get("finalizers"):
            # The last finalizer is gone. The answer shows the update that was never stored.
            self.store.delete("imagestreams", old.namespace, old.name)
            return Version(obj, old.rv)
        # Room for the version in the order of printing; the store fills it in.
        obj = imagestream.with_meta(obj, resourceVersion=meta.get("resourceVersion") or "0")
        return self.store.put("imagestreams", obj)

    def answer(self, context, version, status=200, headers=()):
        accept = render.negotiate(context.request.headers.get("accept"), self.options.forms)
        if accept.form == "table":
            data = render.encode_table(
                render.STREAM_COLUMNS, render.stream_cells, [version.obj],
                {"resourceVersion": str(version.rv)},
                context.request.param("includeObject", "Metadata"), accept.version)
        else:
            data = version.document(render.PARTIAL if accept.form == "partial" else context.view)
        return Response(status, render.document(data, context.request, accept.media),
                        accept.content_type, headers)

    def dry(self, context):
        """Whether nothing is to be stored; what else dryRun may say was checked before."""
        given = context.request.query.get("dryRun", [])
        if given and given != [""] and not self.options.dry_run:
            raise errors.bad_request("the dryRun alpha feature is disabled")
        return given == ["All"]

    # Reads.

    def get(self, context):
        request = context.request
        version = self.find(context)
        if self.options.export and request.flag("export"):
            version = self.exported(version, request.flag("exact"))
        return self.answer(context, version)

    @staticmethod
    def exported(version, exact):
        """The clean copy that old servers make: as it would be created anew."""
        meta = {"name": version.name}
        if exact:
            meta["namespace"] = version.namespace
        for key in ("labels", "annotations"):
            if version.obj["metadata"].get(key):
                meta[key] = version.obj["metadata"][key]
        obj = {"metadata": {**meta, "generation": 1}, "spec": version.obj["spec"],
               "status": {"dockerImageRepository": ""}}
        obj = imagestream.with_spec_tags(obj, {
            name: {**tag, "generation": 1} for name, tag in imagestream.tags_of(obj).items()})
        return Version(obj, version.rv)

    def secrets(self, context):
        """Every pull secret of the namespace, whatever the stream."""
        if context.request.query:
            raise errors.bad_request(
                "converting (url.Values) to (v1.ListOptions): unknown conversion")
        with self.store.changed:
            rv = self.store.rv
            found = [v.obj for v in self.store["secrets"].select(context.namespace)
                     if v.obj.get("type") in PULL_TYPES and (
                         v.obj["metadata"].get("annotations") or {}).get(
                         "openshift.io/image.excludeSecret") != "true"]
        data = encode({"kind": "SecretList", "apiVersion": context.api_version,
                       "metadata": {"resourceVersion": str(rv)}, "items": found})
        return self.app.document(context, data)

    def layers(self, context):
        version = self.find(context)
        blobs, images = self.app.images.layers(version.obj)
        data = encode({"kind": "ImageStreamLayers", "apiVersion": context.api_version,
                       "metadata": version.obj["metadata"], "blobs": blobs, "images": images})
        return self.app.document(context, data)

    # Writes.

    def decode(self, context):
        value = bodies.parse(context.request, "ImageStream")
        bodies.check_kind(value, "ImageStream", context.api_version)
        obj, report = bodies.decoded(self.decode_value, value, "ImageStream")
        warnings = bodies.checked_fields(context.request, report, self.options, "ImageStream")
        return obj, value, warnings

    def decode_value(self, value, report):
        return imagestream.decode(value, report, self.options.import_modes)

    def create(self, context):
        obj, value, warnings = self.decode(context)
        namespace = obj["metadata"].get("namespace")
        if not context.namespace:
            context.namespace = namespace or ""
        if namespace and namespace != context.namespace:
            raise errors.bad_request("the namespace of the provided object does not match the "
                                     "namespace sent on the request")
        dry = self.dry(context)
        with self.store.changed:
            version = self.create_object(context, obj, value, dry)
        return self.answer(context, version, 201, warnings)

    def create_object(self, context, obj, value, dry, manager=None):
        meta = obj["metadata"]
        self.check_namespace(context, "imagestreams", meta.get("name", ""))
        if not meta.get("name") and meta.get("generateName"):
            obj = imagestream.with_meta(
                obj, name=imagestream.generated_name(meta["generateName"]))
        name = obj["metadata"].get("name")
        if not name:
            raise errors.invalid("ImageStream", context.group, "", [errors.value_required(
                "metadata.name", "name or generateName is required")])
        obj = imagestream.with_meta(obj, namespace=context.namespace)
        entries = manager if manager is not None else self.track(context, None, obj, value)
        given = obj["metadata"].get("resourceVersion")
        obj = self.rules(context).new(imagestream.with_meta(
            obj, managedFields=entries or None, resourceVersion=None))
        if given and given != "0":
            raise errors.StatusError(500, None, (
                "resourceVersion should not be set on objects to be created"))
        existing = self.collection.get(context.namespace, name)
        if existing is not None:
            raise errors.already_exists("imagestreams", context.group, name,
                                        "deletionTimestamp" in existing.obj["metadata"])
        return self.save(obj, None, dry)

    def track(self, context, live, obj, value):
        """managedFields for a write. Left out of the body they start from what's stored; an
        empty list wipes them."""
        if not self.options.managed_fields:
            return []
        key = ("Update", context.manager(), context.api_version, context.subresource)
        if live is None:
            return fields.track_create(obj, key)
        given = value.get("metadata") or {}
        entries = live["metadata"].get("managedFields", [])
        if "managedFields" in given and given["managedFields"] is not None:
            entries = [one for one in obj["metadata"].get("managedFields", []) if one]
        return fields.track_update(live, obj, key, entries)

    def replace(self, context):
        obj, value, warnings = self.decode(context)
        self.check_names(context, obj)
        dry = self.dry(context)
        with self.store.changed:
            old = self.find(context)
            self.check_version(context, obj, old)
            version = self.update(context, obj, value, old, dry)
        return self.answer(context, version, 200, warnings)

    @staticmethod
    def check_names(context, obj):
        name, namespace = obj["metadata"].get("name"), obj["metadata"].get("namespace")
        if name != context.name:
            if not name:
                raise errors.bad_request("the name of the object (%s based on URL) was "
                                         "undeterminable: name must be provided" % context.name)
            raise errors.bad_request("the name of the object (%s) does not match the name on the "
                                     "URL (%s)" % (name, context.name))
        if namespace and namespace != context.namespace:
            raise errors.bad_request("the namespace of the provided object does not match the "
                                     "namespace sent on the request")

    @staticmethod
    def check_version(context, obj, old):
        """The preconditions that a PUT carries in its metadata."""
        given = obj["metadata"].get("resourceVersion", "")
        uid = obj["metadata"].get("uid")
        if given and not given.isdigit():
            raise errors.StatusError(500, None, "strconv.ParseUint: parsing %s: invalid syntax"
                                     % errors.quote(given))
        if uid and uid != old.uid:
            raise errors.conflict("imagestreams", context.group, context.name, (
                "StorageError: invalid object, Code: 4, Key: /openshift.io/imagestreams/%s/%s, "
                "ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition:"
                " %s, UID in object meta: %s" % (context.namespace, context.name, uid, old.uid)))
        if not int(given or 0):
            raise errors.invalid("imagestreams", context.group, context.name, [
                errors.value_invalid("metadata.resourceVersion", 0,
                                     "must be specified for an update")])
        if int(given) != old.rv:
            raise errors.conflict("imagestreams", context.group, context.name)

    def update(self, context, obj, value, old, dry, managed=None):
        obj = imagestream.with_meta(obj, namespace=context.namespace)
        if managed is None:
            managed = self.track(context, old.obj, obj, value)
        obj = imagestream.with_meta(obj, managedFields=managed or None)
        rules = self.rules(context)
        if context.subresource == "status":
            obj = rules.changed_status(obj, old.obj)
        else:
            obj = rules.changed(obj, old.obj)
        return self.save(obj, old, dry)

    # PATCH.

    def patch(self, context):
        kind = PATCH_TYPES.get(bodies.media_type(context.request))
        if kind is None or (kind == "apply" and not self.options.apply):
            raise errors.StatusError(415, "UnsupportedMediaType", "415: Unsupported Media Type",
                                     {})
        dry = self.dry(context)
        if kind == "apply":
            return self.applier.answer(context, dry)
        change = self.parse_patch(context.request.body, kind)
        with self.store.changed:
            old = self.find(context)
            shown = json.loads(old.document(context.view))
            value = self.patched(shown, change, kind)
            obj, warnings = self.decode_patched(context, value, "ImageStream", self.decode_value)
            self.check_names(context, obj)
            given = obj["metadata"].get("resourceVersion")
            if given and given != str(old.rv):
                raise errors.conflict("imagestreams", context.group, context.name)
            version = self.update(context, obj, value, old, dry)
        return self.answer(context, version, 200, warnings)

    @staticmethod
    def parse_patch(body, kind):
        text = body.decode("utf-8", "replace")
        try:
            change = json.loads(text)
        except json.JSONDecodeError as why:
            raise errors.bad_request("error decoding patch: " + patch.go_json_error(text, why))
        wanted, name = (list, "[]handlers.jsonPatchOp") if kind == "json" else \
            (dict, "map[string]interface {}")
        if not isinstance(change, wanted):
            raise errors.bad_request(
                "error decoding patch: json: cannot unmarshal %s into Go value of type %s" % (
                    schema.go_kind(change), name))
        if kind == "json" and len(change) > 10000:
            raise errors.StatusError(413, "RequestEntityTooLarge", (
                "Request entity too large: The allowed maximum operations in a JSON patch is "
                "10000, got %d" % len(change)))
        return change

    @staticmethod
    def patched(shown, change, kind):
        try:
            if kind == "json":
                return patch.json_patch(shown, change)
            return (patch.merge if kind == "merge" else patch.strategic)(shown, change)
        except patch.PatchFailed as why:
            if kind == "strategic":
                raise errors.StatusError(500, None, str(why))
            raise errors.StatusError(422, "Invalid", (
                "the server rejected our request due to an error in our request"), {})

    def decode_patched(self, context, value, kind, decode):
        """The patched document as an object; what doesn't decode is 422 for patches."""
        report = schema.Report()
        try:
            if not isinstance(value, dict):
                raise schema.DecodeError("json: cannot unmarshal %s into Go value of type "
                                         "v1.%s" % (schema.go_kind(value), kind))
            obj = decode(value, report)
            return obj, bodies.field_validation(context.request, report, self.options)
        except (schema.DecodeError, bodies.StrictFailure) as why:
            shown = errors.quote(encode(value).decode())
            raise errors.StatusError(422, "Invalid", (
                ' "" is invalid: patch: Invalid value: %s: %s' % (shown, why)),
                {"causes": [{"reason": "FieldValueInvalid",
                             "message": "Invalid value: %s: %s" % (shown, why),
                             "field": "patch"}]})

    # DELETE.

    def delete_options(self, context):
        options = {}
        if context.request.body:
            value = bodies.parse(context.request, "DeleteOptions")
            if value.get("kind", "DeleteOptions") != "DeleteOptions":
                raise errors.bad_request(
                    '%s in version "%s" cannot be handled as a DeleteOptions: no kind "%s" is '
                    'registered' % (value["kind"], value.get("apiVersion", ""), value["kind"]))
            options = value
            if self.options.dry_run:
                writeoptions.check_delete_body(options)
        dry = self.dry(context) or options.get("dryRun") == ["All"]
        return options.get("preconditions") or {}, dry

    def delete(self, context):
        preconditions, dry = self.delete_options(context)
        with self.store.changed:
            old = self.find(context)
            self.check_preconditions(context, old, preconditions)
            version = self.remove(old, dry)
        if version is not None:
            return self.answer(context, version)
        details = errors.details("imagestreams", context.group, context.name)
        details["uid"] = old.uid
        return self.app.document(context, encode({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": details}))

    def check_preconditions(self, context, old, preconditions):
        uid, version = preconditions.get("uid"), preconditions.get("resourceVersion")
        if uid and uid != old.uid:
            raise errors.conflict("ImageStream", context.group, context.name, (
                "the UID in the precondition (%s) does not match the UID in record (%s). The "
                "object might have been deleted and then recreated" % (uid, old.uid)))
        if self.options.version_preconditions and version and version != str(old.rv):
            raise errors.conflict("ImageStream", context.group, context.name, (
                "the ResourceVersion in the precondition (%s) does not match the ResourceVersion "
                "in record (%d). The object might have been modified" % (version, old.rv)))

    def remove(self, old, dry=False):
        """Deletes a stream, or marks it if finalizers hold it (then gives the Version)."""
        meta = old.obj["metadata"]
        if not meta.get("finalizers"):
            if not dry:
                self.store.delete("imagestreams", old.namespace, old.name)
            return None
        if meta.get("deletionTimestamp"):
            return old
        marked = imagestream.with_meta(
            old.obj, deletionTimestamp=now(), deletionGracePeriodSeconds=0,
            generation=meta.get("generation", 0) + 1)
        return self.save(marked, old, dry)

    def delete_collection(self, context):
        _, dry = self.delete_options(context)
        selection = Selection(context.request, self.app.kinds["imagestreams"])
        with self.store.changed:
            rv = self.store.rv
            chosen = [v for v in self.collection.select(context.namespace)
                      if selection.matches(v)]
            for version in chosen:
                self.remove(version, dry)
        return self.app.lister.render_list(
            context.request, chosen, {"resourceVersion": str(rv)},
            self.app.kinds["imagestreams"], context.view)


