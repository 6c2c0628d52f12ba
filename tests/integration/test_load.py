# SPDX-License-Identifier: Apache-2.0
"""kistl-image load and save: image archives in and out."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import subprocess
import tarfile

import pytest

from imageworker import CODES, Worker, WorkerError

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def load(data, staging, platform=""):
    """Returns ({digest: (descriptor, bytes)}, [image events])."""
    staging.mkdir(exist_ok=True)
    source = staging.parent / "archive.in"
    source.write_bytes(data)
    blobs, images = {}, []
    with open(source, "rb") as f, Worker("load") as w:
        directory = os.open(staging, os.O_RDONLY)
        w.send({"op": "load", "platform": platform}, [f.fileno(), directory])
        os.close(directory)
        while (event := w.receive())["event"] != "done":
            if event["event"] == "error":
                raise WorkerError(event)
            if event["event"] == "blob":
                fd, = event["fds"]
                name = f"linked-{len(blobs)}"
                # As the daemon may do it. Only with a dir_fd does Python follow the symlink.
                proc = os.open("/proc/self/fd", os.O_PATH)
                os.link(str(fd), staging / name, src_dir_fd=proc, follow_symlinks=True)
                os.close(proc)
                with os.fdopen(fd, "rb") as blob:
                    content = blob.read()
                assert content == (staging / name).read_bytes()
                d = event["descriptor"]
                assert d["digest"] == sha256(content) and d["size"] == len(content)
                assert d["digest"] not in blobs
                blobs[d["digest"]] = (d, content)
            if event["event"] == "image":
                assert event["descriptor"]["digest"] in blobs
                images.append(event)
    return blobs, images


def tar(members, links=()):
    f = io.BytesIO()
    with tarfile.open(fileobj=f, mode="w") as t:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            t.addfile(info, io.BytesIO(content))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            t.addfile(info)
    return f.getvalue()


def dump(document):
    return json.dumps(document).encode()


def config(*diff_ids, architecture="amd64"):
    return dump({"architecture": architecture, "os": "linux", "config": {"Cmd": ["sh"]},
                 "rootfs": {"type": "layers", "diff_ids": list(diff_ids)}})


LAYER1, LAYER2 = tar([("etc/a", b"1" * 3000)]), tar([("etc/b", b"2")])


def docker(tags=("box:1",), layers=None, wrap=None, links=()):
    layers = layers or [("aa/layer.tar", LAYER1), ("bb/layer.tar", LAYER2)]
    c = config(sha256(LAYER1), sha256(LAYER2))
    name = hashlib.sha256(c).hexdigest() + ".json"
    manifest = [{"Config": name, "RepoTags": list(tags), "Layers": ["aa/layer.tar", "bb/layer.tar"]}]
    return tar([*layers, (name, c), ("aa/VERSION", b"1.0"), ("repositories", b"{}"),
                ("manifest.json", dump(wrap(manifest) if wrap else manifest))], links)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress,
                                  lambda d: subprocess.run(["zstd", "-c"], input=d, check=True,
                                                           capture_output=True).stdout])
def test_docker_archive(tmp_path, pack):
    blobs, images = load(pack(docker(tags=["box:1", "example.org:5000/x"])), tmp_path / "s")
    image, = images
    assert image["names"] == ["docker.io/library/box:1", "example.org:5000/x:latest"]
    manifest = json.loads(blobs[image["descriptor"]["digest"]][1])
    assert manifest["mediaType"] == image["descriptor"]["mediaType"] == DOCKER_MANIFEST
    assert [d["digest"] for d in manifest["layers"]] == [sha256(LAYER1), sha256(LAYER2)]
    assert all(d["mediaType"].endswith("rootfs.diff.tar") for d in manifest["layers"])
    assert len(blobs) == 4


def test_docker_archive_kinds(tmp_path):
    # Compressed layers, a layer that is a symlink to an earlier one, no tags.
    packed = gzip.compress(LAYER2)
    blobs, (image,) = load(docker(tags=(), layers=[("cc/layer.tar", LAYER1),
                                                   ("bb/layer.tar", packed)],
                                  links=[("aa/layer.tar", "../cc/layer.tar")]), tmp_path / "s")
    assert image["names"] == []
    layers = json.loads(blobs[image["descriptor"]["digest"]][1])["layers"]
    assert [d["digest"] for d in layers] == [sha256(LAYER1), sha256(packed)]
    assert layers[1]["mediaType"].endswith(".gzip")
    # ./ before names
    members = tarfile.open(fileobj=io.BytesIO(docker()))
    again = [("./" + m.name, members.extractfile(m).read()) for m in members]
    assert len(load(tar(again), tmp_path / "s2")[1]) == 1


def oci(manifests, blobs, **annotations):
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
    return tar([("blobs/sha256/" + sha256(b)[7:], b) for b in blobs] +
               [("index.json", dump(index)), ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')])


def descriptor(media_type, data, **more):
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **more}


def manifest(c, *layers):
    return dump({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, c),
                 "layers": [descriptor(LAYER, x) for x in layers]})


def test_oci_archive(tmp_path):
    c = config(sha256(LAYER1))
    m = manifest(c, LAYER1)
    names = [{"io.containerd.image.name": "docker.io/library/a:1"},
             {"org.opencontainers.image.ref.name": "b:2"},
             {"org.opencontainers.image.ref.name": "latest"}]
    data = oci([descriptor(MANIFEST, m, annotations=n) for n in names] +
               [descriptor("application/unknown", b"x")], [m, c, LAYER1])
    blobs, (image,) = load(data, tmp_path / "s")
    assert image["names"] == ["docker.io/library/a:1", "docker.io/library/b:2"]
    assert blobs.keys() == {sha256(x) for x in (m, c, LAYER1)}
    assert blobs[sha256(c)][0]["mediaType"] == CONFIG


def multi():
    parts = {}
    for arch in ("amd64", "arm64", "s390x"):
        c = config(sha256(LAYER1), architecture=arch)
        parts[arch] = (manifest(c, LAYER1), c)
    children = [descriptor(MANIFEST, parts[a][0], platform={"os": "linux", "architecture": a})
                for a in parts]
    index = dump({"schemaVersion": 2, "mediaType": INDEX, "manifests": children})
    # s390x's config is missing
    data = oci([descriptor(INDEX, index, annotations={"io.containerd.image.name": "multi"})],
               [index, LAYER1, *parts["amd64"], *parts["arm64"], parts["s390x"][0]])
    return data, parts, index


def test_oci_platforms(tmp_path):
    data, parts, index = multi()
    blobs, (image,) = load(data, tmp_path / "all")
    assert image["descriptor"]["digest"] == sha256(index)
    assert blobs.keys() == {sha256(x) for x in (index, LAYER1, *parts["amd64"], *parts["arm64"])}
    blobs, _ = load(data, tmp_path / "arm", platform="linux/arm64")
    assert blobs.keys() == {sha256(x) for x in (index, LAYER1, *parts["arm64"])}
    with pytest.raises(WorkerError, match="no complete image for linux/s390x") as e:
        load(data, tmp_path / "s390x", platform="linux/s390x")
    assert e.value.code == CODES["NOT_FOUND"]
    with pytest.raises(WorkerError, match="no image for linux/riscv64"):
        load(docker(), tmp_path / "riscv", platform="linux/riscv64")


@pytest.mark.skipif(not shutil.which("skopeo"), reason="no skopeo")
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_from_skopeo(tmp_path, kind):
    (tmp_path / "oci.tar").write_bytes(oci([descriptor(MANIFEST, manifest(config(sha256(LAYER1)),
                                                                          LAYER1))],
                                           [manifest(config(sha256(LAYER1)), LAYER1),
                                            config(sha256(LAYER1)), LAYER1]))
    archive = tmp_path / "skopeo.tar"
    subprocess.run(["skopeo", "copy", "--insecure-policy", f"oci-archive:{tmp_path}/oci.tar",
                    f"{kind}:{archive}:example.org/team/box:3"], check=True)
    blobs, (image,) = load(archive.read_bytes(), tmp_path / "s")
    assert image["names"] == ["example.org/team/box:3"]
    assert len(blobs) == 3


def ambiguous(_):
    return {"manifests": []}


BAD = {
    "no archive": (tar([("bin/sh", b"x")]), "INVALID_ARGUMENT", "neither oci-layout nor"),
    "old": (tar([("repositories", b"{}")]), "INVALID_ARGUMENT", "before 1.10"),
    "null": (tar([("manifest.json", b"null")]), "INVALID_ARGUMENT", "document is null"),
    "object": (docker(wrap=ambiguous), "INVALID_ARGUMENT", "lists no image"),
    "big manifest.json": (tar([("manifest.json", b" " * (2 << 20))]), "RESOURCE_EXHAUSTED",
                          "longer than"),
    "missing layer": (docker(wrap=lambda m: [{**m[0], "Layers": ["aa/layer.tar", "nope"]}]),
                      "INVALID_ARGUMENT", "no layer 'nope'"),
    "too few layers": (docker(wrap=lambda m: [{**m[0], "Layers": ["aa/layer.tar"]}]),
                       "INVALID_ARGUMENT", "2 diff_ids"),
    "host file as config": (docker(wrap=lambda m: [{**m[0], "Config": "/etc/passwd"}]),
                            "INVALID_ARGUMENT", "no config"),
    "host file by symlink": (docker(wrap=lambda m: [{**m[0], "Config": "evil"}],
                                    links=[("evil", "/etc/passwd"), ("evil2", "../../etc/passwd")]),
                             "INVALID_ARGUMENT", "no config"),
    "symlink loop": (docker(wrap=lambda m: [{**m[0], "Config": "l1"}],
                            links=[("l1", "l2"), ("l2", "l1")]), "INVALID_ARGUMENT", "no config"),
    "bad name": (docker(tags=["box:-1"]), "INVALID_ARGUMENT", "box:-1"),
    "wrong layer": (docker(layers=[("aa/layer.tar", LAYER2), ("bb/layer.tar", LAYER1)]),
                    "FAILED_PRECONDITION", "config says"),
    "wrong digest": (tar([("blobs/sha256/" + "0" * 64, b"{}"),
                          ("index.json", dump({"schemaVersion": 2, "manifests": [
                              {"mediaType": MANIFEST, "digest": "sha256:" + "0" * 64, "size": 2}]})),
                          ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')]),
                     "DATA_LOSS", "has digest"),
    "path as digest": (tar([("index.json", dump({"schemaVersion": 2, "manifests": [
        {"mediaType": MANIFEST, "digest": "sha256:../../etc/passwd", "size": 2}]})),
        ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')]), "INVALID_ARGUMENT", ""),
    "layout version": (tar([("oci-layout", b'{"imageLayoutVersion":"9"}'), ("index.json", b"{}")]),
                       "INVALID_ARGUMENT", "version"),
    "truncated": (docker()[:4000], "DATA_LOSS", "truncated"),
    "corrupt xz": (lzma.compress(docker())[:200] + bytes(200), "DATA_LOSS", "xz"),
    "truncated bzip2": (bz2.compress(docker())[:-5], "DATA_LOSS", "bzip2 stream is truncated"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_archives(tmp_path, name):
    data, code, text = BAD[name]
    with pytest.raises(WorkerError, match=text) as e:
        load(data, tmp_path / "s")
    assert e.value.code == CODES[code]


def save(files):
    reader = io.BytesIO()
    out = os.memfd_create("out")
    with Worker("save") as w:
        w.send({"op": "save"}, [out])
        for path, content in files:
            fd = os.memfd_create("file")
            os.write(fd, content)
            w.send({"op": "file", "path": path, "size": len(content)}, [fd])
            os.close(fd)
        w.send({"op": "end"})
        w.finish()
    os.lseek(out, 0, os.SEEK_SET)
    with os.fdopen(out, "rb") as f:
        reader.write(f.read())
    return reader.getvalue()


def test_save(tmp_path):
    c = config(sha256(LAYER1))
    m = manifest(c, LAYER1)
    files = [("blobs/sha256/" + sha256(b)[7:], b) for b in (m, c, LAYER1)] + [
        ("index.json", dump({"schemaVersion": 2, "manifests": [descriptor(
            MANIFEST, m, annotations={"io.containerd.image.name": "x:1"})]})),
        ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'), ("n" * 50 + "/" + "m" * 120, b"long")]
    first, second = save(files), save(files)
    assert first == second and len(first) % 512 == 0
    members = tarfile.open(fileobj=io.BytesIO(first))
    assert {n.name: members.extractfile(n).read() for n in members if n.isfile()} == dict(files)
    assert all(n.mtime == 0 and n.uid == 0 for n in members)
    assert members.getmember("blobs").isdir()
    subprocess.run(["tar", "-tf", "-"], input=first, check=True, stdout=subprocess.DEVNULL)
    _, (image,) = load(first, tmp_path / "s")
    assert image["names"] == ["docker.io/library/x:1"]


def test_save_short_file():
    out, fd = os.memfd_create("out"), os.memfd_create("file")
    os.write(fd, b"abc")
    with Worker("save") as w:
        w.send({"op": "save"}, [out])
        w.send({"op": "file", "path": "f", "size": 5}, [fd])
        with pytest.raises(WorkerError, match="'f' ends after 3 of 5 bytes") as e:
            w.finish()
    assert e.value.code == CODES["DATA_LOSS"]
    os.close(out)
    os.close(fd)
