# SPDX-License-Identifier: Apache-2.0
"""Images and the registry: made of this machine's own files, served on loopback."""
import hashlib
import json
import os
import platform
import shutil
import socket
import subprocess

from measure import Daemon, run

# Shared libraries, programs, sources and documents: large and small files, as distributions have them.
SOURCES = ("/usr/lib", "/usr/bin", "/usr/include", "/usr/share")
ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+"
# No layer of one image may be one of the other when it has been unpacked: it would not be fetched.
TIMES = {"gzip": 1700000000, "zstd": 1700000001}


def choose(layers, layer_size):
    """Lists of files, one for each layer, in a stable order, big and small ones mixed."""
    wanted, size, index = [[] for _ in range(layers)], 0, 0
    share = layers * layer_size // len(SOURCES)
    for source in SOURCES:
        size = 0
        for root, dirs, files in os.walk(source):
            dirs.sort()
            for name in sorted(files):
                path = os.path.join(root, name)
                if os.path.islink(path) or not os.path.isfile(path):
                    continue
                n = os.path.getsize(path)
                if n > layer_size // 4:
                    continue
                wanted[(index // 64) % layers].append(path)
                index, size = index + 1, size + n
                if size >= share:
                    break
            if size >= share:
                break
    return wanted


def blob_path(layout, digest):
    return os.path.join(layout, "blobs", "sha256", digest.split(":")[1])


def add_bytes(layout, data, media_type):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    with open(blob_path(layout, digest), "wb") as f:
        f.write(data)
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def add_layer(layout, files, how):
    """Descriptor and diff ID of the files as a layer."""
    tar_path = os.path.join(layout, "layer.tar")
    names = set(files)
    for path in files:  # with their directories, as layers have them
        while (path := os.path.dirname(path)) not in names and path != "/":
            names.add(path)
    run(["tar", "--create", "--file", tar_path, "--no-recursion", "--absolute-names", "--transform=s,^/,,", "--sort=name", "--owner=0", "--group=0",
         f"--mtime=@{TIMES[how]}",
         "--verbatim-files-from", "--files-from=/dev/stdin"], stdin="\n".join(sorted(names)))
    with open(tar_path, "rb") as f:
        diff_id = "sha256:" + hashlib.file_digest(f, "sha256").hexdigest()
    packed = tar_path + ".z"
    command = ["zstd", "-q", "-f", "-3", tar_path, "-o", packed]
    if how == "gzip":
        command = ["sh", "-c", f"pigz -n -6 -c '{tar_path}' > '{packed}'"]
    run(command)
    with open(packed, "rb") as f:
        digest = "sha256:" + hashlib.file_digest(f, "sha256").hexdigest()
    size, plain = os.path.getsize(packed), os.path.getsize(tar_path)
    os.rename(packed, blob_path(layout, digest))
    os.unlink(tar_path)
    return {"mediaType": LAYER_TYPE + how, "digest": digest, "size": size}, diff_id, plain


def make_layout(layout, layers, layer_size, how):
    """An image in OCI layout; what an earlier run has made is taken again. Returns facts about it."""
    facts_path = os.path.join(layout, "facts.json")
    recipe = [2, layers, layer_size, how, TIMES[how], os.path.getmtime("/var/lib/dpkg/status")]
    if os.path.exists(facts_path):
        with open(facts_path) as f:
            facts = json.load(f)
        if facts["recipe"] == recipe:
            return facts
    shutil.rmtree(layout, ignore_errors=True)
    os.makedirs(os.path.join(layout, "blobs", "sha256"))
    descriptors, diff_ids, plain, count = [], [], 0, 0
    for files in choose(layers, layer_size):
        descriptor, diff_id, n = add_layer(layout, files, how)
        descriptors.append(descriptor)
        diff_ids.append(diff_id)
        plain, count = plain + n, count + len(files)
    config = {"architecture": ARCHES.get(platform.machine(), platform.machine()), "os": "linux",
              "config": {"Cmd": ["true"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": add_bytes(layout, json.dumps(config).encode(),
                                    "application/vnd.oci.image.config.v1+json"),
                "layers": descriptors}
    entry = add_bytes(layout, json.dumps(manifest).encode(), manifest["mediaType"])
    entry["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    with open(os.path.join(layout, "index.json"), "w") as f:
        json.dump({"schemaVersion": 2, "manifests": [entry]}, f)
    with open(os.path.join(layout, "oci-layout"), "w") as f:
        f.write('{"imageLayoutVersion":"1.0.0"}')
    facts = {"recipe": recipe, "compression": how, "layers": layers, "files": count, "plain_bytes": plain,
             "packed_bytes": sum(d["size"] for d in descriptors), "blobs": [d["digest"] for d in descriptors]}
    with open(facts_path, "w") as f:
        json.dump(facts, f)
    return facts


class Registry:
    """Debian's docker-registry on a port of the loopback device of our network namespace."""

    def __init__(self, directory, env):
        os.makedirs(directory)
        self.host = "127.0.0.1:5000"
        config = os.path.join(directory, "config.yml")
        with open(config, "w") as f:
            f.write("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
                    f"storage: {{filesystem: {{rootdirectory: '{directory}/data'}}}}\n"
                    f"http: {{addr: '{self.host}'}}\n")
        self.daemon = Daemon(["/usr/bin/docker-registry", "serve", config], env,
                             os.path.join(directory, "log"))
        self.daemon.wait_for(self.listening)

    def listening(self):
        with socket.create_connection(("127.0.0.1", 5000), 1):
            return True

    def push(self, layout, name):
        run(["skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", "--preserve-digests",
             f"oci:{layout}:latest", f"docker://{self.host}/{name}:latest"])
        return f"{self.host}/{name}:latest"

    def stop(self):
        self.daemon.stop()


def build_limit(source, directory):
    """The program that shows what the machine can do, compiled here."""
    program = os.path.join(directory, "limit-pull")
    subprocess.run(["cc", "-O2", "-o", program, source, "-lcurl", "-lcrypto", "-lisal", "-lzstd", "-lpthread"],
                   check=True)
    return program
