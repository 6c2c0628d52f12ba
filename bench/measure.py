# SPDX-License-Identifier: Apache-2.0
"""What a measurement needs: a private corner of the machine, clocks and memory counters."""
import ctypes
import fcntl
import os
import signal
import socket
import statistics
import struct
import subprocess
import time

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18
PR_SET_CHILD_SUBREAPER = 36
SIOCSIFFLAGS, IFF_UP_RUNNING = 0x8914, 0x41

libc = ctypes.CDLL(None, use_errno=True)


def call(name, *args):
    if getattr(libc, name)(*args) < 0:
        n = ctypes.get_errno()
        raise OSError(n, f"{name}: {os.strerror(n)}")


class Corner:
    """Namespaces of our own for mounts and network, and the reaping of whatever is orphaned in them.

    Bridges, firewall rules, mounts, /run and /dev/shm of all subjects are in there and end with us. On a host
    with hybrid cgroups the view of the peers and of crun has no /sys/fs/cgroup/unified, because crun refuses
    such hosts; kistld is started in the view as the host has it (see `honest`).
    """

    def __init__(self):
        call("unshare", CLONE_NEWNS | CLONE_NEWNET)
        call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        for path in (b"/run", b"/dev/shm"):
            call("mount", b"tmpfs", path, b"tmpfs", 0, b"mode=755")
        self.honest_fd = os.open("/proc/self/ns/mnt", os.O_RDONLY)
        os.set_inheritable(self.honest_fd, True)
        call("unshare", CLONE_NEWNS)
        call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        if os.path.ismount("/sys/fs/cgroup/unified"):
            # Covered, not unmounted: crun would make directories in the host's tmpfs beneath.
            call("mount", b"tmpfs", b"/sys/fs/cgroup/unified", b"tmpfs", 0, b"size=1m")
        call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP_RUNNING))

    def honest(self, argv):
        """The command in the mount namespace that still shows all of the host's cgroup file systems."""
        return ["/usr/bin/nsenter", f"--mount=/proc/self/fd/{self.honest_fd}", "--"] + argv


CGROUPS = "/sys/fs/cgroup"
# What the subjects put their containers under; they leave the parents behind.
CGROUP_PARENTS = ("docker", "libpod_parent", "default", "k8s.io", "kistl")


def cgroup_parents():
    """Those that exist, in every hierarchy."""
    roots = [CGROUPS] + [os.path.join(CGROUPS, d) for d in os.listdir(CGROUPS)]
    return {os.path.join(r, p) for r in roots for p in CGROUP_PARENTS if os.path.isdir(os.path.join(r, p))}


def remove_cgroups(parents):
    """Removes empty cgroups; the kernel keeps those that are in use."""
    for parent in parents:
        for root, dirs, _ in os.walk(parent, topdown=False):
            for path in [os.path.join(root, d) for d in dirs] + ([parent] if root == parent else []):
                try:
                    os.rmdir(path)
                except OSError:
                    pass


class Failed(Exception):
    pass


def run(argv, env=None, timeout=600, stdin=""):
    """Output of a command that must succeed; not for measuring."""
    r = subprocess.run(argv, env=env, input=stdin, capture_output=True, text=True, timeout=timeout)
    if r.returncode:
        raise Failed(f"'{' '.join(argv)}': exit status {r.returncode}: {r.stderr.strip()[-600:]}")
    return r.stdout


def timed(argv, env):
    """Milliseconds from spawn to exit. posix_spawn, so that the size of this process does not count."""
    actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
               (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
               (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)]
    start = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, env, file_actions=actions)
    _, status = os.waitpid(pid, 0)
    elapsed = (time.perf_counter() - start) * 1000
    if status:
        run(argv, env)  # again, for its message
        raise Failed(f"'{' '.join(argv)}': wait status {status}")
    return elapsed


class Daemon:
    """A background process, stopped by its pid."""

    def __init__(self, argv, env, log, pass_fds=()):
        with open(log, "ab") as out:
            self.process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            pass_fds=pass_fds)
        self.name, self.log, self.pid = argv[0], log, self.process.pid

    def wait_for(self, ready, timeout=60):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                if ready():
                    return
            except (OSError, Failed):
                pass
            time.sleep(0.02)
        with open(self.log, errors="replace") as f:
            raise Failed(f"{self.name} did not come up: {f.read()[-600:]}")

    def stop(self):
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def stat_fields(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rpartition(")")[2].split()


def descendants(root=None):
    """All processes below this one, or below `root`."""
    parent = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = stat_fields(name)
            except OSError:
                continue
            if fields[0] != "Z":
                parent[int(name)] = int(fields[1])
    root, found = root or os.getpid(), set()
    for pid in parent:
        p = pid
        while p in parent and p != root:
            p = parent[p]
        if p == root and pid != root:
            found.add(pid)
    return found


def comm(pid):
    """The program's name, 15 characters of it; empty when it is gone."""
    try:
        with open(f"/proc/{pid}/comm") as f:
            return f.read().strip()
    except OSError:
        return ""


def in_container(pid):
    try:
        return os.readlink(f"/proc/{pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
    except OSError:
        return True


def reap():
    """Takes the status of orphans that have come to us."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def kill_rest():
    """Ends whatever is left of our descendants: shims, containers."""
    for sig, patience in ((signal.SIGTERM, 2), (signal.SIGKILL, 5)):
        end = time.monotonic() + patience
        for pid in descendants():
            try:
                os.kill(pid, sig)
            except ProcessLookupError:
                pass
        while time.monotonic() < end:
            reap()
            if not descendants():
                return
            time.sleep(0.05)


def memory(pids):
    """KiB of (RSS, PSS) of processes; those that are gone count nothing."""
    rss = pss = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as f:
                for line in f:
                    if line.startswith("Rss:"):
                        rss += int(line.split()[1])
                    elif line.startswith("Pss:"):
                        pss += int(line.split()[1])
        except OSError:
            pass
    return rss, pss


def median(values):
    return statistics.median(values) if values else None


def du(paths):
    """Bytes of files, as stored."""
    total = 0
    for path in paths:
        try:
            total += os.stat(path).st_size
        except OSError:
            pass
    return total
