"""--dry-run: every kind of write is judged by the server, and nothing changes (DESIGN.md 3)."""

import errno
import json
import os
import pathlib
import shutil
import subprocess

import pytest
import yaml
from conftest import Mount, Server, fails, wait_for

SECONDS = 20  # for something to come, on a busy machine
NOISY = "refused|kept|watch|server"
IMAGES = "/apis/image.openshift.io/v1"


def state(server):
    """All that the server has, and the version that any write at all would move."""
    texts = [json.dumps(server.request("GET", path)) for path in (
        IMAGES + "/imagestreams", IMAGES + "/images", "/api/v1/namespaces",
        "/apis/project.openshift.io/v1/projects", IMAGES + "/namespaces/shop/imagestreamtags")]
    return [server.control("GET", "state")["resourceVersion"], *texts]


def tree(path, top):
    """Every name below, and every file's bytes."""
    found = {}
    for place, directories, files in os.walk(path):
        here = os.path.relpath(place, top)
        found[here] = sorted(directories + files)
        for name in files:
            file = pathlib.Path(place, name)
            found[f"{here}/{name}"] = file.read_bytes(), file.stat().st_size
    return found


@pytest.fixture(scope="module")
def rig(directory):
    """One server and one mount for all: nothing that is done here is there for the next."""
    server = Server(pathlib.Path(directory), "--sample", "--import-controller")
    server.create("dev", "bare")
    server.create("dev", "odd", tags=[
        {"name": "a/b", "from": {"kind": "DockerImage", "name": "quay.io/example/odd:1"}},
        {"name": "a:b"}, {"name": "plain"}])
    server.request("PATCH", server.streams("dev", "scratch"),
                   {"metadata": {"labels": {"l": "1"}, "finalizers": ["example.test/held"]}},
                   "application/merge-patch+json")

    def settled():
        odd = server.get("dev", "odd")
        return odd["status"].get("tags") and odd["metadata"]["generation"] > 1
    wait_for(settled, SECONDS, "the import")
    home = pathlib.Path(directory) / "dry-run-state"
    home.mkdir()
    mount = Mount(directory, server.kubeconfig, "--dry-run",
                  environment={"XDG_STATE_HOME": str(home)})
    mount.server, mount.home = server, home
    mount.expect(NOISY)
    try:
        yield mount
        assert mount.stop() < 2
        mount.check()
    finally:
        if mount.process.poll() is None:
            mount.kill()
        server.stop()


def put(path, text):
    """open(O_TRUNC), write, close: the close's verdict is raised."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, text.encode() if isinstance(text, str) else text)
    os.close(fd)


def edit(path, change):
    """A save of JSON or YAML, as an editor makes it: read, then written anew."""
    value = (yaml.safe_load if path.suffix == ".yaml" else json.loads)(path.read_text())
    change(value)
    put(path, json.dumps(value))


def rename_over(path, change):
    value = json.loads(path.read_text())
    change(value)
    other = path.with_name("new.tmp")
    other.write_text(json.dumps(value))
    os.rename(other, path)


def label(value):
    value.setdefault("labels", {})["by"] = "me"


def label_whole(value):
    value["metadata"].setdefault("labels", {})["by"] = "me"
    value["spec"]["lookupPolicy"] = {"local": True}


def lookup(value):
    value["lookupPolicy"] = {"local": True}


def retag(value):
    value["from"] = {"kind": "DockerImage", "name": "quay.io/example/other:1"}


def drop_history(value):
    value["tags"][0]["items"] = value["tags"][0]["items"][:1]


def drop_items(value):
    value["items"] = value["items"][:1]


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


def manifest(name, **more):
    return json.dumps({"kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
                       "metadata": {"name": name, "namespace": "dev", **more}})


def remake(path):
    """rm -r of what can be removed, in any order; what was there is still there."""
    subprocess.run(["rm", "-rf", str(path)], capture_output=True, check=False)


WRITES = {
    "imagestream.json": lambda top: edit(top / "shop/web/imagestream.json", label_whole),
    "imagestream.yaml": lambda top: edit(top / "shop/web/imagestream.yaml", label_whole),
    "metadata.json": lambda top: edit(top / "shop/web/metadata.json", label),
    "spec.json": lambda top: edit(top / "shop/web/spec.json", lookup),
    "spec.json, a tag less": lambda top: edit(top / "shop/web/spec.json",
                                              lambda value: value["tags"].pop()),
    "status.json": lambda top: edit(top / "shop/web/status.json", drop_history),
    "a tag's spec.json": lambda top: edit(top / "shop/web/tags/1.0/spec.json", retag),
    "a tag's spec.json, whose name no URL has": lambda top: edit(
        top / "dev/odd/tags/a%2Fb/spec.json", retag),
    "a tag's status.json": lambda top: edit(top / "shop/web/tags/1.0/status.json", drop_items),
    "from": lambda top: put(top / "shop/web/tags/1.0/from", "quay.io/example/other:1\n"),
    "from, a tag": lambda top: put(top / "shop/web/tags/1.0/from", "ImageStreamTag shop/api:v1\n"),
    "from, an image": lambda top: put(
        top / "shop/web/tags/1.0/from",
        (top / "shop/api/tags/v1/image").read_text()),
    "an equal file": lambda top: put(top / "shop/web/spec.json",
                                     (top / "shop/web/spec.json").read_bytes()),
    "rename over spec.json": lambda top: rename_over(top / "shop/web/spec.json", lookup),
    "rename over metadata.json": lambda top: rename_over(top / "shop/web/metadata.json", label),
    "another stream's text": lambda top: put(top / "dev/bare/imagestream.json",
                                             (top / "shop/web/imagestream.json").read_bytes()),
    "another tag's text": lambda top: put(top / "shop/web/tags/1.1/spec.json",
                                          (top / "shop/web/tags/1.0/spec.json").read_bytes()),
    "sed -i": lambda top: run("sed", "-i", 's/"local": false/"local": true/',
                              str(top / "shop/web/spec.json")),
    "mkdir": lambda top: os.mkdir(top / "dev/new"),
    "mkdir of a tag": lambda top: os.mkdir(top / "shop/web/tags/new"),
    "mkdir of an odd tag": lambda top: os.mkdir(top / "shop/web/tags/a%2Fc"),
    "rmdir": lambda top: os.rmdir(top / "dev/bare"),
    "rmdir of a tag": lambda top: os.rmdir(top / "dev/odd/tags/plain"),
    "rmdir of an odd tag": lambda top: os.rmdir(top / "dev/odd/tags/a:b"),
    "rm -r of a stream": lambda top: remake(top / "shop/api"),
    "rm -r of a tag": lambda top: remake(top / "shop/web/tags/2.0"),
    "rm -r of what a finalizer holds": lambda top: remake(top / "dev/scratch"),
    "create": lambda top: put(top / ".api/create", manifest("made")),
    "create in a namespace": lambda top: put(top / "dev/.api/create", manifest("made")),
    "apply": lambda top: put(top / ".api/apply", manifest("made") + manifest(
        "bare", labels={"a": "b"})),
    "apply-force": lambda top: put(top / "dev/.api/apply-force", manifest(
        "scratch", labels={"l": "2"})),
    "export and apply": lambda top: put(top / ".api/apply-force",
                                        (top / ".api/export.yaml").read_bytes()),
    "delete": lambda top: put(top / "shop/web/.api/delete", "{}"),
    "delete what a finalizer holds": lambda top: put(top / "dev/scratch/.api/delete", "{}"),
    "delete, said twice": lambda top: put(top / "shop/web/.api/delete", '{"dryRun": ["All"]}'),
    "delete a collection": lambda top: put(top / "shop/.api/delete", "{}"),
    "delete a selection": lambda top: put(top / "shop/.api/delete",
                                          '{"labelSelector": "tier=web"}'),
    "json-patch": lambda top: put(top / "shop/web/.api/json-patch", json.dumps(
        [{"op": "add", "path": "/metadata/labels/by", "value": "me"}])),
    "merge-patch": lambda top: put(top / "shop/web/.api/merge-patch",
                                   '{"metadata": {"labels": {"by": "me"}}}'),
    "strategic-merge-patch": lambda top: put(top / "shop/web/.api/strategic-merge-patch",
                                             '{"spec": {"lookupPolicy": {"local": true}}}'),
    "status-json-patch": lambda top: put(top / "shop/web/.api/status-json-patch", json.dumps(
        [{"op": "remove", "path": "/status/tags/0"}])),
    "status-merge-patch": lambda top: put(top / "shop/web/.api/status-merge-patch",
                                          '{"status": {"tags": null}}'),
    "status-strategic-merge-patch": lambda top: put(
        top / "shop/web/.api/status-strategic-merge-patch", '{"status": {"tags": null}}'),
    "status-replace": lambda top: put(top / "shop/web/.api/status-replace",
                                      (top / "shop/web/imagestream.json").read_bytes()),
    "import": lambda top: put(top / "shop/web/tags/1.0/.api/import", "now\n"),
    "import of an odd tag": lambda top: put(top / "dev/odd/tags/a%2Fb/.api/import", "now\n"),
}


def changes(server):
    """The requests that would have changed something."""
    return [one for one in server.control("GET", "requests")["requests"]
            if one["method"] != "GET" and "/authorization." not in one["path"]
            and "selfsubject" not in one["path"]
            and one["headers"].get("user-agent", "").startswith("imagestreamfs")]


@pytest.mark.parametrize("what", WRITES)
def test_nothing_changes(rig, what):
    server, top = rig.server, rig.path
    before, shown = state(server), tree(top, top)
    tree(top / "openshift/nodejs", top)  # more than is remembered of what a process read last
    server.reset()
    WRITES[what](top)
    sent = changes(server)
    for one in sent:
        dry = "dryRun=All" in one["query"].split("&")
        assert dry or one["path"].endswith("imagestreamimports"), one
        no_such_route = one["method"] == "POST" and one["path"] == IMAGES + "/imagestreams"
        assert 200 <= one["status"] < 300 or no_such_route, one
    assert sent or what == "an equal file"
    assert state(server) == before
    # What was hidden by its removal is back within 2 s; nothing else was there for a moment.
    wait_for(lambda: tree(top, top) == shown, SECONDS, "the files as they were")
    assert not list(rig.home.rglob("deleted/**/*.json")) and not list(rig.home.rglob("dropped/*"))


def test_cp_and_tar(rig, tmp_path):
    """What copies directories finds nothing in the one that it made, and says so."""
    server, top = rig.server, rig.path
    before, shown = state(server), tree(top, top)
    done = subprocess.run(["cp", "-r", str(top / "shop/web"), str(top / "dev/copy")],
                          capture_output=True, text=True, check=False)
    assert done.returncode != 0 and done.stderr
    shutil.copytree(top / "shop/web", tmp_path / "web")
    subprocess.run(["cp", "-rT", str(tmp_path / "web"), str(top / "shop/web")],
                   capture_output=True, check=False)
    assert state(server) == before
    for name in ("imagestream.json", "spec.json", "metadata.json"):
        assert (top / "shop/web" / name).read_bytes() == shown[f"shop/web/{name}"][0]


def test_what_was_made_is_answered_and_isnt_there(rig):
    top = rig.path
    for path in (top / "dev/ghost", top / "shop/web/tags/ghost"):
        for _ in range(2):
            os.mkdir(path)  # not EEXIST: there is nothing
            assert not path.exists() and path.name not in os.listdir(path.parent)
            with fails(errno.ENOENT):
                (path / "spec.json").write_text("{}")
            with fails(errno.ENOENT):
                os.rmdir(path)
    with fails(errno.EEXIST):
        os.mkdir(top / "dev/bare")


def test_what_was_removed_is_there(rig):
    """rmdir is answered as often as it is asked, and the same thing stays."""
    path = rig.path / "dev/bare"
    ino = path.stat().st_ino
    for _ in range(3):
        os.rmdir(path)
        assert path.is_dir() and "bare" in os.listdir(path.parent)
        assert (path / "spec.json").read_text()
        assert path.stat().st_ino == ino


# ---- verdicts ----


def test_verdicts_are_the_servers(rig):
    top, server = rig.path, rig.server
    before = state(server)

    def bad_tag(value):
        value["tags"][0]["from"] = {"kind": "Nonsense", "name": "x"}
    with fails(errno.EINVAL):
        edit(top / "shop/web/spec.json", bad_tag)
    assert "valid values are" in (top / "shop/web/spec.json.error").read_text()
    os.unlink(top / "shop/web/spec.json.error")
    os.unlink(top / "shop/web/spec.json.rejected")
    with fails(errno.EINVAL):
        put(top / "shop/web/.api/merge-patch", '{"metadata": {"labels": {"a b": "c"}}}')
    with fails(errno.EEXIST):
        put(top / "dev/.api/create", manifest("bare"))
    with fails(errno.EINVAL):
        put(top / "dev/.api/apply", json.dumps({**json.loads(manifest("bare")),
                                                "spec": {"colour": "red"}}))
    with fails(errno.EINVAL):
        os.mkdir(top / "dev/Upper")
    with fails(errno.ESTALE):
        put(top / "shop/web/.api/merge-patch",
            '{"metadata": {"resourceVersion": "1", "labels": {"a": "b"}}}')
    assert state(server) == before


def test_somebody_elses_change_is_a_conflict(server, start_mount):
    mount = start_mount(server, "--dry-run")
    mount.expect(NOISY)
    path = mount / "shop/web/metadata.json"
    value = json.loads(path.read_text())
    value["labels"]["app"] = "mine"
    server.label("shop", "web", app="theirs")
    wait_for(lambda: "theirs" in path.read_text(), SECONDS, "the change")
    whole = json.loads((mount / "shop/api/imagestream.json").read_text())
    whole["metadata"]["labels"]["app"] = "mine"
    server.label("shop", "api", app="theirs")
    wait_for(lambda: "theirs" in (mount / "shop/api/metadata.json").read_text(), SECONDS, "it")
    with fails(errno.ESTALE):
        put(mount / "shop/api/imagestream.json", json.dumps(whole))
    assert json.loads(path.read_text())["labels"]["app"] == "theirs"


def test_without_rights(server, start_mount):
    mount = start_mount(server, "--context", "viewer", "--dry-run")
    mount.expect(NOISY)
    before = state(server)
    with fails(errno.EACCES):
        os.mkdir(mount / "dev/new")
    with fails(errno.EACCES):
        put(mount / "dev/scratch/spec.json", "{}")
    with fails(errno.EACCES):
        put(mount / "dev/.api/create", manifest("new"))
    assert state(server) == before


def test_apply_says_what_would_become_of_each(rig):
    apply = rig.path / "dev/.api/apply-force"
    put(apply, manifest("bare") + manifest("bare2") + manifest("scratch", labels={"l": "9"}))
    assert apply.read_text().splitlines() == [
        "dev/bare: unchanged (dry run)", "dev/bare2: created (dry run)",
        "dev/scratch: applied (dry run)"]


def test_an_import_is_tried(rig):
    path = rig.path / "shop/web/tags/1.0/.api/import"
    rig.server.reset()
    put(path, "now\n")
    sent, = [one for one in changes(rig.server) if one["path"].endswith("imagestreamimports")]
    assert json.loads(sent["body"])["spec"]["import"] is False
    rig.server.control("POST", "imports", {"fail": "web:1.0"})
    with fails(errno.EIO):
        put(path, "now\n")
    assert "not found" in rig.errors()[-1]["message"]
    rig.server.control("POST", "imports", {"fail": "^$"})


def test_a_lost_answer(rig):
    """Nobody knows whether it was taken; what there is, is looked at, and nothing is made."""
    before = state(rig.server)
    rig.server.fault(method="POST", path="/dev/imagestreams", after=True, cutAfter=0)
    try:
        os.mkdir(rig.path / "dev/lost")
    except OSError:
        pass
    rig.server.control("DELETE", "faults")
    assert state(rig.server) == before and not (rig.path / "dev/lost").exists()


def test_events_stay_quiet(rig):
    """Nothing changed on the server, so nobody is told of anything."""
    fd = os.open(rig.path / ".api/events", os.O_RDONLY | os.O_NONBLOCK)
    try:
        edit(rig.path / "shop/web/metadata.json", label)
        os.mkdir(rig.path / "dev/quiet")
        put(rig.path / "shop/web/.api/delete", "{}")
        with fails(errno.EAGAIN):
            os.read(fd, 1000)
    finally:
        os.close(fd)


@pytest.mark.parametrize("flavor", ["3.7", "3.11"])
def test_a_server_that_knows_no_dry_run(start_server, start_mount, flavor):
    """It would do what is asked: nothing is sent to it."""
    server = start_server("--sample", "--flavor", flavor)
    mount = start_mount(server, "--dry-run")
    mount.expect(NOISY)
    before = state_of_old(server)
    server.reset()
    for write in (lambda: os.mkdir(mount / "dev/new"),
                  lambda: edit(mount / "shop/web/metadata.json", label),
                  lambda: put(mount / "shop/web/.api/delete", "{}"),
                  lambda: put(mount / "shop/.api/delete", "{}"),
                  lambda: put(mount / "dev/.api/create", manifest("x")),
                  lambda: os.rmdir(mount / "dev/scratch")):
        with fails(errno.EOPNOTSUPP):
            write()
    assert changes(server) == [] and state_of_old(server) == before
    assert (mount / "shop/web/spec.json").read_text()


def state_of_old(server):
    return json.dumps(server.request("GET", "/apis/image.openshift.io/v1/imagestreams"))
