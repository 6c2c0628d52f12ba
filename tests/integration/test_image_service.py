# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of images (src/image) through test-image-tool, with real workers, against Debian's
docker-registry; images are made here and pushed with skopeo.  Needs root (mounts, ownership)."""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("KISTL_BUILD", TOP / "build"))
WORKER = next((p for p in (BUILD / "src/worker/kistl-image", BUILD / "kistl-image") if p.exists()),
              BUILD / "kistl-image")
TOOL = next((p for p in (BUILD / "src/image/test-image-tool", BUILD / "test-image-tool") if p.exists()),
            BUILD / "test-image-tool")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

WAITING, EXISTS, DOWNLOADED, DONE = 1, 2, 4, 6


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


# ---- images ----


def tar(*entries):
    """(name, content | None for a directory | ("link", to) | ("symlink", to), mode)"""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as t:
        for name, content, *mode in entries:
            info = tarfile.TarInfo(name)
            info.mode = mode[0] if mode else 0o644
            info.mtime = 1700000000
            if content is None:
                info.type = tarfile.DIRTYPE
                info.mode = mode[0] if mode else 0o755
            elif isinstance(content, tuple):
                info.type = tarfile.LNKTYPE if content[0] == "link" else tarfile.SYMTYPE
                info.linkname = content[1]
            else:
                info.size = len(content)
            t.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return raw.getvalue()


def compress(data, how):
    if how == "plain":
        return data
    return subprocess.run([how, "-c"], input=data, capture_output=True, check=True).stdout


class Layout:
    """An OCI image layout."""

    def __init__(self, path, layers, compression=("gzip", "zstd", "plain")):
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        descriptors, self.diff_ids, self.blobs = [], [], []
        for n, layer in enumerate(layers):
            how = compression[n % len(compression)]
            self.diff_ids.append(digest(layer))
            blob = compress(layer, how)
            self.blobs.append(blob)
            suffix = "" if how == "plain" else "+" + how
            descriptors.append(self.blob("application/vnd.oci.image.layer.v1.tar" + suffix, blob))
        config = json.dumps({"architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05Z",
                             "config": {"Cmd": ["/bin/sh"]},
                             "rootfs": {"type": "layers", "diff_ids": self.diff_ids}}).encode()
        self.id = digest(config)
        manifest = json.dumps({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.blob("application/vnd.oci.image.config.v1+json", config),
            "layers": descriptors}).encode()
        self.digest = digest(manifest)
        self.index = [self.blob("application/vnd.oci.image.manifest.v1+json", manifest)]
        self.index[0]["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
        (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.index}))

    def blob(self, media_type, data):
        (self.path / "blobs/sha256" / digest(data)[7:]).write_bytes(data)
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def push(self, ref):
        subprocess.run(["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--quiet",
                        "--preserve-digests",
                        f"oci:{self.path}:latest", f"docker://{ref}"], check=True)


BASE = tar(("./", None), ("bin", None), ("bin/busybox", pathlib.Path("/bin/busybox").read_bytes(), 0o755),
           ("tmp", None, 0o1777), ("etc", None, 0o750), ("etc/passwd", b"root:x:0:0::/:/bin/sh\n"),
           ("old", b"old"))
SECOND = tar(("tmp/file", b"in an implied directory"), ("etc/new", b"new"), (".wh.old", b""))
LINKING = tar(("etc/hard", ("link", "etc/passwd")), ("bin/sh", ("symlink", "busybox")))
LAST = tar(("big", os.urandom(2000000)))


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    d = tmp_path_factory.mktemp("registry")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    (d / "config.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {d}/data}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\nlog: {{level: error}}\n")
    process = subprocess.Popen(["docker-registry", "serve", d / "config.yml"], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    for _ in range(100):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield f"127.0.0.1:{port}"
    process.send_signal(signal.SIGTERM)
    process.wait(10)


@pytest.fixture(scope="module")
def image(registry, tmp_path_factory):
    layout = Layout(tmp_path_factory.mktemp("image") / "layout", [BASE, SECOND, LINKING, LAST])
    layout.push(f"{registry}/test/image:latest")
    return layout


class ToolError(Exception):
    def __init__(self, last):
        super().__init__(last.get("error"))
        self.code = last.get("code")


class Tool:
    def __init__(self, root, **env):
        self.root, self.env = root, env

    def start(self, *args, **more):
        sanitizers = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
        return subprocess.Popen([TOOL, self.root, WORKER, *map(str, args)], stdout=subprocess.PIPE,
                                env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **sanitizers, **self.env}, **more)

    def __call__(self, *args):
        process = self.start(*args)
        out, _ = process.communicate(timeout=120)
        lines = [json.loads(line) for line in out.splitlines()]
        if process.returncode:
            raise ToolError(lines[-1] if lines else {"error": f"status {process.returncode}"})
        return lines

    def dump(self):
        lines = self("dump")
        return ({line["snapshot"]: line["kind"] for line in lines if "snapshot" in line},
                {line["content"]: line["labels"] for line in lines if "content" in line},
                {line["ingest"]: line["offset"] for line in lines if "ingest" in line})

    @contextlib.contextmanager
    def mounted(self, name):
        with tempfile.TemporaryDirectory() as where:
            self("mount", name, where)
            try:
                yield pathlib.Path(where)
            finally:
                subprocess.run(["umount", where], check=True)


@pytest.fixture(params=["overlayfs", "native"])
def tool(request, tmp_path):
    return Tool(tmp_path / "root", SNAPSHOTTER=request.param)


@pytest.fixture
def overlay(tmp_path):
    return Tool(tmp_path / "root", SNAPSHOTTER="overlayfs")


def phases(lines, phase):
    return {line["id"] for line in lines if line.get("phase") == phase}


def chain_of(diff_ids):
    chain = diff_ids[0]
    for d in diff_ids[1:]:
        chain = digest(f"{chain} {d}".encode())
    return chain


# ---- pull ----


def test_pull(tool, registry, image):
    ref = f"{registry}/test/image:latest"
    lines = tool("pull", ref)
    assert lines[-1] == {"pulled": ref, "digest": image.digest, "fresh": True}
    short = {digest(b)[7:19] for b in image.blobs}
    assert phases(lines, WAITING) == phases(lines, DOWNLOADED) == phases(lines, DONE) == short

    snapshots, content, ingests = tool.dump()
    assert len(snapshots) == 4 and set(snapshots.values()) == {3} and not ingests
    assert chain_of(image.diff_ids) in snapshots
    assert len(content) == 6
    layer = content[digest(image.blobs[1])]
    assert layer["containerd.io/uncompressed"] == image.diff_ids[1]
    assert layer["containerd.io/distribution.source." + registry] == "test/image"
    manifest = content[image.digest]
    assert manifest["containerd.io/gc.ref.content.config"] == image.id
    assert manifest["containerd.io/gc.ref.content.l.3"] == digest(image.blobs[3])
    assert content[image.id][f"containerd.io/gc.ref.snapshot.{tool.env['SNAPSHOTTER']}"] == \
        chain_of(image.diff_ids)

    tool("gc")
    assert tool.dump()[0] == snapshots and tool.dump()[1] == content
    with tool.mounted(ref) as root:
        assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
        assert (root / "etc").stat().st_mode & 0o7777 == 0o750
        assert (root / "tmp/file").read_bytes() == b"in an implied directory"
        assert not (root / "old").exists()
        assert (root / "etc/hard").read_bytes() == (root / "etc/passwd").read_bytes()
        assert os.readlink(root / "bin/sh") == "busybox"

    lines = tool("pull", ref)
    assert lines[-1]["fresh"] is False and not phases(lines, WAITING)


def test_pull_shares_layers(tool, registry, image, tmp_path):
    other = Layout(tmp_path / "layout", [BASE, SECOND, tar(("other", b"x"))])
    other.push(f"{registry}/test/other:latest")
    tool("pull", f"{registry}/test/image:latest")
    lines = tool("pull", f"{registry}/test/other:latest")
    assert phases(lines, EXISTS) == {digest(b)[7:19] for b in other.blobs[:2]}
    assert phases(lines, DONE) == {digest(other.blobs[2])[7:19]}
    with tool.mounted(f"{registry}/test/other:latest") as root:
        assert (root / "other").read_bytes() == b"x" and (root / "etc/new").exists()


def test_pulls_at_once(tool, registry, image, tmp_path):
    """Images that share layers, in one process: nothing is fetched twice, nobody waits for ever."""
    refs = [f"{registry}/test/image:latest"]
    for n in range(4):
        Layout(tmp_path / f"l{n}", [BASE, SECOND, LINKING, tar((f"f{n}", bytes(100 * n)))][: 2 + n % 3]
               + [tar((f"x{n}", b"y"))]).push(f"{registry}/test/many:{n}")
        refs += [f"{registry}/test/many:{n}"] * 2
    lines = tool("pulls", *refs)
    assert sum("pulled" in line for line in lines) == len(refs)
    downloads = [line["id"] for line in lines if line.get("phase") == DOWNLOADED]
    assert len(downloads) == len(set(downloads))
    snapshots, _, ingests = tool.dump()
    assert set(snapshots.values()) == {3} and not ingests


def test_same_layer_twice(tool, registry, tmp_path):
    twice = Layout(tmp_path / "layout", [BASE, SECOND, SECOND, SECOND], compression=("gzip",))
    twice.push(f"{registry}/test/twice:1")
    tool("pull", f"{registry}/test/twice:1")
    assert len(tool.dump()[0]) == 4


def test_pull_by_digest(tool, registry, image):
    lines = tool("pull", f"{registry}/test/image:ignored@{image.digest}")
    assert lines[-1]["pulled"] == f"{registry}/test/image@{image.digest}"
    assert tool("lookup", image.id[7:19])[0]["id"] == image.id


def test_not_found_leaves_nothing(tool, registry, image):
    with pytest.raises(ToolError, match="manifest unknown") as e:
        tool("pull", f"{registry}/test/image:absent")
    assert e.value.code == "NOT_FOUND"
    assert tool.dump() == ({}, {}, {})


def test_wrong_diff_id_leaves_nothing(tool, registry, tmp_path):
    bad = Layout(tmp_path / "layout", [BASE, SECOND])
    good = bad.diff_ids[1]
    config = (bad.path / "blobs/sha256" / bad.id[7:]).read_text().replace(good, "sha256:" + "1" * 64).encode()
    index = json.loads((bad.path / "index.json").read_text())
    manifest = json.loads((bad.path / "blobs/sha256" / index["manifests"][0]["digest"][7:]).read_text())
    manifest["config"] = bad.blob(manifest["config"]["mediaType"], config)
    index["manifests"][0].update(bad.blob(index["manifests"][0]["mediaType"], json.dumps(manifest).encode()))
    (bad.path / "index.json").write_text(json.dumps(index))
    bad.push(f"{registry}/test/bad:1")
    with pytest.raises(ToolError, match="config says sha256:1111"):
        tool("pull", f"{registry}/test/bad:1")
    tool("gc")
    assert tool.dump()[:2] == ({}, {})  # what was being downloaded stays for another try
    assert tool("list") == []


def test_missing_worker(tmp_path, registry, image):
    process = subprocess.run([TOOL, tmp_path / "root", "/nonexistent/kistl-image", "pull",
                              f"{registry}/test/image:latest"], stdout=subprocess.PIPE)
    assert process.returncode == 1 and b"/nonexistent/kistl-image" in process.stdout


def test_worker_crash_names_the_signal(tmp_path, registry, image):
    fake = tmp_path / "kistl-image"
    fake.write_text(f'#!/bin/bash\n[ "$1" != unpack ] || kill -SEGV $$\nexec {WORKER} "$@"\n')
    fake.chmod(0o755)
    process = subprocess.run([TOOL, tmp_path / "root", fake, "pull", f"{registry}/test/image:latest"],
                             stdout=subprocess.PIPE)
    last = json.loads(process.stdout.splitlines()[-1])
    assert process.returncode == 1 and "signal 11" in last["error"], last


def test_killed_pulls_leave_nothing(overlay, registry, tmp_path):
    image = Layout(tmp_path / "layout", [BASE] + [tar((f"f{n}", os.urandom(3000000))) for n in range(6)])
    ref = f"{registry}/test/killed:1"
    image.push(ref)
    for n in range(12):
        process = overlay.start("pull", ref, stderr=subprocess.DEVNULL)
        time.sleep(0.01 * n)
        process.kill()
        process.wait()
        process.stdout.close()
        overlay("gc")
        snapshots, content, ingests = overlay.dump()
        if not overlay("list"):
            assert not snapshots and not content
            assert set(ingests) <= {f"layer-{digest(b)}" for b in image.blobs}
    overlay("pull", ref)
    snapshots, content, ingests = overlay.dump()
    assert len(snapshots) == 7 and len(content) == 9 and not ingests


def test_unpack_from_content(overlay, registry, image):
    ref = f"{registry}/test/image:latest"
    overlay("pull", ref)
    native = Tool(overlay.root, SNAPSHOTTER="native")
    assert native("unpack", ref)[-1]["chain"] == chain_of(image.diff_ids)
    assert len(native.dump()[0]) == 4
    native("gc")
    assert len(native.dump()[0]) == 4 and len(overlay.dump()[0]) == 4


# ---- look-up ----


def test_names(overlay, registry, image, tmp_path):
    ref = f"{registry}/test/image:latest"
    overlay("pull", ref)
    d = overlay("lookup", ref)[0]
    assert d["id"] == image.id and d["manifest"] == image.digest
    assert d["tags"] == [ref] and d["digests"] == [f"{registry}/test/image@{image.digest}"]
    assert d["diff_ids"] == image.diff_ids and d["size"] > 4000000
    for name in (image.id, image.id[7:], image.id[7:13], ref.removesuffix(":latest"),
                 f"{registry}/test/image@{image.digest}"):
        assert overlay("lookup", name)[0]["id"] == image.id
    for name, code in (("absent", "NOT_FOUND"), ("f" * 12, "NOT_FOUND"), ("UPPER", "INVALID_ARGUMENT"),
                       ("sha256:" + "e" * 64, "NOT_FOUND")):
        with pytest.raises(ToolError) as e:
            overlay("lookup", name)
        assert e.value.code == code

    overlay("tag", image.id[7:19], "mine")
    overlay("tag", "mine", "mine:2")
    assert overlay("lookup", "docker.io/library/mine:2")[0]["tags"] == [ref, "mine:latest", "mine:2"] or \
        sorted(overlay("lookup", "mine")[0]["tags"]) == sorted([ref, "mine:latest", "mine:2"])
    assert len(overlay("list")) == 1
    with pytest.raises(ToolError, match="multiple repositories") as e:
        overlay("untag", image.id)
    assert e.value.code == "FAILED_PRECONDITION"
    assert overlay("untag", "mine:2")[0] == {"untagged": ["mine:2"], "deleted": []}

    # A tag that moves leaves its old image behind without a name.
    other = Layout(tmp_path / "layout", [BASE])
    other.push(f"{registry}/test/moving:1")
    overlay("pull", f"{registry}/test/moving:1")
    overlay("tag", "mine", f"{registry}/test/moving:1")
    assert overlay("lookup", other.id[7:19])[0]["tags"] == []
    assert overlay("lookup", other.id[7:19])[0]["name"] == ""
    assert len(overlay("list")) == 2
    overlay("tag", other.id, "again")
    assert overlay("lookup", other.id)[0]["tags"] == ["again:latest"]
    assert overlay("untag", other.id)[0] == {"untagged": ["again:latest"], "deleted": [other.id]}

    result = overlay("untag", image.id, "force")[0]
    assert sorted(result["untagged"]) == sorted([ref, "mine:latest", f"{registry}/test/moving:1"])
    assert result["deleted"] == [image.id]
    overlay("gc")
    assert overlay.dump() == ({}, {}, {}) and overlay("list") == []


# ---- hosts ----


def test_mirror(overlay, registry, image, tmp_path):
    hosts = tmp_path / "certs.d/example.invalid"
    hosts.mkdir(parents=True)
    (hosts / "hosts.toml").write_text(
        f'server = "https://unreachable.invalid"\n[host."http://{registry}"]\ncapabilities = ["pull", "resolve"]\n')
    tool = Tool(overlay.root, SNAPSHOTTER="overlayfs", HOSTS=str(tmp_path / "certs.d"))
    assert tool("pull", "example.invalid/test/image")[-1]["digest"] == image.digest
    (hosts / "hosts.toml").write_text("not toml")
    with pytest.raises(ToolError, match="hosts.toml"):
        tool("pull", "example.invalid/test/image:2")


def test_namespaces_share_content(overlay, registry, image):
    ref = f"{registry}/test/image:latest"
    overlay("pull", ref)
    other = Tool(overlay.root, SNAPSHOTTER="overlayfs", NAMESPACE="other")
    assert other("list") == []
    lines = other("pull", ref)
    assert not phases(lines, DOWNLOADED) and lines[-1]["fresh"] is True
    with other.mounted(ref) as root:
        assert (root / "etc/new").exists()


# ---- push, login ----


def test_push(overlay, registry, image):
    overlay("pull", f"{registry}/test/image:latest")
    overlay("tag", image.id, f"{registry}/pushed/one:1")
    lines = overlay("push", f"{registry}/pushed/one:1")
    assert lines[-1]["pushed"] == image.digest
    # The registry has them in test/image: mounted, not uploaded.
    assert {line["phase"] for line in lines if line.get("phase", 0) >= 10} == {11}
    other = Tool(overlay.root.with_name("other"), SNAPSHOTTER="overlayfs")
    assert other("pull", f"{registry}/pushed/one:1")[-1]["digest"] == image.digest
    lines = overlay("push", f"{registry}/pushed/one:1")
    assert {line["phase"] for line in lines if line.get("phase", 0) >= 10} == {12}
    with pytest.raises(ToolError, match="does not exist locally") as e:
        overlay("push", f"{registry}/pushed/absent")
    assert e.value.code == "NOT_FOUND"


def test_login(overlay, registry):
    assert overlay("login", registry, "anybody", "secret")[-1] == {"token": None}


# ---- save, load ----


def test_save_and_load(overlay, registry, image, tmp_path):
    ref = f"{registry}/test/image:latest"
    overlay("pull", ref)
    overlay("tag", ref, "mine:1")
    overlay("save", tmp_path / "a.tar", ref, "mine:1")
    with tarfile.open(tmp_path / "a.tar") as t:
        names = t.getnames()
        manifest = json.load(t.extractfile("manifest.json"))
        index = json.load(t.extractfile("index.json"))
    assert len(names) == len(set(names)) == 6 + 3 + 2
    assert manifest == [{"Config": f"blobs/sha256/{image.id[7:]}", "RepoTags": [ref, "mine:1"],
                         "Layers": [f"blobs/sha256/{digest(b)[7:]}" for b in image.blobs]}]
    assert [m["annotations"]["io.containerd.image.name"] for m in index["manifests"]] == \
        [ref, "docker.io/library/mine:1"]

    fresh = Tool(overlay.root.with_name("fresh"), SNAPSHOTTER="overlayfs")
    lines = fresh("load", tmp_path / "a.tar")
    assert sorted(lines[-1]["loaded"]) == sorted([ref, "docker.io/library/mine:1"])
    assert "Loaded image: mine:1" in [line.get("text") for line in lines]
    assert fresh("lookup", "mine:1")[0]["id"] == image.id
    fresh("gc")
    snapshots, content, ingests = fresh.dump()
    assert len(snapshots) == 4 and len(content) == 6 and not ingests
    with fresh.mounted("mine:1") as root:
        assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777 and (root / "etc/hard").exists()


def test_save_by_id_loads_without_a_name(overlay, registry, image, tmp_path):
    overlay("pull", f"{registry}/test/image:latest")
    overlay("save", tmp_path / "a.tar", image.id[7:19])
    fresh = Tool(overlay.root.with_name("fresh"), SNAPSHOTTER="overlayfs")
    lines = fresh("load", tmp_path / "a.tar")
    assert f"Loaded image ID: {image.id}" in [line.get("text") for line in lines]
    fresh("gc")
    assert fresh("lookup", image.id[7:19])[0]["tags"] == []


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_load_of_skopeo_archives(overlay, tmp_path, kind):
    gzipped = Layout(tmp_path / "layout", [BASE, SECOND], compression=("gzip",))
    subprocess.run(["skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{gzipped.path}:latest",
                    f"{kind}:{tmp_path}/a.tar:docker.io/library/from:skopeo"], check=True)
    overlay("load", tmp_path / "a.tar")
    with overlay.mounted(overlay("list")[0]["id"]) as root:
        assert (root / "etc/new").read_bytes() == b"new" and not (root / "old").exists()


def test_load_of_nonsense(overlay, tmp_path):
    (tmp_path / "a.tar").write_bytes(tar(("some", b"file")))
    with pytest.raises(ToolError):
        overlay("load", tmp_path / "a.tar")
    (tmp_path / "b.tar").write_bytes(b"nonsense" * 1000)
    with pytest.raises(ToolError):
        overlay("load", tmp_path / "b.tar")
    overlay("gc")
    assert overlay.dump() == ({}, {}, {})


def test_save_of_unknown_image(overlay, tmp_path):
    with pytest.raises(ToolError, match="No such image: absent") as e:
        overlay("save", tmp_path / "a.tar", "absent")
    assert e.value.code == "NOT_FOUND"
