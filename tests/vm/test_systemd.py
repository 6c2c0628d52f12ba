# SPDX-License-Identifier: Apache-2.0
"""The shim with the OCI runtimes' systemd driver: containers in transient scopes that systemd made. Collected only
where systemd is PID 1."""

import pathlib
import subprocess
import time

import pytest

from harness import until
from shimlib import Shim, message

SCOPE = "kistl-c1.scope"
CGROUP = pathlib.Path("/sys/fs/cgroup/system.slice") / SCOPE


class SystemdShim(Shim):
    def options(self):
        any_ = super().options()
        o = message("containerd.runc.v1.Options").FromString(any_.value)
        o.systemd_cgroup = True
        any_.value = o.SerializeToString()
        return any_


@pytest.fixture(params=["crun", "runc"])
def shim(request, tmp_path_factory):
    s = SystemdShim(tmp_path_factory.mktemp("s"), "c1", request.param)
    yield s.start()
    s.close()
    assert until(lambda: not CGROUP.exists()), "the scope is left"


def limits(spec):
    spec["linux"]["cgroupsPath"] = "system.slice:kistl:c1"
    spec["linux"]["resources"].update(memory={"limit": 32 << 20, "swap": 32 << 20}, pids={"limit": 20},
                                      cpu={"quota": 50000, "period": 100000})


def create(shim, *args):
    """The container's cgroup: the scope, or with crun one beneath it."""
    pid = shim.create(list(args), edit=limits)
    path = pathlib.Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::/")
    shim.client.task("Start", id="c1")
    return CGROUP.parents[1] / path


def metrics(shim):
    stats = shim.client.task("Stats", id="c1").stats
    assert stats.type_url == "io.containerd.cgroups.v2.Metrics"
    return message(stats.type_url).FromString(stats.value)


def test_scope(shim):
    path = create(shim, "/bin/sh", "-c", "while :; do :; done")
    assert path.is_relative_to(CGROUP)
    active = subprocess.run(["systemctl", "is-active", SCOPE], capture_output=True, text=True)
    assert active.stdout == "active\n"
    assert (path / "memory.max").read_text() == f"{32 << 20}\n"
    assert (path / "cpu.max").read_text() == "50000 100000\n"
    assert until(lambda: metrics(shim).cpu.nr_throttled > 0)
    m = metrics(shim)
    assert m.pids.current == 1 and m.pids.limit == 20
    assert 0 < m.memory.usage < 32 << 20 and m.memory.usage_limit == 32 << 20 and m.cpu.usage_usec > 0
    shim.client.task("Pause", id="c1")
    before = metrics(shim).cpu.usage_usec
    time.sleep(1)
    assert metrics(shim).cpu.usage_usec < before + 100000
    shim.client.task("Resume", id="c1")
    assert until(lambda: metrics(shim).cpu.usage_usec > before + 100000)


def test_oom(shim):
    create(shim, "/bin/sh", "-c", "exec tail /dev/zero")
    assert shim.client.task("Wait", id="c1").exit_status == 137
    shim.events.wait_for("/tasks/oom")
    shim.events.wait_for("/tasks/exit")
    topics = shim.events.topics()
    assert topics.index("/tasks/oom") < topics.index("/tasks/exit")
