# SPDX-License-Identifier: Apache-2.0
"""What Debian's docker client and Docker's Python SDK get from kistld, compared with what dockerd gives: found by
running both side by side, kept here as data. Where dockerd's versions differ, the newest wording counts."""

import time

import pytest

from harness import until


@pytest.fixture
def sleeper(docker):
    """Name of a running container."""
    docker("run", "-d", "--name", "sleeper", "--stop-signal", "KILL", "busybox", "sleep", "100")
    return "sleeper"


# ---- exec ----


def test_name_without_value_unsets_variable(docker, sleeper):
    """The client sends "-e NAME" as it is when it has no such variable."""
    assert "FROM_IMAGE=yes" in docker("exec", sleeper, "env")
    assert "FROM_IMAGE" not in docker("exec", "-e", "FROM_IMAGE", sleeper, "env")
    assert "FROM_IMAGE" not in docker("run", "--rm", "-e", "FROM_IMAGE", "busybox", "env")


def test_exec_failures(docker, sleeper):
    assert "executable file" in docker("exec", sleeper, "nosuch", code=127)
    assert "unable to find user nosuch" in docker("exec", "-u", "nosuch", sleeper, "id", code=126)


# ---- documents ----

MASKED = {"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"}
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

# Of dockerd 20.10 and 28, without what is gone or Windows'.
CONTAINER_KEYS = set("""Id Created Path Args State Image ResolvConfPath HostnamePath HostsPath LogPath Name
    RestartCount Driver Platform MountLabel ProcessLabel AppArmorProfile ExecIDs HostConfig GraphDriver Mounts
    Config NetworkSettings""".split())
STATE_KEYS = set("""Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt
    FinishedAt""".split())
CONFIG_KEYS = set("""Hostname Domainname User AttachStdin AttachStdout AttachStderr Tty OpenStdin StdinOnce Env Cmd
    Image Volumes WorkingDir Entrypoint OnBuild Labels""".split())
HOST_KEYS = set("""Binds ContainerIDFile LogConfig NetworkMode PortBindings RestartPolicy AutoRemove VolumeDriver
    VolumesFrom CapAdd CapDrop CgroupnsMode Dns DnsOptions DnsSearch ExtraHosts GroupAdd IpcMode Cgroup Links
    OomScoreAdj PidMode Privileged PublishAllPorts ReadonlyRootfs SecurityOpt UTSMode UsernsMode ShmSize Runtime
    ConsoleSize Isolation CpuShares Memory NanoCpus CgroupParent BlkioWeight BlkioWeightDevice BlkioDeviceReadBps
    BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps CpuPeriod CpuQuota CpuRealtimePeriod
    CpuRealtimeRuntime CpusetCpus CpusetMems Devices DeviceCgroupRules DeviceRequests MemoryReservation MemorySwap
    MemorySwappiness OomKillDisable PidsLimit Ulimits CpuCount CpuPercent IOMaximumIOps IOMaximumBandwidth
    MaskedPaths ReadonlyPaths""".split())
NETWORK_SETTINGS_KEYS = set("""Bridge SandboxID SandboxKey Ports HairpinMode LinkLocalIPv6Address
    LinkLocalIPv6PrefixLen SecondaryIPAddresses SecondaryIPv6Addresses EndpointID Gateway GlobalIPv6Address
    GlobalIPv6PrefixLen IPAddress IPPrefixLen IPv6Gateway MacAddress Networks""".split())
ENDPOINT_KEYS = set("""IPAMConfig Links Aliases MacAddress DriverOpts NetworkID EndpointID Gateway IPAddress
    IPPrefixLen IPv6Gateway GlobalIPv6Address GlobalIPv6PrefixLen""".split())
IMAGE_KEYS = set("""Id RepoTags RepoDigests Parent Comment Created DockerVersion Author Config Architecture Os Size
    GraphDriver RootFS Metadata""".split())
NETWORK_KEYS = set("""Name Id Created Scope Driver EnableIPv6 IPAM Internal Attachable Ingress ConfigFrom ConfigOnly
    Containers Options Labels""".split())
VOLUME_KEYS = {"CreatedAt", "Driver", "Labels", "Mountpoint", "Name", "Options", "Scope"}


def test_container_document(docker):
    docker("create", "--name", "plain", "busybox", "sleep", "100")
    c = docker.inspect("plain")
    for document, keys in ((c, CONTAINER_KEYS), (c["State"], STATE_KEYS), (c["Config"], CONFIG_KEYS),
                           (c["HostConfig"], HOST_KEYS), (c["NetworkSettings"], NETWORK_SETTINGS_KEYS),
                           (c["NetworkSettings"]["Networks"]["bridge"], ENDPOINT_KEYS)):
        assert keys - set(document) == set()
    host = c["HostConfig"]
    assert host["LogConfig"] == {"Type": "json-file", "Config": {}}
    assert host["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
    assert (host["IpcMode"], host["ShmSize"], host["NetworkMode"]) == ("private", 64 << 20, "bridge")
    assert host["CgroupnsMode"] in ("host", "private")
    assert host["Runtime"]
    assert (host["PidsLimit"], host["MemorySwappiness"]) == (None, None)
    assert MASKED <= set(host["MaskedPaths"]) and host["ReadonlyPaths"] == READONLY
    assert c["Config"]["Volumes"] is None
    assert (c["Path"], c["Args"], c["State"]["Status"]) == ("sleep", ["100"], "created")
    assert {"LowerDir", "UpperDir", "WorkDir", "MergedDir"} <= set(c["GraphDriver"]["Data"])


def test_running_container_document(docker, daemon):
    docker("network", "create", "own")
    docker("run", "-d", "--name", "ctr", "--network", "own", "--network-alias", "al", "--stop-signal", "KILL",
           "--expose", "99", "-v", "/tmp:/ro:ro", "-v", "vol1:/vol", "-v", "/anon", "--memory", "64m",
           "busybox", "sleep", "100")
    c = docker.inspect("ctr")
    assert {m["Destination"]: m["Mode"] for m in c["Mounts"]} == {"/ro": "ro", "/vol": "z", "/anon": ""}
    settings = c["NetworkSettings"]
    assert settings["SandboxID"] and settings["SandboxKey"]
    endpoint = settings["Networks"]["own"]
    assert endpoint["Aliases"] == ["al"]
    assert endpoint["DNSNames"] == ["ctr", "al", c["Id"][:12]]
    assert settings["Ports"] == {"99/tcp": None}
    assert c["HostConfig"]["Memory"] == 64 << 20
    sized = docker.json("inspect", "-s", "ctr")[0]
    assert sized["SizeRootFs"] > sized["SizeRw"] >= 0


def test_other_documents(docker):
    docker("network", "create", "n")
    docker("volume", "create", "vol")
    network = docker.json("network", "inspect", "n")[0]
    assert NETWORK_KEYS - set(network) == set() and network["IPAM"]["Options"] == {}
    bridge = docker.json("network", "inspect", "bridge")[0]
    assert bridge["Options"]["com.docker.network.bridge.default_bridge"] == "true"
    assert set(docker.json("volume", "inspect", "vol")[0]) == VOLUME_KEYS
    image = docker.json("image", "inspect", "busybox")[0]
    assert IMAGE_KEYS - set(image) == set()
    info = docker.json("info", "--format", "{{json .}}")
    assert info["DriverStatus"][0][0] == "Backing Filesystem"
    assert info["RegistryConfig"]["IndexConfigs"]["docker.io"]["Official"] is True


def test_members_by_version(daemon, image):
    """VirtualSize went with 1.44, EnableIPv4 came with 1.47."""
    assert "VirtualSize" in daemon.request("GET", "/v1.41/images/json")[1][0]
    assert "VirtualSize" not in daemon.request("GET", "/v1.47/images/json")[1][0]
    assert "EnableIPv4" not in daemon.request("GET", "/v1.41/networks")[1][0]
    assert "EnableIPv4" in daemon.request("GET", "/v1.47/networks")[1][0]


# ---- lists ----


def test_ps(docker, sleeper):
    docker("create", "--name", "quoted", "busybox", "sh", "-c", "echo a")
    assert docker("ps", "-a", "--format", "{{.Command}}", "--filter", "name=^/quoted$") == "\"sh -c 'echo a'\"\n"
    assert "(virtual " in docker("ps", "-s", "--format", "{{.Size}}")
    docker("run", "-d", "--name", "ports", "-p", "127.0.0.1:18931:80", "--expose", "99", "--stop-signal", "KILL",
           "busybox", "sleep", "100")
    for query, names in (("publish=18931", ["ports"]), ("publish=80", []), ("publish=81", []),
                         ("expose=99", ["ports"]), ("expose=90-99/tcp", ["ports"]), ("expose=99/udp", []),
                         ("name=sl[e]+per", ["sleeper"]), ("name=leep", ["sleeper"])):
        assert docker.lines("ps", "--filter", query, "--format", "{{.Names}}") == names, query
    assert 'strconv.Atoi: parsing "x": invalid syntax' in docker("ps", "--filter", "exited=x", code=1).err
    for bad in ("status=bogus", "health=bogus", "bogus=1"):
        assert "invalid filter" in docker("ps", "--filter", bad, code=1).err


def test_system(docker):
    docker("run", "--name", "writer", "-v", "data:/v", "busybox", "sh", "-c",
           "head -c 5000 /dev/zero > /v/f; head -c 100000 /dev/zero > /f")
    assert "5kB" in docker("system", "df", "-v")
    assert "Total reclaimed space: 1" in docker("container", "prune", "-f")
    assert "Total reclaimed space: 0B" in docker("system", "prune", "-f")
    assert docker("plugin", "ls").splitlines()[0].startswith("ID")


# ---- wording ----

FAILURES = [
    (["rmi", "nosuch"], 1, "No such image: nosuch"),
    (["tag", "nosuch", "x"], 1, "No such image: nosuch:latest"),
    (["history", "nosuch:1"], 1, "No such image: nosuch:1"),
    (["images", "-f", "before=nosuch"], 1, "No such image: nosuch:latest"),
    (["kill", "nosuch"], 1, "annot kill container: nosuch: No such container: nosuch"),
    (["network", "create", "bridge"], 1, "operation is not permitted on predefined bridge network"),
    (["network", "create", "-d", "bogus", "x"], 1, 'plugin "bogus" not found'),
    (["volume", "create", "bad name"], 1, 'create bad name: "bad name" includes invalid characters'),
    (["volume", "create", "x"], 1, "create x: volume name is too short"),
    (["run", "--rm", "--volumes-from", "nosuch", "busybox"], 125, "No such container: nosuch"),
    (["run", "--rm", "--cpus", "1000", "busybox"], 125, "ange of CPUs is from 0.01 to"),
    (["run", "--rm", "--health-cmd", "x", "--health-interval", "1us", "busybox"], 125,
     "Interval in Healthcheck cannot be less than 1ms"),
    (["run", "--rm", "--log-driver", "nosuch", "busybox"], 125,
     'error looking up logging plugin nosuch: plugin "nosuch" not found'),
    (["network", "connect", "host", "sleeper"], 1,
     "container cannot be disconnected from host network or connected to host network"),
    (["network", "disconnect", "bridge", "nosuch"], 1, "No such container: nosuch"),
    (["network", "connect", "nosuch", "sleeper"], 1, "network nosuch not found"),
]


def test_wording(docker, sleeper):
    for command, code, words in FAILURES:
        assert words in docker(*command, code=code).err, command
    whole = docker.inspect(sleeper)["Id"]
    assert f"Container {whole} is not paused" in docker("unpause", sleeper, code=1).err


def test_address_on_default_network(daemon, image):
    """Docker 28's client files the endpoint under "default"; 20.10's leaves it out."""
    for name in ("default", "bridge"):
        body = {"Image": "busybox", "HostConfig": {"NetworkMode": "default"}, "NetworkingConfig": {
            "EndpointsConfig": {name: {"IPAMConfig": {"IPv4Address": "1.2.3.4"}}}}}
        status, reply = daemon.request("POST", "/v1.47/containers/create", body)
        assert status == 400 and "user specified IP address is supported on user defined" in reply["message"]


def test_health_log(docker):
    docker("run", "-d", "--name", "sick", "--health-cmd", "exit 2", "--health-interval", "100ms", "--health-retries",
           "2", "--stop-signal", "KILL", "busybox", "sleep", "100")
    docker("run", "-d", "--name", "slow", "--health-cmd", "sleep 9", "--health-interval", "100ms",
           "--health-timeout", "100ms", "--health-retries", "1", "--stop-signal", "KILL", "busybox", "sleep", "100")
    health = until(lambda: (h := docker.inspect("sick")["State"]["Health"])["Status"] == "unhealthy" and h)
    assert health["FailingStreak"] >= 2 and len(health["Log"]) >= 2
    assert set(health["Log"][0]) == {"Start", "End", "ExitCode", "Output"}
    assert [r["ExitCode"] for r in health["Log"]] == [2] * len(health["Log"])
    health = until(lambda: (h := docker.inspect("slow")["State"]["Health"])["Status"] == "unhealthy" and h)
    assert health["Log"][0]["ExitCode"] == -1
    assert health["Log"][0]["Output"] == "Health check exceeded timeout (100ms)"
    assert until(lambda: len(docker.inspect("sick")["State"]["Health"]["Log"]) == 5)


def test_image_with_several_names(docker):
    docker("tag", "busybox", "second")
    image = docker("images", "-q", "--filter", "reference=second").split()[0]
    assert "must be forced) - image is referenced in multiple repositories" in docker("rmi", image, code=1).err
    docker("rmi", "second")


def test_network_events(docker, daemon):
    docker("network", "create", "evn")
    docker("network", "rm", "evn")
    events = docker.lines("events", "--since", "1h", "--until", f"{time.time() + 0.2:.3f}", "--filter", "type=network",
                          "--filter", "network=evn", "--format", "{{.Action}} {{.Actor.Attributes.name}}")
    assert events == ["create evn", "destroy evn"]
