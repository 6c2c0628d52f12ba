# SPDX-License-Identifier: Apache-2.0
"""Pods' networks as an administrator configures them: built-in plugins, binaries, both in one list; plugins that fail,
and what a daemon's death leaves."""

import base64
import json
import socket
import subprocess

import grpc
import pytest

from crinode import POD_NET, Node, cri, load, node, output, own_node  # noqa: F401 (fixtures)
from harness import until


def write_list(node, plugins, version="1.0.0"):
    bridge = {"type": "bridge", "bridge": node.bridge, "isGateway": True, "ipMasq": True,
              "ipam": {"type": "host-local", "dataDir": str(node.daemon.base / "ipam"),
                       "ranges": [[{"subnet": node.subnet}]], "routes": [{"dst": "0.0.0.0/0"}]}}
    network = {"cniVersion": version, "name": "test-" + node.tag, "plugins": [bridge, *plugins]}
    path = node.conf_dir / "10-test.conflist"
    path.write_text(json.dumps(network))
    return network


def wait_loaded(cri, text):
    """Until the daemon has noticed the new list."""
    assert until(lambda: text in cri.Status(verbose=True).info.get("cniconfig", ""), 30)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def fetch(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as s:
            s.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
            s.settimeout(5)
            return b"".join(iter(lambda: s.recv(4096), b""))
    except OSError:
        return b""


def serve(node, cri, port):
    id, config = node.pod(cri, port_mappings=[{"container_port": 80, "host_port": port}], **POD_NET)
    node.run(cri, id, config, command=["sh", "-c", "mkdir /w; echo -n from-pod > /w/hello; exec httpd -f -p 80 -h /w"])
    return id


def test_port_of_host(node, cri):
    port = free_port()
    id = serve(node, cri, port)
    assert until(lambda: b"from-pod" in fetch(port), 30)
    cri.StopPodSandbox(pod_sandbox_id=id)
    assert fetch(port) == b""


def test_list_of_both_kinds(node, cri):
    """A binary between two built-in plugins: each gets the other's result."""
    write_list(node, [{"type": "tuning", "sysctl": {"net.core.somaxconn": "567"}},
                      {"type": "portmap", "capabilities": {"portMappings": True}}])
    wait_loaded(cri, "tuning")
    port = free_port()
    serve(node, cri, port)
    assert until(lambda: b"from-pod" in fetch(port), 30)
    id, config = node.pod(cri, metadata={"name": "s", "uid": "s", "namespace": "d"}, **POD_NET)
    assert output(node, cri, id, config, "cat /proc/sys/net/core/somaxconn") == "567"
    node.clean(cri)
    node.write_network()


def test_plugin_fails(node, cri):
    write_list(node, [{"type": "tuning", "sysctl": {"net.core.no_such_thing": "1"}}])
    wait_loaded(cri, "no_such_thing")
    with pytest.raises(grpc.RpcError) as e:
        node.pod(cri, **POD_NET)
    assert 'plugin type=\\"tuning\\"' in repr(e.value.details()) or 'plugin type="tuning"' in e.value.details()
    node.clean(cri)
    node.assert_clean()
    node.write_network()


def test_binaries_only(busybox_archive):
    node = Node(busybox_archive, start=False)
    text = node.daemon.config.read_text()
    assert "[kistl]\n" in text
    node.daemon.config.write_text(text.replace("[kistl]\n", "[kistl]\ncni-plugins-only = true\n", 1))
    try:
        node.daemon.start()
        load(node.daemon, busybox_archive)
        cri = node.client()
        assert '"builtin":true' not in cri.Status(verbose=True).info["cniconfig"].replace(" ", "")
        port = free_port()
        serve(node, cri, port)
        assert until(lambda: b"from-pod" in fetch(port), 30)
        rules = subprocess.run(["nft", "list", "table", "ip", "kistl_cni"], capture_output=True, text=True).stdout
        assert f"{port}" not in rules
        cri.close()
    finally:
        node.close()


def test_leftovers_are_collected(own_node):
    """A record whose pod was never made, and the address that it held."""
    node, dead = own_node, "d" * 64
    cri = node.client()
    id, _ = node.pod(cri, **POD_NET)
    ip = cri.PodSandboxStatus(pod_sandbox_id=id).status.network.ip
    network = json.loads((node.conf_dir / "10-test.conflist").read_text())
    results = node.daemon.root / "cni" / "results"
    addresses = node.daemon.base / "ipam" / network["name"]
    leftover, address = results / f"{network['name']}-{dead}-eth0", addresses / (node.subnet.rsplit(".", 1)[0] + ".200")
    cri.close()
    leftover.write_text(json.dumps({
        "kind": "cniCacheV1", "containerId": dead, "ifName": "eth0", "networkName": network["name"],
        "config": base64.b64encode(json.dumps(network).encode()).decode(), "netns": "/run/netns/no-such",
        "kistl": {"builtin": ["bridge", "host-local", "portmap"]}}))
    address.write_text(f"{dead}\r\neth0")
    node.daemon.restart(kill=True)
    assert until(lambda: not leftover.exists() and not address.exists(), 30)
    assert (results / f"{network['name']}-{id}-eth0").exists() and (addresses / ip).exists()
    cri = node.client()
    assert cri.PodSandboxStatus(pod_sandbox_id=id).status.network.ip == ip
    cri.close()
