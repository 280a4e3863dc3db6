"""The registry that images are imported from: made up, so that everything follows from a name."""

import hashlib
import re

import errors
import reference
from store import new_uid, now

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
LIST_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"
ARCHITECTURES = ("amd64", "arm64")


def digest(text):
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def made_up(name, docker_reference, created, architecture="amd64"):
    """The image of a digest."""
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
            "Architecture": architecture, "Size": size + 300},
        "dockerImageMetadataVersion": "1.0",
        "dockerImageLayers": [{"name": layer, "size": size, "mediaType": LAYER_TYPE}],
        "dockerImageManifestMediaType": MANIFEST_TYPE,
    }


def made_up_list(name, docker_reference, created):
    """The image of a manifest list, which has no layers of its own."""
    return {
        "metadata": {"name": name, "uid": new_uid(), "resourceVersion": "1",
                     "creationTimestamp": created},
        "dockerImageReference": docker_reference,
        "dockerImageMetadata": {
            "kind": "DockerImage", "apiVersion": "image.openshift.io/1.0", "Id": name,
            "Created": created, "ContainerConfig": {}},
        "dockerImageMetadataVersion": "1.0",
        "dockerImageManifestMediaType": LIST_TYPE,
        "dockerImageManifests": [
            {"digest": child_digest(name, architecture), "mediaType": MANIFEST_TYPE,
             "manifestSize": 440, "architecture": architecture, "os": "linux"}
            for architecture in ARCHITECTURES],
    }


def child_digest(name, architecture):
    return digest("%s of %s" % (architecture, name))


def children(image):
    """The images that a manifest list names."""
    repository = image["dockerImageReference"].partition("@")[0]
    created = image["metadata"]["creationTimestamp"]
    return [made_up(one["digest"], "%s@%s" % (repository, one["digest"]), created,
                    one["architecture"]) for one in image.get("dockerImageManifests", ())]


class Importer:
    """Which images there are, which imports fail, and how long one takes.

    fail, unreachable, plain and lists are patterns of references: of what isn't there, of
    registries that can't be reached, of those that speak plain http, of manifest lists.
    """

    PATTERNS = ("fail", "unreachable", "plain", "lists")

    def __init__(self, delay=0.08, **patterns):
        self.delay = delay
        for name in self.PATTERNS:
            self.set(name, patterns.get(name, ""))

    def set(self, name, pattern):
        """Raises re.error for a bad pattern; the empty one fits nothing."""
        setattr(self, name, re.compile(pattern) if pattern else None)

    def pattern(self, name):
        got = getattr(self, name)
        return got.pattern if got else ""

    def matches(self, pattern, name):
        found = getattr(self, pattern)
        return found is not None and found.search(name) is not None

    def fetch(self, name, policy=None):
        """(the image of a reference, the images that it names if it is a manifest list); raises
        StatusError if it can't be had, ValueError if the reference is none."""
        policy = policy or {}
        self.check(name, policy)
        parsed = reference.parse(name)
        own, created = parsed.digest or digest(name), now()
        if not self.matches("lists", name):
            return made_up(own, parsed.by_digest(own), created), []
        whole = made_up_list(own, parsed.by_digest(own), created)
        parts = children(whole)
        return (whole, parts) if policy.get("importMode") == "PreserveOriginal" else (parts[0], [])

    def check(self, name, policy):
        if self.matches("fail", name):
            raise errors.StatusError(404, "NotFound", "dockerimage.%s %s not found" % (
                errors.IMAGE_GROUP, errors.quote(name)), {
                    "name": name, "group": errors.IMAGE_GROUP, "kind": "dockerimage"})
        host = name.partition("/")[0]
        if self.matches("unreachable", name):
            raise internal(name, "dial tcp %s: connect: connection refused" % host)
        if self.matches("plain", name) and not policy.get("insecure"):
            raise internal(name, "http: server gave HTTP response to HTTPS client")


def internal(name, why):
    return errors.StatusError(500, "InternalError", (
        'Internal error occurred: %s: Get "https://%s/v2/": %s' % (
            name, name.partition("/")[0], why)))
