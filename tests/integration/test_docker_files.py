# SPDX-License-Identifier: Apache-2.0
"""Files of containers by the Engine API: docker cp in both directions, running and stopped, against hostile links;
diff, export, commit, import. The client is Debian's docker, unmodified."""

import base64
import io
import json
import os
import tarfile

import pytest

from harness import UnixHTTP


def tar_of(*members, **kw):
    """An archive of (name, bytes | None for a directory | "->target")."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, data in members:
            i = tarfile.TarInfo(name)
            for k, v in kw.items():
                setattr(i, k, v)
            if data is None:
                i.type, i.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(data, str):
                i.type, i.linkname = tarfile.SYMTYPE, data[2:]
            else:
                i.size = len(data)
            t.addfile(i, io.BytesIO(data) if isinstance(data, bytes) else None)
    return out.getvalue()


def names(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as t:
        return [m.name for m in t]


@pytest.fixture(params=["running", "stopped"])
def box(request, docker):
    """A container with files, which runs or has ended."""
    script = "mkdir -p /d/sub /etc; echo one >/d/a; echo two >/d/sub/b; ln -s /d/a /link; ln -s /d /dirlink; " \
        "ln -s /../../../../etc /up; chmod 4755 /d/a; ln /d/a /d/hard"
    docker("run", "-d", "--name", "box", "-v", "vol:/v", "busybox", "sh", "-c",
           script + "; echo vol >/v/f; touch /ready; trap exit TERM; while :; do sleep 0.1; done")
    for _ in range(200):
        if docker("exec", "box", "ls", "/ready", code=None).code == 0:
            break
    if request.param == "stopped":
        docker("stop", "-t", "5", "box")
    return "box"


def archive(daemon, method, path, body=None, query="", id="box"):
    """Status, body (JSON where it is), headers."""
    c = UnixHTTP(daemon.socket)
    try:
        c.request(method, f"/v1.41/containers/{id}/archive?path={path}{query}", body)
        r = c.getresponse()
        raw = r.read()
        return r.status, json.loads(raw) if raw and "json" in (r.getheader("Content-Type") or "") else raw, r.headers
    finally:
        c.close()


def test_copy_out(box, docker, tmp_path):
    docker("cp", f"{box}:/d", str(tmp_path / "d"))
    assert (tmp_path / "d/a").read_text() == "one\n"
    assert (tmp_path / "d/sub/b").read_text() == "two\n"
    assert (tmp_path / "d/a").stat().st_mode & 0o7777 == 0o4755
    assert os.path.samefile(tmp_path / "d/a", tmp_path / "d/hard")
    docker("cp", f"{box}:/v/f", str(tmp_path / "f"))
    assert (tmp_path / "f").read_text() == "vol\n"
    docker("cp", f"{box}:/link", str(tmp_path / "link"))
    assert os.readlink(tmp_path / "link") == "/d/a"
    docker("cp", "-L", f"{box}:/link", str(tmp_path / "followed"))
    assert (tmp_path / "followed").read_text() == "one\n"
    docker("cp", f"{box}:/d/.", str(tmp_path / "contents"))
    assert sorted(os.listdir(tmp_path / "contents")) == ["a", "hard", "sub"]


def test_copy_in(box, docker, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x").write_text("x\n")
    docker("cp", str(tmp_path / "in"), f"{box}:/d")
    docker("cp", str(tmp_path / "in/x"), f"{box}:/v/y")
    docker("cp", str(tmp_path / "in/x"), f"{box}:/dirlink/z")
    for path in ("/d/in/x", "/v/y", "/d/z"):
        docker("cp", f"{box}:{path}", str(tmp_path / "back"))
        assert (tmp_path / "back").read_text() == "x\n"
    assert "cannot overwrite directory" in docker("cp", str(tmp_path / "in/x"), f"{box}:/d/sub/.", code=None).err or \
        docker("cp", f"{box}:/d/sub/x", str(tmp_path / "sub")) == ""
    assert "no such directory" in docker("cp", str(tmp_path / "in/x"), f"{box}:/nosuch/", code=1).err


def test_archive_headers(box, daemon):
    status, body, headers = archive(daemon, "HEAD", "/d/a")
    assert status == 200
    stat = json.loads(base64.b64decode(headers["X-Docker-Container-Path-Stat"]))
    assert (stat["name"], stat["size"], stat["mode"], stat["linkTarget"]) == ("a", 4, 0o755 | 1 << 23, "")
    stat = json.loads(base64.b64decode(archive(daemon, "HEAD", "/link")[2]["X-Docker-Container-Path-Stat"]))
    assert stat["mode"] & 1 << 27 and stat["linkTarget"] == "/d/a"
    assert archive(daemon, "HEAD", "/nosuch")[0] == 404
    assert archive(daemon, "GET", "/nosuch")[0] == 404
    assert "Could not find the file /nosuch in container box" in archive(daemon, "GET", "/nosuch")[1]["message"]
    assert archive(daemon, "GET", "")[0] == 400
    assert archive(daemon, "PUT", "/nosuch", tar_of(("x", b"")))[0] == 404
    assert archive(daemon, "PUT", "/d/a", tar_of(("x", b"")))[0] == 400
    assert archive(daemon, "PUT", "/d", b"no tar at all" * 100)[0] == 400


def test_links_lead_nowhere_else(box, daemon, docker):
    """Whatever links are in the container or the archive, the host's files are out of reach."""
    secret = "/tmp/kistl-test-secret"
    with open(secret, "w") as f:
        f.write("host")
    try:
        assert archive(daemon, "GET", "/up/.." + secret)[0] == 404
        assert archive(daemon, "GET", "/../../../.." + secret)[0] == 404
        evil = tar_of(("l", "->/"), ("l/tmp/kistl-test-evil", b"evil"), ("../../../../tmp/kistl-test-evil", b"evil"),
                      ("m", "->../../../../../../tmp"), ("m/kistl-test-evil", b"evil"))
        archive(daemon, "PUT", "/d", evil)
        archive(daemon, "PUT", "/up", evil)
        assert not os.path.exists("/tmp/kistl-test-evil")
    finally:
        os.unlink(secret)


def test_kinds_and_owners(box, daemon, docker):
    assert archive(daemon, "PUT", "/", tar_of(("d", b"file")), "&noOverwriteDirNonDir=true")[0] == 400
    assert archive(daemon, "PUT", "/d", tar_of(("a", None)), "&noOverwriteDirNonDir=1")[0] == 400
    assert archive(daemon, "PUT", "/d", tar_of(("owned", b"1"), uid=1234, gid=55))[0] == 200
    assert archive(daemon, "PUT", "/d", tar_of(("mine", b"1"), uid=1234, gid=55), "&copyUIDGID=1")[0] == 200
    with tarfile.open(fileobj=io.BytesIO(archive(daemon, "GET", "/d/.")[1])) as t:
        owners = {os.path.basename(m.name): (m.uid, m.gid) for m in t}
    assert owners["owned"] == owners["mine"] == (1234, 55)  # without a user there is nobody else to give them to


def test_owner_is_the_user(docker, daemon):
    docker("create", "--name", "box", "-u", "77:88", "busybox", "true")
    assert archive(daemon, "PUT", "/", tar_of(("mine", b"1"), uid=1234, gid=55), "&copyUIDGID=1")[0] == 200
    with tarfile.open(fileobj=io.BytesIO(archive(daemon, "GET", "/mine")[1])) as t:
        assert [(m.uid, m.gid) for m in t] == [(77, 88)]
    docker("rm", "box")


def test_read_only(docker, daemon):
    docker("create", "--name", "box", "--read-only", "-v", "vol:/v:ro", "-v", "www:/w", "busybox", "true")
    status, body, _ = archive(daemon, "PUT", "/", tar_of(("x", b"")))
    assert status in (403, 400) and "rootfs is marked read-only" in body["message"]
    assert "volume is marked read-only" in archive(daemon, "PUT", "/v", tar_of(("x", b"")))[1]["message"]
    docker("rm", "box")


def test_diff(box, docker):
    docker("cp", "-", f"{box}:/", input=tar_of(("new", b"1")))
    lines = set(docker.lines("diff", box))
    assert {"A /d", "A /d/a", "A /d/sub", "A /d/sub/b", "A /link", "A /new", "A /ready"} <= lines
    assert not any(line[2:] in ("/proc", "/sys", "/dev", "/etc/hosts", "/etc/resolv.conf") for line in lines)


def test_diff_of_deletions(docker):
    docker("run", "--name", "gone", "busybox", "sh", "-c", "rm /bin/ls; echo >>/etc/passwd; rm -r /home; mkdir /home")
    lines = docker.lines("diff", "gone")
    assert "D /bin/ls" in lines and "C /bin" in lines


def test_export_and_import(box, docker, tmp_path):
    docker("export", "-o", str(tmp_path / "x.tar"), box)
    data = (tmp_path / "x.tar").read_bytes()
    got = names(data)
    assert "d/a" in got and "bin/busybox" in got and "v/f" not in got
    id = docker("import", "-c", "CMD [\"echo\", \"hi\"]", "-c", "ENV A=b", "-m", "text", "-", "imported:1",
                input=data).strip()
    assert id.startswith("sha256:")
    image = docker.json("image", "inspect", "imported:1")[0]
    assert image["Config"]["Cmd"] == ["echo", "hi"] and image["Config"]["Env"] == ["A=b"]
    assert image["Comment"] == "text"
    assert docker("run", "--rm", "imported:1") == "hi\n"
    assert docker("run", "--rm", "imported:1", "cat", "/d/sub/b") == "two\n"
    docker("rmi", "imported:1")


def test_commit(box, docker):
    id = docker("commit", "-a", "me", "-m", "why", "-c", "WORKDIR /d", "-c", "LABEL x=y", box, "committed:2").strip()
    image = docker.json("image", "inspect", "committed:2")[0]
    assert image["Id"] == id and image["Author"] == "me" and image["Comment"] == "why"
    assert image["Config"]["WorkingDir"] == "/d" and image["Config"]["Labels"]["x"] == "y"
    assert len(image["RootFS"]["Layers"]) == len(docker.json("image", "inspect", "busybox")[0]["RootFS"]["Layers"]) + 1
    assert docker("run", "--rm", "committed:2", "sh", "-c", "pwd; cat a /d/sub/b; ls /v") == "/d\none\ntwo\n"
    assert docker.lines("history", "--format", "{{.Comment}}", "committed:2")[0] == "why"
    docker("rmi", "committed:2")


def test_commit_keeps_deletions(docker):
    docker("run", "--name", "gone", "busybox", "sh", "-c", "rm /bin/ls; mkdir /n; echo 1 >/n/f")
    docker("commit", "gone", "less")
    docker("run", "--name", "more", "less", "sh", "-c", "rm -r /n; mkdir /n; echo 2 >/n/g; test ! -e /bin/ls")
    docker("commit", "more", "less2")
    assert docker("run", "--rm", "less2", "sh", "-c", "test ! -e /bin/ls && echo /n/*") == "/n/g\n"
    docker("rm", "gone", "more")
    docker("rmi", "less", "less2")
