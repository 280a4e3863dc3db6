"""Image objects, and the registry that they are said to come from."""

import hashlib

from imagestream import history_of
from store import new_uid, now

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest(text):
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


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


def made_up(name, docker_reference, created):
    """An image that the fake registry serves; everything follows from its name."""
    layer, config = digest("layer of " + name), digest("config of " + name)
    size = 100 + int(layer[-4:], 16)
    return {
        "metadata": {"name": name, "uid": new_uid(), "resourceVersion": "1",
                     "creationTimestamp": created,
                     "annotations": {"image.openshift.io/dockerLayersOrder": "ascending"}},
        "dockerImageReference": docker_reference,
        "dockerImageMetadata": {
            "kind": "DockerImage", "apiVersion": "image.openshift.io/1.0", "Id": config,
            "Created": created, "ContainerConfig": {}, "Config": {"Cmd": ["/bin/true"]},
            "Architecture": "amd64", "Size": size + 300},
        "dockerImageMetadataVersion": "1.0",
        "dockerImageLayers": [{"name": layer, "size": size, "mediaType": LAYER_TYPE}],
        "dockerImageManifestMediaType": MANIFEST_TYPE,
    }


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

    def layers(self, stream):
        """(blobs, images) of an ImageStreamLayers."""
        blobs, images = {}, {}
        for tag in history_of(stream).values():
            for item in tag["items"] or ():
                image = self.of(item)
                if image is not None:
                    self._add_layers(blobs, images, image)
        return dict(sorted(blobs.items())), dict(sorted(images.items()))

    @staticmethod
    def _add_layers(blobs, images, image):
        name = image["metadata"]["name"]
        layers = image.get("dockerImageLayers") or []
        blobs[name] = {"size": None,
                       "mediaType": image.get("dockerImageManifestMediaType", MANIFEST_TYPE)}
        entry = {"imageMissing": False, "layers": [layer["name"] for layer in layers]}
        config = (image.get("dockerImageMetadata") or {}).get("Id", "")
        if config.startswith("sha256:"):
            entry["config"] = config
            blobs[config] = {"size": None, "mediaType": CONFIG_TYPE}
        for layer in layers:
            blobs[layer["name"]] = {"size": layer["size"], "mediaType": layer["mediaType"]}
        images[name] = entry
