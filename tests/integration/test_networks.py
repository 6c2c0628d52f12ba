# SPDX-License-Identifier: Apache-2.0
"""Networks by Debian's docker client and the raw API: addresses, names, isolation, live connections, published
ports of all kinds, and what a restart of the daemon or foreign hands on the firewall do to them."""

import contextlib
import json
import os
import re
import socket
import struct
import subprocess
import threading
import time

import pytest

from harness import DOCKER, background, links, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists(DOCKER), reason="needs root and docker.io")

SERVER = "while :; do echo served | nc -l -p 80; done"


@pytest.fixture(autouse=True)
def no_leaks(daemon, image):
    """Nothing of a user's networks outlives them. (Other daemons on this host have theirs.)"""
    yield
    assert daemon.alive(), "kistld has died:\n" + daemon.log()[-4000:]
    mine = {"kb-" + n["Id"][:10] for n in api(daemon, "GET", "/networks")} | {"kb-doc"}
    daemon.clean(images=False)

    def left():
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout
        return mine & ({link["ifname"] for link in links()} | set(re.findall(r"table \S+ (\S+)", tables)))

    assert until(lambda: not left()), left()
    assert not [f for f in os.listdir(daemon.state / "network") if f.endswith(".json")]


def run(docker, name, *args, command=("sleep", "1000")):
    return docker("run", "-d", "--name", name, "--stop-signal", "KILL", *args, "busybox", *command).strip()


def api(daemon, method, path, body=None, status=200):
    got, reply = daemon.request(method, path, body)
    assert got == status, (method, path, got, reply)
    return reply


def settings(docker, name, network):
    return docker.inspect(name)["NetworkSettings"]["Networks"][network]


def read(address, port, seconds=5):
    try:
        with socket.create_connection((address, port), seconds) as s:
            s.settimeout(seconds)
            return s.recv(100)
    except OSError:
        return b""


@contextlib.contextmanager
def inside(docker, name, program):
    """A Python program in the container's network namespace; it says "ready" when it is."""
    p = subprocess.Popen(["nsenter", "-t", docker.inspect(name, "{{.State.Pid}}"), "-n", "/usr/bin/python3", "-c", program],
                         stdout=subprocess.PIPE)
    try:
        assert p.stdout.readline() == b"ready\n"
        yield
    finally:
        p.kill()
        p.wait()
        p.stdout.close()


ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 53))
print("ready", flush=True)
while True:
    data, peer = s.recvfrom(1000)
    s.sendto(data, peer)
"""

DUAL = """
import socket
s = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    c, _ = s.accept()
    c.sendall(b"served\\n")
    c.close()
"""


def served(address, port):
    return until(lambda: read(address, port) == b"served\n", 10)


def lookup(docker, name, what, kind="a"):
    """Addresses that a container finds."""
    out = docker("exec", name, "nslookup", f"-type={kind}", what, code=None)
    return set(re.findall(r"^Address: (\S+)$", out, re.M))


# ---- making networks ----


def test_document(daemon):
    body = {"Name": "doc", "Driver": "bridge", "Internal": False, "Attachable": True, "EnableIPv6": True,
            "IPAM": {"Driver": "default", "Options": {"o": "p"}, "Config": [
                {"Subnet": "10.91.0.0/16", "IPRange": "10.91.5.0/24", "Gateway": "10.91.0.254",
                 "AuxiliaryAddresses": {"router": "10.91.5.1"}},
                {"Subnet": "fd91::/64"}]},
            "Options": {"com.docker.network.bridge.name": "kb-doc", "com.docker.network.driver.mtu": "1400",
                        "com.docker.network.bridge.enable_icc": "false"},
            "Labels": {"a": "b"}}
    made = api(daemon, "POST", "/v1.47/networks/create", body, 201)
    assert made["Warning"] == ""
    doc = api(daemon, "GET", f"/v1.47/networks/{made['Id'][:12]}")
    for key in ("Name", "Driver", "Internal", "Attachable", "EnableIPv6", "Options", "Labels"):
        assert doc[key] == body[key], key
    assert doc["EnableIPv4"] is True and doc["Scope"] == "local" and doc["Containers"] == {}
    assert doc["IPAM"] == {"Driver": "default", "Options": {"o": "p"},
                           "Config": [body["IPAM"]["Config"][0], {"Subnet": "fd91::/64", "Gateway": "fd91::1"}]}
    link = next(x for x in links() if x["ifname"] == "kb-doc")
    assert link["mtu"] == 1400
    shown = subprocess.run(["ip", "addr", "show", "kb-doc"], capture_output=True, text=True).stdout
    assert "10.91.0.254/16" in shown and "fd91::1/64" in shown
    api(daemon, "GET", "/v1.47/networks/doc?verbose=maybe", status=400)
    assert "Services" in api(daemon, "GET", "/v1.47/networks/doc?verbose=1")
    api(daemon, "DELETE", "/v1.47/networks/doc", status=204)
    api(daemon, "GET", "/v1.47/networks/doc", status=404)


BAD = [
    ({"Name": ""}, 400, "network name is required"),
    ({"Name": "host"}, 403, "operation is not permitted on predefined host network"),
    ({"Name": "x", "Driver": "bogus"}, 404, 'plugin "bogus" not found'),
    ({"Name": "x", "Driver": "host"}, 403, 'only one instance of "host" network is allowed'),
    ({"Name": "x", "Driver": "overlay"}, 503, "This node is not a swarm manager"),
    ({"Name": "x", "IPAM": {"Config": [{"Subnet": "10.0.0.1/24"}]}}, 400, "it should be 10.0.0.0/24"),
    ({"Name": "x", "IPAM": {"Config": [{"Subnet": "bad"}]}}, 400, "invalid CIDR block notation"),
    ({"Name": "x", "IPAM": {"Config": [{"Subnet": "10.92.0.0/24", "Gateway": "10.93.0.1"}]}}, 400,
     "parent subnet 10.92.0.0/24 doesn't contain this address"),
    ({"Name": "x", "IPAM": {"Config": [{"Subnet": "10.92.0.0/24"}, {"Subnet": "10.92.0.0/25"}]}}, 403,
     "Pool overlaps with other one on this address space"),
    ({"Name": "x", "IPAM": {"Driver": "dhcp"}}, 404, 'plugin "dhcp" not found'),
    ({"Name": "x", "Options": {"com.docker.network.bridge.enable_icc": "maybe"}}, 400, "enable_icc"),
    ({"Name": "x", "Options": {"com.docker.network.driver.mtu": "-1"}}, 400, "mtu"),
    ({"Name": "x", "Driver": "macvlan", "Options": {"macvlan_mode": "odd"}}, 400,
     "requested macvlan mode 'odd' is not valid"),
    ({"Name": "x", "Driver": "ipvlan", "Options": {"parent": "nosuch0.9999"}}, 400, "nosuch0.9999"),
]


@pytest.mark.parametrize("body,status,words", BAD)
def test_bad_networks(daemon, body, status, words):
    reply = api(daemon, "POST", "/v1.47/networks/create", body, status)
    assert words in reply["message"]
    assert [n for n in api(daemon, "GET", "/networks") if n["Name"] == "x"] == []


def test_list_filters_and_prune(docker, daemon):
    docker("network", "create", "--label", "k=v", "one")
    docker("network", "create", "--internal", "two")
    docker("create", "--name", "user", "--network", "two", "busybox")

    def names(*filters):
        args = [a for f in filters for a in ("--filter", f)]
        return sorted(docker.lines("network", "ls", "--format", "{{.Name}}", *args))

    assert names() == ["bridge", "host", "none", "one", "two"]
    assert names("type=custom") == ["one", "two"] and names("type=builtin") == ["bridge", "host", "none"]
    assert names("driver=bridge") == ["bridge", "one", "two"] and names("driver=null") == ["none"]
    assert names("label=k") == names("label=k=v") == names("name=on", "label=k") == ["one"]
    assert names("dangling=true") == ["one"] and names("dangling=false") == ["bridge", "host", "none", "two"]
    assert names("scope=swarm") == [] and names("id=" + docker("network", "ls", "-q", "-f", "name=two").strip()) == ["two"]
    assert "nvalid" in docker("network", "ls", "--filter", "type=odd", code=1).err
    assert "one" in docker("network", "prune", "-f", "--filter", "label=k=v")
    assert names("type=custom") == ["two"]
    docker("rm", "user")
    assert "two" in docker("network", "prune", "-f")


# ---- addresses ----


def test_static_addresses_of_both_families(docker, daemon):
    docker("network", "create", "--ipv6", "--subnet", "10.94.0.0/24", "--subnet", "fd94::/64", "six")
    run(docker, "aa", "--network", "six", "--ip", "10.94.0.77", "--ip6", "fd94::77", "--mac-address", "02:42:0a:5e:00:99")
    run(docker, "bb", "--network", "six")
    s = settings(docker, "aa", "six")
    assert (s["IPAddress"], s["GlobalIPv6Address"], s["MacAddress"]) == ("10.94.0.77", "fd94::77", "02:42:0a:5e:00:99")
    assert (s["Gateway"], s["IPv6Gateway"], s["IPPrefixLen"], s["GlobalIPv6PrefixLen"]) == ("10.94.0.1", "fd94::1", 24, 64)
    assert s["IPAMConfig"] == {"IPv4Address": "10.94.0.77", "IPv6Address": "fd94::77"}
    for address in ("10.94.0.77", "fd94::77"):
        assert "0% packet loss" in docker("exec", "bb", "ping", "-c", "1", "-W", "5", address)
    assert lookup(docker, "bb", "aa") == {"10.94.0.77"} and lookup(docker, "bb", "aa", "aaaa") == {"fd94::77"}
    assert "default via fd94::1" in docker("exec", "bb", "ip", "-6", "route")
    members = docker.json("network", "inspect", "six")[0]["Containers"]
    assert {m["Name"]: m["IPv6Address"] for m in members.values()}["aa"] == "fd94::77/64"
    for flags, words in ((["--ip", "10.94.0.77"], "Address already in use"),
                         (["--ip", "10.95.0.2"], "no configured subnet"), (["--ip", "x"], "invalid")):
        assert words in docker("run", "--rm", "--network", "six", *flags, "busybox", "true", code=125).err
    docker("network", "create", "chosen")
    assert "only when connecting to networks with user configured subnets" in \
        docker("run", "--rm", "--network", "chosen", "--ip", "172.18.0.9", "busybox", "true", code=125).err
    daemon.restart(kill=True)
    assert settings(docker, "aa", "six") == s
    docker("restart", "aa")
    assert settings(docker, "aa", "six")["GlobalIPv6Address"] == "fd94::77"


# ---- names ----


def test_names(docker):
    docker("network", "create", "mine")
    docker("network", "create", "other")
    run(docker, "web", "--network", "mine", "--network-alias", "front", "--network-alias", "shared", "-h", "hosty")
    run(docker, "db", "--network", "mine", "--network-alias", "shared", "--link", "web:linked")
    run(docker, "far", "--network", "other", "--network-alias", "hidden")
    web, db = (settings(docker, n, "mine")["IPAddress"] for n in ("web", "db"))
    short = docker.inspect("web")["Id"][:12]
    for name in ("web", "WEB", "front", "hosty", short, "web.mine", "linked"):
        assert lookup(docker, "db", name) == {web}, name
    assert lookup(docker, "db", "shared") == {web, db}
    assert lookup(docker, "web", "linked") == lookup(docker, "db", "far") == lookup(docker, "db", "hidden") == set()
    # A name that there is has no address of the other family, which is no error.
    assert "NXDOMAIN" not in docker("exec", "db", "nslookup", "-type=aaaa", "web", code=None)
    assert f"name = web.mine" in docker("exec", "db", "nslookup", web)
    assert "0% packet loss" in docker("exec", "db", "ping", "-c", "1", "-W", "5", "web")
    assert docker("exec", "web", "cat", "/etc/resolv.conf").startswith("nameserver 127.0.0.11\n")
    docker("rename", "web", "www")
    assert lookup(docker, "db", "www") == {web} and lookup(docker, "db", "web") == set()
    docker("rm", "-f", "www")
    assert lookup(docker, "db", "www") == set() and lookup(docker, "db", "shared") == {db}
    # Port 53 stays the container's own.
    docker("exec", "-d", "db", "nc", "-l", "-p", "53", "-e", "cat")
    assert until(lambda: docker("exec", "db", "sh", "-c", "echo x | nc -w 2 127.0.0.1 53", code=None) == "x\n")


def dns_server(address, answer):
    """A name server for UDP and TCP in this process: every A query gets one address; one name is refused."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket()
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    udp.bind((address, 53))
    tcp.bind((address, 53))
    tcp.listen(8)

    def reply(query, by_tcp):
        end = query.index(b"\0", 12) + 5
        if b"truncated" in query and not by_tcp:
            return query[:2] + b"\x83\x80\0\1\0\0\0\0\0\0" + query[12:end]
        if b"missing" in query:
            return query[:2] + b"\x81\x83\0\1\0\0\0\0\0\0" + query[12:end]
        return (query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:end] + b"\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4"
                + socket.inet_aton(answer))

    def serve_udp():
        with contextlib.suppress(OSError):
            while True:
                query, peer = udp.recvfrom(4096)
                if b"silent" not in query:
                    udp.sendto(reply(query, False), peer)

    def serve_tcp():
        with contextlib.suppress(OSError):
            while True:
                s, _ = tcp.accept()
                with s:
                    (n,) = struct.unpack(">H", s.recv(2))
                    out = reply(s.recv(n), True)
                    s.sendall(struct.pack(">H", len(out)) + out)

    for f in (serve_udp, serve_tcp):
        threading.Thread(target=f, daemon=True).start()
    return lambda: [(s.shutdown(socket.SHUT_RDWR) if s is tcp else None, s.close()) for s in (tcp, udp)]


QUERY = """
import socket, struct, sys
q, tcp = bytes.fromhex(sys.argv[1]), sys.argv[2] == "True"
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
s.settimeout(20)
s.connect(("127.0.0.11", 53))
s.sendall(struct.pack(">H", len(q)) + q if tcp else q)
print(s.recv(4096)[2 if tcp else 0:].hex())
"""


def raw_query(docker, name, what, tcp):
    """The answer's bytes, as a process of the container's namespace gets them."""
    q = b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + b"".join(bytes([len(x)]) + x.encode() for x in what.split(".")) + b"\0\0\1\0\1"
    out = subprocess.run(["nsenter", "-t", docker.inspect(name, "{{.State.Pid}}"), "-n", "/usr/bin/python3", "-c", QUERY,
                          q.hex(), str(tcp)], capture_output=True, text=True, check=True).stdout
    return bytes.fromhex(out.strip())


def test_forwarding(docker, daemon):
    docker("network", "create", "--subnet", "10.95.0.0/24", "fwd")
    docker("network", "create", "--internal", "--subnet", "10.96.0.0/24", "shut")
    stop = dns_server("10.95.0.1", "192.0.2.99")
    try:
        run(docker, "asks", "--network", "fwd", "--dns", "10.95.0.1")
        run(docker, "shut", "--network", "shut", "--dns", "10.95.0.1")
        assert lookup(docker, "asks", "some.example") == {"192.0.2.99"}
        assert "NXDOMAIN" in docker("exec", "asks", "nslookup", "-type=a", "missing.example", code=None)
        assert lookup(docker, "asks", "asks") == {"10.95.0.2"}
        for tcp in (False, True):
            assert raw_query(docker, "asks", "asks", tcp)[-4:] == bytes([10, 95, 0, 2])
            assert raw_query(docker, "asks", "some.example", tcp)[-4:] == bytes([192, 0, 2, 99])
        assert raw_query(docker, "asks", "truncated.example", False)[2] & 2
        assert raw_query(docker, "asks", "truncated.example", True)[-4:] == bytes([192, 0, 2, 99])
        assert lookup(docker, "shut", "some.example") == set()
        assert "10.95.0.1" in docker("exec", "asks", "cat", "/etc/resolv.conf")
        daemon.restart(kill=True)
        assert lookup(docker, "asks", "some.example") == {"192.0.2.99"} and lookup(docker, "shut", "shut") == {"10.96.0.2"}
    finally:
        stop()


def test_links_and_extra_hosts_on_the_default_network(docker):
    run(docker, "db", "--expose", "5432", "-e", "PASS=x")
    run(docker, "web", "--link", "db:store", "--add-host", "far:192.0.2.7", "--add-host", "gw:host-gateway")
    hosts = docker("exec", "web", "cat", "/etc/hosts")
    ip = settings(docker, "db", "bridge")["IPAddress"]
    gateway = settings(docker, "web", "bridge")["Gateway"]
    assert re.search(rf"^{ip}\tstore [0-9a-f]{{12}} db$", hosts, re.M) and "192.0.2.7\tfar\n" in hosts
    assert f"{gateway}\tgw\n" in hosts
    env = docker("exec", "web", "env")
    assert f"STORE_PORT_5432_TCP_ADDR={ip}\n" in env and "STORE_ENV_PASS=x\n" in env and "STORE_NAME=/web/store\n" in env
    docker("stop", "-t", "0", "db")
    run(docker, "taker")
    docker("start", "db")
    now = settings(docker, "db", "bridge")["IPAddress"]
    assert now != ip and until(lambda: f"{now}\tstore" in docker("exec", "web", "cat", "/etc/hosts"))
    docker("stop", "-t", "0", "db")
    assert "Cannot link to a non running container: /db AS /w2/db" in \
        docker("run", "--name", "w2", "--link", "db", "busybox", "true", code=125).err
    assert "could not get container for nosuch" in docker("run", "--link", "nosuch", "busybox", "true", code=125).err


# ---- several networks ----


def test_two_networks_from_the_start(daemon, docker):
    for name, subnet in (("na", "10.97.0.0/24"), ("nb", "10.98.0.0/24")):
        docker("network", "create", "--subnet", subnet, name)
    run(docker, "va", "--network", "na")
    run(docker, "vb", "--network", "nb")
    body = {"Image": "busybox", "Cmd": ["sleep", "1000"], "StopSignal": "KILL", "HostConfig": {"NetworkMode": "nb"},
            "NetworkingConfig": {"EndpointsConfig": {
                "na": {"Aliases": ["x"], "GwPriority": 5}, "nb": {"IPAMConfig": {"IPv4Address": "10.98.0.50"}}}}}
    reply = api(daemon, "POST", "/v1.43/containers/create?name=both", body, 400)
    assert "multiple network endpoints: na, nb" in reply["message"]
    api(daemon, "POST", "/v1.47/containers/create?name=both", body, 201)
    assert set(docker.inspect("both")["NetworkSettings"]["Networks"]) == {"na", "nb"}
    docker("start", "both")
    out = docker("exec", "both", "ip", "-o", "addr")
    assert re.search(r"eth0 .*10\.98\.0\.50/24", out) and re.search(r"eth1 .*10\.97\.0\.\d+/24", out)
    assert "default via 10.97.0.1 dev eth1" in docker("exec", "both", "ip", "route")
    both_in_a = settings(docker, "both", "na")["IPAddress"]
    assert lookup(docker, "va", "x") == lookup(docker, "va", "both") == {both_in_a}
    assert lookup(docker, "vb", "both") == {"10.98.0.50"} and lookup(docker, "vb", "x") == set()
    assert "0% packet loss" in docker("exec", "va", "ping", "-c", "1", "-W", "5", "both")
    assert "0% packet loss" in docker("exec", "both", "ping", "-c", "1", "-W", "5", "vb")
    # The other network is another world.
    assert "100% packet loss" in docker("exec", "va", "ping", "-c", "1", "-W", "1", "10.98.0.50", code=1)
    assert sorted(docker.lines("ps", "--filter", "network=na", "--format", "{{.Names}}")) == ["both", "va"]


def test_connect_and_disconnect(docker, daemon):
    docker("network", "create", "--subnet", "10.99.0.0/24", "live")
    run(docker, "c1")
    run(docker, "c2", "--network", "live")
    docker("create", "--name", "later", "--stop-signal", "KILL", "busybox", "sleep", "1000")
    docker("network", "connect", "--ip", "10.99.0.40", "--alias", "forty", "live", "c1")
    assert "10.99.0.40/24" in docker("exec", "c1", "ip", "addr", "show", "eth1")
    assert lookup(docker, "c2", "forty") == {"10.99.0.40"} and lookup(docker, "c1", "c2") == {"10.99.0.2"}
    assert "10.99.0.40\t" in docker("exec", "c1", "cat", "/etc/hosts")
    assert "already exists in network live" in docker("network", "connect", "live", "c1", code=1).err
    docker("network", "connect", "--alias", "soon", "live", "later")
    assert settings(docker, "later", "live")["Aliases"] == ["soon"] and settings(docker, "later", "live")["IPAddress"] == ""
    daemon.restart(kill=True)
    docker("start", "later")
    assert lookup(docker, "c2", "soon") == {settings(docker, "later", "live")["IPAddress"]}
    docker("network", "disconnect", "live", "c1")
    assert "eth1" not in docker("exec", "c1", "ip", "-o", "link") and lookup(docker, "c2", "forty") == set()
    assert "is not connected to network live" in docker("network", "disconnect", "live", "c1", code=1).err
    docker("network", "disconnect", "-f", "live", "later")
    assert list(docker.inspect("later")["NetworkSettings"]["Networks"]) == ["bridge"]
    run(docker, "hosty", "--network", "host")
    assert "host network" in docker("network", "connect", "live", "hosty", code=1).err
    run(docker, "joined", "--network", "container:c1")
    assert "sharing network namespace" in docker("network", "connect", "live", "joined", code=1).err
    assert "user specified IP address is supported on user defined networks only" in \
        docker("network", "connect", "--ip", "1.2.3.4", "bridge", "c2", code=1).err
    assert "has active endpoints" in docker("network", "rm", "live", code=1).err
    events = docker.lines("events", "--since", "1h", "--until", f"{time.time() + 0.2:.3f}", "--filter",
                          "type=network", "--filter", "event=disconnect", "--format", "{{.Actor.Attributes.name}}")
    assert events.count("live") >= 1


def test_default_route_follows_the_networks(docker):
    for name in ("ga", "gb", "gc"):
        docker("network", "create", *(["--internal"] if name == "ga" else []), name)
    run(docker, "rr", "--network", "ga")
    assert "default" not in docker("exec", "rr", "ip", "route") and settings(docker, "rr", "ga")["Gateway"] == ""
    docker("network", "connect", "gc", "rr")
    assert f"default via {settings(docker, 'rr', 'gc')['Gateway']}" in docker("exec", "rr", "ip", "route")
    docker("network", "connect", "gb", "rr")
    assert f"default via {settings(docker, 'rr', 'gb')['Gateway']}" in docker("exec", "rr", "ip", "route")
    docker("network", "disconnect", "gb", "rr")
    assert f"default via {settings(docker, 'rr', 'gc')['Gateway']}" in docker("exec", "rr", "ip", "route")
    docker("network", "disconnect", "gc", "rr")
    assert "default" not in docker("exec", "rr", "ip", "route")


def test_internal_network_has_no_way_out(docker):
    docker("network", "create", "--internal", "--subnet", "10.100.0.0/24", "in")
    docker("network", "create", "--subnet", "10.101.0.0/24", "out")
    run(docker, "shut", "--network", "in")
    run(docker, "mate", "--network", "in")
    run(docker, "open", "--network", "out", command=("sh", "-c", SERVER))
    assert "0% packet loss" in docker("exec", "shut", "ping", "-c", "1", "-W", "5", "mate")
    assert docker("exec", "shut", "ping", "-c", "1", "-W", "1", "10.101.0.2", code=None).code != 0
    # Not even by a route of its own making.
    run(docker, "sly", "--network", "in", "--cap-add", "NET_ADMIN")
    docker("exec", "sly", "ip", "route", "add", "default", "via", "10.100.0.1")
    assert "100% packet loss" in docker("exec", "sly", "ping", "-c", "1", "-W", "1", "10.101.0.2", code=1)
    assert docker("exec", "sly", "nc", "-w", "1", "10.101.0.2", "80", code=None) == ""


def test_no_talk_between_containers(docker):
    docker("network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "--subnet", "10.102.0.0/24", "mute")
    run(docker, "m1", "--network", "mute")
    run(docker, "m2", "--network", "mute")
    assert "100% packet loss" in docker("exec", "m1", "ping", "-c", "1", "-W", "1", "10.102.0.3", code=1)
    assert "0% packet loss" in docker("exec", "m1", "ping", "-c", "1", "-W", "5", "10.102.0.1")


def test_vlan_drivers(docker, daemon):
    """Only where the kernel has them; else it is the kernel that says so, and nothing stays."""
    subprocess.run(["ip", "link", "add", "kbparent", "type", "dummy"], check=False, capture_output=True)
    has_parent = any(link["ifname"] == "kbparent" for link in links())
    parent = "kbparent" if has_parent else "lo"
    try:
        for driver in ("macvlan", "ipvlan"):
            docker("network", "create", "-d", driver, "-o", f"parent={parent}", "--subnet", "10.103.0.0/24", driver)
            out = docker("run", "--rm", "--network", driver, "busybox", "ip", "addr", "show", "eth0", code=None)
            assert "10.103.0.2/24" in out if out.code == 0 else driver in out.err, out.err
            docker("network", "rm", driver)
    finally:
        if has_parent:
            subprocess.run(["ip", "link", "del", "kbparent"], check=True)


# ---- published ports ----


def host_address():
    """An address of this host that is not loopback."""
    out = json.loads(subprocess.run(["ip", "-j", "-4", "addr"], capture_output=True, check=True).stdout)
    return next(a["local"] for link in out for a in link["addr_info"]
                if a["scope"] == "global" and not link["ifname"].startswith(("kb-", "kistl", "cni")))


def free_ports(n):
    """The first of n consecutive ports that nobody has."""
    for first in range(23000, 30000, n):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + n):
                    stack.enter_context(socket.create_server(("0.0.0.0", port)))
            except OSError:
                continue
            return first
    raise AssertionError("no free ports")


def test_tcp_ports_of_all_kinds(docker):
    p = free_ports(10)
    host = host_address()
    run(docker, "srv", "-p", f"{p}:80", "-p", f"127.0.0.1:{p + 1}:80", "-p", f"{host}:{p + 2}:80", "-p", "80", "-p",
        f"{p + 3}-{p + 5}:80-82", command=("sh", "-c", SERVER))
    ephemeral = [int(x.rsplit(":", 1)[1]) for x in docker.lines("port", "srv", "80")
                 if x.startswith("0.0.0.0") and int(x.rsplit(":", 1)[1]) not in range(p, p + 10)]
    assert len(ephemeral) == 1
    for address, port in ((host, p), ("127.0.0.1", p), ("127.0.0.1", p + 1), (host, p + 2), ("127.0.0.1", ephemeral[0]),
                          ("127.0.0.1", p + 3)):
        assert served(address, port), (address, port)
    assert read(host, p + 1, 1) == b"" and read("127.0.0.1", p + 2, 1) == b""
    assert f"82/tcp -> 0.0.0.0:{p + 5}\n" in docker("port", "srv")
    # From a container, itself included, through the host's address.
    run(docker, "cli")
    for name in ("srv", "cli"):
        assert docker("exec", name, "nc", "-w", "5", host, p) == "served\n"
    # Nobody gets at the host's loopback through the bridge.
    docker("run", "--rm", "--cap-add", "NET_ADMIN", "busybox", "sh", "-c",
           f"ip route add 127.99.0.0/16 via $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'); nc -w 1 127.99.0.1 {p}",
           code=None)
    for flags, words in ((["-p", f"{p}:1"], f"Bind for 0.0.0.0:{p} failed: port is already allocated"),
                         (["-p", f"127.0.0.1:{p}:1"], "port is already allocated")):
        assert words in docker("run", "--rm", *flags, "busybox", "true", code=125).err
    with socket.create_server(("127.0.0.1", p + 6)):
        assert "address already in use" in docker("run", "--rm", "-p", f"{p + 6}:1", "busybox", "true", code=125).err
        # The first of a range that is free.
        run(docker, "range", "-p", f"{p + 6}-{p + 8}:80")
        assert docker("port", "range", "80").strip() == f"0.0.0.0:{p + 7}"
    with pytest.raises(OSError):  # the port is the container's
        socket.create_server(("127.0.0.1", p)).close()
    docker("rm", "-f", "srv", "range")
    socket.create_server(("127.0.0.1", p)).close()


def test_udp_and_sctp_ports(docker):
    p = free_ports(3)
    run(docker, "uu", "-p", f"{p}:53/udp", "-p", f"{p}:80/tcp", "-p", f"{p + 1}:81/sctp")

    def echo(address):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(1)
            try:
                s.sendto(b"ping", (address, p))
                return s.recv(100) == b"ping"
            except OSError:
                return False

    with inside(docker, "uu", ECHO):
        assert until(lambda: echo("127.0.0.1")) and until(lambda: echo(host_address()))
    assert f"81/sctp -> 0.0.0.0:{p + 1}" in docker("port", "uu")


def test_ports_of_both_families(docker):
    docker("network", "create", "--ipv6", "--subnet", "10.104.0.0/24", "--subnet", "fd04::/64", "dual")
    p = free_ports(2)
    run(docker, "dd", "--network", "dual", "-p", f"{p}:80", "-p", f"[::1]:{p + 1}:80")
    assert {b["HostIp"] for b in docker.inspect("dd")["NetworkSettings"]["Ports"]["80/tcp"]} == {"0.0.0.0", "::", "::1"}
    with inside(docker, "dd", DUAL):
        for address, port in (("127.0.0.1", p), ("fd04::1", p), ("fd04::2", 80)):
            assert served(address, port), (address, port)


def test_publish_all(docker):
    run(docker, "all", "-P", "--expose", "80", "--expose", "90-91/udp", command=("sh", "-c", SERVER))
    ports = docker.inspect("all")["NetworkSettings"]["Ports"]
    assert set(ports) == {"80/tcp", "90/udp", "91/udp"} and all(ports.values())
    assert served("127.0.0.1", int(ports["80/tcp"][0]["HostPort"]))


def test_ports_move_with_the_gateway(docker):
    docker("network", "create", "aaa")
    docker("network", "create", "zzz")
    p = free_ports(1)
    run(docker, "mv", "--network", "zzz", "-p", f"{p}:80", command=("sh", "-c", SERVER))
    assert served("127.0.0.1", p)
    docker("network", "connect", "aaa", "mv")
    assert served("127.0.0.1", p)
    docker("network", "disconnect", "zzz", "mv")
    assert served("127.0.0.1", p)
    docker("network", "disconnect", "aaa", "mv")
    assert read("127.0.0.1", p, 1) == b""
    docker("network", "connect", "zzz", "mv")
    assert served("127.0.0.1", p)


def test_ten_thousand_requests_through_a_restart(docker, daemon):
    """Each on a connection of its own, while kistld is killed and comes back, twice: none is lost."""
    p = free_ports(1)
    run(docker, "load", "-p", f"{p}:80", command=(
        "sh", "-c", "mkdir /w && echo hello > /w/index.html && exec httpd -f -p 80 -h /w"))
    request = b"GET / HTTP/1.0\r\n\r\n"

    def one():
        with socket.create_connection(("127.0.0.1", p), 30) as s:
            s.settimeout(30)
            s.sendall(request)
            data = b""
            while chunk := s.recv(4096):
                data += chunk
        assert data.endswith(b"hello\n"), data

    def many():
        for _ in range(2500):
            one()
        return True

    def answers():
        with contextlib.suppress(OSError, AssertionError):
            one()
            return True

    assert until(answers)
    workers = [background(many) for _ in range(4)]
    for _ in range(2):
        daemon.restart(kill=True)
    restarts = 2
    while any(w.is_alive() for w in workers) and restarts < 6:
        daemon.restart(kill=True)
        restarts += 1
    assert all(w.result(100) for w in workers)
    docker("stop", "-t", "0", "load")
    docker("start", "load")


# ---- foreign hands: in a network namespace of the daemon's own, with another one as its neighbour ----


@pytest.fixture
def apart(fresh, busybox_archive):
    """A daemon in a network of its own, and a function that runs commands there or next door."""
    names = [f"kistl-{os.getpid()}-{x}" for x in ("here", "next")]

    def there(where, *command, check=True):
        return subprocess.run(["nsenter", f"--net=/run/netns/{names[where]}", *command], capture_output=True, text=True,
                              check=check, timeout=60).stdout

    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
        there(0, "ip", "link", "add", "out", "type", "veth", "peer", "name", "out", "netns", names[1])
        for where in (0, 1):
            for link in ("lo", "out"):
                there(where, "ip", "link", "set", link, "up")
            there(where, "ip", "addr", "add", f"203.0.113.{where + 1}/24", "dev", "out")
        d = fresh(prefix=["nsenter", f"--net=/run/netns/{names[0]}"])
        d.client("load", "-q", "-i", busybox_archive)
        yield d, there
        d.clean(images=False)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


CONNECT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 3) as s:
    s.settimeout(3)
    print(s.recv(100).decode().strip())
"""


def test_rules_come_back_after_a_flush(apart):
    d, there = apart
    d.docker("network", "create", "own")
    for name, network, port in (("fl1", "bridge", 8081), ("fl2", "own", 8082)):
        run(d.docker, name, "--network", network, "-p", f"{port}:80", command=("sh", "-c", SERVER))

    def reached():
        return all("served" in there(where, "/usr/bin/python3", "-c", CONNECT, address, port, check=False)
                   for where, address in ((0, "127.0.0.1"), (1, "203.0.113.1")) for port in ("8081", "8082"))

    assert until(reached)
    there(0, "nft", "flush", "ruleset")
    assert until(reached), "published ports do not come back"
    table = next(t for t in there(0, "nft", "list", "tables").splitlines() if "kb-" in t)
    there(0, "nft", "flush", *table.split())
    assert until(reached), "a flushed table does not come back"
    there(0, "nft", "delete", *table.split())
    assert until(reached), "a deleted table does not come back"
    d.kill9()
    there(0, "nft", "flush", "ruleset")
    d.start()
    assert until(reached), "the next daemon does not make the rules again"


def test_forwarding_in_spite_of_iptables(apart):
    d, there = apart
    run(d.docker, "fw", "-p", "8083:80", command=("sh", "-c", SERVER))

    def works():
        return ("served" in there(1, "/usr/bin/python3", "-c", CONNECT, "203.0.113.1", "8083", check=False)
                and "0% packet loss" in d.docker("exec", "fw", "ping", "-c", "1", "-W", "2", "203.0.113.2", code=None))

    assert until(works)
    there(0, "iptables", "-P", "FORWARD", "DROP")
    assert until(works), "a policy of DROP cuts containers off"
    assert re.search(r"-A FORWARD -j KISTL-\S+", there(0, "iptables", "-S", "FORWARD"))
    there(0, "iptables", "-F")
    assert until(works), "flushing iptables cuts containers off"
    # What is not published is reached from nowhere, in spite of a route.
    ip = d.docker.inspect("fw")["NetworkSettings"]["IPAddress"]
    there(1, "ip", "route", "add", ip, "via", "203.0.113.1")
    assert "served" not in there(1, "/usr/bin/python3", "-c", CONNECT, ip, "80", check=False)
    d.docker("rm", "-f", "fw")
    d.stop()
    assert "KISTL" not in there(0, "iptables", "-S")
    d.start()
