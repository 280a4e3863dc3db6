"""imagestreamimports, imagestreammappings, and the controller that imports new tags."""

import queue
import threading

import bodies
import errors
import fields
import imagestream
import reference
import schema
from history import add_item, follow, history_of, tags_of
from registry import Importer
from store import encode, new_uid, now

CHECK = "openshift.io/image.dockerRepositoryCheck"
NOTHING = {"metadata": {}, "spec": {"import": False}}
REPOSITORY_TAGS = ("1.0", "2.0", "latest")


class Imports:
    def __init__(self, app, importer=None):
        self.app = app
        self.store = app.store
        self.importer = importer or Importer()

    def create(self, context):
        """POST of an ImageStreamImport: a failed import is a 201 too. dryRun doesn't keep it from
        storing; only the images in its answer are those that weren't stored."""
        value = bodies.parse(context.request, "ImageStreamImport")
        bodies.check_kind(value, "ImageStreamImport", context.api_version)
        obj, report = bodies.decoded(
            lambda one, found: schema.IMAGE_STREAM_IMPORT.decode(
                one, "", "ImageStreamImport", found), value, "ImageStreamImport")
        warnings = bodies.checked_fields(context.request, report, self.app.options,
                                         "ImageStreamImport")
        self.check(context, obj)
        spec = self.with_defaults(obj["spec"])
        results = [self.run(one) for one in spec.get("images", ())]
        from_repository = self.run_repository(spec["repository"]) if "repository" in spec else None
        status = {}
        if spec["import"]:
            with self.store.changed:
                self.app.streams.check_namespace(context, "imagestreamimports",
                                                 obj["metadata"]["name"])
                stream = self.write(context, obj["metadata"]["name"],
                                    results + (from_repository or []))
            status["import"] = stream.obj
            if not context.request.query.get("dryRun"):
                for result in results:
                    if "image" in result:
                        result["stored"] = self.app.images.keep(result["image"])
        if from_repository is not None:
            status["repository"] = {"status": {"metadata": {}, "status": "Success"}, "images": [
                self.shown(result) for result in from_repository]}
        if results:
            status["images"] = [self.shown(result) for result in results]
        meta = {"name": obj["metadata"]["name"], "namespace": context.namespace,
                "uid": new_uid(), "creationTimestamp": now()}
        if self.app.options.managed_fields:
            key = ("Update", context.manager(), context.api_version, "")
            meta["managedFields"] = fields.track_create(
                {"metadata": {}, "spec": spec}, key, NOTHING)
        return self.app.document(context, encode({
            "kind": "ImageStreamImport", "apiVersion": context.api_version, "metadata": meta,
            "spec": spec, "status": status}), 201, warnings)

    def check(self, context, obj):
        name = obj["metadata"].get("name")
        if not name:
            raise errors.invalid("ImageStreamImport", context.group, "", [
                errors.value_required("metadata.name")])
        old = self.store["imagestreams"].get(context.namespace, name)
        given = obj["metadata"].get("resourceVersion")
        if old is not None and given and given != str(old.rv):
            raise errors.conflict("imagestreamimports", context.group, name, (
                "the image stream was updated from %s to %d" % (errors.quote(given), old.rv)))
        uid = obj["metadata"].get("uid")
        if uid and (old is None or old.uid != uid):
            raise errors.not_found("imagestreamimports", context.group, name)

    def with_defaults(self, spec):
        out = dict(spec)
        if "images" in spec:
            out["images"] = [self.defaulted(one) for one in spec["images"]]
        if "repository" in spec:
            out["repository"] = self.defaulted(spec["repository"])
        return out

    def defaulted(self, one):
        return imagestream.with_defaults(one, self.app.options.import_modes)

    def run(self, one):
        """Imports one image: {spec, tag, image or error}."""
        name = (one.get("from") or {}).get("name", "")
        result = {"spec": one, "tag": self.tag_of(one, name)}
        try:
            result["image"], result["children"] = self.importer.fetch(
                name, one.get("importPolicy"))
        except ValueError as why:
            result["error"] = errors.StatusError(500, "InternalError",
                                                 "Internal error occurred: %s: %s" % (name, why))
        except errors.StatusError as why:
            result["error"] = why
        return result

    @staticmethod
    def tag_of(one, name):
        wanted = (one.get("to") or {}).get("name")
        if wanted:
            return wanted
        try:
            return reference.parse(name).tag or "latest"
        except ValueError:
            return "latest"

    def run_repository(self, one):
        base = one["from"]["name"]
        return [self.run({**one, "from": {"kind": "DockerImage", "name": "%s:%s" % (base, tag)},
                          "to": {"name": tag}}) for tag in REPOSITORY_TAGS]

    @staticmethod
    def shown(result):
        """One result as the answer shows it. The tag of a failure is that of the source."""
        if "error" in result:
            status = {key: value for key, value in result["error"].body().items()
                      if key not in ("kind", "apiVersion")}
            name = (result["spec"].get("from") or {}).get("name", "")
            return {"status": status, "tag": Imports.tag_of({}, name)}
        image = result.get("stored") or unstored(result["image"])
        out = {"status": {"metadata": {}, "status": "Success"}, "image": image,
               "tag": result["tag"]}
        if result["children"]:
            out["manifests"] = [unstored(child) for child in result["children"]]
        return out

    def write(self, context, name, results):
        """Sets the spec tags and the history of the results; gives the stream's Version."""
        old = self.store["imagestreams"].get(context.namespace, name)
        obj = old.obj if old else imagestream.with_meta(
            schema.IMAGE_STREAM.blank(), name=name, namespace=context.namespace)
        tags = tags_of(obj)
        for result in results:
            known = tags.get(result["tag"], {"annotations": None, "generation": None})
            tags[result["tag"]] = {
                "name": result["tag"], "annotations": known["annotations"],
                "from": result["spec"]["from"], "generation": known["generation"],
                "importPolicy": result["spec"]["importPolicy"],
                "referencePolicy": result["spec"]["referencePolicy"]}
        obj = imagestream.with_spec_tags(obj, tags)
        rules = self.app.streams.rules(context)
        if old is None:
            obj = rules.new(obj)
        else:
            obj = rules.changed(obj, old.obj, True)
        return self.app.streams.save(self.with_results(obj, results), old)

    def with_results(self, obj, results):
        """The stream with the outcome of imports in its history and conditions."""
        history = history_of(obj)
        generation = obj["metadata"]["generation"]
        for result in results:
            tag = result["tag"]
            if "image" in result:
                image = self.app.images.keep(result["image"])
                for child in result["children"]:
                    self.app.images.keep(child)
                add_item(history, tag, {
                    "created": now(), "dockerImageReference": result["image"][
                        "dockerImageReference"], "image": image["metadata"]["name"],
                    "generation": generation})
                history[tag] = {"tag": tag, "items": history[tag]["items"]}
            else:
                history[tag] = {
                    "tag": tag, "items": history.get(tag, {"items": None})["items"],
                    "conditions": [failed_condition(result["error"], generation)]}
        follow(obj, history, history_of(obj))
        annotations = {**(obj["metadata"].get("annotations") or {}), CHECK: now()}
        obj = imagestream.with_meta(obj, annotations=dict(sorted(annotations.items())))
        return imagestream.with_history(obj, history)

    def mapping(self, context):
        """POST of an ImageStreamMapping: what the internal registry does after a push."""
        value = bodies.parse(context.request, "ImageStreamMapping")
        bodies.check_kind(value, "ImageStreamMapping", context.api_version)
        obj, report = bodies.decoded(
            lambda one, found: schema.IMAGE_STREAM_MAPPING.decode(
                one, "", "ImageStreamMapping", found), value, "ImageStreamMapping")
        warnings = bodies.checked_fields(context.request, report, self.app.options,
                                         "ImageStreamMapping")
        name = obj["metadata"].get("name", "")
        image = normal_image(obj.get("image") or {})
        with self.store.changed:
            self.app.streams.check_namespace(context, "imagestreammappings", name)
            old = self.store["imagestreams"].get(context.namespace, name)
            if old is None:
                raise errors.not_found("imagestreammappings", context.group, name)
            kept = self.app.images.keep(image)
            history = history_of(old.obj)
            tag = obj.get("tag") or "latest"
            spec = tags_of(old.obj).get(tag)
            generation = spec["generation"] if spec else old.obj["metadata"]["generation"]
            add_item(history, tag, {
                "created": now(), "dockerImageReference": image["dockerImageReference"],
                "image": kept["metadata"]["name"], "generation": generation})
            follow(old.obj, history, history_of(old.obj))
            self.app.streams.save(imagestream.with_history(old.obj, history), old)
        return self.app.document(context, encode({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "code": 201}), 201, warnings)


def unstored(image):
    """The image as an answer shows it that was never stored."""
    return {**image, "metadata": {key: value for key, value in image["metadata"].items()
                                  if key != "resourceVersion"}}


def normal_image(image):
    """The metadata of the image in the form in which it's stored."""
    metadata = {"kind": "DockerImage", "apiVersion": "image.openshift.io/1.0"}
    given = image.get("dockerImageMetadata") or {}
    metadata["Id"] = given.get("Id", "")
    metadata["Created"] = given.get("Created")
    metadata["ContainerConfig"] = given.get("ContainerConfig") or {}
    for key in ("Config", "Architecture", "Size"):
        if key in given:
            metadata[key] = given[key]
    return {**image, "dockerImageMetadata": metadata}


def failed_condition(why, generation):
    return {"type": "ImportSuccess", "status": "False", "lastTransitionTime": now(),
            "reason": why.reason, "message": why.message, "generation": generation}


class ImportController:
    """Imports new and changed DockerImage tags a moment after they are written."""

    def __init__(self, app):
        self.app = app
        self.enabled = False
        self.started = False
        self.wanted = queue.Queue()

    def switch(self, on):
        """On: tags written from now on are imported. Off: nothing is imported any more."""
        with self.app.store.changed:
            self.enabled = bool(on)
            if on and not self.started:
                self.started = True
                index = self.app.store["imagestreams"].next_index()
                threading.Thread(target=self.watch, args=(index,), daemon=True).start()
                threading.Thread(target=self.work, daemon=True).start()

    def watch(self, index):
        store = self.app.store
        collection = store["imagestreams"]
        while True:
            with store.changed:
                while collection.next_index() == index:
                    store.changed.wait()
                events = collection.since(index) or []
                index = collection.next_index()
            for event in events:
                if self.enabled and event.type != "DELETED" and due_tags(event.version.obj):
                    self.app.later(self.app.imports.importer.delay, self.wanted.put,
                                   (event.version.namespace, event.version.name))

    def work(self):
        while True:
            namespace, name = self.wanted.get()
            try:
                with self.app.store.changed:
                    old = self.app.store["imagestreams"].get(namespace, name)
                    if old is not None and self.enabled:
                        self.import_tags(old)
            except errors.StatusError:
                pass  # the stream is tried again when it changes

    def import_tags(self, old):
        """One write for all tags of the stream; the spec tags are numbered anew."""
        due = due_tags(old.obj)
        if not due:
            return
        generation = old.obj["metadata"].get("generation", 0) + 1
        tags = tags_of(old.obj)
        results = []
        for tag in due:
            tags[tag["name"]] = {**tag, "generation": generation}
            results.append(self.app.imports.run({**tag, "to": {"name": tag["name"]}}))
        obj = imagestream.with_spec_tags(
            imagestream.with_meta(old.obj, generation=generation), tags)
        self.app.streams.save(self.app.imports.with_results(obj, results), old)


def due_tags(stream):
    """Tags whose import isn't as new as their spec."""
    out = []
    history = history_of(stream)
    for name, tag in tags_of(stream).items():
        source = tag.get("from")
        if tag.get("reference") or not source or source.get("kind") != "DockerImage":
            continue
        seen = history.get(name, {"items": None})
        done = max([item["generation"] for item in (seen["items"] or [])[:1]]
                   + [one["generation"] for one in seen.get("conditions", ())] + [-1])
        if (tag["generation"] or 0) > done:
            out.append(tag)
    return out
