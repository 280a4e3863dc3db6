"""Starting the server and talking to it."""

import http.client
import json
import os
import ssl
import subprocess
import sys
import time

import yaml

SERVER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "apiserver")


class ApiServer:
    """A running server and how to talk to it."""

    def __init__(self, folder, *options):
        self.kubeconfig = str(folder / "kubeconfig")
        ca = str(folder / "ca.crt")
        self.log = open(folder / "stderr", "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-B", SERVER, "--port", "0", "--kubeconfig", self.kubeconfig,
             "--ca", ca, *options], stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline().split()
        assert line[:1] == ["ready"], line
        self.url = line[1]
        self.host = self.url[len("https://"):]
        self.context = ssl.create_default_context(cafile=ca)
        with open(self.kubeconfig, encoding="utf-8") as file:
            config = yaml.safe_load(file)
        self.tokens = {user["name"]: user["user"].get("token") for user in config["users"]}
        self.config = config
        self.connection = None

    def connect(self, timeout=15):
        return http.client.HTTPSConnection(self.host, context=self.context, timeout=timeout)

    def headers(self, user="admin", **more):
        out = {name.replace("_", "-"): value for name, value in more.items()}
        if user:
            out["Authorization"] = "Bearer " + self.tokens.get(user, user)
        return out

    def exchange(self, method, path, body=None, headers=None, connection=None):
        """(status, headers, bytes)"""
        connection = connection or self.connect()
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is not None:
            body = body.encode() if isinstance(body, str) else body
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        data = response.read()
        return response.status, response.headers, data

    def call(self, method, path, value=None, user="admin", **headers):
        """(status, parsed body) of a JSON call."""
        body = None if value is None else json.dumps(value)
        if value is not None and "Content_Type" not in headers:
            headers["Content_Type"] = "application/json"
        status, _, data = self.exchange(method, path, body, self.headers(user, **headers))
        try:
            return status, json.loads(data)
        except ValueError:
            return status, data.decode()

    def control(self, name, value=None, method=None):
        method = method or ("POST" if value is not None else "GET")
        status, answer = self.call(method, "/_control/" + name, value, user=None)
        assert status == 200, answer
        return answer

    def watches(self):
        return self.control("state")["watches"]

    def watch(self, path, user="admin", **headers):
        return WatchStream(self, path, self.headers(user, **headers))

    def stop(self):
        """(exit status, what it wrote to stderr)"""
        self.process.terminate()
        code = self.process.wait(10)
        self.process.stdout.close()
        self.log.seek(0)
        text = self.log.read()
        self.log.close()
        return code, text


class WatchStream:
    """An open watch; events come one by one."""

    def __init__(self, server, path, headers):
        self.connection = server.connect()
        self.connection.request("GET", path, headers=headers)
        self.response = self.connection.getresponse()
        self.status = self.response.status

    def line(self):
        """The next line; None at the proper end of the answer. Raises when it is cut off."""
        line = self.response.readline()
        return line.decode() if line else None

    def event(self):
        line = self.line()
        return None if line is None else json.loads(line)

    def rest(self):
        out = []
        while True:
            line = self.line()
            if line is None:
                return out
            out.append(line)

    def close(self):
        self.response.close()
        self.connection.close()


def until(reached, seconds=10):
    """Asks again and again until it is so; only for what can't be awaited otherwise."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)
