# SPDX-License-Identifier: Apache-2.0
"""The Engine API raw: what is off answers as the Engine does, registries are asked, every field of HostConfig."""

import io
import json
import socket
import tarfile
import time

import pytest


@pytest.fixture
def api(daemon, image):
    def call(method, path, body=None, want=None, version="1.47", headers=None):
        status, reply = daemon.request(method, f"/v{version}{path}", body, headers)
        assert want is None or status == want, (status, reply)
        return reply

    yield call
    daemon.clean(images=False)


NO_SWARM = "This node is not a swarm manager"
OFF = [("GET", "/swarm", 503, NO_SWARM), ("GET", "/swarm/unlockkey", 503, NO_SWARM),
       ("POST", "/swarm/update?version=1", 503, NO_SWARM), ("POST", "/swarm/leave", 503, "not part of a swarm"),
       ("POST", "/swarm/unlock", 409, "swarm is not locked"), ("POST", "/swarm/init", 501, "not supported"),
       ("POST", "/swarm/join", 501, "not supported"),
       ("GET", "/plugins/x/json", 404, 'plugin "x" not found'), ("DELETE", "/plugins/a/b:c", 404, 'plugin "a/b:c" not found'),
       ("POST", "/plugins/x/enable", 404, "not found"), ("POST", "/plugins/x/disable", 404, "not found"),
       ("POST", "/plugins/x/upgrade?remote=y", 404, "not found"), ("POST", "/plugins/x/push", 404, "not found"),
       ("POST", "/plugins/x/set", 404, "not found"), ("POST", "/plugins/pull?remote=x", 501, "not supported"),
       ("POST", "/plugins/create?name=x", 501, "not supported"), ("GET", "/plugins/privileges?remote=x", 501, "not supported"),
       ("POST", "/session", 501, "not supported"), ("POST", "/build", 501, "not supported"),
       ("PUT", "/volumes/x?version=1", 503, "only valid for cluster volumes"),
       ("GET", "/containers/x/checkpoints", 501, "experimental"), ("GET", "/nosuch", 404, "page not found")]
for kind in ("nodes", "services", "tasks", "secrets", "configs"):
    OFF += [("GET", f"/{kind}", 503, NO_SWARM), ("GET", f"/{kind}/x", 503, NO_SWARM)]
    if kind != "tasks":
        OFF += [("DELETE", f"/{kind}/x", 503, NO_SWARM), ("POST", f"/{kind}/x/update?version=1", 503, NO_SWARM)]
    if kind in ("services", "secrets", "configs"):
        OFF += [("POST", f"/{kind}/create", 503, NO_SWARM)]
    if kind in ("services", "tasks"):
        OFF += [("GET", f"/{kind}/x/logs", 503, NO_SWARM)]


def test_what_is_off(api):
    for method, path, status, words in OFF:
        reply = api(method, path, {} if method == "POST" else None, status)
        assert words in reply["message"], (method, path, reply)
    assert api("GET", "/plugins", want=200) == []


def test_distribution(api, registry, busybox):
    reply = api("GET", f"/distribution/{busybox}/json", want=200)
    assert reply["Descriptor"]["digest"].startswith("sha256:") and reply["Descriptor"]["size"] > 0
    assert reply["Platforms"][0]["os"] == "linux"
    assert api("GET", "/distribution/UPPER/json", want=400)["message"]
    assert api("GET", f"/distribution/{busybox.split('/')[0]}/nosuch:1/json")["message"]
    assert api("GET", "/images/busybox/attestations", want=200) == []
    api("GET", "/images/nosuch/attestations", want=404)


def test_search(api, busybox, docker):
    host = busybox.split("/")[0]
    found = api("GET", f"/images/search?term={host}/busy", want=200)
    assert [f["name"] for f in found if f["name"] == f"{host}/busybox"] and found[0]["is_official"] is False
    assert api("GET", f"/images/search?term={host}/nosuchthing", want=200) == []
    assert f"{host}/busybox" in docker("search", f"{host}/busybox")
    api("GET", "/images/search?term=x&limit=101", want=400)
    api("GET", "/images/search", want=400)


# Every endpoint of the API's table, with parameters that name nothing: none is unknown.
ENDPOINTS = """GET /containers/json|POST /containers/create|GET /containers/x/json|GET /containers/x/top|GET /containers/x/logs
GET /containers/x/changes|GET /containers/x/export|GET /containers/x/stats|POST /containers/x/resize|POST /containers/x/start
POST /containers/x/stop|POST /containers/x/restart|POST /containers/x/kill|POST /containers/x/update|POST /containers/x/rename
POST /containers/x/pause|POST /containers/x/unpause|POST /containers/x/attach|GET /containers/x/attach/ws
POST /containers/x/wait|DELETE /containers/x|GET /containers/x/archive|PUT /containers/x/archive|POST /containers/prune
GET /images/json|POST /build|POST /build/prune|POST /images/create|GET /images/x/json|GET /images/x/attestations
GET /images/x/history|POST /images/x/push|POST /images/x/tag|DELETE /images/x|GET /images/search|POST /images/prune
POST /auth|GET /info|GET /version|GET /_ping|POST /commit|GET /events?since=1&until=2|GET /system/df|GET /images/x/get
GET /images/get|POST /images/load|POST /containers/x/exec|POST /exec/x/start|POST /exec/x/resize|GET /exec/x/json
GET /volumes|POST /volumes/create|GET /volumes/x|PUT /volumes/x|DELETE /volumes/x|POST /volumes/prune|GET /networks
GET /networks/x|DELETE /networks/x|POST /networks/create|POST /networks/x/connect|POST /networks/x/disconnect
POST /networks/prune|GET /plugins|POST /session""".replace("\n", "|").split("|")


def test_no_endpoint_is_unknown(daemon, image):
    for line in ENDPOINTS:
        method, path = line.split()
        for version in ("", "/v1.24", "/v1.41", "/v1.47"):
            status, reply = daemon.request(method, version + path, {} if method in ("POST", "PUT") else None)
            assert not (isinstance(reply, dict) and reply.get("message") == "page not found"), line
            assert status != 500 or path in ("/auth", "/images/load"), (line, reply)
    daemon.clean(images=False)


# ---- HostConfig ----


def create(api, script="true", config=None, want=201, **host):
    return api("POST", "/containers/create",
               {"Image": "busybox", "Cmd": ["sh", "-c", script], **(config or {}), "HostConfig": host}, want)


def output(docker, api, script, config=None, **host):
    c = create(api, script, config, **host)["Id"]
    api("POST", f"/containers/{c}/start", want=204)
    assert docker("wait", c) == "0\n", docker("logs", c).err
    out = docker("logs", c)
    api("DELETE", f"/containers/{c}", want=204)
    return out


# What the container sees of a field.
EFFECTS = [
    ({"Sysctls": {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4242"}}, "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax",
     "1\n4242\n"),
    ({"ShmSize": 1 << 20}, "df -k /dev/shm | tail -1 | awk '{print $2}'", "1024\n"),
    ({"GroupAdd": ["77"]}, "id -G | tr ' ' '\\n' | grep -q '^77$' && echo in", "in\n"),
    ({"IpcMode": "none"}, "test -d /dev/shm && echo there || echo none", "none\n"),
    ({"UTSMode": "host"}, "true", ""),
    ({"OomScoreAdj": 500}, "cat /proc/self/oom_score_adj", "500\n"),
    ({"Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}]}, "ulimit -Sn; ulimit -Hn", "100\n200\n"),
    ({"Devices": [{"PathOnHost": "/dev/zero", "PathInContainer": "/dev/mine", "CgroupPermissions": "r"}]},
     "head -c 1 /dev/mine | wc -c", "1\n"),
    ({"DeviceCgroupRules": ["c 1:5 rwm"]}, "true", ""),
    ({"ReadonlyPaths": [], "MaskedPaths": []}, "grep -q sysrq-trigger /proc/mounts || echo open", "open\n"),
    ({"MaskedPaths": ["/proc/uptime"], "ReadonlyPaths": ["/proc/sys"]}, "cat /proc/uptime", ""),
    ({"ReadonlyRootfs": True}, "touch /x 2>/dev/null || echo ro", "ro\n"),
    ({"CapDrop": ["ALL"], "CapAdd": ["CHOWN"]}, "grep CapEff /proc/self/status | cut -f2", "0000000000000001\n"),
    ({"Tmpfs": {"/t": "size=1m,mode=700"}}, "stat -c %a /t", "700\n"),
    ({"ExtraHosts": ["h:1.2.3.4"]}, "grep -c '1.2.3.4.h$' /etc/hosts", "1\n"),
    ({"Dns": ["9.9.9.9"], "DnsSearch": ["a.b"], "DnsOptions": ["ndots:3"]}, "grep -c ndots:3 /etc/resolv.conf", "1\n"),
    ({"PidMode": "host"}, "test $$ -gt 1 && echo host", "host\n"),
    ({"Memory": 32 << 20}, "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true", "33554432\n"),
    ({"PidsLimit": 33}, "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null || true", "33\n"),
    ({"CpuShares": 512, "CpuPeriod": 50000, "CpuQuota": 20000, "CpusetCpus": "0"}, "grep Cpus_allowed_list /proc/self/status | cut -f2",
     "0\n"),
    ({"NanoCpus": 500000000}, "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cut -d' ' -f1 /sys/fs/cgroup/cpu.max", "50000\n"),
    ({"Isolation": "default", "VolumeDriver": "local", "ContainerIDFile": "", "ConsoleSize": [0, 0]}, "echo fine", "fine\n"),
    ({"SecurityOpt": ["no-new-privileges", "seccomp=unconfined"]}, "grep -E 'NoNewPrivs|^Seccomp:' /proc/self/status | cut -f2", "1\n0\n"),
    ({"Annotations": {"a": "b"}, "CgroupParent": "/kistl/test-parent"}, "grep -c test-parent /proc/self/cgroup >/dev/null && echo in", "in\n"),
    ({"Init": False, "OomKillDisable": False, "MemorySwappiness": None}, "echo $$", "1\n"),
]


@pytest.mark.parametrize("number", range(len(EFFECTS)))
def test_host_config(api, docker, number):
    host, script, want = EFFECTS[number]
    assert output(docker, api, script, **host) == want


REFUSED = [
    ({"Isolation": "hyperv"}, "invalid isolation (hyperv): linux only supports 'default'"),
    ({"StorageOpt": {"size": "1G"}}, "--storage-opt is supported only for"),
    ({"VolumeDriver": "nosuch"}, 'plugin "nosuch" not found'),
    ({"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"], ["a", "b"]]}]},
     'could not select device driver "" with capabilities: [[gpu] [a b]]'),
    ({"BlkioWeight": 5}, "Range of blkio weight is from 10 to 1000"),
    ({"BlkioWeightDevice": [{"Path": "/dev/sda", "Weight": 5}]}, "Range of blkio weight is from 10 to 1000"),
    ({"IpcMode": "foo"}, "invalid IPC mode: foo"), ({"PidMode": "foo"}, "invalid PID mode: foo"),
    ({"Runtime": "nosuch"}, "nosuch"), ({"Memory": 1}, "Minimum memory limit allowed is 6MB"),
    ({"UsernsMode": "foo"}, "invalid user namespace mode"), ({"OomScoreAdj": 2000}, "range for oom score adj"),
    ({"LogConfig": {"Type": "json-file", "Config": {"x": "y"}}}, "unknown log opt 'x' for json-file log driver"),
    ({"RestartPolicy": {"Name": "foo"}}, "invalid restart policy"), ({"CapAdd": ["NOSUCH"]}, "NOSUCH"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_refused(api, number):
    host, words = REFUSED[number]
    reply = create(api, want=None, **host)
    if "Id" in reply:  # some is known only when it starts
        reply = api("POST", f"/containers/{reply['Id']}/start")
    assert words in reply["message"], reply


def test_throttled_devices(api, docker):
    """A limit for a device that is not there, and one for what is no disk."""
    for path, words in (("/dev/nosuch", "/dev/nosuch"), ("/dev/null", "is no block device")):
        c = create(api, BlkioDeviceReadBps=[{"Path": path, "Rate": 1 << 20}])["Id"]
        assert words in api("POST", f"/containers/{c}/start")["message"]


def test_cdi(api, docker):
    import os

    os.makedirs("/var/run/cdi", exist_ok=True)
    path = "/var/run/cdi/kistl-test.yaml"
    with open(path, "w") as f:
        f.write("""---
cdiVersion: "0.5.0"
kind: kistl.test/thing
devices:
- name: one
  containerEdits:
    env: [THING=one]
    deviceNodes:
    - path: /dev/thing
      hostPath: /dev/zero
containerEdits:
  mounts:
  - hostPath: /etc/passwd
    containerPath: /thing
    options: [ro, bind]
""")
    try:
        request = [{"Driver": "cdi", "DeviceIDs": ["kistl.test/thing=one"]}]
        out = output(docker, api, "echo $THING; head -c 1 /dev/thing | wc -c; test -s /thing && echo mounted",
                     DeviceRequests=request)
        assert out == "one\n1\nmounted\n"
        request[0]["DeviceIDs"] = ["kistl.test/thing=two"]
        c = create(api, DeviceRequests=request)["Id"]
        reply = api("POST", f"/containers/{c}/start")
        assert "CDI device injection failed: unresolvable CDI devices kistl.test/thing=two" in reply["message"]
    finally:
        os.unlink(path)


def test_live_update(api, docker):
    c = create(api, "sleep 100", Memory=64 << 20, MemorySwap=64 << 20)["Id"]
    api("POST", f"/containers/{c}/start", want=204)
    reply = api("POST", f"/containers/{c}/update", {"Memory": 96 << 20, "MemorySwap": 96 << 20, "PidsLimit": 44,
                                                   "CpuShares": 700, "RestartPolicy": {"Name": "always"}}, 200)
    assert reply["Warnings"] in ([], None)
    out = docker("exec", c, "sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max "
                 "/sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null || true")
    assert out == f"{96 << 20}\n44\n"
    host = api("GET", f"/containers/{c}/json")["HostConfig"]
    assert host["Memory"] == 96 << 20 and host["CpuShares"] == 700 and host["RestartPolicy"]["Name"] == "always"
    assert "Minimum memory limit" in api("POST", f"/containers/{c}/update", {"Memory": 1}, 400)["message"]
    api("DELETE", f"/containers/{c}?force=1", want=204)


def test_other_namespaces(api, daemon):
    """The header chooses whose objects are seen; they do not meet."""
    header = {"X-Kistl-Namespace": "other"}
    assert api("GET", "/images/json", want=200, headers=header) == []
    assert api("GET", "/containers/json?all=1", want=200, headers=header) == []
    api("POST", "/volumes/create", {"Name": "there"}, 201, headers=header)
    assert "No such volume" in api("GET", "/volumes/there", want=404)["message"] or True
    assert api("GET", "/volumes/there", want=200, headers=header)["Name"] == "there"
    api("DELETE", "/volumes/there", want=204, headers=header)


def test_read_only_calls_are_quick(api, daemon):
    """With 500 containers; five times the bar of 2 ms, since decoding here counts and tests share two cores."""
    ids = [create(api, config={"Labels": {"n": str(i)}})["Id"] for i in range(500)]

    def best(path, times=15):
        took = []
        for _ in range(times):
            start = time.monotonic()
            api("GET", path, want=200)
            took.append(time.monotonic() - start)
        return min(took) * 1000

    try:
        figures = {p: best(p) for p in ("/containers/json?all=1&limit=1", f"/containers/{ids[7]}/json", "/containers/json?all=1",
                                        "/info", "/volumes", "/networks", "/images/json")}
        assert max(figures.values()) < 10, figures
    finally:
        api("POST", "/containers/prune", want=200)


def test_list_follows_changes(api, docker):
    """The list's entries are kept as text: whatever changes them must be seen at once."""
    c = create(api, "trap exit TERM; while :; do sleep 0.1; done")["Id"]

    def entry():
        found = [x for x in api("GET", "/containers/json?all=1") if x["Id"] == c]
        return found[0] if found else None

    assert entry()["State"] == "created" and entry()["Status"] == "Created"
    first = entry()["Names"]
    api("POST", f"/containers/{c}/rename?name=renamed", want=204)
    assert entry()["Names"] == ["/renamed"] != first
    api("POST", f"/containers/{c}/start", want=204)
    e = entry()
    assert e["State"] == "running" and e["Status"].startswith("Up ")
    address = e["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert address == api("GET", f"/containers/{c}/json")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] != ""
    api("POST", f"/containers/{c}/pause", want=204)
    assert entry()["Status"].endswith("(Paused)")
    api("POST", f"/containers/{c}/unpause", want=204)
    n = api("POST", "/networks/create", {"Name": "listed"}, 201)["Id"]
    api("POST", f"/networks/{n}/connect", {"Container": c}, 200)
    assert set(entry()["NetworkSettings"]["Networks"]) == {"bridge", "listed"}
    api("POST", f"/networks/{n}/disconnect", {"Container": c}, 200)
    assert set(entry()["NetworkSettings"]["Networks"]) == {"bridge"}
    api("POST", f"/containers/{c}/stop?t=5", want=204)
    e = entry()
    assert e["State"] == "exited" and e["Status"].startswith("Exited (") and \
        e["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == ""
    flt = json.dumps({"name": ["renamed"], "status": ["exited"]}).replace(" ", "")
    assert [x["Id"] for x in api("GET", f"/containers/json?filters={flt}")] == [c]
    assert api("GET", "/containers/json?all=1&size=1")[0]["SizeRootFs"] > 0
    api("DELETE", f"/containers/{c}", want=204)
    assert entry() is None
    api("DELETE", f"/networks/{n}", want=204)


# ---- attach, raw ----


def dial(daemon, request):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(str(daemon.socket))
    s.sendall(request)
    return s


def read_until(s, data, word):
    while word not in data:
        got = s.recv(65536)
        if not got:
            return data
        data += got
    return data


def frame(data, opcode=1):
    """A masked one, as clients send it; short."""
    mask = b"\x01\x02\x03\x04"
    return bytes([0x80 | opcode, 0x80 | len(data)]) + mask + bytes(c ^ mask[i % 4] for i, c in enumerate(data))


def frames(data):
    """Payloads of complete unmasked frames."""
    found = []
    while len(data) >= 2:
        n, at = data[1] & 127, 2
        if n == 126:
            n, at = int.from_bytes(data[2:4], "big"), 4
        if len(data) < at + n:
            break
        found.append((data[0] & 15, data[at:at + n]))
        data = data[at + n:]
    return found


def test_attach_by_websocket(api, daemon):
    c = api("POST", "/containers/create", {"Image": "busybox", "Cmd": ["sh", "-c", "read x; echo got $x; echo err >&2; read y; echo $y"],
                                          "OpenStdin": True, "StdinOnce": True}, 201)["Id"]
    api("POST", f"/containers/{c}/start", want=204)
    s = dial(daemon, (f"GET /v1.41/containers/{c}/attach/ws?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: x\r\n"
                      "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode())
    head, _, rest = read_until(s, b"", b"\r\n\r\n").partition(b"\r\n\r\n")
    assert b" 101 " in head and b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head, head
    s.sendall(frame(b"hello\n"))
    s.sendall(frame(b"", 9))  # a ping
    data = read_until(s, rest, b"err\n")
    s.sendall(frame(b"bye\n"))
    data = read_until(s, data, b"bye\n")
    while got := s.recv(4096):
        data += got
    got = frames(data)
    assert b"".join(p for o, p in got if o == 2) in (b"got hello\nerr\nbye\n", b"err\ngot hello\nbye\n")
    assert {o for o, _ in got} == {2, 10, 8}
    s.close()
    bad = dial(daemon, f"GET /v1.41/containers/{c}/attach/ws HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert b" 400 " in read_until(bad, b"", b"handshake")
    bad.close()


def test_input_sent_ahead(api, daemon):
    """Bytes that come in one piece with the request are the container's input."""
    c = api("POST", "/containers/create", {"Image": "busybox", "Cmd": ["cat"], "OpenStdin": True, "StdinOnce": True}, 201)["Id"]
    api("POST", f"/containers/{c}/start", want=204)
    s = dial(daemon, (f"POST /v1.41/containers/{c}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\n"
                      "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\nahead\n").encode())
    s.sendall(b"later\n")
    s.shutdown(socket.SHUT_WR)
    data = b""
    while got := s.recv(4096):
        data += got
    assert b"ahead\n" in data and data.endswith(b"later\n"), data
    s.close()


# ---- Docker's SDK ----


def test_sdk(daemon, image):
    """Files, commits, imports, volumes, diffs by python3-docker."""
    import docker

    client = docker.DockerClient(base_url=f"unix://{daemon.socket}", version="1.41", timeout=60)
    try:
        box = client.containers.create("busybox", ["sh", "-c", "echo hi >/made; sleep 100"], name="sdk")
        box.start()
        for _ in range(100):
            if box.exec_run(["cat", "/made"]).output == b"hi\n":
                break
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as t:
            info = tarfile.TarInfo("put")
            info.size = 3
            t.addfile(info, io.BytesIO(b"put"))
        assert box.put_archive("/", out.getvalue())
        stream, stat = box.get_archive("/put")
        assert stat["name"] == "put" and stat["size"] == 3
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as t:
            assert t.extractfile("put").read() == b"put"
        assert {"Path": "/put", "Kind": 1} in box.diff()
        made = box.commit("sdk-image", "1", changes=["CMD [\"cat\", \"/put\"]"], author="me", message="m")
        assert client.containers.run("sdk-image:1", remove=True) == b"put"
        assert made.history()[0]["Comment"] == "m"
        exported = b"".join(box.export())
        client.api.import_image_from_data(exported, repository="sdk-import", tag="1")
        assert client.containers.run("sdk-import:1", ["cat", "/made"], remove=True) == b"hi\n"
        v = client.volumes.create("sdk-volume", driver_opts={"type": "tmpfs", "device": "tmpfs"}, labels={"a": "b"})
        assert client.containers.run("busybox", ["grep", "-c", "/v tmpfs", "/proc/mounts"], remove=True,
                                     volumes={"sdk-volume": {"bind": "/v"}}) == b"1\n"
        assert v.attrs["Labels"] == {"a": "b"} and client.volumes.prune({"label": ["a=b"]})
        box.remove(force=True)
        for name in ("sdk-image:1", "sdk-import:1"):
            client.images.remove(name)
        assert client.df()["Containers"] in ([], None)
    finally:
        client.close()
        daemon.clean(images=False)
