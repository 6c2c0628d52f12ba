# SPDX-License-Identifier: Apache-2.0
"""Two engines side by side: Debian's dockerd and kistld are asked the same, and what they answer is compared.

A case is a few steps: command lines of the unmodified docker client, or requests to the API. Its outcome is a flat
dictionary, "2.json.HostConfig.Memory" -> value; a step gives its exit code or status, its output as text or, where it
is JSON, field by field. Before they are compared, values lose what differs between any two runs: identifiers, times,
addresses, directories (`Normal`).

Where versions of dockerd differ, kistld follows the newest: parity-newer.json holds, for the same cases, those values
of a newer dockerd that are not Debian's (`parity.py DOCKERD PATH` makes it). Kistld may have either value; everything
else is a failure, unless parity_expected.py gives a reason."""

import concurrent.futures
import contextlib
import dataclasses
import fnmatch
import io
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time

from harness import DOCKER, Client, Daemon, UnixHTTP, processes, until

HERE = pathlib.Path(__file__).resolve().parent
NEWER = HERE / "parity-newer.json"
DOCKERD = "/usr/sbin/dockerd"
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
API = "/v1.41"  # of Debian's dockerd
PATIENCE = 15
NOTHING = "(nothing)"


def newest_client():
    """Another docker client than Debian's, or None."""
    for path in (os.environ.get("KISTL_DOCKER_CLIENT"), "/usr/local/bin/docker", "/usr/local/libexec/docker/docker"):
        if path and os.path.exists(path) and os.path.realpath(path) != os.path.realpath(DOCKER):
            return path
    return None


# ---- engines ----


def body_of(response, deadline):
    while piece := response.read1(1 << 20):
        yield piece
        if time.monotonic() > deadline:
            raise TimeoutError("the reply does not end")


class Engine:
    """What is asked: a socket, and docker clients that speak to it."""

    def __init__(self, name, host, home):
        self.name, self.host, self.socket = name, host, host.removeprefix("unix://")
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "TZ": "UTC", "LANG": "C.UTF-8", "DOCKER_HOST": host,
               "COLUMNS": "200"}
        self.clients = {"docker": Client([DOCKER], env)}
        if newest_client():
            self.clients["newest"] = Client([newest_client()], env)
        self.vars, self.normal, self.kept = {}, Normal(), {}

    def request(self, method, path, body=None, headers=None):
        """Status, content type, body."""
        c = UnixHTTP(self.socket, PATIENCE)
        try:
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            return r.status, r.getheader("Content-Type") or "", b"".join(body_of(r, time.monotonic() + PATIENCE))
        finally:
            c.close()

    def get(self, path):
        return json.loads(self.request("GET", API + path)[2] or b"null")

    # What a case leaves is removed, so that the next one finds the world as it was.

    LISTS = {"containers": ("/containers/json?all=1", None, "Id", "?force=1&v=1"),
             "networks": ("/networks", None, "Id", ""), "volumes": ("/volumes", "Volumes", "Name", "?force=1"),
             "images": ("/images/json?all=1", None, "Id", "?force=1")}

    def objects(self, kind):
        path, member, key, _ = self.LISTS[kind]
        found = self.get(path)
        return {o[key]: o for o in ((found[member] if member else found) or [])}

    def keep(self):
        self.kept = {kind: set(self.objects(kind)) for kind in self.LISTS}
        self.tags = {t for i in self.objects("images").values() for t in i["RepoTags"] or []}

    def tidy(self):
        for kind, (_, _, _, query) in self.LISTS.items():
            for key, o in self.objects(kind).items():
                if key not in self.kept[kind]:
                    self.request("DELETE", f"{API}/{kind}/{key}{query}")
                elif kind == "images":
                    for tag in set(o["RepoTags"] or []) - self.tags:
                        self.request("DELETE", f"{API}/images/{tag}")


class Dockerd(Engine):
    """Debian's dockerd in namespaces of its own, which take its mounts and interfaces with them."""

    def __init__(self, program=DOCKERD, path=None):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="kistl-parity-", dir=os.environ.get("KISTL_TEST_DIR",
                                                                                             "/var/tmp")))
        super().__init__("dockerd", f"unix://{self.base}/docker.sock", self.base)
        self.cgroup = f"kistl-parity-{os.getpid()}"
        argv = [program, "--data-root", self.base / "data", "--exec-root", self.base / "exec", "--pidfile",
                self.base / "pid", "--host", self.host, "--cgroup-parent", "/" + self.cgroup,
                "--storage-driver", "overlay2"]
        script = "ip link set lo up; mount --make-rprivate /; exec " + shlex.join(map(str, argv))
        env = {**os.environ, "PATH": (path + ":" if path else "") + os.environ["PATH"], "HOME": str(self.base)}
        with open(self.base / "log", "wb") as log:
            self.process = subprocess.Popen(["unshare", "-n", "-m", "sh", "-c", script], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=env, start_new_session=True)

    def wait_ready(self):
        def ready():
            assert self.process.poll() is None, "dockerd has ended:\n" + self.log()
            with contextlib.suppress(OSError):
                return self.request("GET", "/_ping")[0] == 200
        assert until(ready, 60), "dockerd does not answer:\n" + self.log()

    def log(self):
        return (self.base / "log").read_text(errors="replace")[-3000:]

    def family(self):
        every, mine = processes(), {self.process.pid}
        while True:
            more = {pid for pid, p in every.items() if p[0] in mine or str(self.base) in p[2]} - mine - {os.getpid()}
            if not more:
                return mine
            mine |= more

    def close(self):
        with contextlib.suppress(OSError, ValueError):
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda i: self.request("DELETE", f"{API}/containers/{i}?force=1&v=1"),
                              self.objects("containers")))
        family = self.family()
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        for pid in family:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.base, ignore_errors=True)
        for hierarchy in pathlib.Path("/sys/fs/cgroup").iterdir():
            until(lambda: remove_cgroup(hierarchy / self.cgroup), 5)


def remove_cgroup(path):
    if not path.is_dir():
        return True
    for below in [p for p in path.iterdir() if p.is_dir()]:
        remove_cgroup(below)
    with contextlib.suppress(OSError):
        path.rmdir()
    return not path.is_dir()


class Kistld(Engine):
    def __init__(self):
        self.daemon = Daemon()
        super().__init__("kistld", self.daemon.host, self.daemon.home)

    def wait_ready(self):
        pass

    def close(self):
        self.daemon.close()


# ---- what both have before the cases begin ----

LAYER_FILE = "layer.tar"


def archives(directory):
    """docker-archives of two images over one layer: busybox, and one whose configuration has everything."""
    import images
    make = images.mkimage()
    layer = make.busybox_layer()
    base = {"architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z", "rootfs": {
        "type": "layers", "diff_ids": [make.digest(layer)]}, "history": [
            {"created": "2026-01-01T00:00:00Z", "created_by": "mkimage", "comment": "made"}]}
    rich = {"Env": ["PATH=/bin", "RICH=yes"], "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["exit 7"], "WorkingDir": "/home",
            "User": "daemon", "Volumes": {"/data": {}, "/tmp/cache": {}}, "Labels": {"rich": "1", "two": "words here"},
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "StopSignal": "SIGUSR1", "OnBuild": ["RUN true"],
            "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 3600000000000, "Retries": 2}}
    plain = {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "FROM_IMAGE=yes"], "Cmd": ["sh"], "Labels": {"plain": "1"}}
    found = []
    for name, config in (("busybox:latest", plain), ("rich:v1", rich)):
        document = json.dumps({**base, "config": config}).encode()
        path = pathlib.Path(directory) / (name.split(":")[0] + ".tar")
        with tarfile.open(path, "w") as tar:
            for member, data in ((LAYER_FILE, layer), ("config.json", document), ("manifest.json", json.dumps(
                    [{"Config": "config.json", "RepoTags": [name], "Layers": [LAYER_FILE]}]).encode())):
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        found.append(path)
    return found


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


WORLD = """
tag busybox second:1
tag busybox registry.example:5000/third/image:v2
network create --label role=test --subnet 10.77.1.0/24 --gateway 10.77.1.1 w-net
network create --internal w-int
volume create --label keep=yes w-vol
volume create w-vol2
create --name w-made -l a=1 -l b=two busybox sh -c "echo 'quoted'"
run --name w-exit -l a=1 --network none busybox sh -c "echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three; exit 3"
run -d --name w-run -l a=2 -v w-vol:/data -p 127.0.0.1:@port@:80 --expose 99 --stop-signal KILL busybox sleep 1000
run -d --name w-net1 --network w-net --network-alias al --ip 10.77.1.50 --stop-signal KILL busybox sleep 1000
run -d --name w-paused --network none --stop-signal KILL busybox sleep 1000
pause w-paused
"""


def build_world(engine, files):
    engine.vars["t0"] = f"{time.time() - 1:.3f}"
    docker = engine.clients["docker"]
    for path in files:
        docker("load", "-q", "-i", path)
    for line in WORLD.strip().splitlines():
        docker(*shlex.split(fill(line, engine)), code=None if "exit 3" in line else 0)
    engine.vars["t1"] = f"{time.time() + 0.5:.3f}"
    for c in engine.get("/containers/json?all=1"):
        engine.vars[c["Names"][0].lstrip("/")] = c["Id"]
    for i in engine.get("/images/json"):
        for tag in i["RepoTags"] or []:
            engine.vars[tag.split(":")[0]] = i["Id"]
    engine.normal.learn(engine)
    engine.keep()
    until(lambda: time.time() > float(engine.vars["t1"]), 2)


def fill(text, engine):
    """@name@ is a variable of the engine, @name.short@ its first 12 digits."""
    def value(m):
        name, _, how = m.group(1).partition(".")
        if name not in engine.vars:
            return m.group(0)
        return engine.vars[name].removeprefix("sha256:")[:12] if how == "short" else engine.vars[name]
    return re.sub(r"@([\w-]+(?:\.short)?)@", value, text)


# ---- outcomes ----


class Normal:
    """Takes out of a text what no two runs have in common."""

    RULES = [(re.compile(p), r) for p, r in (
        # Whether the client says this depends on which of two replies it sees first.
        (r'time="[^"]*" level=error msg="error waiting for container: context canceled"\n?', ""),
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?(Z|[+-]\d\d:?\d\d))?( UTC| [A-Z]{3,4})?", "<time>"),
        (r"\b1[78]\d{8}(\.\d+)?\b", "<unix>"), (r"\b1[78]\d{17}\b", "<nano>"),
        (r"sha256:[0-9a-f]{64}", "<digest>"), (r"\b[0-9a-f]{64}\b", "<id>"), (r"\b[0-9a-f]{12}\b", "<short>"),
        (r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b", "<mac>"),
        (r"\b(About )?(an?|\d+) (second|minute|hour|week|month|year)s?( ago)?\b|Less than a second( ago)?", "<ago>"),
        (r"\b\d+ days ago", "<ago>"),
        (r"\b\d+(\.\d+)?[kMG]i?B\b|\b0B\b", "<size>"), (r"\boverlay(2|fs)\b", "<driver>"),
        (r"\b172\.(1[6-9]|2\d|3[01])\.\d+\.\d+", "<ip>"), (r"(?<=[^ ])  +", "  "), (r" +$", ""))]

    def __init__(self):
        self.words = []

    def learn(self, engine):
        """Directories and ports of this engine."""
        root = engine.get("/info")["DockerRootDir"]
        self.words = [(root, "<root>"), (os.path.dirname(engine.socket), "<state>"),
                      (engine.vars.get("port", ""), "<port>")]

    def text(self, s):
        for word, name in self.words:
            if word.isdigit():  # and no part of an identifier
                s = re.sub(rf"(?<![0-9a-f]){word}(?![0-9a-f])", name, s)
            elif word:
                s = s.replace(word, name)
        for pattern, name in self.RULES:
            s = pattern.sub(name, s)
        return s

    def value(self, v):
        if isinstance(v, str):
            return self.text(v)
        if isinstance(v, int) and not isinstance(v, bool) and v > 1700000000:
            return "<unix>" if v < 2000000000 else "<nano>" if v > 1700000000 * 10**9 else v
        return v


def flatten(value, path, normal, out):
    """Objects and lists of objects by field; lists of plain values stay whole."""
    if isinstance(value, dict) and value:
        for key, v in value.items():
            flatten(v, f"{path}.{normal.text(key)}", normal, out)
    elif isinstance(value, list) and any(isinstance(v, (dict, list)) for v in value):
        for i, v in enumerate(value):
            flatten(v, f"{path}[{i}]", normal, out)
    elif re.search(r"\.Env$", path) and isinstance(value, list):
        out[path] = sorted(map(normal.text, value))
    elif re.search(r"\.Processes\[\d+\]$", path):
        out[path] = [re.sub(r"\d+", "<n>", v) for v in value]
    elif isinstance(value, list):
        out[path] = [normal.value(v) for v in value]
    elif re.search(r"\.(\w*Size\w*|LowerDir|UpperDir|WorkDir|MergedDir)$", path) and not path.endswith("ShmSize"):
        out[path] = "<size>" if value else value
    elif re.search(r"\.State\.Pid$|\.SandboxKey$|\.SystemTime$", path):
        out[path] = "<one>" if value else value
    elif path.endswith("Labels") and isinstance(value, str):
        out[path] = ",".join(sorted(value.split(",")))
    else:
        out[path] = normal.value(value)


def document(text):
    """The JSON that a text is, a list of its lines' where each is one, or None."""
    text = text.strip()
    if text[:1] not in ("{", "["):
        return None
    with contextlib.suppress(ValueError):
        return json.loads(text)
    with contextlib.suppress(ValueError):
        return [json.loads(line) for line in text.splitlines()]
    return None


def sort_lists(value):
    """Lists whose order means nothing: of objects with a name, or an id."""
    if isinstance(value, dict):
        return {k: sort_lists(v) for k, v in value.items()}
    if isinstance(value, list):
        value = [sort_lists(v) for v in value]
        if value and all(isinstance(v, dict) for v in value):
            for key in ("Destination", "Name", "Names", "RepoTags", "Repository",
                        "PrivatePort"):
                if all(v.get(key) for v in value):
                    return sorted(value, key=lambda v: str(v[key]))
    return value


def record_text(path, text, normal, out):
    parsed = document(text)
    if parsed is not None:
        flatten(sort_lists(parsed), path + ".json", normal, out)
    elif text:
        out[path] = normal.text(text)


@dataclasses.dataclass
class Case:
    id: str
    steps: str  # ";" between command lines; "GET /path", "POST /path {json}" are requests
    client: str = "docker"
    input: bytes = b""


def steps_of(text):
    """Split at " ; ", which no argument has."""
    return [s.strip() for s in text.split(" ; ")]


def run_step(engine, case, step, path, out):
    step = fill(step, engine)
    method, _, rest = step.partition(" ")
    if method in METHODS:
        target, _, body = rest.partition(" ")
        headers = {"Content-Type": "application/json"} if body else {}
        prefix = "" if re.match(r"/v\d", target) else API
        status, kind, data = engine.request(method, prefix + target, body.encode() or None, headers)
        out[path + ".status"] = status
        if "json" in kind or status >= 400:
            record_text(path + ".body", data.decode(errors="replace"), engine.normal, out)
        else:
            out[path + ".type"] = kind
        return
    r = engine.clients[case.client](*shlex.split(step), input=case.input, code=None)
    out[path + ".code"] = r.code
    text = str(r)
    if re.match(r"images|image ls", step):  # those of the same time come in any order
        text = "".join(sorted(text.splitlines(keepends=True)))
    if step.startswith("top "):
        text = re.sub(r"\b\d+([.:]\d+)*\b", "<n>", text)
    record_text(path + ".out", text, engine.normal, out)
    record_text(path + ".err", r.err, engine.normal, out)


def outcome(engine, case):
    out = {}
    try:
        for i, step in enumerate(steps_of(case.steps), 1):
            run_step(engine, case, step, str(i), out)
    finally:
        done = any(v == 0 or 200 <= v < 300 for k, v in out.items() if RESULT.fullmatch(k))
        if done and not re.match(r"(GET|HEAD|ps|images|inspect|logs|top|port)\b", case.steps):
            engine.tidy()
    return out


RESULT = re.compile(r"\d+\.(code|status)")


def is_expected(entry, case, path, a, b):
    cases, fields, _, *values = entry
    if not fnmatch.fnmatchcase(case.id, cases) or not re.fullmatch(fields, path):
        return False
    return not values or all(re.fullmatch(str(want), str(has), re.DOTALL) for want, has in zip(values[0], (a, b)))


def differences(case, ours, theirs, newer, expected):
    """(field, ours, theirs) of what has no excuse; the expectations that were used go to `used`."""
    found, used, parted = [], set(), set()
    for path in sorted(set(ours) | set(theirs), key=lambda p: (not RESULT.fullmatch(p), p)):
        step = path.split(".")[0]
        if step in parted and not re.search(r"\.(code|status|err|message)$", path):
            continue  # one has failed, the other not: that is the difference
        a, b = ours.get(path, NOTHING), theirs.get(path, NOTHING)
        if a != b and RESULT.fullmatch(path):
            parted.add(step)
        if a == b or (path in newer and newer[path] == a):
            continue
        why = next((e for e in expected if is_expected(e, case, path, a, b)), None)
        if why:
            used.add(why)
        else:
            found.append((path, a, b))
    return found, used


class Pair:
    """Two engines, by functions that start them, with the world built; close() ends them."""

    def __init__(self, directory, *starts):
        self.engines, self.pool = [], concurrent.futures.ThreadPoolExecutor(2)
        try:
            for start in starts or (Kistld, Dockerd):
                self.engines.append(start())
            files, port = archives(directory), str(free_port())
            for engine in self.engines:
                engine.wait_ready()
                engine.vars["port"] = port
            list(self.pool.map(lambda e: build_world(e, files), self.engines))
            self.newer = json.loads(NEWER.read_text()) if NEWER.exists() else {}
        except BaseException:
            self.close()
            raise

    def run(self, case):
        """Both outcomes: of kistld, of dockerd."""
        second = self.pool.submit(outcome, self.engines[1], case)
        return outcome(self.engines[0], case), second.result()

    def close(self):
        self.pool.shutdown(wait=False, cancel_futures=True)
        with contextlib.ExitStack() as stack:
            for engine in self.engines:
                stack.callback(engine.close)


def record(program, path):
    """parity-newer.json: where the answers of another dockerd differ from Debian's."""
    import parity_api
    import parity_cases
    found = {}
    with tempfile.TemporaryDirectory() as directory, contextlib.closing(
            Pair(directory, lambda: Dockerd(program, path), Dockerd)) as pair:
        for case in parity_cases.cases() + parity_api.cases():
            began = time.monotonic()
            try:
                newer, debian = pair.run(case)
            except (AssertionError, OSError) as e:
                print(f"{case.id}: {e}", file=sys.stderr)
                continue
            if time.monotonic() - began > 5:
                print(f"slow: {case.id}", file=sys.stderr)
            different = {k: newer.get(k, NOTHING) for k in sorted({*newer, *debian})
                         if newer.get(k, NOTHING) != debian.get(k, NOTHING)}
            if different:
                found[case.id] = different
    NEWER.write_text(json.dumps(found, indent=0, sort_keys=True, ensure_ascii=False) + "\n")
    print(f"{len(found)} cases differ", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(record(*sys.argv[1:3]))
