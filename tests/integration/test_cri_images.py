# SPDX-License-Identifier: Apache-2.0
"""The CRI's ImageService, and what RuntimeService says of the runtime, as gRPC's Python client sees them."""

import base64
import concurrent.futures
import json
import socket
import subprocess
import threading
import time

import grpc
import pytest

from cri import Cri, fails
from harness import Daemon, background, until
from registry import Registry


@pytest.fixture(scope="module")
def daemon(tmp_path_factory, registry):
    d = Daemon(config=f'insecure-registries = ["127.0.0.1:{registry.port}"]\n'
                      "[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'pause'\n"
                      "[plugins.'io.containerd.grpc.v1.cri'.pinned_images]\n"
                      f"keep = '{registry.address}/pinned:1'\n")
    yield d
    cri = Cri(d.socket)
    for i in cri.ListImages().images:
        cri.RemoveImage(image={"image": i.id})
    cri.close()
    d.close()


@pytest.fixture
def cri(daemon):
    c = Cri(daemon.socket)
    yield c
    for i in c.ListImages().images:
        c.RemoveImage(image={"image": i.id})
    c.close()


@pytest.fixture(scope="module")
def ref(registry, busybox_archive):
    return registry.push(f"oci-archive:{busybox_archive}", "cri/busybox:1")


def pull(cri, image, **fields):
    return cri.PullImage(image={"image": image}, **fields).image_ref


def status(cri, image, **fields):
    r = cri.ImageStatus(image={"image": image}, **fields)
    return r.image if r.HasField("image") else None


def test_version(cri):
    v = cri.Version()
    assert (v.version, v.runtime_name, v.runtime_api_version) == ("0.1.0", "kistl", "v1")
    assert all(part.isdigit() for part in v.runtime_version.split("."))


def test_status(cri, daemon):
    s = cri.Status()
    assert [c.type for c in s.status.conditions] == ["RuntimeReady", "NetworkReady"]
    assert s.status.conditions[0].status and not s.info
    names = [h.name for h in s.runtime_handlers]
    assert "" in names and "crun" in names and len(names) == len(set(names))
    info = cri.Status(verbose=True).info
    assert json.loads(info["config"])["stateDir"] == str(daemon.state)
    assert cri.RuntimeConfig().linux.cgroup_driver == 1
    cri.UpdateRuntimeConfig(runtime_config={"network_config": {"pod_cidr": "10.1.0.0/24"}})


def test_unimplemented(cri):
    for call in (cri.CheckpointPod, cri.RestorePod):
        with fails("UNIMPLEMENTED"):
            call()


def test_pull_and_forms_of_reference(cri, ref):
    image_id = pull(cri, ref)
    assert image_id.startswith("sha256:") and len(image_id) == 71
    image = status(cri, ref)
    assert image.id == image_id and image.size > 0 and list(image.repo_tags) == [ref]
    assert len(image.repo_digests) == 1 and image.repo_digests[0].startswith(ref.rsplit(":", 1)[0] + "@sha256:")
    for name in (image_id, image_id[7:], image_id[7:19], image.repo_digests[0]):
        assert status(cri, name) == image, name
    assert [i.id for i in cri.ListImages().images] == [image_id]
    assert [i.id for i in cri.ListImages(filter={"image": {"image": ref}}).images] == [image_id]
    assert not cri.ListImages(filter={"image": {"image": "nobody/knows:this"}}).images
    streamed = [i for r in cri.StreamImages() for i in r.images]
    assert streamed == list(cri.ListImages().images)


def test_status_of_nothing(cri):
    assert status(cri, "nobody/knows:this") is None
    assert status(cri, "sha256:" + "0" * 64) is None
    with fails("INVALID_ARGUMENT", "image.image"):
        cri.ImageStatus()
    with fails("INVALID_ARGUMENT", "Not/A/Name"):
        pull(cri, "Not/A/Name")
    for call in (cri.PullImage, cri.RemoveImage):
        with fails("INVALID_ARGUMENT", "image.image"):
            call(image={"image": ""})


def test_verbose_status(cri, ref):
    image_id = pull(cri, ref)
    info = json.loads(cri.ImageStatus(image={"image": ref}, verbose=True).info["info"])
    assert info["chainID"].startswith("sha256:")
    assert info["imageSpec"]["os"] == "linux" and "FROM_IMAGE=yes" in info["imageSpec"]["config"]["Env"]
    assert not cri.ImageStatus(image={"image": image_id}).info


def test_pull_by_digest(cri, ref):
    pull(cri, ref)
    by_digest = status(cri, ref).repo_digests[0]
    cri.RemoveImage(image={"image": ref})
    pull(cri, by_digest)
    image = status(cri, by_digest)
    assert not image.repo_tags and list(image.repo_digests) == [by_digest]


def test_default_tag(cri, registry, busybox_archive):
    registry.push(f"oci-archive:{busybox_archive}", "untagged:latest")
    pull(cri, registry.address + "/untagged")
    assert list(status(cri, registry.address + "/untagged").repo_tags) == [registry.address + "/untagged:latest"]


def test_one_id_many_names(cri, registry, busybox_archive):
    names = [registry.push(f"oci-archive:{busybox_archive}", name) for name in ("many:1", "many:2", "other/many:3")]
    ids = {pull(cri, name) for name in names}
    assert len(ids) == 1
    images = cri.ListImages().images
    assert len(images) == 1 and sorted(images[0].repo_tags) == sorted(names)
    assert len(images[0].repo_digests) == 2
    cri.RemoveImage(image={"image": names[1]})
    assert not cri.ListImages().images
    assert all(status(cri, name) is None for name in names)


@pytest.mark.parametrize("user,uid,username", [
    ("1002", 1002, ""), ("www-data", None, "www-data"), ("1003:users", 1003, ""), ("www-data:100", None, "www-data"),
    ("", None, "")])
def test_user(cri, scratch, registry, user, uid, username):
    from harness import TOP

    name = "user-" + (user or "none").replace(":", "-")
    archive = scratch / f"{name}.tar"
    subprocess.run(["/usr/bin/python3", TOP / "tools/mkimage", "--busybox", "--name", "u:latest", "--output", archive,
                    *(["--user", user] if user else [])], check=True)
    ref = registry.push(f"oci-archive:{archive}", f"{name}:1")
    pull(cri, ref)
    image = status(cri, ref)
    assert (image.uid.value if image.HasField("uid") else None, image.username) == (uid, username)


def test_remove_is_idempotent(cri, ref):
    cri.RemoveImage(image={"image": "nobody/knows:this"})
    image_id = pull(cri, ref)
    errors = []

    def remove():
        try:
            cri.RemoveImage(image={"image": image_id})
            assert status(cri, image_id) is None
        except Exception as e:
            errors.append(e)

    threads = [threading.Thread(target=remove) for _ in range(5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors and not cri.ListImages().images


def test_pull_and_remove_at_once(cri, ref):
    """What one client removes while another pulls it is pulled again: a pull never fails for that."""
    def pulls(_):
        return [pull(cri, ref) for _ in range(15)]

    def removes(_):
        return [cri.RemoveImage(image={"image": ref}) for _ in range(15)]

    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        removed = [executor.submit(removes, i) for i in range(2)]
        ids = {i for r in executor.map(pulls, range(2)) for i in r}
    assert len(ids) == 1 and all(r.result() for r in removed)
    cri.RemoveImage(image={"image": ref})
    assert status(cri, ref) is None


def test_pinned(cri, registry, busybox_archive, ref):
    pinned = registry.push(f"oci-archive:{busybox_archive}", "pinned:1")
    pull(cri, pinned)
    assert status(cri, pinned).pinned
    cri.RemoveImage(image={"image": pinned})
    pull(cri, ref)
    assert not status(cri, ref).pinned


def test_fs_info(cri, daemon, ref):
    pull(cri, ref)
    info = cri.ImageFsInfo()
    fs = info.image_filesystems[0]
    assert fs.fs_id.mountpoint == str(daemon.root) and fs.timestamp > 0
    assert fs.used_bytes.value >= status(cri, ref).size and fs.inodes_used.value > 0
    assert info.container_filesystems[0].fs_id.mountpoint == fs.fs_id.mountpoint
    cri.RemoveImage(image={"image": ref})
    assert until(lambda: cri.ImageFsInfo().image_filesystems[0].used_bytes.value < fs.used_bytes.value)


def test_pull_errors(cri, registry):
    with fails("NOT_FOUND", "nothing/there"):
        pull(cri, registry.address + "/nothing/there:1")
    port = Registry.free_port()
    with fails("UNKNOWN"):
        try:
            pull(cri, f"127.0.0.1:{port}/x:1")
        except grpc.RpcError as e:
            assert e.details().startswith("RegistryUnavailable: ")
            raise


def test_pull_that_the_client_gives_up(cri, ref):
    with fails("DEADLINE_EXCEEDED"):
        cri.PullImage(image={"image": ref}, _timeout=0.001)
    until(lambda: pull(cri, ref))
    assert status(cri, ref)


class Guarded:
    """A registry that wants a password: answers 401 until it is right, then what the real one has."""

    def __init__(self, upstream):
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
        import http.client

        seen = self.seen = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                auth = self.headers.get("Authorization")
                seen.append(auth)
                if auth not in ("Basic " + base64.b64encode(b"me:secret:x").decode(), "Bearer tok"):
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="x"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                c = http.client.HTTPConnection(upstream)
                c.request(self.command, self.path, headers={k: v for k, v in self.headers.items() if k == "Accept"})
                r = c.getresponse()
                body = r.read()
                self.send_response(r.status)
                for k, v in r.getheaders():
                    if k.lower() not in ("connection", "transfer-encoding", "date", "server"):
                        self.send_header(k, v)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)
                c.close()

            do_HEAD = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = "127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def guarded(registry, ref):
    g = Guarded(registry.address)
    yield g
    g.close()


@pytest.mark.parametrize("auth", [
    {"username": "me", "password": "secret:x"},
    {"auth": base64.b64encode(b"me:secret:x").decode()},
    {"auth": base64.b64encode(b"me:secret:x\0\0").decode()},
    {"registry_token": "tok"}])
def test_credentials(cri, guarded, auth):
    image = guarded.address + "/cri/busybox:1"
    assert pull(cri, image, auth=auth)
    cri.RemoveImage(image={"image": image})
    assert pull(cri, image, auth={**auth, "server_address": "http://" + guarded.address + "/v2/"})


def test_wrong_credentials(cri, guarded):
    image = guarded.address + "/cri/busybox:1"
    with fails("UNAUTHENTICATED"):
        pull(cri, image)
    with fails("UNAUTHENTICATED"):
        pull(cri, image, auth={"username": "me", "password": "wrong"})
    # Of another registry: not sent to this one.
    del guarded.seen[:]
    with fails("UNAUTHENTICATED"):
        pull(cri, image, auth={"username": "me", "password": "secret:x", "server_address": "registry.example"})
    assert not any(guarded.seen)
    with fails("INVALID_ARGUMENT", "auth.auth"):
        pull(cri, image, auth={"auth": "!!!"})
    with fails("INVALID_ARGUMENT", "auth.auth"):
        pull(cri, image, auth={"auth": base64.b64encode(b"nocolon").decode()})


def test_pull_without_progress(fresh):
    """A registry that accepts and says nothing."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(16)
        d = fresh(config="[plugins.'io.containerd.grpc.v1.cri']\nimage_pull_progress_timeout = '1s'\n")
        c = Cri(d.socket)
        started = time.monotonic()
        with fails("DEADLINE_EXCEEDED", "no progress in 1 s"):
            pull(c, f"127.0.0.1:{s.getsockname()[1]}/x:1")
        assert time.monotonic() - started < 20
        # The client that gives up ends it too.
        call = c.PullImage(_future=True, image={"image": f"127.0.0.1:{s.getsockname()[1]}/x:1"})
        call.cancel()
        c.close()


def test_oversized_message(cri):
    with fails("RESOURCE_EXHAUSTED"):
        cri.ImageStatus(image={"image": "x" * (17 << 20)})
    assert cri.Version().runtime_name == "kistl"


def test_lists_while_pulling(cri, ref):
    """Nobody waits for a transfer."""
    pulls = [background(pull, cri, ref) for _ in range(8)]
    for _ in range(20):
        cri.ListImages(_timeout=10)
        cri.Status(_timeout=10)
    assert len({p.result() for p in pulls}) == 1
