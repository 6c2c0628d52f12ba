# SPDX-License-Identifier: Apache-2.0
"""Pods when kistld, shims or the whole of it dies: states stay true, nothing is lost or left."""

import concurrent.futures
import glob
import os
import pathlib
import signal
import threading

import grpc
import pytest

from cri import pod
from crinode import EXITED, NOTREADY, POD_NET, READY, RUNNING, own_node  # noqa: F401
from harness import until


def pod_state(cri, id):
    return cri.PodSandboxStatus(pod_sandbox_id=id).status.state


def status(cri, id):
    return cri.ContainerStatus(container_id=id).status


def shim_pid(node, pod_id):
    path = f"{node.daemon.state}/io.containerd.runtime.v2.task/k8s.io/{pod_id}/shim.pid"
    return int(pathlib.Path(path).read_text())


@pytest.mark.parametrize("kill", [True, False], ids=["kill", "stop"])
def test_restart_with_pods(own_node, kill):  # noqa: F811
    """Of every kind: they run on, their logs too, and what ended meanwhile is told."""
    node, cri = own_node, own_node.client()
    net, net_config = node.pod(cri, **POD_NET)
    shared, shared_config = node.pod(cri, linux={"security_context": {"namespace_options": {"network": 2, "pid": 0}}})
    empty, _ = node.pod(cri, **POD_NET)
    runs = node.run(cri, net, net_config, name="runs",
                    command=["sh", "-c", "i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done"])
    joined = node.run(cri, shared, shared_config, name="joined", command=["sleep", "1000"],
                      linux={"security_context": {"namespace_options": {"network": 2, "pid": 0}}})
    ends = node.run(cri, net, net_config, name="ends", command=["sh", "-c", "while ! test -e /dev/shm/go; do sleep 0.05; "
                                                                "done; exit 7"])
    before = cri.PodSandboxStatus(pod_sandbox_id=net).status
    log = pathlib.Path(status(cri, runs).log_path)
    cri.close()
    node.daemon.kill9() if kill else node.daemon.stop()
    size = log.stat().st_size
    assert until(lambda: log.stat().st_size > size, 20)
    shm = glob.glob(f"/proc/{shim_pid(node, net)}/root{node.daemon.state}/io.containerd.runtime.v2.task/k8s.io/{net}"
                    "/mounts/shm")
    pathlib.Path(shm[0], "go").touch()
    node.daemon.start()

    cri = node.client()
    assert [pod_state(cri, p) for p in (net, shared, empty)] == [READY] * 3
    after = cri.PodSandboxStatus(pod_sandbox_id=net).status
    assert after.network == before.network and after.created_at == before.created_at
    assert status(cri, runs).state == status(cri, joined).state == RUNNING
    assert until(lambda: status(cri, ends).state == EXITED, 20)
    assert status(cri, ends).exit_code == 7
    lines = [int(line.split()[3]) for line in log.read_text().splitlines()]
    assert lines == list(range(1, len(lines) + 1))
    # All of them are good for more.
    more = node.run(cri, net, net_config, name="more", command=["sleep", "1000"])
    assert cri.ExecSync(container_id=more, cmd=["sh", "-c", "cd /dev/shm && echo -n *"], timeout=10).stdout == b"go"
    cri.StopContainer(container_id=runs, timeout=0)
    assert status(cri, runs).exit_code == 137
    node.clean(cri)
    node.assert_clean()
    cri.close()


def test_shim_dies_without_kistld(own_node):  # noqa: F811
    node, cri = own_node, own_node.client()
    p, config = node.pod(cri, **POD_NET)
    shared, shared_config = node.pod(cri, linux={"security_context": {"namespace_options": {"network": 2, "pid": 0}}})
    ids = [node.run(cri, p, config, command=["sleep", "1000"]),
           node.run(cri, shared, shared_config, command=["sleep", "1000"],
                    linux={"security_context": {"namespace_options": {"network": 2, "pid": 0}}})]
    cri.close()
    shims = [shim_pid(node, p), shim_pid(node, shared)]
    node.daemon.kill9()
    for pid in shims:
        os.kill(pid, signal.SIGKILL)
    node.daemon.start()

    cri = node.client()
    for id in ids:
        assert until(lambda id=id: status(cri, id).state == EXITED, 20)
        assert status(cri, id).exit_code in (137, 255)
    # Namespaces need no shim; a reaper has died with it.
    assert pod_state(cri, p) == READY and pod_state(cri, shared) == NOTREADY
    again = node.run(cri, p, config, name="again", command=["sleep", "1000"])
    assert status(cri, again).state == RUNNING
    node.clean(cri)
    node.assert_clean()
    cri.close()


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.03, 0.08])
def test_killed_while_pods_are_made(own_node, delay):  # noqa: F811
    """Whatever stage each is in: after the restart it is there or it is not, and can be made."""
    node = own_node
    configs = [pod(name=f"p{i}", **POD_NET) for i in range(6)]
    begun = threading.Event()

    def make(config):
        client = node.client()
        begun.set()
        try:
            return client.RunPodSandbox(config=config).pod_sandbox_id
        except grpc.RpcError:
            return None
        finally:
            client.close()

    with concurrent.futures.ThreadPoolExecutor(len(configs)) as pool:
        made = [pool.submit(make, c) for c in configs]
        begun.wait()
        threading.Event().wait(delay)
        node.daemon.kill9()
        told = [m.result() for m in made]
    node.daemon.start()

    cri = node.client()
    pods = {x.id: x.state for x in cri.ListPodSandbox().items}
    assert all(pods[id] == READY for id in told if id)
    assert all(state == READY for state in pods.values())
    for config, id in zip(configs, told):
        again = cri.RunPodSandbox(config=config).pod_sandbox_id
        assert id in (None, again)
    assert len(cri.ListPodSandbox().items) == len(configs)
    node.clean(cri)
    node.assert_clean()
    cri.close()
