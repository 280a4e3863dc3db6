"""What happened during each recorded watch, to be done again: name -> function(server).

before runs before the watch is opened, during after it. A watch that is in neither needs nothing.
"""

import transcript

GROUP = "/apis/image.openshift.io/v1"
DEV = GROUP + "/namespaces/dev/imagestreams"
PROJECTS = "/apis/project.openshift.io/v1"
IMAGE = {"kind": "DockerImage", "name": "registry.example.test/app/img:1.0"}


def post(server, name, user="admin", **meta):
    value = {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
             "metadata": {"name": name, **meta}}
    expect(server.call("POST", DEV, value, user), 201)


def merge(server, path, value):
    expect(server.call("PATCH", path, value, Content_Type="application/merge-patch+json"), 200)


def delete(server, path):
    expect(server.call("DELETE", path), 200)


def expect(answer, status):
    assert answer[0] == status, answer


def basic(server):
    post(server, "w1", labels={"a": "1"})
    merge(server, DEV + "/w1", {"metadata": {"labels": {"b": "2"}}})
    merge(server, DEV + "/w1", {"spec": {"tags": [{"name": "x", "from": IMAGE}]}})
    merge(server, DEV + "/w1", {"metadata": {"labels": {"b": "2"}}})
    delete(server, DEV + "/w1")


def by_name(server):
    post(server, "sel")
    post(server, "other")
    merge(server, DEV + "/sel", {"metadata": {"labels": {"q": "1"}}})
    delete(server, DEV + "/sel")


def by_label(server):
    post(server, "lab")
    merge(server, DEV + "/lab", {"metadata": {"labels": {"k": "v"}}})
    merge(server, DEV + "/lab", {"metadata": {"labels": None}})
    delete(server, DEV + "/lab")


def finalizer(server):
    delete(server, DEV + "/fin")
    merge(server, DEV + "/fin", {"spec": {"tags": [{"name": "late", "from": IMAGE}]}})
    merge(server, DEV + "/fin", {"metadata": {"finalizers": None}})


def collection(server):
    delete(server, DEV + "?labelSelector=tier%3Ddb")


def stream_tag(server):
    delete(server, GROUP + "/namespaces/dev/imagestreamtags/app:both")


def one_more(server):
    post(server, "c9")


def relabel(server):
    for name in ("c0", "c1", "c2"):
        merge(server, "%s/%s" % (DEV, name), {"metadata": {"labels": {"n": "x"}}})


def status_update(server):
    status, obj = server.call("GET", DEV + "/s0")
    obj["status"]["tags"] = [event["object"] for event in
                             recorded_events("83-watch-status-update")][-1]["status"]["tags"]
    expect(server.call("PUT", DEV + "/s0/status", obj), 200)


def recorded_events(name):
    import json
    return [json.loads(line) for line in transcript.load_all()[name].events]


def session(server):
    """The whole session of a6, its objects stored as they were recorded."""
    for event in recorded_events("a6-watch-of-the-whole-session"):
        meta = event["object"]["metadata"]
        op = {"ADDED": "create", "MODIFIED": "replace", "DELETED": "delete"}[event["type"]]
        server.control("bulk", [{"op": op, "namespace": meta["namespace"], "name": meta["name"],
                                 "object": event["object"]}])


def import_post(server):
    one = transcript.load_all()["d0-controller-post"]
    expect(server.call("POST", DEV, one.request_json(), "developer"), 201)


def import_tag(server):
    status, obj = server.call("GET", DEV + "/imp")
    obj["spec"]["tags"].append({
        "name": "2.0", "importPolicy": {"insecure": True},
        "from": {"kind": "DockerImage", "name": "127.0.0.1:15000/demo/app:2.0"}})
    expect(server.call("PUT", DEV + "/imp", obj, "developer"), 200)


def compact(server):
    server.control("compact", {})


def drop(server):
    server.control("drop", {"clean": True})


def project_request(server, name, user="developer", **more):
    expect(server.call("POST", PROJECTS + "/projectrequests", {
        "kind": "ProjectRequest", "apiVersion": "project.openshift.io/v1",
        "metadata": {"name": name}, **more}, user), 201)


def delete_project(server, name, user="developer"):
    expect(server.call("DELETE", PROJECTS + "/projects/" + name, user=user), 200)


def two_projects(server):
    project_request(server, "mine", displayName="My project", description="d")
    project_request(server, "mine2", "nobody")
    delete_project(server, "mine")


def delete_mine(server):
    delete_project(server, "mine")


def project_comes_and_goes(name):
    def run(server):
        project_request(server, name)
        delete_project(server, name)
    return run


BEFORE = {
    "80-watch-replay-from-old-rv": basic,
    "c0-watch-old-rv-after-compaction": relabel,
    "c1-watch-from-latest-rv-before-restart": compact,
    "c1-watch-from-rv-before-restart-and-compaction": compact,
    "81-watch-rv1-too-old": compact,
}
DURING = {
    "80-watch-basic": basic,
    "83-watch-fieldSelector-name": by_name,
    "83-watch-labelSelector": by_label,
    "83-watch-status-update": status_update,
    "91-finalizer-watch": finalizer,
    "93-deletecollection-watch": collection,
    "a2-DELETE-istag-watch": stream_tag,
    "a6-watch-of-the-whole-session": session,
    "b2-watch-in-deleted-namespace": delete_mine,
    "b3-project-watch-admin": two_projects,
    "b3-project-watch-dev": two_projects,
    "c0-open-watch-survives-compaction": lambda server: (compact(server), one_more(server)),
    "c1-watch-when-aggregated-apiserver-gets-SIGTERM": drop,
    "c2-watch-when-aggregated-apiserver-is-killed-9": drop,
    "c3-watch-when-kube-apiserver-gets-SIGTERM": drop,
    "c5-project-watch-no-rv": project_comes_and_goes("pw0"),
    "c5-project-watch-rv0": project_comes_and_goes("pw18"),
    "d0-watch": import_post,
    "d1-watch": import_tag,
}
