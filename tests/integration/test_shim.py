# SPDX-License-Identifier: Apache-2.0
"""kistl-shim for real: busybox containers through crun and runc."""

import os
import pathlib
import signal
import subprocess
import tempfile
import time

import pytest

import shimlib
from shimlib import Client, RpcError, Shim, attach, read_all

NOT_FOUND, EXISTS, PRECONDITION, UNIMPLEMENTED = 5, 6, 9, 12

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def is_alive(pid):
    """A zombie is not: who has to reap it is not our business."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def wait_gone(pid):
    deadline = time.time() + 10
    while is_alive(pid):
        assert time.time() < deadline, f"process {pid} is still there"
        time.sleep(0.01)


@pytest.fixture
def base():
    """Short, for a socket beneath it must fit into an address."""
    with tempfile.TemporaryDirectory(prefix="ks", dir="/tmp") as d:
        yield pathlib.Path(d)


@pytest.fixture(params=["crun", "runc"])
def shim(request, base):
    s = Shim(base, "c1", request.param)
    yield s.start()
    s.close()
    with open("/proc/self/mountinfo") as f:
        assert str(base) not in f.read(), "something is left mounted"
    wait_gone(s.pid)


def state(shim, cid="c1", exec_id=""):
    return shim.client.task("State", id=cid, exec_id=exec_id)


def run(shim, args, **io):
    shim.create(args, **io)
    waiter = shim.client.task("Wait", id="c1", wait=False)
    shim.client.task("Start", id="c1")
    return waiter


def fails(code, fn, *args, **kw):
    with pytest.raises(RpcError) as e:
        fn(*args, **kw)
    assert e.value.code == code, str(e.value)
    return e.value.text


def test_life(shim):
    """Create, wait before start, two waiters, events in order, status kept until delete."""
    pid = shim.create(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], stdout=shim.log())
    assert state(shim).status == 1 and state(shim).pid == pid
    fails(EXISTS, shim.create, ["/bin/true"])
    waiters = [shim.client.task("Wait", id="c1", wait=False) for _ in range(2)]
    client = attach(shim.socket, "c1", mux=True)
    assert shim.client.task("Start", id="c1").pid == pid
    for w in waiters:
        assert w.result().exit_status == 3
    output = read_all(client)
    assert b"\1\0\0\0\0\0\0\4out\n" in output and b"\2\0\0\0\0\0\0\4err\n" in output
    assert sorted((l["stream"], l["log"]) for l in shim.lines()) == [("stderr", "err\n"),
                                                                     ("stdout", "out\n")]
    s = state(shim)
    assert s.status == 3 and s.exit_status == 3 and s.exited_at.seconds > 1.6e9
    fails(NOT_FOUND, shim.client.task, "Kill", id="c1", signal=15)
    fails(PRECONDITION, attach, shim.socket, "c1")
    fails(PRECONDITION, shim.client.task, "Start", id="c1")
    d = shim.client.task("Delete", id="c1")
    assert (d.pid, d.exit_status) == (pid, 3)
    fails(NOT_FOUND, shim.client.task, "State", id="c1")
    fails(NOT_FOUND, shim.client.task, "Wait", id="c1")
    shim.events.wait_for("/tasks/delete")
    assert shim.events.topics() == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]


def test_version_2_is_the_same_service(shim):
    shim.create(["/bin/sleep", "100"])
    r = shim.client.task("State", service="containerd.task.v2.Task", id="c1")
    assert r.status == 1
    fails(UNIMPLEMENTED, shim.client.task, "State", service="no.such.Task", id="c1")


def test_kill(shim):
    w = run(shim, ["/bin/sleep", "100"])
    assert state(shim).status == 2
    fails(PRECONDITION, shim.client.task, "Delete", id="c1")
    shim.client.task("Kill", id="c1", signal=9)
    assert w.result().exit_status == 137
    shim.client.task("Delete", id="c1")


def test_kill_all(shim):
    w = run(shim, ["/bin/sleep", "100"])
    shim.client.task("Kill", id="c1", signal=9, all=True)
    assert w.result().exit_status == 137


def test_runtime_error_is_passed_on(shim):
    text = fails(2, shim.create, ["/no/such/program"])
    assert text.startswith("OCI runtime create failed: ") and "/no/such/program" in text
    fails(NOT_FOUND, shim.client.task, "State", id="c1")
    # The same id can be used again.
    assert run(shim, ["/bin/true"]).result().exit_status == 0


def test_missing_runtime(base):
    s = Shim(base, "c1", "no-such-runtime").start()
    try:
        assert "no-such-runtime" in fails(NOT_FOUND, s.create, ["/bin/true"])
    finally:
        s.close()


def test_stdin_once(shim):
    shim.create(["/bin/cat"], stdout=shim.log(stdin="once"))
    client = attach(shim.socket, "c1")
    shim.client.task("Start", id="c1")
    client.sendall(b"hello\n")
    assert client.recv(100) == b"hello\n"
    client.shutdown(1)
    assert read_all(client) == b""
    assert shim.client.task("Wait", id="c1").exit_status == 0


def test_stdin_stays_open(shim):
    run(shim, ["/bin/cat"], stdout=shim.log(stdin="open"))
    first = attach(shim.socket, "c1")
    first.sendall(b"1\n")
    assert first.recv(100) == b"1\n"
    first.close()
    second, third = attach(shim.socket, "c1"), attach(shim.socket, "c1", stdin=False)
    second.sendall(b"2\n")
    assert second.recv(100) == b"2\n" and third.recv(100) == b"2\n"
    shim.client.task("CloseIO", id="c1", stdin=True)
    assert shim.client.task("Wait", id="c1").exit_status == 0
    assert read_all(second) == read_all(third) == b""


def test_terminal(shim):
    shim.create(["/bin/sh"], terminal=True, stdout=shim.log(stdin="open"))
    shim.client.task("ResizePty", id="c1", width=100, height=40)
    client = attach(shim.socket, "c1", keys="1011")
    shim.client.task("Start", id="c1")
    client.sendall(b"stty size; echo x$((1+1))\n")
    seen = b""
    while b"x2" not in seen:
        seen += client.recv(1000)
    assert b"40 100" in seen
    client.sendall(b"\x10\x11")  # detach
    while client.recv(1000):
        pass
    assert state(shim).status == 2
    again = attach(shim.socket, "c1")
    again.sendall(b"exit 7\n")
    read_all(again)
    assert shim.client.task("Wait", id="c1").exit_status == 7


def test_exec(shim):
    w = run(shim, ["/bin/sleep", "100"])
    shim.exec("e1", ["/bin/sh", "-c", "cat; echo done >&2; exit 5"],
              stdout="kistl-log:///?driver=none&stdin=once")
    fails(EXISTS, shim.exec, "e1", ["/bin/true"])
    client = attach(shim.socket, "c1", "e1", mux=True)
    ew = shim.client.task("Wait", id="c1", exec_id="e1", wait=False)
    shim.client.task("Start", id="c1", exec_id="e1")
    client.sendall(b"abc")
    client.shutdown(1)
    assert read_all(client) == b"\1\0\0\0\0\0\0\3abc\2\0\0\0\0\0\0\5done\n"
    assert ew.result().exit_status == 5
    assert shim.client.task("Delete", id="c1", exec_id="e1").exit_status == 5
    fails(NOT_FOUND, state, shim, exec_id="e1")

    shim.exec("e2", ["/bin/sleep", "100"])
    shim.client.task("Start", id="c1", exec_id="e2")
    ew = shim.client.task("Wait", id="c1", exec_id="e2", wait=False)
    pids = shim.client.task("Pids", id="c1").processes
    assert len(pids) == 2 and [p.info.type_url for p in pids].count(
        "containerd.runc.v1.ProcessDetails") == 1
    shim.client.task("Kill", id="c1", signal=9)
    assert w.result().exit_status == 137 and ew.result().exit_status == 137
    shim.client.task("Delete", id="c1")
    shim.events.wait_for("/tasks/delete")
    t = shim.events.topics()
    assert t == ["/tasks/create", "/tasks/start", "/tasks/exec-added", "/tasks/exec-started",
                 "/tasks/exit", "/tasks/exec-added", "/tasks/exec-started", "/tasks/exit",
                 "/tasks/exit", "/tasks/delete"]
    exits = [e.id for topic, e in shim.events.events if topic == "/tasks/exit"]
    assert exits == ["e1", "e2", "c1"]


def test_exec_terminal_and_failure(shim):
    run(shim, ["/bin/sleep", "100"])
    # crun 1.8's exec knows of no size: the shim sets it when the terminal comes, beside the process.
    shim.exec("tty", ["/bin/sh", "-c", "until stty size | grep 33; do sleep 0.05; done"], terminal=True,
              stdout="kistl-log:///?driver=none")
    shim.client.task("ResizePty", id="c1", exec_id="tty", width=33, height=11)
    client = attach(shim.socket, "c1", "tty")
    shim.client.task("Start", id="c1", exec_id="tty")
    assert b"11 33" in read_all(client)
    shim.exec("bad", ["/no/such"])
    text = fails(2, shim.client.task, "Start", id="c1", exec_id="bad")
    assert text.startswith("OCI runtime exec failed: ") and "/no/such" in text
    shim.client.task("Delete", id="c1", exec_id="bad")


def test_concurrent_execs(shim):
    run(shim, ["/bin/sleep", "100"])
    names = [f"e{i}" for i in range(8)]
    for name in names:
        shim.exec(name, ["/bin/sh", "-c", f"exit {name[1:]}"])
    starts = [shim.client.task("Start", id="c1", exec_id=n, wait=False) for n in names]
    waits = [shim.client.task("Wait", id="c1", exec_id=n, wait=False) for n in names]
    for s in starts:
        s.result()
    assert [w.result().exit_status for w in waits] == list(range(8))


def test_much_output_is_complete(shim):
    """5 MB past a slow client and into a rotated log."""
    shim.create(["/bin/sh", "-c", "seq 1 700000"],
                stdout=shim.log(max_size=1 << 20, max_file=3))
    client = attach(shim.socket, "c1")
    shim.client.task("Start", id="c1")
    time.sleep(0.3)
    assert state(shim).status == 2, "the client must hold the container back"
    output = read_all(client)
    assert output == b"".join(b"%d\n" % i for i in range(1, 700001))
    assert shim.client.task("Wait", id="c1").exit_status == 0
    assert [shim.lines(n)[-1]["log"] for n in ("log",)] == ["700000\n"]
    sizes = [os.path.getsize(f"{shim.base}/{n}") for n in ("log.1", "log.2")]
    assert all(1 << 20 <= s < (1 << 20) + 65536 for s in sizes)
    assert not os.path.exists(shim.base + "/log.3")


def test_output_to_nobody_does_not_block(shim):
    w = run(shim, ["/bin/sh", "-c", "seq 1 300000"], stdout="kistl-log:///?driver=none")
    assert w.result().exit_status == 0


def test_client_that_goes_does_not_hurt(shim):
    shim.create(["/bin/sh", "-c", "seq 1 300000"], stdout="kistl-log:///?driver=none")
    client = attach(shim.socket, "c1")
    shim.client.task("Start", id="c1")
    client.recv(10)
    client.close()
    assert shim.client.task("Wait", id="c1").exit_status == 0


def test_fifos_and_files(shim):
    paths = {n: f"{shim.base}/{n}" for n in ("in", "out")}
    for p in paths.values():
        os.mkfifo(p)
    reader = os.open(paths["out"], os.O_RDONLY | os.O_NONBLOCK)
    shim.create(["/bin/sh", "-c", "cat; echo e >&2"], stdin=paths["in"], stdout=paths["out"],
                stderr=f"file://{shim.base}/d/err")
    shim.client.task("Start", id="c1")
    writer = os.open(paths["in"], os.O_WRONLY)
    os.write(writer, b"via fifo")
    os.close(writer)
    time.sleep(0.1)
    assert state(shim).status == 2, "the writer's going is not the end"
    shim.client.task("CloseIO", id="c1", stdin=True)
    assert shim.client.task("Wait", id="c1").exit_status == 0
    os.set_blocking(reader, True)
    assert os.read(reader, 100) == b"via fifo" and os.read(reader, 100) == b""
    with open(shim.base + "/d/err") as f:
        assert f.read() == "e\n"


def test_binary_logger(shim):
    logger = shim.base + "/logger"
    with open(logger, "w") as f:
        f.write("#!/bin/sh\nexec 5>&-\ncat <&3 >$2.out &\ncat <&4 >$2.err\nwait\n"
                "echo $CONTAINER_ID $CONTAINER_NAMESPACE $1 >$2.env\n")
    os.chmod(logger, 0o755)
    to = shim.base + "/logged"
    w = run(shim, ["/bin/sh", "-c", "echo o; echo e >&2"], stdout=f"binary://{logger}?to={to}",
            stderr=f"binary://{logger}?to={to}")
    assert w.result().exit_status == 0
    deadline = time.time() + 5
    while not os.path.exists(to + ".env") and time.time() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert [open(to + s).read() for s in (".out", ".err", ".env")] == ["o\n", "e\n",
                                                                       "c1 test to\n"]


def test_cri_log_and_reopen(shim):
    shim.create(["/bin/sh", "-c", "echo one; cat; printf end"],
                stdout=shim.log(driver="cri", stdin="once"))
    client = attach(shim.socket, "c1")
    shim.client.task("Start", id="c1")
    assert client.recv(10) == b"one\n"
    os.rename(shim.base + "/log", shim.base + "/old")
    ctl = shimlib.socket.socket(shimlib.socket.AF_UNIX)
    ctl.connect(shim.socket)
    ctl.sendall(b'KREOPEN1 {"id":"c1"}\n')
    assert ctl.recv(10) == b"OK\n"
    client.shutdown(1)
    shim.client.task("Wait", id="c1")
    with open(shim.base + "/old") as old, open(shim.base + "/log") as new:
        assert old.read().split(" ", 1)[1] == "stdout F one\n"
        assert new.read().split(" ", 1)[1] == "stdout P end\n"


def test_pause_resume_update_stats(shim):
    w = run(shim, ["/bin/sleep", "100"])
    stats = shim.client.task("Stats", id="c1").stats
    m = shimlib.message(stats.type_url).FromString(stats.value)
    assert m.pids.current == 1 and m.memory.usage is not None
    if stats.type_url == "io.containerd.cgroups.v1.Metrics":
        assert m.cpu.usage.total > 0 and m.memory.usage.usage > 0
    resources = shimlib.message("google.protobuf.Any")(
        type_url="types.containerd.io/opencontainers/runtime-spec/1/LinuxResources",
        value=b'{"pids":{"limit":77}}')
    shim.client.task("Update", id="c1", resources=resources)
    stats = shim.client.task("Stats", id="c1").stats
    assert shimlib.message(stats.type_url).FromString(stats.value).pids.limit == 77
    shim.client.task("Pause", id="c1")
    assert state(shim).status == 4
    shim.client.task("Resume", id="c1")
    assert state(shim).status == 2
    shim.client.task("Pause", id="c1")
    shim.client.task("Kill", id="c1", signal=9)
    assert w.result().exit_status == 137


def test_oom(shim):
    def limit(spec):
        spec["linux"]["resources"]["memory"] = {"limit": 32 << 20, "swap": 32 << 20}
    shim.create(["/bin/sh", "-c", "head -c 200m /dev/zero | tail"], edit=limit)
    shim.client.task("Start", id="c1")
    shim.client.task("Wait", id="c1")
    shim.events.wait_for("/tasks/exit")
    t = shim.events.topics()
    assert t.index("/tasks/oom") < t.index("/tasks/exit")
    assert os.path.exists(shim.bundle + "/oom")


def test_two_containers_in_one_shim(shim):
    shim.create(["/bin/sleep", "100"])
    shim.create(["/bin/sleep", "100"], cid="c2")
    for cid in ("c1", "c2"):
        shim.client.task("Start", id=cid)
    shim.client.task("Shutdown", id="c1")  # refused in silence: containers are left
    shim.client.task("Kill", id="c1", signal=9)
    shim.client.task("Wait", id="c1")
    shim.client.task("Delete", id="c1")
    assert state(shim, "c2").status == 2


def test_start_finds_the_group(base):
    s = Shim(base, "pod1", "crun").start()
    try:
        bundle = s.make_bundle("c2", ["/bin/true"], edit=lambda spec: spec.update(
            annotations={"io.kubernetes.cri.sandbox-id": "pod1"}))
        s.id = "c2"
        r = s.command("start", bundle=bundle)
        assert shimlib.json.loads(r.stdout)["address"] == "unix://" + s.socket
    finally:
        s.id = "pod1"
        s.close()


def test_long_paths(base):
    base = base / ("d" * 60) / ("e" * 60)
    base.mkdir(parents=True)
    s = Shim.__new__(Shim)
    cwd = os.getcwd()
    os.chdir(base)  # so that Python, too, can bind and connect
    try:
        s.base, s.id, s.runtime = str(base), "c1", "crun"
        s.address, s.bundles, s.client = s.base + "/kistl.sock", {}, None
        s.events = shimlib.EventServer("kistl.sock.ttrpc")
        s.bundle = s.make_bundle("c1", ["/bin/true"])
        boot = shimlib.json.loads(s.command("start").stdout)
        s.socket = os.path.relpath(boot["address"].removeprefix("unix://"))
        s.client = Client(s.socket)
        s.create(["/bin/echo", "hi"], terminal=True, stdout=s.log())
        client = attach(s.socket, "c1")
        s.client.task("Start", id="c1")
        assert read_all(client) == b"hi\r\n"
        s.events.wait_for("/tasks/exit")
    finally:
        s.close()
        os.chdir(cwd)


def test_delete_after_the_shim_was_killed(shim):
    run(shim, ["/bin/sleep", "1000"])
    pid = state(shim).pid
    os.kill(shim.pid, signal.SIGKILL)
    for _ in range(2):  # idempotent
        r = shim.command("-bundle", shim.bundle, "delete")
        assert r.returncode == 0, r.stderr
        d = shimlib.message("containerd.task.v3.DeleteResponse").FromString(r.stdout)
        assert d.pid == pid and d.exit_status == 137
    wait_gone(pid)


def test_serve_on_a_given_socket(base):
    """The daemon's way: one exec, the listening socket as descriptor 3."""
    s = Shim(base, "c1", "crun")
    path = s.base + "/direct.sock"
    listener = shimlib.socket.socket(shimlib.socket.AF_UNIX)
    listener.bind(path)
    listener.listen(8)
    proc = subprocess.Popen(
        [shimlib.SHIM, "--namespace", "test", "--id=c1", "-address", s.address, "-bundle", s.bundle,
         "serve"], env=dict(os.environ, TTRPC_ADDRESS=s.address + ".ttrpc"),
        pass_fds=[3], preexec_fn=lambda: os.dup2(listener.fileno(), 3))
    try:
        s.client, s.socket = Client(path), path
        w = run(s, ["/bin/true"], stdout=s.log())
        assert w.result().exit_status == 0
    finally:
        s.close()
        assert proc.wait(10) == 0


def test_info_and_bad_flags(base):
    r = subprocess.run([shimlib.SHIM, "-info"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert shimlib.message("containerd.types.RuntimeInfo").FromString(
        r.stdout).name == "io.containerd.kistl.v2"
    for words in (["-bogus"], ["-id", "../x", "start"], ["start"],
                  ["-namespace", "n", "-id", "i", "fly"]):
        r = subprocess.run([shimlib.SHIM] + words, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert r.returncode == 1 and r.stderr.startswith(b"kistl-shim: ") and not r.stdout


def test_delete_races_an_exec(shim):
    """An exec that is being started when its container ends and is deleted fails, no more."""
    w = run(shim, ["/bin/sleep", "100"])
    shim.exec("e1", ["/bin/sleep", "100"])
    starting = shim.client.task("Start", id="c1", exec_id="e1", wait=False)
    shim.client.task("Kill", id="c1", signal=9)
    assert w.result().exit_status == 137
    shim.client.task("Delete", id="c1")
    try:
        starting.result()
    except RpcError:
        pass
    fails(NOT_FOUND, state, shim)


def test_delete_of_what_was_never_started(shim):
    pid = shim.create(["/bin/sleep", "100"])
    w = shim.client.task("Wait", id="c1", wait=False)
    assert shim.client.task("Delete", id="c1").pid == pid
    try:
        w.result()
    except RpcError as e:
        assert e.code == NOT_FOUND
    wait_gone(pid)


def test_old_daemons_get_a_plain_address(base):
    s = Shim(base, "c1", "crun").start()
    try:
        env = dict(os.environ, GOMAXPROCS="2")
        env.pop("MAX_SHIM_VERSION", None)
        r = subprocess.run([shimlib.SHIM, "-namespace", "test", "-id", "c1", "-address", s.address,
                            "start"], cwd=s.bundle, env=env, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE)
        assert r.stdout.decode() == "unix://" + s.socket
    finally:
        s.close()
