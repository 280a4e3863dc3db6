"""The README's section on .api: its table of operations, its one-liners, its table of parameters."""

import json
import os
import re
import signal
import subprocess
import time

import pytest
from conftest import TOP

SECONDS = 20  # for a one-liner, on a busy machine
# The operations of the ImageStream API, in the words and the order of its reference.
OPERATIONS = """Create a ImageStream
Create a ImageStream in a namespace
Get a ImageStream in a namespace
Get all ImageStreams
Get all ImageStreams in a namespace
Watch a ImageStream in a namespace
Watch all ImageStreams
Watch all ImageStreams in a namespace
Update a ImageStream in a namespace
Patch a ImageStream in a namespace
Delete a ImageStream in a namespace
Delete all ImageStreams in a namespace
Get secrets of a ImageStream in a namespace
Get status of a ImageStream in a namespace
Update status of a ImageStream in a namespace
Patch status of a ImageStream in a namespace""".splitlines()
PARAMETERS = {"pretty", "exact", "export", "fieldSelector", "labelSelector",
              "includeUninitialized", "resourceVersion", "timeoutSeconds", "watch",
              "gracePeriodSeconds", "orphanDependents", "propagationPolicy"}
SECTION = re.search(r"^## The whole API from the shell\n(.*?)^## ", (TOP / "README.md").read_text(),
                    re.M | re.S)[1]
LINES = [line.strip() for line in SECTION.splitlines() if line.startswith("    ")]


def table(head):
    """The rows of the table that begins so."""
    text = SECTION[SECTION.index(f"| {head} |"):].split("\n\n")[0]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")]
            for line in text.splitlines()[2:]]


ROWS = table("operation")


def paths(cell):
    """What the second column names, as paths of the tree."""
    names = re.findall("`([^`]+)`", cell.split(";")[0].removeprefix("saving "))
    first = names[0]
    stem = first.partition(".api/")[0]
    whole = [first]
    for name in names[1:]:
        if name.startswith("."):
            whole.append(re.sub(r"\.\w+$", name, first))
        else:
            whole.append(stem + ".api/" + name)
    return whole


def test_sixteen():
    assert [row[0] for row in ROWS] == OPERATIONS
    assert len(LINES) == 16


def test_the_files_exist(mount):
    """Each one named in the table, and each of .api that sends something is named somewhere."""
    named = set()
    for _, where, _ in ROWS:
        for path in paths(where):
            if "select/" in path:
                path = path.replace("SELECTOR/", "app")
            if path.startswith("imagestream"):
                path = "STREAM/" + path
            path = path.replace("NAMESPACE/", "shop/").replace("STREAM/", "shop/web/")
            assert (mount / path).exists(), path
            named.add(path)
    assert len(named) == 25
    for top, directory in ((".api", ""), ("shop/.api", "NAMESPACE/"),
                           ("shop/web/.api", "STREAM/"), ("shop/web/tags/2.0/.api", "TAG/")):
        for name in set(os.listdir(mount / top)) - {"status.json", "metrics", "errors", "select"}:
            assert f"{top}/{name}" in named or f"`{directory}.api/{name}`" in SECTION, name


def test_parameters():
    rows = table("parameter")
    assert PARAMETERS <= set(re.findall(r"`(\w+)`", " ".join(row[0] for row in rows)))
    assert rows[-1][0] == "media types"


def expected(row, line):
    """Verbs and paths that the table promises for a one-liner, below the API root."""
    place = re.search(r"~/is/(?:([a-z]+)/)?(?:([a-z]+)/)?(?:\.api|imagestream)", line)
    found = []
    for verb, path in re.findall(r"`([A-Z]+) …([^`?]*)`", row[2]):
        path = path.replace("NS", "namespaces/" + (place[1] or "shop"))
        found.append((verb, path.replace("STREAM", place[2] or "")))
    return found


def sent(server):
    return [(one["method"], re.sub(r"^/apis/image\.openshift\.io/v1", "", one["path"]),
             one["status"]) for one in server.control("GET", "requests")["requests"]
            if one["headers"].get("user-agent", "").startswith("imagestreamfs")
            and "watch=true" not in one["query"]]


def run(line, mount, server):
    """As a reader pastes it; a one-liner that waits for a change gets some."""
    child = subprocess.Popen(["bash", "-c", line.replace("~/is", str(mount.path))],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             start_new_session=True)
    end = time.monotonic() + SECONDS
    try:
        while line.startswith("head") and child.poll() is None and time.monotonic() < end:
            server.label("shop", "web", at=str(time.monotonic_ns()))
            time.sleep(0.1)  # until it has opened the file
        output, error = child.communicate(timeout=60)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
    assert (child.returncode, error) == (0, ""), line
    return output


def state(server):
    return {one["metadata"]["name"]: one
            for one in server.request("GET", server.streams("shop"))["items"]}


def check(operation, output, before, after):
    """What the one-liner was for."""
    subject = operation.split()[0]
    if subject == "Create":
        assert len(after) == len(before) + 1
    elif subject == "Delete":
        assert len(after) == len(before) - 1
    elif subject in ("Update", "Patch"):
        assert after["web"] != before["web"]
    elif subject == "Watch":
        assert json.loads(output)["object"]["metadata"]["name"] == "web"
    else:
        assert output.strip()
    if subject == "Get":
        assert after == before


@pytest.mark.parametrize("flavor", ["4", "3.11", "3.7"])
def test_one_liners(start_server, start_mount, flavor):
    server = start_server("--sample", "--flavor", flavor)
    server.request("POST", "/api/v1/namespaces/shop/secrets", {
        "kind": "Secret", "apiVersion": "v1", "metadata": {"name": "pull"},
        "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "e30="}})
    mount = start_mount(server)
    for row, line in zip(ROWS, LINES):
        before = state(server)
        server.reset()
        output = run(line, mount, server)
        requests, wanted = sent(server), expected(row, line)
        if row[0] == OPERATIONS[0]:
            assert [one[2] for one in requests] == ([405, 201] if flavor == "4" else [201])
            wanted = wanted[:len(requests)]
        elif wanted:
            assert {one[2] for one in requests} == {200 if row[0][:6] != "Create" else 201}
        # A selection is asked for when it is looked up and when it is listed; what is put was read.
        found = [one[:2] for one in requests]
        assert list(dict.fromkeys(found))[-len(wanted or found):] == wanted, line
        check(row[0], output, before, state(server))
