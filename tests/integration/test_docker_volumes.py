# SPDX-License-Identifier: Apache-2.0
"""Volumes and mounts by Debian's docker: named, anonymous, options of the local driver, subpaths, prune to the byte."""

import json
import os
import subprocess

import pytest

from harness import until


def mounted(path):
    with open("/proc/self/mountinfo") as f:
        return any(line.split()[4] == str(path) for line in f)


@pytest.fixture
def api(daemon):
    def call(method, path, body=None, want=None):
        status, reply = daemon.request(method, "/v1.44" + path, body)
        assert want is None or status == want, reply
        return reply

    return call


def run(docker, *args):
    return docker("run", "--rm", *args)


def test_options_are_checked(docker):
    err = docker("volume", "create", "--opt", "foo=bar", "opts", code=1).err
    assert 'create opts: invalid option: "foo"' in err
    assert 'missing required option: "device"' in docker("volume", "create", "--opt", "type=tmpfs", "opts", code=1).err
    assert 'missing required option: "type"' in docker("volume", "create", "-o", "device=x", "opts", code=1).err
    assert "no quota support" in docker("volume", "create", "-o", "size=1m", "opts", code=1).err
    assert docker.lines("volume", "ls", "-q") == []


def test_tmpfs_volume_lives_with_its_containers(docker, daemon):
    docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=7", "tv")
    v = docker.json("volume", "inspect", "tv")[0]
    assert v["Options"] == {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=7"}
    where = v["Mountpoint"]
    assert not mounted(where)
    docker("run", "-d", "--name", "aa", "-v", "tv:/t", "busybox", "sleep", "100")
    assert mounted(where)
    docker("exec", "aa", "sh", "-c", "echo x >/t/f")
    assert run(docker, "-v", "tv:/t", "busybox", "sh", "-c", "cat /t/f; stat -c %u /t") == "x\n7\n"
    assert mounted(where)
    daemon.restart()
    assert mounted(where)
    assert docker("exec", "aa", "cat", "/t/f") == "x\n"
    docker("rm", "-f", "aa")
    until(lambda: not mounted(where))
    docker("volume", "rm", "tv")
    assert not os.path.exists(where)


def test_bind_volume(docker, tmp_path):
    (tmp_path / "f").write_text("host\n")
    docker("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", f"device={tmp_path}", "bv")
    assert run(docker, "-v", "bv:/b", "busybox", "cat", "/b/f") == "host\n"
    docker("volume", "rm", "bv")
    assert (tmp_path / "f").exists()


def test_failing_mount(docker, daemon):
    docker("volume", "create", "-o", "type=ext4", "-o", "device=/nosuch", "bad")
    err = docker("run", "--rm", "-v", "bad:/b", "busybox", "true", code=125).err
    assert "error while mounting volume" in err and "bad" in err
    docker("volume", "rm", "bad")


def test_mount_with_options(docker):
    docker("run", "--rm", "--mount", "type=volume,src=mv,dst=/v,volume-driver=local,volume-opt=type=tmpfs,"
           "volume-opt=device=tmpfs,volume-label=a=b", "busybox", "grep", "/v tmpfs", "/proc/mounts")
    v = docker.json("volume", "inspect", "mv")[0]
    assert v["Labels"] == {"a": "b"} and v["Options"]["type"] == "tmpfs"


def create(api, mounts, cmd=("true",), **host):
    return api("POST", "/containers/create",
               {"Image": "busybox", "Cmd": list(cmd), "HostConfig": {"Mounts": mounts, **host}})


def finished(docker, api, c):
    docker("start", c["Id"])
    assert docker("wait", c["Id"]) == "0\n"
    return docker("logs", c["Id"])


def test_subpath(docker, api):
    run(docker, "-v", "sub:/v", "busybox", "sh", "-c", "mkdir -p /v/a/b; echo in >/v/a/b/f; ln -s /etc /v/etc; ln -s a /v/l")
    mount = {"Type": "volume", "Source": "sub", "Target": "/s", "VolumeOptions": {"Subpath": "a/b"}}
    assert finished(docker, api, create(api, [mount], ["cat", "/s/f"])) == "in\n"
    mount["VolumeOptions"]["Subpath"] = "l/b/f"
    assert finished(docker, api, create(api, [mount], ["cat", "/s"])) == "in\n"
    for path, word in (("../x", "relative path"), ("/x", "relative path"), ("a/../../x", "relative path")):
        mount["VolumeOptions"]["Subpath"] = path
        assert word in create(api, [mount])["message"]
    for path in ("nosuch", "etc"):
        mount["VolumeOptions"]["Subpath"] = path
        c = create(api, [mount])
        assert "sub" in docker("start", c["Id"], code=1).err


def test_mount_documents_are_checked(api):
    for mount, words in (
            ({"Type": "bind", "Source": "/tmp", "VolumeOptions": {}}, "field VolumeOptions must not be specified"),
            ({"Type": "tmpfs", "Source": "/tmp"}, "field Source must not be specified"),
            ({"Type": "bind", "Source": "/tmp", "BindOptions": {"ReadOnlyForceRecursive": True}}, "must be read-only"),
            ({"Type": "bind", "Source": "/tmp", "BindOptions": {"Propagation": "x"}}, "invalid propagation mode: x"),
            ({"Type": "volume", "VolumeOptions": {"Subpath": "x"}}, "must not set Subpath"),
            ({"Type": "volume", "Source": "v", "VolumeOptions": {"DriverConfig": {"Name": "x"}}}, 'plugin "x" not found'),
            ({"Type": "bind", "Source": "/nosuch/x"}, "bind source path does not exist: /nosuch/x"),
            ({"Type": "cluster", "Source": "x"}, "mount type unknown")):
        assert words in create(api, [{"Target": "/t", **mount}])["message"]


def test_tmpfs_and_created_mountpoint(docker, api, tmp_path):
    c = create(api, [{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1770,
                                                                         "Options": [["uid", "5"], ["exec"]]}},
                     {"Type": "bind", "Source": str(tmp_path / "new/dir"), "Target": "/b",
                      "BindOptions": {"CreateMountpoint": True}}], ["sh", "-c", "stat -c %a:%u /t; grep ' /t ' /proc/mounts"])
    out = finished(docker, api, c)
    assert out.startswith("1770:5\n") and "size=1024k" in out and "noexec" not in out
    assert (tmp_path / "new/dir").is_dir()


def test_read_only_binds_are_so_below(docker, api, tmp_path):
    (tmp_path / "sub").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path / "sub")], check=True)
    try:
        script = ["sh", "-c", "touch /b/x 2>/dev/null || echo no; touch /b/sub/x 2>/dev/null || echo no; ls /b/sub"]
        mount = {"Type": "bind", "Source": str(tmp_path), "Target": "/b", "ReadOnly": True}
        assert finished(docker, api, create(api, [mount], script)) == "no\nno\n"
        mount["BindOptions"] = {"ReadOnlyNonRecursive": True}
        assert finished(docker, api, create(api, [mount], script)) == "no\nx\n"
        mount["BindOptions"] = {"NonRecursive": True}
        assert finished(docker, api, create(api, [mount], script)) == "no\nno\n"
        docker("rm", *docker.lines("ps", "-aq"))
    finally:
        subprocess.run(["umount", str(tmp_path / "sub")], check=True)


def du(path):
    return sum(os.lstat(os.path.join(d, f)).st_size for d, _, files in os.walk(path) for f in files)


def test_prune(docker, api):
    run(docker, "-v", "named:/v", "busybox", "sh", "-c", "head -c 5000 /dev/zero >/v/f")
    docker("run", "--name", "cc", "-v", "/v", "busybox", "sh", "-c", "head -c 3000 /dev/zero >/v/f")
    anonymous = docker.json("inspect", "cc")[0]["Mounts"][0]["Name"]
    docker("volume", "create", "--label", "keep=yes", "labelled")
    v = docker.json("volume", "inspect", anonymous)[0]
    assert v["Labels"] == {"com.docker.volume.anonymous": ""}
    reply = api("POST", "/volumes/prune", want=200)
    assert reply == {"VolumesDeleted": [], "SpaceReclaimed": 0}
    docker("rm", "cc")
    usage = {x["Name"]: x["UsageData"] for x in api("GET", "/system/df")["Volumes"]}
    assert usage[anonymous] == {"Size": 3000, "RefCount": 0} and usage["named"]["Size"] == 5000
    reply = api("POST", "/volumes/prune", want=200)
    assert reply == {"VolumesDeleted": [anonymous], "SpaceReclaimed": 3000}
    flt = json.dumps({"all": ["true"], "label!": ["keep=yes"]})
    reply = api("POST", f"/volumes/prune?filters={flt.replace(' ', '%20')}", want=200)
    assert reply == {"VolumesDeleted": ["named"], "SpaceReclaimed": 5000}
    assert docker.lines("volume", "ls", "-q") == ["labelled"]


def test_volume_in_use(docker):
    docker("create", "--name", "uu", "-v", "used:/v", "busybox")
    assert "remove used: volume is in use - [" in docker("volume", "rm", "used", code=1).err
    docker("rm", "uu")
    docker("volume", "rm", "used")


def test_prune_frees_what_it_says(docker, api):
    """By the numbers of system df, before and after; layers in common stay."""
    for i, size in enumerate((100_000, 30_000)):
        docker("run", "--name", f"c{i}", "busybox", "sh", "-c", f"head -c {size} /dev/zero >/f")
        docker("commit", "-c", "LABEL prune=me", f"c{i}", f"img:{i}")
    docker("run", "--name", "c2", "img:1", "sh", "-c", "head -c 777 /dev/zero >/g")
    docker("commit", "c2", "img:2")
    docker("rmi", "-f", "img:0")

    def sizes():
        df = api("GET", "/system/df")
        return df["LayersSize"], sum(c.get("SizeRw", 0) for c in df["Containers"]), df["Images"]

    layers, rw, images = sizes()
    reply = api("POST", "/containers/prune", want=200)
    assert reply["SpaceReclaimed"] == rw > 130_000 and len(reply["ContainersDeleted"]) == 3
    docker("tag", "img:2", "last:1")
    reply = api("POST", "/images/prune?filters=" + json.dumps({"dangling": ["false"], "until": ["0s"], "label": ["prune=me"]}).replace(" ", ""))
    left = sizes()
    assert layers - left[0] == reply["SpaceReclaimed"] > 30_000
    assert api("GET", "/system/df?type=volume")["Images"] is None
    assert "unknown object type" in api("GET", "/system/df?type=x", want=400)["message"]
