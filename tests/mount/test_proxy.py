"""Proxies of the environment: tests/data/proxies.json, by kubectl, and what it comes to on a mount."""

import concurrent.futures
import json
import os
import shutil
import subprocess

import pytest
import yaml

import conftest
from listener import Listener

PROXIES = json.loads((conftest.TOP / "tests/data/proxies.json").read_text())
# Where the table's proxy stands in no test.
PLACE = "proxy.test:3128"


class Recorder(Listener):
    """Takes what comes, and hangs up: whoever called has chosen this proxy."""

    def __init__(self):
        self.called = 0
        super().__init__()

    def serve(self, client):
        self.called += 1
        client.close()


def kubectl_goes_through(row, place):
    recorder = Recorder()
    kubeconfig = place / f"kubeconfig{PROXIES.index(row)}"
    kubeconfig.write_text(yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "c", "user": ""}}],
        "clusters": [{"name": "c", "cluster": {"server": row["server"]}}]}))
    environment = {name: value.replace(PLACE, recorder.address)
                   for name, value in row["env"].items()}
    try:
        # The server is nowhere, so kubectl fails either way.
        subprocess.run(["kubectl", "--kubeconfig", kubeconfig, "--request-timeout", "5s",
                        "get", "--raw", "/version"], capture_output=True, timeout=60, check=False,
                       env={"PATH": os.environ["PATH"], "HOME": str(place), **environment})
    finally:
        recorder.stop()
    return recorder.called > 0


def test_table_has_a_source_for_each_row():
    assert len(PROXIES) >= 30 and all(row["from"] for row in PROXIES)
    assert len({json.dumps([row["server"], row["env"]]) for row in PROXIES}) == len(PROXIES)


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl here")
def test_kubectl_says_the_same(tmp_path):
    rows = [row for row in PROXIES if row.get("kubectl", True)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        through = list(pool.map(lambda row: kubectl_goes_through(row, tmp_path), rows))
    assert not [row for row, went in zip(rows, through) if went != (row["proxy"] != "")]


def test_a_server_here_needs_no_proxy(server, start_mount, monkeypatch):
    """As kind, CRC and ssh -L have it; no proxy is there at all."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    mount = start_mount(server)
    assert "shop" in os.listdir(mount.path)
