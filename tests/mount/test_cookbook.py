"""The README's cookbook, as it stands there: each line is run in a home that has ~/is and ~/other."""

import json
import os
import re
import shutil
import subprocess

import pytest

import conftest
from conftest import TOP, wait_for

SECONDS = 60
SECTION = re.search(r"^## Cookbook\n(.*?)^## ", (TOP / "README.md").read_text(), re.M | re.S)[1]
JOBS = ["Move a registry", "Find failed imports", "Promote", "Copy", "Back up", "Watch pushes", "Prune",
        "Edit", "Diff", "Run in a pod"]


def block(job):
    """The lines below the paragraph that begins with the job's name."""
    lines = re.search(rf"^\*\*{job}\*\*.*:\n\n((?:    .*\n)+)", SECTION, re.M)[1]
    return [line.strip() for line in lines.splitlines()]


def ours(job):
    return [line for line in block(job) if not line.startswith("#")]


def test_ten_jobs():
    assert re.findall(r"^\*\*(.+?)\*\*", SECTION, re.M) == JOBS
    assert [len(ours(job)) for job in JOBS] == [2 if job == "Back up" else 1 for job in JOBS]


@pytest.mark.parametrize("job", [job for job in JOBS if len(block(job)) > len(ours(job))])
def test_oc_takes_longer(job):
    said = block(job)[-1]
    assert said.startswith("# oc ")
    assert len(said) > len("# " + ours(job)[0]) or "differs in every" in said or "doesn't say" in said


class Home:
    def __init__(self, path, mount):
        self.path, self.is_ = path, mount
        (path / "bin").mkdir()
        (path / "bin/imagestreamfs").symlink_to(conftest.PROGRAM)
        if mount:
            (path / "is").symlink_to(mount.path)
        self.environment = {"PATH": f"{path}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(path),
                            "LC_ALL": "C.UTF-8"}
        for who in ("AUTHOR", "COMMITTER"):
            self.environment |= {f"GIT_{who}_NAME": "t", f"GIT_{who}_EMAIL": "t@example.test"}

    def run(self, line, *command, status=0, **environment):
        """The output of the line, or of the command that runs it."""
        done = subprocess.run([*command, "bash", "-o", "pipefail", "-c", line], capture_output=True,
                              text=True, check=False, timeout=SECONDS, cwd=self.path,
                              stdin=subprocess.DEVNULL, env=self.environment | environment)
        assert (done.returncode, done.stderr) == (status, ""), (line, done)
        return done.stdout


@pytest.fixture
def home(mount, tmp_path):
    return Home(tmp_path, mount)


def spec(server, namespace, name):
    return {tag["name"]: tag for tag in server.get(namespace, name)["spec"].get("tags", [])}


def images(server, namespace, name):
    return {tag["tag"]: tag["items"][0]["image"] for tag in server.get(namespace, name)["status"]["tags"]}


def test_move_a_registry(server, home):
    def names():
        found = server.request("GET", "/apis/image.openshift.io/v1/imagestreams")["items"]
        return [tag["from"]["name"] for one in found for tag in one["spec"].get("tags", [])
                if "from" in tag]

    before = names()
    assert any(name.startswith("quay.io/") for name in before)
    home.run(*ours("Move a registry"))
    assert names() == [re.sub("^quay.io/", "mirror.example/", name) for name in before]


def test_find_failed_imports(home):
    said = home.run(*ours("Find failed imports"))
    assert re.fullmatch(r"shop/worker:next\t2026\S+\t.*next\\?\" not found\n", said)


def test_promote(server, home):
    home.run(*ours("Promote"))
    wanted = server.get("shop", "web")["status"]["tags"]
    wanted = next(tag["items"][0]["dockerImageReference"] for tag in wanted if tag["tag"] == "2.0")
    assert spec(server, "shop", "web")["stable"]["from"] == {"kind": "DockerImage", "name": wanted}


def test_copy(server, home):
    home.run(*ours("Copy"))
    copy = {name: tag["from"]["name"].split("@")[1] for name, tag in spec(server, "prod", "api").items()}
    assert copy == images(server, "shop", "api")
    assert server.get("prod", "api")["metadata"]["labels"] == {"app": "shop", "tier": "api"}


def test_back_up_and_restore(server, home):
    back_up, restore = ours("Back up")
    home.run("git init -q ~/backup")
    home.run(back_up)
    before = server.get("shop", "web")
    shutil.rmtree(home.is_ / "shop/web")
    home.run(back_up.replace("-qm", "--allow-empty -qm"))  # the day after
    assert not (home.path / "backup/shop/web").exists()
    home.run(restore.replace("HEAD", "HEAD^"))
    after = server.get("shop", "web")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["metadata"]["labels"] == before["metadata"]["labels"]

    def tags(document):
        return [{**tag, "generation": None} for tag in document["spec"]["tags"]]
    assert tags(after) == tags(before)


def test_watch_pushes(server, home):
    line, = ours("Watch pushes")
    with subprocess.Popen(["bash", "-c", "exec " + line], env=home.environment, text=True,
                          stdout=subprocess.PIPE) as child:
        try:
            path = f"{home.is_.path}/.api/pushes"
            wait_for(lambda: path in [os.path.realpath(f"/proc/{child.pid}/fd/{fd}") for fd in
                                      os.listdir(f"/proc/{child.pid}/fd")], SECONDS, "the open file")
            server.control("POST", "bulk", [
                {"op": "touch-image", "namespace": "shop", "name": "api"}])
            fields = child.stdout.readline().rstrip("\n").split("\t")
        finally:
            child.kill()
    assert len(fields) == 4 and fields[1].startswith("shop/api:") and "@sha256:" in fields[2]


def test_prune(server, home):
    """Also where somebody touched the stream since; what has no image stays."""
    server.create("dev", "s", tags=[{"name": "none", "from": {"kind": "DockerImage", "name": "q/x"}}])
    stream = server.get("dev", "s")
    stream["status"]["tags"] = [{"tag": tag, "items": [{
        "created": created, "dockerImageReference": "q/x@sha256:" + "1" * 64,
        "image": "sha256:" + "1" * 64, "generation": 1}]}
        for tag, created in (("old", "2020-01-01T00:00:00Z"), ("new", "2099-01-01T00:00:00Z"))]
    stream["status"]["tags"].append({"tag": "none", "items": None, "conditions": [{
        "type": "ImportSuccess", "status": "False", "generation": 1, "message": "m", "reason": "r",
        "lastTransitionTime": "2020-01-01T00:00:00Z"}]})
    server.request("PUT", server.streams("dev", "s") + "/status", stream)
    wait_for((home.is_ / "dev/s/tags/none/status.json").exists, SECONDS, "the tags")
    home.run(*ours("Prune"))
    assert [tag["tag"] for tag in server.get("dev", "s")["status"]["tags"]] == ["new", "none"]
    home.run(*ours("Prune"))  # nothing to do


def test_edit(server, home):
    before = spec(server, "shop", "worker")
    assert {tag["referencePolicy"]["type"] for tag in before.values()} == {"Source", "Local"}
    home.run(*ours("Edit"))
    after = spec(server, "shop", "worker")
    assert {tag["referencePolicy"]["type"] for tag in after.values()} == {"Local"}
    assert {name: tag["from"] for name, tag in after.items()} == {
        name: tag["from"] for name, tag in before.items()}


def test_diff(start_server, start_mount, home):
    other = start_server("--sample")
    (home.path / "other").symlink_to(start_mount(other).path)
    line, = ours("Diff")
    assert home.run(line) == ""  # though each has its own uids and times
    other.label("shop", "web", tier="other")
    wait_for(lambda: json.loads((home.path / "other/shop/web/metadata.json").read_text())["labels"][
        "tier"] == "other", SECONDS, "the label")
    said = home.run(line, status=1).splitlines()
    assert [text for text in said if re.match("[-+] ", text)] == [
        "-    tier: web", "+    tier: other"]


# With a /run of its own, which is where the credentials of a pod are.
POD = """
set -e
mount -t tmpfs none /run
mkdir -p "$1"
cp "$2" "$1/ca.crt"
cp "$3" "$1/token"
printf shop > "$1/namespace"
shift 3
"$@"
umount ~/is
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root has a /run of his own")
def test_run_in_a_pod(server, tmp_path):
    host, port = server.url.removeprefix("https://").split(":")
    line, = ours("Run in a pod")
    said = Home(tmp_path, None).run(
        line, "unshare", "-m", "bash", "-c", POD, "pod",
        "/var/run/secrets/kubernetes.io/serviceaccount", server.ca, server.token_file,
        KUBERNETES_SERVICE_HOST=host, KUBERNETES_SERVICE_PORT=port)
    assert "web" in said.split()
