# SPDX-License-Identifier: Apache-2.0
"""What is measured: Kistl and its peers, each private to a directory. A subject says how, the bench says what."""
import itertools
import json
import os
import shutil
import subprocess
import time

import calls
import pods
from measure import Daemon, Failed, du, run

BUSYBOX = "docker.io/bench/busybox:latest"
PAUSE = "docker.io/bench/pause:latest"
MKIMAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../tools/mkimage")
# Cgroups are the host's, and some runtimes name them as the container: another bench may be running.
PREFIX = f"bench{os.getpid()}-"


def package_files(*packages):
    """Regular files of Debian packages that a user needs to have them."""
    files = set()
    for package in packages:
        out = subprocess.run(["dpkg-query", "-L", package], capture_output=True, text=True).stdout
        files.update(p for p in out.splitlines() if os.path.isfile(p) and not os.path.islink(p)
                     and not p.startswith(("/usr/share/doc", "/usr/share/man", "/usr/share/locale")))
    return files


class Subject:
    """One runtime. Commands are argument vectors, to be run with `env`."""
    name = ""
    program = ""
    packages = ()
    networks = ("default", "none")
    zstd = True
    shim = ""  # of those that have the CRI

    def __init__(self, directory, corner, options):
        self.dir, self.corner, self.options = directory, corner, options
        os.makedirs(directory)
        self.env = {"PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": directory,
                    "LANG": "C.UTF-8", "TMPDIR": directory}
        self.daemons = []
        self.numbers = itertools.count(1)

    @classmethod
    def missing(cls):
        """Why it cannot be measured on this machine, or None."""
        return None if os.path.exists(cls.program) else f"{cls.program} is not installed"

    def path(self, name):
        return os.path.join(self.dir, name)

    def state(self, name):
        """On the tmpfs that a booted system has for such things."""
        return f"/run/{self.name}-{name}"

    def do(self, argv):
        return run(argv, self.env)

    def daemon(self, argv, ready, pass_fds=()):
        self.spawn(argv, pass_fds).wait_for(ready)

    def spawn(self, argv, pass_fds=()):
        self.started = argv, pass_fds
        self.daemons.append(Daemon(argv, self.env, self.path("log"), pass_fds))
        return self.daemons[-1]

    def kill_and_start(self):
        """As a crash: nothing of it ends in order. The time of the new start."""
        old = self.daemons.pop()
        old.process.kill()
        old.process.wait()
        began = time.perf_counter()
        self.spawn(*self.started)
        return began

    def start(self):
        pass

    def stop(self):
        for d in reversed(self.daemons):
            d.stop()

    def daemon_pids(self):
        return {d.pid for d in self.daemons}

    def installed(self):
        return du(package_files(*self.packages))

    def fresh(self):
        return f"{PREFIX}c{next(self.numbers)}"


class Docker(Subject):
    """Also the pattern for all that have Docker's command line."""
    name = "docker"
    program = "/usr/sbin/dockerd"
    packages = ("docker.io", "containerd", "runc", "tini")
    zstd = False  # Docker 20.10 has no zstd layers
    cli = ["/usr/bin/docker"]

    def version(self):
        return self.do(["/usr/sbin/dockerd", "--version"]).split(",")[0].replace("Docker version ", "")

    def start(self):
        sock = self.state("sock")
        self.env["DOCKER_HOST"] = "unix://" + sock
        argv = ["/usr/sbin/dockerd", "--data-root", self.path("root"), "--exec-root", self.state("exec"),
                "--pidfile", self.state("pid"), "--host", "unix://" + sock]
        self.daemon(argv, lambda: self.do(self.cli + ["version", "--format", "{{.Server.Version}}"]))

    def socket(self):
        return self.state("sock")

    def daemon_pids(self):
        """dockerd and the containerd that it starts for itself."""
        pids = super().daemon_pids()
        for pid in list(pids):
            with open(f"/proc/{pid}/task/{pid}/children") as f:
                pids.update(int(p) for p in f.read().split())
        return pids

    def load(self, archive):
        # Docker's own archive format: Docker 20.10 does not load OCI layouts.
        run(["skopeo", "copy", "-q", "--insecure-policy", "oci-archive:" + archive,
             f"docker-archive:{self.path('busybox.tar')}:{BUSYBOX}"])
        self.do(self.cli + ["load", "-q", "-i", self.path("busybox.tar")])

    def run_rm(self, network):
        net = [] if network == "default" else ["--network", network]
        return self.cli + ["run", "--rm"] + net + [BUSYBOX, "true"]

    def run_bg(self, name):
        self.do(self.cli + ["run", "-d", "--name", name, BUSYBOX, "sleep", "100000"])

    def exec(self, name):
        return self.cli + ["exec", name, "true"]

    def remove(self, names):
        self.do(self.cli + ["rm", "-f"] + names)

    def pull(self, ref):
        return self.cli + ["pull", "-q", ref]

    def forget(self, ref):
        self.do(self.cli + ["rmi", "-f", ref])

    def version_command(self):
        # `docker version` asks the daemon, its --version does not.
        return self.cli + ["--version"]


class Podman(Docker):
    name = "podman"
    program = "/usr/bin/podman"
    packages = ("podman", "conmon", "crun", "containernetworking-plugins", "golang-github-containers-common",
                "golang-github-containers-image")
    zstd = True

    def version(self):
        return self.do(["/usr/bin/podman", "--version"]).split()[-1]

    def start(self):
        # Podman raises limits, which takes CAP_SYS_RESOURCE; not every machine gives it to root.
        conf = self.path("containers.conf")
        with open(conf, "w") as f:
            f.write('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n'
                    f'[network]\nnetwork_config_dir = "{self.path("net")}"\n')
        self.env["CONTAINERS_CONF"] = conf
        self.cli = ["/usr/bin/podman", "--root", self.path("root"), "--runroot", self.state("run"),
                    "--tmpdir", self.state("tmp"), "--cgroup-manager", "cgroupfs", "--runtime", "crun",
                    "--events-backend", "file"]
        self.daemons = []

    def daemon_pids(self):
        return set()

    def load(self, archive):
        self.do(self.cli + ["load", "-q", "-i", archive])

    def remove(self, names):
        self.do(self.cli + ["rm", "-f", "-t", "0"] + names)

    def pull(self, ref):
        return self.cli + ["pull", "-q", "--tls-verify=false", ref]


class Containerd(Subject):
    name = "containerd"
    program = "/usr/bin/containerd"
    packages = ("containerd", "runc")
    networks = ("none",)
    shim = "containerd-shim"

    def version(self):
        return self.do(["/usr/bin/containerd", "--version"]).split()[2].split("~")[0]

    def start(self):
        sock, config = self.state("sock"), self.path("config.toml")
        pods.write_network(self.path("cni"), "benchctd0", "10.187.0.0/16")
        with open(config, "w") as f:
            f.write(f'version = 2\nroot = "{self.path("root")}"\nstate = "{self.state("run")}"\n'
                    f'[grpc]\naddress = "{sock}"\n'
                    '[plugins."io.containerd.internal.v1.opt"]\n'
                    f'path = "{self.path("opt")}"\n'
                    '[plugins."io.containerd.grpc.v1.cri"]\n'
                    f'sandbox_image = "{PAUSE}"\n'
                    'restrict_oom_score_adj = true\n'  # not every machine gives CAP_SYS_RESOURCE to root
                    '[plugins."io.containerd.grpc.v1.cri".cni]\n'
                    f'bin_dir = "/usr/lib/cni"\nconf_dir = "{self.path("cni")}"\n')
        self.ctr = ["/usr/bin/ctr", "--address", sock]
        self.daemon(["/usr/bin/containerd", "--config", config], lambda: self.do(self.ctr + ["version"]))

    def load(self, archive):
        self.do(self.ctr + ["images", "import", archive])

    def load_for_pods(self, archive):
        """With an image that the sandboxes can be made of; nobody pulls here."""
        pause = self.path("pause.oci.tar")
        run([MKIMAGE, "--busybox", "--name", PAUSE.removeprefix("docker.io/"), "--cmd", "exec sleep 2147483647",
             "--output", pause])
        for path in (archive, pause):
            self.do(self.ctr + ["--namespace", "k8s.io", "images", "import", path])

    def run_rm(self, _network):
        return self.ctr + ["run", "--rm", BUSYBOX, self.fresh(), "true"]

    def run_bg(self, name):
        self.do(self.ctr + ["run", "-d", BUSYBOX, name, "sleep", "100000"])

    def exec(self, name):
        return self.ctr + ["task", "exec", "--exec-id", self.fresh(), name, "true"]

    def remove(self, names):
        for name in names:
            self.do(self.ctr + ["task", "rm", "-f", name])
        self.do(self.ctr + ["container", "rm"] + names)

    def pull(self, ref):
        return self.ctr + ["images", "pull", "--plain-http", ref]

    def forget(self, ref):
        self.do(self.ctr + ["images", "rm", "--sync", ref])

    def version_command(self):
        return self.ctr + ["--version"]


class Kistl(Docker):
    name = "kistl"
    program = ""
    zstd = True
    shim = "kistl-shim"
    programs = ("kistl", "kistld", "kistl-shim", "kistl-image")

    def binary(self, name):
        return os.path.join(self.options.build, name)

    def version(self):
        return self.do([self.binary("kistld"), "--version"]).split()[-1]

    def start(self):
        for name in self.programs:
            if not os.path.exists(self.binary(name)):
                raise Failed(f"'{self.binary(name)}' is missing: make builds it")
        sock = self.state("sock")
        self.env["KISTL_HOST"] = "unix://" + sock
        self.cli = [self.binary("kistl")]
        argv = [self.binary("kistld"), "--root", self.path("root"), "--state", self.state("run"),
                "--socket", sock, "--config", self.path("config.toml"), "--log-level", "warn"]
        pods.write_network(self.path("cni"), "benchkst0", "10.188.0.0/16")
        with open(self.path("config.toml"), "w") as f:
            f.write("[plugins.'io.containerd.grpc.v1.cri'.cni]\n"
                    f"bin_dir = '/usr/lib/cni'\nconf_dir = '{self.path('cni')}'\n")
        # Not before the socket is there: without one, kistl starts a daemon by itself.
        self.daemon(self.corner.honest(argv), lambda: os.path.exists(sock) and self.do(self.cli + ["version"]),
                    pass_fds=(self.corner.honest_fd,))

    def daemon_pids(self):
        return Subject.daemon_pids(self)

    def load(self, archive):
        self.do(self.cli + ["load", "-q", "-i", archive])

    def load_for_pods(self, archive):
        with open(archive, "rb") as f:
            calls.Engine(self.socket()).load(f.read(), "k8s.io")

    def forget(self, ref):
        """Until the collector, which works beside, has taken the layers away."""
        self.do(self.cli + ["rmi", "-f", ref])
        end = time.monotonic() + 30
        blobs = self.path("root/io.containerd.content.v1.content/blobs/sha256")
        while sum(os.path.getsize(os.path.join(blobs, b)) for b in os.listdir(blobs)) > 2 << 20:
            if time.monotonic() > end:
                raise Failed("the collector has left the blobs of a removed image")
            time.sleep(0.02)

    def installed(self):
        """Stripped, as packages have them; without crun, which a user of any runtime has."""
        total = 0
        for name in self.programs:
            copy = self.path("stripped")
            run(["strip", "-o", copy, self.binary(name)])
            total += os.stat(copy).st_size
            os.unlink(copy)
        return total

    def version_command(self):
        return self.cli + ["version", "--client"]

    def bundle_spec(self, name):
        """The OCI spec of a running container, as Kistl has written it."""
        ident = self.do(self.cli + ["inspect", "--format", "{{.Id}}", name]).strip()
        for root, _, files in os.walk(self.state("run")):
            if "config.json" in files and ident in root:
                with open(os.path.join(root, "config.json")) as f:
                    return json.load(f)
        raise Failed("no bundle of a running container in the state directory")


class Crun:
    """The OCI runtime by itself: what every subject pays at least."""
    name = "crun"
    program = "/usr/bin/crun"

    def __init__(self, directory, rootfs_tar):
        self.dir, self.env = directory, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        self.bundle, self.numbers = os.path.join(directory, "bundle"), itertools.count(1)
        rootfs = os.path.join(self.bundle, "rootfs")
        os.makedirs(rootfs)
        run(["tar", "-xf", rootfs_tar, "-C", rootfs])

    def version(self):
        return run([self.program, "--version"]).split()[2]

    def use_spec(self, spec):
        """Kistl's own spec, or crun's default one when there is none."""
        if spec is None:
            run(["sh", "-c", f"cd '{self.bundle}' && crun spec"])
            with open(os.path.join(self.bundle, "config.json")) as f:
                spec = json.load(f)
        spec["process"]["args"], spec["process"]["terminal"] = ["true"], False
        spec["root"] = {"path": "rootfs", "readonly": False}
        spec["linux"].pop("cgroupsPath", None)
        for space in spec["linux"]["namespaces"]:
            space.pop("path", None)  # a network namespace of its own, as with --network none
        for i, mount in enumerate(spec["mounts"]):
            if os.path.isfile(mount.get("source", "")):  # hosts, resolv.conf, hostname
                copy = os.path.join(self.bundle, f"file{i}")
                shutil.copy(mount["source"], copy)
                mount["source"] = copy
        spec.pop("hooks", None)
        with open(os.path.join(self.bundle, "config.json"), "w") as f:
            json.dump(spec, f)

    def run_rm(self, _network):
        return [self.program, "--root", "/run/crun-bench", "--cgroup-manager", "cgroupfs", "run",
                "--bundle", self.bundle, f"{PREFIX}r{next(self.numbers)}"]

    def start_sleeper(self, name):
        path = os.path.join(self.bundle, "config.json")
        with open(path) as f:
            text = f.read()
        spec = json.loads(text)
        spec["process"]["args"] = ["sleep", "100000"]
        with open(path, "w") as f:
            json.dump(spec, f)
        subprocess.run([self.program, "--root", "/run/crun-bench", "--cgroup-manager", "cgroupfs", "run", "-d",
                        "--bundle", self.bundle, name], check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(path, "w") as f:
            f.write(text)

    def exec(self, name):
        return [self.program, "--root", "/run/crun-bench", "exec", name, "true"]

    def remove(self, names):
        for name in names:
            run([self.program, "--root", "/run/crun-bench", "delete", "-f", name])


PEERS = {c.name: c for c in (Podman, Containerd, Docker)}
