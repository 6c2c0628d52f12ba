# SPDX-License-Identifier: Apache-2.0
"""kistl against a scripted server: what it sends, prints and exits with."""

import base64
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fake_docker import FakeDocker, Reply, error, frame  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("KISTL_BUILD", ROOT / "build"))
KISTL = os.environ.get("KISTL", str(BUILD / "kistl"))
ID = "4c01db0b339c" + "0" * 52


@pytest.fixture
def server(tmp_path):
    fake = FakeDocker(tmp_path / "s.sock")
    yield fake
    fake.close()


class Client:
    def __init__(self, server, tmp_path):
        self.server = server
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "KISTL_HOST": "unix://" + server.path,
            "TZ": "UTC",
        }

    def __call__(self, *args, stdin=b"", code=0, **env):
        r = subprocess.run(
            [KISTL, *args], input=stdin, capture_output=True, env={**self.env, **env}, timeout=20
        )
        assert r.returncode == code, (r.returncode, r.stdout, r.stderr)
        self.out, self.err = r.stdout.decode(), r.stderr.decode()
        return self.out

    def popen(self, *args, **kw):
        return subprocess.Popen([KISTL, *args], env=self.env, **kw)


@pytest.fixture
def kistl(server, tmp_path):
    return Client(server, tmp_path)


class Box:
    """A container whose process is a Python function of (stdin bytes) -> frames, exit code."""

    def __init__(self, server, frames=(), code=0, tty=False, echo=False, hold=None):
        self.frames, self.code, self.tty, self.echo = frames, code, tty, echo
        self.started, self.ended = threading.Event(), threading.Event()
        self.waiting = threading.Event()
        self.input = b""
        self.signals, self.sizes = [], []
        self.hold = hold
        server.on("POST", "/containers/create", Reply(201, {"Id": ID, "Warnings": []}))
        server.on("POST", "/containers/[^/]+/attach", self.attach)
        server.on("POST", "/containers/[^/]+/wait", self.wait)
        server.on("POST", "/containers/[^/]+/start", self.start)
        server.on("POST", "/containers/[^/]+/kill", self.kill)
        server.on("POST", "/containers/[^/]+/resize", self.resize)
        server.on("GET", "/containers/[^/]+/json", Reply(200, self.info()))

    def info(self):
        return {
            "Id": ID,
            "Name": "/box",
            "Config": {"Tty": self.tty, "OpenStdin": True},
            "State": {"Running": True, "Pid": 7},
            "HostConfig": {"AutoRemove": False},
        }

    def attach(self, request, conn):
        conn.upgrade(self.tty)
        self.started.wait(10)
        for f in self.frames:
            conn.send(f if self.tty else frame(*f))
        if self.echo:
            while data := conn.read_some():
                self.input += data
                conn.send(data if self.tty else frame(1, data))
        if self.hold:
            self.hold.wait(10)
        self.ended.set()
        return None

    def wait(self, request, conn):
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                  b"Transfer-Encoding: chunked\r\n\r\n")
        self.waiting.set()
        self.ended.wait(10)
        body = json.dumps({"StatusCode": self.code}).encode() + b"\n"
        conn.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        return None

    def start(self, request, conn):
        assert self.waiting.is_set() or request.query.get("detached"), "start before wait"
        self.started.set()
        return Reply(204)

    def kill(self, request, conn):
        self.signals.append(request.query["signal"])
        if self.hold:
            self.hold.set()
        return Reply(204)

    def resize(self, request, conn):
        self.sizes.append((int(request.query["h"]), int(request.query["w"])))
        return Reply(200)


# --- run ------------------------------------------------------------------------------------------


def test_run_shows_output_and_exit_code(server, kistl):
    Box(server, [(1, b"hello\n"), (2, b"oops\n")], code=42)
    kistl("run", "--name", "x", "busybox", "sh", "-c", "exit 42", code=42)
    assert (kistl.out, kistl.err) == ("hello\n", "oops\n")
    create = server.seen("POST", "/containers/create")[0]
    assert create.version == "1.47" and create.query["name"] == "x"
    body = create.json
    assert body["Image"] == "busybox" and body["Cmd"] == ["sh", "-c", "exit 42"]
    assert body["AttachStdout"] and body["AttachStderr"] and not body["AttachStdin"]
    assert server.seen("POST", "/containers/.*/wait")[0].query["condition"] == "next-exit"
    order = [r.path.rsplit("/", 1)[1] for r in server.requests if r.method == "POST"]
    assert order == ["create", "attach", "wait", "start"]


def test_run_rm_waits_for_removal(server, kistl):
    Box(server)
    kistl("run", "--rm", "busybox")
    assert server.seen("POST", "/containers/.*/wait")[0].query["condition"] == "removed"
    assert server.seen("POST", "/containers/create")[0].json["HostConfig"]["AutoRemove"] is True


def test_run_detached_prints_the_id(server, kistl):
    box = Box(server)
    box.waiting.set()
    assert kistl("run", "-d", "busybox") == ID + "\n"
    assert not server.seen("POST", "/containers/.*/attach")


def test_run_forwards_stdin_and_its_end(server, kistl):
    box = Box(server, echo=True)
    data = os.urandom(300000)
    r = subprocess.run([KISTL, "run", "-i", "busybox", "cat"], input=data, capture_output=True,
                       env=kistl.env, timeout=20)
    assert r.returncode == 0 and r.stdout == data and box.input == data
    body = server.seen("POST", "/containers/create")[0].json
    assert body["OpenStdin"] and body["StdinOnce"] and body["AttachStdin"]


def test_run_pulls_a_missing_image(server, kistl):
    Box(server)
    state = {"there": False}

    def create(request, conn):
        if not state["there"]:
            return error(404, "No such image: busybox:latest")
        return Reply(201, {"Id": ID, "Warnings": ["careful"]})

    def pull(request, conn):
        state["there"] = True
        return Reply(200, chunks=[
            b'{"status":"Pulling from library/busybox","id":"latest"}\r\n',
            b'{"status":"Pulling fs layer","progressDetail":{},"id":"abc"}\r\n{"status":"Down',
            b'loading","progressDetail":{"current":5,"total":10},"progress":"x","id":"abc"}\r\n',
            b'{"status":"Pull complete","progressDetail":{},"id":"abc"}\r\n',
        ])

    server.on("POST", "/containers/create", create)
    server.on("POST", "/images/create", pull)
    kistl("run", "busybox")
    assert kistl.out == ""
    assert kistl.err == (
        "Unable to find image 'busybox:latest' locally\n"
        "latest: Pulling from library/busybox\nabc: Pulling fs layer\nabc: Pull complete\n"
        "WARNING: careful\n"
    )
    query = server.seen("POST", "/images/create")[0].query
    assert query == {"fromImage": "busybox", "tag": "latest"}


def test_run_with_pull_never_reports_the_missing_image(server, kistl):
    Box(server)
    server.on("POST", "/containers/create", error(404, "No such image: nope:latest"))
    kistl("run", "--pull", "never", "nope", code=125)
    assert kistl.err.startswith("kistl: Error response from daemon: No such image: nope:latest\n")
    assert not server.seen("POST", "/images/create")


def test_pull_error_ends_run(server, kistl):
    Box(server)
    server.on("POST", "/containers/create", error(404, "No such image: nope:latest"))
    server.on("POST", "/images/create", Reply(200, chunks=[
        b'{"errorDetail":{"message":"toomanyrequests: slow down"},"error":"toomanyrequests"}\r\n']))
    kistl("run", "nope", code=125)
    assert "kistl: toomanyrequests: slow down\n" in kistl.err


@pytest.mark.parametrize("message,code", [
    ("exec: \"nope\": executable file not found in $PATH", 127),
    ("exec /etc: permission denied", 126),
    ("cgroup trouble", 125),
])
def test_start_failures_have_docker_exit_codes(server, kistl, message, code):
    box = Box(server)
    server.on("POST", "/containers/.*/start", error(400, message))
    kistl("run", "busybox", "nope", code=code)
    assert kistl.err.startswith(f"kistl: Error response from daemon: {message}\n")
    box.ended.set()


@pytest.mark.parametrize("args,code,text", [
    (["run", "--bogus", "x"], 125, "unknown flag: --bogus\n\nUsage:  kistl run [OPTIONS] IMAGE"),
    (["run", "-Z"], 125, "unknown shorthand flag: 'Z' in -Z\n"),
    (["run", "--name"], 125, "flag needs an argument: --name\n"),
    (["run"], 1, "kistl: 'kistl run' requires at least 1 argument\n"),
    (["bogus"], 1, "kistl: unknown command: kistl bogus\n"),
    (["container", "bogus"], 1, "kistl: unknown command: kistl container bogus\n"),
    (["rename", "a"], 1, "kistl: 'kistl rename' requires 2 arguments\n"),
    (["run", "--memory", "5x", "i"], 125,
     "invalid argument \"5x\" for \"-m, --memory\" flag: invalid suffix: 'x'\n"),
    (["run", "--ulimit", "x", "i"], 125,
     'invalid argument "x" for "--ulimit" flag: invalid ulimit argument: x\n'),
    (["run", "-p", "99999:1", "i"], 125, "kistl: invalid hostPort: 99999\n"),
    (["run", "-v", "/a:/b:/c:/d", "i"], 125, "kistl: invalid spec: /a:/b:/c:/d: too many colons\n"),
    (["run", "--env-file", "/nope", "i"], 125, "kistl: open /nope: No such file or directory\n"),
    (["run", "--mount", "type=bind,src=/x", "i"], 125,
     'invalid argument "type=bind,src=/x" for "--mount" flag: target is required\n'),
    (["run", "--cpus", "x", "i"], 125,
     'invalid argument "x" for "--cpus" flag: failed to parse x as a rational number\n'),
    (["run", "-d", "-a", "stdout", "i"], 1,
     "conflicting options: cannot specify both --attach and --detach\n"),
    (["run", "--restart=always", "--rm", "i"], 125,
     "kistl: conflicting options: cannot specify both --restart and --rm\n"),
    (["run", "-it", "i"], 1, "the input device is not a TTY\n"),
    (["run", "IMG"], 125, "kistl: invalid reference format: repository name"),
    (["run", "--pull", "foo", "i"], 125, "kistl: invalid pull option: 'foo': must be one of"),
    (["run", "--security-opt", "foo", "i"], 125, 'kistl: invalid --security-opt: "foo"\n'),
    (["run", "--dns", "foo", "i"], 125,
     'invalid argument "foo" for "--dns" flag: IP address is not correctly formatted: foo\n'),
    (["run", "--gpus", "some", "i"], 125, 'invalid argument "some" for "--gpus" flag: invalid count (some)'),
    (["run", "--device-read-bps", "/dev/x", "i"], 125,
     'invalid argument "/dev/x" for "--device-read-bps" flag: bad format: /dev/x\n'),
    (["network", "create", "--subnet", "10.1.0.0/16", "--gateway", "10.2.0.1", "n"], 1,
     "no matching subnet for gateway 10.2.0.1\n"),
    (["network", "create", "--gateway", "10.2.0.1", "n"], 1, "every ip-range or gateway must have a corresponding"),
    (["network", "create", "--subnet", "10.1.0.0/16,10.2.0.0/16", "--gateway", "10.2.0.1", "--gateway", "10.2.0.2", "n"], 1,
     "cannot configure multiple gateways (10.2.0.2, 10.2.0.1) on the same subnet (10.2.0.0/16)\n"),
    (["ps", "-n", "x"], 125,
     'invalid argument "x" for "-n, --last" flag: strconv.ParseInt: parsing "x": invalid syntax\n'),
    (["ps", "--filter", "foo"], 125,
     'invalid argument "foo" for "-f, --filter" flag: bad format of filter (expected name=value)\n'),
    (["start", "-a", "x", "y"], 1, "you cannot start and attach multiple containers at once\n"),
    (["ps", "--format", "{{.ID"], 1, "template parsing error"),
])
def test_bad_input(kistl, args, code, text):
    kistl(*args, code=code)
    assert kistl.err.startswith(text), kistl.err


def test_options_reach_the_request(server, kistl, tmp_path):
    box = Box(server)
    box.waiting.set()
    env = tmp_path / "env"
    env.write_text("# comment\nA=1\nFROMENV\nNOTSET\n")
    kistl(
        "run", "-dit", "-e", "X=y", "-e", "HOME", "--env-file", str(env), "-v", "/a:/b:ro",
        "-v", "/anon", "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770",
        "-w", "/w", "-u", "1:2", "--entrypoint", "sh", "-h", "host", "--network", "none",
        "--add-host", "a:1.2.3.4", "--dns", "9.9.9.9", "--cap-add", "NET_ADMIN", "--cap-drop=ALL",
        "--privileged", "--read-only", "--tmpfs", "/run:size=1m", "--device", "/dev/null:/dev/x:r",
        "--ulimit", "nofile=10:20", "-m", "64m", "--memory-swap", "-1", "--cpus", "1.5",
        "--pids-limit", "5", "--security-opt", "no-new-privileges", "-l", "k=v", "--init",
        "--stop-signal", "INT", "--stop-timeout", "3", "--log-driver", "json-file", "--log-opt",
        "max-size=1m", "--runtime", "runc", "--restart", "on-failure:4", "-p",
        "127.0.0.1:8080-8081:80-81/udp", "--expose", "9", "--shm-size", "1g", "--sysctl",
        "net.ipv4.ip_forward=1", "--health-cmd", "true", "--health-interval", "5s", "-P",
        "--platform", "linux/arm64", "img:1", "-c", "id", FROMENV="value",
    )
    create = server.seen("POST", "/containers/create")[0]
    b, h = create.json, create.json["HostConfig"]
    assert create.query["platform"] == "linux/arm64"
    assert b["Env"] == ["A=1", "FROMENV=value", "X=y", f"HOME={tmp_path}"]
    assert b["Cmd"] == ["-c", "id"] and b["Entrypoint"] == ["sh"] and b["Image"] == "img:1"
    assert b["Tty"] and b["OpenStdin"] and not b["AttachStdin"] and not b["StdinOnce"]
    assert b["WorkingDir"] == "/w" and b["User"] == "1:2" and b["Hostname"] == "host"
    assert b["Volumes"] == {"/anon": {}} and h["Binds"] == ["/a:/b:ro"]
    assert h["Mounts"] == [{"Type": "tmpfs", "Target": "/t",
                            "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1770}}]
    assert b["Labels"] == {"k": "v"} and b["StopSignal"] == "INT" and b["StopTimeout"] == 3
    assert b["ExposedPorts"] == {"80/udp": {}, "81/udp": {}, "9/tcp": {}}
    assert h["PortBindings"]["81/udp"] == [{"HostIp": "127.0.0.1", "HostPort": "8081"}]
    assert h["NetworkMode"] == "none" and h["ExtraHosts"] == ["a:1.2.3.4"]
    assert h["Dns"] == ["9.9.9.9"] and h["CapAdd"] == ["NET_ADMIN"] and h["CapDrop"] == ["ALL"]
    assert h["Privileged"] and h["ReadonlyRootfs"] and h["Tmpfs"] == {"/run": "size=1m"}
    assert h["Devices"] == [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x",
                             "CgroupPermissions": "r"}]
    assert h["Ulimits"] == [{"Name": "nofile", "Hard": 20, "Soft": 10}]
    assert h["Memory"] == 64 << 20 and h["MemorySwap"] == -1 and h["NanoCpus"] == 1500000000
    assert h["PidsLimit"] == 5 and h["SecurityOpt"] == ["no-new-privileges"] and h["Init"] is True
    assert h["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "1m"}}
    assert h["Runtime"] == "runc" and h["ShmSize"] == 1 << 30 and h["PublishAllPorts"]
    assert h["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 4}
    assert h["Sysctls"] == {"net.ipv4.ip_forward": "1"}
    assert b["Healthcheck"] == {"Interval": 5000000000, "Test": ["CMD-SHELL", "true"]}


def test_the_request_is_what_docker_sends(server, kistl, tmp_path):
    """Debian's docker, same arguments: the members that both set are equal."""
    args = ["create", "-i", "-e", "A=b", "-v", "/x:/y", "-v", "/z", "-p", "80:8080", "--ulimit",
            "nofile=5", "--tmpfs", "/t", "--memory", "1g", "--cpus", ".5", "-l", "a=b",
            "--security-opt", "systempaths=unconfined", "--add-host", "h:1.1.1.1",
            "--mount", "type=volume,src=v,dst=/v,volume-opt=a=b,volume-nocopy", "--link", "o:p",
            "--device", "/dev/null", "--restart", "always", "--stop-timeout", "5", "--gpus", "all,capabilities=utility",
            "--blkio-weight-device", "/dev/null:20", "--device-read-bps", "/dev/null:1mb", "--device-write-iops",
            "/dev/zero:9", "--network", "name=n,alias=a1,driver-opt=x=y", "img", "cmd"]
    server.on("POST", "/containers/create", Reply(201, {"Id": ID, "Warnings": []}))
    subprocess.run(["docker", *args], check=True, capture_output=True, timeout=20,
                   env={**kistl.env, "DOCKER_HOST": "unix://" + server.path})
    kistl(*args)
    theirs, ours = (r.json for r in server.seen("POST", "/containers/create"))
    for body in (theirs, ours):
        body["HostConfig"]["DeviceRequests"] = [
            {k: v for k, v in request.items() if v} for request in body["HostConfig"]["DeviceRequests"]]

    def compare(a, b, path):
        for key in b:
            if key not in a:
                continue
            if isinstance(b[key], dict) and isinstance(a[key], dict) and key in ("HostConfig",):
                compare(a[key], b[key], path + key + ".")
            elif key not in ("ConsoleSize", "NetworkingConfig"):
                assert a[key] == b[key], path + key

    compare(theirs, ours, "")
    missing = {k for k, v in theirs["HostConfig"].items()
               if v not in (None, "", 0, False, [], {}, -1, [0, 0]) and k not in ours["HostConfig"]}
    assert not missing
    ours, theirs = (r["NetworkingConfig"]["EndpointsConfig"]["n"] for r in (ours, theirs))
    assert {k: v for k, v in ours.items() if v} == {k: v for k, v in theirs.items() if v}


def test_networks_are_made_as_docker_asks(server, kistl):
    server.on("POST", "/networks/create", Reply(201, {"Id": ID}))
    args = ["network", "create", "--subnet", "10.1.0.0/16", "--subnet", "fd00::/64", "--gateway", "fd00::9", "--gateway",
            "10.1.0.9", "--ip-range", "10.1.8.0/24", "--aux-address", "a=10.1.0.5", "--aux-address", "b=fd00::7", "--ipv6",
            "-o", "x=y", "--label", "l", "--internal", "--attachable", "--ipam-opt", "p=q", "net"]
    subprocess.run(["docker", *args], check=True, capture_output=True, timeout=20,
                   env={**kistl.env, "DOCKER_HOST": "unix://" + server.path})
    kistl(*args)
    theirs, ours = (r.json for r in server.seen("POST", "/networks/create"))
    for config in (theirs, ours):
        config["IPAM"]["Config"].sort(key=lambda c: c["Subnet"])
    assert {k: v for k, v in theirs.items() if v and k != "CheckDuplicate"} == {k: v for k, v in ours.items() if v}


def test_signals_are_forwarded(server, kistl):
    hold = threading.Event()
    box = Box(server, code=143, hold=hold)
    p = kistl.popen("run", "busybox", "sleep", "1000")
    assert box.started.wait(10)
    time.sleep(0.1)
    p.send_signal(signal.SIGTERM)
    assert p.wait(10) == 143
    assert box.signals == ["TERM"]


# --- terminals ------------------------------------------------------------------------------------


class Terminal:
    def __init__(self, client, *args):
        self.pid, self.fd = pty.fork()
        if not self.pid:
            termios.tcsetwinsize(0, (30, 100)) if hasattr(termios, "tcsetwinsize") else None
            os.execve(KISTL, [KISTL, *args], {**client.env, "TERM": "xterm"})
        self.out = b""

    def read_until(self, text, timeout=10):
        end = time.monotonic() + timeout
        while text not in self.out and time.monotonic() < end:
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.out += os.read(self.fd, 65536)
                except OSError:
                    break
        assert text in self.out, self.out

    def send(self, data):
        os.write(self.fd, data)

    def wait(self):
        while True:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                break
            if not data:
                break
            self.out += data
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


def test_tty_session_is_raw_and_detaches(server, kistl):
    box = Box(server, [b"prompt# "], tty=True, echo=True)
    t = Terminal(kistl, "run", "-it", "busybox")
    t.read_until(b"prompt# ")
    mode = termios.tcgetattr(t.fd)
    assert not mode[3] & (termios.ICANON | termios.ECHO)
    t.send(b"ls\x03\x10x")
    t.read_until(b"\x10x")
    t.send(b"\x10\x11")
    t.read_until(b"read escape sequence")
    assert t.wait() == 0
    assert box.input == b"ls\x03\x10x"


def test_own_detach_keys_and_resize(server, kistl):
    box = Box(server, [b"ready"], tty=True, echo=True)
    t = Terminal(kistl, "attach", "--detach-keys", "ctrl-a,d", "box")
    box.started.set()
    t.read_until(b"ready")
    import fcntl
    import struct

    fcntl.ioctl(t.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    end = time.monotonic() + 10
    while (33, 77) not in box.sizes and time.monotonic() < end:
        time.sleep(0.02)
    assert (33, 77) in box.sizes
    t.send(b"\x01d")
    assert t.wait() == 1
    assert b"read escape sequence" in t.out


def test_terminal_is_restored_when_killed(server, kistl):
    box = Box(server, [b"ready"], tty=True, echo=True)
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    p = kistl.popen("run", "-it", "busybox", stdin=slave, stdout=slave, stderr=slave)
    assert box.started.wait(10)
    end = time.monotonic() + 10
    while termios.tcgetattr(slave)[3] & termios.ICANON and time.monotonic() < end:
        time.sleep(0.01)
    p.send_signal(signal.SIGTERM)
    assert p.wait(10) == -signal.SIGTERM
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_progress_bars_on_a_terminal(server, kistl):
    server.on("POST", "/images/create", Reply(200, chunks=[
        b'{"status":"Pulling from x","id":"latest"}\r\n',
        b'{"status":"Downloading","progressDetail":{"current":5000,"total":10000},"id":"aa"}\r\n',
        b'{"status":"Waiting","progressDetail":{},"id":"bb"}\r\n',
        b'{"status":"Pull complete","progressDetail":{},"id":"aa"}\r\n',
        b'{"status":"Digest: sha256:1"}\r\n']))
    t = Terminal(kistl, "pull", "x")
    assert t.wait() == 0
    assert b"\x1b[1A\x1b[2K\raa: Downloading " in t.out and b"5kB/10kB" in t.out
    assert b"\x1b[2A\x1b[2K\raa: Pull complete" in t.out


# --- other commands -------------------------------------------------------------------------------


def test_ps(server, kistl):
    server.on("GET", "/containers/json", Reply(200, [{
        "Id": ID, "Names": ["/web", "/other/alias"], "Image": "busybox", "ImageID": "sha256:12",
        "Command": "sh -c 'while true; do sleep 1; done'", "Created": int(time.time()) - 180,
        "State": "running", "Status": "Up 3 minutes", "Labels": {"a": "b"},
        "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                  {"IP": "0.0.0.0", "PrivatePort": 81, "PublicPort": 8081, "Type": "tcp"},
                  {"PrivatePort": 53, "Type": "udp"}]}]))
    lines = kistl("ps", "-a", "--filter", "status=running", "-f", "label=x").splitlines()
    assert re.split(r"\s{2,}", lines[0]) == [
        "CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert re.split(r"\s{2,}", lines[1]) == [
        ID[:12], "busybox", '"sh -c \'while true; …"', "3 minutes ago", "Up 3 minutes",
        "53/udp, 0.0.0.0:8080-8081->80-81/tcp", "web"]
    query = server.seen("GET", "/containers/json")[0].query
    assert query["all"] == "1"
    assert json.loads(query["filters"]) == {"status": {"running": True}, "label": {"x": True}}
    assert kistl("ps", "-q") == ID[:12] + "\n"
    assert kistl("ps", "-q", "--no-trunc") == ID + "\n"
    assert kistl("ps", "--format", "{{.Names}}: {{.Label \"a\"}}") == "web: b\n"
    assert kistl("ps", "--format", "table {{.ID}}\\t{{.Names}}").splitlines()[0] == \
        "CONTAINER ID   NAMES"
    assert json.loads(kistl("ps", "--format", "json"))["Names"] == "web"


def test_ps_is_what_docker_prints(server, kistl):
    server.on("GET", "/containers/json", Reply(200, [{
        "Id": ID, "Names": ["/web"], "Image": "busybox@sha256:" + "a" * 64, "ImageID": "sha256:12",
        "Command": "sh", "Created": 1700000000, "State": "exited", "Status": "Exited (0)",
        "Labels": {"a": "b"}, "Mounts": [{"Type": "volume", "Name": "v" * 30, "Driver": "local"}],
        "NetworkSettings": {"Networks": {"bridge": {}}}, "SizeRw": 1234567, "SizeRootFs": 7654321,
        "Ports": []}]))
    for args in (["ps", "-a"], ["ps", "-as"], ["ps", "--no-trunc"],
                 ["ps", "--format", "{{.Mounts}} {{.Networks}} {{.LocalVolumes}} {{.CreatedAt}}"],
                 ["ps", "--format", "table {{.Names}}\\t{{.Size}}\\t{{upper .State}}"]):
        theirs = subprocess.run(["docker", *args], capture_output=True, text=True, timeout=20,
                                env={**kistl.env, "DOCKER_HOST": "unix://" + server.path})
        assert kistl(*args) == theirs.stdout, args


def test_images_is_what_docker_prints(server, kistl):
    server.on("GET", "/images/json", Reply(200, [
        {"Id": "sha256:" + "ab" * 32, "RepoTags": ["busybox:latest", "localhost:5000/b:1"],
         "RepoDigests": ["busybox@sha256:" + "c" * 64], "Created": 1700000000, "Size": 4261574,
         "SharedSize": -1, "Containers": -1},
        {"Id": "sha256:" + "cd" * 32, "RepoTags": [], "RepoDigests": [], "Created": 1600000000,
         "Size": 0, "SharedSize": -1, "Containers": -1}]))
    for args in (["images"], ["images", "-q"], ["images", "--digests"], ["images", "--no-trunc"],
                 ["images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}} {{.CreatedAt}}"]):
        theirs = subprocess.run(["docker", *args], capture_output=True, text=True, timeout=20,
                                env={**kistl.env, "DOCKER_HOST": "unix://" + server.path})
        # docker's order of an image's names is random
        assert sorted(kistl(*args).splitlines()) == sorted(theirs.stdout.splitlines()), args


def test_logs_demultiplexes(server, kistl):
    Box(server)
    server.on("GET", "/containers/.*/logs", Reply(
        200, chunks=[frame(1, b"out\n") + frame(2, b"err\n")[:5], frame(2, b"err\n")[5:]]))
    kistl("logs", "--since", "2020-01-01T00:00:00Z", "-n", "5", "-t", "box")
    assert (kistl.out, kistl.err) == ("out\n", "err\n")
    query = server.seen("GET", "/containers/.*/logs")[0].query
    assert query["since"] == "1577836800.000000000" and query["tail"] == "5"
    assert query["timestamps"] == "1" and "follow" not in query


def test_exec(server, kistl):
    Box(server)
    server.on("POST", "/containers/.*/exec", Reply(201, {"Id": "e1"}))

    def start(request, conn):
        assert request.json == {"Detach": False, "Tty": False}
        conn.upgrade()
        conn.send(frame(1, b"hi\n"))
        return None

    server.on("POST", "/exec/e1/start", start)
    server.on("GET", "/exec/e1/json", Reply(200, {"ExitCode": 3}))
    assert kistl("exec", "-e", "A=b", "-w", "/", "-u", "u", "box", "ls", "-l", code=3) == "hi\n"
    body = server.seen("POST", "/containers/box/exec")[0].json
    assert body["Cmd"] == ["ls", "-l"] and body["Env"] == ["A=b"] and body["User"] == "u"


def test_errors_of_many_names(server, kistl):
    server.on("DELETE", "/containers/a", Reply(204))
    server.on("DELETE", "/containers/b", error(404, "No such container: b"))
    kistl("rm", "a", "b", code=1)
    assert kistl.out == "a\n"
    assert kistl.err == "Error response from daemon: No such container: b\n"
    kistl("rm", "-f", "b")


def test_inspect(server, kistl):
    Box(server)
    docs = json.loads(kistl("inspect", "box"))
    theirs = subprocess.run(["docker", "container", "inspect", "box"], capture_output=True,
                            text=True, timeout=20,
                            env={**kistl.env, "DOCKER_HOST": "unix://" + server.path})
    assert kistl.out.splitlines()[:3] == theirs.stdout.splitlines()[:3]
    assert docs[0]["Id"] == ID
    assert kistl("inspect", "-f", "{{.State.Pid}} {{.ID}}", "box") == f"7 {ID}\n"
    kistl("inspect", "-f", "{{.Nope}}", "box", code=1)
    assert 'map has no entry for key "Nope"' in kistl.err
    server.on("GET", "/containers/nope/json", error(404, "No such container: nope"))
    assert kistl("inspect", "nope", code=1) == "[]\n"
    assert kistl.err == "Error: No such object: nope\n"


def test_version_client_does_not_connect(server, kistl):
    out = kistl("version", "--client", KISTL_HOST="unix:///nonexistent/s.sock")
    assert out.startswith("Client:\n Version:") and not server.requests


def test_version_negotiation(tmp_path, kistl):
    old = FakeDocker(tmp_path / "old.sock", api_version="1.41")
    old.on("GET", "/containers/json", Reply(200, []))
    kistl("-H", "unix://" + old.path, "ps")
    assert old.seen("GET", "/containers/json")[0].version == "1.41"
    kistl("ps", KISTL_HOST="unix://" + old.path, KISTL_API_VERSION="1.30")
    assert old.seen("GET", "/containers/json")[1].version == "1.30"
    old.close()


def test_a_socket_without_permission(server, kistl, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root to change users")
    os.chmod(server.path, 0o600)
    for p in [tmp_path, *tmp_path.parents][:-2]:
        os.chmod(p, os.stat(p).st_mode | 0o055)
    r = subprocess.run([KISTL, "ps"], env=kistl.env, capture_output=True, text=True, user=65534)
    assert r.returncode == 1
    assert "permission denied while trying to connect to the Kistl daemon socket" in r.stderr


def test_nothing_listens(kistl, tmp_path):
    kistl("-H", f"unix://{tmp_path}/none.sock", "ps", code=1)
    assert kistl.err == (
        f"Cannot connect to the Kistl daemon at unix://{tmp_path}/none.sock. Is kistld running?\n")


def test_kistld_is_started_on_demand(kistl, tmp_path):
    log = tmp_path / "args"
    daemon = tmp_path / "kistld"
    here = os.path.dirname(os.path.abspath(__file__))
    daemon.write_text(f"""#!/usr/bin/python3
import sys, time
sys.path.insert(0, {here!r})
open({str(log)!r}, "w").write(" ".join(sys.argv[1:]))
from fake_docker import FakeDocker, Reply
f = FakeDocker(sys.argv[2])
f.on("GET", "/containers/json", Reply(200, []))
import os, socket
n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
n.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"].replace("@", "\\0"))
time.sleep(3)
""")
    daemon.chmod(0o755)
    link = tmp_path / "kistl"
    import shutil

    shutil.copy(KISTL, link)
    sock = tmp_path / "run" / "k.sock"
    env = {**kistl.env, "KISTL_HOST": f"unix://{sock}", "KISTL_ROOT": "/r",
           "KISTL_STATE": str(tmp_path / "state")}
    r = subprocess.run([link, "ps", "-q"], env=env, capture_output=True, text=True, timeout=20)
    assert (r.returncode, r.stderr) == (0, "")
    assert log.read_text() == \
        f"--socket {sock} --idle-exit 10 --root /r --state {tmp_path}/state"
    daemon.write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    sock.unlink()
    r = subprocess.run([link, "ps", "-q"], env=env, capture_output=True, text=True, timeout=20)
    assert r.returncode == 1 and "kistld did not start, see" in r.stderr
    assert "broken" in (tmp_path / "state" / "kistld.log").read_text()


# --- the rest of the verbs, against what docker prints --------------------------------------------


def docker(kistl, *args, **kw):
    return subprocess.run(["docker", *args], capture_output=True, timeout=30,
                          env={**kistl.env, "DOCKER_HOST": "unix://" + kistl.server.path}, **kw)


def same(kistl, *args):
    theirs = docker(kistl, *args)
    assert kistl(*args, code=theirs.returncode) == theirs.stdout.decode(), args


def test_history(server, kistl):
    server.on("GET", "/images/.*/history", Reply(200, [
        {"Id": "sha256:" + "1" * 64, "Created": 1700000000, "Size": 4261574, "Comment": "c",
         "CreatedBy": "/bin/sh -c #(nop) ADD file:1234567890abcdef1234567890 in / ", "Tags": None},
        {"Id": "<missing>", "Created": 1700000000, "Size": 0, "CreatedBy": "CMD", "Comment": ""}]))
    same(kistl, "history", "busybox")
    same(kistl, "history", "-q", "busybox")
    same(kistl, "history", "--human=false", "--no-trunc", "busybox")
    same(kistl, "history", "--format", "{{.ID}} {{.Size}}", "busybox")


def test_volumes_and_networks(server, kistl):
    volume = {"Name": "b", "Driver": "local", "Mountpoint": "/m", "Scope": "local",
              "Labels": {"x": "y"}, "Options": None}
    server.on("GET", "/volumes", Reply(200, {"Volumes": [volume, {**volume, "Name": "a"}]}))
    server.on("GET", "/networks", Reply(200, [
        {"Name": "bridge", "Id": "a" * 64, "Driver": "bridge", "Scope": "local", "Labels": {},
         "EnableIPv6": False, "EnableIPv4": True, "Internal": False,
         "Created": "2024-01-01T00:00:00Z"},
        {"Name": "admin", "Id": "b" * 64, "Driver": "bridge", "Scope": "local", "Labels": {},
         "EnableIPv6": False, "EnableIPv4": True, "Internal": True,
         "Created": "2024-01-01T00:00:00Z"}]))
    for command in ("volume", "network"):
        same(kistl, command, "ls")
        same(kistl, command, "ls", "-q")
        same(kistl, command, "ls", "--format", "{{.Name}}: {{.Driver}} {{.Labels}}")
    server.on("POST", "/volumes/create", Reply(201, volume))
    assert kistl("volume", "create", "--label", "a=b", "-o", "type=tmpfs", "b") == "b\n"
    assert server.seen("POST", "/volumes/create")[0].json == {
        "Name": "b", "Driver": "local", "DriverOpts": {"type": "tmpfs"}, "Labels": {"a": "b"}}
    server.on("DELETE", "/volumes/b", Reply(204))
    assert kistl("volume", "rm", "b") == "b\n"
    server.on("POST", "/networks/create", Reply(201, {"Id": "n1"}))
    kistl("network", "create", "--subnet", "10.0.0.0/24", "--gateway", "10.0.0.1", "n")
    assert server.seen("POST", "/networks/create")[0].json["IPAM"]["Config"] == [
        {"Subnet": "10.0.0.0/24", "Gateway": "10.0.0.1"}]
    server.on("POST", "/networks/n/connect", Reply(200))
    kistl("network", "connect", "--ip", "10.0.0.5", "--alias", "a,b", "n", "c")
    assert server.seen("POST", "/networks/n/connect")[0].json == {
        "Container": "c", "EndpointConfig": {"Aliases": ["a", "b"],
                                             "IPAMConfig": {"IPv4Address": "10.0.0.5"}}}


STATS = {
    "id": ID, "name": "/box", "read": "2024-01-01T00:00:00Z",
    "cpu_stats": {"cpu_usage": {"total_usage": 400}, "system_cpu_usage": 2000, "online_cpus": 4},
    "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
    "memory_stats": {"usage": 6 << 20, "limit": 1 << 30, "stats": {"inactive_file": 1 << 20}},
    "networks": {"eth0": {"rx_bytes": 1234, "tx_bytes": 5678}},
    "blkio_stats": {"io_service_bytes_recursive": [{"op": "read", "value": 4096},
                                                   {"op": "Write", "value": 1}]},
    "pids_stats": {"current": 3},
}


def test_stats(server, kistl):
    Box(server)
    server.on("GET", "/containers/.*/stats", Reply(200, STATS))
    server.on("GET", "/containers/json", Reply(200, [{"Id": ID, "Names": ["/box"]}]))
    same(kistl, "stats", "--no-stream")
    same(kistl, "stats", "--no-stream", "box")
    same(kistl, "stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.MemUsage}}")
    server.on("GET", "/containers/nope/stats", error(404, "No such container: nope"))
    kistl("stats", "--no-stream", "nope", code=1)
    assert kistl.err == "Error response from daemon: No such container: nope\n"


def test_stats_stream(server, kistl):
    line = json.dumps(STATS).encode() + b"\n"
    server.on("GET", "/containers/.*/stats",
              Reply(200, chunks=[line, line], headers={"Connection": "close"}))
    out = kistl("stats", "box")
    assert out.startswith("CONTAINER ID") and "120.00%" in out


def test_df(server, kistl):
    server.on("GET", "/system/df", Reply(200, {
        "LayersSize": 5000000,
        "Images": [{"Id": "sha256:1", "Size": 3000000, "SharedSize": 0, "Containers": 1,
                    "RepoTags": ["a:b"]},
                   {"Id": "sha256:2", "Size": 2000000, "SharedSize": 0, "Containers": 0}],
        "Containers": [{"Id": ID, "State": "running", "SizeRw": 12, "Names": ["/x"]},
                       {"Id": ID, "State": "exited", "SizeRw": 36}],
        "Volumes": [{"Name": "v", "UsageData": {"Size": 100, "RefCount": 0}}], "BuildCache": []}))
    same(kistl, "system", "df")
    same(kistl, "system", "df", "--format", "{{.Type}} {{.Reclaimable}}")
    assert "Images space usage:" in kistl("system", "df", "-v")


def test_events(server, kistl):
    event = {"Type": "container", "Action": "die", "time": 1700000000,
             "timeNano": 1700000000123456789,
             "Actor": {"ID": ID, "Attributes": {"name": "box", "exitCode": "1"}}}
    line = json.dumps(event).encode() + b"\n"
    server.on("GET", "/events", Reply(200, chunks=[line[:30], line[30:] + line]))
    same(kistl, "events")
    same(kistl, "events", "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}")
    kistl("events", "--since", "10m", "--filter", "type=container")
    assert json.loads(server.requests[-1].query["filters"]) == {"type": {"container": True}}


def test_top_and_port(server, kistl):
    server.on("GET", "/containers/.*/top", Reply(200, {
        "Titles": ["PID", "CMD"], "Processes": [["1", "init"], ["2", "sleep 1"]]}))
    same(kistl, "top", "box")
    kistl("top", "box", "-o", "pid,cmd")
    assert server.requests[-1].query == {"ps_args": "-o pid,cmd"}
    server.on("GET", "/containers/.*/json", Reply(200, {"Id": ID, "NetworkSettings": {"Ports": {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
        "81/tcp": None}}}))
    same(kistl, "port", "box")
    same(kistl, "port", "box", "80")
    kistl("port", "box", "99", code=1)
    assert kistl.err == "Error: No public port '99/tcp' published for box\n"


def test_save_and_load(server, kistl, tmp_path):
    data = os.urandom(1 << 20)
    server.on("GET", "/images/get", Reply(200, chunks=[data[:70000], data[70000:]]))
    out = tmp_path / "out.tar"
    kistl("save", "-o", str(out), "a", "b:1")
    assert out.read_bytes() == data
    assert subprocess.run([KISTL, "save", "a"], env=kistl.env, capture_output=True).stdout == data
    kistl("save", "-o", str(tmp_path / "no" / "x"), "a", code=1)
    assert "failed to save image: invalid output path" in kistl.err
    server.on("POST", "/images/load", Reply(200, chunks=[b'{"stream":"Loaded image: a\\n"}\r\n']))
    assert kistl("load", "-i", str(out)) == "Loaded image: a\n"
    assert server.seen("POST", "/images/load")[0].body == data
    assert kistl("load", stdin=data) == "Loaded image: a\n"
    assert server.seen("POST", "/images/load")[1].body == data
    kistl("load", "-i", "/nope", code=1)
    assert kistl.err == "open /nope: No such file or directory\n"


def test_an_interrupted_save_leaves_nothing(server, kistl, tmp_path):
    def half(request, conn):
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        return None

    server.on("GET", "/images/get", half)
    kistl("save", "-o", str(tmp_path / "x.tar"), "a", code=1)
    assert kistl.err == "the daemon closed the connection\n"
    assert not list(tmp_path.glob("x.tar*"))


def test_tag_rmi_push(server, kistl):
    server.on("POST", "/images/.*/tag", Reply(201))
    kistl("tag", "busybox", "localhost:5000/x/y:2")
    tag = server.seen("POST", "/images/busybox/tag")[0]
    assert tag.query == {"repo": "localhost:5000/x/y", "tag": "2"}
    server.on("DELETE", "/images/.*", Reply(200, [{"Untagged": "a:1"}, {"Deleted": "sha256:1"}]))
    assert kistl("rmi", "a:1") == "Untagged: a:1\nDeleted: sha256:1\n"
    server.on("POST", "/images/.*/push", Reply(200, chunks=[
        b'{"status":"The push refers to repository [localhost:5000/x]"}\r\n'
        b'{"errorDetail":{"message":"denied"},"error":"denied"}\r\n']))
    kistl("push", "localhost:5000/x", code=1)
    assert kistl.err == "denied\n"
    assert server.seen("POST", "/images/localhost:5000/x/push")[0].query == {"tag": "latest"}


def test_login_stores_credentials_and_pull_uses_them(server, kistl, tmp_path):
    server.on("POST", "/auth", Reply(200, {"Status": "Login Succeeded"}))
    server.on("POST", "/images/create", Reply(200, chunks=[b'{"status":"ok"}\r\n']))
    kistl("login", "-u", "me", "--password-stdin", "https://localhost:5000/v2/", stdin=b"secret\n")
    assert kistl.out == "Login Succeeded\n" and "stored unencrypted" in kistl.err
    assert server.seen("POST", "/auth")[0].json == {
        "username": "me", "password": "secret", "serveraddress": "localhost:5000"}
    config = tmp_path / ".docker" / "config.json"
    assert config.stat().st_mode & 0o777 == 0o600
    assert json.loads(config.read_text())["auths"]["localhost:5000"] == {
        "auth": base64.b64encode(b"me:secret").decode()}
    kistl("pull", "-q", "localhost:5000/a/b:c")
    header = server.seen("POST", "/images/create")[0].headers["x-registry-auth"]
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {
        "username": "me", "password": "secret", "serveraddress": "localhost:5000"}
    kistl("pull", "-q", "busybox")
    header = server.seen("POST", "/images/create")[1].headers["x-registry-auth"]
    assert "password" not in json.loads(base64.urlsafe_b64decode(header + "=="))
    assert kistl("logout", "localhost:5000") == \
        "Removing login credentials for localhost:5000\n"
    assert json.loads(config.read_text())["auths"] == {}
    assert kistl("logout", "localhost:5000") == "Not logged in to localhost:5000\n"
    server.on("POST", "/auth", error(401, "unauthorized: incorrect username or password"))
    kistl("login", "-u", "me", "-p", "x", "localhost:5000", code=1)
    assert "Error response from daemon: unauthorized" in kistl.err


def test_credential_helper(server, kistl, tmp_path):
    helper = tmp_path / "bin" / "docker-credential-fake"
    helper.parent.mkdir()
    helper.write_text("""#!/bin/sh
case $1 in
get) read s; [ "$s" = localhost:5000 ] || { echo credentials not found in native keychain; exit 1; }
     echo '{"ServerURL":"x","Username":"h","Secret":"p"}';;
store) cat > "$HOME/stored";;
erase) cat > "$HOME/erased";;
esac
""")
    helper.chmod(0o755)
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text('{"credsStore":"fake","psFormat":"x"}')
    path = f"{helper.parent}:{os.environ['PATH']}"
    server.on("POST", "/images/create", Reply(200, chunks=[b'{"status":"ok"}\r\n']))
    server.on("POST", "/auth", Reply(200, {"Status": "Login Succeeded"}))
    kistl("pull", "-q", "localhost:5000/a", PATH=path)
    header = server.seen("POST", "/images/create")[0].headers["x-registry-auth"]
    assert json.loads(base64.urlsafe_b64decode(header + "=="))["username"] == "h"
    kistl("pull", "-q", "other:5000/a", PATH=path)
    kistl("login", "-u", "me", "--password-stdin", "localhost:5000", stdin=b"pw", PATH=path)
    assert json.loads((tmp_path / "stored").read_text()) == {
        "ServerURL": "localhost:5000", "Username": "me", "Secret": "pw"}
    config = json.loads((tmp_path / ".docker" / "config.json").read_text())
    assert config == {"credsStore": "fake", "psFormat": "x", "auths": {"localhost:5000": {}}}
    kistl("logout", "localhost:5000", PATH=path)
    assert (tmp_path / "erased").read_text() == "localhost:5000"


def test_prune(server, kistl):
    server.on("POST", "/containers/prune",
              Reply(200, {"ContainersDeleted": ["a", "b"], "SpaceReclaimed": 2500}))
    theirs = docker(kistl, "container", "prune", "-f")
    assert kistl("container", "prune", "-f") == theirs.stdout.decode()
    kistl("container", "prune", stdin=b"n\n", code=1)
    assert len(server.seen("POST", "/containers/prune")) == 2


def test_update_info_and_completion(server, kistl):
    server.on("POST", "/containers/.*/update", Reply(200, {"Warnings": []}))
    assert kistl("update", "-m", "64m", "--restart", "always", "a") == "a\n"
    assert server.seen("POST", "/containers/a/update")[0].json == {
        "Memory": 64 << 20, "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}}
    kistl("update", "a", code=1)
    server.on("GET", "/info", Reply(200, {"Containers": 3, "ServerVersion": "1", "MemTotal": 1 << 30,
                                         "Runtimes": {"crun": {}, "runc": {}}}))
    assert " Runtimes: crun runc\n" in kistl("info")
    assert kistl("info", "-f", "{{.Containers}}") == "3\n"
    server.on("GET", "/containers/json", Reply(200, [{"Names": ["/web"]}, {"Names": ["/db"]}]))
    assert kistl("__complete", "stop", "w") == "web\n"
    assert kistl("__complete", "container", "prun") == "prune\n"
    assert "--sig-proxy" in kistl("__complete", "run", "--si")
    assert kistl("__complete", "st").split() == ["start", "stats", "stop"]


def test_help_has_every_command(kistl):
    main = kistl("--help")
    for name in ("run", "ps", "network", "volume", "system"):
        assert f"\n  {name} " in main
    for group in ("container", "image", "network", "volume", "system"):
        assert kistl(group) == kistl(group, "--help")
    assert kistl("run", "--help").startswith("Usage:  kistl run [OPTIONS] IMAGE [COMMAND] [ARG...]")


# --- documents and completion ---------------------------------------------------------------------


def commands():
    """Every command as help lists it: ("run",), ("volume", "ls") …"""
    def listed(*path):
        text = subprocess.run([KISTL, *path, "--help"], capture_output=True, text=True).stdout
        return re.findall(r"^  ([a-z]+) +[A-Z]", text.split("Global Options")[0], re.M)

    groups = {"builder", "container", "image", "network", "system", "volume"}
    for name in listed():
        if name not in groups:
            yield (name,)
    for group in sorted(groups):
        yield from ((group, name) for name in listed(group))


def test_man_pages_name_every_option():
    """Pages of run's options cover create's, those of commands with another name are that name's."""
    missing = []
    for path in commands():
        if path == ("compose",):
            continue  # its options are another program's
        text = subprocess.run([KISTL, *path, "--help"], capture_output=True, text=True).stdout
        names = [path]
        if "Aliases:" in text:
            aliases = text.split("Aliases:\n")[1].split("\n")[0]
            names = [tuple(a.split()[1:]) for a in aliases.split(",")]
        names += [n[:1] for n in names if len(n) == 2]
        pages = "".join(p.read_text() for n in names
                        if (p := ROOT / "man" / f"kistl-{'-'.join(n)}.1.scd").exists())
        if path[-1] == "create":
            pages += (ROOT / "man/kistl-run.1.scd").read_text()
        assert pages, path
        for option in re.findall(r"^ +(?:-\w, )?--([a-z0-9-]+)", text, re.M):
            if f"*--{option}*" not in pages:
                missing.append((path, option))
    assert not missing


def test_bash_completion(server, kistl):
    server.on("GET", "/containers/json", Reply(200, [{"Names": ["/web"]}, {"Names": ["/db"]}]))
    script = f"""
        kistl() {{ {KISTL} "$@"; }}
        source {ROOT}/completions/kistl.bash
        COMP_WORDS=(kistl stop w) COMP_CWORD=2
        compopt() {{ :; }}
        _kistl
        echo "${{COMPREPLY[@]}}"
    """
    r = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=kistl.env)
    assert r.stdout == "web\n", r.stderr
