# SPDX-License-Identifier: Apache-2.0
"""Clients of the CRI's streaming server: SPDY/3.1 as moby/spdystream speaks it, WebSocket (RFC 6455), and on them
what kubectl does with exec, attach and port-forward. Small and strict: what a server may not do raises."""

import base64
import hashlib
import json
import os
import socket
import ssl
import struct
import threading
import urllib.parse
import zlib

WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
).split()
REST = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 "
    "Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 "
    "Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept "
    "Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    "application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset="
    "utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack(">I", len(w)) + w.replace("_", " ").encode() for w in WORDS) + REST.encode()
TIMEOUT = 60


class Refused(Exception):
    """The server did not upgrade."""

    def __init__(self, status, headers, body):
        super().__init__(f"{status}: {body}")
        self.status, self.headers, self.body = status, headers, body


def dial(url, timeout=TIMEOUT, tls=None):
    u = urllib.parse.urlsplit(url)
    s = socket.create_connection((u.hostname, u.port), timeout)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if u.scheme in ("https", "wss"):
        s = (tls or ssl._create_unverified_context()).wrap_socket(s, server_hostname=u.hostname)
    return s, u


def upgrade(s, u, method, headers, extra=b""):
    """Returns (headers, bytes that came behind the head)."""
    lines = [f"{method} {u.path} HTTP/1.1", f"Host: {u.netloc}", *(f"{k}: {v}" for k, v in headers)]
    s.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + extra)
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = s.recv(65536)
        if not chunk:
            raise Refused(0, [], data.decode(errors="replace"))
        data += chunk
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    status = int(first.split()[1])
    got = [(k.lower(), v) for k, _, v in (f.partition(": ") for f in fields)]
    if status != 101:
        while chunk := s.recv(65536):
            rest += chunk
        raise Refused(status, got, rest.decode())
    return got, rest


class Stream:
    """One SPDY stream; filled by its connection's thread."""

    def __init__(self, connection, number):
        self.connection, self.id = connection, number
        self.data, self.ended, self.reset = bytearray(), False, None
        self.replied = False

    def send(self, data, fin=False):
        self.connection.write_data(self.id, data, fin)

    def end(self):
        self.send(b"", True)

    def wait(self, condition, timeout=TIMEOUT):
        with self.connection.changed:
            if not self.connection.changed.wait_for(
                    lambda: condition(self) or self.reset is not None or self.connection.closed, timeout):
                raise TimeoutError(f"stream {self.id}: {bytes(self.data[-200:])!r}")
        return condition(self)

    def read_all(self, timeout=TIMEOUT):
        self.wait(lambda s: s.ended, timeout)
        return bytes(self.data)

    def expect(self, text, timeout=TIMEOUT):
        if not self.wait(lambda s: text in s.data, timeout):
            raise AssertionError(f"{text!r} did not come, but {bytes(self.data[-500:])!r}")


class Spdy:
    """A client's connection. transport: a socket, or anything with sendall and recv."""

    def __init__(self, transport, early=b"", paused=False):
        self.transport = transport
        self.deflate = zlib.compressobj(6, zlib.DEFLATED, 15, 9, 0, DICTIONARY)
        self.inflate = zlib.decompressobj(15, DICTIONARY)
        self.next_id, self.streams = 1, {}
        self.lock, self.changed = threading.RLock(), threading.Condition()
        self.closed, self.error, self.pongs, self.goaway = False, None, [], None
        self.may_read = threading.Event()
        if not paused:
            self.may_read.set()
        self.early = early
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def close(self):
        try:
            self.transport.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.may_read.set()
        self.reader.join(TIMEOUT)
        self.transport.close()

    # --- out ---

    def write(self, data):
        with self.lock:
            self.transport.sendall(data)

    def control(self, kind, payload, flags=0):
        self.write(struct.pack(">HHI", 0x8003, kind, flags << 24 | len(payload)) + payload)

    def write_data(self, number, data, fin=False):
        view, first = memoryview(data), True
        while first or view:
            first, piece, view = False, view[:32768], view[32768:]
            last = fin and not view
            self.write(struct.pack(">II", number, (0x01000000 if last else 0) | len(piece)) + bytes(piece))

    def block(self, headers):
        plain = struct.pack(">I", len(headers))
        for k, v in headers.items():
            plain += struct.pack(">I", len(k)) + k.encode() + struct.pack(">I", len(v)) + v.encode()
        return self.deflate.compress(plain) + self.deflate.flush(zlib.Z_SYNC_FLUSH)

    def open(self, headers, fin=False, wait=True):
        with self.lock:
            number, self.next_id = self.next_id, self.next_id + 2
            stream = self.streams[number] = Stream(self, number)
            self.control(1, struct.pack(">IIBB", number, 0, 0, 0) + self.block(headers), 1 if fin else 0)
        if wait and not stream.wait(lambda s: s.replied):
            raise ConnectionError(f"stream {number} {headers} refused: {stream.reset}, {self.error}")
        return stream

    def ping(self, number):
        self.control(6, struct.pack(">I", number))
        with self.changed:
            assert self.changed.wait_for(lambda: number in self.pongs or self.closed, TIMEOUT)
        return number in self.pongs

    def reset(self, stream, status=5):
        self.control(3, struct.pack(">II", stream.id, status))

    # --- in ---

    def exactly(self, n):
        data = b""
        while len(data) < n:
            self.may_read.wait()
            if self.early:
                chunk, self.early = self.early[:n - len(data)], self.early[n - len(data):]
            else:
                chunk = self.transport.recv(min(n - len(data), 65536))
            if not chunk:
                raise EOFError
            data += chunk
        return data

    def read(self):
        try:
            while True:
                first, second = struct.unpack(">II", self.exactly(8))
                payload = self.exactly(second & 0xffffff)
                with self.changed:
                    self.take(first, second >> 24, payload)
                    self.changed.notify_all()
        except (EOFError, OSError) as e:
            self.error = e
        except Exception as e:  # the server's fault: tests look at it
            self.error = e
            raise
        finally:
            with self.changed:
                self.closed = True
                self.changed.notify_all()

    def take(self, first, flags, payload):
        if not first >> 31:
            stream = self.streams[first]
            assert stream.replied and not stream.ended, "data on a stream that is not open"
            stream.data += payload
            stream.ended = bool(flags & 1)
            return
        assert first >> 16 == 0x8003
        kind = first & 0xffff
        number = struct.unpack(">I", payload[:4])[0]
        if kind == 2:
            assert self.inflate.decompress(payload[4:]) == b"\0\0\0\0"
            assert not self.streams[number].replied
            self.streams[number].replied = True
        elif kind == 3:
            if number in self.streams:
                self.streams[number].reset = struct.unpack(">I", payload[4:])[0]
        elif kind == 6:
            self.pongs.append(number)
        elif kind == 7:
            self.goaway = struct.unpack(">II", payload)
        else:
            raise AssertionError(f"frame of type {kind}")


COMMAND_VERSIONS = [f"v{n}.channel.k8s.io" for n in (5, 4, 3, 2)] + ["channel.k8s.io"]


def spdy_upgrade(url, versions, method="POST", timeout=TIMEOUT, **kw):
    s, u = dial(url, timeout)
    headers = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("Content-Length", "0")]
    got, early = upgrade(s, u, method, headers + [("X-Stream-Protocol-Version", v) for v in versions])
    got = dict(got)
    assert got["upgrade"] == "SPDY/3.1" and got["connection"] == "Upgrade"
    assert not early, "nothing may follow the reply before the first stream"
    c = Spdy(s, early, **kw)
    c.version = got["x-stream-protocol-version"]
    return c


class SpdyCommand:
    """exec or attach, with the streams that kubectl opens, in its order."""

    def __init__(self, url, stdin=False, stdout=True, stderr=True, tty=False, versions=COMMAND_VERSIONS,
                 size=None, paused=False):
        self.spdy = spdy_upgrade(url, versions)
        self.version = self.spdy.version
        self.streams = {}
        resize = tty and self.version[:2] in ("v3", "v4", "v5")
        for name, wanted in (("error", True), ("stdin", stdin), ("stdout", stdout), ("stderr", stderr and not tty),
                             ("resize", resize)):
            if wanted:
                self.streams[name] = self.spdy.open({"streamtype": name})
                if name == "error":
                    self.streams[name].end()
        if paused:
            self.spdy.may_read.clear()
        if size and resize:
            self.resize(*size)

    def send(self, data):
        self.streams["stdin"].send(data)

    def end_stdin(self):
        self.streams["stdin"].end()

    def resize(self, width, height):
        self.streams["resize"].send(json.dumps({"Width": width, "Height": height}).encode() + b"\n")

    def expect(self, text, name="stdout", timeout=TIMEOUT):
        self.streams[name].expect(text, timeout)

    def output(self, name="stdout"):
        return bytes(self.streams[name].data)

    def status(self, timeout=TIMEOUT):
        """Waits for the end as kubectl does: the outputs' and the error stream's."""
        text = self.streams["error"].read_all(timeout)
        for name in ("stdout", "stderr"):
            if name in self.streams:
                self.streams[name].read_all(timeout)
                assert self.streams[name].ended, f"{name} has no end"
        assert self.streams["error"].ended, "the error stream has no end"
        return json.loads(text) if self.version[:2] in ("v4", "v5") else text.decode()

    def close(self):
        self.spdy.close()


class WebSocket:
    """A client's side; messages are whole."""

    def __init__(self, url, protocols=(), extra=b"", timeout=TIMEOUT, headers=()):
        self.socket, u = dial(url, timeout)
        key = base64.b64encode(os.urandom(16)).decode()
        wanted = [("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
                  ("Sec-WebSocket-Key", key)]
        if protocols:
            wanted.append(("Sec-WebSocket-Protocol", ", ".join(protocols)))
        got, self.early = upgrade(self.socket, u, "GET", wanted + list(headers), extra)
        got = dict(got)
        accept = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        assert got["sec-websocket-accept"] == base64.b64encode(accept).decode()
        self.protocol = got.get("sec-websocket-protocol")
        assert self.protocol in protocols or (self.protocol is None and not protocols)
        self.lock = threading.Lock()
        self.close_code, self.pongs = None, []

    def frame(self, opcode, data, fin=True, rsv=0, masked=True):
        head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
        bit = 0x80 if masked else 0
        n = len(data)
        if n < 126:
            head += bytes([bit | n])
        elif n < 65536:
            head += bytes([bit | 126]) + struct.pack(">H", n)
        else:
            head += bytes([bit | 127]) + struct.pack(">Q", n)
        if not masked:
            return head + data
        mask = os.urandom(4)
        whole = int.from_bytes(data, "big") ^ int.from_bytes((mask * (n // 4 + 1))[:n], "big")
        return head + mask + whole.to_bytes(n, "big")

    def send(self, data, opcode=2, fin=True):
        with self.lock:
            self.socket.sendall(self.frame(opcode, data, fin))

    def exactly(self, n):
        data = bytearray()
        while len(data) < n:
            if self.early:
                chunk, self.early = self.early[:n - len(data)], self.early[n - len(data):]
            else:
                chunk = self.socket.recv(n - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return bytes(data)

    def receive(self):
        """(opcode, data) of the next message; None after a close frame. Pings are answered."""
        while True:
            first, second = self.exactly(2)
            assert first & 0x70 == 0 and not second & 0x80, "reserved bits, or a masked frame of the server's"
            n = second & 0x7f
            if n == 126:
                n = struct.unpack(">H", self.exactly(2))[0]
                assert n >= 126
            elif n == 127:
                n = struct.unpack(">Q", self.exactly(8))[0]
                assert n > 65535
            data, opcode = self.exactly(n), first & 15
            assert first & 0x80, "our server does not fragment"
            if opcode == 8:
                self.close_code = struct.unpack(">H", data[:2])[0] if data else 1005
                return None
            if opcode == 10:
                self.pongs.append(data)
                continue
            assert opcode in (1, 2)
            return opcode, data

    def close(self):
        self.socket.close()


class WebSocketCommand:
    """exec or attach by channels; a thread takes the messages apart."""

    NAMES = ["stdin", "stdout", "stderr", "error", "resize"]

    def __init__(self, url, stdin=False, stdout=True, stderr=True, tty=False, protocol="v5.channel.k8s.io", size=None):
        self.ws = WebSocket(url, [protocol] if protocol else [])
        self.base64 = bool(protocol) and "base64" in protocol
        self.version = int(protocol[1]) if protocol and protocol[0] == "v" else 1
        self.data = {name: bytearray() for name in self.NAMES}
        self.greeted, self.ended, self.failure = False, False, None
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        if size and tty:
            self.resize(*size)

    def read(self):
        try:
            while message := self.ws.receive():
                opcode, data = message
                assert opcode == (1 if self.base64 else 2)
                channel = data[0] - 48 if self.base64 else data[0]
                payload = base64.b64decode(data[1:]) if self.base64 else data[1:]
                with self.changed:
                    self.greeted = self.greeted or not payload
                    assert self.greeted, "the first message is an empty one"
                    self.data[self.NAMES[channel]] += payload
                    self.changed.notify_all()
        except (EOFError, OSError) as e:
            self.failure = e
        finally:
            with self.changed:
                self.ended = True
                self.changed.notify_all()

    def message(self, channel, data):
        if self.base64:
            self.ws.send(bytes([48 + channel]) + base64.b64encode(data), opcode=1)
        else:
            self.ws.send(bytes([channel]) + data)

    def send(self, data):
        for i in range(0, len(data), 30000):
            self.message(0, data[i:i + 30000])

    def end_stdin(self):
        assert self.version >= 5
        self.message(255, b"\0")

    def resize(self, width, height):
        self.message(4, json.dumps({"Width": width, "Height": height}).encode())

    def wait(self, condition, timeout=TIMEOUT):
        with self.changed:
            assert self.changed.wait_for(lambda: condition() or self.ended, timeout), dict(self.data)
        return condition()

    def expect(self, text, name="stdout", timeout=TIMEOUT):
        assert self.wait(lambda: text in self.data[name], timeout), (dict(self.data), self.failure)

    def output(self, name="stdout"):
        return bytes(self.data[name])

    def status(self, timeout=TIMEOUT):
        assert self.wait(lambda: self.ended, timeout)
        assert self.ws.close_code == 1000, (self.ws.close_code, self.failure)
        text = self.data["error"].decode()
        return json.loads(text) if self.version >= 4 else text

    def close(self):
        try:
            self.ws.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.reader.join(TIMEOUT)
        self.ws.close()


class Tunnel:
    """What Spdy takes for a socket, within a WebSocket."""

    def __init__(self, url):
        self.ws = WebSocket(url, ["SPDY/3.1+portforward.k8s.io"])
        self.rest = b""

    def sendall(self, data):
        # Frames need not be messages, nor messages frames.
        for i in range(0, len(data), 1000):
            self.ws.send(data[i:i + 1000])

    def recv(self, n):
        while not self.rest:
            message = self.ws.receive()
            if not message:
                return b""
            assert message[0] == 2
            self.rest = message[1]
        data, self.rest = self.rest[:n], self.rest[n:]
        return data

    def shutdown(self, how):
        self.ws.socket.shutdown(how)

    def close(self):
        self.ws.close()


class PortForward:
    """Pairs of streams; each connect() is one connection of a local client's."""

    def __init__(self, url, tunnel=False):
        self.spdy = Spdy(Tunnel(url)) if tunnel else spdy_upgrade(url, ["portforward.k8s.io"])
        self.lock, self.next_request = threading.Lock(), 0

    def connect(self, port, request_id=True):
        with self.lock:
            number, self.next_request = self.next_request, self.next_request + 1
            headers = {"port": str(port)}
            if request_id:
                headers["requestid"] = str(number)
            error = self.spdy.open({"streamtype": "error", **headers})
            error.end()
            data = self.spdy.open({"streamtype": "data", **headers})
        return data, error

    def close(self):
        self.spdy.close()
