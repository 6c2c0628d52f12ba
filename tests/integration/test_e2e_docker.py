# SPDX-License-Identifier: Apache-2.0
"""Debian's docker client and Python SDK, both unmodified, against kistld's socket."""

import os
import re
import tarfile
import time

import pytest

from harness import DOCKER, until
from test_e2e_run import PROMPT, read_port

docker_sdk = pytest.importorskip("docker")
pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists(DOCKER), reason="needs root and docker.io")


@pytest.fixture
def sdk(daemon, image):
    client = docker_sdk.DockerClient(base_url=daemon.host, version="auto", timeout=60)
    yield client
    client.close()
    assert daemon.alive(), "kistld has died:\n" + daemon.log()[-4000:]
    daemon.clean(images=False)


# ---- the client ----


def test_version_and_info(docker, daemon):
    out = docker("version")
    assert "Client:" in out and "Server:" in out and re.search(r"API version:\s+1\.\d+ \(minimum version 1\.\d+\)", out)
    assert docker("version", "--format", "{{.Server.Os}}") == "linux\n"
    out = docker("info")
    assert re.search(r"Containers: \d+", out) and "Storage Driver: overlayfs" in out and "Cgroup Version: 1" in out
    assert re.search(r"Runtimes: .*crun", out) and "Kernel Version: " + os.uname().release in out
    assert "ERROR" not in out and "ERROR" not in out.err


def test_run_on_a_terminal(docker):
    with docker.terminal("run", "--rm", "-it", "busybox", "sh", rows=30, columns=90) as t:
        t.expect(PROMPT)
        t.send(b"stty size; echo $((40+2))\n")
        t.expect(rb"30 90\r\n42\r\n")
        t.resize(35, 95)
        for _ in range(50):
            t.send(b"stty size\n")
            if t.expect(rb"\n(\d+ \d+)\r\n").group(1) == b"35 95":
                break
        else:
            pytest.fail("no new size")
        t.send(b"exit 5\n")
        t.rest()
        assert t.wait() == 5


def test_detach_and_attach(docker):
    with docker.terminal("run", "-it", "--name", "det", "busybox", "sh") as t:
        t.expect(PROMPT)
        t.send(b"\x10\x11")
        t.rest()
        assert t.wait() == 0
    with docker.terminal("attach", "det") as t:
        t.send(b"exit 3\n")
        t.rest()
        assert t.wait() == 3


@pytest.mark.parametrize("command,code", [(["true"], 0), (["sh", "-c", "exit 42"], 42), (["/nothing"], 127),
                                          (["/etc/passwd"], 126)])
def test_exit_codes(docker, command, code):
    out = docker("run", "--rm", "busybox", *command, code=code)
    if code > 125:
        assert command[0] in out.err


def test_streams(docker):
    out = docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (out, out.err) == ("out\n", "err\n")
    assert docker("run", "--rm", "-i", "busybox", "wc", "-c", input=b"z" * 1000000) == "1000000\n"
    assert docker("run", "--rm", "busybox", "seq", "1", "50000").endswith("\n50000\n")


def test_exec(docker):
    docker("run", "-d", "--name", "ex", "busybox", "sleep", "1000")
    out = docker("exec", "-e", "A=1", "-w", "/tmp", "-u", "daemon", "ex", "sh", "-c", "echo $A; pwd; id -un; exit 7", code=7)
    assert out == "1\n/tmp\ndaemon\n"
    assert docker("exec", "-i", "ex", "cat", input="in\n") == "in\n"
    out = docker("exec", "ex", "nothing-there", code=None)
    assert out.code in (126, 127) and "nothing-there" in out + out.err
    with docker.terminal("exec", "-it", "ex", "sh", rows=22, columns=77) as t:
        t.expect(PROMPT)
        t.send(b"stty size; exit 4\n")
        t.expect(rb"22 77\r\n")
        t.rest()
        assert t.wait() == 4


def test_logs(docker):
    docker("run", "-d", "--name", "log", "busybox", "sh", "-c",
           "echo one; echo two >&2; while ! [ -e /go ]; do sleep 0.05; done; echo three")
    with docker.popen("logs", "-f", "log") as p:
        p.expect(b"one\n")
        docker("exec", "log", "touch", "/go")
        assert p.rest().endswith(b"three\n") and p.wait() == 0
    assert docker("logs", "--tail", "1", "log") == "three\n"
    line = docker.lines("logs", "-t", "log")[0]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z one$", line)
    assert docker("logs", "--since", "2000-01-01", "log").startswith("one\n")
    assert "No such container" in docker("logs", "nobody", code=1).err


def test_ps(docker):
    docker("run", "-d", "--name", "psone", "-p", "127.0.0.1::80", "busybox", "sleep", "1000")
    docker("run", "--name", "pstwo", "busybox", "sh", "-c", "exit 2", code=2)
    head, row = docker.lines("ps")
    assert head.split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert re.match(r'[0-9a-f]{12} +busybox +"sleep 1000" +.* ago +Up .* +127\.0\.0\.1:\d+->80/tcp +psone$', row)
    assert re.search(r"Exited \(2\) .* ago", docker("ps", "-a", "--filter", "name=pstwo"))
    assert re.search(r"\d+(\.\d+)?[kM]?B \(virtual [\d.]+MB\)", docker("ps", "-s", "--format", "{{.Size}}"))
    assert docker("ps", "-aq", "--filter", "status=exited", "--format", "{{.Names}}") == "pstwo\n"


def test_stats(docker):
    docker("run", "-d", "--name", "st", "--memory", "64m", "busybox", "sleep", "1000")
    head, row = docker.lines("stats", "--no-stream", "st")
    assert head.split()[:5] == ["CONTAINER", "ID", "NAME", "CPU", "%"]
    assert re.match(r"[0-9a-f]{12} +st +\d+\.\d+% +[\d.]+[KM]iB / 64MiB +\d+\.\d+% +[\d.]+k?B / [\d.]+k?B +.* +1 *$", row)
    assert re.search(r"\bst\b", docker("stats", "--no-stream"))


def test_top_and_port_and_diffless_inspect(docker):
    docker("run", "-d", "--name", "tp", "-p", "127.0.0.1::81", "-e", "A=b", "busybox", "sleep", "1000")
    assert docker.lines("top", "tp")[1].endswith("sleep 1000")
    assert re.fullmatch(r"81/tcp -> 127\.0\.0\.1:\d+\n", docker("port", "tp"))
    d = docker.inspect("tp")
    for key in ("Id", "Created", "Path", "Args", "State", "Image", "ResolvConfPath", "HostnamePath", "HostsPath", "LogPath",
                "Name", "RestartCount", "Driver", "Platform", "MountLabel", "ProcessLabel", "AppArmorProfile", "ExecIDs",
                "HostConfig", "GraphDriver", "Mounts", "Config", "NetworkSettings"):
        assert key in d, key
    assert {"Status", "Running", "Paused", "Restarting", "OOMKilled", "Dead", "Pid", "ExitCode", "Error", "StartedAt",
            "FinishedAt"} <= set(d["State"])
    bridge = d["NetworkSettings"]["Networks"]["bridge"]
    assert bridge["IPAddress"] and bridge["Gateway"] and bridge["IPPrefixLen"] and bridge["MacAddress"]
    assert "No such object: nobody" in docker("inspect", "nobody", code=1).err


def test_life(docker):
    docker("create", "--name", "life", "busybox", "sleep", "1000")
    docker("start", "life")
    docker("pause", "life")
    assert docker.inspect("life", "{{.State.Status}}") == "paused"
    docker("unpause", "life")
    docker("restart", "-t", "0", "life")
    docker("rename", "life", "renamed")
    docker("update", "--memory", "64m", "--memory-swap", "64m", "renamed")
    assert docker.inspect("renamed", "{{.HostConfig.Memory}}") == str(64 << 20)
    with docker.popen("wait", "renamed") as p:
        docker("kill", "renamed")
        assert p.rest() == b"137\n"
    assert "already in use" in docker("create", "--name", "renamed", "busybox", code=1).err
    assert docker("rm", "renamed") == "renamed\n"
    docker("run", "-d", "--name", "bye", "busybox", "sleep", "1000")
    assert "container is running: stop the container before removing or force remove" in docker("rm", "bye", code=1).err
    docker("rm", "-f", "bye")


def test_events(docker):
    began = str(int(time.time()) - 1)
    docker("run", "--rm", "--name", "evt", "busybox", "sh", "-c", "exit 3", code=3)
    out = docker("events", "--since", began, "--until", str(int(time.time()) + 1), "--filter", "container=evt",
                 "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.exitCode}}").splitlines()
    assert [x.split()[1] for x in out if x.startswith("container") and x.split()[1] in ("create", "start", "die", "destroy")] == \
        ["create", "start", "die", "destroy"]
    assert any(x.startswith("container die 3") for x in out)


def test_images(docker, busybox):
    out = docker("pull", busybox)
    repository, tag = busybox.rsplit(":", 1)
    assert re.search(rf"^{tag}: Pulling from busybox\n", out) and re.search(r"^Digest: sha256:[0-9a-f]{64}$", out, re.M)
    assert "Status: Downloaded newer image for " + busybox in out
    assert "Status: Image is up to date for " + busybox in docker("pull", busybox)
    rows = docker.lines("images")
    assert rows[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert any(re.match(rf"{repository} +{tag} +[0-9a-f]{{12}} +.* ago +[\d.]+MB$", r) for r in rows)
    docker("tag", busybox, "other:1")
    assert docker("images", "-q", "other") == docker("images", "-q", busybox)
    assert docker.json("image", "inspect", "other:1")[0]["Config"]["Labels"]["from"] == "mkimage"
    assert docker.lines("history", "other:1")[0].split()[0] == "IMAGE"
    assert "Untagged: other:1" in docker("rmi", "other:1")
    assert "not found" in docker("pull", repository + ":nothing", code=1).err
    docker("rmi", busybox)


def test_push_save_load(docker, registry, busybox, tmp_path):
    docker("pull", "-q", busybox)
    docker("tag", busybox, registry.reference("by-docker:1"))
    assert re.search(r"1: digest: sha256:[0-9a-f]{64} size: \d+", docker("push", registry.reference("by-docker:1")))
    docker("save", "-o", tmp_path / "x.tar", busybox)
    with tarfile.open(tmp_path / "x.tar") as t:
        assert "manifest.json" in t.getnames()
    docker("rmi", busybox, registry.reference("by-docker:1"))
    assert f"Loaded image: {busybox}" in docker("load", "-i", tmp_path / "x.tar")
    docker("rmi", busybox)


def test_volumes_and_networks(docker):
    assert docker("volume", "create", "dvol") == "dvol\n"
    docker("run", "--rm", "-v", "dvol:/v", "busybox", "sh", "-c", "echo kept > /v/f")
    assert docker.lines("volume", "ls")[0].split() == ["DRIVER", "VOLUME", "NAME"]
    assert docker.json("volume", "inspect", "dvol")[0]["Driver"] == "local"
    assert docker("run", "--rm", "--mount", "type=volume,src=dvol,dst=/w", "busybox", "cat", "/w/f") == "kept\n"
    docker("volume", "rm", "dvol")
    names = docker.lines("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}")
    assert sorted(names) == ["bridge bridge local", "host host local", "none null local"]
    docker("network", "create", "--subnet", "10.217.3.0/24", "dnet")
    assert "10.217.3." in docker("run", "--rm", "--network", "dnet", "busybox", "ip", "addr", "show", "eth0")
    assert docker.json("network", "inspect", "dnet")[0]["IPAM"]["Config"][0]["Subnet"] == "10.217.3.0/24"
    assert docker("network", "rm", "dnet") == "dnet\n"


def test_published_port(docker):
    docker("run", "-d", "--name", "pub", "-p", "127.0.0.1::80", "busybox", "sh", "-c", "while :; do echo hi | nc -l -p 80; done")
    port = int(docker("port", "pub", "80").split(":")[1])
    assert until(lambda: read_port(port) == b"hi\n", 5)


def test_flags_of_run(docker, tmp_path):
    out = docker("run", "--rm", "--init", "--read-only", "--tmpfs", "/tmp", "-e", "A=1", "-w", "/tmp", "-u", "1000:1000",
                 "-h", "box", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--ulimit", "nofile=99", "-v",
                 f"{tmp_path}:/m:ro", "--label", "a=b", "--cpus", "1", "--pids-limit", "50", "--shm-size", "1m", "--dns",
                 "9.9.9.9", "--add-host", "x:1.2.3.4", "--restart", "no", "--log-opt", "max-size=1m", "busybox", "sh", "-c",
                 "echo $A; pwd; id -u; hostname; ulimit -n; grep CapEff /proc/self/status; grep -c 1.2.3.4 /etc/hosts")
    assert out.split() == ["1", "/tmp", "1000", "box", "99", "CapEff:", "0000000000000000", "1"]


def test_system_df_and_prune(docker):
    docker("run", "--name", "dead", "busybox", "true")
    out = docker.lines("system", "df")
    assert out[0].split()[0] == "TYPE" and re.match(r"Images +1 +1 +[\d.]+MB", out[1])
    assert docker("system", "df", "-v")
    assert "Deleted Containers:" in docker("container", "prune", "-f")
    assert "Total reclaimed space" in docker("system", "prune", "-f")


# ---- the SDK ----


def test_sdk_run(sdk):
    assert sdk.ping()
    assert sdk.containers.run("busybox", "echo hello", remove=True) == b"hello\n"
    assert sdk.containers.run("busybox", ["sh", "-c", "echo $A; cat /etc/hostname"], environment={"A": "1"}, hostname="sdk",
                              remove=True) == b"1\nsdk\n"
    with pytest.raises(docker_sdk.errors.ContainerError) as e:
        sdk.containers.run("busybox", ["sh", "-c", "echo why >&2; exit 3"], remove=True)
    assert e.value.exit_status == 3 and e.value.stderr == b"why\n"
    with pytest.raises(docker_sdk.errors.ImageNotFound):
        sdk.containers.create("nothing/here", "true")


def test_sdk_container(sdk):
    c = sdk.containers.run("busybox", "sleep 1000", detach=True, name="sdkc", labels={"k": "v"}, mem_limit="64m")
    c.reload()
    assert c.status == "running" and c.labels["k"] == "v" and c.image.tags == ["busybox:latest"]
    assert [x.name for x in sdk.containers.list(filters={"label": "k=v"})] == ["sdkc"]
    r = c.exec_run(["sh", "-c", "echo out; echo err >&2; exit 4"], demux=True)
    assert r.exit_code == 4 and r.output == (b"out\n", b"err\n")
    assert c.top()["Processes"]
    stats = c.stats(stream=False)
    assert stats["memory_stats"]["limit"] == 64 << 20 and stats["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert "bridge" in c.attrs["NetworkSettings"]["Networks"]
    c.pause(), c.unpause()
    c.rename("sdkd")
    c.stop(timeout=0)
    assert c.wait()["StatusCode"] == 137
    with pytest.raises(docker_sdk.errors.NotFound):
        sdk.containers.get("sdkc")
    c.remove()


def test_sdk_streams(sdk):
    c = sdk.containers.create("busybox", ["sh", "-c", "read x; echo got $x; echo err >&2"], stdin_open=True)
    s = c.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    c.start()
    s._sock.sendall(b"line\n")
    assert c.wait()["StatusCode"] == 0
    s.close()
    assert c.logs(stdout=True, stderr=False) == b"got line\n" and c.logs(stdout=False, stderr=True) == b"err\n"
    assert list(c.logs(stream=True, follow=True, stderr=False)) == [b"got line\n"]


def test_sdk_images_volumes_networks_events(sdk, busybox):
    image = sdk.images.pull(*busybox.rsplit(":", 1))
    assert busybox in image.tags and image.history()
    assert image.tag("sdk-tag", "1")
    data = b"".join(sdk.images.get("sdk-tag:1").save())
    sdk.images.remove("sdk-tag:1")
    assert sdk.images.load(data)
    sdk.images.remove(busybox)
    v = sdk.volumes.create("sdkvol", labels={"a": "b"})
    assert sdk.volumes.get("sdkvol").attrs["Labels"] == {"a": "b"}
    v.remove()
    n = sdk.networks.create("sdknet")
    assert "sdknet" in [x.name for x in sdk.networks.list()]
    n.remove()
    began = int(time.time()) - 1
    sdk.containers.run("busybox", "true", remove=True)
    actions = [e["Action"] for e in sdk.events(since=began, until=int(time.time()) + 1, decode=True,
                                                filters={"type": "container"})]
    assert "create" in actions and "die" in actions
    assert sdk.df()["Images"] and sdk.info()["OSType"] == "linux" and sdk.version()["ApiVersion"]
