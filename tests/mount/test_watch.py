"""The tree follows the server: changes, resumed watches, new lists, rights."""

import json
import os
import subprocess

import pytest

from conftest import wait_for

SECOND = 1.5  # "visible within 1 s", and what a busy machine adds
LATER = 6  # one back-off and what follows it
QUICKLY = ("--confirm-interval", 1)  # what is lost is sure after three looks
SURE = 20  # three looks, and what begins them
API = "/apis/image.openshift.io/v1"
STREAMS = API + "/imagestreams"
PROJECTS = "/apis/project.openshift.io/v1/projects"


def walk(top):
    """Every name, and every file's bytes but for .api."""
    files = {}
    for place, directories, names in os.walk(top):
        for name in names:
            path = os.path.join(place, name)
            with open(path, "rb") as file:
                files[path] = file.read()
        for name in directories:
            os.lstat(os.path.join(place, name))
    return files


def requests(server, path):
    return [one for one in server.control("GET", "requests")["requests"] if one["path"] == path]


def watches(server, path=STREAMS):
    return [one for one in requests(server, path) if "watch=true" in one["query"]]


def lists(server, path=STREAMS):
    return [one for one in requests(server, path) if "watch=true" not in one["query"]]


def version_of(request):
    return dict(part.split("=", 1) for part in request["query"].split("&"))["resourceVersion"]


def wait_for_watches(server, number=2):
    wait_for(lambda: server.control("GET", "state")["watches"] >= number, LATER, "the watches")


def document(path):
    """None in the middle of a change, where two versions may meet, as in a file on disk."""
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def labels(mount, namespace, name):
    value = document(mount / namespace / name / "metadata.json")
    return None if value is None else value.get("labels", {})


def has_label(mount, namespace, name, label):
    return label in (labels(mount, namespace, name) or {})


def scope(mount, path=STREAMS):
    return next(one for one in mount.status()["scopes"] if one["path"] == path)


def bulk(server, *changes):
    server.control("POST", "bulk", list(changes))


# What changes on the server.


def test_streams_come_change_and_go(server, mount):
    stream = mount / "dev/fresh"
    assert not stream.exists()
    server.create("dev", "fresh")
    wait_for(stream.is_dir, SECOND, "the new stream")
    assert "fresh" in os.listdir(mount / "dev")
    server.label("dev", "fresh", colour="green")
    wait_for(lambda: labels(mount, "dev", "fresh") == {"colour": "green"}, SECOND, "the label")
    wait_for(lambda: document(stream / "imagestream.json") == server.get("dev", "fresh"), SECOND)
    server.delete("dev", "fresh")
    wait_for(lambda: not stream.exists(), SECOND, "the deletion")
    assert "fresh" not in os.listdir(mount / "dev")


def test_tags_come_change_and_go(server, mount):
    tags = mount / "dev/scratch/tags"
    path = server.streams("dev", "scratch")
    patch = "application/merge-patch+json"

    def put(*wanted):
        server.request("PATCH", path, {"spec": {"tags": [
            {"name": name, "from": {"kind": "DockerImage", "name": "example.org/" + image}}
            for name, image in wanted]}}, patch)

    def names(name, image):
        return f'"example.org/{image}"' in (tags / name / "spec.json").read_text()

    put(("one", "a"), ("two", "b"))
    wait_for(lambda: {"one", "two"} <= set(os.listdir(tags)), SECOND, "the tags")
    assert names("one", "a")
    assert names("one", "a")
    put(("one", "c"))
    wait_for(lambda: names("one", "c"), SECOND, "the tag's change")
    wait_for(lambda: not (tags / "two").exists(), SECOND, "the tag's end")
    assert "two" not in os.listdir(tags)


def test_pushed_image_shows(server, mount):
    image = mount / "openshift/nginx/tags" / os.listdir(mount / "openshift/nginx/tags")[0]
    before = walk(mount / "openshift/nginx")
    assert (image / "image").exists()
    server.control("POST", "bulk",
                   {"modify": {"match": "^nginx$", "namespace": "openshift", "change": "image"}})

    def moved():
        now = walk(mount / "openshift/nginx")
        return [name for name in now if now[name] != before[name]]

    changed = {os.path.basename(name) for name in wait_for(moved, SECOND, "the push")}
    assert "image" in changed and "status.json" in changed
    assert "metadata.json" not in changed


def test_namespaces_come_and_go(server, start_mount):
    mount = start_mount(server, *QUICKLY)
    assert not (mount / "later").exists()
    bulk(server, {"op": "create-namespace", "name": "later"})
    wait_for((mount / "later").is_dir, SECOND, "the new namespace")
    server.create("later", "one")
    wait_for((mount / "later/one").is_dir, SECOND, "its stream")
    bulk(server, {"op": "delete-namespace", "name": "later"})
    wait_for(lambda: not (mount / "later").exists(), SURE, "its end")
    assert "later" not in os.listdir(mount.path)


def test_deleted_project_goes(server, start_mount):
    mount = start_mount(server, *QUICKLY)
    assert (mount / "dev/scratch").is_dir()
    server.request("DELETE", PROJECTS + "/dev")
    wait_for(lambda: not (mount / "dev").exists(), SURE, "the end of the project")
    assert "dev" not in os.listdir(mount.path)


def test_many_changes_all_arrive(server, mount):
    server.control("POST", "bulk", {"modify": {"change": "label", "times": 50}})
    truth = {(one["metadata"]["namespace"], one["metadata"]["name"]): one
             for one in server.request("GET", STREAMS)["items"]}
    wait_for(lambda: all(labels(mount, *key) == one["metadata"]["labels"]
                         for key, one in truth.items()), 20 * SECOND, "the labels")


def test_walks_ask_nothing(server, mount):
    walk(mount.path)
    wait_for_watches(server)
    server.reset()
    first = walk(mount.path)
    second = walk(mount.path)
    subprocess.run(["ls", "-lR", mount.path], stdout=subprocess.DEVNULL, check=True)
    assert not (mount / "no-such-namespace").exists()
    assert first == second and len(first) > 100
    assert server.counts() == {}


# Inodes, times, handles.


def test_label_moves_only_its_files(server, mount):
    top = mount / "openshift/nginx"
    names = [path for path in walk(top)]
    before = {name: os.stat(name).st_mtime_ns for name in names}
    server.label("openshift", "nginx", moved="yes")
    wait_for(lambda: has_label(mount, "openshift", "nginx", "moved"), SECOND)
    wait_for(lambda: (top / "imagestream.json").stat().st_mtime_ns
             > before[str(top / "imagestream.json")], SECOND, "the whole object's time")
    wait_for(lambda: (top / "metadata.json").stat().st_mtime_ns
             > before[str(top / "metadata.json")], SECOND, "the time of the metadata")
    moved = {os.path.relpath(name, top) for name in names
             if os.stat(name).st_mtime_ns != before[name]}
    assert moved == {"metadata.json", "imagestream.json", "imagestream.yaml"}


def test_inode_is_the_object(server, mount):
    server.create("dev", "one")
    stream = mount / "dev/one"
    wait_for(stream.is_dir, SECOND)

    def inodes():
        return [path.stat().st_ino for path in (stream, stream / "metadata.json")]

    first = inodes()
    server.label("dev", "one", a="b")
    wait_for(lambda: labels(mount, "dev", "one") == {"a": "b"}, SECOND)
    assert inodes() == first
    server.delete("dev", "one")
    wait_for(lambda: not stream.exists(), SECOND)
    server.create("dev", "one")
    wait_for(stream.is_dir, SECOND)
    assert not set(inodes()) & set(first)


def inode(path):
    """None while nothing is there."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


@pytest.mark.parametrize("again", [False, True], ids=["gone", "made-again"])
def test_handle_outlives_its_stream(server, mount, again):
    server.create("dev", "one", lookupPolicy={"local": True})
    stream = mount / "dev/one"
    wait_for(stream.is_dir, SECOND)
    text = (stream / "imagestream.json").read_bytes()
    with open(stream / "imagestream.json", "rb", buffering=0) as file:
        server.delete("dev", "one")
        if again:
            server.create("dev", "one")
            old = os.fstat(file.fileno()).st_ino
            wait_for(lambda: inode(stream / "imagestream.json") not in (None, old), SECOND,
                     "the new one")
        else:
            wait_for(lambda: not stream.exists(), SECOND)
        wait_for(lambda: os.fstat(file.fileno()).st_nlink == 0, SECOND, "nlink 0")
        assert os.fstat(file.fileno()).st_size == len(text)
        assert file.read() == text
        assert os.pread(file.fileno(), 10, 5) == text[5:15]


def test_handle_of_a_large_file_reads_one_version(start_server, start_mount):
    server = start_server("--big-stream", 300000)
    mount = start_mount(server)
    item = server.request("GET", STREAMS)["items"][0]["metadata"]
    namespace, name = item["namespace"], item["name"]
    path = mount / namespace / name / "imagestream.json"
    whole = path.read_bytes()
    assert len(whole) > 65536
    with open(path, "rb", buffering=0) as file:
        parts = [file.read(4096)]
        server.label(namespace, name, **{f"l{i}": "v" * 50 for i in range(50)})
        wait_for(lambda: path.stat().st_size != len(whole), SECOND, "the change")
        assert os.fstat(file.fileno()).st_size == path.stat().st_size
        while part := file.read(65536):
            parts.append(part)
        assert b"".join(parts) == whole
    new = path.read_bytes()
    assert len(new) == path.stat().st_size and new != whole
    assert json.loads(new)["metadata"]["labels"]["l0"] == "v" * 50


# Watches that end.


@pytest.mark.parametrize("clean", [False, True], ids=["cut", "ended"])
def test_dropped_watch_is_resumed(server, mount, clean):
    wait_for_watches(server)
    server.reset()
    server.control("POST", "drop", {"path": STREAMS, "clean": clean})
    server.create("dev", "meanwhile")
    wait_for((mount / "dev/meanwhile").is_dir, LATER, "the change")
    # A watch that is ended properly may have told of it before.
    wait_for(lambda: watches(server), LATER, "the next watch")
    assert not lists(server)
    assert int(version_of(watches(server)[0])) > 0


@pytest.mark.parametrize("style", ["event", "status"])
def test_list_again_after_410(server, mount, style):
    """ERROR 410 in the watch, and HTTP 410: a new list finds also what has vanished."""
    inode = (mount / "openshift/nginx").stat().st_ino
    server.create("dev", "doomed")
    wait_for((mount / "dev/doomed").is_dir, SECOND)
    wait_for_watches(server)
    server.fault(path=STREAMS + "$", watch=True, status=503, count=1)
    server.control("POST", "drop", {"path": STREAMS})
    server.delete("dev", "doomed")
    server.create("dev", "meanwhile")
    server.label("openshift", "nginx", found="yes")
    server.control("POST", "compact", {"style": style})
    assert (mount / "dev/doomed").is_dir()
    wait_for((mount / "dev/meanwhile").is_dir, LATER, "the new list")
    wait_for(lambda: not (mount / "dev/doomed").exists(), SECOND, "the end of what vanished")
    wait_for(lambda: has_label(mount, "openshift", "nginx", "found"), SECOND)
    assert lists(server)
    assert any(one["code"] == 410 for one in mount.errors())
    assert (mount / "openshift/nginx").stat().st_ino == inode
    wait_for_watches(server)
    server.create("dev", "after")
    wait_for((mount / "dev/after").is_dir, SECOND, "the watch after the list")


def test_error_event_of_another_kind(server, mount):
    wait_for_watches(server)
    server.reset()
    event = {"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "code": 500,
                                         "status": "Failure", "message": "etcd is unwell"}}
    server.fault(path=STREAMS + "$", watch=True, status=200, json=event, count=1)
    server.control("POST", "drop", {"path": STREAMS})
    server.create("dev", "meanwhile")
    wait_for((mount / "dev/meanwhile").is_dir, LATER + 4, "the change")
    assert "etcd is unwell" in [one["message"] for one in mount.errors()]


def test_watch_cut_in_an_event(server, mount):
    wait_for_watches(server)
    server.reset()
    server.fault(path=STREAMS + "$", cutInEvent=True, count=1)
    server.create("dev", "halved")
    wait_for((mount / "dev/halved").is_dir, LATER, "the change")
    assert watches(server) and not lists(server)


def test_silent_watch_is_found(server, start_mount):
    mount = start_mount(server, "--watch-timeout", 2)
    wait_for_watches(server)
    assert server.control("POST", "silence", {})["silenced"] == 2
    server.create("dev", "unheard")
    wait_for((mount / "dev/unheard").is_dir, 8, "the change after the silence")
    assert labels(mount, "dev", "unheard") == {}


def test_bookmarks_move_the_place_to_resume(start_server, start_mount):
    server = start_server("--sample", "--bookmark-interval", 0.2)
    mount = start_mount(server, "--watch-timeout", 1)
    wait_for_watches(server)
    first = version_of(watches(server)[0])
    # A change of something else: only a bookmark can tell the new version.
    bulk(server, {"op": "create-namespace", "name": "elsewhere"})
    now = server.control("GET", "state")["resourceVersion"]
    assert int(now) > int(first)
    wait_for(lambda: version_of(watches(server)[-1]) == now, LATER, "the newer version")
    assert len(lists(server)) == 1
    assert scope(mount)["error"] is None


def test_without_bookmarks(start_server, start_mount):
    server = start_server("--sample", "--no-bookmarks")
    mount = start_mount(server, "--watch-timeout", 1)
    wait_for(lambda: len(watches(server)) >= 3, LATER, "the third watch")
    server.create("dev", "fresh")
    wait_for((mount / "dev/fresh").is_dir, SECOND + 1, "the change")
    assert len(lists(server)) == 1 and len({version_of(one) for one in watches(server)[:3]}) == 1


def test_long_list_comes_in_pages(start_server, start_mount):
    server = start_server("--streams", 1200, "--tags", 1, "--namespaces", 3)
    mount = start_mount(server)
    assert len(lists(server)) >= 3
    found = sum(len(os.listdir(mount / name)) for name in os.listdir(mount.path))
    assert found == 1200 == mount.status()["counts"]["imagestreams"]


def test_expired_page_is_listed_again(start_server, start_mount):
    server = start_server("--streams", 1200, "--tags", 1)
    server.fault(path=STREAMS + "$", watch=False, delay=0, count=1)  # lets the first page pass
    server.fault(path=STREAMS + "$", watch=False, status=410, count=1)
    mount = start_mount(server)
    found = sum(len(os.listdir(mount / name)) for name in os.listdir(mount.path))
    assert found == 1200
    assert "limit" not in lists(server)[-1]["query"]


@pytest.mark.parametrize("flavor", ["3.11", "3.7"])
def test_old_servers(start_server, start_mount, flavor):
    server = start_server("--sample", "--flavor", flavor)
    mount = start_mount(server)
    assert len(walk(mount.path)) > 100
    server.label("openshift", "nginx", old="yes")
    wait_for(lambda: has_label(mount, "openshift", "nginx", "old"), SECOND)
    server.delete("dev", "scratch")
    wait_for(lambda: not (mount / "dev/scratch").exists(), SECOND)
    wait_for_watches(server)
    server.control("POST", "drop", {})
    server.create("dev", "after")
    wait_for((mount / "dev/after").is_dir, LATER)


# Rights.


def namespaced(namespace):
    return f"{API}/namespaces/{namespace}/imagestreams"


def test_developer_sees_his_projects(server, start_mount):
    mount = start_mount(server, "--context", "developer")
    assert sorted(os.listdir(mount.path)) == ["dev", "prod"]
    assert not requests(server, namespaced("dev")) and not requests(server, namespaced("prod"))
    assert os.listdir(mount / "dev") == ["scratch"]
    wait_for(lambda: watches(server, namespaced("dev")), SECOND, "the watch of dev")
    assert not requests(server, namespaced("prod"))
    assert os.listdir(mount / "prod")
    wait_for(lambda: watches(server, namespaced("prod")), SECOND, "the watch of prod")
    server.create("dev", "fresh")
    wait_for((mount / "dev/fresh").is_dir, SECOND, "the change in dev")
    assert mount.status()["user"] == "developer"
    wait_for_watches(server, 3)
    walk(mount.path)
    server.reset()
    walk(mount.path)
    assert server.counts() == {}


def test_first_use_may_be_a_lookup_far_below(server, start_mount):
    mount = start_mount(server, "--context", "developer")
    assert json.loads((mount / "dev/scratch/metadata.json").read_text())["name"] == "scratch"
    with pytest.raises(FileNotFoundError):
        os.stat(mount / "prod/no-such-stream")


def test_openshift_is_found_though_not_listed(server, start_mount):
    mount = start_mount(server, "--context", "developer")
    assert "openshift" not in os.listdir(mount.path)
    assert (mount / "openshift").is_dir()
    assert "nginx" in os.listdir(mount / "openshift")
    assert json.loads((mount / "openshift/nginx/metadata.json").read_text())["name"] == "nginx"
    server.label("openshift", "nginx", found="yes")
    wait_for(lambda: has_label(mount, "openshift", "nginx", "found"), SECOND)
    for name in ("no-such-namespace", "monitoring", "Not_A_Namespace"):
        with pytest.raises(FileNotFoundError):
            os.stat(mount / name)
    assert not requests(server, namespaced("Not_A_Namespace"))


@pytest.mark.parametrize("context", ["admin", "viewer", "developer"])
def test_ls_works_for(server, start_mount, context):
    mount = start_mount(server, "--context", context)
    done = subprocess.run(["ls", "-lR", mount.path], capture_output=True, text=True, check=True)
    assert not done.stderr
    assert "metadata.json" in done.stdout


def test_nobody_sees_nothing(server, start_mount):
    mount = start_mount(server, "--context", "nobody")
    assert os.listdir(mount.path) == []
    assert not (mount / "dev").exists()
    assert mount.status()["user"] == "nobody"


def test_rights_that_go_and_come(server, start_mount):
    """Streams of a namespace go once it is sure that the server refuses them."""
    mount = start_mount(server, "--context", "developer", *QUICKLY)
    assert os.listdir(mount / "prod")
    wait_for_watches(server, 2)
    server.control("POST", "revoke", {"user": "developer", "namespace": "prod", "role": "view"})
    server.control("POST", "drop", {"path": "namespaces/prod"})
    wait_for(lambda: not (mount / "prod").exists(), SURE, "the end of prod")
    assert os.listdir(mount.path) == ["dev"]
    server.control("POST", "grant", {"user": "developer", "namespace": "shop", "role": "view"})
    wait_for(lambda: "shop" in os.listdir(mount.path), LATER, "the new project")
    assert os.listdir(mount / "shop")


def start_unlisted(server, start_mount, *streams):
    """A mount that can't list the projects any more, and a namespace that is there by its streams."""
    mount = start_mount(server, *QUICKLY)
    server.fault(path=PROJECTS + "$", status=503, count=1000)
    server.control("POST", "drop", {"path": PROJECTS})
    server.control("POST", "bulk", [{"op": "create-namespace", "name": "early"}])
    for name in streams:
        server.create("early", name)
    wait_for(lambda: os.path.exists(mount / "early" / streams[-1]), SECOND, "the namespace by its streams")
    return mount


def test_namespace_that_no_list_told_of_yet(server, start_mount):
    """Whether it goes with its streams is for a list to say."""
    mount = start_unlisted(server, start_mount, "web", "api")
    place = os.open(mount / "early", os.O_PATH)
    for name in ("web", "api"):
        server.delete("early", name)
    wait_for(lambda: os.listdir(mount / "early") == [], SECOND, "the end of its streams")
    server.control("DELETE", "faults", {})
    wait_for(lambda: any(one["status"] == 200 for one in watches(server, PROJECTS)[1:]), LATER, "the projects' watch")
    server.create("early", "later")
    wait_for(lambda: os.path.exists(mount / "early/later/spec.json"), SECOND, "another stream")
    assert os.fstat(place).st_ino == os.stat(mount / "early").st_ino
    assert os.listdir(f"/proc/self/fd/{place}") == ["later"]
    os.close(place)
    server.control("POST", "bulk", [{"op": "delete-namespace", "name": "early"}])
    wait_for(lambda: not os.path.exists(mount / "early"), SURE, "its end")


def test_namespace_that_came_and_went_unlisted(server, start_mount):
    mount = start_unlisted(server, start_mount, "web")
    server.control("POST", "bulk", [{"op": "delete-namespace", "name": "early"}])
    wait_for(lambda: os.listdir(mount / "early") == [], SECOND, "the end of its stream")
    server.control("DELETE", "faults", {})
    wait_for(lambda: not os.path.exists(mount / "early"), SURE, "its end")
