# SPDX-License-Identifier: Apache-2.0
"""A ttrpc client and a bundle maker, enough to drive kistl-shim as a containerd would."""

import array
import glob
import json
import os
import shutil
import socket
import struct
import subprocess
import threading

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("KISTL_BUILD", os.path.join(ROOT, "build"))
SHIM = os.environ.get("KISTL_SHIM", os.path.join(BUILD, "kistl-shim"))

_pool = None


def message(name):
    """A message class by its full name, from proto/."""
    global _pool
    if _pool is None:
        files = sorted(os.path.basename(p) for p in glob.glob(ROOT + "/proto/*.proto"))
        out = subprocess.run(
            ["protoc", "-I", ROOT + "/proto", "--include_imports", "-o", "/dev/stdout"] + files,
            check=True, stdout=subprocess.PIPE).stdout
        _pool = descriptor_pool.DescriptorPool()
        for f in descriptor_pb2.FileDescriptorSet.FromString(out).file:
            _pool.Add(f)
    return message_factory.MessageFactory(_pool).GetPrototype(_pool.FindMessageTypeByName(name))


class RpcError(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


class Pending:
    def __init__(self, reply):
        self.reply, self.done, self.value, self.error = reply, threading.Event(), None, None

    def result(self, timeout=20):
        assert self.done.wait(timeout), "no answer in time"
        if self.error:
            raise self.error
        return self.value


class Client:
    """ttrpc over a unix socket; calls may be outstanding together."""

    def __init__(self, path):
        self.path = path
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.lock, self.calls, self.stream = threading.Lock(), {}, 1
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            piece = self.sock.recv(n - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def _read(self):
        try:
            while True:
                n, stream, _, _ = struct.unpack(">IIBB", self._exactly(10))
                r = message("ttrpc.Response").FromString(self._exactly(n))
                call = self.calls.pop(stream, None)
                if not call:
                    continue
                if r.status.code:
                    call.error = RpcError(r.status.code, r.status.message)
                else:
                    call.value = call.reply.FromString(r.payload)
                call.done.set()
        except (EOFError, OSError):
            for call in self.calls.values():
                call.error = EOFError("connection closed")
                call.done.set()

    def start(self, method, request, reply="google.protobuf.Empty",
              service="containerd.task.v3.Task"):
        r = message("ttrpc.Request")(service=service, method=method,
                                     payload=request.SerializeToString())
        r.metadata.add(key="containerd-namespace-ttrpc", value="test")
        body = r.SerializeToString()
        with self.lock:
            stream, self.stream = self.stream, self.stream + 2
            call = self.calls[stream] = Pending(message(reply))
            self.sock.sendall(struct.pack(">IIBB", len(body), stream, 1, 0) + body)
        return call

    def task(self, method, service="containerd.task.v3.Task", wait=True, **fields):
        names = {"Create": "CreateTaskRequest", "Exec": "ExecProcessRequest",
                 "Update": "UpdateTaskRequest", "Checkpoint": "CheckpointTaskRequest"}
        replies = {"State": "StateResponse", "Create": "CreateTaskResponse",
                   "Start": "StartResponse", "Delete": "DeleteResponse", "Pids": "PidsResponse",
                   "Wait": "WaitResponse", "Stats": "StatsResponse", "Connect": "ConnectResponse"}
        p = "containerd.task.v3."
        request = message(p + names.get(method, method + "Request"))(**fields)
        reply = p + replies[method] if method in replies else "google.protobuf.Empty"
        call = self.start(method, request, reply, service)
        return call.result() if wait else call

    def close(self):
        self.sock.close()


def attach(path, cid, exec_id="", stdin=True, mux=False, keys=""):
    """Asks the shim to serve one end of a socket pair; returns the other."""
    ours, theirs = socket.socketpair()
    ctl = socket.socket(socket.AF_UNIX)
    ctl.connect(path)
    line = "KATTACH1 " + json.dumps({
        "id": cid, "exec_id": exec_id, "stdin": stdin, "stdout": True, "stderr": True,
        "mux": mux, "detach_keys": keys}) + "\n"
    ctl.sendmsg([line.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                   array.array("i", [theirs.fileno()]))])
    answer = ctl.recv(4096).decode().strip()
    ctl.close()
    theirs.close()
    if answer != "OK":
        ours.close()
        _, code, text = answer.split(" ", 2)
        raise RpcError(int(code), text)
    ours.settimeout(20)
    return ours


def read_all(sock):
    data = b""
    while True:
        piece = sock.recv(65536)
        if not piece:
            return data
        data += piece


class EventServer:
    """What a daemon does with Events/Forward: keeps (topic, event) in order."""

    def __init__(self, path):
        self.events, self.cond = [], threading.Condition()
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        f = conn.makefile("rb")
        while True:
            head = f.read(10)
            if len(head) < 10:
                return
            n, stream, _, _ = struct.unpack(">IIBB", head)
            r = message("ttrpc.Request").FromString(f.read(n))
            e = message("containerd.services.events.ttrpc.v1.ForwardRequest").FromString(r.payload)
            event = message(e.envelope.event.type_url).FromString(e.envelope.event.value)
            with self.cond:
                self.events.append((e.envelope.topic, event))
                self.cond.notify_all()
            body = message("ttrpc.Response")().SerializeToString()
            try:
                conn.sendall(struct.pack(">IIBB", len(body), stream, 2, 0) + body)
            except OSError:
                return

    def topics(self):
        with self.cond:
            return [t for t, _ in self.events]

    def wait_for(self, topic, timeout=10):
        with self.cond:
            assert self.cond.wait_for(lambda: topic in [t for t, _ in self.events], timeout), \
                f"no {topic} in {[t for t, _ in self.events]}"

    def close(self):
        self.sock.close()


class Shim:
    """One shim started by the protocol, in a directory of its own."""

    def __init__(self, base, cid, runtime="crun"):
        self.base, self.id, self.runtime = str(base), cid, runtime
        self.address = self.base + "/kistl.sock"
        self.events = EventServer(self.address + ".ttrpc")
        self.bundles, self.client, self.pid = {}, None, None
        self.bundle = self.make_bundle(cid, ["/bin/true"])

    def make_bundle(self, cid, args, terminal=False, edit=None):
        bundle = f"{self.base}/b/{cid}"
        rootfs = f"{self.base}/img"
        if not os.path.isdir(rootfs):
            for d in ("bin", "proc", "sys", "dev", "tmp", "etc"):
                os.makedirs(f"{rootfs}/{d}")
            shutil.copy("/bin/busybox", rootfs + "/bin/busybox")
            for name in ("sh", "true", "cat", "sleep", "echo", "head", "yes", "stty", "printf",
                         "seq", "dd", "tail", "ls", "mkdir", "mount"):
                os.symlink("busybox", f"{rootfs}/bin/{name}")
        os.makedirs(bundle + "/rootfs", exist_ok=True)
        path = bundle + "/config.json"
        if os.path.exists(path):
            os.unlink(path)
        subprocess.run(["runc", "spec", "-b", bundle], check=True)
        with open(path) as f:
            spec = json.load(f)
        spec["process"].update(args=args, terminal=terminal, env=["PATH=/bin"], cwd="/")
        spec["root"] = {"path": "rootfs", "readonly": False}
        spec["linux"]["cgroupsPath"] = f"/kistl-shim-test/{os.path.basename(self.base)}-{cid}"
        if edit:
            edit(spec)
        with open(path, "w") as f:
            json.dump(spec, f)
        self.bundles[cid] = bundle
        return bundle

    def command(self, *words, bundle=None, **kw):
        env = dict(os.environ, TTRPC_ADDRESS=self.address + ".ttrpc")
        return subprocess.run(
            [SHIM, "-namespace", "test", "-id", self.id, "-address", self.address,
             "-publish-binary", "/bin/false"] + list(words),
            cwd=bundle or self.bundle, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, timeout=20, **kw)

    def start(self):
        r = self.command("start")
        assert r.returncode == 0, r.stderr
        boot = json.loads(r.stdout)
        assert boot["version"] == 3 and boot["protocol"] == "ttrpc"
        self.socket = boot["address"].removeprefix("unix://")
        self.client = Client(self.socket)
        self.pid = self.client.task("Connect", id=self.id).shim_pid
        return self

    def options(self):
        any_ = message("google.protobuf.Any")()
        o = message("containerd.runc.v1.Options")(binary_name=self.runtime,
                                                  root=self.base + "/runtime")
        any_.type_url, any_.value = "containerd.runc.v1.Options", o.SerializeToString()
        return any_

    def mounts(self):
        return [message("containerd.types.Mount")(type="bind", source=self.base + "/img",
                                                  options=["rbind", "rw"])]

    def create(self, args, cid=None, terminal=False, edit=None, **io):
        cid = cid or self.id
        bundle = self.make_bundle(cid, args, terminal, edit)
        return self.client.task("Create", id=cid, bundle=bundle, rootfs=self.mounts(),
                                terminal=terminal, options=self.options(), **io).pid

    def exec(self, exec_id, args, terminal=False, cid=None, **io):
        spec = {"args": args, "cwd": "/", "env": ["PATH=/bin"], "terminal": terminal,
                "user": {"uid": 0, "gid": 0}}
        any_ = message("google.protobuf.Any")()
        any_.type_url = "types.containerd.io/opencontainers/runtime-spec/1/Process"
        any_.value = json.dumps(spec).encode()
        self.client.task("Exec", id=cid or self.id, exec_id=exec_id, terminal=terminal, spec=any_,
                         **io)

    def log(self, name="log", driver="json-file", **options):
        query = "&".join(f"{k.replace('_', '-')}={v}" for k, v in
                         dict(options, driver=driver).items())
        return f"kistl-log://{self.base}/{name}?{query}"

    def lines(self, name="log"):
        with open(f"{self.base}/{name}") as f:
            return [json.loads(line) for line in f]

    def close(self):
        """Leaves nothing behind, whatever the test did."""
        if self.client:
            try:
                for cid in self.bundles:
                    try:
                        self.client.task("Kill", id=cid, signal=9)
                    except RpcError:
                        pass
                    try:
                        self.client.task("Wait", id=cid)
                        self.client.task("Delete", id=cid)
                    except RpcError:
                        pass
                self.client.task("Shutdown", id=self.id, now=True)
            except (EOFError, OSError):
                pass
            self.client.close()
        self.events.close()
        for cid, bundle in self.bundles.items():
            subprocess.run([SHIM, "-namespace", "test", "-id", cid, "-address", self.address,
                            "-bundle", bundle, "delete"], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, timeout=20)
