"""tests/data/kubeconfigs.yaml: what the program reads in a kubeconfig and a plugin's answer; kubectl beside it."""

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys

import pytest
import yaml

import conftest
from listener import Listener, read_head

sys.path.append(str(conftest.TOP / "tests/apiserver"))
import tls  # noqa: E402

CASES = yaml.safe_load((conftest.TOP / "tests/data/kubeconfigs.yaml").read_text())
REFUSED = "refused"

ENTRIES = """contexts: [{name: a, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: CLUSTER}]
users: [{name: u, user: USER}]
"""
HEAD = "apiVersion: v1\nkind: Config\n"
CURRENT = "current-context: a\n"
CLUSTER = '{server: "https://HOST", certificate-authority-data: CADATA}'
WHOLE = HEAD + CURRENT + ENTRIES.replace("CLUSTER", CLUSTER).replace("USER", "{token: whole}")
ANSWER = "apiVersion: client.authentication.k8s.io/v1\nkind: ExecCredential\nstatus: "
ANSWER_JSON = '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": '


class Server(Listener):
    """HTTPS and HTTP on one port. Notes (over TLS?, authorization) of the first request, and answers 401."""

    def __init__(self):
        authority = tls.Authority()
        self.ca = authority.pem
        self.context = authority.server_context()
        self.context.sni_callback = None
        self.seen = []
        super().__init__()

    def serve(self, client):
        client.settimeout(60)
        try:
            secure = client.recv(1, socket.MSG_PEEK) == b"\x16"
            with self.context.wrap_socket(client, server_side=True) if secure else client as peer:
                head = read_head(peer)
                if not head:
                    return
                lines = head.decode().lower().split("\r\n")
                found = [line.partition(": ")[2] for line in head.decode().split("\r\n")
                         if line.lower().startswith("authorization: ")]
                assert lines[0].endswith("http/1.1")
                self.seen.append((secure, found[0] if found else None))
                peer.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n"
                             b"Connection: close\r\n\r\n")
        except OSError:
            pass  # it has gone, or didn't like our certificate

    def take(self):
        seen, self.seen = self.seen, []
        return seen[0] if seen else REFUSED


@pytest.fixture(scope="module")
def recorder():
    server = Server()
    yield server
    server.stop()


def words_of(recorder):
    """The table's words for what has no place in it."""
    ca = base64.b64encode(recorder.ca).decode()
    whole = WHOLE.replace("HOST", recorder.address).replace("CADATA", ca)
    parsed = yaml.safe_load(whole)
    return {
        "WHOLE_CRLF": whole.replace("\n", "\r\n"), "WHOLE_BARE": whole.removeprefix(HEAD),
        "WHOLE_ANCHOR": whole.replace("{token: whole}", "&u {token: t}, a: *u"),
        "WHOLE_TWICE": whole.replace("users: [", "users: [{name: u, user: {}}, "),
        "WHOLE_JSON_TABS": json.dumps(parsed, indent="\t"), "WHOLE_JSON": json.dumps(parsed),
        "WHOLE": whole, "HOST": recorder.address, "CADATA_LINES": ca[:40] + "\\n" + ca[40:],
        "CADATA_BLANKS": ca[:40] + " " + ca[40:], "CADATA": ca, "NL": "\n",
        "EXEC": "apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, "
                "command: ./plugin",
        "ANSWER_NULL": ANSWER_JSON + "null}", "ANSWER_JSON": ANSWER_JSON,
        "ANSWER": ANSWER, "MEGABYTES": "m" * (3 << 20)}


def expand(text, recorder):
    words = words_of(recorder)
    return re.sub("|".join(sorted(words, key=len, reverse=True)), lambda m: words[m[0]], text)


def write_case(case, place, recorder):
    """The environment that leads to it."""
    texts = case.get("files") or [HEAD + CURRENT + ENTRIES.replace(
        "CLUSTER", case.get("cluster", CLUSTER)).replace("USER", case["user"])]
    paths = []
    for number, text in enumerate(texts):
        paths.append(place / f"k{number}")
        if text is not None:
            paths[-1].write_bytes(expand(text, recorder).encode())
    (place / "ca.crt").write_bytes(recorder.ca)
    (place / "token").write_text("from-a-file\n")
    (place / "x").mkdir()
    if "answer" in case:
        answer = expand(case["answer"], recorder)
        if "ANSWER{" in case["answer"]:
            answer = answer.removesuffix("}")
        (place / "answer").write_bytes(answer.encode())
        (place / "plugin").write_text(f"#!/bin/sh\nexec cat {place}/answer\n")
        (place / "plugin").chmod(0o755)
    (place / "home").mkdir()
    return {"PATH": os.environ["PATH"], "HOME": str(place / "home"),
            "KUBECONFIG": ":".join(map(str, paths))}


def expected(case):
    if case.get("refused"):
        return REFUSED
    token = case["sends"]
    return not case.get("plain"), {None: None, "basic": "Basic eDo="}.get(token, f"Bearer {token}")


def test_every_case_says_what_is_sent():
    assert len({case["name"] for case in CASES}) == len(CASES) >= 60
    assert all(("sends" in case) != ("refused" in case) for case in CASES)
    assert all(case["differs"]["why"] for case in CASES if "differs" in case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_program(case, recorder, tmp_path):
    environment = write_case(case, tmp_path, recorder)
    (tmp_path / "mnt").mkdir()
    done = subprocess.run([conftest.PROGRAM, "-f", tmp_path / "mnt"], env=environment, timeout=120,
                          capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert recorder.take() == expected(case), done.stderr
    assert done.returncode > 0 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "whole" not in done.stderr.replace("holds no whole", "")


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl here")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_kubectl(case, recorder, tmp_path):
    environment = write_case(case, tmp_path, recorder)
    done = subprocess.run(["kubectl", "get", "--raw", "/version", "--request-timeout", "30s"],
                          env=environment, timeout=120, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, check=False)
    assert recorder.take() == expected(case.get("differs", case)), done.stderr
