# SPDX-License-Identifier: Apache-2.0
"""Debian's dockerd with kistld in containerd's place: dockerd keeps the images, Kistl runs the containers."""

import shutil
import subprocess
import tempfile
import time

import pytest

from harness import DOCKER, Client, until

DOCKERFILE = b"FROM busybox\nRUN echo built > /built\nCMD cat /built\n"


@pytest.fixture(scope="module")
def archive(busybox_archive, tmp_path_factory):
    """dockerd loads no OCI archives."""
    path = tmp_path_factory.mktemp("archive") / "busybox.tar"
    subprocess.run(["skopeo", "copy", "-q", f"oci-archive:{busybox_archive}", f"docker-archive:{path}:busybox:latest"],
                   check=True)
    return path


@pytest.fixture(scope="module")
def dockerd(daemon, archive):
    """docker on such a dockerd, with the image."""
    base = tempfile.mkdtemp(prefix="kistl-dockerd-")
    socket = f"{base}/docker.sock"
    with open(f"{base}/log", "wb") as log:
        process = subprocess.Popen(
            ["dockerd", f"--containerd={daemon.socket}", "--data-root", f"{base}/data", "--exec-root", f"{base}/exec",
             "--pidfile", f"{base}/pid", "-H", f"unix://{socket}", "--bridge", "none", "--iptables=false",
             "--ip-masq=false"], stdout=log, stderr=log)
    docker = Client([DOCKER], {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": base, "DOCKER_BUILDKIT": "0",
                               "DOCKER_HOST": f"unix://{socket}"})
    try:
        def up():
            assert process.poll() is None, open(f"{base}/log", errors="replace").read()[-4000:]
            return docker("version", code=None).code == 0
        assert until(up, seconds=60), "dockerd does not come up"
        docker("load", "-q", "-i", str(archive))
        yield docker
    finally:
        for i in docker("ps", "-aq", code=None).split():
            docker("rm", "-f", i, code=None)
        process.terminate()
        process.wait(60)
        subprocess.run(["umount", "-l", f"{base}/data/overlay2"], capture_output=True)
        shutil.rmtree(base, ignore_errors=True)


def test_run(dockerd):
    assert dockerd("run", "--rm", "--network", "none", "busybox", "echo", "hello") == "hello\n"
    dockerd("run", "--rm", "--network", "none", "busybox", "sh", "-c", "exit 5", code=5)
    assert dockerd("run", "--rm", "-i", "--network", "none", "busybox", "cat", input=b"piped") == "piped"
    assert "not found" in dockerd("run", "--rm", "--network", "none", "busybox", "nosuch", code=127).err


def test_life(dockerd, daemon):
    dockerd("run", "-d", "--name", "life", "--network", "none", "busybox", "sh", "-c", "echo up; exec sleep 1000")
    assert dockerd("exec", "life", "echo", "inside") == "inside\n"
    dockerd("exec", "life", "sh", "-c", "exit 3", code=3)
    assert until(lambda: dockerd("logs", "life") == "up\n")
    dockerd("pause", "life")
    assert "(Paused)" in dockerd("ps")
    dockerd("unpause", "life")
    assert "life" in dockerd("stats", "--no-stream", "life")
    assert "sleep 1000" in dockerd("top", "life")
    pid = dockerd("inspect", "-f", "{{.State.Pid}}", "life")
    daemon.restart(kill=True)
    assert until(lambda: dockerd("exec", "life", "echo", "again", code=None) == "again\n", seconds=30)
    assert dockerd("inspect", "-f", "{{.State.Pid}} {{.State.Running}}", "life") == pid.strip() + " true\n"
    dockerd("restart", "-t", "1", "life")
    assert until(lambda: dockerd("logs", "life") == "up\nup\n")
    dockerd("kill", "life")
    assert dockerd("wait", "life") == "137\n"
    dockerd("rm", "life")


def test_build(dockerd):
    dockerd("build", "-q", "--network", "none", "-t", "built", "-", input=DOCKERFILE)
    assert dockerd("run", "--rm", "--network", "none", "built") == "built\n"


def test_end_is_seen_after_a_restart(dockerd, daemon):
    """The process ends while kistld is away."""
    dockerd("run", "-d", "--name", "short", "--network", "none", "busybox", "sleep", "1")
    daemon.kill9()
    time.sleep(1.5)  # the process is to end meanwhile
    daemon.start()
    assert until(lambda: dockerd("inspect", "-f", "{{.State.Status}}", "short") == "exited\n", seconds=30)
    dockerd("rm", "short")
