# SPDX-License-Identifier: Apache-2.0
"""Log drivers: json-file with what goes with each line, local, journald, syslog, none; by Debian's docker."""

import contextlib
import os
import socket
import struct
import threading

import pytest

from harness import until


@contextlib.contextmanager
def datagrams(family, address):
    """A socket that keeps what it gets."""
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.bind(address)
    got = []

    def read():
        with contextlib.suppress(OSError):
            while data := s.recv(1 << 16):
                got.append(data)

    threading.Thread(target=read, daemon=True).start()
    try:
        yield got, s.getsockname()
    finally:
        s.shutdown(socket.SHUT_RDWR) if family == socket.AF_UNIX else None
        s.close()


def run(docker, *args, script="echo out; echo err >&2"):
    return docker("run", "--name", "logged", *args, "busybox", "sh", "-c", script)


@pytest.fixture(autouse=True)
def cleanup(docker):
    yield
    docker("rm", "-f", "logged", code=None)


def test_unknown(docker):
    err = run_fails(docker, "--log-driver", "nosuch")
    assert 'plugin "nosuch" not found' in err
    assert "unknown log opt 'foo' for json-file log driver" in run_fails(docker, "--log-opt", "foo=1")
    assert "logging mode not supported: x" in run_fails(docker, "--log-opt", "mode=x")


def run_fails(docker, *args):
    return docker("run", "--rm", *args, "busybox", "true", code=125).err


def test_details(docker):
    run(docker, "--log-opt", "labels=a", "--log-opt", "env=E", "--log-opt", "tag={{.Name}}", "--label", "a=1",
        "-e", "E=x y", "-e", "F=2", script="echo hi")
    assert docker("logs", "logged") == "hi\n"
    assert docker("logs", "--details", "logged") == "E=x+y,a=1,tag=logged hi\n"


def test_local_and_rotation(docker):
    run(docker, "--log-driver", "local", "--log-opt", "max-size=20k", "--log-opt", "max-file=2",
        script="i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done")
    lines = docker.lines("logs", "logged")
    assert lines[-1] == "line 1999" and 100 < len(lines) < 2000
    assert docker("logs", "--tail", "2", "logged") == "line 1998\nline 1999\n"
    assert docker.inspect("logged")["HostConfig"]["LogConfig"] == \
        {"Type": "local", "Config": {"max-size": "20k", "max-file": "2"}}


def test_none(docker):
    run(docker, "--log-driver", "none")
    assert "does not support reading" in docker("logs", "logged", code=1).err


def test_syslog(docker):
    with datagrams(socket.AF_INET, ("127.0.0.1", 0)) as (got, (_, port)):
        run(docker, "--log-driver", "syslog", "--log-opt", f"syslog-address=udp://localhost:{port}",
            "--log-opt", "syslog-facility=local1", "--log-opt", "tag=t-{{.Name}}")
        until(lambda: len(got) == 2)
    text = sorted(g.decode() for g in got)
    assert text[0].startswith("<139>") and text[0].endswith(": err") and " t-logged[" in text[0]
    assert text[1].startswith("<142>") and text[1].endswith(": out")
    assert docker("logs", "logged") == "out\n"


def test_syslog_5424_by_unix_socket(docker, tmp_path):
    with datagrams(socket.AF_UNIX, str(tmp_path / "log")) as (got, _):
        run(docker, "--log-driver", "syslog", "--log-opt", f"syslog-address=unixgram://{tmp_path}/log",
            "--log-opt", "syslog-format=rfc5424micro", script="echo out")
        until(lambda: got)
    assert got[0].startswith(b"<30>1 20") and got[0].endswith(b" - out")


def test_syslog_not_there(docker, tmp_path):
    err = run_fails(docker, "--log-driver", "syslog", "--log-opt", f"syslog-address=unix://{tmp_path}/nosuch")
    assert "failed to initialize logging driver" in err


def fields(datagram):
    """The journal's native protocol."""
    found = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        if b"=" in line:
            key, _, value = line.partition(b"=")
        else:
            key, size = line, struct.unpack("<Q", rest[:8])[0]
            value, rest = rest[8:8 + size], rest[9 + size:]
        found[key.decode()] = value
        datagram = rest
    return found


def test_journald(docker):
    path = "/run/systemd/journal/socket"
    if os.path.exists(path):  # the host's own: what got there is its affair
        run(docker, "--log-driver", "journald")
        assert docker("logs", "logged") == "out\n"
        return
    os.makedirs("/run/systemd/journal", exist_ok=True)
    try:
        with datagrams(socket.AF_UNIX, path) as (got, _):
            run(docker, "--log-driver", "journald", "--log-opt", "labels=com.a", "--label", "com.a=b c",
                script="echo out; printf part >&2")
            until(lambda: len(got) == 2)
    finally:
        os.unlink(path)
    out, part = sorted((fields(g) for g in got), key=lambda f: f["MESSAGE"])
    id = docker.inspect("logged")["Id"].encode()
    assert out["MESSAGE"] == b"out" and out["PRIORITY"] == b"6" and out["CONTAINER_ID_FULL"] == id
    assert out["CONTAINER_NAME"] == b"logged" and out["COM_A"] == b"b c" and out["CONTAINER_TAG"] == id[:12]
    assert part["PRIORITY"] == b"3" and part["CONTAINER_PARTIAL_MESSAGE"] == b"true"
    assert docker("logs", "logged") == "out\n"
