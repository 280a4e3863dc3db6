"""Wrong usage: each ends with one line that names what is at fault, and its exit status."""

import concurrent.futures
import http.server
import os
import subprocess
import threading

import pytest

import conftest

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: good
clusters:
- {name: there, cluster: {server: "https://127.0.0.1:1"}}
- {name: ftp, cluster: {server: "ftp://127.0.0.1:1"}}
- {name: nothing, cluster: {}}
- {name: no-ca, cluster: {server: "https://127.0.0.1:1", certificate-authority: /nowhere/ca}}
users:
- {name: me, user: {token: t}}
- {name: no-key, user: {client-certificate: k}}
- {name: no-token, user: {tokenFile: /nowhere/token}}
- {name: two, user: {token: t, username: u, password: p}}
- {name: google, user: {auth-provider: {name: gcp}}}
- {name: plugin, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: /nowhere/plugin, interactiveMode: Never}}}
contexts:
- {name: good, context: {cluster: there, user: me}}
- {name: dangling, context: {cluster: gone, user: me}}
- {name: dangling-user, context: {cluster: there, user: gone}}
- {name: ftp, context: {cluster: ftp, user: me}}
- {name: nothing, context: {cluster: nothing, user: me}}
- {name: no-ca, context: {cluster: no-ca, user: me}}
- {name: no-key, context: {cluster: there, user: no-key}}
- {name: no-token, context: {cluster: there, user: no-token}}
- {name: two, context: {cluster: there, user: two}}
- {name: google, context: {cluster: there, user: google}}
- {name: plugin, context: {cluster: there, user: plugin}}
- {name: namespace, context: {cluster: there, user: me, namespace: "Bad Name"}}
"""

HELP = "see imagestreamfs --help"
USAGE, OTHER, CREDENTIALS, AWAY = 2, 1, 3, 4
DURATION = "is no duration (10s, 1500ms, 1m30s); " + HELP

# The words (M: an empty directory; K: the kubeconfig above; D: the directory of both), the status,
# and what the line says.
TABLE = [
    # which words there are
    ("", USAGE, f"no mountpoint given; {HELP}"),
    ("a b c", USAGE, f"too many arguments; {HELP}"),
    ("--no-such-flag M", USAGE, f"--no-such-flag is no option; {HELP}"),
    ("--no-such-flag=1 M", USAGE, f"--no-such-flag is no option; {HELP}"),
    ("--no M", USAGE, f"--no is no option; {HELP}"),
    ("-z M", USAGE, f"-z is no option; {HELP}"),
    ("-fz M", USAGE, f"-z is no option; {HELP}"),
    ("-f=true M", USAGE, "-f=true: such a flag takes no value"),
    ("--context", USAGE, f"--context needs a value; {HELP}"),
    ("-n", USAGE, f"-n needs a value; {HELP}"),
    ("-o", USAGE, f"-o needs a value; {HELP}"),
    # flags' values
    ("--read-only=maybe M", USAGE, "--read-only: maybe is neither true nor false"),
    ("--insecure-skip-tls-verify=2 M", USAGE,
     "--insecure-skip-tls-verify: 2 is neither true nor false"),
    ("--verbose=4 M", USAGE, "--verbose: 4 is neither true nor false"),
    ("--help=woman M", USAGE, "--help: woman is neither true nor false"),
    ("--request-timeout=10x M", USAGE, f"--request-timeout: 10x {DURATION}"),
    ("--request-timeout=-1s M", USAGE, f"--request-timeout: -1s {DURATION}"),
    ("--request-timeout= M", USAGE, f'--request-timeout: "" {DURATION}'),
    ("--request-timeout=1m30 M", USAGE, f"--request-timeout: 1m30 {DURATION}"),
    ("--request-timeout=25h M", USAGE, f"--request-timeout: 25h {DURATION}"),
    ("--poll-interval=0x10s M", USAGE, f"--poll-interval: 0x10s {DURATION}"),
    ("--poll-interval=1e3s M", USAGE, f"--poll-interval: 1e3s {DURATION}"),
    ("--poll-interval=.s M", USAGE, f"--poll-interval: .s {DURATION}"),
    ("--poll-interval=1..5s M", USAGE, f"--poll-interval: 1..5s {DURATION}"),
    ("--poll-interval=0.5ms M", USAGE, f"--poll-interval: 0.5ms {DURATION}"),
    ("--poll-interval soon M", USAGE, f"--poll-interval: soon {DURATION}"),
    ("--rights-interval 5M M", USAGE, f"--rights-interval: 5M {DURATION}"),
    ("--watch-timeout 1d M", USAGE, f"--watch-timeout: 1d {DURATION}"),
    ("--uid me M", USAGE, "--uid: me is no number"),
    ("--gid -1 M", USAGE, "--gid: -1 is no number"),
    ("--max_read 128k M", USAGE, "--max_read: 128k is no number"),
    ("--umask 888 M", USAGE, "--umask: 888 is no permissions in octal"),
    ("--umask 1000 M", USAGE, "--umask: 1000 is no permissions in octal"),
    ("--log-format=xml M", USAGE, "--log-format: xml is neither text nor json"),
    ("--validate=maybe M", USAGE, "--validate: maybe is none of strict, warn and ignore"),
    ("--complete=pods", USAGE, "--complete: pods is neither contexts nor namespaces"),
    ("-n Shop M", USAGE, "--namespace: Shop is no name of a namespace"),
    ("-n a/b M", USAGE, "--namespace: a/b is no name of a namespace"),
    ("-n= M", USAGE, '--namespace: "" is no name of a namespace'),
    # -o
    ("-o no-such M", USAGE, f"-o no-such: no such option; {HELP}"),
    ("-o no-such=1 M", USAGE, f"-o no-such=1: no such option; {HELP}"),
    ("-o kubeconfig M", USAGE, "-o kubeconfig needs a value"),
    ("-o uid=me M", USAGE, "-o uid: me is no number"),
    ("-o namespace=Shop M", USAGE, "-o namespace: Shop is no name of a namespace"),
    ("-o request-timeout=x M", USAGE, f"-o request-timeout: x {DURATION}"),
    ("-o read-only=perhaps M", USAGE, "-o read-only: perhaps is neither true nor false"),
    ("-o context M", USAGE, "-o context: no such option"),
    ("-o fd=3 M", USAGE, "-o fd=3: the program opens /dev/fuse itself"),
    ("-o user_id=0 M", USAGE, "-o user_id=0: the program says it itself; uid= is"),
    ("-o kernel_cache M", USAGE, "-o kernel_cache: the kernel's caches are kept true by the watch"),
    ("-o attr_timeout=1 M", USAGE, "-o attr_timeout=1: the kernel's caches are kept true"),
    ("-o nonempty M", USAGE, "-o nonempty: a mount over anything is possible without it"),
    ("-o clone_fd M", USAGE, "-o clone_fd: one descriptor is enough"),
    ("-o max_threads=many M", USAGE, "-o max_threads: many is no number"),
    ("-o max_idle_threads=1 M", USAGE, "-o max_idle_threads=1: threads that were made stay"),
    ("-o max_background=3 M", USAGE, "-o max_background=3: the kernel's own limit is used"),
    ("-o blksize=512 M", USAGE, "-o blksize=512: there is no block device"),
    ("-o ac_attr_timeout=1 M", USAGE, "-o ac_attr_timeout=1: the kernel's caches are kept true"),
    ("-o noforget M", USAGE, "-o noforget: a file has its inode number as long as its object lives"),
    ("-o remember=9 M", USAGE, "-o remember=9: a file has its inode number as long as its object"),
    ("-o modules=subdir M", USAGE, "-o modules=subdir: no other filesystem can be put on top of it"),
    ("-o setuid=nobody M", USAGE, "-o setuid=nobody: mount -t fuse.imagestreamfs does that"),
    ("-o drop_privileges M", USAGE, "-o drop_privileges: mount -t fuse.imagestreamfs does that"),
    ("-o blkdev M", USAGE, "-o blkdev: there is no block device"),
    ("-o noopen,allow_other,umask=077 M", USAGE, "such a umask would be in vain"),
    # the mountpoint
    ("--kubeconfig K D/missing", OTHER, "D/missing: No such file or directory"),
    ("--kubeconfig K D/kubeconfig", OTHER, "D/kubeconfig: not a directory"),
    ("--kubeconfig K /dev/fd/0", OTHER, "/dev/fd/0: that is no /dev/fuse"),
    ("--kubeconfig K /dev/fd/77", OTHER, "/dev/fd/77: that is no /dev/fuse"),
    ("--kubeconfig K /proc", OTHER, "/proc: something is mounted there already"),
    ("--kubeconfig K --log-file D/missing/log M", OTHER,
     "--log-file: D/missing/log: No such file or directory"),
    # the kubeconfig
    ("M", OTHER, "no kubeconfig found (tried ~/.kube/config); give --kubeconfig or --server"),
    ("nowhere M", OTHER, 'there is no context "nowhere" in ~/.kube/config: no such file'),
    ("--kubeconfig D/missing M", OTHER,
     "--kubeconfig: can't read kubeconfig D/missing: No such file or directory"),
    ("--kubeconfig D M", OTHER, "--kubeconfig: can't read kubeconfig D: Is a directory"),
    ("--kubeconfig D/ca M", OTHER, "--kubeconfig: D/ca isn't a kubeconfig"),
    ("--kubeconfig /dev/null --context nowhere M", OTHER,
     'there is no context "nowhere" in /dev/null; there is none at all'),
    ("--kubeconfig K nowhere M", OTHER, 'there is no context "nowhere" in K; there are: good, '
     "dangling, dangling-user, ftp"),
    ("--kubeconfig K --context nowhere M", OTHER, 'there is no context "nowhere" in K; there are: '),
    ("--kubeconfig K --cluster gone M", OTHER,
     '--cluster: there is no cluster "gone" in K; there are: there, ftp, nothing, no-ca'),
    ("--kubeconfig K --user gone M", OTHER,
     '--user: there is no user "gone" in K; there are: me, no-key, '),
    ("--kubeconfig K dangling M", OTHER, 'context "dangling" in K: there is no cluster "gone"'),
    ("--kubeconfig K dangling-user M", OTHER,
     'context "dangling-user" in K: there is no user "gone"'),
    ("--kubeconfig K ftp M", OTHER, 'cluster "ftp" in K: the server\'s URL has to start with'),
    ("--kubeconfig K nothing M", OTHER, 'cluster "nothing" in K: no server is given'),
    ("--kubeconfig K no-ca M", OTHER,
     'cluster "no-ca" in K: can\'t read certificate-authority /nowhere/ca: No such file'),
    ("--kubeconfig K no-key M", OTHER, 'user "no-key" in K: can\'t read client-certificate D/k: No'),
    ("--kubeconfig K no-token M", OTHER,
     'user "no-token" in K: can\'t read token file /nowhere/token: No such file'),
    ("--kubeconfig K two M", OTHER, 'user "two" in K: a token and username/password are given'),
    ("--kubeconfig K google M", OTHER, 'user "google" in K: the auth-provider "gcp" isn\'t supp'),
    ("--kubeconfig K plugin M", CREDENTIALS, "/nowhere/plugin: No such file or directory"),
    ("--kubeconfig K namespace M", OTHER,
     'context "namespace" in K: the namespace "Bad Name" isn\'t a DNS label'),
    # flags that the kubeconfig isn't to blame for, though it was read
    ("--kubeconfig K --server ftp://x M", OTHER,
     "--server: the server's URL has to start with https:// or http://"),
    ("--kubeconfig K -s=https:// M", OTHER, "--server: the server's URL has no host"),
    ("--kubeconfig K -s https://u:p@x M", OTHER,
     "--server: the server's URL has to be a host and maybe a path, no more"),
    ("--kubeconfig K --certificate-authority /nowhere/x M", OTHER,
     "--certificate-authority: can't read certificate-authority /nowhere/x: No such file"),
    ("--kubeconfig K --certificate-authority D/ca --insecure-skip-tls-verify M", OTHER,
     "--certificate-authority: insecure-skip-tls-verify contradicts certificate-authority"),
    ("--kubeconfig K --client-certificate /nowhere/x M", OTHER,
     "--client-certificate: can't read client-certificate /nowhere/x"),
    ("--kubeconfig K --client-certificate D/ca M", OTHER,
     "--client-certificate: client-certificate without client-key"),
    ("--kubeconfig K --client-key D/ca M", OTHER,
     "--client-key: client-key without client-certificate"),
    ("--kubeconfig K --token-file /nowhere/x M", OTHER,
     "--token-file: can't read token file /nowhere/x: No such file"),
    ("--kubeconfig K --token-file D/empty M", CREDENTIALS, "D/empty"),
    ("--kubeconfig K --token a\tb M", OTHER, "--token: the token holds white space"),
    ("--kubeconfig K --as-uid 7 M", OTHER, "--as-uid: as-uid, as-groups or as-user-extra is given"),
    ("--kubeconfig K --as-group g M", OTHER, "--as-group: as-uid, as-groups or as-user-extra is "),
    ("--kubeconfig K --as a\tb M", OTHER, "--as: as, as-uid, as-groups or as-user-extra holds con"),
    # the server
    ("--kubeconfig K M", AWAY, "https://127.0.0.1:1: Failed to connect to 127.0.0.1 port 1"),
    ("--kubeconfig K -s https://host.invalid M", AWAY, "resolve host: host.invalid"),
]


def test_the_table_is_long_enough():
    assert len({words for words, _, _ in TABLE}) == len(TABLE) >= 60


@pytest.fixture(scope="module")
def place(directory):
    path = directory / "usage"
    (path / "mnt").mkdir(parents=True)
    (path / "kubeconfig").write_text(KUBECONFIG)
    (path / "ca").write_text("this is no PEM\n")
    (path / "empty").write_text("")
    return path


def run(place, words, program=conftest.PROGRAM):
    names = {"M": place / "mnt", "K": place / "kubeconfig", "D": place}
    command = [str(names.get(word, word)).replace("D/", f"{place}/", word.startswith("D/"))
               for word in words.split(" ") if word]
    return subprocess.run([program, *command], capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL, timeout=120,
                          env={"PATH": os.environ["PATH"], "HOME": str(place / "home")})


def refused(done, status, sentence, place):
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("imagestreamfs: "), done.stderr
    assert sentence in lines[0], lines[0]
    assert done.returncode == status, (done.returncode, lines)
    assert not conftest.is_mounted(place / "mnt")


@pytest.mark.parametrize("words, status, sentence", TABLE, ids=[words for words, _, _ in TABLE])
def test_wrong_usage(place, words, status, sentence):
    for short, path in (("D/", f"{place}/"), ("in K", f"in {place}/kubeconfig"),
                        ("kubeconfig D:", f"kubeconfig {place}:")):
        sentence = sentence.replace(short, path)
    refused(run(place, words), status, sentence, place)


@pytest.mark.skipif(os.getuid() != 0, reason="root reads everything, and becomes somebody else")
def test_what_may_not_be_read_here(place):
    """No refusal of the server's: it isn't 3."""
    done = subprocess.run(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
                           conftest.PROGRAM, "--kubeconfig", "/etc/shadow", place / "mnt"],
                          capture_output=True, text=True, check=False, timeout=60,
                          env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"})
    refused(done, OTHER, "--kubeconfig: can't read kubeconfig /etc/shadow: Permission denied", place)


# ---- a server that answers ----

@pytest.fixture
def answering():
    """A plain HTTP server whose answers are `answers[path]`, or else the one for ""."""
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            path = self.path.split("?")[0]
            code, kind, text = self.server.answers.get(path, self.server.answers[""])
            body = text.encode()
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


HTML = (200, "text/html", "<!DOCTYPE html>\n<html><title>Log in</title></html>\n")
JSON = "application/json"
ROOT = "/apis/image.openshift.io/v1"


def test_a_web_page(place, answering):
    answering.answers = {"": HTML}
    refused(run(place, f"-s {answering.url} M"), OTHER,
            f'{answering.url} is no API server: to {ROOT} it answers "<!DOCTYPE html> <html>', place)


def test_an_empty_answer(place, answering):
    answering.answers = {"": (200, JSON, "")}
    refused(run(place, f"-s {answering.url} M"), OTHER,
            f"{answering.url} is no API server: to {ROOT} it answers nothing", place)


NO_LISTS = [('{"kind": "Status"}', '"{"kind": "Status"}"'), ("[1]", '"[1]"'), ("", "nothing"),
            ("<html>\x1b[31m" + "x" * 1000, '"<html> [31m' + "x" * 69 + '..."')]


def test_the_answer_is_no_list(directory, answering):
    """Who, and what it sent; no control characters of its own, and not all of it. All at once: each
    start waits for half a minute."""
    root = (200, JSON, '{"kind": "APIResourceList"}')
    answering.answers = {"": (404, JSON, "{}")}
    places = [directory / f"no-list-{number}" for number in range(len(NO_LISTS))]
    for place, (text, _) in zip(places, NO_LISTS):
        (place / "mnt").mkdir(parents=True)
        answering.answers[f"/{place.name}{ROOT}"] = root
        answering.answers[f"/{place.name}{ROOT}/imagestreams"] = (200, JSON, text)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        ends = pool.map(lambda place: run(place, f"--request-timeout=1s -s {answering.url}/"
                                          f"{place.name} M"), places)
        for place, done, (_, shown) in zip(places, ends, NO_LISTS):
            refused(done, OTHER, f"{answering.url}/{place.name}{ROOT}/imagestreams: the answer is no "
                    f"list: {shown}", place)


def test_not_found(place, answering):
    answering.answers = {"": (404, "text/plain", "404 page not found\n")}
    refused(run(place, f"-s {answering.url} M"), OTHER,
            f"{answering.url} has no ImageStreams (neither {ROOT} nor /oapi/v1 is there)", place)


def test_a_refused_selector(server, place):
    refused(run(place, f"--kubeconfig {server.kubeconfig} -l a=b=c M"), OTHER,
            "--selector a=b=c: ", place)


@pytest.mark.parametrize("words, status, sentence", [
    ("-n nosuch", OTHER, '--namespace: '), ("-n nosuch", OTHER, 'namespaces "nosuch" not found'),
    ("--tls-server-name foo", AWAY, "--tls-server-name: https://"),
    ("--certificate-authority CA", AWAY, "--certificate-authority: https://"),
    ("--certificate-authority CA --tls-server-name foo", AWAY,
     "--certificate-authority, --tls-server-name: https://")])
def test_a_flag_that_the_server_refuses(server, start_server, place, words, status, sentence):
    words = words.replace("CA", str(start_server().ca) if "CA" in words else "")
    refused(run(place, f"--kubeconfig {server.kubeconfig} {words} M"), status, sentence, place)


LOG_IN = "it may have expired; `oc login` gets a new one"


def test_unauthorized(server, place):
    """What is refused, and what helps."""
    there = f"-s {server.url} --certificate-authority {server.ca}"
    (place / "old-token").write_text("expired")
    path = place / "unauthorized"
    path.write_text(server.kubeconfig.read_text().replace(server.token, "expired"))
    for words, sentence in (
            (f"{there} --token expired", f"Unauthorized; it doesn't take --token: {LOG_IN}"),
            (f"{there} --token-file D/old-token",
             f"it doesn't take the token in --token-file {place}/old-token: {LOG_IN}"),
            (f"--kubeconfig {path}", 'it doesn\'t take the token of user "admin'),
            (f"--kubeconfig {path}", f"in the kubeconfig: {LOG_IN}")):
        done = run(place, f"{words} M")
        refused(done, CREDENTIALS, sentence, place)
        assert server.url in done.stderr and "expired" not in done.stderr.replace(LOG_IN, "")


def test_no_credentials(server, place):
    refused(run(place, f"-s {server.url} --certificate-authority {server.ca} M"), CREDENTIALS,
            f"there are no credentials for it: `oc login {server.url}`, or give --token-file", place)


def test_no_project(server, place, start_mount):
    """An empty mount is no failure, but it is said."""
    mount = start_mount(server, "--context", "nobody")
    mount.expect(rf"{server.url} has no project that nobody may see: the mount is empty .*oc new-")
    assert os.listdir(mount.path) == []
    assert len(mount.stderr.read_text().splitlines()) == 1


# ---- as mount(8)'s helper ----

@pytest.fixture
def helper(place):
    path = place / "mount.imagestreamfs"
    if not path.is_symlink():
        path.symlink_to(conftest.PROGRAM)
    return path


@pytest.mark.parametrize("words, status, sentence", [
    ("M", USAGE, "mount -t imagestreamfs CONTEXT MOUNTPOINT"),
    ("a M b", USAGE, "mount -t imagestreamfs CONTEXT MOUNTPOINT"),
    ("nowhere M -n -s -v -o kubeconfig=K", OTHER, 'there is no context "nowhere"'),
    ("none M -o rw", OTHER, "no kubeconfig found"),
    ("none M -N 1", USAGE, "-N: it can't mount in another mount namespace"),
    ("none M -x", USAGE, "-x is no option"),
    ("none M -o bogus", USAGE, "-o bogus: no such option"),
])
def test_wrong_usage_of_the_helper(place, helper, words, status, sentence):
    words = words.replace("=K", f"={place}/kubeconfig")
    refused(run(place, words, helper), status, sentence, place)


def test_the_helper_pretends(place, helper):
    """mount -f."""
    done = run(place, "none M -f", helper)
    assert (done.returncode, done.stderr) == (0, "") and not conftest.is_mounted(place / "mnt")
