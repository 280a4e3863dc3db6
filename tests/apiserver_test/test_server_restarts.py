"""Restarts phase by phase, lost rights, replicas: what the timelines of the recordings say."""

import json
import threading
import time

import pytest

from apiclient import until

pytestmark = pytest.mark.xdist_group("server-restarts")  # one server, which each test leaves in some state

IMAGES = "/apis/image.openshift.io/v1"
DEV = IMAGES + "/namespaces/dev/imagestreams"
PROJECTS = "/apis/project.openshift.io/v1/projects"
REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
FLOW = "X-Kubernetes-Pf-Flowschema-Uid"
FAST = 0.1


@pytest.fixture(scope="module")
def server(start_server):
    server = start_server("--sample", "--project-delay", "0.5")
    server.control("bulk", [{"op": "create", "namespace": "dev", "name": "app",
                             "object": stream()}])
    return server


def stream():
    return {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1", "metadata": {}}


def over(server):
    try:
        return server.control("state")["restart"]["over"]
    except OSError:
        return False


def stop_in(server, phase, style, **more):
    """Begins a restart that stays in a phase."""
    server.control("restart", {"style": style, "factor": FAST, "stop": phase, **more})

    def there():
        try:
            return server.control("state")["restart"]["phase"] == phase
        except OSError:
            return False
    until(there)


def go_on(server):
    server.control("restart", {"go": True})
    until(lambda: over(server))


class Stopped:
    def __init__(self, server, phase, style, **more):
        self.server, self.arguments = server, (phase, style)
        self.more = more

    def __enter__(self):
        stop_in(self.server, *self.arguments, **self.more)

    def __exit__(self, *_):
        go_on(self.server)


def ask(server, path, user="developer", method="GET", body=None):
    """(status, message or text, headers)"""
    headers = server.headers(user, Content_Type="application/json")
    status, answer, data = server.exchange(
        method, path, None if body is None else json.dumps(body), headers)
    try:
        value = json.loads(data)
    except ValueError:
        return status, data.decode(), answer
    return status, value.get("message", value), answer


def may_list(server, user="developer"):
    body = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": {
        "resourceAttributes": {"namespace": "dev", "verb": "list", "group": "image.openshift.io",
                               "resource": "imagestreams"}}}
    status, value, headers = ask(server, REVIEW, user, "POST", body)
    return (status, value["status"]["allowed"]) if status == 201 else (status, value)


def asking(server, *arguments):
    """Asks in a thread of its own, which ends when there is an answer; join gives it."""
    thread = threading.Thread(target=lambda: thread.answers.append(ask(server, *arguments)))
    thread.answers = []
    thread.start()
    return thread


def text_is(answer, status, text):
    assert (answer[0], answer[1]) == (status, text)
    assert answer[2]["Content-Type"] == "text/plain; charset=utf-8"
    assert answer[2].get_all("Cache-Control") == ["no-cache, private"]


def version(server):
    return server.call("GET", DEV)[1]["metadata"]["resourceVersion"]


# style aggregated


def test_aggregated_is_away(server):
    watch = server.watch(DEV + "?watch=true&resourceVersion=" + version(server), "developer")
    with Stopped(server, "unreachable", "aggregated"):
        assert watch.line() is None, "the watch should end as it ought to"
        for path in (DEV, PROJECTS, IMAGES):
            text_is(ask(server, path), 503, "error trying to reach service: dial tcp "
                    "10.0.0.5:8443: connect: connection refused\n")
        assert ask(server, "/apis/image.openshift.io")[0] == 200
        assert ask(server, "/version")[0] == ask(server, "/readyz")[0] == 200
        assert ask(server, "/api/v1/namespaces/dev")[0] == 200
        assert may_list(server) == (201, True)
    watch.close()


def test_aggregated_is_killed(server):
    with Stopped(server, "killed", "aggregated"):
        texts = {ask(server, DEV)[1] for _ in range(6)}
    assert len(texts) == 4 and all(
        text.startswith("error trying to reach service: ") for text in texts)


def test_aggregated_knows_nobody(server):
    with Stopped(server, "anonymous", "aggregated"):
        for user in ("developer", "admin"):
            status, message, headers = ask(server, DEV, user)
            assert status == 403 and message.startswith(
                'imagestreams.image.openshift.io is forbidden: User "system:anonymous" cannot list')
            assert headers[FLOW] and len(headers.get_all("Cache-Control")) == 2
            assert ask(server, IMAGES, user)[1] == (
                'forbidden: User "system:anonymous" cannot get path "/apis/image.openshift.io/v1"')
            assert ask(server, PROJECTS, user)[0] == 403
            assert may_list(server, user) == (201, True)


def test_what_waits_for_aggregated_is_refused(server):
    stop_in(server, "starting", "aggregated")
    waiting = asking(server, DEV)
    until(lambda: sum(request["path"] == DEV and request["status"] is None
                      for request in server.control("requests")["requests"]) == 1)
    go_on(server)
    waiting.join()
    assert waiting.answers[0][0] == 403 and "system:anonymous" in waiting.answers[0][1]


def test_aggregated_has_no_projects(server):
    before = version(server)
    assert len(server.call("GET", PROJECTS, user="developer")[1]["items"]) == 2
    with Stopped(server, "no projects", "aggregated"):
        for user in ("developer", "admin"):
            status, found = server.call("GET", PROJECTS, user=user)
            assert (status, found["items"], found["metadata"]) == (200, [], {})
        assert server.call("GET", PROJECTS + "/dev", user="developer")[0] == 200
        assert server.call("GET", "/api/v1/namespaces/dev", user="developer")[0] == 200
        assert server.call("GET", DEV, user="developer")[1]["items"]
        watch = server.watch(DEV + "?watch=true&resourceVersion=" + before, "developer")
        event = watch.event()
        assert event["object"]["code"] == 410
        assert event["object"]["message"].startswith("too old resource version: ")
        watch.close()
        projects = server.watch(PROJECTS + "?watch=true&resourceVersion=0", "developer")
    assert sorted((event["type"], event["object"]["metadata"]["name"]) for event in (
        projects.event(), projects.event())) == [("ADDED", "dev"), ("ADDED", "prod")]
    projects.close()
    assert len(server.call("GET", PROJECTS, user="developer")[1]["items"]) == 2


def test_aggregated_is_away_for_long(server):
    with Stopped(server, "unavailable", "aggregated", noticed=True):
        for path in (DEV, PROJECTS, IMAGES):
            text_is(ask(server, path), 503, "service unavailable\n")
    with Stopped(server, "projects first", "aggregated", noticed=True):
        text_is(ask(server, DEV), 503, "service unavailable\n")
        assert server.call("GET", PROJECTS, user="developer")[1]["items"] == []


# style main

REFUSED = ('imagestreams.image.openshift.io is forbidden: User "developer" cannot list resource '
           '"imagestreams" in API group "image.openshift.io" in the namespace "dev"')
NO_PATHS = ("the request has been made before all known HTTP paths have been installed, please try "
            "again")


def no_paths(answer):
    status, message, headers = answer
    assert (status, message) == (503, NO_PATHS)
    assert headers["Retry-After"] == "5" and headers[FLOW] == ""
    assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("phase", ["no rights", "no roles"])
def test_main_refuses_all(server, phase):
    with Stopped(server, phase, "main"):
        suffix = "" if phase == "no rights" else ": RBAC: [clusterrole."
        for path, text in ((DEV, REFUSED), (PROJECTS, None), (IMAGES, None), (
                "/version", 'forbidden: User "developer" cannot get path "/version"'),
                ("/readyz", None), ("/apis", None), ("/api/v1/namespaces/dev", None)):
            status, message, headers = ask(server, path)
            assert status == 403 and headers[FLOW] == ""
            assert 'User "developer" cannot' in message and suffix in message
            assert text is None or message.startswith(text) and (suffix or message == text)
            assert headers.get_all("Cache-Control") == ["no-cache, private"]
        assert may_list(server)[0] == 403
        no_paths(ask(server, DEV, "admin"))
        no_paths(ask(server, "/apis/image.openshift.io", "admin"))
        assert len(ask(server, "/apis", "admin")[1]["groups"]) == 1
        assert ask(server, "/version", "admin")[0] == 200
        assert ask(server, "/readyz", "admin")[0] == 500
        review = threading.Thread(target=lambda: may_list(server, "admin"))
        review.start()
    review.join()


def test_main_has_no_paths(server):
    with Stopped(server, "no paths", "main"):
        for user in ("developer", "admin"):
            no_paths(ask(server, DEV, user))
            no_paths(ask(server, PROJECTS, user))
            assert may_list(server, user) == (201, True)
    with Stopped(server, "not ready", "main"):
        assert ask(server, DEV)[0] == ask(server, PROJECTS)[0] == 200
        status, text, headers = ask(server, "/readyz")
        assert status == 500 and text.endswith("readyz check failed\n") and headers[FLOW] == ""


def test_main_goes_and_comes(server):
    """Its watches end as they ought to; what was seen before is still current."""
    before = version(server)
    watch = server.watch(DEV + "?watch=true&resourceVersion=" + before)
    server.control("restart", {"style": "main", "factor": 3})
    assert watch.line() is None
    watch.close()

    def refused():
        try:
            server.connect().connect()
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return over(server)
    until(refused)
    assert not over(server)
    until(lambda: over(server), 30)
    watch = server.watch(DEV + "?watch=true&resourceVersion=" + before)
    server.control("bulk", [{"op": "touch-label", "namespace": "dev", "name": "app"}])
    assert watch.event()["type"] == "MODIFIED"
    watch.close()


# style etcd


@pytest.mark.parametrize("kind", ["frozen", "killed"])
def test_etcd_is_silent(server, kind):
    now = version(server)
    watch = server.watch(DEV + "?watch=true&resourceVersion=" + now, "developer")
    change = {"metadata": {"labels": {kind: "yes"}}}
    stop_in(server, kind, "etcd", kind=kind)
    hanging = [asking(server, path) for path in (
        DEV, DEV + "/app", "/api/v1/namespaces/dev", IMAGES + "/namespaces/dev/imagetags")]
    hanging.append(asking(server, DEV + "/app/status", "admin", "PUT", {}))
    for path in (DEV + "?resourceVersion=0", PROJECTS, IMAGES, "/version", "/readyz"):
        assert ask(server, path)[0] == 200
    assert may_list(server) == (201, True)
    other = server.watch(DEV + "?watch=true&resourceVersion=" + now, "developer")
    assert other.status == 200
    until(lambda: sum(request["status"] is None and "watch" not in request["query"]
                      for request in server.control("requests")["requests"]) == len(hanging))
    assert not any(thread.answers for thread in hanging)
    go_on(server)
    for thread in hanging:
        thread.join()
    assert [thread.answers[0][0] for thread in hanging[:4]] == [200] * 4
    assert hanging[4].answers[0][0] in (400, 422)
    assert server.call("PATCH", DEV + "/app", change,
                       Content_Type="application/merge-patch+json")[0] == 200
    assert watch.event()["type"] == other.event()["type"] == "MODIFIED"
    watch.close()
    other.close()


# style rollback


def test_rollback(start_server):
    server = start_server("--sample")
    shop = IMAGES + "/namespaces/shop/imagestreams"
    server.control("bulk", [{"op": "touch-label", "namespace": "shop", "name": "web"}])
    saved = server.control("snapshot", {})
    before = {item["metadata"]["name"]: item["metadata"]
              for item in server.call("GET", shop)[1]["items"]}
    server.control("bulk", [{"op": "delete", "namespace": "shop", "name": "api"},
                            {"op": "touch-label", "namespace": "shop", "name": "web"},
                            {"op": "create", "namespace": "shop", "name": "fresh",
                             "object": stream()}])
    for uids in ("kept", "new"):
        server.control("restart", {"style": "rollback", "uids": uids, "factor": FAST})
        until(lambda: over(server))
        found = server.call("GET", shop)[1]
        assert found["metadata"]["resourceVersion"] == saved["resourceVersion"]
        after = {item["metadata"]["name"]: item["metadata"] for item in found["items"]}
        assert after.keys() == before.keys()
        for name, meta in after.items():
            assert meta["resourceVersion"] == before[name]["resourceVersion"]
            assert (meta["uid"] == before[name]["uid"]) == (uids == "kept")
        server.control("bulk", [{"op": "touch-label", "namespace": "shop", "name": "web"}])


def test_one_restart_at_a_time(server):
    with Stopped(server, "starting", "aggregated"):
        status, _ = server.call("POST", "/_control/restart", {"style": "main"}, user=None)
        assert status == 400
    assert server.call("POST", "/_control/restart", {"style": "x"}, user=None)[0] == 400
    assert over(server)


# Rights.


def names(server, user="developer"):
    return [item["metadata"]["name"]
            for item in server.call("GET", PROJECTS, user=user)[1]["items"]]


def test_a_lost_right(server):
    watch = server.watch(DEV + "?watch=true&resourceVersion=" + version(server), "developer")
    projects = server.watch(PROJECTS + "?watch=true", "developer")
    until(lambda: server.watches() >= 2)
    began = time.monotonic()
    server.control("revoke", {"user": "developer", "namespace": "dev"})
    assert ask(server, DEV)[0] == 403 and may_list(server) == (201, False)
    assert ask(server, PROJECTS + "/dev")[0] == 403
    if time.monotonic() - began < 0.4:
        assert names(server) == ["dev", "prod"]
    server.control("bulk", [{"op": "touch-label", "namespace": "dev", "name": "app"}])
    assert watch.event()["type"] == "MODIFIED"
    event = projects.event()
    assert (event["type"], event["object"]["metadata"]) == ("DELETED", {"name": "dev"})
    assert time.monotonic() - began >= 0.5
    assert names(server) == ["prod"]
    server.control("grant", {"user": "developer", "namespace": "dev", "role": "edit"})
    event = projects.event()
    assert event["type"] == "ADDED" and event["object"]["metadata"]["uid"]
    assert names(server) == ["dev", "prod"]
    server.control("bulk", [{"op": "touch-label", "namespace": "dev", "name": "app"}])
    assert watch.event()["type"] == "MODIFIED"
    watch.close()
    projects.close()


def test_a_right_that_is_back_at_once(server):
    server.control("revoke", {"user": "developer", "namespace": "dev"})
    server.control("grant", {"user": "developer", "namespace": "dev", "role": "edit"})
    time.sleep(0.6)
    assert names(server) == ["dev", "prod"]


# Replicas.

LAG = 1


@pytest.fixture(scope="module")
def replicas(start_server):
    server = start_server("--sample", "--replicas", "3", "--lag", str(LAG))
    server.control("bulk", [{"op": "create", "namespace": "dev", "name": "app",
                             "object": stream()}])
    return server


def on(server, connection, path):
    return json.loads(server.exchange("GET", path, None, server.headers(), connection)[2])


def test_replicas_lag_behind(replicas):
    """The last one by all of it, one in between by half; none where it matters."""
    connections = [replicas.connect() for _ in range(3)]
    for one in connections:
        one.connect()
    time.sleep(LAG)
    for _ in range(20):
        began = time.monotonic()
        changed = replicas.control("bulk", [{"op": "touch-label", "namespace": "dev",
                                             "name": "app"}])["resourceVersion"]
        fresh = [on(replicas, one, DEV)["metadata"]["resourceVersion"] for one in connections]
        one = [on(replicas, one, DEV + "/app")["metadata"]["resourceVersion"]
               for one in connections]
        cached = [on(replicas, one, DEV + "?resourceVersion=0") for one in connections]
        if time.monotonic() - began < LAG / 2:
            break
    assert fresh == one == [changed] * 3
    current = [answer["metadata"]["resourceVersion"] == changed for answer in cached]
    assert sorted(current) == [False, False, True]
    for answer in cached:
        assert int(answer["items"][0]["metadata"]["resourceVersion"]) <= \
            int(answer["metadata"]["resourceVersion"])
    patient = [on(replicas, one, DEV + "?resourceVersion=" + changed) for one in connections]
    assert [answer["metadata"]["resourceVersion"] for answer in patient] == [changed] * 3
    assert time.monotonic() - began >= LAG


def test_watches_of_replicas(replicas):
    """Each tells of every change once, whatever version it begins at."""
    time.sleep(LAG)
    began = version(replicas)
    touch = [{"op": "touch-label", "namespace": "dev", "name": "app"}]
    replicas.control("bulk", touch)
    middle = version(replicas)
    watches = [(start, replicas.watch("%s?watch=true&resourceVersion=%s" % (DEV, start)))
               for start in [began] * 3 + [middle] * 3]
    replicas.control("bulk", touch)
    last = version(replicas)
    for start, watch in watches:
        seen = [watch.event()["object"]["metadata"]["resourceVersion"]
                for _ in range(2 if start == began else 1)]
        assert seen == [middle, last][2 - len(seen):]
        watch.close()
