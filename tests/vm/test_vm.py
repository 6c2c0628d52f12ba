# SPDX-License-Identifier: Apache-2.0
"""Kistl on a host with cgroup v2 only, inside the guest that tests/vm/run boots."""

import json
import os
import pathlib
import time

import pytest

from harness import container_cgroups, until

CGROUPS = pathlib.Path("/sys/fs/cgroup")
RUNTIMES = ["crun", "runc"]
both = pytest.mark.parametrize("runtime", RUNTIMES)


def sleeper(kistl, name, *flags, command=("sleep", "1000")):
    kistl("run", "-d", "--name", name, *flags, "busybox", *command)
    return cgroup(kistl, name)


def cgroup(kistl, name):
    return CGROUPS / "kistl" / kistl.inspect(name, "{{.Id}}")


def read(path, name):
    return (path / name).read_text().strip()


def stats(daemon, name, wanted=lambda s: True):
    """One sample for which wanted() is true, or the last."""
    def sample():
        status, s = daemon.request("GET", f"/containers/{name}/stats?stream=0")
        assert status == 200
        stats.last = s
        return wanted(s) and s
    return until(sample, 30, step=0.2) or stats.last


# ---- the host ----


def test_the_host_has_v2_only(daemon):
    with open("/proc/self/cgroup") as f:
        assert f.read().startswith("0::/")
    assert {"cpu", "io", "memory", "pids"} <= set(read(CGROUPS, "cgroup.controllers").split())
    info = daemon.request("GET", "/info")[1]
    assert info["CgroupVersion"] == "2" and info["CgroupDriver"] == "cgroupfs"


# ---- life ----


@both
def test_run(kistl, runtime):
    out = kistl("run", "--rm", "--runtime", runtime, "busybox", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert (out, out.err) == ("out\n", "err\n")


@both
def test_exec_logs_stop(kistl, runtime):
    path = sleeper(kistl, "one", "--runtime", runtime, command=("sh", "-c", "echo started; exec sleep 1000"))
    assert (path / "cgroup.procs").exists()
    assert kistl("exec", "one", "sh", "-c", "echo in $0", "here") == "in here\n"
    assert kistl("exec", "one", "sh", "-c", "exit 9", code=9) == ""
    assert until(lambda: kistl("logs", "one") == "started\n")
    assert kistl("stop", "-t", "1", "one") == "one\n"
    assert kistl.inspect("one", "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}") == "exited 137 false"
    assert not path.exists()
    kistl("start", "one")
    assert path.exists() and kistl("exec", "one", "echo", "again") == "again\n"


@both
def test_exec_joins_the_cgroup(kistl, runtime):
    path = sleeper(kistl, "one", "--runtime", runtime)
    with kistl.popen("exec", "one", "sleep", "500"):
        assert until(lambda: int(read(path, "pids.current")) == 2)
        assert len(kistl.lines("top", "one")) == 3


@both
def test_cgroup_namespace(kistl, runtime):
    """Private by default on v2, as with Docker; the container sees its own cgroup as the root."""
    script = "cat /proc/self/cgroup; ls /sys/fs/cgroup; grep ' /sys/fs/cgroup ' /proc/mounts"
    out = kistl("run", "--rm", "--runtime", runtime, "--memory", "32m", "busybox", "sh", "-c", script)
    assert out.startswith("0::/\n") and "memory.max" in out
    assert " cgroup2 ro," in out
    out = kistl("run", "--rm", "--runtime", runtime, "--cgroupns", "host", "busybox", "cat", "/proc/self/cgroup")
    assert out.startswith("0::/kistl/")


# ---- limits ----


@both
def test_limits_reach_the_cgroup(kistl, runtime):
    path = sleeper(kistl, "one", "--runtime", runtime, "--memory", "64m", "--memory-swap", "96m", "--memory-reservation",
                   "32m", "--cpus", "0.5", "--cpu-shares", "512", "--pids-limit", "33", "--cpuset-cpus", "0")
    assert read(path, "memory.max") == str(64 << 20)
    assert read(path, "memory.low") == str(32 << 20)
    if (path / "memory.swap.max").exists():
        assert read(path, "memory.swap.max") == str(32 << 20)
    assert read(path, "cpu.max") == "50000 100000"
    # OCI's shares 2..262144 onto weights 1..10000; newer runtimes bend the line so that 1024 is 100.
    assert 10 <= int(read(path, "cpu.weight")) <= 60
    assert read(path, "pids.max") == "33"
    assert read(path, "cpuset.cpus") == "0"


@both
def test_update(kistl, runtime):
    path = sleeper(kistl, "one", "--runtime", runtime, "--memory", "64m", "--cpus", "0.5", "--pids-limit", "33")
    kistl("update", "--memory", "96m", "--memory-swap", "96m", "--cpus", "0.25", "--pids-limit", "44", "one")
    assert read(path, "memory.max") == str(96 << 20)
    assert read(path, "cpu.max") == "25000 100000"
    assert read(path, "pids.max") == "44"


def test_no_swap_by_equal_limits(kistl):
    path = sleeper(kistl, "one", "--memory", "64m", "--memory-swap", "64m")
    if (path / "memory.swap.max").exists():
        assert read(path, "memory.swap.max") == "0"


@both
def test_memory_limit_kills(kistl, runtime):
    kistl("run", "--name", "oom", "--memory", "24m", "--memory-swap", "24m", "--runtime", runtime, "busybox",
          "sh", "-c", "exec tail /dev/zero", code=137)
    assert kistl.inspect("oom", "{{.State.OOMKilled}} {{.State.ExitCode}}") == "true 137"


def test_oom_kill_of_another_process(daemon, kistl):
    """The kernel takes a child of the container's first process: an event while it lives on."""
    since = time.time()
    path = sleeper(kistl, "oom", "--memory", "24m", "--memory-swap", "24m", command=(
        "sh", "-c", "tail /dev/zero; echo child $?; exec sleep 1000"))
    assert until(lambda: "child 137" in kistl("logs", "oom"))
    assert "oom_kill 1" in read(path, "memory.events").splitlines()
    assert kistl.inspect("oom", "{{.State.Running}}") == "true"

    def event():
        return "oom" in kistl("events", "--since", f"{since:.3f}", "--until", f"{time.time():.3f}",
                              "--filter", "container=oom", "--format", "{{.Action}}").split()
    assert until(event)
    assert kistl.inspect("oom", "{{.State.OOMKilled}} {{.State.Running}}") == "true true"
    kistl("stop", "-t", "0", "oom")
    assert kistl.inspect("oom", "{{.State.OOMKilled}}") == "true"
    kistl("start", "oom")
    assert until(lambda: kistl.inspect("oom", "{{.State.OOMKilled}}") == "true")


def test_oom_watch_is_quiet_without_oom(kistl):
    kistl("run", "--name", "near", "--memory", "64m", "busybox", "sh", "-c", "head -c 20000000 /dev/zero | tail | wc -c")
    assert kistl.inspect("near", "{{.State.OOMKilled}} {{.State.ExitCode}}") == "false 0"


@both
def test_pids_limit(kistl, runtime):
    out = kistl("run", "--rm", "--runtime", runtime, "--pids-limit", "6", "busybox", "sh", "-c",
                "for i in 1 2 3 4 5 6 7 8 9; do sleep 20 & done; echo done", code=None)
    assert "fork" in out.err


@both
def test_cpu_limit_throttles(kistl, runtime):
    path = sleeper(kistl, "busy", "--runtime", runtime, "--cpus", "0.1", command=("sh", "-c", "while :; do :; done"))

    def throttled():
        return int(dict(line.split() for line in read(path, "cpu.stat").splitlines())["nr_throttled"]) > 5
    assert until(throttled)


def test_devices(kistl):
    """Device rules are a BPF program on v2."""
    out = kistl("run", "--rm", "busybox", "sh", "-c", "mknod /tmp/m c 1 1 && cat /tmp/m", code=1)
    assert "not permitted" in out.err
    out = kistl("run", "--rm", "--device", "/dev/kmsg:/dev/k:r", "busybox", "sh", "-c", "echo x > /dev/k", code=1)
    assert "not permitted" in out.err
    kistl("run", "--rm", "--device", "/dev/kmsg:/dev/k:w", "busybox", "sh", "-c", "echo x > /dev/k")


# ---- what it uses ----


@both
def test_stats(daemon, kistl, runtime):
    sleeper(kistl, "busy", "--runtime", runtime, "--memory", "64m", "--pids-limit", "50", command=(
        "sh", "-c", "head -c 9000000 /dev/zero >/dev/shm/x; sleep 1000 & while :; do :; done"))
    s = stats(daemon, "busy", lambda s: s["memory_stats"]["usage"] > 9000000 and s["pids_stats"]["current"] >= 2
              and s["precpu_stats"].get("cpu_usage", {}).get("total_usage", 0) > 0)
    print(json.dumps(s))
    assert 9000000 < s["memory_stats"]["usage"] < 64 << 20
    assert s["memory_stats"]["limit"] == 64 << 20
    assert s["memory_stats"]["stats"]["file"] >= 9000000 and s["memory_stats"]["stats"]["anon"] > 0
    assert s["pids_stats"]["current"] >= 2 and s["pids_stats"]["limit"] == 50
    cpu, before = s["cpu_stats"], s["precpu_stats"]
    assert cpu["cpu_usage"]["total_usage"] > before["cpu_usage"]["total_usage"] > 0
    assert cpu["cpu_usage"]["usage_in_usermode"] > 0 and cpu["online_cpus"] == os.cpu_count()
    assert cpu["system_cpu_usage"] > before["system_cpu_usage"]
    row = json.loads(kistl("stats", "--no-stream", "--format", "{{json .}}", "busy"))
    assert row["PIDs"] == "2" and "64MiB" in row["MemUsage"] and float(row["CPUPerc"].rstrip("%")) > 10


def test_stats_without_limits(daemon, kistl):
    sleeper(kistl, "idle")
    s = stats(daemon, "idle")
    total = int(next(line for line in open("/proc/meminfo") if line.startswith("MemTotal")).split()[1]) * 1024
    assert 0 < s["memory_stats"]["usage"] < 64 << 20 and s["memory_stats"]["limit"] == total
    assert s["pids_stats"]["current"] == 1
    assert s["cpu_stats"]["cpu_usage"]["total_usage"] > 0


@both
def test_pause(kistl, runtime):
    path = sleeper(kistl, "one", "--runtime", runtime, command=("sh", "-c", "while :; do :; done"))
    kistl("pause", "one")
    assert read(path, "cgroup.freeze") == "1" and "frozen 1" in read(path, "cgroup.events")
    assert kistl.inspect("one", "{{.State.Status}} {{.State.Paused}}") == "paused true"
    assert "paused" in kistl("exec", "one", "true", code=None).err
    kistl("unpause", "one")
    assert read(path, "cgroup.freeze") == "0" and kistl.inspect("one", "{{.State.Status}}") == "running"
    assert kistl("exec", "one", "echo", "back") == "back\n"


def test_paused_container_can_be_removed(kistl):
    path = sleeper(kistl, "one")
    kistl("pause", "one")
    kistl("rm", "-f", "one")
    assert not path.exists()


# ---- network ----


def test_two_containers_on_the_bridge(kistl):
    sleeper(kistl, "server", command=("nc", "-ll", "-p", "80", "-e", "echo", "hello from the server"))
    address = kistl.inspect("server", "{{.NetworkSettings.IPAddress}}")

    def ask():
        return kistl("run", "--rm", "busybox", "nc", "-w", "20", address, "80", code=None) == "hello from the server\n"
    assert until(ask, step=0.5)


def test_published_port(kistl):
    sleeper(kistl, "server", "-p", "127.0.0.1:8080:80", command=("nc", "-ll", "-p", "80", "-e", "echo", "published"))
    import socket

    def ask():
        try:
            with socket.create_connection(("127.0.0.1", 8080), 20) as s:
                return s.recv(100) == b"published\n"
        except OSError:
            return False
    assert until(ask, step=0.5)


# ---- the daemon ----


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_restart_with_running_containers(daemon, kistl, kill):
    paths = {r: sleeper(kistl, r, "--runtime", r, "--memory", "32m", "--memory-swap", "32m", "-p", "80", command=(
        "sh", "-c", "i=0; while sleep 1; do echo $((i=i+1)); [ -e /eat ] && exec tail /dev/zero; done"))
        for r in RUNTIMES}
    pids = {r: kistl.inspect(r, "{{.State.Pid}}") for r in RUNTIMES}
    daemon.restart(kill=kill)
    for r in RUNTIMES:
        assert kistl.inspect(r, "{{.State.Status}} {{.State.Pid}}") == f"running {pids[r]}"
        assert kistl("exec", r, "echo", "still").strip() == "still" and paths[r].exists()
    assert stats(daemon, "crun")["pids_stats"]["current"] > 0
    kistl("exec", "crun", "touch", "/eat")
    assert kistl("wait", "crun") == "137\n"
    assert kistl.inspect("crun", "{{.State.OOMKilled}}") == "true"
    kistl("stop", "-t", "0", "runc")
    assert until(lambda: not any(p.exists() for p in paths.values()))


def test_end_while_the_daemon_is_away(daemon, kistl):
    path = sleeper(kistl, "eater", "--memory", "24m", "--memory-swap", "24m", command=(
        "sh", "-c", "while ! [ -e /eat ]; do sleep 1; done; exec tail /dev/zero"))
    pid = int(kistl.inspect("eater", "{{.State.Pid}}"))
    daemon.kill9()
    pathlib.Path(f"/proc/{pid}/root/eat").touch()
    assert until(lambda: not os.path.exists(f"/proc/{pid}"))
    daemon.start()
    assert until(lambda: kistl.inspect("eater", "{{.State.Status}}") == "exited")
    assert kistl.inspect("eater", "{{.State.ExitCode}} {{.State.OOMKilled}}") == "137 true"
    assert until(lambda: not path.exists())


def test_no_cgroup_is_left(daemon, kistl):
    for i in range(4):
        kistl("run", "--rm", "--runtime", RUNTIMES[i % 2], "busybox", "true")
        kistl("run", "-d", "--name", f"c{i}", "busybox", "sleep", "1000")
    assert len(container_cgroups()) == 4
    daemon.remove_containers()
    assert until(lambda: not container_cgroups())
