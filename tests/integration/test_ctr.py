# SPDX-License-Identifier: Apache-2.0
"""containerd's API: Debian's unmodified ctr, and gRPC's Python client where ctr does not reach."""

import hashlib
import io
import json
import os
import pathlib
import queue
import re
import subprocess
import tarfile
import threading

import grpc
import pytest

from cri import Service, fails, message
from harness import until

CONTENT = "containerd.services.content.v1"
# Without it, or a lease, the collector takes what nothing refers to after the next removal, as containerd's does.
ROOT = {"containerd.io/gc.root": "test"}


class Ctr:
    def __init__(self, socket):
        self.socket = socket

    def __call__(self, *args, code=0, stdin=b"", ns=None):
        command = ["ctr", "-a", self.socket, *(["-n", ns] if ns else []), *args]
        out = subprocess.run(command, input=stdin, capture_output=True, timeout=60)
        assert code is None or out.returncode == code, (command, out.returncode, out.stdout, out.stderr)
        return out.stdout.decode(errors="replace") if code == 0 else out.stderr.decode(errors="replace")

    def rows(self, *args, **kw):
        """Of a table, without its head."""
        return [line.split() for line in self(*args, **kw).splitlines()[1:]]


@pytest.fixture
def ctr(daemon):
    yield Ctr(daemon.socket)
    assert daemon.alive(), "kistld has died:\n" + daemon.log()[-4000:]


@pytest.fixture
def api(daemon):
    """api("content.v1.Content", "ns") is a service's client."""
    channel = grpc.insecure_channel("unix://" + daemon.socket, options=[
        ("grpc.max_receive_message_length", 16 << 20), ("grpc.use_local_subchannel_pool", 1)])
    yield lambda name, ns="test": Service(channel, "containerd.services." + name, [("containerd-namespace", ns)])
    channel.close()


def any_of(type_url, value=b""):
    return message("Any", "google.protobuf")(type_url=type_url, value=value)


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def test_version_and_plugins(ctr, daemon):
    out = ctr("version")
    assert re.search(r"Server:\n  Version:  v1\.7\.\d+\+kistl", out)
    uuid = re.search(r"UUID: (\S+)", out).group(1)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", uuid)
    daemon.restart()
    assert uuid in ctr("version")
    plugins = {(r[0], r[1]): r[-1] for r in ctr.rows("plugins", "ls")}
    for key in (("io.containerd.snapshotter.v1", "overlayfs"), ("io.containerd.runtime.v2", "task"),
                ("io.containerd.content.v1", "content"), ("io.containerd.differ.v1", "walking")):
        assert plugins[key] == "ok"


def test_namespaces(ctr, api):
    ctr("ns", "create", "blue", "a=1", "b=2")
    assert ["blue", "a=1,b=2"] in ctr.rows("ns", "ls")
    assert "exists" in ctr("ns", "create", "blue", code=1)
    ctr("ns", "label", "blue", "c=3", "a=")
    assert ["blue", "b=2,c=3"] in ctr.rows("ns", "ls")
    api("containers.v1.Containers", "blue").Create(container={"id": "c", "spec": SPEC, "runtime": {"name": "r"}})
    assert "not empty" in ctr("ns", "rm", "blue", code=1)
    ctr("containers", "rm", "c", ns="blue")
    ctr("ns", "rm", "blue")
    assert "blue" not in [r[0] for r in ctr.rows("ns", "ls")]


def test_content(ctr, api):
    data = os.urandom(3_000_000)
    lease = api("leases.v1.Leases", "default").Create().lease.id
    api("leases.v1.Leases", "default").AddResource(id=lease, resource={"type": "content", "id": digest(data)})
    ctr("content", "ingest", "--expected-digest", digest(data), "--expected-size", str(len(data)), "big", stdin=data)
    assert [digest(data), "3MB"] == [ctr.rows("content", "ls")[0][i] for i in (0, 1)]
    out = subprocess.run(["ctr", "-a", ctr.socket, "content", "get", digest(data)], capture_output=True, check=True)
    assert out.stdout == data
    ctr("content", "label", digest(data), "k=v", "containerd.io/gc.root=now")
    assert "k=v" in ctr("content", "ls")
    assert digest(data) in ctr("content", "ls", "labels.k==v")
    assert digest(data) not in ctr("content", "ls", "labels.k!=v")
    assert "not found" in ctr("content", "get", digest(b"none"), code=1)
    assert "digest is" in ctr("content", "ingest", "--expected-digest", digest(b"x"), "wrong", stdin=b"y", code=1)
    assert ctr.rows("content", "active") and ctr.rows("content", "active")[0][0] == "wrong"
    api("content.v1.Content", "default").Abort(ref="wrong")
    ctr("content", "rm", digest(data))
    ctr("leases", "rm", lease)
    assert not ctr.rows("content", "ls")


class Writer:
    """One Content.Write stream, message by message."""

    def __init__(self, service):
        self.requests = queue.Queue()
        request, reply = message("WriteContentRequest", CONTENT), message("WriteContentResponse", CONTENT)
        self.request = request
        stub = service.channel.stream_stream(f"/{CONTENT}.Content/Write", request_serializer=request.SerializeToString,
                                             response_deserializer=reply.FromString)
        self.replies = stub(iter(self.requests.get, None), timeout=60, metadata=service.metadata)

    def __call__(self, action, **fields):
        self.requests.put(self.request(action=["STAT", "WRITE", "COMMIT"].index(action), **fields))
        return next(self.replies)

    def close(self):
        self.requests.put(None)
        assert next(self.replies, None) is None


def test_write_protocol(api):
    content = api("content.v1.Content")
    w = Writer(content)
    stat = w("STAT", ref="one", total=6)
    assert (stat.offset, stat.total, stat.digest) == (0, 6, digest(b""))
    reply = w("WRITE", data=b"abc", offset=0)
    assert (reply.offset, reply.digest) == (3, digest(b"abc"))
    with fails("UNAVAILABLE", "another"):
        Writer(content)("STAT", ref="one")
    with fails("OUT_OF_RANGE", "offset 5, expected 3"):
        w("WRITE", data=b"x", offset=5)
    # The stream's end lets go of the lock; another goes on where it was, and hashes what is there.
    w = Writer(content)
    until(lambda: content.Status(ref="one").status.offset == 3)
    assert w("STAT", ref="one").offset == 3
    assert w("WRITE", data=b"def", offset=3).digest == digest(b"abcdef")
    done = w("COMMIT", offset=6, labels={"a": "b", **ROOT})
    assert (done.digest, done.offset) == (digest(b"abcdef"), 6)
    assert next(w.replies, None) is None
    info = content.Info(digest=done.digest).info
    assert (info.size, dict(info.labels)) == (6, {"a": "b", **ROOT})
    with fails("ALREADY_EXISTS"):
        Writer(content)("STAT", ref="two", expected=done.digest)
    with fails("INVALID_ARGUMENT", "reference"):
        Writer(content)("STAT")
    with fails("INVALID_ARGUMENT", "not a valid digest"):
        Writer(content)("STAT", ref="three", expected="sha256:abc")
    content.Delete(digest=done.digest)


def test_write_restarts_and_checks(api):
    content = api("content.v1.Content")
    w = Writer(content)
    w("WRITE", ref="r", data=b"wrong", offset=0)
    assert w("WRITE", data=b"right!", offset=0).offset == 6  # truncated
    with fails("FAILED_PRECONDITION", "expected 7"):
        w("COMMIT", offset=6, total=7)
    w = Writer(content)
    with fails("FAILED_PRECONDITION", "digest is"):
        w("COMMIT", ref="r", offset=6, expected=digest(b"other"))
    assert [s.ref for s in content.ListStatuses(filters=["ref==r"]).statuses] == ["r"]
    content.Abort(ref="r")
    with fails("NOT_FOUND"):
        content.Abort(ref="r")
    assert not content.ListStatuses().statuses


def test_read_ranges(api, ctr):
    data = os.urandom(2_500_000)
    content = api("content.v1.Content")
    w = Writer(content)
    w("WRITE", ref="r", data=data, offset=0)
    w("COMMIT", offset=len(data), labels=ROOT)

    def read(**kw):
        parts = list(content.Read(digest=digest(data), **kw))
        assert [p.offset for p in parts] == [sum(len(q.data) for q in parts[:i]) for i in range(len(parts))]
        return b"".join(p.data for p in parts)

    assert read() == data
    assert read(offset=5, size=10) == data[5:15]
    assert read(offset=len(data)) == b""
    with fails("OUT_OF_RANGE"):
        read(offset=len(data) + 1)
    with fails("INVALID_ARGUMENT"):
        read(offset=-1)
    ctr("content", "rm", digest(data), ns="test")


def test_needs_a_namespace(daemon):
    channel = grpc.insecure_channel("unix://" + daemon.socket)
    with fails("FAILED_PRECONDITION", "namespace is required"):
        Service(channel, "containerd.services.images.v1.Images").List()
    with fails("INVALID_ARGUMENT", "not a valid identifier"):
        Service(channel, "containerd.services.images.v1.Images", [("containerd-namespace", "../x")]).List()
    channel.close()


def test_leases_hold_and_let_go(ctr, api):
    leases, content = api("leases.v1.Leases"), api("content.v1.Content")
    lease = leases.Create(labels={"x": "y"}).lease
    assert [x.id for x in leases.List(filters=["labels.x==y"]).leases] == [lease.id]
    leases.AddResource(id=lease.id, resource={"type": "content", "id": digest(b"held")})
    ctr("content", "ingest", "held", stdin=b"held", ns="test")
    assert [(r.type, r.id) for r in leases.ListResources(id=lease.id).resources] == [("content", digest(b"held"))]
    with fails("ALREADY_EXISTS"):
        leases.Create(id=lease.id)
    other = leases.Create().lease
    leases.Delete(id=other.id, sync=True)  # collects
    assert content.Info(digest=digest(b"held")).info.size == 4
    leases.Delete(id=lease.id, sync=True)
    with fails("NOT_FOUND"):
        content.Info(digest=digest(b"held"))
    with fails("NOT_FOUND"):
        leases.Delete(id=lease.id)


def test_images(ctr, api, daemon, image):
    name = "docker.io/library/busybox:latest"
    assert name in [r[0] for r in ctr.rows("images", "ls")]
    ctr("images", "label", name, "colour=red")
    assert [r[0] for r in ctr.rows("images", "ls", "labels.colour==red")] == [name]
    assert daemon.client("images", "-q", "busybox")  # the Docker API's are the same
    ctr("images", "tag", name, "example.org/other:1")
    assert "example.org/other:1" in ctr("images", "ls", "-q")
    ctr("images", "rm", "example.org/other:1")
    assert "example.org/other:1" not in ctr("images", "ls", "-q")
    images = api("images.v1.Images", "default")
    with fails("NOT_FOUND"):
        images.Get(name="example.org/other:1")
    with fails("INVALID_ARGUMENT", "digest"):
        images.Create(image={"name": "x", "target": {"digest": "bad", "media_type": "m", "size": 1}})
    got = images.Get(name=name).image
    with fails("ALREADY_EXISTS"):
        images.Create(image=got)
    with fails("INVALID_ARGUMENT", "cannot update 'nothing'"):
        images.Update(image=got, update_mask={"paths": ["nothing"]})
    kept = images.Update(image={"name": name, "labels": {"a": "1"}}, update_mask={"paths": ["labels.a"]}).image
    assert dict(kept.labels)["colour"] == "red" and kept.target == got.target


def test_pull_and_push(ctr, registry, busybox, tmp_path):
    """What ctr pulls it unpacks by Snapshots and Diff; the layers' digests must be those of the image."""
    for snapshotter in ("overlayfs", "native"):
        assert "unpacking" in ctr("images", "pull", "--plain-http", "--snapshotter", snapshotter, busybox)
        assert any(r[0].startswith("sha256:") and r[-1] == "Committed"
                   for r in ctr.rows("snapshots", "--snapshotter", snapshotter, "ls"))
    assert "complete (2/2)" in ctr("images", "check")
    copy = busybox.replace("busybox:", "copy:")
    ctr("images", "push", "--plain-http", copy, busybox)
    archive = tmp_path / "image.tar"
    ctr("images", "export", str(archive), busybox)
    ctr("images", "rm", busybox)
    ctr("images", "import", str(archive))
    assert busybox in ctr("images", "ls", "-q")
    ctr("images", "pull", "--plain-http", copy)
    ctr("images", "rm", copy, busybox)


def test_diff(ctr, api, image, daemon, tmp_path):
    """Two layers made of what was changed in mounted snapshots, one by each snapshotter, applied again."""
    diffs, snapshots = api("diff.v1.Diff", "default"), api("snapshots.v1.Snapshots", "default")
    content = api("content.v1.Content", "default")
    made = []
    for snapshotter in ("overlayfs", "native"):
        base = snapshots.Prepare(snapshotter=snapshotter, key="base", labels=ROOT).mounts
        (pathlib.Path(base[0].source) / "etc").mkdir()
        (pathlib.Path(base[0].source) / "etc/old").write_text("old")
        snapshots.Commit(snapshotter=snapshotter, key="base", name="base-" + snapshotter, labels=ROOT)
        left = snapshots.View(snapshotter=snapshotter, key="left", parent="base-" + snapshotter, labels=ROOT).mounts
        right = snapshots.Prepare(snapshotter=snapshotter, key="right", parent="base-" + snapshotter,
                                  labels=ROOT).mounts
        place = tmp_path / snapshotter
        place.mkdir()
        subprocess.run(["mount", "-t", right[0].type, right[0].source, str(place),
                        "-o", ",".join(o for o in right[0].options)], check=True)
        try:
            (place / "etc/old").unlink()
            (place / "etc/new").write_text("new")
        finally:
            subprocess.run(["umount", str(place)], check=True)
        diff = diffs.Diff(left=left, right=right, labels=ROOT).diff
        names = tarfile.open(fileobj=io.BytesIO(b"".join(p.data for p in content.Read(digest=diff.digest)))).getnames()
        assert {"etc/new", "etc/.wh.old"} <= set(names) and "etc/old" not in names
        again = snapshots.Prepare(snapshotter=snapshotter, key="again", parent="base-" + snapshotter,
                                  labels=ROOT).mounts
        applied = diffs.Apply(diff=diff, mounts=again).applied
        assert applied.digest == diff.annotations["containerd.io/uncompressed"] and applied.size > 0
        subprocess.run(["mount", "-t", again[0].type, again[0].source, str(place),
                        "-o", ",".join(o for o in again[0].options)], check=True)
        try:
            assert os.listdir(place / "etc") == ["new"] and (place / "etc/new").read_text() == "new"
        finally:
            subprocess.run(["umount", str(place)], check=True)
        made.append(diff.digest)
        for key in ("left", "right", "again", "base-" + snapshotter):
            snapshots.Remove(snapshotter=snapshotter, key=key)
    with fails("NOT_FOUND"):
        diffs.Apply(diff={"digest": digest(b"none"), "media_type": "x", "size": 1}, mounts=again)
    with fails("UNIMPLEMENTED", "media type"):
        diffs.Diff(media_type="application/vnd.oci.image.layer.v1.tar+lzma")
    for d in set(made):
        content.Delete(digest=d)


def test_snapshots(ctr, api):
    ctr("snapshots", "prepare", "base")
    mounts = ctr("snapshots", "mounts", "/mnt", "base")
    assert re.search(r"mount -t bind \S+/snapshots/\d+/fs /mnt -o rw,rbind", mounts)
    ctr("snapshots", "commit", "layer", "base")
    ctr("snapshots", "prepare", "top", "layer")
    assert re.search(r"-o \S*workdir=\S+,upperdir=\S+,lowerdir=\S+", ctr("snapshots", "mounts", "/mnt", "top"))
    api("snapshots.v1.Snapshots", "default").View(snapshotter="overlayfs", key="look", parent="layer", labels=ROOT)
    rows = ctr.rows("snapshots", "ls")
    assert ["layer", "Committed"] in rows and ["top", "layer", "Active"] in rows and ["look", "layer", "View"] in rows
    assert "layer" in ctr("snapshots", "usage") and "layer" in ctr("snapshots", "tree")
    ctr("snapshots", "label", "layer", "a=b")
    assert json.loads(ctr("snapshots", "info", "layer"))["Labels"]["a"] == "b"
    assert "child" in ctr("snapshots", "rm", "layer", code=1)
    assert "not found" in ctr("snapshots", "prepare", "x", "nothing", code=1)
    assert "not loaded" in ctr("snapshots", "--snapshotter", "zfs", "ls", code=1)
    for key in ("look", "top", "layer"):
        ctr("snapshots", "rm", key)
        assert key not in [r[0] for r in ctr.rows("snapshots", "ls")]


SPEC = {"type_url": "types.containerd.io/opencontainers/runtime-spec/1/Spec",
        "value": b'{"ociVersion":"1.1.0","unknown":{"kept":true}}'}


def test_containers(api):
    containers = api("containers.v1.Containers")
    options = {"type_url": "containerd.runc.v1.Options", "value": b"\x08\x01\xff\x00"}
    wanted = {"id": "one", "image": "img", "labels": {"l": "1"}, "spec": SPEC, "snapshotter": "overlayfs",
              "runtime": {"name": "io.containerd.runc.v2", "options": options}, "snapshot_key": "one",
              "extensions": {"ext": any_of("some.Type", b"\x00\x01")}}
    made = containers.Create(container=wanted).container
    got = containers.Get(id="one").container
    assert got == made and got.created_at.seconds > 0
    assert got.spec.value == SPEC["value"] and got.runtime.options.value == options["value"]
    assert got.extensions["ext"].value == b"\x00\x01" and got.extensions["ext"].type_url == "some.Type"
    with fails("ALREADY_EXISTS"):
        containers.Create(container=wanted)
    for field, value in (("id", "bad/id"), ("runtime", {}), ("spec", None), ("snapshotter", "")):
        with fails("INVALID_ARGUMENT"):
            containers.Create(container={**wanted, "id": "two", field: value})
    assert [c.container.id for c in containers.ListStream(filters=["labels.l==1"])] == ["one"]
    assert not list(containers.ListStream(filters=["runtime.name==other"]))
    assert len(containers.List(filters=["id~=^o"]).containers) == 1
    with fails("INVALID_ARGUMENT", "filter"):
        containers.List(filters=["id==="])
    changed = containers.Update(container={"id": "one", "labels": {"l": "2"}},
                                update_mask={"paths": ["labels.l"]}).container
    assert dict(changed.labels) == {"l": "2"} and changed.spec == got.spec
    with fails("INVALID_ARGUMENT", "snapshotter cannot be changed"):
        containers.Update(container={"id": "one", "snapshotter": "native", "spec": SPEC})
    containers.Delete(id="one")
    with fails("NOT_FOUND"):
        containers.Get(id="one")
    with fails("NOT_FOUND"):
        containers.Delete(id="one")


def test_events(api, ctr):
    seen, events = [], api("events.v1.Events")
    call = events.Subscribe(filters=["namespace==test,topic~=\"^/(containers|images)/\"", "event.name==noted"])

    def collect():
        try:
            for e in call:
                seen.append((e.namespace, e.topic, e.event.type_url))
        except grpc.RpcError:
            pass  # cancelled below

    threading.Thread(target=collect, daemon=True).start()
    containers = api("containers.v1.Containers")

    def ping():
        """Until the subscription is there."""
        containers.Create(container={"id": "p", "spec": SPEC, "runtime": {"name": "r"}})
        containers.Delete(id="p")
        return len(seen) >= 2

    assert until(ping, step=0.1)
    assert ("test", "/containers/create", "containerd.events.ContainerCreate") in seen
    assert ("test", "/containers/delete", "containerd.events.ContainerDelete") in seen
    ctr("ns", "create", "noted")
    ctr("ns", "rm", "noted")
    assert until(lambda: ("noted", "/namespaces/delete", "containerd.events.NamespaceDelete") in seen)
    events.Publish(topic="/containers/mine", event={"type_url": "x.Y", "value": b"z"})
    assert until(lambda: ("test", "/containers/mine", "x.Y") in seen)
    with fails("INVALID_ARGUMENT", "topic"):
        events.Publish(topic="no-slash", event={"type_url": "x.Y"})
    assert not any(t.startswith("/snapshot") for _, t, _ in seen)
    call.cancel()


BUSYBOX = "docker.io/library/busybox:latest"


@pytest.fixture
def run(ctr, image, api):
    """ctr run of the busybox image; what a test leaves is removed."""
    yield lambda *args, **kw: ctr("run", *args, **kw)
    tasks = api("tasks.v1.Tasks", "default")
    for row in ctr.rows("tasks", "ls"):
        ctr("tasks", "delete", "-f", row[0])
    assert not tasks.List().tasks
    for row in ctr.rows("containers", "ls"):
        ctr("containers", "rm", row[0])


def test_run(run, ctr):
    assert run("--rm", BUSYBOX, "one", "echo", "hello") == "hello\n"
    run("--rm", BUSYBOX, "one", "sh", "-c", "exit 7", code=7)
    assert run("--rm", BUSYBOX, "one", "head", "-c", "5", stdin=b"input from here") == "input"
    assert run("--rm", "--env", "A=b", "--cwd", "/tmp", BUSYBOX, "one", "sh", "-c", "echo $A; pwd") == "b\n/tmp\n"
    assert run("--rm", "--runc-binary", "runc", BUSYBOX, "one", "echo", "by runc") == "by runc\n"
    assert "executable file" in run("--rm", BUSYBOX, "one", "/nosuch", code=1)
    assert "nosuch is not known" in run("--rm", "--runtime", "io.containerd.nosuch.v1", BUSYBOX, "one", "true", code=1)
    assert not ctr.rows("tasks", "ls") and not ctr.rows("containers", "ls")


def test_run_rootfs(run, tmp_path):
    root = tmp_path / "rootfs"
    (root / "bin").mkdir(parents=True)
    subprocess.run(["cp", "/bin/busybox", str(root / "bin/sh")], check=True)
    assert run("--rm", "--rootfs", str(root), "own", "/bin/sh", "-c", "echo from a directory") == "from a directory\n"


def test_task(run, ctr, daemon):
    run("-d", BUSYBOX, "two", "sleep", "1000")
    pid = next(r[1] for r in ctr.rows("tasks", "ls") if r[0] == "two")
    assert os.path.exists(f"/proc/{pid}")
    assert "already exists" in ctr("tasks", "start", "-d", "two", code=1)
    assert ctr("tasks", "exec", "--exec-id", "x", "two", "echo", "inside") == "inside\n"
    assert ctr("tasks", "exec", "--exec-id", "x", "two", "cat", stdin=b"piped") == "piped"
    ctr("tasks", "exec", "--exec-id", "x", "two", "sh", "-c", "exit 9", code=9)
    assert pid in [r[0] for r in ctr.rows("tasks", "ps", "two")]
    assert re.search(r"memory.usage\S* +[1-9]", ctr("tasks", "metrics", "two"))
    ctr("tasks", "pause", "two")
    assert ["two", pid, "PAUSED"] in ctr.rows("tasks", "ls")
    ctr("tasks", "resume", "two")
    daemon.restart(kill=True)
    assert ["two", pid, "RUNNING"] in ctr.rows("tasks", "ls")
    assert ctr("tasks", "exec", "--exec-id", "y", "two", "echo", "again") == "again\n"
    assert "stopped" in ctr("tasks", "delete", "two", code=1)
    ctr("tasks", "kill", "-s", "KILL", "two")
    assert until(lambda: ["two", pid, "STOPPED"] in ctr.rows("tasks", "ls"))
    ctr("tasks", "delete", "two")
    assert not ctr.rows("tasks", "ls")


def test_wait_and_events(run, ctr, api):
    tasks, seen = api("tasks.v1.Tasks", "default"), []
    call = api("events.v1.Events").Subscribe(filters=['topic~="^/tasks/",event.container_id==three'])

    def collect():
        try:
            for e in call:
                seen.append(e.topic)
        except grpc.RpcError:
            pass  # cancelled below

    threading.Thread(target=collect, daemon=True).start()
    run("-d", BUSYBOX, "three", "sleep", "1000")
    waits = [tasks.Wait(container_id="three", _future=True) for _ in range(40)]
    gone = tasks.Wait(container_id="three", _future=True)
    gone.cancel()
    assert tasks.Get(container_id="three").process.status == 2
    tasks.Kill(container_id="three", signal=9)
    for w in waits:
        assert w.result(30).exit_status == 137
    assert tasks.Wait(container_id="three").exit_status == 137
    assert until(lambda: "/tasks/exit" in seen)
    done = tasks.Delete(container_id="three")
    assert done.exit_status == 137 and done.exited_at.seconds > 0
    for method in (tasks.Get, tasks.Wait, tasks.Delete, tasks.Start, tasks.Kill):
        with fails("NOT_FOUND", "not found"):
            method(container_id="three")
    with fails("NOT_FOUND"):
        tasks.Create(container_id="nothing")
    ctr("containers", "rm", "three")
    call.cancel()


def test_shim_killed(run, ctr, daemon, api):
    run("-d", BUSYBOX, "four", "sleep", "1000")
    wait = api("tasks.v1.Tasks", "default").Wait(container_id="four", _future=True)
    for pid in daemon.shims():
        os.kill(pid, 9)
    assert wait.result(30).exit_status in (137, 255)
    assert until(lambda: not ctr.rows("tasks", "ls"))
