# SPDX-License-Identifier: Apache-2.0
"""kistl run and its flags, end to end: kistl, kistld, kistl-shim and an OCI runtime."""

import json
import os
import re
import signal
import socket
import subprocess
import threading

import pytest

from harness import until

RUNTIMES = ["crun", "runc"]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def sh(kistl, script, *flags, code=0, **kw):
    """Runs a shell script in a container that goes away; its output."""
    return kistl("run", "--rm", *flags, "busybox", "sh", "-c", script, code=code, **kw)


def serve_once(address, answer=b"HTTP/1.0 200 OK\r\n\r\nhello from the host\n"):
    """A server for one connection; its port."""
    s = socket.create_server((address, 0))
    s.settimeout(30)

    def serve():
        with s:
            c, _ = s.accept()
            with c:
                c.recv(1000)
                c.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return s.getsockname()[1]


# ---- exit codes ----


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("command,code", [(["true"], 0), (["false"], 1), (["sh", "-c", "exit 42"], 42),
                                          (["sh", "-c", "kill -9 $$"], 137), (["sh", "-c", "kill -15 $$; sleep 1"], 0)])
def test_exit_code_is_the_commands(kistl, runtime, command, code):
    # PID 1 ignores signals that it has no handler for, but SIGKILL from inside does nothing either.
    if command[-1].startswith("kill -9"):
        code = 0
    kistl("run", "--rm", "--runtime", runtime, "busybox", *command, code=code)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_killed_is_137(kistl, runtime):
    kistl("run", "-d", "--name", "kk", "--runtime", runtime, "busybox", "sleep", "1000")
    kistl("kill", "kk")
    assert kistl("wait", "kk") == "137\n"
    assert kistl.inspect("kk", "{{.State.ExitCode}} {{.State.Status}} {{.State.Running}}") == "137 exited false"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_command_not_found_is_127(kistl, runtime):
    out = kistl("run", "--rm", "--runtime", runtime, "busybox", "/no/such/program", code=127)
    assert "/no/such/program" in out.err
    out = kistl("run", "--rm", "--runtime", runtime, "busybox", "nothing-of-that-name", code=127)
    assert "nothing-of-that-name" in out.err


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_command_not_executable_is_126(kistl, runtime):
    out = kistl("run", "--rm", "--runtime", runtime, "busybox", "/etc/passwd", code=126)
    assert "/etc/passwd" in out.err
    out = kistl("run", "--rm", "--runtime", runtime, "busybox", "/etc", code=126)


def test_failures_of_the_daemon_are_125(kistl):
    assert "No such image" in kistl("run", "--rm", "--pull", "never", "nothing/here", "true", code=125).err
    assert "bogus" in kistl("run", "--rm", "--bogus", "busybox", code=125).err
    assert "nosuchruntime" in kistl("run", "--rm", "--runtime", "nosuchruntime", "busybox", "true", code=125).err
    assert "nonet" in kistl("run", "--rm", "--network", "nonet", "busybox", "true", code=125).err
    assert "nothing" in kistl("run", "--rm", "--cap-add", "nothing", "busybox", "true", code=125).err.lower()
    assert "relative" in kistl("run", "--rm", "-w", "relative", "busybox", "true", code=125).err
    assert "nobody-here" in kistl("run", "--rm", "-u", "nobody-here", "busybox", "true", code=125).err
    assert kistl("ps", "-aq") == ""


def test_broken_runtime_is_named(fresh, busybox_archive):
    d = fresh(config='[kistl.runtimes.gone]\npath = "/nonexistent/runtime"\n')
    d.client("load", "-q", "-i", busybox_archive)
    out = d.client("run", "--rm", "--runtime", "gone", "busybox", "true", code=None)
    assert out.code in (125, 127) and "/nonexistent/runtime" in out.err
    assert d.client("ps", "-aq") == ""


# ---- process ----


def test_output_streams_are_kept_apart(kistl):
    out = sh(kistl, "echo out; echo err >&2")
    assert (out, out.err) == ("out\n", "err\n")


def test_large_output_arrives_whole(kistl):
    out = sh(kistl, "seq 1 200000")
    assert out == "".join(f"{i}\n" for i in range(1, 200001))


def test_binary_output_is_not_touched(kistl, daemon):
    r = subprocess.run([*kistl.argv, "run", "--rm", "busybox", "sh", "-c", "printf '\\000\\377\\001\\n\\r\\n'"],
                       env=kistl.env, capture_output=True, timeout=30)
    assert r.stdout == b"\0\xff\1\n\r\n"


def test_stdin(kistl):
    assert kistl("run", "--rm", "-i", "busybox", "cat", input="hello\n") == "hello\n"
    assert kistl("run", "--rm", "-i", "busybox", "wc", "-c", input=b"x" * 3000000) == "3000000\n"
    assert kistl("run", "--rm", "busybox", "cat", input="not asked for\n") == ""


def test_environment(kistl, tmp_path):
    f = tmp_path / "env"
    f.write_text("# comment\nFILE=from file\nA=file\nHOST_ONE\n")
    out = kistl("run", "--rm", "--env-file", f, "-e", "A=flag", "-e", "HOST_TWO", "-e", "EMPTY=", "busybox", "env",
                env={"HOST_ONE": "1", "HOST_TWO": "2"}).splitlines()
    assert {"FILE=from file", "A=flag", "HOST_ONE=1", "HOST_TWO=2", "EMPTY=", "FROM_IMAGE=yes"} <= set(out)
    assert any(line.startswith("HOSTNAME=") for line in out) and "HOME=/root" in out
    assert any(line.startswith("PATH=/usr/local/sbin:") for line in out)


def test_working_directory(kistl):
    assert sh(kistl, "pwd") == "/\n"
    assert sh(kistl, "pwd", "-w", "/var") == "/var\n"
    assert sh(kistl, "pwd; ls -ld . | cut -c1-10", "-w", "/made/for/it") == "/made/for/it\ndrwxr-xr-x\n"


@pytest.mark.parametrize("user,expected", [
    ("", "uid=0(root) gid=0(root) groups=0(root),10(wheel)"), ("daemon", "uid=1(daemon) gid=1 groups=1"),
    ("www-data", "uid=33(www-data) gid=33(www-data) groups=33(www-data)"), ("1000", "uid=1000 gid=0(root) groups=0(root)"),
    ("1000:1001", "uid=1000 gid=1001 groups=1001"), ("www-data:wheel", "uid=33(www-data) gid=10(wheel) groups=10(wheel)")])
def test_user(kistl, user, expected):
    assert sh(kistl, "id", *(["-u", user] if user else [])).strip() == expected


def test_group_add(kistl):
    assert "10(wheel),77" in sh(kistl, "id", "-u", "1000", "--group-add", "wheel", "--group-add", "77")


def test_entrypoint(kistl):
    assert kistl("run", "--rm", "--entrypoint", "echo", "busybox", "a", "b") == "a b\n"
    assert kistl("run", "--rm", "--entrypoint", "", "busybox", "echo", "c") == "c\n"


def test_hostname_and_hosts(kistl):
    out = sh(kistl, "hostname; cat /etc/hostname; cat /etc/hosts", "--hostname", "box", "--add-host", "one:10.1.2.3",
             "--add-host", "gate:host-gateway")
    assert out.startswith("box\nbox\n")
    assert re.search(r"^127\.0\.0\.1\s+localhost", out, re.M)
    assert re.search(r"^10\.1\.2\.3\s+one$", out, re.M) and re.search(r"^172\.\d+\.0\.1\s+gate$", out, re.M)
    assert re.search(r"^172\.\d+\.0\.\d+\s+box$", out, re.M)


def test_short_id_is_the_hostname(kistl):
    kistl("run", "--name", "hh", "busybox", "hostname")
    assert kistl("logs", "hh").strip() == kistl.inspect("hh", "{{.Id}}")[:12]


def test_dns(kistl):
    out = sh(kistl, "cat /etc/resolv.conf", "--dns", "9.9.9.9", "--dns-search", "example.org", "--dns-option", "ndots:3")
    assert "nameserver 9.9.9.9" in out and "search example.org" in out and "options ndots:3" in out


def test_init(kistl):
    out = sh(kistl, "cat /proc/1/comm; echo $$", "--init").split()
    assert "init" in out[0] and int(out[1]) > 1


def test_namespaces_are_the_containers_own(kistl):
    kistl("run", "-d", "--name", "nn", "busybox", "sleep", "1000")
    pid = kistl.inspect("nn", "{{.State.Pid}}")
    for ns in ("pid", "net", "mnt", "uts", "ipc"):
        assert os.readlink(f"/proc/{pid}/ns/{ns}") != os.readlink(f"/proc/self/ns/{ns}")
    assert kistl("exec", "nn", "readlink", "/proc/self/ns/uts").strip() == os.readlink(f"/proc/{pid}/ns/uts")
    assert sh(kistl, "cat /proc/1/comm", "--pid", "container:nn") == "sleep\n"
    assert sh(kistl, "readlink /proc/self/ns/ipc", "--ipc", "host").strip() == os.readlink("/proc/self/ns/ipc")
    assert sh(kistl, "readlink /proc/self/ns/pid", "--pid", "host").strip() == os.readlink("/proc/self/ns/pid")
    assert sh(kistl, "readlink /proc/self/ns/uts", "--uts", "host").strip() == os.readlink("/proc/self/ns/uts")


# ---- mounts ----


def test_bind_mounts(kistl, tmp_path):
    (tmp_path / "file").write_text("from the host\n")
    assert sh(kistl, "cat /mnt/file; echo x > /mnt/new", "-v", f"{tmp_path}:/mnt") == "from the host\n"
    assert (tmp_path / "new").read_text() == "x\n"
    out = sh(kistl, "echo x > /mnt/other", "-v", f"{tmp_path}:/mnt:ro", code=1)
    assert "Read-only" in out.err
    assert sh(kistl, "cat /f", "-v", f"{tmp_path}/file:/f:ro") == "from the host\n"
    sh(kistl, "true", "-v", f"{tmp_path}/made:/mnt")
    assert (tmp_path / "made").is_dir()


def test_mount_flag(kistl, tmp_path):
    (tmp_path / "file").write_text("1\n")
    out = sh(kistl, "cat /m/file; touch /m/y; df -k /t | tail -1; stat -c %a /t",
             "--mount", f"type=bind,source={tmp_path},target=/m,readonly",
             "--mount", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=0750")
    assert out.startswith("1\n") and "Read-only" in out.err and re.search(r"\s1024\s", out) and out.endswith("750\n")
    missing = tmp_path / "missing"
    out = sh(kistl, "true", "--mount", f"type=bind,source={missing},target=/m", code=125)
    assert str(missing) in out.err and not missing.exists()


def test_named_volume_is_shared_and_outlives(kistl):
    sh(kistl, "echo kept > /data/file", "-v", "vol:/data")
    assert sh(kistl, "cat /data/file", "-v", "vol:/data:ro") == "kept\n"
    assert kistl("volume", "ls", "-q") == "vol\n"
    kistl("run", "-d", "--name", "user", "-v", "vol:/data", "busybox", "sleep", "1000")
    assert "in use" in kistl("volume", "rm", "vol", code=1).err
    kistl("rm", "-f", "user")
    assert kistl("volume", "rm", "vol") == "vol\n"


def test_new_volume_gets_the_images_content(kistl):
    out = sh(kistl, "cat /etc/group | head -1; stat -c '%a' /etc; ls /etc | sort", "-v", "copy:/etc")
    assert out.startswith("root:x:0:\n755\n") and "passwd" in out
    sh(kistl, "rm /etc/passwd", "-v", "copy:/etc")
    assert "passwd" not in sh(kistl, "ls /etc", "-v", "copy:/etc")
    assert sh(kistl, "ls /etc | grep -v -e hosts -e hostname -e resolv.conf", "--mount",
              "type=volume,source=empty,target=/etc,volume-nocopy", code=1) == ""


def test_anonymous_volume_goes_with_rm(kistl):
    sh(kistl, "touch /anon/x", "-v", "/anon")
    assert kistl("volume", "ls", "-q") == ""
    kistl("run", "--name", "aa", "-v", "/anon", "busybox", "touch", "/anon/x")
    assert len(kistl.lines("volume", "ls", "-q")) == 1
    kistl("run", "--rm", "--volumes-from", "aa", "busybox", "ls", "/anon/x")
    kistl("rm", "-v", "aa")
    assert kistl("volume", "ls", "-q") == ""


def test_tmpfs(kistl):
    out = sh(kistl, "grep ' /t ' /proc/mounts; df -k /t | tail -1", "--tmpfs", "/t:size=2m,mode=700,noexec")
    assert "tmpfs" in out and "mode=700" in out and "noexec" in out and re.search(r"\s2048\s", out)


def test_read_only_rootfs(kistl):
    out = sh(kistl, "touch /x; touch /tmp/x && echo ok", "--read-only", "--tmpfs", "/tmp")
    assert "Read-only" in out.err and out == "ok\n"


def test_shm_size(kistl):
    assert re.search(r"\s65536\s", sh(kistl, "df -k /dev/shm | tail -1"))
    assert re.search(r"\s4096\s", sh(kistl, "df -k /dev/shm | tail -1", "--shm-size", "4m"))


def test_writes_stay_in_the_container(kistl):
    kistl("run", "--name", "ww", "busybox", "sh", "-c", "echo changed > /etc/passwd; rm -f /etc/group; mkdir -p /new")
    assert sh(kistl, "head -1 /etc/passwd; ls /etc/group; ls -d /new", code=1).startswith("root:x")
    assert kistl("start", "-a", "ww") == ""


# ---- security ----


def status(kistl, *flags):
    out = sh(kistl, "cat /proc/self/status", *flags)
    return dict(line.split(":\t", 1) for line in out.splitlines() if ":\t" in line)


DEFAULT_CAPS = 0x00000000A80425FB
CAP_NET_ADMIN, CAP_CHOWN = 1 << 12, 1 << 0


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_default_security(kistl, runtime):
    s = status(kistl, "--runtime", runtime)
    assert int(s["CapEff"], 16) == int(s["CapBnd"], 16) == int(s["CapPrm"], 16) == DEFAULT_CAPS
    assert int(s["CapInh"], 16) == 0 and int(s["CapAmb"], 16) == 0
    assert s["Seccomp"] == "2" and s["NoNewPrivs"] == "0"


def test_capabilities(kistl):
    s = status(kistl, "--cap-add", "NET_ADMIN", "--cap-drop", "CHOWN")
    assert int(s["CapEff"], 16) == (DEFAULT_CAPS | CAP_NET_ADMIN) & ~CAP_CHOWN
    assert int(status(kistl, "--cap-drop", "ALL")["CapBnd"], 16) == 0
    assert int(status(kistl, "--cap-drop", "all", "--cap-add", "cap_chown")["CapEff"], 16) == CAP_CHOWN
    s = status(kistl, "-u", "1000")
    assert int(s["CapEff"], 16) == 0 and int(s["CapBnd"], 16) == DEFAULT_CAPS


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_privileged(kistl, runtime):
    own = dict(line.split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
    s = status(kistl, "--privileged", "--runtime", runtime)
    assert int(s["CapEff"], 16) == int(own["CapBnd"], 16)
    assert s["Seccomp"] == "0"
    out = sh(kistl, "mount -t tmpfs none /mnt 2>&1 || mkdir /mnt && mount -t tmpfs none /mnt && echo mounted; ls /dev | wc -l",
             "--privileged", "--runtime", runtime).split()
    assert out[-2] == "mounted" and int(out[-1]) > 20


def test_security_options(kistl):
    assert status(kistl, "--security-opt", "no-new-privileges")["NoNewPrivs"] == "1"
    assert status(kistl, "--security-opt", "seccomp=unconfined")["Seccomp"] == "0"
    assert "bogus" in kistl("run", "--rm", "--security-opt", "bogus=1", "busybox", "true", code=125).err


def test_seccomp_profile_of_the_user(kistl, tmp_path):
    profile = tmp_path / "p.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}))
    for _ in range(2):  # from the second on the filter comes compiled
        out = sh(kistl, "mkdir /x && chmod 700 /x", "--security-opt", f"seccomp={profile}", code=1)
        assert "not permitted" in out.err
    profile.write_text(profile.read_text().replace("mkdir", "chmod"))
    for _ in range(2):
        out = sh(kistl, "mkdir /x && chmod 700 /x", "--security-opt", f"seccomp={profile}", code=1)
        assert "chmod: /x: Operation not permitted" in out.err


def test_default_seccomp_profile_bites(kistl):
    for _ in range(3):
        assert "not permitted" in sh(kistl, "unshare -U true", code=1).err
    kistl("run", "-d", "--name", "filtered", "busybox", "sleep", "1000")
    assert "not permitted" in kistl("exec", "filtered", "unshare", "-U", "true", code=1).err
    kistl("rm", "-f", "filtered")
    sh(kistl, "unshare -U true", "--security-opt", "seccomp=unconfined")
    # Docker's rule: what a capability allows, the profile allows too.
    assert sh(kistl, "mkdir /m; mount -t tmpfs x /m && echo ok", "--cap-add", "SYS_ADMIN", "--security-opt",
              "apparmor=unconfined") == "ok\n"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_masked_and_read_only_paths(kistl, runtime):
    files = [f for f in ("/proc/kcore", "/proc/keys", "/proc/timer_list") if os.path.exists(f)]
    out = sh(kistl, f"cat {' '.join(files)} | wc -c; ls /sys/firmware | wc -l;"
             "echo 1 > /proc/sys/kernel/sysrq || echo refused", "--runtime", runtime)
    assert files and out.split() == ["0", "0", "refused"]
    assert "ro," in sh(kistl, "grep ' /proc/sys ' /proc/mounts", "--runtime", runtime)


def test_devices(kistl):
    out = sh(kistl, "ls -1 /dev | sort | tr '\\n' ' '")
    assert {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "fd", "stdin",
            "stdout", "stderr"} <= set(out.split())
    assert "loop0" not in out and "sda" not in out and "mem" not in out.split()
    out = sh(kistl, "mknod /tmp/m c 1 1 && cat /tmp/m", code=1)
    assert "not permitted" in out.err
    assert sh(kistl, "head -c 4 /dev/zero2 | wc -c", "--device", "/dev/zero:/dev/zero2:r") == "4\n"
    assert "not permitted" in sh(kistl, "echo > /dev/kmsg2", "--device", "/dev/kmsg:/dev/kmsg2:r", code=1).err
    out = kistl("run", "--rm", "--device", "/dev/nothing", "busybox", "true", code=None)
    assert out.code in (125, 127) and "/dev/nothing" in out.err and "$PATH" not in out.err


def test_sysctl(kistl):
    assert sh(kistl, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; cat /proc/sys/kernel/msgmax",
              "--sysctl", "net.ipv4.ip_unprivileged_port_start=99", "--sysctl", "kernel.msgmax=1234") == "99\n1234\n"


# ---- resources ----


def test_ulimit(kistl):
    assert sh(kistl, "ulimit -n; ulimit -Hn; ulimit -c", "--ulimit", "nofile=100:200", "--ulimit", "core=0") == "100\n200\n0\n"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_memory_limit_kills(kistl, runtime):
    kistl("run", "--name", "oom", "--memory", "24m", "--memory-swap", "24m", "--runtime", runtime, "busybox",
          "sh", "-c", "exec tail /dev/zero", code=137)
    assert kistl.inspect("oom", "{{.State.OOMKilled}} {{.State.ExitCode}} {{.HostConfig.Memory}}") == f"true 137 {24 << 20}"
    assert not kistl.inspect("oom", "{{.State.Running}}") == "true"


def test_resource_limits_reach_the_cgroup(kistl):
    kistl("run", "-d", "--name", "rr", "--memory", "64m", "--cpus", "0.5", "--cpu-shares", "512", "--pids-limit", "33",
          "busybox", "sleep", "1000")
    path = "/kistl/" + kistl.inspect("rr", "{{.Id}}")
    def value(controller, name):
        with open(f"/sys/fs/cgroup/{controller}{path}/{name}") as f:
            return int(f.read())
    assert value("memory", "memory.limit_in_bytes") == 64 << 20
    assert value("cpu", "cpu.cfs_quota_us") * 2 == value("cpu", "cpu.cfs_period_us")
    assert value("cpu", "cpu.shares") == 512
    assert value("pids", "pids.max") == 33


def test_pids_limit_bites(kistl):
    out = sh(kistl, "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; echo done", "--pids-limit", "4", code=None)
    assert "fork" in out.err


def test_update_changes_a_running_container(kistl):
    kistl("run", "-d", "--name", "uu", "--memory", "64m", "--memory-swap", "64m", "busybox", "sleep", "1000")
    kistl("update", "--memory", "96m", "--memory-swap", "96m", "--restart", "on-failure:2", "uu")
    path = "/sys/fs/cgroup/memory/kistl/" + kistl.inspect("uu", "{{.Id}}")
    assert int(open(path + "/memory.limit_in_bytes").read()) == 96 << 20
    assert kistl.inspect("uu", "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Memory}}") == f"on-failure {96 << 20}"


# ---- names, labels, life ----


def test_name_conflict(kistl):
    kistl("create", "--name", "twice", "busybox")
    out = kistl("run", "--name", "twice", "busybox", "true", code=125)
    assert 'Conflict. The container name "/twice" is already in use by container' in out.err
    assert len(kistl.lines("ps", "-aq")) == 1
    assert "Invalid container name" in kistl("run", "--name", "b/ad", "busybox", "true", code=125).err


def test_labels_and_filters(kistl, tmp_path):
    f = tmp_path / "labels"
    f.write_text("file=1\n")
    kistl("run", "-d", "--name", "one", "-l", "a=1", "--label-file", f, "busybox", "sleep", "1000")
    kistl("create", "--name", "two", "-l", "a=2", "busybox")
    kistl("run", "--name", "three", "busybox", "sh", "-c", "exit 3", code=3)

    def names(*filters):
        flags = [x for f in filters for x in ("--filter", f)]
        return sorted(kistl.lines("ps", "-a", "--format", "{{.Names}}", *flags))
    assert names() == ["one", "three", "two"]
    assert names("label=a") == ["one", "two"] and names("label=a=2") == ["two"]
    assert names("label=file=1") == ["one"] and names("label=from=mkimage") == ["one", "three", "two"]
    assert names("status=running") == ["one"] and names("status=created") == ["two"]
    assert names("status=exited") == names("exited=3") == ["three"]
    assert names("name=t") == ["three", "two"] and names("name=^two$") == ["two"]
    assert names("ancestor=busybox") == ["one", "three", "two"] and names("ancestor=other") == []
    assert names("id=" + kistl.inspect("one", "{{.Id}}")[:8]) == ["one"]
    assert kistl.lines("ps", "--format", "{{.Names}}") == ["one"]
    assert kistl.lines("ps", "-l", "--format", "{{.Names}}") == ["three"]
    assert kistl.lines("ps", "-n", "2", "--format", "{{.Names}}") == ["three", "two"]
    assert "bogus" in kistl("ps", "--filter", "bogus=1", code=1).err


def test_ps_table_and_formats(kistl):
    kistl("run", "-d", "--name", "one", "busybox", "sleep", "1000")
    head, row = kistl.lines("ps")
    assert head.split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert re.match(r'[0-9a-f]{12}\s+busybox\s+"sleep 1000"\s+.*ago\s+Up .*\s+one$', row)
    j = kistl.json("ps", "--format", "{{json .}}")
    assert j["Names"] == "one" and j["State"] == "running" and j["Image"] == "busybox"
    assert kistl("ps", "--format", "table {{.Names}}\t{{.State}}").split() == ["NAMES", "STATE", "one", "running"]
    assert re.fullmatch(r"[0-9a-f]{64}\n", kistl("ps", "-q", "--no-trunc"))
    kistl("exec", "one", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=3")
    assert re.match(r"3\.1\d*MB \(virtual [\d.]+MB\)\n", kistl("ps", "-s", "--format", "{{.Size}}"))
    sizes = kistl.json("inspect", "-s", "one")[0]
    assert 3 << 20 <= sizes["SizeRw"] < 4 << 20 < sizes["SizeRootFs"]


def test_detached_prints_the_id(kistl):
    id = kistl("run", "-d", "busybox", "sleep", "1000").strip()
    assert re.fullmatch("[0-9a-f]{64}", id)
    assert kistl.inspect(id[:7], "{{.Id}}") == id
    assert "No such container: nobody" in kistl("stop", "nobody", code=1).err


def test_cidfile(kistl, tmp_path):
    kistl("run", "--cidfile", tmp_path / "cid", "--name", "cc", "busybox", "true")
    assert (tmp_path / "cid").read_text().strip() == kistl.inspect("cc", "{{.Id}}")
    assert "cid" in kistl("run", "--cidfile", tmp_path / "cid", "busybox", "true", code=125).err


def test_rm_removes(kistl, daemon):
    kistl("run", "--rm", "--name", "short", "busybox", "true")
    assert kistl("ps", "-aq") == ""
    kistl("run", "-d", "--rm", "--name", "short", "busybox", "sleep", "1000")
    kistl("stop", "-t", "0", "short")
    assert until(lambda: kistl("ps", "-aq") == "")


def test_rm_of_a_running_one_needs_force(kistl):
    kistl("run", "-d", "--name", "rr", "busybox", "sleep", "1000")
    out = kistl("rm", "rr", code=1)
    assert "running" in out.err and "force" in out.err.lower()
    assert kistl("rm", "-f", "rr") == "rr\n"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_life_cycle(kistl, runtime):
    kistl("create", "--name", "cc", "--runtime", runtime, "busybox", "sh", "-c",
          "trap 'echo term; exit 7' TERM; echo up; while :; do sleep 0.1; done")
    assert kistl.inspect("cc", "{{.State.Status}}") == "created"
    kistl("start", "cc")
    assert kistl.inspect("cc", "{{.State.Status}} {{.State.Running}}") == "running true"
    assert until(lambda: kistl("logs", "cc") == "up\n")
    kistl("pause", "cc")
    assert kistl.inspect("cc", "{{.State.Status}} {{.State.Paused}}") == "paused true"
    assert "paused" in kistl("exec", "cc", "true", code=1).err
    assert "(Paused)" in kistl("ps", "--format", "{{.Status}}")
    kistl("unpause", "cc")
    kistl("stop", "cc")
    assert kistl.inspect("cc", "{{.State.Status}} {{.State.ExitCode}}") == "exited 7"
    assert kistl("logs", "cc") == "up\nterm\n"
    kistl("stop", "cc")
    kistl("restart", "cc")
    pid = kistl.inspect("cc", "{{.State.Pid}}")
    assert until(lambda: kistl("logs", "cc") == "up\nterm\nup\n")
    kistl("restart", "-t", "5", "cc")
    assert kistl.inspect("cc", "{{.State.Pid}}") != pid
    kistl("rename", "cc", "dd")
    assert kistl.inspect("dd", "{{.Name}}") == "/dd"
    assert "No such container: cc" in kistl("kill", "cc", code=1).err
    kistl("kill", "-s", "TERM", "dd")
    assert kistl("wait", "dd") == "7\n"
    assert "is not running" in kistl("kill", "dd", code=1).err
    assert "not running" in kistl("pause", "dd", code=1).err
    kistl("rm", "dd")


def test_stop_right_after_start(kistl):
    """The process has no handler yet when the signal comes; it is asked again when it has one."""
    for i in range(5):
        kistl("run", "-d", "--name", f"quick{i}", "busybox", "sh", "-c",
              "sleep 0.2; trap 'exit 3' TERM; while :; do sleep 0.1; done")
        kistl("stop", "-t", "30", f"quick{i}")
        assert kistl.inspect(f"quick{i}", "{{.State.ExitCode}}") == "3"


def test_stop_gives_up_after_its_time(kistl):
    kistl("run", "-d", "--name", "deaf", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    kistl("stop", "-t", "1", "deaf")
    assert kistl.inspect("deaf", "{{.State.ExitCode}}") == "137"


def test_many_stops_hold_up_no_one(kistl, daemon):
    """More than the daemon has threads, all waiting for the same deaf container."""
    kistl("run", "-d", "--name", "deaf", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    replies = []
    stops = [threading.Thread(target=lambda: replies.append(daemon.request("POST", "/containers/deaf/stop?t=100")[0]))
             for _ in range(64)]
    for s in stops:
        s.start()
    assert kistl("run", "--rm", "busybox", "echo", "free") == "free\n"
    kistl("kill", "deaf")
    for s in stops:
        s.join(30)
    assert set(replies) <= {204, 304} and len(replies) == 64


def test_stop_signal(kistl):
    kistl("run", "-d", "--name", "ss", "--stop-signal", "USR1", "busybox", "sh", "-c",
          "trap 'exit 55' USR1; echo up; while :; do sleep 0.1; done")
    assert until(lambda: kistl("logs", "ss"))
    kistl("stop", "ss")
    assert kistl.inspect("ss", "{{.State.ExitCode}}") == "55"


def test_several_names_and_one_that_fails(kistl):
    for n in ("aa", "bb"):
        kistl("run", "-d", "--name", n, "busybox", "sleep", "1000")
    out = kistl("kill", "aa", "nobody", "bb", code=1)
    assert out == "aa\nbb\n" and "nobody" in out.err
    assert kistl("wait", "aa", "bb") == "137\n137\n"


def test_restart_on_failure(kistl):
    kistl("run", "-d", "--name", "rr", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo run; exit 4")
    assert until(lambda: kistl.inspect("rr", "{{.State.Status}}") == "exited")
    assert kistl.inspect("rr", "{{.RestartCount}} {{.State.ExitCode}}") == "2 4"
    assert kistl("logs", "rr") == "run\n" * 3


def test_restart_always_until_stopped(kistl):
    kistl("run", "-d", "--name", "rr", "--restart", "always", "busybox", "sh", "-c", "echo run; sleep 0.1")
    assert until(lambda: kistl("logs", "rr").count("run") >= 3)
    kistl("stop", "-t", "0", "rr")
    n = kistl.inspect("rr", "{{.State.Status}} {{.RestartCount}}")
    assert n.startswith("exited")
    assert "--rm" in kistl("run", "--rm", "--restart", "always", "busybox", "true", code=125).err


def test_wait_from_several_clients(kistl):
    kistl("run", "-d", "--name", "ww", "busybox", "sleep", "1000")
    waits = [kistl.popen("wait", "ww") for _ in range(3)]
    kistl("stop", "-t", "0", "ww")
    for w in waits:
        with w:
            assert w.rest() == b"137\n" and w.wait() == 0


def test_container_prune(kistl):
    kistl("run", "--name", "dead", "busybox", "true")
    kistl("run", "-d", "--name", "live", "busybox", "sleep", "1000")
    out = kistl("container", "prune", "-f")
    assert "Deleted Containers:" in out
    assert kistl.lines("ps", "-a", "--format", "{{.Names}}") == ["live"]


# ---- terminals, exec, attach ----

PROMPT = rb"# (\x1b\[\w+)*$"  # busybox asks where the cursor is


def test_tty(kistl):
    with kistl.terminal("run", "--rm", "-it", "busybox", "sh", rows=33, columns=99) as t:
        t.expect(PROMPT)
        t.send(b"tty; stty size\n")
        t.expect(rb"/dev/(pts/0|console)\r\n33 99\r\n")
        t.resize(44, 111)
        t.send(b"stty size\n")
        # The size travels beside the keys: ask again until it has arrived.
        for _ in range(50):
            if b"44 111" in t.expect(rb"stty size\r\n(\d+ \d+)\r\n").group(0):
                break
            t.send(b"stty size\n")
        else:
            pytest.fail("the terminal's new size did not reach the container")
        t.send(b"\x03")
        t.expect(PROMPT)
        t.send(b"exit 3\n")
        t.rest()
        assert t.wait() == 3


def test_tty_without_stdin_and_merged_output(kistl):
    with kistl.terminal("run", "--rm", "-t", "busybox", "sh", "-c", "echo out; echo err >&2") as t:
        # As with docker, the terminal stays cooked without -i, and adds a CR of its own.
        assert t.rest().replace(b"\r", b"") == b"out\nerr\n" and t.wait() == 0


def test_tty_needs_a_terminal(kistl):
    assert "not a TTY" in kistl("run", "--rm", "-it", "busybox", "true", input="x", code=1).err


def test_detach_keys(kistl):
    with kistl.terminal("run", "-it", "--name", "dd", "busybox", "sh") as t:
        t.expect(PROMPT)
        t.send(b"\x10\x11")
        t.rest()
        assert t.wait() == 0
    assert kistl.inspect("dd", "{{.State.Running}}") == "true"
    with kistl.terminal("attach", "--detach-keys", "ctrl-a,x", "dd") as t:
        t.send(b"\n")
        t.expect(PROMPT)
        t.send(b"echo $((40+2))\n")
        t.expect(rb"42\r\n")
        t.send(b"\x01x")
        t.rest()
        t.wait()
    assert kistl.inspect("dd", "{{.State.Running}}") == "true"
    with kistl.terminal("attach", "dd") as t:
        t.send(b"exit 9\n")
        t.rest()
        assert t.wait() == 9


def test_signals_are_proxied(kistl):
    script = "trap 'echo got; exit 12' INT TERM; echo up; while :; do sleep 0.1; done"
    with kistl.popen("run", "--rm", "busybox", "sh", "-c", script) as p:
        p.expect(rb"up\n")
        p.signal(signal.SIGTERM)
        assert p.rest() == b"got\n" and p.wait() == 12


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_exec(kistl, runtime):
    kistl("run", "-d", "--name", "ee", "-e", "A=1", "-w", "/var", "--runtime", runtime, "busybox", "sleep", "1000")
    out = kistl("exec", "-e", "B=2", "ee", "sh", "-c", "pwd; echo $A$B; echo err >&2; exit 6", code=6)
    assert (out, out.err) == ("/var\n12\n", "err\n")
    assert kistl("exec", "-i", "ee", "cat", input="through\n") == "through\n"
    assert kistl("exec", "-u", "daemon", "-w", "/tmp", "ee", "sh", "-c", "id -un; pwd") == "daemon\n/tmp\n"
    assert kistl("exec", "-u", "5:6", "ee", "id").strip() == "uid=5 gid=6 groups=6"
    # On standard output, as dockerd has it.
    assert "nothing-there" in kistl("exec", "ee", "nothing-there", code=127)
    kistl("exec", "ee", "/etc/passwd", code=126)
    kistl("exec", "ee", "sh", "-c", "kill -9 $$", code=137)
    kistl("exec", "-d", "ee", "sh", "-c", "echo done > /tmp/flag")
    assert until(lambda: kistl("exec", "ee", "cat", "/tmp/flag", code=None) == "done\n")
    kistl("exec", "--privileged", "ee", "sh", "-c", "grep CapEff /proc/self/status")
    with kistl.terminal("exec", "-it", "ee", "sh", rows=20, columns=70) as t:
        t.expect(PROMPT)
        t.send(b"stty size; exit 4\n")
        t.expect(rb"20 70\r\n")
        t.rest()
        assert t.wait() == 4
    kistl("stop", "-t", "0", "ee")
    assert "is not running" in kistl("exec", "ee", "true", code=1).err
    assert "No such container" in kistl("exec", "nobody", "true", code=1).err


def test_exec_output_is_whole(kistl):
    kistl("run", "-d", "--name", "ee", "busybox", "sleep", "1000")
    for _ in range(10):
        assert kistl("exec", "ee", "seq", "1", "20000").endswith("\n20000\n")
    assert kistl("exec", "-i", "ee", "wc", "-c", input=b"y" * 1000000) == "1000000\n"


def test_many_execs_at_once(kistl):
    kistl("run", "-d", "--name", "ee", "busybox", "sleep", "1000")
    running = [kistl.popen("exec", "ee", "sh", "-c", f"sleep 0.2; echo {i}; exit {i}") for i in range(10)]
    for i, p in enumerate(running):
        with p:
            assert p.rest() == f"{i}\n".encode() and p.wait() == i


def test_exec_ends_with_its_container(kistl):
    kistl("run", "-d", "--name", "ee", "busybox", "sleep", "1000")
    with kistl.popen("exec", "ee", "sh", "-c", "echo up; sleep 1000") as p:
        p.expect(b"up\n")
        kistl("kill", "ee")
        p.rest()
        assert p.wait() == 137


def test_two_clients_attach(kistl):
    kistl("run", "-di", "--name", "aa", "busybox", "sh", "-c", "while read x; do echo got $x; done; echo end")
    pipes = dict(stdin=subprocess.PIPE)
    with kistl.popen("attach", "aa", **pipes) as one, kistl.popen("attach", "aa", **pipes) as two:
        one.send(b"first\n")
        one.expect(rb"got first\n")
        for _ in range(100):  # the second may have come after that line: its own are seen by both
            two.send(b"second\n")
            two.pump(0.2)
            if b"got second\n" in two.data:
                break
        two.expect(rb"got second\n")
        one.expect(rb"got second\n")
        one.close_input()
        two.close_input()
        kistl("stop", "-t", "0", "aa")
        one.rest(), two.rest()
        one.wait(), two.wait()
    assert "got first\ngot second\n" in kistl("logs", "aa")


def test_start_attached(kistl):
    kistl("create", "-i", "--name", "ss", "busybox", "cat")
    assert kistl("start", "-ai", "ss", input="x\n") == "x\n"
    kistl("create", "--name", "ff", "busybox", "sh", "-c", "echo hi; exit 5")
    assert kistl("start", "-a", "ff", code=5) == "hi\n"


# ---- logs ----


def test_logs(kistl):
    kistl("run", "--name", "ll", "busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.01; done; echo err >&2; printf part")
    out = kistl("logs", "ll")
    assert (out, out.err) == ("1\n2\n3\n4\n5\npart", "err\n")
    assert kistl("logs", "--tail", "2", "ll") + kistl("logs", "--tail", "2", "ll").err in ("parterr\n", "5\npart", "part5\n")
    assert kistl("logs", "-n", "0", "ll") == ""
    lines = kistl.lines("logs", "-t", "ll")
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z ", line) for line in lines)
    moment = lines[2].split()[0]
    assert kistl("logs", "--since", moment, "ll").startswith("3\n")
    assert kistl("logs", "--until", moment, "ll").endswith("3\n")
    assert kistl("logs", "--since", "1h", "ll").startswith("1\n") and kistl("logs", "--until", "1h", "ll") == ""


def test_logs_follow(kistl):
    kistl("run", "-d", "--name", "ll", "busybox", "sh", "-c", "echo start; while ! [ -e /go ]; do sleep 0.05; done; echo end")
    with kistl.popen("logs", "-f", "ll") as a:
        a.expect(b"start\n")
        kistl("exec", "ll", "touch", "/go")
        assert a.rest() == b"end\n" and a.wait() == 0
    with kistl.popen("logs", "-f", "--tail", "1", "ll") as b:
        assert b.rest() == b"end\n" and b.wait() == 0


def test_logs_of_a_terminal(kistl):
    kistl("run", "-dt", "--name", "ll", "busybox", "sh", "-c", "echo a; echo b >&2")
    kistl("wait", "ll")
    assert kistl("logs", "ll") == "a\r\nb\r\n".replace("\r\n", "\n") or kistl("logs", "ll") == "a\r\nb\r\n"


def test_log_rotation(kistl, daemon):
    kistl("run", "--name", "ll", "--log-opt", "max-size=20k", "--log-opt", "max-file=3", "busybox", "seq", "-w", "1", "2000")
    path = kistl.inspect("ll", "{{.LogPath}}")
    files = [path] + [f"{path}.{i}" for i in (1, 2)]
    assert [os.path.exists(f) for f in files] == [True] * 3 and not os.path.exists(path + ".3")
    assert all(os.path.getsize(f) <= 21 * 1024 for f in files)
    out = kistl("logs", "ll").split()
    assert out[-1] == "2000" and len(out) > 200
    assert out == [f"{i:04}" for i in range(int(out[0]), 2001)]
    assert kistl("logs", "--tail", "3", "ll") == "1998\n1999\n2000\n"


def test_log_follow_over_rotation(kistl):
    kistl("run", "-d", "--name", "ll", "--log-opt", "max-size=10k", "--log-opt", "max-file=3", "busybox", "sh", "-c",
          "while ! [ -e /go ]; do sleep 0.05; done; for i in $(seq -w 1 600); do echo $i; [ ${i%00} = $i ] || sleep 0.1; done")
    with kistl.popen("logs", "-f", "ll") as p:
        kistl("exec", "ll", "touch", "/go")
        assert p.rest().split() == [f"{i:03}".encode() for i in range(1, 601)]


def test_log_drivers(kistl):
    kistl("run", "--name", "none", "--log-driver", "none", "busybox", "echo", "x")
    assert "does not support reading" in kistl("logs", "none", code=1).err
    assert "nodriver" in kistl("run", "--rm", "--log-driver", "nodriver", "busybox", "true", code=125).err


def test_json_file_is_dockers(kistl):
    kistl("run", "--name", "jj", "busybox", "sh", "-c", "echo out")
    line = json.loads(open(kistl.inspect("jj", "{{.LogPath}}")).readline())
    assert line["log"] == "out\n" and line["stream"] == "stdout" and line["time"].endswith("Z")


# ---- looking ----


def test_top(kistl):
    kistl("run", "-d", "--name", "tt", "busybox", "sleep", "1000")
    out = kistl.lines("top", "tt")
    assert out[0].split()[:3] == ["UID", "PID", "PPID"] and out[1].endswith("sleep 1000")
    assert kistl.lines("top", "tt", "-o", "pid,comm")[0].split() == ["PID", "COMMAND"]


def test_stats(kistl):
    kistl("run", "-d", "--name", "ss", "--memory", "64m", "busybox", "sleep", "1000")
    out = kistl.lines("stats", "--no-stream", "ss")
    assert "MEM USAGE / LIMIT" in out[0] and "64MiB" in out[1] and "ss" in out[1].split()
    j = kistl.json("stats", "--no-stream", "--format", "{{json .}}", "ss")
    assert j["Name"] == "ss" and j["PIDs"] == "1" and j["CPUPerc"].endswith("%")


def test_inspect(kistl):
    id = kistl("create", "--name", "ii", "-e", "A=1", "-l", "x=y", "-p", "8080:80", "-v", "/tmp:/t:ro", "--memory", "32m",
               "--restart", "on-failure:3", "--hostname", "h", "-w", "/var", "-u", "daemon", "busybox", "sleep", "1").strip()
    d = kistl.inspect("ii")
    assert d["Id"] == id and d["Name"] == "/ii" and d["Path"] == "sleep" and d["Args"] == ["1"]
    c, h = d["Config"], d["HostConfig"]
    assert c["Image"] == "busybox" and c["Cmd"] == ["sleep", "1"] and "A=1" in c["Env"] and c["Hostname"] == "h"
    assert c["Labels"]["x"] == "y" and c["Labels"]["from"] == "mkimage" and c["WorkingDir"] == "/var" and c["User"] == "daemon"
    assert h["Binds"] == ["/tmp:/t:ro"] and h["Memory"] == 32 << 20 and h["PortBindings"]["80/tcp"][0]["HostPort"] == "8080"
    assert h["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert d["State"]["Status"] == "created" and d["State"]["Pid"] == 0 and d["Image"].startswith("sha256:")
    assert d["Mounts"][0]["Source"] == "/tmp" and d["Mounts"][0]["RW"] is False
    assert kistl.inspect("ii", "{{range .Config.Env}}{{println .}}{{end}}").startswith("A=1")
    assert kistl.inspect("ii", "{{json .HostConfig.RestartPolicy}}") == '{"Name":"on-failure","MaximumRetryCount":3}'
    assert "No such object: nobody" in kistl("inspect", "nobody", code=1).err


def test_events(kistl, daemon):
    with kistl.popen("events", "--filter", "type=container", "--format", "{{.Action}} {{.Actor.Attributes.name}}") as p:
        # The stream is open when an event arrives; make some until it is.
        for _ in range(100):
            kistl("run", "--rm", "--name", "probe", "busybox", "true")
            if p.pump(0.1):
                break
        p.expect(rb"destroy probe\n")
        kistl("run", "--rm", "--name", "ev", "busybox", "sh", "-c", "exit 2", code=2)
        got = p.expect(rb"create ev\n.*destroy ev\n").group(0).decode().split("\n")
    actions = [line.split()[0] for line in got if line.endswith(" ev")]
    assert [a for a in actions if a in ("create", "start", "die", "destroy")] == ["create", "start", "die", "destroy"]


def test_info_version_and_df(kistl, daemon):
    assert kistl("info", "--format", "{{.OSType}}") == "linux\n"
    assert kistl("info", "--format", "{{.DefaultRuntime}}") == "crun\n"
    j = kistl.json("version", "--format", "{{json .}}")
    assert j["Server"]["ApiVersion"] and j["Client"]["Version"] == j["Server"]["Version"]
    out = kistl.lines("system", "df")
    assert out[0].split()[:2] == ["TYPE", "TOTAL"] and out[1].startswith("Images") and out[2].startswith("Containers")


# ---- networks ----


def address(kistl, name):
    return kistl.inspect(name, "{{.NetworkSettings.IPAddress}}")


def test_bridge_reaches_the_hosts_server(kistl):
    kistl("run", "-d", "--name", "cc", "busybox", "sleep", "1000")
    gateway = kistl.inspect("cc", "{{.NetworkSettings.Gateway}}")
    port = serve_once(gateway)
    assert kistl("exec", "cc", "wget", "-qO-", f"http://{gateway}:{port}/") == "hello from the host\n"
    assert address(kistl, "cc") in kistl("exec", "cc", "ip", "addr", "show", "eth0")
    assert f"default via {gateway}" in kistl("exec", "cc", "ip", "route")


def test_containers_reach_each_other(kistl):
    kistl("run", "-d", "--name", "aa", "busybox", "sleep", "1000")
    kistl("run", "-d", "--name", "bb", "busybox", "sleep", "1000")
    assert address(kistl, "aa") != address(kistl, "bb")
    assert "0% packet loss" in kistl("exec", "aa", "ping", "-c", "1", "-W", "5", address(kistl, "bb"))
    assert "0% packet loss" in kistl("exec", "bb", "ping", "-c", "1", "-W", "5", address(kistl, "aa"))


def test_every_user_may_ping_and_serve_low_ports(kistl):
    out = sh(kistl, "cat /proc/sys/net/ipv4/ping_group_range; (echo x | nc -l -p 80) & sleep 0.3; nc 127.0.0.1 80",
             "-u", "1000")
    assert out.split() == ["0", "2147483647", "x"]


def test_host_network(kistl):
    port = serve_once("127.0.0.1")
    out = sh(kistl, f"readlink /proc/self/ns/net; wget -qO- http://127.0.0.1:{port}/; hostname", "--network", "host")
    assert out == os.readlink("/proc/self/ns/net") + "\nhello from the host\n" + socket.gethostname() + "\n"


def test_no_network(kistl):
    out = sh(kistl, "ip -o link | cut -d: -f2; ping -c1 -W1 127.0.0.1 | grep loss", "--network", "none")
    assert out.split()[0] == "lo" and "eth0" not in out and "0% packet loss" in out


def test_network_of_another_container(kistl):
    kistl("run", "-d", "--name", "aa", "busybox", "sh", "-c", "while :; do echo served | nc -l -p 81; done")
    out = sh(kistl, "ip addr show eth0; nc -w 5 127.0.0.1 81; hostname", "--network", "container:aa")
    assert address(kistl, "aa") in out and "served" in out and kistl.inspect("aa", "{{.Id}}")[:12] in out


def read_port(port, address="127.0.0.1"):
    try:
        with socket.create_connection((address, port), 5) as s:
            s.settimeout(5)
            return s.recv(100)
    except OSError:
        return b""


def test_published_ports(kistl):
    server = "while :; do echo served | nc -l -p 80; done"
    kistl("run", "-d", "--name", "pp", "-p", "127.0.0.1::80", "busybox", "sh", "-c", server)
    mapped = kistl("port", "pp", "80").strip()
    host, port = mapped.rsplit(":", 1)
    assert host == "127.0.0.1"
    assert until(lambda: read_port(int(port)) == b"served\n", 5), "127.0.0.1:PORT does not reach the container"
    assert f"127.0.0.1:{port}->80/tcp" in kistl("ps", "--format", "{{.Ports}}")
    out = kistl("run", "--rm", "-p", f"127.0.0.1:{port}:80", "busybox", "true", code=125)
    assert "port is already allocated" in out.err
    kistl("rm", "-f", "pp")
    kistl("run", "-d", "--name", "qq", "-p", f"{port}:80", "busybox", "sh", "-c", server)
    assert until(lambda: read_port(int(port)) == b"served\n", 5)
    assert until(lambda: read_port(int(port), kistl.inspect("qq", "{{.NetworkSettings.Gateway}}")) == b"served\n", 5)


def test_user_defined_network(kistl):
    kistl("network", "create", "mine")
    kistl("run", "-d", "--name", "aa", "--network", "mine", "busybox", "sleep", "1000")
    ip = kistl.inspect("aa", "{{.NetworkSettings.Networks.mine.IPAddress}}")
    assert re.match(r"\d+\.\d+\.\d+\.\d+$", ip)
    assert "0% packet loss" in sh(kistl, f"ping -c 1 -W 5 {ip}", "--network", "mine")
    assert "active endpoints" in kistl("network", "rm", "mine", code=1).err
    kistl("rm", "-f", "aa")
    kistl("network", "rm", "mine")
    assert sorted(kistl.lines("network", "ls", "--format", "{{.Name}}")) == ["bridge", "host", "none"]


def test_fixed_address_is_free_again(kistl):
    for _ in range(3):
        kistl("run", "-d", "--name", "aa", "busybox", "sleep", "1000")
        first = address(kistl, "aa")
        kistl("rm", "-f", "aa")
    kistl("network", "create", "--subnet", "10.213.7.0/24", "sub")
    assert "10.213.7.77" in sh(kistl, "ip addr show eth0", "--network", "sub", "--ip", "10.213.7.77")
    assert first


# ---- nothing is left ----


def test_descriptors_do_not_leak(kistl, daemon):
    kistl("run", "--rm", "busybox", "true")
    before = daemon.fds()
    for i in range(10):
        sh(kistl, f"exit {i}", code=i)
    kistl("run", "--rm", "busybox", "/nothing", code=127)
    assert until(lambda: daemon.fds() <= before + 1, 5), f"{before} descriptors before, {daemon.fds()} after"


def test_failed_starts_leave_nothing(kistl, daemon):
    for flags in (["--device", "/dev/nothing"], ["--runtime", "nothing"], ["-u", "nobody-here"],
                  ["--network", "container:nobody"], ["--mount", "type=bind,source=/nothing,target=/x"]):
        assert kistl("run", "--name", "fails", *flags, "busybox", "true", code=None).code in (125, 127)
        kistl("rm", "fails", code=None)
    kistl("run", "--rm", "busybox", "/nothing", code=127)
    daemon.assert_clean(images=False)


def test_many_at_once(kistl):
    running = [kistl.popen("run", "--rm", "busybox", "sh", "-c", f"echo {i}; exit {i}") for i in range(12)]
    for i, p in enumerate(running):
        with p:
            assert p.rest() == f"{i}\n".encode() and p.wait() == i
