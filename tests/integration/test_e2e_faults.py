# SPDX-License-Identifier: Apache-2.0
"""What goes wrong outside of Kistl: registries that lie, stall or are gone, disks that are full, runtimes that
are missing, users who may not. Each has its exit code and a message that names the thing, and leaves nothing."""

import contextlib
import gzip
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import time

import pytest

import images
from harness import Daemon, program, until
from registry import MANIFEST, HostileRegistry, Registry, digest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

LAYER = "application/vnd.oci.image.layer.v1.tar"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
def hostile():
    r = HostileRegistry()
    yield r
    r.close()


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A daemon that waits for a second only until it takes a download for stalled."""
    d = Daemon(config='pull-progress-timeout = "1s"\n')
    yield d
    d.close()


@pytest.fixture
def nothing(quick):
    """The daemon, which must have nothing in the end: no image, no blob, no snapshot, no worker."""
    yield quick
    assert quick.alive(), quick.log()[-3000:]
    for image in quick.request("GET", "/images/json?all=1")[1]:
        quick.request("DELETE", f"/images/{image['Id']}?force=1")
    # What was downloaded so far of a layer waits for the next try.
    def left():
        return [x for x in quick.leaks() if "/ingest/" not in x]

    assert until(lambda: not left()), left()
    for path in quick.ingests():
        shutil.rmtree(path)


def layer(content=b"", **more):
    """(blob, diff id, media type) of a layer with one file."""
    data = images.Tar().dir("srv").add("srv/file", content or random.randbytes(200000)).bytes()
    return data, digest(data), LAYER


def refusal(d, ref, *words, code=1, timeout=60):
    """pull fails with all the words, and so does run."""
    out = d.plain("pull", ref, code=code, timeout=timeout)
    missing = [w for w in words if w.lower() not in out.err.lower()]
    assert not missing, f"{missing} not in {out.err!r}"
    assert "panic" not in out.err and len(out.err) < 2000, out.err
    assert d.plain("images", "-q") == ""
    return out


# ---- what a registry answers ----


def test_unknown_image_and_tag(nothing, hostile):
    hostile.add_image("known", [layer()])
    refusal(nothing, hostile.reference("no/such:1"), hostile.address, "no/such", "manifest unknown")
    refusal(nothing, hostile.reference("known:2"), "known", "manifest unknown")
    refusal(nothing, hostile.reference("known@sha256:" + "0" * 64), "0" * 64, "manifest unknown")
    out = nothing.plain("run", "--rm", hostile.reference("no/such:1"), "true", code=125)
    assert "no/such" in out.err and "kistl run --help" in out.err


def test_manifest_of_another_digest(nothing, hostile):
    wanted = hostile.add_image("image", [layer()])
    hostile.add_image("image", [layer()], tag="other")
    hostile.manifests["image", wanted] = hostile.manifests["image", "other"]
    refusal(nothing, hostile.reference("image@" + wanted), wanted)


@pytest.mark.parametrize("kind", ["flipped", "short", "long", "empty"])
def test_wrong_blob(nothing, hostile, kind):
    blob, diff_id, media_type = layer()
    hostile.add_image("image", [(blob, diff_id, media_type)])
    wrong = bytearray(blob)
    wrong[100000] ^= 1
    hostile.blobs[digest(blob)] = {"flipped": bytes(wrong), "short": blob[:-512], "long": blob + b"x" * 512,
                                   "empty": b""}[kind]
    refusal(nothing, hostile.reference("image"), digest(blob))
    hostile.blobs[digest(blob)] = blob
    nothing.plain("pull", "-q", hostile.reference("image"))


def test_wrong_config_blob(nothing, hostile):
    hostile.add_image("image", [layer()])
    config = json.loads(hostile.manifests["image", "latest"])["config"]["digest"]
    hostile.blobs[config] = hostile.blobs[config].replace(b"linux", b"minix")
    refusal(nothing, hostile.reference("image"), config)


def test_wrong_diff_id(nothing, hostile):
    blob, _, media_type = layer()
    hostile.add_image("image", [(blob, digest(b"another"), media_type)])
    refusal(nothing, hostile.reference("image"), digest(b"another"))


def test_corrupt_compression(nothing, hostile):
    blob, diff_id, media_type = layer()
    for kind, data in (("gzip", gzip.compress(blob)), ("zstd", b"\x28\xb5\x2f\xfd" + b"\xff" * 5000)):
        bad = data[:500] + b"\xff" * 200 + data[700:]
        hostile.add_image("image", [(bad, diff_id, f"{media_type}+{kind}")])
        refusal(nothing, hostile.reference("image"), digest(bad))


def test_truncated_and_resumed(nothing, hostile):
    blob, diff_id, media_type = layer()
    hostile.add_image("image", [(blob, diff_id, media_type)])
    ranges = []

    def short(h):
        asked = h.headers.get("Range")
        ranges.append(asked)
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        h.send_response(206 if asked else 200)
        if asked:
            h.send_header("Content-Range", f"bytes {first}-{len(blob) - 1}/{len(blob)}")
        h.send_header("Content-Length", str(len(blob) - first))
        h.end_headers()
        h.wfile.write(blob[first:first + 100000])
        h.wfile.flush()
        h.connection.shutdown(socket.SHUT_RDWR)
        h.close_connection = True
        return True

    hostile.rules.append(("GET .*/blobs/" + digest(blob), short))
    nothing.plain("pull", "-q", hostile.reference("image"))
    assert ranges[:3] == [None, "bytes=100000-", "bytes=200000-"]


def test_next_pull_goes_on(nothing, hostile):
    """A pull that failed for good keeps what it has for the next one."""
    blob, diff_id, media_type = layer()
    hostile.add_image("image", [(blob, diff_id, media_type)])
    ranges = []

    def broken(h):
        ranges.append(h.headers.get("Range"))
        if len(ranges) == 1:
            h.send_response(200)
            h.send_header("Content-Length", str(len(blob)))
            h.end_headers()
            h.wfile.write(blob[:100000])
            h.wfile.flush()
            h.connection.shutdown(socket.SHUT_RDWR)
            h.close_connection = True
            return True
        return h.error(403, "DENIED", "no more")

    rule = ("GET .*/blobs/" + digest(blob), broken)
    hostile.rules.append(rule)
    refusal(nothing, hostile.reference("image"), "403", "no more")
    hostile.rules.remove(rule)
    hostile.rules.append(("GET .*/blobs/" + digest(blob), lambda h: ranges.append(h.headers.get("Range"))))
    nothing.plain("pull", "-q", hostile.reference("image"))
    assert ranges[-1] == "bytes=100000-"


def endless(h, length=None):
    h.send_response(200)
    h.send_header("Content-Type", MANIFEST)
    if length:
        h.send_header("Content-Length", str(length))
    h.end_headers()
    with contextlib.suppress(OSError):
        for _ in range(20000):
            h.wfile.write(b"x" * 65536)
    h.close_connection = True
    return True


def test_endless_bodies(nothing, hostile):
    blob, diff_id, media_type = layer()
    hostile.add_image("image", [(blob, diff_id, media_type)])
    for where, word in (("/manifests/", "image"), ("/blobs/" + digest(blob), digest(blob))):
        hostile.rules[:] = [("GET .*" + where, endless)]
        refusal(nothing, hostile.reference("image"), word)
    size = sum(f.stat().st_size for f in nothing.root.rglob("*") if f.is_file())
    assert size < 10 << 20


def test_manifest_too_big(nothing, hostile):
    hostile.rules.append(("GET .*/manifests/", lambda h: endless(h, 1 << 30)))
    refusal(nothing, hostile.reference("image"), "image", "larger than")


def test_first_answer_never_comes(nothing, hostile):
    hostile.rules.append((".", lambda h: time.sleep(4)))
    begin = time.monotonic()
    refusal(nothing, hostile.reference("image"), hostile.address, "stalled")
    assert time.monotonic() - begin < 3.9


@pytest.mark.parametrize("where", ["GET .*/manifests/", "GET .*/blobs/"])
def test_stall(nothing, hostile, where):
    hostile.add_image("image", [layer()])
    stalls = []

    def stall(h):
        if len(stalls) < 1:
            stalls.append(h.path)
            time.sleep(4)
            h.close_connection = True
            return True

    hostile.rules.append((where, stall))
    begin = time.monotonic()
    nothing.plain("pull", "-q", hostile.reference("image"))
    assert time.monotonic() - begin < 3.9


def test_unauthorized(nothing, hostile):
    hostile.add_image("image", [layer()])
    hostile.rules.append((".", lambda h: h.error(401, "UNAUTHORIZED", "authentication required",
                                                 WWW_Authenticate='Basic realm="here"')))
    refusal(nothing, hostile.reference("image"), "access denied", "login", hostile.address)


def test_denied(nothing, hostile):
    hostile.rules.append((".", lambda h: h.error(403, "DENIED", "requested access to the resource is denied")))
    refusal(nothing, hostile.reference("image"), "403", "requested access to the resource is denied")


@pytest.mark.parametrize("status,message", [(429, "slow down"), (500, "oops"), (503, "maintenance")])
def test_busy_then_well(nothing, hostile, status, message):
    hostile.add_image("image", [layer()])
    seen = {}

    def busy(h):
        kind = h.path.split("/")[-2]
        seen.setdefault(kind, time.monotonic())
        if time.monotonic() - seen[kind] < 0.9:
            return h.error(status, "BUSY", message, Retry_After="1")

    hostile.rules.append(("(GET|HEAD) .*/(manifests|blobs)/", busy))
    nothing.plain("pull", "-q", hostile.reference("image"))
    assert len(hostile.requests) < 14, hostile.requests


def test_rate_limit_for_good(nothing, hostile):
    hostile.rules.append(("/manifests/", lambda h: h.error(429, "TOOMANYREQUESTS", "you have pulled too much")))
    refusal(nothing, hostile.reference("image"), "image", "429 too many requests")


def test_server_errors_for_good(nothing, hostile):
    hostile.rules.append((".", lambda h: h.answer(503, b"<html>bad\x1b[31m gateway</html>", "text/html")))
    out = refusal(nothing, hostile.reference("image"), "503", hostile.address)
    assert "\x1b" not in out.err


def test_registry_is_down(nothing):
    port = Registry.free_port()
    begin = time.monotonic()
    refusal(nothing, f"127.0.0.1:{port}/image:1", f"127.0.0.1:{port}", "connect")
    refusal(nothing, "registry.invalid/image:1", "registry.invalid")
    assert time.monotonic() - begin < 10


def test_redirect_loop(nothing, hostile):
    hostile.add_image("image", [layer()])
    hostile.rules.append(("/blobs/", lambda h: h.answer(307, b"", Location=h.path + "x")))
    refusal(nothing, hostile.reference("image"), "redirect")
    assert len(hostile.requests) < 40


def test_no_registry_at_all(nothing, hostile):
    hostile.rules.append((".", lambda h: h.answer(200, b"<html>hello</html>", "text/html")))
    refusal(nothing, hostile.reference("image"), "image")


def add_index(hostile, name, platforms):
    manifest = hostile.manifests[name, "latest"]
    entries = [{"mediaType": MANIFEST, "digest": digest(manifest), "size": len(manifest), "platform": p}
               for p in platforms]
    data = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    hostile.manifests[name, "latest"] = hostile.manifests[name, digest(data)] = data


def test_index_without_our_platform(nothing, hostile):
    hostile.add_image("image", [layer()])
    add_index(hostile, "image", [{"os": "windows", "architecture": "amd64"}, {"os": "linux", "architecture": "s390x"}])
    refusal(nothing, hostile.reference("image"), "image:latest", "no matching manifest for linux/amd64")


def test_schema1(nothing, hostile):
    data = json.dumps({"schemaVersion": 1, "name": "image", "tag": "latest", "fsLayers": [], "history": [],
                       "mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"}).encode()
    hostile.manifests["image", "latest"] = data
    refusal(nothing, hostile.reference("image"), "schema 1")


@pytest.mark.parametrize("document", [b"", b"{", b"[]", b"null", b'{"schemaVersion": 2, "config": 7}', b"\xff" * 100,
                                      b"[" * 100000])
def test_manifest_of_nonsense(nothing, hostile, document):
    hostile.rules.append(("/manifests/", lambda h: h.answer(200, document, MANIFEST)))
    refusal(nothing, hostile.reference("image"), "image")


# ---- layers that want out ----


def climbing_layers(outside):
    up = "../" * 12 + str(outside).lstrip("/")
    return {
        "dots": images.Tar().add(up + "/dots", b"x"),
        "absolute": images.Tar().add(f"{outside}/absolute", b"x"),
        "symlink": images.Tar().symlink("link", str(outside)).add("link/symlink", b"x"),
        "relative-symlink": images.Tar().symlink("link", up).add("link/relative", b"x"),
        "hardlink": images.Tar().link("passwd", up + "/secret"),
        "hardlink-absolute": images.Tar().link("passwd", f"{outside}/secret"),
        "hardlink-through-symlink": images.Tar().symlink("link", str(outside)).link("stolen", "link/secret"),
        "whiteout": images.Tar().symlink("link", str(outside)).add("link/.wh.secret", b""),
        "opaque": images.Tar().symlink("link", str(outside)).add("link/.wh..wh..opq", b""),
        "whiteout-dots": images.Tar().add("srv/.wh...", b"").add("srv/.wh..", b""),
    }


@pytest.mark.parametrize("which", sorted(climbing_layers("x")))
def test_layer_that_climbs_out(nothing, hostile, tmp_path, which):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    data = climbing_layers(outside)[which].bytes()
    hostile.add_image("image", [(data, digest(data), LAYER)])
    out = nothing.plain("pull", hostile.reference("image"), code=None)
    assert out.code in (0, 1)
    if out.code:
        assert digest(data) in out.err, out.err
    assert [p.name for p in outside.iterdir()] == ["secret"] and (outside / "secret").read_text() == "secret"
    for path in nothing.snapshots() if out.code == 0 else []:
        for file in pathlib.Path(path).rglob("*"):
            assert file.is_symlink() or not file.is_file() or file.read_bytes() != b"secret", file


# ---- disks ----


@pytest.fixture
def small(tmp_path):
    """A daemon whose root is a tmpfs of 24 MiB."""
    root = tmp_path / "small"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "small", root], check=True)
    try:
        d = Daemon(root=root)
        try:
            yield d
        finally:
            d.close()
    finally:
        subprocess.run(["umount", "-l", root], check=True)


def free(d):
    st = os.statvfs(d.root)
    return st.f_bavail * st.f_frsize


def test_full_disk(small, hostile, busybox_archive):
    d = small
    d.client("load", "-q", "-i", busybox_archive)
    before, snapshots = free(d), set(d.snapshots())
    blob, diff_id, media_type = layer(random.randbytes(14 << 20))
    hostile.add_image("big", [(blob, diff_id, media_type)])
    out = d.plain("pull", hostile.reference("big"), code=1)
    assert "no space left" in out.err.lower(), out.err
    assert d.client("run", "--rm", "busybox", "echo", "still") == "still\n"
    assert until(lambda: set(d.snapshots()) == snapshots) and not d.ingests()
    assert until(lambda: free(d) > before - (1 << 20)), f"{before} bytes free before, {free(d)} after"
    small_layer = layer(random.randbytes(2 << 20))
    hostile.add_image("little", [small_layer])
    d.client("pull", "-q", hostile.reference("little"))


def test_disk_full_to_the_brim(small, busybox_archive):
    """Nothing can be written: each command says so, the daemon stays, and goes on when there is room."""
    d = small
    d.client("load", "-q", "-i", busybox_archive)
    d.client("run", "-d", "--name", "running", "busybox", "sleep", "1000")
    ballast = d.root / "ballast"
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as f:
        while True:
            f.write(b"x" * 4096)
    for args, code in ((["run", "--rm", "busybox", "true"], 125), (["create", "busybox", "true"], 1),
                       (["load", "-q", "-i", busybox_archive], None), (["volume", "create", "vol"], None)):
        out = d.plain(*args, code=None)
        assert out.code == 0 or (out.code in (1, 125) and ("space" in out.err or "full" in out.err)), (args, out.err)
        assert code is None or out.code in (0, code)
    assert d.client.inspect("running", "{{.State.Running}}") == "true"
    ballast.unlink()
    assert d.client("run", "--rm", "busybox", "echo", "fine") == "fine\n"
    d.client("rm", "-f", "running")
    d.client("volume", "prune", "-af")
    d.remove_containers()
    d.restart()
    d.assert_clean(images=False)


# ---- OCI runtimes ----


def test_runtime_that_is_unknown(kistl):
    out = kistl("run", "--rm", "--runtime", "nope", "busybox", "true", code=125)
    assert "unknown or invalid runtime name: nope" in out.err
    assert kistl("ps", "-aq") == ""


BAD_RUNTIMES = {
    "dies": ("#!/bin/sh\nkill -9 $$\n", "dies: "),
    "fails": ("#!/bin/sh\necho 'the dog ate it' >&2\nexit 1\n", "fails: exit status 1"),
    "silent": ("#!/bin/sh\nexit 3\n", "silent: exit status 3"),
    "lies": ("#!/bin/sh\nexit 0\n", ""),
    "chatters": ("#!/bin/sh\nhead -c 40000 /dev/zero | tr '\\0' x >&2\nexit 1\n", "chatters: exit status 1"),
    "nobody": ("#!/does/not/exist\n", "nobody"),
}


@pytest.fixture(scope="module")
def bad_runtimes(tmp_path_factory, busybox_archive):
    where, config = tmp_path_factory.mktemp("runtimes"), ""
    for name, (script, _) in BAD_RUNTIMES.items():
        (where / name).write_text(script)
        (where / name).chmod(0o755)
        config += f'[kistl.runtimes.{name}]\npath = "{where}/{name}"\n'
    d = Daemon(config=config)
    d.client("load", "-q", "-i", busybox_archive)
    yield d
    d.close()


@pytest.mark.parametrize("name", BAD_RUNTIMES)
def test_bad_runtime(bad_runtimes, name):
    d = bad_runtimes
    out = d.plain("run", "--rm", "-p", "80", "--runtime", name, "busybox", "true", code=None)
    assert out.code in (125, 126, 127), out
    assert BAD_RUNTIMES[name][1] in out.err and len(out.err) < 10000, out.err
    assert until(lambda: d.client("ps", "-aq") == "")
    d.assert_clean(images=False)
    assert d.client("run", "--rm", "busybox", "echo", "fine") == "fine\n"


# ---- users ----


def test_name_in_use(kistl):
    cid = kistl("create", "--name", "taken", "busybox", "true").strip()
    for command, code in ((["run", "--name", "taken", "busybox", "true"], 125),
                          (["create", "--name", "taken", "busybox", "true"], 1)):
        out = kistl(*command, code=code)
        assert '"/taken" is already in use' in out.err and cid in out.err
    assert len(kistl.lines("ps", "-aq")) == 1


@pytest.mark.parametrize("args,words", [
    (["run", "--bogus", "busybox"], ["--bogus"]),
    (["run", "-Z", "busybox"], ["-Z"]),
    (["run"], ["requires at least 1 argument"]),
    (["run", "--memory", "lots", "busybox"], ["lots", "memory"]),
    (["run", "-p", "99999999:1", "busybox"], ["99999999"]),
    (["run", "-v", "a:b:c:d", "busybox"], ["a:b:c:d"]),
    (["run", "--name"], ["name"]),
    (["run", "--restart", "sometimes", "busybox"], ["sometimes"]),
    (["run", "Not/A:valid:Ref"], ["invalid reference format"]),
    (["create", "--cpus", "minus", "busybox"], ["minus", "cpus"]),
    (["exec"], ["requires at least 2 arguments"]),
    (["exec", "--what", "x", "y"], ["--what"]),
    (["nonsense"], ["nonsense"]),
    (["ps", "--filter", "bogus=1"], ["bogus"]),
    (["pull"], ["requires", "1 argument"]),
])
def test_bad_command_lines(kistl, args, words):
    out = kistl(*args, code=None)
    wanted = 125 if args[0] in ("run", "create", "exec") and any(a.startswith("-") for a in args[1:]) else (1, 125)
    assert out.code in (wanted if isinstance(wanted, tuple) else (wanted,)), (out.code, out.err)
    assert all(w in out.err for w in words), out.err
    assert "--help" in out.err or args[0] == "ps", out.err
    assert kistl("ps", "-aq") == ""


def test_socket_that_one_may_not_use(daemon):
    tool = shutil.copy(program("kistl"), daemon.base / "kistl-for-all")  # its directory may not be for all
    os.chmod(tool, 0o755)
    os.chmod(daemon.base, 0o755)
    out = subprocess.run(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", tool, "ps"],
                         capture_output=True, text=True, env=daemon.client.env, cwd="/")
    assert out.returncode == 1 and out.stdout == ""
    assert "permission denied" in out.stderr and daemon.socket in out.stderr, out.stderr
    out = subprocess.run(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", tool, "run", "busybox"],
                         capture_output=True, text=True, env=daemon.client.env, cwd="/")
    assert out.returncode == 125 and "permission denied" in out.stderr


def test_daemon_is_not_reachable(daemon, tmp_path):
    host = f"unix://{tmp_path}/none.sock"
    for command, code in ((["ps"], 1), (["run", "busybox", "true"], 125), (["pull", "busybox"], 1)):
        out = subprocess.run([program("kistl"), "--host", host, *command], capture_output=True, text=True,
                             env=daemon.client.env, timeout=30)
        assert out.returncode == code and host in out.stderr and "connect" in out.stderr, out
    out = subprocess.run([program("kistl"), "--host", "tcp://127.0.0.1:1", "ps"], capture_output=True, text=True)
    assert out.returncode == 1 and "tcp://127.0.0.1:1" in out.stderr


def test_something_else_listens(daemon, tmp_path):
    """What answers is no daemon: nothing at all, and nonsense."""
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path))
        s.listen()
        for answer in (b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"):
            with daemon.client.popen("--host", f"unix://{path}", "ps") as p:
                s.settimeout(10)
                for _ in range(2):
                    with contextlib.suppress(socket.timeout):
                        c, _ = s.accept()
                        c.recv(1000)
                        c.sendall(answer)
                        c.close()
                    s.settimeout(0.3)
                assert p.wait(10) == 1
                assert p.rest()


# ---- what the daemon finds at its start ----


def start_fails(d):
    d.start(wait=False)
    assert d.process.wait(20) == 1
    return d.log()


@pytest.mark.parametrize("how", ["nonsense", "flipped", "newer"])
def test_corrupt_database(fresh, busybox_archive, how):
    d = fresh()
    d.client("load", "-q", "-i", busybox_archive)
    d.stop()
    path = d.root / "metadata.db"
    good = path.read_bytes()
    bad = bytearray(good)
    if how == "nonsense":
        bad[:] = b"this is no database\n" * 1000
    elif how == "flipped":
        for at in range(100, len(bad), 37):
            bad[at] ^= 0x55
    else:
        bad[60:64] = (9999).to_bytes(4, "big")  # user_version
    path.write_bytes(bad)
    for name in ("metadata.db-wal", "metadata.db-shm"):
        (d.root / name).unlink(missing_ok=True)
    log = start_fails(d)
    assert str(path) in log.splitlines()[-1], log[-1000:]
    assert path.read_bytes() == bad  # it may still be repaired
    path.write_bytes(good)
    d.start()
    assert d.client("run", "--rm", "busybox", "echo", "fine") == "fine\n"


def test_root_that_is_a_file(tmp_path):
    (tmp_path / "root").write_text("")
    r = subprocess.run([program("kistld"), "--root", tmp_path / "root", "--state", tmp_path / "state"],
                       capture_output=True, text=True, timeout=20)
    assert r.returncode == 1 and str(tmp_path / "root") in r.stderr
