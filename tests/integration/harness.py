# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: kistld as a process with directories of its own, clients (kistl, Debian's
docker), terminals, and a look at the host for what a daemon has left behind.

Nothing here sleeps for a guessed time: readiness comes by sd_notify, output by poll, and what has no event
(a process that is gone, a directory that is swept) is waited for with `until`."""

import contextlib
import fcntl
import glob
import hashlib
import http.client
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("KISTL_BUILD", TOP / "build")).resolve()
DOCKER = "/usr/bin/docker"
TIMEOUT = 60
SETTLE = 15


def program(name):
    """A program of the build under test: where `make` puts it, or where meson does."""
    places = {"kistl": "cli", "kistld": "daemon", "kistl-shim": "shim", "kistl-image": "worker"}
    for path in (BUILD / name, BUILD / "src" / places[name] / name):
        if path.exists():
            return str(path)
    raise FileNotFoundError(f"{name} is not built in {BUILD}")


def until(condition, seconds=SETTLE, step=0.02):
    """The first true value of condition(), or its last value when time is over."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(step)


class Output(str):
    """Standard output of a command that ended, with `err` and `code`."""

    def __new__(cls, out, err, code):
        self = super().__new__(cls, out)
        self.err, self.code = err, code
        return self


class CommandError(AssertionError):
    pass


class Client:
    """A command line client: client("ps", "-a") runs it and insists on its exit code."""

    def __init__(self, argv, env):
        self.argv, self.env = list(argv), dict(env)

    def __call__(self, *args, input=b"", code=0, timeout=TIMEOUT, env=None, cwd=None):
        command = [*self.argv, *map(str, args)]
        data = input.encode() if isinstance(input, str) else input
        try:
            r = subprocess.run(command, input=data, capture_output=True, timeout=timeout,
                               env={**self.env, **(env or {})}, cwd=cwd)
        except subprocess.TimeoutExpired as e:
            raise CommandError(f"{command} hangs\nstdout: {e.stdout}\nstderr: {e.stderr}") from None
        out = Output(r.stdout.decode(errors="replace"), r.stderr.decode(errors="replace"), r.returncode)
        if code is not None and out.code != code:
            raise CommandError(f"{command}\nexit code {out.code}, not {code}\n"
                               f"stdout: {out[-4000:]}\nstderr: {out.err[-4000:]}")
        return out

    def lines(self, *args, **kw):
        return self(*args, **kw).splitlines()

    def json(self, *args, **kw):
        return json.loads(self(*args, **kw))

    def inspect(self, name, template=None):
        """The document, or one template's text."""
        if template:
            return self("inspect", "--format", template, name).rstrip("\n")
        return self.json("inspect", name)[0]

    def popen(self, *args, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.STDOUT)
        return Process([*self.argv, *map(str, args)], self.env, **kw)

    def terminal(self, *args, rows=24, columns=80, env=None):
        return Terminal([*self.argv, *map(str, args)], {**self.env, **(env or {})}, rows, columns)


class Expecting:
    """Reads a descriptor until something has come."""

    def __init__(self, fd):
        self.fd, self.data, self.ended = fd, b"", False

    def pump(self, seconds):
        ready, _, _ = select.select([self.fd], [], [], max(seconds, 0))
        if not ready:
            return False
        try:
            chunk = os.read(self.fd, 65536)
        except OSError:  # a pty whose other side is gone
            chunk = b""
        self.data += chunk
        self.ended = not chunk
        return bool(chunk)

    def expect(self, pattern, seconds=TIMEOUT):
        """Consumes and returns everything up to the match of a bytes pattern (a regular expression)."""
        end = time.monotonic() + seconds
        while True:
            found = re.search(pattern, self.data, re.DOTALL)
            if found:
                self.data = self.data[found.end():]
                return found
            left = end - time.monotonic()
            if self.ended or left <= 0:
                why = "end of output" if self.ended else f"nothing more in {seconds} s"
                raise CommandError(f"{pattern!r} did not come ({why}); there is {self.data[-2000:]!r}")
            self.pump(left)

    def rest(self, seconds=TIMEOUT):
        end = time.monotonic() + seconds
        while not self.ended:
            left = end - time.monotonic()
            if left <= 0:
                raise CommandError(f"no end of output in {seconds} s; there is {self.data[-2000:]!r}")
            self.pump(left)
        data, self.data = self.data, b""
        return data


class Process(Expecting):
    """A client in the background, with pipes."""

    def __init__(self, argv, env, **kw):
        self.argv = argv
        self.process = subprocess.Popen(argv, env=env, **kw)
        super().__init__(self.process.stdout.fileno() if self.process.stdout else -1)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def send(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def close_input(self):
        self.process.stdin.close()

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=TIMEOUT):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise CommandError(f"{self.argv} does not end") from None

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for f in (self.process.stdin, self.process.stdout, self.process.stderr):
            if f:
                with contextlib.suppress(OSError):
                    f.close()


class Terminal(Process):
    """A client that has a terminal."""

    def __init__(self, argv, env, rows, columns):
        self.master, slave = pty.openpty()
        self.resize(rows, columns, tell=False)

        def take_terminal():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        super().__init__(argv, {**env, "TERM": "xterm"}, stdin=slave, stdout=slave, stderr=slave,
                         start_new_session=True, preexec_fn=take_terminal)
        os.close(slave)
        self.fd = self.master

    def resize(self, rows, columns, tell=True):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if tell:
            self.process.send_signal(signal.SIGWINCH)

    def send(self, data):
        os.write(self.master, data)

    def close(self):
        super().close()
        os.close(self.master)


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path, timeout=TIMEOUT):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def processes():
    """pid -> (parent, executable, command line) of all that can be read."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):
            with open(f"/proc/{entry}/cmdline", "rb") as f:
                command = f.read().replace(b"\0", b" ").decode(errors="replace").strip()
            with open(f"/proc/{entry}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            exe = ""
            with contextlib.suppress(OSError):
                exe = os.readlink(f"/proc/{entry}/exe")
            found[int(entry)] = (int(fields[1]), exe, command, fields[0])
    return found


def container_cgroups(state):
    """Container ids with a cgroup under any controller, or a state directory of their OCI runtime."""
    ids = set()
    for pattern in ("/sys/fs/cgroup/*/kistl/*", "/sys/fs/cgroup/kistl/*", f"{state}/runtime/*/*"):
        for path in glob.glob(pattern):
            if os.path.isdir(path) and re.fullmatch(r"[0-9a-f]{64}", os.path.basename(path)):
                ids.add(os.path.basename(path))
    return ids


def links():
    out = subprocess.run(["ip", "-j", "link"], capture_output=True, check=True).stdout
    return json.loads(out or b"[]")


class Daemon:
    """kistld with its own root, state, socket and bridge. `client` and `docker` speak to it."""

    def __init__(self, base=None, *args, config="", root=None, env=None, start=True, prefix=()):
        self.own_base = base is None
        self.base = pathlib.Path(base or tempfile.mkdtemp(prefix="kistl-e2e-"))
        self.root = pathlib.Path(root or self.base / "root")
        self.state = self.base / "state"
        self.socket = str(self.state / "kistl.sock")
        self.host = "unix://" + self.socket
        self.hosts_dir = self.base / "certs.d"
        self.home = self.base / "home"
        for path in (self.hosts_dir, self.home):
            path.mkdir(parents=True, exist_ok=True)
        self.args, self.extra_env = list(args), dict(env or {})
        self.prefix = list(prefix)  # a command that runs kistld in place of itself
        self.config = self.base / "config.toml"
        self.config.write_text(
            "version = 2\n[kistl]\n"
            f'shim = "{program("kistl-shim")}"\nworker = "{program("kistl-image")}"\n'
            f'init = "/usr/bin/docker-init"\nhosts-dirs = ["{self.hosts_dir}"]\n' + config)
        self.log_path = self.base / "kistld.log"
        self.process, self.notify = None, None
        self.cgroups_before = container_cgroups(self.state)
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "TZ": "UTC", "LANG": "C.UTF-8"}
        self.client = Client([program("kistl")], {**environment, "KISTL_HOST": self.host,
                                                  "KISTL_ROOT": str(self.root), "KISTL_STATE": str(self.state)})
        # With --host, nothing starts a daemon where none listens.
        self.plain = Client([*self.client.argv, "--host", self.host], self.client.env)
        self.docker = Client([DOCKER], {**environment, "DOCKER_HOST": self.host})
        if start:
            self.start()

    # ---- life ----

    def start(self, wait=True, seconds=30):
        assert self.process is None or self.process.poll() is not None
        path = str(self.base / f"notify-{time.monotonic_ns()}")
        if self.notify:
            self.notify.close()
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(path)
        self.notify.settimeout(seconds)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, program("kistld"), "--config", self.config, "--root", self.root, "--state", self.state,
                 "--socket", self.socket, "--log-level", "debug", *self.args],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "HOME": str(self.home), "NOTIFY_SOCKET": path, **self.extra_env})
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        try:
            message = self.notify.recv(4096).decode()
        except socket.timeout:
            message = "(nothing)"
        assert "READY=1" in message, f"kistld is not ready: {message}\n{self.log()[-3000:]}"

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def stop(self):
        """SIGTERM; its exit status."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError("kistld does not stop\n" + self.log()[-3000:]) from None
        return self.process.returncode

    def kill9(self):
        if self.alive():
            self.process.kill()
            self.process.wait()

    def restart(self, kill=False):
        self.kill9() if kill else self.stop()
        return self.start()

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def trouble(self):
        """What no test may leave in the log: crashes, failed assertions, sanitizers' reports."""
        words = ("Assertion", "AddressSanitizer", "ThreadSanitizer", "runtime error:", "LeakSanitizer")
        return [line for line in self.log().splitlines() if any(w in line for w in words)]

    # ---- API ----

    def request(self, method, path, body=None, headers=None):
        """Status and decoded body (JSON where it is)."""
        c = UnixHTTP(self.socket)
        try:
            data = json.dumps(body).encode() if body is not None else None
            c.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            r = c.getresponse()
            raw = r.read()
            if "json" in (r.getheader("Content-Type") or ""):
                with contextlib.suppress(ValueError):
                    return r.status, json.loads(raw)
            return r.status, raw
        finally:
            c.close()

    # ---- what is left ----

    @property
    def bridge(self):
        """The default bridge's name follows from the state directory."""
        return "kistl-" + hashlib.sha256(str(self.state).encode()).hexdigest()[:8]

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def shims(self):
        state = str(self.state)
        return {pid: p[2] for pid, p in processes().items()
                if "kistl-shim" in p[1] and (state in p[2] or self.cwd_within(pid))}

    def cwd_within(self, pid):
        try:
            return os.readlink(f"/proc/{pid}/cwd").startswith(str(self.state))
        except OSError:
            return False

    def left_processes(self):
        mine, every = [], processes()
        for pid, (parent, exe, command, state) in every.items():
            if pid == os.getpid() or (self.process and pid == self.process.pid):
                continue
            name = os.path.basename(exe.split(" (deleted)")[0])
            owned = str(self.state) in command or str(self.root) in command or self.cwd_within(pid)
            if owned and name in ("kistl-shim", "crun", "runc", "kistl-image", "kistld"):
                mine.append(f"process {pid} ({state}): {command}")
            elif self.process and parent == self.process.pid:
                mine.append(f"child {pid} ({state}) of kistld: {command or exe}")
            elif exe == program("kistl-image") and parent == 1:
                mine.append(f"orphan {pid}: {command}")
        return mine

    def left_cgroups(self):
        """New since the start, and nobody's: no process of another instance names the container."""
        new = container_cgroups(self.state) - self.cgroups_before
        if not new:
            return []
        commands = "\n".join(p[2] for p in processes().values())
        return [f"cgroup or runtime state of {i}" for i in new if i not in commands]

    def left_mounts(self):
        found = []
        with open("/proc/self/mountinfo") as f:
            for line in f:
                point = line.split()[4]
                if not point.startswith(str(self.base)) or point == str(self.base):
                    continue
                if point == str(self.root) or (point == str(self.state) and self.alive()):
                    continue
                found.append("mount " + point)
        return found

    def left_network(self):
        found = []
        for link in links():
            if link.get("master") == self.bridge:
                found.append("interface " + link["ifname"])
            if link["ifname"] == self.bridge and not self.alive():
                found.append("bridge " + link["ifname"])
        r = subprocess.run(["nft", "-j", "list", "table", "ip", self.bridge], capture_output=True, text=True)
        if r.returncode == 0:
            if not self.alive():
                found.append("nft table " + self.bridge)
            for entry in json.loads(r.stdout).get("nftables", []):
                if "map" in entry and entry["map"].get("elem"):
                    found.append(f"published ports {entry['map']['elem']}")
        if self.alive():
            own = os.readlink("/proc/self/ns/net")
            for fd in glob.glob(f"/proc/{self.pid}/fd/*"):
                with contextlib.suppress(OSError):
                    target = os.readlink(fd)
                    if target.startswith("net:") and target != own:
                        found.append("network namespace held by kistld")
        return found

    def left_files(self, images=True):
        patterns = ["{state}/io.containerd.runtime.v2.task/*/*", "{root}/io.containerd.runtime.v2.task/*/*",
                    "{state}/containers/*/*", "{root}/containers/*", "{state}/s/*", "{root}/volumes/*/_data",
                    "{root}/volumes/*/*/_data"]
        if images:
            patterns += ["{root}/io.containerd.content.v1.content/ingest/*",
                         "{root}/io.containerd.content.v1.content/blobs/sha256/*",
                         "{root}/io.containerd.snapshotter.v1.*/snapshots/*"]
        return [p for pattern in patterns
                for p in glob.glob(pattern.format(state=self.state, root=self.root))]

    def leaks(self, images=True):
        return (self.left_processes() + self.left_cgroups() + self.left_mounts() + self.left_network()
                + self.left_files(images))

    def snapshots(self):
        return glob.glob(f"{self.root}/io.containerd.snapshotter.v1.*/snapshots/*")

    def ingests(self):
        return glob.glob(f"{self.root}/io.containerd.content.v1.content/ingest/*")

    def remove_containers(self):
        ids = self.client("ps", "-aq", "--no-trunc").split()
        if ids:
            self.client("rm", "-f", "-v", *ids)

    def clean(self, images=True):
        """Removes what users can remove, through the API."""
        self.remove_containers()
        for network in self.request("GET", "/networks")[1]:
            if network["Name"] not in ("bridge", "host", "none"):
                self.request("DELETE", "/networks/" + network["Id"])
        for volume in self.request("GET", "/volumes")[1]["Volumes"] or []:
            self.request("DELETE", "/volumes/" + volume["Name"])
        if images:
            for image in self.request("GET", "/images/json?all=1")[1]:
                self.request("DELETE", f"/images/{image['Id']}?force=1")

    def assert_clean(self, images=True, seconds=SETTLE):
        left = until(lambda: not self.leaks(images), seconds) or self.leaks(images)
        assert left is True, "left behind:\n" + "\n".join(left[:40])

    def close(self, check=True):
        """Removes everything, checks that nothing is left, ends the daemon, checks again."""
        problems = []
        try:
            if check and self.alive():
                try:
                    self.clean()
                    self.assert_clean()
                except (AssertionError, OSError, ValueError, KeyError, http.client.HTTPException) as e:
                    problems.append(str(e))
            if check and self.process and not self.alive() and self.process.returncode != 0:
                problems.append(f"kistld had ended with {self.process.returncode}")
            status = self.stop() if self.process else 0
            if check and not problems and status != 0:
                problems.append(f"kistld ended with {status}")
            if check and not problems:
                left = until(lambda: not self.leaks(), 5) or self.leaks()
                if left is not True:
                    problems.append("left behind after the end:\n" + "\n".join(left[:40]))
            problems += self.trouble()
        finally:
            self.raze()
        assert not problems, "\n".join(problems) + "\n---- kistld's log:\n" + self.last_log

    def raze(self):
        """By force, so that the next test finds a clean host whatever this one did."""
        self.last_log = self.log()[-6000:]
        for pid in list(self.shims()):
            with contextlib.suppress(OSError):
                for child in processes().items():
                    if child[1][0] == pid:
                        os.kill(child[0], signal.SIGKILL)
                os.kill(pid, signal.SIGKILL)
        for mount in reversed(self.left_mounts()):
            subprocess.run(["umount", "-l", mount.split(" ", 1)[1]], capture_output=True)
        if any(link["ifname"] == self.bridge for link in links()):
            subprocess.run(["ip", "link", "del", self.bridge], capture_output=True)
        for family in ("ip", "ip6"):
            subprocess.run(["nft", "delete", "table", family, self.bridge], capture_output=True)
        if self.notify:
            self.notify.close()
        if self.own_base:
            shutil.rmtree(self.base, ignore_errors=True)


def background(function, *args):
    """A thread with a result: background(f).join() gives it or raises."""

    class Background(threading.Thread):
        def __init__(self):
            super().__init__(daemon=True)
            self.value, self.error = None, None
            self.start()

        def run(self):
            try:
                self.value = function(*args)
            except BaseException as e:  # raised again in result()
                self.error = e

        def result(self, seconds=TIMEOUT):
            self.join(seconds)
            assert not self.is_alive(), "does not end"
            if self.error:
                raise self.error
            return self.value

    return Background()
