"""Who am I and what may I do: the access reviews, and users/~."""

import errors
from store import now


def self_subject(user):
    info = {"username": user.name, "uid": user.uid, "groups": user.groups}
    return {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"creationTimestamp": now()}, "status": {"userInfo": info}}


def fields_of(value):
    """managedFields' form of the keys of a value."""
    return {"f:" + key: {".": {}, **fields_of(one)} if isinstance(one, dict) else {}
            for key, one in sorted(value.items())}


def self_access(auth, user, body, manager=""):
    """The answer has managedFields if it is told whose they are."""
    spec = body.get("spec") or {}
    asked = spec.get("resourceAttributes")
    if asked is not None:
        allowed = auth.allowed(
            user, asked.get("verb", ""), asked.get("group", ""), asked.get("resource", ""),
            asked.get("subresource", ""), asked.get("namespace", ""), asked.get("name", ""))
    else:
        asked = spec.get("nonResourceAttributes") or {}
        allowed = _path_allowed(auth, user, asked)
    status = {"allowed": allowed}
    if allowed:
        status["reason"] = "RBAC: allowed by ClusterRoleBinding or RoleBinding"
    meta = {"managedFields": [{
        "manager": manager, "operation": "Update", "apiVersion": "authorization.k8s.io/v1",
        "time": now(), "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": fields_of(spec)}}]}
    return {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
            "metadata": meta if manager else {}, "spec": spec, "status": status}


def _path_allowed(auth, user, asked):
    try:
        auth.check_path(user, asked.get("verb", ""), asked.get("path", ""))
    except errors.StatusError:
        return False
    return True


def _rules(auth, user, namespace):
    return [{"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources), **(
        {"resourceNames": list(names)} if names else {})}
            for groups, resources, verbs, names in auth.rules(user, namespace)]


def self_rules(auth, user, body):
    """The review of authorization.k8s.io."""
    namespace = (body.get("spec") or {}).get("namespace", "")
    paths = [{"verbs": ["get"], "nonResourceURLs": [
        "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*",
        "/readyz", "/version", "/version/"]}]
    return {"kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1",
            "metadata": {}, "spec": {}, "status": {
                "resourceRules": _rules(auth, user, namespace), "nonResourceRules": paths,
                "incomplete": False}}


def openshift_rules(auth, user, namespace, body, api_version):
    """OpenShift's own review; the namespace is that of the path."""
    rules = [{"verbs": rule["verbs"], "attributeRestrictions": None,
              "apiGroups": rule["apiGroups"], "resources": rule["resources"], **(
                  {"resourceNames": rule["resourceNames"]} if "resourceNames" in rule else {})}
             for rule in _rules(auth, user, namespace)]
    scopes = (body.get("spec") or {}).get("scopes")
    return {"kind": "SelfSubjectRulesReview", "apiVersion": api_version,
            "spec": {"scopes": scopes}, "status": {"rules": rules}}


def whoami(user, api_version):
    return {"kind": "User", "apiVersion": api_version,
            "metadata": {"name": user.name, "uid": user.uid, "creationTimestamp": now()},
            "identities": None, "groups": user.groups}
