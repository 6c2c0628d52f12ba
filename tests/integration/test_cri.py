# SPDX-License-Identifier: Apache-2.0
"""The CRI's RuntimeService as gRPC's Python client sees it: every call, bad input, clients that give up, many at
once, and a daemon that dies. Streams (exec, attach, port-forward) have a suite of their own; here is who gets an URL."""

import glob
import json
import os
import pathlib
import re
import threading
import time
import uuid

import grpc
import pytest

from cri import Service, container, fails, pod
from crinode import (BUSYBOX, CREATED, EXITED, NOTREADY, POD_NET, READY, RUNNING, Node, cri, exits, log_of,  # noqa: F401
                     memory_limit, node, one, output, own_node, pid_of, state)
from harness import background, links, until

# ---- pods ----

def test_pod_life(node, cri):
    pod_id, config = node.pod(cri, labels={"a": "1", "b": "x"}, annotations={"k": "v\n w"})
    assert re.fullmatch("[0-9a-f]{64}", pod_id)
    s = cri.PodSandboxStatus(pod_sandbox_id=pod_id)
    assert s.status.id == pod_id and s.status.state == READY and s.status.created_at > 0
    assert s.status.metadata.name == config["metadata"]["name"] and s.status.metadata.uid == config["metadata"]["uid"]
    assert dict(s.status.labels) == config["labels"] and dict(s.status.annotations) == config["annotations"]
    assert s.status.linux.namespaces.options.network == 2 and s.status.linux.namespaces.options.pid == 1
    assert not s.status.HasField("network") and not s.info and s.timestamp > 0
    assert json.loads(cri.PodSandboxStatus(pod_sandbox_id=pod_id[:12], verbose=True).info["info"])["config"]
    listed = cri.ListPodSandbox().items
    assert [p.id for p in listed] == [pod_id] and dict(listed[0].annotations) == config["annotations"]
    cri.StopPodSandbox(pod_sandbox_id=pod_id)
    assert cri.PodSandboxStatus(pod_sandbox_id=pod_id).status.state == NOTREADY
    cri.StopPodSandbox(pod_sandbox_id=pod_id)
    with fails("FAILED_PRECONDITION"):
        cri.CreateContainer(pod_sandbox_id=pod_id, config=container(), sandbox_config=config)
    cri.RemovePodSandbox(pod_sandbox_id=pod_id)
    cri.RemovePodSandbox(pod_sandbox_id=pod_id)
    with fails("NOT_FOUND"):
        cri.PodSandboxStatus(pod_sandbox_id=pod_id)
    node.assert_clean()


def test_pod_filters(node, cri):
    a, _ = node.pod(cri, labels={"app": "x", "n": "1"})
    b, _ = node.pod(cri, labels={"app": "x", "n": "2"})
    cri.StopPodSandbox(pod_sandbox_id=b)

    def ids(**f):
        return {p.id for p in cri.ListPodSandbox(filter=f).items}

    assert ids() == {a, b} and ids(label_selector={"app": "x"}) == {a, b}
    assert ids(label_selector={"app": "x", "n": "2"}) == {b} and ids(label_selector={"app": "y"}) == set()
    assert ids(state={"state": READY}) == {a} and ids(state={"state": NOTREADY}) == {b}
    assert ids(id=a) == {a} and ids(id=a[:13]) == {a} and ids(id="0" * 64) == set()
    assert {p.id for r in cri.StreamPodSandboxes(filter={"state": {"state": READY}}) for p in r.pod_sandboxes} == {a}


def test_pod_network(node, cri):
    a, config = node.pod(cri, **POD_NET)
    b, config_b = node.pod(cri, **POD_NET)
    ip = cri.PodSandboxStatus(pod_sandbox_id=a).status.network.ip
    ip_b = cri.PodSandboxStatus(pod_sandbox_id=b).status.network.ip
    assert ip.startswith(node.subnet.rsplit(".", 1)[0]) and ip != ip_b
    assert ip in output(node, cri, a, config, "ip -4 addr show dev eth0")
    node.run(cri, a, config, name="web", command=["sh", "-c", "echo pong | nc -l -p 8080"])
    until(lambda: "8080" in output(node, cri, a, config, "netstat -ltn"))
    assert output(node, cri, b, config_b, f"nc {ip} 8080 </dev/null") == "pong"
    network = cri.PodSandboxStats(pod_sandbox_id=a).stats.linux.network
    assert network.default_interface.name == "eth0" and network.default_interface.rx_bytes.value > 0
    assert cri.PodSandboxStats(pod_sandbox_id=b).stats.linux.process.process_count.value == 0
    for p in (a, b):
        cri.StopPodSandbox(pod_sandbox_id=p)
        assert not [link for link in links() if link.get("master") == node.bridge] or p == a
    cri.RemovePodSandbox(pod_sandbox_id=a)
    cri.RemovePodSandbox(pod_sandbox_id=b)
    node.assert_clean()


def test_pod_files(node, cri):
    p, config = node.pod(cri, hostname="my-host", dns_config={
        "servers": ["10.10.10.10"], "searches": ["google.com"], "options": ["ndots:8"]}, **POD_NET)
    text = output(node, cri, p, config, "hostname; cat /etc/hostname /etc/resolv.conf; ls /dev/shm; df /dev/shm | tail -1")
    assert text.startswith("my-host\nmy-host\n")
    for line in ("nameserver 10.10.10.10", "search google.com", "options ndots:8"):
        assert line in text


def test_shared_namespaces(node, cri):
    options = {"network": 2, "pid": 0, "ipc": 0}
    linux = {"security_context": {"namespace_options": options}}
    p, config = node.pod(cri, linux=linux)
    node.run(cri, p, config, name="first", command=["sh", "-c", "echo x > /dev/shm/y; exec sleep 12345"], linux=linux)
    text = until(lambda: (lambda t: t if "sleep 12345" in t else None)(
        output(node, cri, p, config, "ps -o pid,args; cat /dev/shm/y", linux=linux)))
    assert text and "x" in text.splitlines()
    assert not re.search(r"^ *1 (sleep|sh)", text, re.M)
    cri.StopPodSandbox(pod_sandbox_id=p)


def test_user_namespace(node, cri):
    """Also the reaper of shared pids is one of the pod's users, to whom the bundle is open."""
    mapping = [{"host_id": 100000, "container_id": 0, "length": 65536}]
    for pid in (0, 1):
        options = {"pid": pid, "userns_options": {"mode": 0, "uids": mapping, "gids": mapping}}
        linux = {"security_context": {"namespace_options": options}}
        p, config = node.pod(cri, linux=linux)
        text = output(node, cri, p, config, "cat /proc/self/uid_map; stat -c %u /bin/busybox", linux=linux)
        assert text.split() == ["0", "100000", "65536", "0"]
        cri.RemovePodSandbox(pod_sandbox_id=p)


# ---- containers ----

def test_container_life(node, cri):
    p, config = node.pod(cri)
    fields = container(labels={"l": "1"}, annotations={"a": "2"}, log_path="x/c.log",
                       image={"image": BUSYBOX, "user_specified_image": "busybox"})
    id = cri.CreateContainer(pod_sandbox_id=p[:14], config=fields, sandbox_config=config).container_id
    s = cri.ContainerStatus(container_id=id).status
    image = cri.ImageStatus(image={"image": BUSYBOX}).image
    assert (s.state, s.started_at, s.finished_at, s.exit_code, s.reason) == (CREATED, 0, 0, 0, "")
    assert s.created_at > 0 and s.image_id == image.id and s.image_ref == image.repo_digests[0]
    assert s.image.image == BUSYBOX and s.image.user_specified_image == "busybox"
    assert dict(s.labels) == {"l": "1"} and dict(s.annotations) == {"a": "2"}
    assert s.log_path == config["log_directory"] + "/x/c.log"
    cri.StartContainer(container_id=id[:16])
    s = cri.ContainerStatus(container_id=id).status
    assert s.state == RUNNING and s.started_at >= s.created_at and s.finished_at == 0
    assert s.user.linux.uid == 0 and s.stop_signal == 23
    with fails("FAILED_PRECONDITION"):
        cri.StartContainer(container_id=id)
    cri.StopContainer(container_id=id, timeout=0)
    cri.StopContainer(container_id=id, timeout=0)
    s = cri.ContainerStatus(container_id=id).status
    assert (s.state, s.exit_code, s.reason) == (EXITED, 137, "Error") and s.finished_at >= s.started_at
    with fails("FAILED_PRECONDITION"):
        cri.StartContainer(container_id=id)
    cri.RemoveContainer(container_id=id)
    cri.RemoveContainer(container_id=id)
    cri.StopContainer(container_id=id)
    with fails("NOT_FOUND"):
        cri.ContainerStatus(container_id=id)
    assert os.path.exists(s.log_path)


def test_exit_codes(node, cri):
    p, config = node.pod(cri)
    for code, reason in ((0, "Completed"), (3, "Error")):
        id = node.run(cri, p, config, name=f"c{code}", command=["sh", "-c", f"exit {code}"])
        s = exits(cri, id)
        assert (s.exit_code, s.reason) == (code, reason)


def test_start_failure(node, cri):
    p, config = node.pod(cri)
    id = cri.CreateContainer(pod_sandbox_id=p, config=container(command=["/no/such"]), sandbox_config=config).container_id
    with pytest.raises(grpc.RpcError) as e:
        cri.StartContainer(container_id=id)
    assert "/no/such" in e.value.details() or "no such" in e.value.details().lower()
    s = cri.ContainerStatus(container_id=id).status
    assert (s.state, s.exit_code, s.reason) == (EXITED, 128, "StartError") and s.message
    cri.RemoveContainer(container_id=id)


def test_oom(node, cri):
    p, config = node.pod(cri)
    id = node.run(cri, p, config, command=["sh", "-c", "dd if=/dev/zero of=/dev/null bs=40M count=4"], linux={
        "resources": {"memory_limit_in_bytes": 15 << 20, "memory_swap_limit_in_bytes": 15 << 20}})
    s = exits(cri, id)
    assert (s.exit_code, s.reason) == (137, "OOMKilled")


def test_list_and_filters(node, cri, one):
    p, config, id = one
    other, other_config = node.pod(cri)
    created = cri.CreateContainer(pod_sandbox_id=other, config=container("second", labels={"x": "y"}),
                                  sandbox_config=other_config).container_id

    def ids(**f):
        return {c.id for c in cri.ListContainers(filter=f).containers}

    assert ids() == {id, created} and ids(id=id[:20]) == {id} and ids(pod_sandbox_id=other) == {created}
    assert ids(state={"state": RUNNING}) == {id} and ids(state={"state": CREATED}) == {created}
    assert ids(label_selector={"x": "y"}) == {created} and ids(label_selector={"x": "z"}) == set()
    unary = {c.id: c for c in cri.ListContainers().containers}
    assert unary == {c.id: c for r in cri.StreamContainers() for c in r.containers}
    assert unary[id].image_id == cri.ContainerStatus(container_id=id).status.image_id
    # A pod goes with what runs in it.
    cri.RemovePodSandbox(pod_sandbox_id=p)
    assert ids() == {created}


def test_remove_running(node, cri, one):
    cri.RemoveContainer(container_id=one[2])
    with fails("NOT_FOUND"):
        cri.ContainerStatus(container_id=one[2])


def test_command_and_environment(node, cri):
    p, config = node.pod(cri)

    def run(**fields):
        id = node.run(cri, p, config, name="e" + uuid.uuid4().hex[:6], **fields)
        exits(cri, id)
        return [text for _, _, text in log_of(cri, id)]

    assert run(command=["echo"], args=["a", "b c"]) == ["a b c"]
    assert run(command=[], args=["echo", "cmd"]) == ["cmd"]
    env = run(command=["env"], envs=[{"key": "A", "value": b"1"}, {"key": "FROM_IMAGE", "value": b"no"},
                                     {"key": "BAD", "value": b"x\xffy"}, {"key": "A", "value": b"2"}])
    assert "A=2" in env and "FROM_IMAGE=no" in env and "BAD=x\ufffdy" in env and "A=1" not in env
    assert run(command=["pwd"], working_dir="/tmp") == ["/tmp"]
    assert run(command=["sh", "-c", "echo out; echo err >&2"]) in (["out", "err"], ["err", "out"])


def test_security_context(node, cri):
    p, config = node.pod(cri, linux={"security_context": {"privileged": True, "namespace_options": {
        "network": 2, "pid": 1}}})

    def run(script, **security):
        return output(node, cri, p, config, script, linux={"security_context": security})

    assert run("id -u; id -g", run_as_user={"value": 1001}, run_as_group={"value": 1002}) == "1001\n1002"
    assert run("id -u", run_as_username="root") == "0"
    assert set(run("id -G", supplemental_groups=[1234, 5678]).split()) >= {"1234", "5678"}
    assert run("id -G", run_as_user={"value": 1001}, run_as_group={"value": 7}, supplemental_groups=[9],
               supplemental_groups_policy=1) == "7 9"
    assert run("touch /x 2>/dev/null || echo read-only", readonly_rootfs=True) == "read-only"
    assert "NoNewPrivs:\t1" in run("cat /proc/self/status", no_new_privs=True)
    assert "CapBnd:\t0000000000000000" in run("cat /proc/self/status", capabilities={"drop_capabilities": ["ALL"]})
    bounds = {name: int(re.search(r"CapBnd:\t(\w+)", run("cat /proc/self/status", **security))[1], 16)
              for name, security in (("default", {}), ("admin", {"capabilities": {"add_capabilities": ["NET_ADMIN"]}}),
                                     ("privileged", {"privileged": True}))}
    assert not bounds["default"] & (1 << 12) and bounds["admin"] & (1 << 12) and bounds["privileged"] > bounds["admin"]
    assert "Seccomp:\t0" in run("cat /proc/self/status")
    assert "Seccomp:\t2" in run("cat /proc/self/status", seccomp={})
    assert "Seccomp:\t0" in run("cat /proc/self/status", seccomp={"profile_type": 1})
    assert run("cat /proc/uptime", masked_paths=["/proc/uptime"]) == ""


def test_mounts(node, cri, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "f").write_text("content\n")
    (tmp_path / "link").symlink_to("real")
    p, config = node.pod(cri)
    mounts = [{"container_path": "/data", "host_path": str(tmp_path / "link"), "readonly": True},
              {"container_path": "/made", "host_path": str(tmp_path / "new" / "dir")}]
    id = node.run(cri, p, config, command=["sh", "-c", "cat /data/f; touch /data/g 2>/dev/null || echo no; touch /made/h"],
                  mounts=mounts)
    s = exits(cri, id)
    assert [text for _, _, text in log_of(cri, id)] == ["content", "no"]
    assert (tmp_path / "new" / "dir" / "h").exists()
    assert [(m.container_path, m.host_path, m.readonly) for m in s.mounts] == [
        (m["container_path"], m["host_path"], m.get("readonly", False)) for m in mounts]


def test_image_volume(node, cri):
    p, config = node.pod(cri)
    mount = {"container_path": "/image", "image": {"image": BUSYBOX}, "readonly": True}
    id = node.run(cri, p, config, command=["sh", "-c", "ls /image; touch /image/x 2>/dev/null || echo no; /image/bin/busybox true && echo runs"],
                  mounts=[mount])
    s = exits(cri, id)
    text = [t for _, _, t in log_of(cri, id)]
    assert "bin" in text and text[-2:] == ["no", "runs"]
    assert s.mounts[0].image.image == BUSYBOX and s.mounts[0].image.image_ref == s.image_id
    for bad, why in (({"readonly": False}, "readonly"), ({"host_path": "/tmp"}, "host_path")):
        with fails("INVALID_ARGUMENT", why):
            cri.CreateContainer(pod_sandbox_id=p, config=container("v" + why, mounts=[{**mount, **bad}]), sandbox_config=config)
    with fails("UNKNOWN", "ImageVolumeMountFailed"):
        cri.CreateContainer(pod_sandbox_id=p, sandbox_config=config,
                            config=container("v", mounts=[{**mount, "image": {"image": "nobody/knows:this"}}]))


def test_log_reopen(node, cri):
    p, config = node.pod(cri)
    id = node.run(cri, p, config, command=["sh", "-c", "i=0; while true; do echo line $i; i=$((i+1)); usleep 1000; done"])
    path = pathlib.Path(cri.ContainerStatus(container_id=id).status.log_path)
    until(lambda: path.exists() and path.stat().st_size > 1000)
    files = [path]
    for i in range(5):
        files.insert(0, path.with_suffix(f".{i}"))
        path.rename(files[0])
        cri.ReopenContainerLog(container_id=id)
        assert path.exists()
        until(lambda: path.stat().st_size > 500)
    cri.StopContainer(container_id=id, timeout=0)
    with fails("FAILED_PRECONDITION"):
        cri.ReopenContainerLog(container_id=id)
    text = "".join(f.read_text() for f in sorted(files, key=lambda f: (f == path, f.name)))
    numbers = [int(n) for n in re.findall(r" stdout F line (\d+)\n", text)]
    assert numbers == list(range(len(numbers))) and len(numbers) == text.count("\n")


def test_stop_signal(node, cri):
    p, config = node.pod(cri)
    script = "trap 'exit 7' USR1; trap 'exit 8' TERM; echo ready; while true; do usleep 10000; done"
    for signal_number, code in ((29, 7), (0, 8)):
        id = node.run(cri, p, config, name=f"s{code}", command=["sh", "-c", script], stop_signal=signal_number)
        assert cri.ContainerStatus(container_id=id).status.stop_signal == (signal_number or 23)
        assert until(lambda: log_of(cri, id))
        cri.StopContainer(container_id=id, timeout=20)
        assert exits(cri, id).exit_code == code


def test_stop_with_shrinking_timeout(node, cri):
    p, config = node.pod(cri)
    id = node.run(cri, p, config, command=["sh", "-c", "trap '' TERM; while true; do usleep 10000; done"])
    started = time.monotonic()
    first = background(lambda: cri.StopContainer(container_id=id, timeout=300, _timeout=310))
    second = background(lambda: cri.StopContainer(container_id=id, timeout=200, _timeout=310))
    until(lambda: "StopContainer" not in node.daemon.log()[-200:], 0.3)
    assert state(cri, id) == RUNNING
    cri.StopContainer(container_id=id, timeout=1)
    first.result(30)
    second.result(30)
    assert time.monotonic() - started < 60 and state(cri, id) == EXITED


def test_many_stops_hold_nothing_up(node, cri):
    """Graces of forty containers do not delay a list."""
    p, config = node.pod(cri)
    ids = [node.run(cri, p, config, name=f"w{i}", command=["sh", "-c", "trap '' TERM; while true; do usleep 50000; done"])
           for i in range(40)]
    stops = [cri.StopContainer(container_id=id, timeout=8, _future=True, _timeout=100) for id in ids]
    started = time.monotonic()
    for _ in range(10):
        assert len(cri.ListContainers().containers) == 40
        cri.Status()
        cri.PodSandboxStatus(pod_sandbox_id=p)
    assert time.monotonic() - started < 7
    for s in stops:
        s.result(100)


# ---- resources, statistics ----

def test_update_resources(node, cri):
    p, config = node.pod(cri)
    id = node.run(cri, p, config, linux={"resources": {
        "cpu_period": 100000, "cpu_quota": 20000, "cpu_shares": 512, "memory_limit_in_bytes": 64 << 20}})
    r = cri.ContainerStatus(container_id=id).status.resources.linux
    assert (r.cpu_period, r.cpu_quota, r.cpu_shares, r.memory_limit_in_bytes) == (100000, 20000, 512, 64 << 20)
    assert memory_limit(pid_of(cri, id)) == 64 << 20
    cri.UpdateContainerResources(container_id=id, linux={"memory_limit_in_bytes": 128 << 20, "cpu_shares": 1024})
    r = cri.ContainerStatus(container_id=id).status.resources.linux
    assert (r.cpu_quota, r.cpu_shares, r.memory_limit_in_bytes) == (20000, 1024, 128 << 20)
    assert memory_limit(pid_of(cri, id)) == 128 << 20
    cri.UpdateContainerResources(container_id=id, linux={"memory_limit_in_bytes": 32 << 20})
    assert memory_limit(pid_of(cri, id)) == 32 << 20
    with fails("INVALID_ARGUMENT", "memory_limit_in_bytes"):
        cri.UpdateContainerResources(container_id=id, linux={"memory_limit_in_bytes": -5})
    with fails("NOT_FOUND"):
        cri.UpdateContainerResources(container_id="0" * 64, linux={})
    cri.UpdatePodSandboxResources(pod_sandbox_id=p, resources={"memory_limit_in_bytes": 1 << 30})
    with fails("NOT_FOUND"):
        cri.UpdatePodSandboxResources(pod_sandbox_id="0" * 64)
    cri.StopContainer(container_id=id, timeout=0)
    with fails("FAILED_PRECONDITION"):
        cri.UpdateContainerResources(container_id=id, linux={"cpu_shares": 2})


def test_stats(node, cri, one):
    p, config, id = one
    busy = node.run(cri, p, config, name="busy", labels={"busy": "yes"},
                    command=["sh", "-c", "head -c 1000000 /dev/zero > /big; while true; do :; done"])
    cri.CreateContainer(pod_sandbox_id=p, config=container("idle"), sandbox_config=config)
    s = cri.ContainerStats(container_id=id).stats
    assert s.attributes.id == id and s.attributes.metadata.name == "c"
    assert s.cpu.timestamp > 0 and s.cpu.usage_core_nano_seconds.value > 0
    assert s.memory.timestamp > 0 and 0 < s.memory.working_set_bytes.value <= s.memory.usage_bytes.value
    assert s.writable_layer.fs_id.mountpoint == str(node.daemon.root) and s.writable_layer.timestamp > 0
    assert not s.memory.HasField("available_bytes")
    assert {x.attributes.id for x in cri.ListContainerStats().stats} == {id, busy}
    assert {x.attributes.id for r in cri.StreamContainerStats() for x in r.container_stats} == {id, busy}
    for f, expected in (({"label_selector": {"busy": "yes"}}, {busy}), ({"label_selector": {"busy": "no"}}, set()),
                        ({"id": id[:12]}, {id}), ({"pod_sandbox_id": p}, {id, busy}), ({"pod_sandbox_id": "ff"}, set())):
        assert {x.attributes.id for x in cri.ListContainerStats(filter=f).stats} == expected, f

    def cores():
        return {x.attributes.id: x.cpu.usage_nano_cores.value for x in cri.ListContainerStats().stats}

    assert until(lambda: cores()[busy] > 50_000_000 and cores()[id] < 50_000_000, step=0.6)
    q = cri.PodSandboxStats(pod_sandbox_id=p).stats
    assert q.attributes.id == p and q.attributes.metadata.name == config["metadata"]["name"]
    assert {x.attributes.id for x in q.linux.containers} == {id, busy} and q.linux.cpu.usage_core_nano_seconds.value > 0
    assert [x.attributes.id for x in cri.ListPodSandboxStats().stats] == [p]
    assert [x.attributes.id for r in cri.StreamPodSandboxStats() for x in r.pod_sandbox_stats] == [p]
    assert not cri.ListPodSandboxStats(filter={"label_selector": {"no": "way"}}).stats
    with fails("NOT_FOUND"):
        cri.ContainerStats(container_id="0" * 64)
    with fails("NOT_FOUND"):
        cri.PodSandboxStats(pod_sandbox_id="0" * 64)


METRICS = """blkio_device_usage_total cpu_cfs_periods_total cpu_cfs_throttled_periods_total
cpu_cfs_throttled_seconds_total cpu_system_seconds_total cpu_usage_seconds_total cpu_user_seconds_total
file_descriptors fs_inodes_free fs_inodes_total fs_limit_bytes fs_reads_bytes_total fs_reads_total fs_usage_bytes
fs_writes_bytes_total fs_writes_total hugetlb_max_usage_bytes hugetlb_usage_bytes last_seen memory_cache memory_failcnt
memory_failures_total memory_kernel_usage memory_mapped_file memory_max_usage_bytes memory_rss memory_swap
memory_usage_bytes memory_working_set_bytes network_receive_bytes_total network_receive_errors_total
network_receive_packets_total network_receive_packets_dropped_total network_transmit_bytes_total
network_transmit_errors_total network_transmit_packets_total network_transmit_packets_dropped_total oom_events_total
pressure_cpu_stalled_seconds_total pressure_cpu_waiting_seconds_total pressure_io_stalled_seconds_total
pressure_io_waiting_seconds_total pressure_memory_stalled_seconds_total pressure_memory_waiting_seconds_total processes
sockets spec_cpu_period spec_cpu_quota spec_cpu_shares spec_memory_limit_bytes spec_memory_reservation_limit_bytes
spec_memory_swap_limit_bytes start_time_seconds threads threads_max ulimits_soft""".split()


def test_metrics(node, cri):
    descriptors = {d.name: list(d.label_keys) for d in cri.ListMetricDescriptors().descriptors}
    assert len(METRICS) == 56 and set(descriptors) == {"container_" + name for name in METRICS}
    p, config = node.pod(cri, **POD_NET)
    id = node.run(cri, p, config, linux={"resources": {"cpu_period": 100000, "cpu_quota": 20000,
                                                       "memory_limit_in_bytes": 64 << 20}})
    for replies in ([cri.ListPodSandboxMetrics().pod_metrics], [r.pod_sandbox_metrics for r in cri.StreamPodSandboxMetrics()]):
        (pod_metrics,) = [m for reply in replies for m in reply]
        assert pod_metrics.pod_sandbox_id == p and pod_metrics.container_metrics[0].container_id == id
        found = list(pod_metrics.metrics) + list(pod_metrics.container_metrics[0].metrics)
        for m in found:
            assert len(m.label_values) == len(descriptors[m.name]) and m.timestamp > 0, m
        missing = set(descriptors) - {m.name for m in found}
        assert all("pressure" in m or "hugetlb" in m for m in missing), missing
        values = {m.name: m.value.value for m in found}
        assert values["container_spec_cpu_quota"] == 20000 and values["container_spec_memory_limit_bytes"] == 64 << 20
        labels = dict(zip(descriptors["container_memory_rss"], next(
            m for m in pod_metrics.container_metrics[0].metrics if m.name == "container_memory_rss").label_values))
        assert labels["container"] == "c" and labels["pod"] == config["metadata"]["name"] and id in labels["id"]


# ---- events ----

def test_events(node, cri):
    stream = cri.GetContainerEvents(_timeout=120)
    seen, done = [], threading.Event()

    def read():
        try:
            for e in stream:
                seen.append(e)
        except grpc.RpcError:
            done.set()

    threading.Thread(target=read, daemon=True).start()
    # Events are of what happens from now on; when that is, the first one tells.
    first, _ = node.pod(cri)
    assert until(lambda: seen or (node.pod(cri) and False), 20, step=0.2)
    node.clean(cri)
    p, config = node.pod(cri)
    id = node.run(cri, p, config)
    cri.StopContainer(container_id=id, timeout=0)
    cri.RemoveContainer(container_id=id)
    cri.StopPodSandbox(pod_sandbox_id=p)
    cri.RemovePodSandbox(pod_sandbox_id=p)
    ours = until(lambda: (lambda l: l if len(l) >= 8 else None)(
        [e for e in seen if e.pod_sandbox_status.id == p]), 20)
    assert ours, [(e.container_id[:6], e.container_event_type) for e in seen]
    assert [(e.container_id == p, e.container_event_type) for e in ours] == [
        (True, 0), (True, 1), (False, 0), (False, 1), (False, 2), (False, 3), (True, 2), (True, 3)]
    times = [e.created_at for e in seen]
    assert times == sorted(times) and len(set(times)) == len(times)
    assert all(e.pod_sandbox_status.metadata.uid == config["metadata"]["uid"] for e in ours)
    stream.cancel()
    assert done.wait(20)


# ---- creations ----

def test_same_request_same_pod(node, cri):
    config = pod(log_directory=str(node.logs))
    ids = {c.result().pod_sandbox_id for c in [cri.RunPodSandbox(config=config, _future=True) for _ in range(8)]}
    assert len(ids) == 1 and len(cri.ListPodSandbox().items) == 1
    p = ids.pop()
    fields = container()
    made = {c.result().container_id for c in [cri.CreateContainer(
        pod_sandbox_id=p, config=fields, sandbox_config=config, _future=True) for _ in range(8)]}
    assert len(made) == 1 and len(cri.ListContainers().containers) == 1
    with fails("ALREADY_EXISTS", p):
        cri.RunPodSandbox(config={**config, "labels": {"other": "one"}})
    with fails("ALREADY_EXISTS", made.pop()):
        cri.CreateContainer(pod_sandbox_id=p, config={**fields, "args": ["other"]}, sandbox_config=config)


def test_client_that_gives_up_comes_back(node, cri):
    for i in range(6):
        config = pod(log_directory=str(node.logs), **POD_NET)
        call = cri.RunPodSandbox(config=config, _future=True, _timeout=60)
        time.sleep(0.004 * i)
        call.cancel()
        p = cri.RunPodSandbox(config=config).pod_sandbox_id
        assert [x.id for x in cri.ListPodSandbox(filter={"label_selector": config["labels"]}).items] == [p]
        fields = container()
        call = cri.CreateContainer(pod_sandbox_id=p, config=fields, sandbox_config=config, _future=True)
        time.sleep(0.003 * i)
        call.cancel()
        id = cri.CreateContainer(pod_sandbox_id=p, config=fields, sandbox_config=config).container_id
        assert [c.id for c in cri.ListContainers(filter={"pod_sandbox_id": p}).containers] == [id]
        cri.StartContainer(container_id=id)


def test_deadline_while_creating(node, cri):
    config = pod(log_directory=str(node.logs), **POD_NET)
    with pytest.raises(grpc.RpcError):
        cri.RunPodSandbox(config=config, _timeout=0.001)
    assert cri.RunPodSandbox(config=config).pod_sandbox_id


def test_many_at_once(node, cri):
    def life(i):
        p, config = node.pod(cri, **POD_NET)
        id = node.run(cri, p, config, name=f"n{i}")
        assert state(cri, id) == RUNNING
        return p, id

    made = [b.result(120) for b in [background(life, i) for i in range(16)]]
    assert len({p for p, _ in made}) == 16
    ips = {cri.PodSandboxStatus(pod_sandbox_id=p).status.network.ip for p, _ in made}
    assert len(ips) == 16 and "" not in ips
    for b in [background(lambda p: cri.RemovePodSandbox(pod_sandbox_id=p), p) for p, _ in made]:
        b.result(120)
    assert not cri.ListPodSandbox().items and not cri.ListContainers().containers
    node.assert_clean()


@pytest.fixture
def pods_in_bulk(request):
    return 200 if request.config.getoption("--full") else 20


def test_up_and_down_leaves_nothing(node, cri, pods_in_bulk):
    def mounts():
        """Of this daemon's, where the host sees them: other suites may be running."""
        return sum(str(node.daemon.base) in line for line in open("/proc/self/mountinfo"))

    # What the first pod makes for all others stays.
    node.pod(cri, **POD_NET)
    node.clean(cri)
    before, fds = mounts(), node.daemon.fds()
    made = []
    for i in range(pods_in_bulk):
        p, config = node.pod(cri, **POD_NET)
        made.append((p, node.run(cri, p, config)))
    assert len(cri.ListContainers(filter={"state": {"state": RUNNING}}).containers) == pods_in_bulk
    for p, id in made:
        cri.StopContainer(container_id=id, timeout=0)
        cri.StopPodSandbox(pod_sandbox_id=p)
        cri.RemovePodSandbox(pod_sandbox_id=p)
    node.assert_clean(60)
    assert until(lambda: mounts() <= before), (mounts(), before)
    assert until(lambda: node.daemon.fds() <= fds + 8), (node.daemon.fds(), fds)


# ---- bad input ----

def ns(**options):
    return {"linux": {"security_context": {"namespace_options": {"network": 2, **options}}}}


BAD_PODS = [
    ({"metadata": None}, "metadata"),
    ({"metadata": {"name": "", "uid": "u", "namespace": "n"}}, "metadata"),
    ({"metadata": {"name": "n", "uid": "", "namespace": "n"}}, "uid"),
    (ns(network=1), "network"), (ns(network=3), "network"), (ns(network=9), "network"), (ns(ipc=1), "ipc"),
    (ns(pid=3), "pid"),
    (ns(userns_options={"mode": 1}), "userns_options"), (ns(userns_options={"mode": 3}), "userns_options"),
    (ns(userns_options={"mode": 0, "uids": [], "gids": []}), "userns_options"),
    (ns(userns_options={"mode": 0, "uids": [{"container_id": 1, "host_id": 1, "length": 1}],
                        "gids": [{"container_id": 1, "host_id": 1, "length": 1}]}), "not mapped"),
    (ns(userns_options={"mode": 0, "uids": [{"host_id": 1, "length": 1}] * 2,
                        "gids": [{"host_id": 1, "length": 1}] * 2}), "exactly one"),
    ({"linux": {"sysctls": {"kernel.panic": "1"}, **ns()["linux"]}}, "kernel.panic"),
    ({"linux": {"sysctls": {"../x": "1"}, **ns()["linux"]}}, "sysctls"),
    ({"linux": {"sysctls": {"net.core.somaxconn": "1"}, **ns()["linux"]}}, "network namespace"),
    ({"hostname": "x" * 65}, "hostname"), ({"log_directory": "relative"}, "log_directory"),
    ({"port_mappings": [{"protocol": 7, "container_port": 1}]}, "protocol"),
    ({"port_mappings": [{"container_port": 70000}]}, "port_mappings"),
    ({"linux": {"cgroup_parent": "/a/../../b", **ns()["linux"]}}, "cgroup_parent"),
    ({"linux": {"security_context": {"namespace_options": {"network": 2}, "run_as_group": {"value": 1}}}}, "run_as_group"),
    ({"linux": {"security_context": {"namespace_options": {"network": 2}, "seccomp": {
        "profile_type": 2, "localhost_ref": "/no/such"}}}}, "/no/such"),
]


@pytest.mark.parametrize("fields,names", BAD_PODS)
def test_bad_pod(node, cri, fields, names):
    config = pod(**fields)
    if fields.get("metadata", 1) is None:
        del config["metadata"]
    with fails("INVALID_ARGUMENT", names):
        cri.RunPodSandbox(config=config)
    assert not cri.ListPodSandbox().items


def test_bad_pod_requests(node, cri):
    with fails("INVALID_ARGUMENT", "config"):
        cri.RunPodSandbox()
    with pytest.raises(grpc.RpcError) as e:
        cri.RunPodSandbox(config=pod(), runtime_handler="no-such-handler")
    assert "no-such-handler" in e.value.details()
    with pytest.raises(grpc.RpcError) as e:
        config = pod()
        node.run(cri, cri.RunPodSandbox(config=config, runtime_handler="broken").pod_sandbox_id, config)
    assert "/nonexistent/runtime" in e.value.details()
    with fails("RESOURCE_EXHAUSTED"):
        cri.RunPodSandbox(config=pod(annotations={"big": "x" * (17 << 20)}))
    with fails("INVALID_ARGUMENT", "larger"):
        cri.RunPodSandbox(config=pod(annotations={"big": "x" * (5 << 20)}))
    for call in (cri.StopPodSandbox, cri.RemovePodSandbox, cri.PodSandboxStatus, cri.PodSandboxStats):
        with fails("INVALID_ARGUMENT", "pod_sandbox_id"):
            call()
    cri.StopPodSandbox(pod_sandbox_id="0" * 64)
    cri.RemovePodSandbox(pod_sandbox_id="0" * 64)


def secure(**fields):
    return {"linux": {"security_context": fields}}


BAD_CONTAINERS = [
    ({"metadata": {"name": ""}}, "INVALID_ARGUMENT", "metadata"),
    ({"image": {"image": ""}}, "INVALID_ARGUMENT", "image.image"),
    ({"image": {"image": "nobody/knows:this"}}, "NOT_FOUND", "nobody/knows:this"),
    ({"image": {"image": "sha256:" + "0" * 64}}, "NOT_FOUND", "image"),
    ({"envs": [{"key": "", "value": b"x"}]}, "INVALID_ARGUMENT", "envs[0].key"),
    ({"envs": [{"key": "A=B", "value": b"x"}]}, "INVALID_ARGUMENT", "A=B"),
    ({"envs": [{"key": "A", "value": b"x\0y"}]}, "INVALID_ARGUMENT", "NUL"),
    ({"mounts": [{"host_path": "/tmp"}]}, "INVALID_ARGUMENT", "mounts[0]"),
    ({"mounts": [{"container_path": "/x", "host_path": "relative"}]}, "INVALID_ARGUMENT", "host_path"),
    ({"mounts": [{"container_path": "/x", "host_path": "/tmp", "propagation": 9}]}, "INVALID_ARGUMENT", "propagation"),
    ({"mounts": [{"container_path": "/x", "host_path": "/tmp", "recursive_read_only": True}]}, "INVALID_ARGUMENT", "readonly"),
    ({"mounts": [{"container_path": "/x", "host_path": "/tmp", "readonly": True, "recursive_read_only": True,
                  "propagation": 1}]}, "INVALID_ARGUMENT", "propagation"),
    ({"mounts": [{"container_path": "/x", "host_path": "/tmp", "mount_options": ["dev"]}]}, "INVALID_ARGUMENT", "mount_options"),
    ({"devices": [{"host_path": "null"}]}, "INVALID_ARGUMENT", "devices[0].host_path"),
    ({"devices": [{"host_path": "/dev/null", "permissions": "rwx"}]}, "INVALID_ARGUMENT", "permissions"),
    ({"stop_signal": 999}, "INVALID_ARGUMENT", "stop_signal"),
    ({"log_path": "../../etc/x"}, "INVALID_ARGUMENT", "log_path"),
    ({"linux": {"resources": {"memory_limit_in_bytes": -1}}}, "INVALID_ARGUMENT", "memory_limit_in_bytes"),
    ({"linux": {"resources": {"unified": {"../x": "1"}}}}, "INVALID_ARGUMENT", "unified"),
    (secure(run_as_group={"value": 5}), "INVALID_ARGUMENT", "run_as_group"),
    (secure(run_as_user={"value": -1}), "INVALID_ARGUMENT", "run_as_user"),
    (secure(run_as_user={"value": 1}, run_as_username="x"), "INVALID_ARGUMENT", "run_as_username"),
    (secure(run_as_username="nobody-here"), "INVALID_ARGUMENT", "nobody-here"),
    (secure(privileged=True), "INVALID_ARGUMENT", "privileged"),
    (secure(namespace_options={"network": 2, "pid": 3}), "INVALID_ARGUMENT", "target_id"),
    (secure(namespace_options={"network": 2, "pid": 9}), "INVALID_ARGUMENT", "pid"),
    (secure(namespace_options={"network": 2, "pid": 1, "userns_options": {"mode": 0}}), "INVALID_ARGUMENT", "userns_options"),
    (secure(seccomp={"profile_type": 2, "localhost_ref": "relative"}), "INVALID_ARGUMENT", "localhost_ref"),
    (secure(seccomp={"profile_type": 7}), "INVALID_ARGUMENT", "profile_type"),
    (secure(seccomp_profile_path="what"), "INVALID_ARGUMENT", "seccomp_profile_path"),
    (secure(apparmor={"profile_type": 2}), "INVALID_ARGUMENT", "apparmor"),
    (secure(capabilities={"add_capabilities": ["NO_SUCH"]}), "INVALID_ARGUMENT", "NO_SUCH"),
    (secure(supplemental_groups_policy=5), "INVALID_ARGUMENT", "supplemental_groups_policy"),
]


@pytest.mark.parametrize("fields,code,names", BAD_CONTAINERS)
def test_bad_container(node, cri, fields, code, names):
    p, config = node.pod(cri)
    with fails(code, names):
        cri.CreateContainer(pod_sandbox_id=p, config=container(**fields), sandbox_config=config)
    assert not cri.ListContainers().containers


def test_bad_container_requests(node, cri, one):
    with fails("NOT_FOUND"):
        cri.CreateContainer(pod_sandbox_id="0" * 64, config=container())
    with fails("INVALID_ARGUMENT", "pod_sandbox_id"):
        cri.CreateContainer(config=container())
    with fails("INVALID_ARGUMENT", "config"):
        cri.CreateContainer(pod_sandbox_id=one[0])
    for call in (cri.StartContainer, cri.ContainerStatus, cri.ReopenContainerLog, cri.ContainerStats):
        with fails("INVALID_ARGUMENT", "container_id"):
            call()
        with fails("NOT_FOUND"):
            call(container_id="0" * 64)
    with pytest.raises(grpc.RpcError):
        cri.CheckpointContainer(container_id=one[2], location="")


# ---- the daemon's end ----

def test_retry_after_restart(own_node):
    node = own_node
    cri = node.client()
    config = pod(log_directory=str(node.logs))
    p = cri.RunPodSandbox(config=config).pod_sandbox_id
    fields = container()
    id = cri.CreateContainer(pod_sandbox_id=p, config=fields, sandbox_config=config).container_id
    cri.close()
    node.daemon.restart(kill=True)
    cri = node.client()
    assert cri.RunPodSandbox(config=config).pod_sandbox_id == p
    assert cri.CreateContainer(pod_sandbox_id=p, config=fields, sandbox_config=config).container_id == id
    cri.close()


# ---- the network's configuration ----

def test_network_not_ready(busybox_archive):
    node = Node(busybox_archive)
    try:
        cri = node.client()
        (node.conf_dir / "10-test.conflist").unlink()

        def ready():
            (condition,) = [c for c in cri.Status().status.conditions if c.type == "NetworkReady"]
            return condition

        assert until(lambda: not ready().status, 30)
        assert ready().reason == "NetworkPluginNotReady" and ready().message
        with pytest.raises(grpc.RpcError):
            cri.RunPodSandbox(config=pod(**POD_NET))
        assert not [x for x in cri.ListPodSandbox().items if x.state == READY]
        host, config = node.pod(cri)
        assert state(cri, node.run(cri, host, config)) == RUNNING
        node.write_network()
        assert until(lambda: ready().status, 30)
        node.pod(cri, **POD_NET)
        cri.close()
    finally:
        node.close()


# ---- configuration ----

def test_configuration(busybox_archive):
    """Keys of containerd's configuration that change what pods get."""
    node = Node(busybox_archive, config=(
        "[plugins.'io.containerd.grpc.v1.cri']\nmax_container_log_line_size = 100\n"
        "enable_unprivileged_icmp = true\nenable_unprivileged_ports = false\n"
        "[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.other]\nruntime_type = 'io.containerd.crun.v2'\n"
        "privileged_without_host_devices = true\npod_annotations = ['pod.example/*']\n"
        "container_annotations = ['exact']\n"))
    try:
        cri = node.client()
        assert "other" in [h.name for h in cri.Status().runtime_handlers]
        security = {"privileged": True, "namespace_options": {"network": 0, "pid": 1}}
        config = pod(log_directory=str(node.logs), annotations={"pod.example/a": "1", "no": "2"},
                     linux={"security_context": security})
        p = cri.RunPodSandbox(config=config, runtime_handler="other").pod_sandbox_id
        assert cri.PodSandboxStatus(pod_sandbox_id=p).status.runtime_handler == "other"
        script = ("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range; ls /dev | wc -l;"
                  "head -c 250 /dev/zero | tr '\\0' x; echo")
        id = node.run(cri, p, config, command=["sh", "-c", script], annotations={"exact": "e", "exacter": "f"},
                      linux={"security_context": security})
        spec = json.loads(cri.ContainerStatus(container_id=id, verbose=True).info["info"])["runtimeSpec"]
        exits(cri, id)
        records = log_of(cri, id)
        lines = [text for _, _, text in records]
        assert lines[0] == "1024" and lines[1].split() == ["0", "2147483647"] and int(lines[2]) < 30
        assert [(tag, len(text)) for _, tag, text in records[3:]] == [("P", 100), ("P", 100), ("F", 50)]
        if spec:
            annotations = spec["annotations"]
            assert annotations["pod.example/a"] == "1" and annotations["exact"] == "e"
            assert "no" not in annotations and "exacter" not in annotations
            assert annotations["io.kubernetes.cri.sandbox-id"] == p
        s = cri.ContainerStatus(container_id=id).status
        assert dict(s.annotations) == {"exact": "e", "exacter": "f"}
        cri.close()
    finally:
        node.close()


# ---- cAdvisor ----

def test_pods_own_cgroup(node, cri):
    """What a kubelet makes for a pod, and finds its network's figures by."""
    name = "kistl-cri-" + node.tag
    roots = [r for r in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup") if
             os.path.exists(r + "/cgroup.procs")][:2]
    parents = [f"{r}/{name}" for r in roots]
    for p in parents:
        os.makedirs(p, exist_ok=True)
    try:
        pod_id, config = node.pod(cri, linux={**POD_NET["linux"], "cgroup_parent": "/" + name})
        id = node.run(cri, pod_id, config, command=["sh", "-c", "while true; do :; done"])
        assert all(os.path.isdir(f"{p}/{pod_id}") and os.path.isdir(f"{p}/{id}") for p in parents)
        linux = cri.PodSandboxStats(pod_sandbox_id=pod_id).stats.linux
        assert linux.memory.usage_bytes.value > 0 and linux.network.default_interface.name == "eth0"
        metrics = [m for m in cri.ListPodSandboxMetrics().pod_metrics if m.pod_sandbox_id == pod_id][0].metrics
        assert {"container_memory_usage_bytes", "container_network_receive_bytes_total"} <= {m.name for m in metrics}
        cri.StopPodSandbox(pod_sandbox_id=pod_id)
        assert not any(os.path.exists(f"{p}/{pod_id}") for p in parents)
        cri.RemovePodSandbox(pod_sandbox_id=pod_id)
    finally:
        node.clean(cri)
        for root in glob.glob("/sys/fs/cgroup/*/" + name) + glob.glob("/sys/fs/cgroup/" + name):
            until(lambda: not os.path.exists(root) or os.rmdir(root) is None)


def test_cadvisor(node, cri, one):
    p, config, id = one
    metadata = [("containerd-namespace", "k8s.io")]
    version = Service(cri.channel, "containerd.services.version.v1.Version", metadata)
    containers = Service(cri.channel, "containerd.services.containers.v1.Containers", metadata)
    tasks = Service(cri.channel, "containerd.services.tasks.v1.Tasks", metadata)
    assert version.Version().version
    c = containers.Get(id=id).container
    assert c.id == id and c.image == BUSYBOX and c.labels["io.cri-containerd.kind"] == "container"
    assert c.labels["io.kubernetes.container.name"] == "c"
    assert json.loads(c.spec.value)["process"]["args"] == ["sleep", "1000"]
    assert tasks.Get(container_id=id).process.pid == pid_of(cri, id)
    sandbox = containers.Get(id=p).container
    assert sandbox.labels["io.cri-containerd.kind"] == "sandbox" and tasks.Get(container_id=p).process.pid > 0
    with fails("NOT_FOUND"):
        containers.Get(id="0" * 64)
    with fails("FAILED_PRECONDITION", "namespace"):
        Service(cri.channel, "containerd.services.containers.v1.Containers").Get(id=id)
