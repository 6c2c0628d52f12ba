# SPDX-License-Identifier: Apache-2.0
"""kistl-image unpack: right trees from all kinds of archives, nothing outside from hostile ones."""

import base64
import gzip
import hashlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
import threading

import pytest

from imageworker import CODES, Worker, WorkerError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners and devices need root")

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


def unpack(data, directory, *, whiteouts="overlay", diff_id="", lower=None,
           **limits):
    """data: bytes or a path. Returns the "unpacked" event, implied paths added."""
    directory.mkdir(exist_ok=True)
    fds = []
    try:
        feeder = None
        if isinstance(data, bytes):
            reader, writer = os.pipe()

            def feed():
                try:
                    with os.fdopen(writer, "wb") as f:
                        f.write(data)
                except BrokenPipeError:
                    pass  # the worker has seen enough
            feeder = threading.Thread(target=feed)
            fds.append(reader)
        else:
            fds.append(os.open(data, os.O_RDONLY))
        fds.append(os.open(directory, os.O_RDONLY | os.O_DIRECTORY))
        if lower is not None:
            fds.append(os.open(lower, os.O_PATH))
        with Worker("unpack") as w:
            w.send({"op": "unpack", "media_type": GZIP, "diff_id": diff_id,
                    "whiteouts": whiteouts, **limits}, fds)
            if feeder:
                os.close(fds.pop(0))
                feeder.start()
            try:
                events = w.finish()
            finally:
                if feeder:
                    feeder.join()
    finally:
        for fd in fds:
            os.close(fd)
    result = events[-1]
    assert result["event"] == "unpacked"
    result["implied"] = []
    for e in events[:-1]:
        assert e["event"] == "implied"
        result["implied"] += e["paths"] + [base64.b64decode(p) for p in e["paths64"]]
    return result


def describe(root, *, times=True, ignore_root=True):
    """{path: everything that matters about it}"""
    tree, inodes = {}, {}
    root = os.fsencode(root)
    paths = [root]
    for directory, dirs, files in os.walk(root):
        paths += [os.path.join(directory, n) for n in dirs + files]
    for path in sorted(paths):
        name = os.path.relpath(path, root)
        if name == b"." and ignore_root:
            continue
        st = os.lstat(path)
        entry = {"mode": oct(st.st_mode), "owner": (st.st_uid, st.st_gid)}
        if times:
            entry["mtime"] = st.st_mtime_ns
        if stat.S_ISREG(st.st_mode):
            with open(path, "rb") as f:
                entry["sha256"] = hashlib.file_digest(f, "sha256").hexdigest() \
                    if hasattr(hashlib, "file_digest") else hashlib.sha256(f.read()).hexdigest()
            entry["size"] = st.st_size
        if stat.S_ISLNK(st.st_mode):
            entry["target"] = os.readlink(path)
        if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
            entry["device"] = st.st_rdev
        if not stat.S_ISDIR(st.st_mode):
            entry["links"] = inodes.setdefault(st.st_ino, name)
        entry["xattrs"] = {x: os.getxattr(path, x, follow_symlinks=False)
                           for x in sorted(os.listxattr(path, follow_symlinks=False))
                           if x != "security.selinux"}
        tree[name] = entry
    return tree


def same(ours, theirs, **how):
    ours, theirs = describe(ours, **how), describe(theirs, **how)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert ours[name] == theirs[name], name


class Layer:
    """A tar in memory, any member that one likes."""

    def __init__(self, format=tarfile.PAX_FORMAT):
        self.file = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.file, mode="w", format=format)

    def add(self, name, kind=tarfile.REGTYPE, content=b"", **fields):
        info = tarfile.TarInfo()
        info.name = name
        info.type = kind
        info.size = len(content)
        info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
        info.mtime = 1000000000
        for key, value in fields.items():
            setattr(info, key, value)
        self.tar.addfile(info, io.BytesIO(content))
        return self

    def dir(self, name, **fields):
        return self.add(name, tarfile.DIRTYPE, **fields)

    def symlink(self, name, target):
        return self.add(name, tarfile.SYMTYPE, linkname=target)

    def link(self, name, target):
        return self.add(name, tarfile.LNKTYPE, linkname=target)

    def data(self):
        self.tar.close()
        return self.file.getvalue()


@pytest.fixture
def tree(tmp_path):
    """A tree with everything that tar can hold."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "usr/bin").mkdir(parents=True)
    shutil.copy("/bin/true", root / "usr/bin/ping")
    os.setxattr(root / "usr/bin/ping", "security.capability",
                bytes.fromhex("0100000200200000000000000000000000000000"))
    shutil.copy("/bin/true", root / "usr/bin/sudo")
    os.chown(root / "usr/bin/sudo", 0, 42)
    os.chmod(root / "usr/bin/sudo", 0o6755)
    os.link(root / "usr/bin/sudo", root / "usr/bin/sudoedit")
    (root / "tmp").mkdir()
    os.chmod(root / "tmp", 0o1777)
    (root / "mail").mkdir()
    os.chown(root / "mail", 0, 8)
    os.chmod(root / "mail", 0o2775)
    (root / "mail/inbox").write_text("mail\n")
    os.chown(root / "mail/inbox", 1000, 1000)
    (root / ("n" * 200)).mkdir()
    (root / ("n" * 200) / ("m" * 200)).write_text("long")
    (root / "link").symlink_to("usr/bin/ping")
    (root / "abs").symlink_to("/etc/passwd")
    (root / "longlink").symlink_to("x/" * 150)
    os.lchown(root / "link", 1000, 1000)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "sda", stat.S_IFBLK | 0o660, os.makedev(8, 0))
    os.mkfifo(root / "fifo", 0o600)
    with open(root / "sparse", "wb") as f:
        f.seek(5 << 20)
        f.write(b"middle")
        f.truncate(20 << 20)
    with open(root / "holes", "wb") as f:
        for i in range(60):
            f.seek(i * 65536)
            f.write(b"%d" % i)
    (root / "empty").touch()
    (root / "big").write_bytes(os.urandom(3 << 20))
    (root / "café ☕").write_text("utf-8")
    with open(os.fsencode(root) + b"/latin-\xe9", "w") as f:
        f.write("latin-1")
    os.setxattr(root / "big", "user.note", b"\0binary\xff")
    os.setxattr(root / "mail", "user.dir", b"d")
    (root / "noaccess").mkdir()
    (root / "noaccess/f").write_text("x")
    os.chmod(root / "noaccess", 0)
    os.utime(root / "big", ns=(1, 1234567890_123456789))
    os.utime(root / "tmp", ns=(1, 987654321_000000007))
    os.utime(root / "link", ns=(1, 1111111111_111111111), follow_symlinks=False)
    return root


FORMATS = {
    "gnu": ["--format=gnu"],
    "pax": ["--format=posix"],
    "pax-sparse-0.0": ["--format=posix", "--sparse", "--sparse-version=0.0"],
    "pax-sparse-0.1": ["--format=posix", "--sparse", "--sparse-version=0.1"],
    "pax-sparse-1.0": ["--format=posix", "--sparse", "--sparse-version=1.0"],
    "gnu-sparse": ["--format=gnu", "--sparse"],
}


@pytest.mark.parametrize("format", FORMATS)
def test_like_gnu_tar(tree, tmp_path, format):
    archive = tmp_path / "layer.tar"
    xattrs = ["--xattrs", "--xattrs-include=*"] if "pax" in format else []
    subprocess.run(["tar", *FORMATS[format], *xattrs, "-C", tree, "-cf", archive, "."], check=True)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    subprocess.run(["tar", *xattrs, "--numeric-owner", "-pxf", archive, "-C", theirs], check=True)
    digest = "sha256:" + hashlib.sha256(archive.read_bytes()).hexdigest()
    result = unpack(archive, tmp_path / "ours", diff_id=digest)
    same(tmp_path / "ours", theirs, ignore_root=False)
    assert result["diff_id"] == digest
    assert result["implied"] == []
    if "sparse" in format:
        assert os.stat(tmp_path / "ours/sparse").st_blocks * 512 < 1 << 20
        assert os.stat(tmp_path / "ours/holes").st_blocks * 512 < 1 << 20
    if "pax" in format:
        assert os.getxattr(tmp_path / "ours/usr/bin/ping", "security.capability")


@pytest.mark.parametrize("compress", ["gzip -1", "gzip -9", "pigz", "pigz -i", "zstd",
                                      "zstd -9 --long", "cat"])
def test_compressions(tree, tmp_path, compress):
    archive, packed = tmp_path / "layer.tar", tmp_path / "layer.packed"
    subprocess.run(["tar", "--format=posix", "--xattrs", "--xattrs-include=*", "-C", tree, "-cf",
                    archive, "."], check=True)
    with open(archive) as source, open(packed, "wb") as sink:
        subprocess.run(compress.split() + (["-c"] if compress != "cat" else []), stdin=source,
                       stdout=sink, check=True)
    digest = "sha256:" + hashlib.sha256(archive.read_bytes()).hexdigest()
    assert unpack(packed, tmp_path / "a", diff_id=digest)["diff_id"] == digest
    unpack(packed.read_bytes(), tmp_path / "b", diff_id=digest)
    same(tmp_path / "a", tree)
    same(tmp_path / "b", tree)


def test_whiteouts_overlay(tmp_path):
    layer = (Layer().add(".wh.gone").dir("d").add("d/.wh.x").add("d/new")
             .add("opaque/child").add("opaque/.wh..wh..opq")
             # whiteouts hide the lower thing only, before or after
             .add(".wh.file1").add("file1", content=b"1").add("file2", content=b"2").add(".wh.file2")
             .add(".wh.dir1").add("dir1/f").add("dir2/f").add(".wh.dir2")
             .add(".wh.dir3").dir("dir3")
             .add(".wh..wh.plnk/123.456").add(".wh..wh.aufs").dir(".wh..wh.orph"))
    out = tmp_path / "out"
    result = unpack(layer.data(), out)

    def is_whiteout(path):
        st = os.lstat(out / path)
        return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0

    def is_opaque(path):
        return "trusted.overlay.opaque" in os.listxattr(out / path) and \
            os.getxattr(out / path, "trusted.overlay.opaque") == b"y"
    assert is_whiteout("gone") and is_whiteout("d/x")
    assert not is_opaque("d") and is_opaque("opaque")
    assert (out / "file1").read_bytes() == b"1" and (out / "file2").read_bytes() == b"2"
    assert all(map(is_opaque, ["dir1", "dir2", "dir3"]))
    assert sorted(os.listdir(out)) == ["d", "dir1", "dir2", "dir3", "file1", "file2", "gone",
                                       "opaque"]
    assert sorted(result["implied"]) == [".", "opaque"]


def test_whiteouts_like_overlay_mount(tmp_path):
    """The same layers through overlayfs and through deletion show the same tree."""
    lower = (Layer().dir("./").dir("keep").add("keep/a", content=b"a").add("keep/b")
             .dir("opq").add("opq/x").dir("opq/sub").add("opq/sub/y").add("opq/sub/z")
             .dir("gone").add("gone/deep/er/f").add("file").add("dirtofile/f").add("filetodir")
             .dir("restored").add("restored/old").symlink("s", "keep"))
    upper = (Layer().dir("./").add("keep/.wh.b").add("opq/sub/z", content=b"new").dir("opq/sub")
             .dir("opq").add("opq/.wh..wh..opq").add(".wh.gone").add("file", content=b"2")
             .add("dirtofile").dir("filetodir").add("filetodir/f").add(".wh.restored")
             .dir("restored").add("restored/new").add(".wh.nonexistent").add(".wh.s"))
    a, b, native = tmp_path / "a", tmp_path / "b", tmp_path / "native"
    lower, upper = lower.data(), upper.data()
    unpack(lower, a)
    unpack(upper, b)
    unpack(lower, native, whiteouts="delete")
    unpack(upper, native, whiteouts="delete")
    merged = tmp_path / "merged"
    merged.mkdir()
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"ro,lowerdir={b}:{a}", merged],
                   check=True)
    try:
        ours, theirs = describe(native), describe(merged)
    finally:
        subprocess.run(["umount", merged], check=True)
    # The implied "gone/deep" of the lower layer has the time of its making.
    assert ours.keys() == theirs.keys()
    for name in theirs:
        if name not in (b"keep",):
            assert ours[name] == theirs[name], name
    assert sorted(os.listdir(native)) == ["dirtofile", "file", "filetodir", "keep", "opq",
                                          "restored"]
    assert os.listdir(native / "restored") == ["new"]
    assert os.stat(native / "keep").st_mtime == 1000000000


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "a/.wh..", "a/.wh..."])
def test_invalid_whiteouts(tmp_path, name):
    with pytest.raises(WorkerError, match="invalid whiteout") as e:
        unpack(Layer().add(name).data(), tmp_path / "out")
    assert e.value.code == CODES["INVALID_ARGUMENT"]


def test_order_and_obstacles(tmp_path):
    layer = (Layer().add("twice", content=b"first").add("twice", content=b"second")
             .dir("d", mode=0o700).add("d/f").dir("d", mode=0o750, uid=5)
             .add("was-dir/f").add("was-dir", content=b"file now")
             .add("was-file").dir("was-file").add("was-file/f")
             .symlink("was-link", "/etc").dir("was-link").add("was-link/f")
             .add("blocked").add("blocked/child")
             .add("h1", content=b"x").link("h2", "h1").link("h1", "h1").link("h2", "h1")
             .add("deep/er/still", content=b"y").link("up", "./deep/../deep/er//still"))
    out = tmp_path / "out"
    result = unpack(layer.data(), out)
    assert (out / "twice").read_bytes() == b"second"
    st = os.stat(out / "d")
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_mtime) == (0o750, 5, 1000000000)
    assert (out / "d/f").exists() and (out / "was-dir").read_bytes() == b"file now"
    for d in ("was-file", "was-link"):
        assert not (out / d).is_symlink() and os.listdir(out / d) == ["f"]
    assert os.listdir(out / "blocked") == ["child"]
    assert os.stat(out / "h1").st_nlink == 2 and os.path.samefile(out / "h1", out / "h2")
    assert os.path.samefile(out / "up", out / "deep/er/still")
    assert sorted(result["implied"]) == [".", "blocked", "deep", "deep/er"]


def test_symlinked_parents(tmp_path):
    layer = (Layer().dir("usr/lib").symlink("lib", "usr/lib").add("lib/a")
             .symlink("abs", "/usr").add("abs/lib/b").symlink("usr/back", "../usr/lib/../../abs")
             .add("usr/back/lib/c").symlink("dangling", "made/here").add("dangling/d")
             .symlink("up", "../../../../..").add("up/e").dir("lib/sub", mode=0o2755, gid=7)
             .add("lib/sub/f").link("hard", "lib/a"))
    out = tmp_path / "out"
    unpack(layer.data(), out)
    assert sorted(os.listdir(out / "usr/lib")) == ["a", "b", "c", "sub"]
    assert os.listdir(out / "made/here") == ["d"]
    assert (out / "e").exists() and (out / "lib").is_symlink()
    assert os.stat(out / "usr/lib/sub/f").st_gid == 0
    assert stat.S_IMODE(os.stat(out / "usr/lib/sub").st_mode) == 0o2755
    assert os.path.samefile(out / "hard", out / "usr/lib/a")


def test_implied_and_times(tmp_path):
    layer = Layer().add("a/b/f").dir("a", mtime=5).dir("./", mode=0o711, mtime=7)
    layer.add(b"x\xe9y/f".decode(errors="surrogateescape"))
    out = tmp_path / "out"
    result = unpack(layer.data(), out)
    assert sorted(map(os.fsencode, result["implied"])) == [b"a/b", b"x\xe9y"]
    assert os.stat(out / "a").st_mtime == 5 and os.stat(out).st_mtime == 7
    assert stat.S_IMODE(os.stat(out).st_mode) == 0o711
    assert stat.S_IMODE(os.stat(out / "a/b").st_mode) == 0o755


def test_attributes(tmp_path):
    layer = (Layer()
             .add("caps", uid=5, mode=0o4755, pax_headers={
                 "SCHILY.xattr.security.capability":
                 "\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                 "SCHILY.xattr.trusted.overlay.redirect": "/etc",
                 "SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.user.ok": "1"})
             .dir("d", pax_headers={"SCHILY.xattr.trusted.overlay.opaque": "y"})
             .add("frac", pax_headers={"mtime": "1700000000.987654321"})
             .add("big-owner", uid=2147483647, gid=2147483647)
             .add("zero", tarfile.CHRTYPE, devmajor=0, devminor=0)
             .add("tty", tarfile.CHRTYPE, devmajor=4, devminor=1, mode=0o620, gid=5))
    out = tmp_path / "out"
    unpack(layer.data(), out)
    assert sorted(os.listxattr(out / "caps")) == ["security.capability", "user.ok"]
    assert stat.S_IMODE(os.stat(out / "caps").st_mode) == 0o4755
    assert os.listxattr(out / "d") == []
    assert os.stat(out / "frac").st_mtime_ns == 1700000000_987654321
    assert os.stat(out / "big-owner").st_uid == 2147483647
    assert not os.path.lexists(out / "zero")
    assert os.stat(out / "tty").st_rdev == os.makedev(4, 1)


def test_hard_link_to_lower_layer(tmp_path):
    lower = tmp_path / "lower"
    (lower / "bin").mkdir(parents=True)
    (lower / "bin/tool").write_bytes(b"tool" * 1000)
    os.chmod(lower / "bin/tool", 0o4711)
    os.chown(lower / "bin/tool", 3, 4)
    os.setxattr(lower / "bin/tool", "user.a", b"b")
    (lower / "sbin").symlink_to("/bin")
    layer = Layer().link("one", "sbin/tool").link("dir/two", "sbin/tool").data()
    with pytest.raises(WorkerError, match="needs parent") as e:
        unpack(layer, tmp_path / "no")
    assert e.value.code == CODES["FAILED_PRECONDITION"]
    out = tmp_path / "out"
    unpack(layer, out, lower=lower)
    assert os.path.samefile(out / "one", out / "dir/two")
    ours, theirs = describe(out)[b"one"], describe(lower)[b"bin/tool"]
    assert {**ours, "links": 0} == {**theirs, "links": 0}
    for bad in ("nothing", "../../../../etc/passwd", "bin"):
        with pytest.raises(WorkerError, match="hard link"):
            unpack(Layer().link("x", bad).data(), tmp_path / "bad", lower=lower)


def hostile():
    pid = "kistl-escape"
    yield "dotdot", Layer().add(f"../{pid}").add(f"a/../../../{pid}2")
    yield "absolute", Layer().add(f"/{pid}").add(f"//..//{pid}2")
    yield "symlink-write-through", Layer().symlink("x", f"../{pid}").add("x", content=b"1")
    yield "symlink-parent", Layer().symlink("x", "../..").add(f"x/{pid}")
    yield "symlink-absolute-parent", Layer().symlink("x", "/tmp").add(f"x/{pid}")
    yield "symlink-chain", (Layer().symlink("a", "..").symlink("b", "a/..").symlink("c", "b/..")
                            .add(f"c/{pid}"))
    yield "swap-dir-for-symlink", (Layer().dir("d").add("d/f").add("d/.wh.f").symlink("d", "..")
                                   .dir(f"d/{pid}", mode=0o700, mtime=1))
    yield "late-dir-through-symlink", (Layer().dir("d").dir("d/victim", mtime=1)
                                       .symlink("d", ".."))
    yield "hardlink-symlink", Layer().symlink("s", "../victim").link("h", "s").add("h")
    yield "opaque-through-symlink", Layer().symlink("s", "..").add("s/.wh..wh..opq")
    yield "whiteout-through-symlink", Layer().symlink("s", "..").add("s/.wh.victim")
    yield "chmod-through-symlink", Layer().symlink("s", "../victim").dir("s", mode=0o777)


@pytest.mark.parametrize("whiteouts", ["overlay", "delete"])
@pytest.mark.parametrize("name,layer", hostile(), ids=lambda x: x if isinstance(x, str) else "")
def test_nothing_outside(tmp_path, name, layer, whiteouts):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    os.utime(outside / "victim", (9, 9))
    os.utime(outside, (9, 9))
    out = outside / "layer"
    out.mkdir()
    os.utime(outside, (9, 9))
    before = describe(outside, ignore_root=False)
    data = layer.file.getvalue() if layer.tar.closed else layer.data()
    try:
        unpack(data, out, whiteouts=whiteouts)
    except WorkerError as e:
        assert e.code == CODES["INVALID_ARGUMENT"], e
    after = {k: v for k, v in describe(outside, ignore_root=False).items()
             if k.split(b"/")[0] != b"layer"}
    del before[b"layer"]
    assert after == before
    assert not os.path.lexists("/tmp/kistl-escape") and not os.path.lexists("/kistl-escape")


def raw_header(name, size_field, typeflag=b"0"):
    h = bytearray(512)
    h[:len(name)] = name
    h[100:108] = h[108:116] = h[116:124] = b"0000644\0"
    h[124:136] = size_field
    h[136:148] = b"00000000000\0"
    h[156:157] = typeflag
    h[257:265] = b"ustar\x0000"
    h[148:156] = b"        "
    h[148:156] = b"%06o\0 " % sum(h)
    return bytes(h)


BAD = {
    "no tar": (b"hello" * 1000, "INVALID_ARGUMENT", "checksum"),
    "negative size": (raw_header(b"f", b"\xff" * 12), "INVALID_ARGUMENT", "size"),
    "huge size": (raw_header(b"f", b"\x80" + b"\x7f" * 11), "INVALID_ARGUMENT", "size"),
    "8 EiB": (raw_header(b"f", b"\x80\0\0\0\x70" + b"\0" * 7) + b"x" * 512, "DATA_LOSS",
              "truncated in or after 'f'"),
    "pax bomb": (raw_header(b"x", b"77777777777\0", b"x") + b"x" * 4096, "INVALID_ARGUMENT",
                 "extended header"),
    "truncated": (Layer().add("file", content=b"x" * 5000).data()[:3000], "DATA_LOSS",
                  "truncated in or after 'file'"),
    "truncated gzip": (gzip.compress(Layer().add("f", content=os.urandom(5000)).data())[:3000],
                       "DATA_LOSS", "gzip stream is truncated"),
    "gzip garbage": (gzip.compress(Layer().add("f").data()) + b"garbage", "DATA_LOSS", "gzip"),
    "root symlink": (Layer().symlink("./", "/etc").data(), "INVALID_ARGUMENT", "root"),
    "root file": (Layer().add(".", content=b"x").data(), "INVALID_ARGUMENT", "root"),
    "root whiteout target": (Layer().link("..", "x").data(), "INVALID_ARGUMENT", "root"),
    "symlink loop": (Layer().symlink("a", "b").symlink("b", "a").add("a/f").data(), None, "a/f"),
    "long": (Layer().add("d/" * 1500 + "f").data(), "INVALID_ARGUMENT", "too deep"),
    "long component": (Layer().add("n" * 300).data(), None, "n" * 300),
    "socket": (raw_header(b"s", b"00000000000\0", b"s") + bytes(1024), "INVALID_ARGUMENT",
               "unknown type"),
    "link to directory": (Layer().dir("d").link("l", "d").data(), "INVALID_ARGUMENT", "linked"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(tmp_path, name):
    data, code, text = BAD[name]
    with pytest.raises(WorkerError, match=text) as e:
        unpack(data, tmp_path / "out")
    if code:
        assert e.value.code == CODES[code]


def test_corrupt_gzip(tmp_path):
    data = bytearray(gzip.compress(Layer().add("f", content=os.urandom(100000)).data()))
    data[50000] ^= 0x55
    with pytest.raises(WorkerError) as e:
        unpack(bytes(data), tmp_path / "out")
    assert e.value.code in (CODES["DATA_LOSS"], CODES["INVALID_ARGUMENT"])


def test_wrong_diff_id(tmp_path):
    data = Layer().add("f").data()
    right = "sha256:" + hashlib.sha256(data).hexdigest()
    wrong = "sha256:" + "0" * 64
    with pytest.raises(WorkerError, match=right) as e:
        unpack(data, tmp_path / "out", diff_id=wrong)
    assert e.value.code == CODES["FAILED_PRECONDITION"] and wrong in e.value.message
    # Bytes after the end mark count.
    data += b"trailing" * 1000
    right = "sha256:" + hashlib.sha256(data).hexdigest()
    assert unpack(data, tmp_path / "out2", diff_id=right)["diff_id"] == right


def test_limits(tmp_path):
    with pytest.raises(WorkerError, match="limit of 10000 bytes") as e:
        unpack(gzip.compress(Layer().add("f", content=bytes(1 << 20)).data()), tmp_path / "a",
               max_bytes=10000)
    assert e.value.code == CODES["RESOURCE_EXHAUSTED"]
    with pytest.raises(WorkerError, match="more than 3 entries") as e:
        unpack(Layer().add("1").add("2").add("3").add("4").data(), tmp_path / "b", max_entries=3)
    assert e.value.code == CODES["RESOURCE_EXHAUSTED"]


def test_full_disk(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        with pytest.raises(WorkerError, match="write 'dir/big'.*No space left") as e:
            unpack(Layer().add("dir/big", content=bytes(4 << 20)).data(), small / "out")
        assert e.value.code == CODES["RESOURCE_EXHAUSTED"]
    finally:
        subprocess.run(["umount", small], check=True)


def test_ends_with_its_socket(tmp_path):
    (tmp_path / "out").mkdir()
    reader, writer = os.pipe()
    directory = os.open(tmp_path / "out", os.O_RDONLY)
    w = Worker("unpack")
    w.send({"op": "unpack", "media_type": GZIP, "diff_id": "", "whiteouts": "overlay"},
           [reader, directory])
    os.close(reader)
    os.close(directory)
    os.write(writer, b"x")  # and no more: the worker waits
    w.sock.close()
    assert w.process.wait(timeout=5) == 1
    os.close(writer)


@pytest.mark.skipif(not shutil.which("umoci"), reason="no umoci")
def test_like_umoci(tree, tmp_path):
    layers = []
    for n in range(3):
        archive = tmp_path / f"{n}.tar"
        if n == 0:
            subprocess.run(["tar", "--format=posix", "--xattrs", "--xattrs-include=*", "-C", tree,
                            "-cf", archive, "."], check=True)
        elif n == 1:
            archive.write_bytes(Layer().dir("./").add(".wh.link").add("usr/bin/.wh..wh..opq")
                                .add("usr/bin/only", content=b"x", mode=0o4755).dir("usr/bin")
                                .add("mail/.wh.inbox").link("onlylink", "usr/bin/only").data())
        else:
            archive.write_bytes(Layer().dir("mail", mode=0o711).add("mail/outbox").add(".wh.big")
                                .dir("big").add("big/f").symlink("tmp", "/big").data())
        layers.append(archive)
    image = tmp_path / "image"
    subprocess.run(["umoci", "init", "--layout", image], check=True)
    subprocess.run(["umoci", "new", "--image", f"{image}:t"], check=True)
    for archive in layers:
        subprocess.run(["umoci", "raw", "add-layer", "--image", f"{image}:t", archive], check=True)
    theirs = tmp_path / "theirs"
    subprocess.run(["umoci", "raw", "unpack", "--image", f"{image}:t", theirs], check=True)
    ours = tmp_path / "ours"
    for archive in layers:
        unpack(archive, ours, whiteouts="delete")
    # umoci leaves the times of merely written-in directories as they come.
    ours, theirs = describe(ours), describe(theirs)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        a, b = dict(ours[name]), dict(theirs[name])
        if stat.S_ISDIR(int(b["mode"], 8)):
            a.pop("mtime"), b.pop("mtime")
        b["xattrs"] = {k: v for k, v in b["xattrs"].items() if not k.startswith("user.umoci")}
        assert a == b, name
