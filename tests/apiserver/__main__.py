"""An API server for the demo and the tests: ImageStreams as OpenShift serves them, in memory."""

import argparse
import base64
import gc
import os
import signal
import sys
import threading

import yaml

import imagestream
import sample
import schema
from auth import ROLES, Auth
from control import complete
from handlers import App
from options import Options
from registry import Importer
from server import Server
from store import Store
from tls import Authority

USERS = [("admin", "cluster-admin", ""), ("developer", "edit", "dev"),
         ("developer", "view", "prod"), ("viewer", "view", "dev"), ("viewer", "view", "prod")]
NAMES = ("admin", "developer", "viewer", "nobody")
NAMESPACES = ("default", "dev", "openshift", "prod")


def parse_args():
    parser = argparse.ArgumentParser(prog="apiserver", description=__doc__)
    add = parser.add_argument
    add("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    add("--kubeconfig", metavar="FILE", help="write a kubeconfig, one context a user")
    add("--ca", metavar="FILE", help="write the CA certificate")
    add("--token-file", metavar="FILE", help="write admin's token")
    add("--user", metavar="NAME:ROLE[:NAMESPACE]", action="append", default=[],
        help="grant a role: cluster-admin, admin, edit, view or none")
    add("--flavor", choices=("4", "3.11", "3.7"), default="4")
    add("--namespace", metavar="NAME", action="append", default=[],
        help="an empty namespace more")
    add("--no-bookmarks", action="store_true")
    add("--bookmark-interval", type=float, default=60, metavar="SECONDS")
    add("--deletion-delay", type=float, default=0.5, metavar="SECONDS",
        help="how long a deleted project stays Terminating")
    add("--project-delay", type=float, default=6.5, metavar="SECONDS",
        help="how long the list of projects holds one whose rights are gone")
    add("--replicas", type=int, default=1, metavar="N",
        help="API servers behind the one address; connections are spread over them")
    add("--lag", type=float, default=0, metavar="SECONDS",
        help="how far the watch cache of the last replica is behind")
    add("--load", metavar="FILE", action="append", default=[], help="an ImageStreamList in JSON")
    add("--sample", action="store_true", help="streams like those of OpenShift 4")
    add("--streams", type=int, default=0, metavar="N", help="generated streams")
    add("--tags", type=int, default=5, metavar="N", help="tags of a generated stream")
    add("--namespaces", type=int, default=1, metavar="N", help="namespaces of generated streams")
    add("--managed-fields", action="store_true", help="give generated streams managedFields")
    add("--big-stream", type=int, metavar="BYTES")
    add("--stream-tags", type=int, metavar="N")
    add("--tag-items", type=int, metavar="N")
    add("--import-controller", action="store_true", help="import new DockerImage tags")
    add("--import-delay", type=float, default=0.08, metavar="SECONDS")
    add("--import-fail", default="", metavar="REGEX", help="references whose import fails")
    add("--import-unreachable", default="", metavar="REGEX",
        help="references whose registry can't be reached")
    add("--import-plain", default="", metavar="REGEX",
        help="references whose registry speaks plain http: they need importPolicy.insecure")
    add("--import-lists", default=":multi$", metavar="REGEX",
        help="references of manifest lists")
    args = parser.parse_args()
    for spec in args.user:
        if spec.count(":") not in (1, 2) or spec.split(":")[1] not in ROLES:
            parser.error("--user wants NAME:ROLE[:NAMESPACE], ROLE one of " + ", ".join(ROLES))
    return args


def load(app, streams):
    streams = [imagestream.canonical(obj, app.options.import_modes) for obj in streams]
    for namespace in sorted({obj["metadata"]["namespace"] for obj in streams}):
        app.projects.ensure(namespace)
    app.store.load("imagestreams", streams)


def from_file(path, options):
    """The streams of an ImageStreamList; what the server sets is filled in."""
    with open(path, encoding="utf-8") as file:
        value = schema.parse_json(file.read())
    out = []
    for one in value["items"] if "items" in value else [value]:
        obj = imagestream.decode(one, schema.Report(), options.import_modes)
        out.append(complete(obj, obj["metadata"].get("namespace", "default"),
                            obj["metadata"]["name"]))
    return out


def load_all(app, args):
    for namespace in NAMESPACES + tuple(args.namespace):
        app.projects.ensure(namespace)
    for path in args.load:
        load(app, from_file(path, app.options))
    if args.sample:
        load(app, sample.sample())
    if args.streams:
        load(app, sample.generated(args.streams, args.tags, args.namespaces,
                                   args.managed_fields and app.options.managed_fields))
    if args.big_stream:
        load(app, [sample.big(args.big_stream)])
    if args.stream_tags:
        load(app, [sample.many_tags(args.stream_tags)])
    if args.tag_items:
        load(app, [sample.many_items(args.tag_items)])
    app.store.begin_history()


def make_auth(args):
    auth = Auth(args.flavor)
    for name in NAMES:
        auth.add_user(name)
    for name, role, namespace in USERS:
        auth.grant(name, role, namespace)
    for spec in args.user:
        name, _, rest = spec.partition(":")
        role, _, namespace = rest.partition(":")
        auth.add_user(name)
        auth.grant(name, role, namespace)
    auth.show()
    return auth


def kubeconfig(url, authority, auth):
    def encoded(data):
        return base64.b64encode(data).decode()

    users = [{"name": name, "user": {"token": token}} for token, name in auth.tokens.items()]
    certificate, key = authority.client("admin")
    users.append({"name": "admin-cert", "user": {
        "client-certificate-data": encoded(certificate), "client-key-data": encoded(key)}})
    contexts = [{"name": user["name"], "context": {
        "cluster": "apiserver", "user": user["name"],
        "namespace": "default" if user["name"].startswith("admin") else "dev"}}
        for user in users]
    return {"apiVersion": "v1", "kind": "Config", "current-context": "admin", "clusters": [
        {"name": "apiserver", "cluster": {
            "server": url, "certificate-authority-data": encoded(authority.pem)}}],
        "contexts": contexts, "users": users}


def write(path, data):
    """Credentials are nobody else's business."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)


def main():
    args = parse_args()
    options = Options(args.flavor, not args.no_bookmarks, args.bookmark_interval)
    auth = make_auth(args)
    store = Store()
    options.replicas, options.lag = max(1, args.replicas), args.lag
    app = App(store, auth, options, args.deletion_delay,
              Importer(args.import_delay, **{name: getattr(args, "import_" + name)
                                             for name in Importer.PATTERNS}))
    # What is loaded stays: the garbage collector would look at 100,000 streams again and again.
    gc.disable()
    load_all(app, args)
    gc.freeze()
    gc.enable()
    if args.import_controller:
        app.import_controller.switch(True)
    authority = Authority()
    server = Server(app, authority.server_context(), args.port)
    app.control.server = server
    app.control.authority = authority
    app.control.project_delay = args.project_delay
    url = "https://127.0.0.1:%d" % server.port
    if args.kubeconfig:
        write(args.kubeconfig, yaml.safe_dump(kubeconfig(url, authority, auth),
                                              sort_keys=False).encode())
    if args.ca:
        write(args.ca, authority.pem)
    if args.token_file:
        write(args.token_file, auth.add_user("admin").encode())
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    print("ready", url, flush=True)
    stop.wait()
    return 0


if __name__ == "__main__":
    # Many short critical sections by many threads: switch between them quickly.
    sys.setswitchinterval(0.001)
    sys.exit(main())
