# SPDX-License-Identifier: Apache-2.0
"""The CRI's execs and what hands out URLs of streams, with pods that outlive the daemon."""

import os
import re
import signal
import time

import grpc
import pytest

from cri import container, fails, pod
from crinode import (CREATED, NOTREADY, POD_NET, READY, RUNNING, cri, exits, node, one, own_node,  # noqa: F401
                     pid_of_container, state)
from harness import background, until


def test_exec_sync(node, cri, one):
    _, _, id = one
    r = cri.ExecSync(container_id=id, cmd=["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (r.stdout, r.stderr, r.exit_code) == (b"out\n", b"err\n", 3)
    assert cri.ExecSync(container_id=id[:12], cmd=["echo", "-n", "hello"]).stdout == b"hello"
    with pytest.raises(grpc.RpcError):
        cri.ExecSync(container_id=id, cmd=["/no/such/program"])


def test_exec_sync_timeout(node, cri, one):
    _, _, id = one
    with fails("DEADLINE_EXCEEDED"):
        cri.ExecSync(container_id=id, cmd=["sleep", "4321"], timeout=1)
    assert until(lambda: b"4321" not in cri.ExecSync(container_id=id, cmd=["ps", "-o", "args"]).stdout)


def test_exec_sync_output(node, cri, one):
    """More than is kept is dropped; a process in the background that holds the pipe is not waited for."""
    _, _, id = one
    r = cri.ExecSync(container_id=id, cmd=["sh", "-c", "head -c 3000000 /dev/zero"])
    assert len(r.stdout) == 3000000
    started = time.monotonic()
    r = cri.ExecSync(container_id=id, cmd=["sh", "-c", "sleep 30 & echo done"])
    assert r.stdout == b"done\n" and time.monotonic() - started < 15


def test_exec_ends_with_its_container(node, cri, one):
    _, _, id = one
    call = cri.ExecSync(container_id=id, cmd=["sleep", "1000"], _future=True)
    until(lambda: b"sleep\n" in cri.ExecSync(container_id=id, cmd=["ps", "-o", "comm"]).stdout, 2)
    cri.StopContainer(container_id=id, timeout=0)
    try:
        assert call.result(30).exit_code != 0
    except grpc.RpcError as e:
        assert e.code() != grpc.StatusCode.DEADLINE_EXCEEDED


def test_exec_errors(node, cri, one):
    p, config, id = one
    for call in (cri.ExecSync, cri.Exec):
        with fails("INVALID_ARGUMENT", "cmd"):
            call(container_id=id, cmd=[], **({"stdout": True} if call == cri.Exec else {}))
        with fails("NOT_FOUND"):
            call(container_id="0" * 64, cmd=["true"])
        with fails("INVALID_ARGUMENT", "container_id"):
            call(container_id="", cmd=["true"])
    created = cri.CreateContainer(pod_sandbox_id=p, config=container("idle"), sandbox_config=config).container_id
    with fails("FAILED_PRECONDITION", "not running"):
        cri.ExecSync(container_id=created, cmd=["true"])
    with fails("INVALID_ARGUMENT", "timeout"):
        cri.ExecSync(container_id=id, cmd=["true"], timeout=-1)


def test_stream_urls(node, cri, one):
    p, _, id = one
    urls = [cri.Exec(container_id=id, cmd=["sh"], stdin=True, stdout=True, tty=True).url,
            cri.Attach(container_id=id, stdout=True).url, cri.PortForward(pod_sandbox_id=p, port=[80]).url,
            cri.PortForward(pod_sandbox_id=p).url]
    for url, kind in zip(urls, ("exec", "attach", "portforward", "portforward")):
        assert re.fullmatch(rf"http://127\.0\.0\.1:\d+/{kind}/[\w-]{{8,}}", url), url
    assert len(set(urls)) == 4
    with fails("INVALID_ARGUMENT"):
        cri.Exec(container_id=id, cmd=["sh"], tty=True, stderr=True, stdout=True)
    with fails("INVALID_ARGUMENT"):
        cri.Exec(container_id=id, cmd=["sh"])
    with fails("INVALID_ARGUMENT"):
        cri.Attach(container_id=id)
    with fails("INVALID_ARGUMENT", "port"):
        cri.PortForward(pod_sandbox_id=p, port=[70000])
    with fails("NOT_FOUND"):
        cri.PortForward(pod_sandbox_id="0" * 64)
    cri.StopPodSandbox(pod_sandbox_id=p)
    with fails("FAILED_PRECONDITION"):
        cri.PortForward(pod_sandbox_id=p)
    with fails("FAILED_PRECONDITION"):
        cri.Attach(container_id=id, stdout=True)


def test_restart_with_pods(own_node):
    node = own_node
    cri = node.client()
    pods = [node.pod(cri, **POD_NET) for _ in range(4)]
    ids = [node.run(cri, p, config, command=["sh", "-c", "trap 'exit 5' TERM; while true; do usleep 20000; done"])
           for p, config in pods]
    created = cri.CreateContainer(pod_sandbox_id=pods[0][0], config=container("later"), sandbox_config=pods[0][1]).container_id
    cri.UpdateContainerResources(container_id=ids[1], linux={"memory_limit_in_bytes": 96 << 20})
    before = {p: cri.PodSandboxStatus(pod_sandbox_id=p).status for p, _ in pods}
    images = cri.ListImages().images
    open_exec = cri.ExecSync(container_id=ids[0], cmd=["sleep", "1000"], _future=True)
    late = [cri.RunPodSandbox(config=pod(log_directory=str(node.logs), **POD_NET), _future=True) for _ in range(6)]
    node.daemon.kill9()
    # Ends while nobody looks.
    victim = pid_of_container(ids[3])
    os.kill(victim, signal.SIGKILL)
    node.daemon.start()
    for call in (*late, open_exec):
        call.exception(30)
    cri.close()
    cri = node.client()
    for p, _ in pods:
        assert cri.PodSandboxStatus(pod_sandbox_id=p).status == before[p]
    assert [state(cri, id) for id in ids[:3]] == [RUNNING] * 3 and state(cri, created) == CREATED
    s = exits(cri, ids[3])
    assert s and s.exit_code == 137
    assert cri.ListImages().images == images
    assert cri.ContainerStatus(container_id=ids[1]).status.resources.linux.memory_limit_in_bytes == 96 << 20
    # What was under way is whole or not there.
    for item in cri.ListPodSandbox().items:
        assert item.state in (READY, NOTREADY)
        cri.PodSandboxStatus(pod_sandbox_id=item.id)
    cri.StartContainer(container_id=created)
    assert cri.ExecSync(container_id=ids[0], cmd=["echo", "still here"]).stdout == b"still here\n"
    cri.StopContainer(container_id=ids[0], timeout=20)
    assert cri.ContainerStatus(container_id=ids[0]).status.exit_code == 5
    node.clean(cri)
    node.assert_clean()
    cri.close()
