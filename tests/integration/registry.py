# SPDX-License-Identifier: Apache-2.0
"""Registries on loopback: Debian's docker-registry, and one of our own that misbehaves on command."""

import base64
import hashlib
import json
import os
import re
import select
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """docker-registry with a storage of its own. `address` is host:port."""

    def __init__(self, base, port=0, **auth):
        self.base = base
        base.mkdir(parents=True, exist_ok=True)
        self.port = port or self.free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.auth = auth
        self.process = None
        self.start()

    @staticmethod
    def free_port():
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            return s.getsockname()[1]

    def start(self):
        config = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.base / "storage")},
                        "delete": {"enabled": True}},
            "http": {"addr": self.address},
        }
        if self.auth:
            # bcrypt from Debian's own tool would be another package; podman's registry image does the same.
            config["auth"] = {"htpasswd": {"realm": "kistl", "path": str(self.auth["htpasswd"])}}
        path = self.base / "config.yml"
        path.write_text(json.dumps(config))  # JSON is YAML
        self.process = subprocess.Popen(["docker-registry", "serve", str(path)], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.wait_listening()
        threading.Thread(target=self.drain, daemon=True).start()

    def wait_listening(self):
        seen, end = b"", time.monotonic() + 30
        while b"listening on" not in seen:
            ready, _, _ = select.select([self.process.stderr], [], [], max(end - time.monotonic(), 0))
            chunk = os.read(self.process.stderr.fileno(), 65536) if ready else b""
            assert chunk, f"docker-registry does not start: {seen.decode()}"
            seen += chunk

    def drain(self):
        stream = self.process.stderr
        try:
            while stream.read1(65536):
                pass
        except ValueError:
            pass

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
            self.process.stderr.close()

    close = stop

    def reference(self, name):
        return f"{self.address}/{name}"

    def push(self, source, name, *options):
        """skopeo copy: source is a skopeo reference."""
        subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", *options, source,
                        f"docker://{self.reference(name)}"], check=True, capture_output=True)
        return self.reference(name)

    def manifest(self, name):
        """Raw bytes of a tag's manifest."""
        r = subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false",
                            f"docker://{self.reference(name)}"], check=True, capture_output=True)
        return r.stdout

    def blob_path(self, dgst):
        hexpart = dgst.split(":")[1]
        return self.base / f"storage/docker/registry/v2/blobs/sha256/{hexpart[:2]}/{hexpart}/data"


class HostileRegistry:
    """Serves manifests and blobs from memory; `rules` is a list of (regular expression on "METHOD /path",
    function(handler) -> True when it has answered), looked at first. `requests` is what was asked."""

    def __init__(self):
        self.manifests, self.blobs, self.rules, self.requests = {}, {}, [], []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def answer(self, status, body=b"", content_type="application/json", **headers):
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                for key, value in headers.items():
                    self.send_header(key.replace("_", "-"), value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)
                return True

            def error(self, status, code="UNKNOWN", message="no", **headers):
                body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
                return self.answer(status, body, **headers)

            def do_GET(self):
                line = f"{self.command} {self.path}"
                registry.requests.append(line)
                for pattern, rule in list(registry.rules):
                    if re.search(pattern, line) and rule(self):
                        return
                registry.serve(self)

            do_HEAD = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, h):
        path = h.path.split("?")[0]  # a mirror is asked with ?ns=
        if path == "/v2/":
            return h.answer(200, b"{}")
        found = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/([^/]+)", path)
        if found and found[2] == "manifests" and (found[1], found[3]) in self.manifests:
            data = self.manifests[found[1], found[3]]
            media_type = json.loads(data).get("mediaType", MANIFEST)
            return h.answer(200, data, media_type, Docker_Content_Digest=digest(data))
        if found and found[2] == "blobs" and found[3] in self.blobs:
            return h.answer(200, self.blobs[found[3]], "application/octet-stream")
        what = "MANIFEST_UNKNOWN" if "manifests" in path else "BLOB_UNKNOWN"
        return h.error(404, what, "unknown here")

    def add_blob(self, data):
        self.blobs[digest(data)] = data
        return digest(data)

    def add_image(self, name, layers, tag="latest"):
        """layers: (blob, diff_id, media type). Returns the manifest's digest."""
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/true"]},
                             "rootfs": {"type": "layers", "diff_ids": [x[1] for x in layers]}}).encode()
        document = json.dumps({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": len(config),
                       "digest": self.add_blob(config)},
            "layers": [{"mediaType": kind, "size": len(blob), "digest": self.add_blob(blob)}
                       for blob, _, kind in layers],
        }).encode()
        for key in (tag, digest(document)):
            self.manifests[name, key] = document
        return digest(document)

    def reference(self, name):
        return f"{self.address}/{name}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
