"""Image objects: stored, or made up for streams that were loaded without them."""

from history import history_of
from registry import MANIFEST_TYPE, children, made_up
from store import new_uid, now

CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"


def bare(name, docker_reference):
    """The image as imagestreamtags are listed with it: no more than its name."""
    metadata = {"name": name} if name else {}
    out = {"metadata": metadata}
    if docker_reference:
        out["dockerImageReference"] = docker_reference
    out["dockerImageMetadata"] = {"kind": "DockerImage", "apiVersion": "image.openshift.io/1.0",
                                  "Id": "", "Created": None, "ContainerConfig": {}}
    out["dockerImageMetadataVersion"] = "1.0"
    return out


class Images:
    def __init__(self, store):
        self.store = store
        self.collection = store["images"]

    def of(self, item):
        """The image of a history item as the stream shows it; None for a bare reference. Streams
        that were loaded or generated name images that nobody stored: those are made up here."""
        if not item["image"]:
            return None
        stored = self.collection.get("", item["image"])
        if stored is None:
            return made_up(item["image"], item["dockerImageReference"], item["created"] or now())
        return {**stored.obj, "dockerImageReference": item["dockerImageReference"]}

    def keep(self, image):
        """Stores an image unless it's there."""
        name = image["metadata"]["name"]
        with self.store.changed:
            known = self.collection.get("", name)
            if known is not None:
                return known.obj
            metadata = {"name": name, "uid": new_uid(), "resourceVersion": "0",
                        "creationTimestamp": now()}
            for key in ("labels", "annotations"):
                if image["metadata"].get(key):
                    metadata[key] = image["metadata"][key]
            return self.store.put("images", {**image, "metadata": metadata}).obj

    def all_of(self, stream):
        """name -> image: all of a stream's history, and what its manifest lists name."""
        out = {}
        for tag in history_of(stream).values():
            for item in tag["items"] or ():
                if item["image"] and item["image"] not in out:
                    image = out[item["image"]] = self.of(item)
                    for child in self.children(image):
                        out.setdefault(child["metadata"]["name"], child)
        return out

    def children(self, image):
        """The images that a manifest list names; those that nobody stored are made up."""
        out = []
        for child in children(image):
            stored = self.collection.get("", child["metadata"]["name"])
            out.append({**stored.obj, "dockerImageReference": child["dockerImageReference"]}
                       if stored else child)
        return out

    def layers(self, stream):
        """(blobs, images) of an ImageStreamLayers."""
        blobs, images = {}, {}
        for image in self.all_of(stream).values():
            self._add_layers(blobs, images, image)
        return dict(sorted(blobs.items())), dict(sorted(images.items()))

    @staticmethod
    def _add_layers(blobs, images, image):
        name = image["metadata"]["name"]
        blobs[name] = {"size": None,
                       "mediaType": image.get("dockerImageManifestMediaType", MANIFEST_TYPE)}
        if "dockerImageManifests" in image:
            images[name] = {"imageMissing": False, "layers": None, "config": None, "manifests": [
                one["digest"] for one in image["dockerImageManifests"]]}
            return
        layers = image.get("dockerImageLayers") or []
        entry = {"imageMissing": False, "layers": [layer["name"] for layer in layers]}
        config = (image.get("dockerImageMetadata") or {}).get("Id", "")
        if config.startswith("sha256:"):
            entry["config"] = config
            blobs[config] = {"size": None, "mediaType": CONFIG_TYPE}
        for layer in layers:
            blobs[layer["name"]] = {"size": layer["size"], "mediaType": layer["mediaType"]}
        images[name] = entry
