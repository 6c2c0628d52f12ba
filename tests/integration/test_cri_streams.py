# SPDX-License-Identifier: Apache-2.0
"""Streams of pods, from the RPC to the last byte. The protocols themselves are test_streaming.py's; here it is what
the CRI adds: pods' namespaces and logs, and daemons and pods that end under open streams."""

import contextlib
import subprocess
import sys
import time

import pytest

from cri import fails
from crinode import (POD_NET, cri, log_of, node, one, own_node, pid_of_container)  # noqa: F401
from harness import until
from streamclient import PortForward, SpdyCommand, WebSocket, WebSocketCommand

ECHO = r"""
import socket, sys
s = socket.socket()
s.bind(("127.0.0.1", int(sys.argv[1])))
s.listen(64)
print(s.getsockname()[1], flush=True)
while True:
    c, _ = s.accept()
    c.sendall(b"echo " + c.recv(100))
    c.close()
"""


@contextlib.contextmanager
def echo_server(*enter, port=0):
    p = subprocess.Popen([*enter, sys.executable, "-c", ECHO, str(port)], stdout=subprocess.PIPE)
    try:
        yield int(p.stdout.readline())
    finally:
        p.kill()
        p.wait()
        p.stdout.close()


def exec_url(cri, id, *cmd, stdin=False, tty=False):
    return cri.Exec(container_id=id, cmd=cmd, stdin=stdin, stdout=True, stderr=not tty, tty=tty).url


def exit_code(status):
    return 0 if status["status"] == "Success" else int(status["details"]["causes"][0]["message"])


@pytest.mark.parametrize("kind", [SpdyCommand, WebSocketCommand])
def test_exec(node, cri, one, kind):
    _, _, id = one
    c = kind(exec_url(cri, id[:13], "sh", "-c", "cat; echo err >&2; exit 9", stdin=True), stdin=True)
    c.send(b"in")
    c.end_stdin()
    assert exit_code(c.status()) == 9
    assert c.output() == b"in" and c.output("stderr") == b"err\n"
    c.close()
    c = kind(exec_url(cri, id, "/no/such/program"))
    assert c.status()["reason"] == "InternalError"
    c.close()


def test_exec_has_the_containers_environment(node, cri):
    p, config = node.pod(cri, **POD_NET)
    id = node.run(cri, p, config, envs=[{"key": "COLOUR", "value": b"green"}], working_dir="/tmp",
                  linux={"security_context": {"run_as_user": {"value": 1234}}})
    c = SpdyCommand(exec_url(cri, id, "sh", "-c", "echo $COLOUR $(pwd) $(id -u) $TERM; tty", tty=True), tty=True)
    assert exit_code(c.status()) == 0
    assert c.output().startswith(b"green /tmp 1234 xterm\r\n/dev/pts/")
    c.close()


def test_attach_leaves_the_log_alone(node, cri):
    p, config = node.pod(cri)
    id = node.run(cri, p, config, stdin=True, command=["sh", "-c", "while read x; do echo got $x; done"])
    first = SpdyCommand(cri.Attach(container_id=id, stdin=True, stdout=True, stderr=True).url, stdin=True)
    second = WebSocketCommand(cri.Attach(container_id=id, stdout=True).url, stderr=False)
    sent = 0

    def both():
        nonlocal sent
        first.send(b"%d\n" % sent)
        sent += 1
        return until(lambda: first.output() and second.output(), 0.2)

    assert until(both)
    first.send(b"last\n")
    for c in (first, second):
        c.expect(b"got last\n")
        c.close()
    assert until(lambda: ("stdout", "F", "got last") in log_of(cri, id))
    assert [text for _, _, text in log_of(cri, id)] == [f"got {i}" for i in range(sent)] + ["got last"]
    # Its input goes on, for the next one.
    third = SpdyCommand(cri.Attach(container_id=id, stdin=True, stdout=True).url, stdin=True, stderr=False)
    assert until(lambda: third.send(b"third\n") or until(lambda: b"got third" in third.output(), 0.2))
    cri.StopContainer(container_id=id, timeout=0)
    assert third.status()["status"] == "Success"
    third.close()


@pytest.mark.parametrize("tunnel", [False, True], ids=["spdy", "tunnel"])
def test_port_forward_into_a_pod(node, cri, tunnel):
    pods = [node.pod(cri, **POD_NET) for _ in range(2)]
    ids = [node.run(cri, p, config) for p, config in pods]
    with echo_server("nsenter", "-t", str(pid_of_container(ids[0])), "-n", port=8080):
        f = PortForward(cri.PortForward(pod_sandbox_id=pods[0][0]).url, tunnel=tunnel)
        for i in range(20):
            data, error = f.connect(8080)
            data.send(b"%d" % i, fin=True)
            assert data.read_all() == b"echo %d" % i and error.read_all() == b""
        f.close()
        # The port is that pod's, and no other's.
        f = PortForward(cri.PortForward(pod_sandbox_id=pods[1][0]).url, tunnel=tunnel)
        assert b"Connection refused" in f.connect(8080)[1].read_all()
        f.close()


def test_port_forward_on_the_hosts_network(node, cri, one):
    with echo_server() as port:
        f = PortForward(cri.PortForward(pod_sandbox_id=one[0]).url)
        data, _ = f.connect(port)
        data.send(b"host")
        assert data.read_all() == b"echo host"
        f.close()
        w = WebSocket(cri.PortForward(pod_sandbox_id=one[0], port=[port]).url, ["v4.channel.k8s.io"])
        got = b""
        w.send(b"\0web")
        while b"echo web" not in got:
            message = w.receive()[1]
            got += message[1:] if message[0] == 0 else b""
        w.close()


def test_pod_ends_under_its_streams(node, cri):
    p, config = node.pod(cri, **POD_NET)
    id = node.run(cri, p, config, command=["sh", "-c", "echo ready; sleep 1000"])
    e = SpdyCommand(exec_url(cri, id, "sh", "-c", "echo ready; sleep 1000"))
    t = WebSocketCommand(exec_url(cri, id, "sh", stdin=True, tty=True), stdin=True, tty=True)
    a = SpdyCommand(cri.Attach(container_id=id, stdout=True, stderr=True).url)
    with echo_server("nsenter", "-t", str(pid_of_container(id)), "-n", port=8080):
        f = PortForward(cri.PortForward(pod_sandbox_id=p).url)
        data, _ = f.connect(8080)
        data.send(b"x")
        data.read_all()
        e.expect(b"ready")
        t.expect(b"#")
        started = time.monotonic()
        cri.StopPodSandbox(pod_sandbox_id=p)
        assert time.monotonic() - started < 20
        assert exit_code(e.status()) == 137
        assert exit_code(t.status()) in (129, 137)
        assert a.status()["status"] == "Success"
        _, error = f.connect(8080)
        assert b"error forwarding port 8080" in error.read_all()
    for c in (e, t, a, f):
        c.close()


def test_daemon_ends_under_its_streams(own_node):
    """Streams end with it; containers and their logs do not notice, terminals are hung up."""
    node = own_node
    cri = node.client()
    p, config = node.pod(cri, **POD_NET)
    script = "echo up; while read x; do echo got $x; done"
    id = node.run(cri, p, config, stdin=True, command=["sh", "-c", script])
    a = SpdyCommand(cri.Attach(container_id=id, stdin=True, stdout=True, stderr=True).url, stdin=True)
    tty = SpdyCommand(exec_url(cri, id, "sh", "-c", "trap 'echo hup >/tmp/hup; exit' HUP; echo ready; "
                                                    "while :; do sleep 0.05; done", stdin=True, tty=True),
                      stdin=True, tty=True)
    tty.expect(b"ready")
    plain = WebSocketCommand(exec_url(cri, id, "sh", "-c", "echo ready; sleep 3; echo survived >/tmp/plain"))
    plain.expect(b"ready")
    assert until(lambda: a.send(b"1\n") or until(lambda: b"got 1" in a.output(), 0.2))
    node.daemon.kill9()
    node.daemon.start()
    for c in (a, tty, plain):
        c.close()
    cri.close()
    cri = node.client()
    assert until(lambda: cri.ExecSync(container_id=id, cmd=["cat", "/tmp/hup"]).stdout == b"hup\n")
    assert until(lambda: cri.ExecSync(container_id=id, cmd=["cat", "/tmp/plain"]).stdout == b"survived\n")
    a = SpdyCommand(cri.Attach(container_id=id, stdin=True, stdout=True, stderr=True).url, stdin=True)
    assert until(lambda: a.send(b"2\n") or until(lambda: b"got 2" in a.output(), 0.2))
    a.close()
    assert ("stdout", "F", "got 2") in log_of(cri, id)
    with fails("NOT_FOUND"):
        cri.PortForward(pod_sandbox_id="0" * 64)
    node.clean(cri)
    node.assert_clean()
    cri.close()


def test_listener_is_open_only_when_needed(own_node):
    """A node whose pods nobody looks into has no port open."""
    node = own_node
    cri = node.client()

    def ports():
        pid = str(node.daemon.pid)
        out = subprocess.run(["ss", "-tlnpH"], capture_output=True, text=True, check=True).stdout
        return [line for line in out.splitlines() if f"pid={pid}," in line]

    p, config = node.pod(cri)
    id = node.run(cri, p, config)
    assert not ports()
    url = exec_url(cri, id, "true")
    [line] = ports()
    assert line.split()[3] == url.split("/")[2]
    c = SpdyCommand(url)
    assert exit_code(c.status()) == 0
    c.close()
    node.clean(cri)
    cri.close()
