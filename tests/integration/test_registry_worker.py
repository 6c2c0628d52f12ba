# SPDX-License-Identifier: Apache-2.0
"""kistl-image fetch, push and login over their socket, against Debian's docker-registry and against a
registry of our own that misbehaves.  Run with /usr/bin/python3 -m pytest; KISTL_BUILD names the build."""

import base64
import gzip
import hashlib
import io
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import tarfile
import tempfile
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("KISTL_BUILD", TOP / "build"))
WORKER = next((p for p in (BUILD / "src/worker/kistl-image", BUILD / "kistl-image") if p.exists()),
              BUILD / "kistl-image")

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

# enum error_code
INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION = 3, 5, 7, 8, 9
UNAVAILABLE, DATA_LOSS, UNAUTHENTICATED = 14, 15, 16


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


# ---- the worker ----


class WorkerError(Exception):
    def __init__(self, event):
        super().__init__(event["message"])
        self.code = event["code"]


class Worker:
    """One kistl-image process; events come back as (json, [fd])."""

    def __init__(self, verb):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock = ours
        self.sock.settimeout(60)
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", f'exec "$0" {verb} 3<&{theirs.fileno()}', str(WORKER)],
            pass_fds=[theirs.fileno()], env={}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        theirs.close()

    def send(self, message, *fds):
        data = json.dumps(message).encode()
        if fds:
            socket.send_fds(self.sock, [data], list(fds))
        else:
            self.sock.send(data)

    def recv(self):
        try:
            data, fds, _, _ = socket.recv_fds(self.sock, 1 << 18, 4)
        except ConnectionResetError:  # it ended with messages unread; its last words come after this
            data, fds, _, _ = socket.recv_fds(self.sock, 1 << 18, 4)
        if not data:
            raise EOFError("the worker is gone")
        event = json.loads(data)
        if event["event"] == "error":
            raise WorkerError(event)
        return event, fds

    def close(self):
        self.sock.close()
        return self.process.wait(20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def read_fd(fd):
    with os.fdopen(fd, "rb") as f:
        return f.read()


class Pull:
    """Runs a whole fetch; what came is in the members."""

    def __init__(self, ref, endpoints, existing=None, pipes=(), skip=(), parallel=3, platform="linux/amd64",
                 stall=0, proxy=None):
        self.documents, self.layers, self.files, self.retries, self.piped = [], {}, {}, [], {}
        self.resolved = None
        message = {"op": "pull", "ref": ref, "platform": platform, "endpoints": endpoints,
                   "parallel": parallel, "stall_timeout_ms": stall}
        if proxy:
            message["proxy"] = proxy
        threads = []
        with Worker("fetch") as w:
            w.send(message)
            while True:
                event, fds = w.recv()
                kind = event["event"]
                if kind == "resolved":
                    self.resolved = event
                elif kind == "document":
                    self.documents.append((event["kind"], event["descriptor"], read_fd(fds[0])))
                elif kind == "layer":
                    self.layers[event["n"]] = event
                elif kind == "layers":
                    assert event["count"] == len(self.layers)
                    for n in self.layers:
                        if n in skip:
                            w.send({"op": "layer", "n": n, "action": "skip"})
                            continue
                        file = self.files[n] = tempfile.TemporaryFile()
                        have = (existing or {}).get(n, b"")
                        file.write(have)
                        file.flush()
                        pass_fds = [file.fileno()]
                        if n in pipes:
                            r, wr = os.pipe()
                            pass_fds.append(wr)
                            t = threading.Thread(target=self.drain, args=(n, r))
                            t.start()
                            threads.append(t)
                        w.send({"op": "layer", "n": n, "action": "fetch", "size": len(have)}, *pass_fds)
                        for fd in pass_fds[1:]:
                            os.close(fd)
                elif kind == "retry":
                    self.retries.append(event)
                elif kind == "done":
                    break
        for t in threads:
            t.join(20)

    def drain(self, n, fd):
        self.piped[n] = read_fd(fd)

    def content(self, n):
        self.files[n].seek(0)
        return self.files[n].read()


def endpoint(url, namespace="", **more):
    host = urllib.parse.urlsplit(url).netloc
    return {"url": url + "/v2", "host": host, "namespace": namespace or host,
            "capabilities": ["pull", "resolve", "push"], **more}


# ---- an image ----


def make_layer(content):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as t:
        info = tarfile.TarInfo("file")
        info.size = len(content)
        t.addfile(info, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=0), digest(raw.getvalue())


class Image:
    def __init__(self, contents=(b"one", os.urandom(300000)), layer_type=LAYER):
        layers = [make_layer(c) for c in contents]
        self.layers = [blob for blob, _ in layers]
        self.config = json.dumps({
            "architecture": "amd64", "os": "linux", "config": {"Cmd": ["true"]},
            "rootfs": {"type": "layers", "diff_ids": [d for _, d in layers]}}).encode()
        self.manifest = json.dumps({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest(self.config), "size": len(self.config)},
            "layers": [{"mediaType": layer_type, "digest": digest(b), "size": len(b)}
                       for b in self.layers]}).encode()
        self.index = json.dumps({
            "schemaVersion": 2, "mediaType": INDEX, "manifests": [
                {"mediaType": MANIFEST, "digest": "sha256:" + "0" * 64, "size": 7,
                 "platform": {"os": "linux", "architecture": "s390x"}},
                {"mediaType": MANIFEST, "digest": digest(self.manifest), "size": len(self.manifest),
                 "platform": {"os": "linux", "architecture": "amd64"}}]}).encode()

    def blobs(self):
        return {digest(b): b for b in [self.config, *self.layers]}

    def manifests(self):
        return {"latest": (MANIFEST, self.manifest), digest(self.manifest): (MANIFEST, self.manifest),
                "multi": (INDEX, self.index), digest(self.index): (INDEX, self.index)}


# ---- a registry that does as it is told ----


class Registry:
    """hook(handler, kind, name) may answer a request itself and return True."""

    def __init__(self, image=None, hook=None, tls=None):
        self.image = image or Image()
        self.blobs, self.manifests = self.image.blobs(), self.image.manifests()
        self.hook = hook or (lambda *_: False)
        self.requests = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def reply(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                if "Content_Length" not in headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def error(self, status, code, message, **headers):
                body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
                self.reply(status, body, Content_Type="application/json", **headers)

            def blob(self, data):
                first = 0
                value = self.headers.get("Range")
                if value:
                    first = int(value.removeprefix("bytes=").rstrip("-"))
                    if first >= len(data):
                        return self.reply(416)
                    return self.reply(206, data[first:], Content_Range=f"bytes {first}-{len(data) - 1}/{len(data)}")
                return self.reply(200, data)

            def serve(self):
                url = urllib.parse.urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                registry.requests.append((self.command, self.path, dict(self.headers), body))
                parts = url.path.split("/")
                kind, name = (parts[-2], parts[-1]) if len(parts) > 3 else ("ping", "")
                if registry.hook(self, kind, name):
                    return None
                if kind == "manifests" and name in registry.manifests:
                    media, data = registry.manifests[name]
                    return self.reply(200, data, Content_Type=media, Docker_Content_Digest=digest(data))
                if kind == "blobs" and name in registry.blobs:
                    return self.blob(registry.blobs[name])
                if kind == "ping":
                    return self.reply(200, b"{}")
                return self.error(404, "MANIFEST_UNKNOWN" if kind == "manifests" else "BLOB_UNKNOWN",
                                  "manifest unknown" if kind == "manifests" else "blob unknown to registry")

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = serve

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.host = "127.0.0.1:%d" % self.server.server_port
        self.url = ("https://" if tls else "http://") + self.host
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def ref(self, tag="latest"):
        return f"{self.host}/repo/image{'@' if ':' in tag else ':'}{tag}"

    def pull(self, tag="latest", auth=None, endpoints=None, **more):
        extra = {"auth": auth} if auth else {}
        return Pull(self.ref(tag), endpoints or [endpoint(self.url, **extra)], **more)

    def count(self, method, part):
        return sum(m == method and part in path for m, path, _, _ in self.requests)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def check_whole(pull, image):
    for n, layer in enumerate(image.layers):
        assert pull.content(n) == layer


# ---- fetch ----


def test_pull_manifest():
    with Registry() as r:
        p = r.pull(pipes=(0, 1))
    assert p.resolved["descriptor"] == {"mediaType": MANIFEST, "digest": digest(r.image.manifest),
                                        "size": len(r.image.manifest)}
    assert p.resolved["host"] == r.host
    assert [k for k, _, _ in p.documents] == ["manifest", "config"]
    assert p.documents[0][2] == r.image.manifest and p.documents[1][2] == r.image.config
    check_whole(p, r.image)
    assert p.piped == dict(enumerate(r.image.layers))
    assert r.requests[0][0] == "HEAD"
    assert "image.index.v1+json" in r.requests[0][2]["Accept"]


def test_pull_index_and_by_digest():
    with Registry() as r:
        p = r.pull("multi")
        assert [k for k, _, _ in p.documents] == ["index", "manifest", "config"]
        check_whole(p, r.image)
        p = r.pull(digest(r.image.index), skip=(0,))
        assert [k for k, _, _ in p.documents] == ["index", "manifest", "config"]
        assert 0 not in p.files and p.content(1) == r.image.layers[1]
        with pytest.raises(WorkerError, match="no matching manifest for linux/riscv64") as e:
            r.pull("multi", platform="linux/riscv64")
        assert e.value.code == NOT_FOUND


def test_not_found():
    with Registry() as r:
        with pytest.raises(WorkerError, match="manifest unknown") as e:
            r.pull("absent")
        assert e.value.code == NOT_FOUND
        assert r.ref("absent") in str(e.value)


def test_unreachable_is_quick():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
        start = time.monotonic()
        with pytest.raises(WorkerError) as e:
            Pull(f"127.0.0.1:{port}/x:y", [endpoint(f"http://127.0.0.1:{port}")])
        assert e.value.code == UNAVAILABLE and time.monotonic() - start < 2


@pytest.mark.parametrize("status", [405, 200])
def test_head_not_usable(status):
    def hook(h, kind, name):
        if kind == "manifests" and h.command == "HEAD":
            h.reply(status)
            return True
        if kind == "manifests" and name == "latest":
            h.reply(200, r.image.manifest, Content_Type=MANIFEST + "; charset=utf-8")
            return True
        return False

    with Registry(hook=hook) as r:
        p = r.pull()
        assert p.resolved["descriptor"]["digest"] == digest(r.image.manifest)
        check_whole(p, r.image)


def test_schema1_is_refused_by_name():
    body = json.dumps({"schemaVersion": 1, "name": "x", "tag": "y", "architecture": "amd64",
                       "fsLayers": [], "history": []}).encode()
    with Registry() as r:
        r.manifests["latest"] = ("application/vnd.docker.distribution.manifest.v1+prettyjws", body)
        with pytest.raises(WorkerError, match="(?i)schema *(version)? *1"):
            r.pull()


def test_wrong_digest_of_manifest():
    def hook(h, kind, name):
        if kind == "manifests" and h.command == "GET":
            h.reply(200, r.image.manifest + b" ", Content_Type=MANIFEST)
            return True
        return False

    with Registry(hook=hook) as r:
        with pytest.raises(WorkerError, match="digest") as e:
            r.pull()
        assert e.value.code == DATA_LOSS


def test_wrong_digest_of_layer():
    with Registry() as r:
        bad = bytearray(r.image.layers[1])
        bad[1000] ^= 1
        r.blobs[digest(r.image.layers[1])] = bytes(bad)
        with pytest.raises(WorkerError, match=digest(r.image.layers[1])) as e:
            r.pull()
        assert e.value.code == DATA_LOSS


def test_layer_too_long():
    with Registry() as r:
        r.blobs[digest(r.image.layers[1])] += b"x" * 100000
        with pytest.raises(WorkerError, match="longer") as e:
            r.pull()
        assert e.value.code == DATA_LOSS


def test_endless_manifest():
    def hook(h, kind, name):
        if kind == "manifests" and h.command == "GET":
            h.send_response(200)
            h.send_header("Content-Type", MANIFEST)
            h.end_headers()
            try:
                while True:
                    h.wfile.write(b" " * 65536)
            except OSError:
                h.close_connection = True
            return True
        return False

    with Registry(hook=hook) as r:
        with pytest.raises(WorkerError, match="larger than") as e:
            r.pull()
        assert e.value.code == RESOURCE_EXHAUSTED


def test_huge_headers():
    def hook(h, kind, name):
        if kind == "manifests":
            h.reply(200, b"", **{f"X-{i}": "y" * 1000 for i in range(100)})
            return True
        return False

    with Registry(hook=hook) as r:
        with pytest.raises(WorkerError, match="header") as e:
            r.pull()
        assert e.value.code == RESOURCE_EXHAUSTED


def test_error_text_is_cleaned():
    def hook(h, kind, name):
        if kind == "manifests":
            h.error(403, "DENIED", "no\x1b[31m entry\r\n" + "x" * 5000)
            return True
        return False

    with Registry(hook=hook) as r:
        with pytest.raises(WorkerError) as e:
            r.pull()
        assert e.value.code == PERMISSION_DENIED
        assert "denied: no [31m entry" in str(e.value) and "\x1b" not in str(e.value)
        assert len(str(e.value)) < 1200


# ---- retry, resume ----


def flaky(times, answer):
    """A hook: the first `times` GETs of the big layer are answered by answer(handler, data)."""
    left = [times]

    def hook(h, kind, name):
        registry = hook.registry
        if kind == "blobs" and name == digest(registry.image.layers[1]) and left[0] > 0:
            left[0] -= 1
            answer(h, registry.blobs[name])
            return True
        return False

    return hook


def run_flaky(times, answer, **more):
    hook = flaky(times, answer)
    with Registry(hook=hook) as r:
        hook.registry = r
        p = r.pull(pipes=(1,), **more)
        check_whole(p, r.image)
        assert p.piped[1] == r.image.layers[1]
        return r, p


def truncated(h, data):
    value = h.headers.get("Range")
    first = int(value.removeprefix("bytes=").rstrip("-")) if value else 0
    h.send_response(206 if value else 200)
    if value:
        h.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
    h.send_header("Content-Length", str(len(data) - first))
    h.end_headers()
    h.wfile.write(data[first:first + 30000])
    h.wfile.flush()
    h.close_connection = True
    h.connection.shutdown(socket.SHUT_RDWR)


def test_truncated_body_goes_on_with_range():
    r, p = run_flaky(7, truncated)  # more often than RETRY_ATTEMPTS: there was progress each time
    ranges = [h.get("Range") for m, path, h, _ in r.requests if digest(r.image.layers[1]) in path]
    assert ranges[:3] == [None, "bytes=30000-", "bytes=60000-"] and len(ranges) == 8
    assert p.retries and p.retries[0]["n"] == 1 and p.retries[0]["delay_ms"] > 0


def test_range_ignored_by_server():
    def answer(h, data):
        if h.headers.get("Range"):
            h.reply(200, data)
        else:
            truncated(h, data)

    run_flaky(2, answer)


def test_wrong_range_from_server():
    def answer(h, data):
        if h.headers.get("Range"):
            h.reply(206, data[40000:], Content_Range=f"bytes 40000-{len(data) - 1}/{len(data)}")
        else:
            truncated(h, data)

    with pytest.raises(WorkerError, match="another range") as e:
        run_flaky(2, answer)
    assert e.value.code == DATA_LOSS


def test_416_starts_without_range():
    def answer(h, data):
        if h.headers.get("Range"):
            h.reply(416)
        else:
            truncated(h, data)

    run_flaky(2, answer)


def test_existing_bytes_are_used():
    with Registry() as r:
        p = r.pull(existing={1: r.image.layers[1][:123456], 0: r.image.layers[0]}, pipes=(0, 1))
        check_whole(p, r.image)
        assert p.piped == dict(enumerate(r.image.layers))
        ranges = [h.get("Range") for m, path, h, _ in r.requests if digest(r.image.layers[1]) in path]
        assert ranges == ["bytes=123456-"]
        assert r.count("GET", digest(r.image.layers[0])) == 0


def test_existing_bytes_are_wrong():
    with Registry() as r:
        with pytest.raises(WorkerError) as e:
            r.pull(existing={1: b"x" * 5000})
        assert e.value.code == DATA_LOSS


@pytest.mark.parametrize("status", [429, 500, 502, 503, 408])
def test_status_is_retried(status):
    start = time.monotonic()
    run_flaky(1, lambda h, data: h.error(status, "X", "busy", Retry_After="1"))
    assert time.monotonic() - start >= 0.9


def test_retry_after_date_on_manifest():
    seen = []

    def hook(h, kind, name):
        if kind == "manifests" and not seen:
            seen.append(time.monotonic())
            h.error(429, "TOOMANYREQUESTS", "slow down",
                    Retry_After=time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2)))
            return True
        return False

    with Registry(hook=hook) as r:
        r.pull()
        assert time.monotonic() - seen[0] > 0.9


def test_too_many_requests_in_the_end():
    def hook(h, kind, name):
        if kind == "manifests":
            h.error(429, "TOOMANYREQUESTS", "pull rate limit")
            return True
        return False

    with Registry(hook=hook) as r:
        r.manifests.clear()
        with pytest.raises(WorkerError, match="toomanyrequests: pull rate limit|429") as e:
            r.pull()
        assert e.value.code == RESOURCE_EXHAUSTED
        assert 2 <= len(r.requests) <= 6


def test_server_errors_in_the_end():
    def hook(h, kind, name):
        h.error(503, "UNAVAILABLE", "maintenance")
        return True

    with Registry(hook=hook) as r:
        with pytest.raises(WorkerError, match="503 Service Unavailable") as e:
            r.pull()
        assert e.value.code == UNAVAILABLE


def test_stall_is_noticed():
    def answer(h, data):
        h.send_response(200)
        h.send_header("Content-Length", str(len(data)))
        h.end_headers()
        h.wfile.write(data[:50000])
        h.wfile.flush()
        time.sleep(8)
        h.close_connection = True

    start = time.monotonic()
    r, p = run_flaky(1, answer, stall=1500)
    assert time.monotonic() - start < 7
    assert "stalled" in p.retries[0]["message"]


def test_blocked_pipe_blocks_only_its_own_transfer():
    image = Image([os.urandom(3 << 20), b"small", b"tiny"])
    with Registry(image) as r, Worker("fetch") as w:
        w.send({"op": "pull", "ref": r.ref(), "platform": "", "endpoints": [endpoint(r.url)], "parallel": 2,
                "stall_timeout_ms": 1000})
        while w.recv()[0]["event"] != "layers":
            pass
        reader, writer = os.pipe()
        files = [tempfile.TemporaryFile() for _ in range(3)]
        w.send({"op": "layer", "n": 0, "action": "fetch", "size": 0}, files[0].fileno(), writer)
        os.close(writer)
        for n in (1, 2):
            w.send({"op": "layer", "n": n, "action": "fetch", "size": 0}, files[n].fileno())
        done = set()
        while done != {1, 2}:
            event, _ = w.recv()
            if event["event"] == "fetched":
                done.add(event["n"])
        time.sleep(2)  # longer than the stall limit: a slow unpacker is no stall
        assert read_fd(reader) == image.layers[0]
        while (event := w.recv()[0])["event"] != "done":
            assert event["event"] != "retry"


def test_reader_of_the_pipe_leaves():
    with Registry() as r, Worker("fetch") as w:
        w.send({"op": "pull", "ref": r.ref(), "platform": "", "endpoints": [endpoint(r.url)], "parallel": 2})
        while w.recv()[0]["event"] != "layers":
            pass
        files = [tempfile.TemporaryFile() for _ in range(2)]
        for n in range(2):
            reader, writer = os.pipe()
            os.close(reader)
            w.send({"op": "layer", "n": n, "action": "fetch", "size": 0}, files[n].fileno(), writer)
            os.close(writer)
        while w.recv()[0]["event"] != "done":
            pass
        files[1].seek(0)
        assert files[1].read() == r.image.layers[1]


def test_worker_ends_with_its_daemon():
    def hook(h, kind, name):
        time.sleep(5)
        return False

    with Registry(hook=hook) as r:
        w = Worker("fetch")
        w.send({"op": "pull", "ref": r.ref(), "platform": "", "endpoints": [endpoint(r.url)], "parallel": 2})
        time.sleep(0.3)
        start = time.monotonic()
        w.close()
        assert time.monotonic() - start < 1


# ---- authentication ----


class Tokens:
    """A token server; `secret` None: anonymous is welcome."""

    def __init__(self, secret=("user", "pass"), post=True, life=300, extra=None):
        self.secret, self.post, self.life, self.asked, self.issued = secret, post, life, [], []
        self.extra = extra or {}

    def hook(self, h, kind, name):
        url = urllib.parse.urlsplit(h.path)
        if url.path != "/token":
            return False
        form = dict(urllib.parse.parse_qsl(h.server.last_body)) if h.command == "POST" else {}
        query = urllib.parse.parse_qs(url.query)
        self.asked.append((h.command, form or query, h.headers.get("Authorization")))
        if h.command == "POST" and not self.post:
            h.error(404, "NOT_FOUND", "no oauth2 here")
            return True
        good = self.secret is None
        if h.command == "POST":
            good = (form.get("username"), form.get("password")) == self.secret or \
                form.get("refresh_token") == "identity"
        elif self.secret:
            good = h.headers.get("Authorization") == "Basic " + base64.b64encode(
                ":".join(self.secret).encode()).decode()
        if not good:
            h.reply(401, b'{"details":"incorrect username or password"}', Content_Type="application/json")
            return True
        token = "t%d" % len(self.issued)
        self.issued.append(token)
        key = "access_token" if h.command == "POST" else "token"
        h.reply(200, json.dumps({key: token, "expires_in": self.life, **self.extra}).encode())
        return True


def bearer(tokens, realm=None, accept=None):
    def hook(h, kind, name):
        h.server.last_body = hook.registry.requests[-1][3].decode(errors="replace")
        if tokens.hook(h, kind, name):
            return True
        given = (h.headers.get("Authorization") or "").removeprefix("Bearer ")
        if given in (accept or tokens).issued:
            return False
        h.error(401, "UNAUTHORIZED", "authentication required",
                WWW_Authenticate=f'Bearer realm="{realm or hook.registry.url + "/token"}",service="s",'
                                 f'scope="repository:repo/image:pull"')
        return True

    return hook


def test_bearer_anonymous_once_for_all_layers():
    tokens = Tokens(secret=None)
    hook = bearer(tokens)
    with Registry(Image([os.urandom(1000) for _ in range(12)]), hook=hook) as r:
        hook.registry = r
        check_whole(r.pull(parallel=6), r.image)
    assert len(tokens.asked) == 1
    assert tokens.asked[0][:2] == ("GET", {"service": ["s"], "scope": ["repository:repo/image:pull"]})


def test_bearer_single_flight():
    """All layers find their token expired at once; one of them fetches a new one."""
    tokens = Tokens(secret=None)
    hook = bearer(tokens)

    def expire(h, kind, name):
        if kind == "blobs" and name in map(digest, r.image.layers) and tokens.issued and not expire.done:
            expire.done = True
            tokens.issued[0] = "revoked"
        return hook(h, kind, name)

    expire.done = False
    with Registry(Image([os.urandom(1000) for _ in range(12)]), hook=expire) as r:
        hook.registry = r
        check_whole(r.pull(parallel=6), r.image)
    assert len(tokens.asked) == 2


def test_bearer_post():
    tokens = Tokens()
    hook = bearer(tokens)
    with Registry(hook=hook) as r:
        hook.registry = r
        check_whole(r.pull(auth={"username": "user", "password": "pass"}), r.image)
    assert tokens.asked[0][0] == "POST" and tokens.asked[0][1]["grant_type"] == "password"
    assert tokens.asked[0][1]["client_id"] == "kistl"


def test_bearer_get_after_post_404():
    tokens = Tokens(post=False)
    hook = bearer(tokens)
    with Registry(hook=hook) as r:
        hook.registry = r
        check_whole(r.pull(auth={"username": "user", "password": "pass"}), r.image)
    assert [a[0] for a in tokens.asked] == ["POST", "GET"]


def test_identity_token():
    tokens = Tokens()
    hook = bearer(tokens)
    with Registry(hook=hook) as r:
        hook.registry = r
        check_whole(r.pull(auth={"identity_token": "identity"}), r.image)
    assert tokens.asked[0][1]["grant_type"] == "refresh_token"


def test_wrong_password():
    tokens = Tokens()
    hook = bearer(tokens)
    with Registry(hook=hook) as r:
        hook.registry = r
        with pytest.raises(WorkerError, match="incorrect username or password") as e:
            r.pull(auth={"username": "user", "password": "no"})
        assert e.value.code == UNAUTHENTICATED


def test_token_is_not_enough():
    tokens = Tokens(secret=None)
    hook = bearer(tokens, accept=Tokens())
    with Registry(hook=hook) as r:
        hook.registry = r
        with pytest.raises(WorkerError, match="denied") as e:
            r.pull()
        assert e.value.code == UNAUTHENTICATED
        assert len(tokens.asked) == 1


def test_basic():
    def hook(h, kind, name):
        if h.headers.get("Authorization") == "Basic " + base64.b64encode(b"u:p:q").decode():
            return False
        h.error(401, "UNAUTHORIZED", "no", WWW_Authenticate='Basic realm="x"')
        return True

    with Registry(hook=hook) as r:
        check_whole(r.pull(auth={"username": "u", "password": "p:q"}), r.image)
        for auth in (None, {"username": "u", "password": "wrong"}):
            with pytest.raises(WorkerError) as e:
                r.pull(auth=auth)
            assert e.value.code == UNAUTHENTICATED


def test_token_with_line_break_is_refused():
    def hook(h, kind, name):
        if h.path.startswith("/token"):
            h.reply(200, json.dumps({"token": "a\r\nX-Evil: 1"}).encode())
        else:
            h.error(401, "UNAUTHORIZED", "no", WWW_Authenticate=f'Bearer realm="{r.url}/token"')
        return True

    with Registry(hook=hook) as r:
        with pytest.raises(WorkerError, match="no usable token"):
            r.pull()


# ---- redirects ----


def redirect_blobs(to, status=307):
    def hook(h, kind, name):
        if kind == "blobs":
            h.reply(status, Location=to(h.path))
            return True
        return False

    return hook


def test_authorization_does_not_follow_redirects():
    with Registry() as store:
        def hook(h, kind, name):
            if "Authorization" not in h.headers:
                h.error(401, "UNAUTHORIZED", "no", WWW_Authenticate='Basic realm="x"')
                return True
            return redirect_blobs(lambda path: store.url + path + "?signature=secret")(h, kind, name)

        with Registry(image=store.image, hook=hook) as r:
            e = endpoint(r.url, auth={"username": "u", "password": "p"}, headers=[["X-Private", "1"]])
            check_whole(r.pull(endpoints=[e]), r.image)
            assert all(h.get("X-Private") == "1" for _, _, h, _ in r.requests)
        assert store.requests
        for _, _, headers, _ in store.requests:
            assert "Authorization" not in headers and "X-Private" not in headers


def test_signed_urls_are_not_shown():
    with Registry() as store:
        store.blobs.clear()
        with Registry(image=store.image,
                      hook=redirect_blobs(lambda path: store.url + path + "?signature=secret")) as r:
            with pytest.raises(WorkerError) as e:
                r.pull()
            assert "secret" not in str(e.value) and e.value.code == NOT_FOUND


@pytest.mark.parametrize("location", ["file:///etc/passwd", "gopher://127.0.0.1:1/x", "ftp://127.0.0.1/x",
                                      "http://", "\x01"])
def test_redirect_to_nonsense(location):
    with Registry(hook=redirect_blobs(lambda path: location)) as r:
        with pytest.raises(WorkerError):
            r.pull()


def test_redirect_loop():
    with Registry(hook=redirect_blobs(lambda path: path)) as r:
        with pytest.raises(WorkerError, match="more than 10 redirects"):
            r.pull()
        assert len(r.requests) < 20


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    d = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", d / "key", "-out", d / "cert", "-subj", "/CN=127.0.0.1", "-days", "2",
                    "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(d / "cert", d / "key")
    return context, (d / "cert").read_text()


def test_tls(tls):
    context, pem = tls
    with Registry(tls=context) as r:
        check_whole(r.pull(endpoints=[endpoint(r.url, ca=pem)]), r.image)
        check_whole(r.pull(endpoints=[endpoint(r.url, skip_verify=True)]), r.image)
        start = time.monotonic()
        with pytest.raises(WorkerError, match="(?i)certificate") as e:
            r.pull()
        assert e.value.code == UNAVAILABLE and time.monotonic() - start < 2


def test_https_is_not_left_for_http(tls):
    context, pem = tls
    with Registry() as plain:
        with Registry(image=plain.image, tls=context,
                      hook=redirect_blobs(lambda path: plain.url + path)) as r:
            with pytest.raises(WorkerError, match="plain http") as e:
                r.pull(endpoints=[endpoint(r.url, ca=pem)])
            assert e.value.code == PERMISSION_DENIED
        assert not plain.requests


def test_secrets_do_not_go_to_a_plain_realm(tls):
    context, pem = tls
    with Registry() as plain:
        def hook(h, kind, name):
            h.error(401, "UNAUTHORIZED", "no", WWW_Authenticate=f'Bearer realm="{plain.url}/token"')
            return True

        with Registry(tls=context, hook=hook) as r:
            with pytest.raises(WorkerError, match="plain http") as e:
                r.pull(endpoints=[endpoint(r.url, ca=pem, auth={"username": "u", "password": "p"})])
            assert e.value.code == UNAUTHENTICATED
        assert not plain.requests


# ---- several hosts ----


def test_next_host():
    with Registry() as upstream, Registry(image=upstream.image) as mirror:
        mirror.manifests.clear()
        hosts = [endpoint(mirror.url, "example.com"), endpoint(upstream.url, "example.com")]
        p = Pull("example.com/repo/image:latest", hosts)
        assert p.resolved["host"] == upstream.host
        assert all("ns=example.com" in path for _, path, _, _ in mirror.requests + upstream.requests)
        mirror.manifests.update(mirror.image.manifests())
        mirror.blobs.pop(digest(mirror.image.layers[1]))
        p = Pull("example.com/repo/image:latest", hosts)
        assert p.resolved["host"] == mirror.host
        check_whole(p, upstream.image)
        assert upstream.count("GET", digest(mirror.image.layers[1])) == 2


def test_resolve_capability():
    with Registry() as upstream, Registry(image=upstream.image) as mirror:
        first = endpoint(mirror.url, "example.com")
        first["capabilities"] = ["pull"]
        p = Pull("example.com/repo/image:latest", [first, endpoint(upstream.url, "example.com")])
        assert p.resolved["host"] == upstream.host and mirror.count("HEAD", "") == 0
        with pytest.raises(WorkerError) as e:
            Pull("example.com/repo/image:latest", [first])
        assert e.value.code == FAILED_PRECONDITION


def test_secrets_stay_with_their_host():
    def closed(h, kind, name):
        h.error(401, "UNAUTHORIZED", "no", WWW_Authenticate='Basic realm="x"')
        return True

    with Registry(hook=closed) as mirror, Registry(image=mirror.image) as upstream:
        hosts = [endpoint(mirror.url, "example.com"),
                 endpoint(upstream.url, "example.com", auth={"username": "u", "password": "p"})]
        check_whole(Pull("example.com/repo/image:latest", hosts), upstream.image)
        assert all("Authorization" not in h for _, _, h, _ in mirror.requests)


def test_foreign_layer_without_credentials():
    with Registry() as foreign:
        def hook(h, kind, name):
            if "Authorization" in h.headers:
                return False
            h.error(401, "UNAUTHORIZED", "no", WWW_Authenticate='Basic realm="x"')
            return True

        with Registry(image=foreign.image, hook=hook) as r:
            manifest = json.loads(r.image.manifest)
            layer = manifest["layers"][1]
            layer["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
            layer["urls"] = ["file:///etc/passwd", foreign.url + "/v2/repo/image/blobs/" + layer["digest"]]
            data = json.dumps(manifest).encode()
            r.manifests = {"latest": (MANIFEST, data), digest(data): (MANIFEST, data)}
            check_whole(r.pull(auth={"username": "u", "password": "p"}), r.image)
        assert len(foreign.requests) == 1 and "Authorization" not in foreign.requests[0][2]


def test_artifact_is_no_image():
    with Registry() as r:
        manifest = json.loads(r.image.manifest)
        manifest["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
        data = json.dumps(manifest).encode()
        r.manifests = {"latest": (MANIFEST, data), digest(data): (MANIFEST, data)}
        with pytest.raises(WorkerError, match="artifact of type 'application/vnd.cncf.helm") as e:
            r.pull()
        assert e.value.code == FAILED_PRECONDITION


def test_layers_and_diff_ids_must_match():
    with Registry() as r:
        manifest = json.loads(r.image.manifest)
        manifest["layers"].pop()
        data = json.dumps(manifest).encode()
        r.manifests = {"latest": (MANIFEST, data), digest(data): (MANIFEST, data)}
        with pytest.raises(WorkerError, match="1 layers, the config 2 diff ids"):
            r.pull()


def test_proxy():
    with Registry() as r:
        image = r.image
        check_whole(Pull("registry.invalid/repo/image:latest",
                         [endpoint("http://registry.invalid")], proxy={"http": r.url}), image)


# ---- Debian's docker-registry ----


@pytest.fixture(scope="module")
def docker_registry(tmp_path_factory):
    if not shutil.which("docker-registry"):
        pytest.skip("docker-registry is not installed")
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


def run_push(ref, endpoints, image, mount_from=(), parallel=3):
    """-> {n: how}, retries"""
    how, retries = {}, []
    blobs = [(CONFIG, image.config), *((LAYER, b) for b in image.layers)]
    with Worker("push") as w, tempfile.TemporaryDirectory() as d:
        def send(op, n, media, data):
            path = pathlib.Path(d) / str(n)
            path.write_bytes(data)
            with open(path, "rb") as f:
                w.send({"op": op, "n": n, "mount_from": list(mount_from),
                        "descriptor": {"mediaType": media, "digest": digest(data), "size": len(data)}}, f.fileno())

        w.send({"op": "push", "ref": ref, "endpoints": endpoints, "parallel": parallel})
        for n, (media, data) in enumerate(blobs):
            send("blob", n, media, data)
        send("manifest", len(blobs), MANIFEST, image.manifest)
        w.send({"op": "end"})
        while True:
            event, _ = w.recv()
            if event["event"] == "pushed":
                how[event["n"]] = event["how"]
            elif event["event"] == "retry":
                retries.append(event)
            elif event["event"] == "done":
                return how, retries


def test_push_and_mount(docker_registry):
    image, host = Image(), docker_registry
    endpoints = [endpoint("https://" + host, skip_verify=True), endpoint("http://" + host)]
    how, _ = run_push(f"{host}/a/one:tag", endpoints, image)
    assert how == {0: "uploaded", 1: "uploaded", 2: "uploaded", 3: "uploaded"}
    check_whole(Pull(f"{host}/a/one:tag", endpoints), image)
    how, _ = run_push(f"{host}/a/one:other", endpoints, image)
    assert how == {0: "exists", 1: "exists", 2: "exists", 3: "uploaded"}
    how, _ = run_push(f"{host}/b/two:tag", endpoints, image, mount_from=["a/absent", "a/one"])
    assert how == {0: "mounted", 1: "mounted", 2: "mounted", 3: "uploaded"}
    check_whole(Pull(f"{host}/b/two@{digest(image.manifest)}", endpoints), image)


class Uploads:
    """Upload sessions in memory, with faults."""

    def __init__(self, put=None, patch=None, min_chunk=None, location=None):
        self.sessions, self.fault_put, self.fault_patch = {}, put, patch
        self.min_chunk, self.location = min_chunk, location or (lambda path: path)
        self.manifests, self.blobs = {}, {}
        self.on_session = lambda session: None

    def hook(self, h, kind, name):
        body = self.registry.requests[-1][3]
        url = urllib.parse.urlsplit(h.path)
        query = urllib.parse.parse_qs(url.query)
        if h.command == "HEAD" and kind == "blobs":
            h.reply(200 if name in self.blobs else 404)
        elif h.command == "POST":
            session = os.urandom(8).hex()
            self.sessions[session] = b""
            self.on_session(session)
            extra = {"OCI_Chunk_Min_Length": str(self.min_chunk)} if self.min_chunk else {}
            h.reply(202, Location=self.location(f"/up/session/{session}?state=a%3Db"), **extra)
        elif url.path.startswith("/up/session/") and h.command == "PATCH":
            session = name
            if self.fault_patch and self.fault_patch(self, h, session, body):
                return True
            first, _ = map(int, h.headers["Content-Range"].split("-"))
            if first != len(self.sessions[session]):
                h.reply(416)
                return True
            self.sessions[session] += body
            h.reply(202, Location=self.location(f"/up/session/{session}?state=c"),
                    Range=f"0-{len(self.sessions[session]) - 1}")
        elif url.path.startswith("/up/session/") and h.command == "GET":
            h.reply(204, Location=self.location(f"/up/session/{name}?state=d"),
                    Range=f"0-{max(len(self.sessions[name]) - 1, 0)}")
        elif url.path.startswith("/up/session/") and h.command == "PUT":
            if self.fault_put and body and self.fault_put(h):
                return True
            data = self.sessions[name] + body
            wanted = query["digest"][0]
            assert "state" in query
            if digest(data) != wanted:
                h.error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
                return True
            self.blobs[wanted] = data
            h.reply(201)
        elif h.command == "PUT" and kind == "manifests":
            self.manifests[name] = (h.headers["Content-Type"], body)
            h.reply(201, Docker_Content_Digest=digest(body))
        else:
            return False
        return True


def run_uploads(uploads, image=None, **more):
    with Registry(image, hook=uploads.hook) as r:
        uploads.registry = r
        how, retries = run_push(r.ref(), [endpoint(r.url, **more)], r.image)
        assert uploads.blobs == r.image.blobs()
        assert uploads.manifests == {"latest": (MANIFEST, r.image.manifest)}
        return r, how, retries


def test_push_monolithic():
    r, how, _ = run_uploads(Uploads())
    assert how[0] == "uploaded" and r.count("PATCH", "") == 0 and r.count("POST", "") == 3


def test_push_in_chunks_when_one_piece_is_too_large():
    def too_large(h):
        h.reply(413)
        return True

    image = Image([os.urandom(40 << 20)])
    r, _, _ = run_uploads(Uploads(put=too_large), image)
    assert r.count("PATCH", "") >= 4


def test_push_in_chunks_when_told_so():
    r, _, _ = run_uploads(Uploads(min_chunk=1 << 20))
    assert r.count("PATCH", "") == 3


def test_push_resumes_a_broken_chunk():
    broken = []

    def fault(uploads, h, session, body):
        if len(body) > 1000000 and not broken:
            broken.append(1)
            uploads.sessions[session] += body[:700000]
            h.close_connection = True
            h.connection.shutdown(socket.SHUT_RDWR)
            return True
        return False

    r, _, retries = run_uploads(Uploads(min_chunk=1 << 20, patch=fault), Image([os.urandom(3 << 20)]))
    assert len(retries) == 1
    ranges = [h.get("Content-Range") for m, _, h, _ in r.requests if m == "PATCH"]
    assert any(x.startswith("700000-") for x in ranges)


def test_push_upload_elsewhere_without_authorization():
    """A Location on another host gets no credentials."""
    elsewhere = Uploads()
    with Registry(hook=elsewhere.hook) as store:
        elsewhere.registry = store
        uploads = Uploads(location=lambda path: store.url + path)
        uploads.on_session = lambda session: elsewhere.sessions.update({session: b""})

        def hook(h, kind, name):
            if "Authorization" not in h.headers:
                h.error(401, "UNAUTHORIZED", "no", WWW_Authenticate='Basic realm="x"')
                return True
            return uploads.hook(h, kind, name)

        with Registry(image=store.image, hook=hook) as r:
            uploads.registry = r
            run_push(r.ref(), [endpoint(r.url, auth={"username": "u", "password": "p"})], r.image)
        assert elsewhere.blobs == r.image.blobs()
        assert all("Authorization" not in h for _, _, h, _ in store.requests)


def test_push_scope_and_denial():
    def hook(h, kind, name):
        url = urllib.parse.urlsplit(h.path)
        if url.path == "/token":
            scopes.append(urllib.parse.parse_qs(url.query)["scope"])
            h.reply(200, b'{"token":"x"}')
        elif "Authorization" in h.headers:
            h.error(403, "DENIED", "requested access to the resource is denied")
        else:
            h.error(401, "UNAUTHORIZED", "no", WWW_Authenticate=f'Bearer realm="{r.url}/token",service="s"')
        return True

    scopes = []
    with Registry(hook=hook) as r:
        with pytest.raises(WorkerError) as e:
            run_push(r.ref(), [endpoint(r.url)], r.image, parallel=1)
        assert e.value.code == PERMISSION_DENIED
        assert ["repository:repo/image:pull,push"] in scopes


def login(endpoints):
    with Worker("login") as w:
        w.send({"op": "login", "endpoints": endpoints})
        event, _ = w.recv()
        assert event["event"] == "token" and w.recv()[0]["event"] == "done"
        return event["identity_token"]


def test_login():
    tokens = Tokens(extra={"refresh_token": "keep-me"})
    hook = bearer(tokens)
    with Registry(hook=hook) as r:
        hook.registry = r
        https_first = endpoint("https://" + r.host, skip_verify=True)
        assert login([https_first, endpoint(r.url, auth={"username": "user", "password": "pass"})]) == "keep-me"
        assert tokens.asked[0][1]["access_type"] == "offline"
        with pytest.raises(WorkerError, match="incorrect username or password") as e:
            login([endpoint(r.url, auth={"username": "user", "password": "bad"})])
        assert e.value.code == UNAUTHENTICATED


def test_login_basic():
    def hook(h, kind, name):
        if h.headers.get("Authorization") == "Basic " + base64.b64encode(b"u:p").decode():
            return False
        h.error(401, "UNAUTHORIZED", "no", WWW_Authenticate='Basic realm="x"')
        return True

    with Registry(hook=hook) as r:
        assert login([endpoint(r.url, auth={"username": "u", "password": "p"})]) == ""
        with pytest.raises(WorkerError) as e:
            login([endpoint(r.url, auth={"username": "u", "password": "x"})])
        assert e.value.code == UNAUTHENTICATED
