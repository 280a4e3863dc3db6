#!/usr/bin/python3
"""Prints how often a mount asks a server in each kind of disorder, a minute: faults.py [SECONDS]"""

import contextlib
import pathlib
import shutil
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/mount"))
import conftest  # noqa: E402  starts servers and mounts
import disorder  # noqa: E402

AFTER = 10  # seconds: the first tries come quickly, one after the other
LINE = "{:8} {:26} {:>9.1f} {:>6.1f}  {:9} {}"


def table(everything, rates):
    print("{:8} {:26} {:>9} {:>6}  {:9} {}".format(
        "of", "each time", "requests", "lists", "state", "why"))
    scopes = disorder.scopes(everything.mount)
    for name, (requests, lists) in rates.items():
        kind = {"w": "watches", "l": "lists"}.get(name.partition("-")[0], "nothing")
        scope = scopes[disorder.namespaced(name)]
        fault = name if kind == "nothing" else name[2:]
        print(LINE.format(kind, fault, requests, lists, scope["state"], scope["error"] or ""))


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 120
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(tempfile.mkdtemp(prefix="imagestreamfs-bench-", dir="/var/tmp"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        server = conftest.Server(directory, "--sample", "--user", disorder.USER + ":none")
        stack.callback(server.stop)

        def start(of, *arguments):
            mount = conftest.Mount(directory, of.kubeconfig, *arguments)
            stack.callback(mount.stop)
            return mount

        everything = disorder.Disorder(server, start)
        table(everything, everything.measure(seconds, AFTER))


if __name__ == "__main__":
    main()
