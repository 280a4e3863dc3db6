"""What tests lean on: the control calls, faults, bursts, and the flavors of the server."""

import base64
import gzip
import http.client
import json
import os
import socket
import ssl
import threading
import time

import pytest

from apiclient import until

pytestmark = pytest.mark.xdist_group("control")  # one server, which each test leaves in some state

GROUP = "/apis/image.openshift.io/v1"
SHOP = GROUP + "/namespaces/shop/imagestreams"


@pytest.fixture(scope="module")
def server(start_server):
    return start_server("--sample", "--user", "alice:view:shop", "--bookmark-interval", "0.2",
                        "--deletion-delay", "0.1")


@pytest.fixture(autouse=True)
def no_faults(request):
    yield
    if "server" in request.fixturenames:
        request.getfixturevalue("server").control("reset", {})


def version(server):
    return server.call("GET", SHOP)[1]["metadata"]["resourceVersion"]


def test_sample_looks_real(server):
    status, listed = server.call("GET", GROUP + "/namespaces/openshift/imagestreams")
    assert status == 200 and len(listed["items"]) == 20
    nodejs = next(item for item in listed["items"] if item["metadata"]["name"] == "nodejs")
    tags = {tag["name"]: tag for tag in nodejs["spec"]["tags"]}
    assert tags["latest"]["from"] == {"kind": "ImageStreamTag", "name": "22-ubi9"}
    assert "sampleRepo" in tags["20-ubi9"]["annotations"]
    shop = {item["metadata"]["name"] for item in server.call("GET", SHOP)[1]["items"]}
    assert shop == {"web", "api", "worker"}


def test_requests_are_counted(server):
    server.control("reset", {})
    server.call("GET", SHOP + "/web?pretty=true", user="alice", User_Agent="test/1")
    server.call("PATCH", SHOP + "/web", {"metadata": {}}, "alice",
                Content_Type="application/merge-patch+json")
    seen = server.control("requests")
    assert seen["counts"] == {"GET " + SHOP + "/web": 1, "PATCH " + SHOP + "/web": 1}
    get, patch = seen["requests"]
    assert get["query"] == "pretty=true"
    assert get["headers"] == {"authorization": True, "user-agent": "test/1"}
    assert patch["headers"]["content-type"] == "application/merge-patch+json"
    assert json.loads(patch["body"]) == {"metadata": {}}
    assert (get["status"], patch["status"]) == (200, 403)
    server.control("reset", {})
    assert server.control("requests") == {"counts": {}, "requests": []}


def test_fault_status_with_retry_after(server):
    server.control("faults", {"method": "GET", "path": "/imagestreams$", "status": 429,
                              "retryAfter": 3, "text": "Too many requests\n", "count": 2})
    for _ in range(2):
        status, headers, data = server.exchange("GET", SHOP, headers=server.headers())
        assert (status, headers["Retry-After"], data) == (429, "3", b"Too many requests\n")
    assert server.call("GET", SHOP)[0] == 200


def test_fault_matches_watches_only(server):
    server.control("faults", {"watch": True, "status": 410})
    assert server.call("GET", SHOP)[0] == 200
    status, answer = server.call("GET", SHOP + "?watch=true")
    assert status == 410 and answer["reason"] == "Expired"


ERROR_500 = '{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","code":500}}\n'


@pytest.mark.parametrize("spec, status, kind, lines", [
    ({"text": "", "type": "application/json"}, 200, "application/json", []),
    ({"status": 204}, 204, "application/json", []),
    ({"text": "<html>away</html>\n", "type": "text/html", "status": 502}, 502, "text/html",
     ["<html>away</html>\n"]),
    ({"text": "<html>\n", "type": "text/html"}, 200, "text/html", ["<html>\n"]),
    ({"text": ERROR_500, "type": "application/json"}, 200, "application/json", [ERROR_500]),
    ({"text": "Too many requests, please try again later.\n", "status": 429, "retryAfter": 1,
      "close": True}, 429, "text/plain; charset=utf-8",
     ["Too many requests, please try again later.\n"]),
])
def test_watches_that_never_work(server, spec, status, kind, lines):
    server.control("faults", {"watch": True, "count": 2, **spec})
    for _ in range(2):
        watch = server.watch(SHOP + "?watch=true&resourceVersion=" + version(server))
        assert (watch.status, watch.response.headers["Content-Type"]) == (status, kind)
        assert watch.response.headers["Retry-After"] == (str(spec["retryAfter"])
                                                         if "retryAfter" in spec else None)
        assert watch.rest() == lines
        watch.close()
    assert server.call("GET", SHOP)[0] == 200


def test_watch_that_is_closed_at_once(server):
    server.control("faults", {"watch": True, "cutAfter": 0})
    watch = server.watch(SHOP + "?watch=true&resourceVersion=" + version(server))
    assert watch.status == 200
    with pytest.raises(Exception):
        watch.line()
        raise EOFError
    watch.close()


def test_watch_that_begins_with_nonsense(server):
    server.control("faults", {"watch": True, "begin": "no JSON\n"})
    watch = server.watch(SHOP + "?watch=true&resourceVersion=" + version(server))
    assert watch.line() == "no JSON\n"
    server.control("bulk", [{"op": "touch-label", "namespace": "shop", "name": "web"}])
    assert watch.event()["type"] == "MODIFIED"
    watch.close()


def test_fault_of_a_starting_server(server):
    server.control("faults", {"path": "/imagestreams$", "status": 403, "flow": ""})
    for flow in ("", None):
        _, headers, _ = server.exchange("GET", SHOP, headers=server.headers())
        assert flow is None or headers["X-Kubernetes-Pf-Flowschema-Uid"] == flow
    assert headers["X-Kubernetes-Pf-Flowschema-Uid"]


def test_fault_matches_the_query(server):
    server.control("faults", {"path": r"\?limit=2$", "status": 500, "count": 2})
    assert server.call("GET", SHOP)[0] == 200
    assert server.call("GET", SHOP + "?limit=2")[0] == 500
    assert server.call("GET", SHOP + "?limit=1")[0] == 200


def test_fault_matches_the_content_type(server):
    server.control("faults", {"method": "PATCH", "contentType": "strategic", "status": 415,
                              "count": 9})
    for kind, expected in (("strategic-merge-patch", 415), ("merge-patch", 200)):
        status, answer = server.call("PATCH", SHOP + "/web?dryRun=All", {"metadata": {}},
                                     Content_Type="application/%s+json" % kind)
        assert status == expected
        assert expected == 200 or answer["reason"] == "UnsupportedMediaType"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_fault_in_words_of_its_own(server, method):
    causes = [{"reason": "FieldValueInvalid", "field": "spec.tags[t]", "message": "no"}]
    server.control("faults", {
        "method": method, "path": "/imagestreams(/web)?$", "status": 403, "message": "full",
        "reason": "Quota", "causes": causes, "retryAfter": 2})
    before = server.call("GET", SHOP)
    path = SHOP + ("" if method == "POST" else "/web")
    status, answer = server.call(method, path, {"metadata": {"name": "x"}})
    assert (status, answer) == (403, {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "full", "reason": "Quota", "code": 403,
        "details": {"causes": causes, "retryAfterSeconds": 2}})
    assert server.call("GET", SHOP) == before


def test_fault_that_says_nothing_lets_pass(server):
    server.control("faults", [{"path": "/web$", "count": 2}, {"path": "/web$", "status": 409}])
    assert [server.call("GET", SHOP + "/web")[0] for _ in range(4)] == [200, 200, 409, 200]


@pytest.mark.parametrize("wrong", [{"stauts": 500}, {"path": "("}, {"cut": "off"}])
def test_fault_that_makes_no_sense(server, wrong):
    status, answer = server.call("POST", "/_control/faults", [{"status": 500}, wrong], user=None)
    assert status == 400
    assert server.call("GET", SHOP)[0] == 200


def label(server, value):
    """A save whose answer may get lost."""
    return server.call("PATCH", SHOP + "/api", {"metadata": {"labels": {"lost": value}}},
                       Content_Type="application/merge-patch+json")


def current_label(server):
    return (server.call("GET", SHOP + "/api")[1]["metadata"].get("labels") or {}).get("lost")


def cut_off(server, act):
    """Does what the server cuts off."""
    with pytest.raises((OSError, http.client.HTTPException)):
        act()
    statuses = [one["status"] for one in server.control("requests")["requests"]
                if one["method"] == "PATCH"]
    assert statuses == [None]


@pytest.mark.parametrize("cut", [True, "reset"])
def test_cut_by_fin_or_rst(server, cut):
    server.control("faults", {"cut": cut})
    connection = server.connect()
    connection.connect()
    connection.sock.sendall(b"GET /apis HTTP/1.1\r\nHost: h\r\n\r\n")
    # Below TLS, where the two can be told apart for sure.
    with socket.socket(fileno=os.dup(connection.sock.fileno())) as raw:
        raw.settimeout(10)
        if cut == "reset":
            with pytest.raises(ConnectionResetError):
                while raw.recv(65536):
                    pass
        else:
            while raw.recv(65536):
                pass
    connection.close()


@pytest.mark.parametrize("cut", [True, "reset"])
def test_cut_before_anything_is_done(server, cut):
    before = current_label(server)
    server.control("faults", {"method": "PATCH", "path": "/api$", "cut": cut})
    cut_off(server, lambda: label(server, "before"))
    assert current_label(server) == before
    assert label(server, "again")[0] == 200


@pytest.mark.parametrize("cut", [True, "reset"])
def test_cut_after_the_change_is_stored(server, cut):
    server.control("faults", {"method": "PATCH", "path": "/api$", "after": True, "cut": cut})
    watch = server.watch(SHOP + "?watch=true&resourceVersion=" + version(server))
    cut_off(server, lambda: label(server, "after-%s" % cut))
    assert watch.event()["type"] == "MODIFIED"
    watch.close()
    assert current_label(server) == "after-%s" % cut


def test_answer_cut_in_the_middle_after_the_change(server):
    server.control("faults", {"method": "PATCH", "after": True, "cutAfter": 20})
    with pytest.raises(http.client.IncompleteRead):
        label(server, "half")
    assert current_label(server) == "half"


def test_another_answer_after_the_change(server):
    server.control("faults", {"method": "PATCH", "after": True, "status": 504,
                              "text": "Gateway Time-out\n"})
    assert label(server, "done") == (504, "Gateway Time-out\n")
    assert current_label(server) == "done"


def test_delay_after_the_change(server):
    server.control("faults", {"method": "PATCH", "after": True, "delay": 0.5})
    answers = []
    start = time.monotonic()
    thread = threading.Thread(target=lambda: answers.append(label(server, "slow")))
    thread.start()
    until(lambda: current_label(server) == "slow")
    assert not answers and time.monotonic() - start < 0.5
    thread.join(5)
    assert answers[0][0] == 200 and time.monotonic() - start >= 0.5


def test_hang_after_the_change(server):
    server.control("faults", {"method": "PATCH", "after": True, "hang": True})
    answers = []
    thread = threading.Thread(target=lambda: answers.append(label(server, "hung")))
    thread.start()
    until(lambda: current_label(server) == "hung")
    assert not answers
    server.control("faults", method="DELETE")
    thread.join(5)
    assert answers[0][0] == 200


def test_delete_and_post_whose_answers_are_lost(server):
    server.control("faults", {"after": True, "cut": True, "path": "/imagestreams", "count": 2})
    for call in (lambda: server.call("POST", SHOP, {"metadata": {"name": "lost"}}),
                 lambda: server.call("DELETE", SHOP + "/lost")):
        with pytest.raises((OSError, http.client.HTTPException)):
            call()
    assert server.call("GET", SHOP + "/lost")[0] == 404
    assert [one["method"] for one in server.control("requests")["requests"]] == [
        "POST", "DELETE", "GET"]


def test_somebody_is_faster(server):
    """Changes that come between a client's last look and its save, each time it tries."""
    server.control("faults", {"method": "PUT", "path": "/web$", "count": 2, "bulk": [
        {"op": "touch-label", "namespace": "shop", "name": "web"}]})
    seen = []
    for _ in range(3):
        obj = server.call("GET", SHOP + "/web")[1]
        seen.append(server.call("PUT", SHOP + "/web", obj)[0])
    assert seen == [409, 409, 200]


def test_fault_delay(server):
    server.control("faults", {"delay": 0.3})
    start = time.monotonic()
    assert server.call("GET", SHOP)[0] == 200
    assert time.monotonic() - start >= 0.3


def test_hang_is_freed_by_reset(server):
    server.control("faults", {"hang": True, "path": "/web$"})
    answers = []
    thread = threading.Thread(target=lambda: answers.append(server.call("GET", SHOP + "/web")))
    thread.start()
    until(lambda: server.control("requests")["counts"].get("GET %s/web" % SHOP))
    assert not answers
    server.control("faults", method="DELETE")
    thread.join(5)
    assert answers[0][0] == 200


def test_cut_after(server):
    server.control("faults", {"cutAfter": 100})
    with pytest.raises(Exception) as why:
        server.exchange("GET", SHOP, headers=server.headers())
    assert len(why.value.partial) == 100


def test_slow_body(server):
    server.control("faults", {"slow": {"bytes": 2000, "delay": 0.02}})
    status, headers, data = server.exchange("GET", SHOP, headers=server.headers())
    assert status == 200 and json.loads(data)["kind"] == "ImageStreamList"


def test_cut_in_event(server):
    stream = server.watch(SHOP + "?watch=true&resourceVersion=" + version(server))
    server.control("faults", {"cutInEvent": True, "count": 1})
    server.control("bulk", {"modify": {"namespace": "shop", "match": "^web$"}})
    with pytest.raises(Exception):
        line = stream.line()
        # A cut line can still come out of the client's buffer; it must not be whole.
        assert not line.endswith("\n")
        raise EOFError
    stream.close()


@pytest.mark.parametrize("style", ["status", "event"])
def test_compact(server, style):
    old = version(server)
    server.control("bulk", {"modify": {"namespace": "shop", "match": "web"}})
    server.control("compact", {"style": style})
    stream = server.watch(SHOP + "?watch=true&resourceVersion=" + old)
    if style == "status":
        assert stream.status == 410 and json.loads(stream.response.read())["reason"] == "Gone"
    else:
        assert stream.status == 200
        event = stream.event()
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
        assert stream.line() is None
    stream.close()
    status, answer = server.call(
        "GET", SHOP + "?resourceVersionMatch=Exact&resourceVersion=" + old)
    assert (status, answer["reason"]) == (410, "Expired")


def test_drop_and_state(server):
    streams = [server.watch(SHOP + "?watch=true&resourceVersion=" + version(server))
               for _ in range(3)]
    until(lambda: server.watches() == 3)
    assert server.control("drop", {}) == {"dropped": 3}
    for stream in streams:
        with pytest.raises(Exception):
            if stream.line() is None:
                raise EOFError
        stream.close()
    until(lambda: not server.watches())


def test_closed_clients_are_noticed(server):
    stream = server.watch(SHOP + "?watch=true&resourceVersion=" + version(server))
    until(lambda: server.watches() == 1)
    stream.close()
    until(lambda: not server.watches())


def test_silence(server):
    start = version(server)
    silent = server.watch(SHOP + "?watch=true&resourceVersion=" + start)
    until(lambda: server.watches() == 1)
    assert server.control("silence", {}) == {"silenced": 1}
    server.control("bulk", {"modify": {"namespace": "shop", "match": "web"}})
    talking = server.watch(SHOP + "?watch=true&resourceVersion=" + start)
    assert talking.event()["type"] == "MODIFIED"
    silent.connection.sock.settimeout(0.3)
    with pytest.raises(socket.timeout):
        silent.line()
    silent.close()
    talking.close()


def test_silence_ends(server):
    watch = server.watch(SHOP + "?watch=true&resourceVersion=" + version(server))
    until(lambda: server.watches() == 1)
    server.control("silence", {"on": True})
    assert server.control("silence", {"on": False}) == {"talking": 1}
    server.control("bulk", {"modify": {"namespace": "shop", "match": "web"}})
    assert watch.event()["type"] == "MODIFIED"
    watch.close()


def test_bookmarks(server):
    stream = server.watch(SHOP + "?watch=true&allowWatchBookmarks=true&resourceVersion="
                          + version(server))
    assert [stream.event()["type"] for _ in range(2)] == ["BOOKMARK", "BOOKMARK"]
    stream.close()


def test_bulk_is_one_event_a_change(server):
    start = version(server)
    stream = server.watch(SHOP + "?watch=true&resourceVersion=" + start)
    answer = server.control("bulk", {"modify": {"namespace": "shop", "match": "", "times": 500}})
    assert answer["changes"] == 1500
    seen = [int(stream.event()["object"]["metadata"]["resourceVersion"]) for _ in range(1500)]
    assert seen == list(range(int(start) + 1, int(start) + 1501))
    stream.close()


def test_bulk_touch(server):
    answer = server.control("bulk", [
        {"op": "touch", "namespace": "shop", "match": "^(web|api)$", "times": 3}])
    assert answer["changes"] == 6


def test_bulk_operations(server):
    server.control("bulk", [
        {"op": "create", "namespace": "fresh", "name": "a", "object": {"metadata": {}}},
        {"op": "touch-image", "namespace": "fresh", "name": "a"},
        {"op": "touch-tag", "namespace": "fresh", "name": "a"},
        {"op": "touch-annotation", "namespace": "fresh", "name": "a"}])
    path = GROUP + "/namespaces/fresh/imagestreams/a"
    status, obj = server.call("GET", path)
    assert obj["metadata"]["generation"] == 2 and obj["spec"]["tags"][0]["name"] == "touched"
    assert len(obj["status"]["tags"][0]["items"]) == 1
    server.control("bulk", [{"op": "delete", "namespace": "fresh", "name": "a"},
                            {"op": "delete-namespace", "name": "fresh"}])
    assert server.call("GET", path)[0] == 404


def test_rights_come_and_go(server):
    path = GROUP + "/namespaces/dev/imagestreams"
    server.control("grant", {"user": "alice", "role": "none"})
    assert server.call("GET", path, user="alice")[0] == 403
    server.control("grant", {"user": "alice", "role": "edit", "namespace": "dev"})
    assert server.call("GET", path, user="alice")[0] == 200
    server.control("revoke", {"user": "alice", "namespace": "dev"})
    assert server.call("GET", path, user="alice")[0] == 403
    assert server.call("GET", SHOP, user="alice")[0] == 200


def test_rights_of_ones_own(server):
    server.control("grant", {"user": "bob", "namespace": "shop", "rules": [
        {"resources": ["imagestreams"], "verbs": ["get", "list", "watch"]},
        {"resources": ["imagestreams"], "verbs": ["patch"], "resourceNames": ["web"]},
        {"apiGroups": ["image.openshift.io"], "resources": ["imagestreams/status"],
         "verbs": ["patch"]}]})
    server.control("token", {"user": "bob", "token": "bob"})

    def may_patch(name):
        return server.call("PATCH", "%s/%s?dryRun=All" % (SHOP, name), {}, "bob",
                           Content_Type="application/merge-patch+json")[0]
    assert server.call("GET", SHOP, user="bob")[0] == 200
    assert [may_patch(name) for name in ("web", "api", "api/status")] == [200, 403, 200]
    assert server.call("DELETE", SHOP + "/web", user="bob")[0] == 403
    status, review = server.call(
        "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        {"spec": {"namespace": "shop"}}, "bob")
    rules = review["status"]["resourceRules"]
    assert {"verbs": ["patch"], "apiGroups": ["", "image.openshift.io"],
            "resources": ["imagestreams"], "resourceNames": ["web"]} in rules
    assert ["resourceNames" in rule for rule in rules].count(True) == 1
    server.control("revoke", {"user": "bob"})
    assert server.call("GET", SHOP, user="bob")[0] == 403


def test_token_rotates(server):
    old = server.tokens["alice"]
    server.control("token", {"user": "alice", "token": "sha256~fresh"})
    assert server.call("GET", SHOP, user="alice")[0] == 401
    assert server.call("GET", SHOP, user="sha256~fresh")[0] == 200
    server.control("token", {"user": "alice", "token": old})


def test_access_reviews(server):
    def may(user, verb, namespace):
        return server.call(
            "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
             "spec": {"resourceAttributes": {
                 "group": "image.openshift.io", "resource": "imagestreams", "verb": verb,
                 "namespace": namespace}}}, user)[1]["status"]["allowed"]
    assert may("developer", "update", "dev") and not may("developer", "update", "prod")
    assert may("developer", "get", "openshift") and not may("nobody", "get", "dev")
    status, review = server.call(
        "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        {"spec": {"namespace": "prod"}}, "developer")
    assert status == 201
    verbs = {verb for rule in review["status"]["resourceRules"] for verb in rule["verbs"]
             if "imagestreams" in rule["resources"]}
    assert verbs == {"get", "list", "watch"}
    status, review = server.call(
        "POST", "/apis/authorization.openshift.io/v1/namespaces/dev/selfsubjectrulesreviews",
        {"kind": "SelfSubjectRulesReview", "apiVersion": "authorization.openshift.io/v1",
         "spec": {"scopes": None}}, "developer")
    assert status == 201 and review["status"]["rules"]
    assert server.call("GET", "/apis/user.openshift.io/v1/users/~",
                       user="viewer")[1]["metadata"]["name"] == "viewer"


def test_impersonation(server):
    status, answer = server.call("GET", SHOP, Impersonate_User="alice")
    assert status == 200
    status, answer = server.call("GET", GROUP + "/namespaces/dev/imagestreams",
                                 Impersonate_User="alice")
    assert status == 403 and 'User "alice"' in answer["message"]
    assert server.call("GET", SHOP, user="developer", Impersonate_User="admin")[0] == 403


def test_client_certificate(server, tmp_path):
    user = next(one["user"] for one in server.config["users"] if one["name"] == "admin-cert")
    file = tmp_path / "client.pem"
    file.write_bytes(base64.b64decode(user["client-certificate-data"])
                     + base64.b64decode(user["client-key-data"]))
    context = ssl.create_default_context(cadata=base64.b64decode(
        server.config["clusters"][0]["cluster"]["certificate-authority-data"]).decode())
    context.load_cert_chain(file)
    connection = http.client.HTTPSConnection(server.host, context=context)
    assert server.exchange("GET", GROUP + "/imagestreams", connection=connection)[0] == 200


def test_gzip_for_long_answers(server):
    headers = server.headers(Accept_Encoding="gzip")
    status, seen, data = server.exchange("GET", GROUP + "/namespaces/openshift/imagestreams",
                                         headers=headers)
    assert seen["Content-Encoding"] == "gzip" and len(gzip.decompress(data)) > 128 * 1024
    status, seen, data = server.exchange("GET", SHOP, headers=headers)
    assert "Content-Encoding" not in seen


def test_finalizers_hold_a_project(server):
    name = GROUP + "/namespaces/held/imagestreams/s"
    server.control("bulk", [{"op": "create", "namespace": "held", "name": "s", "object": {
        "metadata": {"finalizers": ["example.test/hold"]}}}])
    assert server.call("DELETE", "/apis/project.openshift.io/v1/projects/held")[0] == 200
    until(lambda: "deletionTimestamp" in server.call("GET", name)[1]["metadata"])
    assert server.call("PATCH", name, {"metadata": {"finalizers": None}},
                       Content_Type="application/merge-patch+json")[0] == 200
    until(lambda: server.call("GET", "/api/v1/namespaces/held")[0] == 404)


def answers(server):
    try:
        return server.call("GET", SHOP)[0] == 200
    except ConnectionRefusedError:
        return False


def test_restart(server):
    before = server.call("GET", SHOP)[1]
    watch = server.watch(SHOP + "?watch=true&resourceVersion=" + version(server))
    server.control("restart", {"seconds": 0.3})
    with pytest.raises(Exception):
        while watch.line() is not None:
            pass
        raise EOFError
    watch.close()
    with pytest.raises(ConnectionRefusedError):
        server.connect().connect()
    until(lambda: answers(server))
    assert server.call("GET", SHOP)[1] == before


def test_strategic_replace_empties_the_list(server):
    """A danger of the real server: $patch: replace in one element stands for the whole list."""
    path = SHOP + "/web"
    before = server.call("GET", path)[1]
    status, answer = server.call(
        "PATCH", path + "?dryRun=All", {"spec": {"tags": [{"name": "1.0", "$patch": "replace"}]}},
        Content_Type="application/strategic-merge-patch+json")
    assert status == 200 and "tags" not in answer["spec"]
    assert server.call("GET", path)[1] == before


def test_tag_generation_zero_asks_for_an_import(server):
    path = SHOP + "/worker"
    before = server.call("GET", path)[1]
    tag = dict(before["spec"]["tags"][0], generation=0)
    status, after = server.call("PATCH", path, {"spec": {"tags": [tag]}},
                                Content_Type="application/strategic-merge-patch+json")
    generation = before["metadata"]["generation"] + 1
    assert after["metadata"]["generation"] == generation
    assert after["spec"]["tags"][0]["generation"] == generation


@pytest.mark.parametrize("flavor", ["3.7", "3.11"])
def test_old_flavors(start_server, flavor):
    old = start_server("--flavor", flavor, "--sample")
    status, both = old.call("GET", "/oapi/v1/namespaces/shop/imagestreams")
    assert status == 200 and both["apiVersion"] == "v1"
    meta = both["items"][0]["metadata"]
    assert meta["selfLink"] == "/oapi/v1/namespaces/shop/imagestreams/" + meta["name"]
    assert "managedFields" not in meta and "imagetags" not in json.dumps(
        old.call("GET", GROUP)[1])
    status, limited = old.call("GET", SHOP + "?limit=1")
    assert len(limited["items"]) == (3 if flavor == "3.7" else 1)
    status, made = old.call("POST", "/oapi/v1/imagestreams", {
        "kind": "ImageStream", "apiVersion": "v1",
        "metadata": {"name": "x", "namespace": "dev"},
        "spec": {"tags": [{"name": "t", "from": {"kind": "DockerImage", "name": "a.test/b:1"}}]}})
    assert status == 201 and made["spec"]["tags"][0]["importPolicy"] == {}
    assert old.call("GET", GROUP + "/namespaces/dev/imagestreams/x")[1]["metadata"]["uid"] == \
        made["metadata"]["uid"]
    status, clean = old.call("GET", "/oapi/v1/namespaces/dev/imagestreams/x?export=true")
    assert "uid" not in clean["metadata"] and "status" in clean
    status, answer = old.call("GET", "/oapi/v1/namespaces/dev/imagestreams/nope")
    assert answer["message"] == 'imagestreams "nope" not found'
    assert ("layers" in json.dumps(old.call("GET", GROUP)[1])) == (flavor == "3.11")
    old.control("compact", {})
    assert old.call("GET", SHOP + "?watch=1&resourceVersion=1")[0] == 410


@pytest.mark.parametrize("where", ["", "/namespaces/openshift"])
def test_pages_are_of_one_version(start_server, where):
    """Streams change, go and come while a list is read page by page."""
    server = start_server("--sample")
    path = GROUP + where + "/imagestreams"
    whole = server.call("GET", path)[1]["items"]
    read, token = [], ""
    for number in range(len(whole)):
        page = server.call("GET", path + "?limit=3" + token)[1]
        read += page["items"]
        assert page["metadata"].get("remainingItemCount", 0) == len(whole) - len(read)
        if "continue" not in page["metadata"]:
            break
        token = "&continue=" + page["metadata"]["continue"]
        name = whole[-1 - number]["metadata"]["name"]
        here = {"namespace": whole[-1 - number]["metadata"]["namespace"], "name": name}
        new = {"metadata": {**here, "name": name + "-new", "uid": "x"}, "spec": {}, "status": {}}
        server.control("bulk", [{"op": "touch-label", "namespace": "openshift", "name": "php"},
                                {"op": "delete", **here}, {"op": "create", "object": new}])
    assert read == whole
    now = server.call("GET", path)[1]["items"]
    assert len(now) == len(whole) and now != whole


def test_no_oapi_in_4(server):
    assert server.call("GET", "/oapi/v1")[0] == 404
    assert server.call("GET", "/oapi/v1/namespaces/dev/imagestreams", user="developer")[0] == 403


def test_big_data(start_server):
    big = start_server("--big-stream", "1500000", "--stream-tags", "1000", "--tag-items", "4000",
                       "--streams", "300", "--tags", "2", "--namespaces", "3")
    path = GROUP + "/namespaces/big/imagestreams/"
    status, _, data = big.exchange("GET", path + "big-stream", headers=big.headers())
    assert 1400000 < len(data) < 1600000
    assert len(big.call("GET", path + "many-tags")[1]["spec"]["tags"]) == 1000
    assert len(big.call("GET", path + "many-items")[1]["status"]["tags"][0]["items"]) == 4000
    assert len(big.call("GET", GROUP + "/imagestreams")[1]["items"]) == 303
    assert len(big.call("GET", GROUP + "/namespaces/ns-0001/imagestreams")[1]["items"]) == 100


def test_load_keeps_what_was_saved(server, start_server, tmp_path):
    listed = server.call("GET", SHOP)[1]
    file = tmp_path / "streams.json"
    file.write_text(json.dumps(listed))
    loaded = start_server("--load", str(file)).call("GET", SHOP)[1]
    for one in listed["items"] + loaded["items"]:
        del one["metadata"]["resourceVersion"]
    assert loaded["items"] == listed["items"]


def test_aliases_follow_a_push(server):
    path = GROUP + "/namespaces/shop/imagestreams/web"
    name = "sha256:" + "ab" * 32
    mapping = {"metadata": {"name": "web", "namespace": "shop"}, "tag": "2.0", "image": {
        "metadata": {"name": name}, "dockerImageReference": "a.test/b@" + name}}
    assert server.call("POST", GROUP + "/namespaces/shop/imagestreammappings", mapping)[0] == 201
    tags = {tag["tag"]: tag for tag in server.call("GET", path)[1]["status"]["tags"]}
    assert [tags[tag]["items"][0]["image"] == name for tag in ("2.0", "latest", "1.1")] == [
        True, True, False]


def test_import_controller_follows_a_save(start_server):
    importing = start_server("--import-controller", "--import-fail", "broken")
    path = GROUP + "/namespaces/dev/imagestreams"
    stream = importing.watch(path + "?watch=true")
    importing.call("POST", path, {"metadata": {"name": "i"}, "spec": {"tags": [
        {"name": "good", "from": {"kind": "DockerImage", "name": "a.test/good:1"}},
        {"name": "bad", "from": {"kind": "DockerImage", "name": "a.test/broken:1"}}]}})
    added, modified = stream.event(), stream.event()
    assert (added["type"], modified["type"]) == ("ADDED", "MODIFIED")
    meta = modified["object"]["metadata"]
    assert meta["generation"] == 2 and "openshift.io/image.dockerRepositoryCheck" in meta[
        "annotations"]
    bad, good = modified["object"]["status"]["tags"]
    assert bad["items"] is None and bad["conditions"][0]["reason"] == "NotFound"
    assert good["items"][0]["generation"] == 2
    stream.close()


def new_tag(server, name, image):
    """Saves a tag; gives the stream's generation and the version to watch from."""
    status, after = server.call(
        "PATCH", SHOP + "/web", {"spec": {"tags": [
            {"name": name, "from": {"kind": "DockerImage", "name": image}}]}},
        Content_Type="application/strategic-merge-patch+json")
    assert status == 200
    return after["metadata"]["generation"], after["metadata"]["resourceVersion"]


def event_after(server, start):
    """The next change of a stream since a version, waited for."""
    watch = server.watch(SHOP + "?watch=true&resourceVersion=" + start)
    obj = watch.event()["object"]
    watch.close()
    return obj


def test_import_controller_is_switched(start_server):
    server = start_server("--sample")
    assert server.control("imports") == {
        "on": False, "delay": 0.08, "fail": "", "unreachable": "", "plain": "", "lists": ":multi$"}
    new_tag(server, "before", "a.test/before:1")
    now = {"on": True, "delay": 0.2, "fail": "broken", "unreachable": "away",
           "plain": "http", "lists": "many"}
    assert server.control("imports", now) == now
    begin = time.monotonic()
    generation, start = new_tag(server, "good", "a.test/good:1")
    after = event_after(server, start)
    assert time.monotonic() - begin >= 0.2
    # The controller's own write: a generation more, and its annotation.
    assert after["metadata"]["generation"] == generation + 1
    assert "openshift.io/image.dockerRepositoryCheck" in after["metadata"]["annotations"]
    history = {tag["tag"]: tag for tag in after["status"]["tags"]}
    assert history["good"]["items"][0]["generation"] == generation + 1
    server.control("imports", {"delay": 0})
    for image, reason in (("broken", "NotFound"), ("away", "InternalError")):
        after = event_after(server, new_tag(server, image, "a.test/%s:1" % image)[1])
        failed = next(tag for tag in after["status"]["tags"] if tag["tag"] == image)
        assert failed["items"] is None
        assert [one["reason"] for one in failed["conditions"]] == [reason]
    server.control("imports", {"fail": "", "unreachable": ""})
    after = event_after(server, new_tag(server, "broken", "a.test/broken:2")[1])
    mended = next(tag for tag in after["status"]["tags"] if tag["tag"] == "broken")
    assert mended["items"] and "conditions" not in mended
    assert server.call("POST", "/_control/imports", {"fail": "("}, user=None)[0] == 400


def test_import_controller_switched_off_writes_no_more(start_server):
    server = start_server("--sample", "--import-controller", "--import-delay", "0.05")
    _, start = new_tag(server, "one", "a.test/one:1")
    assert server.control("imports", {"on": False})["on"] is False
    last = version(server)
    watch = server.watch(SHOP + "?watch=true&resourceVersion=" + last)
    new_tag(server, "two", "a.test/two:1")
    time.sleep(0.2)
    server.control("bulk", [{"op": "touch-label", "namespace": "shop", "name": "api"}])
    assert [watch.event()["object"]["metadata"]["name"] for _ in range(2)] == ["web", "api"]
    watch.close()


def test_generated_streams_own_their_fields(start_server):
    """The fields are worked out once for all of them: they must be right for each."""
    made = start_server("--streams", "3", "--tags", "2", "--managed-fields")
    tags = ['k:{"name":"1.0"}', 'k:{"name":"latest"}']
    for item in made.call("GET", GROUP + "/namespaces/ns-0000/imagestreams")[1]["items"]:
        owned = item["metadata"]["managedFields"][0]["fieldsV1"]
        assert [key for key in owned["f:spec"]["f:tags"] if key != "."] == tags
        assert owned["f:metadata"]["f:labels"].keys() == {".", "f:app", "f:number"}
