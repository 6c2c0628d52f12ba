# SPDX-License-Identifier: Apache-2.0
"""The CRI's streaming server and ExecSync over an engine of their own (src/api/cri/testing-streaming.c), with real
containers behind: exec, attach and port-forward by each protocol, and what clients may do wrong."""

import concurrent.futures
import ctypes
import hashlib
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

import pytest

from harness import BUILD, program, until
from streamclient import (COMMAND_VERSIONS, PortForward, Refused, SpdyCommand, WebSocket, WebSocketCommand, dial,
                          spdy_upgrade, upgrade)

WEBSOCKETS = ["v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io",
              "base64.channel.k8s.io", None]
MIB = 1 << 20


class Server:
    def __init__(self, **options):
        self.process = subprocess.Popen(
            [str(BUILD / "src/api/cri/testing-streaming"), program("kistl-shim"), json.dumps(options)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lock = threading.Lock()
        assert json.loads(self.process.stdout.readline()) == {"error": ""}

    def ask(self, op, **request):
        with self.lock:
            self.process.stdin.write(json.dumps({"op": op, **request}) + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())

    def container(self, *cmd, **options):
        return self.ask("container", cmd=list(cmd), **options)

    def exec(self, container, *cmd, stdin=False, stdout=True, stderr=True, tty=False):
        reply = self.ask("exec", id=container, cmd=list(cmd), stdin=stdin, stdout=stdout, stderr=stderr and not tty,
                         tty=tty)
        return reply["url"]

    def attach(self, container, stdin=False, stdout=True, stderr=True, tty=False):
        return self.ask("attach", id=container, stdin=stdin, stdout=stdout, stderr=stderr and not tty,
                        tty=tty)["url"]

    def execsync(self, container, *cmd, timeout=0):
        return self.ask("execsync", id=container, cmd=list(cmd), timeout=timeout)

    def memory(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) << 10

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def idle(self):
        return until(lambda: self.ask("active")["active"] == 0, 20)

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(60) == 0


@pytest.fixture(scope="module")
def server():
    s = Server()
    yield s
    s.close()


@pytest.fixture(scope="module")
def box(server):
    """A container that does nothing."""
    return server.container("sleep", "100000")["id"]


@pytest.fixture(autouse=True)
def nothing_left(request):
    yield
    if "server" in request.fixturenames:
        assert request.getfixturevalue("server").idle(), "a connection has been left behind"


def exit_code(status):
    if status["status"] == "Success":
        return 0
    assert status["reason"] == "NonZeroExitCode"
    [cause] = status["details"]["causes"]
    assert cause["reason"] == "ExitCode"
    return int(cause["message"])


# --- requests and tokens ---


def test_requests_are_checked(server, box):
    bad = [("exec", {"id": ""}, "missing required container_id"),
           ("exec", {"id": box, "tty": True, "stderr": True, "stdout": True}, "tty and stderr cannot both be true"),
           ("exec", {"id": box}, "one of stdin, stdout, or stderr must be set"),
           ("attach", {"id": ""}, "missing required container_id"),
           ("attach", {"id": box, "tty": True, "stderr": True}, "tty and stderr cannot both be true"),
           ("attach", {"id": box}, "one of stdin, stdout, or stderr must be set"),
           ("portforward", {"id": ""}, "missing required pod_sandbox_id"),
           ("portforward", {"id": box, "ports": [0]}, "port: 0 is not one"),
           ("portforward", {"id": box, "ports": [65536]}, "port: 65536 is not one")]
    for op, request, text in bad:
        reply = server.ask(op, **request)
        assert reply["code"] == "INVALID_ARGUMENT" and reply["error"] == text


def refused(url, method="POST", headers=(), path=None):
    s, u = dial(url)
    if path is not None:
        u = u._replace(path=path)
    with pytest.raises(Refused) as e:
        upgrade(s, u, method, headers)
    s.close()
    assert dict(e.value.headers)["content-type"].startswith("text/plain")
    return e.value


SPDY = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", "v4.channel.k8s.io")]


def test_refusals(server, box):
    url = server.exec(box, "true")
    assert refused(url, method="PUT", headers=SPDY).status == 405
    assert refused(url, headers=SPDY, path="/").status == 404
    assert refused(url, headers=SPDY, path="/exec/").status == 404
    assert refused(url, headers=SPDY, path="/exec/" + "x" * 5000).status == 404
    assert refused(url, headers=SPDY, path=url[url.rindex("/"):]).status == 404
    assert refused(url, headers=SPDY, path="/attach" + url[url.rindex("/"):]).status == 404
    assert refused(url, headers=[("X", "y" * 40000)]).status == 431
    assert refused(url, headers=[("Transfer-Encoding", "chunked")]).status == 400
    # None of these has used the token up; what names it does, whatever comes of it.
    e = refused(url, method="GET")
    assert e.status == 400 and "Upgrade" in e.body
    assert refused(url, headers=SPDY).status == 404
    assert refused(server.exec(box, "true"), headers=SPDY[:2]).status == 400
    e = refused(server.exec(box, "true"), headers=SPDY[:2] + [("X-Stream-Protocol-Version", "v9"),
                                                              ("X-Stream-Protocol-Version", "v8, v7")])
    assert e.status == 403 and "[v9,v8, v7]" in e.body
    assert [v for k, v in e.headers if k == "x-accepted-stream-protocol-versions"] == COMMAND_VERSIONS


def test_websocket_refusals(server, box):
    good = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]

    def attempt(method="GET", **changes):
        headers = {**dict(good), **changes}
        return refused(server.exec(box, "true"), method, [(k, v) for k, v in headers.items() if v])

    assert attempt(method="POST").status == 405
    e = attempt(**{"Sec-WebSocket-Version": "8"})
    assert e.status == 426 and dict(e.headers)["sec-websocket-version"] == "13"
    assert attempt(**{"Sec-WebSocket-Version": None}).status == 426
    assert attempt(**{"Sec-WebSocket-Key": "short"}).status == 400
    assert attempt(**{"Sec-WebSocket-Key": None}).status == 400
    e = attempt(**{"Sec-WebSocket-Protocol": "chat"})
    assert e.status == 403 and "v5.channel.k8s.io" in e.body
    url = server.ask("portforward", id=box)["url"]
    assert "needs the request's ports" in refused(url, "GET", good).body


def test_version_is_the_clients_first(server, box):
    for offered, chosen in ((["v4.channel.k8s.io", "v5.channel.k8s.io"], "v4.channel.k8s.io"),
                            (["v9, v3.channel.k8s.io,channel.k8s.io"], "v3.channel.k8s.io")):
        c = spdy_upgrade(server.exec(box, "true"), offered, method="GET")
        assert c.version == chosen
        c.close()


def test_token_is_good_once(server, box):
    url = server.exec(box, "true")
    assert len(url.rsplit("/", 1)[1]) == 8
    c = SpdyCommand(url)
    assert exit_code(c.status()) == 0
    c.close()
    assert refused(url, headers=SPDY).status == 404


def test_tokens_expire_and_are_bounded():
    server = Server(token_ttl=300)
    try:
        box = server.container("sleep", "100000")["id"]
        url = server.exec(box, "true")
        assert until(lambda: server.ask("active")["active"] == 0)
        assert refused(url, headers=SPDY).status == 404
    finally:
        server.close()
    server = Server()
    try:
        replies = [server.ask("exec", id="x", cmd=["true"], stdout=True) for _ in range(1001)]
        assert replies[999].get("url") and len({r.get("url") for r in replies}) == 1001
        assert replies[1000]["code"] == "RESOURCE_EXHAUSTED"
        assert replies[1000]["error"] == "maximum number of in-flight requests exceeded"
    finally:
        server.close()


# --- exec ---


@pytest.mark.parametrize("version", COMMAND_VERSIONS)
def test_exec_spdy(server, box, version):
    url = server.exec(box, "sh", "-c", "echo out; echo err >&2; cat; exit 7", stdin=True)
    c = SpdyCommand(url, stdin=True, versions=[version])
    c.send(b"hel")
    c.send(b"lo")
    c.end_stdin()
    status = c.status()
    assert c.output() == b"out\nhello" and c.output("stderr") == b"err\n"
    if version[:2] in ("v4", "v5"):
        assert exit_code(status) == 7 and status["message"].startswith("command terminated with non-zero exit code")
    else:
        assert "7" in status
    c.close()


@pytest.mark.parametrize("protocol", WEBSOCKETS)
def test_exec_websocket(server, box, protocol):
    url = server.exec(box, "sh", "-c", "echo out; echo err >&2; head -c 300; exit 7", stdin=True)
    c = WebSocketCommand(url, stdin=True, protocol=protocol)
    data = os.urandom(300)
    for size in (0, 1, 2, 3, 4, 290):
        c.send(data[:size])
        data = data[size:]
    status = c.status()
    assert len(c.output()) == 304 and c.output("stderr") == b"err\n"
    if protocol and protocol.startswith("v"):
        assert exit_code(status) == 7
    else:
        assert "7" in status
    c.close()


def test_exec_succeeds(server, box):
    c = SpdyCommand(server.exec(box, "true"))
    assert c.status() == {"metadata": {}, "status": "Success"}
    c.close()
    c = SpdyCommand(server.exec(box, "true"), versions=["v2.channel.k8s.io"])
    assert c.status() == ""
    c.close()
    c = WebSocketCommand(server.exec(box, "true"))
    assert c.status()["status"] == "Success"
    c.close()


def test_websocket_half_close(server, box):
    c = WebSocketCommand(server.exec(box, "cat", stdin=True), stdin=True)
    c.send(b"until the end")
    c.expect(b"until the end")
    c.end_stdin()
    assert exit_code(c.status()) == 0
    c.close()


def test_only_what_was_asked_for(server, box):
    """stderr and stdin are not this client's; others are refused without harm."""
    url = server.exec(box, "sh", "-c", "echo out; echo err >&2; cat", stderr=False)
    c = spdy_upgrade(url, COMMAND_VERSIONS)
    for kind in ("stdin", "stderr", "resize", "nonsense", ""):
        with pytest.raises(ConnectionError):
            c.open({"streamtype": kind})
    with pytest.raises(ConnectionError):
        c.open({"other": "header"})
    error = c.open({"StreamType": "Error"})
    with pytest.raises(ConnectionError):
        c.open({"streamtype": "error"})
    out = c.open({"streamtype": "stdout"})
    assert json.loads(error.read_all())["status"] == "Success"
    assert out.read_all() == b"out\n"
    c.close()


def test_streams_in_any_order_and_pings(server, box):
    c = spdy_upgrade(server.exec(box, "cat", stdin=True), COMMAND_VERSIONS)
    assert c.ping(1)
    streams = {}
    for kind in ("stdin", "stderr", "stdout"):
        streams[kind] = c.open({"streamtype": kind})
    streams["stdin"].send(b"early")
    assert c.ping(3)
    streams["error"] = c.open({"streamtype": "error"})
    streams["stdout"].expect(b"early")
    assert c.ping(5)
    streams["stdin"].end()
    assert json.loads(streams["error"].read_all())["status"] == "Success"
    c.close()


def test_failures_are_told(server, box):
    c = SpdyCommand(server.exec(box, "no-such-command"))
    status = c.status()
    assert status["reason"] == "InternalError" and status["code"] == 500 and status["status"] == "Failure"
    assert status["message"].startswith("Internal error occurred: error executing command in container: ")
    assert "no-such-command" in status["message"]
    c.close()
    c = SpdyCommand(server.exec("nobody", "true"), versions=["channel.k8s.io"])
    assert "No such container" in c.status()
    c.close()
    c = WebSocketCommand(server.attach("nobody"))
    assert "error attaching to container" in c.status()["message"]
    c.close()


# A client on a busy machine may be late with the first size.
SIZED = 'until [ -n "$(stty size 2>/dev/null)" ]; do sleep 0.01; done; stty size; '  # busybox's says nothing of 0 0


def test_terminal(server, box):
    url = server.exec(box, "sh", "-c", SIZED + "tty; echo $TERM; read x; stty size; exit 3", stdin=True, tty=True)
    c = SpdyCommand(url, stdin=True, tty=True, size=(77, 33))
    c.expect(b"33 77\r\n/dev/pts/")
    c.expect(b"xterm")
    # Two at once, one of them malformed.
    c.streams["resize"].send(b'{"Width":1,"Height":0}{"Width":50,')
    c.streams["resize"].send(b'"Height":20}\n')
    assert until(lambda: ask_size(server, box, b"20 50", c))
    c.send(b"\n")
    assert exit_code(c.status()) == 3
    c.close()


def ask_size(server, box, wanted, c):
    """The size has come when the terminal's line says so: another command looks at its device."""
    device = c.output().split(b"/dev/pts/")[1].split(b"\r")[0].decode()
    return server.execsync(box, "sh", "-c", f"stty size </dev/pts/{device}")["stdout"].encode().strip() == wanted


def test_terminal_websocket(server, box):
    url = server.exec(box, "sh", "-c", SIZED + "read x; echo got $x", stdin=True, tty=True)
    c = WebSocketCommand(url, stdin=True, tty=True, size=(100, 40))
    c.expect(b"40 100")
    c.send(b"it\n")
    assert exit_code(c.status()) == 0
    assert b"got it" in c.output()
    c.close()


@pytest.mark.parametrize("kind", [SpdyCommand, WebSocketCommand])
def test_terminal_hangs_up_with_its_client(server, box, kind):
    script = "trap 'echo hup >/tmp/hup; exit' HUP; rm -f /tmp/hup; echo ready; while :; do sleep 0.05; done"
    c = kind(server.exec(box, "sh", "-c", script, stdin=True, tty=True), stdin=True, tty=True)
    c.expect(b"ready")
    c.close()
    assert until(lambda: server.execsync(box, "cat", "/tmp/hup").get("stdout") == "hup\n")


def test_client_that_leaves_ends_input_only(server, box):
    script = "rm -f /tmp/left; echo ready; cat >/tmp/in; echo done >/tmp/left"
    c = SpdyCommand(server.exec(box, "sh", "-c", script, stdin=True), stdin=True)
    c.expect(b"ready")
    c.send(b"last words")
    c.spdy.ping(1)
    c.close()
    assert until(lambda: server.execsync(box, "cat", "/tmp/left").get("stdout") == "done\n")
    assert server.execsync(box, "cat", "/tmp/in")["stdout"] == "last words"


def test_container_ends_under_an_exec(server):
    box = server.container("sleep", "100000")["id"]
    c = SpdyCommand(server.exec(box, "sh", "-c", "echo ready; sleep 1000"))
    c.expect(b"ready")
    server.ask("kill", id=box)
    assert exit_code(c.status()) == 137
    c.close()


def test_output_behind_the_exit_does_not_hang(server, box):
    c = SpdyCommand(server.exec(box, "sh", "-c", "sleep 1000 & echo started"))
    assert exit_code(c.status(20)) == 0 and c.output() == b"started\n"
    c.close()


@pytest.mark.parametrize("kind", [SpdyCommand, WebSocketCommand])
def test_big_output(server, box, kind):
    c = kind(server.exec(box, "sh", "-c", "yes 0123456789abcdef | head -c 104857600"))
    assert exit_code(c.status()) == 0
    data = c.output()
    assert len(data) == 100 * MIB
    assert hashlib.sha256(data).digest() == hashlib.sha256((b"0123456789abcdef\n" * (100 * MIB // 17 + 1))
                                                           [:100 * MIB]).digest()
    c.close()


def test_slow_reader_stops_the_command(server, box):
    before = server.memory()
    c = SpdyCommand(server.exec(box, "sh", "-c", "yes | head -c 100000000; echo x >/tmp/through"), paused=True)
    server.execsync(box, "rm", "-f", "/tmp/through")
    # All buffers on the way fill up, and it goes no further.
    time.sleep(0.5)
    assert server.execsync(box, "cat", "/tmp/through")["exit_code"] != 0
    assert server.memory() - before < 8 * MIB
    c.spdy.may_read.set()
    assert exit_code(c.status()) == 0 and len(c.output()) == 100000000
    c.close()


@pytest.mark.parametrize("kind", [SpdyCommand, WebSocketCommand])
def test_big_input(server, box, kind):
    c = kind(server.exec(box, "sh", "-c", "head -c 52428800 | sha256sum", stdin=True), stdin=True)
    data = os.urandom(MIB)
    for _ in range(50):
        c.send(data)
    assert exit_code(c.status()) == 0
    assert c.output().split()[0].decode() == hashlib.sha256(data * 50).hexdigest()
    c.close()


def test_command_that_does_not_read_stops_the_client(server, box):
    before = server.memory()
    c = SpdyCommand(server.exec(box, "sleep", "1000", stdin=True), stdin=True)
    c.spdy.transport.settimeout(1)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 200 * MIB:
            c.send(bytes(65536))
            sent += 65536
    assert server.memory() - before < 8 * MIB
    # It is noticed all the same that the client goes; by a reset, since an end would queue behind its bytes.
    ctypes.CDLL(None).connect(c.spdy.transport.fileno(), bytes(16), 16)  # AF_UNSPEC
    assert server.idle()


def test_many_at_once(server, box):
    def one(i):
        kind = (SpdyCommand, WebSocketCommand)[i % 2]
        c = kind(server.exec(box, "sh", "-c", f"echo {i}; exit {i}"))
        result = exit_code(c.status()), c.output()
        c.close()
        return result

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        results = list(pool.map(one, range(48)))
    assert results == [(i, b"%d\n" % i) for i in range(48)]


# --- attach ---


def test_attach_several(server):
    box = server.container("sh", "-c", "while read x; do echo got $x; echo err $x >&2; done", stdin=True)["id"]
    clients = [SpdyCommand(server.attach(box, stdin=True), stdin=True),
               WebSocketCommand(server.attach(box, stdin=True), stdin=True, protocol="v4.channel.k8s.io"),
               SpdyCommand(server.attach(box, stderr=False), stderr=False)]
    assert clients[0].spdy.ping(1)
    # Attaching is asynchronous: lines until each has seen one.
    for i in range(200):
        clients[0].send(b"%d\n" % i)
        if until(lambda: all(c.output() for c in clients), 0.1):
            break
    clients[1].send(b"second\n")
    for c in clients:
        c.expect(b"got second\n")
    clients[0].expect(b"err second\n", "stderr")
    # One that leaves disturbs nobody, though it had stdin; neither does the end of its input.
    clients[0].end_stdin()
    clients[0].close()
    clients[1].send(b"third\n")
    clients[2].expect(b"got third\n")
    server.ask("kill", id=box)
    for c in clients[1:]:
        assert c.status() == {"metadata": {}, "status": "Success"}
        c.close()


def test_attach_terminal(server):
    script = "stty raw -echo; echo ready; head -c 4 | od -An -b; stty sane; exec sh"
    box = server.container("sh", "-c", f"read x; {script}", tty=True, stdin=True)["id"]
    c = SpdyCommand(server.attach(box, stdin=True, tty=True), stdin=True, tty=True, size=(90, 30))
    c.send(b"\n")
    c.expect(b"ready")
    # No keys detach: these are the program's.
    c.send(b"\x10\x11\x10\x11")
    c.expect(b"020 021 020 021")
    c.send(b"stty size; echo $((40 + 2))\n")
    c.expect(b"30 90")
    c.expect(b"42")
    c.close()
    # The container goes on, for the next one.
    c = WebSocketCommand(server.attach(box, stdin=True, tty=True), stdin=True, tty=True)
    assert until(lambda: c.send(b"echo $((50 + 3))\n") or until(lambda: b"53" in c.output(), 0.5))
    c.send(b"exit\n")
    assert c.status()["status"] == "Success"
    c.close()


def test_attach_to_what_has_ended(server):
    box = server.container("true")["id"]
    assert until(lambda: "is not running" in server.execsync(box, "true").get("error", ""))
    c = SpdyCommand(server.attach(box))
    assert f"error attaching to container: container {box} is not running" in c.status()["message"]
    c.close()


def test_attach_stdin_once(server):
    box = server.container("cat", stdin=True, once=True)["id"]
    c = SpdyCommand(server.attach(box, stdin=True), stdin=True)
    c.send(b"through")
    c.expect(b"through")
    c.end_stdin()
    assert c.status()["status"] == "Success"
    c.close()


# --- clients with ideas of their own ---


def test_client_must_open_its_streams():
    server = Server(creation_timeout=300)
    try:
        box = server.container("sleep", "100000")["id"]
        c = spdy_upgrade(server.exec(box, "true"), COMMAND_VERSIONS)
        c.open({"streamtype": "error"})
        with c.changed:
            assert c.changed.wait_for(lambda: c.closed, 20)
        c.close()
        f = PortForward(server.ask("portforward", id=box)["url"])
        lonely = f.spdy.open({"streamtype": "data", "port": "80", "requestid": "1"})
        lonely.wait(lambda s: False, 20)
        assert lonely.reset is not None and f.spdy.ping(1)
        f.close()
        assert server.idle()
    finally:
        server.close()


def test_idle_connections_end():
    server = Server(idle_timeout=500)
    try:
        box = server.container("sleep", "100000")["id"]
        c = SpdyCommand(server.exec(box, "sleep", "1000"))
        for i in range(4):
            assert c.spdy.ping(2 * i + 1)
            time.sleep(0.2)
        with c.spdy.changed:
            assert c.spdy.changed.wait_for(lambda: c.spdy.closed, 20)
        c.close()
        assert server.idle()
    finally:
        server.close()


def closes(s):
    """Reads to the end."""
    s.settimeout(30)
    data = b""
    try:
        while chunk := s.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


def test_hostile_spdy(server, box):
    frames = [b"\x80\x02\0\1" + b"\0" * 4, b"\x80\x03\0\1\0\xff\xff\xff", b"\x80\x03\0\6\0\0\0\1x", os.urandom(64) * 99,
              b"\x80\x03\0\1\0\0\0\x0e\0\0\0\1\0\0\0\0\0\0junk", b"GET / HTTP/1.1\r\n\r\n" * 99,
              b"\x80\x03\0\1\0\0\0\x0a\0\0\0\2\0\0\0\0\0\0"]
    for frame in frames:
        s, u = dial(server.exec(box, "true"))
        upgrade(s, u, "POST", SPDY)
        s.sendall(frame)
        if frame[:1] == b"\x80":
            answer = closes(s)
            assert answer[:4] == b"\x80\x03\0\7", answer
        s.close()
    # As many streams as one likes to open, of pairs that never are.
    f = PortForward(server.ask("portforward", id=box)["url"])
    for i in range(5000):
        f.spdy.open({"streamtype": "data", "port": "80", "requestid": str(i)}, wait=False)
    assert f.spdy.ping(1)
    refusals = [s for s in f.spdy.streams.values() if s.reset is not None]
    assert 2000 < len(refusals) < 4000
    f.close()
    assert server.memory() < 64 * MIB


def test_hostile_websocket(server, box):
    for frame, code in ((b"\x82\x01x", 1002), (b"\xf2\x81\0\0\0\0x", 1002), (b"\x83\x80\0\0\0\0", 1002),
                        (b"\x81\x81\0\0\0\0\xff", 1007), (b"\x82\xff\x7f" + b"\xff" * 7 + b"\0" * 4, 1009),
                        (b"\x80\x80\0\0\0\0", 1002)):
        w = WebSocket(server.exec(box, "cat", stdin=True), ["v4.channel.k8s.io"])
        w.socket.sendall(frame)
        while w.receive():
            pass
        assert w.close_code == code
        w.close()
    w = WebSocket(server.exec(box, "cat", stdin=True), ["v4.base64.channel.k8s.io"])
    w.send(b"0!!!!", opcode=1)
    while w.receive():
        pass
    assert w.close_code == 1007
    w.close()


def test_websocket_fragments_and_pings(server, box):
    w = WebSocket(server.exec(box, "cat", stdin=True), ["v4.channel.k8s.io"])
    assert w.receive() == (2, b"\1")
    w.send(b"\0", fin=False)
    w.send(b"in ", opcode=0, fin=False)
    w.send(b"ping", opcode=9)
    w.send(b"pieces", opcode=0)
    w.send(b"")
    w.send(b"\x09unknown channel")
    w.send(b"\0 as text", opcode=1)
    data = b""
    while data != b"in pieces as text":
        data += w.receive()[1][1:]
    assert w.pongs == [b"ping"]
    w.send(struct.pack(">H", 1000), opcode=8)
    assert w.receive() is None and w.close_code == 1000
    w.close()


def test_bytes_behind_the_head(server, box):
    """A client may send its first streams without waiting for the reply."""
    c = spdy_upgrade(server.exec(box, "true"), COMMAND_VERSIONS)
    frames = []
    c.write = frames.append
    for kind in ("error", "stdout", "stderr"):
        c.open({"streamtype": kind}, wait=False)
    c.close()
    s, u = dial(server.exec(box, "echo", "hello"))
    s.sendall(b"POST " + u.path.encode() + b" HTTP/1.1\r\nHost: x\r\n" +
              "".join(f"{k}: {v}\r\n" for k, v in SPDY).encode() + b"\r\n" + b"".join(frames))
    data = b""
    while b'"Success"' not in data:
        data += s.recv(65536)
    assert b"hello\n" in data
    s.close()


def test_slow_head(server):
    s, u = dial(server.exec("x", "true"))
    for byte in b"POST /exec/unknown! HTTP/1.1\r\nHost: x\r\n\r\n":
        s.sendall(bytes([byte]))
    assert closes(s).startswith(b"HTTP/1.1 404 ")
    s.close()
    # The request is taken, so that nothing waits.
    refused(u.geturl())


def test_connections_come_and_go(server, box):
    before = server.descriptors()
    for i in range(200):
        s, u = dial(server.exec(box, "true"))
        if i % 2:
            upgrade(s, u, "POST", SPDY)
        s.close()
        if not i % 2:
            refused(u.geturl())
    assert server.idle()
    assert until(lambda: server.descriptors() <= before + 2)


# --- port-forward ---

TARGET = r"""
import socket, struct, sys, threading
def serve(s):
    while True:
        c, _ = s.accept()
        threading.Thread(target=handle, args=(c,), daemon=True).start()
def handle(c):
    first = c.recv(1)
    if first == b"e":
        while True:
            data = c.recv(65536)
            if not data:
                break
            c.sendall(data)
        c.sendall(b"<end>")
    elif first == b"r":
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif first == b"b":
        for _ in range(int(c.recv(3))):
            c.sendall(b"x" * 1048576)
    elif first == b"c":
        c.sendall(b"bye")
    elif first == b"s":
        threading.Event().wait()
    c.close()
v4, v6 = socket.socket(), socket.socket(socket.AF_INET6)
v4.bind(("127.0.0.1", 8080)); v4.listen(512)
v6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
v6.bind(("::1", 8086)); v6.listen(512)
threading.Thread(target=serve, args=(v6,), daemon=True).start()
print("ready", flush=True)
serve(v4)
"""


@pytest.fixture(scope="module")
def pod(server):
    """A container with servers in its network namespace; only that namespace has them."""
    c = server.container("sleep", "100000")
    netns = ["nsenter", "-t", str(c["pid"]), "-n"]
    subprocess.run([*netns, "ip", "link", "set", "lo", "up"], check=True)
    p = subprocess.Popen([*netns, sys.executable, "-c", TARGET], stdout=subprocess.PIPE)
    assert p.stdout.readline() == b"ready\n"
    yield c["id"]
    p.kill()
    p.wait()
    p.stdout.close()


@pytest.fixture(params=[False, True], ids=["spdy", "tunnel"])
def forward(request, server, pod):
    f = PortForward(server.ask("portforward", id=pod)["url"], tunnel=request.param)
    yield f
    f.close()


def test_forward(forward):
    data, error = forward.connect(8080)
    data.send(b"ehello")
    data.expect(b"hello")
    data.end()
    assert data.read_all() == b"hello<end>"
    assert error.read_all() == b"" and error.ended
    # The target closes first.
    data, error = forward.connect(8080)
    data.send(b"c")
    assert data.read_all() == b"bye" and data.ended
    assert error.read_all() == b"" and error.ended
    # IPv6 only; an old client without request ids; data before the connection is there.
    for port, with_id in ((8086, True), (8080, False)):
        data, error = forward.connect(port, request_id=with_id)
        data.send(b"ex")
        data.send(b"y", fin=True)
        assert data.read_all() == b"xy<end>"


def test_forward_refused(forward, pod):
    data, error = forward.connect(81)
    text = error.read_all().decode()
    assert text.startswith(f"error forwarding port 81 to pod {pod}, uid : failed to connect to localhost:81 inside")
    assert "IPv4: Connection refused, IPv6: Connection refused" in text
    for headers in ({"port": "0"}, {"port": "65536"}, {"port": "http"}, {"port": "-1"}, {}):
        with pytest.raises(ConnectionError):
            forward.spdy.open({"streamtype": "data", "requestid": "99", **headers})
    with pytest.raises(ConnectionError):
        forward.spdy.open({"streamtype": "stdout", "requestid": "99", "port": "80"})
    # The connection has taken no harm.
    data, error = forward.connect(8080)
    data.send(b"c")
    assert data.read_all() == b"bye"


def test_forward_reset_is_the_pairs_own(forward):
    lasting, _ = forward.connect(8080)
    lasting.send(b"e1")
    lasting.expect(b"1")
    data, error = forward.connect(8080)
    data.send(b"r")
    data.wait(lambda s: False)
    error.wait(lambda s: s.ended)
    assert data.reset is not None and not error.data
    # The client's own reset ends only that, and its error stream.
    data, error = forward.connect(8080)
    data.send(b"s")
    forward.spdy.reset(data)
    assert error.read_all() == b"" and error.ended
    lasting.send(b"2", fin=True)
    assert lasting.read_all() == b"12<end>"


def test_forward_many(server, forward):
    def one(i):
        data, error = forward.connect(8080)
        text = b"%d" % i * 1000
        data.send(b"e" + text, fin=True)
        assert data.read_all() == text + b"<end>"
        assert error.read_all() == b""

    before = server.descriptors()
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        list(pool.map(one, range(400)))
    assert until(lambda: server.descriptors() <= before + 2)


def test_forward_big(server, forward):
    before = server.memory()
    data, error = forward.connect(8080)
    data.send(b"b050")
    assert len(data.read_all()) == 50 * MIB
    data, error = forward.connect(8080)
    sender = threading.Thread(target=data.send, args=(b"e" + bytes(20 * MIB), True))
    sender.start()
    assert data.read_all() == bytes(20 * MIB) + b"<end>"
    sender.join()
    assert server.memory() - before < 12 * MIB


def test_forward_open_connections(forward):
    """All at once, of several ports."""
    pairs = [forward.connect(8080 if i % 2 else 8086) for i in range(300)]
    for i, (data, _) in enumerate(pairs):
        data.send(b"e%d" % i, fin=True)
    for i, (data, _) in enumerate(pairs):
        assert data.read_all() == b"%d<end>" % i


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "v4.base64.channel.k8s.io", None])
def test_forward_websocket(server, pod, protocol):
    w = WebSocket(server.ask("portforward", id=pod, ports=[8080, 81, 8086])["url"], [protocol] if protocol else [])
    is_text = bool(protocol) and "base64" in protocol

    def encode(channel, data):
        import base64
        w.send(bytes([48 + channel]) + base64.b64encode(data) if is_text else bytes([channel]) + data,
               opcode=1 if is_text else 2)

    def decode(message):
        import base64
        return (message[0] - 48, base64.b64decode(message[1:])) if is_text else (message[0], message[1:])

    got = {i: b"" for i in range(6)}

    def until_has(channel, text):
        while text not in got[channel]:
            number, data = decode(w.receive()[1])
            got[number] += data

    for i, port in enumerate((8080, 81, 8086)):
        until_has(2 * i, struct.pack("<H", port))
        until_has(2 * i + 1, struct.pack("<H", port))
    encode(0, b"eover websocket")
    until_has(0, b"over websocket")
    until_has(3, b"error forwarding port 81")
    encode(4, b"c")
    until_has(4, b"bye")
    encode(0, b" still")
    until_has(0, b" still")
    w.close()


def test_forward_without_namespace(server):
    f = PortForward(server.ask("portforward", id="no-such-pod")["url"])
    data, error = f.connect(80)
    assert b"No such container" in error.read_all()
    f.close()


# --- TLS ---


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    d = tmp_path_factory.mktemp("tls")

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=d, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=ca",
            "-keyout", "ca.key", "-out", "ca.pem", "-days", "2")
    for name in ("server", "client"):
        (d / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}",
                "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-out", f"{name}.pem", "-days", "2", "-extfile", "ext")
    return d


def test_tls(certificates, monkeypatch):
    d = certificates
    server = Server(cert=str(d / "server.pem"), key=str(d / "server.key"), ca=str(d / "ca.pem"))
    context = ssl.create_default_context(cafile=str(d / "ca.pem"))
    try:
        box = server.container("sleep", "100000")["id"]
        url = server.exec(box, "true")
        assert url.startswith("https://127.0.0.1:")
        monkeypatch.setattr("streamclient.ssl._create_unverified_context", lambda: context)
        with pytest.raises((ssl.SSLError, OSError, Refused)):  # no certificate of the client's
            SpdyCommand(url)
        context.load_cert_chain(d / "client.pem", d / "client.key")
        c = SpdyCommand(url)
        assert exit_code(c.status()) == 0
        c.close()
        c = SpdyCommand(server.exec(box, "sh", "-c", "cat; exit 4", stdin=True), stdin=True)
        c.send(b"x" * 100000)
        c.expect(b"x" * 100000)
        c.end_stdin()
        assert exit_code(c.status()) == 4
        c.close()
        c = WebSocketCommand(server.exec(box, "sh", "-c", "yes | head -c 20000000"))
        assert exit_code(c.status()) == 0 and len(c.output()) == 20000000
        c.close()
        s, u = dial(server.exec(box, "true").replace("https", "http"))
        s.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"HTTP" not in closes(s)[:4]
        s.close()
        refused(u.geturl().replace("http:", "https:"))
        assert server.idle()
    finally:
        server.close()


# --- ExecSync ---


def test_execsync(server, box):
    r = server.execsync(box, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (r["exit_code"], r["stdout"], r["stderr"]) == (3, "out\n", "err\n")
    r = server.execsync(box, "sh", "-c", "kill -9 $$")
    assert r["exit_code"] == 137
    assert server.execsync("nobody", "true")["code"] == "NOT_FOUND"
    assert "no-such-thing" in server.execsync(box, "no-such-thing")["error"]
    assert server.execsync(box)["code"] == "INVALID_ARGUMENT"
    assert server.execsync(box, "true", timeout=-1)["code"] == "INVALID_ARGUMENT"


def test_execsync_output_is_bounded(server, box):
    r = server.execsync(box, "sh", "-c", "yes | head -c 20000000; yes | head -c 5000 >&2")
    assert (r["exit_code"], r["stdout_len"], r["stderr_len"]) == (0, 16 * MIB, 5000)


def test_execsync_timeout_kills_all(server, box):
    start = time.monotonic()
    r = server.execsync(box, "sh", "-c", "sleep 4242 & (sleep 4243 & sleep 4244)", timeout=1)
    assert r["code"] == "DEADLINE_EXCEEDED" and "timeout 1s exceeded" in r["error"]
    assert time.monotonic() - start < 15
    assert until(lambda: "424" not in server.execsync(box, "ps")["stdout"])


def test_execsync_does_not_wait_for_what_is_left(server, box):
    start = time.monotonic()
    r = server.execsync(box, "sh", "-c", "echo here; sleep 1000 &", timeout=20)
    assert r["exit_code"] == 0 and r["stdout"] == "here\n"
    assert time.monotonic() - start < 15
