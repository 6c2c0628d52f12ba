# SPDX-License-Identifier: Apache-2.0
"""kistld as a process: start, protocols on one socket, activation, idle exit, instances, signals."""

import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

BUILD = os.environ.get("KISTL_BUILD", os.path.join(os.path.dirname(__file__), "../../build"))
KISTLD = next(
    (p for p in (os.path.join(BUILD, "kistld"), os.path.join(BUILD, "src/daemon/kistld")) if os.path.exists(p)),
    "kistld",
)
TIMEOUT = 15


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=TIMEOUT)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self.path)


def ping(path):
    c = UnixHTTP(path)
    try:
        c.request("GET", "/_ping")
        r = c.getresponse()
        return r.status, r.read()
    finally:
        c.close()


def until(fn, seconds=TIMEOUT):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if fn():
            return True
        time.sleep(0.02)
    return False


class Daemon:
    """One instance with directories of its own, told by sd_notify when it is ready."""

    def __init__(self, base, *args, config=None, wait=True, env=None, **popen):
        self.base = base
        self.root, self.state = str(base / "root"), str(base / "state")
        self.socket = os.path.join(self.state, "kistl.sock")
        self.log = open(base / "log", "ab")
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify_path = str(base / f"notify-{time.monotonic_ns()}")
        self.notify.bind(notify_path)
        self.notify.settimeout(TIMEOUT)
        conf = base / "config.toml"
        conf.write_text(config or "version = 2\n")
        command = [KISTLD, "--root", self.root, "--state", self.state, "--config", str(conf), *args]
        environment = dict(os.environ, NOTIFY_SOCKET=notify_path, **(env or {}))
        self.process = subprocess.Popen(command, stderr=self.log, env=environment, **popen)
        if wait:
            assert self.notified() == "READY=1", self.text()

    def notified(self):
        try:
            return self.notify.recv(4096).decode()
        except socket.timeout:
            return None

    def text(self):
        return (self.base / "log").read_text()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        subprocess.run(["umount", "-l", self.state], stderr=subprocess.DEVNULL)
        self.notify.close()
        self.log.close()
        return self.process.returncode


@pytest.fixture
def start(tmp_path):
    daemons = []

    def make(*args, name="d", **kw):
        base = tmp_path / name
        base.mkdir(exist_ok=True)
        d = Daemon(base, *args, **kw)
        daemons.append(d)
        return d

    yield make
    for d in daemons:
        d.stop()


def mounts(path):
    with open("/proc/self/mountinfo") as f:
        return [line for line in f if line.split()[4] == path]


def health(path, service=b""):
    grpc = pytest.importorskip("grpc")
    with grpc.insecure_channel("unix://" + path) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        request = b"\x0a" + bytes([len(service)]) + service if service else b""
        return check(request, timeout=TIMEOUT)


def test_http_and_grpc_on_one_socket(start):
    d = start()
    assert ping(d.socket) == (200, b"OK")
    assert health(d.socket) == b"\x08\x01"
    assert ping(d.socket) == (200, b"OK")


def test_grpc_errors_reach_the_client(start):
    grpc = pytest.importorskip("grpc")
    d = start()
    with pytest.raises(grpc.RpcError) as e:
        health(d.socket, b"nobody")
    assert e.value.code() == grpc.StatusCode.NOT_FOUND
    with grpc.insecure_channel("unix://" + d.socket) as channel:
        with pytest.raises(grpc.RpcError) as e:
            channel.unary_unary("/runtime.v9.RuntimeService/Version")(b"", timeout=TIMEOUT)
        assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert e.value.details() == "unknown service runtime.v9.RuntimeService"


def test_health_watch_sees_the_end(start):
    grpc = pytest.importorskip("grpc")
    d = start()
    with grpc.insecure_channel("unix://" + d.socket) as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=TIMEOUT)
        assert next(watch) == b"\x08\x01"
        d.process.send_signal(signal.SIGTERM)
        assert next(watch) == b"\x08\x02"
    assert d.process.wait(TIMEOUT) == 0


def test_unary_deadline_and_big_metadata(start):
    grpc = pytest.importorskip("grpc")
    d = start()
    with grpc.insecure_channel("unix://" + d.socket) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=TIMEOUT, metadata=[("x", "y" * 6000)]) == b"\x08\x01"
        futures = [check.future(b"", timeout=TIMEOUT) for _ in range(200)]
        assert all(f.result() == b"\x08\x01" for f in futures)


def test_silent_and_slow_clients_block_nobody(start):
    d = start()
    idle = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    for s in idle:
        s.connect(d.socket)
    slow = socket.socket(socket.AF_UNIX)
    slow.settimeout(TIMEOUT)
    slow.connect(d.socket)
    slow.send(b"P")
    assert ping(d.socket) == (200, b"OK")
    assert health(d.socket) == b"\x08\x01"
    slow.send(b"OST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    assert b" 404 " in slow.recv(4096)
    slow.close()
    for s in idle:
        s.close()


def test_shims_may_report(start):
    """A ttrpc frame (first byte 0) goes to the event service."""
    d = start()
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(TIMEOUT)
    s.connect(d.socket)
    service, method = b"containerd.services.events.ttrpc.v1.Events", b"Forward"
    payload = b"\x0a" + bytes([len(service)]) + service + b"\x12" + bytes([len(method)]) + method
    s.send(len(payload).to_bytes(4, "big") + (1).to_bytes(4, "big") + b"\x01\x00" + payload)
    head = s.recv(10, socket.MSG_WAITALL)
    assert head[8] == 2
    body = s.recv(int.from_bytes(head[:4], "big"), socket.MSG_WAITALL) if head[:4] != b"\0\0\0\0" else b""
    assert b"not" not in body.lower()
    s.close()


def test_sigterm_leaves_nothing(start):
    d = start()
    assert mounts(d.state) or os.geteuid() != 0
    d.process.send_signal(signal.SIGTERM)
    assert d.notified() == "STOPPING=1"
    assert d.process.wait(TIMEOUT) == 0
    assert not os.path.exists(d.socket)
    assert not mounts(d.state)


def test_sigterm_finishes_keep_alive_clients(start):
    d = start()
    c = UnixHTTP(d.socket)
    c.request("GET", "/_ping")
    assert c.getresponse().read() == b"OK"
    begin = time.monotonic()
    d.process.send_signal(signal.SIGTERM)
    assert d.process.wait(TIMEOUT) == 0
    assert time.monotonic() - begin < 5


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_state_is_a_private_mount(start):
    d = start()
    (line,) = mounts(d.state)
    assert "shared:" not in line
    d.process.kill()
    d.process.wait()
    # The next one takes it over, and takes it away.
    e = start()
    assert len(mounts(e.state)) == 1
    assert ping(e.socket) == (200, b"OK")
    assert e.stop() == 0
    assert not mounts(e.state)


def test_kill_and_start_again(start):
    d = start()
    for _ in range(3):
        d.process.kill()
        d.process.wait()
        d = start()
        assert ping(d.socket) == (200, b"OK")


def test_second_instance_is_refused(start):
    d = start()
    e = start(wait=False)
    assert e.process.wait(TIMEOUT) == 1
    assert f"another kistld (pid {d.process.pid}) uses state directory" in e.text()
    assert ping(d.socket) == (200, b"OK")


def test_instances_side_by_side(start):
    daemons = [start(name=f"d{i}") for i in range(3)]
    for d in daemons:
        assert ping(d.socket) == (200, b"OK")
    daemons[0].stop()
    assert ping(daemons[1].socket) == (200, b"OK")


def test_socket_of_its_own(start, tmp_path):
    path = str(tmp_path / ("x" * 120) / "s.sock")
    d = start("--socket", path)
    short = str(tmp_path / "s")
    os.symlink(os.path.dirname(path), short)
    assert ping(short + "/s.sock") == (200, b"OK")
    assert oct(os.stat(path).st_mode & 0o777) == "0o660"
    assert d.stop() == 0
    assert not os.path.exists(path)


def test_socket_activation(tmp_path):
    path = str(tmp_path / "activated.sock")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen(16)
    early = UnixHTTP(path)
    early.request("GET", "/_ping")

    # LISTEN_PID must be the daemon's: a shell knows its own before it becomes the daemon.
    base = tmp_path / "d"
    base.mkdir()
    log = open(base / "log", "wb")
    script = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "{KISTLD}" --idle-exit 1 --root "{base}/root" --state "{base}/state"'
    p = subprocess.Popen(
        ["sh", "-c", script], stderr=log, pass_fds=[3], preexec_fn=lambda: os.dup2(listening.fileno(), 3)
    )
    try:
        assert early.getresponse().read() == b"OK"
        early.close()
        assert ping(path) == (200, b"OK")
        # It leaves when idle, the socket stays with the manager, and the next client is kept.
        assert p.wait(TIMEOUT) == 0
        assert os.path.exists(path)
        late = socket.socket(socket.AF_UNIX)
        late.connect(path)
        late.close()
    finally:
        if p.poll() is None:
            p.terminate()
            p.wait()
        log.close()
        listening.close()


def test_bad_activation_is_refused(tmp_path):
    script = f'LISTEN_PID=$$ LISTEN_FDS=1 exec "{KISTLD}" --root "{tmp_path}/r" --state "{tmp_path}/s" 3</dev/null'
    p = subprocess.run(["sh", "-c", script], capture_output=True, timeout=TIMEOUT)
    assert p.returncode == 1 and b"descriptor 3 from $LISTEN_FDS" in p.stderr


def test_idle_exit(start):
    d = start("--idle-exit", "1")
    c = UnixHTTP(d.socket)
    c.request("GET", "/_ping")
    c.getresponse().read()
    with pytest.raises(subprocess.TimeoutExpired):
        d.process.wait(3)  # a connection is a need
    c.close()
    assert d.process.wait(TIMEOUT) == 0
    assert not os.path.exists(d.socket)


def test_idle_exit_loses_no_client(start):
    """Clients that connect at any moment are served, or see at once that they must start a daemon."""
    d = start("--idle-exit", "1")
    gone = 0

    def hammer(stop_at):
        nonlocal gone
        while time.monotonic() < stop_at and not gone:
            try:
                assert ping(d.socket) == (200, b"OK")
            except (FileNotFoundError, ConnectionRefusedError):
                gone += 1
            # Idle for as long as the daemon waits, give or take its tick.
            time.sleep(random.uniform(0.95, 1.6))

    threads = [threading.Thread(target=hammer, args=(time.monotonic() + 8,)) for _ in range(2)]
    with_errors = []
    threading.excepthook = lambda e: with_errors.append(e.exc_value)
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    threading.excepthook = threading.__excepthook__
    assert not with_errors


def test_start_while_another_leaves(start):
    """The successor of a leaving daemon waits for its lock."""
    d = start("--idle-exit", "1")
    os.unlink(d.socket)  # as when it stops listening
    e = start(wait=False)
    assert d.process.wait(TIMEOUT) == 0
    assert e.notified() == "READY=1"
    assert ping(e.socket) == (200, b"OK")


def test_reload_changes_the_log_level(start):
    d = start()
    ping(d.socket)
    assert "/_ping: 200" not in d.text()
    (d.base / "config.toml").write_text('[debug]\nlevel = "debug"\n')
    d.process.send_signal(signal.SIGHUP)
    assert until(lambda: "configuration read again" in d.text())
    ping(d.socket)
    assert until(lambda: "/_ping: 200" in d.text())
    (d.base / "config.toml").write_text("debug = 3\n")
    d.process.send_signal(signal.SIGHUP)
    assert until(lambda: "'debug' must be a table" in d.text())
    assert ping(d.socket) == (200, b"OK")


def test_configuration_errors(start):
    d = start(config="[grpc]\naddress = 3\n", wait=False)
    assert d.process.wait(TIMEOUT) == 1
    assert "config.toml: 'grpc.address' must be a string" in d.text()
    e = start(config='nonsense = 1\n[metrics]\naddress = "x"\n', name="e")
    assert e.text().count("mean nothing here: nonsense, metrics") == 1


def test_command_line():
    def run(*args):
        return subprocess.run([KISTLD, *args], capture_output=True, text=True, timeout=TIMEOUT)

    assert run("--version").stdout.startswith("kistld version ")
    assert "--idle-exit SECONDS" in run("--help").stdout
    r = run("--bogus")
    assert r.returncode == 2 and "unknown option '--bogus'" in r.stderr
    r = run("--config", "/nonexistent.toml")
    assert r.returncode == 1 and "/nonexistent.toml" in r.stderr


def test_impossible_directories(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    p = subprocess.run(
        [KISTLD, "--root", str(blocker / "x"), "--state", str(tmp_path / "s")],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert p.returncode == 1 and f"make directory '{blocker}/x'" in p.stderr


MKIMAGE = os.path.join(os.path.dirname(__file__), "../../tools/mkimage")
needs_containers = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("crun") or not os.path.exists(MKIMAGE), reason="needs root and crun"
)


def api(path, method, url, body=None, headers=None):
    c = UnixHTTP(path)
    try:
        if isinstance(body, dict):
            body, headers = json.dumps(body), {"Content-Type": "application/json"}
        c.request(method, url, body, headers or {})
        r = c.getresponse()
        text = r.read()
        assert r.status < 300, (url, r.status, text)
        return json.loads(text) if text.startswith((b"{", b"[")) and url != "/images/load" else text
    finally:
        c.close()


def shims(directory):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                line = f.read()
        except OSError:
            continue
        if b"kistl-shim" in line and directory.encode() in line:
            found.append(int(pid))
    return found


def run_sleeper(d, tmp_path):
    image = tmp_path / "image.tar"
    make = ["/usr/bin/python3", MKIMAGE, "--busybox", "--name", "kistl/test:latest", "--output", image]
    subprocess.run(make, check=True)
    api(d.socket, "POST", "/images/load", image.read_bytes(), {"Content-Type": "application/x-tar"})
    config = {"Image": "kistl/test", "Cmd": ["sleep", "600"], "HostConfig": {"NetworkMode": "none"}}
    cid = api(d.socket, "POST", "/containers/create?name=sleeper", config)["Id"]
    api(d.socket, "POST", f"/containers/{cid}/start")
    return cid


@needs_containers
def test_containers_live_on_and_leave_nothing(start, tmp_path):
    d = start("--idle-exit", "1")
    cid = run_sleeper(d, tmp_path)
    try:
        pid = api(d.socket, "GET", f"/containers/{cid}/json")["State"]["Pid"]
        assert d.process.wait(TIMEOUT) == 0  # nobody needs it for a sleeper
        os.kill(pid, 0)
        d = start()
        state = api(d.socket, "GET", f"/containers/{cid}/json")["State"]
        assert state["Running"] and state["Pid"] == pid
        api(d.socket, "DELETE", f"/containers/{cid}?force=1")
        # Their events are delivered at once, so nothing keeps them.
        assert until(lambda: not shims(d.state), 3)
    finally:
        for shim in shims(str(tmp_path)):
            os.kill(shim, signal.SIGKILL)


@needs_containers
def test_sigterm_with_endless_requests(start, tmp_path):
    d = start()
    cid = run_sleeper(d, tmp_path)
    waiting = []
    try:
        for method, url in (
            ("GET", "/events"),
            ("POST", f"/containers/{cid}/wait"),
            ("GET", f"/containers/{cid}/logs?follow=1&stdout=1"),
        ):
            c = UnixHTTP(d.socket)
            c.request(method, url)
            waiting.append(c)
        assert ping(d.socket) == (200, b"OK")
        time.sleep(0.3)
        begin = time.monotonic()
        d.process.send_signal(signal.SIGTERM)
        assert d.process.wait(TIMEOUT) == 0, d.text()
        assert time.monotonic() - begin < 3
        for c in waiting:
            c.close()
        d = start()
        api(d.socket, "DELETE", f"/containers/{cid}?force=1")
        assert until(lambda: not shims(d.state), 3)
    finally:
        for shim in shims(str(tmp_path)):
            os.kill(shim, signal.SIGKILL)
