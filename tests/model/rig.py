"""What a run stands on: the embedded server in this process, one mount, and processes that work on it.

The server is a thread of this process, spoken to by the program over TLS as ever; what it has is then a look into its
store instead of a request a step.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import pickle
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time

from conftest import Mount
from worker import work

TOP = pathlib.Path(__file__).resolve().parents[2]


def load_server():
    """The module tests/apiserver/__main__.py, which is no package."""
    spec = importlib.util.spec_from_file_location("apiserver_main", TOP / "tests/apiserver/__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NODES = 8  # the root, .api and its refresh, and what another process looks at


class Server:
    """The embedded API server; `app` is its inside."""

    def __init__(self, directory):
        main = load_server()
        args = argparse.Namespace(
            flavor="4", no_bookmarks=False, bookmark_interval=60, deletion_delay=0.5, project_delay=0.2,
            replicas=1, lag=0, user=[], namespace=[], load=[], sample=False, streams=0, big_stream=None,
            stream_tags=None, tag_items=None)
        options = main.Options("4", True, 60)
        options.replicas, options.lag = 1, 0
        auth = main.make_auth(args)
        self.app = main.App(main.Store(), auth, options, 0.5, main.Importer())
        main.load_all(self.app, args)
        authority = main.Authority()
        server = main.Server(self.app, authority.server_context(), 0)
        self.app.control.server = server
        self.app.control.authority = authority
        self.app.control.project_delay = 0.2
        self.kubeconfig = directory / "kubeconfig"
        url = f"https://127.0.0.1:{server.port}"
        main.write(self.kubeconfig, json.dumps(main.kubeconfig(url, authority, auth)).encode())

    def bulk(self, *changes):
        self.app.control.bulk(list(changes))

    def get(self, namespace, name):
        """The object as the API gives it, or None."""
        found = self.app.store["imagestreams"].get(namespace, name)
        if found is None:
            return None
        return {"kind": "ImageStream", "apiVersion": "image.openshift.io/v1", **found.obj}

    def names(self, namespace):
        return {one.name for one in self.app.store["imagestreams"].select(namespace)}

    def fault(self, **spec):
        self.app.control.add_fault(spec)

    def clear_faults(self):
        self.app.control.clear_faults({})

    def writes(self):
        """How many requests came so far that change something."""
        with self.app.control.lock:
            return sum(count for key, count in self.app.control.counts.items()
                       if not key.startswith("GET ") and "/imagestream" in key)


class Worker:
    """A process that does what it is told. Forked before there are threads."""

    def __init__(self):
        mine, theirs = socket.socketpair()
        self.ended = False
        self.pid = os.fork()
        if self.pid == 0:
            mine.close()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                work(theirs)
            finally:
                os._exit(0)
        theirs.close()
        self.socket = mine

    def call(self, name, *arguments):
        """What came of it: ("ok", value) or ("errno", number)."""
        data = pickle.dumps((name, arguments))
        self.socket.sendall(struct.pack("I", len(data)) + data)
        return pickle.loads(self.receive())

    def receive(self):
        head = self.socket.recv(4, socket.MSG_WAITALL)
        if len(head) < 4:
            self.ended = True
            return pickle.dumps(("ended", os.waitpid(self.pid, 0)[1]))
        return self.socket.recv(struct.unpack("I", head)[0], socket.MSG_WAITALL)

    def stop(self):
        """Its end isn't told by the socket's: later workers inherited that."""
        if self.ended:
            return
        self.call("end")
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.socket.close()


class Rig:
    def __init__(self, workers=3, arguments=()):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="imagestreamfs-model-", dir="/var/tmp"))
        self.workers = [Worker() for _ in range(workers)]
        sys.setswitchinterval(0.001)
        os.environ["XDG_STATE_HOME"] = str(self.directory / "state")
        self.server = Server(self.directory)
        self.mount = Mount(self.directory, self.server.kubeconfig, *arguments)
        self.mount.expect(".")  # refused saves are said there
        self.path = str(self.mount.path)

    def is_broken(self):
        return self.mount.process.poll() is not None or any(worker.ended for worker in self.workers)

    def settle(self):
        """Returns when all that the server has is shown, and its events are raised."""
        with open(self.path + "/.api/refresh", "w", encoding="utf-8") as file:
            file.write("now\n")

    def leaked(self, seconds=30):
        """What the program still keeps for a kernel that has forgotten all but the root; None: nothing."""
        end = time.monotonic() + seconds
        while True:
            with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
                file.write("2")
            left = os.statvfs(self.path).f_files
            if left <= NODES:
                return None
            if time.monotonic() > end:
                return f"{left} nodes are left"
            time.sleep(0.1)

    def stop(self):
        failure = self.leaked() if not self.is_broken() else None
        for worker in self.workers:
            worker.stop()
        try:
            self.mount.stop()
            self.mount.check()
        except AssertionError as error:
            failure = str(error)
        shutil.rmtree(self.directory, ignore_errors=True)
        return failure

    def kill(self):
        for worker in self.workers:
            if not worker.ended:
                os.kill(worker.pid, signal.SIGKILL)
                os.waitpid(worker.pid, 0)
        self.mount.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
