"""Discovery documents: which groups and resources there are."""

import errors
from store import encode

RW = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
TAGS = ["create", "delete", "get", "list", "patch", "update"]


def _resource(name, kind, verbs, namespaced=True, short=(), categories=(), storage=""):
    singular = "" if "/" in name else kind.lower()
    out = {"name": name, "singularName": singular, "namespaced": namespaced, "kind": kind,
           "verbs": verbs}
    if short:
        out["shortNames"] = list(short)
    if categories:
        out["categories"] = list(categories)
    if storage:
        out["storageVersionHash"] = storage
    return out


IMAGE = [
    _resource("images", "Image", RW, False, storage="FX/i8Tt+3Fc="),
    _resource("imagesignatures", "ImageSignature", ["create", "delete"], False),
    _resource("imagestreamimages", "ImageStreamImage", ["get"], short=["isimage"]),
    _resource("imagestreamimports", "ImageStreamImport", ["create"]),
    _resource("imagestreammappings", "ImageStreamMapping", ["create"]),
    _resource("imagestreams", "ImageStream", RW, short=["is"], categories=["all"],
              storage="mwmf9lCqOiA="),
    _resource("imagestreams/layers", "ImageStreamLayers", ["get"]),
    _resource("imagestreams/secrets", "SecretList", ["get"]),
    _resource("imagestreams/status", "ImageStream", ["get", "patch", "update"]),
    _resource("imagestreamtags", "ImageStreamTag", TAGS, short=["istag"]),
    _resource("imagetags", "ImageTag", TAGS, short=["itag"]),
]
PROJECT = [
    _resource("projectrequests", "ProjectRequest", ["create", "list"], False),
    _resource("projects", "Project",
              ["create", "delete", "get", "list", "patch", "update", "watch"], False),
]
USER = [_resource("users", "User", ["get"], False)]
RULES_REVIEW = [_resource("selfsubjectrulesreviews", "SelfSubjectRulesReview", ["create"])]
AUTHORIZATION = [
    _resource("selfsubjectaccessreviews", "SelfSubjectAccessReview", ["create"], False),
    _resource("selfsubjectrulesreviews", "SelfSubjectRulesReview", ["create"], False),
]
AUTHENTICATION = [_resource("selfsubjectreviews", "SelfSubjectReview", ["create"], False)]
CORE = [
    _resource("namespaces", "Namespace",
              ["create", "delete", "get", "list", "patch", "update", "watch"], False,
              short=["ns"], storage="Q3oi5N2YM8M="),
    _resource("secrets", "Secret", RW),
]


class Discovery:
    def __init__(self, options):
        self.options = options
        drop = set(options.missing_resources)
        groups = [("authentication.k8s.io", AUTHENTICATION),
                  ("authorization.k8s.io", AUTHORIZATION),
                  ("authorization.openshift.io", RULES_REVIEW), ("image.openshift.io", IMAGE),
                  ("project.openshift.io", PROJECT), ("user.openshift.io", USER)]
        self.groups = {
            name: [self._plain(one) for one in resources
                   if one["name"] not in drop and name + "/" + one["name"] not in drop]
            for name, resources in groups}
        self.groups = {name: resources for name, resources in self.groups.items() if resources}
        self.legacy = [one for name in ("image.openshift.io", "project.openshift.io",
                                        "user.openshift.io", "authorization.openshift.io")
                       for one in self.groups.get(name, ()) if one["name"] != "imagetags"]
        self.core = [self._plain(one) for one in CORE]

    def _plain(self, resource):
        if self.options.storage_hashes:
            return resource
        return {key: value for key, value in resource.items() if key != "storageVersionHash"}

    def find(self, group, name):
        """The entry of a resource ("imagestreams/status"), or None."""
        for one in self.core if not group else self.groups.get(group, ()):
            if one["name"] == name:
                return one
        return None

    def answer(self, path, accept, aggregate_ok):
        """The document at a path; None if there is none."""
        parts = path.strip("/").split("/")
        if path.rstrip("/") == "/apis":
            if aggregate_ok and "as=APIGroupDiscoveryList" in accept:
                return self.aggregated(accept)
            return {"kind": "APIGroupList", "apiVersion": "v1",
                    "groups": [self._group(name) for name in self.groups]}
        if path.rstrip("/") in ("/api", "/oapi"):
            if path.startswith("/oapi") and not self.options.oapi:
                return None
            if path.startswith("/api") and aggregate_ok and "as=APIGroupDiscoveryList" in accept:
                return self.aggregated(accept, core=True)
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [
                {"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1"}]}
        if parts == ["api", "v1"]:
            return self._resources("v1", self.core)
        if parts == ["oapi", "v1"] and self.options.oapi:
            return self._resources("v1", self.legacy)
        if parts[0] == "apis" and len(parts) >= 2 and parts[1] in self.groups:
            if len(parts) == 2:
                return {"kind": "APIGroup", "apiVersion": "v1", **self._group(parts[1])}
            if len(parts) == 3 and parts[2] == "v1":
                return self._resources(parts[1] + "/v1", self.groups[parts[1]])
        return None

    @staticmethod
    def _group(name):
        version = {"groupVersion": name + "/v1", "version": "v1"}
        return {"name": name, "versions": [version], "preferredVersion": version}

    @staticmethod
    def _resources(group_version, resources):
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
                "resources": resources}

    def aggregated(self, accept, core=False):
        version = "v2" if "v=v2;" in accept + ";" or "v=v2," in accept else "v2beta1"
        groups = {"": self.core} if core else self.groups
        return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/" + version,
                "metadata": {}, "items": [
                    {"metadata": {"name": name} if name else {}, "versions": [
                        {"version": "v1", "resources": self._nested(resources),
                         "freshness": "Current"}]}
                    for name, resources in groups.items()]}

    @staticmethod
    def _nested(resources):
        out = {}
        for one in resources:
            name, _, sub = one["name"].partition("/")
            kind = {"group": "", "version": "", "kind": one["kind"]}
            if sub:
                out[name].setdefault("subresources", []).append(
                    {"subresource": sub, "responseKind": kind, "verbs": one["verbs"]})
                continue
            out[name] = {"resource": name, "responseKind": kind,
                         "scope": "Namespaced" if one["namespaced"] else "Cluster",
                         "singularResource": one["singularName"], "verbs": one["verbs"]}
            for key in ("shortNames", "categories"):
                if key in one:
                    out[name][key] = one[key]
        return list(out.values())


VERSIONS = {
    "4": {"major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
          "minCompatibilityMajor": "1", "minCompatibilityMinor": "35", "gitVersion": "v1.36.2",
          "gitCommit": "98b35193b2ac7a23a673325f5e9b830ecd5ba406", "gitTreeState": "clean",
          "buildDate": "1970-01-01T00:00:00Z", "goVersion": "go1.26.10", "compiler": "gc",
          "platform": "linux/amd64"},
    "3.11": {"major": "1", "minor": "11+", "gitVersion": "v1.11.0+d4cacc0",
             "gitCommit": "d4cacc0", "gitTreeState": "clean",
             "buildDate": "2018-10-10T16:38:01Z", "goVersion": "go1.10.2", "compiler": "gc",
             "platform": "linux/amd64"},
    "3.7": {"major": "1", "minor": "7", "gitVersion": "v1.7.6+a08f5eeb62",
            "gitCommit": "c84beff", "gitTreeState": "clean",
            "buildDate": "2017-11-29T03:22:05Z", "goVersion": "go1.8.3", "compiler": "gc",
            "platform": "linux/amd64"},
}
OPENSHIFT_VERSIONS = {
    "3.11": {"major": "3", "minor": "11+", "gitVersion": "v3.11.0", "gitCommit": "0cbc58b"},
    "3.7": {"major": "3", "minor": "7", "gitVersion": "v3.7.0", "gitCommit": "7ed6862"},
}

READY_CHECKS = (
    "ping", "log", "api-openshift-apiserver-available", "api-openshift-oauth-apiserver-available",
    "informer-sync", "poststarthook/openshift.io-startkubeinformers",
    "poststarthook/openshift.io-openshift-apiserver-reachable",
    "poststarthook/openshift.io-oauth-apiserver-reachable",
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/priority-and-fairness-config-consumer",
    "poststarthook/priority-and-fairness-filter",
    "poststarthook/storage-object-count-tracker-hook",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers", "poststarthook/crd-informer-synced",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/peer-endpoint-reconciler-controller",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-kube-apiserver-identity-lease-controller",
    "poststarthook/start-kube-apiserver-identity-lease-garbage-collector",
    "poststarthook/storage-readiness", "poststarthook/start-legacy-token-tracking-controller",
    "poststarthook/start-service-ip-repair-controllers", "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer", "poststarthook/bootstrap-controller",
    "poststarthook/start-kubernetes-service-cidr-controller",
    "poststarthook/aggregator-reload-proxy-client-cert",
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-wait-for-first-sync",
    "poststarthook/apiservice-discovery-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion", "poststarthook/apiservice-openapi-controller",
    "poststarthook/apiservice-openapiv3-controller", "shutdown")


def health(path, verbose):
    """Text of /healthz, /livez and /readyz."""
    if not verbose:
        return "ok"
    lines = ["[+]%s ok" % check for check in READY_CHECKS]
    return "\n".join(lines + ["%s check passed" % path.strip("/"), ""])


def version(path, flavor):
    if path == "/version":
        return encode(VERSIONS[flavor])
    if path == "/version/openshift" and flavor in OPENSHIFT_VERSIONS:
        return encode(OPENSHIFT_VERSIONS[flavor])
    raise errors.no_such_path()
