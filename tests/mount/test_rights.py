"""From a cluster admin to somebody who may read one stream by name: what is seen, and the mode bits."""

import contextlib
import errno
import json
import os
import pathlib
import re
import shutil
import stat
import subprocess
import tempfile
import urllib.error

import conftest
import pytest
from conftest import wait_for
from events import Inotify
from test_watch import (API, LATER, PROJECTS, QUICKLY, SECOND, STREAMS, SURE, has_label, lists, namespaced, requests,
                        wait_for_watches, walk, watches)

REVIEWS = "/apis/authorization.k8s.io/v1/"
RULES, ACCESS = REVIEWS + "selfsubjectrulesreviews", REVIEWS + "selfsubjectaccessreviews"
READ = ["get", "list", "watch"]
FILES = ("imagestream.json", "imagestream.yaml", "metadata.json", "spec.json", "status.json",
         "tags")
NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")


@pytest.fixture
def start_server(start_server):
    """With a tag in each stream that the tests look at."""
    def start(*arguments):
        server = start_server(*arguments)
        if "--sample" in arguments:
            server.request("PATCH", server.streams("dev", "scratch"), {"spec": {"tags": [
                {"name": "one", "from": {"kind": "DockerImage", "name": "example.org/a"}}]}},
                "application/merge-patch+json")
        return server
    return start


@pytest.fixture
def server(start_server):
    return start_server("--sample", "--user", "reader:none")


def grant(server, *rules, namespace="shop", user="reader"):
    server.control("POST", "grant", {"user": user, "namespace": namespace, "rules": list(rules)})


def role(server, name, namespace="", user="reader"):
    server.control("POST", "grant", {"user": user, "namespace": namespace, "role": name})


def revoke(server, namespace, user="reader"):
    server.control("POST", "revoke", {"user": user, "namespace": namespace})


def rule(verbs, resource="imagestreams", names=()):
    return {"resources": [resource], "verbs": verbs, "resourceNames": list(names)}


def bits(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def writable(top):
    """The names in the stream, or "." for itself, that have write bits."""
    names = [".", *FILES, *(f"tags/{tag}/{name}" for tag in os.listdir(top / "tags")
                            for name in (".", *os.listdir(top / "tags" / tag)))]
    return {name.split("/")[-1] if "tags/" not in name else "TAG/" + name.split("/")[-1]
            for name in names if bits(top / name) & 0o222}


EVERYTHING = {".", *FILES, "TAG/.", "TAG/spec.json", "TAG/status.json", "TAG/from"}
EDITOR = EVERYTHING - {"status.json", "TAG/status.json"}


def fails(number, call, *arguments):
    with pytest.raises(OSError) as error:
        call(*arguments)
    assert error.value.errno == number, error.value


def reviewed(server):
    """The namespaces whose rules were asked for."""
    return [json.loads(one["body"])["spec"]["namespace"] for one in requests(server, RULES)]


def save(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def set_label(path, **labels):
    save(path, lambda value: value.setdefault("labels", {}).update(labels))


# Who sees what.


def test_whole_cluster(server, start_mount):
    mount = start_mount(server)
    assert {"shop", "dev", "prod", "openshift"} <= set(os.listdir(mount.path))
    assert writable(mount / "shop/web") == EVERYTHING
    assert bits(mount / "shop") == 0o755 and bits(mount.path) == 0o555
    asked = [json.loads(one["body"])["spec"]["resourceAttributes"]
             for one in requests(server, ACCESS)]
    assert len(asked) == 9 and {one["namespace"] for one in asked} == {""}
    assert len({one["port"] for one in requests(server, ACCESS)}) == 1  # one TLS handshake
    assert not reviewed(server)
    walk(mount.path)
    server.reset()
    walk(mount.path)
    assert server.counts() == {}


def test_whole_cluster_to_read(start_server, start_mount):
    """Only the namespaces that are used are asked for."""
    server = start_server("--streams", 400, "--tags", 1, "--namespaces", 200, "--user",
                          "reader:view")
    names = [one["metadata"]["name"] for one in server.request("GET", PROJECTS)["items"]]
    used = [name for name in names if name.startswith("ns-") or name not in (
        "default", "dev", "openshift", "prod")][:2]
    role(server, "edit", used[1])
    mount = start_mount(server, "--context", "reader")
    assert len(os.listdir(mount.path)) > 200
    assert reviewed(server) == []
    streams = [mount / name / os.listdir(mount / name)[0] for name in used]
    wait_for(lambda: writable(streams[0]) == set(), SECOND, "the bits")
    wait_for(lambda: writable(streams[1]) == EDITOR, SECOND, "the other bits")
    assert sorted(reviewed(server)) == sorted(used)


def test_some_namespaces(server, start_mount):
    mount = start_mount(server, "--context", "developer")
    assert sorted(os.listdir(mount.path)) == ["dev", "prod"]
    assert os.listdir(mount / "dev") and writable(mount / "dev/scratch") == EDITOR
    stream = mount / "prod" / os.listdir(mount / "prod")[0]
    assert writable(stream) == set()
    assert bits(mount / "dev") == 0o755 and bits(mount / "prod") == 0o555
    assert bits(stream) == 0o555 and bits(stream / "spec.json") == 0o444
    assert sorted(reviewed(server)) == ["dev", "prod"]
    assert len({one["port"] for one in requests(server, RULES)}) == 1
    assert len(requests(server, ACCESS)) == 1  # whether the cluster's list is refused for sure
    walk(mount.path)
    server.reset()
    walk(mount.path)
    assert server.counts() == {}


def test_one_namespace_without_the_list_of_projects(server, start_mount):
    server.fault(path=PROJECTS + "$", status=403, count=100)
    server.fault(path=ACCESS, status=404, count=100)  # nobody can say whether that's a refusal
    grant(server, rule(READ))
    mount = start_mount(server, "--context", "reader")
    assert os.listdir(mount.path) == []
    assert "web" in os.listdir(mount / "shop")
    assert writable(mount / "shop/web") == set()
    server.label("shop", "web", seen="yes")
    wait_for(lambda: has_label(mount, "shop", "web", "seen"), SECOND)
    assert not (mount / "dev").exists()


def test_one_stream_by_name(server, start_mount):
    grant(server, rule(["get", "watch"], names=["web"]))
    mount = start_mount(server, "--context", "reader")
    assert os.listdir(mount.path) == []
    assert json.loads((mount / "shop/web/metadata.json").read_text())["name"] == "web"
    assert os.listdir(mount / "shop") == ["web"] and (mount / "shop/.api").is_dir()
    assert writable(mount / "shop/web") == set()
    wait_for(lambda: watches(server, namespaced("shop")), SECOND, "the watch of one")
    assert all("fieldSelector=metadata.name%3Dweb" in one["query"]
               for one in watches(server, namespaced("shop")))
    wait_for_watches(server, 2)
    walk(mount / "shop")
    server.reset()
    walk(mount / "shop")
    assert server.counts() == {}
    server.label("shop", "web", seen="yes")
    wait_for(lambda: has_label(mount, "shop", "web", "seen"), SECOND)
    # Others: refused; names that can't be there aren't asked for.
    fails(errno.EACCES, os.stat, mount / "shop/api")
    assert not (mount / "shop/.git").exists() and not (mount / "shop/Web").exists()
    asked = {one["path"] for one in server.control("GET", "requests")["requests"]}
    assert namespaced("shop") + "/api" in asked and not any("git" in path for path in asked)
    server.delete("shop", "web")
    wait_for(lambda: not os.path.exists(mount / "shop/web"), SECOND, "its end")
    server.create("shop", "web")
    wait_for(lambda: os.listdir(mount / "shop") == ["web"], SECOND, "the new one")
    wait_for((mount / "shop/web/spec.json").exists, LATER, "the new one by name")


def test_one_stream_that_comes_later(server, start_mount):
    grant(server, rule(["get", "watch"], names=["later"]))
    mount = start_mount(server, "--context", "reader")
    assert os.listdir(mount / "shop") == []
    wait_for(lambda: watches(server, namespaced("shop")), SECOND, "the watch of one")
    wait_for_watches(server, 2)
    server.create("shop", "later")
    wait_for(lambda: os.listdir(mount / "shop") == ["later"], SECOND, "the stream")


def test_watch_of_one_stream_is_taken_up(server, start_mount):
    """What happened meanwhile is seen, its end too."""
    grant(server, rule(["get", "watch"], names=["web", "api"]))
    mount = start_mount(server, "--context", "reader")
    assert sorted(os.listdir(mount / "shop")) == ["api", "web"]
    wait_for_watches(server, 3)
    server.fault(path="metadata.name", watch=True, status=503, count=2)
    server.control("POST", "drop", {"path": "namespaces/shop"})
    server.label("shop", "web", seen="yes")
    server.delete("shop", "api")
    wait_for(lambda: has_label(mount, "shop", "web", "seen"), LATER)
    wait_for(lambda: os.listdir(mount / "shop") == ["web"], LATER, "the end of the other")


def test_get_without_list(server, start_mount):
    grant(server, rule(["get"]), {"resources": ["namespaces"], "verbs": ["get"], "apiGroups": [""]})
    mount = start_mount(server, "--context", "reader", "--poll-interval", 1)
    assert os.listdir(mount.path) == ["shop"]
    fails(errno.EACCES, os.listdir, mount / "shop")
    assert bits(mount / "shop") == 0o111
    assert (mount / "shop/web/spec.json").exists()
    assert not (mount / "shop/no-such-stream").exists()
    done = subprocess.run(["ls", "-R", mount.path], capture_output=True, text=True, check=False)
    assert len(done.stderr.splitlines()) == 1 and "Permission denied" in done.stderr
    # It can't be watched either.
    server.label("shop", "web", seen="yes")
    wait_for(lambda: has_label(mount, "shop", "web", "seen"), LATER, "the next look")
    wait_for(lambda: scope(mount, namespaced("shop") + "/web")["state"] == "polling", LATER)


def scope(mount, path):
    return next(one for one in mount.status()["scopes"] if one["path"] == path)


@pytest.mark.parametrize("namespace", ["", "shop"], ids=["cluster", "namespace"])
def test_read_without_watch(server, start_mount, namespace):
    grant(server, rule(["get", "list"]), namespace=namespace)
    mount = start_mount(server, "--context", "reader", "--poll-interval", 1)
    assert "web" in os.listdir(mount / "shop")
    path = namespaced("shop") if namespace else STREAMS
    wait_for(lambda: scope(mount, path)["state"] == "polling", LATER, "the state")
    server.label("shop", "web", seen="yes")
    wait_for(lambda: has_label(mount, "shop", "web", "seen"), LATER, "the next list")
    server.delete("shop", "api")
    wait_for(lambda: not (mount / "shop/api").exists(), LATER, "the list after that")
    grant(server, rule(["watch"]), namespace=namespace)
    wait_for(lambda: scope(mount, path)["state"] == "watching" and watches(server, path)[-1][
        "status"] == 200, LATER, "the watch that is allowed now")


@pytest.mark.parametrize("delay", [0, 1], ids=["at-once", "after-the-rights"])
def test_polls_every_minute(server, start_mount, delay):
    """Also where the rights, which lack the watch, are there before its refusal."""
    grant(server, rule(["get", "list"]))
    server.fault(path=namespaced("shop") + "$", watch=True, delay=delay, count=100)
    mount = start_mount(server, "--context", "reader")
    assert os.listdir(mount / "shop")
    wait_for(lambda: scope(mount, namespaced("shop"))["state"] == "polling", LATER)
    # One whether it is there; the list; and once more, since the refusal of the watch may be one of it.
    asked = [(one["time"], one["query"], one["status"]) for one in requests(server, namespaced("shop"))]
    assert len([query for _, query, _ in asked if "watch=true" not in query]) == 3, asked


def test_nothing_at_all(server, start_mount):
    mount = start_mount(server, "--context", "reader")
    assert os.listdir(mount.path) == []
    for name in ("shop", "dev", "no-such-namespace"):
        assert not (mount / name).exists()
    assert (mount / "openshift/nginx/spec.json").exists()


def test_a_refusal_hides_nothing_else(server, start_mount):
    """One of two listed namespaces can't be read."""
    role(server, "view", "shop")
    grant(server, {"resources": ["namespaces"], "verbs": ["get"], "apiGroups": [""]},
          namespace="monitoring")
    mount = start_mount(server, "--context", "reader")
    assert sorted(os.listdir(mount.path)) == ["monitoring", "shop"]
    done = subprocess.run(["find", mount.path], capture_output=True, text=True, check=False)
    assert "shop/web/spec.json" in done.stdout
    assert len(done.stderr.splitlines()) == 1 and "monitoring" in done.stderr
    assert any("monitoring" in one["message"] for one in mount.errors())


# Mode bits.


@pytest.mark.parametrize("verbs,resource,expected", [
    (["update"], "imagestreams", {".", "imagestream.json", "imagestream.yaml"}),
    (["patch"], "imagestreams", {".", "metadata.json", "spec.json", "tags", "TAG/.",
                                 "TAG/spec.json", "TAG/from"}),
    (["patch"], "imagestreams/status", {".", "status.json", "TAG/.", "TAG/status.json"}),
    (["patch"], "*/status", {".", "status.json", "TAG/.", "TAG/status.json"}),
    (["delete"], "imagestreamtags", {"tags"}),
    (["create", "delete"], "imagestreams", set()),
    (["*"], "*", EVERYTHING)])
def test_bits_of(server, start_mount, verbs, resource, expected):
    grant(server, rule(READ), rule(verbs, resource))
    mount = start_mount(server, "--context", "reader")
    assert os.listdir(mount / "shop")
    assert writable(mount / "shop/web") == expected
    directory = bool({"create", "delete", "*"} & set(verbs)) and resource != "imagestreamtags"
    assert bits(mount / "shop") == (0o755 if directory else 0o555)


def test_bits_of_named_streams(server, start_mount):
    grant(server, rule(READ), rule(["patch"], names=["web"]), rule(["update"], names=["api"]),
          rule(["delete"], "imagestreamtags", ["worker:latest"]),
          rule(["create", "list"], names=["web"]))
    mount = start_mount(server, "--context", "reader")
    names = os.listdir(mount / "shop")
    assert writable(mount / "shop/web") == EDITOR - {"imagestream.json", "imagestream.yaml"}
    assert writable(mount / "shop/api") == {".", "imagestream.json", "imagestream.yaml"}
    assert bits(mount / "shop") == 0o555
    if "worker" in names:
        assert writable(mount / "shop/worker") == {"tags"}


def answer_of_review(**status):
    return {"kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1",
            "metadata": {}, "spec": {}, "status": status}


def test_incomplete_answer_leaves_the_bits(server, start_mount):
    grant(server, rule(READ))
    server.fault(path=RULES, status=201, count=5, json=answer_of_review(
        resourceRules=[], nonResourceRules=[], incomplete=True))
    mount = start_mount(server, "--context", "reader")
    assert os.listdir(mount / "shop")
    assert writable(mount / "shop/web") == EVERYTHING
    with pytest.raises(PermissionError):
        set_label(mount / "shop/web/metadata.json", lost="no")


@pytest.mark.parametrize("code", [403, 404, 500])
def test_no_answer_leaves_the_bits(server, start_mount, code):
    grant(server, rule(READ))
    server.fault(path="selfsubjectrulesreviews", status=code, count=100)
    mount = start_mount(server, "--context", "reader")
    assert os.listdir(mount / "shop")
    assert writable(mount / "shop/web") == EVERYTHING


@pytest.mark.parametrize("flavor", ["3.11", "3.7"])
def test_old_servers(start_server, start_mount, flavor):
    """Before Kubernetes 1.8 OpenShift's own review answers."""
    server = start_server("--sample", "--flavor", flavor)
    mount = start_mount(server, "--context", "developer")
    assert writable(mount / "dev/scratch") == EDITOR
    own = "/apis/authorization.openshift.io/v1/namespaces/dev/selfsubjectrulesreviews"
    assert len(requests(server, own)) == (flavor == "3.7")
    assert not (mount / "no-such-namespace").exists()


def test_hanging_review_keeps_nobody_waiting(server, start_mount):
    grant(server, rule(READ))
    server.fault(path=RULES, hang=True, count=1)
    mount = start_mount(server, "--context", "reader")
    assert os.listdir(mount / "shop")
    assert writable(mount / "shop/web") == EVERYTHING
    server.reset()  # ends the fault


# What the bits mean.


def refuses_everything(stream, files):
    for name in files:
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_CREAT):
            fails(errno.EACCES, os.open, stream / name, flags)
        fails(errno.EACCES, os.truncate, stream / name, 0)
        fails(errno.EACCES, os.rename, stream / name, stream / "away")
        assert not os.access(stream / name, os.W_OK)


def test_who_may_not_write(server, start_mount):
    role(server, "view", "shop")
    mount = start_mount(server, "--context", "reader")
    stream = mount / "shop/web"
    before = walk(stream)
    refuses_everything(stream, FILES[:-1])
    for name in ("spec.json", "image.json"):
        fails(errno.EACCES, os.open, stream / ("." + name), os.O_CREAT | os.O_WRONLY)
    fails(errno.EACCES, os.unlink, stream / "spec.json")
    fails(errno.EACCES, os.symlink, "x", stream / "link")
    fails(errno.EACCES, os.mkdir, stream / "directory")
    fails(errno.EACCES, os.mkdir, mount / "shop/new")
    fails(errno.EACCES, os.rmdir, stream)
    fails(errno.EACCES, os.mkdir, stream / "tags/new")
    server.reset()
    assert walk(stream) == before
    assert server.counts() == {}


def test_one_file_of_several(server, start_mount):
    """Scratch beside it works, and the files that may not be changed take no other text."""
    mount = start_mount(server, "--context", "developer")
    stream = mount / "dev/scratch"
    status = (stream / "status.json").read_text()
    other = json.dumps({**json.loads(status), "tags": [{"tag": "mine", "items": None}]})
    (stream / "note").write_text(other)
    fails(errno.EACCES, (stream / "status.json").write_text, other)
    assert (stream / "status.json.rejected").read_text() == other
    fails(errno.EACCES, os.rename, stream / "note", stream / "status.json")
    assert (stream / "note").read_text() == other and (stream / "status.json").read_text() == status
    assert not os.access(stream / "status.json", os.W_OK)
    set_label(stream / "metadata.json", saved="yes")
    assert server.get("dev", "scratch")["metadata"]["labels"]["saved"] == "yes"
    shutil.rmtree(stream)
    wait_for(lambda: not stream.exists(), SECOND)
    with pytest.raises(urllib.error.HTTPError):
        server.get("dev", "scratch")


# Changes.


@contextlib.contextmanager
def inotify(*paths):
    watch = Inotify()
    try:
        for path in paths:
            watch.add(path, os.path.basename(path))
        yield watch
    finally:
        watch.close()


def test_more_rights_are_announced(server, start_mount):
    role(server, "view", "shop")
    mount = start_mount(server, "--context", "reader", "--rights-interval", 1)
    stream = mount / "shop/web"
    walk(stream)
    assert writable(stream) == set()
    with inotify(stream, stream / "spec.json", mount / "shop") as watch:
        role(server, "edit", "shop")
        assert watch.until(lambda e: e == ("spec.json", "", "ATTRIB"), LATER)
        wait_for(lambda: writable(stream) == EDITOR, SECOND, "the bits")
        wait_for(lambda: bits(mount / "shop") == 0o755, SECOND)
        told = set(watch.take(0, 0, 0.3))
        assert {flags for _, _, flags in told} <= {"ATTRIB", "ATTRIB|ISDIR"} | {
            f for _, _, f in told if set(f.split("|")) <= {"OPEN", "ACCESS", "CLOSE_NOWRITE", "ISDIR"}}
    set_label(stream / "metadata.json", saved="yes")
    # Each change only once.
    with inotify(stream, stream / "spec.json") as watch:
        server.reset()
        wait_for(lambda: reviewed(server), LATER, "the next look")
        wait_for(lambda: len(reviewed(server)) > 1, LATER, "the one after")
        # The events of the save itself come when it is answered, perhaps only now.
        assert not [flags for _, _, flags in watch.read() if "ATTRIB" in flags]


def test_what_the_bits_allowed_and_the_server_refuses(server, start_mount):
    role(server, "edit", "shop")
    mount = start_mount(server, "--context", "reader")
    stream = mount / "shop/web"
    assert os.listdir(mount / "shop") and writable(stream) == EDITOR
    walk(stream)
    role(server, "view", "shop")
    server.control("POST", "revoke", {"user": "reader", "role": "edit"})
    with inotify(stream / "metadata.json") as watch:
        with pytest.raises(PermissionError):
            set_label(stream / "metadata.json", lost="no")
        assert '"lost"' in (stream / "metadata.json.rejected").read_text()
        assert "cannot patch" in (stream / "metadata.json.error").read_text()
        assert watch.until(lambda e: e[2] == "ATTRIB", LATER), "the bits weren't looked at again"
    wait_for(lambda: writable(stream) == set(), SECOND, "the bits")
    assert "web" in os.listdir(mount / "shop")


def test_mkdir_and_rmdir_are_decided_by_the_server(server, start_mount):
    grant(server, rule(READ + ["delete"]))
    mount = start_mount(server, "--context", "reader")
    assert os.listdir(mount / "shop") and bits(mount / "shop") == 0o755
    fails(errno.EACCES, os.mkdir, mount / "shop/new")
    server.create("shop", "bare")
    wait_for((mount / "shop/bare").exists, SECOND)
    os.rmdir(mount / "shop/bare")
    wait_for(lambda: not (mount / "shop/bare").exists(), SECOND)


def test_bits_without_events(server, start_mount):
    role(server, "view", "shop")
    mount = start_mount(server, "--context", "reader", "--rights-interval", 1, "-o", "noevents")
    assert os.listdir(mount / "shop") and writable(mount / "shop/web") == set()
    role(server, "edit", "shop")
    wait_for(lambda: writable(mount / "shop/web") == EDITOR, LATER, "the bits")


def test_cluster_wide_rights_that_go(server, start_mount):
    role(server, "cluster-admin")
    mount = start_mount(server, "--context", "reader", "--rights-interval", 1)
    assert writable(mount / "shop/web") == EVERYTHING
    walk(mount / "shop")
    role(server, "view")
    server.control("POST", "revoke", {"user": "reader", "role": "cluster-admin"})
    wait_for(lambda: writable(mount / "shop/web") == set(), LATER, "the bits")
    assert "shop" in reviewed(server)
    role(server, "cluster-admin")
    wait_for(lambda: writable(mount / "shop/web") == EVERYTHING, LATER, "the bits again")


def test_whole_cluster_that_shrinks(server, start_mount):
    """What is left of it is found namespace by namespace."""
    role(server, "view")
    role(server, "edit", "shop")
    mount = start_mount(server, "--context", "reader", "--rights-interval", 1, *QUICKLY)
    walk(mount.path)
    wait_for(lambda: writable(mount / "shop/web") == EDITOR, LATER, "the bits")
    wait_for_watches(server, 2)
    server.control("POST", "revoke", {"user": "reader", "role": "view"})
    server.control("POST", "drop", {"path": "imagestreams"})
    # Who is logged in reads openshift, but it isn't a project of his: it is found by name.
    wait_for(lambda: os.listdir(mount.path) == ["shop"], 3 * SURE, "the end of the others")
    wait_for(lambda: len(mount.status()["scopes"]) == 3, 3 * SURE, "the end of their scopes")
    wait_for(lambda: watches(server, namespaced("shop")) or os.listdir(mount / "shop") is None,
             LATER, "the watch of shop")
    assert "web" in os.listdir(mount / "shop")
    assert writable(mount / "shop/web") == EDITOR
    assert (mount / "openshift/nginx/spec.json").exists()


# Namespaces that come and go.


def test_projects_come_and_go(server, start_mount):
    mount = start_mount(server, "--context", "reader", *QUICKLY)
    wait_for_watches(server, 1)
    assert os.listdir(mount.path) == []
    with inotify(mount.path) as watch:
        role(server, "edit", "shop")
        assert watch.until(lambda e: e[1:] == ("shop", "CREATE|ISDIR"), LATER)
        assert writable(mount / "shop/web") in (EDITOR, EVERYTHING)
        wait_for(lambda: writable(mount / "shop/web") == EDITOR, SECOND)
        revoke(server, "shop")
        assert watch.until(lambda e: e[1:] == ("shop", "DELETE|ISDIR"), SURE)
    assert os.listdir(mount.path) == [] and not (mount / "shop").exists()
    role(server, "view", "shop")
    wait_for(lambda: os.listdir(mount.path) == ["shop"], LATER, "the project")
    wait_for(lambda: "web" in os.listdir(mount / "shop"), LATER, "its streams")
    wait_for(lambda: writable(mount / "shop/web") == set(), LATER, "its bits")


def test_access_that_is_withdrawn_while_watched(server, start_mount):
    """The watch of the streams goes on (a server cuts none), the projects' tells."""
    mount = start_mount(server, "--context", "developer", *QUICKLY)
    assert os.listdir(mount / "prod")
    wait_for_watches(server, 2)
    revoke(server, "prod", "developer")
    wait_for(lambda: os.listdir(mount.path) == ["dev"], SURE, "the end of prod")
    assert not (mount / "prod").exists()


def test_access_to_streams_alone_is_withdrawn(server, start_mount):
    """The project stays listed; a save finds out."""
    names = {"resources": ["namespaces"], "verbs": ["get"], "apiGroups": [""]}
    grant(server, names)
    role(server, "edit", "shop")
    mount = start_mount(server, "--context", "reader", *QUICKLY)
    assert os.listdir(mount / "shop")
    wait_for_watches(server, 2)
    server.control("POST", "revoke", {"user": "reader", "role": "edit"})
    with pytest.raises(PermissionError):
        set_label(mount / "shop/web/metadata.json", lost="no")

    def refused():
        try:
            return os.listdir(mount / "shop") and False
        except PermissionError:
            return True

    wait_for(refused, SURE, "the end of the streams")
    assert os.listdir(mount.path) == ["shop"]
    role(server, "view", "shop")


def test_unlisted_namespace_is_withdrawn(server, start_mount):
    """No project tells; the next look at the rights does."""
    grant(server, rule(READ))
    mount = start_mount(server, "--context", "reader", "--rights-interval", 1, *QUICKLY)
    assert "web" in os.listdir(mount / "shop")
    with open(mount / "shop/web/spec.json", "rb", buffering=0) as file:
        text = file.read()
        wait_for_watches(server, 2)
        revoke(server, "shop")
        wait_for(lambda: not os.path.exists(mount / "shop/web"), SURE, "the end of the streams")
        fails(errno.EACCES, os.listdir, mount / "shop")
        assert os.pread(file.fileno(), 1 << 20, 0) == text
    assert (mount / "openshift/nginx/spec.json").exists()


def test_namespace_deleted_while_nobody_watches(server, start_mount):
    mount = start_mount(server, "--context", "developer", *QUICKLY)
    assert sorted(os.listdir(mount.path)) == ["dev", "prod"]
    wait_for_watches(server, 1)
    server.fault(path=PROJECTS, watch=True, status=503, count=1)
    server.control("POST", "drop", {"path": "projects"})
    server.control("POST", "bulk", [{"op": "delete-namespace", "name": "prod"}])
    wait_for(lambda: os.listdir(mount.path) == ["dev"], SURE, "the end of prod")


def test_watch_of_projects_that_fails_is_backed_off(server, start_mount):
    mount = start_mount(server, "--context", "developer")
    wait_for_watches(server, 1)
    server.fault(path=PROJECTS, watch=True, status=503, count=3)
    server.reset()
    server.fault(path=PROJECTS, watch=True, status=503, count=2)
    server.control("POST", "drop", {"path": "projects"})
    wait_for(lambda: len([one for one in watches(server, PROJECTS) if one["status"] == 503]) == 2,
             LATER, "two failures")
    times = [one["time"] for one in watches(server, PROJECTS)]
    wait_for(lambda: len(watches(server, PROJECTS)) == 3, LATER + 3, "the third try")
    assert watches(server, PROJECTS)[2]["time"] - times[1] > 1.5
    assert os.listdir(mount.path)


# -n and -l.


def test_only_these_namespaces(server, start_mount):
    mount = start_mount(server, "-n", "shop", "--namespace", "dev")
    assert sorted(os.listdir(mount.path)) == ["dev", "shop"]
    assert not (mount / "openshift").exists() and not (mount / "prod").exists()
    assert "web" in os.listdir(mount / "shop")
    wait_for_watches(server, 1)
    server.label("shop", "web", seen="yes")
    wait_for(lambda: has_label(mount, "shop", "web", "seen"), SECOND)
    asked = {one["path"] for one in server.control("GET", "requests")["requests"]
             if one["headers"]["user-agent"] != "tests"}
    assert STREAMS not in asked
    assert {one["query"] for one in lists(server, PROJECTS)} == {"limit=1"}  # whether it has any
    assert not any("openshift/" in path or "prod" in path for path in asked)
    assert namespaced("dev") not in asked


def test_only_a_namespace_that_no_list_names(server, start_mount):
    grant(server, rule(READ), rule(["get", "watch"], names=["x"]))
    mount = start_mount(server, "--context", "reader", "-o", "namespace=shop")
    assert os.listdir(mount.path) == ["shop"]
    assert writable(mount / "shop/web") in (set(), EVERYTHING)
    wait_for(lambda: writable(mount / "shop/web") == set(), SECOND)


def test_only_one_stream(server, start_mount):
    grant(server, rule(["get", "watch"], names=["web"]))
    mount = start_mount(server, "--context", "reader", "-n", "shop")
    assert os.listdir(mount.path) == ["shop"] and os.listdir(mount / "shop") == ["web"]


def test_named_namespace_that_goes(server, start_mount):
    mount = start_mount(server, "-n", "shop", "-n", "dev", "--poll-interval", 1, *QUICKLY)
    assert os.listdir(mount / "shop")
    server.control("POST", "bulk", [{"op": "delete-namespace", "name": "shop"}])
    wait_for(lambda: os.listdir(mount.path) == ["dev"], SURE, "its end")
    server.control("POST", "bulk", [{"op": "create-namespace", "name": "shop"}])
    wait_for(lambda: sorted(os.listdir(mount.path)) == ["dev", "shop"], LATER, "the new one")


def starts(directory, server, *arguments):
    place = pathlib.Path(tempfile.mkdtemp(dir=directory))
    return subprocess.run([conftest.PROGRAM, "--kubeconfig", server.kubeconfig, *arguments, place],
                          capture_output=True, text=True, check=False, timeout=60), place


def test_only_a_namespace_that_is_not_there(server, directory):
    done, place = starts(directory, server, "-n", "shop", "-n", "no-such-namespace")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert '"no-such-namespace" not found' in done.stderr and not conftest.is_mounted(place)


def test_selected_streams(server, start_mount):
    server.label("shop", "web", team="a")
    mount = start_mount(server, "-l", "team=a,tier!=db")
    assert os.listdir(mount / "shop") == ["web"]
    assert all("labelSelector=team%3Da%2Ctier%21%3Ddb" in one["query"]
               for one in requests(server, STREAMS) if one["headers"]["user-agent"] != "tests")
    wait_for_watches(server, 2)
    server.label("shop", "api", team="a")
    wait_for((mount / "shop/api").is_dir, SECOND, "the one that is selected now")
    server.label("shop", "web", tier="db")
    wait_for(lambda: os.listdir(mount / "shop") == ["api"], SECOND, "the one that isn't any more")
    set_label(mount / "shop/api/metadata.json", team="b")
    wait_for(lambda: not (mount / "shop/api").exists(), SECOND, "one's own change")
    fails(errno.EPERM, os.mkdir, mount / "shop/new")


def changes(server):
    return [one for one in server.control("GET", "requests")["requests"]
            if one["method"] != "GET" and "/imagestreams" in one["path"]]


def test_what_is_not_selected_is_not_made_and_not_deleted(server, start_mount):
    """No watch would tell when it goes; and nobody deletes what isn't shown."""
    server.label("shop", "web", team="a")
    mount = start_mount(server, "-l", "team=a")
    manifest = {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
                "metadata": {"name": "new", "namespace": "shop"}}
    server.reset()
    for place in (".api/create", "shop/.api/create"):
        fails(errno.EPERM, (mount / place).write_text, json.dumps(manifest))
        assert "--selector" in (mount / place).read_text()
    fails(errno.EINVAL, (mount / "shop/.api/delete").write_text, '{"labelSelector": 5}')
    assert not changes(server)
    (mount / "shop/.api/delete").write_text('{"labelSelector": "app=shop"}')
    (mount / "shop/.api/delete").write_text("{}")
    assert [one["query"] for one in changes(server)] == [
        "pretty=true&labelSelector=app%3Dshop%2Cteam%3Da", "pretty=true&labelSelector=team%3Da"]
    assert os.listdir(mount / "shop") == []
    assert server.get("shop", "api") and server.get("shop", "worker")


def test_nothing_is_made_beside_the_namespaces_of_the_mount(server, start_mount):
    mount = start_mount(server, "-n", "shop")
    manifest = {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
                "metadata": {"name": "new"}}
    server.reset()
    for namespace in ({"namespace": "prod"}, {}):
        text = json.dumps({**manifest, "metadata": {"name": "new", **namespace}})
        fails(errno.EPERM, (mount / ".api/create").write_text, text)
    assert not changes(server) and os.listdir(mount.path) == ["shop"]
    manifest["metadata"]["namespace"] = "shop"
    (mount / ".api/create").write_text(json.dumps(manifest))
    assert (mount / "shop/new").is_dir()


def test_selected_streams_of_a_namespace(server, start_mount):
    server.label("dev", "scratch", team="a")
    server.create("dev", "other")
    mount = start_mount(server, "--context", "developer", "-l", "team=a", "-n", "dev")
    assert os.listdir(mount / "dev") == ["scratch"]
    assert not (mount / "dev/other").exists()


def test_selector_that_is_none(server, directory):
    done, place = starts(directory, server, "-l", "a=b=c")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "--selector a=b=c: " in done.stderr
    assert not conftest.is_mounted(place)


@pytest.mark.parametrize("option", ["umask=9", "umask=1000", "uid=me", "uid=-1", "gid="])
def test_options_that_are_none(server, directory, option):
    done, place = starts(directory, server, "-o", option)
    assert done.returncode == 2 and f"-o {option.split('=')[0]}: " in done.stderr
    assert not conftest.is_mounted(place)


def test_no_mask_where_the_kernel_opens(server, directory):
    done, place = starts(directory, server, "-o", "noopen,allow_other,umask=077")
    assert done.returncode == 2 and "in vain" in done.stderr and not conftest.is_mounted(place)


# Other people.


def readable(server):
    for path in (server.kubeconfig, server.kubeconfig.parent):
        path.chmod(0o755)


def as_nobody(*command):
    return subprocess.run([*NOBODY, *command], capture_output=True, text=True, check=False)


def test_ordinary_user(server, start_mount):
    """Through fusermount3, as the developer: his files, his bits, his saves."""
    readable(server)
    mount = start_mount(server, "--context", "developer", user="nobody")
    stream = mount / "dev/scratch"
    assert as_nobody("ls", "-l", stream).returncode == 0
    done = as_nobody("stat", "-c", "%A %U", stream / "spec.json", stream / "status.json")
    assert done.stdout.split() == ["-rw-r--r--", "nobody", "-r--r--r--", "nobody"]
    done = as_nobody("sh", "-c", f'cd {stream} && sed -i s/name/name/ spec.json && cp metadata.json status.json')
    assert "failed to close 'status.json'" in done.stderr
    done = as_nobody("jq", '.labels.by = "nobody"', stream / "metadata.json")
    script = f'cat > {stream}/metadata.json <<"END"\n{done.stdout}END\n'
    assert as_nobody("sh", "-c", script).returncode == 0
    assert server.get("dev", "scratch")["metadata"]["labels"]["by"] == "nobody"
    done = as_nobody("touch", mount / "prod/web/x")
    assert "Permission denied" in done.stderr or "No such file" in done.stderr
    # And nobody else's, not even root's.
    fails(errno.EACCES, os.listdir, mount.path)


def test_others_stay_outside(server, mount):
    done = as_nobody("ls", mount.path)
    assert done.returncode and "Permission denied" in done.stderr


def test_others_that_are_let_in(server, start_mount):
    """They read what the mounter reads, and write nothing."""
    mount = start_mount(server, "-o", "allow_other")
    mount.directory.chmod(0o755)
    stream = mount / "shop/web"
    assert "web" in as_nobody("ls", mount / "shop").stdout
    assert '"name": "web"' in as_nobody("cat", stream / "metadata.json").stdout
    for script in ("echo x > spec.json", "echo x > new", "rm spec.json", "mv spec.json other",
                   "ln -s x link", "mkdir tags/new", "rmdir tags/*", "touch spec.json",
                   "chmod 600 spec.json", "truncate -s 0 spec.json", ": >> spec.json"):
        done = as_nobody("sh", "-c", f"cd {stream} && {script}")
        assert done.returncode, script
        assert "ermi" in done.stderr, (script, done.stderr)
    assert as_nobody("test", "-w", stream / "spec.json").returncode
    assert as_nobody("test", "-r", stream / "spec.json").returncode == 0
    assert sorted(os.listdir(stream)) == sorted(FILES)


def test_group_that_may_write(server, start_mount):
    """uid=, gid= and umask= say whose the files are; saves go out with the mounter's credentials."""
    mount = start_mount(server, "-o", "allow_other,uid=1234,gid=4321,umask=002,default_permissions")
    mount.directory.chmod(0o755)
    stream = mount / "shop/web"
    st = (stream / "spec.json").stat()
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (1234, 4321, 0o664)
    assert bits(mount / "shop") == 0o775 and bits(mount.path) == 0o555
    text = json.loads((stream / "metadata.json").read_text())

    def write(value, *identity):
        text["labels"] = {"by": value}
        return subprocess.run(["setpriv", *identity, "sh", "-c", f"cat > {stream}/metadata.json"],
                              input=json.dumps(text), text=True, capture_output=True, check=False)

    assert write("group", "--reuid=1000", "--regid=1000", "--groups=4321").returncode == 0
    assert server.get("shop", "web")["metadata"]["labels"] == {"by": "group"}
    assert write("owner", "--reuid=1234", "--regid=1000", "--clear-groups").returncode == 0
    assert server.get("shop", "web")["metadata"]["labels"] == {"by": "owner"}
    assert write("other", "--reuid=1000", "--regid=1000", "--clear-groups").returncode
    assert server.get("shop", "web")["metadata"]["labels"] == {"by": "owner"}
    # What is changed on the server is announced all the same.
    server.label("shop", "web", seen="yes")
    wait_for(lambda: has_label(mount, "shop", "web", "seen"), SECOND)


def test_others_see_nothing_of_what_the_bits_hide(server, start_mount):
    """Also not what the kernel keeps."""
    mount = start_mount(server, "-o", "allow_other,umask=077")
    mount.directory.chmod(0o755)
    walk(mount.path)
    stream = mount / "shop/web"
    assert bits(stream) == 0o700 and bits(stream / "spec.json") == 0o600
    for command in (["ls", mount.path], ["ls", stream], ["cat", stream / "spec.json"],
                    ["stat", stream / "spec.json"], ["stat", mount / "shop"],
                    ["env", "-C", mount.path, "true"], ["cat", mount / ".api/status.json"]):
        done = as_nobody(*command)
        assert done.returncode and "ermission denied" in done.stderr, (command, done)
    assert as_nobody("stat", mount.path).returncode == 0
    server.label("shop", "web", seen="yes")
    wait_for(lambda: has_label(mount, "shop", "web", "seen"), SECOND)
