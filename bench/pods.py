# SPDX-License-Identifier: Apache-2.0
"""Pods by the CRI: one gRPC client for all subjects, that of the integration suite, on a bridge of each by CNI."""
import itertools
import json
import os
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from measure import Failed, comm, descendants, memory, reap

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tests/integration"))

try:
    import grpc
    from cri import Cri, container, pod
except ImportError as e:
    grpc, MISSING = None, e

AT_ONCE = 8
READY, RUNNING = 0, 1
TIMEOUT = 120
numbers = itertools.count(1)


def write_network(directory, bridge, subnet):
    """The network of containerd's guide: bridge with addresses and masquerading, and portmap."""
    os.makedirs(directory, exist_ok=True)
    bridge = {"type": "bridge", "bridge": bridge, "isGateway": True, "ipMasq": True, "promiscMode": True,
              "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}],
                       "dataDir": os.path.join(directory, "ipam")}}
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    with open(os.path.join(directory, "10-bench.conflist"), "w") as f:
        json.dump({"cniVersion": "0.4.0", "name": "bench", "plugins": [bridge, portmap]}, f)


class Node:
    """A subject as the kubelet sees it."""

    def __init__(self, subject, image):
        self.subject, self.image, self.name = subject, image, subject.name
        self.cri = Cri(subject.state("sock"))
        self.logs = subject.path("pod-logs")
        self.pods = []

    def start(self, _=None):
        """A pod with one container, from nothing to running: (pod's id, container's id)."""
        name = f"p{next(numbers)}"
        config = pod(name, log_directory=os.path.join(self.logs, name),
                     linux={"security_context": {"namespace_options": {"network": 0, "pid": 1}}})
        p = self.cri.RunPodSandbox(config=config, _timeout=TIMEOUT).pod_sandbox_id
        c = self.cri.CreateContainer(pod_sandbox_id=p, sandbox_config=config, _timeout=TIMEOUT, config=container(
            image=self.image, command=["sleep", "100000"], log_path="c.log")).container_id
        self.cri.StartContainer(container_id=c, _timeout=TIMEOUT)
        return p, c

    def remove(self, p):
        """As the kubelet without grace: both daemons kill."""
        self.cri.StopContainer(container_id=p[1], timeout=0, _timeout=TIMEOUT)
        self.cri.StopPodSandbox(pod_sandbox_id=p[0], _timeout=TIMEOUT)
        self.cri.RemovePodSandbox(pod_sandbox_id=p[0], _timeout=TIMEOUT)

    def probe(self, p):
        r = self.cri.ExecSync(container_id=p[1], cmd=["true"], timeout=10, _timeout=TIMEOUT)
        if r.exit_code:
            raise Failed(f"{self.name}: ExecSync: exit code {r.exit_code}: {r.stderr!r}")

    def check(self, p):
        """It has an address, and what is in it runs."""
        if not self.cri.PodSandboxStatus(pod_sandbox_id=p[0]).status.network.ip:
            raise Failed(f"{self.name}: a pod without an address")
        self.probe(p)

    def up(self):
        """How many pods and containers it says to be up, by a connection of its own."""
        cri = Cri(self.subject.state("sock"))
        try:
            pods = sum(p.state == READY for p in cri.ListPodSandbox(_timeout=TIMEOUT).items)
            return pods, sum(c.state == RUNNING for c in cri.ListContainers(_timeout=TIMEOUT).containers)
        finally:
            cri.close()

    def recover(self, n):
        """Milliseconds from the start of a daemon, after the death of the one before, until it knows n pods to be up."""
        self.cri.close()
        began = self.subject.kill_and_start()
        while not listening(self.subject.state("sock")):
            self.late(began, "does not listen")
            time.sleep(0.002)
        while True:
            try:
                if self.up() == (n, n):
                    break
            except grpc.RpcError as e:
                if e.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN):
                    raise
            self.late(began, f"does not know its {n} pods again")
            time.sleep(0.005)
        ms = (time.perf_counter() - began) * 1000
        self.cri = Cri(self.subject.state("sock"))
        return ms

    def late(self, began, what):
        if time.perf_counter() - began > TIMEOUT:
            raise Failed(f"{self.name} {what} {TIMEOUT} s after its start")


def listening(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        return s.connect_ex(path) == 0


def milliseconds(function, *args):
    began = time.perf_counter()
    result = function(*args)
    return (time.perf_counter() - began) * 1000, result


def rounds(bench, nodes, pool):
    """Pods one at a time and eight at once, up and down; probes in one of them, in turns."""
    up, down, up8, down8, probe, probes = ({n.name: [] for n in nodes} for _ in range(6))
    count = bench.options.probes

    def many(function, what):
        return list(pool.map(function, what))

    for i in range(bench.options.runs + 1):
        for n in nodes:
            time.sleep(0.3)  # the kernel's clearing up of network namespaces
            reap()
            start, p = milliseconds(n.start)
            n.check(p)
            one, _ = milliseconds(lambda: [n.probe(p) for _ in range(count)])
            eight, _ = milliseconds(many, n.probe, [p] * count)
            stop, _ = milliseconds(n.remove, p)
            time.sleep(0.3)
            start8, made = milliseconds(many, n.start, range(AT_ONCE))
            stop8, _ = milliseconds(many, n.remove, made)
            if i > 0:
                for values, ms in ((up, start), (down, stop), (up8, start8), (down8, stop8),
                                   (probe, 1000 * count / one), (probes, 1000 * count / eight)):
                    values[n.name].append(ms)
    for test, unit, values in (("start of a pod", "ms", up), ("stop and removal of a pod", "ms", down),
                               (f"start of {AT_ONCE} pods at once", "ms", up8),
                               (f"stop and removal of {AT_ONCE} pods at once", "ms", down8),
                               ("exec probes, one at a time", "1/s", probe),
                               (f"exec probes, {AT_ONCE} at a time", "1/s", probes)):
        for name, v in values.items():
            bench.report.add(test, name, unit, v)


def many_pods(bench, n, pool):
    """Memory of the shims of many pods, and recovery of them after the daemon's death."""
    count, before = bench.options.pods, descendants()
    bench.say(f"{count} pods of {n.name}")
    pods = list(pool.map(n.start, range(count)))
    shims = [p for p in descendants() - before if comm(p).startswith(n.subject.shim)]
    if len(shims) != count:
        raise Failed(f"{n.name} has {len(shims)} shims for {count} pods")
    for i, what in enumerate(("RSS", "PSS")):
        bench.report.add(f"shim of a pod, {what}", n.name, "MiB", [memory([p])[i] / 1024 for p in shims])
    times = [n.recover(count) for _ in range(3)]
    bench.report.add(f"recovery of {count} pods", n.name, "ms", times)
    n.check(pods[-1])
    for _ in pool.map(n.remove, pods):
        pass
    reap()


def measure(bench, image):
    if grpc is None:
        bench.note(f"pods are left out: {MISSING}")
        return
    nodes = [Node(s, image) for s in bench.subjects if s.shim]
    for n in nodes:
        n.subject.load_for_pods(bench.archive)
    bench.say(f"pods: {bench.options.runs} rounds of {', '.join(n.name for n in nodes)}")
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            rounds(bench, nodes, pool)
            for n in nodes:
                many_pods(bench, n, pool)
                n.cri.close()
    except grpc.RpcError as e:
        raise Failed(f"the CRI: {e.code()}: {e.details()}") from None
