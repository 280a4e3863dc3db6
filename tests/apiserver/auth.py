"""Users, tokens and roles."""

import threading
import uuid

import errors

ANONYMOUS = "system:anonymous"
READ = ("get", "list", "watch")
ALL = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")

# (groups, resources, verbs), perhaps (…, names), as the bootstrap policy of OpenShift grants them.
_IMAGE = ("", "image.openshift.io")
_STREAM_RESOURCES = ("imagestreamimages", "imagestreammappings", "imagestreams",
                     "imagestreamtags", "imagetags")
VIEW = [
    (_IMAGE, _STREAM_RESOURCES, READ),
    (_IMAGE, ("imagestreams/status",), READ),
    (_IMAGE, ("imagestreams/layers",), ("get",)),
    (("", "project.openshift.io"), ("projects",), ("get",)),
    (("",), ("namespaces",), ("get",)),
]
EDIT = [
    (_IMAGE, _STREAM_RESOURCES + ("imagestreams/secrets",), ALL),
    (_IMAGE, ("imagestreams/status",), READ),
    (_IMAGE, ("imagestreams/layers",), ("get", "update")),
    (_IMAGE, ("imagestreamimports",), ("create",)),
    (("", "project.openshift.io"), ("projects",), ("get",)),
    (("",), ("namespaces",), ("get",)),
    (("",), ("secrets",), ALL),
]
ADMIN = EDIT + [
    (("", "project.openshift.io"), ("projects",), ("delete", "get", "patch", "update")),
]
SHARED_VIEWER = [
    (_IMAGE, ("imagestreams", "imagestreamtags", "imagetags", "imagestreamimages"), READ),
    (_IMAGE, ("imagestreams/layers",), ("get",)),
]
# What every authenticated user may do anywhere.
BASIC = [
    (("authorization.k8s.io",), ("selfsubjectaccessreviews", "selfsubjectrulesreviews"),
     ("create",)),
    (("authentication.k8s.io",), ("selfsubjectreviews",), ("create",)),
    (("", "project.openshift.io"), ("projects",), ("list", "watch")),
    (("", "project.openshift.io"), ("projectrequests",), ("create", "list")),
    (("", "authorization.openshift.io"), ("selfsubjectrulesreviews",), ("create",)),
]
CLUSTER_ADMIN = [(("*",), ("*",), ("*",))]
ROLES = {"cluster-admin": CLUSTER_ADMIN, "admin": ADMIN, "edit": EDIT, "view": VIEW,
         "none": []}

UIDS = {"admin": "u-admin", "developer": "u-dev", "viewer": "u-view", "nobody": "u-none"}
OPEN_PATHS = ("/healthz", "/livez", "/readyz", "/version")
DISCOVERY_PATHS = ("/api", "/apis", "/openapi")


def as_rules(rules):
    """A role of one's own, from rules as RBAC writes them."""
    return tuple((tuple(rule.get("apiGroups", _IMAGE)), tuple(rule["resources"]),
                  tuple(rule["verbs"]), tuple(rule.get("resourceNames", ()))) for rule in rules)


class User:
    def __init__(self, name, groups=("system:authenticated:oauth", "system:authenticated")):
        self.name = name
        self.groups = list(groups)
        self.uid = UIDS.get(name) or str(uuid.uuid5(uuid.NAMESPACE_URL, "user/" + name))

    @property
    def anonymous(self):
        return self.name == ANONYMOUS


class Auth:
    def __init__(self, wording="4"):
        self.lock = threading.Lock()
        self.wording = wording
        self.tokens = {}
        self.grants = set()  # (user, role or its rules, namespace or "")
        self.shown = set()  # those that the list of projects knows of already

    def add_user(self, name, token=None):
        """Makes sure that a user exists; gives the token."""
        with self.lock:
            for known, owner in self.tokens.items():
                if owner == name:
                    return known
            token = token or "sha256~" + name + "-" + uuid.uuid4().hex
            self.tokens[token] = name
            return token

    def set_token(self, name, token):
        """Rotates a user's token: the old one is refused from now on."""
        with self.lock:
            self.tokens = {old: owner for old, owner in self.tokens.items() if owner != name}
            self.tokens[token] = name

    def grant(self, user, role, namespace=""):
        if isinstance(role, str) and role not in ROLES:
            raise ValueError("no such role: " + role)
        with self.lock:
            self.grants = self.grants | {(user, role, namespace)}

    def revoke(self, user, role=None, namespace=None):
        """Takes grants away; None stands for any role and any namespace."""
        with self.lock:
            self.grants = {grant for grant in self.grants if not (
                grant[0] == user and role in (None, grant[1]) and namespace in (None, grant[2]))}

    def show(self, changed=None):
        """The list of projects takes note of the grants as they are now, or of these alone."""
        with self.lock:
            changed = self.grants | self.shown if changed is None else changed
            self.shown = (self.shown - changed) | (self.grants & changed)

    def drop_namespace(self, namespace):
        with self.lock:
            self.grants = {grant for grant in self.grants if grant[2] != namespace}
            self.shown = {grant for grant in self.shown if grant[2] != namespace}

    def authenticate(self, request, certificate_user):
        """The acting user; raises 401 for a token that nobody has."""
        header = request.headers.get("authorization", "")
        if header.lower().startswith("bearer "):
            name = self.tokens.get(header[7:].strip())
            if name is None:
                raise errors.unauthorized()
            user = User(name)
        elif certificate_user:
            user = User(certificate_user, ("system:authenticated",))
        else:
            user = User(ANONYMOUS, ("system:unauthenticated",))
        return self._impersonated(user, request)

    def _impersonated(self, user, request):
        name = request.headers.get("impersonate-user")
        if not name:
            return user
        self.check(user, "impersonate", "", "users", "", "", name)
        groups = [group for group in request.groups if group]
        return User(name, groups + ["system:authenticated"])

    def rules(self, user, namespace, grants=None):
        """The rules that hold for a user in a namespace ("" for cluster-wide ones only)."""
        out = []
        for name, role, where in sorted(self.grants if grants is None else grants, key=str):
            if name == user.name and where in ("", namespace):
                out += ROLES[role] if isinstance(role, str) else role
        if not user.anonymous:
            out += BASIC
            if namespace == "openshift":
                out += SHARED_VIEWER
        return [rule if len(rule) == 4 else (*rule, ()) for rule in out]

    def sees(self, user, namespace):
        """Whether a namespace is in the user's list of projects.

        Everybody may read the namespace openshift, but that doesn't make it their project.
        """
        return self._covered(self.rules(user, namespace, self.shown), "get", "", "namespaces",
                             namespace)

    def is_master(self, user):
        """Whether the user stands for somebody of system:masters, whom no role binds."""
        return (user.name, "cluster-admin", "") in self.grants

    @staticmethod
    def _covered(rules, verb, group, full, name):
        return any(
            (verb in verbs or "*" in verbs) and (group in groups or "*" in groups)
            and (full in resources or "*" in resources) and (not names or name in names)
            for groups, resources, verbs, names in rules)

    def allowed(self, user, verb, group, resource, subresource, namespace, name=""):
        if not user.anonymous and resource == "users" and name == "~" and verb == "get":
            return True
        full = resource + "/" + subresource if subresource else resource
        return self._covered(self.rules(user, namespace), verb, group, full, name)

    def check(self, user, verb, group, resource, subresource, namespace, name=""):
        if not self.allowed(user, verb, group, resource, subresource, namespace, name):
            raise self.forbidden(user, verb, group, resource, subresource, namespace, name)

    def forbidden(self, user, verb, group, resource, subresource, namespace, name):
        full = resource + "/" + subresource if subresource else resource
        scope = ('in the namespace "%s"' % namespace) if namespace else "at the cluster scope"
        if self.wording == "4":
            text = 'User "%s" cannot %s resource "%s" in API group "%s" %s' % (
                user.name, verb, full, group, scope)
        else:
            what = errors.qualified(full, group)
            text = 'User "%s" cannot %s %s %s' % (user.name, verb, what, scope)
            if self.wording == "3.7":
                place = ('in project "%s"' % namespace) if namespace else scope
                text += ': User "%s" cannot %s %s %s' % (user.name, verb, what, place)
            else:
                text += ": no RBAC policy matched"
        subject = errors.qualified(resource, group)
        if name:
            subject += " " + errors.quote(name)
        return errors.StatusError(
            403, "Forbidden", "%s is forbidden: %s" % (subject, text),
            errors.details(resource, group, name), [("X-Content-Type-Options", "nosniff")])

    def check_path(self, user, verb, path):
        """Paths that aren't resources: health for all, discovery for whoever is known."""
        if path.startswith(OPEN_PATHS):
            return
        first = "/" + path.strip("/").partition("/")[0]
        if not user.anonymous and (first in DISCOVERY_PATHS or (
                first == "/oapi" and self.wording != "4")):
            return
        if any(grant[0] == user.name and grant[1] == "cluster-admin" for grant in self.grants):
            return
        raise self.forbidden_path(user, verb, path)

    @staticmethod
    def forbidden_path(user, verb, path):
        return errors.StatusError(
            403, "Forbidden", "forbidden: User %s cannot %s path %s" % (
                errors.quote(user.name), verb, errors.quote(path)),
            {}, [("X-Content-Type-Options", "nosniff")])
