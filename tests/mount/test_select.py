""".api/select/SELECTOR/: what matches now, as symlinks (DESIGN.md 2)."""

import errno
import json
import os
import pathlib
import re
import stat
import subprocess
import threading

import pytest
from conftest import fails, wait_for
from events import Inotify
from stopwatch import Stopwatch

SECONDS = 10  # for something to come, on a busy machine
MANY = 10_000
STREAMS = "/apis/image.openshift.io/v1/imagestreams"


def asked(server):
    """The queries since the last reset."""
    return [one["query"] for one in server.control("GET", "requests")["requests"]
            if one["headers"].get("user-agent", "").startswith("imagestreamfs")
            and "watch=true" not in one["query"]]


def last(mount):
    one = mount.errors()[-1]
    return one["path"], one["errno"], one["message"]


def selected(server, namespace, **parameters):
    path = server.streams(namespace) if namespace else STREAMS
    query = "&".join(f"{key}={value}" for key, value in parameters.items())
    return sorted(one["metadata"]["name"] if namespace else
                  one["metadata"]["namespace"] + "." + one["metadata"]["name"]
                  for one in server.request("GET", f"{path}?{query}")["items"])


@pytest.mark.parametrize("selector, expected", [
    ("app=shop", ["api", "web", "worker"]), ("tier=web", ["web"]),
    ("app=shop,tier!=web", ["api", "worker"]), ("tier in (web,api)", ["api", "web"]),
    ("tier notin (web)", ["api", "worker"]), ("!app", []), ("app", ["api", "web", "worker"]),
    ("app=none", []), ("field:metadata.name=web", ["web"]),
    ("field:metadata.name!=web", ["api", "worker"]), ("field:", ["api", "web", "worker"]),
    ("%00", ["api", "web", "worker"])])
def test_in_a_namespace(server, mount, selector, expected):
    directory = mount / "shop/.api/select" / selector
    assert sorted(os.listdir(directory)) == expected
    for name in expected:
        assert os.readlink(directory / name) == f"../../../{name}"
        assert os.path.samefile(directory / name, mount / "shop" / name)
        assert (directory / name / "spec.json").read_text() == (
            mount / "shop" / name / "spec.json").read_text()


@pytest.mark.parametrize("selector, parameter", [
    ("app=shop", {"labelSelector": "app%3Dshop"}),
    ("field:metadata.name=web", {"fieldSelector": "metadata.name%3Dweb"}),
    ("field:metadata.namespace=shop", {"fieldSelector": "metadata.namespace%3Dshop"})])
def test_everywhere(server, mount, selector, parameter):
    directory = mount / ".api/select" / selector
    expected = selected(server, "", **parameter)
    assert len(expected) > 1 and sorted(os.listdir(directory)) == expected
    for name in expected:
        namespace, _, stream = name.partition(".")
        assert os.readlink(directory / name) == f"../../../{namespace}/{stream}"
        assert os.path.samefile(directory / name, mount / namespace / stream)


def test_a_slash_is_escaped(server, mount):
    """As in names of tags; the URL has it as it is written there."""
    server.reset()
    name = "samples.operator.openshift.io%2Fmanaged=true"
    assert len(os.listdir(mount / "openshift/.api/select" / name)) == 20
    assert set(asked(server)) == {
        "limit=500&labelSelector=samples.operator.openshift.io%2Fmanaged%3Dtrue"}


def test_it_is_the_truth_of_the_moment(server, mount):
    directory = mount / "shop/.api/select/app=shop"
    assert len(os.listdir(directory)) == 3
    server.control("POST", "silence", {})  # whatever the tree shows
    server.label("shop", "api", app="other")
    assert sorted(os.listdir(directory)) == ["web", "worker"]
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    for label, names in (("shop", 3), ("other", 2), ("shop", 3)):
        server.label("shop", "api", app=label)
        assert len(os.listdir(fd)) == names  # from the start, each time
    os.close(fd)


def test_names_are_looked_up_in_it(server, mount):
    directory = mount / "shop/.api/select/tier=web"
    assert os.path.lexists(directory / "web")
    for name in ("api", "none", "metadata.json", ".api"):
        assert not os.path.lexists(directory / name)
    assert not os.path.lexists(mount / ".api/select/tier=web/web")
    assert os.path.lexists(mount / ".api/select/tier=web/shop.web")


def test_own_changes_count_at_once(server, mount):
    directory = mount / "shop/.api/select/tier=web"
    for value, there in (("other", False), ("web", True)) * 3:
        (mount / "shop/web/.api/merge-patch").write_text(
            json.dumps({"metadata": {"labels": {"tier": value}}}))
        assert os.path.lexists(directory / "web") == there


def test_a_listing_needs_no_request_for_each_name(server, mount):
    server.reset()
    done = subprocess.run(["ls", "-lL", mount / "openshift/.api/select/field:metadata.name!=cli"],
                          capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1 + 19
    assert len(asked(server)) <= 8  # a few lookups of the directory, one list, not 19 more


def test_pages(start_server, start_mount):
    """More than fit into one answer, and into one call of getdents."""
    server = start_server("--streams", 1200, "--tags", 1, "--namespaces", 2)
    mount = start_mount(server)
    server.reset()
    names = os.listdir(mount / "ns-0000/.api/select/app")
    assert len(set(names)) == len(names) == 600
    pages = [one for one in asked(server) if "continue=" in one]
    assert pages and all("limit=500&labelSelector=app" in one for one in asked(server))
    assert sorted(names) == sorted(os.listdir(mount / "ns-0000"))
    assert len(os.listdir(mount / ".api/select/app")) == 1200


@pytest.mark.parametrize("flavor", ["3.11", "3.7"])
def test_old_servers(start_server, start_mount, flavor):
    server = start_server("--sample", "--flavor", flavor)
    mount = start_mount(server)
    assert sorted(os.listdir(mount / "shop/.api/select/app=shop,tier!=web")) == ["api", "worker"]
    assert os.listdir(mount / ".api/select/field:metadata.name=grafana") == ["monitoring.grafana"]


def test_only_what_the_mount_shows(server, start_mount):
    """With -n each of the namespaces is asked, with -l its labels are asked for, too."""
    some = start_mount(server, "-n", "shop", "-n", "prod")
    server.reset()
    assert sorted(os.listdir(some / ".api/select/app=shop")) == [
        "prod.web", "shop.api", "shop.web", "shop.worker"]
    assert not [key for key in server.counts() if key == "GET " + STREAMS]
    with fails(errno.EINVAL):
        os.stat(some / ".api/select/=")
    narrow = start_mount(server, "-l", "tier in (web,api)")
    for selector, expected in (("app=shop", ["api", "web"]), ("%00", ["api", "web"]),
                               ("field:metadata.name!=web", ["api"]), ("tier=worker", [])):
        directory = narrow / "shop/.api/select" / selector
        assert sorted(os.listdir(directory)) == expected
        assert all((directory / name).exists() for name in expected)


# ---- what is refused ----


@pytest.mark.parametrize("selector, word", [
    ("a=(b", "unable to parse"), ("=", "unable to parse"), ("a in b", "unable to parse"),
    ("field:spec.tags=1", "field selector"), ("field:name", "invalid selector"),
    ("%zz", "")])
def test_what_is_no_selector(server, mount, selector, word):
    for top, place in ((mount / "shop/.api/select", "shop/.api/select/"),
                       (mount / ".api/select", ".api/select/")):
        for call in (os.stat, os.listdir, lambda path: os.stat(path / "web")):
            with fails(errno.EINVAL):
                call(top / selector)
        path, code, message = last(mount)
        assert (path, code) == (place + selector, "EINVAL") and word in message


@pytest.mark.parametrize("status, code", [(403, errno.EACCES), (500, errno.EIO),
                                          (409, errno.EBUSY), (405, errno.EOPNOTSUPP)])
def test_the_servers_refusals(server, mount, status, code):
    server.fault(path="labelSelector=app", status=status, message="not now")
    with fails(code):
        os.stat(mount / "shop/.api/select/app")
    assert last(mount)[0] == "shop/.api/select/app" and last(mount)[2] == "not now"
    directory = mount / "shop/.api/select/app"
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    server.fault(path="labelSelector=app", status=status, message="not now")
    with fails(code):
        os.listdir(fd)
    os.close(fd)
    assert len(os.listdir(directory)) == 3


def test_a_page_that_fails_is_no_short_list(start_server, start_mount):
    server = start_server("--streams", 600, "--tags", 1, "--namespaces", 1)
    mount = start_mount(server)
    server.fault(path="continue=", status=500)
    with fails(errno.EIO):
        os.listdir(mount / "ns-0000/.api/select/app")
    assert len(os.listdir(mount / "ns-0000/.api/select/app")) == 600


def test_rights(server, start_mount):
    mount = start_mount(server, "--context", "developer")
    assert os.listdir(mount / "dev/.api/select/field:metadata.name=scratch") == ["scratch"]


def test_who_cannot_list_the_cluster_selects_namespace_by_namespace(server, start_mount):
    mount = start_mount(server, "--context", "developer")
    namespaces = set(os.listdir(mount.path))
    expected = [name for name in selected(server, "", labelSelector="app%3Dshop")
                if name.partition(".")[0] in namespaces]
    assert 0 < len(expected) < len(selected(server, "", labelSelector="app%3Dshop"))
    assert sorted(os.listdir(mount / ".api/select/app=shop")) == expected


def test_a_narrowed_mount(server, start_mount):
    mount = start_mount(server, "-n", "shop", "-n", "prod", "-l", "tier!=web")
    server.reset()
    assert sorted(os.listdir(mount / ".api/select/app=shop")) == [
        "prod.web", "shop.api", "shop.worker"]
    assert sorted(os.listdir(mount / "shop/.api/select/field:metadata.name!=api")) == ["worker"]
    assert not [key for key in server.counts() if key == "GET " + STREAMS]


def test_it_cannot_be_changed(mount):
    directory = mount / "shop/.api/select/app=shop"
    with fails(errno.EEXIST):
        os.mkdir(mount / "shop/.api/select/new")  # a selector like any other
    for call in (lambda: os.mkdir(mount / "shop/.api/new"), lambda: os.rmdir(directory),
                 lambda: os.unlink(directory / "web"), lambda: open(directory / "new", "w"),
                 lambda: os.symlink("x", directory / "new"), lambda: os.mkdir(directory / "new"),
                 lambda: os.rename(directory / "web", directory / "other"),
                 lambda: os.rename(mount / "shop/web/spec.json", directory / "web"),
                 lambda: os.link(directory / "web", directory / "other", follow_symlinks=False)):
        with pytest.raises(PermissionError):
            call()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o555
    assert sorted(os.listdir(directory)) == ["api", "web", "worker"]
    assert os.listdir(mount / "shop/.api/select") == []


# ---- what they are ----


def test_attributes(mount):
    directory = mount / "shop/.api/select/app=shop"
    link = directory / "web"
    assert stat.S_ISLNK(link.lstat().st_mode) and link.lstat().st_size == len("../../../web")
    assert directory.stat().st_nlink == 2
    inodes = {link.lstat().st_ino, (directory / "api").lstat().st_ino, directory.stat().st_ino,
              (mount / "shop/.api/select/app").stat().st_ino,
              (mount / ".api/select/app=shop").stat().st_ino,
              (mount / ".api/select/app=shop/shop.web").lstat().st_ino,
              (mount / "shop/.api/select/tier=web/web").lstat().st_ino}
    assert len(inodes) == 7
    assert link.lstat().st_ino == link.lstat().st_ino
    entries = {one.name: one.inode() for one in os.scandir(directory)}
    assert entries["web"] == link.lstat().st_ino
    assert os.path.samefile(directory / "..", mount / "shop/.api/select")


def test_no_events(server, mount):
    directory = mount / "shop/.api/select/app=shop"
    inotify = Inotify()
    inotify.add(directory, "selection")
    inotify.add(mount / "shop", "shop")
    server.request("POST", server.streams("shop"), {
        "kind": "ImageStream", "apiVersion": "image.openshift.io/v1",
        "metadata": {"name": "new", "labels": {"app": "shop"}}})
    events = inotify.until(lambda one: one[:2] == ("shop", "new"), SECONDS)
    assert events and not [one for one in events if one[0] == "selection"]
    inotify.close()
    assert "new" in os.listdir(directory)


def test_it_goes_with_its_namespace(server, start_mount):
    mount = start_mount(server, "--confirm-interval", 1)
    assert os.path.isdir(mount / "dev/.api/select/field:")
    server.request("DELETE", "/api/v1/namespaces/dev")
    wait_for(lambda: not (mount / "dev").exists(), SECONDS, "the end")
    with fails(errno.ENOENT):
        os.stat(mount / "dev/.api/select/app")


# ---- many ----


def resident(mount):
    """MB."""
    text = pathlib.Path(f"/proc/{mount.process.pid}/status").read_text()
    return int(re.search(r"^VmRSS:\s+(\d+)", text, re.M)[1]) / 1024


def nodes(mount):
    return mount.status()["counts"]["nodes"]


def visit(mount, numbers):
    for number in numbers:
        os.listdir(mount / f"prod/.api/select/app=n{number}")


def visit_all(mount, begin, end, threads=8):
    workers = [threading.Thread(target=visit, args=(mount, range(begin + number, end, threads)))
               for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def drop_caches():
    """The kernel forgets what nobody uses; it forgets by itself only when memory is short."""
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("2\n")


@pytest.mark.alone  # all caches of the machine are dropped
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make the kernel forget")
def test_many_come_and_go(server, mount):
    """10,000 selections where the machine is quick enough for that in 10 s; never cached, so that
    their nodes go with the kernel's own, and memory returns."""
    visit_all(mount, 0, 200)
    drop_caches()
    before, memory = nodes(mount), resident(mount)
    watch, done = Stopwatch(), 200
    while done < MANY and watch.seconds() < 10:
        visit_all(mount, done, done + 200)
        done += 200
    drop_caches()
    wait_for(lambda: nodes(mount) <= before + 10, SECONDS, "the nodes' end")
    print(f"{done} selections, {memory:.0f} → {resident(mount):.0f} MB")
    assert done > 1000
    # The sanitizer keeps up to 256 MB of what was freed.
    sanitized = b"asan" in pathlib.Path(f"/proc/{mount.process.pid}/maps").read_bytes()
    assert resident(mount) < memory + (300 if sanitized else 12)
