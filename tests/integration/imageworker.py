# SPDX-License-Identifier: Apache-2.0
"""Drives kistl-image the way kistld does: a SOCK_SEQPACKET pair, JSON packets, descriptors."""

import array
import json
import os
import pathlib
import socket
import subprocess

PACKET_MAX = 128 << 10


def program():
    """The binary under test: $KISTL_IMAGE, else the build directory's."""
    if "KISTL_IMAGE" in os.environ:
        return os.environ["KISTL_IMAGE"]
    root = pathlib.Path(__file__).resolve().parents[2]
    build = pathlib.Path(os.environ.get("KISTL_BUILD", root / "build"))
    for path in (build / "kistl-image", build / "src/worker/kistl-image"):
        if path.exists():
            return str(path)
    raise FileNotFoundError("kistl-image is not built; set KISTL_BUILD or KISTL_IMAGE")


class WorkerError(Exception):
    def __init__(self, event):
        super().__init__(event.get("message"))
        self.code = event.get("code")
        self.message = event.get("message")


CODES = {
    "INVALID_ARGUMENT": 3, "NOT_FOUND": 5, "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9, "UNIMPLEMENTED": 12, "INTERNAL": 13, "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
}


class Worker:
    """with Worker("unpack") as w: w.send(...); events = w.finish()"""

    def __init__(self, verb, wrapper=()):
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fd = theirs.fileno()
        # Descriptor 3 in the child: dup2 in a tiny shell-free way.
        def place():
            os.dup2(fd, 3)
            os.set_inheritable(3, True)
        self.process = subprocess.Popen([*wrapper, program(), verb], close_fds=False,
                                        preexec_fn=place, stdin=subprocess.DEVNULL)
        theirs.close()
        self.events = []

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def send(self, message, fds=()):
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([json.dumps(message).encode()], ancillary)

    def receive(self):
        """One event with its descriptors under "fds"; None when the worker is gone."""
        data, ancillary, _, _ = self.sock.recvmsg(PACKET_MAX, socket.CMSG_SPACE(16))
        if not data:
            return None
        event = json.loads(data)
        event["fds"] = []
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(payload[:len(payload) - len(payload) % fds.itemsize])
                event["fds"] += fds.tolist()
        return event

    def finish(self):
        """All events up to "done", without progress; an "error" is raised."""
        events = []
        while True:
            event = self.receive()
            if event is None:
                raise WorkerError({"message": f"worker died, exit {self.process.wait()}"})
            if event["event"] == "error":
                raise WorkerError(event)
            if event["event"] == "done":
                return events
            if event["event"] != "progress":
                events.append(event)
