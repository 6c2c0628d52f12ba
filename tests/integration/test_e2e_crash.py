# SPDX-License-Identifier: Apache-2.0
"""SIGKILL of every part at any moment: what runs goes on, what was begun is finished or undone, nothing is left.

Moments are random; the seed is printed, and KISTL_SEED repeats a run."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time

import pytest

import images
from harness import CommandError, background, container_cgroups, links, processes, program, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

LAYERS = 6


@pytest.fixture
def rounds(request):
    return 50 if request.config.getoption("--full") else 8


@pytest.fixture
def rng():
    seed = int(os.environ.get("KISTL_SEED", random.randrange(1 << 32)))
    print(f"KISTL_SEED={seed}")
    return random.Random(seed)


class Throttle:
    """A TCP proxy that lets `rate` bytes a second through from the server, over all connections."""

    CHUNK = 32 << 10

    def __init__(self, target, rate):
        self.target, self.rate, self.lock, self.next = target, rate, threading.Lock(), 0.0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.server.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.server.accept()
                host, port = self.target.split(":")
                upstream = socket.create_connection((host, int(port)))
                for source, sink, slow in ((client, upstream, False), (upstream, client, True)):
                    threading.Thread(target=self.copy, args=(source, sink, slow), daemon=True).start()

    def wait_turn(self, n):
        with self.lock:
            now = time.monotonic()
            self.next = max(self.next, now) + n / self.rate
            delay = self.next - now
        time.sleep(delay)

    def copy(self, source, sink, slow):
        with contextlib.suppress(OSError):
            while data := source.recv(self.CHUNK):
                if slow and self.rate:
                    self.wait_turn(len(data))
                sink.sendall(data)
        for s in (source, sink):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.server.close()


@pytest.fixture(scope="module")
def layered(registry, busybox, scratch):
    """Name in the registry of an image of several layers, and what its files hash to."""
    make = images.mkimage()
    tars, sums = [make.busybox_layer()], []
    for i in range(LAYERS):
        data = random.Random(i).randbytes(1 << 20)
        tars.append(images.Tar().dir("data").add(f"data/{i}", data).bytes())
        sums.append(make.digest(data).split(":")[1])
    files = make.image_files(tars, ["gzip", "none", "zstd"], {"Cmd": ["sh"], "Env": ["PATH=/bin"]}, "layered:1")
    path = scratch / "layered"
    for key, data in files.items():
        (path / key).parent.mkdir(parents=True, exist_ok=True)
        (path / key).write_bytes(data)
    registry.push(f"oci:{path}", "layered:1")
    return "layered:1", sums


def check_image(d, ref, sums):
    out = d.client("run", "--rm", "--network", "none", "--pull", "never", ref, "sh", "-c", "sha256sum /data/*")
    assert [line.split()[0] for line in out.splitlines()] == sums


def database(d):
    """The metadata as rows by table, read from a copy, so that nothing here takes a lock."""
    with tempfile.TemporaryDirectory() as copy:
        for name in ("metadata.db", "metadata.db-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(d.root / name, copy)
        with contextlib.closing(sqlite3.connect(f"{copy}/metadata.db")) as db:
            db.row_factory = sqlite3.Row
            tables = [r[0] for r in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {t: [dict(r) for r in db.execute(f"SELECT * FROM {t}")] for t in tables}


def check_store(d):
    """Records and files say the same. Only while no daemon runs, or when it is idle."""
    rows = database(d)
    content = d.root / "io.containerd.content.v1.content/blobs/sha256"
    recorded = {r["digest"].split(":")[1]: r["size"] for r in rows["content"]}
    there = {p.name: p.stat().st_size for p in content.iterdir()}
    assert recorded == there
    directories = {os.path.basename(p) for p in d.snapshots()}
    assert {str(r["id"]) for r in rows["snapshots"]} == directories
    assert not rows["lease_resources"] and not rows["leases"], rows["leases"]
    return rows


def runtime_state(d):
    """Ids of this daemon's containers that an OCI runtime has state of."""
    log = d.log()
    with contextlib.suppress(FileNotFoundError):
        return {i for i in os.listdir(d.state / "runtime/default") if i in log}
    return set()


def traces(d):
    """What containers leave on the host, as name -> ids or count."""
    return {
        "shims": len(d.shims()),
        "bundles": {p.name for p in d.state.glob("io.containerd.runtime.v2.task/*/*")},
        "hidden bundles": {p.name for p in d.state.glob("io.containerd.runtime.v2.task/*/.*")},
        "sockets": len(list(d.state.glob("s/*"))),
        "cgroups": {i for i in container_cgroups(d.state) - d.cgroups_before if i in d.log()},
        "runtime": runtime_state(d),
        "ports": len([x for x in links() if x.get("master") == d.bridge]),
        "mounts": d.left_mounts(),
        "state": {p.name for p in d.state.glob("containers/*/*")},
        "files": {p.name for p in d.root.glob("containers/*")},
    }


def assert_only(d, ids, networked=None):
    """Of containers there is on the host what these running ones need, and nothing else."""
    ids, n = set(ids), len(ids)
    wanted = {"shims": n, "bundles": ids, "hidden bundles": set(), "sockets": n, "cgroups": ids, "runtime": ids,
              "ports": n if networked is None else networked, "mounts": [], "state": ids, "files": ids}

    def wrong():
        return {k: (v, wanted[k]) for k, v in traces(d).items() if v != wanted[k]}

    assert until(lambda: not wrong()), f"is, should be: {wrong()}"


def kill_shim(d, cid):
    pid = next(p for p, command in d.shims().items() if cid in command)
    os.kill(pid, signal.SIGKILL)
    return pid


# ---- at random moments ----


def test_killed_while_pulling(fresh, registry, layered, rounds, rng):
    name, sums = layered
    d = fresh()
    slow = Throttle(registry.address, 8 << 20)
    ref = f"{slow.address}/{name}"
    finished = 0
    for _ in range(rounds):
        moment = rng.uniform(0, 1.2)
        with d.plain.popen("pull", ref) as pull:
            time.sleep(moment)
            d.kill9()
            out = pull.rest().decode()
            code = pull.wait()
        assert code in (0, 1), f"killed after {moment:.3f} s: {code}, {out}"
        assert code == 0 or "connect" in out.lower() or "closed" in out or "ended" in out, out
        assert until(lambda: not d.left_processes()), d.left_processes()
        d.start()
        if d.client("images", "-q"):
            finished += 1
            check_image(d, ref, sums)
            d.client("rmi", ref)
        else:
            assert code == 1
            assert "No such image" in d.client("run", "--rm", "--pull", "never", ref, "true", code=125).err
        assert until(lambda: not d.snapshots() and not database(d)["content"]), database(d)
        check_store(d)
    print(f"{finished} of {rounds} pulls were over")
    slow.rate = 0
    d.client("pull", "-q", ref)
    check_image(d, ref, sums)
    assert not d.ingests()
    check_store(d)
    slow.close()


OPERATIONS = ["run -d --name {n} {f} busybox sleep 1000", "run --rm {f} busybox true", "create --name {n} busybox true",
              "stop -t 1 {n}", "kill {n}", "start {n}", "restart -t 0 {n}", "rm -f {n}", "exec {n} true", "pause {n}",
              "unpause {n}", "run -d --rm --name {n} {f} busybox sleep 0.1", "rename {n} {m}"]


def play(d, rng, stop):
    """Random operations until told; the last ones fail as the daemon is gone."""
    said = []
    while not stop.is_set():
        n, m = rng.sample(["aa", "bb", "cc"], 2)
        flags = rng.choice(["", "--network none", "--restart always", "-p 80", "-v vol:/x", "-v /x"])
        command = rng.choice(OPERATIONS).format(n=n, m=m, f=flags)
        if "--rm" in command:
            command = command.replace("--restart always", "")
        out = d.plain(*command.split(), code=None)
        said.append((command, out.code, out.err.strip()))
    return said


def settled_state(d, cid):
    """Its state once a removal that was cut short is over, which the new daemon does while it answers; None: gone."""
    def look():
        out = d.client("inspect", cid, code=None)
        if out.code:
            assert "No such object" in out.err
            return "gone"
        state = json.loads(out)[0]["State"]
        return state["Status"] != "removing" and state
    found = until(look)
    assert found, f"{cid} stays in removal"
    return found if found != "gone" else None


def check_containers(d, known):
    """Each container can be looked at; running ones run, others do not."""
    for cid in known:
        state = settled_state(d, cid)
        if state is None:
            continue
        assert state["Status"] in ("created", "running", "paused", "restarting", "exited"), state
        assert state["Running"] == (state["Status"] in ("running", "paused", "restarting")), state
        if state["Status"] in ("running", "paused"):
            assert os.path.exists(f"/proc/{state['Pid']}"), state


def test_killed_while_containers_come_and_go(fresh, busybox_archive, rounds, rng):
    d = fresh()
    d.client("load", "-q", "-i", busybox_archive)
    steady = d.client("run", "-d", "--name", "steady", "busybox", "sleep", "1000").strip()
    pid = d.client.inspect("steady", "{{.State.Pid}}")
    for i in range(rounds):
        stop, seeds = threading.Event(), [rng.random() for _ in range(2)]
        players = [background(play, d, random.Random(s), stop) for s in seeds]
        moment = rng.uniform(0.05, 0.8)
        time.sleep(moment)
        d.kill9()
        stop.set()
        said = [line for p in players for line in p.result()]
        # An exec dies with its container, when the other player ends that.
        assert all(0 <= code < 128 or (code == 137 and command.startswith("exec")) for command, code, _ in said), said
        d.start()
        known = d.client("ps", "-aq", "--no-trunc").split()
        check_containers(d, known)
        assert steady in known and d.client.inspect("steady", "{{.State.Pid}}") == pid
        for c in known:
            if c != steady:
                d.client("rm", "-f", "-v", c, code=None)  # one that goes by itself may be quicker
        assert until(lambda: d.client("ps", "-aq", "--no-trunc").split() == [steady]), said
        try:
            assert_only(d, [steady])
        except AssertionError as e:
            raise AssertionError(f"round {i}, killed after {moment:.3f} s: {e}\n{said}") from None
        d.client("volume", "prune", "-af")
        assert d.client("exec", "steady", "echo", "alive") == "alive\n"
    assert d.client("run", "--rm", "-p", "80", "busybox", "echo", "fine") == "fine\n"
    d.stop()
    check_store(d)
    d.start()


# ---- what lives on ----

TICKER = "i=0; while true; do echo tick $i; i=$((i+1)); sleep 0.05; done"


def test_containers_and_logs_live_on(fresh, busybox_archive):
    d = fresh()
    d.client("load", "-q", "-i", busybox_archive)
    cid = d.client("run", "-d", "--name", "tick", "busybox", "sh", "-c", TICKER).strip()
    before = d.client.inspect("tick")["State"]
    for _ in range(3):
        d.restart(kill=True)
        after = d.client.inspect("tick")["State"]
        assert (after["Pid"], after["StartedAt"], after["Running"]) == (before["Pid"], before["StartedAt"], True)
    n = len(d.client.lines("logs", "tick"))
    assert until(lambda: len(d.client.lines("logs", "tick")) > n + 5)
    lines = d.client.lines("logs", "tick")
    assert lines == [f"tick {i}" for i in range(len(lines))]
    assert d.client("exec", "tick", "echo", "x") == "x\n"
    assert_only(d, [cid])
    d.client("rm", "-f", "tick")
    assert_only(d, [])


@pytest.mark.parametrize("which", ["kistl", "docker"])
def test_attached_clients_live_on(fresh, busybox_archive, which):
    d = fresh()
    client = getattr(d, "plain" if which == "kistl" else "docker")
    d.client("load", "-q", "-i", busybox_archive)
    d.client("run", "-di", "--name", "tick", "busybox", "cat")
    d.client("run", "-d", "--name", "execs", "busybox", "sleep", "1000")
    with client.popen("attach", "--sig-proxy=false", "tick", stdin=subprocess.PIPE) as attached, \
            client.popen("exec", "-i", "execs", "cat", stdin=subprocess.PIPE) as executed:
        for p in (attached, executed):
            p.send(b"before\n")
            p.expect(b"before\n")
        d.kill9()
        for p in (attached, executed):
            p.send(b"while down\n")
            p.expect(b"while down\n")
        d.start()
        for p in (attached, executed):
            p.send(b"after\n")
            p.expect(b"after\n")
        executed.close_input()
        assert executed.rest() == b"" and executed.wait() == 0
    assert d.client("logs", "tick") == "before\nwhile down\nafter\n"


def test_end_while_the_daemon_is_down(fresh, busybox_archive, tmp_path):
    d = fresh()
    d.client("load", "-q", "-i", busybox_archive)

    def run(name, *flags, code=7):
        return d.client("run", "-d", "--name", name, "-v", f"{tmp_path}:/sync", *flags, "busybox", "sh", "-c",
                        f"echo up >>/sync/{name}; until [ -e /sync/go ]; do sleep 0.02; done; echo end; exit {code}")

    run("plain")
    run("gone", "--rm")
    run("always", "--restart", "always")
    run("unless", "--restart", "unless-stopped", code=0)
    run("failing", "--restart", "on-failure:2")
    run("fine", "--restart", "on-failure", code=0)
    pids = [int(d.client.inspect(n, "{{.State.Pid}}")) for n in ("plain", "gone", "always", "unless", "failing", "fine")]
    d.kill9()
    (tmp_path / "go").touch()
    assert until(lambda: not any(os.path.exists(f"/proc/{p}") for p in pids))
    (tmp_path / "go").unlink()
    d.start()
    state = d.client.inspect("plain")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 7)
    assert state["FinishedAt"] > state["StartedAt"]
    assert d.client("wait", "plain") == "7\n" and d.client("logs", "plain") == "end\n"
    assert until(lambda: "gone" not in d.client("ps", "-a", "--format", "{{.Names}}").split())
    for name in ("always", "unless", "failing"):
        assert until(lambda: d.client.inspect(name, "{{.State.Status}} {{.RestartCount}}") == "running 1"), \
            d.client.inspect(name)["State"]
        assert until(lambda: (tmp_path / name).read_text() == "up\nup\n")
    assert d.client.inspect("fine", "{{.State.Status}} {{.State.ExitCode}}") == "exited 0"


def test_on_demand(fresh, busybox_archive):
    """The client starts a daemon where none listens; the daemon leaves, and the container stays."""
    d = fresh(None, "--idle-exit", "1")
    d.client("load", "-q", "-i", busybox_archive)
    d.client("run", "-d", "--name", "tick", "busybox", "sleep", "1000")
    pid = d.client.inspect("tick", "{{.State.Pid}}")
    assert d.process.wait(15) == 0
    assert os.path.exists(f"/proc/{pid}") and len(d.shims()) == 1
    assert "annot connect" in d.plain("ps", code=1).err
    assert d.client.inspect("tick", "{{.State.Pid}} {{.State.Running}}") == f"{pid} true"
    started = int((d.state / "kistld.lock").read_text())
    try:
        assert started != d.pid and d.client("exec", "tick", "echo", "x") == "x\n"
        d.client("rm", "-f", "tick")
    finally:
        os.kill(started, signal.SIGTERM)
        assert until(lambda: not os.path.exists(f"/proc/{started}"))
    d.start()


# ---- parts that are killed ----


def test_killed_shim(fresh, busybox_archive):
    d = fresh()
    d.client("load", "-q", "-i", busybox_archive)
    cid = d.client("run", "-d", "--name", "tick", "-p", "80", "busybox", "sleep", "1000").strip()
    other = d.client("run", "-d", "--name", "other", "busybox", "sleep", "1000").strip()
    pid = d.client.inspect("tick", "{{.State.Pid}}")
    with d.client.popen("wait", "tick") as waiting:
        kill_shim(d, cid)
        assert re.fullmatch(rb"(137|255)\n", waiting.rest()) and waiting.wait() == 0
    assert d.client.inspect("tick", "{{.State.Status}}") == "exited"
    assert until(lambda: not os.path.exists(f"/proc/{pid}")), "the container has lost its shim and lives on"
    assert d.client.inspect("other", "{{.State.Running}}") == "true"
    d.client("start", "tick")
    assert d.client("exec", "tick", "echo", "again") == "again\n"
    d.kill9()
    kill_shim(d, cid)
    d.start()
    assert d.client.inspect("tick", "{{.State.Status}}") == "exited"
    d.client("rm", "tick")
    assert_only(d, [other])


def test_killed_shim_is_restarted(fresh, busybox_archive):
    d = fresh()
    d.client("load", "-q", "-i", busybox_archive)
    cid = d.client("run", "-d", "--name", "tick", "--restart", "always", "busybox", "sleep", "1000").strip()
    kill_shim(d, cid)
    assert until(lambda: d.client.inspect("tick", "{{.State.Status}} {{.RestartCount}}") == "running 1")
    assert_only(d, [cid])


def test_killed_image_worker(fresh, registry, layered):
    name, sums = layered
    d = fresh()
    slow = Throttle(registry.address, 2 << 20)
    ref = f"{slow.address}/{name}"

    def workers():
        return [p for p, (parent, exe, _, _) in processes().items()
                if parent == d.pid and exe == program("kistl-image")]

    for _ in range(3):
        with d.client.popen("pull", ref) as pull:
            assert until(lambda: len(workers()) > 1 or pull.process.poll() is not None)
            for p in workers():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(p, signal.SIGKILL)
            out = pull.rest().decode()
            assert pull.wait() == 1 and "kistl-image" in out and "signal 9" in out, out
        assert not d.client("images", "-q")
    slow.rate = 0
    d.client("pull", "-q", ref)
    check_image(d, ref, sums)
    assert not d.ingests()
    slow.close()


# ---- two at once, and the wrong past ----


def refused(d, *args):
    r = subprocess.run([program("kistld"), "--config", d.config, *args], capture_output=True, text=True, timeout=40,
                       env={k: v for k, v in os.environ.items() if k != "NOTIFY_SOCKET"})
    assert r.returncode == 1, r.stderr
    return r.stderr


def test_second_daemon_is_refused(fresh, busybox_archive, tmp_path):
    d = fresh()
    err = refused(d, "--root", tmp_path / "root", "--state", d.state, "--socket", d.socket)
    assert f"another kistld (pid {d.pid})" in err and str(d.state) in err
    err = refused(d, "--root", d.root, "--state", tmp_path / "state")
    assert str(d.root) in err and "another" in err
    assert d.client("load", "-q", "-i", busybox_archive)


def test_older_database_converges(fresh, busybox_archive, registry, layered):
    name, sums = layered
    d = fresh()
    ref = registry.reference(name)
    d.client("load", "-q", "-i", busybox_archive)
    d.client("create", "--name", "old", "busybox", "true")
    d.client("pull", "-q", ref)
    d.stop()
    with tempfile.TemporaryDirectory() as copy:
        for path in d.root.glob("metadata.db*"):
            shutil.copy(path, copy)
        d.start()
        d.client("rm", "old")
        d.client("rmi", ref)
        d.client("run", "-d", "--name", "new", "busybox", "sleep", "1000")
        assert until(lambda: len(database(d)["content"]) == 3)
        d.kill9()
        for path in d.root.glob("metadata.db*"):
            path.unlink()
        for path in os.listdir(copy):
            shutil.copy(os.path.join(copy, path), d.root)
    d.start()
    # The container that the database does not know is gone, and the one that has no snapshot too.
    assert until(lambda: d.client("ps", "-aq") == "")
    assert_only(d, [])
    assert d.client("run", "--rm", "busybox", "echo", "fine") == "fine\n"
    d.client("pull", "-q", ref)
    check_image(d, ref, sums)
    assert not json.loads(d.client("ps", "-a", "--format", "json") or "[]")
    with contextlib.suppress(CommandError):
        d.client("rmi", "-f", ref)
