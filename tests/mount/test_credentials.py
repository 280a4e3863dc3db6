"""Who the mount is: renewal while it lasts, plugins, proxies, and that nobody else gets to know."""

import base64
import errno
import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import time

import pytest
import yaml

import conftest
from stopwatch import at_most
from conftest import is_mounted, wait_for
from listener import Listener, read_head

V1 = "client.authentication.k8s.io/v1"


class Kubeconfig:
    """One context of a server, with a user that a test makes up."""

    def __init__(self, server, directory, user, /, **cluster):
        self.path = directory / "kubeconfig"
        base = yaml.safe_load(server.kubeconfig.read_text())
        self.cluster = {**base["clusters"][0]["cluster"], **cluster}
        self.write(user)

    def write(self, user):
        """As oc does it: in one go."""
        new = self.path.with_suffix(".new")
        new.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": self.cluster}],
            "users": [{"name": "u", "user": user}]}))
        new.rename(self.path)


@pytest.fixture
def place(tmp_path):
    return tmp_path


@pytest.fixture
def start_as(server, start_mount, place):
    """A mount with a user of one's own: (mount, kubeconfig)."""

    def start(user, *arguments, cluster=None, **options):
        kubeconfig = Kubeconfig(server, place, user, **(cluster or {}))
        return start_mount(kubeconfig_only(kubeconfig), *arguments, **options), kubeconfig

    return start


def kubeconfig_only(kubeconfig):
    class Only:
        pass
    only = Only()
    only.kubeconfig = kubeconfig.path
    return only


def rotate(server, token):
    """The admin's old token is refused from now on; the tests go on with the new one."""
    server.control("POST", "token", {"user": "admin", "token": token})
    server.token = token


def requests(server):
    return [one for one in server.control("GET", "requests")["requests"]
            if one["headers"].get("user-agent") != "tests"]


def save(path, **labels):
    value = json.loads(path.read_text())
    value.setdefault("labels", {}).update(labels)
    path.write_text(json.dumps(value))


def refuses_save(path, number):
    with pytest.raises(OSError) as error:
        save(path, refused="yes")
    assert error.value.errno == number


def is_saved(server, label):
    return server.get("shop", "web")["metadata"]["labels"].get(label) == "yes"


def credentials(mount):
    return mount.status()["credentials"]


def watches_again(server, mount, name="afterwards"):
    server.create("dev", name)
    wait_for((mount / "dev" / name).is_dir, 12, "a change, by the watch")


# ---- token files ----

def test_token_file_rotated(server, place, start_as):
    token = place / "token"
    token.write_text(server.token + "\n")
    mount, _ = start_as({"tokenFile": str(token)})
    assert credentials(mount)["kind"] == "tokenFile"
    rotate(server, "sha256~second")
    token.write_text("sha256~second\n")
    save(mount / "shop/web/metadata.json", first="yes")  # a 401, the file, and once more
    assert is_saved(server, "first")
    watches_again(server, mount)
    status = credentials(mount)
    assert not status["refused"] and status["error"] is None


def test_open_watches_are_authenticated_again(server, place, start_as):
    token = place / "token"
    token.write_text(server.token)
    mount, _ = start_as({"tokenFile": str(token)})
    wait_for(lambda: server.control("GET", "state")["watches"] == 2, 10, "the watches")
    server.reset()
    rotate(server, "sha256~second")
    token.write_text("sha256~second")
    save(mount / "shop/web/metadata.json", first="yes")

    def watched():
        return [one for one in requests(server) if "watch=true" in one["query"]
                and one["status"] == 200]
    wait_for(lambda: len(watched()) >= 2, 10, "both watches, anew")
    wait_for(lambda: server.control("GET", "state")["watches"] == 2, 10, "the old ones' end")
    watches_again(server, mount)


def test_token_link_rotated_in_the_background(server, place):
    """A pod's token: the link stays, the directory that it leads through goes."""
    for name, token in (("one", server.token), ("two", "sha256~second")):
        (place / name).mkdir()
        (place / name / "token").write_text(token)
    (place / "current").symlink_to("one")
    (place / "token").symlink_to("current/token")
    (place / "mnt").mkdir()
    subprocess.run([conftest.PROGRAM, "--server", server.url, "--certificate-authority",
                    server.ca, "--token-file", "token", place / "mnt"], check=True, cwd=place)
    try:
        rotate(server, "sha256~second")
        (place / "next").symlink_to("two")
        (place / "next").rename(place / "current")
        (place / "one/token").unlink()
        save(place / "mnt/shop/web/metadata.json", first="yes")
        assert is_saved(server, "first")
    finally:
        conftest.unmount(place / "mnt")


# ---- the kubeconfig ----

def test_log_in_again(server, start_as):
    mount, kubeconfig = start_as({"token": server.token})
    before = (mount / "shop/web/spec.json").read_text()
    rotate(server, "sha256~second")
    refuses_save(mount / "shop/web/metadata.json", errno.EKEYEXPIRED)
    assert credentials(mount)["refused"]
    assert (mount / "shop/web/spec.json").read_text() == before
    assert "web" in os.listdir(mount / "shop")
    server.control("POST", "drop", {})
    wait_for(lambda: any(one["code"] == 401 for one in mount.errors()), 10, "a refused watch")
    kubeconfig.write({"token": "sha256~second"})
    wait_for(lambda: not credentials(mount)["refused"], 5, "the new token")
    watches_again(server, mount)
    save(mount / "shop/web/metadata.json", second="yes")
    assert is_saved(server, "second")


def test_kubeconfig_of_another_server(server, start_server, start_as):
    """Credentials of one server never go to another."""
    other = start_server()
    mount, kubeconfig = start_as({"token": server.token})
    mount.expect("another server")
    rotate(server, "sha256~second")
    refuses_save(mount / "shop/web/metadata.json", errno.EKEYEXPIRED)
    kubeconfig.cluster["server"] = other.url
    kubeconfig.write({"token": "sha256~second"})
    wait_for(lambda: credentials(mount)["error"], 5, "the refusal")
    assert "another server" in credentials(mount)["error"]
    refuses_save(mount / "shop/web/metadata.json", errno.EKEYEXPIRED)
    assert not requests(other)
    kubeconfig.cluster["server"] = server.url
    kubeconfig.write({"token": "sha256~second"})
    wait_for(lambda: not credentials(mount)["refused"], 5, "the new token")
    save(mount / "shop/web/metadata.json", second="yes")


# ---- certificates ----

def certificate(server, user):
    made = server.control("POST", "certificate", {"user": user})
    return made["certificate"], made["key"]


def users_of(server):
    return {one["certificate"] for one in requests(server)}


def test_certificate_replaced(server, place, start_as):
    def write(user):
        (place / "crt").write_text(made[user][0])
        (place / "key").write_text(made[user][1])

    server.control("POST", "grant", {"user": "second", "role": "cluster-admin"})
    made = {user: certificate(server, user) for user in ("admin", "second")}
    write("admin")
    mount, _ = start_as({"client-certificate": str(place / "crt"),
                         "client-key": str(place / "key")})
    assert users_of(server) == {"admin"}
    save(mount / "shop/web/metadata.json", first="yes")
    wait_for(lambda: server.control("GET", "state")["watches"] == 2, 10, "the watches")
    server.reset()
    write("second")
    server.fault(method="PATCH", status=401)
    save(mount / "shop/web/metadata.json", second="yes")
    assert is_saved(server, "second")
    wait_for(lambda: len([one for one in requests(server) if "watch=true" in one["query"]
                          and one["certificate"] == "second"]) >= 2, 10, "watches with the new one")
    assert [one["certificate"] for one in requests(server) if one["method"] == "PATCH"] == [
        "admin", "second"]


def test_inline_certificate_stays_in_memory(server, start_mount, place, monkeypatch):
    """Without a place to write to it works just as well, and no file is open that could hold it."""
    monkeypatch.setenv("TMPDIR", str(place / "nowhere"))
    mount = start_mount(server, "--context", "admin-cert")
    assert "shop" in os.listdir(mount.path)
    own = f"/proc/{mount.process.pid}/fd"  # it counts what it has open now and then
    for fd in os.listdir(own):
        path = os.readlink(f"{own}/{fd}")
        assert int(fd) < 3 or path == own or path.startswith(("/dev/", "anon_inode:", "socket:", "pipe:")), path


# ---- plugins ----

class Plugin:
    """A script that prints what answer() said last, and notes when it ran."""

    def __init__(self, place):
        self.place = place
        self.path = place / "plugin"
        self.runs_path = place / "runs"
        self.runs_path.touch()

    def script(self, text):
        new = self.place / "plugin.new"
        new.write_text(f"#!/bin/sh\necho run >>{self.runs_path}\n{text}\n")
        new.chmod(0o755)
        new.rename(self.path)

    def answer(self, **status):
        (self.place / "answer").write_text(json.dumps(
            {"apiVersion": V1, "kind": "ExecCredential", "status": status}))
        self.script(f"cat {self.place}/answer")

    def runs(self):
        return len(self.runs_path.read_text().splitlines())

    def user(self, **more):
        return {"exec": {"apiVersion": V1, "command": "./plugin", "interactiveMode": "Never",
                         **more}}


@pytest.fixture
def plugin(place):
    return Plugin(place)


def in_seconds(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def test_plugin(server, plugin, start_as):
    plugin.answer(token=server.token)
    mount, _ = start_as(plugin.user())
    assert "shop" in os.listdir(mount.path)
    assert plugin.runs() == 1
    status = credentials(mount)
    assert (status["kind"], status["expires"], status["error"]) == ("exec", None, None)


def test_plugin_runs_again_before_it_expires(server, plugin, start_as):
    plugin.answer(token=server.token, expirationTimestamp=in_seconds(13))
    mount, _ = start_as(plugin.user())
    server.control("POST", "grant", {"user": "second", "role": "cluster-admin"})
    server.control("POST", "token", {"user": "second", "token": "sha256~second"})
    plugin.answer(token="sha256~second", expirationTimestamp=in_seconds(3600))
    wait_for(lambda: credentials(mount)["expires"] > in_seconds(1800), 20, "the second answer")
    rotate(server, "sha256~third")  # what it said at first is good for nothing any more
    save(mount / "shop/web/metadata.json", first="yes")
    assert is_saved(server, "first")
    assert 401 not in [one["status"] for one in requests(server)]


def test_plugin_runs_again_after_401(server, plugin, start_as):
    plugin.answer(token=server.token)
    mount, _ = start_as(plugin.user())
    rotate(server, "sha256~second")
    plugin.answer(token="sha256~second")
    save(mount / "shop/web/metadata.json", first="yes")
    assert is_saved(server, "first")
    watches_again(server, mount)
    assert plugin.runs() == 2


def test_plugin_fails_later(server, plugin, start_as):
    plugin.answer(token=server.token)
    mount, _ = start_as(plugin.user())
    mount.expect("failed with exit code 9")
    rotate(server, "sha256~second")
    plugin.script("echo please log in >&2; exit 9")
    refuses_save(mount / "shop/web/metadata.json", errno.EKEYEXPIRED)
    status = credentials(mount)
    assert "exit code 9" in status["error"] and status["stderr"] == "please log in\n"
    assert (mount / "shop/web/spec.json").read_text()
    plugin.answer(token="sha256~second")
    wait_for(lambda: credentials(mount)["error"] is None, 10, "another run")
    save(mount / "shop/web/metadata.json", second="yes")
    watches_again(server, mount)


def test_plugin_hangs_later(server, plugin, start_as):
    """Reads don't wait, a save waits as long as for the server, and the end doesn't wait either."""
    plugin.answer(token=server.token)
    mount, _ = start_as(plugin.user(), "--request-timeout", "2s")
    rotate(server, "sha256~second")
    plugin.script("exec sleep 600")
    with at_most(5):
        refuses_save(mount / "shop/web/metadata.json", errno.EKEYEXPIRED)
    with at_most(1):
        assert (mount / "shop/web/spec.json").read_text()
    assert mount.stop() < conftest.STOP_SECONDS


def test_plugin_with_a_certificate(server, plugin, start_as):
    server.control("POST", "grant", {"user": "second", "role": "cluster-admin"})
    first, second = certificate(server, "admin"), certificate(server, "second")
    plugin.answer(clientCertificateData=first[0], clientKeyData=first[1])
    mount, _ = start_as(plugin.user())
    assert users_of(server) == {"admin"}
    server.reset()
    plugin.answer(clientCertificateData=second[0], clientKeyData=second[1])
    server.fault(method="PATCH", status=401)
    save(mount / "shop/web/metadata.json", first="yes")
    assert is_saved(server, "first")
    wait_for(lambda: len([one for one in requests(server) if "watch=true" in one["query"]
                          and one["certificate"] == "second"]) >= 2, 10, "watches with the new one")


def refused_start(user, server, place, sentence, *arguments, cluster=None, status=3):
    kubeconfig = Kubeconfig(server, place, user, **(cluster or {}))
    (place / "mnt").mkdir()
    done = subprocess.run([conftest.PROGRAM, "--kubeconfig", kubeconfig.path, *arguments,
                           place / "mnt"], capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode == status and not is_mounted(place / "mnt"), done
    assert len(done.stderr.splitlines()) == 1 and sentence in done.stderr, done.stderr
    return done.stderr


def test_plugin_fails_at_start(server, plugin, place):
    plugin.script("echo one >&2; echo please log in >&2; exit 1")
    refused_start(plugin.user(), server, place, "failed with exit code 1: please log in")


def test_plugin_kept_a_revoked_token(server, plugin, start_as):
    """It is asked again at a start, too, and knows by then."""
    plugin.answer(token=server.token)
    plugin.script(f"[ $(wc -l <{plugin.runs_path}) -gt 1 ] || exec sed s/sha256/old/ "
                  f"{plugin.place}/answer\ncat {plugin.place}/answer")
    mount, _ = start_as(plugin.user())
    assert "shop" in os.listdir(mount.path)
    assert plugin.runs() == 2


def test_plugin_is_missing(server, plugin, place):
    refused_start(plugin.user(installHint="get it from us"), server, place,
                  "No such file or directory: get it from us")


def test_plugin_hangs_at_start(server, plugin, place):
    plugin.script("exec sleep 600")
    with at_most(10):
        refused_start(plugin.user(), server, place, "didn't answer within 3.0 s",
                      "--request-timeout", "1s")


def test_auth_provider(server, place):
    refused_start({"auth-provider": {"name": "gcp"}}, server, place,
                  'auth-provider "gcp" isn\'t supported: use an exec plugin', status=1)


# ---- impersonation ----

def test_as_flags(server, start_mount):
    mount = start_mount(server, "--as", "developer", "--as-group", "one", "--as-group", "two three",
                        "--as-uid", "7")
    assert mount.status()["user"] == "developer"
    headers = requests(server)[-1]["headers"]
    assert headers["impersonate-user"] == "developer" and headers["impersonate-uid"] == "7"
    assert headers["impersonate-group"] == ["one", "two three"]
    refuses_save(mount / "prod" / os.listdir(mount / "prod")[0] / "metadata.json", errno.EACCES)


def test_as_in_the_kubeconfig(server, start_as):
    mount, _ = start_as({"token": server.token, "as": "developer", "as-groups": ["one"],
                         "as-user-extra": {"why/not": ["x"]}})
    assert mount.status()["user"] == "developer"
    headers = requests(server)[-1]["headers"]
    assert headers["impersonate-group"] == ["one"]
    assert headers["impersonate-extra-why%2fnot"] == "x"


def test_as_mount_option(server, start_mount):
    mount = start_mount(server, "-o", "as=developer,as-group=one,as-group=two")
    assert mount.status()["user"] == "developer"
    assert requests(server)[-1]["headers"]["impersonate-group"] == ["one", "two"]


def test_as_without_the_right(server, place, start_mount):
    kubeconfig = yaml.safe_load(server.kubeconfig.read_text())
    kubeconfig["current-context"] = "viewer"
    (place / "k").write_text(yaml.safe_dump(kubeconfig))
    (place / "mnt").mkdir()
    done = subprocess.run([conftest.PROGRAM, "--kubeconfig", place / "k", "--as", "admin",
                           place / "mnt"], capture_output=True, text=True, check=False)
    assert done.returncode == 3 and "cannot impersonate" in done.stderr


# ---- the way there ----

class Proxy(Listener):
    """CONNECT only. Keeps what is said to it in the open."""

    def __init__(self, answer=b"200 Connection established", names=None):
        self.answer = answer
        self.names = names or {}  # those that it alone knows
        self.heads = []
        super().__init__()

    def serve(self, client):
        head = read_head(client)
        if not head:
            return
        self.heads.append(head.decode())
        host, port = head.split()[1].decode().rsplit(":", 1)
        client.sendall(b"HTTP/1.1 " + self.answer + b"\r\nX-Proxy: yes\r\n\r\n")
        if not self.answer.startswith(b"200"):
            client.close()
            return
        try:
            host = self.names.get(host, host)
            with socket.create_connection((host, int(port))) as server, client:
                self.relay(client, server)
        except OSError:
            pass  # one of them has gone

    @staticmethod
    def relay(client, server):
        while True:
            for ready in select.select([client, server], [], [])[0]:
                data = ready.recv(65536)
                if not data:
                    return
                (server if ready is client else client).sendall(data)


@pytest.fixture
def start_proxy():
    proxies = []

    def start(*arguments, **options):
        proxies.append(Proxy(*arguments, **options))
        return proxies[-1]

    yield start
    for proxy in proxies:
        proxy.stop()


def test_proxy(server, start_as, start_proxy, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")  # the kubeconfig's own is always taken
    proxy = start_proxy()
    mount, _ = start_as({"token": server.token, "as": "admin"},
                        cluster={"proxy-url": f"http://me:pass%20word@{proxy.address}"})
    assert "shop" in os.listdir(mount.path)
    save(mount / "shop/web/metadata.json", first="yes")
    watches_again(server, mount)
    assert proxy.heads
    for head in proxy.heads:
        assert head.startswith("CONNECT " + server.url.removeprefix("https://"))
        assert "Proxy-Authorization: Basic bWU6cGFzcyB3b3Jk\r\n" in head
        assert server.token not in head and "Impersonate" not in head
        assert "\r\nAuthorization" not in head


def test_proxy_of_the_environment(server, start_as, start_proxy, monkeypatch):
    """Which one is test_proxy's affair."""
    proxy = start_proxy(names={"api.example.test": "127.0.0.1"})
    monkeypatch.setenv("HTTPS_PROXY", proxy.address)
    monkeypatch.setenv("no_proxy", "localhost")  # that is the certificate's name, not the server's
    url = "https://api.example.test:" + server.url.rpartition(":")[2]
    mount, _ = start_as({"token": server.token},
                        cluster={"server": url, "tls-server-name": "localhost"})
    assert "shop" in os.listdir(mount.path) and proxy.heads


def test_proxy_refuses(server, place, start_proxy):
    proxy = start_proxy(b"407 Proxy Authentication Required")
    said = refused_start({"token": server.token}, server, place, "407", status=4,
                         cluster={"proxy-url": f"http://me:secret@{proxy.address}"})
    assert "secret" not in said and server.token not in said


def test_proxy_is_away(server, place, start_proxy):
    proxy = start_proxy()
    proxy.stop()
    said = refused_start({"token": server.token}, server, place, "Failed to connect", status=4,
                         cluster={"proxy-url": f"http://me:secret@{proxy.address}"})
    assert "secret" not in said


def test_server_name(server, start_as):
    mount, _ = start_as({"token": server.token}, cluster={"tls-server-name": "localhost"})
    assert "shop" in os.listdir(mount.path)
    assert {one["sni"] for one in requests(server)} == {"localhost"}
    assert {one["host"] for one in requests(server)} == {server.url.removeprefix("https://")}


def test_server_name_through_a_proxy(server, start_as, start_proxy):
    proxy = start_proxy()
    start_as({"token": server.token}, cluster={"tls-server-name": "localhost",
                                               "proxy-url": "http://" + proxy.address})
    assert {one["sni"] for one in requests(server)} == {"localhost"}
    assert proxy.heads[0].startswith("CONNECT " + server.url.removeprefix("https://"))


def test_wrong_server_name(server, place):
    refused_start({"token": server.token}, server, place, "certificate", status=4,
                  cluster={"tls-server-name": "other.example"})


def test_nothing_over_http(place):
    """No token, and nobody to act as."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = "http://127.0.0.1:%d" % listener.getsockname()[1]
        (place / "k").write_text(yaml.safe_dump({
            "current-context": "a",
            "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": url, "disable-compression": True}}],
            "users": [{"name": "u", "user": {"token": "s3cret", "as": "s3cret"}}]}))
        (place / "mnt").mkdir()
        with subprocess.Popen([conftest.PROGRAM, "-f", "--kubeconfig", place / "k", "--as-group",
                               "s3cret", place / "mnt"], stderr=subprocess.PIPE) as process:
            client, _ = listener.accept()
            head = read_head(client)
            client.close()
            process.kill()
    assert head.startswith(b"GET /apis/image.openshift.io/v1 HTTP/1.1\r\n")
    assert b"s3cret" not in head and b"uthorization" not in head
    assert b"Accept-Encoding" not in head  # the kubeconfig says so


# ---- what a kubeconfig can't do ----

def mounted(path):
    """(source, options) of /proc/mounts, where a blank or a backslash is octal."""
    with open("/proc/mounts") as f:
        fields = [line.split() for line in f if line.split()[1] == str(path)]
    (source, _, _, options, *_), = fields
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), source), options.split(",")


@pytest.mark.parametrize("user", [None, "nobody"])
@pytest.mark.parametrize("tail", ["/,allow_other,suid", "/\\,dev", "/\\\\,max_read=1,", "/\\054suid"])
def test_url_is_no_mount_option(server, start_mount, tail, user):
    """As itself for mount(2), and through fusermount3 for another user."""
    plain = start_mount(server)
    readable = server.kubeconfig.parent / "readable"
    readable.mkdir()
    kubeconfig = Kubeconfig(server, readable, {"token": server.token}, server=server.url + tail)
    server.control("POST", "prefix", {"path": tail})
    mount = start_mount(kubeconfig_only(kubeconfig), user=user)
    source, options = mounted(mount.path)
    assert source == server.url + tail.rstrip("/")
    assert not {"suid", "dev", "allow_other", "max_read=1"} & set(options)
    if not user:
        assert options == mounted(plain.path)[1]


# ---- nobody else gets to know ----

def secrets_of(server):
    """The tokens and the lines of the key of a server's kubeconfig."""
    found = set()
    for user in yaml.safe_load(server.kubeconfig.read_text())["users"]:
        if "token" in user["user"]:
            found.add(user["user"]["token"])
        else:
            key = base64.b64decode(user["user"]["client-key-data"]).decode()
            found.update(line for line in key.splitlines() if not line.startswith("-----"))
    return found


def everything_said(mount):
    """What a user may read of a mount and of its program."""
    texts = [mount.stderr.read_text(), (mount / ".api/errors").read_text(),
             (mount / ".api/status.json").read_text()]
    for pid in [mount.process.pid] + [int(one) for one in subprocess.run(
            ["pgrep", "-P", str(mount.process.pid)], capture_output=True, text=True,
            check=False).stdout.split()]:
        for name in ("cmdline", "comm", "environ"):
            with open(f"/proc/{pid}/{name}", "rb") as f:
                texts.append(f.read().decode("utf-8", "replace"))
    return "\n".join(texts)


@pytest.mark.parametrize("how", ["--token=TOKEN", "--token TOKEN", "-o token=TOKEN",
                                 "-o read-only,token=TOKEN", "kubeconfig", "certificate"])
def test_nothing_is_said(server, start_mount, how):
    arguments = how.replace("TOKEN", server.token).split()
    if how == "kubeconfig":
        arguments = []
    elif how == "certificate":
        arguments = ["--context", "admin-cert"]
    mount = start_mount(server, "-vv", *arguments)
    mount.expect("")
    server.fault(path="/imagestreams", watch=True, status=401, count=2)
    server.control("POST", "drop", {})
    wait_for(mount.errors, 10, "a refusal")
    (mount / "shop/web").stat()
    said = everything_said(mount)
    assert "GET /apis/image.openshift.io" in said
    for secret in secrets_of(server):
        assert secret not in said


@pytest.mark.skipif(os.getuid() != 0 or os.path.exists("/dev/log"),
                    reason="the test has to be the system's log itself")
def test_the_system_log_is_told_nothing(server, place):
    (place / "mnt").mkdir()
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind("/dev/log")
    log.settimeout(10)
    try:
        subprocess.run([conftest.PROGRAM, "-vv", "--kubeconfig", server.kubeconfig, "--token",
                        server.token, place / "mnt"], check=True, stderr=subprocess.DEVNULL)
        save(place / "mnt/shop/web/metadata.json", first="yes")
        rotate(server, "sha256~second")
        refuses_save(place / "mnt/shop/web/metadata.json", errno.EKEYEXPIRED)
        conftest.unmount(place / "mnt")
        said = b""
        while b"PATCH" not in said or b"401" not in said:
            said += log.recv(65536)
    finally:
        os.unlink("/dev/log")
        log.close()
    for secret in secrets_of(server) | {server.token}:
        assert secret.encode() not in said


def test_plugin_says_nothing(server, plugin, start_as):
    """Not even where it is careless: neither its answer nor its own words come out."""
    plugin.answer(token=server.token)
    plugin.script(f"cat {plugin.place}/answer; echo the token is {server.token} >&2")
    mount, _ = start_as(plugin.user(), "-vv")
    mount.expect("")
    assert server.token not in everything_said(mount)
    plugin.script(f'echo \'{{"token": "{server.token}"\'')
    rotate(server, "sha256~second")
    refuses_save(mount / "shop/web/metadata.json", errno.EKEYEXPIRED)
    assert "isn't an object" in credentials(mount)["error"]
    assert next(iter(secrets_of(server))) not in everything_said(mount)


def core_of(process, where):
    """Ends a process as a fault would. Its core, or None."""
    try:
        process.send_signal(signal.SIGABRT)
        assert process.wait(60) == -signal.SIGABRT
    finally:
        process.kill()
    return next(iter(where.glob("core*")), None)


def unlimited_core():
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_no_core_holds_a_token(server, place):
    """A process with the token in its memory leaves a core here; the mount leaves none."""
    with open("/proc/sys/kernel/core_pattern") as f:
        if not re.match(r"core\b", f.read()):
            pytest.skip("cores go elsewhere on this machine")
    (place / "other").mkdir()
    with subprocess.Popen(["sleep", "60"], env={"TOKEN": server.token}, cwd=place / "other",
                          preexec_fn=unlimited_core) as other:
        core = core_of(other, place / "other")
    if core is None:
        pytest.skip("no cores on this machine")
    strings = subprocess.run(["grep", "-c", server.token, core], check=False, capture_output=True)
    assert strings.returncode == 0  # the test would see it
    (place / "mnt").mkdir()
    with subprocess.Popen([conftest.PROGRAM, "-f", "--kubeconfig", server.kubeconfig, "-o",
                           "auto_unmount", place / "mnt"], cwd=place, preexec_fn=unlimited_core,
                          env=dict(os.environ, ASAN_OPTIONS="handle_abort=0:disable_coredump=0"),
                          stderr=subprocess.DEVNULL) as process:
        conftest.wait_until_mounted(place / "mnt", process)
        core = core_of(process, place)
    assert core is None
    wait_for(lambda: not is_mounted(place / "mnt"), 10, "the end of the mount")


def test_the_same_user_cannot_look(server, start_mount):
    """Neither memory nor environment: another program of the user's isn't the mount."""
    for path in (server.kubeconfig, server.kubeconfig.parent):
        path.chmod(0o755)
    mount = start_mount(server, user="nobody")
    look = "open('/proc/%d/%s', 'rb').read(1)"
    for name in ("mem", "environ", "maps"):
        done = subprocess.run(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
                               "/usr/bin/python3", "-c", look % (mount.process.pid, name)],
                              capture_output=True, text=True, check=False)
        assert "PermissionError" in done.stderr, name
