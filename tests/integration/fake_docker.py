# SPDX-License-Identifier: Apache-2.0
"""A scripted Docker Engine API server on a unix socket, for tests of the client alone.

It records every request. Handlers are registered by method and path (without the version) and
return a Reply, or take over the connection (hijack).
"""

import json
import re
import socket
import struct
import threading
from urllib.parse import parse_qs, unquote, urlsplit


class Request:
    def __init__(self, method, target, headers, body):
        self.method = method
        parts = urlsplit(target)
        match = re.match(r"/v(\d+\.\d+)(/.*)", parts.path)
        self.version = match.group(1) if match else None
        self.path = unquote(match.group(2) if match else parts.path)
        self.query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)


class Reply:
    def __init__(self, status=200, body=b"", headers=None, chunks=None):
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode() + b"\n"
        elif isinstance(body, str):
            body = body.encode()
        self.status = status
        self.body = body
        self.headers = headers or {}
        self.chunks = chunks


def error(status, message):
    return Reply(status, {"message": message})


def frame(stream, data):
    return struct.pack(">BxxxL", stream, len(data)) + data


class Connection:
    def __init__(self, sock):
        self.sock = sock
        self.buffer = b""

    def fill(self):
        data = self.sock.recv(65536)
        self.buffer += data
        return bool(data)

    def read_until(self, mark):
        while mark not in self.buffer:
            if not self.fill():
                return None
        head, self.buffer = self.buffer.split(mark, 1)
        return head

    def read(self, n):
        while len(self.buffer) < n:
            if not self.fill():
                raise EOFError
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def read_some(self):
        if self.buffer:
            data, self.buffer = self.buffer, b""
            return data
        return self.sock.recv(65536)

    def read_body(self, headers):
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while True:
                size = int(self.read_until(b"\r\n"), 16)
                body += self.read(size)
                self.read(2)
                if not size:
                    return body
        return self.read(int(headers.get("content-length", 0)))

    def send(self, data):
        self.sock.sendall(data)

    def send_reply(self, reply, head_only=False):
        lines = [f"HTTP/1.1 {reply.status} X"]
        for key, value in reply.headers.items():
            lines.append(f"{key}: {value}")
        if reply.chunks is not None:
            lines.append("Transfer-Encoding: chunked")
        elif reply.status not in (204, 304):
            lines.append(f"Content-Length: {len(reply.body)}")
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n")
        if head_only:
            return
        if reply.chunks is None:
            self.send(reply.body)
            return
        for chunk in reply.chunks:
            self.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.send(b"0\r\n\r\n")

    def upgrade(self, tty=False):
        kind = "raw" if tty else "multiplexed"
        self.send(
            b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.%s-stream\r\n"
            b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n" % kind.encode()
        )


class FakeDocker:
    def __init__(self, path, api_version="1.47"):
        self.path = str(path)
        self.api_version = api_version
        self.requests = []
        self.routes = []
        self.lock = threading.Lock()
        self.on("GET|HEAD", "/_ping", lambda r, c: Reply(200, "OK", self.ping_headers()))
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(16)
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def ping_headers(self):
        return {"Api-Version": self.api_version, "Ostype": "linux"}

    def on(self, method, path, handler):
        """handler: a Reply, or a function of (request, connection) that returns one or None
        when it has answered itself. Later registrations win."""
        self.routes.insert(0, (re.compile(method), re.compile(path), handler))

    def seen(self, method, path):
        with self.lock:
            return [r for r in self.requests if r.method == method and re.fullmatch(path, r.path)]

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(Connection(sock),), daemon=True).start()

    def serve(self, conn):
        try:
            while self.serve_one(conn):
                pass
        except (EOFError, OSError):
            pass
        finally:
            conn.sock.close()

    def serve_one(self, conn):
        head = conn.read_until(b"\r\n\r\n")
        if head is None:
            return False
        lines = head.decode().split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        headers = {}
        for line in lines[1:]:
            key, value = line.split(":", 1)
            headers[key.lower()] = value.strip()
        request = Request(method, target, headers, conn.read_body(headers))
        with self.lock:
            self.requests.append(request)
        reply = self.dispatch(request, conn)
        if reply is None:
            return False
        conn.send_reply(reply, head_only=method == "HEAD")
        return True

    def dispatch(self, request, conn):
        for method, path, handler in self.routes:
            if method.fullmatch(request.method) and path.fullmatch(request.path):
                return handler(request, conn) if callable(handler) else handler
        return error(404, "page not found")

    def close(self):
        self.listener.close()
