# SPDX-License-Identifier: Apache-2.0
"""kistl's commands that move files and make images: cp, diff, commit, export, import; compose; and completion."""

import io
import os
import pathlib
import shutil
import subprocess
import tarfile

import pytest

from harness import TOP, program


@pytest.fixture
def box(kistl):
    kistl("create", "--name", "box", "busybox", "sleep", "100")
    return "box"


@pytest.fixture
def tree(tmp_path):
    """A directory with all that a copy must keep."""
    d = tmp_path / "src"
    (d / "sub").mkdir(parents=True)
    (d / "file").write_text("hello")
    (d / "file").chmod(0o4751)
    (d / "sub/deep").write_text("deep")
    (d / "link").symlink_to("file")
    (d / ("n" * 200)).write_text("long")
    os.utime(d / "file", (1600000000, 1600000000))
    return d


def listing(path):
    return sorted(str(p.relative_to(path)) for p in pathlib.Path(path).rglob("*"))


def test_cp_there_and_back(kistl, box, tree, tmp_path):
    kistl("cp", tree, "box:/tmp")
    kistl("cp", f"{tree}/.", "box:/root")
    kistl("cp", tree, "box:/new")
    kistl("cp", tree / "file", "box:/tmp/renamed")
    changed = kistl.lines("diff", box)
    for path in ("A /tmp/src/file", "A /root/sub/deep", "A /new/link", "A /tmp/renamed", "C /tmp"):
        assert path in changed
    out = tmp_path / "out"
    out.mkdir()
    kistl("cp", "box:/tmp/src", out)
    assert listing(out / "src") == listing(tree)
    st = (out / "src/file").stat()
    assert (st.st_mode & 0o7777, st.st_mtime, st.st_uid) == (0o4751, 1600000000, os.getuid())
    assert os.readlink(out / "src/link") == "file"
    kistl("cp", "box:/new", tmp_path / "named")
    assert listing(tmp_path / "named") == listing(tree)
    kistl("cp", "box:/new/.", tmp_path / "named2")
    assert listing(tmp_path / "named2") == listing(tree)
    kistl("cp", "box:new/link", out / "as-link")
    kistl("cp", "-L", "box:new/link", out / "as-file")
    assert (out / "as-link").is_symlink() and (out / "as-file").read_text() == "hello"
    kistl("start", box)
    kistl("cp", "-L", tree / "link", "box:/followed")
    assert kistl("exec", box, "cat", "/followed") == "hello"


def test_cp_streams(kistl, box, tree, tmp_path):
    archive = subprocess.run(["tar", "-C", tree, "-cf", "-", "."], capture_output=True, check=True).stdout
    kistl("cp", "-", "box:/root", input=archive)
    shown = subprocess.run([*kistl.argv, "cp", "box:/root", "-"], env=kistl.env, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(shown)) as tar:
        assert {"root", "root/file", "root/sub/deep"} <= {m.name for m in tar}
    assert "must be a directory" in kistl("cp", "-", "box:/etc/passwd", input=archive, code=1).err


def test_cp_owners(kistl, box, tree):
    """-a gives files to the container's user, when it has one, as with Docker."""
    os.chown(tree / "file", 1234, 2345)
    kistl("create", "--name", "other", "-u", "33:10", "busybox", "sleep", "100")
    for name, owner in (("box", "1234:2345"), ("other", "33:10")):
        kistl("start", name)
        kistl("cp", tree / "file", f"{name}:/plain")
        kistl("cp", "-a", tree / "file", f"{name}:/tmp/own")
        assert kistl("exec", name, "stat", "-c", "%u:%g", "/plain", "/tmp/own").split() == ["1234:2345", owner]


def test_cp_is_not_led_outside(kistl, tmp_path):
    """A container's links lead to the container's files only."""
    (tmp_path / "victim").mkdir()
    kistl("run", "--name", "evil", "busybox", "sh", "-c",
          f"mkdir /d; ln -s {tmp_path}/victim /d/out; ln -s /etc/passwd /d/p; echo x > /d/f")
    kistl("cp", "evil:/d", tmp_path / "got")
    assert os.readlink(tmp_path / "got/out") == f"{tmp_path}/victim"
    # A second copy does not write through the links of the first.
    kistl("cp", "evil:/d/f", tmp_path / "got/out")
    assert listing(tmp_path / "victim") == ["f"]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, kind, target in (("x", tarfile.SYMTYPE, str(tmp_path)), ("x/escaped", tarfile.REGTYPE, "")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    kistl("cp", "-", "evil:/d", input=stream.getvalue(), code=None)
    assert not (tmp_path / "escaped").exists()


CP_FAILURES = [
    (["box:/nosuch", "/tmp/x"], "nosuch"), (["box:/etc", "/etc/passwd"], "cannot copy directory"),
    (["/nosuch", "box:/x"], "lstat /nosuch"), (["/etc/passwd", "box:/nosuch/x"], "nosuch"),
    (["/etc", "box:/etc/passwd"], "cannot copy directory"), (["a", "b"], "must specify at least one container source"),
    (["box:/a", "box:/b"], "copying between containers is not supported"),
    (["box:/etc/passwd", "/nosuch/x"], 'directory "/nosuch" does not exist'),
    (["nosuch:/x", "/tmp/"], "No such container: nosuch"), (["box:/etc/passwd", "/tmp/nosuch/"], "no such directory"),
    (["", "box:/"], "source can not be empty"),
]


def test_cp_failures(kistl, box):
    for args, words in CP_FAILURES:
        assert words in kistl("cp", *args, code=1).err, args


def test_commit_export_import(kistl, box, tmp_path):
    kistl("run", "--name", "changed", "busybox", "sh", "-c", "echo new > /new; rm /etc/group")
    assert kistl.lines("diff", "changed") == ["C /etc", "D /etc/group", "A /new"]
    image = kistl("commit", "-a", "me", "-m", "why", "-c", "ENV X=1", "-c", 'CMD ["cat", "/new"]', "changed", "made:1").strip()
    assert kistl.inspect("made:1")["Id"] == image
    assert kistl("run", "--rm", "made:1") == "new\n"
    assert kistl("run", "--rm", "made:1", "sh", "-c", "echo $X; ls /etc/group", code=1) == "1\n"
    kistl("export", "-o", tmp_path / "x.tar", "changed")
    with tarfile.open(tmp_path / "x.tar") as tar:
        names = tar.getnames()
    assert "new" in names and "etc/group" not in names
    kistl("import", "-c", 'CMD ["cat", "/new"]', tmp_path / "x.tar", "imported:1")
    assert kistl("run", "--rm", "imported:1") == "new\n"
    kistl("import", "-", "imported:2", input=(tmp_path / "x.tar").read_bytes())
    assert kistl("history", "-q", "imported:2").count("\n") == 1
    kistl("rm", "changed")
    kistl("rmi", "made:1", "imported:1", "imported:2")
    assert "No such container" in kistl("commit", "nosuch", code=1).err
    assert "No such container" in kistl("export", "nosuch", code=1).err


def test_builder_prune(kistl):
    assert kistl("builder", "prune", "-f") == "Total:\t0B\n"


def test_namespaces_are_apart(kistl, box):
    assert kistl.lines("--namespace", "k8s.io", "ps", "-aq") == []
    assert kistl.lines("ps", "-a", "--format", "{{.Names}}", env={"KISTL_NAMESPACE": "default"}) == ["box"]
    assert "invalid namespace" in kistl("--namespace", "a b", "ps", code=1).err


def test_docker_host(kistl, daemon, box):
    """Where docker's variable is set, kistl goes there, too; its own wins."""
    env = {k: v for k, v in kistl.env.items() if not k.startswith("KISTL_")}
    r = subprocess.run([program("kistl"), "ps", "-aq"], env={**env, "DOCKER_HOST": daemon.host}, capture_output=True)
    assert r.returncode == 0 and len(r.stdout.split()) == 1
    r = subprocess.run([program("kistl"), "ps"], env={**env, "DOCKER_HOST": "unix:///nosuch/sock"}, capture_output=True)
    assert r.returncode == 1 and b"/nosuch/sock" in r.stderr


def test_compose_runs_what_is_installed(kistl, daemon, tmp_path):
    plugin = tmp_path / "cli-plugins/docker-compose"
    plugin.parent.mkdir()
    plugin.write_text('#!/bin/sh\necho "$DOCKER_HOST" "$@"\nexit 7\n')
    plugin.chmod(0o755)
    out = kistl("compose", "--file", "x", "up", "-d", env={"DOCKER_CONFIG": str(tmp_path)}, code=7)
    assert out == f"{daemon.host} --file x up -d\n"


# ---- completion ----

WORDS = [
    (["sta"], ["start", "stats"]), (["container", "c"], ["commit", "cp", "create"]), (["stop", "b"], []),
    (["start", "b"], ["box"]), (["cp", "b"], ["box:"]), (["rmi", "busy"], ["busybox:latest"]),
    (["network", "rm", "br"], ["bridge"]), (["volume", "rm", "vo"], ["vol"]), (["run", "--network", "no"], ["none"]),
    (["run", "-v", "vo"], ["vol"]), (["run", "busybox", "x"], []), (["ps", "--no"], ["--no-trunc"]),
    (["build"], ["builder"]), (["builder", ""], ["prune"]),
]


def test_complete(kistl, box, daemon):
    kistl("volume", "create", "vol")
    for words, found in WORDS:
        assert sorted(kistl.lines("__complete", *words)) == found, words
    assert kistl.lines("__complete", "-H", "unix:///nosuch", "start", "b") == []
    assert kistl.lines("__complete", "-H", daemon.host, "start", "b", env={"KISTL_HOST": ""}) == ["box"]


def test_bash_completion(kistl, box):
    """The stub, driven as readline drives it."""
    script = (f"source {TOP}/completions/kistl.bash; compopt() {{ :; }}; COMP_WORDS=({kistl.argv[0]} start b) "
              'COMP_CWORD=2 COMP_LINE="kistl start b"; _kistl; echo "${COMPREPLY[@]}"')
    r = subprocess.run(["bash", "-c", script], env=kistl.env, capture_output=True, text=True)
    assert r.stdout == "box\n", r.stderr


@pytest.mark.parametrize("shell,option", [("zsh", "-n"), ("fish", "--no-execute")])
def test_other_shells_accept_their_stub(shell, option):
    if shutil.which(shell):
        subprocess.run([shell, option, f"{TOP}/completions/kistl.{shell}"], check=True)
