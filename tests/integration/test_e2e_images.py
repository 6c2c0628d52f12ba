# SPDX-License-Identifier: Apache-2.0
"""Images end to end: pulled from Debian's docker-registry and unpacked as umoci does it, pushed, saved, loaded,
and what happens when a registry, an image or the disk is bad."""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import threading
import time

import pytest

import images
from harness import Daemon, until
from registry import MANIFEST, HostileRegistry, Registry, basic, digest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

LAYER = "application/vnd.oci.image.layer.v1.tar"


@pytest.fixture(scope="session")
def debian(registry, scratch):
    """The Debian image in the registry as debian:test, and umoci's tree of it."""
    image = images.DebianImage(scratch / "debian")
    image.reference = registry.push(f"oci:{image.mixed}:test", "debian:test", "--preserve-digests")
    # skopeo must not have recompressed anything: the registry has what was made.
    made = json.loads((image.mixed / "index.json").read_text())["manifests"][0]["digest"]
    assert digest(registry.manifest("debian:test")) == made
    image.digest = made
    image.began = time.time_ns()
    image.tree = images.tree(image.unpack(scratch / "umoci"))
    return image


@pytest.fixture(scope="module")
def kistl(daemon):
    return daemon.client


@pytest.fixture(autouse=True)
def tidy(daemon):
    yield
    assert daemon.alive(), "kistld has died:\n" + daemon.log()[-4000:]
    daemon.remove_containers()


@contextlib.contextmanager
def rootfs(kistl, image, *command):
    """The root of a running container, seen through /proc; paths beneath other mounts are named."""
    id = kistl("run", "-d", "--network", "none", image, *(command or ("sleep", "1000"))).strip()
    pid = kistl.inspect(id, "{{.State.Pid}}")
    with open(f"/proc/{pid}/mountinfo") as f:
        mounts = [line.split()[4] for line in f]
    try:
        yield f"/proc/{pid}/root/", [m for m in mounts if m != "/"]
    finally:
        kistl("rm", "-f", id)


def unspecified_times(ours, theirs, began):
    """Directories that no layer names get the time of unpacking: nobody's is right or wrong. The root is the
    container's own directory, as new as the container."""
    theirs["/"] = dict(theirs["/"], mtime=ours["/"]["mtime"])
    for path, entry in theirs.items():
        if path in ours and entry["mtime"] >= began and entry["type"] == 0o040000:
            entry = theirs[path] = dict(entry)
            entry["mtime"] = ours[path]["mtime"]


def compare(ours, debian, exclude):
    theirs = {p: d for p, d in debian.tree.items()
              if not any(p == e or p.startswith(e + "/") for e in exclude)}
    unspecified_times(ours, theirs, debian.began)
    for group in (ours, theirs):  # a link group is the same whatever lies beneath mounts
        for entry in group.values():
            if "links" in entry:
                entry["links"] = [p for p in entry["links"] if p in group]
    return images.differences(ours, theirs)


def test_pull_prints_what_docker_prints(kistl, debian):
    out = kistl("pull", debian.reference)
    assert f"Digest: {debian.digest}" in out
    assert f"Status: Downloaded newer image for {debian.reference}" in out
    assert out.rstrip().endswith(debian.reference)
    again = kistl("pull", debian.reference)
    assert f"Status: Image is up to date for {debian.reference}" in again
    assert kistl("pull", "-q", debian.reference).strip() == debian.reference


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
def test_unpacked_as_umoci_does(fresh, debian, snapshotter):
    d = fresh(None, "--snapshotter", snapshotter)
    d.client("pull", "-q", debian.reference)
    with rootfs(d.client, debian.reference) as (path, mounts):
        ours = images.tree(path, exclude=mounts)
        sparse = [os.stat(f"{path}/srv/sparse-{x}").st_blocks * 512 for x in ("gnu", "pax")]
    different = compare(ours, debian, mounts)
    assert not different, f"{len(different)} differences:\n" + "\n".join(different[:40])
    assert len(ours) > 4000 and "/srv/opaque/new" not in ours and "/srv/gone/inside" not in ours
    assert all(size < 1 << 20 for size in sparse), f"sparse files take {sparse} bytes"


def test_runs_debian(kistl, debian):
    kistl("pull", "-q", debian.reference)
    assert "bookworm" in kistl("run", "--rm", debian.reference, "cat", "/etc/os-release")
    assert kistl("run", "--rm", debian.reference, "pwd") == "/srv\n"
    out = kistl("run", "--rm", debian.reference, "getcap", "/usr/bin/env", "/srv/capable")
    assert "/usr/bin/env cap_net_raw=ep" in out and "/srv/capable" in out
    assert kistl("run", "--rm", "-u", "nobody", debian.reference, "/usr/bin/id", "-un") == "nobody\n"


def test_busybox_unpacked_as_umoci_does(kistl, registry, busybox, scratch, tmp_path):
    layout = tmp_path / "layout"
    subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", f"docker://{busybox}",
                    f"oci:{layout}:x"], check=True)
    subprocess.run(["umoci", "raw", "unpack", "--image", f"{layout}:x", tmp_path / "tree"], check=True, capture_output=True)
    theirs = images.tree(tmp_path / "tree")
    kistl("pull", "-q", busybox)
    with rootfs(kistl, busybox) as (path, mounts):
        ours = images.tree(path, exclude=mounts)
    skip = [*mounts, "/etc"]  # hosts, hostname and resolv.conf are made there when missing
    theirs = {p: d for p, d in theirs.items() if not any(p == e or p.startswith(e + "/") for e in skip)}
    ours = {p: d for p, d in ours.items() if not any(p == e or p.startswith(e + "/") for e in skip)}
    unspecified_times(ours, theirs, 1790000000 * 10**9)
    assert images.differences(ours, theirs) == []
    assert len(theirs["/bin/busybox"]["links"]) > 200


def test_pull_again_after_removal(kistl, debian, daemon):
    kistl("pull", "-q", debian.reference)
    kistl("rmi", debian.reference)
    assert until(lambda: not any(size_of(s) > 50 << 20 for s in daemon.snapshots()))
    kistl("pull", "-q", debian.reference)
    assert kistl("run", "--rm", debian.reference, "cat", "/srv/a/file") == "one\n"


def size_of(path):
    return int(subprocess.run(["du", "-sb", path], capture_output=True, text=True).stdout.split()[0] or 0)


def test_pull_by_digest(kistl, debian, registry):
    name = registry.reference("debian") + "@" + debian.digest
    out = kistl("pull", name)
    assert f"Digest: {debian.digest}" in out
    assert kistl("run", "--rm", name, "cat", "/srv/a/file") == "one\n"
    assert name in kistl.json("image", "inspect", name)[0]["RepoDigests"]
    missing = registry.reference("debian") + "@sha256:" + "0" * 64
    out = kistl("pull", missing, code=1)
    assert "not found" in out.err or "manifest unknown" in out.err


def test_concurrent_pulls_of_one_image(fresh, debian):
    d = fresh()
    running = [d.client.popen("pull", "-q", debian.reference) for _ in range(4)]
    for p in running:
        with p:
            assert debian.reference.encode() in p.rest() and p.wait() == 0
    assert d.client("run", "--rm", debian.reference, "cat", "/srv/a/file") == "one\n"
    assert d.ingests() == []


def test_push_and_pull_back(kistl, debian, registry, fresh):
    kistl("pull", "-q", debian.reference)
    copy = registry.reference("copies/debian:pushed")
    kistl("tag", debian.reference, copy)
    out = kistl("push", copy)
    assert re.search(rf"pushed: digest: {debian.digest} size: \d+", out)
    # Same repository host: what is there already is mounted, not sent again.
    assert "Mounted from" in out or "Layer already exists" in out
    assert digest(registry.manifest("copies/debian:pushed")) == debian.digest
    d = fresh()
    d.client("pull", "-q", copy)
    assert d.client("run", "--rm", copy, "cat", "/srv/gone/back") == "back"
    out = kistl("push", copy)
    assert "Layer already exists" in out


def test_push_to_another_registry(kistl, busybox, tmp_path):
    other = Registry(tmp_path / "r")
    try:
        kistl("pull", "-q", busybox)
        kistl("tag", busybox, other.reference("a/b/c:1"))
        out = kistl("push", other.reference("a/b/c:1"))
        assert "Pushed" in out
        inspected = subprocess.run(["skopeo", "inspect", "--tls-verify=false", f"docker://{other.reference('a/b/c:1')}"],
                                   capture_output=True, check=True)
        assert json.loads(inspected.stdout)["Labels"]["from"] == "mkimage"
        kistl("rmi", other.reference("a/b/c:1"))
    finally:
        other.close()
    kistl("tag", busybox, other.reference("gone:1"))
    out = kistl("push", other.reference("gone:1"), code=1)
    assert "refused" in out.err and other.address in out.err
    kistl("rmi", other.reference("gone:1"))
    assert "does not exist" in kistl("push", other.reference("never:1"), code=1).err


def test_tag_and_remove(kistl, busybox):
    kistl("pull", "-q", busybox)
    id = kistl.json("image", "inspect", busybox)[0]["Id"]
    kistl("tag", busybox, "one:1")
    kistl("tag", id[7:19], "two")
    assert kistl.json("image", "inspect", "two:latest")[0]["Id"] == id
    assert {"one:1", "two:latest", busybox} <= set(kistl.json("image", "inspect", id)[0]["RepoTags"])
    assert "Untagged: one:1" in kistl("rmi", "one:1")
    kistl("run", "-d", "--name", "user", "two", "sleep", "1000")
    assert "Untagged: two:latest" in kistl("rmi", "two")
    out = kistl("rmi", busybox, code=1) if len(kistl.json("image", "inspect", id)[0]["RepoTags"]) == 1 else None
    if out is not None:
        assert "conflict" in out.err and "container" in out.err
    out = kistl("rmi", id, code=1)
    assert "conflict" in out.err and "running container" in out.err
    kistl("rm", "-f", "user")
    assert "invalid reference format" in kistl("tag", busybox, "UPPER:x", code=1).err
    assert "No such image: nothing:latest" in kistl("rmi", "nothing", code=1).err


def test_images_list(kistl, busybox, debian):
    kistl("pull", "-q", busybox)
    kistl("pull", "-q", debian.reference)
    kistl("tag", busybox, "tagged:1")
    head, *rows = kistl.lines("images")
    assert head.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert any(re.match(r"tagged\s+1\s+[0-9a-f]{12}\s+.*ago\s+[\d.]+MB$", r) for r in rows)
    repository, tag = debian.reference.rsplit(":", 1)
    assert f"{repository} {tag}" in kistl.lines("images", "--format", "{{.Repository}} {{.Tag}}")
    assert kistl("images", "-q", "--no-trunc", "tagged").strip() == kistl.json("image", "inspect", "tagged:1")[0]["Id"]
    assert kistl.lines("images", "--filter", "reference=tag*", "--format", "{{.Repository}}") == ["tagged"]
    assert kistl.lines("images", "--filter", "label=kind=debian", "--format", "{{.Tag}}")[-1:] == ["test"]
    assert kistl("images", "--filter", "dangling=true", "-q") == ""
    assert debian.digest in kistl("images", "--digests", repository)
    j = kistl.json("images", "--format", "{{json .}}", "tagged")
    assert j["Repository"] == "tagged" and j["Tag"] == "1"
    kistl("rmi", "tagged:1")


def test_history_and_inspect(kistl, debian):
    kistl("pull", "-q", debian.reference)
    lines = kistl.lines("history", debian.reference)
    assert lines[0].split()[:2] == ["IMAGE", "CREATED"] and len(lines) == 6 and "mkimage" in lines[1]
    d = kistl.json("image", "inspect", debian.reference)[0]
    assert d["RootFS"] == {"Type": "layers", "Layers": debian.diff_ids}
    assert d["Architecture"] == "amd64" and d["Os"] == "linux" and d["Config"]["WorkingDir"] == "/srv"
    assert d["Config"]["Cmd"] == ["sleep", "1000"] and d["Config"]["Labels"] == {"kind": "debian"}
    assert d["Created"].startswith("2026-01-01T00:00:00") and d["Size"] > 50 << 20
    repository = debian.reference.rsplit(":", 1)[0]
    assert f"{repository}@{debian.digest}" in d["RepoDigests"]
    assert kistl("inspect", "--type", "image", "--format", "{{.Os}}", debian.reference) == "linux\n"


def test_prune(fresh, registry, busybox):
    d = fresh()
    d.client("pull", "-q", busybox)
    d.client("tag", busybox, "keep:1")
    d.client("run", "-d", "--name", "user", "keep:1", "sleep", "1000")
    assert "Total reclaimed space: 0B" in d.client("image", "prune", "-af")
    d.client("rm", "-f", "user")
    out = d.client("image", "prune", "-af")
    assert "Deleted Images:" in out and "untagged: keep:1" in out
    assert d.client("images", "-q") == ""
    d.assert_clean()


# ---- archives ----


def test_save_is_read_by_skopeo(kistl, debian, tmp_path):
    kistl("pull", "-q", debian.reference)
    kistl("tag", debian.reference, "saved:1")
    kistl("save", "-o", tmp_path / "one.tar", "saved:1")
    out = subprocess.run(["skopeo", "inspect", f"docker-archive:{tmp_path}/one.tar"], capture_output=True, check=True)
    j = json.loads(out.stdout)
    assert j["Labels"] == {"kind": "debian"} and len(j["Layers"]) == 5
    out = subprocess.run(["skopeo", "inspect", "--config", f"docker-archive:{tmp_path}/one.tar"], capture_output=True, check=True)
    assert json.loads(out.stdout)["rootfs"]["diff_ids"] == debian.diff_ids
    # The whole of it, verified: skopeo checks every layer on the way.
    subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", f"docker-archive:{tmp_path}/one.tar:saved:1",
                    f"dir:{tmp_path}/dir"], check=True)
    kistl("rmi", "saved:1")


def test_save_and_load(kistl, busybox, fresh, tmp_path):
    kistl("pull", "-q", busybox)
    kistl("tag", busybox, "one:1")
    kistl("tag", busybox, "two:2")
    kistl("save", "-o", tmp_path / "both.tar", "one:1", "two:2")
    kistl("rmi", "one:1", "two:2")
    d = fresh()
    out = d.client("load", "-i", tmp_path / "both.tar")
    assert "Loaded image: one:1" in out and "Loaded image: two:2" in out
    with open(tmp_path / "both.tar", "rb") as f:
        assert "one:1" in d.client("load", input=f.read())
    assert d.client("run", "--rm", "two:2", "echo", "loaded") == "loaded\n"
    original = kistl.json("image", "inspect", busybox)[0]
    assert d.client.json("image", "inspect", "one:1")[0]["RootFS"] == original["RootFS"]


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_loads_what_skopeo_writes(kistl, debian, tmp_path, form):
    path = tmp_path / "x.tar"
    # An OCI archive's annotation is a bare tag to Docker's eyes; it names the image in ours.
    name = f"skopeo/{form}:1"
    subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", f"oci:{debian.mixed if form == 'oci-archive' else debian.plain}:test", f"{form}:{path}:{name}"], check=True)
    out = kistl("load", "-i", path)
    assert f"Loaded image: {name}" in out
    assert kistl("run", "--rm", name, "cat", "/srv/a/file") == "one\n"
    kistl("rmi", name)


def test_loads_what_docker_saves(kistl, busybox, tmp_path):
    """docker save's layout: manifest.json, repositories, a directory a layer, uncompressed."""
    subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", f"docker://{busybox}",
                    f"docker-archive:{tmp_path}/x.tar:from/docker:1"], check=True)
    with open(tmp_path / "x.tar.gz", "wb") as f:
        subprocess.run(["gzip", "-1", "-c", tmp_path / "x.tar"], check=True, stdout=f)
    assert "Loaded image: from/docker:1" in kistl("load", "-i", tmp_path / "x.tar.gz")
    kistl("rmi", "from/docker:1")


def test_load_refuses_garbage(kistl, tmp_path):
    (tmp_path / "x").write_bytes(b"no archive at all" * 1000)
    assert kistl("load", "-i", tmp_path / "x", code=1).err
    with tarfile.open(tmp_path / "y", "w") as t:
        t.addfile(tarfile.TarInfo("unrelated"))
    assert "manifest.json" in kistl("load", "-i", tmp_path / "y", code=1).err
    assert "no such file" in kistl("load", "-i", tmp_path / "none", code=1).err.lower()


# ---- what goes wrong ----


def test_unknown_images_and_tags(kistl, registry, busybox):
    out = kistl("pull", registry.reference("busybox:nothing"), code=1)
    assert "busybox:nothing" in out.err and ("not found" in out.err or "manifest unknown" in out.err)
    out = kistl("pull", registry.reference("no/such/repository"), code=1)
    assert "no/such/repository" in out.err
    out = kistl("run", "--rm", registry.reference("absent:1"), "true", code=125)
    assert "absent:1" in out.err
    for bad in ("lower/CASE", "a:b:c", "x@sha256:abc", "-", "a//b"):
        assert "invalid reference format" in kistl("pull", "--", bad, code=1).err


def test_registry_that_is_down(kistl):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{s.getsockname()[1]}"
    began = time.monotonic()
    out = kistl("pull", f"{address}/busybox", code=1)
    assert "refused" in out.err and address in out.err
    assert time.monotonic() - began < 30
    assert "nowhere.invalid" in kistl("pull", "nowhere.invalid/busybox", code=1).err


@pytest.fixture(scope="module")
def hostile():
    r = HostileRegistry()
    yield r
    r.close()


def tar_of(*entries):
    t = images.Tar()
    for e in entries:
        t.add(*e) if isinstance(e, tuple) else t.add(e, b"data")
    return t.bytes()


def gzip(data):
    return subprocess.run(["gzip", "-nc"], input=data, capture_output=True, check=True).stdout


@pytest.fixture
def served(hostile):
    """serve(name, ...layers) puts a good image there; rules are gone afterwards."""
    hostile.rules.clear()
    hostile.requests.clear()
    yield hostile
    hostile.rules.clear()


def good_image(hostile, name, content=None):
    layer = tar_of(("file", content or os.urandom(10000)))
    blob = gzip(layer)
    hostile.add_image(name, [(blob, digest(layer), LAYER + "+gzip")])
    return blob


def pull_fails(kistl, daemon, reference, *words):
    before = kistl("images", "-aq")
    snapshots = len(daemon.snapshots())
    out = kistl("pull", reference, code=1, timeout=100)
    for word in words:
        assert word.lower() in out.err.lower(), f"{word!r} is not in {out.err!r}"
    assert kistl("images", "-aq") == before
    assert until(lambda: len(daemon.snapshots()) <= snapshots), "a failed pull leaves snapshots"
    assert not [p for p in daemon.left_processes() if "kistl-image" in p]
    return out


def test_corrupt_blob(kistl, daemon, served):
    blob = good_image(served, "corrupt")
    broken = blob[:100] + bytes([blob[100] ^ 1]) + blob[101:]
    served.rules.append((f"GET .*blobs/{digest(blob)}", lambda h: h.answer(200, broken, "application/octet-stream")))
    pull_fails(kistl, daemon, served.reference("corrupt"), digest(blob))
    assert daemon.ingests() == [], "what can never become right is not kept for resuming"
    served.rules.clear()
    kistl("pull", "-q", served.reference("corrupt"))
    kistl("rmi", served.reference("corrupt"))


def test_truncated_blob(kistl, daemon, served):
    blob = good_image(served, "truncated", os.urandom(300000))

    def cut(h):
        h.send_response(200)
        h.send_header("Content-Length", str(len(blob)))
        h.end_headers()
        h.wfile.write(blob[:1000])
        h.close_connection = True
        return True
    served.rules.append((f"GET .*blobs/{digest(blob)}", cut))
    pull_fails(kistl, daemon, served.reference("truncated"))
    served.rules.clear()
    kistl("pull", "-q", served.reference("truncated"))
    assert daemon.ingests() == []
    kistl("rmi", served.reference("truncated"))


def test_blob_shorter_and_longer_than_said(kistl, daemon, served):
    for name, change in (("short", lambda b: b[:-10]), ("long", lambda b: b + b"more")):
        blob = good_image(served, name, os.urandom(3000))
        served.rules[:] = [(f"GET .*blobs/{digest(blob)}",
                            lambda h, b=change(blob): h.answer(200, b, "application/octet-stream"))]
        pull_fails(kistl, daemon, served.reference(name))
        served.rules.clear()
        kistl("pull", "-q", served.reference(name))
        kistl("rmi", served.reference(name))
    assert daemon.ingests() == []


def test_wrong_diff_id(kistl, daemon, served):
    layer = tar_of("file")
    served.add_image("diffid", [(gzip(layer), digest(b"another"), LAYER + "+gzip")])
    pull_fails(kistl, daemon, served.reference("diffid"), digest(b"another"))


def test_manifest_that_is_not_its_digest(kistl, daemon, served):
    good_image(served, "lying")
    wanted = "sha256:" + "1" * 64
    served.manifests["lying", wanted] = served.manifests["lying", "latest"]
    pull_fails(kistl, daemon, served.reference("lying@" + wanted), wanted)


def test_manifests_that_are_none(kistl, daemon, served):
    for name, document in (("json", b"{"), ("html", b"<html>login</html>"), ("empty", b""), ("array", b"[]"),
                           ("nolayers", b'{"schemaVersion":2,"mediaType":"%s"}' % MANIFEST.encode()),
                           ("deep", b"[" * 100000)):
        served.rules[:] = [(rf"manifests/", lambda h, d=document: h.answer(200, d, MANIFEST))]
        pull_fails(kistl, daemon, served.reference("odd/" + name))
    served.rules[:] = [(rf"manifests/", lambda h: h.answer(200, b" " * (20 << 20), MANIFEST))]
    pull_fails(kistl, daemon, served.reference("odd/huge"))


@pytest.mark.parametrize("name,entry", [
    ("dotdot", ("../../escaped", b"x")), ("absolute", ("/../../escaped", b"x")),
    ("hardlink", ("link", None, tarfile.LNKTYPE, 0o644, "../../../../etc/hostname"))])
def test_tar_that_climbs_out(kistl, daemon, served, name, entry, tmp_path):
    layer = tar_of(entry)
    served.add_image("climb/" + name, [(layer, digest(layer), LAYER)])
    out = kistl("pull", served.reference("climb/" + name), code=None)
    assert out.code in (0, 1)
    if name == "hardlink":
        assert out.code == 1
    for directory in (daemon.root, daemon.base, daemon.root.parent.parent):
        assert not (directory / "escaped").exists()
    for snapshot in daemon.snapshots():
        assert not os.path.exists(os.path.join(snapshot, "escaped"))
    if out.code == 0:
        kistl("rmi", served.reference("climb/" + name))


def test_tar_that_climbs_over_a_symlink(kistl, daemon, served, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    for layers in ([tar_of(("out", None, tarfile.SYMTYPE, 0o777, str(outside)), ("out/file", b"x"))],
                   [tar_of(("out", None, tarfile.SYMTYPE, 0o777, str(outside))), tar_of(("out/file", b"x"))],
                   [tar_of(("out", None, tarfile.SYMTYPE, 0o777, str(outside))), tar_of(("out/.wh.keep", b""))]):
        (outside / "keep").write_text("kept")
        served.add_image("climb/symlink", [(x, digest(x), LAYER) for x in layers])
        kistl("pull", served.reference("climb/symlink"), code=None)
        assert os.listdir(outside) == ["keep"]
        kistl("rmi", served.reference("climb/symlink"), code=None)


@pytest.mark.parametrize("status,words", [(401, ["unauthorized", "access denied"]), (403, ["denied"]), (404, ["not found"]),
                                          (418, ["418"]), (500, ["500"]), (503, ["503"])])
def test_statuses(kistl, daemon, served, status, words):
    good_image(served, "status")
    code = {401: "UNAUTHORIZED", 403: "DENIED", 404: "NAME_UNKNOWN"}.get(status, "UNKNOWN")
    message = {401: "unauthorized", 403: "access denied", 404: "repository not found"}.get(status, "trouble")
    served.rules.append((r"manifests/", lambda h: h.error(status, code, message)))
    out = pull_fails(kistl, daemon, served.reference("status"))
    assert any(w in out.err.lower() for w in [*words, message]), out.err
    n = len([r for r in served.requests if "manifests" in r])
    assert n <= 2 if status < 500 else 2 <= n < 20, f"{n} requests for a {status}"


def test_trouble_that_passes(kistl, daemon, served):
    """429 with Retry-After, then 503, then it works; Range is used for the rest of a blob."""
    blob = good_image(served, "passes", os.urandom(300000))
    left = [lambda h: h.error(429, "TOOMANYREQUESTS", "slow down", Retry_After="1"), lambda h: h.error(503)]

    def trouble(h):
        return left.pop(0)(h) if left else False

    state = {"cut": False}

    def cut_once(h):
        if not state["cut"]:
            state["cut"] = True
            h.send_response(200)
            h.send_header("Content-Length", str(len(blob)))
            h.send_header("Accept-Ranges", "bytes")
            h.end_headers()
            h.wfile.write(blob[:100000])
            h.close_connection = True
            return True
        found = re.match(r"bytes=(\d+)-", h.headers.get("Range", ""))
        if not found:
            return False
        start = int(found[1])
        state["resumed"] = start
        return h.answer(206, blob[start:], "application/octet-stream",
                        Content_Range=f"bytes {start}-{len(blob) - 1}/{len(blob)}")
    served.rules += [(r"manifests/", trouble), (f"GET .*blobs/{digest(blob)}", cut_once)]
    kistl("pull", "-q", served.reference("passes"))
    assert not left and state["resumed"] == 100000
    kistl("rmi", served.reference("passes"))


def test_basic_authentication(kistl, daemon, served):
    good_image(served, "private/image")
    right = basic("user", "secret")

    def check(h):
        if h.headers.get("Authorization") == right:
            return False
        return h.error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate='Basic realm="kistl"')
    served.rules.append((r".", check))
    pull_fails(kistl, daemon, served.reference("private/image"))
    assert "unauthorized" in kistl("login", "-u", "user", "-p", "wrong", served.address, code=1).err.lower()
    assert "Login Succeeded" in kistl("login", "-u", "user", "--password-stdin", served.address, input="secret")
    kistl("pull", "-q", served.reference("private/image"))
    kistl("rmi", served.reference("private/image"))
    kistl("logout", served.address)
    pull_fails(kistl, daemon, served.reference("private/image"))


def test_bearer_token_is_not_leaked_to_redirects(kistl, daemon, served):
    blob = good_image(served, "bearer/image")
    seen = []
    other = HostileRegistry()
    try:
        other.rules.append((r".", lambda h: seen.append(h.headers.get("Authorization")) or
                            h.answer(200, blob, "application/octet-stream")))

        def check(h):
            if h.path.startswith("/token"):
                return h.answer(200, json.dumps({"token": "T" * 20, "expires_in": 300}).encode())
            if h.headers.get("Authorization") != "Bearer " + "T" * 20:
                realm = f'Bearer realm="http://{served.address}/token",service="s",scope="repository:bearer/image:pull"'
                return h.error(401, "UNAUTHORIZED", "token please", WWW_Authenticate=realm)
            if f"blobs/{digest(blob)}" in h.path:
                return h.answer(307, b"", Location=f"http://{other.address}/elsewhere")
            return False
        served.rules.append((r".", check))
        kistl("pull", "-q", served.reference("bearer/image"))
        assert seen == [None]
        assert any("/token?" in r and "service=s" in r for r in served.requests)
        kistl("rmi", served.reference("bearer/image"))
    finally:
        other.close()


def test_mirror_of_hosts_toml(kistl, daemon, served):
    good_image(served, "mirrored/image")
    directory = daemon.hosts_dir / "upstream.invalid"
    directory.mkdir()
    (directory / "hosts.toml").write_text(
        f'server = "https://upstream.invalid"\n[host."http://{served.address}"]\ncapabilities = ["pull", "resolve"]\n')
    kistl("pull", "-q", "upstream.invalid/mirrored/image")
    assert any("mirrored/image" in r for r in served.requests)
    kistl("rmi", "upstream.invalid/mirrored/image")
    shutil.rmtree(directory)


def test_cancelled_pull_leaves_nothing(kistl, daemon, served):
    blob = good_image(served, "slow", os.urandom(200000))
    gate, reached = threading.Event(), threading.Event()

    def slow(h):
        h.send_response(200)
        h.send_header("Content-Length", str(len(blob)))
        h.end_headers()
        h.wfile.write(blob[:1000])
        h.wfile.flush()
        reached.set()
        gate.wait(30)
        h.close_connection = True
        return True
    served.rules.append((f"GET .*blobs/{digest(blob)}", slow))
    with kistl.popen("pull", served.reference("slow")) as p:
        assert reached.wait(20)
        p.signal(2)
        p.rest()
        assert p.wait() != 0
    assert until(lambda: not [x for x in daemon.left_processes() if "kistl-image" in x], 10), "the worker goes on"
    gate.set()
    served.rules.clear()
    kistl("pull", "-q", served.reference("slow"))
    kistl("rmi", served.reference("slow"))


def test_full_disk(tmp_path, debian, busybox):
    """A root of 24 MiB: the pull of 100 fails by name, leaves nothing, and the daemon goes on."""
    root = tmp_path / "root"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", root], check=True)
    d = None
    try:
        d = Daemon(root=root)
        out = d.client("pull", debian.reference, code=1)
        assert "no space left" in out.err.lower() or "disk" in out.err.lower()
        assert d.client("images", "-q") == ""
        assert until(lambda: d.snapshots() == [])
        d.client("pull", "-q", busybox)
        assert d.client("run", "--rm", busybox, "echo", "still works") == "still works\n"
        out = d.client("run", "--rm", busybox, "dd", "if=/dev/zero", "of=/full", "bs=1M", "count=100", code=1)
        assert "No space left" in out.err
        assert d.client("run", "--rm", busybox, "true") == ""
        # What was downloaded waits for the next try; this test is not about that.
        for ingest in (root / "io.containerd.content.v1.content/ingest").iterdir():
            shutil.rmtree(ingest)
        d.close()
        d = None
    finally:
        if d:
            d.close(check=False)
        subprocess.run(["umount", "-l", root], check=False)
