# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests inside the guest: the end-to-end harness, with an image made on the spot (no registry)."""

import os
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import harness  # noqa: E402

# Emulated instructions are slow ones.
harness.TIMEOUT = 240
harness.SETTLE = 60


with open("/proc/1/comm") as comm:
    collect_ignore = [] if comm.read() == "systemd\n" else ["test_systemd.py"]


def pytest_collection_modifyitems(config, items):
    with open("/proc/mounts") as f:
        pure = any(line.split()[1:3] == ["/sys/fs/cgroup", "cgroup2"] for line in f)
    if not pure:
        raise pytest.UsageError("these are for a host with cgroup v2 only: tests/vm/run boots one")


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "busybox.tar"
    subprocess.run(["/usr/bin/python3", harness.TOP / "tools/mkimage", "--busybox", "--name", "busybox:latest",
                    "--compression", "none", "--output", path], check=True)
    return path


@pytest.fixture(scope="module")
def daemon(archive):
    assert os.geteuid() == 0
    d = harness.Daemon()
    d.client("load", "-q", "-i", archive, timeout=240)
    yield d
    d.close()


@pytest.fixture
def kistl(daemon):
    """kistl with the image loaded; containers that the test leaves are removed, and nothing else may be left."""
    yield daemon.client
    assert daemon.alive(), "kistld has died:\n" + daemon.log()[-4000:]
    daemon.clean(images=False)
    daemon.assert_clean(images=False)
