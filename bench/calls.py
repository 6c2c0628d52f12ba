# SPDX-License-Identifier: Apache-2.0
"""The Engine API by hand, over one kept connection: what a call costs, without a client's own start."""
import http.client
import json
import socket
import time

# Read-only calls, by the path's shape.
CALLS = ("/_ping", "/version", "/info", "/containers/json", "/containers/json?all=1",
         "/containers/json?all=1&filters=%7B%22label%22%3A%5B%22n%3D77%22%5D%7D", "/containers/{up}/json",
         "/containers/{made}/json", "/containers/{up}/logs?stdout=1", "/containers/{up}/stats?stream=0&one-shot=1",
         "/containers/{up}/top", "/images/json", "/images/{image}/json", "/images/{image}/history", "/networks",
         "/networks/bridge", "/volumes", "/plugins", "/system/df", "/events?since=1&until=2")
# These look at processes or at the disk: no bar for them.
WORK = ("/containers/{up}/top", "/system/df")


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=300)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Engine:
    def __init__(self, path):
        self.connection = Connection(path)

    def request(self, method, path, body=None):
        data = json.dumps(body) if body is not None else None
        self.connection.request(method, "/v1.41" + path, data, {"Content-Type": "application/json"})
        r = self.connection.getresponse()
        return r.status, r.read()

    def create(self, name, image, **labels):
        body = {"Image": image, "Cmd": ["sleep", "1"], "Labels": labels}
        status, reply = self.request("POST", f"/containers/create?name={name}", body)
        if status != 201:
            raise OSError(f"create {name}: {reply.decode(errors='replace')}")

    def load(self, archive, namespace):
        self.connection.request("POST", "/v1.41/images/load?quiet=1", archive,
                                {"Content-Type": "application/x-tar", "X-Kistl-Namespace": namespace})
        r = self.connection.getresponse()
        reply = r.read().decode(errors="replace")
        if r.status != 200 or "Loaded image" not in reply:
            raise OSError(f"load: {r.status} {reply}")

    def remove(self, name):
        self.request("DELETE", f"/containers/{name}?force=1")

    def timed(self, path):
        """Milliseconds."""
        began = time.perf_counter()
        status, reply = self.request("GET", path)
        ms = (time.perf_counter() - began) * 1000
        if status != 200:
            raise OSError(f"GET {path}: {status} {reply[:200].decode(errors='replace')}")
        return ms
