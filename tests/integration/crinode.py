# SPDX-License-Identifier: Apache-2.0
"""A node for pods: kistld with a network of its own by CNI and a busybox, the fixtures of the CRI's suites, and what
they look at."""

import glob
import json
import os
import pathlib
import re
import subprocess
import uuid

import pytest

from cri import Cri, container, pod
from harness import Daemon, UnixHTTP, links, until

READY, NOTREADY = 0, 1
CREATED, RUNNING, EXITED, UNKNOWN = range(4)
BUSYBOX = "docker.io/library/busybox:latest"
POD_NET = {"linux": {"security_context": {"namespace_options": {"network": 0, "pid": 1}}}}


def load(daemon, archive):
    """As `ctr -n k8s.io images import` would."""
    c = UnixHTTP(daemon.socket)
    c.request("POST", "/images/load?quiet=1", pathlib.Path(archive).read_bytes(),
              {"Content-Type": "application/x-tar", "X-Kistl-Namespace": "k8s.io"})
    r = c.getresponse()
    assert r.status == 200, r.read()
    assert b"Loaded image" in r.read()
    c.close()


class Node:
    """A daemon with a network for its pods, and what it may leave behind."""

    def __init__(self, archive, config="", start=True):
        self.tag = uuid.uuid4().hex[:6]
        self.bridge = "ktc" + self.tag
        self.archive = archive
        number = int(self.tag, 16)
        self.subnet = f"10.{200 + number % 50}.{number // 50 % 256}.0/24"
        self.daemon = Daemon(config=(
            "[kistl.runtimes.broken]\npath = '/nonexistent/runtime'\n"
            "[plugins.'io.containerd.grpc.v1.cri'.cni]\n" "conf_dir = '%s'\nbin_dir = '/usr/lib/cni'\n" % "@CNI@") + config,
            start=False)
        self.conf_dir = self.daemon.base / "cni"
        self.conf_dir.mkdir()
        self.daemon.config.write_text(self.daemon.config.read_text().replace("@CNI@", str(self.conf_dir)))
        self.write_network()
        if start:
            self.start_now()
        self.logs = self.daemon.base / "logs"
        self.ids = set()

    def start_now(self):
        self.daemon.start()
        load(self.daemon, self.archive)

    def write_network(self):
        (self.conf_dir / "10-test.conflist").write_text(json.dumps({
            "cniVersion": "1.0.0", "name": "test-" + self.tag, "plugins": [
                {"type": "bridge", "bridge": self.bridge, "isGateway": True, "ipMasq": False,
                 "ipam": {"type": "host-local", "ranges": [[{"subnet": self.subnet}]],
                          "dataDir": str(self.daemon.base / "ipam"), "routes": [{"dst": "0.0.0.0/0"}]}},
                {"type": "portmap", "capabilities": {"portMappings": True}}]}))

    def client(self):
        return Cri(self.daemon.socket)

    def pod(self, cri, **fields):
        fields.setdefault("log_directory", str(self.logs / uuid.uuid4().hex[:8]))
        config = pod(**fields)
        id = cri.RunPodSandbox(config=config).pod_sandbox_id
        self.ids.add(id)
        return id, config

    def run(self, cri, pod_id, config, **fields):
        fields.setdefault("log_path", f"{fields.get('name', 'c')}.log")
        id = cri.CreateContainer(pod_sandbox_id=pod_id, config=container(**fields), sandbox_config=config).container_id
        self.ids.add(id)
        cri.StartContainer(container_id=id)
        return id

    def leaks(self):
        d = self.daemon
        found = d.left_processes() + d.left_files(images=False)
        # Other suites may be running on this machine.
        found += [c for c in d.left_cgroups() if c.split()[-1] in self.ids]
        found += [m for m in d.left_mounts() if not m.endswith("/pods")]
        found += ["interface " + link["ifname"] for link in links() if link.get("master") == self.bridge]
        found += glob.glob(f"{d.state}/pods/*") + glob.glob(f"{d.root}/cni/results/*")
        found += [a for a in glob.glob(f"{d.base}/ipam/*/*") if re.fullmatch(r"[\d.]+", os.path.basename(a))]
        return found

    def clean(self, cri):
        for p in cri.ListPodSandbox().items:
            cri.StopPodSandbox(pod_sandbox_id=p.id)
            cri.RemovePodSandbox(pod_sandbox_id=p.id)

    def assert_clean(self, seconds=30):
        left = until(lambda: not self.leaks(), seconds) or self.leaks()
        assert left is True, "left behind:\n" + "\n".join(left[:40])

    def close(self):
        try:
            if self.daemon.alive():
                cri = self.client()
                self.clean(cri)
                for i in cri.ListImages().images:
                    cri.RemoveImage(image={"image": i.id})
                cri.close()
                self.assert_clean()
            self.daemon.stop()
            problems = self.daemon.trouble()
        finally:
            subprocess.run(["ip", "link", "del", self.bridge], capture_output=True)
            self.daemon.raze()
        assert not problems, problems


@pytest.fixture(scope="module")
def node(busybox_archive):
    n = Node(busybox_archive)
    yield n
    n.close()


@pytest.fixture
def own_node(busybox_archive):
    """For tests that end the daemon."""
    n = Node(busybox_archive)
    yield n
    n.close()


@pytest.fixture
def cri(node):
    c = node.client()
    yield c
    assert node.daemon.alive(), node.daemon.log()[-4000:]
    node.clean(c)
    c.close()


@pytest.fixture
def one(node, cri):
    """A pod on the host's network with a container that sleeps."""
    pod_id, config = node.pod(cri)
    return pod_id, config, node.run(cri, pod_id, config)


def state(cri, id):
    return cri.ContainerStatus(container_id=id).status.state


def exits(cri, id):
    """The status once it has ended."""
    def ended():
        s = cri.ContainerStatus(container_id=id).status
        return s if s.state == EXITED else None
    return until(ended, 30)


def log_of(cri, id):
    """Records of a CRI log: (stream, tag, text)."""
    path = cri.ContainerStatus(container_id=id).status.log_path
    records = []
    for line in open(path, "rb").read().decode().splitlines():
        when, stream, tag, text = line.split(" ", 3)
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d)$", when)
        records.append((stream, tag, text))
    return records


def output(node, cri, pod_id, config, script, **fields):
    """Standard output of a shell script in a container that ends."""
    id = node.run(cri, pod_id, config, name="o" + uuid.uuid4().hex[:6], command=["sh", "-c", script], **fields)
    assert exits(cri, id), "does not end"
    return "\n".join(text for stream, _, text in log_of(cri, id) if stream == "stdout")


def memory_limit(pid):
    with open(f"/proc/{pid}/cgroup") as f:
        paths = dict((line.split(":", 2)[1], line.strip().split(":", 2)[2]) for line in f)
    if "memory" in paths:
        return int(open(f"/sys/fs/cgroup/memory{paths['memory']}/memory.limit_in_bytes").read())
    return int(open(f"/sys/fs/cgroup{paths['']}/memory.max").read())


def pid_of(cri, id):
    return json.loads(cri.ContainerStatus(container_id=id, verbose=True).info["info"])["pid"]


def pid_of_container(id):
    """The first process of the container's cgroup."""
    for pattern in ("/sys/fs/cgroup/*/kistl/", "/sys/fs/cgroup/kistl/"):
        for path in glob.glob(pattern + id + "/cgroup.procs"):
            pids = open(path).read().split()
            if pids:
                return int(pids[0])
    raise AssertionError("no cgroup of " + id)
