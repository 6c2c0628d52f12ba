# SPDX-License-Identifier: Apache-2.0
"""CheckpointContainer. CRIU needs a kernel and a runtime that fit, so a runtime stands in for them here that writes
what it was asked for; everything else is Kistl's."""

import json
import os
import tarfile

import grpc
import pytest

from cri import container, fails
from crinode import RUNNING, Node, cri, exits, node, one, state  # noqa: F401
from harness import until

RUNTIME = """#!/bin/sh
case " $* " in
*" checkpoint "*)
	echo "$@" > %(base)s/arguments
	while [ $# -gt 0 ]; do
		[ "$1" = --image-path ] && images=$2
		shift
	done
	[ -e %(base)s/fail ] && exit 1
	echo pages > "$images/pages-1.img"
	exit 0;;
esac
exec /usr/bin/crun "$@"
"""


def test_bad_requests(node, cri, one, tmp_path):
    id = one[2]
    with fails("INVALID_ARGUMENT", "location"):
        cri.CheckpointContainer(container_id=id, location="relative.tar")
    with fails("INVALID_ARGUMENT", "location"):
        cri.CheckpointContainer(container_id=id)
    with fails("INVALID_ARGUMENT", "timeout"):
        cri.CheckpointContainer(container_id=id, location=str(tmp_path / "x.tar"), timeout=-1)
    with fails("NOT_FOUND"):
        cri.CheckpointContainer(container_id="0" * 64, location=str(tmp_path / "x.tar"))
    cri.StopContainer(container_id=id, timeout=0)
    with fails("FAILED_PRECONDITION", "not running"):
        cri.CheckpointContainer(container_id=id, location=str(tmp_path / "x.tar"))
    for call in (cri.CheckpointPod, cri.RestorePod):
        with fails("UNIMPLEMENTED"):
            call()
    assert not os.listdir(tmp_path)


@pytest.fixture
def standin(busybox_archive, tmp_path):
    """A node whose runtime can do checkpoints, with a `criu` in its path."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("runtime", RUNTIME % {"base": tmp_path}), ("criu", "#!/bin/sh\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    n = Node(busybox_archive, start=False)
    text = n.daemon.config.read_text().replace("/nonexistent/runtime", str(programs / "runtime"))
    n.daemon.config.write_text(text.replace("[kistl]\n", '[kistl]\ndefault-runtime = "broken"\n'))
    n.daemon.extra_env["PATH"] = f"{programs}:{os.environ['PATH']}"
    n.start_now()
    yield n
    n.close()


def test_archive(standin, tmp_path):
    cri = standin.client()
    p, config = standin.pod(cri)
    id = standin.run(cri, p, config, command=["sh", "-c", "echo words; echo data > /written; rm /etc/hostname; sleep 1000"])
    assert until(lambda: b"data" in cri.ExecSync(container_id=id, cmd=["cat", "/written"]).stdout)
    out = tmp_path / "out"
    out.mkdir()
    cri.CheckpointContainer(container_id=id, location=str(out / "c.tar"), timeout=60)
    assert os.listdir(out) == ["c.tar"] and os.stat(out / "c.tar").st_mode & 0o777 == 0o600
    assert "--leave-running" in (tmp_path / "arguments").read_text()
    with tarfile.open(out / "c.tar") as tar:
        names = {n.rstrip("/") for n in tar.getnames()}
        assert {"checkpoint", "checkpoint/pages-1.img", "config.dump", "spec.dump", "rootfs-diff.tar", "container.log"} <= names
        document = json.load(tar.extractfile("config.dump"))
        assert document["id"] == id and document["name"] == "c" and document["rootfsImageName"].endswith("busybox:latest")
        assert json.load(tar.extractfile("spec.dump"))["process"]["args"][0] == "sh"
        assert b"words" in tar.extractfile("container.log").read()
        with tarfile.open(fileobj=tar.extractfile("rootfs-diff.tar")) as layer:
            assert layer.extractfile("written").read() == b"data\n"
    assert state(cri, id) == RUNNING
    # A failure says why and leaves what was there.
    (tmp_path / "fail").touch()
    before = (out / "c.tar").read_bytes()
    with pytest.raises(grpc.RpcError) as e:
        cri.CheckpointContainer(container_id=id, location=str(out / "c.tar"))
    assert "checkpoint failed" in e.value.details()
    assert os.listdir(out) == ["c.tar"] and (out / "c.tar").read_bytes() == before
    assert state(cri, id) == RUNNING
    with pytest.raises(grpc.RpcError):
        cri.CheckpointContainer(container_id=id, location=str(tmp_path / "no" / "such" / "dir.tar"))
    cri.close()
