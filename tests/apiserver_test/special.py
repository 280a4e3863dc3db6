"""Exchanges that need more than a seed and one request: name -> function(server, one)."""

import contextlib
import json
import re

from apiclient import until
import replay
import seeds
import transcript

SPECIAL = {}
PROJECTS = "/apis/project.openshift.io/v1/projects"
BASE_NAMESPACES = {"default", "dev", "openshift", "prod"}


def special(*names):
    def register(function):
        for name in names:
            SPECIAL[name] = function
        return function
    return register


def recorded(name):
    return transcript.load_all()[name]


def current_version(server):
    return server.control("state")["resourceVersion"]


@special("72-list-exact", "72-list-notolder")
def list_at_current_version(server, one):
    seeded = replay.seed(server, one, seeds.streams_for(one))
    target = re.sub(r"resourceVersion=\d+", "resourceVersion=" + current_version(server),
                    one.target)
    replay.check(server, one, seeded, target)


def pages(server, one, streams, count, between):
    """Seeds, then reads pages until the wanted one; gives the target that continues there."""
    seeded = replay.seed(server, one, streams)
    limit = re.search(r"limit=(\d+)", one.target)[1]
    target = one.path + "?limit=" + limit
    for _ in range(count):
        status, answer = server.call("GET", target)
        assert status == 200
        target = one.path + "?limit=%s&continue=%s" % (limit, answer["metadata"]["continue"])
    between()
    return seeded, target


def add_stream(server, name):
    server.control("bulk", [{"op": "create", "namespace": "dev", "name": name,
                             "object": {"metadata": {"name": name, "namespace": "dev"}}}])


@special("71-list-limit-page2", "71-list-limit-page3")
def following_page(server, one):
    count = 1 if one.name.endswith("page2") else 2
    streams = seeds.streams_for(one)
    seeded, target = pages(server, one, streams, count, lambda: add_stream(server, "s9"))
    replay.check(server, one, seeded, target)


def c_streams():
    return seeds.listed(recorded("c0-exact-after-compaction").answer_json())


@special("c0-list-page1")
def first_page(server, one):
    replay.check(server, one, replay.seed(server, one, c_streams()))


@special("c0-continue-after-etcd-compaction", "c1-continue-after-restart-410")
def continued(server, one):
    def between():
        if one.status == 410:
            server.control("compact", {})
    seeded, target = pages(server, one, c_streams(), 1, between)
    replay.check(server, one, seeded, target)


@special("c0-exact-after-compaction", "c1-exact-after-restart-410")
def exact_then(server, one):
    seeded = replay.seed(server, one, c_streams())
    target = re.sub(r"resourceVersion=\d+", "resourceVersion=" + current_version(server),
                    one.target)
    add_stream(server, "c9")
    if one.status == 410:
        server.control("compact", {})
    replay.check(server, one, seeded, target)


# Discovery: only the groups that the server has.

GROUPS = ("image.openshift.io", "project.openshift.io")


@special("00-discovery-apis", "c1-discovery-while-aggregated-down", "00-discovery-aggregated")
def discovery(server, one):
    status, headers, data = replay.send(server, one, replay.Seeded())
    assert status == one.status
    if one.name == "00-discovery-aggregated":
        assert headers["content-type"] == one.answer_headers["content-type"][0]
    replay.compare_headers(one, headers)
    kinds = [group_entries(replay.parse(text, "application/json")) for text in (one.answer, data)]
    assert kinds[0] == kinds[1]


def group_entries(document):
    entries = document.pop("items", None) or document.pop("groups")
    found = [entry for entry in entries
             if (entry.get("name") or entry["metadata"]["name"]) in GROUPS]
    assert len(found) == len(GROUPS)
    return document, found


@special("00-openapi-v3-image")
def openapi_document(server, one):
    status, headers, data = replay.send(server, one, replay.Seeded())
    assert (status, headers["content-type"]) == (200, one.answer_headers["content-type"][0])
    document = json.loads(data)
    assert one.answer.startswith('{"openapi":"%s",' % document["openapi"])
    streams = document["paths"]["/apis/image.openshift.io/v1/namespaces/{namespace}/imagestreams"]
    assert set(streams) == {"get", "post", "delete"}
    tags = document["components"]["schemas"]["com.github.openshift.api.image.v1.ImageStreamSpec"][
        "properties"]["tags"]
    assert tags["x-kubernetes-patch-merge-key"] == "name"


# Projects.

def put_projects(server, objects, rights=()):
    changes = [{"op": "clear"}]
    changes += [{"op": "put", "resource": "namespaces", "object": project(obj)}
                for obj in objects]
    server.control("bulk", changes)
    for user, role, namespace in rights:
        server.control("grant", {"user": user, "role": role, "namespace": namespace})


def project(obj):
    return {"metadata": dict(obj["metadata"]), "spec": obj["spec"], "status": obj["status"]}


def remove_projects(server):
    names = [item["metadata"]["name"] for item in server.call("GET", PROJECTS)[1]["items"]]
    server.control("bulk", [{"op": "delete-namespace", "name": name}
                            for name in names if name not in BASE_NAMESPACES])


def mine():
    return recorded("b1-project-get-mine").answer_json()


@special("b0-project-list")
def project_list(server, one):
    items = one.answer_json()["items"]
    names = {item["metadata"]["name"] for item in items}
    server.control("bulk", [{"op": "delete-namespace", "name": name}
                            for name in BASE_NAMESPACES - names])
    put_projects(server, items)
    try:
        replay.check(server, one, replay.Seeded())
    finally:
        remove_projects(server)
        server.control("bulk", [{"op": "create-namespace", "name": name}
                                for name in sorted(BASE_NAMESPACES - names)])


@special("b1-project-get-mine", "b1-project-list-dev", "b1-projectrequest-again",
         "b1-stream-in-mine", "b2-project-delete")
def with_my_project(server, one):
    put_projects(server, [mine()], [("developer", "admin", "mine")])
    try:
        replay.check(server, one, replay.Seeded())
    finally:
        remove_projects(server)


@special("b1-projectrequest-post", "b1-projectrequest-none-user")
def new_project(server, one):
    try:
        replay.check(server, one, replay.Seeded())
        name = one.request_json()["metadata"]["name"]
        assert server.call("GET", "%s/%s" % (PROJECTS, name), user=one.user)[0] == 200
    finally:
        remove_projects(server)


@special("b2-stream-create-while-terminating", "b2-stream-get-while-terminating")
def terminating(server, one):
    obj = mine()
    obj["status"] = {"phase": "Terminating"}
    put_projects(server, [obj], [("developer", "admin", "mine")])
    seeded = replay.Seeded()
    if one.method == "GET":
        stream = one.answer_json()
        server.control("bulk", [{"op": "create", "object": stream}])
        seeded.texts.append(json.dumps(stream))
        version = server.call("GET", one.path)[1]["metadata"]["resourceVersion"]
        seeded.versions[stream["metadata"]["resourceVersion"]] = version
    try:
        replay.check(server, one, seeded)
    finally:
        remove_projects(server)


@special("b2-list-gone", "b2-project-gone", "b2-stream-gone", "b2-stream-gone-admin")
def project_gone(server, one):
    put_projects(server, [mine()], [("developer", "admin", "mine")])
    remove_projects(server)
    replay.check(server, one, replay.Seeded())


# Answers of broken parts: faults give them.

@special("c1-get-while-aggregated-down-0", "c1-get-while-aggregated-down-1",
         "c1-get-while-aggregated-down-2", "c1-group-discovery-while-aggregated-down",
         "c1-put-while-aggregated-down", "c1-watch-while-aggregated-down",
         "c2-get-right-after-kill9", "c4-etcd-frozen-get", "c4-etcd-frozen-list")
def text_fault(server, one):
    server.control("faults", {"path": "/apis/", "status": one.status, "text": one.answer + "\n",
                              "nosniff": "x-content-type-options" in one.answer_headers})
    replay.check(server, one, replay.Seeded())


@special("c4-etcd-frozen-post")
def json_fault(server, one):
    server.control("faults", {"method": "POST", "status": one.status, "json": one.answer_json()})
    replay.check(server, one, replay.Seeded())


# Bodies that were too long to be recorded whole.

def send_body(server, one, seeded, value):
    one.body = json.dumps(value)
    replay.check(server, one, seeded)


@special("13-annotations-too-long", "13-big-1.9MB", "13-big-3.7MB")
def long_body(server, one):
    sizes = {"13-annotations-too-long": 262144, "13-big-1.9MB": 1950000, "13-big-3.7MB": 3750000}
    size = sizes[one.name]
    value = {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
             "metadata": {"name": "tg" if size < 300000 else "big"}}
    if size < 300000:
        value["metadata"]["annotations"] = {"k": "x" * size}
    else:
        value["spec"] = {"tags": [{
            "name": "t%d" % index, "annotations": {"pad": "x" * (size // 20)},
            "from": {"kind": "DockerImage", "name": "registry.example.test/app/img:1.0"}}
            for index in range(20)]}
    send_body(server, one, replay.seed(server, one, []), value)


@special("d1-put-add-tag", "d1-put-again-with-my-own-returned-rv")
def put_after_import(server, one):
    again = one.status == 409
    streams = seeds.streams_for(one)
    value = transcript.observed().at("dev", "imp", 970 if again else 967)
    value = json.loads(json.dumps(value))
    if not again:
        value["spec"]["tags"].insert(1, {
            "name": "2.0", "from": {"kind": "DockerImage",
                                    "name": "127.0.0.1:15000/demo/app:2.0"},
            "importPolicy": {"insecure": True}})
    send_body(server, one, replay.seed(server, one, streams), value)


# Imports: the registry is made up, so digests and what hangs on them differ.

def without_registry(value):
    """Digests, and what is in the images, put out of the comparison."""
    if isinstance(value, dict):
        items = [(key, without_registry(one)) for key, one in value.items()
                 if key not in ("Labels", "Size", "size")]
        if "tag" in value and "status" in value and "image" in value:
            items = sorted(items)
        return replay.Ordered(items)
    if isinstance(value, list):
        return [without_registry(one) for one in value]
    if isinstance(value, str):
        return re.sub(r"sha256:[0-9a-f]{64}", "DIGEST", value)
    return value


def image_import_answers(server, one):
    """(the recorded answer, the server's), with digests left out."""
    replay.seed(server, one, [])
    status, headers, data = replay.send(server, one, replay.Seeded())
    assert status == one.status, data
    replay.compare_headers(one, headers)
    forms = replay.normals(one, replay.Seeded())
    values = []
    for form, text in zip(forms, (one.answer, data)):
        value = without_registry(form.value(replay.parse(text, "application/json")))
        repository = value["status"].get("repository")
        if repository:
            repository["images"].sort(key=lambda image: image["tag"])
        values.append(value)
    return values


@special("d4-import-dry", "d4-import-post", "d4-import-repository")
def image_import(server, one):
    recorded_value, value = image_import_answers(server, one)
    assert value == recorded_value


# Rights that go and come, in a namespace of their own.

TEAM = {"user": "developer", "role": "edit", "namespace": "team"}


@contextlib.contextmanager
def team(server, granted=True):
    events = [json.loads(line) for line in recorded("g0-role-removed-project-watch").events]
    put_projects(server, [events[1]["object"]])
    server.control("grant", TEAM)
    if not granted:
        server.control("revoke", TEAM)
    try:
        yield events[1]["object"]
    finally:
        server.control("revoke", TEAM)
        remove_projects(server)


@special("g0-role-removed-list-403", "g0-role-removed-ssar")
def without_a_role(server, one):
    with team(server, False):
        replay.check(server, one, replay.Seeded())


@special("g0-role-removed-ssrr")
def rules_without_a_role(server, one):
    with team(server, False):
        status, headers, data = replay.send(server, one, replay.Seeded())
    assert status == one.status
    replay.compare_headers(one, headers)
    for value in (one.answer_json(), json.loads(data)):
        rules = value["status"].pop("resourceRules")
        assert not any("imagestreams" in rule["resources"] for rule in rules)
        assert not value["status"]["incomplete"]
    assert list(json.loads(data)) == list(one.answer_json())


@special("g0-role-removed-open-watch-goes-on")
def watch_without_a_role(server, one):
    objects = [json.loads(line)["object"] for line in one.events]
    first = json.loads(json.dumps(objects[0]))
    del first["metadata"]["labels"]
    first["metadata"]["resourceVersion"] = "617"
    with team(server):
        seeded = replay.seed(server, one, [first])
        stream = server.watch(replay.watch_target(one, current_version(server)), one.user)
        replay.compare_headers(one, stream.response.headers)
        server.control("revoke", TEAM)
        server.control("bulk", [{"op": "replace", "object": obj} for obj in objects])
        replay.compare_events(stream, one, seeded)
        stream.close()


@special("g0-role-removed-project-watch")
def project_watch_without_a_role(server, one):
    with team(server) as obj:
        seeded = replay.Seeded()
        seeded.texts.append(json.dumps(obj))
        version = server.call("GET", PROJECTS + "/team")[1]["metadata"]["resourceVersion"]
        seeded.versions[obj["metadata"]["resourceVersion"]] = version
        watches = server.watches()
        stream = server.watch(one.target, one.user)
        replay.compare_headers(one, stream.response.headers)
        until(lambda: server.watches() > watches)
        server.control("revoke", TEAM)
        until(lambda: "team" not in [item["metadata"]["name"] for item in server.call(
            "GET", PROJECTS, user="developer")[1]["items"]])
        server.control("grant", TEAM)
        replay.compare_events(stream, one, seeded)
        stream.close()


# Answers of servers that are starting.

@contextlib.contextmanager
def stopped(server, style, phase):
    """A restart that stays in a phase."""
    def is_in(wanted):
        try:
            return server.control("state")["restart"]["phase"] == wanted
        except OSError:
            return False
    server.control("restart", {"style": style, "factor": 0.1, "stop": phase})
    until(lambda: is_in(phase))
    try:
        yield
    finally:
        server.control("restart", {"go": True})
        until(lambda: is_in(""))


STARTING = {
    "g1-kas-start-403-plain": ("main", "no rights"),
    "g1-kas-start-403-rbac-suffix": ("main", "no roles"),
    "g1-kas-start-403-ssar-version": ("main", "no rights"),
    "g1-kas-start-503-and-readyz": ("main", "no paths"),
    "g1-oas-down-503-texts": ("aggregated", "killed"),
    "g1-oas-restart-403-anonymous": ("aggregated", "anonymous"),
    "g1-oas-restart-project-list-empty": ("aggregated", "no projects"),
}


@special(*STARTING)
def starting(server, one):
    with stopped(server, *STARTING[one.name]):
        for part in one.parts():
            replay.check(server, part, replay.Seeded())


@special("g1-oas-restart-project-watch-rv0")
def project_watch_while_starting(server, one):
    objects = [json.loads(line)["object"] for line in one.events]
    put_projects(server, objects, [("developer", "view", name) for name in ("base", "team")])
    seeded = replay.Seeded()
    for obj in objects:
        meta = obj["metadata"]
        seeded.texts.append(json.dumps(obj))
        current = server.call("GET", PROJECTS + "/" + meta["name"])[1]["metadata"]
        seeded.versions[meta["resourceVersion"]] = current["resourceVersion"]
    with stopped(server, "aggregated", "no projects"):
        stream = server.watch(one.target, one.user)
        replay.compare_headers(one, stream.response.headers)
    forms = replay.normals(one, seeded)
    lines = [one.events, [stream.line() for _ in objects]]
    stream.close()
    seen = [sorted((form.value(replay.parse(line, "application/json")) for line in texts),
                   key=lambda event: event["object"]["metadata"]["name"])
            for form, texts in zip(forms, lines)]
    try:
        assert seen[0] == seen[1]
    finally:
        remove_projects(server)


@special("m0-429")
def too_many(server, one):
    server.control("faults", {"path": "/imagestreams", "status": 429, "retryAfter": 1,
                              "text": one.answer + "\n", "close": True})
    replay.check(server, one, replay.Seeded())
