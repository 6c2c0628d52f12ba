# SPDX-License-Identifier: Apache-2.0
"""What a kistl-image process that waits for its input may still do, and that it works with less."""

import os
import shutil
import socket
import tarfile

import pytest

from imageworker import Worker, WorkerError
from test_unpack import GZIP, Layer, unpack

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="shows what root gives up")

CAPS = {name: 1 << n for n, name in enumerate(
    "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable "
    "net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio "
    "sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time "
    "sys_tty_config mknod lease audit_write audit_control setfcap".split())}


def status(worker):
    with open(f"/proc/{worker.process.pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def wait_confined(worker):
    """Until the filter, the last step, is in place."""
    while True:
        s = status(worker)
        if s["Seccomp"] == "2":
            return s
        assert worker.process.poll() is None


def root_of(worker):
    return set(os.listdir(f"/proc/{worker.process.pid}/root"))


def test_unpack_is_confined(tmp_path):
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer/only").touch()
    reader, writer = os.pipe()
    directory = os.open(tmp_path / "layer", os.O_RDONLY)
    with Worker("unpack") as w:
        w.send({"op": "unpack", "media_type": GZIP, "diff_id": "", "whiteouts": "overlay"},
               [reader, directory])
        s = wait_confined(w)
        assert s["NoNewPrivs"] == "1"
        allowed = sum(CAPS[c] for c in ("chown", "dac_override", "dac_read_search", "fowner",
                                        "fsetid", "mknod", "setfcap", "sys_admin"))
        for field in ("CapEff", "CapPrm", "CapBnd"):
            assert int(s[field], 16) & ~allowed == 0
        assert int(s["CapInh"], 16) == int(s["CapAmb"], 16) == 0
        assert root_of(w) == {"only"}
    for fd in (reader, writer, directory):
        os.close(fd)


def test_load_is_confined(tmp_path):
    reader, writer = os.pipe()
    directory = os.open(tmp_path, os.O_RDONLY)
    with Worker("load") as w:
        w.send({"op": "load", "platform": ""}, [reader, directory])
        s = wait_confined(w)
        assert int(s["CapEff"], 16) == int(s["CapPrm"], 16) == 0
        assert root_of(w) == set(os.listdir(tmp_path))
    for fd in (reader, writer, directory):
        os.close(fd)


def test_save_is_confined(tmp_path):
    out = os.open(tmp_path / "out", os.O_CREAT | os.O_WRONLY)
    with Worker("save") as w:
        w.send({"op": "save"}, [out])
        s = wait_confined(w)
        assert int(s["CapEff"], 16) == 0
        assert root_of(w) == set()
    os.close(out)


def test_fetch_is_confined():
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    with Worker("fetch") as w:
        w.send({"op": "pull", "ref": f"127.0.0.1:{port}/x:1", "platform": "linux/amd64",
                "parallel": 1, "endpoints": [
                    {"url": f"http://127.0.0.1:{port}/v2", "host": f"127.0.0.1:{port}",
                     "namespace": f"127.0.0.1:{port}", "capabilities": ["pull", "resolve"]}]})
        client, _ = server.accept()  # it asks, and gets no answer
        s = wait_confined(w)
        assert set(s["Uid"].split()) == set(s["Gid"].split()) == {"65534"}
        assert s["Groups"].strip() == ""
        assert int(s["CapEff"], 16) == int(s["CapPrm"], 16) == int(s["CapBnd"], 16) == 0
        assert root_of(w) <= {"etc", "usr", "lib", "lib64", "run"}
        assert "passwd" not in os.listdir(f"/proc/{w.process.pid}/root/etc")
        client.close()
    server.close()


LESS = {
    "no sys_admin": ["setpriv", "--bounding-set=-sys_admin", "--"],
    "no sys_admin and chroot": ["setpriv", "--bounding-set=-sys_admin,-sys_chroot", "--"],
    "user namespace": ["unshare", "--user", "--map-root-user", "--"],
}


@pytest.mark.parametrize("less", LESS)
def test_unpack_with_less(tmp_path, less, monkeypatch):
    """In a container, or rootless, the fence has fewer parts, and the work is still done."""
    if not shutil.which(LESS[less][0]):
        pytest.skip(f"no {LESS[less][0]}")
    layer = (Layer().dir("d").add("d/f", content=b"x", mode=0o4755).link("h", "d/f")
             .symlink("out", "/etc").add("out/kistl-escape").add(".wh.gone")
             .add("tty", tarfile.CHRTYPE, devmajor=4, devminor=1)).data()
    original = Worker.__init__
    monkeypatch.setattr(Worker, "__init__",
                        lambda self, verb, wrapper=(): original(self, verb, LESS[less]))
    result = unpack(layer, tmp_path / "out")
    assert result["skipped"] == (1 if less == "user namespace" else 0)
    assert os.path.samefile(tmp_path / "out/h", tmp_path / "out/d/f")
    assert (tmp_path / "out/etc/kistl-escape").exists()
    assert not os.path.lexists("/etc/kistl-escape")


def test_not_started_by_hand():
    w = Worker("unpack", wrapper=["sh", "-c", 'exec "$@" 3</dev/null', "sh"])
    assert w.process.wait(timeout=5) == 2
    w.sock.close()
    with Worker("unpack") as w:
        w.send({"op": "load"})
        with pytest.raises(WorkerError, match="expected an unpack message"):
            w.finish()
