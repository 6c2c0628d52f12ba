# SPDX-License-Identifier: Apache-2.0
"""Images for the end-to-end tests, made from Debian packages: a busybox, and a Debian of several layers with
everything in it that is hard to unpack."""

import hashlib
import importlib.machinery
import importlib.util
import io
import json
import os
import pathlib
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile

from harness import TOP

CACHE = pathlib.Path(os.environ.get("KISTL_TEST_CACHE", "/var/cache/kistl-tests"))
MTIME = 1700000000


def mkimage():
    """tools/mkimage as a module."""
    loader = importlib.machinery.SourceFileLoader("mkimage", str(TOP / "tools/mkimage"))
    spec = importlib.util.spec_from_loader("mkimage", loader)
    module = importlib.util.module_from_spec(spec)
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    loader.exec_module(module)
    sys.dont_write_bytecode = written
    return module


def push_busybox(registry, scratch):
    archive = scratch / "busybox.tar"
    subprocess.run(["/usr/bin/python3", TOP / "tools/mkimage", "--busybox", "--name", "busybox:latest",
                    "--output", archive, "--label", "from=mkimage", "--env", "FROM_IMAGE=yes"], check=True)
    return registry.push(f"oci-archive:{archive}", "busybox:latest")


def bootstrap(name, *options):
    """A Debian as a tar, built once: /var/cache outlives the run."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / name
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}.tar")
        subprocess.run(["mmdebstrap", "--quiet", "--variant=essential", *options,
                        '--customize-hook=cd "$1" && rm -rf usr/share/locale usr/share/i18n usr/share/doc'
                        " usr/share/man var/lib/apt/lists var/cache/apt var/cache/debconf",
                        "bookworm", part], check=True, capture_output=True, timeout=600)
        os.rename(part, path)
    return path


def debian_tar():
    return bootstrap("debian-essential.tar", "--include=libcap2-bin",
                     '--customize-hook=setcap cap_net_raw+ep "$1"/usr/bin/env')


def services_archive(scratch):
    """An image with nginx, PostgreSQL and redis: the archive's path."""
    layer = bootstrap("services.tar", "--include=nginx-light,postgresql,redis-server").read_bytes()
    make = mkimage()
    archive = scratch / "services.oci.tar"
    make.write_archive(archive, make.image_files([layer], ["none"], {
        "Cmd": ["sh"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}, "services:latest"))
    return archive


class Tar:
    """Writes a layer entry by entry."""

    def __init__(self, form=tarfile.PAX_FORMAT):
        self.out = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.out, mode="w", format=form)

    def add(self, name, data=None, kind=tarfile.REGTYPE, mode=0o644, link="", uid=0, gid=0, mtime=MTIME,
            device=(0, 0), pax=None):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.linkname, info.uid, info.gid = kind, mode, link, uid, gid
        info.mtime, (info.devmajor, info.devminor) = mtime, device
        info.pax_headers = dict(pax or {})
        info.size = len(data) if data else 0
        self.tar.addfile(info, io.BytesIO(data or b""))
        return self

    def dir(self, name, mode=0o755, **kw):
        return self.add(name, kind=tarfile.DIRTYPE, mode=mode, **kw)

    def link(self, name, target, **kw):
        return self.add(name, kind=tarfile.LNKTYPE, link=target, **kw)

    def symlink(self, name, target, **kw):
        return self.add(name, kind=tarfile.SYMTYPE, link=target, mode=0o777, **kw)

    def bytes(self):
        self.tar.close()
        return self.out.getvalue()


def capability(effective=1, permitted=0x2000):
    """security.capability, version 2."""
    magic = 0x02000000 | effective
    return struct.pack("<IIIII", magic, permitted, 0, 0, 0).decode("latin-1")


def pax_binary(value):
    return value.encode("latin-1").decode("utf-8", "surrogateescape")


def second_layer():
    """New things: links, capabilities, times, names, devices, sparse files."""
    t = Tar()
    t.dir("etc").add("etc/hosts", b"").add("etc/hostname", b"").add("etc/resolv.conf", b"")
    t.dir("srv", mtime=MTIME + 1).dir("srv/a", 0o2775, uid=1000, gid=50)
    t.add("srv/a/file", b"one\n", mode=0o640, uid=1000, gid=1001)
    t.link("srv/a/hard", "srv/a/file").link("srv/hard2", "srv/a/file")
    t.symlink("srv/sym", "../../../../etc/passwd").symlink("srv/abs", "/etc/passwd", uid=7, gid=8)
    t.symlink("srv/dangling", "nowhere")
    t.add("srv/suid", b"#!/bin/sh\n", mode=0o6755, uid=3, gid=4)
    t.add("srv/capable", b"x" * 100, mode=0o755,
          pax={"SCHILY.xattr.security.capability": pax_binary(capability())})
    t.add("srv/attributed", b"x", pax={"SCHILY.xattr.user.note": "r\u00e9sum\u00e9"})
    t.add("srv/nano", b"x", pax={"mtime": "1600000000.123456789"})
    t.add("srv/old", b"x", mtime=0)
    t.add("srv/" + "long-name/" * 24 + "end", b"deep")
    t.add("srv/" + "n" * 250, b"long")
    t.symlink("srv/longlink", "x" * 300)
    t.add("srv/\u00fcml\u00e4ut \u65e5\u672c", b"unicode")
    t.add("srv/null", kind=tarfile.CHRTYPE, mode=0o666, device=(1, 3))
    t.add("srv/block", kind=tarfile.BLKTYPE, mode=0o660, gid=6, device=(7, 99))
    t.add("srv/fifo", kind=tarfile.FIFOTYPE, mode=0o600)
    t.add("srv/empty", b"").dir("srv/empty-dir", 0o1777)
    t.dir("srv/gone").add("srv/gone/inside", b"x").add("srv/removed", b"x").dir("srv/opaque")
    t.add("srv/opaque/old", b"x").dir("srv/opaque/olddir").add("srv/opaque/olddir/f", b"x")
    t.dir("srv/becomes-file").add("srv/becomes-file/x", b"x").add("srv/becomes-dir", b"x")
    t.dir("srv/becomes-link").add("srv/becomes-link/x", b"x")
    t.add("srv/rewritten", b"first", mode=0o600)
    t.add("srv/relinked", b"same").link("srv/relinked2", "srv/relinked")
    t.dir("srv/parent", 0o700, uid=11, gid=12).dir("srv/parent/child", 0o711, uid=13)
    return t.bytes()


def sparse_layer(option="-S"):
    """GNU tar's own sparse entries, of both formats; without the option, the same files dense."""
    out = b""
    with tempfile.TemporaryDirectory() as d:
        root = pathlib.Path(d)
        (root / "srv").mkdir()
        for name in ("sparse-gnu", "sparse-pax"):
            with open(root / "srv" / name, "wb") as f:
                f.truncate(4 << 20)
                f.seek(1 << 20)
                f.write(b"data in the middle")
                f.seek((4 << 20) - 3)
                f.write(b"end")
        for how, name in (("gnu", "sparse-gnu"), ("posix", "sparse-pax")):
            path = root / f"{how}.tar"
            subprocess.run(["tar", "-C", root, option, f"--format={how}", "--owner=0", "--group=0",
                            f"--mtime=@{MTIME}", "-cf", path, f"srv/{name}"], check=True)
            data = path.read_bytes()
            out += strip_end(data)
    return out + bytes(1024)


def strip_end(data):
    """A tar without its final zero blocks, so that another can follow."""
    end = len(data)
    while end >= 512 and not any(data[end - 512:end]):
        end -= 512
    return data[:end]


def third_layer():
    """Whiteouts, opaque directories, changes of type; entries whose parents are in lower layers only."""
    t = Tar(tarfile.GNU_FORMAT)
    t.add("srv/.wh.removed", b"").add("srv/.wh.gone", b"")
    t.dir("srv/opaque", 0o750, mtime=MTIME + 5).add("srv/opaque/.wh..wh..opq", b"").add("srv/opaque/new", b"new")
    t.add("srv/becomes-file", b"now a file").dir("srv/becomes-dir").add("srv/becomes-dir/x", b"x")
    t.symlink("srv/becomes-link", "a")
    t.add("srv/rewritten", b"second, longer", mode=0o644, mtime=MTIME + 9)
    t.add("srv/parent/child/new", b"in a directory that this layer does not name", uid=14)
    t.add("srv/a/.wh.hard", b"")
    t.add("usr/share/" + "g" * 180, b"gnu long name")
    return t.bytes()


def fourth_layer():
    """Back again what was removed; and hard links to a file of this layer."""
    t = Tar(tarfile.USTAR_FORMAT)
    t.dir("srv/gone", 0o711).add("srv/gone/back", b"back").add("srv/removed", b"back too")
    t.add("srv/newlink", b"n", mode=0o444).link("srv/newlink2", "srv/newlink")
    t.add("srv/opaque/.wh.new", b"").add("srv/opaque/newer", b"x")
    return t.bytes()


class DebianImage:
    """An OCI layout with layers gzip, zstd, plain, gzip, zstd; and the same in gzip for umoci."""

    COMPRESSION = ["gzip", "zstd", "none", "gzip", "zstd"]

    def __init__(self, path):
        self.path = path
        self.make = mkimage()
        base = debian_tar().read_bytes()
        self.layers = [base, second_layer(), sparse_layer(), third_layer(), fourth_layer()]
        self.diff_ids = [self.make.digest(layer) for layer in self.layers]
        self.mixed = self.layout("mixed", self.COMPRESSION)
        # umoci knows neither zstd nor GNU's sparse entries: it gets the same files in another form.
        self.layers[2] = sparse_layer("--seek")
        self.plain = self.layout("gzip", ["gzip"])

    def layout(self, name, compression):
        path = self.path / name
        compressed = {"gzip": self.gzip}
        original = self.make.compress

        def compress(data, how):
            return compressed[how](data) if how in compressed else original(data, how)

        self.make.compress = compress
        try:
            files = self.make.image_files(self.layers, compression, {
                "Cmd": ["sleep", "1000"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                "Labels": {"kind": "debian"}, "WorkingDir": "/srv", "ExposedPorts": {"80/tcp": {}}}, "debian:test")
        finally:
            self.make.compress = original
        for key, data in files.items():
            file = path / key
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        return path

    @staticmethod
    def gzip(data):
        r = subprocess.run(["pigz", "-n", "-1", "-c"], input=data, capture_output=True, check=True)
        return r.stdout, "+gzip"

    def unpack(self, target):
        """umoci's opinion; the tree's path."""
        subprocess.run(["umoci", "raw", "unpack", "--image", f"{self.plain}:test", target], check=True,
                       capture_output=True)
        return target


def describe(path, st):
    """What a reader can see of one entry."""
    d = {"type": stat.S_IFMT(st.st_mode), "mode": oct(stat.S_IMODE(st.st_mode)), "uid": st.st_uid, "gid": st.st_gid,
         "mtime": st.st_mtime_ns}
    if stat.S_ISREG(st.st_mode):
        d["size"] = st.st_size
        with open(path, "rb") as f:
            h = hashlib.sha256()
            while chunk := f.read(1 << 20):
                h.update(chunk)
        d["sha256"] = h.hexdigest()
    elif stat.S_ISLNK(st.st_mode):
        d["target"] = os.readlink(path)
    elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        d["rdev"] = (os.major(st.st_rdev), os.minor(st.st_rdev))
    d["xattrs"] = {k: os.getxattr(path, k, follow_symlinks=False)
                   for k in sorted(os.listxattr(path, follow_symlinks=False))
                   if not k.startswith(("trusted.overlay.", "user.overlay.", "user.rootlesscontainers",
                                        "security.selinux"))}
    return d


def tree(root, exclude=()):
    """Relative path -> description; hard links as "links": the sorted names of the group."""
    found, groups = {}, {}
    exclude = {os.path.normpath(os.path.join("/", e)) for e in exclude}

    def visit(path, name):
        st = os.lstat(path)
        found[name] = describe(path, st)
        if not stat.S_ISDIR(st.st_mode):
            if st.st_nlink > 1:
                groups.setdefault((st.st_dev, st.st_ino), []).append(name)
            return
        for entry in sorted(os.listdir(path)):
            below = os.path.join(name, entry)
            if below not in exclude:
                visit(os.path.join(path, entry), below)

    visit(str(root), "/")
    for names in groups.values():
        for name in names:
            found[name]["links"] = sorted(names)
    return found


def differences(ours, theirs):
    """Lines that say how two trees differ; empty when they do not."""
    out = [f"only ours: {p}" for p in sorted(set(ours) - set(theirs))]
    out += [f"only theirs: {p}" for p in sorted(set(theirs) - set(ours))]
    for p in sorted(set(ours) & set(theirs)):
        for key in sorted(set(ours[p]) | set(theirs[p])):
            if ours[p].get(key) != theirs[p].get(key):
                out.append(f"{p}: {key} is {ours[p].get(key)!r}, theirs {theirs[p].get(key)!r}")
    return out


def write_json(path, data):
    path.write_text(json.dumps(data))
